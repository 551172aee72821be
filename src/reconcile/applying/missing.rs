//! What refers to a record that was to be made in this pass and was not, or is referred to by one that was to go and did not: it waits for the
//! next one.
//!
//! Records of other entities are known to be made, or gone, or not, before those that refer to them, or that they refer to, go out. Within one
//! entity they may be under way together, and nothing is said of that here.

use crate::diff::{Action, ActionKind, Standing};
use crate::model::{Entity, FieldRef, RecordId, RecordKey, Reference, StoreName};
use crate::plan::RecordPlan;

use super::super::Trouble;
use super::Applying;
use super::falls::going;

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

impl Applying {
    /// Takes note of a write that did not happen: of what others wait for then.
    pub(super) fn note_undone(&mut self, record: &RecordPlan, action: &Action) {
        let (id, store) = (&record.record, &action.store);
        match action.kind {
            ActionKind::Create => drop(self.missing.insert((id.clone(), store.clone()))),
            ActionKind::Delete => {
                let Some(entity) = self.inputs.spec.entity(&id.entity) else { return };
                let parents = going(entity, record).parents.into_iter();
                self.staying.extend(parents.map(|parent| ((parent, store.clone()), id.clone())));
            }
            ActionKind::Update | ActionKind::Metadata | ActionKind::Bookkeeping => {}
        }
    }

    /// Why a write has to wait for the next pass, if it does.
    pub(super) fn waits(&self, record: &RecordPlan, action: &Action) -> Option<String> {
        let store = &action.store;
        if action.kind == ActionKind::Delete {
            let child = self.staying.get(&(record.record.clone(), store.clone()))?;
            return Some(format!(
                "{child}, which refers to it, is still there in {store}; the next pass looks again"
            ));
        }
        if self.missing.is_empty() || !matches!(action.kind, ActionKind::Create | ActionKind::Update) {
            return None;
        }
        let entity = self.inputs.spec.entity(&record.record.entity)?;
        let mut parents = entity.references.iter().filter_map(|reference| {
            let key = referred(entity, &record.record, action, reference)?;
            Some((RecordId { entity: reference.to.clone(), key }, store.clone()))
        });
        let (parent, _) = parents.find(|place| self.missing.contains(place))?;
        Some(format!("{parent}, which it refers to, could not be made in {store}; the next pass looks again"))
    }

    /// Leaves out the records of the present chunk that have to wait for the next pass in the canonical store.
    pub(super) fn drop_waiting(&mut self) {
        if self.missing.is_empty() && self.staying.is_empty() {
            return;
        }
        let canonical = self.inputs.spec.canonical.clone();
        for (at, record) in self.present() {
            if self.is_fallen(at) {
                continue;
            }
            let own = record.actions.iter().find(|action| action.store == canonical);
            if let Some(why) = own.and_then(|action| self.waits(&record, action)) {
                self.dropped.insert(at);
                self.reach_rest(&record);
                for action in &record.actions {
                    self.shift(at, &action.store, Standing::Pending);
                }
                self.skip(&record.record, &canonical, why);
            }
        }
    }

    fn skip(&mut self, record: &RecordId, store: &StoreName, message: String) {
        self.report.skipped.push(Trouble { record: record.clone(), store: store.clone(), message });
    }

    /// Leaves out a write to another store.
    pub(super) fn leave_waiting(&mut self, at: usize, record: &RecordId, store: &StoreName, why: String) {
        self.shift(at, store, Standing::Pending);
        self.unconfirmed.insert(at);
        self.skip(record, store, why);
    }
}
