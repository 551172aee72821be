//! `BigQuery` datasets as stores, and the emulators of them.
//!
//! Tables are other applications' as much as ours: what no mapping names is never read into a write and never touched. Names are
//! quoted; values go as parameters only. What a table holds is read as of one moment of the service's clock; what is written is
//! one guarded statement a table and batch, under a job's id that is noted before it is sent.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::model::{
    Batch, BatchId, Capabilities, Except, FoundTable, IntentId, Mapped, Mark, Outcome, Presence, RecordKey,
    StoreError, StoreName,
};

use super::buckets::Touched;
use super::{Changes, MigrationStep, Probe, SnapshotStream, Store, Usage};
use auth::{Credentials, Tokens};
use layout::TableNames;
use rest::{Reach, Rest};
use storage::Storage;

mod arrow;
mod auth;
mod error;
mod find;
mod found;
mod image;
mod kind;
mod layout;
mod mark;
mod merge;
mod migrate;
mod read;
mod receipts;
mod rest;
mod rows;
mod schema;
mod search;
mod seen;
mod sort;
mod sql;
mod storage;
mod write;

pub(super) use migrate::script;

/// Writes a batch. A statement costs about as much for a thousand rows as for one, and they stay well below 10 MB.
const BATCH_SIZE: usize = 1000;

/// What a query or statement is billed for at least, for each table that it names.
const LEAST_BILLED: u64 = 10 << 20;

const SERVICE: &str = "https://bigquery.googleapis.com/bigquery/v2";
const STORAGE_SERVICE: &str = "https://bigquerystorage.googleapis.com";

/// An emulator that stands in for the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// Its address for REST, `http://127.0.0.1:9050`.
    pub rest: String,
    /// Its address for gRPC; none: rows come page by page over REST.
    pub grpc: Option<String>,
}

/// How a dataset is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct BigQueryOptions {
    /// The project that is asked and billed.
    pub project: String,
    /// The dataset of tables that name none.
    pub dataset: String,
    /// Where the dataset is, such as `EU`.
    pub location: Option<String>,
    /// A key or other credentials as Google hands them out, as JSON; none: the environment's own account.
    pub credentials: Option<String>,
    /// An emulator instead of the service. It is asked without credentials.
    pub emulator: Option<Emulator>,
    /// What the queries and statements of a pass may be billed for at most, in bytes.
    pub max_bytes: Option<u64>,
    /// Never write.
    pub read_only: bool,
    /// Whether the service's word is relied on when it says that a table was not changed; none: the real service's is, an
    /// emulator's is not.
    pub trust_modified: Option<bool>,
    /// How long an answer is waited for.
    pub timeout: Duration,
}

impl BigQueryOptions {
    /// A dataset of a project, with the environment's own account.
    pub fn new(project: impl Into<String>, dataset: impl Into<String>) -> Self {
        Self {
            project: project.into(),
            dataset: dataset.into(),
            location: None,
            credentials: None,
            emulator: None,
            max_bytes: None,
            read_only: false,
            trust_modified: None,
            timeout: Duration::from_secs(90),
        }
    }
}

impl fmt::Debug for BigQueryOptions {
    /// Without the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BigQueryOptions")
            .field("project", &self.project)
            .field("dataset", &self.dataset)
            .field("emulator", &self.emulator)
            .finish_non_exhaustive()
    }
}

/// Which way whole tables were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadPaths {
    /// Through the Storage Read API.
    pub storage: u64,
    /// Page by page.
    pub rest: u64,
}

#[derive(Default)]
struct Paths {
    storage: AtomicU64,
    rest: AtomicU64,
}

/// A `BigQuery` dataset.
#[derive(Clone)]
pub struct BigQueryStore {
    name: StoreName,
    dataset: String,
    read_only: bool,
    capabilities: Capabilities,
    rest: Rest,
    storage: Option<Storage>,
    trusts_modified: bool,
    paths: Arc<Paths>,
    moment: Arc<Mutex<OfPass>>,
    touched: Arc<Touched>,
}

/// What whole tables are read as of.
#[derive(Debug, Clone, Copy, Default)]
enum OfPass {
    /// There is no pass: as of now.
    #[default]
    None,
    /// The pass has not read one yet.
    NotYet,
    /// What the first one in this pass was read as of, in microseconds since 1970.
    At(i64),
}

impl fmt::Debug for BigQueryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BigQueryStore")
            .field("name", &self.name)
            .field("dataset", &self.dataset)
            .finish_non_exhaustive()
    }
}

