//! What was settled long ago goes from the tables in the canonical store: conflicts that ended, and deletes that every store confirmed.

use crate::apply::Executor;
use crate::model::{Batch, BatchId, Guard, IntentId, Mapped, Outcome, StoreError, SyncMeta, Write, WriteOp};
use crate::reconcile::Settled;

use super::Engine;

impl Engine {
    /// Removes what is older than the manifests keep it. A row that changed meanwhile stays. What cannot be removed now is told, and left
    /// to a later pass: nothing depends on it.
    pub(super) async fn remove_old(&self, executor: &Executor<'_>, settled: Vec<Settled>) {
        let kept = i64::try_from(self.spec.controller.retention_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        let before = self.now().saturating_add_micros(kept.saturating_neg());
        let old: Vec<Settled> = settled.into_iter().filter(|row| row.since < before).collect();
        for mapped in [&self.ledger.conflicts, &self.ledger.tombstones] {
            let rows: Vec<&Settled> = old.iter().filter(|row| row.table == *mapped.name()).collect();
            if rows.is_empty() {
                continue;
            }
            let table = mapped.name();
            match self.remove(executor, mapped, &rows).await {
                Ok(count) => tracing::info!(%table, count, "what was settled long ago is removed"),
                Err(error) => tracing::warn!(%table, "what was settled long ago cannot be removed: {error}"),
            }
        }
    }

    async fn remove(
        &self,
        executor: &Executor<'_>,
        mapped: &Mapped,
        rows: &[&Settled],
    ) -> Result<usize, StoreError> {
        let store = executor.store(&self.spec.canonical)?;
        let mut removed = 0;
        for rows in rows.chunks(store.capabilities().batch_size.max(1)) {
            let writes = rows.iter().enumerate().map(|(at, row)| Write {
                intent: IntentId(format!("settled-{at}").into()),
                key: row.key.clone(),
                store_id: None,
                link: false,
                op: WriteOp::Delete { guard: Guard { fields: row.guard.clone(), meta: SyncMeta::default() } },
            });
            let id = BatchId(format!("settled-{}", self.now().micros()).into());
            let batch = Batch { id, receipt: false, writes: writes.collect(), along: Vec::new() };
            let outcomes = store.apply(mapped, &batch).await?;
            removed += outcomes.values().filter(|outcome| matches!(outcome, Outcome::Applied(_))).count();
        }
        Ok(removed)
    }
}
