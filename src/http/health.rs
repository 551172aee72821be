//! Whether passes go on.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A controller is late when its last pass ended more than this many intervals ago: one for the wait, one for a slow pass and
/// one for a pass that failed in passing.
const LATE_INTERVALS: u32 = 3;

/// Whether passes go on.
#[derive(Debug)]
pub struct Health {
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    interval: Duration,
    at: Instant,
    first: bool,
    running: bool,
    standing_by: bool,
    failure: Option<String>,
}

impl Health {
    /// The health of a controller that begins now and makes a pass every `interval`.
    pub fn new(interval: Duration) -> Self {
        let last = Last {
            interval,
            at: Instant::now(),
            first: true,
            running: false,
            standing_by: false,
            failure: None,
        };
        Self { last: Mutex::new(last) }
    }

    fn last(&self) -> MutexGuard<'_, Last> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes come at another interval from now on.
    pub fn set_interval(&self, interval: Duration) {
        self.last().interval = interval;
    }

    /// A pass began.
    pub fn started(&self) {
        self.last().running = true;
    }

    /// Another controller makes the passes, and this one waits for it to end.
    pub fn standing_by(&self) {
        let mut last = self.last();
        *last = Last {
            at: Instant::now(),
            running: false,
            standing_by: true,
            failure: None,
            interval: last.interval,
            ..*last
        };
    }

    /// A pass ended; `failure` says why it failed as a whole, if it did.
    pub fn ended(&self, failure: Option<String>) {
        let mut last = self.last();
        *last = Last {
            at: Instant::now(),
            first: false,
            running: false,
            standing_by: false,
            failure,
            interval: last.interval,
        };
    }

    /// Whether passes go on.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self) -> Result<(), String> {
        let last = self.last();
        if let Some(failure) = &last.failure {
            return Err(format!("the last pass failed: {failure}"));
        }
        let age = last.at.elapsed();
        if age > last.interval * LATE_INTERVALS {
            let what = match (last.first, last.running) {
                (_, true) => "a pass has been running, and none ended,",
                (true, false) => "no pass has ended",
                (false, false) => "the last pass ended more than",
            };
            return Err(format!(
                "{what} for {} s, with an interval of {} s",
                age.as_secs(),
                last.interval.as_secs()
            ));
        }
        Ok(())
    }

    /// Whether this controller is at work: a pass ended, or another controller makes them and this one would take over.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn ready(&self) -> Result<&'static str, String> {
        self.check()?;
        let last = self.last();
        match (last.standing_by, last.first) {
            (true, _) => Ok("standing by: another controller makes the passes"),
            (false, true) => Err("the first pass has not ended yet".to_owned()),
            (false, false) => Ok("ok"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn a_controller_without_passes_is_not_healthy() {
        let health = Health::new(INTERVAL);
        assert_eq!(health.check(), Ok(()));
        assert_eq!(health.ready(), Err("the first pass has not ended yet".to_owned()));
        tokio::time::advance(INTERVAL * 3 + Duration::from_secs(1)).await;
        assert_eq!(health.check(), Err("no pass has ended for 91 s, with an interval of 30 s".to_owned()));
        health.ended(None);
        assert_eq!((health.check(), health.ready()), (Ok(()), Ok("ok")));
        tokio::time::advance(INTERVAL * 4).await;
        assert!(health.check().is_err() && health.ready().is_err());
        health.standing_by();
        assert!(health.ready().unwrap().starts_with("standing by"));
        health.ended(Some("the state is locked".to_owned()));
        assert_eq!(health.check(), Err("the last pass failed: the state is locked".to_owned()));
    }
}
