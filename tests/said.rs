//! What commands say, and what they leave alone because somebody said so.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;
mod world;

use std::sync::LazyLock;

use shell::Place;
use trueup::model::{Cell, EntityName};
use trueup::plan::{Hold, Orders, Place as Where};
use trueup::store::memory::MemoryRow;
use world::{Stamp, THREE_STORES, World};

/// Three SQLite stores and an entity in all of them.
static ITEMS: LazyLock<String> =
    LazyLock::new(|| shell::manifests(&["hub", "app", "local"], "items", "name: string, note: string"));

/// The three stores with four items in each.
fn items() -> Place {
    let place = Place::with(&ITEMS);
    place.run(&["migrate", "-auto-approve"], 0);
    for id in 1..=4 {
        place.sql(
            "hub",
            &format!("insert into items (id, name, note) values ('I{id}', 'name {id}', 'note {id}')"),
        );
    }
    place.run(&["apply", "-auto-approve"], 0);
    place
}

fn name(place: &Place, store: &str, id: &str) -> String {
    place.text(store, &format!("select name from items where id = '{id}'"))
}

#[test]
fn a_saved_plan_writes_nothing_that_was_paused_since() {
    for (paused, changed) in [
        ("app", ["new", "name 1", "new"]),
        ("hub", ["new", "name 1", "name 1"]),
        ("items[\"I1\"]", ["new", "name 1", "name 1"]),
    ] {
        let place = items();
        place.sql("hub", "update items set name = 'new' where id = 'I1'");
        place.sql("hub", "update items set name = 'other' where id = 'I2'");
        place.run(&["plan", "-out", "saved"], 0);
        place.run(&["pause", paused, "--reason", "hands off"], 0);
        let said = place.run(&["apply", "saved"], 1);
        assert!(
            said.contains("app.items[\"I1\"]: writing there was paused after the plan was made"),
            "{said}"
        );
        assert_eq!(
            ["hub", "app", "local"].map(|store| name(&place, store, "I1")),
            changed,
            "{paused}: {said}"
        );
        let others = if paused == "hub" { "name 2" } else { "other" };
        assert_eq!(name(&place, "local", "I2"), others, "{paused}: {said}");
        place.run(&["resume", paused], 0);
        place.run(&["apply", "-auto-approve"], 0);
        assert_eq!(["hub", "app", "local"].map(|store| name(&place, store, "I1")), ["new"; 3], "{paused}");
        place.run(&["plan", "-detailed-exitcode"], 0);
    }
}

#[test]
fn a_delete_in_a_saved_plan_waits_for_what_was_paused_since_and_goes_with_it() {
    const FAMILY: &str = r#"
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: phones}
spec:
  key: {id: string}
  fields: {owner: {type: string, references: things, on_delete: cascade}, number: string}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: phones}
spec:
  entity: phones
  stores:
    hub: {table: phones, fields: {"*": same}, sync: {columns: same}}
    app: {table: phones, fields: {"*": same}, sync: {columns: same}}
    local: {table: phones, fields: {"*": same}, sync: {columns: same}}
"#;
    // The child, the parent, and a replica, which only has to be told later.
    for (entity, key, store) in
        [(Some("phones"), Some("p1"), None), (Some("things"), Some("1"), None), (None, None, Some("local"))]
    {
        let mut world = World::new(&format!("{THREE_STORES}{FAMILY}"));
        let things = world.entity();
        let phones = EntityName::new("phones").unwrap();
        let there = |world: &World, entity: &EntityName, key: &str| {
            ["hub", "app", "local"].map(|store| {
                let table = world.stores[&world::store(store)].table(&world.mapped(entity.as_str(), store));
                table.is_some_and(|table| table.rows.contains_key(&world::key(key)))
            })
        };
        for id in ["1", "2"] {
            world.insert("hub", id, &[("must", "m")], Stamp::None);
            let mapped = world.mapped("phones", "hub");
            let mut row = MemoryRow::default();
            row.fields.insert(world::field("owner"), Cell::Value(world::text(id)));
            world.db("hub").put(&mapped, &world::key(&format!("p{id}")), row);
        }
        world.settle();
        assert_eq!(there(&world, &phones, "p1"), [true; 3]);
        world.delete("app", "1");
        world.tick();
        let plan = world.plan();
        let place = Where {
            store: store.map(world::store),
            entity: entity.map(|name| EntityName::new(name).unwrap()),
            key: key.map(world::key),
        };
        world.orders.holds.add(place, Hold::Paused);
        let report = world.apply(plan).unwrap();
        assert!(!report.is_clean(), "{report:#?}");
        if store.is_none() {
            assert_eq!(there(&world, &things, "1"), [true, false, true], "{entity:?}");
            assert_eq!(there(&world, &phones, "p1"), [true; 3], "{entity:?}");
        } else {
            assert_eq!(there(&world, &things, "1"), [false, false, true]);
            assert_eq!(there(&world, &phones, "p1"), [false, false, true]);
        }
        world.orders = Orders::default();
        world.settle();
        assert_eq!(there(&world, &things, "1"), [false; 3], "{entity:?}");
        assert_eq!(there(&world, &phones, "p1"), [false; 3], "{entity:?}");
        assert_eq!(there(&world, &phones, "p2"), [true; 3], "{entity:?}");
        assert_eq!(world.settle(), 0);
    }
}

