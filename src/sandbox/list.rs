//! Listings: pages in an order, from a cursor on, with the traps that the real server has.
//!
//! The default order, by id, is the only one that never loses rows: a cursor says where a page ended by the value of the ordering
//! field, and comparing with NULL finds nothing.

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, params_from_iter};
use serde_json::{Value, json};

use super::answer::{Out, Refusal};
use super::filter::Filter;
use super::schema::{Column, Kind, Object};
use super::value;

/// An order by a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub column: Column,
    pub ascending: bool,
    pub nulls_first: bool,
}

impl Order {
    /// By the name of a field and of a direction: `AscNullsFirst` and so on.
    pub(super) fn new(object: &Object, path: &str, direction: &str) -> Result<Self, Refusal> {
        let column = object.columns().into_iter().find(|column| column.name == path);
        let column = column.filter(|column| !matches!(column.kind, Kind::Json | Kind::List));
        let column = column.ok_or_else(|| {
            Refusal::bad(format!("Invalid order: {} cannot be ordered by \"{path}\"", object.singular))
        })?;
        let (ascending, nulls_first) = match direction {
            "AscNullsFirst" => (true, true),
            "AscNullsLast" => (true, false),
            "DescNullsFirst" => (false, true),
            "DescNullsLast" => (false, false),
            _ => return Err(Refusal::bad(format!("Invalid order direction \"{direction}\""))),
        };
        Ok(Self { column, ascending, nulls_first })
    }
}

/// What to list.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    pub filter: Option<Filter>,
    pub order: Option<Order>,
    pub first: u32,
    pub after: Option<String>,
}

/// A page of a listing.
#[derive(Debug)]
pub(super) struct Page {
    pub rows: Vec<Out>,
    pub cursors: Vec<String>,
    pub total: i64,
    pub has_next: bool,
    pub has_previous: bool,
}

