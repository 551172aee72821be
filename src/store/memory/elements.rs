//! Elements inside objects in memory. Their columns are written whole, so a batch's removals come before what it puts there.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Batch, Cell, ElementId, Embedded, ErrorKind, FieldRef, Fields, IntentId, Mapped, Outcome, RecordKey, Row,
    StoreRecordId, Stray, SyncMeta, Value, Write, WriteOp, normal,
};

use super::super::{check_write, guard_holds};
use super::db::MemoryDb;
use super::objects::MemoryElement;

/// An element about to be put into an object.
struct Put<'a> {
    write: &'a Write,
    /// What it was before, to be put back where it cannot be put.
    before: Option<(ElementId, usize, MemoryElement)>,
    parent: StoreRecordId,
    kind: String,
    value: String,
    first: Option<bool>,
}

impl MemoryDb {
    /// Applies writes to elements.
    pub(super) fn apply_elements(
        &mut self,
        mapped: &Mapped,
        batch: &Batch,
        repeated: &BTreeSet<&RecordKey>,
    ) -> BTreeMap<IntentId, Outcome> {
        let mut outcomes = BTreeMap::new();
        let Some(embedded) = mapped.mapping.embedded().cloned() else { return outcomes };
        let mut puts = Vec::new();
        for write in &batch.writes {
            let address = (mapped.name().clone(), write.key.clone());
            let refused = check_write(self.name(), mapped, write, repeated).err().or_else(|| {
                let refuses = self.faults.refuse.contains(&address);
                refuses.then(|| self.error(ErrorKind::Invalid, format!("refused to write {}", write.key)))
            });
            let outcome = match refused {
                Some(error) => Some(Outcome::Refused(error)),
                None => self.take_out(mapped, &embedded, write, &mut puts),
            };
            outcomes.extend(outcome.map(|outcome| (write.intent.clone(), outcome)));
        }
        for put in puts {
            let intent = put.write.intent.clone();
            let outcome = self.put_in(mapped, &embedded, put);
            outcomes.insert(intent, outcome);
        }
        outcomes
    }

    /// Takes the element of an update or delete out; what has to be put in is noted. None where the outcome is still open.
    fn take_out<'a>(
        &mut self,
        mapped: &Mapped,
        embedded: &Embedded,
        write: &'a Write,
        puts: &mut Vec<Put<'a>>,
    ) -> Option<Outcome> {
        let text = |value: Option<&Value>| value.and_then(Value::as_text).map(str::to_owned);
        if let WriteOp::Create { fields, .. } = &write.op {
            let owner = fields.get(&embedded.reference).and_then(Value::to_key);
            let parent = owner.and_then(|key| self.object_of(&embedded.parent, &key));
            let (Some(parent), Some(kind), Some(value)) =
                (parent, text(fields.get(&embedded.kind)), text(fields.get(&embedded.value)))
            else {
                let message =
                    format!("the record of `{}` that {} is in is not here", embedded.parent, write.key);
                return Some(Outcome::Refused(self.error(ErrorKind::NotFound, message)));
            };
            let first = first_of(embedded, &kind, fields);
            puts.push(Put { write, before: None, parent, kind, value, first });
            return None;
        }
        let Some(id) = write.store_id.as_ref().and_then(ElementId::parse) else {
            return Some(Outcome::Moved);
        };
        let parents = self.mapped_of(&embedded.parent)?;
        let list = (mapped.name().clone(), id.kind.clone());
        let found = self.objects_mut(&parents).get(&id.parent).and_then(|object| {
            let elements = object.elements.get(&list)?;
            let at = elements
                .iter()
                .position(|element| embedded.normal(&id.kind, &element.value).as_ref() == Some(&id.normal))?;
            Some((at, elements.get(at)?.clone(), object.key.clone()))
        });
        let Some((at, element, owner)) = found else { return Some(Outcome::Moved) };
        let (WriteOp::Update { guard, .. } | WriteOp::Delete { guard }) = &write.op else { return None };
        let row = element_row(mapped, write, &id, &element, at == 0, owner.as_ref());
        if !guard_holds(guard, &row) {
            return Some(Outcome::Moved);
        }
        if let Some(elements) =
            self.objects_mut(&parents).get_mut(&id.parent).and_then(|object| object.elements.get_mut(&list))
        {
            elements.remove(at);
        }
        let WriteOp::Update { fields, .. } = &write.op else { return Some(Outcome::Applied(None)) };
        let kind = text(fields.get(&embedded.kind)).unwrap_or_else(|| id.kind.clone());
        let value = text(fields.get(&embedded.value)).unwrap_or_else(|| element.value.clone());
        let owner = fields.get(&embedded.reference).and_then(Value::to_key);
        let parent = match owner {
            Some(key) => self.object_of(&embedded.parent, &key).unwrap_or_else(|| id.parent.clone()),
            None => id.parent.clone(),
        };
        let first = first_of(embedded, &kind, fields);
        puts.push(Put { write, before: Some((id, at, element)), parent, kind, value, first });
        None
    }

    fn put_in(&mut self, mapped: &Mapped, embedded: &Embedded, put: Put<'_>) -> Outcome {
        let Some(parents) = self.mapped_of(&embedded.parent) else { return Outcome::Moved };
        let value = canonical(&put.kind, &put.value, embedded);
        let wanted = value.as_ref().and_then(|value| embedded.normal(&put.kind, value));
        let list = (mapped.name().clone(), put.kind.clone());
        let elements =
            self.objects_mut(&parents).get(&put.parent).map(|object| object.elements.get(&list).cloned());
        let (Some(value), Some(wanted), Some(elements)) = (value, wanted, elements) else {
            self.put_back(mapped, &parents, put.before);
            let message = format!("the value of {} is none of its kind", put.write.key);
            return Outcome::Refused(self.error(ErrorKind::Invalid, message));
        };
        let mut elements = elements.unwrap_or_default();
        if elements.iter().any(|there| embedded.normal(&put.kind, &there.value).as_ref() == Some(&wanted)) {
            let known = put.before.is_some();
            self.put_back(mapped, &parents, put.before);
            let message = format!("another element has the value of {}", put.write.key);
            return if known {
                Outcome::Refused(self.error(ErrorKind::Conflict, message))
            } else {
                Outcome::Moved
            };
        }
        let stays = put.before.as_ref().filter(|(id, ..)| id.parent == put.parent && id.kind == put.kind);
        let at = match (put.first, stays) {
            (Some(true), _) => 0,
            (Some(false), Some((_, 0, _))) | (_, None) => elements.len(),
            (_, Some((_, at, _))) => (*at).min(elements.len()),
        };
        let element = MemoryElement { value };
        elements.insert(at, element.clone());
        let id = ElementId { parent: put.parent.clone(), kind: put.kind, normal: wanted };
        let object = self.objects_mut(&parents).get_mut(&put.parent);
        let owner = object.and_then(|object| {
            object.elements.insert(list, elements);
            object.key.clone()
        });
        Outcome::Applied(Some(element_row(mapped, put.write, &id, &element, at == 0, owner.as_ref())))
    }

    fn put_back(
        &mut self,
        mapped: &Mapped,
        parents: &Mapped,
        before: Option<(ElementId, usize, MemoryElement)>,
    ) {
        let Some((id, at, element)) = before else { return };
        if let Some(object) = self.objects_mut(parents).get_mut(&id.parent) {
            let elements = object.elements.entry((mapped.name().clone(), id.kind)).or_default();
            elements.insert(at.min(elements.len()), element);
        }
    }
}

