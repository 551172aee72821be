//! Objects in memory: rows with ids of the store's own, which need not carry a record's key, are related by those ids, and hold elements.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Cell, Certificate, ElementId, EntityName, ErrorKind, FieldName, FieldRef, Fields, Guard, Mapped, Outcome,
    Presence, RecordKey, Row, StoreError, StoreRecordId, Stray, Unknown, Value, Write, WriteOp,
    representable,
};

use super::super::{guard_holds, sync};
use super::db::{MemoryDb, MemorySnapshot, table_name};
use super::faults::Cut;
use super::table::MemoryRow;

/// The objects of one name, by their ids.
pub type MemoryObjects = BTreeMap<StoreRecordId, MemoryObject>;

/// One object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryObject {
    /// The record's key, where the object carries one.
    pub key: Option<RecordKey>,
    /// Its fields, metadata and times.
    pub row: MemoryRow,
    /// What it is related to, by the name of the field or part of the key.
    pub relations: BTreeMap<FieldName, StoreRecordId>,
    /// The elements in it, by their entity and kind, the first one first.
    pub elements: BTreeMap<(EntityName, String), Vec<MemoryElement>>,
}

/// A value inside an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryElement {
    /// The value, as the store keeps it.
    pub value: String,
}

impl MemoryDb {
    /// Puts an object, as another application does.
    pub fn put_object(&mut self, mapped: &Mapped, id: &str, object: MemoryObject) {
        self.objects.entry(table_name(mapped)).or_default().insert(StoreRecordId(id.to_owned()), object);
    }

    /// The objects of an entity.
    pub fn objects(&self, mapped: &Mapped) -> Option<&MemoryObjects> {
        self.objects.get(&table_name(mapped))
    }

    /// The objects of an entity, to change as another application would.
    pub fn objects_mut(&mut self, mapped: &Mapped) -> &mut MemoryObjects {
        self.objects.entry(table_name(mapped)).or_default()
    }

    /// Removes an object, as another application does: what it was related to is so no more.
    pub fn remove_object(&mut self, mapped: &Mapped, id: &StoreRecordId) -> Option<MemoryObject> {
        let removed = self.objects_mut(mapped).remove(id);
        for object in self.objects.values_mut().flat_map(BTreeMap::values_mut) {
            object.relations.retain(|_, related| related != id);
        }
        removed
    }

    pub(super) fn mapped_of(&self, entity: &EntityName) -> Option<Mapped> {
        self.mapped.iter().find(|mapped| mapped.name() == entity).cloned()
    }

    /// The id of the object that carries a key.
    pub(super) fn object_of(&self, entity: &EntityName, key: &RecordKey) -> Option<StoreRecordId> {
        let mapped = self.mapped_of(entity)?;
        let objects = self.objects(&mapped)?;
        objects
            .iter()
            .find(|(id, _)| self.key_of(&mapped, id).as_ref() == Some(key))
            .map(|(id, _)| id.clone())
    }

    /// The key that an object carries, by its relations where those are its key.
    fn key_of(&self, mapped: &Mapped, id: &StoreRecordId) -> Option<RecordKey> {
        let object = self.objects(mapped)?.get(id)?;
        let related = mapped.mapping.key_relations().count();
        if related == 0 {
            return object.key.clone();
        }
        let parts = mapped.mapping.key_relations().map(|(part, target)| {
            let name = &mapped.entity.key.get(part)?.name;
            let target = self.mapped_of(target)?;
            self.key_of(&target, object.relations.get(name)?)?.parts().first().cloned()
        });
        let by_relations = parts.collect::<Option<Vec<String>>>().map(RecordKey::new)?;
        match &mapped.mapping.key_text {
            // Without the text the row does not carry its key.
            Some(_) => object.key.clone().filter(|key| *key == by_relations),
            None => Some(by_relations),
        }
    }

