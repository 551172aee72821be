//! What may be remembered: a shadow never says more than was read back, and never forgets what a value stood for.

use std::sync::Arc;

use crate::model::{
    ByName, Cell, FieldId, FieldMapping, FieldShadow, Row, Shadow, SyncMeta, Timestamp, Value, Version,
};
use crate::resolve::{ClaimEnd, Resolution, Side, View};

use super::{Change, held_as};

/// The shadow of a record that is not in a store. It keeps the highest version, which a re-made record must exceed.
pub(super) fn absent(side: &Side<'_>, resolution: &Resolution) -> Arc<Shadow> {
    let known = side.shadow.map(Shadow::highest_version).unwrap_or_default();
    let version = known.max(side.version()).max(resolution.version);
    let meta = SyncMeta { version: Some(version), ..SyncMeta::default() };
    Arc::new(Shadow { meta, ..Shadow::default() })
}

/// The same; of an element whose field went away, not to be a delete when it comes back empty, with what it was known by, should it
/// come back as it was.
pub(super) fn absent_for(side: &Side<'_>, resolution: &Resolution, blind: bool) -> Arc<Shadow> {
    let store_id = side.shadow.and_then(|shadow| shadow.store_id.clone()).filter(|_| blind);
    let absent = absent(side, resolution);
    Arc::new(Shadow { store_id, ..Shadow::clone(&absent) })
}

/// The shadow of a row that was just made.
pub(super) fn created(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    fields: ByName<FieldShadow>,
    meta: Option<&SyncMeta>,
) -> Arc<Shadow> {
    Arc::new(Shadow {
        present: true,
        store_id: None,
        meta: evidence_only(side, resolution, meta.cloned().unwrap_or_default()),
        updated: side.mapping.updated.as_ref().map(|_| view.now),
        home: Some(side.mapping.home),
        fields,
    })
}

/// The shadow of a row met for the first time that holds what the canonical store holds.
pub(super) fn agreed(view: &View<'_>, side: &Side<'_>, row: &Row, version: Version) -> Arc<Shadow> {
    let fields = view.entity.by_name().iter().filter_map(|(name, id)| {
        let (mapped, cell) = (side.mapping.fields.get(id)?, row.fields.get_near(id.index(), id)?);
        let shadow =
            FieldShadow { held: cell.clone(), stands_for: None, version, tag: mapped.tag, unsure: false };
        Some((name.clone(), shadow))
    });
    Arc::new(Shadow {
        present: true,
        store_id: row.store_id.clone(),
        meta: evidence_at(side, version, row.meta.clone()),
        updated: row.updated,
        home: Some(side.mapping.home),
        fields: fields.collect(),
    })
}

/// The shadow of a row after some of its fields were written.
pub(super) fn written(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    row: &Row,
    changes: &[Change],
    meta: Option<&SyncMeta>,
    updated: Option<Timestamp>,
) -> Arc<Shadow> {
    let mut shadow = as_observed(view, resolution, side, row);
    shadow.fields.extend(changes.iter().filter_map(|change| written_field(view, resolution, side, change)));
    if let Some(meta) = meta {
        shadow.meta = evidence_only(side, resolution, meta.clone());
    }
    shadow.updated = updated.or(shadow.updated);
    Arc::new(shadow)
}

/// The shadow of a row that is not written, or not yet; none where it says what is remembered already.
pub(super) fn adopted(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    row: &Row,
) -> Option<Arc<Shadow>> {
    let shadow = as_observed(view, resolution, side, row);
    (side.shadow != Some(&shadow)).then(|| Arc::new(shadow))
}

fn written_field(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    change: &Change,
) -> Option<(crate::model::FieldName, FieldShadow)> {
    let id = view.entity.field_id(&change.field)?;
    let mapped = side.mapping.fields.get(&id)?;
    let held = held_as(view, side, mapped, &change.after).ok()?;
    Some((change.field.clone(), field(mapped, Cell::Value(held), &change.after, resolution.version)))
}

/// The shadow of a field that holds a value which stands for another, or for itself.
pub(super) fn field(mapped: &FieldMapping, held: Cell, stands_for: &Value, version: Version) -> FieldShadow {
    let same = held.value() == Some(stands_for);
    FieldShadow {
        held,
        stands_for: (!same).then(|| Box::new(stands_for.clone())),
        version,
        tag: mapped.tag,
        unsure: false,
    }
}

/// What is known of a row just by having seen it, once the canonical store has the result.
fn as_observed(view: &View<'_>, resolution: &Resolution, side: &Side<'_>, row: &Row) -> Shadow {
    let known = side.shadow.filter(|shadow| shadow.present);
    let mut fields = Vec::with_capacity(row.fields.len());
    for (name, id) in view.entity.by_name() {
        let Some(mapped) = side.mapping.fields.get(id) else { continue };
        let Some(cell) = row.fields.get_near(id.index(), id) else {
            // A column that is gone takes its shadow with it: should it come back empty, that is no clear but a first meeting. A relation
            // to a row whose record is not known yet is no gone column: what it was is still known.
            let before = known.and_then(|known| view.entity.named(&known.fields, *id));
            let before = before.filter(|_| mapped.relation.is_some());
            fields.extend(before.map(|before| (name.clone(), before.clone())));
            continue;
        };
        let before = known.and_then(|known| known.known(view.entity, mapped));
        let shadow = match before.and_then(|before| stays(resolution, side, *id, cell, before)) {
            Some(same) => Some(same),
            None => observed_field(view, resolution, side, (mapped, row), cell, before.cloned()),
        };
        fields.extend(shadow.map(|shadow| (name.clone(), shadow)));
    }
    Shadow {
        present: true,
        store_id: row.store_id.clone(),
        meta: evidence_only(side, resolution, row.meta.clone()),
        updated: row.updated,
        home: Some(side.mapping.home),
        fields: fields.into_iter().collect(),
    }
}

