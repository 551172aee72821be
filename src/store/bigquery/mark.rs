//! What changed since a table was read. The service says for nothing when a table was last changed; of one that was, it works out digests
//! by buckets of keys, and only the rows of buckets that differ are read.

use std::sync::Arc;

use async_trait::async_trait;
use md5::{Digest, Md5};
use serde::{Deserialize, Serialize};

use crate::model::{ErrorKind, Mapped, Mark, RecordKey, StoreError, fingerprint};

use super::super::buckets::{Buckets, MOST_ROWS, Sizes, Touched};
use super::super::keys::joined;
use super::super::{Changes, LazyRow};
use super::BigQueryStore;
use super::error::Failure;
use super::layout::{Layout, Slot};
use super::rows::{Decoder, packed};
use super::sql;

/// Makes the number of a bucket's rows count in its sum: what rows hold that stand twice cancels out.
const ROWS_WEIGH: u64 = 0x9E37_79B9_7F4A_7C15;

/// The sums come back as so many rows.
const SIZES: Sizes = Sizes { rows_a_bucket: 64, most: 8192 };

/// What a mark remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    table: String,
    /// When it was last changed, and what else tells one state of it from another; none where the service's word is not relied on.
    modified: Option<String>,
    rows: u64,
    /// What was read of it.
    read: String,
    /// What [`Buckets::to_text`] says; none where the service did not work them out.
    sums: Option<String>,
}

impl Remembered {
    fn to_mark(&self) -> Option<Mark> {
        let tells = self.modified.is_some() || self.sums.is_some();
        tells.then(|| serde_json::to_string(self).ok().map(Mark)).flatten()
    }
}

/// What is read of a table, hashed.
fn read_of(layout: &Layout, mapped: &Mapped) -> String {
    let fields = layout.places.fields.iter().map(|field| (field.id, field.form, &field.place));
    fingerprint(&format!(
        "{} {:?} {:?} {:?}",
        layout.select_list(),
        fields.collect::<Vec<_>>(),
        layout.places.meta,
        mapped.mapping.timezone
    ))
}

/// An expression that makes a number of columns, 60 bits of a hash.
fn hash_of<'a>(slots: impl Iterator<Item = &'a Slot>) -> String {
    let texts: Vec<String> = slots.map(Slot::text_sql).collect();
    let text = format!("TO_JSON_STRING([{}])", texts.join(", "));
    format!("CAST(CONCAT('0x', SUBSTR(TO_HEX(MD5({text})), 1, 15)) AS INT64)")
}

/// What [`hash_of`] makes of some keys; where one of them may be written otherwise in JSON, a hash for every bucket that there can be.
pub(super) fn hashes<'k>(keys: impl Iterator<Item = &'k RecordKey>) -> Vec<u64> {
    keys.map(hash).collect::<Option<Vec<u64>>>().unwrap_or_else(|| (0..SIZES.most).collect())
}

/// What [`hash_of`] makes of a key; none where that cannot be told from here.
fn hash(key: &RecordKey) -> Option<u64> {
    let plain =
        |part: &String| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !key.parts().iter().all(plain) {
        return None;
    }
    let parts: Vec<String> = key.parts().iter().map(|part| format!("\"{part}\"")).collect();
    let hash = Md5::digest(format!("[{}]", parts.join(",")));
    // The first 15 of its hexadecimal digits.
    Some(hash.iter().take(8).fold(0_u64, |number, byte| (number << 8) | u64::from(*byte)) >> 4)
}

/// A mark that says nothing of the rows that were written to since the table was looked at.
pub(super) fn seal(mark: Mark, touched: &Touched, mapped: &Mapped) -> Mark {
    let Ok(mut known) = serde_json::from_str::<Remembered>(&mark.0) else { return mark };
    let Some(mut buckets) = known.sums.as_deref().and_then(Buckets::parse) else { return mark };
    touched.seal(mapped, &mut buckets);
    known.sums = Some(buckets.to_text());
    known.to_mark().unwrap_or(mark)
}

