//! Marks: digests of a table's rows by buckets of keys, so that later only the rows of buckets that differ have to be looked at.
//!
//! `SQLite` keeps no account of which rows changed when, and a counter in the file says nothing of a copy that was put back. What the
//! rows hold does: a table is gone through at the speed of the disk, hashed, and compared with what was there the last time.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::model::{Mark, RecordKey, fingerprint};

use super::snapshot::Decoder;

/// Rows that a bucket is meant to have: so many are looked at for one that changed.
const ROWS_A_BUCKET: u64 = 64;
/// Buckets at least and at most. Eight bytes are kept of each.
const BUCKETS: (u64, u64) = (16, 8192);
/// How many times as many rows there may be before the table is read whole again, for more buckets.
const MOST_GROWTH: u64 = 8;

/// What a table held, bucket by bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests {
    buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bucket {
    /// The sum of the hashes of its rows, which does not depend on their order.
    sum: u64,
    rows: u64,
}

/// A mark as it is written.
#[derive(Serialize, Deserialize)]
struct MarkData {
    /// The form of this text.
    form: u8,
    /// A hash of what the rows' bytes mean.
    layout: String,
    /// The buckets' sums, sixteen hexadecimal digits each.
    sums: String,
}

const FORM: u8 = 1;

impl Digests {
    /// Buckets for a table of so many rows.
    pub(super) fn for_rows(rows: u64) -> Self {
        let (least, most) = BUCKETS;
        let count = (rows / ROWS_A_BUCKET).next_power_of_two().clamp(least, most);
        Self::of(usize::try_from(count).unwrap_or(1))
    }

    /// As many buckets as others.
    pub(super) fn like(other: &Self) -> Self {
        Self::of(other.buckets.len())
    }

    fn of(count: usize) -> Self {
        Self { buckets: vec![Bucket::default(); count.max(1)] }
    }

    /// The bucket of a key.
    pub(super) fn bucket(&self, key: &RecordKey) -> usize {
        let parts = key.parts().iter();
        let hash = parts.fold(0, |seed, part| XxHash3_64::oneshot_with_seed(seed, part.as_bytes()));
        let count = self.buckets.len() as u64;
        usize::try_from(hash % count).unwrap_or(0)
    }

    /// Takes a row, of which these are the bytes.
    pub(super) fn add(&mut self, key: &RecordKey, bytes: &[u8]) {
        let at = self.bucket(key);
        if let Some(bucket) = self.buckets.get_mut(at) {
            bucket.sum = bucket.sum.wrapping_add(XxHash3_64::oneshot(bytes));
            bucket.rows += 1;
        }
    }

    /// Whether there are too many rows for so few buckets.
    pub(super) fn are_crowded(&self, rows: u64) -> bool {
        let count = self.buckets.len() as u64;
        count < BUCKETS.1 && rows > count.saturating_mul(ROWS_A_BUCKET).saturating_mul(MOST_GROWTH)
    }

    /// Which buckets differ, and how many rows there are in them.
    pub(super) fn differing(&self, before: &Self) -> (Vec<bool>, u64) {
        let differs: Vec<bool> =
            self.buckets.iter().zip(&before.buckets).map(|(now, then)| now.sum != then.sum).collect();
        let rows = self.buckets.iter().zip(&differs).filter(|(_, differs)| **differs);
        (differs.clone(), rows.map(|(bucket, _)| bucket.rows).sum())
    }

    /// The mark of a table that holds this.
    pub(super) fn to_mark(&self, decoder: &Decoder) -> Option<Mark> {
        let mut sums = String::with_capacity(16 * self.buckets.len());
        for bucket in &self.buckets {
            // Writing to a text cannot fail.
            let _ = std::fmt::Write::write_fmt(&mut sums, format_args!("{:016x}", bucket.sum));
        }
        let data = MarkData { form: FORM, layout: meaning(decoder), sums };
        serde_json::to_string(&data).ok().map(Mark)
    }

    /// What a mark says; none when it speaks of rows whose bytes mean something else.
    pub(super) fn parse(mark: &Mark, decoder: &Decoder) -> Option<Self> {
        let data: MarkData = serde_json::from_str(&mark.0).ok()?;
        if data.form != FORM || data.layout != meaning(decoder) || data.sums.is_empty() {
            return None;
        }
        let sums = data.sums.as_bytes().chunks(16).map(|digits| {
            let digits = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 16)?;
            let sum = u64::from_str_radix(digits, 16).ok()?;
            Some(Bucket { sum, rows: 0 })
        });
        Some(Self { buckets: sums.collect::<Option<_>>()? })
    }
}

fn meaning(decoder: &Decoder) -> String {
    fingerprint(&decoder.meaning())
}
