//! Connections to a file, each used by one thread at a time: `SQLite` answers in microseconds, so a piece of work (a batch, a page)
//! goes to a thread as a whole, and not value by value.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Opens a connection.
type Open = Box<dyn Fn() -> rusqlite::Result<Connection> + Send + Sync>;

/// Connections to a file. Clones share them.
#[derive(Clone)]
pub(crate) struct Pool(Arc<Inner>);

/// The identity of the file at a path, as the file system tells files apart (device and inode); none: no file, or it does not tell.
type FileId = Option<(u64, u64)>;

/// What to do when the file that connections are open to was replaced by another one at its path: writes to the old one would be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// The new file is opened.
    Follow,
    /// Every further request fails: what is known of the old file is not true of the new one.
    Refuse,
}

struct Inner {
    open: Open,
    /// The file, where there is one; what is done when it is replaced; and which one it was at first.
    file: Option<(PathBuf, Replaced)>,
    first: OnceLock<FileId>,
    idle: Mutex<Vec<(Connection, FileId)>>,
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
    /// Another file stands in its place, or none.
    #[error(
        "the file was moved or replaced while it was in use: put it back, or start again with what is there now"
    )]
    Replaced,
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
    /// A pool of so many connections to a file, none of them open yet. A request waits so long for one.
    pub(crate) fn new(
        file: Option<(&Path, Replaced)>,
        size: u32,
        patience: Duration,
        open: impl Fn() -> rusqlite::Result<Connection> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Inner {
            open: Box::new(open),
            file: file.map(|(path, replaced)| (path.to_owned(), replaced)),
            first: OnceLock::new(),
            idle: Mutex::default(),
            free: Arc::new(Semaphore::new(size as usize)),
            size,
            patience,
        }))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Connection, FileId)>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of one's own for a while.
    pub(crate) async fn lease(&self) -> Result<Lease, PoolError> {
        let waiting = Arc::clone(&self.0.free).acquire_owned();
        let permit = match tokio::time::timeout(self.0.patience, waiting).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(PoolError::Closed),
            Err(_) => return Err(PoolError::Busy),
        };
        let now = self.file_id();
        if self.0.file.as_ref().is_some_and(|(_, replaced)| *replaced == Replaced::Refuse)
            && self.0.first.get_or_init(|| now) != &now
        {
            return Err(PoolError::Replaced);
        }
        let mut known = None;
        let mut stale = Vec::new();
        // Before another one is opened: what `SQLite` keeps beside a file is found by its name.
        while let Some((connection, id)) = { self.idle().pop() } {
            if id == now {
                known = Some(connection);
                break;
            }
            stale.push(connection);
        }
        let connection = if let Some(connection) = known {
            connection
        } else {
            let pool = self.clone();
            let opened = move || {
                drop(stale);
                (pool.0.open)()
            };
            on_thread(opened).await??
        };
        Ok(Lease { connection: Some(connection), file: now, pool: self.clone(), _permit: permit })
    }

    /// Which file there is now.
    fn file_id(&self) -> FileId {
        self.0.file.as_ref().and_then(|(path, _)| file_id(path))
    }

    /// Runs a piece of work with a connection, on a thread that may wait for the disk.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let mut lease = self.lease().await?;
        on_thread(move || lease.connection.as_mut().map(work)).await?.ok_or(PoolError::Closed)
    }

    /// Waits for what is under way and closes all connections.
    pub(crate) async fn close(&self) {
        let all = self.0.free.acquire_many(self.0.size).await;
        self.0.free.close();
        drop(all);
        self.idle().clear();
    }
}

#[cfg(unix)]
fn file_id(path: &Path) -> FileId {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn file_id(_path: &Path) -> FileId {
    None
}

async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, PoolError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done),
        Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => Err(PoolError::Closed),
    }
}

/// A connection on lease. It goes back when this is dropped, unless it was left within a transaction: then it is closed, which rolls
/// that back.
pub(crate) struct Lease {
    connection: Option<Connection>,
    file: FileId,
    pool: Pool,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The connection.
    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take().filter(Connection::is_autocommit) {
            self.pool.idle().push((connection, self.file));
        }
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
