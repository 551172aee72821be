//! A server that is down, slow, failing, too busy, or loses its answers: the others go on, nothing is doubled, and it catches up.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value as Json, json};
use trueup::model::{
    Batch, BatchId, ErrorKind, Guard, IntentId, Mapped, Outcome, StoreRecordId, SyncMeta, SyncStatus, Value,
    Write, WriteOp,
};
use trueup::sandbox::{Calls, Fault};
use trueup::store::Store as _;
use trueup::store::twenty::TwentyStore;

use crate::people::{fields, related, write};
use crate::world::{Set, World, key};

const PEOPLE: usize = 12;

async fn agreed(set: Set) -> World {
    let world = World::new(set).await;
    for number in 0..PEOPLE {
        let fields = [
            ("first_name", Value::text(format!("Given{number}"))),
            ("email", Value::text(format!("given{number}@example.com"))),
        ];
        world.put(&world.base, "people", &key(&format!("C{number}")), &fields);
    }
    world.settle().await;
    world
}

/// Somebody works in every store.
fn work(world: &World) {
    world.edit(&world.base, "people", &key("C1"), "job_title", Value::text("Baker"));
    world.edit(&world.local, "people", &key("C2"), "notes", Value::text("Likes tea."));
    world.patch("C3", &json!({ "jobTitle": "Gardener" }));
    let fields = [("first_name", Value::text("New")), ("email", Value::text("new@example.com"))];
    world.put(&world.base, "people", &key("C99"), &fields);
}

fn check(world: &World) {
    let all = world.all("people");
    let keys: BTreeSet<String> = all.iter().map(|person| person["contactId"].to_string()).collect();
    assert_eq!((all.len(), keys.len()), (PEOPLE + 1, PEOPLE + 1), "nobody twice, nobody lost");
    assert_eq!(world.person("C1")["jobTitle"], json!("Baker"));
    assert_eq!(world.person("C2")["notes"], json!("Likes tea."));
    assert_eq!(world.person("C99")["emails"]["primaryEmail"], json!("new@example.com"));
    for store in [&world.base, &world.local] {
        assert_eq!(world.held(store, "people", &key("C3"), "job_title"), Some(Value::text("Gardener")));
        assert_eq!(world.held(store, "people", &key("C1"), "job_title"), Some(Value::text("Baker")));
    }
}

fn quick() -> Set {
    Set { timeout: Duration::from_millis(400), ..Set::default() }
}

