//! A service that fails in every way it can: what is written is written once, or it is said that it was not, or that it is not known.

use std::time::Duration;

use trueup::model::{
    Batch, BatchId, Cell, ErrorKind, FieldId, FieldName, Fields, Guard, IntentId, Mapped, Outcome, RecordKey,
    StoreName, SyncMeta, Value, Version, Write, WriteOp,
};
use trueup::store::bigquery::{BigQueryStore, Emulator as Address};
use trueup::store::{SnapshotItem, Store as _};

use crate::emulator::Emulator;
use crate::proxy::{How, On, Proxy, REFUSED_VALUE};
use crate::setting::Setting;

/// A store behind a proxy, with two people in it.
struct Broken {
    setting: Setting,
    proxy: Proxy,
    store: BigQueryStore,
    mapped: Mapped,
}

fn meta(version: i64) -> SyncMeta {
    SyncMeta { version: Some(Version(version)), last_updated_by: Some("app".into()), ..SyncMeta::default() }
}

impl Broken {
    async fn new() -> Self {
        let emulator = Emulator::shared();
        let proxy = Proxy::start(&emulator.rest_url(), "people").await;
        let setting = Setting::new(emulator, &emulator.rest_url(), "").await;
        drop(setting.engine().await);
        let mut options = emulator.options(&setting.dataset);
        options.emulator = Some(Address { rest: proxy.url.clone(), grpc: None });
        options.timeout = Duration::from_secs(8);
        let store = BigQueryStore::open(StoreName::new("warehouse").unwrap(), options).unwrap();
        let mapped = setting.mapped();
        Self { setting, proxy, store, mapped }
    }

    /// The table begun anew.
    async fn begin(&self) {
        let emulator = Emulator::shared();
        let table = self.setting.table();
        emulator.query(&format!("DELETE FROM {table} WHERE TRUE"), &[]).await;
        for id in ["a", "b"] {
            let made = self.store.apply(&self.mapped, &batch("0", vec![(id, self.create("old"))])).await;
            assert!(matches!(made.expect("made").values().next(), Some(Outcome::Applied(_))));
        }
    }

    fn field(&self, name: &str) -> FieldId {
        self.mapped.entity.field_id(&FieldName::new(name).unwrap()).unwrap()
    }

    fn create(&self, note: &str) -> WriteOp {
        let fields = [(self.field("name"), Value::text("N")), (self.field("note"), Value::text(note))];
        WriteOp::Create { fields: fields.into(), meta: meta(1), created: None, updated: None }
    }

    fn guard(&self) -> Guard {
        let fields = [(self.field("note"), Cell::Value(Value::text("old")))];
        Guard { fields: fields.into(), meta: meta(1) }
    }

    fn work(&self) -> Batch {
        let fields: Fields<Value> = [(self.field("note"), Value::text("new"))].into();
        let update = WriteOp::Update { fields, meta: Some(meta(2)), updated: None, guard: self.guard() };
        let delete = WriteOp::Delete { guard: self.guard() };
        batch("7-1", vec![("a", update), ("b", delete), ("c", self.create("made"))])
    }

    async fn state(&self) -> Vec<String> {
        let rows = self
            .setting
            .cells(Emulator::shared(), "SELECT CONCAT(id, ' ', note, ' ', CAST(sync_metadata.version AS STRING)) FROM PEOPLE ORDER BY id")
            .await;
        rows.into_iter().map(|row| row[0].as_str().unwrap().to_owned()).collect()
    }
}

fn batch(id: &str, writes: Vec<(&str, WriteOp)>) -> Batch {
    let write = |(at, (key, op)): (usize, (&str, WriteOp))| Write {
        intent: IntentId(format!("{id}-{at}").into()),
        key: RecordKey::new(vec![key.to_owned()]),
        store_id: None,
        link: false,
        op,
    };
    let writes = writes.into_iter().enumerate().map(write).collect();
    Batch { id: BatchId(id.into()), receipt: false, writes, along: Vec::new() }
}

