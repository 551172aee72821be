//! What the last passes found and did, for those who ask over HTTP. No values of records are kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::model::{EntityName, Timestamp};
use crate::plan::json::books_json;
use crate::plan::{BooksTable, Plan};
use crate::reconcile::Report;
use crate::telemetry::{Event, Observer};

/// Passes that are remembered: an hour and a half at the usual interval.
const PASSES: usize = 100;
/// Actions of the last plan that are listed; there may be a million.
const ACTIONS: usize = 1_000;

/// What the last passes found and did.
#[derive(Default)]
pub struct Board(Mutex<Contents>);

#[derive(Default)]
struct Contents {
    planned: Option<Planned>,
    books: BooksTable,
    passes: VecDeque<Value>,
    waiting: Value,
    manifests_refused: Option<String>,
}

struct Planned {
    at: Timestamp,
    spec_sha: String,
    totals: Value,
    actions: Vec<Value>,
    guards: Value,
    approvals: BTreeMap<EntityName, String>,
    open_conflicts: BTreeMap<EntityName, u64>,
}

impl Board {
    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where everything stands.
    pub(super) fn status(&self) -> Value {
        let contents = self.contents();
        let planned = contents.planned.as_ref();
        json!({
            "at": planned.map(|planned| planned.at),
            "spec_sha": planned.map(|planned| planned.spec_sha.clone()),
            "books": books_json(&contents.books),
            "to_do": planned.map(|planned| planned.totals.clone()),
            "guards": planned.map(|planned| planned.guards.clone()),
            "open_conflicts": planned.map(|planned| planned.open_conflicts.clone()),
            "waiting": contents.waiting,
            "manifests_refused": contents.manifests_refused,
            "last_pass": contents.passes.back(),
        })
    }

    /// How far off the stores were when they were last looked at.
    pub(super) fn drift(&self) -> Value {
        let contents = self.contents();
        let rows: Vec<Value> = contents
            .books
            .iter()
            .flat_map(|(entity, stores)| {
                stores.iter().map(move |(store, books)| {
                    json!({
                        "store": store, "entity": entity, "records": books.seen, "missing": books.missing,
                        "extra": books.extra, "changed": books.changed, "fields": books.fields,
                    })
                })
            })
            .collect();
        json!({"at": contents.planned.as_ref().map(|planned| planned.at), "drift": rows})
    }

    /// The last plan: which fields of which records, and why; no values.
    pub(super) fn plans(&self) -> Value {
        let contents = self.contents();
        let plans: Vec<Value> = contents
            .planned
            .iter()
            .map(|planned| {
                json!({
                    "at": planned.at, "spec_sha": planned.spec_sha, "to_do": planned.totals,
                    "actions": planned.actions, "guards": planned.guards, "approvals": planned.approvals,
                })
            })
            .collect();
        json!({"plans": plans})
    }

    /// The last passes, the latest first.
    pub(super) fn passes(&self) -> Value {
        json!({"passes": self.contents().passes.iter().rev().cloned().collect::<Vec<_>>()})
    }

    fn planned(&self, plan: &Plan) {
        let actions = plan.records.iter().flat_map(|record| {
            let id = record.record.to_string();
            let all = record.actions.iter().map(|action| {
                json!({
                    "record": id, "store": action.store, "action": action.kind.as_str(),
                    "fields": action.changes.iter().map(|change| &change.field).collect::<Vec<_>>(),
                })
            });
            all.collect::<Vec<_>>()
        });
        let planned = Planned {
            at: plan.made_at,
            spec_sha: plan.spec_sha.clone(),
            totals: json!(plan.totals()),
            actions: actions.take(ACTIONS).collect(),
            guards: json!(plan.guards),
            approvals: plan.approvals.clone(),
            open_conflicts: plan.open_conflicts.clone(),
        };
        let mut contents = self.contents();
        contents.planned = Some(planned);
        contents.books.clone_from(&plan.books);
    }

    fn ended(&self, report: &Report, seconds: f64) {
        let mut contents = self.contents();
        contents.books.clone_from(&report.books);
        contents.pass(json!({
            "at": crate::apply::clock(), "seconds": seconds, "pass": report.pass, "applied": report.applied,
            "skipped": report.skipped.len(), "failed": report.failed.len(), "unknown": report.unknown.len(),
            "unreadable": report.unreadable, "guards": report.guards.len(), "stopped": report.stopped,
            "clean": report.is_clean() && report.guards.is_empty(),
        }));
    }
}

impl Contents {
    fn pass(&mut self, pass: Value) {
        self.passes.push_back(pass);
        if self.passes.len() > PASSES {
            self.passes.pop_front();
        }
    }
}

impl Observer for Board {
    fn notice(&self, event: &Event<'_>) {
        match event {
            Event::Planned { plan } => self.planned(plan),
            Event::PassEnded { report, seconds } => self.ended(report, *seconds),
            Event::PassFailed { message, seconds } => self.contents().pass(json!({
                "at": crate::apply::clock(), "seconds": seconds, "failed_as_a_whole": message, "clean": false,
            })),
            Event::Loop { queue, pauses, waiting, away } => {
                self.contents().waiting =
                    json!({"hints": queue, "pauses": pauses, "failing_records": waiting, "stores": away});
            }
            Event::Reloaded { refused } => {
                self.contents().manifests_refused = refused.map(ToOwned::to_owned);
            }
            _ => {}
        }
    }
}