/// While the fault lasts the others go on; when it is over, everything is made up for.
async fn outlives(fault: Fault) {
    let world = agreed(quick()).await;
    work(&world);
    world.sandbox.faults().add(Calls::all(), fault);
    for _ in 0..2 {
        world.pass().await;
    }
    assert!(world.sandbox.faults().hits() > 0);
    let report = world.pass().await;
    assert!(report.unreadable.contains_key(world.crm.name()), "it is said which store is away: {report:?}");
    for (store, record, field, value) in
        [(&world.local, "C1", "job_title", "Baker"), (&world.base, "C2", "notes", "Likes tea.")]
    {
        assert_eq!(
            world.held(store, "people", &key(record), field),
            Some(Value::text(value)),
            "the others go on"
        );
    }
    world.sandbox.faults().clear();
    world.settle().await;
    check(&world);
    let before = world.writes();
    world.pass().await;
    assert_eq!(world.writes(), before, "and then it is quiet");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down() {
    outlives(Fault::Down).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_slow() {
    outlives(Fault::Slow(Duration::from_secs(1))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails() {
    outlives(Fault::Status(500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_answers_with_errors() {
    outlives(Fault::Errors("Internal server error".into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_had_too_many_calls() {
    outlives(Fault::Limited).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_alone_that_fail() {
    let world = agreed(quick()).await;
    work(&world);
    world.sandbox.faults().add(Calls::all().path("/rest/"), Fault::Status(500));
    let report = world.pass().await;
    assert!(!report.failed.is_empty() || !report.unknown.is_empty(), "it is said: {report:?}");
    assert_eq!(world.held(&world.local, "people", &key("C1"), "job_title"), Some(Value::text("Baker")));
    let status = |record: &str| {
        let mapped = crate::world::mapped(&world.spec, "people", "base");
        let db = world.base.db();
        db.table(&mapped).and_then(|table| table.rows.get(&key(record))?.meta.sync_status)
    };
    world.pass().await;
    assert_eq!(
        (status("C1"), status("C5")),
        (Some(SyncStatus::Pending), None),
        "it waits, and the others do not"
    );
    world.sandbox.faults().clear();
    world.settle().await;
    check(&world);
    assert_eq!(status("C1"), Some(SyncStatus::Synced), "and then it is no longer pending");
}

/// The call is carried out, and its answer never comes.
async fn lost_answer(method: &str) {
    let world = agreed(quick()).await;
    work(&world);
    world.sandbox.faults().add(Calls::all().method(method).path("/rest/").times(1), Fault::LoseAnswer);
    let report = world.pass().await;
    assert_eq!(world.sandbox.faults().hits(), 1);
    assert!(report.failed.is_empty() && report.unknown.is_empty(), "it was found out: {report:?}");
    check(&world);
    world.settle().await;
    check(&world);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_create_whose_answer_is_lost_is_found_by_its_id() {
    lost_answer("POST").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_whose_answer_is_lost_is_found_out() {
    lost_answer("PATCH").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_whose_answer_is_lost_is_found_out() {
    let world = agreed(quick()).await;
    let mapped = crate::world::mapped(&world.spec, "people", "base");
    world.base.db().delete(&mapped, &key("C5")).expect("there");
    world.sandbox.faults().add(Calls::all().method("DELETE").times(1), Fault::LoseAnswer);
    let report = world.pass().await;
    assert_eq!(world.sandbox.faults().hits(), 1);
    assert!(report.failed.is_empty() && report.unknown.is_empty(), "{report:?}");
    assert_eq!(world.all("people").len(), PEOPLE - 1);
    let deleted = world.sandbox.edit(|editor| editor.deleted("people")).expect("listed");
    assert_eq!(deleted.len(), 1, "deleted softly: it can be restored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_changes_under_the_reader_deletes_nobody() {
    let world = agreed(Set { page_rows: 5, ..Set::default() }).await;
    let gone = world.all("people")[0].clone();
    let gone_key = gone["contactId"].as_str().expect("a key").to_owned();
    let lost = crate::world::id(&gone);
    // Behind the reader's back somebody goes and somebody comes: the number is the same.
    let new = json!({ "id": "00000000-0000-4000-8000-000000000001", "contactId": "C50", "name": { "firstName": "Early" } });
    world.sandbox.faults().add(
        Calls::all().path("graphql").times(1),
        Fault::then(move |editor| {
            editor.soft_delete("people", &lost).expect("deleted");
            editor.create("people", &new).expect("created");
        }),
    );
    world.pass().await;
    assert_eq!(world.sandbox.faults().hits(), 1);
    let mapped = crate::world::mapped(&world.spec, "people", "base");
    let base = world.base.db().table(&mapped).map_or(0, |table| table.rows.len());
    assert!(base >= PEOPLE, "nobody was deleted who was there: {base}");
    world.settle().await;
    for store in [&world.base, &world.local] {
        assert_eq!(world.held(store, "people", &key("C50"), "first_name"), Some(Value::text("Early")));
        assert_eq!(
            world.held(store, "people", &key(&gone_key), "first_name"),
            None,
            "and the one who went is gone"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_just_before_the_write_is_not_overwritten() {
    let world = agreed(Set::default()).await;
    world.edit(&world.base, "people", &key("C1"), "job_title", Value::text("Baker"));
    let id = crate::world::id(&world.person("C1"));
    // Somebody edits the very field when everything has been read, before the look that comes just before the write.
    let theirs = move |editor: &mut trueup::sandbox::Editor<'_>| {
        editor.patch("people", &id, &json!({ "jobTitle": "Gardener" })).expect("edited");
    };
    world.sandbox.faults().add(Calls::all().path("graphql").body("people").times(1), Fault::then(theirs));
    let report = world.pass().await;
    assert_eq!(report.skipped.len(), 1, "{report:?}");
    assert_eq!(world.person("C1")["jobTitle"], json!("Gardener"), "their edit stands");
    world.pass().await;
    let conflicts = world.engine.conflicts(true).await.expect("listed");
    let there = world.person("C1")["jobTitle"].clone();
    assert!(!conflicts.is_empty() || there == json!("Gardener"), "{there}");
}

/// A number more, another address and an address less, all in one person.
async fn elements(store: &TwentyStore, ways: &Mapped, person: &Json) -> Vec<Outcome> {
    let person = crate::world::id(person);
    let at = |kind: &str, normal: &str| Some(StoreRecordId(format!("{person}#{kind}#{normal}")));
    let number = [
        ("contact_id", Value::text("C1")),
        ("kind", Value::text("phone")),
        ("value", Value::text("(202) 555-0123")),
    ];
    let create = WriteOp::Create {
        fields: fields(ways, &number),
        meta: SyncMeta::default(),
        created: None,
        updated: None,
    };
    let other = fields(ways, &[("value", Value::text("ann@new.example.com"))]);
    let update = WriteOp::Update { fields: other, meta: None, updated: None, guard: Guard::default() };
    let delete = WriteOp::Delete { guard: Guard::default() };
    let writes = [
        write(key("W1"), create),
        Write { store_id: at("email", "ann@example.com"), ..write(key("W2"), update) },
        Write { store_id: at("email", "second@example.org"), ..write(key("W3"), delete) },
    ];
    let numbered = writes
        .into_iter()
        .enumerate()
        .map(|(at, write)| Write { intent: IntentId(at.to_string().into()), ..write });
    let batch =
        Batch { id: BatchId("1".into()), receipt: false, writes: numbered.collect(), along: Vec::new() };
    store.apply(ways, &batch).await.expect("an answer").into_values().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_elements_whose_answer_is_lost_is_found_out() {
    let (world, store, [_, ways, ..]) = related().await;
    let body = json!({
        "contactId": "C1",
        "emails": { "primaryEmail": "ann@example.com", "additionalEmails": ["second@example.org"] },
    });
    let faults = world.sandbox.faults();
    let begin = || world.sandbox.edit(|editor| editor.create("people", &body)).expect("made");
    let end = |person: &Json| {
        let person = crate::world::id(person);
        world.sandbox.edit(|editor| editor.destroy("people", &person)).expect("destroyed");
    };
    let patch = || Calls::all().method("PATCH").path("/rest/people").times(1);
    let failed = |outcomes: &[Outcome]| {
        outcomes
            .iter()
            .all(|outcome| matches!(outcome, Outcome::Refused(error) if error.kind == ErrorKind::Unavailable))
    };
    let unknown =
        |outcomes: &[Outcome]| outcomes.iter().all(|outcome| matches!(outcome, Outcome::Unknown(_)));

    // It was carried out.
    let person = begin();
    faults.add(patch(), Fault::LoseAnswer);
    let outcomes = elements(&store, &ways, &person).await;
    faults.clear();
    let ends = |outcome: &Outcome, with: &str| match outcome {
        Outcome::Applied(Some(row)) => row.store_id.as_ref().is_some_and(|id| id.0.ends_with(with)),
        _ => false,
    };
    assert!(
        ends(&outcomes[0], "#+12025550123") && ends(&outcomes[1], "#ann@new.example.com"),
        "{outcomes:?}"
    );
    assert_eq!(outcomes[2], Outcome::Applied(None));
    let mails = json!({ "primaryEmail": "ann@new.example.com", "additionalEmails": [] });
    assert_eq!(world.all("people").remove(0)["emails"], mails);
    end(&person);

    // It was not.
    let person = begin();
    faults.add(patch(), Fault::Status(500));
    let outcomes = elements(&store, &ways, &person).await;
    faults.clear();
    assert!(failed(&outcomes), "{outcomes:?}");
    assert_eq!(world.all("people").remove(0)["emails"], person["emails"]);

    // Nobody can tell: the server is gone when it is asked.
    faults.add(patch(), Fault::LoseAnswer);
    faults.add(Calls::all().path("graphql").skip(1), Fault::Down);
    let outcomes = elements(&store, &ways, &person).await;
    faults.clear();
    assert!(unknown(&outcomes), "{outcomes:?}");
    end(&person);

    // Nor where somebody else was there meanwhile.
    let person = begin();
    let (other, theirs) =
        (crate::world::id(&person), json!({ "emails": { "primaryEmail": "theirs@example.com" } }));
    let edit = Fault::then(move |editor| {
        editor.patch("people", &other, &theirs).expect("edited");
    });
    faults.add(Calls::all().path("graphql").times(1), edit);
    faults.add(patch(), Fault::Status(500));
    let outcomes = elements(&store, &ways, &person).await;
    faults.clear();
    assert!(unknown(&outcomes), "{outcomes:?}");
    assert_eq!(world.all("people").remove(0)["emails"]["primaryEmail"], json!("theirs@example.com"));
}

/// A record that the server fails over keeps no other one out.
#[tokio::test(flavor = "multi_thread")]
async fn one_new_record_that_the_server_fails_over_is_alone_in_that() {
    let world = agreed(Set::default()).await;
    for number in 20..30 {
        let notes = if number == 23 { "more than it can take" } else { "short" };
        let fields = [("first_name", Value::text(format!("Given{number}"))), ("notes", Value::text(notes))];
        world.put(&world.base, "people", &key(&format!("C{number}")), &fields);
    }
    world.sandbox.faults().add(Calls::all().body("more than it can take"), Fault::Status(500));
    let report = world.pass().await;
    let failed: Vec<String> = report.failed.iter().map(|failed| failed.record.to_string()).collect();
    assert_eq!(failed, [r#"people["C23"]"#], "{report:?}");
    assert_eq!(world.all("people").len(), PEOPLE + 9);
    world.sandbox.faults().clear();
    world.settle().await;
    assert_eq!(world.all("people").len(), PEOPLE + 10);
}
