//! The store in memory under test.

use std::sync::Arc;

use async_trait::async_trait;
use trueup::model::{Cell, FieldName, Mapped, RecordKey, SyncMeta, Unreadable, Value, Version};
use trueup::store::Store;
use trueup::store::memory::{MemoryRow, MemoryStore};

use crate::harness::{Harness, store_name};

pub(crate) struct OnMemory(MemoryStore);

fn name(text: &str) -> FieldName {
    FieldName::new(text).expect("a name")
}

impl OnMemory {
    fn change(&self, mapped: &Mapped, key: &RecordKey, change: impl FnOnce(&mut MemoryRow)) {
        assert!(self.0.db().edit(mapped, key, change), "the row is there");
    }
}

#[async_trait]
impl Harness for OnMemory {
    const LEAVES_OUT: bool = false;

    async fn new() -> Self {
        Self(MemoryStore::new(store_name()))
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.0.clone())
    }

    async fn insert(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)], meta: &SyncMeta) {
        let fields = fields.iter().map(|(field, value)| (name(field), Cell::Value(value.clone()))).collect();
        self.0.db().put(mapped, key, MemoryRow { fields, meta: meta.clone(), ..MemoryRow::default() });
    }

    async fn edit(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)]) {
        self.change(mapped, key, |row| {
            row.fields.extend(fields.iter().map(|(field, value)| (name(field), Cell::Value(value.clone()))));
        });
    }

    async fn set_version(&self, mapped: &Mapped, key: &RecordKey, version: i64) {
        self.change(mapped, key, |row| row.meta.version = Some(Version(version)));
    }

    async fn delete(&self, mapped: &Mapped, key: &RecordKey) {
        self.0.db().delete(mapped, key).expect("the row is there");
    }

    async fn spoil(&self, mapped: &Mapped, key: &RecordKey, field: &str, text: &str) {
        let fingerprint = text.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte));
        let cell = Cell::Unreadable(Box::new(Unreadable {
            why: "a text cannot be read as int64".into(),
            fingerprint,
        }));
        self.change(mapped, key, |row| {
            row.fields.insert(name(field), cell);
        });
    }

    async fn drop_column(&self, mapped: &Mapped, field: &str) {
        self.0.db().table_mut(mapped).expect("the table").drop_column(&name(field));
    }

    async fn duplicate(&self, mapped: &Mapped, key: &RecordKey) {
        self.0.db().faults.duplicate_keys.insert((mapped.name().clone(), key.clone()));
    }

    async fn add_extra(&self, mapped: &Mapped, text: &str) {
        let mut db = self.0.db();
        for row in db.table_mut(mapped).expect("the table").rows.values_mut() {
            row.extra.insert("extra".into(), text.into());
        }
    }

    async fn extra(&self, mapped: &Mapped, key: &RecordKey) -> String {
        let db = self.0.db();
        let row = &db.table(mapped).expect("the table").rows[key];
        row.extra["extra"].as_str().expect("a text").to_owned()
    }
}
