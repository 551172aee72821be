//! Where an entity's fields stand in an object, checked against what the workspace has.

use std::collections::BTreeMap;

use crate::model::{
    Column, Embedded, EntityName, ErrorKind, FieldId, Mapped, Mapping, Shape, StoreError, StoreName,
    SyncPlace,
};

use super::super::places;
use super::objects::{Attribute, Object, Objects, parts, unique_part};

/// The columns that the server itself keeps and that are never written as times of an update: incremental reads live by it.
pub(super) const UPDATED_AT: &str = "updatedAt";

/// A field, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) attribute: String,
    pub(super) part: Option<String>,
    /// The attribute's type.
    pub(super) ty: String,
}

/// A relation to a record of another entity, which is known by that record's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) attribute: String,
    /// The column with the other record's id.
    pub(super) join: String,
    pub(super) target: Target,
}

/// The entity that a relation leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) entity: EntityName,
    /// The object's names, singular and plural.
    pub(super) singular: String,
    pub(super) plural: String,
    /// The field with its key.
    pub(super) key: String,
}

/// Where a value stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    At(Path),
    Related(Relation),
}

/// Where a field's value stands.
pub(super) type FieldPlace = places::FieldPlace<Place>;

/// An entity whose records stand inside this one's.
#[derive(Debug, Clone)]
pub(super) struct Child {
    pub(super) mapped: Mapped,
    pub(super) embedded: Embedded,
}

/// An entity's place in a workspace.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) object: Object,
    pub(super) key: Vec<Place>,
    /// The field that holds a key whose parts are relations, as text.
    pub(super) key_text: Option<String>,
    pub(super) fields: Vec<FieldPlace>,
    /// The text field with the sync metadata.
    pub(super) sync: Option<String>,
    pub(super) created: Option<String>,
    pub(super) updated: Option<String>,
    /// Mapped columns that the object lacks.
    pub(super) missing: Vec<String>,
    /// Those of them that elements would stand in.
    pub(super) missing_inside: Vec<String>,
    pub(super) children: Vec<Child>,
}

/// The object that an entity is mapped to.
pub(super) fn object_name(mapping: &Mapping) -> Option<&str> {
    match &mapping.shape {
        Shape::Object(name) => Some(name),
        _ => None,
    }
}

impl Layout {
    /// Looks where everything stands. `known` are all entities that the store is mapped to.
    pub(super) fn of(
        store: &StoreName,
        objects: &Objects,
        mapped: &Mapped,
        known: &[Mapped],
    ) -> Result<Self, StoreError> {
        let mapping = &mapped.mapping;
        let Some(name) = object_name(mapping) else {
            let message = format!("`{}` is mapped to no object here", mapped.name());
            return Err(StoreError::new(ErrorKind::Unsupported, store, message).hint("write `object: …`"));
        };
        let object = objects.get(name).ok_or_else(|| not_found(store, name))?;
        let finder = Finder { store, objects, object, known };
        let mut missing = Vec::new();
        let mut key = Vec::new();
        for part in &mapping.key {
            if let Some(place) = finder.place(&part.column, part.relation.as_ref())? {
                key.push(place);
            } else {
                let message = format!("`{name}` has no field `{}`, which holds the key", part.column);
                let error = StoreError::new(ErrorKind::NotFound, store, message);
                return Err(error.hint("run `trueup migrate`"));
            }
        }
        let mut fields = Vec::new();
        for (id, field) in &mapping.fields {
            let Some(declared) = mapped.entity.fields.get(id.index()) else { continue };
            match finder.place(&field.column, field.relation.as_ref())? {
                Some(place) => fields.push(FieldPlace { id: *id, ty: declared.ty, form: field.form, place }),
                None => missing.push(field.column.to_string()),
            }
        }
        let mut plain = |column: &Column| {
            let there = object.fields.contains_key(column.head());
            if !there {
                missing.push(column.to_string());
            }
            there.then(|| column.head().to_owned())
        };
        let sync = match &mapping.sync {
            SyncPlace::JsonText(column) => plain(column),
            _ => None,
        };
        let key_text = match &mapping.key_text {
            Some(column) if !object.fields.contains_key(column.head()) => {
                let message = format!("`{name}` has no field `{column}`, which holds the key");
                return Err(StoreError::new(ErrorKind::NotFound, store, message).hint("run `trueup migrate`"));
            }
            other => other.as_ref().map(|column| column.head().to_owned()),
        };
        let created = mapping.created.as_ref().and_then(&mut plain);
        let updated = mapping.updated.as_ref().and_then(&mut plain);
        let children = known.iter().filter_map(|child| {
            let embedded = child.mapping.embedded()?;
            (&embedded.parent == mapped.name())
                .then(|| Child { mapped: child.clone(), embedded: embedded.clone() })
        });
        let children: Vec<Child> = children.collect();
        let places = children.iter().flat_map(|child| child.embedded.places.values());
        let inside = places.map(|place| &place.column).filter(|column| !can_hold_elements(object, column));
        let missing_inside = inside.map(ToString::to_string).collect();
        Ok(Self {
            object: object.clone(),
            key,
            key_text,
            fields,
            sync,
            created,
            updated,
            missing,
            missing_inside,
            children,
        })
    }

    /// What is asked for of every record, in GraphQL.
    pub(super) fn selection(&self) -> String {
        self.selection_with(&[])
    }

