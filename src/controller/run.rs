//! The loop: what [`Pace`] says, done, until it is told to stop. It decides nothing about records.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::http::Health;
use crate::reconcile::Report;
use crate::telemetry::{Event, Observer};

use super::hints::Inbox;
use super::notes::Pause;
use super::pace::{Pace, PaceOptions, Step, Task};
use super::{Engine, EngineError, PassOptions, Refresh};

/// How long a pass may go on after it was told to stop. Whoever stops us waits half a minute by custom.
const GRACE: Duration = Duration::from_secs(20);

/// How the loop goes.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// From the end of a pass to the beginning of the next one, instead of what the manifests say.
    pub interval: Option<Duration>,
    /// Whether to stop after the first pass.
    pub once: bool,
    /// Whether to look only and write nothing.
    pub dry_run: bool,
    /// What the jitter is made from: another number for another controller.
    pub seed: u64,
    /// How each pass is made, as far as the loop leaves that open.
    pub pass: PassOptions,
}

/// Something new about the manifests.
pub enum Reload {
    /// They changed, and what they name is open.
    Changed(Arc<Engine>),
    /// They changed and cannot be used, for this reason: what holds goes on.
    Refused(String),
}

/// What the loop works with.
pub struct Running<'a> {
    /// What is run.
    pub engine: Arc<Engine>,
    /// Where hints arrive.
    pub inbox: &'a Inbox,
    /// Whether passes go on.
    pub health: &'a Health,
    /// Who is told.
    pub observer: &'a dyn Observer,
    /// News about the manifests.
    pub reloads: mpsc::Receiver<Reload>,
    /// Called when other manifests hold.
    pub changed: &'a (dyn Fn(&Arc<Engine>) + Send + Sync),
    /// Ends it.
    pub stop: CancellationToken,
}

/// How the loop went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Passes that ended, whatever became of their writes.
    pub passes: u64,
    /// Looks at some records.
    pub looks: u64,
    /// Passes that failed as a whole.
    pub failures: u64,
    /// The last pass's report, unless it failed.
    pub last: Option<Report>,
    /// Why the last pass failed, if it did.
    pub failure: Option<EngineError>,
}

/// How the manifests say that the loop goes.
pub fn pace_options(engine: &Engine, options: &RunOptions) -> PaceOptions {
    let controller = &engine.spec().controller;
    let interval = options.interval.map(|interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
    PaceOptions {
        interval_ms: interval.unwrap_or(controller.interval_ms),
        // A single pass reads what it has to; one that goes on for ever makes sure of everything now and then.
        deep_ms: (!options.once).then_some(controller.deep_check_interval_ms),
        debounce_ms: controller.triggers.debounce_ms,
        breaker_writes: controller.breaker.writes,
        breaker_window_ms: controller.breaker.window_ms,
        standby_ms: controller.lease_ms / 3,
        seed: options.seed,
    }
}

/// Makes passes until `stop` is cancelled. A pass that fails is counted and told; the next one comes all the same.
pub async fn run(mut running: Running<'_>, options: &RunOptions) -> RunSummary {
    let mut work = Loop {
        began: Instant::now(),
        pace: Pace::new(pace_options(&running.engine, options), 0),
        options,
        led: None,
        stands_by: false,
        summary: RunSummary::default(),
    };
    while !running.stop.is_cancelled() {
        // While hints keep coming, passes follow each other without a wait.
        while let Ok(reload) = running.reloads.try_recv() {
            work.reload(&mut running, reload);
        }
        let now = work.now();
        let dropped = running.inbox.hand_over(&mut work.pace, now);
        for _ in 0..dropped {
            running.observer.notice(&Event::Hint { taken: false });
        }
        match work.pace.next(now) {
            Step::Pass(task) => {
                running.observer.notice(&Event::UnderWay { is: true });
                if work.may_work(&running).await {
                    work.pass(&running, task).await;
                }
                running.observer.notice(&Event::UnderWay { is: false });
                if options.once {
                    break;
                }
            }
            Step::WaitUntil(at) => work.wait(&mut running, at).await,
        }
    }
    if work.led.is_some() {
        // Another one would take over anyway, only later.
        let _ = running.engine.step_down().await;
        running.observer.notice(&Event::Lease { held: false });
    }
    work.summary
}

struct Loop<'a> {
    began: Instant,
    pace: Pace,
    options: &'a RunOptions,
    /// When this controller last made sure that the passes are its own.
    led: Option<Instant>,
    /// Whether it said that they are another one's.
    stands_by: bool,
    summary: RunSummary,
}

