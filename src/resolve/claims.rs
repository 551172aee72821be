//! Who says what of a unit: the changes that stores made, and what they had seen when they made them.

use std::collections::BTreeSet;

use crate::model::{Cell, Entity, FieldId, FieldShadow, Fields, Json, Unit, Value, Version};

use super::{Evidence, Side, View};

/// How a side comes to say something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It holds something else than its shadow.
    Edit,
    /// It is met for the first time.
    Meeting,
    /// The canonical value, which nobody changed there.
    Standing,
}

/// What one side says of a unit.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    /// Its place among the view's sides.
    pub side: usize,
    /// How it comes to say it.
    pub kind: Kind,
    /// The values of the unit's fields, as the side would have them.
    pub values: Fields<Value>,
    /// The fields that it changed or that are met.
    pub changed: BTreeSet<FieldId>,
    /// Changed fields that hold no value of their type.
    pub unreadable: Fields<Cell>,
    /// What speaks for the values.
    pub evidence: Evidence,
    /// Whether the side had seen the canonical value when it changed it.
    pub has_seen: bool,
    /// For a changed JSON field: the value that the change started from, and the value it led to, as held there.
    pub json: Option<(Json, Json)>,
}

/// The unit in the canonical store.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// Its values; null where nothing is known.
    pub values: Fields<Value>,
    /// The canonical store's own claim; none where it does not hold the record.
    pub claim: Option<Claim>,
    /// Whether a field cannot be told: its column is gone.
    pub unknown: bool,
}

/// A field's shadow in a side, if it is of the present mapping and the record was there.
pub(super) fn field_shadow<'a>(entity: &Entity, side: &Side<'a>, field: FieldId) -> Option<&'a FieldShadow> {
    let mapped = side.mapping.fields.get(&field)?;
    side.shadow.filter(|shadow| shadow.present)?.known(entity, mapped)
}

/// Whether a cell is what the shadow says.
pub(super) fn unchanged(shadow: &FieldShadow, cell: &Cell) -> bool {
    !shadow.unsure && shadow.held == *cell
}

/// The unit as the canonical store has it.
pub(super) fn standing(view: &View<'_>, unit: &Unit) -> Standing {
    let side = view.canonical();
    let entity = view.entity;
    let mut values = Fields::new();
    let mut unreadable = Fields::new();
    let mut edited = BTreeSet::new();
    let mut met = BTreeSet::new();
    let mut unknown = false;
    let mut seen = Version::NONE;
    let mut json = None;
    for &field in &unit.fields {
        let shadow = field_shadow(entity, side, field);
        let remembered = || shadow.and_then(FieldShadow::canonical).cloned().unwrap_or_default();
        let Some(row) = side.row() else {
            let known = || elsewhere(view, field).cloned().unwrap_or_default();
            values.insert(field, if shadow.is_some() { remembered() } else { known() });
            continue;
        };
        let Some(cell) = row.fields.get(&field) else {
            unknown = true;
            values.insert(field, remembered());
            continue;
        };
        match shadow {
            None => {
                met.insert(field);
            }
            Some(shadow) if !unchanged(shadow, cell) => {
                edited.insert(field);
                seen = seen.max(shadow.version);
                json = json_change(shadow, cell);
            }
            Some(_) => {}
        }
        match cell {
            Cell::Value(value) => values.insert(field, value.clone()),
            Cell::Unreadable(_) => {
                // What nobody could read is nobody's to write over, not even at a first meeting.
                if edited.contains(&field) || met.contains(&field) {
                    unreadable.insert(field, cell.clone());
                }
                values.insert(field, remembered())
            }
        };
    }
    let claim = side.row().map(|_| {
        let (kind, evidence) = if !edited.is_empty() {
            (Kind::Edit, Evidence::of_edit(side, seen, view.now))
        } else if !met.is_empty() {
            (Kind::Meeting, Evidence::of_row(side, view.now))
        } else {
            (Kind::Standing, Evidence { carried: true, ..Evidence::of_row(side, view.now) })
        };
        let changed = edited.union(&met).copied().collect();
        Claim { side: 0, kind, values: values.clone(), changed, unreadable, evidence, has_seen: true, json }
    });
    Standing { values, claim, unknown }
}

/// What the replicas were last brought up to, of what the canonical store has forgotten: a record that comes back from one of them comes
/// back whole.
pub(super) fn elsewhere<'v>(view: &'v View<'_>, field: FieldId) -> Option<&'v Value> {
    let replicas = view.sides.iter().skip(1).filter(|side| side.row().is_some());
    let known = replicas.filter_map(|side| field_shadow(view.entity, side, field));
    known.filter(|shadow| !shadow.unsure).max_by_key(|shadow| shadow.version)?.canonical()
}

