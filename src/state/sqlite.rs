//! A state in a `SQLite` file: private to its owner, and safe against a crash at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Row as _, SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

use crate::model::{
    Entity, EntityName, Header, Intent, Memory, RecentDeletes, RecordKey, StateId, StoreName, Timestamp,
    Transition,
};

use super::codec::{self, Dictionary};
use super::{Lease, State, StateError, held_by};

mod commit;
mod schema;

/// Keys a query, well below `SQLite`'s limit of 32,766 parameters.
const KEYS_PER_QUERY: usize = 500;

/// A state file.
#[derive(Debug, Clone)]
pub struct SqliteState {
    path: PathBuf,
    pool: SqlitePool,
    names: Arc<Mutex<Names>>,
}

/// The names that records are written with, and how many of them the file is known to have.
#[derive(Debug, Default)]
struct Names {
    dictionary: Dictionary,
    saved: usize,
}

impl SqliteState {
    /// Opens a state, making its file (0600, in a folder of 0700 where that has to be made) if it is not there.
    ///
    /// # Errors
    /// When the file cannot be opened, is damaged, is no state, or was written by a newer version.
    pub async fn open(path: &Path) -> Result<Self, StateError> {
        if path.is_dir() {
            return Err(StateError::new(format!("`{}` is a folder: name a file", path.display())));
        }
        crate::store::files::create_private(path).map_err(|error| {
            StateError::new(format!("`{}` cannot be made: {}", path.display(), error.kind()))
        })?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(Duration::from_secs(5))
            // Pages of twice the usual size hold whole records of a kilobyte without spilling.
            .page_size(8192)
            .journal_mode(SqliteJournalMode::Wal)
            // What was committed survives a power cut: a shadow or an intent that came back from the dead could lose an edit.
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        let pool = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(connect)
            .await
            .map_err(|error| failed(path, &error))?;
        let state = Self { path: path.to_owned(), pool, names: Arc::default() };
        state.prepare().await?;
        Ok(state)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    fn failed(&self, error: &sqlx::Error) -> StateError {
        failed(&self.path, error)
    }

    fn unreadable(&self) -> StateError {
        StateError::new(format!(
            "`{}` has a record that cannot be read: {}",
            self.path.display(),
            schema::REPAIR
        ))
    }

    /// The memory in a row of (key, memory).
    fn memory_of(&self, row: &SqliteRow, names: &mut Names) -> Result<(RecordKey, Memory), StateError> {
        let column = |at| row.try_get::<Vec<u8>, _>(at).map_err(|error| self.failed(&error));
        let key = codec::key_from_bytes(&column(0)?).map_err(|_| self.unreadable())?;
        let memory = codec::decode(&column(1)?, &mut names.dictionary).map_err(|_| self.unreadable())?;
        Ok((key, memory))
    }
}

/// An error of the file. The texts of its statements hold no values, and neither do these.
fn failed(path: &Path, error: &sqlx::Error) -> StateError {
    let shown = path.display();
    let code =
        error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok()).unwrap_or(0) & 0xff;
    StateError::new(match code {
        5 | 6 => format!("`{shown}` is locked by another program: wait for it, or end it"),
        8 | 3 | 14 | 23 => {
            format!("`{shown}` cannot be opened for writing: check who owns it and its folder")
        }
        11 | 26 => format!("`{shown}` is damaged or no SQLite file: {}", schema::REPAIR),
        13 => format!("the disk of `{shown}` is full"),
        10 => format!("reading or writing `{shown}` failed: check its disk"),
        _ => format!("`{shown}` cannot be used (code {code}): {}", schema::REPAIR),
    })
}

/// Reads the names that were added since the last look.
async fn sync_names(connection: &mut SqliteConnection, names: &mut Names) -> Result<(), sqlx::Error> {
    let known = i64::try_from(names.saved).unwrap_or(i64::MAX);
    let rows = sqlx::query("SELECT name FROM names WHERE id >= ? ORDER BY id")
        .bind(known)
        .fetch_all(connection)
        .await?;
    if !rows.is_empty() {
        // Somebody else added names: those not saved yet get other numbers.
        names.dictionary.truncate(names.saved);
        for row in rows {
            names.dictionary.push(row.try_get(0)?);
        }
        names.saved = names.dictionary.len();
    }
    Ok(())
}