#[test]
fn a_paused_store_is_given_no_columns() {
    let place = items();
    place.run(&["pause", "app", "--reason", "hands off"], 0);
    place.manifests(&ITEMS.replace("    note: string\n", "    note: string\n    extra: string\n"));
    let said = place.run(&["migrate", "-auto-approve"], 0);
    assert!(said.contains("app is paused (hands off)") && !said.contains("# app"), "{said}");
    let columns =
        |store: &str| place.text(store, "select group_concat(name) from pragma_table_info('items')");
    assert!(columns("local").contains("extra") && !columns("app").contains("extra"), "{}", columns("app"));
    assert!(place.run(&["migrate", "-auto-approve"], 0).contains("app is paused"));
    place.run(&["resume", "app"], 0);
    place.run(&["migrate", "-auto-approve"], 0);
    assert!(columns("app").contains("extra"));
}

/// Two stores change one field of an item, neither having seen the other, and a pass takes note of it.
fn disagree(place: &Place, id: &str, field: &str) {
    for store in ["app", "local"] {
        place.sql(store, &format!("update items set {field} = 'from {store}' where id = '{id}'"));
    }
}

#[test]
fn a_conflict_of_what_no_manifest_names_any_more_ends() {
    // A field; then the whole entity.
    let others = ITEMS.replace("items", "others").replace("name: string", "title: string");
    let others = &others[others.find("---\napiVersion: trueup/v1\nkind: Entity").unwrap()..];
    for without in [
        ITEMS.replace("    name: string\n", ""),
        format!("{}{others}", &ITEMS[..ITEMS.find("---\napiVersion: trueup/v1\nkind: Entity").unwrap()]),
    ] {
        let place = items();
        disagree(&place, "I1", "name");
        place.run(&["apply", "-auto-approve"], 0);
        let id = place.conflict();
        place.manifests(&without);
        place.run(&["migrate", "-auto-approve"], 0);
        let said = place.run(&["conflicts", "resolve", &id, "--take", "app", "-auto-approve"], 1);
        assert!(said.contains("no longer name"), "{said}");
        let said = place.run(&["apply", "-auto-approve"], 0);
        assert!(said.contains(&id) && said.contains("withdrawn by manifests"), "{said}");
        assert!(place.run(&["conflicts", "list"], 0).contains("No conflict waits"));
        let kept = place.text("hub", "select status || ' ' || resolved_by from sync_conflicts");
        assert_eq!(kept, "withdrawn manifests that no longer name it");
        assert_ne!(
            place.text("hub", "select sync_status from items where id = 'I1'"),
            if without.contains("others") { "" } else { "conflict" }
        );
        assert!(place.run(&["apply", "-auto-approve"], 0).contains("0 added, 0 changed, 0 destroyed"));
    }
}

#[test]
fn what_is_left_as_it_is_is_said_and_why() {
    let place = items();
    place.manifests(&ITEMS.replace(
        "spec: {sqlite: {path: ../stores/app.db}}",
        "spec: {read_only: true, sqlite: {path: ../stores/app.db}}",
    ));
    place.sql("hub", "delete from items where id = 'I4'; update items set name = 'new' where id = 'I3'");
    place.run(&["apply", "-auto-approve"], 0);
    let said = place.run(&["plan"], 0);
    assert!(said.contains("app.items: 2 records not as it should be: the store is `read_only`"), "{said}");
    assert!(said.contains("Every store that may be written holds") && !said.contains("held"), "{said}");

    let place = items();
    place.run(&["pause", "items[\"I2\"]", "--reason", "m"], 0);
    disagree(&place, "I2", "name");
    let said = place.run(&["plan"], 0);
    assert!(
        said.contains("app.items: 1 record not written: writing there, or to the canonical store, is paused"),
        "{said}"
    );
    assert!(!said.contains("held") && !said.contains("named above"), "{said}");

    let place = items();
    place.run(&["pause", "app", "--reason", "m"], 0);
    place.sql("hub", "update items set name = 'new' where id = 'I1'");
    for command in [&["plan"][..], &["apply", "-auto-approve"]] {
        let said = place.run(command, 0);
        assert!(
            said.contains(
                "app.items: 1 record not written: writing there, or to the canonical store, is paused"
            ),
            "{said}"
        );
        assert!(!said.contains("local.items: 1 record not"), "{said}");
    }
}

