//! What a store needs to take part, and the entities that the suite uses.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::tz::TimeZone;
use trueup::model::{
    Batch, BatchId, Cell, Certificate, Column, Direction, Entity, EntityName, Field, FieldId, FieldMapping,
    FieldName, FieldType, Fields, Form, Guard, Home, IntentId, KeyField, KeyMapping, Mapped, Mapping,
    MappingTag, Outcome, RecordKey, Row, Shape, StoreName, SyncMeta, SyncPlace, TableName, Timestamp, Value,
    Version, Write, WriteOp,
};
use trueup::store::{LazyRow, SnapshotItem, SnapshotStream, Store};

/// A store under test, and another application's hands on it.
#[async_trait]
pub(crate) trait Harness: Sized + Send + Sync {
    /// Whether it holds texts with the character U+0000.
    const HOLDS_NUL: bool = true;
    /// Whether it tells an empty text, as a key too, from none.
    const HOLDS_EMPTY: bool = true;
    /// Whether it leaves rows out that nobody asks for.
    const LEAVES_OUT: bool = true;
    /// The finest step of its times, in microseconds.
    const TIME_MICROS: i64 = 1;
    /// Names of a table and of two columns that are as bad as they can be there.
    const HOSTILE_NAMES: [&'static str; 3] = ["th'ings\"; DROP TABLE things; --", "na\"me' --", "select"];

    /// Whether its columns hold a value at all.
    fn holds(_value: &Value) -> bool {
        true
    }

    /// An empty store.
    async fn new() -> Self;
    /// The store.
    fn store(&self) -> Arc<dyn Store>;
    /// Inserts a row.
    async fn insert(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)], meta: &SyncMeta);
    /// Changes fields of a row; nothing else.
    async fn edit(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)]);
    /// Changes the version of a row; nothing else.
    async fn set_version(&self, mapped: &Mapped, key: &RecordKey, version: i64);
    /// Deletes a row.
    async fn delete(&self, mapped: &Mapped, key: &RecordKey);
    /// Puts a text into a field that is no value of the field's type.
    async fn spoil(&self, mapped: &Mapped, key: &RecordKey, field: &str, text: &str);
    /// Takes a field's column away.
    async fn drop_column(&self, mapped: &Mapped, field: &str);
    /// Makes a second row of a key.
    async fn duplicate(&self, mapped: &Mapped, key: &RecordKey);
    /// Adds a column `extra` that no mapping names, with this text in every row.
    async fn add_extra(&self, mapped: &Mapped, text: &str);
    /// What stands in `extra`.
    async fn extra(&self, mapped: &Mapped, key: &RecordKey) -> String;

    /// The store with tables for these entities.
    async fn with(mapped: &[&Mapped]) -> Self {
        let harness = Self::new().await;
        let all: Vec<Mapped> = mapped.iter().map(|one| (*one).clone()).collect();
        let store = harness.store();
        let steps = store.plan_migration(&all).await.expect("planned");
        store.migrate(&steps).await.expect("migrated");
        harness
    }
}

/// A time as a store can hold it.
pub(crate) fn coarse<H: Harness>(time: Timestamp) -> Timestamp {
    let micros = time.micros().div_euclid(H::TIME_MICROS) * H::TIME_MICROS;
    Timestamp::from_micros(micros).expect("in range")
}

/// Whether a store can hold a value of its type at all.
pub(crate) fn can_hold<H: Harness>(value: &Value) -> bool {
    let text = value.to_string();
    let nul = text.contains('\0') || text.contains("\\u0000");
    let empty = matches!(value, Value::Text(text) if text.is_empty())
        || matches!(value, Value::List(items) if items.is_empty());
    let fine = !matches!(value, Value::Time(time) if coarse::<H>(*time) != *time);
    (H::HOLDS_NUL || !nul) && (H::HOLDS_EMPTY || !empty) && fine
}

pub(crate) fn store_name() -> StoreName {
    StoreName::new("under_test").expect("a name")
}

/// Describes an entity and its mapping in a few words.
pub(crate) struct Words {
    pub(crate) name: &'static str,
    pub(crate) table: &'static str,
    pub(crate) key: Vec<(&'static str, FieldType)>,
    /// Name, type, form, column.
    pub(crate) fields: Vec<(&'static str, FieldType, Form, String)>,
    pub(crate) system: bool,
}

impl Words {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, table: name, key: vec![("id", FieldType::String)], fields: Vec::new(), system: false }
    }

    pub(crate) fn field(mut self, name: &'static str, ty: FieldType) -> Self {
        self.fields.push((name, ty, Form::Native, name.to_owned()));
        self
    }

