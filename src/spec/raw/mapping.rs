//! A Mapping document as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ordered;
use crate::model::{Direction, Form, ScopeExit};

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
    /// The key's column, where it is not named as the key; for a composite key a map from part to column. With `junction` a text column
    /// that holds the whole key, so that no two rows have the same one.
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
    /// Child entities kept inside this object, each kind of value in a field of its own: `{contact_identifiers: {email: emails}}`. A
    /// `where` on them stands in their own Mapping, for the same store, without a table or object.
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
    /// Instead of a column: the relation to the record whose key the field holds, in a store whose objects are related by ids of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
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
    /// Whether `migrate` gives the table triggers that raise the version, and note the time, when other applications change a mapped
    /// field without doing so themselves. In SQL stores, where the metadata has a version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub triggers: Option<bool>,
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
    /// The child's field of type `bool` that tells which value is the parent's first one of the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub primary: Option<String>,
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
