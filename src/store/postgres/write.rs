//! Guarded writes: a batch is one transaction that locks its rows, compares them with their guards, writes those that still are
//! what they were, and reads them back.
//!
//! Writes go out many in a statement. Where the server refuses one of them it refuses the statement, which is then tried again in
//! halves, down to the one write that it is about.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::Row as _;

use crate::model::{
    Batch, BatchId, ErrorKind, IntentId, Mapped, Outcome, RecordKey, StoreError, Write, WriteOp,
};

use super::super::tables::only_read;
use super::super::{came_to_nothing, check_write, may_write, repeated_keys};
use super::PostgresStore;
use super::error::{self, store_error};
use super::image::{Columns, Image};
use super::layout::Layout;
use super::mark::{bounds, whole};
use super::read::{Found, Lock, find};
use super::refusal;
use super::session::{READ, Session, WRITE, quoted};
use super::tries::{Failed, Held, Tries};

/// From so many new rows on they are sent as a stream.
const STREAMED_FROM: usize = 100;

/// What is done to the table for one write.
pub(super) enum Act {
    Insert(Columns),
    /// Where the row stands, and what is set in it.
    Update([String; 2], Columns),
    Delete([String; 2]),
}

/// A write whose guard holds.
pub(super) struct Planned<'a> {
    pub(super) write: &'a Write,
    pub(super) act: Act,
}

impl PostgresStore {
    pub(super) async fn apply_batch(
        &self,
        mapped: &Mapped,
        batch: &Batch,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        may_write(&self.name, self.read_only)?;
        let mut tries = Tries::new();
        loop {
            match self.attempt(mapped, batch, tries.held).await {
                Err(failed) if tries.again(&failed) => {}
                done => return done.map_err(|failed| failed.told),
            }
        }
    }

    async fn attempt(
        &self,
        mapped: &Mapped,
        batch: &Batch,
        held: Held,
    ) -> Result<BTreeMap<IntentId, Outcome>, Failed> {
        let (mut session, layout) = self.writing(mapped, batch).await?;
        // A row that is in the way of a new one is found out about when the table refuses that.
        let looked_for =
            |write: &&Write| !layout.has_unique_key() || !matches!(write.op, WriteOp::Create { .. });
        let keys: BTreeSet<&RecordKey> =
            batch.writes.iter().filter(looked_for).map(|write| &write.key).collect();
        let deletes = batch.writes.iter().any(|write| matches!(write.op, WriteOp::Delete { .. }));
        let lock = if deletes { Lock::Delete } else { Lock::Update };
        let searches = held.searches();
        let found = self.locked(&mut session, (&layout, mapped), &keys, (lock, held)).await;
        let (found, held) = found.map_err(|error| self.failed(&error))?;
        let known = found.values().flatten().all(|row| self.own.knows(layout.info.oid, row.writer));
        let mut outcomes = BTreeMap::new();
        let mut planned = Vec::new();
        let repeated = repeated_keys(batch);
        for write in &batch.writes {
            let there = found.get(&write.key).map_or(&[][..], Vec::as_slice);
            if held.contains(&write.key) {
                outcomes.insert(write.intent.clone(), Outcome::Refused(self.held(&layout, &write.key)));
                continue;
            }
            match self.plan(mapped, &layout, write, there, &repeated) {
                Ok(act) => planned.push(Planned { write, act }),
                Err(outcome) => {
                    outcomes.insert(write.intent.clone(), outcome);
                }
            }
        }
        let mut work = Work {
            store: self,
            mapped,
            layout: &layout,
            outcomes,
            written: BTreeSet::new(),
            assured: BTreeSet::new(),
            searches,
            session,
        };
        work.write_all(planned).await.map_err(|error| self.failed(&error))?;
        let own = work.read_back(batch).await.map_err(|error| self.failed(&error))?;
        if batch.receipt {
            work.leave_receipt(&batch.id, &batch.writes).await.map_err(|error| self.failed(&error))?;
        }
        let Work { outcomes, session, .. } = work;
        self.commit(session).await?;
        // What somebody did to one of the rows after the last look is to be seen by the next one.
        if known {
            self.own.note(layout.info.oid, own);
        }
        Ok(outcomes)
    }

