//! How fast the embedded store and state are, and how big the state gets. Run by hand, in release:
//! `cargo test --release --test sqlite_speed -- --ignored --nocapture`.

#[allow(dead_code)]
#[path = "conformance/harness.rs"]
mod harness;

use std::sync::Arc;
use std::time::Instant;

use harness::{Words, batch, create, key, meta, store_name};
use trueup::model::{
    Cell, FieldShadow, FieldType, Json, MappingTag, RecordId, Shadow, StoreName, Timestamp, Transition,
    Value, Version,
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
    let began = Instant::now();
    for chunk in 0..total / 1000 {
        let row = |number: i64| {
            let fields: Vec<_> =
                FIELDS.iter().enumerate().map(|(at, name)| (*name, value(number, at))).collect();
            (key(&format!("C{number:06}")), create(&mapped, &fields, &meta(1)))
        };
        let writes = (chunk * 1000..(chunk + 1) * 1000).map(row).collect();
        store.apply(&mapped, &batch(&chunk.to_string(), writes)).await.expect("applied");
    }
    report("created", total, began);
    raw_rows(&folder.path().join("speed.db")).await;
    for _ in 0..3 {
        let began = Instant::now();
        let mut stream = store.snapshot(mapped.clone()).await.expect("a stream");
        let mut rows = 0;
        while let Some(item) = stream.recv().await {
            if let SnapshotItem::Rows(more) = item.expect("a piece") {
                rows += i64::try_from(more.len()).expect("few");
            }
        }
        report("snapshot", rows, began);
    }
}

/// What the driver alone takes, without a row being looked at.
async fn raw_rows(path: &std::path::Path) {
    use futures_util::TryStreamExt as _;
    use sqlx::Connection as _;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).row_buffer_size(1000);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.expect("connected");
    let began = Instant::now();
    let mut rows = 0;
    let mut stream = sqlx::query("SELECT * FROM contacts ORDER BY id").fetch(&mut connection);
    while stream.try_next().await.expect("a row").is_some() {
        rows += 1;
    }
    report("driver alone", rows, began);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn state_size() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("state.db");
    let state = SqliteState::open(&path).await.expect("opened");
    let total = 100_000_i64;
    let mut data = 0;
    let began = Instant::now();
    for chunk in 0..total / 1000 {
        let mut shadows = Vec::new();
        for number in chunk * 1000..(chunk + 1) * 1000 {
            let record = RecordId {
                entity: trueup::model::EntityName::new("contacts").expect("a name"),
                key: key(&format!("C{number:06}")),
            };
            let mut shadow = Shadow { present: true, meta: meta(1), ..Shadow::default() };
            for at in 0..22 {
                let value = value(number, at);
                data += value.to_string().len();
                let name = trueup::model::FieldName::new(format!("field_{at}")).expect("a name");
                let held = Cell::Value(value);
                let field = FieldShadow {
                    held,
                    stands_for: None,
                    version: Version(1),
                    tag: MappingTag(9),
                    unsure: false,
                };
                shadow.fields.insert(name, field);
            }
            for store in ["bigquery", "local", "supabase"] {
                shadows.push((record.clone(), StoreName::new(store).expect("a name"), shadow.clone()));
            }
        }
        state.commit(&Transition { shadows, ..Transition::default() }).await.expect("committed");
    }
    report("remembered", total, began);
    state.close().await;
    let size = std::fs::metadata(&path).expect("there").len();
    println!("{} bytes a record, of {} bytes of data", size / total.unsigned_abs(), data / 100_000);
}

#[allow(clippy::cast_precision_loss, clippy::print_stdout)]
fn report(what: &str, rows: i64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {rows} rows in {seconds:.2} s, {:.0} a second", rows as f64 / seconds);
}
