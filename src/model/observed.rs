//! What a pass saw of a record in a store.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::flat::Fields;
use super::ids::{EntityName, RecordKey, StoreRecordId};
use super::meta::SyncMeta;
use super::schema::FieldRef;
use super::time::Timestamp;
use super::value::Value;

/// One field as read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// The value, in canonical form.
    Value(Value),
    /// What stands there is no value of the field's type.
    Unreadable(Box<Unreadable>),
}

/// Something that is no value of its field's type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Unreadable {
    /// Why, without showing the content.
    pub why: String,
    /// A hash of the content, which tells one content from another.
    pub fingerprint: u64,
}

impl Cell {
    /// The value, unless it could not be read.
    pub fn value(&self) -> Option<&Value> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unreadable(_) => None,
        }
    }
}

/// One row of a snapshot. A field that is not in `fields` is unknown: not mapped there, or its column is gone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Row {
    /// The record's key.
    pub key: RecordKey,
    /// The store's own id of the row, where it has one apart from the key.
    pub store_id: Option<StoreRecordId>,
    /// The fields as read.
    pub fields: Fields<Cell>,
    /// The row's sync metadata.
    pub meta: SyncMeta,
    /// The mapped creation time.
    pub created: Option<Timestamp>,
    /// The mapped time of the store's own last update.
    pub updated: Option<Timestamp>,
    /// Whether the row does not carry the record's key yet: in a store with record ids of its own it was found by its id or by what it
    /// holds, and the first write to it puts the key into it.
    pub unlinked: bool,
}

/// A row that its store cannot describe completely, from a store with record ids of its own: the row carries no key, or a relation of it
/// leads to a row whose key the store does not know. Which record it belongs to is settled before anything is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The entity.
    pub entity: EntityName,
    /// The row's id; for an element inside another entity's row, the text of its [`ElementId`].
    pub store_id: StoreRecordId,
    /// The key, where the row carries one.
    pub key: Option<RecordKey>,
    /// The ids of the rows that its relations lead to, by field or part of the key; an element's relation to the row that it is in is one
    /// of them. Relations that lead nowhere are left out. Their values need not be among `fields`: they follow from these ids.
    pub relations: BTreeMap<FieldRef, StoreRecordId>,
    /// The fields as read.
    pub fields: Fields<Cell>,
    /// The row's sync metadata.
    pub meta: SyncMeta,
    /// The mapped creation time.
    pub created: Option<Timestamp>,
    /// The mapped time of the store's own last update.
    pub updated: Option<Timestamp>,
}

/// The place of an element inside a row of another entity: in which row, of which kind, and its value's normal form. As text it is the
/// element's id in the store, which changes when its value does.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementId {
    /// The id of the row it is in.
    pub parent: StoreRecordId,
    /// Its kind.
    pub kind: String,
    /// The normal form of its value, by [`super::normal::identifier`].
    pub normal: String,
}

impl ElementId {
    /// The id as text.
    pub fn store_id(&self) -> StoreRecordId {
        StoreRecordId(format!("{}#{}#{}", self.parent.0, self.kind, self.normal))
    }

    /// The id that a text is; none when it is no element's.
    pub fn parse(id: &StoreRecordId) -> Option<Self> {
        let mut parts = id.0.splitn(3, '#');
        let (parent, kind, normal) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Self {
            parent: StoreRecordId(parent.to_owned()),
            kind: kind.to_owned(),
            normal: normal.to_owned(),
        })
    }
}

/// Why it is not known whether a store holds a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unknown {
    /// The store did not answer.
    Unreachable,
    /// The snapshot was cut short or its certificate does not add up: what is absent from it may be there.
    Incomplete,
    /// The row has the key of another row.
    DuplicateKey,
    /// The store or the row went back to an older version.
    Regressed,
    /// The store is paused.
    Paused,
    /// The store has a row that may be this record's, and a person has to say whose it is.
    Unidentified,
}

/// Whether a store holds a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(clippy::large_enum_variant)] // Nearly all are present: a box each would only cost.
pub enum Presence {
    /// It does.
    Present(Row),
    /// It does not, as a complete snapshot shows.
    Absent,
    /// It cannot be told.
    Unknown(Unknown),
}

impl Presence {
    /// The row, where there is one.
    pub fn row(&self) -> Option<&Row> {
        match self {
            Self::Present(row) => Some(row),
            Self::Absent | Self::Unknown(_) => None,
        }
    }
}

/// Where a store stood when an entity was last read whole, or brought up to date: what it needs to tell later what has changed since.
/// Opaque to everything but the store that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(pub String);

/// What a snapshot vouches for. Only a complete one makes absence known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// How many rows the store said it had.
    pub rows_claimed: u64,
    /// How many rows were read, rows with unusable keys included.
    pub rows_read: u64,
    /// Whether the end of the table was seen.
    pub end_seen: bool,
    /// Whether the store may have changed while it was read (false where one transaction covers the read).
    pub moved: bool,
    /// Mapped columns that the table lacks: their fields are unknown.
    pub missing_columns: Vec<String>,
    /// Columns that the table lacks in which records of other entities would stand: nothing is known of those.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_inside: Vec<String>,
    /// Rows whose key is null or no key of its type: each an error, and absence is unknown.
    pub bad_keys: u64,
    /// Keys that more than one row has (at most the first hundred): each an error, and absence is unknown.
    pub duplicate_keys: Vec<RecordKey>,
    /// Where the store stood, for telling later what changed since; none where it cannot, or where the snapshot is not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

impl Certificate {
    /// Whether every row that the store had was read.
    pub fn is_whole(&self) -> bool {
        self.end_seen && !self.moved && self.rows_claimed == self.rows_read
    }

    /// Whether a record that was not read is absent: a row without a usable key may be any record's.
    pub fn is_complete(&self) -> bool {
        self.is_whole() && self.bad_keys == 0 && self.duplicate_keys.is_empty()
    }
}