impl Loop<'_> {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Whether the passes are this controller's to make. A look that writes nothing is everybody's, and a single pass waits for the lease
    /// like any other command.
    async fn may_work(&mut self, running: &Running<'_>) -> bool {
        if self.options.once || self.options.dry_run {
            return true;
        }
        let third = Duration::from_millis(running.engine.spec().controller.lease_ms / 3);
        if self.led.is_some_and(|led| led.elapsed() < third) {
            return true;
        }
        match running.engine.lead().await {
            Ok(true) => {
                if self.led.is_none() {
                    tracing::info!("this controller makes the passes");
                    running.observer.notice(&Event::Lease { held: true });
                }
                (self.led, self.stands_by) = (Some(Instant::now()), false);
                true
            }
            Ok(false) => {
                if self.led.take().is_some() || !self.stands_by {
                    let holder = running.engine.lease().await.ok().flatten().map(|lease| lease.holder);
                    let holder = holder.as_deref().unwrap_or("another controller");
                    tracing::info!("standing by: {holder} makes the passes");
                }
                self.stands_by = true;
                running.observer.notice(&Event::Lease { held: false });
                running.observer.notice(&Event::StandsBy);
                running.health.standing_by();
                let now = self.now();
                self.pace.stand_by(now);
                false
            }
            Err(error) => {
                self.led = None;
                self.fail(running, None, error, 0.0);
                let now = self.now();
                self.pace.stand_by(now);
                false
            }
        }
    }

    fn fail(&mut self, running: &Running<'_>, task: Option<&Task>, error: EngineError, seconds: f64) {
        running.observer.notice(&Event::PassFailed { message: &error.message, seconds });
        running.health.ended(Some(error.message.clone()));
        if let Some(task) = task {
            let now = self.now();
            self.pace.failed(task, now);
        }
        self.summary.failures += 1;
        (self.summary.last, self.summary.failure) = (None, Some(error));
    }

    async fn pass(&mut self, running: &Running<'_>, task: Task) {
        let engine = &running.engine;
        let whole = task.only.is_none();
        running.health.started();
        if whole {
            running.observer.notice(&Event::PassStarted);
            self.look_around(running).await;
        }
        let began = Instant::now();
        let span = match &task.only {
            None => tracing::info_span!("pass", deep = task.deep),
            Some(records) => tracing::info_span!("look", records = records.len()),
        };
        // A command by hand that has the lease for a while makes no pass fail; what says that this one leads holds for longer.
        let patience_ms = if self.options.once { 0 } else { engine.spec().controller.lease_ms / 2 };
        let options = PassOptions {
            lock_timeout_ms: self.options.pass.lock_timeout_ms.max(patience_ms),
            refresh: if task.deep { Refresh::Full } else { self.options.pass.refresh },
            only: task.only.clone(),
            away: task.away.clone(),
            waiting: task.waiting.clone(),
            allow: std::collections::BTreeSet::new(),
            ..self.options.pass.clone()
        };
        let result = async {
            if self.options.dry_run {
                look(engine, &options, running.observer).await
            } else {
                bounded(engine, &options, running).await
            }
        }
        .instrument(span)
        .await;
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(report) => {
                let now = self.now();
                for (record, writes) in self.pace.ended(&task, &report, now) {
                    self.trip(running, &record, writes).await;
                }
                if whole {
                    running.observer.notice(&Event::PassEnded { report: &report, seconds });
                    self.summary.passes += 1;
                } else {
                    self.summary.looks += 1;
                }
                running.health.ended(None);
                (self.summary.last, self.summary.failure) = (Some(report), None);
            }
            Err(error) => self.fail(running, Some(&task), error, seconds),
        }
    }

    /// Tells of what holds between passes, and forgets what is over.
    async fn look_around(&mut self, running: &Running<'_>) {
        let engine = &running.engine;
        // A state that cannot be used fails the pass that follows, and is told then.
        if let Ok(over) = engine.sweep().await
            && !over.is_empty()
        {
            tracing::info!(
                pauses = over.iter().map(Pause::address).collect::<Vec<_>>().join(", "),
                "pauses are over"
            );
        }
        let pauses = engine.pauses().await.unwrap_or_default();
        let now = self.now();
        running.observer.notice(&Event::Loop {
            queue: self.pace.queue() + running.inbox.len(),
            pauses: &pauses,
            waiting: self.pace.waiting(now),
            away: &self.pace.away(now),
        });
    }

    /// Pauses a record that is written again and again: somebody else puts it back each time, and a person should know.
    async fn trip(&mut self, running: &Running<'_>, record: &crate::model::RecordId, writes: usize) {
        running.observer.notice(&Event::Breaker { record, writes });
        let breaker = &running.engine.spec().controller.breaker;
        let window = i64::try_from(breaker.window_ms).unwrap_or(i64::MAX);
        let since = running.engine.now();
        let pause = Pause {
            store: None,
            entity: Some(record.entity.clone()),
            key: Some(record.key.clone()),
            reason: format!(
                "written {writes} times within {} s: something else keeps changing it",
                window / 1000
            ),
            by: "trueup".to_owned(),
            since,
            until: Some(since.saturating_add_micros(window.saturating_mul(1000))),
        };
        if let Err(error) = running.engine.pause(&pause).await {
            tracing::warn!("the record is not paused: {error}");
        }
    }

    /// Waits for a time, a hint, other manifests or the end; goes on leading meanwhile.
    async fn wait(&mut self, running: &mut Running<'_>, at: u64) {
        let wake = self.began + Duration::from_millis(at);
        let third = Duration::from_millis(running.engine.spec().controller.lease_ms / 3);
        let renew = self.led.map(|led| led + third);
        let until = renew.map_or(wake, |renew| renew.min(wake));
        tokio::select! {
            () = tokio::time::sleep_until(until) => {}
            () = running.inbox.arrived() => {}
            () = running.stop.cancelled() => return,
            Some(reload) = running.reloads.recv() => self.reload(running, reload),
        }
        if renew.is_some_and(|renew| renew <= Instant::now()) {
            self.may_work(running).await;
        }
    }

    fn reload(&mut self, running: &mut Running<'_>, reload: Reload) {
        match reload {
            Reload::Changed(engine) => {
                running.engine = engine;
                let now = self.now();
                self.pace.change(pace_options(&running.engine, self.options), now);
                self.led = None;
                running.health.set_interval(Duration::from_millis(
                    pace_options(&running.engine, self.options).interval_ms,
                ));
                (running.changed)(&running.engine);
                running.observer.notice(&Event::Reloaded { refused: None });
            }
            Reload::Refused(why) => running.observer.notice(&Event::Reloaded { refused: Some(&why) }),
        }
    }
}

/// A pass that is cut off when it goes on too long after it was told to stop: what was in flight is found out about by the next one.
async fn bounded(
    engine: &Engine,
    options: &PassOptions,
    running: &Running<'_>,
) -> Result<Report, EngineError> {
    let overdue = async {
        running.stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = engine.pass(options, running.observer, &running.stop) => result,
        () = overdue => Err(EngineError::new(format!(
            "the pass was cut off, {} s after it was told to stop; the next one finds out what became of its writes; {}",
            GRACE.as_secs(),
            engine.abandon(running.observer).await
        ))),
    }
}

/// A look that writes nothing, told like a pass.
async fn look(
    engine: &Engine,
    options: &PassOptions,
    observer: &dyn Observer,
) -> Result<Report, EngineError> {
    let options = PassOptions { only_look: true, only: None, ..options.clone() };
    let plan = engine.plan(&options, observer).await?;
    Ok(Report {
        guards: plan.guards.clone(),
        books: plan.books.clone(),
        unreadable: plan.unreadable(),
        ..Report::default()
    })
}
