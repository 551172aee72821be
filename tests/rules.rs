//! What happens to a record, rule by rule.

mod world;

use world::{Stamp, THREE_STORES, World};

/// A world in which one record is known to all three stores, and everything agrees.
fn agreed() -> World {
    let mut world = World::three();
    world.insert(
        "hub",
        "1",
        &[("a", "a0"), ("b", "b0"), ("must", "m"), ("doc", r#"{"p":1,"q":1}"#)],
        Stamp::Raise,
    );
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a0"; 3]);
    world
}

#[test]
fn a_record_of_the_canonical_store_reaches_all() {
    let mut world = agreed();
    assert_eq!(world.everywhere("1", "b"), ["b0"; 3]);
    assert_eq!(world.version("app", "1"), Some(1), "nothing changed, so the version stays");
    assert_eq!(world.settle(), 0, "a second look writes nothing");
}

#[test]
fn one_edit_anywhere_reaches_everywhere() {
    for at in ["hub", "app", "local"] {
        for stamp in [Stamp::None, Stamp::Clock, Stamp::Raise] {
            let mut world = agreed();
            world.edit(at, "1", "a", "a1", stamp);
            assert_eq!(world.settle(), 1, "{at} {stamp:?}");
            assert_eq!(world.everywhere("1", "a"), ["a1"; 3], "{at} {stamp:?}");
            let version = world.version("hub", "1");
            assert!(version >= Some(2), "{at} {stamp:?}: {version:?}");
            assert_eq!(world.version("app", "1"), version);
            assert_eq!(world.version("local", "1"), version);
            assert_eq!(world.conflicts(), []);
        }
    }
}

#[test]
fn a_canonical_edit_that_raised_the_version_is_not_raised_again() {
    let mut world = agreed();
    world.edit("hub", "1", "a", "a1", Stamp::Raise);
    world.settle();
    assert_eq!(world.version("hub", "1"), Some(2));
    assert_eq!(world.version("local", "1"), Some(2));
}

#[test]
fn different_fields_of_two_stores_both_survive() {
    let mut world = agreed();
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.edit("local", "1", "b", "b1", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3]);
    assert_eq!(world.everywhere("1", "b"), ["b1"; 3]);
    assert_eq!(world.conflicts(), []);
}

#[test]
fn the_same_value_in_two_stores_is_no_conflict() {
    let mut world = agreed();
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.edit("local", "1", "a", "a1", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3]);
    assert_eq!(world.conflicts(), []);
}

#[test]
fn a_clear_is_an_edit() {
    let mut world = agreed();
    world.edit("app", "1", "a", "null", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["null"; 3]);
}

#[test]
fn the_higher_version_wins_and_the_loser_is_kept_whole() {
    let mut world = agreed();
    world.edit("app", "1", "a", "low", Stamp::RaiseBy(1, 9000));
    world.edit("local", "1", "a", "high", Stamp::RaiseBy(2, 100));
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["high"; 3]);
    let conflicts = world.conflicts();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].reason.as_str(), "higher_version");
    assert_eq!(conflicts[0].winner, Some(world::store("local")));
    let loser = conflicts[0].side(&world::store("app")).expect("a side");
    assert!(format!("{:?}", loser.record).contains("b0"), "the whole record is kept");
    assert_eq!(loser.values[&world::field("a")], world::text("low"));
    assert_eq!(world.version("hub", "1"), Some(4), "the highest seen and one");
}

#[test]
fn the_later_time_wins_at_the_same_version() {
    let mut world = agreed();
    world.edit("app", "1", "a", "early", Stamp::Clock);
    world.edit("local", "1", "a", "late", Stamp::Clock);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["late"; 3]);
    assert_eq!(world.conflicts()[0].reason.as_str(), "later_timestamp");
}

