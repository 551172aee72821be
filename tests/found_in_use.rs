//! What people ran into: histories that once ended otherwise than the README says.

mod world;

use trueup::model::{Cell, EntityName, Unreadable, Value};
use trueup::plan::{GuardName, Hold, Orders, Place, Target};
use trueup::store::memory::MemoryRow;
use world::{Stamp, THREE_STORES, World};

/// The three stores with other fields.
fn with_fields(fields: &str) -> World {
    let (before, rest) = THREE_STORES.split_once("    a: string\n").expect("the fields");
    let (_, after) = rest.split_once("  times:").expect("their end");
    World::new(&format!("{before}{fields}  times:{after}"))
}

#[test]
fn a_derived_field_follows_its_source_wherever_that_was_edited() {
    for recompute in ["always", "follow"] {
        for at in ["hub", "app", "local"] {
            let mut world = with_fields(&format!(
                "    a: string\n    n: {{derive: name(a), recompute: {recompute}}}\n    m: {{derive: name(n), recompute: {recompute}}}\n"
            ));
            world.insert("hub", "1", &[("a", "Ada Example")], Stamp::None);
            world.settle();
            assert_eq!(world.everywhere("1", "n"), ["ada example"; 3]);
            world.edit(at, "1", "a", "Zoe Sample", Stamp::Raise);
            world.settle();
            assert_eq!(world.everywhere("1", "n"), ["zoe sample"; 3], "{recompute}, edited in {at}");
            assert_eq!(world.everywhere("1", "m"), ["zoe sample"; 3], "{recompute}, edited in {at}");
            assert_eq!(world.settle(), 0);
            // Who sets it in the same breath has the last word.
            world.edit(at, "1", "a", "Ada Example", Stamp::None);
            world.edit(at, "1", "n", "a. e.", Stamp::None);
            world.settle();
            assert_eq!(world.everywhere("1", "n"), ["a. e."; 3], "{recompute}, edited in {at}");
            assert_eq!(world.settle(), 0);
        }
    }
}

#[test]
fn the_same_edit_in_two_stores_and_one_that_wins_are_followed_too() {
    for (hub, app) in
        [("Zoe Sample", "Zoe Sample"), ("Zoe Sample", "Ben Specimen"), ("Ben Specimen", "Zoe Sample")]
    {
        let mut world = with_fields("    a: string\n    n: {derive: name(a), recompute: follow}\n");
        world.insert("hub", "1", &[("a", "Ada Example")], Stamp::None);
        world.settle();
        let raise = |name: &str| Stamp::RaiseBy(if name == "Zoe Sample" { 3 } else { 1 }, 50);
        world.edit("hub", "1", "a", hub, raise(hub));
        world.edit("app", "1", "a", app, raise(app));
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["Zoe Sample"; 3]);
        assert_eq!(world.everywhere("1", "n"), ["zoe sample"; 3], "{hub} and {app}");
    }
}

#[test]
fn a_derivation_takes_nothing_that_has_to_be_there() {
    for at in ["hub", "app"] {
        let mut world = with_fields(
            "    a: string\n    b: string\n    n: {derive: \"join(a, b)\", recompute: follow, required: true}\n",
        );
        world.insert("hub", "1", &[("a", "Ada"), ("b", "Example")], Stamp::None);
        world.settle();
        assert_eq!(world.everywhere("1", "n"), ["Ada Example"; 3]);
        world.edit(at, "1", "a", "null", Stamp::None);
        world.edit(at, "1", "b", "null", Stamp::None);
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["null"; 3]);
        assert_eq!(world.everywhere("1", "n"), ["Ada Example"; 3], "cleared in {at}");
        assert_eq!(world.settle(), 0);
        world.edit(at, "1", "a", "Zoe", Stamp::None);
        world.settle();
        assert_eq!(world.settle(), 0);
    }
}

#[test]
fn what_cannot_be_read_in_the_canonical_store_is_never_written_over() {
    let unreadable = || {
        let why = Unreadable { why: "no time".to_owned(), fingerprint: 7 };
        Cell::Unreadable(Box::new(why))
    };
    for elsewhere in [None, Some("2024-01-01T00:00:00Z")] {
        let mut world = with_fields("    a: string\n    seen: timestamp\n");
        world.insert("hub", "1", &[("a", "a0")], Stamp::None);
        let mapped = world.mapped("things", "hub");
        world.db("hub").edit(&mapped, &world::key("1"), |row| {
            row.fields.insert(world::field("seen"), unreadable());
        });
        let stands = |world: &World| {
            let table = world.stores[&world::store("hub")].table(&mapped).expect("a table");
            table.rows[&world::key("1")].fields.get(&world::field("seen")).cloned()
        };
        if elsewhere.is_some() {
            world.insert("app", "1", &[("a", "a0")], Stamp::None);
        }
        for round in 0..3 {
            world.settle();
            assert_eq!(stands(&world), Some(unreadable()), "round {round}");
            assert_eq!(world.everywhere("1", "a"), ["a0"; 3]);
            let plan = world.plan();
            assert!(plan.notices.iter().any(|notice| notice.message.contains("seen")), "{:#?}", plan.notices);
            if round == 1 {
                world.lose_state();
            }
        }
        // Once it is corrected, it goes out.
        world.edit("hub", "1", "seen", "null", Stamp::None);
        world.settle();
        assert_eq!(world.everywhere("1", "seen"), ["null"; 3]);
        assert_eq!(world.settle(), 0);
    }
}

