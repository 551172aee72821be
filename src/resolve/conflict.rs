//! Conflicts as they are kept in `sync_conflicts`: every side whole, under an id made from the content.

use crate::model::{
    ByName, ConflictId, FieldName, RecordId, StoreName, Timestamp, Value, Version, fingerprint,
};
use serde::{Deserialize, Serialize};

/// Why a conflict ended as it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictReason {
    /// One version was higher.
    HigherVersion,
    /// The versions were the same and one time later.
    LaterTimestamp,
    /// Neither: a person has to decide.
    ManualResolutionRequired,
    /// The record was deleted in one store and changed in another; the change wins.
    ChangeOverDelete,
    /// The record was deleted in one store, and a record refers to it whose reference restricts deletes.
    DeleteRestricted,
    /// The values met for the first time: the one with sync metadata, else the canonical one.
    FirstMeeting,
    /// A store went back to an older copy and was brought forward again.
    BroughtForward,
    /// The canonical store made something else of what it was given: a trigger, a column that holds less.
    AlteredByStore,
}

impl ConflictReason {
    /// The word that stands in `sync_conflicts`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HigherVersion => "higher_version",
            Self::LaterTimestamp => "later_timestamp",
            Self::ManualResolutionRequired => "manual_resolution_required",
            Self::ChangeOverDelete => "change_over_delete",
            Self::DeleteRestricted => "delete_restricted",
            Self::FirstMeeting => "first_meeting",
            Self::BroughtForward => "brought_forward",
            Self::AlteredByStore => "altered_by_store",
        }
    }
}

/// Where a conflict stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConflictStatus {
    /// A person has to decide; the fields are held.
    Open,
    /// A person has decided; the next pass does it.
    Decided,
    /// It is settled.
    Resolved,
    /// It is no longer one: a side went back, or another conflict took its place.
    Withdrawn,
}

impl ConflictStatus {
    /// The word that stands in `sync_conflicts`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Decided => "decided",
            Self::Resolved => "resolved",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// The status of a word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Open, Self::Decided, Self::Resolved, Self::Withdrawn]
            .into_iter()
            .find(|status| status.as_str() == word)
    }

    /// Whether the fields are still held.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Decided)
    }
}

/// What one side of a conflict had in its store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SideRecord {
    /// The whole record as it was there.
    Held(ByName<Value>),
    /// It was deleted there.
    Deleted,
}

/// What ended a conflict in whose place another one came, as it is on record.
pub(super) const SUPERSEDED: &str = "superseded";

/// One side of a conflict, pinned: while its store holds these values, this is their evidence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConflictSide {
    /// The store.
    pub store: StoreName,
    /// The competing values.
    pub values: ByName<Value>,
    /// The whole record there.
    pub record: SideRecord,
    /// The version that speaks for the values.
    pub version: Version,
    /// The time that speaks for them.
    pub time: Option<Timestamp>,
    /// Whether version and time come from metadata or a known history.
    pub carried: bool,
}

impl ConflictSide {
    /// Whether both hold the record and say the same where they compete: two stores with the value that won have lost nothing to each
    /// other.
    pub fn says_as(&self, other: &Self) -> bool {
        match (&self.record, &other.record) {
            (SideRecord::Held(ours), SideRecord::Held(theirs)) if self.values.is_empty() => {
                ours.iter().all(|(field, value)| theirs.get(field).is_none_or(|other| other == value))
            }
            (SideRecord::Held(_), SideRecord::Held(_)) => self.values == other.values,
            _ => false,
        }
    }
}

/// What a person decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decision {
    /// The values that are to stand.
    pub values: ByName<Value>,
    /// The store whose values they are, if they are a store's.
    pub store: Option<StoreName>,
    /// Who decided.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Two or more stores that changed the same field or group to different values, neither having seen the other's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Its id, made from record, fields and sides.
    pub id: ConflictId,
    /// The record.
    pub record: RecordId,
    /// The fields; empty where the whole record is meant.
    pub fields: Vec<FieldName>,
    /// The sides, the canonical store first if it is one.
    pub sides: Vec<ConflictSide>,
    /// The store whose value won.
    pub winner: Option<StoreName>,
    /// Why.
    pub reason: ConflictReason,
    /// Where it stands.
    pub status: ConflictStatus,
    /// When it was found.
    pub created_at: Timestamp,
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// Who or what ended it: `rule`, `withdrawn` or a person.
    pub resolved_by: Option<String>,
    /// What a person decided.
    pub decision: Option<Decision>,
}

impl Conflict {
    /// A new conflict: open when the reason is that a person must decide, else settled by the rule.
    pub(crate) fn new(
        record: RecordId,
        fields: Vec<FieldName>,
        sides: Vec<ConflictSide>,
        winner: Option<StoreName>,
        reason: ConflictReason,
        now: Timestamp,
    ) -> Self {
        let open = reason == ConflictReason::ManualResolutionRequired;
        Self {
            id: id_of(&record, &fields, &sides, open.then_some(now)),
            record,
            fields,
            sides,
            winner,
            reason,
            status: if open { ConflictStatus::Open } else { ConflictStatus::Resolved },
            created_at: now,
            resolved_at: (!open).then_some(now),
            resolved_by: (!open).then(|| "rule".to_owned()),
            decision: None,
        }
    }

    /// This conflict, ended.
    pub(crate) fn ended(
        &self,
        status: ConflictStatus,
        winner: Option<StoreName>,
        by: &str,
        now: Timestamp,
    ) -> Self {
        Self { status, winner, resolved_at: Some(now), resolved_by: Some(by.to_owned()), ..self.clone() }
    }

    /// Whether both are about the same fields and the same values of the same stores.
    pub fn same_matter(&self, other: &Self) -> bool {
        let pins = |conflict: &Self| -> Vec<(StoreName, ByName<Value>)> {
            conflict.sides.iter().map(|side| (side.store.clone(), side.values.clone())).collect()
        };
        self.record == other.record && self.fields == other.fields && pins(self) == pins(other)
    }

    /// The pinned side of a store.
    pub fn side(&self, store: &StoreName) -> Option<&ConflictSide> {
        self.sides.iter().find(|side| &side.store == store)
    }
}

/// Sixteen hexadecimal digits of a hash over what the conflict is about. A settled one found twice (because a pass died after
/// recording it) is one; an open one that was withdrawn and comes back is another.
fn id_of(
    record: &RecordId,
    fields: &[FieldName],
    sides: &[ConflictSide],
    opened: Option<Timestamp>,
) -> ConflictId {
    let pins: Vec<_> =
        sides.iter().map(|side| (&side.store, &side.values, side.version, side.time, &side.record)).collect();
    let text = serde_json::to_string(&(record, fields, pins, opened)).unwrap_or_default();
    ConflictId(fingerprint(&text))
}
