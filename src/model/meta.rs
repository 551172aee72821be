//! Sync metadata: what a store's row says about its own version and origin.

use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ids::Version;
use super::time::Timestamp;

/// Whether a record is as it should be everywhere; kept in the canonical store alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    /// Every store holds the record as it should be.
    #[default]
    Synced,
    /// A store could not be written yet.
    Pending,
    /// A person has to decide.
    Conflict,
}

impl SyncStatus {
    /// The word that stands in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Synced => "synced",
            Self::Pending => "pending",
            Self::Conflict => "conflict",
        }
    }

    /// The status of a word; none for words that trueup does not write.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Synced, Self::Pending, Self::Conflict].into_iter().find(|status| status.as_str() == word)
    }
}

/// One trouble of a record, as kept in its `sync_errors` (the last ten).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SyncError {
    /// When it was first seen.
    pub at: Timestamp,
    /// The store that it concerns.
    pub store: String,
    /// The field, where it concerns one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The rule that was broken, or the kind of the error.
    pub rule: String,
    /// What happened and what to do; never a sensitive value.
    pub message: String,
}

/// The stores that hold a record, as a row names them. Copies share them: a plan makes several of every row's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub struct Sources(Option<Arc<[String]>>);

impl Sources {
    /// Whether none are named.
    pub fn is_none(&self) -> bool {
        self.0.is_none()
    }
}

impl Deref for Sources {
    type Target = [String];

    fn deref(&self) -> &[String] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl From<Vec<String>> for Sources {
    fn from(sources: Vec<String>) -> Self {
        Self((!sources.is_empty()).then(|| sources.into()))
    }
}

impl From<Sources> for Vec<String> {
    fn from(sources: Sources) -> Self {
        sources.to_vec()
    }
}

/// The sync metadata of one row. Everything may be missing: rows written by applications that know nothing of trueup
/// carry none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct SyncMeta {
    /// Counts changes; the higher one wins a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// When the latest edit that made this content was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<Timestamp>,
    /// The store that edit was made in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_by: Option<Arc<str>>,
    /// The stores that hold the record.
    #[serde(skip_serializing_if = "Sources::is_none")]
    pub source_systems: Sources,
    /// Bookkeeping: never an edit, never drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_status: Option<SyncStatus>,
    /// Bookkeeping: the last ten troubles.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sync_errors: Vec<SyncError>,
}

impl SyncMeta {
    /// The row's version, [`Version::NONE`] where it carries none.
    pub fn version_or_none(&self) -> Version {
        self.version.unwrap_or_default()
    }

    /// Version, time and origin alone: what is evidence, without bookkeeping.
    #[must_use]
    pub fn evidence(self) -> Self {
        Self { source_systems: Sources::default(), sync_status: None, sync_errors: Vec::new(), ..self }
    }

    /// Whether both say the same of the content; bookkeeping is left out.
    pub fn same_evidence(&self, other: &Self) -> bool {
        self.version == other.version
            && self.last_updated == other.last_updated
            && self.last_updated_by == other.last_updated_by
    }
}
