//! Three stores in memory under the real loop, on a clock that jumps.
#![allow(unreachable_pub)] // A module of tests.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, Inbox, Pause, Reload, RunOptions, Running, run};
use trueup::diff::Standing;
use trueup::http::Health;
use trueup::model::{
    Cell, EntityName, FieldName, Mapped, RecordId, RecordKey, StateId, StoreName, Timestamp, Value, Version,
};
use trueup::reconcile::Ledger;
use trueup::spec::{Source, Spec, compile};
use trueup::state::memory::MemoryState;
use trueup::state::{State as _, StateError};
use trueup::store::Store;
use trueup::store::memory::{MemoryDb, MemoryRow, MemoryStore};
use trueup::telemetry::{Event, Observer, WriteResult};

#[path = "../watched/mod.rs"]
mod watched;

use watched::{Change, Watch, Watched};

pub const STORES: [&str; 3] = ["hub", "app", "local"];

/// 2026-06-21T00:00:00Z.
const BEGIN: i64 = 1_782_000_000_000_000;

const MANIFESTS: &str = r#"
apiVersion: trueup/v1
kind: Store
metadata: {name: hub}
spec: {canonical: true, memory: {}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: app}
spec: {memory: {}}
---
apiVersion: trueup/v1
kind: Store
metadata: {name: local}
spec: {memory: {}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: things}
spec:
  key: {id: string}
  fields: {a: string, b: string}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: things}
spec: {entity: things, stores: {hub: {table: things, fields: {"*": same}, sync: {columns: same}}, app: {table: things, fields: {"*": same}, sync: {columns: same}}, local: {table: things, fields: {"*": same}, sync: {columns: same}}}}
---
apiVersion: trueup/v1
kind: Controller
metadata: {name: controller}
spec:
  interval: 60s
  deep_check_interval: 1h
  guards: {max_deletes: DELETES, max_updates: 100%}
"#;

fn store(name: &str) -> StoreName {
    StoreName::new(name).unwrap()
}

fn field(name: &str) -> FieldName {
    FieldName::new(name).unwrap()
}

/// What was told of.
#[derive(Default)]
pub struct Told(Mutex<Notes>);

#[derive(Default)]
struct Notes {
    rows: u64,
    alone: u64,
    widened: u64,
    queue: usize,
    paused: u64,
    approval: Option<String>,
    breaks: u64,
    failures: u64,
    store_failures: u64,
    passes: u64,
    failed_passes: BTreeMap<String, u64>,
}

impl Told {
    fn get<T>(&self, of: impl FnOnce(&Notes) -> T) -> T {
        of(&self.0.lock().unwrap())
    }
    pub fn rows(&self) -> u64 {
        self.get(|notes| notes.rows)
    }
    pub fn looks(&self) -> (u64, u64) {
        self.get(|notes| (notes.alone, notes.widened))
    }
    pub fn queue(&self) -> usize {
        self.get(|notes| notes.queue)
    }
    pub fn paused_records(&self) -> u64 {
        self.get(|notes| notes.paused)
    }
    pub fn approval(&self) -> Option<String> {
        self.get(|notes| notes.approval.clone())
    }
    pub fn breaks(&self) -> u64 {
        self.get(|notes| notes.breaks)
    }
    pub fn failures(&self) -> u64 {
        self.get(|notes| notes.failures)
    }
    pub fn store_failures(&self) -> u64 {
        self.get(|notes| notes.store_failures)
    }
}

impl Observer for Told {
    fn notice(&self, event: &Event<'_>) {
        let mut notes = self.0.lock().unwrap();
        match event {
            // Tables that trueup keeps for itself are read by every look.
            Event::RowsRead { rows, .. } => notes.rows += rows,
            Event::LookedAt { alone: true, .. } => notes.alone += 1,
            Event::LookedAt { alone: false, .. } => notes.widened += 1,
            Event::Loop { queue, .. } => notes.queue = *queue,
            Event::Planned { plan } => notes.approval = plan.approvals.values().next().cloned(),
            Event::Breaker { .. } => notes.breaks += 1,
            Event::Wrote { result: WriteResult::Failed(_), .. } => notes.failures += 1,
            Event::StoreFailed { .. } => notes.store_failures += 1,
            Event::PassEnded { report, .. } => {
                notes.passes += 1;
                let books = report.books.values().flat_map(BTreeMap::values);
                notes.paused = books.map(|books| books.count(Standing::Paused)).sum();
            }
            Event::PassFailed { message, .. } => {
                *notes.failed_passes.entry((*message).to_owned()).or_default() += 1;
            }
            _ => {}
        }
    }
}

