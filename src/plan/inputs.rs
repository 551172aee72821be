//! What a plan is made with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{EntityName, RecentDeletes, RecordId, StateId, StoreName, Timestamp};
use crate::resolve::{Conflict, Tombstone};
use crate::spec::Spec;

use super::guards::GuardName;
use super::orders::{Orders, Target};

/// What a plan is made with, besides what is seen.
#[derive(Debug, Clone)]
pub struct PlanInputs {
    /// The manifests.
    pub spec: Arc<Spec>,
    /// The time of the pass.
    pub now: Timestamp,
    /// The state's id.
    pub state: StateId,
    /// The last pass that the state knows of.
    pub state_pass: i64,
    /// Whether everything meets for the first time, because the state was lost or stale.
    pub rebuild: bool,
    /// Where a rebuild did not get to the end yet: what is remembered there counts, and records that are not remembered meet for the first
    /// time as in a rebuild.
    pub rebuilding: BTreeSet<(EntityName, StoreName)>,
    /// Entities of which nothing is remembered yet: what the canonical store has of them was there before.
    pub first_loads: BTreeSet<EntityName>,
    /// Guards that are allowed by name.
    pub allow: BTreeSet<GuardName>,
    /// Only these records, where any are named.
    pub targets: Vec<Target>,
    /// The finest step of each store's times, in microseconds.
    pub precision_micros: BTreeMap<StoreName, i64>,
    /// The tombstones of the canonical store.
    pub tombstones: Arc<BTreeMap<RecordId, Tombstone>>,
    /// How many records were deleted within the last day.
    pub recent_deletes: RecentDeletes,
    /// The open conflicts of the canonical store.
    pub conflicts: Arc<BTreeMap<RecordId, Vec<Conflict>>>,
    /// Whether records that are only taken note of are kept, so that the plan can be carried out whole; otherwise they are counted, and
    /// met again by the next pass.
    pub remember: bool,
    /// What is not to be written, and what was approved.
    pub orders: Orders,
}
