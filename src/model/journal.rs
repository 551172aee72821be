//! The words between the core and the state: intents, how they ended, and atomic changes of what is remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::flat::ByName;
use super::flat::ByStore;
use super::ids::{BatchId, EntityName, IntentId, RecordId, StateId, StoreName};
use super::marks::Marks;
use super::memory::Shadow;
use super::meta::SyncMeta;
use super::time::Timestamp;
use super::value::Value;

/// Where the state stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The id it was born with.
    pub id: StateId,
    /// The last pass whose number is known to stand in the canonical store; 0 before the first.
    pub acknowledged: i64,
    /// The pass whose number was about to be put there.
    pub intended: i64,
}

/// What a write in flight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentKind {
    /// A row is made.
    Create,
    /// A row is changed.
    Update,
    /// A row is removed.
    Delete,
}

/// A write noted before it is sent, with everything that follows from its success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// Its id.
    pub id: IntentId,
    /// The batch it goes out with.
    pub batch: BatchId,
    /// The store written to.
    pub store: StoreName,
    /// Whether that store keeps receipts of it.
    pub receipt: bool,
    /// The record.
    pub record: RecordId,
    /// What it does.
    pub kind: IntentKind,
    /// The fields written, as they were before (a before-image, for undoing by hand); empty of a row that is made.
    pub before: ByName<Value>,
    /// The fields written, as they will be read back; of a row that is made they are those of its shadow, and none is here.
    pub after: ByName<Value>,
    /// The sync metadata before.
    pub meta_before: SyncMeta,
    /// The sync metadata after; none: it is left as it is.
    pub meta_after: Option<SyncMeta>,
    /// The shadows that are true once it happened.
    pub advances: ByStore<Arc<Shadow>>,
}

/// How an intent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentEnd {
    /// It happened and was acknowledged.
    Applied,
    /// Its record had moved on, or the store refused it: nothing was written.
    NotApplied,
    /// It could not be found out; the fields concerned count as changed.
    Unresolved,
}

/// Deletes of an entity's records in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletes {
    /// When.
    pub at: Timestamp,
    /// The entity.
    pub entity: EntityName,
    /// The store.
    pub store: StoreName,
    /// How many.
    pub count: u64,
}

/// How many records were deleted lately, by entity and store.
pub type RecentDeletes = BTreeMap<(EntityName, StoreName), u64>;

/// One atomic change of the state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transition {
    /// The pass about to be announced in the canonical store.
    pub intend_pass: Option<i64>,
    /// The pass known to be announced there.
    pub acknowledge_pass: Option<i64>,
    /// Throw away every shadow and open intent first (a stale state is rebuilt by a first meeting).
    pub forget_everything: bool,
    /// Intents noted before their writes go out.
    pub open: Vec<Arc<Intent>>,
    /// Intents that ended.
    pub close: Vec<(IntentId, IntentEnd)>,
    /// Shadows that are true now. Others of the same record stay.
    pub shadows: Vec<(RecordId, StoreName, Arc<Shadow>)>,
    /// Deletes that were acknowledged, for the guard that looks at a whole day.
    pub deletes: Vec<Deletes>,
    /// Shadows that are no longer needed.
    pub forget: Vec<(RecordId, StoreName)>,
    /// Where the stores of entities stand now; none: not known any more.
    pub marks: Vec<(EntityName, Option<Marks>)>,
}

impl Transition {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self == &Self::default()
    }
}