    pub(crate) fn form(mut self, name: &'static str, ty: FieldType, form: Form) -> Self {
        self.fields.push((name, ty, form, name.to_owned()));
        self
    }

    pub(crate) fn mapped(self) -> Mapped {
        let key = self.key.iter().map(|(name, ty)| KeyField { name: field_name(name), ty: *ty }).collect();
        let field = |name: &str, ty| Field {
            name: field_name(name),
            ty,
            required: false,
            unique: false,
            sensitive: false,
            checks: Vec::new(),
            derive: None,
            description: None,
        };
        let entity = Entity {
            name: EntityName::new(self.name).expect("a name"),
            key,
            fields: self.fields.iter().map(|(name, ty, ..)| field(name, *ty)).collect(),
            units: Vec::new(),
            references: Vec::new(),
            times: trueup::model::Times::default(),
            match_rules: Vec::new(),
            conflicts: trueup::model::ConflictPolicy::default(),
            deletes: trueup::model::DeletePolicy::default(),
            default_region: None,
            system: self.system,
            names: trueup::model::Names::default(),
        };
        let place = |at: usize, form, column: &str| {
            let field = FieldId(u16::try_from(at).expect("few fields"));
            let mapping = FieldMapping {
                field,
                column: Column::plain(column),
                form,
                direction: Direction::Both,
                tag: MappingTag(1),
                relation: None,
            };
            (field, mapping)
        };
        let mapping = Mapping {
            entity: entity.name.clone(),
            store: store_name(),
            shape: Shape::Table(TableName { schema: None, name: self.table.to_owned() }),
            home: Home::default(),
            key: self
                .key
                .iter()
                .map(|(name, _)| KeyMapping {
                    column: Column::plain(*name),
                    form: Form::Native,
                    relation: None,
                })
                .collect(),
            fields: self
                .fields
                .iter()
                .enumerate()
                .map(|(at, (_, _, form, column))| place(at, *form, column))
                .collect(),
            sync: sync_columns(),
            triggers: false,
            created: Some(Column::plain("created_at")),
            updated: Some(Column::plain("updated_at")),
            scope: None,
            own_ids: false,
            key_text: None,
            timezone: TimeZone::UTC,
        };
        Mapped { entity: Arc::new(entity), mapping: Arc::new(mapping) }
    }
}

fn field_name(name: &str) -> FieldName {
    FieldName::new(name).expect("a name")
}

pub(crate) fn sync_columns() -> SyncPlace {
    let column = |name: &str| Some(Column::plain(name));
    SyncPlace::Columns {
        version: column("version"),
        last_updated: column("last_updated"),
        last_updated_by: column("last_updated_by"),
        sync_status: column("sync_status"),
        source_systems: column("source_systems"),
        sync_errors: column("sync_errors"),
    }
}

/// An entity with a text `name` and a number `count`.
pub(crate) fn things() -> Mapped {
    Words::new("things").field("name", FieldType::String).field("count", FieldType::Int64).mapped()
}

/// An entity with a key of two parts.
pub(crate) fn pairs() -> Mapped {
    let words = Words { key: vec![("a", FieldType::String), ("b", FieldType::Int64)], ..Words::new("pairs") };
    words.field("name", FieldType::String).mapped()
}

pub(crate) fn key(text: &str) -> RecordKey {
    RecordKey::new(vec![text.to_owned()])
}

pub(crate) fn pair(a: &str, b: &str) -> RecordKey {
    RecordKey::new(vec![a.to_owned(), b.to_owned()])
}

pub(crate) fn meta(version: i64) -> SyncMeta {
    SyncMeta {
        version: Some(Version(version)),
        last_updated: Timestamp::from_micros(1_718_452_800_000_001),
        last_updated_by: Some("app".into()),
        ..SyncMeta::default()
    }
}

pub(crate) fn id_of(mapped: &Mapped, name: &str) -> FieldId {
    mapped.entity.field_id(&field_name(name)).expect("a field")
}

pub(crate) fn values(mapped: &Mapped, fields: &[(&str, Value)]) -> Fields<Value> {
    fields.iter().map(|(name, value)| (id_of(mapped, name), value.clone())).collect()
}

pub(crate) fn guard(mapped: &Mapped, fields: &[(&str, Value)], meta: &SyncMeta) -> Guard {
    let fields = values(mapped, fields).into_iter().map(|(id, value)| (id, Cell::Value(value))).collect();
    Guard { fields, meta: meta.clone() }
}

pub(crate) fn create(mapped: &Mapped, fields: &[(&str, Value)], meta: &SyncMeta) -> WriteOp {
    WriteOp::Create { fields: values(mapped, fields), meta: meta.clone(), created: None, updated: None }
}

