//! Stores with record ids of their own: a record can only be where the records that it is related to, or stands in, are; and what became
//! of rows that carried no key.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diff::{ActionKind, Outline, Standing};
use crate::identity::{Found, How, rule_text};
use crate::model::{
    ElementId, Entity, EntityName, Mapping, Presence, RecordId, RecordKey, StoreName, StoreRecordId, Unknown,
    Value,
};
use crate::resolve::{Fate, Overrides};

use super::build::Planner;
use super::firsts::{Candidate, Group};
use super::recipe::{Entry, is_other_row};
use super::{Notice, NoticeKind, Observed};

/// A place of an element: store, parent, kind and normal form.
pub(super) type ElementPlace = (StoreName, String, String, String);

/// Where records are in stores with record ids of their own.
#[derive(Default)]
pub(super) struct Homes {
    /// Records that are there, or will be, with the row that they had before and still have; none where it is another one, or is made.
    pub there: HashMap<(StoreName, RecordKey), Option<StoreRecordId>>,
    /// Records of which that is not known, and why.
    pub unsure: HashMap<(StoreName, RecordKey), Unknown>,
    /// Kinds of elements that a store has no field for any more.
    pub lost_kinds: BTreeMap<StoreName, BTreeSet<String>>,
    /// Who would have which value, by store, parent, kind and normal form; those that have it already are marked.
    pub elements: HashMap<ElementPlace, Vec<(bool, RecordKey)>>,
    /// Who may stand first, where a field tells.
    pub firsts: BTreeMap<Group, Vec<Candidate>>,
}

/// How the rows of a store that carried no key came to their records in a pass.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meeting {
    /// Rows that turned out to be known records', by what told: a match rule, or a word.
    pub linked: BTreeMap<String, u64>,
    /// Rows that become new records.
    pub made: u64,
    /// Rows that wait for a person.
    pub held: u64,
    /// Those of them that look like another row of the same store.
    pub duplicates: u64,
    /// The rows that wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
}

/// A row that waits for a person to say whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The store's id of it.
    pub id: StoreRecordId,
    /// Why, and what to do.
    pub why: String,
    /// The records that it may be.
    pub candidates: Vec<RecordKey>,
}

impl Planner {
    /// Takes what was found out about the rows of an entity in a store.
    pub fn meet(&mut self, entity: &Arc<Entity>, store: &StoreName, found: &Found) {
        let work = self.work.entry(entity.name.clone()).or_default();
        if !found.lost_kinds.is_empty() {
            work.homes.lost_kinds.insert(store.clone(), found.lost_kinds.clone());
        }
        let mut meeting = Meeting::default();
        for how in found.how.values() {
            let word = match how {
                How::Remembered | How::Changed => continue,
                How::New => {
                    meeting.made += 1;
                    continue;
                }
                How::Rule(rule) => rule_text(entity, *rule),
                How::Relations => "relations".to_owned(),
                How::Made => "made before".to_owned(),
                How::Same => "another store's row".to_owned(),
                How::Value => "value".to_owned(),
            };
            *meeting.linked.entry(word).or_default() += 1;
        }
        for held in &found.held {
            meeting.held += 1;
            meeting.duplicates += u64::from(held.duplicate);
            meeting.waiting.push(Waiting {
                id: held.id.clone(),
                why: held.why.clone(),
                candidates: held.candidates.iter().cloned().collect(),
            });
            let message = format!("the row {} in {store} is held: {}", held.id.0, held.why);
            work.said.push(Notice {
                kind: NoticeKind::Held,
                record: None,
                entity: Some(entity.name.clone()),
                store: Some(store.clone()),
                field: None,
                rule: None,
                about: Some(held.id.0.clone()),
                message,
            });
        }
        let count = meeting.held;
        if count > 0 {
            *work.rows.entry(store.clone()).or_default() += count;
            let books = work.settled.entry(store.clone()).or_default();
            books.seen += count;
            *books.standing.entry(Standing::Held).or_default() += count;
        }
        if meeting != Meeting::default() {
            work.meetings.insert(store.clone(), meeting);
        }
    }

