//! What spans records: references and cascading deletes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{Entity, EntityName, FieldId, FieldRef, OnDelete, RecordId, RecordKey, Reference, Value};
use crate::resolve::{ClaimEnd, Fate, KeepReason, Overrides, Rule};

use super::build::Planner;
use super::recipe::Entry;
use super::{Notice, NoticeKind};

/// What other records may have to know of a record.
#[allow(clippy::struct_excessive_bools)] // Four plain facts.
pub(super) struct Link {
    pub fate: Fate,
    /// Whether someone changed it.
    pub touched: bool,
    /// Whether it was just made.
    pub is_new: bool,
    /// Whether nothing is written to it.
    pub quiet: bool,
    /// Whether it refers to a record that may go.
    pub cascadable: bool,
    /// The records it refers to, in the order of the entity's references.
    pub parents: Vec<Option<RecordKey>>,
    /// Fields that some store's change is the value of.
    pub claimed: BTreeSet<FieldId>,
}

impl Link {
    /// Whether the record refers to another one only now.
    pub(super) fn brings(&self, reference: &Reference) -> bool {
        self.is_new || matches!(reference.from, FieldRef::Field(field) if self.claimed.contains(&field))
    }
}

/// The key of the record that a record refers to.
fn referred_key(entry: &Entry, reference: &Reference) -> Option<RecordKey> {
    match reference.from {
        FieldRef::Key(part) => Some(RecordKey::new(vec![entry.observed.key.parts().get(part)?.clone()])),
        FieldRef::Field(field) => value_of(entry, field)?.to_key(),
    }
}

fn field_of(from: FieldRef) -> Option<FieldId> {
    match from {
        FieldRef::Field(field) => Some(field),
        FieldRef::Key(_) => None,
    }
}

/// A field's value: as resolved, or, of a record that goes, as any store has it.
fn value_of(entry: &Entry, field: FieldId) -> Option<Value> {
    entry.resolution.fields.get(&field).cloned().or_else(|| {
        entry
            .observed
            .presences
            .values()
            .find_map(|presence| presence.row()?.fields.get(&field)?.value().cloned())
    })
}

impl Planner {
    /// What a record's reference to a record that is not there means for it; none where all is well, or was broken before.
    pub(super) fn dangling(&self, entity: &Arc<Entity>, entry: &Entry) -> Option<Overrides> {
        if entry.resolution.fate != Fate::Alive {
            return None;
        }
        let is_new = entry.is_new;
        let mut overrides = entry.overrides.clone();
        for reference in entity.references.iter().filter(|reference| reference.to != entity.name) {
            let changed = match reference.from {
                FieldRef::Key(_) => is_new,
                FieldRef::Field(field) => is_new || claims(entry, field),
            };
            let Some(parents) = self.work.get(&reference.to).filter(|_| changed) else { continue };
            let missing = referred_key(entry, reference).is_some_and(|key| !parents.alive.contains(&key));
            if missing {
                Self::refuse(&mut overrides, reference.from, is_new);
            }
        }
        (overrides != entry.overrides).then_some(overrides)
    }

    fn refuse(overrides: &mut Overrides, from: FieldRef, is_new: bool) {
        match from {
            FieldRef::Field(field) if !is_new => overrides.reject.insert(field, Rule::Reference),
            _ => overrides.reject_record.replace(Rule::Reference),
        };
    }

    /// Says that a rule that spans records was broken before.
    pub(super) fn say_already(
        &mut self,
        entity: &Arc<Entity>,
        key: &RecordKey,
        field: Option<FieldId>,
        rule: Rule,
    ) {
        if !self.is_target(&entity.name, key) {
            return;
        }
        let field = field.map(|field| entity.field(field).name.clone());
        let what = field.as_ref().map_or_else(|| "the record".to_owned(), ToString::to_string);
        self.work.entry(entity.name.clone()).or_default().said.push(Notice {
            kind: NoticeKind::AlreadyInvalid,
            record: Some(RecordId { entity: entity.name.clone(), key: key.clone() }),
            entity: None,
            store: None,
            field,
            rule: Some(rule),
            about: None,
            message: format!("{what} already breaks the rule `{rule}`; nothing is blocked"),
        });
    }

    /// Says that a record refers, as it did before, to one of another entity that is not there.
    pub(super) fn note_orphan(&mut self, entity: &Arc<Entity>, entry: &Entry) {
        if entry.resolution.fate != Fate::Alive || entry.is_new {
            return;
        }
        for reference in entity.references.iter().filter(|reference| reference.to != entity.name) {
            let field = field_of(reference.from);
            let Some(parents) = self.work.get(&reference.to) else { continue };
            let key = referred_key(entry, reference).filter(|key| !parents.has(key));
            let refused = field
                .is_some_and(|field| claims(entry, field) || entry.overrides.reject.contains_key(&field));
            if key.is_some() && !refused {
                self.say_already(entity, &entry.observed.key, field, Rule::Reference);
            }
        }
    }

