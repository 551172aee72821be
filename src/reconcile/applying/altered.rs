//! What the canonical store made something else of than it was given: a trigger had a hand in it, or a column holds less. What it answers is
//! what goes to the others, in the next pass; what was given is on record before that.

use std::sync::Arc;

use crate::diff::Action;
use crate::model::{
    ByName, ByStore, Cell, Entity, FieldName, IntentEnd, IntentId, Outcome, RecordId, RecordKey, Row, Shadow,
    StoreName, Timestamp, Value,
};
use crate::resolve::{Conflict, ConflictReason, ConflictSide, SideRecord};

use super::super::{Effect, Trouble};
use super::{Applying, create};

/// A record of which the canonical store keeps something else than it was given.
pub(super) struct Altered {
    /// What the stores hold that the values came from; none where they came from nobody's row.
    pub(super) conflict: Option<Conflict>,
    /// What is to be said of it.
    pub(super) told: Vec<Trouble>,
    /// The write, and what is known once the conflict is on record.
    pub(super) intent: IntentId,
    pub(super) known: Vec<(RecordId, StoreName, Arc<Shadow>)>,
}

/// The fields that a write set to something else than they hold now, each with what it was given.
pub(super) fn altered_fields(entity: &Entity, action: &Action, row: &Row) -> ByName<Value> {
    let differs = |name: &FieldName, after: &Value| {
        let cell = entity.field_id(name).and_then(|id| row.fields.get(&id));
        // Where an empty list and none are one (BigQuery's ARRAY), nothing is lost with it.
        let emptied = |cell: &Cell| cell.value() == Some(&Value::Null) && is_empty_list(after);
        cell.is_some_and(|cell| cell.value() != Some(after) && !emptied(cell))
    };
    let changes = action.changes.iter().filter(|change| differs(&change.field, &change.after));
    changes.map(|change| (change.field.clone(), change.after.clone())).collect()
}

fn is_empty_list(value: &Value) -> bool {
    match value {
        Value::List(items) => items.is_empty(),
        Value::Json(json) => json.as_value().as_array().is_some_and(Vec::is_empty),
        _ => false,
    }
}

/// The canonical row and those of the other stores that hold what was given.
fn sides(
    entity: &Entity,
    canonical: &StoreName,
    given: &ByName<Value>,
    row: &Row,
    advances: &ByStore<Arc<Shadow>>,
) -> Vec<ConflictSide> {
    let name = |id: usize| entity.fields.get(id).map(|field| field.name.clone());
    let cells = row.fields.iter();
    let record: ByName<Value> =
        cells.filter_map(|(id, cell)| Some((name(id.index())?, cell.value()?.clone()))).collect();
    let kept = record.iter().filter(|(name, _)| given.contains_key(*name));
    let mut sides = vec![ConflictSide {
        store: canonical.clone(),
        values: kept.map(|(name, value)| (name.clone(), value.clone())).collect(),
        record: SideRecord::Held(record),
        version: row.meta.version_or_none(),
        time: row.meta.last_updated,
        carried: true,
    }];
    for (store, shadow) in advances.iter().filter(|(store, _)| *store != canonical) {
        let held = |name: &FieldName| shadow.fields.get(name)?.held.value().cloned();
        let gave = given.iter().filter(|(name, value)| {
            shadow.fields.get(name).is_some_and(|known| known.canonical() == Some(*value))
        });
        let values: ByName<Value> = gave.filter_map(|(name, _)| Some((name.clone(), held(name)?))).collect();
        if values.is_empty() {
            continue;
        }
        let record = shadow.fields.keys().filter_map(|name| Some((name.clone(), held(name)?)));
        sides.push(ConflictSide {
            store: store.clone(),
            values,
            record: SideRecord::Held(record.collect()),
            version: shadow.meta.version_or_none(),
            time: shadow.meta.last_updated,
            carried: true,
        });
    }
    sides
}

