//! Guarded writes: a batch is one transaction that reads its rows, compares them with their guards, writes those that still
//! are what they were, and answers what they hold then.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use rusqlite::{
    Connection, OptionalExtension as _, Transaction, TransactionBehavior, params, params_from_iter,
};

use crate::model::{
    Batch, BatchId, Cell, ErrorKind, FieldType, Fields, Form, IntentId, Mapped, Native, Outcome, RecordKey,
    Row, StoreError, Value, Write, WriteOp,
};

use super::super::{came_to_nothing, check_write, repeated_keys};
use super::SqliteStore;
use super::digest;
use super::error::{did_not_happen, store_error};
use super::exchange::Exchange;
use super::image::Image;
use super::layout::{FieldPlace, Layout};
use super::native::quoted;
use super::read::{Found, find};
use super::triggers;

/// What became of a transaction.
pub(super) enum Attempt {
    Committed(BTreeMap<IntentId, Outcome>),
    /// Something in the database (a trigger's `RAISE(ROLLBACK)`) threw the whole transaction away.
    ThrownAway(StoreError),
}

impl SqliteStore {
    pub(super) fn apply_batch(
        &self,
        connection: &mut Connection,
        mapped: &Mapped,
        batch: &Batch,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let repeated = repeated_keys(batch);
        let all: Vec<&Write> = batch.writes.iter().collect();
        if let Attempt::Committed(outcomes) = self.attempt(connection, mapped, batch, &all, &repeated)? {
            return Ok(outcomes);
        }
        // One write took the others down with it: each goes alone.
        let mut outcomes = BTreeMap::new();
        for write in &batch.writes {
            match self.attempt(connection, mapped, batch, &[write], &repeated) {
                Ok(Attempt::Committed(one)) => outcomes.extend(one),
                Err(error) if error.kind == ErrorKind::OutcomeUnknown => {
                    outcomes.insert(write.intent.clone(), Outcome::Unknown(error));
                }
                Ok(Attempt::ThrownAway(error)) | Err(error) => {
                    outcomes.insert(write.intent.clone(), Outcome::Refused(error));
                }
            }
        }
        Ok(outcomes)
    }

