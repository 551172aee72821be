//! The time that the sandbox goes by: the machine's, or one that a test moves by hand.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the sandbox reads the time, in milliseconds since 1970, UTC.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl fmt::Debug for Clock {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Clock({} ms)", self.now_ms())
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    /// A clock that says what this function says: milliseconds since 1970, UTC. For tests that have a time of their own.
    pub fn from_fn(read: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { read: Arc::new(read) }
    }

    /// A clock that stands still until its hand is moved.
    pub fn manual(start_ms: i64) -> (Self, Hand) {
        let hand = Hand { ms: Arc::new(AtomicI64::new(start_ms)) };
        let ms = hand.ms.clone();
        (Self::from_fn(move || ms.load(Ordering::SeqCst)), hand)
    }

    /// Milliseconds since 1970, UTC.
    pub fn now_ms(&self) -> i64 {
        (self.read)()
    }
}

/// Moves a clock that stands still otherwise.
#[derive(Debug, Clone)]
pub struct Hand {
    ms: Arc<AtomicI64>,
}

impl Hand {
    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.ms.fetch_add(by, Ordering::SeqCst);
    }

    /// What the clock shows, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.ms.load(Ordering::SeqCst)
    }
}
