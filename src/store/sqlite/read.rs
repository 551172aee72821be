//! Reads: rows into canonical form, snapshots in the order of keys, and rows by key.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::TryStreamExt as _;
use jiff::tz::TimeZone;
use serde_json::Value as Json;
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, Sqlite, SqliteConnection, SqlitePool, Transaction};
use tokio::sync::mpsc;

use crate::model::{
    Cell, Certificate, FieldType, Form, Mapped, Native, RecordKey, Row, StoreError, StoreName, SyncMeta,
    Timestamp, Value, decode,
};

use super::super::{LazyRow, SnapshotItem, SnapshotStream, sync};
use super::error::store_error;
use super::layout::{Affinity, Layout, MetaPlace, Place};
use super::native::{bind, inner_native, native, native_json, query, quoted, unreadable};

/// Rows a piece of a snapshot: enough that the channel costs nothing, few enough that nothing piles up.
const CHUNK_ROWS: usize = 1000;
/// Pieces under way.
const CHUNKS_AHEAD: usize = 4;
/// Duplicate keys that a certificate lists.
const DUPLICATES_LISTED: usize = 100;
/// Keys a query. With two parameters a key this is well below `SQLite`'s limit of 32,766, and a chain of as many
/// conditions below its limit of 1,000 for the depth of an expression.
const KEYS_PER_QUERY: usize = 400;

/// A row found by its key, with what is needed to write it.
pub(super) struct Found {
    /// The row's number, in tables that have one.
    pub(super) rowid: Option<i64>,
    /// The columns that are read, as they stand.
    pub(super) natives: Vec<Native>,
    pub(super) row: Row,
}

/// The JSON inside columns, parsed once a row and only where a path leads into it.
struct Inner<'a> {
    natives: &'a [Native],
    parsed: BTreeMap<usize, Option<Json>>,
}

impl Inner<'_> {
    /// The value at a place inside a column.
    fn at(&mut self, place: &Place) -> Result<Option<&Json>, ()> {
        let json = self.parsed.entry(place.slot).or_insert_with(|| match self.natives.get(place.slot) {
            None | Some(Native::Null) => Some(Json::Null),
            Some(Native::Text(text)) => serde_json::from_str(text).ok(),
            Some(_) => None,
        });
        let Some(json) = json else { return Err(()) };
        let mut json = Some(&*json);
        for name in &place.path {
            json = json.and_then(|json| json.get(name));
        }
        Ok(json)
    }

    /// What stands at a place, as a column of its own would hold it.
    fn native(&mut self, place: &Place, ty: FieldType, form: Form) -> Result<Native, Native> {
        let whole = self.natives.get(place.slot).cloned().unwrap_or(Native::Null);
        if place.path.is_empty() {
            return Ok(whole);
        }
        self.at(place).map(|json| inner_native(json, ty, form)).map_err(|()| whole)
    }
}

impl Layout {
    /// The key of a row; none where a part is null or is no key of its type.
    pub(super) fn read_key(&self, mapped: &Mapped, natives: &[Native]) -> Option<RecordKey> {
        let mut parts = Vec::with_capacity(self.key.len());
        for (place, part) in self.key.iter().zip(&mapped.entity.key) {
            parts.push(match natives.get(place.slot)? {
                Native::Integer(number) => number.to_string(),
                Native::Text(text) if part.ty == FieldType::Int64 => {
                    // One number, one text: `007` would be a second key of 7.
                    text.parse::<i64>().ok().map(|number| number.to_string()).filter(|plain| plain == text)?
                }
                Native::Text(text) => text.clone(),
                Native::Null | Native::Real(_) | Native::Blob(_) => return None,
            });
        }
        Some(RecordKey::new(parts))
    }

    /// A row in canonical form.
    pub(super) fn read_row(&self, mapped: &Mapped, key: RecordKey, natives: &[Native]) -> Row {
        let zone = &mapped.mapping.timezone;
        let mut inner = Inner { natives, parsed: BTreeMap::new() };
        let mut fields = BTreeMap::new();
        for field in &self.fields {
            let cell = if field.place.path.is_empty() {
                read_cell(natives.get(field.place.slot).unwrap_or(&Native::Null), field.ty, field.form, zone)
            } else {
                match inner.native(&field.place, field.ty, field.form) {
                    Ok(native) => read_cell(&native, field.ty, field.form, zone),
                    Err(whole) => unreadable(&whole, "the column around it holds no JSON".to_owned()),
                }
            };
            fields.insert(field.id, cell);
        }
        let mut time = |place: &Option<Place>| -> Option<Timestamp> {
            let native = inner.native(place.as_ref()?, FieldType::Timestamp, Form::Native).ok()?;
            match decode(&native, FieldType::Timestamp, Form::Native, zone) {
                Ok(Value::Time(time)) => Some(time),
                _ => None,
            }
        };
        let (created, updated) = (time(&self.created), time(&self.updated));
        Row { key, store_id: None, fields, meta: self.read_meta(&mut inner, zone), created, updated }
    }

