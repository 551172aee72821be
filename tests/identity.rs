//! Whose row is it: stores with record ids of their own beside stores with keys, through whole passes in memory.

#[path = "identity/crm.rs"]
mod crm;
mod world;

use crm::{id, world};
use world::World;

fn known(world: &mut World) {
    world.put("hub", "firms", &["F1"], &[("title", "Example Works")]);
    world.put("hub", "people", &["P1"], &[("name", "Ann Example"), ("note", "first"), ("main_firm", "F1")]);
    world.put("hub", "people", &["P2"], &[("name", "Bob Example")]);
    world.put(
        "hub",
        "reach",
        &["R1"],
        &[("person", "P1"), ("kind", "email"), ("value", "Ann@Example.com"), ("normal", "ann@example.com")],
    );
    world.put(
        "hub",
        "reach",
        &["R2"],
        &[("person", "P1"), ("kind", "phone"), ("value", "+1 202 555 0101"), ("normal", "+12025550101")],
    );
    world.put(
        "hub",
        "reach",
        &["R3"],
        &[("person", "P2"), ("kind", "phone"), ("value", "+1 202 555 0101"), ("normal", "+12025550101")],
    );
    world.put(
        "hub",
        "reach",
        &["R4"],
        &[("person", "P2"), ("kind", "handle"), ("value", "@bob"), ("normal", "@bob")],
    );
    world.put("hub", "jobs", &["P1", "F1"], &[("role", "maker")]);
}

#[test]
fn an_empty_store_is_filled() {
    let mut world = world();
    known(&mut world);
    world.settle();
    assert_eq!(world.objects("crm", "people").len(), 2);
    assert_eq!(world.objects("crm", "jobs").len(), 1);
    let plan = world.plan();
    assert!(plan.is_empty(), "{:#?}", plan.records);
    let ann = world.objects("crm", "people").into_iter().find(|(_, key)| key == "P1").expect("Ann").0;
    assert_eq!(world.elements("crm", "people", &ann, "reach", "email"), ["ann@example.com"]);
    assert_eq!(world.elements("crm", "people", &ann, "reach", "phone"), ["+12025550101"]);
    assert_eq!(world.keys("app", "reach"), ["R1", "R2", "R3", "R4"]);
    let firm = world.objects("crm", "firms")[0].0.clone();
    let object = world.object("crm", "people", &ann).expect("there");
    assert_eq!(object.relations.values().collect::<Vec<_>>(), [&id(&firm)]);
}

#[test]
fn a_stray_is_linked_by_a_rule() {
    let mut world = world();
    known(&mut world);
    world.make(
        "crm",
        "people",
        "x1",
        &[("name", "Ann E."), ("note", "hers")],
        &[("reach", "email", "ann@example.com")],
    );
    world.settle();
    let people = world.objects("crm", "people");
    assert_eq!(people.len(), 2, "nobody is doubled: {people:?}");
    assert!(people.contains(&("x1".to_owned(), "P1".to_owned())), "{people:?}");
    assert_eq!(world.keys("hub", "people"), ["P1", "P2"]);
    assert!(world.plan().is_empty());
}
