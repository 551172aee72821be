//! Looking at what changed shows what looking at everything shows, whatever happened: every plan of a random history is made both ways.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tokio_util::sync::CancellationToken;
use trueup::controller::{Engine, PassOptions, Refresh};
use trueup::model::{
    Cell, ConflictId, EntityName, FieldName, Mapped, RecordId, RecordKey, StateId, StoreName, Timestamp,
    Value, Version,
};
use trueup::plan::{Notice, Plan, RecordPlan};
use trueup::reconcile::Ledger;
use trueup::spec::{Source, Spec, compile};
use trueup::state::memory::MemoryState;
use trueup::store::Store;
use trueup::store::memory::{MemoryDb, MemoryRow, MemoryStore};
use trueup::store::sqlite::{SqliteOptions, SqliteStore};
use trueup::telemetry::Silent;

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
metadata: {name: parents}
spec:
  key: {id: string}
  fields: {a: string, kind: {enum: [x, "y"]}}
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: children}
spec:
  key: {id: string}
  fields:
    parent: {type: string, references: parents, on_delete: cascade}
    note: string
---
apiVersion: trueup/v1
kind: Entity
metadata: {name: others}
spec:
  key: {id: string}
  fields: {a: string, kind: {enum: [x, "y"]}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: parents}
spec: {entity: parents, stores: {hub: {table: parents, fields: {"*": same}, sync: {columns: same}}, app: {table: parents, fields: {"*": same}, sync: {columns: same}}, local: {table: parents, fields: {"*": same}, sync: {columns: same}}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: children}
spec: {entity: children, stores: {hub: {table: children, fields: {"*": same}, sync: {columns: same}}, app: {table: children, fields: {"*": same}, sync: {columns: same}}, local: {table: children, fields: {"*": same}, sync: {columns: same}}}}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: others}
spec: {entity: others, stores: {hub: {table: others, fields: {"*": same}, sync: {columns: same}}, app: {table: others, fields: {"*": same}, sync: {columns: same}}, local: {table: others, fields: {a: same}}}}
"#;

const STORES: [&str; 3] = ["hub", "app", "local"];
const ENTITIES: [&str; 3] = ["parents", "children", "others"];

struct World {
    spec: Arc<Spec>,
    stores: BTreeMap<&'static str, Held>,
    engine: Engine,
}

/// A store, as other applications get at it.
enum Held {
    Memory(MemoryStore),
    File { file: rusqlite::Connection, _folder: tempfile::TempDir },
}

/// What `local` is.
#[derive(Clone, Copy, PartialEq)]
enum Local {
    Memory,
    File,
}

#[derive(Debug, Clone)]
enum Op {
    /// Sets a field of a record, which is made if it is not there; the version is raised by this much.
    Set(usize, usize, u8, &'static str, &'static str, i64),
    Delete(usize, usize, u8),
    /// A store goes away, or comes back.
    Reach(usize, bool),
    Pass,
    /// A pass that reads everything.
    Deep,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let place = || (0..ENTITIES.len(), 0..STORES.len(), 0..6_u8);
    let value = prop_oneof![Just("x"), Just("y"), Just("z"), Just("k0"), Just("k1"), Just("k7")];
    let field = prop_oneof![Just("a"), Just("kind"), Just("parent"), Just("note")];
    let set = (place(), field, value, 0..2_i64).prop_map(|((entity, store, key), field, value, raise)| {
        Op::Set(entity, store, key, field, value, raise)
    });
    let op = prop_oneof![
        12 => set,
        3 => place().prop_map(|(entity, store, key)| Op::Delete(entity, store, key)),
        1 => (1..STORES.len(), any::<bool>()).prop_map(|(store, there)| Op::Reach(store, there)),
        6 => Just(Op::Pass),
        1 => Just(Op::Deep),
    ];
    prop::collection::vec(op, 1..24)
}

impl World {
    async fn new(local: Local) -> Self {
        let source = Source { file: "world.yaml".to_owned(), text: MANIFESTS.to_owned() };
        let (spec, _) = compile(Path::new("."), &[source], &BTreeMap::new())
            .unwrap_or_else(|found| panic!("the manifests: {found:#?}"));
        let spec = Arc::new(spec);
        let (mut stores, mut opened) = (BTreeMap::new(), BTreeMap::new());
        for name in STORES {
            let name_of = StoreName::new(name).expect("a name");
            let mut mapped: Vec<Mapped> = ENTITIES.iter().map(|entity| mapped(&spec, entity, name)).collect();
            if name == "hub" {
                mapped.extend(Ledger::new(&name_of).all().into_iter().cloned());
            }
            let (held, store): (_, Arc<dyn Store>) = if name == "local" && local == Local::File {
                let folder = tempfile::tempdir().expect("a folder");
                let file = folder.path().join("local.db");
                let options = SqliteOptions { create: true, ..SqliteOptions::default() };
                let store = SqliteStore::open(name_of.clone(), &file, options).await.expect("opened");
                let steps = store.plan_migration(&mapped).await.expect("steps");
                store.migrate(&steps).await.expect("migrated");
                let theirs = rusqlite::Connection::open(&file).expect("opened");
                (Held::File { file: theirs, _folder: folder }, Arc::new(store))
            } else {
                let mut db = MemoryDb::new(name_of.clone()).with_tables(&mapped);
                db.tells_changes = true;
                let store = MemoryStore::with(db);
                (Held::Memory(store.clone()), Arc::new(store))
            };
            stores.insert(name, held);
            opened.insert(name_of, Ok(store));
        }
        let state = Arc::new(MemoryState::new(StateId("s".to_owned())));
        let engine = Engine::with(spec.clone(), opened, state);
        Self { spec, stores, engine }
    }

