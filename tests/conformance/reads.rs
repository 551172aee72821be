//! Snapshots, certificates, and reads by key.

use trueup::model::{
    Cell, ErrorKind, Except, FieldType, Presence, SyncMeta, SyncStatus, Unknown, Value, WriteOp,
};

use crate::harness::*;

const HOSTILE: [&str; 18] = [
    "10",
    "9",
    "",
    " ",
    "a",
    "A",
    "a b",
    "a'b",
    "a\"b",
    "a;--",
    "%",
    "é",
    "e\u{301}",
    "日本",
    "🦀",
    "\u{10ffff}",
    "null",
    "007",
];

pub(crate) async fn snapshots_come_in_the_order_of_keys<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let hostile = HOSTILE.into_iter().filter(|text| H::HOLDS_EMPTY || !text.is_empty());
    for text in hostile.clone() {
        harness.insert(&mapped, &key(text), &[("name", Value::text(text))], &meta(1)).await;
    }
    let (rows, certificate) = snapshot(&harness.store(), &mapped).await;
    let mut expected: Vec<_> = hostile.map(key).collect();
    expected.sort();
    assert_eq!(rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), expected);
    for row in &rows {
        assert_eq!(
            value_of(&mapped, row, "name"),
            Value::text(row.key.parts()[0].as_str()),
            "rows are not mixed up"
        );
    }
    assert!(certificate.is_complete(), "{certificate:?}");
    assert_eq!(certificate.rows_read, expected.len() as u64);
}

pub(crate) async fn composite_keys_are_ordered_part_by_part<H: Harness>() {
    let mapped = pairs();
    let harness = H::with(&[&mapped]).await;
    let mut keys: Vec<_> = ["a", "aa", "", "a\u{1}"]
        .iter()
        .filter(|a| H::HOLDS_EMPTY || !a.is_empty())
        .flat_map(|a| ["10", "9", "-1"].map(|b| pair(a, b)))
        .collect();
    for key in &keys {
        harness.insert(&mapped, key, &[], &meta(1)).await;
    }
    keys.sort();
    let (rows, _) = snapshot(&harness.store(), &mapped).await;
    assert_eq!(rows.into_iter().map(|row| row.key).collect::<Vec<_>>(), keys);
}

pub(crate) async fn an_empty_table_is_a_complete_snapshot<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let (rows, certificate) = snapshot(&harness.store(), &mapped).await;
    assert!(rows.is_empty() && certificate.is_complete());
}

pub(crate) async fn long_snapshots_come_whole<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let writes = (0..3_333)
        .map(|number| (key(&number.to_string()), create(&mapped, &[("count", Value::Int(number))], &meta(1))))
        .collect();
    apply(&store, &mapped, writes).await;
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert_eq!((rows.len(), certificate.rows_claimed, certificate.rows_read), (3_333, 3_333, 3_333));
    let keys: Vec<_> = (0..4_000).map(|number: i64| key(&number.to_string())).collect();
    let read = store.read(&mapped, &keys).await.expect("read");
    assert_eq!(read.len(), 4_000, "an answer for every key");
    assert_eq!(read.values().filter(|presence| presence.row().is_some()).count(), 3_333);
}

pub(crate) async fn rows_that_nobody_asks_for_are_left_out<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    for (at, name) in [("1", Some("open")), ("2", Some("resolved")), ("3", None), ("4", Some("Resolved"))] {
        let fields: Vec<_> = name.map(|name| ("name", Value::text(name))).into_iter().collect();
        harness.insert(&mapped, &key(at), &fields, &meta(1)).await;
    }
    let name = trueup::model::FieldName::new("name").expect("a name");
    let field = mapped.entity.field_id(&name).expect("a field");
    let except = Except { field, words: &["resolved", "withdrawn"] };
    let stream = harness.store().snapshot_except(mapped.clone(), except).await.expect("a stream");
    let (rows, certificate) = collected(stream).await;
    assert!(certificate.is_complete(), "{certificate:?}");
    assert!(!H::LEAVES_OUT || certificate.mark.is_none(), "what was left out is not gone");
    let keys: Vec<_> = rows.iter().map(|row| row.key.parts()[0].as_str()).collect();
    assert_eq!(keys, if H::LEAVES_OUT { vec!["1", "3", "4"] } else { vec!["1", "2", "3", "4"] });
}

pub(crate) async fn a_missing_column_is_unknown<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    harness.insert(&mapped, &key("a"), &[("name", Value::text("n"))], &meta(1)).await;
    harness.drop_column(&mapped, "name").await;
    let store = harness.store();
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert_eq!(certificate.missing_columns, ["name"]);
    assert!(!rows[0].fields.contains_key(&id_of(&mapped, "name")), "unknown, not null");
    assert!(rows[0].fields.contains_key(&id_of(&mapped, "count")));
    let write = update(&mapped, &[("name", Value::text("x"))], None, guard(&mapped, &[], &meta(1)));
    let outcomes = apply(&store, &mapped, vec![(key("a"), write)]).await;
    assert!(matches!(outcomes[0], trueup::model::Outcome::Refused(_)), "{outcomes:?}");
    let guarded = guard(&mapped, &[("name", Value::text("n"))], &meta(1));
    let write = update(&mapped, &[("count", Value::Int(1))], None, guarded);
    let outcomes = apply(&store, &mapped, vec![(key("a"), write)]).await;
    assert_eq!(outcomes[0], trueup::model::Outcome::Moved, "what cannot be looked at is not as it was");
}

