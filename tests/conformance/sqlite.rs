//! A `SQLite` file under test. The other application writes through a connection of its own.

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions};
use sqlx::{AssertSqlSafe, Connection, Row as _, Sqlite, SqliteConnection};
use trueup::model::{Mapped, Native, RecordKey, Shape, SyncMeta, Value, encode};
use trueup::store::Store;
use trueup::store::sqlite::{SqliteOptions, SqliteStore};

use crate::harness::{Harness, id_of, store_name};

pub(crate) struct OnSqlite {
    store: SqliteStore,
    _folder: tempfile::TempDir,
}

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

fn bind<'q>(query: Query<'q>, native: &Native) -> Query<'q> {
    match native {
        Native::Null => query.bind(None::<i64>),
        Native::Integer(number) => query.bind(*number),
        Native::Real(number) => query.bind(*number),
        Native::Text(text) => query.bind(text.clone()),
        Native::Blob(bytes) => query.bind(bytes.clone()),
    }
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

fn column(mapped: &Mapped, field: &str) -> String {
    quoted(mapped.mapping.fields[&id_of(mapped, field)].column.head())
}

fn native(mapped: &Mapped, field: &str, value: &Value) -> Native {
    let id = id_of(mapped, field);
    let place = &mapped.mapping.fields[&id];
    encode(value, mapped.entity.field(id).ty, place.form, &mapped.mapping.timezone).expect("holdable")
}

fn key_natives(key: &RecordKey) -> Vec<Native> {
    key.parts().iter().map(|part| Native::Text(part.clone())).collect()
}

fn where_key(mapped: &Mapped) -> String {
    let terms = mapped.mapping.key.iter().map(|part| format!("{} = ?", quoted(part.column.head())));
    terms.collect::<Vec<_>>().join(" AND ")
}

impl OnSqlite {
    async fn run(&self, sql: &str, values: &[Native]) -> u64 {
        let mut connection = self.connect().await;
        let query = values.iter().fold(sqlx::query(AssertSqlSafe(sql.to_owned())), bind);
        let done = query.execute(&mut connection).await.expect(sql);
        connection.close().await.expect("closed");
        done.rows_affected()
    }

    async fn connect(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.store.path());
        SqliteConnection::connect_with(&options).await.expect("connected")
    }

    async fn set(&self, mapped: &Mapped, key: &RecordKey, column: &str, value: Native) {
        let sql = format!("UPDATE {} SET {column} = ? WHERE {}", table(mapped), where_key(mapped));
        let values: Vec<Native> = std::iter::once(value).chain(key_natives(key)).collect();
        assert_eq!(self.run(&sql, &values).await, 1, "the row is there");
    }
}

#[async_trait]
impl Harness for OnSqlite {
    async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let options = SqliteOptions { create: true, ..SqliteOptions::default() };
        let store = SqliteStore::open(store_name(), &folder.path().join("it's a \"file\".db"), options).await;
        Self { store: store.expect("opened"), _folder: folder }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    async fn insert(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)], meta: &SyncMeta) {
        let mut columns: Vec<String> =
            mapped.mapping.key.iter().map(|part| quoted(part.column.head())).collect();
        let mut values = key_natives(key);
        for (field, value) in fields {
            columns.push(column(mapped, field));
            values.push(native(mapped, field, value));
        }
        columns.extend(["version", "last_updated", "last_updated_by"].map(str::to_owned));
        let text = |text: Option<String>| text.map_or(Native::Null, Native::Text);
        values.push(meta.version.map_or(Native::Null, |version| Native::Integer(version.0)));
        values.push(text(meta.last_updated.map(|time| time.to_string())));
        values.push(text(meta.last_updated_by.as_deref().map(str::to_owned)));
        let marks = vec!["?"; values.len()].join(", ");
        let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", table(mapped), columns.join(", "));
        self.run(&sql, &values).await;
    }

    async fn edit(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)]) {
        for (field, value) in fields {
            self.set(mapped, key, &column(mapped, field), native(mapped, field, value)).await;
        }
    }

    async fn set_version(&self, mapped: &Mapped, key: &RecordKey, version: i64) {
        self.set(mapped, key, "version", Native::Integer(version)).await;
    }

    async fn delete(&self, mapped: &Mapped, key: &RecordKey) {
        let sql = format!("DELETE FROM {} WHERE {}", table(mapped), where_key(mapped));
        assert_eq!(self.run(&sql, &key_natives(key)).await, 1, "the row is there");
    }

    async fn spoil(&self, mapped: &Mapped, key: &RecordKey, field: &str, text: &str) {
        self.set(mapped, key, &column(mapped, field), Native::Text(text.to_owned())).await;
    }

    async fn drop_column(&self, mapped: &Mapped, field: &str) {
        self.run(&format!("ALTER TABLE {} DROP COLUMN {}", table(mapped), column(mapped, field)), &[]).await;
    }

    async fn duplicate(&self, mapped: &Mapped, key: &RecordKey) {
        // Without its primary key the table takes the row again.
        let table = table(mapped);
        self.run(&format!("CREATE TABLE copy AS SELECT * FROM {table}"), &[]).await;
        self.run(&format!("DROP TABLE {table}"), &[]).await;
        self.run(&format!("ALTER TABLE copy RENAME TO {table}"), &[]).await;
        let sql = format!("INSERT INTO {table} SELECT * FROM {table} WHERE {}", where_key(mapped));
        assert_eq!(self.run(&sql, &key_natives(key)).await, 1);
    }

    async fn add_extra(&self, mapped: &Mapped, text: &str) {
        self.run(&format!("ALTER TABLE {} ADD COLUMN extra BLOB", table(mapped)), &[]).await;
        let sql = format!("UPDATE {} SET extra = ?", table(mapped));
        self.run(&sql, &[Native::Text(text.to_owned())]).await;
    }

    async fn extra(&self, mapped: &Mapped, key: &RecordKey) -> String {
        let mut connection = self.connect().await;
        let sql = format!("SELECT extra FROM {} WHERE {}", table(mapped), where_key(mapped));
        let query = key_natives(key).iter().fold(sqlx::query(AssertSqlSafe(sql)), bind);
        query.fetch_one(&mut connection).await.expect("a row").get(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_told() {
    crate::schema::tables_are_told::<OnSqlite>(true).await;
}