#[test]
fn what_nothing_decides_is_held_everywhere_until_a_person_does() {
    let mut world = agreed();
    world.edit("app", "1", "a", "left", Stamp::None);
    world.edit("local", "1", "a", "right", Stamp::None);
    world.edit("local", "1", "b", "b1", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a0", "left", "right"]);
    assert_eq!(world.everywhere("1", "b"), ["b1"; 3], "other fields go out");
    assert_eq!(world.status("1"), "conflict");
    let open = world.open_conflicts();
    assert_eq!(open.len(), 1);
    assert_eq!(world.settle(), 0, "a held record is not written again");

    world.decide(&open[0], "app");
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["left"; 3]);
    assert_eq!(world.status("1"), "synced");
    assert_eq!(world.open_conflicts(), []);
    assert_eq!(world.conflicts()[0].resolved_by.as_deref(), Some("person"));
}

#[test]
fn a_held_side_that_goes_back_withdraws() {
    let mut world = agreed();
    world.edit("app", "1", "a", "left", Stamp::None);
    world.edit("local", "1", "a", "right", Stamp::None);
    world.settle();
    world.edit("app", "1", "a", "a0", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["right"; 3]);
    assert_eq!(world.open_conflicts(), []);
    assert_eq!(world.conflicts().len(), 1);
}

#[test]
fn an_edit_unseen_by_a_store_that_was_away_competes() {
    let mut world = agreed();
    world.reach("local", false);
    world.edit("app", "1", "a", "a1", Stamp::Clock);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1", "a1", "a0"]);
    assert_eq!(world.status("1"), "pending");
    world.edit("local", "1", "a", "elsewhere", Stamp::None);
    world.reach("local", true);
    world.settle();
    assert_eq!(
        world.everywhere("1", "a"),
        ["a1", "a1", "elsewhere"],
        "neither had seen the other, no time decides"
    );
    assert_eq!(world.open_conflicts().len(), 1);
}

#[test]
fn a_store_that_was_away_catches_up_and_its_old_value_is_no_edit() {
    let mut world = agreed();
    world.reach("local", false);
    for value in ["a1", "a2", "a3"] {
        world.edit("app", "1", "a", value, Stamp::None);
        world.settle();
    }
    world.reach("local", true);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a3"; 3]);
    assert_eq!(world.conflicts(), []);
    assert_eq!(world.status("1"), "synced");
}

#[test]
fn a_value_that_came_back_to_the_old_one_is_not_taken_for_seen() {
    let mut world = agreed();
    world.reach("local", false);
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.settle();
    world.edit("app", "1", "a", "a0", Stamp::None);
    world.settle();
    world.edit("local", "1", "a", "mine", Stamp::None);
    world.reach("local", true);
    world.settle();
    assert_eq!(world.conflicts().len(), 1, "local had seen a0 of version 1, not a0 of version 3");
}

#[test]
fn groups_resolve_as_one() {
    let mut world = agreed();
    world.edit("hub", "1", "kind", "x", Stamp::None);
    world.edit("hub", "1", "code", "x1", Stamp::None);
    world.settle();
    world.edit("app", "1", "kind", "y", Stamp::RaiseBy(1, 100));
    world.edit("app", "1", "code", "y7", Stamp::RaiseBy(0, 100));
    world.edit("local", "1", "code", "x2", Stamp::RaiseBy(3, 100));
    world.settle();
    assert_eq!(world.everywhere("1", "kind"), ["x"; 3]);
    assert_eq!(world.everywhere("1", "code"), ["x2"; 3]);
    assert_eq!(world.conflicts().len(), 1, "y7 is on record");
}

