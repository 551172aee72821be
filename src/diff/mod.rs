//! Desired against observed, store by store: the least that puts a record right, and what may be remembered afterwards.
//!
//! This is the only place that compares. Stores only translate what comes out of it.

mod absent;
mod bookkeeping;
mod express;
mod outline;
mod shadows;

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{
    ByName, Cell, DeletePolicy, ElementId, FieldId, FieldMapping, FieldName, Fields, Presence, Row,
    ScopeExit, Shadow, StoreName, StoreRecordId, SyncMeta, Timestamp, Unknown, Value,
};
use crate::resolve::{ClaimEnd, Fate, LeftReason, Origin, OriginRule, Resolution, Side, View};

/// What an action does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// The row is made.
    Create,
    /// Fields of the row change.
    Update,
    /// The row goes.
    Delete,
    /// The content is right already; only version, time and origin change.
    Metadata,
    /// Only the canonical record's status and errors change.
    Bookkeeping,
}

impl ActionKind {
    /// Where a plan has the record of such an action in its books; none of what does not count there.
    pub fn standing(self) -> Option<Standing> {
        match self {
            Self::Create | Self::Update | Self::Delete => Some(Standing::Written),
            Self::Metadata => Some(Standing::MetadataOnly),
            Self::Bookkeeping => None,
        }
    }

    /// The word used in JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Metadata => "metadata",
            Self::Bookkeeping => "bookkeeping",
        }
    }
}

/// Why an action is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The record is not there.
    Missing,
    /// The record was deleted there and is put back.
    Restored,
    /// Fields differ.
    Differs,
    /// The record was deleted elsewhere.
    DeletedElsewhere,
    /// The record it refers to goes.
    Cascade,
    /// The record no longer belongs in this store.
    OutOfScope,
    /// The row's version is behind.
    BehindInVersion,
    /// Trouble began or ended.
    Trouble,
    /// The row carries no key, and was found to be the record's.
    Linked,
}

/// One field's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The field.
    pub field: FieldName,
    /// What stands there.
    pub before: Cell,
    /// What will stand there, in canonical form.
    pub after: Value,
    /// Where the value comes from.
    pub origin: Origin,
    /// Whether neither may be shown.
    pub sensitive: bool,
}

/// One write to one record of one store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The store.
    pub store: StoreName,
    /// What it does.
    pub kind: ActionKind,
    /// Why.
    pub reason: Reason,
    /// The store's own id of the row.
    pub store_id: Option<StoreRecordId>,
    /// Whether the row carries no key, and was found to be the record's: it is given the key, unless it goes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub link: bool,
    /// The fields that change; of a delete, what goes.
    pub changes: Vec<Change>,
    /// What must still be there for it to happen, besides the metadata.
    pub guard: ByName<Cell>,
    /// The metadata that must still be there.
    pub meta_before: SyncMeta,
    /// The metadata afterwards; none: left as it is.
    pub meta_after: Option<SyncMeta>,
    /// The creation time to set.
    pub created: Option<Timestamp>,
    /// The store's own clock, where a mapping has a place for it.
    pub updated: Option<Timestamp>,
    /// What the store is known to hold once this has happened.
    pub advance: Arc<Shadow>,
}

/// How a record differs in a store from what should be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Drift {
    /// It is not there and should be.
    Missing,
    /// It is there and should not be.
    Extra,
    /// These fields differ.
    Changed(BTreeSet<FieldName>),
}

/// Where a record stands in a store; every record counts in exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// As it should be.
    InSync,
    /// Written, or to be written.
    Written,
    /// Right in content; its metadata is, or was, brought up.
    MetadataOnly,
    /// Waiting for a person.
    Held,
    /// It has a change that breaks a rule.
    Rejected,
    /// The store could not be written yet.
    Pending,
    /// Somebody else changed it in between: left for the next pass.
    Skipped,
    /// The write failed.
    Failed,
    /// The store or record is paused.
    Paused,
    /// It is not known what the store holds.
    Unknown,
}

