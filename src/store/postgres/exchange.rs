//! Updates that take values from each other which the table lets only one row have: all let go first, within the transaction, and then each
//! takes what it is to have. All of them or none.

use std::collections::BTreeSet;

use crate::model::{RecordKey, Write};

use super::super::letting_go;
use super::error;
use super::read::{Lock, find};
use super::tries::Held;
use super::write::{Act, Planned, Work};

impl Work<'_> {
    /// Whether all of them are made.
    pub(super) async fn exchange(&mut self, blocked: &[Planned<'_>]) -> Result<bool, sqlx::Error> {
        self.session.run("SAVEPOINT trueup_exchange").await?;
        match self.let_go_and_take(blocked).await {
            Ok(true) => {
                self.session.run("RELEASE SAVEPOINT trueup_exchange").await?;
                return Ok(true);
            }
            Ok(false) => {}
            Err(error) if error::is_refusal(&error) => {}
            Err(error) => return Err(error),
        }
        self.session.run("ROLLBACK TO SAVEPOINT trueup_exchange; RELEASE SAVEPOINT trueup_exchange").await?;
        Ok(false)
    }

    async fn let_go_and_take(&mut self, blocked: &[Planned<'_>]) -> Result<bool, sqlx::Error> {
        let keys: BTreeSet<&RecordKey> = blocked.iter().map(|planned| &planned.write.key).collect();
        let letting_go = |planned: &Planned<'_>| letting_go(self.mapped, planned.write);
        let free: Vec<Write> = blocked.iter().filter_map(letting_go).collect();
        let found =
            find(&mut self.session, self.layout, self.mapped, &keys, Lock::Update(Held::WaitedFor)).await?;
        let repeated = BTreeSet::new();
        let mut freed = Vec::new();
        for write in &free {
            let there = found.get(&write.key).map_or(&[][..], Vec::as_slice);
            let Ok(act) = self.store.plan(self.mapped, self.layout, write, there, &repeated) else {
                return Ok(false);
            };
            freed.push(Planned { write, act });
        }
        if freed.is_empty() || !self.all(&freed).await? {
            return Ok(false);
        }
        // Rows are found by where they are, and that is another place now.
        let found =
            find(&mut self.session, self.layout, self.mapped, &keys, Lock::Update(Held::WaitedFor)).await?;
        let mut takes = Vec::new();
        for Planned { write, act } in blocked {
            let (Act::Update(_, columns), Some([row])) = (act, found.get(&write.key).map(Vec::as_slice))
            else {
                return Ok(false);
            };
            takes.push(Planned { write, act: Act::Update(row.at.clone(), columns.clone()) });
        }
        self.all(&takes).await
    }

    /// Writes all or nothing, within a savepoint of their own.
    async fn all(&mut self, writes: &[Planned<'_>]) -> Result<bool, sqlx::Error> {
        self.session.run("SAVEPOINT trueup_writes").await?;
        self.together(writes).await
    }
}
