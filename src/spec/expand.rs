//! What the short forms mean: the manifests written out in long forms with every default shown, and the hash of that meaning.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use super::compile::Docs;
use super::raw::{
    AlertsBody, BreakerBody, ConditionBody, ConditionEntry, ConflictsBody, ControllerBody,
    ControllerDocument, EmbedBody, EmbedEntry, EntityBody, EntityDocument, FieldBody, FieldEntry, GuardsBody,
    HttpBody, JunctionBody, JunctionEntry, KeyBody, KeyEntry, KeyPlaces, Limits, Literal, MappingBody,
    MappingDocument, OneOrMore, OptionalLiteral, Ordered, Place, PlaceBody, PostgresState, RangeBody,
    RangeEntry, ReferenceBody, ReferenceEntry, Size, StateBody, StoreDocument, StoreMapping, SyncBody,
    SyncColumns, SyncColumnsBody, TimesBody,
};
use super::words::{duration_text, ratio_text, size_bytes};
use super::{ControllerSpec, Reference, Spec, StateSpec};
use crate::model::{
    Check, Column, Condition, DeriveFn, Direction, Entity, FieldRef, FieldType, Form, Mapping, MatchTerm,
    Shape, SyncPlace, Value, hex,
};

/// A document of any kind, in its long form.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Document {
    Store(StoreDocument),
    Entity(Box<EntityDocument>),
    Mapping(MappingDocument),
    Controller(ControllerDocument),
}

/// Everything the manifests mean, a document each.
pub(super) fn documents(spec: &Spec, docs: &Docs) -> Vec<Document> {
    let stores = docs.stores.iter().map(|doc| {
        let mut body = doc.body.clone();
        body.limits = body.limits.map(limits);
        Document::Store(StoreDocument::new(&doc.name, body))
    });
    let entities = spec.entities.iter().map(|entity| {
        let doc = docs.entities.iter().find(|doc| doc.name == entity.name.as_str());
        let groups = doc.map(|doc| doc.body.groups.clone()).unwrap_or_default();
        let description = doc.and_then(|doc| doc.body.description.clone());
        let body = EntityBody { groups, description, ..entity_body(entity, docs) };
        Document::Entity(Box::new(EntityDocument::new(entity.name.as_str(), body)))
    });
    let mappings = spec.entities.iter().filter_map(|entity| {
        let stores = spec.mappings.get(&entity.name)?;
        // What stands inside another entity's objects is told there.
        let told = stores.iter().filter(|(_, mapping)| mapping.embedded().is_none() || says_more(mapping));
        let stores = told.map(|(store, mapping)| (store.to_string(), mapping_body(spec, entity, mapping)));
        let body = MappingBody { entity: entity.name.to_string(), stores: Ordered(stores.collect()) };
        Some(Document::Mapping(MappingDocument::new(entity.name.as_str(), body)))
    });
    let doc = docs.controllers.first();
    let name = doc.map_or("controller", |doc| doc.name.as_str());
    let body = ControllerBody {
        triggers: doc.and_then(|doc| doc.body.triggers.clone()),
        ..controller_body(&spec.controller)
    };
    let controller = Document::Controller(ControllerDocument::new(name, body));
    stores.chain(entities).chain(mappings).chain([controller]).collect()
}

/// The documents as YAML.
pub(super) fn text(documents: &[Document]) -> String {
    let texts: Vec<String> =
        documents.iter().map(|document| serde_yaml::to_string(document).unwrap_or_default()).collect();
    texts.join("---\n")
}

/// A hash over the meaning: it does not change with comments, the order of fields and documents, or what is said in words.
pub(super) fn sha(documents: &[Document], spec: &Spec, side_files: &BTreeMap<String, String>) -> String {
    let mut meanings: Vec<String> = documents.iter().map(meaning).collect();
    for check in spec.entities.iter().flat_map(|entity| &entity.fields).flat_map(|field| &field.checks) {
        if let Check::JsonSchema { file, .. } = check {
            let schema: Json = side_files
                .get(file)
                .and_then(|text| serde_json::from_str(text.trim_start_matches('\u{feff}')).ok())
                .unwrap_or_default();
            let mut written = format!("schema {}: ", Json::from(file.as_str()));
            write_sorted(&schema, "", &mut written);
            meanings.push(written);
        }
    }
    meanings.sort();
    meanings.dedup();
    hex(&Sha256::digest(meanings.join("\n").as_bytes()))
}

fn meaning(document: &Document) -> String {
    let mut json = serde_json::to_value(document).unwrap_or_default();
    match document {
        Document::Entity(entity) => {
            // The order of a composite key's parts means something, and a map would lose it.
            let order: Vec<&str> = entity.spec.key.names().collect();
            json["spec"]["key_order"] = order.into();
        }
        // There is one, whatever it is called.
        Document::Controller(_) => json["metadata"] = Json::Null,
        Document::Store(_) | Document::Mapping(_) => {}
    }
    let mut text = String::new();
    write_sorted(&json, "", &mut text);
    text
}

