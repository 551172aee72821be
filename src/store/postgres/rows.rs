//! Rows as they are sent: cut out of the stream, compared as bytes, and made values of where somebody asks.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use serde_json::Value as Json;

use crate::model::{FieldId, FieldType, Form, Mapped, Native, RecordKey, Row, Timestamp, canonical_integer};

use super::super::places::{Columns, Inner};
use super::super::{LazyRow, RowDecoder};
use super::kind::Kind;
use super::layout::Layout;

/// What a stream of rows begins with.
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// Something in a stream of rows is not as the format has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Torn;

/// Cuts rows out of what `COPY … (FORMAT binary)` sends, however it arrives in pieces.
#[derive(Default)]
pub(super) struct Cutter {
    begun: bool,
    ended: bool,
    left: BytesMut,
}

impl Cutter {
    /// Takes a piece and hands on the rows that are whole with it.
    pub(super) fn take(&mut self, piece: Bytes, mut row: impl FnMut(Bytes)) -> Result<(), Torn> {
        let mut bytes = if self.left.is_empty() {
            piece
        } else {
            self.left.extend_from_slice(&piece);
            self.left.split().freeze()
        };
        while !bytes.is_empty() && !self.ended {
            if !self.begun {
                let Some(length) = header(&bytes)? else { break };
                bytes.advance(length);
                self.begun = true;
                continue;
            }
            match tuple(&bytes)? {
                Some(0) => self.ended = true,
                // A copy of its own: a row that is kept for long must not keep what came with it.
                Some(length) => row(Bytes::copy_from_slice(&bytes.split_to(length))),
                None => break,
            }
        }
        if !self.ended {
            self.left.extend_from_slice(&bytes);
        }
        Ok(())
    }

    /// Whether the end was seen.
    pub(super) fn ended(&self) -> bool {
        self.ended
    }
}

/// The length of the stream's header, if it is all there.
fn header(bytes: &[u8]) -> Result<Option<usize>, Torn> {
    if bytes.len() < SIGNATURE.len() + 8 {
        return if SIGNATURE.starts_with(bytes) || bytes.starts_with(SIGNATURE) {
            Ok(None)
        } else {
            Err(Torn)
        };
    }
    if !bytes.starts_with(SIGNATURE) {
        return Err(Torn);
    }
    let extension = number(bytes, SIGNATURE.len() + 4).and_then(|length| usize::try_from(length).ok());
    let length = SIGNATURE.len() + 8 + extension.ok_or(Torn)?;
    Ok((bytes.len() >= length).then_some(length))
}

/// The length of the row that the bytes begin with, if it is all there; 0 for the end of the stream.
fn tuple(bytes: &[u8]) -> Result<Option<usize>, Torn> {
    let Some(count) = bytes.get(..2) else { return Ok(None) };
    let count = i16::from_be_bytes([count[0], count[1]]);
    if count == -1 {
        return Ok(Some(0));
    }
    let mut at = 2;
    for _ in 0..usize::try_from(count).map_err(|_| Torn)? {
        let Some(length) = number(bytes, at) else { return Ok(None) };
        at += 4;
        match length {
            -1 => {}
            length => at += usize::try_from(length).map_err(|_| Torn)?,
        }
    }
    Ok((bytes.len() >= at).then_some(at))
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Where the fields of a row stand in it, none for each that is NULL.
fn fields(bytes: &[u8]) -> impl Iterator<Item = Option<Range<usize>>> + '_ {
    let mut at = 2;
    std::iter::from_fn(move || {
        let length = usize::try_from(number(bytes, at)?).ok();
        let from = at + 4;
        at = from + length.unwrap_or(0);
        Some(length.map(|_| from..at))
    })
}

/// A row's fields as bytes, none for each that is NULL.
pub(super) type Values<'a> = Vec<Option<&'a [u8]>>;

/// Reads the rows of one snapshot.
pub(super) struct Decoder {
    pub(super) layout: Arc<Layout>,
    pub(super) mapped: Mapped,
    class: String,
}

impl Decoder {
    pub(super) fn new(layout: Arc<Layout>, mapped: Mapped) -> Arc<Self> {
        let class = class(&layout, &mapped);
        Arc::new(Self { layout, mapped, class })
    }

    /// A row that was cut out of a stream; none where its key is none.
    pub(super) fn lazy(self: &Arc<Self>, bytes: Bytes) -> Option<LazyRow> {
        let keys = self.layout.key.len();
        let mut parts = Vec::with_capacity(keys);
        // NULL differs from an empty text by its length, so the lengths are compared as well.
        let (mut from, mut to) = (2, 2);
        for (at, field) in fields(&bytes).enumerate().take(keys + self.layout.places.compared.end) {
            to = field.as_ref().map_or(to + 4, |field| field.end);
            if at < keys {
                parts.push(std::str::from_utf8(bytes.get(field?)?).ok()?.to_owned());
                from = to;
            }
        }
        let key = self.layout.key_of(&self.mapped, parts)?;
        Some(LazyRow::raw(key, bytes, from..to, Arc::clone(self) as Arc<dyn RowDecoder>))
    }
}

impl RowDecoder for Decoder {
    fn class(&self) -> &str {
        &self.class
    }

    fn decode(&self, key: &RecordKey, bytes: &[u8]) -> Row {
        self.decode_some(key, bytes, &|_| true)
    }

    fn decode_some(&self, key: &RecordKey, bytes: &[u8], wanted: &dyn Fn(FieldId) -> bool) -> Row {
        let values: Values<'_> =
            fields(bytes).skip(self.layout.key.len()).map(|field| bytes.get(field?)).collect();
        self.layout.read_some(&self.mapped, key.clone(), &values, wanted)
    }

