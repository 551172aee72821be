//! What a store needs that does not have a record.

use crate::model::{ByName, Cell, DeletePolicy, FieldName, SyncMeta, Value};
use crate::resolve::{Resolution, Side, View};

use super::{
    Act, Action, ActionKind, Drift, Outline, Reason, SidePlan, Standing, belongs, change, held_as,
    meta_after, no_place, shadows,
};

pub(super) fn absent(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> Option<SidePlan> {
    match absence(view, resolution, side) {
        Absence::Stays(plan) => plan.map(|plan| *plan),
        Absence::Lacks => Some(made(view, resolution, side)),
    }
}

/// What becomes of an absence.
enum Absence {
    /// Nothing is done about it; this is to be said, if anything is.
    Stays(Option<Box<SidePlan>>),
    /// The row has to be made.
    Lacks,
}

fn absence(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> Absence {
    let was_there = side.shadow.is_some_and(|shadow| shadow.present);
    let stays_away = !belongs(view, resolution, side)
        || (view.entity.deletes == DeletePolicy::Ignore && side.shadow.is_some() && !side.canonical);
    if stays_away {
        let here = view.in_scope(&resolution.fields, side) && !view.overrides.away.contains(side.store);
        let why = no_place(view, &resolution.fields, side).filter(|_| here);
        let cannot_hold: Vec<(FieldName, String)> = why
            .zip(side.mapping.embedded())
            .map(|(why, embedded)| (view.entity.field(embedded.value).name.clone(), why))
            .into_iter()
            .collect();
        let blind = view.overrides.blind.contains(side.store);
        let plan = (was_there || blind || !cannot_hold.is_empty()).then(|| SidePlan {
            adopt: was_there.then(|| shadows::absent_for(side, resolution, blind)),
            cannot_hold,
            ..SidePlan::idle(side.store, if blind { Standing::Unknown } else { Standing::InSync })
        });
        return Absence::Stays(plan.map(Box::new));
    }
    if side.writable {
        return Absence::Lacks;
    }
    let (drift, adopt) = (Some(Drift::Missing), gone(view, resolution, side));
    let plan = SidePlan { drift, adopt, ..SidePlan::idle(side.store, Standing::Skipped) };
    Absence::Stays(Some(Box::new(plan)))
}

/// A row that has to be made.
fn made(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> SidePlan {
    let was_there = side.shadow.is_some_and(|shadow| shadow.present);
    let mut cannot_hold = Vec::new();
    let mut known = Vec::with_capacity(side.mapping.fields.len());
    for (name, field) in view.entity.by_name() {
        let mapped = side.mapping.fields.get(field).filter(|mapped| mapped.direction.writes());
        let value = resolution.fields.get_near(field.index(), field);
        let Some((mapped, value)) = mapped.zip(value) else { continue };
        match held_as(view, side, mapped, value) {
            Err(why) => cannot_hold.push((*field, name.clone(), why)),
            Ok(held) => {
                let shadow = shadows::field(mapped, Cell::Value(held), value, resolution.version);
                known.push((name.clone(), shadow));
            }
        }
    }
    cannot_hold.sort_unstable();
    let writes = side.mapping.fields.iter().filter(|(field, mapped)| {
        mapped.direction.writes() && cannot_hold.iter().all(|(other, ..)| other != *field)
    });
    let mut changes = Vec::with_capacity(known.len());
    changes.extend(writes.filter_map(|(field, _)| {
        let value = resolution.fields.get_near(field.index(), field)?;
        Some(change(view, resolution, *field, &Cell::Value(Value::Null), value))
    }));
    let reason = if was_there { Reason::Restored } else { Reason::Missing };
    let meta = meta_after(view, resolution, side);
    let action = Action {
        store: side.store.clone(),
        kind: ActionKind::Create,
        reason,
        store_id: None,
        link: false,
        guard: ByName::new(),
        meta_before: SyncMeta::default(),
        advance: shadows::created(view, resolution, side, known.into_iter().collect(), meta.as_ref()),
        changes,
        meta_after: meta,
        created: resolution.created.filter(|_| side.mapping.created.is_some()),
        updated: side.mapping.updated.as_ref().map(|_| view.now),
    };
    SidePlan {
        drift: Some(Drift::Missing),
        action: Some(action),
        adopt: gone(view, resolution, side),
        cannot_hold: cannot_hold.into_iter().map(|(_, name, why)| (name, why)).collect(),
        ..SidePlan::idle(side.store, Standing::Written)
    }
}

/// What is remembered of a row that is gone, should it not be made again now. One that went with the row that it stood in was deleted by
/// nobody; where somebody did delete it, and the record stays, that is on record and told once.
fn gone(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
) -> Option<std::sync::Arc<crate::model::Shadow>> {
    is_gone(view, side).then(|| shadows::absent(side, resolution))
}

fn is_gone(view: &View<'_>, side: &Side<'_>) -> bool {
    let was_there = side.shadow.is_some_and(|shadow| shadow.present);
    was_there && !side.canonical || view.overrides.anew.contains(side.store)
}

/// What a store needs that does not have the record, in outline.
pub(super) fn outline(view: &View<'_>, resolution: &Resolution, side: &Side<'_>) -> Option<Outline> {
    if let Absence::Stays(plan) = absence(view, resolution, side) {
        return plan.as_deref().map(Outline::from);
    }
    let written = side.mapping.fields.values().filter(|mapped| mapped.direction.writes());
    let cannot_hold = written.filter_map(|mapped| {
        let value = resolution.fields.get_near(mapped.field.index(), &mapped.field)?;
        let why = held_as(view, side, mapped, value).err()?;
        Some((view.entity.field(mapped.field).name.clone(), why))
    });
    Some(Outline {
        store: side.store.clone(),
        standing: Standing::Written,
        drift: Some(Drift::Missing),
        act: Some(Act { kind: ActionKind::Create, fields: Vec::new(), overwrites: false }),
        adopts: is_gone(view, side),
        cannot_hold: cannot_hold.collect(),
    })
}
