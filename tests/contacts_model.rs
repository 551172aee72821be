//! The shipped model of contacts: every field of the architecture that it was made for has a place in every store, and further
//! entities need YAML alone.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;
mod shipped;

use std::collections::BTreeMap;

use shell::Place;
use trueup::model::{
    Check, Column, Entity, EntityName, FieldName, FieldType, Form, Severity, StoreName, SyncPlace,
};
use trueup::spec::Spec;

/// The interfaces, field by field. `a.b` is a field inside a JSON value, or a part of the sync metadata.
const CONTACT: &str = "
    contact_id canonical_name name_normalized
    first_name last_name middle_name nickname name_suffix title full_name
    organization job_title department is_business
    category_code subcategory_code relationship_category
    llm_context llm_context.relationship_arc llm_context.communication_style llm_context.key_interests
    llm_context.personality_notes llm_context.important_dates llm_context.conversation_topics llm_context.emotional_depth
    llm_context.closeness_level llm_context.how_met llm_context.current_state llm_context.blind_spots llm_context.strengths
    llm_context.tensions
    communication_stats communication_stats.total_messages communication_stats.messages_per_year
    communication_stats.last_contact_date communication_stats.avg_response_time_hours communication_stats.you_initiate_pct
    communication_stats.relationship_health
    social_network social_network.groups social_network.also_knows social_network.introduced_you_to
    ai_insights ai_insights.mentioned_in_conversations ai_insights.primary_topics ai_insights.sentiment_when_discussed
    ai_insights.user_concerns
    recommendations recommendations.contact_cadence recommendations.conversation_topics recommendations.boundary_notes
    notes birthday is_me
    sync_metadata.last_updated sync_metadata.last_updated_by sync_metadata.version sync_metadata.sync_status
    sync_metadata.source_systems sync_metadata.sync_errors
    created_at updated_at first_seen last_seen";
const CONTACT_IDENTIFIER: &str = "
    identifier_id contact_id identifier_type identifier_value identifier_normalized
    source_platform source_label country_code area_code local_number email_domain
    social_service social_username social_url
    is_primary is_private is_verified confidence verification_status
    sync_metadata.last_updated sync_metadata.last_updated_by sync_metadata.version
    created_at updated_at first_seen last_seen";
const BUSINESS: &str = "
    business_id name name_normalized kind parent_business_id website email phone address description notes llm_context metadata
    sync_metadata.last_updated sync_metadata.last_updated_by sync_metadata.version
    created_at updated_at";
const PERSON_BUSINESS: &str = "
    contact_id business_id role start_date end_date is_primary
    sync_metadata.last_updated sync_metadata.last_updated_by sync_metadata.version
    created_at updated_at";
const INTERFACES: [(&str, &str); 4] = [
    ("contacts", CONTACT),
    ("contact_identifiers", CONTACT_IDENTIFIER),
    ("businesses", BUSINESS),
    ("people_businesses", PERSON_BUSINESS),
];

/// What of an interface the model lacks, as `entity.field` or `entity.field in store`.
fn lacking(spec: &Spec, files: &BTreeMap<String, String>) -> Vec<String> {
    let mut lacking = Vec::new();
    for (name, fields) in INTERFACES {
        let Some(entity) = spec.entity(&EntityName::new(name).unwrap()) else {
            lacking.push(name.to_owned());
            continue;
        };
        for field in fields.split_whitespace() {
            if !is_field(entity, field, files) {
                lacking.push(format!("{name}.{field}"));
            }
            for store in shipped::STORES {
                if !has_place(spec, entity, field, store) {
                    lacking.push(format!("{name}.{field} in {store}"));
                }
            }
        }
    }
    lacking
}

fn is_field(entity: &Entity, field: &str, files: &BTreeMap<String, String>) -> bool {
    let clocks = [&entity.times.created, &entity.times.updated];
    match field.split_once('.') {
        Some(("sync_metadata", _)) => true,
        None => {
            entity.resolve(field).is_some()
                || clocks.into_iter().flatten().any(|clock| clock.as_str() == field)
        }
        Some((column, inner)) => {
            let id = entity.field_id(&FieldName::new(column).unwrap());
            let checks = id.map(|id| entity.field(id).checks.as_slice()).unwrap_or_default();
            checks.iter().any(|check| {
                let Check::JsonSchema { file, .. } = check else { return false };
                let schema: serde_json::Value = serde_json::from_str(&files[file]).unwrap();
                schema["properties"].get(inner).is_some()
            })
        }
    }
}

