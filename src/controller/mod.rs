//! The shell around the core: opens what the manifests name, runs passes, and keeps running them.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::model::{MigrationSteps, StoreName, Value};
use crate::plan::{GuardName, Plan, Target};
use crate::reconcile::Report;
use crate::resolve::Conflict;
use crate::spec::Spec;
use crate::state::{Lease, State};
use crate::store::{MigrationStep, Stores};
use crate::telemetry::Observer;

/// How a pass is to be made.
#[derive(Debug, Clone, Default)]
pub struct PassOptions {
    /// Only these records, where any are named.
    pub targets: Vec<Target>,
    /// Guards that are allowed by name.
    pub allow: BTreeSet<GuardName>,
    /// How many stores are written at once.
    pub parallelism: Option<usize>,
    /// How long to wait for the lease, in milliseconds.
    pub lock_timeout_ms: u64,
}
