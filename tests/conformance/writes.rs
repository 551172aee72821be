//! Guarded writes, outcome by outcome.

use trueup::model::{
    BatchId, Cell, ErrorKind, FieldId, Guard, IntentId, Outcome, SyncMeta, SyncStatus, Value, WriteOp,
};

use crate::harness::*;

fn applied(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Applied(_))
}

pub(crate) async fn what_is_created_is_read_back<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let time = meta(1).last_updated.map(coarse::<H>);
    let op = WriteOp::Create {
        fields: values(&mapped, &[("name", Value::text("n"))]),
        meta: meta(1),
        created: time,
        updated: time,
    };
    let outcomes = apply(&store, &mapped, vec![(key("a"), op)]).await;
    let Outcome::Applied(Some(row)) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!((&row.key, &row.meta, row.created, row.updated), (&key("a"), &meta(1), time, time));
    assert_eq!(value_of(&mapped, row, "name"), Value::text("n"));
    assert_eq!(value_of(&mapped, row, "count"), Value::Null);
    assert_eq!(read_one(&store, &mapped, &key("a")).await.as_ref(), Some(row));
    assert_eq!(snapshot(&store, &mapped).await.0, std::slice::from_ref(row));
}

pub(crate) async fn creating_twice_moves_nothing<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let one = || vec![(key("a"), create(&mapped, &[("count", Value::Int(1))], &meta(1)))];
    assert!(applied(&apply(&store, &mapped, one()).await[0]));
    assert_eq!(apply(&store, &mapped, one()).await, [Outcome::Moved]);
    assert_eq!(snapshot(&store, &mapped).await.0.len(), 1);
}

pub(crate) async fn updates_set_only_what_they_name<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let before = [("name", Value::text("n")), ("count", Value::Int(1))];
    harness.insert(&mapped, &key("a"), &before, &meta(1)).await;
    // Somebody else's edit of a field that is neither written nor guarded.
    harness.edit(&mapped, &key("a"), &[("name", Value::text("theirs"))]).await;
    let guard = guard(&mapped, &[("count", Value::Int(1))], &meta(1));
    let write = update(&mapped, &[("count", Value::Int(2))], Some(meta(2)), guard);
    let outcomes = apply(&store, &mapped, vec![(key("a"), write)]).await;
    let Outcome::Applied(Some(row)) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(value_of(&mapped, row, "name"), Value::text("theirs"));
    assert_eq!(value_of(&mapped, row, "count"), Value::Int(2));
    assert_eq!(row.meta, meta(2));
}

/// Somebody else makes a row again what it was when it was last looked at, before we wrote to it.
pub(crate) async fn what_is_put_back_after_our_write_is_told<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        harness.insert(&mapped, &key(name), &[("count", Value::Int(1))], &meta(1)).await;
    }
    // A store that leaves no mark is always read whole.
    let Some(mark) = snapshot(&store, &mapped).await.1.mark else { return };
    let guard = guard(&mapped, &[("count", Value::Int(1))], &meta(1));
    let write = update(&mapped, &[("count", Value::Int(2))], None, guard);
    assert!(applied(&apply(&store, &mapped, vec![(key("a"), write)]).await[0]));
    let mark = store.seal(&mapped, mark);
    harness.edit(&mapped, &key("a"), &[("count", Value::Int(1))]).await;
    let mut look = store.changes(&mapped, &mark).await.expect("a look").expect("it can tell");
    let mut told = Vec::new();
    while let Some(rows) = look.rows().await.expect("rows") {
        told.extend(rows.iter().map(|row| row.key().clone()));
    }
    assert!(told.contains(&key("a")), "{told:?}");
}

