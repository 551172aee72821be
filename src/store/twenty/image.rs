//! What is sent to the server for a write, and what its answer says.
//!
//! Fields whose parts are emptied when they are not sent go whole, from what was read just before; the others go part by part.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value as Json, json};

use crate::model::{
    ErrorKind, FieldType, Fields, Form, Mapped, Native, RecordKey, StoreError, StoreName, SyncMeta,
    Timestamp, Value, encode,
};

use super::super::sync;
use super::changes::millis;
use super::layout::{Layout, Path, Place, Relation, UPDATED_AT};
use super::objects::is_written_whole;
use super::rows::{key_text, meta_object};

/// The ids of records that relations lead to, by entity and key.
#[derive(Debug, Default)]
pub(super) struct Lookups(pub(super) BTreeMap<(String, String), String>);

impl Lookups {
    fn id(&self, relation: &Relation, key: &str) -> Option<&String> {
        self.0.get(&(relation.target.entity.as_str().to_owned(), key.to_owned()))
    }

    fn key(&self, relation: &Relation, id: &str) -> Option<&str> {
        let entity = relation.target.entity.as_str();
        self.0.iter().find(|((of, _), known)| of == entity && *known == id).map(|((_, key), _)| key.as_str())
    }
}

/// Builds what is sent for one record.
pub(super) struct Image<'a> {
    pub(super) store: &'a StoreName,
    pub(super) layout: &'a Layout,
    pub(super) mapped: &'a Mapped,
    pub(super) lookups: &'a Lookups,
    /// The record as it was read just before; null for a new one.
    pub(super) before: &'a Json,
    body: Map<String, Json>,
}

impl<'a> Image<'a> {
    pub(super) fn new(
        store: &'a StoreName,
        layout: &'a Layout,
        mapped: &'a Mapped,
        lookups: &'a Lookups,
        before: &'a Json,
    ) -> Self {
        Self { store, layout, mapped, lookups, before, body: Map::new() }
    }

    pub(super) fn body(self) -> Map<String, Json> {
        self.body
    }

    fn invalid(&self, message: String) -> StoreError {
        StoreError::new(ErrorKind::Invalid, self.store, message)
    }

    fn put(&mut self, path: &Path, native: &Native) -> Result<(), String> {
        let Some(part) = path.part.as_deref().or((path.ty == "PHONES").then_some("primaryPhoneNumber"))
        else {
            self.body.insert(path.attribute.clone(), to_json(native, &path.ty)?);
            return Ok(());
        };
        let whole = self.body.entry(path.attribute.clone()).or_insert_with(|| {
            let before = self.before.get(&path.attribute).filter(|value| value.is_object());
            match before {
                Some(before) if is_written_whole(&path.ty) => before.clone(),
                _ => json!({}),
            }
        });
        let Json::Object(whole) = whole else { return Err("it is no composite field".to_owned()) };
        let value = part_json(native, part)?;
        if part == "primaryPhoneNumber" {
            set_phone(whole, value.as_str().unwrap_or_default());
        } else {
            whole.insert(part.to_owned(), value);
        }
        if path.ty == "EMAILS" && !whole.contains_key("primaryEmail") {
            whole.insert("primaryEmail".to_owned(), "".into());
        }
        Ok(())
    }

    fn relate(&mut self, relation: &Relation, key: Option<&str>) -> Result<(), StoreError> {
        let id = match key {
            None => Json::Null,
            Some(key) => {
                if let Some(id) = self.lookups.id(relation, key) {
                    id.as_str().into()
                } else {
                    let message =
                        format!("`{}` {} is not there yet", relation.target.entity, Json::from(key));
                    let error = StoreError::new(ErrorKind::NotFound, self.store, message);
                    return Err(error.hint("it is written as soon as that record is"));
                }
            }
        };
        self.body.insert(relation.join.clone(), id);
        Ok(())
    }

    /// Puts fields in.
    pub(super) fn fields(&mut self, fields: &Fields<Value>) -> Result<(), StoreError> {
        let (layout, mapped) = (self.layout, self.mapped);
        for (id, value) in fields {
            let name = mapped.entity.fields.get(id.index()).map_or("?", |field| field.name.as_str());
            let Some(field) = layout.field(*id) else {
                let message = format!("`{}` has no field for `{name}`", layout.object.singular);
                return Err(self.invalid(message).hint("run `trueup migrate`"));
            };
            let told = |why: String| format!("`{name}`: {why}");
            match &field.place {
                Place::Related(relation) => {
                    self.relate(relation, value.plain_text().as_deref())?;
                }
                Place::At(path) => {
                    let native = encode(value, field.ty, field.form, &mapped.mapping.timezone)
                        .map_err(|error| self.invalid(told(error.0)))?;
                    self.put(path, &native).map_err(|why| self.invalid(told(why)))?;
                }
            }
        }
        Ok(())
    }

