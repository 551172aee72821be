//! Twenty under test: the store against the sandbox, which imports nothing from it. The other application is somebody in the CRM.
//!
//! With `TRUEUP_TEST_TWENTY_URL` and `TRUEUP_TEST_TWENTY_KEY` it is a real server instead, in a workspace that is good for nothing else:
//! every case makes objects of its own there and leaves them. Its limits hold, so `--test-threads 1` and patience are called for.
//!
//! The suite's entities are tables; here they are objects, and their fields have names and forms as a CRM has them. That is all that the
//! store in between does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value as Json, json};
use tokio::sync::mpsc;
use trueup::model::{
    Batch, BatchId, Capabilities, Certificate, Column, FieldType, Form, IntentId, Mapped, Mapping, Native,
    Outcome, Presence, RecordKey, Shape, StoreError, StoreName, SyncMeta, SyncPlace, Value, encode,
};
use trueup::store::twenty::{Clock, Pace, SystemClock, TwentyOptions, TwentyStore};
use trueup::store::{MigrationStep, Probe, SnapshotItem, SnapshotStream, Store};

use crate::crm::Crm;
use crate::harness::*;

const SYNC: &str = "syncMetadata";

/// The machine's clock, ahead of itself where a test says so.
#[derive(Default)]
struct Ahead(AtomicU64);

#[async_trait]
impl Clock for Ahead {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.0.load(Ordering::SeqCst)
    }

    async fn sleep(&self, time: Duration) {
        SystemClock.sleep(time).await;
    }
}

pub(crate) struct OnTwenty {
    crm: Crm,
    store: TwentyStore,
    clock: Arc<Ahead>,
    /// What the names of this case's objects begin with.
    own: String,
}

/// A column's name as a CRM takes it. `name` is a field that every object has already.
fn column(name: &str) -> Column {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    let rest = words.map(|word| word[..1].to_uppercase() + &word[1..]);
    Column::plain(format!("my{}", capital(&rest.fold(first, |text, word| text + &word))))
}

fn capital(text: &str) -> String {
    text[..1].to_uppercase() + &text[1..]
}

fn form(ty: FieldType, form: Form) -> Form {
    match (form, ty) {
        // As numbers they would be floating point.
        (Form::Native, FieldType::String | FieldType::Int64 | FieldType::Numeric) | (Form::Text, _) => {
            Form::CrmText
        }
        (Form::Native, FieldType::Date | FieldType::Timestamp) => Form::CrmTime,
        (Form::Native, FieldType::Json) => Form::JsonText,
        (Form::Native, FieldType::StringList) => Form::CrmList,
        (Form::Int64, _) => Form::CrmNumber,
        (form, _) => form,
    }
}

/// The object of a table. On a real server each case has its own.
fn object(own: &str, mapped: &Mapped) -> String {
    match &mapped.mapping.shape {
        Shape::Table(table) if own.is_empty() => table.name.clone(),
        Shape::Table(table) => format!("{own}{}", table.name),
        _ => unreachable!("tables only"),
    }
}

/// An entity of the suite as an object.
fn adapted(own: &str, mapped: &Mapped) -> Mapped {
    let mapping = &mapped.mapping;
    let fields = mapping.fields.iter().map(|(id, field)| {
        let ty = mapped.entity.field(*id).ty;
        let form = form(ty, field.form);
        (*id, trueup::model::FieldMapping { column: column(field.column.head()), form, ..field.clone() })
    });
    let mapping = Mapping {
        shape: Shape::Object(object(own, mapped)),
        key: mapping
            .key
            .iter()
            .map(|part| trueup::model::KeyMapping {
                column: column(part.column.head()),
                form: Form::CrmText,
                relation: None,
            })
            .collect(),
        fields: fields.collect(),
        sync: SyncPlace::JsonText(Column::plain(SYNC)),
        created: Some(Column::plain("createdAt")),
        updated: Some(Column::plain("updatedThere")),
        own_ids: true,
        ..Mapping::clone(mapping)
    };
    let mut entity = mapped.entity.clone();
    if !own.is_empty() {
        // Objects in the plural are named after it.
        let name = trueup::model::EntityName::new(object(own, mapped)).expect("a name");
        entity = Arc::new(trueup::model::Entity { name, ..trueup::model::Entity::clone(&entity) });
    }
    Mapped { entity, mapping: Arc::new(mapping) }
}

/// The store, asked in the suite's words.
#[derive(Debug)]
struct InOurWords(TwentyStore, String);

impl InOurWords {
    fn adapted(&self, mapped: &Mapped) -> Mapped {
        adapted(&self.1, mapped)
    }

    fn all(&self, mapped: &[Mapped]) -> Vec<Mapped> {
        mapped.iter().map(|mapped| self.adapted(mapped)).collect()
    }
}

