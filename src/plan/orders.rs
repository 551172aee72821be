//! What a plan is told from outside: what is not to be written for now, and which refused plans a person approved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diff::{SidePlan, Standing};
use crate::model::{EntityName, RecordId, RecordKey, StoreName};
use crate::resolve::{Fate, LeftReason, Resolution};

/// What `--target` names: an entity or one record of it, in all stores or in one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The entity.
    pub entity: EntityName,
    /// The record; none: all of the entity.
    pub key: Option<RecordKey>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Some(key) => RecordId { entity: self.entity.clone(), key: key.clone() }.fmt(f),
            None => self.entity.fmt(f),
        }
    }
}

impl Target {
    /// Whether a record is meant.
    pub(super) fn covers(&self, entity: &EntityName, key: &RecordKey) -> bool {
        self.entity == *entity && self.key.as_ref().is_none_or(|of| of == key)
    }
}

/// What a pause or a back-off covers: everything that fits every part that is named.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Only in this store; none: in all of them.
    pub store: Option<StoreName>,
    /// Only this entity; none: all of them.
    pub entity: Option<EntityName>,
    /// Only this record of the entity; none: all of them.
    pub key: Option<RecordKey>,
}

/// Why nothing is written to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Somebody paused it.
    Paused,
    /// A write failed there a short while ago.
    Waiting,
}

impl Hold {
    fn standing(self) -> Standing {
        match self {
            Self::Paused => Standing::Paused,
            Self::Waiting => Standing::Pending,
        }
    }
}

/// What nothing is written to. It is looked at all the same, so that drift goes on being told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    stores: BTreeMap<StoreName, Hold>,
    entities: BTreeMap<EntityName, BTreeMap<Option<StoreName>, Hold>>,
    records: BTreeMap<RecordId, BTreeMap<Option<StoreName>, Hold>>,
}

impl Holds {
    /// Adds a place. One that names nothing, or a record without its entity, is no place.
    pub fn add(&mut self, place: Place, hold: Hold) {
        match (place.entity, place.key, place.store) {
            (Some(entity), Some(key), store) => {
                self.records.entry(RecordId { entity, key }).or_default().insert(store, hold);
            }
            (Some(entity), None, store) => {
                self.entities.entry(entity).or_default().insert(store, hold);
            }
            (None, None, Some(store)) => {
                self.stores.insert(store, hold);
            }
            (None, _, _) => {}
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.stores.is_empty() && self.entities.is_empty() && self.records.is_empty()
    }

    /// Whether nothing is written to a record in a store, or (without a store) anywhere.
    fn of(&self, record: &RecordId, store: Option<&StoreName>) -> Option<Hold> {
        let whole = |holds: &BTreeMap<Option<StoreName>, Hold>| {
            let own = store.and_then(|store| holds.get(&Some(store.clone())));
            own.or_else(|| holds.get(&None)).copied()
        };
        let of_store = store.and_then(|store| self.stores.get(store)).copied();
        of_store
            .or_else(|| self.entities.get(&record.entity).and_then(whole))
            .or_else(|| self.records.get(record).and_then(whole))
    }

    /// Takes back what would be written where nothing may be. Where the canonical store cannot be written, nothing else is: the others
    /// would get what is not on record.
    pub(super) fn keep(
        &self,
        record: &RecordId,
        canonical: &StoreName,
        resolution: &mut Resolution,
        sides: &mut [SidePlan],
    ) {
        if self.is_empty() {
            return;
        }
        let does = !resolution.conflicts.is_empty()
            || !resolution.closed.is_empty()
            || sides.iter().any(|side| side.action.is_some());
        let everywhere = self.of(record, None).or_else(|| self.of(record, Some(canonical)));
        let Some(hold) = everywhere else {
            for side in sides.iter_mut() {
                if let Some(hold) = self.of(record, Some(&side.store)).filter(|_| side.action.is_some()) {
                    side.action = None;
                    side.standing = hold.standing();
                }
            }
            return;
        };
        if does {
            hold_back(resolution, sides, hold.standing());
        }
    }

    /// Whether nothing is written to a record in a store.
    pub fn cover(&self, record: &RecordId, store: &StoreName) -> bool {
        self.of(record, Some(store)).is_some()
    }

    /// Whether a record as a whole is not written.
    pub fn has(&self, record: &RecordId, canonical: &StoreName) -> bool {
        self.of(record, None).or_else(|| self.of(record, Some(canonical))).is_some()
    }
}

/// Takes back everything that would be done about a record.
pub(super) fn hold_back(resolution: &mut Resolution, sides: &mut [SidePlan], standing: Standing) {
    // A conflict that is not put on record waits for nobody's word yet, but for that.
    let unrecorded = resolution.conflicts.iter().any(|conflict| conflict.status.is_open());
    resolution.conflicts.clear();
    resolution.closed.clear();
    // Whoever hangs on a record that would go is not to go before it.
    if resolution.fate == Fate::Dead {
        resolution.fate = Fate::Left(LeftReason::Paused);
    }
    for side in sides {
        side.adopt = None;
        if side.action.take().is_some() || (unrecorded && side.standing == Standing::Held) {
            side.standing = standing;
        }
    }
}

/// What a plan is told from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// What nothing is written to.
    pub holds: Holds,
    /// The codes of refused plans that a person approved.
    pub approved: BTreeSet<String>,
}
