//! What went wrong in `SQLite`, in the closed set of kinds and without a value in the text.

use rusqlite::Error;

use crate::model::{ErrorKind, StoreError, StoreName};

use super::pool::{PoolError, code};

/// Why a piece of work has no connection.
pub(super) fn pool_error(store: &StoreName, error: &PoolError) -> StoreError {
    let new = |message: &str| StoreError::new(ErrorKind::Unavailable, store, message);
    match error {
        PoolError::Busy => new("no connection to the file became free in time")
            .hint("something holds the connections: try again"),
        PoolError::Closed => new("the connection to the file was closed"),
        PoolError::Replaced => new(&error.to_string()),
        PoolError::Sqlite(error) => store_error(store, error),
    }
}

/// What `SQLite` says of an error. It may hold values where a trigger says it.
fn message(error: &Error) -> &str {
    match error {
        Error::SqliteFailure(_, Some(message)) => message,
        Error::SqlInputError { msg, .. } => msg,
        _ => "",
    }
}

/// An error of a connection as a store's error.
pub(super) fn store_error(store: &StoreName, error: &Error) -> StoreError {
    let new = |kind, message: String| StoreError::new(kind, store, message);
    let Some(extended) = code(error) else {
        return new(ErrorKind::Corrupt, "the database answered in a way that makes no sense".into());
    };
    let said = message(error);
    match extended & 0xff {
        3 | 23 => new(ErrorKind::Unauthorised, "access to the database is denied".into()),
        5 | 6 => new(ErrorKind::Unavailable, "the database is locked by another program".into())
            .hint("it is tried again in the next pass; find who keeps a transaction open"),
        8 => new(ErrorKind::Unauthorised, "the database is read-only".into())
            .hint("check who owns the file and its folder, or, for a replica, set `read_only: true`"),
        10 => new(ErrorKind::Unavailable, "reading or writing the file failed".into())
            .hint("check the disk that it is on"),
        11 => new(ErrorKind::Corrupt, "the database file is damaged".into())
            .hint("run `PRAGMA integrity_check` on it, and restore a backup"),
        13 => new(ErrorKind::Unavailable, "the disk is full".into())
            .hint("make room on the disk that the file is on"),
        14 => new(ErrorKind::Unauthorised, "the database file cannot be opened".into())
            .hint("check the store's `path`, and who may read the file and its folder"),
        18 => new(ErrorKind::Invalid, "a value is too big for the database".into()),
        19 => constraint(store, said, extended),
        20 => new(ErrorKind::Invalid, "a value is of a type that its column refuses".into()),
        26 => new(ErrorKind::Corrupt, "the file is not an SQLite database".into())
            .hint("check the store's `path`"),
        1 if said.starts_with("no such table") => {
            new(ErrorKind::NotFound, said.to_owned()).hint("run `trueup migrate` to add it")
        }
        1 if said.starts_with("no such column") => {
            new(ErrorKind::NotFound, said.to_owned()).hint("run `trueup migrate` to add it")
        }
        _ => new(ErrorKind::Invalid, format!("the database refused a statement (code {extended})")),
    }
}

/// Constraints are named by table and column, except for what triggers say: that text is the application's own and may
/// hold anything.
fn constraint(store: &StoreName, said: &str, extended: i32) -> StoreError {
    const UNIQUE: i32 = 2067;
    const PRIMARY_KEY: i32 = 1555;
    const ROWID: i32 = 2579;
    const TRIGGER: i32 = 1811;
    match extended {
        UNIQUE | PRIMARY_KEY | ROWID => {
            StoreError::new(ErrorKind::Conflict, store, said).hint("another row has this value")
        }
        TRIGGER => StoreError::new(ErrorKind::Invalid, store, "a trigger of the table refused the row"),
        _ => StoreError::new(ErrorKind::Invalid, store, said),
    }
}

/// Whether a commit that failed this way certainly left everything as it was: somebody held a lock, the disk had no room for what makes
/// it one, or a constraint that is checked last was broken.
pub(super) fn did_not_happen(error: &Error) -> bool {
    code(error).is_some_and(|code| matches!(code & 0xff, 5 | 6 | 13 | 19))
}
