//! What is to be done about a record, worked out from what was seen of it: once when the plan is made, and again whenever it is wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diff::{ActionKind, Outline, Plains, Reason, SidePlan, Standing, diff, express};
use crate::model::{
    ByStore, ElementId, Entity, EntityName, Mapping, Memory, Presence, RecordId, Shadow, StoreName, Unknown,
};
use crate::resolve::{Fate, Overrides, Resolution, Side, View, canonical_moved_since, resolve};

use super::guards::GuardName;
use super::inputs::PlanInputs;
use super::orders::hold_back;
use super::{Lost, Observed, RecordPlan, Shelf, TombstoneDraft};

/// A record, considered: what has to be known of it to make the plan.
pub(super) struct Entry {
    pub observed: Observed,
    pub overrides: Overrides,
    pub resolution: Resolution,
    pub sides: Vec<Outline>,
    /// Whether the record was just made.
    pub is_new: bool,
}

impl Entry {
    /// Whether there is anything to be done or said.
    pub(super) fn is_news(&self) -> bool {
        !self.is_in_order() || self.sides.iter().any(|side| side.adopts)
    }

    /// Whether all stores hold it as it should be, and the only news is that this is known now.
    pub(super) fn is_only_met(&self) -> bool {
        self.is_in_order() && self.observed.presences.values().all(|presence| presence.row().is_some())
    }

    /// Whether nobody has to be told of anything, and nothing is to be written.
    fn is_in_order(&self) -> bool {
        let resolution = &self.resolution;
        resolution.rejections.is_empty()
            && resolution.held.is_empty()
            && resolution.regressed.is_empty()
            && resolution.already_invalid.is_empty()
            && !self.has_conflicts()
            && !matches!(resolution.fate, Fate::Dead | Fate::Left(_))
            && self.sides.iter().all(|side| {
                side.standing == Standing::InSync
                    && side.act.is_none()
                    && side.drift.is_none()
                    && side.cannot_hold.is_empty()
            })
    }

    /// Whether a store is left otherwise than it should be, so that the record has to be looked at again.
    pub(super) fn is_unsettled(&self) -> bool {
        let settled = |side: &Outline| {
            matches!(side.standing, Standing::InSync | Standing::Written | Standing::MetadataOnly)
        };
        matches!(self.resolution.fate, Fate::Left(_)) || !self.sides.iter().all(settled)
    }

    /// Whether the plan has the record.
    pub(super) fn is_planned(&self) -> bool {
        self.has_conflicts() || self.sides.iter().any(|side| side.act.is_some() || side.adopts)
    }

    /// Whether conflicts begin or end.
    pub(super) fn has_conflicts(&self) -> bool {
        !self.resolution.conflicts.is_empty() || !self.resolution.closed.is_empty()
    }

    /// Whether a row of the record goes, whatever becomes of others.
    pub(super) fn lets_a_row_go(&self) -> bool {
        self.resolution.fate == Fate::Dead
            || self.sides.iter().filter_map(Outline::kind).any(|kind| kind == ActionKind::Delete)
    }

    /// Whether the record as a whole goes, or a row of it does and nothing else happens to it.
    pub(super) fn goes(&self) -> bool {
        let mut kinds = self.sides.iter().filter_map(Outline::kind);
        let deletes = |kind| kind == ActionKind::Delete;
        self.resolution.fate == Fate::Dead || (kinds.clone().any(deletes) && kinds.all(deletes))
    }
}

/// The stores of an entity whose absences turned out not to be known, and why.
pub(super) type Doubts = BTreeMap<StoreName, Unknown>;

/// Resolves and compares one record.
pub(super) fn consider(
    inputs: &PlanInputs,
    entity: &Arc<Entity>,
    observed: Observed,
    overrides: Overrides,
) -> Entry {
    let id = RecordId { entity: entity.name.clone(), key: observed.key.clone() };
    let view = view(inputs, entity, &id, &observed, overrides);
    // What is held back is taken out of what would be done.
    let short = if inputs.orders.holds.is_empty() { express(&view) } else { None };
    let (resolution, sides) = if let Some((resolution, plains)) = short {
        check(&view, &resolution, &plains);
        let sides = plains.outlines(&view, &resolution);
        (resolution, sides)
    } else {
        let (resolution, sides) = settle(inputs, &id, &view);
        (resolution, sides.iter().map(Outline::from).collect())
    };
    let (is_new, overrides) = (view.is_new(), view.overrides);
    Entry { observed, overrides, resolution, sides, is_new }
}

