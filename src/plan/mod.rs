//! The plan: what will be written, why, on what conditions and in which order. It is data: it can be saved, shown, compared and
//! simulated, and what is shown is what runs.

mod apart;
mod build;
pub mod cost;
mod counts;
mod explain;
mod falls;
pub mod file;
mod firsts;
mod guards;
mod homes;
mod inputs;
pub mod json;
mod late;
mod notices;
mod observed;
mod orders;
mod orphans;
mod recipe;
mod records;
mod related;
mod render;
mod render_left;
mod render_report;
mod render_value;
mod render_words;
mod revived;
mod shelf;
mod unique;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::diff::{Action, ActionKind, Standing};
use crate::model::{
    ByStore, Certificate, EntityName, FieldName, Marks, Memory, RecordId, RecordKey, Shadow, StateId,
    StoreName, Timestamp, Version,
};
use crate::resolve::{Conflict, Rule};

pub use apart::{Considered, Thinker};
pub use build::Planner;
pub use cost::{Cost, Rates};
pub use explain::{Explanation, InField, InStore, explanation_json, explanation_page};
pub use guards::{GuardName, GuardTrip};
pub use homes::{Meeting, Waiting};
pub use inputs::PlanInputs;
pub(crate) use notices::{of_other_state, of_rebuilding, of_writing_beside};
pub use observed::Observed;
pub use orders::{Hold, Holds, Orders, Place, Target};
pub use orphans::is_orphan;
pub use records::{Records, Shape, Sums};
pub use render::{RenderOptions, UNSAVED_NOTE, address, meeting_lines, render, shown};
pub use render_report::{ReportOptions, STANDINGS, render_books, render_report, render_table, standing_word};
pub use render_value::{clean, clean_json};
pub use shelf::{Lost, MemoryShelf, Shelf};

/// Where every record stands, by entity and store.
pub type BooksTable = BTreeMap<EntityName, BTreeMap<StoreName, Books>>;

/// What a deleted record leaves behind in the canonical store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TombstoneDraft {
    /// The highest version the record had.
    pub version: Version,
    /// The stores it was deleted in.
    pub deleted_by: Vec<StoreName>,
    /// When that was found.
    pub deleted_at: Timestamp,
    /// The shadows of the stores that have not confirmed it yet.
    pub memory: Memory,
    /// Whether a store could not be reached and still has to confirm.
    pub pending: bool,
}

/// Everything that is to be done about one record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordPlan {
    /// The record.
    pub record: RecordId,
    /// Conflicts that must be acknowledged before anything else is written.
    pub conflicts: Vec<Conflict>,
    /// Open conflicts as they stand once everything else is done.
    pub closes: Vec<Conflict>,
    /// What a delete leaves behind; acknowledged before the row goes.
    pub tombstone: Option<TombstoneDraft>,
    /// The writes, the canonical store's first.
    pub actions: Vec<Action>,
    /// Shadows that are true once the canonical store has the result (at once where it needs no write).
    pub adopt: ByStore<Arc<Shadow>>,
    /// A fingerprint of everything that this was made from: what every store held and what was remembered. Empty where nobody asked
    /// for it.
    pub basis: String,
}

impl RecordPlan {
    /// Whether any store is written (the canonical store's own tables aside).
    pub fn writes(&self) -> bool {
        !self.actions.is_empty()
    }

    /// Whether a row goes somewhere.
    pub fn deletes(&self) -> bool {
        self.actions.iter().any(|action| action.kind == ActionKind::Delete)
    }

    /// Whether the record as a whole goes, or a row of it does and nothing else happens to it.
    pub fn goes(&self) -> bool {
        self.tombstone.is_some()
            || (self.deletes() && self.actions.iter().all(|action| action.kind == ActionKind::Delete))
    }
}

