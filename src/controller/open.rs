//! Opening what the manifests name.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::apply::Opened;
use crate::model::{ErrorKind, Mapped, StoreError, StoreName};
use crate::spec::{BigQuerySpec, Reference, Spec, StateSpec, StoreKind, StoreSpec};
use crate::state::postgres::PostgresState;
use crate::state::sqlite::SqliteState;
use crate::state::{State, StateError};
use crate::store::Store;
use crate::store::bigquery::{BigQueryOptions, BigQueryStore, Emulator};
use crate::store::memory::MemoryStore;
use crate::store::postgres::{PostgresOptions, PostgresStore};
use crate::store::sqlite::{SqliteOptions, SqliteStore};
use crate::store::twenty::{TwentyOptions, TwentyStore};

use super::{Engine, EngineError};

/// Opens every store; one that cannot be opened is kept as its error.
pub(super) async fn stores(spec: &Spec, create: bool) -> Opened {
    let mut stores = Opened::new();
    for (name, store) in &spec.stores {
        let notify = spec.controller.triggers.notify.contains(name);
        stores.insert(name.clone(), one(spec, store, create, notify).await);
    }
    stores
}

/// Puts an empty database in the place of every file that is not there.
pub(super) async fn fill_in(spec: &Spec, stores: &mut Opened) {
    for (name, store) in stores.iter_mut() {
        let absent = store.as_ref().is_err_and(|error| error.kind == ErrorKind::NotFound);
        let embedded =
            spec.stores.get(name).is_some_and(|store| matches!(store.kind, StoreKind::Sqlite { .. }));
        if absent && embedded {
            *store = SqliteStore::blank(name.clone()).await.map(|blank| Arc::new(blank) as Arc<dyn Store>);
        }
    }
}

async fn one(
    spec: &Spec,
    store: &StoreSpec,
    create: bool,
    notify: bool,
) -> Result<Arc<dyn Store>, StoreError> {
    let folder = spec.folder.as_path();
    match &store.kind {
        StoreKind::Memory { own_ids } => {
            let db = crate::store::memory::MemoryDb::new(store.name.clone());
            // Relations lead from one object to another, so such a store has to know all of them.
            let mapped: Vec<Mapped> =
                spec.mapped_in(&store.name).filter(|mapped| mapped.mapping.own_ids).collect();
            Ok(Arc::new(MemoryStore::with(db.with_own_ids(*own_ids).with_tables(&mapped))))
        }
        StoreKind::Sqlite { path } => {
            let path = folder.join(look_up(folder, &store.name, path)?);
            let (create, read_only) = (create && !store.read_only, store.read_only);
            let options = SqliteOptions { create, read_only, ..SqliteOptions::default() };
            Ok(Arc::new(SqliteStore::open(store.name.clone(), &path, options).await?))
        }
        StoreKind::Postgres { url, schema } => {
            let url = look_up(folder, &store.name, url)?;
            let mut options =
                PostgresOptions { read_only: store.read_only, notify, ..PostgresOptions::default() };
            if let Some(schema) = schema {
                options.schema.clone_from(schema);
            }
            // What is no UTF-8 is no address either.
            let url = url.to_str().unwrap_or("");
            Ok(Arc::new(PostgresStore::open(store.name.clone(), url, options)?))
        }
        StoreKind::BigQuery(dataset) => bigquery(folder, store, dataset),
        StoreKind::Twenty { url, api_key, timeout_ms, calls, .. } => {
            let url = look_up(folder, &store.name, url)?;
            let key = look_up(folder, &store.name, api_key)?;
            let mut options = TwentyOptions { read_only: store.read_only, ..TwentyOptions::default() };
            let (per_second, per_minute) = *calls;
            options.pace.per_second = per_second.unwrap_or(options.pace.per_second);
            options.pace.per_minute = per_minute.unwrap_or(options.pace.per_minute);
            options.batch_size = store.batch_size.unwrap_or(options.batch_size);
            options.timeout = timeout_ms.map_or(options.timeout, std::time::Duration::from_millis);
            options.mapped = spec.mapped_in(&store.name).collect();
            let (url, key) = (url.to_str().unwrap_or(""), key.to_str().unwrap_or(""));
            Ok(Arc::new(TwentyStore::open(store.name.clone(), url, key, options)?))
        }
    }
}

