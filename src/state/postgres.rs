//! A state in a Postgres database: for several controllers, of which one works at a time.
//!
//! Every change is one transaction that begins by locking the state's one row of `trueup_state`, so changes of several
//! controllers come one after the other, and what one reads of a record it still finds when it writes it. The lease stands
//! in the same row, with its term.
//!
//! No statement is prepared by name and every one is in a transaction, so that a pooler may stand in between.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres, Row as _,
    Transaction,
};
use tokio::sync::Mutex;

use crate::model::{
    Entity, EntityName, Header, Intent, Marks, Memory, RecentDeletes, RecordKey, StateId, StoreName,
    Timestamp, Transition,
};

use super::codec::{self, Dictionary};
use super::hold::{Holding, overtaken};
use super::{Lease, State, StateError, held_by};

mod commit;
mod schema;

/// Connections a state: pages are read one at a time, and changes made one at a time.
const CONNECTIONS: u32 = 4;

/// How long to wait for a connection before saying that there is none.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// A controller that stops in the middle of a change (a sleeping host, a cut line) holds its lock no longer than this.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '20s'";

/// A state in a schema of a database.
#[derive(Debug, Clone)]
pub struct PostgresState {
    schema: String,
    pool: PgPool,
    names: Arc<Mutex<Names>>,
    holding: Holding,
}

/// The names that records are written with, and how many of them the database is known to have.
#[derive(Debug, Default)]
struct Names {
    dictionary: Dictionary,
    saved: usize,
}

impl PostgresState {
    /// Opens a state, making its schema and tables where they are not there.
    ///
    /// # Errors
    /// When the database cannot be reached or used, has something else in the place of our tables, or was written by a newer
    /// version. No error shows the address, which may carry a password.
    pub async fn open(url: &str, schema: &str) -> Result<Self, StateError> {
        let connect = PgConnectOptions::from_str(url)
            .map_err(|_| {
                StateError::new(
                    "its address is none of Postgres: write `postgres://user@host/database`, with what is special in \
                     it (as `@` in a password) as `%40`",
                )
            })?
            .application_name("trueup")
            .statement_cache_capacity(0)
            .disable_statement_logging();
        // A pool tries again for as long as it may, and does not say why it failed.
        let first = tokio::time::timeout(CONNECT_PATIENCE, connect.connect()).await;
        let first =
            first.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map_err(|error| failed(schema, &error))?;
        // It only says goodbye.
        let _ = first.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT_PATIENCE)
            .connect_lazy_with(connect);
        let state =
            Self { schema: schema.to_owned(), pool, names: Arc::default(), holding: Holding::default() };
        state.prepare().await?;
        Ok(state)
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn failed(&self, error: &sqlx::Error) -> StateError {
        failed(&self.schema, error)
    }

    fn unreadable(&self) -> StateError {
        StateError::new(format!(
            "schema `{}` has a record that cannot be read: {}",
            self.schema,
            schema::REPAIR
        ))
    }

    /// A table of ours as it stands in statements.
    fn table(&self, name: &str) -> String {
        format!("{}.trueup_{name}", quoted(&self.schema))
    }

    /// A statement in which `{name}` is our table of that name.
    fn sql(&self, text: &str) -> Query<'static, Postgres, PgArguments> {
        let mut sql = text.to_owned();
        for table in schema::NAMES {
            sql = sql.replace(&format!("{{{table}}}"), &self.table(table));
        }
        // Named prepared statements do not go through every pooler.
        sqlx::query(AssertSqlSafe(sql)).persistent(false)
    }

    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StateError> {
        self.pool.begin_with(BEGIN).await.map_err(|error| self.failed(&error))
    }

    async fn end(&self, transaction: Transaction<'static, Postgres>) -> Result<(), StateError> {
        transaction.commit().await.map_err(|error| self.failed(&error))
    }

    /// The rows of one statement.
    async fn rows(&self, query: Query<'static, Postgres, PgArguments>) -> Result<Vec<PgRow>, StateError> {
        let mut transaction = self.begin().await?;
        let rows = query.fetch_all(&mut *transaction).await.map_err(|error| self.failed(&error))?;
        self.end(transaction).await?;
        Ok(rows)
    }

    /// The only row of a statement.
    async fn row(&self, query: Query<'static, Postgres, PgArguments>) -> Result<PgRow, StateError> {
        self.rows(query).await?.pop().ok_or_else(|| self.unreadable())
    }

    fn column<'r, T>(&self, row: &'r PgRow, at: usize) -> Result<T, StateError>
    where
        T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        row.try_get(at).map_err(|_| self.unreadable())
    }

    /// Reads the names that were added since the last look.
    async fn sync_names(&self, connection: &mut PgConnection, names: &mut Names) -> Result<(), StateError> {
        let rows = self
            .sql("SELECT name FROM {names} WHERE id >= $1 ORDER BY id")
            .bind(i64::try_from(names.saved).unwrap_or(i64::MAX))
            .fetch_all(connection)
            .await
            .map_err(|error| self.failed(&error))?;
        if !rows.is_empty() {
            // Somebody else added names: those not saved yet get other numbers.
            names.dictionary.truncate(names.saved);
            for row in rows {
                let name = String::from_utf8(self.column(&row, 0)?).map_err(|_| self.unreadable())?;
                names.dictionary.push(name);
            }
            names.saved = names.dictionary.len();
        }
        Ok(())
    }

    /// The memory in a row of (key, memory).
    fn memory_of(&self, row: &PgRow, names: &mut Names) -> Result<(RecordKey, Memory), StateError> {
        let key = codec::key_from_bytes(self.column(row, 0)?).map_err(|_| self.unreadable())?;
        let memory = codec::decode(self.column(row, 1)?, &mut names.dictionary);
        Ok((key, memory.map_err(|_| self.unreadable())?))
    }

    /// The memories that a query of (key, memory) finds.
    async fn memories(
        &self,
        query: Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<(RecordKey, Memory)>, StateError> {
        let mut transaction = self.begin().await?;
        let rows = query.fetch_all(&mut *transaction).await.map_err(|error| self.failed(&error))?;
        let mut names = self.names.lock().await;
        // After the records: names are only ever added, and with the first record that has them.
        self.sync_names(&mut transaction, &mut names).await?;
        self.end(transaction).await?;
        rows.iter().map(|row| self.memory_of(row, &mut names)).collect()
    }

    fn intent_of(&self, row: &PgRow) -> Result<Intent, StateError> {
        serde_json::from_slice(self.column(row, 0)?).map_err(|_| self.unreadable())
    }
}

