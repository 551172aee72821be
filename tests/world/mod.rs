//! A world in memory: stores, a state and a clock of its own, in which passes run effect by effect and can die between any
//! two of them.
#![allow(dead_code, unreachable_pub)] // Each test file uses a part of it.

pub mod edits;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use trueup::identity::{Identified, Identify};
use trueup::model::{
    Cell, EntityName, ErrorKind, FieldName, Mapped, Presence, RecordId, RecordKey, StateId, StoreError,
    StoreName, Timestamp, Unknown, Value, Version,
};
use trueup::plan::{
    GuardName, MemoryShelf, Observed, Orders, Plan, PlanInputs, Planner, SnapshotReport, Target,
};
use trueup::reconcile::{
    ApplyInputs, Applying, Effect, Event, Lane, Ledger, LedgerContents, Opened, Opening, Rechecked, Report,
};
use trueup::resolve::{Conflict, Decision};
use trueup::spec::{Source, Spec, compile};
use trueup::state::memory::MemoryStateData;
use trueup::store::memory::{MemoryDb, MemoryRow, MemorySnapshot};

/// Three stores in memory, the first one canonical, with what else a text says.
macro_rules! three_stores {
    ($rest:literal) => {
        concat!(
            r#"
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
"#,
            $rest
        )
    };
}
#[allow(unused_imports)] // Not every test has entities of its own.
pub(crate) use three_stores;

/// Three stores, and an entity with plain fields, a group, a JSON value, an enum and a required field.
pub const THREE_STORES: &str = three_stores!(
    r#"
apiVersion: trueup/v1
kind: Entity
metadata: {name: things}
spec:
  key: {id: string}
  fields:
    a: string
    b: string
    kind: {enum: [x, y]}
    code: {pattern: "^{kind}[0-9]+$"}
    doc: json
    must: {type: string, required: true}
  groups: [[kind, code]]
  times: {updated: changed_at}
---
apiVersion: trueup/v1
kind: Mapping
metadata: {name: things}
spec:
  entity: things
  stores:
    hub: {table: things, fields: {"*": same}, sync: {columns: same}}
    app: {table: things, fields: {"*": same}, sync: {columns: same}}
    local: {table: things, fields: {"*": same}, sync: {columns: same}}
"#
);

/// How an application marks its edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// Not at all.
    None,
    /// It moves its own clock.
    Clock,
    /// It raises the version and says when.
    Raise,
    /// It raises the version by this much, at this time (in seconds since the world began).
    RaiseBy(i64, i64),
}

/// How a pass ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Died {
    /// It was killed.
    Killed,
    /// It could not go on.
    Failed(String),
}

/// The world.
#[derive(Clone)]
pub struct World {
    pub spec: Arc<Spec>,
    pub stores: BTreeMap<StoreName, MemoryDb>,
    pub state: MemoryStateData,
    pub now: i64,
    /// Effects left before the controller is killed.
    pub lives: Option<usize>,
    pub effects: usize,
    /// The chunks whose writes were sent, as they were.
    pub sent: Vec<(StoreName, Lane)>,
    /// How often effects of several chunks were under way at once.
    pub together: usize,
    pub allow: BTreeSet<GuardName>,
    pub paused: BTreeSet<StoreName>,
    pub orders: Orders,
    pub targets: Vec<Target>,
    /// Answers after which somebody asks the controller to stop.
    pub stop_after: Option<usize>,
    states: usize,
}

const DAY_ONE: i64 = 1_780_000_000_000_000;

pub fn store(name: &str) -> StoreName {
    StoreName::new(name).expect("a store's name")
}

pub fn entity(name: &str) -> EntityName {
    EntityName::new(name).expect("an entity's name")
}

pub fn field(name: &str) -> FieldName {
    FieldName::new(name).expect("a field's name")
}

pub fn key(text: &str) -> RecordKey {
    RecordKey::new(vec![text.to_owned()])
}

pub fn text(text: &str) -> Value {
    if text == "null" { Value::Null } else { Value::text(text) }
}

