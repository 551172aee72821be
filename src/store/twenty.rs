//! Twenty, a CRM, as a store: its people, companies and other objects over its GraphQL and REST interfaces.
//!
//! Its records have ids of its own; the key is one field among others, which people can empty. Listing is cheap and writing is counted:
//! calls are paced. There are no conditional writes: records are looked at just before they are written, and an edit made between the two
//! is lost. What it does to values on the way in is told by the forms of [`crate::model::Form`], and by its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value as Json;

use crate::model::{
    Batch, BatchId, Capabilities, ErrorKind, IntentId, Mapped, Mark, Outcome, Presence, RecordKey,
    StoreError, StoreName,
};

use super::{Changes, MigrationStep, Probe, SnapshotStream, Store, Usage};
use changes::Own;
use client::Client;
use layout::{Layout, object_name};
use objects::Objects;
use snapshot::SharedLayout;

pub use pace::{Clock, Pace, SystemClock};

mod along;
mod changes;
mod client;
mod create;
mod elements;
mod error;
mod exchange;
mod ids;
mod image;
mod labels;
mod layout;
mod migrate;
mod objects;
mod pace;
mod query;
mod read;
mod rows;
mod snapshot;
mod sort;
mod write;

/// How long a list of objects counts as fresh: within a pass it is asked for once.
const FRESH_MS: u64 = 3_000;

/// Writes a batch. Servers take 200; hosted plans may take 60.
const BATCH_SIZE: usize = 60;

/// How a workspace is opened.
#[derive(Clone)]
pub struct TwentyOptions {
    /// How many calls may go out.
    pub pace: Pace,
    /// How many records are made in a call.
    pub batch_size: usize,
    /// How many records are listed in a call.
    pub page_rows: u64,
    /// How long a call may take.
    pub timeout: Duration,
    /// Never write.
    pub read_only: bool,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// All entities that have a place in the workspace: relations lead from one to another, and elements of one stand inside another.
    pub mapped: Vec<Mapped>,
}

impl Default for TwentyOptions {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            batch_size: BATCH_SIZE,
            page_rows: query::PAGE_ROWS,
            timeout: Duration::from_secs(30),
            read_only: false,
            clock: Arc::new(SystemClock),
            mapped: Vec::new(),
        }
    }
}

/// A workspace of Twenty.
#[derive(Clone)]
pub struct TwentyStore {
    name: StoreName,
    read_only: bool,
    page_rows: u64,
    capabilities: Capabilities,
    client: Arc<Client>,
    known: Arc<Vec<Mapped>>,
    /// The objects, and when they were asked for.
    #[allow(clippy::type_complexity)] // Nothing else has this type.
    objects: Arc<Mutex<Option<(u64, Arc<Objects>)>>>,
    own: Arc<Own>,
    made: Arc<along::Made>,
    /// By object, the fields that some record had a value in when all were listed last.
    filled: Arc<Mutex<BTreeMap<String, BTreeSet<String>>>>,
}

impl fmt::Debug for TwentyStore {
    /// Without address and key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwentyStore").field("name", &self.name).finish_non_exhaustive()
    }
}

impl TwentyStore {
    /// Takes note of where a workspace is. It is contacted when it is first needed: one that is down is found down then, and found up
    /// again later.
    ///
    /// # Errors
    /// When the address or the key cannot be understood.
    pub fn open(
        name: StoreName,
        url: &str,
        api_key: &str,
        options: TwentyOptions,
    ) -> Result<Self, StoreError> {
        let TwentyOptions { pace, batch_size, page_rows, timeout, read_only, clock, mapped } = options;
        let client = Client::new(&name, url, api_key, pace, timeout, clock)?;
        let capabilities = Capabilities {
            batch_size: batch_size.max(1),
            atomic_guards: false,
            can_be_canonical: false,
            time_precision_micros: 1_000,
        };
        Ok(Self {
            name,
            read_only,
            page_rows: page_rows.max(1),
            capabilities,
            client: Arc::new(client),
            known: Arc::new(mapped),
            objects: Arc::default(),
            own: Arc::default(),
            made: Arc::default(),
            filled: Arc::default(),
        })
    }

