//! The promises, on random worlds: edits everywhere, races, kills after every effect, outages, lost answers, lost and stale states.
//!
//! Two phases: first anything goes wrong; then everything heals, and the world has to come to agree within a few passes and stay
//! so, with no edit lost. An edit is lost when it is neither in the canonical store, nor in `sync_conflicts`, nor in a tombstone, and was
//! not overwritten by somebody who had seen it.

mod world;

use proptest::prelude::*;
use trueup::model::{Cell, Value};
use trueup::store::memory::{Hook, MemoryRow};
use world::edits::{Edits, FIELDS, RECORDS, STORES, comes_to_agree, token};
use world::{Stamp, World, field, key};

#[derive(Debug, Clone)]
enum Op {
    Edit { at: usize, record: usize, field: usize, stamp: Stamp },
    Clear { at: usize, record: usize, field: usize },
    Insert { at: usize, record: usize, stamp: Stamp },
    Delete { at: usize, record: usize },
    Reach { at: usize, reachable: bool },
    Pass,
    Killed { after: usize },
    Race { at: usize, record: usize, field: usize },
    LoseAnswer { at: usize },
    FailBatch { at: usize },
    LoseState,
    KeepState,
    StaleState,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let at = || 0..STORES.len();
    let record = || 0..RECORDS.len();
    let of = || 0..FIELDS.len();
    let stamp = || prop_oneof![Just(Stamp::None), Just(Stamp::Clock), Just(Stamp::Raise)];
    let op = prop_oneof![
        8 => (at(), record(), of(), stamp()).prop_map(|(at, record, field, stamp)| Op::Edit { at, record, field, stamp }),
        1 => (at(), record(), of()).prop_map(|(at, record, field)| Op::Clear { at, record, field }),
        2 => (at(), record(), stamp()).prop_map(|(at, record, stamp)| Op::Insert { at, record, stamp }),
        2 => (at(), record()).prop_map(|(at, record)| Op::Delete { at, record }),
        2 => (1..STORES.len(), any::<bool>()).prop_map(|(at, reachable)| Op::Reach { at, reachable }),
        6 => Just(Op::Pass),
        4 => (0..24usize).prop_map(|after| Op::Killed { after }),
        2 => (at(), record(), of()).prop_map(|(at, record, field)| Op::Race { at, record, field }),
        1 => at().prop_map(|at| Op::LoseAnswer { at }),
        1 => at().prop_map(|at| Op::FailBatch { at }),
        1 => Just(Op::LoseState),
        1 => Just(Op::KeepState),
        1 => Just(Op::StaleState),
    ];
    prop::collection::vec(op, 1..18)
}

fn perform(
    world: &mut World,
    edits: &mut Edits,
    op: &Op,
    saved: &mut Option<trueup::state::memory::MemoryStateData>,
) {
    match op.clone() {
        Op::Edit { at, record, field, stamp } => {
            let (at, record, field) = (STORES[at], RECORDS[record], FIELDS[field]);
            if world.get(at, record, field) != "-" {
                let token = edits.next(token(world, at, record, field));
                world.edit(at, record, field, &token, stamp);
            }
        }
        Op::Clear { at, record, field } => {
            let (at, record, field) = (STORES[at], RECORDS[record], FIELDS[field]);
            edits.removed.extend(token(world, at, record, field));
            world.edit(at, record, field, "null", Stamp::None);
        }
        Op::Insert { at, record, stamp } => {
            let (at, record) = (STORES[at], RECORDS[record]);
            if world.get(at, record, "a") == "-" {
                let (a, b) = (edits.next(None), edits.next(None));
                world.insert(at, record, &[("a", &a), ("b", &b), ("must", "m")], stamp);
            }
        }
        Op::Delete { at, record } => {
            let (at, record) = (STORES[at], RECORDS[record]);
            edits.removed.extend(FIELDS.iter().filter_map(|field| token(world, at, record, field)));
            world.delete(at, record);
        }
        Op::Reach { at, reachable } => world.reach(STORES[at], reachable),
        Op::Pass => {
            world.tick();
            let _ = world.pass();
        }
        Op::Killed { after } => {
            world.tick();
            world.lives = Some(after);
            let _ = world.pass();
            world.lives = None;
        }
        Op::Race { at, record, field } => race(world, edits, STORES[at], RECORDS[record], FIELDS[field]),
        Op::LoseAnswer { at } => world.db(STORES[at]).faults.lose_answers = 1,
        Op::FailBatch { at } => world.db(STORES[at]).faults.fail_batches = 1,
        Op::LoseState => world.lose_state(),
        Op::KeepState => *saved = Some(world.state.clone()),
        Op::StaleState => {
            if let Some(state) = saved.clone() {
                world.state = state;
            }
        }
    }
}

