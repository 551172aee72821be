//! What two or three rules come to where they meet: each of them is kept, whatever the others do.

mod world;

use trueup::model::{Cell, Value};
use trueup::plan::{GuardName, Hold, NoticeKind, Place, Plan, Target};
use trueup::resolve::{ConflictStatus, Rule};
use trueup::store::memory::Hook;
use world::{Stamp, World, entity, field, key, store, three_stores};

const ALL: [&str; 3] = ["hub", "app", "local"];

/// Entities with their fields (and what else their manifests say), each in all three stores.
fn world_of(entities: &[(&str, &str)]) -> World {
    let documents = entities.iter().map(|(name, spec)| {
        format!(
            r#"
apiVersion: trueup/v1
kind: Entity
metadata: {{name: {name}}}
spec:
  key: {{id: string}}
{spec}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: {name}}}
spec:
  entity: {name}
  stores:
    hub: {{table: {name}, fields: {{"*": same}}, sync: {{columns: same}}}}
    app: {{table: {name}, fields: {{"*": same}}, sync: {{columns: same}}}}
    local: {{table: {name}, fields: {{"*": same}}, sync: {{columns: same}}}}
"#
        )
    });
    let documents: Vec<String> = documents.collect();
    World::new(&format!("{}{}", three_stores!(""), documents.join("---")))
}

fn pause(world: &mut World, at: Option<&str>, of: Option<&str>, id: Option<&str>) {
    let place = Place { store: at.map(store), entity: of.map(entity), key: id.map(key) };
    world.orders.holds.add(place, Hold::Paused);
}

fn target(world: &mut World, id: &str) {
    world.targets.push(Target { entity: entity("things"), key: Some(key(id)) });
}

fn delete_in(world: &mut World, of: &str, at: &str, id: &str) {
    let mapped = world.mapped(of, at);
    world.tick();
    world.db(at).delete(&mapped, &key(id));
}

fn drop_column(world: &mut World, at: &str, name: &str) {
    let mapped = world.mapped("things", at);
    world.db(at).table_mut(&mapped).expect("a table").drop_column(&field(name));
}

fn everywhere(world: &World, of: &str, id: &str, name: &str) -> [String; 3] {
    ALL.map(|at| world.value_in(&entity(of), at, id, name))
}

fn rejected(plan: &Plan, id: &str, rule: Rule) -> Vec<String> {
    let of_it = plan.notices.iter().filter(|notice| {
        notice.kind == NoticeKind::Rejected
            && notice.rule == Some(rule)
            && notice.record.as_ref().is_some_and(|record| record.key == key(id))
    });
    of_it.map(|notice| notice.message.clone()).collect()
}

// ---- rules that name other fields, derivations, decisions

const CODED: &str = r#"  fields:
    kind: {enum: [x, y, z]}
    code: {pattern: "^{kind}[0-9]+$"}
    shown: {derive: name(code)}"#;

fn coded(fields: &str) -> World {
    let mut world = world_of(&[("things", fields)]);
    world.insert("hub", "1", &[("kind", "x"), ("code", "x1")], Stamp::Raise);
    world.settle();
    world
}

#[test]
fn what_is_derived_of_a_change_that_is_taken_back_is_taken_back_too() {
    let mut world = coded(CODED);
    world.edit("app", "1", "code", "x2", Stamp::None);
    world.edit("local", "1", "kind", "y", Stamp::None);
    world.settle();
    assert_eq!(world.open_conflicts().len(), 1, "good changes that are bad together");
    assert_eq!(world.everywhere("1", "shown"), ["x1"; 3]);
    let conflict = world.open_conflicts().remove(0);
    world.decide(&conflict, "app");
    world.settle();
    assert_eq!([world.everywhere("1", "code"), world.everywhere("1", "shown")], [["x2"; 3], ["x2"; 3]]);
}

#[test]
fn an_edit_after_a_decision_on_several_fields_is_not_overwritten_by_it() {
    for at in ["app", "local", "hub"] {
        let mut world = coded(CODED);
        world.edit("app", "1", "code", "x2", Stamp::None);
        world.edit("local", "1", "kind", "y", Stamp::None);
        world.settle();
        let conflict = world.open_conflicts().remove(0);
        world.decide(&conflict, "app");
        world.edit(at, "1", "code", "x77", Stamp::None);
        world.settle();
        let kept = format!("{}{:?}", world.get("hub", "1", "code"), world.conflicts());
        assert!(kept.contains("x77"), "{at}: {kept}");
        let old = world.conflicts().into_iter().find(|old| old.id == conflict.id);
        assert_eq!(old.map(|old| old.status), Some(ConflictStatus::Withdrawn), "{at}");
    }
}

