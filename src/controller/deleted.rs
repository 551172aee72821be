//! Records that were deleted, and putting them back.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Batch, BatchId, IntentId, Mapped, Outcome, Presence, RecordId, RecordKey, SyncMeta, Timestamp, Version,
    Write, WriteOp,
};
use crate::reconcile::{Deleted, Excerpt, Ledger, recover, went_along};
use crate::telemetry::Silent;

use super::{Engine, EngineError, PassOptions};

/// Rows that are asked for at a time.
const AT_ONCE: usize = 500;

impl Engine {
    /// The records that were deleted and that the canonical store does not have again, the latest first, without the rows that are kept.
    ///
    /// # Errors
    /// When the canonical store cannot be read.
    pub async fn deleted(&self) -> Result<Vec<Deleted>, EngineError> {
        let found = self.tombstones(self.ledger.deleted(), |_| true).await?;
        let mut away = self.still_away(found).await?;
        away.sort_by(|a, b| (b.deleted_at, &a.record).cmp(&(a.deleted_at, &b.record)));
        Ok(away)
    }

    /// These deleted records with the rows that are kept of them, and what went with them.
    ///
    /// # Errors
    /// When one of them is not on record as deleted, the canonical store has it again, or cannot be read.
    pub async fn deleted_with_rows(
        &self,
        records: &[RecordId],
    ) -> Result<(Vec<Deleted>, Vec<Deleted>), EngineError> {
        let found = self.kept_of(records).await?;
        if let Some(unknown) = records.iter().find(|record| !found.contains_key(record)) {
            return Err(EngineError::new(format!("nothing is kept of a deleted {unknown}"))
                .hint("`trueup deleted list` shows what is"));
        }
        let these = self.still_away(found.into_values().collect()).await?;
        if let Some(back) = records.iter().find(|record| these.iter().all(|of| of.record != **record)) {
            return Err(EngineError::new(format!("the canonical store has {back}")));
        }
        let times: BTreeSet<Timestamp> = these.iter().map(|of| of.deleted_at).collect();
        let whole = Excerpt { mapped: self.ledger.tombstones.clone(), ..self.ledger.deleted() };
        let then = self.tombstones(whole, |of| times.contains(&of.deleted_at)).await?;
        let along = went_along(&self.spec, &these, then);
        Ok((these, self.still_away(along).await?))
    }

    /// Puts deleted records back into the canonical store, as anybody might make them there: a pass brings them everywhere. Those that others
    /// refer to come first.
    ///
    /// # Errors
    /// When nothing is kept of a record, it is paused, or the canonical store does not take it. What came before it is back.
    pub async fn put_back(&self, deleted: &[Deleted]) -> Result<(), EngineError> {
        self.none_is_paused(deleted.iter().map(|of| &of.record)).await?;
        let store = self.canonical_store()?;
        for entity in &self.spec.entities {
            let mapped = self.in_canonical(&entity.name)?;
            let of_it = deleted.iter().filter(|of| of.record.entity == entity.name);
            let writes = of_it.map(|of| self.creation(of, &mapped)).collect::<Result<Vec<Write>, _>>()?;
            for writes in writes.chunks(store.capabilities().batch_size.max(1)) {
                let id = BatchId(format!("put-back-{}", entity.name).into());
                let batch = Batch { id, receipt: false, writes: writes.to_vec(), along: Vec::new() };
                let outcomes = store.apply(&mapped, &batch).await?;
                for write in writes {
                    let record = RecordId { entity: entity.name.clone(), key: write.key.clone() };
                    match outcomes.get(&write.intent) {
                        Some(Outcome::Applied(_)) => {}
                        Some(Outcome::Refused(error) | Outcome::Unknown(error)) => {
                            let message = format!("{record} was not put back: {}", error.message);
                            let error = EngineError::new(message);
                            return Err(error.hint("the next pass brings those before it everywhere"));
                        }
                        Some(Outcome::Moved) | None => {
                            return Err(EngineError::new(format!("somebody else has just made {record}")));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The write that puts a record back.
    fn creation(&self, deleted: &Deleted, mapped: &Mapped) -> Result<Write, EngineError> {
        let Some(recovered) = recover(&self.spec, deleted) else {
            return Err(EngineError::new(format!("no row is kept of {}", deleted.record)));
        };
        let now = self.now();
        let canonical = &self.spec.canonical;
        let meta = SyncMeta {
            version: Some(Version(deleted.version.0.saturating_add(1))),
            last_updated: Some(now),
            last_updated_by: Some(canonical.as_str().into()),
            ..SyncMeta::default()
        };
        Ok(Write {
            intent: IntentId(format!("put-back-{}", deleted.record).into()),
            key: deleted.record.key.clone(),
            store_id: None,
            link: false,
            op: WriteOp::Create {
                fields: recovered.fields,
                meta: if mapped.mapping.has_sync() { meta } else { SyncMeta::default() },
                created: recovered.created.filter(|_| mapped.mapping.created.is_some()),
                updated: mapped.mapping.updated.is_some().then_some(now),
            },
        })
    }

    /// What is kept of these records, where they were deleted once.
    pub(super) async fn kept_of(
        &self,
        records: &[RecordId],
    ) -> Result<BTreeMap<RecordId, Deleted>, EngineError> {
        let keys: Vec<RecordKey> = records.iter().map(Ledger::tombstone_key).collect();
        let mut found: BTreeMap<RecordId, Deleted> = BTreeMap::new();
        for keys in keys.chunks(AT_ONCE) {
            for presence in self.canonical_store()?.read(&self.ledger.tombstones, keys).await?.values() {
                let deleted = presence.row().and_then(|row| self.ledger.deleted_of(row));
                found.extend(deleted.map(|deleted| (deleted.record.clone(), deleted)));
            }
        }
        Ok(found)
    }

    async fn tombstones(
        &self,
        excerpt: Excerpt,
        wanted: impl Fn(&Deleted) -> bool,
    ) -> Result<Vec<Deleted>, EngineError> {
        let options = PassOptions::default();
        let executor = self.executor(&Silent, None, &options);
        let mut found = Vec::new();
        let take = |row| found.extend(self.ledger.deleted_of(&row).filter(&wanted));
        executor.each_system_row(excerpt, take).await?;
        Ok(found)
    }

    /// Those that the canonical store does not have.
    async fn still_away(&self, deleted: Vec<Deleted>) -> Result<Vec<Deleted>, EngineError> {
        let mut away = Vec::new();
        for entity in &self.spec.entities {
            let mapped = self.in_canonical(&entity.name)?;
            let of_it: Vec<&Deleted> = deleted.iter().filter(|of| of.record.entity == entity.name).collect();
            for of_it in of_it.chunks(AT_ONCE) {
                let keys: Vec<RecordKey> = of_it.iter().map(|of| of.record.key.clone()).collect();
                let found = self.canonical_store()?.read(&mapped, &keys).await?;
                let lacks = |of: &&&Deleted| found.get(&of.record.key) == Some(&Presence::Absent);
                away.extend(of_it.iter().filter(lacks).map(|of| (*of).clone()));
            }
        }
        Ok(away)
    }
}
