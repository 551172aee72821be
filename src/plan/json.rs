//! The plan and what follows from it as JSON for other programs: the JSON plan, and the messages of the JSON stream.
//!
//! The major number of [`FORMAT_VERSION`] rises when a reader has to change, the minor one when something is added. Sensitive
//! values stand nowhere in it. Times are passed in: nothing here looks at a clock.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::diff::{Action, ActionKind, Change};
use crate::model::{ByName, Cell, FieldName, RecordId, StoreName, SyncMeta, Timestamp};
use crate::reconcile::{Report, Trouble};
use crate::resolve::{Conflict, SideRecord};

use super::cost::{self, Rates};
use super::render::address;
use super::render_words::showable;
use super::{Notice, Plan, RecordPlan};

/// The version of the JSON plan.
pub const FORMAT_VERSION: &str = "1.0";

/// The JSON plan.
pub fn plan_json(plan: &Plan, rates: &Rates) -> Value {
    let changes: Vec<Value> = plan.records.iter().flat_map(|record| resource_changes(&record)).collect();
    let guards: Vec<Value> = plan
        .guards
        .iter()
        .map(|trip| {
            json!({
                "guard": trip.guard, "entity": trip.entity, "store": trip.store, "message": trip.message,
                "override": format!("--allow {}", trip.guard),
            })
        })
        .collect();
    let notices: Vec<Value> = plan.notices.iter().map(notice_json).collect();
    json!({
        "format_version": FORMAT_VERSION,
        "made_at": plan.made_at,
        "spec_sha": plan.spec_sha,
        "canonical": plan.canonical,
        "rebuild": plan.rebuild,
        "summary": summary(plan),
        "resource_changes": changes,
        "guards": guards,
        "allowed_guards": plan.allowed,
        "notices": notices,
        "open_conflicts": plan.open_conflicts,
        "identity": plan.meetings,
        "books": books_json(&plan.books),
        "snapshots": plan.snapshots,
        "cost": cost::cost(plan, rates),
    })
}

/// Something that a person should know.
pub(super) fn notice_json(notice: &Notice) -> Value {
    json!({
        "kind": notice.kind, "address": notice.record.as_ref().map(ToString::to_string),
        "entity": notice.record.as_ref().map(|record| &record.entity).or(notice.entity.as_ref()),
        "store": notice.store, "field": notice.field, "message": notice.message,
    })
}

/// The numbers of the summary line.
fn summary(plan: &Plan) -> Value {
    let totals = plan.totals();
    json!({
        "add": totals.create, "change": totals.update, "remove": totals.delete, "metadata_only": totals.metadata,
        "remembered": plan.records.noted(),
    })
}

/// The books of a plan or report.
pub fn books_json(books: &super::BooksTable) -> Value {
    let mut entities = Map::new();
    for (entity, stores) in books {
        let stores: Map<String, Value> = stores
            .iter()
            .map(|(store, books)| {
                let drift = json!({
                    "missing": books.missing, "extra": books.extra, "changed": books.changed, "fields": books.fields,
                });
                let entry = json!({
                    "seen": books.seen, "rows": books.rows, "standing": books.standing, "drift": drift,
                    "balanced": books.balance(),
                });
                (store.to_string(), entry)
            })
            .collect();
        entities.insert(entity.to_string(), Value::Object(stores));
    }
    Value::Object(entities)
}

/// An entry for every action of a record; a record that is only settled or remembered has one without any.
fn resource_changes(record: &RecordPlan) -> Vec<Value> {
    let conflict = conflict_json(record);
    if record.actions.is_empty() {
        return vec![json!({
            "address": record.record.to_string(),
            "entity": record.record.entity,
            "key": record.record.key,
            "change": {"actions": ["no-op"], "before": null, "after": null},
            "adopts": record.adopt.keys().collect::<Vec<_>>(),
            "conflict": conflict,
        })];
    }
    record.actions.iter().map(|action| resource_change(&record.record, action, &conflict)).collect()
}

fn resource_change(record: &RecordId, action: &Action, conflict: &Value) -> Value {
    let (word, metadata_only) = match action.kind {
        ActionKind::Create => ("create", false),
        ActionKind::Update => ("update", false),
        ActionKind::Delete => ("delete", false),
        ActionKind::Metadata | ActionKind::Bookkeeping => ("update", true),
    };
    let sensitive = |action: &Action| -> Value {
        let marks = action.changes.iter().filter(|change| change.sensitive);
        Value::Object(marks.map(|change| (change.field.to_string(), Value::Bool(true))).collect())
    };
    let before = match action.kind {
        ActionKind::Create => Value::Null,
        _ => fields(action, |change| cell_json(&change.before)),
    };
    let after = match action.kind {
        ActionKind::Delete => Value::Null,
        _ => fields(action, |change| change.after.to_plain()),
    };
    json!({
        "address": address(&action.store, record),
        "entity": record.entity,
        "key": record.key,
        "store": action.store,
        "store_id": action.store_id,
        "change": {
            "actions": [word],
            "metadata_only": metadata_only,
            "before": before,
            "after": after,
            "before_sensitive": if action.kind == ActionKind::Create { json!({}) } else { sensitive(action) },
            "after_sensitive": if action.kind == ActionKind::Delete { json!({}) } else { sensitive(action) },
        },
        "action_reason": action.reason,
        "metadata": {"before": meta_json(&action.meta_before), "after": action.meta_after.as_ref().map(meta_json)},
        "preconditions": preconditions(action),
        "provenance": provenance(action),
        "conflict": conflict,
    })
}

