//! Records that go because another one does. In the canonical store they go together with it or not at all: a store that refuses to let a record
//! go has not given up what refers to it. The others follow once that is acknowledged.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::{Action, ActionKind, Reason, Standing};
use crate::model::{
    Batch, Entity, EntityName, Falls, FieldRef, OnDelete, RecordId, RecordKey, Reference, Write,
};
use crate::plan::RecordPlan;

use super::super::Effect;
use super::{Applying, Chunk};

/// Why a record stays with which another one, that was left out, would have gone.
const LEFT: &str = "what goes together with it was left out; the next pass looks again";

/// A record that goes, as far as it matters here.
pub(super) struct Going {
    cascaded: bool,
    pub(super) parents: Vec<RecordId>,
}

/// Places that belong together, each under the first one of its group.
#[derive(Default)]
struct Groups(BTreeMap<usize, usize>);

impl Groups {
    fn first(&self, at: usize) -> usize {
        let mut first = at;
        while let Some(before) = self.0.get(&first).filter(|before| **before != first) {
            first = *before;
        }
        first
    }

    fn has(&self, at: usize) -> bool {
        self.0.contains_key(&at)
    }

    /// Puts two into one group; false where they are in one.
    fn join(&mut self, one: usize, other: usize) -> bool {
        let (one, other) = (self.first(one), self.first(other));
        let (first, second) = (one.min(other), one.max(other));
        let known = self.has(first) && self.has(second) && first == second;
        self.0.insert(first, first);
        self.0.insert(second, first);
        !known
    }

    fn into_lists(self) -> Vec<Vec<usize>> {
        let mut lists: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for at in self.0.keys() {
            lists.entry(self.first(*at)).or_default().push(*at);
        }
        lists.into_values().collect()
    }
}

pub(super) fn going(entity: &Entity, record: &RecordPlan) -> Going {
    let deletes = || record.actions.iter().filter(|action| action.kind == ActionKind::Delete);
    let hangs = |reference: &&Reference| reference.on_delete != OnDelete::Ignore;
    let key = |reference: &Reference| match reference.from {
        FieldRef::Key(part) => Some(RecordKey::new(vec![record.record.key.parts().get(part)?.clone()])),
        FieldRef::Field(field) => {
            let name = &entity.field(field).name;
            deletes().find_map(|action| action.guard.get(name)?.value())?.to_key()
        }
    };
    let parents = entity
        .references
        .iter()
        .filter(hangs)
        .filter_map(|reference| Some(RecordId { entity: reference.to.clone(), key: key(reference)? }));
    Going { cascaded: deletes().any(|action| action.reason == Reason::Cascade), parents: parents.collect() }
}

impl Applying {
    /// Finds out which records go together, and puts their canonical deletes into chunks of their own. A record that goes with one that was
    /// left out stays as well.
    pub(super) fn find_falls(&mut self) {
        let spec = std::sync::Arc::clone(&self.inputs.spec);
        let mut all: BTreeMap<usize, Going> = BTreeMap::new();
        for entity in &spec.entities {
            let hangs = entity.references.iter().any(|reference| reference.on_delete != OnDelete::Ignore);
            let of_it = self.plan.records.of_entity(&entity.name).filter(|_| hangs);
            for at in of_it.filter(|at| self.plan.records.goes(*at)).collect::<Vec<_>>() {
                let Some(record) = self.record(at) else { return };
                all.insert(at, going(entity, &record));
            }
        }
        if !all.values().any(|going| going.cascaded) {
            return;
        }
        let wanted: BTreeSet<&RecordId> = all.values().flat_map(|going| &going.parents).collect();
        let entities: BTreeSet<&EntityName> = wanted.iter().map(|id| &id.entity).collect();
        let mut places: BTreeMap<RecordId, usize> = BTreeMap::new();
        for entity in entities {
            let of_it = self.plan.records.of_entity(entity);
            for at in of_it.filter(|at| self.plan.records.goes(*at)) {
                match self.plan.records.id(at) {
                    Ok(id) if wanted.contains(&id) => {
                        places.insert(id, at);
                    }
                    Ok(_) => {}
                    Err(lost) => {
                        self.failed.get_or_insert_with(|| lost.to_string());
                        return;
                    }
                }
            }
        }
        // What goes by itself and takes others along has to go before what it refers to, so with it.
        let mut groups = Groups::default();
        let mut more = true;
        while std::mem::take(&mut more) {
            for (at, going) in &all {
                if !going.cascaded && !groups.has(*at) {
                    continue;
                }
                let parents = going.parents.iter().filter_map(|parent| places.get(parent));
                more |= parents.fold(false, |more, parent| groups.join(*at, *parent) | more);
            }
        }
        self.falls = groups.into_lists();
        self.fallen = self.falls.iter().flatten().copied().collect();
        self.drop_broken_falls();
        self.chunks =
            super::chunks(&self.inputs.spec, &self.plan, self.inputs.chunk.max(1), &self.falls, &self.fallen);
    }