    fn attempt(
        &self,
        connection: &mut Connection,
        mapped: &Mapped,
        batch: &Batch,
        writes: &[&Write],
        repeated: &BTreeSet<&RecordKey>,
    ) -> Result<Attempt, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        // Taken for writing at once: a transaction that began by reading could not be waited for.
        let immediate = TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(immediate).map_err(failed)?;
        let layout = Layout::of(&self.name, &transaction, mapped)?;
        let keys: BTreeSet<&RecordKey> = writes.iter().map(|write| &write.key).collect();
        let found = find(&transaction, &layout, mapped, &keys).map_err(failed)?;
        let triggers = triggers::are_on(&transaction, &layout.title).map_err(failed)?;
        let mut sent = Sent::new(triggers);
        let mut outcomes = BTreeMap::new();
        for write in writes {
            let there = found.get(&write.key).map_or(&[][..], Vec::as_slice);
            let task = Task { store: self, mapped, layout: &layout, write, there, repeated };
            // A statement that fails leaves what others did.
            let outcome = task.run(&transaction, &mut sent);
            if let Outcome::Refused(error) = &outcome
                && transaction.is_autocommit()
            {
                return Ok(Attempt::ThrownAway(error.clone()));
            }
            outcomes.insert(write.intent.clone(), outcome);
        }
        let exchange = Exchange { store: self, mapped, layout: &layout, found: &found, repeated };
        exchange.settle(&transaction, writes, &mut sent, &mut outcomes).map_err(failed)?;
        read_back(&transaction, &layout, mapped, &sent.unsure, &mut outcomes, self)?;
        if batch.receipt {
            leave_receipt(&transaction, &batch.id, writes, &outcomes).map_err(failed)?;
        }
        self.commit(transaction)?;
        let ended = writes.iter().filter_map(|write| {
            let by = match outcomes.get(&write.intent)? {
                Outcome::Applied(_) => *sent.differences.get(&write.key)?,
                Outcome::Moved | Outcome::Refused(_) => 0,
                Outcome::Unknown(_) => return None,
            };
            Some((digest::hash(&write.key), by))
        });
        self.touched.end(mapped, ended);
        Ok(Attempt::Committed(outcomes))
    }

    /// Commits a transaction. Where that fails, it may have happened all the same.
    pub(super) fn commit(&self, transaction: Transaction<'_>) -> Result<(), StoreError> {
        transaction.commit().map_err(|error| {
            let told = store_error(&self.name, &error);
            if did_not_happen(&error) {
                return told;
            }
            StoreError { kind: ErrorKind::OutcomeUnknown, ..told }
        })
    }

    pub(super) fn read_receipts(
        &self,
        connection: &Connection,
        batches: &[BatchId],
    ) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        let mut receipts = BTreeMap::new();
        for batch in batches {
            match receipt_of(connection, batch) {
                Ok(Some(intents)) => {
                    receipts.insert(batch.clone(), intents);
                }
                Ok(None) => {}
                Err(error) => {
                    let told = store_error(&self.name, &error);
                    // No table of receipts: nothing ever left one.
                    return if told.kind == ErrorKind::NotFound { Ok(BTreeMap::new()) } else { Err(told) };
                }
            }
        }
        Ok(receipts)
    }

    pub(super) fn remove_receipts(
        &self,
        connection: &mut Connection,
        batches: &[BatchId],
    ) -> Result<(), StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let immediate = TransactionBehavior::Immediate;
        let transaction = connection.transaction_with_behavior(immediate).map_err(failed)?;
        for batch in batches {
            let gone = transaction
                .prepare_cached("DELETE FROM main.trueup_receipts WHERE batch = ?")
                .and_then(|mut gone| gone.execute([&batch.0]));
            if let Err(error) = gone {
                let told = store_error(&self.name, &error);
                return if told.kind == ErrorKind::NotFound { Ok(()) } else { Err(told) };
            }
        }
        transaction.commit().map_err(failed)
    }
}

fn receipt_of(connection: &Connection, batch: &BatchId) -> rusqlite::Result<Option<Vec<IntentId>>> {
    let text: Option<String> = connection
        .prepare_cached("SELECT intents FROM main.trueup_receipts WHERE batch = ?")?
        .query_row([&batch.0], |row| row.get(0))
        .optional()?;
    // What is none of ours is no receipt that could be read.
    text.map(|text| serde_json::from_str(&text).map_err(|_| rusqlite::Error::InvalidQuery)).transpose()
}

/// Notes what a batch applied. A batch that went out in pieces has one receipt all the same.
pub(super) fn leave_receipt(
    connection: &Connection,
    batch: &BatchId,
    writes: &[&Write],
    outcomes: &BTreeMap<IntentId, Outcome>,
) -> rusqlite::Result<()> {
    let mut intents = receipt_of(connection, batch)?.unwrap_or_default();
    let applied = |write: &&&Write| matches!(outcomes.get(&write.intent), Some(Outcome::Applied(_)));
    intents.extend(writes.iter().filter(applied).map(|write| write.intent.clone()));
    // Ids are texts.
    let text = serde_json::to_string(&intents).unwrap_or_default();
    connection
        .prepare_cached("INSERT OR REPLACE INTO main.trueup_receipts (batch, intents) VALUES (?, ?)")?
        .execute(params![batch.0, text])?;
    Ok(())
}

/// Puts the rows as they now stand into the outcomes of writes that happened and of which that is not certain.
fn read_back(
    connection: &Connection,
    layout: &Layout,
    mapped: &Mapped,
    written: &[&Write],
    outcomes: &mut BTreeMap<IntentId, Outcome>,
    store: &SqliteStore,
) -> Result<(), StoreError> {
    let keys = written.iter().map(|write| &write.key).collect();
    let found = find(connection, layout, mapped, &keys);
    let mut found = found.map_err(|error| store_error(&store.name, &error))?;
    for write in written {
        let outcome = match found.remove(&write.key).and_then(|rows| rows.into_iter().next()) {
            Some(row) => Outcome::Applied(Some(row.row(layout, mapped))),
            // A trigger moved it or took it away.
            None => Outcome::Unknown(store.refusal(
                ErrorKind::Corrupt,
                format!("`{}` has no row {} after it was written", layout.title, write.key),
            )),
        };
        outcomes.insert(write.intent.clone(), outcome);
    }
    Ok(())
}

