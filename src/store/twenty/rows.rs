//! Records as the server sends them, as rows.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use crate::model::{
    Cell, ElementId, FieldRef, FieldType, Fields, Mapped, Native, RecordKey, Row, StoreRecordId, Stray,
    SyncMeta, Timestamp, Value, canonical_integer, decode,
};

use super::super::inside::unreadable;
use super::super::sync;
use super::layout::{Child, Layout, Path, Place, Relation};

/// A record's place among an entity's records.
pub(super) enum Read {
    Row(Row),
    Stray(Stray),
    /// Its key is none of its type.
    BadKey,
}

/// A value of the server's, as columns hold values. An empty text is none.
pub(super) fn native(json: &Json) -> Native {
    match json {
        Json::Null => Native::Null,
        Json::Bool(flag) => Native::Integer(i64::from(*flag)),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Native::Integer(whole),
            // Only what says the same: other numbers stay as they are written.
            (None, Some(real)) if real.to_string() == number.to_string() => Native::Real(real),
            _ => Native::Text(number.to_string()),
        },
        Json::String(text) if text.is_empty() => Native::Null,
        Json::String(text) => Native::Text(text.clone()),
        Json::Array(_) | Json::Object(_) => Native::Text(json.to_string()),
    }
}

fn text<'j>(record: &'j Json, name: &str) -> Option<&'j str> {
    record.get(name).and_then(Json::as_str).filter(|text| !text.is_empty())
}

/// A record's id.
pub(super) fn id_of(record: &Json) -> Option<StoreRecordId> {
    text(record, "id").map(|id| StoreRecordId(id.to_owned()))
}

/// What stands at a path; a phone number with its country.
fn at(record: &Json, path: &Path) -> Native {
    let whole = record.get(&path.attribute).unwrap_or(&Json::Null);
    match (path.ty.as_str(), &path.part) {
        ("PHONES", None) => primary_phone(whole).map_or(Native::Null, Native::Text),
        (_, Some(part)) => native(whole.get(part).unwrap_or(&Json::Null)),
        _ => native(whole),
    }
}

/// A phone number with its country, out of a PHONES value.
fn primary_phone(whole: &Json) -> Option<String> {
    let number = text(whole, "primaryPhoneNumber")?;
    Some(joined(text(whole, "primaryPhoneCallingCode"), number))
}

fn joined(calling: Option<&str>, number: &str) -> String {
    if number.starts_with('+') {
        number.to_owned()
    } else {
        format!("{}{number}", calling.unwrap_or_default())
    }
}

/// Time as it was read, if it is one.
fn time(record: &Json, name: Option<&String>) -> Option<Timestamp> {
    Timestamp::parse(text(record, name?)?, &jiff::tz::TimeZone::UTC)
}

/// What a relation of a record says.
enum Related {
    Nothing,
    Key(String),
    /// The record it leads to has no key there.
    Unknown(StoreRecordId),
}

fn related(record: &Json, relation: &Relation) -> Related {
    let other = record.get(&relation.attribute);
    let id = other.and_then(|other| text(other, "id")).or_else(|| text(record, &relation.join));
    let Some(id) = id else { return Related::Nothing };
    // A deleted record is not shown: then nothing is known but its id.
    match other.and_then(|other| text(other, &relation.target.key)) {
        Some(key) => Related::Key(key.to_owned()),
        None => Related::Unknown(StoreRecordId(id.to_owned())),
    }
}

fn good_part(text: &str, ty: FieldType) -> bool {
    ty != FieldType::Int64 || canonical_integer(text).is_some()
}

/// A key as one text: a JSON array of its parts.
pub(super) fn key_text(key: &RecordKey) -> String {
    Json::from(key.parts().to_vec()).to_string()
}

fn from_key_text(text: &str) -> Option<RecordKey> {
    serde_json::from_str::<Vec<String>>(text).ok().map(RecordKey::new)
}

/// The parts of the key, as far as they are there, and what its relations lead to.
struct Keyed {
    parts: Option<Vec<String>>,
    relations: BTreeMap<FieldRef, StoreRecordId>,
    bad: bool,
}

