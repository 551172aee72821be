//! Marks: digests of a table's rows.
//!
//! `SQLite` keeps no account of which rows changed when, and a counter in the file says nothing of a copy that was put back. What the
//! rows hold does: a table is gone through at the speed of the disk, hashed, and compared with what was there the last time.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use crate::model::{Mapped, Mark, Native, RecordKey, fingerprint};

use super::super::buckets::{Buckets, Sizes, Touched};
use super::native::value_ref;
use super::snapshot::{Decoder, put};

/// A mark as it is written.
#[derive(Serialize, Deserialize)]
struct MarkData {
    /// The form of this text.
    form: u8,
    /// A hash of what the rows' bytes mean.
    layout: String,
    /// What [`Buckets::to_text`] says.
    sums: String,
}

const FORM: u8 = 1;

/// The file is local, so that small buckets cost nothing but the size of the mark: a megabyte at most.
pub(super) const SIZES: Sizes = Sizes { rows_a_bucket: 16, most: 65_536 };

/// What tells a key's bucket.
pub(super) fn hash(key: &RecordKey) -> u64 {
    key.parts().iter().fold(0, |seed, part| XxHash3_64::oneshot_with_seed(seed, part.as_bytes()))
}

/// The bucket of a key.
pub(super) fn bucket(buckets: &Buckets, key: &RecordKey) -> usize {
    usize::try_from(hash(key) % buckets.len() as u64).unwrap_or(0)
}

/// Takes a row, of which these are the bytes.
pub(super) fn add(buckets: &mut Buckets, key: &RecordKey, bytes: &[u8]) {
    buckets.add(bucket(buckets, key), XxHash3_64::oneshot(bytes), 1);
}

/// The hash of a row that has these values.
pub(super) fn of_row<'n>(values: impl Iterator<Item = &'n Native>) -> u64 {
    let mut bytes = Vec::with_capacity(1024);
    values.for_each(|value| put(&mut bytes, value_ref(value)));
    XxHash3_64::oneshot(&bytes)
}

/// The mark of a table that holds this.
pub(super) fn mark(buckets: &Buckets, decoder: &Decoder) -> Option<Mark> {
    let data = MarkData { form: FORM, layout: meaning(decoder), sums: buckets.to_text() };
    serde_json::to_string(&data).ok().map(Mark)
}

/// What a mark says; none when it speaks of rows whose bytes mean something else.
pub(super) fn parse(mark: &Mark, decoder: &Decoder) -> Option<Buckets> {
    let data: MarkData = serde_json::from_str(&mark.0).ok()?;
    let ours = data.form == FORM && data.layout == meaning(decoder);
    ours.then(|| Buckets::parse(&data.sums)).flatten()
}

/// A mark brought up to date with what we wrote since the table was looked at. It says nothing about rows where the effect of that is unknown.
pub(super) fn seal(mark: Mark, touched: &Touched, mapped: &Mapped) -> Mark {
    let Ok(mut data) = serde_json::from_str::<MarkData>(&mark.0) else { return mark };
    let Some(mut buckets) = Buckets::parse(&data.sums) else { return mark };
    touched.seal(mapped, &mut buckets);
    data.sums = buckets.to_text();
    serde_json::to_string(&data).map_or(mark, Mark)
}

fn meaning(decoder: &Decoder) -> String {
    fingerprint(&decoder.meaning())
}
