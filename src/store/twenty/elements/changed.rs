//! The elements of one record while they are changed, and the whole fields that come of it.

// An outcome that is no success ends a write; it is made once a write and not passed far.
#![allow(clippy::result_large_err)]

use std::collections::BTreeSet;

use serde_json::{Map, Value as Json, json};

use crate::model::{
    ElementId, ErrorKind, FieldId, Fields, Form, Native, Outcome, StoreError, StoreRecordId, Value, Write,
    WriteOp, encode, normal,
};

use super::super::super::guard_holds;
use super::super::TwentyStore;
use super::super::image::set_phone;
use super::super::layout::{Child, Layout};
use super::super::rows::{Element, additional_phone, elements, id_of};
use super::row;

/// The elements of a record while they are changed.
pub(in super::super) struct Changed<'a> {
    store: &'a TwentyStore,
    layout: &'a Layout,
    child: &'a Child,
    record: &'a Json,
    now: Vec<Element>,
    /// The kinds that something was done to.
    touched: BTreeSet<String>,
}

impl<'a> Changed<'a> {
    pub(in super::super) fn new(
        store: &'a TwentyStore,
        layout: &'a Layout,
        child: &'a Child,
        record: &'a Json,
    ) -> Self {
        let now = elements(layout, child, record);
        Self { store, layout, child, record, now, touched: BTreeSet::new() }
    }

    /// Does what some writes say.
    #[allow(clippy::type_complexity)] // Nothing else has this type.
    pub(in super::super) fn take_all<'w>(
        &mut self,
        writes: &[&'w Write],
    ) -> Vec<(&'w Write, Result<Option<ElementId>, Outcome>)> {
        writes.iter().map(|write| (*write, self.take(write))).collect()
    }

    /// Takes all kinds for changed: whatever else stands there goes.
    pub(in super::super) fn touch_all(&mut self) {
        self.touched.extend(self.child.embedded.places.keys().cloned());
    }

    /// Whether a record's fields are what they were before the write.
    pub(super) fn is_untouched(&self, record: &Json) -> bool {
        let names = self.touched.iter().filter_map(|kind| self.child.embedded.places.get(kind));
        names.map(|place| place.column.head()).all(|name| record.get(name) == self.record.get(name))
    }

    /// Whether the elements of a record are what the writes leave.
    pub(super) fn is_done(&self, there: &[Element]) -> bool {
        self.touched.iter().all(|kind| {
            let of_kind = |all: &[Element]| {
                let mut own: Vec<&Element> = all.iter().filter(|one| one.kind == *kind).collect();
                own.sort_by_key(|one| !one.primary);
                let normals: BTreeSet<String> = own.iter().map(|one| one.normal.clone()).collect();
                (own.first().map(|one| one.normal.clone()), normals)
            };
            of_kind(there) == of_kind(&self.now)
        })
    }

    fn refused(&self, write: &Write, why: &str) -> Outcome {
        let message = format!("{}: {why}", write.key);
        Outcome::Refused(StoreError::new(ErrorKind::Invalid, &self.store.name, message))
    }

    /// Does what a write says; gives the element that it leaves, if it leaves one.
    fn take(&mut self, write: &Write) -> Result<Option<ElementId>, Outcome> {
        let parent = id_of(self.record).ok_or(Outcome::Moved)?;
        let embedded = &self.child.embedded;
        let text = |fields: &Fields<Value>, id: FieldId| match fields.get(&id) {
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
        let mut text = value.to_owned();
        let form = match ty {
            "EMAILS" => Form::CrmEmail,
            "LINKS" => Form::CrmLink,
            "PHONES" => {
                let region = place.and_then(|place| place.region.as_deref());
                let phone = normal::phone(value, region);
                text = phone.ok_or_else(|| self.refused(write, "it is no phone number"))?.e164;
                Form::CrmPhone
            }
            _ => Form::CrmText,
        };
        let zone = &self.child.mapped.mapping.timezone;
        match encode(&Value::text(text), crate::model::FieldType::String, form, zone) {
            Ok(Native::Text(text)) => Ok((text, normal)),
            Ok(_) => Err(self.refused(write, "it has no value")),
            Err(error) => Err(self.refused(write, &error.0)),
        }
    }

    fn is_first(&self, kind: &str, fields: &Fields<Value>) -> Option<bool> {
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
    pub(in super::super) fn body(&self) -> Map<String, Json> {
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

/// A field with all of its elements.
fn whole(ty: &str, before: &Json, own: &[&Element]) -> Json {
    let texts = |from: usize| own.iter().skip(from).map(|one| one.value.as_str()).collect::<Vec<_>>();
    let first = own.first().map_or("", |one| one.value.as_str());
    match ty {
        "EMAILS" => json!({ "primaryEmail": first, "additionalEmails": texts(1) }),
        "PHONES" => phones(before, own),
        "LINKS" => {
            let mut whole = before.as_object().cloned().unwrap_or_default();
            whole.insert("primaryLinkUrl".to_owned(), first.into());
            let more: Vec<Json> = texts(1).iter().map(|url| json!({ "url": url, "label": "" })).collect();
            whole.insert("secondaryLinks".to_owned(), more.into());
            Json::Object(whole)
        }
        "ARRAY" | "MULTI_SELECT" => json!(texts(0)),
        _ => first.into(),
    }
}

/// Phone numbers: those that were there stay in the very form they have.
fn phones(before: &Json, own: &[&Element]) -> Json {
    let same = |value: &str, normal: &str| {
        value == normal || normal::phone(value, None).is_some_and(|phone| phone.e164 == normal)
    };
    let (there, _) = super::super::rows::values(before, "PHONES");
    let more = before.get("additionalPhones").and_then(Json::as_array).cloned().unwrap_or_default();
    let mut whole = Map::new();
    match own.first() {
        Some(first) if there.as_deref().is_some_and(|there| same(there, &first.normal)) => {
            for part in ["primaryPhoneNumber", "primaryPhoneCountryCode", "primaryPhoneCallingCode"] {
                whole.insert(part.to_owned(), before.get(part).cloned().unwrap_or_else(|| "".into()));
            }
        }
        first => set_phone(&mut whole, first.map_or("", |first| &first.value)),
    }
    let additional: Vec<Json> = own
        .iter()
        .skip(1)
        .map(|one| {
            let kept = more
                .iter()
                .find(|phone| additional_phone(phone).is_some_and(|text| same(&text, &one.normal)));
            kept.cloned()
                .unwrap_or_else(|| json!({ "number": one.value, "countryCode": "", "callingCode": "" }))
        })
        .collect();
    whole.insert("additionalPhones".to_owned(), additional.into());
    Json::Object(whole)
}
