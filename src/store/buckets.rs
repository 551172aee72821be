//! Digests of a table's rows by buckets of keys, so that later only the rows of buckets that differ have to be looked at.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::model::{Mapped, Shape};

/// Buckets at least and, whatever the store, at most; both are powers of two.
const BUCKETS: (u64, u64) = (16, 65_536);
/// How many times as many rows there may be before the table is read whole again, for more buckets.
const MOST_GROWTH: u64 = 8;

/// How many buckets a store's tables have.
pub(super) struct Sizes {
    /// Rows that a bucket is meant to have: so many are looked at for one that changed.
    pub(super) rows_a_bucket: u64,
    /// Buckets at most, a power of two. Sixteen bytes are kept of each.
    pub(super) most: u64,
}

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
    /// Whether the sum says nothing: it differs from every other.
    doubted: bool,
}

/// What stands for the sum of such a bucket.
const DOUBTED: &str = "????????????????";

impl Buckets {
    /// Buckets for a table of so many rows.
    pub(super) fn for_rows(rows: u64, sizes: &Sizes) -> Self {
        let (least, most) = BUCKETS;
        let count = (rows / sizes.rows_a_bucket).next_power_of_two().clamp(least, sizes.most.min(most));
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
    pub(super) fn are_crowded(&self, rows: u64, sizes: &Sizes) -> bool {
        let count = self.len() as u64;
        count < sizes.most && rows > count.saturating_mul(sizes.rows_a_bucket).saturating_mul(MOST_GROWTH)
    }

    /// Which buckets differ, and how many rows there are in them.
    pub(super) fn differing(&self, before: &Self) -> (Vec<bool>, u64) {
        let differs = |(now, then): (&Bucket, &Bucket)| then.doubted || now.sum != then.sum;
        let differs: Vec<bool> = self.0.iter().zip(&before.0).map(differs).collect();
        let rows =
            self.0.iter().zip(&differs).filter(|(_, differs)| **differs).map(|(bucket, _)| bucket.rows).sum();
        (differs, rows)
    }

    /// The buckets' sums, sixteen hexadecimal digits each, or as many question marks.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::with_capacity(16 * self.len());
        for bucket in &self.0 {
            // Writing to a text cannot fail.
            let _ =
                if bucket.doubted { text.write_str(DOUBTED) } else { write!(text, "{:016x}", bucket.sum) };
        }
        text
    }

    /// Buckets of such a text; none when it is no such text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let sums = text.as_bytes().chunks(16).map(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 16)?;
            if digits == DOUBTED {
                return Some(Bucket { doubted: true, ..Bucket::default() });
            }
            Some(Bucket { sum: u64::from_str_radix(digits, 16).ok()?, ..Bucket::default() })
        });
        sums.collect::<Option<Vec<_>>>().filter(|buckets| buckets.len().is_power_of_two()).map(Self)
    }
}

/// What this store object wrote since a table was last looked at. A row that holds what it held at that look may have been written by us
/// and then put back by somebody else: that is an edit, and must not be overlooked.
#[derive(Debug, Default)]
pub(super) struct Touched(Mutex<BTreeMap<String, HashMap<u64, Trace>>>);

/// What was done to the rows of a bucket.
#[derive(Debug, Default)]
struct Trace {
    /// By how much our writes changed the bucket's sum, as far as that is known.
    by: u64,
    /// How many writes there were whose effect on the sum is not known, or not yet.
    open: u64,
}

impl Touched {
    fn tables(&self) -> MutexGuard<'_, BTreeMap<String, HashMap<u64, Trace>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of keys, by their hashes, that are about to be written. To bound memory, only a key's bucket is kept: the one that it has
    /// when there are as many buckets as there can be.
    pub(super) fn begin(&self, mapped: &Mapped, hashes: impl Iterator<Item = u64>) {
        let mut tables = self.tables();
        let traces = tables.entry(table_of(mapped)).or_default();
        for hash in hashes {
            traces.entry(hash % BUCKETS.1).or_default().open += 1;
        }
    }

    /// Takes note of how writes ended: for each the hash of its key, and by how much it changed the sum (the new row's hash minus the old
    /// one's).
    pub(super) fn end(&self, mapped: &Mapped, ended: impl Iterator<Item = (u64, u64)>) {
        let mut tables = self.tables();
        let Some(traces) = tables.get_mut(&table_of(mapped)) else { return };
        for (hash, by) in ended {
            if let Some(trace) = traces.get_mut(&(hash % BUCKETS.1)) {
                trace.by = trace.by.wrapping_add(by);
                trace.open = trace.open.saturating_sub(1);
            }
        }
    }

    /// Forgets a table's writes: the table is about to be looked at, and what it holds then is taken note of anyway.
    pub(super) fn forget(&self, mapped: &Mapped) {
        self.tables().remove(&table_of(mapped));
    }

    /// Adds what was written to the sums of a table, and marks the buckets as doubtful in which the effect of a write is not known.
    pub(super) fn seal(&self, mapped: &Mapped, buckets: &mut Buckets) {
        let tables = self.tables();
        let count = buckets.len() as u64;
        for (hash, trace) in tables.get(&table_of(mapped)).into_iter().flatten() {
            // The number of buckets divides the greatest number of them, since both are powers of two.
            if let Some(bucket) = usize::try_from(hash % count).ok().and_then(|at| buckets.0.get_mut(at)) {
                bucket.sum = bucket.sum.wrapping_add(trace.by);
                bucket.doubted |= trace.open > 0;
            }
        }
    }
}

fn table_of(mapped: &Mapped) -> String {
    match &mapped.mapping.shape {
        Shape::Table(table) => table.to_string(),
        Shape::Object(_) | Shape::Embedded(_) => mapped.name().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { rows_a_bucket: 64, most: 8192 };

    #[test]
    fn tables_have_as_many_buckets_as_they_need_and_may_have() {
        assert_eq!(Buckets::for_rows(0, &SIZES).len(), 16);
        assert_eq!(Buckets::for_rows(10_000, &SIZES).len(), 256);
        assert_eq!(Buckets::for_rows(u64::MAX, &SIZES).len(), 8192);
        let few = Buckets::for_rows(1_024, &SIZES);
        assert_eq!((few.are_crowded(8_192, &SIZES), few.are_crowded(8_193, &SIZES)), (false, true));
        assert!(!Buckets::for_rows(u64::MAX, &SIZES).are_crowded(u64::MAX, &SIZES), "there are no more");
    }

    #[test]
    fn what_changed_is_told_after_a_journey_through_text() {
        let mut then = Buckets::for_rows(10_000, &SIZES);
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
        // What is doubted differs, also from what is equal to it.
        let mut doubted = now.clone();
        doubted.0[3].doubted = true;
        let doubted = Buckets::parse(&doubted.to_text()).expect("buckets");
        let (differs, rows) = now.differing(&doubted);
        assert_eq!((differs.iter().position(|differs| *differs), rows), (Some(3), 1));
        for wrong in ["", "0", "000000000000000g", "é0000000000000000"] {
            assert_eq!(Buckets::parse(wrong), None, "{wrong}");
        }
    }
}
