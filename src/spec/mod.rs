//! Manifests: YAML as written, checked, and compiled into what the other stages consume.
//!
//! The stages: [`yaml`](self) reads texts into trees that know their places, the generated JSON Schemas check the form,
//! [`raw`] is what was written, and compiling resolves every name and short form into a [`Spec`]. All of it is pure: the texts
//! are read by [`crate::cli::load`].

mod compile;
pub mod draft;
mod expand;
mod ordered;
pub mod raw;
mod render;
mod schema;
mod secrets;
mod structure;
mod words;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::model::{
    Diagnostics, Entity, EntityName, FieldName, Mapped, Mapping, OnDelete, Shadow, StoreName,
};

pub use compile::compile_all;
pub use render::{render, render_lines};
pub use schema::schemas;
pub(crate) use words::duration_ms;

/// A file of manifests, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file, as messages name it.
    pub file: String,
    /// Its content.
    pub text: String,
}

/// The files that manifests name as JSON Schemas, in whatever document can be read.
pub fn schema_files(manifests: &[Source]) -> std::collections::BTreeSet<String> {
    let mut files = std::collections::BTreeSet::new();
    for source in manifests {
        let (roots, _) = yaml::parse(&source.file, &source.text, &mut Diagnostics::new());
        for root in roots {
            let Some(fields) = root.at(&["spec", "fields"]) else { continue };
            let yaml::Kind::Map(fields) = &fields.kind else { continue };
            files
                .extend(fields.iter().filter_map(|(_, field)| Some(field.get("schema")?.text()?.to_owned())));
        }
    }
    files
}

/// What compiling yields.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// The spec.
    pub spec: Spec,
    /// The same written out: YAML in long forms with all defaults, which compiles to a spec of the same hash. References to
    /// the outside stand in it as written.
    pub expanded: String,
    /// What is worth knowing.
    pub warnings: Diagnostics,
}

/// Compiles manifests. `side_files` are the files that `schema:` names, by the name used there.
///
/// # Errors
/// All mistakes found, with the warnings, in the order of files and lines.
pub fn compile(
    folder: &Path,
    manifests: &[Source],
    side_files: &BTreeMap<String, String>,
) -> Result<(Spec, Diagnostics), Diagnostics> {
    compile_all(folder, manifests, side_files).map(|compiled| (compiled.spec, compiled.warnings))
}

/// A text that may refer to something outside the manifest, resolved only when a store is opened. Its `Debug` and `Display`
/// show the reference, never what it refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// The text itself.
    Plain(String),
    /// `${env:NAME}`: an environment variable.
    Env(String),
    /// `${file:PATH}`: a file's content, without the line end; relative to the manifests' folder.
    File(std::path::PathBuf),
}

/// What a store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreKind {
    /// A `SQLite` file. A relative path is relative to the manifests' folder.
    Sqlite {
        /// The file.
        path: Reference,
    },
    /// Rows in memory, gone with the process: for trials and tests.
    Memory {
        /// Whether rows have ids of the store's own and need not carry the record's key.
        own_ids: bool,
    },
    /// A `PostgreSQL` database.
    Postgres {
        /// The connection's address.
        url: Reference,
        /// The schema of tables that name none; none: `public`.
        schema: Option<String>,
    },
    /// A `BigQuery` dataset.
    BigQuery(Box<BigQuerySpec>),
    /// A Twenty CRM workspace.
    Twenty {
        /// The server's address.
        url: Reference,
        /// The API key.
        api_key: Reference,
        /// The secret that webhooks are signed with.
        webhook_secret: Option<Reference>,
        /// How long a call may take, in milliseconds; none: the store's own measure.
        timeout_ms: Option<u64>,
        /// How many calls may go out in a second and in a minute; none: the server's own defaults.
        calls: (Option<u32>, Option<u32>),
    },
}

/// Calls a minute where nothing is said: what a Twenty allows that nobody has set otherwise.
const CALLS_PER_MINUTE: u32 = 100;

impl StoreKind {
    /// Whether the store has record ids of its own, so that a row need not carry the record's key.
    pub fn has_own_ids(&self) -> bool {
        match self {
            Self::Memory { own_ids } => *own_ids,
            Self::Twenty { .. } => true,
            Self::Sqlite { .. } | Self::Postgres { .. } | Self::BigQuery(_) => false,
        }
    }

    /// How many calls go out in a minute, to a store that counts them.
    pub fn calls_per_minute(&self) -> Option<u32> {
        match self {
            Self::Twenty { calls, .. } => Some(calls.1.unwrap_or(CALLS_PER_MINUTE)),
            Self::Memory { .. } | Self::Sqlite { .. } | Self::Postgres { .. } | Self::BigQuery(_) => None,
        }
    }

