//! The same through the engine, with stores behind their trait: rows without keys, a person's word, and what a plan says of it.

#[path = "identity/crm.rs"]
mod crm;
mod world;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, PassOptions};
use trueup::model::{EntityName, RecordKey, StateId, StoreRecordId};
use trueup::plan::{Rates, RenderOptions, json::plan_json, render};
use trueup::state::State as _;
use trueup::state::memory::MemoryState;
use trueup::store::Store;
use trueup::store::memory::MemoryStore;
use trueup::telemetry::Silent;

struct Bench {
    engine: Engine,
    state: Arc<MemoryState>,
    stores: BTreeMap<String, MemoryStore>,
    world: world::World,
}

fn bench(prepare: impl FnOnce(&mut world::World)) -> Bench {
    let mut world = crm::world();
    prepare(&mut world);
    let mut stores = BTreeMap::new();
    let mut opened = trueup::apply::Opened::new();
    for (name, db) in &world.stores {
        let store = MemoryStore::with(db.clone());
        opened.insert(name.clone(), Ok(Arc::new(store.clone()) as Arc<dyn Store>));
        stores.insert(name.to_string(), store);
    }
    let state = Arc::new(MemoryState::new(StateId("state".to_owned())));
    Bench { engine: Engine::with(world.spec.clone(), opened, state.clone()), state, stores, world }
}

impl Bench {
    async fn pass(&self) -> trueup::reconcile::Report {
        let stop = CancellationToken::new();
        self.engine.pass(&PassOptions::default(), &Silent, &stop).await.expect("a pass")
    }

    async fn settle(&self) {
        for _ in 0..6 {
            if self.pass().await.pass.is_none() {
                return;
            }
        }
        panic!("passes go on writing");
    }

    fn keys(&self) -> Vec<(String, String)> {
        let mapped = self.world.mapped("people", "crm");
        let db = self.stores["crm"].db();
        let all = db.objects(&mapped).into_iter().flatten();
        all.map(|(id, object)| {
            (id.0.clone(), object.key.as_ref().map_or("-".to_owned(), |key| key.parts().join("/")))
        })
        .collect()
    }
}

fn people() -> EntityName {
    EntityName::new("people").expect("a name")
}

#[tokio::test]
async fn the_engine_knows_rows_again_and_takes_a_persons_word() {
    let bench = bench(|world| {
        for key in ["P1", "P2", "P3"] {
            world.put("hub", "people", &[key], &[("name", key)]);
        }
        for (rid, person) in [("R1", "P1"), ("R2", "P2")] {
            let fields = [
                ("person", person),
                ("kind", "email"),
                ("value", "us@example.com"),
                ("normal", "us@example.com"),
            ];
            world.put("hub", "reach", &[rid], &fields);
        }
        let fields =
            [("person", "P3"), ("kind", "email"), ("value", "p3@example.com"), ("normal", "p3@example.com")];
        world.put("hub", "reach", &["R3"], &fields);
        world.make("crm", "people", "x1", &[("name", "P3 there")], &[("reach", "email", "p3@example.com")]);
        world.make("crm", "people", "x2", &[("name", "One of two")], &[("reach", "email", "us@example.com")]);
        world.make("crm", "people", "x3", &[("name", "New")], &[("reach", "email", "new@example.com")]);
        for twin in ["x4", "x5"] {
            world.make("crm", "people", twin, &[("name", "Twin")], &[("reach", "email", "twin@example.com")]);
        }
    });
    let plan = bench.engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
    let text = render(&plan, &RenderOptions::default());
    let line = "people in crm: 1 linked by reach.email; 1 new; 3 held, 2 of them like another row there";
    assert!(text.contains(line), "{text}");
    let json = plan_json(&plan, &Rates::default());
    assert_eq!(json["identity"]["people"]["crm"]["linked"]["reach.email"], 1, "{json}");
    assert_eq!(json["identity"]["people"]["crm"]["waiting"].as_array().map(Vec::len), Some(3));
    bench.settle().await;
    assert!(bench.keys().contains(&("x1".to_owned(), "P3".to_owned())), "{:?}", bench.keys());
    let (store, id) = (world::store("crm"), |id: &str| StoreRecordId(id.to_owned()));
    // While another one is at work nothing that is seen is sure to stay so.
    let (now, later) = (bench.engine.now(), bench.engine.now().saturating_add_micros(60_000_000));
    bench.state.acquire("another", now, later).await.expect("the lease");
    let busy = bench.engine.identify(&people(), &store, &id("nobody"), None, 0).await;
    assert!(busy.is_err_and(|error| error.message.contains("another")), "it is not even looked");
    bench.state.release("another").await.expect("given up");
    let wrong = bench.engine.identify(&people(), &store, &id("nobody"), None, 0).await;
    assert!(wrong.is_err_and(|error| error.message.contains("waits")));
    let taken = bench.engine.identify(&people(), &store, &id("x2"), Some(world::key("P3")), 0).await;
    assert!(taken.is_err_and(|error| error.message.contains("already")));
    bench.engine.identify(&people(), &store, &id("x2"), Some(world::key("P2")), 0).await.expect("linked");
    let own = bench.engine.identify(&people(), &store, &id("x4"), None, 0).await.expect("split");
    bench.settle().await;
    let keys: BTreeMap<String, String> = bench.keys().into_iter().collect();
    assert_eq!(keys["x2"], "P2");
    assert_eq!(RecordKey::new(vec![keys["x4"].clone()]), own.key);
    assert_eq!(keys["x5"], "-", "the other twin looks like the first one now, and still waits: {keys:?}");
    bench.engine.identify(&people(), &store, &id("x5"), None, 0).await.expect("split");
    bench.settle().await;
    assert!(bench.keys().iter().all(|(_, key)| key != "-"), "{:?}", bench.keys());
    assert_eq!(
        bench.keys().len(),
        6,
        "P1 is made there once it is known that x2 is not theirs: {:?}",
        bench.keys()
    );
    let plan = bench.engine.plan(&PassOptions::default(), &Silent).await.expect("a plan");
    assert!(plan.is_empty() && plan.meetings.is_empty(), "{:?}", plan.meetings);
}