#[test]
fn inside_json_only_what_changed_carries_over() {
    let mut world = agreed();
    world.edit("app", "1", "doc", r#"{"p":2,"q":1}"#, Stamp::None);
    world.edit("local", "1", "doc", r#"{"p":1,"q":1,"r":[1]}"#, Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "doc"), [r#"{"p":2,"q":1,"r":[1]}"#; 3]);
    world.edit("app", "1", "doc", r#"{"p":3,"q":1,"r":[1]}"#, Stamp::None);
    world.edit("local", "1", "doc", r#"{"p":4,"q":1,"r":[1]}"#, Stamp::None);
    world.settle();
    assert_eq!(world.open_conflicts().len(), 1, "both changed p");
}

#[test]
fn first_meeting_fills_nulls_adopts_equals_and_settles_differences() {
    let mut world = World::three();
    world.insert("hub", "1", &[("a", "same"), ("must", "m"), ("doc", r#"{"x":1}"#)], Stamp::None);
    world.insert("app", "1", &[("a", "same"), ("b", "filled"), ("must", "other")], Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "b"), ["filled"; 3]);
    assert_eq!(world.everywhere("1", "must"), ["m"; 3], "neither carries metadata: the canonical one");
    assert_eq!(world.get("app", "1", "doc"), r#"{"x":1}"#);
    let conflicts = world.conflicts();
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].reason.as_str(), "first_meeting");
}

#[test]
fn at_a_first_meeting_the_record_with_metadata_wins() {
    let mut world = World::three();
    world.insert("hub", "1", &[("must", "bare")], Stamp::None);
    world.insert("app", "1", &[("must", "versioned")], Stamp::Raise);
    world.settle();
    assert_eq!(world.everywhere("1", "must"), ["versioned"; 3]);
}

#[test]
fn a_record_new_in_a_replica_enters_the_canonical_store_first() {
    let mut world = World::three();
    world.insert("local", "9", &[("a", "new"), ("must", "m")], Stamp::None);
    let plan = world.plan();
    assert_eq!(plan.records.get(0).unwrap().actions[0].store, world::store("hub"));
    world.settle();
    assert_eq!(world.everywhere("9", "a"), ["new"; 3]);
    assert_eq!(world.version("hub", "9"), Some(1));
}

#[test]
fn a_change_that_breaks_a_rule_stays_where_it_is_and_the_rest_merges() {
    let mut world = agreed();
    world.edit("app", "1", "must", "null", Stamp::None);
    world.edit("app", "1", "b", "b1", Stamp::None);
    world.edit("local", "1", "kind", "z", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "must"), ["m", "null", "m"]);
    assert_eq!(world.everywhere("1", "b"), ["b1"; 3]);
    assert_eq!(world.everywhere("1", "kind"), ["null", "null", "z"]);
    let plan = world.plan();
    assert_eq!(plan.notices.len(), 2, "{:#?}", plan.notices);
    assert!(plan.notices.iter().any(|notice| notice.message.contains("required")));
    assert_eq!(world.settle(), 0);

    world.edit("app", "1", "must", "corrected", Stamp::None);
    world.edit("local", "1", "kind", "y", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "must"), ["corrected"; 3]);
    assert_eq!(world.everywhere("1", "kind"), ["y"; 3]);
    assert_eq!(world.status("1"), "synced");
}

#[test]
fn what_was_already_invalid_blocks_nothing() {
    let mut world = World::three();
    world.insert("hub", "1", &[("a", "a0"), ("kind", "odd")], Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "kind"), ["odd"; 3]);
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3]);
}

#[test]
fn a_new_record_that_breaks_a_rule_is_refused_whole() {
    let mut world = World::three();
    world.insert("app", "1", &[("a", "no must")], Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["-", "no must", "-"]);
    assert!(world.plan().notices.iter().any(|notice| notice.message.contains("required")));
    world.edit("app", "1", "must", "now", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["no must"; 3]);
}

#[test]
fn a_delete_goes_everywhere_and_leaves_a_tombstone() {
    for at in ["hub", "app", "local"] {
        let mut world = agreed();
        world.delete(at, "1");
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["-"; 3], "deleted in {at}");
        assert!(world.tombstones().contains("b0"), "deleted in {at}: {}", world.tombstones());
        assert_eq!(world.settle(), 0);
    }
}

#[test]
fn a_change_wins_over_a_delete() {
    for (deleted, edited) in [("app", "local"), ("hub", "app"), ("app", "hub")] {
        let mut world = agreed();
        world.delete(deleted, "1");
        world.edit(edited, "1", "a", "kept", Stamp::None);
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["kept"; 3], "deleted in {deleted}, edited in {edited}");
        assert_eq!(world.everywhere("1", "b"), ["b0"; 3]);
        assert_eq!(world.conflicts()[0].reason.as_str(), "change_over_delete");
    }
}