/// What a batch keeps while it goes out.
pub(super) struct Sent<'w> {
    /// The statements, by what they do and the columns that they set: many rows have the same ones.
    texts: BTreeMap<(bool, Vec<usize>), String>,
    /// Writes that happened and have still to be read back.
    pub(super) unsure: Vec<&'w Write>,
    /// By how much writes changed the hashes of their rows. Known only where the table stores exactly what it is given.
    differences: BTreeMap<&'w RecordKey, u64>,
    /// The table has our triggers, which must not take these writes for edits.
    pub(super) triggers: bool,
}

impl Sent<'_> {
    pub(super) fn new(triggers: bool) -> Self {
        Self { texts: BTreeMap::new(), unsure: Vec::new(), differences: BTreeMap::new(), triggers }
    }
}

/// One write on its way.
pub(super) struct Task<'a> {
    pub(super) store: &'a SqliteStore,
    pub(super) mapped: &'a Mapped,
    pub(super) layout: &'a Layout,
    pub(super) write: &'a Write,
    pub(super) there: &'a [Found],
    pub(super) repeated: &'a BTreeSet<&'a RecordKey>,
}

impl<'a> Task<'a> {
    pub(super) fn run(&self, connection: &Connection, sent: &mut Sent<'a>) -> Outcome {
        if let Err(error) = check_write(&self.store.name, self.mapped, self.write, self.repeated) {
            return Outcome::Refused(error);
        }
        if self.there.len() > 1 {
            return Outcome::Refused(self.store.refusal(
                ErrorKind::Conflict,
                format!(
                    "`{}` has {} rows of the key {}",
                    self.layout.title,
                    self.there.len(),
                    self.write.key
                ),
            ));
        }
        let done = match (&self.write.op, self.there.first()) {
            (WriteOp::Create { fields, .. }, None) => {
                self.image(&[]).and_then(|set| self.insert(connection, sent, set, fields))
            }
            (WriteOp::Update { fields, guard, .. }, Some(row))
                if row.is_as(guard, self.layout, self.mapped) =>
            {
                self.image(&row.natives).and_then(|set| self.update(connection, sent, row, set, fields))
            }
            (WriteOp::Delete { guard }, Some(row)) if row.is_as(guard, self.layout, self.mapped) => {
                self.delete(connection, sent, row).map(|()| None)
            }
            _ => return Outcome::Moved,
        };
        done.map_or_else(Outcome::Refused, Outcome::Applied)
    }

