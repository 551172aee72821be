//! How fast the Postgres store is on a million wide rows. Run by hand, in release:
//! `cargo test --release --test postgres_speed -- --ignored --nocapture`.

#[allow(dead_code)]
#[path = "conformance/harness.rs"]
mod harness;
#[path = "server/mod.rs"]
mod server;

use std::sync::Arc;
use std::time::Instant;

use harness::{Words, batch, create, key, meta, store_name};
use trueup::model::{Column, FieldType, Json, Mapped, Mark, RecordKey, SyncPlace, Timestamp, Value};
use trueup::store::postgres::{PostgresOptions, PostgresStore};
use trueup::store::{SnapshotItem, Store};

const FIELDS: [&str; 18] = [
    "f00", "f01", "f02", "f03", "f04", "f05", "f06", "f07", "f08", "f09", "f10", "f11", "f12", "f13", "f14",
    "f15", "f16", "f17",
];

fn rows() -> i64 {
    std::env::var("TRUEUP_SPEED_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(1_000_000)
}

/// Twenty-two columns, five of them `jsonb`, some 580 bytes a row.
fn wide() -> Mapped {
    let words = FIELDS.iter().enumerate().fold(Words::new("contacts"), |words, (at, name)| {
        words.field(
            name,
            match at % 5 {
                0 => FieldType::Json,
                1 => FieldType::Timestamp,
                _ => FieldType::String,
            },
        )
    });
    let mut mapped = words.mapped();
    let mut mapping = (*mapped.mapping).clone();
    mapping.sync = SyncPlace::Json(Column::plain("sync_metadata"));
    mapped.mapping = Arc::new(mapping);
    mapped
}

fn value(number: i64, at: usize) -> Value {
    match at % 5 {
        0 => Value::Json(Json::new(
            serde_json::json!({ "score": number, "note": "met at the fair", "tags": ["a", "b"] }),
        )),
        1 => Value::Time(Timestamp::from_micros((1_700_000_000 + number) * 1_000_000).expect("in range")),
        _ => Value::text(format!("{number:08} value {at:02}")),
    }
}

async fn snapshot(store: &Arc<dyn Store>, mapped: &Mapped, decoded: bool) -> (i64, Mark) {
    let mut stream = store.snapshot(mapped.clone()).await.expect("a stream");
    let (mut rows, mut mark) = (0, None);
    while let Some(item) = stream.recv().await {
        match item.expect("a piece") {
            SnapshotItem::Rows(more) => {
                rows += i64::try_from(more.len()).expect("few");
                if decoded {
                    for row in more {
                        std::hint::black_box(row.into_row());
                    }
                }
            }
            SnapshotItem::Strays(_) => {}
            SnapshotItem::End(certificate) => mark = certificate.mark,
        }
    }
    (rows, mark.expect("a mark"))
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn a_million_wide_rows() {
    let database = server::database().await;
    let store: Arc<dyn Store> = Arc::new(
        PostgresStore::open(store_name(), &database.url, PostgresOptions::default()).expect("an address"),
    );
    let mapped = wide();
    let steps = store.plan_migration(std::slice::from_ref(&mapped)).await.expect("planned");
    store.migrate(&steps).await.expect("migrated");
    let total = rows();
    let made = total / 5;
    let began = Instant::now();
    let (mut preparing, mut applying) = (0.0, 0.0);
    for chunk in 0..made / 5000 {
        let began = Instant::now();
        let row = |number: i64| {
            let fields: Vec<_> =
                FIELDS.iter().enumerate().map(|(at, name)| (*name, value(number, at))).collect();
            (key(&format!("C{number:07}")), create(&mapped, &fields, &meta(1)))
        };
        let writes = batch(&chunk.to_string(), (chunk * 5000..(chunk + 1) * 5000).map(row).collect());
        preparing += began.elapsed().as_secs_f64();
        let began = Instant::now();
        store.apply(&mapped, &writes).await.expect("applied");
        applying += began.elapsed().as_secs_f64();
    }
    report("created", made, began);
    println!("of which preparing {preparing:.1} s, applying {applying:.1} s");
    let columns = FIELDS.join(", ");
    let sql = format!(
        "INSERT INTO contacts (id, {columns}, sync_metadata) SELECT 'C' || lpad(n::text, 7, '0'), {columns}, sync_metadata
         FROM generate_series({made}, {}) AS n JOIN contacts AS t ON t.id = 'C' || lpad((n % {made})::text, 7, '0')",
        total - 1
    );
    database.sql(&sql).await;
    for statement in ["VACUUM ANALYZE contacts", "CHECKPOINT"] {
        database.sql(statement).await;
    }
    let mut mark = None;
    for (what, decoded) in [("snapshot", false), ("snapshot", false), ("decoded", true)] {
        let began = Instant::now();
        let (rows, made) = snapshot(&store, &mapped, decoded).await;
        mark = Some(made);
        report(what, rows, began);
    }
    let mark = mark.expect("a mark");
    look(&store, &mapped, &mark, "nothing anywhere").await;
    database.sql("CREATE TABLE other (id text)").await;
    look(&store, &mapped, &mark, "nothing here").await;
    let edits = "UPDATE contacts SET f02 = 'edited' WHERE id IN (SELECT 'C' || lpad((n * 1999)::text, 7, '0') FROM generate_series(1, 100) AS n)";
    database.sql(edits).await;
    look(&store, &mapped, &mark, "100 edits").await;
}

async fn look(store: &Arc<dyn Store>, mapped: &Mapped, mark: &Mark, what: &str) {
    let began = Instant::now();
    let mut changes = store.changes(mapped, mark).await.expect("an answer").expect("it can tell");
    let mut rows = 0;
    while let Some(more) = changes.rows().await.expect("rows") {
        rows += i64::try_from(more.len()).expect("few");
    }
    report(what, rows, began);
    let bounds: Vec<RecordKey> = (1..4096).map(|n| key(&format!("C{:07}", n * rows_a_bound()))).collect();
    let began = Instant::now();
    let counts = changes.counts(&bounds).await.expect("counts");
    report("counted in 4096 ranges", i64::try_from(counts.iter().sum::<u64>()).expect("few"), began);
    let began = Instant::now();
    let keys = changes.keys(Some(&bounds[7]), Some(&bounds[8])).await.expect("keys");
    report("listed one range", i64::try_from(keys.len()).expect("few"), began);
}

fn rows_a_bound() -> i64 {
    rows() / 4096
}

#[allow(clippy::cast_precision_loss, clippy::print_stdout)]
fn report(what: &str, rows: i64, began: Instant) {
    let seconds = began.elapsed().as_secs_f64();
    println!("{what}: {rows} rows in {seconds:.3} s, {:.0} a second", rows as f64 / seconds);
}
