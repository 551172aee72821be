//! `trueup explain`: one record as every store has it, what it should be, and why.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;

use shell::{Place, manifests};

/// Three stores that agree on a few people.
fn place() -> Place {
    let fields = "name: {type: string,required: true}, age: {type: int64,range: {min: 0}}, note: string, pin: {type: string,sensitive: true}";
    let place = Place::with(&manifests(&["hub", "app", "local"], "people", fields));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql(
        "hub",
        "INSERT INTO people (id, name, age, note, pin) VALUES ('a', 'Ann', 41, 'first', '1234'), ('b', 'Bo', 7, NULL, NULL)",
    );
    place.run(&["apply", "-auto-approve"], 0);
    place
}

#[track_caller]
fn says(page: &str, parts: &[&str]) {
    for part in parts {
        assert!(page.contains(part), "`{part}` is not said in:\n{page}");
    }
}

fn explain(place: &Place, record: &str) -> String {
    place.run(&["explain", record], 0)
}

fn object(place: &Place, record: &str) -> serde_json::Value {
    let output = place.trueup(&["explain", record, "-json"]).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_record_that_all_stores_hold_alike_is_shown_once() {
    let place = place();
    let page = explain(&place, r#"people["a"]"#);
    says(
        &page,
        &[
            "people[\"a\"]: version 0",
            "hub (canonical)  there",
            "\n  name = \"Ann\"\n  age  = 41\n  note = \"first\"\n  pin  = (sensitive value)\n",
        ],
    );
    assert_eq!(page.matches("in sync").count(), 3, "{page}");
    assert!(!page.contains("1234") && !page.contains(" has "), "{page}");
    says(&explain(&place, r#"people["b"]"#), &["# (2 empty fields hidden)"]);
}

#[test]
fn an_edit_is_shown_where_it_was_made_and_where_it_will_go() {
    let place = place();
    place.sql("app", "UPDATE people SET age = 42, pin = '9876' WHERE id = 'a'");
    let page = explain(&place, r#"people["a"]"#);
    says(
        &page,
        &[
            "to be updated (because app changed it)\n",
            "  age  = 42  # from app (only change)\n      hub has 41\n      local has 41\n",
            "  pin  = (sensitive value)  # from app (only change)\n      hub has another one\n      local has another one\n",
        ],
    );
    assert!(!page.contains("1234") && !page.contains("9876"), "{page}");
    let told = object(&place, r#"people["a"]"#);
    assert_eq!(told["fields"]["age"]["value"], 42);
    assert_eq!(
        told["fields"]["age"]["provenance"],
        serde_json::json!({"store": "app", "rule": "only_change"})
    );
    assert_eq!(told["fields"]["age"]["elsewhere"]["hub"]["value"], 41);
    assert_eq!(told["stores"]["hub"]["action"], "update");
    assert_eq!(told["fields"]["pin"]["value"], serde_json::Value::Null);
    assert!(!told.to_string().contains("9876"), "{told}");
    // Nothing was written, and what is to be done is still to be done.
    says(&place.run(&["plan"], 0), &["~ age = 41 -> 42"]);
    place.run(&["apply", "-auto-approve"], 0);
    says(
        &explain(&place, r#"people["a"]"#),
        &["  age  = 42  # since version 1\n", "version 1, last changed in app"],
    );
}

#[test]
fn what_waits_loses_breaks_a_rule_or_is_paused_is_told_where_it_stands() {
    let place = place();
    place.sql("app", "UPDATE people SET note = 'of the app' WHERE id = 'a'");
    place.sql("local", "UPDATE people SET note = 'of the file', age = -1 WHERE id = 'a'");
    place.sql("local", "UPDATE people SET name = 'Bob' WHERE id = 'b'");
    place.run(&["apply", "-auto-approve"], 0);
    place.run(&["pause", "app", "-reason", "migration"], 0);
    place.sql("hub", "UPDATE people SET name = 'Anna' WHERE id = 'a'");
    let page = explain(&place, r#"people["a"]"#);
    says(
        &page,
        &[
            "  note is held until a person decides\n      hub has \"first\"\n      app has \"of the app\"\n      local has \"of the file\"\n",
            "  age  = 41\n      local has -1  # an edit that breaks a rule; stays there\n",
            "  name = \"Anna\"",
            "! note differs between app and local",
            "! local: age in local breaks the rule `range` (-1)",
            "Its conflicts:\n",
            "app since ",
            "migration",
        ],
    );
    assert!(!page.contains("Also wrong"), "what is said now is not said twice:\n{page}");
    let told = object(&place, r#"people["a"]"#);
    assert_eq!(told["conflicts"][0]["status"], "open");
    assert_eq!(told["fields"]["note"]["held"], true);
    assert_eq!(told["pauses"][0]["reason"], "migration");
    assert_eq!(told["stores"]["app"]["standing"], "paused");
    let other = explain(&place, r#"people["b"]"#);
    assert!(!other.contains("Its conflicts"), "{other}");
}

#[test]
fn a_record_that_is_gone_or_never_was_is_told_apart() {
    let place = place();
    place.sql("app", "DELETE FROM people WHERE id = 'b'");
    says(
        &explain(&place, r#"people["b"]"#),
        &["to be deleted wherever it still is", "to be deleted (deleted in app)"],
    );
    place.run(&["apply", "-auto-approve"], 0);
    says(
        &explain(&place, r#"people["b"]"#),
        &["people[\"b\"]: in no store\n", "people[\"b\"] was deleted at ", ": in app\n"],
    );
    assert_eq!(object(&place, r#"people["b"]"#)["deleted"]["deleted_by"], serde_json::json!(["app"]));
    for args in [&["explain", r#"people["z"]"#][..], &["explain", r#"people["z"]"#, "-json"]] {
        says(&place.run(args, 1), &["nothing is known of it"]);
    }
    says(&place.run(&["explain", "people"], 1), &["people names no record", "write its key too"]);
    says(&place.run(&["explain", r#"folk["z"]"#], 1), &["there is no entity `folk`"]);
}

#[test]
fn a_store_that_cannot_be_read_is_named_and_the_others_are_shown() {
    let place = place();
    std::fs::write(place.path().join("stores/local.db"), "no database").unwrap();
    let page = place.run(&["explain", r#"people["a"]"#], 1);
    says(&page, &["local            unknown", "local could not be read: ", "  name = \"Ann\"\n", "in sync"]);
    assert!(object(&place, r#"people["a"]"#)["unreadable"]["local"].is_string());
}
