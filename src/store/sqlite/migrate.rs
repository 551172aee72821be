//! Tables and columns that mappings need. They are added; nothing is ever dropped or rewritten.

use std::collections::BTreeSet;

use rusqlite::{Connection, TransactionBehavior};

use crate::model::{
    Column, Diagnostic, ErrorKind, FieldType, Form, Mapped, Shape, StoreError, StoreName, SyncPlace,
};

use super::super::{MigrationStep, form_suits, sync};
use super::SqliteStore;
use super::error::store_error;
use super::layout::{TableInfo, table_info, table_of};
use super::native::quoted;
use super::triggers;

/// The receipts that batches to the canonical store leave.
const RECEIPTS: &str = "trueup_receipts";

impl SqliteStore {
    pub(super) fn missing(
        &self,
        connection: &mut Connection,
        mapped: &[Mapped],
    ) -> Result<Vec<MigrationStep>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        // One transaction: all tables as they are at one time.
        let transaction = connection.transaction().map_err(failed)?;
        let mut steps = Vec::new();
        // Columns that an earlier step of this plan adds, by table: two entities may share one.
        let mut planned: BTreeSet<(String, String)> = BTreeSet::new();
        let mut created: BTreeSet<String> = BTreeSet::new();
        for one in mapped {
            let (table, title) = table_of(&self.name, one)?;
            let info = table_info(&transaction, &title).map_err(failed)?;
            let wanted = wanted_columns(one);
            if info.is_none() && created.insert(title.to_ascii_lowercase()) {
                steps.push(create_table(&table, &title, one, &wanted));
                planned.extend(wanted.iter().map(|(name, _)| place(&title, name)));
                planned.extend(one.mapping.key.iter().map(|part| place(&title, part.column.head())));
                continue;
            }
            if let Some(info) = &info {
                has_key(&self.name, one, &title, info)?;
            }
            for (name, declared) in wanted {
                let there = info.as_ref().is_some_and(|info| info.position(&name).is_some());
                if !there && planned.insert(place(&title, &name)) {
                    steps.push(MigrationStep {
                        adds: format!("column `{title}.{name}`"),
                        statement: format!("ALTER TABLE {table} ADD COLUMN {} {declared}", quoted(&name)),
                    });
                }
            }
        }
        // After the columns that they name.
        for one in mapped.iter().filter(|one| one.mapping.triggers) {
            let (_, title) = table_of(&self.name, one)?;
            let info = table_info(&transaction, &title).map_err(failed)?;
            steps.extend(triggers::missing(&transaction, one, &title, info.as_ref()).map_err(failed)?);
        }
        let keeps_receipts = mapped.iter().any(|one| one.entity.system);
        if keeps_receipts && table_info(&transaction, RECEIPTS).map_err(failed)?.is_none() {
            steps.push(MigrationStep {
                adds: format!("table `{RECEIPTS}`"),
                statement: format!(
                    "CREATE TABLE main.{RECEIPTS} (batch TEXT NOT NULL, intents TEXT NOT NULL, PRIMARY KEY (batch)) WITHOUT ROWID"
                ),
            });
        }
        Ok(steps)
    }

    pub(super) fn run_steps(
        &self,
        connection: &mut Connection,
        steps: &[MigrationStep],
    ) -> Result<(), StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let immediate = TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(immediate).map_err(failed)?;
        for step in steps {
            transaction.execute_batch(&step.statement).map_err(|error| {
                let told = store_error(&self.name, &error);
                StoreError { message: format!("cannot add {}: {}", step.adds, told.message), ..told }
                    .hint("plan the migration again: the database may have changed since")
            })?;
        }
        transaction.commit().map_err(failed)
    }
}

fn place(table: &str, column: &str) -> (String, String) {
    (table.to_ascii_lowercase(), column.to_ascii_lowercase())
}

