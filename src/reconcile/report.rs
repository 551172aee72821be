//! What a pass did.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{EntityName, RecordId, StoreName};
use crate::plan::{Books, GuardTrip, Totals};

/// A write that did not happen, or of which it is not known whether it did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The record.
    pub record: RecordId,
    /// The store.
    pub store: StoreName,
    /// What happened, and what will become of it; no value.
    pub message: String,
}

/// Rows that were made and removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowChanges {
    /// Which, while there are few.
    pub few: Vec<(RecordId, StoreName, i64)>,
    /// Whether there are more than are listed.
    pub more: bool,
}

impl RowChanges {
    /// How many are listed. When there are more, everything is read again.
    pub(super) const LISTED: usize = 10_000;

    pub(super) fn note(&mut self, record: &RecordId, store: &StoreName, by: i64) {
        if self.few.len() < Self::LISTED {
            self.few.push((record.clone(), store.clone(), by));
        } else {
            self.more = true;
        }
    }
}

/// What a pass did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The pass's number; none: nothing was written or remembered.
    pub pass: Option<i64>,
    /// Writes that were acknowledged.
    pub applied: Totals,
    /// Records that somebody else changed in between: left for the next pass.
    pub skipped: Vec<Trouble>,
    /// Writes that failed.
    pub failed: Vec<Trouble>,
    /// Writes whose outcome is not known; the next pass finds out.
    pub unknown: Vec<Trouble>,
    /// Stores that could not be read, and why: their records wait.
    #[serde(default)]
    pub unreadable: BTreeMap<StoreName, String>,
    /// Guards that refused an entity.
    pub guards: Vec<GuardTrip>,
    /// Conflicts recorded as settled by the rule.
    pub conflicts_settled: u64,
    /// Conflicts recorded as waiting for a person.
    pub conflicts_opened: u64,
    /// Conflicts that wait for a person afterwards, however old they are.
    #[serde(default)]
    pub conflicts_waiting: u64,
    /// Where every record stands, by entity and store.
    pub books: BTreeMap<EntityName, BTreeMap<StoreName, Books>>,
    /// Rows that were made (1) and removed (-1), as far as they are few. Not shown.
    #[serde(skip)]
    pub rows: RowChanges,
    /// Records and the stores that they were written to, the first ten thousand. Not shown.
    #[serde(skip)]
    pub written: Vec<(RecordId, StoreName)>,
    /// Stores that gave up while they were written: what failed there says nothing about the records. Not shown.
    #[serde(skip)]
    pub down: std::collections::BTreeSet<StoreName>,
    /// Whether the records that were to be looked at could not be decided about alone, so that nothing was done.
    #[serde(skip)]
    pub look_further: bool,
    /// Whether it was stopped before the end; what was not written is left for the next pass.
    pub stopped: bool,
}

impl Report {
    /// Whether every store was read and everything that was planned happened.
    pub fn is_clean(&self) -> bool {
        self.unreadable.is_empty()
            && self.skipped.is_empty()
            && self.failed.is_empty()
            && self.unknown.is_empty()
            && !self.stopped
    }
}