/// The user of a state, who may die in the middle of a change: nothing is ever answered again.
struct Deadly {
    /// Changes until the end; below zero, none.
    lives: Arc<AtomicI64>,
    holder: String,
    holders: Arc<Mutex<Vec<String>>>,
    /// How long a look takes, in seconds.
    look_seconds: Arc<AtomicU64>,
}

#[async_trait]
impl Watch for Deadly {
    async fn look(&self) {
        tokio::time::sleep(Duration::from_secs(self.look_seconds.load(Ordering::Relaxed))).await;
    }
    async fn commit(&self, change: Change<'_>) -> Result<(), StateError> {
        {
            let mut holders = self.holders.lock().unwrap();
            if holders.last() != Some(&self.holder) {
                holders.push(self.holder.clone());
            }
        }
        let lives = self.lives.load(Ordering::Relaxed);
        if lives < 0 {
            return change.await;
        }
        self.lives.store(lives - 1, Ordering::Relaxed);
        // Half of those who die do so just after the change, before they hear of it.
        if lives > 1 || lives % 2 == 1 {
            change.await?;
        }
        if lives <= 1 {
            std::future::pending::<()>().await;
        }
        Ok(())
    }
}

/// Stores, a state and a clock.
#[derive(Clone)]
pub struct World {
    spec: Arc<Spec>,
    stores: BTreeMap<&'static str, MemoryStore>,
    state: MemoryState,
    pub told: Arc<Told>,
    pub inbox: Arc<Inbox>,
    began: Instant,
    lives: Arc<AtomicI64>,
    holders: Arc<Mutex<Vec<String>>>,
    look_seconds: Arc<AtomicU64>,
    stamps: Arc<AtomicI64>,
}

impl World {
    pub fn new(records: usize) -> Self {
        Self::with(records, "100%")
    }

    /// With the usual guard against deletes.
    pub fn guarded(records: usize) -> Self {
        Self::with(records, "10%")
    }

    fn with(records: usize, deletes: &str) -> Self {
        let text = MANIFESTS.replace("DELETES", deletes);
        let source = Source { file: "hours.yaml".to_owned(), text };
        let (spec, _) = compile(Path::new("."), &[source], &BTreeMap::new())
            .unwrap_or_else(|found| panic!("the manifests: {found:#?}"));
        let spec = Arc::new(spec);
        let mut stores = BTreeMap::new();
        for name in STORES {
            let of_entity = mapped(&spec, name);
            let mut all = vec![of_entity.clone()];
            if name == "hub" {
                all.extend(Ledger::new(&store(name)).all().into_iter().cloned());
            }
            let mut db = MemoryDb::new(store(name)).with_tables(&all);
            db.tells_changes = true;
            for number in 0..records {
                let mut row = MemoryRow::default();
                for (name, letter) in [("a", 'a'), ("b", 'b')] {
                    row.fields.insert(field(name), Cell::Value(Value::text(format!("{letter}{number}"))));
                }
                row.meta.version = Some(Version(1));
                row.meta.last_updated = Timestamp::from_micros(BEGIN - 1_000_000);
                db.put(&of_entity, &key(number), row);
            }
            stores.insert(name, MemoryStore::with(db));
        }
        Self {
            spec,
            stores,
            state: MemoryState::new(StateId("s".to_owned())),
            told: Arc::default(),
            inbox: Arc::default(),
            began: Instant::now(),
            lives: Arc::new(AtomicI64::new(-1)),
            holders: Arc::default(),
            look_seconds: Arc::default(),
            stamps: Arc::new(AtomicI64::new(0)),
        }
    }

    pub fn now(&self) -> Timestamp {
        let micros = i64::try_from(self.began.elapsed().as_micros()).unwrap();
        Timestamp::from_micros(BEGIN + micros).unwrap()
    }

    pub fn engine(&self, holder: &str) -> Arc<Engine> {
        let opened = self
            .stores
            .values()
            .map(|store| (store.name().clone(), Ok(Arc::new(store.clone()) as Arc<dyn Store>)))
            .collect();
        let watch = Deadly {
            lives: self.lives.clone(),
            holder: holder.to_owned(),
            holders: self.holders.clone(),
            look_seconds: self.look_seconds.clone(),
        };
        let state = Watched { inner: self.state.clone(), watch };
        let clock = self.clone();
        let engine = Engine::with(self.spec.clone(), opened, Arc::new(state));
        Arc::new(engine.simulated(holder, Arc::new(move || clock.now())))
    }

