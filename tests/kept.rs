//! What is on record, and what is kept in mind, across kills, chains of any length and years of settled conflicts.

mod world;

use trueup::plan::GuardName;
use trueup::reconcile::Ledger;
use world::{Died, Stamp, THREE_STORES, World};

#[test]
fn deletes_before_a_kill_are_in_the_account_of_the_day() {
    for kills in 0.. {
        let mut world = World::three();
        for id in 0..20 {
            world.insert("hub", &id.to_string(), &[("must", "m")], Stamp::None);
        }
        world.settle();
        for id in ["0", "1"] {
            world.delete("hub", id);
        }
        world.lives = Some(kills);
        let died = matches!(world.pass(), Err(Died::Killed));
        world.lives = None;
        world.settle();
        for id in ["2", "3"] {
            world.delete("hub", id);
        }
        let plan = world.plan();
        for at in ["app", "local"] {
            let trip = plan.guards.iter().find(|trip| trip.store.as_str() == at);
            let trip = trip.unwrap_or_else(|| panic!("killed after {kills} effects: none in {at}"));
            let told =
                trip.message.contains("4 of 20") && trip.message.contains("2 of them within the last day");
            assert!(told, "killed after {kills} effects: {trip}");
        }
        if !died {
            return;
        }
    }
}

#[test]
fn the_head_of_a_long_chain_takes_all_of_it_along() {
    let fields = "    a: string\n    parent: {type: string, references: things, on_delete: cascade}\n";
    let mut world = World::new(&THREE_STORES.replacen("    a: string\n", fields, 1));
    // As deep as a thread or a list may be; a call of a function for each would need more stack than there is.
    let (count, stack) = (3_000, 512 << 10);
    for id in 0..count {
        let parent = if id == 0 { "null".to_owned() } else { (id - 1).to_string() };
        world.insert("hub", &id.to_string(), &[("must", "m"), ("parent", &parent)], Stamp::None);
    }
    world.settle();
    world.delete("hub", "0");
    world.allow.insert(GuardName::Deletes);
    let planning =
        std::thread::Builder::new().stack_size(stack).spawn(move || world.plan()).expect("a thread");
    let plan = planning.join().expect("a plan");
    let going = plan.actions().filter(|action| action.store.as_str() == "hub").count();
    assert_eq!(going, count - 1);
}

#[test]
fn a_pass_asks_for_no_conflict_that_ended_and_for_no_row_that_went() {
    let ledger = Ledger::new(&world::store("hub"));
    let columns = |excerpt: &trueup::reconcile::Excerpt| -> Vec<String> {
        excerpt.mapped.mapping.fields.values().map(|place| place.column.to_string()).collect()
    };
    let open = ledger.open_conflicts();
    assert_eq!(columns(&open), ["status", "detail"]);
    assert_eq!(open.except.map(|except| except.words), Some(&["resolved", "withdrawn"][..]));
    assert!(!columns(&ledger.deletes()).contains(&"records".to_owned()));
    for settled in ledger.settled() {
        assert_eq!(columns(&settled).len(), 2, "a word and a time");
        assert!(settled.except.is_some());
    }
}