/// A field's shadow where it says what it said, but for the version: nearly all do. The version is brought up.
fn stays(
    resolution: &Resolution,
    side: &Side<'_>,
    id: FieldId,
    cell: &Cell,
    before: &FieldShadow,
) -> Option<FieldShadow> {
    let Some(desired) = resolution.fields.get_near(id.index(), &id) else { return Some(before.clone()) };
    if before.unsure
        || before.held != *cell
        || resolution.held.contains(&id)
        || resolution.end(side.store, id).is_some()
    {
        return None;
    }
    if side.canonical {
        return (before.stands_for.is_none() && cell.value().is_some()).then(|| before.clone());
    }
    let same = match &before.stands_for {
        None => cell.value() == Some(desired),
        Some(stood_for) => **stood_for == *desired && cell.value() != Some(desired),
    };
    same.then(|| FieldShadow { version: resolution.version, ..before.clone() })
}

fn observed_field(
    view: &View<'_>,
    resolution: &Resolution,
    side: &Side<'_>,
    (mapped, row): (&FieldMapping, &Row),
    cell: &Cell,
    before: Option<FieldShadow>,
) -> Option<FieldShadow> {
    let id = mapped.field;
    let Some(desired) = resolution.fields.get(&id) else { return before };
    if resolution.held.contains(&id) {
        return before;
    }
    let version = resolution.version;
    match resolution.end(side.store, id) {
        Some(ClaimEnd::Won) => Some(field(mapped, cell.clone(), desired, version)),
        // The value that lost is known, and stands for itself, as of the version that the store had seen: it has not seen the one that won.
        // Were it to stand for what was agreed before, it would pass for that, and stay, once that comes back.
        Some(ClaimEnd::Lost) => {
            let old = before.as_ref().and_then(FieldShadow::canonical).cloned().unwrap_or_default();
            let seen = before.map(|shadow| shadow.version).unwrap_or_default();
            Some(field(mapped, cell.clone(), cell.value().unwrap_or(&old), seen))
        }
        None if side.canonical => {
            // The version that last changed the field: of a value met for the first time, the present one.
            let since =
                before.filter(|shadow| shadow.held == *cell && !shadow.unsure).map(|shadow| shadow.version);
            Some(field(mapped, cell.clone(), cell.value()?, since.unwrap_or(version)))
        }
        None if agrees(view, side, mapped, cell, desired)
            || cell.value().is_some_and(|held| side.mapping.means_the_same(row, id, held, desired)) =>
        {
            Some(field(mapped, cell.clone(), desired, version))
        }
        // Nothing, where nothing can be put, stands for the value: whoever puts something there means it.
        None if is_out_of_reach(view, side, mapped, desired)
            && cell.value().is_some_and(Value::is_null)
            && before.as_ref().is_none_or(|before| before.held == *cell) =>
        {
            Some(field(mapped, cell.clone(), desired, version))
        }
        // Held and rejected values stand as they stood, and so does what has yet to be written.
        Some(ClaimEnd::Held | ClaimEnd::Rejected) | None => before,
    }
}

/// Whether a store is never given a value.
fn is_out_of_reach(view: &View<'_>, side: &Side<'_>, mapped: &FieldMapping, desired: &Value) -> bool {
    !mapped.direction.writes() || held_as(view, side, mapped, desired).is_err()
}

/// Whether what a store holds is the desired value, as far as it can hold it.
fn agrees(view: &View<'_>, side: &Side<'_>, mapped: &FieldMapping, cell: &Cell, desired: &Value) -> bool {
    stands_for(view, side, mapped, cell, desired)
        || held_as(view, side, mapped, desired).is_ok_and(|held| *cell == Cell::Value(held))
}

/// Whether the store was read back as holding this for the desired value, which it may keep in a form of its own.
pub(super) fn stands_for(
    view: &View<'_>,
    side: &Side<'_>,
    mapped: &FieldMapping,
    cell: &Cell,
    desired: &Value,
) -> bool {
    let shadow = side.shadow.filter(|shadow| shadow.present);
    let shadow = shadow.and_then(|shadow| shadow.known(view.entity, mapped));
    shadow.is_some_and(|shadow| !shadow.unsure && shadow.held == *cell && shadow.canonical() == Some(desired))
}

/// Version, time and origin; bookkeeping is no evidence. A store without a place for metadata stands at the record's version.
fn evidence_only(side: &Side<'_>, resolution: &Resolution, meta: SyncMeta) -> SyncMeta {
    evidence_at(side, resolution.version, meta)
}

fn evidence_at(side: &Side<'_>, version: Version, meta: SyncMeta) -> SyncMeta {
    if side.mapping.has_sync() {
        meta.evidence()
    } else {
        SyncMeta { version: (version.0 > 0).then_some(version), ..SyncMeta::default() }
    }
}

/// Whether a store that cannot be read was last known to hold something else than the record should be.
pub(super) fn lags(view: &View<'_>, resolution: &Resolution, side: &Side<'_>, shadow: &Shadow) -> bool {
    if !shadow.present {
        return true;
    }
    let lagging = |id: &FieldId, mapped: &FieldMapping| {
        let known = view.entity.named(&shadow.fields, *id).and_then(FieldShadow::canonical);
        mapped.direction.writes()
            && !resolution.held.contains(id)
            && resolution.fields.get(id).is_some_and(|desired| known != Some(desired))
    };
    side.mapping.fields.iter().any(|(id, mapped)| lagging(id, mapped))
}