    fn times(&self, _key: &RecordKey, bytes: &[u8]) -> (Option<Timestamp>, Option<Timestamp>) {
        let values: Values<'_> =
            fields(bytes).skip(self.layout.key.len()).map(|field| bytes.get(field?)).collect();
        let zone = &self.mapped.mapping.timezone;
        Inner::new(Sent { layout: &self.layout, values: &values }).times(&self.layout.places, zone)
    }
}

/// What the compared bytes of a row mean.
fn class(layout: &Layout, mapped: &Mapped) -> String {
    let mut text = String::from("postgres 1");
    for slot in layout.places.compared.clone() {
        let Some(column) = layout.column(slot) else { continue };
        let _ = match column.kind {
            Kind::Cast => write!(text, "; {}", column.base),
            kind => write!(text, "; {kind:?}"),
        };
    }
    text + &layout.places.meaning(mapped)
}

/// The columns of a row.
struct Sent<'a> {
    layout: &'a Layout,
    values: &'a [Option<&'a [u8]>],
}

impl Columns for Sent<'_> {
    fn whole(&self, slot: usize, ty: FieldType, form: Form) -> Native {
        let bytes = self.values.get(slot).copied().flatten();
        bytes.map_or(Native::Null, |bytes| self.layout.kind(slot).native(bytes, ty, form))
    }

    fn json(&self, slot: usize) -> Option<Json> {
        match self.values.get(slot).copied().flatten() {
            None => Some(Json::Null),
            Some(bytes) => serde_json::from_str(self.layout.kind(slot).text(bytes)?).ok(),
        }
    }
}

impl Layout {
    /// The key of these parts; none where one is no key of its type.
    pub(super) fn key_of(&self, mapped: &Mapped, parts: Vec<String>) -> Option<RecordKey> {
        if parts.len() != self.key.len() {
            return None;
        }
        for ((text, part), column) in parts.iter().zip(&mapped.entity.key).zip(self.key_columns()) {
            let is_number = matches!(column.kind, Kind::Int2 | Kind::Int4 | Kind::Int8);
            if part.ty == FieldType::Int64 && !is_number {
                canonical_integer(text)?;
            }
        }
        Some(RecordKey::new(parts))
    }

    /// A row in canonical form.
    pub(super) fn read_row(&self, mapped: &Mapped, key: RecordKey, values: &[Option<&[u8]>]) -> Row {
        self.read_some(mapped, key, values, &|_| true)
    }

    /// A row with some of its fields, and those that might hold no value of theirs.
    pub(super) fn read_some(
        &self,
        mapped: &Mapped,
        key: RecordKey,
        values: &[Option<&[u8]>],
        wanted: &dyn Fn(FieldId) -> bool,
    ) -> Row {
        let zone = &mapped.mapping.timezone;
        let mut inner = Inner::new(Sent { layout: self, values });
        let mut cells = Vec::with_capacity(self.places.fields.len());
        for field in &self.places.fields {
            let cell = if field.place.path.is_empty() {
                let bytes = values.get(field.place.slot).copied().flatten();
                if !wanted(field.id) && self.kind(field.place.slot).surely_reads(bytes, field.ty, field.form)
                {
                    continue;
                }
                self.kind(field.place.slot).cell(bytes, field.ty, field.form, zone)
            } else {
                inner.cell(field, zone)
            };
            cells.push((field.id, cell));
        }
        inner.row(&self.places, zone, key, cells.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stream of rows of texts.
    fn stream(rows: &[&[Option<&str>]]) -> Vec<u8> {
        let mut bytes = [SIGNATURE, &[0; 8]].concat();
        for row in rows {
            bytes.extend(i16::try_from(row.len()).expect("few").to_be_bytes());
            for field in *row {
                let length = field.map_or(-1, |text| i32::try_from(text.len()).expect("short"));
                bytes.extend(length.to_be_bytes());
                bytes.extend(field.unwrap_or("").as_bytes());
            }
        }
        bytes.extend((-1_i16).to_be_bytes());
        bytes
    }

    #[test]
    fn rows_are_cut_out_wherever_the_pieces_end() {
        let bytes = stream(&[&[Some("a"), None, Some("")], &[Some("bc"), Some("d"), None]]);
        for size in 1..=bytes.len() {
            let (mut cutter, mut rows) = (Cutter::default(), Vec::new());
            for piece in bytes.chunks(size) {
                cutter.take(Bytes::copy_from_slice(piece), |row| rows.push(row)).expect("whole");
            }
            assert!(cutter.ended());
            let read: Vec<Vec<Option<&[u8]>>> =
                rows.iter().map(|row| fields(row).map(|field| row.get(field?)).collect()).collect();
            assert_eq!(
                read,
                [vec![Some(&b"a"[..]), None, Some(&b""[..])], vec![Some(&b"bc"[..]), Some(&b"d"[..]), None]]
            );
        }
    }

    #[test]
    fn what_is_no_stream_of_rows_is_told() {
        let mut cutter = Cutter::default();
        assert_eq!(cutter.take(Bytes::from_static(b"HTTP/1.1 200 OK\r\n\r\n"), |_| {}), Err(Torn));
        let mut torn = stream(&[&[Some("a")]]);
        torn[21..25].copy_from_slice(&(-7_i32).to_be_bytes());
        assert_eq!(Cutter::default().take(torn.into(), |_| {}), Err(Torn));
        let mut short = Cutter::default();
        let bytes = stream(&[&[Some("a")]]);
        short.take(Bytes::copy_from_slice(&bytes[..bytes.len() - 2]), |_| {}).expect("so far");
        assert!(!short.ended(), "cut short");
    }
}
