//! The columns of a row as they are going to be, as texts.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::model::{
    ErrorKind, FieldType, Fields, Flat, Form, Mapped, Native, RecordKey, StoreError, StoreName, SyncMeta,
    Timestamp, Value, canonical_integer, encode,
};

use super::super::inside::{get_path, inner_json, set_path};
use super::super::sync;
use super::kind::{Kind, is_number, is_uuid};
use super::layout::{ColumnInfo, Layout, MetaPlace, Place};

/// Columns by their place in the table, with the text that each gets; none: NULL.
pub(super) type Columns = Flat<usize, Option<String>>;

/// A row that is being put together.
pub(super) struct Image<'a> {
    store: &'a StoreName,
    mapped: &'a Mapped,
    layout: &'a Layout,
    /// The slots as they stand.
    current: &'a [Option<&'a [u8]>],
    whole: Columns,
    inner: BTreeMap<usize, Json>,
}

impl<'a> Image<'a> {
    pub(super) fn new(
        store: &'a StoreName,
        mapped: &'a Mapped,
        layout: &'a Layout,
        current: &'a [Option<&'a [u8]>],
    ) -> Self {
        Self { store, mapped, layout, current, whole: Columns::new(), inner: BTreeMap::new() }
    }

    /// The columns that are set.
    pub(super) fn columns(self) -> Result<Columns, StoreError> {
        let mut columns = self.whole;
        for (slot, json) in self.inner {
            let (Some(at), Some(column)) = (self.layout.slots.get(slot), self.layout.column(slot)) else {
                continue;
            };
            let native = Native::Text(json.to_string());
            let text = column.kind.written(&Value::Null, native, &self.mapped.mapping.timezone);
            let text = text.map_err(|why| {
                let message = format!("`{}.{}`: {why}", self.layout.title, column.name);
                StoreError::new(ErrorKind::Invalid, self.store, message)
            })?;
            columns.insert(*at, text);
        }
        Ok(columns)
    }

    fn invalid(&self, message: String) -> StoreError {
        StoreError::new(ErrorKind::Invalid, self.store, message)
    }

    fn not_found(&self, message: String) -> StoreError {
        StoreError::new(ErrorKind::NotFound, self.store, message).hint("run `trueup migrate` to add it")
    }

    fn check_written(&self, column: &ColumnInfo) -> Result<(), StoreError> {
        if !column.generated {
            return Ok(());
        }
        let message = format!("`{}.{}` is computed by the database", self.layout.title, column.name);
        Err(self.invalid(message).hint("map it with `direction: from-store`"))
    }

    pub(super) fn put_key(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        let layout = self.layout;
        for ((at, column), part) in layout.key.iter().zip(layout.key_columns()).zip(key.parts()) {
            self.check_written(column)?;
            let fits = match column.kind {
                Kind::Int2 | Kind::Int4 | Kind::Int8 => canonical_integer(part).is_some(),
                // Another writing of the same would come back as another key.
                Kind::Uuid => is_uuid(part),
                Kind::Numeric => is_number(part),
                Kind::Cast if column.base == "pg_catalog.bpchar" && part.ends_with(' ') => false,
                _ => !part.contains('\0'),
            };
            if !fits {
                return Err(self.invalid(format!("the key {key} is none that its column can hold")));
            }
            self.whole.insert(*at, Some(part.clone()));
        }
        Ok(())
    }

    fn put(
        &mut self,
        name: &str,
        place: &Place,
        value: &Value,
        ty: FieldType,
        form: Form,
    ) -> Result<(), StoreError> {
        let layout = self.layout;
        let (Some(at), Some(column)) = (layout.slots.get(place.slot), layout.column(place.slot)) else {
            return Ok(());
        };
        self.check_written(column)?;
        let told = |image: &Self, why: &str| image.invalid(format!("`{}.{name}`: {why}", layout.title));
        let zone = &self.mapped.mapping.timezone;
        let native = encode(value, ty, form, zone).map_err(|error| told(self, &error.0))?;
        if place.path.is_empty() {
            let text = column.kind.written(value, native, zone).map_err(|why| told(self, why))?;
            self.whole.insert(*at, text);
            return Ok(());
        }
        let json = inner_json(value, &native, form);
        set_path(self.object(place.slot)?, &place.path, json);
        Ok(())
    }

    /// The JSON in a column as it stands, or as it was changed so far.
    fn object(&mut self, slot: usize) -> Result<&mut Map<String, Json>, StoreError> {
        if !self.inner.contains_key(&slot) {
            let parsed = match self.current.get(slot).copied().flatten() {
                None => Some(Json::Null),
                Some(bytes) => match self.layout.kind(slot).text(bytes) {
                    Some("") => Some(Json::Null),
                    Some(text) => serde_json::from_str(text).ok(),
                    None => None,
                },
            };
            // JSON null is as empty as no value.
            let parsed = parsed.map(|json| if json.is_null() { Json::Object(Map::new()) } else { json });
            self.inner.insert(slot, parsed.unwrap_or(Json::Null));
        }
        if let Some(Json::Object(object)) = self.inner.get_mut(&slot) {
            return Ok(object);
        }
        let column = self.layout.column(slot).map_or("", |column| &column.name);
        let message = format!("`{}.{column}` holds no JSON object to write into", self.layout.title);
        Err(StoreError::new(ErrorKind::Invalid, self.store, message).hint("correct or empty it there"))
    }

    pub(super) fn put_fields(&mut self, fields: &Fields<Value>) -> Result<(), StoreError> {
        let (mapped, layout) = (self.mapped, self.layout);
        for (id, value) in fields {
            let name = mapped.entity.fields.get(id.index()).map_or("?", |field| field.name.as_str());
            let Some(field) = layout.fields.iter().find(|field| field.id == *id) else {
                return Err(self.not_found(format!("`{}` has no column for `{name}`", layout.title)));
            };
            self.put(name, &field.place, value, field.ty, field.form)?;
        }
        Ok(())
    }

    pub(super) fn put_meta(&mut self, meta: &SyncMeta) -> Result<(), StoreError> {
        let layout = self.layout;
        if layout.meta_missing && *meta != SyncMeta::default() {
            return Err(self.not_found(format!("`{}` lacks columns for the sync metadata", layout.title)));
        }
        match &layout.meta {
            MetaPlace::None => Ok(()),
            MetaPlace::Object(place) if place.path.is_empty() => {
                sync::put_into(self.object(place.slot)?, meta);
                Ok(())
            }
            MetaPlace::Object(place) => {
                let outer = self.object(place.slot)?;
                let mut object = match get_path(outer, &place.path) {
                    Some(Json::Object(object)) => object.clone(),
                    _ => Map::new(),
                };
                sync::put_into(&mut object, meta);
                set_path(outer, &place.path, Some(Json::Object(object)));
                Ok(())
            }
            MetaPlace::Parts(places) => {
                for ((place, part), name) in places.iter().zip(sync::to_parts(meta)).zip(sync::PARTS) {
                    let Some(place) = place else { continue };
                    let (value, ty) = part_value(part, meta, name);
                    self.put(name, place, &value, ty, Form::Native)?;
                }
                Ok(())
            }
        }
    }

    pub(super) fn put_time(
        &mut self,
        place: Option<&Place>,
        time: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (Some(place), Some(time)) = (place, time) else { return Ok(()) };
        let name = self.layout.column(place.slot).map_or("", |column| &column.name);
        self.put(name, place, &Value::Time(time), FieldType::Timestamp, Form::Native)
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
