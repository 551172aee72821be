//! Other hands that a table's rows go through: triggers of partitions, tables that inherit, columns that make other keys, and locks.

use super::*;

/// What a partition, a table that inherits or a table on another server does with its rows, the table above it does not tell.
#[tokio::test]
async fn what_partitions_make_of_their_rows_is_read_back() {
    for parts in [
        "CREATE TABLE things (id text PRIMARY KEY, name text, count int8) PARTITION BY RANGE (id);
         CREATE TABLE part PARTITION OF things FOR VALUES FROM (MINVALUE) TO (MAXVALUE)",
        "CREATE TABLE things (id text PRIMARY KEY, name text, count int8); CREATE TABLE part () INHERITS (things)",
    ] {
        let (database, store) = theirs(&format!(
            "{parts}; INSERT INTO part SELECT 'k' || n, 'old', n FROM generate_series(1, 5) n;
             CREATE FUNCTION shouts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
             CREATE TRIGGER t BEFORE UPDATE ON part FOR EACH ROW EXECUTE FUNCTION shouts()"
        ))
        .await;
        let mapped = bare();
        let writes = (1..=5).map(|n| (key(&format!("k{n}")), set(&mapped, "name", Value::text("new"))));
        for outcome in apply(&store, &mapped, writes.collect()).await {
            assert_eq!(value_of(&mapped, row_of(&outcome), "name"), Value::text("NEW"), "{parts}");
        }
        assert_eq!(text(&database, "SELECT count(*)::text FROM things WHERE name = 'NEW'").await, "5");
    }
}

/// The index of a table that others inherit from has none of their rows.
#[tokio::test]
async fn a_record_in_a_table_that_inherits_is_not_made_twice() {
    let (database, store) = theirs(&format!(
        "{THINGS} CREATE TABLE part () INHERITS (things); INSERT INTO part VALUES ('a', 'n', 1)"
    ))
    .await;
    let mapped = bare();
    let outcomes = apply(&store, &mapped, vec![(key("a"), create(&mapped, &[], &none()))]).await;
    assert_eq!(outcomes, [Outcome::Moved]);
    assert_eq!(text(&database, "SELECT count(*)::text FROM things").await, "1");
}

/// A trigger that puts new rows elsewhere would do so at every pass, and a column that writes keys in its own way would make
/// another record of each.
#[tokio::test]
async fn a_write_that_leaves_no_row_of_its_key_is_undone_and_told() {
    let (database, store) = theirs(&format!(
        "{THINGS} CREATE TABLE archive (LIKE things);
         CREATE FUNCTION moves() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           DELETE FROM things WHERE id = NEW.id; INSERT INTO archive SELECT NEW.*; RETURN NULL; END $$;
         CREATE TRIGGER t AFTER INSERT OR UPDATE ON things FOR EACH ROW WHEN (NEW.name = 'away') EXECUTE FUNCTION moves();
         CREATE TABLE days (id date PRIMARY KEY, name text, count int8);
         CREATE TABLE sums (id numeric(10, 2) PRIMARY KEY, name text, count int8)"
    ))
    .await;
    let mapped = bare();
    let named = |name: &str| create(&mapped, &[("name", Value::text(name))], &none());
    let writes = vec![(key("a"), named("stays")), (key("b"), named("away")), (key("c"), named("stays"))];
    let outcomes = apply(&store, &mapped, writes).await;
    assert!(
        matches!(outcomes[..], [Outcome::Applied(_), Outcome::Refused(_), Outcome::Applied(_)]),
        "{outcomes:?}"
    );
    assert!(refused(&outcomes[1]).hint.as_ref().expect("a hint").contains("trigger"), "{outcomes:?}");
    let outcomes = apply(&store, &mapped, vec![(key("a"), set(&mapped, "name", Value::text("away")))]).await;
    refused(&outcomes[0]);
    assert_eq!(
        text(&database, "SELECT string_agg(id || name, ' ' ORDER BY id) FROM things").await,
        "astays cstays"
    );
    assert_eq!(
        text(&database, "SELECT count(*)::text FROM archive").await,
        "0",
        "what was undone left nothing"
    );
    for (table, kept, others) in [("days", "2020-01-03", "2020-1-4"), ("sums", "3.00", "3.5")] {
        let mapped = plain(Words { table, ..name_and_count() }, |_| {});
        let writes = [kept, others].map(|id| (key(id), create(&mapped, &[], &none())));
        let outcomes = apply(&store, &mapped, writes.to_vec()).await;
        assert!(matches!(outcomes[..], [Outcome::Applied(_), Outcome::Refused(_)]), "{table}: {outcomes:?}");
        assert_eq!(text(&database, &format!("SELECT string_agg(id::text, ' ') FROM {table}")).await, kept);
    }
}

