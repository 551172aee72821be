//! Runs the effects of the pass's machines against real stores and a real state.
//!
//! Nothing is decided here. What may be tried again is tried again: a batch that certainly did not happen and whose store says
//! that it cannot answer just now.

mod changed;
mod gather;
mod named;
mod observe;
mod spool;
mod thoughts;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::diff::ActionKind;
use crate::model::{
    Batch, BatchId, ByStore, EntityName, ErrorKind, Falls, Header, Intent, IntentId, Mapped, Outcome,
    Presence, RecordId, RecordKey, Row, StoreError, StoreName, Timestamp, Transition, Unknown, WriteOp,
};
use crate::plan::Observed;
use crate::reconcile::{Effect, Event, Excerpt, Lane, Ledger, LedgerContents, Machine, Rechecked, Worked};
use crate::spec::Spec;
use crate::state::State;
use crate::store::{LazyRow, SnapshotItem, Store};
use crate::telemetry::{self, Observer, WriteResult};

pub use observe::Sight;
pub use spool::Spool;

/// How often a batch is sent that certainly did not happen.
const ATTEMPTS: u32 = 4;
/// The wait before the second attempt, in milliseconds; each further one is twice as long.
const FIRST_WAIT_MS: u64 = 50;

/// An attempt that took so long is not repeated in the same pass.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(2);

/// Pieces of work on what comes next that go on at once, beside the effects.
const WORKS: usize = 2;

/// The stores of a spec, opened. One that could not be opened says so whenever it is used.
pub type Opened = BTreeMap<StoreName, Result<Arc<dyn Store>, StoreError>>;

/// Runs effects.
pub struct Executor<'a> {
    /// The manifests.
    pub spec: &'a Arc<Spec>,
    /// The stores.
    pub stores: &'a Opened,
    /// The state.
    pub state: &'a Arc<dyn State>,
    /// The system tables.
    pub ledger: &'a Ledger,
    /// Who is told.
    pub observer: &'a dyn Observer,
    /// Whether what is remembered counts for nothing.
    pub rebuild: bool,
    /// Lets so many effects run at once; none: all.
    pub gate: Option<tokio::sync::Semaphore>,
    /// The lease to keep while effects run; none for a mere plan.
    pub lease: Option<&'a KeptLease>,
    /// Stores that are left alone, and why.
    pub away: &'a BTreeMap<StoreName, String>,
    /// Whether records that are brought up are told with how long ago they were edited.
    pub latency: bool,
}

/// A lease that is renewed while work goes on.
pub struct KeptLease {
    /// Who holds it.
    pub holder: String,
    /// For how long at a time, in milliseconds.
    pub length_ms: u64,
    now: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    renewed: std::sync::Mutex<std::time::Instant>,
}

impl KeptLease {
    /// A lease that was just taken.
    pub fn new(holder: String, length_ms: u64, now: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { holder, length_ms, now, renewed: std::sync::Mutex::new(std::time::Instant::now()) }
    }

    /// Renews it once a third of it has passed.
    pub async fn keep(&self, state: &dyn State) -> Result<(), String> {
        {
            let mut renewed = self.renewed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if renewed.elapsed() < Duration::from_millis(self.length_ms / 3) {
                return Ok(());
            }
            *renewed = std::time::Instant::now();
        }
        let now = (self.now)();
        state
            .acquire(&self.holder, now, now.saturating_add_ms(self.length_ms))
            .await
            .map_err(|error| error.to_string())
    }
}

/// Runs something on a task of its own, beside what else is under way: it takes a processor, not only time. It ends with whoever waits
/// for it.
async fn aside<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let mut tasks = JoinSet::new();
    tasks.spawn(work);
    loop {
        match tasks.join_next().await {
            Some(Ok(done)) => return done,
            Some(Err(failed)) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            // The runtime goes down, and with it whoever waits.
            Some(Err(_)) | None => std::future::pending().await,
        }
    }
}

/// The present time.
pub fn clock() -> Timestamp {
    // Outside the years -9999 to 9999 there is no time; the epoch is the harmless one.
    Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()).unwrap_or(Timestamp::EPOCH)
}