    fn act(&self, op: &Op) {
        match op {
            Op::Set(entity, store, number, field, value, raise) => {
                let mapped = mapped(&self.spec, ENTITIES[*entity], STORES[*store]);
                let field = FieldName::new(field).expect("a name");
                let Some(id) = mapped.entity.field_id(&field) else { return };
                let store = match &self.stores[STORES[*store]] {
                    Held::Memory(store) => store,
                    Held::File { file, .. } => {
                        let (table, key) = (ENTITIES[*entity], format!("k{number}"));
                        let make = format!("INSERT INTO {table} (id) VALUES (?) ON CONFLICT DO NOTHING");
                        file.execute(&make, [&key]).expect("made");
                        if mapped.mapping.fields.contains_key(&id) {
                            let set = format!("UPDATE {table} SET {field} = ? WHERE id = ?");
                            file.execute(&set, [*value, key.as_str()]).expect("set");
                        }
                        if *raise > 0 && mapped.mapping.has_sync() {
                            let raised = format!(
                                "UPDATE {table} SET version = ifnull(version, 0) + {raise} WHERE id = ?"
                            );
                            file.execute(&raised, [key]).expect("raised");
                        }
                        return;
                    }
                };
                let mut db = store.db();
                let mut row = db
                    .table(&mapped)
                    .and_then(|table| table.rows.get(&key(*number)))
                    .cloned()
                    .unwrap_or_default();
                row.fields.insert(field, Cell::Value(Value::text(*value)));
                if *raise > 0 {
                    row.meta.version = Some(Version(row.meta.version.unwrap_or_default().0 + raise));
                    row.meta.last_updated =
                        Timestamp::from_micros(1_700_000_000_000_000 + i64::from(*number));
                }
                db.put(&mapped, &key(*number), MemoryRow { ..row });
            }
            Op::Delete(entity, store, number) => {
                let mapped = mapped(&self.spec, ENTITIES[*entity], STORES[*store]);
                match &self.stores[STORES[*store]] {
                    Held::Memory(store) => drop(store.db().delete(&mapped, &key(*number))),
                    Held::File { file, .. } => {
                        let gone = format!("DELETE FROM {} WHERE id = ?", ENTITIES[*entity]);
                        file.execute(&gone, [format!("k{number}")]).expect("gone");
                    }
                }
            }
            Op::Reach(store, there) => match &self.stores[STORES[*store]] {
                Held::Memory(store) => store.db().faults.unreachable = !there,
                // A file is always there.
                Held::File { .. } => {}
            },
            Op::Pass | Op::Deep => {}
        }
    }

    async fn plan(&self, refresh: Refresh) -> Plan {
        let options = PassOptions { refresh, ..PassOptions::default() };
        self.engine.plan(&options, &Silent).await.expect("a plan")
    }

    /// Makes the plan both ways and compares them.
    async fn compare(&self, history: &[Op]) {
        let (changed, whole) = (self.plan(Refresh::Changed).await, self.plan(Refresh::Full).await);
        assert_eq!(shown(&changed), shown(&whole), "after {history:#?}");
        assert_eq!(changed.books, whole.books, "after {history:#?}");
        assert_eq!(told(&changed), told(&whole), "after {history:#?}");
        assert_eq!(changed.guards, whole.guards, "after {history:#?}");
        assert_eq!(changed.unsettled, whole.unsettled, "after {history:#?}");
    }
}

/// A plan's records without the times that it was made at.
fn shown(plan: &Plan) -> Vec<RecordPlan> {
    let mut records = plan.records.to_vec();
    for record in &mut records {
        let ids: Vec<_> = record.conflicts.iter_mut().chain(&mut record.closes).collect();
        for conflict in ids {
            // Its id is made from its content, the time included.
            conflict.id = ConflictId(String::new());
            conflict.created_at = Timestamp::EPOCH;
            conflict.resolved_at = None;
        }
        if let Some(tombstone) = &mut record.tombstone {
            tombstone.deleted_at = Timestamp::EPOCH;
        }
        for action in &mut record.actions {
            for error in action.meta_after.iter_mut().flat_map(|meta| &mut meta.sync_errors) {
                error.at = Timestamp::EPOCH;
            }
        }
    }
    records
}