/// JSON with sorted keys, without descriptions, and with the lists sorted whose order means nothing.
fn write_sorted(json: &Json, name: &str, text: &mut String) {
    match json {
        Json::Object(object) => {
            let sorted: BTreeMap<&String, &Json> = object.iter().collect();
            text.push('{');
            for (key, value) in sorted {
                if key == "description" && value.is_string() {
                    continue;
                }
                text.push_str(&Json::from(key.as_str()).to_string());
                text.push(':');
                write_sorted(value, key, text);
                text.push(',');
            }
            text.push('}');
        }
        Json::Array(items) => {
            let mut written: Vec<String> = items
                .iter()
                .map(|item| {
                    let mut text = String::new();
                    // The terms of one rule, and the fields of one group, have no order; the rules have.
                    write_sorted(
                        item,
                        if matches!(name, "groups" | "match") { "set" } else { "" },
                        &mut text,
                    );
                    text
                })
                .collect();
            if matches!(name, "set" | "groups" | "enum" | "in" | "not" | "webhooks" | "notify" | "files") {
                written.sort();
                written.dedup();
            }
            text.push('[');
            text.push_str(&written.join(","));
            text.push(']');
        }
        scalar => text.push_str(&scalar.to_string()),
    }
}

fn limits(limits: Limits) -> Limits {
    let bytes = limits.max_bytes_per_pass.map(|size| match size {
        Size::Bytes(bytes) => Size::Bytes(bytes),
        Size::Text(text) => size_bytes(&text).map_or(Size::Text(text), Size::Bytes),
    });
    Limits { max_bytes_per_pass: bytes, ..limits }
}

fn entity_body(entity: &Entity, docs: &Docs) -> EntityBody {
    let described = |name: &str| {
        let doc = docs.entities.iter().find(|doc| doc.name == entity.name.as_str())?;
        if let Some(KeyEntry::Long(body)) = doc.body.key.get(name) { body.description.clone() } else { None }
    };
    let key = entity.key.iter().enumerate().map(|(at, part)| {
        let body = KeyBody {
            ty: part.ty,
            references: reference(entity, FieldRef::Key(at)),
            on_delete: None,
            description: described(part.name.as_str()),
        };
        (part.name.to_string(), KeyEntry::Long(body))
    });
    let fields = entity.field_ids().map(|id| {
        let body = field_body(entity, FieldRef::Field(id), entity.field(id));
        (entity.field(id).name.to_string(), FieldEntry::Long(Box::new(body)))
    });
    let rules =
        entity.match_rules.iter().map(|rule| rule.iter().map(|term| match_term(entity, term)).collect());
    let tolerance = u64::try_from(entity.conflicts.clock_tolerance_micros).unwrap_or(0) / 1000;
    EntityBody {
        key: Ordered(key.collect()),
        fields: Ordered(fields.collect()),
        groups: Vec::new(),
        times: TimesBody {
            created: entity.times.created.as_ref().map(ToString::to_string),
            updated: entity.times.updated.as_ref().map(ToString::to_string),
        },
        match_rules: rules.collect(),
        conflicts: ConflictsBody {
            granularity: entity.conflicts.granularity,
            clock_tolerance: Some(duration_text(tolerance)),
            adopt: entity.conflicts.adopt,
        },
        deletes: entity.deletes,
        default_region: entity.default_region.clone(),
        description: None,
    }
}

fn field_body(entity: &Entity, at: FieldRef, field: &crate::model::Field) -> FieldBody {
    let mut body = FieldBody {
        ty: Some(field.ty),
        required: field.required,
        unique: field.unique,
        sensitive: field.sensitive,
        references: reference(entity, at),
        description: field.description.clone(),
        ..FieldBody::default()
    };
    for check in &field.checks {
        match check {
            Check::Enum(words) => body.one_of = Some(words.iter().cloned().collect()),
            Check::Pattern(pattern) => body.pattern = Some(pattern.clone()),
            Check::Range(range) => {
                let literal = |value: &Option<Value>| value.as_ref().map(literal);
                let bounds = RangeBody { min: literal(&range.min), max: literal(&range.max) };
                body.range = Some(RangeEntry::Bounds(bounds));
            }
            Check::JsonSchema { file, .. } => body.schema = Some(file.clone()),
        }
    }
    if let Some(derive) = &field.derive {
        let function = DeriveFn::ALL.iter().find(|(_, function, ..)| *function == derive.function);
        let function = function.map_or("", |(name, ..)| *name);
        let args: Vec<&str> = derive.args.iter().map(|arg| name_of(entity, *arg)).collect();
        body.derive = Some(format!("{function}({})", args.join(", ")));
        body.recompute = Some(derive.recompute);
    }
    body
}

