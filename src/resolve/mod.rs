//! What a record should be: shadows and what each store holds in, the merged record or a conflict out.
//!
//! Everything here looks at one record at a time and is pure. It knows stores only as sides with a name, a mapping, a shadow and
//! an observation. The rules are those of the README's section "What happens to a record".

mod claims;
mod conflict;
mod derived;
mod evidence;
mod fate;
mod merge;
mod settle;
mod validate;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Cell, Entity, FieldId, FieldMapping, FieldRef, Fields, FormError, Mapping, Memory, Presence, RecordId,
    RecordKey, Row, Shadow, StoreName, SyncMeta, Timestamp, Value, Version, representable,
};

pub use conflict::{Conflict, ConflictReason, ConflictSide, ConflictStatus, Decision, SideRecord};
pub use evidence::Evidence;
pub(crate) use fate::canonical_moved_since;
pub use merge::resolve;
pub(crate) use validate::named_in_pattern;
pub use validate::{Rule, violations};

/// A record as one store has it.
#[derive(Debug, Clone)]
pub struct Side<'a> {
    /// The store.
    pub store: &'a StoreName,
    /// Where the entity lives there.
    pub mapping: &'a Mapping,
    /// Whether it is the canonical store.
    pub canonical: bool,
    /// Whether it may be written.
    pub writable: bool,
    /// The finest step of its times, in microseconds.
    pub precision_micros: i64,
    /// What it was last verified to hold.
    pub shadow: Option<&'a Shadow>,
    /// What was seen now.
    pub presence: &'a Presence,
}

impl Side<'_> {
    /// The row, where there is one.
    pub fn row(&self) -> Option<&Row> {
        self.presence.row()
    }

    /// The version that the row stands at. A store without a place for metadata stands where its shadow does.
    pub fn version(&self) -> Version {
        match self.meta() {
            Some(meta) if self.mapping.has_sync() => meta.version_or_none(),
            _ => self.shadow.map(|shadow| shadow.meta.version_or_none()).unwrap_or_default(),
        }
    }

    /// What the row says of itself. Where its metadata was given another place, what it last said in the old one, unless the new one says
    /// more: nothing was written there yet.
    pub fn meta(&self) -> Option<&SyncMeta> {
        let own = &self.row()?.meta;
        let last = self.shadow.filter(|shadow| self.has_moved_versions(shadow)).map(|shadow| &shadow.meta);
        Some(last.filter(|last| last.version_or_none() > own.version_or_none()).unwrap_or(own))
    }

    /// Whether a row's version now stands elsewhere than when it was last verified.
    fn has_moved_versions(&self, shadow: &Shadow) -> bool {
        shadow.present && shadow.home.is_some_and(|home| home.version != self.mapping.home.version)
    }

    /// Whether the row's version is below the one that it was last verified to have, or gone: an older copy was put
    /// back, which is no edit.
    pub fn regressed(&self) -> bool {
        let Some(shadow) = self.shadow.filter(|shadow| shadow.present && self.mapping.has_sync()) else {
            return false;
        };
        self.meta().is_some_and(|meta| meta.version_or_none() < shadow.meta.version_or_none())
    }
}

/// A record that was deleted, as the canonical store remembers it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tombstone {
    /// The highest version the record had.
    pub version: Version,
    /// The shadows of the stores that had not confirmed the delete; they count where the state has none.
    pub memory: Memory,
}

impl Tombstone {
    /// Whether it waits for a store to confirm the delete.
    pub fn is_pending(&self) -> bool {
        !self.memory.stores.is_empty()
    }
}

/// What the look at other records of the plan adds to the rules of this one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// The record may not be deleted, for this reason.
    pub keep: Option<KeepReason>,
    /// The record goes because the record it refers to goes.
    pub cascade: bool,
    /// The record would go, but one that goes with it cannot: it waits for that.
    pub wait: bool,
    /// Stores that will not have a record that this one is to refer to there, with that record: it waits for it.
    pub awaits: BTreeMap<StoreName, RecordId>,
    /// Stores in which a record that goes with this one stays for now, with that record: this one waits for it there.
    pub stays: BTreeMap<StoreName, RecordId>,
    /// Changes of these fields break a rule that spans records.
    pub reject: Fields<Rule>,
    /// The whole record, being new, breaks a rule that spans records.
    pub reject_record: Option<Rule>,
    /// By what the record breaks a rule that spans records: a field or part of the key, and the record that it takes a value from or
    /// that is not there.
    pub about: Option<(FieldRef, RecordId)>,
    /// Stores with record ids of their own in which a record that this one is related to, or stands in, is not.
    pub away: BTreeSet<StoreName>,
    /// Stores in which what this one stands in, or is joined to, has another row than before: that this one is not there says nothing.
    pub anew: BTreeSet<StoreName>,
    /// Those of the stores that it is away from which have lost the field that it would stand in: nothing is known of it there.
    pub blind: BTreeSet<StoreName>,
    /// Stores in which another element of the same parent has its value.
    pub collapsed: BTreeSet<StoreName>,
    /// Where the element stands first of its kind, or not, in a store whose order cannot say what the record does.
    pub first: BTreeMap<StoreName, bool>,
    /// Stores that went back are brought forward again instead of being held.
    pub bring_forward: bool,
}

