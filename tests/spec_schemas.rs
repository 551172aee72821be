//! The JSON Schemas in `schemas/` are those that the types generate, and they say of manifests what compiling says.

#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::path::Path;

use trueup::spec::schemas;

#[test]
fn the_committed_schemas_are_current() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    for (file, text) in schemas() {
        if std::env::var_os("TRUEUP_WRITE_SCHEMAS").is_some() {
            std::fs::write(folder.join(file), &text).unwrap();
        }
        let committed = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        assert!(
            committed == text,
            "schemas/{file} is stale: run `cargo run -- schema` and commit what it writes"
        );
    }
    let known = schemas();
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(
            !name.ends_with(".schema.json") || known.contains_key(name.as_str()),
            "schemas/{name} is nobody's"
        );
    }
}

#[test]
fn every_field_is_explained() {
    fn walk(value: &serde_json::Value, path: &str, silent: &mut Vec<String>) {
        match value {
            serde_json::Value::Object(object) => {
                if let Some(serde_json::Value::Object(properties)) = object.get("properties") {
                    for (name, property) in properties {
                        if property.get("description").is_none() {
                            silent.push(format!("{path}/{name}"));
                        }
                    }
                }
                for (key, inner) in object {
                    walk(inner, &format!("{path}/{key}"), silent);
                }
            }
            serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, path, silent)),
            _ => {}
        }
    }
    for (file, text) in schemas() {
        let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(text.ends_with("}\n"));
        let mut silent = Vec::new();
        walk(&schema, file, &mut silent);
        assert!(silent.is_empty(), "editors would show nothing for {silent:?}");
    }
}

/// `manifest.schema.json` is what editors are pointed at: it takes each good document and refuses a misspelt one.
#[test]
fn the_schema_of_all_kinds_takes_good_documents_only() {
    let schema: serde_json::Value = serde_json::from_str(&schemas()["manifest.schema.json"]).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/spec/good");
    let mut seen = 0;
    for file in ["contacts.yaml", "mappings.yml", "stores.yaml"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        for document in text.split("\n---\n") {
            let document: serde_yaml::Value = serde_yaml::from_str(document).unwrap();
            let json = serde_json::to_value(&document).unwrap();
            assert!(validator.is_valid(&json), "{file}: {:?}", validator.iter_errors(&json).next());
            let mut wrong = json.clone();
            wrong["spec"]["surplus"] = 1.into();
            assert!(!validator.is_valid(&wrong));
            seen += 1;
        }
    }
    assert_eq!(seen, 13);
}
