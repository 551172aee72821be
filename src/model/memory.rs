//! What is remembered of a record between passes: a shadow for every store.

use serde::{Deserialize, Serialize};

use super::flat::ByName;
use super::flat::ByStore;
use super::ids::{FieldId, StoreName, StoreRecordId, Version};
use super::mapping::{FieldMapping, Home, Mapping, MappingTag};
use super::meta::SyncMeta;
use super::observed::Cell;
use super::schema::Entity;
use super::time::Timestamp;
use super::value::Value;

/// What one field of a record was last verified to be in one store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FieldShadow {
    /// What the store was read back as holding.
    pub held: Cell,
    /// The canonical value that this stood for; none: the same as what is held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stands_for: Option<Box<Value>>,
    /// For a replica the canonical version whose value it had seen; for the canonical store the version that last
    /// changed the field.
    pub version: Version,
    /// The mapping that this was read under. Under another one the field meets for the first time.
    pub tag: MappingTag,
    /// A crashed write may or may not have touched this field: whatever is held now counts as changed there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsure: bool,
}

impl FieldShadow {
    /// The canonical value that the held one stood for.
    pub fn canonical(&self) -> Option<&Value> {
        self.stands_for.as_deref().or_else(|| self.held.value())
    }
}

/// What one store was last verified to hold of a record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Shadow {
    /// Whether the record was there.
    pub present: bool,
    /// The store's own id of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store_id: Option<StoreRecordId>,
    /// The row's sync metadata (bookkeeping left out); of an absent record the metadata it was deleted with.
    #[serde(default)]
    pub meta: SyncMeta,
    /// The store's own time of its last update, as of our last look: an edit's time only where it moved since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Timestamp>,
    /// Where the row lived; none: nobody noted it. In another place the record meets for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<Home>,
    /// The fields.
    #[serde(default)]
    pub fields: ByName<FieldShadow>,
}

impl Shadow {
    /// Whether this is about the place where the mapping keeps the record now, and not about a table, file or key column that it named
    /// before. Where no place was noted, the fields' tags tell: they are hashes over table and key as well.
    pub fn is_of(&self, entity: &Entity, mapping: &Mapping) -> bool {
        let same_tag = |(id, mapped): (&FieldId, &FieldMapping)| {
            entity.named(&self.fields, *id).is_some_and(|field| field.tag == mapped.tag)
        };
        match self.home {
            Some(home) => home.rows == mapping.home.rows,
            None => !self.present || self.fields.is_empty() || mapping.fields.iter().any(same_tag),
        }
    }

    /// What is known of a field, as far as its mapping decides the meaning now. Its name does not: what manifests call otherwise now stands
    /// where it stood.
    pub fn known(&self, entity: &Entity, mapped: &FieldMapping) -> Option<&FieldShadow> {
        let same = |known: &&FieldShadow| known.tag == mapped.tag;
        entity.named(&self.fields, mapped.field).filter(same).or_else(|| self.fields.values().find(same))
    }

    /// The highest version this shadow knows of.
    pub fn highest_version(&self) -> Version {
        self.fields.values().map(|field| field.version).fold(self.meta.version_or_none(), Version::max)
    }
}

/// Everything remembered of one record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Memory {
    /// A shadow for every store that was ever verified to hold or lack the record.
    pub stores: ByStore<Shadow>,
}

impl Memory {
    /// The stores that are remembered to have the record.
    pub fn places(&self) -> Vec<StoreName> {
        let there = self.stores.iter().filter(|(_, shadow)| shadow.present);
        there.map(|(store, _)| store.clone()).collect()
    }

    /// The highest version any shadow knows of.
    pub fn highest_version(&self) -> Version {
        self.stores.values().map(Shadow::highest_version).fold(Version::NONE, Version::max)
    }
}