    fn read_meta(&self, inner: &mut Inner<'_>, zone: &TimeZone) -> SyncMeta {
        match &self.meta {
            MetaPlace::None => SyncMeta::default(),
            MetaPlace::Object(place) => match inner.at(place) {
                Ok(Some(Json::Object(object))) => sync::from_object(object, zone),
                // An object kept as text inside the JSON of its column.
                Ok(Some(Json::String(text))) => serde_json::from_str(text)
                    .map(|object| sync::from_object(&object, zone))
                    .unwrap_or_default(),
                _ => SyncMeta::default(),
            },
            MetaPlace::Parts(places) => {
                let mut parts: [Json; 6] = Default::default();
                for (at, (part, place)) in parts.iter_mut().zip(places).enumerate() {
                    let Some(place) = place else { continue };
                    let is_list = at >= sync::FIRST_LIST;
                    let ty = if is_list { FieldType::Json } else { FieldType::String };
                    *part = match inner.native(place, ty, Form::Native) {
                        Ok(Native::Text(text)) if is_list => serde_json::from_str(&text).unwrap_or_default(),
                        Ok(Native::Blob(_)) | Err(_) => Json::Null,
                        Ok(native) => native_json(&native),
                    };
                }
                sync::from_parts(&parts, zone)
            }
        }
    }

    /// The columns that are read, out of a row of a query whose first columns they are.
    fn natives(&self, row: &SqliteRow) -> Result<Vec<Native>, sqlx::Error> {
        (0..self.slots.len()).map(|slot| native(row, slot)).collect()
    }
}

fn read_cell(native: &Native, ty: FieldType, form: Form, zone: &TimeZone) -> Cell {
    decode(native, ty, form, zone).map_or_else(|error| unreadable(native, error.0), Cell::Value)
}

/// Reads a whole table in one read transaction.
pub(super) async fn snapshot(
    store: &StoreName,
    pool: &SqlitePool,
    mapped: Mapped,
) -> Result<SnapshotStream, StoreError> {
    let failed = |error| store_error(store, &error);
    let mut transaction = pool.begin().await.map_err(failed)?;
    let layout = Layout::of(store, &mut transaction, &mapped).await?;
    let count = query(&format!("SELECT count(*) FROM {} AS t", layout.table))
        .fetch_one(&mut *transaction)
        .await
        .and_then(|row| row.try_get::<i64, _>(0))
        .map_err(failed)?;
    let certificate = Certificate {
        rows_claimed: u64::try_from(count).unwrap_or(0),
        missing_columns: layout.missing.clone(),
        ..Certificate::default()
    };
    let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
    let store = store.clone();
    tokio::spawn(async move {
        let mut reader = Reader { layout, mapped, certificate, held: None, chunk: Vec::new(), send };
        if let Err(error) = reader.stream(transaction).await {
            // Nobody listens any more: nothing to tell.
            let _ = reader.send.send(Err(store_error(&store, &error))).await;
        }
    });
    Ok(receive)
}

/// A snapshot under way.
struct Reader {
    layout: Layout,
    mapped: Mapped,
    certificate: Certificate,
    /// The last row, held back until the next one is known to have another key; none: its key stood twice.
    held: Option<(RecordKey, Option<Row>)>,
    chunk: Vec<LazyRow>,
    send: mpsc::Sender<Result<SnapshotItem, StoreError>>,
}

impl Reader {
    async fn stream(&mut self, mut transaction: Transaction<'static, Sqlite>) -> Result<(), sqlx::Error> {
        let sql = format!(
            "SELECT {} FROM {} AS t ORDER BY {}",
            self.layout.select_list(),
            self.layout.table,
            self.layout.key_order()
        );
        let mut rows = query(&sql).fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await? {
            let natives = self.layout.natives(&row)?;
            self.take(&natives);
            if self.chunk.len() >= CHUNK_ROWS && !self.flush().await {
                return Ok(());
            }
        }
        drop(rows);
        transaction.rollback().await?;
        self.release();
        if self.flush().await {
            self.certificate.end_seen = true;
            let _ = self.send.send(Ok(SnapshotItem::End(std::mem::take(&mut self.certificate)))).await;
        }
        Ok(())
    }

    fn take(&mut self, natives: &[Native]) {
        self.certificate.rows_read += 1;
        let Some(key) = self.layout.read_key(&self.mapped, natives) else {
            self.certificate.bad_keys += 1;
            return;
        };
        if let Some((held, row)) = &mut self.held
            && *held == key
        {
            let first = row.take().is_some();
            if first && self.certificate.duplicate_keys.len() < DUPLICATES_LISTED {
                self.certificate.duplicate_keys.push(key);
            }
            return;
        }
        self.release();
        let row = self.layout.read_row(&self.mapped, key.clone(), natives);
        self.held = Some((key, Some(row)));
    }

