//! A state in a `SQLite` file: private to its owner, and safe against a crash at any moment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{
    Connection, OpenFlags, OptionalExtension as _, Row, Transaction, TransactionBehavior, params,
};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::model::{
    Entity, EntityName, Header, Intent, IntentEnd, Marks, Memory, RecentDeletes, RecordKey, StateId,
    StoreName, Timestamp, Transition,
};
use crate::store::sqlite::pool::{Pool, PoolError, Replaced, code};

use super::codec::{self, BadRecord, Dictionary};
use super::hold::{Holding, overtaken};
use super::{Lease, State, StateError, held_by};

mod commit;
mod journal;
mod schema;

/// Keys a query, well below `SQLite`'s limit of 32,766 parameters. A query of a fixed number of them is prepared once.
const KEYS_PER_QUERY: usize = 500;

/// Connections: one that writes, and some that read meanwhile.
const CONNECTIONS: u32 = 4;

/// How long to wait for another program, or for a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// A state file.
#[derive(Debug, Clone)]
pub struct SqliteState {
    path: PathBuf,
    pool: Pool,
    names: Arc<Mutex<Names>>,
    holding: Holding,
}

/// The names that records are written with, and how many of them the file is known to have.
#[derive(Debug, Default)]
struct Names {
    dictionary: Dictionary,
    saved: usize,
}

