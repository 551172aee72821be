//! What refers to a record that a store does not get now: it waits there until the store has that record.
//!
//! A record comes late where it is paused, refused by a guard, no target of the plan, failed a short while ago, or waits itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diff::{ActionKind, Drift, Outline};
use crate::model::{Entity, EntityName, FieldRef, Presence, RecordId, RecordKey, StoreName, Unknown};
use crate::resolve::Fate;

use super::build::Planner;
use super::recipe::Entry;
use super::related::referred_key;

/// Whether the store lacks a record that it should have.
fn lacks(side: &Outline) -> bool {
    side.drift == Some(Drift::Missing)
}

/// Whether the store may lack it: it was never known to have it, and it cannot be told now.
fn may_lack(side: &Outline, entry: &Entry) -> bool {
    let doubtful = matches!(
        entry.observed.presences.get(&side.store),
        Some(Presence::Unknown(Unknown::Incomplete | Unknown::DuplicateKey | Unknown::Unidentified))
    );
    let memory = entry.observed.memory.as_ref().filter(|_| doubtful);
    doubtful && !memory.and_then(|memory| memory.stores.get(&side.store)).is_some_and(|shadow| shadow.present)
}

/// Where a record comes late.
pub(super) fn late_in(entry: &Entry, target: bool) -> Vec<(StoreName, RecordKey)> {
    let late = entry.sides.iter().filter(|side| {
        entry.resolution.fate == Fate::Alive
            && (lacks(side) && (side.act.is_none() || !target) || may_lack(side, entry))
    });
    late.map(|side| (side.store.clone(), entry.observed.key.clone())).collect()
}

/// Whether what is written to a store would refer to another record by this field.
fn brings(entity: &Entity, side: &Outline, from: FieldRef) -> bool {
    let Some(act) = &side.act else { return false };
    match (act.kind, from) {
        (ActionKind::Create, _) => true,
        (ActionKind::Update, FieldRef::Field(field)) => act.fields.contains(&entity.field(field).name),
        _ => false,
    }
}

impl Planner {
    /// Notes which stores lack a record and are not given it.
    pub(super) fn note_late(&mut self, entity: &Entity, entry: &Entry, target: bool) {
        if self.referred.contains(&entity.name)
            && let Some(work) = self.work.get_mut(&entity.name)
        {
            work.late.extend(late_in(entry, target));
        }
    }

    /// Notes what an entity that a guard stopped does not bring.
    pub(super) fn note_stopped(&mut self, name: &EntityName) {
        let Some(entity) = self.inputs.spec.entity(name).filter(|_| self.referred.contains(name)).cloned()
        else {
            return;
        };
        let mut late = Vec::new();
        let kept = self.work.get(name).map(|work| work.kept.as_slice()).unwrap_or_default();
        for kept in kept.iter().filter(|kept| kept.planned) {
            match self.entry(&entity, kept) {
                Ok(entry) => {
                    let lacking = entry.sides.iter().filter(|side| lacks(side));
                    late.extend(lacking.map(|side| (side.store.clone(), entry.observed.key.clone())));
                }
                Err(lost) => {
                    self.lost.get_or_insert(lost);
                    return;
                }
            }
        }
        if let Some(work) = self.work.get_mut(name) {
            work.late.extend(late);
        }
    }

    /// Lets wait what would refer, in a store, to a record that the store does not get, and then what would refer to that.
    pub(super) fn wait_for_late(&mut self, stopped: &BTreeSet<EntityName>) {
        let late = |(name, work): (&EntityName, &super::build::EntityWork)| {
            let id = |(_, key): &(StoreName, _)| RecordId { entity: name.clone(), key: Clone::clone(key) };
            work.late.iter().map(id).collect::<BTreeSet<_>>()
        };
        let mut under_way: Vec<RecordId> = self.work.iter().flat_map(late).collect();
        if under_way.is_empty() {
            return;
        }
        let children = self.children(stopped);
        while let Some(parent) = under_way.pop() {
            for child in children.get(&parent).into_iter().flatten() {
                if self.await_parent(child, &parent) {
                    under_way.push(child.clone());
                }
            }
        }
    }

    /// Who refers to whom, among the records that may be written.
    fn children(&self, stopped: &BTreeSet<EntityName>) -> BTreeMap<RecordId, Vec<RecordId>> {
        let mut children: BTreeMap<RecordId, Vec<RecordId>> = BTreeMap::new();
        for entity in self.inputs.spec.entities.iter().filter(|entity| !stopped.contains(&entity.name)) {
            for (child, link, _, parent) in self.references_of(entity) {
                if link.fate == Fate::Alive && !link.quiet {
                    children.entry(parent).or_default().push(child);
                }
            }
        }
        children
    }

    /// Lets a record wait in the stores that lack the one it would refer to there; true when some store does not get it for that.
    fn await_parent(&mut self, child: &RecordId, parent: &RecordId) -> bool {
        let Some(entity) = self.inputs.spec.entity(&child.entity).cloned() else { return false };
        let Some(before) = self.kept_entry(&entity, child) else { return false };
        let lack: Vec<StoreName> = self.awaited(&entity, &before, parent);
        if lack.is_empty() {
            return false;
        }
        self.reconsider(child, |overrides| {
            for store in lack {
                overrides.awaits.entry(store).or_insert_with(|| parent.clone());
            }
        });
        let Some(after) = self.kept_entry(&entity, child) else { return false };
        let missing = after.sides.iter().filter(|side| lacks(side) && side.act.is_none());
        let missing: Vec<_> = missing.map(|side| (side.store.clone(), child.key.clone())).collect();
        let Some(work) = self.work.get_mut(&child.entity) else { return false };
        let known = work.late.len();
        work.late.extend(missing);
        work.late.len() > known
    }

    pub(super) fn kept_entry(&mut self, entity: &Arc<Entity>, id: &RecordId) -> Option<Entry> {
        let work = self.work.get(&id.entity)?;
        let kept = work.kept.get(*work.by_key.get(&id.key)?)?;
        match self.entry(entity, kept) {
            Ok(entry) => Some(entry),
            Err(lost) => {
                self.lost.get_or_insert(lost);
                None
            }
        }
    }

    /// The stores that would be given a reference to a record that they lack.
    fn awaited(&self, entity: &Entity, entry: &Entry, parent: &RecordId) -> Vec<StoreName> {
        let Some(late) = self.work.get(&parent.entity).map(|work| &work.late) else { return Vec::new() };
        let refers = entity.references.iter().filter(|reference| {
            reference.to == parent.entity && referred_key(entry, reference).as_ref() == Some(&parent.key)
        });
        let refers: Vec<FieldRef> = refers.map(|reference| reference.from).collect();
        let lack = entry.sides.iter().filter(|side| {
            late.contains(&(side.store.clone(), parent.key.clone()))
                && refers.iter().any(|from| brings(entity, side, *from))
        });
        lack.map(|side| side.store.clone()).collect()
    }
}