impl Page {
    /// `pageInfo`.
    pub(super) fn info(&self) -> [(&'static str, Value); 4] {
        [
            ("startCursor", json!(self.cursors.first())),
            ("endCursor", json!(self.cursors.last())),
            ("hasNextPage", json!(self.has_next)),
            ("hasPreviousPage", json!(self.has_previous)),
        ]
    }
}

/// Lists the records that a query means.
pub(super) fn list(db: &Connection, object: &Object, query: &Query) -> Result<Page, Refusal> {
    let mut values = Vec::new();
    let mut conditions = vec![condition(query.filter.as_ref(), &mut values)];
    let table = object.table();
    let total: i64 = db
        .prepare_cached(&format!("SELECT count(*) FROM {table} WHERE {}", conditions[0]))?
        .query_row(params_from_iter(&values), |row| row.get(0))?;
    let named = query.order.as_ref().map(|order| order.column.name.as_str());
    if let Some(cursor) = &query.after {
        conditions.push(beyond(query.order.as_ref(), cursor, &mut values)?);
    }
    let order = query.order.as_ref().map_or_else(String::new, |order| {
        let direction = if order.ascending { "ASC" } else { "DESC" };
        let nulls = if order.nulls_first { "FIRST" } else { "LAST" };
        format!("\"{}\" {direction} NULLS {nulls}, ", order.column.name)
    });
    let sql = format!(
        "SELECT {} FROM {table} WHERE {} ORDER BY {order}\"id\" LIMIT {}",
        selected(object),
        conditions.join(" AND "),
        u64::from(query.first) + 1
    );
    let mut rows = read_all(db, object, &sql, &values)?;
    let has_next = rows.len() > query.first as usize;
    rows.truncate(query.first as usize);
    let cursors = rows.iter().map(|row| cursor(row, named)).collect();
    Ok(Page { rows, cursors, total, has_next, has_previous: query.after.is_some() })
}

/// The rows that a filter means. Soft-deleted ones only when it names `deletedAt`.
pub(super) fn condition(filter: Option<&Filter>, values: &mut Vec<Sql>) -> String {
    match filter {
        Some(filter) if filter.names_deleted() => filter.sql(values),
        Some(filter) => format!("\"deletedAt\" IS NULL AND {}", filter.sql(values)),
        None => "\"deletedAt\" IS NULL".to_owned(),
    }
}

/// The columns of an object for a SELECT.
pub(super) fn selected(object: &Object) -> String {
    let names: Vec<String> = object.columns().iter().map(|column| format!("\"{}\"", column.name)).collect();
    names.join(", ")
}

/// The records that a SELECT of an object's columns gives.
pub(super) fn read_all(
    db: &Connection,
    object: &Object,
    sql: &str,
    values: &[Sql],
) -> Result<Vec<Out>, Refusal> {
    let mut statement = db.prepare_cached(sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut read = Vec::new();
    while let Some(row) = rows.next()? {
        read.push(record(object, row)?);
    }
    Ok(read)
}

/// A record as it reads back.
fn record(object: &Object, row: &rusqlite::Row<'_>) -> Result<Out, Refusal> {
    let mut entries = Vec::new();
    let mut at = 0;
    for field in &object.fields {
        let columns = field.columns();
        let mut values = Vec::new();
        for column in columns {
            let value = value::read(column.kind, row.get_ref(at)?)?;
            at += 1;
            values.push((column.name, value));
        }
        if field.kind.parts().is_empty() {
            entries.extend(values);
        } else {
            let skip = field.name.len() + 1;
            let parts = values.into_iter().map(|(name, value)| (name[skip..].to_owned(), value));
            entries.push((field.name.clone(), Out::Object(parts.collect())));
        }
    }
    Ok(Out::Object(entries))
}

/// Where a row stands in an order, as a client gives it back.
fn cursor(row: &Out, ordered_by: Option<&str>) -> String {
    let id = row.get("id").and_then(Out::as_text).unwrap_or_default();
    let mut place = json!({"id": id});
    if let Some(path) = ordered_by {
        let found = path.split('.').try_fold(row, |at, part| at.get(part));
        place["value"] = match found {
            // Empty text is NULL in the table.
            Some(Out::Plain(value)) if value.as_str() != Some("") => value.clone(),
            _ => Value::Null,
        };
    }
    value::hex(place.to_string().as_bytes())
}

/// The condition for rows behind a cursor.
fn beyond(order: Option<&Order>, cursor: &str, values: &mut Vec<Sql>) -> Result<String, Refusal> {
    let invalid = || Refusal::bad("Invalid cursor: take one from an answer in the same order");
    let bytes: Option<Vec<u8>> = (cursor.is_ascii() && cursor.len().is_multiple_of(2))
        .then(|| {
            (0..cursor.len()).step_by(2).map(|at| u8::from_str_radix(&cursor[at..at + 2], 16).ok()).collect()
        })
        .flatten();
    let place: Value = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(invalid)?;
    let id = place["id"].as_str().ok_or_else(invalid)?;
    let mut added = |value: Sql| {
        values.push(value);
        format!("?{}", values.len())
    };
    let id = Sql::Text(value::uuid(id).map_err(|_| invalid())?.to_owned());
    let Some(order) = order else {
        if place.get("value").is_some() {
            return Err(invalid());
        }
        return Ok(format!("\"id\" > {}", added(id)));
    };
    let value = place.get("value").ok_or_else(invalid)?;
    let value = if value.is_null() {
        Sql::Null
    } else {
        value::compared(&order.column, value).map_err(|_| invalid())?
    };
    let name = &order.column.name;
    let sign = if order.ascending { '>' } else { '<' };
    let value = added(value);
    // The real server keeps microseconds and its cursors milliseconds, so rows within one millisecond are passed over.
    if order.column.kind == Kind::Time {
        return Ok(format!("\"{name}\" {sign} {value}"));
    }
    let id = added(id);
    Ok(format!("(\"{name}\" {sign} {value} OR (\"{name}\" = {value} AND \"id\" > {id}))"))
}
