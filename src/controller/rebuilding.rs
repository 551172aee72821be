//! How far a rebuild got. A state that was lost or stale remembers nothing, and every record meets for the first time. Until each of them
//! did, what is not remembered may have been forgotten, and is treated with that in mind.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::Standing;
use crate::model::{EntityName, StoreName};
use crate::plan::{Books, Plan};
use crate::reconcile::Report;

use super::{Engine, EngineError};

/// Notes by entity and store: a state has none of them but while it is rebuilt.
const REBUILDING: &str = "rebuilding";

/// Where a record stands that a pass did not bring to its end.
const UNREACHED: [Standing; 5] =
    [Standing::Pending, Standing::Skipped, Standing::Failed, Standing::Paused, Standing::Unknown];

impl Engine {
    /// The entities in stores that a rebuild did not reach all records of.
    pub(super) async fn rebuilding(&self) -> Result<BTreeSet<(EntityName, StoreName)>, EngineError> {
        let notes = self.state.notes(REBUILDING).await?;
        Ok(self.spec_places().filter(|place| notes.contains_key(&key(place))).collect())
    }

    /// Takes note of it before anything is forgotten: whatever ends the pass, the next one knows.
    pub(super) async fn begin_rebuilding(&self) -> Result<(), EngineError> {
        let notes = self.spec_places().map(|place| (key(&place), Some(String::new()))).collect();
        Ok(self.state.note(REBUILDING, &notes).await?)
    }

    /// Ends it wherever a pass over everything reached every record.
    pub(super) async fn end_rebuilding(&self, plan: &Plan, report: &Report) -> Result<(), EngineError> {
        // A pass that had nothing to write announced nothing either: the state is as lost as it was.
        let whole = plan.targets.is_empty() && !report.stopped;
        if !whole || (plan.rebuild && report.pass.is_none()) {
            return Ok(());
        }
        let notes = self.state.notes(REBUILDING).await?;
        let left: BTreeSet<String> = self
            .spec_places()
            .filter(|place| !reached(plan, report, place))
            .map(|place| key(&place))
            .collect();
        let over: BTreeMap<String, Option<String>> =
            notes.into_keys().filter(|key| !left.contains(key)).map(|key| (key, None)).collect();
        if !over.is_empty() {
            self.state.note(REBUILDING, &over).await?;
        }
        Ok(())
    }

    fn spec_places(&self) -> impl Iterator<Item = (EntityName, StoreName)> + '_ {
        let places = |(entity, stores): (&EntityName, &BTreeMap<StoreName, _>)| {
            stores.keys().map(|store| (entity.clone(), store.clone())).collect::<Vec<_>>()
        };
        self.spec.mappings.iter().flat_map(places)
    }
}

fn key((entity, store): &(EntityName, StoreName)) -> String {
    format!("{store}.{entity}")
}

/// Whether a pass over everything saw an entity in a store whole, and brought what it was to do there to its end.
fn reached(plan: &Plan, report: &Report, (entity, store): &(EntityName, StoreName)) -> bool {
    let snapshot = plan.snapshots.get(entity).and_then(|stores| stores.get(store));
    let seen = snapshot.is_some_and(|snapshot| {
        snapshot.certificate.as_ref().is_some_and(crate::model::Certificate::is_whole)
    });
    let refused = report.guards.iter().any(|trip| trip.entity == *entity);
    let books = report.books.get(entity).and_then(|stores| stores.get(store));
    let done = |books: &Books| UNREACHED.iter().all(|standing| !books.standing.contains_key(standing));
    seen && !refused && books.is_none_or(done)
}
