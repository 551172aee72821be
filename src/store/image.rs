//! Rows as they are going to be: values put into their columns, and into the JSON inside columns, whatever the columns are.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::{Map, Value as Json};

use crate::model::{
    Cell, ErrorKind, FieldType, Fields, Flat, Form, Mapped, Native, RecordKey, StoreError, StoreName,
    SyncMeta, Timestamp, Value, WriteOp, encode,
};

use super::inside::{get_path, inner_json, read_cell, set_path};
use super::places::{MetaPlace, Place, Places};
use super::sync;

/// A table that rows are put together for.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub(super) store: &'a StoreName,
    pub(super) mapped: &'a Mapped,
    /// The table's name for people.
    pub(super) title: &'a str,
    pub(super) places: &'a Places,
}

impl Table<'_> {
    pub(super) fn invalid(&self, message: String) -> StoreError {
        StoreError::new(ErrorKind::Invalid, self.store, message)
    }

    /// What is said of a key that would stand in its columns as another one, or not at all.
    pub(super) fn no_key(&self, key: &RecordKey) -> StoreError {
        self.invalid(format!("the key {key} is none that its column can hold"))
            .hint("declare the column as text, or correct the key where the record comes from")
    }

    /// What is said of a column that is only read.
    pub(super) fn computed(&self, column: &str) -> StoreError {
        self.invalid(format!("`{}.{column}` is computed by the database", self.title))
            .hint("map it with `direction: from-store`")
    }

    /// What is said of a column of the key that is only read.
    pub(super) fn computed_key(&self, column: &str) -> StoreError {
        self.computed(column).hint("make new records in this store alone, or map another column as the key")
    }

    fn lacks(&self, what: &str) -> StoreError {
        StoreError::new(ErrorKind::NotFound, self.store, format!("`{}` {what}", self.title))
            .hint("run `trueup migrate` to add it")
    }
}

/// The row of a table, or nothing where there is none yet, and what its columns take.
pub(super) trait Row {
    /// What a column is given.
    type Written;

    /// A column's name for people.
    fn name(&self, slot: usize) -> String;

    /// Whether the database computes a column.
    fn is_computed(&self, _slot: usize) -> bool {
        false
    }

    /// What [`Image::finish`] knows a column by.
    fn position(&self, slot: usize) -> usize {
        slot
    }

    /// A value, encoded in its form, as its column is given it; else why it cannot be.
    fn written(&self, slot: usize, value: &Value, native: Native) -> Result<Self::Written, &'static str>;

    /// Whether a column holds a value as it is given it, and makes no other one of it: `as_read` is what is read of what stands in it.
    fn holds(&self, _slot: usize, _native: &Native, _as_read: impl Fn(&Native) -> Cell) -> bool {
        true
    }

    /// The text of the JSON that stands in a column, empty where nothing does; none where it is no text.
    fn json_text(&self, slot: usize) -> Option<&str>;
}

/// A row that is being put together.
pub(super) struct Image<'a, R: Row> {
    pub(super) table: Table<'a>,
    pub(super) row: R,
    /// The columns that are written whole, by their positions.
    whole: Flat<usize, R::Written>,
    /// The JSON of columns of which a part is written, by their slots.
    inner: BTreeMap<usize, Map<String, Json>>,
}

impl<'a, R: Row> Image<'a, R> {
    pub(super) fn of(table: Table<'a>, row: R) -> Self {
        Self { table, row, whole: Flat::new(), inner: BTreeMap::new() }
    }

    /// The slots of columns of which only a part is written.
    pub(super) fn parts(&self) -> Vec<usize> {
        self.inner.keys().copied().collect()
    }

    /// The columns that are written, by their positions.
    pub(super) fn finish(self) -> Result<Flat<usize, R::Written>, StoreError> {
        let mut columns = self.whole;
        for (slot, object) in self.inner {
            let native = Native::Text(Json::Object(object).to_string());
            let written = self.row.written(slot, &Value::Null, native).map_err(|why| {
                self.table.invalid(format!("`{}.{}`: {why}", self.table.title, self.row.name(slot)))
            })?;
            columns.insert(self.row.position(slot), written);
        }
        Ok(columns)
    }

    /// Writes a column whole.
    pub(super) fn put_whole(&mut self, position: usize, written: R::Written) {
        self.whole.insert(position, written);
    }

    /// Puts a value at a place; without a name of its own, the value is called like its column.
    fn put(
        &mut self,
        place: &Place,
        name: Option<&str>,
        value: &Value,
        ty: FieldType,
        form: Form,
    ) -> Result<(), StoreError> {
        let (table, slot) = (self.table, place.slot);
        if self.row.is_computed(slot) {
            return Err(table.computed(&self.row.name(slot)));
        }
        let told = |row: &R, why: &str| {
            let name = name.map_or_else(|| row.name(slot), str::to_owned);
            table.invalid(format!("`{}.{name}`: {why}", table.title))
        };
        let native = encode(value, ty, form, &table.mapped.mapping.timezone)
            .map_err(|error| told(&self.row, &error.0))?;
        if place.path.is_empty() {
            let zone = &table.mapped.mapping.timezone;
            if !self.row.holds(slot, &native, |native| read_cell(native, ty, form, zone)) {
                return Err(told(&self.row, "the type of its column would make another value of it")
                    .hint("declare the column as TEXT, or give the field another one"));
            }
            let written = self.row.written(slot, value, native).map_err(|why| told(&self.row, why))?;
            self.whole.insert(self.row.position(slot), written);
        } else {
            let json = inner_json(value, &native, form);
            set_path(self.object(slot)?, &place.path, json);
        }
        Ok(())
    }

