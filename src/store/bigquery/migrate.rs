//! Tables and columns that mappings need. They are added; nothing is ever dropped or rewritten.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::model::{ErrorKind, FieldType, Form, Mapped, StoreError, StoreName, SyncPlace};

use super::super::tables::{Dialect, has_key, not_added, table_of};
use super::super::{MigrationStep, sync};
use super::BigQueryStore;
use super::layout::TableNames;
use super::receipts::RECEIPTS;
use super::schema::{Kind, Node};
use super::sql::quoted;

/// The longest name of a column.
const LONGEST_NAME: usize = 300;
/// Columns that a table is clustered by, at most.
const MOST_CLUSTERED: usize = 4;

const DIALECT: Dialect = Dialect {
    tells_case: false,
    column: column_type,
    time: "TIMESTAMP",
    json: "JSON",
    json_text: "STRING",
    part: part_type,
};

/// A column to be made: a type, or the fields of a STRUCT.
#[derive(Debug, Clone)]
enum Made {
    Type(&'static str),
    Fields(BTreeMap<String, Made>),
}

impl Made {
    fn sql(&self) -> String {
        match self {
            Self::Type(word) => (*word).to_owned(),
            Self::Fields(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(name, made)| format!("{} {}", quoted(name), made.sql())).collect();
                format!("STRUCT<{}>", fields.join(", "))
            }
        }
    }
}

impl BigQueryStore {
    pub(super) async fn missing(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        let mut steps = Vec::new();
        let mut datasets: BTreeSet<String> = BTreeSet::new();
        for one in mapped {
            let names = self.names(one)?;
            check_names(&self.name, one)?;
            if datasets.insert(names.dataset.clone()) {
                steps.extend(self.missing_dataset(&names.dataset).await?);
            }
            let wanted = wanted_columns(one);
            let Some(info) = self.table_info(&names).await? else {
                steps.push(create_table(&names, one, &wanted));
                continue;
            };
            let found = |column: &str| Node::find(&info.columns, column);
            has_key(&self.name, one, &names.title, |column| found(column).is_some())?;
            for (name, made) in wanted {
                if let Some(node) = found(&name) {
                    has_fields(&self.name, &names.title, node, &made)?;
                    continue;
                }
                let (table, column) = (names.sql(), quoted(&name));
                steps.push(MigrationStep {
                    adds: format!("column `{}.{name}`", names.title),
                    statement: format!("ALTER TABLE {table} ADD COLUMN {column} {}", made.sql()),
                });
            }
        }
        if mapped.iter().any(|one| one.entity.system) {
            let names = TableNames {
                project: self.rest.project.clone(),
                dataset: self.dataset.clone(),
                table: RECEIPTS.to_owned(),
                title: RECEIPTS.to_owned(),
            };
            if self.table_info(&names).await?.is_none() {
                steps.push(MigrationStep {
                    adds: format!("table `{RECEIPTS}`"),
                    statement: create_receipts("CREATE TABLE", &names.sql()),
                });
            }
        }
        Ok(steps)
    }

    async fn missing_dataset(&self, dataset: &str) -> Result<Option<MigrationStep>, StoreError> {
        let there = self.rest.dataset(dataset).await.map_err(|failure| self.told(&failure))?;
        if there {
            return Ok(None);
        }
        let mut statement = format!("CREATE SCHEMA {}", quoted(&format!("{}.{dataset}", self.rest.project)));
        if let Some(location) = self.rest.location() {
            let plain: String =
                location.chars().filter(|char| char.is_ascii_alphanumeric() || *char == '-').collect();
            let _ = write!(statement, " OPTIONS (location = '{plain}')");
        }
        Ok(Some(MigrationStep { adds: format!("dataset `{dataset}`"), statement }))
    }

    pub(super) async fn run_steps(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        for step in steps {
            // Metadata of one table may be changed five times in ten seconds: the lane sees to half of that, trying again to the rest.
            let lane = step.statement.split('(').next().unwrap_or("").split(" ADD ").next().unwrap_or("");
            self.rest
                .change_again(lane, &step.statement, Vec::new())
                .await
                .map_err(|failure| not_added(step, self.told(&failure)))?;
        }
        Ok(())
    }
}

/// Statements that give any dataset, whatever it has of them already, the tables and columns of these mappings. They may be run
/// again. `dataset` is the one of tables that name none; the project is the one that they are run in.
pub(in crate::store) fn script(
    store: &StoreName,
    dataset: &str,
    mapped: &[Mapped],
) -> Result<Vec<String>, StoreError> {
    let mut statements = vec![format!("CREATE SCHEMA IF NOT EXISTS {}", quoted(dataset))];
    for one in mapped {
        check_names(store, one)?;
        let table = table_of(store, "BigQuery", one)?;
        let within = table.schema.as_deref().unwrap_or(dataset);
        let name = format!("{}.{}", quoted(within), quoted(&table.name));
        statements.push(create_statement("CREATE TABLE IF NOT EXISTS", &name, one, &[]));
        let columns: Vec<String> = wanted_columns(one)
            .iter()
            .map(|(column, made)| format!("ADD COLUMN IF NOT EXISTS {} {}", quoted(column), made.sql()))
            .collect();
        // One statement: the service takes few changes of a table in a short time.
        if !columns.is_empty() {
            statements.push(format!("ALTER TABLE {name}\n  {}", columns.join(",\n  ")));
        }
    }
    if mapped.iter().any(|one| one.entity.system) {
        let name = format!("{}.{}", quoted(dataset), quoted(RECEIPTS));
        statements.push(create_receipts("CREATE TABLE IF NOT EXISTS", &name));
    }
    Ok(statements)
}

