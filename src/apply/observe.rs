//! Looking at everything: the stores' ordered snapshots and the state's memories, joined by key as they stream by.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::model::{
    Certificate, Entity, EntityName, ErrorKind, Marks, Memory, Presence, RecordId, RecordKey, StoreError,
    StoreMark, StoreName, Stray, Stretches, Unknown,
};
use crate::plan::{Planner, SnapshotReport};
use crate::reconcile::Opened;
use crate::state::{PAGE, Pages};
use crate::store::{LazyRow, SnapshotItem, SnapshotStream};
use crate::telemetry::Event;

use super::Executor;
use super::gather::Gathered;
use super::thoughts::{Glimpse, Seen, Thoughts};

/// A pass's view of everything.
pub struct Sight<'a> {
    /// What runs effects.
    pub executor: &'a Executor<'a>,
    /// What the opening found.
    pub opened: &'a Opened,
    /// Whether everything is read, also where the stores could say what changed.
    pub whole: bool,
}

impl Sight<'_> {
    /// Feeds the planner with every entity: with what changed, where that can be told, and with every record elsewhere. Gives where the
    /// stores of entities stood, where everything about them is known.
    ///
    /// # Errors
    /// When the state cannot be read. A store that cannot be read is no error: its records are unknown.
    pub async fn feed(&self, planner: &mut Planner) -> Result<BTreeMap<EntityName, Marks>, String> {
        let mut gathered = self.gather().await?;
        let mut changed = self.changed().await?;
        let mut marks = BTreeMap::new();
        for entity in &self.executor.spec.entities {
            let stand = match changed.remove(&entity.name) {
                Some(changed) => self.feed_changed(changed, planner).await?,
                None => self.feed_entity(entity, planner, &mut gathered).await?,
            };
            marks.extend(stand.map(|stand| (entity.name.clone(), stand)));
        }
        Ok(marks)
    }

    async fn feed_entity(
        &self,
        entity: &Arc<Entity>,
        planner: &mut Planner,
        gathered: &mut Gathered,
    ) -> Result<Option<Marks>, String> {
        let mut cursors = Vec::new();
        for store in self.executor.spec.stores_of(&entity.name) {
            match gathered.cursor(self.executor, entity, &store) {
                Some((cursor, found)) => {
                    cursors.push(cursor);
                    planner.meet(entity, &store, &found);
                }
                None => cursors.push(Cursor::open(self.executor, entity, store).await),
            }
        }
        let mut memories = Memories::new(self, entity);
        memories.fill().await?;
        for cursor in &mut cursors {
            cursor.fill(self.executor, entity).await;
        }
        let tells = planner.tells_alike(entity);
        let mut thoughts = Thoughts::new(entity, planner);
        loop {
            let next = cursors.iter().filter_map(Cursor::key).chain(memories.key()).min().cloned();
            let Some(key) = next else { break };
            let memory = memories.take(&key).await?;
            let rows: Vec<Option<LazyRow>> = cursors.iter_mut().map(|cursor| cursor.next_of(&key)).collect();
            if let (Some(tells), None, false) = (&tells, &memory, self.opened.has_more(entity, &key))
                && let Some(first) = alike(&rows)
                && planner.add_alike(entity, &first.row_with(|field| tells.contains(&field)))
            {
                for cursor in &mut cursors {
                    cursor.fill(self.executor, entity).await;
                }
                continue;
            }
            let mut seen = Seen { memory: self.overlaid(entity, &key, memory), key, presences: Vec::new() };
            for (row, cursor) in rows.into_iter().zip(&mut cursors) {
                let presence = match row {
                    Some(row) => Glimpse::Row(row),
                    None => Glimpse::Known(cursor.without(&seen.key)),
                };
                let presence = if self.is_doubted(entity, &seen.key, &cursor.store) {
                    Glimpse::Known(Presence::Unknown(Unknown::Unreachable))
                } else {
                    presence
                };
                seen.presences.push((cursor.store.clone(), presence));
                cursor.fill(self.executor, entity).await;
            }
            thoughts.take(planner, seen).await;
        }
        thoughts.end(planner).await;
        let mut stores: BTreeMap<StoreName, StoreMark> = BTreeMap::new();
        let mut reports = BTreeMap::new();
        for cursor in &mut cursors {
            let rows = std::mem::take(&mut cursor.stretches);
            let mark = cursor.certificate.as_ref().filter(|certificate| certificate.is_complete());
            let mark =
                mark.filter(|_| cursor.error.is_none()).and_then(|certificate| certificate.mark.clone());
            stores.extend(mark.map(|mark| (cursor.store.clone(), StoreMark { mark, rows })));
        }
        let all_told = stores.len() == cursors.len();
        reports.extend(cursors.into_iter().map(|cursor| (cursor.store.clone(), cursor.report())));
        planner.end_entity(entity, reports);
        let spec = self.executor.spec.sha.clone();
        Ok(all_told.then(|| Marks { spec, stores, unsettled: BTreeSet::new() }))
    }

    /// A record with a write of which nobody knows what became of it is not known in that store.
    pub(super) fn doubt(
        &self,
        entity: &Entity,
        key: &RecordKey,
        store: &StoreName,
        presence: Presence,
    ) -> Presence {
        let doubted = self.is_doubted(entity, key, store);
        if doubted { Presence::Unknown(Unknown::Unreachable) } else { presence }
    }

    fn is_doubted(&self, entity: &Entity, key: &RecordKey, store: &StoreName) -> bool {
        if self.opened.unresolved.is_empty() {
            return false;
        }
        let id = RecordId { entity: entity.name.clone(), key: key.clone() };
        self.opened.unresolved.contains(&(id, store.clone()))
    }

    pub(super) fn overlaid(
        &self,
        entity: &Entity,
        key: &RecordKey,
        memory: Option<Memory>,
    ) -> Option<Memory> {
        if self.opened.overlay.is_empty() {
            return memory;
        }
        let id = RecordId { entity: entity.name.clone(), key: key.clone() };
        let Some(found) = self.opened.overlay.get(&id) else { return memory };
        let mut memory = memory.unwrap_or_default();
        memory.stores.extend(found.clone());
        Some(memory)
    }
}

