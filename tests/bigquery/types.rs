//! Every type, by itself and inside an ARRAY of STRUCTs, on both ways of reading, and there and back.

use std::fmt::Write as _;

use serde_json::Value as Json;
use trueup::controller::{PassOptions, Refresh};
use trueup::model::{EntityName, RecordId, RecordKey, StoreName};
use trueup::store::bigquery::BigQueryStore;
use trueup::store::{LazyRow, SnapshotItem, Store as _};
use trueup::telemetry::Silent;

use crate::emulator::Emulator;
use crate::setting::{Setting, clean_pass, pass, plan};

/// A type; a value of it in SQL; the same as the JSON that another store has.
const TYPES: &[(&str, &str, &str, &str)] = &[
    ("num", "NUMERIC", "NUMERIC '12.25'", "12.25"),
    ("whole", "NUMERIC", "NUMERIC '7'", "7"),
    ("bignum", "BIGNUMERIC", "BIGNUMERIC '0.5'", "0.5"),
    ("n", "INT64", "9007199254740993", "9007199254740993"),
    ("fl", "FLOAT64", "0.1", "0.1"),
    ("bo", "BOOL", "TRUE", "true"),
    ("tx", "STRING", "'12.250'", "\"12.250\""),
    ("da", "DATE", "DATE '2024-01-02'", "\"2024-01-02\""),
    ("dt", "DATETIME", "DATETIME '2024-01-02 03:04:05.12'", "\"2024-01-02T03:04:05.12\""),
    ("ts", "TIMESTAMP", "TIMESTAMP '2024-01-02 03:04:05.5+00'", "\"2024-01-02T03:04:05.5Z\""),
    ("ti", "TIME", "TIME '10:11:12.5'", "\"10:11:12.5\""),
    ("js", "JSON", "JSON '{\"a\": [1, \"2\"]}'", "{\"a\":[1,\"2\"]}"),
    ("byt", "BYTES", "b'hi'", "\"aGk=\""),
    ("arr", "ARRAY<INT64>", "[1, 2]", "[1,2]"),
    (
        "st",
        "STRUCT<w STRING, z TIME>",
        "STRUCT('x' AS w, TIME '01:02:03' AS z)",
        "{\"w\":\"x\",\"z\":\"01:02:03\"}",
    ),
];

/// People with a column for each type, and a TIME by itself.
async fn typed(emulator: &Emulator, more: &str) -> Setting {
    let setting = Setting::new(emulator, &emulator.rest_url(), more).await;
    let (mut fields, mut columns) = (String::new(), String::new());
    for (name, ty, ..) in TYPES {
        write!(fields, "\n    {name}: json").unwrap();
        write!(columns, ", {name} ARRAY<STRUCT<v {ty}>>").unwrap();
    }
    setting.replace("    facts: json", &format!("    facts: json\n    opens: string{fields}"));
    setting.cells(emulator, "DROP TABLE PEOPLE").await;
    let create = format!(
        "CREATE TABLE PEOPLE (id STRING NOT NULL, name STRING, note STRING, size INT64, address STRUCT<city STRING>, \
         tags ARRAY<STRING>, links ARRAY<STRUCT<kind STRING, n INT64>>, facts JSON, opens TIME{columns})"
    );
    setting.cells(emulator, &create).await;
    setting
}

async fn rows(store: &BigQueryStore, setting: &Setting) -> Vec<trueup::model::Row> {
    let mut stream = store.snapshot(setting.mapped()).await.expect("a stream");
    let mut rows = Vec::new();
    while let Some(item) = stream.recv().await {
        if let SnapshotItem::Rows(more) = item.expect("a piece") {
            rows.extend(more.into_iter().map(LazyRow::into_row));
        }
    }
    rows
}

