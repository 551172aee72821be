//! The short way for the records about which there is nothing to settle: nearly all of them, in nearly every pass.
//!
//! Where every store holds what it was last verified to hold, or all are met for the first time and hold the same, or only the canonical
//! store has the record, the result is the canonical row, and the general rules have nothing to decide. Whatever is not plainly one
//! of these goes the long way, which gives the same answer (in debug builds every record goes both ways and the two are compared).

use std::collections::BTreeSet;

use crate::model::{
    Cell, Entity, FieldId, FieldRef, Fields, Mapping, Presence, Row, Shadow, SyncStatus, Value, Version,
};
use crate::resolve::{ClaimEnd, Fate, Overrides, Resolution, Side, View, named_in_pattern, violations};

use super::{Outline, SidePlan, Standing, absent, shadows};

/// How a store stands to a record about which there is nothing to settle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plain {
    /// It holds what its shadow says.
    Steady,
    /// It is met for the first time, and holds what the canonical store holds.
    Met,
    /// It never had the record.
    Lacks,
}

/// What every store is to a record about which there is nothing to settle, the canonical one first.
pub(crate) struct Plains(Vec<Plain>);

/// What the record should be and what every store is to it; none when that takes the rules.
pub(crate) fn express(view: &View<'_>) -> Option<(Resolution, Plains)> {
    let plain_overrides = Overrides { bring_forward: view.overrides.bring_forward, ..Overrides::default() };
    if view.rebuild
        || view.tombstone.is_some()
        || !view.conflicts.is_empty()
        || view.overrides != plain_overrides
    {
        return None;
    }
    let canonical = view.canonical();
    let row = canonical.row()?;
    let quiet =
        row.meta.sync_errors.is_empty() && matches!(row.meta.sync_status, None | Some(SyncStatus::Synced));
    if canonical.mapping.has_bookkeeping() && !quiet {
        return None;
    }
    let fields = values(view, row)?;
    let lookup = view.lookup(&fields);
    if breaks_a_rule(view.entity, &fields, &lookup) || derives(view.entity, &fields, &lookup) {
        return None;
    }
    drop(lookup);
    let version = canonical.version();
    let own = if canonical.shadow.is_none() {
        Plain::Met
    } else if is_steady(view, canonical, row, row, version) {
        Plain::Steady
    } else {
        return None;
    };
    let mut resolution = Resolution {
        fate: Fate::Alive,
        version,
        last_updated: row.meta.last_updated,
        last_updated_by: row.meta.last_updated_by.clone(),
        ..Resolution::empty()
    };
    let mut plains = Vec::with_capacity(view.sides.len());
    plains.push(own);
    for side in &view.sides[1..] {
        plains.push(plain(view, side, row, &fields, own, version)?);
    }
    // Of a value that several stores brought, the rules say whose it is: that is shown where it is written.
    let met_elsewhere = plains[1..].contains(&Plain::Met);
    if met_elsewhere && plains.contains(&Plain::Lacks) {
        return None;
    }
    resolution.created =
        row.created.or_else(|| view.sides.iter().filter_map(|side| side.row()?.created).min());
    resolution.fields = fields;
    // Met everywhere, or made here just now.
    resolution.touched = own == Plain::Met;
    for (side, plain) in view.sides.iter().zip(&plains).skip(1) {
        if *plain == Plain::Met {
            note_relations(view, side, &mut resolution);
        }
    }
    Some((resolution, Plains(plains)))
}

impl Plains {
    /// What every store needs.
    pub(crate) fn plans(&self, view: &View<'_>, resolution: &Resolution) -> Vec<SidePlan> {
        let plan = |(side, plain): (&Side<'_>, &Plain)| match plain {
            Plain::Lacks => absent::absent(view, resolution, side),
            _ => Some(idle(view, side, *plain, resolution.version)),
        };
        view.sides.iter().zip(&self.0).filter_map(plan).collect()
    }

    /// What every store needs, in outline.
    pub(crate) fn outlines(&self, view: &View<'_>, resolution: &Resolution) -> Vec<Outline> {
        let outline = |(side, plain): (&Side<'_>, &Plain)| match plain {
            Plain::Lacks => absent::outline(view, resolution, side),
            Plain::Steady | Plain::Met => Some(Outline {
                store: side.store.clone(),
                standing: Standing::InSync,
                drift: None,
                act: None,
                adopts: *plain == Plain::Met,
                cannot_hold: Vec::new(),
            }),
        };
        view.sides.iter().zip(&self.0).filter_map(outline).collect()
    }
}

