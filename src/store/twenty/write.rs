//! Writes. The server has no conditional ones: a record is read again just before it is written, and the calls that the writes need are
//! saved up before that, so that no wait for the server's pace lies between look and write. What lies between is one round trip.
//!
//! Records are made with ids chosen beforehand and changed by id; the server's own merging of records that look alike is never used, for it
//! overwrites whoever has the same address. When an answer is lost, the record is looked up by its id.

// An outcome that is no success ends a write; it is made once a write and not passed far.
#![allow(clippy::result_large_err)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::model::{
    Batch, Cell, ErrorKind, FieldType, Guard, IntentId, Mapped, Outcome, RecordKey, Row, StoreError, Write,
    WriteOp, representable,
};

use super::super::{check_write, guard_holds, may_write, repeated_keys};
use super::TwentyStore;
use super::create::too_much;
use super::error::Failure;
use super::ids::is_id;
use super::image::{Image, Lookups};
use super::layout::{Layout, Place, Relation, Target};
use super::query::{any_of, one_of};
use super::read::key_filter;
use super::rows::{Read, id_of, joins, read};

/// Writes that go out after one look, at least: each look costs a call as well.
const GROUP_AT_LEAST: usize = 5;

/// Calls under way at a time.
pub(super) const AT_ONCE: usize = 8;

/// What writes of a batch have come to.
pub(super) struct Work<'a> {
    pub(super) store: &'a TwentyStore,
    pub(super) mapped: &'a Mapped,
    pub(super) layout: &'a Layout,
    pub(super) lookups: Lookups,
    pub(super) outcomes: BTreeMap<IntentId, Outcome>,
    /// By the ids of new records, what is sent for those that elements are made along with, without these.
    pub(super) plain: BTreeMap<String, Json>,
    /// Why nothing more can be written for now.
    pub(super) down: Option<StoreError>,
}

impl TwentyStore {
    pub(super) async fn apply_batch(
        &self,
        mapped: &Mapped,
        batch: &Batch,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        may_write(&self.name, self.read_only)?;
        if mapped.mapping.embedded().is_some() {
            return self.apply_elements(mapped, batch).await;
        }
        let layout = self.layout(mapped).await?;
        let repeated = repeated_keys(batch);
        let mut work = Work {
            store: self,
            mapped,
            layout: &layout,
            lookups: Lookups::default(),
            outcomes: BTreeMap::new(),
            plain: BTreeMap::new(),
            down: None,
        };
        let (mut creates, mut changes) = (Vec::new(), Vec::new());
        for write in &batch.writes {
            if let Err(error) = check_write(&self.name, mapped, write, &repeated) {
                work.outcomes.insert(write.intent.clone(), Outcome::Refused(error));
            } else if matches!(write.op, WriteOp::Create { .. }) {
                creates.push(write);
            } else {
                changes.push(write);
            }
        }
        work.look_up(&batch.writes).await?;
        work.create(&creates, &batch.along).await;
        work.change(changes).await;
        work.finish(&batch.writes)
    }
}