pub fn spec(yaml: &str) -> Arc<Spec> {
    let source = Source { file: "world.yaml".to_owned(), text: yaml.to_owned() };
    let compiled = compile(Path::new("."), &[source], &BTreeMap::new());
    Arc::new(compiled.map_or_else(|found| panic!("the world's manifests: {found:#?}"), |(spec, _)| spec))
}

impl World {
    /// Empty stores with all tables.
    pub fn new(yaml: &str) -> Self {
        let spec = spec(yaml);
        let mut stores = BTreeMap::new();
        for name in spec.stores.keys() {
            let mapped: Vec<Mapped> =
                spec.entities.iter().filter_map(|entity| mapped(&spec, &entity.name, name)).collect();
            let mut db = MemoryDb::new(name.clone()).with_tables(&mapped);
            if *name == spec.canonical {
                let ledger = Ledger::new(name);
                db = db.with_tables(&ledger.all().map(Clone::clone));
            }
            stores.insert(name.clone(), db);
        }
        Self {
            spec,
            stores,
            state: MemoryStateData::new(StateId("state-0".to_owned())),
            now: DAY_ONE,
            lives: None,
            effects: 0,
            sent: Vec::new(),
            together: 0,
            allow: BTreeSet::new(),
            paused: BTreeSet::new(),
            orders: Orders::default(),
            targets: Vec::new(),
            stop_after: None,
            states: 0,
        }
    }

    pub fn three() -> Self {
        Self::new(THREE_STORES)
    }

    pub fn entity(&self) -> EntityName {
        self.spec.entities[0].name.clone()
    }

    pub fn mapped(&self, entity: &str, at: &str) -> Mapped {
        let entity = EntityName::new(entity).expect("an entity's name");
        mapped(&self.spec, &entity, &store(at)).expect("mapped there")
    }

    fn first(&self, at: &str) -> Mapped {
        mapped(&self.spec, &self.entity(), &store(at)).expect("mapped there")
    }

    pub fn db(&mut self, at: &str) -> &mut MemoryDb {
        self.stores.get_mut(&store(at)).expect("a store")
    }

    pub fn tick(&mut self) -> Timestamp {
        self.now += 1_000_000;
        self.time()
    }

    pub fn time(&self) -> Timestamp {
        Timestamp::from_micros(self.now).expect("in range")
    }

    // ---- what applications do

    /// An application makes a row.
    pub fn insert(&mut self, at: &str, id: &str, fields: &[(&str, &str)], stamp: Stamp) {
        let mut row = MemoryRow::default();
        let now = self.tick();
        for (name, value) in fields {
            row.fields.insert(field(name), Cell::Value(parse(name, value)));
        }
        mark(&mut row, stamp, now, at);
        let mapped = self.first(at);
        self.db(at).put(&mapped, &key(id), row);
    }

    /// An application changes a field; false if there is no such row.
    pub fn edit(&mut self, at: &str, id: &str, name: &str, value: &str, stamp: Stamp) -> bool {
        let now = self.tick();
        let mapped = self.first(at);
        self.db(at).edit(&mapped, &key(id), |row| {
            row.fields.insert(field(name), Cell::Value(parse(name, value)));
            mark(row, stamp, now, at);
        })
    }

    /// An application makes a row of an entity.
    pub fn insert_into(
        &mut self,
        entity: &EntityName,
        at: &str,
        id: &str,
        fields: &[(&str, &str)],
        stamp: Stamp,
    ) {
        let mut row = MemoryRow::default();
        let now = self.tick();
        for (name, value) in fields {
            row.fields.insert(field(name), Cell::Value(parse(name, value)));
        }
        mark(&mut row, stamp, now, at);
        let mapped = self.mapped(entity.as_str(), at);
        self.db(at).put(&mapped, &key(id), row);
    }

    /// An application changes a field of an entity's row.
    pub fn edit_in(
        &mut self,
        entity: &EntityName,
        at: &str,
        id: &str,
        name: &str,
        value: &str,
        stamp: Stamp,
    ) {
        let now = self.tick();
        let mapped = self.mapped(entity.as_str(), at);
        self.db(at).edit(&mapped, &key(id), |row| {
            row.fields.insert(field(name), Cell::Value(parse(name, value)));
            mark(row, stamp, now, at);
        });
    }

