//! Records on their way to the planner, considered a group at a time on other threads while the next ones are read.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::task::JoinHandle;

use crate::model::{Entity, Memory, Presence, RecordKey, StoreName};
use crate::plan::{Considered, Observed, Planner, Thinker};
use crate::store::LazyRow;

/// Records considered together: some milliseconds of work.
const GROUP: usize = 128;

/// Groups under way. More would only be held in memory: there is one planner that takes them.
const GROUPS: usize = 4;

/// What a pass saw of a record, not yet decoded.
pub(super) struct Seen {
    pub key: RecordKey,
    pub memory: Option<Memory>,
    /// The canonical store comes first.
    pub presences: Vec<(StoreName, Glimpse)>,
}

/// What was seen of a record in a store.
pub(super) enum Glimpse {
    Row(LazyRow),
    Known(Presence),
}

impl Seen {
    fn observed(self) -> Observed {
        // What surely is the same elsewhere is decoded once.
        let mut first: Option<LazyRow> = None;
        let mut presences: Vec<(StoreName, Presence)> = Vec::with_capacity(self.presences.len());
        for (store, glimpse) in self.presences {
            let known = first.as_ref().zip(presences.first().and_then(|(_, presence)| presence.row()));
            let presence = match (glimpse, known) {
                (Glimpse::Known(presence), _) => presence,
                (Glimpse::Row(row), Some((lazy, known))) if row.surely_equals(lazy) => {
                    Presence::Present(row.row_like(known))
                }
                (Glimpse::Row(row), _) => {
                    let decoded = row.row();
                    first = first.or_else(|| presences.is_empty().then_some(row));
                    Presence::Present(decoded)
                }
            };
            presences.push((store, presence));
        }
        Observed { presences: presences.into_iter().collect(), key: self.key, memory: self.memory }
    }
}

impl From<Observed> for Seen {
    fn from(observed: Observed) -> Self {
        let Observed { key, memory, presences } = observed;
        let presences = presences.into_iter().map(|(store, presence)| (store, Glimpse::Known(presence)));
        Self { key, memory, presences: presences.collect() }
    }
}

/// The records of an entity on their way.
pub(super) struct Thoughts {
    entity: Arc<Entity>,
    /// None: the planner considers them itself.
    thinker: Option<Thinker>,
    group: Vec<Seen>,
    flying: VecDeque<JoinHandle<Vec<Considered>>>,
}

impl Thoughts {
    pub(super) fn new(entity: &Arc<Entity>, planner: &Planner) -> Self {
        let thinker = planner.thinker(entity);
        Self { entity: Arc::clone(entity), thinker, group: Vec::new(), flying: VecDeque::new() }
    }

    /// Takes the next record.
    pub(super) async fn take(&mut self, planner: &mut Planner, seen: Seen) {
        if self.thinker.is_none() {
            planner.add(&self.entity, seen.observed());
            return;
        }
        self.group.push(seen);
        if self.group.len() >= GROUP {
            self.launch();
            if self.flying.len() > GROUPS {
                self.land(planner).await;
            }
        }
    }

    /// Waits for all of them.
    pub(super) async fn end(mut self, planner: &mut Planner) {
        self.launch();
        while !self.flying.is_empty() {
            self.land(planner).await;
        }
    }

    fn launch(&mut self) {
        let group = std::mem::take(&mut self.group);
        let Some(thinker) = self.thinker.clone().filter(|_| !group.is_empty()) else { return };
        let entity = Arc::clone(&self.entity);
        self.flying.push_back(tokio::task::spawn_blocking(move || {
            group.into_iter().map(|seen| thinker.consider(&entity, seen.observed())).collect()
        }));
    }

    async fn land(&mut self, planner: &mut Planner) {
        let Some(first) = self.flying.pop_front() else { return };
        match first.await {
            Ok(group) => group.into_iter().for_each(|one| planner.add_considered(&self.entity, one)),
            Err(failed) if failed.is_panic() => std::panic::resume_unwind(failed.into_panic()),
            // The runtime goes down, and with it whoever waits.
            Err(_) => std::future::pending().await,
        }
    }
}
