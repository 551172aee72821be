//! A mapping that is pointed elsewhere: at another table, file or key column, or at another place of the sync metadata. What was
//! verified in the old place says nothing of the new one: nothing was deleted there, and nothing went back.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;
mod world;

use std::sync::LazyLock;

use shell::Place;
use world::{Stamp, THREE_STORES, World, mapped, spec, store};

/// A world in which all three stores have these records.
fn with_records(yaml: &str, count: usize) -> World {
    let mut world = World::new(yaml);
    for at in 0..count {
        world.insert("hub", &format!("K{at:03}"), &[("a", "a0"), ("must", "m")], Stamp::Raise);
    }
    world.settle();
    world
}

/// Points the mappings elsewhere, and makes the tables that are missing there.
fn point(world: &mut World, yaml: &str) {
    world.spec = spec(yaml);
    let names: Vec<_> = world.stores.keys().cloned().collect();
    for name in names {
        let entities = world.spec.entities.clone();
        let tables: Vec<_> =
            entities.iter().filter_map(|entity| mapped(&world.spec, &entity.name, &name)).collect();
        let db = world.stores.remove(&name).expect("a store").with_tables(&tables);
        world.stores.insert(name, db);
    }
}

fn at_another_table(at: &str) -> String {
    THREE_STORES.replace(&format!("{at}: {{table: things,"), &format!("{at}: {{table: things_new,"))
}

#[test]
fn a_replica_pointed_at_another_table_loses_nothing_and_is_filled() {
    for (count, there) in [(5, 0), (5, 1), (100, 0), (100, 91)] {
        let mut world = with_records(THREE_STORES, count);
        point(&mut world, &at_another_table("local"));
        world.insert("local", "N9", &[("a", "new"), ("must", "m")], Stamp::None);
        for at in 0..there {
            world.insert("local", &format!("K{at:03}"), &[("a", "a0"), ("must", "m")], Stamp::None);
        }
        let plan = world.plan();
        assert!(plan.guards.is_empty(), "{count} {there}: {:?}", plan.guards);
        world.settle();
        for at in 0..count {
            assert_eq!(world.everywhere(&format!("K{at:03}"), "a"), ["a0"; 3], "{count} {there}");
        }
        assert_eq!(world.everywhere("N9", "a"), ["new"; 3]);
        assert_eq!(world.conflicts(), []);
    }
}

#[test]
fn an_empty_new_table_is_no_emptied_one() {
    let mut world = with_records(THREE_STORES, 20);
    point(&mut world, &at_another_table("local"));
    assert_eq!(world.plan().guards, []);
    world.settle();
    assert_eq!(world.everywhere("K007", "a"), ["a0"; 3]);
    // Emptied where it stands now, it is one.
    for at in 0..20 {
        world.delete("local", &format!("K{at:03}"));
    }
    let tripped: Vec<_> = world.plan().guards.iter().map(|trip| trip.guard).collect();
    assert!(tripped.contains(&trueup::plan::GuardName::Emptied), "{tripped:?}");
}

#[test]
fn the_canonical_store_pointed_at_another_table_is_filled_from_the_others() {
    let mut world = with_records(THREE_STORES, 12);
    world.edit("app", "K003", "a", "a1", Stamp::Clock);
    point(&mut world, &at_another_table("hub"));
    world.insert("hub", "K000", &[("a", "a0"), ("must", "m")], Stamp::None);
    world.insert("hub", "N9", &[("a", "new"), ("must", "m")], Stamp::None);
    assert_eq!(world.plan().guards, []);
    world.settle();
    assert_eq!(world.everywhere("K000", "a"), ["a0"; 3]);
    assert_eq!(world.everywhere("K003", "a"), ["a1"; 3], "a pending edit is one still");
    assert_eq!(world.everywhere("K011", "must"), ["m"; 3]);
    assert_eq!(world.everywhere("N9", "a"), ["new"; 3]);
}

#[test]
fn records_without_fields_are_not_deleted_either() {
    let bare = THREE_STORES
        .replace("fields: {\"*\": same}", "fields: {\"*\": same, doc: none}")
        .replace("    doc: json\n", "")
        .replace(", doc: none", "");
    let fields = bare.find("  fields:\n").expect("fields")..bare.find("  times:").expect("times");
    let bare = bare.replacen(&bare[fields], "  fields: {}\n", 1);
    let mut world = World::new(&bare);
    for id in ["1", "2", "3"] {
        world.insert("hub", id, &[], Stamp::Raise);
    }
    world.settle();
    let moved = bare.replace("local: {table: things,", "local: {table: things_new,");
    point(&mut world, &moved);
    world.insert("local", "4", &[], Stamp::None);
    world.settle();
    for at in ["hub", "app", "local"] {
        let things = world.mapped("things", at);
        assert_eq!(world.stores[&store(at)].table(&things).map(|table| table.rows.len()), Some(4), "{at}");
    }
}

#[test]
fn what_was_deleted_before_the_move_and_what_is_deleted_after_it_goes() {
    let mut world = with_records(THREE_STORES, 5);
    world.delete("app", "K001");
    point(&mut world, &at_another_table("local"));
    world.settle();
    assert_eq!(world.everywhere("K001", "a"), ["-"; 3], "the store that moved says nothing against it");
    world.delete("local", "K002");
    world.settle();
    assert_eq!(world.everywhere("K002", "a"), ["-"; 3]);
    assert_eq!(world.everywhere("K000", "a"), ["a0"; 3]);
}

