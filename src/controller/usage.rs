//! What stores cost that count calls or bill by bytes: told while the work goes on, for some of it is waiting, and of a plan before it.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tracing::debug;

use crate::model::{EntityName, StoreName};
use crate::plan::Plan;
use crate::store::Usage;
use crate::telemetry::{Event, Observer};

use super::Engine;

/// How often it is told: often enough for a line of progress.
const EVERY: Duration = Duration::from_millis(500);

/// What was told already.
pub(super) type Told = Mutex<BTreeMap<StoreName, Usage>>;

impl Engine {
    /// Does some work, and tells meanwhile and in the end what calls it took.
    pub(super) async fn counting<T>(&self, observer: &dyn Observer, work: impl Future<Output = T>) -> T {
        if self.used().next().is_none() {
            return work.await;
        }
        let mut work = pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.tell_usage(observer);
                    return done;
                }
                () = tokio::time::sleep(EVERY) => self.tell_usage(observer),
            }
        }
    }

    /// What a batch of the writes of a plan is billed for, by entity and store. A store that does not say leaves the cost unsaid.
    pub(super) async fn bills(&self, plan: &Plan) -> BTreeMap<EntityName, BTreeMap<StoreName, u64>> {
        let mut bills: BTreeMap<EntityName, BTreeMap<StoreName, u64>> = BTreeMap::new();
        for (entity, sums) in plan.records.sums() {
            let stores: BTreeSet<&StoreName> = sums.shapes.keys().map(|shape| &shape.store).collect();
            for name in stores {
                let opened = self.stores.get(name).and_then(|store| store.as_ref().ok());
                let mapped = self.spec.mapped(entity, name);
                let (Some(store), Some(mapped)) = (opened, mapped) else { continue };
                match store.bill(&mapped).await {
                    Ok(Some(bytes)) => {
                        bills.entry(entity.clone()).or_default().insert(name.clone(), bytes);
                    }
                    Ok(None) => {}
                    Err(error) => debug!(store = %name, %entity, "what writing costs is not known: {error}"),
                }
            }
        }
        bills
    }

    /// What the stores have cost so far that count calls.
    fn used(&self) -> impl Iterator<Item = (&StoreName, Usage)> {
        self.stores.iter().filter_map(|(name, store)| Some((name, store.as_ref().ok()?.usage()?)))
    }

    fn tell_usage(&self, observer: &dyn Observer) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (store, now) in self.used() {
            let before = told.insert(store.clone(), now).unwrap_or_default();
            let calls = now.calls.saturating_sub(before.calls);
            let waited_ms = now.waited_ms.saturating_sub(before.waited_ms);
            let billed_bytes = now.billed_bytes.saturating_sub(before.billed_bytes);
            if calls > 0 || waited_ms > 0 || billed_bytes > 0 {
                observer.notice(&Event::Called { store, calls, waited_ms, billed_bytes });
            }
        }
    }
}