impl Work<'_> {
    /// The outcomes of all writes. Where nothing was written because the server cannot answer, that is said of the batch.
    pub(super) fn finish(mut self, writes: &[Write]) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        if let Some(error) = self.down {
            let happened = |outcome: &Outcome| matches!(outcome, Outcome::Applied(_) | Outcome::Unknown(_));
            if !self.outcomes.values().any(happened) {
                return Err(error);
            }
            for write in writes {
                self.outcomes.entry(write.intent.clone()).or_insert_with(|| Outcome::Refused(error.clone()));
            }
        }
        Ok(self.outcomes)
    }

    pub(super) fn end(&mut self, write: &Write, outcome: Outcome) {
        self.outcomes.insert(write.intent.clone(), outcome);
    }

    pub(super) fn what(&self) -> String {
        format!("writing `{}`", self.layout.object.plural)
    }

    /// Finds the records that relations lead to.
    async fn look_up(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let mut wanted: BTreeMap<String, (Target, BTreeSet<String>)> = BTreeMap::new();
        let mut want = |relation: &Relation, key: String| {
            let entry = wanted
                .entry(relation.target.entity.as_str().to_owned())
                .or_insert_with(|| (relation.target.clone(), BTreeSet::new()));
            entry.1.insert(key);
        };
        for write in writes {
            let fields = match &write.op {
                WriteOp::Create { fields, .. } | WriteOp::Update { fields, .. } => fields,
                WriteOp::Delete { .. } => continue,
            };
            for field in &self.layout.fields {
                if let (Place::Related(relation), Some(value)) = (&field.place, fields.get(&field.id))
                    && let Some(key) = value.plain_text()
                {
                    want(relation, key.into_owned());
                }
            }
            if write.link || matches!(write.op, WriteOp::Create { .. }) {
                for (place, text) in self.layout.key.iter().zip(write.key.parts()) {
                    if let Place::Related(relation) = place {
                        want(relation, text.clone());
                    }
                }
            }
        }
        for (target, keys) in wanted.into_values() {
            self.lookups.0.extend(self.store.ids_of(&target, &keys).await?);
        }
        Ok(())
    }

    /// A record as a row, whosever it is.
    pub(super) fn row(&self, record: &Json) -> Option<Row> {
        match read(self.layout, self.mapped, record) {
            Read::Row(row) => Some(row),
            Read::Stray(stray) => Some(Row {
                unlinked: stray.key.is_none(),
                key: stray.key.unwrap_or_else(|| RecordKey::new(Vec::new())),
                store_id: Some(stray.store_id),
                fields: stray.fields,
                meta: stray.meta,
                created: stray.created,
                updated: stray.updated,
            }),
            Read::BadKey => None,
        }
    }

    /// A record that was written and is read back later: somebody may have edited it in between, so it counts as the answer only where it
    /// holds what was written.
    pub(super) fn as_written(&self, write: &Write, record: &Json) -> Outcome {
        let row = self.row(record).filter(|row| self.holds_what_was_written(write, row));
        Outcome::Applied(row.map(|row| Row { key: write.key.clone(), unlinked: false, ..row }))
    }

    fn holds_what_was_written(&self, write: &Write, row: &Row) -> bool {
        let (fields, meta) = match &write.op {
            WriteOp::Create { fields, meta, .. } => (fields, Some(meta)),
            WriteOp::Update { fields, meta, .. } => (fields, meta.as_ref()),
            WriteOp::Delete { .. } => return false,
        };
        let zone = &self.mapped.mapping.timezone;
        meta.is_none_or(|meta| self.layout.sync.is_none() || meta.same_evidence(&row.meta))
            && fields.iter().all(|(id, value)| {
                let Some(field) = self.layout.field(*id) else { return false };
                let held = representable(value, field.ty, field.form, zone);
                held.is_ok_and(|held| row.fields.get(id) == Some(&Cell::Value(held)))
            })
    }

    /// Changes and deletes, in groups that go out at once after one look.
    async fn change(&mut self, writes: Vec<&Write>) {
        let mut waiting: VecDeque<&Write> = writes.into();
        while !waiting.is_empty() && self.down.is_none() {
            let free = usize::try_from(self.store.client.pacer.available()).unwrap_or(usize::MAX);
            let many = free.saturating_sub(1).max(GROUP_AT_LEAST).min(waiting.len());
            let group: Vec<&Write> = waiting.drain(..many).collect();
            self.change_group(group).await;
        }
    }

    async fn change_group(&mut self, group: Vec<&Write>) {
        let calls = group.len() as u64;
        self.store.client.pacer.take(1 + calls).await;
        let found = self.look(&group).await;
        let found = match found {
            Ok(found) => found,
            Err(failure) => {
                self.store.client.pacer.give_back(calls);
                self.down = Some(failure.error);
                return;
            }
        };
        let mut planned = Vec::new();
        for write in group {
            match self.plan(write, &found) {
                Ok(one) => planned.push(one),
                Err(outcome) => self.end(write, outcome),
            }
        }
        self.store.client.pacer.give_back(calls.saturating_sub(planned.len() as u64));
        let mut ended = Vec::new();
        {
            let this = &*self;
            let mut running = FuturesUnordered::new();
            for one in planned {
                if running.len() >= AT_ONCE {
                    ended.extend(running.next().await);
                }
                running.push(this.send(one));
            }
            while let Some(done) = running.next().await {
                ended.push(done);
            }
        }
        for (intent, outcome) in ended {
            match outcome {
                Ok(outcome) => {
                    self.outcomes.insert(intent, outcome);
                }
                Err(error) => self.down = Some(error),
            }
        }
    }

    /// Reads the records of some writes again.
    async fn look(&self, group: &[&Write]) -> Result<Vec<Json>, Failure> {
        let ids: Vec<&str> = group
            .iter()
            .filter_map(|write| write.store_id.as_ref())
            .map(|id| id.0.as_str())
            .filter(|id| is_id(id))
            .collect();
        let keys: Vec<&RecordKey> =
            group.iter().filter(|write| write.store_id.is_none()).map(|write| &write.key).collect();
        let mut conditions = Vec::new();
        if !ids.is_empty() {
            conditions.push(one_of("id", None, json!(ids)));
        }
        conditions.extend(key_filter(self.layout, self.mapped, &keys));
        if conditions.is_empty() {
            return Ok(Vec::new());
        }
        let (plural, kind) = (&self.layout.object.plural, self.layout.object.kind());
        self.store.matching(plural, &kind, &self.layout.selection(), &any_of(conditions), true).await
    }

    /// What is to be sent for a write, if the record still is what it was.
    fn plan<'w>(&self, write: &'w Write, found: &[Json]) -> Result<Planned<'w>, Outcome> {
        let own: Vec<&Json> = found
            .iter()
            .filter(|record| match &write.store_id {
                Some(id) => id_of(record).as_ref() == Some(id),
                None => self.carries_key(record, &write.key),
            })
            .collect();
        let record = match own.as_slice() {
            [] => return Err(Outcome::Moved),
            [one] => *one,
            _ => {
                let message = format!("{} records have the key {}", own.len(), write.key);
                return Err(Outcome::Refused(StoreError::new(
                    ErrorKind::Conflict,
                    &self.store.name,
                    message,
                )));
            }
        };
        let Some(row) = self.row(record) else { return Err(Outcome::Moved) };
        let carried = row.key.parts().is_empty() || row.unlinked;
        // One that joins others is whose relations say it is, whatever it carries yet.
        let joins = || joins(self.layout, self.mapped, record).as_ref() == Some(&write.key);
        let as_it_should_be = if write.link {
            carried || row.key == write.key || joins()
        } else {
            !carried && row.key == write.key
        };
        if !as_it_should_be {
            return Err(Outcome::Moved);
        }
        let guard = match &write.op {
            WriteOp::Update { guard, .. } | WriteOp::Delete { guard } => guard,
            WriteOp::Create { .. } => return Err(Outcome::Moved),
        };
        if !guard_holds(&self.known_to(guard, &row), &row) {
            return Err(Outcome::Moved);
        }
        let id = id_of(record).map(|id| id.0).unwrap_or_default();
        let body = match &write.op {
            WriteOp::Update { fields, meta, updated, .. } => {
                let mut image = Image::new(&self.store.name, self.layout, self.mapped, &self.lookups, record);
                let mut built = image.fields(fields);
                if write.link {
                    built = built.and_then(|()| image.key(&write.key));
                }
                if let Some(meta) = meta {
                    image.meta(meta);
                }
                image.times(None, *updated);
                built.map_err(Outcome::Refused)?;
                Some(Json::Object(image.body()))
            }
            _ => None,
        };
        Ok(Planned { write, id, before: record.clone(), body })
    }

    /// A guard without what the store cannot tell of this row: whose record a relation leads to that carries no key.
    fn known_to(&self, guard: &Guard, row: &Row) -> Guard {
        let told = |id: &crate::model::FieldId| {
            row.fields.contains_key(id)
                || !self.layout.field(*id).is_some_and(|field| matches!(field.place, Place::Related(_)))
        };
        let fields = guard.fields.iter().filter(|(id, _)| told(id));
        Guard { fields: fields.map(|(id, cell)| (*id, cell.clone())).collect(), meta: guard.meta.clone() }
    }

    async fn send(&self, planned: Planned<'_>) -> (IntentId, Result<Outcome, StoreError>) {
        let intent = planned.write.intent.clone();
        (intent, self.sent(planned).await)
    }

    async fn sent(&self, planned: Planned<'_>) -> Result<Outcome, StoreError> {
        let path = format!("rest/{}/{}", self.layout.object.plural, planned.id);
        let what = self.what();
        let done = match &planned.body {
            Some(body) if body.as_object().is_some_and(serde_json::Map::is_empty) => {
                self.store.client.pacer.give_back(1);
                return Ok(Outcome::Applied(self.row(&planned.before)));
            }
            Some(body) => self.store.client.write_paced(&what, Method::PATCH, &path, &[], Some(body)).await,
            None => {
                // Without the word it would be destroyed, and could not be restored.
                let soft = [("soft_delete", "true")];
                self.store.client.write_paced(&what, Method::DELETE, &path, &soft, None).await
            }
        };
        match done {
            Ok(answer) if planned.body.is_some() => Ok(self.applied(planned.write, &planned.before, answer)),
            Ok(_) => {
                self.store.own.note(&self.layout.object.singular, -1);
                Ok(Outcome::Applied(None))
            }
            Err(mut failure) if failure.may_have_happened => {
                if let Some(body) = planned.body.as_ref().filter(|_| failure.of_it) {
                    failure.error = too_much(failure.error, planned.write, body);
                }
                Ok(self.find_out(planned.write, &planned.id, &planned.before, failure).await)
            }
            Err(failure) => match failure.error.kind {
                ErrorKind::NotFound => Ok(Outcome::Moved),
                ErrorKind::Conflict => Ok(Outcome::Refused(self.in_the_way(&planned, failure.error).await)),
                kind if is_about_a_record(kind) => Ok(Outcome::Refused(failure.error)),
                _ => Err(failure.error),
            },
        }
    }

    /// The answer to a write was lost: the record tells whether it happened.
    pub(super) async fn find_out(&self, write: &Write, id: &str, before: &Json, failure: Failure) -> Outcome {
        if !failure.may_have_happened {
            return Outcome::Refused(failure.error);
        }
        let unknown =
            || Outcome::Unknown(StoreError { kind: ErrorKind::OutcomeUnknown, ..failure.error.clone() });
        let (plural, kind) = (&self.layout.object.plural, self.layout.object.kind());
        let filter = one_of("id", None, json!([id]));
        let found = self.store.matching(plural, &kind, &self.layout.selection(), &filter, false).await;
        let Ok(found) = found else { return unknown() };
        let deleting = matches!(write.op, WriteOp::Delete { .. });
        match found.first() {
            None if deleting => Outcome::Applied(None),
            None => Outcome::Refused(failure.error),
            Some(record) if record == before => Outcome::Refused(failure.error),
            Some(record) => match self.row(record) {
                Some(row) if !deleting && self.holds_what_was_written(write, &row) => {
                    self.as_written(write, record)
                }
                _ => unknown(),
            },
        }
    }
}

/// A write whose record still is what it was.
pub(super) struct Planned<'w> {
    pub(super) write: &'w Write,
    pub(super) id: String,
    before: Json,
    /// What is sent; none: it is deleted.
    pub(super) body: Option<Json>,
}

/// Whether an error is about what was sent, so that other writes may go well.
pub(super) fn is_about_a_record(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::NotFound)
}

/// The type of a key's part, as a filter has to name its values.
pub(super) fn filter_value(text: &str, ty: FieldType, attribute: &str) -> Json {
    match (ty, attribute, text.parse::<i64>()) {
        (FieldType::Int64, "NUMBER", Ok(number)) => number.into(),
        _ => text.into(),
    }
}