fn has_place(spec: &Spec, entity: &Entity, field: &str, store: &str) -> bool {
    let Some(mapping) = spec.mapping(&entity.name, &StoreName::new(store).unwrap()) else { return false };
    if let Some(part) = field.strip_prefix("sync_metadata.") {
        return match &mapping.sync {
            SyncPlace::None => false,
            SyncPlace::Struct(_) | SyncPlace::Json(_) | SyncPlace::JsonText(_) => true,
            SyncPlace::Columns {
                version,
                last_updated,
                last_updated_by,
                sync_status,
                source_systems,
                sync_errors,
            } => {
                let parts = [
                    ("version", version),
                    ("last_updated", last_updated),
                    ("last_updated_by", last_updated_by),
                    ("sync_status", sync_status),
                    ("source_systems", source_systems),
                    ("sync_errors", sync_errors),
                ];
                parts.into_iter().any(|(name, column)| name == part && column.is_some())
            }
        };
    }
    let head = field.split('.').next().unwrap();
    let is = |name: &Option<FieldName>| name.as_ref().is_some_and(|name| name.as_str() == head);
    match entity.resolve(head) {
        Some(trueup::model::FieldRef::Key(part)) => mapping.key.len() > part,
        Some(trueup::model::FieldRef::Field(id)) => mapping.fields.contains_key(&id),
        None if is(&entity.times.created) => mapping.created.is_some(),
        None => is(&entity.times.updated) && mapping.updated.is_some(),
    }
}

#[test]
fn every_field_of_the_interfaces_has_a_place_in_every_store() {
    assert_eq!(lacking(&shipped::spec(), &shipped::four_stores()), [""; 0]);
}

/// The test above can fail: whatever is taken out is named.
#[test]
fn a_field_or_mapping_that_is_taken_out_is_named() {
    for (file, from, to, named) in [
        ("contacts.yaml", "    nickname: string\n", "", "contacts.nickname"),
        (
            "contacts.yaml",
            "local_sqlite: {table: contacts_master, fields: {\"*\": same}",
            "local_sqlite: {table: contacts_master, fields: {\"*\": same, title: none}",
            "contacts.title in local_sqlite",
        ),
        (
            "contacts.yaml",
            "sync: {json: sync_metadata}",
            "sync: {columns: {version: v, last_updated: t, last_updated_by: b, source_systems: s, sync_errors: e}}",
            "contacts.sync_metadata.sync_status in supabase",
        ),
        ("llm_context.schema.json", "\"blind_spots\"", "\"spots\"", "contacts.llm_context.blind_spots"),
        (
            "people_businesses.yaml",
            "fields: {\"*\": same}, sync: {columns: same}",
            "fields: {\"*\": same, updated_at: none}, sync: {columns: same}",
            "people_businesses.updated_at in local_sqlite",
        ),
    ] {
        let mut files = shipped::four_stores();
        let text = files.get_mut(file).unwrap();
        assert!(text.contains(from), "{from}");
        *text = text.replacen(from, to, 1);
        let spec = shipped::compiled(&files).unwrap_or_else(|found| panic!("{found:#?}"));
        let lacking = lacking(&spec, &files);
        assert!(lacking.contains(&named.to_owned()), "{named}: {lacking:?}");
    }
}

/// As shipped, with nothing replaced.
#[test]
fn the_shipped_manifests_are_valid() {
    let (spec, warnings) =
        trueup::cli::load::load(&shipped::folder()).unwrap_or_else(|error| panic!("{error}"));
    assert!(warnings.iter().all(|found| found.severity != Severity::Error));
    assert!(INTERFACES.iter().all(|(name, _)| spec.entity(&EntityName::new(name).unwrap()).is_some()));
    let place = Place::new();
    let page = place.run(&["validate", "-f", &shipped::folder().display().to_string()], 0);
    assert!(page.contains("Success!"), "{page}");
}

#[test]
fn secrets_and_addresses_come_from_the_environment() {
    let stores = &shipped::files()["stores.yaml"];
    for word in ["project:", "url:", "path:"] {
        for line in stores.lines().filter(|line| line.contains(word) && !line.trim_start().starts_with('#')) {
            assert!(line.contains("\"${env:TRUEUP_"), "{line}");
        }
    }
}

