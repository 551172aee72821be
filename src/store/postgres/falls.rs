//! Deletes that go together (a fall): what refers to a record, and then the record itself. All falls are in one transaction, and each of them
//! happens as a whole or not at all. When the server refuses some, they are tried again in halves, down to the fall that it refuses.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Fall, Falls, IntentId, Outcome, RecordKey, StoreError};

use super::super::falls::none_of;
use super::super::may_write;
use super::PostgresStore;
use super::error::{self, delete_error};
use super::layout::Layout;
use super::read::Lock;
use super::session::{Session, WRITE};
use super::tries::{Failed, Held, Tries};
use super::write::{Act, delete_rows};

/// Why a fall does not happen: the write that it is about, and what became of it.
type Why = (IntentId, Outcome);

impl PostgresStore {
    pub(super) async fn delete_falls(
        &self,
        falls: &Falls,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        may_write(&self.name, self.read_only)?;
        let mut tries = Tries::new();
        loop {
            match self.attempt_falls(falls, tries.held).await {
                Err(failed) if tries.again(&failed) => {}
                done => return done.map_err(|failed| failed.told),
            }
        }
    }

    async fn attempt_falls(&self, falls: &Falls, held: Held) -> Result<BTreeMap<IntentId, Outcome>, Failed> {
        let mut session = self.server.begin(WRITE).await?;
        let mut layouts = Vec::new();
        for mapped in &falls.mapped {
            layouts.push(self.writable(&mut session, mapped, "ROW EXCLUSIVE").await?);
        }
        let mut outcomes = BTreeMap::new();
        let mut left: Vec<&[Fall]> = vec![&falls.falls];
        while let Some(some) = left.pop() {
            session.run("SAVEPOINT trueup_falls").await.map_err(|error| self.failed(&error))?;
            let why = self.delete_all(&mut session, (falls, held), &layouts, some).await;
            let why = match why {
                Ok(why) => why,
                Err((_, error)) if !error::is_refusal(&error) => return Err(self.failed(&error)),
                Err((which, error)) => which.map(|which| {
                    let told = delete_error(&self.name, &error);
                    (which, Outcome::Refused(told))
                }),
            };
            let Some((which, outcome)) = why else {
                let done = some.iter().flatten().map(|(_, write)| write.intent.clone());
                outcomes.extend(done.map(|intent| (intent, Outcome::Applied(None))));
                continue;
            };
            let undo = "ROLLBACK TO SAVEPOINT trueup_falls; RELEASE SAVEPOINT trueup_falls";
            session.run(undo).await.map_err(|error| self.failed(&error))?;
            if let [fall] = some {
                outcomes.extend(none_of(&self.name, fall, &which, &outcome));
            } else {
                let (first, second) = some.split_at(some.len() / 2);
                left.extend([second, first]);
            }
        }
        let applied: Vec<&IntentId> = outcomes
            .iter()
            .filter(|(_, outcome)| matches!(outcome, Outcome::Applied(_)))
            .map(|(intent, _)| intent)
            .collect();
        let left = self.leave_receipt(&mut session, &falls.id, &applied).await;
        left.map_err(|error| self.failed(&error))?;
        self.commit(session).await?;
        Ok(outcomes)
    }

    /// Deletes some falls, entity by entity; or says which write is in the way. An error comes with the write that it may be about.
    async fn delete_all(
        &self,
        session: &mut Session,
        (falls, held): (&Falls, Held),
        layouts: &[Layout],
        some: &[Fall],
    ) -> Result<Option<Why>, (Option<IntentId>, sqlx::Error)> {
        let mut last: Option<IntentId> = None;
        for (mapped, layout) in falls.mapped.iter().zip(layouts) {
            let of_it = some.iter().flatten().filter(|(entity, _)| entity == mapped.name());
            let writes: Vec<_> = of_it.map(|(_, write)| write).collect();
            let keys: BTreeSet<&RecordKey> = writes.iter().map(|write| &write.key).collect();
            // Whoever refers to these rows has to wait, and finds them gone.
            let found = self.locked(session, (layout, mapped), &keys, (Lock::Delete, held)).await;
            let (found, held) = found.map_err(|error| (last.clone(), error))?;
            if let Some(write) = writes.iter().find(|write| held.contains(&write.key)) {
                let told = self.held(layout, &write.key);
                return Ok(Some((write.intent.clone(), Outcome::Refused(told))));
            }
            let repeated = BTreeSet::new();
            let mut places: [Vec<String>; 2] = Default::default();
            for write in &writes {
                let there = found.get(&write.key).map_or(&[][..], Vec::as_slice);
                match self.plan(mapped, layout, write, there, &repeated) {
                    Ok(Act::Delete([table, at])) => {
                        places[0].push(table);
                        places[1].push(at);
                    }
                    Ok(_) => return Ok(Some((write.intent.clone(), Outcome::Moved))),
                    Err(outcome) => return Ok(Some((write.intent.clone(), outcome))),
                }
            }
            last = writes.last().map(|write| write.intent.clone()).or(last);
            let expected = writes.len() as u64;
            let done = delete_rows(session, layout, places).await;
            if done.map_err(|error| (last.clone(), error))? != expected {
                let message = format!("deleting from `{}` left rows where they were", layout.title);
                let refused = self.refusal(crate::model::ErrorKind::Corrupt, message);
                return Ok(last.map(|last| (last, Outcome::Refused(refused))));
            }
        }
        // Constraints that would be checked at the end are checked now.
        let checked = session.run("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT trueup_falls").await;
        checked.map_err(|error| (last, error)).map(|()| None)
    }
}
