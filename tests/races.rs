//! Others write while a pass writes, stores fail in the middle of one, and passes die: what is remembered, guarded and put on
//! record so that nobody's edit is lost.

mod world;

use world::{Died, Stamp, World, field, key, store, text};

use trueup::model::{Cell, EntityName};
use trueup::plan::GuardName;
use trueup::store::memory::{Cut, Hook};

/// A world in which one record is known to all three stores, and everything agrees.
fn agreed() -> World {
    let mut world = World::three();
    world.insert("hub", "1", &[("a", "a0"), ("b", "b0"), ("must", "m")], Stamp::Raise);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a0"; 3]);
    world
}

/// Somebody edits a field of record 1 in this store just before the next batch reaches it, saying nothing of it in the metadata.
fn just_before_the_write(world: &mut World, at: &str, name: &str, value: &str) {
    let (mapped, name, value) = (world.mapped("things", at), field(name), Cell::Value(text(value)));
    world.db(at).faults.before_batch = Some(Hook::new(move |db| {
        let (name, value) = (name.clone(), value.clone());
        db.edit(&mapped, &key("1"), |row| {
            row.fields.insert(name, value);
        });
    }));
}

/// Everything that a person could still find: what all stores hold, and what is on record.
fn kept(world: &World) -> String {
    format!("{:?} {:?} {:?}", world.everywhere("1", "a"), world.conflicts(), world.tombstones())
}

#[test]
fn only_the_fields_that_differ_are_written() {
    let mut world = agreed();
    world.edit("app", "1", "a", "a1", Stamp::None);
    let plan = world.plan();
    for action in plan.actions().filter(|action| action.store != store("app")) {
        let written: Vec<&str> = action.changes.iter().map(|change| change.field.as_str()).collect();
        assert_eq!(written, ["a"], "in {}", action.store);
    }
    assert!(plan.actions().all(|action| action.store != store("app") || action.changes.is_empty()));
}

#[test]
fn an_edit_just_before_the_write_is_not_overwritten() {
    let mut world = agreed();
    world.edit("hub", "1", "a", "a1", Stamp::None);
    just_before_the_write(&mut world, "local", "a", "mine");
    let report = world.pass().expect("a pass");
    assert_eq!(world.get("local", "1", "a"), "mine");
    assert_eq!(report.skipped.len(), 1, "{:?}", report.skipped);
    world.settle();
    assert_eq!(world.get("local", "1", "a"), "mine", "neither had seen the other: a person decides");
    assert_eq!(world.open_conflicts().len(), 1);
}

#[test]
fn an_edit_of_another_field_just_before_the_write_is_not_taken_for_what_was_written() {
    let mut world = agreed();
    world.edit("hub", "1", "a", "a1", Stamp::None);
    just_before_the_write(&mut world, "local", "b", "mine");
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3]);
    assert_eq!(world.everywhere("1", "b"), ["mine"; 3]);
}

#[test]
fn replicas_get_nothing_that_the_canonical_store_did_not_take() {
    let mut world = agreed();
    world.edit("local", "1", "a", "a1", Stamp::None);
    just_before_the_write(&mut world, "hub", "a", "theirs");
    world.pass().expect("a pass");
    assert_eq!(world.everywhere("1", "a"), ["theirs", "a0", "a1"]);
}

#[test]
fn a_loser_whose_own_write_failed_gets_the_winner_later() {
    let mut world = agreed();
    world.edit("app", "1", "a", "low", Stamp::RaiseBy(1, 100));
    world.edit("local", "1", "a", "high", Stamp::RaiseBy(2, 100));
    world.db("app").faults.fail_batches = 1;
    world.pass().expect("a pass");
    assert_eq!(world.everywhere("1", "a"), ["high", "low", "high"]);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["high"; 3]);
    assert_eq!(world.conflicts().len(), 1, "it lost once");
}

#[test]
fn the_losing_value_is_on_record_before_anything_is_overwritten() {
    for kills in 0.. {
        let mut world = agreed();
        world.edit("app", "1", "a", "low", Stamp::RaiseBy(1, 100));
        world.edit("local", "1", "a", "high", Stamp::RaiseBy(2, 100));
        world.lives = Some(kills);
        let ended = world.pass();
        assert!(kept(&world).contains("low"), "lost by a kill after {kills} effects");
        if ended != Err(Died::Killed) {
            return;
        }
    }
}

#[test]
fn what_cannot_be_put_on_record_is_not_overwritten() {
    let mut world = agreed();
    world.edit("app", "1", "a", "low", Stamp::RaiseBy(1, 100));
    world.edit("local", "1", "a", "high", Stamp::RaiseBy(2, 100));
    let id = world.plan().records.get(0).unwrap().conflicts[0].id.0.clone();
    let conflicts = EntityName::new("sync_conflicts").expect("a name");
    world.db("hub").faults.refuse.insert((conflicts, key(&id)));
    let report = world.pass().expect("a pass");
    assert_eq!(world.everywhere("1", "a"), ["a0", "low", "high"]);
    assert!(!report.failed.is_empty());
}

#[test]
fn a_deleted_row_is_on_record_before_it_goes() {
    for kills in 0.. {
        let mut world = agreed();
        world.delete("app", "1");
        world.lives = Some(kills);
        let ended = world.pass();
        assert!(kept(&world).contains("a0"), "lost by a kill after {kills} effects");
        if ended != Err(Died::Killed) {
            return;
        }
    }
}

