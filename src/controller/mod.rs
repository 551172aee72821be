//! The shell around the core: opens what the manifests name, runs passes, and keeps running them.

mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::model::{ConflictId, FieldName, StoreName};
use crate::plan::{GuardName, Plan, Target};
use crate::reconcile::Report;
use crate::resolve::Conflict;
use crate::spec::Spec;
use crate::state::Lease;
use crate::store::MigrationStep;
use crate::telemetry::Observer;

pub use run::{EnginePass, Pass, RunOptions, RunSummary, run};

/// How a pass is to be made.
#[derive(Debug, Clone, Default)]
pub struct PassOptions {
    /// Only these records, where any are named.
    pub targets: Vec<Target>,
    /// Guards that are allowed by name.
    pub allow: BTreeSet<GuardName>,
    /// How many stores are read or written at once; none: all.
    pub parallelism: Option<usize>,
    /// How long to wait for the lease, in milliseconds.
    pub lock_timeout_ms: u64,
}

/// Why a command could not do its work. The text says what happened and what to do, and shows no sensitive value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for EngineError {}

/// How a person settles a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This store's values stand.
    Take(StoreName),
    /// These values stand, as text in canonical form (`null` clears).
    Set(BTreeMap<FieldName, String>),
}

/// Migration steps by store.
pub type Migration = BTreeMap<StoreName, Vec<MigrationStep>>;

/// Opened stores and state, ready for passes.
pub struct Engine {
    spec: Arc<Spec>,
}

impl Engine {
    /// Opens every store that the manifests name, and the state. With `create`, files of embedded stores that are not there
    /// are made (for `migrate`); otherwise a store that cannot be opened is reported when it is used, so that it does not
    /// keep the others from being looked at.
    pub async fn open(spec: Arc<Spec>, create: bool) -> Result<Self, EngineError> {
        let _ = create;
        Ok(Self { spec })
    }

    /// The manifests.
    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// Looks at everything and plans; writes nothing.
    pub async fn plan(&self, _options: &PassOptions, _observer: &dyn Observer) -> Result<Plan, EngineError> {
        Err(EngineError { message: "not built yet".to_owned(), hint: None })
    }

    /// Applies a plan. With `recheck` (a plan that was saved, or looked at by a person) every record is looked at again first,
    /// and those that moved on since are skipped by name. Cancelling `stop` ends after the batch in flight.
    pub async fn apply(
        &self,
        _plan: Plan,
        _recheck: bool,
        _options: &PassOptions,
        _observer: &dyn Observer,
        _stop: &CancellationToken,
    ) -> Result<Report, EngineError> {
        Err(EngineError { message: "not built yet".to_owned(), hint: None })
    }

    /// What the stores lack.
    pub async fn migration(&self) -> Result<Migration, EngineError> {
        Ok(Migration::new())
    }

    /// Adds what the stores lack.
    pub async fn migrate(&self, _migration: &Migration) -> Result<(), EngineError> {
        Ok(())
    }

    /// The conflicts in the canonical store: the open ones, or all.
    pub async fn conflicts(&self, _all: bool) -> Result<Vec<Conflict>, EngineError> {
        Ok(Vec::new())
    }

    /// Records a person's decision in the canonical store; the next pass over the record carries it out.
    pub async fn decide(&self, _id: &ConflictId, _choice: Choice, _by: &str) -> Result<Conflict, EngineError> {
        Err(EngineError { message: "not built yet".to_owned(), hint: None })
    }

    /// Who holds the lease on the state, if anyone.
    pub async fn lease(&self) -> Result<Option<Lease>, EngineError> {
        Ok(None)
    }
}