fn create_table(
    table: &str,
    title: &str,
    mapped: &Mapped,
    wanted: &[(String, &'static str)],
) -> MigrationStep {
    let keys: Vec<String> = mapped.mapping.key.iter().map(|part| quoted(part.column.head())).collect();
    let key_columns = mapped.mapping.key.iter().zip(&mapped.entity.key).map(|(part, known)| {
        format!("{} {} NOT NULL", quoted(part.column.head()), column_type(known.ty, part.form))
    });
    let columns = wanted.iter().map(|(name, declared)| format!("{} {declared}", quoted(name)));
    let all: Vec<String> = key_columns.chain(columns).collect();
    MigrationStep {
        adds: format!("table `{title}`"),
        statement: format!("CREATE TABLE {table} ({}, PRIMARY KEY ({}))", all.join(", "), keys.join(", ")),
    }
}

/// A key's columns come with their table: they cannot be added to rows that would lack them.
fn has_key(store: &StoreName, mapped: &Mapped, title: &str, info: &TableInfo) -> Result<(), StoreError> {
    let lacking = mapped.mapping.key.iter().find(|part| info.position(part.column.head()).is_none());
    lacking.map_or(Ok(()), |part| {
        let message = format!("`{title}` has no column `{}`, which its key needs", part.column);
        Err(StoreError::new(ErrorKind::Invalid, store, message)
            .hint("add it there and fill it, or map the key to a column that is there"))
    })
}

/// The columns besides the key's that a mapping names, each once, with the type they are made with.
fn wanted_columns(mapped: &Mapped) -> Vec<(String, &'static str)> {
    let mapping = &mapped.mapping;
    let mut wanted: Vec<(String, &'static str)> = Vec::new();
    let keys: Vec<&str> = mapping.key.iter().map(|part| part.column.head()).collect();
    let mut want = |column: &Column, declared| {
        let name = column.head();
        // A column with a path into it holds JSON.
        let declared = if column.0.len() > 1 { "TEXT" } else { declared };
        let known = wanted.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
        if !known && !keys.iter().any(|key| key.eq_ignore_ascii_case(name)) {
            wanted.push((name.to_owned(), declared));
        }
    };
    for (id, field) in &mapping.fields {
        let ty = mapped.entity.fields.get(id.index()).map_or(FieldType::String, |field| field.ty);
        want(&field.column, column_type(ty, field.form));
    }
    for column in mapping.created.iter().chain(&mapping.updated) {
        want(column, "TEXT");
    }
    match &mapping.sync {
        SyncPlace::None => {}
        SyncPlace::Struct(column) | SyncPlace::Json(column) | SyncPlace::JsonText(column) => {
            want(column, "TEXT");
        }
        place @ SyncPlace::Columns { .. } => {
            for (name, column) in sync::PARTS.into_iter().zip(sync::part_columns(place)) {
                if let Some(column) = column {
                    want(column, if name == "version" { "INTEGER" } else { "TEXT" });
                }
            }
        }
    }
    wanted
}

fn column_type(ty: FieldType, form: Form) -> &'static str {
    match (form, ty) {
        (Form::Int64 | Form::UnixSeconds | Form::UnixMillis | Form::UnixMicros, _)
        | (Form::Native, FieldType::Int64 | FieldType::Bool) => "INTEGER",
        (Form::Native, FieldType::Float64) => "REAL",
        _ => "TEXT",
    }
}

/// What of these mappings `SQLite` cannot do.
pub(super) fn audit(store: &StoreName, mapped: &[Mapped]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for one in mapped {
        let whose = format!("store `{store}`, entity `{}`", one.name());
        let mut complain = |message: &str, hint: &str| {
            found.push(Diagnostic::error(format!("{whose}: {message}")).hint(hint));
        };
        match &one.mapping.shape {
            Shape::Object(_) | Shape::Embedded(_) => {
                complain("SQLite has tables, no objects", "write `table:` instead of `object:`");
            }
            Shape::Table(table) => {
                if table.schema.as_deref().is_some_and(|schema| schema != "main") {
                    complain("an SQLite file has no schemas", "name the table alone");
                }
                if table.name.to_ascii_lowercase().starts_with("sqlite_") {
                    complain("names beginning with `sqlite_` are SQLite's own", "use another table");
                }
            }
        }
        if matches!(one.mapping.sync, SyncPlace::Struct(_)) {
            complain("SQLite has no structs", "keep the sync metadata in `json:` or in `columns:`");
        }
        if one.mapping.key.iter().any(|part| part.column.0.len() != 1) {
            complain("a key cannot stand inside a JSON column", "give the key a column of its own");
        }
        let mut taken: BTreeSet<&Column> = BTreeSet::new();
        for (id, field) in &one.mapping.fields {
            let Some(known) = one.entity.fields.get(id.index()) else { continue };
            if !form_suits(known.ty, field.form) {
                let message = format!(
                    "the {} `{}` cannot stand in the form `{}`",
                    known.ty.as_str(),
                    known.name,
                    field.form.as_str()
                );
                complain(&message, "leave the form out, or use `text`");
            }
            if !taken.insert(&field.column) {
                let message = format!("two fields stand in the column `{}`", field.column);
                complain(&message, "give each field a column of its own");
            }
        }
        if names(one).any(|name| name.is_empty() || name.contains('\0')) {
            complain("a table or column has a name that SQLite cannot have", "use another name");
        }
    }
    found
}

fn names(mapped: &Mapped) -> impl Iterator<Item = String> {
    let table = match &mapped.mapping.shape {
        Shape::Table(table) => table.name.clone(),
        Shape::Object(name) => name.clone(),
        Shape::Embedded(embedded) => embedded.parent.to_string(),
    };
    let keys = mapped.mapping.key.iter().map(|part| part.column.head().to_owned()).collect::<Vec<_>>();
    std::iter::once(table).chain(keys).chain(wanted_columns(mapped).into_iter().map(|(name, _)| name))
}
