//! The two ways of reading, and what a pass costs.

use std::sync::Arc;

use sqlx::Row as _;
use trueup::controller::PassOptions;
use trueup::model::{Mapped, Shape, StoreName, TableName};
use trueup::plan::cost::cost;
use trueup::plan::{Rates, RenderOptions, render};
use trueup::store::bigquery::{BigQueryOptions, BigQueryStore, ReadPaths};
use trueup::store::{LazyRow, SnapshotItem, Store as _};
use trueup::telemetry::Silent;

use crate::emulator::{Emulator, PROJECT};
use crate::proxy::{BILLED_BYTES, DRY_RUN_BYTES, Proxy};
use crate::server::database;
use crate::setting::{Setting, clean_pass};

/// So many records; `TRUEUP_BIGQUERY_RECORDS` for more.
fn many() -> u32 {
    std::env::var("TRUEUP_BIGQUERY_RECORDS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_000)
}

fn open(options: BigQueryOptions) -> BigQueryStore {
    BigQueryStore::open(StoreName::new("warehouse").unwrap(), options).unwrap()
}

/// People by the thousand, as another application would have them.
async fn fill(emulator: &Emulator, setting: &Setting, many: u32) {
    let sql = format!(
        "INSERT INTO {} (id, name, size, tags) SELECT CONCAT('p', CAST(n AS STRING)), CONCAT('Person ', CAST(n AS STRING)), n, ['t'] \
         FROM UNNEST(GENERATE_ARRAY(1, {many})) AS n",
        setting.table()
    );
    emulator.query(&sql, &[]).await;
}

async fn rows(store: &BigQueryStore, setting: &Setting) -> Vec<trueup::model::Row> {
    let mut stream = store.snapshot(setting.mapped()).await.expect("a stream");
    let mut rows = Vec::new();
    while let Some(item) = stream.recv().await {
        match item.expect("a piece") {
            SnapshotItem::Rows(more) => rows.extend(more.into_iter().map(LazyRow::into_row)),
            SnapshotItem::End(certificate) => assert!(certificate.is_complete(), "{certificate:?}"),
            SnapshotItem::Strays(strays) => panic!("{strays:?}"),
        }
    }
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_of_reading_give_the_same_rows() {
    let emulator = Emulator::shared();
    let setting = Setting::new(emulator, &emulator.rest_url(), "").await;
    fill(emulator, &setting, 30).await;
    let insert = format!(
        "INSERT INTO {} (id, name, size, address, tags, links) VALUES \
         ('é', 'Ada', 9007199254740993, STRUCT('Town', NULL), ['x', ''], [STRUCT('web', 1), STRUCT(NULL, NULL)]), \
         ('', NULL, NULL, NULL, [], [])",
        setting.table()
    );
    emulator.query(&insert, &[]).await;
    drop(setting.engine().await);
    let arrow = open(emulator.options(&setting.dataset));
    let read = rows(&arrow, &setting).await;
    assert_eq!(arrow.read_paths(), ReadPaths { storage: 1, rest: 0 }, "Arrow answered");

    let mut options = emulator.options(&setting.dataset);
    options.emulator.as_mut().unwrap().grpc = None;
    let paged = open(options);
    assert_eq!(rows(&paged, &setting).await, read);
    assert_eq!(paged.read_paths(), ReadPaths { storage: 0, rest: 1 }, "pages answered");

    let mut options = emulator.options(&setting.dataset);
    // Nobody listens there.
    options.emulator.as_mut().unwrap().grpc = Some("http://127.0.0.1:1".to_owned());
    let without = open(options);
    assert_eq!(rows(&without, &setting).await, read);
    assert_eq!(without.read_paths(), ReadPaths { storage: 0, rest: 1 }, "pages stood in");
    assert_eq!(read.len(), 32);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_tables_of_a_pass_are_read_as_of_one_moment() {
    let emulator = Emulator::shared();
    let proxy = Proxy::start(&emulator.rest_url(), "people").await;
    let setting = Setting::new(emulator, &proxy.url, "").await;
    drop(setting.engine().await);
    let table = setting.table();
    emulator
        .query(&format!("CREATE TABLE {} AS SELECT * FROM {table}", table.replace("people", "others")), &[])
        .await;
    let mut mapping = trueup::model::Mapping::clone(&setting.mapped().mapping);
    mapping.shape = Shape::Table(TableName { schema: None, name: "others".to_owned() });
    let others = Mapped { mapping: Arc::new(mapping), ..setting.mapped() };
    let mut options = emulator.options(&setting.dataset);
    options.emulator.as_mut().unwrap().rest.clone_from(&proxy.url);
    let store = open(options);
    let read = async |mapped: Mapped| {
        let mut stream = store.snapshot(mapped).await.expect("a stream");
        while let Some(item) = stream.recv().await {
            item.expect("a piece");
        }
    };
    proxy.reset();
    for pass in 1..=2 {
        store.begin_pass();
        read(setting.mapped()).await;
        read(others.clone()).await;
        assert_eq!(proxy.moments().len(), pass, "{:?}", proxy.moments());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_of_many_is_one_statement_with_one_row_and_no_change_reads_nothing() {
    costs_what_changed(", skip_unmodified: true").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_service_cannot_say_what_was_modified_digests_do() {
    costs_what_changed(", skip_unmodified: false").await;
}

async fn costs_what_changed(more: &str) {
    let emulator = Emulator::shared();
    let proxy = Proxy::start(&emulator.rest_url(), "people").await;
    let setting = Setting::new(emulator, &proxy.url, more).await;
    // A store beside it that can tell what changed as well.
    let database = database().await;
    setting.replace("sqlite: {path: local.db}", &format!("postgres: {{url: \"{}\"}}", database.url));
    fill(emulator, &setting, many()).await;
    let engine = setting.engine().await;
    let first = clean_pass(&engine).await;
    assert_eq!(first.applied.create, u64::from(many()));
    assert!(proxy.rows() >= u64::from(many()), "all of them were read: {}", proxy.rows());
    // What the first pass wrote there is seen once more.
    clean_pass(&engine).await;

    proxy.reset();
    let quiet = clean_pass(&engine).await;
    assert_eq!(
        (quiet.applied.sum(), proxy.rows(), proxy.merges()),
        (0, 0, Vec::new()),
        "{} calls",
        proxy.calls()
    );

    database.sql("UPDATE people SET note = 'changed' WHERE id = 'p2500'").await;
    proxy.reset();
    let one = clean_pass(&engine).await;
    assert_eq!(proxy.merges(), [1], "one statement with one row");
    assert_eq!(one.applied.sum(), 2, "{:?}: there, and the metadata here", one.applied);
    let rows = setting.cells(emulator, "SELECT id FROM PEOPLE WHERE note = 'changed'").await;
    assert_eq!(rows, [["p2500"]]);

    // Edited, made and deleted there by hand: only their buckets are read, and the keys of the stretch that lost one.
    clean_pass(&engine).await;
    let table = setting.table();
    through(&proxy, &format!("UPDATE {table} SET note = 'by hand' WHERE id = 'p77'")).await;
    through(&proxy, &format!("INSERT INTO {table} (id, name) VALUES ('new', 'Person New')")).await;
    through(&proxy, &format!("DELETE FROM {table} WHERE id = 'p99'")).await;
    proxy.reset();
    let third = clean_pass(&engine).await;
    assert!((3..1_500).contains(&proxy.rows()), "{} rows read of {}", proxy.rows(), many());
    assert_eq!((third.applied.create, third.applied.delete), (1, 1), "{:?}", third.applied);
    let mut connection = database.connect().await;
    let note =
        sqlx::query("SELECT note FROM people WHERE id = 'p77'").fetch_one(&mut connection).await.unwrap();
    assert_eq!(note.get::<String, _>(0), "by hand");
    let there = "SELECT count(*) FROM people WHERE id IN ('new', 'p99')";
    let there = sqlx::query(there).fetch_one(&mut connection).await.unwrap();
    assert_eq!(there.get::<i64, _>(0), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pass_is_billed_for_is_told_before_it_and_limited() {
    let emulator = Emulator::shared();
    let proxy = Proxy::start(&emulator.rest_url(), "people").await;
    let setting = Setting::new(emulator, &proxy.url, "").await;
    setting.replace("canonical: true,", "canonical: true, limits: {max_bytes_per_pass: 2GiB},");
    fill(emulator, &setting, 3).await;
    let engine = setting.engine().await;
    clean_pass(&engine).await;
    setting.local("UPDATE people SET note = 'changed' WHERE id <> 'p1'");
    proxy.reset();
    let plan = engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
    let rates = Rates::of(&setting.spec());
    let warehouse = StoreName::new("warehouse").unwrap();
    // Two rows in one statement.
    assert_eq!(cost(&plan, &rates)[&warehouse].billed_bytes, Some(DRY_RUN_BYTES));
    let text = render(&plan, &RenderOptions { rates, ..RenderOptions::default() });
    assert!(text.contains("warehouse 2 rows (billed 50 MiB)"), "{text}");
    // Each query may be billed for what the ones before it left.
    let caps = proxy.caps();
    assert!(caps.len() > 2, "{caps:?}");
    let left: Vec<u64> = (0..caps.len() as u64).map(|before| (2 << 30) - before * BILLED_BYTES).collect();
    assert_eq!(caps, left);
    proxy.reset();
    engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
    assert_eq!(proxy.caps()[0], 2 << 30, "the next pass begins anew");
}

/// A statement of another application, seen by the proxy.
async fn through(proxy: &Proxy, sql: &str) {
    let url = format!("{}/bigquery/v2/projects/{PROJECT}/queries", proxy.url);
    let body = serde_json::json!({ "query": sql, "useLegacySql": false });
    let answer = reqwest::Client::new().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success());
}