    fn cached(&self) -> std::sync::MutexGuard<'_, Option<(u64, Arc<Objects>)>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget_objects(&self) {
        *self.cached() = None;
    }

    async fn load_objects(&self) -> Result<Arc<Objects>, StoreError> {
        let objects = Arc::new(objects::load(&self.name, &self.client).await?);
        *self.cached() = Some((self.client.now_ms(), Arc::clone(&objects)));
        Ok(objects)
    }

    /// The objects, asked for no longer ago than this.
    async fn objects(&self, fresh_ms: u64) -> Result<Arc<Objects>, StoreError> {
        let now = self.client.now_ms();
        let known = self.cached().as_ref().filter(|(at, _)| now.saturating_sub(*at) <= fresh_ms).cloned();
        match known {
            Some((_, objects)) => Ok(objects),
            None => self.load_objects().await,
        }
    }

    async fn layout(&self, mapped: &Mapped) -> Result<SharedLayout, StoreError> {
        let objects = self.objects(u64::MAX).await?;
        Layout::of(&self.name, &objects, mapped, &self.known).map(Arc::new)
    }

    /// The layout as it is now, for looks: a field that has gone since would be answered with null.
    async fn fresh_layout(&self, mapped: &Mapped) -> Result<SharedLayout, StoreError> {
        let objects = self.objects(FRESH_MS).await?;
        Layout::of(&self.name, &objects, mapped, &self.known).map(Arc::new)
    }

    /// Whether a field that records had values in went away unnoticed: it is answered with null then, as if everybody had emptied it.
    async fn lost_a_field(&self, layout: &Layout, filled: BTreeSet<String>) -> Result<bool, StoreError> {
        let object = &layout.object.singular;
        let before = {
            let mut all = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(object.clone(), filled.clone()).unwrap_or_default()
        };
        if before.is_subset(&filled) {
            return Ok(false);
        }
        let objects = self.load_objects().await?;
        let now = objects.get(object).map(|object| &object.fields);
        Ok(layout.object.fields.keys().any(|name| now.is_none_or(|fields| !fields.contains_key(name))))
    }

    fn chosen_id(&self, mapped: &Mapped, key: &RecordKey) -> String {
        ids::chosen(&self.name, mapped.name(), key)
    }
}

/// The record in the answer to a write.
fn answered(answer: &Json) -> Option<&Json> {
    answer.get("data")?.as_object()?.values().find(|value| value.is_object())
}

/// The records in the answer to a write.
fn answered_all(answer: &Json) -> Vec<&Json> {
    let data = answer.get("data").and_then(Json::as_object);
    let list = data.and_then(|data| data.values().find_map(Json::as_array));
    list.into_iter().flatten().collect()
}

#[async_trait]
impl Store for TwentyStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn usage(&self) -> Option<Usage> {
        let spent = &self.client.pacer.spent;
        let (calls, waited_ms) =
            (spent.calls.load(Ordering::Relaxed), spent.waited_ms.load(Ordering::Relaxed));
        Some(Usage { calls, waited_ms, billed_bytes: 0 })
    }

    async fn probe(&self) -> Result<Probe, StoreError> {
        let objects = self.load_objects().await?;
        // Its objects were made with the workspace: another workspace has others.
        Ok(Probe { identity: objects.get("person").map(|person| person.id.clone()) })
    }

    async fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        self.missing(mapped).await
    }

    async fn migrate(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        self.run_steps(steps).await
    }

    async fn snapshot(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        self.read_whole(mapped).await
    }

    async fn changes(&self, mapped: &Mapped, since: &Mark) -> Result<Option<Box<dyn Changes>>, StoreError> {
        self.changed_since(mapped, since).await
    }

    fn seal(&self, mapped: &Mapped, mark: Mark) -> Mark {
        match object_name(&mapped.mapping) {
            Some(object) => self.own.seal(object, mark),
            None => mark,
        }
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
    ) -> Result<BTreeMap<RecordKey, Json>, StoreError> {
        self.read_objects(mapped, keys).await
    }

    async fn apply(&self, mapped: &Mapped, batch: &Batch) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        if batch.receipt {
            return Err(self.no_receipts());
        }
        self.apply_batch(mapped, batch).await
    }

    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        if batches.is_empty() { Ok(BTreeMap::new()) } else { Err(self.no_receipts()) }
    }

    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        if batches.is_empty() { Ok(()) } else { Err(self.no_receipts()) }
    }
}

impl TwentyStore {
    fn no_receipts(&self) -> StoreError {
        let message = "Twenty keeps no receipts, and cannot be the canonical store";
        StoreError::new(ErrorKind::Unsupported, &self.name, message)
    }
}
