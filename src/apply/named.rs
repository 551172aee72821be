//! Looking at some records only, each read by its key: at most one row a store.
//!
//! Some records cannot be looked at alone: one whose value nobody else may have, one that may take others with it, one that refers to
//! a record nobody knows. That is said instead, and a look at everything that changed follows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{ByStore, Entity, Memory, Presence, RecordId, RecordKey, StoreError, StoreName, Unknown};
use crate::plan::{Observed, Planner, SnapshotReport};
use crate::telemetry::Event;

use super::changed::present;
use super::observe::Sight;

/// What was found of some records of an entity.
struct Found<'k> {
    memories: BTreeMap<RecordKey, Memory>,
    presences: BTreeMap<&'k RecordKey, ByStore<Presence>>,
    /// The stores that could not be read, and why.
    errors: BTreeMap<StoreName, StoreError>,
}

impl Sight<'_> {
    /// One record as every store has it, and the stores that could not be read, each with why.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn one(
        &self,
        entity: &Entity,
        key: &RecordKey,
    ) -> Result<(Observed, BTreeMap<StoreName, StoreError>), String> {
        let mut found = self.find(entity, std::slice::from_ref(key)).await?;
        let memory = if self.opened.rebuild { None } else { found.memories.remove(key) };
        let memory = self.overlaid(entity, key, memory);
        let presences = found.presences.remove(key).unwrap_or_default();
        Ok((Observed { key: key.clone(), memory, presences }, found.errors))
    }

    /// Feeds the planner with these records; false when that is not enough to decide about them.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn feed_named(&self, records: &[RecordId], planner: &mut Planner) -> Result<bool, String> {
        for entity in &self.executor.spec.entities {
            let keys: BTreeSet<RecordKey> = records
                .iter()
                .filter(|record| record.entity == entity.name)
                .map(|record| record.key.clone())
                .collect();
            if !keys.is_empty()
                && !self.feed_keys(entity, &keys.into_iter().collect::<Vec<_>>(), planner).await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a record was deleted once.
    fn is_known(&self, entity: &Entity, key: &RecordKey) -> bool {
        let id = RecordId { entity: entity.name.clone(), key: key.clone() };
        self.opened.ledger.tombstones.contains_key(&id)
    }

    async fn find<'k>(&self, entity: &Entity, keys: &'k [RecordKey]) -> Result<Found<'k>, String> {
        let executor = self.executor;
        let memories = executor.state.recall(entity, keys).await.map_err(|error| error.to_string())?;
        let mut found = Found { memories, presences: BTreeMap::new(), errors: BTreeMap::new() };
        for store in executor.spec.stores_of(&entity.name) {
            let mut rows = match executor.read(&store, &entity.name, keys).await {
                Ok(rows) => rows,
                Err(error) => {
                    executor.tell_failure(&error);
                    found.errors.insert(store.clone(), error);
                    BTreeMap::new()
                }
            };
            let read = rows.values().filter(|presence| presence.row().is_some()).count() as u64;
            executor.observer.notice(&Event::RowsRead { entity: &entity.name, store: &store, rows: read });
            for key in keys {
                let presence = rows.remove(key).unwrap_or(Presence::Unknown(Unknown::Unreachable));
                let presence = self.doubt(entity, key, &store, presence);
                found.presences.entry(key).or_default().insert(store.clone(), presence);
            }
        }
        Ok(found)
    }

    async fn feed_keys(
        &self,
        entity: &Arc<Entity>,
        keys: &[RecordKey],
        planner: &mut Planner,
    ) -> Result<bool, String> {
        let executor = self.executor;
        if self.opened.rebuild || entity.fields.iter().any(|field| field.unique) {
            return Ok(false);
        }
        let stores = executor.spec.stores_of(&entity.name);
        let Found { memories, presences, errors } = self.find(entity, keys).await?;
        // It was deleted just now; or it was before, and a store has it still.
        let goes = presences.iter().any(|(key, stores)| {
            let (memory, known) = (memories.get(*key), self.is_known(entity, key));
            let gone = |store| stores.get(store) == Some(&Presence::Absent);
            let pending = gone(&executor.spec.canonical)
                && (memory.is_some() || known)
                && stores.values().any(|presence| presence.row().is_some());
            pending || stores.keys().any(|store| gone(store) && present(memory, store))
        });
        if goes && executor.spec.is_hung_on(&entity.name) {
            return Ok(false);
        }
        if !self.note_parents(entity, &presences, planner).await?.is_empty() {
            return Ok(false);
        }
        // The guards are set against everything that there is.
        let marks = executor.state.marks(&entity.name).await.map_err(|error| error.to_string())?;
        for (store, mark) in marks.iter().flat_map(|marks| &marks.stores) {
            let known = keys.iter().filter(|key| present(memories.get(*key), store)).count() as u64;
            planner.add_settled(&entity.name, store, mark.rows.total().saturating_sub(known));
        }
        for (key, presences) in presences {
            // Somebody hinted at a record that nobody has or had.
            let nowhere = presences.values().all(|presence| *presence == Presence::Absent);
            if nowhere && !memories.contains_key(key) {
                continue;
            }
            let memory = self.overlaid(entity, key, memories.get(key).cloned());
            planner.add(entity, Observed { key: key.clone(), memory, presences });
        }
        let report = |store: &StoreName| SnapshotReport {
            error: errors.get(store).map(ToString::to_string),
            ..SnapshotReport::default()
        };
        planner.end_entity(entity, stores.iter().map(|store| (store.clone(), report(store))).collect());
        Ok(true)
    }
}
