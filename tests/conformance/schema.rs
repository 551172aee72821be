//! Migrations, and names that look like statements.

use trueup::model::{FieldType, Form, Outcome, Value, WriteOp};

use crate::harness::*;

pub(crate) async fn migration_is_idempotent<H: Harness>() {
    let system = Words { system: true, ..Words::new("sys") }.field("name", FieldType::String).mapped();
    let all = [things(), pairs(), system];
    let harness = H::new().await;
    let store = harness.store();
    let steps = store.plan_migration(&all).await.expect("planned");
    assert!(steps.iter().any(|step| step.adds.contains("things")), "{steps:?}");
    store.migrate(&steps).await.expect("migrated");
    assert_eq!(store.plan_migration(&all).await.expect("planned"), [], "nothing is missing any more");
    store.migrate(&[]).await.expect("nothing to do");
}

pub(crate) async fn migration_adds_columns_and_keeps_rows<H: Harness>() {
    let mapped = things();
    let harness = H::with(&[&mapped]).await;
    let store = harness.store();
    harness.insert(&mapped, &key("a"), &[("name", Value::text("n"))], &meta(1)).await;
    let wider = Words::new("things")
        .field("name", FieldType::String)
        .field("count", FieldType::Int64)
        .field("more", FieldType::Json)
        .mapped();
    let steps = store.plan_migration(std::slice::from_ref(&wider)).await.expect("planned");
    assert_eq!(steps.iter().map(|step| step.adds.as_str()).collect::<Vec<_>>(), ["column `things.more`"]);
    store.migrate(&steps).await.expect("migrated");
    let row = read_one(&store, &wider, &key("a")).await.expect("there");
    assert_eq!(value_of(&wider, &row, "name"), Value::text("n"));
    assert_eq!(value_of(&wider, &row, "more"), Value::Null);
}

pub(crate) async fn names_are_not_statements<H: Harness>() {
    let mut words = Words { table: H::HOSTILE_NAMES[0], ..Words::new("things") };
    words.fields = vec![
        ("name", FieldType::String, Form::Native, H::HOSTILE_NAMES[1].to_owned()),
        ("count", FieldType::Int64, Form::Native, H::HOSTILE_NAMES[2].to_owned()),
    ];
    let mapped = words.mapped();
    let plain = things();
    let harness = H::with(&[&mapped, &plain]).await;
    let store = harness.store();
    let hostile = key("x'); DROP TABLE things; --");
    let fields = [("name", Value::text("'; DELETE FROM things; --")), ("count", Value::Int(1))];
    let outcomes = apply(&store, &mapped, vec![(hostile.clone(), create(&mapped, &fields, &meta(1)))]).await;
    assert!(matches!(&outcomes[0], Outcome::Applied(Some(_))), "{outcomes:?}");
    let row = read_one(&store, &mapped, &hostile).await.expect("there");
    assert_eq!(value_of(&mapped, &row, "name"), fields[0].1);
    assert_eq!(store.read_native(&mapped, std::slice::from_ref(&hostile)).await.expect("read").len(), 1);
    let (rows, _) = snapshot(&store, &mapped).await;
    assert_eq!(rows.len(), 1);
    let delete = WriteOp::Delete { guard: guard(&mapped, &fields, &meta(1)) };
    let outcomes = apply(&store, &mapped, vec![(hostile, delete)]).await;
    assert_eq!(outcomes, [Outcome::Applied(None)]);
    assert!(snapshot(&store, &plain).await.1.is_complete(), "the other table is still there");
}

/// What stands in a store is told, whatever is mapped: with types that a mapping of it would have. Of a store whose tables declare no
/// key (BigQuery's, as `migrate` makes them), none is told.
pub(crate) async fn tables_are_told<H: Harness>(declares_keys: bool) {
    let words =
        FieldType::ALL.into_iter().fold(Words::new("things"), |words, ty| words.field(ty.as_str(), ty));
    let (things, pairs) = (words.mapped(), pairs());
    let harness = H::with(&[&things, &pairs]).await;
    let tables = harness.store().tables().await.expect("looked").expect("an account of them");
    let found: Vec<(&str, Vec<&str>)> = tables
        .iter()
        .map(|table| (table.name.as_str(), table.key.iter().map(String::as_str).collect()))
        .collect();
    let key = |parts: &[&'static str]| if declares_keys { parts.to_vec() } else { Vec::new() };
    assert_eq!(found, [("pairs", key(&["a", "b"])), ("things", key(&["id"]))]);
    for (name, ty) in
        FieldType::ALL.map(|ty| (ty.as_str(), ty)).into_iter().chain([("id", FieldType::String)])
    {
        let column = tables[1].columns.iter().find(|column| column.path == [name]).expect(name);
        // SQLite has no types for dates, times, JSON and truths: what `migrate` makes of them says no more than that.
        let told = column.loose && column.ty == FieldType::String
            || column.loose && ty == FieldType::Bool && column.ty == FieldType::Int64;
        assert!(column.ty == ty || told, "{name}: {column:?}");
    }
}