#[test]
fn a_settled_conflict_that_comes_to_nothing_is_not_recorded_in_every_pass() {
    let mut world = coded(&CODED.replace("    shown: {derive: name(code)}", ""));
    world.edit("app", "1", "code", "x3", Stamp::RaiseBy(2, 1));
    world.edit("local", "1", "code", "x2", Stamp::Raise);
    world.edit("hub", "1", "kind", "y", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "code"), ["x1", "x3", "x2"], "everything waits for a person");
    let conflict = world.open_conflicts().remove(0);
    world.decide(&conflict, "app");
    world.settle();
    assert_eq!(world.everywhere("1", "code"), ["x3"; 3]);
    assert!(format!("{:?}", world.conflicts()).contains("x2"), "what lost is on record");
}

#[test]
fn a_row_that_is_met_and_waits_with_a_refused_change_raises_no_version_in_every_pass() {
    let mut world = world_of(&[("things", CODED)]);
    world.insert("hub", "1", &[("kind", "z"), ("code", "y1")], Stamp::None);
    world.reach("local", false);
    for _ in 0..2 {
        world.tick();
        world.pass().expect("a pass");
    }
    world.edit("hub", "1", "kind", "x", Stamp::None);
    world.insert("local", "1", &[("kind", "y"), ("code", "x1")], Stamp::None);
    world.reach("local", true);
    world.settle();
    assert_eq!(rejected(&world.plan(), "1", Rule::Pattern).len(), 2, "{:?}", world.plan().notices);
}

#[test]
fn a_rule_that_names_a_field_which_a_store_has_not_is_checked_with_the_canonical_value() {
    let yaml = format!(
        r#"{}apiVersion: trueup/v1
kind: Entity
metadata: {{name: things}}
spec:
  key: {{id: string}}
{CODED}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: things}}
spec:
  entity: things
  stores:
    hub: {{table: things, fields: {{"*": same}}, sync: {{columns: same}}}}
    app: {{table: things, fields: {{code: same}}, sync: {{columns: same}}}}
"#,
        three_stores!("")
    );
    let mut world = World::new(&yaml);
    world.insert("hub", "1", &[("kind", "x"), ("code", "x1")], Stamp::Raise);
    world.settle();
    world.edit("app", "1", "code", "x2", Stamp::None);
    world.settle();
    assert_eq!(world.get("hub", "1", "code"), "x2");
    world.edit("app", "1", "code", "y2", Stamp::None);
    world.settle();
    assert_eq!(world.get("hub", "1", "code"), "x2", "what breaks it still does");
}

#[test]
fn what_hangs_on_a_field_whose_column_is_gone_stays_as_it_is() {
    let mut world = coded(CODED);
    drop_column(&mut world, "hub", "code");
    world.settle();
    assert_eq!(world.everywhere("1", "shown"), ["x1"; 3], "what is derived of it");

    let mut world = coded(CODED);
    drop_column(&mut world, "hub", "kind");
    assert!(world.plan().notices.iter().all(|notice| notice.rule.is_none()), "{:?}", world.plan().notices);
    world.settle();
    world.edit("app", "1", "code", "x5", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "code"), ["x5"; 3], "a rule that names it");

    for (leave, mapped) in [("remove", "\"*\": same"), ("remove", "b: same"), ("keep", "\"*\": same")] {
        let yaml = format!(
            r#"{}apiVersion: trueup/v1
kind: Entity
metadata: {{name: things}}
spec: {{key: {{id: string}}, fields: {{a: string, b: string}}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: things}}
spec:
  entity: things
  stores:
    hub: {{table: things, fields: {{"*": same}}, sync: {{columns: same}}}}
    app: {{table: things, fields: {{{mapped}}}, sync: {{columns: same}}, where: {{a: here}}, leave: {leave}}}
"#,
            three_stores!("")
        );
        let mut world = World::new(&yaml);
        world.insert("hub", "1", &[("a", "here"), ("b", "b0")], Stamp::Raise);
        world.insert("hub", "2", &[("a", "there"), ("b", "b0")], Stamp::Raise);
        world.settle();
        drop_column(&mut world, "hub", "a");
        world.settle();
        world.edit("hub", "1", "b", "b1", Stamp::None);
        world.settle();
        let there = ["1", "2"].map(|id| world.get("app", id, "b"));
        assert_eq!(there, ["b1", "-"], "which records a store has: {leave} {mapped}");
        world.delete("app", "1");
        world.settle();
        assert_eq!(world.get("hub", "1", "b"), "-", "and a delete is one: {leave} {mapped}");
    }
}

