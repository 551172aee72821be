//! Guarded writes: the rows of a batch are read, compared with their guards, written by one statement that compares them once
//! more, and read back.
//!
//! A statement happens whole or not at all. Where the service refuses it for what one of its rows holds, it is tried again in halves,
//! down to the rows that it is about.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Batch, BatchId, ErrorKind, Guard, IntentId, Mapped, Outcome, RecordKey, StoreError, Write, WriteOp,
};

use super::super::tables::only_read;
use super::super::{check_write, guard_holds, may_write, repeated_keys};
use super::BigQueryStore;
use super::error::Failure;
use super::find::Found;
use super::image::{Columns, Image};
use super::layout::{Layout, MetaPlace};
use super::merge::{Act, Line, statement};
use super::receipts::Receipt;
use super::rest::{JobEnd, unique};
use super::search::Search;

/// Bytes of a statement's rows: the service takes 10 MB in a request.
const STATEMENT_BYTES: usize = 6_000_000;
/// A write whose guard holds.
struct Planned<'a> {
    write: &'a Write,
    act: Act,
    seen: Vec<Option<String>>,
}

impl Planned<'_> {
    /// About how many bytes it takes in a statement.
    fn size(&self) -> usize {
        let texts: usize = self.seen.iter().flatten().map(String::len).sum();
        let columns = match &self.act {
            Act::Insert(columns) | Act::Update(columns) => columns,
            Act::Delete => return texts + 200,
        };
        let written: usize = columns
            .values()
            .map(|column| match column {
                super::kind::Written::Null => 30,
                super::kind::Written::Text(text) => text.len() + 30,
                super::kind::Written::Array(_, json) => json.to_string().len() * 3 + 60,
            })
            .sum();
        texts + written + 40 * self.seen.len() + 200
    }
}

/// A batch's writes under way.
struct Work<'a> {
    store: &'a BigQueryStore,
    mapped: &'a Mapped,
    layout: &'a Layout,
    batch: &'a Batch,
    guarded: BTreeSet<usize>,
    outcomes: BTreeMap<IntentId, Outcome>,
    /// Writes that the service says it carried out, or some of them.
    sent: Vec<(Vec<Planned<'a>>, bool)>,
    /// What keeps the ids of this batch's jobs apart from all others.
    id: String,
    statements: usize,
}

impl BigQueryStore {
    pub(super) async fn apply_batch(
        &self,
        mapped: &Mapped,
        batch: &Batch,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        may_write(&self.name, self.read_only)?;
        let layout = self.layout(mapped).await?;
        if !layout.info.writable {
            return Err(only_read(&self.name, &layout.names.title));
        }
        let keys: BTreeSet<&RecordKey> = batch.writes.iter().map(|write| &write.key).collect();
        let found = self.find(&layout, mapped, &keys).await.map_err(|failure| self.told(&failure))?;
        let mut work = Work {
            store: self,
            mapped,
            layout: &layout,
            batch,
            guarded: BTreeSet::new(),
            outcomes: BTreeMap::new(),
            sent: Vec::new(),
            id: format!("{}_{}", job_word(&batch.id), unique()),
            statements: 0,
        };
        let planned = work.plan_all(batch, &found);
        drop(found);
        work.write_all(planned).await?;
        work.read_back().await?;
        if batch.receipt && work.statements == 0 {
            // It went through and applied nothing.
            self.leave_receipt(&Receipt::empty(&batch.id)).await?;
        }
        Ok(work.outcomes)
    }
}

