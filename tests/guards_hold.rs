//! A guard, a pause or a target that stops a record stops what hangs on it as well: nothing goes by half, and nothing comes by half.

mod world;

use std::collections::BTreeSet;

use proptest::prelude::*;
use trueup::diff::Standing;
use trueup::model::Version;
use trueup::plan::{GuardName, Hold, Orders, Place, Plan, RenderOptions, Target, render};
use trueup::store::memory::Cut;
use world::{Stamp, THREE_STORES, World, entity, key};

const STORES: [&str; 3] = ["hub", "app", "local"];
const CHAIN: [&str; 3] = ["things", "phones", "calls"];

/// An entity whose records refer to those of another one, and go with them.
fn referring(name: &str, to: &str) -> String {
    let stores: String = STORES
        .iter()
        .map(|at| format!("    {at}: {{table: {name}, fields: {{\"*\": same}}, sync: {{columns: same}}}}\n"))
        .collect::<Vec<_>>()
        .concat();
    format!(
        "---\napiVersion: trueup/v1\nkind: Entity\nmetadata: {{name: {name}}}\nspec:\n  key: {{id: string}}\n  fields: {{owner: \
         {{type: string, references: {to}, on_delete: cascade}}, note: string}}\n---\napiVersion: trueup/v1\nkind: \
         Mapping\nmetadata: {{name: {name}}}\nspec:\n  entity: {name}\n  stores:\n{stores}"
    )
}

/// Things, their phones, and the calls of those.
fn chain() -> World {
    World::new(&format!("{THREE_STORES}{}{}", referring("phones", "things"), referring("calls", "phones")))
}

fn put(world: &mut World, of: &str, at: &str, id: &str, owner: &str) {
    let fields =
        if of == "things" { [("must", "m"), ("a", "first")] } else { [("owner", owner), ("note", "first")] };
    world.insert_into(&entity(of), at, id, &fields, Stamp::Raise);
}

fn take(world: &mut World, of: &str, at: &str, id: &str) {
    let mapped = world.mapped(of, at);
    world.tick();
    world.db(at).delete(&mapped, &key(id));
}

fn is_there(world: &World, of: &str, at: &str, id: &str) -> bool {
    world.value_in(&entity(of), at, id, if of == "things" { "must" } else { "owner" }) != "-"
}

/// The stores that have a record.
fn where_is(world: &World, of: &str, id: &str) -> Vec<&'static str> {
    STORES.into_iter().filter(|at| is_there(world, of, at, id)).collect()
}

/// Every row: entity, store and key.
fn rows(world: &World) -> BTreeSet<(&'static str, &'static str, String)> {
    let all = CHAIN.into_iter().flat_map(|of| STORES.into_iter().map(move |at| (of, at)));
    all.flat_map(|(of, at)| {
        let table = world.stores[&world::store(at)].table(&world.mapped(of, at)).expect("a table");
        table.rows.keys().map(move |key| (of, at, key.parts()[0].clone())).collect::<Vec<_>>()
    })
    .collect()
}

/// As many of each as asked for: a phone for each thing, a call for each phone, of the same number.
fn filled(things: usize, phones: usize, calls: usize) -> World {
    let mut world = chain();
    for (of, count) in CHAIN.into_iter().zip([things, phones, calls]) {
        (1..=count).for_each(|id| put(&mut world, of, "hub", &id.to_string(), &id.to_string()));
    }
    world.settle();
    world
}

/// Sets a guard off in an entity of 12 records, of which the first is deleted in `app`.
fn set_off(world: &mut World, guard: GuardName, of: &str) {
    match guard {
        GuardName::Deletes => ["2", "3"].iter().for_each(|id| take(world, of, "app", id)),
        GuardName::Emptied => (1..=12).for_each(|id| take(world, of, "app", &id.to_string())),
        GuardName::Updates => (6..=12).for_each(|id| {
            let name = if of == "things" { "a" } else { "note" };
            world.edit_in(&entity(of), "app", &id.to_string(), name, "new", Stamp::Raise);
        }),
        GuardName::Incomplete => world.db("local").faults.cut_after = Some((2, Cut::FewerThanClaimed)),
        GuardName::Regressed => {
            let mapped = world.mapped(of, "local");
            for id in ["8", "9"] {
                world.db("local").edit(&mapped, &key(id), |row| row.meta.version = Some(Version(0)));
            }
        }
    }
}

