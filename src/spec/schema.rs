//! JSON Schemas of the manifests, generated from the types in [`super::raw`]: for editors, and for the check of structure.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::raw;

/// The kinds of document, with the name of each one's schema file.
pub(super) const KINDS: [(&str, &str); 4] = [
    ("Store", "store.schema.json"),
    ("Entity", "entity.schema.json"),
    ("Mapping", "mapping.schema.json"),
    ("Controller", "controller.schema.json"),
];

/// The schemas by file name, as they stand in `schemas/`: one for each kind, and `manifest.schema.json` for any of them.
pub fn schemas() -> BTreeMap<&'static str, String> {
    let mut files: BTreeMap<&'static str, String> =
        KINDS.iter().map(|(kind, file)| (*file, pretty(&of_kind(kind)))).collect();
    files.insert("manifest.schema.json", pretty(&of_any()));
    files
}

/// The schema of a kind of document.
pub(super) fn of_kind(kind: &str) -> Value {
    match kind {
        "Store" => generate::<raw::StoreDocument>(),
        "Entity" => generate::<raw::EntityDocument>(),
        "Mapping" => generate::<raw::MappingDocument>(),
        _ => generate::<raw::ControllerDocument>(),
    }
}

/// A schema for documents of every kind.
fn of_any() -> Value {
    let mut definitions = serde_json::Map::new();
    let mut branches = Vec::new();
    for (kind, _) in KINDS {
        let mut schema = of_kind(kind);
        if let Some(object) = schema.as_object_mut() {
            object.remove("$schema");
            if let Some(Value::Object(inner)) = object.remove("$defs") {
                definitions.extend(inner);
            }
        }
        definitions.insert(kind.to_owned(), schema);
        branches.push(json!({ "$ref": format!("#/$defs/{kind}") }));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "trueup manifest",
        "description": "A document of a trueup manifest: a Store, an Entity, a Mapping or a Controller.",
        "oneOf": branches,
        "$defs": definitions,
    })
}

fn generate<T: JsonSchema>() -> Value {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    let mut value = schema.to_value();
    tidy(&mut value);
    value
}

/// Takes out that an optional field may be null (a manifest leaves it out instead), number formats that only say how the
/// value is kept, and line breaks in descriptions.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get_mut("properties") {
                properties.values_mut().for_each(without_null);
            }
            if object
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| matches!(format, "int64" | "uint64" | "uint32" | "double"))
            {
                object.remove("format");
            }
            if let Some(Value::String(text)) = object.get_mut("description") {
                *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            }
            object.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

fn without_null(property: &mut Value) {
    let Some(object) = property.as_object_mut() else { return };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|word| word != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    // `Option` of a type with a definition of its own is written as any of the two.
    let inner = match object.get("anyOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([inner, null]) if null == &json!({ "type": "null" }) => Some(inner.clone()),
        _ => None,
    };
    if let Some(Value::Object(inner)) = inner {
        object.remove("anyOf");
        object.extend(inner);
    }
}

fn pretty(schema: &Value) -> String {
    let mut text = serde_json::to_string_pretty(schema).unwrap_or_default();
    text.push('\n');
    text
}
