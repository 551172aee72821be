//! Noting and sending writes.

use std::sync::Arc;

use crate::diff::{Action, ActionKind, Standing};
use crate::model::{
    Batch, BatchId, ByStore, Cell, ErrorKind, FieldName, Fields, Guard, Intent, IntentId, IntentKind,
    RecordId, Shadow, StoreError, Transition, Value, Write, WriteOp,
};

use super::super::Effect;
use super::{Applying, Stage};

impl Applying {
    /// Notes the canonical writes; what is true without one is kept for the end.
    pub(super) fn note_canonical(&mut self) -> Vec<Effect> {
        self.check_on_record();
        if self.failed.is_some() {
            return Vec::new();
        }
        if self.stop {
            return self.leave();
        }
        self.flight.stage = Stage::Canonical;
        self.drop_waiting();
        if self.is_fall_chunk() {
            self.drop_broken_falls();
        }
        let mut transition = Transition::default();
        for (at, record) in self.present() {
            if self.is_fallen(at) {
                continue;
            }
            let own = record.actions.iter().find(|action| action.store == self.inputs.spec.canonical);
            let Some(action) = own else {
                let adopted = record
                    .adopt
                    .iter()
                    .map(|(store, shadow)| (record.record.clone(), store.clone(), shadow.clone()));
                self.flight.later.shadows.extend(adopted);
                continue;
            };
            let mut advances = record.adopt.clone();
            advances.insert(action.store.clone(), action.advance.clone());
            transition.open.push(self.note(at, &record.record, action, advances, true));
        }
        if transition.open.is_empty() { Vec::new() } else { vec![Effect::Commit(transition)] }
    }

    /// Leaves the chunk, of which nothing is noted yet, for the next pass.
    fn leave(&mut self) -> Vec<Effect> {
        self.report.stopped = true;
        for (at, record) in self.present() {
            for action in &record.actions {
                if self.is_of_chunk(at, action) {
                    self.shift(at, &action.store, Standing::Pending);
                }
            }
        }
        self.to(Stage::Landed)
    }

    /// Makes a write ready to be sent, and gives its intent.
    fn note(
        &mut self,
        at: usize,
        record: &RecordId,
        action: &Action,
        advances: ByStore<Arc<Shadow>>,
        receipt: bool,
    ) -> Arc<Intent> {
        let batch = BatchId(format!("{}-{}-{}", self.pass, self.flight.lane, action.store).into());
        let id = IntentId(format!("{batch}-{at}").into());
        let kind = match action.kind {
            ActionKind::Create => IntentKind::Create,
            ActionKind::Delete => IntentKind::Delete,
            ActionKind::Update | ActionKind::Metadata | ActionKind::Bookkeeping => IntentKind::Update,
        };
        let value = |cell: &Cell| cell.value().cloned().unwrap_or_default();
        let held = |name: &FieldName| {
            action.advance.fields.get(name).map(|shadow| value(&shadow.held)).unwrap_or_default()
        };
        // There is nothing before a row is made, and all that is there afterwards is in its shadow.
        let changed = action.changes.iter().filter(|_| kind != IntentKind::Create);
        let intent = Arc::new(Intent {
            id: id.clone(),
            batch,
            store: action.store.clone(),
            receipt,
            record: record.clone(),
            kind,
            before: changed.clone().map(|change| (change.field.clone(), value(&change.before))).collect(),
            after: changed.map(|change| (change.field.clone(), held(&change.field))).collect(),
            meta_before: action.meta_before.clone(),
            meta_after: action.meta_after.clone(),
            advances,
        });
        let write = Write {
            intent: id,
            key: record.key.clone(),
            store_id: action.store_id.clone(),
            link: action.link,
            op: self.operation(record, action),
        };
        let batch = || Batch { id: intent.batch.clone(), receipt, writes: Vec::new(), along: Vec::new() };
        self.flight.ready.entry(action.store.clone()).or_insert_with(batch).writes.push(write);
        self.flight.noted.entry(action.store.clone()).or_default().push((at, Arc::clone(&intent)));
        intent
    }

    pub(super) fn write_canonical(&mut self) -> Vec<Effect> {
        self.flight.stage = Stage::NoteReplicas;
        if self.is_fall_chunk() {
            return self.write_falls();
        }
        self.send(true)
    }

    /// Sends the writes that were noted.
    fn send(&mut self, receipt: bool) -> Vec<Effect> {
        let entity = self.chunk().entity.clone();
        let mut batches = std::mem::take(&mut self.flight.ready);
        for (store, batch) in batches.iter_mut().filter(|_| !receipt) {
            let made = batch.writes.iter().filter(|write| matches!(write.op, WriteOp::Create { .. }));
            let made: Vec<_> = made.map(|write| write.key.clone()).collect();
            if !made.is_empty() {
                batch.along = self.elements_of(&entity, store, &made);
            }
        }
        let mut effects = Vec::with_capacity(batches.len());
        for (store, batch) in batches {
            match self.down.get(&store) {
                None => effects.push(Effect::Write { store, entity: entity.clone(), batch }),
                // It gave up after these were noted. They surely did not happen.
                Some(error) => {
                    let error = StoreError { kind: ErrorKind::Unavailable, ..error.clone() };
                    self.flight.outcomes.push((store, Err(error)));
                }
            }
        }
        effects
    }