/// The types that the architecture names: integers as ids in the warehouse, texts elsewhere; JSON natively; STRUCT, JSONB and
/// columns for sync metadata; the columns that are there already for the times of sightings.
#[test]
fn each_store_has_its_own_types() {
    let spec = shipped::spec();
    let contacts = spec.entity(&EntityName::new("contacts").unwrap()).unwrap();
    for store in shipped::STORES {
        let name = StoreName::new(store).unwrap();
        let id_form = if store == "bigquery" { Form::Int64 } else { Form::Native };
        let mapping = spec.mapping(&contacts.name, &name).unwrap();
        assert_eq!(mapping.key[0].form, id_form, "{store}");
        let identifiers = EntityName::new("contact_identifiers").unwrap();
        let of = spec.entity(&identifiers).unwrap().field_id(&FieldName::new("contact_id").unwrap()).unwrap();
        assert_eq!(spec.mapping(&identifiers, &name).unwrap().fields[&of].form, id_form, "{store}");
        for field in
            ["llm_context", "communication_stats", "social_network", "ai_insights", "recommendations"]
        {
            let id = contacts.field_id(&FieldName::new(field).unwrap()).unwrap();
            assert_eq!((contacts.field(id).ty, mapping.fields[&id].form), (FieldType::Json, Form::Native));
        }
        let seen = |field: &str| {
            let id = contacts.field_id(&FieldName::new(field).unwrap()).unwrap();
            mapping.fields[&id].column.clone()
        };
        let there = matches!(store, "bigquery" | "supabase");
        let named =
            |field: &str| if there { format!("{field}_in_primitive_engine") } else { field.to_owned() };
        for field in ["first_seen", "last_seen"] {
            assert_eq!(seen(field), Column::plain(named(field)), "{store}");
        }
        let whole = Column::plain("sync_metadata");
        match store {
            "bigquery" => assert_eq!(mapping.sync, SyncPlace::Struct(whole)),
            "supabase" => assert_eq!(mapping.sync, SyncPlace::Json(whole)),
            _ => assert!(matches!(mapping.sync, SyncPlace::Columns { .. })),
        }
    }
}

#[test]
fn json_schemas_hold_the_scales_and_take_unknown_keys() {
    let files = shipped::files();
    for name in ["llm_context", "communication_stats", "social_network", "ai_insights", "recommendations"] {
        let schema: serde_json::Value = serde_json::from_str(&files[&format!("{name}.schema.json")]).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        assert!(validator.is_valid(&serde_json::json!({"some_other_key": [1, {"x": null}]})), "{name}");
        assert!(!validator.is_valid(&serde_json::json!([])), "{name}");
    }
    let schema: serde_json::Value = serde_json::from_str(&files["llm_context.schema.json"]).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    for scale in ["emotional_depth", "closeness_level"] {
        for (value, valid) in [(0, false), (1, true), (10, true), (11, false)] {
            assert_eq!(validator.is_valid(&serde_json::json!({ scale: value })), valid, "{scale} {value}");
        }
    }
    let dates = serde_json::json!({"important_dates": [{"date": "2020-05-17", "event": "met", "significance": "first"}]});
    assert!(validator.is_valid(&dates));
}

/// A folder with the shipped manifests on SQLite files, and one entity more.
#[test]
fn an_entity_of_three_fields_needs_yaml_alone() {
    let place = Place::with("");
    std::fs::remove_file(place.path().join("manifests/all.yaml")).unwrap();
    let mut files = shipped::with_stores(&[
        ("bigquery", "sqlite: {path: ../stores/warehouse.db}"),
        ("local_sqlite", "sqlite: {path: ../stores/local.db}"),
    ]);
    files.insert("pets.yaml".into(), PETS.into());
    for (name, text) in files {
        std::fs::write(place.path().join("manifests").join(name), text).unwrap();
    }
    place.run(&["validate"], 0);
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql(
        "warehouse",
        "INSERT INTO contacts_master (contact_id, canonical_name) VALUES (7, 'Ann Example');
         INSERT INTO pets (pet_id, name, species, contact_id) VALUES ('p1', 'Fido', 'dog', 7);",
    );
    place.sql(
        "local",
        "INSERT INTO pets (pet_id, name, species, contact_id) VALUES ('p2', 'Tom', 'cat', '7');",
    );
    let page = place.run(&["apply", "-auto-approve"], 0);
    assert!(page.contains("Apply complete! Records: 3 added"), "{page}");
    assert!(place.run(&["plan", "-detailed-exitcode"], 0).contains("No changes."));
    let all = "SELECT group_concat(name || ' ' || species || ' ' || contact_id, ', ') FROM (SELECT * FROM pets ORDER BY pet_id)";
    assert_eq!(place.text("warehouse", all), "Fido dog 7, Tom cat 7");
    assert_eq!(place.text("local", all), "Fido dog 7, Tom cat 7");
    place.sql("local", "UPDATE pets SET species = 'hound' WHERE pet_id = 'p1'");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("warehouse", "SELECT species FROM pets WHERE pet_id = 'p1'"), "hound");
    place.sql("local", "UPDATE pets SET species = 'lizard' WHERE pet_id = 'p1'");
    let page = place.run(&["plan"], 0);
    assert!(page.contains("species in local_sqlite breaks the rule `enum`"), "{page}");
}

const PETS: &str = r#"
apiVersion: trueup/v1
kind: Entity
metadata: {name: pets}
spec:
  key: {pet_id: string}
  fields:
    name: {type: string, required: true}
    species: {enum: [dog, hound, cat]}
    contact_id: {type: string, references: contacts, on_delete: cascade}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: pets}
spec:
  entity: pets
  stores:
    bigquery: {table: pets, fields: {"*": same, contact_id: {form: int64}}, sync: {json: sync_metadata}}
    local_sqlite: {table: pets, fields: {"*": same}, sync: {columns: same}}
"#;