/// The first of several rows, if all stores have one and they surely are equal.
fn alike(rows: &[Option<LazyRow>]) -> Option<&LazyRow> {
    let first = rows.first()?.as_ref()?;
    let same = |row: &Option<LazyRow>| row.as_ref().is_some_and(|row| row.surely_equals(first));
    rows.iter().skip(1).all(same).then_some(first)
}

/// The memories of an entity, a page at a time.
struct Memories<'a> {
    pages: Pages<'a>,
    page: VecDeque<(RecordKey, Memory)>,
}

impl<'a> Memories<'a> {
    fn new(sight: &'a Sight<'a>, entity: &'a Entity) -> Self {
        let pages = Pages::new(sight.executor.state.as_ref(), entity, PAGE);
        // A state that is lost or stale says nothing.
        let pages = if sight.opened.rebuild { pages.none() } else { pages };
        Self { pages, page: VecDeque::new() }
    }

    fn key(&self) -> Option<&RecordKey> {
        self.page.front().map(|(key, _)| key)
    }

    async fn fill(&mut self) -> Result<(), String> {
        if self.page.is_empty() {
            let next = self.pages.next_page().await.map_err(|error| error.to_string())?;
            self.page = next.unwrap_or_default().into();
        }
        Ok(())
    }

    async fn take(&mut self, key: &RecordKey) -> Result<Option<Memory>, String> {
        if self.key() != Some(key) {
            return Ok(None);
        }
        let memory = self.page.pop_front().map(|(_, memory)| memory);
        self.fill().await?;
        Ok(memory)
    }
}

/// A store's snapshot of an entity, as far as it has been read.
pub(super) struct Cursor {
    store: StoreName,
    stream: Option<SnapshotStream>,
    pub(super) rows: VecDeque<LazyRow>,
    pub(super) strays: Vec<Stray>,
    last: Option<RecordKey>,
    pub(super) certificate: Option<Certificate>,
    /// Keys that are known not to be known: two rows have them.
    doubled: BTreeSet<RecordKey>,
    /// Keys of which it is not known which row is theirs.
    doubtful: BTreeSet<RecordKey>,
    pub(super) error: Option<StoreError>,
    pub(super) began: bool,
    stretches: Stretches,
}

