//! Which fields hold the key of another entity: as foreign keys say.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{FieldType, Shape, StoreName};

use super::fields::{Drafted, DraftedField};
use crate::spec::Spec;

/// Who refers to whom among drafted entities.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// Notes of every field whose key it holds, and gives it the type of that. Records are written parents first, so a reference that would
/// close a circle of entities is left out.
pub(super) fn link(spec: &Spec, entities: &mut [Drafted<'_>]) {
    let target = |entities: &[Drafted<'_>], field: &DraftedField<'_>| {
        let mut columns = field.columns.iter();
        columns.find_map(|(store, column)| referred(spec, entities, store, column.references.as_deref()?))
    };
    let mut edges = Edges::new();
    for at in 0..entities.len() {
        let Some(entity) = entities.get(at) else { continue };
        let key: Vec<Option<(String, FieldType)>> =
            entity.key.iter().map(|part| target(entities, part)).collect();
        let fields: Vec<Option<(String, FieldType)>> =
            entity.fields.iter().map(|field| target(entities, field)).collect();
        let Some(entity) = entities.get_mut(at) else { continue };
        let own = entity.name.to_owned();
        // The types of keys are settled, for others refer to them: a part of another type refers to nothing, and none to its own entity.
        let mut parts: Vec<_> = entity.key.iter_mut().zip(key).collect();
        parts.retain(|(part, to)| to.as_ref().is_some_and(|(name, ty)| *name != own && *ty == part.ty));
        for (field, to) in parts.into_iter().chain(entity.fields.iter_mut().zip(fields)) {
            let Some((name, ty)) = to else { continue };
            if name != own && reaches(&edges, &name, &own) {
                continue;
            }
            edges.entry(own.clone()).or_default().insert(name.clone());
            (field.references, field.ty) = (Some(name), ty);
        }
    }
}

/// Whether one entity refers to another, be it by way of others.
fn reaches(edges: &Edges, from: &str, to: &str) -> bool {
    let (mut seen, mut open) = (BTreeSet::from([from]), vec![from]);
    while let Some(name) = open.pop() {
        if name == to {
            return true;
        }
        open.extend(
            edges.get(name).into_iter().flatten().map(String::as_str).filter(|next| seen.insert(next)),
        );
    }
    false
}

/// The entity that lives in a table, and its key's type, where that has one part.
fn referred(
    spec: &Spec,
    entities: &[Drafted<'_>],
    store: &StoreName,
    table: &str,
) -> Option<(String, FieldType)> {
    let drafted = entities
        .iter()
        .find(|entity| entity.tables.get(store).is_some_and(|known| known.name.eq_ignore_ascii_case(table)));
    if let Some(entity) = drafted {
        let [part] = entity.key.as_slice() else { return None };
        return (!entity.keyless.contains(store)).then(|| (entity.name.to_owned(), part.ty));
    }
    let mapped = spec.mapped_in(store).find(|mapped| {
        matches!(&mapped.mapping.shape, Shape::Table(known) if known.name.eq_ignore_ascii_case(table))
    })?;
    let [part] = mapped.entity.key.as_slice() else { return None };
    Some((mapped.entity.name.to_string(), part.ty))
}