/// What one store needs for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidePlan {
    /// The store.
    pub store: StoreName,
    /// Where the record stands there.
    pub standing: Standing,
    /// How it differs.
    pub drift: Option<Drift>,
    /// The write, if one is needed.
    pub action: Option<Action>,
    /// What is known of the store once the canonical store is right, whether or not the store's own write follows.
    pub adopt: Option<Arc<Shadow>>,
    /// Fields whose value the store cannot hold, and why. They are no drift.
    pub cannot_hold: Vec<(FieldName, String)>,
}

impl SidePlan {
    fn idle(store: &StoreName, standing: Standing) -> Self {
        Self {
            store: store.clone(),
            standing,
            drift: None,
            action: None,
            adopt: None,
            cannot_hold: Vec::new(),
        }
    }
}

#[cfg(debug_assertions)]
pub(crate) use express::same;
pub(crate) use express::{Plains, express, is_in_order, telling_fields};
pub use outline::{Act, Outline};

use absent::absent;

/// What every store needs for a record, the canonical one first. Stores that have nothing to do with it are left out.
pub fn diff(view: &View<'_>, resolution: &Resolution) -> Vec<SidePlan> {
    let mut plans: Vec<SidePlan> =
        view.sides.iter().filter_map(|side| of_side(view, resolution, side)).collect();
    bookkeeping::add(view, resolution, &mut plans);
    plans
}

