//! The SQL that prepares a store for its mappings, from the manifests alone: for people who run their statements themselves.
//!
//! What a store has already stays as it is. Columns are added without a default: one that filled existing rows would be an edit of
//! all of them.

use std::fmt::Write as _;

use crate::model::{
    Column, ErrorKind, FieldType, Form, Mapped, Shape, StoreError, StoreName, SyncPlace, TableName,
};

use super::{postgres, sqlite, sync};

/// Whose SQL it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialect {
    /// `BigQuery`'s, with the dataset of tables that name none.
    BigQuery {
        /// The dataset.
        dataset: String,
    },
    /// `PostgreSQL`'s, with the schema of tables that name none.
    Postgres {
        /// The schema.
        schema: String,
    },
    /// `SQLite`'s.
    Sqlite,
}

/// The statements that prepare a store, as a file.
///
/// # Errors
/// When an entity has no table there.
pub fn script(dialect: &Dialect, store: &StoreName, mapped: &[Mapped]) -> Result<String, StoreError> {
    let (statements, advice) = match dialect {
        Dialect::BigQuery { dataset } => (bigquery(store, dataset, mapped)?, AGAIN),
        Dialect::Postgres { schema } => (postgres::script(store, schema, mapped)?, AGAIN),
        Dialect::Sqlite => (sqlite::script(store, mapped)?, TABLES),
    };
    let mut text = format!(
        "-- What the store `{store}` needs, from its manifests; made by `trueup schema --sql`.\n{advice}\n"
    );
    for statement in statements {
        let begins = statement.starts_with("CREATE TABLE");
        let _ = write!(text, "{}{statement};\n", if begins { "\n" } else { "" });
    }
    Ok(text)
}

const AGAIN: &str = "-- Adds what is missing, drops and rewrites nothing, and may be run again.";
const TABLES: &str = "-- Adds tables that are missing, and may be run again. Columns missing from tables that are there: `trueup migrate`.";

fn bigquery(store: &StoreName, dataset: &str, mapped: &[Mapped]) -> Result<Vec<String>, StoreError> {
    let mut statements = vec![format!("CREATE SCHEMA IF NOT EXISTS {}", tick(dataset))];
    for one in mapped {
        let Shape::Table(TableName { schema, name }) = &one.mapping.shape else {
            let message = format!("`{}` has no table there", one.name());
            return Err(StoreError::new(ErrorKind::Unsupported, store, message));
        };
        let table = format!("{}.{}", tick(schema.as_deref().unwrap_or(dataset)), tick(name));
        let keys = one.mapping.key.iter().zip(&one.entity.key).map(|(part, known)| {
            format!("{} {} NOT NULL", tick(part.column.head()), bigquery_type(known.ty, part.form))
        });
        let keys: Vec<String> = keys.collect();
        let clustered: Vec<String> =
            one.mapping.key.iter().take(4).map(|part| tick(part.column.head())).collect();
        statements.push(format!(
            "CREATE TABLE IF NOT EXISTS {table} ({}) CLUSTER BY {}",
            keys.join(", "),
            clustered.join(", ")
        ));
        // One statement: the service takes few changes of a table in a short time.
        let columns: Vec<String> = bigquery_columns(one)
            .into_iter()
            .map(|(column, declared)| format!("ADD COLUMN IF NOT EXISTS {} {declared}", tick(&column)))
            .collect();
        if !columns.is_empty() {
            statements.push(format!("ALTER TABLE {table}\n  {}", columns.join(",\n  ")));
        }
    }
    Ok(statements)
}

/// The columns besides the key's, each once, with their types.
fn bigquery_columns(mapped: &Mapped) -> Vec<(String, String)> {
    let mapping = &mapped.mapping;
    let mut wanted: Vec<(String, String)> = Vec::new();
    let is_key = |name: &str| mapping.key.iter().any(|part| part.column.head().eq_ignore_ascii_case(name));
    let mut want = |column: &Column, declared: &str| {
        let name = column.head();
        // A column with a path into it holds JSON.
        let declared = if column.0.len() > 1 { "JSON" } else { declared };
        if !is_key(name) && !wanted.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            wanted.push((name.to_owned(), declared.to_owned()));
        }
    };
    for (id, field) in &mapping.fields {
        let ty = mapped.entity.fields.get(id.index()).map_or(FieldType::String, |field| field.ty);
        want(&field.column, bigquery_type(ty, field.form));
    }
    for column in mapping.created.iter().chain(&mapping.updated) {
        want(column, "TIMESTAMP");
    }
    match &mapping.sync {
        SyncPlace::None => {}
        SyncPlace::Json(column) => want(column, "JSON"),
        SyncPlace::JsonText(column) => want(column, "STRING"),
        SyncPlace::Struct(column) => {
            let parts = sync::PARTS.map(|part| format!("{} {}", tick(part), bigquery_part(part)));
            want(column, &format!("STRUCT<{}>", parts.join(", ")));
        }
        place @ SyncPlace::Columns { .. } => {
            for (name, column) in sync::PARTS.into_iter().zip(sync::part_columns(place)) {
                if let Some(column) = column {
                    want(column, bigquery_part(name));
                }
            }
        }
    }
    wanted
}

/// The type of a part of the sync metadata.
fn bigquery_part(part: &str) -> &'static str {
    match part {
        "version" => "INT64",
        "last_updated" => "TIMESTAMP",
        "source_systems" => "ARRAY<STRING>",
        "sync_errors" => {
            "ARRAY<STRUCT<`at` TIMESTAMP, `store` STRING, `field` STRING, `rule` STRING, `message` STRING>>"
        }
        _ => "STRING",
    }
}

fn bigquery_type(ty: FieldType, form: Form) -> &'static str {
    match (form, ty) {
        (Form::Int64 | Form::UnixSeconds | Form::UnixMillis | Form::UnixMicros, _)
        | (Form::Native, FieldType::Int64) => "INT64",
        (Form::Text | Form::JsonText, _) | (Form::Native, FieldType::String) => "STRING",
        (Form::Native, FieldType::Float64) => "FLOAT64",
        (Form::Native, FieldType::Numeric) => "NUMERIC",
        (Form::Native, FieldType::Bool) => "BOOL",
        (Form::Native, FieldType::Date) => "DATE",
        (Form::Native, FieldType::Timestamp) => "TIMESTAMP",
        (Form::Native, FieldType::Json) => "JSON",
        (Form::Native, FieldType::StringList) => "ARRAY<STRING>",
    }
}

/// A name as `BigQuery` has it. Between backticks a backslash and a backtick are written with a backslash.
fn tick(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}
