//! Writes of records that stand inside another entity's records: a person's addresses and numbers.
//!
//! The server empties what a part of such a field is not sent with, so the whole field is made anew from what was read just before, and
//! written whole.

// An outcome that is no success ends a write; it is made once a write and not passed far.
#![allow(clippy::result_large_err)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use reqwest::Method;
use serde_json::{Map, Value as Json, json};

use crate::model::{
    Batch, Cell, ElementId, ErrorKind, FieldId, Form, IntentId, Mapped, Native, Outcome, Row, StoreError,
    StoreRecordId, SyncMeta, Value, Write, WriteOp, encode, normal,
};

use super::super::{check_write, guard_holds, repeated_keys};
use super::TwentyStore;
use super::error::Failure;
use super::exchange::Elements;
use super::ids::is_id;
use super::layout::{Child, Layout};
use super::query::{any_of, one_of};
use super::rows::{Element, Read, elements, id_of, read};
use super::whole::whole;
use super::write::is_about_a_record;

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
        let repeated = repeated_keys(batch);
        let mut outcomes = BTreeMap::new();
        let mut by_record: BTreeMap<Whose, Vec<&Write>> = BTreeMap::new();
        for write in &batch.writes {
            if let Err(error) = check_write(&self.name, mapped, write, &repeated) {
                outcomes.insert(write.intent.clone(), Outcome::Refused(error));
                continue;
            }
            if let Some(whose) = whose(&child, write) {
                by_record.entry(whose).or_default().push(write);
            } else {
                let message = format!("it is not known which `{}` {} stands in", embedded.parent, write.key);
                let error = StoreError::new(ErrorKind::Invalid, &self.name, message);
                outcomes.insert(write.intent.clone(), Outcome::Refused(error));
            }
        }
        let mut waiting: VecDeque<(Whose, Vec<&Write>)> = by_record.into_iter().collect();
        let mut down: Option<StoreError> = None;
        let with = Elements { store: self, layout: &layout, parent, child: &child };
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
            for (record, writes) in by_parent(&layout, parent, &records, group) {
                match self.write_elements(&with, record, &writes).await {
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
            let error = StoreError { kind: ErrorKind::OutcomeUnknown, ..failure.error };
            ended.extend(writes.iter().map(|write| (write.intent.clone(), Outcome::Unknown(error.clone()))));
            return Came::Outcomes(ended);
        }
        match failure.error.kind {
            ErrorKind::Conflict => Came::Taken,
            kind if is_about_a_record(kind) => Came::Outcomes(one_by_one(with, Some(record), writes).await),
            _ => Came::Down(failure.error),
        }
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
            ended.extend(self.conclude(with, record, prepared));
            return Ok(record.clone());
        }
        let (path, what) =
            (self.path_of(with.layout, record), format!("writing `{}`", with.layout.object.plural));
        let body = Json::Object(prepared.body.clone());
        let answer = self.client.write_paced(&what, Method::PATCH, &path, &[], Some(&body)).await?;
        let answer = super::answered(&answer).cloned().unwrap_or_else(|| record.clone());
        ended.extend(self.conclude(with, &answer, prepared));
        Ok(answer)
    }

    /// Where a record is written.
    #[allow(clippy::unused_self)] // As its siblings.
    pub(super) fn path_of(&self, layout: &Layout, record: &Json) -> String {
        let id = id_of(record).map(|id| id.0).unwrap_or_default();
        format!("rest/{}/{id}", layout.object.plural)
    }

    /// What is to be sent for writes to one record.
    pub(super) fn prepare<'w>(
        &self,
        with: &Elements<'_>,
        record: &Json,
        writes: &[&'w Write],
    ) -> Prepared<'w> {
        let mut changed = Changed {
            store: self,
            layout: with.layout,
            child: with.child,
            record,
            now: elements(with.layout, with.child, record),
            touched: BTreeSet::new(),
        };
        let (mut ended, mut sent) = (Vec::new(), Vec::new());
        for write in writes {
            match changed.take(write) {
                Ok(id) => sent.push((*write, id)),
                Err(outcome) => ended.push((write.intent.clone(), outcome)),
            }
        }
        let key = match read(with.layout, with.parent, record) {
            Read::Row(row) => row.key.parts().first().cloned(),
            _ => None,
        };
        Prepared { body: changed.body(), sent, ended, key }
    }

    /// What became of writes, by the record as it is then.
    #[allow(clippy::unused_self)] // As its siblings.
    pub(super) fn conclude(
        &self,
        with: &Elements<'_>,
        answer: &Json,
        prepared: Prepared<'_>,
    ) -> Vec<(IntentId, Outcome)> {
        let there = elements(with.layout, with.child, answer);
        let mut outcomes = prepared.ended;
        for (write, id) in prepared.sent {
            let row = id.and_then(|id| {
                let element = there.iter().find(|one| one.kind == id.kind && one.normal == id.normal)?;
                Some(row(with.child, write, &id.parent, prepared.key.as_deref(), element))
            });
            outcomes.push((write.intent.clone(), Outcome::Applied(row)));
        }
        outcomes
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
    key: Option<String>,
}

