//! What became of writes: what follows from them for the state, the books and the report.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diff::{Action, ActionKind, Standing};
use crate::model::{
    Deletes, Entity, EntityName, ErrorKind, Intent, IntentEnd, IntentId, IntentKind, Outcome, Row, Shadow,
    StoreError, StoreName, SyncError, Transition,
};
use crate::plan::{GuardName, RecordPlan};

use super::super::{RowChanges, Trouble};
use super::Applying;
use super::altered::Altered;

impl Applying {
    /// Counts the outcomes of the writes in flight, and keeps what they change in the state.
    pub(super) fn take_outcomes(&mut self) {
        let mut transition = std::mem::take(&mut self.flight.later);
        for (store, outcomes) in std::mem::take(&mut self.flight.outcomes) {
            let mut deleted: BTreeMap<EntityName, u64> = BTreeMap::new();
            let noted = self.flight.noted.remove(&store).unwrap_or_default();
            let mut outcomes = outcomes.unwrap_or_else(|error| self.whole_batch(&store, &noted, error));
            for (at, intent) in noted {
                let missing = || {
                    StoreError::new(ErrorKind::OutcomeUnknown, &store, "the store said nothing of this write")
                };
                let outcome = outcomes.remove(&intent.id).unwrap_or_else(|| Outcome::Unknown(missing()));
                // The state has noted it and keeps no copy.
                let intent = Arc::unwrap_or_clone(intent);
                if intent.kind == IntentKind::Delete && matches!(outcome, Outcome::Applied(_)) {
                    *deleted.entry(intent.record.entity.clone()).or_default() += 1;
                }
                self.take_outcome(at, intent, outcome, &mut transition);
            }
            // Deletes that a person allowed do not count against the next ones.
            if !self.plan.allowed.contains(&GuardName::Deletes) {
                let (at, deleted) = (self.inputs.now, deleted.into_iter());
                let counted =
                    deleted.map(|(entity, count)| Deletes { at, entity, store: store.clone(), count });
                transition.deletes.extend(counted);
            }
        }
        self.flight.later = transition;
    }

