//! A state in memory that asks somebody before it looks or changes, who may see to it that it is never heard of again.

use std::collections::BTreeMap;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use trueup::model::{
    Entity, EntityName, Header, Intent, Marks, Memory, RecentDeletes, RecordKey, Timestamp, Transition,
};
use trueup::state::memory::MemoryState;
use trueup::state::{Lease, State, StateError};

/// A change that is made when it is awaited.
pub(crate) type Change<'a> = BoxFuture<'a, Result<(), StateError>>;

/// Whoever is asked.
#[async_trait]
pub(crate) trait Watch: Send + Sync {
    /// A look begins.
    async fn look(&self) {}

    /// A note is to be changed.
    async fn note(&self, change: Change<'_>) -> Result<(), StateError> {
        change.await
    }

    /// What is remembered is to be changed.
    async fn commit(&self, change: Change<'_>) -> Result<(), StateError>;
}

/// The state, and who is asked.
pub(crate) struct Watched<W> {
    pub(crate) inner: MemoryState,
    pub(crate) watch: W,
}

#[async_trait]
impl<W: Watch> State for Watched<W> {
    async fn header(&self) -> Result<Header, StateError> {
        self.inner.header().await
    }
    async fn acquire(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<(), StateError> {
        self.inner.acquire(holder, now, until).await
    }
    async fn release(&self, holder: &str) -> Result<(), StateError> {
        self.inner.release(holder).await
    }
    async fn lease(&self) -> Result<Option<Lease>, StateError> {
        self.inner.lease().await
    }
    async fn open_intents(&self) -> Result<Vec<Intent>, StateError> {
        self.inner.open_intents().await
    }
    async fn page(
        &self,
        entity: &Entity,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Memory)>, StateError> {
        self.inner.page(entity, after, limit).await
    }
    async fn recall(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Memory>, StateError> {
        self.inner.recall(entity, keys).await
    }
    async fn deletes_since(&self, since: Timestamp) -> Result<RecentDeletes, StateError> {
        // A question that each look asks, and nothing else.
        self.watch.look().await;
        self.inner.deletes_since(since).await
    }
    async fn marks(&self, entity: &EntityName) -> Result<Option<Marks>, StateError> {
        self.inner.marks(entity).await
    }
    async fn notes(&self, kind: &str) -> Result<BTreeMap<String, String>, StateError> {
        self.inner.notes(kind).await
    }
    async fn note(&self, kind: &str, changes: &BTreeMap<String, Option<String>>) -> Result<(), StateError> {
        self.watch.note(Box::pin(self.inner.note(kind, changes))).await
    }
    async fn commit(&self, transition: &Transition) -> Result<(), StateError> {
        self.watch.commit(Box::pin(self.inner.commit(transition))).await
    }
}