fn fields(action: &Action, show: impl Fn(&Change) -> Value) -> Value {
    let open = action.changes.iter().filter(|change| !change.sensitive);
    Value::Object(open.map(|change| (change.field.to_string(), show(change))).collect())
}

pub(super) fn cell_json(cell: &Cell) -> Value {
    match cell {
        Cell::Value(value) => value.to_plain(),
        Cell::Unreadable(what) => json!({"unreadable": what.why}),
    }
}

/// Version, time and origin; the bookkeeping's messages are in the notices.
pub(super) fn meta_json(meta: &SyncMeta) -> Value {
    json!({
        "version": meta.version, "last_updated": meta.last_updated, "last_updated_by": meta.last_updated_by,
        "sync_status": meta.sync_status,
    })
}

/// What must still be there. Of fields that the action does not change openly only the names are told: whether their values may be
/// shown is not known here.
fn preconditions(action: &Action) -> Value {
    let open: BTreeSet<&FieldName> =
        action.changes.iter().filter(|change| !change.sensitive).map(|change| &change.field).collect();
    let fields: Map<String, Value> = action
        .guard
        .iter()
        .map(|(field, cell)| {
            let expected = if open.contains(field) {
                json!({"equals": cell_json(cell)})
            } else {
                json!({"unchanged": true})
            };
            (field.to_string(), expected)
        })
        .collect();
    let meta = &action.meta_before;
    json!({
        "exists": action.kind != ActionKind::Create,
        "fields": fields,
        "version": meta.version, "last_updated": meta.last_updated, "last_updated_by": meta.last_updated_by,
    })
}

fn provenance(action: &Action) -> Value {
    let origins = action.changes.iter().map(|change| {
        let origin = json!({"store": change.origin.store, "rule": change.origin.rule});
        (change.field.to_string(), origin)
    });
    Value::Object(origins.collect())
}

/// The conflicts that a record settles, opens or ends; values only of fields that the plan shows openly.
fn conflict_json(record: &RecordPlan) -> Value {
    let open = showable(record);
    let shown = |field: &FieldName| open.contains(field);
    let all: Vec<Value> = record
        .conflicts
        .iter()
        .chain(&record.closes)
        .map(|conflict| conflict_to_json(conflict, &shown))
        .collect();
    if all.is_empty() { Value::Null } else { Value::Array(all) }
}

/// A conflict as JSON, with the values of those fields that `shown` lets through.
pub fn conflict_to_json(conflict: &Conflict, shown: &dyn Fn(&FieldName) -> bool) -> Value {
    let values = |values: &ByName<crate::model::Value>| -> Value {
        let open = values.iter().filter(|(field, _)| shown(field));
        Value::Object(open.map(|(field, value)| (field.to_string(), value.to_plain())).collect())
    };
    let sides: Vec<Value> = conflict
        .sides
        .iter()
        .map(|side| {
            let record = match &side.record {
                SideRecord::Held(record) => values(record),
                SideRecord::Deleted => Value::Null,
            };
            json!({
                "store": side.store, "values": values(&side.values), "record": record,
                "deleted": side.record == SideRecord::Deleted, "version": side.version, "time": side.time,
            })
        })
        .collect();
    let decision = conflict.decision.as_ref().map(|decision| {
        json!({"values": values(&decision.values), "store": decision.store, "by": decision.by, "at": decision.at})
    });
    json!({
        "id": conflict.id, "address": conflict.record.to_string(), "fields": conflict.fields, "sides": sides,
        "winner": conflict.winner, "reason": conflict.reason.as_str(), "status": conflict.status.as_str(),
        "created_at": conflict.created_at, "resolved_at": conflict.resolved_at, "resolved_by": conflict.resolved_by,
        "decision": decision,
    })
}

/// The messages of the JSON stream: an object a line, each with `@level`, `@message`, `@timestamp` and `type`.
pub mod stream {
    use super::{
        Action, ActionKind, Plan, RecordId, Report, StoreName, Timestamp, Trouble, Value, address,
        books_json, json, summary,
    };
    use crate::model::{Diagnostic, EntityName, Severity};