    /// A text field of an entity's row: `-` without a row, `null` for null.
    pub fn value_in(&self, entity: &EntityName, at: &str, id: &str, name: &str) -> String {
        let mapped = self.mapped(entity.as_str(), at);
        let row = self.stores[&store(at)].table(&mapped).and_then(|table| table.rows.get(&key(id)));
        let cell = row.map(|row| row.fields.get(&field(name)).and_then(Cell::value).cloned());
        cell.map_or_else(
            || "-".to_owned(),
            |value| value.unwrap_or_default().as_text().unwrap_or("null").to_owned(),
        )
    }

    /// An application removes a row.
    pub fn delete(&mut self, at: &str, id: &str) {
        let mapped = self.first(at);
        self.tick();
        self.db(at).delete(&mapped, &key(id));
    }

    pub fn reach(&mut self, at: &str, reachable: bool) {
        self.db(at).faults.unreachable = !reachable;
    }

    /// The state is lost; the next pass begins with an empty one.
    pub fn lose_state(&mut self) {
        self.states += 1;
        self.state = MemoryStateData::new(StateId(format!("state-{}", self.states)));
    }

    // ---- what stands

    /// A field as a store holds it: `-` without a row, `null` for null.
    pub fn get(&self, at: &str, id: &str, name: &str) -> String {
        let mapped = self.first(at);
        let row = self.stores[&store(at)].table(&mapped).and_then(|table| table.rows.get(&key(id)));
        match row.map(|row| row.fields.get(&field(name)).and_then(Cell::value).cloned().unwrap_or_default()) {
            None => "-".to_owned(),
            Some(Value::Text(text)) => text.as_ref().to_owned(),
            Some(other) => other.to_string(),
        }
    }

    /// A field in all stores, in the order hub, app, local.
    pub fn everywhere(&self, id: &str, name: &str) -> Vec<String> {
        ["hub", "app", "local"].iter().map(|at| self.get(at, id, name)).collect()
    }

    pub fn version(&self, at: &str, id: &str) -> Option<i64> {
        let mapped = self.first(at);
        let row = self.stores[&store(at)].table(&mapped)?.rows.get(&key(id))?;
        row.meta.version.map(|version| version.0)
    }

    pub fn status(&self, id: &str) -> String {
        let mapped = self.first("hub");
        let row = self.stores[&store("hub")].table(&mapped).and_then(|table| table.rows.get(&key(id)));
        row.and_then(|row| row.meta.sync_status).map_or("-", trueup::model::SyncStatus::as_str).to_owned()
    }

    fn system_rows(&self, mapped: &Mapped) -> Vec<trueup::model::Row> {
        self.stores[&self.spec.canonical].snapshot(mapped).map(|snapshot| snapshot.rows).unwrap_or_default()
    }

    /// Everything in `sync_conflicts`.
    pub fn conflicts(&self) -> Vec<Conflict> {
        let ledger = Ledger::new(&self.spec.canonical);
        self.system_rows(&ledger.conflicts).iter().filter_map(|row| ledger.conflict_of(row)).collect()
    }

    pub fn open_conflicts(&self) -> Vec<Conflict> {
        self.conflicts().into_iter().filter(|conflict| conflict.status.is_open()).collect()
    }

    /// The text of every tombstone's rows.
    pub fn tombstones(&self) -> String {
        let ledger = Ledger::new(&self.spec.canonical);
        format!(
            "{:?}",
            self.system_rows(&ledger.tombstones).iter().map(|row| &row.fields).collect::<Vec<_>>()
        )
    }

    /// All writes that stores have applied so far.
    pub fn writes(&self) -> u64 {
        self.stores.values().map(|db| db.writes_applied).sum()
    }

