//! Tables and columns that mappings need. They are added; nothing is ever dropped or rewritten.

use std::collections::BTreeSet;

use sqlx::Row as _;

use crate::model::{FieldType, Form, Mapped, StoreError, StoreName};

use super::super::MigrationStep;
use super::super::tables::{Dialect, has_key, not_added};
use super::PostgresStore;
use super::error::store_error;
use super::layout::{TableNames, table_info};
use super::session::{READ, WRITE, quoted};
use super::triggers;

/// The receipts that batches to the canonical store leave.
const RECEIPTS: &str = "trueup_receipts";
const DIALECT: Dialect = Dialect {
    tells_case: true,
    column: column_type,
    time: "timestamptz",
    json: "jsonb",
    json_text: "text",
    part: |part| match part {
        "version" => "bigint",
        "last_updated" => "timestamptz",
        "source_systems" => "text[]",
        "sync_errors" => "jsonb",
        _ => "text",
    },
};

impl PostgresStore {
    pub(super) async fn missing(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        // One transaction: all tables as they are at one time.
        let mut session = self.server.begin(READ).await?;
        let mut steps = Vec::new();
        let mut schemas: BTreeSet<String> = session
            .all(session.query("SELECT nspname::text FROM pg_catalog.pg_namespace"))
            .await
            .and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect())
            .map_err(failed)?;
        let mut need_schema = |schema: &str, steps: &mut Vec<MigrationStep>| {
            if schemas.insert(schema.to_owned()) {
                steps.push(MigrationStep {
                    adds: format!("schema `{schema}`"),
                    statement: format!("CREATE SCHEMA {}", quoted(schema)),
                });
            }
        };
        for one in mapped {
            let names = self.names(one)?;
            let wanted = DIALECT.wanted_columns(one);
            let Some(info) = table_info(&mut session, &names).await.map_err(failed)? else {
                need_schema(&names.schema, &mut steps);
                steps.push(create_table("CREATE TABLE", &names, one, &wanted));
                continue;
            };
            has_key(&self.name, one, &names.title, |column| info.position(column).is_some())?;
            let missing = wanted.into_iter().filter(|(name, _)| info.position(name).is_none());
            steps.extend(missing.map(|(name, declared)| MigrationStep {
                adds: format!("column `{}.{name}`", names.title),
                statement: format!("ALTER TABLE {} ADD COLUMN {} {declared}", names.sql(), quoted(&name)),
            }));
        }
        // After the columns that they name.
        for one in mapped.iter().filter(|one| one.mapping.triggers) {
            let names = self.names(one)?;
            let info = table_info(&mut session, &names).await.map_err(failed)?;
            let trigger =
                triggers::missing(&mut session, one, &names, info.as_ref(), &DIALECT.wanted_columns(one))
                    .await;
            steps.extend(trigger.map_err(failed)?);
        }
        for one in mapped.iter().filter(|one| self.notify && !one.entity.system) {
            let names = self.names(one)?;
            let trigger = triggers::missing_notice(&mut session, one, &names).await;
            steps.extend(trigger.map_err(failed)?);
        }
        if mapped.iter().any(|one| one.entity.system) {
            let names = receipts_in(&self.schema);
            if table_info(&mut session, &names).await.map_err(failed)?.is_none() {
                need_schema(&names.schema, &mut steps);
                steps.push(MigrationStep {
                    adds: format!("table `{RECEIPTS}`"),
                    statement: create_receipts("CREATE TABLE", &names),
                });
            }
        }
        session.end("ROLLBACK").await.map_err(failed)?;
        Ok(steps)
    }

    pub(super) async fn run_steps(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        if steps.is_empty() {
            return Ok(());
        }
        let mut session = self.server.begin(WRITE).await?;
        for step in steps {
            session
                .run(&step.statement)
                .await
                .map_err(|error| not_added(step, store_error(&self.name, &error)))?;
        }
        session.end("COMMIT").await.map_err(|error| store_error(&self.name, &error))
    }
}

/// Statements that give any database, whatever it has of them already, the tables and columns of these mappings. They may be run
/// again. `schema` is the one of tables that name none.
pub(in crate::store) fn script(
    store: &StoreName,
    schema: &str,
    mapped: &[Mapped],
) -> Result<Vec<String>, StoreError> {
    let mut statements = Vec::new();
    for one in mapped {
        let names = TableNames::of(store, schema, one)?;
        let wanted = DIALECT.wanted_columns(one);
        if names.schema != "public" {
            let made = format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(&names.schema));
            if !statements.contains(&made) {
                statements.push(made);
            }
        }
        statements.push(create_table("CREATE TABLE IF NOT EXISTS", &names, one, &[]).statement);
        let columns: Vec<String> = wanted
            .iter()
            .map(|(name, declared)| format!("ADD COLUMN IF NOT EXISTS {} {declared}", quoted(name)))
            .collect();
        if !columns.is_empty() {
            statements.push(format!("ALTER TABLE {}\n  {}", names.sql(), columns.join(",\n  ")));
        }
    }
    if mapped.iter().any(|one| one.entity.system) {
        let names = receipts_in(schema);
        statements.push(create_receipts("CREATE TABLE IF NOT EXISTS", &names));
    }
    Ok(statements)
}

/// The table of receipts.
fn receipts_in(schema: &str) -> TableNames {
    let name = || RECEIPTS.to_owned();
    TableNames { schema: schema.to_owned(), name: name(), title: name(), system: true }
}

fn create_receipts(how: &str, names: &TableNames) -> String {
    format!("{how} {} (batch text NOT NULL, intents text NOT NULL, PRIMARY KEY (batch))", names.sql())
}

fn create_table(
    how: &str,
    names: &TableNames,
    mapped: &Mapped,
    wanted: &[(String, &'static str)],
) -> MigrationStep {
    let keys: Vec<String> = mapped.mapping.key.iter().map(|part| quoted(part.column.head())).collect();
    let key_columns = mapped.mapping.key.iter().zip(&mapped.entity.key).map(|(part, known)| {
        // In the order of keys, so that the key's index serves reads in that order.
        let declared = match column_type(known.ty, part.form) {
            "text" => "text COLLATE \"C\"",
            other => other,
        };
        format!("{} {declared} NOT NULL", quoted(part.column.head()))
    });
    let columns = wanted.iter().map(|(name, declared)| format!("{} {declared}", quoted(name)));
    let all: Vec<String> = key_columns.chain(columns).collect();
    MigrationStep {
        adds: format!("table `{}`", names.title),
        statement: format!("{how} {} ({}, PRIMARY KEY ({}))", names.sql(), all.join(", "), keys.join(", ")),
    }
}

fn column_type(ty: FieldType, form: Form) -> &'static str {
    match (form, ty) {
        (Form::Int64 | Form::UnixSeconds | Form::UnixMillis | Form::UnixMicros, _)
        | (Form::Native, FieldType::Int64) => "bigint",
        (Form::Native, FieldType::Float64) => "double precision",
        (Form::Native, FieldType::Numeric) => "numeric",
        (Form::Native, FieldType::Bool) => "boolean",
        (Form::Native, FieldType::Date) => "date",
        (Form::Native, FieldType::Timestamp) => "timestamptz",
        (Form::Native, FieldType::Json) => "jsonb",
        (Form::Native, FieldType::StringList) => "text[]",
        // Texts, JSON as text, and a CRM's own forms.
        _ => "text",
    }
}