/// Somebody edits a field just before the next batch reaches its store.
fn race(world: &mut World, edits: &mut Edits, at: &str, record: &str, name: &str) {
    edits.made += 1;
    let token = format!("e{:03}", edits.made);
    let races = edits.races.clone();
    let mapped = world.mapped("things", at);
    let (record, name) = (key(record), field(name));
    world.db(at).faults.before_batch = Some(Hook::new(move |db| {
        db.edit(&mapped, &record, |row: &mut MemoryRow| {
            let replaced = row.fields.insert(name.clone(), Cell::Value(Value::text(token.as_str())));
            let seen =
                replaced.as_ref().and_then(Cell::value).and_then(Value::as_text).map(ToOwned::to_owned);
            races.lock().expect("no panic").push((token.clone(), seen.filter(|text| text.starts_with('e'))));
        });
    }));
}

/// Runs a world; the description of what went wrong, if anything did.
fn live(ops: &[Op]) -> Result<(), String> {
    lived(ops).map(drop)
}

/// A world that came to agree.
fn lived(ops: &[Op]) -> Result<World, String> {
    let mut world = World::three();
    let mut edits = Edits::default();
    let mut saved = None;
    for op in ops {
        perform(&mut world, &mut edits, op, &mut saved);
    }
    for at in STORES {
        world.db(at).faults.before_batch = None;
    }
    edits.replaced.extend(edits.races.lock().expect("no panic").drain(..));
    comes_to_agree(&mut world, &edits)?;
    Ok(world)
}

/// How many worlds: `PROPTEST_CASES` where it is set.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(2000)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_and_all_come_to_agree(ops in ops()) {
        prop_assert_eq!(live(&ops), Ok(()));
    }
}

/// A pass that made a record elsewhere dies, and then the record is deleted where it came from: it is known to have been there.
#[test]
fn a_record_that_is_deleted_after_a_kill_goes_everywhere() {
    for after in 0..24 {
        for (at, store) in STORES.iter().enumerate() {
            let ops = [
                Op::Insert { at, record: 0, stamp: Stamp::None },
                Op::Killed { after },
                Op::Delete { at, record: 0 },
            ];
            let told = format!("inserted and deleted in {store}, killed after {after}");
            let world = lived(&ops).unwrap_or_else(|wrong| panic!("{told}: {wrong}"));
            assert_eq!(world.everywhere(RECORDS[0], "a"), ["-"; 3], "{told}");
        }
    }
}

/// Two stores made one record, and the pass that met both dies; then what one of them says becomes what the other held before. A value that
/// lost does not pass for it.
#[test]
fn a_value_that_lost_before_a_kill_does_not_stay_when_the_old_one_comes_back() {
    for after in 0..24 {
        for (at, store) in STORES.iter().enumerate() {
            let ops = [
                Op::Insert { at, record: 0, stamp: Stamp::None },
                Op::Insert { at: (at + 1) % STORES.len(), record: 0, stamp: Stamp::None },
                Op::Killed { after },
                Op::Clear { at, record: 0, field: 0 },
            ];
            assert_eq!(live(&ops), Ok(()), "cleared in {store}, killed after {after}");
        }
    }
}

/// An answer is lost, and the row that was made is edited before anybody asks what became of it. The value that wins is the one that was there
/// before, and the store that lost could not be written at once.
#[test]
fn a_row_whose_making_was_not_answered_is_edited_meanwhile() {
    let ops = [
        Op::LoseAnswer { at: 2 },
        Op::Insert { at: 0, record: 1, stamp: Stamp::None },
        Op::Pass,
        Op::Race { at: 1, record: 1, field: 1 },
        Op::Edit { at: 1, record: 1, field: 0, stamp: Stamp::Clock },
        Op::Edit { at: 2, record: 1, field: 1, stamp: Stamp::Raise },
        Op::Pass,
    ];
    assert_eq!(live(&ops), Ok(()));
}
