//! Deletes that take others along: what goes with a record, and what has to wait or stay so that nothing goes by half.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Entity, EntityName, OnDelete, RecordId, RecordKey, Reference, StoreName};
use crate::resolve::{Fate, KeepReason, LeftReason};

use super::build::Planner;
use super::recipe::{Entry, is_unseen};
use super::related::{Link, referred_key};

/// A deleted record with what hangs on it.
pub(super) struct Fall {
    id: RecordId,
    /// All that go because it does, itself included.
    going: BTreeSet<RecordId>,
    /// What was deleted itself and refers to one of these: they can only go once it does.
    with: BTreeSet<RecordId>,
}

impl Fall {
    fn all(&self) -> impl Iterator<Item = &RecordId> {
        self.going.iter().chain(&self.with)
    }
}

type Dependents = BTreeMap<RecordId, Vec<(RecordId, OnDelete)>>;

impl Planner {
    pub(super) fn settle_deletes(&mut self) {
        let doomed: Vec<RecordId> = self
            .work
            .iter()
            .flat_map(|(entity, work)| {
                let dead = work.links().filter(|(_, link)| link.fate == Fate::Dead);
                dead.map(|(key, _)| RecordId { entity: entity.clone(), key: key.clone() })
            })
            .collect();
        if doomed.is_empty() {
            return;
        }
        let dependents = self.dependents();
        let mut kept: BTreeMap<RecordId, KeepReason> = BTreeMap::new();
        let mut falls: Vec<Fall> = Vec::new();
        for id in doomed {
            match self.fall(&id, &dependents) {
                Ok(fall) => falls.push(fall),
                Err(reason) => drop(kept.insert(id, reason)),
            }
        }
        let kept = spread(&falls, kept);
        falls.retain(|fall| !kept.contains_key(&fall.id));
        let held = falls.iter().filter(|fall| !self.is_free(fall));
        let waiting = spread(&falls, held.map(|fall| (fall.id.clone(), ())).collect());
        falls.retain(|fall| !waiting.contains_key(&fall.id));
        for (id, reason) in kept {
            self.reconsider(&id, |overrides| overrides.keep = Some(reason));
        }
        for id in waiting.into_keys() {
            self.reconsider(&id, |overrides| overrides.wait = true);
        }
        let cascaded: BTreeSet<RecordId> = falls
            .iter()
            .flat_map(|fall| fall.going.iter().filter(|going| **going != fall.id).cloned())
            .collect();
        for id in cascaded {
            self.reconsider(&id, |overrides| overrides.cascade = true);
        }
        for (id, stays) in self.staying(&falls) {
            self.reconsider(&id, |overrides| overrides.stays = stays);
        }
        self.falls = falls;
    }

    /// What waits in a store because something that goes with it is there and is not written there now.
    fn staying(&mut self, falls: &[Fall]) -> BTreeMap<RecordId, BTreeMap<StoreName, RecordId>> {
        let mut stays: BTreeMap<RecordId, BTreeMap<StoreName, RecordId>> = BTreeMap::new();
        if self.inputs.orders.holds.is_empty() {
            return stays;
        }
        let all: BTreeSet<&RecordId> = falls.iter().flat_map(Fall::all).collect();
        let mut under_way: Vec<(RecordId, StoreName)> = Vec::new();
        for one in &all {
            let Some(entity) = self.inputs.spec.entity(&one.entity).cloned() else { continue };
            let Some(entry) = self.kept_entry(&entity, one) else { continue };
            let held = entry.observed.presences.iter().filter(|(store, presence)| {
                presence.row().is_some() && self.inputs.orders.holds.cover(one, store)
            });
            under_way.extend(held.map(|(store, _)| ((*one).clone(), store.clone())));
        }
        while let Some((one, store)) = under_way.pop() {
            for parent in self.parents_of(&one).into_iter().filter(|parent| all.contains(parent)) {
                let known = stays.entry(parent.clone()).or_default();
                if known.insert(store.clone(), one.clone()).is_none() {
                    under_way.push((parent, store.clone()));
                }
            }
        }
        stays
    }

    /// The records that one refers to such that their deletes matter to it.
    fn parents_of(&self, one: &RecordId) -> Vec<RecordId> {
        let link = self.work.get(&one.entity).and_then(|work| work.link(&one.key));
        let Some((entity, link)) = self.inputs.spec.entity(&one.entity).zip(link) else { return Vec::new() };
        let hangs = entity.references.iter().zip(&link.parents);
        let hangs = hangs.filter(|(reference, _)| reference.on_delete != OnDelete::Ignore);
        let parent = |(reference, key): (&Reference, &Option<RecordKey>)| {
            Some(RecordId { entity: reference.to.clone(), key: key.clone()? })
        };
        hangs.filter_map(parent).collect()
    }

    /// Whether somebody changed a record, or had before one of these stores, in which what it refers to was deleted, got to see it.
    fn is_changed(&self, one: &RecordId, link: &Link, deleted_by: &BTreeSet<StoreName>) -> bool {
        let unseen = || {
            let entity = self.inputs.spec.entity(&one.entity)?;
            let work = self.work.get(&one.entity)?;
            let kept = work.kept.get(*work.by_key.get(&one.key)?)?;
            // What cannot be read back is missed when it is to go.
            let entry = self.entry(entity, kept).ok()?;
            Some(is_unseen(&self.inputs, entity, &entry, deleted_by))
        };
        link.touched || unseen().unwrap_or(false)
    }

