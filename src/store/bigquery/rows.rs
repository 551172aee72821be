//! Rows as they were read, whichever way: a text for each column, one after the other, decoded where somebody asks.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value as Json;

use crate::model::{FieldType, Form, Mapped, Native, RecordKey, Row, Timestamp, canonical_integer};

use super::super::places::{Columns, Inner};
use super::super::{LazyRow, RowDecoder};
use super::kind::native;
use super::layout::Layout;
use super::schema::Kind;

/// A row's columns, none for each that is NULL.
pub(super) type Values<'a> = Vec<Option<&'a str>>;

/// Adds a column to a row that is put together.
pub(super) fn push(row: &mut Vec<u8>, text: Option<&str>) {
    let length = text.map_or(-1, |text| i32::try_from(text.len()).unwrap_or(i32::MAX));
    row.extend(length.to_be_bytes());
    row.extend(text.unwrap_or("").as_bytes());
}

/// A row put together of its columns.
pub(super) fn packed(cells: &[Option<String>]) -> Bytes {
    let mut row = Vec::new();
    for cell in cells {
        push(&mut row, cell.as_deref());
    }
    Bytes::from(row)
}

/// Where the columns of a row stand in it, none for each that is NULL.
fn columns(bytes: &[u8]) -> impl Iterator<Item = Option<Range<usize>>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
        let from = at + 4;
        let length = usize::try_from(length).ok();
        at = from + length.unwrap_or(0);
        Some(length.map(|_| from..at))
    })
}

fn text(bytes: &[u8], range: Option<Range<usize>>) -> Option<&str> {
    std::str::from_utf8(bytes.get(range?)?).ok()
}

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

    /// A row's key; none where it has no usable one.
    pub(super) fn key(&self, bytes: &[u8]) -> Option<RecordKey> {
        let mut parts = Vec::with_capacity(self.layout.key.len());
        for range in columns(bytes).take(self.layout.key.len()) {
            parts.push(text(bytes, Some(range?))?.to_owned());
        }
        self.layout.key_of(&self.mapped, parts)
    }

    /// A row whose key is known.
    pub(super) fn lazy(self: &Arc<Self>, key: RecordKey, bytes: Bytes) -> LazyRow {
        let keys = self.layout.key.len();
        let (mut from, mut to) = (0, 0);
        for (at, column) in columns(&bytes).enumerate().take(keys + self.layout.places.compared.end) {
            to = column.map_or(to + 4, |column| column.end);
            if at < keys {
                from = to;
            }
        }
        LazyRow::raw(key, bytes, from..to, Arc::clone(self) as Arc<dyn RowDecoder>)
    }

    fn values<'b>(&self, bytes: &'b [u8]) -> Values<'b> {
        columns(bytes).skip(self.layout.key.len()).map(|range| text(bytes, range)).collect()
    }
}

impl RowDecoder for Decoder {
    fn class(&self) -> &str {
        &self.class
    }

    fn decode(&self, key: &RecordKey, bytes: &[u8]) -> Row {
        self.layout.read_row(&self.mapped, key.clone(), &self.values(bytes))
    }

    fn times(&self, _key: &RecordKey, bytes: &[u8]) -> (Option<Timestamp>, Option<Timestamp>) {
        let values = self.values(bytes);
        let zone = &self.mapped.mapping.timezone;
        Inner::new(Texts { layout: &self.layout, values: &values }).times(&self.layout.places, zone)
    }
}

/// What the compared bytes of a row mean.
fn class(layout: &Layout, mapped: &Mapped) -> String {
    let mut text = String::from("bigquery 2");
    for slot in layout.slots.get(layout.places.compared.clone()).unwrap_or(&[]) {
        let _ = write!(text, "; {:?} {}", slot.node.kind, slot.node.repeated);
    }
    text + &layout.places.meaning(mapped)
}

/// The columns of a row.
struct Texts<'a> {
    layout: &'a Layout,
    values: &'a [Option<&'a str>],
}

impl Columns for Texts<'_> {
    fn whole(&self, slot: usize, ty: FieldType, form: Form) -> Native {
        let text = self.values.get(slot).copied().flatten();
        self.layout.node(slot).map_or(Native::Null, |node| native(node, text, ty, form))
    }

    fn json(&self, slot: usize) -> Option<Json> {
        match self.values.get(slot).copied().flatten() {
            None | Some("") => Some(Json::Null),
            Some(text) => serde_json::from_str(text).ok(),
        }
    }
}

impl Layout {
    /// The key of these parts; none where one is no key of its type.
    pub(super) fn key_of(&self, mapped: &Mapped, parts: Vec<String>) -> Option<RecordKey> {
        if parts.len() != self.key.len() {
            return None;
        }
        for ((text, part), column) in parts.iter().zip(&mapped.entity.key).zip(&self.key) {
            if part.ty == FieldType::Int64 && column.node.kind != Kind::Int {
                canonical_integer(text)?;
            }
        }
        Some(RecordKey::new(parts))
    }

    /// A row in canonical form.
    pub(super) fn read_row(&self, mapped: &Mapped, key: RecordKey, values: &[Option<&str>]) -> Row {
        let zone = &mapped.mapping.timezone;
        let mut inner = Inner::new(Texts { layout: self, values });
        let fields = self.places.fields.iter().map(|field| (field.id, inner.cell(field, zone))).collect();
        inner.row(&self.places, zone, key, fields)
    }
}