/// Why a record that was deleted somewhere stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepReason {
    /// A record that refers to it was changed.
    ChildChanged,
    /// A record refers to it, and its reference restricts deletes.
    Restricted,
    /// The record that it went with stays.
    ParentStays,
}

/// A record as every store of its entity has it.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The entity.
    pub entity: &'a Entity,
    /// The key.
    pub key: &'a RecordKey,
    /// The stores that map the entity, the canonical one first.
    pub sides: Vec<Side<'a>>,
    /// The record's tombstone, if it has one.
    pub tombstone: Option<&'a Tombstone>,
    /// The record's open conflicts.
    pub conflicts: &'a [Conflict],
    /// The time of the pass.
    pub now: Timestamp,
    /// Whether the state was lost or stale, so that everything meets for the first time, and this record did not in every store yet.
    pub rebuild: bool,
    /// Whether nothing of the entity is remembered yet: what the canonical store has was there before.
    pub first_load: bool,
    /// What other records of the plan add.
    pub overrides: Overrides,
}

impl<'a> View<'a> {
    /// The canonical store's side.
    ///
    /// # Panics
    /// When there is none; every entity is mapped in the canonical store.
    pub fn canonical(&self) -> &Side<'a> {
        &self.sides[0]
    }

    /// Whether the record was just made: no store was ever verified to have it. What the canonical store has when everything meets for the
    /// first time is not new.
    pub fn is_new(&self) -> bool {
        let known = |side: &Side<'_>| side.shadow.is_some_and(|shadow| shadow.present);
        let was_there = (self.rebuild || self.first_load) && self.canonical().row().is_some();
        !was_there && !self.sides.iter().any(known)
    }

    /// The highest version that anything says of the record.
    pub fn highest_version(&self) -> Version {
        let tombstone =
            self.tombstone.map(|tombstone| tombstone.version.max(tombstone.memory.highest_version()));
        let conflicts = self.conflicts.iter().flat_map(|conflict| &conflict.sides).map(|side| side.version);
        self.sides
            .iter()
            .flat_map(|side| [side.version(), side.shadow.map(Shadow::highest_version).unwrap_or_default()])
            .chain(tombstone)
            .chain(conflicts)
            .max()
            .unwrap_or_default()
    }

    /// A part of the key as a value.
    pub fn key_value(&self, part: usize) -> Value {
        self.key.parts().get(part).map_or(Value::Null, |text| Value::text(text.as_str()))
    }

    /// What a store would be read back as holding for a value.
    ///
    /// # Errors
    /// When it cannot hold it.
    pub fn held_as(&self, side: &Side<'_>, mapped: &FieldMapping, value: &Value) -> Result<Value, FormError> {
        match self.overrides.first.get(side.store) {
            Some(first) if side.mapping.tells_first(mapped.field) => Ok(Value::Bool(*first)),
            _ => {
                let ty = self.entity.field(mapped.field).ty;
                representable(value, ty, mapped.form, &side.mapping.timezone)
            }
        }
    }

    /// Whether a value can stand in the canonical store, if the field does. What stands there can.
    fn can_stand(&self, field: FieldId, value: &Value) -> bool {
        let canonical = self.canonical();
        let Some(mapped) = canonical.mapping.fields.get(&field) else { return true };
        let stands = canonical.row().and_then(|row| row.fields.get(&field)).and_then(Cell::value);
        let stands = stands.map_or(value.is_null(), |stands| stands == value);
        stands || (mapped.direction.writes() && self.held_as(canonical, mapped, value).is_ok())
    }

    /// Looks fields up in `fields`, and parts of the key in the key. What is not in `fields` (a store has no place for it, or its column
    /// is gone) is what the canonical store has, or was last known to have.
    pub fn lookup<'b>(&'b self, fields: &'b Fields<Value>) -> impl Fn(FieldRef) -> Value + 'b {
        move |field| match field {
            FieldRef::Key(part) => self.key_value(part),
            FieldRef::Field(id) => {
                fields.get(&id).or_else(|| self.last_known(id)).cloned().unwrap_or_default()
            }
        }
    }

    fn last_known(&self, field: FieldId) -> Option<&Value> {
        let canonical = self.canonical();
        let seen = canonical.row().and_then(|row| row.fields.get(&field)).and_then(Cell::value);
        let known = || claims::field_shadow(self.entity, canonical, field)?.canonical();
        seen.or_else(known).or_else(|| claims::elsewhere(self, field))
    }

    /// Whether a record with these values belongs to a store that holds only some. Where a field that this hangs on cannot be told now, the
    /// record is where it was.
    pub fn in_scope(&self, fields: &Fields<Value>, side: &Side<'_>) -> bool {
        let Some(scope) = &side.mapping.scope else { return true };
        let canonical = self.canonical();
        let gone = |field| match field {
            FieldRef::Key(_) => false,
            FieldRef::Field(id) => canonical.row().is_some_and(|row| !row.fields.contains_key(&id)),
        };
        if scope.conditions.iter().any(|condition| gone(condition.field)) {
            return side.row().is_some() || side.shadow.is_some_and(|shadow| shadow.present);
        }
        scope.admits(self.lookup(fields))
    }
}

