//! Records that go because another one does go with it in the canonical store, or not at all.

mod world;

use trueup::diff::Standing;
use trueup::model::{EntityName, RecordId};
use trueup::store::memory::Hook;
use world::{Stamp, World, entity, field, key, store};

/// Customers, their orders, and what these are of; a customer may have been brought by another one.
const SHOP: &str = world::three_stores!(
    r#"
apiVersion: trueup/v1
kind: Entity
metadata: {name: customers}
spec:
  key: {id: string}
  fields: {name: string, by: {type: string, references: {entity: customers, on_delete: cascade}}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: orders}
spec:
  key: {id: string}
  fields: {note: string, customer: {type: string, references: {entity: customers, on_delete: cascade}}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: items}
spec:
  key: {id: string}
  fields: {what: string, order: {type: string, references: {entity: orders, on_delete: cascade}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: customers}
spec: {entity: customers, stores: {hub: &all {table: customers, fields: {"*": same}, sync: {columns: same}}, app: *all, local: *all}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: orders}
spec: {entity: orders, stores: {hub: &all {table: orders, fields: {"*": same}, sync: {columns: same}}, app: *all, local: *all}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: items}
spec: {entity: items, stores: {hub: &all {table: items, fields: {"*": same}, sync: {columns: same}}, app: *all, local: *all}}
"#
);

const STORES: [&str; 3] = ["hub", "app", "local"];
/// What hangs on K3, itself included, and what hangs on K4.
const OF_K3: [(&str, &str); 6] = [
    ("customers", "K3"),
    ("customers", "K5"),
    ("orders", "1"),
    ("orders", "2"),
    ("items", "a"),
    ("items", "b"),
];
const OF_K4: [(&str, &str); 2] = [("customers", "K4"), ("orders", "3")];

/// Three customers with orders, and items of those, everywhere.
fn shop() -> World {
    let yaml =
        SHOP.replace("&all ", "").replace("*all", "{table: T, fields: {\"*\": same}, sync: {columns: same}}");
    let mut parts: Vec<String> = yaml.split("---\n").map(str::to_owned).collect();
    for part in &mut parts {
        for name in ["customers", "orders", "items"] {
            if part.contains(&format!("spec: {{entity: {name},")) {
                *part = part.replace("table: T", &format!("table: {name}"));
            }
        }
    }
    let mut world = World::new(&parts.join("---\n"));
    for (id, by) in [("K3", "null"), ("K4", "null"), ("K5", "K3"), ("K6", "null")] {
        world.insert_into(&entity("customers"), "hub", id, &[("name", "n"), ("by", by)], Stamp::None);
    }
    for (id, customer) in [("1", "K3"), ("2", "K5"), ("3", "K4"), ("4", "K6")] {
        world.insert_into(
            &entity("orders"),
            "hub",
            id,
            &[("note", "n"), ("customer", customer)],
            Stamp::None,
        );
    }
    for (id, order) in [("a", "1"), ("b", "2"), ("c", "4")] {
        world.insert_into(&entity("items"), "hub", id, &[("what", "n"), ("order", order)], Stamp::None);
    }
    world.settle();
    world
}

fn remove(world: &mut World, of: &str, at: &str, id: &str) {
    let mapped = world.mapped(of, at);
    world.tick();
    world.db(at).delete(&mapped, &key(id)).expect("there");
}

fn is_there(world: &World, of: &str, at: &str, id: &str) -> bool {
    let mapped = world.mapped(of, at);
    world.stores[&store(at)].table(&mapped).expect("a table").rows.contains_key(&key(id))
}

/// The stores that have all of these, but for what was deleted in one of them.
fn all_there(world: &World, these: &[(&str, &str)], but: (&str, &str)) -> bool {
    STORES.iter().all(|at| {
        let mut these = these.iter().filter(|(_, id)| (*at, *id) != but);
        these.all(|(of, id)| is_there(world, of, at, id))
    })
}

fn none_there(world: &World, these: &[(&str, &str)]) -> bool {
    STORES.iter().all(|at| !these.iter().any(|(of, id)| is_there(world, of, at, id)))
}

fn refuse(world: &mut World, id: &str) -> (EntityName, trueup::model::RecordKey) {
    let which = (entity("customers"), key(id));
    world.db("hub").faults.refuse.insert(which.clone());
    which
}

#[test]
fn what_goes_with_a_record_stays_everywhere_while_the_canonical_store_keeps_it() {
    let mut world = shop();
    let refused = refuse(&mut world, "K3");
    remove(&mut world, "customers", "app", "K3");
    remove(&mut world, "customers", "app", "K4");
    for round in 0..3 {
        world.tick();
        let report = world.pass().expect("a pass");
        assert!(all_there(&world, &OF_K3, ("app", "K3")), "round {round}");
        assert!(none_there(&world, &OF_K4), "round {round}: what is not refused goes");
        let told = |of: &str, id: &str| {
            let record = RecordId { entity: entity(of), key: key(id) };
            report
                .failed
                .iter()
                .find(|trouble| trouble.record == record)
                .map(|trouble| trouble.message.clone())
        };
        assert!(told("customers", "K3").is_some_and(|why| why.contains("refused to write")), "{report:#?}");
        assert!(told("orders", "1").is_some_and(|why| why.contains("goes together")), "{report:#?}");
        assert_eq!(report.failed.len(), OF_K3.len());
        let standing = &report.books[&entity("orders")][&store("local")];
        assert_eq!(standing.count(Standing::Failed), 2, "{standing:?}");
    }
    world.db("hub").faults.refuse.remove(&refused);
    world.settle();
    assert!(none_there(&world, &OF_K3));
    assert!(is_there(&world, "orders", "local", "4") && is_there(&world, "items", "local", "c"));
    assert_eq!(world.settle(), 0);
}

#[test]
fn a_record_that_is_kept_after_all_has_kept_what_hangs_on_it() {
    let mut world = shop();
    refuse(&mut world, "K3");
    remove(&mut world, "customers", "app", "K3");
    world.pass().expect("a pass");
    assert!(world.tombstones().contains("pending"));
    world.db("hub").faults.refuse.clear();
    world.edit_in(&entity("customers"), "local", "K3", "name", "kept", Stamp::None);
    world.settle();
    assert!(all_there(&world, &OF_K3, ("", "")));
    assert_eq!(world.value_in(&entity("customers"), "app", "K3", "name"), "kept");
    let stones = world.tombstones();
    assert!(!stones.contains("pending"), "nobody waits for anything: {stones}");
    assert_eq!(world.settle(), 0);
}

#[test]
fn what_somebody_changes_in_the_last_moment_keeps_all_that_it_would_have_gone_with() {
    let mut world = shop();
    remove(&mut world, "customers", "app", "K3");
    let (mapped, before) = (world.mapped("items", "hub"), world.mapped("customers", "hub"));
    // The first batch that is about the shop's own tables, not trueup's, is the one with the deletes.
    let opened = world.open(true).expect("opens");
    let plan = world.observe(&opened);
    world.db("hub").faults.before_batch = None;
    let edit = move |db: &mut trueup::store::memory::MemoryDb| {
        db.edit(&mapped, &key("b"), |row| {
            row.fields.insert(field("what"), trueup::model::Cell::Value(world::text("new")));
        });
    };
    world.db("hub").faults.before_batch = Some(Hook::new(edit));
    let report = world.carry_out(&opened, plan, false).expect("a pass");
    assert!(all_there(&world, &OF_K3, ("app", "K3")), "{report:#?}");
    assert!(world.stores[&store("hub")].table(&before).is_some());
    world.settle();
    assert!(all_there(&world, &OF_K3, ("", "")), "the change wins over the delete");
    assert_eq!(world.value_in(&entity("items"), "app", "b", "what"), "new");
}

#[test]
fn whenever_a_pass_dies_nothing_is_lost_of_what_stays_and_all_goes_that_goes() {
    for refused in [true, false] {
        let mut before = shop();
        if refused {
            refuse(&mut before, "K3");
        }
        remove(&mut before, "customers", "app", "K3");
        remove(&mut before, "customers", "app", "K4");
        for lives in 0.. {
            let mut world = before.clone();
            world.lives = Some(lives);
            let died = world.pass().is_err();
            world.lives = None;
            for _ in 0..6 {
                world.tick();
                world.pass().expect("a pass");
            }
            assert!(none_there(&world, &OF_K4), "killed after {lives}");
            if refused {
                assert!(all_there(&world, &OF_K3, ("app", "K3")), "killed after {lives}");
            } else {
                assert!(none_there(&world, &OF_K3), "killed after {lives}");
                assert_eq!(world.settle(), 0);
            }
            if !died {
                assert!(lives > 20, "it was killed at every effect");
                break;
            }
        }
    }
}

#[test]
fn what_goes_together_with_something_paused_or_changed_since_a_plan_was_saved_stays() {
    let mut world = shop();
    remove(&mut world, "customers", "app", "K3");
    let plan = world.plan();
    world.edit_in(&entity("items"), "local", "b", "what", "new", Stamp::None);
    let report = world.apply(plan).expect("a pass");
    assert!(all_there(&world, &OF_K3, ("app", "K3")), "{report:#?}");
    assert_eq!(report.skipped.len(), OF_K3.len() * 3 - 1, "{:#?}", report.skipped);
}
