//! Marks: whatever happens to a table after one is seen by the next look, and nothing else is looked at.

use super::*;

/// A look: the keys that may have changed, the count, and where the store stands.
struct Look {
    changed: Vec<RecordKey>,
    count: u64,
    mark: Mark,
    changes: Box<dyn Changes>,
}

async fn look(store: &Arc<dyn Store>, mapped: &Mapped, since: &Mark) -> Look {
    let mut changes = store.changes(mapped, since).await.expect("an answer").expect("it can tell");
    let mut changed = Vec::new();
    while let Some(rows) = changes.rows().await.expect("rows") {
        changed.extend(rows.iter().map(|row: &LazyRow| row.key().clone()));
    }
    Look { changed, count: changes.count(), mark: changes.mark(), changes }
}

fn keys(texts: &[&str]) -> Vec<RecordKey> {
    texts.iter().map(|text| key(text)).collect()
}

const TEN: &str = "INSERT INTO things SELECT 'k' || n, 'n', n FROM generate_series(0, 9) AS n;";

#[tokio::test]
async fn only_what_changed_is_looked_at() {
    let (database, store) = theirs(&format!("{THINGS} {TEN}")).await;
    let mapped = bare();
    let mark = mark_of(&store, &mapped).await;
    let same = look(&store, &mapped, &mark).await;
    assert_eq!((same.changed, same.count), (vec![], 10), "nothing happened");
    database.sql("CREATE TABLE other (id text); INSERT INTO other VALUES ('x')").await;
    assert_eq!(look(&store, &mapped, &mark).await.changed, [], "nothing happened here");
    for statements in [
        "UPDATE things SET count = 77 WHERE id = 'k7'",
        "DELETE FROM things WHERE id IN ('k2', 'k3')",
        "INSERT INTO things VALUES ('new')",
        "UPDATE things SET id = 'moved' WHERE id = 'k5'",
        "BEGIN; UPDATE things SET count = 0; ROLLBACK",
        "BEGIN; SAVEPOINT a; UPDATE things SET name = 'sub' WHERE id = 'k9'; RELEASE a; COMMIT",
    ] {
        database.sql(statements).await;
    }
    let mut seen = look(&store, &mapped, &mark).await;
    assert_eq!(seen.changed, keys(&["k7", "k9", "moved", "new"]));
    assert_eq!(seen.count, 9);
    assert_eq!(seen.changes.counts(&[]).await.expect("counts"), [9]);
    assert_eq!(seen.changes.counts(&keys(&["k1", "k5", "l"])).await.expect("counts"), [1, 2, 4, 2]);
    let some = seen.changes.keys(Some(&key("k4")), Some(&key("l"))).await.expect("keys");
    assert_eq!(some, keys(&["k4", "k6", "k7", "k8", "k9"]));
    assert_eq!(seen.changes.keys(None, Some(&key("k1"))).await.expect("keys"), keys(&["k0"]));
    database.sql("DELETE FROM things").await;
    assert_eq!(seen.changes.keys(None, None).await.expect("keys").len(), 9, "all as of one moment");
    let again = look(&store, &mapped, &seen.mark).await;
    assert_eq!((again.changed, again.count), (vec![], 0));
}

#[tokio::test]
async fn questions_may_be_asked_before_the_rows_were_read() {
    let (database, store) = theirs(THINGS).await;
    let mapped = bare();
    let mark = mark_of(&store, &mapped).await;
    database.sql("INSERT INTO things SELECT n::text FROM generate_series(1, 9000) AS n").await;
    let mut changes = store.changes(&mapped, &mark).await.expect("an answer").expect("it can tell");
    assert_eq!(changes.counts(&[key("5")]).await.expect("counts").iter().sum::<u64>(), 9000);
    let keys = changes.keys(None, None).await.expect("keys");
    for step in [1, 7, 63, 64, 65, 8999] {
        let bounds: Vec<RecordKey> = keys.iter().skip(1).step_by(step).cloned().collect();
        let counts = changes.counts(&bounds).await.expect("counts");
        let mut expected = vec![1];
        expected.extend(keys[1..].chunks(step).map(|chunk| chunk.len() as u64));
        assert_eq!(counts, expected, "{step}");
    }
    drop(changes);
    assert_eq!(look(&store, &mapped, &mark).await.changed.len(), 9000);
}

