//! Writes. The server has no conditional ones: a record is read again just before it is written, and the calls that the writes need are
//! saved up before that, so that no wait for the server's pace lies between look and write. What lies between is one round trip.
//!
//! Records are made with ids chosen beforehand and changed by id; the server's own merging of records that look alike is never used, for it
//! overwrites whoever has the same address. When an answer is lost, the record is looked up by its id.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Method;
use serde_json::{Value as Json, json};

use crate::model::{
    Batch, Cell, ErrorKind, FieldType, Guard, IntentId, Mapped, Outcome, RecordKey, Row, StoreError, Value,
    Write, WriteOp, representable,
};

use super::super::{check_write, guard_holds, repeated_keys};
use super::TwentyStore;
use super::error::Failure;
use super::ids::is_id;
use super::image::{Image, Lookups, complete};
use super::layout::{Layout, Place, Relation, Target};
use super::query::{any_of, one_of};
use super::rows::{Read, id_of, key_text, read};

/// Writes that go out after one look, at least: each look costs a call as well.
const GROUP_AT_LEAST: usize = 5;

/// Calls under way at a time.
const AT_ONCE: usize = 8;

/// What writes of a batch have come to.
pub(super) struct Work<'a> {
    pub(super) store: &'a TwentyStore,
    pub(super) mapped: &'a Mapped,
    pub(super) layout: &'a Layout,
    pub(super) lookups: Lookups,
    pub(super) outcomes: BTreeMap<IntentId, Outcome>,
    /// Why nothing more can be written for now.
    pub(super) down: Option<StoreError>,
}

