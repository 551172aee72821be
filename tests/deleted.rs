//! Records that were deleted, and putting them back: what stood in them stands in every store again.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

#[path = "server/mod.rs"]
mod server;
mod shell;

use shell::Place;
use sqlx::{Row as _, postgres::PgRow};

/// Two stores with a value of every type, and what refers to it.
fn manifests(hub: &str) -> String {
    let app = "sqlite: {path: ../stores/app.db}";
    format!(
        r#"
apiVersion: trueup/v1
kind: Store
metadata: {{name: hub}}
spec: {{canonical: true, {hub}}}
---
apiVersion: trueup/v1
kind: Store
metadata: {{name: app}}
spec: {{{app}}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {{name: people}}
spec:
  key: {{id: string}}
  fields:
    name: {{type: string, required: true}}
    passport: {{type: string, sensitive: true}}
    code: string
    visits: int64
    height: float64
    balance: numeric
    active: bool
    born: date
    seen: timestamp
    context: json
    word: json
    tags: string_list
  times: {{created: created_at, updated: updated_at}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {{name: addresses}}
spec:
  key: {{address_id: string}}
  fields:
    person_id: {{type: string, references: people, on_delete: cascade}}
    value: string
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: people}}
spec:
  entity: people
  stores:
    hub: {{table: people, fields: {{"*": same}}, sync: {{columns: same}}}}
    app: {{table: persons, fields: {{"*": same, seen: {{form: unix-micros}}}}, sync: {{json: sync_metadata}}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: addresses}}
spec:
  entity: addresses
  stores:
    hub: {{table: addresses, fields: {{"*": same}}, sync: {{columns: same}}}}
    app: {{table: addresses, fields: {{"*": same}}, sync: {{columns: same}}}}
"#
    )
}

const ADDRESSES: &str = "INSERT INTO addresses (address_id, person_id, value) \
                         VALUES ('a1', 'p1', 'ann@example.com'), ('a2', 'p2', 'bob@example.com')";

/// Everything but versions and times that stands in a table of the app.
fn in_app(place: &Place) -> String {
    let people = "SELECT json_group_array(json_array(id, name, passport, code, visits, height, balance, active, born, seen, \
                  context, word, tags, created_at)) FROM (SELECT * FROM persons ORDER BY id)";
    let addresses = "SELECT json_group_array(json_array(address_id, person_id, value)) FROM (SELECT * FROM addresses ORDER BY 1)";
    place.text("app", people) + &place.text("app", addresses)
}

