//! Tables and rows in memory.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{
    Cell, FieldName, Fields, Mapped, RecordKey, Row, StoreRecordId, SyncMeta, Timestamp, Value,
};

use super::super::sync;
use super::faults::Lossy;

/// One row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryRow {
    /// The store's own id of it, in stores that give such ids.
    pub store_id: Option<StoreRecordId>,
    /// The fields, by name. One that is not here is null.
    pub fields: BTreeMap<FieldName, Cell>,
    /// Columns that no mapping names.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// The sync metadata.
    pub meta: SyncMeta,
    /// The creation time.
    pub created: Option<Timestamp>,
    /// The time of the last update.
    pub updated: Option<Timestamp>,
}

/// One table.
#[derive(Debug, Clone, Default)]
pub struct MemoryTable {
    /// The fields that have a column.
    pub columns: BTreeSet<FieldName>,
    /// The rows.
    pub rows: BTreeMap<RecordKey, MemoryRow>,
    /// What the table makes of values of some fields.
    pub lossy: BTreeMap<FieldName, Lossy>,
}

impl MemoryTable {
    /// Takes a field's column away, with everything in it.
    pub fn drop_column(&mut self, field: &FieldName) {
        self.columns.remove(field);
        for row in self.rows.values_mut() {
            row.fields.remove(field);
        }
    }

    /// A row as the mapping shows it.
    pub(super) fn show(&self, mapped: &Mapped, key: &RecordKey, row: &MemoryRow) -> Row {
        let mut fields = Fields::new();
        for id in mapped.mapping.fields.keys() {
            let Some(field) = mapped.entity.fields.get(id.index()) else { continue };
            if self.columns.contains(&field.name) {
                let cell = row.fields.get(&field.name).cloned();
                fields.insert(*id, cell.unwrap_or(Cell::Value(Value::Null)));
            }
        }
        Row {
            key: key.clone(),
            store_id: row.store_id.clone(),
            fields,
            meta: sync::kept(&mapped.mapping.sync, &row.meta),
            created: row.created.filter(|_| mapped.mapping.created.is_some()),
            updated: row.updated.filter(|_| mapped.mapping.updated.is_some()),
            unlinked: false,
        }
    }
}