    pub(super) async fn commit(&self, session: Session) -> Result<(), Failed> {
        session.end("COMMIT").await.map_err(|error| {
            let failed = self.failed(&error);
            if error::did_not_happen(&error) {
                return failed;
            }
            StoreError { kind: ErrorKind::OutcomeUnknown, ..failed.told }.into()
        })
    }

    /// A table as it is, locked for writing it.
    pub(super) async fn writable(
        &self,
        session: &mut Session,
        mapped: &Mapped,
        mode: &str,
    ) -> Result<Layout, StoreError> {
        let names = self.names(mapped)?;
        self.lock(session, &names, mode).await?;
        let layout = Layout::of(&self.name, session, &names, mapped).await?;
        if layout.info.writable {
            return Ok(layout);
        }
        Err(only_read(&self.name, &layout.title))
    }

    /// A transaction that writes a table, and the table's layout.
    async fn writing(&self, mapped: &Mapped, batch: &Batch) -> Result<(Session, Layout), Failed> {
        let creates = batch.writes.iter().any(|write| matches!(write.op, WriteOp::Create { .. }));
        let mut mode = "ROW EXCLUSIVE";
        loop {
            let mut session = self.server.begin(WRITE).await?;
            let layout = self.writable(&mut session, mapped, mode).await?;
            if !creates || layout.has_unique_key() || mode != "ROW EXCLUSIVE" {
                return Ok((session, layout));
            }
            // Without a unique key only a lock keeps two controllers from creating one record twice. It is taken before anything else: two
            // that both held the weaker lock already would wait for each other for ever.
            session.end("ROLLBACK").await.map_err(|error| self.failed(&error))?;
            mode = "SHARE ROW EXCLUSIVE";
        }
    }

    /// What a write comes to, or what became of it already.
    #[allow(clippy::result_large_err)] // An outcome is no error, and one of the two is always made.
    pub(super) fn plan(
        &self,
        mapped: &Mapped,
        layout: &Layout,
        write: &Write,
        there: &[Found],
        repeated: &BTreeSet<&RecordKey>,
    ) -> Result<Act, Outcome> {
        check_write(&self.name, mapped, write, repeated).map_err(Outcome::Refused)?;
        if there.len() > 1 {
            let message = format!("`{}` has {} rows of the key {}", layout.title, there.len(), write.key);
            return Err(Outcome::Refused(self.refusal(ErrorKind::Conflict, message)));
        }
        let image = |current: &[Option<&[u8]>]| -> Result<Columns, StoreError> {
            let mut image = Image::new(&self.name, mapped, layout, current);
            if matches!(write.op, WriteOp::Create { .. }) {
                image.put_key(&write.key)?;
            }
            image.put_all(&write.op)?;
            image.finish()
        };
        match (&write.op, there.first()) {
            (WriteOp::Create { .. }, None) => image(&[]).map(Act::Insert).map_err(Outcome::Refused),
            (WriteOp::Update { guard, .. }, Some(row)) if row.is_as(guard, layout, mapped) => {
                let columns = image(&row.values()).map_err(Outcome::Refused)?;
                // Nothing to set: the row is as it is.
                if columns.is_empty() {
                    return Err(Outcome::Applied(None));
                }
                Ok(Act::Update(row.at.clone(), columns))
            }
            (WriteOp::Delete { guard }, Some(row)) if row.is_as(guard, layout, mapped) => {
                Ok(Act::Delete(row.at.clone()))
            }
            _ => Err(Outcome::Moved),
        }
    }

    /// The table of receipts, as SQL has it.
    pub(super) fn receipts_table(&self) -> String {
        format!("{}.trueup_receipts", quoted(&self.schema))
    }

