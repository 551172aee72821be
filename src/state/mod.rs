//! The state: what is remembered between passes (shadows) and what is being done right now (the journal).
//!
//! A state is private to its controller; correctness against other writers is carried by the preconditions of writes, not by
//! the lease kept here.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::model::{
    Entity, EntityName, Header, Intent, Marks, Memory, RecentDeletes, RecordKey, StoreName, Timestamp,
    Transition,
};

mod changes;
pub mod codec;
mod hold;
pub mod memory;
mod pages;
pub mod postgres;
pub mod sqlite;

pub use pages::{PAGE, Pages};

/// Why the state could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state: {message}")]
pub struct StateError {
    /// What happened and what to do.
    pub message: String,
    /// Whether another controller holds the lease.
    pub held_elsewhere: bool,
}

impl StateError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), held_elsewhere: false }
    }
}

/// Who may work on a state, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who: host and process, for people to read.
    pub holder: String,
    /// When it lapses unless renewed.
    pub expires: Timestamp,
}

/// The error of a lease that another holder has, or had until a moment ago.
fn held_by(lease: Option<&Lease>) -> StateError {
    let message = match lease {
        None => "the lease was held a moment ago".to_owned(),
        Some(Lease { holder, expires }) => {
            format!("{holder} works on it until {expires}: wait for it with `--lock-timeout`, or stop it")
        }
    };
    StateError { message, held_elsewhere: true }
}

/// 128 random bits in hexadecimal: the id of a new state.
fn new_id() -> Result<String, StateError> {
    let mut bytes = [0_u8; 16];
    getrandom::fill(&mut bytes)
        .map_err(|_| StateError::new("the operating system gives no random numbers"))?;
    Ok(crate::model::hex(&bytes))
}

/// A journal of writes and the shadows of records.
#[async_trait]
pub trait State: Send + Sync {
    /// Where it stands.
    async fn header(&self) -> Result<Header, StateError>;

    /// Takes or renews the lease for `holder`, or says who has it.
    ///
    /// # Errors
    /// With `held_elsewhere` set when another holder's lease has not lapsed at `now`.
    async fn acquire(&self, holder: &str, now: Timestamp, until: Timestamp) -> Result<(), StateError>;

    /// Gives the lease up, if `holder` has it.
    async fn release(&self, holder: &str) -> Result<(), StateError>;

    /// The lease as it stands.
    async fn lease(&self) -> Result<Option<Lease>, StateError>;

    /// The intents that have not ended, oldest first.
    async fn open_intents(&self) -> Result<Vec<Intent>, StateError>;

    /// The memories of an entity, in the order of keys, after a key, at most `limit` of them.
    async fn page(
        &self,
        entity: &Entity,
        after: Option<&RecordKey>,
        limit: usize,
    ) -> Result<Vec<(RecordKey, Memory)>, StateError>;

    /// The memories of some records.
    async fn recall(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Memory>, StateError>;

    /// The stores that some records are remembered to be in.
    async fn places(
        &self,
        entity: &Entity,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Vec<StoreName>>, StateError> {
        let memories = self.recall(entity, keys).await?;
        Ok(memories.into_iter().map(|(key, memory)| (key, memory.places())).collect())
    }

    /// How many records were deleted since then. What is older than two days may be forgotten.
    async fn deletes_since(&self, since: Timestamp) -> Result<RecentDeletes, StateError>;

    /// Where the stores of an entity stood when it was last brought up to date; none where that is not known.
    async fn marks(&self, entity: &EntityName) -> Result<Option<Marks>, StateError>;

    /// What people and controllers leave for each other, by key: pauses, approvals, troubles. Each kind is apart from the others.
    async fn notes(&self, kind: &str) -> Result<BTreeMap<String, String>, StateError>;

    /// Sets notes of a kind, and removes those without a text. Needs no lease.
    async fn note(&self, kind: &str, changes: &BTreeMap<String, Option<String>>) -> Result<(), StateError>;

    /// Makes an atomic, durable change.
    async fn commit(&self, transition: &Transition) -> Result<(), StateError>;
}