impl<'a> Executor<'a> {
    /// Drives a machine to its end. While effects run, other threads work on what comes after them.
    pub async fn drive(&self, machine: &mut impl Machine) {
        let mut running: FuturesUnordered<BoxFuture<'_, (Lane, Event)>> = FuturesUnordered::new();
        let mut works: JoinSet<Worked> = JoinSet::new();
        let mut effects = machine.step(0, Event::Start);
        loop {
            for (lane, effect) in effects.drain(..) {
                running.push(Box::pin(async move { (lane, self.run(effect).await) }));
            }
            if running.is_empty() && works.is_empty() {
                return;
            }
            // Effects begin before anything else.
            let first = std::future::poll_fn(|context| Poll::Ready(running.poll_next_unpin(context))).await;
            if let Poll::Ready(Some((lane, event))) = first {
                effects = machine.step(lane, event);
                continue;
            }
            while works.len() < WORKS
                && let Some(work) = machine.prepare()
            {
                works.spawn_blocking(work);
            }
            tokio::select! {
                Some((lane, event)) = running.next() => effects = machine.step(lane, event),
                Some(done) = works.join_next() => match done {
                    Ok(worked) => effects = machine.prepared(worked),
                    Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
                    Err(_) => {}
                },
                else => return,
            }
        }
    }

