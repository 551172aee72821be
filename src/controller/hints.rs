//! Hints from outside that something changed: bounded, and never waited for.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::RecordId;

use super::pace::{Hinted, LARGEST_QUEUE, Pace};

/// Where hints arrive. Whoever leaves one never waits; what finds no room becomes a look at everything that changed.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: BTreeSet<RecordId>,
    soon: bool,
}

impl Inbox {
    /// A record may have changed. False when there was no room for it.
    pub fn record(&self, record: RecordId) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let room = waiting.records.len() < LARGEST_QUEUE || waiting.records.contains(&record);
        if room {
            waiting.records.insert(record);
        } else {
            waiting.soon = true;
        }
        drop(waiting);
        self.wake.notify_one();
        room
    }

    /// Something may have changed.
    pub fn something(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).soon = true;
        self.wake.notify_one();
    }

    /// How many records wait here.
    pub fn len(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).records.len()
    }

    /// Whether none wait here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a hint.
    pub(super) async fn arrived(&self) {
        self.wake.notified().await;
    }

    /// Hands everything over. Gives how many found no room there.
    pub(super) fn hand_over(&self, pace: &mut Pace, now: u64) -> usize {
        let Waiting { records, soon } =
            std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        if soon {
            pace.look_soon(now);
        }
        records.into_iter().filter(|record| pace.hint(record.clone(), now) == Hinted::Dropped).count()
    }
}
