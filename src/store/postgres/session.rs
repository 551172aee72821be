//! One transaction on a connection of its own. One that does not come to its end takes the connection with it: the server undoes
//! what was begun, and nothing half-read is left for the next user of the connection.

use std::pin::pin;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres};

use crate::model::{StoreError, StoreName};

use super::error::store_error;

/// A prepared query under way.
pub(super) type Query<'q> = sqlx::query::Query<'q, Postgres, PgArguments>;

/// Connections a store: one for each entity being read, and some to write with.
const CONNECTIONS: u32 = 8;
/// How long to wait for a connection that is free.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);
/// How long to wait for the pool before we connect ourselves, to learn what is wrong: the pool tries again and again, and gives no reason.
const SOON: Duration = Duration::from_millis(500);
/// How long to wait for a server that does not answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Settings of every transaction. Row-level security is an error instead of hiding rows; the texts of values do not depend on how the
/// server is set up; what applications `RAISE NOTICE` does not reach the log. A generic plan looks a batch's keys up by index; one made for so
/// many keys would read the whole table.
const SETTINGS: &str = "SET LOCAL client_min_messages = error; SET LOCAL row_security = off; \
    SET LOCAL DateStyle = 'ISO, MDY'; SET LOCAL IntervalStyle = 'postgres'; SET LOCAL TimeZone = 'UTC'; \
    SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL lock_timeout = '10s'; \
    SET LOCAL plan_cache_mode = force_generic_plan; SET LOCAL jit = off; \
    SET LOCAL idle_in_transaction_session_timeout = '15min'";

/// A transaction that sees the database as of one moment. Reading a table takes as long as it takes.
pub(super) const READ: &str =
    "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = 0";
/// A transaction that writes. `READ WRITE` is left out: where the administrator made transactions read-only by default, they stay so. The
/// setting tells our triggers that the writes are trueup's own.
pub(super) const WRITE: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL trueup.writer = 'trueup'";

/// The way to a server.
#[derive(Debug, Clone)]
pub(super) struct Server {
    store: StoreName,
    options: PgConnectOptions,
    pool: PgPool,
    /// Whether statements may be kept prepared: not where a pooler gives each transaction another connection.
    persistent: bool,
}

impl Server {
    /// A way to a server, not gone yet.
    pub(super) fn new(store: &StoreName, options: PgConnectOptions, persistent: bool) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options.clone());
        Self { store: store.clone(), options, pool, persistent }
    }

    /// Connects once more, to hear what is wrong.
    async fn dial(&self) -> Result<(), StoreError> {
        let dialled = tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&self.options)).await;
        let connection = dialled
            .unwrap_or(Err(sqlx::Error::PoolTimedOut))
            .map_err(|error| store_error(&self.store, &error))?;
        // How it takes its leave does not matter.
        let _ = connection.close().await;
        Ok(())
    }

    /// Begins a transaction.
    pub(super) async fn begin(&self, how: &str) -> Result<Session, StoreError> {
        let failed = |error| store_error(&self.store, &error);
        let mut acquire = pin!(self.pool.acquire());
        let acquired = if let Ok(acquired) = tokio::time::timeout(SOON, &mut acquire).await {
            acquired
        } else {
            // All are in use, or the server does not answer.
            self.dial().await?;
            acquire.await
        };
        let connection = acquired.map_err(failed)?;
        let mut session = Session { connection: Some(connection), persistent: self.persistent };
        session.run(&format!("{how}; {SETTINGS}")).await.map_err(failed)?;
        Ok(session)
    }

    /// Closes all connections.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }
}

/// A transaction under way.
pub(super) struct Session {
    /// There until the end.
    connection: Option<PoolConnection<Postgres>>,
    persistent: bool,
}

impl Session {
    /// The connection.
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.connection.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// A query of this text, with its values only as parameters.
    pub(super) fn query(&self, sql: &str) -> Query<'static> {
        // The text is put together from quoted names and placeholders alone.
        sqlx::query(AssertSqlSafe(sql.to_owned())).persistent(self.persistent)
    }

    /// Runs statements without values in one go.
    pub(super) async fn run(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let statements = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        statements.execute(self.connection()?).await.map(drop)
    }

    /// The rows of a query.
    pub(super) async fn all(&mut self, query: Query<'_>) -> Result<Vec<PgRow>, sqlx::Error> {
        query.fetch_all(self.connection()?).await
    }

    /// The first row of a query.
    pub(super) async fn one(&mut self, query: Query<'_>) -> Result<PgRow, sqlx::Error> {
        query.fetch_one(self.connection()?).await
    }

    /// How many rows a statement wrote.
    pub(super) async fn execute(&mut self, query: Query<'_>) -> Result<u64, sqlx::Error> {
        Ok(query.execute(self.connection()?).await?.rows_affected())
    }

    /// Ends the transaction and gives the connection back.
    pub(super) async fn end(mut self, how: &str) -> Result<(), sqlx::Error> {
        self.run(how).await?;
        drop(self.connection.take());
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

/// A name as SQL has it. Everything may stand between double quotes; a double quote stands there twice.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