#[test]
fn a_store_that_was_away_during_a_delete_has_it_pending() {
    let mut world = agreed();
    world.reach("local", false);
    world.delete("app", "1");
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["-", "-", "a0"]);
    let whole = |world: &World, at: &str| world.tombstones().contains(&format!("\"{at}\":{{\"a\":\"a0\""));
    assert!(whole(&world, "hub"), "{}", world.tombstones());
    world.reach("local", true);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["-"; 3], "not a new record");
    assert!(whole(&world, "hub") && whole(&world, "local"), "every row is kept: {}", world.tombstones());
}

#[test]
fn a_change_in_a_store_that_was_away_revives_a_deleted_record() {
    let mut world = agreed();
    world.reach("local", false);
    world.delete("app", "1");
    world.settle();
    world.edit("local", "1", "a", "revived", Stamp::None);
    world.reach("local", true);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["revived"; 3]);
    assert!(world.version("hub", "1") > Some(1));
}

#[test]
fn a_pending_delete_survives_the_loss_of_the_state() {
    let mut world = agreed();
    world.reach("local", false);
    world.delete("app", "1");
    world.settle();
    world.lose_state();
    world.reach("local", true);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["-"; 3]);
}

#[test]
fn a_canonical_change_that_the_deleting_store_had_not_received_wins() {
    let mut world = agreed();
    world.reach("local", false);
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.settle();
    world.delete("local", "1");
    world.reach("local", true);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3]);
}

#[test]
fn an_older_copy_of_a_row_is_no_edit() {
    let mut world = agreed();
    let backup = world.db("local").clone();
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.settle();
    *world.db("local") = backup;
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1", "a1", "a0"], "held there");
    let plan = world.plan();
    assert!(plan.notices.iter().any(|notice| notice.message.contains("--allow regressed")));
    world.allow.insert(trueup::plan::GuardName::Regressed);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3]);
    assert_eq!(world.conflicts()[0].reason.as_str(), "brought_forward");
}

#[test]
fn several_older_rows_stop_the_entity_and_their_absences_are_no_deletes() {
    let mut world = agreed();
    world.insert("hub", "2", &[("a", "a0"), ("must", "m")], Stamp::Raise);
    world.settle();
    let backup = world.db("local").clone();
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.edit("app", "2", "a", "a1", Stamp::None);
    world.insert("app", "3", &[("must", "m")], Stamp::None);
    world.settle();
    assert_eq!(world.get("local", "3", "must"), "m");
    *world.db("local") = backup;
    let plan = world.plan();
    assert!(plan.guards.iter().any(|trip| trip.guard.as_str() == "regressed"), "{:?}", plan.guards);
    assert!(!plan.has_actions());
    world.allow.insert(trueup::plan::GuardName::Regressed);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3]);
    assert_eq!(world.everywhere("3", "must")[..2], ["m", "m"]);
}

#[test]
fn a_canonical_store_that_went_back_stops_everything() {
    let mut world = agreed();
    let backup = world.db("hub").clone();
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.settle();
    *world.db("hub") = backup;
    let died = world.pass();
    assert!(matches!(&died, Err(world::Died::Failed(message)) if message.contains("went back")), "{died:?}");
    // The other repair: the state is moved away, and everything meets for the first time.
    world.lose_state();
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3], "the replicas' higher version wins");
}

#[test]
fn a_stale_state_is_rebuilt() {
    let mut world = agreed();
    let copy = world.state.clone();
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.settle();
    world.state = copy;
    assert!(world.open(false).expect("opens").rebuild);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3]);
    assert_eq!(world.settle(), 0);
}

