//! Writes of records that stand inside another entity's records: a person's addresses and numbers.
//!
//! The server empties what a part of such a field is not sent with, so the whole field is made anew from what was read just before, and
//! written whole.

// An outcome that is no success ends a write; it is made once a write and not passed far.
#![allow(clippy::result_large_err)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use crate::model::{
    Batch, Cell, ElementId, ErrorKind, Fields, IntentId, Mapped, Outcome, RecordKey, Row, StoreError,
    StoreRecordId, SyncMeta, Value, Write, WriteOp,
};

use super::super::{check_write, repeated_keys};
use super::TwentyStore;
use super::error::Failure;
use super::exchange::Elements;
use super::ids::is_id;
use super::layout::{Child, Layout};
use super::query::{any_of, one_of};
use super::rows::{Element, Read, elements, id_of, read};
use super::write::{AT_ONCE, is_about_a_record};
pub(super) use changed::Changed;

mod changed;

/// Records that are looked at and written at a time.
const GROUP: usize = 5;

/// The record that a write's element stands in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whose {
    Id(String),
    Key(String),
}

/// What came of the elements of one record.
pub(super) enum Came {
    Outcomes(Vec<(IntentId, Outcome)>),
    /// Another record has what is to be written, and only one may.
    Taken,
    /// The server can do nothing just now.
    Down(StoreError),
}

impl TwentyStore {
    pub(super) async fn apply_elements(
        &self,
        mapped: &Mapped,
        batch: &Batch,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        let Some(embedded) = mapped.mapping.embedded() else { return Ok(BTreeMap::new()) };
        let parent = self.known.iter().find(|known| known.name() == &embedded.parent);
        let Some(parent) = parent else {
            let message =
                format!("`{}`, which `{}` stands in, is not mapped here", embedded.parent, mapped.name());
            return Err(StoreError::new(ErrorKind::Unsupported, &self.name, message));
        };
        let layout = self.layout(parent).await?;
        let child = Child { mapped: mapped.clone(), embedded: embedded.clone() };
        let with = Elements { store: self, layout: &layout, parent, child: &child };
        let repeated = repeated_keys(batch);
        let mut outcomes = BTreeMap::new();
        let mut by_record: BTreeMap<Whose, Vec<&Write>> = BTreeMap::new();
        for write in &batch.writes {
            if let Err(error) = check_write(&self.name, mapped, write, &repeated) {
                outcomes.insert(write.intent.clone(), Outcome::Refused(error));
                continue;
            }
            if let Some(outcome) = self.made_along(&with, write) {
                outcomes.insert(write.intent.clone(), outcome);
            } else if let Some(whose) = whose(&child, write) {
                by_record.entry(whose).or_default().push(write);
            } else {
                let message = format!("it is not known which `{}` {} stands in", embedded.parent, write.key);
                let error = StoreError::new(ErrorKind::Invalid, &self.name, message);
                outcomes.insert(write.intent.clone(), Outcome::Refused(error));
            }
        }
        let mut waiting: VecDeque<(Whose, Vec<&Write>)> = by_record.into_iter().collect();
        let mut down: Option<StoreError> = None;
        let mut taken = Vec::new();
        while !waiting.is_empty() && down.is_none() {
            let free = usize::try_from(self.client.pacer.available()).unwrap_or(usize::MAX);
            let many = free.saturating_sub(1).max(GROUP).min(waiting.len());
            let group: Vec<(Whose, Vec<&Write>)> = waiting.drain(..many).collect();
            let records = match self.parents(&layout, &group).await {
                Ok(records) => records,
                Err(failure) => {
                    down = Some(failure.error);
                    break;
                }
            };
            let mut running = FuturesUnordered::new();
            let mut each = by_parent(&layout, parent, &records, group).into_iter();
            loop {
                while running.len() < AT_ONCE
                    && let Some((record, writes)) = each.next()
                {
                    running.push(at_once(&with, record, writes));
                }
                let Some((came, record, writes)) = running.next().await else { break };
                match came {
                    Came::Outcomes(ended) => outcomes.extend(ended),
                    Came::Taken => {
                        let whose = record.and_then(id_of).map(|id| Whose::Id(id.0));
                        taken.extend(whose.map(|whose| (whose, writes)));
                    }
                    Came::Down(error) => down = Some(error),
                }
            }
        }
        if down.is_none() {
            down = with.exchange(taken, &mut outcomes).await.err();
        }
        if let Some(error) = down {
            if !outcomes.values().any(|one| matches!(one, Outcome::Applied(_) | Outcome::Unknown(_))) {
                return Err(error);
            }
            for write in &batch.writes {
                outcomes.entry(write.intent.clone()).or_insert_with(|| Outcome::Refused(error.clone()));
            }
        }
        Ok(outcomes)
    }