    /// Runs a statement that is to write one row. Where triggers may do something else with it, it is looked at whether that row is there
    /// then, and what they did is undone if it is not: it would be done again by every pass.
    fn execute<'v>(
        &self,
        connection: &Connection,
        sql: &str,
        values: impl Iterator<Item = &'v Native>,
    ) -> Result<(), StoreError> {
        let failed = |error| store_error(&self.store.name, &error);
        if !self.layout.info.triggers {
            return self.written(connection, sql, values);
        }
        connection.execute_batch("SAVEPOINT trueup_write").map_err(failed)?;
        let done = self.written(connection, sql, values).and_then(|()| self.is_there(connection));
        // One of them may have thrown the whole transaction away.
        if !connection.is_autocommit() {
            let undo = if done.is_err() { "ROLLBACK TO trueup_write; " } else { "" };
            connection.execute_batch(&format!("{undo}RELEASE trueup_write")).map_err(failed)?;
        }
        done
    }

    fn written<'v>(
        &self,
        connection: &Connection,
        sql: &str,
        values: impl Iterator<Item = &'v Native>,
    ) -> Result<(), StoreError> {
        let done = connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(params_from_iter(values)))
            .map_err(|error| store_error(&self.store.name, &error))?;
        if done == 1 { Ok(()) } else { Err(self.came_to_nothing()) }
    }

    fn is_there(&self, connection: &Connection) -> Result<(), StoreError> {
        if matches!(self.write.op, WriteOp::Delete { .. }) {
            return Ok(());
        }
        let found = find(connection, self.layout, self.mapped, &BTreeSet::from([&self.write.key]));
        let found = found.map_err(|error| store_error(&self.store.name, &error))?;
        if found.is_empty() { Err(self.came_to_nothing()) } else { Ok(()) }
    }

    fn came_to_nothing(&self) -> StoreError {
        came_to_nothing(&self.store.name, &self.layout.title, self.write)
    }

    /// The columns that are set in a row that stands like this.
    fn image(&self, natives: &[Native]) -> Result<Vec<(usize, Native)>, StoreError> {
        let mut image = Image::new(self, natives);
        if matches!(self.write.op, WriteOp::Create { .. }) {
            image.put_key(self)?;
        }
        image.put_all(&self.write.op)?;
        Ok(image.finish()?.into_iter().collect())
    }

    fn insert(
        &self,
        connection: &Connection,
        sent: &mut Sent<'a>,
        set: Vec<(usize, Native)>,
        fields: &Fields<Value>,
    ) -> Result<Option<Row>, StoreError> {
        let slots: Vec<usize> = set.iter().map(|(slot, _)| *slot).collect();
        let sql = sent.texts.entry((true, slots)).or_insert_with_key(|(_, slots)| {
            let marks = vec!["?"; slots.len()].join(", ");
            let columns: Vec<String> = slots.iter().map(|slot| self.column(*slot)).collect();
            // ABORT, whatever the table says of its own: a row that is in the way is never replaced.
            format!("INSERT OR ABORT INTO {} ({}) VALUES ({marks})", self.layout.table, columns.join(", "))
        });
        self.execute(connection, sql, set.iter().map(|(_, native)| native))?;
        let named = |slot: &usize| set.iter().any(|(set, _)| set == slot);
        let others_null = (0..self.layout.slots.len())
            .filter(|slot| !named(slot))
            .all(|slot| self.layout.column(slot).is_some_and(|column| !column.has_default));
        let natives = vec![Native::Null; self.layout.slots.len()];
        if others_null {
            sent.differences.insert(&self.write.key, with(&natives, &set));
        }
        Ok(self.answer(sent, others_null, natives, set, fields))
    }

    fn update(
        &self,
        connection: &Connection,
        sent: &mut Sent<'a>,
        found: &Found,
        set: Vec<(usize, Native)>,
        fields: &Fields<Value>,
    ) -> Result<Option<Row>, StoreError> {
        if set.is_empty() {
            // Nothing to set: the row is as it is.
            sent.differences.insert(&self.write.key, 0);
            return Ok(Some(found.row(self.layout, self.mapped)));
        }
        let slots: Vec<usize> = set.iter().map(|(slot, _)| *slot).collect();
        let (condition, key) = self.this_row(found);
        let sql = sent.texts.entry((false, slots)).or_insert_with_key(|(_, slots)| {
            let sets: Vec<String> = slots.iter().map(|slot| format!("{} = ?", self.column(*slot))).collect();
            format!("UPDATE OR ABORT {} AS t SET {} WHERE {condition}", self.layout.table, sets.join(", "))
        });
        if sent.triggers {
            triggers::mark(connection).map_err(|error| store_error(&self.store.name, &error))?;
        }
        self.execute(connection, sql, set.iter().map(|(_, native)| native).chain(&key))?;
        let before = digest::of_row(found.natives.iter());
        sent.differences.insert(&self.write.key, with(&found.natives, &set).wrapping_sub(before));
        Ok(self.answer(sent, true, found.natives.clone(), set, fields))
    }

    fn delete(&self, connection: &Connection, sent: &mut Sent<'a>, found: &Found) -> Result<(), StoreError> {
        let (condition, key) = self.this_row(found);
        let sql = format!("DELETE FROM {} AS t WHERE {condition}", self.layout.table);
        self.execute(connection, &sql, key.iter())?;
        let before = digest::of_row(found.natives.iter());
        sent.differences.insert(&self.write.key, 0_u64.wrapping_sub(before));
        Ok(())
    }

    /// What the row holds now, unless that surely is what was given: where the table changes nothing of what is put into it, what it
    /// held with what was set. Else it is noted that it has to be read back.
    fn answer(
        &self,
        sent: &mut Sent<'a>,
        others_known: bool,
        mut natives: Vec<Native>,
        set: Vec<(usize, Native)>,
        fields: &Fields<Value>,
    ) -> Option<Row> {
        let layout = self.layout;
        let kept = |(slot, native): &(usize, Native)| {
            layout.column(*slot).is_some_and(|column| column.affinity.keeps(native))
        };
        if !(others_known && layout.info.literal && set.iter().all(kept)) {
            sent.unsure.push(self.write);
            return None;
        }
        if self.keeps_as_given(fields) {
            return None;
        }
        let mut given = vec![false; layout.slots.len()];
        for (slot, native) in set {
            if let (Some(place), Some(given)) = (natives.get_mut(slot), given.get_mut(slot)) {
                *place = native;
                *given = true;
            }
        }
        let known = |field: &FieldPlace| {
            let given = given.get(field.place.slot) == Some(&true) && field.place.path.is_empty();
            let same = given && comes_back(field.ty, field.form);
            fields.get(&field.id).filter(|_| same).cloned().map(Cell::Value)
        };
        Some(layout.read_some(self.mapped, self.write.key.clone(), &natives, |_| true, known))
    }

    /// Whether a table that changes nothing of what is put into it gives these fields, the metadata and the time back as they were.
    fn keeps_as_given(&self, fields: &Fields<Value>) -> bool {
        let layout = self.layout;
        // Every moment has a text of its own there, and every text one moment.
        let utc = self.mapped.mapping.timezone == TimeZone::UTC;
        let keeps = |field: &FieldPlace| match field.ty {
            FieldType::Date => field.form == Form::Native,
            FieldType::Timestamp => field.form == Form::Native && utc,
            ty => comes_back(ty, field.form),
        };
        layout.places.meta.is_whole()
            && (layout.places.updated.is_none() || utc)
            && layout
                .places
                .fields
                .iter()
                .all(|field| !fields.contains_key(&field.id) || (field.place.path.is_empty() && keeps(field)))
    }

    fn column(&self, slot: usize) -> String {
        self.layout.column(slot).map(|column| quoted(&column.name)).unwrap_or_default()
    }

    /// A condition for exactly this row.
    fn this_row(&self, found: &Found) -> (String, Vec<Native>) {
        if let (Some(name), Some(rowid)) = (self.layout.info.rowid, found.rowid) {
            return (format!("t.{name} = ?"), vec![Native::Integer(rowid)]);
        }
        let key = self.layout.key.iter();
        let terms: Vec<String> = key
            .clone()
            .map(|place| format!("{} = ? COLLATE BINARY", self.layout.qualified(place.slot)))
            .collect();
        let values = key.filter_map(|place| found.natives.get(place.slot).cloned()).collect();
        (terms.join(" AND "), values)
    }
}

/// The hash of a row with some of its columns set. Where the table makes something else of them, the row is looked at again.
fn with(natives: &[Native], set: &[(usize, Native)]) -> u64 {
    let mut row: Vec<&Native> = natives.iter().collect();
    for (slot, native) in set {
        if let Some(place) = row.get_mut(*slot) {
            *place = native;
        }
    }
    digest::of_row(row.into_iter())
}

/// Whether every value of a type that a column of this form was given is read back as the same one.
fn comes_back(ty: FieldType, form: Form) -> bool {
    use FieldType::{Bool, Float64, Int64, Json, String};
    form == Form::Native && matches!(ty, String | Int64 | Float64 | Bool | Json)
}
