//! A Postgres database under test. The other application writes through a connection of its own, rows as JSON.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value as Json};
use sqlx::{AssertSqlSafe, Row as _};
use trueup::model::{Mapped, RecordKey, Shape, SyncMeta, Value};
use trueup::store::Store;
use trueup::store::postgres::{PostgresOptions, PostgresStore};

use crate::harness::{Harness, id_of, store_name};
use crate::server::{Database, database};

pub(crate) struct OnPostgres {
    store: PostgresStore,
    database: Database,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn table(mapped: &Mapped) -> String {
    match &mapped.mapping.shape {
        Shape::Table(table) => quoted(&table.name),
        Shape::Object(_) | Shape::Embedded(_) => unreachable!("tables only"),
    }
}

fn column<'m>(mapped: &'m Mapped, field: &str) -> &'m str {
    mapped.mapping.fields[&id_of(mapped, field)].column.head()
}

fn key_columns(mapped: &Mapped) -> Vec<&str> {
    mapped.mapping.key.iter().map(|part| part.column.head()).collect()
}

/// The key as JSON, and a condition for it.
fn named(mapped: &Mapped, key: &RecordKey) -> (Map<String, Json>, String) {
    let names = key_columns(mapped);
    let object = names.iter().zip(key.parts()).map(|(name, part)| ((*name).to_owned(), part.clone().into()));
    let terms = names.iter().map(|name| format!("t.{0} = r.{0}", quoted(name)));
    (object.collect(), terms.collect::<Vec<_>>().join(" AND "))
}

impl OnPostgres {
    /// Runs a statement with a row as JSON, and answers how many rows it wrote.
    async fn run(&self, sql: &str, object: Map<String, Json>) -> u64 {
        let mut connection = self.database.connect().await;
        let query = sqlx::query(AssertSqlSafe(sql.to_owned())).bind(Json::Object(object).to_string());
        query.execute(&mut connection).await.expect(sql).rows_affected()
    }

    async fn set(&self, mapped: &Mapped, key: &RecordKey, column: &str, value: Json) {
        let (mut object, condition) = named(mapped, key);
        object.insert(column.to_owned(), value);
        let (table, column) = (table(mapped), quoted(column));
        let sql = format!(
            "UPDATE {table} AS t SET {column} = r.{column} FROM jsonb_populate_record(NULL::{table}, $1::jsonb) AS r WHERE {condition}"
        );
        assert_eq!(self.run(&sql, object).await, 1, "the row is there");
    }
}

#[async_trait]
impl Harness for OnPostgres {
    const HOLDS_NUL: bool = false;

    async fn new() -> Self {
        let database = database().await;
        let store = PostgresStore::open(store_name(), &database.url, PostgresOptions::default());
        Self { store: store.expect("an address"), database }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn insert(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)], meta: &SyncMeta) {
        let (mut object, _) = named(mapped, key);
        for (field, value) in fields {
            object.insert(column(mapped, field).to_owned(), value.to_plain());
        }
        object.insert("version".into(), meta.version.map_or(Json::Null, |version| version.0.into()));
        object.insert(
            "last_updated".into(),
            meta.last_updated.map_or(Json::Null, |time| time.to_string().into()),
        );
        object
            .insert("last_updated_by".into(), meta.last_updated_by.as_deref().map_or(Json::Null, Json::from));
        let table = table(mapped);
        let columns = object.keys().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        let sql = format!(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM jsonb_populate_record(NULL::{table}, $1::jsonb)"
        );
        assert_eq!(self.run(&sql, object).await, 1);
    }

    async fn edit(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)]) {
        for (field, value) in fields {
            self.set(mapped, key, column(mapped, field), value.to_plain()).await;
        }
    }

    async fn set_version(&self, mapped: &Mapped, key: &RecordKey, version: i64) {
        self.set(mapped, key, "version", version.into()).await;
    }

    async fn delete(&self, mapped: &Mapped, key: &RecordKey) {
        let (object, condition) = named(mapped, key);
        let table = table(mapped);
        let sql = format!(
            "DELETE FROM {table} AS t USING jsonb_populate_record(NULL::{table}, $1::jsonb) AS r WHERE {condition}"
        );
        assert_eq!(self.run(&sql, object).await, 1, "the row is there");
    }

    async fn spoil(&self, mapped: &Mapped, key: &RecordKey, field: &str, text: &str) {
        let name = quoted(column(mapped, field));
        let table = table(mapped);
        self.database.sql(&format!("ALTER TABLE {table} ALTER COLUMN {name} TYPE text")).await;
        self.set(mapped, key, column(mapped, field), text.into()).await;
    }

    async fn drop_column(&self, mapped: &Mapped, field: &str) {
        let name = quoted(column(mapped, field));
        self.database.sql(&format!("ALTER TABLE {} DROP COLUMN {name}", table(mapped))).await;
    }

    async fn duplicate(&self, mapped: &Mapped, key: &RecordKey) {
        let table = table(mapped);
        let Shape::Table(named_table) = &mapped.mapping.shape else { unreachable!("tables only") };
        // Without its primary key the table takes the row again.
        let constraint = quoted(&format!("{}_pkey", named_table.name));
        self.database.sql(&format!("ALTER TABLE {table} DROP CONSTRAINT {constraint}")).await;
        let (object, condition) = named(mapped, key);
        let sql = format!(
            "INSERT INTO {table} SELECT t.* FROM {table} AS t, jsonb_populate_record(NULL::{table}, $1::jsonb) AS r WHERE {condition}"
        );
        assert_eq!(self.run(&sql, object).await, 1);
    }

    async fn add_extra(&self, mapped: &Mapped, text: &str) {
        let table = table(mapped);
        let ty = if text.contains('\0') { "bytea" } else { "text" };
        self.database.sql(&format!("ALTER TABLE {table} ADD COLUMN extra {ty}")).await;
        let mut connection = self.database.connect().await;
        let query = sqlx::query(AssertSqlSafe(format!("UPDATE {table} SET extra = $1")));
        let query = if ty == "bytea" { query.bind(text.as_bytes()) } else { query.bind(text) };
        query.execute(&mut connection).await.expect("set");
    }

    async fn extra(&self, mapped: &Mapped, key: &RecordKey) -> String {
        let mut connection = self.database.connect().await;
        let (object, condition) = named(mapped, key);
        let table = table(mapped);
        let sql = format!(
            "SELECT t.extra FROM {table} AS t, jsonb_populate_record(NULL::{table}, $1::jsonb) AS r WHERE {condition}"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(Json::Object(object).to_string());
        let row = query.fetch_one(&mut connection).await.expect("a row");
        row.try_get(0).unwrap_or_else(|_| String::from_utf8(row.get(0)).expect("a text"))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_told() {
    crate::schema::tables_are_told::<OnPostgres>(true).await;
}
