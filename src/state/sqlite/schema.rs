//! The file's tables and the number of its format.

use rusqlite::{Connection, TransactionBehavior, params};

use crate::model::Intent;

use super::super::new_id;
use super::codec::Head;
use super::{Failure, StateError, codec, journal, sync_names};

/// `trup`: what the file says of itself to `file` and to us.
const APPLICATION_ID: i64 = 0x7472_7570;

/// The format that this program reads and writes.
const FORMAT: i64 = 2;

/// The format before it: the journal had one row of JSON for each intent. Memories were encoded as now, but never compressed.
const JSON_JOURNAL: i64 = 1;

/// What to do about a file that is no good.
pub(super) const REPAIR: &str = "move it away, and trueup builds it anew from the stores by a first meeting";

/// `WITHOUT ROWID`: the records themselves lie in the order of keys, and the key is kept once.
const TABLES: [&str; 6] = [
    "CREATE TABLE header (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL, acknowledged INTEGER NOT NULL, \
     intended INTEGER NOT NULL)",
    "CREATE TABLE lease (one INTEGER PRIMARY KEY CHECK (one = 1), holder TEXT NOT NULL, expires INTEGER NOT NULL)",
    "CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
    "CREATE TABLE entities (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE shadows (entity INTEGER NOT NULL, key BLOB NOT NULL, memory BLOB NOT NULL, \
     PRIMARY KEY (entity, key)) WITHOUT ROWID",
    "CREATE TABLE deletes (at INTEGER NOT NULL, entity TEXT NOT NULL, store TEXT NOT NULL, count INTEGER NOT NULL)",
];

/// Where the stores of every entity stood.
const MARKS: &str =
    "CREATE TABLE IF NOT EXISTS marks (entity TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID";

/// What people and controllers leave for each other. An older program does without.
const NOTES: &str = "CREATE TABLE IF NOT EXISTS notes (kind TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, \
                     PRIMARY KEY (kind, key)) WITHOUT ROWID";

/// How often the lease changed hands. An older program leaves it as it is, and is not kept from writing when it was overtaken.
const TERMS: &str =
    "CREATE TABLE IF NOT EXISTS terms (one INTEGER PRIMARY KEY CHECK (one = 1), term INTEGER NOT NULL)";

/// Intents in packs. What changes as intents end (the heads) is kept apart from what does not (the bodies); few packs have open intents.
const JOURNAL: [&str; 3] = [
    "CREATE TABLE journal (seq INTEGER PRIMARY KEY, open INTEGER NOT NULL, heads BLOB NOT NULL)",
    "CREATE TABLE journal_bodies (seq INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    "CREATE INDEX open_packs ON journal (seq) WHERE open > 0",
];

/// Makes the tables of a new file, brings an older one up to date, and refuses one that is not ours or is newer than this program.
pub(super) fn prepare(connection: &mut Connection, path: &str) -> Result<(), Failure> {
    // Taken for writing, so that two programs do not both make the tables.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let (application, format, tables): (i64, i64, i64) = transaction.query_row(
        "SELECT (SELECT application_id FROM pragma_application_id), \
         (SELECT user_version FROM pragma_user_version), (SELECT count(*) FROM sqlite_schema)",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )?;
    let refuse = |message: String| Err(Failure::Said(StateError::new(message)));
    match (application, format) {
        (APPLICATION_ID, FORMAT) => {
            transaction.execute(NOTES, [])?;
            transaction.execute(TERMS, [])?;
            return Ok(transaction.commit()?);
        }
        (APPLICATION_ID, JSON_JOURNAL) => {
            pack_journal(&transaction)?;
            transaction.execute(MARKS, [])?;
            transaction.execute(NOTES, [])?;
            transaction.execute(TERMS, [])?;
        }
        (APPLICATION_ID, _) => {
            return refuse(format!(
                "`{path}` was written by a newer trueup (format {format}, this one reads {FORMAT}): use that version, \
                 or {REPAIR}"
            ));
        }
        _ if application != 0 || tables != 0 => {
            return refuse(format!(
                "`{path}` is a database of something else: name another file for the state"
            ));
        }
        _ => {
            for table in TABLES.into_iter().chain(JOURNAL).chain([MARKS, NOTES, TERMS]) {
                transaction.execute(table, [])?;
            }
            transaction.execute(
                "INSERT INTO header (one, id, acknowledged, intended) VALUES (1, ?, 0, 0)",
                params![new_id().map_err(Failure::Said)?],
            )?;
        }
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    Ok(transaction.commit()?)
}

/// Packs the open intents of a journal of JSON. Those that ended go.
fn pack_journal(connection: &Connection) -> Result<(), Failure> {
    let intents: Vec<Intent> = connection
        .prepare("SELECT body FROM journal WHERE ended IS NULL ORDER BY seq")?
        .query_map([], |row| row.get::<_, Vec<u8>>(0))?
        .map(|body| serde_json::from_slice(&body?).map_err(|_| Failure::Unreadable))
        .collect::<Result<_, _>>()?;
    connection.execute("DROP TABLE journal", [])?;
    for table in JOURNAL {
        connection.execute(table, [])?;
    }
    if intents.is_empty() {
        return Ok(());
    }
    let mut names = super::Names::default();
    sync_names(connection, &mut names)?;
    let heads: Vec<Head> = intents.iter().map(Head::of).collect();
    let body = codec::intents_to_bytes(&intents, &mut names.dictionary);
    journal::insert(connection, &heads, &body)?;
    super::commit::save_names(connection, &names)
}
