//! Reads: rows into canonical form, and rows by key.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Row as SqlRow};
use serde_json::Value as Json;

use crate::model::{Cell, FieldType, Fields, Form, Guard, Mapped, Native, RecordKey, Row, canonical_integer};

use super::super::guard_holds;
use super::super::inside::read_cell;
use super::super::places::{Columns, Inner};
use super::layout::{Affinity, FieldPlace, Layout};
use super::native::{native, native_json, quoted};

/// Keys a query: with two parameters a key this is well below `SQLite`'s limit of 32,766.
const KEYS_PER_QUERY: usize = 1000;
/// Keys of several parts a query: a chain of as many conditions, below the limit of 1,000 for the depth of an expression.
const CHAIN_PER_QUERY: usize = 400;

/// A row found by its key, with what is needed to write it.
pub(super) struct Found {
    /// The row's number, in tables that have one.
    pub(super) rowid: Option<i64>,
    key: RecordKey,
    /// The columns that are read, as they stand.
    pub(super) natives: Vec<Native>,
}

impl Found {
    /// The row in canonical form.
    pub(super) fn row(&self, layout: &Layout, mapped: &Mapped) -> Row {
        layout.read_row(mapped, self.key.clone(), &self.natives)
    }

    /// Whether the row still is what a guard says.
    pub(super) fn is_as(&self, guard: &Guard, layout: &Layout, mapped: &Mapped) -> bool {
        let guarded = |field: &FieldPlace| guard.fields.contains_key(&field.id);
        guard_holds(guard, &layout.read_some(mapped, self.key.clone(), &self.natives, guarded, |_| None))
    }
}

/// The columns of a row.
struct Natives<'a>(&'a [Native]);

impl Columns for Natives<'_> {
    fn whole(&self, slot: usize, _: FieldType, _: Form) -> Native {
        self.0.get(slot).cloned().unwrap_or(Native::Null)
    }

    fn json(&self, slot: usize) -> Option<Json> {
        match self.0.get(slot) {
            None | Some(Native::Null) => Some(Json::Null),
            Some(Native::Text(text)) => serde_json::from_str(text).ok(),
            Some(_) => None,
        }
    }
}

impl Layout {
    /// The key of a row whose columns are these; none where a part is null or is no key of its type.
    pub(super) fn read_key(
        &self,
        mapped: &Mapped,
        mut column: impl FnMut(usize) -> Option<Native>,
    ) -> Option<RecordKey> {
        let mut parts = Vec::with_capacity(self.key.len());
        for (place, part) in self.key.iter().zip(&mapped.entity.key) {
            parts.push(match column(place.slot)? {
                Native::Integer(number) => number.to_string(),
                Native::Text(text) if part.ty != FieldType::Int64 || canonical_integer(&text).is_some() => {
                    text
                }
                Native::Text(_) | Native::Null | Native::Real(_) | Native::Blob(_) => return None,
            });
        }
        Some(RecordKey::new(parts))
    }

    /// A row in canonical form.
    pub(super) fn read_row(&self, mapped: &Mapped, key: RecordKey, natives: &[Native]) -> Row {
        self.read_some(mapped, key, natives, |_| true, |_| None)
    }

    /// A row with some of its fields, of which some are known.
    pub(super) fn read_some(
        &self,
        mapped: &Mapped,
        key: RecordKey,
        natives: &[Native],
        wanted: impl Fn(&FieldPlace) -> bool,
        known: impl Fn(&FieldPlace) -> Option<Cell>,
    ) -> Row {
        let zone = &mapped.mapping.timezone;
        let mut inner = Inner::new(Natives(natives));
        let mut fields = Fields::new();
        for field in self.places.fields.iter().filter(|field| wanted(field)) {
            let cell = if let Some(known) = known(field) {
                known
            } else if field.place.path.is_empty() {
                read_cell(natives.get(field.place.slot).unwrap_or(&Native::Null), field.ty, field.form, zone)
            } else {
                inner.cell(field, zone)
            };
            fields.insert(field.id, cell);
        }
        inner.row(&self.places, zone, key, fields)
    }

    /// The columns that are read, out of a row of a query whose first columns they are.
    fn natives(&self, row: &SqlRow<'_>) -> rusqlite::Result<Vec<Native>> {
        (0..self.slots.len()).map(|slot| row.get_ref(slot).map(native)).collect()
    }
}