    /// The same with some attributes more. None is asked for twice: servers refuse that.
    pub(super) fn selection_with(&self, more: &[&str]) -> String {
        let mut wanted: BTreeMap<&str, String> = BTreeMap::new();
        let want = |name: &str, object: &Object| -> Option<String> {
            let attribute = object.fields.get(name)?;
            super::objects::selection(name, attribute)
        };
        for name in ["id", UPDATED_AT, "createdAt"] {
            wanted.insert(name, name.to_owned());
        }
        let mut related = Vec::new();
        for place in self.key.iter().chain(self.fields.iter().map(|field| &field.place)) {
            match place {
                Place::At(path) => {
                    if let Some(text) = want(&path.attribute, &self.object) {
                        wanted.insert(&path.attribute, text);
                    }
                }
                Place::Related(relation) => related.push(format!(
                    "{} {} {{ id {} }}",
                    relation.join, relation.attribute, relation.target.key
                )),
            }
        }
        for name in [&self.key_text, &self.sync, &self.created, &self.updated].into_iter().flatten() {
            wanted.insert(name, name.clone());
        }
        for name in more {
            if let Some(text) = want(name, &self.object) {
                wanted.insert(name, text);
            }
        }
        for place in self.children.iter().flat_map(|child| child.embedded.places.values()) {
            if let Some(text) = want(place.column.head(), &self.object) {
                wanted.insert(place.column.head(), text);
            }
        }
        related.sort();
        related.dedup();
        wanted.into_values().chain(related).collect::<Vec<_>>().join(" ")
    }

    /// The attributes that only one record may have a value of, as the server checks it, with the part it is about.
    pub(super) fn unique(&self) -> impl Iterator<Item = (&str, Option<&'static str>)> {
        let unique = self.object.fields.iter().filter(|(name, attribute)| attribute.unique && *name != "id");
        unique.map(|(name, attribute)| (name.as_str(), unique_part(&attribute.ty)))
    }

    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.object.fields.get(name)
    }

    /// The field at which rows are found by their key, where there is one.
    pub(super) fn key_column(&self) -> Option<&str> {
        if let Some(text) = &self.key_text {
            return Some(text);
        }
        match self.key.as_slice() {
            [Place::At(path)] if path.part.is_none() => Some(&path.attribute),
            _ => None,
        }
    }

    pub(super) fn field(&self, id: FieldId) -> Option<&FieldPlace> {
        self.fields.iter().find(|field| field.id == id)
    }
}

/// Whether an object has a field in which elements can stand.
fn can_hold_elements(object: &Object, column: &Column) -> bool {
    let Some(attribute) = object.fields.get(column.head()) else { return false };
    match column.0.get(1) {
        Some(part) => parts(&attribute.ty).contains(&part.as_str()),
        None => {
            matches!(attribute.ty.as_str(), "EMAILS" | "PHONES" | "LINKS" | "ARRAY" | "MULTI_SELECT" | "TEXT")
        }
    }
}

pub(super) fn not_found(store: &StoreName, name: &str) -> StoreError {
    StoreError::new(ErrorKind::NotFound, store, format!("there is no object `{name}`"))
        .hint("run `trueup migrate`, or correct `object:` in the mapping: it is the name in the singular")
}

struct Finder<'a> {
    store: &'a StoreName,
    objects: &'a Objects,
    object: &'a Object,
    known: &'a [Mapped],
}

impl Finder<'_> {
    /// Where a column stands; none where the object has no such field.
    fn place(&self, column: &Column, relation: Option<&EntityName>) -> Result<Option<Place>, StoreError> {
        let name = column.head();
        let Some(attribute) = self.object.fields.get(name) else { return Ok(None) };
        if let Some(entity) = relation {
            return self.related(name, attribute, entity).map(Some);
        }
        let part = match column.0.as_slice() {
            [_] => match attribute.ty.as_str() {
                "EMAILS" | "LINKS" => unique_part(&attribute.ty).map(str::to_owned),
                _ => None,
            },
            [_, part] if parts(&attribute.ty).contains(&part.as_str()) => Some(part.clone()),
            _ => return Ok(None),
        };
        Ok(Some(Place::At(Path { attribute: name.to_owned(), part, ty: attribute.ty.clone() })))
    }

    fn related(&self, name: &str, attribute: &Attribute, entity: &EntityName) -> Result<Place, StoreError> {
        let refused = |message: String| StoreError::new(ErrorKind::Invalid, self.store, message);
        let Some(join) = &attribute.join else {
            let message = format!("`{}.{name}` is no relation to one record", self.object.singular);
            return Err(refused(message).hint("name a relation, or give the field a column"));
        };
        let target = self.known.iter().find(|known| known.name() == entity).and_then(|known| {
            let object = self.objects.get(object_name(&known.mapping)?)?;
            let [part] = known.mapping.key.as_slice() else { return None };
            let [key] = part.column.0.as_slice() else { return None };
            object.fields.contains_key(key).then(|| Target {
                entity: entity.clone(),
                singular: object.singular.clone(),
                plural: object.plural.clone(),
                key: key.clone(),
            })
        });
        let target = target.ok_or_else(|| {
            refused(format!("`{}.{name}` leads to `{entity}`, whose key is not there", self.object.singular))
                .hint("run `trueup migrate`")
        })?;
        Ok(Place::Related(Relation { attribute: name.to_owned(), join: join.clone(), target }))
    }
}