/// Writes elements of one record each by itself, so that a bad one does not fail the others.
pub(super) async fn one_by_one(
    with: &Elements<'_>,
    record: Option<&Json>,
    writes: &[&Write],
) -> Vec<(IntentId, Outcome)> {
    let (store, mut ended) = (with.store, Vec::new());
    let mut record = record.cloned();
    for write in writes {
        let Some(now) = &record else {
            ended.push((write.intent.clone(), not_there(store, with.child, write)));
            continue;
        };
        store.client.pacer.take(1).await;
        match store.write_at_once(with, now, &[write], &mut ended).await {
            Ok(answer) => record = Some(answer),
            Err(failure) if failure.may_have_happened => {
                let error = StoreError { kind: ErrorKind::OutcomeUnknown, ..failure.error };
                ended.push((write.intent.clone(), Outcome::Unknown(error)));
            }
            Err(failure) => ended.push((write.intent.clone(), Outcome::Refused(failure.error))),
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

/// Which record an element stands in, or is to.
fn whose(child: &Child, write: &Write) -> Option<Whose> {
    if let Some(id) = write.store_id.as_ref().and_then(ElementId::parse) {
        return Some(Whose::Id(id.parent.0));
    }
    match &write.op {
        WriteOp::Create { fields, .. } => match fields.get(&child.embedded.reference)? {
            Value::Text(key) => Some(Whose::Key(key.as_ref().to_owned())),
            Value::Int(key) => Some(Whose::Key(key.to_string())),
            _ => None,
        },
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

/// An element as a row of its entity.
fn row(child: &Child, write: &Write, parent: &StoreRecordId, key: Option<&str>, element: &Element) -> Row {
    let embedded = &child.embedded;
    let id = ElementId { parent: parent.clone(), kind: element.kind.clone(), normal: element.normal.clone() };
    let mut fields: BTreeMap<FieldId, Cell> = [
        (embedded.kind, Cell::Value(Value::text(element.kind.as_str()))),
        (embedded.value, Cell::Value(Value::text(element.value.as_str()))),
    ]
    .into();
    if let Some(key) = key {
        fields.insert(embedded.reference, Cell::Value(Value::text(key)));
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

/// The elements of a record while they are changed.
struct Changed<'a> {
    store: &'a TwentyStore,
    layout: &'a Layout,
    child: &'a Child,
    record: &'a Json,
    now: Vec<Element>,
    /// The kinds that something was done to.
    touched: BTreeSet<String>,
}

impl Changed<'_> {
    fn refused(&self, write: &Write, why: &str) -> Outcome {
        let message = format!("{}: {why}", write.key);
        Outcome::Refused(StoreError::new(ErrorKind::Invalid, &self.store.name, message))
    }

    /// Does what a write says; gives the element that it leaves, if it leaves one.
    fn take(&mut self, write: &Write) -> Result<Option<ElementId>, Outcome> {
        let parent = id_of(self.record).ok_or(Outcome::Moved)?;
        let embedded = &self.child.embedded;
        let text = |fields: &BTreeMap<FieldId, Value>, id: FieldId| match fields.get(&id) {
            Some(Value::Text(text)) => Some(text.as_ref().to_owned()),
            _ => None,
        };
        match &write.op {
            WriteOp::Create { fields, .. } => {
                let kind =
                    text(fields, embedded.kind).ok_or_else(|| self.refused(write, "it has no kind"))?;
                let value =
                    text(fields, embedded.value).ok_or_else(|| self.refused(write, "it has no value"))?;
                let (value, normal) = self.written(write, &kind, &value)?;
                if self.now.iter().any(|one| one.kind == kind && one.normal == normal) {
                    return Err(Outcome::Moved);
                }
                let first = self.is_first(&kind, fields);
                self.now.push(Element { kind: kind.clone(), value, normal: normal.clone(), primary: false });
                self.settle_first(&kind, &normal, first);
                Ok(Some(ElementId { parent, kind, normal }))
            }
            WriteOp::Update { fields, guard, .. } => {
                let (at, id) = self.find(write)?;
                let (Some(element), parent_id) = (self.now.get(at).cloned(), parent) else {
                    return Err(Outcome::Moved);
                };
                self.check(write, guard, &parent_id, &element)?;
                let kind = element.kind.clone();
                if text(fields, embedded.kind).is_some_and(|new| new != kind) {
                    return Err(self.refused(write, "its kind cannot change: it would be another element"));
                }
                let mut normal = id.normal;
                if let Some(value) = text(fields, embedded.value) {
                    let (value, new) = self.written(write, &kind, &value)?;
                    if new != normal && self.now.iter().any(|one| one.kind == kind && one.normal == new) {
                        return Err(self.refused(write, "the record has that value already"));
                    }
                    if let Some(element) = self.now.get_mut(at) {
                        element.value = value;
                        element.normal.clone_from(&new);
                    }
                    self.touched.insert(kind.clone());
                    normal = new;
                }
                let first = self.is_first(&kind, fields);
                self.settle_first(&kind, &normal, first);
                Ok(Some(ElementId { parent: parent_id, kind, normal }))
            }
            WriteOp::Delete { guard } => {
                let (at, _) = self.find(write)?;
                let Some(element) = self.now.get(at).cloned() else { return Err(Outcome::Moved) };
                self.check(write, guard, &parent, &element)?;
                self.now.remove(at);
                self.touched.insert(element.kind);
                Ok(None)
            }
        }
    }

    /// A value as it is sent, and its normal form.
    fn written(&self, write: &Write, kind: &str, value: &str) -> Result<(String, String), Outcome> {
        let normal = self.child.embedded.normal(kind, value);
        let normal = normal.ok_or_else(|| self.refused(write, "its value is none of its kind"))?;
        let place = self.child.embedded.places.get(kind);
        let ty = place
            .and_then(|place| self.layout.attribute(place.column.head()))
            .map_or("", |of| of.ty.as_str());
        let form = match ty {
            "EMAILS" => Form::CrmEmail,
            "LINKS" => Form::CrmLink,
            "PHONES" => {
                let region = place.and_then(|place| place.region.as_deref());
                let phone = normal::phone(value, region);
                let phone = phone.ok_or_else(|| self.refused(write, "it is no phone number"))?;
                return Ok((phone.e164, normal));
            }
            _ => Form::CrmText,
        };
        let zone = &self.child.mapped.mapping.timezone;
        match encode(&Value::text(value), crate::model::FieldType::String, form, zone) {
            Ok(Native::Text(text)) => Ok((text, normal)),
            Ok(_) => Err(self.refused(write, "it has no value")),
            Err(error) => Err(self.refused(write, &error.0)),
        }
    }

    fn is_first(&self, kind: &str, fields: &BTreeMap<FieldId, Value>) -> Option<bool> {
        let field = self.child.embedded.places.get(kind)?.primary?;
        match fields.get(&field) {
            Some(Value::Bool(first)) => Some(*first),
            _ => None,
        }
    }

    /// Sees to it that the right element is the first of its kind.
    fn settle_first(&mut self, kind: &str, normal: &str, first: Option<bool>) {
        self.touched.insert(kind.to_owned());
        let Some(first) = first else { return };
        for one in self.now.iter_mut().filter(|one| one.kind == kind) {
            let this = one.normal == normal;
            if this {
                one.primary = first;
            } else if first {
                one.primary = false;
            }
        }
    }

    /// The element that a write is about.
    fn find(&self, write: &Write) -> Result<(usize, ElementId), Outcome> {
        let id = write.store_id.as_ref().and_then(ElementId::parse).ok_or(Outcome::Moved)?;
        let at = self.now.iter().position(|one| one.kind == id.kind && one.normal == id.normal);
        at.map(|at| (at, id)).ok_or(Outcome::Moved)
    }

    /// Whether an element still is what it was. What record it stands in is told by where it was found.
    fn check(
        &self,
        write: &Write,
        guard: &crate::model::Guard,
        parent: &StoreRecordId,
        element: &Element,
    ) -> Result<(), Outcome> {
        // Writes before this one may have changed who comes first.
        let before = elements(self.layout, self.child, self.record);
        let before = before.iter().find(|one| one.kind == element.kind && one.normal == element.normal);
        let mut row = row(self.child, write, parent, None, before.unwrap_or(element));
        if let Some(cell) = guard.fields.get(&self.child.embedded.reference) {
            row.fields.insert(self.child.embedded.reference, cell.clone());
        }
        row.meta = guard.meta.clone();
        if guard_holds(guard, &row) { Ok(()) } else { Err(Outcome::Moved) }
    }

    /// The fields that changed, whole.
    fn body(&self) -> Map<String, Json> {
        let mut body = Map::new();
        for kind in &self.touched {
            let Some(place) = self.child.embedded.places.get(kind) else { continue };
            let name = place.column.head();
            let Some(attribute) = self.layout.attribute(name) else { continue };
            let mut own: Vec<&Element> = self.now.iter().filter(|one| one.kind == *kind).collect();
            // Where none is the first, the one that comes first is.
            own.sort_by_key(|one| !one.primary);
            let before = self.record.get(name).unwrap_or(&Json::Null);
            if let Some(part) = place.column.0.get(1) {
                let mut whole = before.as_object().cloned().unwrap_or_default();
                whole.insert(part.clone(), own.first().map_or("", |one| &one.value).into());
                body.insert(name.to_owned(), Json::Object(whole));
                continue;
            }
            body.insert(name.to_owned(), whole(&attribute.ty, before, &own));
        }
        body
    }
}