fn literal(value: &Value) -> Literal {
    match value {
        Value::Int(number) => Literal::Int(*number),
        Value::Bool(flag) => Literal::Bool(*flag),
        other => Literal::Text(other.plain_text().unwrap_or_default().into_owned()),
    }
}

fn name_of(entity: &Entity, field: FieldRef) -> &str {
    match field {
        FieldRef::Key(part) => entity.key.get(part).map_or("", |part| part.name.as_str()),
        FieldRef::Field(id) => entity.field(id).name.as_str(),
    }
}

fn reference(entity: &Entity, from: FieldRef) -> Option<ReferenceEntry> {
    let reference = entity.references.iter().find(|reference| reference.from == from)?;
    Some(ReferenceEntry::Long(ReferenceBody {
        entity: reference.to.to_string(),
        on_delete: Some(reference.on_delete),
    }))
}

fn match_term(entity: &Entity, term: &MatchTerm) -> String {
    match term {
        MatchTerm::Own(field) => name_of(entity, *field).to_owned(),
        MatchTerm::Child { entity, kind } => format!("{entity}.{kind}"),
    }
}

/// Whether an entity inside another one's objects has a condition of its own, besides the kinds that have a place.
fn says_more(mapping: &Mapping) -> bool {
    mapping.scope.as_ref().is_some_and(|scope| scope.conditions.len() > 1)
}

fn mapping_body(spec: &Spec, entity: &Entity, mapping: &Mapping) -> StoreMapping {
    let scope = mapping.scope.as_ref();
    let conditions = scope.map(|scope| scope.conditions.as_slice()).unwrap_or_default().iter();
    let (table, object) = match &mapping.shape {
        Shape::Table(table) => (Some(table.to_string()), None),
        Shape::Object(object) => (None, Some(object.clone())),
        Shape::Embedded(_) => {
            let own = conditions.skip(1).map(|condition| condition_entry(entity, condition));
            return StoreMapping {
                scope: Ordered(own.collect()),
                leave: scope.map(|scope| scope.exit),
                ..StoreMapping::default()
            };
        }
    };
    let parts = entity.key.iter().zip(&mapping.key);
    let key = parts.clone().filter(|(_, place)| place.relation.is_none()).map(|(part, place)| {
        (part.name.to_string(), Place::Long(place_body(&place.column, Some(place.form), None)))
    });
    let key = match &mapping.key_text {
        Some(column) => KeyPlaces::One(column.to_string()),
        None => KeyPlaces::Parts(Ordered(key.collect())),
    };
    let junction = parts.filter(|(_, place)| place.relation.is_some()).map(|(part, place)| {
        let relation = place.column.head().to_owned();
        (part.name.to_string(), JunctionEntry::Long(JunctionBody { relation, object: None }))
    });
    let fields = mapping.fields.values().map(|place| {
        let body = match &place.relation {
            None => place_body(&place.column, Some(place.form), Some(place.direction)),
            Some(_) => PlaceBody {
                relation: Some(place.column.head().to_owned()),
                direction: Some(place.direction),
                ..PlaceBody::default()
            },
        };
        (entity.field(place.field).name.to_string(), Place::Long(body))
    });
    let clocks = [(&entity.times.created, &mapping.created), (&entity.times.updated, &mapping.updated)];
    let clocks = clocks.into_iter().filter_map(|(name, column)| {
        let body = place_body(column.as_ref()?, None, None);
        Some((name.as_ref()?.to_string(), Place::Long(body)))
    });
    StoreMapping {
        table,
        object,
        key: Some(key),
        fields: Ordered(fields.chain(clocks).collect()),
        sync: sync_body(&mapping.sync)
            .map(|body| SyncBody { triggers: mapping.triggers.then_some(true), ..body }),
        scope: Ordered(conditions.map(|condition| condition_entry(entity, condition)).collect()),
        leave: scope.map(|scope| scope.exit),
        timezone: Some(mapping.timezone.iana_name().unwrap_or("UTC").to_owned()),
        embed: Ordered(embeds(spec, mapping)),
        junction: Ordered(junction.collect()),
    }
}

/// The entities that stand inside this one's objects.
fn embeds(spec: &Spec, mapping: &Mapping) -> Vec<(String, Ordered<EmbedEntry>)> {
    let mut all = Vec::new();
    for child in &spec.entities {
        let Some(own) = spec.mapping(&child.name, &mapping.store) else { continue };
        let Some(embedded) = own.embedded().filter(|embedded| embedded.parent == mapping.entity) else {
            continue;
        };
        let places = embedded.places.iter().map(|(kind, place)| {
            let body = EmbedBody {
                path: place.column.to_string(),
                region: place.region.clone(),
                primary: place.primary.map(|field| child.field(field).name.to_string()),
            };
            (kind.clone(), EmbedEntry::Long(body))
        });
        all.push((child.name.to_string(), Ordered(places.collect())));
    }
    all
}

