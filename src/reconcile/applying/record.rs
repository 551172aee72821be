//! What must be on record before anything is written, and what is put on record when all is done: conflicts, tombstones, and the
//! canonical records' own account of their troubles.

use std::collections::BTreeMap;

use crate::diff::{ActionKind, Standing};
use crate::model::{
    Batch, BatchId, EntityName, Fields, Guard, IntentId, Outcome, Presence, RecordId, RecordKey, StoreError,
    StoreName, SyncError, SyncMeta, SyncStatus, Write, WriteOp,
};
use crate::plan::RecordPlan;
use crate::resolve::Tombstone;

use super::super::{Effect, Ledger};
use super::{Applying, Stage, create, update};

impl Applying {
    /// Before anything is deleted, the rows that go are read whole, and what earlier passes kept of others of these records. A row that
    /// only leaves a store may be the only one that has what no mapping names.
    pub(super) fn read_images(&mut self) -> Vec<Effect> {
        self.flight.stage = Stage::Record;
        self.load();
        if self.failed.is_some() {
            return Vec::new();
        }
        let mut wanted: BTreeMap<(StoreName, EntityName), Vec<RecordKey>> = BTreeMap::new();
        let mut begun = Vec::new();
        for (at, record) in self.present() {
            if self.is_fallen(at) {
                continue;
            }
            let entity = &record.record.entity;
            let goes = record.tombstone.is_some();
            if goes && self.inputs.ledger.tombstones.contains_key(&record.record) {
                begun.push(Ledger::tombstone_key(&record.record));
            }
            for action in record.actions.iter().filter(|action| action.kind == ActionKind::Delete) {
                // An element is no row: all there is of it is in its fields.
                let mapping = self.inputs.spec.mapping(entity, &action.store);
                if mapping.is_some_and(|mapping| mapping.embedded().is_some()) {
                    continue;
                }
                let place = (action.store.clone(), entity.clone());
                wanted.entry(place).or_default().push(record.record.key.clone());
            }
        }
        let mut effects: Vec<Effect> = wanted
            .into_iter()
            .map(|((store, entity), keys)| Effect::ReadNative { store, entity, keys })
            .collect();
        if !begun.is_empty() {
            let (store, entity) =
                (self.inputs.spec.canonical.clone(), self.ledger.tombstones.entity.name.clone());
            effects.push(Effect::Read { store, entity, keys: begun });
        }
        effects
    }

    /// What tombstones hold already: rows that went in an earlier pass are nowhere else any more.
    pub(super) fn take_kept(&mut self, rows: Result<BTreeMap<RecordKey, Presence>, StoreError>) {
        match rows {
            Ok(rows) => {
                let records = |presence: &Presence| self.ledger.tombstone_records(presence.row()?);
                let kept = rows.iter().filter_map(|(key, presence)| Some((key.clone(), records(presence)?)));
                self.flight.kept = kept.collect();
            }
            Err(error) => self.failed = Some(format!("what was deleted before could not be read: {error}")),
        }
    }

    pub(super) fn take_images(
        &mut self,
        store: &StoreName,
        entity: &EntityName,
        rows: Result<BTreeMap<RecordKey, serde_json::Value>, StoreError>,
    ) {
        match rows {
            Ok(rows) => {
                let id = |key| RecordId { entity: entity.clone(), key };
                let rows = rows.into_iter().map(|(key, row)| ((store.clone(), id(key)), row));
                self.flight.images.extend(rows);
            }
            Err(error) => {
                self.down.insert(store.clone(), error);
            }
        }
    }