fn of_side(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> Option<SidePlan> {
    let was_there = side.shadow.is_some_and(|shadow| shadow.present);
    let concerned = was_there || side.row().is_some();
    match resolution.fate {
        Fate::Gone => None,
        Fate::Left(reason) => concerned.then(|| left(side, resolution, reason)),
        Fate::Dead => dead(view, resolution, side),
        Fate::Alive => match side.presence {
            Presence::Unknown(why) => concerned_unknown(view, resolution, side, *why),
            _ if resolution.regressed.contains(side.store) => {
                Some(SidePlan::idle(side.store, Standing::Held))
            }
            Presence::Absent => absent(view, resolution, side),
            Presence::Present(row) => Some(present(view, resolution, side, row)),
        },
    }
}

fn left(side: &Side<'_>, resolution: &Resolution, reason: LeftReason) -> SidePlan {
    let standing = match reason {
        LeftReason::CanonicalUnknown => Standing::Unknown,
        LeftReason::CanonicalRegressed => Standing::Held,
        LeftReason::DeleteIgnored => Standing::InSync,
        LeftReason::Paused => Standing::Paused,
        LeftReason::Rejected if side.row().is_some() => Standing::Rejected,
        LeftReason::Rejected => Standing::Pending,
    };
    let mut plan = SidePlan::idle(side.store, standing);
    let gone = *side.presence == Presence::Absent && side.shadow.is_some_and(|shadow| shadow.present);
    if reason == LeftReason::DeleteIgnored && gone {
        plan.adopt = Some(shadows::absent(side, resolution));
    }
    plan
}

fn concerned_unknown(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    why: Unknown,
) -> Option<SidePlan> {
    let Some(shadow) = side.shadow else {
        // Nobody ever knew the store to have it. Where it belongs, that is not known either.
        let standing = match why {
            Unknown::Paused => Standing::Paused,
            Unknown::Unidentified => Standing::Held,
            _ => Standing::Unknown,
        };
        return belongs(view, resolution, side).then(|| SidePlan::idle(side.store, standing));
    };
    let standing = match why {
        Unknown::Paused => Standing::Paused,
        Unknown::Regressed | Unknown::Unidentified => Standing::Held,
        _ if shadows::lags(view, resolution, side, shadow) => Standing::Pending,
        _ => Standing::Unknown,
    };
    Some(SidePlan::idle(side.store, standing))
}

fn dead(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> Option<SidePlan> {
    let was_there = side.shadow.is_some_and(|shadow| shadow.present);
    match side.presence {
        Presence::Absent if was_there || view.overrides.anew.contains(side.store) => Some(SidePlan {
            adopt: Some(shadows::absent(side, resolution)),
            ..SidePlan::idle(side.store, Standing::InSync)
        }),
        Presence::Absent => None,
        Presence::Unknown(_) => was_there.then(|| SidePlan::idle(side.store, Standing::Pending)),
        Presence::Present(row) if side.writable && !resolution.regressed.contains(side.store) => {
            let reason = if view.overrides.cascade { Reason::Cascade } else { Reason::DeletedElsewhere };
            Some(deletion(view, resolution, side, row, reason))
        }
        Presence::Present(_) if !side.writable => {
            let drift = Some(Drift::Extra);
            Some(SidePlan { drift, ..SidePlan::idle(side.store, Standing::Skipped) })
        }
        Presence::Present(_) => Some(SidePlan::idle(side.store, Standing::Held)),
    }
}

fn deletion(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    row: &Row,
    reason: Reason,
) -> SidePlan {
    let rule = OriginRule::OnlyChange;
    let origin = Origin { store: resolution.deleted_by.first().cloned(), rule };
    let changes = row
        .fields
        .iter()
        .filter(|(_, cell)| cell.value().is_none_or(|value| !value.is_null()))
        .map(|(field, cell)| Change {
            field: view.entity.field(*field).name.clone(),
            before: cell.clone(),
            after: Value::Null,
            origin: origin.clone(),
            sensitive: view.entity.field(*field).sensitive,
        })
        .collect();
    let action = Action {
        store: side.store.clone(),
        kind: ActionKind::Delete,
        reason,
        store_id: row.store_id.clone(),
        link: row.unlinked && side.mapping.embedded().is_none(),
        changes,
        guard: by_name(view, row.fields.iter().filter(|(field, _)| !side.mapping.tells_first(**field))),
        meta_before: row.meta.clone(),
        meta_after: None,
        created: None,
        updated: None,
        advance: shadows::absent(side, resolution),
    };
    SidePlan {
        drift: Some(Drift::Extra),
        action: Some(action),
        ..SidePlan::idle(side.store, Standing::Written)
    }
}

fn by_name<'c>(view: &View<'_>, cells: impl Iterator<Item = (&'c FieldId, &'c Cell)>) -> ByName<Cell> {
    cells.map(|(field, cell)| (view.entity.field(*field).name.clone(), cell.clone())).collect()
}

fn belongs(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> bool {
    belongs_with(view, &resolution.fields, side)
}

/// Whether a record with these values has a place in a store.
fn belongs_with(view: &View<'_>, fields: &Fields<Value>, side: &Side<'_>) -> bool {
    !view.overrides.away.contains(side.store)
        && view.in_scope(fields, side)
        && no_place(view, fields, side).is_none()
}

/// Why an element cannot stand in its parent's row, if it cannot.
fn no_place(view: &View<'_>, fields: &Fields<Value>, side: &Side<'_>) -> Option<String> {
    let embedded = side.mapping.embedded()?;
    if view.overrides.collapsed.contains(side.store) {
        let why = "another record of the same parent has this value, and the store holds it once";
        return Some(why.to_owned());
    }
    let text = |field| fields.get(&field).and_then(Value::as_text).unwrap_or_default();
    let (kind, value) = (text(embedded.kind), text(embedded.value));
    // What the store holds it can hold.
    let stands = side.row().and_then(|row| ElementId::parse(row.store_id.as_ref()?));
    let same = |stands: ElementId| stands.kind == kind && Some(stands.normal) == embedded.normal(kind, value);
    if stands.is_some_and(same) {
        return None;
    }
    embedded.written(kind, value).err()
}

/// Whether a row is removed because the record no longer belongs in the store.
fn leaves(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> bool {
    let removes = side.mapping.scope.as_ref().is_some_and(|scope| scope.exit == ScopeExit::Remove);
    let removes = removes || view.overrides.away.contains(side.store);
    removes && side.writable && !belongs(view, resolution, side)
}

fn change(view: &View<'_>, resolution: &Resolution, field: FieldId, before: &Cell, after: &Value) -> Change {
    let declared = view.entity.field(field);
    let canonical = || Origin { store: Some(view.canonical().store.clone()), rule: OriginRule::Canonical };
    Change {
        field: declared.name.clone(),
        before: before.clone(),
        after: after.clone(),
        origin: resolution.origins.get(&field).cloned().unwrap_or_else(canonical),
        sensitive: declared.sensitive,
    }
}

/// What a store would be read back as holding for a value.
fn held_as(view: &View<'_>, side: &Side<'_>, mapped: &FieldMapping, value: &Value) -> Result<Value, String> {
    view.held_as(side, mapped, value).map_err(|error| error.to_string())
}

/// The metadata that goes with a write; none where the store has no place for it or the record was never versioned.
fn meta_after(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> Option<SyncMeta> {
    (side.mapping.has_sync() && resolution.version.0 > 0).then(|| SyncMeta {
        version: Some(resolution.version),
        last_updated: resolution.last_updated,
        last_updated_by: resolution.last_updated_by.clone(),
        source_systems: holders(view, resolution).into(),
        sync_status: Some(crate::model::SyncStatus::Synced),
        sync_errors: Vec::new(),
    })
}

/// The stores that hold the record, or will.
fn holders(view: &View<'_>, resolution: &Resolution) -> Vec<String> {
    view.sides
        .iter()
        .filter(|side| match side.presence {
            Presence::Present(_) => side.canonical || !leaves(view, resolution, side),
            Presence::Unknown(_) => side.shadow.is_some_and(|shadow| shadow.present),
            Presence::Absent => {
                let ignored = view.entity.deletes == DeletePolicy::Ignore && side.shadow.is_some();
                (side.writable && !ignored || side.canonical) && belongs(view, resolution, side)
            }
        })
        .map(|side| side.store.to_string())
        .collect()
}

fn present(view: &View<'_>, resolution: &Resolution, side: &Side<'_>, row: &Row) -> SidePlan {
    if !belongs(view, resolution, side) && !side.canonical {
        if leaves(view, resolution, side) {
            return deletion(view, resolution, side, row, Reason::OutOfScope);
        }
        return SidePlan {
            adopt: shadows::adopted(view, resolution, side, row),
            ..SidePlan::idle(side.store, Standing::InSync)
        };
    }
    let mut cannot_hold = Vec::new();
    let mut changes = Vec::new();
    for (field, mapped) in &side.mapping.fields {
        match needed(view, resolution, side, row, mapped) {
            Needed::Nothing => {}
            Needed::CannotHold(why) => cannot_hold.push((view.entity.field(*field).name.clone(), why)),
            Needed::Write => {
                let (Some(before), Some(after)) = (row.fields.get(field), resolution.fields.get(field))
                else {
                    continue;
                };
                changes.push(change(view, resolution, *field, before, after));
            }
        }
    }
    let drift = (!changes.is_empty())
        .then(|| Drift::Changed(changes.iter().map(|change| change.field.clone()).collect()));
    let action = side.writable.then(|| update(view, resolution, side, row, changes)).flatten();
    let kind = action.as_ref().map(|action| action.kind);
    let standing = match kind {
        Some(ActionKind::Update) => Standing::Written,
        _ if drift.is_some() => Standing::Skipped,
        _ if is_held(resolution, side) => Standing::Held,
        _ if has_rejection(resolution, side) => Standing::Rejected,
        Some(_) => Standing::MetadataOnly,
        None => Standing::InSync,
    };
    // The canonical store's shadow moves with its own write, where there is one.
    let adopt =
        if side.canonical && action.is_some() { None } else { shadows::adopted(view, resolution, side, row) };
    SidePlan { store: side.store.clone(), standing, drift, action, adopt, cannot_hold }
}

fn is_held(resolution: &Resolution, side: &Side<'_>) -> bool {
    resolution.held.iter().any(|field| side.mapping.fields.contains_key(field))
}

fn has_rejection(resolution: &Resolution, side: &Side<'_>) -> bool {
    resolution.rejections.iter().any(|rejection| rejection.store == *side.store)
}

enum Needed {
    Nothing,
    Write,
    CannotHold(String),
}

/// What a field of a row needs.
fn needed(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    row: &Row,
    mapped: &FieldMapping,
) -> Needed {
    let field = mapped.field;
    let (Some(cell), Some(desired)) = (row.fields.get(&field), resolution.fields.get(&field)) else {
        return Needed::Nothing;
    };
    let frozen =
        resolution.held.contains(&field) || resolution.end(side.store, field) == Some(ClaimEnd::Rejected);
    // Which element is the first hangs on the others: what stood for it may do so no more.
    let hangs = view.overrides.first.contains_key(side.store) && side.mapping.tells_first(field);
    let stands = || !hangs && shadows::stands_for(view, side, mapped, cell, desired);
    if frozen || !mapped.direction.writes() || stands() {
        return Needed::Nothing;
    }
    if hangs && *desired == Value::Bool(true) && view.overrides.first.get(side.store) == Some(&false) {
        let why = "another one is the first there, or this one is another parent's first one already";
        return Needed::CannotHold(why.to_owned());
    }
    match held_as(view, side, mapped, desired) {
        // What the store holds it can hold, whatever is known of it.
        Err(_) if cell.value() == Some(desired) => Needed::Nothing,
        Err(why) => Needed::CannotHold(why),
        Ok(held) => {
            let means_it = |cell| side.mapping.means_the_same(row, field, cell, desired);
            if cell.value() == Some(&held) || cell.value().is_some_and(means_it) {
                Needed::Nothing
            } else {
                Needed::Write
            }
        }
    }
}

fn update(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    row: &Row,
    changes: Vec<Change>,
) -> Option<Action> {
    let behind = if side.canonical {
        row.meta.version_or_none() != resolution.version
    } else {
        row.meta.version_or_none() < resolution.version
    };
    let meta = meta_after(view, resolution, side).filter(|_| behind || !changes.is_empty());
    let link = row.unlinked && side.mapping.embedded().is_none();
    let (kind, reason) = match (changes.is_empty(), &meta) {
        (false, _) => (ActionKind::Update, Reason::Differs),
        (true, _) if link => (ActionKind::Metadata, Reason::Linked),
        (true, Some(_)) => (ActionKind::Metadata, Reason::BehindInVersion),
        (true, None) => return None,
    };
    // Besides what is written, the guard holds what the result was made from in this very store.
    let contributed =
        resolution.ends.get(side.store).into_iter().flatten().filter(|(_, end)| **end == ClaimEnd::Won);
    let mut guard: ByName<Cell> =
        changes.iter().map(|change| (change.field.clone(), change.before.clone())).collect();
    guard.extend(contributed.filter_map(|(field, _)| {
        Some((view.entity.field(*field).name.clone(), row.fields.get(field)?.clone()))
    }));
    let updated = (kind == ActionKind::Update && side.mapping.updated.is_some()).then_some(view.now);
    Some(Action {
        store: side.store.clone(),
        kind,
        reason,
        store_id: row.store_id.clone(),
        link,
        guard,
        meta_before: row.meta.clone(),
        advance: shadows::written(view, resolution, side, row, &changes, meta.as_ref(), updated),
        changes,
        meta_after: meta,
        created: None,
        updated,
    })
}