    /// An object as the mapping shows it, with the ids of relations whose key is not known.
    fn show_object(
        &self,
        mapped: &Mapped,
        object: &MemoryObject,
    ) -> (Fields<Cell>, BTreeMap<FieldRef, StoreRecordId>, bool) {
        let mut fields = Fields::new();
        let mut relations = BTreeMap::new();
        let mut told = true;
        for (id, place) in &mapped.mapping.fields {
            let Some(field) = mapped.entity.fields.get(id.index()) else { continue };
            let Some(target) = &place.relation else {
                let cell = object.row.fields.get(&field.name).cloned();
                fields.insert(*id, cell.unwrap_or(Cell::Value(Value::Null)));
                continue;
            };
            let Some(related) = object.relations.get(&field.name) else {
                fields.insert(*id, Cell::Value(Value::Null));
                continue;
            };
            relations.insert(FieldRef::Field(*id), related.clone());
            let key = self.mapped_of(target).and_then(|target| self.key_of(&target, related));
            match key.and_then(|key| key.parts().first().cloned()) {
                Some(text) => drop(fields.insert(*id, Cell::Value(Value::text(text)))),
                None => told = false,
            }
        }
        for (part, _) in mapped.mapping.key_relations() {
            let related = mapped.entity.key.get(part).and_then(|part| object.relations.get(&part.name));
            relations.extend(related.map(|related| (FieldRef::Key(part), related.clone())));
        }
        (fields, relations, told)
    }

    fn object_row(&self, mapped: &Mapped, key: &RecordKey, id: &StoreRecordId, object: &MemoryObject) -> Row {
        let (fields, ..) = self.show_object(mapped, object);
        Row {
            key: key.clone(),
            store_id: Some(id.clone()),
            fields,
            meta: sync::kept(&mapped.mapping.sync, &object.row.meta),
            created: object.row.created.filter(|_| mapped.mapping.created.is_some()),
            updated: object.row.updated.filter(|_| mapped.mapping.updated.is_some()),
            unlinked: false,
        }
    }

    /// All objects of an entity, and the elements in them.
    pub(super) fn snapshot_objects(&self, mapped: &Mapped) -> Result<MemorySnapshot, StoreError> {
        self.reach()?;
        if mapped.mapping.embedded().is_some() {
            return Err(self.error(ErrorKind::Unsupported, "elements come with the objects they stand in"));
        }
        let empty = MemoryObjects::new();
        let objects = self.objects(mapped).unwrap_or(&empty);
        let mut rows: BTreeMap<RecordKey, Row> = BTreeMap::new();
        let mut doubles = BTreeSet::new();
        let mut strays = Vec::new();
        for (id, object) in objects {
            let (fields, relations, told) = self.show_object(mapped, object);
            let key = self.key_of(mapped, id);
            strays.extend(self.elements_of(mapped, id, object));
            let Some(key) = key.clone().filter(|_| told) else {
                strays.push(Stray {
                    entity: mapped.name().clone(),
                    store_id: id.clone(),
                    key,
                    relations,
                    fields,
                    meta: sync::kept(&mapped.mapping.sync, &object.row.meta),
                    created: object.row.created.filter(|_| mapped.mapping.created.is_some()),
                    updated: object.row.updated.filter(|_| mapped.mapping.updated.is_some()),
                });
                continue;
            };
            let row = self.object_row(mapped, &key, id, object);
            if rows.insert(key.clone(), row).is_some() {
                doubles.insert(key);
            }
        }
        rows.retain(|key, _| !doubles.contains(key));
        let all = u64::try_from(objects.len()).unwrap_or(u64::MAX);
        let mut certificate = Certificate {
            rows_claimed: all,
            rows_read: all,
            end_seen: true,
            duplicate_keys: doubles.into_iter().collect(),
            ..Certificate::default()
        };
        let mut rows: Vec<Row> = rows.into_values().collect();
        if let Some((limit, cut)) = self.faults.cut_after.filter(|(limit, _)| *limit < objects.len()) {
            rows.truncate(limit);
            strays.truncate(limit);
            certificate.rows_read = u64::try_from(limit).unwrap_or(u64::MAX);
            match cut {
                Cut::NoEnd => return Ok(MemorySnapshot { rows, strays, certificate: None }),
                Cut::FewerThanClaimed => {}
                Cut::Moved => certificate.moved = true,
            }
        }
        Ok(MemorySnapshot { rows, strays, certificate: Some(certificate) })
    }