/// The canonical values; none where one cannot be told or read.
fn values(view: &View<'_>, row: &Row) -> Option<Fields<Value>> {
    let mapping = view.canonical().mapping;
    // Fields that the canonical store has no place for may be settled among the others.
    if row.fields.len() != mapping.fields.len() || mapping.fields.len() != view.entity.fields.len() {
        return None;
    }
    row.fields.iter().map(|(field, cell)| Some((*field, cell.value()?.clone()))).collect()
}

/// The fields by which it is told whether a record that all stores hold alike needs anything at all.
pub(crate) fn telling_fields(entity: &Entity) -> BTreeSet<FieldId> {
    let mut fields = BTreeSet::new();
    for id in entity.field_ids() {
        let field = entity.field(id);
        if field.required || field.derive.is_some() || !field.checks.is_empty() {
            fields.insert(id);
        }
        let args = field.derive.iter().flat_map(|derive| &derive.args);
        fields.extend(args.filter_map(|arg| if let FieldRef::Field(of) = arg { Some(*of) } else { None }));
        fields.extend(entity.field_ids().filter(|of| named_in_pattern(entity, id, *of)));
    }
    fields
}

/// Whether a record that all stores hold alike, and nobody remembers, is in order: what is known of it follows from having seen it.
/// The row has at least the fields that tell, and every field that might be unreadable.
pub(crate) fn is_in_order(entity: &Entity, canonical: &Mapping, row: &Row) -> bool {
    let quiet =
        row.meta.sync_errors.is_empty() && matches!(row.meta.sync_status, None | Some(SyncStatus::Synced));
    if canonical.has_bookkeeping() && !quiet {
        return false;
    }
    let fields: Option<Fields<Value>> =
        row.fields.iter().map(|(field, cell)| Some((*field, cell.value()?.clone()))).collect();
    let Some(fields) = fields else { return false };
    let lookup = |field| match field {
        FieldRef::Key(part) => {
            row.key.parts().get(part).map_or(Value::Null, |text| Value::text(text.as_str()))
        }
        FieldRef::Field(id) => fields.get(&id).cloned().unwrap_or_default(),
    };
    !breaks_a_rule(entity, &fields, &lookup) && !derives(entity, &fields, &lookup)
}

fn breaks_a_rule(entity: &Entity, fields: &Fields<Value>, lookup: &dyn Fn(FieldRef) -> Value) -> bool {
    fields.iter().any(|(field, value)| {
        let declared = entity.field(*field);
        if declared.checks.is_empty() && !declared.required {
            return !declared.ty.admits(value);
        }
        !violations(entity, *field, &Cell::Value(value.clone()), lookup).is_empty()
    })
}

/// Whether a derived field is empty and would not be.
fn derives(entity: &Entity, fields: &Fields<Value>, lookup: &dyn Fn(FieldRef) -> Value) -> bool {
    fields.iter().filter(|(_, value)| value.is_null()).any(|(field, _)| {
        let derive = entity.field(*field).derive.as_ref();
        derive.is_some_and(|derive| !derive.compute(lookup, entity.default_region.as_deref()).is_null())
    })
}

fn plain(
    view: &View<'_>,
    side: &Side<'_>,
    canonical: &Row,
    fields: &Fields<Value>,
    own: Plain,
    version: Version,
) -> Option<Plain> {
    match (side.presence, side.shadow) {
        (Presence::Present(row), _) if row.unlinked && side.mapping.embedded().is_none() => None,
        (Presence::Absent, None) => Some(Plain::Lacks),
        (Presence::Present(row), None) => {
            let behind = side.mapping.has_sync() && row.meta.version_or_none() < version;
            let equal = || {
                row.fields.len() == side.mapping.fields.len()
                    && row.fields.iter().all(|(field, cell)| cell.value() == fields.get(field))
            };
            (own == Plain::Met && !behind && equal() && is_here(view, side, fields)).then_some(Plain::Met)
        }
        (Presence::Present(row), Some(_)) => {
            let steady = own == Plain::Steady && is_steady(view, side, row, canonical, version);
            (steady && is_here(view, side, fields)).then_some(Plain::Steady)
        }
        (Presence::Absent, Some(_)) | (Presence::Unknown(_), _) => None,
    }
}