pub(crate) async fn updates_without_metadata_leave_it<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("a"), &[("count", Value::Int(1))], &meta(7)).await;
    let write = update(&mapped, &[("count", Value::Null)], None, guard(&mapped, &[], &meta(7)));
    apply(&store, &mapped, vec![(key("a"), write)]).await;
    assert_eq!(read_one(&store, &mapped, &key("a")).await.expect("there").meta, meta(7));
    // Bookkeeping is no evidence: a guard does not look at it.
    let status = SyncMeta { sync_status: Some(SyncStatus::Pending), ..meta(7) };
    let write = update(&mapped, &[], Some(status.clone()), guard(&mapped, &[], &meta(7)));
    assert!(applied(&apply(&store, &mapped, vec![(key("a"), write)]).await[0]));
    let write = update(&mapped, &[], Some(meta(7)), guard(&mapped, &[], &meta(7)));
    let outcomes = apply(&store, &mapped, vec![(key("a"), write)]).await;
    let Outcome::Applied(Some(row)) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(row.meta, meta(7), "and is cleared with the metadata that has none");
}

pub(crate) async fn a_moved_row_is_not_written<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("a"), &[("count", Value::Int(1))], &meta(1)).await;
    harness.edit(&mapped, &key("a"), &[("count", Value::Int(5))]).await;
    let guard = guard(&mapped, &[("count", Value::Int(1))], &meta(1));
    let write = update(&mapped, &[("count", Value::Int(2))], Some(meta(2)), guard);
    assert_eq!(apply(&store, &mapped, vec![(key("a"), write)]).await, [Outcome::Moved]);
    let row = read_one(&store, &mapped, &key("a")).await.expect("there");
    assert_eq!(value_of(&mapped, &row, "count"), Value::Int(5), "their edit stands");
    assert_eq!(row.meta, meta(1));
}

pub(crate) async fn a_changed_version_guards<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("a"), &[("count", Value::Int(1))], &meta(1)).await;
    harness.set_version(&mapped, &key("a"), 2).await;
    let other = |of: SyncMeta| update(&mapped, &[("count", Value::Int(2))], None, guard(&mapped, &[], &of));
    let unversioned = SyncMeta { version: None, ..meta(2) };
    let elsewhere = SyncMeta { last_updated_by: Some("other".into()), ..meta(2) };
    let earlier = SyncMeta { last_updated: None, ..meta(2) };
    for stale in [meta(1), unversioned, elsewhere, earlier] {
        assert_eq!(apply(&store, &mapped, vec![(key("a"), other(stale))]).await, [Outcome::Moved]);
    }
    assert!(applied(&apply(&store, &mapped, vec![(key("a"), other(meta(2)))]).await[0]));
}

pub(crate) async fn a_null_is_guarded_as_well<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let none = SyncMeta::default();
    harness.insert(&mapped, &key("a"), &[], &none).await;
    let write = || {
        let guard = guard(&mapped, &[("name", Value::Null), ("count", Value::Null)], &none);
        vec![(key("a"), update(&mapped, &[("count", Value::Int(2))], None, guard))]
    };
    assert!(applied(&apply(&store, &mapped, write()).await[0]), "null is as it was read");
    assert_eq!(apply(&store, &mapped, write()).await, [Outcome::Moved], "and now it is not null");
}

pub(crate) async fn an_unreadable_value_is_guarded_as_well<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("a"), &[("count", Value::Int(1))], &meta(1)).await;
    harness.spoil(&mapped, &key("a"), "count", "one").await;
    let count = id_of(&mapped, "count");
    let as_read = read_one(&store, &mapped, &key("a")).await.expect("there").fields[&count].clone();
    let write = |cell: Cell| {
        let guard = Guard { fields: [(count, cell)].into(), meta: meta(1) };
        vec![(key("a"), update(&mapped, &[("name", Value::text("x"))], None, guard))]
    };
    assert!(applied(&apply(&store, &mapped, write(as_read.clone())).await[0]));
    harness.spoil(&mapped, &key("a"), "count", "two").await;
    assert_eq!(apply(&store, &mapped, write(as_read)).await, [Outcome::Moved]);
}

pub(crate) async fn deletes_are_guarded<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let fields = [("name", Value::Null), ("count", Value::Int(1))];
    harness.insert(&mapped, &key("a"), &fields, &meta(1)).await;
    let delete = || vec![(key("a"), WriteOp::Delete { guard: guard(&mapped, &fields, &meta(1)) })];
    harness.edit(&mapped, &key("a"), &[("name", Value::text("x"))]).await;
    assert_eq!(apply(&store, &mapped, delete()).await, [Outcome::Moved]);
    harness.edit(&mapped, &key("a"), &[("name", Value::Null)]).await;
    assert_eq!(apply(&store, &mapped, delete()).await, [Outcome::Applied(None)]);
    assert_eq!(apply(&store, &mapped, delete()).await, [Outcome::Moved], "there is nothing to delete");
    assert!(snapshot(&store, &mapped).await.0.is_empty());
}

