//! What was settled long ago goes from the tables in the canonical store: conflicts that ended, and deletes that every store confirmed.

use std::sync::atomic::Ordering;

use crate::apply::Executor;
use crate::model::{Batch, BatchId, Guard, IntentId, Mapped, Outcome, StoreError, SyncMeta, Write, WriteOp};
use crate::reconcile::Settled;

use super::Engine;

/// Rows of a table that a pass removes at most; the next one goes on.
const MOST_REMOVED: usize = 10_000;

impl Engine {
    /// Removes what is older than the manifests keep it. A row that changed meanwhile stays. What cannot be removed now is told, and left
    /// to a later pass: nothing depends on it. Until the oldest of what stays is old enough, nobody looks again.
    pub(super) async fn remove_old(&self, executor: &Executor<'_>) {
        let now = self.now();
        if now.micros() < self.next_removal.load(Ordering::Relaxed) {
            return;
        }
        let kept = i64::try_from(self.spec.controller.retention_ms).unwrap_or(i64::MAX).saturating_mul(1000);
        let before = now.saturating_add_micros(kept.saturating_neg());
        let mut oldest = now;
        for (mapped, excerpt) in
            [&self.ledger.conflicts, &self.ledger.tombstones].into_iter().zip(self.ledger.settled())
        {
            let table = mapped.name();
            let mut rows: Vec<Settled> = Vec::new();
            let mut take = |settled: Settled| {
                if settled.since < before && rows.len() < MOST_REMOVED {
                    rows.push(settled);
                } else {
                    oldest = oldest.min(settled.since);
                }
            };
            let read = executor.each_system_row(excerpt, |row| {
                self.ledger.settled_of(mapped, &row).map(&mut take);
            });
            let removed = match read.await {
                Ok(()) => self.remove(executor, mapped, &rows).await,
                Err(error) => Err(error),
            };
            match removed {
                Ok(0) => {}
                Ok(count) => tracing::info!(%table, count, "what was settled long ago is removed"),
                Err(error) => {
                    tracing::warn!(%table, "what was settled long ago cannot be removed: {error}");
                    oldest = before;
                }
            }
        }
        let next = oldest.saturating_add_micros(kept).micros();
        self.next_removal.store(next, Ordering::Relaxed);
    }

    async fn remove(
        &self,
        executor: &Executor<'_>,
        mapped: &Mapped,
        rows: &[Settled],
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
