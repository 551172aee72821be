//! Connections to a file, each used by one thread at a time: `SQLite` answers in microseconds, so a piece of work (a batch, a page)
//! goes to a thread as a whole, and not value by value.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::Semaphore;

/// Opens a connection.
type Open = Box<dyn Fn() -> rusqlite::Result<Connection> + Send + Sync>;

/// Connections to a file. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

struct Inner {
    open: Open,
    idle: Mutex<Vec<Connection>>,
    free: Arc<Semaphore>,
    size: u32,
    patience: Duration,
}

/// Why there is no connection, or what it said.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PoolError {
    /// All were busy for too long.
    #[error("all connections are busy")]
    Busy,
    /// The pool was closed.
    #[error("the connections are closed")]
    Closed,
    /// `SQLite` said so.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("size", &self.0.size).finish_non_exhaustive()
    }
}

impl Pool {
    /// A pool of so many connections, none of them open yet. A request waits so long for one.
    pub(crate) fn new(
        size: u32,
        patience: Duration,
        open: impl Fn() -> rusqlite::Result<Connection> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            open: Box::new(open),
            idle: Mutex::default(),
            free: Arc::new(Semaphore::new(size as usize)),
            size,
            patience,
        }))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a piece of work with a connection, on a thread that may wait for the disk. A connection that is left within a transaction
    /// is closed, which rolls it back.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let waiting = Arc::clone(&self.0.free).acquire_owned();
        let permit = match tokio::time::timeout(self.0.patience, waiting).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(PoolError::Closed),
            Err(_) => return Err(PoolError::Busy),
        };
        let pool = self.clone();
        let done = tokio::task::spawn_blocking(move || {
            let known = pool.idle().pop();
            let mut connection = match known {
                Some(connection) => connection,
                None => (pool.0.open)()?,
            };
            let done = work(&mut connection);
            if connection.is_autocommit() {
                pool.idle().push(connection);
            }
            drop(permit);
            Ok(done)
        });
        match done.await {
            Ok(done) => done,
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            Err(_) => Err(PoolError::Closed),
        }
    }

    /// Waits for what is under way and closes all connections.
    pub(crate) async fn close(&self) {
        let all = self.0.free.acquire_many(self.0.size).await;
        self.0.free.close();
        drop(all);
        self.idle().clear();
    }
}

/// The code of an error, the extended one; none where `SQLite` did not say it.
pub(crate) fn code(error: &rusqlite::Error) -> Option<i32> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.extended_code),
        rusqlite::Error::SqlInputError { error, .. } => Some(error.extended_code),
        _ => None,
    }
}

/// Whether somebody holds a lock.
pub(crate) fn is_locked(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
