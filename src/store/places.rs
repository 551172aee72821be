//! Where in a table's rows a mapping's parts stand, and what stands there: what SQL stores have in common, whatever their columns are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use jiff::tz::TimeZone;
use serde_json::Value as Json;

use crate::model::{
    Cell, Column, ErrorKind, Except, FieldId, FieldType, Fields, Form, Mapped, Native, RecordKey, Row,
    StoreError, StoreName, SyncMeta, SyncPlace, Timestamp, Value, decode,
};

use super::inside::{inner_native, native_json, unreadable};
use super::sync;

/// The part of a table's row that something mapped stands in.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The place of its column among those that are read.
    pub(super) slot: usize,
    /// The path inside the column's JSON; empty: the column itself.
    pub(super) path: Vec<String>,
}

/// Where a field stands, in whatever places a store has.
#[derive(Debug, Clone)]
pub(super) struct FieldPlace<P = Place> {
    pub(super) id: FieldId,
    pub(super) ty: FieldType,
    pub(super) form: Form,
    pub(super) place: P,
}

/// Where sync metadata stands.
#[derive(Debug, Clone)]
pub(super) enum MetaPlace {
    None,
    /// As one JSON object.
    Object(Place),
    /// In a column for each part.
    Parts([Option<Place>; 6]),
}

impl MetaPlace {
    /// Whether version, time and origin each have a place, or none of them has.
    pub(super) fn is_whole(&self) -> bool {
        match self {
            Self::None | Self::Object(_) => true,
            Self::Parts([version, time, origin, ..]) => {
                [version, time, origin].iter().all(|place| place.is_some())
            }
        }
    }

    /// All places that it has.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        let (one, parts) = match self {
            Self::None => (None, None),
            Self::Object(place) => (Some(place), None),
            Self::Parts(places) => (None, Some(places)),
        };
        one.into_iter().chain(parts.into_iter().flatten().flatten())
    }
}

/// Where everything mapped but the key stands in a table's rows.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// The mapped fields; those whose column is gone are left out.
    pub(super) fields: Vec<FieldPlace>,
    pub(super) meta: MetaPlace,
    /// Parts of the metadata have a place in the mapping and none in the table.
    pub(super) meta_missing: bool,
    pub(super) created: Option<Place>,
    pub(super) updated: Option<Place>,
    /// The slots of fields and sync metadata. All of them, where such a one is part of the key as well.
    pub(super) compared: Range<usize>,
}

impl Places {
    /// Looks for a mapping's fields, its metadata and its times, in this order.
    pub(super) fn of(mapped: &Mapped, columns: &mut impl Lookup) -> Self {
        let mapping = &mapped.mapping;
        let known = |id: FieldId| mapped.entity.fields.get(id.index());
        let fields = mapping.fields.iter().filter_map(|(id, field)| {
            let (ty, place) = (known(*id)?.ty, columns.place(&field.column)?);
            Some(FieldPlace { id: *id, ty, form: field.form, place })
        });
        let fields: Vec<FieldPlace> = fields.collect();
        let (meta, meta_missing) = columns.place_meta(&mapping.sync);
        let slots = || fields.iter().map(|field| &field.place).chain(meta.places()).map(|place| place.slot);
        // Slots are numbered as they are looked for: those of the key come before, and those of the times after.
        let compared = slots().min().unwrap_or(0)..slots().max().map_or(0, |last| last + 1);
        let mut time = |column: &Option<Column>| column.as_ref().and_then(|column| columns.place(column));
        let (created, updated) = (time(&mapping.created), time(&mapping.updated));
        Self { fields, meta, meta_missing, created, updated, compared }
    }

    /// ` WHERE …` for what is read of a table when some rows are left out, by the text in a slot; nothing where the field has no column.
    pub(super) fn condition(&self, except: Option<Except>, text: impl FnOnce(usize) -> String) -> String {
        let Some(except) = except else { return String::new() };
        let field = self.fields.iter().find(|field| field.id == except.field);
        let Some(field) = field else { return String::new() };
        format!(" WHERE coalesce({}, '') NOT IN ('{}')", text(field.place.slot), except.words.join("', '"))
    }

