//! What is written and what is read back are equal, whatever the value: so nothing is ever written twice, and nothing is lost unseen.
//!
//! With `TRUEUP_TEST_TWENTY_URL` and `TRUEUP_TEST_TWENTY_KEY` it is a real server that is written to, in a workspace that is good for nothing
//! else: people get the fields of these tests and keep them; those who are made are destroyed.

use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use trueup::model::{
    Batch, BatchId, Cell, ErrorKind, FieldId, FieldName, Fields, IntentId, Json, Mapped, Outcome, SyncMeta,
    Timestamp, Value, Write, WriteOp, representable,
};
use trueup::store::Store as _;
use trueup::store::twenty::{Pace, TwentyOptions, TwentyStore};

use crate::crm::Crm;
use crate::world::{key, spec, store_name};

fn texts() -> impl Strategy<Value = String> {
    let hostile = [
        "",
        " ",
        " a ",
        "\t",
        "a'b\"c;--",
        "null",
        "NULL",
        "007",
        "{}",
        "[]",
        "日本🦀",
        "e\u{301}",
        "É",
        "a\0b",
        "\u{feff}",
        "line\nline\r\n",
        "{\"a\":1}",
        "\\u0000",
        "<b>",
        "a,b",
        "(a",
        "\u{10ffff}",
        "İ",
        "ß",
        "\u{202e}abc",
    ];
    prop_oneof![
        prop::sample::select(hostile.to_vec()).prop_map(str::to_owned),
        any::<String>(),
        "[a-zA-Z ]{0,40}",
    ]
}

fn emails() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z][A-Za-z0-9.+_'-]{0,12}@[A-Za-z0-9-]{1,8}\\.(com|org|EXAMPLE|co\\.uk)",
        " ?[a-z]{1,8}@Example\\.com ?",
        texts(),
        "[a-zé]{1,6}@bücher\\.example",
    ]
}

fn phones() -> impl Strategy<Value = String> {
    let many = [
        "+1 202 555 0123",
        "+12025550199",
        "+33612345678",
        "+44 7911 123456",
        "+44 20 7946 0958",
        "+39 06 6982",
        "+39 347 1234567",
        "+49 30 123456",
        "+81 3-1234-5678",
        "+55 11 91234-5678",
        "+54 9 11 2345-6789",
        "+52 55 1234 5678",
        "+7 912 345-67-89",
        "+61 2 9374 4000",
        "+86 138 0013 8000",
        "+91 98765 43210",
        "+27 82 123 4567",
        "+41 44 668 18 00",
        "+1 202 555 0142 ext. 5",
        "(202) 555-0123",
        "2025550123",
        "",
        "+1 202 555 0101; +1 202 555 0102",
        "call me",
        "+",
        "+379 06 698",
        "+1 202 555 01",
        "+1 999 555 0123",
        "+44 791234567",
        "+800 1234 5678",
        "+999 123 456 78",
    ];
    prop_oneof![
        4 => prop::sample::select(many.to_vec()).prop_map(str::to_owned),
        2 => "\\+[1-9][0-9]{3,14}",
        1 => texts(),
    ]
}

/// Web addresses, and what is none or none that a server was seen to take: that is not sent.
fn links() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => "(https?|HTTPS?)://[A-Za-z][A-Za-z0-9-]{0,10}[A-Za-z]\\.(com|ORG)(:[1-9][0-9]{1,3}|:443|:80)?(/[a-zA-Z0-9._~-]{1,12}){0,3}/?(\\?q=[A-Z0-9]{1,4})?(#[a-zA-Z]{1,4})?",
        1 => "[a-z]{1,6}\\.(com|org)(:[0-9]{1,6})?(/[ -~é]{0,8})?",
        1 => "(https?|ftp|HTTP)://[ -~é]{0,16}",
        1 => texts(),
        1 => Just(String::new()),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        Just(serde_json::from_str("123456789012345678901234567890").expect("a number")),
        Just(serde_json::from_str("1.0").expect("a number")),
        texts().prop_map(Into::into),
    ];
    let json = leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::btree_map("[a-z\u{0}é]{0,4}", inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    });
    json.prop_map(|json| Value::Json(Json::new(json)))
}

/// A value of a field, or none.
fn value(field: &'static str) -> BoxedStrategy<Value> {
    let text = |strategy: BoxedStrategy<String>| strategy.prop_map(Value::text).boxed();
    let some = match field {
        "email" => text(emails().boxed()),
        "phone" => text(phones().boxed()),
        "profile" => text(links().boxed()),
        "llm_context" => json().boxed(),
        "tags" => prop::collection::vec(texts(), 0..4).prop_map(|list| Value::List(list.into())).boxed(),
        "score" => prop_oneof![any::<i64>(), -10_i64..10, Just(1 << 53), Just((1 << 53) + 1)]
            .prop_map(Value::Int)
            .boxed(),
        "seen_at" => (-377_705_000_000_000_000_i64..253_402_000_000_000_000)
            .prop_map(|micros| Value::Time(Timestamp::from_micros(micros).expect("in range")))
            .boxed(),
        _ => text(texts().boxed()),
    };
    prop_oneof![1 => Just(Value::Null), 6 => some].boxed()
}

