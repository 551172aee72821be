//! Where the stores stand, from one pass to the next.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{EntityName, Marks, RecordKey, Transition};
use crate::plan::{Lost, Plan};
use crate::reconcile::Report;

use super::{Engine, EngineError, MOST_UNSETTLED};

impl Engine {
    /// Where the stores stand, with what was just written, so that the next pass reads only what changes from now on. Entities in which
    /// something went wrong in a way that cannot be noted by record are left out.
    pub(super) fn new_marks(
        &self,
        marks: BTreeMap<EntityName, Marks>,
        mut unsettled: BTreeMap<EntityName, BTreeSet<RecordKey>>,
        report: &Report,
    ) -> BTreeMap<EntityName, Marks> {
        if report.stopped || report.rows.more || !report.unknown.is_empty() {
            return BTreeMap::new();
        }
        for trouble in report.failed.iter().chain(&report.skipped) {
            unsettled.entry(trouble.record.entity.clone()).or_default().insert(trouble.record.key.clone());
        }
        let mut kept = BTreeMap::new();
        for (entity, mut marks) in marks {
            if report.guards.iter().any(|trip| trip.entity == entity) {
                continue;
            }
            marks.unsettled = unsettled.remove(&entity).unwrap_or_default();
            if marks.unsettled.len() > MOST_UNSETTLED {
                continue;
            }
            for (record, store, by) in report.rows.few.iter().filter(|(record, ..)| record.entity == entity) {
                if let Some(mark) = marks.stores.get_mut(store) {
                    mark.rows.change(&record.key, *by);
                }
            }
            for (store, mark) in &mut marks.stores {
                let opened = self.stores.get(store).and_then(|store| store.as_ref().ok());
                if let (Some(mapped), Some(opened)) = (self.spec.mapped(&entity, store), opened) {
                    mark.mark = opened.seal(&mapped, mark.mark.clone());
                }
            }
            kept.insert(entity, marks);
        }
        kept
    }

    /// Keeps new marks. Of other entities that the plan was about, what it was about is looked at again in any case: the older marks are
    /// from a time before it was remembered as it is now. Where that is too much, everything is read.
    pub(super) async fn keep_marks(
        &self,
        kept: BTreeMap<EntityName, Marks>,
        plan: &Plan,
    ) -> Result<(), EngineError> {
        let mut marks = Vec::new();
        for entity in plan.entities.iter().filter(|entity| !kept.contains_key(*entity)) {
            let records = plan.records.of_entity(entity);
            if records.is_empty() {
                continue;
            }
            let Some(older) = self.state.marks(entity).await? else { continue };
            let few = records.len() + older.unsettled.len() <= MOST_UNSETTLED;
            let keys = records.take_while(|_| few).map(|at| plan.records.id(at).map(|id| id.key));
            // One that cannot be read back is one of which nothing is known.
            let called = keys.collect::<Result<Vec<_>, Lost>>().ok().filter(|_| few);
            marks.push((
                entity.clone(),
                called.map(|called| {
                    let unsettled = older.unsettled.iter().cloned().chain(called).collect();
                    Marks { unsettled, ..older.clone() }
                }),
            ));
        }
        marks.extend(kept.into_iter().map(|(entity, marks)| (entity, Some(marks))));
        if !marks.is_empty() {
            self.state.commit(&Transition { marks, ..Transition::default() }).await?;
        }
        Ok(())
    }
}
