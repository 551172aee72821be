//! What stores lack, and adding it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::model::{FieldId, Mapped, RecordId, RecordKey, StoreError, StoreName, Transition};
use crate::state::Pages;
use crate::store::{MigrationStep, Store};
use crate::telemetry::Silent;

use super::{Engine, EngineError, KeptLease, Migration, Refused};

/// Records whose shadows are looked at together.
const PAGE: usize = 1_000;

/// How long a pass that is under way is waited for.
const PATIENCE_MS: u64 = 30_000;

/// Why a store did not take what it lacks, with what that was, and what to do.
fn unfinished(error: &StoreError, steps: &[MigrationStep]) -> EngineError {
    const NAMED: usize = 3;
    let mut adds: Vec<&str> = steps.iter().take(NAMED).map(|step| step.adds.as_str()).collect();
    let more = format!("{} more", steps.len().saturating_sub(NAMED));
    if steps.len() > NAMED {
        adds.push(&more);
    }
    let hint = error.hint.clone().unwrap_or_else(|| {
        "put that right, or run the statements yourself (`trueup migrate --print`), and run `trueup migrate` again: what was \
         added stays, and only what is missing is added"
            .to_owned()
    });
    let message = format!("store `{}`, adding {}: {}", error.store, adds.join(", "), error.message);
    EngineError::new(message).hint(hint)
}

impl Engine {
    /// What the stores lack. Nothing is added to those that are only read.
    ///
    /// # Errors
    /// When a store cannot be looked at.
    pub async fn migration(&self) -> Result<Migration, EngineError> {
        let (migration, refused) = self.lacking().await;
        refused.into_values().next().map_or(Ok(migration), Err)
    }

    /// What the stores lack, and why those that cannot be looked at cannot be.
    pub async fn lacking(&self) -> (Migration, Refused) {
        let (mut migration, mut refused) = (Migration::new(), Refused::new());
        for (name, store) in &self.stores {
            if self.spec.stores.get(name).is_some_and(|store| store.read_only) {
                continue;
            }
            let steps = match store {
                Ok(store) => store.plan_migration(&self.mapped_in(name)).await,
                Err(error) => Err(error.clone()),
            };
            match steps {
                Ok(steps) if steps.is_empty() => {}
                Ok(steps) => drop(migration.insert(name.clone(), steps)),
                Err(error) => {
                    let hint = "put that right, and run `trueup migrate` again";
                    let hint = error.hint.clone().unwrap_or_else(|| hint.to_owned());
                    refused.insert(name.clone(), EngineError::from(error).hint(hint));
                }
            }
        }
        (migration, refused)
    }

    /// Adds what the stores lack.
    ///
    /// # Errors
    /// When a store or the state refuses; what the other stores were given stays.
    pub async fn migrate(&self, migration: &Migration) -> Result<(), EngineError> {
        self.add(migration).await.into_values().next().map_or(Ok(()), Err)
    }

    /// Adds what the stores lack, and says why those that did not take it did not. Each takes all of it or nothing where it can.
    pub async fn add(&self, migration: &Migration) -> Refused {
        let mut refused = Refused::new();
        for (name, steps) in migration {
            if let Err(error) = self.add_to(name, steps).await {
                refused.insert(name.clone(), error);
            }
        }
        refused
    }

    async fn add_to(&self, name: &StoreName, steps: &[MigrationStep]) -> Result<(), EngineError> {
        let store =
            self.stores.get(name).ok_or_else(|| EngineError::new(format!("there is no store `{name}`")))?;
        let store = store.as_ref().map_err(|error| EngineError::from(error.clone()))?;
        for mapped in self.spec.mapped_in(name) {
            self.forget_missing(name, store, &mapped).await?;
        }
        store.migrate(steps).await.map_err(|error| unfinished(&error, steps))
    }

    /// Forgets what fields held whose column is gone. It will be back, empty, and that must not pass for somebody's clearing it.
    async fn forget_missing(
        &self,
        name: &StoreName,
        store: &Arc<dyn Store>,
        mapped: &Mapped,
    ) -> Result<(), EngineError> {
        let missing = self.missing_fields(name, store, mapped).await?;
        if missing.is_empty() {
            return Ok(());
        }
        let mut lease = None;
        let done = self.forget_fields(name, mapped, &missing, &mut lease).await;
        if let Some(lease) = &lease {
            self.give_lease_up(lease, &Silent).await;
        }
        done
    }

    /// The fields that rows of a store lack: any row tells.
    async fn missing_fields(
        &self,
        name: &StoreName,
        store: &Arc<dyn Store>,
        mapped: &Mapped,
    ) -> Result<BTreeSet<FieldId>, EngineError> {
        let mut pages = Pages::new(self.state.as_ref(), &mapped.entity, PAGE);
        while let Some(page) = pages.next_page().await? {
            let there = page.iter().filter(|(_, memory)| memory.places().contains(name));
            let keys: Vec<RecordKey> = there.map(|(key, _)| key.clone()).collect();
            // A table that is not there, or cannot be read, is for the migration to tell of.
            let Ok(found) = store.read(mapped, &keys).await else { return Ok(BTreeSet::new()) };
            if let Some(row) = found.values().find_map(|presence| presence.row()) {
                // A relation to a record that is not known yet is no column that is gone.
                let fields = mapped.mapping.fields.iter().filter(|(_, field)| field.relation.is_none());
                return Ok(fields.map(|(id, _)| *id).filter(|id| !row.fields.contains_key(id)).collect());
            }
        }
        Ok(BTreeSet::new())
    }

    /// Takes the lease as soon as there is something to forget: a field that was never there is nobody's business.
    async fn forget_fields(
        &self,
        name: &StoreName,
        mapped: &Mapped,
        missing: &BTreeSet<FieldId>,
        lease: &mut Option<KeptLease>,
    ) -> Result<(), EngineError> {
        let names: BTreeSet<_> = missing.iter().map(|id| &mapped.entity.field(*id).name).collect();
        let mut after: Option<RecordKey> = None;
        loop {
            let page = self.state.page(&mapped.entity, after.as_ref(), PAGE).await?;
            let (last, next) = (page.len() < PAGE, page.last().map(|(key, _)| key.clone()));
            let changed = page.into_iter().filter_map(|(key, mut memory)| {
                let mut shadow = memory.stores.remove(name)?;
                let before = shadow.fields.len();
                shadow.fields.retain(|field, _| !names.contains(field));
                let record = RecordId { entity: mapped.name().clone(), key };
                (shadow.fields.len() < before).then(|| (record, name.clone(), Arc::new(shadow)))
            });
            let transition = Transition { shadows: changed.collect(), ..Transition::default() };
            if !transition.shadows.is_empty() {
                let Some(lease) = lease else {
                    *lease = Some(self.take_lease(PATIENCE_MS, &Silent, &CancellationToken::new()).await?);
                    // What was read before it was held may have changed.
                    continue;
                };
                lease.keep(&*self.state).await.map_err(EngineError::new)?;
                self.state.commit(&transition).await?;
            }
            if last {
                return Ok(());
            }
            after = next;
        }
    }
}
