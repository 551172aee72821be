//! Fields that are computed from others.

use crate::model::{Cell, Derive, FieldId, FieldRef, FieldShadow, Fields, Recompute, Value};

use super::validate::rules_of;
use super::{ClaimEnd, Origin, OriginRule, Rejection, Resolution, Side, View, claims};

/// What the canonical store has now; null where it has nothing.
pub(super) fn standing_value(view: &View<'_>, field: FieldId) -> Value {
    view.canonical()
        .row()
        .and_then(|row| row.fields.get(&field))
        .and_then(Cell::value)
        .cloned()
        .unwrap_or_default()
}

/// What all were last known to agree on: what the canonical store has may be a change that was just made there.
pub(super) fn agreed_value(view: &View<'_>, field: FieldId) -> Value {
    let canonical = view.canonical();
    let agreed = canonical.row().and_then(|_| claims::field_shadow(view.entity, canonical, field));
    let agreed = agreed.filter(|shadow| !shadow.unsure).and_then(FieldShadow::canonical).cloned();
    agreed.unwrap_or_else(|| standing_value(view, field))
}

/// Whether a field that nobody remembers is what follows from a source that lost at a first meeting: whoever changed the source, in the
/// canonical store for one, left it as it was.
fn follows_from_a_loser(view: &View<'_>, resolution: &Resolution, derive: &Derive, current: &Value) -> bool {
    let lost = |side: &Side<'_>| {
        derive.args.iter().any(|arg| {
            matches!(arg, FieldRef::Field(source) if resolution.end(side.store, *source) == Some(ClaimEnd::Lost)
                && claims::field_shadow(view.entity, view.canonical(), *source).is_none())
        })
    };
    view.sides.iter().filter(|side| lost(side)).filter_map(Side::row).any(|row| {
        let values: Fields<Value> =
            row.fields.iter().filter_map(|(field, cell)| Some((*field, cell.value()?.clone()))).collect();
        derive.compute(view.lookup(&values), view.entity.default_region.as_deref()) == *current
    })
}

/// Computes derived fields: those that are empty, and those whose source changed, unless somebody set them in the same
/// breath. Who says what stood there anyway sets nothing.
pub(super) fn derive(view: &View<'_>, resolution: &mut Resolution) {
    let is_new = view.canonical().row().is_none();
    // A derived field may be another one's source: the manifest allows no cycles, so a few rounds reach all.
    for _ in 0..view.entity.fields.len() {
        let mut moved = false;
        for id in view.entity.field_ids() {
            let Some(derive) = &view.entity.field(id).derive else { continue };
            if resolution.held.contains(&id) || !resolution.fields.contains_key(&id) {
                continue;
            }
            let current = &resolution.fields[&id];
            let stood = !current.is_null();
            let somebody = resolution.ends.values().any(|ends| ends.get(&id) == Some(&ClaimEnd::Won))
                && *current != agreed_value(view, id);
            let moved_before = || follows_from_a_loser(view, resolution, derive, current);
            let source_changed = derive.args.iter().any(|arg| match arg {
                FieldRef::Key(_) => is_new,
                FieldRef::Field(source) => {
                    let now = resolution.fields.get(source).filter(|_| !resolution.held.contains(source));
                    now.is_some_and(|now| *now != agreed_value(view, *source))
                }
            }) || moved_before();
            let compute = match derive.recompute {
                Recompute::Always => current.is_null() || (source_changed && !somebody),
                Recompute::Follow => {
                    let before = |source| match source {
                        FieldRef::Field(source) => agreed_value(view, source),
                        FieldRef::Key(_) => view.lookup(&resolution.fields)(source),
                    };
                    let region = view.entity.default_region.as_deref();
                    current.is_null()
                        || (source_changed
                            && !somebody
                            && (derive.compute(before, region) == *current || moved_before()))
                }
                Recompute::IfEmpty => current.is_null(),
                Recompute::Never => current.is_null() && is_new,
            };
            if !compute {
                continue;
            }
            let value =
                derive.compute(view.lookup(&resolution.fields), view.entity.default_region.as_deref());
            if value == resolution.fields[&id] {
                continue;
            }
            if let Some(rule) = view.overrides.reject.get(&id) {
                // Nobody changed what it follows from, so that it is nobody else's to correct.
                let (store, value) = (view.canonical().store.clone(), Some(Cell::Value(value)));
                let refused = Rejection { store, field: Some(id), rule: *rule, value };
                if !resolution.rejections.contains(&refused) {
                    resolution.rejections.push(refused);
                }
                continue;
            }
            // Nobody said the value: one that breaks a rule is not taken in place of one that keeps it.
            let kept_well = rules_of(view, id, &resolution.fields).is_empty();
            let kept = resolution.fields.insert(id, value).filter(|_| kept_well);
            if let Some(kept) = kept.filter(|_| !rules_of(view, id, &resolution.fields).is_empty()) {
                resolution.fields.insert(id, kept);
                continue;
            }
            resolution.origins.insert(id, Origin { store: None, rule: OriginRule::Derived });
            // What was said all the same stands for itself, not for what follows now.
            let ends = resolution.ends.values_mut().filter_map(|ends| ends.get_mut(&id));
            ends.filter(|end| stood && **end == ClaimEnd::Won).for_each(|end| *end = ClaimEnd::Lost);
            moved = true;
        }
        if !moved {
            break;
        }
    }
}

/// Derives again where changes that something was derived of were taken back. `said` are the values before anything was derived.
pub(super) fn derive_anew(view: &View<'_>, resolution: &mut Resolution, said: &Fields<Value>) {
    let derived = |origin: &Origin| origin.rule == OriginRule::Derived;
    let of: Vec<FieldId> =
        resolution.origins.iter().filter(|(_, origin)| derived(origin)).map(|(field, _)| *field).collect();
    for field in of {
        resolution.origins.remove(&field);
        resolution.fields.insert(field, said.get(&field).cloned().unwrap_or_default());
    }
    derive(view, resolution);
}