    /// What stands in the manifests for something outside of them.
    fn references(&self) -> Vec<&Reference> {
        match self {
            Self::Memory { .. } => Vec::new(),
            Self::Sqlite { path } => vec![path],
            Self::Postgres { url, .. } => vec![url],
            Self::Twenty { url, api_key, webhook_secret, .. } => {
                [url, api_key].into_iter().chain(webhook_secret).collect()
            }
            Self::BigQuery(dataset) => {
                let BigQuerySpec { project, dataset, location, credentials, emulator, emulator_grpc, .. } =
                    &**dataset;
                let more = [location, credentials, emulator, emulator_grpc];
                [project, dataset].into_iter().chain(more.into_iter().flatten()).collect()
            }
        }
    }

    /// Whether queries and statements are billed by the bytes that they read.
    pub fn bills_bytes(&self) -> bool {
        matches!(self, Self::BigQuery(_))
    }
}

/// Where a `BigQuery` dataset is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BigQuerySpec {
    /// The project that is asked and billed.
    pub project: Reference,
    /// The dataset of tables that name none.
    pub dataset: Reference,
    /// Where it is.
    pub location: Option<Reference>,
    /// A service account's key or other credentials; none: the environment's own account.
    pub credentials: Option<Reference>,
    /// The REST address of an emulator.
    pub emulator: Option<Reference>,
    /// The gRPC address of an emulator.
    pub emulator_grpc: Option<Reference>,
    /// Whether the service's word that a table was not changed is relied on; none: the real service's is.
    pub skip_unmodified: Option<bool>,
    /// What a query may be billed for at most, in bytes.
    pub max_bytes: Option<u64>,
}

/// A store of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// Its name.
    pub name: StoreName,
    /// What it is.
    pub kind: StoreKind,
    /// Whether it is never written.
    pub read_only: bool,
    /// How many writes go into a batch at most; none: the store's own size.
    pub batch_size: Option<usize>,
}

/// Shares beyond which writes are refused unless they are allowed by name.
#[derive(Debug, Clone, PartialEq)]
pub struct Guards {
    /// Deletes, as a share (0 to 1) of an entity's records in a store.
    pub max_delete_ratio: f64,
    /// Updates, as a share.
    pub max_update_ratio: f64,
    /// Shares count from this many records on.
    pub min_records: u64,
}

/// Where the state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateSpec {
    /// In a `SQLite` file, relative to the manifests' folder.
    Sqlite(std::path::PathBuf),
    /// In a `PostgreSQL` database, for several controllers.
    Postgres {
        /// The connection's address.
        url: Reference,
        /// The schema of the state's tables, made if it is not there.
        schema: String,
    },
}

/// A record that is written so often within a window is paused for as long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// How often; 0: however often.
    pub writes: usize,
    /// The window in milliseconds.
    pub window_ms: u64,
}

/// What a store's webhooks look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebhookKind {
    /// `{"entity": "contacts", "key": "C1"}`, or several of them in an array, signed with the secret and a time.
    Generic,
    /// A database webhook of Supabase, with the secret in a header.
    Supabase,
    /// A webhook of Twenty, signed with the secret and a time.
    Twenty,
}

impl WebhookKind {
    /// The word used in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::Supabase => "supabase",
            Self::Twenty => "twenty",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Generic, Self::Supabase, Self::Twenty].into_iter().find(|kind| kind.as_str() == word)
    }
}

/// A store's webhooks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// What they look like.
    pub kind: WebhookKind,
    /// What only we and the sender know.
    pub secret: Reference,
}

/// What makes `run` look sooner than its interval. All of it is only hints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggers {
    /// How long hints are gathered, in milliseconds.
    pub debounce_ms: u64,
    /// Stores whose webhooks are listened to.
    pub webhooks: BTreeMap<StoreName, Webhook>,
    /// Postgres stores whose notifications are listened to.
    pub notify: BTreeSet<StoreName>,
    /// `SQLite` stores whose files are watched.
    pub files: BTreeSet<StoreName>,
}

/// Where and how the controller runs.
#[derive(Debug, Clone, PartialEq)]
pub struct ControllerSpec {
    /// Milliseconds between passes of `run`.
    pub interval_ms: u64,
    /// Milliseconds after which `run` reads everything again.
    pub deep_check_interval_ms: u64,
    /// The guards.
    pub guards: Guards,
    /// Where the state is kept.
    pub state: StateSpec,
    /// How long a lease lasts without being renewed, in milliseconds.
    pub lease_ms: u64,
    /// The address that `/metrics` and `/healthz` are served on.
    pub http_address: std::net::SocketAddr,
    /// What shows that a caller may see records and change anything over HTTP; none: nobody may.
    pub http_token: Option<Reference>,
    /// What makes `run` look sooner than its interval.
    pub triggers: Triggers,
    /// When a record is written too often.
    pub breaker: Breaker,
    /// How long tombstones and settled conflicts are kept, in milliseconds.
    pub retention_ms: u64,
    /// The share of drifting records above which the alert rules fire.
    pub drift_alert_ratio: f64,
    /// The latency above which the alert rules fire, in milliseconds.
    pub latency_alert_ms: u64,
}

