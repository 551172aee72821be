//! Where the stores stand, from one pass to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{EntityName, Marks, RecordKey, StoreName, Transition};
use crate::reconcile::Report;
use crate::store::Store;

use super::{Engine, EngineError, MOST_UNSETTLED};

impl Engine {
    fn opened(&self, store: &StoreName) -> Option<&Arc<dyn Store>> {
        self.stores.get(store)?.as_ref().ok()
    }

    /// Makes what is known of entities that were written to say nothing of the rows in question. Where the pass ends well this is
    /// replaced by where the stores stand now; else the next pass begins from here.
    pub(super) async fn doubt_marks(&self, entities: &[EntityName]) -> Result<(), EngineError> {
        let mut doubted = Vec::new();
        for entity in entities {
            let Some(known) = self.state.marks(entity).await? else { continue };
            let mut marks = known.clone();
            for (store, mark) in &mut marks.stores {
                if let (Some(mapped), Some(opened)) = (self.spec.mapped(entity, store), self.opened(store)) {
                    mark.mark = opened.doubt(&mapped, mark.mark.clone());
                }
            }
            if marks != known {
                doubted.push((entity.clone(), Some(marks)));
            }
        }
        if !doubted.is_empty() {
            let transition = Transition { marks: doubted, ..Transition::default() };
            self.state.commit(&transition).await?;
        }
        Ok(())
    }

    /// Notes where the stores stand, with what was just written, so that the next pass reads only what changes from now on. Entities in
    /// which something went wrong in a way that cannot be noted by record are left: the next pass reads as much as this one did.
    pub(super) async fn keep_marks(
        &self,
        marks: BTreeMap<EntityName, Marks>,
        mut unsettled: BTreeMap<EntityName, BTreeSet<RecordKey>>,
        report: &Report,
    ) -> Result<(), EngineError> {
        if report.stopped || report.rows.more || !report.unknown.is_empty() {
            return Ok(());
        }
        for trouble in report.failed.iter().chain(&report.skipped) {
            unsettled.entry(trouble.record.entity.clone()).or_default().insert(trouble.record.key.clone());
        }
        let mut kept = Vec::new();
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
                if let (Some(mapped), Some(opened)) = (self.spec.mapped(&entity, store), self.opened(store)) {
                    mark.mark = opened.doubt(&mapped, opened.seal(&mapped, mark.mark.clone()));
                }
            }
            kept.push((entity, Some(marks)));
        }
        if !kept.is_empty() {
            self.state.commit(&Transition { marks: kept, ..Transition::default() }).await?;
        }
        Ok(())
    }
}
