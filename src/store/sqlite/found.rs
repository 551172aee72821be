//! What tables a file has, for those who have yet to map them.

use rusqlite::Connection;
use rusqlite::types::Value;

use jiff::tz::TimeZone;

use crate::model::{FieldType, Form, FoundColumn, FoundTable, Native, decode};

use super::native::quoted;

/// Values of a column that are looked at to tell what it is for.
const SAMPLE: u32 = 100;

/// The tables of a file, but for those that `SQLite` and its extensions keep for themselves.
pub(super) fn tables(connection: &mut Connection) -> rusqlite::Result<Vec<FoundTable>> {
    // One transaction: all tables as they are at one time.
    let transaction = connection.transaction()?;
    let names: Vec<String> = transaction
        .prepare(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' \
             AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    names.into_iter().map(|name| table(&transaction, name)).collect()
}

/// What refers to anything but another table's key refers to no record.
fn table(connection: &Connection, name: String) -> rusqlite::Result<FoundTable> {
    let mut key: Vec<(i64, String)> = Vec::new();
    let mut statement = connection.prepare_cached(
        "SELECT c.name, c.type, c.\"notnull\" OR c.pk > 0, c.pk, c.hidden, \
           EXISTS (SELECT 1 FROM pragma_index_list(?1, 'main') AS i WHERE i.\"unique\" AND NOT i.partial AND i.origin <> 'pk' \
             AND (SELECT count(*) FROM pragma_index_info(i.name, 'main')) = 1 \
             AND (SELECT name FROM pragma_index_info(i.name, 'main')) = c.name), \
           (SELECT f.\"table\" FROM pragma_foreign_key_list(?1, 'main') AS f WHERE f.\"from\" = c.name \
             AND (SELECT count(*) FROM pragma_foreign_key_list(?1, 'main') AS g WHERE g.id = f.id) = 1 \
             AND (f.\"to\" IS NULL OR f.\"to\" COLLATE NOCASE = \
               (SELECT iif(count(*) = 1, max(k.name), '') FROM pragma_table_xinfo(f.\"table\", 'main') AS k WHERE k.pk > 0)) LIMIT 1) \
         FROM pragma_table_xinfo(?1, 'main') AS c WHERE c.hidden <> 1 ORDER BY c.cid",
    )?;
    let columns = statement.query_map([&name], |row| {
        let (column, place): (String, i64) = (row.get(0)?, row.get(3)?);
        if place > 0 {
            key.push((place, column.clone()));
        }
        Ok(FoundColumn {
            path: vec![column],
            ty: field_type(&row.get::<_, String>(1)?),
            loose: true,
            required: row.get(2)?,
            unique: row.get(5)?,
            computed: row.get::<_, i64>(4)? != 0,
            references: row.get(6)?,
        })
    })?;
    let mut columns = columns.collect::<rusqlite::Result<Vec<FoundColumn>>>()?;
    for column in &mut columns {
        if let Some(ty) = by_values(connection, &name, column)? {
            column.ty = ty;
        }
    }
    key.sort();
    Ok(FoundTable { name, key: key.into_iter().map(|(_, column)| column).collect(), columns })
}

/// What a column is for, by the type that it was declared with: `SQLite` itself takes that as no more than a hint.
fn field_type(declared: &str) -> FieldType {
    let declared = declared.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
    if has(&["BOOL"]) {
        FieldType::Bool
    } else if has(&["JSON"]) {
        FieldType::Json
    } else if has(&["DATETIME", "TIMESTAMP"]) {
        FieldType::Timestamp
    } else if declared == "DATE" {
        FieldType::Date
    } else if has(&["INT"]) {
        FieldType::Int64
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        FieldType::Float64
    } else if has(&["NUMERIC", "DECIMAL"]) {
        FieldType::Numeric
    } else {
        FieldType::String
    }
}

/// What the values of a column of texts or numbers say that it is for: all of some of them are dates, times, JSON, or truths.
fn by_values(
    connection: &Connection,
    table: &str,
    column: &FoundColumn,
) -> rusqlite::Result<Option<FieldType>> {
    if !matches!(column.ty, FieldType::String | FieldType::Int64) {
        return Ok(None);
    }
    let title = column.title();
    let name = quoted(&title);
    let sql =
        format!("SELECT t.{name} FROM main.{} AS t WHERE t.{name} IS NOT NULL LIMIT {SAMPLE}", quoted(table));
    let mut statement = connection.prepare(&sql)?;
    // A text that is none stands for a value that says nothing.
    let values = statement
        .query_map([], |row| row.get(0).or(Ok(Value::Null)))?
        .collect::<rusqlite::Result<Vec<Value>>>()?;
    if values.is_empty() {
        return Ok(None);
    }
    if column.ty == FieldType::Int64 {
        // A number that is 0 or 1 in all rows is a truth only where its name asks a question.
        let asks = ["is", "has"].iter().any(|word| title.to_ascii_lowercase().starts_with(word));
        let truths = values.iter().all(|value| matches!(value, Value::Integer(0 | 1)));
        return Ok((asks && truths).then_some(FieldType::Bool));
    }
    let texts: Option<Vec<Native>> = values
        .into_iter()
        .map(|value| match value {
            Value::Text(text) => Some(Native::Text(text)),
            _ => None,
        })
        .collect();
    let Some(texts) = texts else { return Ok(None) };
    let all = |ty: FieldType| texts.iter().all(|text| decode(text, ty, Form::Native, &TimeZone::UTC).is_ok());
    // A number or a text in quotes is JSON as well, and seldom meant so.
    let bracketed = texts
        .iter()
        .all(|text| matches!(text, Native::Text(text) if text.trim_start().starts_with(['{', '['])));
    Ok([FieldType::Date, FieldType::Timestamp]
        .into_iter()
        .find(|ty| all(*ty))
        .or_else(|| (bracketed && all(FieldType::Json)).then_some(FieldType::Json)))
}