    /// The stores with record ids of their own that an entity's records are related in, with what they are related to by key or stand in.
    pub(super) fn related(&self, entity: &Entity) -> Vec<(StoreName, Arc<Mapping>)> {
        let mappings = self.inputs.spec.mappings.get(&entity.name);
        let own = mappings.into_iter().flatten().filter(|(_, mapping)| {
            mapping.own_ids && (mapping.embedded().is_some() || mapping.key_relations().next().is_some())
        });
        own.map(|(store, mapping)| (store.clone(), mapping.clone())).collect()
    }

    /// What a record is related to in a store, as far as that has to be there for the record to be.
    fn parents(
        &self,
        mapping: &Mapping,
        entry: (&Observed, Option<&Entry>),
    ) -> Vec<(EntityName, Option<RecordKey>)> {
        let (observed, entry) = entry;
        if let Some(embedded) = mapping.embedded() {
            let resolved = entry.and_then(|entry| entry.resolution.fields.get(&embedded.reference)).cloned();
            let value = resolved.or_else(|| self.held(observed, embedded.reference));
            return vec![(embedded.parent.clone(), value.as_ref().and_then(Value::to_key))];
        }
        let parts = mapping.key_relations().map(|(part, target)| {
            let key = observed.key.parts().get(part).map(|text| RecordKey::new(vec![text.clone()]));
            (target.clone(), key)
        });
        parts.collect()
    }

    /// A field as the canonical store has it, or else any store.
    fn held(&self, observed: &Observed, field: crate::model::FieldId) -> Option<Value> {
        let of = |presence: &Presence| presence.row()?.fields.get(&field)?.value().cloned();
        let canonical = observed.presences.get(&self.inputs.spec.canonical).and_then(of);
        canonical.or_else(|| observed.presences.values().find_map(of))
    }

    /// Where it is not known whether the store has what a record stands in, it is not known whether it has the record.
    pub(super) fn doubt_homeless(&mut self, entity: &Entity, observed: &mut Observed) {
        for (store, mapping) in self.related(entity) {
            let unsure = self.parents(&mapping, (observed, None)).into_iter().find_map(|(target, key)| {
                let homes = self.work.get(&target).map(|work| &work.homes);
                key.zip(homes).and_then(|(key, homes)| homes.unsure.get(&(store.clone(), key)).copied())
            });
            if let (Some(why), Some(presence)) = (unsure, observed.presences.get_mut(&store)) {
                let row = std::mem::replace(presence, Presence::Unknown(why));
                // The store has it all the same.
                if row.row().is_some() {
                    let work = self.work.entry(entity.name.clone()).or_default();
                    *work.rows.entry(store).or_default() += 1;
                }
            }
        }
    }

    /// Whether a store has no field any more in which an element would stand, or stood.
    fn has_lost_its_field(
        &self,
        entity: &Entity,
        entry: &Entry,
        store: &StoreName,
        mapping: &Mapping,
    ) -> bool {
        let lost = self.work.get(&entity.name).and_then(|work| work.homes.lost_kinds.get(store));
        let (Some(lost), Some(embedded)) = (lost, mapping.embedded()) else { return false };
        let says = entry.resolution.fields.get(&embedded.kind).cloned();
        let says = says.or_else(|| self.held(&entry.observed, embedded.kind));
        let shadow = entry.observed.memory.as_ref().and_then(|memory| memory.stores.get(store));
        let stood = shadow.and_then(|shadow| ElementId::parse(shadow.store_id.as_ref()?));
        says.as_ref().and_then(Value::as_text).is_some_and(|kind| lost.contains(kind))
            || stood.is_some_and(|stood| lost.contains(&stood.kind))
    }