/// Others wait for the rows that a batch has already.
#[tokio::test]
async fn a_row_that_somebody_keeps_holds_up_no_other_one() {
    let (database, store) = theirs(&format!(
        "{THINGS} INSERT INTO things SELECT 'k' || n, 'n', n FROM generate_series(1, 20) n;
         CREATE TABLE trueup_receipts (batch text PRIMARY KEY, intents text)"
    ))
    .await;
    let mapped = bare();
    let mut holder = database.connect().await;
    let mut held = holder.begin().await.expect("a transaction");
    sqlx::query("UPDATE things SET count = 2 WHERE id IN ('k7', 'k9')")
        .execute(&mut *held)
        .await
        .expect("locked");
    let writes = (1..=10).map(|n| (key(&format!("k{n}")), set(&mapped, "name", Value::text("x"))));
    let began = std::time::Instant::now();
    let outcomes = apply(&store, &mapped, writes.collect()).await;
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    for (n, outcome) in (1..=10).zip(&outcomes) {
        if matches!(n, 7 | 9) {
            let error = refused(outcome);
            assert!(
                error.kind == ErrorKind::Unavailable && error.message.contains(&format!("k{n}")),
                "{error}"
            );
        } else {
            row_of(outcome);
        }
    }
    // So is one that somebody makes at the same time.
    let mut maker = database.connect().await;
    let mut making = maker.begin().await.expect("a transaction");
    sqlx::query("INSERT INTO things VALUES ('n5', 'theirs', 1)").execute(&mut *making).await.expect("made");
    let writes =
        (1..=10).map(|n| (key(&format!("n{n}")), create(&mapped, &[("count", Value::Int(0))], &none())));
    let outcomes = apply(&store, &mapped, writes.collect()).await;
    making.rollback().await.expect("undone");
    for (n, outcome) in (1..=10).zip(&outcomes) {
        if n == 5 {
            assert_eq!(refused(outcome).kind, ErrorKind::Unavailable);
        } else {
            row_of(outcome);
        }
    }
    // Those that go together as well.
    let fall = |n: u32| {
        let op = WriteOp::Delete { guard: guard(&mapped, &[], &none()) };
        let write = batch("x", vec![(key(&format!("k{n}")), op)]).writes.remove(0);
        vec![(
            mapped.name().clone(),
            trueup::model::Write { intent: trueup::model::IntentId(format!("{n}").into()), ..write },
        )]
    };
    let id = trueup::model::BatchId("falls".into());
    let falls =
        trueup::model::Falls { id, mapped: vec![mapped.clone()], falls: (6..=20).map(fall).collect() };
    let outcomes = store.apply_falls(&falls).await.expect("an answer");
    let gone = outcomes.values().filter(|outcome| matches!(outcome, Outcome::Applied(_))).count();
    assert_eq!((gone, outcomes.len()), (13, 15), "{outcomes:?}");
    held.commit().await.expect("released");
    assert_eq!(
        text(
            &database,
            "SELECT string_agg(id || name, ' ' ORDER BY id) FROM things WHERE count IN (2, 7, 9)"
        )
        .await,
        "k2x k7n k9n"
    );
}
