//! A Store document as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A system that holds records: exactly one of `sqlite`, `memory`, `postgres`, `bigquery` and `twenty`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreBody {
    /// Whether this is the canonical store. Exactly one store is; every record is written there first.
    #[serde(default)]
    pub canonical: bool,
    /// Whether the store is only read, never written.
    #[serde(default)]
    pub read_only: bool,
    /// A SQLite file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<SqliteStore>,
    /// Rows in memory, gone with the process: for trials and tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryStore>,
    /// A PostgreSQL database; Supabase is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub postgres: Option<PostgresStore>,
    /// A BigQuery dataset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bigquery: Option<BigQueryStore>,
    /// A Twenty CRM workspace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twenty: Option<TwentyStore>,
    /// How much may be asked of the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
}

/// A SQLite file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqliteStore {
    /// The file; a relative path is relative to the manifests' folder. May be `${env:NAME}` or `${file:PATH}`.
    pub path: String,
}

/// Rows in memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryStore {
    /// Whether rows have ids of the store's own and need not carry the record's key, as in a CRM.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub own_ids: bool,
}

/// A PostgreSQL database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresStore {
    /// The connection, `postgres://user@host/database`. One with a password is given as `${env:NAME}` or `${file:PATH}`.
    pub url: String,
    /// The schema of tables that name none; `public` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
}

/// A BigQuery dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BigQueryStore {
    /// The project.
    pub project: String,
    /// The dataset.
    pub dataset: String,
    /// The location, such as `EU`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The service account's key, as `${env:NAME}` or `${file:PATH}`; without it the environment's own account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials: Option<String>,
    /// An emulator that stands in for the service, asked without credentials: its REST address, `http://127.0.0.1:9050`. The
    /// environment variable `BIGQUERY_EMULATOR_HOST` names one as well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator: Option<String>,
    /// The emulator's gRPC address, for the Storage Read API; without it rows come page by page over REST.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emulator_grpc: Option<String>,
    /// Whether a table that was not changed since the last pass, as the service says, is not read again: yes where nothing is said,
    /// but for an emulator, whose word is not relied on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_unmodified: Option<bool>,
}

/// A Twenty CRM workspace.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TwentyStore {
    /// The server's address.
    pub url: String,
    /// The API key, as `${env:NAME}` or `${file:PATH}`.
    pub api_key: String,
    /// The secret that webhooks are signed with, as `${env:NAME}` or `${file:PATH}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_secret: Option<String>,
    /// How many seconds the server may take to answer a call; 30 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 600))]
    pub timeout_seconds: Option<u32>,
}

/// How much may be asked of a store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many writes go into a batch at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_size: Option<u32>,
    /// How many bytes a pass may be billed for, such as `2GiB`. What goes beyond it is not begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes_per_pass: Option<Size>,
    /// How many calls go out in a second at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub calls_per_second: Option<u32>,
    /// How many calls go out in a minute at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub calls_per_minute: Option<u32>,
}

/// A number of bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Size {
    /// As a plain number.
    Bytes(u64),
    /// With a unit, such as `2GiB`.
    Text(String),
}
