//! Looking at what changed: where every store of an entity can say what changed since it was last brought up to date, only that is read, and
//! the records that were not in order.
//!
//! What is not looked at is as it was, and was in order: it only counts. Whenever that cannot be said for certain (a store cannot tell,
//! something was deleted that others may refer to, a value may only be had once), everything is read instead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::{BoxFuture, join, join_all, try_join_all};
use futures_util::stream::{self, FuturesOrdered};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};

use crate::model::{
    ByStore, Certificate, DeletePolicy, Entity, EntityName, FieldRef, Marks, Memory, Presence, RecordKey,
    StoreError, StoreMark, StoreName, Unknown,
};
use crate::plan::{Observed, Planner, SnapshotReport};
use crate::state::{Pages, StateError};
use crate::store::{Changes, LazyRow};
use crate::telemetry::Event;

use super::aside;
use super::observe::Sight;
use super::thoughts::Thoughts;

/// Changed rows that are held at a time; when there are more, everything is read in the order of keys instead.
const MOST_CHANGED: usize = 100_000;

/// Records that are asked for at a time.
const KEYS_PER_READ: usize = 1_000;

/// Pieces of those that are asked for before their turn.
const PIECES_AHEAD: usize = 2;

/// What a store has of some records, and what went wrong.
type Looked<'k> = (Vec<(&'k RecordKey, Presence)>, Option<StoreError>);

/// What is remembered of some records, or why that cannot be told.
type Remembered = Result<BTreeMap<RecordKey, Memory>, String>;

/// Rows that changed, as the stores where they did have them now.
type ChangedRows = BTreeMap<RecordKey, ByStore<LazyRow>>;

/// The stores that have a record.
type Places = BTreeMap<RecordKey, Vec<StoreName>>;

/// What changed in an entity.
pub(super) struct Changed {
    entity: Arc<Entity>,
    before: Marks,
    after: BTreeMap<StoreName, StoreMark>,
    counts: BTreeMap<StoreName, u64>,
    rows: ChangedRows,
    vanished: BTreeMap<RecordKey, BTreeSet<StoreName>>,
    /// Records that are looked at whether or not they changed.
    called: BTreeSet<RecordKey>,
    /// The stores that are remembered to have a record, of those at hand. What else is remembered of them is read when their turn comes: of
    /// all at once it would fill the memory.
    there: Places,
    /// Whether a delete may be waiting for a store.
    deletes: bool,
}

impl Changed {
    /// Whether a store is remembered to have a record.
    fn is_there(&self, key: &RecordKey, store: &StoreName) -> bool {
        self.there.get(key).is_some_and(|stores| stores.contains(store))
    }
}

