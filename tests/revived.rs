//! Records that come back from a delete, because somebody changed them or because they are to be put back: what went with them comes
//! back as well, and what stood in a row that went was deleted by nobody.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod crm_world;
mod shipped;
mod world;

use crm_world::{Crm, emails, id, phones};
use serde_json::json;
use trueup::plan::GuardName;
use world::{Stamp, World, entity, key};

const SQL: [&str; 3] = ["bigquery", "supabase", "local_sqlite"];

async fn crm(deletes: &str) -> Crm {
    let change = |text: &str| text.replace("deletes: propagate", &format!("deletes: {deletes}"));
    let crm = Crm::new(shipped::in_files_and_a_crm_where(change), 1_000_000).await;
    crm.sql(
        "bigquery",
        "INSERT INTO businesses (business_id, name) VALUES ('B1', 'Example Works');
         INSERT INTO contacts_master (contact_id, canonical_name, first_name, last_name, category_code)
         VALUES (1, 'Ann Example', 'Ann', 'Example', 'A'), (2, 'Bob Sample', 'Bob', 'Sample', 'B');
         INSERT INTO contact_identifiers (identifier_id, contact_id, identifier_type, identifier_value, is_primary, source_label)
         VALUES ('i1', 1, 'email', 'ann@example.com', 1, 'Work'), ('i2', 1, 'email', 'ann.e@example.com', 0, 'Home'),
                ('i3', 1, 'phone', '+1 202 555 0101', 1, 'Mobile'), ('i9', 2, 'phone', '+1 202 555 0109', 1, NULL);
         INSERT INTO people_businesses (contact_id, business_id, role) VALUES (1, 'B1', 'maker'), (2, 'B1', 'buyer');",
    );
    crm.settle().await;
    crm
}