#[test]
fn a_guard_of_a_record_stops_the_deletes_of_what_goes_with_it() {
    for guard in GuardName::ALL {
        for guarded in CHAIN {
            let mut world = filled(12, 12, 12);
            take(&mut world, "things", "app", "1");
            set_off(&mut world, guard, guarded);
            let before = rows(&world);
            let report = world.pass().expect("a pass");
            let trips: Vec<_> = report.guards.iter().map(|trip| (trip.guard, trip.entity.as_str())).collect();
            assert!(trips.contains(&(guard, guarded)), "{guard} of {guarded}: {trips:?}");
            let gone: Vec<_> = before.difference(&rows(&world)).cloned().collect();
            assert!(gone.is_empty(), "{guard} of {guarded}: {gone:?}");
            // Once it is allowed, all of it goes.
            world.db("local").faults.cut_after = None;
            world.allow = GuardName::ALL.into_iter().collect();
            world.settle();
            for of in CHAIN {
                assert_eq!(where_is(&world, of, "1"), [""; 0], "{guard} of {guarded}: {of}");
            }
        }
    }
}

#[test]
fn an_emptied_parent_leaves_the_few_that_refer_to_it() {
    // Under ten no guard of their own looks after them.
    let mut world = filled(12, 9, 4);
    (1..=12).for_each(|id| take(&mut world, "things", "app", &id.to_string()));
    for _ in 0..3 {
        let report = world.pass().expect("a pass");
        assert_eq!(report.applied.delete, 0);
        for (of, count) in [("phones", 9), ("calls", 4)] {
            (1..=count).for_each(|id| assert_eq!(where_is(&world, of, &id.to_string()), STORES, "{of} {id}"));
        }
    }
}

fn place(of: &str, id: Option<&str>, at: Option<&str>) -> Place {
    Place { store: at.map(world::store), entity: Some(entity(of)), key: id.map(key) }
}

#[test]
fn what_was_deleted_together_goes_together() {
    // The phone was deleted by itself, and may not go yet: neither may what it refers to.
    for kept in ["pause", "change", "guard"] {
        let mut world = filled(12, 12, 3);
        take(&mut world, "things", "app", "1");
        take(&mut world, "phones", "app", "1");
        match kept {
            "pause" => world.orders.holds.add(place("phones", Some("1"), None), Hold::Paused),
            "change" => world.edit_in(&entity("calls"), "local", "1", "note", "mine", Stamp::None),
            _ => ["2", "3"].iter().for_each(|id| take(&mut world, "phones", "app", id)),
        }
        for _ in 0..2 {
            world.pass().expect("a pass");
            assert!(is_there(&world, "things", "hub", "1"), "{kept}");
            assert!(is_there(&world, "phones", "hub", "1"), "{kept}");
            assert!(is_there(&world, "calls", "hub", "1"), "{kept}");
        }
        world.orders = Orders::default();
        world.allow.insert(GuardName::Deletes);
        world.settle();
        let there = if kept == "change" { STORES.to_vec() } else { Vec::new() };
        for of in CHAIN {
            assert_eq!(where_is(&world, of, "1"), there, "{kept}: {of}");
        }
    }
}

/// What keeps a new record from being made.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    Guard,
    Pause,
    PauseInStore,
    Failed,
    Target,
}

fn says_that_it_waits(plan: &Plan, of: &str, id: &str) -> bool {
    plan.notices.iter().any(|notice| {
        let about =
            notice.record.as_ref().is_some_and(|record| record.to_string() == format!("{of}[\"{id}\"]"));
        about && notice.message.starts_with("it waits: ")
    })
}