/// An expression that names a row's bucket.
fn bucket_of(layout: &Layout, buckets: usize) -> String {
    format!("CAST(MOD({}, {buckets}) AS STRING)", hash_of(layout.key.iter()))
}

/// What [`joined`] makes of a key, in SQL.
fn joined_sql(layout: &Layout) -> String {
    if let [one] = layout.key.as_slice() {
        return one.text_sql();
    }
    let ended = layout
        .key
        .iter()
        .map(|slot| format!("REPLACE({}, '\\x01', '\\x01\\x02'), '\\x01\\x01'", slot.text_sql()));
    format!("CONCAT({})", ended.collect::<Vec<_>>().join(", "))
}

impl BigQueryStore {
    /// The mark of a table that was read as of a moment; none where nothing could be told by it. The table was described before.
    pub(super) async fn mark(&self, decoder: &Decoder, rows: u64, moment: i64) -> Option<Mark> {
        let layout = &decoder.layout;
        let buckets =
            self.buckets(layout, moment, Buckets::for_rows(rows, &SIZES)).await.map_err(|failure| {
                tracing::debug!(store = %self.name, reason = %failure.reason, "no digests are to be had");
            });
        let sums = buckets.ok().filter(|(_, counted)| *counted == rows).map(|(buckets, _)| buckets.to_text());
        Remembered { modified: self.modified(layout, moment), ..self.remembered(decoder, rows, sums) }
            .to_mark()
    }

    /// What tells that a table is as it was at a moment; none where it was changed since.
    fn modified(&self, layout: &Layout, moment: i64) -> Option<String> {
        let before = layout.info.modified_ms.is_some_and(|modified| modified < moment / 1000);
        layout.info.modified.clone().filter(|_| self.trusts_modified && before)
    }

    fn remembered(&self, decoder: &Decoder, rows: u64, sums: Option<String>) -> Remembered {
        let layout = &decoder.layout;
        let modified = layout.info.modified.clone().filter(|_| self.trusts_modified);
        Remembered { table: layout.names.sql(), modified, rows, read: read_of(layout, &decoder.mapped), sums }
    }

    /// The digests of a table as of a moment, put into empty buckets, and how many rows it has. Rows are told apart by all that is read
    /// of them.
    async fn buckets(
        &self,
        layout: &Layout,
        moment: i64,
        mut buckets: Buckets,
    ) -> Result<(Buckets, u64), Failure> {
        let sql = format!(
            "SELECT b, CAST(COUNT(*) AS STRING), CAST(BIT_XOR(h) AS STRING) FROM (SELECT {} AS b, {} AS h FROM {} AS T \
             FOR SYSTEM_TIME AS OF TIMESTAMP_MICROS({moment})) GROUP BY b",
            bucket_of(layout, buckets.len()),
            hash_of(layout.key.iter().chain(&layout.slots)),
            layout.names.sql(),
        );
        let mut rows = 0;
        for cells in self.rows_seen(layout, &sql, Vec::new()).await? {
            let mut numbers = cells.iter().map(|cell| cell.as_deref()?.parse::<u64>().ok());
            let mut next = || numbers.next().flatten().ok_or(Failure::senseless("a digest that is none"));
            let (at, count, hash) = (next()?, next()?, next()?);
            let at = usize::try_from(at).ok().filter(|at| *at < buckets.len());
            let at = at.ok_or(Failure::senseless("a bucket that was not asked for"))?;
            buckets.add(at, hash.wrapping_add(count.wrapping_mul(ROWS_WEIGH)), count);
            rows += count;
        }
        Ok((buckets, rows))
    }

