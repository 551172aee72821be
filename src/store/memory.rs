//! A store in memory: a strict fake with faults, for simulations and tests, and for trials without a database.
//!
//! [`MemoryDb`] is plain data with a synchronous interface, so that a simulation can clone whole worlds and drive them without a
//! runtime. [`MemoryStore`] puts the [`Store`] trait around one. It is stricter than real stores: it refuses whatever a
//! store may refuse, and every fault a store can show can be set.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::model::{
    Batch, BatchId, Capabilities, Falls, IntentId, Mapped, Mark, Outcome, Presence, RecordKey, StoreError,
    StoreName,
};

use super::{Changes, LazyRow, MigrationStep, Probe, SnapshotItem, SnapshotStream, Store, keys};

mod db;
mod elements;
mod faults;
mod objects;
mod table;
mod write;

pub use db::{MemoryDb, MemorySnapshot};
pub use faults::{Cut, Faults, Hook, Lossy};
pub use objects::{MemoryElement, MemoryObject, MemoryObjects};
pub use table::{MemoryRow, MemoryTable};

/// Rows a piece of a snapshot. Small, so that tests see more than one piece.
const CHUNK_ROWS: usize = 100;

/// A [`MemoryDb`] behind the [`Store`] trait. Clones share the data.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    name: StoreName,
    capabilities: Capabilities,
    db: Arc<Mutex<MemoryDb>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(name: StoreName) -> Self {
        Self::with(MemoryDb::new(name))
    }

    /// A store of this data.
    pub fn with(db: MemoryDb) -> Self {
        Self { name: db.name().clone(), capabilities: db.capabilities(), db: Arc::new(Mutex::new(db)) }
    }

    /// The data, for acting as another application and for setting faults.
    pub fn db(&self) -> MutexGuard<'_, MemoryDb> {
        // A panic elsewhere (a failing test's) leaves plain data behind, as whole as it was.
        self.db.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What changed, as of one moment.
struct MemoryChanges {
    rows: VecDeque<Vec<LazyRow>>,
    keys: Vec<RecordKey>,
    mark: Mark,
}

#[async_trait]
impl Changes for MemoryChanges {
    async fn rows(&mut self) -> Result<Option<Vec<LazyRow>>, StoreError> {
        Ok(self.rows.pop_front())
    }

    fn count(&self) -> u64 {
        self.keys.len() as u64
    }

    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn counts(&mut self, bounds: &[RecordKey]) -> Result<Vec<u64>, StoreError> {
        Ok(keys::counts(&self.keys, bounds))
    }

    async fn keys(
        &mut self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        Ok(keys::between(&self.keys, from, to))
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn probe(&self) -> Result<Probe, StoreError> {
        self.db().probe()
    }

    async fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        self.db().plan_migration(mapped)
    }

    async fn migrate(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        self.db().migrate(steps)
    }

    async fn snapshot(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        let snapshot = {
            let mut db = self.db();
            let mut snapshot = db.snapshot(&mapped)?;
            if let Some(certificate) = snapshot.certificate.as_mut().filter(|told| told.is_complete())
                && db.tells_changes
                && certificate.missing_columns.is_empty()
            {
                certificate.mark = Some(db.mark());
            }
            snapshot
        };
        let (send, receive) = mpsc::channel(2);
        tokio::spawn(async move {
            if !snapshot.strays.is_empty()
                && send.send(Ok(SnapshotItem::Strays(snapshot.strays))).await.is_err()
            {
                return;
            }
            let mut rows = snapshot.rows.into_iter().peekable();
            while rows.peek().is_some() {
                let chunk = rows.by_ref().take(CHUNK_ROWS).map(Into::into).collect();
                if send.send(Ok(SnapshotItem::Rows(chunk))).await.is_err() {
                    return;
                }
            }
            if let Some(certificate) = snapshot.certificate {
                // Nobody listens any more: nothing to tell.
                let _ = send.send(Ok(SnapshotItem::End(certificate))).await;
            }
        });
        Ok(receive)
    }

    fn seal(&self, _mapped: &Mapped, mark: Mark) -> Mark {
        self.db().doubt(&mark);
        mark
    }

    async fn changes(&self, mapped: &Mapped, since: &Mark) -> Result<Option<Box<dyn Changes>>, StoreError> {
        // Rows that carry no key are not to be found by what changed since.
        if mapped.mapping.own_ids {
            return Ok(None);
        }
        let mut db = self.db();
        db.reach()?;
        let Some((rows, keys)) = db.changed(mapped, since).filter(|_| db.faults.cut_after.is_none()) else {
            return Ok(None);
        };
        let rows = rows.chunks(CHUNK_ROWS).map(|rows| rows.iter().cloned().map(Into::into).collect());
        Ok(Some(Box::new(MemoryChanges { rows: rows.collect(), keys, mark: db.mark() })))
    }

    async fn read(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        self.db().read(mapped, keys)
    }

    async fn read_native(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError> {
        self.db().read_native(mapped, keys)
    }

    async fn apply(&self, mapped: &Mapped, batch: &Batch) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let mut db = self.db();
        let touched = batch.writes.iter().map(|write| (db::table_name(mapped), write.key.clone()));
        db.touched.extend(touched);
        db.apply(mapped, batch)
    }

    async fn apply_falls(&self, falls: &Falls) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let mut db = self.db();
        for mapped in &falls.mapped {
            let of_it = falls.falls.iter().flatten().filter(|(entity, _)| entity == mapped.name());
            db.touched.extend(of_it.map(|(_, write)| (db::table_name(mapped), write.key.clone())));
        }
        db.apply_falls(falls)
    }

    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        self.db().receipts(batches)
    }

    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        self.db().forget_receipts(batches)
    }
}