    /// A person settles a conflict.
    pub fn decide(&mut self, conflict: &Conflict, take: &str) {
        let side = conflict.side(&store(take)).expect("a side").clone();
        let decision = Decision {
            values: side.values,
            store: Some(side.store),
            by: "person".to_owned(),
            at: self.tick(),
        };
        let decided = Conflict {
            status: trueup::resolve::ConflictStatus::Decided,
            decision: Some(decision),
            ..conflict.clone()
        };
        let ledger = Ledger::new(&self.spec.canonical);
        let names: Vec<FieldName> =
            ledger.conflicts.entity.fields.iter().map(|field| field.name.clone()).collect();
        let fields = ledger.conflict_fields(&decided);
        let mapped = ledger.conflicts.clone();
        let canonical = self.spec.canonical.clone();
        let db = self.stores.get_mut(&canonical).expect("canonical");
        db.edit(&mapped, &key(&conflict.id.0), |row| {
            row.fields = fields
                .into_iter()
                .map(|(id, value)| (names[id.index()].clone(), Cell::Value(value)))
                .collect();
        });
    }

    // ---- passes

    /// One pass, as `run` does it.
    pub fn pass(&mut self) -> Result<Report, Died> {
        let opened = self.open(true)?;
        let plan = self.observe(&opened);
        self.carry_out(&opened, plan, false)
    }

    /// Passes until one writes nothing.
    ///
    /// # Panics
    /// When that takes more than eight.
    pub fn settle(&mut self) -> usize {
        for passes in 0..8 {
            let before = self.writes();
            self.tick();
            let report = self.pass().expect("a pass");
            if self.writes() == before && report.pass.is_none() {
                return passes;
            }
        }
        panic!("passes go on writing");
    }

    /// Passes until one writes nothing; faults that strike once are used up on the way. Only in the end may no pass fail.
    pub fn rest(&mut self, when: &str) -> Result<(), String> {
        for _ in 0..12 {
            let before = self.writes();
            self.tick();
            match self.pass() {
                Ok(report) if self.writes() == before && report.pass.is_none() => return Ok(()),
                Ok(_) | Err(Died::Killed) => {}
                Err(Died::Failed(message)) => {
                    if when == "in the end" {
                        return Err(format!("failed: {message}"));
                    }
                }
            }
        }
        Err(format!("no rest {when}: {:#?}", self.plan().records.to_vec()))
    }

    /// A plan, without changing anything.
    pub fn plan(&mut self) -> Plan {
        let opened = self.open(false).expect("opens");
        self.observe(&opened)
    }

    /// A saved plan is carried out.
    pub fn apply(&mut self, plan: Plan) -> Result<Report, Died> {
        let opened = self.open(true)?;
        self.carry_out(&opened, plan, true)
    }

    pub fn open(&mut self, commit: bool) -> Result<Opened, Died> {
        let mut machine = Opening::new(self.spec.clone(), commit, self.time());
        self.drive(|_, event| machine.step(event).into_iter().map(|effect| (0, effect)).collect())?;
        machine.result().map_err(|failure| Died::Failed(failure.message))
    }

    pub fn carry_out(&mut self, opened: &Opened, plan: Plan, recheck: bool) -> Result<Report, Died> {
        let inputs = ApplyInputs {
            spec: self.spec.clone(),
            header: opened.header.clone(),
            ledger: opened.ledger.clone(),
            now: self.time(),
            holder: "world".to_owned(),
            chunk: 2,
            recheck,
            holds: self.orders.holds.clone(),
        };
        for (entity, books) in &plan.books {
            for (store, books) in books {
                assert!(books.balance(), "the plan's books of {entity} in {store}: {books:?}");
            }
        }
        let mut machine = Applying::new(inputs, plan);
        let mut answers = self.stop_after;
        // What comes next is worked out early, late or not at all: that must not matter.
        let (mut turn, mut late) = (self.effects, None);
        self.drive(|lane, event| {
            match &mut answers {
                Some(0) => machine.stop(),
                Some(left) => *left -= 1,
                None => {}
            }
            let mut effects = machine.step(lane, event);
            turn += 1;
            if let Some(worked) = late.take() {
                effects.extend(machine.prepared(worked));
            }
            if turn % 3 > 0
                && let Some(work) = machine.prepare()
            {
                if turn % 3 == 1 { effects.extend(machine.prepared(work())) } else { late = Some(work()) }
            }
            effects
        })?;
        let report = machine.result().map_err(Died::Failed)?;
        for (entity, books) in &report.books {
            for (store, books) in books {
                assert!(books.balance(), "the report's books of {entity} in {store}: {books:?}");
            }
        }
        Ok(report)
    }

