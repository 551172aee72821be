//! What must hold between entities, stores and mappings taken together: every field has a canonical place, no two things share
//! a column, and nothing is kept in part.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::mapping::Mappings;
use super::store::Stores;
use super::{Doc, Docs, audit};
use crate::model::{
    Diagnostic, Diagnostics, Entity, FieldId, Granularity, Mapping, Place, SYNC_PARTS, SYSTEM_TABLES, Shape,
    StoreName, SyncPlace, TableName,
};
use crate::spec::raw::MappingBody;
use crate::spec::words::list;
use crate::spec::{Reference, StoreKind};

pub(super) fn check(
    docs: &Docs,
    entities: &[Arc<Entity>],
    stores: &Stores,
    mappings: &Mappings,
    out: &mut Diagnostics,
) {
    for entity in entities {
        let mapped = mappings.get(&entity.name);
        for mapping in mapped.into_iter().flatten().map(|(_, mapping)| mapping) {
            let Some(checker) = Checker::new(docs, entity, mapping) else { continue };
            checker.whole_groups(out);
            checker.columns(stores, mappings, out);
            if let Some(spec) = stores.specs.get(&mapping.store) {
                audit::check(&checker, &spec.kind, mappings, out);
            }
        }
        if let Some(canonical) = &stores.canonical {
            canonical_place(docs, entity, canonical, mappings, out);
        }
    }
    shared_tables(docs, stores, mappings, out);
    idle_stores(docs, stores, mappings, out);
}

/// The document that maps an entity in a store.
fn mapping_doc<'a>(docs: &'a Docs, entity: &str, store: &str) -> Option<&'a Doc<MappingBody>> {
    docs.mappings.iter().find(|doc| doc.body.entity == entity && doc.body.stores.get(store).is_some())
}

/// What one mapping is checked with.
pub(super) struct Checker<'a> {
    doc: &'a Doc<MappingBody>,
    pub(super) entity: &'a Entity,
    pub(super) mapping: &'a Mapping,
}

impl<'a> Checker<'a> {
    fn new(docs: &'a Docs, entity: &'a Entity, mapping: &'a Mapping) -> Option<Self> {
        let whose = mapping.embedded().map_or(&entity.name, |embedded| &embedded.parent);
        let doc = mapping_doc(docs, whose.as_str(), mapping.store.as_str())?;
        Some(Self { doc, entity, mapping })
    }

    /// Where the manifest says something about the mapping.
    pub(super) fn place(&self, steps: &[&str]) -> Place {
        let embed = ["embed", self.entity.name.as_str()];
        let steps = if self.mapping.embedded().is_some() { &embed } else { steps };
        let path: Vec<&str> =
            ["stores", self.mapping.store.as_str()].into_iter().chain(steps.iter().copied()).collect();
        self.doc.key_place(&path)
    }

    fn name(&self, id: FieldId) -> &str {
        self.entity.field(id).name.as_str()
    }

    /// A group is settled as one, so a store that has some of it could neither be told from nor given the rest.
    fn whole_groups(&self, out: &mut Diagnostics) {
        let record = self.entity.conflicts.granularity == Granularity::Record;
        for unit in &self.entity.units {
            let (here, missing): (Vec<FieldId>, Vec<FieldId>) =
                unit.fields.iter().copied().partition(|id| self.mapping.fields.contains_key(id));
            // With the whole record as one group, what is derived follows from the rest.
            let missing: Vec<FieldId> =
                missing.into_iter().filter(|id| !record || self.entity.field(*id).derive.is_none()).collect();
            let Some(first) = here.first() else { continue };
            if missing.is_empty() {
                continue;
            }
            let names = list(missing.iter().map(|id| self.name(*id)));
            let store = &self.mapping.store;
            let message = if record {
                format!(
                    "with `granularity: record` a record is one group, and `{store}` has no place for {names}"
                )
            } else {
                format!("`{store}` has only a part of a group: no place for {names}")
            };
            out.push(
                Diagnostic::error(message)
                    .at(self.place(&["fields", self.name(*first)]))
                    .hint("map the whole group, or none of it"),
            );
        }
    }

