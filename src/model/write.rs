//! The words between the core and the stores: what a store can do, what it is told to write, and what it answers.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::flat::Fields;
use super::ids::{BatchId, EntityName, IntentId, RecordKey, StoreName, StoreRecordId};
use super::mapping::Mapping;
use super::meta::SyncMeta;
use super::observed::{Cell, Row};
use super::schema::Entity;
use super::time::Timestamp;
use super::value::Value;

/// What a store can do: plain data, asked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// How many writes fit in a batch.
    pub batch_size: usize,
    /// Whether a write's guard is checked in the same atomic step as the write.
    pub atomic_guards: bool,
    /// Whether the store may be canonical: conditional writes, snapshots and tables of our own.
    pub can_be_canonical: bool,
    /// The finest step of a timestamp it keeps, in microseconds.
    pub time_precision_micros: i64,
}

/// The closed set of things that can go wrong in a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The table, object or record is not there.
    NotFound,
    /// Somebody else holds or has what was asked for (a lock, a unique value).
    Conflict,
    /// Too many calls; try again after the time named.
    RateLimited,
    /// No answer, or the store says that it cannot answer now.
    Unavailable,
    /// The credentials are missing, wrong or not enough.
    Unauthorised,
    /// The store refuses what was sent.
    Invalid,
    /// The store cannot do this at all.
    Unsupported,
    /// What came back makes no sense.
    Corrupt,
    /// A write whose answer never came: it may or may not have happened.
    OutcomeUnknown,
}

impl ErrorKind {
    /// The word used in logs, metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Conflict => "conflict",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Unauthorised => "unauthorised",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::OutcomeUnknown => "outcome_unknown",
        }
    }
}

/// An error of a store. Its text names table, column or key, and never shows a field's value or a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreError {
    /// Which of the closed set.
    pub kind: ErrorKind,
    /// The store.
    pub store: StoreName,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// For [`ErrorKind::RateLimited`]: how long to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl StoreError {
    /// An error of a kind, without a hint.
    pub fn new(kind: ErrorKind, store: &StoreName, message: impl Into<String>) -> Self {
        Self { kind, store: store.clone(), message: message.into(), hint: None, retry_after_ms: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store `{}`: {}", self.store, self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}
impl std::error::Error for StoreError {}

/// An entity and where it lives in the store that is asked.
#[derive(Debug, Clone)]
pub struct Mapped {
    /// The entity.
    pub entity: Arc<Entity>,
    /// Its place.
    pub mapping: Arc<Mapping>,
}

impl Mapped {
    /// The entity's name.
    pub fn name(&self) -> &EntityName {
        &self.entity.name
    }
}

/// What a row must still be for a write to happen: exactly as it was read. Fields not named here do not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// Fields as read.
    pub fields: Fields<Cell>,
    /// Sync metadata as read (version, time and origin; bookkeeping is no evidence).
    pub meta: SyncMeta,
}

/// What a write does to a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteOp {
    /// Makes the row, unless one with its key exists.
    Create {
        /// The fields to set; others are left to the store's defaults.
        fields: Fields<Value>,
        /// The row's sync metadata.
        meta: SyncMeta,
        /// The creation time, where the mapping has a place for it.
        created: Option<Timestamp>,
        /// The time of the last update, where the mapping has a place for it.
        updated: Option<Timestamp>,
    },
    /// Changes the row, if the guard holds.
    Update {
        /// The fields to set.
        fields: Fields<Value>,
        /// The row's new sync metadata; none: it is left as it is.
        meta: Option<SyncMeta>,
        /// The time of the last update, where the mapping has a place for it and fields change.
        updated: Option<Timestamp>,
        /// What must still hold.
        guard: Guard,
    },
    /// Removes the row, if the guard holds.
    Delete {
        /// What must still hold.
        guard: Guard,
    },
}

/// One intended write of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its id in the journal.
    pub intent: IntentId,
    /// The record's key.
    pub key: RecordKey,
    /// The store's own id of the row, where it is known.
    pub store_id: Option<StoreRecordId>,
    /// Whether the row still carries no key, in a store with record ids of its own, where it was found by its id. The update then writes the
    /// key too (and the relations that are parts of it), together with the rest or not at all.
    pub link: bool,
    /// What to do.
    pub op: WriteOp,
}

/// Writes to one entity of one store that go out together. A bad one never fails the others.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The batch's id.
    pub id: BatchId,
    /// Whether the store keeps a receipt of what it applied, in the same transaction (the canonical store's batches).
    pub receipt: bool,
    /// The writes; no two of one key.
    pub writes: Vec<Write>,
    /// Elements of the records that this batch creates. Writes of their own follow. A store may create them along with the records, and
    /// answer those later writes with what it read back then; or it may ignore this.
    pub along: Vec<Along>,
}

/// An element that is about to be made in a record that is about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Along {
    /// The element's entity.
    pub entity: EntityName,
    /// The key of the record that it stands in.
    pub parent: RecordKey,
    /// Its fields.
    pub fields: Fields<Value>,
}

/// Deletes in several entities of one store: of each fall all rows go, in their order, or none.
#[derive(Debug, Clone)]
pub struct Falls {
    /// The batch's id.
    pub id: BatchId,
    /// Where the entities live. Those that refer to others come first: their records are deleted first.
    pub mapped: Vec<Mapped>,
    /// What is deleted together: each time a record, after everything that is deleted because of it.
    pub falls: Vec<Fall>,
}

/// Deletes that happen together or not at all, each with its entity.
pub type Fall = Vec<(EntityName, Write)>;

/// What became of one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It happened. The row as the store answered it: only the fields written and the metadata are a read-back; everything else in it is
    /// an observation. None after a delete, and where the store is sure that what was written stands there as it was given.
    Applied(Option<Row>),
    /// The guard no longer held, or a row to be created was there, or one to be changed was not: nothing was written.
    Moved,
    /// The store refused this write; the others of its batch are not affected.
    Refused(StoreError),
    /// It is not known whether the write happened.
    Unknown(StoreError),
}
