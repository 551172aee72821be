//! Writes to a store in memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Batch, Cell, ErrorKind, Falls, Fields, Guard, IntentId, Mapped, Outcome, RecordKey, Row, StoreError,
    SyncMeta, Timestamp, Value, Write, WriteOp,
};

use super::super::falls::{failed, none_of};
use super::super::sync;
use super::super::{check_write, guard_holds, repeated_keys};
use super::db::MemoryDb;
use super::table::{MemoryRow, MemoryTable};

/// What a write puts into a row.
struct Change<'a> {
    fields: &'a Fields<Value>,
    meta: Option<&'a SyncMeta>,
    created: Option<Timestamp>,
    updated: Option<Timestamp>,
}

impl MemoryDb {
    /// Applies a batch.
    pub fn apply(
        &mut self,
        mapped: &Mapped,
        batch: &Batch,
    ) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        if mapped.mapping.own_ids {
            self.reach()?;
        } else {
            self.mapped_table(mapped)?;
        }
        if let Some(hook) = self.faults.before_batch.take() {
            (hook.0)(self);
            // The hook may have taken the table away.
            if !mapped.mapping.own_ids {
                self.mapped_table(mapped)?;
            }
        }
        if self.faults.fail_batches > 0 {
            self.faults.fail_batches -= 1;
            return Err(self.error(ErrorKind::Unavailable, "the store gave up before anything was written"));
        }
        let repeated = repeated_keys(batch);
        let mut outcomes = BTreeMap::new();
        if mapped.mapping.embedded().is_some() {
            outcomes = self.apply_elements(mapped, batch, &repeated);
        } else {
            for write in &batch.writes {
                let outcome = self.apply_one(mapped, write, &repeated);
                outcomes.insert(write.intent.clone(), outcome);
            }
        }
        let applied = batch.writes.iter().map(|write| &write.intent);
        let applied: Vec<IntentId> = applied
            .filter(|intent| matches!(outcomes.get(intent), Some(Outcome::Applied(_))))
            .cloned()
            .collect();
        self.writes_applied += u64::try_from(applied.len()).unwrap_or(u64::MAX);
        if batch.receipt {
            self.receipts.entry(batch.id.clone()).or_default().extend(applied);
        }
        if self.faults.lose_answers > 0 {
            self.faults.lose_answers -= 1;
            return Err(self.error(ErrorKind::OutcomeUnknown, "the answer to a write never came"));
        }
        Ok(outcomes)
    }

    /// Deletes what goes together.
    pub fn apply_falls(&mut self, falls: &Falls) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        // What somebody does meanwhile stays.
        if let Some(hook) = self.faults.before_batch.take() {
            (hook.0)(self);
        }
        let mut outcomes = BTreeMap::new();
        for fall in &falls.falls {
            let before = (self.tables.clone(), self.receipts.clone(), self.writes_applied);
            let mut stays = None;
            for (entity, write) in fall {
                let Some(mapped) = falls.mapped.iter().find(|mapped| mapped.name() == entity) else {
                    continue;
                };
                let writes = vec![write.clone()];
                let batch = Batch { id: falls.id.clone(), receipt: true, writes, along: Vec::new() };
                match self.apply(mapped, &batch).map(|mut done| done.remove(&write.intent)) {
                    Ok(Some(Outcome::Applied(_))) => {}
                    Ok(why) => stays = Some(why.unwrap_or(Outcome::Moved)),
                    Err(error) if outcomes.is_empty() && error.kind != ErrorKind::OutcomeUnknown => {
                        (self.tables, self.receipts, self.writes_applied) = before;
                        return Err(error);
                    }
                    Err(error) => stays = Some(failed(&error)),
                }
                if let Some(why) = &stays {
                    outcomes.extend(none_of(self.name(), fall, &write.intent, why));
                    break;
                }
            }
            if stays.is_some() {
                (self.tables, self.receipts, self.writes_applied) = before;
                continue;
            }
            outcomes.extend(fall.iter().map(|(_, write)| (write.intent.clone(), Outcome::Applied(None))));
        }
        Ok(outcomes)
    }

    fn apply_one(&mut self, mapped: &Mapped, write: &Write, repeated: &BTreeSet<&RecordKey>) -> Outcome {
        if let Err(error) = check_write(self.name(), mapped, write, repeated) {
            return Outcome::Refused(error);
        }
        let address = (mapped.name().clone(), write.key.clone());
        if self.faults.refuse.contains(&address) {
            return Outcome::Refused(
                self.error(ErrorKind::Invalid, format!("refused to write {}", write.key)),
            );
        }
        if self.faults.duplicate_keys.contains(&address) {
            return Outcome::Refused(
                self.error(ErrorKind::Conflict, format!("more than one row has the key {}", write.key)),
            );
        }
        if mapped.mapping.own_ids {
            return self.apply_object(mapped, write);
        }
        let id = (self.gives_ids && matches!(write.op, WriteOp::Create { .. })).then(|| self.next_id());
        let name = self.name().clone();
        let refused = |message| Outcome::Refused(StoreError::new(ErrorKind::Invalid, &name, message));
        let Some(table) = self.table_mut(mapped) else { return Outcome::Moved };
        let there = table.rows.get(&write.key).map(|row| table.show(mapped, &write.key, row));
        let result = match (&write.op, there) {
            (WriteOp::Create { fields, meta, created, updated }, None) => {
                let row = MemoryRow { store_id: id, ..MemoryRow::default() };
                let change = Change { fields, meta: Some(meta), created: *created, updated: *updated };
                put(table, mapped, &write.key, row, &change)
            }
            (WriteOp::Update { fields, meta, updated, guard }, Some(row)) if holds(guard, &row) => {
                let row = table.rows.get(&write.key).cloned().unwrap_or_default();
                let change = Change { fields, meta: meta.as_ref(), created: None, updated: *updated };
                put(table, mapped, &write.key, row, &change)
            }
            (WriteOp::Delete { guard }, Some(row)) if holds(guard, &row) => {
                table.rows.remove(&write.key);
                return Outcome::Applied(None);
            }
            _ => return Outcome::Moved,
        };
        match result {
            Ok(row) => Outcome::Applied(Some(row)),
            Err(message) => refused(message),
        }
    }
}

fn holds(guard: &Guard, row: &Row) -> bool {
    guard_holds(guard, row)
}

fn put(
    table: &mut MemoryTable,
    mapped: &Mapped,
    key: &RecordKey,
    mut row: MemoryRow,
    change: &Change<'_>,
) -> Result<Row, String> {
    let mapping = &mapped.mapping;
    for (id, value) in change.fields {
        let (Some(field), Some(place)) = (mapped.entity.fields.get(id.index()), mapping.fields.get(id))
        else {
            return Err("a field without a place here".to_owned());
        };
        if !table.columns.contains(&field.name) {
            return Err(format!("there is no column for `{}`", field.name));
        }
        let held = crate::model::representable(value, field.ty, place.form, &mapping.timezone)
            .map_err(|error| format!("`{}`: {error}", field.name))?;
        let held = table.lossy.get(&field.name).map_or_else(|| held.clone(), |lossy| (lossy.0)(&held));
        row.fields.insert(field.name.clone(), Cell::Value(held));
    }
    if let Some(meta) = change.meta {
        row.meta = sync::kept(&mapping.sync, meta);
    }
    if mapping.created.is_some() {
        row.created = change.created.or(row.created);
    }
    if mapping.updated.is_some() {
        row.updated = change.updated.or(row.updated);
    }
    let shown = table.show(mapped, key, &row);
    table.rows.insert(key.clone(), row);
    Ok(shown)
}
