//! The columns of a row as they are going to be.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::model::{
    ErrorKind, FieldType, Fields, Form, Mapped, Native, RecordKey, StoreError, StoreName, SyncMeta,
    Timestamp, Value, canonical_integer, encode,
};

use super::super::inside::{get_path, inner_json, set_path};
use super::super::sync;
use super::kind::{Written, written};
use super::layout::{Layout, MetaPlace, Place};
use super::schema::Kind;

/// What is written, by slot.
pub(super) type Columns = BTreeMap<usize, Written>;

/// A row that is being put together.
pub(super) struct Image<'a> {
    store: &'a StoreName,
    mapped: &'a Mapped,
    layout: &'a Layout,
    /// The slots as they stand.
    current: &'a [Option<String>],
    whole: Columns,
    inner: BTreeMap<usize, Json>,
}

impl<'a> Image<'a> {
    pub(super) fn new(
        store: &'a StoreName,
        mapped: &'a Mapped,
        layout: &'a Layout,
        current: &'a [Option<String>],
    ) -> Self {
        Self { store, mapped, layout, current, whole: BTreeMap::new(), inner: BTreeMap::new() }
    }

    /// The slots that are set, and those of them of which only a part is.
    pub(super) fn columns(self) -> Result<(Columns, Vec<usize>), StoreError> {
        let mut columns = self.whole;
        let parts = self.inner.keys().copied().collect();
        for (slot, json) in self.inner {
            let Some(node) = self.layout.node(slot) else { continue };
            let native = Native::Text(json.to_string());
            let zone = &self.mapped.mapping.timezone;
            let text = written(node, &Value::Null, &native, zone).map_err(|why| {
                let message = format!("`{}`: {why}", self.layout.title_of(slot));
                StoreError::new(ErrorKind::Invalid, self.store, message)
            })?;
            columns.insert(slot, text);
        }
        Ok((columns, parts))
    }

    fn invalid(&self, message: String) -> StoreError {
        StoreError::new(ErrorKind::Invalid, self.store, message)
    }

    fn not_found(&self, message: String) -> StoreError {
        StoreError::new(ErrorKind::NotFound, self.store, message).hint("run `trueup migrate` to add it")
    }

    /// The key's parts as texts that their columns hold.
    pub(super) fn check_key(&self, key: &RecordKey) -> Result<(), StoreError> {
        let fits = |(part, slot): (&String, &super::layout::Slot)| match slot.node.kind {
            Kind::Text => true,
            Kind::Int => canonical_integer(part).is_some(),
            _ => false,
        };
        if key.parts().iter().zip(&self.layout.key).all(fits) {
            return Ok(());
        }
        Err(self.invalid(format!("the key {key} is none that its column can hold")))
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
        let Some(node) = layout.node(place.slot) else { return Ok(()) };
        let told = |image: &Self, why: &str| image.invalid(format!("`{}.{name}`: {why}", layout.names.title));
        let zone = &self.mapped.mapping.timezone;
        let native = encode(value, ty, form, zone).map_err(|error| told(self, &error.0))?;
        if place.path.is_empty() {
            let text = written(node, value, &native, zone).map_err(|why| told(self, why))?;
            self.whole.insert(place.slot, text);
            return Ok(());
        }
        let json = inner_json(value, &native, form);
        set_path(self.object(place.slot)?, &place.path, json);
        Ok(())
    }

    /// The JSON in a column as it stands, or as it was changed so far.
    fn object(&mut self, slot: usize) -> Result<&mut Map<String, Json>, StoreError> {
        if !self.inner.contains_key(&slot) {
            let parsed = match self.current.get(slot).and_then(Option::as_deref) {
                None | Some("") => Some(Json::Null),
                Some(text) => serde_json::from_str(text).ok(),
            };
            // JSON null is as empty as no value.
            let parsed = parsed.map(|json| if json.is_null() { Json::Object(Map::new()) } else { json });
            self.inner.insert(slot, parsed.unwrap_or(Json::Null));
        }
        if let Some(Json::Object(object)) = self.inner.get_mut(&slot) {
            return Ok(object);
        }
        let message = format!("`{}` holds no JSON object to write into", self.layout.title_of(slot));
        Err(StoreError::new(ErrorKind::Invalid, self.store, message).hint("correct or empty it there"))
    }

    pub(super) fn put_fields(&mut self, fields: &Fields<Value>) -> Result<(), StoreError> {
        let (mapped, layout) = (self.mapped, self.layout);
        for (id, value) in fields {
            let name = mapped.entity.fields.get(id.index()).map_or("?", |field| field.name.as_str());
            let Some(field) = layout.fields.iter().find(|field| field.id == *id) else {
                return Err(
                    self.not_found(format!("`{}` has no column for the field `{name}`", layout.names.title))
                );
            };
            self.put(name, &field.place, value, field.ty, field.form)?;
        }
        Ok(())
    }

    pub(super) fn put_meta(&mut self, meta: &SyncMeta) -> Result<(), StoreError> {
        let layout = self.layout;
        if layout.meta_missing && *meta != SyncMeta::default() {
            let message = format!("`{}` lacks columns for sync metadata", layout.names.title);
            return Err(self.not_found(message));
        }
        match &layout.meta {
            MetaPlace::None => Ok(()),
            MetaPlace::Object(place) => {
                let object = self.object(place.slot)?;
                let mut inner = match get_path(object, &place.path) {
                    Some(Json::Object(inner)) => inner.clone(),
                    _ if place.path.is_empty() => object.clone(),
                    _ => Map::new(),
                };
                sync::put_into(&mut inner, meta);
                if place.path.is_empty() {
                    *object = inner;
                } else {
                    set_path(object, &place.path, Some(Json::Object(inner)));
                }
                Ok(())
            }
            MetaPlace::Parts(places) => {
                let all = sync::to_parts(meta).into_iter().zip(sync::PARTS).zip(places);
                for (at, ((part, name), place)) in all.enumerate() {
                    if let Some(place) = place {
                        self.put_part(at, name, &part, place)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn put_part(&mut self, at: usize, name: &str, part: &Json, place: &Place) -> Result<(), StoreError> {
        let is_time = at == 1;
        let (value, ty) = match part {
            Json::Null => (Value::Null, FieldType::String),
            Json::Number(number) => (Value::Int(number.as_i64().unwrap_or(0)), FieldType::Int64),
            Json::String(text) if is_time => match Timestamp::parse(text, &jiff::tz::TimeZone::UTC) {
                Some(time) => (Value::Time(time), FieldType::Timestamp),
                None => (Value::Null, FieldType::Timestamp),
            },
            Json::String(text) => (Value::text(text.as_str()), FieldType::String),
            list => (Value::Json(crate::model::Json::new(list.clone())), FieldType::Json),
        };
        self.put(name, place, &value, ty, Form::Native)
    }

    pub(super) fn put_time(
        &mut self,
        place: Option<&Place>,
        time: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        match (place, time) {
            (Some(place), Some(time)) => {
                self.put("time", place, &Value::Time(time), FieldType::Timestamp, Form::Native)
            }
            _ => Ok(()),
        }
    }
}
