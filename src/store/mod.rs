//! Stores: systems that hold records, behind one small trait.
//!
//! A store translates; it decides nothing. What is a change, what is written and in which order is settled by the pure
//! stages; a store reads rows into canonical form, writes what it is told if the guard still holds, and says honestly
//! what became of every single write.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::model::{
    Batch, BatchId, Capabilities, Certificate, Except, Falls, FoundTable, IntentId, Mapped, Mark, Outcome,
    Presence, RecordKey, StoreError, StoreName, Stray, Write,
};

pub mod bigquery;
mod buckets;
mod checks;
mod falls;
pub(crate) mod files;
mod image;
mod inside;
mod keys;
pub mod memory;
mod places;
pub mod postgres;
mod rows;
pub mod script;
pub mod sqlite;
mod sync;
mod tables;
pub mod twenty;

pub use checks::guard_holds;
use checks::{came_to_nothing, check_write, letting_go, may_write, repeated_keys};
pub use rows::{LazyRow, RowDecoder};

/// What a store says of itself when asked whether it is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Probe {
    /// An opaque identity or epoch, where the store has one: when it changes, the store was replaced or restored.
    pub identity: Option<String>,
}

/// What a store object has cost so far, where calls are counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls that went out.
    pub calls: u64,
    /// How long was waited for the pace that the store allows, in milliseconds, over all calls.
    pub waited_ms: u64,
    /// What its queries and statements were billed for, in bytes, where the store says so.
    pub billed_bytes: u64,
}

/// A piece of a snapshot.
#[derive(Debug)]
pub enum SnapshotItem {
    /// Rows, in strictly ascending order of their keys over the whole snapshot. Rows whose key is unusable or stands twice
    /// are left out and counted in the certificate.
    Rows(Vec<LazyRow>),
    /// Rows, in any order, that the store alone cannot tell the record of, from stores with record ids of their own: they count as read.
    /// With an entity's rows come the elements of the entities that stand inside it: those have no snapshot of their own. They come once
    /// for each place and normal form, the first of several; those without a normal form are left out.
    Strays(Vec<Stray>),
    /// The end: nothing comes after it. A snapshot without it was cut short.
    End(Certificate),
}

/// A snapshot as it arrives.
pub type SnapshotStream = mpsc::Receiver<Result<SnapshotItem, StoreError>>;

/// A look at what changed in an entity since a [`Mark`], all of it as of one moment. Rows first, then the questions.
#[async_trait]
pub trait Changes: Send {
    /// The next rows that are new or may have changed, in strictly ascending order of their keys; none after the last. Rows whose
    /// key is unusable or stands twice are an error here: the entity has to be read whole to tell what that means.
    async fn rows(&mut self) -> Result<Option<Vec<LazyRow>>, StoreError>;

    /// How many rows the entity has now.
    fn count(&self) -> u64;

    /// Where the store stands now, for the next look.
    fn mark(&self) -> Mark;

    /// How many rows there are now between each two neighbouring bounds: before the first bound, from each bound (inclusive) to the
    /// next (exclusive), and from the last one on. The bounds ascend; the answer has one number more than there are bounds.
    async fn counts(&mut self, bounds: &[RecordKey]) -> Result<Vec<u64>, StoreError>;

    /// The keys that are there now, from one (inclusive; none: the first) to another (exclusive; none: the last), ascending.
    async fn keys(
        &mut self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError>;
}

/// One missing thing that migration adds; nothing is ever dropped or rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigrationStep {
    /// What it is, in words: "table `contacts`", "column `contacts.version`".
    pub adds: String,
    /// The statement (or call) that adds it.
    pub statement: String,
}

/// A system that holds records.
#[async_trait]
pub trait Store: Send + Sync {
    /// Its name in the manifests.
    fn name(&self) -> &StoreName;

    /// What it can do.
    fn capabilities(&self) -> &Capabilities;

    /// What this store object has cost so far; none where calls are not counted.
    fn usage(&self) -> Option<Usage> {
        None
    }

    /// A pass begins: what it may cost is counted from here, and a store that can reads whole entities as of one moment from here on.
    fn begin_pass(&self) {}