// ---- values that only one record may have

const ONLY: &str = "  fields: {a: string, u: {type: string, unique: true}}";

fn only() -> World {
    let mut world = world_of(&[("things", ONLY)]);
    world.insert("hub", "1", &[("a", "a0"), ("u", "one")], Stamp::Raise);
    world.insert("hub", "2", &[("a", "a0"), ("u", "two")], Stamp::Raise);
    world.settle();
    world
}

#[test]
fn a_value_that_is_let_go_of_by_a_record_that_is_not_written_now_stays_taken() {
    type Wait = fn(&mut World);
    let waits: [(&str, Wait); 2] = [
        ("paused", |world| pause(world, None, Some("things"), Some("2"))),
        ("no target", |world| target(world, "1")),
    ];
    for (how, wait) in waits {
        let mut world = only();
        world.edit("app", "1", "u", "two", Stamp::None);
        world.edit("app", "2", "u", "one", Stamp::None);
        wait(&mut world);
        world.settle();
        assert_eq!(["1", "2"].map(|id| world.get("hub", id, "u")), ["one", "two"], "{how}");
        world.orders = trueup::plan::Orders::default();
        world.targets.clear();
        world.settle();
        assert_eq!(["1", "2"].map(|id| world.get("local", id, "u")), ["two", "one"], "{how}, and later");
    }
}

#[test]
fn a_deleted_record_that_is_not_let_go_now_has_its_values() {
    type Wait = fn(&mut World);
    let waits: [(&str, Wait); 2] = [
        ("paused", |world| pause(world, None, Some("things"), Some("1"))),
        ("no target", |world| target(world, "3")),
    ];
    for (how, wait) in waits {
        let mut world = only();
        world.delete("app", "1");
        world.insert("app", "3", &[("u", "one")], Stamp::None);
        wait(&mut world);
        world.settle();
        assert_eq!(["1", "3"].map(|id| world.get("hub", id, "u")), ["one", "-"], "{how}");
        assert_eq!(rejected(&world.plan(), "3", Rule::Unique).len(), 1, "{how}");
        world.orders = trueup::plan::Orders::default();
        world.targets.clear();
        world.settle();
        assert_eq!(["1", "3"].map(|id| world.get("local", id, "u")), ["-", "one"], "{how}, and later");
    }
}

#[test]
fn a_record_that_went_back_has_its_values() {
    let mut world = only();
    world.edit("hub", "1", "u", "older", Stamp::RaiseBy(-1, 5));
    world.edit("app", "2", "u", "older", Stamp::None);
    world.settle();
    assert_eq!(["1", "2"].map(|id| world.get("hub", id, "u")), ["older", "two"]);
}

#[test]
fn of_two_records_of_which_the_same_is_derived_the_one_that_changes_is_refused() {
    let mut world = world_of(&[("things", "  fields: {a: string, u: {derive: name(a), unique: true}}")]);
    world.insert("hub", "1", &[("a", "One")], Stamp::Raise);
    world.insert("hub", "2", &[("a", "Two")], Stamp::Raise);
    world.settle();
    world.edit("app", "2", "a", "ONE", Stamp::None);
    world.insert("local", "3", &[("a", "one")], Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("2", "a"), ["Two", "ONE", "Two"], "the change stays where it is");
    assert_eq!(world.everywhere("2", "u"), ["two"; 3]);
    assert_eq!(world.everywhere("3", "a"), ["-", "-", "one"]);
    let plan = world.plan();
    let told = rejected(&plan, "2", Rule::Unique);
    assert!(told.len() == 1 && told[0].contains("things[\"1\"] has its `u`"), "{told:?}");
    assert_eq!(rejected(&plan, "3", Rule::Unique).len(), 1);
    world.edit("app", "2", "a", "Zwei", Stamp::None);
    world.edit("local", "3", "a", "Three", Stamp::None);
    world.settle();
    assert_eq!(["2", "3"].map(|id| world.get("hub", id, "u")), ["zwei", "three"]);
}

/// Nobody changed anything: it follows from what stands there.
#[test]
fn what_is_derived_where_nothing_stands_takes_no_value_that_another_record_has() {
    let mut world = world_of(&[("things", "  fields: {a: string, u: {derive: name(a), unique: true}}")]);
    world.insert("hub", "1", &[("a", "One"), ("u", "one")], Stamp::Raise);
    world.insert("hub", "2", &[("a", "Two"), ("u", "one too")], Stamp::Raise);
    world.settle();
    world.edit("hub", "2", "a", "One", Stamp::None);
    world.edit("hub", "2", "u", "other", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("2", "u"), ["other"; 3]);
    world.edit("hub", "2", "u", "null", Stamp::None);
    world.settle();
    assert_ne!(world.get("hub", "2", "u"), "one");
    assert_eq!(rejected(&world.plan(), "2", Rule::Unique).len(), 1, "{:?}", world.plan().notices);
}