    /// The stores that lack what a record stands in or is joined by, or have it in another row than before; none where all is as it was
    /// thought to be.
    pub(super) fn without_home(&self, entity: &Entity, entry: &Entry) -> Option<Overrides> {
        let (mut away, mut anew, mut blind) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (store, mapping) in self.related(entity) {
            let presence = entry.observed.presences.get(&store);
            if matches!(presence, Some(Presence::Unknown(_)) | None) {
                continue;
            }
            let shadow = entry.observed.memory.as_ref().and_then(|memory| memory.stores.get(&store));
            let shadow = shadow.filter(|shadow| shadow.present);
            let stood = shadow.and_then(|shadow| ElementId::parse(shadow.store_id.as_ref()?));
            let stood = stood.filter(|_| mapping.embedded().is_some()).map(|stood| stood.parent);
            let (mut lacks, mut moved) = (false, false);
            for (target, key) in self.parents(&mapping, (&entry.observed, Some(entry))) {
                let homes = self.work.get(&target).map(|work| &work.homes);
                let home =
                    key.zip(homes).and_then(|(key, homes)| homes.there.get(&(store.clone(), key)).cloned());
                lacks |= home.is_none();
                let row = home.flatten();
                moved |= row.is_none() || stood.as_ref().is_some_and(|stood| row.as_ref() != Some(stood));
            }
            let absent = presence == Some(&Presence::Absent);
            if absent && self.has_lost_its_field(entity, entry, &store, &mapping) {
                blind.insert(store.clone());
                away.insert(store);
            } else if lacks {
                away.insert(store);
            } else if moved && shadow.is_some() && absent {
                anew.insert(store);
            }
        }
        let some = !away.is_empty() || !anew.is_empty();
        some.then(|| Overrides { away, anew, blind, ..entry.overrides.clone() })
    }

    /// Keeps, in stores with record ids of their own, what would leave with a record that is not let go after all.
    pub(super) fn keep_homes(&mut self, stopped: &BTreeSet<EntityName>) {
        let entities = self.inputs.spec.entities.clone();
        let mut waiting = Vec::new();
        for entity in entities.iter().filter(|entity| !stopped.contains(&entity.name)) {
            let related = self.related(entity);
            let kept = self.work.get(&entity.name).map(|work| work.kept.as_slice()).unwrap_or_default();
            let away = kept.iter().filter(|kept| {
                !related.is_empty()
                    && kept.overrides.as_ref().is_some_and(|overrides| !overrides.away.is_empty())
            });
            for kept in away {
                match self.entry(entity, kept) {
                    Ok(entry) if self.leaves_too_early(&related, &entry, stopped) => {
                        waiting.push(RecordId { entity: entity.name.clone(), key: entry.observed.key });
                    }
                    Ok(_) => {}
                    Err(lost) => {
                        self.lost.get_or_insert(lost);
                        return;
                    }
                }
            }
        }
        for id in waiting {
            self.reconsider(&id, |overrides| overrides.wait = true);
        }
    }

    /// Whether a row would go because one goes that is kept for now.
    fn leaves_too_early(
        &self,
        related: &[(StoreName, Arc<Mapping>)],
        entry: &Entry,
        stopped: &BTreeSet<EntityName>,
    ) -> bool {
        let goes = |store: &StoreName| {
            let side = entry.sides.iter().find(|side| side.store == *store);
            side.and_then(Outline::kind) == Some(ActionKind::Delete)
        };
        let kept = |(target, key): (EntityName, Option<RecordKey>)| {
            let waits = |key| self.work.get(&target).is_some_and(|work| work.waits(&key));
            stopped.contains(&target) || key.is_some_and(waits)
        };
        entry.resolution.fate == Fate::Alive
            && related.iter().any(|(store, mapping)| {
                goes(store) && self.parents(mapping, (&entry.observed, Some(entry))).into_iter().any(kept)
            })
    }