    fn drive(&mut self, mut step: impl FnMut(Lane, Event) -> Vec<(Lane, Effect)>) -> Result<(), Died> {
        let mut queue = step(0, Event::Start);
        while !queue.is_empty() {
            // Of several that are under way any may be done first.
            let (lane, effect) = queue.remove(self.effects % queue.len());
            if let Some(lives) = &mut self.lives {
                if *lives == 0 {
                    self.lives = None;
                    return Err(Died::Killed);
                }
                *lives -= 1;
            }
            self.effects += 1;
            self.together += usize::from(queue.iter().any(|(other, _)| *other > 0 && *other != lane));
            if let Effect::Write { store, .. } = &effect {
                self.sent.push((store.clone(), lane));
            }
            let event = self.run(effect);
            queue.extend(step(lane, event));
        }
        Ok(())
    }

    fn run(&mut self, effect: Effect) -> Event {
        let canonical = self.spec.canonical.clone();
        match effect {
            Effect::LoadState => {
                Event::State(Ok((self.state.header().clone(), self.state.open_intents().to_vec())))
            }
            Effect::LoadLedger => {
                let ledger = Ledger::new(&canonical);
                let db = &self.stores[&canonical];
                let load = || -> Result<LedgerContents, trueup::model::StoreError> {
                    let rows = |mapped: &Mapped| db.snapshot(mapped).map(|snapshot| snapshot.rows);
                    let mut contents = LedgerContents::default();
                    for row in rows(&ledger.open_conflicts().mapped)? {
                        ledger.note_conflict(&mut contents, &row);
                    }
                    for row in rows(&ledger.deletes().mapped)? {
                        ledger.note_tombstone(&mut contents, &row);
                    }
                    contents.pass = rows(&ledger.passes)?.iter().find_map(|row| ledger.pass_of(row));
                    Ok(contents)
                };
                Event::Ledger(load())
            }
            Effect::Receipts(batches) => Event::Receipts(self.stores[&canonical].receipts(&batches)),
            Effect::Read { store, entity, keys } => {
                // Other manifests than those that a write was noted under may not know of its place.
                let unmapped = || StoreError::new(ErrorKind::NotFound, &store, "it is not mapped here");
                let mapped = self.if_mapped(&entity, &store).ok_or_else(unmapped);
                let rows = mapped.and_then(|mapped| self.stores[&store].read(&mapped, &keys));
                Event::Rows { store, entity, rows }
            }
            Effect::Recheck(records) => {
                let look = |record: RecordId| {
                    let observed = self.look(&record);
                    (record, observed.fingerprint())
                };
                let fingerprints = records.into_iter().map(look).collect();
                Event::Rechecked(Ok(Rechecked { fingerprints, ..Rechecked::default() }))
            }
            Effect::ReadNative { store, entity, keys } => {
                let mapped = self.any_mapped(&entity, &store);
                let rows = self.stores[&store].read_native(&mapped, &keys);
                Event::Native { store, entity, rows }
            }
            Effect::Commit(transition) => {
                Event::Committed(self.state.commit(&transition).map_err(|error| error.to_string()))
            }
            Effect::Write { store, entity, batch } => {
                let mapped = self.any_mapped(&entity, &store);
                let outcomes = self.stores.get_mut(&store).expect("a store").apply(&mapped, &batch);
                Event::Wrote { store, outcomes }
            }
            Effect::WriteFalls { store, falls } => {
                let outcomes = self.stores.get_mut(&store).expect("a store").apply_falls(&falls);
                Event::Wrote { store, outcomes }
            }
            Effect::ForgetReceipts(batches) => {
                let _ = self.stores.get_mut(&canonical).expect("canonical").forget_receipts(&batches);
                Event::ReceiptsForgotten
            }
        }
    }

    fn any_mapped(&self, entity: &EntityName, at: &StoreName) -> Mapped {
        self.if_mapped(entity, at).expect("mapped there")
    }

    fn if_mapped(&self, entity: &EntityName, at: &StoreName) -> Option<Mapped> {
        let ledger = Ledger::new(&self.spec.canonical);
        let system = ledger.all().into_iter().find(|mapped| mapped.name() == entity).cloned();
        system.or_else(|| mapped(&self.spec, entity, at))
    }