#[test]
fn a_column_that_is_gone_makes_its_field_unknown_and_comes_back_to_be_filled() {
    for at in ["local", "hub"] {
        let mut world = agreed();
        let mapped = world.mapped("things", at);
        world.db(at).table_mut(&mapped).expect("a table").drop_column(&world::field("a"));
        let before = world.writes();
        world.settle();
        assert_eq!(world.get("app", "1", "a"), "a0", "gone in {at}");
        assert_eq!(world.writes(), before + 1, "gone in {at}: only the pass's number is written");
        assert_ne!(world.status("1"), "conflict", "gone in {at}");
        world.edit("app", "1", "b", "b1", Stamp::None);
        world.settle();
        assert_eq!(world.everywhere("1", "b"), ["b1"; 3], "other fields go on, gone in {at}");

        world.db(at).table_mut(&mapped).expect("a table").columns.insert(world::field("a"));
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["a0"; 3], "an empty new column is no clear, back in {at}");
    }
}

#[test]
fn a_saved_plan_skips_what_moved_and_does_the_rest() {
    let mut world = agreed();
    world.insert("hub", "2", &[("a", "a0"), ("must", "m")], Stamp::None);
    world.settle();
    world.edit("app", "1", "a", "planned", Stamp::None);
    world.edit("app", "2", "a", "planned", Stamp::None);
    let plan = world.plan();
    world.edit("local", "1", "a", "somebody else", Stamp::None);
    let report = world.apply(plan).expect("applies");
    assert!(report.skipped.iter().all(|skipped| skipped.record.to_string() == r#"things["1"]"#));
    assert!(!report.skipped.is_empty());
    assert_eq!(world.everywhere("2", "a"), ["planned"; 3]);
    assert_eq!(world.everywhere("1", "a"), ["a0", "planned", "somebody else"]);
}

#[test]
fn an_emptied_table_or_a_short_snapshot_deletes_nothing() {
    use trueup::store::memory::Cut;
    for name in ["emptied", "incomplete"] {
        let mut world = agreed();
        for id in 2..20 {
            world.insert("hub", &id.to_string(), &[("must", "m")], Stamp::None);
        }
        world.settle();
        if name == "emptied" {
            for id in 1..20 {
                world.delete("app", &id.to_string());
            }
        } else {
            world.db("app").faults.cut_after = Some((5, Cut::NoEnd));
        }
        let plan = world.plan();
        assert!(!plan.has_actions(), "{name}");
        assert!(plan.guards.iter().any(|trip| trip.guard.as_str() == name), "{name}: {:?}", plan.guards);
        assert!(plan.guards[0].to_string().contains("--allow"), "the flag is named");
    }
}

#[test]
fn deletes_that_drip_over_a_day_trip_the_guard_together() {
    let mut world = World::three();
    for id in 0..40 {
        world.insert("hub", &id.to_string(), &[("must", "m")], Stamp::None);
    }
    world.settle();
    for id in 0..4 {
        world.delete("app", &id.to_string());
        world.settle();
    }
    world.delete("app", "4");
    let plan = world.plan();
    assert!(
        plan.guards.iter().any(|trip| trip.guard.as_str() == "deletes"),
        "the fifth of forty: {:?}",
        plan.guards
    );
    assert!(plan.guards[0].message.contains("within the last day"));
    world.now += 25 * 3600 * 1_000_000;
    assert_eq!(world.plan().guards, [], "a day later");
    world.settle();
    assert_eq!(world.get("hub", "4", "must"), "-");
}

#[test]
fn a_row_without_a_usable_key_stops_nothing_but_makes_absences_unknown() {
    let mut world = agreed();
    world.insert("hub", "2", &[("a", "a0"), ("must", "m")], Stamp::None);
    world.settle();
    world.db("local").faults.bad_keys = 1;
    world.delete("local", "2");
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3], "the others go on");
    assert_eq!(world.everywhere("2", "a"), ["a0", "a0", "-"], "its row may be the one without a key");
    let plan = world.plan();
    assert_eq!(plan.guards, []);
    assert!(plan.notices.iter().any(|notice| notice.kind.as_str() == "bad_key"));
    world.db("local").faults.bad_keys = 0;
    world.settle();
    assert_eq!(world.everywhere("2", "a"), ["-"; 3]);
}

