//! How fast the embedded store and state are, and how big the state gets. Run by hand, in release:
//! `cargo test --release --test sqlite_speed -- --ignored --nocapture`.

#[allow(dead_code)]
#[path = "conformance/harness.rs"]
mod harness;

use std::sync::Arc;
use std::time::Instant;

use harness::{Words, batch, create, key, meta, store_name};
use trueup::model::{
    BatchId, Cell, FieldShadow, FieldType, Intent, IntentEnd, IntentId, IntentKind, Json, MappingTag,
    RecordId, Shadow, StoreName, Timestamp, Transition, Value, Version,
};
use trueup::state::State as _;
use trueup::state::sqlite::SqliteState;
use trueup::store::sqlite::{SqliteOptions, SqliteStore};
use trueup::store::{SnapshotItem, Store};

const FIELDS: [&str; 16] = [
    "f00", "f01", "f02", "f03", "f04", "f05", "f06", "f07", "f08", "f09", "f10", "f11", "f12", "f13", "f14",
    "f15",
];

fn value(number: i64, at: usize) -> Value {
    match at % 4 {
        0 => Value::Json(Json::new(serde_json::json!({ "score": number, "note": "met at the fair" }))),
        1 => Value::Time(Timestamp::from_micros((1_700_000_000 + number) * 1_000_000).expect("in range")),
        _ => Value::text(format!("{number:08} value of the field {at:02}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn snapshot_and_write() {
    let words = FIELDS.iter().enumerate().fold(Words::new("contacts"), |words, (at, name)| {
        words.field(
            name,
            match at % 4 {
                0 => FieldType::Json,
                1 => FieldType::Timestamp,
                _ => FieldType::String,
            },
        )
    });
    let mapped = words.mapped();
    let folder = tempfile::tempdir().expect("a folder");
    let options = SqliteOptions { create: true, ..SqliteOptions::default() };
    let store =
        SqliteStore::open(store_name(), &folder.path().join("speed.db"), options).await.expect("opened");
    let store: Arc<dyn Store> = Arc::new(store);
    let steps = store.plan_migration(std::slice::from_ref(&mapped)).await.expect("planned");
    store.migrate(&steps).await.expect("migrated");
    let total = 200_000_i64;
    let mut took = std::time::Duration::ZERO;
    for chunk in 0..total / 1000 {
        let row = |number: i64| {
            let fields: Vec<_> =
                FIELDS.iter().enumerate().map(|(at, name)| (*name, value(number, at))).collect();
            (key(&format!("C{number:06}")), create(&mapped, &fields, &meta(1)))
        };
        let batch = batch(&chunk.to_string(), (chunk * 1000..(chunk + 1) * 1000).map(row).collect());
        let began = Instant::now();
        store.apply(&mapped, &batch).await.expect("applied");
        took += began.elapsed();
    }
    report("created", total, took);
    for decoded in [false, true] {
        let began = Instant::now();
        let mut stream = store.snapshot(mapped.clone()).await.expect("a stream");
        let mut rows = 0;
        while let Some(item) = stream.recv().await {
            if let SnapshotItem::Rows(more) = item.expect("a piece") {
                rows += i64::try_from(more.len()).expect("few");
                if decoded {
                    for row in more {
                        drop(row.into_row());
                    }
                }
            }
        }
        report(if decoded { "snapshot, decoded" } else { "snapshot, raw" }, rows, began.elapsed());
    }
    let mut took = std::time::Duration::ZERO;
    for chunk in 0..total / 1000 {
        let row = |number: i64| {
            let before: Vec<_> = (0..4).map(|at| (FIELDS[at], value(number, at))).collect();
            let fields: Vec<_> = (0..4).map(|at| (FIELDS[at], value(number + 1, at))).collect();
            let guard = harness::guard(&mapped, &before, &meta(1));
            (key(&format!("C{number:06}")), harness::update(&mapped, &fields, Some(meta(2)), guard))
        };
        let batch = batch(&format!("u{chunk}"), (chunk * 1000..(chunk + 1) * 1000).map(row).collect());
        let began = Instant::now();
        store.apply(&mapped, &batch).await.expect("applied");
        took += began.elapsed();
    }
    report("updated", total, took);
}

/// A record of 22 fields, five or six of them JSON, as three stores hold it.
fn remembered(number: i64) -> (RecordId, Shadow) {
    let entity = trueup::model::EntityName::new("contacts").expect("a name");
    let record = RecordId { entity, key: key(&format!("C{number:06}")) };
    let mut shadow = Shadow { present: true, meta: meta(1), ..Shadow::default() };
    for at in 0..22 {
        let name = trueup::model::FieldName::new(format!("field_{at}")).expect("a name");
        let field = FieldShadow {
            held: Cell::Value(value(number, at)),
            stands_for: None,
            version: Version(1),
            tag: MappingTag(9),
            unsure: false,
        };
        shadow.fields.insert(name, field);
    }
    (record, shadow)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn state_size() {
    let store = |name: &str| StoreName::new(name).expect("a name");
    let folder = tempfile::tempdir().expect("a folder");
    let total = 100_000_i64;
    for chunk in [1000, 5000] {
        let path = folder.path().join(format!("state-{chunk}.db"));
        let state = SqliteState::open(&path).await.expect("opened");
        let (mut data, mut took) = (0, std::time::Duration::ZERO);
        for from in (0..total).step_by(chunk) {
            let mut shadows = Vec::new();
            for number in from..from + i64::try_from(chunk).expect("few") {
                let (record, shadow) = remembered(number);
                data += shadow
                    .fields
                    .values()
                    .filter_map(|f| f.held.value())
                    .map(|v| v.to_string().len())
                    .sum::<usize>();
                for name in ["bigquery", "local", "supabase"] {
                    shadows.push((record.clone(), store(name), shadow.clone().into()));
                }
            }
            let transition = Transition { shadows, ..Transition::default() };
            let began = Instant::now();
            state.commit(&transition).await.expect("committed");
            took += began.elapsed();
        }
        report(&format!("remembered by {chunk}"), total, took);
        let began = Instant::now();
        let mut after = None;
        let entity = things();
        loop {
            let page = state.page(&entity, after.as_ref(), 2000).await.expect("a page");
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
        }
        report("paged", total, began.elapsed());
        state.close().await;
        let size = std::fs::metadata(&path).expect("there").len();
        println!("{} bytes a record, of {} bytes of data", size / total.unsigned_abs(), data / 100_000);
    }
}

/// The commits of a first load from one store into two: what is adopted, what is intended, what became of it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn state_first_load() {
    let store = |name: &str| StoreName::new(name).expect("a name");
    let folder = tempfile::tempdir().expect("a folder");
    let state = SqliteState::open(&folder.path().join("state.db")).await.expect("opened");
    let (total, chunk) = (100_000_i64, 1000);
    let mut took = [std::time::Duration::ZERO; 3];
    for from in (0..total).step_by(chunk) {
        let mut steps = [Transition::default(), Transition::default(), Transition::default()];
        for number in from..from + 1000 {
            let (record, shadow) = remembered(number);
            steps[0].shadows.push((record.clone(), store("bigquery"), shadow.clone().into()));
            for name in ["local", "supabase"] {
                let batch = BatchId(format!("1-{}-{name}", from / 1000).into());
                let id = IntentId(format!("{batch}-{number}").into());
                let values = |value: &dyn Fn(&FieldShadow) -> Value| -> trueup::model::ByName<Value> {
                    shadow.fields.iter().map(|(name, field)| (name.clone(), value(field))).collect()
                };
                steps[1].open.push(std::sync::Arc::new(Intent {
                    id: id.clone(),
                    batch,
                    store: store(name),
                    receipt: false,
                    record: record.clone(),
                    kind: IntentKind::Create,
                    before: values(&|_| Value::Null),
                    after: values(&|field| field.held.value().cloned().unwrap_or_default()),
                    meta_before: trueup::model::SyncMeta::default(),
                    meta_after: Some(meta(1)),
                    advances: [(store(name), shadow.clone().into())].into(),
                }));
                steps[2].close.push((id, IntentEnd::Applied));
                steps[2].shadows.push((record.clone(), store(name), shadow.clone().into()));
            }
        }
        for (step, took) in steps.iter().zip(&mut took) {
            let began = Instant::now();
            state.commit(step).await.expect("committed");
            *took += began.elapsed();
        }
    }
    for (what, took) in ["adopted", "intended", "ended"].into_iter().zip(took) {
        report(what, total, took);
    }
}

fn things() -> trueup::model::Entity {
    (*Words::new("contacts").mapped().entity).clone()
}

#[allow(clippy::cast_precision_loss, clippy::print_stdout)]
fn report(what: &str, rows: i64, took: std::time::Duration) {
    let seconds = took.as_secs_f64();
    println!("{what}: {rows} rows in {seconds:.2} s, {:.0} a second", rows as f64 / seconds);
}