#[test]
fn what_was_deleted_is_listed_shown_and_put_back() {
    let place = Place::with(&manifests("sqlite: {path: ../stores/hub.db}"));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "ALTER TABLE people ADD COLUMN rating TEXT");
    place.sql(
        "hub",
        r#"INSERT INTO people (id, name, passport, code, visits, height, balance, active, born, seen, context, word, tags, created_at, rating)
           VALUES ('p1', 'Ann Example', 'P-4711', '007', 42, 1.5, '12.50', 1, '1970-02-03', '2026-01-02 03:04:05.678901',
                   '{"likes": ["tea"], "n": 1.0}', '"maker"', '["x", "y"]', '2020-01-01 00:00:00', 'good')"#,
    );
    place.sql("hub", "INSERT INTO people (id, name) VALUES ('p2', 'Bob Sample')");
    place.sql("hub", ADDRESSES);
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.run(&["deleted"], 0), "No deleted record is kept.\n");
    let before = in_app(&place);

    place.sql("app", "DELETE FROM persons WHERE id = 'p1'");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("hub", "SELECT group_concat(address_id) FROM addresses"), "a2");

    let list = place.run(&["deleted"], 0);
    let listed: Vec<Vec<&str>> = list.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(listed[0], ["RECORD", "DELETED", "IN", "EVERYWHERE"]);
    let person = listed.iter().find(|line| line.first() == Some(&r#"people["p1"]"#)).unwrap();
    assert_eq!(person[2..], ["app", "yes"], "{list}");
    assert!(list.contains(r#"addresses["a1"]"#) && list.contains("(with another)"), "{list}");

    let page = place.run(&["deleted", "show", r#"people["p1"]"#], 0);
    for part in [
        r#"name     = "Ann Example""#,
        "passport = (sensitive value)",
        "columns of hub that no mapping names stay in trueup_tombstones: rating\n",
        r#"went with it: addresses["a1"]"#,
        r#"trueup deleted restore 'people["p1"]'"#,
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let json: serde_json::Value =
        serde_json::from_str(&place.run(&["deleted", "show", r#"people["p1"]"#, "-json"], 0)).unwrap();
    assert_eq!(json["fields"]["balance"], "12.5");
    assert_eq!(json["fields"].get("passport"), None);
    assert_eq!(json["along"][0]["address"], r#"addresses["a1"]"#);

    let asked = place.run(&["deleted", "restore", r#"people["p1"]"#], 1);
    assert!(asked.contains("approval is needed"), "{asked}");
    let done = place.run(&["deleted", "restore", r#"people["p1"]"#, "-auto-approve"], 0);
    assert!(done.contains("Plan: 2 to add, 0 to change, 0 to destroy."), "{done}");
    assert!(!done.contains("P-4711"), "{done}");
    assert_eq!(in_app(&place), before);
    let rating = place.text("hub", "SELECT coalesce(rating, 'none') FROM people WHERE id = 'p1'");
    assert_eq!(rating, "none", "what no mapping names is told of, not put back");
    place.run(&["plan", "-detailed-exitcode"], 0);
    assert_eq!(place.run(&["deleted"], 0), "No deleted record is kept.\n");

    let again = place.run(&["deleted", "restore", r#"people["p1"]"#, "-auto-approve"], 1);
    assert!(again.contains(r#"the canonical store has people["p1"]"#), "{again}");
    let never = place.run(&["deleted", "show", r#"people["p2"]"#], 1);
    assert!(never.contains(r#"nothing is kept of a deleted people["p2"]"#), "{never}");
}

#[test]
fn the_last_life_is_put_back_where_the_canonical_row_went_first() {
    let place = Place::with(&manifests("sqlite: {path: ../stores/hub.db}"));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "INSERT INTO people (id, name) VALUES ('p1', 'Ann'), ('p2', 'Bob')");
    place.run(&["apply", "-auto-approve"], 0);
    place.sql("app", "DELETE FROM persons WHERE id = 'p1'");
    place.run(&["apply", "-auto-approve"], 0);
    place.run(&["deleted", "restore", r#"people["p1"]"#, "-auto-approve"], 0);

    // The second time it goes in the canonical store, whose row nobody sees any more: the first life's is still kept.
    place.sql("app", "UPDATE persons SET name = 'Ann Example' WHERE id = 'p1'");
    place.run(&["apply", "-auto-approve"], 0);
    place.sql("hub", "DELETE FROM people WHERE id = 'p1'");
    place.run(&["apply", "-auto-approve"], 0);
    let kept = "SELECT json_extract(records, '$.hub.name') FROM trueup_tombstones";
    assert_eq!(place.text("hub", kept), "Ann", "the older row is kept, too");
    place.run(&["deleted", "restore", r#"people["p1"]"#, "-auto-approve"], 0);
    let name = "SELECT name FROM people WHERE id = 'p1'";
    assert_eq!(place.text("hub", name), "Ann Example");
    place.run(&["plan", "-detailed-exitcode"], 0);
}

#[test]
fn what_was_deleted_before_a_record_was_made_anew_is_kept_when_that_goes_too() {
    let place = Place::with(&manifests("sqlite: {path: ../stores/hub.db}"));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "INSERT INTO people (id, name) VALUES ('p1', 'Ann Example'), ('p2', 'Bob')");
    place.run(&["apply", "-auto-approve"], 0);
    place.sql("app", "DELETE FROM persons WHERE id = 'p1'");
    place.run(&["apply", "-auto-approve"], 0);

    // Somebody makes it anew, with less in it, and nobody's change wins over a delete with that.
    place.sql("app", "INSERT INTO persons (id, name) VALUES ('p1', 'A.')");
    let page = place.run(&["apply", "-auto-approve"], 0);
    assert!(!page.contains("change_over_delete"), "{page}");
    assert_eq!(place.text("hub", "SELECT CAST(count(*) AS TEXT) FROM sync_conflicts"), "0");

    place.sql("app", "DELETE FROM persons WHERE id = 'p1'");
    place.run(&["apply", "-auto-approve"], 0);
    let kept = |status: &str| {
        let of = "SELECT group_concat(json_extract(records, '$.hub.name')) FROM trueup_tombstones";
        place.text("hub", &format!("{of} WHERE status = '{status}'"))
    };
    assert_eq!(kept("confirmed"), "A.");
    assert_eq!(kept("left"), "Ann Example", "the earlier one is not written over");

    place.run(&["deleted", "restore", r#"people["p1"]"#, "-auto-approve"], 0);
    assert_eq!(place.text("hub", "SELECT name FROM people WHERE id = 'p1'"), "A.");
    place.run(&["plan", "-detailed-exitcode"], 0);
}

#[test]
fn nothing_is_put_back_where_nothing_may_be_written() {
    let place = Place::with(&manifests("sqlite: {path: ../stores/hub.db}"));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "INSERT INTO people (id, name) VALUES ('p1', 'Ann'), ('p2', 'Bob')");
    place.sql("hub", ADDRESSES);
    place.run(&["apply", "-auto-approve"], 0);
    place.sql("app", "DELETE FROM persons WHERE id = 'p1'");
    place.run(&["apply", "-auto-approve"], 0);
    place.run(&["pause", "hub", "-reason", "counting"], 0);
    let refused = place.run(&["deleted", "restore", r#"people["p1"]"#, "-auto-approve"], 1);
    assert!(refused.contains(r#"people["p1"] is paused; nothing was written"#), "{refused}");
    place.run(&["resume", "hub"], 0);

    // Alone it comes without what went with it, and that can follow.
    place.run(&["deleted", "restore", r#"people["p1"]"#, "-alone", "-auto-approve"], 0);
    assert_eq!(place.text("hub", "SELECT group_concat(address_id) FROM addresses"), "a2");
    place.run(&["deleted", "restore", r#"addresses["a1"]"#, "-auto-approve"], 0);
    let all = "SELECT group_concat(address_id) FROM (SELECT * FROM addresses ORDER BY 1)";
    assert_eq!(place.text("app", all), "a1,a2");
    place.run(&["plan", "-detailed-exitcode"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_postgres_come_back_as_they_were() {
    let database = server::database().await;
    let place = Place::with(&manifests(&format!("postgres: {{url: \"{}\"}}", database.url)));
    tokio::task::block_in_place(|| place.run(&["migrate", "-auto-approve"], 0));
    database
        .sql(
            r#"INSERT INTO people (id, name, passport, code, visits, height, balance, active, born, seen, context, word, tags, created_at)
               VALUES ('p1', 'Ann Example', 'P-4711', '007', 9007199254740993, 0.1, 12345678901234567890.12345, true, '1970-02-03',
                       '2026-01-02 03:04:05.678901+00', '{"likes": ["tea"], "n": 1}', '"maker"', '{x,"y z"}', '2020-01-01 00:00:00+00')"#,
        )
        .await;
    database.sql("INSERT INTO people (id, name) VALUES ('p2', 'Bob Sample')").await;
    database.sql(ADDRESSES).await;
    let whole = async || -> String {
        let rows = "SELECT jsonb_agg(to_jsonb(p) - '{version,last_updated,last_updated_by,updated_at}'::text[] ORDER BY id)::text FROM people p";
        let mut connection = database.connect().await;
        let row: PgRow = sqlx::query(rows).fetch_one(&mut connection).await.unwrap();
        row.get(0)
    };
    let run = |args: &[&str]| tokio::task::block_in_place(|| place.run(args, 0));
    run(&["apply", "-auto-approve"]);
    let before = (whole().await, tokio::task::block_in_place(|| in_app(&place)));
    tokio::task::block_in_place(|| place.sql("app", "DELETE FROM persons WHERE id = 'p1'"));
    run(&["apply", "-auto-approve"]);
    assert_ne!(whole().await, before.0);
    run(&["deleted", "restore", r#"people["p1"]"#, "-auto-approve"]);
    assert_eq!((whole().await, tokio::task::block_in_place(|| in_app(&place))), before);
    run(&["plan", "-detailed-exitcode"]);
}