#[test]
fn a_record_whose_delete_was_ignored_comes_back_whole() {
    let mut world = World::new(&THREE_STORES.replace("  times:", "  deletes: ignore\n  times:"));
    world.insert("hub", "1", &[("a", "a0"), ("b", "b0"), ("must", "m")], Stamp::None);
    world.settle();
    world.delete("hub", "1");
    world.settle();
    assert_eq!(world.everywhere("1", "b"), ["-", "b0", "b0"]);
    world.edit("app", "1", "a", "again", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["again"; 3]);
    assert_eq!(world.everywhere("1", "b"), ["b0"; 3]);
    assert_eq!(world.settle(), 0);
}

#[test]
fn the_first_value_where_none_could_be_put_is_an_edit() {
    let one_way =
        "local: {table: things, fields: {\"*\": same, b: {direction: from-store}}, sync: {columns: same}}";
    let both = "local: {table: things, fields: {\"*\": same}, sync: {columns: same}}";
    assert!(THREE_STORES.contains(both));
    let mut world = World::new(&THREE_STORES.replace(both, one_way));
    world.insert("hub", "1", &[("b", "b0"), ("must", "m")], Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "b"), ["b0", "b0", "null"]);
    world.edit("hub", "1", "b", "b1", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "b"), ["b1", "b1", "null"]);
    world.edit("local", "1", "b", "mine", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "b"), ["mine"; 3]);
    assert_eq!(world.conflicts(), []);
    assert_eq!(world.settle(), 0);
    // Where it may be written from now on, it is no longer taken for what it could not get.
    let mut world = World::new(&THREE_STORES.replace(both, one_way));
    world.insert("hub", "1", &[("b", "b0"), ("must", "m")], Stamp::None);
    world.settle();
    world.spec = world::spec(THREE_STORES);
    world.settle();
    assert_eq!(world.everywhere("1", "b"), ["b0"; 3]);
}

#[test]
fn what_a_store_is_never_given_of_a_group_does_not_go_along_with_what_is_changed_there() {
    let one_way = THREE_STORES.replace(
        "local: {table: things, fields: {\"*\": same}",
        "local: {table: things, fields: {\"*\": same, code: {direction: from-store}}",
    );
    let mut world = World::new(&one_way);
    for at in ["hub", "local"] {
        world.insert(at, "1", &[("kind", "x"), ("code", "x1"), ("must", "m")], Stamp::None);
    }
    world.settle();
    world.edit("hub", "1", "code", "y2", Stamp::None);
    world.edit("hub", "1", "kind", "y", Stamp::None);
    world.settle();
    world.edit("hub", "1", "code", "x2", Stamp::None);
    world.edit("hub", "1", "kind", "x", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "code"), ["x2", "x2", "x1"]);
    // Who changes the one field there leaves the other one as it is by now.
    world.edit("hub", "1", "code", "null", Stamp::None);
    world.settle();
    world.edit("local", "1", "kind", "y", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "kind"), ["y"; 3]);
    assert_eq!(world.everywhere("1", "code"), ["null", "null", "x1"]);
    assert_eq!(world.conflicts(), []);
    // And what is changed there of the other one is meant.
    world.edit("local", "1", "code", "y1", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "code"), ["y1"; 3]);
}

