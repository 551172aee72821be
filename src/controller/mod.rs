//! The shell around the core: opens what the manifests name, runs passes, and keeps running them.

mod beside;
mod conflicts;
mod deleted;
mod explain;
mod hints;
mod identity;
mod lease;
mod marks;
mod migrating;
mod notes;
mod open;
mod pace;
mod rebuilding;
mod related;
mod retention;
mod run;
mod scripts;
mod tables;
mod usage;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use tokio_util::sync::CancellationToken;

use crate::apply::{self, Executor, KeptLease, Sight, Spool, clock};
use crate::model::{Mapped, RecordId, StateId, StoreError, StoreName, Timestamp};
use crate::plan::{GuardName, Holds, Plan, PlanInputs, Planner, Target, of_other_state, of_rebuilding};
use crate::reconcile::{
    self, ApplyInputs, Applying, Effect, Lane, Ledger, Machine, Opened, Opening, OpeningFailed, Report, Work,
    Worked,
};
use crate::spec::{Spec, StateSpec};
use crate::state::memory::MemoryState;
use crate::state::{State, StateError};
use crate::store::MigrationStep;
use crate::telemetry::{Event, Observer};

pub use conflicts::Choice;
pub use explain::Explained;
pub use hints::Inbox;
pub use notes::{Approval, KnownError, Pause};
pub use pace::{Hinted, Pace, PaceOptions, Step, Task};
pub use run::{Reload, RunOptions, RunSummary, Running, pace_options, run};
pub use scripts::scripts;
pub use tables::tables;
pub use watch::watch;

/// How many records go out together at most. A few such chunks are what a kill leaves to be found out about, and what a stop waits for.
const LARGEST_CHUNK: usize = 1_000;

/// Records out of order beyond which all are read.
const MOST_UNSETTLED: usize = 20_000;

/// A day, in microseconds: what the guard against deletes looks back on.
const DAY_MICROS: i64 = 24 * 3600 * 1_000_000;

/// What to do about a plan that is out of date: no error of the stores or the state.
const PLAN_AGAIN: &str = "plan again";

/// What a pass reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Refresh {
    /// What changed, where the stores can say that; everything elsewhere.
    #[default]
    Changed,
    /// Everything.
    Full,
}

/// How a pass is to be made.
#[derive(Debug, Clone, Default)]
pub struct PassOptions {
    /// Only these records, where any are named.
    pub targets: Vec<Target>,
    /// Guards that are allowed by name.
    pub allow: BTreeSet<GuardName>,
    /// How many stores are written at once; none: all.
    pub parallelism: Option<usize>,
    /// How long to wait for the lease, in milliseconds.
    pub lock_timeout_ms: u64,
    /// The plan is only to be looked at: records of which only note would be taken are counted and not kept.
    pub only_look: bool,
    /// What is read.
    pub refresh: Refresh,
    /// Only these records are read, each by its key; none: as `refresh` has it. Where that is not enough to decide about them, nothing is
    /// done, and [`Report::look_further`] says so.
    pub only: Option<Vec<RecordId>>,
    /// Stores that are left alone in this pass, and why.
    pub away: BTreeMap<StoreName, String>,
    /// Records that are not written in a store for now, because that failed a short while ago.
    pub waiting: Vec<(RecordId, StoreName)>,
}

/// Why a command could not do its work. The text says what happened and what to do, and shows no sensitive value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineError {
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
    /// Whether another controller was at work.
    pub held_elsewhere: bool,
}

impl EngineError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, held_elsewhere: false }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
impl std::error::Error for EngineError {}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        let message = format!("store `{}`: {}", error.store, error.message);
        Self { hint: error.hint, ..Self::new(message) }
    }
}

impl From<StateError> for EngineError {
    fn from(error: StateError) -> Self {
        let hint = error
            .held_elsewhere
            .then(|| "wait for it with --lock-timeout, or for its lease to lapse".to_owned());
        Self { hint, held_elsewhere: error.held_elsewhere, ..Self::new(error.to_string()) }
    }
}

impl From<OpeningFailed> for EngineError {
    fn from(failure: OpeningFailed) -> Self {
        Self { hint: failure.hint, ..Self::new(failure.message) }
    }
}

/// Migration steps by store.
pub type Migration = BTreeMap<StoreName, Vec<MigrationStep>>;

/// Why stores could not do what was asked of them.
pub type Refused = BTreeMap<StoreName, EngineError>;

