//! Manifests as written: short and long forms, texts not yet understood, names not yet resolved.
//!
//! The comments on the fields are what editors show: they go into the JSON Schemas under `schemas/`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::ordered::Ordered;
use crate::model::{
    Adopt, DeletePolicy, Direction, FieldType, Form, Granularity, OnDelete, Recompute, ScopeExit,
};

/// The version of the manifests' format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one so far.
    #[serde(rename = "trueup/v1")]
    V1,
}

macro_rules! document {
    ($(#[$doc:meta])* $name:ident, $kind:ident, $word:literal, $(#[$kind_doc:meta])* $spec:ty) => {
        #[doc = concat!("The word `", $word, "`.")]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        pub enum $kind {
            $(#[$kind_doc])*
            #[serde(rename = $word)]
            Word,
        }

        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            /// The version of the format: `trueup/v1`.
            #[serde(rename = "apiVersion")]
            pub api_version: ApiVersion,
            /// What the document is.
            pub kind: $kind,
            /// What it is called.
            pub metadata: Metadata,
            /// What it says.
            pub spec: $spec,
        }

        impl $name {
            /// A document of this version.
            pub fn new(name: &str, spec: $spec) -> Self {
                Self {
                    api_version: ApiVersion::V1,
                    kind: $kind::Word,
                    metadata: Metadata { name: name.to_owned() },
                    spec,
                }
            }
        }
    };
}

/// What a document is called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The name that other documents and commands use: letters, digits, `_`, `-` and `.`, beginning with a letter or `_`.
    pub name: String,
}

document! {
    /// A system that holds records.
    StoreDocument, StoreWord, "Store",
    /// A system that holds records.
    StoreBody
}
document! {
    /// A kind of record, with a key and typed fields.
    EntityDocument, EntityWord, "Entity",
    /// A kind of record.
    EntityBody
}
document! {
    /// Where an entity lives in each store.
    MappingDocument, MappingWord, "Mapping",
    /// Where an entity lives.
    MappingBody
}
document! {
    /// How passes are run. There is at most one such document; without it the defaults hold.
    ControllerDocument, ControllerWord, "Controller",
    /// How passes are run.
    ControllerBody
}

// ---- Store -----------------------------------------------------------------------------------------------------------

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

/// Rows in memory; there is nothing to set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryStore {}

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
}

/// How much may be asked of a store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// How many writes go into a batch at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_size: Option<u32>,
    /// How many bytes a pass may read, such as `2GiB`.
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

// ---- Entity ----------------------------------------------------------------------------------------------------------

/// A kind of record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EntityBody {
    /// The key's parts, such as `{contact_id: string}`. Their order is the order of a composite key.
    pub key: Ordered<KeyEntry>,
    /// The fields besides the key.
    #[serde(default)]
    pub fields: Ordered<FieldEntry>,
    /// Fields that take their values together, from one store: `[[category_code, subcategory_code]]`.
    #[serde(default)]
    pub groups: Vec<Vec<String>>,
    /// The record's clocks, which are never compared.
    #[serde(default)]
    pub times: TimesBody,
    /// How a record without a key is found: rules, of which the first that matches decides. Each is a list of fields, or of
    /// kinds of value of a child entity, such as `contact_identifiers.email`, all of which must agree.
    #[serde(default, rename = "match")]
    pub match_rules: Vec<Vec<String>>,
    /// How conflicts are settled.
    #[serde(default)]
    pub conflicts: ConflictsBody,
    /// What happens when a record is deleted in one store.
    #[serde(default)]
    pub deletes: DeletePolicy,
    /// The region that phone numbers without a `+` are read in, such as `US`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_region: Option<String>,
    /// What the entity is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A part of a key: its type, or more about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum KeyEntry {
    /// Its type.
    Short(FieldType),
    /// More about it.
    Long(KeyBody),
}

/// A part of a key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyBody {
    /// Its type: `string` or `int64`.
    #[serde(rename = "type")]
    pub ty: FieldType,
    /// The entity whose key it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<ReferenceEntry>,
    /// What becomes of the record when the one referred to is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
    /// What it is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A field: its type, or more about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FieldEntry {
    /// Its type.
    Short(FieldType),
    /// More about it.
    Long(Box<FieldBody>),
}

