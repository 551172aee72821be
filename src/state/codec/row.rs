//! Rows as they were seen, as bytes: what several stores hold alike stands once.

use crate::model::{Cell, FieldId, Fields, RecordKey, Row, StoreRecordId, Timestamp, Unreadable};

use super::bytes::{Reader, put_bytes, put_signed, put_varint, sum, utf8};
use super::meta::{put_meta, put_name, take_meta, take_name, take_time};
use super::{BadRecord, Dictionary, value};

// What a row says of itself in its first byte.
const HAS_STORE_ID: u8 = 1;
const HAS_CREATED: u8 = 1 << 1;
const HAS_UPDATED: u8 = 1 << 2;
const UNLINKED: u8 = 1 << 3;
/// The metadata is that of the other row.
const SAME_META: u8 = 1 << 4;

// What a cell says of itself.
const SAME: u8 = 0;
const VALUE: u8 = 1;
const UNREADABLE: u8 = 2;

/// Writes a row down, without its key. What it has in common with another one is not written again.
pub fn put_row(out: &mut Vec<u8>, row: &Row, other: Option<&Row>, dictionary: &mut Dictionary) {
    let same_meta = other.is_some_and(|other| other.meta == row.meta);
    out.push(sum(&[
        (HAS_STORE_ID, row.store_id.is_some()),
        (HAS_CREATED, row.created.is_some()),
        (HAS_UPDATED, row.updated.is_some()),
        (UNLINKED, row.unlinked),
        (SAME_META, same_meta),
    ]));
    if let Some(id) = &row.store_id {
        put_bytes(out, id.0.as_bytes());
    }
    for time in [row.created, row.updated].into_iter().flatten() {
        put_signed(out, time.micros());
    }
    if !same_meta {
        put_meta(out, &row.meta, dictionary);
    }
    put_varint(out, row.fields.len() as u64);
    for (id, cell) in &row.fields {
        put_varint(out, u64::from(id.0));
        if other.and_then(|other| other.fields.get(id)) == Some(cell) {
            out.push(SAME);
            continue;
        }
        match cell {
            Cell::Value(held) => {
                out.push(VALUE);
                value::put(out, held);
            }
            Cell::Unreadable(what) => {
                out.push(UNREADABLE);
                out.extend(what.fingerprint.to_le_bytes());
                put_name(out, &what.why, dictionary);
            }
        }
    }
}

/// Reads a row that was written down like this, with the same other one, and takes it off the input.
pub fn take_row(
    input: &mut &[u8],
    key: &RecordKey,
    other: Option<&Row>,
    dictionary: &Dictionary,
) -> Result<Row, BadRecord> {
    let mut reader = Reader::new(input);
    let flags = reader.byte()?;
    let has = |flag| flags & flag != 0;
    let store_id = if has(HAS_STORE_ID) { Some(StoreRecordId(utf8(reader.bytes()?)?)) } else { None };
    let mut time = |on| -> Result<Option<Timestamp>, BadRecord> {
        if on { take_time(&mut reader).map(Some) } else { Ok(None) }
    };
    let (created, updated) = (time(has(HAS_CREATED))?, time(has(HAS_UPDATED))?);
    let meta = match other.filter(|_| has(SAME_META)) {
        Some(other) => other.meta.clone(),
        None => take_meta(&mut reader, dictionary)?,
    };
    let count = reader.length()?;
    let mut fields = Vec::with_capacity(count.min(reader.rest().len()));
    for _ in 0..count {
        let id = FieldId(u16::try_from(reader.varint()?).map_err(|_| BadRecord)?);
        let cell = match reader.byte()? {
            SAME => other.and_then(|other| other.fields.get(&id)).ok_or(BadRecord)?.clone(),
            VALUE => Cell::Value(value::take(&mut reader)?),
            UNREADABLE => {
                let fingerprint = reader.fixed()?;
                let why = take_name(&mut reader, dictionary)?;
                Cell::Unreadable(Box::new(Unreadable { why, fingerprint }))
            }
            _ => return Err(BadRecord),
        };
        fields.push((id, cell));
    }
    *input = reader.rest();
    let fields: Fields<Cell> = fields.into_iter().collect();
    Ok(Row { key: key.clone(), store_id, fields, meta, created, updated, unlinked: has(UNLINKED) })
}