impl Cursor {
    fn new(store: StoreName) -> Self {
        Self {
            store,
            stream: None,
            rows: VecDeque::new(),
            strays: Vec::new(),
            last: None,
            certificate: None,
            doubled: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            error: None,
            began: false,
            stretches: Stretches::default(),
        }
    }

    /// Rows that were read before, in the order of their keys, and how that went.
    pub(super) fn of_rows(
        store: StoreName,
        rows: VecDeque<LazyRow>,
        doubtful: BTreeSet<RecordKey>,
        (certificate, error, began): (Option<Certificate>, Option<StoreError>, bool),
    ) -> Self {
        let doubled = certificate.iter().flat_map(|told| told.duplicate_keys.iter().cloned()).collect();
        Self { rows, certificate, doubled, doubtful, error, began, ..Self::new(store) }
    }

    pub(super) async fn open(executor: &Executor<'_>, entity: &Arc<Entity>, store: StoreName) -> Self {
        let mut cursor = Self::new(store);
        let opened = executor
            .store(&cursor.store)
            .and_then(|store| Ok((store, executor.mapped(&entity.name, &cursor.store)?)));
        let stream = match opened {
            Ok((store, mapped)) => store.snapshot(mapped).await,
            Err(error) => Err(error),
        };
        match stream {
            Ok(stream) => cursor.stream = Some(stream),
            Err(error) => cursor.fail(executor, error),
        }
        cursor
    }

    fn fail(&mut self, executor: &Executor<'_>, error: StoreError) {
        executor.tell_failure(&error);
        self.error = Some(error);
        self.stream = None;
        self.rows.clear();
    }

    fn key(&self) -> Option<&RecordKey> {
        self.rows.front().map(LazyRow::key)
    }

    /// Reads on, until there is a row or the end.
    pub(super) async fn fill(&mut self, executor: &Executor<'_>, entity: &Entity) {
        while self.rows.is_empty() {
            let Some(stream) = &mut self.stream else { return };
            match stream.recv().await {
                Some(Ok(SnapshotItem::Rows(rows))) => {
                    self.began = true;
                    let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
                    executor.observer.notice(&Event::RowsRead {
                        entity: &entity.name,
                        store: &self.store,
                        rows: count,
                    });
                    if !self.ascends(&rows) {
                        let message =
                            format!("the rows of `{}` did not come in the order of their keys", entity.name);
                        self.fail(executor, StoreError::new(ErrorKind::Corrupt, &self.store, message));
                        return;
                    }
                    self.rows = rows.into();
                }
                Some(Ok(SnapshotItem::Strays(strays))) => self.strays.extend(strays),
                Some(Ok(SnapshotItem::End(certificate))) => {
                    self.doubled = certificate.duplicate_keys.iter().cloned().collect();
                    self.certificate = Some(certificate);
                    self.stream = None;
                }
                Some(Err(error)) => self.fail(executor, error),
                // The stream ended without its end: what was not read may be there.
                None => {
                    self.certificate = Some(Certificate::default());
                    self.stream = None;
                }
            }
        }
    }

    /// Whether the rows' keys rise strictly, from the last one on. Everything is joined on that.
    fn ascends(&mut self, rows: &[LazyRow]) -> bool {
        for row in rows {
            if self.last.as_ref().is_some_and(|last| last >= row.key()) {
                return false;
            }
            self.stretches.push(row.key());
            self.last = Some(row.key().clone());
        }
        true
    }

    /// The row of a key, if it is the next one.
    fn next_of(&mut self, key: &RecordKey) -> Option<LazyRow> {
        self.rows.pop_front_if(|row| row.key() == key)
    }

    /// What is known of a key that has no row.
    fn without(&self, key: &RecordKey) -> Presence {
        match &self.error {
            Some(_) => Presence::Unknown(Unknown::Unreachable),
            None if self.doubtful.contains(key) => Presence::Unknown(Unknown::Unidentified),
            None if self.doubled.contains(key) => Presence::Unknown(Unknown::DuplicateKey),
            None => Presence::Absent,
        }
    }

    fn report(self) -> SnapshotReport {
        // A snapshot that broke off after some rows is incomplete: absences before that are doubtful as well.
        let broke_off = self.error.is_some() && self.began;
        SnapshotReport {
            certificate: if broke_off { Some(Certificate::default()) } else { self.certificate },
            error: self.error.map(|error| error.to_string()),
            paused: false,
        }
    }
}
