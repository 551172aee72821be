//! What only stores with record ids of their own have: relations in place of columns, objects that only join two others, and entities
//! that stand inside another one's objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::mapping::{Compiler, Mappings};
use super::place::{self, Placed};
use super::store::Stores;
use super::{Doc, Docs, unknown};
use crate::model::{
    Check, Column, Condition, Diagnostic, Diagnostics, Direction, EmbedPlace, Embedded, Entity, EntityName,
    FieldId, FieldMapping, FieldRef, FieldType, Fields, Form, Home, KeyMapping, Mapping, Scope, ScopeExit,
    Shape, StoreName, SyncPlace,
};
use crate::spec::StoreSpec;
use crate::spec::raw::{
    EmbedBody, EmbedEntry, JunctionBody, JunctionEntry, KeyPlaces, MappingBody, Ordered, Place, StoreMapping,
};
use crate::spec::words::{list, name_hint};
use crate::spec::yaml::shorten;

/// The entities that a manifest puts inside another one's objects, each with the store.
pub(super) fn embedded_places(docs: &Docs) -> BTreeSet<(&str, &str)> {
    let stores = docs.mappings.iter().flat_map(|doc| doc.body.stores.iter());
    stores.flat_map(|(store, body)| body.embed.names().map(move |child| (child, store))).collect()
}

impl Compiler<'_> {
    /// Refuses what needs record ids of the store's own where it has none.
    pub(super) fn own_ids_only(&mut self) {
        if self.has_own_ids() {
            return;
        }
        let used = [("embed", !self.body.embed.is_empty()), ("junction", !self.body.junction.is_empty())];
        for (word, _) in used.into_iter().filter(|(_, used)| *used) {
            let found = Diagnostic::error(format!(
                "`{word}` is for stores with record ids of their own, and `{}` is none",
                self.store
            ));
            self.push_key(
                &[word],
                found.hint("map the other entity to a table of its own, and keys to columns"),
            );
        }
    }

    /// The entity that a field's or key part's relation leads to.
    pub(super) fn relation(&mut self, steps: &[&str], name: &str, from: FieldRef) -> Option<EntityName> {
        if !self.has_own_ids() {
            let found = Diagnostic::error(format!("`{}` has no relations", self.store));
            self.push(steps, found.hint("map the field to the column that holds the other record's key"));
            return None;
        }
        let reference = self.entity.references.iter().find(|reference| reference.from == from);
        if reference.is_none() {
            let found = Diagnostic::error(format!("`{name}` refers to nothing, so no relation can hold it"));
            self.push(steps, found.hint("add `references: ENTITY` to it in the Entity"));
        }
        reference.map(|reference| reference.to.clone())
    }

    /// A part of the key that `junction` names.
    pub(super) fn junction_part(&mut self, name: &str) -> Option<KeyMapping> {
        let entry = self.body.junction.get(name)?;
        let JunctionBody { relation, .. } = junction_body(entry);
        let steps = ["junction", name];
        let part = self.entity.key.iter().position(|part| part.name.as_str() == name)?;
        let column = match place::plain(&relation) {
            Ok(column) => column,
            Err(found) => {
                self.push(&steps, found);
                Column::plain(name)
            }
        };
        // Of a store without relations that has been said.
        let own_ids = self.has_own_ids();
        let target = own_ids.then(|| self.relation(&steps, name, FieldRef::Key(part))).flatten();
        Some(KeyMapping { column, form: Form::Native, relation: target })
    }

    /// The column that holds the whole key of an object that joins others. Whatever `junction` names has to be a part of the key.
    pub(super) fn key_text(&mut self) -> Option<Column> {
        let body = self.body;
        let parts: Vec<&str> = self.entity.key.iter().map(|part| part.name.as_str()).collect();
        for name in body.junction.names().filter(|name| !parts.contains(name)) {
            let hint = name_hint(name, parts.iter().copied());
            let found = Diagnostic::error(format!("`{}` is no part of the key", shorten(name)));
            self.push_key(&["junction", name], Diagnostic { hint, ..found });
        }
        let Some(KeyPlaces::One(column)) = body.key.as_ref().filter(|_| !body.junction.is_empty()) else {
            return None;
        };
        let missing: Vec<&str> =
            parts.iter().copied().filter(|part| body.junction.get(part).is_none()).collect();
        if !missing.is_empty() {
            let found = Diagnostic::error(format!("`junction` does not say where {} stands", list(missing)));
            self.push_key(&["junction"], found.hint("name the relation of each part of the key"));
        }
        match self.understood(&["key"], "key", &Place::Short(column.clone())) {
            Placed::At { column, .. } => Some(column),
            Placed::Related { .. } | Placed::Nowhere => None,
        }
    }
}

