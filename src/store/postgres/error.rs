//! What went wrong in Postgres, in the closed set of kinds and without a value in the text.
//!
//! A server's own messages are never passed on: they, and their details even more, may hold values. The names of tables, columns and
//! constraints come in fields of their own.

use std::fmt::Write as _;

use sqlx::postgres::PgDatabaseError;

use crate::model::{ErrorKind, StoreError, StoreName};

/// How often a transaction that gave way to another one is begun again.
pub(super) const DEADLOCK_RETRIES: usize = 3;

/// An error of a connection as a store's error.
pub(crate) fn store_error(store: &StoreName, error: &sqlx::Error) -> StoreError {
    let new = |kind, message: &str| StoreError::new(kind, store, message);
    match error {
        sqlx::Error::Database(inner) => match inner.try_downcast_ref::<PgDatabaseError>() {
            Some(inner) => database_error(store, inner),
            None => new(ErrorKind::Corrupt, "the server answered in a way that makes no sense"),
        },
        sqlx::Error::Configuration(_) => {
            new(ErrorKind::Invalid, "the store's `url` cannot be understood").hint(URL_HINT)
        }
        sqlx::Error::Tls(_) => no_secure_connection(store),
        // What rustls says of a certificate, and nothing else in a connection does.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            no_secure_connection(store)
        }
        sqlx::Error::PoolTimedOut => {
            new(ErrorKind::Unavailable, "no connection to the server came about in time").hint(REACH_HINT)
        }
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
            new(ErrorKind::Unavailable, "the connection to the server was closed")
        }
        // The connection was closed instead of answering, which sqlx reads as an answer: whatever accepted it (a load balancer, say) has no
        // server behind it.
        sqlx::Error::Protocol(text) if text.contains("SSLRequest: 0x00") => {
            new(ErrorKind::Unavailable, "the connection was closed before the server said anything")
                .hint(REACH_HINT)
        }
        sqlx::Error::Io(error) if error.to_string().starts_with(NO_SUCH_HOST) => {
            new(ErrorKind::Unavailable, "the server cannot be reached: its host's name leads nowhere")
                .hint(REACH_HINT)
        }
        sqlx::Error::Io(error) => {
            new(ErrorKind::Unavailable, &format!("the server cannot be reached: {}", error.kind()))
                .hint(REACH_HINT)
        }
        _ => new(ErrorKind::Corrupt, "the server answered in a way that makes no sense"),
    }
}

fn no_secure_connection(store: &StoreName) -> StoreError {
    StoreError::new(ErrorKind::Unavailable, store, "no secure connection to the server came about").hint(
        "check `sslmode` and `sslrootcert` in the store's `url`, and that the server's certificate is for the host named there and has not run out",
    )
}

/// What an address looks like.
pub(super) const URL_HINT: &str = "write `postgres://user@host:5432/database?sslmode=require`";
/// How the standard library words that a host name cannot be looked up: there is no stable error kind for it.
const NO_SUCH_HOST: &str = "failed to lookup address information";
const REACH_HINT: &str =
    "check that the server runs, its host and port in the store's `url`, and the network";

/// An error of a delete: a reference that it broke is one of another row to this one.
pub(super) fn delete_error(store: &StoreName, error: &sqlx::Error) -> StoreError {
    let told = store_error(store, error);
    if code(error) != Some("23503") && code(error) != Some("23001") {
        return told;
    }
    let inner = match error {
        sqlx::Error::Database(inner) => inner.try_downcast_ref::<PgDatabaseError>(),
        _ => None,
    };
    let message = format!(
        "rows of {} still refer to it{}",
        inner.map_or_else(
            || "another table".to_owned(),
            |inner| named(&whose(inner), "another table").to_owned()
        ),
        inner.map(constraint_of).unwrap_or_default()
    );
    StoreError::new(ErrorKind::Conflict, store, message)
        .hint("delete or change them there, or give the record back where it was deleted")
}

/// The SQLSTATE of an error that the server sent.
pub(super) fn code(error: &sqlx::Error) -> Option<&str> {
    match error {
        sqlx::Error::Database(inner) => {
            inner.try_downcast_ref::<PgDatabaseError>().map(PgDatabaseError::code)
        }
        _ => None,
    }
}

/// Whether two transactions were in each other's way (a deadlock or a serialization failure), so that trying again may succeed.
pub(super) fn gave_way(error: &sqlx::Error) -> bool {
    matches!(code(error), Some("40001" | "40P01"))
}

/// Whether another transaction holds what was to be locked.
pub(super) fn is_held(error: &sqlx::Error) -> bool {
    code(error) == Some("55P03")
}

/// Whether it was the statement that was refused, so that others in the same transaction may go through: not so when the
/// connection, the server or a lock is the trouble.
pub(super) fn is_refusal(error: &sqlx::Error) -> bool {
    let Some(code) = code(error) else { return false };
    let class = code.get(..2).unwrap_or("");
    !matches!(class, "08" | "25" | "40" | "53" | "57" | "58") && !is_held(error)
}

/// Whether a commit that failed this way certainly left everything as it was.
pub(super) fn did_not_happen(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| !matches!(code.get(..2), Some("08" | "57" | "58" | "XX")))
}

/// Whether another row has the value already.
pub(super) fn is_taken(error: &sqlx::Error) -> bool {
    code(error) == Some("23505")
}

/// `table`, `table.column` or nothing, as the server names what it speaks of.
fn whose(error: &PgDatabaseError) -> String {
    let mut text = String::new();
    if let Some(table) = error.table() {
        let _ = write!(text, " `{table}");
        if let Some(column) = error.column() {
            let _ = write!(text, ".{column}");
        }
        text.push('`');
    }
    text
}

