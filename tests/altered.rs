//! A canonical store that makes something else of what it is given: a trigger, a narrower column. What it keeps goes everywhere, and what was
//! given is on record before it is overwritten anywhere.

mod world;

use trueup::model::{Cell, Timestamp, Value};
use trueup::resolve::{ConflictReason, ConflictStatus, SideRecord};
use trueup::store::memory::Lossy;
use world::{Stamp, World, key, store, text};

/// What the canonical store makes of a text.
const MAKES: [fn(&str) -> Value; 3] =
    [|text| Value::text(text.to_uppercase()), |text| Value::text(&text[..2]), |_| Value::text("a0")];

/// Three stores that agree on a record, the canonical one of which makes something else of one field from now on.
fn agreed(make: fn(&str) -> Value) -> World {
    let mut world = World::three();
    world.insert("hub", "1", &[("a", "a0"), ("b", "b0"), ("must", "m")], Stamp::None);
    world.settle();
    alter(&mut world, make);
    world
}

fn alter(world: &mut World, make: fn(&str) -> Value) {
    let mapped = world.mapped("things", "hub");
    let table = world.db("hub").table_mut(&mapped).expect("a table");
    let made = Lossy::new(move |value| value.as_text().map_or_else(|| value.clone(), make));
    table.lossy.insert(world::field("a"), made);
}

/// The conflicts in which a store lost a value of the field.
fn lost(world: &World, at: &str, value: &str) -> usize {
    let lost = |conflict: &trueup::resolve::Conflict| {
        let side = conflict.side(&store(at));
        let held = side.is_some_and(|side| match &side.record {
            SideRecord::Held(record) => record.get(&world::field("a")) == Some(&text(value)),
            SideRecord::Deleted => false,
        });
        held && conflict.winner.as_ref() != Some(&store(at)) && conflict.status == ConflictStatus::Resolved
    };
    world.conflicts().iter().filter(|conflict| lost(conflict)).count()
}

#[test]
fn what_the_canonical_store_keeps_goes_everywhere_and_what_it_was_given_is_on_record() {
    for make in MAKES {
        for stamp in [Stamp::None, Stamp::Clock, Stamp::Raise] {
            let mut world = agreed(make);
            world.edit("app", "1", "a", "Mary Sample", stamp);
            world.edit("app", "1", "b", "b1", Stamp::None);
            let report = world.pass().expect("a pass");
            let kept = world.get("hub", "1", "a");
            assert_eq!(text(&kept), make("Mary Sample"));
            assert_eq!(world.get("local", "1", "a"), "a0", "nothing is given away that was not acknowledged");
            let conflicts = world.conflicts();
            let [conflict] = conflicts.as_slice() else { panic!("{conflicts:#?}") };
            assert_eq!(conflict.reason, ConflictReason::AlteredByStore);
            assert_eq!(conflict.winner, Some(store("hub")));
            assert_eq!(conflict.fields, [world::field("a")]);
            let values =
                |at: &str| conflict.side(&store(at)).expect("a side").values[&world::field("a")].clone();
            assert_eq!((values("app"), values("hub")), (text("Mary Sample"), text(&kept)));
            assert_eq!(lost(&world, "app", "Mary Sample"), 1);
            let [told] = report.skipped.as_slice() else { panic!("{:#?}", report.skipped) };
            assert_eq!((told.record.key.clone(), told.store.as_str()), (key("1"), "app"));
            assert!(
                told.message.contains("`a`") && told.message.contains(&conflict.id.0),
                "{}",
                told.message
            );
            assert!(!told.message.contains("Mary"), "{}", told.message);
            assert!(!report.is_clean());
            world.settle();
            assert_eq!(world.everywhere("1", "a"), [kept.as_str(); 3]);
            assert_eq!(world.everywhere("1", "b"), ["b1"; 3], "the rest of the record goes its way");
            assert_eq!((world.settle(), world.conflicts().len()), (0, 1));
        }
    }
}

#[test]
fn what_differs_in_no_value_is_not_altered() {
    let mut world = agreed(|text| Value::text(text.to_uppercase()));
    world.edit("app", "1", "a", "MARY", Stamp::None);
    let report = world.pass().expect("a pass");
    assert!(report.is_clean());
    assert_eq!((world.everywhere("1", "a"), world.conflicts().len()), (vec!["MARY".to_owned(); 3], 0));
}

