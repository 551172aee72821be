//! Mappings: each entity's place in each store, with every short form resolved.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::entity::field_names;
use super::link::type_of;
use super::place::{self, Placed, placed};
use super::store::Stores;
use super::value::read;
use super::{Doc, Docs, related, unknown};
use crate::model::{
    Column, Condition, Diagnostic, Diagnostics, Direction, Entity, EntityName, FieldMapping, FieldRef,
    FieldType, Fields, Form, Home, KeyMapping, Mapping, Scope, Shape, StoreName, SyncPlace, TableName,
};
use crate::spec::raw::{ConditionEntry, KeyPlaces, MappingBody, Place, StoreMapping, SyncBody, SyncColumns};
use crate::spec::words::name_hint;
use crate::spec::yaml::{Kind, Node, Scalar, shorten};
use crate::spec::{StoreKind, StoreSpec};

/// Where a compiled mapping is written: the document's place among those gathered.
pub(super) type Mappings = BTreeMap<EntityName, BTreeMap<StoreName, Arc<Mapping>>>;

pub(super) fn mappings(
    docs: &Docs,
    entities: &[Arc<Entity>],
    stores: &Stores,
    out: &mut Diagnostics,
) -> Mappings {
    let mut mappings = Mappings::new();
    let embedded = related::embedded_places(docs);
    for doc in &docs.mappings {
        let name = &doc.body.entity;
        let Some(entity) = entities.iter().find(|entity| entity.name.as_str() == name) else {
            if !docs.may_be("Entity", name) {
                let known = entities.iter().map(|entity| entity.name.as_str());
                out.push(unknown("entity", name, doc.place(&["entity"]), known));
            }
            continue;
        };
        for (store, body) in doc.body.stores.iter() {
            let place = doc.key_place(&["stores", store]);
            let Some(spec) = StoreName::new(store).ok().and_then(|store| stores.specs.get(&store)) else {
                if !docs.may_be("Store", store) {
                    out.push(unknown("store", store, place, stores.names()));
                }
                continue;
            };
            // It stands inside another entity's objects, and what is said here of it is taken up there.
            let bare = body.table.is_none() && body.object.is_none();
            if bare && embedded.contains(&(name.as_str(), store)) {
                continue;
            }
            let mut compiler = Compiler::new(doc, entity, spec, body, out);
            let mapping = compiler.mapping();
            let of_entity = mappings.entry(entity.name.clone()).or_default();
            if of_entity.contains_key(&spec.name) {
                out.push(
                    Diagnostic::error(format!("`{name}` is mapped in `{store}` already"))
                        .at(place)
                        .hint("an entity has one place in a store: merge the two"),
                );
            } else if let Some(mapping) = mapping {
                of_entity.insert(spec.name.clone(), Arc::new(mapping));
            }
        }
    }
    related::embeds(docs, entities, stores, &mut mappings, out);
    related::check(docs, &mappings, out);
    mappings
}

pub(super) struct Compiler<'a> {
    doc: &'a Doc<MappingBody>,
    pub(super) entity: &'a Entity,
    pub(super) store: &'a StoreName,
    kind: &'a StoreKind,
    pub(super) body: &'a StoreMapping,
    timezone: String,
    pub(super) out: &'a mut Diagnostics,
}

impl<'a> Compiler<'a> {
    pub(super) fn new(
        doc: &'a Doc<MappingBody>,
        entity: &'a Entity,
        store: &'a StoreSpec,
        body: &'a StoreMapping,
        out: &'a mut Diagnostics,
    ) -> Self {
        let timezone = "UTC".to_owned();
        Self { doc, entity, store: &store.name, kind: &store.kind, body, timezone, out }
    }

    pub(super) fn has_own_ids(&self) -> bool {
        self.kind.has_own_ids()
    }