    /// Notes what a batch applied.
    pub(super) async fn leave_receipt(
        &self,
        session: &mut Session,
        batch: &BatchId,
        intents: &[&IntentId],
    ) -> Result<(), sqlx::Error> {
        let text = serde_json::to_string(&intents).map_err(|error| sqlx::Error::Encode(error.into()))?;
        let sql = format!(
            "INSERT INTO {} AS r (batch, intents) VALUES ($1, $2) ON CONFLICT (batch) \
             DO UPDATE SET intents = (r.intents::jsonb || excluded.intents::jsonb)::text",
            self.receipts_table()
        );
        let query = session.query(&sql).bind(batch.0.clone()).bind(text);
        session.execute(query).await.map(drop)
    }

    pub(super) async fn read_receipts(
        &self,
        batches: &[BatchId],
    ) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let mut session = self.server.begin(READ).await?;
        let sql = format!("SELECT batch, intents FROM {} WHERE batch = ANY ($1)", self.receipts_table());
        let ids: Vec<String> = batches.iter().map(ToString::to_string).collect();
        let query = session.query(&sql).bind(ids);
        let rows = match session.all(query).await {
            // No table of receipts: nothing ever left one.
            Err(error) if matches!(error::code(&error), Some("42P01" | "3F000")) => Vec::new(),
            rows => rows.map_err(failed)?,
        };
        let mut receipts = BTreeMap::new();
        for row in rows {
            let (batch, text): (String, String) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            let intents = serde_json::from_str(&text)
                .map_err(|_| self.refusal(ErrorKind::Corrupt, "a receipt holds no list of intents"))?;
            receipts.insert(BatchId(batch.into()), intents);
        }
        session.end("ROLLBACK").await.map_err(failed)?;
        Ok(receipts)
    }

    pub(super) async fn remove_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let mut session = self.server.begin(WRITE).await?;
        let sql = format!("DELETE FROM {} WHERE batch = ANY ($1)", self.receipts_table());
        let ids: Vec<String> = batches.iter().map(ToString::to_string).collect();
        let query = session.query(&sql).bind(ids);
        match session.execute(query).await {
            Err(error) if matches!(error::code(&error), Some("42P01" | "3F000")) => {}
            done => {
                done.map_err(failed)?;
            }
        }
        session.end("COMMIT").await.map_err(failed)
    }
}

/// A batch's writes under way.
pub(super) struct Work<'a> {
    pub(super) store: &'a PostgresStore,
    pub(super) mapped: &'a Mapped,
    pub(super) layout: &'a Layout,
    outcomes: BTreeMap<IntentId, Outcome>,
    /// The rows that were really written.
    written: BTreeSet<RecordKey>,
    /// Those of them that need not be read back: they surely are as they were given, and another row of the same statement is read back for
    /// all of them.
    assured: BTreeSet<RecordKey>,
    /// How often those may still be looked for that wait for another transaction.
    searches: usize,
    pub(super) session: Session,
}