/// How bad a notice is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeKind {
    /// The canonical store was last written with another state than this one.
    OtherState,
    /// The state was lost, and what remembers everything anew has not come to its end.
    Rebuilding,
    /// Somebody else wrote while it was looked.
    Beside,
    /// A field or record waits for a person.
    Held,
    /// A record waits for another one that is not written now.
    Waiting,
    /// A change breaks a rule.
    Rejected,
    /// The record broke a rule before; nothing is blocked.
    AlreadyInvalid,
    /// The store has no way to hold the value.
    CannotHold,
    /// The record went back to an older version in this store.
    Regressed,
    /// The store could not be read.
    Unreachable,
    /// A row has no usable key, or another row's.
    BadKey,
    /// A mapped column is not there.
    MissingColumn,
}

impl NoticeKind {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherState => "other_state",
            Self::Rebuilding => "rebuilding",
            Self::Beside => "beside",
            Self::Held => "held",
            Self::Waiting => "waiting",
            Self::Rejected => "rejected",
            Self::AlreadyInvalid => "already_invalid",
            Self::CannotHold => "cannot_hold",
            Self::Regressed => "regressed",
            Self::Unreachable => "unreachable",
            Self::BadKey => "bad_key",
            Self::MissingColumn => "missing_column",
        }
    }
}

/// Something a person should know that is no action.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Notice {
    /// What kind.
    pub kind: NoticeKind,
    /// The record, if it is about one.
    pub record: Option<RecordId>,
    /// The entity, where it is about no single record.
    pub entity: Option<EntityName>,
    /// The store.
    pub store: Option<StoreName>,
    /// The field.
    pub field: Option<FieldName>,
    /// The rule that is broken, where one is.
    #[serde(default)]
    pub rule: Option<Rule>,
    /// Which of several such things in one place: a column, a key, a row's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What it is and what to do; no sensitive value.
    pub message: String,
}

/// How many records of an entity stand where, in one store. The terms add up to `seen`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Books {
    /// Records that are there, or should be.
    pub seen: u64,
    /// Each record once, by where it stands.
    pub standing: BTreeMap<Standing, u64>,
    /// Rows that the snapshot had.
    pub rows: u64,
    /// Records missing from the store.
    pub missing: u64,
    /// Records that should not be there.
    pub extra: u64,
    /// Records with fields that differ.
    pub changed: u64,
    /// Differing records, by field.
    pub fields: BTreeMap<FieldName, u64>,
}

impl Books {
    /// How many records stand there.
    pub fn count(&self, standing: Standing) -> u64 {
        self.standing.get(&standing).copied().unwrap_or(0)
    }

    /// Whether every record seen is accounted for.
    pub fn balance(&self) -> bool {
        self.seen == self.standing.values().sum::<u64>()
    }

    /// Records that differ in any way.
    pub fn drifting(&self) -> u64 {
        self.missing + self.extra + self.changed
    }

    /// Adds the counts of other books, rows aside.
    fn add(&mut self, other: &Self) {
        self.seen += other.seen;
        self.missing += other.missing;
        self.extra += other.extra;
        self.changed += other.changed;
        for (standing, count) in &other.standing {
            *self.standing.entry(*standing).or_default() += count;
        }
        for (field, count) in &other.fields {
            *self.fields.entry(field.clone()).or_default() += count;
        }
    }

    /// Moves a record from one standing to another, as its write turns out otherwise than planned.
    pub fn shift(&mut self, from: Standing, to: Standing) {
        self.shift_many(from, to, 1);
    }

    /// Moves several records from one standing to another.
    pub fn shift_many(&mut self, from: Standing, to: Standing, records: u64) {
        if let Some(count) = self.standing.get_mut(&from) {
            let moved = records.min(*count);
            *count -= moved;
            *self.standing.entry(to).or_default() += moved;
        }
        self.standing.retain(|_, count| *count > 0);
    }
}