    fn message(level: &str, text: &str, at: Timestamp, kind: &str, more: Value) -> Value {
        let mut object = json!({"@level": level, "@message": text, "@timestamp": at, "type": kind});
        if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
            object.extend(more);
        }
        object
    }

    /// The first message: which tool and which format.
    pub fn version(tool: &str, at: Timestamp) -> Value {
        let more = json!({"trueup": tool, "format_version": super::FORMAT_VERSION});
        message("info", &format!("trueup {tool}"), at, "version", more)
    }

    /// What is planned: a message for every action, then the notices and guards, then the sums.
    pub fn plan(plan: &Plan, at: Timestamp) -> Vec<Value> {
        let mut messages: Vec<Value> = Vec::new();
        for record in plan.records.iter() {
            messages.extend(record.actions.iter().map(|action| planned_change(&record.record, action, at)));
        }
        for notice in &plan.notices {
            let more = json!({"diagnostic": {
                "severity": "warning", "kind": notice.kind, "summary": notice.message, "store": notice.store,
                "address": notice.record.as_ref().map(ToString::to_string), "field": notice.field,
            }});
            messages.push(message("warn", &notice.message, at, "diagnostic", more));
        }
        for trip in &plan.guards {
            messages.push(error(&trip.to_string(), Some(&format!("--allow {}", trip.guard)), at));
        }
        let totals = plan.totals();
        let text = format!(
            "Plan: {} to add, {} to change, {} to destroy.",
            totals.create, totals.update, totals.delete
        );
        let mut changes = summary(plan);
        changes["operation"] = "plan".into();
        messages.push(message("info", &text, at, "change_summary", json!({"changes": changes})));
        messages
    }

    fn planned_change(record: &RecordId, action: &Action, at: Timestamp) -> Value {
        let address = address(&action.store, record);
        let word = match action.kind {
            ActionKind::Create => "create",
            ActionKind::Update | ActionKind::Metadata | ActionKind::Bookkeeping => "update",
            ActionKind::Delete => "delete",
        };
        let text = format!("{address}: Plan to {word}");
        let change = json!({
            "address": address, "entity": record.entity, "store": action.store, "action": word,
            "metadata_only": matches!(action.kind, ActionKind::Metadata | ActionKind::Bookkeeping),
            "reason": action.reason,
            "fields": action.changes.iter().map(|change| &change.field).collect::<Vec<_>>(),
        });
        message("info", &text, at, "planned_change", json!({"change": change}))
    }

    /// A batch goes out.
    pub fn apply_start(store: &StoreName, entity: &EntityName, writes: usize, at: Timestamp) -> Value {
        let text = format!("{store}.{entity}: Writing {writes} records");
        message(
            "info",
            &text,
            at,
            "apply_start",
            json!({"hook": {"store": store, "entity": entity, "writes": writes}}),
        )
    }

    /// A write was acknowledged.
    pub fn apply_complete(store: &StoreName, record: &RecordId, action: ActionKind, at: Timestamp) -> Value {
        let address = address(store, record);
        let text = format!("{address}: {} complete", action.as_str());
        let hook = json!({"address": address, "store": store, "entity": record.entity, "action": action});
        message("info", &text, at, "apply_complete", json!({"hook": hook}))
    }

    /// What a pass did: a message for every write that did not happen, then the sums.
    pub fn report(report: &Report, at: Timestamp) -> Vec<Value> {
        let mut messages = Vec::new();
        let lists = [("skipped", &report.skipped), ("failed", &report.failed), ("unknown", &report.unknown)];
        for (result, list) in lists {
            messages.extend(list.iter().map(|trouble| apply_errored(trouble, result, at)));
        }
        for trip in &report.guards {
            messages.push(error(&trip.to_string(), Some(&format!("--allow {}", trip.guard)), at));
        }
        let done = report.applied;
        let text = format!(
            "Apply {}! Records: {} added, {} changed, {} destroyed.",
            if report.is_clean() { "complete" } else { "incomplete" },
            done.create,
            done.update,
            done.delete
        );
        let changes = json!({
            "operation": "apply", "add": done.create, "change": done.update, "remove": done.delete,
            "metadata_only": done.metadata, "skipped": report.skipped.len(), "failed": report.failed.len(),
            "unknown": report.unknown.len(), "conflicts_settled": report.conflicts_settled,
            "conflicts_opened": report.conflicts_opened, "stopped": report.stopped, "pass": report.pass,
        });
        let more = json!({"changes": changes, "books": books_json(&report.books)});
        messages.push(message("info", &text, at, "change_summary", more));
        messages
    }

    fn apply_errored(trouble: &Trouble, result: &str, at: Timestamp) -> Value {
        let address = address(&trouble.store, &trouble.record);
        let hook = json!({"address": address, "store": trouble.store, "entity": trouble.record.entity, "result": result});
        let text = format!("{address}: {result}: {}", trouble.message);
        message("error", &text, at, "apply_errored", json!({"hook": hook, "message": trouble.message}))
    }

    /// An error that ended the command.
    pub fn error(text: &str, hint: Option<&str>, at: Timestamp) -> Value {
        let diagnostic = json!({"severity": "error", "summary": text, "detail": hint});
        message("error", &format!("Error: {text}"), at, "diagnostic", json!({"diagnostic": diagnostic}))
    }

    /// A message about a manifest.
    pub fn diagnostic(found: &Diagnostic, at: Timestamp) -> Value {
        let level = if found.severity == Severity::Error { "error" } else { "warn" };
        let diagnostic = json!({
            "severity": found.severity, "summary": found.message, "detail": found.hint, "place": found.place,
        });
        message(level, &found.message, at, "diagnostic", json!({"diagnostic": diagnostic}))
    }
}
