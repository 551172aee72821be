//! What rows say of themselves by the terms of match rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Cell, ElementId, Entity, EntityName, FieldId, FieldRef, Fields, MatchTerm, Recompute, RecordKey, Row,
    StoreRecordId, Stray, Value, normal,
};
use crate::spec::Spec;

use super::{Feature, Identify, Place};

/// How deep derived fields may come from derived fields.
const DEEPEST: u8 = 4;

/// A field's value in a row: derived from the others where it can be, since not every store keeps what follows from them.
fn value(entity: &Entity, fields: &Fields<Cell>, field: FieldId, depth: u8) -> Value {
    let held = || fields.get(&field).and_then(Cell::value).cloned().unwrap_or_default();
    let derive = entity.field(field).derive.as_ref().filter(|_| depth < DEEPEST);
    // One that need not follow from the others is what it says it is.
    if let Some(derive) = derive.filter(|derive| derive.recompute == Recompute::Always || held().is_null()) {
        let of = |arg: FieldRef| match arg {
            FieldRef::Field(id) => value(entity, fields, id, depth + 1),
            FieldRef::Key(_) => Value::Null,
        };
        let derived = derive.compute(of, entity.default_region.as_deref());
        if !derived.is_null() {
            return derived;
        }
    }
    held()
}

/// A value's text as matching compares it: blanks around it say nothing.
fn text_of(value: &Value) -> Option<String> {
    value.plain_text().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The text of what a row holds of a field.
fn held(fields: &Fields<Cell>, field: FieldId) -> Option<String> {
    text_of(fields.get(&field)?.value()?)
}

fn own(entity: &Entity, fields: &Fields<Cell>) -> BTreeSet<Feature> {
    let mut features = BTreeSet::new();
    for term in entity.match_rules.iter().flatten() {
        if let MatchTerm::Own(FieldRef::Field(field)) = term
            && let Some(text) = text_of(&value(entity, fields, *field, 0))
        {
            features.insert((term.clone(), text));
        }
    }
    features
}

/// What a stray says by its own fields.
pub(super) fn of_stray(entity: &Entity, stray: &Stray) -> BTreeSet<Feature> {
    own(entity, &stray.fields)
}

/// The kind of a row's value, and the value's normal form.
fn kind_and_normal(child: &Entity, fields: &Fields<Cell>) -> Option<(String, String)> {
    let (kind, value) = child.identifier()?;
    let kind = held(fields, kind)?;
    let normal = normal::identifier(&kind, &held(fields, value)?, child.default_region.as_deref())?;
    Some((kind, normal))
}

/// The text of what a row's reference holds.
fn referred(row: &Row, from: FieldRef) -> Option<String> {
    match from {
        FieldRef::Key(part) => row.key.parts().get(part).cloned(),
        FieldRef::Field(field) => held(&row.fields, field),
    }
}

/// The entities that have a rule about a child's kinds of value, with the field of the child that refers to them.
fn asking<'a>(
    spec: &'a Spec,
    child: &'a Entity,
) -> impl Iterator<Item = (&'a EntityName, FieldRef, &'a str)> {
    spec.entities.iter().flat_map(move |parent| {
        let from = child
            .references
            .iter()
            .find(|reference| reference.to == parent.name)
            .map(|reference| reference.from);
        let terms = parent.match_rules.iter().flatten();
        terms.filter_map(move |term| match term {
            MatchTerm::Child { entity, kind } if *entity == child.name => {
                Some((&parent.name, from?, kind.as_str()))
            }
            _ => None,
        })
    })
}

/// What a known row says of its record, and of the record that it refers to.
pub(super) fn of_row(spec: &Spec, entity: &Entity, row: &Row) -> Vec<(EntityName, RecordKey, Feature)> {
    let mut all: Vec<_> = own(entity, &row.fields)
        .into_iter()
        .map(|feature| (entity.name.clone(), row.key.clone(), feature))
        .collect();
    let mut asking = asking(spec, entity).peekable();
    if asking.peek().is_some()
        && let Some((kind, normal)) = kind_and_normal(entity, &row.fields)
    {
        for (parent, from, _) in asking.filter(|(.., asked)| *asked == kind) {
            let Some(key) = referred(row, from) else { continue };
            let term = MatchTerm::Child { entity: entity.name.clone(), kind: kind.clone() };
            all.push((parent.clone(), RecordKey::new(vec![key]), (term, normal.clone())));
        }
    }
    all
}

/// A known row of an entity that stands inside others in some store: its parent's key, its kind and its value's normal form.
pub(super) fn element_of(spec: &Spec, entity: &Entity, row: &Row) -> Option<(String, String, String)> {
    let mappings = spec.mappings.get(&entity.name)?;
    let embedded = mappings.values().find_map(|mapping| mapping.embedded())?;
    let text = |field| held(&row.fields, field);
    let (kind, value) = (text(embedded.kind)?, text(embedded.value)?);
    let normal = embedded.normal(&kind, &value)?;
    Some((text(embedded.reference)?, kind, normal))
}

/// A child stray's kind and normal form: an element's id says it.
fn of_child_stray(child: &Entity, stray: &Stray) -> Option<(String, String)> {
    match ElementId::parse(&stray.store_id) {
        Some(element) => {
            let (_, value) = child.identifier()?;
            let value = held(&stray.fields, value)?;
            let region = child.default_region.as_deref();
            let normal = normal::identifier(&element.kind, &value, region).unwrap_or(element.normal);
            Some((element.kind, normal))
        }
        None => kind_and_normal(child, &stray.fields),
    }
}

/// What the children of rows say of them, by the rows' ids.
pub(super) fn of_children(identify: &Identify) -> BTreeMap<(Place, StoreRecordId), BTreeSet<Feature>> {
    let mut all: BTreeMap<(Place, StoreRecordId), BTreeSet<Feature>> = BTreeMap::new();
    for ((name, store), census) in &identify.places {
        let Some(child) = identify.spec.entity(name) else { continue };
        let asking: Vec<_> = asking(&identify.spec, child).collect();
        if asking.is_empty() {
            continue;
        }
        for stray in census.strays.values() {
            let Some((kind, normal)) = of_child_stray(child, stray) else { continue };
            for (parent, from, _) in asking.iter().filter(|(.., asked)| *asked == kind) {
                let Some(id) = stray.relations.get(from) else { continue };
                let term = MatchTerm::Child { entity: name.clone(), kind: kind.clone() };
                let place = ((*parent).clone(), store.clone());
                all.entry((place, id.clone())).or_default().insert((term, normal.clone()));
            }
        }
    }
    all
}

/// What remembered rows say of themselves, and elements of the rows that they stand in, where those carry a key or are remembered: their
/// records may not be in any other store yet.
pub(super) fn of_keyed_elements(identify: &Identify) -> Vec<(Place, RecordKey, Feature)> {
    let mut all = Vec::new();
    for ((place, id), features) in of_children(identify) {
        let Some(census) = identify.places.get(&place) else { continue };
        let Some(key) = census.keyed.get(&id).or_else(|| census.links.get(&id)) else { continue };
        all.extend(features.into_iter().map(|feature| (place.clone(), key.clone(), feature)));
    }
    for (place, census) in &identify.places {
        let Some(entity) = identify.spec.entity(&place.0) else { continue };
        for stray in census.strays.values() {
            let Some(key) = census.links.get(&stray.store_id) else { continue };
            let own = of_stray(entity, stray).into_iter();
            all.extend(own.map(|feature| (place.clone(), key.clone(), feature)));
        }
    }
    all
}
