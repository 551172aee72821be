//! What changed since a mark, and questions about the rest, all in one read transaction.

use std::cmp::Ordering;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::Connection;

use crate::model::{ErrorKind, Mapped, Mark, RecordKey, StoreError, StoreName};

use super::super::buckets::{Buckets, MOST_ROWS};
use super::super::{Changes, LazyRow, RowDecoder};
use super::SqliteStore;
use super::digest;
use super::error::{pool_error, store_error};
use super::layout::Layout;
use super::pool::Lease;
use super::snapshot::Decoder;

/// A look at what changed, with the connection whose transaction it is in.
struct SqliteChanges {
    store: StoreName,
    decoder: Arc<Decoder>,
    lease: Option<Lease>,
    rows: Option<Vec<LazyRow>>,
    count: u64,
    mark: Mark,
}

/// What a first look found.
struct Found {
    decoder: Arc<Decoder>,
    rows: Vec<LazyRow>,
    count: u64,
    mark: Mark,
}

impl SqliteStore {
    /// What changed since a mark; none where the mark does not speak of this table as it is, or where it is most of the table.
    pub(super) async fn changed_since(
        &self,
        mapped: &Mapped,
        since: &Mark,
    ) -> Result<Option<Box<dyn Changes>>, StoreError> {
        let lease = self.pool.lease().await.map_err(|error| pool_error(&self.name, &error))?;
        let (store, mapped, since) = (self.name.clone(), mapped.clone(), since.clone());
        let look = move |connection: &Connection| {
            connection.execute_batch("BEGIN").map_err(|error| store_error(&store, &error))?;
            look(&store, connection, mapped, &since)
        };
        let (mut lease, found) = with(&self.name, lease, look).await?;
        let found = found.inspect_err(|_| end(&mut lease))?;
        let Some(found) = found else {
            end(&mut lease);
            return Ok(None);
        };
        Ok(Some(Box::new(SqliteChanges {
            store: self.name.clone(),
            decoder: found.decoder,
            lease: Some(lease),
            rows: Some(found.rows).filter(|rows| !rows.is_empty()),
            count: found.count,
            mark: found.mark,
        })))
    }
}

/// Runs a piece of work with a connection, on a thread that may wait for the disk.
async fn with<T: Send + 'static>(
    store: &StoreName,
    lease: Lease,
    work: impl FnOnce(&Connection) -> T + Send + 'static,
) -> Result<(Lease, T), StoreError> {
    let done = tokio::task::spawn_blocking(move || {
        let done = lease.connection().map(work);
        (lease, done)
    });
    match done.await {
        Ok((lease, Some(done))) => Ok((lease, done)),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        _ => Err(StoreError::new(ErrorKind::Unavailable, store, "the connection to the file was closed")),
    }
}

/// Ends the transaction. Nothing was written: how it ends does not matter.
fn end(lease: &mut Lease) {
    if let Some(connection) = lease.connection() {
        let _ = connection.execute_batch("ROLLBACK");
    }
}

fn look(
    store: &StoreName,
    connection: &Connection,
    mapped: Mapped,
    since: &Mark,
) -> Result<Option<Found>, StoreError> {
    let layout = Layout::of(store, connection, &mapped)?;
    if !layout.missing.is_empty() {
        return Ok(None);
    }
    let decoder = Arc::new(Decoder::new(layout, mapped));
    let Some(then) = digest::parse(since, &decoder) else { return Ok(None) };
    let found = compare(connection, decoder, &then).map_err(|error| store_error(store, &error))?;
    match found {
        Some(found) if !found.rows.is_sorted_by(|a, b| a.key() < b.key()) => Err(torn(store, &found.decoder)),
        found => Ok(found),
    }
}