/// What a pass learnt of a store's entity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotReport {
    /// What the snapshot vouches for; none: the store could not be read.
    pub certificate: Option<Certificate>,
    /// Why it could not be read.
    pub error: Option<String>,
    /// Whether the store is paused.
    #[serde(default)]
    pub paused: bool,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// When it was made; the time that its rules took as the present.
    pub made_at: Timestamp,
    /// The hash of the manifests that it was made under.
    pub spec_sha: String,
    /// The state that it was made with.
    pub state: StateId,
    /// The last pass that this state knew of.
    pub state_pass: i64,
    /// The canonical store.
    pub canonical: StoreName,
    /// The entities, those referred to first; writes go in this order, deletes in the opposite one.
    pub entities: Vec<EntityName>,
    /// Whether the state was lost or stale and everything met for the first time.
    pub rebuild: bool,
    /// What is to be done, record by record, in the order of entities and keys.
    pub records: Records,
    /// Guards that refuse an entity.
    pub guards: Vec<GuardTrip>,
    /// What a person names to approve what guards refuse of an entity in this very plan (`trueup approve`); only of guards that can be
    /// approved.
    #[serde(default)]
    pub approvals: BTreeMap<EntityName, String>,
    /// Guards that were allowed by name.
    pub allowed: BTreeSet<GuardName>,
    /// Where every record stands, by entity and store.
    pub books: BTreeMap<EntityName, BTreeMap<StoreName, Books>>,
    /// What the snapshots were worth.
    pub snapshots: BTreeMap<EntityName, BTreeMap<StoreName, SnapshotReport>>,
    /// What a person should know.
    pub notices: Vec<Notice>,
    /// Conflicts that wait for a person, those of this plan included.
    pub open_conflicts: BTreeMap<EntityName, u64>,
    /// Open conflicts about fields or entities that no manifest names any more, as they stand afterwards.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub withdrawn: Vec<Conflict>,
    /// The records that it is about; none: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<Target>,
    /// Those of them that no record fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unmet: Vec<Target>,
    /// How rows that carried no key came to their records, by entity and store.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub meetings: BTreeMap<EntityName, BTreeMap<StoreName, Meeting>>,
    /// What a batch of writes is billed for, in bytes, by entity and store, where stores bill by bytes and say so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub bills: BTreeMap<EntityName, BTreeMap<StoreName, u64>>,
    /// Records that are to be looked at again in any case, by entity. Not saved with the plan.
    #[serde(skip)]
    pub unsettled: BTreeMap<EntityName, BTreeSet<RecordKey>>,
    /// Where the stores stood when they were looked at, for entities of which everything is known. Not saved with the plan.
    #[serde(skip)]
    pub marks: BTreeMap<EntityName, Marks>,
}

/// How many actions of each kind a plan has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Rows made.
    pub create: u64,
    /// Rows changed.
    pub update: u64,
    /// Rows removed.
    pub delete: u64,
    /// Rows whose content is right and whose metadata is brought up, the canonical bookkeeping included.
    pub metadata: u64,
}

impl Totals {
    /// Counts an action.
    pub fn count(&mut self, kind: ActionKind) {
        self.add(kind, 1);
    }

    /// Counts several actions.
    pub fn add(&mut self, kind: ActionKind, count: u64) {
        match kind {
            ActionKind::Create => self.create += count,
            ActionKind::Update => self.update += count,
            ActionKind::Delete => self.delete += count,
            ActionKind::Metadata | ActionKind::Bookkeeping => self.metadata += count,
        }
    }

    /// All actions.
    pub fn sum(self) -> u64 {
        self.create + self.update + self.delete + self.metadata
    }
}

impl Plan {
    /// How many actions of each kind.
    pub fn totals(&self) -> Totals {
        self.records.totals()
    }

    /// All actions, in the order of records.
    pub fn actions(&self) -> impl Iterator<Item = Action> + '_ {
        self.records.iter().flat_map(|record| record.actions.clone())
    }

    /// Whether any store has to be written.
    pub fn has_actions(&self) -> bool {
        self.totals().sum() > 0
    }

    /// Whether anything at all has to be written or remembered.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.records.noted() == 0 && self.withdrawn.is_empty()
    }

    /// The stores that could not be read, each with why.
    pub fn unreadable(&self) -> BTreeMap<StoreName, String> {
        let reports = self.snapshots.values().flatten();
        reports.filter_map(|(store, report)| Some((store.clone(), report.error.clone()?))).collect()
    }

    /// The books of an entity in a store.
    pub fn books_of(&self, entity: &EntityName, store: &StoreName) -> Option<&Books> {
        self.books.get(entity)?.get(store)
    }
}
