//! Where an entity lives in a store, field by field, and in which form.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::flat::Fields;
use super::forms::Native;
use super::ids::{EntityName, FieldId, StoreName};
use super::observed::{Cell, Row};
use super::schema::{FieldRef, FieldType};
use super::value::Value;

/// A table's name, with its schema where it is given one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// The schema, `public` in `public.contacts_master`.
    pub schema: Option<String>,
    /// The table.
    pub name: String,
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// A column, or a path of names into a structured one (`name.firstName`, `sync_metadata.version`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Column(pub Vec<String>);

impl Column {
    /// A plain column.
    pub fn plain(name: impl Into<String>) -> Self {
        Self(vec![name.into()])
    }

    /// The name of the column itself, without the path inside it.
    pub fn head(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// How a value stands in its column.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Form {
    /// As the store itself keeps values of the field's type.
    #[default]
    Native,
    /// As text.
    Text,
    /// As a 64-bit integer; texts that are no such number cannot be held.
    Int64,
    /// As text holding JSON.
    JsonText,
    /// As whole seconds since 1970.
    UnixSeconds,
    /// As whole milliseconds since 1970.
    UnixMillis,
    /// As microseconds since 1970.
    UnixMicros,
    /// As a CRM's text, where an empty one is none.
    CrmText,
    /// As a CRM's e-mail address, in lower case.
    CrmEmail,
    /// As a CRM's link, with its origin in lower case and no slash at the end.
    CrmLink,
    /// As a CRM's phone number, with its country and without an extension.
    CrmPhone,
    /// As a CRM's date, or its time to the millisecond.
    CrmTime,
    /// As a CRM's number: whole, and up to 2^53.
    CrmNumber,
    /// As a CRM's JSON: an object or an array, and an empty one is none.
    CrmJson,
    /// As a CRM's list of texts, where an empty one is none.
    CrmList,
}

impl Form {
    /// The forms that CRMs keep values in.
    pub const CRM: [Self; 8] = [
        Self::CrmText,
        Self::CrmEmail,
        Self::CrmLink,
        Self::CrmPhone,
        Self::CrmTime,
        Self::CrmNumber,
        Self::CrmJson,
        Self::CrmList,
    ];

    /// Whether this is a form that CRMs keep values in.
    pub fn is_crm(self) -> bool {
        Self::CRM.contains(&self)
    }

    /// Whether values of a type can stand in this form of a CRM's.
    pub fn crm_suits(self, ty: super::schema::FieldType) -> bool {
        super::crm::suits(self, ty)
    }

    /// The word used in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Text => "text",
            Self::Int64 => "int64",
            Self::JsonText => "json-text",
            Self::UnixSeconds => "unix-seconds",
            Self::UnixMillis => "unix-millis",
            Self::UnixMicros => "unix-micros",
            Self::CrmText => "crm-text",
            Self::CrmEmail => "crm-email",
            Self::CrmLink => "crm-link",
            Self::CrmPhone => "crm-phone",
            Self::CrmTime => "crm-time",
            Self::CrmNumber => "crm-number",
            Self::CrmJson => "crm-json",
            Self::CrmList => "crm-list",
        }
    }
}

/// Which way a field's values go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The store is read and written.
    #[default]
    Both,
    /// The store is written; what it holds is never an edit.
    ToStore,
    /// The store is read, never written.
    FromStore,
}

impl Direction {
    /// Whether edits in the store count.
    pub fn reads(self) -> bool {
        self != Self::ToStore
    }

    /// Whether trueup writes the field there.
    pub fn writes(self) -> bool {
        self != Self::FromStore
    }
}

/// A hash of everything that decides what a field's column means. A shadow with another tag says nothing of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MappingTag(pub u32);

/// Where an entity's rows live in a store, hashed: what was verified of a row in one place says nothing of one in another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Home {
    /// The table or object in its file, schema or dataset, and the columns of the key.
    pub rows: u32,
    /// Where a row's version stands.
    pub version: u32,
}

/// A field's place in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldMapping {
    /// The field.
    pub field: FieldId,
    /// Its column.
    pub column: Column,
    /// Its form there.
    pub form: Form,
    /// Its direction.
    pub direction: Direction,
    /// What the mapping means, hashed.
    pub tag: MappingTag,
    /// Of a relation (the column is its name) the entity that it leads to: the field holds the key of that record.
    pub relation: Option<EntityName>,
}