/// A plan's notices without the ids of conflicts.
fn told(plan: &Plan) -> Vec<Notice> {
    let mut notices = plan.notices.clone();
    for notice in &mut notices {
        if let Some(at) = notice.message.find("conflicts resolve ") {
            notice.message.truncate(at);
        }
    }
    notices
}

fn key(number: u8) -> RecordKey {
    RecordKey::new(vec![format!("k{number}")])
}

fn mapped(spec: &Spec, entity: &str, store: &str) -> Mapped {
    let entity = EntityName::new(entity).expect("a name");
    let store = StoreName::new(store).expect("a name");
    Mapped {
        entity: spec.entity(&entity).expect("an entity").clone(),
        mapping: spec.mapping(&entity, &store).expect("mapped").clone(),
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

async fn play(local: Local, ops: &[Op]) {
    let world = World::new(local).await;
    for at in 0..ops.len() {
        world.act(&ops[at]);
        let refresh = match ops[at] {
            Op::Pass => Some(Refresh::Changed),
            Op::Deep => Some(Refresh::Full),
            _ => None,
        };
        if let Some(refresh) = refresh {
            let options = PassOptions { refresh, ..PassOptions::default() };
            world.engine.pass(&options, &Silent, &CancellationToken::new()).await.expect("a pass");
        }
        world.compare(&ops[..=at]).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn both_ways_of_looking_agree(ops in ops()) {
        runtime().block_on(play(Local::Memory, &ops));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn both_ways_of_looking_agree_with_a_file(ops in ops()) {
        runtime().block_on(play(Local::File, &ops));
    }
}

/// Found by chance: what a store held before our own delete, and holds again.
#[test]
fn a_row_that_is_made_again_as_it_was_is_seen() {
    let (set, gone) = (|store| Op::Set(2, store, 3, "a", "z", 0), Op::Delete(2, 0, 3));
    for local in [Local::Memory, Local::File] {
        runtime().block_on(play(local, &[set(0), Op::Pass, gone.clone(), Op::Pass, set(2)]));
    }
}

/// Found by chance: the pass that made it could not say where the stores stood, and it went before the next one could.
#[test]
fn a_row_that_came_and_went_since_the_stores_were_looked_at_is_seen() {
    let gone = |store| Op::Delete(0, store, 4);
    let (away, back) = (Op::Reach(2, false), Op::Reach(2, true));
    let ops = [Op::Pass, away, Op::Set(0, 0, 4, "a", "x", 0), Op::Pass, gone(0), gone(1), back];
    runtime().block_on(play(Local::Memory, &ops));
}

/// The pass that deletes looks at that record alone, and leaves where the stores stood.
#[test]
fn a_row_that_is_made_again_after_a_hinted_delete_is_seen() {
    runtime().block_on(async {
        let world = World::new(Local::Memory).await;
        let pass = async |options: PassOptions| {
            world.engine.pass(&options, &Silent, &CancellationToken::new()).await.expect("a pass")
        };
        world.act(&Op::Set(2, 0, 3, "a", "z", 0));
        pass(PassOptions::default()).await;
        pass(PassOptions::default()).await;
        world.act(&Op::Delete(2, 0, 3));
        let one = RecordId { entity: EntityName::new("others").expect("a name"), key: key(3) };
        let report = pass(PassOptions { only: Some([one].into()), ..PassOptions::default() }).await;
        assert_eq!((report.applied.delete, report.look_further), (2, false));
        world.act(&Op::Set(2, 2, 3, "a", "z", 0));
        world.compare(&[]).await;
        assert_eq!(world.plan(Refresh::Changed).await.records.len(), 1);
    });
}

/// A store that was away has a record still that was deleted meanwhile, and something new that refers to it. A look at that record alone does not
/// let it go.
#[test]
fn a_hint_at_a_record_whose_delete_is_pending_sees_what_refers_to_it() {
    runtime().block_on(async {
        let world = World::new(Local::Memory).await;
        let pass = async |options: PassOptions| {
            world.engine.pass(&options, &Silent, &CancellationToken::new()).await.expect("a pass")
        };
        world.act(&Op::Set(0, 0, 3, "a", "z", 0));
        pass(PassOptions::default()).await;
        world.act(&Op::Reach(2, false));
        world.act(&Op::Delete(0, 0, 3));
        pass(PassOptions::default()).await;
        world.act(&Op::Reach(2, true));
        world.act(&Op::Set(1, 2, 5, "parent", "k3", 0));
        let one = RecordId { entity: EntityName::new("parents").expect("a name"), key: key(3) };
        let report = pass(PassOptions { only: Some([one].into()), ..PassOptions::default() }).await;
        assert!(report.look_further, "{report:?}");
        pass(PassOptions::default()).await;
        pass(PassOptions::default()).await;
        for store in STORES {
            let Held::Memory(held) = &world.stores[store] else { continue };
            let parents = mapped(&world.spec, "parents", store);
            let there = held.db().table(&parents).is_some_and(|table| table.rows.contains_key(&key(3)));
            assert!(there, "{store}: somebody made one that refers to it");
        }
    });
}