pub(crate) fn update(
    mapped: &Mapped,
    fields: &[(&str, Value)],
    meta: Option<SyncMeta>,
    guard: Guard,
) -> WriteOp {
    WriteOp::Update { fields: values(mapped, fields), meta, updated: None, guard }
}

pub(crate) fn batch(id: &str, writes: Vec<(RecordKey, WriteOp)>) -> Batch {
    let write = |(at, (key, op)): (usize, (RecordKey, WriteOp))| Write {
        intent: IntentId(format!("{id}-{at}").into()),
        key,
        store_id: None,
        link: false,
        op,
    };
    Batch {
        id: BatchId(id.into()),
        receipt: false,
        writes: writes.into_iter().enumerate().map(write).collect(),
        along: Vec::new(),
    }
}

/// Applies writes and returns their outcomes in order.
pub(crate) async fn apply(
    store: &Arc<dyn Store>,
    mapped: &Mapped,
    writes: Vec<(RecordKey, WriteOp)>,
) -> Vec<Outcome> {
    apply_batch(store, mapped, &batch("1", writes)).await
}

pub(crate) async fn apply_batch(store: &Arc<dyn Store>, mapped: &Mapped, batch: &Batch) -> Vec<Outcome> {
    let mut outcomes = store.apply(mapped, batch).await.expect("an answer");
    let sure = |write: &&Write| {
        let wrote = !matches!(write.op, WriteOp::Delete { .. });
        wrote && outcomes.get(&write.intent) == Some(&Outcome::Applied(None))
    };
    let sure: Vec<&Write> = batch.writes.iter().filter(sure).collect();
    let keys: Vec<RecordKey> = sure.iter().map(|write| write.key.clone()).collect();
    let mut rows = store.read(mapped, &keys).await.expect("read");
    for write in sure {
        let row = rows.remove(&write.key).expect("a presence").row().expect("there").clone();
        holds_what_was_given(mapped, &write.op, &row);
        outcomes.insert(write.intent.clone(), Outcome::Applied(Some(row)));
    }
    batch.writes.iter().map(|w| outcomes.remove(&w.intent).expect("an outcome")).collect()
}

/// Of a row that a store says nothing of, because it is as it was given.
fn holds_what_was_given(mapped: &Mapped, op: &WriteOp, row: &Row) {
    let (fields, meta, updated) = match op {
        WriteOp::Create { fields, meta, updated, .. } => (fields, Some(meta), updated),
        WriteOp::Update { fields, meta, updated, .. } => (fields, meta.as_ref(), updated),
        WriteOp::Delete { .. } => return,
    };
    for (field, value) in fields {
        assert_eq!(row.fields.get(field).and_then(Cell::value), Some(value), "{} as it was given", row.key);
    }
    if let Some(meta) = meta.filter(|_| mapped.mapping.has_sync()) {
        assert!(row.meta.same_evidence(meta), "{:?} as it was given: {meta:?}", row.meta);
    }
    if updated.is_some() && mapped.mapping.updated.is_some() {
        assert_eq!(row.updated, *updated, "{} as it was given", row.key);
    }
}

/// A whole snapshot; panics unless its keys ascend strictly.
pub(crate) async fn snapshot(store: &Arc<dyn Store>, mapped: &Mapped) -> (Vec<Row>, Certificate) {
    collected(store.snapshot(mapped.clone()).await.expect("a stream")).await
}

pub(crate) async fn collected(mut stream: SnapshotStream) -> (Vec<Row>, Certificate) {
    let mut rows: Vec<Row> = Vec::new();
    let mut certificate = None;
    while let Some(item) = stream.recv().await {
        assert!(certificate.is_none(), "nothing comes after the end");
        match item.expect("a piece") {
            SnapshotItem::Rows(more) => rows.extend(more.into_iter().map(LazyRow::into_row)),
            SnapshotItem::Strays(_) => panic!("these stores have no ids of their own"),
            SnapshotItem::End(end) => certificate = Some(end),
        }
    }
    assert!(rows.is_sorted_by(|a, b| a.key < b.key), "keys ascend strictly");
    (rows, certificate.expect("an end"))
}

pub(crate) async fn read_one(store: &Arc<dyn Store>, mapped: &Mapped, key: &RecordKey) -> Option<Row> {
    let mut read = store.read(mapped, std::slice::from_ref(key)).await.expect("read");
    read.remove(key).expect("a presence").row().cloned()
}

pub(crate) fn value_of(mapped: &Mapped, row: &Row, field: &str) -> Value {
    row.fields.get(&id_of(mapped, field)).expect("known").value().expect("readable").clone()
}
