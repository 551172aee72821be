//! What webhooks say: which records may have changed. Nothing else of them is used.

use serde_json::Value;

use crate::model::{Column, Entity, EntityName, RecordId, RecordKey, Shape, StoreName};
use crate::spec::{Spec, WebhookKind};

/// Records that one webhook may name.
const MOST_RECORDS: usize = 1_000;

/// What a webhook says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// These records may have changed.
    Records(Vec<RecordId>),
    /// Something may have changed.
    Something,
    /// Nothing that concerns us: a table that no manifest names.
    Nothing,
}

/// Reads a webhook's body; none: it is no such webhook.
pub(super) fn read(spec: &Spec, store: &StoreName, kind: WebhookKind, body: &[u8]) -> Option<Said> {
    let body: Value = serde_json::from_slice(body).ok()?;
    match kind {
        WebhookKind::Generic => generic(spec, store, &body),
        WebhookKind::Supabase => {
            let table = body.get("table")?.as_str()?;
            let schema = body.get("schema").and_then(Value::as_str);
            body.get("type")?.as_str()?;
            let rows = [body.get("record"), body.get("old_record")];
            Some(of_rows(spec, store, &rows, &|shape| match shape {
                Shape::Table(name) => {
                    name.name == table
                        && (name.schema.is_none() || schema.is_none() || name.schema.as_deref() == schema)
                }
                Shape::Object(_) | Shape::Embedded(_) => false,
            }))
        }
        WebhookKind::Twenty => {
            let object = body.get("objectMetadata")?.get("nameSingular")?.as_str()?;
            let row = body.get("record")?;
            if elements_may_differ(spec, store, object, &body) {
                return Some(Said::Something);
            }
            Some(of_rows(
                spec,
                store,
                &[Some(row)],
                &|shape| matches!(shape, Shape::Object(name) if name == object),
            ))
        }
    }
}

/// Whether what stands inside an object's records may have changed: those are no records of the object, and found by looking at what
/// changed.
fn elements_may_differ(spec: &Spec, store: &StoreName, object: &str, body: &Value) -> bool {
    let updated = body.get("updatedFields").and_then(Value::as_array);
    let named = |name: &str| updated.is_none_or(|names| names.iter().any(|one| one.as_str() == Some(name)));
    let is_it = |parent: &EntityName| {
        let shape = spec.mapping(parent, store).map(|mapping| &mapping.shape);
        matches!(shape, Some(Shape::Object(name)) if name == object)
    };
    let inside = spec.mappings.values().filter_map(|stores| stores.get(store)?.embedded());
    inside
        .filter(|embedded| is_it(&embedded.parent))
        .any(|embedded| embedded.places.values().any(|place| named(place.column.head())))
}

fn generic(spec: &Spec, store: &StoreName, body: &Value) -> Option<Said> {
    let list = match body {
        Value::Array(list) => list.iter().collect(),
        one => vec![one],
    };
    if list.is_empty() || list.len() > MOST_RECORDS {
        return None;
    }
    let mut records = Vec::new();
    let mut something = false;
    for one in list {
        let name = EntityName::known(one.get("entity")?.as_str()?)?;
        spec.mapping(&name, store)?;
        let entity = spec.entity(&name)?;
        match one.get("key") {
            None => something = true,
            Some(Value::Array(parts)) => {
                let parts: Option<Vec<String>> = parts.iter().map(part).collect();
                records.push(record(entity, parts?)?);
            }
            Some(one) => records.push(record(entity, vec![part(one)?])?),
        }
    }
    Some(if something { Said::Something } else { Said::Records(records) })
}

/// The records of rows of whatever lives in a table or object.
fn of_rows(spec: &Spec, store: &StoreName, rows: &[Option<&Value>], is_it: &dyn Fn(&Shape) -> bool) -> Said {
    let mut records = Vec::new();
    let mut known = false;
    for entity in &spec.entities {
        let Some(mapping) = spec.mapping(&entity.name, store).filter(|mapping| is_it(&mapping.shape)) else {
            continue;
        };
        known = true;
        for row in rows.iter().flatten().filter(|row| row.is_object()) {
            let parts: Option<Vec<String>> =
                mapping.key.iter().map(|key| part(at(row, &key.column)?)).collect();
            records.extend(parts.and_then(|parts| record(entity, parts)));
        }
    }
    records.dedup();
    match (known, records.is_empty()) {
        (false, _) => Said::Nothing,
        // A row without a key yet: it is found by looking at what changed.
        (true, true) => Said::Something,
        (true, false) => Said::Records(records),
    }
}

