//! How many calls a workspace may make: two token buckets, one for bursts and one for the long run.

/// A bucket that holds as many tokens as it gets in a window, and gets them one at a time.
#[derive(Debug)]
pub(super) struct Bucket {
    size: i64,
    window_ms: i64,
    tokens: i64,
    /// The moment up to which tokens have been counted in, in thousandths of a token's time.
    counted_to: i128,
}

impl Bucket {
    /// A full bucket of `size` tokens a window.
    pub(super) fn new(size: u32, window_ms: i64, now_ms: i64) -> Self {
        let size = i64::from(size.max(1));
        Self { size, window_ms, tokens: size, counted_to: i128::from(now_ms) * i128::from(size) }
    }

    /// Counts in the tokens that came since. A token's time is `window_ms / size`, which need not be whole: times are kept
    /// multiplied by `size` instead.
    fn refill(&mut self, now_ms: i64) {
        let now = i128::from(now_ms) * i128::from(self.size);
        let came = (now - self.counted_to).max(0) / i128::from(self.window_ms);
        self.counted_to += came * i128::from(self.window_ms);
        let tokens = i128::from(self.tokens) + came;
        if tokens >= i128::from(self.size) {
            // A full bucket saves nothing up.
            self.tokens = self.size;
            self.counted_to = self.counted_to.max(now);
        } else {
            self.tokens = i64::try_from(tokens).unwrap_or(self.size);
        }
    }
}

/// What a workspace may call.
#[derive(Debug)]
pub(super) struct Limiter {
    buckets: Vec<Bucket>,
}

impl Limiter {
    /// Full buckets for so many calls a second and a minute.
    pub(super) fn new(per_second: u32, per_minute: u32, now_ms: i64) -> Self {
        Self {
            buckets: vec![Bucket::new(per_second, 1_000, now_ms), Bucket::new(per_minute, 60_000, now_ms)],
        }
    }

    /// Takes a token from every bucket, or none from any.
    ///
    /// # Errors
    /// Which limit was reached, in words.
    pub(super) fn take(&mut self, now_ms: i64) -> Result<(), String> {
        for bucket in &mut self.buckets {
            bucket.refill(now_ms);
        }
        if let Some(empty) = self.buckets.iter().find(|bucket| bucket.tokens == 0) {
            return Err(format!("Limit reached ({} tokens per {} ms)", empty.size, empty.window_ms));
        }
        for bucket in &mut self.buckets {
            bucket.tokens -= 1;
        }
        Ok(())
    }

    /// How many calls could be made at this moment.
    pub(super) fn left(&mut self, now_ms: i64) -> u32 {
        let tokens = self.buckets.iter_mut().map(|bucket| {
            bucket.refill(now_ms);
            bucket.tokens
        });
        u32::try_from(tokens.min().unwrap_or(0)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_one_at_a_time_and_fractions_are_kept() {
        let mut limiter = Limiter::new(100, 100, 0);
        for _ in 0..100 {
            limiter.take(0).unwrap();
        }
        assert_eq!(limiter.take(0).unwrap_err(), "Limit reached (100 tokens per 1000 ms)");
        assert_eq!(limiter.take(599).unwrap_err(), "Limit reached (100 tokens per 60000 ms)");
        limiter.take(600).unwrap();
        limiter.take(1_199).unwrap_err();
        limiter.take(1_200).unwrap();
        assert_eq!(limiter.left(1_200), 0);
        assert_eq!(limiter.left(61_200), 100);
        assert_eq!(limiter.left(600_000), 100);
    }

    #[test]
    fn a_rate_that_does_not_divide_a_minute_loses_nothing() {
        let mut limiter = Limiter::new(1_000, 7, 0);
        (0..7).for_each(|_| limiter.take(0).unwrap());
        let came = (1..=60_000).filter(|ms| limiter.take(*ms).is_ok()).count();
        assert_eq!(came, 7);
    }
}