    /// Reads records, with the calls saved up that their writes need.
    pub(super) async fn parents(
        &self,
        layout: &Layout,
        group: &[(Whose, Vec<&Write>)],
    ) -> Result<Vec<Json>, Failure> {
        self.client.pacer.take(1 + group.len() as u64).await;
        let (mut ids, mut keys) = (BTreeSet::new(), BTreeSet::new());
        for (whose, _) in group {
            match whose {
                Whose::Id(id) if is_id(id) => ids.insert(id.as_str()),
                Whose::Id(_) => false,
                Whose::Key(key) => keys.insert(key.as_str()),
            };
        }
        let mut conditions = Vec::new();
        if !ids.is_empty() {
            conditions.push(one_of("id", None, json!(ids)));
        }
        if let (Some(column), false) = (layout.key_column(), keys.is_empty()) {
            conditions.push(one_of(column, None, json!(keys)));
        }
        if conditions.is_empty() {
            return Ok(Vec::new());
        }
        let (plural, kind) = (&layout.object.plural, layout.object.kind());
        self.matching(plural, &kind, &layout.selection(), &any_of(conditions), true).await
    }

    /// Writes the elements of one record: all at once, and one by one where the server does not take them all.
    pub(super) async fn write_elements(
        &self,
        with: &Elements<'_>,
        record: Option<&Json>,
        writes: &[&Write],
    ) -> Came {
        let Some(record) = record else {
            self.client.pacer.give_back(1);
            return Came::Outcomes(
                writes
                    .iter()
                    .map(|write| (write.intent.clone(), not_there(self, with.child, write)))
                    .collect(),
            );
        };
        let mut ended = Vec::new();
        let first = self.write_at_once(with, record, writes, &mut ended).await;
        let Err(failure) = first else { return Came::Outcomes(ended) };
        if failure.may_have_happened {
            return Came::Outcomes(self.find_out_elements(with, record, writes, &failure).await);
        }
        match failure.error.kind {
            ErrorKind::Conflict => Came::Taken,
            kind if is_about_a_record(kind) => Came::Outcomes(one_by_one(with, Some(record), writes).await),
            _ => Came::Down(failure.error),
        }
    }

    /// The answer to a write of one record's elements was lost: the record tells whether it happened. They went out in one call, so all
    /// did or none.
    async fn find_out_elements(
        &self,
        with: &Elements<'_>,
        record: &Json,
        writes: &[&Write],
        failure: &Failure,
    ) -> Vec<(IntentId, Outcome)> {
        let Elements { layout, child, .. } = *with;
        let mut planned = Changed::new(self, layout, child, record);
        let made = planned.take_all(writes);
        let id = id_of(record).map(|id| id.0).unwrap_or_default();
        let (plural, kind) = (&layout.object.plural, layout.object.kind());
        let filter = one_of("id", None, json!([id]));
        let found = self.matching(plural, &kind, &layout.selection(), &filter, false).await;
        let now = found.as_ref().ok().and_then(|found| found.first());
        let there = now.map(|now| elements(layout, child, now));
        let lost = |kind| StoreError { kind, ..failure.error.clone() };
        let outcome = |write: &Write, id: Option<&ElementId>| match (now, &there) {
            (Some(now), _) if planned.is_untouched(now) => Outcome::Refused(lost(failure.error.kind)),
            (Some(_), Some(there)) if planned.is_done(there) => {
                Outcome::Applied(made_of(with, record, (write, id), there))
            }
            _ => Outcome::Unknown(lost(ErrorKind::OutcomeUnknown)),
        };
        let ended = made.into_iter().map(|(write, made)| {
            let outcome = match made {
                Ok(id) => outcome(write, id.as_ref()),
                Err(outcome) => outcome,
            };
            (write.intent.clone(), outcome)
        });
        ended.collect()
    }

