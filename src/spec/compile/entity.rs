//! Entities by themselves: key, fields, groups, clocks, policies. What they say of each other comes in [`super::link`].

use std::collections::{BTreeMap, BTreeSet};

use super::{Doc, Docs, field, unknown};
use crate::model::{
    ConflictPolicy, Diagnostic, Diagnostics, Entity, EntityName, FieldId, FieldName, FieldRef, FieldType,
    Granularity, KeyField, Names, Times, Unit,
};
use crate::spec::raw::{EntityBody, KeyBody, KeyEntry};
use crate::spec::words::duration_ms;

/// An entity as far as it is known, and where its document is among those gathered.
pub(super) struct Draft {
    pub(super) doc: usize,
    pub(super) entity: Entity,
}

pub(super) fn entities(
    docs: &Docs,
    side_files: &BTreeMap<String, String>,
    out: &mut Diagnostics,
) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    for (at, doc) in docs.entities.iter().enumerate() {
        // A second entity of one name has been named; its own mistakes are still worth telling.
        let Some(entity) = entity(doc, side_files, out) else { continue };
        if drafts.iter().all(|before| before.entity.name != entity.name) {
            drafts.push(Draft { doc: at, entity });
        }
    }
    drafts
}

/// A part of the key in its long form.
pub(super) fn key_body(entry: &KeyEntry) -> KeyBody {
    match entry {
        KeyEntry::Short(ty) => KeyBody { ty: *ty, ..KeyBody::default() },
        KeyEntry::Long(body) => body.clone(),
    }
}

fn entity(
    doc: &Doc<EntityBody>,
    side_files: &BTreeMap<String, String>,
    out: &mut Diagnostics,
) -> Option<Entity> {
    let name = EntityName::new(&doc.name).ok()?;
    let key = key(doc, out);
    let mut fields = field::fields(doc, side_files, out);
    if fields.len() > usize::from(u16::MAX) {
        out.push(
            Diagnostic::error(format!("`{name}` has more than {} fields", u16::MAX)).at(doc.name_place()),
        );
        fields.truncate(usize::from(u16::MAX));
    }
    let mut entity = Entity {
        name,
        key,
        fields,
        units: Vec::new(),
        references: Vec::new(),
        times: Times::default(),
        match_rules: Vec::new(),
        conflicts: conflicts(doc, out),
        deletes: doc.body.deletes,
        default_region: region(doc, out),
        system: false,
        names: Names::default(),
    };
    entity.times = times(doc, &entity, out);
    entity.units = units(doc, &entity, out);
    field::link_fields(doc, &mut entity, out);
    spread_sensitivity(&mut entity);
    Some(entity)
}

/// What is worked out of a sensitive field is as sensitive as that.
fn spread_sensitivity(entity: &mut Entity) {
    // One that is derived may be another one's source, at most through all of them.
    for _ in 0..entity.fields.len() {
        let sensitive = |from: &FieldRef| matches!(from, FieldRef::Field(of) if entity.field(*of).sensitive);
        let derived = |id: &FieldId| {
            let derive = entity.field(*id).derive.as_ref();
            !entity.field(*id).sensitive && derive.is_some_and(|derive| derive.args.iter().any(sensitive))
        };
        let more: Vec<FieldId> = entity.field_ids().filter(derived).collect();
        if more.is_empty() {
            return;
        }
        for id in more {
            entity.fields[id.index()].sensitive = true;
        }
    }
}

fn key(doc: &Doc<EntityBody>, out: &mut Diagnostics) -> Vec<KeyField> {
    let mut key = Vec::new();
    if doc.body.key.is_empty() {
        out.push(
            Diagnostic::error(format!("`{}` has no key", doc.name))
                .at(doc.key_place(&["key"]))
                .hint("name the field that tells records apart: `key: {id: string}`"),
        );
    }
    for (name, entry) in doc.body.key.iter() {
        let ty = key_body(entry).ty;
        if !matches!(ty, FieldType::String | FieldType::Int64) {
            out.push(
                Diagnostic::error(format!("`{name}` is a part of the key and cannot be `{}`", ty.as_str()))
                    .at(doc.place(&["key", name]))
                    .hint("parts of a key are `string` or `int64`"),
            );
        }
        if doc.body.fields.get(name).is_some() {
            out.push(
                Diagnostic::error(format!("`{name}` is both a part of the key and a field"))
                    .at(doc.key_place(&["fields", name]))
                    .hint("a part of the key stands under `key` alone"),
            );
        }
        match FieldName::new(name) {
            Ok(name) => key.push(KeyField { name, ty }),
            Err(error) => {
                out.push(Diagnostic::error(error.to_string()).at(doc.key_place(&["key", name])));
            }
        }
    }
    key
}