fn place_body(column: &Column, form: Option<Form>, direction: Option<Direction>) -> PlaceBody {
    let (column, path) = if column.0.len() == 1 {
        (Some(column.head().to_owned()), None)
    } else {
        (None, Some(column.to_string()))
    };
    PlaceBody { column, path, relation: None, form, direction }
}

fn sync_body(sync: &SyncPlace) -> Option<SyncBody> {
    Some(match sync {
        SyncPlace::None => return None,
        SyncPlace::Struct(column) => SyncBody { structure: Some(column.to_string()), ..SyncBody::default() },
        SyncPlace::Json(column) => SyncBody { json: Some(column.to_string()), ..SyncBody::default() },
        SyncPlace::JsonText(column) => {
            SyncBody { json_text: Some(column.to_string()), ..SyncBody::default() }
        }
        place @ SyncPlace::Columns { .. } => {
            let text = |column: Option<&Column>| column.map(ToString::to_string);
            let [version, last_updated, last_updated_by, sync_status, source_systems, sync_errors] =
                place.columns().map(text);
            let each = SyncColumnsBody {
                version,
                last_updated,
                last_updated_by,
                sync_status,
                source_systems,
                sync_errors,
            };
            SyncBody { columns: Some(SyncColumns::Each(Box::new(each))), ..SyncBody::default() }
        }
    })
}

fn condition_entry(entity: &Entity, condition: &Condition) -> (String, ConditionEntry) {
    let ty = match condition.field {
        FieldRef::Key(part) => entity.key.get(part).map_or(FieldType::String, |part| part.ty),
        FieldRef::Field(id) => entity.field(id).ty,
    };
    let values: Vec<OptionalLiteral> =
        condition.values.iter().map(|value| optional(ty, value.as_deref())).collect();
    let body = if condition.negated {
        ConditionBody { any_of: None, not: Some(OneOrMore::Many(values)) }
    } else {
        ConditionBody { any_of: Some(values), not: None }
    };
    (name_of(entity, condition.field).to_owned(), ConditionEntry::Test(body))
}

/// A condition's value as its type is written: its text is that of a displayed value, with dates and times in quotes.
fn optional(ty: FieldType, text: Option<&str>) -> OptionalLiteral {
    let Some(text) = text else { return OptionalLiteral::Null };
    match ty {
        FieldType::Bool => OptionalLiteral::Bool(text == "true"),
        FieldType::Int64 => {
            text.parse().map_or_else(|_| OptionalLiteral::Text(text.to_owned()), OptionalLiteral::Int)
        }
        FieldType::String => OptionalLiteral::Text(text.to_owned()),
        _ => OptionalLiteral::Text(text.trim_matches('"').to_owned()),
    }
}

fn controller_body(controller: &ControllerSpec) -> ControllerBody {
    ControllerBody {
        interval: Some(duration_text(controller.interval_ms)),
        deep_check_interval: Some(duration_text(controller.deep_check_interval_ms)),
        guards: GuardsBody {
            max_deletes: Some(ratio_text(controller.guards.max_delete_ratio)),
            max_updates: Some(ratio_text(controller.guards.max_update_ratio)),
            min_records: Some(controller.guards.min_records),
        },
        retention: Some(duration_text(controller.retention_ms)),
        state: state_body(&controller.state),
        http: HttpBody {
            address: Some(controller.http_address.to_string()),
            token: controller.http_token.as_ref().map(reference_text),
        },
        breaker: Some(BreakerBody {
            writes: Some(controller.breaker.writes),
            window: Some(duration_text(controller.breaker.window_ms)),
        }),
        lease: Some(duration_text(controller.lease_ms)),
        alerts: AlertsBody {
            drift: Some(ratio_text(controller.drift_alert_ratio)),
            latency: Some(duration_text(controller.latency_alert_ms)),
        },
        triggers: None,
    }
}

fn state_body(state: &StateSpec) -> StateBody {
    match state {
        StateSpec::Sqlite(path) => {
            StateBody { sqlite: Some(path.to_string_lossy().into_owned()), postgres: None }
        }
        StateSpec::Postgres { url, schema } => StateBody {
            sqlite: None,
            postgres: Some(PostgresState { url: reference_text(url), schema: Some(schema.clone()) }),
        },
    }
}

fn reference_text(reference: &Reference) -> String {
    match reference {
        Reference::Plain(text) => text.clone(),
        Reference::Env(name) => format!("${{env:{name}}}"),
        Reference::File(path) => format!("${{file:{}}}", path.display()),
    }
}