impl Sight<'_> {
    /// What changed in every entity of which that can be told for certain.
    pub(super) async fn changed(&self) -> Result<BTreeMap<EntityName, Changed>, String> {
        let spec = self.executor.spec;
        let mut found = BTreeMap::new();
        for entity in &spec.entities {
            // An entity that has to be read whole may take others with it: what they changed is not asked for then.
            if let Some(changed) = self.changed_in(entity).await? {
                found.insert(entity.name.clone(), changed);
            }
        }
        loop {
            let whole: Vec<EntityName> = found
                .keys()
                .filter(|name| spec.entity(name).is_some_and(|entity| self.needs_others(entity, &found)))
                .cloned()
                .collect();
            if whole.is_empty() {
                return Ok(found);
            }
            for name in whole {
                found.remove(&name);
            }
        }
    }

    /// Whether an entity has to be read whole because of another one, or of deletes that others may hang on.
    fn needs_others(&self, entity: &Entity, found: &BTreeMap<EntityName, Changed>) -> bool {
        let spec = self.executor.spec;
        let refers = entity.references.iter().map(|reference| &reference.to);
        let referring = spec
            .entities
            .iter()
            .filter(|other| other.references.iter().any(|reference| reference.to == entity.name));
        let connected = refers.chain(referring.map(|other| &other.name));
        let deletes = found.get(&entity.name).is_some_and(|changed| changed.deletes);
        connected.into_iter().any(|other| !found.contains_key(other))
            || (deletes && spec.is_hung_on(&entity.name))
    }

    async fn changed_in(&self, entity: &Arc<Entity>) -> Result<Option<Changed>, String> {
        let executor = self.executor;
        // A value that only one record may have is looked for among all of them.
        if self.opened.rebuild || self.whole || entity.fields.iter().any(|field| field.unique) {
            return Ok(None);
        }
        let marks = executor.state.marks(&entity.name).await.map_err(|error| error.to_string())?;
        let stores = executor.spec.stores_of(&entity.name);
        let Some(marks) = marks.filter(|marks| {
            marks.spec == executor.spec.sha && stores.iter().all(|store| marks.stores.contains_key(store))
        }) else {
            return Ok(None);
        };
        let rows = Mutex::new(ChangedRows::new());
        // A store that cannot be asked is named when everything is read.
        let asks: Vec<BoxFuture<'_, Result<Box<dyn Changes>, ()>>> = stores
            .iter()
            .map(|store| {
                let asked = self.ask(entity, &marks, store, &rows);
                asked.map(|look| look.ok().flatten().ok_or(())).boxed()
            })
            .collect();
        let Ok(looks) = try_join_all(asks).await else { return Ok(None) };
        let mut changed = Changed {
            entity: entity.clone(),
            called: self.called(entity, &marks),
            before: marks,
            after: BTreeMap::new(),
            counts: BTreeMap::new(),
            rows: rows.into_inner().unwrap_or_else(PoisonError::into_inner),
            vanished: BTreeMap::new(),
            there: BTreeMap::new(),
            deletes: self
                .opened
                .ledger
                .tombstones
                .iter()
                .any(|(id, tombstone)| id.entity == entity.name && tombstone.is_pending()),
        };
        let wanted: Vec<RecordKey> = changed.rows.keys().chain(&changed.called).cloned().collect();
        changed.there = self.remember(entity, &wanted).await?;
        for (store, mut look) in stores.iter().zip(looks) {
            if !self.count(&mut changed, store, look.as_mut()).await? {
                return Ok(None);
            }
        }
        changed.deletes |= !changed.vanished.is_empty();
        Ok(Some(changed))
    }

    /// Records that are looked at whether or not they changed.
    fn called(&self, entity: &Entity, marks: &Marks) -> BTreeSet<RecordKey> {
        let opened = self.opened;
        let conflicts = opened.ledger.conflicts.keys();
        let tombstones = opened.ledger.tombstones.iter();
        let pending = tombstones.filter(|(_, tombstone)| tombstone.is_pending()).map(|(id, _)| id);
        let unresolved = opened.unresolved.iter().map(|(id, _)| id);
        let all = conflicts.chain(pending).chain(unresolved).chain(opened.overlay.keys());
        let of_entity = all.filter(|id| id.entity == entity.name).map(|id| id.key.clone());
        of_entity.chain(marks.unsettled.iter().cloned()).collect()
    }

    /// Asks a store what changed. None when it cannot say, or when that is too much, what the others said included.
    async fn ask(
        &self,
        entity: &Entity,
        marks: &Marks,
        store: &StoreName,
        changed: &Mutex<ChangedRows>,
    ) -> Result<Option<Box<dyn Changes>>, StoreError> {
        let mapped = self.executor.mapped(&entity.name, store)?;
        let Some(before) = marks.stores.get(store) else { return Ok(None) };
        let Some(mut look) = self.executor.store(store)?.changes(&mapped, &before.mark).await? else {
            return Ok(None);
        };
        while let Some(rows) = look.rows().await? {
            let count = rows.len() as u64;
            self.executor.observer.notice(&Event::RowsRead { entity: &entity.name, store, rows: count });
            let mut changed = changed.lock().unwrap_or_else(PoisonError::into_inner);
            for row in rows {
                changed.entry(row.key().clone()).or_default().insert(store.clone(), row);
            }
            if changed.len() > MOST_CHANGED {
                return Ok(None);
            }
        }
        Ok(Some(look))
    }

    /// The stores that are remembered to have some records.
    async fn remember(&self, entity: &Entity, keys: &[RecordKey]) -> Result<Places, String> {
        let state = self.executor.state;
        let asks: Vec<BoxFuture<'_, _>> =
            keys.chunks(KEYS_PER_READ).map(|keys| state.places(entity, keys).boxed()).collect();
        let found: Result<Vec<Places>, _> = stream::iter(asks).buffered(PIECES_AHEAD).try_collect().await;
        let found = found.map_err(|error| error.to_string())?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Finds the rows that are gone: where a stretch of keys has fewer rows than it had, with those that came. False when that
    /// cannot be told.
    async fn count(
        &self,
        changed: &mut Changed,
        store: &StoreName,
        look: &mut dyn Changes,
    ) -> Result<bool, String> {
        let Some(before) = changed.before.stores.get(store) else { return Ok(false) };
        let mut rows = before.rows.clone();
        let mut doubtful = BTreeSet::new();
        for (key, _) in changed.rows.iter().filter(|(_, rows)| rows.contains_key(store)) {
            if !changed.is_there(key, store) {
                rows.change(key, 1);
            }
            // It was not in order: whether its row was counted before cannot be told from what is remembered.
            if changed.called.contains(key) {
                doubtful.insert(rows.place(key));
            }
        }
        if rows.are_worn() {
            return Ok(false);
        }
        if rows.total() != look.count() || !doubtful.is_empty() {
            let bounds = rows.bounds();
            let Ok(counts) = look.counts(&bounds).await else { return Ok(false) };
            let expected: Vec<u64> = rows.counts().collect();
            for (place, count) in counts.iter().enumerate() {
                if expected.get(place) != Some(count) || doubtful.contains(&place) {
                    let from = place.checked_sub(1).and_then(|before| bounds.get(before));
                    let to = bounds.get(place);
                    let Ok(keys) = look.keys(from, to).await else { return Ok(false) };
                    if !self.find_vanished(changed, store, (from, to), &keys.into_iter().collect()).await? {
                        return Ok(false);
                    }
                    rows.set(place, *count);
                }
            }
        }
        changed.counts.insert(store.clone(), look.count());
        changed.after.insert(store.clone(), StoreMark { mark: look.mark(), rows });
        Ok(true)
    }

    /// Compares the keys of a stretch with what is remembered of it. False when there is one that nobody knows of and no look found: what
    /// the store says of its changes is not all, as after it was put back.
    async fn find_vanished(
        &self,
        changed: &mut Changed,
        store: &StoreName,
        (from, to): (Option<&RecordKey>, Option<&RecordKey>),
        keys: &BTreeSet<RecordKey>,
    ) -> Result<bool, String> {
        let found = |key: &RecordKey| changed.rows.get(key).is_some_and(|rows| rows.contains_key(store));
        let mut strange: BTreeSet<&RecordKey> =
            keys.iter().filter(|key| !found(key) && !changed.called.contains(*key)).collect();
        let state = self.executor.state;
        let failed = |error: StateError| error.to_string();
        let entity = changed.entity.clone();
        let mut pages = Pages::new(state.as_ref(), &entity, KEYS_PER_READ).after(from.cloned());
        let mut page: Vec<(RecordKey, Memory)> = match from {
            Some(first) => {
                let found = state.recall(&entity, std::slice::from_ref(first)).await.map_err(failed)?;
                found.into_iter().collect()
            }
            None => Vec::new(),
        };
        loop {
            for (key, memory) in page {
                if to.is_some_and(|to| key >= *to) {
                    return Ok(strange.is_empty());
                }
                if present(Some(&memory), store) && !strange.remove(&key) && !keys.contains(&key) {
                    changed.vanished.entry(key.clone()).or_default().insert(store.clone());
                    changed.there.insert(key, memory.places());
                }
            }
            match pages.next_page().await.map_err(failed)? {
                Some(next) => page = next,
                None => return Ok(strange.is_empty()),
            }
        }
    }

    /// Feeds what changed to the planner, and counts the rest. Gives where the stores stand now, if that is any news.
    pub(super) async fn feed_changed(
        &self,
        changed: Changed,
        planner: &mut Planner,
    ) -> Result<Option<Marks>, String> {
        let entity = Arc::clone(&changed.entity);
        let stores = self.executor.spec.stores_of(&entity.name);
        let mut seen: BTreeMap<StoreName, u64> = BTreeMap::new();
        let mut errors: BTreeMap<StoreName, StoreError> = BTreeMap::new();
        let keys: BTreeSet<&RecordKey> =
            changed.rows.keys().chain(changed.vanished.keys()).chain(&changed.called).collect();
        let quiet = changed.rows.is_empty() && changed.vanished.is_empty();
        let keys: Vec<&RecordKey> = keys.into_iter().collect();
        let mut thoughts = Thoughts::new(&entity, planner);
        let mut looks = FuturesOrdered::new();
        let mut pieces = keys.chunks(KEYS_PER_READ);
        loop {
            // While some are being considered, the next ones are read.
            while looks.len() < PIECES_AHEAD
                && let Some(keys) = pieces.next()
            {
                looks.push_back(self.look_at(&changed, &stores, keys));
            }
            let Some((looks, memories)) = looks.next().await else { break };
            let mut presences: BTreeMap<&RecordKey, ByStore<Presence>> = BTreeMap::new();
            let mut memories = memories?;
            for (store, (known, error)) in stores.iter().zip(looks) {
                errors.extend(error.map(|error| (store.clone(), error)));
                for (key, presence) in known {
                    *seen.entry(store.clone()).or_default() += u64::from(presence.row().is_some());
                    let presence = self.doubt(&entity, key, store, presence);
                    presences.entry(key).or_default().insert(store.clone(), presence);
                }
            }
            self.note_parents(&entity, &presences, planner).await?;
            for (key, presences) in presences {
                let memory = self.overlaid(&entity, key, memories.remove(key));
                thoughts.take(planner, Observed { key: key.clone(), memory, presences }.into()).await;
            }
        }
        drop(looks);
        thoughts.end(planner).await;
        let mut reports = BTreeMap::new();
        for store in &stores {
            let rows = changed.counts.get(store).copied().unwrap_or(0);
            let rest = rows.saturating_sub(seen.get(store).copied().unwrap_or(0));
            planner.add_settled(&entity.name, store, rest);
            let certificate = Certificate {
                rows_claimed: rows,
                rows_read: rows,
                end_seen: true,
                mark: changed.after.get(store).map(|after| after.mark.clone()),
                ..Certificate::default()
            };
            let error = errors.get(store).map(ToString::to_string);
            reports.insert(
                store.clone(),
                SnapshotReport { certificate: Some(certificate), error, paused: false },
            );
        }
        planner.end_entity(&entity, reports);
        let news = !quiet || !changed.before.unsettled.is_empty();
        let marks = Marks { stores: changed.after, ..changed.before };
        Ok((news && errors.is_empty()).then_some(marks))
    }

    /// What all stores have of some records, and what is remembered of them.
    fn look_at<'k>(
        &'k self,
        changed: &'k Changed,
        stores: &'k [StoreName],
        keys: &'k [&'k RecordKey],
    ) -> BoxFuture<'k, (Vec<Looked<'k>>, Remembered)> {
        let looks = join_all(stores.iter().map(|store| self.presences(changed, store, keys)));
        let wanted = keys.iter().map(|key| (*key).clone()).collect();
        join(looks, self.recall(&changed.entity, wanted)).boxed()
    }

    /// What is remembered of some records.
    async fn recall(&self, entity: &Arc<Entity>, keys: Vec<RecordKey>) -> Remembered {
        let (state, entity) = (Arc::clone(self.executor.state), Arc::clone(entity));
        let memories = aside(async move { state.recall(&entity, &keys).await }).await;
        memories.map_err(|error| error.to_string())
    }

    /// What a store has of some records: as it said itself, or as it says when asked.
    async fn presences<'k>(
        &self,
        changed: &Changed,
        store: &StoreName,
        keys: &[&'k RecordKey],
    ) -> Looked<'k> {
        let mut known: Vec<(&RecordKey, Presence)> = Vec::new();
        let mut asked: Vec<&RecordKey> = Vec::new();
        for key in keys {
            let row = changed.rows.get(*key).and_then(|rows| rows.get(store));
            let gone = changed.vanished.get(*key).is_some_and(|stores| stores.contains(store));
            match row {
                Some(row) => known.push((key, Presence::Present(row.row()))),
                None if gone => known.push((key, Presence::Absent)),
                None if changed.called.contains(*key) || changed.is_there(key, store) => {
                    asked.push(key);
                }
                // It was not there, and nothing came.
                None => known.push((key, Presence::Absent)),
            }
        }
        let wanted: Vec<RecordKey> = asked.iter().map(|key| (*key).clone()).collect();
        let read = if wanted.is_empty() {
            Ok(BTreeMap::new())
        } else {
            self.executor.read(store, &changed.entity.name, &wanted).await
        };
        match read {
            Ok(mut rows) => {
                known.extend(
                    asked.into_iter().map(|key| {
                        (key, rows.remove(key).unwrap_or(Presence::Unknown(Unknown::Unreachable)))
                    }),
                );
                (known, None)
            }
            Err(error) => {
                self.executor.tell_failure(&error);
                let unknown = |key| (key, Presence::Unknown(Unknown::Unreachable));
                known.extend(asked.into_iter().map(unknown));
                (known, Some(error))
            }
        }
    }

    /// Tells the planner which of the records that these refer to are there: those that did not change it does not see.
    /// Gives those that nobody knows, and those that a store may have to be given first.
    pub(super) async fn note_parents(
        &self,
        entity: &Entity,
        presences: &BTreeMap<&RecordKey, ByStore<Presence>>,
        planner: &mut Planner,
    ) -> Result<BTreeSet<RecordKey>, String> {
        let spec = self.executor.spec;
        let mut unknown = BTreeSet::new();
        for reference in &entity.references {
            let Some(parent) = spec.entity(&reference.to) else { continue };
            let mappings = || spec.mappings.get(&parent.name).into_iter().flatten();
            let everywhere = |stores: &[StoreName]| {
                parent.deletes == DeletePolicy::Ignore
                    || mappings().all(|(store, mapping)| {
                        let written = spec.stores.get(store).is_none_or(|store| !store.read_only);
                        !written || mapping.scope.is_some() || mapping.own_ids || stores.contains(store)
                    })
            };
            let mut keys: BTreeSet<RecordKey> = BTreeSet::new();
            for (key, stores) in presences {
                match reference.from {
                    FieldRef::Key(part) => {
                        keys.extend(key.parts().get(part).map(|text| RecordKey::new(vec![text.clone()])));
                    }
                    FieldRef::Field(field) => {
                        let cells = stores.values().filter_map(|presence| presence.row()?.fields.get(&field));
                        keys.extend(cells.filter_map(|cell| cell.value()?.to_key()));
                    }
                }
            }
            let keys: Vec<RecordKey> = keys.into_iter().collect();
            for keys in keys.chunks(KEYS_PER_READ) {
                let found =
                    self.executor.state.places(parent, keys).await.map_err(|error| error.to_string())?;
                let late = found.iter().filter(|(_, stores)| !everywhere(stores));
                unknown.extend(late.map(|(key, _)| key.clone()));
                let there = found.into_iter().filter(|(_, stores)| stores.contains(&spec.canonical));
                let there: BTreeSet<RecordKey> = there.map(|(key, _)| key).collect();
                unknown.extend(keys.iter().filter(|key| !there.contains(*key)).cloned());
                planner.add_alive(&parent.name, there);
            }
        }
        Ok(unknown)
    }
}

/// Whether a store is remembered to have the record.
pub(super) fn present(memory: Option<&Memory>, store: &StoreName) -> bool {
    memory.and_then(|memory| memory.stores.get(store)).is_some_and(|shadow| shadow.present)
}