impl TwentyStore {
    pub(super) async fn apply_batch(
        &self,
        mapped: &Mapped,
        batch: &Batch,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        if self.read_only {
            let refused =
                StoreError::new(ErrorKind::Unauthorised, &self.name, "the store is only read, never written");
            return Err(refused.hint("the manifest says so: `read_only: true`"));
        }
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
        work.create(&creates).await;
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

    fn what(&self) -> String {
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
                if let (Place::Related(relation), Some(value)) = (&field.place, fields.get(&field.id)) {
                    match value {
                        Value::Null => {}
                        Value::Text(text) => want(relation, text.as_ref().to_owned()),
                        other => want(relation, other.to_string()),
                    }
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

    /// What is asked for of records that may be in the way.
    fn selection(&self) -> String {
        let unique = self.layout.unique().map(|(name, _)| name);
        self.layout.selection_with(&unique.chain(["deletedAt"]).collect::<Vec<_>>())
    }

    /// The values of a body that only one record may have, by attribute and part.
    fn unique_values(&self, body: &Json) -> Vec<(String, Option<&'static str>, String)> {
        let mut found = Vec::new();
        for (name, part) in self.layout.unique() {
            let Some(value) = body.get(name) else { continue };
            let value = part.map_or(Some(value), |part| value.get(part));
            if let Some(text) = value.and_then(Json::as_str).filter(|text| !text.is_empty()) {
                found.push((name.to_owned(), part, text.to_owned()));
            }
        }
        found
    }

    /// Of what a new record is to have, what another one has already; deleted ones count as well.
    fn holder<'j>(
        &self,
        unique: &[(String, Option<&'static str>, String)],
        records: impl Iterator<Item = &'j Json>,
        own: Option<&str>,
    ) -> Option<(String, &'j Json)> {
        let mut records = records.filter(|record| record.get("id").and_then(Json::as_str) != own);
        records.find_map(|record| {
            unique.iter().find_map(|(name, part, text)| {
                let value = record.get(name)?;
                let value = part.map_or(Some(value), |part| value.get(part))?.as_str()?;
                (value == text).then(|| (name.clone(), record))
            })
        })
    }

    fn held_by_another(&self, write: &Write, name: &str, record: &Json) -> StoreError {
        let id = record.get("id").and_then(Json::as_str).filter(|id| is_id(id)).unwrap_or("?");
        let deleted = record.get("deletedAt").is_some_and(|at| !at.is_null());
        let which = if deleted { "a deleted" } else { "another" };
        let object = &self.layout.object.singular;
        let message = format!(
            "{which} `{object}` (id {id}) has the `{name}` of {}, and only one record may",
            write.key
        );
        let hint = if deleted {
            "destroy that record in Twenty, or restore it there and merge the two"
        } else {
            "merge the two in Twenty, or correct one of them"
        };
        StoreError::new(ErrorKind::Conflict, &self.store.name, message).hint(hint)
    }

    async fn create(&mut self, creates: &[&Write]) {
        if creates.is_empty() {
            return;
        }
        let mut bodies: Vec<(&Write, String, Json)> = Vec::new();
        for write in creates {
            let WriteOp::Create { fields, meta, created, updated } = &write.op else { continue };
            let id = self.store.chosen_id(self.mapped, &write.key);
            let mut image =
                Image::new(&self.store.name, self.layout, self.mapped, &self.lookups, &Json::Null);
            let built = image.key(&write.key).and_then(|()| image.fields(fields));
            image.meta(meta);
            image.times(*created, *updated);
            match built {
                Ok(()) => {
                    let mut body = image.body();
                    body.insert("id".to_owned(), id.as_str().into());
                    bodies.push((write, id, Json::Object(body)));
                }
                Err(error) => self.end(write, Outcome::Refused(error)),
            }
        }
        let filter = self.filter_for(&bodies);
        let Some(filter) = filter else { return };
        let found = match self.store.everyone(self.layout, &self.selection(), &filter).await {
            Ok(found) => found,
            Err(failure) => {
                self.down = Some(failure.error);
                return;
            }
        };
        let mut fresh = Vec::new();
        for (write, id, body) in bodies {
            let has_key = |record: &&Json| self.carries_key(record, &write.key);
            let has_id = |record: &&Json| record.get("id").and_then(Json::as_str) == Some(id.as_str());
            if let Some(there) = found.live.iter().find(has_key).or_else(|| found.live.iter().find(has_id)) {
                let outcome = if has_key(&there) {
                    Outcome::Moved
                } else {
                    let message = format!("the record made for {} carries another key now", write.key);
                    Outcome::Refused(StoreError::new(ErrorKind::Conflict, &self.store.name, message))
                };
                self.end(write, outcome);
                continue;
            }
            let gone = found.gone.iter().find(has_key).or_else(|| found.gone.iter().find(has_id));
            let own = gone.and_then(|record| record.get("id")?.as_str());
            let unique = self.unique_values(&body);
            let others = found.live.iter().chain(&found.gone);
            if let Some((name, record)) = self.holder(&unique, others, own) {
                let error = self.held_by_another(write, &name, record);
                self.end(write, Outcome::Refused(error));
            } else if let Some(gone) = gone {
                self.restore(write, gone).await;
            } else {
                fresh.push((write, id, body));
            }
        }
        self.insert(fresh).await;
    }

    /// Who might be in the way of new records.
    fn filter_for(&self, bodies: &[(&Write, String, Json)]) -> Option<Json> {
        if bodies.is_empty() {
            return None;
        }
        let ids: Vec<&str> = bodies.iter().map(|(_, id, _)| id.as_str()).collect();
        let mut conditions = vec![one_of("id", None, json!(ids))];
        let mut values: BTreeMap<(String, Option<&str>), BTreeSet<String>> = BTreeMap::new();
        for (_, _, body) in bodies {
            for (name, part, text) in self.unique_values(body) {
                values.entry((name, part)).or_default().insert(text);
            }
        }
        if let Some(column) = self.layout.key_column() {
            let keys = bodies.iter().map(|(write, ..)| self.key_value(&write.key));
            values.entry((column.to_owned(), None)).or_default().extend(keys);
        }
        conditions.extend(values.into_iter().map(|((name, part), texts)| one_of(&name, part, json!(texts))));
        Some(any_of(conditions))
    }

    /// The text in the key's column.
    fn key_value(&self, key: &RecordKey) -> String {
        match &self.layout.key_text {
            Some(_) => key_text(key),
            None => key.parts().first().cloned().unwrap_or_default(),
        }
    }

    fn carries_key(&self, record: &Json, key: &RecordKey) -> bool {
        if let Some(column) = &self.layout.key_text {
            return record.get(column).and_then(Json::as_str) == Some(&key_text(key));
        }
        match read(self.layout, self.mapped, record) {
            Read::Row(row) => row.key == *key,
            Read::Stray(stray) => stray.key.as_ref() == Some(key),
            Read::BadKey => false,
        }
    }

    /// A record that was deleted is wanted again: it is the same record.
    async fn restore(&mut self, write: &Write, gone: &Json) {
        let WriteOp::Create { fields, meta, created: _, updated } = &write.op else { return };
        let mut image = Image::new(&self.store.name, self.layout, self.mapped, &self.lookups, gone);
        let built = image.key(&write.key).and_then(|()| image.fields(fields));
        image.meta(meta);
        image.times(None, *updated);
        if let Err(error) = built {
            self.end(write, Outcome::Refused(error));
            return;
        }
        let mut body = image.body();
        body.insert("deletedAt".to_owned(), Json::Null);
        let Some(id) = id_of(gone) else { return };
        let plural = self.layout.object.plural.clone();
        let path = format!("rest/{plural}/{}", id.0);
        let body = Json::Object(body);
        let mut done = self.store.client.write(&self.what(), Method::PATCH, &path, &body).await;
        // Later versions restore by another call.
        if done.as_ref().is_err_and(|failure| failure.error.kind == ErrorKind::NotFound) {
            let restored = format!("{path}/restore");
            done = match self.store.client.write(&self.what(), Method::PATCH, &restored, &json!({})).await {
                Ok(_) => {
                    let mut body = body;
                    if let Json::Object(body) = &mut body {
                        body.remove("deletedAt");
                    }
                    self.store.client.write(&self.what(), Method::PATCH, &path, &body).await
                }
                Err(failure) => Err(failure),
            };
        }
        let outcome = match done {
            Ok(answer) => {
                self.store.own.note(&self.layout.object.singular, 1);
                self.applied(write, gone, answer)
            }
            Err(failure) => self.find_out(write, &id.0, gone, failure).await,
        };
        self.end(write, outcome);
    }

    /// What a write's answer says.
    fn applied(&self, write: &Write, before: &Json, answer: Json) -> Outcome {
        let Some(record) = super::answered(&answer) else { return Outcome::Applied(None) };
        let record = complete(self.layout, &self.lookups, before, record.clone());
        Outcome::Applied(self.row(&record).map(|row| Row { key: write.key.clone(), unlinked: false, ..row }))
    }

    /// A record as a row, whosever it is.
    fn row(&self, record: &Json) -> Option<Row> {
        match read(self.layout, self.mapped, record) {
            Read::Row(row) => Some(row),
            Read::Stray(stray) => Some(Row {
                key: stray.key.unwrap_or_else(|| RecordKey::new(Vec::new())),
                store_id: Some(stray.store_id),
                fields: stray.fields,
                meta: stray.meta,
                created: stray.created,
                updated: stray.updated,
                unlinked: true,
            }),
            Read::BadKey => None,
        }
    }

    /// Makes records, all or none of a call; when the server refuses, one of them is in the way of the others.
    async fn insert(&mut self, all: Vec<(&Write, String, Json)>) {
        let mut waiting: VecDeque<Vec<(&Write, String, Json)>> = VecDeque::new();
        waiting.extend(in_pieces(all, self.store.capabilities.batch_size));
        while let Some(mut piece) = waiting.pop_front() {
            if self.down.is_some() || piece.is_empty() {
                continue;
            }
            let bodies = Json::Array(piece.iter().map(|(_, _, body)| body.clone()).collect());
            let path = format!("rest/batch/{}", self.layout.object.plural);
            match self.store.client.write(&self.what(), Method::POST, &path, &bodies).await {
                Ok(answer) => {
                    let made = super::answered_all(&answer);
                    for (write, id, _) in piece {
                        let own =
                            made.iter().find(|record| record.get("id").and_then(Json::as_str) == Some(&id));
                        let outcome = own.map_or(Outcome::Applied(None), |record| {
                            self.applied(write, &Json::Null, json!({ "data": { "made": record } }))
                        });
                        self.store.own.note(&self.layout.object.singular, 1);
                        self.end(write, outcome);
                    }
                }
                Err(failure) if failure.may_have_happened => self.find_out_made(piece, failure).await,
                Err(failure) if piece.len() > 1 && is_about_a_record(failure.error.kind) => {
                    let half = piece.split_off(piece.len() / 2);
                    waiting.push_front(half);
                    waiting.push_front(piece);
                }
                Err(failure) if is_about_a_record(failure.error.kind) => {
                    for (write, ..) in piece {
                        self.end(write, Outcome::Refused(failure.error.clone()));
                    }
                }
                Err(failure) => self.down = Some(failure.error),
            }
        }
    }

    /// The answer to a batch of new records was lost: they are looked up by their ids.
    async fn find_out_made(&mut self, piece: Vec<(&Write, String, Json)>, failure: Failure) {
        let ids: Vec<&str> = piece.iter().map(|(_, id, _)| id.as_str()).collect();
        let (plural, kind) = (self.layout.object.plural.clone(), self.layout.object.kind());
        let filter = one_of("id", None, json!(ids));
        let found = self.store.matching(&plural, &kind, &self.layout.selection(), &filter, false).await;
        let Ok(found) = found else {
            let error = StoreError { kind: ErrorKind::OutcomeUnknown, ..failure.error };
            for (write, ..) in piece {
                self.end(write, Outcome::Unknown(error.clone()));
            }
            return;
        };
        for (write, id, _) in piece {
            let made = found.iter().find(|record| record.get("id").and_then(Json::as_str) == Some(&id));
            match made {
                Some(record) => {
                    self.store.own.note(&self.layout.object.singular, 1);
                    let outcome = self.as_written(write, record);
                    self.end(write, outcome);
                }
                // A call that is still under way comes to the same record: its id was chosen.
                None => self.down = Some(failure.error.clone()),
            }
        }
    }

    /// A record that was written and is read back later: somebody may have edited it in between, so it counts as the answer only where it
    /// holds what was written.
    fn as_written(&self, write: &Write, record: &Json) -> Outcome {
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
        conditions.extend(self.store.key_filter(self.layout, self.mapped, &keys));
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
        if if write.link { !carried && row.key != write.key } else { carried || row.key != write.key } {
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
            Err(failure) if failure.may_have_happened => {
                Ok(self.find_out(planned.write, &planned.id, &planned.before, failure).await)
            }
            Err(failure) => match failure.error.kind {
                ErrorKind::NotFound => Ok(Outcome::Moved),
                kind if is_about_a_record(kind) => Ok(Outcome::Refused(failure.error)),
                _ => Err(failure.error),
            },
        }
    }

    /// The answer to a write was lost: the record tells whether it happened.
    async fn find_out(&self, write: &Write, id: &str, before: &Json, failure: Failure) -> Outcome {
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
    write: &'w Write,
    id: String,
    before: Json,
    /// What is sent; none: it is deleted.
    body: Option<Json>,
}

/// Whether an error is about what was sent, so that other writes may go well.
pub(super) fn is_about_a_record(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Invalid | ErrorKind::Conflict | ErrorKind::NotFound)
}

/// The bytes that a call may carry, well below what servers take.
const MOST_BYTES: usize = 8 << 20;

fn in_pieces<'w>(all: Vec<(&'w Write, String, Json)>, rows: usize) -> Vec<Vec<(&'w Write, String, Json)>> {
    let mut pieces: Vec<Vec<(&Write, String, Json)>> = Vec::new();
    let mut bytes = 0;
    for one in all {
        let size = one.2.to_string().len();
        match pieces.last_mut() {
            Some(last) if last.len() < rows.max(1) && bytes + size <= MOST_BYTES => {
                bytes += size;
                last.push(one);
            }
            _ => {
                bytes = size;
                pieces.push(vec![one]);
            }
        }
    }
    pieces
}

/// The type of a key's part, as a filter has to name its values.
pub(super) fn filter_value(text: &str, ty: FieldType, attribute: &str) -> Json {
    match (ty, attribute, text.parse::<i64>()) {
        (FieldType::Int64, "NUMBER", Ok(number)) => number.into(),
        _ => text.into(),
    }
}
