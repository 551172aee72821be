//! What changed since the last look: records whose time of update is no older than the newest one seen then, with an overlap, for that
//! time is only exact to the millisecond and servers' clocks are not one. Deletes leave no trace but in the number of records: when that
//! is not what it should be, everything is listed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use crate::model::{Certificate, Mapped, Mark, RecordKey, StoreError, Timestamp, fingerprint};

use super::super::{Changes, LazyRow, keys};
use super::TwentyStore;
use super::layout::{Layout, Place, UPDATED_AT};
use super::rows::{Read, read};

/// How far back before the newest time that was seen is looked: writes that were under way then carry earlier times, by as much as they
/// took.
const OVERLAP_MICROS: i64 = 15_000_000;

/// Where an object stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    /// The newest time of update.
    newest: Timestamp,
    /// How many records there were.
    total: u64,
    /// What was asked for.
    asked: String,
}

/// Finds out where an object stands while it is listed.
pub(super) struct Stand {
    newest: Option<Timestamp>,
    asked: Option<String>,
}

/// Whether changes of an entity can be told alone: neither elements inside it nor what its relations lead to change its rows.
fn tells(layout: &Layout) -> bool {
    let related = layout.key.iter().chain(layout.fields.iter().map(|field| &field.place));
    layout.children.is_empty() && !related.into_iter().any(|place| matches!(place, Place::Related(_)))
}

fn asked(layout: &Layout) -> String {
    fingerprint(&layout.selection())
}

impl Stand {
    pub(super) fn new(layout: &Layout) -> Self {
        Self { newest: None, asked: tells(layout).then(|| asked(layout)) }
    }

    pub(super) fn see(&mut self, record: &Json) {
        self.newest = self.newest.max(updated(record));
    }

    pub(super) fn mark(&self, certificate: &Certificate) -> Option<Mark> {
        if !certificate.is_complete() {
            return None;
        }
        let at = At { newest: self.newest?, total: certificate.rows_read, asked: self.asked.clone()? };
        serde_json::to_string(&at).ok().map(Mark)
    }
}

fn updated(record: &Json) -> Option<Timestamp> {
    Timestamp::parse(record.get(UPDATED_AT)?.as_str()?, &TimeZone::UTC)
}

/// How many records this store object has made, less those it has removed, since each object was last looked at.
#[derive(Debug, Default)]
pub(super) struct Own(Mutex<BTreeMap<String, i64>>);

impl Own {
    fn counts(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget(&self, object: &str) {
        self.counts().remove(object);
    }

    pub(super) fn note(&self, object: &str, by: i64) {
        *self.counts().entry(object.to_owned()).or_default() += by;
    }

    /// A mark as of after these writes.
    pub(super) fn seal(&self, object: &str, mark: Mark) -> Mark {
        let by = self.counts().get(object).copied().unwrap_or(0);
        let Ok(at) = serde_json::from_str::<At>(&mark.0) else { return mark };
        let at = At { total: at.total.saturating_add_signed(by), ..at };
        serde_json::to_string(&at).map_or(mark, Mark)
    }
}

impl TwentyStore {
    pub(super) async fn changed_since(
        &self,
        mapped: &Mapped,
        since: &Mark,
    ) -> Result<Option<Box<dyn Changes>>, StoreError> {
        let Ok(at) = serde_json::from_str::<At>(&since.0) else { return Ok(None) };
        // What changed and how many there are takes two calls: what fits in one is listed whole.
        if at.total <= self.page_rows {
            return Ok(None);
        }
        let layout = self.fresh_layout(mapped).await?;
        if !tells(&layout) || at.asked != asked(&layout) {
            return Ok(None);
        }
        let from = at.newest.saturating_add_micros(-OVERLAP_MICROS);
        self.own.forget(&layout.object.singular);
        let filter = json!({ UPDATED_AT: { "gte": millis(from) } });
        let page = self.changed(&layout, filter).await?;
        // Counted after the look: whoever came in between is too many, and everything is listed.
        let total = self.count(&layout).await?;
        if total != at.total || page.records.len() as u64 != page.total {
            return Ok(None);
        }
        let mut rows: BTreeMap<RecordKey, LazyRow> = BTreeMap::new();
        let mut newest = at.newest;
        for record in &page.records {
            newest = newest.max(updated(record).unwrap_or(newest));
            let Read::Row(row) = read(&layout, mapped, record) else { return Ok(None) };
            if rows.insert(row.key.clone(), row.into()).is_some() {
                return Ok(None);
            }
        }
        let mark = serde_json::to_string(&At { newest, total, asked: at.asked }).map(Mark);
        let Ok(mark) = mark else { return Ok(None) };
        let rows = Some(rows.into_values().collect::<Vec<_>>()).filter(|rows| !rows.is_empty());
        let changes = Look {
            store: self.clone(),
            layout,
            mapped: mapped.clone(),
            rows: rows.into_iter().collect(),
            total,
            mark,
            keys: None,
        };
        Ok(Some(Box::new(changes)))
    }

    /// The keys of all records, ascending.
    async fn all_keys(&self, layout: &Layout, mapped: &Mapped) -> Result<Vec<RecordKey>, StoreError> {
        let mut keys = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.page(layout, &layout.selection(), after.as_deref()).await?;
            for record in &page.records {
                if let Read::Row(row) = read(layout, mapped, record) {
                    keys.push(row.key);
                }
            }
            after = page.cursor.filter(|_| page.more && !page.records.is_empty());
            if after.is_none() {
                keys.sort();
                return Ok(keys);
            }
        }
    }
}

/// A time as filters take it.
pub(super) fn millis(time: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(time.micros())
        .map_or_else(|_| time.to_string(), |exact| format!("{exact:.3}"))
}

struct Look {
    store: TwentyStore,
    layout: super::snapshot::SharedLayout,
    mapped: Mapped,
    rows: VecDeque<Vec<LazyRow>>,
    total: u64,
    mark: Mark,
    keys: Option<Vec<RecordKey>>,
}

impl Look {
    async fn all(&mut self) -> Result<&[RecordKey], StoreError> {
        if self.keys.is_none() {
            self.keys = Some(self.store.all_keys(&self.layout, &self.mapped).await?);
        }
        Ok(self.keys.as_deref().unwrap_or_default())
    }
}

#[async_trait]
impl Changes for Look {
    async fn rows(&mut self) -> Result<Option<Vec<LazyRow>>, StoreError> {
        Ok(self.rows.pop_front())
    }

    fn count(&self) -> u64 {
        self.total
    }

    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn counts(&mut self, bounds: &[RecordKey]) -> Result<Vec<u64>, StoreError> {
        Ok(keys::counts(self.all().await?, bounds))
    }

    async fn keys(
        &mut self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        Ok(keys::between(self.all().await?, from, to))
    }
}