#[async_trait]
impl Store for InOurWords {
    fn name(&self) -> &StoreName {
        self.0.name()
    }
    fn capabilities(&self) -> &Capabilities {
        self.0.capabilities()
    }
    async fn probe(&self) -> Result<Probe, StoreError> {
        self.0.probe().await
    }
    async fn plan_migration(&self, mapped: &[Mapped]) -> Result<Vec<MigrationStep>, StoreError> {
        self.0.plan_migration(&self.all(mapped)).await
    }
    async fn migrate(&self, steps: &[MigrationStep]) -> Result<(), StoreError> {
        self.0.migrate(steps).await
    }
    async fn snapshot(&self, mapped: Mapped) -> Result<SnapshotStream, StoreError> {
        let mut stream = self.0.snapshot(self.adapted(&mapped)).await?;
        let (send, receive) = mpsc::channel(1);
        let named = |name: &String| {
            let field =
                mapped.mapping.fields.values().find(|field| column(field.column.head()).head() == name);
            field.map_or_else(|| name.clone(), |field| field.column.to_string())
        };
        let mut items = Vec::new();
        while let Some(item) = stream.recv().await {
            items.push(item.map(|item| match item {
                SnapshotItem::End(end) => SnapshotItem::End(Certificate {
                    missing_columns: end.missing_columns.iter().map(named).collect(),
                    ..end
                }),
                other => other,
            }));
        }
        tokio::spawn(async move {
            for item in items {
                let _ = send.send(item).await;
            }
        });
        Ok(receive)
    }
    async fn read(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Presence>, StoreError> {
        self.0.read(&self.adapted(mapped), keys).await
    }
    async fn read_native(
        &self,
        mapped: &Mapped,
        keys: &[RecordKey],
    ) -> Result<BTreeMap<RecordKey, Json>, StoreError> {
        self.0.read_native(&self.adapted(mapped), keys).await
    }
    async fn apply(&self, mapped: &Mapped, batch: &Batch) -> Result<BTreeMap<IntentId, Outcome>, StoreError> {
        self.0.apply(&self.adapted(mapped), batch).await
    }
    async fn receipts(&self, batches: &[BatchId]) -> Result<BTreeMap<BatchId, Vec<IntentId>>, StoreError> {
        self.0.receipts(batches).await
    }
    async fn forget_receipts(&self, batches: &[BatchId]) -> Result<(), StoreError> {
        self.0.forget_receipts(batches).await
    }
}

/// A value as somebody in the CRM enters it.
fn entered(mapped: &Mapped, field: &str, value: &Value) -> (String, Json) {
    let there = adapted("", mapped);
    let id = id_of(mapped, field);
    let (ty, place) = (mapped.entity.field(id).ty, &there.mapping.fields[&id]);
    let native = encode(value, ty, place.form, &place_zone()).expect("holdable");
    let json = match (native, place.form) {
        (Native::Null, _) => Json::Null,
        (Native::Integer(number), _) => number.into(),
        (Native::Real(number), _) => number.into(),
        (Native::Text(text), Form::CrmList) => serde_json::from_str(&text).expect("a list"),
        (Native::Text(text), _) => text.into(),
        (Native::Blob(_), _) => unreachable!("no bytes"),
    };
    (place.column.head().to_owned(), json)
}

fn place_zone() -> jiff::tz::TimeZone {
    jiff::tz::TimeZone::UTC
}

fn meta_text(meta: &SyncMeta) -> String {
    let mut object = Map::new();
    if let Some(version) = meta.version {
        object.insert("version".into(), version.0.into());
    }
    if let Some(time) = meta.last_updated {
        object.insert("last_updated".into(), time.to_string().into());
    }
    if let Some(by) = &meta.last_updated_by {
        object.insert("last_updated_by".into(), (&**by).into());
    }
    if object.is_empty() { String::new() } else { Json::Object(object).to_string() }
}

impl OnTwenty {
    fn plural(&self, mapped: &Mapped) -> String {
        // The tests' objects are `things`, `pairs` and the like.
        format!("{}es", object(&self.own, mapped))
    }

    async fn find(&self, mapped: &Mapped, key: &RecordKey) -> Json {
        let all = self.crm.all(&self.plural(mapped)).await;
        let own = all.into_iter().find(|record| {
            mapped
                .mapping
                .key
                .iter()
                .zip(key.parts())
                .all(|(part, text)| record[column(part.column.head()).head()] == text.as_str())
        });
        own.expect("the row is there")
    }