#[test]
fn what_refers_to_a_record_that_is_not_made_waits_with_it() {
    for held in [Held::Guard, Held::Pause, Held::PauseInStore, Held::Failed, Held::Target] {
        let mut world = filled(12, 12, 3);
        put(&mut world, "things", "app", "new", "");
        put(&mut world, "phones", "app", "new", "new");
        put(&mut world, "calls", "app", "new", "new");
        // One that is there already is given to the new one, and another one is merely changed.
        world.edit_in(&entity("phones"), "app", "5", "owner", "new", Stamp::Raise);
        world.edit_in(&entity("calls"), "app", "2", "note", "mine", Stamp::Raise);
        match held {
            Held::Guard => (6..=12).for_each(|id| {
                world.edit_in(&entity("things"), "app", &id.to_string(), "a", "other", Stamp::Raise);
            }),
            Held::Pause => world.orders.holds.add(place("things", None, None), Hold::Paused),
            Held::PauseInStore => world.orders.holds.add(place("things", None, Some("local")), Hold::Paused),
            Held::Failed => {
                world.orders.holds.add(place("things", Some("new"), Some("hub")), Hold::Waiting);
            }
            Held::Target => {
                let target = |of: &str| Target { entity: entity(of), key: None };
                world.targets = vec![target("phones"), target("calls")];
            }
        }
        let plan = world.plan();
        for of in ["phones", "calls"] {
            assert!(says_that_it_waits(&plan, of, "new"), "{held:?}: {:#?}", plan.notices);
        }
        assert!(says_that_it_waits(&plan, "phones", "5"), "{held:?}: {:#?}", plan.notices);
        let lacking = if held == Held::PauseInStore { &["local"][..] } else { &["hub", "local"] };
        for _ in 0..2 {
            world.pass().expect("a pass");
            for at in lacking {
                assert!(!is_there(&world, "things", at, "new"), "{held:?}");
                assert!(!is_there(&world, "phones", at, "new"), "{held:?}: in {at}");
                assert!(!is_there(&world, "calls", at, "new"), "{held:?}: in {at}");
                assert_eq!(world.value_in(&entity("phones"), at, "5", "owner"), "5", "{held:?}: in {at}");
            }
            assert_eq!(world.value_in(&entity("calls"), "local", "2", "note"), "mine", "others go on");
        }
        if held == Held::PauseInStore {
            assert_eq!(where_is(&world, "calls", "new"), ["hub", "app"]);
        }
        world.orders = Orders::default();
        world.targets.clear();
        world.allow.insert(GuardName::Updates);
        world.settle();
        for of in CHAIN {
            assert_eq!(where_is(&world, of, "new"), STORES, "{held:?}: {of}");
        }
        assert_eq!(world.value_in(&entity("phones"), "local", "5", "owner"), "new");
    }
}

#[test]
fn what_refers_to_a_record_that_a_store_refuses_is_not_written_there() {
    for refuses in ["hub", "local"] {
        let mut world = filled(3, 3, 3);
        put(&mut world, "things", "app", "new", "");
        put(&mut world, "phones", "app", "new", "new");
        put(&mut world, "calls", "app", "new", "new");
        world.db(refuses).faults.refuse.insert((entity("things"), key("new")));
        for _ in 0..2 {
            let report = world.pass().expect("a pass");
            assert!(report.failed.iter().all(|trouble| trouble.record.entity == entity("things")));
            let there = if refuses == "hub" { vec!["app"] } else { vec!["hub", "app"] };
            for of in CHAIN {
                assert_eq!(where_is(&world, of, "new"), there, "refused in {refuses}: {of}");
            }
        }
        world.db(refuses).faults.refuse.clear();
        world.settle();
        for of in CHAIN {
            assert_eq!(where_is(&world, of, "new"), STORES, "refused in {refuses}: {of}");
        }
    }
}

#[test]
fn a_row_that_leaves_a_store_is_kept_whole_each_time() {
    let plain = "local: {table: things, fields: {\"*\": same}, sync: {columns: same}}";
    let scoped = "local: {table: things, fields: {\"*\": same}, where: {kind: x}, leave: remove, sync: {columns: same}}";
    let mut world = World::new(&THREE_STORES.replace(plain, scoped));
    world.insert("hub", "1", &[("a", "a0"), ("must", "m"), ("kind", "x")], Stamp::Raise);
    world.settle();
    let memo = |world: &mut World, text: &str| {
        let mapped = world.mapped("things", "local");
        let text = text.to_owned();
        assert!(world.db("local").edit(&mapped, &key("1"), |row| {
            row.extra.insert("memo".to_owned(), serde_json::Value::from(text.clone()));
        }));
    };
    for round in ["first memo", "second memo"] {
        memo(&mut world, round);
        world.edit("app", "1", "kind", "y", Stamp::Raise);
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["a0", "a0", "-"]);
        assert!(world.tombstones().contains(round), "{}", world.tombstones());
        // What is kept says nothing of the record, whatever is forgotten.
        if round == "second memo" {
            world.lose_state();
        }
        assert_eq!(world.settle(), usize::from(round == "second memo"));
        world.edit("app", "1", "kind", "x", Stamp::Raise);
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["a0"; 3]);
    }
    assert!(world.tombstones().contains("first memo"), "{}", world.tombstones());
    // A delete of it leaves a tombstone of its own, and goes everywhere.
    world.delete("app", "1");
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["-"; 3]);
    assert!(world.tombstones().contains("first memo") && world.tombstones().contains("confirmed"));
    assert_eq!(world.settle(), 0);
}

