//! Snapshots: a table in the order of its keys, its rows packed as they stand and decoded where somebody asks.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row as SqlRow};
use tokio::sync::{mpsc, oneshot};

use crate::model::{Certificate, ErrorKind, Except, Mapped, Native, RecordKey, Row, StoreError, StoreName};

use super::super::buckets::Buckets;
use super::super::places::MetaPlace;
use super::super::{LazyRow, RowDecoder, SnapshotItem, SnapshotStream};
use super::SqliteStore;
use super::digest;
use super::error::{pool_error, store_error};
use super::layout::{Layout, Place, Places};
use super::native::native;

/// Rows a piece of a snapshot: enough that the channel costs nothing, few enough that nothing piles up.
const CHUNK_ROWS: usize = 1000;
/// Pieces under way.
const CHUNKS_AHEAD: usize = 4;
/// Duplicate keys that a certificate lists.
const DUPLICATES_LISTED: usize = 100;

/// Reads a whole table, or all but some rows of it, in one read transaction, on a thread of its own.
pub(super) async fn snapshot(
    store: &SqliteStore,
    mapped: Mapped,
    except: Option<Except>,
) -> Result<SnapshotStream, StoreError> {
    let name = store.name.clone();
    let lease = store.pool.lease().await.map_err(|error| pool_error(&name, &error))?;
    let (send, receive) = mpsc::channel(CHUNKS_AHEAD);
    let (begun, beginning) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let Some(connection) = lease.connection() else { return };
        let mut reader = match Reader::begin(&name, connection, (mapped, except), send) {
            Ok(reader) => reader,
            Err(error) => return drop(begun.send(Err(error))),
        };
        // Whoever waited may have gone; then the first piece finds nobody.
        let _ = begun.send(Ok(()));
        let done = reader.stream(connection);
        let ended = connection.execute_batch("ROLLBACK");
        if let Err(error) = done.and(ended) {
            // Nobody listens any more: nothing to tell.
            let _ = reader.send.blocking_send(Err(store_error(&name, &error)));
        }
    });
    let lost =
        || StoreError::new(ErrorKind::Unavailable, &store.name, "the connection to the file was closed");
    beginning.await.unwrap_or_else(|_| Err(lost())).map(|()| receive)
}

/// A snapshot under way.
struct Reader {
    decoder: Arc<Decoder>,
    certificate: Certificate,
    digests: Buckets,
    /// Rows that are left out.
    except: Option<Except>,
    /// Rows that have come together, packed one behind the other.
    buffer: Vec<u8>,
    rows: Vec<Packed>,
    send: mpsc::Sender<Result<SnapshotItem, StoreError>>,
}

struct Packed {
    key: RecordKey,
    bytes: Range<usize>,
    /// The compared part, counted from the row's beginning.
    compared: Range<usize>,
    /// Whether other rows have this key.
    repeated: bool,
}

impl Reader {
    /// Begins the transaction, and looks at the table. The transaction is rolled back by whoever began it, also by closing.
    fn begin(
        store: &StoreName,
        connection: &Connection,
        (mapped, except): (Mapped, Option<Except>),
        send: mpsc::Sender<Result<SnapshotItem, StoreError>>,
    ) -> Result<Self, StoreError> {
        let failed = |error| store_error(store, &error);
        connection.execute_batch("BEGIN").map_err(failed)?;
        let layout = Layout::of(store, connection, &mapped)?;
        let sql = format!("SELECT count(*) FROM {} AS t{}", layout.table, layout.condition(except));
        let count: i64 = connection.query_row(&sql, [], |row| row.get(0)).map_err(failed)?;
        let certificate = Certificate {
            rows_claimed: u64::try_from(count).unwrap_or(0),
            missing_columns: layout.missing.clone(),
            ..Certificate::default()
        };
        let digests = Buckets::for_rows(certificate.rows_claimed, &digest::SIZES);
        let decoder = Arc::new(Decoder::new(layout, mapped));
        Ok(Self { decoder, certificate, digests, except, buffer: Vec::new(), rows: Vec::new(), send })
    }