/// What went wrong with a piece of work.
#[derive(Debug)]
enum Failure {
    Sqlite(rusqlite::Error),
    /// What was read is none of ours.
    Unreadable,
    /// Another program has added names since.
    NamesMoved,
    Said(StateError),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<codec::BadRecord> for Failure {
    fn from(_: codec::BadRecord) -> Self {
        Self::Unreadable
    }
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
            StateError::new(format!(
                "`{}` cannot be made: {}: let its folder be written, or name another place (`state: {{sqlite: PATH}}` in a Controller)",
                path.display(),
                error.kind()
            ))
        })?;
        let file = path.to_owned();
        let pool = Pool::new(Some((path, Replaced::Refuse)), CONNECTIONS, PATIENCE, move || connect(&file));
        let state = Self { path: path.to_owned(), pool, names: Arc::default(), holding: Holding::default() };
        let shown = path.display().to_string();
        state.work(move |connection| schema::prepare(connection, &shown)).await?;
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

    /// The intents that ended last, the latest first, at most `limit` of them. Updates and deletes are kept, some twenty thousand.
    pub async fn ended_intents(&self, limit: u32) -> Result<Vec<(Intent, IntentEnd)>, StateError> {
        self.reading(move |transaction, names| journal::ended(transaction, limit as usize, names)).await
    }

    /// Runs a piece of work with a connection.
    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StateError> {
        match self.pool.run(work).await {
            Ok(done) => done.map_err(|failure| self.explain(&failure)),
            Err(PoolError::Sqlite(error)) => Err(self.explain(&Failure::Sqlite(error))),
            Err(error) => Err(StateError::new(format!("`{}`: {error}", self.path.display()))),
        }
    }

    /// Reads in one transaction, so that no record is newer than the names.
    async fn reading<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Transaction<'_>, &mut Dictionary) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StateError> {
        let mut names = Arc::clone(&self.names).lock_owned().await;
        self.work(move |connection| {
            let transaction = connection.transaction()?;
            sync_names(&transaction, &mut names)?;
            read(&transaction, &mut names.dictionary)
        })
        .await
    }

    /// What the memories of some records say.
    async fn look_up<T: Send + 'static>(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
        read: fn(&[u8], &mut Dictionary) -> Result<T, BadRecord>,
    ) -> Result<BTreeMap<RecordKey, T>, StateError> {
        let entity = entity.name.clone();
        let wanted: BTreeSet<Vec<u8>> = keys.iter().map(codec::key_to_bytes).collect();
        self.reading(move |transaction, names| {
            let mut found = BTreeMap::new();
            let Some(entity) = entity_number(transaction, entity.as_str())? else { return Ok(found) };
            let keys: Vec<&[u8]> = wanted.iter().map(Vec::as_slice).collect();
            visit_rows(transaction, entity, &keys, |key, memory| {
                found.insert(codec::key_from_bytes(key)?, read(memory, names)?);
                Ok(())
            })?;
            Ok(found)
        })
        .await
    }

    /// An error of the file. The texts of its statements hold no values, and neither do these.
    fn explain(&self, failure: &Failure) -> StateError {
        let shown = self.path.display();
        let error = match failure {
            Failure::Said(error) => return error.clone(),
            Failure::Unreadable => {
                return StateError::new(format!(
                    "`{shown}` has a record that cannot be read: {}",
                    schema::REPAIR
                ));
            }
            Failure::NamesMoved => {
                return StateError::new(format!("`{shown}` is written by another program all the time"));
            }
            Failure::Sqlite(error) => error,
        };
        let code = code(error).unwrap_or(0) & 0xff;
        StateError::new(match code {
            5 | 6 => format!("`{shown}` is locked by another program: wait for it, or end it"),
            8 | 3 | 14 | 23 => {
                format!("`{shown}` cannot be opened for writing: check who owns it and its folder")
            }
            11 | 26 => format!("`{shown}` is damaged or no SQLite file: {}", schema::REPAIR),
            13 => format!(
                "the disk of `{shown}` is full: make room there. Nothing is lost: the next pass finds out what became of \
                 writes under way"
            ),
            10 => format!("reading or writing `{shown}` failed: check its disk"),
            _ => format!("`{shown}` cannot be used (code {code}): {}", schema::REPAIR),
        })
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(PATIENCE)?;
    // Pages of twice the usual size hold whole records of a kilobyte without spilling. What was committed survives a power cut: a
    // shadow or an intent that came back from the dead could lose an edit. A megabyte a thousand records goes through the log: it is
    // emptied every 32 MiB. 16 MiB of cache hold the inner pages of a million records.
    connection.execute_batch(
        "PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA wal_autocheckpoint = 4096; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY",
    )?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

/// Reads the names that were added since the last look; says whether there were any.
fn sync_names(connection: &Connection, names: &mut Names) -> Result<bool, Failure> {
    let mut statement = connection.prepare_cached("SELECT name FROM names WHERE id >= ? ORDER BY id")?;
    let known = i64::try_from(names.saved).unwrap_or(i64::MAX);
    let added: Vec<String> =
        statement.query_map([known], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let any = !added.is_empty();
    if any {
        // Somebody else added names: those not saved yet get other numbers.
        names.dictionary.truncate(names.saved);
        for name in added {
            names.dictionary.push(name);
        }
        names.saved = names.dictionary.len();
    }
    Ok(any)
}

/// The lease's term: how often it changed hands.
fn term(connection: &Connection) -> rusqlite::Result<i64> {
    let term =
        connection.prepare_cached("SELECT term FROM terms")?.query_row([], |row| row.get(0)).optional()?;
    Ok(term.unwrap_or(0))
}

/// The number of an entity; none: nothing of it was ever remembered.
fn entity_number(connection: &Connection, entity: &str) -> rusqlite::Result<Option<i64>> {
    connection
        .prepare_cached("SELECT id FROM entities WHERE name = ?")?
        .query_row([entity], |row| row.get(0))
        .optional()
}

/// Looks at the rows (key, memory) of some keys of an entity.
fn visit_rows(
    connection: &Connection,
    entity: i64,
    keys: &[&[u8]],
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    for chunk in keys.chunks(KEYS_PER_QUERY) {
        let marks = vec!["?"; chunk.len()].join(", ");
        let sql = format!("SELECT key, memory FROM shadows WHERE entity = ? AND key IN ({marks})");
        let mut statement = connection.prepare_cached(&sql)?;
        statement.raw_bind_parameter(1, entity)?;
        for (at, key) in chunk.iter().enumerate() {
            statement.raw_bind_parameter(at + 2, key)?;
        }
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            visit(blob(row, 0)?, blob(row, 1)?)?;
        }
    }
    Ok(())
}

fn blob<'r>(row: &'r Row<'_>, at: usize) -> rusqlite::Result<&'r [u8]> {
    row.get_ref(at)?.as_bytes().map_err(Into::into)
}

#[async_trait]
impl State for SqliteState {
    async fn header(&self) -> Result<Header, StateError> {
        self.work(|connection| {
            Ok(connection.query_row("SELECT id, acknowledged, intended FROM header", [], |row| {
                Ok(Header { id: StateId(row.get(0)?), acknowledged: row.get(1)?, intended: row.get(2)? })
            })?)
        })
        .await
    }

    async fn acquire(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<(), StateError> {
        let (ours, renewed) = (holder.to_owned(), self.holding.term(holder));
        // Taken only if it is free, ours, or lapsed; renewed only if nobody had it in between.
        let taken = self
            .work(move |connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                let now_held = term(&transaction)?;
                let taken = transaction.execute(
                    "INSERT INTO lease (one, holder, expires) SELECT 1, ?1, ?2 WHERE ?4 IS NULL OR ?4 = ?5 \
                     ON CONFLICT (one) DO UPDATE SET holder = excluded.holder, expires = excluded.expires \
                     WHERE lease.holder = excluded.holder OR lease.expires <= ?3",
                    params![ours, until.micros(), now.micros(), renewed, now_held],
                )?;
                if taken == 0 {
                    return Ok(None);
                }
                let begun = renewed.unwrap_or(now_held + 1);
                transaction.execute("INSERT OR REPLACE INTO terms (one, term) VALUES (1, ?)", [begun])?;
                transaction.commit()?;
                Ok(Some(begun))
            })
            .await?;
        if let Some(term) = taken {
            self.holding.take(holder, term);
            return Ok(());
        }
        if renewed.is_some() {
            self.holding.lose();
            return Err(overtaken());
        }
        Err(held_by(self.lease().await?.as_ref()))
    }

    async fn release(&self, holder: &str) -> Result<(), StateError> {
        let (ours, given_up) = (holder.to_owned(), self.holding.give_up(holder));
        self.work(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let now_held = term(&transaction)?;
            if given_up.is_none_or(|given_up| given_up == now_held) {
                transaction.execute("DELETE FROM lease WHERE holder = ?", [ours])?;
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn lease(&self) -> Result<Option<Lease>, StateError> {
        self.work(|connection| {
            let row = connection
                .query_row("SELECT holder, expires FROM lease", [], |row| {
                    Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
                })
                .optional()?;
            let lease = |(holder, expires)| {
                let expires = Timestamp::from_micros(expires).ok_or(Failure::Unreadable)?;
                Ok(Lease { holder, expires })
            };
            row.map(lease).transpose()
        })
        .await
    }

    async fn deletes_since(&self, since: Timestamp) -> Result<RecentDeletes, StateError> {
        self.work(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT entity, store, sum(count) FROM deletes WHERE at >= ? GROUP BY entity, store",
            )?;
            let rows = statement.query_map([since.micros()], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get::<_, i64>(2)?))
            })?;
            let mut recent = RecentDeletes::new();
            for row in rows {
                let (entity, store, count) = row?;
                let entity = EntityName::new(entity).map_err(|_| Failure::Unreadable)?;
                let store = StoreName::new(store).map_err(|_| Failure::Unreadable)?;
                recent.insert((entity, store), u64::try_from(count).unwrap_or(0));
            }
            Ok(recent)
        })
        .await
    }

    async fn marks(&self, entity: &EntityName) -> Result<Option<Marks>, StateError> {
        let entity = entity.clone();
        self.work(move |connection| {
            let body: Option<Vec<u8>> = connection
                .query_row("SELECT body FROM marks WHERE entity = ?", [entity.as_str()], |row| row.get(0))
                .optional()?;
            // Marks that cannot be read say nothing: everything is looked at.
            Ok(body.and_then(|body| serde_json::from_slice(&body).ok()))
        })
        .await
    }

    async fn open_intents(&self) -> Result<Vec<Intent>, StateError> {
        self.reading(|transaction, names| journal::open_intents(transaction, names)).await
    }

    async fn page(
        &self,
        entity: &Entity,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Memory)>, StateError> {
        let entity = entity.name.clone();
        // The empty key is before all others.
        let after = after.map(codec::key_to_bytes).unwrap_or_default();
        self.reading(move |transaction, names| {
            let mut page = Vec::new();
            let Some(entity) = entity_number(transaction, entity.as_str())? else { return Ok(page) };
            let mut statement = transaction.prepare_cached(
                "SELECT key, memory FROM shadows WHERE entity = ? AND key > ? ORDER BY key LIMIT ?",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![entity, after, limit])?;
            while let Some(row) = rows.next()? {
                let key = codec::key_from_bytes(blob(row, 0)?)?;
                page.push((key, codec::decode(blob(row, 1)?, names)?));
            }
            Ok(page)
        })
        .await
    }

    async fn recall(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Memory>, StateError> {
        self.look_up(entity, keys, codec::decode).await
    }

    async fn places(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Vec<StoreName>>, StateError> {
        self.look_up(entity, keys, codec::places).await
    }

    async fn notes(&self, kind: &str) -> Result<BTreeMap<String, String>, StateError> {
        let kind = kind.to_owned();
        self.work(move |connection| {
            let mut statement = connection.prepare_cached("SELECT key, body FROM notes WHERE kind = ?")?;
            let rows = statement.query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
        .await
    }

    async fn note(&self, kind: &str, changes: &BTreeMap<String, Option<String>>) -> Result<(), StateError> {
        let (kind, changes) = (kind.to_owned(), changes.clone());
        self.work(move |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (key, body) in &changes {
                match body {
                    Some(body) => transaction
                        .prepare_cached("INSERT OR REPLACE INTO notes (kind, key, body) VALUES (?, ?, ?)")?
                        .execute(params![kind, key, body])?,
                    None => transaction
                        .prepare_cached("DELETE FROM notes WHERE kind = ? AND key = ?")?
                        .execute(params![kind, key])?,
                };
            }
            Ok(transaction.commit()?)
        })
        .await
    }

    async fn commit(&self, transition: &Transition) -> Result<(), StateError> {
        if transition.is_empty() {
            return Ok(());
        }
        // What is to be written is made here, where the shadows are; the rest is for a thread that may wait for the disk.
        let mut names = Arc::clone(&self.names).lock_owned().await;
        for _ in 0..ATTEMPTS {
            // What was to be saved with a change that failed was not.
            let saved = names.saved;
            names.dictionary.truncate(saved);
            let change = commit::Change::of(transition, &mut names.dictionary);
            let holding = self.holding.clone();
            let done = self.pool.run(move |connection| change.make(connection, names, &holding));
            let (result, again) = match done.await {
                Ok(done) => done,
                Err(PoolError::Sqlite(error)) => return Err(self.explain(&Failure::Sqlite(error))),
                Err(error) => return Err(StateError::new(format!("`{}`: {error}", self.path.display()))),
            };
            match result {
                Err(Failure::NamesMoved) => names = again,
                other => return other.map_err(|failure| self.explain(&failure)),
            }
        }
        Err(self.explain(&Failure::NamesMoved))
    }
}

/// How often a change is written anew because another program added names meanwhile.
const ATTEMPTS: u32 = 20;

/// The names while a change is under way.
type NamesGuard = OwnedMutexGuard<Names>;
