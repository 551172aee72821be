//! What went wrong in `SQLite`, in the closed set of kinds and without a value in the text.

use sqlx::error::DatabaseError;

use crate::model::{ErrorKind, StoreError, StoreName};

/// An error of a connection as a store's error.
pub(super) fn store_error(store: &StoreName, error: &sqlx::Error) -> StoreError {
    let new = |kind, message: &str| StoreError::new(kind, store, message);
    match error {
        sqlx::Error::Database(inner) => database_error(store, inner.as_ref()),
        sqlx::Error::PoolTimedOut => {
            new(ErrorKind::Unavailable, "no connection to the file became free in time")
                .hint("something holds the connections: try again")
        }
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            new(ErrorKind::Unavailable, "the connection to the file was closed")
        }
        sqlx::Error::Io(error) => {
            new(ErrorKind::Unavailable, &format!("the file cannot be read: {}", error.kind()))
        }
        _ => new(ErrorKind::Corrupt, "the database answered in a way that makes no sense"),
    }
}

/// The primary result code of an error, and the extended one.
fn codes(error: &dyn DatabaseError) -> (i32, i32) {
    let extended = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(1);
    (extended & 0xff, extended)
}

fn database_error(store: &StoreName, error: &dyn DatabaseError) -> StoreError {
    let new = |kind, message: String| StoreError::new(kind, store, message);
    let (primary, extended) = codes(error);
    match primary {
        3 | 23 => new(ErrorKind::Unauthorised, "access to the database is denied".into()),
        5 | 6 => new(ErrorKind::Unavailable, "the database is locked by another program".into())
            .hint("it is tried again in the next pass; find who keeps a transaction open"),
        8 => new(ErrorKind::Unauthorised, "the database is read-only".into())
            .hint("check who owns the file and its folder, or set `readOnly: true`"),
        10 => new(ErrorKind::Unavailable, "reading or writing the file failed".into())
            .hint("check the disk that it is on"),
        11 => new(ErrorKind::Corrupt, "the database file is damaged".into())
            .hint("run `PRAGMA integrity_check` on it, and restore a backup"),
        13 => new(ErrorKind::Unavailable, "the disk is full".into()),
        14 => new(ErrorKind::Unauthorised, "the database file cannot be opened".into())
            .hint("check who may read the file and its folder"),
        18 => new(ErrorKind::Invalid, "a value is too big for the database".into()),
        19 => constraint(store, error, extended),
        20 => new(ErrorKind::Invalid, "a value is of a type that its column refuses".into()),
        26 => new(ErrorKind::Corrupt, "the file is not an SQLite database".into())
            .hint("check the store's `path`"),
        1 if error.message().starts_with("no such table") => {
            new(ErrorKind::NotFound, error.message().to_owned()).hint("run `trueup migrate` to add it")
        }
        1 if error.message().starts_with("no such column") => {
            new(ErrorKind::NotFound, error.message().to_owned()).hint("run `trueup migrate` to add it")
        }
        _ => new(ErrorKind::Invalid, format!("the database refused a statement (code {extended})")),
    }
}

/// Constraints are named by table and column, except for what triggers say: that text is the application's own and may
/// hold anything.
fn constraint(store: &StoreName, error: &dyn DatabaseError, extended: i32) -> StoreError {
    const UNIQUE: i32 = 2067;
    const PRIMARY_KEY: i32 = 1555;
    const ROWID: i32 = 2579;
    const TRIGGER: i32 = 1811;
    match extended {
        UNIQUE | PRIMARY_KEY | ROWID => {
            StoreError::new(ErrorKind::Conflict, store, error.message()).hint("another row has this value")
        }
        TRIGGER => StoreError::new(ErrorKind::Invalid, store, "a trigger of the table refused the row"),
        _ => StoreError::new(ErrorKind::Invalid, store, error.message()),
    }
}

/// Whether a commit that failed this way certainly left everything as it was: somebody held a lock, or a constraint that
/// is checked last was broken.
pub(super) fn did_not_happen(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(inner) if matches!(codes(inner.as_ref()).0, 5 | 6 | 19))
}
