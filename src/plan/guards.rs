//! Guards: what no plan does unless it is allowed by name, for this very plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{EntityName, StoreName};

/// The guards, by the name that `--allow` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardName {
    /// Too large a share of an entity's records in a store would be deleted.
    Deletes,
    /// Too large a share would be changed.
    Updates,
    /// A store that held records holds none.
    Emptied,
    /// A snapshot was cut short or does not add up.
    Incomplete,
    /// Several records went back to older versions: a backup was put back.
    Regressed,
}

impl GuardName {
    /// All guards.
    pub const ALL: [Self; 5] =
        [Self::Deletes, Self::Updates, Self::Emptied, Self::Incomplete, Self::Regressed];

    /// The name that `--allow` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deletes => "deletes",
            Self::Updates => "updates",
            Self::Emptied => "emptied",
            Self::Incomplete => "incomplete",
            Self::Regressed => "regressed",
        }
    }

    /// The guard of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|guard| guard.as_str() == name)
    }
}

impl fmt::Display for GuardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A guard that refuses an entity, everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardTrip {
    /// The guard.
    pub guard: GuardName,
    /// The entity that nothing is done about.
    pub entity: EntityName,
    /// The store that set it off.
    pub store: StoreName,
    /// What was found, in numbers, and what can be done.
    pub message: String,
}

impl fmt::Display for GuardTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "guard `{}`: {} in {}: {} (override for this plan with --allow {})",
            self.guard, self.entity, self.store, self.message, self.guard
        )
    }
}