/// Takes note of where a dataset is. An emulator that the environment names stands in for the service, wherever the manifest names none.
fn bigquery(folder: &Path, store: &StoreSpec, dataset: &BigQuerySpec) -> Result<Arc<dyn Store>, StoreError> {
    let text = |reference: &Reference| -> Result<String, StoreError> {
        let found = look_up(folder, &store.name, reference)?;
        found.into_os_string().into_string().map_err(|_| {
            StoreError::new(ErrorKind::Invalid, &store.name, "a setting of the store is no text")
        })
    };
    let maybe = |reference: &Option<Reference>| reference.as_ref().map(text).transpose();
    let mut options = BigQueryOptions::new(text(&dataset.project)?, text(&dataset.dataset)?);
    let host = std::env::var("BIGQUERY_EMULATOR_HOST").ok().filter(|host| !host.is_empty());
    let host = host.map(|host| if host.contains("://") { host } else { format!("http://{host}") });
    let rest = maybe(&dataset.emulator)?.or(host);
    options.emulator = match rest {
        Some(rest) => {
            let named = std::env::var("BIGQUERY_EMULATOR_GRPC").ok().filter(|host| !host.is_empty());
            let named = named.map(|host| if host.contains("://") { host } else { format!("http://{host}") });
            Some(Emulator { rest, grpc: maybe(&dataset.emulator_grpc)?.or(named) })
        }
        None => None,
    };
    options.location = maybe(&dataset.location)?;
    // Nobody is asked for credentials in front of an emulator.
    if options.emulator.is_none() {
        options.credentials = maybe(&dataset.credentials)?;
    }
    options.max_bytes = dataset.max_bytes;
    options.trust_modified = dataset.skip_unmodified;
    options.read_only = store.read_only;
    Ok(Arc::new(BigQueryStore::open(store.name.clone(), options)?))
}

/// What a reference refers to, for a store.
fn look_up(folder: &Path, store: &StoreName, reference: &Reference) -> Result<PathBuf, StoreError> {
    content(folder, reference)
        .map(PathBuf::from)
        .map_err(|(message, hint)| StoreError::new(ErrorKind::Invalid, store, message).hint(hint))
}

/// What a reference refers to, or what is wrong and what to do. The error names the reference, never the content.
fn content(folder: &Path, reference: &Reference) -> Result<OsString, (String, &'static str)> {
    match reference {
        Reference::Plain(text) => Ok(text.into()),
        Reference::Env(name) => std::env::var_os(name).ok_or_else(|| {
            (format!("the environment variable `{name}` is not set"), "set it, or change the manifest")
        }),
        Reference::File(path) => std::fs::read_to_string(folder.join(path))
            .map(|text| text.trim_end_matches(['\r', '\n']).into())
            .map_err(|error| {
                (format!("the file `{}` cannot be read: {error}", path.display()), "name one that can")
            }),
    }
}

/// What a reference refers to, as text.
pub(super) fn secret(folder: &Path, reference: &Reference) -> Result<String, String> {
    let content = content(folder, reference).map_err(|(message, hint)| format!("{message}; {hint}"))?;
    content.into_string().map_err(|_| "it is no text".to_owned())
}

impl Engine {
    /// Whether a store that could not be opened can be by now: its file or secret is there, as may be long after a controller began.
    pub async fn opens_more(&self) -> bool {
        for (name, _) in self.stores.iter().filter(|(_, store)| store.is_err()) {
            if let Some(store) = self.spec.stores.get(name)
                && one(&self.spec, store, false, false).await.is_ok()
            {
                return true;
            }
        }
        false
    }
}

/// Opens the state.
pub(super) async fn state(spec: &Spec) -> Result<Arc<dyn State>, EngineError> {
    match &spec.controller.state {
        StateSpec::Sqlite(path) => Ok(Arc::new(SqliteState::open(&spec.folder.join(path)).await?)),
        StateSpec::Postgres { url, schema } => {
            let url = content(&spec.folder, url)
                .map_err(|(message, hint)| EngineError::from(StateError::new(message)).hint(hint))?;
            let url = url.into_string().map_err(|_| EngineError::new("state: its address is no text"))?;
            Ok(Arc::new(PostgresState::open(&url, schema).await?))
        }
    }
}

/// Who works: the process and its host, for people to read.
pub(super) fn holder() -> String {
    let host =
        std::fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    let host = host.map(|host| host.trim().to_owned()).filter(|host| !host.is_empty());
    format!("{}@{}", std::process::id(), host.as_deref().unwrap_or("localhost"))
}
