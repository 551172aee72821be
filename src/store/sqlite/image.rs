//! Rows as they are going to be: values put into their columns, and into the JSON inside columns.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::model::{
    ErrorKind, FieldType, Fields, Form, Native, StoreError, SyncMeta, Timestamp, Value, encode,
};

use super::super::inside::{get_path, inner_json, set_path};
use super::super::sync;
use super::layout::{MetaPlace, Place};
use super::read::read_cell;
use super::write::Task;

/// The columns of a row as they are going to be.
pub(super) struct Image<'a> {
    task: &'a Task<'a>,
    current: Option<&'a [Native]>,
    whole: BTreeMap<usize, Native>,
    inner: BTreeMap<usize, Json>,
}

impl<'a> Image<'a> {
    pub(super) fn new(task: &'a Task<'a>, current: Option<&'a [Native]>) -> Self {
        Self { task, current, whole: BTreeMap::new(), inner: BTreeMap::new() }
    }

    /// The columns with their values.
    pub(super) fn assignments(self) -> Vec<(usize, Native)> {
        let inner = self.inner.into_iter().map(|(slot, json)| (slot, Native::Text(json.to_string())));
        self.whole.into_iter().chain(inner).collect()
    }

    pub(super) fn put(
        &mut self,
        place: &Place,
        native: Native,
        json: Option<Json>,
    ) -> Result<(), StoreError> {
        let column = self.task.layout.column(place.slot);
        if let Some(column) = column.filter(|column| column.generated) {
            let message = format!("`{}.{}` is computed by the database", self.task.layout.title, column.name);
            return Err(self.task.invalid(message).hint("map it with `direction: from-store`"));
        }
        if place.path.is_empty() {
            self.whole.insert(place.slot, native);
            return Ok(());
        }
        let object = self.object(place.slot)?;
        set_path(object, &place.path, json);
        Ok(())
    }

    /// The JSON in a column as it stands, or as it was changed so far.
    fn object(&mut self, slot: usize) -> Result<&mut Map<String, Json>, StoreError> {
        if !self.inner.contains_key(&slot) {
            let parsed = match self.current.and_then(|natives| natives.get(slot)) {
                None | Some(Native::Null) => Some(Json::Object(Map::new())),
                Some(Native::Text(text)) if text.is_empty() => Some(Json::Object(Map::new())),
                Some(Native::Text(text)) => serde_json::from_str(text).ok(),
                Some(_) => None,
            };
            // JSON null is as empty as no value.
            let parsed = parsed.map(|json| if json.is_null() { Json::Object(Map::new()) } else { json });
            self.inner.insert(slot, parsed.unwrap_or(Json::Null));
        }
        if let Some(Json::Object(object)) = self.inner.get_mut(&slot) {
            return Ok(object);
        }
        let layout = self.task.layout;
        let column = layout.column(slot).map_or("", |column| &column.name);
        let message = format!("`{}.{column}` holds no JSON object to write into", layout.title);
        Err(self.task.invalid(message).hint("correct or empty it there"))
    }

    pub(super) fn put_fields(&mut self, fields: &Fields<Value>) -> Result<(), StoreError> {
        let (mapped, layout) = (self.task.mapped, self.task.layout);
        for (id, value) in fields {
            let name = mapped.entity.fields.get(id.index()).map_or("?", |field| field.name.as_str());
            let Some(field) = layout.fields.iter().find(|field| field.id == *id) else {
                let message = format!("`{}` has no column for `{name}`", layout.title);
                return Err(self
                    .task
                    .store
                    .refusal(ErrorKind::NotFound, message)
                    .hint("run `trueup migrate` to add it"));
            };
            let native = encode(value, field.ty, field.form, &mapped.mapping.timezone)
                .map_err(|error| self.task.invalid(format!("`{}.{name}`: {error}", layout.title)))?;
            // Only what stands inside a column's JSON has to be JSON.
            let inside = !field.place.path.is_empty();
            let affinity = layout.column(field.place.slot).map(|column| column.affinity);
            if let Some(affinity) = affinity.filter(|affinity| !inside && !affinity.keeps(&native))
                && let Some(made) = affinity.made_of(&native)
            {
                let zone = &mapped.mapping.timezone;
                let read = |native: &Native| read_cell(native, field.ty, field.form, zone);
                if read(&made) != read(&native) {
                    let message = format!(
                        "`{}.{name}`: the type of its column would make another value of it",
                        layout.title
                    );
                    return Err(self
                        .task
                        .invalid(message)
                        .hint("declare the column as TEXT, or give the field another one"));
                }
            }
            let json = inside.then(|| inner_json(value, &native, field.form)).flatten();
            self.put(&field.place, native, json)?;
        }
        Ok(())
    }

    pub(super) fn put_meta(&mut self, meta: &SyncMeta) -> Result<(), StoreError> {
        let layout = self.task.layout;
        if layout.meta_missing && *meta != SyncMeta::default() {
            let message = format!("`{}` lacks columns for the sync metadata", layout.title);
            return Err(self
                .task
                .store
                .refusal(ErrorKind::NotFound, message)
                .hint("run `trueup migrate` to add them"));
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
                for (place, part) in places.iter().zip(sync::to_parts(meta)) {
                    if let Some(place) = place {
                        let native = match &part {
                            Json::Null => Native::Null,
                            Json::String(text) => Native::Text(text.clone()),
                            Json::Number(number) => number.as_i64().map_or(Native::Null, Native::Integer),
                            list => Native::Text(list.to_string()),
                        };
                        self.put(place, native, Some(part).filter(|part| !part.is_null()))?;
                    }
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
        let value = Value::Time(time);
        let zone = &self.task.mapped.mapping.timezone;
        let native = encode(&value, FieldType::Timestamp, Form::Native, zone)
            .map_err(|error| self.task.invalid(error.0))?;
        let inside = !place.path.is_empty();
        let json = inside.then(|| inner_json(&value, &native, Form::Native)).flatten();
        self.put(place, native, json)
    }
}
