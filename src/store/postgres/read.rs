//! Reads: snapshots in the order of keys, and rows by key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use futures_util::stream::BoxStream;
use serde_json::Value as Json;
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use tokio::sync::mpsc;

use crate::model::{
    Certificate, ErrorKind, Except, Guard, Mapped, Presence, RecordKey, Row, StoreError, StoreName, Unknown,
    canonical_integer,
};

use super::super::{LazyRow, SnapshotItem, SnapshotStream, guard_holds};
use super::PostgresStore;
use super::error::store_error;
use super::kind::{Kind, is_number, is_uuid};
use super::layout::{ColumnInfo, Layout};
use super::rows::{Cutter, Decoder, Torn, Values};
use super::session::{READ, Session, quoted};
use super::tries::Held;

/// Rows a piece of a snapshot: enough that the channel costs nothing, few enough that nothing piles up.
pub(super) const CHUNK_ROWS: usize = 1000;
/// Pieces under way.
pub(super) const CHUNKS_AHEAD: usize = 4;
/// Duplicate keys that a certificate lists.
const DUPLICATES_LISTED: usize = 100;

/// What went wrong while rows were read.
pub(super) enum ReadError {
    Sql(sqlx::Error),
    Torn,
}

impl From<sqlx::Error> for ReadError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<Torn> for ReadError {
    fn from(_: Torn) -> Self {
        Self::Torn
    }
}

impl ReadError {
    pub(super) fn told(&self, store: &StoreName) -> StoreError {
        match self {
            Self::Sql(error) => store_error(store, error),
            Self::Torn => {
                StoreError::new(ErrorKind::Corrupt, store, "the server sent rows that make no sense")
            }
        }
    }
}

impl PostgresStore {
    /// A transaction that reads a table as of one moment, and the table's layout. The table is locked against being rewritten before
    /// the moment is chosen: rows that were rewritten after it would be invisible.
    pub(super) async fn reading(&self, mapped: &Mapped) -> Result<(Session, Layout), StoreError> {
        let names = self.names(mapped)?;
        let mut session = self.server.begin(READ).await?;
        self.lock(&mut session, &names, "ACCESS SHARE").await?;
        let layout = Layout::of(&self.name, &mut session, &names, mapped).await?;
        Ok((session, layout))
    }

    /// Reads a whole table, or all but some rows of it, in one transaction.
    pub(super) async fn read_whole(
        &self,
        mapped: Mapped,
        except: Option<Except>,
    ) -> Result<SnapshotStream, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let (mut session, layout) = self.reading(&mapped).await?;
        let some = layout.condition(except);
        let count = count(&mut session, &layout, &some).await.map_err(failed)?;
        let layout = Arc::new(layout);
        let decoder = Decoder::new(Arc::clone(&layout), mapped);
        // A mark would say that what was left out is gone.
        let mark = match except {
            None => self.mark_data(&mut session, &decoder, count).await.map_err(failed)?,
            Some(_) => None,
        };
        let certificate = Certificate {
            rows_claimed: count,
            missing_columns: layout.missing.clone(),
            mark: mark.and_then(|mark| mark.to_mark()),
            ..Certificate::default()
        };
        let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
        let store = self.name.clone();
        tokio::spawn(async move {
            let mut reader = Reader { decoder, certificate, some, held: None, chunk: Vec::new(), send };
            if let Err(error) = reader.stream(session).await {
                // Nobody listens any more: nothing to tell.
                let _ = reader.send.send(Err(error.told(&store))).await;
            }
        });
        Ok(receive)
    }

    pub(super) async fn read_some(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let (mut session, layout) = self.reading(mapped).await?;
        let wanted: BTreeSet<&RecordKey> = keys.iter().collect();
        let mut found = find(&mut session, &layout, mapped, &wanted, Lock::None).await.map_err(failed)?;
        session.end("ROLLBACK").await.map_err(failed)?;
        let mut presence = |key: &RecordKey| match found.remove(key) {
            None => Presence::Absent,
            Some(mut rows) if rows.len() == 1 => {
                rows.pop().map_or(Presence::Absent, |found| Presence::Present(found.row(&layout, mapped)))
            }
            Some(_) => Presence::Unknown(Unknown::DuplicateKey),
        };
        Ok(wanted.into_iter().map(|key| (key.clone(), presence(key))).collect())
    }

    /// Rows whole, as JSON objects by column name. Of several rows of one key the first.
    pub(super) async fn read_objects(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Json>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let (mut session, layout) = self.reading(mapped).await?;
        let wanted = keys.iter().collect();
        let texts: Vec<String> = layout.key_texts().collect();
        let select = format!("{}, pg_catalog.to_jsonb(t.*)::text", texts.join(", "));
        let rows = rows_of(&mut session, &layout, &select, &wanted, "").await.map_err(failed)?;
        let mut objects = BTreeMap::new();
        for row in rows {
            let Some(key) = key_of(&layout, mapped, &row).filter(|key| wanted.contains(key)) else {
                continue;
            };
            let text: String = row.try_get(texts.len()).map_err(failed)?;
            let object = serde_json::from_str(&text).map_err(|_| ReadError::Torn.told(&self.name))?;
            objects.entry(key).or_insert(object);
        }
        session.end("ROLLBACK").await.map_err(failed)?;
        Ok(objects)
    }
}