    /// Puts the key in, and the relations that are parts of it.
    pub(super) fn key(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        let (layout, mapped) = (self.layout, self.mapped);
        for ((place, part), text) in layout.key.iter().zip(&mapped.entity.key).zip(key.parts()) {
            match place {
                Place::Related(relation) => self.relate(relation, Some(text))?,
                Place::At(path) => {
                    if text.is_empty() || text.contains('\0') {
                        let message = format!("the key {key} is none that can be held there");
                        return Err(self.invalid(message));
                    }
                    let native = match (part.ty, path.ty.as_str()) {
                        (FieldType::Int64, "NUMBER") => encode(
                            &text.parse().map_or_else(|_| Value::text(text.as_str()), Value::Int),
                            part.ty,
                            Form::CrmNumber,
                            &mapped.mapping.timezone,
                        )
                        .map_err(|error| self.invalid(format!("the key {key}: {error}")))?,
                        _ => Native::Text(text.clone()),
                    };
                    self.put(path, &native).map_err(|why| self.invalid(format!("the key {key}: {why}")))?;
                }
            }
        }
        if let Some(name) = &layout.key_text {
            self.body.insert(name.clone(), key_text(key).into());
        }
        Ok(())
    }

    /// Puts sync metadata in. Whatever else stands with it stays.
    pub(super) fn meta(&mut self, meta: &SyncMeta) {
        let Some(name) = &self.layout.sync else { return };
        let mut object = meta_object(self.layout, self.before).unwrap_or_default();
        sync::put_into(&mut object, meta);
        let text = if object.is_empty() { String::new() } else { Json::Object(object).to_string() };
        self.body.insert(name.clone(), text.into());
    }

    /// Puts the times in that are ours to write: the server's own time of update is not, for changes are found by it.
    pub(super) fn times(&mut self, created: Option<Timestamp>, updated: Option<Timestamp>) {
        for (name, time) in [(&self.layout.created, created), (&self.layout.updated, updated)] {
            if let (Some(name), Some(time)) = (name, time)
                && name != UPDATED_AT
            {
                self.body.insert(name.clone(), millis(time).into());
            }
        }
    }
}

/// A phone number in place of the one that was there: its country is found out anew.
pub(super) fn set_phone(whole: &mut Map<String, Json>, number: &str) {
    whole.insert("primaryPhoneNumber".to_owned(), number.into());
    whole.insert("primaryPhoneCountryCode".to_owned(), "".into());
    whole.insert("primaryPhoneCallingCode".to_owned(), "".into());
    whole.entry("additionalPhones").or_insert_with(|| json!([]));
}

fn number(text: &str) -> Result<Json, String> {
    text.parse::<Number>().map(Json::Number).map_err(|_| "it is no number".to_owned())
}

/// A value as an attribute of a type is given it.
fn to_json(native: &Native, ty: &str) -> Result<Json, String> {
    Ok(match (ty, native) {
        // A text can be emptied, but not taken away.
        ("TEXT", Native::Null) => "".into(),
        ("TEXT", Native::Integer(number)) => number.to_string().into(),
        ("TEXT", Native::Real(number)) => format!("{number:?}").into(),
        (_, Native::Null) => Json::Null,
        ("NUMBER" | "NUMERIC" | "POSITION", Native::Text(text)) => number(text)?,
        ("BOOLEAN", Native::Integer(number)) => (*number != 0).into(),
        ("BOOLEAN", Native::Text(text)) => match text.as_str() {
            "true" | "1" => true.into(),
            "false" | "0" => false.into(),
            _ => return Err("it is neither true nor false".to_owned()),
        },
        ("RAW_JSON" | "ARRAY" | "MULTI_SELECT", Native::Text(text)) => {
            serde_json::from_str(text).map_err(|_| "it is no JSON".to_owned())?
        }
        (_, Native::Text(text)) => text.as_str().into(),
        (_, Native::Integer(number)) => (*number).into(),
        (_, Native::Real(number)) => {
            Number::from_f64(*number).map(Json::Number).ok_or_else(|| "it is no number".to_owned())?
        }
        (_, Native::Blob(_)) => return Err("it is no text".to_owned()),
    })
}

/// A value as a part of a composite field is given it.
fn part_json(native: &Native, part: &str) -> Result<Json, String> {
    match part {
        "amountMicros" | "addressLat" | "addressLng" => to_json(native, "NUMBER"),
        "additionalEmails" | "additionalPhones" | "secondaryLinks" => match native {
            Native::Null => Ok(json!([])),
            native => to_json(native, "ARRAY"),
        },
        "workspaceMemberId" => to_json(native, "UUID"),
        _ => to_json(native, "TEXT"),
    }
}

/// Puts into an answer what it does not tell: the keys of the records that its relations lead to.
pub(super) fn complete(layout: &Layout, lookups: &Lookups, before: &Json, mut answer: Json) -> Json {
    let places = layout.key.iter().chain(layout.fields.iter().map(|field| &field.place));
    for place in places {
        let Place::Related(relation) = place else { continue };
        let Some(id) = answer.get(&relation.join).and_then(Json::as_str).map(str::to_owned) else { continue };
        let same = before.get(&relation.join).and_then(Json::as_str) == Some(&id);
        let other = match lookups.key(relation, &id) {
            Some(key) => Some(json!({ "id": id, relation.target.key.as_str(): key })),
            None if same => before.get(&relation.attribute).cloned(),
            None => None,
        };
        if let (Json::Object(answer), Some(other)) = (&mut answer, other) {
            answer.insert(relation.attribute.clone(), other);
        }
    }
    answer
}