/// Finds rows by key. Several rows of one key are all there.
pub(super) fn find(
    connection: &Connection,
    layout: &Layout,
    mapped: &Mapped,
    keys: &BTreeSet<&RecordKey>,
) -> rusqlite::Result<BTreeMap<RecordKey, Vec<Found>>> {
    let rowid = layout.info.rowid.map_or(String::new(), |name| format!(", t.{name}"));
    let select = format!("{}{rowid}", layout.select_list());
    let mut found: BTreeMap<RecordKey, Vec<Found>> = BTreeMap::new();
    visit_rows(connection, layout, &select, keys, |row| {
        let natives = layout.natives(row)?;
        // The comparison in SQL takes more than the key itself where a column folds case or turns texts into numbers.
        let key = layout.read_key(mapped, |slot| natives.get(slot).cloned());
        let Some(key) = key.filter(|key| keys.contains(key)) else { return Ok(()) };
        let rowid = layout.info.rowid.map(|_| row.get(layout.slots.len())).transpose()?;
        found.entry(key.clone()).or_default().push(Found { rowid, key, natives });
        Ok(())
    })?;
    Ok(found)
}

/// Rows whole, as JSON objects by column name. Of several rows of one key the first.
pub(super) fn find_whole(
    connection: &Connection,
    layout: &Layout,
    mapped: &Mapped,
    keys: &BTreeSet<&RecordKey>,
) -> rusqlite::Result<BTreeMap<RecordKey, Json>> {
    let all = layout.info.columns.iter().map(|column| format!("t.{}", quoted(&column.name)));
    let select = std::iter::once(layout.select_list()).chain(all).collect::<Vec<_>>().join(", ");
    let mut found = BTreeMap::new();
    visit_rows(connection, layout, &select, keys, |row| {
        let key = layout.read_key(mapped, |slot| row.get_ref(slot).ok().map(native));
        let Some(key) = key.filter(|key| keys.contains(key)) else { return Ok(()) };
        let mut object = serde_json::Map::new();
        for (at, column) in layout.info.columns.iter().enumerate() {
            let value = native(row.get_ref(layout.slots.len() + at)?);
            object.insert(column.name.clone(), native_json(&value));
        }
        found.entry(key).or_insert(Json::Object(object));
        Ok(())
    })?;
    Ok(found)
}

fn visit_rows(
    connection: &Connection,
    layout: &Layout,
    select: &str,
    keys: &BTreeSet<&RecordKey>,
    mut visit: impl FnMut(&SqlRow<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let keys: Vec<&RecordKey> =
        keys.iter().copied().filter(|key| key.parts().len() == layout.key.len()).collect();
    let size = if layout.key.len() == 1 { KEYS_PER_QUERY } else { CHAIN_PER_QUERY };
    for chunk in keys.chunks(size) {
        let (condition, values) = key_condition(layout, chunk);
        let sql = format!("SELECT {select} FROM {} AS t WHERE {condition}", layout.table);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query(rusqlite::params_from_iter(&values))?;
        while let Some(row) = rows.next()? {
            visit(row)?;
        }
    }
    Ok(())
}

/// A condition that the rows of some keys fulfil (and perhaps some others: the caller looks again), such that an index on the
/// key's columns serves it.
fn key_condition(layout: &Layout, keys: &[&RecordKey]) -> (String, Vec<Native>) {
    let mut values = Vec::new();
    if let [place] = layout.key.as_slice() {
        let affinity = layout.column(place.slot).map_or(Affinity::None, |column| column.affinity);
        for key in keys {
            values.extend(key.parts().iter().flat_map(|part| alternatives(part, affinity)));
        }
        return (format!("{} IN ({})", layout.qualified(place.slot), placeholders(values.len())), values);
    }
    let mut terms = Vec::with_capacity(keys.len());
    for key in keys {
        let mut parts = Vec::with_capacity(layout.key.len());
        for (place, part) in layout.key.iter().zip(key.parts()) {
            let affinity = layout.column(place.slot).map_or(Affinity::None, |column| column.affinity);
            let alternatives = alternatives(part, affinity);
            parts.push(format!("{} IN ({})", layout.qualified(place.slot), placeholders(alternatives.len())));
            values.extend(alternatives);
        }
        terms.push(format!("({})", parts.join(" AND ")));
    }
    (terms.join(" OR "), values)
}

/// How the part of a key may stand in a column: as text, or as a number where the column keeps both apart.
fn alternatives(part: &str, affinity: Affinity) -> Vec<Native> {
    let text = Native::Text(part.to_owned());
    match part.parse::<i64>() {
        Ok(number) if affinity != Affinity::Text => vec![text, Native::Integer(number)],
        _ => vec![text],
    }
}

fn placeholders(count: usize) -> String {
    vec!["?"; count].join(", ")
}