    async fn patch(&self, mapped: &Mapped, key: &RecordKey, body: &Json) {
        let id = self.find(mapped, key).await["id"].as_str().expect("an id").to_owned();
        self.crm.patch(&self.plural(mapped), &id, body).await;
    }
}

#[async_trait]
impl Harness for OnTwenty {
    const HOLDS_NUL: bool = false;
    const HOLDS_EMPTY: bool = false;
    const TIME_MICROS: i64 = 1_000;

    async fn new() -> Self {
        let clock = Arc::new(Ahead::default());
        let (crm, own) = Crm::open();
        let much = 1_000_000;
        let pace = if own.is_empty() { Pace { per_second: much, per_minute: much } } else { Pace::default() };
        let options = TwentyOptions { pace, clock: clock.clone(), ..TwentyOptions::default() };
        let (url, key) = crm.address();
        let store = TwentyStore::open(store_name(), &url, &key, options).expect("opened");
        Self { crm, store, clock, own }
    }

    fn store(&self) -> Arc<dyn Store> {
        Arc::new(InOurWords(self.store.clone(), self.own.clone()))
    }

    async fn insert(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)], meta: &SyncMeta) {
        let mut body: Map<String, Json> =
            fields.iter().map(|(name, value)| entered(mapped, name, value)).collect();
        for (part, text) in mapped.mapping.key.iter().zip(key.parts()) {
            body.insert(column(part.column.head()).head().to_owned(), text.as_str().into());
        }
        body.insert(SYNC.into(), meta_text(meta).into());
        let body = Json::Object(body);
        self.crm.create(&self.plural(mapped), &body).await;
    }

    async fn edit(&self, mapped: &Mapped, key: &RecordKey, fields: &[(&str, Value)]) {
        let body = fields.iter().map(|(name, value)| entered(mapped, name, value)).collect();
        self.patch(mapped, key, &Json::Object(body)).await;
    }

    async fn set_version(&self, mapped: &Mapped, key: &RecordKey, version: i64) {
        let record = self.find(mapped, key).await;
        let mut meta: Json = serde_json::from_str(record[SYNC].as_str().expect("metadata")).expect("JSON");
        meta["version"] = version.into();
        self.patch(mapped, key, &json!({ SYNC: meta.to_string() })).await;
    }

    async fn delete(&self, mapped: &Mapped, key: &RecordKey) {
        let id = self.find(mapped, key).await["id"].as_str().expect("an id").to_owned();
        self.crm.destroy(&self.plural(mapped), &id).await;
    }

    async fn spoil(&self, _: &Mapped, _: &RecordKey, _: &str, _: &str) {
        unreachable!("the server takes no values that are none of a field's type");
    }

    async fn drop_column(&self, mapped: &Mapped, field: &str) {
        let there = adapted(&self.own, mapped);
        let name = there.mapping.fields[&id_of(mapped, field)].column.head().to_owned();
        self.crm.drop_field(&object(&self.own, mapped), &name).await;
        // Somewhat later, for what objects there are is asked for once a pass.
        self.clock.0.fetch_add(10_000, Ordering::SeqCst);
    }

    async fn duplicate(&self, _: &Mapped, _: &RecordKey) {
        unreachable!("the key is unique");
    }

    async fn add_extra(&self, _: &Mapped, _: &str) {
        unreachable!("see the store's own tests");
    }

    async fn extra(&self, _: &Mapped, _: &RecordKey) -> String {
        unreachable!("see the store's own tests");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migration_is_idempotent() {
    let all = [things(), pairs()];
    let harness = OnTwenty::new().await;
    let store = harness.store();
    let steps = store.plan_migration(&all).await.expect("planned");
    assert!(steps.iter().any(|step| step.adds.to_lowercase().contains("things")), "{steps:?}");
    store.migrate(&steps).await.expect("migrated");
    assert_eq!(store.plan_migration(&all).await.expect("planned"), [], "nothing is missing any more");
    store.migrate(&steps).await.expect("what is there is not made again");
    let wider = Words::new("things")
        .field("name", FieldType::String)
        .field("count", FieldType::Int64)
        .field("more", FieldType::Json)
        .mapped();
    let steps = store.plan_migration(std::slice::from_ref(&wider)).await.expect("planned");
    assert_eq!(
        steps.iter().map(|step| step.adds.clone()).collect::<Vec<_>>(),
        [format!("field `{}.myMore` (text)", object(&harness.own, &wider))]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_are_refused() {
    let mapped = things();
    let harness = OnTwenty::with(&[&mapped]).await;
    let store = harness.store();
    let mut one = batch("1", vec![(key("a"), create(&mapped, &[], &meta(1)))]);
    one.receipt = true;
    let error = store.apply(&mapped, &one).await.expect_err("refused");
    assert_eq!(error.kind, trueup::model::ErrorKind::Unsupported);
    assert!(!store.capabilities().can_be_canonical && !store.capabilities().atomic_guards);
}
