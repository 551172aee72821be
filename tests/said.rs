//! What commands say, and what they leave alone because somebody said so.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;
mod world;

use shell::Place;
use trueup::model::{Cell, EntityName};
use trueup::plan::{Hold, Orders, Place as Where};
use trueup::store::memory::MemoryRow;
use world::{Stamp, THREE_STORES, World};

/// Three SQLite stores and an entity in all of them.
const ITEMS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: hub}
spec: {canonical: true, sqlite: {path: ../stores/hub.db}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: app}
spec: {sqlite: {path: ../stores/app.db}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: local}
spec: {sqlite: {path: ../stores/local.db}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: items}
spec:
  key: {id: string}
  fields:
    name: string
    note: string
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: items}
spec:
  entity: items
  stores:
    hub: {table: items, fields: {"*": same}, sync: {columns: same}}
    app: {table: items, fields: {"*": same}, sync: {columns: same}}
    local: {table: items, fields: {"*": same}, sync: {columns: same}}
"#;

/// The three stores with four items in each.
fn items() -> Place {
    let place = Place::with(ITEMS);
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