impl Work<'_> {
    async fn write_all(&mut self, planned: Vec<Planned<'_>>) -> Result<(), sqlx::Error> {
        let mut left = vec![planned];
        // Updates that want what another row has.
        let mut blocked: Vec<Planned<'_>> = Vec::new();
        let mut why = BTreeMap::new();
        while let Some(mut writes) = left.pop() {
            if writes.is_empty() {
                continue;
            }
            self.session.run("SAVEPOINT trueup_writes").await?;
            let refused = match self.together(&writes).await {
                Ok(true) => {
                    // One of them is looked at all the same: the transaction that wrote it wrote the others.
                    let mut first = true;
                    for Planned { write, .. } in writes {
                        let keeps = self.layout.keeps_as_given(&write.op);
                        if keeps && !std::mem::take(&mut first) {
                            self.assured.insert(write.key.clone());
                        }
                        self.written.insert(write.key.clone());
                        self.outcomes.insert(write.intent.clone(), Outcome::Applied(None));
                    }
                    continue;
                }
                Ok(false) => None,
                Err(error) if error::is_refusal(&error) => Some(error),
                Err(error) if error::is_held(&error) && self.searches > 0 => {
                    self.searches -= 1;
                    Some(error)
                }
                Err(error) => return Err(error),
            };
            self.session.run("ROLLBACK TO SAVEPOINT trueup_writes; RELEASE SAVEPOINT trueup_writes").await?;
            // Whatever else is wrong with a row that is to be made: if it is there, it is not to be made.
            let in_the_way =
                refused.as_ref().is_some_and(|error| error::is_taken(error) || writes.len() == 1);
            if in_the_way && self.taken(&mut writes).await? {
                left.push(writes);
                continue;
            }
            if writes.len() > 1 {
                let second = writes.split_off(writes.len() / 2);
                left.extend([second, writes]);
                continue;
            }
            for Planned { write, act } in writes {
                let told = match &refused {
                    Some(error) => refusal::told(self.store, self.mapped, self.layout, &act, error),
                    None => came_to_nothing(&self.store.name, &self.layout.title, write),
                };
                if refused.as_ref().is_some_and(error::is_taken) && matches!(act, Act::Update(..)) {
                    blocked.push(Planned { write, act });
                    why.insert(write.intent.clone(), told);
                } else {
                    self.outcomes.insert(write.intent.clone(), Outcome::Refused(told));
                }
            }
        }
        let exchanged = blocked.len() > 1 && self.exchange(&blocked).await?;
        for (intent, told) in why {
            let outcome = if exchanged { Outcome::Applied(None) } else { Outcome::Refused(told) };
            self.outcomes.insert(intent, outcome);
        }
        if exchanged {
            self.written.extend(blocked.into_iter().map(|planned| planned.write.key.clone()));
        }
        Ok(())
    }

    /// Takes out the creates whose key is there now; whether there were any. Somebody else made the record meanwhile.
    async fn taken(&mut self, writes: &mut Vec<Planned<'_>>) -> Result<bool, sqlx::Error> {
        let creates = writes.iter().filter(|planned| matches!(planned.act, Act::Insert(_)));
        let keys: BTreeSet<&RecordKey> = creates.map(|planned| &planned.write.key).collect();
        let there = find(&mut self.session, self.layout, self.mapped, &keys, Lock::None).await?;
        writes.retain(|Planned { write, act }| {
            let stays = !matches!(act, Act::Insert(_)) || !there.contains_key(&write.key);
            if !stays {
                self.outcomes.insert(write.intent.clone(), Outcome::Moved);
            }
            stays
        });
        Ok(!there.is_empty())
    }

    /// Writes all or nothing; false when a row was not there to be written.
    pub(super) async fn together(&mut self, writes: &[Planned<'_>]) -> Result<bool, sqlx::Error> {
        let mut deletes: [Vec<String>; 2] = Default::default();
        let mut updates: BTreeMap<Vec<usize>, Vec<(&[String; 2], &Columns)>> = BTreeMap::new();
        let mut inserts: BTreeMap<Vec<usize>, Vec<&Columns>> = BTreeMap::new();
        let set = |columns: &Columns| columns.keys().copied().collect::<Vec<_>>();
        for planned in writes {
            match &planned.act {
                Act::Delete([table, at]) => {
                    deletes[0].push(table.clone());
                    deletes[1].push(at.clone());
                }
                Act::Update(at, columns) => updates.entry(set(columns)).or_default().push((at, columns)),
                Act::Insert(columns) => inserts.entry(set(columns)).or_default().push(columns),
            }
        }
        let mut done = self.delete(deletes).await?;
        for (columns, rows) in updates {
            done += self.update(&columns, &rows).await?;
        }
        for (columns, rows) in inserts {
            done += if rows.len() < STREAMED_FROM {
                self.insert(&columns, &rows).await?
            } else {
                self.stream(&columns, &rows).await?
            };
        }
        if done != writes.len() as u64 {
            return Ok(false);
        }
        // Constraints that would be checked at the end are checked now, while it is known which writes they are about.
        if self.surely_there(writes) {
            self.session.run("SET CONSTRAINTS ALL IMMEDIATE; RELEASE SAVEPOINT trueup_writes").await?;
            return Ok(true);
        }
        self.session.run("SET CONSTRAINTS ALL IMMEDIATE").await?;
        let there = self.are_there(writes).await?;
        if there {
            self.session.run("RELEASE SAVEPOINT trueup_writes").await?;
        }
        Ok(there)
    }

    /// Whether rows that were written certainly are there, under the keys that they were to have.
    fn surely_there(&self, writes: &[Planned<'_>]) -> bool {
        let makes_none = || !writes.iter().any(|planned| matches!(planned.act, Act::Insert(_)));
        self.layout.info.quiet && (self.layout.keeps_keys() || makes_none())
    }

    /// Whether they are: what a trigger moved away would be written again by every pass.
    async fn are_there(&mut self, writes: &[Planned<'_>]) -> Result<bool, sqlx::Error> {
        let left = writes.iter().filter(|planned| !matches!(planned.act, Act::Delete(_)));
        let keys: BTreeSet<&RecordKey> = left.map(|planned| &planned.write.key).collect();
        let found = find(&mut self.session, self.layout, self.mapped, &keys, Lock::None).await?;
        Ok(found.len() == keys.len())
    }

    async fn delete(&mut self, places: [Vec<String>; 2]) -> Result<u64, sqlx::Error> {
        delete_rows(&mut self.session, self.layout, places).await
    }

    async fn update(
        &mut self,
        columns: &[usize],
        rows: &[(&[String; 2], &Columns)],
    ) -> Result<u64, sqlx::Error> {
        let named = self.named(columns);
        let sets: Vec<String> =
            named.iter().enumerate().map(|(at, (name, base))| format!("{name} = u.c{at}::{base}")).collect();
        let sql = format!(
            "UPDATE {} AS t SET {} FROM {} WHERE t.tableoid = u.part::oid AND t.ctid = u.place::tid",
            self.layout.table,
            sets.join(", "),
            unnested(columns.len(), &["part", "place"]),
        );
        let mut query = self.session.query(&sql);
        for at in 0..2 {
            query = query.bind(rows.iter().map(|(place, _)| place[at].clone()).collect::<Vec<_>>());
        }
        for column in columns {
            query = query.bind(rows.iter().map(|(_, row)| text_of(row, *column)).collect::<Vec<_>>());
        }
        self.session.execute(query).await
    }

    async fn insert(&mut self, columns: &[usize], rows: &[&Columns]) -> Result<u64, sqlx::Error> {
        let named = self.named(columns);
        let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
        let values: Vec<String> =
            named.iter().enumerate().map(|(at, (_, base))| format!("u.c{at}::{base}")).collect();
        let sql = format!(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}",
            self.layout.table,
            names.join(", "),
            values.join(", "),
            unnested(columns.len(), &[]),
        );
        let mut query = self.session.query(&sql);
        for column in columns {
            query = query.bind(rows.iter().map(|row| text_of(row, *column)).collect::<Vec<_>>());
        }
        self.session.execute(query).await
    }

    async fn stream(&mut self, columns: &[usize], rows: &[&Columns]) -> Result<u64, sqlx::Error> {
        let names: Vec<String> = self.named(columns).into_iter().map(|(name, _)| name).collect();
        let sql = format!("COPY {} ({}) FROM STDIN", self.layout.table, names.join(", "));
        let mut text = String::new();
        for row in rows {
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    text.push('\t');
                }
                push_copied(&mut text, row.get(column).and_then(Option::as_deref));
            }
            text.push('\n');
        }
        let mut copy = self.session.connection()?.copy_in_raw(&sql).await?;
        copy.send(text.into_bytes()).await?;
        copy.finish().await
    }

    /// Columns as SQL has them, with the types that texts are read as.
    fn named(&self, columns: &[usize]) -> Vec<(String, String)> {
        let columns = columns.iter().filter_map(|at| self.layout.info.columns.get(*at));
        columns.map(|column| (quoted(&column.name), column.base.clone())).collect()
    }

    /// Puts the rows as they now stand into the outcomes of the writes that happened, unless they surely are as given. Answers the transactions
    /// that wrote them, as far as nobody else can have had a hand in that.
    async fn read_back(&mut self, batch: &Batch) -> Result<BTreeSet<u64>, sqlx::Error> {
        let happened = |write: &&Write| matches!(self.outcomes.get(&write.intent), Some(Outcome::Applied(_)));
        let (deletes, written): (Vec<&Write>, Vec<&Write>) = batch
            .writes
            .iter()
            .filter(happened)
            .partition(|write| matches!(write.op, WriteOp::Delete { .. }));
        let written: Vec<&Write> =
            written.into_iter().filter(|write| !self.assured.contains(&write.key)).collect();
        let keys = written.iter().map(|write| &write.key).collect();
        let mut found = find(&mut self.session, self.layout, self.mapped, &keys, Lock::None).await?;
        let info = &self.layout.info;
        let alone = info.quiet && (deletes.is_empty() || info.quiet_deletes);
        let base = bounds(&info.snapshot).filter(|_| alone).map(|(_, xmax)| xmax);
        let mut own = BTreeSet::new();
        for write in written {
            let outcome = match found.remove(&write.key).and_then(|rows| rows.into_iter().next()) {
                Some(row) => {
                    if let Some(base) = base.filter(|_| self.written.contains(&write.key)) {
                        own.insert(whole(base, row.writer));
                    }
                    Outcome::Applied(Some(row.row(self.layout, self.mapped)))
                }
                // A trigger moved it or took it away.
                None => Outcome::Unknown(self.store.refusal(
                    ErrorKind::Corrupt,
                    format!("`{}` has no row {} after it was written", self.layout.title, write.key),
                )),
            };
            self.outcomes.insert(write.intent.clone(), outcome);
        }
        Ok(own)
    }

    /// Notes what a batch applied.
    async fn leave_receipt(&mut self, batch: &BatchId, writes: &[Write]) -> Result<(), sqlx::Error> {
        let applied = |write: &&Write| matches!(self.outcomes.get(&write.intent), Some(Outcome::Applied(_)));
        let intents: Vec<&IntentId> = writes.iter().filter(applied).map(|write| &write.intent).collect();
        self.store.leave_receipt(&mut self.session, batch, &intents).await
    }
}