    /// The JSON in a column as it stands, or as it was changed so far.
    fn object(&mut self, slot: usize) -> Result<&mut Map<String, Json>, StoreError> {
        match self.inner.entry(slot) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                let object = self.row.json_text(slot).and_then(object_of);
                object.map(|object| new.insert(object)).ok_or_else(|| {
                    let place = format!("{}.{}", self.table.title, self.row.name(slot));
                    self.table
                        .invalid(format!("`{place}` holds no JSON object to write into"))
                        .hint("correct or empty it there")
                })
            }
        }
    }

    /// Puts in all that a write says of its row, but for the key.
    pub(super) fn put_all(&mut self, op: &WriteOp) -> Result<(), StoreError> {
        match op {
            WriteOp::Create { fields, meta, created, updated } => {
                self.put_fields(fields)?;
                self.put_meta(meta)?;
                self.put_time(self.table.places.created.as_ref(), *created)?;
                self.put_time(self.table.places.updated.as_ref(), *updated)
            }
            WriteOp::Update { fields, meta, updated, .. } => {
                self.put_fields(fields)?;
                if let Some(meta) = meta {
                    self.put_meta(meta)?;
                }
                self.put_time(self.table.places.updated.as_ref(), *updated)
            }
            WriteOp::Delete { .. } => Ok(()),
        }
    }

    /// Puts fields in.
    fn put_fields(&mut self, fields: &Fields<Value>) -> Result<(), StoreError> {
        let Table { mapped, places, .. } = self.table;
        for (id, value) in fields {
            let name = mapped.entity.fields.get(id.index()).map_or("?", |field| field.name.as_str());
            let field = places.fields.iter().find(|field| field.id == *id);
            let field = field.ok_or_else(|| self.table.lacks(&format!("has no column for `{name}`")))?;
            self.put(&field.place, Some(name), value, field.ty, field.form)?;
        }
        Ok(())
    }

    /// Puts sync metadata in. What else stands in its object stays.
    fn put_meta(&mut self, meta: &SyncMeta) -> Result<(), StoreError> {
        if self.table.places.meta_missing && *meta != SyncMeta::default() {
            return Err(self.table.lacks("lacks columns for the sync metadata"));
        }
        match &self.table.places.meta {
            MetaPlace::None => {}
            MetaPlace::Object(place) if place.path.is_empty() => {
                sync::put_into(self.object(place.slot)?, meta);
            }
            MetaPlace::Object(place) => {
                let outer = self.object(place.slot)?;
                let mut object = match get_path(outer, &place.path) {
                    Some(Json::Object(object)) => object.clone(),
                    _ => Map::new(),
                };
                sync::put_into(&mut object, meta);
                set_path(outer, &place.path, Some(Json::Object(object)));
            }
            MetaPlace::Parts(places) => {
                for ((place, part), name) in places.iter().zip(sync::to_parts(meta)).zip(sync::PARTS) {
                    let Some(place) = place else { continue };
                    let (value, ty) = part_value(part, meta, name);
                    self.put(place, Some(name), &value, ty, Form::Native)?;
                }
            }
        }
        Ok(())
    }

    /// Puts a time in, where there is one and a place for it.
    fn put_time(&mut self, place: Option<&Place>, time: Option<Timestamp>) -> Result<(), StoreError> {
        let (Some(place), Some(time)) = (place, time) else { return Ok(()) };
        self.put(place, None, &Value::Time(time), FieldType::Timestamp, Form::Native)
    }
}

/// A text as a JSON object. JSON null is as empty as no value.
fn object_of(text: &str) -> Option<Map<String, Json>> {
    if text.is_empty() {
        return Some(Map::new());
    }
    match serde_json::from_str(text).ok()? {
        Json::Object(object) => Some(object),
        Json::Null => Some(Map::new()),
        _ => None,
    }
}

/// A part of the metadata as a value of a field.
fn part_value(part: Json, meta: &SyncMeta, name: &str) -> (Value, FieldType) {
    match (part, meta.last_updated) {
        (Json::Null, _) => (Value::Null, FieldType::String),
        (_, Some(time)) if name == sync::PARTS[1] => (Value::Time(time), FieldType::Timestamp),
        (Json::String(text), _) => (Value::text(text), FieldType::String),
        (Json::Number(number), _) => (number.as_i64().map_or(Value::Null, Value::Int), FieldType::Int64),
        (list, _) => (Value::Json(crate::model::Json::new(list)), FieldType::Json),
    }
}