impl<'a> Work<'a> {
    fn plan_all(&mut self, batch: &'a Batch, found: &BTreeMap<RecordKey, Vec<Found>>) -> Vec<Planned<'a>> {
        let repeated = repeated_keys(batch);
        let mut planned = Vec::new();
        self.guard_meta();
        for write in &batch.writes {
            let there = found.get(&write.key).map_or(&[][..], Vec::as_slice);
            match self.plan(write, there, &repeated) {
                Ok(act) => {
                    let blank = || vec![None; self.layout.slots.len()];
                    let seen = there.first().map_or_else(blank, |found| found.values.clone());
                    planned.push(Planned { write, act, seen });
                }
                Err(outcome) => {
                    self.outcomes.insert(write.intent.clone(), outcome);
                }
            }
        }
        planned
    }

    /// What a write comes to, or what became of it already.
    #[allow(clippy::result_large_err)] // An outcome is no error, and one of the two is always made.
    fn plan(
        &mut self,
        write: &Write,
        there: &[Found],
        repeated: &BTreeSet<&RecordKey>,
    ) -> Result<Act, Outcome> {
        let (store, mapped, layout) = (self.store, self.mapped, self.layout);
        check_write(&store.name, mapped, write, repeated).map_err(Outcome::Refused)?;
        if there.len() > 1 {
            let title = &layout.names.title;
            let message = format!("`{title}` has {} rows of the key {}", there.len(), write.key);
            let refused = StoreError::new(ErrorKind::Conflict, &store.name, message);
            return Err(Outcome::Refused(refused));
        }
        let image = |current: &[Option<String>]| -> Result<(Columns, Vec<usize>), StoreError> {
            let mut image = Image::new(&store.name, mapped, layout, current);
            if matches!(write.op, WriteOp::Create { .. }) {
                image.check_key(&write.key)?;
            }
            image.put_all(&write.op)?;
            image.columns()
        };
        match (&write.op, there.first()) {
            (WriteOp::Create { .. }, None) => {
                let (columns, _) = image(&[]).map_err(Outcome::Refused)?;
                Ok(Act::Insert(columns))
            }
            (WriteOp::Update { guard, .. }, Some(row)) if guard_holds(guard, &row.row) => {
                let (columns, parts) = image(&row.values).map_err(Outcome::Refused)?;
                // Nothing to set: the row is as it is.
                if columns.is_empty() {
                    return Err(Outcome::Applied(Some(row.row.clone())));
                }
                self.guard_fields(guard);
                self.guarded.extend(parts);
                Ok(Act::Update(columns))
            }
            (WriteOp::Delete { guard }, Some(row)) if guard_holds(guard, &row.row) => {
                self.guard_fields(guard);
                Ok(Act::Delete)
            }
            _ => Err(Outcome::Moved),
        }
    }

    /// Every write is guarded by version, time and origin.
    fn guard_meta(&mut self) {
        match &self.layout.places.meta {
            MetaPlace::None => {}
            MetaPlace::Object(place) => {
                self.guarded.insert(place.slot);
            }
            MetaPlace::Parts(places) => {
                self.guarded.extend(places.iter().take(3).flatten().map(|place| place.slot));
            }
        }
    }

    fn guard_fields(&mut self, guard: &Guard) {
        for field in self.layout.places.fields.iter().filter(|field| guard.fields.contains_key(&field.id)) {
            self.guarded.insert(field.place.slot);
        }
    }

    /// Sends the writes, as few statements as they fit in. An error means that nothing at all was written.
    async fn write_all(&mut self, planned: Vec<Planned<'a>>) -> Result<(), StoreError> {
        let mut search =
            Search::new(usize::from_str_radix(unique().get(..6).unwrap_or("0"), 16).unwrap_or(0));
        let (mut part, mut size) = (Vec::new(), 0);
        for one in planned {
            let more = one.size();
            if size + more > STATEMENT_BYTES && !part.is_empty() {
                search.add(std::mem::take(&mut part));
                size = 0;
            }
            size += more;
            part.push(one);
        }
        search.add(part);
        while let Some((writes, left_out)) = search.next() {
            if left_out {
                self.leave_out(&writes);
                continue;
            }
            match self.send(&writes).await {
                Ok(JobEnd::Done(done)) => {
                    let all = done.affected == Some(writes.len() as u64);
                    self.sent.push((writes, all));
                }
                Ok(JobEnd::Failed(failure)) if failure.is_refusal() => {
                    if let Some(one) = search.refused(writes) {
                        self.refuse(&[one], &failure);
                    }
                }
                Ok(JobEnd::Failed(failure)) => {
                    let told = self.store.told(&failure);
                    search.add(writes);
                    return self.give_up(search, told);
                }
                Ok(JobEnd::Unknown(failure)) => {
                    let told = StoreError { kind: ErrorKind::OutcomeUnknown, ..self.store.told(&failure) };
                    if self.sent.is_empty() && search.is_over() && self.outcomes.is_empty() {
                        return Err(told);
                    }
                    for Planned { write, .. } in &writes {
                        self.outcomes.insert(write.intent.clone(), Outcome::Unknown(told.clone()));
                    }
                }
                Err(told) => {
                    search.add(writes);
                    return self.give_up(search, told);
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, writes: &[Planned<'_>], failure: &Failure) {
        let told = self.store.told(failure);
        let message = format!("writing to `{}`: {}", self.layout.names.title, told.message);
        let told = StoreError { message, ..told };
        for Planned { write, .. } in writes {
            self.outcomes.insert(write.intent.clone(), Outcome::Refused(told.clone()));
        }
    }

    /// What is not tried any more in this batch.
    fn leave_out(&mut self, writes: &[Planned<'_>]) {
        let message =
            format!("writing to `{}`: not tried, for so many others were refused", self.layout.names.title);
        let told = StoreError::new(ErrorKind::Invalid, &self.store.name, message)
            .hint("correct the records that are named, or the table; it is tried again in the next pass");
        for Planned { write, .. } in writes {
            self.outcomes.insert(write.intent.clone(), Outcome::Refused(told.clone()));
        }
    }

    /// What was not sent did not happen.
    fn give_up(&mut self, search: Search<Planned<'_>>, told: StoreError) -> Result<(), StoreError> {
        if self.sent.is_empty()
            && !self.outcomes.values().any(|outcome| matches!(outcome, Outcome::Unknown(_)))
        {
            return Err(told);
        }
        for Planned { write, .. } in search.rest() {
            self.outcomes.insert(write.intent.clone(), Outcome::Refused(told.clone()));
        }
        Ok(())
    }

    /// Sends one statement, under a new id for each time that it failed for what may pass. An error means that it was not sent.
    async fn send(&mut self, writes: &[Planned<'_>]) -> Result<JobEnd, StoreError> {
        self.statements += 1;
        let jobs = format!("trueup_{}_{}", self.id, self.statements);
        if self.batch.receipt {
            self.store.leave_receipt(&self.receipt(&jobs, writes)).await?;
        }
        let lines: Vec<Line<'_>> = writes
            .iter()
            .map(|planned| Line { key: planned.write.key.parts(), act: &planned.act, seen: &planned.seen })
            .collect();
        let statement = statement(self.layout, &self.guarded, &lines);
        let lane = self.layout.names.lane();
        let mut waits = self.store.rest.waits();
        let mut attempt = 0;
        loop {
            attempt += 1;
            let job = format!("{jobs}_{attempt}");
            let rest = &self.store.rest;
            match rest.change(&lane, &job, &statement.sql, vec![statement.rows.clone()]).await {
                JobEnd::Failed(failure) if failure.may_pass() => match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Ok(JobEnd::Failed(failure)),
                },
                end => return Ok(end),
            }
        }
    }

    fn receipt(&self, jobs: &str, writes: &[Planned<'_>]) -> Receipt {
        let mut receipt = Receipt::of(&self.batch.id, jobs, self.layout);
        for Planned { write, act, .. } in writes {
            receipt.add(&write.intent, write.key.parts(), act, self.layout);
        }
        receipt
    }

    /// Puts the rows as they now stand into the outcomes of writes that happened. Where a statement changed fewer rows than it named,
    /// those that lost their guard are told by what stands there.
    async fn read_back(&mut self) -> Result<(), StoreError> {
        let sent = std::mem::take(&mut self.sent);
        let keys: BTreeSet<&RecordKey> = sent
            .iter()
            .flat_map(|(writes, all)| writes.iter().map(move |planned| (planned, *all)))
            .filter(|(planned, all)| !all || !matches!(planned.act, Act::Delete))
            .map(|(planned, _)| &planned.write.key)
            .collect();
        let found = self.store.find(self.layout, self.mapped, &keys).await;
        let mut lost = Vec::new();
        for (writes, all) in &sent {
            for Planned { write, act, .. } in writes {
                let outcome = match &found {
                    // It is known that all of them happened; how the rows look is seen in the next pass.
                    Err(_) if *all => Outcome::Applied(None),
                    Err(failure) => Outcome::Unknown(StoreError {
                        kind: ErrorKind::OutcomeUnknown,
                        ..self.store.told(failure)
                    }),
                    Ok(found) => {
                        let there = found.get(&write.key).map_or(&[][..], Vec::as_slice);
                        self.became(write, act, there, *all)
                    }
                };
                if matches!(outcome, Outcome::Moved) {
                    lost.push(write.intent.clone());
                }
                self.outcomes.insert(write.intent.clone(), outcome);
            }
        }
        if self.batch.receipt && !lost.is_empty() {
            self.store.strike_out(&self.batch.id, &lost).await;
        }
        Ok(())
    }

    fn became(&self, write: &Write, act: &Act, there: &[Found], all: bool) -> Outcome {
        match (act, there) {
            (Act::Delete, []) => Outcome::Applied(None),
            (Act::Delete, _) if all => Outcome::Applied(None),
            (Act::Insert(columns) | Act::Update(columns), [row]) => {
                let stands = |(slot, written): (&usize, &super::kind::Written)| {
                    let Some(node) = self.layout.node(*slot) else { return false };
                    let text = row.values.get(*slot).and_then(Option::as_deref);
                    super::kind::normal(node, text) == written.normal(node)
                };
                if all || columns.iter().all(stands) {
                    Outcome::Applied(Some(row.row.clone()))
                } else {
                    Outcome::Moved
                }
            }
            (Act::Insert(_) | Act::Update(_), []) if all => Outcome::Unknown(StoreError::new(
                ErrorKind::Corrupt,
                &self.store.name,
                format!("`{}` has no row {} after it was written", self.layout.names.title, write.key),
            )),
            _ => Outcome::Moved,
        }
    }
}

/// A batch's id as it may stand in a job's.
fn job_word(batch: &BatchId) -> String {
    batch
        .0
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || char == '-' { char } else { '_' })
        .take(80)
        .collect()
}