/// Opened stores and state, ready for passes.
pub struct Engine {
    spec: Arc<Spec>,
    stores: apply::Opened,
    state: Arc<dyn State>,
    ledger: Ledger,
    holder: String,
    clock: Clock,
    /// Whether the passes are this one's until it is told otherwise, so that the lease between them says nothing.
    leads: AtomicBool,
    /// Whether whoever works under the lease may be writing, and does not only look.
    writes: AtomicBool,
    /// When the next row that is kept for people alone has been kept long enough, in microseconds since 1970.
    next_removal: AtomicI64,
    told: usage::Told,
}

/// A plan being carried out until it is done, or somebody says stop.
struct Stoppable<'a> {
    machine: Applying,
    stop: &'a CancellationToken,
}

impl Machine for Stoppable<'_> {
    fn step(&mut self, lane: Lane, event: reconcile::Event) -> Vec<(Lane, Effect)> {
        if self.stop.is_cancelled() {
            self.machine.stop();
        }
        self.machine.step(lane, event)
    }

    fn prepare(&mut self) -> Option<Work> {
        self.machine.prepare()
    }

    fn prepared(&mut self, worked: Worked) -> Vec<(Lane, Effect)> {
        self.machine.prepared(worked)
    }
}

/// What says the present time.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

impl Engine {
    /// Opens every store that the manifests name, and the state. With `create`, files of embedded stores that are not there
    /// are made (for `migrate`); otherwise a store that cannot be opened is reported when it is used, so that it does not
    /// keep the others from being looked at.
    ///
    /// # Errors
    /// When the state cannot be opened.
    pub async fn open(spec: Arc<Spec>, create: bool) -> Result<Self, EngineError> {
        let stores = open::stores(&spec, create).await;
        let state = open::state(&spec).await?;
        Ok(Self::with(spec, stores, state))
    }

    /// Opens every store to see what it lacks, and leaves everything as it is: files of embedded stores that are not there
    /// stay so and count as empty, and no state is looked for.
    pub async fn open_to_look(spec: Arc<Spec>) -> Self {
        let mut stores = open::stores(&spec, false).await;
        open::fill_in(&spec, &mut stores).await;
        Self::with(spec, stores, Arc::new(MemoryState::new(StateId("none".to_owned()))))
    }

    /// An engine of stores and a state that are open already: for programs that bring their own.
    pub fn with(spec: Arc<Spec>, stores: apply::Opened, state: Arc<dyn State>) -> Self {
        let ledger = Ledger::new(&spec.canonical);
        Self {
            spec,
            stores,
            state,
            ledger,
            holder: open::holder(),
            clock: Arc::new(clock),
            leads: AtomicBool::new(false),
            writes: AtomicBool::new(false),
            next_removal: AtomicI64::new(i64::MIN),
            told: usage::Told::default(),
        }
    }

    /// The same under another name and with another clock: for simulations.
    #[must_use]
    pub fn simulated(self, holder: &str, clock: Clock) -> Self {
        Self { holder: holder.to_owned(), clock, ..self }
    }

    /// What a reference of the manifests refers to, as text.
    ///
    /// # Errors
    /// Why it cannot be read; never what it is.
    pub fn secret(&self, reference: &crate::spec::Reference) -> Result<String, String> {
        open::secret(&self.spec.folder, reference)
    }

    /// The present time.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// The manifests.
    pub fn spec(&self) -> &Arc<Spec> {
        &self.spec
    }

    /// Beside the state, where there is room for what is as large; not every system's folder for temporary files is on a disk.
    fn spool_folder(&self) -> Option<std::path::PathBuf> {
        let StateSpec::Sqlite(path) = &self.spec.controller.state else { return None };
        let folder = self.spec.folder.join(path).parent()?.to_owned();
        folder.is_dir().then_some(folder)
    }

