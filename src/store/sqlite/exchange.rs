//! Writes that take values from each other which the table lets only one row have. Whoever waits for another goes after it; where they wait
//! for each other, all let go first, within the transaction, and then each takes what it is to have: all of them or none.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Transaction};

use crate::model::{ErrorKind, IntentId, Mapped, Outcome, RecordKey, Write, WriteOp};

use super::super::letting_go;
use super::SqliteStore;
use super::layout::Layout;
use super::read::Found;
use super::write::{Sent, Task};

/// What updates of a batch are made with.
pub(super) struct Exchange<'a> {
    pub(super) store: &'a SqliteStore,
    pub(super) mapped: &'a Mapped,
    pub(super) layout: &'a Layout,
    pub(super) found: &'a BTreeMap<RecordKey, Vec<Found>>,
    pub(super) repeated: &'a BTreeSet<&'a RecordKey>,
}

impl<'a> Exchange<'a> {
    /// Tries those again that another row was in the way of.
    pub(super) fn settle(
        &self,
        transaction: &Transaction<'_>,
        writes: &[&'a Write],
        sent: &mut Sent<'a>,
        outcomes: &mut BTreeMap<IntentId, Outcome>,
    ) -> rusqlite::Result<()> {
        let waits = |outcomes: &BTreeMap<IntentId, Outcome>, write: &Write| {
            let taken = matches!(outcomes.get(&write.intent), Some(Outcome::Refused(error)) if error.kind == ErrorKind::Conflict);
            taken && matches!(write.op, WriteOp::Update { .. } | WriteOp::Create { .. })
        };
        let mut waiting: Vec<&'a Write> =
            writes.iter().copied().filter(|write| waits(outcomes, write)).collect();
        while !waiting.is_empty() {
            let before = waiting.len();
            for write in &waiting {
                let outcome = self.run(transaction, write, sent);
                outcomes.insert(write.intent.clone(), outcome);
            }
            waiting.retain(|write| waits(outcomes, write));
            if waiting.len() == before {
                break;
            }
        }
        // New rows have nothing to let go of.
        let (made, waiting): (Vec<&Write>, Vec<&Write>) =
            waiting.into_iter().partition(|write| matches!(write.op, WriteOp::Create { .. }));
        if waiting.len() < 2 {
            return Ok(());
        }
        transaction.execute_batch("SAVEPOINT trueup_exchange")?;
        let mut own = Sent::new(sent.triggers);
        let done = self.all(transaction, &waiting, &mut own);
        if done.is_none() {
            transaction.execute_batch("ROLLBACK TO trueup_exchange")?;
        }
        transaction.execute_batch("RELEASE trueup_exchange")?;
        if let Some(done) = done {
            sent.unsure.extend(own.unsure);
            outcomes.extend(done);
            for write in made {
                outcomes.insert(write.intent.clone(), self.run(transaction, write, sent));
            }
        }
        Ok(())
    }

    fn run<'w>(&self, connection: &Connection, write: &'w Write, sent: &mut Sent<'w>) -> Outcome
    where
        'a: 'w,
    {
        let there = self.found.get(&write.key).map_or(&[][..], Vec::as_slice);
        let (store, mapped, layout, repeated) = (self.store, self.mapped, self.layout, self.repeated);
        Task { store, mapped, layout, write, there, repeated }.run(connection, sent)
    }

    /// All of them; none where one cannot let go, or take what it is to have.
    fn all(
        &self,
        connection: &Connection,
        waiting: &[&'a Write],
        sent: &mut Sent<'a>,
    ) -> Option<BTreeMap<IntentId, Outcome>> {
        let free: Vec<Write> = waiting.iter().filter_map(|write| letting_go(self.mapped, write)).collect();
        let mut freed = Sent::new(sent.triggers);
        let applied = |outcome: &Outcome| matches!(outcome, Outcome::Applied(_));
        if free.is_empty() || !free.iter().all(|write| applied(&self.run(connection, write, &mut freed))) {
            return None;
        }
        let mut outcomes = BTreeMap::new();
        for write in waiting {
            let outcome = self.run(connection, write, sent);
            if !applied(&outcome) {
                return None;
            }
            outcomes.insert(write.intent.clone(), outcome);
        }
        Some(outcomes)
    }
}
