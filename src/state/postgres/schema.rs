//! The state's tables in a database, and the number of their format.

use super::super::new_id;
use super::{PostgresState, StateError, quoted};

/// The format that this program reads and writes.
const FORMAT: i32 = 1;

/// What to do about a state that is no good.
pub(super) const REPAIR: &str =
    "move its `trueup_` tables away, and trueup builds them anew from the stores by a first meeting";

/// Our tables, without what stands before each.
pub(super) const NAMES: [&str; 8] =
    ["state", "names", "entities", "shadows", "journal", "deletes", "marks", "notes"];

/// What people and controllers leave for each other. An older program does without.
const NOTES: &str = "CREATE TABLE IF NOT EXISTS {notes} (kind text NOT NULL, key text NOT NULL, body text NOT NULL, \
                     PRIMARY KEY (kind, key))";

/// The one row of `state` is what every change locks. Keys are ordered as bytes are.
const TABLES: [&str; 8] = [
    "CREATE TABLE {state} (one integer PRIMARY KEY CHECK (one = 1), format integer NOT NULL, id text NOT NULL, \
     acknowledged bigint NOT NULL, intended bigint NOT NULL, term bigint NOT NULL, holder text, expires bigint)",
    // As bytes: applications put what they like into `last_updated_by`, and a text of Postgres holds no NUL.
    "CREATE TABLE {names} (id bigint PRIMARY KEY, name bytea NOT NULL)",
    "CREATE TABLE {entities} (id integer PRIMARY KEY, name text NOT NULL UNIQUE)",
    // Room in the pages, so that a record changed in place needs no new entry in the index.
    "CREATE TABLE {shadows} (entity integer NOT NULL, key bytea NOT NULL, memory bytea NOT NULL, \
     PRIMARY KEY (entity, key)) WITH (fillfactor = 85)",
    // Numbered by us, while no other change is made: a sequence that was copied with its database goes back in a crash.
    "CREATE TABLE {journal} (seq bigint PRIMARY KEY, id text NOT NULL UNIQUE, ended text, body bytea NOT NULL)",
    // Open intents are few; ended ones, many.
    "CREATE INDEX ON {journal} (seq) WHERE ended IS NULL",
    "CREATE TABLE {deletes} (at bigint NOT NULL, entity text NOT NULL, store text NOT NULL, count bigint NOT NULL)",
    "CREATE TABLE {marks} (entity text PRIMARY KEY, body text NOT NULL)",
];

impl PostgresState {
    /// Makes the schema and its tables where there are none, and refuses those of a newer program.
    pub(super) async fn prepare(&self) -> Result<(), StateError> {
        let failed = |error| self.failed(&error);
        let mut transaction = self.begin().await?;
        // One after the other, so that two controllers do not both make the tables.
        self.sql("SELECT pg_advisory_xact_lock(hashtextextended('trueup state ' || $1, 0))")
            .bind(self.schema.clone())
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        let row = self
            .sql("SELECT to_regnamespace($1) IS NOT NULL, to_regclass($2) IS NOT NULL")
            .bind(quoted(&self.schema))
            .bind(self.table("state"))
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        let (schema_is_there, state_is_there): (bool, bool) = (self.column(&row, 0)?, self.column(&row, 1)?);
        if state_is_there {
            let row = self
                .sql("SELECT format FROM {state}")
                .fetch_one(&mut *transaction)
                .await
                .map_err(|error| self.failed(&error))?;
            self.check_format(self.column(&row, 0)?)?;
            let row = self
                .sql("SELECT to_regclass($1) IS NOT NULL")
                .bind(self.table("notes"))
                .fetch_one(&mut *transaction)
                .await
                .map_err(failed)?;
            if !self.column::<bool>(&row, 0)? {
                self.sql(NOTES).execute(&mut *transaction).await.map_err(failed)?;
            }
            return self.end(transaction).await;
        }
        if !schema_is_there {
            let sql = format!("CREATE SCHEMA {}", quoted(&self.schema));
            self.sql(&sql).execute(&mut *transaction).await.map_err(failed)?;
        }
        for table in TABLES.into_iter().chain([NOTES]) {
            self.sql(table).execute(&mut *transaction).await.map_err(failed)?;
        }
        self.sql("INSERT INTO {state} VALUES (1, $1, $2, 0, 0, 0, NULL, NULL)")
            .bind(FORMAT)
            .bind(new_id()?)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        self.end(transaction).await
    }

    fn check_format(&self, format: i32) -> Result<(), StateError> {
        let schema = &self.schema;
        match format {
            FORMAT => Ok(()),
            newer if newer > FORMAT => Err(StateError::new(format!(
                "schema `{schema}` was written by a newer trueup (format {newer}, this one reads {FORMAT}): use that \
                 version, or {REPAIR}"
            ))),
            _ => Err(self.unreadable()),
        }
    }
}
