//! Rows that other transactions have locked, and transactions of ours that are begun again because of others.
//!
//! While we wait for a locked row we hold the locks that we have already, and others wait for those: so we do not wait for long. After that the
//! batch is tried once more without the locked rows, and each of these is reported by its key.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ErrorKind, Mapped, RecordKey, StoreError};

use super::PostgresStore;
use super::error::{self, store_error};
use super::layout::Layout;
use super::read::{Found, Lock, find};
use super::session::Session;

/// What is done about rows that another transaction holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// They are waited for, but not longer than others can be made to wait for us.
    WaitedFor,
    /// They are left out.
    LeftOut,
}

impl Held {
    /// Sets how long to wait for a lock. At first: longer than an application's transaction takes, and shorter than its users notice. The second
    /// time locked rows have been left out, so the only wait is for somebody who is inserting the same row; and it comes again in every step
    /// of the search by halves, so it has to be short.
    fn patience(self) -> &'static str {
        match self {
            Self::WaitedFor => "SET LOCAL lock_timeout = '1s'",
            Self::LeftOut => "SET LOCAL lock_timeout = '200ms'",
        }
    }

    /// How many steps may be spent on searching a batch by halves for writes that wait in vain; finding one takes about ten.
    pub(super) fn searches(self) -> usize {
        match self {
            Self::WaitedFor => 0,
            Self::LeftOut => 30,
        }
    }
}

/// Why a transaction came to nothing.
pub(super) struct Failed {
    pub(super) told: StoreError,
    /// Another transaction was in the way, which is gone now.
    gave_way: bool,
    /// Another transaction is in the way, and stays there.
    held: bool,
}

impl From<StoreError> for Failed {
    fn from(told: StoreError) -> Self {
        Self { told, gave_way: false, held: false }
    }
}

/// Tries of one batch.
pub(super) struct Tries {
    left: usize,
    pub(super) held: Held,
}

impl Tries {
    pub(super) fn new() -> Self {
        Self { left: error::DEADLOCK_RETRIES, held: Held::WaitedFor }
    }

    /// Whether there is to be another one.
    pub(super) fn again(&mut self, failed: &Failed) -> bool {
        if failed.held && self.held == Held::WaitedFor {
            self.held = Held::LeftOut;
            return true;
        }
        let again = failed.gave_way && self.left > 0;
        self.left -= usize::from(again);
        again
    }
}

impl PostgresStore {
    pub(super) fn failed(&self, error: &sqlx::Error) -> Failed {
        let told = store_error(&self.name, error);
        Failed { told, gave_way: error::gave_way(error), held: error::is_held(error) }
    }

    /// Locks the rows of some keys. Tells those that another transaction holds apart from those that are not there.
    pub(super) async fn locked(
        &self,
        session: &mut Session,
        (layout, mapped): (&Layout, &Mapped),
        keys: &BTreeSet<&RecordKey>,
        (lock, held): (fn(Held) -> Lock, Held),
    ) -> Result<(BTreeMap<RecordKey, Vec<Found>>, BTreeSet<RecordKey>), sqlx::Error> {
        session.run(held.patience()).await?;
        let found = find(session, layout, mapped, keys, lock(held)).await?;
        let rest: BTreeSet<&RecordKey> =
            keys.iter().copied().filter(|key| !found.contains_key(*key)).collect();
        if held == Held::WaitedFor || rest.is_empty() {
            return Ok((found, BTreeSet::new()));
        }
        let there = find(session, layout, mapped, &rest, Lock::None).await?;
        Ok((found, there.into_keys().collect()))
    }

    /// What is said of a row that another transaction holds.
    pub(super) fn held(&self, layout: &Layout, key: &RecordKey) -> StoreError {
        let message = format!("another transaction holds the row {key} of `{}`", layout.title);
        self.refusal(ErrorKind::Unavailable, message)
            .hint("find who keeps a transaction open (`pg_stat_activity` shows them); it is tried again")
    }
}