#[test]
fn a_new_record_is_made_elsewhere_as_the_canonical_store_has_it() {
    for make in MAKES {
        let mut world = agreed(make);
        for id in ["2", "3", "4", "5", "6"] {
            world.insert("app", id, &[("a", "Zoe Sample"), ("must", "m")], Stamp::None);
        }
        world.pass().expect("a pass");
        assert_eq!(world.get("local", "2", "a"), "-");
        world.settle();
        let kept = make("Zoe Sample");
        for id in ["2", "3", "4", "5", "6"] {
            assert_eq!(world.everywhere(id, "a"), [kept.as_text().expect("a text"); 3]);
        }
        assert_eq!((lost(&world, "app", "Zoe Sample"), world.settle()), (5, 0));
    }
}

#[test]
fn all_that_had_given_the_value_are_on_record() {
    let mut world = agreed(|text| Value::text(text.to_uppercase()));
    world.edit("app", "1", "a", "Mary Sample", Stamp::None);
    world.edit("local", "1", "a", "Mary Sample", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["MARY SAMPLE"; 3]);
    assert_eq!((lost(&world, "app", "Mary Sample"), lost(&world, "local", "Mary Sample")), (1, 1));
    assert_eq!(world.conflicts().len(), 1);
}

#[test]
fn a_decision_that_the_canonical_store_alters_is_carried_out_once() {
    let mut world = agreed(|text| Value::text(text.to_uppercase()));
    world.edit("app", "1", "a", "from app", Stamp::None);
    world.edit("local", "1", "a", "from local", Stamp::None);
    world.settle();
    let open = world.open_conflicts();
    let [conflict] = open.as_slice() else { panic!("{open:#?}") };
    world.decide(conflict, "app");
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["FROM APP"; 3]);
    assert!(world.open_conflicts().is_empty());
    assert_eq!(lost(&world, "app", "from app"), 1);
    assert_eq!(world.settle(), 0);
}

#[test]
fn whenever_the_pass_dies_the_value_is_on_record_and_the_stores_agree() {
    for make in MAKES {
        for new in [false, true] {
            let mut before = agreed(make);
            if new {
                before.insert("app", "2", &[("a", "Mary Sample"), ("must", "m")], Stamp::None);
            } else {
                before.edit("app", "1", "a", "Mary Sample", Stamp::None);
            }
            let id = if new { "2" } else { "1" };
            let mut lives = 0;
            loop {
                let mut world = before.clone();
                world.lives = Some(lives);
                let died = world.pass().is_err();
                world.lives = None;
                world.settle();
                let kept = world.get("hub", id, "a");
                assert_eq!(text(&kept), make("Mary Sample"), "killed after {lives}");
                assert_eq!(world.everywhere(id, "a"), [kept.as_str(); 3], "killed after {lives}");
                assert!(
                    lost(&world, "app", "Mary Sample") > 0,
                    "killed after {lives}: {:#?}",
                    world.conflicts()
                );
                assert!(world.open_conflicts().is_empty(), "killed after {lives}");
                assert_eq!(world.settle(), 0);
                if !died {
                    break;
                }
                lives += 1;
            }
            assert!(lives > 8, "the pass was killed at every effect");
        }
    }
}

#[test]
fn what_the_canonical_store_cannot_hold_in_its_form_is_on_record_too() {
    let yaml =
        world::THREE_STORES.replace("    a: string\n", "    a: string\n    seen: timestamp\n").replace(
            "hub: {table: things, fields: {\"*\": same}",
            "hub: {table: things, fields: {\"*\": same, seen: {form: unix-seconds}}",
        );
    let mut world = World::new(&yaml);
    world.insert("hub", "1", &[("a", "a0"), ("must", "m")], Stamp::None);
    world.settle();
    let time = |micros: i64| Value::Time(Timestamp::from_micros(micros).expect("in range"));
    let mapped = world.mapped("things", "app");
    world.db("app").edit(&mapped, &key("1"), |row| {
        row.fields.insert(world::field("seen"), Cell::Value(time(1_780_000_000_125_000)));
    });
    world.settle();
    let whole = time(1_780_000_000_000_000).to_string();
    assert_eq!(world.everywhere("1", "seen"), [whole.as_str(); 3]);
    let fine = world.conflicts().iter().any(|conflict| {
        let value = conflict.side(&store("app")).and_then(|side| side.values.get(&world::field("seen")));
        value.is_some_and(|value| *value == time(1_780_000_000_125_000))
    });
    assert!(fine, "{:#?}", world.conflicts());
    assert_eq!(world.settle(), 0);
}