/// Whether the canonical record, which nobody changed now, changed before in a way that one of these stores had not received.
pub(super) fn is_unseen(
    inputs: &PlanInputs,
    entity: &Arc<Entity>,
    entry: &Entry,
    stores: &BTreeSet<StoreName>,
) -> bool {
    let id = RecordId { entity: entity.name.clone(), key: entry.observed.key.clone() };
    let view = view(inputs, entity, &id, &entry.observed, entry.overrides.clone());
    let others = view.sides.iter().filter(|side| !side.canonical && stores.contains(side.store));
    others.into_iter().any(|side| canonical_moved_since(&view, side))
}

/// What a record should be, and what every store needs for it.
pub(super) fn settle(inputs: &PlanInputs, id: &RecordId, view: &View<'_>) -> (Resolution, Vec<SidePlan>) {
    let (mut resolution, mut sides) = if let Some((resolution, plains)) = express(view) {
        check(view, &resolution, &plains);
        let sides = plains.plans(view, &resolution);
        (resolution, sides)
    } else {
        let resolution = resolve(view);
        let sides = diff(view, &resolution);
        (resolution, sides)
    };
    if !inputs.orders.holds.is_empty() {
        inputs.orders.holds.keep(id, &inputs.spec.canonical, &mut resolution, &mut sides);
    }
    let (awaits, stays) = (&view.overrides.awaits, &view.overrides.stays);
    if view.overrides.wait || awaits.contains_key(&inputs.spec.canonical) {
        hold_back(&mut resolution, &mut sides, Standing::Pending);
    } else {
        for side in &mut sides {
            let goes = side.action.as_ref().is_some_and(|action| action.kind == ActionKind::Delete);
            let waits = awaits.contains_key(&side.store) || (goes && stays.contains_key(&side.store));
            if waits && side.action.take().is_some() {
                side.standing = Standing::Pending;
            }
        }
    }
    (resolution, sides)
}

/// In debug builds every record goes both ways.
#[cfg_attr(not(debug_assertions), allow(unused_variables, clippy::missing_const_for_fn))]
fn check(view: &View<'_>, resolution: &Resolution, plains: &Plains) {
    #[cfg(debug_assertions)]
    {
        let long = resolve(view);
        let sides = diff(view, &long);
        let same = crate::diff::same(view, (resolution, plains), (&long, &sides));
        assert!(same, "the short way differs for {}: {resolution:#?} {long:#?} {sides:#?}", view.key);
    }
}

/// Whether a store with record ids of its own has another row for the record than the one that is remembered: it meets for the first time.
pub(super) fn is_other_row(mapping: &Mapping, shadow: &Shadow, presence: Option<&Presence>) -> bool {
    let now = presence.and_then(Presence::row).and_then(|row| row.store_id.as_ref());
    let (Some(then), Some(now)) = (shadow.store_id.as_ref(), now.filter(|_| mapping.own_ids)) else {
        return false;
    };
    match (ElementId::parse(then), ElementId::parse(now)) {
        // An element's id changes with its value; what it stands in does not.
        (Some(then), Some(now)) if mapping.embedded().is_some() => then.parent != now.parent,
        _ => then != now,
    }
}