fn keyed(layout: &Layout, mapped: &Mapped, record: &Json) -> Keyed {
    let mut parts = Some(Vec::new());
    let mut relations = BTreeMap::new();
    let mut bad = false;
    for (at_part, (place, part)) in layout.key.iter().zip(&mapped.entity.key).enumerate() {
        let found = match place {
            Place::At(path) => match at(record, path) {
                Native::Text(text) => Some(text),
                Native::Integer(number) => Some(number.to_string()),
                Native::Null => None,
                Native::Real(_) | Native::Blob(_) => {
                    bad = true;
                    None
                }
            },
            Place::Related(relation) => {
                if let Some(id) = text(record, &relation.join) {
                    relations.insert(FieldRef::Key(at_part), StoreRecordId(id.to_owned()));
                }
                match related(record, relation) {
                    Related::Key(key) => Some(key),
                    Related::Unknown(id) => {
                        relations.insert(FieldRef::Key(at_part), id);
                        None
                    }
                    Related::Nothing => None,
                }
            }
        };
        bad |= found.as_ref().is_some_and(|text| !good_part(text, part.ty));
        match (found, &mut parts) {
            (Some(text), Some(parts)) => parts.push(text),
            _ => parts = None,
        }
    }
    Keyed { parts, relations, bad }
}

/// The key that a record's relations make up, whatever key it carries.
pub(super) fn joins(layout: &Layout, mapped: &Mapped, record: &Json) -> Option<RecordKey> {
    let related = layout.key.iter().all(|place| matches!(place, Place::Related(_)));
    keyed(layout, mapped, record).parts.filter(|_| related).map(RecordKey::new)
}

/// Reads a record.
pub(super) fn read(layout: &Layout, mapped: &Mapped, record: &Json) -> Read {
    let Keyed { parts, mut relations, bad } = keyed(layout, mapped, record);
    let Some(store_id) = id_of(record).filter(|_| !bad) else { return Read::BadKey };
    let mut unknown = false;
    let mut fields = Fields::new();
    for field in &layout.fields {
        let cell = match &field.place {
            Place::At(path) => cell(&at(record, path), field.ty, field.form, mapped),
            Place::Related(relation) => match related(record, relation) {
                Related::Nothing => Cell::Value(Value::Null),
                Related::Key(key) => cell(&Native::Text(key), field.ty, field.form, mapped),
                Related::Unknown(id) => {
                    relations.insert(FieldRef::Field(field.id), id);
                    unknown = true;
                    continue;
                }
            },
        };
        fields.insert(field.id, cell);
    }
    let meta = meta(layout, record);
    let created = time(record, layout.created.as_ref());
    let updated = time(record, layout.updated.as_ref());
    let own = layout.key_text.as_ref().map(|name| text(record, name));
    let computed = parts.map(RecordKey::new);
    let carried = match &own {
        Some(text) => text.and_then(from_key_text),
        None => computed.clone(),
    };
    match computed {
        Some(key) if !unknown && (carried.is_none() || carried.as_ref() == Some(&key)) => {
            let unlinked = carried.is_none();
            Read::Row(Row { key, store_id: Some(store_id), fields, meta, created, updated, unlinked })
        }
        _ => {
            // Only those that lead to somebody unknown, or make up the key.
            Read::Stray(Stray {
                entity: mapped.name().clone(),
                store_id,
                key: carried,
                relations,
                fields,
                meta,
                created,
                updated,
            })
        }
    }
}

fn cell(native: &Native, ty: FieldType, form: crate::model::Form, mapped: &Mapped) -> Cell {
    decode(native, ty, form, &mapped.mapping.timezone)
        .map_or_else(|error| unreadable(native, error.0), Cell::Value)
}

/// The sync metadata: an object as text, or whatever else somebody put there.
fn meta(layout: &Layout, record: &Json) -> SyncMeta {
    meta_object(layout, record)
        .map(|object| sync::from_object(&object, &jiff::tz::TimeZone::UTC))
        .unwrap_or_default()
}

/// The object that the sync metadata stands in, others' entries included.
pub(super) fn meta_object(layout: &Layout, record: &Json) -> Option<Map<String, Json>> {
    match record.get(layout.sync.as_ref()?)? {
        Json::String(text) => serde_json::from_str(text).ok(),
        Json::Object(object) => Some(object.clone()),
        _ => None,
    }
}

