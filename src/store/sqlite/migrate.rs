//! Tables and columns that mappings need. They are added; nothing is ever dropped or rewritten.

use rusqlite::{Connection, TransactionBehavior};

use crate::model::{FieldType, Form, Mapped, StoreError, StoreName};

use super::super::MigrationStep;
use super::super::tables::{Dialect, has_key, not_added};
use super::SqliteStore;
use super::error::store_error;
use super::layout::{table_info, table_of};
use super::native::quoted;
use super::triggers;

/// The receipts that batches to the canonical store leave.
const RECEIPTS: &str = "trueup_receipts";

const DIALECT: Dialect = Dialect {
    tells_case: false,
    column: column_type,
    time: "TEXT",
    json: "TEXT",
    json_text: "TEXT",
    part: |part| if part == "version" { "INTEGER" } else { "TEXT" },
};

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
        for one in mapped {
            let (table, title) = table_of(&self.name, one)?;
            let wanted = DIALECT.wanted_columns(one);
            let Some(info) = table_info(&transaction, &title).map_err(failed)? else {
                steps.push(create_table("CREATE TABLE", &table, &title, one, &wanted));
                continue;
            };
            has_key(&self.name, one, &title, |column| info.position(column).is_some())?;
            let missing = wanted.into_iter().filter(|(name, _)| info.position(name).is_none());
            steps.extend(missing.map(|(name, declared)| MigrationStep {
                adds: format!("column `{title}.{name}`"),
                statement: format!("ALTER TABLE {table} ADD COLUMN {} {declared}", quoted(&name)),
            }));
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
                statement: create_receipts("CREATE TABLE"),
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
            transaction
                .execute_batch(&step.statement)
                .map_err(|error| not_added(step, store_error(&self.name, &error)))?;
        }
        transaction.commit().map_err(failed)
    }
}

/// Statements that give an empty file the tables of these mappings, and any file those that it lacks. `SQLite` cannot be told to add a
/// column only where it is missing: `trueup migrate` does that.
pub(in crate::store) fn script(store: &StoreName, mapped: &[Mapped]) -> Result<Vec<String>, StoreError> {
    let mut statements = Vec::new();
    for one in mapped {
        let (table, title) = table_of(store, one)?;
        let step =
            create_table("CREATE TABLE IF NOT EXISTS", &table, &title, one, &DIALECT.wanted_columns(one));
        statements.push(step.statement);
    }
    if mapped.iter().any(|one| one.entity.system) {
        statements.push(create_receipts("CREATE TABLE IF NOT EXISTS"));
    }
    Ok(statements)
}

fn create_receipts(how: &str) -> String {
    format!(
        "{how} main.{RECEIPTS} (batch TEXT NOT NULL, intents TEXT NOT NULL, PRIMARY KEY (batch)) WITHOUT ROWID"
    )
}

fn create_table(
    how: &str,
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
        statement: format!("{how} {table} ({}, PRIMARY KEY ({}))", all.join(", "), keys.join(", ")),
    }
}

fn column_type(ty: FieldType, form: Form) -> &'static str {
    match (form, ty) {
        (Form::Int64 | Form::UnixSeconds | Form::UnixMillis | Form::UnixMicros, _)
        | (Form::Native, FieldType::Int64 | FieldType::Bool) => "INTEGER",
        (Form::Native, FieldType::Float64) => "REAL",
        _ => "TEXT",
    }
}