    pub(super) fn operation(&self, record: &RecordId, action: &Action) -> WriteOp {
        let entity = self.inputs.spec.entity(&record.entity);
        let id = |name: &FieldName| entity.and_then(|entity| entity.field_id(name));
        let mapping = self.inputs.spec.mapping(&record.entity, &action.store);
        let fields: Fields<Value> = action
            .changes
            .iter()
            .filter_map(|change| {
                let id = id(&change.field)?;
                // Of several that are to be the first one, one can be.
                let held = mapping.filter(|mapping| mapping.tells_first(id)).and_then(|_| {
                    action.advance.fields.get(&change.field).and_then(|known| known.held.value().cloned())
                });
                Some((id, held.unwrap_or_else(|| change.after.clone())))
            })
            .collect();
        let guard = Guard {
            fields: action.guard.iter().filter_map(|(name, cell)| Some((id(name)?, cell.clone()))).collect(),
            meta: action.meta_before.clone(),
        };
        match action.kind {
            ActionKind::Create => WriteOp::Create {
                fields,
                meta: action.meta_after.clone().unwrap_or_default(),
                created: action.created,
                updated: action.updated,
            },
            ActionKind::Delete => WriteOp::Delete { guard },
            ActionKind::Update | ActionKind::Metadata | ActionKind::Bookkeeping => {
                WriteOp::Update { fields, meta: action.meta_after.clone(), updated: action.updated, guard }
            }
        }
    }

    /// Notes the replicas' writes that may now go out. The canonical ones stay open until these have ended too.
    pub(super) fn note_replicas(&mut self) -> Vec<Effect> {
        self.take_outcomes();
        let mut transition = Transition::default();
        self.flight.stage = Stage::Replicas;
        if self.failed.is_some() {
            return Vec::new();
        }
        if self.is_fall_chunk() {
            self.drop_broken_falls();
            return self.to(Stage::NoteEnd);
        }
        let canonical = self.inputs.spec.canonical.clone();
        for (at, record) in self.present() {
            let writes_canonical = record.actions.iter().any(|action| action.store == canonical);
            for action in record.actions.iter().filter(|action| action.store != canonical) {
                if self.inputs.holds.cover(&record.record, &action.store) {
                    self.leave_held(at, &record.record, &action.store);
                    continue;
                }
                if let Some(why) = self.waits(&record, action) {
                    self.leave_waiting(at, &record.record, &action.store, why);
                    continue;
                }
                if let Some(error) = self.down.get(&action.store).cloned() {
                    self.not_written(at, action, &error, Standing::Pending);
                    continue;
                }
                // What goes to the others is what the canonical store made of it, once that was looked at.
                if self.flight.altered.contains_key(&at) {
                    self.shift(at, &action.store, Standing::Pending);
                    continue;
                }
                if self.stop {
                    self.report.stopped = true;
                    self.shift(at, &action.store, Standing::Pending);
                    continue;
                }
                // What is known of the others is noted in the end. Should it not come to that, it must be known by then what this write
                // was made from: else a delete there would pass for a row that never was.
                let mut advances = if writes_canonical { ByStore::new() } else { record.adopt.clone() };
                advances.insert(action.store.clone(), action.advance.clone());
                transition.open.push(self.note(at, &record.record, action, advances, false));
            }
        }
        let mut effects: Vec<Effect> = self.record_altered().into_iter().collect();
        if !transition.is_empty() {
            effects.push(Effect::Commit(transition));
        }
        effects
    }

    pub(super) fn write_replicas(&mut self) -> Vec<Effect> {
        self.take_recorded();
        self.flight.stage = Stage::NoteEnd;
        self.send(false)
    }

    pub(super) fn note_end(&mut self) -> Vec<Effect> {
        self.take_outcomes();
        let transition = std::mem::take(&mut self.flight.later);
        if self.is_fall_chunk() {
            self.spent.push(std::mem::take(&mut self.flight.loaded));
        } else {
            self.keep_endings();
        }
        self.flight.stage = Stage::Landed;
        if transition.is_empty() { Vec::new() } else { vec![Effect::Commit(transition)] }
    }

    pub(super) fn forget_receipts(&mut self) -> Vec<Effect> {
        self.flight.outcomes.clear();
        self.flight.stage = Stage::Done;
        let mut receipts = std::mem::take(&mut self.receipts);
        receipts.dedup();
        if receipts.is_empty() { Vec::new() } else { vec![Effect::ForgetReceipts(receipts)] }
    }
}