/// Where a value came from and by which rule it stands.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Origin {
    /// The store whose value it is; none: a person's or a derivation's.
    pub store: Option<StoreName>,
    /// The rule.
    pub rule: OriginRule,
}

/// The rules by which a value can stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OriginRule {
    /// It is the canonical value, and nobody changed it.
    Canonical,
    /// Only this store changed it (or several did alike).
    OnlyChange,
    /// It won by version.
    HigherVersion,
    /// It won by time.
    LaterTimestamp,
    /// It was taken over at a first meeting.
    FirstMeeting,
    /// Changes to different parts of a JSON value were put together.
    MergedJson,
    /// It is computed from other fields.
    Derived,
    /// A person decided.
    Person,
}

/// What became of a side's change of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimEnd {
    /// It is in the result.
    Won,
    /// Another value is; this one is in the conflict's record.
    Lost,
    /// Nothing is written to the field anywhere until a person decides.
    Held,
    /// It breaks a rule: it stays there as it is, and goes nowhere.
    Rejected,
}

/// A change that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The store whose change it is.
    pub store: StoreName,
    /// The field; none: the whole record.
    pub field: Option<FieldId>,
    /// The rule.
    pub rule: Rule,
    /// The value, for showing (never where the field is sensitive).
    pub value: Option<Cell>,
}

/// What becomes of a record as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is there, or has to be.
    Alive,
    /// It has to go wherever it still is.
    Dead,
    /// It is nowhere, and nothing has to be done.
    Gone,
    /// Nothing is known or decided: it is left alone.
    Left(LeftReason),
}

/// Why a record is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftReason {
    /// What the canonical store holds is not known.
    CanonicalUnknown,
    /// The canonical store's row went back to an older version.
    CanonicalRegressed,
    /// A new record breaks a rule.
    Rejected,
    /// It was deleted in the canonical store, and deletes are ignored.
    DeleteIgnored,
    /// It would go, but nothing is written to it for now.
    Paused,
}

/// What a record should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// Whether it should be.
    pub fate: Fate,
    /// The values it should have (all fields of the entity; null where nothing is known).
    pub fields: Fields<Value>,
    /// Where the values that differ from the canonical store's come from, and those that someone changed.
    pub origins: Fields<Origin>,
    /// The version it should have.
    pub version: Version,
    /// When the latest edit that made it was made; none: nobody knows.
    pub last_updated: Option<Timestamp>,
    /// The store that edit was made in.
    pub last_updated_by: Option<std::sync::Arc<str>>,
    /// The creation time, fixed at first meeting.
    pub created: Option<Timestamp>,
    /// Fields that nothing is written to anywhere.
    pub held: BTreeSet<FieldId>,
    /// What became of each side's changes.
    pub ends: BTreeMap<StoreName, Fields<ClaimEnd>>,
    /// Changes that broke a rule.
    pub rejections: Vec<Rejection>,
    /// Rules that the record already broke: reported, blocking nothing.
    pub already_invalid: Vec<(FieldId, Rule)>,
    /// Conflicts that must be in `sync_conflicts` before anything is written.
    pub conflicts: Vec<Conflict>,
    /// Open conflicts that ended, as they should stand afterwards.
    pub closed: Vec<Conflict>,
    /// Stores in which the record went back to an older version.
    pub went_back: BTreeSet<StoreName>,
    /// Those of them in which it is held; the others are brought forward again.
    pub regressed: BTreeSet<StoreName>,
    /// The stores that a delete came from.
    pub deleted_by: BTreeSet<StoreName>,
    /// Whether someone changed the record since it was last agreed (its parents' deletes yield to that).
    pub touched: bool,
}

impl Resolution {
    /// A record left alone.
    fn left(reason: LeftReason) -> Self {
        Self { fate: Fate::Left(reason), ..Self::empty() }
    }

    pub(crate) fn empty() -> Self {
        Self {
            fate: Fate::Gone,
            fields: Fields::new(),
            origins: Fields::new(),
            version: Version::NONE,
            last_updated: None,
            last_updated_by: None,
            created: None,
            held: BTreeSet::new(),
            ends: BTreeMap::new(),
            rejections: Vec::new(),
            already_invalid: Vec::new(),
            conflicts: Vec::new(),
            closed: Vec::new(),
            went_back: BTreeSet::new(),
            regressed: BTreeSet::new(),
            deleted_by: BTreeSet::new(),
            touched: false,
        }
    }

    /// What became of a side's change of a field, if it made one.
    pub fn end(&self, store: &StoreName, field: FieldId) -> Option<ClaimEnd> {
        self.ends.get(store)?.get(&field).copied()
    }
}