const FAMILY: &str = "---
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
    hub: {table: phones, fields: {\"*\": same}, sync: {columns: same}}
    app: {table: phones, fields: {\"*\": same}, sync: {columns: same}}
    local: {table: phones, fields: {\"*\": same}, sync: {columns: same}}
";

/// Gives a thing a phone in a store.
fn phone(world: &mut World, at: &str, id: &str, owner: &str) {
    let mapped = world.mapped("phones", at);
    let mut row = MemoryRow::default();
    row.fields.insert(world::field("owner"), Cell::Value(Value::text(owner)));
    row.fields.insert(world::field("number"), Cell::Value(Value::text("555-0100")));
    world.db(at).put(&mapped, &world::key(id), row);
}

fn phones(world: &World, at: &str) -> usize {
    let mapped = world.mapped("phones", at);
    world.stores[&world::store(at)].table(&mapped).expect("a table").rows.len()
}

#[test]
fn a_record_that_is_new_anywhere_keeps_what_it_refers_to() {
    for (deleted, made) in [("app", "hub"), ("hub", "app"), ("app", "local")] {
        let mut world = World::new(&format!("{THREE_STORES}{FAMILY}"));
        for id in ["1", "2", "3"] {
            world.insert("hub", id, &[("must", "m")], Stamp::None);
        }
        phone(&mut world, "hub", "old", "1");
        world.settle();
        world.delete(deleted, "1");
        phone(&mut world, made, "new", "1");
        world.settle();
        assert_eq!(world.everywhere("1", "must"), ["m"; 3], "deleted in {deleted}, made in {made}");
        for at in ["hub", "app", "local"] {
            assert_eq!(phones(&world, at), 2, "in {at}: deleted in {deleted}, made in {made}");
        }
        // Without it, both go.
        world.delete(deleted, "1");
        world.settle();
        assert_eq!(world.everywhere("1", "must"), ["-"; 3]);
        assert_eq!(phones(&world, "local"), 0);
    }
}

/// What keeps a record from being deleted together with the one that it refers to, and what lets it go again.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    Guard,
    Target,
    TargetedEntity,
    Pause,
    PausedEntity,
}

#[test]
fn a_deleted_record_waits_for_all_that_go_with_it() {
    for kept in [Kept::Guard, Kept::Target, Kept::TargetedEntity, Kept::Pause, Kept::PausedEntity] {
        let mut world = World::new(&format!("{THREE_STORES}{FAMILY}"));
        for id in 1..=40 {
            world.insert("hub", &id.to_string(), &[("must", "m")], Stamp::None);
        }
        for id in 1..=12 {
            phone(&mut world, "hub", &format!("p{id}"), &id.to_string());
        }
        world.settle();
        world.delete("app", "1");
        world.delete("app", "2");
        // This one goes with nothing.
        world.delete("app", "30");
        let things = world.entity();
        let phones_of = EntityName::new("phones").expect("a name");
        let target = |key: Option<&str>| Target { entity: things.clone(), key: key.map(world::key) };
        let place = |key: Option<&str>| Place {
            store: None,
            entity: Some(phones_of.clone()),
            key: key.map(world::key),
        };
        match kept {
            Kept::Guard => {}
            Kept::Target => world.targets = ["1", "2", "30"].map(|key| target(Some(key))).to_vec(),
            Kept::TargetedEntity => world.targets = vec![target(None)],
            Kept::Pause => {
                world.allow.insert(GuardName::Deletes);
                world.orders.holds.add(place(Some("p1")), Hold::Paused);
                world.orders.holds.add(place(Some("p2")), Hold::Paused);
            }
            Kept::PausedEntity => world.orders.holds.add(place(None), Hold::Paused),
        }
        for _ in 0..2 {
            world.pass().expect("a pass");
            assert_eq!(world.everywhere("1", "must"), ["m", "-", "m"], "{kept:?}");
            assert_eq!(world.everywhere("30", "must"), ["-"; 3], "{kept:?}");
            assert_eq!(phones(&world, "hub"), 12, "{kept:?}");
        }
        let plan = world.plan();
        assert!(
            plan.notices.iter().any(|notice| notice.message.contains("waits")),
            "{kept:?}: {:#?}",
            plan.notices
        );
        world.targets.clear();
        world.orders = Orders::default();
        world.allow.insert(GuardName::Deletes);
        world.settle();
        assert_eq!(world.everywhere("1", "must"), ["-"; 3], "{kept:?}");
        assert_eq!((phones(&world, "hub"), phones(&world, "local")), (10, 10), "{kept:?}");
        assert_eq!(world.settle(), 0);
    }
}

#[test]
fn what_refers_to_a_refused_record_is_refused_with_it() {
    let unique = THREE_STORES.replace("    a: string\n", "    a: {type: string, unique: true}\n");
    let mut world = World::new(&format!("{unique}{FAMILY}"));
    world.insert("hub", "1", &[("a", "a1"), ("must", "m")], Stamp::None);
    phone(&mut world, "hub", "old", "1");
    world.settle();
    world.insert("app", "2", &[("a", "a1"), ("must", "m")], Stamp::None);
    phone(&mut world, "app", "new", "2");
    let mapped = world.mapped("phones", "app");
    world.db("app").edit(&mapped, &world::key("old"), |row| {
        row.fields.insert(world::field("owner"), Cell::Value(Value::text("2")));
        row.fields.insert(world::field("number"), Cell::Value(Value::text("555-0101")));
    });
    world.settle();
    assert_eq!(world.everywhere("2", "a"), ["-", "a1", "-"]);
    assert_eq!((phones(&world, "hub"), phones(&world, "app")), (1, 2));
    // Once it may be, all are.
    world.edit("app", "2", "a", "a2", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("2", "a"), ["a2"; 3]);
    assert_eq!(phones(&world, "local"), 2);
    assert_eq!(world.settle(), 0);
}

#[test]
fn what_is_worked_out_of_a_sensitive_field_is_sensitive() {
    let world = with_fields(
        "    a: {type: string, sensitive: true}\n    n: {derive: name(a)}\n    m: {derive: name(n)}\n    o: string\n",
    );
    let entity = &world.spec.entities[0];
    let sensitive: Vec<bool> = entity.fields.iter().map(|field| field.sensitive).collect();
    assert_eq!(sensitive, [true, true, true, false]);
}
