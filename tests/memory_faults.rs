//! Every fault of the store in memory shows as it would in a real one.

#[allow(dead_code)]
#[path = "conformance/harness.rs"]
mod harness;

use harness::*;
use trueup::model::{BatchId, Cell, ErrorKind, FieldName, Outcome, Value};
use trueup::store::memory::{Cut, Hook, Lossy, MemoryDb, MemoryRow};

fn db_of(rows: i64) -> (MemoryDb, trueup::model::Mapped) {
    let mapped = things();
    let mut db = MemoryDb::new(store_name()).with_tables(std::slice::from_ref(&mapped));
    for number in 0..rows {
        let mut row = MemoryRow { meta: meta(1), ..MemoryRow::default() };
        row.fields.insert(FieldName::new("count").expect("a name"), Cell::Value(Value::Int(number)));
        db.put(&mapped, &key(&number.to_string()), row);
    }
    (db, mapped)
}

fn set_count(mapped: &trueup::model::Mapped, of: &str, value: i64) -> trueup::model::Batch {
    let op = update(mapped, &[("count", Value::Int(value))], Some(meta(2)), guard(mapped, &[], &meta(1)));
    batch("1-1", vec![(key(of), op)])
}

#[test]
fn an_unreachable_store_answers_nothing() {
    let (mut db, mapped) = db_of(1);
    db.faults.unreachable = true;
    let kinds = [
        db.probe().expect_err("down").kind,
        db.snapshot(&mapped).expect_err("down").kind,
        db.read(&mapped, &[]).expect_err("down").kind,
        db.apply(&mapped, &set_count(&mapped, "0", 7)).expect_err("down").kind,
        db.receipts(&[]).expect_err("down").kind,
    ];
    assert_eq!(kinds, [ErrorKind::Unavailable; 5]);
}

#[test]
fn snapshots_that_are_cut_short_vouch_for_nothing() {
    let (mut db, mapped) = db_of(5);
    for cut in [Cut::NoEnd, Cut::FewerThanClaimed, Cut::Moved] {
        db.faults.cut_after = Some((3, cut));
        let snapshot = db.snapshot(&mapped).expect("read");
        assert_eq!(snapshot.rows.len(), 3);
        assert!(snapshot.certificate.is_none_or(|certificate| !certificate.is_complete()), "{cut:?}");
    }
    db.faults.cut_after = None;
    db.faults.bad_keys = 1;
    assert!(!db.snapshot(&mapped).expect("read").certificate.expect("an end").is_complete());
}

#[test]
fn a_lost_answer_is_not_a_lost_write() {
    let (mut db, mapped) = db_of(1);
    db.faults.fail_batches = 1;
    let mut batch = set_count(&mapped, "0", 7);
    batch.receipt = true;
    assert_eq!(db.apply(&mapped, &batch).expect_err("failed").kind, ErrorKind::Unavailable);
    assert!(db.receipts(std::slice::from_ref(&batch.id)).expect("read").is_empty(), "nothing happened");
    db.faults.lose_answers = 1;
    assert_eq!(db.apply(&mapped, &batch).expect_err("lost").kind, ErrorKind::OutcomeUnknown);
    let receipts = db.receipts(&[BatchId("1-1".into())]).expect("read");
    assert_eq!(receipts[&batch.id], [batch.writes[0].intent.clone()], "the receipt tells that it happened");
    let outcomes = db.apply(&mapped, &batch).expect("an answer");
    assert_eq!(outcomes[&batch.writes[0].intent], Outcome::Moved, "a second try does not write twice");
}

#[test]
fn an_edit_between_look_and_write_is_seen() {
    let (mut db, mapped) = db_of(1);
    let other = mapped.clone();
    db.faults.before_batch = Some(Hook::new(move |db| {
        db.edit(&other, &key("0"), |row| row.meta = meta(9));
    }));
    let batch = set_count(&mapped, "0", 7);
    assert_eq!(db.apply(&mapped, &batch).expect("an answer")[&batch.writes[0].intent], Outcome::Moved);
    assert!(db.faults.before_batch.is_none(), "once");
}

#[test]
fn refused_keys_and_lossy_fields() {
    let (mut db, mapped) = db_of(2);
    db.faults.refuse.insert((mapped.name().clone(), key("0")));
    let batch = set_count(&mapped, "0", 7);
    let outcomes = db.apply(&mapped, &batch).expect("an answer");
    assert!(matches!(&outcomes[&batch.writes[0].intent], Outcome::Refused(_)));
    let lower = |value: &Value| value.as_text().map_or(Value::Null, |text| Value::text(text.to_lowercase()));
    let table = db.table_mut(&mapped).expect("the table");
    table.lossy.insert(FieldName::new("name").expect("a name"), Lossy::new(lower));
    let op = update(&mapped, &[("name", Value::text("Ada"))], None, guard(&mapped, &[], &meta(1)));
    let lossy = harness::batch("1-2", vec![(key("1"), op)]);
    let outcomes = db.apply(&mapped, &lossy).expect("an answer");
    let Outcome::Applied(Some(row)) = &outcomes[&lossy.writes[0].intent] else { panic!("{outcomes:?}") };
    assert_eq!(value_of(&mapped, row, "name"), Value::text("ada"), "the answer tells what is held");
}

#[test]
fn a_copy_is_a_world_of_its_own() {
    let (mut db, mapped) = db_of(1);
    let copy = db.clone();
    db.delete(&mapped, &key("0"));
    assert_eq!(
        (db.snapshot(&mapped).expect("read").rows.len(), copy.snapshot(&mapped).expect("read").rows.len()),
        (0, 1)
    );
}
