//! Digests of a table's rows by buckets of keys, so that later only the rows of buckets that differ have to be looked at.

/// Rows that a bucket is meant to have: so many are looked at for one that changed.
const ROWS_A_BUCKET: u64 = 64;
/// Buckets at least and at most. Eight bytes are kept of each.
const BUCKETS: (u64, u64) = (16, 8192);
/// How many times as many rows there may be before the table is read whole again, for more buckets.
const MOST_GROWTH: u64 = 8;

/// Rows of buckets that differ which are held at a time; when there are more, the table is read whole instead.
pub(super) const MOST_ROWS: u64 = 100_000;

/// What a table held, bucket by bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Buckets(Vec<Bucket>);

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bucket {
    /// The sum of the hashes of its rows, which does not depend on their order.
    sum: u64,
    rows: u64,
}

impl Buckets {
    /// Buckets for a table of so many rows.
    pub(super) fn for_rows(rows: u64) -> Self {
        let (least, most) = BUCKETS;
        let count = (rows / ROWS_A_BUCKET).next_power_of_two().clamp(least, most);
        Self::of(usize::try_from(count).unwrap_or(1))
    }

    /// As many buckets as others.
    pub(super) fn like(other: &Self) -> Self {
        Self::of(other.len())
    }

    fn of(count: usize) -> Self {
        Self(vec![Bucket::default(); count.max(1)])
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes rows into a bucket.
    pub(super) fn add(&mut self, bucket: usize, hash: u64, rows: u64) {
        if let Some(bucket) = self.0.get_mut(bucket) {
            bucket.sum = bucket.sum.wrapping_add(hash);
            bucket.rows += rows;
        }
    }

    /// Whether there are too many rows for so few buckets.
    pub(super) fn are_crowded(&self, rows: u64) -> bool {
        let count = self.len() as u64;
        count < BUCKETS.1 && rows > count.saturating_mul(ROWS_A_BUCKET).saturating_mul(MOST_GROWTH)
    }

    /// Which buckets differ, and how many rows there are in them.
    pub(super) fn differing(&self, before: &Self) -> (Vec<bool>, u64) {
        let differs: Vec<bool> =
            self.0.iter().zip(&before.0).map(|(now, then)| now.sum != then.sum).collect();
        let rows =
            self.0.iter().zip(&differs).filter(|(_, differs)| **differs).map(|(bucket, _)| bucket.rows).sum();
        (differs, rows)
    }

    /// The buckets' sums, sixteen hexadecimal digits each.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::with_capacity(16 * self.len());
        for bucket in &self.0 {
            // Writing to a text cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut text, format_args!("{:016x}", bucket.sum));
        }
        text
    }

    /// Buckets of such a text; none when it is no such text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let sums = text.as_bytes().chunks(16).map(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 16)?;
            let sum = u64::from_str_radix(digits, 16).ok()?;
            Some(Bucket { sum, rows: 0 })
        });
        sums.collect::<Option<Vec<_>>>().filter(|buckets| !buckets.is_empty()).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_told_after_a_journey_through_text() {
        let mut then = Buckets::for_rows(10_000);
        then.add(3, 17, 1);
        then.add(5, u64::MAX, 2);
        let then = Buckets::parse(&then.to_text()).expect("buckets");
        let mut now = Buckets::like(&then);
        now.add(3, 17, 1);
        now.add(5, 1, 40);
        let (differs, rows) = now.differing(&then);
        let at: Vec<usize> = (0..differs.len()).filter(|at| differs[*at]).collect();
        assert_eq!(at, [5]);
        assert_eq!(rows, 40);
        for wrong in ["", "0", "000000000000000g", "é0000000000000000"] {
            assert_eq!(Buckets::parse(wrong), None, "{wrong}");
        }
    }
}
