//! Rows that row access policies hide: the service leaves them out of an answer without a word, and they never pass for deleted.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trueup::controller::{PassOptions, Refresh};
use trueup::model::{ErrorKind, Mapped, RecordKey, Shape, StoreError, StoreName, TableName};
use trueup::store::bigquery::BigQueryStore;
use trueup::store::{SnapshotItem, Store as _};
use trueup::telemetry::Silent;

use crate::emulator::Emulator;
use crate::proxy::Proxy;
use crate::setting::{Setting, clean_pass};

/// Nobody sees people above this size.
const POLICY: &str =
    "CREATE ROW ACCESS POLICY small ON PEOPLE GRANT TO ('allUsers') FILTER USING (size < 30)";

async fn fill(emulator: &Emulator, setting: &Setting) {
    let sql = "INSERT INTO PEOPLE (id, name, size) SELECT CONCAT('p', CAST(n AS STRING)), 'Person', n FROM UNNEST(GENERATE_ARRAY(1, 40)) AS n";
    setting.cells(emulator, sql).await;
}

fn told(error: &StoreError, table: &str) {
    assert_eq!(error.kind, ErrorKind::Unauthorised, "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("row access policies may hide rows of `{table}`")), "{text}");
    assert!(error.hint.as_deref().is_some_and(|hint| hint.contains("FILTER USING (TRUE)")), "{error:?}");
}

/// A whole read: how many rows came, or why none did.
async fn whole(store: &BigQueryStore, mapped: &Mapped) -> Result<usize, StoreError> {
    let mut stream = store.snapshot(mapped.clone()).await?;
    let mut count = 0;
    while let Some(item) = stream.recv().await {
        if let SnapshotItem::Rows(rows) = item? {
            count += rows.len();
        }
    }
    Ok(count)
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_rows_are_not_deleted_anywhere() {
    let emulator = Emulator::shared();
    let proxy = Proxy::start(&emulator.rest_url(), "people").await;
    let setting = Setting::new(emulator, &proxy.url, "").await;
    fill(emulator, &setting).await;
    let engine = setting.engine().await;
    assert_eq!(clean_pass(&engine).await.applied.create, 40);
    clean_pass(&engine).await;
    setting.cells(emulator, POLICY).await;
    proxy.hide(true);
    for refresh in [Refresh::default(), Refresh::Full] {
        let options = PassOptions { refresh, ..PassOptions::default() };
        let why = match engine.pass(&options, &Silent, &CancellationToken::new()).await {
            Ok(report) => format!("{:?}", report.unreadable),
            Err(error) => error.to_string(),
        };
        assert!(why.contains("row access policies may hide rows of `people`"), "{why}");
    }
    assert_eq!(setting.local_text("SELECT CAST(count(*) AS TEXT) FROM people").as_deref(), Some("40"));
    // Whoever sees every row goes on.
    proxy.hide(false);
    setting.cells(emulator, "DROP ALL ROW ACCESS POLICIES ON PEOPLE").await;
    let engine = setting.engine().await;
    assert_eq!(clean_pass(&engine).await.applied.sum(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_looking_is_refused_where_rows_are_hidden() {
    let emulator = Emulator::shared();
    let proxy = Proxy::start(&emulator.rest_url(), "people").await;
    let setting = Setting::new(emulator, &proxy.url, "").await;
    fill(emulator, &setting).await;
    drop(setting.engine().await);
    let view = setting.table().replace("people", "seen_people");
    setting.cells(emulator, &format!("CREATE VIEW {view} AS SELECT * FROM PEOPLE")).await;
    let mut mapping = trueup::model::Mapping::clone(&setting.mapped().mapping);
    mapping.shape = Shape::Table(TableName { schema: None, name: "seen_people".to_owned() });
    let of_view = Mapped { mapping: Arc::new(mapping), ..setting.mapped() };
    let mut options = emulator.options(&setting.dataset);
    options.emulator.as_mut().unwrap().rest.clone_from(&proxy.url);
    let store = BigQueryStore::open(StoreName::new("warehouse").unwrap(), options).unwrap();
    let key = [RecordKey::new(vec!["p35".to_owned()])];
    for (mapped, table) in [(setting.mapped(), "people"), (of_view, "seen_people")] {
        assert_eq!(whole(&store, &mapped).await.expect("rows"), 40);
        let mut stream = store.snapshot(mapped.clone()).await.expect("a stream");
        let mut mark = None;
        while let Some(item) = stream.recv().await {
            if let SnapshotItem::End(certificate) = item.expect("a piece") {
                mark = certificate.mark;
            }
        }
        let mark = mark.expect("a mark");
        let mut begun = store.changes(&mapped, &mark).await.expect("an answer").expect("changes");
        setting.cells(emulator, POLICY).await;
        proxy.hide(true);
        told(&whole(&store, &mapped).await.expect_err("refused"), table);
        told(&store.read(&mapped, &key).await.expect_err("refused"), table);
        told(&store.changes(&mapped, &mark).await.err().expect("refused"), table);
        told(&begun.counts(&key).await.expect_err("refused"), table);
        told(&begun.keys(None, None).await.expect_err("refused"), table);
        proxy.hide(false);
        setting.cells(emulator, "DROP ALL ROW ACCESS POLICIES ON PEOPLE").await;
        assert_eq!(whole(&store, &mapped).await.expect("rows"), 40);
    }
}
