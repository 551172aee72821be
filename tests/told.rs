//! What people are told when something cannot be done: what it is, since when, and what to do.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

mod shell;
mod watched;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use async_trait::async_trait;
use serde_json::Value;
use shell::Place;
use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, PassOptions};
use trueup::model::{Cell, StateId};
use trueup::plan::NoticeKind;
use trueup::state::memory::MemoryState;
use trueup::state::{State as _, StateError};
use trueup::store::Store;
use trueup::store::memory::MemoryStore;
use trueup::telemetry::{Event, Observer, Silent};
use watched::{Change, Watch, Watched};
use world::{Stamp, World};

#[tokio::test(start_paused = true)]
async fn a_pass_that_cannot_be_made_is_among_the_errors_until_one_is() {
    let mut world = World::three();
    world.insert("hub", "1", &[("a", "a0"), ("must", "m")], Stamp::None);
    let mut stores = BTreeMap::new();
    let mut opened = trueup::apply::Opened::new();
    for (name, db) in &world.stores {
        let store = MemoryStore::with(db.clone());
        opened.insert(name.clone(), Ok(Arc::new(store.clone()) as Arc<dyn Store>));
        stores.insert(name.to_string(), store);
    }
    let state = Arc::new(MemoryState::new(StateId("state".to_owned())));
    let engine = Engine::with(world.spec.clone(), opened, state.clone());
    let pass = async || engine.pass(&PassOptions::default(), &Silent, &CancellationToken::new()).await;
    // As of a full disk: reading works, and nothing is taken.
    stores["hub"].db().faults.fail_batches = 1_000;
    let failure = pass().await.unwrap_err();
    let first = engine.errors().await.unwrap();
    assert_eq!(first.len(), 1, "{first:#?}");
    assert_eq!((first[0].kind.as_str(), first[0].message.as_str()), ("pass", failure.message.as_str()));
    assert!(!first[0].hint.is_empty());
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    pass().await.unwrap_err();
    assert_eq!(engine.errors().await.unwrap(), first, "since it began");
    let plan = engine.plan(&PassOptions::default(), &Silent).await.unwrap();
    assert!(engine.errors_of(&plan).await.unwrap().contains(&first[0]), "as the command tells it");
    stores["hub"].db().faults.fail_batches = 0;
    pass().await.unwrap();
    assert_eq!(engine.errors().await.unwrap(), []);
}

/// A state on a full disk: what it remembers is read, and nothing is taken.
struct Full;

#[async_trait]
impl Watch for Full {
    async fn note(&self, _: Change<'_>) -> Result<(), StateError> {
        Err(StateError::new("the disk is full"))
    }
    async fn commit(&self, _: Change<'_>) -> Result<(), StateError> {
        Err(StateError::new("the disk is full"))
    }
}

#[tokio::test]
async fn a_state_that_takes_nothing_is_among_the_errors_although_it_cannot_hold_that() {
    let world = World::three();
    let opened = world
        .stores
        .iter()
        .map(|(name, db)| (name.clone(), Ok(Arc::new(MemoryStore::with(db.clone())) as Arc<dyn Store>)));
    let state = Watched { inner: MemoryState::new(StateId("state".to_owned())), watch: Full };
    let engine = Engine::with(world.spec.clone(), opened.collect(), Arc::new(state));
    let plan = engine.plan(&PassOptions::default(), &Silent).await.unwrap();
    let errors = engine.errors_of(&plan).await.unwrap();
    let told: Vec<_> = errors.iter().map(|error| (error.kind.as_str(), error.message.as_str())).collect();
    assert_eq!(told, [("pass", "state: the disk is full")]);
}

/// Whenever a plan is made, something happens before it is given out.
struct Meanwhile<F>(F);