/// Everything the manifests say, checked and resolved.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The folder that the manifests were read from.
    pub folder: std::path::PathBuf,
    /// A hash of what the manifests mean, in hexadecimal: equal for equal meaning.
    pub sha: String,
    /// The canonical store.
    pub canonical: StoreName,
    /// The stores.
    pub stores: BTreeMap<StoreName, StoreSpec>,
    /// The entities, those referred to before those that refer.
    pub entities: Vec<Arc<Entity>>,
    /// Where each entity lives in each store that has it. Every entity is mapped in the canonical store.
    pub mappings: BTreeMap<EntityName, BTreeMap<StoreName, Arc<Mapping>>>,
    /// The controller's settings.
    pub controller: ControllerSpec,
}

impl Spec {
    /// The files that hold what the manifests only refer to: secrets, for the most part.
    pub fn files_referred_to(&self) -> BTreeSet<std::path::PathBuf> {
        let controller = &self.controller;
        let state = match &controller.state {
            StateSpec::Sqlite(_) => None,
            StateSpec::Postgres { url, .. } => Some(url),
        };
        let of_stores = self.stores.values().flat_map(|store| store.kind.references());
        let of_webhooks = controller.triggers.webhooks.values().map(|webhook| &webhook.secret);
        let all = of_stores.chain(of_webhooks).chain(&controller.http_token).chain(state);
        all.filter_map(|reference| match reference {
            Reference::File(path) => Some(self.folder.join(path)),
            Reference::Plain(_) | Reference::Env(_) => None,
        })
        .collect()
    }

    /// An entity by name.
    pub fn entity(&self, name: &EntityName) -> Option<&Arc<Entity>> {
        self.entities.iter().find(|entity| &entity.name == name)
    }

    /// Whether a record of an entity that goes may take others with it, or be kept by them.
    pub fn is_hung_on(&self, name: &EntityName) -> bool {
        let mut all = self.entities.iter().flat_map(|other| &other.references);
        all.any(|reference| reference.to == *name && reference.on_delete != OnDelete::Ignore)
    }

    /// Whether what becomes of one record of an entity may matter to another record.
    pub fn hangs_together(&self, entity: &Entity) -> bool {
        let mut all = self.entities.iter().flat_map(|other| &other.references);
        !entity.references.is_empty()
            || entity.fields.iter().any(|field| field.unique)
            || all.any(|reference| reference.to == entity.name)
    }

    /// Where an entity lives in a store.
    pub fn mapping(&self, entity: &EntityName, store: &StoreName) -> Option<&Arc<Mapping>> {
        self.mappings.get(entity)?.get(store)
    }

    /// Whether a shadow says that a store has a record where the entity lives there now.
    pub fn remembers(&self, entity: &Entity, store: &StoreName, shadow: &Shadow) -> bool {
        shadow.present
            && self.mapping(&entity.name, store).is_some_and(|mapping| shadow.is_of(entity, mapping))
    }

    /// Whether a field's values may be shown; those of a field that the manifests do not have any more may not.
    pub fn may_show(&self, entity: &EntityName, field: &FieldName) -> bool {
        let entity = self.entity(entity);
        let key = entity.is_some_and(|entity| entity.key.iter().any(|part| &part.name == field));
        key || entity
            .and_then(|entity| Some(entity.field(entity.field_id(field)?)))
            .is_some_and(|field| !field.sensitive)
    }

    /// An entity as it lives in a store.
    pub fn mapped(&self, entity: &EntityName, store: &StoreName) -> Option<Mapped> {
        let (entity, mapping) = self.entity(entity).zip(self.mapping(entity, store))?;
        Some(Mapped { entity: entity.clone(), mapping: mapping.clone() })
    }

    /// Everything that lives in a store, in the order of the entities.
    pub fn mapped_in(&self, store: &StoreName) -> impl Iterator<Item = Mapped> {
        self.entities.iter().filter_map(move |entity| self.mapped(&entity.name, store))
    }

    /// The stores that have an entity, the canonical one first.
    pub fn stores_of(&self, entity: &EntityName) -> Vec<StoreName> {
        let mut stores: Vec<StoreName> =
            self.mappings.get(entity).map(|mappings| mappings.keys().cloned().collect()).unwrap_or_default();
        stores.sort_by_key(|store| store != &self.canonical);
        stores
    }
}