    fn stream(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let layout = &self.decoder.layout;
        let sql = format!(
            "SELECT {} FROM {} AS t{} ORDER BY {}",
            layout.select_list(),
            layout.table,
            layout.condition(self.except),
            layout.key_order()
        );
        let mut statement = connection.prepare(&sql)?;
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            self.take(row)?;
            if self.rows.len() > CHUNK_ROWS && !self.flush(1) {
                return Ok(());
            }
        }
        if self.flush(0) {
            self.certificate.end_seen = true;
            let mut certificate = std::mem::take(&mut self.certificate);
            // A mark would say that what was left out is gone.
            let all = certificate.is_complete() && self.except.is_none();
            if all && certificate.missing_columns.is_empty() {
                certificate.mark = digest::mark(&self.digests, &self.decoder);
            }
            let _ = self.send.blocking_send(Ok(SnapshotItem::End(certificate)));
        }
        Ok(())
    }

    fn take(&mut self, row: &SqlRow<'_>) -> rusqlite::Result<()> {
        self.certificate.rows_read += 1;
        let decoder = &*self.decoder;
        let Some(key) = decoder.key(row) else {
            self.certificate.bad_keys += 1;
            return Ok(());
        };
        if let Some(last) = self.rows.last_mut().filter(|last| last.key == key) {
            if !last.repeated && self.certificate.duplicate_keys.len() < DUPLICATES_LISTED {
                self.certificate.duplicate_keys.push(key);
            }
            last.repeated = true;
            return Ok(());
        }
        let begin = self.buffer.len();
        let compared = decoder.pack(row, &mut self.buffer)?;
        digest::add(&mut self.digests, &key, self.buffer.get(begin..).unwrap_or_default());
        self.rows.push(Packed { key, bytes: begin..self.buffer.len(), compared, repeated: false });
        Ok(())
    }

    /// Sends what has come together, but for the last rows: another one may have the last one's key. False when nobody listens any
    /// more.
    fn flush(&mut self, but: usize) -> bool {
        let kept = self.rows.split_off(self.rows.len().saturating_sub(but));
        let at = kept.first().map_or(self.buffer.len(), |row| row.bytes.start);
        let rest = self.buffer.split_off(at);
        let all = Bytes::from(std::mem::replace(&mut self.buffer, rest));
        self.buffer.reserve(all.len() + all.len() / 8);
        let rows: Vec<LazyRow> = std::mem::replace(&mut self.rows, kept)
            .into_iter()
            .filter(|row| !row.repeated)
            .map(|row| {
                let decoder = Arc::clone(&self.decoder) as Arc<dyn RowDecoder>;
                LazyRow::raw(row.key, all.slice(row.bytes), row.compared, decoder)
            })
            .collect();
        for row in &mut self.rows {
            row.bytes = row.bytes.start - at..row.bytes.end - at;
        }
        if rows.is_empty() {
            return !self.send.is_closed();
        }
        self.send.blocking_send(Ok(SnapshotItem::Rows(rows))).is_ok()
    }
}

const NULL: u8 = 0;
const INTEGER: u8 = 1;
const REAL: u8 = 2;
const TEXT: u8 = 3;
const BLOB: u8 = 4;

/// Packs a value: its class, its length where that may differ, and its bytes.
pub(super) fn put(out: &mut Vec<u8>, value: ValueRef<'_>) {
    match value {
        ValueRef::Null => out.push(NULL),
        ValueRef::Integer(number) => {
            out.push(INTEGER);
            out.extend_from_slice(&number.to_le_bytes());
        }
        ValueRef::Real(number) => {
            out.push(REAL);
            out.extend_from_slice(&number.to_bits().to_le_bytes());
        }
        ValueRef::Text(bytes) => put_bytes(out, TEXT, bytes),
        ValueRef::Blob(bytes) => put_bytes(out, BLOB, bytes),
    }
}

