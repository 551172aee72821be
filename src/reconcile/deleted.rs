//! Records that were deleted: what their tombstones keep, and what of it can be put back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value as Json;

use crate::model::{
    Column, FieldName, FieldRef, FieldType, Fields, Form, Mapping, Native, OnDelete, RecordId, RecordKey,
    Shape, StoreName, SyncPlace, Timestamp, Value, Version, decode,
};
use crate::spec::Spec;

/// A record that was deleted.
#[derive(Debug, Clone, PartialEq)]
pub struct Deleted {
    /// The record.
    pub record: RecordId,
    /// The highest version it had.
    pub version: Version,
    /// The stores it was deleted in; none: it went with another one.
    pub deleted_by: Vec<String>,
    /// When that was found.
    pub deleted_at: Timestamp,
    /// Whether every store has confirmed the delete.
    pub confirmed: bool,
    /// The native rows that went, by store; empty where they were not read.
    pub rows: serde_json::Map<String, Json>,
}

/// What can be put back of a deleted record.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recovered {
    /// The values of its fields.
    pub fields: Fields<Value>,
    /// When it was made, as far as a row told.
    pub created: Option<Timestamp>,
    /// Fields of the canonical store that no kept row tells.
    pub lost: Vec<FieldName>,
    /// Columns with a value that no mapping names, by store: they stay in the tombstone.
    pub unmapped: BTreeMap<StoreName, Vec<String>>,
}

/// What can be put back of a deleted record into the canonical store; none where no row of it is kept.
///
/// A store's row may be of an earlier life of the record: one that has the version at which it was deleted counts for more than one
/// that tells none, and that for more than an older one. The canonical store's comes before others'.
pub fn recover(spec: &Spec, deleted: &Deleted) -> Option<Recovered> {
    let entity = spec.entity(&deleted.record.entity)?;
    let canonical = spec.mapping(&entity.name, &spec.canonical)?;
    let mut rows: Vec<(&Mapping, &Json)> = deleted
        .rows
        .iter()
        .filter_map(|(store, row)| {
            let mapping = spec.mapping(&entity.name, &StoreName::new(store).ok()?)?;
            Some((mapping.as_ref(), row))
        })
        .collect();
    let rank = |(mapping, row): &(&Mapping, &Json)| {
        let life = match version(mapping, row) {
            Some(version) if version >= deleted.version => 0,
            None => 1,
            Some(_) => 2,
        };
        (life, mapping.store != spec.canonical)
    };
    rows.sort_by_key(rank);
    rows.first()?;
    let mut recovered = Recovered::default();
    for (field, place) in canonical.fields.iter().filter(|(_, place)| place.direction.writes()) {
        let told = rows.iter().find_map(|(mapping, row)| {
            let place = mapping.fields.get(field).filter(|place| place.relation.is_none())?;
            let native = native(at(row, &place.column)?, entity.field(*field).ty, place.form)?;
            decode(&native, entity.field(*field).ty, place.form, &mapping.timezone).ok()
        });
        match told {
            Some(value) => {
                recovered.fields.insert(*field, value);
            }
            None => recovered.lost.push(entity.field(place.field).name.clone()),
        }
    }
    recovered.created = rows.iter().find_map(|(mapping, row)| {
        let native = native(at(row, mapping.created.as_ref()?)?, FieldType::Timestamp, Form::Native)?;
        match decode(&native, FieldType::Timestamp, Form::Native, &mapping.timezone) {
            Ok(Value::Time(time)) => Some(time),
            _ => None,
        }
    });
    for (mapping, row) in rows.iter().filter(|(mapping, _)| matches!(mapping.shape, Shape::Table(_))) {
        let unmapped = unmapped(mapping, row);
        if !unmapped.is_empty() {
            recovered.unmapped.insert(mapping.store.clone(), unmapped);
        }
    }
    Some(recovered)
}

/// Those of some deleted records that went with one of these, directly or through others: in the same pass, by a reference that cascades.
pub fn went_along(spec: &Spec, these: &[Deleted], others: Vec<Deleted>) -> Vec<Deleted> {
    let life = |of: &Deleted| (of.record.clone(), of.deleted_at);
    let mut gone: BTreeSet<(RecordId, Timestamp)> = these.iter().map(life).collect();
    let mut rest: Vec<Deleted> = others.into_iter().filter(|other| !gone.contains(&life(other))).collect();
    let mut along = Vec::new();
    loop {
        let with = |parent: RecordId, other: &Deleted| gone.contains(&(parent, other.deleted_at));
        let (more, left): (Vec<Deleted>, Vec<Deleted>) = rest
            .into_iter()
            .partition(|other| parents(spec, other).into_iter().any(|parent| with(parent, other)));
        if more.is_empty() {
            return along;
        }
        gone.extend(more.iter().map(life));
        along.extend(more);
        rest = left;
    }
}