/// How many rows there are, those included that cannot be used, that fulfil a condition.
pub(super) async fn count(session: &mut Session, layout: &Layout, some: &str) -> Result<u64, sqlx::Error> {
    let query = session.query(&format!("SELECT count(*) FROM {} AS t{some}", layout.table));
    let count: i64 = session.one(query).await?.try_get(0)?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Rows on their way from a `COPY`.
pub(super) struct Copied<'c> {
    pieces: BoxStream<'c, Result<bytes::Bytes, sqlx::Error>>,
    cutter: Cutter,
    ended: bool,
}

impl<'c> Copied<'c> {
    /// Begins to read. If this fails, or the end is not waited for, the connection is of no more use.
    pub(super) async fn begin(session: &'c mut Session, select: &str) -> Result<Self, sqlx::Error> {
        let sql = format!("COPY ({select}) TO STDOUT (FORMAT binary)");
        let pieces = session.connection()?.copy_out_raw(&sql).await?;
        Ok(Self { pieces, cutter: Cutter::default(), ended: false })
    }

    /// The next rows; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<bytes::Bytes>>, ReadError> {
        let mut rows = Vec::with_capacity(CHUNK_ROWS);
        while !self.ended && rows.len() < CHUNK_ROWS {
            match self.pieces.try_next().await? {
                Some(piece) => self.cutter.take(piece, |row| rows.push(row))?,
                None if self.cutter.ended() => self.ended = true,
                None => return Err(ReadError::Torn),
            }
        }
        Ok(Some(rows).filter(|rows| !rows.is_empty()))
    }
}

/// A snapshot under way.
struct Reader {
    decoder: Arc<Decoder>,
    certificate: Certificate,
    /// What the rows that are read have in common.
    some: String,
    /// The last row, held back until the next one is known to have another key; none: its key stood twice.
    held: Option<(RecordKey, Option<LazyRow>)>,
    chunk: Vec<LazyRow>,
    send: mpsc::Sender<Result<SnapshotItem, StoreError>>,
}

impl Reader {
    async fn stream(&mut self, mut session: Session) -> Result<(), ReadError> {
        let layout = Arc::clone(&self.decoder.layout);
        let select = format!(
            "SELECT {} FROM {} AS t{} ORDER BY {}",
            layout.select_list(),
            layout.table,
            self.some,
            layout.key_order()
        );
        let mut copied = Copied::begin(&mut session, &select).await?;
        while let Some(rows) = copied.next().await? {
            for bytes in rows {
                self.take(bytes);
            }
            if !self.flush().await {
                return Ok(());
            }
        }
        drop(copied);
        session.end("ROLLBACK").await?;
        self.release();
        if self.flush().await {
            self.certificate.end_seen = true;
            let mut certificate = std::mem::take(&mut self.certificate);
            if !certificate.is_complete() || !certificate.missing_columns.is_empty() {
                certificate.mark = None;
            }
            let _ = self.send.send(Ok(SnapshotItem::End(certificate))).await;
        }
        Ok(())
    }

