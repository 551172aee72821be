//! Whose row is it: stores with record ids of their own beside stores with keys, through whole passes in memory.

#[path = "identity/crm.rs"]
mod crm;
mod world;

use crm::{id, numbered_world, world};
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
fn elements_stand_in_records_whose_keys_are_numbers() {
    let mut world = numbered_world();
    world.put("hub", "people", &["7"], &[("name", "Ann Example")]);
    let email = [("person", "7"), ("kind", "email"), ("value", "ann@example.com")];
    world.put("hub", "reach", &["R1"], &email);
    world.settle();
    let ann = person(&world, "crm", "7");
    assert_eq!(elements(&world, &ann, "email"), ["ann@example.com"]);
    world.change("hub", "reach", "R1", "value", "ann@example.org");
    world.settle();
    assert_eq!(elements(&world, &ann, "email"), ["ann@example.org"]);
    assert!(world.plan().is_empty());
    world.touch("crm", "people", &ann, |object| {
        for element in object.elements.values_mut().flatten() {
            element.value = "ann@example.net".to_owned();
        }
    });
    world.settle();
    assert_eq!(world.at("hub", "reach", "R1", "value"), "ann@example.net");
    assert!(world.plan().is_empty());
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

fn person(world: &World, at: &str, key: &str) -> String {
    world.objects(at, "people").into_iter().find(|(_, of)| of == key).map_or("-".to_owned(), |(id, _)| id)
}

fn elements(world: &World, object: &str, kind: &str) -> Vec<String> {
    world.elements("crm", "people", object, "reach", kind)
}

#[test]
fn rules_that_take_a_name_too_are_not_misled_by_a_shared_phone() {
    let mut world = world();
    known(&mut world);
    world.make("crm", "people", "x1", &[("name", "BOB  example")], &[("reach", "phone", "(202) 555-0101")]);
    world.settle();
    assert_eq!(person(&world, "crm", "P2"), "x1");
    assert_eq!(world.keys("hub", "people"), ["P1", "P2"]);
}

#[test]
fn several_that_match_are_held_and_nobody_is_doubled() {
    let mut world = world();
    known(&mut world);
    world.put("hub", "people", &["P3"], &[("name", "Ann Other")]);
    world.put(
        "hub",
        "reach",
        &["R9"],
        &[("person", "P3"), ("kind", "email"), ("value", "ann@example.com"), ("normal", "ann@example.com")],
    );
    world.make("crm", "people", "x1", &[("name", "Ann")], &[("reach", "email", "ann@example.com")]);
    world.settle();
    assert_eq!(world.object("crm", "people", "x1").expect("there").key, None);
    assert_eq!(person(&world, "crm", "P1"), "-", "whoever it may be is not made a second time");
    assert_eq!(person(&world, "crm", "P3"), "-");
    assert_ne!(person(&world, "crm", "P2"), "-", "the others go on");
    assert_eq!(world.keys("hub", "people"), ["P1", "P2", "P3"]);
    let said = world.held();
    assert!(
        said.iter().any(|line| line.contains("2 records match it by the rule `reach.email`")),
        "{said:?}"
    );
}

#[test]
fn a_newcomer_gets_a_key_and_goes_everywhere() {
    let mut world = world();
    known(&mut world);
    world.settle();
    world.make("crm", "people", "x1", &[("name", "Cy Example")], &[("reach", "email", "Cy@Example.org")]);
    world.settle();
    let key = world.object("crm", "people", "x1").expect("there").key.expect("a key").parts()[0].clone();
    assert_eq!(world.at("hub", "people", &key, "name"), "Cy Example");
    assert_eq!(world.at("app", "people", &key, "name_normal"), "cy example");
    let reach = world.table("app", "reach", &["person", "kind", "value", "normal"]);
    assert!(reach.contains(&format!("{key} email Cy@Example.org cy@example.org")), "{reach:?}");
    assert_eq!(world.objects("desk", "people").len(), 3);
}

#[test]
fn newcomers_in_two_stores_are_one() {
    let mut world = world();
    known(&mut world);
    world.settle();
    // The desk has no addresses, and no rule goes by the name alone: they are two as far as anybody can tell.
    world.make("crm", "people", "x1", &[("name", "Cy Example")], &[]);
    world.make("desk", "people", "y1", &[("name", "Cy Example")], &[]);
    world.settle();
    assert_eq!(world.keys("hub", "people").len(), 4);
    // Firms go by their name.
    world.put("app", "firms", &["F9"], &[("title", "New Works"), ("title_normal", "new works")]);
    world.make("crm", "firms", "f1", &[("title", "NEW works")], &[]);
    world.settle();
    assert_eq!(world.objects("crm", "firms").len(), 2);
    assert_eq!(world.object("crm", "firms", "f1").expect("there").key, Some(world::key("F9")));
}

#[test]
fn duplicates_within_one_store_are_reported_and_left() {
    let mut world = world();
    known(&mut world);
    world.make("crm", "people", "x1", &[("name", "Ann A")], &[("reach", "email", "ann@example.com")]);
    world.make("crm", "people", "x2", &[("name", "Ann B")], &[("reach", "email", "ann@example.com")]);
    world.make("crm", "people", "z1", &[("name", "Dee")], &[("reach", "email", "dee@example.com")]);
    world.make("crm", "people", "z2", &[("name", "Dee")], &[("reach", "email", "dee@example.com")]);
    world.settle();
    let keyless = world.objects("crm", "people").into_iter().filter(|(_, key)| key == "-").count();
    assert_eq!(keyless, 4, "{:?}", world.objects("crm", "people"));
    assert_eq!(world.keys("hub", "people"), ["P1", "P2"]);
    let meeting = world.plan().meetings.remove(&trueup::model::EntityName::new("people").expect("a name"));
    let meeting = meeting.expect("people met").remove(&world::store("crm")).expect("in the crm");
    assert_eq!((meeting.held, meeting.duplicates), (4, 4));
}

#[test]
fn a_cleared_key_comes_back_and_a_changed_one_is_held() {
    let mut world = world();
    known(&mut world);
    world.settle();
    let ann = person(&world, "crm", "P1");
    world.touch("crm", "people", &ann, |object| {
        object.key = None;
        object.row.fields.extend(crm::row(&[("name", "Ann Newname")]).fields);
    });
    world.settle();
    assert_eq!(world.object("crm", "people", &ann).expect("there").key, Some(world::key("P1")));
    assert_eq!(world.at("hub", "people", "P1", "name"), "Ann Newname", "the edit counts");
    let before = world.writes();
    world.touch("crm", "people", &ann, |object| object.key = Some(world::key("P77")));
    world.settle();
    assert_eq!(world.writes(), before, "nothing is written about it anywhere");
    assert_eq!(world.keys("hub", "people"), ["P1", "P2"]);
    assert!(
        world.held().iter().any(|line| line.contains("its key was \"P1\" and is \"P77\" now")),
        "{:?}",
        world.held()
    );
    world.touch("crm", "people", &ann, |object| object.key = Some(world::key("P1")));
    world.settle();
    assert!(world.plan().is_empty());
}

#[test]
fn a_copied_key_takes_nothing_over() {
    let mut world = world();
    known(&mut world);
    world.settle();
    let ann = person(&world, "crm", "P1");
    world.make("crm", "people", "x9", &[("name", "Somebody Else")], &[]);
    world.touch("crm", "people", "x9", |object| object.key = Some(world::key("P1")));
    world.touch("crm", "people", &ann, |object| object.key = None);
    world.settle();
    assert_eq!(world.at("hub", "people", "P1", "name"), "Ann Example");
    assert!(world.keys("hub", "people").len() == 2, "{:?}", world.keys("hub", "people"));
    let job = world.objects("crm", "jobs")[0].0.clone();
    let joins = world.object("crm", "jobs", &job).expect("there").relations;
    assert_eq!(joins[&world::field("person")], id(&ann), "nothing is tied to the wrong row");
    world.touch("crm", "people", "x9", |object| object.key = None);
    world.settle();
    assert_eq!(person(&world, "crm", "P1"), ann);
    assert_eq!(world.keys("hub", "people").len(), 3, "the other one is somebody new");
}

#[test]
fn a_row_that_was_made_anew_is_the_same_record() {
    let mut world = world();
    known(&mut world);
    world.settle();
    let ann = person(&world, "crm", "P1");
    let mapped = world.mapped("people", "crm");
    world.db("crm").remove_object(&mapped, &id(&ann));
    world.make("crm", "people", "x5", &[("name", "Ann Example")], &[("reach", "email", "ann@example.com")]);
    world.settle();
    assert_eq!(person(&world, "crm", "P1"), "x5");
    assert_eq!(world.at("hub", "people", "P1", "note"), "first", "what the new row lacks is no clear");
    assert_eq!(world.keys("hub", "people"), ["P1", "P2"]);
}

#[test]
fn an_element_that_is_changed_is_changed_everywhere() {
    let mut world = world();
    known(&mut world);
    world.settle();
    let ann = person(&world, "crm", "P1");
    world.touch("crm", "people", &ann, |object| {
        for element in object.elements.values_mut().flatten() {
            if element.value.contains('@') {
                element.value = "ann@example.net".to_owned();
            }
        }
    });
    world.settle();
    assert_eq!(world.at("hub", "reach", "R1", "value"), "ann@example.net");
    assert_eq!(world.at("app", "reach", "R1", "normal"), "ann@example.net");
    assert_eq!(world.keys("app", "reach"), ["R1", "R2", "R3", "R4"]);
    world.change("app", "reach", "R1", "value", "Ann@Example.org");
    world.settle();
    assert_eq!(elements(&world, &ann, "email"), ["ann@example.org"]);
    assert_eq!(world.at("hub", "reach", "R1", "value"), "Ann@Example.org", "its spelling is not the store's");
    assert!(world.plan().is_empty());
}

#[test]
fn elements_come_and_go() {
    let mut world = world();
    known(&mut world);
    world.settle();
    let ann = person(&world, "crm", "P1");
    world.put(
        "app",
        "reach",
        &["R7"],
        &[("person", "P1"), ("kind", "phone"), ("value", "202-555-0177"), ("normal", "+12025550177")],
    );
    world.drop_row("app", "reach", "R2");
    world.settle();
    assert_eq!(elements(&world, &ann, "phone"), ["+12025550177"]);
    world.touch("crm", "people", &ann, |object| {
        let kind = (trueup::model::EntityName::new("reach").expect("a name"), "email".to_owned());
        object.elements.remove(&kind);
    });
    world.settle();
    assert_eq!(world.keys("hub", "reach"), ["R3", "R4", "R7"], "removed there, gone everywhere");
}

#[test]
fn what_a_store_cannot_hold_stays_elsewhere() {
    let mut world = world();
    known(&mut world);
    for (rid, kind, value) in [
        ("U1", "phone", "call me"),
        ("U2", "phone", "202 555 0101"),
        ("U3", "handle", "@ann"),
        ("U4", "email", "hidden@example.com"),
    ] {
        let normal = if kind == "handle" { value } else { "null" };
        world.put(
            "hub",
            "reach",
            &[rid],
            &[("person", "P1"), ("kind", kind), ("value", value), ("normal", normal)],
        );
    }
    world.change("hub", "reach", "U4", "hidden", "true");
    world.settle();
    let ann = person(&world, "crm", "P1");
    assert_eq!(elements(&world, &ann, "phone"), ["+12025550101"], "the same number once, and no word");
    assert_eq!(elements(&world, &ann, "email"), ["ann@example.com"]);
    assert_eq!(world.keys("app", "reach").len(), 8);
    let plan = world.plan();
    assert!(plan.is_empty(), "{:#?}", plan.records);
    let said: Vec<&str> = plan.notices.iter().map(|notice| notice.message.as_str()).collect();
    assert_eq!(said.iter().filter(|line| line.contains("value:")).count(), 2, "{said:?}");
    let entity = trueup::model::EntityName::new("reach").expect("a name");
    let books = plan.books_of(&entity, &world::store("crm")).expect("books");
    assert_eq!(books.drifting(), 0);
}

#[test]
fn a_person_who_goes_takes_the_elements_and_jobs_along() {
    let mut world = world();
    known(&mut world);
    world.settle();
    let ann = person(&world, "crm", "P1");
    let mapped = world.mapped("people", "crm");
    world.db("crm").remove_object(&mapped, &id(&ann));
    world.settle();
    assert_eq!(world.keys("hub", "people"), ["P2"]);
    assert_eq!(world.keys("app", "reach"), ["R3", "R4"]);
    assert!(world.keys("hub", "jobs").is_empty());
    assert!(
        world.objects("crm", "jobs").is_empty(),
        "the orphan is cleaned up: {:?}",
        world.objects("crm", "jobs")
    );
}

#[test]
fn a_job_made_by_hand_is_known_by_what_it_joins() {
    let mut world = world();
    known(&mut world);
    world.settle();
    let bob = person(&world, "crm", "P2");
    let firm = world.objects("crm", "firms")[0].0.clone();
    world.make("crm", "people", "x1", &[("name", "Cy Example")], &[]);
    for (job, who) in [("j1", bob.as_str()), ("j2", "x1")] {
        world.make("crm", "jobs", job, &[("role", "guest")], &[]);
        world.touch("crm", "jobs", job, |object| {
            object.relations.insert(world::field("person"), id(who));
            object.relations.insert(world::field("firm"), id(&firm));
        });
    }
    world.settle();
    assert_eq!(world.at("hub", "jobs", "P2/F1", "role"), "guest");
    let key = world.object("crm", "people", "x1").expect("there").key.expect("a key").parts()[0].clone();
    assert_eq!(world.at("app", "jobs", &format!("{key}/F1"), "role"), "guest", "of two that are new at once");
    world.make("crm", "jobs", "j3", &[("role", "half done")], &[]);
    world.settle();
    assert!(world.object("crm", "jobs", "j3").is_some(), "somebody is still at work on it");
    assert!(world.plan().is_empty());
}

#[test]
fn two_who_swap_their_addresses_swap_them_everywhere() {
    let mut world = world();
    known(&mut world);
    world.put(
        "hub",
        "reach",
        &["R5"],
        &[("person", "P1"), ("kind", "email"), ("value", "two@example.com"), ("normal", "two@example.com")],
    );
    world.settle();
    world.change("app", "reach", "R1", "value", "two@example.com");
    world.change("app", "reach", "R5", "value", "Ann@Example.com");
    let passes = world.settle();
    let ann = person(&world, "crm", "P1");
    let mut there = elements(&world, &ann, "email");
    there.sort();
    assert_eq!(there, ["ann@example.com", "two@example.com"]);
    assert_eq!(world.at("hub", "reach", "R1", "value"), "two@example.com");
    assert!(passes <= 2, "{passes}");
}

#[test]
fn killed_between_making_and_remembering_with_the_state_lost_makes_no_second_row() {
    for lives in 0..60 {
        let mut world = world();
        known(&mut world);
        world.make("crm", "people", "x1", &[("name", "Cy Example")], &[("reach", "email", "cy@example.org")]);
        world.make("crm", "firms", "f1", &[("title", "Cy Works")], &[]);
        world.lives = Some(lives);
        let died = world.pass().is_err();
        world.lives = None;
        world.lose_state();
        world.settle();
        assert_eq!(world.keys("hub", "people").len(), 3, "{lives}");
        assert_eq!(world.objects("crm", "people").len(), 3, "{lives}");
        assert_eq!(world.objects("desk", "people").len(), 3, "{lives}");
        assert_eq!(world.keys("hub", "firms").len(), 2, "{lives}");
        assert_eq!(world.objects("crm", "firms").len(), 2, "{lives}");
        assert_eq!(world.keys("hub", "reach").len(), 5, "{lives}");
        assert_eq!(world.keys("app", "reach").len(), 5, "{lives}");
        assert!(world.objects("crm", "people").iter().all(|(_, key)| key != "-"), "{lives}");
        if !died {
            return;
        }
    }
    panic!("the pass never ended");
}

#[test]
fn canonical_rows_that_cannot_all_be_read_make_nobody_new() {
    let mut world = world();
    known(&mut world);
    world.settle();
    world.make("crm", "people", "x1", &[("name", "Ann")], &[("reach", "email", "ann@example.net")]);
    world.db("hub").faults.cut_after = Some((1, trueup::store::memory::Cut::FewerThanClaimed));
    let before = world.writes();
    let _ = world.pass();
    assert_eq!(world.object("crm", "people", "x1").expect("there").key, None);
    assert_eq!(world.writes(), before);
    world.db("hub").faults.cut_after = None;
    world.settle();
    assert_eq!(world.keys("hub", "people").len(), 3);
}

#[test]
fn what_stands_in_a_record_that_a_guard_keeps_stays_in_it() {
    for leaves in ["deleted", "out of scope"] {
        let mut world = World::new(&crm::MANIFESTS.replace("leave: keep", "leave: remove"));
        for n in 1..=12 {
            let (person, address) = (format!("P{n}"), format!("p{n}@example.com"));
            world.put("hub", "people", &[&person], &[("name", "Ann Example"), ("note", "first")]);
            let reach = [
                ("person", person.as_str()),
                ("kind", "email"),
                ("value", address.as_str()),
                ("normal", address.as_str()),
            ];
            world.put("hub", "reach", &[&format!("R{n}")], &reach);
        }
        world.settle();
        let object = person(&world, "crm", "P1");
        assert_eq!(elements(&world, &object, "email"), ["p1@example.com"]);
        if leaves == "deleted" {
            world.drop_row("app", "people", "P1");
        } else {
            world.change("app", "people", "P1", "class", "private");
        }
        (6..=12).for_each(|n| assert!(world.change("app", "people", &format!("P{n}"), "note", "second")));
        for _ in 0..2 {
            let report = world.pass().expect("a pass");
            assert!(report.guards.iter().all(|trip| trip.entity.as_str() == "people"), "{:?}", report.guards);
            assert!(!report.guards.is_empty());
            assert_eq!(person(&world, "crm", "P1"), object, "{leaves}");
            assert_eq!(elements(&world, &object, "email"), ["p1@example.com"], "{leaves}");
            assert_eq!(world.keys("app", "reach").len(), 12, "{leaves}");
        }
        world.allow.insert(trueup::plan::GuardName::Updates);
        world.settle();
        assert_eq!(person(&world, "crm", "P1"), "-", "{leaves}");
        assert_eq!(world.keys("hub", "reach").len(), if leaves == "deleted" { 11 } else { 12 });
        assert!(world.plan().is_empty());
    }
}