fn create_receipts(how: &str, name: &str) -> String {
    format!("{how} {name} (`batch` STRING NOT NULL, `note` STRING, `lost` STRING) CLUSTER BY `batch`")
}

fn create_table(names: &TableNames, mapped: &Mapped, wanted: &[(String, Made)]) -> MigrationStep {
    MigrationStep {
        adds: format!("table `{}`", names.title),
        statement: create_statement("CREATE TABLE", &names.sql(), mapped, wanted),
    }
}

fn create_statement(how: &str, name: &str, mapped: &Mapped, wanted: &[(String, Made)]) -> String {
    let keys = mapped.mapping.key.iter().zip(&mapped.entity.key);
    let key_columns = keys.map(|(part, known)| {
        format!("{} {} NOT NULL", quoted(part.column.head()), column_type(known.ty, part.form))
    });
    let columns = wanted.iter().map(|(name, made)| format!("{} {}", quoted(name), made.sql()));
    let all: Vec<String> = key_columns.chain(columns).collect();
    let clustered: Vec<String> =
        mapped.mapping.key.iter().take(MOST_CLUSTERED).map(|part| quoted(part.column.head())).collect();
    format!("{how} {name} ({}) CLUSTER BY {}", all.join(", "), clustered.join(", "))
}

/// Fields of a STRUCT that is there cannot be added by a statement.
fn has_fields(store: &StoreName, title: &str, node: &Node, made: &Made) -> Result<(), StoreError> {
    let Made::Fields(fields) = made else { return Ok(()) };
    if node.kind != Kind::Record || node.repeated {
        return Ok(());
    }
    for (name, inner) in fields {
        let Some(field) = Node::find(&node.fields, name) else {
            let message = format!("the STRUCT `{title}.{}` has no field `{name}`", node.name);
            return Err(StoreError::new(ErrorKind::Unsupported, store, message)
                .hint("no statement adds fields to a STRUCT: add it in the console, or with `bq update`"));
        };
        has_fields(store, title, field, inner)?;
    }
    Ok(())
}

/// The columns besides the key's that a mapping names, each once, with what they are made as.
fn wanted_columns(mapped: &Mapped) -> Vec<(String, Made)> {
    let wanted = DIALECT.wanted_columns(mapped).into_iter();
    let mut wanted: Vec<(String, Made)> = wanted.map(|(name, word)| (name, Made::Type(word))).collect();
    if let SyncPlace::Struct(column) = &mapped.mapping.sync
        && column.0.len() == 1
        && let Some((_, made)) = wanted.iter_mut().find(|(name, _)| name == column.head())
    {
        let fields = sync::PARTS.iter().map(|part| ((*part).to_owned(), Made::Type(part_type(part))));
        *made = Made::Fields(fields.collect());
    }
    wanted
}

/// The type of a part of the sync metadata.
fn part_type(part: &str) -> &'static str {
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

fn column_type(ty: FieldType, form: Form) -> &'static str {
    match (form, ty) {
        (Form::Int64 | Form::UnixSeconds | Form::UnixMillis | Form::UnixMicros, _)
        | (Form::Native, FieldType::Int64) => "INT64",
        (Form::Native, FieldType::Float64) => "FLOAT64",
        (Form::Native, FieldType::Numeric) => "NUMERIC",
        (Form::Native, FieldType::Bool) => "BOOL",
        (Form::Native, FieldType::Date) => "DATE",
        (Form::Native, FieldType::Timestamp) => "TIMESTAMP",
        (Form::Native, FieldType::Json) => "JSON",
        (Form::Native, FieldType::StringList) => "ARRAY<STRING>",
        // Texts, and JSON as text. A CRM's own forms are no forms of a warehouse; the spec refuses them here.
        _ => "STRING",
    }
}

/// Names that the service takes: what else stands in one would be a statement's business.
fn check_names(store: &StoreName, mapped: &Mapped) -> Result<(), StoreError> {
    let taken = |name: &&str| {
        !name.is_empty()
            && name.len() <= LONGEST_NAME
            && name.chars().all(|char| char.is_alphanumeric() || matches!(char, '_' | '-'))
    };
    let table = table_of(store, "BigQuery", mapped)?;
    let table = table.schema.as_deref().into_iter().chain([table.name.as_str()]);
    let keys = mapped.mapping.key.iter().map(|part| part.column.head());
    let wanted = DIALECT.wanted_columns(mapped);
    let columns = wanted.iter().map(|(name, _)| name.as_str());
    let Some(name) = table.chain(keys).chain(columns).find(|name| !taken(name)) else {
        return Ok(());
    };
    let message = format!("BigQuery has no table or column of the name `{}`", name.escape_debug());
    Err(StoreError::new(ErrorKind::Invalid, store, message).hint("use letters, digits and `_`"))
}
