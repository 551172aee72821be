//! An entity: a kind of record with a key and typed, checked fields.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::derive::Derive;
use super::flat::ByName;
use super::ids::{EntityName, FieldId, FieldName};
use super::value::Value;

/// The type of a field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FieldType {
    /// Text of any length.
    #[default]
    String,
    /// A 64-bit integer.
    Int64,
    /// A 64-bit floating point number.
    Float64,
    /// A decimal number of any precision.
    Numeric,
    /// True or false.
    Bool,
    /// A calendar date.
    Date,
    /// A point in time, to the microsecond.
    Timestamp,
    /// A JSON value, merged by sub-path.
    Json,
    /// A list of texts.
    StringList,
}

impl FieldType {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::String,
        Self::Int64,
        Self::Float64,
        Self::Numeric,
        Self::Bool,
        Self::Date,
        Self::Timestamp,
        Self::Json,
        Self::StringList,
    ];

    /// The word used in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Int64 => "int64",
            Self::Float64 => "float64",
            Self::Numeric => "numeric",
            Self::Bool => "bool",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
            Self::Json => "json",
            Self::StringList => "string_list",
        }
    }

    /// Whether a value is of this type; null is of every type.
    pub fn admits(self, value: &Value) -> bool {
        matches!(
            (self, value),
            (_, Value::Null)
                | (Self::String, Value::Text(_))
                | (Self::Int64, Value::Int(_))
                | (Self::Float64, Value::Float(_))
                | (Self::Numeric, Value::Numeric(_))
                | (Self::Bool, Value::Bool(_))
                | (Self::Date, Value::Date(_))
                | (Self::Timestamp, Value::Time(_))
                | (Self::Json, Value::Json(_))
                | (Self::StringList, Value::List(_))
        )
    }
}

/// A field or a part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FieldRef {
    /// A part of the key, by its place.
    Key(usize),
    /// A field.
    Field(FieldId),
}

/// One part of an entity's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyField {
    /// Its name.
    pub name: FieldName,
    /// Its type: `string` or `int64`.
    pub ty: FieldType,
}

/// Inclusive bounds of a number, date or timestamp; either end may be open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// The least value allowed.
    pub min: Option<Value>,
    /// The greatest value allowed.
    pub max: Option<Value>,
}

/// A rule that a value must keep. Null keeps every rule but `required`.
#[derive(Debug, Clone)]
pub enum Check {
    /// One of these values.
    Enum(BTreeSet<String>),
    /// The text (or every text of a list) matches this regular expression; `{field}` in it stands for the escaped text of
    /// another field of the record.
    Pattern(String),
    /// Within bounds.
    Range(Range),
    /// The JSON value is valid under a JSON Schema.
    JsonSchema {
        /// The schema's file, as the manifest names it.
        file: String,
        /// The schema, ready to use.
        validator: Arc<jsonschema::Validator>,
    },
}

/// A field of an entity.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name.
    pub name: FieldName,
    /// Its type.
    pub ty: FieldType,
    /// Whether null is refused.
    pub required: bool,
    /// Whether no two records may have the same value.
    pub unique: bool,
    /// Whether values are kept out of plans on screen, logs and errors.
    pub sensitive: bool,
    /// Rules besides type and presence.
    pub checks: Vec<Check>,
    /// How the value comes from other fields, where it does.
    pub derive: Option<Derive>,
    /// What the field is for, in people's words.
    pub description: Option<String>,
}

/// What becomes of a record whose parent is deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDelete {
    /// It is deleted as well.
    Cascade,
    /// It keeps its parent from being deleted.
    Restrict,
    /// Nothing: the reference may dangle.
    #[default]
    Ignore,
}

/// A reference from a field to the key of a record of another entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The field, or part of the key, that refers.
    pub from: FieldRef,
    /// The entity referred to; its key has one part.
    pub to: EntityName,
    /// What becomes of the referring record when the other one is deleted.
    pub on_delete: OnDelete,
}

/// A unit of merging: fields that take their values together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The fields, in the entity's order.
    pub fields: Vec<FieldId>,
}

/// A unit's place in [`Entity::units`].
pub type UnitId = usize;

/// Whether changes to different fields of a record are merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// Each field (or group) is settled by itself.
    #[default]
    Field,
    /// The whole record is one group.
    Record,
}

/// What happens when two stores that never met hold different values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adopt {
    /// Version, then time, where both records carry sync metadata; else the one that does; else the canonical one.
    #[default]
    Rule,
    /// The canonical store's value.
    Canonical,
    /// A person decides.
    Hold,
}

/// How conflicts are settled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ConflictPolicy {
    /// What is merged.
    pub granularity: Granularity,
    /// Two times no further apart than this many microseconds count as equal.
    pub clock_tolerance_micros: i64,
    /// What happens at a first meeting.
    pub adopt: Adopt,
}

/// What happens when a record is deleted in one store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeletePolicy {
    /// It is deleted everywhere.
    #[default]
    Propagate,
    /// It is put back.
    Restore,
    /// It stays away there and stays elsewhere.
    Ignore,
}