#[test]
fn a_delete_that_one_store_did_not_take_stays_pending_without_the_state() {
    let mut world = agreed();
    world.delete("app", "1");
    world.db("local").faults.fail_batches = 1;
    world.pass().expect("a pass");
    assert_eq!(world.everywhere("1", "a"), ["-", "-", "a0"]);
    world.lose_state();
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["-"; 3], "not a new record");
}

#[test]
fn absences_of_a_snapshot_cut_short_are_no_deletes_even_where_it_is_allowed() {
    let mut world = agreed();
    for id in 2..8 {
        world.insert("hub", &id.to_string(), &[("must", "m")], Stamp::None);
    }
    world.settle();
    world.db("app").faults.cut_after = Some((2, Cut::FewerThanClaimed));
    world.allow.extend([GuardName::Incomplete, GuardName::Deletes, GuardName::Emptied]);
    let plan = world.plan();
    assert_eq!(plan.guards, []);
    assert_eq!(plan.totals().delete, 0);
}

#[test]
fn a_pass_that_another_controller_overtook_writes_nothing() {
    let mut world = agreed();
    world.edit("app", "1", "a", "a1", Stamp::None);
    let opened = world.open(true).expect("opens");
    let plan = world.observe(&opened);
    world.edit("app", "1", "b", "b1", Stamp::None);
    world.pass().expect("the other one's pass");
    let before = world.writes();
    let ended = world.carry_out(&opened, plan, false);
    assert!(matches!(&ended, Err(Died::Failed(why)) if why.contains("another controller")), "{ended:?}");
    assert_eq!(world.writes(), before);
}

#[test]
fn an_edit_that_meets_a_write_of_unknown_outcome_competes_with_it() {
    for kills in 0.. {
        let mut world = agreed();
        world.edit("app", "1", "a", "theirs", Stamp::None);
        world.lives = Some(kills);
        let ended = world.pass();
        world.lives = None;
        let seen = world.get("local", "1", "a") == "theirs";
        world.edit("local", "1", "a", "mine", Stamp::Raise);
        world.settle();
        // Its author had seen the other value, or both are still to be found.
        assert!(kept(&world).contains("mine"), "killed after {kills} effects: {}", kept(&world));
        assert!(seen || kept(&world).contains("theirs"), "killed after {kills} effects: {}", kept(&world));
        if ended != Err(Died::Killed) {
            return;
        }
    }
}

#[test]
fn a_store_does_not_compete_with_its_own_earlier_edit() {
    for kills in 0.. {
        let mut world = agreed();
        world.edit("app", "1", "a", "first", Stamp::None);
        world.lives = Some(kills);
        let ended = world.pass();
        world.lives = None;
        world.edit("app", "1", "a", "second", Stamp::None);
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["second"; 3], "killed after {kills} effects");
        assert_eq!(world.conflicts(), [], "killed after {kills} effects");
        if ended != Err(Died::Killed) {
            return;
        }
    }
}

#[test]
fn chunks_are_on_their_way_together_and_reach_every_store_in_their_order() {
    let mut together = 0;
    for order in 0..20 {
        let mut world = World::three();
        // In which order what is under way at once gets done.
        world.effects = order;
        for id in 10..30 {
            world.insert("app", &id.to_string(), &[("a", "new"), ("must", "m")], Stamp::None);
        }
        let report = world.pass().expect("a pass");
        assert!(report.is_clean(), "{:?}", report.failed);
        for at in ["hub", "app", "local"] {
            let sent = world.sent.iter().filter(|(to, lane)| *to == store(at) && *lane > 0);
            let lanes: Vec<usize> = sent.map(|(_, lane)| *lane).collect();
            assert!(lanes.len() >= 10 && lanes.is_sorted(), "{at}: {lanes:?}");
        }
        assert!((10..30).all(|id| world.everywhere(&id.to_string(), "a") == ["new"; 3]));
        together += world.together;
    }
    assert!(together > 100, "only {together} effects met another chunk's");
}

#[test]
fn a_stop_ends_after_what_is_in_flight_and_the_next_pass_does_the_rest() {
    let mut stopped = 0;
    for answers in 0..40 {
        let mut world = agreed();
        for id in 2..9 {
            world.insert("app", &id.to_string(), &[("a", "new"), ("must", "m")], Stamp::None);
        }
        world.stop_after = Some(answers);
        let report = world.pass().expect("a stop is no failure");
        world.stop_after = None;
        assert!(
            world.state.open_intents().is_empty(),
            "stopped after {answers}: what was in flight was waited for"
        );
        if report.stopped {
            stopped += 1;
            assert!(!report.is_clean(), "stopped after {answers}");
            assert_ne!(
                world.everywhere("8", "a"),
                ["new"; 3],
                "stopped after {answers}: the last chunk was left"
            );
        }
        world.settle();
        for id in 1..9 {
            assert_eq!(world.everywhere(&id.to_string(), "must"), ["m"; 3], "stopped after {answers}");
        }
        assert_eq!(world.conflicts(), [], "stopped after {answers}");
    }
    assert!(stopped > 5, "only {stopped} of the stops came in time");
}
