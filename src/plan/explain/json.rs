//! An explained record as JSON for other programs.

use serde_json::{Map, Value, json};

use crate::diff::ActionKind;
use crate::model::FieldName;
use crate::resolve::{ClaimEnd, Fate};

use super::super::json::{FORMAT_VERSION, cell_json, conflict_to_json, meta_json, notice_json};
use super::{Explanation, InField, InStore};

/// An explained record, without sensitive values.
pub fn explanation_json(of: &Explanation) -> Value {
    let stores: Map<String, Value> =
        of.stores.iter().map(|side| (side.store.to_string(), store_json(side))).collect();
    let fields: Map<String, Value> =
        of.fields.iter().map(|field| (field.field.to_string(), field_json(field))).collect();
    let open = |name: &FieldName| of.fields.iter().any(|field| field.field == *name && !field.sensitive);
    let beginning: Vec<Value> =
        of.beginning.iter().map(|conflict| conflict_to_json(conflict, &open)).collect();
    json!({
        "format_version": FORMAT_VERSION,
        "address": of.record.to_string(), "entity": of.record.entity, "key": of.record.key,
        "fate": fate(of.fate),
        "version": of.version, "last_updated": of.last_updated, "last_updated_by": of.last_updated_by,
        "stores": stores, "fields": fields,
        "notices": of.notices.iter().map(notice_json).collect::<Vec<_>>(),
        "beginning_conflicts": beginning,
    })
}

fn fate(fate: Fate) -> &'static str {
    match fate {
        Fate::Alive => "alive",
        Fate::Dead => "to_be_deleted",
        Fate::Gone => "nowhere",
        Fate::Left(_) => "left",
    }
}

fn store_json(side: &InStore) -> Value {
    json!({
        "canonical": side.canonical, "there": side.there, "remembered": side.remembered, "metadata": meta_json(&side.meta), "updated": side.updated,
        "store_id": side.store_id, "standing": side.standing,
        "action": side.action.as_ref().map(|action| match action.kind {
            ActionKind::Bookkeeping => ActionKind::Metadata,
            kind => kind,
        }),
        "action_reason": side.action.as_ref().map(|action| action.reason),
    })
}

fn field_json(field: &InField) -> Value {
    let shown = |value: Value| if field.sensitive { Value::Null } else { value };
    let elsewhere: Map<String, Value> = field
        .elsewhere
        .iter()
        .map(|(store, cell, end)| {
            let end = end.map(|end| match end {
                ClaimEnd::Won => "won",
                ClaimEnd::Lost => "lost",
                ClaimEnd::Held => "held",
                ClaimEnd::Rejected => "rejected",
            });
            (store.to_string(), json!({"value": shown(cell_json(cell)), "edit": end}))
        })
        .collect();
    json!({
        "sensitive": field.sensitive, "held": field.held,
        "value": field.value.as_ref().map(|value| shown(value.to_plain())),
        "since_version": field.since,
        "provenance": field.origin.as_ref().map(|origin| json!({"store": origin.store, "rule": origin.rule})),
        "elsewhere": elsewhere,
    })
}