/// An element of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) kind: String,
    /// The value as it is shown to others.
    pub(super) value: String,
    pub(super) normal: String,
    /// Whether it is the first of its kind.
    pub(super) primary: bool,
}

/// The values of a composite field: addresses, or numbers with their countries; the first is the primary one, if there is one.
pub(super) fn values(whole: &Json, ty: &str) -> (Option<String>, Vec<String>) {
    let list = |name: &str| whole.get(name).and_then(Json::as_array).cloned().unwrap_or_default();
    match ty {
        "EMAILS" => {
            let more = list("additionalEmails");
            let more = more.iter().filter_map(Json::as_str).filter(|text| !text.is_empty());
            (text(whole, "primaryEmail").map(str::to_owned), more.map(str::to_owned).collect())
        }
        "PHONES" => {
            (primary_phone(whole), list("additionalPhones").iter().filter_map(additional_phone).collect())
        }
        "LINKS" => {
            let more = list("secondaryLinks");
            let more = more.iter().filter_map(|link| text(link, "url"));
            (text(whole, "primaryLinkUrl").map(str::to_owned), more.map(str::to_owned).collect())
        }
        "ARRAY" | "MULTI_SELECT" => {
            let all = whole.as_array().into_iter().flatten().filter_map(Json::as_str);
            (None, all.filter(|text| !text.is_empty()).map(str::to_owned).collect())
        }
        _ => (whole.as_str().filter(|text| !text.is_empty()).map(str::to_owned), Vec::new()),
    }
}

/// One of a record's further numbers.
pub(super) fn additional_phone(phone: &Json) -> Option<String> {
    let number = text(phone, "number").or_else(|| phone.as_str().filter(|text| !text.is_empty()))?;
    Some(joined(text(phone, "callingCode"), number))
}

/// The elements of a record that are some entity's, the first of each kind and normal form.
pub(super) fn elements(layout: &Layout, child: &Child, record: &Json) -> Vec<Element> {
    let mut found: Vec<Element> = Vec::new();
    for (kind, place) in &child.embedded.places {
        let Some(attribute) = layout.attribute(place.column.head()) else { continue };
        let whole = record.get(place.column.head()).unwrap_or(&Json::Null);
        let whole = match place.column.0.get(1) {
            Some(part) => whole.get(part).unwrap_or(&Json::Null),
            None => whole,
        };
        let ty = if place.column.0.len() > 1 { "" } else { attribute.ty.as_str() };
        let (first, more) = values(whole, ty);
        let all =
            first.into_iter().map(|value| (value, true)).chain(more.into_iter().map(|value| (value, false)));
        for (value, primary) in all {
            let Some(normal) = child.embedded.normal(kind, &value) else { continue };
            if !found.iter().any(|element| element.kind == *kind && element.normal == normal) {
                found.push(Element { kind: kind.clone(), value, normal, primary });
            }
        }
    }
    found
}

/// The elements of a record as rows that the store cannot tell the keys of.
pub(super) fn strays(layout: &Layout, record: &Json) -> Vec<Stray> {
    let Some(parent) = id_of(record) else { return Vec::new() };
    let mut strays = Vec::new();
    for child in &layout.children {
        for element in elements(layout, child, record) {
            strays.push(stray(child, &parent, element));
        }
    }
    strays
}

/// An element as a row.
pub(super) fn stray(child: &Child, parent: &StoreRecordId, element: Element) -> Stray {
    let embedded = &child.embedded;
    let id = ElementId { parent: parent.clone(), kind: element.kind.clone(), normal: element.normal };
    let mut fields: Fields<Cell> = [
        (embedded.kind, Cell::Value(Value::text(element.kind.as_str()))),
        (embedded.value, Cell::Value(Value::text(element.value))),
    ]
    .into();
    let first = embedded.places.get(&element.kind).and_then(|place| place.primary);
    if let Some(field) = first {
        fields.insert(field, Cell::Value(Value::Bool(element.primary)));
    }
    Stray {
        entity: child.mapped.name().clone(),
        store_id: id.store_id(),
        key: None,
        relations: [(FieldRef::Field(embedded.reference), parent.clone())].into(),
        fields,
        meta: SyncMeta::default(),
        created: None,
        updated: None,
    }
}