/// What the store makes of a value: addresses in lower case, numbers as they are dialled.
fn canonical(kind: &str, value: &str, embedded: &Embedded) -> Option<String> {
    let region = embedded.places.get(kind)?.region.as_deref();
    match kind {
        "email" => normal::email(value).map(|_| value.trim().to_lowercase()),
        "phone" => normal::phone(value, region).map(|phone| phone.e164),
        _ => Some(value.to_owned()),
    }
}

/// An element as a row whose record nobody knows yet.
pub(super) fn element_stray(
    child: &Mapped,
    place: &ElementId,
    element: &MemoryElement,
    first: bool,
) -> Stray {
    let mut fields = Fields::new();
    let mut relations = BTreeMap::new();
    if let Some(embedded) = child.mapping.embedded() {
        fields.insert(embedded.kind, Cell::Value(Value::text(place.kind.as_str())));
        fields.insert(embedded.value, Cell::Value(Value::text(element.value.as_str())));
        if let Some(primary) = embedded.places.get(&place.kind).and_then(|kind| kind.primary) {
            fields.insert(primary, Cell::Value(Value::Bool(first)));
        }
        relations.insert(FieldRef::Field(embedded.reference), place.parent.clone());
    }
    Stray {
        entity: child.name().clone(),
        store_id: place.store_id(),
        key: None,
        relations,
        fields,
        meta: SyncMeta::default(),
        created: None,
        updated: None,
    }
}

/// An element as the row of its record; the owner is the key of the object that it stands in.
fn element_row(
    mapped: &Mapped,
    write: &Write,
    id: &ElementId,
    element: &MemoryElement,
    first: bool,
    owner: Option<&RecordKey>,
) -> Row {
    let stray = element_stray(mapped, id, element, first);
    let mut fields = stray.fields;
    if let (Some(embedded), Some(owner)) = (mapped.mapping.embedded(), owner) {
        let reference = Value::of_key(owner, mapped.entity.field(embedded.reference).ty);
        fields.insert(embedded.reference, Cell::Value(reference.unwrap_or_default()));
    }
    Row {
        key: write.key.clone(),
        store_id: Some(stray.store_id),
        fields,
        meta: SyncMeta::default(),
        created: None,
        updated: None,
        unlinked: true,
    }
}

/// Whether a write wants its element to be the first of its kind; none where it does not say.
fn first_of(embedded: &Embedded, kind: &str, fields: &Fields<Value>) -> Option<bool> {
    let primary = embedded.places.get(kind)?.primary?;
    match fields.get(&primary)? {
        Value::Bool(first) => Some(*first),
        _ => None,
    }
}