fn junction_body(entry: &JunctionEntry) -> JunctionBody {
    match entry {
        JunctionEntry::Short(relation) => JunctionBody { relation: relation.clone(), object: None },
        JunctionEntry::Long(body) => body.clone(),
    }
}

fn embed_body(entry: &EmbedEntry) -> EmbedBody {
    match entry {
        EmbedEntry::Short(path) => EmbedBody { path: path.clone(), region: None, primary: None },
        EmbedEntry::Long(body) => body.clone(),
    }
}

/// The mappings of entities that stand inside others.
pub(super) fn embeds(
    docs: &Docs,
    entities: &[Arc<Entity>],
    stores: &Stores,
    mappings: &mut Mappings,
    out: &mut Diagnostics,
) {
    for doc in &docs.mappings {
        let Some(parent) = entities.iter().find(|entity| entity.name.as_str() == doc.body.entity) else {
            continue;
        };
        for (store, body) in doc.body.stores.iter() {
            let Some(store) = StoreName::new(store).ok().and_then(|store| stores.specs.get(&store)) else {
                continue;
            };
            for child in body.embed.names() {
                let place = doc.key_place(&["stores", store.name.as_str(), "embed", child]);
                let Some(entity) = entities.iter().find(|entity| entity.name.as_str() == child) else {
                    if !docs.may_be("Entity", child) {
                        out.push(unknown(
                            "entity",
                            child,
                            place,
                            entities.iter().map(|known| known.name.as_str()),
                        ));
                    }
                    continue;
                };
                let mut embedding = Embedding { docs, doc, parent, child: entity, store, body, out };
                let Some(mapping) = embedding.mapping() else { continue };
                let of_entity = mappings.entry(entity.name.clone()).or_default();
                if of_entity.contains_key(&store.name) {
                    out.push(
                        Diagnostic::error(format!("`{child}` is mapped in `{}` already", store.name))
                            .at(place)
                            .hint("it stands inside the other entity's objects, or in a table of its own"),
                    );
                    continue;
                }
                of_entity.insert(store.name.clone(), Arc::new(mapping));
            }
        }
    }
}

struct Embedding<'a> {
    docs: &'a Docs,
    doc: &'a Doc<MappingBody>,
    parent: &'a Entity,
    child: &'a Entity,
    store: &'a StoreSpec,
    body: &'a StoreMapping,
    out: &'a mut Diagnostics,
}

