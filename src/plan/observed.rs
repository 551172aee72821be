//! A record as a pass saw it.

use std::collections::BTreeMap;

use crate::model::{ByStore, Memory, Presence, RecordKey, StoreName, Unknown, fingerprint_of};

/// A record as a pass saw it in every store of its entity.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Its key.
    pub key: RecordKey,
    /// What is remembered of it.
    pub memory: Option<Memory>,
    /// What was seen, for every store that maps the entity.
    pub presences: ByStore<Presence>,
}

impl Observed {
    /// A fingerprint of everything seen and remembered: it changes when anything moves.
    pub fn fingerprint(&self) -> String {
        // A row without the key is not found by it when it is looked at again; the guard of what is written to it says whether it moved.
        let found_by_key = |presence: &&Presence| match presence {
            Presence::Present(row) => !row.unlinked,
            Presence::Unknown(Unknown::Unidentified) => false,
            Presence::Absent | Presence::Unknown(_) => true,
        };
        let presences: BTreeMap<&StoreName, &Presence> = self
            .presences
            .iter()
            .map(|(store, presence)| {
                (store, Some(presence).filter(found_by_key).unwrap_or(&Presence::Absent))
            })
            .collect();
        fingerprint_of(&(&self.memory, presences))
    }
}
