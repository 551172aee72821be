//! `SQLite` files as stores.
//!
//! Tables are other applications' as much as ours: what no mapping names is never read into a write and never touched,
//! and settings that would change how the file behaves for them (foreign keys, conflict clauses, the journal) stay as they are.
//! Names are quoted and qualified; values go as parameters only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags};

use crate::model::{
    Batch, BatchId, Capabilities, ErrorKind, Except, Falls, FoundTable, IntentId, Mapped, Mark, Outcome,
    Presence, RecordKey, StoreError, StoreName, Unknown,
};

use super::buckets::Touched;
use super::{Changes, MigrationStep, Probe, SnapshotStream, Store};
use error::{pool_error, store_error};
use layout::Layout;
use pool::{Pool, Replaced};

mod changes;
mod digest;
mod error;
mod exchange;
mod falls;
mod found;
mod image;
mod layout;
mod migrate;
mod native;
pub(crate) mod pool;
mod read;
mod snapshot;
mod triggers;
mod write;

pub(super) use migrate::script;

/// Connections a store: one for each entity being read, and one to write with. More would wait for the disk.
const CONNECTIONS: u32 = 16;

/// Writes a batch. A transaction of so many takes some 50 ms, which is how long others wait for the lock.
const BATCH_SIZE: usize = 2000;

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
    pool: Pool,
    touched: Arc<Touched>,
}

impl SqliteStore {
    /// Opens a file and looks whether it is a database.
    ///
    /// # Errors
    /// When the file is not there (unless it is to be made), cannot be opened, or is no database.
    pub async fn open(name: StoreName, path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        let made = check_file(&name, path, options)?;
        let file = path.to_owned();
        let patience = Duration::from_millis(options.busy_timeout_ms.max(1_000));
        let again = move || connect(&file, options, made);
        let pool = Pool::new(Some((path, Replaced::Follow)), CONNECTIONS, patience, again);
        let store =
            Self { name, path: path.to_owned(), capabilities: capabilities(), pool, touched: Arc::default() };
        store.probe().await?;
        Ok(store)
    }

    /// A database without tables and without a file, to plan the migration of one that is not there yet.
    ///
    /// # Errors
    /// When it cannot be had.
    pub async fn blank(name: StoreName) -> Result<Self, StoreError> {
        // Each further connection would be another database.
        let pool = Pool::new(None, 1, Duration::from_secs(1), Connection::open_in_memory);
        let store =
            Self { name, path: PathBuf::new(), capabilities: capabilities(), pool, touched: Arc::default() };
        store.probe().await?;
        Ok(store)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes all connections, so that the file stands alone (without its `-wal`).
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// Runs a piece of work with a connection.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = self.pool.run(move |connection| work(&store, connection)).await;
        done.unwrap_or_else(|error| Err(pool_error(&self.name, &error)))
    }

    fn refusal(&self, kind: ErrorKind, message: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.name, message)
    }
}