pub(crate) async fn a_missing_table_is_an_error<H: Harness>() {
    let mapped = things();
    let harness = H::new().await;
    let store = harness.store();
    let error = store.snapshot(mapped.clone()).await.expect_err("no table");
    assert_eq!(error.kind, ErrorKind::NotFound);
    assert!(error.to_string().contains("things") && error.to_string().contains("trueup migrate"), "{error}");
    let error = store.read(&mapped, &[key("a")]).await.expect_err("no table");
    assert_eq!(error.kind, ErrorKind::NotFound);
    let write = batch("1", vec![(key("a"), create(&mapped, &[], &meta(1)))]);
    assert_eq!(store.apply(&mapped, &write).await.expect_err("no table").kind, ErrorKind::NotFound);
}

pub(crate) async fn duplicate_keys_are_left_out_and_named<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    for text in ["a", "b", "c"] {
        harness.insert(&mapped, &key(text), &[("count", Value::Int(1))], &meta(1)).await;
    }
    harness.duplicate(&mapped, &key("b")).await;
    let store = harness.store();
    let (rows, certificate) = snapshot(&store, &mapped).await;
    assert_eq!(rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), [key("a"), key("c")]);
    assert_eq!(certificate.duplicate_keys, [key("b")]);
    assert_eq!((certificate.rows_claimed, certificate.rows_read), (4, 4));
    assert!(!certificate.is_complete(), "absence is unknown");
    let read = store.read(&mapped, &[key("b")]).await.expect("read");
    assert_eq!(read[&key("b")], Presence::Unknown(Unknown::DuplicateKey));
    let guard = guard(&mapped, &[("count", Value::Int(1))], &meta(1));
    let outcomes = apply(&store, &mapped, vec![(key("b"), WriteOp::Delete { guard })]).await;
    assert!(matches!(outcomes[0], trueup::model::Outcome::Refused(_)), "{outcomes:?}");
}

pub(crate) async fn reading_answers_every_key<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    harness.insert(&mapped, &key("a"), &[("name", Value::text("n"))], &meta(1)).await;
    let store = harness.store();
    let read = store.read(&mapped, &[key("a"), key("A"), key("zz"), key("a")]).await.expect("read");
    assert_eq!(read.len(), 3);
    assert_eq!(value_of(&mapped, read[&key("a")].row().expect("there"), "name"), Value::text("n"));
    assert_eq!(read[&key("A")], Presence::Absent, "keys tell upper from lower case");
    assert_eq!(read[&key("zz")], Presence::Absent);
    assert!(store.read(&mapped, &[]).await.expect("read").is_empty());
}

pub(crate) async fn whole_rows_have_what_no_mapping_names<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    harness.insert(&mapped, &key("a"), &[("count", Value::Int(7))], &meta(3)).await;
    harness.add_extra(&mapped, "theirs").await;
    let rows = harness.store().read_native(&mapped, &[key("a"), key("b")]).await.expect("read");
    assert_eq!(rows.len(), 1);
    let row = &rows[&key("a")];
    assert_eq!(
        (&row["id"], &row["extra"], &row["count"], &row["version"]),
        (&"a".into(), &"theirs".into(), &7.into(), &3.into())
    );
}

pub(crate) async fn unreadable_values_are_told_apart_and_not_shown<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    harness.insert(&mapped, &key("a"), &[("count", Value::Int(7))], &meta(1)).await;
    let store = harness.store();
    let mut seen = Vec::new();
    for text in ["s3cret one", "s3cret two", "s3cret one"] {
        harness.spoil(&mapped, &key("a"), "count", text).await;
        let (rows, certificate) = snapshot(&store, &mapped).await;
        assert!(certificate.is_complete(), "a bad value does not make a row absent");
        let cell = rows[0].fields[&id_of(&mapped, "count")].clone();
        let Cell::Unreadable(what) = &cell else { panic!("{cell:?}") };
        assert!(!what.why.contains("s3cret"));
        seen.push(cell);
    }
    assert_ne!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2]);
}

pub(crate) async fn metadata_is_read_as_written<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let full = SyncMeta {
        sync_status: Some(SyncStatus::Conflict),
        source_systems: vec!["app".into(), "o'local".into()].into(),
        sync_errors: vec![trueup::model::SyncError {
            at: meta(1).last_updated.expect("a time"),
            store: "app".into(),
            field: Some("name".into()),
            rule: "required".into(),
            message: "`name` is empty".into(),
        }],
        ..meta(i64::MAX)
    };
    let writes = vec![
        (key("full"), create(&mapped, &[], &full)),
        (key("none"), create(&mapped, &[], &SyncMeta::default())),
    ];
    apply(&store, &mapped, writes).await;
    assert_eq!(read_one(&store, &mapped, &key("full")).await.expect("there").meta, full);
    assert_eq!(read_one(&store, &mapped, &key("none")).await.expect("there").meta, SyncMeta::default());
    let mapped_type = FieldType::String;
    assert_eq!(mapped.entity.fields[0].ty, mapped_type);
}