    /// Whether all that go with a record may be written now.
    fn is_free(&self, fall: &Fall) -> bool {
        let holds = &self.inputs.orders.holds;
        let held = |one: &RecordId| *one != fall.id && holds.has(one, &self.inputs.spec.canonical);
        !fall.all().any(|one| held(one) || self.outside.contains(one))
    }

    /// Notes what a record outside the targets would go with.
    pub(super) fn note_outside(&mut self, entity: &Entity, entry: &Entry) {
        let hangs = |reference: &&Reference| reference.on_delete != OnDelete::Ignore;
        let parents = entity.references.iter().filter(hangs).filter_map(|reference| {
            Some(RecordId { entity: reference.to.clone(), key: referred_key(entry, reference)? })
        });
        self.outside.extend(parents);
    }

    /// Stops the deletes of which any part is in an entity that a guard stopped: the record itself, what goes with it, or what would have to
    /// go before it. Once a record is gone, nobody would miss it in what refers to it; and what refers to one that stays, stays.
    pub(super) fn wait_for(&mut self, stopped: &BTreeSet<EntityName>) {
        let falls = std::mem::take(&mut self.falls);
        let hit = falls.iter().filter(|fall| fall.all().any(|one| stopped.contains(&one.entity)));
        let waiting = spread(&falls, hit.map(|fall| (fall.id.clone(), ())).collect());
        let (waiting, free): (Vec<Fall>, Vec<Fall>) =
            falls.into_iter().partition(|fall| waiting.contains_key(&fall.id));
        let free: BTreeSet<RecordId> = free.into_iter().flat_map(|fall| fall.going).collect();
        for fall in waiting {
            for one in fall.going.iter().filter(|one| **one != fall.id && !free.contains(*one)) {
                self.reconsider(one, |overrides| overrides.cascade = false);
            }
            // What is in a stopped entity is held with all of it.
            if !stopped.contains(&fall.id.entity) {
                self.reconsider(&fall.id, |overrides| overrides.wait = true);
            }
        }
    }

    /// Keeps what would have gone with a record that stays after all, and goes with no other one.
    pub(super) fn take_fall_back(&mut self, id: &RecordId) {
        let (own, others): (Vec<Fall>, Vec<Fall>) =
            std::mem::take(&mut self.falls).into_iter().partition(|fall| fall.id == *id);
        self.falls = others;
        for one in own.into_iter().flat_map(|fall| fall.going).filter(|one| one != id) {
            if !self.falls.iter().any(|fall| fall.going.contains(&one)) {
                self.reconsider(&one, |overrides| overrides.cascade = false);
            }
        }
    }

    /// Who refers to whom, with deletes that matter, among the records kept in mind.
    fn dependents(&self) -> Dependents {
        let mut dependents = Dependents::new();
        for entity in &self.inputs.spec.entities {
            for (child, _, reference, parent) in self.references_of(entity) {
                if reference.on_delete != OnDelete::Ignore {
                    dependents.entry(parent).or_default().push((child, reference.on_delete));
                }
            }
        }
        dependents
    }

    /// What hangs on a deleted record, or why it must stay. Chains may be of any length: this does not recur. It ends at records that
    /// were deleted themselves, whose own chains are looked at for themselves.
    fn fall(&self, id: &RecordId, dependents: &Dependents) -> Result<Fall, KeepReason> {
        let children = |id: &RecordId| dependents.get(id).map(Vec::as_slice).unwrap_or_default().iter();
        let nowhere = BTreeSet::new();
        let deleted_by = self.work.get(&id.entity).and_then(|work| work.deleted.get(&id.key));
        let deleted_by = deleted_by.unwrap_or(&nowhere);
        let mut fall = Fall { id: id.clone(), going: BTreeSet::from([id.clone()]), with: BTreeSet::new() };
        let mut under_way = vec![children(id)];
        while let Some(next) = under_way.last_mut() {
            let Some((child, on_delete)) = next.next() else {
                under_way.pop();
                continue;
            };
            let Some(link) = self.work.get(&child.entity).and_then(|work| work.link(&child.key)) else {
                continue;
            };
            match link.fate {
                // A new one counts although it breaks a rule, and is nowhere else.
                Fate::Left(LeftReason::Rejected) if link.touched => return Err(KeepReason::ChildChanged),
                Fate::Alive if self.is_changed(child, link, deleted_by) => {
                    return Err(KeepReason::ChildChanged);
                }
                Fate::Alive if *on_delete == OnDelete::Restrict => return Err(KeepReason::Restricted),
                Fate::Alive => {
                    if fall.going.insert(child.clone()) {
                        under_way.push(children(child));
                    }
                }
                Fate::Dead | Fate::Left(LeftReason::Paused) if child != id => {
                    fall.with.insert(child.clone());
                }
                Fate::Dead | Fate::Gone | Fate::Left(_) => {}
            }
        }
        Ok(fall)
    }
}

/// What holds of some deleted records, and so of those that can only go after them.
fn spread<T: Copy>(falls: &[Fall], found: BTreeMap<RecordId, T>) -> BTreeMap<RecordId, T> {
    let mut before: BTreeMap<&RecordId, Vec<&RecordId>> = BTreeMap::new();
    for fall in falls {
        for one in &fall.with {
            before.entry(one).or_default().push(&fall.id);
        }
    }
    let mut under_way: Vec<(RecordId, T)> = found.iter().map(|(id, what)| (id.clone(), *what)).collect();
    let mut found = found;
    while let Some((id, what)) = under_way.pop() {
        for parent in before.get(&id).into_iter().flatten() {
            if !found.contains_key(*parent) {
                found.insert((*parent).clone(), what);
                under_way.push(((*parent).clone(), what));
            }
        }
    }
    found
}
