//! What became of writes that were in flight when a pass died.

use std::collections::BTreeMap;

use std::sync::Arc;

use crate::model::{
    BatchId, ByName, ByStore, Cell, Deletes, EntityName, FieldName, Intent, IntentEnd, IntentId, IntentKind,
    Presence, RecentDeletes, RecordKey, Row, Shadow, StoreName, Timestamp, Transition, Value, Version,
};
use crate::spec::Spec;

/// What the questions brought to light.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Whether the questions were asked.
    pub asked: bool,
    /// Which batches left a receipt, and what they applied.
    pub receipts: BTreeMap<BatchId, Vec<IntentId>>,
    rows: BTreeMap<(StoreName, EntityName), BTreeMap<RecordKey, Presence>>,
}

impl Found {
    /// Takes what a store holds now; nothing, when it cannot be read.
    pub(super) fn take_rows(
        &mut self,
        store: StoreName,
        entity: EntityName,
        rows: Option<BTreeMap<RecordKey, Presence>>,
    ) {
        if let Some(rows) = rows {
            self.rows.insert((store, entity), rows);
        }
    }

    /// The change of the state that follows. Intents of stores that cannot be read stay open. Deletes that happened count in the account
    /// of the day: whether a person had allowed them is not known any more.
    pub(super) fn transition(&self, spec: &Spec, intents: &[Intent], now: Timestamp) -> Transition {
        let mut transition = Transition::default();
        let mut deleted = RecentDeletes::new();
        for intent in intents {
            let Some((end, advances)) = self.ending(spec, intent) else { continue };
            if intent.kind == IntentKind::Delete && end == IntentEnd::Applied {
                let place = (intent.record.entity.clone(), intent.store.clone());
                *deleted.entry(place).or_default() += 1;
            }
            transition.close.push((intent.id.clone(), end));
            let advances = advances.into_iter().map(|(store, shadow)| (intent.record.clone(), store, shadow));
            transition.shadows.extend(advances);
        }
        let deleted = deleted.into_iter();
        let counted = deleted.map(|((entity, store), count)| Deletes { at: now, entity, store, count });
        transition.deletes = counted.collect();
        transition
    }

    fn ending(&self, spec: &Spec, intent: &Intent) -> Option<(IntentEnd, ByStore<Arc<Shadow>>)> {
        let nothing = ByStore::new;
        if intent.receipt {
            let applied =
                self.receipts.get(&intent.batch).is_some_and(|applied| applied.contains(&intent.id));
            return Some(if applied {
                (IntentEnd::Applied, self.as_answered(spec, intent))
            } else {
                (IntentEnd::NotApplied, nothing())
            });
        }
        if is_element(spec, intent) {
            // It carries no key to be found by: the next look finds it by its value, or finds it gone.
            return Some((IntentEnd::NotApplied, nothing()));
        }
        let rows = self.rows.get(&(intent.store.clone(), intent.record.entity.clone()))?;
        let applied = || Some((IntentEnd::Applied, intent.advances.clone()));
        let not_applied = || Some((IntentEnd::NotApplied, nothing()));
        match (intent.kind, rows.get(&intent.record.key)?) {
            (_, Presence::Unknown(_)) => None,
            (IntentKind::Delete, Presence::Absent) => applied(),
            (IntentKind::Delete, Presence::Present(_))
            | (IntentKind::Create | IntentKind::Update, Presence::Absent) => not_applied(),
            // A row that is there but not as we would have made it meets for the first time.
            (IntentKind::Create, Presence::Present(row)) => {
                if holds_all(spec, intent, row) && meta_is_ours(intent, row) {
                    applied()
                } else {
                    not_applied()
                }
            }
            (IntentKind::Update, Presence::Present(row)) => Some(update_ending(spec, intent, row)),
        }
    }