    /// What one batch of writes to an entity is billed for, in bytes, as the store reckons; none where it does not bill by bytes.
    async fn bill(&self, _mapped: &Mapped) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }

    /// Whether it is there, and which one it is.
    async fn probe(&self) -> Result<Probe, StoreError>;

    /// The tables that stand in it, in the order of their names, whatever the mappings say; none when the store has no such account.
    async fn tables(&self) -> Result<Option<Vec<FoundTable>>, StoreError> {
        Ok(None)
    }

    /// What the mappings need that is missing.
    async fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError>;

    /// Adds what is missing.
    async fn migrate(&self, steps: &[MigrationStep]) -> Result<(), StoreError>;

    /// Reads an entity, in the order of its keys.
    async fn snapshot(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError>;

    /// Reads a table of trueup's own but for some rows, in the order of its keys. A store that cannot leave them out gives them as well:
    /// whoever asks looks again.
    async fn snapshot_except(&self, mapped: Mapped, _except: Except) -> Result<SnapshotStream, StoreError> {
        self.snapshot(mapped).await
    }

    /// What changed in an entity since a mark; none when the store cannot tell (it has no such memory, the mark is from another
    /// server or another layout of the table, or too much has happened since), so that the entity has to be read whole.
    async fn changes(&self, _mapped: &Mapped, _since: &Mark) -> Result<Option<Box<dyn Changes>>, StoreError> {
        Ok(None)
    }

    /// A mark brought up by the writes that this store object has made since it last looked at the entity. Where it is certain what they
    /// left, they are not looked at again. Where it is not, they are looked at as if they were somebody else's; a store whose marks say
    /// what stood there makes them say nothing of such rows: who puts one back as it was before the write must not be overlooked.
    fn seal(&self, _mapped: &Mapped, mark: Mark) -> Mark {
        mark
    }

    /// Reads some records of an entity. The answer has a presence for every key asked for.
    async fn read(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError>;

    /// Reads some rows whole, unmapped columns included, as JSON objects by the store's own column names. Keys without a
    /// row are left out.
    async fn read_native(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError>;

    /// Applies a batch. The answer has an outcome for every write, by its intent. An error means that none happened; when
    /// that is not certain, its kind is [`ErrorKind::OutcomeUnknown`].
    async fn apply(&self, mapped: &Mapped, batch: &Batch) -> Result<BTreeMap<IntentId, Outcome>, StoreError>;

    /// Deletes what goes together, with one receipt for all. The answer has an outcome for every write; of a fall all writes are applied, or
    /// none. An error is one of [`Store::apply`].
    ///
    /// A store that refuses no delete for what refers to the row need not do it at once: it deletes entity by entity, and where one of a
    /// fall was not, what comes after it stays.
    async fn apply_falls(&self, falls: &Falls) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let mut outcomes = BTreeMap::new();
        let mut failed: Option<StoreError> = None;
        let size = self.capabilities().batch_size.max(1);
        for mapped in &falls.mapped {
            let mut due: Vec<Write> = Vec::new();
            for fall in &falls.falls {
                let stays = fall.iter().any(|(_, write)| falls::stays(&outcomes, write));
                for (_, write) in fall.iter().filter(|(entity, _)| entity == mapped.name()) {
                    if stays || failed.is_some() {
                        outcomes.insert(write.intent.clone(), falls::left(self.name(), failed.as_ref()));
                    } else {
                        due.push(write.clone());
                    }
                }
            }
            for writes in due.chunks(size) {
                let (id, writes) = (falls.id.clone(), writes.to_vec());
                let batch = Batch { id, receipt: true, writes, along: Vec::new() };
                match self.apply(mapped, &batch).await {
                    Ok(done) => outcomes.extend(done),
                    Err(error) if outcomes.is_empty() => return Err(error),
                    Err(error) => {
                        let of_it = batch.writes.iter().map(|write| &write.intent);
                        outcomes.extend(of_it.map(|intent| (intent.clone(), falls::failed(&error))));
                        failed = Some(error);
                    }
                }
            }
        }
        Ok(outcomes)
    }

    /// Of these batches, those that left a receipt, each with the intents that it applied.
    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError>;

    /// Removes receipts that the state has taken note of.
    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError>;
}