    fn path<'p>(&'p self, steps: &[&'p str]) -> Vec<&'p str> {
        ["stores", self.store.as_str()].into_iter().chain(steps.iter().copied()).collect()
    }

    pub(super) fn push(&mut self, steps: &[&str], found: Diagnostic) {
        let place = self.doc.place(&self.path(steps));
        self.out.push(found.at(place));
    }

    pub(super) fn push_key(&mut self, steps: &[&str], found: Diagnostic) {
        let place = self.doc.key_place(&self.path(steps));
        self.out.push(found.at(place));
    }

    /// The mapping; none where not even its table is known.
    fn mapping(&mut self) -> Option<Mapping> {
        let shape = self.shape();
        let timezone = self.timezone();
        self.own_ids_only();
        self.unknown_fields();
        let key = self.key();
        let key_text = self.key_text();
        let shape = shape?;
        let fields = self.fields(&shape, &key);
        let sync = self.sync();
        Some(Mapping {
            entity: self.entity.name.clone(),
            store: self.store.clone(),
            key,
            fields,
            triggers: self.triggers(&sync),
            sync,
            created: self.clock(self.entity.times.created.as_ref().map(|name| name.as_str().to_owned())),
            updated: self.clock(self.entity.times.updated.as_ref().map(|name| name.as_str().to_owned())),
            scope: self.scope(),
            own_ids: self.has_own_ids(),
            key_text,
            timezone,
            shape,
            home: Home::default(),
        })
    }

    fn shape(&mut self) -> Option<Shape> {
        let object_store = matches!(self.kind, StoreKind::Twenty { .. });
        let both = matches!(self.kind, StoreKind::Memory { .. });
        match (&self.body.table, &self.body.object) {
            (Some(_), Some(_)) => {
                let found = Diagnostic::error("an entity is a table or an object, not both")
                    .hint("keep one of the two");
                self.push_key(&["object"], found);
                None
            }
            (None, None) => {
                let word = if object_store { "object" } else { "table" };
                let found =
                    Diagnostic::error(format!("`{}` has no {word} in `{}`", self.entity.name, self.store))
                        .hint(format!("add `{word}: …`"));
                self.push_key(&[], found);
                None
            }
            (Some(_), None) if object_store => {
                let found =
                    Diagnostic::error(format!("`{}` has no tables", self.store)).hint("write `object: …`");
                self.push_key(&["table"], found);
                None
            }
            (None, Some(_)) if !object_store && !both => {
                let found =
                    Diagnostic::error(format!("`{}` has no objects", self.store)).hint("write `table: …`");
                self.push_key(&["object"], found);
                None
            }
            (Some(table), None) => match place::dotted(table).map(|column| column.0) {
                Ok(parts) if parts.len() <= 2 => {
                    let mut parts = parts.into_iter().rev();
                    let name = parts.next().unwrap_or_default();
                    Some(Shape::Table(TableName { schema: parts.next(), name }))
                }
                _ => {
                    let found = Diagnostic::error(format!("`{}` is no table", shorten(table)))
                        .hint("write `table`, or `schema.table`");
                    self.push(&["table"], found);
                    None
                }
            },
            (None, Some(object)) if place::plain(object).is_ok() => Some(Shape::Object(object.clone())),
            (None, Some(object)) => {
                self.push(&["object"], Diagnostic::error(format!("`{}` is no object", shorten(object))));
                None
            }
        }
    }

    fn timezone(&mut self) -> TimeZone {
        let Some(name) = &self.body.timezone else { return TimeZone::UTC };
        if let Ok(zone) = TimeZone::get(name) {
            self.timezone.clone_from(name);
            return zone;
        }
        let found = Diagnostic::error(format!("`{}` is no time zone", shorten(name)))
            .hint("write a name of the tz database, such as `Europe/Rome` or `UTC`");
        self.push(&["timezone"], found);
        TimeZone::UTC
    }

    fn unknown_fields(&mut self) {
        let body = self.body;
        let entity = self.entity;
        let times = [&entity.times.created, &entity.times.updated];
        let clocks: Vec<&str> = times.into_iter().flatten().map(crate::model::FieldName::as_str).collect();
        for (name, place) in body.fields.iter() {
            if name == "*" {
                if !matches!(place, Place::Short(word) if word == "same") {
                    let found = Diagnostic::error("`\"*\"` can only be `same`")
                        .hint("write `\"*\": same`, and other forms field by field");
                    self.push(&["fields", "*"], found);
                }
            } else if entity.resolve(name).is_none() && !clocks.contains(&name) {
                let hint = name_hint(name, field_names(entity).chain(clocks.iter().copied()));
                let found = Diagnostic::error(format!("`{}` has no field `{}`", entity.name, shorten(name)));
                self.push_key(&["fields", name], Diagnostic { hint, ..found });
            }
        }
    }

    fn star(&self) -> bool {
        self.body.fields.get("*").is_some()
    }

    /// What the manifest says of a name under `fields`; `"*"` says `same` of those not mentioned.
    fn said(&mut self, name: &str) -> Placed {
        let Some(place) = self.body.fields.get(name) else {
            return if self.star() {
                Placed::At { column: Column::plain(name), form: None, direction: None }
            } else {
                Placed::Nowhere
            };
        };
        self.understood(&["fields", name], name, place)
    }

    pub(super) fn understood(&mut self, steps: &[&str], name: &str, place: &Place) -> Placed {
        match placed(name, place) {
            Ok(placed) => {
                if let Placed::At { column, .. } = &placed
                    && column.0.len() > 1
                    && matches!(self.kind, StoreKind::Sqlite { .. })
                {
                    let found = Diagnostic::error(format!(
                        "`{column}` is a path, and SQLite's columns have no parts"
                    ))
                    .hint(format!("a column whose name has a dot is written `{{column: \"{column}\"}}`"));
                    self.push(steps, found);
                }
                placed
            }
            Err(found) => {
                self.push(steps, found);
                Placed::Nowhere
            }
        }
    }

    fn key(&mut self) -> Vec<KeyMapping> {
        let body = self.body;
        let entity = self.entity;
        let names: Vec<&str> = entity.key.iter().map(|part| part.name.as_str()).collect();
        match &body.key {
            Some(KeyPlaces::One(_)) if names.len() > 1 && body.junction.is_empty() => {
                let found =
                    Diagnostic::error(format!("the key of `{}` has {} parts", entity.name, names.len()))
                        .hint(format!("give each its column: `key: {{{}: …}}`", names.join(": …, ")));
                self.push(&["key"], found);
            }
            Some(KeyPlaces::Parts(parts)) => {
                for name in parts.names().filter(|name| !names.contains(name)) {
                    let hint = name_hint(name, names.iter().copied());
                    let found = Diagnostic::error(format!("`{}` is no part of the key", shorten(name)));
                    self.push_key(&["key", name], Diagnostic { hint, ..found });
                }
            }
            _ => {}
        }
        entity.key.iter().map(|part| self.key_part(part.name.as_str(), part.ty)).collect()
    }

    fn key_part(&mut self, name: &str, ty: FieldType) -> KeyMapping {
        let body = self.body;
        if let Some(relation) = self.junction_part(name) {
            return relation;
        }
        let (steps, place) = match &body.key {
            Some(KeyPlaces::One(column)) if body.junction.is_empty() => {
                (vec!["key"], Some(Place::Short(column.clone())))
            }
            Some(KeyPlaces::Parts(parts)) if parts.get(name).is_some() => {
                (vec!["key", name], parts.get(name).cloned())
            }
            _ => (vec!["fields", name], body.fields.get(name).cloned()),
        };
        if steps.first() == Some(&"key") && body.fields.get(name).is_some() {
            let found = Diagnostic::error(format!("the column of `{name}` is given twice"))
                .hint("give it under `key` or under `fields`");
            self.push_key(&["fields", name], found);
        }
        // Without a word about it, a part of the key stands in the column of its name.
        let Some(place) = place else {
            let column = Column::plain(name);
            return KeyMapping { form: self.form(&steps, name, ty, None, &column), column, relation: None };
        };
        match self.understood(&steps, name, &place) {
            Placed::At { column, form, direction } => {
                if direction.is_some() {
                    let found =
                        Diagnostic::error(format!("`{name}` is a part of the key and has no direction"))
                            .hint("remove `direction`");
                    self.push(&[steps.as_slice(), &["direction"]].concat(), found);
                }
                let form = self.form(&steps, name, ty, form, &column);
                KeyMapping { column, form, relation: None }
            }
            Placed::Related { .. } | Placed::Nowhere => {
                let found = Diagnostic::error(format!("`{name}` is a part of the key and needs a column"));
                let hint = self.has_own_ids().then(|| "a relation is named under `junction`".to_owned());
                self.push(&steps, Diagnostic { hint, ..found });
                KeyMapping { column: Column::plain(name), form: Form::Native, relation: None }
            }
        }
    }

    fn form(
        &mut self,
        steps: &[&str],
        name: &str,
        ty: FieldType,
        form: Option<Form>,
        column: &Column,
    ) -> Form {
        let form = form.unwrap_or_default();
        let allowed = place::forms_in(self.kind, ty);
        if !allowed.contains(&form) {
            let words = crate::spec::words::list(allowed.iter().map(|form| form.as_str()));
            let found = Diagnostic::error(format!(
                "`{name}` is `{}`, and cannot stand as `{}`",
                ty.as_str(),
                form.as_str()
            ))
            .hint(format!("its forms are {words}"));
            self.push(&[steps, &["form"]].concat(), found);
        }
        place::form_in(self.kind, ty, form, column)
    }

    fn fields(&mut self, shape: &Shape, key: &[KeyMapping]) -> Fields<FieldMapping> {
        let entity = self.entity;
        let mut fields = Fields::new();
        for id in entity.field_ids() {
            let field = entity.field(id);
            let name = field.name.as_str();
            let (column, form, direction, relation) = match self.said(name) {
                Placed::Nowhere => continue,
                Placed::At { column, form, direction } => (column, form, direction, None),
                Placed::Related { column, direction } => {
                    let Some(target) =
                        self.relation(&["fields", name, "relation"], name, FieldRef::Field(id))
                    else {
                        continue;
                    };
                    (column, None, direction, Some(target))
                }
            };
            let form = self.form(&["fields", name], name, field.ty, form, &column);
            let direction = direction.unwrap_or(Direction::Both);
            let tag = place::tag(shape, key, &column, (form, direction), field.ty, &self.timezone);
            fields.insert(id, FieldMapping { field: id, column, form, direction, tag, relation });
        }
        fields
    }

    fn clock(&mut self, name: Option<String>) -> Option<Column> {
        let name = name?;
        let (column, form, direction) = match self.said(&name) {
            Placed::At { column, form, direction } => (column, form, direction),
            Placed::Related { .. } => {
                let found = Diagnostic::error(format!("`{name}` is a clock and no relation"));
                self.push(&["fields", &name], found.hint("give it a column"));
                return None;
            }
            Placed::Nowhere => return None,
        };
        for (step, given) in [("form", form.is_some()), ("direction", direction.is_some())] {
            if given {
                let found = Diagnostic::error(format!("`{name}` is a clock and has no {step}"))
                    .hint(format!("remove `{step}`"));
                self.push(&["fields", &name, step], found);
            }
        }
        Some(column)
    }

    fn sync(&mut self) -> SyncPlace {
        let Some(sync) = &self.body.sync else { return SyncPlace::None };
        let SyncBody { structure, json, json_text, columns, triggers: _ } = sync;
        let given = [structure.is_some(), json.is_some(), json_text.is_some(), columns.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            let found = Diagnostic::error(
                "sync metadata lives in one place: exactly one of `struct`, `json`, `json-text` and `columns`",
            );
            self.push_key(&["sync"], found);
        }
        if let Some(path) = structure {
            if matches!(self.kind, StoreKind::Sqlite { .. }) {
                let found = Diagnostic::error("SQLite has no STRUCT columns")
                    .hint(format!("write `json-text: {path}`, or `columns: same`"));
                self.push_key(&["sync", "struct"], found);
            }
            if matches!(self.kind, StoreKind::Postgres { .. }) {
                let found = Diagnostic::error("Postgres has no STRUCT columns")
                    .hint(format!("write `json: {path}`, or `columns: same`"));
                self.push_key(&["sync", "struct"], found);
            }
            return self.sync_column("struct", path).map_or(SyncPlace::None, SyncPlace::Struct);
        }
        if let Some(path) = json {
            return self.sync_column("json", path).map_or(SyncPlace::None, SyncPlace::Json);
        }
        if let Some(path) = json_text {
            return self.sync_column("json-text", path).map_or(SyncPlace::None, SyncPlace::JsonText);
        }
        match columns {
            None => SyncPlace::None,
            Some(SyncColumns::Word(_)) => {
                let same = |name: &str| Some(Column::plain(name));
                SyncPlace::Columns {
                    version: same("version"),
                    last_updated: same("last_updated"),
                    last_updated_by: same("last_updated_by"),
                    sync_status: same("sync_status"),
                    source_systems: same("source_systems"),
                    sync_errors: same("sync_errors"),
                }
            }
            Some(SyncColumns::Each(each)) => SyncPlace::Columns {
                version: self.sync_part("version", each.version.as_deref()),
                last_updated: self.sync_part("last_updated", each.last_updated.as_deref()),
                last_updated_by: self.sync_part("last_updated_by", each.last_updated_by.as_deref()),
                sync_status: self.sync_part("sync_status", each.sync_status.as_deref()),
                source_systems: self.sync_part("source_systems", each.source_systems.as_deref()),
                sync_errors: self.sync_part("sync_errors", each.sync_errors.as_deref()),
            },
        }
    }

    fn triggers(&mut self, sync: &SyncPlace) -> bool {
        if self.body.sync.as_ref().and_then(|sync| sync.triggers) != Some(true) {
            return false;
        }
        if !matches!(self.kind, StoreKind::Sqlite { .. } | StoreKind::Postgres { .. }) {
            let found = Diagnostic::error(format!("`{}` has no triggers", self.store))
                .hint("only SQLite and Postgres have them: remove `triggers`");
            self.push_key(&["sync", "triggers"], found);
            return false;
        }
        if matches!(sync, SyncPlace::Columns { version: None, .. }) {
            let found = Diagnostic::error("triggers have no version to raise")
                .hint("add `version` to the columns, or remove `triggers`");
            self.push_key(&["sync", "triggers"], found);
            return false;
        }
        matches!(sync, SyncPlace::Columns { .. } | SyncPlace::Json(_) | SyncPlace::JsonText(_))
    }

    fn sync_column(&mut self, step: &str, path: &str) -> Option<Column> {
        match self.understood(
            &["sync", step],
            step,
            &Place::Long(crate::spec::raw::PlaceBody { path: Some(path.to_owned()), ..Default::default() }),
        ) {
            Placed::At { column, .. } => Some(column),
            Placed::Related { .. } | Placed::Nowhere => None,
        }
    }

    fn sync_part(&mut self, name: &str, place: Option<&str>) -> Option<Column> {
        match self.understood(&["sync", "columns", name], name, &Place::Short(place?.to_owned())) {
            Placed::At { column, .. } => Some(column),
            Placed::Related { .. } | Placed::Nowhere => None,
        }
    }

    pub(super) fn scope(&mut self) -> Option<Scope> {
        let body = self.body;
        if body.scope.is_empty() {
            if body.leave.is_some() {
                let found = Diagnostic::error("`leave` has no meaning without `where`")
                    .hint("add `where`, or remove `leave`");
                self.push_key(&["leave"], found);
            }
            return None;
        }
        let mut conditions = Vec::new();
        for (name, entry) in body.scope.iter() {
            let Some(field) = self.entity.resolve(name) else {
                let hint = name_hint(name, field_names(self.entity));
                let found =
                    Diagnostic::error(format!("`{}` has no field `{}`", self.entity.name, shorten(name)));
                self.push_key(&["where", name], Diagnostic { hint, ..found });
                continue;
            };
            let ty = type_of(self.entity, field);
            if matches!(ty, FieldType::Json | FieldType::StringList) {
                let found = Diagnostic::error(format!(
                    "`{name}` is `{}`, and no condition can be put on it",
                    ty.as_str()
                ));
                self.push_key(&["where", name], found);
                continue;
            }
            conditions.extend(self.condition(name, field, ty, entry));
        }
        Some(Scope { conditions, exit: body.leave.unwrap_or_default() })
    }

    fn condition(
        &mut self,
        name: &str,
        field: FieldRef,
        ty: FieldType,
        entry: &ConditionEntry,
    ) -> Option<Condition> {
        let steps: Vec<&str> = match entry {
            ConditionEntry::Is(_) => vec![name],
            ConditionEntry::Test(test) => match (&test.any_of, &test.not) {
                (Some(_), None) => vec![name, "in"],
                (None, Some(_)) => vec![name, "not"],
                _ => {
                    let found = Diagnostic::error(format!(
                        "the condition on `{name}` has exactly one of `in` and `not`"
                    ));
                    self.push_key(&["where", name], found);
                    return None;
                }
            },
        };
        let steps: Vec<&str> = std::iter::once("where").chain(steps).collect();
        let negated = steps.last() == Some(&"not") && steps.len() == 3;
        let full = self.path(&steps);
        let node = self.doc.node(&full)?;
        let indexes: Vec<String> = match &node.kind {
            Kind::Seq(items) => (0..items.len()).map(|at| at.to_string()).collect(),
            _ => Vec::new(),
        };
        let mut values = Vec::new();
        if matches!(node.kind, Kind::Seq(_)) {
            if indexes.is_empty() {
                self.push(&steps, Diagnostic::error(format!("the condition on `{name}` names no value")));
            }
            for index in &indexes {
                let steps: Vec<&str> = steps.iter().copied().chain([index.as_str()]).collect();
                if let Some(item) = node.get(index) {
                    values.extend(self.condition_value(&steps, ty, item));
                }
            }
        } else {
            values.extend(self.condition_value(&steps, ty, node));
        }
        self.allowed_values(name, field, &steps, &values);
        Some(Condition { field, values, negated })
    }

    /// The value as a scope compares it; nothing where it is a mistake.
    fn condition_value(&mut self, steps: &[&str], ty: FieldType, node: &Node) -> Vec<Option<String>> {
        if matches!(node.kind, Kind::Scalar { is: Scalar::Null, .. }) {
            return vec![None];
        }
        match read(node, ty) {
            Ok(value) => vec![value.plain_text().map(Cow::into_owned)],
            Err((why, hint)) => {
                self.push(steps, Diagnostic { hint, ..Diagnostic::error(why) });
                Vec::new()
            }
        }
    }

    /// A value that the field can never have makes a condition that always or never holds.
    fn allowed_values(&mut self, name: &str, field: FieldRef, steps: &[&str], values: &[Option<String>]) {
        let FieldRef::Field(id) = field else { return };
        for check in &self.entity.field(id).checks {
            let crate::model::Check::Enum(words) = check else { continue };
            for value in values.iter().flatten().filter(|value| !words.contains(*value)) {
                let hint = name_hint(value, words.iter().map(String::as_str));
                let found = Diagnostic::error(format!("`{name}` is never `{}`", shorten(value)));
                self.push(steps, Diagnostic { hint, ..found });
            }
        }
    }
}
