//! Elements that will be made in records that are being made: a store that can makes both at once.

use std::collections::BTreeMap;

use crate::diff::ActionKind;
use crate::model::{Along, EntityName, RecordKey, StoreName, WriteOp};
use crate::plan::RecordPlan;

use super::Applying;

impl Applying {
    /// The elements that will be made in some records of an entity in a store.
    pub(super) fn elements_of(
        &mut self,
        entity: &EntityName,
        store: &StoreName,
        records: &[RecordKey],
    ) -> Vec<Along> {
        let place = (entity.clone(), store.clone());
        if !self.along.contains_key(&place) {
            let found = self.look_for_elements(entity, store);
            self.along.insert(place.clone(), found);
        }
        let known = self.along.get_mut(&place);
        known
            .into_iter()
            .flat_map(|known| records.iter().filter_map(|key| known.remove(key)))
            .flatten()
            .collect()
    }

    fn look_for_elements(&self, entity: &EntityName, store: &StoreName) -> BTreeMap<RecordKey, Vec<Along>> {
        let mut found: BTreeMap<RecordKey, Vec<Along>> = BTreeMap::new();
        for child in &self.inputs.spec.entities {
            let inside = self.inputs.spec.mapping(&child.name, store).and_then(|mapping| mapping.embedded());
            if inside.is_none_or(|embedded| embedded.parent != *entity) {
                continue;
            }
            for record in self.plan.records.at(self.plan.records.of_entity(&child.name)) {
                if let Some(along) = self.element(&record, store) {
                    found.entry(along.parent.clone()).or_default().push(along);
                }
            }
        }
        found
    }

    /// A record as an element that will be made, where the canonical store has it as it will be.
    fn element(&self, record: &RecordPlan, store: &StoreName) -> Option<Along> {
        let entity = self.inputs.spec.entity(&record.record.entity)?;
        let embedded = self.inputs.spec.mapping(&entity.name, store)?.embedded()?;
        let action = record.actions.iter().find(|action| action.store == *store)?;
        let telling = [embedded.reference, embedded.kind, embedded.value];
        let settled = record.conflicts.is_empty()
            && !self.inputs.holds.cover(&record.record, store)
            && record.actions.iter().filter(|action| action.store == self.inputs.spec.canonical).all(
                |action| {
                    let tells = |name| entity.field_id(name).is_some_and(|id| telling.contains(&id));
                    action.kind != ActionKind::Create
                        && !action.changes.iter().any(|change| tells(&change.field))
                },
            );
        if !settled {
            return None;
        }
        let WriteOp::Create { fields, .. } = self.operation(&record.record, action) else { return None };
        let parent = fields.get(&embedded.reference)?.to_key()?;
        Some(Along { entity: entity.name.clone(), parent, fields })
    }
}
