//! A store in memory: a strict fake with faults, for simulations and tests, and for trials without a database.
//!
//! [`MemoryDb`] is plain data with a synchronous interface, so that a simulation can clone whole worlds and drive them without a
//! runtime. [`MemoryStore`] puts the [`Store`] trait around one. It is stricter than real stores: it refuses whatever a
//! store may refuse, and every fault a store can show can be set.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::model::{
    Batch, BatchId, Capabilities, Diagnostic, IntentId, Mapped, Outcome, Presence, RecordKey, StoreError,
    StoreName,
};

use super::{MigrationStep, Probe, SnapshotItem, SnapshotStream, Store};

mod db;
mod faults;
mod table;
mod write;

pub use db::{MemoryDb, MemorySnapshot};
pub use faults::{Cut, Faults, Hook, Lossy};
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

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn audit(&self, _mapped: &[Mapped]) -> Vec<Diagnostic> {
        Vec::new()
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
        let snapshot = self.db().snapshot(&mapped)?;
        let (send, receive) = mpsc::channel(2);
        tokio::spawn(async move {
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
        self.db().apply(mapped, batch)
    }

    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        self.db().receipts(batches)
    }

    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        self.db().forget_receipts(batches)
    }
}