    fn take(&mut self, bytes: bytes::Bytes) {
        self.certificate.rows_read += 1;
        let Some(row) = self.decoder.lazy(bytes) else {
            self.certificate.bad_keys += 1;
            return;
        };
        if let Some((held, first)) = &mut self.held
            && held == row.key()
        {
            let first = first.take().is_some();
            if first && self.certificate.duplicate_keys.len() < DUPLICATES_LISTED {
                self.certificate.duplicate_keys.push(row.key().clone());
            }
            return;
        }
        self.release();
        self.held = Some((row.key().clone(), Some(row)));
    }

    fn release(&mut self) {
        if let Some((_, Some(row))) = self.held.take() {
            self.chunk.push(row);
        }
    }

    /// Sends what has come together; false when nobody listens any more.
    async fn flush(&mut self) -> bool {
        if self.chunk.is_empty() {
            return !self.send.is_closed();
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_ROWS));
        self.send.send(Ok(SnapshotItem::Rows(chunk))).await.is_ok()
    }
}

impl Layout {
    /// What the rows that are read have in common.
    fn condition(&self, except: Option<Except>) -> String {
        self.places.condition(except, |slot| {
            format!("t.{}::text", quoted(self.column(slot).map_or("", |column| &column.name)))
        })
    }
}

/// A row found by its key, with what is needed to write it.
pub(super) struct Found {
    /// Where it stands: the table (a partition) and the place in it.
    pub(super) at: [String; 2],
    /// The transaction that wrote it.
    pub(super) writer: u32,
    key: RecordKey,
    /// The row as it was sent.
    sent: PgRow,
    keys: usize,
    slots: usize,
}

impl Found {
    /// The row in canonical form.
    pub(super) fn row(&self, layout: &Layout, mapped: &Mapped) -> Row {
        layout.read_row(mapped, self.key.clone(), &self.values())
    }

    /// Whether the row still is what a guard says.
    pub(super) fn is_as(&self, guard: &Guard, layout: &Layout, mapped: &Mapped) -> bool {
        let guarded = |field| guard.fields.contains_key(&field);
        guard_holds(guard, &layout.read_some(mapped, self.key.clone(), &self.values(), &guarded))
    }

    /// The slots as they stand.
    pub(super) fn values(&self) -> Values<'_> {
        values_of(&self.sent, self.keys, self.slots)
    }
}

fn values_of(row: &PgRow, keys: usize, slots: usize) -> Values<'_> {
    let value = |at: usize| {
        let value = row.try_get_raw(at).ok()?;
        value.as_bytes().ok()
    };
    (keys..keys + slots).map(value).collect()
}

/// The key of a row of a query whose first columns are the texts of its parts.
fn key_of(layout: &Layout, mapped: &Mapped, row: &PgRow) -> Option<RecordKey> {
    let parts = (0..layout.key.len()).map(|at| row.try_get::<String, _>(at).ok());
    layout.key_of(mapped, parts.collect::<Option<Vec<_>>>()?)
}

/// What rows are locked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lock {
    None,
    Update(Held),
    Delete(Held),
}

impl Lock {
    fn clause(self) -> &'static str {
        match self {
            Self::None => "",
            // Rows that refer to these may still be written by others.
            Self::Update(Held::WaitedFor) => " FOR NO KEY UPDATE OF t",
            Self::Update(Held::LeftOut) => " FOR NO KEY UPDATE OF t SKIP LOCKED",
            Self::Delete(Held::WaitedFor) => " FOR UPDATE OF t",
            Self::Delete(Held::LeftOut) => " FOR UPDATE OF t SKIP LOCKED",
        }
    }
}