    /// The elements of the entities that stand in an object.
    fn elements_of(&self, mapped: &Mapped, id: &StoreRecordId, object: &MemoryObject) -> Vec<Stray> {
        let mut strays = Vec::new();
        let mut seen = BTreeSet::new();
        for child in &self.mapped {
            let Some(embedded) =
                child.mapping.embedded().filter(|embedded| embedded.parent == *mapped.name())
            else {
                continue;
            };
            for kind in embedded.places.keys() {
                let elements = object.elements.get(&(child.name().clone(), kind.clone()));
                for (at, element) in elements.into_iter().flatten().enumerate() {
                    let Some(normal) = embedded.normal(kind, &element.value) else { continue };
                    let place = ElementId { parent: id.clone(), kind: kind.clone(), normal };
                    if seen.insert((child.name().clone(), place.clone())) {
                        strays.push(super::elements::element_stray(child, &place, element, at == 0));
                    }
                }
            }
        }
        strays
    }

    /// Some objects by key.
    pub(super) fn read_objects(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        self.reach()?;
        if mapped.mapping.embedded().is_some() {
            return Err(self.error(ErrorKind::Unsupported, "elements carry no keys to be found by"));
        }
        let empty = MemoryObjects::new();
        let objects = self.objects(mapped).unwrap_or(&empty);
        let look = |key: &RecordKey| {
            let mut found = objects.iter().filter(|(id, _)| self.key_of(mapped, id).as_ref() == Some(key));
            match (found.next(), found.next()) {
                (None, _) => Presence::Absent,
                (Some((id, object)), None) => Presence::Present(self.object_row(mapped, key, id, object)),
                _ => Presence::Unknown(Unknown::DuplicateKey),
            }
        };
        Ok(keys.iter().map(|key| (key.clone(), look(key))).collect())
    }