impl BigQueryStore {
    /// Takes note of where a dataset is. It is contacted when it is first needed.
    ///
    /// # Errors
    /// When an address cannot be understood.
    pub fn open(name: StoreName, options: BigQueryOptions) -> Result<Self, StoreError> {
        #[allow(clippy::single_match_else)] // Two sides of equal weight.
        let (base, grpc, credentials, first_wait) = match options.emulator {
            Some(emulator) => {
                let base = format!("{}/bigquery/v2", emulator.rest.trim_end_matches('/'));
                // It has no quota that time would help.
                (base, emulator.grpc, Credentials::Fixed("emulator"), Duration::from_millis(50))
            }
            None => {
                let given = options.credentials.map_or(Credentials::Environment, Credentials::Given);
                (SERVICE.to_owned(), Some(STORAGE_SERVICE.to_owned()), given, Duration::from_millis(500))
            }
        };
        let trusts_modified = options.trust_modified.unwrap_or(base == SERVICE);
        let reach = Reach {
            base,
            project: options.project,
            location: options.location,
            max_bytes: options.max_bytes,
            timeout: options.timeout,
            first_wait,
        };
        let told = |failure: error::Failure| failure.store_error(&name);
        let rest = Rest::new(reach, Arc::new(Tokens::new(credentials))).map_err(told)?;
        let storage = grpc.map(|url| Storage::new(&url, rest.clone())).transpose().map_err(told)?;
        let capabilities = Capabilities {
            batch_size: BATCH_SIZE,
            atomic_guards: true,
            can_be_canonical: true,
            time_precision_micros: 1,
        };
        Ok(Self {
            name,
            dataset: options.dataset,
            read_only: options.read_only,
            capabilities,
            rest,
            storage,
            trusts_modified,
            paths: Arc::default(),
            moment: Arc::default(),
            touched: Arc::default(),
        })
    }

    /// Which way whole tables were read so far.
    pub fn read_paths(&self) -> ReadPaths {
        ReadPaths {
            storage: self.paths.storage.load(Ordering::Relaxed),
            rest: self.paths.rest.load(Ordering::Relaxed),
        }
    }

    fn names(&self, mapped: &Mapped) -> Result<TableNames, StoreError> {
        TableNames::of(&self.name, &self.rest.project, &self.dataset, mapped)
    }
}

#[async_trait]
impl Store for BigQueryStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn usage(&self) -> Option<Usage> {
        let meter = &self.rest.meter;
        let (calls, billed_bytes) =
            (meter.calls.load(Ordering::Relaxed), meter.billed.load(Ordering::Relaxed));
        Some(Usage { calls, waited_ms: 0, billed_bytes })
    }

    fn begin_pass(&self) {
        self.rest.meter.begin_pass();
        *self.moment.lock().unwrap_or_else(PoisonError::into_inner) = OfPass::NotYet;
    }

    async fn bill(&self, mapped: &Mapped) -> Result<Option<u64>, StoreError> {
        // A statement that changes or deletes rows is billed for the whole table.
        let sql = format!("SELECT * FROM {}", self.names(mapped)?.sql());
        let bytes = self.rest.dry_run(&sql).await.map_err(|failure| self.told(&failure))?;
        // Emulators reckon nothing.
        Ok((bytes > 0).then(|| bytes.max(LEAST_BILLED)))
    }

    async fn probe(&self) -> Result<Probe, StoreError> {
        // A dataset that was dropped and made again is another one.
        let made = self.rest.dataset_made(&self.dataset).await.map_err(|failure| self.told(&failure))?;
        Ok(Probe { identity: made.map(|made| format!("{}.{} {made}", self.rest.project, self.dataset)) })
    }

    async fn tables(&self) -> Result<Option<Vec<FoundTable>>, StoreError> {
        self.found_tables().await.map(Some).map_err(|failure| self.told(&failure))
    }

    async fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        self.missing(mapped).await
    }

    async fn migrate(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        self.run_steps(steps).await
    }

    async fn snapshot(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        self.touched.forget(&mapped);
        self.read_whole(mapped).await
    }

    async fn snapshot_except(&self, mapped: Mapped, except: Except) -> Result<SnapshotStream, StoreError> {
        self.read_except(mapped, except).await
    }

    async fn changes(&self, mapped: &Mapped, since: &Mark) -> Result<Option<Box<dyn Changes>>, StoreError> {
        self.touched.forget(mapped);
        self.changed_since(mapped, since).await
    }

    fn seal(&self, mapped: &Mapped, mark: Mark) -> Mark {
        mark::seal(mark, &self.touched, mapped)
    }

    async fn read(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        self.read_some(mapped, keys).await
    }

    async fn read_native(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError> {
        self.read_objects(mapped, keys).await
    }

    async fn apply(&self, mapped: &Mapped, batch: &Batch) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        self.touched.begin(mapped, mark::hashes(batch.writes.iter().map(|write| &write.key)).into_iter());
        self.apply_batch(mapped, batch).await
    }

    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        self.read_receipts(batches).await
    }

    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        self.remove_receipts(batches).await
    }
}
