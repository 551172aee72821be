//! What the loop does next: a pass over everything, over what changed or over some records, or a wait.
//!
//! Plain data with a clock of its own (milliseconds from wherever the caller likes): nothing here waits, reads or writes, so that hours
//! are played through in a blink. It never asks why it was woken; hints only make records come sooner.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::{RecordId, StoreName};
use crate::reconcile::Report;

/// Waits differ from what is asked for by at most a tenth, so that controllers started together do not stay in step.
const JITTER_DIVISOR: u64 = 10;

/// Records that wait to be looked at. A key takes some hundred bytes, so this is a few megabytes at most; what finds no room is dropped,
/// and a look at everything that changed takes its place.
pub(super) const LARGEST_QUEUE: usize = 10_000;

/// Records that are looked at in one go: as many as a store is asked for at a time.
const LARGEST_LOOK: usize = 1_000;

/// The first wait after a write failed; each further failure doubles it.
const RECORD_FIRST_MS: u64 = 30_000;
/// A write that fails for good is tried once an hour: often enough to be noticed soon after somebody corrects it.
const RECORD_LONGEST_MS: u64 = 3_600_000;
/// The longest wait before a store that is down is asked again.
const STORE_LONGEST_MS: u64 = 300_000;
/// Records whose writes failed, or are counted, at most.
const LARGEST_MEMORY: usize = 20_000;

/// How the loop goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaceOptions {
    /// From the end of a pass to the beginning of the next one.
    pub interval_ms: u64,
    /// When everything is read again; none: never.
    pub deep_ms: Option<u64>,
    /// How long hints are gathered.
    pub debounce_ms: u64,
    /// A record written so often within the window is paused; 0: never.
    pub breaker_writes: usize,
    /// The window.
    pub breaker_window_ms: u64,
    /// How long one without the lease waits before it asks again.
    pub standby_ms: u64,
    /// What the jitter is made from: another number for another controller.
    pub seed: u64,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Make this pass.
    Pass(Task),
    /// Do nothing until then, unless something comes.
    WaitUntil(u64),
}

/// A pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Whether everything is read.
    pub deep: bool,
    /// Only these records; none: everything, or what changed.
    pub only: Option<Vec<RecordId>>,
    /// Stores that are left alone, and why.
    pub away: BTreeMap<StoreName, String>,
    /// Records that are not written in a store.
    pub waiting: Vec<(RecordId, StoreName)>,
}

/// What became of a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hinted {
    /// It waits.
    Queued,
    /// The same waits already.
    Known,
    /// There was no room: everything that changed is looked at instead.
    Dropped,
}

#[derive(Debug, Clone, Copy)]
struct BackOff {
    failures: u32,
    until: u64,
}

/// The loop's memory.
#[derive(Debug)]
pub struct Pace {
    options: PaceOptions,
    next_pass: u64,
    last_deep: Option<u64>,
    /// Stores that could not be read when everything was.
    not_deep: BTreeSet<StoreName>,
    standby_until: Option<u64>,
    queue: BTreeSet<RecordId>,
    /// When the oldest hint came.
    hinted: Option<u64>,
    /// Whether a look at what changed was asked for, and when.
    soon: Option<u64>,
    stores: BTreeMap<StoreName, BackOff>,
    records: BTreeMap<(RecordId, StoreName), BackOff>,
    writes: BTreeMap<(RecordId, StoreName), VecDeque<u64>>,
    number: u64,
}

impl Pace {
    /// A loop that begins with a pass at once.
    pub fn new(options: PaceOptions, now: u64) -> Self {
        Self {
            options,
            next_pass: now,
            last_deep: None,
            not_deep: BTreeSet::new(),
            standby_until: None,
            queue: BTreeSet::new(),
            hinted: None,
            soon: None,
            stores: BTreeMap::new(),
            records: BTreeMap::new(),
            writes: BTreeMap::new(),
            number: 0,
        }
    }

    /// Goes on under other manifests: everything is read anew, and nothing that failed is held against anybody.
    pub fn change(&mut self, options: PaceOptions, now: u64) {
        let queue = std::mem::take(&mut self.queue);
        *self = Self { queue, hinted: self.hinted, ..Self::new(options, now) };
    }

