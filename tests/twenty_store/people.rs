//! People who delete, restore and share addresses, and what stands beside what is written.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};
use trueup::model::{
    Batch, BatchId, Cell, ErrorKind, FieldName, Guard, IntentId, Mapped, Outcome, RecordKey, StoreRecordId,
    Stray, SyncMeta, Value, Write, WriteOp,
};
use trueup::spec::{Source, compile, render_lines};
use trueup::store::twenty::{TwentyOptions, TwentyStore};
use trueup::store::{LazyRow, SnapshotItem, Store};

use crate::world::{KEY, Moved, Set, World, id, key, mapped, store_name};

async fn with_people(count: usize) -> World {
    let world = World::new(Set::default()).await;
    for number in 0..count {
        let fields = [
            ("first_name", Value::text(format!("Given{number}"))),
            ("email", Value::text(format!("given{number}@example.com"))),
            ("phone", Value::text(format!("+120255501{number:02}"))),
        ];
        world.put(&world.base, "people", &key(&format!("C{number}")), &fields);
    }
    world.settle().await;
    world
}

pub(crate) fn fields(mapped: &Mapped, fields: &[(&str, Value)]) -> trueup::model::Fields<Value> {
    let id = |name: &str| mapped.entity.field_id(&FieldName::new(name).expect("a name")).expect("a field");
    fields.iter().map(|(name, value)| (id(name), value.clone())).collect()
}

async fn one(store: &TwentyStore, mapped: &Mapped, write: Write) -> Outcome {
    let batch = Batch { id: BatchId("1".into()), receipt: false, writes: vec![write], along: Vec::new() };
    store.apply(mapped, &batch).await.expect("an answer").into_values().next().expect("an outcome")
}