#[test]
fn a_form_that_changed_is_no_other_place() {
    let mut world = with_records(THREE_STORES, 5);
    world.delete("local", "K001");
    let local = "local: {table: things, fields: {\"*\": same}";
    let other = local.replace("same}", "same, doc: {form: json-text}}");
    point(&mut world, &THREE_STORES.replace(local, &other));
    world.settle();
    assert_eq!(world.everywhere("K001", "a"), ["-"; 3], "a delete is one still");
}

static FILES: LazyLock<String> =
    LazyLock::new(|| shell::manifests(&["hub", "app"], "items", "name: string, qty: int64"));

/// Two files that hold these records, all of version 1.
fn files(count: usize) -> Place {
    let place = Place::with(&FILES);
    place.run(&["migrate", "-auto-approve"], 0);
    for at in 1..=count {
        place
            .sql("hub", &format!("insert into items (id, name, qty) values ('I{at:02}', 'name {at}', {at})"));
    }
    place.run(&["apply", "-auto-approve"], 0);
    place.sql("app", "update items set qty = qty + 100");
    place.run(&["apply", "-auto-approve", "-allow", "updates"], 0);
    assert_eq!(place.text("app", "select group_concat(distinct version) from items"), "1");
    place
}

fn names(place: &Place, at: &str) -> String {
    place.text(at, "select group_concat(name) from (select name from items order by id)")
}

#[test]
fn another_file_is_met_for_the_first_time() {
    let place = files(5);
    std::fs::copy(place.path().join("stores/app.db"), place.path().join("stores/app2.db"))
        .expect("a copy of the file");
    place.sql("app2", "delete from items where id in ('I03', 'I04', 'I05'); insert into items (id, name) values ('N9', 'new')");
    place.manifests(&FILES.replace("app.db", "app2.db"));
    place.run(&["run", "--once"], 0);
    for at in ["hub", "app2"] {
        assert_eq!(names(&place, at), "name 1,name 2,name 3,name 4,name 5,new", "{at}");
    }
}

#[test]
fn rows_under_another_key_column_delete_nothing() {
    let place = files(5);
    place.sql("app", "alter table items add column ext text; update items set ext = 'E' || substr(id, 2)");
    place.manifests(&FILES.replace("app: {table: items,", "app: {table: items, key: ext,"));
    // The table wants an id, which no mapping names any more: that much fails, and is told.
    place.run(&["run", "--once"], 1);
    assert_eq!(place.text("hub", "select cast(count(*) as text) from items where id like 'I%'"), "5");
}

#[test]
fn metadata_in_another_place_is_no_backup_that_was_put_back() {
    for (sync, meta) in [
        ("{json: meta}", "json_extract(meta, '$.version')"),
        ("{columns: {version: rev, last_updated: rev_at, last_updated_by: rev_by}}", "rev"),
    ] {
        for moved in ["app", "hub"] {
            let place = files(12);
            let from = format!("{moved}: {{table: items, fields: {{\"*\": same}}, sync: {{columns: same}}");
            let to = format!("{moved}: {{table: items, fields: {{\"*\": same}}, sync: {sync}");
            place.manifests(&FILES.replace(&from, &to));
            place.run(&["migrate", "-auto-approve"], 0);
            place.sql("app", "update items set name = 'pending' where id = 'I01'");
            let page = place.run(&["apply", "-auto-approve"], 0);
            assert!(!page.contains("regressed"), "{sync} {moved}: {page}");
            assert_eq!(place.text("hub", "select name from items where id = 'I01'"), "pending", "{page}");
            assert_eq!(place.text("app", "select name from items where id = 'I01'"), "pending", "{page}");
            let versions = place.text(moved, &format!("select group_concat(distinct {meta}) from items"));
            assert_eq!(versions, "2,1", "{sync} {moved}: the versions go on");
            let page = place.run(&["plan", "-detailed-exitcode"], 0);
            assert!(page.starts_with("No changes."), "{page}");
            // From now on an older version is a backup again.
            place.sql(
                moved,
                &format!(
                    "update items set {}",
                    if sync.contains("json") { "meta = null" } else { "rev = null" }
                ),
            );
            assert!(place.run(&["plan"], 1).contains("regressed"), "{sync} {moved}");
        }
    }
}

#[test]
fn metadata_that_a_store_had_no_place_for_is_no_backup_either() {
    let place = Place::with(&FILES.replace(
        "app: {table: items, fields: {\"*\": same}, sync: {columns: same}}",
        "app: {table: items, fields: {\"*\": same}}",
    ));
    place.run(&["migrate", "-auto-approve"], 0);
    place.sql("hub", "insert into items (id, name, version) values ('I1', 'one', 4), ('I2', 'two', 4)");
    place.run(&["apply", "-auto-approve"], 0);
    place.manifests(&FILES);
    place.run(&["migrate", "-auto-approve"], 0);
    let page = place.run(&["apply", "-auto-approve"], 0);
    assert!(!page.contains("regressed"), "{page}");
    assert_eq!(place.text("app", "select group_concat(distinct version) from items"), "4");
}
