//! What entities say of each other: references, the order that follows from them, and match rules.

use std::collections::BTreeSet;

use super::entity::{Draft, field_names, key_body};
use super::field::field_body;
use super::{Doc, Docs, unknown};
use crate::model::{
    Check, Diagnostic, Diagnostics, Entity, FieldRef, FieldType, MatchTerm, OnDelete, Reference,
};
use crate::spec::raw::{EntityBody, ReferenceEntry};
use crate::spec::words::name_hint;

pub(super) fn link(docs: &Docs, drafts: &mut [Draft], out: &mut Diagnostics) {
    let entities: Vec<Entity> = drafts.iter().map(|draft| draft.entity.clone()).collect();
    for draft in drafts.iter_mut() {
        let Some(doc) = docs.entities.get(draft.doc) else { continue };
        draft.entity.references = references(docs, doc, &draft.entity, &entities, out);
    }
    let entities: Vec<Entity> = drafts.iter().map(|draft| draft.entity.clone()).collect();
    for draft in drafts {
        let Some(doc) = docs.entities.get(draft.doc) else { continue };
        draft.entity.match_rules = match_rules(docs, doc, &draft.entity, &entities, out);
    }
}

/// What a field or part of a key says of the entity it refers to.
struct Said<'a> {
    section: &'static str,
    name: &'a str,
    references: Option<ReferenceEntry>,
    on_delete: Option<OnDelete>,
}

fn references(
    docs: &Docs,
    doc: &Doc<EntityBody>,
    entity: &Entity,
    entities: &[Entity],
    out: &mut Diagnostics,
) -> Vec<Reference> {
    let in_key = doc.body.key.iter().map(|(name, entry)| {
        let body = key_body(entry);
        Said { section: "key", name, references: body.references, on_delete: body.on_delete }
    });
    let in_fields = doc.body.fields.iter().map(|(name, entry)| {
        let body = field_body(entry);
        Said { section: "fields", name, references: body.references, on_delete: body.on_delete }
    });
    in_key.chain(in_fields).filter_map(|said| reference(docs, doc, entity, entities, said, out)).collect()
}

fn reference(
    docs: &Docs,
    doc: &Doc<EntityBody>,
    entity: &Entity,
    entities: &[Entity],
    said: Said<'_>,
    out: &mut Diagnostics,
) -> Option<Reference> {
    let Said { section, name, references, on_delete } = said;
    let beside = doc.place(&[section, name, "on_delete"]);
    let Some(entry) = references else {
        if on_delete.is_some() {
            out.push(
                Diagnostic::error(format!("`{name}` refers to nothing, so `on_delete` has no meaning"))
                    .at(beside)
                    .hint("add `references: ENTITY`"),
            );
        }
        return None;
    };
    let (target, on_delete, place) = match &entry {
        ReferenceEntry::Short(target) => (target, on_delete, doc.place(&[section, name, "references"])),
        ReferenceEntry::Long(body) => {
            if on_delete.is_some() && body.on_delete.is_some() {
                out.push(Diagnostic::error("`on_delete` is said twice").at(beside).hint("keep one of them"));
            }
            let place = doc.place(&[section, name, "references", "entity"]);
            (&body.entity, body.on_delete.or(on_delete), place)
        }
    };
    let Some(other) = entities.iter().find(|other| other.name.as_str() == target) else {
        if !docs.may_be("Entity", target) {
            out.push(unknown("entity", target, place, entities.iter().map(|other| other.name.as_str())));
        }
        return None;
    };
    let from = entity.resolve(name)?;
    let ty = type_of(entity, from);
    match other.key.as_slice() {
        [part] if part.ty != ty => out.push(
            Diagnostic::error(format!(
                "`{name}` is `{}`, and the key of `{target}` is `{}`",
                ty.as_str(),
                part.ty.as_str()
            ))
            .at(place)
            .hint(format!("make both the same, here `{}`", part.ty.as_str())),
        ),
        // A key without parts has been named.
        [] | [_] => {}
        parts => out.push(
            Diagnostic::error(format!(
                "`{target}` has a key of {} parts, and a field holds one",
                parts.len()
            ))
            .at(place)
            .hint("refer to entities whose key has one part"),
        ),
    }
    Some(Reference { from, to: other.name.clone(), on_delete: on_delete.unwrap_or_default() })
}

/// The type of a field or a part of the key.
pub(super) fn type_of(entity: &Entity, field: FieldRef) -> FieldType {
    match field {
        FieldRef::Key(part) => entity.key.get(part).map_or(FieldType::String, |part| part.ty),
        FieldRef::Field(id) => entity.field(id).ty,
    }
}

fn match_rules(
    docs: &Docs,
    doc: &Doc<EntityBody>,
    entity: &Entity,
    entities: &[Entity],
    out: &mut Diagnostics,
) -> Vec<Vec<MatchTerm>> {
    let mut rules = Vec::new();
    for (at, terms) in doc.body.match_rules.iter().enumerate() {
        let step = at.to_string();
        if terms.is_empty() {
            out.push(
                Diagnostic::error("a match rule without terms would match every record")
                    .at(doc.place(&["match", &step])),
            );
        }
        let mut rule = Vec::new();
        for (inner, term) in terms.iter().enumerate() {
            let place = doc.place(&["match", &step, &inner.to_string()]);
            match match_term(docs, entity, entities, term) {
                Ok(term) if rule.contains(&term) => {
                    out.push(Diagnostic::error("this term stands twice in one rule").at(place));
                }
                Ok(term) => rule.push(term),
                Err(None) => {}
                Err(Some(found)) => out.push(found.at(place)),
            }
        }
        rules.push(rule);
    }
    rules
}

