//! Values that only one record may have.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::model::{Entity, FieldId, FieldRef, RecordId, RecordKey, Value};
use crate::resolve::{Fate, LeftReason, Rule};

use super::build::{EntityWork, Planner};
use super::recipe::Entry;
use super::related::claims;

/// Who has which value of the unique fields of an entity.
#[derive(Default)]
pub(super) struct UniqueValues {
    holders: HashMap<(FieldId, Value), Vec<Holder>>,
    /// The records whose value of a field changes.
    changes: BTreeMap<(RecordKey, FieldId), Change>,
}

/// A record that has a value, or is to have it.
struct Holder {
    key: RecordKey,
    /// Whether stores only go on having it of the record, because what it was changed to, or its delete, is written nowhere.
    left: bool,
}

/// A record takes another value of a field.
struct Change {
    to: Value,
    /// What it has until then, in any store. Where it is refused the other one, it goes on having these.
    from: Vec<Value>,
}

impl UniqueValues {
    /// Takes note of a record: of what it is to have, or, where nothing is written to it now, of what the stores have of it.
    pub(super) fn note(&mut self, entity: &Entity, entry: &Entry, is_written: bool) {
        let key = &entry.observed.key;
        let stays = match entry.resolution.fate {
            Fate::Alive => true,
            Fate::Dead if !is_written => false,
            Fate::Left(LeftReason::Rejected | LeftReason::DeleteIgnored) | Fate::Dead | Fate::Gone => return,
            Fate::Left(_) => false,
        };
        for field in entity.field_ids().filter(|field| entity.field(*field).unique) {
            if !stays || (!is_written && claims(entry, field)) {
                for value in former(entity, entry, field, &Value::Null) {
                    self.hold(field, value, key, true);
                }
                continue;
            }
            let to = entry.resolution.fields.get(&field).cloned().unwrap_or(Value::Null);
            let from = || former(entity, entry, field, &to);
            if entry.resolution.held.contains(&field) {
                for value in from() {
                    self.hold(field, value, key, true);
                }
            } else if claims(entry, field) {
                self.changes.insert((key.clone(), field), Change { to: to.clone(), from: from() });
            }
            self.hold(field, to, key, false);
        }
    }

    fn hold(&mut self, field: FieldId, value: Value, key: &RecordKey, left: bool) {
        if !value.is_null() {
            self.holders.entry((field, value)).or_default().push(Holder { key: key.clone(), left });
        }
    }

    fn let_go(&mut self, field: FieldId, value: &Value, key: &RecordKey) {
        if let Some(holders) = self.holders.get_mut(&(field, value.clone())) {
            holders.retain(|holder| holder.key != *key);
        }
    }

    /// The groups of records that have the same value.
    fn shared(&self) -> impl Iterator<Item = (FieldId, &Value, &Vec<Holder>)> {
        let shared = self.holders.iter().filter(|(_, holders)| holders.len() > 1);
        shared.map(|((field, value), holders)| (*field, value, holders))
    }

    /// A record is not to have the value of a field, nor what goes with it.
    fn refuse(&mut self, unit: &[FieldId], field: FieldId, value: &Value, key: &RecordKey) {
        self.let_go(field, value, key);
        for field in unit {
            let Some(Change { to, from }) = self.changes.remove(&(key.clone(), *field)) else { continue };
            self.let_go(*field, &to, key);
            for value in from {
                self.hold(*field, value, key, true);
            }
        }
    }
}

/// What else the stores have of a field, or were last verified to have where they cannot be read.
fn former(entity: &Entity, entry: &Entry, field: FieldId, to: &Value) -> Vec<Value> {
    let rows = entry.observed.presences.values().filter_map(|presence| presence.row());
    let held = rows.filter_map(move |row| row.fields.get(&field)?.value());
    let shadows = entry.observed.memory.iter().flat_map(|memory| memory.stores.values());
    let remembered = shadows
        .filter(|shadow| shadow.present)
        .filter_map(move |shadow| entity.named(&shadow.fields, field)?.canonical());
    let mut former: Vec<Value> = Vec::new();
    for value in held.chain(remembered).filter(|value| !value.is_null() && *value != to) {
        if !former.contains(value) {
            former.push(value.clone());
        }
    }
    former
}

impl EntityWork {
    /// Whether a record takes its value of a field just now.
    fn takes(&self, field: FieldId, holder: &Holder) -> bool {
        let link = self.link(&holder.key).filter(|_| !holder.left);
        link.is_some_and(|link| link.is_new || link.claimed.contains(&field))
    }
}

impl Planner {
    /// Of several records that have a unique value, those that took it just now are refused it. What they had instead stays theirs, so
    /// that others may be refused that in their turn. Where several had a value before, that is said, and blocks nothing.
    pub(super) fn settle_unique(&mut self) {
        let mut gone = BTreeSet::new();
        loop {
            let refused = self.refused_values();
            if refused.is_empty() {
                break;
            }
            for ((id, field), (value, holder)) in refused {
                let Some(entity) = self.inputs.spec.entity(&id.entity).cloned() else { continue };
                let unit = entity.units.iter().find(|unit| unit.fields.contains(&field));
                let unit = unit.map(|unit| unit.fields.as_slice()).unwrap_or_default();
                let work = self.work.get_mut(&id.entity);
                let is_new = work.is_some_and(|work| {
                    work.values.refuse(unit, field, &value, &id.key);
                    work.link(&id.key).is_some_and(|link| link.is_new)
                });
                self.reconsider(&id, |overrides| {
                    overrides.about = Some((FieldRef::Field(field), holder));
                    if is_new {
                        overrides.reject_record = Some(Rule::Unique);
                    } else {
                        Self::reject(&entity, overrides, field, Rule::Unique);
                    }
                });
                gone.extend(is_new.then_some(id));
            }
        }
        self.say_shared();
        if !gone.is_empty() {
            self.refuse_orphans(self.referring(|_, parent| gone.contains(parent)));
        }
    }

    /// Records that take what another one has or takes as well, with what, and that other one.
    fn refused_values(&self) -> BTreeMap<(RecordId, FieldId), (Value, RecordId)> {
        let mut refused = BTreeMap::new();
        for (entity, work) in &self.work {
            for (field, value, holders) in work.values.shared() {
                let id = |key: &RecordKey| RecordId { entity: entity.clone(), key: key.clone() };
                let had = holders.iter().filter(|holder| !work.takes(field, holder));
                let other = |key: &RecordKey| had.clone().chain(holders).find(|holder| holder.key != *key);
                for holder in holders.iter().filter(|holder| work.takes(field, holder)) {
                    let Some(other) = other(&holder.key) else { continue };
                    refused.insert((id(&holder.key), field), (value.clone(), id(&other.key)));
                }
            }
        }
        refused
    }

    /// Says who has a value together with others, and had it before.
    fn say_shared(&mut self) {
        let mut already: BTreeSet<(RecordId, FieldId)> = BTreeSet::new();
        for (entity, work) in &self.work {
            for (field, _, holders) in work.values.shared() {
                let had: Vec<&Holder> = holders.iter().filter(|holder| !holder.left).collect();
                let id = |holder: &Holder| RecordId { entity: entity.clone(), key: holder.key.clone() };
                already.extend(had.iter().filter(|_| had.len() > 1).map(|holder| (id(holder), field)));
            }
        }
        for (id, field) in already {
            let Some(entity) = self.inputs.spec.entity(&id.entity).cloned() else { continue };
            self.say_already(&entity, &id.key, Some(field), Rule::Unique);
        }
    }
}
