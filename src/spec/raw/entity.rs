//! An Entity document as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Ordered;
use crate::model::{Adopt, DeletePolicy, FieldType, Granularity, OnDelete, Recompute};

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