    /// No two things stand in one column, nor one inside another's.
    fn columns(&self, stores: &Stores, mappings: &Mappings, out: &mut Diagnostics) {
        if self.mapping.embedded().is_some() {
            return;
        }
        let kind = stores.specs.get(&self.mapping.store).map(|spec| &spec.kind);
        let folds =
            matches!(kind, Some(StoreKind::Sqlite { .. })) || matches!(kind, Some(StoreKind::BigQuery(_)));
        let fold = |path: &[String]| -> Vec<String> {
            path.iter().map(|step| if folds { step.to_lowercase() } else { step.clone() }).collect()
        };
        let mut taken: Vec<(Vec<String>, String)> = Vec::new();
        let all = self.all_columns().into_iter().chain(self.embedded_columns(mappings));
        for (what, steps, path) in all {
            let path = fold(&path);
            let clash = taken.iter().find(|(other, _)| path.starts_with(other) || other.starts_with(&path));
            if let Some((_, other)) = clash {
                let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
                out.push(
                    Diagnostic::error(format!("{other} and {what} share the column `{}`", path.join(".")))
                        .at(self.place(&steps))
                        .hint("give each a column of its own"),
                );
            }
            taken.push((path, what));
        }
    }

    /// The columns that hold other entities' records.
    pub(super) fn embedded_columns(&self, mappings: &Mappings) -> Vec<(String, Vec<String>, Vec<String>)> {
        let mut all = Vec::new();
        for mapping in mappings.values().filter_map(|stores| stores.get(&self.mapping.store)) {
            let Some(embedded) = mapping.embedded().filter(|embedded| embedded.parent == self.entity.name)
            else {
                continue;
            };
            let child = mapping.entity.as_str();
            for (kind, place) in &embedded.places {
                let steps = ["embed", child, kind].map(str::to_owned).to_vec();
                all.push((format!("`{child}.{kind}`"), steps, place.column.0.clone()));
            }
        }
        all
    }

    /// Everything that has a column: what it is, where the manifest says so, and the column.
    pub(super) fn all_columns(&self) -> Vec<(String, Vec<String>, Vec<String>)> {
        let mut all = Vec::new();
        let steps = |steps: &[&str]| steps.iter().map(|step| (*step).to_owned()).collect::<Vec<String>>();
        for (part, mapped) in self.entity.key.iter().zip(&self.mapping.key) {
            let name = part.name.as_str();
            all.push((format!("`{name}`"), steps(&["key", name]), mapped.column.0.clone()));
        }
        for (id, mapped) in &self.mapping.fields {
            let name = self.name(*id);
            all.push((format!("`{name}`"), steps(&["fields", name]), mapped.column.0.clone()));
        }
        let clocks = [
            (&self.entity.times.created, &self.mapping.created),
            (&self.entity.times.updated, &self.mapping.updated),
        ];
        for (name, column) in clocks {
            if let (Some(name), Some(column)) = (name, column) {
                all.push((format!("`{name}`"), steps(&["fields", name.as_str()]), column.0.clone()));
            }
        }
        if let Some(column) = &self.mapping.key_text {
            all.push(("the key".to_owned(), steps(&["key"]), column.0.clone()));
        }
        match &self.mapping.sync {
            SyncPlace::None => {}
            SyncPlace::Struct(column) | SyncPlace::Json(column) | SyncPlace::JsonText(column) => {
                all.push(("the sync metadata".to_owned(), steps(&["sync"]), column.0.clone()));
            }
            place @ SyncPlace::Columns { .. } => {
                for (name, column) in SYNC_PARTS.into_iter().zip(place.columns()) {
                    if let Some(column) = column {
                        let what = format!("the sync metadata's `{name}`");
                        all.push((what, steps(&["sync", "columns", name]), column.0.clone()));
                    }
                }
            }
        }
        all
    }
}

