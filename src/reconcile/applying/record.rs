//! What must be on record before anything is written, and what is put on record when all is done: conflicts, tombstones, and the
//! canonical records' own account of their troubles.

use std::collections::BTreeMap;

use crate::diff::{ActionKind, Standing};
use crate::model::{
    Batch, BatchId, EntityName, Guard, IntentId, Outcome, RecordKey, StoreError, StoreName, SyncMeta,
    SyncStatus, Write, WriteOp,
};
use crate::plan::RecordPlan;

use super::super::{Effect, Ledger};
use super::{Applying, Stage, create, update};

impl Applying {
    /// Before anything is deleted, the rows that go are read whole.
    pub(super) fn read_images(&mut self) -> Vec<Effect> {
        if self.stop {
            self.report.stopped = true;
            return self.to(Stage::Ending);
        }
        self.stage = Stage::Record;
        let chunk = self.chunks[self.at].clone();
        if !chunk.deletes {
            return Vec::new();
        }
        let mut wanted: BTreeMap<StoreName, Vec<RecordKey>> = BTreeMap::new();
        for at in self.todo() {
            let record = &self.plan.records[at];
            if record.tombstone.is_none() {
                continue;
            }
            for action in record.actions.iter().filter(|action| action.kind == ActionKind::Delete) {
                wanted.entry(action.store.clone()).or_default().push(record.record.key.clone());
            }
        }
        wanted
            .into_iter()
            .map(|(store, keys)| Effect::ReadNative { store, entity: chunk.entity.clone(), keys })
            .collect()
    }

    pub(super) fn take_images(
        &mut self,
        store: &StoreName,
        rows: Result<BTreeMap<RecordKey, serde_json::Value>, StoreError>,
    ) {
        match rows {
            Ok(rows) => self.images.extend(rows.into_iter().map(|(key, row)| ((store.clone(), key), row))),
            Err(error) => {
                self.down.insert(store.clone(), error);
            }
        }
    }

    /// Conflicts and tombstones: nothing of a record is written before they are acknowledged.
    pub(super) fn put_on_record(&mut self) -> Vec<Effect> {
        self.stage = Stage::Note;
        let mut conflicts = Vec::new();
        let mut tombstones = Vec::new();
        for at in self.todo() {
            let record = &self.plan.records[at];
            for conflict in &record.conflicts {
                let key = RecordKey::new(vec![conflict.id.0.clone()]);
                conflicts.push((key, create(self.ledger.conflict_fields(conflict))));
            }
            if let Some(draft) = &record.tombstone {
                let rows = self.image_of(record);
                let fields = self.ledger.tombstone_fields(&record.record, draft, false, rows.as_ref());
                let known = self.inputs.ledger.tombstones.contains_key(&record.record);
                let op = if known { update(fields, BTreeMap::new()) } else { create(fields) };
                tombstones.push((Ledger::tombstone_key(&record.record), op));
            }
        }
        let mut effects = Vec::new();
        if !conflicts.is_empty() {
            effects.push(self.ledger_write(self.ledger.conflicts.entity.name.clone(), conflicts));
        }
        if !tombstones.is_empty() {
            effects.push(self.ledger_write(self.ledger.tombstones.entity.name.clone(), tombstones));
        }
        effects
    }

    /// The native rows of a record that goes, by store; none where nothing goes.
    pub(super) fn image_of(&self, record: &RecordPlan) -> Option<serde_json::Value> {
        let rows: serde_json::Map<String, serde_json::Value> = record
            .actions
            .iter()
            .filter_map(|action| {
                let row = self.images.get(&(action.store.clone(), record.record.key.clone()))?;
                Some((action.store.to_string(), row.clone()))
            })
            .collect();
        (!rows.is_empty()).then_some(serde_json::Value::Object(rows))
    }

    /// A write to a system table. It needs no intent: its key is its content, so that doing it again does no harm.
    pub(super) fn ledger_write(&self, entity: EntityName, ops: Vec<(RecordKey, WriteOp)>) -> Effect {
        let writes = ops
            .into_iter()
            .map(|(key, op)| Write { intent: IntentId(key.parts().join("/")), key, store_id: None, op })
            .collect();
        let id = BatchId(format!("{}-{entity}", self.pass));
        Effect::Write {
            store: self.inputs.spec.canonical.clone(),
            entity,
            batch: Batch { id, receipt: false, writes },
        }
    }