fn of_local(setting: &Setting, name: &str, id: &str) -> Option<Json> {
    let text = setting.local_text(&format!("SELECT \"{name}\" FROM people WHERE id = '{id}'"));
    text.map(|text| serde_json::from_str(&text).expect("JSON"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_type_is_the_same_both_ways_of_reading_and_there_and_back() {
    let emulator = Emulator::shared();
    let setting = typed(emulator, &format!(", emulator_grpc: \"{}\"", emulator.grpc_url())).await;
    let names: Vec<&str> = TYPES.iter().map(|(name, ..)| *name).collect();
    let values: Vec<String> = TYPES.iter().map(|(.., sql, _)| format!("[STRUCT({sql} AS v)]")).collect();
    let insert = format!(
        "INSERT INTO PEOPLE (id, name, opens, {}) VALUES ('there', 'Ada', TIME '10:11:12.5', {})",
        names.join(", "),
        values.join(", ")
    );
    setting.cells(emulator, &insert).await;
    let engine = setting.engine().await;
    for (name, .., json) in TYPES {
        let list = format!("[{{\"v\":{json}}}]").replace('\'', "''");
        setting
            .local(&format!("INSERT INTO people (id, name, \"{name}\") VALUES ('{name}', 'Ben', '{list}')"));
    }
    setting.local("INSERT INTO people (id, name, opens) VALUES ('opens', 'Ben', '07:30:00')");
    clean_pass(&engine).await;
    for (name, .., json) in TYPES {
        let json: Json = serde_json::from_str(&format!("[{{\"v\":{json}}}]")).expect("JSON");
        for id in ["there", name] {
            assert_eq!(of_local(&setting, name, id), Some(json.clone()), "{name} of {id}");
        }
        let there = format!(
            "SELECT CAST(COUNT(*) AS STRING) FROM PEOPLE WHERE id = '{name}' AND ARRAY_LENGTH({name}) = 1"
        );
        assert_eq!(setting.cells(emulator, &there).await, [["1"]], "{name} arrived");
    }
    let opens =
        "SELECT group_concat(opens) FROM (SELECT opens FROM people WHERE opens IS NOT NULL ORDER BY id)";
    assert_eq!(setting.local_text(opens).as_deref(), Some("07:30:00,10:11:12.5"));

    let arrow = BigQueryStore::open(StoreName::new("warehouse").unwrap(), emulator.options(&setting.dataset))
        .unwrap();
    let mut options = emulator.options(&setting.dataset);
    options.emulator.as_mut().unwrap().grpc = None;
    let paged = BigQueryStore::open(StoreName::new("warehouse").unwrap(), options).unwrap();
    let (one, other) = (rows(&arrow, &setting).await, rows(&paged, &setting).await);
    assert_eq!((arrow.read_paths().storage, paged.read_paths().rest), (1, 1));
    assert_eq!(one.len(), TYPES.len() + 2);
    for (one, other) in one.iter().zip(&other) {
        assert_eq!(one, other);
    }

    // Nothing is left, however it is read, and an edit of something else is one.
    for refresh in [Refresh::Changed, Refresh::Full] {
        let options = PassOptions { refresh, ..PassOptions::default() };
        let left = engine.plan(&options, &Silent).await.expect("a plan");
        assert!(left.is_empty(), "{refresh:?}: {:?}", left.records.iter().next());
    }
    setting.local("UPDATE people SET note = 'edited'");
    assert_eq!(clean_pass(&engine).await.applied.update, TYPES.len() as u64 + 2);
    clean_pass(&engine).await;
    assert!(plan(&engine).await.is_empty(), "{:?}", plan(&engine).await.records.iter().next());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_deleted_is_put_back_as_it_was() {
    let emulator = Emulator::shared();
    let setting = typed(emulator, "").await;
    // In a MERGE, and nowhere else, the emulator's TO_JSON_STRING writes bytes inside of an array as text: no row with such is deleted.
    let types = || TYPES.iter().filter(|(name, ..)| *name != "byt");
    let names: Vec<&str> = types().map(|(name, ..)| *name).collect();
    let values: Vec<String> = types().map(|(.., sql, _)| format!("[STRUCT({sql} AS v)]")).collect();
    let insert = format!(
        "INSERT INTO PEOPLE (id, name, note, size, address, tags, links, facts, opens, {}) VALUES ('there', 'Ada', NULL, \
         9007199254740993, STRUCT('Kiel' AS city), ['x', 'y z'], [STRUCT('web' AS kind, 7 AS n)], JSON '{{\"a\": 1}}', \
         TIME '10:11:12.5', {}), ('other', 'Ben', NULL, NULL, NULL, [], [], NULL, NULL{})",
        names.join(", "),
        values.join(", "),
        ", []".repeat(names.len())
    );
    setting.cells(emulator, &insert).await;
    let engine = setting.engine().await;
    clean_pass(&engine).await;
    let whole = async || {
        let columns =
            ["name", "note", "size", "address", "tags", "links", "facts", "opens"].iter().chain(&names);
        let texts: Vec<String> = columns.map(|name| format!("TO_JSON_STRING({name})")).collect();
        let there = format!("SELECT {} FROM PEOPLE WHERE id = 'there'", texts.join(", "));
        let here: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let here = format!(
            "SELECT json_array(name, size, city, tags, links, facts, opens, {}) FROM people WHERE id = 'there'",
            here.join(", ")
        );
        (setting.cells(emulator, &there).await, setting.local_text(&here))
    };
    let before = whole().await;
    setting.local("DELETE FROM people WHERE id = 'there'");
    assert_eq!(clean_pass(&engine).await.applied.delete, 1);
    let gone = RecordId {
        entity: EntityName::new("people").unwrap(),
        key: RecordKey::new(vec!["there".to_owned()]),
    };
    let (deleted, along) = engine.deleted_with_rows(&[gone]).await.expect("what is kept");
    assert_eq!((deleted.len(), along.len()), (1, 0));
    engine.put_back(&deleted).await.expect("it is put back");
    assert_eq!(clean_pass(&engine).await.applied.create, 1);
    assert_eq!(whole().await, before);
    assert!(plan(&engine).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_column_was_declared_to_keep_out_is_told_and_stays_where_it_was_made() {
    let emulator = Emulator::shared();
    let setting = Setting::new(emulator, &emulator.rest_url(), "").await;
    setting.replace("    facts: json", "    facts: json\n    code: string\n    price: numeric");
    setting.cells(emulator, "DROP TABLE PEOPLE").await;
    let create = "CREATE TABLE PEOPLE (id STRING NOT NULL, name STRING, note STRING, size INT64, address STRUCT<city STRING>, \
                  tags ARRAY<STRING>, links ARRAY<STRUCT<kind STRING, n INT64>>, facts JSON, code STRING(5), price NUMERIC(10, 2))";
    setting.cells(emulator, create).await;
    let engine = setting.engine().await;
    setting.local(
        "INSERT INTO people (id, name, code, price) VALUES ('a', 'Ada', 'abcdefgh', 1), ('b', 'Ben', 'x', '1.005'), \
         ('c', 'Cleo', 'abcde', '2.50')",
    );
    for _ in 0..3 {
        let report = pass(&engine).await;
        let failed: Vec<String> = report.failed.iter().map(|trouble| format!("{trouble:?}")).collect();
        assert_eq!(failed.len(), 2, "{failed:?}");
        assert!(failed.iter().any(|told| told.contains("`people.code`: the text is longer")), "{failed:?}");
        assert!(
            failed.iter().any(|told| told.contains("`people.price`: the number has more digits")),
            "{failed:?}"
        );
    }
    let here = setting.local_text(
        "SELECT group_concat(code || ' ' || price, ', ') FROM (SELECT code, price FROM people ORDER BY id)",
    );
    assert_eq!(here.as_deref(), Some("abcdefgh 1, x 1.005, abcde 2.50"));
    assert_eq!(setting.cells(emulator, "SELECT id FROM PEOPLE").await, [["c"]]);
}