#[tokio::test]
async fn what_was_under_way_at_the_mark_is_seen_once_it_is_done() {
    let (database, store) = theirs(&format!("{THINGS} {TEN}")).await;
    let mapped = bare();
    let mut early = database.connect().await;
    let mut under_way = early.begin().await.expect("a transaction");
    sqlx::raw_sql("UPDATE things SET count = 1 WHERE id = 'k1'; SAVEPOINT a; UPDATE things SET count = 2 WHERE id = 'k2'")
        .execute(&mut *under_way)
        .await
        .expect("written");
    database.sql("UPDATE things SET count = 3 WHERE id = 'k3'").await;
    let mark = snapshot(&store, &mapped).await.1.mark.expect("a mark");
    let before = look(&store, &mapped, &mark).await;
    let unseen = |changed: &[RecordKey]| !changed.contains(&key("k1")) && !changed.contains(&key("k2"));
    assert!(unseen(&before.changed), "as it was at the mark: {:?}", before.changed);
    under_way.commit().await.expect("committed");
    let after = look(&store, &mapped, &mark).await.changed;
    assert!(after.contains(&key("k1")) && after.contains(&key("k2")), "{after:?}");
    let through = look(&store, &mapped, &before.mark).await.changed;
    assert!(through.contains(&key("k1")) && through.contains(&key("k2")), "through the mark between");
}

#[tokio::test]
async fn own_writes_are_not_looked_at_again_unless_somebody_may_have_had_a_hand_in_them() {
    // A server of its own: what is known is known up to the oldest transaction that is under way in any of its databases.
    let server = server::Server::start(server::Disk::Lazy);
    let database = server.database().await;
    database.sql(&format!("{THINGS} {TEN}")).await;
    let store = open(&database.url);
    let mapped = bare();
    let mark = mark_of(&store, &mapped).await;
    let writes = vec![
        (key("k1"), set(&mapped, "name", Value::text("ours"))),
        (key("k2"), set(&mapped, "name", Value::text("ours"))),
        (key("made"), create(&mapped, &[], &none())),
        (key("k3"), update(&mapped, &[], None, guard(&mapped, &[], &none()))),
    ];
    apply(&store, &mapped, writes).await;
    database
        .sql("UPDATE things SET count = -2 WHERE id = 'k2'; UPDATE things SET count = -3 WHERE id = 'k3'")
        .await;
    assert_eq!(look(&store, &mapped, &mark).await.changed, keys(&["k1", "k2", "k3", "made"]));
    let sealed = store.seal(&mapped, mark.clone());
    let seen = look(&store, &mapped, &sealed).await;
    assert_eq!(seen.changed, keys(&["k2", "k3"]), "theirs came after ours");
    assert_eq!(open(&database.url).seal(&mapped, mark.clone()), mark, "another one wrote nothing");
    // What they wrote after the last look, and we wrote over, is in the row all the same; what the look saw hides nothing.
    let mark = mark_of(&store, &mapped).await;
    database.sql("UPDATE things SET count = -1 WHERE id = 'k1'").await;
    apply(&store, &mapped, vec![(key("k1"), set(&mapped, "name", Value::text("over theirs")))]).await;
    let seen = look(&store, &mapped, &store.seal(&mapped, mark)).await;
    assert_eq!(seen.changed, keys(&["k1"]));
    for name in ["known", "known again"] {
        apply(&store, &mapped, vec![(key("k1"), set(&mapped, "name", Value::text(name)))]).await;
    }
    assert_eq!(look(&store, &mapped, &store.seal(&mapped, seen.mark)).await.changed, []);
    // A trigger of somebody's may write more than we know of.
    database
        .sql(
            "CREATE FUNCTION more() RETURNS trigger LANGUAGE plpgsql AS
               $$ BEGIN UPDATE things SET count = 100 WHERE id = 'k9'; RETURN NULL; END $$;
             CREATE TRIGGER t AFTER UPDATE ON things FOR EACH ROW WHEN (NEW.id <> 'k9') EXECUTE FUNCTION more()",
        )
        .await;
    let mark = mark_of(&store, &mapped).await;
    apply(&store, &mapped, vec![(key("k1"), set(&mapped, "name", Value::text("again")))]).await;
    let seen = look(&store, &mapped, &store.seal(&mapped, mark)).await;
    assert_eq!(seen.changed, keys(&["k1", "k9"]));
}

