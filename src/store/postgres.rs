//! `PostgreSQL` databases as stores; Supabase's are some.
//!
//! Tables are other applications' as much as ours: what no mapping names is never read into a write and never touched. Names are
//! quoted and qualified; values go as parameters or as a `COPY`'s data only. Everything is read as of one moment, with row-level
//! security as an error instead of a filter; everything is written under a lock of the row that was compared.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use async_trait::async_trait;
use sqlx::ConnectOptions as _;
use sqlx::Row as _;
use sqlx::postgres::PgConnectOptions;

use crate::model::{
    Batch, BatchId, Capabilities, ErrorKind, Except, Falls, FoundTable, IntentId, Mapped, Mark, Outcome,
    Presence, RecordKey, StoreError, StoreName,
};

use super::tables::no_table;
use super::{Changes, MigrationStep, Probe, SnapshotStream, Store};
use error::URL_HINT;
use layout::TableNames;
use mark::Own;
use session::{READ, Server, Session};

mod changes;
mod error;
mod exchange;
mod falls;
mod found;
mod image;
mod kind;
mod layout;
mod mark;
mod migrate;
mod read;
mod refusal;
mod rows;
mod session;
mod tries;
mod triggers;

pub(crate) use error::store_error;
pub use triggers::NOTIFY_CHANNEL;
mod write;

pub(super) use migrate::script;

/// Writes a batch: enough that what each costs besides itself does not show, few enough that locks are held for moments.
const BATCH_SIZE: usize = 5000;

/// How a database is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// The schema of tables that name none.
    pub schema: String,
    /// Never write.
    pub read_only: bool,
    /// Whether `migrate` makes triggers that send notifications of every change.
    pub notify: bool,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { schema: "public".to_owned(), read_only: false, notify: false }
    }
}

/// A `PostgreSQL` database.
#[derive(Clone)]
pub struct PostgresStore {
    name: StoreName,
    schema: String,
    read_only: bool,
    notify: bool,
    capabilities: Capabilities,
    server: Server,
    /// The server does not tell which one it is.
    nameless: Arc<AtomicBool>,
    own: Arc<Own>,
}

impl fmt::Debug for PostgresStore {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("name", &self.name)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl PostgresStore {
    /// Takes note of where a database is. It is contacted when it is first needed: one that is down is found down then, and found up
    /// again later.
    ///
    /// The address is as libpq has it (`postgres://user@host/database?sslmode=verify-full&sslrootcert=…`). Behind a pooler that
    /// gives each transaction another connection it says `pgbouncer=true` or `statement_cache_capacity=0` besides.
    ///
    /// # Errors
    /// When the address cannot be understood.
    pub fn open(name: StoreName, url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let (connect, pooled) = connect_options(&name, url)?;
        let server = Server::new(&name, connect, !pooled);
        let capabilities = Capabilities {
            batch_size: BATCH_SIZE,
            atomic_guards: true,
            can_be_canonical: true,
            time_precision_micros: 1,
        };
        let PostgresOptions { schema, read_only, notify } = options;
        let (nameless, own) = (Arc::default(), Arc::default());
        Ok(Self { name, schema, read_only, notify, capabilities, server, nameless, own })
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.server.close().await;
    }

    fn names(&self, mapped: &Mapped) -> Result<TableNames, StoreError> {
        TableNames::of(&self.name, &self.schema, mapped)
    }

    fn refusal(&self, kind: ErrorKind, message: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.name, message)
    }

    /// Locks a table. Before the first query of a transaction that reads, this also sees to it that its moment comes after whatever
    /// was done to the table as a whole.
    async fn lock(&self, session: &mut Session, names: &TableNames, mode: &str) -> Result<(), StoreError> {
        let locked = session.run(&format!("LOCK TABLE {} IN {mode} MODE", names.sql())).await;
        locked.map_err(|error| match error::code(&error) {
            Some("42P01" | "3F000") => no_table(&self.name, names.system, &names.title),
            Some("42809") => self
                .refusal(ErrorKind::Unsupported, format!("`{}` is neither a table nor a view", names.title)),
            _ => {
                let told = store_error(&self.name, &error);
                StoreError { message: format!("`{}`: {}", names.title, told.message), ..told }
            }
        })
    }
}