impl<F: Fn() + Send + Sync> Observer for Meanwhile<F> {
    fn notice(&self, event: &Event<'_>) {
        if matches!(event, Event::Planned { .. }) {
            self.0();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_of_what_stands_when_nobody_writes_any_more() {
    for often in [1, 2, 10] {
        let mut world = World::three();
        world.insert("hub", "1", &[("a", "a0"), ("must", "m")], Stamp::Raise);
        let stores: BTreeMap<_, _> =
            world.stores.iter().map(|(name, db)| (name.clone(), MemoryStore::with(db.clone()))).collect();
        let state = Arc::new(MemoryState::new(StateId("state".to_owned())));
        let engine = |holder: &str| {
            let opened = stores
                .iter()
                .map(|(name, store)| (name.clone(), Ok(Arc::new(store.clone()) as Arc<dyn Store>)));
            let engine = Engine::with(world.spec.clone(), opened.collect(), state.clone());
            engine.simulated(holder, Arc::new(trueup::apply::clock))
        };
        let (ours, theirs) = (engine("ours"), engine("theirs"));
        let pass =
            async || theirs.pass(&PassOptions::default(), &Silent, &CancellationToken::new()).await.unwrap();
        pass().await;
        let things = world.mapped("things", "app");
        let edit = |value: i32| {
            stores[&world::store("app")].db().edit(&things, &world::key("1"), |row| {
                row.fields.insert(world::field("a"), Cell::Value(world::text(&format!("a{value}"))));
            });
        };
        edit(-1);
        let looks = AtomicI32::new(0);
        let observer = Meanwhile(|| {
            let look = looks.fetch_add(1, Ordering::SeqCst);
            if look < often {
                tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(pass()));
                if look + 1 < often {
                    edit(look);
                }
            }
        });
        let plan = ours.plan(&PassOptions::default(), &observer).await.unwrap();
        let told = plan.notices.iter().any(|notice| notice.kind == NoticeKind::Beside);
        if often < 3 {
            assert!(!plan.has_actions() && !told, "{often}: {:?}", plan.notices);
        } else {
            assert!(told && looks.into_inner() == 3, "it does not go on for ever: {:?}", plan.notices);
            return;
        }
    }
}

/// Three stores, the canonical one first, with some records in agreement.
fn agreed(canonical: &[&str]) -> Place {
    let place = Place::with(&shell::manifests(canonical, "items", "name: string"));
    place.run(&["migrate", "-auto-approve"], 0);
    for id in 1..=4 {
        place.sql(canonical[0], &format!("insert into items (id, name) values ('I{id}', 'name {id}')"));
    }
    place.run(&["apply", "-auto-approve"], 0);
    place
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_the_lease_gets_a_turn_between_passes_that_follow_each_other() {
    let world = World::three();
    let state = Arc::new(MemoryState::new(StateId("state".to_owned())));
    let engine = |holder: &str| {
        let opened = world
            .stores
            .iter()
            .map(|(name, db)| (name.clone(), Ok(Arc::new(MemoryStore::with(db.clone())) as Arc<dyn Store>)));
        let engine = Engine::with(world.spec.clone(), opened.collect(), state.clone());
        engine.simulated(holder, Arc::new(trueup::apply::clock))
    };
    let (leader, waiter) = (engine("leader"), engine("waiter"));
    assert!(leader.lead().await.unwrap());
    let stop = CancellationToken::new();
    let passes = async {
        // Whenever the lease is free, a pass takes it: whoever only looks now and then never finds it free.
        while !stop.is_cancelled() {
            let patient = PassOptions { lock_timeout_ms: 60_000, ..PassOptions::default() };
            leader.pass(&patient, &Slow, &CancellationToken::new()).await.unwrap();
        }
    };
    let turn = async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        let patient = PassOptions { lock_timeout_ms: 5_000, ..PassOptions::default() };
        let turn = waiter.pass(&patient, &Silent, &CancellationToken::new()).await;
        stop.cancel();
        turn
    };
    let (turn, ()) = tokio::join!(turn, passes);
    turn.unwrap();
    assert_eq!(state.notes("waits").await.unwrap(), BTreeMap::new());
}

/// Passes take a while.
struct Slow;

impl Observer for Slow {
    fn notice(&self, event: &Event<'_>) {
        if matches!(event, Event::Planned { .. }) {
            tokio::task::block_in_place(|| std::thread::sleep(std::time::Duration::from_millis(50)));
        }
    }
}

#[test]
fn the_canonical_place_moves_by_the_steps_that_are_told() {
    let place = agreed(&["hub", "app", "local"]);
    place.sql("app", "update items set name = 'pending' where id = 'I1'");
    place.sql("local", "delete from items where id = 'I2'");
    let moved = shell::manifests(&["local", "app", "hub"], "items", "name: string");
    place.manifests(&moved);
    place.run(&["migrate", "-auto-approve"], 0);
    let said = place.run(&["plan"], 1);
    for told in [
        "another store than before",
        "put it back there",
        "`trueup apply` until",
        "move the state away (`.trueup/state.db` in the manifests' folder)",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
    place.manifests(&shell::manifests(&["hub", "app", "local"], "items", "name: string"));
    place.run(&["apply", "-auto-approve", "-allow", "deletes"], 0);
    assert!(place.run(&["apply", "-auto-approve"], 0).contains("No changes."));
    place.manifests(&moved);
    place.run(&["migrate", "-auto-approve"], 0);
    std::fs::rename(place.path().join("manifests/.trueup"), place.path().join("away")).unwrap();
    place.run(&["apply", "-auto-approve"], 0);
    assert!(place.run(&["plan", "-detailed-exitcode"], 0).contains("No changes."));
    for store in ["hub", "app", "local"] {
        let all = "select group_concat(id || ' ' || name, ', ') from (select * from items order by id)";
        assert_eq!(place.text(store, all), "I1 pending, I3 name 3, I4 name 4", "{store}");
    }
    place.sql("app", "update items set name = 'later' where id = 'I3'");
    place.run(&["apply", "-auto-approve"], 0);
    assert_eq!(place.text("hub", "select name from items where id = 'I3'"), "later");
}

#[test]
fn every_command_answers_programs_in_json() {
    let place = agreed(&["hub", "app", "local"]);
    let json = |args: &[&str], code: i32| -> Value {
        let output = place.trueup(args).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}: {text}"))
    };
    let paused = json(&["pause", "app", "--reason", "hands off", "-json"], 0);
    assert_eq!((&paused["paused"], &paused["pause"]["reason"]), (&"app".into(), &"hands off".into()));
    assert_eq!(json(&["resume", "app", "-json"], 0)["resumed"], "app");
    let expanded = json(&["validate", "--expand", "-json"], 0);
    assert!(expanded["valid"] == true && expanded["expanded"].as_str().unwrap().contains("kind: Mapping"));
    assert!(json(&["validate", "-json"], 0)["expanded"].is_null());
    let stale = json(&["schema", "--check", "--dir", "written", "-json"], 1);
    assert!(stale["current"] == false && !stale["stale"].as_array().unwrap().is_empty(), "{stale:#}");
    assert!(!json(&["schema", "--dir", "written", "-json"], 0)["wrote"].as_array().unwrap().is_empty());
    assert_eq!(json(&["schema", "--check", "--dir", "written", "-json"], 0)["current"], true);
    assert_eq!(json(&["version", "-json"], 0)["trueup_version"], env!("CARGO_PKG_VERSION"));
    let script = json(&["completion", "bash", "-json"], 0)["script"].as_str().unwrap().to_owned();
    assert!(script.contains("--lock-timeout") && place.run(&["completion", "bash"], 0) == script);
    place.manifests(&shell::manifests(&["hub", "app", "local"], "items", "name: string, extra: string"));
    assert!(
        json(&["migrate", "-json"], 1)["diagnostic"]["detail"].as_str().unwrap().contains("migrate --print")
    );
    assert!(
        json(&["migrate", "-print", "-json"], 0)["additions"]["app"][0]["adds"]
            .as_str()
            .unwrap()
            .contains("extra")
    );
    assert!(
        json(&["migrate", "-auto-approve", "-json"], 0)["additions"]["app"][0]["adds"]
            .as_str()
            .unwrap()
            .contains("extra")
    );
    place.sql("app", "create table others (id text primary key, said text)");
    assert!(json(&["draft", "-json"], 0)["manifests"].as_str().unwrap().contains("name: others"));
    let more = (5..=12).map(|id| format!("('I{id}', 'name {id}')")).collect::<Vec<_>>().join(", ");
    place.sql("hub", &format!("insert into items (id, name) values {more}"));
    place.run(&["apply", "-auto-approve"], 0);
    place.sql("hub", "delete from items where id in ('I1', 'I2')");
    let status = json(&["status", "-json"], 0);
    let code = status["approvals"]["items"].as_str().unwrap_or_else(|| panic!("{status:#}"));
    let approved = json(&["approve", code, "-json"], 0);
    assert!(approved["approved"] == code && approved["guards"][0]["guard"] == "deletes", "{approved:#}");
    place.run(&["run", "--once"], 0);
    let lines = place.stream(&["deleted", "restore", r#"items["I1"]"#, "-auto-approve", "-json"], 0);
    assert_eq!(lines[0]["type"], "version");
}

#[test]
fn what_to_do_where_nobody_can_be_asked_is_what_that_command_takes() {
    let place = agreed(&["hub", "app", "local"]);
    for store in ["hub", "app"] {
        place.sql(store, &format!("update items set name = '{store}' where id = 'I1'"));
    }
    place.run(&["apply", "-auto-approve"], 0);
    let asked = place.run(&["conflicts", "resolve", &place.conflict(), "--take", "app"], 1);
    place.manifests(&shell::manifests(&["hub", "app", "local"], "items", "name: string, extra: string"));
    let migrating = place.run(&["migrate"], 1);
    for said in [asked, migrating] {
        assert!(said.contains("give --auto-approve") && !said.contains("plan --out"), "{said}");
    }
}

#[test]
fn a_migration_that_fails_says_of_what_and_what_to_do() {
    let place = agreed(&["hub", "app", "local"]);
    place.manifests(&shell::manifests(&["hub", "app", "local"], "items", "name: string, extra: string"));
    place.sql("app", "drop table items; create view items as select 'I1' as id, 'name 1' as name");
    let said = place.run(&["migrate", "-auto-approve"], 1);
    assert!(said.contains("app") && said.contains("items") && said.contains("hint:"), "{said}");
    // The other stores have what they lacked.
    assert!(said.contains("Migration incomplete! 2 added."), "{said}");
    assert_eq!(
        place.text("local", "select count(*) || '' from pragma_table_info('items') where name = 'extra'"),
        "1"
    );
    // One that cannot even be looked at keeps nothing from the others, and where it is paused nobody waits for it.
    let file = place.path().join("stores/app.db");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    place.sql("hub", "alter table items drop column extra");
    let said = place.run(&["migrate", "-auto-approve"], 1);
    assert!(said.contains("is a folder") && said.contains("Migration incomplete! 1 added."), "{said}");
    assert!(place.run(&["migrate", "--print"], 1).contains("is a folder"));
    place.run(&["pause", "app", "--reason", "disk"], 0);
    let said = place.run(&["migrate"], 0);
    assert!(said.contains("app is paused (disk), and cannot be looked at: store `app`"), "{said}");
}