impl Embedding<'_> {
    fn push(&mut self, steps: &[&str], found: Diagnostic) {
        let path: Vec<&str> = ["stores", self.store.name.as_str(), "embed", self.child.name.as_str()]
            .into_iter()
            .chain(steps.iter().copied())
            .collect();
        let place = self.doc.key_place(&path);
        self.out.push(found.at(place));
    }

    fn mapping(&mut self) -> Option<Mapping> {
        if !self.store.kind.has_own_ids() {
            return None;
        }
        let (parent, child) = (self.parent, self.child);
        let reference = child.references.iter().find(|reference| reference.to == parent.name);
        let Some(FieldRef::Field(reference)) = reference.map(|reference| reference.from) else {
            let found =
                Diagnostic::error(format!("no field of `{}` refers to `{}`", child.name, parent.name));
            self.push(&[], found.hint(format!("add a field with `references: {}`", parent.name)));
            return None;
        };
        let Some((kind, value)) = child.identifier() else {
            let found =
                Diagnostic::error(format!("`{}` does not say what tells its values apart", child.name));
            self.push(
                &[],
                found
                    .hint("add a field with `derive: identifier(KIND, VALUE)`, the fields of kind and value"),
            );
            return None;
        };
        if child.key.len() != 1 {
            let found =
                Diagnostic::error(format!("the key of `{}` has {} parts", child.name, child.key.len()));
            self.push(&[], found.hint("what stands inside another entity's objects has a key of one part, which trueup can make"));
            return None;
        }
        let places = self.places(kind);
        let embedded = Embedded { parent: parent.name.clone(), reference, kind, value, places };
        let scope = self.scope(&embedded);
        let shape = Shape::Embedded(embedded.clone());
        let key: Vec<KeyMapping> = child
            .key
            .iter()
            .map(|part| KeyMapping {
                column: Column::plain(part.name.as_str()),
                form: Form::Native,
                relation: None,
            })
            .collect();
        let primary = embedded.places.values().filter_map(|place| place.primary);
        let fields: Fields<FieldMapping> = [reference, kind, value]
            .into_iter()
            .chain(primary)
            .map(|id| {
                let field = child.field(id);
                let column = Column::plain(field.name.as_str());
                let (form, direction) = (Form::Native, Direction::Both);
                let tag = place::tag(&shape, &key, &column, (form, direction), field.ty, "UTC");
                let relation = (id == reference).then(|| parent.name.clone());
                (id, FieldMapping { field: id, column, form, direction, tag, relation })
            })
            .collect();
        Some(Mapping {
            entity: child.name.clone(),
            store: self.store.name.clone(),
            shape,
            home: Home::default(),
            key,
            fields,
            sync: SyncPlace::None,
            triggers: false,
            created: None,
            updated: None,
            scope: Some(scope),
            own_ids: true,
            key_text: None,
            timezone: jiff::tz::TimeZone::UTC,
        })
    }

    fn places(&mut self, kind: FieldId) -> BTreeMap<String, EmbedPlace> {
        let (body, child) = (self.body, self.child);
        let words = kinds(child, kind);
        let mut places: BTreeMap<String, EmbedPlace> = BTreeMap::new();
        for (name, entry) in body.embed.get(child.name.as_str()).into_iter().flat_map(Ordered::iter) {
            if words.as_ref().is_some_and(|words| !words.contains(name)) {
                let hint = name_hint(name, words.iter().flatten().map(String::as_str));
                let found =
                    Diagnostic::error(format!("`{}` has no kind of value `{}`", child.name, shorten(name)));
                self.push(&[name], Diagnostic { hint, ..found });
            }
            let EmbedBody { path, region, primary } = embed_body(entry);
            let column = match place::dotted(&path) {
                Ok(column) => column,
                Err(found) => {
                    self.push(&[name], found);
                    continue;
                }
            };
            if let Some((other, _)) = places.iter().find(|(_, place)| place.column == column) {
                let found = Diagnostic::error(format!("`{other}` and `{name}` share the column `{column}`"));
                self.push(&[name], found.hint("each kind has a column of its own"));
            }
            if let Some(region) =
                region.as_deref().filter(|text| text.parse::<phonenumber::country::Id>().is_err())
            {
                let found = Diagnostic::error(format!("`{}` is no region", shorten(region)));
                self.push(
                    &[name, "region"],
                    found.hint("write the two capital letters of ISO 3166, such as `US` or `IT`"),
                );
            }
            let primary = primary.and_then(|field| self.primary(name, &field));
            let region = region.or_else(|| child.default_region.clone());
            let form = place::embedded_form(&self.store.kind, name);
            places.insert(name.to_owned(), EmbedPlace { column, region, primary, form });
        }
        if places.is_empty() {
            let found =
                Diagnostic::error(format!("`embed` does not say where the values of `{}` stand", child.name));
            self.push(&[], found.hint("give each kind its field: `{email: emails, phone: phones}`"));
        }
        places
    }

    fn primary(&mut self, kind: &str, name: &str) -> Option<FieldId> {
        let child = self.child;
        let found = match child.resolve(name) {
            Some(FieldRef::Field(id)) if child.field(id).ty == FieldType::Bool => return Some(id),
            Some(_) => Diagnostic::error(format!("`{name}` is no field of type `bool`")),
            None => {
                let hint = name_hint(name, child.fields.iter().map(|field| field.name.as_str()));
                let found = Diagnostic::error(format!("`{}` has no field `{}`", child.name, shorten(name)));
                Diagnostic { hint, ..found }
            }
        };
        self.push(&[kind, "primary"], found);
        None
    }

    /// Only the kinds that have a place; and what the child's own Mapping says.
    fn scope(&mut self, embedded: &Embedded) -> Scope {
        let values = embedded.places.keys().map(|kind| Some(kind.clone())).collect();
        let kinds = Condition { field: FieldRef::Field(embedded.kind), values, negated: false };
        let mut scope = Scope { conditions: vec![kinds], exit: ScopeExit::Remove };
        let (child, store) = (self.child.name.as_str(), self.store.name.as_str());
        let own = self.docs.mappings.iter().filter(|doc| doc.body.entity == child);
        for doc in own {
            let Some(body) =
                doc.body.stores.get(store).filter(|body| body.table.is_none() && body.object.is_none())
            else {
                continue;
            };
            let more = [
                ("key", body.key.is_some()),
                ("fields", !body.fields.is_empty()),
                ("sync", body.sync.is_some()),
                ("timezone", body.timezone.is_some()),
                ("embed", !body.embed.is_empty()),
                ("junction", !body.junction.is_empty()),
            ];
            for (word, _) in more.into_iter().filter(|(_, given)| *given) {
                let place = doc.key_place(&["stores", store, word]);
                let message = format!(
                    "`{child}` stands inside `{}` in `{store}`, and has no `{word}` there",
                    self.parent.name
                );
                self.out.push(
                    Diagnostic::error(message).at(place).hint("only `where` and `leave` say more of it"),
                );
            }
            if !body.scope.is_empty() || body.leave.is_some() {
                let own = Compiler::new(doc, self.child, self.store, body, self.out).scope();
                if let Some(own) = own {
                    scope.conditions.extend(own.conditions);
                    scope.exit = body.leave.unwrap_or(ScopeExit::Remove);
                }
            }
        }
        scope
    }
}

