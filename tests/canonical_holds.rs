//! What the canonical store has no way to hold goes nowhere: it stays where it is, named, for whoever put it there.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod world;

use std::collections::BTreeMap;
use std::path::Path;

use trueup::plan::NoticeKind;
use trueup::resolve::Rule;
use trueup::spec::{Source, compile};
use world::{Stamp, World, spec, three_stores};

/// Things whose fields are kept in this way in the canonical store, and in that way in the others.
fn manifests(canonical: &str, others: &str) -> String {
    let manifests = three_stores!(
        r#"
apiVersion: trueup/v1
kind: Entity
metadata: {name: things}
spec:
  key: {id: string}
  fields: {a: string, b: string, d: {derive: name(a)}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: things}
spec:
  entity: things
  stores:
    hub: {table: things, fields: {"*": same, CANONICAL}, sync: {columns: same}}
    app: {table: things, fields: {"*": same, OTHERS}, sync: {columns: same}}
    local: {table: things, fields: {"*": same, OTHERS}, sync: {columns: same}}
"#
    );
    manifests.replace("CANONICAL", canonical).replace("OTHERS", others)
}

fn world(kept: &str) -> World {
    let mut world = World::new(&manifests(kept, "b: same"));
    for id in ["1", "2"] {
        world.insert("hub", id, &[("a", "a"), ("b", "7")], Stamp::Raise);
    }
    world.settle();
    world
}

fn told(world: &mut World) -> Vec<(String, Option<Rule>)> {
    let rejected = |kind| kind == NoticeKind::Rejected;
    let notices = world.plan().notices.into_iter().filter(|notice| rejected(notice.kind));
    notices.map(|notice| (notice.message, notice.rule)).collect()
}

#[test]
fn a_value_that_the_canonical_store_cannot_hold_stays_where_it_is() {
    for kept in ["b: {form: int64}", "b: {direction: from-store}"] {
        let mut world = world(kept);
        world.edit("app", "1", "b", "word", Stamp::None);
        world.edit("app", "1", "a", "other", Stamp::None);
        world.settle();
        assert_eq!(world.everywhere("1", "b"), ["7", "word", "7"], "{kept}: it is not taken back");
        assert_eq!(world.everywhere("1", "a"), ["other", "other", "other"], "{kept}: the rest goes out");
        let said = told(&mut world);
        let [(message, rule)] = said.as_slice() else { panic!("{kept}: {said:?}") };
        assert_eq!(*rule, Some(Rule::Canonical));
        assert!(
            message.starts_with("b in app breaks the rule `canonical` (\"word\"): the canonical"),
            "{message}"
        );
        assert_eq!(world.status("1"), "pending");

        // Whoever changes it in the canonical store has not seen the other value: both are on record.
        world.edit("hub", "1", "b", "8", Stamp::None);
        world.settle();
        assert_eq!(world.everywhere("1", "b"), ["8", "word", "8"], "{kept}");
        world.edit("app", "1", "b", "8", Stamp::None);
        world.settle();
        assert_eq!(told(&mut world), []);
        assert_eq!(world.everywhere("1", "b"), ["8", "8", "8"], "{kept}");
        assert_eq!(world.status("1"), "synced");
    }
}

#[test]
fn a_new_record_that_the_canonical_store_cannot_hold_waits_whole() {
    let mut world = world("b: {form: int64}");
    world.insert("app", "3", &[("a", "a"), ("b", "word")], Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("3", "a"), ["-", "a", "-"]);
    assert_eq!(told(&mut world).len(), 1);
    world.edit("app", "3", "b", "9", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("3", "b"), ["9", "9", "9"]);
}

#[test]
fn what_the_canonical_store_works_out_goes_to_those_who_are_only_given_it() {
    let mut world = world("b: {direction: from-store}");
    world.spec = spec(&manifests("b: {direction: from-store}", "b: {direction: to-store}"));
    world.edit("app", "1", "b", "word", Stamp::None);
    world.edit("hub", "2", "b", "8", Stamp::None);
    world.insert("app", "3", &[("a", "new"), ("b", "word")], Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "b"), ["7", "7", "7"]);
    assert_eq!(world.everywhere("2", "b"), ["8", "8", "8"]);
    assert_eq!(world.everywhere("3", "a"), ["new", "new", "new"]);
    assert_eq!(told(&mut world), []);
}

#[test]
fn a_derived_field_needs_a_place_in_the_canonical_store_like_any_other() {
    let source = Source { file: "world.yaml".to_owned(), text: manifests("d: none", "b: same") };
    let found = compile(Path::new("."), &[source], &BTreeMap::new()).expect_err("a mistake");
    let said: Vec<&str> = found.iter().map(|one| one.message.as_str()).collect();
    assert_eq!(said, ["`d` is kept in `app` and `local`, and has no place in the canonical store `hub`"]);
}