    /// A batch that failed as a whole.
    pub(super) fn whole_batch(
        &mut self,
        store: &StoreName,
        noted: &[(usize, Arc<Intent>)],
        error: StoreError,
    ) -> BTreeMap<IntentId, Outcome> {
        let outcome = match error.kind {
            ErrorKind::OutcomeUnknown => Outcome::Unknown(error.clone()),
            _ => Outcome::Refused(error.clone()),
        };
        if *store == self.inputs.spec.canonical {
            // Without the canonical store nothing goes on; what was noted is closed or found out about.
            self.stop = true;
        }
        if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::RateLimited | ErrorKind::OutcomeUnknown) {
            self.report.down.insert(store.clone());
        }
        self.down.insert(store.clone(), error);
        noted.iter().map(|(_, intent)| (intent.id.clone(), outcome.clone())).collect()
    }

    pub(super) fn take_outcome(
        &mut self,
        at: usize,
        intent: Intent,
        outcome: Outcome,
        transition: &mut Transition,
    ) {
        let canonical = intent.store == self.inputs.spec.canonical;
        let Some(record) = self.record(at) else { return };
        let Some(action) = record.actions.iter().find(|action| action.store == intent.store) else { return };
        let trouble =
            |message: String| Trouble { record: record.record.clone(), store: intent.store.clone(), message };
        let end = match outcome {
            Outcome::Applied(row) => {
                if canonical {
                    if self.receipts.last() != Some(&intent.batch) {
                        self.receipts.push(intent.batch.clone());
                    }
                    let meta = intent.meta_after.clone().unwrap_or_else(|| intent.meta_before.clone());
                    self.flight.canonical_meta.insert(at, meta);
                }
                self.report.applied.count(action.kind);
                if self.report.written.len() < RowChanges::LISTED && action.kind != ActionKind::Bookkeeping {
                    self.report.written.push((record.record.clone(), intent.store.clone()));
                }
                match action.kind {
                    ActionKind::Create => self.report.rows.note(&record.record, &intent.store, 1),
                    ActionKind::Delete => self.report.rows.note(&record.record, &intent.store, -1),
                    _ => {}
                }
                let entity = self.inputs.spec.entity(&record.record.entity);
                let answer = row.as_ref().zip(entity);
                let altered = answer.filter(|_| canonical).and_then(|(row, entity)| {
                    let of_it = (&intent.id, &intent.advances);
                    Altered::of(entity, &record.record, action, row, of_it, self.inputs.now)
                });
                let mut known = Vec::new();
                // The others' are kept for the end already, unless this is the canonical write, which they follow from.
                let advances =
                    intent.advances.into_iter().filter(|(store, _)| canonical || *store == intent.store);
                for (store, mut shadow) in advances {
                    if let Some((row, entity)) = answer.filter(|_| store == intent.store) {
                        read_back(entity, action, row, canonical, &mut shadow);
                    }
                    known.push((record.record.clone(), store, shadow));
                }
                if let Some(altered) = altered {
                    self.flight.altered.insert(at, Altered { known, ..altered });
                    return;
                }
                transition.shadows.append(&mut known);
                IntentEnd::Applied
            }
            Outcome::Moved => {
                self.shift(at, &intent.store, Standing::Skipped);
                self.report
                    .skipped
                    .push(trouble("somebody changed it in between; the next pass looks again".to_owned()));
                self.unconfirmed.insert(at);
                if canonical {
                    self.drop_rest(at, &record, Standing::Skipped);
                }
                IntentEnd::NotApplied
            }
            Outcome::Refused(error) => {
                self.not_written(at, action, &error, Standing::Failed);
                if canonical {
                    self.drop_rest(at, &record, Standing::Failed);
                }
                IntentEnd::NotApplied
            }
            Outcome::Unknown(error) => {
                self.shift(at, &intent.store, Standing::Unknown);
                self.report.unknown.push(trouble(error.to_string()));
                self.unconfirmed.insert(at);
                if canonical {
                    self.drop_rest(at, &record, Standing::Failed);
                }
                return;
            }
        };
        transition.close.push((intent.id, end));
    }

    /// Without its canonical write a record's other writes do not go out.
    pub(super) fn drop_rest(&mut self, at: usize, record: &RecordPlan, to: Standing) {
        self.dropped.insert(at);
        self.reach_rest(record);
        for action in &record.actions {
            if action.store != self.inputs.spec.canonical {
                self.shift(at, &action.store, to);
            }
        }
    }

    pub(super) fn not_written(&mut self, at: usize, action: &Action, error: &StoreError, to: Standing) {
        let Some(record) = self.record(at).map(|record| record.record.clone()) else { return };
        self.shift(at, &action.store, to);
        self.unconfirmed.insert(at);
        if action.store != self.inputs.spec.canonical {
            let rule = error.kind.as_str().to_owned();
            let (at_time, store) = (self.inputs.now, action.store.to_string());
            let trouble = SyncError { at: at_time, store, field: None, rule, message: error.message.clone() };
            self.flight.troubled.entry(at).or_default().push(trouble);
        }
        self.report.failed.push(Trouble { record, store: action.store.clone(), message: error.to_string() });
    }

    pub(super) fn fail_record(&mut self, at: usize, message: &str) {
        if !self.dropped.insert(at) {
            return;
        }
        let Some(record) = self.record(at) else { return };
        self.reach_rest(&record);
        for action in &record.actions {
            self.shift(at, &action.store, Standing::Failed);
            let trouble = Trouble {
                record: record.record.clone(),
                store: action.store.clone(),
                message: message.to_owned(),
            };
            self.report.failed.push(trouble);
        }
    }

    pub(super) fn skip_record(&mut self, at: usize, message: &str) {
        self.leave_record(at, message, Standing::Skipped);
    }

    /// Does nothing about a record, and says so of every store that would have been written.
    pub(super) fn leave_record(&mut self, at: usize, message: &str, to: Standing) {
        if !self.dropped.insert(at) {
            return;
        }
        let Some(record) = self.record(at) else { return };
        self.reach(&record, |_| true);
        let canonical = self.inputs.spec.canonical.clone();
        let stores: Vec<StoreName> = record.actions.iter().map(|action| action.store.clone()).collect();
        for store in if stores.is_empty() { vec![canonical] } else { stores } {
            self.shift(at, &store, to);
            self.report.skipped.push(Trouble {
                record: record.record.clone(),
                store,
                message: message.to_owned(),
            });
        }
    }

    /// Moves a record in the books from where the plan had it.
    pub(super) fn shift(&mut self, at: usize, store: &StoreName, to: Standing) {
        let Some(record) = self.record(at) else { return };
        let Some(action) = record.actions.iter().find(|action| &action.store == store) else { return };
        self.note_undone(&record, action);
        let Some(from) = action.kind.standing() else { return };
        let books = self.report.books.get_mut(&record.record.entity).and_then(|books| books.get_mut(store));
        if let Some(books) = books {
            books.shift(from, to);
        }
    }
}

/// What a write answered: of the fields written and the metadata it is what the store holds now, in whatever form the store gave
/// it. Every other field in the answer may hold somebody's newer edit and is left for the next look.
fn read_back(entity: &Entity, action: &Action, row: &Row, canonical: bool, shadow: &mut Arc<Shadow>) {
    for change in &action.changes {
        let cell = entity.field_id(&change.field).and_then(|id| row.fields.get(&id));
        let (Some(cell), Some(known)) = (cell, shadow.fields.get(&change.field)) else { continue };
        // What the canonical store has stands for itself.
        let differs = cell.value().is_none_or(|held| !canonical && *held != change.after);
        let stands_for = differs.then_some(&change.after);
        // Nearly always it is what was expected, and there is nothing to put right.
        if known.held == *cell && known.stands_for.as_deref() == stands_for {
            continue;
        }
        if let Some(field) = Arc::make_mut(shadow).fields.get_mut(&change.field) {
            field.held = cell.clone();
            field.stands_for = stands_for.cloned().map(Box::new);
        }
    }
    if action.meta_after.is_some() && !shadow.meta.same_evidence(&row.meta) {
        Arc::make_mut(shadow).meta = row.meta.clone().evidence();
    }
    if shadow.updated != row.updated || shadow.store_id != row.store_id {
        let shadow = Arc::make_mut(shadow);
        shadow.updated = row.updated;
        shadow.store_id.clone_from(&row.store_id);
    }
}
