//! A record together with what belongs to it, read from the canonical store.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::model::{
    Cell, Entity, EntityName, FieldRef, Mapped, Presence, RecordId, RecordKey, Reference, Row, Value,
};
use crate::store::{SnapshotItem, Store};

use super::{Engine, EngineError};

impl Engine {
    /// A record as an object: its key and fields by name, and for each entity that refers to it a list of the records that do,
    /// in the order of their keys, under the entity's name. Where such a record refers to others besides, each stands in it under
    /// its entity's name. Records in which the field `private` is true are left out. None: the canonical store has no such record.
    ///
    /// # Errors
    /// When the canonical store cannot be read whole, or the record itself is private.
    pub async fn related(&self, record: &RecordId, private: &str) -> Result<Option<Json>, EngineError> {
        let entity = self
            .spec
            .entity(&record.entity)
            .ok_or_else(|| EngineError::new(format!("there is no entity `{}`", record.entity)))?;
        let store = self.canonical_store()?;
        let mapped = self.in_canonical(&entity.name)?;
        let mut found = rows(store, &mapped, std::slice::from_ref(&record.key)).await?;
        let Some(row) = found.remove(&record.key) else { return Ok(None) };
        if is_private(entity, &row, private) {
            return Err(EngineError::new(format!("{record} is marked private"))
                .hint(format!("private records are shown to nobody: set its `{private}` to false")));
        }
        let mut object = object(entity, &row);
        for child in self.spec.entities.iter().filter(|child| !child.system && child.name != entity.name) {
            let refers = child.references.iter().filter(|reference| reference.to == entity.name);
            let refers: Vec<&Reference> = refers.collect();
            if !refers.is_empty() {
                let list = self.referring(store, child, &refers, &record.key, private).await?;
                object.insert(child.name.to_string(), Json::Array(list));
            }
        }
        Ok(Some(Json::Object(object)))
    }

    pub(super) fn canonical_store(&self) -> Result<&dyn Store, EngineError> {
        let name = &self.spec.canonical;
        let opened =
            self.stores.get(name).ok_or_else(|| EngineError::new(format!("there is no store `{name}`")))?;
        opened.as_ref().map(AsRef::as_ref).map_err(|error| EngineError::from(error.clone()))
    }

    pub(super) fn in_canonical(&self, name: &EntityName) -> Result<Mapped, EngineError> {
        self.spec
            .mapped(name, &self.spec.canonical)
            .ok_or_else(|| EngineError::new(format!("`{name}` is not mapped in the canonical store")))
    }

    /// The records of a child entity that refer to a record. They are looked for in a stream of all of them: memory does not
    /// grow with the table.
    async fn referring(
        &self,
        store: &dyn Store,
        child: &Entity,
        refers: &[&Reference],
        key: &RecordKey,
        private: &str,
    ) -> Result<Vec<Json>, EngineError> {
        let mapped = self.in_canonical(&child.name)?;
        let mut children: Vec<Row> = Vec::new();
        let mut stream = store.snapshot(mapped).await?;
        let mut whole = false;
        while let Some(item) = stream.recv().await {
            match item? {
                SnapshotItem::Rows(rows) => {
                    for row in rows.into_iter().map(crate::store::LazyRow::into_row) {
                        let theirs = refers.iter().any(|reference| points_to(&row, reference.from, key));
                        if theirs && !is_private(child, &row, private) {
                            children.push(row);
                        }
                    }
                }
                SnapshotItem::End(certificate) => whole = certificate.is_whole(),
                // What has no key of its own yet belongs to nobody.
                SnapshotItem::Strays(_) => {}
            }
        }
        if !whole {
            return Err(EngineError::new(format!(
                "`{}` could not be read whole from the store `{}`",
                child.name, self.spec.canonical
            ))
            .hint("try again"));
        }
        let mut objects: Vec<Map<String, Json>> = children.iter().map(|row| object(child, row)).collect();
        let others = child.references.iter().filter(|other| !refers.iter().any(|one| one.to == other.to));
        for other in others.filter(|other| other.to != child.name) {
            self.insert_referred(store, other, &children, &mut objects, private).await?;
        }
        Ok(objects.into_iter().map(Json::Object).collect())
    }

    /// Puts into each child the record of another entity that it refers to.
    async fn insert_referred(
        &self,
        store: &dyn Store,
        other: &Reference,
        children: &[Row],
        objects: &mut [Map<String, Json>],
        private: &str,
    ) -> Result<(), EngineError> {
        let mapped = self.in_canonical(&other.to)?;
        let keys: BTreeSet<RecordKey> = children
            .iter()
            .filter_map(|row| referred(row, other.from))
            .map(|key| RecordKey::new(vec![key]))
            .collect();
        let keys: Vec<RecordKey> = keys.into_iter().collect();
        let found = rows(store, &mapped, &keys).await?;
        for (child, into) in children.iter().zip(objects) {
            let key = referred(child, other.from).map(|key| RecordKey::new(vec![key]));
            let row = key.and_then(|key| found.get(&key));
            if let Some(row) = row.filter(|row| !is_private(&mapped.entity, row, private)) {
                into.insert(other.to.to_string(), Json::Object(object(&mapped.entity, row)));
            }
        }
        Ok(())
    }
}

/// The rows of these keys that are there.
pub(super) async fn rows(
    store: &dyn Store,
    mapped: &Mapped,
    keys: &[RecordKey],
) -> Result<BTreeMap<RecordKey, Row>, EngineError> {
    if keys.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut found = BTreeMap::new();
    for (key, presence) in store.read(mapped, keys).await? {
        match presence {
            Presence::Present(row) => {
                found.insert(key, row);
            }
            Presence::Absent => {}
            Presence::Unknown(_) => {
                let record = RecordId { entity: mapped.name().clone(), key };
                return Err(EngineError::new(format!("it cannot be told whether the store has {record}"))
                    .hint("see `trueup status`"));
            }
        }
    }
    Ok(found)
}

/// The key that a row refers to by a field, as text.
fn referred(row: &Row, from: FieldRef) -> Option<String> {
    match from {
        FieldRef::Key(part) => row.key.parts().get(part).cloned(),
        FieldRef::Field(id) => row.fields.get(&id)?.value()?.plain_text().map(Cow::into_owned),
    }
}

fn points_to(row: &Row, from: FieldRef, key: &RecordKey) -> bool {
    referred(row, from).is_some_and(|text| key.parts() == [text])
}

/// Whether a record is marked private. What cannot be read counts as marked.
fn is_private(entity: &Entity, row: &Row, private: &str) -> bool {
    let id = entity.field_ids().find(|id| entity.field(*id).name.as_str() == private);
    id.and_then(|id| row.fields.get(&id))
        .is_some_and(|cell| !matches!(cell, Cell::Value(Value::Null | Value::Bool(false))))
}

fn object(entity: &Entity, row: &Row) -> Map<String, Json> {
    let mut object = Map::new();
    for (part, text) in entity.key.iter().zip(row.key.parts()) {
        object.insert(part.name.to_string(), text.as_str().into());
    }
    for id in entity.field_ids() {
        let value = row.fields.get(&id).and_then(Cell::value).map_or(Json::Null, Value::to_plain);
        object.insert(entity.field(id).name.to_string(), value);
    }
    let clocks = [(&entity.times.created, row.created), (&entity.times.updated, row.updated)];
    for (name, time) in clocks {
        if let (Some(name), Some(time)) = (name, time) {
            object.insert(name.to_string(), time.to_string().into());
        }
    }
    object
}
