//! Deletes that go together: what refers to a record, and then the record, in one transaction; each fall whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use crate::model::{Fall, Falls, IntentId, Mapped, Outcome, StoreError, Write};

use super::super::falls::{failed, none_of};
use super::SqliteStore;
use super::error::store_error;
use super::layout::Layout;
use super::read::find;
use super::triggers;
use super::write::{Attempt, Sent, Task, leave_receipt};

impl SqliteStore {
    pub(super) fn delete_falls(
        &self,
        connection: &mut Connection,
        falls: &Falls,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let all: Vec<&Fall> = falls.falls.iter().collect();
        if let Attempt::Committed(outcomes) = self.attempt_falls(connection, falls, &all)? {
            return Ok(outcomes);
        }
        // One took the others down with it: each goes alone.
        let mut outcomes = BTreeMap::new();
        for fall in all {
            match self.attempt_falls(connection, falls, &[fall]) {
                Ok(Attempt::Committed(done)) => outcomes.extend(done),
                Ok(Attempt::ThrownAway(error)) | Err(error) => {
                    outcomes.extend(fall.iter().map(|(_, write)| (write.intent.clone(), failed(&error))));
                }
            }
        }
        Ok(outcomes)
    }

    fn attempt_falls(
        &self,
        connection: &mut Connection,
        falls: &Falls,
        some: &[&Fall],
    ) -> Result<Attempt, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let immediate = TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(immediate).map_err(failed)?;
        let mut layouts = Vec::new();
        for mapped in &falls.mapped {
            let layout = Layout::of(&self.name, &transaction, mapped)?;
            let triggers = triggers::are_on(&transaction, &layout.title).map_err(failed)?;
            layouts.push((mapped, layout, triggers));
        }
        let mut outcomes = BTreeMap::new();
        for fall in some {
            transaction.execute_batch("SAVEPOINT trueup_fall").map_err(failed)?;
            let stays = fall.iter().find_map(|(entity, write)| {
                let (mapped, layout, triggers) =
                    layouts.iter().find(|(mapped, ..)| mapped.name() == entity)?;
                let outcome = self.delete_one(&transaction, (mapped, layout, *triggers), write);
                (!matches!(outcome, Outcome::Applied(_))).then_some((write, outcome))
            });
            match stays {
                None => outcomes
                    .extend(fall.iter().map(|(_, write)| (write.intent.clone(), Outcome::Applied(None)))),
                Some((_, Outcome::Refused(error))) if transaction.is_autocommit() => {
                    return Ok(Attempt::ThrownAway(error));
                }
                Some((write, why)) => {
                    transaction.execute_batch("ROLLBACK TO trueup_fall").map_err(failed)?;
                    outcomes.extend(none_of(&self.name, fall, &write.intent, &why));
                }
            }
            transaction.execute_batch("RELEASE trueup_fall").map_err(failed)?;
        }
        let writes: Vec<&Write> = some.iter().flat_map(|fall| fall.iter()).map(|(_, write)| write).collect();
        leave_receipt(&transaction, &falls.id, &writes, &outcomes).map_err(failed)?;
        self.commit(transaction)?;
        Ok(Attempt::Committed(outcomes))
    }

    fn delete_one(
        &self,
        transaction: &Transaction<'_>,
        (mapped, layout, triggers): (&Mapped, &Layout, bool),
        write: &Write,
    ) -> Outcome {
        let found = match find(transaction, layout, mapped, &BTreeSet::from([&write.key])) {
            Ok(found) => found,
            Err(error) => return Outcome::Refused(store_error(&self.name, &error)),
        };
        let there = found.get(&write.key).map_or(&[][..], Vec::as_slice);
        let repeated = BTreeSet::new();
        let task = Task { store: self, mapped, layout, write, there, repeated: &repeated };
        task.run(transaction, &mut Sent::new(triggers))
    }
}