    /// Writes elements of one record in one call, and gives the record as it is then. Outcomes are only added when it went well.
    async fn write_at_once(
        &self,
        with: &Elements<'_>,
        record: &Json,
        writes: &[&Write],
        ended: &mut Vec<(IntentId, Outcome)>,
    ) -> Result<Json, Failure> {
        let prepared = self.prepare(with, record, writes);
        if prepared.body.is_empty() {
            self.client.pacer.give_back(1);
            ended.extend(prepared.conclude(with, record, record));
            return Ok(record.clone());
        }
        let (path, what) = (path_of(with.layout, record), format!("writing `{}`", with.layout.object.plural));
        let body = Json::Object(prepared.body.clone());
        let answer = self.client.write_paced(&what, Method::PATCH, &path, &[], Some(&body)).await?;
        let answer = super::answered(&answer).cloned().unwrap_or_else(|| record.clone());
        ended.extend(prepared.conclude(with, record, &answer));
        Ok(answer)
    }

    /// What is to be sent for writes to one record.
    pub(super) fn prepare<'w>(
        &self,
        with: &Elements<'_>,
        record: &Json,
        writes: &[&'w Write],
    ) -> Prepared<'w> {
        let mut changed = Changed::new(self, with.layout, with.child, record);
        let (mut ended, mut sent) = (Vec::new(), Vec::new());
        for (write, made) in changed.take_all(writes) {
            match made {
                Ok(id) => sent.push((write, id)),
                Err(outcome) => ended.push((write.intent.clone(), outcome)),
            }
        }
        Prepared { body: changed.body(), sent, ended }
    }
}

/// What is to be sent for writes to one record.
pub(super) struct Prepared<'w> {
    /// The fields that change, whole.
    pub(super) body: Map<String, Json>,
    /// The writes that it is for, with the elements that they leave.
    pub(super) sent: Vec<(&'w Write, Option<ElementId>)>,
    /// Writes that nothing is sent for.
    pub(super) ended: Vec<(IntentId, Outcome)>,
}

impl Prepared<'_> {
    /// What became of the writes, by the record as it was and is now.
    pub(super) fn conclude(
        self,
        with: &Elements<'_>,
        record: &Json,
        answer: &Json,
    ) -> Vec<(IntentId, Outcome)> {
        let there = elements(with.layout, with.child, answer);
        let mut outcomes = self.ended;
        for (write, id) in self.sent {
            let row = made_of(with, record, (write, id.as_ref()), &there);
            outcomes.push((write.intent.clone(), Outcome::Applied(row)));
        }
        outcomes
    }
}

/// Writes the elements of one record, beside those of others.
async fn at_once<'r, 'w>(
    with: &Elements<'_>,
    record: Option<&'r Json>,
    writes: Vec<&'w Write>,
) -> (Came, Option<&'r Json>, Vec<&'w Write>) {
    (with.store.write_elements(with, record, &writes).await, record, writes)
}

/// Writes elements of one record each by itself, so that a bad one does not fail the others.
pub(super) async fn one_by_one(
    with: &Elements<'_>,
    record: Option<&Json>,
    writes: &[&Write],
) -> Vec<(IntentId, Outcome)> {
    let (store, mut ended) = (with.store, Vec::new());
    let Some(mut record) = record.cloned() else {
        return writes
            .iter()
            .map(|write| (write.intent.clone(), not_there(store, with.child, write)))
            .collect();
    };
    for write in writes {
        store.client.pacer.take(1).await;
        match store.write_at_once(with, &record, &[write], &mut ended).await {
            Ok(answer) => record = answer,
            // The record as it is now is not known: what is still to be written to it has to wait.
            Err(failure) if failure.may_have_happened => {
                ended.extend(store.find_out_elements(with, &record, &[write], &failure).await);
                break;
            }
            Err(failure) => ended.push((write.intent.clone(), Outcome::Refused(failure.error))),
        }
    }
    for write in writes {
        if !ended.iter().any(|(intent, _)| *intent == write.intent) {
            ended.push((write.intent.clone(), Outcome::Moved));
        }
    }
    ended
}

