//! Guarded writes: a batch is one transaction that reads its rows, compares them with their guards, writes those that still
//! are what they were, and reads them back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};
use sqlx::{Connection as _, Row as _, SqliteConnection};

use crate::model::{
    Batch, BatchId, ErrorKind, FieldId, FieldType, Form, IntentId, Mapped, Native, Outcome, RecordKey,
    StoreError, SyncMeta, Timestamp, Value, Write, WriteOp, encode,
};

use super::super::inside::{get_path, set_path};
use super::super::{check_write, guard_holds, repeated_keys, sync};
use super::SqliteStore;
use super::error::{did_not_happen, store_error};
use super::layout::{Affinity, Layout, MetaPlace, Place};
use super::native::{bind, inner_json, query, quoted};
use super::read::{Found, find};

/// What became of a transaction.
enum Attempt {
    Committed(BTreeMap<IntentId, Outcome>),
    /// Something in the database (a trigger's `RAISE(ROLLBACK)`) threw the whole transaction away.
    ThrownAway(StoreError),
}

impl SqliteStore {
    pub(super) async fn apply_batch(
        &self,
        mapped: &Mapped,
        batch: &Batch,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let repeated = repeated_keys(batch);
        let all: Vec<&Write> = batch.writes.iter().collect();
        if let Attempt::Committed(outcomes) = self.attempt(mapped, batch, &all, &repeated).await? {
            return Ok(outcomes);
        }
        // One write took the others down with it: each goes alone.
        let mut outcomes = BTreeMap::new();
        for write in &batch.writes {
            match self.attempt(mapped, batch, &[write], &repeated).await {
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

    async fn attempt(
        &self,
        mapped: &Mapped,
        batch: &Batch,
        writes: &[&Write],
        repeated: &BTreeSet<&RecordKey>,
    ) -> Result<Attempt, StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let mut connection = self.pool.acquire().await.map_err(failed)?;
        // Taken for writing at once: a transaction that began by reading could not be waited for.
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let layout = Layout::of(&self.name, &mut transaction, mapped).await?;
        let keys: BTreeSet<&RecordKey> = writes.iter().map(|write| &write.key).collect();
        let found = find(&mut transaction, &layout, mapped, &keys).await.map_err(failed)?;
        query("SAVEPOINT trueup_batch").execute(&mut *transaction).await.map_err(failed)?;

        let mut outcomes = BTreeMap::new();
        for write in writes {
            let there = found.get(&write.key).map_or(&[][..], Vec::as_slice);
            let task = Task { store: self, mapped, layout: &layout, write, there, repeated };
            let outcome = task.run(&mut transaction).await;
            if let Outcome::Refused(error) = &outcome
                && !still_open(&mut transaction).await
            {
                let error = error.clone();
                drop(transaction);
                // What sqlx knows of this connection's transactions is no longer true: away with it.
                drop(connection.detach());
                return Ok(Attempt::ThrownAway(error));
            }
            outcomes.insert(write.intent.clone(), outcome);
        }
        read_back(&mut transaction, &layout, mapped, writes, &mut outcomes, self).await?;
        if batch.receipt {
            leave_receipt(&mut transaction, &batch.id, writes, &outcomes).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(|error| {
            let told = store_error(&self.name, &error);
            if did_not_happen(&error) {
                return told;
            }
            StoreError { kind: ErrorKind::OutcomeUnknown, ..told }
        })?;
        Ok(Attempt::Committed(outcomes))
    }

    pub(super) async fn read_receipts(
        &self,
        batches: &[BatchId],
    ) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        let mut receipts = BTreeMap::new();
        let mut connection = self.pool.acquire().await.map_err(|error| store_error(&self.name, &error))?;
        for batch in batches {
            match receipt_of(&mut connection, batch).await {
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

    pub(super) async fn remove_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        let failed = |error| store_error(&self.name, &error);
        let mut transaction = self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        for batch in batches {
            let gone = query("DELETE FROM main.trueup_receipts WHERE batch = ?").bind(batch.0.clone());
            if let Err(error) = gone.execute(&mut *transaction).await {
                let told = store_error(&self.name, &error);
                return if told.kind == ErrorKind::NotFound { Ok(()) } else { Err(told) };
            }
        }
        transaction.commit().await.map_err(failed)
    }
}

/// Whether the batch's transaction is still there after a statement failed.
async fn still_open(connection: &mut SqliteConnection) -> bool {
    query("RELEASE trueup_batch").execute(&mut *connection).await.is_ok()
        && query("SAVEPOINT trueup_batch").execute(&mut *connection).await.is_ok()
}

async fn receipt_of(
    connection: &mut SqliteConnection,
    batch: &BatchId,
) -> Result<Option<Vec<IntentId>>, sqlx::Error> {
    let row = query("SELECT intents FROM main.trueup_receipts WHERE batch = ?")
        .bind(batch.0.clone())
        .fetch_optional(connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let text: String = row.try_get(0)?;
    let intents = serde_json::from_str(&text).map_err(|error| sqlx::Error::Decode(error.into()))?;
    Ok(Some(intents))
}

/// Notes what a batch applied. A batch that went out in pieces has one receipt all the same.
async fn leave_receipt(
    connection: &mut SqliteConnection,
    batch: &BatchId,
    writes: &[&Write],
    outcomes: &BTreeMap<IntentId, Outcome>,
) -> Result<(), sqlx::Error> {
    let mut intents = receipt_of(connection, batch).await?.unwrap_or_default();
    let applied = |write: &&&Write| matches!(outcomes.get(&write.intent), Some(Outcome::Applied(_)));
    intents.extend(writes.iter().filter(applied).map(|write| write.intent.clone()));
    let text = serde_json::to_string(&intents).map_err(|error| sqlx::Error::Encode(error.into()))?;
    query("INSERT OR REPLACE INTO main.trueup_receipts (batch, intents) VALUES (?, ?)")
        .bind(batch.0.clone())
        .bind(text)
        .execute(connection)
        .await?;
    Ok(())
}

/// Puts the rows as they now stand into the outcomes of writes that happened.
async fn read_back(
    connection: &mut SqliteConnection,
    layout: &Layout,
    mapped: &Mapped,
    writes: &[&Write],
    outcomes: &mut BTreeMap<IntentId, Outcome>,
    store: &SqliteStore,
) -> Result<(), StoreError> {
    let written: Vec<&Write> = writes
        .iter()
        .copied()
        .filter(|write| !matches!(write.op, WriteOp::Delete { .. }))
        .filter(|write| matches!(outcomes.get(&write.intent), Some(Outcome::Applied(_))))
        .collect();
    let keys = written.iter().map(|write| &write.key).collect();
    let found = find(connection, layout, mapped, &keys).await;
    let mut found = found.map_err(|error| store_error(&store.name, &error))?;
    for write in written {
        let outcome = match found.remove(&write.key).and_then(|rows| rows.into_iter().next()) {
            Some(row) => Outcome::Applied(Some(row.row)),
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

/// One write on its way.
struct Task<'a> {
    store: &'a SqliteStore,
    mapped: &'a Mapped,
    layout: &'a Layout,
    write: &'a Write,
    there: &'a [Found],
    repeated: &'a BTreeSet<&'a RecordKey>,
}

/// A statement with its values.
struct Statement {
    sql: String,
    values: Vec<Native>,
}

impl Task<'_> {
    async fn run(&self, connection: &mut SqliteConnection) -> Outcome {
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
        let statement = match (&self.write.op, self.there.first()) {
            (WriteOp::Create { fields, meta, created, updated }, None) => {
                self.insert(fields, meta, *created, *updated)
            }
            (WriteOp::Update { fields, meta, updated, guard }, Some(row)) if guard_holds(guard, &row.row) => {
                self.update(row, fields, meta.as_ref(), *updated)
            }
            (WriteOp::Delete { guard }, Some(row)) if guard_holds(guard, &row.row) => {
                Ok(Some(self.delete(row)))
            }
            _ => return Outcome::Moved,
        };
        match statement {
            // Nothing to set: the row is as it is.
            Ok(None) => Outcome::Applied(None),
            Ok(Some(statement)) => self.execute(connection, &statement).await,
            Err(error) => Outcome::Refused(error),
        }
    }

    async fn execute(&self, connection: &mut SqliteConnection, statement: &Statement) -> Outcome {
        let bound = statement.values.iter().fold(query(&statement.sql), bind);
        match bound.execute(connection).await {
            Ok(done) if done.rows_affected() == 1 => Outcome::Applied(None),
            Ok(done) => Outcome::Refused(self.store.refusal(
                ErrorKind::Corrupt,
                format!(
                    "writing {} to `{}` touched {} rows instead of one",
                    self.write.key,
                    self.layout.title,
                    done.rows_affected()
                ),
            )),
            Err(error) => Outcome::Refused(store_error(&self.store.name, &error)),
        }
    }

    fn insert(
        &self,
        fields: &BTreeMap<FieldId, Value>,
        meta: &SyncMeta,
        created: Option<Timestamp>,
        updated: Option<Timestamp>,
    ) -> Result<Option<Statement>, StoreError> {
        let mut image = Image::new(self, None);
        for ((place, part), text) in
            self.layout.key.iter().zip(&self.mapped.entity.key).zip(self.write.key.parts())
        {
            let affinity = self.layout.column(place.slot).map_or(Affinity::None, |column| column.affinity);
            let native = key_native(text, part.ty, affinity).ok_or_else(|| {
                self.invalid(format!("the key {} is none that its column can hold", self.write.key))
            })?;
            image.put(place, native, None)?;
        }
        image.put_fields(fields)?;
        image.put_meta(meta)?;
        image.put_time(self.layout.created.as_ref(), created)?;
        image.put_time(self.layout.updated.as_ref(), updated)?;
        let (columns, values): (Vec<String>, Vec<Native>) = image.assignments().into_iter().unzip();
        let marks = vec!["?"; values.len()].join(", ");
        // ABORT, whatever the table says of its own: a row that is in the way is never replaced.
        let sql =
            format!("INSERT OR ABORT INTO {} ({}) VALUES ({marks})", self.layout.table, columns.join(", "));
        Ok(Some(Statement { sql, values }))
    }

    fn update(
        &self,
        found: &Found,
        fields: &BTreeMap<FieldId, Value>,
        meta: Option<&SyncMeta>,
        updated: Option<Timestamp>,
    ) -> Result<Option<Statement>, StoreError> {
        let mut image = Image::new(self, Some(&found.natives));
        image.put_fields(fields)?;
        if let Some(meta) = meta {
            image.put_meta(meta)?;
        }
        image.put_time(self.layout.updated.as_ref(), updated)?;
        let (columns, mut values): (Vec<String>, Vec<Native>) = image.assignments().into_iter().unzip();
        if columns.is_empty() {
            return Ok(None);
        }
        let sets = columns.iter().map(|column| format!("{column} = ?")).collect::<Vec<_>>().join(", ");
        let (condition, key) = self.this_row(found);
        values.extend(key);
        let sql = format!("UPDATE OR ABORT {} AS t SET {sets} WHERE {condition}", self.layout.table);
        Ok(Some(Statement { sql, values }))
    }

    fn delete(&self, found: &Found) -> Statement {
        let (condition, values) = self.this_row(found);
        Statement { sql: format!("DELETE FROM {} AS t WHERE {condition}", self.layout.table), values }
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

    fn invalid(&self, message: String) -> StoreError {
        self.store.refusal(ErrorKind::Invalid, message)
    }
}

/// A key's part as it is put into a column; none where the column would make another key of it.
fn key_native(text: &str, ty: FieldType, affinity: Affinity) -> Option<Native> {
    let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
    match (ty, affinity) {
        (_, Affinity::Real) if number.is_some() => None,
        (FieldType::Int64, _) => number.map(Native::Integer),
        (_, Affinity::Text | Affinity::None) => Some(Native::Text(text.to_owned())),
        (_, Affinity::Integer | Affinity::Numeric | Affinity::Real) => {
            let looks_like_number = text.trim().parse::<f64>().is_ok();
            (number.is_some() || !looks_like_number).then(|| Native::Text(text.to_owned()))
        }
    }
}

/// The columns of a row as they are going to be.
struct Image<'a> {
    task: &'a Task<'a>,
    current: Option<&'a [Native]>,
    whole: BTreeMap<usize, Native>,
    inner: BTreeMap<usize, Json>,
}

impl<'a> Image<'a> {
    fn new(task: &'a Task<'a>, current: Option<&'a [Native]>) -> Self {
        Self { task, current, whole: BTreeMap::new(), inner: BTreeMap::new() }
    }

    /// The columns with their values.
    fn assignments(self) -> Vec<(String, Native)> {
        let inner = self.inner.into_iter().map(|(slot, json)| (slot, Native::Text(json.to_string())));
        let column = |slot| self.task.layout.column(slot).map(|column| quoted(&column.name));
        let all = self.whole.into_iter().chain(inner);
        all.filter_map(|(slot, native)| Some((column(slot)?, native))).collect()
    }

    fn put(&mut self, place: &Place, native: Native, json: Option<Json>) -> Result<(), StoreError> {
        let column = self.task.layout.column(place.slot);
        if let Some(column) = column.filter(|column| column.generated) {
            let message = format!("`{}.{}` is computed by the database", self.task.layout.title, column.name);
            return Err(self.task.invalid(message).hint("map it with `direction: from-store`"));
        }
        if place.path.is_empty() {
            self.whole.insert(place.slot, native);
            return Ok(());
        }
        let object = self.object(place.slot)?;
        set_path(object, &place.path, json);
        Ok(())
    }

    /// The JSON in a column as it stands, or as it was changed so far.
    fn object(&mut self, slot: usize) -> Result<&mut Map<String, Json>, StoreError> {
        if !self.inner.contains_key(&slot) {
            let parsed = match self.current.and_then(|natives| natives.get(slot)) {
                None | Some(Native::Null) => Some(Json::Object(Map::new())),
                Some(Native::Text(text)) if text.is_empty() => Some(Json::Object(Map::new())),
                Some(Native::Text(text)) => serde_json::from_str(text).ok(),
                Some(_) => None,
            };
            // JSON null is as empty as no value.
            let parsed = parsed.map(|json| if json.is_null() { Json::Object(Map::new()) } else { json });
            self.inner.insert(slot, parsed.unwrap_or(Json::Null));
        }
        if let Some(Json::Object(object)) = self.inner.get_mut(&slot) {
            return Ok(object);
        }
        let layout = self.task.layout;
        let column = layout.column(slot).map_or("", |column| &column.name);
        let message = format!("`{}.{column}` holds no JSON object to write into", layout.title);
        Err(self.task.invalid(message).hint("correct or empty it there"))
    }

    fn put_fields(&mut self, fields: &BTreeMap<FieldId, Value>) -> Result<(), StoreError> {
        let (mapped, layout) = (self.task.mapped, self.task.layout);
        for (id, value) in fields {
            let name = mapped.entity.fields.get(id.index()).map_or("?", |field| field.name.as_str());
            let Some(field) = layout.fields.iter().find(|field| field.id == *id) else {
                let message = format!("`{}` has no column for `{name}`", layout.title);
                return Err(self
                    .task
                    .store
                    .refusal(ErrorKind::NotFound, message)
                    .hint("run `trueup migrate` to add it"));
            };
            let native = encode(value, field.ty, field.form, &mapped.mapping.timezone)
                .map_err(|error| self.task.invalid(format!("`{}.{name}`: {error}", layout.title)))?;
            let json = inner_json(value, &native, field.form);
            self.put(&field.place, native, json)?;
        }
        Ok(())
    }

    fn put_meta(&mut self, meta: &SyncMeta) -> Result<(), StoreError> {
        let layout = self.task.layout;
        if layout.meta_missing && *meta != SyncMeta::default() {
            let message = format!("`{}` lacks columns for the sync metadata", layout.title);
            return Err(self
                .task
                .store
                .refusal(ErrorKind::NotFound, message)
                .hint("run `trueup migrate` to add them"));
        }
        match &layout.meta {
            MetaPlace::None => Ok(()),
            MetaPlace::Object(place) if place.path.is_empty() => {
                sync::put_into(self.object(place.slot)?, meta);
                Ok(())
            }
            MetaPlace::Object(place) => {
                let outer = self.object(place.slot)?;
                let mut object = match get_path(outer, &place.path) {
                    Some(Json::Object(object)) => object.clone(),
                    _ => Map::new(),
                };
                sync::put_into(&mut object, meta);
                set_path(outer, &place.path, Some(Json::Object(object)));
                Ok(())
            }
            MetaPlace::Parts(places) => {
                for (place, part) in places.iter().zip(sync::to_parts(meta)) {
                    if let Some(place) = place {
                        let native = match &part {
                            Json::Null => Native::Null,
                            Json::String(text) => Native::Text(text.clone()),
                            Json::Number(number) => number.as_i64().map_or(Native::Null, Native::Integer),
                            list => Native::Text(list.to_string()),
                        };
                        self.put(place, native, Some(part).filter(|part| !part.is_null()))?;
                    }
                }
                Ok(())
            }
        }
    }

    fn put_time(&mut self, place: Option<&Place>, time: Option<Timestamp>) -> Result<(), StoreError> {
        let (Some(place), Some(time)) = (place, time) else { return Ok(()) };
        let value = Value::Time(time);
        let zone = &self.task.mapped.mapping.timezone;
        let native = encode(&value, FieldType::Timestamp, Form::Native, zone)
            .map_err(|error| self.task.invalid(error.0))?;
        let json = inner_json(&value, &native, Form::Native);
        self.put(place, native, json)
    }
}