    /// Leaves what a controller says that makes the passes, at some seconds from now and for a minute.
    pub async fn leave_word(&self, holder: &str, seconds: i64) {
        let at = |seconds: i64| self.now().saturating_add_micros(seconds * 1_000_000);
        let word = serde_json::json!({"holder": holder, "since": at(seconds), "until": at(seconds + 60)});
        let notes = BTreeMap::from([("one".to_owned(), Some(word.to_string()))]);
        self.state.note("leader", &notes).await.unwrap();
    }

    /// The next change of the state is never answered.
    pub fn hang_up(&self) {
        self.lives.store(0, Ordering::Relaxed);
    }

    /// Makes looks take so long from now on.
    pub fn slow_down(&self, look: Duration) {
        self.look_seconds.store(look.as_secs(), Ordering::Relaxed);
    }

    /// Starts a controller.
    pub fn start(&self, holder: &str, stop: &CancellationToken) -> JoinHandle<()> {
        let (_news, reloads) = tokio::sync::mpsc::channel(1);
        self.start_reloading(holder, stop, reloads, &Arc::default())
    }

    /// Starts a controller that is told of other manifests; `changes` counts those that it took.
    pub fn start_reloading(
        &self,
        holder: &str,
        stop: &CancellationToken,
        reloads: tokio::sync::mpsc::Receiver<Reload>,
        changes: &Arc<AtomicU64>,
    ) -> JoinHandle<()> {
        let (world, stop, changes) = (self.clone(), stop.clone(), changes.clone());
        let engine = self.engine(holder);
        tokio::spawn(async move {
            let health = Health::new(Duration::from_mins(1));
            let running = Running {
                engine,
                inbox: &world.inbox,
                health: &health,
                observer: &*world.told,
                reloads,
                changed: &|_| {
                    changes.fetch_add(1, Ordering::Relaxed);
                },
                stop,
            };
            run(running, &RunOptions { seed: 7, ..RunOptions::default() }).await;
        })
    }

    /// The holders that changed the state, in turn.
    #[allow(clippy::unused_self)] // As its siblings.
    pub fn record(&self, number: usize) -> RecordId {
        RecordId { entity: EntityName::new("things").unwrap(), key: key(number) }
    }

    /// An application edits a record, as one that keeps the sync metadata does.
    pub fn edit(&self, at: &str, number: usize, name: &str, value: &str) -> Option<String> {
        let mapped = mapped(&self.spec, at);
        // No two edits have the same time.
        let stamp = self.stamps.fetch_add(1, Ordering::Relaxed) % 1000;
        // Nor is any in the future: such a time would settle nothing.
        let now = self.now().saturating_add_micros(stamp - 1000);
        let mut before = None;
        let edited = self.stores[at].db().edit(&mapped, &key(number), |row| {
            before = row.fields.get(&field(name)).and_then(Cell::value).map(Value::to_string);
            row.fields.insert(field(name), Cell::Value(Value::text(value)));
            row.meta.version = Some(Version(row.meta.version.unwrap_or_default().0 + 1));
            row.meta.last_updated = Some(now);
            row.meta.last_updated_by = Some(at.into());
        });
        if edited { before } else { None }
    }

    pub fn delete(&self, at: &str, number: usize) {
        self.stores[at].db().delete(&mapped(&self.spec, at), &key(number));
    }

    pub fn refuse(&self, at: &str, number: usize, refused: bool) {
        let place = (EntityName::new("things").unwrap(), key(number));
        let mut db = self.stores[at].db();
        if refused {
            db.faults.refuse.insert(place)
        } else {
            db.faults.refuse.remove(&place)
        };
    }

    pub fn reach(&self, at: &str, reachable: bool) {
        self.stores[at].db().faults.unreachable = !reachable;
    }

    pub fn count(&self, at: &str) -> usize {
        self.stores[at].db().table(&mapped(&self.spec, at)).map_or(0, |table| table.rows.len())
    }