/// Writes by the record that was found for them, however they named it: what is made anew from a record must be made once. What goes
/// makes room first.
pub(super) fn by_parent<'r, 'w>(
    layout: &Layout,
    parent: &Mapped,
    records: &'r [Json],
    group: Vec<(Whose, Vec<&'w Write>)>,
) -> Vec<(Option<&'r Json>, Vec<&'w Write>)> {
    let mut found: BTreeMap<Option<usize>, Vec<&Write>> = BTreeMap::new();
    for (whose, writes) in group {
        let at = records.iter().position(|record| is_whose(layout, parent, record, &whose));
        found.entry(at).or_default().extend(writes);
    }
    for writes in found.values_mut() {
        writes.sort_by_key(|write| match write.op {
            WriteOp::Delete { .. } => 0,
            WriteOp::Update { .. } => 1,
            WriteOp::Create { .. } => 2,
        });
    }
    found.into_iter().map(|(at, writes)| (at.and_then(|at| records.get(at)), writes)).collect()
}

fn not_there(store: &TwentyStore, child: &Child, write: &Write) -> Outcome {
    match write.op {
        WriteOp::Create { .. } => {}
        WriteOp::Update { .. } => return Outcome::Moved,
        // It went with the record that it stood in.
        WriteOp::Delete { .. } => return Outcome::Applied(None),
    }
    let message = format!("the `{}` that {} stands in is not there yet", child.embedded.parent, write.key);
    Outcome::Refused(
        StoreError::new(ErrorKind::NotFound, &store.name, message)
            .hint("it is written as soon as that record is"),
    )
}

/// Where a record is written.
pub(super) fn path_of(layout: &Layout, record: &Json) -> String {
    let id = id_of(record).map(|id| id.0).unwrap_or_default();
    format!("rest/{}/{id}", layout.object.plural)
}

/// Which record an element stands in, or is to.
fn whose(child: &Child, write: &Write) -> Option<Whose> {
    if let Some(id) = write.store_id.as_ref().and_then(ElementId::parse) {
        return Some(Whose::Id(id.parent.0));
    }
    match &write.op {
        WriteOp::Create { fields, .. } => {
            let key = fields.get(&child.embedded.reference)?.plain_text()?;
            Some(Whose::Key(key.into_owned()))
        }
        _ => None,
    }
}

fn is_whose(layout: &Layout, parent: &Mapped, record: &Json, whose: &Whose) -> bool {
    match whose {
        Whose::Id(id) => id_of(record).is_some_and(|own| own.0 == *id),
        Whose::Key(key) => {
            matches!(read(layout, parent, record), Read::Row(row) if row.key.parts().first() == Some(key))
        }
    }
}

/// The element that a write left, as a row; none where it left none, or it is not there.
pub(super) fn made_of(
    with: &Elements<'_>,
    record: &Json,
    (write, id): (&Write, Option<&ElementId>),
    there: &[Element],
) -> Option<Row> {
    let id = id?;
    let key = match read(with.layout, with.parent, record) {
        Read::Row(row) => Some(row.key),
        _ => None,
    };
    let element = there.iter().find(|one| one.kind == id.kind && one.normal == id.normal)?;
    Some(row(with.child, write, &id.parent, key.as_ref(), element))
}

/// An element as a row of its entity.
fn row(
    child: &Child,
    write: &Write,
    parent: &StoreRecordId,
    key: Option<&RecordKey>,
    element: &Element,
) -> Row {
    let embedded = &child.embedded;
    let id = ElementId { parent: parent.clone(), kind: element.kind.clone(), normal: element.normal.clone() };
    let mut fields: Fields<Cell> = [
        (embedded.kind, Cell::Value(Value::text(element.kind.as_str()))),
        (embedded.value, Cell::Value(Value::text(element.value.as_str()))),
    ]
    .into();
    let ty = child.mapped.entity.field(embedded.reference).ty;
    if let Some(reference) = key.and_then(|key| Value::of_key(key, ty)) {
        fields.insert(embedded.reference, Cell::Value(reference));
    }
    if let Some(first) = embedded.places.get(&element.kind).and_then(|place| place.primary) {
        fields.insert(first, Cell::Value(Value::Bool(element.primary)));
    }
    Row {
        key: write.key.clone(),
        store_id: Some(id.store_id()),
        fields,
        meta: SyncMeta::default(),
        created: None,
        updated: None,
        unlinked: false,
    }
}