#[tokio::test]
async fn deletes_that_set_other_rows_are_not_ours_alone() {
    let (_, store) = theirs(
        "CREATE TABLE things (id text PRIMARY KEY, name text REFERENCES things ON DELETE SET NULL, count int8);
         INSERT INTO things VALUES ('a', NULL, 1), ('b', 'a', 2), ('c', NULL, 3)",
    )
    .await;
    let mapped = bare();
    let mark = mark_of(&store, &mapped).await;
    let writes = vec![
        (key("a"), WriteOp::Delete { guard: guard(&mapped, &[], &none()) }),
        (key("c"), set(&mapped, "count", Value::Int(4))),
    ];
    apply(&store, &mapped, writes).await;
    let seen = look(&store, &mapped, &store.seal(&mapped, mark)).await;
    assert_eq!((seen.changed, seen.count), (keys(&["b", "c"]), 2));
}

#[tokio::test]
async fn a_table_that_is_another_one_is_read_whole() {
    let (database, store) = theirs(&format!(
        "CREATE TYPE colour AS ENUM ('red'); {THINGS} ALTER TABLE things ADD colour colour; INSERT INTO things VALUES ('a', 'n', 1, 'red')"
    ))
    .await;
    let mapped = plain(name_and_count().field("colour", FieldType::String), |_| {});
    let other = self::database().await;
    other
        .sql(&format!("CREATE TYPE colour AS ENUM ('red'); {THINGS} ALTER TABLE things ADD colour colour"))
        .await;
    let cannot = async |store: &Arc<dyn Store>, mark: &Mark, why: &str| {
        let changes = store.changes(&mapped, mark).await.expect("an answer");
        assert!(changes.is_none(), "{why}");
    };
    let mark = mark_of(&store, &mapped).await;
    cannot(&open(&other.url), &mark, "another database").await;
    cannot(&store, &Mark("garbage".into()), "no mark of ours").await;
    for change in [
        "TRUNCATE things",
        "ALTER TABLE things ALTER COLUMN count TYPE numeric",
        "ALTER TABLE things DROP COLUMN name; ALTER TABLE things ADD COLUMN name text DEFAULT 'other'",
        "ALTER TYPE colour RENAME VALUE 'red' TO 'rosso'",
        "VACUUM FULL things",
        "DROP TABLE things; CREATE TABLE things (id text PRIMARY KEY, name text, count int8, colour colour)",
        "ALTER TABLE things DROP CONSTRAINT things_pkey",
    ] {
        let mark = mark_of(&store, &mapped).await;
        assert!(store.changes(&mapped, &mark).await.expect("an answer").is_some(), "before {change}");
        for statement in change.split(';') {
            database.sql(statement).await;
        }
        cannot(&store, &mark, change).await;
    }
    assert!(snapshot(&store, &mapped).await.1.mark.is_none(), "without a key of its own there is no telling");
}

#[tokio::test]
async fn frozen_rows_are_old_and_edits_among_them_are_new() {
    let (database, store) = theirs(&format!("{THINGS} {TEN}")).await;
    let mapped = bare();
    database.sql("VACUUM (FREEZE) things").await;
    let mark = mark_of(&store, &mapped).await;
    database.sql("UPDATE things SET count = 5 WHERE id = 'k5'").await;
    database.sql("VACUUM (FREEZE) things").await;
    assert_eq!(look(&store, &mapped, &mark).await.changed, keys(&["k5"]));
}

#[tokio::test]
async fn composite_keys_are_counted_and_listed_in_their_order() {
    let mapped = pairs();
    let (database, store) = theirs("").await;
    let steps = store.plan_migration(std::slice::from_ref(&mapped)).await.expect("planned");
    store.migrate(&steps).await.expect("migrated");
    let mark = mark_of(&store, &mapped).await;
    database
        .sql("INSERT INTO pairs (a, b) SELECT a, b FROM unnest(ARRAY['', 'a', E'a\\x01', 'b']) AS a, generate_series(8, 11) AS b")
        .await;
    let mut seen = look(&store, &mapped, &mark).await;
    assert_eq!(seen.count, 16);
    let all = seen.changed.clone();
    assert!(all.is_sorted());
    assert_eq!(seen.changes.keys(None, None).await.expect("keys"), all);
    for from in [0, 3, 9, 15] {
        let counts = seen.changes.counts(&all[from..=from]).await.expect("counts");
        assert_eq!(counts, [from as u64, 16 - from as u64]);
        let listed = seen.changes.keys(Some(&all[from]), None).await.expect("keys");
        assert_eq!(listed, all[from..]);
    }
}