/// A field.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FieldBody {
    /// Its type. Fields with `enum`, `pattern` or `derive` are `string` and those with `schema` are `json` where nothing
    /// is said.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub ty: Option<FieldType>,
    /// Whether null is refused.
    #[serde(default)]
    pub required: bool,
    /// Whether no two records may have the same value.
    #[serde(default)]
    pub unique: bool,
    /// Whether values are kept out of plans on screen, logs and errors.
    #[serde(default)]
    pub sensitive: bool,
    /// The texts allowed.
    #[serde(rename = "enum", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<String>>,
    /// A regular expression that the text matches; `{field}` in it stands for another field's text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Inclusive bounds of a number, date or timestamp: `[1, 10]` or `{min: 1}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub range: Option<RangeEntry>,
    /// The file of a JSON Schema for the value, in the manifests' folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schema: Option<String>,
    /// How the value comes from other fields, such as `name(canonical_name)`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub derive: Option<String>,
    /// When a derived value is computed again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recompute: Option<Recompute>,
    /// The entity whose key the field holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub references: Option<ReferenceEntry>,
    /// What becomes of the record when the one referred to is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
    /// What the field is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A reference: the entity, or more about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ReferenceEntry {
    /// The entity.
    Short(String),
    /// More about it.
    Long(ReferenceBody),
}

/// A reference to another entity's key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReferenceBody {
    /// The entity.
    pub entity: String,
    /// What becomes of the record when the one referred to is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_delete: Option<OnDelete>,
}

/// Inclusive bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RangeEntry {
    /// Both: `[1, 10]`.
    Pair([Literal; 2]),
    /// Either.
    Bounds(RangeBody),
}

/// Inclusive bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RangeBody {
    /// The least value allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Literal>,
    /// The greatest value allowed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Literal>,
}

/// A value written in a manifest. Its exact text is taken from the manifest itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Literal {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text, a date or a timestamp.
    Text(String),
}

/// The record's clocks.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimesBody {
    /// The name of the creation time, fixed at first meeting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The name of the time of the last update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<String>,
}

/// How conflicts are settled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConflictsBody {
    /// Whether changes to different fields of a record are merged.
    #[serde(default)]
    pub granularity: Granularity,
    /// Two times no further apart than this count as equal, such as `2s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock_tolerance: Option<String>,
    /// What happens when stores that never met hold different values.
    #[serde(default)]
    pub adopt: Adopt,
}

// ---- Mapping ---------------------------------------------------------------------------------------------------------

/// Where an entity lives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingBody {
    /// The entity.
    pub entity: String,
    /// Its place in each store that has it.
    pub stores: Ordered<StoreMapping>,
}

/// An entity's place in one store.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreMapping {
    /// The table, with its schema where it needs one: `public.contacts_master`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    /// The CRM's object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// The key's column, where it is not named as the key; for a composite key a map from part to column.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyPlaces>,
    /// Each field's column: `{"*": same}` maps every field not mentioned to the column of its name; `field: column`,
    /// `field: {path: a.b, form: json-text}`, and `field: none` for a field that the store does not have.
    #[serde(default)]
    pub fields: Ordered<Place>,
    /// Where the sync metadata lives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncBody>,
    /// Which records the store holds, such as `{category_code: {not: X}}`; all must hold.
    #[serde(default, rename = "where")]
    pub scope: Ordered<ConditionEntry>,
    /// What becomes of a record there that no longer fits `where`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave: Option<ScopeExit>,
    /// The zone of timestamps in columns that carry none, such as `Europe/Rome`; UTC where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Child entities kept inside this object: `{contact_identifiers: {email: emails}}`.
    #[serde(default, skip_serializing_if = "Ordered::is_empty")]
    pub embed: Ordered<Ordered<EmbedEntry>>,
    /// For an object that only joins two others: the relation that holds each part of the key.
    #[serde(default, skip_serializing_if = "Ordered::is_empty")]
    pub junction: Ordered<JunctionEntry>,
}