fn connect(path: &Path, options: SqliteOptions, made: bool) -> rusqlite::Result<Connection> {
    let access =
        if options.read_only { OpenFlags::SQLITE_OPEN_READ_ONLY } else { OpenFlags::SQLITE_OPEN_READ_WRITE };
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(Duration::from_millis(options.busy_timeout_ms))?;
    // SQLite's own default: cascades would delete rows that no mapping names.
    connection.pragma_update(None, "foreign_keys", false)?;
    // Sixteen megabytes each: what is written is moved into the file less often, and what is looked up is read once.
    connection.execute_batch("PRAGMA cache_size = -16384; PRAGMA wal_autocheckpoint = 4096")?;
    if made {
        // Readers and the writer do not wait for each other. Whoever made another file has reasons of their own: one on a network's
        // share cannot be used this way, and a copy of the file alone lacks what is in the log.
        connection.pragma_update(None, "journal_mode", "wal")?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn capabilities() -> Capabilities {
    Capabilities {
        batch_size: BATCH_SIZE,
        atomic_guards: true,
        can_be_canonical: true,
        time_precision_micros: 1,
    }
}

/// Says what is wrong with a file before `SQLite` says less about it, and makes it if that is wanted; true when it was made.
fn check_file(name: &StoreName, path: &Path, options: SqliteOptions) -> Result<bool, StoreError> {
    let shown = path.display();
    let error = |kind, message: String| StoreError::new(kind, name, message);
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => {
            Err(error(ErrorKind::Invalid, format!("`{shown}` is a folder")).hint("name a file in `path`"))
        }
        Ok(_) => Ok(false),
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {
            if options.create {
                return crate::store::files::create_private(path).map(|()| true).map_err(|failed| {
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

    async fn probe(&self) -> Result<Probe, StoreError> {
        let look = |store: &Self, connection: &mut Connection| {
            let failed = |error| store_error(&store.name, &error);
            let encoding: String =
                connection.query_row("PRAGMA encoding", [], |row| row.get(0)).map_err(failed)?;
            connection
                .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
                .map_err(failed)?;
            Ok(encoding)
        };
        let encoding = self.work(look).await?;
        if encoding != "UTF-8" {
            // Keys would be sorted by the bytes of another encoding.
            return Err(self
                .refusal(ErrorKind::Unsupported, format!("the database keeps text as {encoding}"))
                .hint("only UTF-8 databases can be read in the order of keys"));
        }
        Ok(Probe::default())
    }

    async fn tables(&self) -> Result<Option<Vec<FoundTable>>, StoreError> {
        self.work(|store, connection| {
            found::tables(connection).map(Some).map_err(|error| store_error(&store.name, &error))
        })
        .await
    }

    async fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        let mapped = mapped.to_vec();
        self.work(move |store, connection| store.missing(connection, &mapped)).await
    }

    async fn migrate(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        if steps.is_empty() {
            return Ok(());
        }
        let steps = steps.to_vec();
        self.work(move |store, connection| store.run_steps(connection, &steps)).await
    }

    async fn snapshot(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        self.touched.forget(&mapped);
        snapshot::snapshot(self, mapped, None).await
    }

    async fn snapshot_except(&self, mapped: Mapped, except: Except) -> Result<SnapshotStream, StoreError> {
        snapshot::snapshot(self, mapped, Some(except)).await
    }

    async fn changes(&self, mapped: &Mapped, since: &Mark) -> Result<Option<Box<dyn Changes>>, StoreError> {
        self.touched.forget(mapped);
        self.changed_since(mapped, since).await
    }

    fn seal(&self, mapped: &Mapped, mark: Mark) -> Mark {
        digest::seal(mark, &self.touched, mapped)
    }

    async fn read(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        let (mapped, keys) = (mapped.clone(), keys.to_vec());
        self.work(move |store, connection| {
            let failed = |error| store_error(&store.name, &error);
            let transaction = connection.transaction().map_err(failed)?;
            let layout = Layout::of(&store.name, &transaction, &mapped)?;
            let wanted: BTreeSet<&RecordKey> = keys.iter().collect();
            let mut found = read::find(&transaction, &layout, &mapped, &wanted).map_err(failed)?;
            let mut presence = |key: &RecordKey| match found.remove(key) {
                None => Presence::Absent,
                Some(mut rows) if rows.len() == 1 => rows
                    .pop()
                    .map_or(Presence::Absent, |found| Presence::Present(found.row(&layout, &mapped))),
                Some(_) => Presence::Unknown(Unknown::DuplicateKey),
            };
            Ok(wanted.into_iter().map(|key| (key.clone(), presence(key))).collect())
        })
        .await
    }

    async fn read_native(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError> {
        let (mapped, keys) = (mapped.clone(), keys.to_vec());
        self.work(move |store, connection| {
            let failed = |error| store_error(&store.name, &error);
            let transaction = connection.transaction().map_err(failed)?;
            let layout = Layout::of(&store.name, &transaction, &mapped)?;
            let wanted = keys.iter().collect();
            read::find_whole(&transaction, &layout, &mapped, &wanted).map_err(failed)
        })
        .await
    }

    async fn apply(&self, mapped: &Mapped, batch: &Batch) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        self.touched.begin(mapped, batch.writes.iter().map(|write| digest::hash(&write.key)));
        let (mapped, batch) = (mapped.clone(), batch.clone());
        self.work(move |store, connection| store.apply_batch(connection, &mapped, &batch)).await
    }

    async fn apply_falls(&self, falls: &Falls) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        for mapped in &falls.mapped {
            let of_it = falls.falls.iter().flatten().filter(|(entity, _)| entity == mapped.name());
            // What they left is looked at again.
            self.touched.begin(mapped, of_it.map(|(_, write)| digest::hash(&write.key)));
        }
        let falls = falls.clone();
        self.work(move |store, connection| store.delete_falls(connection, &falls)).await
    }

    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        let batches = batches.to_vec();
        self.work(move |store, connection| store.read_receipts(connection, &batches)).await
    }

    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        let batches = batches.to_vec();
        self.work(move |store, connection| store.remove_receipts(connection, &batches)).await
    }
}