fn conflicts(doc: &Doc<EntityBody>, out: &mut Diagnostics) -> ConflictPolicy {
    let body = &doc.body.conflicts;
    let mut clock_tolerance_micros = 0;
    match body.clock_tolerance.as_deref().map(duration_ms) {
        Some(Err(why)) => {
            out.push(Diagnostic::error(why).at(doc.place(&["conflicts", "clock_tolerance"])));
        }
        Some(Ok(ms)) => clock_tolerance_micros = i64::try_from(ms.saturating_mul(1000)).unwrap_or(i64::MAX),
        None => {}
    }
    ConflictPolicy { granularity: body.granularity, clock_tolerance_micros, adopt: body.adopt }
}

fn region(doc: &Doc<EntityBody>, out: &mut Diagnostics) -> Option<String> {
    let region = doc.body.default_region.as_deref()?;
    if region.parse::<phonenumber::country::Id>().is_err() {
        out.push(
            Diagnostic::error(format!("`{region}` is no region"))
                .at(doc.place(&["default_region"]))
                .hint("write the two capital letters of ISO 3166, such as `US` or `IT`"),
        );
        return None;
    }
    Some(region.to_owned())
}

fn times(doc: &Doc<EntityBody>, entity: &Entity, out: &mut Diagnostics) -> Times {
    let body = &doc.body.times;
    let mut read = |step: &str, name: Option<&String>| {
        let name = name?;
        if entity.resolve(name).is_some() {
            out.push(
                Diagnostic::error(format!("`{name}` is a field, and cannot be a clock as well"))
                    .at(doc.place(&["times", step]))
                    .hint("a clock is never compared: remove it from the fields, or from `times`"),
            );
        }
        match FieldName::new(name) {
            Ok(name) => Some(name),
            Err(error) => {
                out.push(Diagnostic::error(error.to_string()).at(doc.place(&["times", step])));
                None
            }
        }
    };
    let times = Times {
        created: read("created", body.created.as_ref()),
        updated: read("updated", body.updated.as_ref()),
    };
    if times.created.is_some() && times.created == times.updated {
        out.push(
            Diagnostic::error("one clock cannot tell both creation and update")
                .at(doc.place(&["times", "updated"])),
        );
    }
    times
}

/// One unit for each group and one for each other field, in the order of the fields.
fn units(doc: &Doc<EntityBody>, entity: &Entity, out: &mut Diagnostics) -> Vec<Unit> {
    let mut taken: BTreeMap<FieldId, usize> = BTreeMap::new();
    let mut groups: Vec<BTreeSet<FieldId>> = Vec::new();
    for (at, names) in doc.body.groups.iter().enumerate() {
        let step = at.to_string();
        let mut group = BTreeSet::new();
        for (inner, name) in names.iter().enumerate() {
            let place = doc.place(&["groups", &step, &inner.to_string()]);
            match entity.resolve(name) {
                None => out.push(unknown("field", name, place, field_names(entity))),
                Some(FieldRef::Key(_)) => out.push(
                    Diagnostic::error(format!("`{name}` is a part of the key"))
                        .at(place)
                        .hint("a key never changes, so it needs no group"),
                ),
                Some(FieldRef::Field(id)) if taken.contains_key(&id) => out.push(
                    Diagnostic::error(format!("`{name}` is in a group already"))
                        .at(place)
                        .hint("a field belongs to one group: merge the two, or remove it from one"),
                ),
                Some(FieldRef::Field(id)) => {
                    taken.insert(id, at);
                    group.insert(id);
                }
            }
        }
        if names.len() < 2 {
            out.push(Diagnostic::error("a group has two fields or more").at(doc.place(&["groups", &step])));
        }
        groups.push(group);
    }
    if entity.conflicts.granularity == Granularity::Record {
        return vec![Unit { fields: entity.field_ids().collect() }]
            .into_iter()
            .filter(|u| !u.fields.is_empty())
            .collect();
    }
    let mut units = Vec::new();
    for id in entity.field_ids() {
        match taken.get(&id).and_then(|at| groups.get(*at)) {
            None => units.push(Unit { fields: vec![id] }),
            Some(group) if group.first() == Some(&id) => {
                units.push(Unit { fields: group.iter().copied().collect() });
            }
            Some(_) => {}
        }
    }
    units
}

/// The names of an entity's fields, parts of the key included.
pub(super) fn field_names(entity: &Entity) -> impl Iterator<Item = &str> {
    let key = entity.key.iter().map(|part| part.name.as_str());
    key.chain(entity.fields.iter().map(|field| field.name.as_str()))
}