    /// How many records wait to be looked at.
    pub fn queue(&self) -> usize {
        self.queue.len()
    }

    /// How many writes are not tried for now.
    pub fn waiting(&self, now: u64) -> usize {
        self.records.values().filter(|back| back.until > now).count()
    }

    /// The stores that are left alone for now, and why.
    pub fn away(&self, now: u64) -> BTreeMap<StoreName, String> {
        let away = self.stores.iter().filter(|(_, back)| back.until > now);
        away.map(|(store, back)| {
            let seconds = (back.until - now).div_ceil(1000);
            let times = back.failures;
            (
                store.clone(),
                format!("it could not be read {times} times in a row; asked again in {seconds} s"),
            )
        })
        .collect()
    }

    /// What is to be done now.
    pub fn next(&mut self, now: u64) -> Step {
        if let Some(until) = self.standby_until.filter(|until| *until > now) {
            return Step::WaitUntil(until);
        }
        self.standby_until = None;
        let deep = self.deep_is_due(now);
        let soon = self.soon.map(|since| since + self.options.debounce_ms);
        let hinted = self.hinted.map(|since| since + self.options.debounce_ms);
        if self.next_pass <= now || soon.is_some_and(|at| at <= now) {
            self.soon = None;
            return Step::Pass(self.task(now, deep, None));
        }
        if hinted.is_some_and(|at| at <= now) {
            let mut only = Vec::new();
            while only.len() < LARGEST_LOOK
                && let Some(record) = self.queue.pop_first()
            {
                only.push(record);
            }
            self.hinted = if self.queue.is_empty() { None } else { self.hinted };
            return Step::Pass(self.task(now, false, Some(only)));
        }
        let times = [Some(self.next_pass), soon, hinted];
        Step::WaitUntil(times.into_iter().flatten().min().unwrap_or(self.next_pass))
    }

    fn deep_is_due(&self, now: u64) -> bool {
        let Some(every) = self.options.deep_ms else { return false };
        self.last_deep.is_none_or(|last| now.saturating_sub(last) >= every)
    }

    fn task(&self, now: u64, deep: bool, only: Option<Vec<RecordId>>) -> Task {
        let waiting = self.records.iter().filter(|(_, back)| back.until > now);
        Task {
            deep,
            only,
            away: self.away(now),
            waiting: waiting.map(|((record, store), _)| (record.clone(), store.clone())).collect(),
        }
    }

    /// Somebody says that a record changed.
    pub fn hint(&mut self, record: RecordId, now: u64) -> Hinted {
        if self.queue.contains(&record) {
            return Hinted::Known;
        }
        if self.queue.len() >= LARGEST_QUEUE {
            self.look_soon(now);
            return Hinted::Dropped;
        }
        self.queue.insert(record);
        self.hinted.get_or_insert(now);
        Hinted::Queued
    }

    /// Somebody says that something changed.
    pub fn look_soon(&mut self, now: u64) {
        self.soon.get_or_insert(now);
    }

    /// Another controller makes the passes.
    pub fn stand_by(&mut self, now: u64) {
        self.number += 1;
        self.standby_until = Some(now + self.jittered(self.options.standby_ms).max(1));
    }

    /// A pass failed as a whole: another one comes at its time.
    pub fn failed(&mut self, task: &Task, now: u64) {
        // The records are still to be looked at: by the next pass over everything that changed.
        if task.only.is_none() || self.next_pass <= now {
            self.number += 1;
            self.next_pass = now + self.jittered(self.options.interval_ms);
        }
    }

    /// A pass ended. Gives the records that were written too often, with how often.
    pub fn ended(&mut self, task: &Task, report: &Report, now: u64) -> Vec<(RecordId, usize)> {
        // Guards that a look sets off are told by a pass.
        if report.look_further || (task.only.is_some() && !report.guards.is_empty()) {
            self.look_soon(now);
            return Vec::new();
        }
        if task.only.is_none() {
            self.number += 1;
            self.next_pass = now + self.jittered(self.options.interval_ms);
            self.note_deep(task, report, now);
            if !report.stopped {
                // What changed was looked at, whoever hinted at it; what came while the pass was on is looked at again.
                self.note_stores(task, report, now);
            }
        }
        self.note_failures(task, report, now);
        self.note_writes(report, now)
    }

