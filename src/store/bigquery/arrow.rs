//! Arrow columns as the texts that rows are made of.

use std::fmt::Write as _;

use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Decimal256Type, Float64Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType,
};
use arrow_array::{Array, ArrayRef, BooleanArray, ListArray, RecordBatch, StringArray, StructArray};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use jiff::ToSpan as _;
use jiff::civil::{Date, Time};
use serde_json::{Map, Value as Json};

use crate::model::Timestamp;

use super::error::Failure;
use super::layout::{Layout, Slot};
use super::schema::{Kind as Declared, Node};

const EPOCH_DAY: Date = Date::constant(1970, 1, 1);

/// The columns of a batch, in the order that rows have them.
pub(super) struct Cells {
    columns: Vec<Column>,
}

/// One column, or a field of one.
struct Column {
    /// The STRUCTs around it: where one of them is NULL, so is everything in it.
    around: Vec<ArrayRef>,
    array: ArrayRef,
    kind: Kind,
    node: Node,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Int,
    Float,
    Bool,
    Date,
    /// Microseconds.
    Instant,
    /// Microseconds without a zone.
    Civil,
    /// Microseconds since midnight.
    OfDay,
    Decimal128,
    Decimal256,
    Bytes,
    /// A list or a STRUCT, as JSON.
    Json,
}

impl Kind {
    fn of(ty: &DataType) -> Option<Self> {
        Some(match ty {
            DataType::Utf8 => Self::Text,
            DataType::Int64 => Self::Int,
            DataType::Float64 => Self::Float,
            DataType::Boolean => Self::Bool,
            DataType::Date32 => Self::Date,
            DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Self::Instant,
            DataType::Timestamp(TimeUnit::Microsecond, None) => Self::Civil,
            DataType::Time64(TimeUnit::Microsecond) => Self::OfDay,
            DataType::Decimal128(..) => Self::Decimal128,
            DataType::Decimal256(..) => Self::Decimal256,
            DataType::Binary => Self::Bytes,
            DataType::List(_) | DataType::Struct(_) => Self::Json,
            _ => return None,
        })
    }
}

impl Cells {
    pub(super) fn of(layout: &Layout, batch: &RecordBatch) -> Result<Self, Failure> {
        let columns = layout.key.iter().chain(&layout.slots).map(|slot| Column::of(slot, batch));
        Ok(Self { columns: columns.collect::<Result<_, _>>()? })
    }

    /// A row of texts.
    pub(super) fn row(&self, at: usize) -> Bytes {
        let mut row = Vec::with_capacity(self.columns.len() * 16);
        for column in &self.columns {
            let begun = row.len();
            row.extend((-1_i32).to_be_bytes());
            if column.put(at, &mut row) {
                let length = i32::try_from(row.len() - begun - 4).unwrap_or(i32::MAX);
                if let Some(head) = row.get_mut(begun..begun + 4) {
                    head.copy_from_slice(&length.to_be_bytes());
                }
            }
        }
        row.into()
    }
}

impl Column {
    fn of(slot: &Slot, batch: &RecordBatch) -> Result<Self, Failure> {
        let lacking = || Failure::senseless("a batch of rows without a column that was asked for");
        let mut names = slot.path.iter();
        let head = names.next().ok_or_else(lacking)?;
        let mut array = batch.column_by_name(head).ok_or_else(lacking)?;
        let mut around = Vec::new();
        for name in names {
            let outer: &StructArray = array.as_struct_opt().ok_or_else(lacking)?;
            around.push(array.clone());
            array = outer.column_by_name(name).ok_or_else(lacking)?;
        }
        let kind = Kind::of(array.data_type())
            .ok_or(Failure::senseless("a column of a type that Arrow has and BigQuery has not"))?;
        Ok(Self { around, array: array.clone(), kind, node: slot.node.clone() })
    }

    /// Adds the text of a cell; false for NULL.
    fn put(&self, at: usize, row: &mut Vec<u8>) -> bool {
        if self.array.is_null(at) || self.around.iter().any(|outer| outer.is_null(at)) {
            return false;
        }
        put(self.kind, &self.node, &self.array, at, &mut Bytewise(row));
        true
    }
}