    fn executor<'a>(
        &'a self,
        observer: &'a dyn Observer,
        lease: Option<&'a KeptLease>,
        options: &'a PassOptions,
    ) -> Executor<'a> {
        Executor {
            spec: &self.spec,
            stores: &self.stores,
            state: &self.state,
            ledger: &self.ledger,
            observer,
            rebuild: false,
            gate: options.parallelism.map(|at_once| tokio::sync::Semaphore::new(at_once.max(1))),
            lease,
            away: &options.away,
            latency: false,
        }
    }

    async fn opening(&self, executor: &Executor<'_>, commit: bool) -> Result<Opened, EngineError> {
        for store in self.stores.values().flatten() {
            store.begin_pass();
        }
        let mut machine = Opening::new(self.spec.clone(), commit, self.now());
        executor.drive(&mut machine).await;
        Ok(machine.result()?)
    }

    async fn look(
        &self,
        executor: &Executor<'_>,
        opened: &Opened,
        options: &PassOptions,
    ) -> Result<Option<Plan>, EngineError> {
        let inputs = self.inputs(opened, options).await?;
        let rebuilding = inputs.rebuilding.clone();
        let mut planner = Planner::new(inputs, Box::new(Spool::new(self.spool_folder())));
        let whole = options.refresh == Refresh::Full || !options.targets.is_empty();
        let sight = Sight { executor, opened, whole };
        // What was just found out about the writes of an earlier pass concerns other records, and is known to this pass alone.
        let found_out = opened.recovered || !opened.overlay.is_empty() || !opened.unresolved.is_empty();
        if let Some(records) = options.only.as_ref().filter(|_| !found_out) {
            let alone = sight.feed_named(records, &mut planner).await.map_err(EngineError::new)?;
            executor.observer.notice(&Event::LookedAt { records: records.len(), alone });
            if !alone {
                return Ok(None);
            }
            return planner.finish().map(Some).map_err(|lost| EngineError::new(lost.to_string()));
        }
        let marks = sight.feed(&mut planner).await.map_err(EngineError::new)?;
        let mut plan = planner.finish().map_err(|lost| EngineError::new(lost.to_string()))?;
        if options.targets.is_empty() {
            plan.marks = marks;
        }
        if let Some(pass) = opened.ledger.pass.as_ref().filter(|_| opened.rebuild) {
            let same = pass.state == opened.header.id;
            plan.notices.insert(0, of_other_state(&self.spec.canonical, pass.number, same));
        }
        plan.notices.splice(0..0, rebuilding.iter().map(|(entity, store)| of_rebuilding(entity, store)));
        plan.bills = self.bills(&plan).await;
        executor.observer.notice(&Event::Planned { plan: &plan });
        Ok(Some(plan))
    }

    /// What a plan is made with, besides what the stores hold.
    async fn inputs(&self, opened: &Opened, options: &PassOptions) -> Result<PlanInputs, EngineError> {
        let precision = |(name, store): (&StoreName, &Result<Arc<dyn crate::store::Store>, StoreError>)| {
            Some((name.clone(), store.as_ref().ok()?.capabilities().time_precision_micros))
        };
        let now = self.now();
        let mut first_loads = BTreeSet::new();
        for entity in &self.spec.entities {
            if self.state.page(entity, None, 1).await?.is_empty() {
                first_loads.insert(entity.name.clone());
            }
        }
        Ok(PlanInputs {
            first_loads,
            spec: self.spec.clone(),
            now,
            recent_deletes: self.state.deletes_since(now.saturating_add_micros(-DAY_MICROS)).await?,
            state: opened.header.id.clone(),
            state_pass: opened.header.acknowledged,
            rebuild: opened.rebuild,
            rebuilding: if opened.rebuild { BTreeSet::new() } else { self.rebuilding().await? },
            allow: options.allow.clone(),
            targets: options.targets.clone(),
            precision_micros: self.stores.iter().filter_map(precision).collect(),
            tombstones: opened.ledger.tombstones.clone(),
            conflicts: opened.ledger.conflicts.clone(),
            remember: !options.only_look,
            orders: self.orders(options).await?,
        })
    }

    /// Applies a plan. With `recheck` (a plan that was saved, or looked at by a person) every record is looked at again first,
    /// and those that moved on since are skipped by name. Cancelling `stop` ends after the batch in flight.
    ///
    /// # Errors
    /// When another controller holds the lease, or canonical store or state cannot be used.
    pub async fn apply(
        &self,
        plan: Plan,
        recheck: bool,
        options: &PassOptions,
        observer: &dyn Observer,
        stop: &CancellationToken,
    ) -> Result<Report, EngineError> {
        self.under_lease(Some((plan, recheck)), options, observer, stop).await
    }

    /// One whole pass under one lease: opens, looks, plans and applies, with no guard overridden but those in `options`.
    ///
    /// # Errors
    /// As [`Engine::apply`].
    pub async fn pass(
        &self,
        options: &PassOptions,
        observer: &dyn Observer,
        stop: &CancellationToken,
    ) -> Result<Report, EngineError> {
        self.under_lease(None, options, observer, stop).await
    }

    /// Carries a plan out (with whether to look at its records again), or makes one first, while holding the lease.
    async fn under_lease(
        &self,
        plan: Option<(Plan, bool)>,
        options: &PassOptions,
        observer: &dyn Observer,
        stop: &CancellationToken,
    ) -> Result<Report, EngineError> {
        let lease = self.take_lease(options.lock_timeout_ms, observer, stop).await?;
        let work = async {
            let executor = self.executor(observer, Some(&lease), options);
            self.writes.store(true, Ordering::SeqCst);
            let opened = self.opening(&executor, true).await?;
            self.writes.store(false, Ordering::SeqCst);
            let executor = Executor { latency: opened.header.acknowledged > 0, ..executor };
            let (plan, recheck, holds) = match plan {
                None => match self.look(&executor, &opened, options).await? {
                    Some(plan) => (plan, false, Holds::default()),
                    None => return Ok(Report { look_further: true, ..Report::default() }),
                },
                Some((plan, recheck)) => {
                    // Somebody worked with this state since the plan was made: what it remembers is no longer what was
                    // planned with.
                    let moved = opened.header.id != plan.state
                        || opened.header.acknowledged != plan.state_pass
                        || opened.recovered;
                    // Nor are the records that it found out of order all that there are now.
                    let marks = if moved { BTreeMap::new() } else { plan.marks };
                    // What was paused since is written no more than what was paused before.
                    (Plan { marks, ..plan }, recheck || moved, self.orders(options).await?.holds)
                }
            };
            self.writes.store(true, Ordering::SeqCst);
            let errors = notes::of_plan(&plan, self.now());
            let carried = self.carry_out(executor, opened, plan, (recheck, holds), options, stop);
            let report = Box::pin(carried).await?;
            if options.only.is_none() && !report.stopped {
                self.remove_old(&self.executor(observer, Some(&lease), options)).await;
            }
            self.note_errors(errors, &report, options).await?;
            Ok(report)
        };
        let result = tokio::select! {
            result = self.counting(observer, work) => result,
            never = self.renew(&lease) => match never {},
        };
        if let Err(error) = result.as_ref().map_err(|error: &EngineError| error)
            && error.hint.as_deref() != Some(PLAN_AGAIN)
        {
            self.note_failed_pass(error).await;
        }
        self.writes.store(false, Ordering::SeqCst);
        self.give_lease_up(&lease, observer).await;
        result
    }

    async fn carry_out(
        &self,
        executor: Executor<'_>,
        opened: Opened,
        plan: Plan,
        (recheck, holds): (bool, Holds),
        options: &PassOptions,
        stop: &CancellationToken,
    ) -> Result<Report, EngineError> {
        if plan.rebuild != opened.rebuild {
            return Err(
                EngineError::new("the state is not the one that the plan was made with").hint(PLAN_AGAIN)
            );
        }
        if opened.rebuild {
            self.begin_rebuilding().await?;
        }
        let executor = Executor { rebuild: opened.rebuild, ..executor };
        let inputs = ApplyInputs {
            spec: self.spec.clone(),
            header: opened.header,
            ledger: opened.ledger,
            now: self.now(),
            holder: self.holder.clone(),
            chunk: self.chunk(),
            recheck,
            holds,
        };
        let (marks, unsettled) = (plan.marks.clone(), plan.unsettled.clone());
        let mut machine = Stoppable { machine: Applying::new(inputs, plan), stop };
        executor.drive(&mut machine).await;
        let plan = machine.machine.plan();
        let report = machine.machine.result().map_err(EngineError::new);
        let kept = report.as_ref().map(|report| self.new_marks(marks, unsettled, report));
        let noted = self.keep_marks(kept.unwrap_or_default(), &plan).await;
        let report = report?;
        noted?;
        if options.only.is_none() {
            self.end_rebuilding(&plan, &report).await?;
        }
        Ok(report)
    }

    /// The smallest batch that any store takes.
    fn chunk(&self) -> usize {
        let of_stores =
            self.stores.values().filter_map(|store| Some(store.as_ref().ok()?.capabilities().batch_size));
        let of_manifests = self.spec.stores.values().filter_map(|store| store.batch_size);
        of_stores.chain(of_manifests).min().unwrap_or(LARGEST_CHUNK).clamp(1, LARGEST_CHUNK)
    }

    /// Everything that lives in a store, the system tables of the canonical one included.
    fn mapped_in(&self, store: &StoreName) -> Vec<Mapped> {
        let system = self.ledger.all().into_iter().filter(|_| *store == self.spec.canonical).cloned();
        self.spec.mapped_in(store).chain(system).collect()
    }

    /// The last pass that the state knows of; 0 before the first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn last_pass(&self) -> Result<i64, EngineError> {
        Ok(self.state.header().await?.acknowledged)
    }
}