/// The key's columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum KeyPlaces {
    /// The column of a key of one part.
    One(String),
    /// The column of each part.
    Parts(Ordered<Place>),
}

/// A field's place: a column, more about it, or none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Place {
    /// The field has no place in the store.
    Nowhere,
    /// The column, or a path into it (`name.firstName`); `same`: the column of the field's name; `none`: no place.
    Short(String),
    /// More about it.
    Long(PlaceBody),
}

/// A field's place.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaceBody {
    /// The column, as it is named; without `column` and `path` the one of the field's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// The column and the names inside it, with dots between: `phones.primary`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// How the value stands there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// Which way values go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// Where sync metadata lives: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncBody {
    /// In one column, as a STRUCT.
    #[serde(rename = "struct", skip_serializing_if = "Option::is_none")]
    pub structure: Option<String>,
    /// In one column, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub json: Option<String>,
    /// In one text column, as text holding JSON.
    #[serde(rename = "json-text", skip_serializing_if = "Option::is_none")]
    pub json_text: Option<String>,
    /// In a column each: `same`, or a map.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<SyncColumns>,
}

/// Columns of sync metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum SyncColumns {
    /// `same`: all six, under their own names.
    Word(SameWord),
    /// Each by itself; what is not named has no column.
    Each(Box<SyncColumnsBody>),
}

/// The word `same`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SameWord {
    /// Of the same name.
    Same,
}

/// The column of each part of the sync metadata.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyncColumnsBody {
    /// The column of the version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The column of the time of the last edit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<String>,
    /// The column of the store that the last edit came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_updated_by: Option<String>,
    /// The column of `synced`, `pending` or `conflict`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_status: Option<String>,
    /// The column of the stores that have the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_systems: Option<String>,
    /// The column of the last errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_errors: Option<String>,
}

/// A condition on a field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ConditionEntry {
    /// It has this value.
    Is(OptionalLiteral),
    /// It has one of several values, or none of them: exactly one of `in` and `not`.
    Test(ConditionBody),
}

/// A condition on a field: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionBody {
    /// It has one of these values.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub any_of: Option<Vec<OptionalLiteral>>,
    /// It has none of these values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<OneOrMore>,
}

/// A value or null.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OptionalLiteral {
    /// No value.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number.
    Float(f64),
    /// A text, a date or a timestamp.
    Text(String),
}

/// A value, or a list of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum OneOrMore {
    /// Several.
    Many(Vec<OptionalLiteral>),
    /// One.
    One(OptionalLiteral),
}

/// Where values of a kind stand in the parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum EmbedEntry {
    /// The parent's field.
    Short(String),
    /// More about it.
    Long(EmbedBody),
}

/// Where values of a kind stand in the parent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmbedBody {
    /// The parent's field.
    pub path: String,
    /// The region that phone numbers without a `+` are read in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
}

/// The relation that holds a part of the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum JunctionEntry {
    /// The relation.
    Short(String),
    /// More about it.
    Long(JunctionBody),
}

/// The relation that holds a part of the key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JunctionBody {
    /// The relation's field.
    pub relation: String,
    /// The object that it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

// ---- Controller ------------------------------------------------------------------------------------------------------

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
    /// How long tombstones and settled conflicts are kept; 90 days where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<String>,
    /// Where the state is kept.
    #[serde(default)]
    pub state: StateBody,
    /// What is served over HTTP.
    #[serde(default)]
    pub http: HttpBody,
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
}

/// What is served over HTTP.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpBody {
    /// The address of `/metrics` and `/healthz`; `127.0.0.1:9464` where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
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
    /// Stores whose webhooks are listened to.
    #[serde(default)]
    pub webhooks: Vec<String>,
    /// Postgres stores whose notifications are listened to.
    #[serde(default)]
    pub notify: Vec<String>,
    /// SQLite stores whose files are watched.
    #[serde(default)]
    pub files: Vec<String>,
}