fn put_bytes(out: &mut Vec<u8>, class: u8, bytes: &[u8]) {
    out.push(class);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes a packed value.
fn take(bytes: &mut &[u8]) -> Option<Native> {
    let class = bytes.split_off_first()?;
    if *class == NULL {
        return Some(Native::Null);
    }
    let number: [u8; 8] = bytes.split_off(..8)?.try_into().ok()?;
    Some(match *class {
        INTEGER => Native::Integer(i64::from_le_bytes(number)),
        REAL => Native::Real(f64::from_bits(u64::from_le_bytes(number))),
        class => {
            let length = usize::try_from(u64::from_le_bytes(number)).ok()?;
            let bytes = bytes.split_off(..length)?;
            native(if class == TEXT { ValueRef::Text(bytes) } else { ValueRef::Blob(bytes) })
        }
    })
}

/// Makes rows of packed values.
pub(super) struct Decoder {
    pub(super) layout: Layout,
    pub(super) mapped: Mapped,
    class: String,
}

impl Decoder {
    pub(super) fn new(layout: Layout, mapped: Mapped) -> Self {
        let Places { fields, meta, compared, .. } = &layout.places;
        let mut class = String::from("sqlite");
        for field in fields {
            let Place { slot, path } = &field.place;
            let slot = slot - compared.start;
            let _ = write!(class, "/{} {:?} {:?} {slot} {path:?}", field.id.0, field.ty, field.form);
        }
        let place = |place: &Place| format!("{} {:?}", place.slot - compared.start, place.path);
        let meta = match meta {
            MetaPlace::None => "none".to_owned(),
            MetaPlace::Object(object) => format!("object {}", place(object)),
            MetaPlace::Parts(parts) => {
                format!("parts {:?}", parts.iter().map(|part| part.as_ref().map(place)).collect::<Vec<_>>())
            }
        };
        let zone = &mapped.mapping.timezone;
        let _ = write!(class, "/{meta}/{zone:?}");
        Self { layout, mapped, class }
    }

    /// What the bytes of a row mean, those that are not compared included.
    pub(super) fn meaning(&self) -> String {
        let columns = (0..self.layout.slots.len()).filter_map(|slot| self.layout.column(slot));
        let columns: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
        format!("{}/{}/{columns:?}/{:?}", self.class, self.layout.title, self.mapped.entity.key)
    }

    /// A row's key; none where it is no usable one.
    pub(super) fn key(&self, row: &SqlRow<'_>) -> Option<RecordKey> {
        self.layout.read_key(&self.mapped, |slot| row.get_ref(slot).ok().map(native))
    }

    /// Packs a row behind what is there. Gives the part that is compared, counted from the row's beginning.
    pub(super) fn pack(&self, row: &SqlRow<'_>, out: &mut Vec<u8>) -> rusqlite::Result<Range<usize>> {
        let begin = out.len();
        let mut compared = 0..0;
        for slot in 0..self.layout.slots.len() {
            if slot == self.layout.places.compared.start {
                compared.start = out.len() - begin;
            }
            put(out, row.get_ref(slot)?);
            if slot + 1 == self.layout.places.compared.end {
                compared.end = out.len() - begin;
            }
        }
        Ok(compared)
    }
}

impl Layout {
    /// What the rows that are read have in common.
    fn condition(&self, except: Option<Except>) -> String {
        self.places.condition(except, |slot| self.qualified(slot))
    }
}

impl RowDecoder for Decoder {
    fn class(&self) -> &str {
        &self.class
    }

    fn decode(&self, key: &RecordKey, bytes: &[u8]) -> Row {
        let mut bytes = bytes;
        // These bytes were packed here: there is a value for every column.
        let natives: Vec<Native> =
            self.layout.slots.iter().map(|_| take(&mut bytes).unwrap_or(Native::Null)).collect();
        self.layout.read_row(&self.mapped, key.clone(), &natives)
    }
}

#[cfg(test)]
mod tests {
    use super::super::native::value_ref;
    use super::*;

    #[test]
    fn every_value_comes_back_as_it_stood() {
        let values = [
            Native::Null,
            Native::Integer(i64::MIN),
            Native::Integer(0),
            Native::Real(-0.0),
            Native::Real(f64::INFINITY),
            Native::Real(f64::from_bits(1)),
            Native::Text(String::new()),
            Native::Text("a\0b '\" \u{1f980}".to_owned()),
            Native::Blob(vec![]),
            Native::Blob(vec![0, 0xff, 0x80]),
        ];
        let mut packed = Vec::new();
        for value in &values {
            put(&mut packed, value_ref(value));
        }
        put(&mut packed, ValueRef::Text(b"no \xff text"));
        let mut bytes = &packed[..];
        for value in &values {
            let read = take(&mut bytes).expect("a value");
            assert_eq!(&read, value);
            if let (Native::Real(read), Native::Real(value)) = (read, value) {
                assert_eq!(read.to_bits(), value.to_bits());
            }
        }
        assert_eq!(
            take(&mut bytes),
            Some(Native::Blob(b"no \xff text".to_vec())),
            "text that is none is bytes"
        );
        assert_eq!((bytes, take(&mut bytes)), (&[][..], None));
        assert_eq!(take(&mut &packed[1..4]), None, "cut short");
    }
}