/// A key part's place in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyMapping {
    /// Its column.
    pub column: Column,
    /// Its form there.
    pub form: Form,
    /// Of a relation (the column is its name) the entity that it leads to: the part is the key of that record.
    pub relation: Option<EntityName>,
}

/// Where a row's sync metadata lives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncPlace {
    /// Nowhere: the store carries none.
    None,
    /// In one column, as a STRUCT.
    Struct(Column),
    /// In one column, as JSON.
    Json(Column),
    /// In one text column, as text holding JSON.
    JsonText(Column),
    /// In a column each. A part that is not named has no column there.
    Columns {
        /// `version`.
        version: Option<Column>,
        /// `last_updated`.
        last_updated: Option<Column>,
        /// `last_updated_by`.
        last_updated_by: Option<Column>,
        /// `sync_status`.
        sync_status: Option<Column>,
        /// `source_systems`.
        source_systems: Option<Column>,
        /// `sync_errors`.
        sync_errors: Option<Column>,
    },
}

/// The parts of sync metadata, by the names they have wherever they stand.
pub const SYNC_PARTS: [&str; 6] =
    ["version", "last_updated", "last_updated_by", "sync_status", "source_systems", "sync_errors"];

impl SyncPlace {
    /// The column of each of [`SYNC_PARTS`], where they have a column each.
    pub fn columns(&self) -> [Option<&Column>; 6] {
        match self {
            Self::Columns {
                version,
                last_updated,
                last_updated_by,
                sync_status,
                source_systems,
                sync_errors,
            } => [version, last_updated, last_updated_by, sync_status, source_systems, sync_errors]
                .map(Option::as_ref),
            _ => [None; 6],
        }
    }
}

/// A condition on one field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The field.
    pub field: FieldRef,
    /// The values meant, as [`Value::plain_text`] has them.
    pub values: Vec<Option<String>>,
    /// Whether the field must have none of them instead of one.
    pub negated: bool,
}

/// What becomes, in a store that holds only some records, of a record that is no longer one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScopeExit {
    /// It stays there as it is.
    #[default]
    Keep,
    /// It is removed there; elsewhere it stays.
    Remove,
}

/// Which records a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What happens on leaving.
    pub exit: ScopeExit,
}

impl Scope {
    /// Whether a record with these values belongs to the store.
    pub fn admits(&self, value_of: impl Fn(FieldRef) -> Value) -> bool {
        self.conditions.iter().all(|condition| {
            let value = value_of(condition.field);
            let text = value.plain_text();
            condition.values.iter().any(|meant| meant.as_deref() == text.as_deref()) != condition.negated
        })
    }
}

/// Rows that whoever reads a table of trueup's own has no use for: those in which a field says one of these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Except {
    /// The field, a text.
    pub field: FieldId,
    /// The words: letters only, so that they can stand in any statement as they are.
    pub words: &'static [&'static str],
}

/// What an entity is in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shape {
    /// Rows of a table.
    Table(TableName),
    /// Records of an object of a CRM.
    Object(String),
    /// Elements inside rows of another entity, which the same store holds.
    Embedded(Embedded),
}

/// How an entity's records stand inside rows of another entity: values of several kinds, each kind in a column of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Embedded {
    /// The other entity.
    pub parent: EntityName,
    /// The field that refers to it.
    pub reference: FieldId,
    /// The field with the kind of value.
    pub kind: FieldId,
    /// The field with the value.
    pub value: FieldId,
    /// Where the values of each kind stand. Records of other kinds have no place in the store.
    pub places: BTreeMap<String, EmbedPlace>,
}

/// Where the values of one kind stand in the other entity's row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbedPlace {
    /// The column that holds all of them.
    pub column: Column,
    /// The region that phone numbers without a `+` are read in.
    pub region: Option<String>,
    /// The field that tells which of several is the first one; none: nothing but their order in the store tells.
    pub primary: Option<FieldId>,
    /// The form that the values take there; none: any value of the kind can be held.
    pub form: Option<Form>,
}

impl Embedded {
    /// The normal form of an element's value, by which it is found again; none for a kind that has no place here, or a value that has no
    /// normal form.
    pub fn normal(&self, kind: &str, value: &str) -> Option<String> {
        let place = self.places.get(kind)?;
        super::normal::identifier(kind, value, place.region.as_deref())
    }

