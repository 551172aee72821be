//! A state that was lost is rebuilt, however often that is cut short: a clear that nobody remembers is on record before a value takes its
//! place, what was met again is known from then on, and what was not meets for the first time.

mod watched;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, EngineError, PassOptions, Pause};
use trueup::model::StateId;
use trueup::plan::{NoticeKind, Target};
use trueup::reconcile::{Ledger, Report};
use trueup::state::StateError;
use trueup::state::memory::MemoryState;
use trueup::store::Store;
use trueup::store::memory::MemoryStore;
use trueup::telemetry::Silent;
use watched::{Change, Watch, Watched};
use world::{Stamp, THREE_STORES, World};

/// The owner of a state, who dies before or after one of its changes.
struct Mortal {
    left: AtomicUsize,
    died: Notify,
}

impl Mortal {
    /// Waits for ever where it is time to die.
    async fn pass_by(&self) {
        if self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err() {
            self.died.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Watch for Mortal {
    async fn note(&self, change: Change<'_>) -> Result<(), StateError> {
        self.commit(change).await
    }
    async fn commit(&self, change: Change<'_>) -> Result<(), StateError> {
        self.pass_by().await;
        change.await?;
        self.pass_by().await;
        Ok(())
    }
}

/// Three stores that agreed, an application's clears in one of them that no pass has seen, and no state any more.
struct Lost {
    world: World,
    engine: Engine,
    state: Arc<Watched<Mortal>>,
    stores: BTreeMap<&'static str, MemoryStore>,
}

const IDS: [&str; 4] = ["1", "2", "3", "4"];

impl Lost {
    fn new() -> Self {
        let small = |text: String, store: &str| {
            text.replace(
                &format!("{{name: {store}}}\nspec: {{"),
                &format!("{{name: {store}}}\nspec: {{limits: {{batch_size: 1}}, "),
            )
        };
        let text = ["hub", "app", "local"].into_iter().fold(THREE_STORES.to_owned(), small);
        let mut world = World::new(&text);
        for id in IDS {
            world.insert("hub", id, &[("a", "a0"), ("must", "m")], Stamp::None);
        }
        world.settle();
        for id in IDS {
            world.edit("app", id, "a", "null", Stamp::None);
        }
        let mut stores = BTreeMap::new();
        let mut opened = trueup::apply::Opened::new();
        for name in ["hub", "app", "local"] {
            let store = MemoryStore::with(world.stores[&world::store(name)].clone());
            opened.insert(world::store(name), Ok(Arc::new(store.clone()) as Arc<dyn Store>));
            stores.insert(name, store);
        }
        let inner = MemoryState::new(StateId("another".to_owned()));
        let watch = Mortal { left: AtomicUsize::new(usize::MAX), died: Notify::new() };
        let state = Arc::new(Watched { inner, watch });
        let engine = Engine::with(world.spec.clone(), opened, state.clone());
        Self { world, engine, state, stores }
    }

    async fn pass_with(&self, options: &PassOptions) -> Result<Report, EngineError> {
        self.engine.pass(options, &Silent, &CancellationToken::new()).await
    }

    /// A pass that is killed after so many steps of the state; whether it was.
    async fn killed_after(&self, steps: usize) -> bool {
        self.state.watch.left.store(steps, Ordering::SeqCst);
        let options = PassOptions::default();
        let killed = tokio::select! {
            biased;
            () = self.state.watch.died.notified() => true,
            done = self.pass_with(&options) => {
                done.expect("a pass");
                false
            }
        };
        self.state.watch.left.store(usize::MAX, Ordering::SeqCst);
        killed
    }

    async fn settle(&self) {
        for _ in 0..8 {
            let report = self.pass_with(&PassOptions::default()).await.expect("a pass");
            if report.is_clean() && report.pass.is_none() {
                return;
            }
        }
        panic!("passes go on writing");
    }

    fn get(&self, at: &str, id: &str) -> String {
        let mapped = self.world.mapped("things", at);
        let db = self.stores[at].db();
        let row = db.table(&mapped).and_then(|table| table.rows.get(&world::key(id)));
        row.map_or("-".to_owned(), |row| {
            row.fields
                .get(&world::field("a"))
                .and_then(|cell| cell.value())
                .and_then(|value| value.as_text())
                .unwrap_or("null")
                .to_owned()
        })
    }

    fn everywhere(&self, id: &str) -> [String; 3] {
        ["hub", "app", "local"].map(|at| self.get(at, id))
    }

    /// The records of which a clear in the application's store is on record.
    fn cleared(&self) -> BTreeSet<String> {
        let ledger = Ledger::new(&world::store("hub"));
        let rows = self.stores["hub"].db().snapshot(&ledger.conflicts).expect("readable").rows;
        let conflicts = rows.iter().filter_map(|row| ledger.conflict_of(row));
        let of_app = conflicts.filter(|conflict| {
            conflict.sides.iter().any(|side| {
                side.store == world::store("app")
                    && side.values.get(&world::field("a")).is_some_and(trueup::model::Value::is_null)
            })
        });
        of_app.map(|conflict| conflict.record.key.parts().join("/")).collect()
    }

    async fn rebuilding(&self) -> usize {
        let plan = self.engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
        plan.notices.iter().filter(|notice| notice.kind == NoticeKind::Rebuilding).count()
    }
}

fn all() -> BTreeSet<String> {
    IDS.map(ToOwned::to_owned).into()
}

#[tokio::test]
async fn clears_are_on_record_after_a_rebuild_killed_at_any_moment() {
    for steps in 0.. {
        let lost = Lost::new();
        let killed = lost.killed_after(steps).await;
        lost.settle().await;
        for id in IDS {
            assert_eq!(lost.everywhere(id), ["a0"; 3], "{id}, killed after {steps} steps");
        }
        assert_eq!(lost.cleared(), all(), "killed after {steps} steps");
        assert_eq!(lost.rebuilding().await, 0, "killed after {steps} steps");
        if !killed {
            assert!(steps > 20, "{steps} steps are no rebuild");
            return;
        }
    }
}

#[tokio::test]
async fn a_rebuild_killed_twice_ends_all_the_same() {
    for steps in [2, 5, 9, 14, 20] {
        let lost = Lost::new();
        assert!(lost.killed_after(steps).await);
        lost.killed_after(steps).await;
        lost.settle().await;
        assert_eq!(lost.cleared(), all(), "killed after {steps} steps, twice");
    }
}

#[tokio::test]
async fn a_pass_with_targets_ends_no_rebuild() {
    let lost = Lost::new();
    let target = Target { entity: world::entity("things"), key: Some(world::key("1")) };
    let options = PassOptions { targets: vec![target], ..PassOptions::default() };
    lost.pass_with(&options).await.expect("a pass");
    assert_eq!(lost.cleared(), ["1".to_owned()].into());
    assert_eq!(lost.rebuilding().await, 3, "in every store");
    // What was met is remembered: a clear of it is an edit again. A delete of it is one, and of what was not met it cannot be.
    let mapped = lost.world.mapped("things", "app");
    lost.stores["app"].db().edit(&mapped, &world::key("1"), |row| {
        row.fields.insert(world::field("a"), trueup::model::Cell::Value(trueup::model::Value::Null));
    });
    lost.stores["app"].db().delete(&mapped, &world::key("2"));
    lost.settle().await;
    assert_eq!(lost.everywhere("1"), ["null"; 3], "cleared since");
    assert_eq!(lost.everywhere("2"), ["a0"; 3], "nobody knew it there");
    assert_eq!(lost.everywhere("3"), ["a0"; 3]);
    let with_rows = ["1", "3", "4"].map(ToOwned::to_owned).into();
    assert_eq!(lost.cleared(), with_rows);
    assert_eq!(lost.rebuilding().await, 0);
    lost.stores["app"].db().delete(&mapped, &world::key("2"));
    lost.settle().await;
    assert_eq!(lost.everywhere("2"), ["-"; 3], "a delete like any other");
}

#[tokio::test]
async fn neither_a_pause_nor_a_store_that_is_down_lets_a_rebuild_end_there() {
    let lost = Lost::new();
    lost.stores["app"].db().faults.unreachable = true;
    lost.pass_with(&PassOptions::default()).await.expect("a pass");
    assert_eq!(lost.cleared(), BTreeSet::new());
    assert_eq!(lost.rebuilding().await, 1, "where the store is down");
    lost.stores["app"].db().faults.unreachable = false;
    let pause = Pause {
        store: None,
        entity: Some(world::entity("things")),
        key: Some(world::key("3")),
        reason: "hands off".to_owned(),
        by: "Zoe Sample".to_owned(),
        since: lost.engine.now(),
        until: None,
    };
    lost.engine.pause(&pause).await.expect("paused");
    lost.pass_with(&PassOptions::default()).await.expect("a pass");
    assert_eq!(lost.get("app", "3"), "null");
    assert_eq!(lost.rebuilding().await, 1, "where something is paused");
    lost.engine.resume(&pause.address()).await.expect("resumed");
    lost.settle().await;
    assert_eq!(lost.cleared(), all());
    assert_eq!(lost.rebuilding().await, 0);
}

#[tokio::test]
async fn a_pass_that_is_stopped_ends_no_rebuild() {
    let lost = Lost::new();
    let stop = CancellationToken::new();
    stop.cancel();
    let report = lost.engine.pass(&PassOptions::default(), &Silent, &stop).await.expect("a pass");
    assert!(report.stopped);
    assert_eq!(lost.rebuilding().await, 3);
    lost.settle().await;
    assert_eq!(lost.cleared(), all());
    assert_eq!(lost.rebuilding().await, 0);
}

#[tokio::test]
async fn an_older_copy_of_the_state_is_rebuilt_to_the_end_as_well() {
    // A copy has the same id: once the next pass is announced under it, nothing but the marker says that it forgot everything.
    for steps in 0.. {
        let lost = Lost::new();
        lost.settle().await;
        let copy = lost.state.inner.data().clone();
        let mapped = lost.world.mapped("things", "app");
        for id in IDS {
            lost.stores["app"].db().edit(&mapped, &world::key(id), |row| {
                row.fields.insert(world::field("a"), trueup::model::Cell::Value(world::text("a1")));
            });
        }
        lost.settle().await;
        *lost.state.inner.data() = copy;
        let before = conflicts(&lost);
        for id in IDS {
            lost.stores["app"].db().edit(&mapped, &world::key(id), |row| {
                row.fields.insert(world::field("a"), trueup::model::Cell::Value(trueup::model::Value::Null));
            });
        }
        let killed = lost.killed_after(steps).await;
        lost.settle().await;
        assert_eq!(conflicts(&lost), before + IDS.len(), "killed after {steps} steps");
        if !killed {
            return;
        }
    }
}

fn conflicts(lost: &Lost) -> usize {
    let ledger = Ledger::new(&world::store("hub"));
    lost.stores["hub"].db().snapshot(&ledger.conflicts).expect("readable").rows.len()
}
