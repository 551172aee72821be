//! One record as all its stores have it, what it should be, and why: for a person who asks about this one.

mod json;
mod page;

use std::sync::Arc;

use crate::diff::{Action, Outline, SidePlan, Standing};
use crate::model::{
    Cell, Entity, FieldId, FieldName, Presence, RecordId, StoreName, StoreRecordId, SyncMeta, Timestamp,
    Unknown, Value, Version,
};
use crate::resolve::{ClaimEnd, Conflict, Fate, Origin, Overrides, Resolution, Side, View};

use super::inputs::PlanInputs;
use super::recipe::{Entry, settle, view};
use super::{Notice, Observed, notices};

pub use json::explanation_json;
pub use page::explanation_page;

/// A record, explained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// The record.
    pub record: RecordId,
    /// What becomes of it as a whole.
    pub fate: Fate,
    /// The version it should have.
    pub version: Version,
    /// When the latest edit that made it was made; none: nobody knows.
    pub last_updated: Option<Timestamp>,
    /// The store that edit was made in.
    pub last_updated_by: Option<Arc<str>>,
    /// Every store that maps the entity, the canonical one first.
    pub stores: Vec<InStore>,
    /// Every field, in the order of the manifests.
    pub fields: Vec<InField>,
    /// What a person should know of it.
    pub notices: Vec<Notice>,
    /// Conflicts that begin with the next pass.
    pub beginning: Vec<Conflict>,
}

/// A store's side of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InStore {
    /// The store.
    pub store: StoreName,
    /// Whether it is the canonical one.
    pub canonical: bool,
    /// Whether the record is there; none: it cannot be told.
    pub there: Option<bool>,
    /// Whether this is what the last pass left: what stands inside another entity's rows cannot be read by its key.
    pub remembered: bool,
    /// What the row says of itself.
    pub meta: SyncMeta,
    /// The store's own time of its last update.
    pub updated: Option<Timestamp>,
    /// The store's own id of the row.
    pub store_id: Option<StoreRecordId>,
    /// Where the record stands there; none: it has nothing to do with it.
    pub standing: Option<Standing>,
    /// What the next pass would write there.
    pub action: Option<Action>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InField {
    /// The field.
    pub field: FieldName,
    /// Whether no value of it may be shown.
    pub sensitive: bool,
    /// What it should be everywhere; none while that is not decided.
    pub value: Option<Value>,
    /// Whether nothing is written to it until a person decides.
    pub held: bool,
    /// The canonical version that last changed it, where that is remembered.
    pub since: Option<Version>,
    /// Where its value comes from, if somebody changed it since the last pass.
    pub origin: Option<Origin>,
    /// The stores that hold something else, with what became of that where it is an edit.
    pub elsewhere: Vec<(StoreName, Cell, Option<ClaimEnd>)>,
}

impl Explanation {
    /// Explains a record by what was seen of it. What other records may add to the rules (values that only one may have, references) is left
    /// out.
    pub fn of(inputs: &PlanInputs, entity: &Arc<Entity>, observed: &Observed) -> Self {
        let id = RecordId { entity: entity.name.clone(), key: observed.key.clone() };
        let view = view(inputs, entity, &id, observed, Overrides::default());
        let (resolution, plans) = settle(inputs, &id, &view);
        let stores = view.sides.iter().map(|side| in_store(side, &plans)).collect();
        let fields = entity.field_ids().map(|field| in_field(&view, &resolution, field)).collect();
        let entry = Entry {
            observed: observed.clone(),
            overrides: Overrides::default(),
            sides: plans.iter().map(Outline::from).collect(),
            is_new: view.is_new(),
            resolution,
        };
        let mut notices = Vec::new();
        notices::of_record(entity, &id, &entry, view.conflicts, &mut notices);
        let resolution = entry.resolution;
        Self {
            record: id,
            fate: resolution.fate,
            version: resolution.version,
            last_updated: resolution.last_updated,
            last_updated_by: resolution.last_updated_by,
            stores,
            fields,
            notices,
            beginning: resolution.conflicts,
        }
    }

    /// Whether no store has the record, and none should.
    pub fn is_nowhere(&self) -> bool {
        self.fate == Fate::Gone && self.stores.iter().all(|side| side.there == Some(false))
    }
}

fn in_store(side: &Side<'_>, plans: &[SidePlan]) -> InStore {
    if let Some(shadow) = side.shadow.filter(|_| *side.presence == Presence::Unknown(Unknown::Unidentified))
        && side.mapping.embedded().is_some()
    {
        return InStore {
            store: side.store.clone(),
            canonical: side.canonical,
            there: Some(shadow.present),
            remembered: true,
            meta: shadow.meta.clone(),
            updated: shadow.updated,
            store_id: shadow.store_id.clone(),
            standing: None,
            action: None,
        };
    }
    let plan = plans.iter().find(|plan| plan.store == *side.store);
    let row = side.row();
    InStore {
        store: side.store.clone(),
        canonical: side.canonical,
        there: match side.presence {
            Presence::Present(_) => Some(true),
            Presence::Absent => Some(false),
            Presence::Unknown(_) => None,
        },
        remembered: false,
        meta: row.map(|row| row.meta.clone()).unwrap_or_default(),
        updated: row.and_then(|row| row.updated),
        store_id: row.and_then(|row| row.store_id.clone()),
        standing: plan.map(|plan| plan.standing),
        action: plan.and_then(|plan| plan.action.clone()),
    }
}

fn in_field(view: &View<'_>, resolution: &Resolution, field: FieldId) -> InField {
    let declared = view.entity.field(field);
    let held = resolution.held.contains(&field);
    let value = resolution.fields.get(&field).filter(|_| !held);
    let elsewhere = view.sides.iter().filter_map(|side| {
        let cell = differing(view, side, field, value)?;
        Some((side.store.clone(), cell, resolution.end(side.store, field)))
    });
    let shadow = view.canonical().shadow.and_then(|shadow| view.entity.named(&shadow.fields, field));
    InField {
        field: declared.name.clone(),
        sensitive: declared.sensitive,
        value: value.cloned(),
        held,
        since: shadow.map(|shadow| shadow.version),
        origin: resolution.origins.get(&field).cloned(),
        elsewhere: elsewhere.collect(),
    }
}

/// What a store holds in a field, if that is not what a value reads back as there. Without a value everything differs.
fn differing(view: &View<'_>, side: &Side<'_>, field: FieldId, value: Option<&Value>) -> Option<Cell> {
    let cell = side.row()?.fields.get(&field)?;
    let mapped = side.mapping.fields.get(&field)?;
    let held = value.and_then(|value| view.held_as(side, mapped, value).ok());
    (held.is_none() || cell.value() != held.as_ref()).then(|| cell.clone())
}