#[async_trait]
impl State for SqliteState {
    async fn header(&self) -> Result<Header, StateError> {
        let row = sqlx::query("SELECT id, acknowledged, intended FROM header")
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.failed(&error))?;
        let read = || -> Result<Header, sqlx::Error> {
            Ok(Header {
                id: StateId(row.try_get(0)?),
                acknowledged: row.try_get(1)?,
                intended: row.try_get(2)?,
            })
        };
        read().map_err(|error| self.failed(&error))
    }

    async fn acquire(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<(), StateError> {
        // One statement: taken only if it is free, ours, or lapsed.
        let taken = sqlx::query(
            "INSERT INTO lease (one, holder, expires) VALUES (1, ?1, ?2) ON CONFLICT (one) DO UPDATE \
             SET holder = excluded.holder, expires = excluded.expires \
             WHERE lease.holder = excluded.holder OR lease.expires <= ?3",
        )
        .bind(holder.to_owned())
        .bind(until.micros())
        .bind(now.micros())
        .execute(&self.pool)
        .await
        .map_err(|error| self.failed(&error))?;
        if taken.rows_affected() == 1 {
            return Ok(());
        }
        Err(match self.lease().await? {
            Some(lease) => held_by(&lease),
            None => StateError { held_elsewhere: true, ..StateError::new("the lease was held a moment ago") },
        })
    }

    async fn release(&self, holder: &str) -> Result<(), StateError> {
        let gone = sqlx::query("DELETE FROM lease WHERE holder = ?").bind(holder.to_owned());
        gone.execute(&self.pool).await.map(drop).map_err(|error| self.failed(&error))
    }

    async fn lease(&self) -> Result<Option<Lease>, StateError> {
        let row = sqlx::query("SELECT holder, expires FROM lease").fetch_optional(&self.pool).await;
        let Some(row) = row.map_err(|error| self.failed(&error))? else { return Ok(None) };
        let holder: String = row.try_get(0).map_err(|error| self.failed(&error))?;
        let expires: i64 = row.try_get(1).map_err(|error| self.failed(&error))?;
        let expires = Timestamp::from_micros(expires).ok_or_else(|| self.unreadable())?;
        Ok(Some(Lease { holder, expires }))
    }

    async fn deletes_since(&self, since: Timestamp) -> Result<RecentDeletes, StateError> {
        let rows =
            sqlx::query("SELECT entity, store, sum(count) FROM deletes WHERE at >= ? GROUP BY entity, store")
                .bind(since.micros())
                .fetch_all(&self.pool)
                .await
                .map_err(|error| self.failed(&error))?;
        let one = |row: &SqliteRow| {
            let entity = EntityName::new(row.try_get::<&str, _>(0).ok()?).ok()?;
            let store = StoreName::new(row.try_get::<&str, _>(1).ok()?).ok()?;
            let count = u64::try_from(row.try_get::<i64, _>(2).ok()?).ok()?;
            Some(((entity, store), count))
        };
        rows.iter().map(|row| one(row).ok_or_else(|| self.unreadable())).collect()
    }

    async fn open_intents(&self) -> Result<Vec<Intent>, StateError> {
        let rows = sqlx::query("SELECT body FROM journal WHERE ended IS NULL ORDER BY seq")
            .fetch_all(&self.pool)
            .await
            .map_err(|error| self.failed(&error))?;
        let intent = |row: &SqliteRow| {
            let body: Vec<u8> = row.try_get(0).map_err(|error| self.failed(&error))?;
            serde_json::from_slice(&body).map_err(|_| self.unreadable())
        };
        rows.iter().map(intent).collect()
    }

    async fn page(
        &self,
        entity: &Entity,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Memory)>, StateError> {
        let mut names = self.names.lock().await;
        // One transaction, so that no record is newer than the names.
        let mut transaction = self.pool.begin().await.map_err(|error| self.failed(&error))?;
        sync_names(&mut transaction, &mut names).await.map_err(|error| self.failed(&error))?;
        // The empty key is before all others.
        let rows = sqlx::query(
            "SELECT key, memory FROM shadows WHERE entity = (SELECT id FROM entities WHERE name = ?) \
             AND key > ? ORDER BY key LIMIT ?",
        )
        .bind(entity.name.as_str().to_owned())
        .bind(after.map(codec::key_to_bytes).unwrap_or_default())
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *transaction)
        .await
        .map_err(|error| self.failed(&error))?;
        rows.iter().map(|row| self.memory_of(row, &mut names)).collect()
    }

    async fn recall(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Memory>, StateError> {
        let mut names = self.names.lock().await;
        let mut transaction = self.pool.begin().await.map_err(|error| self.failed(&error))?;
        sync_names(&mut transaction, &mut names).await.map_err(|error| self.failed(&error))?;
        let wanted: BTreeSet<Vec<u8>> = keys.iter().map(codec::key_to_bytes).collect();
        let rows = self.rows_of(&mut transaction, &entity.name, &wanted).await?;
        rows.iter().map(|row| self.memory_of(row, &mut names)).collect()
    }

    async fn count(&self, entity: &EntityName) -> Result<u64, StateError> {
        let row = sqlx::query(
            "SELECT count(*) FROM shadows WHERE entity = (SELECT id FROM entities WHERE name = ?)",
        )
        .bind(entity.as_str().to_owned())
        .fetch_one(&self.pool)
        .await
        .map_err(|error| self.failed(&error))?;
        let count: i64 = row.try_get(0).map_err(|error| self.failed(&error))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    async fn commit(&self, transition: &Transition) -> Result<(), StateError> {
        self.make_change(transition).await
    }
}

impl SqliteState {
    /// The rows (key, memory) of some keys of an entity.
    async fn rows_of(
        &self,
        connection: &mut SqliteConnection,
        entity: &EntityName,
        keys: &BTreeSet<Vec<u8>>,
    ) -> Result<Vec<SqliteRow>, StateError> {
        let keys: Vec<&Vec<u8>> = keys.iter().collect();
        let mut all = Vec::new();
        for chunk in keys.chunks(KEYS_PER_QUERY) {
            let marks = vec!["?"; chunk.len()].join(", ");
            let sql = format!(
                "SELECT key, memory FROM shadows WHERE entity = (SELECT id FROM entities WHERE name = ?) \
                 AND key IN ({marks})"
            );
            let mut query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(entity.as_str().to_owned());
            for key in chunk {
                query = query.bind((*key).clone());
            }
            all.extend(query.fetch_all(&mut *connection).await.map_err(|error| self.failed(&error))?);
        }
        Ok(all)
    }
}
