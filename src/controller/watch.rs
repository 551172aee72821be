//! Watching stores for hints: files of SQLite stores, and notifications of Postgres ones. What is missed here, the next pass finds.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sqlx::postgres::PgListener;
use tokio_util::sync::CancellationToken;

use crate::model::{EntityName, RecordId, RecordKey, StoreName};
use crate::spec::{Spec, StoreKind};
use crate::store::postgres::{NOTIFY_CHANNEL, store_error};
use crate::telemetry::{Event, Observer, SAID_AGAIN};

use super::hints::Inbox;
use super::open;

/// How often files are looked at: a look is two calls of the system a file.
const FILES_EVERY: Duration = Duration::from_millis(500);
/// How long to wait before a database that cannot be listened to is tried again.
const LISTEN_AGAIN: Duration = Duration::from_secs(15);
/// How long nothing may come before the server is asked whether it is still there: whatever stands between may have forgotten a quiet
/// connection without a word to either end, and does not forget one that is used so often.
const QUIET: Duration = Duration::from_secs(30);
/// How long it may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Watches whatever the manifests say until `stop` is cancelled.
pub fn watch(spec: &Arc<Spec>, inbox: &Arc<Inbox>, observer: &Arc<dyn Observer>, stop: &CancellationToken) {
    let triggers = &spec.controller.triggers;
    let files = triggers.files.iter().filter_map(|name| match &spec.stores.get(name)?.kind {
        StoreKind::Sqlite { path } => open::secret(&spec.folder, path).ok(),
        _ => None,
    });
    let files: Vec<PathBuf> = files.map(|path| spec.folder.join(path)).collect();
    if !files.is_empty() {
        tokio::spawn(files_changed(files, inbox.clone(), stop.clone()));
    }
    for name in &triggers.notify {
        if let Some(StoreKind::Postgres { url, .. }) = spec.stores.get(name).map(|store| &store.kind) {
            match open::secret(&spec.folder, url) {
                Ok(url) => {
                    let listening = Listening {
                        spec: spec.clone(),
                        store: name.clone(),
                        inbox: inbox.clone(),
                        observer: observer.clone(),
                    };
                    tokio::spawn(listening.go_on(url, stop.clone()));
                }
                Err(why) => tracing::warn!(store = %name, "its notifications are not listened to: {why}"),
            }
        }
    }
}

/// What changes about a file whenever it is written.
type Looks = Vec<Option<(u64, SystemTime)>>;

async fn files_changed(files: Vec<PathBuf>, inbox: Arc<Inbox>, stop: CancellationToken) {
    let mut before = looks(&files);
    loop {
        tokio::select! {
            () = tokio::time::sleep(FILES_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let now = looks(&files);
        // Our own writes are seen here as well: the look that follows finds nothing and writes nothing.
        if now != before {
            inbox.something();
            before = now;
        }
    }
}

fn looks(files: &[PathBuf]) -> Looks {
    let look = |path: &Path| {
        // An empty log comes and goes with whoever only reads.
        let found = std::fs::metadata(path).ok().filter(|found| found.len() > 0)?;
        Some((found.len(), found.modified().ok()?))
    };
    let both = files.iter().flat_map(|path| {
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        [look(path), look(Path::new(&log))]
    });
    both.collect()
}

struct Listening {
    spec: Arc<Spec>,
    store: StoreName,
    inbox: Arc<Inbox>,
    observer: Arc<dyn Observer>,
}

impl Listening {
    async fn go_on(self, url: String, stop: CancellationToken) {
        // When it was last said that nothing is listened to.
        let mut said: Option<Instant> = None;
        loop {
            let why = tokio::select! {
                why = self.listen(&url, &mut said) => why,
                () = stop.cancelled() => return,
            };
            if said.is_none_or(|at| at.elapsed() >= SAID_AGAIN) {
                said = Some(Instant::now());
                tracing::warn!(
                    store = %self.store,
                    "its notifications are not listened to, and passes come at their interval meanwhile: {why}"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(LISTEN_AGAIN) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// Listens until the connection is lost, and says how it was.
    async fn listen(&self, url: &str, said: &mut Option<Instant>) -> String {
        let told = |error: sqlx::Error| store_error(&self.store, &error).message;
        let connected = async {
            let mut listener = PgListener::connect(url).await?;
            listener.listen(NOTIFY_CHANNEL).await.map(|()| listener)
        };
        let mut listener = match connected.await {
            Ok(listener) => listener,
            Err(error) => return told(error),
        };
        if said.take().is_some() {
            tracing::info!(store = %self.store, "its notifications are listened to again");
        }
        // What happened before.
        self.inbox.something();
        loop {
            match tokio::time::timeout(QUIET, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => self.take(notification.payload()),
                Ok(Ok(None)) => self.inbox.something(),
                Ok(Err(error)) => return told(error),
                Err(_) => {
                    let asked = sqlx::raw_sql("SELECT 1").execute(&mut listener);
                    match tokio::time::timeout(ANSWER, asked).await {
                        Ok(Ok(_)) => {}
                        Ok(Err(error)) => return told(error),
                        Err(_) => return "the server answers no more on the connection".to_owned(),
                    }
                }
            }
        }
    }

    /// `["store", "entity", "key part", ...]`, from the trigger that `migrate` makes. Anybody may send others.
    fn take(&self, payload: &str) {
        let Ok(parts) = serde_json::from_str::<Vec<String>>(payload) else { return };
        let mut parts = parts.into_iter();
        if parts.next().as_deref() != Some(self.store.as_str()) {
            return;
        }
        let Some(name) = parts.next().and_then(|name| EntityName::known(&name)) else { return };
        let Some(entity) = self.spec.entity(&name) else { return };
        let key: Vec<String> = parts.collect();
        if key.len() == entity.key.len() {
            let taken = self.inbox.record(RecordId { entity: name, key: RecordKey::new(key) });
            self.observer.notice(&Event::Hint { taken });
        } else {
            self.inbox.something();
        }
    }
}
