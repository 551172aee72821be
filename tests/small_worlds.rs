//! All of a small world's histories, and a kill after every single effect.

mod world;

use std::fmt::Write as _;

use world::edits::{Edits, FIELDS, RECORDS, STORES, comes_to_agree, token};
use world::{Died, Stamp, World};

/// What can happen to a record in a store between two passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Nothing,
    EditA,
    EditB,
    RaiseA,
    Delete,
}

impl Deed {
    fn perform(self, world: &mut World, edits: &mut Edits, at: &str, record: &str) {
        let (name, stamp) = match self {
            Self::Nothing => return,
            Self::EditA => ("a", Stamp::None),
            Self::EditB => ("b", Stamp::Clock),
            Self::RaiseA => ("a", Stamp::Raise),
            Self::Delete => {
                edits.removed.extend(FIELDS.iter().filter_map(|field| token(world, at, record, field)));
                world.delete(at, record);
                return;
            }
        };
        let text = edits.next(token(world, at, record, name));
        world.edit(at, record, name, &text, stamp);
    }
}

/// Both records known everywhere, everything agreed.
fn agreed() -> (World, Edits) {
    let mut world = World::three();
    let mut edits = Edits::default();
    for record in RECORDS {
        let (a, b) = (edits.next(None), edits.next(None));
        world.insert("hub", record, &[("a", &a), ("b", &b), ("must", "m")], Stamp::Raise);
    }
    world.settle();
    (world, edits)
}

/// Every choice of one of `deeds` for each of the three stores.
fn histories(deeds: &[Deed]) -> Vec<[Deed; 3]> {
    let each = || deeds.iter().copied();
    each()
        .flat_map(|hub| each().flat_map(move |app| deeds.iter().map(move |local| [hub, app, *local])))
        .collect()
}

fn happen(world: &mut World, edits: &mut Edits, record: &str, deeds: [Deed; 3]) {
    for (at, deed) in STORES.iter().zip(deeds) {
        deed.perform(world, edits, at, record);
    }
}

#[test]
fn every_small_world_comes_to_agree_and_loses_nothing() {
    let all = histories(&[Deed::Nothing, Deed::EditA, Deed::EditB, Deed::RaiseA, Deed::Delete]);
    let few = histories(&[Deed::Nothing, Deed::EditA, Deed::Delete]);
    let (agreed, edits_so_far) = agreed();
    for first in &all {
        for second in &few {
            let mut world = agreed.clone();
            let mut edits = edits_so_far.clone();
            happen(&mut world, &mut edits, "1", *first);
            happen(&mut world, &mut edits, "2", *second);
            if let Err(wrong) = comes_to_agree(&mut world, &edits) {
                panic!("record 1 {first:?}, record 2 {second:?}: {wrong}");
            }
        }
    }
}

/// What the stores hold in the end, apart from times and numbers of passes.
fn picture(world: &World) -> String {
    let mut picture = String::new();
    for record in RECORDS {
        for field in FIELDS {
            let _ = writeln!(picture, "{record}.{field} = {:?}", world.everywhere(record, field));
        }
    }
    let mut conflicts: Vec<String> = world
        .conflicts()
        .iter()
        .map(|conflict| {
            let sides: Vec<_> = conflict.sides.iter().map(|side| (&side.store, &side.values)).collect();
            format!(
                "{} {:?} {} {} {sides:?}\n",
                conflict.record,
                conflict.fields,
                conflict.reason.as_str(),
                conflict.status.as_str()
            )
        })
        .collect();
    conflicts.sort();
    conflicts.dedup();
    picture + &conflicts.concat()
}

#[test]
fn a_kill_after_any_effect_changes_nothing_in_the_end() {
    use Deed::{Delete, EditA, EditB, Nothing, RaiseA};
    let stories = [
        ([EditA, Nothing, Nothing], [Nothing, EditB, Nothing]),
        ([Nothing, EditA, EditB], [Nothing, Nothing, RaiseA]),
        ([Nothing, EditA, EditA], [Nothing, RaiseA, EditA]),
        ([Nothing, Delete, Nothing], [Delete, Nothing, Nothing]),
        ([Nothing, Delete, EditA], [Delete, EditB, Nothing]),
        ([RaiseA, EditA, Delete], [EditA, EditB, RaiseA]),
    ];
    for (first, second) in stories {
        let (agreed, mut edits) = agreed();
        let mut changed = agreed;
        happen(&mut changed, &mut edits, "1", first);
        happen(&mut changed, &mut edits, "2", second);
        let mut unharmed = changed.clone();
        comes_to_agree(&mut unharmed, &edits).expect("without a kill");
        let expected = picture(&unharmed);
        let mut kills = 0;
        loop {
            let mut world = changed.clone();
            world.lives = Some(kills);
            world.tick();
            let ended = world.pass();
            world.lives = None;
            if let Err(wrong) = comes_to_agree(&mut world, &edits) {
                panic!("{first:?} {second:?} killed after {kills} effects: {wrong}");
            }
            assert_eq!(picture(&world), expected, "{first:?} {second:?} killed after {kills} effects");
            if ended != Err(Died::Killed) {
                break;
            }
            kills += 1;
        }
        assert!(kills > 5, "{first:?} {second:?}: only {kills} effects");
    }
}