    fn release(&mut self) {
        if let Some((_, Some(row))) = self.held.take() {
            self.chunk.push(row.into());
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

/// Finds rows by key. Several rows of one key are all there.
pub(super) async fn find(
    connection: &mut SqliteConnection,
    layout: &Layout,
    mapped: &Mapped,
    keys: &BTreeSet<&RecordKey>,
) -> Result<BTreeMap<RecordKey, Vec<Found>>, sqlx::Error> {
    let rowid = layout.info.rowid.map_or(String::new(), |name| format!(", t.{name}"));
    let select = format!("{}{rowid}", layout.select_list());
    let mut found: BTreeMap<RecordKey, Vec<Found>> = BTreeMap::new();
    for row in rows_of(connection, layout, &select, keys).await? {
        let natives = layout.natives(&row)?;
        // The comparison in SQL takes more than the key itself where a column folds case or turns texts into numbers.
        let Some(key) = layout.read_key(mapped, &natives).filter(|key| keys.contains(key)) else { continue };
        let rowid = layout.info.rowid.map(|_| row.try_get::<i64, _>(layout.slots.len())).transpose()?;
        let row = layout.read_row(mapped, key.clone(), &natives);
        found.entry(key).or_default().push(Found { rowid, natives, row });
    }
    Ok(found)
}

/// Rows whole, as JSON objects by column name. Of several rows of one key the first.
pub(super) async fn find_whole(
    connection: &mut SqliteConnection,
    layout: &Layout,
    mapped: &Mapped,
    keys: &BTreeSet<&RecordKey>,
) -> Result<BTreeMap<RecordKey, Json>, sqlx::Error> {
    let all = layout.info.columns.iter().map(|column| format!("t.{}", quoted(&column.name)));
    let select = std::iter::once(layout.select_list()).chain(all).collect::<Vec<_>>().join(", ");
    let mut found = BTreeMap::new();
    for row in rows_of(connection, layout, &select, keys).await? {
        let natives = layout.natives(&row)?;
        let Some(key) = layout.read_key(mapped, &natives).filter(|key| keys.contains(key)) else { continue };
        let mut object = serde_json::Map::new();
        for (at, column) in layout.info.columns.iter().enumerate() {
            object.insert(column.name.clone(), native_json(&native(&row, layout.slots.len() + at)?));
        }
        found.entry(key).or_insert(Json::Object(object));
    }
    Ok(found)
}

async fn rows_of(
    connection: &mut SqliteConnection,
    layout: &Layout,
    select: &str,
    keys: &BTreeSet<&RecordKey>,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    let keys: Vec<&RecordKey> =
        keys.iter().copied().filter(|key| key.parts().len() == layout.key.len()).collect();
    let mut all = Vec::new();
    for chunk in keys.chunks(KEYS_PER_QUERY) {
        let (condition, values) = key_condition(layout, chunk);
        let sql = format!("SELECT {select} FROM {} AS t WHERE {condition}", layout.table);
        let bound = values.iter().fold(query(&sql), bind);
        all.extend(bound.fetch_all(&mut *connection).await?);
    }
    Ok(all)
}

/// A condition that the rows of some keys fulfil (and perhaps some others: the caller looks again), such that an index on the
/// key's columns serves it.
fn key_condition(layout: &Layout, keys: &[&RecordKey]) -> (String, Vec<Native>) {
    let mut values = Vec::new();
    if let [place] = layout.key.as_slice() {
        let affinity = layout.column(place.slot).map_or(Affinity::None, |column| column.affinity);
        for key in keys {
            values.extend(key.parts().iter().flat_map(|part| alternatives(part, affinity)));
        }
        return (format!("{} IN ({})", layout.qualified(place.slot), placeholders(values.len())), values);
    }
    let mut terms = Vec::with_capacity(keys.len());
    for key in keys {
        let mut parts = Vec::with_capacity(layout.key.len());
        for (place, part) in layout.key.iter().zip(key.parts()) {
            let affinity = layout.column(place.slot).map_or(Affinity::None, |column| column.affinity);
            let alternatives = alternatives(part, affinity);
            parts.push(format!("{} IN ({})", layout.qualified(place.slot), placeholders(alternatives.len())));
            values.extend(alternatives);
        }
        terms.push(format!("({})", parts.join(" AND ")));
    }
    (terms.join(" OR "), values)
}

/// How the part of a key may stand in a column: as text, or as a number where the column keeps both apart.
fn alternatives(part: &str, affinity: Affinity) -> Vec<Native> {
    let text = Native::Text(part.to_owned());
    match part.parse::<i64>() {
        Ok(number) if affinity != Affinity::Text => vec![text, Native::Integer(number)],
        _ => vec![text],
    }
}

fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}
