//! Values that only one record may have, and records that exchange them.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "server/mod.rs"]
mod server;
mod shell;

use shell::Place;

const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: warehouse}
spec: {canonical: true, sqlite: {path: ../stores/warehouse.db}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: local}
spec: {sqlite: {path: ../stores/local.db}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: seats}
spec: {key: {seat: string}, fields: {holder: {type: string, unique: true}, note: string}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: seats}
spec:
  entity: seats
  stores:
    warehouse: {table: seats, fields: {"*": same}, sync: {columns: same}}
    local: {table: seats, fields: {"*": same}, sync: {columns: same}}
"#;

#[test]
fn records_that_exchange_what_only_one_may_have_do_so_in_one_pass() {
    let place = Place::with(MANIFESTS);
    place.run(&["migrate", "-auto-approve"], 0);
    for store in ["warehouse", "local"] {
        place.sql(store, "CREATE UNIQUE INDEX IF NOT EXISTS one_holder ON seats (holder)");
    }
    place.sql(
        "warehouse",
        "INSERT INTO seats (seat, holder) VALUES ('1', 'ann'), ('2', 'bo'), ('3', 'cy'), ('4', 'dee'), ('5', NULL)",
    );
    place.run(&["apply", "-auto-approve"], 0);
    // Two exchange theirs, and one goes where another one was who goes where nobody was.
    place.sql(
        "local",
        "UPDATE seats SET holder = NULL; UPDATE seats SET holder = CASE seat WHEN '1' THEN 'bo' WHEN '2' THEN 'ann' WHEN '4' THEN 'cy' WHEN '5' THEN 'dee' END",
    );
    place.run(&["apply", "-auto-approve", "-allow", "updates"], 0);
    for store in ["warehouse", "local"] {
        let all = "SELECT group_concat(seat || ' ' || coalesce(holder, '-'), ', ') FROM (SELECT * FROM seats ORDER BY seat)";
        assert_eq!(place.text(store, all), "1 bo, 2 ann, 3 -, 4 cy, 5 dee", "{store}");
    }
    assert!(place.run(&["plan", "-detailed-exitcode"], 0).contains("No changes."));
}

#[test]
fn a_deleted_record_lets_go_of_what_another_one_takes() {
    let place = Place::with(MANIFESTS);
    place.run(&["migrate", "-auto-approve"], 0);
    for store in ["warehouse", "local"] {
        place.sql(store, "CREATE UNIQUE INDEX IF NOT EXISTS one_holder ON seats (holder)");
    }
    place.sql("warehouse", "INSERT INTO seats (seat, holder) VALUES ('1', 'ann'), ('2', 'bo'), ('3', 'cy')");
    place.run(&["apply", "-auto-approve"], 0);
    place.sql(
        "local",
        "DELETE FROM seats WHERE seat IN ('1', '2'); INSERT INTO seats (seat, holder) VALUES ('4', 'ann');
         UPDATE seats SET holder = 'bo' WHERE seat = '3'",
    );
    place.run(&["apply", "-auto-approve", "-allow", "deletes"], 0);
    let all = "SELECT group_concat(seat || ' ' || holder, ', ') FROM (SELECT * FROM seats ORDER BY seat)";
    assert_eq!(place.text("warehouse", all), "3 bo, 4 ann");
    assert!(place.run(&["plan", "-detailed-exitcode"], 0).contains("No changes."));
}

/// Whoever has the value and keeps it is in the way, and nobody loses anything.
#[test]
fn where_a_third_one_keeps_the_value_nobody_lets_go() {
    let place = Place::with(MANIFESTS);
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("warehouse", "CREATE UNIQUE INDEX IF NOT EXISTS one_holder ON seats (holder)");
    place.sql("warehouse", "INSERT INTO seats (seat, holder) VALUES ('1', 'ann'), ('2', 'bo')");
    place.run(&["apply", "-auto-approve"], 0);
    place.sql(
        "warehouse",
        "CREATE TRIGGER kept BEFORE UPDATE OF holder ON seats WHEN new.holder IS NULL BEGIN SELECT RAISE(ABORT, 'kept'); END",
    );
    place.sql("local", "UPDATE seats SET holder = CASE seat WHEN '1' THEN 'bo' ELSE 'ann' END");
    place.run(&["apply", "-auto-approve", "-allow", "updates"], 1);
    let all = "SELECT group_concat(seat || ' ' || coalesce(holder, '-'), ', ') FROM (SELECT * FROM seats ORDER BY seat)";
    assert_eq!(place.text("warehouse", all), "1 ann, 2 bo");
    assert_eq!(place.text("local", all), "1 bo, 2 ann");
}

#[tokio::test(flavor = "multi_thread")]
async fn and_so_they_do_in_postgres() {
    let database = server::database().await;
    let warehouse = format!("postgres: {{url: \"{}\"}}", database.url);
    let place = Place::with(&MANIFESTS.replace("sqlite: {path: ../stores/warehouse.db}", &warehouse));
    place.run(&["migrate", "-auto-approve"], 0);
    database.sql("CREATE UNIQUE INDEX one_holder ON seats (holder)").await;
    database.sql("INSERT INTO seats (seat, holder) VALUES ('1', 'ann'), ('2', 'bo'), ('3', 'cy')").await;
    place.run(&["apply", "-auto-approve"], 0);
    let local = rusqlite::Connection::open(place.path().join("stores/local.db")).unwrap();
    let round = "UPDATE seats SET holder = CASE seat WHEN '1' THEN 'bo' WHEN '2' THEN 'cy' ELSE 'ann' END, note = 'moved'";
    local.execute(round, []).unwrap();
    place.run(&["apply", "-auto-approve", "-allow", "updates"], 0);
    let mut connection = database.connect().await;
    let all: String = sqlx::query_scalar(
        "SELECT string_agg(seat || ' ' || holder || ' ' || note, ', ' ORDER BY seat) FROM seats",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    assert_eq!(all, "1 bo moved, 2 cy moved, 3 ann moved");
    assert!(place.run(&["plan", "-detailed-exitcode"], 0).contains("No changes."));
}
