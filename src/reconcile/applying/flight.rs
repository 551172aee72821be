//! Chunks on their way. While the writes of one are under way, the next one is noted: so stores and state work at the same time.
//!
//! Each store gets the chunks in their order, and what one entity's chunks lead to is there before the next entity's go out.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    Batch, Intent, IntentId, RecordId, RecordKey, StoreError, StoreName, SyncError, SyncMeta, Transition,
};
use crate::plan::RecordPlan;

use super::super::{Effect, Lane, Work, Worked};
use super::altered::Altered;
use super::{Applying, Stage};

/// How many chunks are on their way at once.
const CHUNKS_AT_ONCE: usize = 3;

/// How many records are worked out at once: a few milliseconds of work.
const PREPARED_AT_ONCE: usize = 100;

/// What became of a batch.
pub(super) type Outcomes = Result<BTreeMap<IntentId, super::Outcome>, StoreError>;

/// What is under way by itself: a chunk; or, before the first and after the last of them, the pass as a whole.
#[derive(Default)]
pub(super) struct Flight {
    /// The number of the chunk, counted from one; zero: the pass.
    pub(super) lane: Lane,
    pub(super) stage: Stage,
    /// How many effects have not been answered yet.
    pub(super) waiting: usize,
    /// The records.
    pub(super) loaded: BTreeMap<usize, Arc<RecordPlan>>,
    /// What is known since, and is noted together with the end: a record is remembered once, and not store by store.
    pub(super) later: Transition,
    /// Writes that are noted and not ended, with the places of their records.
    pub(super) noted: BTreeMap<StoreName, Vec<(usize, Arc<Intent>)>>,
    /// Those of them that are not sent yet. They are made when they are noted: when their turn comes a store is waiting.
    pub(super) ready: BTreeMap<StoreName, Batch>,
    pub(super) outcomes: Vec<(StoreName, Outcomes)>,
    /// Records of which the canonical store keeps something else than it was given: nothing of them goes to the others in this pass.
    pub(super) altered: BTreeMap<usize, Altered>,
    /// Rows that go, as their stores have them.
    pub(super) images: BTreeMap<(StoreName, RecordId), serde_json::Value>,
    /// Rows that went in earlier passes, by store, as the records' tombstones have them.
    pub(super) kept: BTreeMap<RecordKey, serde_json::Map<String, serde_json::Value>>,
    /// Trouble in replicas, for the canonical record's bookkeeping.
    pub(super) troubled: BTreeMap<usize, Vec<SyncError>>,
    /// The canonical metadata as last written.
    pub(super) canonical_meta: BTreeMap<usize, SyncMeta>,
}

impl Applying {
    /// Turns to what is under way in a lane; false when nothing is.
    pub(super) fn turn_to(&mut self, lane: Lane) -> bool {
        if self.flight.lane == lane {
            return true;
        }
        let found = self.others.iter_mut().find(|other| other.lane == lane);
        found.map(|other| std::mem::swap(other, &mut self.flight)).is_some()
    }

    /// Brings everything as far as it goes without an answer.
    pub(super) fn go_on(&mut self) -> Vec<(Lane, Effect)> {
        let mut effects = Vec::new();
        loop {
            self.open_next();
            let mut lanes: Vec<Lane> = self.others.iter().map(|other| other.lane).collect();
            lanes.push(self.flight.lane);
            lanes.sort_unstable();
            let mut moved = false;
            for lane in lanes {
                while self.turn_to(lane) && self.may_go_on() {
                    moved = true;
                    let asked = self.advance();
                    self.flight.waiting = asked.len();
                    effects.extend(asked.into_iter().map(|effect| (lane, effect)));
                }
            }
            self.turn_to(0);
            let under_way = self.others.len();
            self.others.retain(|other| other.stage != Stage::Landed || other.waiting > 0);
            if !moved && self.others.len() == under_way {
                return effects;
            }
        }
    }

    fn may_go_on(&self) -> bool {
        let flight = &self.flight;
        self.failed.is_none()
            && flight.waiting == 0
            && match flight.stage {
                Stage::Chunks => self.others.is_empty() && (self.stop || self.next >= self.chunks.len()),
                // Each store gets the chunks in their order.
                Stage::Canonical => self.before_are_at(Stage::Replicas),
                Stage::Replicas => self.before_are_at(Stage::Landed),
                Stage::Landed | Stage::Done => false,
                _ => true,
            }
    }

    /// Whether the chunks before the one at hand have come so far.
    fn before_are_at(&self, stage: Stage) -> bool {
        let mut before = self.others.iter().filter(|other| (1..self.flight.lane).contains(&other.lane));
        before.all(|other| other.stage >= stage)
    }

    /// Puts the next chunk on its way, if its turn has come.
    fn open_next(&mut self) {
        if self.stop || self.failed.is_some() || !self.turn_to(0) || self.flight.stage != Stage::Chunks {
            return;
        }
        let Some(next) = self.chunks.get(self.next).filter(|_| self.others.len() < CHUNKS_AT_ONCE) else {
            return;
        };
        let follows = self.others.iter().all(|other| {
            let before = &self.chunks[other.lane - 1];
            !before.deletes && !next.deletes && before.entity == next.entity
        });
        // What is not worked out yet would have to be by this thread, which has others to attend to.
        let ready = || {
            let mut left = next.records.iter().filter(|at| !self.dropped.contains(at));
            left.all(|at| self.ahead.contains_key(at))
        };
        if self.others.is_empty() || (follows && ready()) {
            self.next += 1;
            self.others.push(Flight { lane: self.next, stage: Stage::Images, ..Flight::default() });
        }
    }

    /// Work on some records of the next chunk while others are under way; none when all of it is handed out.
    pub fn prepare(&mut self) -> Option<Work> {
        let chunk = self.chunks.get(self.next).filter(|_| self.failed.is_none() && !self.stop)?;
        if self.handed.0 != self.next {
            self.handed = (self.next, 0);
        }
        let places: Vec<usize> =
            chunk.records.iter().skip(self.handed.1).take(PREPARED_AT_ONCE).copied().collect();
        self.handed.1 += places.len();
        if places.is_empty() {
            return None;
        }
        let (plan, chunk, spent) = (Arc::clone(&self.plan), self.next, std::mem::take(&mut self.spent));
        // One that is lost is missed when its turn comes.
        let record = move |at: usize| Some((at, plan.records.get(at).ok()?));
        Some(Box::new(move || {
            drop(spent);
            Worked { chunk, records: places.into_iter().filter_map(record).collect() }
        }))
    }

    /// Takes records that were worked out ahead, and says what may be done now; those that are too late are of no more use.
    pub fn prepared(&mut self, worked: Worked) -> Vec<(Lane, Effect)> {
        if worked.chunk != self.next {
            return Vec::new();
        }
        self.ahead.extend(worked.records);
        if self.turn_to(0) && self.flight.stage == Stage::Chunks { self.go_on() } else { Vec::new() }
    }
}