/// The records whose delete takes this one along.
fn parents(spec: &Spec, deleted: &Deleted) -> Vec<RecordId> {
    let Some(entity) = spec.entity(&deleted.record.entity) else { return Vec::new() };
    let fields = recover(spec, deleted).map(|recovered| recovered.fields).unwrap_or_default();
    let cascades = entity.references.iter().filter(|reference| reference.on_delete == OnDelete::Cascade);
    let keys = cascades.filter_map(|reference| {
        let key = match reference.from {
            FieldRef::Key(at) => RecordKey::new(vec![deleted.record.key.parts().get(at)?.clone()]),
            FieldRef::Field(field) => fields.get(&field)?.to_key()?,
        };
        Some(RecordId { entity: reference.to.clone(), key })
    });
    keys.collect()
}

/// What stands in a column of a native row; none where the row has no such column.
fn at<'a>(row: &'a Json, column: &Column) -> Option<&'a Json> {
    let (head, inside) = column.0.split_first()?;
    // Some stores take a column's name in either case.
    let alike =
        || row.as_object()?.iter().find(|(name, _)| name.eq_ignore_ascii_case(head)).map(|(_, json)| json);
    let whole = row.get(head).or_else(alike)?;
    // What is inside of nothing is nothing.
    Some(inside.iter().fold(whole, |json, part| json.get(part).unwrap_or(&Json::Null)))
}

/// A value of a native row as a store gives it.
fn native(json: &Json, ty: FieldType, form: Form) -> Option<Native> {
    Some(match json {
        Json::Null => Native::Null,
        // A text in a column of JSON is one JSON value or holds one, by the kind of the column.
        Json::String(text) if ty == FieldType::Json && form == Form::Native => {
            let holds = serde_json::from_str::<Json>(text).is_ok();
            Native::Text(if holds { text.clone() } else { json.to_string() })
        }
        Json::String(text) => Native::Text(text.clone()),
        Json::Bool(flag) if ty == FieldType::Bool => Native::Integer(i64::from(*flag)),
        Json::Number(number) if ty == FieldType::Float64 => Native::Real(number.as_f64()?),
        Json::Number(number) if !matches!(ty, FieldType::Json | FieldType::Numeric) => {
            number.as_i64().map_or_else(|| Native::Text(number.to_string()), Native::Integer)
        }
        other => Native::Text(other.to_string()),
    })
}

/// The version that a native row tells.
fn version(mapping: &Mapping, row: &Json) -> Option<Version> {
    let number = match &mapping.sync {
        SyncPlace::None => return None,
        SyncPlace::Struct(column) | SyncPlace::Json(column) | SyncPlace::JsonText(column) => {
            match at(row, column)? {
                Json::String(text) => serde_json::from_str::<Json>(text).ok()?.get("version").cloned(),
                object => object.get("version").cloned(),
            }
        }
        SyncPlace::Columns { version, .. } => at(row, version.as_ref()?).cloned(),
    }?;
    number.as_i64().or_else(|| number.as_str()?.parse().ok()).map(Version)
}

/// The columns of a native row that hold something and that the mapping does not name.
fn unmapped(mapping: &Mapping, row: &Json) -> Vec<String> {
    let sync = match &mapping.sync {
        SyncPlace::Struct(column) | SyncPlace::Json(column) | SyncPlace::JsonText(column) => vec![column],
        _ => mapping.sync.columns().into_iter().flatten().collect(),
    };
    let named: BTreeSet<String> = mapping
        .key
        .iter()
        .map(|place| &place.column)
        .chain(mapping.fields.values().map(|place| &place.column))
        .chain(sync)
        .chain(&mapping.created)
        .chain(&mapping.updated)
        .map(|column| column.head().to_ascii_lowercase())
        .collect();
    let columns = row.as_object().into_iter().flatten();
    let unnamed =
        columns.filter(|(name, value)| !value.is_null() && !named.contains(&name.to_ascii_lowercase()));
    unnamed.map(|(name, _)| name.clone()).collect()
}