pub(crate) async fn what_is_gone_has_moved<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("a"), &[], &meta(1)).await;
    harness.delete(&mapped, &key("a")).await;
    let write = update(&mapped, &[("count", Value::Int(1))], None, guard(&mapped, &[], &meta(1)));
    assert_eq!(apply(&store, &mapped, vec![(key("a"), write)]).await, [Outcome::Moved]);
    // Made by somebody else between our look and our write.
    harness.insert(&mapped, &key("b"), &[("name", Value::text("theirs"))], &meta(1)).await;
    let write = create(&mapped, &[("name", Value::text("ours"))], &meta(1));
    assert_eq!(apply(&store, &mapped, vec![(key("b"), write)]).await, [Outcome::Moved]);
    let row = read_one(&store, &mapped, &key("b")).await.expect("there");
    assert_eq!(value_of(&mapped, &row, "name"), Value::text("theirs"));
}

pub(crate) async fn one_bad_write_does_not_fail_the_others<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let nonsense = WriteOp::Create {
        fields: [(id_of(&mapped, "count"), Value::text("s3cret"))].into(),
        meta: meta(1),
        created: None,
        updated: None,
    };
    let good = |number| create(&mapped, &[("count", Value::Int(number))], &meta(1));
    let stale = update(&mapped, &[("count", Value::Int(9))], None, guard(&mapped, &[], &meta(8)));
    harness.insert(&mapped, &key("d"), &[], &meta(1)).await;
    let writes = vec![
        (key("a"), good(1)),
        (key("b"), nonsense),
        (key("c"), good(3)),
        (key("d"), stale),
        (key("e"), good(5)),
    ];
    let outcomes = apply(&store, &mapped, writes).await;
    assert!(applied(&outcomes[0]) && applied(&outcomes[2]) && applied(&outcomes[4]));
    let Outcome::Refused(error) = &outcomes[1] else { panic!("{outcomes:?}") };
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert_eq!(outcomes[3], Outcome::Moved);
    let (rows, _) = snapshot(&store, &mapped).await;
    assert_eq!(rows.iter().map(|row| row.key.clone()).collect::<Vec<_>>(), ["a", "c", "d", "e"].map(key));
}

pub(crate) async fn a_key_twice_in_a_batch_is_refused<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let good = |number| create(&mapped, &[("count", Value::Int(number))], &meta(1));
    let outcomes =
        apply(&store, &mapped, vec![(key("a"), good(1)), (key("b"), good(2)), (key("a"), good(3))]).await;
    for outcome in [&outcomes[0], &outcomes[2]] {
        assert!(
            matches!(outcome, Outcome::Refused(error) if error.kind == ErrorKind::Invalid),
            "{outcome:?}"
        );
    }
    assert!(applied(&outcomes[1]));
    assert_eq!(snapshot(&store, &mapped).await.0.len(), 1);
}

pub(crate) async fn a_field_without_a_place_is_refused<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let op = WriteOp::Create {
        fields: [(FieldId(77), Value::Int(1))].into(),
        meta: meta(1),
        created: None,
        updated: None,
    };
    let outcomes =
        apply(&store, &mapped, vec![(key("a"), op), (pair("a", "b"), create(&mapped, &[], &meta(1)))]).await;
    for outcome in &outcomes {
        assert!(
            matches!(outcome, Outcome::Refused(error) if error.kind == ErrorKind::Invalid),
            "{outcome:?}"
        );
    }
    assert!(snapshot(&store, &mapped).await.0.is_empty());
}