    pub(super) fn native_objects(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError> {
        self.reach()?;
        let mut found = BTreeMap::new();
        for (id, object) in self.objects(mapped).into_iter().flatten() {
            let Some(key) = self.key_of(mapped, id).filter(|key| keys.contains(key)) else { continue };
            let mut native = object.row.extra.clone();
            for (name, cell) in &object.row.fields {
                let value = cell.value().map_or(serde_json::Value::Null, Value::to_plain);
                native.insert(name.to_string(), value);
            }
            found.insert(key, serde_json::Value::Object(native));
        }
        Ok(found)
    }

    /// Writes one object.
    pub(super) fn apply_object(&mut self, mapped: &Mapped, write: &Write) -> Outcome {
        let by_key = self.object_of(mapped.name(), &write.key);
        let id = match &write.op {
            WriteOp::Create { .. } => {
                // The id follows from the record, so that a second try makes the same object.
                let id = StoreRecordId::chosen(self.name(), mapped.name(), &write.key);
                if by_key.is_some() || self.objects_mut(mapped).contains_key(&id) {
                    return Outcome::Moved;
                }
                id
            }
            WriteOp::Update { .. } | WriteOp::Delete { .. } => {
                let Some(id) = write.store_id.clone().or(by_key.clone()) else { return Outcome::Moved };
                id
            }
        };
        let before = self.objects_mut(mapped).get(&id).cloned();
        match (&write.op, before) {
            (WriteOp::Create { fields, meta, created, updated }, _) => {
                let mut object = MemoryObject::default();
                object.row.meta = sync::kept(&mapped.mapping.sync, meta);
                object.row.created = created.filter(|_| mapped.mapping.created.is_some());
                object.row.updated = updated.filter(|_| mapped.mapping.updated.is_some());
                self.put_into(mapped, write, &id, object, fields, true)
            }
            (WriteOp::Update { fields, meta, updated, guard }, Some(mut object)) => {
                let carried = self.key_of(mapped, &id);
                let suits = if write.link { carried.is_none() } else { carried.as_ref() == Some(&write.key) };
                if !suits || !self.object_guard(mapped, write, &id, &object, guard) {
                    return Outcome::Moved;
                }
                if by_key.is_some_and(|other| other != id) {
                    return Outcome::Refused(
                        self.error(ErrorKind::Conflict, format!("another object has the key {}", write.key)),
                    );
                }
                if let Some(meta) = meta {
                    object.row.meta = sync::kept(&mapped.mapping.sync, meta);
                }
                object.row.updated =
                    updated.filter(|_| mapped.mapping.updated.is_some()).or(object.row.updated);
                self.put_into(mapped, write, &id, object, fields, write.link)
            }
            (WriteOp::Delete { guard }, Some(object)) => {
                let carried = self.key_of(mapped, &id);
                let orphan = mapped.mapping.key_relations().count() > 0 && carried.is_none();
                let suits = carried.as_ref() == Some(&write.key) || orphan;
                if !suits || !self.object_guard(mapped, write, &id, &object, guard) {
                    return Outcome::Moved;
                }
                self.remove_object(mapped, &id);
                Outcome::Applied(None)
            }
            _ => Outcome::Moved,
        }
    }

    fn object_guard(
        &self,
        mapped: &Mapped,
        write: &Write,
        id: &StoreRecordId,
        object: &MemoryObject,
        guard: &Guard,
    ) -> bool {
        guard_holds(guard, &self.object_row(mapped, &write.key, id, object))
    }

    /// Puts fields, and the key if asked, into an object; relations by the keys of what they lead to.
    fn put_into(
        &mut self,
        mapped: &Mapped,
        write: &Write,
        id: &StoreRecordId,
        mut object: MemoryObject,
        fields: &Fields<Value>,
        key: bool,
    ) -> Outcome {
        let refused = |db: &Self, kind, message: String| Outcome::Refused(db.error(kind, message));
        let mut relations: Vec<(FieldName, EntityName, Option<RecordKey>)> = Vec::new();
        for (field, value) in fields {
            let (Some(declared), Some(place)) =
                (mapped.entity.fields.get(field.index()), mapped.mapping.fields.get(field))
            else {
                return refused(self, ErrorKind::Invalid, "a field without a place here".to_owned());
            };
            if let Some(target) = &place.relation {
                relations.push((declared.name.clone(), target.clone(), value.to_key()));
                continue;
            }
            match representable(value, declared.ty, place.form, &mapped.mapping.timezone) {
                Ok(held) => drop(object.row.fields.insert(declared.name.clone(), Cell::Value(held))),
                Err(error) => {
                    return refused(self, ErrorKind::Invalid, format!("`{}`: {error}", declared.name));
                }
            }
        }
        if key {
            for (part, target) in mapped.mapping.key_relations() {
                let name = mapped.entity.key.get(part).map(|part| part.name.clone());
                let key = write.key.parts().get(part).map(|text| RecordKey::new(vec![text.clone()]));
                relations.extend(name.map(|name| (name, target.clone(), key)));
            }
            let carries = mapped.mapping.key_relations().count() == 0 || mapped.mapping.key_text.is_some();
            object.key = carries.then(|| write.key.clone());
        }
        for (name, target, key) in relations {
            let Some(key) = key else {
                object.relations.remove(&name);
                continue;
            };
            let Some(related) = self.object_of(&target, &key) else {
                return refused(
                    self,
                    ErrorKind::NotFound,
                    format!("the record of `{target}` that `{name}` leads to is not here"),
                );
            };
            object.relations.insert(name, related);
        }
        self.objects_mut(mapped).insert(id.clone(), object.clone());
        Outcome::Applied(Some(self.object_row(mapped, &write.key, id, &object)))
    }
}
