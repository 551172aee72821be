//! What a kind of store can never do, whatever is in it: names that it does not take, and places that it does not have. Said before any
//! store is contacted.

use super::coverage::Checker;
use super::mapping::Mappings;
use crate::model::{Column, Diagnostic, Diagnostics, Shape, SyncPlace, TableName};
use crate::spec::StoreKind;

/// The longest name that Postgres has, in bytes. It cuts longer ones without a word.
const LONGEST_IN_POSTGRES: usize = 63;

/// Refuses what a store cannot do of one mapping. Columns of entities that stand inside this one's objects are checked along with its own.
pub(super) fn check(checker: &Checker<'_>, kind: &StoreKind, mappings: &Mappings, out: &mut Diagnostics) {
    let mapping = checker.mapping;
    let mut refuse = |steps: &[&str], found: Diagnostic| out.push(found.at(checker.place(steps)));
    match &mapping.shape {
        Shape::Embedded(_) => return,
        Shape::Table(table) => {
            if let Some(found) = table_refused(kind, table) {
                refuse(&["table"], found);
            }
        }
        Shape::Object(name) => {
            if let Some(found) = name_refused(kind, name) {
                refuse(&["object"], found);
            }
        }
    }
    let keys_are_columns = matches!(kind, StoreKind::Postgres { .. } | StoreKind::BigQuery(_));
    for (part, place) in checker.entity.key.iter().zip(&mapping.key) {
        if keys_are_columns && place.column.0.len() > 1 {
            let message = format!("`{}`, a part of the key, cannot stand inside another column", part.name);
            let found = Diagnostic::error(message).hint("give it a column of its own");
            refuse(&["key", part.name.as_str()], found);
        }
    }
    for (what, steps, path) in checker.all_columns().into_iter().chain(checker.embedded_columns(mappings)) {
        if let Some(found) = column_refused(kind, &Column(path)) {
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            refuse(&steps, Diagnostic { message: format!("{what}: {}", found.message), ..found });
        }
    }
    if matches!(kind, StoreKind::Twenty { .. })
        && !matches!(mapping.sync, SyncPlace::None | SyncPlace::JsonText(_))
    {
        let found = Diagnostic::error("sync metadata stands in one text field in Twenty");
        refuse(&["sync"], found.hint("write `sync: {json-text: syncMetadata}`"));
    }
}

/// Why a store has no such table.
fn table_refused(kind: &StoreKind, table: &TableName) -> Option<Diagnostic> {
    let schema = table.schema.as_deref().unwrap_or_default();
    match kind {
        StoreKind::Sqlite { .. } if table.name.to_ascii_lowercase().starts_with("sqlite_") => {
            let found = Diagnostic::error("tables whose names begin with `sqlite_` are SQLite's own");
            Some(found.hint("use another table"))
        }
        StoreKind::Postgres { .. } if schema.starts_with("pg_") || schema == "information_schema" => {
            let found = Diagnostic::error(format!("the tables of `{schema}` are Postgres's own"));
            Some(found.hint("use another schema"))
        }
        _ => table.schema.iter().chain([&table.name]).find_map(|name| name_refused(kind, name)),
    }
}

/// Why a store has no such column.
fn column_refused(kind: &StoreKind, column: &Column) -> Option<Diagnostic> {
    if matches!(kind, StoreKind::Twenty { .. }) && column.0.len() > 2 {
        let found = Diagnostic::error(format!("`{column}` leads too deep"));
        return Some(found.hint("Twenty's fields have parts, and those have none"));
    }
    name_refused(kind, column.head())
}

/// Whether a store can have something of this name.
pub(in crate::spec) fn takes(kind: &StoreKind, name: &str) -> bool {
    name_refused(kind, name).is_none()
}

/// Why a store has nothing of this name.
fn name_refused(kind: &StoreKind, name: &str) -> Option<Diagnostic> {
    let is_small_letter = |first: char| first.is_ascii_lowercase();
    match kind {
        StoreKind::Postgres { .. } if name.len() > LONGEST_IN_POSTGRES => {
            let found = format!(
                "Postgres has names of at most {LONGEST_IN_POSTGRES} bytes, and `{name}` has {}",
                name.len()
            );
            Some(Diagnostic::error(found).hint("use a shorter one"))
        }
        StoreKind::BigQuery(_)
            if !name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '-')) =>
        {
            Some(
                Diagnostic::error(format!("BigQuery has no name `{name}`"))
                    .hint("use letters, digits and `_`"),
            )
        }
        StoreKind::Twenty { .. }
            if !name.starts_with(is_small_letter)
                || !name.chars().all(|char| char.is_ascii_alphanumeric()) =>
        {
            let hint = "use letters and digits, beginning with a small letter: `contactId`";
            Some(Diagnostic::error(format!("Twenty has no name `{name}`")).hint(hint))
        }
        _ => None,
    }
}