    /// Conflicts and tombstones: nothing of a record is written before they are acknowledged.
    pub(super) fn put_on_record(&mut self) -> Vec<Effect> {
        self.flight.stage = Stage::Note;
        let now = self.inputs.now;
        let mut conflicts = Vec::new();
        let mut tombstones = Vec::new();
        for (at, record) in self.present() {
            if self.is_fallen(at) {
                continue;
            }
            for conflict in &record.conflicts {
                let key = RecordKey::new(vec![conflict.id.0.clone()]);
                conflicts.push((key, create(self.ledger.conflict_fields(conflict))));
            }
            if let Some(draft) = &record.tombstone {
                let rows = self.image_of(&record);
                let fields = self.ledger.tombstone_fields(&record.record, draft, false, rows.as_ref());
                let known = self.inputs.ledger.tombstones.get(&record.record);
                let op = if known.is_some() { update(fields, Fields::new()) } else { create(fields) };
                tombstones.push((Ledger::tombstone_key(&record.record), op));
                if let (Some(rows), Some(before)) = (self.of_earlier_life(&record), known) {
                    let fields = self.ledger.left_fields(&record.record, before.version, now, &rows);
                    tombstones.push((Ledger::left_key(&record.record, self.pass), create(fields)));
                }
            } else if let Some(rows) = self.image_of(&record) {
                let version = record.actions.iter().map(|action| action.meta_before.version_or_none()).max();
                let fields = self.ledger.left_fields(&record.record, version.unwrap_or_default(), now, &rows);
                tombstones.push((Ledger::left_key(&record.record, self.pass), create(fields)));
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

    /// The native rows of a record that goes, by store, with those that went earlier; none where nothing goes.
    pub(super) fn image_of(&self, record: &RecordPlan) -> Option<serde_json::Value> {
        let mut going = self.going(record).peekable();
        going.peek()?;
        let mut rows =
            self.flight.kept.get(&Ledger::tombstone_key(&record.record)).cloned().unwrap_or_default();
        rows.extend(going.map(|(store, row)| (store.to_owned(), row.clone())));
        Some(serde_json::Value::Object(rows))
    }

    /// The rows of a record that go now, by store.
    fn going<'r>(&'r self, record: &'r RecordPlan) -> impl Iterator<Item = (&'r str, &'r serde_json::Value)> {
        record.actions.iter().filter_map(|action| {
            let row = self.flight.images.get(&(action.store.clone(), record.record.clone()))?;
            Some((action.store.as_str(), row))
        })
    }

    /// Rows that went when the record was deleted before it was made anew, and in whose place others go now; none where there are none.
    fn of_earlier_life(&self, record: &RecordPlan) -> Option<serde_json::Value> {
        let kept = self.flight.kept.get(&Ledger::tombstone_key(&record.record))?;
        let earlier = self.going(record).filter_map(|(store, row)| {
            let before = kept.get(store).filter(|before| *before != row)?;
            Some((store.to_owned(), before.clone()))
        });
        let earlier: serde_json::Map<String, serde_json::Value> = earlier.collect();
        (!earlier.is_empty()).then_some(serde_json::Value::Object(earlier))
    }

    /// A write to a system table. It needs no intent: its key is its content, so that doing it again does no harm.
    pub(super) fn ledger_write(&self, entity: EntityName, ops: Vec<(RecordKey, WriteOp)>) -> Effect {
        let writes = ops
            .into_iter()
            .map(|(key, op)| Write {
                intent: IntentId(key.parts().join("/").into()),
                key,
                store_id: None,
                link: false,
                op,
            })
            .collect();
        let id = BatchId(format!("{}-{entity}", self.pass).into());
        Effect::Write {
            store: self.inputs.spec.canonical.clone(),
            entity,
            batch: Batch { id, receipt: false, writes, along: Vec::new() },
        }
    }

    /// Takes note of what was put on record: a record whose conflict or tombstone is not, is left.
    pub(super) fn check_on_record(&mut self) {
        let mut missing: BTreeMap<String, String> = BTreeMap::new();
        for (_, outcomes) in std::mem::take(&mut self.flight.outcomes) {
            match outcomes {
                Ok(outcomes) => {
                    for (intent, outcome) in outcomes {
                        // A conflict of this id is on record already: its id is its content.
                        if let Outcome::Refused(error) | Outcome::Unknown(error) = outcome {
                            missing.insert(intent.to_string(), error.to_string());
                        }
                    }
                }
                Err(error) => self.failed = Some(format!("conflicts could not be put on record: {error}")),
            }
        }
        for (at, record) in self.present() {
            if self.is_fallen(at) {
                continue;
            }
            let needs = record.conflicts.iter().map(|conflict| conflict.id.0.clone());
            let tombstone = record.tombstone.is_some().then(|| Ledger::tombstone_key(&record.record));
            let left = record.deletes().then(|| Ledger::left_key(&record.record, self.pass));
            let keys = tombstone.into_iter().chain(left);
            let needs: Vec<String> = needs.chain(keys.map(|key| key.parts().join("/"))).collect();
            if let Some(message) = needs.iter().find_map(|need| missing.get(need)).cloned() {
                self.fail_record(at, &message);
                continue;
            }
            for conflict in &record.conflicts {
                if conflict.status.is_open() {
                    self.report.conflicts_opened += 1;
                    self.report.conflicts_waiting += 1;
                } else {
                    self.report.conflicts_settled += 1;
                }
            }
        }
    }

    /// Keeps what is put on record in the end of the chunk that was just done.
    pub(super) fn keep_endings(&mut self) {
        let metas = std::mem::take(&mut self.flight.canonical_meta);
        let mut troubled = std::mem::take(&mut self.flight.troubled);
        for (at, record) in self.present() {
            self.endings.closes.extend(record.closes.iter().cloned());
            let confirmed = record.tombstone.as_ref().filter(|draft| !draft.pending);
            if let Some(draft) = confirmed.filter(|_| !self.unconfirmed.contains(&at)) {
                self.endings.confirmed.push((record.record.clone(), draft.clone()));
            }
        }
        let present = self.present();
        let written = present.iter().filter(|(at, record)| metas.contains_key(at) && !record.goes());
        for (_, record) in written {
            let begun = self.inputs.ledger.tombstones.get(&record.record);
            if begun.is_some_and(Tombstone::is_pending) {
                self.endings.kept.insert(record.record.clone());
            }
        }
        for (at, record) in &self.flight.loaded {
            let (Some(errors), Some(meta)) = (troubled.remove(at), metas.get(at)) else { continue };
            if !record.deletes() {
                self.endings.troubled.push((record.record.clone(), meta.clone(), errors));
            }
        }
        self.spent.push(std::mem::take(&mut self.flight.loaded));
    }

    /// Conflicts that ended, deletes that every store confirmed, and records that are still waiting for a store.
    pub(super) fn write_endings(&mut self) -> Vec<Effect> {
        self.flight.stage = Stage::Receipts;
        let endings = std::mem::take(&mut self.endings);
        let closed = endings.closes.len() as u64;
        self.report.conflicts_settled += closed;
        self.report.conflicts_waiting = self.report.conflicts_waiting.saturating_sub(closed);
        let closes = endings.closes.iter().map(|conflict| {
            let key = RecordKey::new(vec![conflict.id.0.clone()]);
            (key, update(self.ledger.conflict_fields(conflict), Fields::new()))
        });
        let conflicts: Vec<_> = closes.collect();
        let confirmed = endings.confirmed.iter().map(|(record, draft)| {
            let fields = self.ledger.tombstone_fields(record, draft, true, None);
            (Ledger::tombstone_key(record), update(fields, Fields::new()))
        });
        let kept = endings.kept.iter().map(|record| {
            (Ledger::tombstone_key(record), update(self.ledger.ended_tombstone(), Fields::new()))
        });
        let tombstones: Vec<_> = confirmed.chain(kept).collect();
        self.leave_rest();
        let mut effects = self.bookkeeping(endings.troubled);
        if !conflicts.is_empty() {
            effects.push(self.ledger_write(self.ledger.conflicts.entity.name.clone(), conflicts));
        }
        if !tombstones.is_empty() {
            effects.push(self.ledger_write(self.ledger.tombstones.entity.name.clone(), tombstones));
        }
        effects
    }

    /// What was planned and not reached is left for the next pass.
    fn leave_rest(&mut self) {
        for (entity, sums) in self.plan.records.sums() {
            for (shape, planned) in &sums.shapes {
                // Several shapes have one place in the books: what was reached is taken off the first ones.
                let place = (entity.clone(), shape.store.clone(), shape.kind);
                let reached = self.reached.entry(place).or_default();
                let done = (*planned).min(*reached);
                *reached -= done;
                let Some(from) = shape.kind.standing() else { continue };
                let books = self.report.books.get_mut(entity).and_then(|books| books.get_mut(&shape.store));
                if let Some(books) = books {
                    books.shift_many(from, Standing::Pending, planned - done);
                }
            }
        }
    }

    /// Marks canonical records pending whose replicas could not be written. It is no evidence of anything, so it needs no intent.
    fn bookkeeping(&self, troubled: Vec<(RecordId, SyncMeta, Vec<SyncError>)>) -> Vec<Effect> {
        let mut writes: BTreeMap<EntityName, Vec<(RecordKey, WriteOp)>> = BTreeMap::new();
        for (record, meta, errors) in troubled {
            let mapping = self.inputs.spec.mapping(&record.entity, &self.inputs.spec.canonical);
            if !mapping.is_some_and(|mapping| mapping.has_bookkeeping()) {
                continue;
            }
            let marked =
                SyncMeta { sync_status: Some(SyncStatus::Pending), sync_errors: errors, ..meta.clone() };
            let guard = Guard { fields: Fields::new(), meta };
            let op = WriteOp::Update { fields: Fields::new(), meta: Some(marked), updated: None, guard };
            writes.entry(record.entity).or_default().push((record.key, op));
        }
        writes.into_iter().map(|(entity, ops)| self.ledger_write(entity, ops)).collect()
    }
}