    /// A store, or why it cannot be used.
    pub fn store(&self, name: &StoreName) -> Result<&'a Arc<dyn Store>, StoreError> {
        if let Some(why) = self.away.get(name) {
            return Err(StoreError::new(ErrorKind::Unavailable, name, why.clone()));
        }
        match self.stores.get(name) {
            Some(Ok(store)) => Ok(store),
            Some(Err(error)) => Err(error.clone()),
            None => Err(StoreError::new(ErrorKind::NotFound, name, "no manifest names this store")),
        }
    }

    /// Tells that a store failed; not of one that is left alone, for it was asked nothing.
    pub fn tell_failure(&self, error: &StoreError) {
        if !self.away.contains_key(&error.store) {
            let (store, kind, message) = (&error.store, error.kind, error.message.as_str());
            self.observer.notice(&telemetry::Event::StoreFailed { store, kind, message });
        }
    }

    /// An entity or system table in a store.
    pub fn mapped(&self, entity: &EntityName, store: &StoreName) -> Result<Mapped, StoreError> {
        if let Some(system) = self.ledger.all().into_iter().find(|mapped| mapped.name() == entity) {
            return Ok(system.clone());
        }
        self.spec.mapped(entity, store).ok_or_else(|| {
            StoreError::new(ErrorKind::NotFound, store, format!("`{entity}` is not mapped here"))
        })
    }

    async fn run(&self, effect: Effect) -> Event {
        // The gate is never closed, so there is nothing to handle.
        let _permit = match &self.gate {
            Some(gate) => gate.acquire().await.ok(),
            None => None,
        };
        match effect {
            Effect::LoadState => Event::State(self.load_state().await),
            Effect::LoadLedger => {
                let ledger = self.load_ledger().await;
                ledger.as_ref().err().into_iter().for_each(|error| self.tell_failure(error));
                Event::Ledger(ledger)
            }
            Effect::Receipts(batches) => Event::Receipts(self.receipts(&batches).await),
            Effect::Read { store, entity, keys } => {
                let rows = self.read(&store, &entity, &keys).await;
                Event::Rows { store, entity, rows }
            }
            Effect::Recheck(records) => Event::Rechecked(self.recheck(&records).await),
            Effect::ReadNative { store, entity, keys } => {
                let rows = self.read_native(&store, &entity, &keys).await;
                Event::Native { store, entity, rows }
            }
            Effect::Commit(transition) => Event::Committed(self.commit(transition).await),
            Effect::Write { store, entity, batch } => {
                let writes = batch.writes.len();
                let span = tracing::info_span!("batch", %store, %entity, writes);
                let outcomes = self.write(&store, &entity, Arc::new(batch)).instrument(span).await;
                Event::Wrote { store, outcomes }
            }
            Effect::WriteFalls { store, falls } => {
                let span = tracing::info_span!("falls", %store, falls = falls.falls.len());
                let outcomes = self.write_falls(&store, falls).instrument(span).await;
                Event::Wrote { store, outcomes }
            }
            Effect::ForgetReceipts(batches) => {
                if let Ok(store) = self.store(&self.spec.canonical) {
                    // Receipts that stay are small and do no harm; the next pass removes its own.
                    let _ = store.forget_receipts(&batches).await;
                }
                Event::ReceiptsForgotten
            }
        }
    }

    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        self.store(&self.spec.canonical)?.receipts(batches).await
    }

    async fn read_native(
        &self,
        store: &StoreName,
        entity: &EntityName,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError> {
        self.store(store)?.read_native(&self.mapped(entity, store)?, keys).await
    }

    async fn commit(&self, transition: Transition) -> Result<(), String> {
        if let Some(lease) = self.lease {
            lease.keep(&**self.state).await?;
        }
        let state = Arc::clone(self.state);
        aside(async move { state.commit(&transition).await }).await.map_err(|error| error.to_string())
    }

    async fn load_state(&self) -> Result<(Header, Vec<Intent>), String> {
        let header = self.state.header().await.map_err(|error| error.to_string())?;
        let intents = self.state.open_intents().await.map_err(|error| error.to_string())?;
        Ok((header, intents))
    }

    /// The rows of a system table.
    pub async fn system_rows(&self, mapped: &Mapped) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::new();
        let whole = Excerpt { mapped: mapped.clone(), except: None };
        self.each_system_row(whole, |row| rows.push(row)).await?;
        Ok(rows)
    }

    /// Goes through some rows of a system table, one after the other.
    pub async fn each_system_row(
        &self,
        excerpt: Excerpt,
        mut take: impl FnMut(Row),
    ) -> Result<(), StoreError> {
        let Excerpt { mapped, except } = excerpt;
        let message = format!("the table `{}` could not be read to its end", mapped.name());
        let store = self.store(&self.spec.canonical)?;
        let mut stream = match except {
            None => store.snapshot(mapped).await?,
            Some(except) => store.snapshot_except(mapped, except).await?,
        };
        while let Some(item) = stream.recv().await {
            match item? {
                SnapshotItem::Rows(rows) => rows.into_iter().map(LazyRow::into_row).for_each(&mut take),
                // A system table's rows have keys.
                SnapshotItem::Strays(_) => {}
                SnapshotItem::End(certificate) if certificate.is_complete() => return Ok(()),
                SnapshotItem::End(_) => break,
            }
        }
        Err(StoreError::new(ErrorKind::Unavailable, &self.spec.canonical, message))
    }

    async fn load_ledger(&self) -> Result<LedgerContents, StoreError> {
        let (ledger, mut contents) = (self.ledger, LedgerContents::default());
        let conflicts = ledger.open_conflicts();
        self.each_system_row(conflicts, |row| ledger.note_conflict(&mut contents, &row)).await?;
        let deletes = ledger.deletes();
        self.each_system_row(deletes, |row| ledger.note_tombstone(&mut contents, &row)).await?;
        let passes = self.system_rows(&ledger.passes).await?;
        contents.pass = passes.iter().find_map(|row| ledger.pass_of(row));
        Ok(contents)
    }

    pub(super) async fn read(
        &self,
        store: &StoreName,
        entity: &EntityName,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        let mapped = self.mapped(entity, store)?;
        let (store, keys) = (Arc::clone(self.store(store)?), keys.to_vec());
        aside(async move { store.read(&mapped, &keys).await }).await
    }

    /// What all stores hold of some records now, as fingerprints.
    async fn recheck(&self, records: &[RecordId]) -> Result<Rechecked, String> {
        let mut by_entity: BTreeMap<&EntityName, Vec<RecordKey>> = BTreeMap::new();
        for record in records {
            by_entity.entry(&record.entity).or_default().push(record.key.clone());
        }
        let mut now = Rechecked::default();
        for (name, keys) in by_entity {
            let Some(entity) = self.spec.entity(name) else { continue };
            let memories = if self.rebuild {
                BTreeMap::new()
            } else {
                self.state.recall(entity, &keys).await.map_err(|error| error.to_string())?
            };
            let mut seen: BTreeMap<RecordKey, ByStore<Presence>> = BTreeMap::new();
            for store in self.spec.stores_of(name) {
                // Elements carry no keys to be found by; their guards say whether they moved.
                let elements =
                    self.spec.mapping(name, &store).is_some_and(|place| place.embedded().is_some());
                let rows = if elements {
                    Ok(keys.iter().map(|key| (key.clone(), Presence::Absent)).collect())
                } else {
                    self.read(&store, name, &keys).await
                };
                if let Err(error) = &rows {
                    now.unread.entry(name.clone()).or_insert_with(|| error.clone());
                }
                for key in &keys {
                    let presence = rows.as_ref().ok().and_then(|rows| rows.get(key)).cloned();
                    let unreachable = Presence::Unknown(Unknown::Unreachable);
                    seen.entry(key.clone())
                        .or_default()
                        .insert(store.clone(), presence.unwrap_or(unreachable));
                }
            }
            for (key, presences) in seen {
                let observed = Observed { key: key.clone(), memory: memories.get(&key).cloned(), presences };
                now.fingerprints.insert(RecordId { entity: name.clone(), key }, observed.fingerprint());
            }
        }
        Ok(now)
    }

    async fn write(
        &self,
        store: &StoreName,
        entity: &EntityName,
        batch: Arc<Batch>,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let mapped = self.mapped(entity, store)?;
        let opened = self.store(store)?;
        let system = mapped.entity.system;
        if !system {
            self.observer.notice(&telemetry::Event::WriteStarted {
                store,
                entity,
                writes: batch.writes.len(),
            });
        }
        let mut wait = Duration::from_millis(FIRST_WAIT_MS);
        let mut attempt = 1;
        let outcomes = loop {
            let began = std::time::Instant::now();
            let (at_work, place, sent) = (Arc::clone(opened), mapped.clone(), Arc::clone(&batch));
            match aside(async move { at_work.apply(&place, &sent).await }.in_current_span()).await {
                // What the store waited for itself (a lock of somebody's) is not waited for over and over: others wait meanwhile.
                Err(error)
                    if attempt < ATTEMPTS
                        && began.elapsed() < LONGEST_ATTEMPT
                        && matches!(error.kind, ErrorKind::Unavailable | ErrorKind::RateLimited) =>
                {
                    attempt += 1;
                    tokio::time::sleep(error.retry_after_ms.map_or(wait, Duration::from_millis)).await;
                    wait *= 2;
                }
                other => break other,
            }
        };
        if let Err(error) = &outcomes {
            self.tell_failure(error);
        }
        if system {
            self.tell_conflicts(entity, &batch, &outcomes);
        } else {
            self.tell_outcomes(store, entity, &batch, &outcomes);
        }
        outcomes
    }

    async fn write_falls(
        &self,
        store: &StoreName,
        falls: Falls,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let opened = Arc::clone(self.store(store)?);
        let mut batches: BTreeMap<EntityName, Vec<crate::model::Write>> = BTreeMap::new();
        for (entity, write) in falls.falls.iter().flatten() {
            batches.entry(entity.clone()).or_default().push(write.clone());
        }
        for (entity, writes) in &batches {
            let writes = writes.len();
            self.observer.notice(&telemetry::Event::WriteStarted { store, entity, writes });
        }
        let id = falls.id.clone();
        let outcomes = aside(async move { opened.apply_falls(&falls).await }.in_current_span()).await;
        if let Err(error) = &outcomes {
            self.tell_failure(error);
        }
        for (entity, writes) in batches {
            let batch = Batch { id: id.clone(), receipt: true, writes, along: Vec::new() };
            self.tell_outcomes(store, &entity, &batch, &outcomes);
        }
        outcomes
    }

    /// Tells of conflicts that are on record now.
    fn tell_conflicts(
        &self,
        entity: &EntityName,
        batch: &Batch,
        outcomes: &Result<BTreeMap<IntentId, Outcome>, StoreError>,
    ) {
        let Some(outcomes) = outcomes.as_ref().ok().filter(|_| entity == self.ledger.conflicts.name()) else {
            return;
        };
        for write in &batch.writes {
            let (WriteOp::Create { fields, .. } | WriteOp::Update { fields, .. }) = &write.op else {
                continue;
            };
            if matches!(outcomes.get(&write.intent), Some(Outcome::Applied(_)))
                && let Some(conflict) = self.ledger.conflict_in(fields)
            {
                self.observer.notice(&telemetry::Event::ConflictRecorded { conflict: &conflict });
            }
        }
    }

    fn tell_outcomes(
        &self,
        store: &StoreName,
        entity: &EntityName,
        batch: &Batch,
        outcomes: &Result<BTreeMap<IntentId, Outcome>, StoreError>,
    ) {
        for write in &batch.writes {
            let kind = match &write.op {
                WriteOp::Create { .. } => ActionKind::Create,
                WriteOp::Update { fields, .. } if fields.is_empty() => ActionKind::Metadata,
                WriteOp::Update { .. } => ActionKind::Update,
                WriteOp::Delete { .. } => ActionKind::Delete,
            };
            let result = match outcomes.as_ref().map(|outcomes| outcomes.get(&write.intent)) {
                Ok(Some(Outcome::Applied(_))) => WriteResult::Applied,
                Ok(Some(Outcome::Moved)) => WriteResult::Skipped,
                Ok(Some(Outcome::Unknown(_)) | None) => WriteResult::Unknown,
                Err(error) if error.kind == ErrorKind::OutcomeUnknown => WriteResult::Unknown,
                Ok(Some(Outcome::Refused(error))) | Err(error) => WriteResult::Failed(error.kind),
            };
            let key = &write.key;
            self.observer.notice(&telemetry::Event::Wrote { store, entity, key, kind, result });
            if let (WriteOp::Update { meta: Some(meta), .. }, WriteResult::Applied, true) =
                (&write.op, result, self.latency && kind == ActionKind::Update)
                && let Some(edited) = meta.last_updated.filter(|_| *store != self.spec.canonical)
            {
                let micros = clock().micros().saturating_sub(edited.micros()).max(0);
                #[allow(clippy::cast_precision_loss)] // Nothing is late by more than a few centuries.
                let seconds = micros as f64 / 1e6;
                self.observer.notice(&telemetry::Event::CaughtUp { store, seconds });
            }
        }
    }
}