/// Removes rows by where they are, and says how many there were.
pub(super) async fn delete_rows(
    session: &mut Session,
    layout: &Layout,
    [tables, places]: [Vec<String>; 2],
) -> Result<u64, sqlx::Error> {
    if places.is_empty() {
        return Ok(0);
    }
    let sql = format!(
        "DELETE FROM {} AS t USING unnest($1::text[], $2::text[]) AS u(part, place) \
         WHERE t.tableoid = u.part::oid AND t.ctid = u.place::tid",
        layout.table
    );
    let query = session.query(&sql).bind(tables).bind(places);
    session.execute(query).await
}

fn text_of(row: &Columns, column: usize) -> Option<String> {
    row.get(&column).cloned().flatten()
}

/// `unnest($1::text[], …) AS u(first names, c0, c1, …)`.
fn unnested(columns: usize, first: &[&str]) -> String {
    let names = first.iter().map(|name| (*name).to_owned()).chain((0..columns).map(|at| format!("c{at}")));
    let names: Vec<String> = names.collect();
    let marks: Vec<String> = (1..=names.len()).map(|at| format!("${at}::text[]")).collect();
    format!("unnest({}) AS u({})", marks.join(", "), names.join(", "))
}

/// A value as `COPY` reads it.
fn push_copied(line: &mut String, value: Option<&str>) {
    let Some(value) = value else { return line.push_str("\\N") };
    for char in value.chars() {
        match char {
            '\\' => line.push_str("\\\\"),
            '\t' => line.push_str("\\t"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            other => line.push(other),
        }
    }
}
