//! What refers to a record that was to be made in this pass and was not: it waits for the next one.
//!
//! Records of other entities are known to be made, or not, before those that refer to them go out. Within one entity they may be under way
//! together, and nothing is said of that here.

use crate::diff::{Action, ActionKind, Standing};
use crate::model::{Entity, FieldRef, RecordId, RecordKey, Reference, StoreName};
use crate::plan::RecordPlan;

use super::super::Trouble;
use super::Applying;

/// The key that a write would refer to.
fn referred(entity: &Entity, record: &RecordId, action: &Action, reference: &Reference) -> Option<RecordKey> {
    match reference.from {
        FieldRef::Key(part) if action.kind == ActionKind::Create => {
            Some(RecordKey::new(vec![record.key.parts().get(part)?.clone()]))
        }
        FieldRef::Key(_) => None,
        FieldRef::Field(field) => {
            let name = &entity.field(field).name;
            action.changes.iter().find(|change| change.field == *name)?.after.to_key()
        }
    }
}

fn why(parent: &RecordId, store: &StoreName) -> String {
    format!("{parent}, which it refers to, could not be made in {store}; the next pass looks again")
}

impl Applying {
    /// The record that a write would refer to and that was not made there.
    pub(super) fn orphaned(&self, record: &RecordPlan, action: &Action) -> Option<RecordId> {
        if self.missing.is_empty() || !matches!(action.kind, ActionKind::Create | ActionKind::Update) {
            return None;
        }
        let entity = self.inputs.spec.entity(&record.record.entity)?;
        let parents = entity.references.iter().filter_map(|reference| {
            let key = referred(entity, &record.record, action, reference)?;
            Some(RecordId { entity: reference.to.clone(), key })
        });
        let mut parents = parents.map(|parent| (parent, action.store.clone()));
        parents.find(|place| self.missing.contains(place)).map(|(parent, _)| parent)
    }

    /// Leaves out the records of the present chunk that would refer, in the canonical store, to one that was not made there.
    pub(super) fn drop_orphans(&mut self) {
        if self.missing.is_empty() {
            return;
        }
        let canonical = self.inputs.spec.canonical.clone();
        for (at, record) in self.present() {
            let own = record.actions.iter().find(|action| action.store == canonical);
            if let Some(parent) = own.and_then(|action| self.orphaned(&record, action)) {
                self.dropped.insert(at);
                for action in &record.actions {
                    self.shift(at, &action.store, Standing::Pending);
                }
                self.skip(&record.record, &canonical, why(&parent, &canonical));
            }
        }
    }

    fn skip(&mut self, record: &RecordId, store: &StoreName, message: String) {
        self.report.skipped.push(Trouble { record: record.clone(), store: store.clone(), message });
    }

    /// Leaves out a write to another store.
    pub(super) fn leave_orphan(
        &mut self,
        at: usize,
        record: &RecordId,
        store: &StoreName,
        parent: &RecordId,
    ) {
        self.shift(at, store, Standing::Pending);
        self.unconfirmed.insert(at);
        self.skip(record, store, why(parent, store));
    }
}