    fn get(&self, at: &str, number: usize, name: &str) -> String {
        let db = self.stores[at].db();
        let row = db.table(&mapped(&self.spec, at)).and_then(|table| table.rows.get(&key(number)).cloned());
        let value =
            row.and_then(|row| row.fields.get(&field(name)).and_then(Cell::value).map(Value::to_string));
        value.unwrap_or_else(|| "-".to_owned()).trim_matches('"').to_owned()
    }

    pub fn everywhere(&self, number: usize, name: &str) -> [String; 3] {
        STORES.map(|at| self.get(at, number, name))
    }

    pub async fn pause(&self, at: &str, entity: Option<&str>, number: Option<usize>, seconds: Option<i64>) {
        let since = self.now();
        let pause = Pause {
            store: (!at.is_empty()).then(|| store(at)),
            entity: entity.map(|name| EntityName::new(name).unwrap()),
            key: number.map(key),
            reason: "a trial".to_owned(),
            by: "somebody".to_owned(),
            since,
            until: seconds.map(|seconds| since.saturating_add_micros(seconds * 1_000_000)),
        };
        self.engine("somebody").pause(&pause).await.unwrap();
    }

    /// How many conflicts and tombstones are on record.
    pub fn on_record(&self) -> (usize, usize) {
        let ledger = Ledger::new(&store("hub"));
        let db = self.stores["hub"].db();
        let count = |mapped: &Mapped| db.table(mapped).map_or(0, |table| table.rows.len());
        (count(&ledger.conflicts), count(&ledger.tombstones))
    }

    fn conflicts(&self) -> String {
        let ledger = Ledger::new(&store("hub"));
        let db = self.stores["hub"].db();
        db.table(&ledger.conflicts).map(|table| format!("{:?}", table.rows)).unwrap_or_default()
    }
}

impl World {
    pub fn holders(&self) -> Vec<String> {
        self.holders.lock().unwrap().clone()
    }
}

fn mapped(spec: &Spec, at: &str) -> Mapped {
    let entity = spec.entities[0].clone();
    let mapping = spec.mapping(&entity.name, &store(at)).unwrap().clone();
    Mapped { entity, mapping }
}

fn key(number: usize) -> RecordKey {
    RecordKey::new(vec![number.to_string()])
}

/// A life of a controller with everything that happens to it.
pub struct Hours {
    world: World,
    random: u64,
    records: usize,
    edits: usize,
    /// Every edit's text, and the text that it replaced before its author's eyes.
    replaced: BTreeMap<String, Option<String>>,
    lifes: usize,
    outages: usize,
    running: JoinHandle<()>,
    stop: CancellationToken,
}

impl Hours {
    pub fn new(seed: u64, records: usize) -> Self {
        let world = World::new(records);
        let stop = CancellationToken::new();
        let running = world.start("life 1", &stop);
        Self {
            world,
            random: seed,
            records,
            edits: 0,
            replaced: BTreeMap::new(),
            lifes: 1,
            outages: 0,
            running,
            stop,
        }
    }

    /// A number below another one.
    fn below(&mut self, end: usize) -> usize {
        // Numerical Recipes' generator; its upper bits are good.
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap() % end
    }

