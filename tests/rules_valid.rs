//! What breaks a rule: new records wait, changes stay where they are, and what was broken before is said and blocks nothing.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;
mod world;

use trueup::model::{FieldName, RecordKey};
use trueup::plan::{NoticeKind, Plan};
use trueup::resolve::Rule;
use world::{Stamp, THREE_STORES, World, key, spec};

const GOOD: &[(&str, &str)] = &[("a", "a0"), ("kind", "x"), ("code", "x1"), ("must", "m")];

/// The store mapping of the second entity, and fields that span records.
fn related() -> String {
    let fields = "    must: {type: string, required: true}\n    only: {type: string, unique: true}\n    \
                  up: {type: string, references: things}\n    of: {type: string, references: parents}\n";
    let parents = r#"
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: parents}
spec: {key: {id: string}, fields: {name: string}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: parents}
spec:
  entity: parents
  stores:
    hub: {table: parents, fields: {"*": same}, sync: {columns: same}}
    app: {table: parents, fields: {"*": same}, sync: {columns: same}}
"#;
    THREE_STORES.replace("    must: {type: string, required: true}\n", fields) + parents
}

fn with_one(yaml: &str) -> World {
    let mut world = World::new(yaml);
    let name = world::entity("things");
    world.insert_into(&name, "hub", "1", GOOD, Stamp::Raise);
    world.settle();
    world
}

fn said(plan: &Plan) -> Vec<(NoticeKind, RecordKey, Option<FieldName>, Option<Rule>)> {
    let said = plan.notices.iter().filter_map(|notice| {
        Some((notice.kind, notice.record.as_ref()?.key.clone(), notice.field.clone(), notice.rule))
    });
    said.collect()
}

#[test]
fn a_new_record_of_the_canonical_store_that_breaks_a_rule_waits_whole() {
    for (what, field, value, rule) in [
        ("1", "kind", "z", Rule::Enum),
        ("2", "code", "y1", Rule::Pattern),
        ("3", "must", "null", Rule::Required),
        ("4", "up", "NOPE", Rule::Reference),
        ("5", "of", "NOPE", Rule::Reference),
        ("6", "only", "taken", Rule::Unique),
    ] {
        let mut world = with_one(&related());
        let things = world::entity("things");
        world.edit_in(&things, "hub", "1", "only", "taken", Stamp::Clock);
        world.settle();
        let mut fields = GOOD.to_vec();
        fields.retain(|(name, _)| *name != field);
        fields.push((field, value));
        world.insert_into(&things, "hub", "bad", &fields, Stamp::None);
        world.insert_into(&things, "hub", "child", &[&[("up", "bad")], GOOD].concat(), Stamp::None);
        world.insert_into(&things, "hub", "fine", GOOD, Stamp::None);
        let plan = world.plan();
        let rejected = said(&plan);
        assert!(
            rejected.iter().any(|(kind, record, _, of)| *kind == NoticeKind::Rejected
                && *record == key("bad")
                && *of == Some(rule)),
            "{what}: {rejected:?}"
        );
        world.settle();
        let at = |world: &World, id: &str| world.value_in(&things, "app", id, "a");
        assert_eq!((at(&world, "bad"), at(&world, "child")), ("-".into(), "-".into()), "{what}");
        assert_eq!(at(&world, "fine"), "a0", "{what}: others go out");
        assert_eq!(at(&world, "1"), "a0", "{what}: who was there first keeps the value");
        // Corrected, it goes out with what refers to it.
        for (name, value) in
            [("kind", "x"), ("code", "x1"), ("must", "m"), ("up", "null"), ("of", "null"), ("only", "null")]
        {
            world.edit_in(&things, "hub", "bad", name, value, Stamp::None);
        }
        world.settle();
        assert_eq!((at(&world, "bad"), at(&world, "child")), ("a0".into(), "a0".into()), "{what}");
    }
}

#[test]
fn what_the_canonical_store_has_at_a_first_load_is_loaded_and_named() {
    let mut world = World::new(&related());
    let things = world::entity("things");
    let bad =
        [("a", "a0"), ("kind", "z"), ("code", "x1"), ("up", "NOPE"), ("of", "NOWHERE"), ("only", "same")];
    world.insert_into(&things, "hub", "bad", &bad, Stamp::Raise);
    world.insert_into(&things, "hub", "twin", &[GOOD, &[("only", "same")]].concat(), Stamp::Raise);
    for pass in ["first", "second"] {
        let told = said(&world.plan());
        for (record, field, rule) in [
            ("bad", "kind", Rule::Enum),
            ("bad", "must", Rule::Required),
            ("bad", "up", Rule::Reference),
            ("bad", "of", Rule::Reference),
            ("bad", "only", Rule::Unique),
            ("twin", "only", Rule::Unique),
        ] {
            let this = (NoticeKind::AlreadyInvalid, key(record), Some(world::field(field)), Some(rule));
            assert!(told.contains(&this), "{pass}: {this:?} of {told:?}");
        }
        world.settle();
        assert_eq!(world.value_in(&things, "app", "bad", "a"), "a0");
    }
}