/// Ann has all that she had, in every store.
fn ann_has_all(crm: &Crm) {
    for store in SQL {
        let sql = "SELECT identifier_id, source_label FROM contact_identifiers WHERE contact_id = 1 ORDER BY identifier_id";
        assert_eq!(crm.rows(store, sql), ["i1|Work", "i2|Home", "i3|Mobile"], "{store}");
        let sql = "SELECT business_id, role FROM people_businesses WHERE contact_id = 1";
        assert_eq!(crm.rows(store, sql), ["B1|maker"], "{store}");
    }
    let ann = crm.person("1");
    assert_eq!(emails(&ann), ["ann@example.com", "ann.e@example.com"]);
    assert_eq!(phones(&ann), ["+12025550101"]);
    let links = crm.all("peopleBusinesses");
    assert_eq!(links.iter().filter(|link| link["personId"] == ann["id"]).count(), 1, "{links:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_comes_back_has_its_addresses() {
    for destroyed in [false, true] {
        for (deletes, touches) in [
            ("restore", ""),
            ("propagate", "UPDATE contacts_master SET job_title = 'Maker' WHERE contact_id = '1'"),
            // A change of what stands in it brings it back as well.
            ("propagate", "UPDATE contact_identifiers SET is_verified = 1 WHERE identifier_id = 'i2'"),
        ] {
            let crm = crm(deletes).await;
            let ann = id(&crm.person("1"));
            crm.sandbox
                .edit(|editor| {
                    if destroyed {
                        editor.destroy("people", &ann)
                    } else {
                        editor.soft_delete("people", &ann)
                    }
                })
                .unwrap();
            crm.sql("supabase", touches);
            crm.settle().await;
            ann_has_all(&crm);
            // A row that only left Twenty, as a link without its person does, is kept under `left`.
            let deleted = "SELECT COUNT(*) FROM trueup_tombstones WHERE status <> 'left' OR entity <> 'people_businesses'";
            assert_eq!(
                crm.rows("bigquery", deleted),
                ["0"],
                "nobody deleted anything: {destroyed} {touches}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_takes_anothers_place_meets_for_the_first_time_with_all_that_stands_in_it() {
    let crm = crm("propagate").await;
    let first = id(&crm.person("1"));
    crm.make(
        "people",
        &json!({
            "name": {"firstName": "Ann", "lastName": "Example"},
            "emails": {"primaryEmail": "", "additionalEmails": ["ann@example.com"]},
        }),
    );
    crm.pass().await;
    assert_eq!(crm.all("people").len(), 3, "who it is, is not plain");
    crm.sandbox.edit(|editor| editor.destroy("people", &first)).unwrap();
    crm.settle().await;
    let ann = crm.person("1");
    assert_ne!(id(&ann), first, "the other row is hers");
    ann_has_all(&crm);
}

/// Firms and what belongs to them, by a reference that cascades.
fn firms(deletes: &str) -> World {
    let yaml = world::three_stores!(
        r#"
apiVersion: trueup/v1
kind: Entity
metadata: {name: firms}
spec: {key: {id: string}, fields: {name: string}, deletes: DELETES}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: links}
spec: {key: {id: string}, fields: {firm: {type: string, references: firms, on_delete: cascade}, role: string}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: notes}
spec: {key: {id: string}, fields: {link: {type: string, references: links, on_delete: cascade}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: firms}
spec:
  entity: firms
  stores: {hub: {table: firms, fields: {"*": same}, sync: {columns: same}}, app: {table: firms, fields: {"*": same}, sync: {columns: same}}, local: {table: firms, fields: {"*": same}, sync: {columns: same}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: links}
spec:
  entity: links
  stores: {hub: {table: links, fields: {"*": same}, sync: {columns: same}}, app: {table: links, fields: {"*": same}, sync: {columns: same}}, local: {table: links, fields: {"*": same}, sync: {columns: same}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: notes}
spec:
  entity: notes
  stores: {hub: {table: notes, fields: {"*": same}, sync: {columns: same}}, app: {table: notes, fields: {"*": same}, sync: {columns: same}}, local: {table: notes, fields: {"*": same}, sync: {columns: same}}}
"#
    );
    let mut world = World::new(&yaml.replace("DELETES", deletes));
    world.insert_into(&entity("firms"), "hub", "F1", &[("name", "One")], Stamp::None);
    for link in ["L1", "L2"] {
        world.insert_into(&entity("links"), "hub", link, &[("firm", "F1"), ("role", "maker")], Stamp::None);
    }
    world.insert_into(&entity("notes"), "hub", "N1", &[("link", "L1")], Stamp::None);
    world.settle();
    world.allow.insert(GuardName::Deletes);
    world.allow.insert(GuardName::Emptied);
    world
}

fn delete_in(world: &mut World, of: &str, at: &str, id: &str) {
    let mapped = world.mapped(of, at);
    world.tick();
    world.db(at).delete(&mapped, &key(id));
}

fn there(world: &mut World, at: &str) -> Vec<String> {
    let mut all = Vec::new();
    for of in ["firms", "links", "notes"] {
        let mapped = world.mapped(of, at);
        let table = world.db(at).table(&mapped).unwrap();
        all.extend(table.rows.keys().map(|key| key.parts().join("/")));
    }
    all
}

#[test]
fn what_went_with_a_firm_that_comes_back_comes_back_too() {
    type Touch = fn(&mut World);
    let touches: [(&str, &str, Touch); 3] = [
        ("the firm is changed elsewhere", "propagate", |world| {
            world.edit_in(&entity("firms"), "local", "F1", "name", "One Ltd", Stamp::None);
        }),
        ("one of its links is", "propagate", |world| {
            world.edit_in(&entity("links"), "local", "L2", "role", "buyer", Stamp::None);
        }),
        ("firms are put back", "restore", |_| {}),
    ];
    for (how, deletes, touch) in touches {
        for at in ["app", "hub"] {
            let mut world = firms(deletes);
            // As a foreign key of its own does it.
            for (of, key) in [("notes", "N1"), ("links", "L1"), ("links", "L2"), ("firms", "F1")] {
                delete_in(&mut world, of, at, key);
            }
            touch(&mut world);
            world.settle();
            for store in ["hub", "app", "local"] {
                assert_eq!(
                    there(&mut world, store),
                    ["F1", "L1", "L2", "N1"],
                    "{how}; deleted in {at}; {store}"
                );
            }
        }
    }
}

#[test]
fn what_was_deleted_elsewhere_than_the_firm_that_comes_back_stays_deleted() {
    let mut world = firms("propagate");
    delete_in(&mut world, "firms", "app", "F1");
    delete_in(&mut world, "links", "local", "L1");
    world.edit_in(&entity("firms"), "local", "F1", "name", "One Ltd", Stamp::None);
    world.settle();
    assert_eq!(there(&mut world, "hub"), ["F1", "L2"], "its note went with it");
}

#[test]
fn where_nobody_changed_anything_all_of_it_goes() {
    let mut world = firms("propagate");
    for (of, key) in [("notes", "N1"), ("links", "L1"), ("links", "L2"), ("firms", "F1")] {
        delete_in(&mut world, of, "app", key);
    }
    world.settle();
    assert_eq!(there(&mut world, "local"), Vec::<String>::new());
}

/// Two things that all stores have.
fn things() -> World {
    let mut world = World::three();
    world.allow.extend([GuardName::Deletes, GuardName::Emptied]);
    for id in ["1", "2"] {
        world.insert("hub", id, &[("a", "x"), ("must", "m")], Stamp::None);
    }
    world.settle();
    world
}

#[test]
fn a_delete_waits_for_no_store_once_all_confirmed_it_however_its_pass_ended() {
    for lives in 0..24 {
        let mut world = things();
        world.delete("app", "1");
        world.lives = Some(lives);
        let _ = world.pass();
        world.lives = None;
        world.settle();
        assert_eq!(world.everywhere("1", "a"), ["-", "-", "-"]);
        let tombstones = world.tombstones();
        assert!(tombstones.contains("confirmed") && !tombstones.contains("pending"), "{lives}: {tombstones}");
    }
}

#[test]
fn what_was_put_back_before_every_store_had_let_it_go_is_not_deleted_when_the_state_is_lost() {
    let mut world = things();
    world.delete("app", "1");
    world.reach("local", false);
    world.pass().unwrap();
    assert_eq!(world.get("hub", "1", "a"), "-");

    // It is put back, as it was, and what is remembered is lost before a pass brings it to the others.
    world.insert("hub", "1", &[("a", "x"), ("must", "m")], Stamp::Raise);
    world.reach("local", true);
    world.lose_state();
    world.settle();
    assert_eq!(world.everywhere("1", "a"), ["x", "x", "x"]);
    assert!(!world.tombstones().contains("pending"), "{}", world.tombstones());
}