    /// What changed since a mark; none where the mark does not speak of this table as it is, or where it is much of the table.
    pub(super) async fn changed_since(
        &self,
        mapped: &Mapped,
        since: &Mark,
    ) -> Result<Option<Box<dyn Changes>>, StoreError> {
        let Ok(then) = serde_json::from_str::<Remembered>(&since.0) else { return Ok(None) };
        // Described before it is looked at: what changes in between is seen twice, not missed.
        let decoder = Decoder::new(Arc::new(self.layout(mapped).await?), mapped.clone());
        let now = self.remembered(&decoder, then.rows, then.sums.clone());
        if now.table != then.table || now.read != then.read || !decoder.layout.missing.is_empty() {
            return Ok(None);
        }
        let look = if now.modified.is_some() && now.modified == then.modified {
            Some(Look { store: self.clone(), decoder, moment: None, rows: Vec::new(), now })
        } else {
            self.compare(decoder, now).await.map_err(|failure| self.told(&failure))?
        };
        Ok(look.map(|look| Box::new(look) as Box<dyn Changes>))
    }

    /// Compares a table with what is remembered of it.
    async fn compare(&self, decoder: Arc<Decoder>, then: Remembered) -> Result<Option<Look>, Failure> {
        let Some(before) = then.sums.as_deref().and_then(Buckets::parse) else { return Ok(None) };
        let layout = Arc::clone(&decoder.layout);
        let moment = self.moment(&decoder.mapped).await?;
        let (buckets, count) = self.buckets(&layout, moment, Buckets::like(&before)).await?;
        let (differs, suspects) = buckets.differing(&before);
        // Two looks at most of a table cost more than one at all of it.
        if buckets.are_crowded(count, &SIZES) || suspects > MOST_ROWS || suspects > count.div_ceil(2) {
            return Ok(None);
        }
        let mut rows = Vec::new();
        if suspects > 0 {
            let wanted = (0..differs.len()).filter(|at| differs.get(*at).copied().unwrap_or(true));
            let sql = format!(
                "SELECT {} FROM {} AS T FOR SYSTEM_TIME AS OF TIMESTAMP_MICROS({moment}) WHERE {} IN UNNEST(@buckets)",
                layout.select_list(),
                layout.names.sql(),
                bucket_of(&layout, buckets.len()),
            );
            let parameter = sql::texts("buckets", wanted.map(|at| at.to_string()));
            for cells in self.rows_seen(&layout, &sql, vec![parameter]).await? {
                let bytes = packed(&cells);
                let Some(key) = decoder.key(&bytes) else { return Ok(None) };
                rows.push(decoder.lazy(key, bytes));
            }
            rows.sort_by(|a, b| a.key().cmp(b.key()));
            // The whole read names the key that stands twice.
            if !rows.is_sorted_by(|a, b| a.key() < b.key()) {
                return Ok(None);
            }
        }
        let modified = self.modified(&layout, moment);
        let now = Remembered { modified, rows: count, sums: Some(buckets.to_text()), ..then };
        Ok(Some(Look { store: self.clone(), decoder, moment: Some(moment), rows, now }))
    }
}

/// A look at what changed.
struct Look {
    store: BigQueryStore,
    decoder: Arc<Decoder>,
    /// What it is as of; none: as of now, for the table is as it was.
    moment: Option<i64>,
    rows: Vec<LazyRow>,
    now: Remembered,
}

impl Look {
    /// What says in a statement as of when a table is read.
    fn moment(&self) -> String {
        self.moment
            .map_or(String::new(), |moment| format!(" FOR SYSTEM_TIME AS OF TIMESTAMP_MICROS({moment})"))
    }

