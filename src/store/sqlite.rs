//! `SQLite` files as stores.
//!
//! Tables are other applications' as much as ours: what no mapping names is never read into a write and never touched,
//! and settings that would change how the file behaves for them (foreign keys, conflict clauses) stay as they are.
//! Names are quoted and qualified; values go as parameters only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{ConnectOptions as _, Row as _, SqlitePool};

use crate::model::{
    Batch, BatchId, Capabilities, Diagnostic, ErrorKind, IntentId, Mapped, Outcome, Presence, RecordKey,
    StoreError, StoreName, Unknown,
};

use super::{MigrationStep, Probe, SnapshotStream, Store};
use error::store_error;
use layout::Layout;
use native::query;

mod error;
mod layout;
mod migrate;
mod native;
pub(crate) mod pool;
mod read;
mod write;

/// Connections a store: one for each entity being read, and one to write with. More would wait for the disk.
const CONNECTIONS: u32 = 16;

/// Rows that SQLite's thread reads ahead of the one that decodes them, so that neither wakes the other for every row.
const ROWS_AHEAD: usize = 1000;

/// Writes a batch. A transaction of so many takes some 20 ms, which is how long others wait for the lock.
const BATCH_SIZE: usize = 1000;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SqliteOptions {
    /// Make the file if it is not there (0600, in WAL mode).
    pub create: bool,
    /// Never write.
    pub read_only: bool,
    /// How long to wait for another program's lock, in milliseconds.
    pub busy_timeout_ms: u64,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { create: false, read_only: false, busy_timeout_ms: 5_000 }
    }
}

/// A `SQLite` file.
#[derive(Debug, Clone)]
pub struct SqliteStore {
    name: StoreName,
    path: PathBuf,
    capabilities: Capabilities,
    pool: SqlitePool,
}

impl SqliteStore {
    /// Opens a file and looks whether it is a database.
    ///
    /// # Errors
    /// When the file is not there (unless it is to be made), cannot be opened, or is no database.
    pub async fn open(name: StoreName, path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        check_file(&name, path, options)?;
        let mut connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .read_only(options.read_only)
            .busy_timeout(Duration::from_millis(options.busy_timeout_ms))
            // SQLite's own default: cascades would delete rows that no mapping names.
            .foreign_keys(false)
            .row_buffer_size(ROWS_AHEAD)
            .disable_statement_logging();
        if !options.read_only {
            // Readers and the writer do not wait for each other.
            connect = connect.journal_mode(SqliteJournalMode::Wal);
        }
        let pool = SqlitePoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(Duration::from_millis(options.busy_timeout_ms.max(1_000)))
            .connect_with(connect)
            .await
            .map_err(|error| store_error(&name, &error))?;
        let store = Self { name, path: path.to_owned(), capabilities: capabilities(), pool };
        store.probe().await?;
        Ok(store)
    }

    /// A database without tables and without a file, to plan the migration of one that is not there yet.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn blank(name: StoreName) -> Result<Self, StoreError> {
        // Each further connection would be another database.
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await;
        let pool = pool.map_err(|error| store_error(&name, &error))?;
        Ok(Self { name, path: PathBuf::new(), capabilities: capabilities(), pool })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes all connections, so that the file stands alone (without its `-wal`).
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn refusal(&self, kind: ErrorKind, message: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.name, message)
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        batch_size: BATCH_SIZE,
        atomic_guards: true,
        can_be_canonical: true,
        time_precision_micros: 1,
    }
}

/// Says what is wrong with a file before `SQLite` says less about it, and makes it if that is wanted.
fn check_file(name: &StoreName, path: &Path, options: SqliteOptions) -> Result<(), StoreError> {
    let shown = path.display();
    let error = |kind, message: String| StoreError::new(kind, name, message);
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(error(ErrorKind::Invalid, format!("`{shown}` is a folder")).hint("name a file in `path`"))
        }
        Ok(_) => Ok(()),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
            if options.create {
                return crate::store::files::create_private(path).map_err(|failed| {
                    error(ErrorKind::Unauthorised, format!("`{shown}` cannot be made: {}", failed.kind()))
                });
            }
            Err(error(ErrorKind::NotFound, format!("there is no file `{shown}`"))
                .hint("check the store's `path`, or run `trueup migrate` to make it"))
        }
        Err(failed) => {
            Err(error(ErrorKind::Unauthorised, format!("`{shown}` cannot be read: {}", failed.kind()))
                .hint("check who may read the file and its folder"))
        }
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn audit(&self, mapped: &[Mapped]) -> Vec<Diagnostic> {
        migrate::audit(&self.name, mapped)
    }

    async fn probe(&self) -> Result<Probe, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let row = query("PRAGMA encoding").fetch_one(&self.pool).await.map_err(failed)?;
        let encoding: String = row.try_get(0).map_err(failed)?;
        query("SELECT count(*) FROM sqlite_schema").fetch_one(&self.pool).await.map_err(failed)?;
        if encoding != "UTF-8" {
            // Keys would be sorted by the bytes of another encoding.
            return Err(self
                .refusal(ErrorKind::Unsupported, format!("the database keeps text as {encoding}"))
                .hint("only UTF-8 databases can be read in the order of keys"));
        }
        Ok(Probe::default())
    }

    async fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        self.missing(mapped).await
    }

    async fn migrate(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        self.run_steps(steps).await
    }

    async fn snapshot(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        read::snapshot(&self.name, &self.pool, mapped).await
    }

    async fn read(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let layout = Layout::of(&self.name, &mut transaction, mapped).await?;
        let wanted: BTreeSet<&RecordKey> = keys.iter().collect();
        let mut found = read::find(&mut transaction, &layout, mapped, &wanted).await.map_err(failed)?;
        let presence = |key: &RecordKey| match found.remove(key) {
            None => Presence::Absent,
            Some(mut rows) if rows.len() == 1 => {
                rows.pop().map_or(Presence::Absent, |found| Presence::Present(found.row))
            }
            Some(_) => Presence::Unknown(Unknown::DuplicateKey),
        };
        let mut presence = presence;
        Ok(wanted.into_iter().map(|key| (key.clone(), presence(key))).collect())
    }

    async fn read_native(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let mut transaction = self.pool.begin().await.map_err(failed)?;
        let layout = Layout::of(&self.name, &mut transaction, mapped).await?;
        let wanted = keys.iter().collect();
        read::find_whole(&mut transaction, &layout, mapped, &wanted).await.map_err(failed)
    }

    async fn apply(&self, mapped: &Mapped, batch: &Batch) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        self.apply_batch(mapped, batch).await
    }

    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        self.read_receipts(batches).await
    }

    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        self.remove_receipts(batches).await
    }
}