#[test]
fn a_row_without_a_key_is_said_to_hold_up_what_it_holds_up() {
    let mut world = filled(3, 0, 0);
    world.db("local").faults.bad_keys = 1;
    put(&mut world, "things", "hub", "new", "");
    world.settle();
    assert_eq!(where_is(&world, "things", "new"), ["hub", "app"]);
    // What refers to it is not written there ahead of it, although its own table is whole.
    put(&mut world, "phones", "hub", "new", "new");
    world.db("local").faults.bad_keys = 0;
    world.db("local").faults.duplicate_keys.insert((entity("things"), key("3")));
    world.settle();
    assert_eq!(where_is(&world, "phones", "new"), ["hub", "app"]);
    assert!(says_that_it_waits(&world.plan(), "phones", "new"));
    world.db("local").faults.duplicate_keys.clear();
    world.db("local").faults.bad_keys = 1;
    let plan = world.plan();
    let books = plan.books_of(&entity("things"), &world::store("local")).expect("books");
    assert_eq!((books.seen, books.count(Standing::Unknown)), (4, 1), "{books:?}");
    let page = render(&plan, &RenderOptions::default());
    assert!(page.contains("until then nothing is created or found deleted there"), "{page}");
    assert!(page.contains("of 2 records it is not known whether a store has them"), "{page}");
    assert!(!page.contains("holds what the manifests say"), "{page}");
    world.db("local").faults.bad_keys = 0;
    world.settle();
    assert_eq!(where_is(&world, "things", "new"), STORES);
    assert!(
        render(&world.plan(), &RenderOptions::default()).contains("Every store holds what the manifests say")
    );
}

#[test]
fn a_store_that_lost_its_rows_is_filled_again_where_deletes_are_restored() {
    let manifests =
        |deletes: &str| THREE_STORES.replace("  times:", &format!("  deletes: {deletes}\n  times:"));
    for lost in STORES {
        let mut world = World::new(&manifests("propagate"));
        (1..=12).for_each(|id| put(&mut world, "things", "hub", &id.to_string(), ""));
        world.settle();
        (1..=12).for_each(|id| take(&mut world, "things", lost, &id.to_string()));
        let plan = world.plan();
        let trip = plan.guards.iter().find(|trip| trip.guard == GuardName::Emptied).expect("a guard");
        let others = STORES.iter().filter(|at| **at != lost);
        for at in others {
            assert!(trip.message.contains(&format!("12 in {at}")), "{}", trip.message);
        }
        assert!(trip.message.contains("deletes: restore"), "{}", trip.message);
        world.spec = world::spec(&manifests("restore"));
        world.settle();
        world.spec = world::spec(&manifests("propagate"));
        assert_eq!(world.settle(), 0);
        (1..=12)
            .for_each(|id| assert_eq!(where_is(&world, "things", &id.to_string()), STORES, "{lost} {id}"));
    }
}

#[test]
fn a_rule_that_spans_records_names_the_other_one() {
    let unique = THREE_STORES.replace("    a: string\n", "    a: {type: string, unique: true}\n");
    let mut world = World::new(&format!("{unique}{}", referring("phones", "things")));
    world.insert("hub", "1", &[("a", "a1"), ("must", "m")], Stamp::None);
    world.settle();
    world.insert("app", "2", &[("a", "a1"), ("must", "m")], Stamp::None);
    put(&mut world, "phones", "app", "p", "nobody");
    let said: Vec<String> = world.plan().notices.into_iter().map(|notice| notice.message).collect();
    for part in [
        "the record in app breaks the rule `unique`: things[\"1\"] has its `a`;",
        "the record in app breaks the rule `reference`: there is no things[\"nobody\"] for its `owner`;",
    ] {
        assert!(said.iter().any(|said| said.starts_with(part)), "{part}: {said:#?}");
    }
}