    pub async fn live_through(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            let wait = self.below(40_000);
            tokio::time::sleep(Duration::from_millis(wait as u64)).await;
            match self.below(100) {
                0..85 => self.edit(),
                85..91 => self.outage(),
                91..95 => self.fault(),
                _ => self.kill().await,
            }
        }
    }

    fn edit(&mut self) {
        let (at, number, name) = (STORES[self.below(3)], self.below(self.records), ["a", "b"][self.below(2)]);
        self.edits += 1;
        let text = format!("e{:05}", self.edits);
        let before = self.world.edit(at, number, name, &text);
        let before = before.map(|before| before.trim_matches('"').to_owned());
        self.replaced.insert(text, before.filter(|before| before.starts_with('e')));
        if self.below(2) == 0 {
            self.world.inbox.record(self.world.record(number));
        }
    }

    fn outage(&mut self) {
        let at = STORES[self.below(3)];
        let mut db = self.world.stores[at].db();
        db.faults.unreachable = !db.faults.unreachable;
        self.outages += 1;
    }

    fn fault(&mut self) {
        let (at, kind) = (STORES[self.below(3)], self.below(2));
        let mut db = self.world.stores[at].db();
        if kind == 0 { db.faults.lose_answers = 1 } else { db.faults.fail_batches = 1 }
    }

    /// The controller dies in the middle of one of its next changes, and another one begins.
    async fn kill(&mut self) {
        let lives = self.below(8);
        self.world.lives.store(i64::try_from(lives).unwrap(), Ordering::Relaxed);
        self.edit();
        tokio::time::sleep(Duration::from_secs(90)).await;
        self.running.abort();
        // It was told to end.
        let _ = (&mut self.running).await;
        self.world.lives.store(-1, Ordering::Relaxed);
        self.lifes += 1;
        self.running = self.world.start(&format!("life {}", self.lifes), &self.stop);
    }

    /// Faults end; then everything agrees, nothing is lost, and nothing waits.
    pub async fn come_to_rest(&mut self) -> String {
        for at in STORES {
            let mut db = self.world.stores[at].db();
            db.faults.unreachable = false;
            db.faults.lose_answers = 0;
            db.faults.fail_batches = 0;
        }
        tokio::time::sleep(Duration::from_mins(15)).await;
        let writes =
            |world: &World| -> u64 { STORES.iter().map(|at| world.stores[at].db().writes_applied).sum() };
        let before = writes(&self.world);
        tokio::time::sleep(Duration::from_mins(5)).await;
        let world = &self.world;
        assert_eq!(writes(world), before, "passes go on writing");
        let plan = world
            .engine("somebody")
            .plan(
                &trueup::controller::PassOptions {
                    refresh: trueup::controller::Refresh::Full,
                    ..Default::default()
                },
                &*world.told,
            )
            .await
            .unwrap();
        let standing = format!(
            "to do {:?}, noted {:?}, pauses {:?}, guards {:?}",
            plan.totals(),
            plan.notices,
            world.engine("somebody").pauses().await.unwrap(),
            plan.guards
        );
        // What nothing decides waits for a person, by name: an edit that was made while the clock stood still, say.
        let held: BTreeSet<(String, String)> = plan
            .notices
            .iter()
            .filter(|notice| notice.kind.as_str() == "held")
            .filter_map(|notice| {
                Some((notice.record.as_ref()?.to_string(), notice.field.as_ref()?.to_string()))
            })
            .collect();
        assert!(held.len() <= 3 && held.len() == plan.notices.len(), "{:?}", plan.notices);
        let mut canonical = String::new();
        for number in 0..self.records {
            for name in ["a", "b"] {
                let everywhere = world.everywhere(number, name);
                let different: BTreeSet<&String> = everywhere.iter().collect();
                let remembered = world.state.data().recall(&world.record(number)).cloned();
                let of = |at: &str| {
                    let db = world.stores[at].db();
                    let table = db.table(&mapped(&world.spec, at));
                    table.and_then(|table| table.rows.get(&key(number)).cloned())
                };
                let waits = held.contains(&(world.record(number).to_string(), name.to_owned()));
                assert!(
                    different.len() == 1 || waits,
                    "{name} of {number} differs: {everywhere:?}; {standing}; {:#?} {remembered:#?}",
                    STORES.map(of)
                );
                canonical.push_str(&everywhere[0]);
                canonical.push(' ');
            }
        }
        let lost = self.lost(&format!("{canonical}{}", world.conflicts()));
        assert!(lost.is_empty(), "lost: {lost:?}");
        assert_eq!((world.inbox.len(), world.told.queue()), (0, 0), "the queue");
        let errors = world.engine("somebody").errors().await.unwrap();
        assert!(errors.iter().all(|error| error.kind == "held"), "{errors:?}");
        self.stop.cancel();
        (&mut self.running).await.unwrap();
        let (alone, widened) = world.told.looks();
        world.told.get(|notes| {
            format!(
                "{} edits, {} lives, {} outages begun or ended; {} passes, {alone} looks alone and {widened} widened, failed \
                 passes: {:?}",
                self.edits, self.lifes, self.outages, notes.passes, notes.failed_passes
            )
        })
    }

    /// The edits that nothing accounts for.
    fn lost(&self, surviving: &str) -> Vec<String> {
        let mut accounted: BTreeSet<&String> = BTreeSet::new();
        for text in self.replaced.keys().filter(|text| surviving.contains(text.as_str())) {
            let mut next = Some(text);
            while let Some(text) = next.filter(|text| !accounted.contains(text)) {
                accounted.insert(text);
                next = self.replaced.get(text).and_then(Option::as_ref);
            }
        }
        self.replaced.keys().filter(|text| !accounted.contains(text)).cloned().collect()
    }
}