pub(super) fn view<'a>(
    inputs: &'a PlanInputs,
    entity: &'a Arc<Entity>,
    id: &RecordId,
    observed: &'a Observed,
    overrides: Overrides,
) -> View<'a> {
    let spec = &inputs.spec;
    let tombstone = inputs.tombstones.get(id);
    let mappings = spec.mappings.get(&entity.name);
    let mut sides: Vec<Side<'a>> = mappings
        .into_iter()
        .flatten()
        .filter_map(|(store, mapping)| {
            let own = observed.memory.as_ref().and_then(|memory| memory.stores.get(store));
            let shadow = own.or_else(|| tombstone.and_then(|tombstone| tombstone.memory.stores.get(store)));
            let presence = observed.presences.get(store);
            // What went with the row that it stood in was deleted by nobody.
            let went_along = overrides.anew.contains(store) && presence == Some(&Presence::Absent);
            let shadow = shadow.filter(|shadow| !went_along && !is_other_row(mapping, shadow, presence));
            let shadow = shadow.filter(|shadow| shadow.is_of(entity, mapping));
            Some(Side {
                store,
                mapping,
                canonical: *store == spec.canonical,
                writable: spec.stores.get(store).is_none_or(|store| !store.read_only),
                precision_micros: inputs.precision_micros.get(store).copied().unwrap_or(1),
                shadow,
                presence: presence?,
            })
        })
        .collect();
    sides.sort_by_key(|side| !side.canonical);
    let unmet = |side: &Side<'_>| {
        side.shadow.is_none() && inputs.rebuilding.contains(&(entity.name.clone(), side.store.clone()))
    };
    let rebuild = inputs.rebuild || (!inputs.rebuilding.is_empty() && sides.iter().any(unmet));
    View {
        entity,
        key: &observed.key,
        sides,
        tombstone,
        conflicts: inputs.conflicts.get(id).map(Vec::as_slice).unwrap_or_default(),
        now: inputs.now,
        rebuild,
        first_load: inputs.first_loads.contains(&entity.name),
        overrides: Overrides { bring_forward: inputs.allow.contains(&GuardName::Regressed), ..overrides },
    }
}

/// Takes absences back that turned out not to be known: the snapshot was cut short, or rows of the store went back to
/// older versions (what was added since the backup is then missing, not deleted).
pub(super) fn doubt(inputs: &PlanInputs, observed: &mut Observed, doubts: &Doubts) {
    let bring_forward = inputs.allow.contains(&GuardName::Regressed);
    for (store, why) in doubts {
        let Some(presence) = observed.presences.get_mut(store) else { continue };
        let shadow = observed.memory.as_ref().and_then(|memory| memory.stores.get(store));
        // What was never there is no more in a backup than in the newer copy.
        let was_there = *why == Unknown::Incomplete || shadow.is_some_and(|shadow| shadow.present);
        if *presence != Presence::Absent || !was_there {
            continue;
        }
        match &mut observed.memory {
            // Brought forward: what came after the backup is missing there, and is put back.
            Some(memory) if *why == Unknown::Regressed && bring_forward => {
                memory.stores.remove(store);
            }
            _ => *presence = Presence::Unknown(*why),
        }
    }
}

/// What is to be done; none where nothing is.
fn record_plan(
    inputs: &PlanInputs,
    entity: &Arc<Entity>,
    observed: &Observed,
    overrides: Overrides,
    basis: String,
) -> Option<RecordPlan> {
    let id = RecordId { entity: entity.name.clone(), key: observed.key.clone() };
    let view = view(inputs, entity, &id, observed, overrides);
    let (resolution, sides) = settle(inputs, &id, &view);
    let tombstone = tombstone(inputs, observed, &resolution, &sides);
    let mut plan = RecordPlan {
        record: id,
        conflicts: resolution.conflicts,
        closes: resolution.closed,
        tombstone,
        actions: Vec::new(),
        adopt: ByStore::new(),
        basis,
    };
    for side in sides {
        plan.actions.extend(side.action);
        if let Some(shadow) = side.adopt {
            plan.adopt.insert(side.store, shadow);
        }
    }
    let empty = plan.actions.is_empty()
        && plan.adopt.is_empty()
        && plan.conflicts.is_empty()
        && plan.closes.is_empty();
    (!empty).then_some(plan)
}