/// What an address says, and whether there is a pooler in between.
fn connect_options(name: &StoreName, url: &str) -> Result<(PgConnectOptions, bool), StoreError> {
    let invalid = |message: String| StoreError::new(ErrorKind::Invalid, name, message).hint(URL_HINT);
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(invalid("the store's `url` does not begin with `postgres://`".into()));
    }
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut kept, mut pooled) = (Vec::new(), false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (word, value) = pair.split_once('=').unwrap_or((pair, ""));
        match word {
            "pgbouncer" => pooled |= value == "true",
            "statement_cache_capacity" | "statement-cache-capacity" => pooled |= value == "0",
            "sslmode" | "sslrootcert" | "sslcert" | "sslkey" | "host" | "hostaddr" | "port" | "dbname"
            | "user" | "password" | "application_name" | "options" => kept.push(pair),
            // Known to other clients and of no use here.
            "connect_timeout"
            | "target_session_attrs"
            | "channel_binding"
            | "connection_limit"
            | "pool_timeout"
            | "schema" => {}
            word if word.starts_with("options[") => kept.push(pair),
            _ => return Err(invalid(format!("the store's `url` has an unknown setting `{}`", shown(word)))),
        }
    }
    if let Some(file) = kept.iter().find_map(|pair| pair.strip_prefix("sslrootcert=")) {
        check_root(name, file)?;
    }
    let kept = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    // The error may show the address.
    let mut options = PgConnectOptions::from_str(&kept)
        .map_err(|_| invalid("the store's `url` cannot be understood".into()))?
        .disable_statement_logging();
    if options.get_application_name().is_none() {
        options = options.application_name("trueup");
    }
    // Poolers refuse settings that they do not follow; every transaction makes this one for itself.
    options = options.extra_float_digits(None);
    // Supabase's pooler listens there.
    pooled |= options.get_port() == 6543;
    if pooled {
        options = options.statement_cache_capacity(0);
    }
    Ok((options, pooled))
}

/// Whether the file that vouches for the server can be read: the connection would only say that it did not come about.
fn check_root(name: &StoreName, file: &str) -> Result<(), StoreError> {
    // As in the rest of an address, what is no plain letter may stand there as `%20`; such a name is left to the connection.
    if file.contains('%') || file == "system" {
        return Ok(());
    }
    std::fs::File::open(file).map(drop).map_err(|error| {
        let message = format!("the file of `sslrootcert`, `{file}`, cannot be read: {}", error.kind());
        StoreError::new(ErrorKind::Invalid, name, message)
            .hint("name the file with the certificate that the server's is signed by")
    })
}

/// The word of a setting, as far as it is one.
fn shown(word: &str) -> String {
    word.chars().filter(|char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-')).take(40).collect()
}

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn probe(&self) -> Result<Probe, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let mut session = self.server.begin(READ).await?;
        let query = session
            .query("SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('server_encoding')");
        let row = session.one(query).await.map_err(failed)?;
        let encoding: String = row.try_get(1).map_err(failed)?;
        layout::check_server(&self.name, row.try_get(0).map_err(failed)?, &encoding)?;
        let identity = self.identity(&mut session).await.map_err(failed)?;
        session.end("ROLLBACK").await.map_err(failed)?;
        Ok(Probe { identity })
    }

    async fn tables(&self) -> Result<Option<Vec<FoundTable>>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let mut session = self.server.begin(READ).await?;
        let found = found::tables(&mut session, &self.schema).await.map_err(failed)?;
        session.end("ROLLBACK").await.map_err(failed)?;
        Ok(Some(found))
    }

    async fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        self.missing(mapped).await
    }

    async fn migrate(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        self.run_steps(steps).await
    }

    async fn snapshot(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        self.read_whole(mapped, None).await
    }

    async fn snapshot_except(&self, mapped: Mapped, except: Except) -> Result<SnapshotStream, StoreError> {
        self.read_whole(mapped, Some(except)).await
    }

    async fn changes(&self, mapped: &Mapped, since: &Mark) -> Result<Option<Box<dyn Changes>>, StoreError> {
        self.changed_since(mapped, since).await
    }

    fn seal(&self, _mapped: &Mapped, mark: Mark) -> Mark {
        self.own.seal(mark)
    }

    async fn read(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        self.read_some(mapped, keys).await
    }

    async fn read_native(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, serde_json::Value>, StoreError> {
        self.read_objects(mapped, keys).await
    }

    async fn apply(&self, mapped: &Mapped, batch: &Batch) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        self.apply_batch(mapped, batch).await
    }

    async fn apply_falls(&self, falls: &Falls) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        self.delete_falls(falls).await
    }

    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        self.read_receipts(batches).await
    }

    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        self.remove_receipts(batches).await
    }
}