/// Finds rows by key. Several rows of one key are all there. Rows that are going to be written are locked, in the order of their
/// keys, so that two writers wait for each other on one side only.
pub(super) async fn find(
    session: &mut Session,
    layout: &Layout,
    mapped: &Mapped,
    keys: &BTreeSet<&RecordKey>,
    lock: Lock,
) -> Result<BTreeMap<RecordKey, Vec<Found>>, sqlx::Error> {
    let place = if layout.info.writable { ", t.tableoid::text, t.ctid::text, t.xmin::text" } else { "" };
    let select = format!("{} {}{place}", layout.types(), layout.select_list());
    let (key_count, slots) = (layout.key.len(), layout.slots.len());
    let mut found: BTreeMap<RecordKey, Vec<Found>> = BTreeMap::new();
    for sent in rows_of(session, layout, &select, keys, lock.clause()).await? {
        // The comparison in SQL takes more than the key itself where a column folds case or pads with spaces.
        let Some(key) = key_of(layout, mapped, &sent).filter(|key| keys.contains(key)) else { continue };
        let text = |at: usize| -> Result<String, sqlx::Error> {
            if layout.info.writable { sent.try_get(key_count + slots + at) } else { Ok(String::new()) }
        };
        let (at, writer) = ([text(0)?, text(1)?], text(2)?.parse().unwrap_or(0));
        let row = Found { at, writer, key: key.clone(), sent, keys: key_count, slots };
        found.entry(key).or_default().push(row);
    }
    Ok(found)
}

async fn rows_of(
    session: &mut Session,
    layout: &Layout,
    select: &str,
    keys: &BTreeSet<&RecordKey>,
    tail: &str,
) -> Result<Vec<PgRow>, sqlx::Error> {
    let mut columns: Vec<Vec<String>> = vec![Vec::new(); layout.key.len()];
    for key in keys.iter().filter(|key| key.parts().len() == layout.key.len()) {
        if key.parts().iter().zip(layout.key_columns()).all(|(part, column)| can_be(part, column)) {
            columns.iter_mut().zip(key.parts()).for_each(|(column, part)| column.push(part.clone()));
        }
    }
    if columns.first().is_none_or(Vec::is_empty) {
        return Ok(Vec::new());
    }
    let unnested: Vec<String> = (1..=columns.len()).map(|at| format!("${at}::text[]")).collect();
    let names: Vec<String> = (0..columns.len()).map(|at| format!("k{at}")).collect();
    let conditions: Vec<String> =
        layout.key_columns().zip(&names).map(|(column, name)| equals(column, name)).collect();
    let sql = format!(
        "SELECT {select} FROM unnest({}) WITH ORDINALITY AS u({}, place) \
         JOIN {} AS t ON {} ORDER BY u.place{tail}",
        unnested.join(", "),
        names.join(", "),
        layout.table,
        conditions.join(" AND "),
    );
    let query = columns.into_iter().fold(session.query(&sql), sqlx::query::Query::bind);
    session.all(query).await
}

/// Whether the part of a key can stand in its column at all: what could not would be an error in SQL.
fn can_be(part: &str, column: &ColumnInfo) -> bool {
    match column.kind {
        Kind::Int2 | Kind::Int4 | Kind::Int8 => canonical_integer(part).is_some(),
        Kind::Uuid => is_uuid(part),
        Kind::Numeric => is_number(part),
        _ => !part.contains('\0'),
    }
}

/// A condition that a key's column fulfils (and perhaps some others: the caller looks again), such that an index serves it.
fn equals(column: &ColumnInfo, name: &str) -> String {
    let ours = format!("t.{}", quoted(&column.name));
    match column.kind {
        Kind::Text => format!("{ours} = u.{name}"),
        Kind::Int2 | Kind::Int4 | Kind::Int8 => format!("{ours} = u.{name}::int8"),
        Kind::Uuid => format!("{ours} = u.{name}::uuid"),
        Kind::Numeric => format!("{ours} = u.{name}::numeric"),
        _ if column.base == "pg_catalog.bpchar" => format!("{ours} = u.{name}::bpchar"),
        _ => format!("{ours}::text = u.{name}"),
    }
}