#[test]
fn a_plan_about_targets_says_nothing_of_others() {
    let place = items();
    place.sql("hub", "update items set name = 'new' where id = 'I1'");
    let said = place.run(&["plan", "-target", "items[\"I2\"]"], 0);
    assert!(
        said.contains("Only the targets were looked at: items[\"I2\"].")
            && !said.contains("Every store holds what"),
        "{said}"
    );
    assert!(!said.contains("Warning"), "{said}");
    let said = place.run(&["plan", "-target", "items[\"NOSUCH\"]"], 0);
    assert!(said.contains("no store has a record that --target items[\"NOSUCH\"] names"), "{said}");
    assert!(!said.contains("Every store holds what"), "{said}");
    assert!(!place.run(&["plan"], 0).contains("targets"));
}

#[test]
fn a_plan_names_conflicts_that_are_on_record_and_all_that_wait_are_counted() {
    let place = items();
    disagree(&place, "I1", "name");
    let said = place.run(&["plan"], 0);
    assert!(said.contains("name differs between") && !said.contains("conflicts resolve"), "{said}");
    place.run(&["apply", "-auto-approve"], 0);
    let id = place.conflict();
    let said = place.run(&["plan"], 0);
    assert!(said.contains(&format!("decide with `trueup conflicts resolve {id}`")), "{said}");
    for edit in ["x", "y"] {
        place.sql("app", &format!("update items set note = '{edit}' where id = 'I2'"));
        let said = place.run(&["apply", "-auto-approve"], 0);
        assert!(said.contains("Conflicts: 0 settled, 1 waiting for a person"), "{said}");
    }
    disagree(&place, "I3", "note");
    let said = place.run(&["apply", "-auto-approve"], 0);
    assert!(said.contains("Conflicts: 0 settled, 2 waiting for a person"), "{said}");
    let said = place.run(&["conflicts", "resolve", &id, "--take", "app", "-auto-approve"], 0);
    assert!(said.contains("Conflicts: 1 settled, 1 waiting for a person"), "{said}");
    let said = place.run(&["apply", "-auto-approve"], 0);
    assert!(said.contains("Conflicts: 0 settled, 1 waiting for a person"), "{said}");
}

#[test]
fn two_entities_in_one_table_are_found_however_it_is_written() {
    let (_, entity) = ITEMS.split_once("---\napiVersion: trueup/v1\nkind: Entity").unwrap();
    let things = |hub: &str, app: &str| {
        format!("{}---\napiVersion: trueup/v1\nkind: Entity{entity}", *ITEMS)
            .replacen("items}\nspec:\n  key", "items}\nspec:\n  key", 1)
            .rsplit_once("---\napiVersion: trueup/v1\nkind: Entity")
            .map(|(before, after)| {
                let after = after
                    .replace("{name: items}", "{name: things}")
                    .replace("entity: items", "entity: things");
                let after = after.replace("hub: {table: items", &format!("hub: {{table: {hub}"));
                let after = after.replace("app: {table: items", &format!("app: {{table: {app}"));
                let after = after.replace("local: {table: items", "local: {table: things");
                format!("{before}---\napiVersion: trueup/v1\nkind: Entity{after}")
            })
            .unwrap()
    };
    let postgres = |own: &str| {
        let text = things("things", "public.items");
        text.replace(
            "sqlite: {path: ../stores/app.db}",
            &format!("postgres: {{url: \"postgres://app@db.example.com/app\"{own}}}"),
        )
    };
    let good = [
        things("things", "things"),
        postgres(", schema: own").replace("app: {table: items", "app: {table: own.items"),
    ];
    for text in good {
        let place = Place::with(&text);
        assert!(place.run(&["validate"], 0).contains("Success!"));
    }
    let one_file = ITEMS.replace("../stores/local.db", "./../stores/app.db");
    let bad = [
        (things("things", "ITEMS"), "both mapped to `ITEMS`"),
        (things("Main.items", "things"), "both mapped to `Main.items`"),
        (postgres(""), "both mapped to `public.items`"),
        (things("SYNC_CONFLICTS", "things"), "`SYNC_CONFLICTS` is a table of trueup's own"),
        (things("main.trueup_receipts", "things"), "`main.trueup_receipts` is a table of trueup's own"),
        (one_file, "`items` in `local` is the table that `items` has in `app`"),
    ];
    for (text, mistake) in bad {
        let said = Place::with(&text).trueup(&["validate"]).output().unwrap();
        let said = String::from_utf8_lossy(&[said.stdout, said.stderr].concat()).into_owned();
        assert!(said.contains(mistake), "{mistake}: {said}");
    }
}