    /// Notes who is there, who has which unique value, and who refers to a record of the same entity.
    pub(super) fn note_relations(&mut self, entity: &Arc<Entity>, entry: &Entry) {
        let referred = self.referred.contains(&entity.name);
        let work = self.work.entry(entity.name.clone()).or_default();
        let key = &entry.observed.key;
        // A record that may yet be kept counts as there: whoever refers to it decides.
        if referred && matches!(entry.resolution.fate, Fate::Alive | Fate::Dead) {
            work.alive.insert(key.clone());
        }
        if referred && matches!(entry.resolution.fate, Fate::Left(_)) {
            work.left.insert(key.clone());
        }
        if entry.resolution.fate == Fate::Alive {
            work.values.note(entity, entry);
        }
        for reference in entity.references.iter().filter(|reference| reference.to == entity.name) {
            let Some(parent) = referred_key(entry, reference) else { continue };
            if reference.on_delete != OnDelete::Ignore {
                work.children.entry(parent.clone()).or_default().push(key.clone());
            }
            if entry.resolution.fate == Fate::Alive {
                work.own.push((key.clone(), reference.from, parent));
            }
        }
    }

    /// Whether the record refers to one that may go, so that it has to be kept in mind although nothing happens to it.
    pub(super) fn may_be_cascaded(&self, entity: &Arc<Entity>, entry: &Entry) -> bool {
        entity.references.iter().filter(|reference| reference.on_delete != OnDelete::Ignore).any(
            |reference| {
                if reference.to == entity.name {
                    return referred_key(entry, reference).is_some();
                }
                let parent =
                    referred_key(entry, reference).and_then(|key| self.work.get(&reference.to)?.link(&key));
                // A kept-in-mind parent may be cascaded itself, and take this one with it.
                parent.is_some_and(|parent| parent.fate == Fate::Dead || (parent.quiet && parent.cascadable))
            },
        )
    }

    /// What other records may have to know of a record.
    pub(super) fn link(entity: &Entity, entry: &Entry, cascadable: bool) -> Link {
        let fields = entity.field_ids().filter(|field| claims(entry, *field));
        Link {
            fate: entry.resolution.fate,
            touched: entry.resolution.touched,
            is_new: entry.is_new,
            quiet: entry.sides.iter().all(|side| side.act.is_none()),
            cascadable,
            parents: entity.references.iter().map(|reference| referred_key(entry, reference)).collect(),
            claimed: fields.collect(),
        }
    }

    /// Cascades and restrictions of deletes, then values that two records claim.
    pub(super) fn settle_relations(&mut self) {
        let collapsed = self.settle_collapsed();
        self.settle_firsts(&collapsed);
        self.settle_deletes();
        self.settle_unique();
        self.settle_own_references();
    }

    fn settle_deletes(&mut self) {
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
        let mut cascaded: BTreeSet<RecordId> = BTreeSet::new();
        let mut waiting: Vec<RecordId> = Vec::new();
        for id in doomed {
            match self.fall(&id, &dependents) {
                Ok(going) if self.are_free(&id, &going) => {
                    cascaded.extend(going.iter().filter(|going| **going != id).cloned());
                    self.falls.push((id, going));
                }
                Ok(_) => waiting.push(id),
                Err(reason) => {
                    kept.insert(id, reason);
                }
            }
        }
        for (id, reason) in kept {
            self.reconsider(&id, |overrides| overrides.keep = Some(reason));
        }
        for id in waiting {
            self.reconsider(&id, |overrides| overrides.wait = true);
        }
        for id in cascaded {
            self.reconsider(&id, |overrides| overrides.cascade = true);
        }
    }

    /// Whether all that go with a record may be written now.
    fn are_free(&self, id: &RecordId, going: &BTreeSet<RecordId>) -> bool {
        let holds = &self.inputs.orders.holds;
        let held = |going: &RecordId| going != id && holds.has(going, &self.inputs.spec.canonical);
        !going.iter().any(|going| held(going) || self.outside.contains(going))
    }

    /// Notes what a record outside the targets would go with.
    pub(super) fn note_outside(&mut self, entity: &Entity, entry: &Entry) {
        let hangs = |reference: &&Reference| reference.on_delete != OnDelete::Ignore;
        let parents = entity.references.iter().filter(hangs).filter_map(|reference| {
            Some(RecordId { entity: reference.to.clone(), key: referred_key(entry, reference)? })
        });
        self.outside.extend(parents);
    }

    /// Lets deleted records wait with which records of entities that a guard stopped would go: once a record is gone, nobody would
    /// miss it in what refers to it.
    pub(super) fn wait_for(&mut self, stopped: &BTreeSet<EntityName>) {
        let falls = std::mem::take(&mut self.falls);
        let (waiting, free): (Vec<_>, Vec<_>) = falls
            .into_iter()
            .filter(|(id, _)| !stopped.contains(&id.entity))
            .partition(|(_, going)| going.iter().any(|going| stopped.contains(&going.entity)));
        let free: BTreeSet<RecordId> = free.into_iter().flat_map(|(_, going)| going).collect();
        for (id, going) in waiting {
            for one in going.iter().filter(|one| **one != id && !free.contains(*one)) {
                self.reconsider(one, |overrides| overrides.cascade = false);
            }
            self.reconsider(&id, |overrides| overrides.wait = true);
        }
    }