/// Text into bytes.
struct Bytewise<'r>(&'r mut Vec<u8>);

impl std::fmt::Write for Bytewise<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Writes a value that is there as text. Writing to bytes cannot fail.
fn put(kind: Kind, node: &Node, array: &ArrayRef, at: usize, out: &mut Bytewise<'_>) {
    let _ = match kind {
        Kind::Text => {
            let texts: &StringArray = array.as_string();
            out.write_str(texts.value(at))
        }
        Kind::Int => write!(out, "{}", array.as_primitive::<Int64Type>().value(at)),
        Kind::Float => write!(out, "{:?}", array.as_primitive::<Float64Type>().value(at)),
        Kind::Bool => {
            let flags: &BooleanArray = array.as_boolean();
            write!(out, "{}", flags.value(at))
        }
        Kind::Date => {
            let days = array.as_primitive::<Date32Type>().value(at);
            match EPOCH_DAY.checked_add(i64::from(days).days()) {
                Ok(date) => write!(out, "{date}"),
                Err(_) => write!(out, "{days} days"),
            }
        }
        Kind::Instant => write!(out, "{}", array.as_primitive::<TimestampMicrosecondType>().value(at)),
        Kind::Civil => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(at);
            match Timestamp::from_micros(micros) {
                Some(time) => out.write_str(&time.to_civil_text(&jiff::tz::TimeZone::UTC)),
                None => write!(out, "{micros}us"),
            }
        }
        Kind::OfDay => {
            let micros = array.as_primitive::<Time64MicrosecondType>().value(at);
            match Time::midnight().checked_add(micros.microseconds()) {
                Ok(time) => write!(out, "{time}"),
                Err(_) => write!(out, "{micros}us"),
            }
        }
        Kind::Decimal128 => out.write_str(&array.as_primitive::<Decimal128Type>().value_as_string(at)),
        Kind::Decimal256 => out.write_str(&array.as_primitive::<Decimal256Type>().value_as_string(at)),
        Kind::Bytes => {
            let bytes: &arrow_array::BinaryArray = array.as_binary();
            out.write_str(&super::super::inside::base64(bytes.value(at)))
        }
        Kind::Json => write!(out, "{}", json(node, array, at)),
    };
}

/// A value as JSON, about as `TO_JSON_STRING` makes it; what differs is evened out where columns are brought into one writing.
fn json(node: &Node, array: &ArrayRef, at: usize) -> Json {
    if array.is_null(at) {
        return Json::Null;
    }
    match array.data_type() {
        DataType::List(_) => {
            let list: &ListArray = array.as_list();
            let items = list.value(at);
            Json::Array((0..items.len()).map(|item| json(node, &items, item)).collect())
        }
        DataType::Struct(_) => {
            let object: &StructArray = array.as_struct();
            let fields = object.column_names().into_iter().zip(object.columns());
            let field = |(name, column): (&str, &ArrayRef)| {
                let inner = Node::find(&node.fields, name).unwrap_or(node);
                (name.to_owned(), json(inner, column, at))
            };
            Json::Object(fields.map(field).collect::<Map<String, Json>>())
        }
        DataType::Int64 => array.as_primitive::<Int64Type>().value(at).into(),
        DataType::Boolean => array.as_boolean().value(at).into(),
        DataType::Float64 => {
            let number = array.as_primitive::<Float64Type>().value(at);
            serde_json::Number::from_f64(number).map_or(Json::String(format!("{number:?}")), Json::Number)
        }
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(at);
            Timestamp::from_micros(micros).map_or(Json::from(micros), |time| time.to_string().into())
        }
        // It comes as text.
        DataType::Utf8 if node.kind == Declared::Json => {
            let texts: &StringArray = array.as_string();
            let text = texts.value(at);
            serde_json::from_str(text).unwrap_or_else(|_| text.into())
        }
        other => {
            let Some(kind) = Kind::of(other) else { return Json::Null };
            let mut text = Vec::new();
            put(kind, node, array, at, &mut Bytewise(&mut text));
            String::from_utf8(text).map_or(Json::Null, Json::String)
        }
    }
}