    fn look(&self, record: &RecordId) -> Observed {
        let mut presences = BTreeMap::new();
        for at in self.spec.stores_of(&record.entity) {
            let mapped = self.any_mapped(&record.entity, &at);
            if mapped.mapping.embedded().is_some() {
                presences.insert(at, Presence::Absent);
                continue;
            }
            let read = self.stores[&at].read(&mapped, std::slice::from_ref(&record.key));
            let presence = read.ok().and_then(|mut rows| rows.remove(&record.key));
            presences.insert(at, presence.unwrap_or(Presence::Unknown(Unknown::Unreachable)));
        }
        Observed {
            key: record.key.clone(),
            memory: self.state.recall(record).cloned(),
            presences: presences.into_iter().collect(),
        }
    }

    /// Finds out whose the rows of stores with record ids of their own are.
    fn identify(&self, opened: &Opened) -> Identified {
        let mut identify = Identify::new(self.spec.clone());
        for (entity, at) in identify.sources() {
            let Ok(snapshot) = self.stores[&at].snapshot(&self.any_mapped(&entity, &at)) else { continue };
            snapshot.rows.iter().for_each(|row| identify.take_row(&entity, &at, row));
            snapshot.strays.into_iter().for_each(|stray| identify.take_stray(&at, stray));
        }
        for entity in identify.wants_memories() {
            if opened.rebuild {
                continue;
            }
            for (key, memory) in self.state.page(&entity, None, usize::MAX) {
                identify.remember(&entity, &key, &memory);
            }
        }
        for (entity, at) in identify.wants_rows() {
            let declared = self.spec.entity(&entity).expect("an entity").clone();
            let read = self.stores[&at].snapshot(&self.any_mapped(&entity, &at));
            let complete = read.as_ref().is_ok_and(|read| {
                read.certificate.as_ref().is_some_and(trueup::model::Certificate::is_complete)
            });
            if at == self.spec.canonical && !complete {
                identify.doubt(&entity);
            }
            for row in read.iter().flat_map(|read| &read.rows) {
                identify.know(&declared, &at, row);
            }
        }
        identify.decide()
    }