    /// What fields and sync metadata that stand in these places mean: of two tables of which the same is said, equal bytes mean the same.
    pub(super) fn meaning(&self, mapped: &Mapped) -> String {
        let mut text = String::new();
        for field in &self.fields {
            let name = mapped.entity.fields.get(field.id.index()).map_or("", |field| field.name.as_str());
            let FieldPlace { ty, form, place: Place { slot, path }, .. } = field;
            // Writing to a text cannot fail.
            let _ = write!(text, "; {name} {} {} {slot} {path:?}", ty.as_str(), form.as_str());
        }
        let kept = match &mapped.mapping.sync {
            SyncPlace::Columns { .. } => "columns",
            SyncPlace::None => "none",
            _ => "object",
        };
        let _ = write!(text, "; {kept} {:?}; {:?}", self.meta, mapped.mapping.timezone);
        text
    }
}

/// The columns of a table, in which those that a mapping names are looked for.
pub(super) trait Lookup {
    /// Finds a column and reads it with the others; notes it as missing if it is not there.
    fn place(&mut self, column: &Column) -> Option<Place>;

    /// Finds the columns of sync metadata, and says whether a part of it has a place in the mapping and none in the table.
    fn place_meta(&mut self, sync: &SyncPlace) -> (MetaPlace, bool) {
        place_meta(self, sync)
    }

    /// The same of sync metadata that has a column, or a path, for each part.
    fn place_parts(&mut self, columns: &[Option<Column>; 6]) -> (MetaPlace, bool) {
        let places = columns.each_ref().map(|column| self.place(column.as_ref()?));
        let missing = places.iter().zip(columns).any(|(place, column)| place.is_none() && column.is_some());
        (MetaPlace::Parts(places), missing)
    }
}

/// Finds the columns of sync metadata, whatever kinds of columns there are.
pub(super) fn place_meta(columns: &mut (impl Lookup + ?Sized), sync: &SyncPlace) -> (MetaPlace, bool) {
    match sync {
        SyncPlace::None => (MetaPlace::None, false),
        SyncPlace::Struct(column) | SyncPlace::Json(column) | SyncPlace::JsonText(column) => {
            columns.place(column).map_or((MetaPlace::None, true), |place| (MetaPlace::Object(place), false))
        }
        each @ SyncPlace::Columns { .. } => {
            columns.place_parts(&each.columns().map(Option::<&Column>::cloned))
        }
    }
}

/// The columns of a table that are known by their position in it; what a column's path names inside it is JSON.
pub(super) struct Positions<F> {
    position: F,
    slots: Vec<usize>,
    missing: BTreeSet<String>,
}

impl<F: Fn(&str) -> Option<usize>> Positions<F> {
    pub(super) fn new(position: F) -> Self {
        Self { position, slots: Vec::new(), missing: BTreeSet::new() }
    }

    /// The positions of the columns that are read, each once, and the names of those that are missing.
    pub(super) fn done(self) -> (Vec<usize>, Vec<String>) {
        (self.slots, self.missing.into_iter().collect())
    }
}

impl<F: Fn(&str) -> Option<usize>> Lookup for Positions<F> {
    fn place(&mut self, column: &Column) -> Option<Place> {
        let Some(position) = (self.position)(column.head()) else {
            self.missing.insert(column.head().to_owned());
            return None;
        };
        let slot = self.slots.iter().position(|known| *known == position).unwrap_or_else(|| {
            self.slots.push(position);
            self.slots.len() - 1
        });
        Some(Place { slot, path: column.0.iter().skip(1).cloned().collect() })
    }
}

/// What is said of a table that lacks a column of the key.
pub(super) fn no_key_column(store: &StoreName, title: &str, column: &Column) -> StoreError {
    let message = format!("`{title}` has no column `{column}`, which its key needs");
    StoreError::new(ErrorKind::NotFound, store, message)
        .hint("check the mapping's key; a key's column is only made together with its table")
}

/// The columns of one row, as a store has them.
pub(super) trait Columns {
    /// What stands in a column.
    fn whole(&self, slot: usize, ty: FieldType, form: Form) -> Native;

    /// The JSON that stands in a column, null where nothing does; none: it is no JSON.
    fn json(&self, slot: usize) -> Option<Json>;
}