/// Goes through the table, and then through the rows of the buckets that differ.
fn compare(
    connection: &Connection,
    decoder: Arc<Decoder>,
    then: &Buckets,
) -> rusqlite::Result<Option<Found>> {
    let layout = &decoder.layout;
    let (columns, table) = (layout.select_list(), &layout.table);
    let mut now = Buckets::like(then);
    let mut count = 0;
    let mut buffer = Vec::new();
    // In the order of the table itself, which is the fastest one.
    let mut statement = connection.prepare_cached(&format!("SELECT {columns} FROM {table} AS t"))?;
    let mut rows = statement.raw_query();
    while let Some(row) = rows.next()? {
        count += 1;
        let Some(key) = decoder.key(row) else { return Ok(None) };
        buffer.clear();
        decoder.pack(row, &mut buffer)?;
        digest::add(&mut now, &key, &buffer);
    }
    let (differs, suspects) = now.differing(then);
    if now.are_crowded(count, &digest::SIZES) || suspects > MOST_ROWS {
        return Ok(None);
    }
    let Some(mark) = digest::mark(&now, &decoder) else { return Ok(None) };
    let mut changed = Vec::new();
    if suspects > 0 {
        let order = layout.key_order();
        let sql = format!("SELECT {columns} FROM {table} AS t ORDER BY {order}");
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            let Some(key) = decoder.key(row) else { return Ok(None) };
            if differs.get(digest::bucket(&now, &key)).copied().unwrap_or(true) {
                let mut bytes = Vec::new();
                let compared = decoder.pack(row, &mut bytes)?;
                let decoder = Arc::clone(&decoder) as Arc<dyn RowDecoder>;
                changed.push(LazyRow::raw(key, Bytes::from(bytes), compared, decoder));
            }
        }
    }
    Ok(Some(Found { decoder, rows: changed, count, mark }))
}

fn torn(store: &StoreName, decoder: &Decoder) -> StoreError {
    let message = format!("`{}` has keys that cannot be used or stand twice", decoder.layout.title);
    StoreError::new(ErrorKind::Corrupt, store, message).hint("the next whole read names them")
}

/// Visits the keys in their order, each to be greater than the one before; false when one is not.
fn visit_keys(
    connection: &Connection,
    decoder: &Decoder,
    mut visit: impl FnMut(RecordKey),
) -> rusqlite::Result<bool> {
    let layout = &decoder.layout;
    let sql =
        format!("SELECT {} FROM {} AS t ORDER BY {}", layout.select_list(), layout.table, layout.key_order());
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.raw_query();
    let mut last: Option<RecordKey> = None;
    while let Some(row) = rows.next()? {
        let Some(key) = decoder.key(row) else { return Ok(false) };
        if last.as_ref().is_some_and(|last| last.cmp(&key) != Ordering::Less) {
            return Ok(false);
        }
        visit(key.clone());
        last = Some(key);
    }
    Ok(true)
}

#[async_trait]
impl Changes for SqliteChanges {
    async fn rows(&mut self) -> Result<Option<Vec<LazyRow>>, StoreError> {
        Ok(self.rows.take())
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn mark(&self) -> Mark {
        self.mark.clone()
    }

    async fn counts(&mut self, bounds: &[RecordKey]) -> Result<Vec<u64>, StoreError> {
        let bounds = bounds.to_vec();
        self.keyed(move |connection, decoder| {
            let mut counts = vec![0; bounds.len() + 1];
            let mut place = 0;
            let ordered = visit_keys(connection, decoder, |key| {
                while bounds.get(place).is_some_and(|bound| *bound <= key) {
                    place += 1;
                }
                if let Some(count) = counts.get_mut(place) {
                    *count += 1;
                }
            })?;
            Ok(ordered.then_some(counts))
        })
        .await
    }

    async fn keys(
        &mut self,
        from: Option<&RecordKey>,
        to: Option<&RecordKey>,
    ) -> Result<Vec<RecordKey>, StoreError> {
        let (from, to) = (from.cloned(), to.cloned());
        self.keyed(move |connection, decoder| {
            let mut keys = Vec::new();
            let ordered = visit_keys(connection, decoder, |key| {
                let within =
                    from.as_ref().is_none_or(|from| key >= *from) && to.as_ref().is_none_or(|to| key < *to);
                if within {
                    keys.push(key);
                }
            })?;
            Ok(ordered.then_some(keys))
        })
        .await
    }
}

impl SqliteChanges {
    /// Answers a question about the keys.
    async fn keyed<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&Connection, &Decoder) -> rusqlite::Result<Option<T>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::new(ErrorKind::Unavailable, &self.store, "the look came to an early end");
        let lease = self.lease.take().ok_or_else(gone)?;
        let decoder = Arc::clone(&self.decoder);
        let (lease, done) = with(&self.store, lease, move |connection| work(connection, &decoder)).await?;
        self.lease = Some(lease);
        done.map_err(|error| store_error(&self.store, &error))?
            .ok_or_else(|| torn(&self.store, &self.decoder))
    }
}

impl Drop for SqliteChanges {
    fn drop(&mut self) {
        if let Some(lease) = &mut self.lease {
            end(lease);
        }
    }
}
