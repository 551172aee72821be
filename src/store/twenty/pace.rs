//! Pacing: calls go out no faster than the server lets them in.
//!
//! The server counts with a bucket of tokens that fills steadily; so does this, a little slower, so that the server's bucket is never
//! the first to be empty. All calls of a store share the buckets, whoever makes them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;

/// Tokens come back this much slower than the server says, in thousandths: clocks differ, and so do the moments at which a call is
/// counted here and there.
const SLOWER_PERMILLE: u64 = 20;

/// What time it is, and how to wait. Tests put their own in its place.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// Waits.
    async fn sleep(&self, time: Duration);
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// How many calls may go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// In a second.
    pub per_second: u32,
    /// In a minute.
    pub per_minute: u32,
}

impl Default for Pace {
    /// What a server allows that nobody has set otherwise.
    fn default() -> Self {
        Self { per_second: 100, per_minute: 100 }
    }
}

/// A bucket of tokens, filled by the microsecond. It may owe tokens: whoever took them waits until they are there.
#[derive(Debug)]
struct Bucket {
    size: u64,
    micros_a_token: u64,
    /// When the bucket is full again.
    full_at: u64,
}

impl Bucket {
    fn new(size: u32, period: Duration) -> Self {
        let size = u64::from(size.max(1));
        let micros = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
        Self {
            size,
            micros_a_token: (micros / size).saturating_mul(1_000 + SLOWER_PERMILLE) / 1_000,
            full_at: 0,
        }
    }

    fn whole(&self) -> u64 {
        self.size.saturating_mul(self.micros_a_token)
    }

    /// Takes tokens; gives how long it is until they are there.
    fn take(&mut self, now: u64, tokens: u64) -> u64 {
        self.full_at = self.full_at.max(now).saturating_add(tokens.saturating_mul(self.micros_a_token));
        self.full_at.saturating_sub(self.whole()).saturating_sub(now)
    }

    /// Gives tokens back that were taken for nothing.
    fn give_back(&mut self, tokens: u64) {
        self.full_at = self.full_at.saturating_sub(tokens.saturating_mul(self.micros_a_token));
    }

    fn available(&self, now: u64) -> u64 {
        let missing = self.full_at.saturating_sub(now);
        self.whole().saturating_sub(missing) / self.micros_a_token.max(1)
    }

    /// Somebody else emptied it.
    fn drain(&mut self, now: u64) {
        self.full_at = self.full_at.max(now.saturating_add(self.whole()));
    }
}

/// What calls cost so far.
#[derive(Debug, Default)]
pub(super) struct Spent {
    pub(super) calls: AtomicU64,
    pub(super) waited_ms: AtomicU64,
}

/// The pace of a store's calls.
pub(super) struct Pacer {
    buckets: Mutex<[Bucket; 2]>,
    clock: std::sync::Arc<dyn Clock>,
    pub(super) spent: Spent,
}

impl Pacer {
    pub(super) fn new(pace: Pace, clock: std::sync::Arc<dyn Clock>) -> Self {
        let second = Bucket::new(pace.per_second, Duration::from_secs(1));
        let minute = Bucket::new(pace.per_minute, Duration::from_mins(1));
        Self { buckets: Mutex::new([second, minute]), clock, spent: Spent::default() }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    fn buckets(&self) -> std::sync::MutexGuard<'_, [Bucket; 2]> {
        self.buckets.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        self.clock.now_ms().saturating_mul(1_000)
    }

    /// Waits until so many calls may go out.
    pub(super) async fn take(&self, calls: u64) {
        let now = self.now();
        let wait = self.buckets().iter_mut().map(|bucket| bucket.take(now, calls)).max().unwrap_or(0);
        if wait > 0 {
            self.wait(Duration::from_micros(wait)).await;
        }
    }

    /// Gives back what was taken for calls that were not made.
    pub(super) fn give_back(&self, calls: u64) {
        self.buckets().iter_mut().for_each(|bucket| bucket.give_back(calls));
    }

    /// How many calls may go out at once.
    pub(super) fn available(&self) -> u64 {
        let now = self.now();
        self.buckets().iter().map(|bucket| bucket.available(now)).min().unwrap_or(0)
    }

    /// The server said that there were too many: its bucket is empty, so this one is.
    pub(super) fn drain(&self) {
        let now = self.now();
        // The longer one alone: the shorter is full again before anybody could ask.
        if let Some(bucket) = self.buckets().last_mut() {
            bucket.drain(now);
        }
    }

    /// Waits, and says so.
    pub(super) async fn wait(&self, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.spent.waited_ms.fetch_add(millis.max(1), Ordering::Relaxed);
        self.clock.sleep(time).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_bucket_lets_a_burst_through_and_then_a_steady_stream() {
        let mut bucket = Bucket::new(100, Duration::from_mins(1));
        let start = 1_000_000_000;
        for _ in 0..100 {
            assert_eq!(bucket.take(start, 1), 0);
        }
        let steady = bucket.take(start, 1);
        assert!((600_000..620_000).contains(&steady), "{steady}");
        assert_eq!(bucket.take(start, 1), 2 * steady);
        assert_eq!(bucket.available(start + 12 * steady), 10);
        assert_eq!(bucket.take(start + 12 * steady, 10), 0);
    }

    #[test]
    fn what_others_took_is_waited_for() {
        let mut bucket = Bucket::new(50, Duration::from_mins(1));
        bucket.drain(5);
        assert_eq!(bucket.available(5), 0);
        assert!(bucket.take(5, 1) >= 1_200_000);
    }
}