#[test]
fn the_time_of_our_own_write_is_no_evidence() {
    let mut world = World::three();
    world.insert("hub", "1", &[("a", "a0"), ("must", "m")], Stamp::None);
    world.settle();
    world.reach("local", false);
    world.edit("local", "1", "a", "mine", Stamp::Clock);
    world.edit("app", "1", "a", "theirs", Stamp::None);
    world.settle();
    world.reach("local", true);
    world.settle();
    assert_eq!(
        world.open_conflicts().len(),
        1,
        "nobody knows when app was edited; that the hub was written later says nothing"
    );
    assert_eq!(world.everywhere("1", "a"), ["theirs", "theirs", "mine"]);
}

#[test]
fn a_store_that_left_the_manifests_and_came_back_catches_up_and_its_own_edits_count() {
    let without = {
        let mapping = "    local: {table: things, fields: {\"*\": same}, sync: {columns: same}}\n";
        let store = "apiVersion: trueup/v1\nkind: Store\nmetadata: {name: local}\nspec: {memory: {}}\n---\n";
        assert!(world::THREE_STORES.contains(mapping) && world::THREE_STORES.contains(store));
        world::THREE_STORES.replace(mapping, "").replace(store, "")
    };
    let mut world = agreed();
    world.spec = world::spec(&without);
    world.edit("app", "1", "a", "a1", Stamp::None);
    world.settle();
    world.spec = world::spec(world::THREE_STORES);
    world.edit("local", "1", "b", "b1", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["a1"; 3], "its old value is no edit");
    assert_eq!(world.everywhere("1", "b"), ["b1"; 3], "its edit is one");
    assert_eq!(world.conflicts(), []);
}

#[test]
fn a_column_that_is_mapped_later_meets_for_the_first_time() {
    let without_b = world::THREE_STORES.replace(
        "local: {table: things, fields: {\"*\": same}",
        "local: {table: things, fields: {\"*\": same, b: none}",
    );
    let mut world = World::new(&without_b);
    world.insert("hub", "1", &[("b", "b0"), ("must", "m")], Stamp::Raise);
    world.insert("hub", "2", &[("b", "b0"), ("must", "m")], Stamp::Raise);
    world.settle();
    world.spec = world::spec(world::THREE_STORES);
    let mapped = world.mapped("things", "local");
    world.db("local").table_mut(&mapped).expect("a table").columns.insert(world::field("b"));
    world.edit("local", "2", "b", "other", Stamp::None);
    world.settle();
    assert_eq!(world.everywhere("1", "b"), ["b0"; 3], "a null is filled");
    assert_eq!(
        world.open_conflicts().len(),
        1,
        "two values of one version, and no time says more: {:?}",
        world.conflicts()
    );
    assert_eq!(world.everywhere("2", "b"), ["b0", "b0", "other"]);
}

#[test]
fn what_is_derived_follows_its_source_at_a_first_meeting_too() {
    let fields = "    a: string\n    low: {derive: email(a)}\n";
    for at in ["hub", "app"] {
        let mut world = World::new(&THREE_STORES.replacen("    a: string\n", fields, 1));
        world.insert("hub", "1", &[("a", "Old@one.example.com"), ("must", "m")], Stamp::Raise);
        world.settle();
        assert_eq!(world.everywhere("1", "low"), ["old@one.example.com"; 3]);
        world.edit(at, "1", "a", "New@two.example.com", Stamp::Raise);
        world.lose_state();
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["New@two.example.com"; 3], "{at}");
        assert_eq!(world.everywhere("1", "low"), ["new@two.example.com"; 3], "{at}");
        // What somebody set by hand along with its source stays.
        world.edit(at, "1", "a", "New@three.example.com", Stamp::Raise);
        world.edit(at, "1", "low", "desk@three.example.com", Stamp::None);
        world.lose_state();
        world.settle();
        assert_eq!(world.everywhere("1", "low"), ["desk@three.example.com"; 3], "{at}");
    }
}