fn is_here(view: &View<'_>, side: &Side<'_>, fields: &Fields<Value>) -> bool {
    super::belongs_with(view, fields, side)
}

/// Whether a store holds exactly what its shadow says, and that is what a look at it would remember again.
fn is_steady(view: &View<'_>, side: &Side<'_>, row: &Row, canonical: &Row, version: Version) -> bool {
    let Some(shadow) = side.shadow.filter(|shadow| shadow.present) else { return false };
    let same_meta = if side.mapping.has_sync() {
        row.meta.same_evidence(&shadow.meta)
    } else {
        shadow.meta.version_or_none() == version
    };
    same_meta
        && (side.canonical || !side.mapping.has_sync() || row.meta.version_or_none() >= version)
        && shadow.updated == row.updated
        && shadow.home == Some(side.mapping.home)
        && shadow.store_id == row.store_id
        && row.fields.len() == side.mapping.fields.len()
        && shadow.fields.len() == row.fields.len()
        && row
            .fields
            .iter()
            .all(|(field, cell)| holds_its_own(view, side, shadow, *field, cell, canonical, version))
}

fn holds_its_own(
    view: &View<'_>,
    side: &Side<'_>,
    shadow: &Shadow,
    field: FieldId,
    cell: &Cell,
    canonical: &Row,
    version: Version,
) -> bool {
    let Some(known) = view.entity.named(&shadow.fields, field) else { return false };
    let Some(mapped) = side.mapping.fields.get(&field) else { return false };
    if known.unsure || known.tag != mapped.tag || known.held != *cell {
        return false;
    }
    if side.canonical {
        return known.stands_for.is_none();
    }
    let Some(desired) = canonical.fields.get_near(field.index(), &field).and_then(Cell::value) else {
        return false;
    };
    known.version == version
        && match &known.stands_for {
            None => cell.value() == Some(desired),
            Some(stands_for) => **stands_for == *desired && cell.value() != Some(desired),
        }
}

fn idle(view: &View<'_>, side: &Side<'_>, plain: Plain, version: Version) -> SidePlan {
    let adopt = (plain == Plain::Met)
        .then(|| side.row().map(|row| shadows::agreed(view, side, row, version)))
        .flatten();
    SidePlan { adopt, ..SidePlan::idle(side.store, Standing::InSync) }
}

/// A value met in a replica counts as one that the replica says, where other records are concerned: references and values that
/// only one record may have.
fn note_relations(view: &View<'_>, side: &Side<'_>, resolution: &mut Resolution) {
    use crate::model::FieldRef;
    let Some(row) = side.row() else { return };
    let references = view.entity.references.iter().filter_map(|reference| match reference.from {
        FieldRef::Field(field) => Some(field),
        FieldRef::Key(_) => None,
    });
    let unique = view.entity.field_ids().filter(|field| view.entity.field(*field).unique);
    for field in references.chain(unique) {
        let says = side.mapping.fields.get(&field).is_some_and(|mapped| mapped.direction.reads())
            && row.fields.get(&field).and_then(Cell::value).is_some_and(|value| !value.is_null());
        if says {
            resolution.ends.entry(side.store.clone()).or_default().insert(field, ClaimEnd::Won);
        }
    }
}

/// Whether the long way says the same, as far as it matters to anybody.
#[cfg(debug_assertions)]
pub(crate) fn same(
    view: &View<'_>,
    (resolution, plains): (&Resolution, &Plains),
    (long, sides): (&Resolution, &[SidePlan]),
) -> bool {
    let told = |resolution: &Resolution| Resolution {
        ends: std::collections::BTreeMap::new(),
        origins: Fields::new(),
        ..resolution.clone()
    };
    let outlines: Vec<Outline> = sides.iter().map(Outline::from).collect();
    told(resolution) == told(long)
        && plains.plans(view, resolution) == sides
        && plains.outlines(view, resolution) == outlines
}