impl Altered {
    /// What a canonical write led to, if its answer is not what it was given.
    pub(super) fn of(
        entity: &Entity,
        record: &RecordId,
        action: &Action,
        row: &Row,
        (intent, advances): (&IntentId, &ByStore<Arc<Shadow>>),
        now: Timestamp,
    ) -> Option<Self> {
        let given = altered_fields(entity, action, row);
        if given.is_empty() {
            return None;
        }
        let canonical = &action.store;
        let names: Vec<String> = given.keys().map(|name| format!("`{name}`")).collect();
        let made = format!(
            "{canonical} made something else of {} than it was given, and that goes everywhere",
            names.join(", ")
        );
        let sides = sides(entity, canonical, &given, row, advances);
        let trouble =
            |store: &StoreName, message| Trouble { record: record.clone(), store: store.clone(), message };
        let gave: Vec<StoreName> = sides.iter().skip(1).map(|side| side.store.clone()).collect();
        let (mut conflict, mut told) = (None, Vec::new());
        if gave.is_empty() {
            told.push(trouble(canonical, made));
        } else {
            let fields = given.keys().cloned().collect();
            let (winner, reason) = (Some(canonical.clone()), ConflictReason::AlteredByStore);
            let found = Conflict::new(record.clone(), fields, sides, winner, reason, now);
            let shown = format!("{made}; what stands here is kept (`trueup conflicts show {}`)", found.id);
            told.extend(gave.iter().map(|store| trouble(store, shown.clone())));
            conflict = Some(found);
        }
        Some(Self { conflict, told, intent: intent.clone(), known: Vec::new() })
    }
}

impl Applying {
    /// Puts on record what the canonical store made something else of. Until that is acknowledged its write stays open.
    pub(super) fn record_altered(&self) -> Option<Effect> {
        let conflicts = self.flight.altered.values().filter_map(|altered| altered.conflict.as_ref());
        let rows: Vec<_> = conflicts
            .map(|conflict| {
                let key = RecordKey::new(vec![conflict.id.0.clone()]);
                (key, create(self.ledger.conflict_fields(conflict)))
            })
            .collect();
        (!rows.is_empty()).then(|| self.ledger_write(self.ledger.conflicts.entity.name.clone(), rows))
    }

    /// Takes note of what is on record now. A write of which that is not certain stays open: the next pass finds out.
    pub(super) fn take_recorded(&mut self) {
        if self.flight.altered.is_empty() {
            return;
        }
        let mut missing: Vec<(IntentId, String)> = Vec::new();
        let mut all = None;
        for (_, outcomes) in std::mem::take(&mut self.flight.outcomes) {
            match outcomes {
                Err(error) => all = Some(error.to_string()),
                Ok(outcomes) => {
                    for (id, outcome) in outcomes {
                        // One of this id is on record already: its id is its content.
                        if let Outcome::Refused(error) | Outcome::Unknown(error) = outcome {
                            missing.push((id, error.to_string()));
                        }
                    }
                }
            }
        }
        for (at, altered) in std::mem::take(&mut self.flight.altered) {
            let why = altered.conflict.as_ref().and_then(|conflict| {
                let of_it = missing.iter().find(|(id, _)| *id.0 == *conflict.id.0);
                of_it.map(|(_, why)| why.clone()).or_else(|| all.clone())
            });
            if let Some(why) = why {
                self.dropped.insert(at);
                let told = altered.told.into_iter();
                let message = format!("it could not be put on record what stands here: {why}");
                self.report
                    .failed
                    .extend(told.map(|trouble| Trouble { message: message.clone(), ..trouble }));
                continue;
            }
            self.report.conflicts_settled += u64::from(altered.conflict.is_some());
            self.report.skipped.extend(altered.told);
            self.flight.later.shadows.extend(altered.known);
            self.flight.later.close.push((altered.intent, IntentEnd::Applied));
        }
    }
}