    /// Leaves out what goes together with what was left out.
    pub(super) fn drop_broken_falls(&mut self) {
        let broken = self.falls.iter().filter(|fall| fall.iter().any(|at| self.dropped.contains(at)));
        let rest: Vec<usize> = broken.flatten().copied().filter(|at| !self.dropped.contains(at)).collect();
        for at in rest {
            self.unconfirmed.insert(at);
            self.leave_rest_of(at);
        }
    }

    fn leave_rest_of(&mut self, at: usize) {
        // What was reached of it counts once.
        let canonical = self.inputs.spec.canonical.clone();
        let reached = self.flight.loaded.contains_key(&at) && self.is_fall_chunk();
        if reached && let Some(record) = self.record(at) {
            self.unreach(&record, |action| action.store == canonical);
        }
        self.leave_record(at, LEFT, Standing::Skipped);
    }

    /// Nothing becomes in this pass of what would have followed from a canonical delete.
    pub(super) fn reach_rest(&mut self, record: &RecordPlan) {
        if self.is_fall_chunk() {
            let canonical = self.inputs.spec.canonical.clone();
            self.reach(record, |action| action.store != canonical);
        }
    }

    /// Whether the chunk at hand is about the canonical deletes of what goes together.
    pub(super) fn is_fall_chunk(&self) -> bool {
        self.flight.lane > 0 && self.chunk().falls
    }

    /// Whether what has to be done in the canonical store is done already for a record of the chunk at hand.
    pub(super) fn is_fallen(&self, at: usize) -> bool {
        !self.is_fall_chunk() && self.fallen.contains(&at)
    }

    /// Whether an action is one of the chunk at hand.
    pub(super) fn is_of_chunk(&self, at: usize, action: &Action) -> bool {
        let canonical = action.store == self.inputs.spec.canonical;
        !self.fallen.contains(&at) || self.is_fall_chunk() == canonical
    }

    /// Sends the canonical deletes of what goes together.
    pub(super) fn write_falls(&mut self) -> Vec<Effect> {
        let canonical = self.inputs.spec.canonical.clone();
        let Some(Batch { id, writes, .. }) = self.flight.ready.remove(&canonical) else { return Vec::new() };
        let noted = self.flight.noted.get(&canonical).into_iter().flatten().map(|(at, _)| *at);
        let mut writes: BTreeMap<usize, Write> = noted.zip(writes).collect();
        // Those that refer to others go first.
        let order: Vec<EntityName> = self.plan.entities.iter().rev().cloned().collect();
        let mut falls = Vec::new();
        let chunk: BTreeSet<usize> = self.chunk().records.iter().copied().collect();
        for fall in self.falls.iter().filter(|fall| fall.iter().all(|at| chunk.contains(at))) {
            let mut going = Vec::new();
            for at in fall {
                let Some(write) = writes.remove(at) else { continue };
                let Some(record) = self.flight.loaded.get(at) else { continue };
                going.push((record.record.entity.clone(), write));
            }
            going.sort_by_key(|(entity, _)| order.iter().position(|name| name == entity));
            if !going.is_empty() {
                falls.push(going);
            }
        }
        let there = |name: &EntityName| {
            falls.iter().flatten().any(|(entity, _): &(EntityName, Write)| entity == name)
        };
        let mapped = order.iter().filter(|name| there(name));
        let mapped = mapped.filter_map(|name| self.inputs.spec.mapped(name, &canonical)).collect();
        vec![Effect::WriteFalls { store: canonical, falls: Falls { id, mapped, falls } }]
    }
}

/// The chunks of what goes together: whole falls, as many as fit.
pub(super) fn fall_chunks(
    falls: &[Vec<usize>],
    entity: impl Fn(usize) -> Option<EntityName>,
    size: usize,
) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for fall in falls {
        match chunks.last_mut().filter(|chunk| chunk.records.len() + fall.len() <= size) {
            Some(chunk) => chunk.records.extend(fall),
            None => {
                if let Some(entity) = fall.first().and_then(|first| entity(*first)) {
                    chunks.push(Chunk { entity, records: fall.clone(), deletes: true, falls: true });
                }
            }
        }
    }
    chunks
}