/// Whether the server names the column that an error is about.
pub(super) fn names_a_column(error: &sqlx::Error) -> bool {
    let inner = match error {
        sqlx::Error::Database(inner) => inner.try_downcast_ref::<PgDatabaseError>(),
        _ => None,
    };
    inner.is_some_and(|inner| {
        inner.column().is_some() || (inner.table().is_some() && inner.constraint().is_some())
    })
}

fn constraint_of(error: &PgDatabaseError) -> String {
    error.constraint().map_or(String::new(), |name| format!(" (constraint `{name}`)"))
}

fn database_error(store: &StoreName, error: &PgDatabaseError) -> StoreError {
    let new = |kind, message: String| StoreError::new(kind, store, message);
    let code = error.code();
    let whose = whose(error);
    let constraint = constraint_of(error);
    match code {
        "42501" if error.routine() == Some("check_enable_rls") => {
            new(ErrorKind::Unauthorised, "row-level security would hide rows from this login".into()).hint(
                "a store has to be seen whole: connect as a role that policies do not bind (Supabase's `postgres`, the table's owner, \
                 or any role after `ALTER ROLE … BYPASSRLS`); an owner is bound too under FORCE ROW LEVEL SECURITY",
            )
        }
        "42501" => new(ErrorKind::Unauthorised, format!("the login may not do this{whose} (code 42501)"))
            .hint("grant it SELECT, INSERT, UPDATE and DELETE on the mapped tables"),
        "3D000" => new(ErrorKind::NotFound, "the server has no such database".into())
            .hint("check the end of the store's `url`"),
        "3F000" => new(ErrorKind::NotFound, "the database has no such schema".into())
            .hint("run `trueup migrate` to add it"),
        "42P01" => new(ErrorKind::NotFound, "the database has no such table".into())
            .hint("run `trueup migrate` to add it"),
        "42703" => new(ErrorKind::NotFound, "a table has no such column".into())
            .hint("run `trueup migrate` to add it"),
        "26000" | "42P05" => {
            new(ErrorKind::Unsupported, "statements do not stay prepared on this connection".into())
                .hint("it leads through a pooler: add `pgbouncer=true` to the store's `url`")
        }
        "42883" => new(ErrorKind::Unsupported, "the database lacks a function that was called".into())
            .hint("PostgreSQL 13 or newer is needed; otherwise look at the table's triggers"),
        "25006" => new(ErrorKind::Unauthorised, "the database only lets itself be read".into()).hint(
            "it is a standby, or somebody set `default_transaction_read_only` (for maintenance, or because its disk is full): connect to \
             the primary server or end that; for a replica, `read_only: true` leaves it as it is",
        ),
        "53300" => new(ErrorKind::Unavailable, "the server has no connection left".into())
            .hint("raise `max_connections`, or connect through a pooler"),
        "55P03" => new(ErrorKind::Unavailable, "another transaction holds a lock for too long".into())
            .hint("find who keeps a transaction open (`pg_stat_activity` shows them); it is tried again"),
        "57014" => new(ErrorKind::Unavailable, "the server cancelled a statement that took too long".into())
            .hint("raise `statement_timeout` of the login, or lower the store's `limits.batch_size`"),
        "40001" | "40P01" => {
            new(ErrorKind::Unavailable, "other transactions stood in the way again and again".into())
        }
        "23505" => new(ErrorKind::Conflict, format!("another row of{whose} has this value{constraint}")),
        "23P01" => new(ErrorKind::Conflict, format!("another row of{whose} is in the way{constraint}")),
        "23503" => new(ErrorKind::Invalid, format!("a reference of{whose} would lead nowhere{constraint}"))
            .hint("map the records referred to as well, or see why they are missing"),
        "23502" => new(ErrorKind::Invalid, format!("{} must have a value", named(&whose, "a column"))),
        // A domain's rule is no table's.
        "23514" => {
            let whose = named(&whose, "a column's type").to_owned();
            new(ErrorKind::Invalid, format!("a rule of {whose} refuses the row{constraint}"))
        }
        "428C9" => new(ErrorKind::Invalid, "the database computes a column itself".into())
            .hint("map it with `direction: from-store`"),
        _ => by_class(store, code, &whose),
    }
}

fn named<'a>(whose: &'a str, else_by: &'a str) -> &'a str {
    let whose = whose.trim();
    if whose.is_empty() { else_by } else { whose }
}

fn by_class(store: &StoreName, code: &str, whose: &str) -> StoreError {
    let new = |kind, message: String| StoreError::new(kind, store, message);
    match code.get(..2).unwrap_or("") {
        "08" | "57" => new(ErrorKind::Unavailable, format!("the server ended the connection (code {code})")),
        "53" | "58" => {
            new(ErrorKind::Unavailable, format!("the server lacks what it needs to work (code {code})"))
        }
        "28" => new(ErrorKind::Unauthorised, "the server refuses the login".into())
            .hint("check user and password in the store's `url`"),
        "22" => new(ErrorKind::Invalid, format!("a value does not fit its column{whose} (code {code})")),
        "P0" => new(ErrorKind::Invalid, "a trigger or function of the database refused the row".into()),
        "0A" => new(ErrorKind::Unsupported, format!("the database cannot do this (code {code})")),
        "54" => new(ErrorKind::Invalid, "a value is too big for the database".into()),
        "XX" => new(ErrorKind::Corrupt, format!("the server failed inside (code {code})"))
            .hint("look into the server's log"),
        _ => new(ErrorKind::Invalid, format!("the database refused a statement (code {code})")),
    }
}