    /// A value as it is written, or why it cannot be held.
    ///
    /// # Errors
    /// Says why.
    pub fn written(&self, kind: &str, value: &str) -> Result<String, String> {
        let none = || "the value is none of its kind, and the store would not take it".to_owned();
        let normal = self.normal(kind, value).ok_or_else(none)?;
        let Some(form) = self.places.get(kind).and_then(|place| place.form) else {
            return Ok(value.to_owned());
        };
        // The normal form of a number has its country.
        let text = if form == Form::CrmPhone { normal.as_str() } else { value };
        match super::encode(&Value::text(text), FieldType::String, form, &TimeZone::UTC) {
            Ok(Native::Text(text)) => Ok(text),
            Ok(_) => Err(none()),
            Err(error) => Err(error.0),
        }
    }
}

/// The tables that trueup keeps in the canonical store, which no entity may be mapped to: conflicts, tombstones, the number of the
/// last pass, and receipts.
pub const SYSTEM_TABLES: [&str; 4] =
    ["sync_conflicts", "trueup_tombstones", "trueup_passes", "trueup_receipts"];

/// Where an entity lives in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The entity.
    pub entity: EntityName,
    /// The store.
    pub store: StoreName,
    /// Table or object.
    pub shape: Shape,
    /// Where that is, hashed.
    pub home: Home,
    /// The key's columns, in the order of the entity's key.
    pub key: Vec<KeyMapping>,
    /// The mapped fields. Those of the entity that are not here have no place in the store.
    pub fields: Fields<FieldMapping>,
    /// Where sync metadata lives.
    pub sync: SyncPlace,
    /// Whether triggers in the store raise the version when other applications edit a record.
    pub triggers: bool,
    /// The column of the creation time.
    pub created: Option<Column>,
    /// The column of the time of the last update.
    pub updated: Option<Column>,
    /// Which records the store holds; none: all.
    pub scope: Option<Scope>,
    /// Whether the store has record ids of its own, so that a row need not carry the record's key: a record is found by the store's id
    /// first, then by key.
    pub own_ids: bool,
    /// Where all parts of the key are relations: the column that holds the whole key as text, a JSON array of its parts, so that no two
    /// rows have the same one.
    pub key_text: Option<Column>,
    /// The zone of columns that carry none.
    pub timezone: TimeZone,
}

impl Mapping {
    /// Whether the store has a place for a record's status and errors.
    pub fn has_bookkeeping(&self) -> bool {
        match &self.sync {
            SyncPlace::None => false,
            SyncPlace::Columns { sync_status, .. } => sync_status.is_some(),
            SyncPlace::Struct(_) | SyncPlace::Json(_) | SyncPlace::JsonText(_) => true,
        }
    }

    /// How the entity stands inside rows of another one, if it does.
    pub fn embedded(&self) -> Option<&Embedded> {
        match &self.shape {
            Shape::Embedded(embedded) => Some(embedded),
            Shape::Table(_) | Shape::Object(_) => None,
        }
    }

    /// Whether a field tells which element of a kind is the first one in the row that it stands in.
    pub fn tells_first(&self, field: FieldId) -> bool {
        let places = self.embedded().map(|embedded| embedded.places.values());
        places.into_iter().flatten().any(|place| place.primary == Some(field))
    }

    /// Whether what a row holds in a field is this value in another spelling. Only the value of an element may be: it is identified by its
    /// normal form.
    pub fn means_the_same(&self, row: &Row, field: FieldId, held: &Value, value: &Value) -> bool {
        let Some(embedded) = self.embedded().filter(|embedded| embedded.value == field) else { return false };
        let kind = row.fields.get(&embedded.kind).and_then(Cell::value).and_then(Value::as_text);
        let (Some(kind), Some(held), Some(value)) = (kind, held.as_text(), value.as_text()) else {
            return false;
        };
        let normal = embedded.normal(kind, held);
        normal.is_some() && normal == embedded.normal(kind, value)
    }

    /// The parts of the key that are relations, with the entity that each leads to.
    pub fn key_relations(&self) -> impl Iterator<Item = (usize, &EntityName)> {
        self.key.iter().enumerate().filter_map(|(part, place)| Some((part, place.relation.as_ref()?)))
    }

    /// Whether the store has a place for sync metadata.
    pub fn has_sync(&self) -> bool {
        self.sync != SyncPlace::None
    }
}
