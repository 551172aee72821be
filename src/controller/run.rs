//! The loop: a pass, a wait, and again until it is told to stop. It decides nothing about records.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::Health;
use crate::reconcile::Report;
use crate::telemetry::{Event, Observer};

use super::{Engine, EngineError, PassOptions, Refresh};

/// Waits differ from the interval by at most a tenth of it, so that controllers started together do not stay in step.
const JITTER_DIVISOR: u64 = 10;

/// What the loop repeats.
#[async_trait]
pub trait Pass: Send + Sync {
    /// Makes one pass. Cancelling `stop` ends it after the batch in flight.
    async fn pass(&self, stop: &CancellationToken) -> Result<Report, EngineError>;
}

/// How the loop goes.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// From the end of a pass to the beginning of the next one.
    pub interval: Duration,
    /// Whether to stop after the first pass.
    pub once: bool,
    /// What the jitter is made from: another number for another controller.
    pub seed: u64,
}

/// How the loop went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Passes that ended, whatever became of their writes.
    pub passes: u64,
    /// Passes that failed as a whole.
    pub failures: u64,
    /// The last pass's report, unless it failed.
    pub last: Option<Report>,
    /// Why the last pass failed, if it did.
    pub failure: Option<EngineError>,
}

/// Makes passes until `stop` is cancelled. A pass that fails is counted and told; the next one comes all the same.
pub async fn run(
    pass: &dyn Pass,
    options: &RunOptions,
    health: &Health,
    observer: &dyn Observer,
    stop: &CancellationToken,
) -> RunSummary {
    let mut summary = RunSummary::default();
    while !stop.is_cancelled() {
        health.started();
        observer.notice(&Event::PassStarted);
        let began = Instant::now();
        let result = pass.pass(stop).await;
        let seconds = began.elapsed().as_secs_f64();
        match result {
            Ok(report) => {
                observer.notice(&Event::PassEnded { report: &report, seconds });
                health.ended(None);
                summary.passes += 1;
                (summary.last, summary.failure) = (Some(report), None);
            }
            Err(error) => {
                observer.notice(&Event::PassFailed { message: &error.message, seconds });
                health.ended(Some(error.message.clone()));
                summary.failures += 1;
                (summary.last, summary.failure) = (None, Some(error));
            }
        }
        if options.once {
            break;
        }
        let number = summary.passes + summary.failures;
        tokio::select! {
            () = tokio::time::sleep(wait(options.interval, options.seed, number)) => {}
            () = stop.cancelled() => {}
        }
    }
    summary
}

/// The wait after pass `number`: the interval, up to a tenth longer or shorter.
fn wait(interval: Duration, seed: u64, number: u64) -> Duration {
    let span = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX) / JITTER_DIVISOR;
    let offset = if span == 0 { 0 } else { mix(seed ^ number) % (2 * span + 1) };
    (interval + Duration::from_millis(offset)).saturating_sub(Duration::from_millis(span))
}

/// Spreads a number over all 64 bits (the finaliser of `SplitMix64`).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A pass of the engine: plan, then apply. Guards are never overridden here: that is a person's decision about one plan.
pub struct EnginePass {
    /// The engine.
    pub engine: Arc<Engine>,
    /// How each pass is made; `allow` is left out of it.
    pub options: PassOptions,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    /// When everything is read, whatever the options say; none: never.
    pub deep: Option<DeepChecks>,
}

/// Says when a pass is to read everything: the first one, and one every so often.
#[derive(Debug)]
pub struct DeepChecks {
    every: Duration,
    last: std::sync::Mutex<Option<Instant>>,
}

impl DeepChecks {
    /// One that asks for it after this time.
    pub fn new(every: Duration) -> Self {
        Self { every, last: std::sync::Mutex::new(None) }
    }

    fn is_due(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        last.is_none_or(|last| last.elapsed() >= self.every)
    }

    fn done(&self) {
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(Instant::now());
    }
}

#[async_trait]
impl Pass for EnginePass {
    async fn pass(&self, stop: &CancellationToken) -> Result<Report, EngineError> {
        let due = self.deep.as_ref().filter(|deep| deep.is_due());
        let refresh = if due.is_some() { Refresh::Full } else { self.options.refresh };
        let allow = std::collections::BTreeSet::new();
        let options = PassOptions { allow, refresh, ..self.options.clone() };
        let report = self.engine.pass(&options, &*self.observer, stop).await?;
        if let Some(deep) = due.filter(|_| report.unreadable.is_empty()) {
            deep.done();
        }
        Ok(report)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::telemetry::Silent;

    const INTERVAL: Duration = Duration::from_secs(30);

    /// Notes when it is called, fails where told to, and stops the loop after so many passes.
    struct Script {
        began: Mutex<Vec<Instant>>,
        fails: Vec<bool>,
        stop: CancellationToken,
    }

    #[async_trait]
    impl Pass for Script {
        async fn pass(&self, _stop: &CancellationToken) -> Result<Report, EngineError> {
            let mut began = self.began.lock().unwrap();
            began.push(Instant::now());
            if began.len() == self.fails.len() {
                self.stop.cancel();
            }
            if self.fails[began.len() - 1] {
                return Err(EngineError { message: "the state is locked".to_owned(), hint: None });
            }
            Ok(Report::default())
        }
    }

    async fn play(fails: &[bool], once: bool) -> (RunSummary, Vec<Instant>, Health) {
        let stop = CancellationToken::new();
        let script = Script { began: Mutex::default(), fails: fails.to_vec(), stop: stop.clone() };
        let health = Health::new(INTERVAL);
        let options = RunOptions { interval: INTERVAL, once, seed: 7 };
        let summary = run(&script, &options, &health, &Silent, &stop).await;
        (summary, script.began.into_inner().unwrap(), health)
    }

    #[tokio::test(start_paused = true)]
    async fn passes_come_at_the_interval_with_jitter() {
        let (summary, began, _) = play(&[false; 8], false).await;
        assert_eq!((summary.passes, summary.failures), (8, 0));
        let waits: Vec<Duration> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(
            waits.iter().all(|wait| wait.abs_diff(INTERVAL) <= INTERVAL / 10 + Duration::from_millis(1)),
            "{waits:?}"
        );
        assert!(waits.windows(2).any(|pair| pair[0] != pair[1]), "no jitter: {waits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_pass_is_counted_and_the_loop_goes_on() {
        let (summary, _, health) = play(&[true, true, false], false).await;
        assert_eq!((summary.passes, summary.failures), (1, 2));
        assert_eq!(health.check(), Ok(()));
        let (summary, _, health) = play(&[false, true], false).await;
        assert_eq!(summary.failure.map(|error| error.message), Some("the state is locked".to_owned()));
        assert_eq!(health.check(), Err("the last pass failed: the state is locked".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn once_is_once() {
        let (summary, began, _) = play(&[false; 3], true).await;
        assert_eq!((summary.passes, began.len()), (1, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_wait_at_once() {
        let before = Instant::now();
        let (summary, _, _) = play(&[false], false).await;
        assert_eq!(summary.passes, 1);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_controller_without_passes_is_not_healthy() {
        let health = Health::new(INTERVAL);
        assert_eq!(health.check(), Ok(()));
        tokio::time::advance(INTERVAL * 3 + Duration::from_secs(1)).await;
        assert_eq!(health.check(), Err("no pass has ended for 91 s, with an interval of 30 s".to_owned()));
        health.ended(None);
        assert_eq!(health.check(), Ok(()));
        tokio::time::advance(INTERVAL * 4).await;
        assert!(health.check().is_err());
    }
}