    /// Reads everything and plans.
    pub fn observe(&mut self, opened: &Opened) -> Plan {
        let inputs = PlanInputs {
            spec: self.spec.clone(),
            now: self.time(),
            state: opened.header.id.clone(),
            state_pass: opened.header.acknowledged,
            rebuild: opened.rebuild,
            rebuilding: BTreeSet::new(),
            first_loads: (self.spec.entities.iter().map(|entity| entity.name.clone()))
                .filter(|name| self.state.page(name, None, 1).is_empty())
                .collect(),
            allow: self.allow.clone(),
            targets: self.targets.clone(),
            precision_micros: BTreeMap::new(),
            tombstones: opened.ledger.tombstones.clone(),
            recent_deletes: self
                .state
                .deletes_since(self.time().saturating_add_micros(-24 * 3600 * 1_000_000)),
            conflicts: opened.ledger.conflicts.clone(),
            remember: true,
            orders: self.orders.clone(),
        };
        let mut planner = Planner::new(inputs, Box::new(MemoryShelf::default()));
        let mut identified = self.identify(opened);
        for entity in &self.spec.entities.clone() {
            let mut reports = BTreeMap::new();
            let mut rows: BTreeMap<StoreName, BTreeMap<RecordKey, trueup::model::Row>> = BTreeMap::new();
            let mut doubtful: BTreeMap<StoreName, BTreeSet<RecordKey>> = BTreeMap::new();
            for at in self.spec.stores_of(&entity.name) {
                if self.paused.contains(&at) {
                    reports.insert(at, SnapshotReport { paused: true, ..SnapshotReport::default() });
                    continue;
                }
                let mapped = self.any_mapped(&entity.name, &at);
                // Elements come with what they stand in.
                let read = match mapped.mapping.embedded() {
                    None => self.stores[&at].snapshot(&mapped),
                    Some(embedded) => {
                        let parents = self.any_mapped(&embedded.parent, &at);
                        self.stores[&at]
                            .snapshot(&parents)
                            .map(|read| MemorySnapshot { rows: Vec::new(), ..read })
                    }
                };
                match read {
                    Ok(mut snapshot) => {
                        if mapped.mapping.own_ids {
                            let found = identified
                                .places
                                .remove(&(entity.name.clone(), at.clone()))
                                .unwrap_or_default();
                            planner.meet(entity, &at, &found);
                            snapshot.rows.retain(|row| {
                                !found.held.iter().any(|held| Some(&held.id) == row.store_id.as_ref())
                                    && !found.rows.contains_key(&row.key)
                            });
                            snapshot.rows.extend(found.rows.into_values());
                            doubtful.insert(at.clone(), found.doubtful);
                        }
                        let certificate = snapshot.certificate.unwrap_or_default();
                        reports.insert(
                            at.clone(),
                            SnapshotReport { certificate: Some(certificate), ..SnapshotReport::default() },
                        );
                        rows.insert(
                            at,
                            snapshot.rows.into_iter().map(|row| (row.key.clone(), row)).collect(),
                        );
                    }
                    Err(error) => {
                        reports.insert(
                            at,
                            SnapshotReport { error: Some(error.to_string()), ..SnapshotReport::default() },
                        );
                    }
                }
            }
            let memories: BTreeMap<RecordKey, _> = if opened.rebuild {
                BTreeMap::new()
            } else {
                self.state.page(&entity.name, None, usize::MAX).into_iter().collect()
            };
            let mut keys: BTreeSet<RecordKey> = memories.keys().cloned().collect();
            keys.extend(rows.values().flat_map(|rows| rows.keys().cloned()));
            for key in keys {
                let id = RecordId { entity: entity.name.clone(), key: key.clone() };
                let mut presences = BTreeMap::new();
                for (at, report) in &reports {
                    let unresolved = opened.unresolved.contains(&(id.clone(), at.clone()));
                    let presence = match rows.get(at) {
                        None if report.paused => Presence::Unknown(Unknown::Paused),
                        None => Presence::Unknown(Unknown::Unreachable),
                        Some(_) if unresolved => Presence::Unknown(Unknown::Unreachable),
                        Some(rows) => match rows.get(&key) {
                            Some(row) => Presence::Present(row.clone()),
                            None if doubtful.get(at).is_some_and(|keys| keys.contains(&key)) => {
                                Presence::Unknown(Unknown::Unidentified)
                            }
                            None => Presence::Absent,
                        },
                    };
                    presences.insert(at.clone(), presence);
                }
                let mut memory = memories.get(&key).cloned();
                if let Some(found) = opened.overlay.get(&id) {
                    memory.get_or_insert_default().stores.extend(found.clone());
                }
                planner.add(entity, Observed { key, memory, presences: presences.into_iter().collect() });
            }
            planner.end_entity(entity, reports);
        }
        planner.finish().expect("memory does not run out")
    }
}

pub fn mapped(spec: &Spec, entity: &EntityName, at: &StoreName) -> Option<Mapped> {
    Some(Mapped { entity: spec.entity(entity)?.clone(), mapping: spec.mapping(entity, at)?.clone() })
}

/// `doc` holds JSON; everything else text.
fn parse(name: &str, value: &str) -> Value {
    if name == "doc" && value != "null" {
        return Value::Json(trueup::model::Json::parse(value).expect("JSON"));
    }
    text(value)
}

fn mark(row: &mut MemoryRow, stamp: Stamp, now: Timestamp, at: &str) {
    let mut raise = |by: i64, time: Timestamp| {
        row.meta.version = Some(Version(row.meta.version.unwrap_or_default().0 + by));
        row.meta.last_updated = Some(time);
        row.meta.last_updated_by = Some(at.into());
    };
    match stamp {
        Stamp::None => {}
        Stamp::Clock => row.updated = Some(now),
        Stamp::Raise => raise(1, now),
        Stamp::RaiseBy(by, seconds) => {
            raise(by, Timestamp::from_micros(DAY_ONE + seconds * 1_000_000).expect("in range"));
        }
    }
}
