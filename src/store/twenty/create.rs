//! New records: made in batches with ids chosen beforehand, never where somebody else has what only one may have, and restored where they were
//! deleted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use crate::model::{Along, ErrorKind, Outcome, RecordKey, Row, StoreError, Write, WriteOp};

use super::super::Store as _;
use super::error::Failure;
use super::ids::{self, is_id};
use super::image::{Image, complete};
use super::query::{any_of, one_of};
use super::rows::{Read, id_of, joins, key_text, read};
use super::write::{Planned, Work, is_about_a_record};

/// Of what a new record is to have, what another one has already; deleted ones count as well.
fn holder<'j>(
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

impl Work<'_> {
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

    /// Why a change was refused because of what only one record may have: who has it, where that can be told.
    pub(super) async fn in_the_way(&self, planned: &Planned<'_>, refused: StoreError) -> StoreError {
        let Some(body) = &planned.body else { return refused };
        let unique = self.unique_values(body);
        if unique.is_empty() {
            return refused;
        }
        let values = unique.iter().map(|(name, part, text)| one_of(name, *part, json!([text])));
        let found = self.store.everyone(self.layout, &self.selection(), &any_of(values.collect())).await;
        let Ok(found) = found else { return refused };
        let holder = holder(&unique, found.live.iter().chain(&found.gone), Some(&planned.id));
        holder.map_or(refused, |(name, record)| self.held_by_another(planned.write, &name, record))
    }

    pub(super) async fn create(&mut self, creates: &[&Write], along: &[Along]) {
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
                    let elements = self.store.with_elements(self.layout, &write.key, &id, along, false);
                    if !elements.is_empty() {
                        self.plain.insert(id.clone(), Json::Object(body.clone()));
                        body.extend(elements);
                    }
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
        for (write, mut id, mut body) in bodies {
            let has_key = |record: &&Json| self.carries_key(record, &write.key);
            let stands = |id: &str| {
                found.live.iter().find(|record| record.get("id").and_then(Json::as_str) == Some(id))
            };
            // A row that was made for this pair joins another one now.
            let moved_on = self.layout.key_text.is_some()
                && stands(&id).is_some_and(|record| {
                    !has_key(&record)
                        && joins(self.layout, self.mapped, record).is_some_and(|joins| joins != write.key)
                });
            if moved_on {
                id = ids::chosen_again(&self.store.name, self.mapped.name(), &write.key);
                body["id"] = id.as_str().into();
            }
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
            let others = || found.live.iter().chain(&found.gone);
            // Whoever has an address already is not in the way of the record, which can be made without it.
            if holder(&self.unique_values(&body), others(), own).is_some() || gone.is_some() {
                body = self.plain.remove(&id).unwrap_or(body);
            }
            let unique = self.unique_values(&body);
            if let Some((name, record)) = holder(&unique, others(), own) {
                let error = self.held_by_another(write, &name, record);
                self.end(write, Outcome::Refused(error));
            } else if let Some(gone) = gone {
                // What stood in it when it went is no news: it has what is made along with it, and nothing else.
                let elements = |along| self.store.with_elements(self.layout, &write.key, &id, along, true);
                let mut inside = elements(along);
                let wanted = self.unique_values(&Json::Object(inside.clone()));
                if holder(&wanted, others(), own).is_some() {
                    inside = elements(&[]);
                }
                self.restore(write, gone, id, inside).await;
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
        if self.layout.key_text.is_some() {
            let again = bodies
                .iter()
                .map(|(write, ..)| ids::chosen_again(&self.store.name, self.mapped.name(), &write.key));
            conditions.push(one_of("id", None, json!(again.collect::<Vec<_>>())));
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

    pub(super) fn carries_key(&self, record: &Json, key: &RecordKey) -> bool {
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
    async fn restore(&mut self, write: &Write, gone: &Json, chosen: String, inside: Map<String, Json>) {
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
        body.extend(inside);
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
                if let Some(record) = super::answered(&answer) {
                    self.store.made.note(chosen, record);
                }
                self.applied(write, gone, answer)
            }
            Err(failure) => self.find_out(write, &id.0, gone, failure).await,
        };
        self.end(write, outcome);
    }

    /// What a write's answer says.
    #[allow(clippy::needless_pass_by_value)] // An answer is read once.
    pub(super) fn applied(&self, write: &Write, before: &Json, answer: Json) -> Outcome {
        let Some(record) = super::answered(&answer) else { return Outcome::Applied(None) };
        let record = complete(self.layout, &self.lookups, before, record.clone());
        Outcome::Applied(self.row(&record).map(|row| Row { key: write.key.clone(), unlinked: false, ..row }))
    }

    /// Makes records, all or none of a call; when the server refuses, one of them is in the way of the others.
    async fn insert(&mut self, all: Vec<(&Write, String, Json)>) {
        let (mut failed_in_a_row, mut made_some) = (0, false);
        let mut suspects: Vec<(&Write, StoreError)> = Vec::new();
        let mut waiting: VecDeque<Vec<(&Write, String, Json)>> = VecDeque::new();
        waiting.extend(in_pieces(all, self.store.capabilities().batch_size));
        while let Some(mut piece) = waiting.pop_front() {
            if self.down.is_some() || piece.is_empty() {
                continue;
            }
            let bodies = Json::Array(piece.iter().map(|(_, _, body)| body.clone()).collect());
            let path = format!("rest/batch/{}", self.layout.object.plural);
            match self.store.client.write(&self.what(), Method::POST, &path, &bodies).await {
                Ok(answer) => {
                    (failed_in_a_row, made_some) = (0, true);
                    let made = super::answered_all(&answer);
                    for (write, id, _) in piece {
                        let own =
                            made.iter().find(|record| record.get("id").and_then(Json::as_str) == Some(&id));
                        if let Some(record) = own.filter(|_| self.plain.contains_key(&id)) {
                            self.store.made.note(id.clone(), record);
                        }
                        let outcome = own.map_or(Outcome::Applied(None), |record| {
                            self.applied(write, &Json::Null, json!({ "data": { "made": record } }))
                        });
                        self.store.own.note(&self.layout.object.singular, 1);
                        self.end(write, outcome);
                    }
                }
                Err(failure) if failure.may_have_happened => {
                    failed_in_a_row += 1;
                    let (of_it, error) = (failure.of_it, failure.error.clone());
                    let mut left = self.find_out_made(piece, failure).await;
                    if left.is_empty() {
                        continue;
                    }
                    // The server answers, but not to this: one of them may be more than it can take.
                    if !of_it || failed_in_a_row > MOST_FAILURES {
                        self.down = Some(error);
                    } else if left.len() > 1 {
                        let half = left.split_off(left.len() / 2);
                        waiting.push_front(half);
                        waiting.push_front(left);
                    } else if let Some((write, _, body)) = left.pop() {
                        suspects.push((write, too_much(error, write, &body)));
                    }
                }
                Err(failure) if piece.len() > 1 && is_about_a_record(failure.error.kind) => {
                    let half = piece.split_off(piece.len() / 2);
                    waiting.push_front(half);
                    waiting.push_front(piece);
                }
                Err(failure) if is_about_a_record(failure.error.kind) => {
                    for (write, id, _) in piece {
                        match self.plain.remove(&id) {
                            Some(plain) => waiting.push_front(vec![(write, id, plain)]),
                            None => self.end(write, Outcome::Refused(failure.error.clone())),
                        }
                    }
                }
                Err(failure) => self.down = Some(failure.error),
            }
        }
        for (write, error) in suspects {
            // Where it made nothing at all, it is no record's fault.
            if made_some || error.kind == ErrorKind::Invalid {
                self.end(write, Outcome::Refused(error));
            } else {
                self.down = Some(error);
            }
        }
    }

    /// The answer to a batch of new records was lost: they are looked up by their ids. Gives those that are not there.
    async fn find_out_made<'w>(
        &mut self,
        piece: Vec<(&'w Write, String, Json)>,
        failure: Failure,
    ) -> Vec<(&'w Write, String, Json)> {
        let ids: Vec<&str> = piece.iter().map(|(_, id, _)| id.as_str()).collect();
        let (plural, kind) = (self.layout.object.plural.clone(), self.layout.object.kind());
        let filter = one_of("id", None, json!(ids));
        let found = self.store.matching(&plural, &kind, &self.layout.selection(), &filter, false).await;
        let Ok(found) = found else {
            let error = StoreError { kind: ErrorKind::OutcomeUnknown, ..failure.error };
            for (write, ..) in piece {
                self.end(write, Outcome::Unknown(error.clone()));
            }
            return Vec::new();
        };
        let mut left = Vec::new();
        for (write, id, body) in piece {
            let made = found.iter().find(|record| record.get("id").and_then(Json::as_str) == Some(&id));
            match made {
                Some(record) => {
                    self.store.own.note(&self.layout.object.singular, 1);
                    let outcome = self.as_written(write, record);
                    self.end(write, outcome);
                }
                // A call that is still under way comes to the same record: its id was chosen.
                None => left.push((write, id, body)),
            }
        }
        left
    }
}

/// Failures in a row after which the server counts as down: halving the largest batch takes eight to come to one record.
const MOST_FAILURES: usize = 10;

/// A record that the server fails over, with its size where that is the likely cause: servers take 10 MB.
pub(super) fn too_much(error: StoreError, write: &Write, body: &Json) -> StoreError {
    let bytes = body.to_string().len();
    if bytes <= MOST_BYTES {
        return error;
    }
    let message = format!("{}: {} of {} MB", error.message, write.key, bytes.div_ceil(1_000_000));
    StoreError::new(ErrorKind::Invalid, &error.store, message)
        .hint("the server takes 10 MB at a time: shorten what the record holds, or keep it out with `where`")
}

/// The bytes that a call may carry, well below what servers take.
const MOST_BYTES: usize = 8 << 20;

fn in_pieces(all: Vec<(&Write, String, Json)>, rows: usize) -> Vec<Vec<(&Write, String, Json)>> {
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