pub(crate) async fn composite_keys_are_written_by_all_parts<H: Harness>() {
    let mapped = pairs();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let keys = [pair("a", "1"), pair("a", "2"), pair("b", "1")];
    let made = keys.iter().map(|key| (key.clone(), create(&mapped, &[], &meta(1)))).collect();
    assert!(apply(&store, &mapped, made).await.iter().all(applied));
    let write = update(&mapped, &[("name", Value::text("x"))], None, guard(&mapped, &[], &meta(1)));
    let delete = WriteOp::Delete { guard: guard(&mapped, &[("name", Value::Null)], &meta(1)) };
    let outcomes = apply(&store, &mapped, vec![(keys[1].clone(), write), (keys[2].clone(), delete)]).await;
    assert!(outcomes.iter().all(applied), "{outcomes:?}");
    let (rows, _) = snapshot(&store, &mapped).await;
    let names: Vec<_> = rows.iter().map(|row| (row.key.clone(), value_of(&mapped, row, "name"))).collect();
    assert_eq!(names, [(keys[0].clone(), Value::Null), (keys[1].clone(), Value::text("x"))]);
    let bad = create(&mapped, &[], &meta(1));
    let outcomes = apply(&store, &mapped, vec![(pair("a", "no number"), bad)]).await;
    assert!(matches!(&outcomes[0], Outcome::Refused(_)), "{outcomes:?}");
}

pub(crate) async fn unmapped_columns_stay_as_they_are<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("a"), &[("count", Value::Int(1))], &meta(1)).await;
    harness.add_extra(&mapped, "their \u{0}own { text").await;
    let write = update(&mapped, &[("count", Value::Int(2))], Some(meta(2)), guard(&mapped, &[], &meta(1)));
    assert!(applied(&apply(&store, &mapped, vec![(key("a"), write)]).await[0]));
    assert_eq!(harness.extra(&mapped, &key("a")).await, "their \u{0}own { text");
}

pub(crate) async fn receipts_tell_what_was_applied<H: Harness>() {
    let mapped =
        Words { system: true, ..Words::new("sys") }.field("count", trueup::model::FieldType::Int64).mapped();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("there"), &[], &meta(1)).await;
    let good = || create(&mapped, &[], &meta(1));
    let mut first = batch("7-1", vec![(key("a"), good()), (key("there"), good()), (key("b"), good())]);
    first.receipt = true;
    apply_batch(&store, &mapped, &first).await;
    let mut second = batch("7-2", vec![(key("there"), good())]);
    second.receipt = true;
    apply_batch(&store, &mapped, &second).await;
    apply_batch(&store, &mapped, &batch("7-3", vec![(key("c"), good())])).await;
    let ids = ["7-1", "7-2", "7-3", "7-4"].map(|id| BatchId(id.into()));
    let receipts = store.receipts(&ids).await.expect("read");
    let intent = |id: &str| IntentId(id.into());
    assert_eq!(receipts.get(&ids[0]), Some(&vec![intent("7-1-0"), intent("7-1-2")]));
    assert_eq!(receipts.get(&ids[1]), Some(&Vec::new()), "it went through and applied nothing");
    assert_eq!((receipts.get(&ids[2]), receipts.get(&ids[3])), (None, None), "these left none");
    store.forget_receipts(&ids[..1]).await.expect("removed");
    assert_eq!(store.receipts(&ids).await.expect("read").len(), 1);
}

pub(crate) async fn of_two_racing_writers_one_wins<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    let fields = [("count", Value::Int(0))];
    for number in 0..20 {
        harness.insert(&mapped, &key(&number.to_string()), &fields, &meta(1)).await;
    }
    let tasks: Vec<_> = (1..=4)
        .map(|writer: i64| {
            let (store, mapped) = (store.clone(), mapped.clone());
            tokio::spawn(async move {
                let guard = guard(&mapped, &[("count", Value::Int(0))], &meta(1));
                let write = |number: i64| {
                    let op = update(
                        &mapped,
                        &[("count", Value::Int(writer))],
                        Some(meta(1 + writer)),
                        guard.clone(),
                    );
                    (key(&number.to_string()), op)
                };
                apply(&store, &mapped, (0..20).map(write).collect()).await
            })
        })
        .collect();
    let mut winners = 0;
    for task in tasks {
        winners += task.await.expect("no panic").iter().filter(|outcome| applied(outcome)).count();
    }
    assert_eq!(winners, 20, "each row was written once");
}