/// The clocks of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Times {
    /// The name of the creation time: fixed at first meeting.
    pub created: Option<FieldName>,
    /// The name of the time of the last update: a clock, never compared.
    pub updated: Option<FieldName>,
}

/// One term of a match rule: a field of the entity, or of a child entity that refers to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchTerm {
    /// A field of the entity itself.
    Own(FieldRef),
    /// A normalised value of a child entity, by kind: `contact_identifiers.email`.
    Child {
        /// The child entity.
        entity: EntityName,
        /// The kind of value.
        kind: String,
    },
}

/// A kind of record.
#[derive(Debug, Clone)]
pub struct Entity {
    /// Its name.
    pub name: EntityName,
    /// Its key, of one part or more.
    pub key: Vec<KeyField>,
    /// Its fields, in the manifest's order; [`FieldId`] is the place here.
    pub fields: Vec<Field>,
    /// Its units of merging; every field is in exactly one.
    pub units: Vec<Unit>,
    /// Its references to other entities.
    pub references: Vec<Reference>,
    /// Its clocks.
    pub times: Times,
    /// The rules by which a record without a key is found, the first that matches deciding.
    pub match_rules: Vec<Vec<MatchTerm>>,
    /// How conflicts are settled.
    pub conflicts: ConflictPolicy,
    /// What happens on deletes.
    pub deletes: DeletePolicy,
    /// The region that phone numbers without a `+` are read in, as ISO 3166 has it.
    pub default_region: Option<String>,
    /// Whether trueup itself made this entity (its conflicts, tombstones and passes).
    pub system: bool,
    /// The order of its fields' names, once somebody asked.
    pub names: Names,
}

/// The fields of an entity in the order of their names, which is the order that shadows have them in. It follows from the entity's fields,
/// and is worked out once.
#[derive(Debug, Clone, Default)]
pub struct Names(OnceLock<NameOrder>);

#[derive(Debug, Clone)]
struct NameOrder {
    by_name: Vec<(FieldName, FieldId)>,
    /// For every field its place there.
    ranks: Vec<usize>,
}

impl Entity {
    /// A field by its place.
    ///
    /// # Panics
    /// Never for an id of this entity; ids come from this very spec.
    pub fn field(&self, id: FieldId) -> &Field {
        &self.fields[id.index()]
    }

    /// The ids of all fields, in order.
    pub fn field_ids(&self) -> impl Iterator<Item = FieldId> + '_ {
        (0..self.fields.len()).filter_map(|at| u16::try_from(at).ok().map(FieldId))
    }

    /// The field of this name, unless it is a part of the key.
    pub fn field_id(&self, name: &FieldName) -> Option<FieldId> {
        self.by_name().iter().find(|(theirs, _)| theirs == name).map(|(_, id)| *id)
    }

    /// The fields in the order of their names.
    pub fn by_name(&self) -> &[(FieldName, FieldId)] {
        &self.name_order().by_name
    }

    /// What a map has for a field by its name.
    pub fn named<'m, V>(&self, map: &'m ByName<V>, field: FieldId) -> Option<&'m V> {
        // Nearly always the map has all fields.
        let rank = self.name_order().ranks.get(field.index())?;
        map.get_near(*rank, &self.field(field).name)
    }

    fn name_order(&self) -> &NameOrder {
        self.names.0.get_or_init(|| {
            let mut by_name: Vec<_> = self.field_ids().map(|id| (self.field(id).name.clone(), id)).collect();
            by_name.sort();
            let mut ranks = vec![0; self.fields.len()];
            for (rank, (_, id)) in by_name.iter().enumerate() {
                ranks[id.index()] = rank;
            }
            NameOrder { by_name, ranks }
        })
    }

    /// The field or part of the key of this name.
    pub fn resolve(&self, name: &str) -> Option<FieldRef> {
        if let Some(part) = self.key.iter().position(|part| part.name.as_str() == name) {
            return Some(FieldRef::Key(part));
        }
        self.field_ids().find(|id| self.field(*id).name.as_str() == name).map(FieldRef::Field)
    }

    /// The fields of kind and value of an entity whose records are told apart by them: it has a field `identifier(kind, value)`.
    pub fn identifier(&self) -> Option<(FieldId, FieldId)> {
        let derived = self.fields.iter().filter_map(|field| field.derive.as_ref());
        let mut of_kind = derived.filter(|derive| derive.function == super::derive::DeriveFn::Identifier);
        match of_kind.next()?.args.as_slice() {
            [FieldRef::Field(kind), FieldRef::Field(value)] => Some((*kind, *value)),
            _ => None,
        }
    }

    /// The unit that a field belongs to.
    pub fn unit_of(&self, field: FieldId) -> Option<UnitId> {
        self.units.iter().position(|unit| unit.fields.contains(&field))
    }

    /// Field ids by name.
    pub fn ids_by_name(&self) -> BTreeMap<FieldName, FieldId> {
        self.field_ids().map(|id| (self.field(id).name.clone(), id)).collect()
    }
}