    /// Who refers to whom, with deletes that matter, among the records kept in mind.
    fn dependents(&self) -> BTreeMap<RecordId, Vec<(RecordId, OnDelete)>> {
        let mut dependents: BTreeMap<RecordId, Vec<(RecordId, OnDelete)>> = BTreeMap::new();
        for entity in &self.inputs.spec.entities {
            let Some(work) = self.work.get(&entity.name) else { continue };
            for (key, link) in work.links() {
                for (reference, parent) in entity.references.iter().zip(&link.parents) {
                    let Some(parent) = parent.clone().filter(|_| reference.on_delete != OnDelete::Ignore)
                    else {
                        continue;
                    };
                    let child = RecordId { entity: entity.name.clone(), key: key.clone() };
                    let parent = RecordId { entity: reference.to.clone(), key: parent };
                    dependents.entry(parent).or_default().push((child, reference.on_delete));
                }
            }
        }
        dependents
    }

    /// Everything that goes with a record, itself included, or why it must stay. Chains may be of any length: this does not recur.
    fn fall(
        &self,
        id: &RecordId,
        dependents: &BTreeMap<RecordId, Vec<(RecordId, OnDelete)>>,
    ) -> Result<BTreeSet<RecordId>, KeepReason> {
        let children = |id: &RecordId| dependents.get(id).map(Vec::as_slice).unwrap_or_default().iter();
        let mut going = BTreeSet::from([id.clone()]);
        let mut under_way = vec![children(id)];
        while let Some(next) = under_way.last_mut() {
            let Some((child, on_delete)) = next.next() else {
                under_way.pop();
                continue;
            };
            let Some(link) = self.work.get(&child.entity).and_then(|work| work.link(&child.key)) else {
                continue;
            };
            let alive = link.fate == Fate::Alive;
            if alive && link.touched {
                return Err(KeepReason::ChildChanged);
            }
            if alive && *on_delete == OnDelete::Restrict {
                return Err(KeepReason::Restricted);
            }
            if alive && going.insert(child.clone()) {
                under_way.push(children(child));
            }
        }
        Ok(going)
    }

    /// References within one entity, which can only be looked at when all its records are known.
    fn settle_own_references(&mut self) {
        let alive =
            |of: &RecordId| self.work.get(&of.entity).is_some_and(|work| work.alive.contains(&of.key));
        let orphans = self.referring(|from, to| *from == to.entity && !alive(to));
        let refused: BTreeSet<RecordId> = orphans.iter().map(|(id, ..)| id.clone()).collect();
        let mut already = Vec::new();
        for entity in &self.inputs.spec.entities {
            let Some(work) = self.work.get(&entity.name) else { continue };
            for (key, from, _) in work.own.iter().filter(|(.., parent)| !work.has(parent)) {
                let id = RecordId { entity: entity.name.clone(), key: key.clone() };
                if !refused.contains(&id) {
                    already.push((entity.clone(), id.key, *from));
                }
            }
        }
        for (entity, key, from) in already {
            self.say_already(&entity, &key, field_of(from), Rule::Reference);
        }
        self.refuse_orphans(orphans);
    }

    /// Refuses what refers to records that are not there, and then what refers to new ones that are refused for that.
    pub(super) fn refuse_orphans(&mut self, mut orphans: Vec<(RecordId, FieldRef, bool)>) {
        while !orphans.is_empty() {
            let gone: BTreeSet<RecordId> =
                orphans.iter().filter(|(.., is_new)| *is_new).map(|(id, ..)| id.clone()).collect();
            for (id, from, is_new) in orphans {
                self.reconsider(&id, |overrides| Self::refuse(overrides, from, is_new));
            }
            orphans = self.referring(|_, parent| gone.contains(parent));
        }
    }

    /// Records that refer only now to one of these, by which field, and whether they are new.
    pub(super) fn referring(
        &self,
        these: impl Fn(&EntityName, &RecordId) -> bool,
    ) -> Vec<(RecordId, FieldRef, bool)> {
        let mut found = Vec::new();
        for entity in &self.inputs.spec.entities {
            let Some(work) = self.work.get(&entity.name).filter(|_| !entity.references.is_empty()) else {
                continue;
            };
            for (key, link) in work.links().filter(|(_, link)| link.fate == Fate::Alive) {
                let brought = entity.references.iter().zip(&link.parents);
                for (reference, parent) in brought.filter(|(reference, _)| link.brings(reference)) {
                    let Some(parent) = parent.clone() else { continue };
                    if these(&entity.name, &RecordId { entity: reference.to.clone(), key: parent }) {
                        let id = RecordId { entity: entity.name.clone(), key: key.clone() };
                        found.push((id, reference.from, link.is_new));
                    }
                }
            }
        }
        found
    }
}

/// Whether any store's change of the field is in the result.
pub(super) fn claims(entry: &Entry, field: FieldId) -> bool {
    entry.resolution.ends.values().any(|ends| ends.get(&field) == Some(&ClaimEnd::Won))
}