    /// A store that is down does not have all the others read whole in every pass; when it is back, everything is read once more.
    fn note_deep(&mut self, task: &Task, report: &Report, now: u64) {
        if task.deep {
            self.last_deep = Some(now);
            self.not_deep = report.unreadable.keys().cloned().collect();
        } else if !self.not_deep.iter().all(|store| report.unreadable.contains_key(store)) {
            self.last_deep = None;
        }
    }

    fn note_stores(&mut self, task: &Task, report: &Report, now: u64) {
        let first = self.options.interval_ms;
        for store in report.unreadable.keys().filter(|store| !task.away.contains_key(*store)) {
            let failures = self.stores.get(store).map_or(0, |back| back.failures).saturating_add(1);
            let wait = doubled(first, failures, STORE_LONGEST_MS.max(first));
            let until = now + self.jittered(wait);
            self.stores.insert(store.clone(), BackOff { failures, until });
        }
        self.stores.retain(|store, _| report.unreadable.contains_key(store));
    }

    fn note_failures(&mut self, task: &Task, report: &Report, now: u64) {
        // A store that is down is waited for as a whole, and when it is the canonical one, whatever hung on its write failed as well.
        let of_records = report.failed.iter().filter(|_| report.down.is_empty());
        let failed: BTreeSet<(RecordId, StoreName)> =
            of_records.map(|trouble| (trouble.record.clone(), trouble.store.clone())).collect();
        for place in &failed {
            let failures = self.records.get(place).map_or(0, |back| back.failures).saturating_add(1);
            let wait = doubled(RECORD_FIRST_MS, failures, RECORD_LONGEST_MS);
            let until = now + self.jittered(wait);
            if self.records.len() < LARGEST_MEMORY || self.records.contains_key(place) {
                self.records.insert(place.clone(), BackOff { failures, until });
            }
        }
        let tried = |place: &(RecordId, StoreName)| match &task.only {
            Some(records) => records.contains(&place.0),
            None => !report.unreadable.contains_key(&place.1),
        };
        let held: BTreeSet<&(RecordId, StoreName)> = task.waiting.iter().collect();
        if !report.stopped {
            self.records.retain(|place, _| failed.contains(place) || held.contains(place) || !tried(place));
        }
    }

    fn note_writes(&mut self, report: &Report, now: u64) -> Vec<(RecordId, usize)> {
        let (most, window) = (self.options.breaker_writes, self.options.breaker_window_ms);
        if most == 0 {
            return Vec::new();
        }
        let begin = now.saturating_sub(window);
        self.writes.retain(|_, times| {
            while times.front().is_some_and(|at| *at < begin) {
                times.pop_front();
            }
            !times.is_empty()
        });
        let mut broken = BTreeMap::new();
        for place in &report.written {
            if self.writes.len() >= LARGEST_MEMORY && !self.writes.contains_key(place) {
                continue;
            }
            let times = self.writes.entry(place.clone()).or_default();
            times.push_back(now);
            if times.len() >= most {
                broken.insert(place.0.clone(), times.len());
            }
        }
        self.writes.retain(|(record, _), _| !broken.contains_key(record));
        broken.into_iter().collect()
    }

    /// A wait, up to a tenth longer or shorter.
    fn jittered(&self, wait: u64) -> u64 {
        let span = wait / JITTER_DIVISOR;
        let offset = if span == 0 { 0 } else { mix(self.options.seed ^ self.number) % (2 * span + 1) };
        wait + offset - span
    }
}

/// A wait that doubles with every failure, up to the longest.
fn doubled(first: u64, failures: u32, longest: u64) -> u64 {
    first.saturating_mul(1 << failures.saturating_sub(1).min(20)).min(longest)
}

/// Spreads a number over all 64 bits (the finaliser of `SplitMix64`).
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests;