/// What a replica says of a unit; none when it says nothing.
pub(super) fn claim(view: &View<'_>, unit: &Unit, at: usize, standing: &Standing) -> Option<Claim> {
    let side = &view.sides[at];
    let row = side.row()?;
    let entity = view.entity;
    let canonical_meets = standing.claim.as_ref().is_some_and(|claim| claim.kind == Kind::Meeting);
    let mut claim = Claim {
        side: at,
        kind: Kind::Meeting,
        values: Fields::new(),
        changed: BTreeSet::new(),
        unreadable: Fields::new(),
        evidence: Evidence::of_row(side, view.now),
        has_seen: true,
        json: None,
    };
    let mut seen = Version::NONE;
    for &field in &unit.fields {
        let canonical = standing.values.get(&field).cloned().unwrap_or_default();
        let mapped = side.mapping.fields.get(&field).filter(|mapped| mapped.direction.reads());
        let (Some(mapped), Some(cell)) = (mapped, row.fields.get(&field)) else {
            claim.values.insert(field, canonical);
            continue;
        };
        let shadow = field_shadow(entity, side, field);
        let stands = shadow.filter(|shadow| unchanged(shadow, cell));
        if stands.is_some() && !mapped.direction.writes() && !canonical_meets {
            // What a store is never given it has not kept, and who changes another field of the group there does not mean it.
            claim.values.insert(field, canonical);
            continue;
        }
        claim.has_seen &= shadow.is_some_and(|shadow| has_seen(view, field, shadow, &canonical));
        if let Some(shadow) = stands {
            // A meeting field of the canonical store meets everywhere: what this store holds fills it.
            if canonical_meets && shadow.canonical().is_some_and(|value| !value.is_null()) {
                claim.changed.insert(field);
            }
            claim.values.insert(field, shadow.canonical().cloned().unwrap_or_default());
            continue;
        }
        claim.changed.insert(field);
        if let Some(shadow) = shadow {
            claim.kind = Kind::Edit;
            seen = seen.max(shadow.version);
            claim.json = json_change(shadow, cell);
        }
        match cell {
            Cell::Unreadable(_) => {
                claim.unreadable.insert(field, cell.clone());
                claim.values.insert(field, canonical);
            }
            Cell::Value(value) => {
                let held = view.held_as(side, mapped, &canonical);
                // Of values that are equal as far as this store can hold them, the canonical one is the richer.
                let same =
                    held.as_ref() == Ok(value) || side.mapping.means_the_same(row, field, value, &canonical);
                let value = if same { canonical } else { value.clone() };
                claim.values.insert(field, value);
            }
        }
    }
    if claim.changed.is_empty() {
        return None;
    }
    if claim.kind == Kind::Edit {
        claim.evidence = Evidence::of_edit(side, seen, view.now);
        claim.rebase_json(standing);
        return Some(claim);
    }
    claim.has_seen = false;
    let says_something =
        claim.changed.iter().any(|field| claim.values.get(field).is_some_and(|value| !value.is_null()));
    (says_something || !claim.unreadable.is_empty()).then_some(claim)
}

impl Claim {
    /// A store that had seen the canonical JSON value and changed parts of it means those parts: its other parts may be
    /// only what it can hold.
    fn rebase_json(&mut self, standing: &Standing) {
        let Some((from, to)) = self.json.as_ref().filter(|_| self.has_seen && self.values.len() == 1) else {
            return;
        };
        let patch = to.changes_since(from);
        for (field, value) in &mut self.values {
            if let (Value::Json(_), Some(Value::Json(base))) = (&*value, standing.values.get(field)) {
                *value = Value::Json(patch.apply_to(base));
            }
        }
    }
}

/// Whether a replica had seen the canonical value that stands now: its shadow has that value, and the field has not changed
/// in the canonical store since the shadow's version.
fn has_seen(view: &View<'_>, field: FieldId, shadow: &FieldShadow, canonical: &Value) -> bool {
    let side = view.canonical();
    let Some(ours) = field_shadow(view.entity, side, field) else { return false };
    let current = side.row().and_then(|row| row.fields.get(&field)).is_none_or(|cell| unchanged(ours, cell));
    current && ours.version <= shadow.version && shadow.canonical() == Some(canonical)
}

fn json_change(shadow: &FieldShadow, cell: &Cell) -> Option<(Json, Json)> {
    match (&shadow.held, cell) {
        (Cell::Value(Value::Json(from)), Cell::Value(Value::Json(to))) if !shadow.unsure => {
            Some((from.clone(), to.clone()))
        }
        _ => None,
    }
}