    /// The keys from one to another. They are few enough to be held: a stretch of them, or all that are counted.
    async fn keys_between(
        &self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        let layout = &self.decoder.layout;
        let texts: Vec<String> =
            layout.key.iter().enumerate().map(|(at, slot)| format!("{} AS c{at}", slot.text_sql())).collect();
        // The first part alone narrows what is read; the rest is looked at here.
        let first = layout.key.first().map_or(String::new(), Slot::text_sql);
        let mut terms = Vec::new();
        let mut parameters = Vec::new();
        for (bound, name, sign) in [(from, "low", ">="), (to, "high", "<=")] {
            if let Some(part) = bound.and_then(|key| key.parts().first()) {
                terms.push(format!("{first} {sign} @{name}"));
                parameters.push(sql::text(name, part));
            }
        }
        let wanted = if terms.is_empty() { String::new() } else { format!(" WHERE {}", terms.join(" AND ")) };
        let names = &layout.names;
        let sql = format!("SELECT {} FROM {} AS T{}{wanted}", texts.join(", "), names.sql(), self.moment());
        let failed = |failure| self.store.told(&failure);
        let mut pages = self.store.query_seen(layout, &sql, parameters).await.map_err(failed)?;
        let mut keys = Vec::new();
        while let Some(rows) = pages.next().await.map_err(failed)? {
            for row in rows {
                let parts: Option<Vec<String>> = row.into_iter().collect();
                let key =
                    parts.and_then(|parts| layout.key_of(&self.decoder.mapped, parts)).ok_or_else(|| {
                        let message = format!("`{}` has a row without a usable key", names.title);
                        StoreError::new(ErrorKind::Corrupt, &self.store.name, message)
                    })?;
                let within = from.is_none_or(|from| *from <= key) && to.is_none_or(|to| key < *to);
                if within {
                    keys.push(key);
                }
            }
        }
        keys.sort();
        Ok(keys)
    }
}

#[async_trait]
impl Changes for Look {
    async fn rows(&mut self) -> Result<Option<Vec<LazyRow>>, StoreError> {
        Ok(Some(std::mem::take(&mut self.rows)).filter(|rows| !rows.is_empty()))
    }

    fn count(&self) -> u64 {
        self.now.rows
    }

    fn mark(&self) -> Mark {
        self.now.to_mark().unwrap_or_else(|| Mark(String::new()))
    }

    async fn counts(&mut self, bounds: &[RecordKey]) -> Result<Vec<u64>, StoreError> {
        let mut counts = vec![0; bounds.len() + 1];
        let layout = &self.decoder.layout;
        let sql = format!(
            "SELECT CAST(b AS STRING), CAST(COUNT(*) AS STRING) FROM (SELECT {} AS b FROM {} AS T{}) GROUP BY b",
            if bounds.is_empty() {
                "0".to_owned()
            } else {
                format!("RANGE_BUCKET({}, @bounds)", joined_sql(layout))
            },
            layout.names.sql(),
            self.moment(),
        );
        let parameter = (!bounds.is_empty()).then(|| sql::texts("bounds", bounds.iter().map(joined)));
        let failed = |failure| self.store.told(&failure);
        let rows = self.store.rows_seen(layout, &sql, parameter.into_iter().collect()).await;
        for cells in rows.map_err(failed)? {
            let mut numbers = cells.iter().map(|cell| cell.as_deref()?.parse::<u64>().ok());
            let (at, count) = (numbers.next().flatten(), numbers.next().flatten());
            let place = at.and_then(|at| counts.get_mut(usize::try_from(at).ok()?));
            let (Some(place), Some(count)) = (place, count) else {
                return Err(failed(Failure::senseless("a count that is none")));
            };
            *place = count;
        }
        Ok(counts)
    }

    async fn keys(
        &mut self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        self.keys_between(from, to).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_cannot_be_hashed_here_are_in_any_bucket_and_cost_no_more_for_being_many() {
        let key = |text: &str| RecordKey::new(vec![text.to_owned()]);
        let plain = [key("C1"), key("a-b_c.d")];
        assert_eq!(hashes(plain.iter()).len(), 2);
        let odd: Vec<RecordKey> = (0..100).map(|number| key(&format!("é{number}"))).chain(plain).collect();
        assert_eq!(hashes(odd.iter()), (0..SIZES.most).collect::<Vec<_>>());
    }
}
