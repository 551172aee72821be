//! What a plan costs: rows and batches; where a store counts calls, about how many of them and how long those take; where it bills by
//! bytes, how many.

use std::collections::{BTreeMap, BTreeSet};

use crate::diff::ActionKind;
use crate::model::{EntityName, StoreName};

use super::Plan;

/// Writes a batch where the manifests do not say and calls are counted.
const USUAL_BATCH: u64 = 60;

/// Writes a batch where the manifests do not say and bytes are billed.
const USUAL_BILLED_BATCH: u64 = 1_000;

/// Records that a store whose calls are counted is looked at for before they are changed, at least.
const LOOK_AT_LEAST: u64 = 5;

/// What stores allow, as far as it is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rates {
    /// How many writes of each store go into a batch.
    pub batch_sizes: BTreeMap<StoreName, usize>,
    /// The stores that count calls, and how many they let in a minute.
    pub calls_per_minute: BTreeMap<StoreName, u32>,
    /// The entities whose records stand inside another one's in a store, with that one.
    pub inside: BTreeMap<(StoreName, EntityName), EntityName>,
}

impl Rates {
    /// As the manifests say.
    pub fn of(spec: &crate::spec::Spec) -> Self {
        let stores = || spec.stores.iter();
        Self {
            batch_sizes: stores()
                .filter_map(|(name, store)| Some((name.clone(), store.batch_size?)))
                .collect(),
            calls_per_minute: stores()
                .filter_map(|(name, store)| Some((name.clone(), store.kind.calls_per_minute()?)))
                .collect(),
            inside: spec
                .mappings
                .iter()
                .flat_map(|(entity, stores)| {
                    stores.iter().map(move |(store, mapping)| (entity, store, mapping))
                })
                .filter_map(|(entity, store, mapping)| {
                    Some(((store.clone(), entity.clone()), mapping.embedded()?.parent.clone()))
                })
                .collect(),
        }
    }
}

/// What a plan costs in one store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Rows written.
    pub rows: u64,
    /// Batches that they go out in; none: the store's batch size is not known.
    pub batches: Option<u64>,
    /// About how many calls the writes take, where calls are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<u64>,
    /// How many seconds of waiting for the store's limit that means, when it begins with a minute's calls saved up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u64>,
    /// How many bytes the writes are billed for, where a store bills by bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billed_bytes: Option<u64>,
}

/// The cost by store. A batch holds writes of one entity, and deletes go apart, in the opposite order.
pub fn cost(plan: &Plan, rates: &Rates) -> BTreeMap<StoreName, Cost> {
    let mut runs: BTreeMap<(&StoreName, &EntityName, bool), (u64, u64)> = BTreeMap::new();
    for (entity, sums) in plan.records.sums() {
        for (shape, count) in &sums.shapes {
            let delete = shape.kind == ActionKind::Delete;
            let (creates, changes) = runs.entry((&shape.store, entity, delete)).or_default();
            *if shape.kind == ActionKind::Create { creates } else { changes } += count;
        }
    }
    let made: BTreeSet<(&StoreName, &EntityName)> = runs
        .iter()
        .filter(|(_, (creates, _))| *creates > 0)
        .map(|((store, entity, _), _)| (*store, *entity))
        .collect();
    let mut costs: BTreeMap<StoreName, Cost> = BTreeMap::new();
    let mut calls: BTreeMap<StoreName, Calls> = BTreeMap::new();
    for ((store, entity, _), (creates, changes)) in runs {
        let cost = costs.entry(store.clone()).or_default();
        cost.rows += creates + changes;
        let size = rates.batch_sizes.get(store).filter(|size| **size > 0).map(|size| *size as u64);
        if let Some(size) = size {
            *cost.batches.get_or_insert(0) += (creates + changes).div_ceil(size);
        }
        if let Some(bytes) = plan.bills.get(entity).and_then(|bills| bills.get(store)) {
            let batches = (creates + changes).div_ceil(size.unwrap_or(USUAL_BILLED_BATCH));
            *cost.billed_bytes.get_or_insert(0) += batches * bytes;
        }
        if let Some(per_minute) = rates.calls_per_minute.get(store) {
            let calls = calls.entry(store.clone()).or_insert_with(|| Calls::of(*per_minute));
            let batch = size.unwrap_or(USUAL_BATCH);
            match rates.inside.get(&(store.clone(), entity.clone())) {
                None => {
                    calls.create(creates, batch);
                    calls.change(changes, batch);
                }
                // What stands inside a new record is made with it.
                Some(parent) if made.contains(&(store, parent)) => calls.change(changes, batch),
                Some(_) => calls.change(creates + changes, batch),
            }
        }
    }
    for (store, calls) in calls {
        let cost = costs.entry(store).or_default();
        (cost.calls, cost.wait_seconds) = (Some(calls.made), Some(calls.wait_seconds()));
    }
    costs
}

/// Calls, as a store makes them that counts them: what is new goes out a batch at a time after one look, what is changed one by one,
/// after a look at as many as there are calls left for.
struct Calls {
    made: u64,
    per_minute: u64,
}

impl Calls {
    fn of(per_minute: u32) -> Self {
        Self { made: 0, per_minute: u64::from(per_minute.max(1)) }
    }

    fn create(&mut self, records: u64, batch: u64) {
        self.made += 2 * records.div_ceil(batch);
    }

    fn change(&mut self, records: u64, batch: u64) {
        let mut left = records;
        while left > 0 {
            let saved_up = self.per_minute.saturating_sub(self.made + 1);
            let group = saved_up.max(LOOK_AT_LEAST).min(batch).min(left);
            if saved_up == 0 {
                // From here on every look is for as few.
                self.made += left + left.div_ceil(group);
                return;
            }
            self.made += 1 + group;
            left -= group;
        }
    }

    fn wait_seconds(&self) -> u64 {
        (self.made.saturating_sub(self.per_minute) * 60).div_ceil(self.per_minute)
    }
}

#[cfg(test)]
mod tests {
    use super::Calls;

    fn calls(per_minute: u32, creates: u64, changes: u64) -> (u64, u64) {
        let mut calls = Calls::of(per_minute);
        calls.create(creates, 60);
        calls.change(changes, 60);
        (calls.made, calls.wait_seconds())
    }

    #[test]
    fn new_records_are_cheap_and_changes_are_not() {
        assert_eq!(calls(100, 0, 0), (0, 0));
        assert_eq!(calls(100, 537, 0), (18, 0), "nine batches, a look before each");
        assert_eq!(calls(100, 0, 60), (61, 0));
        // Two looks as long as calls are left, then one for every five.
        assert_eq!(calls(100, 0, 98), (100, 0));
        assert_eq!(calls(100, 0, 198), (220, 72));
    }
}