#[test]
fn what_waits_is_counted_once_in_the_last_line() {
    let mut world = filled(9, 0, 0);
    // Broken in the canonical store: nothing is written to these anywhere, and each is one change that breaks a rule.
    for id in ["1", "2", "3"] {
        world.edit("hub", id, "kind", "z", Stamp::None);
    }
    for id in ["5", "6"] {
        world.edit("app", id, "a", "left", Stamp::None);
        world.edit("local", id, "a", "right", Stamp::None);
    }
    world.settle();
    let page = render(&world.plan(), &RenderOptions::default());
    assert!(page.contains("2 records held, 3 with a rejected change (named above)"), "{page}");
}

#[derive(Debug, Clone)]
struct History {
    deletes: Vec<(usize, usize, usize)>,
    edits: Vec<(usize, usize, usize)>,
    news: Vec<(usize, usize)>,
    paused: Vec<(usize, usize)>,
}

fn histories() -> impl Strategy<Value = History> {
    let row = || (0..3_usize, 0..3_usize, 1..=12_usize);
    let record = || (0..3_usize, 1..=12_usize);
    (
        prop::collection::vec(row(), 0..8),
        prop::collection::vec(row(), 0..14),
        prop::collection::vec((0..3_usize, 0..3_usize), 0..3),
        prop::collection::vec(record(), 0..3),
    )
        .prop_map(|(deletes, edits, news, paused)| History { deletes, edits, news, paused })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing goes of which any part is stopped by a guard or a pause, and no reference comes that leads nowhere; once all is let through,
    /// everything agrees.
    #[test]
    fn nothing_goes_or_comes_by_half(history in histories()) {
        let mut world = filled(12, 12, 12);
        for (of, at, id) in &history.edits {
            let name = if *of == 0 { "a" } else { "note" };
            let of = entity(CHAIN[*of]);
            world.edit_in(&of, STORES[*at], &id.to_string(), name, &format!("edit {at}"), Stamp::Raise);
        }
        for (of, at, id) in &history.deletes {
            take(&mut world, CHAIN[*of], STORES[*at], &id.to_string());
        }
        for (nth, (of, at)) in history.news.iter().enumerate() {
            // From there on the whole chain is new.
            for of in &CHAIN[*of..] {
                let owner = if *of == CHAIN[history.news[nth].0] { "7".to_owned() } else { format!("new{nth}") };
                put(&mut world, of, STORES[*at], &format!("new{nth}"), &owner);
            }
        }
        for (of, id) in &history.paused {
            world.orders.holds.add(place(CHAIN[*of], Some(&id.to_string()), None), Hold::Paused);
        }
        let before = rows(&world);
        let dangled = dangling(&world);
        let report = world.pass().expect("a pass");
        let stopped: BTreeSet<&str> = report.guards.iter().map(|trip| trip.entity.as_str()).collect();
        for (of, at, id) in before.difference(&rows(&world)) {
            // Somebody deleted it, or what it goes with, and from there down to it nothing is stopped.
            let stays = |of: usize| {
                stopped.contains(CHAIN[of]) || history.paused.iter().any(|(held, held_id)| *held == of && held_id.to_string() == *id)
            };
            let deleted = |of: usize| history.deletes.iter().any(|(gone, _, gone_id)| *gone == of && gone_id.to_string() == *id);
            let last = CHAIN.iter().position(|one| one == of).expect("an entity");
            let may_go = (0..=last).any(|first| deleted(first) && !(first..=last).any(stays));
            prop_assert!(may_go, "{of} {id} is gone in {at}: {stopped:?}");
        }
        for found in dangling(&world).difference(&dangled) {
            prop_assert!(false, "leads nowhere: {found:?}, stopped {stopped:?}");
        }
        world.orders = Orders::default();
        world.allow = GuardName::ALL.into_iter().collect();
        world.settle();
        prop_assert_eq!(dangling(&world), BTreeSet::new());
    }
}

/// Rows that refer, in their store, to one that is not there.
fn dangling(world: &World) -> BTreeSet<(&'static str, &'static str, String)> {
    let refers = rows(world).into_iter().filter(|(of, ..)| *of != "things");
    refers
        .filter(|(of, at, id)| {
            let to = CHAIN[CHAIN.iter().position(|one| one == of).expect("an entity") - 1];
            !is_there(world, to, at, &world.value_in(&entity(of), at, id, "owner"))
        })
        .collect()
}