    /// Takes note of what was put on record: a record whose conflict or tombstone is not, is left.
    pub(super) fn check_on_record(&mut self) {
        let mut missing: BTreeMap<String, String> = BTreeMap::new();
        for (_, outcomes) in std::mem::take(&mut self.outcomes) {
            match outcomes {
                Ok(outcomes) => {
                    for (intent, outcome) in outcomes {
                        // A conflict of this id is on record already: its id is its content.
                        if let Outcome::Refused(error) | Outcome::Unknown(error) = outcome {
                            missing.insert(intent.0, error.to_string());
                        }
                    }
                }
                Err(error) => self.failed = Some(format!("conflicts could not be put on record: {error}")),
            }
        }
        for at in self.todo() {
            let record = &self.plan.records[at];
            let needs = record.conflicts.iter().map(|conflict| conflict.id.0.clone());
            let needs: Vec<String> =
                needs.chain(record.tombstone.is_some().then(|| record.record.to_string())).collect();
            if let Some(message) = needs.iter().find_map(|need| missing.get(need)).cloned() {
                self.fail_record(at, &message);
                continue;
            }
            for conflict in &self.plan.records[at].conflicts {
                if conflict.status.is_open() {
                    self.report.conflicts_opened += 1;
                } else {
                    self.report.conflicts_settled += 1;
                }
            }
        }
    }

    /// Conflicts that ended, deletes that every store confirmed, and records that are still waiting for a store.
    pub(super) fn write_endings(&mut self) -> Vec<Effect> {
        self.stage = Stage::Receipts;
        let mut conflicts = Vec::new();
        let mut tombstones = Vec::new();
        let done = if self.report.stopped { self.at } else { self.chunks.len() };
        let reached: Vec<usize> =
            self.chunks[..done].iter().flat_map(|chunk| chunk.records.clone()).collect();
        for at in reached.into_iter().filter(|at| !self.dropped.contains(at)) {
            let record = &self.plan.records[at];
            for conflict in &record.closes {
                let key = RecordKey::new(vec![conflict.id.0.clone()]);
                conflicts.push((key, update(self.ledger.conflict_fields(conflict), BTreeMap::new())));
                self.report.conflicts_settled += 1;
            }
            if let Some(draft) =
                record.tombstone.as_ref().filter(|draft| !draft.pending && !self.unconfirmed.contains(&at))
            {
                let fields = self.ledger.tombstone_fields(&record.record, draft, true, None);
                tombstones.push((Ledger::tombstone_key(&record.record), update(fields, BTreeMap::new())));
            }
        }
        for at in self.chunks[done..].iter().flat_map(|chunk| chunk.records.clone()).collect::<Vec<_>>() {
            for store in
                self.plan.records[at].actions.iter().map(|action| action.store.clone()).collect::<Vec<_>>()
            {
                self.shift(at, &store, Standing::Pending);
            }
        }
        let mut effects = self.bookkeeping();
        if !conflicts.is_empty() {
            effects.push(self.ledger_write(self.ledger.conflicts.entity.name.clone(), conflicts));
        }
        if !tombstones.is_empty() {
            effects.push(self.ledger_write(self.ledger.tombstones.entity.name.clone(), tombstones));
        }
        effects
    }

    /// Marks canonical records pending whose replicas could not be written. It is no evidence of anything, so it needs no intent.
    pub(super) fn bookkeeping(&mut self) -> Vec<Effect> {
        let mut writes: BTreeMap<EntityName, Vec<(RecordKey, WriteOp)>> = BTreeMap::new();
        for (at, errors) in std::mem::take(&mut self.troubled) {
            let record = &self.plan.records[at];
            let mapping = self.inputs.spec.mapping(&record.record.entity, &self.inputs.spec.canonical);
            let (Some(meta), true) =
                (self.canonical_meta.get(&at), mapping.is_some_and(|mapping| mapping.has_bookkeeping()))
            else {
                continue;
            };
            if record.deletes() {
                continue;
            }
            let marked =
                SyncMeta { sync_status: Some(SyncStatus::Pending), sync_errors: errors, ..meta.clone() };
            let guard = Guard { fields: BTreeMap::new(), meta: meta.clone() };
            let op = WriteOp::Update { fields: BTreeMap::new(), meta: Some(marked), updated: None, guard };
            writes.entry(record.record.entity.clone()).or_default().push((record.record.key.clone(), op));
        }
        writes.into_iter().map(|(entity, ops)| self.ledger_write(entity, ops)).collect()
    }
}
