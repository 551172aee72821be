//! A pass as a state machine: an event in, effects out.
//!
//! A machine never does anything itself. It says what is to be read, written or committed next, and is told what came of it. The shell
//! runs the effects against real stores; tests run them against stores in memory and stop between any two of them.
//!
//! [`Opening`] finds out where things stand: whether the state belongs to the canonical store, and what became of writes that were in
//! flight when the last pass died. Then everything is observed and planned. [`Applying`] carries a plan out.

mod applying;
mod deleted;
mod ledger;
mod opening;
mod recovery;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Batch, BatchId, EntityName, Falls, Header, Intent, IntentId, Outcome, Presence, RecordId, RecordKey,
    StoreError, StoreName, Transition,
};

use crate::plan::RecordPlan;

pub use applying::{ApplyInputs, Applying};
pub use deleted::{Deleted, Recovered, recover, went_along};
pub use ledger::{Excerpt, Ledger, LedgerContents, PassRow, Settled};
pub use opening::{Opened, Opening, OpeningFailed};
pub use report::{Report, RowChanges, Trouble};

/// Which of the things that a machine has under way at once an effect belongs to. Its event comes back with it.
pub type Lane = usize;

/// A state machine: an event in, effects out. It begins with [`Event::Start`] in lane 0.
pub trait Machine {
    /// Takes an event and says what to do next; nothing when it is done, or while others are still awaited.
    fn step(&mut self, lane: Lane, event: Event) -> Vec<(Lane, Effect)>;

    /// Work for another thread, on what comes after the effects under way; none when there is no more of it. Whether this is ever called,
    /// and what came of it handed back, changes nothing but when things are done.
    fn prepare(&mut self) -> Option<Work> {
        None
    }

    /// Takes what came of such work, and says what may be done now.
    fn prepared(&mut self, _worked: Worked) -> Vec<(Lane, Effect)> {
        Vec::new()
    }
}

/// Work that needs nothing but a processor.
pub type Work = Box<dyn FnOnce() -> Worked + Send>;

/// What came of it.
pub struct Worked {
    chunk: usize,
    records: Vec<(usize, Arc<RecordPlan>)>,
}

impl Machine for Opening {
    fn step(&mut self, lane: Lane, event: Event) -> Vec<(Lane, Effect)> {
        Self::step(self, event).into_iter().map(|effect| (lane, effect)).collect()
    }
}

/// Something for the shell to do. Effects given together may run at the same time; each is answered with one event.
#[derive(Debug)]
pub enum Effect {
    /// Read where the state stands and which intents are open.
    LoadState,
    /// Read the system tables of the canonical store.
    LoadLedger,
    /// Ask the canonical store which of these batches left a receipt.
    Receipts(Vec<BatchId>),
    /// Read some records of an entity in a store.
    Read {
        /// The store.
        store: StoreName,
        /// The entity.
        entity: EntityName,
        /// The records.
        keys: Vec<RecordKey>,
    },
    /// Look at these records again in every store and in the state.
    Recheck(Vec<RecordId>),
    /// Read rows whole, as the store itself has them.
    ReadNative {
        /// The store.
        store: StoreName,
        /// The entity.
        entity: EntityName,
        /// The records.
        keys: Vec<RecordKey>,
    },
    /// Change the state.
    Commit(Transition),
    /// Write to a store.
    Write {
        /// The store.
        store: StoreName,
        /// The entity, or a system table.
        entity: EntityName,
        /// The writes.
        batch: Batch,
    },
    /// Delete what goes together.
    WriteFalls {
        /// The store.
        store: StoreName,
        /// The deletes.
        falls: Falls,
    },
    /// Remove receipts.
    ForgetReceipts(Vec<BatchId>),
}

/// Records that were looked at again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rechecked {
    /// Their fingerprints as they are now.
    pub fingerprints: BTreeMap<RecordId, String>,
    /// Entities that a store could not be read of, and why: of these records it is not known how they are.
    pub unread: BTreeMap<EntityName, StoreError>,
}

/// What came of an effect.
#[derive(Debug)]
pub enum Event {
    /// Begin.
    Start,
    /// Of [`Effect::LoadState`].
    State(Result<(Header, Vec<Intent>), String>),
    /// Of [`Effect::LoadLedger`].
    Ledger(Result<LedgerContents, StoreError>),
    /// Of [`Effect::Receipts`].
    Receipts(Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError>),
    /// Of [`Effect::Read`].
    Rows {
        /// The store that was asked.
        store: StoreName,
        /// The entity.
        entity: EntityName,
        /// A presence for every key asked for.
        rows: Result<BTreeMap<RecordKey, Presence>, StoreError>,
    },
    /// Of [`Effect::Recheck`]: how the records are now; an error where what is remembered cannot be read.
    Rechecked(Result<Rechecked, String>),
    /// Of [`Effect::ReadNative`].
    Native {
        /// The store that was asked.
        store: StoreName,
        /// The entity.
        entity: EntityName,
        /// The rows that are there.
        rows: Result<BTreeMap<RecordKey, serde_json::Value>, StoreError>,
    },
    /// Of [`Effect::Commit`].
    Committed(Result<(), String>),
    /// Of [`Effect::Write`] and [`Effect::WriteFalls`].
    Wrote {
        /// The store.
        store: StoreName,
        /// What became of each write; an error when none happened or nobody knows.
        outcomes: Result<BTreeMap<IntentId, Outcome>, StoreError>,
    },
    /// Of [`Effect::ForgetReceipts`]. Receipts that stay are removed another time.
    ReceiptsForgotten,
}
