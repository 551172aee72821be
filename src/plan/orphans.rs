//! Conflicts about what no manifest names any more: nobody can settle them, so they end.

use std::sync::Arc;

use crate::resolve::{Conflict, ConflictStatus};
use crate::spec::Spec;

use super::inputs::PlanInputs;

/// Who ended them, as it is on record.
const BY: &str = "manifests that no longer name it";

/// Whether the manifests no longer name the entity of a conflict, or one of its fields.
pub fn is_orphan(spec: &Spec, conflict: &Conflict) -> bool {
    let name = &conflict.record.entity;
    let (Some(entity), Some(mapping)) = (spec.entity(name), spec.mapping(name, &spec.canonical)) else {
        return true;
    };
    let named = |field| entity.field_id(field).is_some_and(|id| mapping.fields.contains_key(&id));
    !conflict.fields.iter().all(named)
}

/// Takes them out of what a plan is made with, and gives them as they stand afterwards. Where nothing may be written, they stay.
pub(super) fn take(inputs: &mut PlanInputs) -> Vec<Conflict> {
    let (spec, holds, now) = (&inputs.spec, &inputs.orders.holds, inputs.now);
    let mut ended = Vec::new();
    if !inputs.conflicts.values().flatten().any(|conflict| is_orphan(spec, conflict)) {
        return ended;
    }
    let conflicts = Arc::make_mut(&mut inputs.conflicts);
    for (record, conflicts) in &mut *conflicts {
        if holds.has(record, &spec.canonical) {
            continue;
        }
        conflicts.retain(|conflict| {
            let orphan = is_orphan(spec, conflict);
            if orphan {
                ended.push(conflict.ended(ConflictStatus::Withdrawn, None, BY, now));
            }
            !orphan
        });
    }
    conflicts.retain(|_, conflicts| !conflicts.is_empty());
    ended
}