/// A record that goes everywhere leaves a tombstone. One that only leaves a store's scope does not: it lives, and what is kept of its row
/// there says nothing of it.
fn tombstone(
    inputs: &PlanInputs,
    observed: &Observed,
    resolution: &Resolution,
    sides: &[SidePlan],
) -> Option<TombstoneDraft> {
    if resolution.fate != Fate::Dead {
        return None;
    }
    let shadows = observed.memory.as_ref().map(|memory| memory.stores.clone()).unwrap_or_default();
    let memory = Memory { stores: shadows.into_iter().filter(|(_, shadow)| shadow.present).collect() };
    let pending = sides.iter().any(|side| matches!(side.standing, Standing::Pending | Standing::Paused));
    let cascade =
        sides.iter().filter_map(|side| side.action.as_ref()).any(|action| action.reason == Reason::Cascade);
    Some(TombstoneDraft {
        version: resolution.version,
        deleted_by: if cascade { Vec::new() } else { resolution.deleted_by.iter().cloned().collect() },
        deleted_at: inputs.now,
        memory,
        pending,
    })
}

/// A record of a plan, as little of it as has to be kept.
pub(super) struct Planned {
    /// Where what was seen of it is.
    pub place: u64,
    /// What other records add to its rules, where they do.
    pub overrides: Option<Box<Overrides>>,
    /// Whether it goes.
    pub goes: bool,
    /// Whether it has conflicts that begin or end.
    pub conflicts: bool,
}

/// Everything that a plan's records follow from.
pub(super) struct Recipe {
    inputs: Arc<PlanInputs>,
    shelf: Box<dyn Shelf>,
    /// Every entity, with the stores that are doubted and its records in the order of keys.
    entities: Vec<(Arc<Entity>, Doubts, Vec<Planned>)>,
}

impl Recipe {
    pub(super) fn new(
        inputs: Arc<PlanInputs>,
        shelf: Box<dyn Shelf>,
        entities: Vec<(Arc<Entity>, Doubts, Vec<Planned>)>,
    ) -> Self {
        Self { inputs, shelf, entities }
    }

    pub(super) fn len(&self) -> usize {
        self.entities.iter().map(|(.., planned)| planned.len()).sum()
    }

    fn find(&self, at: usize) -> Option<(&Arc<Entity>, &Doubts, &Planned)> {
        let mut at = at;
        for (entity, doubts, planned) in &self.entities {
            match planned.get(at) {
                Some(found) => return Some((entity, doubts, found)),
                None => at -= planned.len(),
            }
        }
        None
    }

    /// The stretches of records by entity, in their order.
    pub(super) fn stretches(&self) -> impl Iterator<Item = (&EntityName, usize)> {
        self.entities.iter().map(|(entity, _, planned)| (&entity.name, planned.len()))
    }

    /// The places of the records with conflicts.
    pub(super) fn conflicted(&self) -> Vec<usize> {
        let all = self.entities.iter().flat_map(|(.., planned)| planned);
        all.enumerate().filter(|(_, planned)| planned.conflicts).map(|(at, _)| at).collect()
    }

    pub(super) fn goes(&self, at: usize) -> bool {
        self.find(at).is_some_and(|(.., planned)| planned.goes)
    }

    pub(super) fn id(&self, at: usize) -> Result<RecordId, Lost> {
        let (entity, _, planned) = self.find(at).ok_or_else(nothing_there)?;
        let observed = self.shelf.get(entity, planned.place)?;
        Ok(RecordId { entity: entity.name.clone(), key: observed.key })
    }

    pub(super) fn get(&self, at: usize, with_basis: bool) -> Result<RecordPlan, Lost> {
        let (entity, doubts, planned) = self.find(at).ok_or_else(nothing_there)?;
        let mut observed = self.shelf.get(entity, planned.place)?;
        let basis = if with_basis { observed.fingerprint() } else { String::new() };
        doubt(&self.inputs, &mut observed, doubts);
        let overrides = planned.overrides.as_deref().cloned().unwrap_or_default();
        record_plan(&self.inputs, entity, &observed, overrides, basis).ok_or_else(nothing_there)
    }
}

fn nothing_there() -> Lost {
    Lost("there is nothing to be done at this place".to_owned())
}
