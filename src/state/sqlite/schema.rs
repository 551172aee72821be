//! The file's tables and the number of its format.

use sqlx::Row as _;

use super::super::new_id;
use super::{SqliteState, StateError};

/// `trup`: what the file says of itself to `file` and to us.
const APPLICATION_ID: i64 = 0x7472_7570;

/// The format that this program reads and writes.
const FORMAT: i64 = 1;

/// What to do about a file that is no good.
pub(super) const REPAIR: &str = "move it away, and trueup builds it anew from the stores by a first meeting";

/// `WITHOUT ROWID`: the records themselves lie in the order of keys, and the key is kept once.
const TABLES: [&str; 7] = [
    "CREATE TABLE header (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, acknowledged INTEGER NOT NULL, \
     intended INTEGER NOT NULL)",
    "CREATE TABLE lease (one INTEGER PRIMARY KEY CHECK (one = 1), holder TEXT NOT NULL, expires INTEGER NOT NULL)",
    "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "CREATE TABLE entities (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE shadows (entity INTEGER NOT NULL, key BLOB NOT NULL, memory BLOB NOT NULL, \
     PRIMARY KEY (entity, key)) WITHOUT ROWID",
    "CREATE TABLE journal (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, ended TEXT, \
     body BLOB NOT NULL)",
    "CREATE TABLE deletes (at INTEGER NOT NULL, entity TEXT NOT NULL, store TEXT NOT NULL, count INTEGER NOT NULL)",
];

/// Open intents are few; ended ones, many.
const OPEN_INDEX: &str = "CREATE INDEX open_intents ON journal (seq) WHERE ended IS NULL";

impl SqliteState {
    /// Makes the tables of a new file, and refuses one that is not ours or is newer than this program.
    pub(super) async fn prepare(&self) -> Result<(), StateError> {
        let failed = |error| self.failed(&error);
        // Taken for writing, so that two programs do not both make the tables.
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let row = sqlx::query(
            "SELECT (SELECT application_id FROM pragma_application_id), \
             (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)",
        )
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
        let number = |at| row.try_get::<i64, _>(at).map_err(failed);
        let (application, format, tables) = (number(0)?, number(1)?, number(2)?);
        let path = self.path.display();
        if application == APPLICATION_ID && format == FORMAT {
            return Ok(());
        }
        if application == APPLICATION_ID && format > FORMAT {
            return Err(StateError::new(format!(
                "`{path}` was written by a newer trueup (format {format}, this one reads {FORMAT}): use that version, or {REPAIR}"
            )));
        }
        if application != 0 || tables != 0 {
            return Err(StateError::new(format!(
                "`{path}` is a database of something else: name another file for the state"
            )));
        }
        for table in TABLES.into_iter().chain([OPEN_INDEX]) {
            sqlx::query(table).execute(&mut *transaction).await.map_err(failed)?;
        }
        sqlx::query("INSERT INTO header (one, id, acknowledged, intended) VALUES (1, ?, 0, 0)")
            .bind(new_id()?)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        // Pragmas take no parameters; these are numbers of ours.
        for pragma in [format!("application_id = {APPLICATION_ID}"), format!("user_version = {FORMAT}")] {
            sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA {pragma}")))
                .execute(&mut *transaction)
                .await
                .map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }
}