    /// What is known after a canonical write. Its answer was lost: where the row holds something else than it was given, the store may have
    /// made that of it, so that nobody may be taken to have given up what stands elsewhere. It meets for the first time, and is on record
    /// before it is overwritten.
    fn as_answered(&self, spec: &Spec, intent: &Intent) -> ByStore<Arc<Shadow>> {
        let mut advances = intent.advances.clone();
        let rows = self.rows.get(&(intent.store.clone(), intent.record.entity.clone()));
        let row = rows.and_then(|rows| rows.get(&intent.record.key)).and_then(Presence::row);
        let (Some(row), Some(entity)) = (row, spec.entity(&intent.record.entity)) else { return advances };
        let own = advances.get(&intent.store).cloned();
        // What was not written is somebody's edit, which the next look sees.
        let written = |name: &FieldName| intent.kind == IntentKind::Create || intent.after.contains_key(name);
        for (name, given) in own.iter().flat_map(|own| &own.fields).filter(|(name, _)| written(name)) {
            let cell = entity.field_id(name).and_then(|id| row.fields.get(&id));
            if cell.is_none_or(|cell| cell.value() == given.canonical()) {
                continue;
            }
            for (_, shadow) in advances.iter_mut().filter(|(store, _)| **store != intent.store) {
                let gave =
                    shadow.fields.get(name).is_some_and(|known| known.canonical() == given.canonical());
                if gave {
                    Arc::make_mut(shadow).fields.remove(name);
                }
            }
        }
        advances
    }
}

/// Whether an intent is about an element inside another entity's row.
pub(super) fn is_element(spec: &Spec, intent: &Intent) -> bool {
    let mapping = spec.mapping(&intent.record.entity, &intent.store);
    mapping.is_some_and(|mapping| mapping.embedded().is_some())
}

/// The metadata tells where the write changed it; else the fields do; where neither, the fields count as changed there, by
/// somebody who had seen nothing.
fn update_ending(spec: &Spec, intent: &Intent, row: &Row) -> (IntentEnd, ByStore<Arc<Shadow>>) {
    let applied = (IntentEnd::Applied, intent.advances.clone());
    let not_applied = (IntentEnd::NotApplied, ByStore::new());
    let tells = intent.meta_after.as_ref().is_some_and(|after| !after.same_evidence(&intent.meta_before));
    if tells && meta_is_ours(intent, row) {
        return applied;
    }
    let as_before = row.meta.same_evidence(&intent.meta_before);
    if !tells && holds(spec, intent, row, &intent.after) {
        return applied;
    }
    if as_before && holds(spec, intent, row, &intent.before) {
        return not_applied;
    }
    let mut advances = intent.advances.clone();
    if let Some(shadow) = advances.get_mut(&intent.store).map(Arc::make_mut) {
        // What the row says of itself now is all that is known of its version.
        shadow.meta = row.meta.clone().evidence();
        for (name, field) in &mut shadow.fields {
            if intent.after.contains_key(name) {
                field.unsure = true;
                field.version = Version::NONE;
            }
        }
    }
    advances.retain(|store, _| *store == intent.store);
    (IntentEnd::Unresolved, advances)
}

fn meta_is_ours(intent: &Intent, row: &Row) -> bool {
    intent.meta_after.as_ref().is_none_or(|after| after.same_evidence(&row.meta))
}

/// Whether the row holds what it was to be made with.
fn holds_all(spec: &Spec, intent: &Intent, row: &Row) -> bool {
    let Some(entity) = spec.entity(&intent.record.entity) else { return false };
    let fields = intent.advances.get(&intent.store).map(|shadow| &shadow.fields);
    fields
        .into_iter()
        .flatten()
        .all(|(name, known)| entity.field_id(name).and_then(|id| row.fields.get(&id)) == Some(&known.held))
}

/// Whether the row holds these values.
fn holds(spec: &Spec, intent: &Intent, row: &Row, values: &ByName<Value>) -> bool {
    let Some(entity) = spec.entity(&intent.record.entity) else { return false };
    values.iter().all(|(name, value)| {
        let cell = entity.field_id(name).and_then(|id| row.fields.get(&id));
        cell.and_then(Cell::value) == Some(value)
    })
}