/// A name as it stands in statements.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// An error of the database: what it means and what to do, by its code alone. Texts of the server may hold values.
fn failed(schema: &str, error: &sqlx::Error) -> StateError {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code).unwrap_or_default();
    let class = code.get(..2).unwrap_or_default();
    StateError::new(match (error, &*code, class) {
        (sqlx::Error::Io(error), ..) => {
            format!("Postgres cannot be reached ({}): check the address, and whether it runs", error.kind())
        }
        (sqlx::Error::PoolTimedOut, ..) => {
            let seconds = CONNECT_PATIENCE.as_secs();
            format!(
                "Postgres gave no connection for {seconds} s: check whether it runs, and its `max_connections`"
            )
        }
        (sqlx::Error::Tls(_), ..) => {
            "no secure connection to Postgres: check `sslmode` in its address, and its certificate".to_owned()
        }
        (_, _, "28") => {
            format!("Postgres does not let this user in (code {code}): check user, password and pg_hba.conf")
        }
        (_, "3D000", _) => {
            "Postgres has no database of this name: make it, or correct the address".to_owned()
        }
        (_, "42501", _) => format!(
            "schema `{schema}` may not be used or made by this user: GRANT USAGE, CREATE ON SCHEMA, or CREATE ON DATABASE"
        ),
        (_, "42P07" | "42710", _) => {
            format!(
                "schema `{schema}` has a table of something else in the place of one of ours: name another schema"
            )
        }
        (_, "25006", _) => "Postgres takes no writes (a standby?): name the one that does".to_owned(),
        (_, "25P03", _) => "a change was given up after a long stop in the middle: plan again".to_owned(),
        (_, _, "53") => format!("Postgres is short of something (code {code}): disk, memory or connections"),
        (_, _, "57" | "08") => {
            format!("Postgres went away in the middle (code {code}): try again once it runs")
        }
        (_, "", _) => "the connection to Postgres broke: try again once it runs".to_owned(),
        _ => {
            // A constraint of ours: its name tells the table.
            let constraint = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
            let constraint = constraint.map(|name| format!(", {name}")).unwrap_or_default();
            format!("schema `{schema}` cannot be used (code {code}{constraint}): {}", schema::REPAIR)
        }
    })
}

#[async_trait]
impl State for PostgresState {
    async fn header(&self) -> Result<Header, StateError> {
        let row = self.row(self.sql("SELECT id, acknowledged, intended FROM {state}")).await?;
        Ok(Header {
            id: StateId(self.column(&row, 0)?),
            acknowledged: self.column(&row, 1)?,
            intended: self.column(&row, 2)?,
        })
    }