/// The words that a field allows; none where it allows any.
fn kinds(child: &Entity, kind: FieldId) -> Option<BTreeSet<String>> {
    child.field(kind).checks.iter().find_map(|check| match check {
        Check::Enum(words) => Some(words.clone()),
        _ => None,
    })
}

/// What relations lead to has to be in the same store.
pub(super) fn check(docs: &Docs, mappings: &Mappings, out: &mut Diagnostics) {
    for mapping in mappings.values().flat_map(BTreeMap::values).filter(|mapping| mapping.own_ids) {
        let entity = mapping.entity.as_str();
        let store = mapping.store.as_str();
        let of_fields =
            mapping.fields.values().filter_map(|place| Some(("fields", place.relation.as_ref()?)));
        let of_key = mapping.key_relations().map(|(_, target)| ("junction", target));
        for (word, target) in of_fields.chain(of_key) {
            if mappings.get(target).is_some_and(|stores| stores.contains_key(&mapping.store)) {
                continue;
            }
            let doc = docs
                .mappings
                .iter()
                .find(|doc| doc.body.entity == entity && doc.body.stores.get(store).is_some());
            let Some(doc) = doc else { continue };
            out.push(
                Diagnostic::error(format!(
                    "a relation of `{entity}` leads to `{target}`, which is not mapped in `{store}`"
                ))
                .at(doc.key_place(&["stores", store, word]))
                .hint(format!("map `{target}` there, or leave the relation out")),
            );
        }
    }
}

/// Whether a place is a relation's.
#[cfg(test)]
fn is_relation(place: &Place) -> bool {
    matches!(super::place::placed("field", place), Ok(Placed::Related { .. }))
}

#[cfg(test)]
mod tests {
    use super::is_relation;
    use crate::spec::raw::{Place, PlaceBody};

    #[test]
    fn a_relation_has_no_column() {
        let related = PlaceBody { relation: Some("company".to_owned()), ..PlaceBody::default() };
        assert!(is_relation(&Place::Long(related.clone())));
        assert!(!is_relation(&Place::Long(PlaceBody { path: Some("a.b".to_owned()), ..related })));
    }
}
