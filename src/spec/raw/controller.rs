//! A Controller document as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How passes are run. Everything has a default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ControllerBody {
    /// The time between passes of `run`, such as `30s`; one minute where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// The time after which `run` reads everything again; one day where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deep_check_interval: Option<String>,
    /// What is refused unless it is allowed by name.
    #[serde(default)]
    pub guards: GuardsBody,
    /// How long tombstones, rows that left a store, and settled conflicts are kept; 90 days where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// Where the state is kept.
    #[serde(default)]
    pub state: StateBody,
    /// What is served over HTTP.
    #[serde(default)]
    pub http: HttpBody,
    /// When a record is written too often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerBody>,
    /// How long a lease lasts without being renewed; one minute where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// When the alert rules fire.
    #[serde(default)]
    pub alerts: AlertsBody,
    /// What makes `run` look sooner than its interval.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<TriggersBody>,
}

/// What is refused unless it is allowed by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuardsBody {
    /// Deletes, as a share of an entity's records in a store; `10%` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_deletes: Option<String>,
    /// Updates, as a share; `30%` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_updates: Option<String>,
    /// Shares count from this many records on; 10 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_records: Option<u64>,
}

/// Where the state is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StateBody {
    /// A SQLite file, relative to the manifests' folder; `.trueup/state.db` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<String>,
    /// A PostgreSQL database, for several controllers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresState>,
}

/// A state in a PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresState {
    /// The connection, `postgres://user@host/database`. One with a password is given as `${env:NAME}` or `${file:PATH}`.
    pub url: String,
    /// The schema of its tables, which is made if it is not there; `trueup` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

/// What is served over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpBody {
    /// The address that is served on; `127.0.0.1:9464` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What callers of `/api/v1` have to show (`Authorization: Bearer ...`), as `${env:NAME}` or `${file:PATH}`; without it nobody may call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// A record that is written so often within a window is paused for as long: something else keeps changing it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerBody {
    /// How often; 0 for however often; 20 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub writes: Option<usize>,
    /// The window; `10m` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
}

/// A store's webhooks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookBody {
    /// What they look like: `generic` (where nothing is said), `supabase` or `twenty`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// What only we and the sender know, as `${env:NAME}` or `${file:PATH}`.
    pub secret: String,
}

/// When the alert rules fire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertsBody {
    /// Above this share of drifting records; `5%` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drift: Option<String>,
    /// Above this latency; `5m` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
}

/// What makes `run` look sooner than its interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriggersBody {
    /// How long to gather hints before looking.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub debounce: Option<String>,
    /// Webhooks by the store that they are about.
    #[serde(default)]
    pub webhooks: std::collections::BTreeMap<String, WebhookBody>,
    /// Postgres stores whose notifications are listened to.
    #[serde(default)]
    pub notify: Vec<String>,
    /// SQLite stores whose files are watched.
    #[serde(default)]
    pub files: Vec<String>,
}