/// A row under reading. The JSON inside columns is parsed once, and only where a path leads into it.
pub(super) struct Inner<C> {
    columns: C,
    parsed: BTreeMap<usize, Option<Json>>,
}

impl<C: Columns> Inner<C> {
    pub(super) fn new(columns: C) -> Self {
        Self { columns, parsed: BTreeMap::new() }
    }

    /// The value at a place inside a column.
    fn at(&mut self, place: &Place) -> Result<Option<&Json>, ()> {
        let columns = &self.columns;
        let json = self.parsed.entry(place.slot).or_insert_with(|| columns.json(place.slot));
        let Some(json) = json else { return Err(()) };
        let mut json = Some(&*json);
        for name in &place.path {
            json = json.and_then(|json| json.get(name));
        }
        Ok(json)
    }

    /// What stands at a place, as a column of its own would hold it; where the column around it holds no JSON, that column.
    fn native(&mut self, place: &Place, ty: FieldType, form: Form) -> Result<Native, Native> {
        if place.path.is_empty() {
            return Ok(self.columns.whole(place.slot, ty, form));
        }
        match self.at(place) {
            Ok(json) => Ok(inner_native(json, ty, form)),
            Err(()) => Err(self.columns.whole(place.slot, ty, form)),
        }
    }

    /// A field.
    pub(super) fn cell(&mut self, field: &FieldPlace, zone: &TimeZone) -> Cell {
        match self.native(&field.place, field.ty, field.form) {
            Ok(native) => decode(&native, field.ty, field.form, zone)
                .map_or_else(|error| unreadable(&native, error.0), Cell::Value),
            Err(whole) => unreadable(&whole, "the column around it holds no JSON".to_owned()),
        }
    }

    /// A time, where there is one that can be read.
    fn time(&mut self, place: Option<&Place>, zone: &TimeZone) -> Option<Timestamp> {
        let native = self.native(place?, FieldType::Timestamp, Form::Native).ok()?;
        match decode(&native, FieldType::Timestamp, Form::Native, zone) {
            Ok(Value::Time(time)) => Some(time),
            _ => None,
        }
    }

    /// The times of creation and of the last update.
    pub(super) fn times(
        &mut self,
        places: &Places,
        zone: &TimeZone,
    ) -> (Option<Timestamp>, Option<Timestamp>) {
        (self.time(places.created.as_ref(), zone), self.time(places.updated.as_ref(), zone))
    }

    /// The whole row, whose fields are read already.
    pub(super) fn row(
        mut self,
        places: &Places,
        zone: &TimeZone,
        key: RecordKey,
        fields: Fields<Cell>,
    ) -> Row {
        let (created, updated) = self.times(places, zone);
        let meta = self.meta(&places.meta, zone);
        Row { key, store_id: None, fields, meta, created, updated, unlinked: false }
    }

    /// The sync metadata; what cannot be read of it is not there.
    fn meta(&mut self, meta: &MetaPlace, zone: &TimeZone) -> SyncMeta {
        match meta {
            MetaPlace::None => SyncMeta::default(),
            MetaPlace::Object(place) => match self.at(place) {
                Ok(Some(Json::Object(object))) => sync::from_object(object, zone),
                // An object kept as text inside the JSON of its column.
                Ok(Some(Json::String(text))) => serde_json::from_str(text)
                    .map(|object| sync::from_object(&object, zone))
                    .unwrap_or_default(),
                _ => SyncMeta::default(),
            },
            MetaPlace::Parts(places) => {
                let mut parts: [Json; 6] = Default::default();
                for (at, (part, place)) in parts.iter_mut().zip(places).enumerate() {
                    let Some(place) = place else { continue };
                    let is_list = at >= sync::FIRST_LIST;
                    let ty = if is_list { FieldType::Json } else { FieldType::String };
                    *part = match self.native(place, ty, Form::Native) {
                        Ok(Native::Text(text)) if is_list => serde_json::from_str(&text).unwrap_or_default(),
                        Ok(Native::Blob(_)) | Err(_) => Json::Null,
                        Ok(native) => native_json(&native),
                    };
                }
                sync::from_parts(&parts, zone)
            }
        }
    }
}