// ---- deletes

#[test]
fn a_change_that_won_over_a_delete_is_told_once_although_the_store_does_not_get_the_record_back() {
    type Keep = fn(&mut World);
    let keeps: [(&str, Keep); 2] = [
        ("paused", |world| pause(world, Some("app"), None, None)),
        ("refused", |world| {
            world.db("app").faults.refuse.insert((entity("things"), key("1")));
        }),
    ];
    for (how, keep) in keeps {
        let mut world = only();
        world.delete("app", "1");
        world.edit("local", "1", "a", "new", Stamp::None);
        keep(&mut world);
        for _ in 0..4 {
            world.tick();
            world.pass().expect("a pass");
        }
        assert_eq!(world.conflicts().len(), 1, "{how}");
        if how == "paused" {
            assert_eq!(world.settle(), 0, "nothing more is written");
        }
        world.orders = trueup::plan::Orders::default();
        world.db("app").faults.refuse.clear();
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["new"; 3], "{how}");
        assert_eq!(world.conflicts().len(), 1, "{how}");
    }
}

#[test]
fn a_store_that_is_only_read_is_told_of_once_as_well() {
    let stores = three_stores!("")
        .replace("{name: app}\nspec: {memory: {}}", "{name: app}\nspec: {memory: {}, read_only: true}");
    let yaml = format!(
        r#"{stores}apiVersion: trueup/v1
kind: Entity
metadata: {{name: things}}
spec: {{key: {{id: string}}, fields: {{a: string}}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {{name: things}}
spec:
  entity: things
  stores:
    hub: {{table: things, fields: {{"*": same}}, sync: {{columns: same}}}}
    app: {{table: things, fields: {{"*": same}}}}
    local: {{table: things, fields: {{"*": same}}, sync: {{columns: same}}}}
"#
    );
    let mut world = World::new(&yaml);
    world.insert("app", "1", &[("a", "a0")], Stamp::None);
    world.settle();
    world.delete("app", "1");
    world.edit("local", "1", "a", "new", Stamp::None);
    world.settle();
    assert_eq!((world.conflicts().len(), world.get("hub", "1", "a")), (1, "new".to_owned()));
}

fn firms() -> World {
    let mut world = world_of(&[
        ("firms", ONLY),
        (
            "links",
            "  fields: {firm: {type: string, references: firms, on_delete: cascade}, role: {enum: [maker, buyer]}}",
        ),
    ]);
    let (firms, links) = (entity("firms"), entity("links"));
    world.insert_into(&firms, "hub", "F1", &[("a", "One"), ("u", "one")], Stamp::None);
    world.insert_into(&firms, "hub", "F2", &[("a", "Two"), ("u", "two")], Stamp::None);
    world.insert_into(&links, "hub", "L1", &[("firm", "F1"), ("role", "maker")], Stamp::None);
    world.insert_into(&links, "hub", "L2", &[("firm", "F2"), ("role", "maker")], Stamp::None);
    world.settle();
    world.allow.extend([GuardName::Deletes, GuardName::Emptied]);
    world
}

#[test]
fn a_record_that_goes_waits_in_a_store_for_what_goes_with_it_and_is_paused_there() {
    for (at, wait) in [("hub", None), ("local", None), ("local", Some("L1"))] {
        let mut world = firms();
        delete_in(&mut world, "firms", at, "F1");
        pause(&mut world, Some("app"), Some("links"), wait);
        world.settle();
        assert_eq!(everywhere(&world, "firms", "F1", "a"), ["-", "One", "-"], "deleted in {at}");
        assert_eq!(everywhere(&world, "links", "L1", "role"), ["-", "maker", "-"], "deleted in {at}");
        let plan = world.plan();
        let told = plan.notices.iter().any(|notice| {
            notice.kind == NoticeKind::Waiting && notice.message.contains("waits in app: links[\"L1\"]")
        });
        assert!(told, "{:?}", plan.notices);
        world.orders = trueup::plan::Orders::default();
        world.settle();
        assert_eq!(everywhere(&world, "firms", "F1", "a"), ["-"; 3], "and later");
        assert_eq!(everywhere(&world, "links", "L1", "role"), ["-"; 3], "and later");
    }
}

#[test]
fn a_record_stays_in_a_store_where_what_goes_with_it_was_not_let_go() {
    // Somebody edits the link there just before it would go.
    let mut world = firms();
    delete_in(&mut world, "firms", "local", "F1");
    let links = world.mapped("links", "app");
    world.db("app").faults.before_batch = Some(Hook::new(move |db| {
        db.edit(&links, &key("L1"), |row| {
            row.fields.insert(field("role"), Cell::Value(Value::text("buyer")));
        });
    }));
    world.settle();
    assert_eq!(everywhere(&world, "links", "L1", "role"), ["buyer"; 3], "a change wins");
    assert_eq!(everywhere(&world, "firms", "F1", "a"), ["One"; 3], "and keeps what it refers to");

    // The store refuses it.
    let mut world = firms();
    delete_in(&mut world, "firms", "local", "F1");
    world.db("app").faults.refuse.insert((entity("links"), key("L1")));
    for _ in 0..3 {
        world.tick();
        world.pass().expect("a pass");
        assert_eq!(everywhere(&world, "firms", "F1", "a"), ["-", "One", "-"]);
    }
    world.db("app").faults.refuse.clear();
    world.settle();
    assert_eq!(everywhere(&world, "firms", "F1", "a"), ["-"; 3]);

    // It was paused there after the plan was saved.
    let mut world = firms();
    delete_in(&mut world, "firms", "local", "F1");
    let plan = world.plan();
    pause(&mut world, Some("app"), Some("links"), None);
    world.apply(plan).expect("applies");
    assert_eq!(everywhere(&world, "firms", "F1", "a"), ["-", "One", "-"]);
    assert_eq!(everywhere(&world, "links", "L1", "role"), ["-", "maker", "-"]);
}

#[test]
fn a_new_record_that_breaks_a_rule_keeps_what_it_refers_to_as_well() {
    let mut world = firms();
    delete_in(&mut world, "firms", "local", "F2");
    let new = [("firm", "F2"), ("role", "no role")];
    world.insert_into(&entity("links"), "app", "L9", &new, Stamp::None);
    world.settle();
    assert_eq!(everywhere(&world, "firms", "F2", "a"), ["Two"; 3]);
    assert_eq!(everywhere(&world, "links", "L9", "role"), ["-", "no role", "-"], "it waits to be corrected");
}

#[test]
fn a_record_that_comes_back_has_its_values() {
    let mut world = firms();
    delete_in(&mut world, "links", "app", "L1");
    delete_in(&mut world, "firms", "app", "F1");
    world.insert_into(&entity("firms"), "app", "F3", &[("a", "Three"), ("u", "one")], Stamp::None);
    world.edit_in(&entity("links"), "local", "L1", "role", "buyer", Stamp::None);
    world.settle();
    assert_eq!(everywhere(&world, "firms", "F1", "u"), ["one"; 3]);
    assert_eq!(everywhere(&world, "firms", "F3", "u"), ["-", "one", "-"], "it waits to be corrected");
}

#[test]
fn a_change_that_the_deleting_store_had_not_received_keeps_what_the_record_refers_to() {
    for with_it in [true, false] {
        let mut world = firms();
        world.reach("app", false);
        world.edit_in(&entity("links"), "local", "L1", "role", "buyer", Stamp::None);
        for _ in 0..2 {
            world.tick();
            world.pass().expect("a pass");
        }
        if with_it {
            delete_in(&mut world, "links", "app", "L1");
        }
        delete_in(&mut world, "firms", "app", "F1");
        // Of this one it had seen everything.
        delete_in(&mut world, "firms", "app", "F2");
        world.reach("app", true);
        world.settle();
        assert_eq!(everywhere(&world, "links", "L1", "role"), ["buyer"; 3], "{with_it}");
        assert_eq!(everywhere(&world, "firms", "F1", "a"), ["One"; 3], "{with_it}");
        assert_eq!(everywhere(&world, "links", "L2", "role"), ["-"; 3], "{with_it}");
    }
}

// ---- versions

#[test]
fn an_edit_that_raised_the_version_does_not_lower_that_of_another_store() {
    let mut world = only();
    world.edit("hub", "1", "a", "same", Stamp::Raise);
    world.edit("app", "1", "a", "same", Stamp::RaiseBy(5, 10));
    world.settle();
    let stood = world.version("app", "1");
    world.edit("hub", "1", "a", "more", Stamp::Raise);
    world.settle();
    assert!(world.version("app", "1") > stood, "{stood:?} {:?}", world.version("app", "1"));
}