const FIELDS: [&str; 10] = [
    "first_name",
    "last_name",
    "job_title",
    "email",
    "phone",
    "profile",
    "notes",
    "llm_context",
    "tags",
    "score",
];

fn rows() -> impl Strategy<Value = Vec<Vec<Value>>> {
    let row = FIELDS.iter().chain(["seen_at"].iter()).map(|field| value(field)).collect::<Vec<_>>();
    prop::collection::vec(row, 1..40)
}

fn names() -> impl Iterator<Item = &'static str> {
    FIELDS.into_iter().chain(["seen_at"])
}

fn write(intent: &str, record: &str, op: WriteOp) -> Write {
    Write { intent: IntentId(intent.into()), key: key(record), store_id: None, link: false, op }
}

fn create(fields: Fields<Value>) -> WriteOp {
    WriteOp::Create { fields, meta: SyncMeta::default(), created: None, updated: None }
}

fn id(mapped: &Mapped, name: &str) -> FieldId {
    mapped.entity.field_id(&FieldName::new(name).expect("a name")).expect("a field")
}

fn held(mapped: &Mapped, field: FieldId, value: &Value) -> Option<Value> {
    let place = &mapped.mapping.fields[&field];
    representable(value, mapped.entity.field(field).ty, place.form, &mapped.mapping.timezone).ok()
}

async fn check(crm: &Crm, store: &TwentyStore, mapped: &Mapped, case: &str, rows: &[Vec<Value>]) {
    let mut wanted: Vec<(String, Fields<Value>)> = Vec::new();
    let mut refused = Vec::new();
    let mut addresses = std::collections::BTreeSet::new();
    for (at, row) in rows.iter().enumerate() {
        let record = format!("C{case}-{at}");
        let mut fields = Fields::new();
        for (name, value) in names().zip(row) {
            let field = id(mapped, name);
            match held(mapped, field, value) {
                // Only one may have an address.
                Some(Value::Text(address)) if name == "email" && !addresses.insert(address.clone()) => {}
                Some(_) => {
                    fields.insert(field, value.clone());
                }
                None => refused.push((field, value.clone())),
            }
        }
        wanted.push((record, fields));
    }
    let writes: Vec<Write> =
        wanted.iter().map(|(record, fields)| write(record, record, create(fields.clone()))).collect();
    let batch = Batch { id: BatchId(case.into()), receipt: false, writes, along: Vec::new() };
    let outcomes = store.apply(mapped, &batch).await.expect("an answer");
    let keys: Vec<_> = wanted.iter().map(|(record, _)| key(record)).collect();
    let read = store.read(mapped, &keys).await.expect("read");
    for (record, fields) in &wanted {
        let outcome = &outcomes[&IntentId(record.clone().into())];
        let Outcome::Applied(Some(answered)) = outcome else { panic!("{record} {fields:?}: {outcome:?}") };
        let row = read[&key(record)].row().expect("there");
        for (field, value) in fields {
            let name = &mapped.entity.field(*field).name;
            let held = held(mapped, *field, value).expect("can be held");
            assert_eq!(
                answered.fields[field],
                Cell::Value(held.clone()),
                "`{name}` as answered, of {value:?}"
            );
            assert_eq!(row.fields[field], Cell::Value(held.clone()), "`{name}` as read, of {value:?}");
            assert_eq!(
                self::held(mapped, *field, &held),
                Some(held),
                "`{name}` is held as it is, of {value:?}"
            );
        }
    }
    let before = store.usage().expect("counted").calls;
    for (at, (field, value)) in refused.into_iter().enumerate().take(40) {
        let one = write("x", &format!("X{case}-{at}"), create([(field, value)].into()));
        let batch = Batch { id: BatchId("x".into()), receipt: false, writes: vec![one], along: Vec::new() };
        let outcomes = store.apply(mapped, &batch).await.expect("an answer");
        assert!(
            matches!(&outcomes[&IntentId("x".into())], Outcome::Refused(error) if error.kind == ErrorKind::Invalid),
            "{outcomes:?}"
        );
    }
    assert_eq!(store.usage().expect("counted").calls, before, "what cannot be held is not sent");
    // All of them away, so that addresses are free again.
    for presence in read.values() {
        let id = presence.row().and_then(|row| row.store_id.as_ref()).expect("there");
        crm.destroy("people", &id.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_is_what_is_read() {
    let (crm, own) = Crm::open();
    let spec = spec();
    let known = ["people", "firms", "jobs"].map(|entity| crate::world::mapped(&spec, entity, "crm"));
    let much = Pace { per_second: 1_000_000, per_minute: 1_000_000 };
    let pace = if own.is_empty() { much } else { Pace::default() };
    let options = TwentyOptions { pace, mapped: known.to_vec(), ..TwentyOptions::default() };
    let (url, secret) = crm.address();
    let store = TwentyStore::open(store_name("crm"), &url, &secret, options).expect("opened");
    store.migrate(&store.plan_migration(&known).await.expect("planned")).await.expect("migrated");
    let mapped = &known[0];
    let seed = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), seed);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(24);
    for case in 0..cases {
        let tree = rows().new_tree(&mut runner).expect("values");
        check(&crm, &store, mapped, &format!("{own}{case}"), &tree.current()).await;
    }
}