    /// Notes where a record is or will be, and which value it has in its parent.
    ///
    /// True when what becomes of it hangs on others of its parent, although nothing is to be done about it by itself.
    pub(super) fn note_homes(&mut self, entity: &Entity, entry: &Entry) -> bool {
        let spec = self.inputs.spec.clone();
        let Some(mappings) = spec.mappings.get(&entity.name) else { return false };
        let mut odd = false;
        let key = &entry.observed.key;
        let mut homes = std::mem::take(&mut self.work.entry(entity.name.clone()).or_default().homes);
        for (store, mapping) in mappings.iter().filter(|(_, mapping)| mapping.own_ids) {
            let side = entry.sides.iter().find(|side| side.store == *store);
            let action = side.and_then(Outline::kind);
            let here = (store.clone(), key.clone());
            match entry.observed.presences.get(store) {
                presence @ Some(Presence::Present(row)) if action != Some(ActionKind::Delete) => {
                    let shadow = entry.observed.memory.as_ref().and_then(|memory| memory.stores.get(store));
                    let other = shadow
                        .is_some_and(|shadow| shadow.present && is_other_row(mapping, shadow, presence));
                    homes.there.insert(here, row.store_id.clone().filter(|_| !other));
                }
                Some(Presence::Absent) if action == Some(ActionKind::Create) => {
                    homes.there.insert(here, None);
                }
                Some(Presence::Unknown(why)) => {
                    homes.unsure.insert(here, *why);
                }
                _ => {}
            }
            let Some(embedded) = mapping.embedded() else { continue };
            let fields = &entry.resolution.fields;
            let text = |field| fields.get(&field).and_then(Value::plain_text).map(Cow::into_owned);
            let wanted = (text(embedded.reference), text(embedded.kind), text(embedded.value));
            let (Some(parent), Some(kind), Some(value)) = wanted else { continue };
            let (Some(normal), Some(side)) = (embedded.normal(&kind, &value), side) else { continue };
            if entry.resolution.fate != Fate::Alive || action == Some(ActionKind::Delete) {
                continue;
            }
            let row = entry.observed.presences.get(store).and_then(Presence::row);
            let stands = row.and_then(|row| ElementId::parse(row.store_id.as_ref()?));
            let same = stands.is_some_and(|stands| stands.kind == kind && stands.normal == normal);
            if row.is_some() || side.act.is_some() {
                if let Some(field) = embedded.places.get(&kind).and_then(|place| place.primary) {
                    let name = entity.field(field).name.as_str();
                    let one = Candidate::of(entry, &spec.canonical, store, field, name);
                    odd |= one.is_odd();
                    homes.firsts.entry((store.clone(), parent.clone(), kind.clone())).or_default().push(one);
                }
                let place = (store.clone(), parent, kind, normal);
                homes.elements.entry(place).or_default().push((same, key.clone()));
            }
        }
        if let Some(work) = self.work.get_mut(&entity.name) {
            work.homes = homes;
        }
        odd
    }

    /// Of several records that have one value in one parent, a store holds one: the one that is there, or the first.
    pub(super) fn settle_collapsed(&mut self) -> BTreeSet<(RecordId, StoreName)> {
        let mut collapsed: BTreeSet<(RecordId, StoreName)> = BTreeSet::new();
        for (entity, work) in &self.work {
            for ((store, ..), who) in work.homes.elements.iter().filter(|(_, who)| who.len() > 1) {
                let stays = who.iter().filter(|(same, _)| *same).map(|(_, key)| key).min();
                let stays = stays.or_else(|| who.iter().map(|(_, key)| key).min());
                for (_, key) in who.iter().filter(|(_, key)| Some(key) != stays) {
                    let id = RecordId { entity: entity.clone(), key: key.clone() };
                    collapsed.insert((id, store.clone()));
                }
            }
        }
        for (id, store) in &collapsed {
            self.reconsider(id, |overrides| {
                overrides.collapsed.insert(store.clone());
            });
        }
        collapsed
    }
}