fn at<'a>(row: &'a Value, column: &Column) -> Option<&'a Value> {
    column.0.iter().try_fold(row, |value, name| value.get(name))
}

fn part(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() && text.len() <= 1_024 => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn record(entity: &Entity, parts: Vec<String>) -> Option<RecordId> {
    (parts.len() == entity.key.len())
        .then(|| RecordId { entity: entity.name.clone(), key: RecordKey::new(parts) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::fixture;

    fn app() -> StoreName {
        StoreName::new("app").unwrap()
    }

    fn said(kind: WebhookKind, body: &str) -> Option<Said> {
        read(&fixture::spec(), &app(), kind, body.as_bytes())
    }

    fn c1() -> Said {
        let entity = EntityName::new("contacts").unwrap();
        Said::Records(vec![RecordId { entity, key: RecordKey::new(vec!["C1".to_owned()]) }])
    }

    #[test]
    fn generic_ones_name_records() {
        let kind = WebhookKind::Generic;
        assert_eq!(said(kind, r#"{"entity": "contacts", "key": "C1"}"#), Some(c1()));
        assert_eq!(said(kind, r#"[{"entity": "contacts", "key": ["C1"]}]"#), Some(c1()));
        assert_eq!(said(kind, r#"{"entity": "contacts"}"#), Some(Said::Something));
        for bad in [
            "",
            "[]",
            "{}",
            "{\"entity\": \"contact\", \"key\": \"C1\"}",
            "{\"entity\": \"contacts\", \"key\": {}}",
            "{\"entity\": \"contacts\", \"key\": [\"C1\", \"C2\"]}",
            "{\"entity\": \"contacts\", \"key\": \"\"}",
            "\u{0}",
        ] {
            assert_eq!(said(kind, bad), None, "{bad}");
        }
    }

    #[test]
    fn supabases_name_a_row_before_and_after() {
        let kind = WebhookKind::Supabase;
        let body = r#"{"type":"DELETE","table":"contacts","schema":"public","record":null,"old_record":{"contact_id":"C1"}}"#;
        assert_eq!(said(kind, body), Some(c1()));
        assert_eq!(said(kind, &body.replace("\"contacts\"", "\"orders\"")), Some(Said::Nothing));
        assert_eq!(said(kind, &body.replace("contact_id", "id")), Some(Said::Something));
        assert_eq!(said(kind, r#"{"record": {"contact_id": "C1"}}"#), None);
    }

    #[test]
    fn twentys_name_an_object() {
        let body = r#"{"eventName":"person.updated","objectMetadata":{"nameSingular":"person"},"record":{"id":"x"}}"#;
        assert_eq!(said(WebhookKind::Twenty, body), Some(Said::Nothing));
        assert_eq!(said(WebhookKind::Twenty, "{}"), None);
    }

    #[test]
    fn what_stands_inside_an_object_is_looked_for() {
        let text = include_str!("../../tests/fixtures/identity.yaml").to_owned();
        let source = crate::spec::Source { file: "m.yaml".to_owned(), text };
        let compiled =
            crate::spec::compile(std::path::Path::new("."), &[source], &std::collections::BTreeMap::new());
        let Ok((spec, _)) = compiled else { panic!("the fixture is sound") };
        let crm = StoreName::new("crm").unwrap();
        let said = |updated: &str| {
            let body = format!(
                r#"{{"eventName":"person.updated","objectMetadata":{{"nameSingular":"person"}},
                     "record":{{"id":"x","personKey":"P1"}}{updated}}}"#
            );
            read(&spec, &crm, WebhookKind::Twenty, body.as_bytes())
        };
        let entity = EntityName::new("people").unwrap();
        let person = RecordId { entity, key: RecordKey::new(vec!["P1".to_owned()]) };
        assert_eq!(said(r#","updatedFields":["fullName"]"#), Some(Said::Records(vec![person])));
        for inside in [r#","updatedFields":["fullName","emails"]"#, r#","updatedFields":["phones"]"#, ""] {
            assert_eq!(said(inside), Some(Said::Something), "{inside}");
        }
    }
}