pub(crate) fn write(record: RecordKey, op: WriteOp) -> Write {
    Write { intent: IntentId("1-1".into()), key: record, store_id: None, link: false, op }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_in_the_crm_is_deleted_and_restored_it_is_the_same_contact() {
    let world = with_people(12).await;
    let person = world.person("C3");
    world.sandbox.edit(|editor| editor.soft_delete("people", &id(&person))).expect("deleted");
    world.settle().await;
    assert_eq!(world.held(&world.base, "people", &key("C3"), "first_name"), None);
    assert_eq!(world.held(&world.local, "people", &key("C3"), "first_name"), None);
    world
        .sandbox
        .edit(|editor| editor.patch("people", &id(&person), &json!({ "deletedAt": null })))
        .expect("restored");
    world.settle().await;
    assert_eq!(world.held(&world.base, "people", &key("C3"), "first_name"), Some(Value::text("Given3")));
    assert_eq!(world.held(&world.local, "people", &key("C3"), "first_name"), Some(Value::text("Given3")));
    assert_eq!(id(&world.person("C3")), id(&person));
    assert_eq!(world.all("people").len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_comes_back_is_restored_not_made_again() {
    let world = with_people(12).await;
    let person = world.person("C4");
    let note = json!({ "avatarUrl": "https://example.com/a.png" });
    world.patch("C4", &note);
    world.settle().await;
    world.sandbox.edit(|editor| editor.soft_delete("people", &id(&person))).expect("deleted");
    // Somebody changed it elsewhere meanwhile: the change wins.
    world.edit(&world.local, "people", &key("C4"), "job_title", Value::text("Baker"));
    world.settle().await;
    let back = world.person("C4");
    assert_eq!((id(&back), &back["jobTitle"]), (id(&person), &json!("Baker")));
    assert_eq!(back["avatarUrl"], json!("https://example.com/a.png"), "with all that was on it");
    assert!(world.sandbox.edit(|editor| editor.deleted("people")).expect("listed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_anothers_address_is_told_and_nobody_is_overwritten() {
    let world = with_people(12).await;
    let before = world.all("people");
    let same = [("first_name", Value::text("Twin")), ("email", Value::text("GIVEN5@example.com"))];
    world.put(&world.base, "people", &key("C70"), &same);
    let report = world.pass().await;
    let told: Vec<&str> = report.failed.iter().map(|trouble| trouble.message.as_str()).collect();
    assert!(told.iter().any(|text| text.contains("another `person`") && text.contains("emails")), "{told:?}");
    assert!(
        !told.iter().any(|text| text.to_lowercase().contains("given5")),
        "and the address is not shown: {told:?}"
    );
    assert_eq!(world.all("people"), before);

    // A deleted person has it still.
    let holder = id(&world.person("C5"));
    world.base.db().delete(&mapped(&world.spec, "people", "base"), &key("C5")).expect("there");
    world.base.db().delete(&mapped(&world.spec, "people", "base"), &key("C70")).expect("there");
    world.settle().await;
    let gone = world.sandbox.edit(|editor| editor.deleted("people")).expect("listed");
    assert_eq!(gone.iter().map(id).collect::<Vec<_>>(), [holder]);
    world.put(&world.base, "people", &key("C71"), &same);
    let report = world.pass().await;
    let told: Vec<&str> = report.failed.iter().map(|trouble| trouble.message.as_str()).collect();
    assert!(told.iter().any(|text| text.contains("a deleted `person`")), "{told:?}");
    let still = world.sandbox.edit(|editor| editor.deleted("people")).expect("listed");
    assert_eq!(still, gone, "nobody was restored, or given another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_what_is_written_stays() {
    let world = with_people(3).await;
    let more = json!({
        "emails": { "primaryEmail": "given1@example.com", "additionalEmails": ["other@example.org"] },
        "phones": {
            "primaryPhoneNumber": "+12025550101", "primaryPhoneCountryCode": "", "primaryPhoneCallingCode": "",
            "additionalPhones": [{ "number": "+33612345678", "countryCode": "", "callingCode": "" }]
        },
        "linkedinLink": { "primaryLinkUrl": "https://example.com/ann", "primaryLinkLabel": "Ann", "secondaryLinks": [] },
        "avatarUrl": "https://example.com/a.png",
    });
    world.patch("C1", &more);
    world.settle().await;
    let before = world.person("C1");
    world.edit(&world.base, "people", &key("C1"), "email", Value::text("New@Example.com"));
    world.edit(&world.base, "people", &key("C1"), "phone", Value::text("+1 202 555 0177"));
    world.edit(&world.base, "people", &key("C1"), "profile", Value::text("https://Example.com/new/"));
    world.edit(&world.base, "people", &key("C1"), "last_name", Value::text("Example"));
    world.settle().await;
    let after = world.person("C1");
    assert_eq!(
        after["emails"],
        json!({ "primaryEmail": "new@example.com", "additionalEmails": ["other@example.org"] })
    );
    assert_eq!(after["phones"]["primaryPhoneNumber"], json!("2025550177"));
    assert_eq!(after["phones"]["additionalPhones"], before["phones"]["additionalPhones"]);
    assert_eq!(after["linkedinLink"]["primaryLinkLabel"], json!("Ann"));
    assert_eq!(after["linkedinLink"]["primaryLinkUrl"], json!("https://example.com/new"));
    assert_eq!(after["name"], json!({ "firstName": "Given1", "lastName": "Example" }));
    assert_eq!(after["avatarUrl"], before["avatarUrl"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_without_a_key_is_given_one_if_it_still_has_none() {
    let world = World::new(Set::default()).await;
    let people = world.people();
    let made =
        world.sandbox.edit(|editor| editor.create("people", &json!({ "name": { "firstName": "Ann" } })));
    let store_id = StoreRecordId(id(&made.expect("made")));
    let mut stream = world.crm.snapshot(people.clone()).await.expect("a stream");
    let mut strays: Vec<Stray> = Vec::new();
    while let Some(item) = stream.recv().await {
        match item.expect("a piece") {
            SnapshotItem::Strays(more) => strays.extend(more),
            SnapshotItem::Rows(rows) => {
                panic!("{:?}", rows.into_iter().map(LazyRow::into_row).collect::<Vec<_>>())
            }
            SnapshotItem::End(end) => assert!(end.is_complete() && end.rows_read == 1, "{end:?}"),
        }
    }
    assert_eq!(strays.len(), 1);
    assert_eq!((&strays[0].store_id, &strays[0].key), (&store_id, &None));
    let link = |record: &str| Write {
        store_id: Some(store_id.clone()),
        link: true,
        ..write(
            key(record),
            WriteOp::Update {
                fields: fields(&people, &[("last_name", Value::text("Example"))]),
                meta: None,
                updated: None,
                guard: Guard::default(),
            },
        )
    };
    let Outcome::Applied(Some(row)) = one(&world.crm, &people, link("C1")).await else { panic!("linked") };
    assert_eq!((row.key, row.unlinked), (key("C1"), false));
    assert_eq!(world.person("C1")["name"]["lastName"], json!("Example"));
    assert_eq!(one(&world.crm, &people, link("C2")).await, Outcome::Moved, "it is another's now");
    let unlinked = Write { link: false, ..link("C2") };
    assert_eq!(one(&world.crm, &people, unlinked).await, Outcome::Moved, "a key that names another record");
}

const EMBEDDED: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: base}
spec: {canonical: true, memory: {}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: crm}
spec: {twenty: {url: "http://127.0.0.1:1", api_key: "${env:TWENTY_KEY}"}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: people}
spec: {key: {contact_id: string}, fields: {name: string}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: ways}
spec:
  key: {way_id: string}
  fields:
    contact_id: {type: string, references: people}
    kind: {enum: [email, phone]}
    value: string
    is_primary: bool
    normal: {derive: "identifier(kind, value)"}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: firms}
spec: {key: {firm_id: string}, fields: {name: string}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: jobs}
spec:
  key: {contact_id: {type: string, references: people}, firm_id: {type: string, references: firms}}
  fields: {role: string}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: people}
spec:
  entity: people
  stores:
    base: {table: people, fields: {"*": same}, sync: {columns: same}}
    crm:
      object: person
      key: contactId
      fields: {name: name.firstName}
      embed:
        ways:
          email: {path: emails, primary: is_primary}
          phone: {path: phones, region: US, primary: is_primary}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: ways}
spec: {entity: ways, stores: {base: {table: ways, fields: {"*": same}, sync: {columns: same}}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: firms}
spec: {entity: firms, stores: {base: {table: firms, fields: {"*": same}, sync: {columns: same}}, crm: {object: company, key: firmId, fields: {name: same}}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: jobs}
spec:
  entity: jobs
  stores:
    base: {table: jobs, fields: {"*": same}, sync: {columns: same}}
    crm: {object: job, key: linkKey, junction: {contact_id: person, firm_id: company}, fields: {role: workRole}}
"#;

/// A workspace with the four entities, all of them in one store.
pub(crate) async fn related() -> (World, TwentyStore, [Mapped; 4]) {
    let world = World::new(Set::default()).await;
    let source = Source { file: "crm.yaml".to_owned(), text: EMBEDDED.to_owned() };
    let spec = compile(Path::new("."), &[source], &BTreeMap::new()).map_err(|found| render_lines(&found));
    let spec = spec.expect("compiled").0;
    let all = ["people", "ways", "firms", "jobs"].map(|entity| mapped(&spec, entity, "crm"));
    let options = TwentyOptions {
        pace: trueup::store::twenty::Pace { per_second: 1_000_000, per_minute: 1_000_000 },
        clock: Arc::new(Moved(world.hand.clone())),
        mapped: all.to_vec(),
        ..TwentyOptions::default()
    };
    let store = TwentyStore::open(store_name("crm"), &world.sandbox.url(), KEY, options).expect("opened");
    let steps = store.plan_migration(&all).await.expect("planned");
    store.migrate(&steps).await.expect("migrated");
    assert_eq!(store.plan_migration(&all).await.expect("planned"), []);
    (world, store, all)
}

async fn strays(store: &TwentyStore, mapped: &Mapped) -> (Vec<Stray>, Vec<RecordKey>) {
    let mut stream = store.snapshot(mapped.clone()).await.expect("a stream");
    let (mut strays, mut keys) = (Vec::new(), Vec::new());
    while let Some(item) = stream.recv().await {
        match item.expect("a piece") {
            SnapshotItem::Strays(more) => strays.extend(more),
            SnapshotItem::Rows(rows) => keys.extend(rows.into_iter().map(|row| row.key().clone())),
            SnapshotItem::End(end) => assert!(end.is_complete(), "{end:?}"),
        }
    }
    (strays, keys)
}

#[tokio::test(flavor = "multi_thread")]
async fn elements_are_listed_with_their_records_and_written_whole() {
    let (world, store, [people, ways, ..]) = related().await;
    let body = json!({
        "contactId": "C1",
        "emails": { "primaryEmail": "ann@example.com", "additionalEmails": ["second@example.org"] },
        "phones": {
            "primaryPhoneNumber": "+33612345678", "primaryPhoneCountryCode": "", "primaryPhoneCallingCode": "",
            "additionalPhones": []
        },
    });
    let person = world.sandbox.edit(|editor| editor.create("people", &body)).expect("made");
    let (found, keys) = strays(&store, &people).await;
    assert_eq!(keys, [key("C1")]);
    let values = |strays: &[Stray]| {
        let value = ways.mapping.embedded().expect("embedded").value;
        let mut all: Vec<String> = strays
            .iter()
            .map(|stray| match &stray.fields[&value] {
                Cell::Value(Value::Text(text)) => text.to_string(),
                other => panic!("{other:?}"),
            })
            .collect();
        all.sort();
        all
    };
    assert_eq!(values(&found), ["+33612345678", "ann@example.com", "second@example.org"]);
    let of = |text: &str| {
        let ending = format!("#{text}");
        found.iter().find(|stray| stray.store_id.0.ends_with(&ending)).expect("there").store_id.clone()
    };
    let op = |values: &[(&str, Value)]| WriteOp::Update {
        fields: fields(&ways, values),
        meta: None,
        updated: None,
        guard: Guard::default(),
    };
    let new = WriteOp::Create {
        fields: fields(
            &ways,
            &[
                ("contact_id", Value::text("C1")),
                ("kind", Value::text("phone")),
                ("value", Value::text("(202) 555-0123")),
                ("is_primary", Value::Bool(false)),
            ],
        ),
        meta: SyncMeta::default(),
        created: None,
        updated: None,
    };
    let stale = Guard {
        fields: fields(&ways, &[("value", Value::text("else@example.org"))])
            .into_iter()
            .map(|(id, value)| (id, Cell::Value(value)))
            .collect(),
        meta: SyncMeta::default(),
    };
    let writes = vec![
        Write {
            store_id: Some(of("ann@example.com")),
            ..write(key("W1"), op(&[("value", Value::text("Ann@New.example.com"))]))
        },
        write(key("W2"), new),
        Write {
            store_id: Some(of("second@example.org")),
            ..write(key("W3"), WriteOp::Delete { guard: stale })
        },
    ];
    let numbered = writes
        .into_iter()
        .enumerate()
        .map(|(at, write)| Write { intent: IntentId(at.to_string().into()), ..write });
    let batch =
        Batch { id: BatchId("1".into()), receipt: false, writes: numbered.collect(), along: Vec::new() };
    let before = world.writes();
    let outcomes = store.apply(&ways, &batch).await.expect("an answer");
    assert_eq!(world.writes() - before, 1, "one call for one person");
    let outcomes: Vec<&Outcome> = outcomes.values().collect();
    assert!(
        matches!(outcomes[0], Outcome::Applied(Some(row)) if row.store_id.as_ref().is_some_and(|id| id.0.ends_with("#ann@new.example.com"))),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[1], Outcome::Applied(Some(row)) if row.store_id.as_ref().is_some_and(|id| id.0.ends_with("#+12025550123"))),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[2], &Outcome::Moved);
    let after = world.sandbox.edit(|editor| editor.all("people")).expect("listed").remove(0);
    assert_eq!(
        after["emails"],
        json!({ "primaryEmail": "ann@new.example.com", "additionalEmails": ["second@example.org"] })
    );
    for part in ["primaryPhoneNumber", "primaryPhoneCountryCode", "primaryPhoneCallingCode"] {
        assert_eq!(after["phones"][part], person["phones"][part], "the first number stays as it was");
    }
    assert_eq!(after["phones"]["additionalPhones"].as_array().map(Vec::len), Some(1));
    // The first goes: the second takes its place.
    let (found, _) = strays(&store, &people).await;
    let first = found.iter().find(|stray| stray.store_id.0.ends_with("#ann@new.example.com")).expect("there");
    let delete = Write {
        store_id: Some(first.store_id.clone()),
        ..write(key("W1"), WriteOp::Delete { guard: Guard::default() })
    };
    assert_eq!(one(&store, &ways, delete).await, Outcome::Applied(None));
    let after = world.sandbox.edit(|editor| editor.all("people")).expect("listed").remove(0);
    assert_eq!(after["emails"], json!({ "primaryEmail": "second@example.org", "additionalEmails": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_join_others_are_keyed_by_them() {
    let (world, store, [people, _, firms, jobs]) = related().await;
    let pair = |a: &str, b: &str| RecordKey::new(vec![a.to_owned(), b.to_owned()]);
    let make = |mapped: &Mapped, record: RecordKey, values: &[(&str, Value)]| {
        write(
            record,
            WriteOp::Create {
                fields: fields(mapped, values),
                meta: SyncMeta::default(),
                created: None,
                updated: None,
            },
        )
    };
    let outcome = one(&store, &jobs, make(&jobs, pair("C1", "B1"), &[("role", Value::text("owner"))])).await;
    assert!(matches!(&outcome, Outcome::Refused(error) if error.kind == ErrorKind::NotFound), "{outcome:?}");
    assert!(matches!(one(&store, &people, make(&people, key("C1"), &[])).await, Outcome::Applied(Some(_))));
    assert!(matches!(one(&store, &firms, make(&firms, key("B1"), &[])).await, Outcome::Applied(Some(_))));
    let outcome = one(&store, &jobs, make(&jobs, pair("C1", "B1"), &[("role", Value::text("owner"))])).await;
    assert!(
        matches!(&outcome, Outcome::Applied(Some(row)) if row.key == pair("C1", "B1") && !row.unlinked),
        "{outcome:?}"
    );
    let again = one(&store, &jobs, make(&jobs, pair("C1", "B1"), &[])).await;
    assert_eq!(again, Outcome::Moved);
    let (found, keys) = strays(&store, &jobs).await;
    assert_eq!((found.len(), keys), (0, vec![pair("C1", "B1")]));
    let read = store.read(&jobs, &[pair("C1", "B1"), pair("C1", "B2")]).await.expect("read");
    assert!(read[&pair("C1", "B1")].row().is_some() && read[&pair("C1", "B2")].row().is_none());
    let native = store.read_native(&jobs, &[pair("C1", "B1")]).await.expect("read");
    assert_eq!(native[&pair("C1", "B1")]["workRole"], json!("owner"));
    // Its person is destroyed: the record leads nowhere.
    let person: Json = world.sandbox.edit(|editor| editor.all("people")).expect("listed").remove(0);
    world.sandbox.edit(|editor| editor.destroy("people", &id(&person))).expect("destroyed");
    let (found, keys) = strays(&store, &jobs).await;
    assert!(keys.is_empty());
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key, Some(pair("C1", "B1")));
    assert_eq!(found[0].relations.len(), 1, "one of the two is left: {found:?}");
}