#[test]
fn what_was_broken_is_not_broken_otherwise() {
    for at in ["hub", "app"] {
        let mut world = World::three();
        world.insert("hub", "1", &[("a", "a0"), ("b", "b0"), ("kind", "z"), ("must", "m")], Stamp::Raise);
        world.settle();
        assert_eq!(world.everywhere("1", "kind"), ["z"; 3], "it was so before");
        world.edit(at, "1", "kind", "w", Stamp::Raise);
        world.edit("local", "1", "b", "b1", Stamp::Raise);
        let told = said(&world.plan());
        assert!(
            told.iter().any(|(kind, _, _, rule)| *kind == NoticeKind::Rejected && *rule == Some(Rule::Enum)),
            "{told:?}"
        );
        world.settle();
        for other in ["hub", "app", "local"] {
            assert_eq!(world.get(other, "1", "kind"), if other == at { "w" } else { "z" }, "{at} {other}");
        }
        assert_eq!(world.everywhere("1", "b"), ["b1"; 3], "the rest merges");
        world.edit(at, "1", "kind", "y", Stamp::Raise);
        world.settle();
        assert_eq!(world.everywhere("1", "kind"), ["y"; 3]);
    }
}

#[test]
fn what_a_refused_change_was_to_let_go_of_stays_taken() {
    // Refused because another record has the value, because it breaks a rule by itself, and at the end of a chain.
    for (what, to, rule) in [("taken", "u6", Rule::Unique), ("no value", "bad", Rule::Pattern)] {
        for at in ["hub", "app"] {
            let fields = "    a: {type: string, unique: true, pattern: \"^u[0-9]$\"}\n    b: string\n";
            let mut world = World::new(&THREE_STORES.replace("    a: string\n    b: string\n", fields));
            for id in ["1", "5", "6"] {
                world.insert(
                    "hub",
                    id,
                    &[("a", &format!("u{id}")), ("b", "b0"), ("must", "m")],
                    Stamp::Raise,
                );
            }
            world.settle();
            world.edit(at, "1", "a", to, Stamp::Raise);
            world.edit(at, "5", "a", "u1", Stamp::Raise);
            world.edit(at, "5", "b", "b1", Stamp::Raise);
            world.insert(at, "new", &[("a", "u5"), ("must", "m")], Stamp::Raise);
            let told = said(&world.plan());
            for (record, rule) in [("1", rule), ("5", Rule::Unique), ("new", Rule::Unique)] {
                let named = told.iter().any(|(kind, of, _, broken)| {
                    *kind == NoticeKind::Rejected && *of == key(record) && *broken == Some(rule)
                });
                assert!(named, "{what} in {at}: {record} in {told:?}");
            }
            assert!(told.iter().all(|(kind, ..)| *kind == NoticeKind::Rejected), "{what} in {at}: {told:?}");
            world.settle();
            for other in ["hub", "app", "local"].into_iter().filter(|other| *other != at) {
                let all = ["1", "5", "6", "new"].map(|id| world.get(other, id, "a"));
                assert_eq!(all, ["u1", "u5", "u6", "-"], "{what} in {at}: {other}");
            }
            assert_eq!(world.everywhere("5", "b"), ["b1"; 3], "the rest merges");
            // Once the first one is corrected, the others follow.
            world.edit(at, "1", "a", "u9", Stamp::Raise);
            world.settle();
            for (id, value) in [("1", "u9"), ("5", "u1"), ("new", "u5")] {
                assert_eq!(world.everywhere(id, "a"), [value; 3], "{what} in {at}");
            }
            assert_eq!(world.settle(), 0);
        }
    }
}

#[test]
fn a_rule_that_is_added_names_who_breaks_it() {
    let mut world = World::three();
    for id in ["1", "2", "3"] {
        world.insert(
            "hub",
            id,
            &[("a", if id == "3" { "other" } else { "dup" }), ("must", "m"), ("b", "NOPE")],
            Stamp::Raise,
        );
    }
    world.settle();
    world.spec = spec(&THREE_STORES.replace(
        "    a: string\n    b: string\n",
        "    a: {type: string, unique: true}\n    b: {type: string, references: things}\n",
    ));
    let mut told: Vec<_> =
        said(&world.plan()).into_iter().map(|(_, record, field, rule)| (record, field, rule)).collect();
    told.sort();
    let of = |id: &str, name: &str, rule| (key(id), Some(world::field(name)), Some(rule));
    assert_eq!(
        told,
        [
            of("1", "a", Rule::Unique),
            of("1", "b", Rule::Reference),
            of("2", "a", Rule::Unique),
            of("2", "b", Rule::Reference),
            of("3", "b", Rule::Reference),
        ]
    );
    assert_eq!(world.settle(), 0, "nothing is blocked or written");
}

#[test]
fn a_person_takes_no_value_that_breaks_a_rule() {
    let manifests = shell::manifests(&["hub", "app", "local"], "items", "name: string");
    let place = shell::Place::with(&manifests);
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "insert into items (id, name) values ('I1', 'old')");
    place.run(&["apply", "-auto-approve"], 0);
    place.sql("app", "update items set name = 'good'");
    place.sql("local", "update items set name = 'bad'");
    place.run(&["apply", "-auto-approve"], 0);
    let conflict = place.conflict();
    place.manifests(&manifests.replace("name: string", "name: {enum: [good, fine]}"));
    let page = place.run(&["conflicts", "resolve", &conflict, "--take", "local", "-auto-approve"], 1);
    assert!(page.contains("breaks the rule `enum`"), "{page}");
    place.run(&["conflicts", "resolve", &conflict, "--take", "app", "-auto-approve"], 0);
    for at in ["hub", "app"] {
        assert_eq!(place.text(at, "select name from items"), "good", "{at}");
    }
}