/// A term, or what is wrong with it; nothing where what it names could not be read.
fn match_term(
    docs: &Docs,
    entity: &Entity,
    entities: &[Entity],
    term: &str,
) -> Result<MatchTerm, Option<Diagnostic>> {
    let with_hint =
        |message: String, hint: Option<String>| Some(Diagnostic { hint, ..Diagnostic::error(message) });
    match entity.resolve(term) {
        Some(FieldRef::Key(_)) => {
            let hint = Some("match rules are for records without a key".to_owned());
            return Err(with_hint(format!("`{term}` is a part of the key"), hint));
        }
        Some(field) => return Ok(MatchTerm::Own(field)),
        None => {}
    }
    let Some((child, kind)) = term.split_once('.') else {
        return Err(with_hint(format!("there is no field `{term}`"), name_hint(term, field_names(entity))));
    };
    let Some(child_entity) = entities.iter().find(|other| other.name.as_str() == child) else {
        if docs.may_be("Entity", child) {
            return Err(None);
        }
        let hint = name_hint(child, entities.iter().map(|other| other.name.as_str()));
        return Err(with_hint(format!("there is no entity `{child}`"), hint));
    };
    if !child_entity.references.iter().any(|reference| reference.to == entity.name) {
        let hint = Some(format!("add `references: {}` to a field of `{child}`", entity.name));
        return Err(with_hint(format!("`{child}` does not refer to `{}`", entity.name), hint));
    }
    let kinds = kinds(child_entity);
    if !kinds.is_empty() && !kinds.contains(kind) {
        let hint = name_hint(kind, kinds.iter().map(String::as_str));
        return Err(with_hint(format!("`{child}` has no kind of value `{kind}`"), hint));
    }
    Ok(MatchTerm::Child { entity: child_entity.name.clone(), kind: kind.to_owned() })
}

/// The kinds of value that a child entity tells apart: the words of its fields with an `enum`.
fn kinds(child: &Entity) -> BTreeSet<String> {
    let checks = child.fields.iter().flat_map(|field| &field.checks);
    checks
        .filter_map(|check| if let Check::Enum(words) = check { Some(words.clone()) } else { None })
        .flatten()
        .collect()
}

/// The places of the drafts, those referred to before those that refer, otherwise as they appear.
pub(super) fn in_reference_order(docs: &Docs, drafts: &[Draft], out: &mut Diagnostics) -> Vec<usize> {
    let targets: Vec<Vec<usize>> = drafts
        .iter()
        .enumerate()
        .map(|(at, draft)| {
            let named = draft.entity.references.iter();
            named
                .filter_map(|reference| drafts.iter().position(|other| other.entity.name == reference.to))
                // A record may refer to one of its own kind: the records' order, not the entities', is then at stake.
                .filter(|target| *target != at)
                .collect()
        })
        .collect();
    for cycle in cycles(&targets) {
        let Some(draft) = cycle.first().and_then(|first| drafts.get(*first)) else { continue };
        let Some(doc) = docs.entities.get(draft.doc) else { continue };
        let names = cycle.iter().chain(cycle.first()).filter_map(|at| drafts.get(*at));
        let text = names.map(|draft| format!("`{}`", draft.entity.name)).collect::<Vec<_>>().join(" to ");
        out.push(
            Diagnostic::error(format!("entities refer to each other in a circle: {text}"))
                .at(doc.name_place())
                .hint("records are written parents first: drop one of the references"),
        );
    }
    let mut order: Vec<usize> = Vec::new();
    while order.len() < drafts.len() {
        let ready =
            |at: &usize| !order.contains(at) && targets[*at].iter().all(|target| order.contains(target));
        let rest = || (0..drafts.len()).find(|at| !order.contains(at));
        // In a circle, which has been named, the first left goes first.
        let Some(next) = (0..drafts.len()).find(ready).or_else(rest) else { break };
        order.push(next);
    }
    order
}

/// The circles in a graph, each once, given what each node leads to.
pub(super) fn cycles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut found = Vec::new();
    // 0: not seen, 1: on the path, 2: done.
    let mut seen = vec![0_u8; edges.len()];
    for start in 0..edges.len() {
        if seen[start] != 0 {
            continue;
        }
        seen[start] = 1;
        let mut path: Vec<(usize, usize)> = vec![(start, 0)];
        while let Some((node, next)) = path.last_mut() {
            let Some(target) = edges[*node].get(*next).copied() else {
                seen[*node] = 2;
                path.pop();
                continue;
            };
            *next += 1;
            match seen.get(target) {
                Some(0) => {
                    seen[target] = 1;
                    path.push((target, 0));
                }
                Some(1) => {
                    let from = path.iter().position(|(on_path, _)| *on_path == target).unwrap_or(0);
                    found.push(path[from..].iter().map(|(on_path, _)| *on_path).collect());
                }
                _ => {}
            }
        }
    }
    found
}