const BEFORE: [&str; 2] = ["a old 1", "b old 1"];
const AFTER: [&str; 2] = ["a new 2", "c made 1"];

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_fails_in_passing_happens_once() {
    let broken = Broken::new().await;
    for faults in [
        &[How::Status(429, "rateLimitExceeded"), How::Status(403, "rateLimitExceeded")][..],
        &[How::Status(500, "internalError"), How::Page(503)],
        &[How::Serialize, How::SerializeLater],
        &[How::OkWithErrors],
        &[How::OkWithErrorsAfter],
        &[How::LostBefore],
        &[How::LostAfter],
    ] {
        broken.begin().await;
        broken.proxy.strike(On::Merge, faults);
        let outcomes = broken.store.apply(&broken.mapped, &broken.work()).await;
        let outcomes = outcomes.unwrap_or_else(|error| panic!("{faults:?}: {error}"));
        assert!(
            outcomes.values().all(|outcome| matches!(outcome, Outcome::Applied(_))),
            "{faults:?}: {outcomes:?}"
        );
        assert_eq!(broken.proxy.struck(), faults.len(), "{faults:?}");
        assert_eq!(broken.state().await, AFTER, "{faults:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_goes_on_failing_is_reported_and_did_not_happen() {
    let broken = Broken::new().await;
    for (fault, kind) in [
        (How::Status(429, "rateLimitExceeded"), ErrorKind::RateLimited),
        (How::Status(403, "quotaExceeded"), ErrorKind::RateLimited),
        (How::Page(503), ErrorKind::Unavailable),
        (How::Serialize, ErrorKind::Unavailable),
        (How::Status(403, "accessDenied"), ErrorKind::Unauthorised),
        (How::Status(400, "bytesBilledLimitExceeded"), ErrorKind::Invalid),
    ] {
        broken.begin().await;
        broken.proxy.strike(On::Merge, &[fault; 60]);
        let error = broken.store.apply(&broken.mapped, &broken.work()).await.expect_err("refused");
        assert_eq!(error.kind, kind, "{fault:?}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
        assert_eq!(broken.state().await, BEFORE, "{fault:?}");
        broken.proxy.strike(On::Merge, &[]);
        let outcomes = broken.store.apply(&broken.mapped, &broken.work()).await.expect("now");
        assert!(outcomes.values().all(|outcome| matches!(outcome, Outcome::Applied(_))), "{outcomes:?}");
        assert_eq!(broken.state().await, AFTER);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_fails_is_never_taken_for_a_smaller_table() {
    let broken = Broken::new().await;
    broken.begin().await;
    for (faults, comes) in [
        (&[How::Status(429, "rateLimitExceeded"), How::Page(502)][..], true),
        (&[How::Status(500, "backendError")], true),
        (&[How::OkWithErrors], true),
        (&[How::LostBefore], true),
        // The count comes first, then the rows.
        (&[How::Short], false),
        (&[How::Status(403, "accessDenied")], false),
    ] {
        broken.proxy.strike(On::Select, faults);
        let mut seen = (0, false);
        let mut error = None;
        match broken.store.snapshot(broken.mapped.clone()).await {
            Err(told) => error = Some(told),
            Ok(mut stream) => {
                while let Some(item) = stream.recv().await {
                    match item {
                        Ok(SnapshotItem::Rows(rows)) => seen.0 += rows.len(),
                        Ok(SnapshotItem::End(certificate)) => seen.1 = certificate.is_complete(),
                        #[allow(unreachable_patterns)]
                        Ok(_) => {}
                        Err(told) => error = Some(told),
                    }
                }
            }
        }
        assert_eq!(broken.proxy.struck(), faults.len(), "{faults:?}");
        assert_eq!((error.is_none(), seen.1), (comes, comes), "{faults:?}: {error:?}");
        assert!(!seen.1 || seen.0 == 2, "{faults:?}: {seen:?}");
    }
    // A page of rows that is short, not the count.
    let keys = ["a", "b"].map(|id| RecordKey::new(vec![id.to_owned()]));
    broken.proxy.strike(On::Select, &[How::Short]);
    assert_eq!(broken.store.read(&broken.mapped, &keys).await.expect_err("short").kind, ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_doubled_meanwhile_does_not_stand_in_for_a_write_that_did_not_happen() {
    let broken = Broken::new().await;
    let table = broken.setting.table();
    let change = |fields: Fields<Value>| WriteOp::Update {
        fields,
        meta: Some(meta(2)),
        updated: None,
        guard: broken.guard(),
    };
    let update = || change([(broken.field("note"), Value::text("new"))].into());
    for (number, first) in [update(), WriteOp::Delete { guard: broken.guard() }].into_iter().enumerate() {
        broken.begin().await;
        broken.proxy.between(&[
            format!("INSERT INTO {table} SELECT * FROM {table} WHERE id = 'a'"),
            format!("UPDATE {table} SET note = 'by hand' WHERE id = 'b'"),
        ]);
        let id = format!("8-{number}");
        let batch = Batch {
            receipt: true,
            ..batch(&id, vec![("a", first), ("b", update()), ("c", broken.create("made"))])
        };
        let outcomes = broken.store.apply(&broken.mapped, &batch).await.expect("answered");
        let of = |at: usize| &outcomes[&batch.writes[at].intent];
        assert!(matches!(of(0), Outcome::Moved), "{:?}", of(0));
        assert!(matches!(of(1), Outcome::Moved), "{:?}", of(1));
        assert!(matches!(of(2), Outcome::Applied(_)), "{:?}", of(2));
        assert_eq!(broken.state().await, ["a old 1", "a old 1", "b by hand 1", "c made 1"]);
        let receipts = broken.store.receipts(std::slice::from_ref(&batch.id)).await.expect("receipts");
        assert_eq!(receipts[&batch.id], [batch.writes[2].intent.clone()], "nor does the receipt say so");
    }
}

/// The names of those that were written, and those that were refused with why.
fn told(
    batch: &Batch,
    outcomes: &std::collections::BTreeMap<IntentId, Outcome>,
) -> (Vec<String>, Vec<(String, String)>) {
    let (mut written, mut refused) = (Vec::new(), Vec::new());
    for write in &batch.writes {
        match &outcomes[&write.intent] {
            Outcome::Applied(_) => written.push(write.key.to_string()),
            Outcome::Refused(error) => refused.push((write.key.to_string(), error.to_string())),
            other => panic!("{}: {other:?}", write.key),
        }
    }
    (written, refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_row_that_is_larger_than_a_request_keeps_no_other_out() {
    let broken = Broken::new().await;
    broken.begin().await;
    let large = "x".repeat(11_000_000);
    let batch = batch(
        "9",
        vec![("c", broken.create("made")), ("d", broken.create(&large)), ("e", broken.create("made"))],
    );
    let outcomes = broken.store.apply(&broken.mapped, &batch).await.expect("answered");
    let (written, refused) = told(&batch, &outcomes);
    assert_eq!((written.len(), refused.len()), (2, 1), "{refused:?}");
    assert!(refused[0].0.contains('d') && refused[0].1.contains("larger than the 10 MB"), "{refused:?}");
    assert_eq!(broken.state().await, ["a old 1", "b old 1", "c made 1", "e made 1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_refused_is_named_with_why_and_keeps_no_other_out() {
    let broken = Broken::new().await;
    broken.begin().await;
    let batch = batch(
        "10",
        vec![("c", broken.create("made")), ("d", broken.create(REFUSED_VALUE)), ("e", broken.create("made"))],
    );
    let outcomes = broken.store.apply(&broken.mapped, &batch).await.expect("answered");
    let (written, refused) = told(&batch, &outcomes);
    assert_eq!((written.len(), refused.len()), (2, 1), "{refused:?}");
    assert!(
        refused[0].1.contains("writing to `people`")
            && refused[0].1.contains("(`invalidQuery`): Bad int64 value …"),
        "{refused:?}"
    );
    assert!(!refused[0].1.contains("s3cret"), "{refused:?}");
    assert_eq!(broken.state().await, ["a old 1", "b old 1", "c made 1", "e made 1"]);
}