#[test]
fn for_ever_is_a_time() {
    let place = Place::with(&ITEMS.replace("    note: string\n", "    note: string\n    till: timestamp\n"));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("app", "insert into items (id, till) values ('I1', '9999-12-31T23:59:59.999999Z')");
    place.sql("local", "insert into items (id, till) values ('I2', '9999-12-31'), ('I3', 'infinity')");
    let said = place.run(&["apply", "-auto-approve"], 0);
    assert!(said.contains("infinity cannot be read as timestamp"), "{said}");
    for store in ["hub", "app", "local"] {
        let till = place.text(store, "select till from items where id = 'I1'");
        assert_eq!(till, "9999-12-31T23:59:59.999999Z", "{store}");
    }
    assert!(place.text("app", "select till from items where id = 'I2'").starts_with("9999-12-31"));
    place.run(&["plan", "-detailed-exitcode"], 0);
}

#[test]
fn fields_that_go_together_differ_together() {
    let place = items();
    place.manifests(&ITEMS.replace("  key: {id: string}", "  key: {id: string}\n  groups: [[name, note]]"));
    place.sql("app", "update items set name = 'app' where id = 'I1'");
    place.sql("local", "update items set note = 'local' where id = 'I1'");
    let said = place.run(&["plan"], 0);
    assert!(said.contains("items[\"I1\"]: name, note differ between app and local"), "{said}");
}

#[test]
fn who_lost_is_who_held_another_value() {
    let place = Place::with(&ITEMS);
    place.run(&["migrate", "-auto-approve"], 0);
    for (store, name) in [("hub", "same"), ("app", "same"), ("local", "other")] {
        place.sql(store, &format!("insert into items (id, name) values ('I1', '{name}')"));
    }
    let said = place.run(&["apply", "-auto-approve"], 0);
    let line = "hub (version 0) wins by first_meeting over local (version 0), which had name = \"other\"\n";
    assert!(said.contains(line), "{said}");
    let kept = "select winner || ' ' || source_store || ' ' || target_store from sync_conflicts";
    assert_eq!(place.text("hub", kept), "hub local hub");
    assert_eq!(place.text("local", "select last_updated_by from items"), "hub", "nobody else said so first");
}

#[test]
fn a_delete_that_a_reference_restricts_says_so() {
    let place = items();
    place.manifests(
        &ITEMS.replace("note: string", "note: {type: string, references: items, on_delete: restrict}"),
    );
    place.sql("hub", "update items set note = null; update items set note = 'I1' where id = 'I2'");
    place.run(&["apply", "-auto-approve", "-allow", "updates"], 0);
    place.sql("app", "delete from items where id = 'I1'");
    let said = place.run(&["apply", "-auto-approve"], 0);
    let line = "hub (version 1) wins by delete_restricted over app (version 1), where it was deleted\n";
    assert!(said.contains(line), "{said}");
    assert_eq!(place.text("hub", "select reason from sync_conflicts"), "delete_restricted");
    assert_eq!(name(&place, "app", "I1"), "name 1");
}

#[test]
fn a_new_record_comes_from_its_store_whatever_is_derived_of_it() {
    let place = items();
    place.manifests(&ITEMS.replace("note: string", "note: string\n    searched: {derive: name(name)}"));
    place.run(&["migrate", "-auto-approve"], 0);
    place.run(&["apply", "-auto-approve", "-allow", "updates"], 0);
    place.sql("app", "insert into items (id, name) values ('I9', 'New')");
    let said = place.run(&["plan"], 0);
    assert!(said.contains("hub.items[\"I9\"] will be created (new in app)"), "{said}");
}

#[test]
fn errors_stand_since_the_apply_that_found_them_though_it_wrote_nothing() {
    let place = items();
    place.manifests(&ITEMS.replace("name: string", "name: {type: string, required: true}"));
    place.sql("app", "insert into items (id) values ('I9')");
    let errors =
        || -> serde_json::Value { serde_json::from_str(&place.run(&["errors", "-json"], 0)).unwrap() };
    let first = errors();
    assert!(first["errors"][0]["since"].as_str() <= first["at"].as_str(), "{first:#}");
    assert!(place.run(&["apply", "-auto-approve"], 0).contains("No changes."));
    let noted = errors();
    assert_eq!(noted["errors"][0]["kind"], "rejected");
    assert_eq!(noted["errors"], errors()["errors"]);
    place.sql("app", "delete from items where id = 'I9'");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(errors()["errors"], serde_json::json!([]));
}