/// The canonical store has every record, every field, and the sync metadata that settles conflicts.
fn canonical_place(
    docs: &Docs,
    entity: &Entity,
    canonical: &StoreName,
    mappings: &Mappings,
    out: &mut Diagnostics,
) {
    let Some(mapping) = mappings.get(&entity.name).and_then(|stores| stores.get(canonical)) else {
        let in_text = mapping_doc(docs, entity.name.as_str(), canonical.as_str()).is_some();
        if !in_text
            && !docs.any_broken("Mapping")
            && let Some(doc) = docs.entities.iter().find(|doc| doc.name == entity.name.as_str())
        {
            out.push(
                Diagnostic::error(format!(
                    "`{}` is not mapped in the canonical store `{canonical}`",
                    entity.name
                ))
                .at(doc.name_place())
                .hint(format!(
                    "add `{canonical}: {{table: …, fields: {{\"*\": same}}}}` to its Mapping's stores"
                )),
            );
        }
        return;
    };
    let Some(checker) = Checker::new(docs, entity, mapping) else { return };
    if mapping.scope.is_some() {
        out.push(
            Diagnostic::error("the canonical store holds every record, so it has no `where`")
                .at(checker.place(&["where"]))
                .hint("put the condition on the stores that hold only some"),
        );
    }
    let timeless = match &mapping.sync {
        SyncPlace::None => true,
        SyncPlace::Columns { version, last_updated, .. } => version.is_none() || last_updated.is_none(),
        _ => false,
    };
    if timeless {
        out.push(
            Diagnostic::error(format!(
                "`{}` has no place for its version and time in the canonical store `{canonical}`",
                entity.name
            ))
            .at(checker.place(&["sync"]))
            .hint("add `sync: {columns: same}`, or one of its other forms: conflicts are settled by version and time"),
        );
    }
    for id in entity.field_ids() {
        canonical_field(entity, id, mapping, mappings, &checker, out);
    }
}

fn canonical_field(
    entity: &Entity,
    id: FieldId,
    mapping: &Mapping,
    mappings: &Mappings,
    checker: &Checker<'_>,
    out: &mut Diagnostics,
) {
    let field = entity.field(id);
    let name = &field.name;
    let canonical = &mapping.store;
    if let Some(mapped) = mapping.fields.get(&id) {
        if !mapped.direction.reads() {
            out.push(
                Diagnostic::error(format!("`{name}` is never read from the canonical store"))
                    .at(checker.place(&["fields", name.as_str(), "direction"]))
                    .hint("the canonical store says what a record is: use `both` or `from-store`"),
            );
        }
        return;
    }
    let elsewhere: Vec<&str> = mappings
        .get(&entity.name)
        .into_iter()
        .flatten()
        .filter(|(_, other)| other.fields.contains_key(&id))
        .map(|(store, _)| store.as_str())
        .collect();
    let found = if field.required {
        Diagnostic::error(format!(
            "`{name}` is required, and has no place in the canonical store `{canonical}`"
        ))
    } else if field.derive.is_some() && elsewhere.is_empty() {
        return;
    } else if elsewhere.is_empty() {
        Diagnostic::warning(format!("`{name}` has no place in any store"))
    } else {
        Diagnostic::error(format!(
            "`{name}` is kept in {}, and has no place in the canonical store `{canonical}`",
            list(elsewhere)
        ))
    };
    out.push(
        found
            .at(checker.place(&["fields"]))
            .hint(format!("map it: `{name}: same`, or all fields by `\"*\": same`")),
    );
}

/// Where a table is, however it was written: the database, the schema, the name.
type TablePlace = (String, String, String);

