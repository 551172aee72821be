//! What spans records: references and cascading deletes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::{Entity, EntityName, FieldId, FieldRef, OnDelete, RecordId, RecordKey, Reference, Value};
use crate::resolve::{ClaimEnd, Fate, Origin, OriginRule, Overrides, Rule};

use super::build::{EntityWork, Planner};
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

/// A record that refers only now to one that is not there.
pub(super) struct Orphan {
    id: RecordId,
    /// By what.
    from: FieldRef,
    is_new: bool,
    parent: RecordId,
}

/// The key of the record that a record refers to.
pub(super) fn referred_key(entry: &Entry, reference: &Reference) -> Option<RecordKey> {
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
            let missing = referred_key(entry, reference).filter(|key| !parents.alive.contains(key));
            if let Some(key) = missing {
                let parent = RecordId { entity: reference.to.clone(), key };
                Self::refuse(entity, &mut overrides, reference.from, is_new, parent);
            }
        }
        (overrides != entry.overrides).then_some(overrides)
    }

    fn refuse(entity: &Entity, overrides: &mut Overrides, from: FieldRef, is_new: bool, parent: RecordId) {
        overrides.about = Some((from, parent));
        match from {
            FieldRef::Field(field) if !is_new => Self::reject(entity, overrides, field, Rule::Reference),
            _ => overrides.reject_record = Some(Rule::Reference),
        }
    }

    /// Refuses what a field is changed to; of one that is derived, what is changed of its sources.
    pub(super) fn reject(entity: &Entity, overrides: &mut Overrides, field: FieldId, rule: Rule) {
        if overrides.reject.insert(field, rule).is_none() {
            let sources = entity.field(field).derive.iter().flat_map(|derive| &derive.args);
            for source in sources.filter_map(|source| field_of(*source)) {
                Self::reject(entity, overrides, source, rule);
            }
        }
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
    pub(super) fn note_relations(&mut self, entity: &Arc<Entity>, entry: &Entry, target: bool) {
        let unique = entity.fields.iter().any(|field| field.unique);
        let is_written = unique && target && self.is_written(entity, entry);
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
        if unique {
            work.values.note(entity, entry, is_written);
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

    /// Whether what is planned for a record as a whole is done, and does not wait.
    pub(super) fn is_written(&self, entity: &Entity, entry: &Entry) -> bool {
        let id = RecordId { entity: entity.name.clone(), key: entry.observed.key.clone() };
        let canonical = &self.inputs.spec.canonical;
        let waits = entry.overrides.wait || entry.overrides.awaits.contains_key(canonical);
        !waits && !self.inputs.orders.holds.has(&id, canonical)
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
        self.settle_revived();
        self.settle_unique();
        self.settle_own_references();
    }

    /// References within one entity, which can only be looked at when all its records are known.
    fn settle_own_references(&mut self) {
        let alive =
            |of: &RecordId| self.work.get(&of.entity).is_some_and(|work| work.alive.contains(&of.key));
        let orphans = self.referring(|from, to| *from == to.entity && !alive(to));
        let refused: BTreeSet<RecordId> = orphans.iter().map(|orphan| orphan.id.clone()).collect();
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
    pub(super) fn refuse_orphans(&mut self, mut orphans: Vec<Orphan>) {
        while !orphans.is_empty() {
            let gone: BTreeSet<RecordId> =
                orphans.iter().filter(|orphan| orphan.is_new).map(|orphan| orphan.id.clone()).collect();
            for Orphan { id, from, is_new, parent } in orphans {
                let Some(entity) = self.inputs.spec.entity(&id.entity).cloned() else { continue };
                self.reconsider(&id, |overrides| Self::refuse(&entity, overrides, from, is_new, parent));
            }
            orphans = self.referring(|_, parent| gone.contains(parent));
        }
    }

    /// Records that refer only now to one of these.
    pub(super) fn referring(&self, these: impl Fn(&EntityName, &RecordId) -> bool) -> Vec<Orphan> {
        let mut found = Vec::new();
        for entity in &self.inputs.spec.entities {
            let now = |link: &Link, reference: &Reference| link.fate == Fate::Alive && link.brings(reference);
            for (id, link, reference, parent) in self.references_of(entity) {
                if now(link, reference) && these(&entity.name, &parent) {
                    found.push(Orphan { id, from: reference.from, is_new: link.is_new, parent });
                }
            }
        }
        found
    }

    /// What an entity's records refer to, as far as they are kept in mind: which record, by what, and to which one.
    pub(super) fn references_of<'p>(
        &'p self,
        entity: &'p Entity,
    ) -> impl Iterator<Item = (RecordId, &'p Link, &'p Reference, RecordId)> {
        let links = self.work.get(&entity.name).into_iter().flat_map(EntityWork::links);
        links.flat_map(move |(key, link)| {
            entity.references.iter().zip(&link.parents).filter_map(move |(reference, parent)| {
                let child = RecordId { entity: entity.name.clone(), key: key.clone() };
                let parent = RecordId { entity: reference.to.clone(), key: parent.clone()? };
                Some((child, link, reference, parent))
            })
        })
    }
}

/// Whether any store's change of the field is in the result, or what follows from one.
pub(super) fn claims(entry: &Entry, field: FieldId) -> bool {
    let derived = |origin: &Origin| origin.rule == OriginRule::Derived;
    entry.resolution.origins.get(&field).is_some_and(derived)
        || entry.resolution.ends.values().any(|ends| ends.get(&field) == Some(&ClaimEnd::Won))
}