    async fn acquire(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<(), StateError> {
        let renewed = self.holding.term(holder);
        // One statement: taken only if it is free, ours, or lapsed; renewed only if nobody had it in between.
        let query = self
            .sql(
                "UPDATE {state} SET holder = $1, expires = $2, \
                 term = CASE WHEN term = $4 THEN term ELSE term + 1 END \
                 WHERE (holder IS NULL OR holder = $1 OR expires <= $3) AND ($4 IS NULL OR term = $4) \
                 RETURNING term",
            )
            .bind(holder.to_owned())
            .bind(until.micros())
            .bind(now.micros())
            .bind(renewed);
        if let Some(row) = self.rows(query).await?.pop() {
            self.holding.take(holder, self.column(&row, 0)?);
            return Ok(());
        }
        if renewed.is_some() {
            self.holding.lose();
            return Err(overtaken());
        }
        Err(held_by(self.lease().await?.as_ref()))
    }

    async fn release(&self, holder: &str) -> Result<(), StateError> {
        let term = self.holding.give_up(holder);
        let query = self
            .sql(
                "UPDATE {state} SET holder = NULL, expires = NULL \
                 WHERE holder = $1 AND ($2 IS NULL OR term = $2)",
            )
            .bind(holder.to_owned())
            .bind(term);
        self.rows(query).await.map(drop)
    }

    async fn lease(&self) -> Result<Option<Lease>, StateError> {
        let row = self.row(self.sql("SELECT holder, expires FROM {state}")).await?;
        let Some(holder) = self.column::<Option<String>>(&row, 0)? else { return Ok(None) };
        let expires = Timestamp::from_micros(self.column(&row, 1)?).ok_or_else(|| self.unreadable())?;
        Ok(Some(Lease { holder, expires }))
    }

    async fn marks(&self, entity: &EntityName) -> Result<Option<Marks>, StateError> {
        let query = self.sql("SELECT body FROM {marks} WHERE entity = $1").bind(entity.as_str().to_owned());
        let Some(row) = self.rows(query).await?.pop() else { return Ok(None) };
        let body: String = self.column(&row, 0)?;
        // Marks that cannot be read say nothing: everything is looked at.
        Ok(serde_json::from_str(&body).ok())
    }

    async fn open_intents(&self) -> Result<Vec<Intent>, StateError> {
        let query = self.sql("SELECT body FROM {journal} WHERE ended IS NULL ORDER BY seq");
        self.rows(query).await?.iter().map(|row| self.intent_of(row)).collect()
    }

    async fn page(
        &self,
        entity: &Entity,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Memory)>, StateError> {
        // The empty key is before all others.
        let query = self
            .sql(
                "SELECT key, memory FROM {shadows} WHERE entity = (SELECT id FROM {entities} WHERE name = $1) \
                 AND key > $2 ORDER BY key LIMIT $3",
            )
            .bind(entity.name.as_str().to_owned())
            .bind(after.map(codec::key_to_bytes).unwrap_or_default())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.memories(query).await
    }

    async fn recall(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Memory>, StateError> {
        let keys: Vec<Vec<u8>> = keys.iter().map(codec::key_to_bytes).collect();
        let query = self.sql(RECALL).bind(entity.name.as_str().to_owned()).bind(keys);
        Ok(self.memories(query).await?.into_iter().collect())
    }

    async fn deletes_since(&self, since: Timestamp) -> Result<RecentDeletes, StateError> {
        let query = self.sql(
            "SELECT entity, store, sum(count)::bigint FROM {deletes} WHERE at >= $1 GROUP BY entity, store",
        );
        let one = |row: &PgRow| {
            let entity = EntityName::new(row.try_get::<&str, _>(0).ok()?).ok()?;
            let store = StoreName::new(row.try_get::<&str, _>(1).ok()?).ok()?;
            Some(((entity, store), u64::try_from(row.try_get::<i64, _>(2).ok()?).ok()?))
        };
        let rows = self.rows(query.bind(since.micros())).await?;
        rows.iter().map(|row| one(row).ok_or_else(|| self.unreadable())).collect()
    }

    async fn notes(&self, kind: &str) -> Result<BTreeMap<String, String>, StateError> {
        let query = self.sql("SELECT key, body FROM {notes} WHERE kind = $1").bind(kind.to_owned());
        let rows = self.rows(query).await?;
        rows.iter().map(|row| Ok((self.column(row, 0)?, self.column(row, 1)?))).collect()
    }

    async fn note(&self, kind: &str, changes: &BTreeMap<String, Option<String>>) -> Result<(), StateError> {
        let mut transaction = self.begin().await?;
        for (key, body) in changes {
            let query = match body {
                Some(body) => self
                    .sql(
                        "INSERT INTO {notes} VALUES ($1, $2, $3) \
                         ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                    )
                    .bind(kind.to_owned())
                    .bind(key.clone())
                    .bind(body.clone()),
                None => self
                    .sql("DELETE FROM {notes} WHERE kind = $1 AND key = $2")
                    .bind(kind.to_owned())
                    .bind(key.clone()),
            };
            query.execute(&mut *transaction).await.map_err(|error| self.failed(&error))?;
        }
        self.end(transaction).await
    }

    async fn commit(&self, transition: &Transition) -> Result<(), StateError> {
        self.make_change(transition).await
    }
}

/// The records of some keys of an entity.
const RECALL: &str = "SELECT key, memory FROM {shadows} WHERE entity = (SELECT id FROM {entities} WHERE name = $1) \
                      AND key = ANY($2)";