/// Stores of one address are one database. What names no schema is in the store's own.
fn table_place(stores: &Stores, mapping: &Mapping, table: &TableName) -> TablePlace {
    let kind = stores.specs.get(&mapping.store).map(|spec| &spec.kind);
    let schema = |own: &str| table.schema.clone().unwrap_or_else(|| own.to_owned());
    match kind {
        Some(StoreKind::Sqlite { path }) => {
            let path = match path {
                Reference::Plain(path) => {
                    let steps = Path::new(path).components().filter(|step| *step != Component::CurDir);
                    steps.collect::<PathBuf>().display().to_string()
                }
                other => format!("{other:?}"),
            };
            (path, schema("main").to_lowercase(), table.name.to_lowercase())
        }
        Some(StoreKind::Postgres { url, schema: own }) => {
            (format!("{url:?}"), schema(own.as_deref().unwrap_or("public")), table.name.clone())
        }
        Some(StoreKind::BigQuery(spec)) => {
            let own = match &spec.dataset {
                Reference::Plain(name) => name.clone(),
                other => format!("{other:?}"),
            };
            (format!("{:?} {:?}", spec.project, spec.emulator), schema(&own), table.name.clone())
        }
        Some(StoreKind::Memory { .. } | StoreKind::Twenty { .. }) | None => {
            (mapping.store.to_string(), schema(""), table.name.clone())
        }
    }
}

/// Two entities in one table would each see the other's rows as records of its own, and two stores in one table each other's writes as
/// edits.
fn shared_tables(docs: &Docs, stores: &Stores, mappings: &Mappings, out: &mut Diagnostics) {
    let mut taken: BTreeMap<TablePlace, &Mapping> = BTreeMap::new();
    for mapping in mappings.values().flat_map(BTreeMap::values) {
        let table = match &mapping.shape {
            Shape::Table(table) => table.clone(),
            Shape::Object(object) => TableName { schema: None, name: object.clone() },
            Shape::Embedded(_) => continue,
        };
        let place = table_place(stores, mapping, &table);
        let own = |name: &str| {
            place == table_place(stores, mapping, &TableName { schema: None, name: name.to_owned() })
        };
        let is_system = SYSTEM_TABLES.into_iter().any(own);
        let other = taken.insert(place, mapping);
        let Some(doc) = mapping_doc(docs, mapping.entity.as_str(), mapping.store.as_str()) else { continue };
        let at = doc.key_place(&["stores", mapping.store.as_str()]);
        if is_system {
            out.push(
                Diagnostic::error(format!("`{table}` is a table of trueup's own"))
                    .at(at.clone())
                    .hint("map the entity to another table"),
            );
        }
        let Some(other) = other else { continue };
        out.push(if other.store == mapping.store {
            let (one, two) = (&other.entity, &mapping.entity);
            Diagnostic::error(format!("`{one}` and `{two}` are both mapped to `{table}`"))
                .at(at)
                .hint("each entity has a table of its own")
        } else {
            let (one, two) = (&other.store, &mapping.store);
            Diagnostic::error(format!(
                "`{table}` in `{two}` is the table that `{}` has in `{one}`",
                other.entity
            ))
            .at(at)
            .hint("both stores have the same address: give each its own, or leave one of them out")
        });
    }
}

fn idle_stores(docs: &Docs, stores: &Stores, mappings: &Mappings, out: &mut Diagnostics) {
    for doc in &docs.stores {
        let used =
            mappings.values().any(|of_entity| of_entity.keys().any(|store| store.as_str() == doc.name));
        let named = docs.mappings.iter().any(|mapping| mapping.body.stores.get(&doc.name).is_some());
        let canonical = stores.canonical.as_ref().is_some_and(|canonical| canonical.as_str() == doc.name);
        if !used && !named && !canonical && !docs.any_broken("Mapping") {
            out.push(
                Diagnostic::warning(format!("no entity is mapped in the store `{}`", doc.name))
                    .at(doc.name_place()),
            );
        }
    }
}
