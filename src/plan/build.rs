//! From what was seen of every record to a plan: resolve and diff one record after the other, then look at what spans
//! records.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::diff::{Drift, Reason, SidePlan, Standing, diff, express};
use crate::model::{
    Entity, EntityName, FieldId, Memory, Presence, RecentDeletes, RecordId, RecordKey, StateId, StoreName,
    Timestamp, Unknown, Value, fingerprint_of,
};
use crate::resolve::{Conflict, Fate, Overrides, Resolution, Side, Tombstone, View, resolve};
use crate::spec::Spec;

use super::guards::{GuardName, GuardTrip};
use super::notices;
use super::{Books, Plan, RecordPlan, SnapshotReport, TombstoneDraft};

/// A record as a pass saw it in every store of its entity.
#[derive(Debug, Clone)]
pub struct Observed {
    /// Its key.
    pub key: RecordKey,
    /// What is remembered of it.
    pub memory: Option<Memory>,
    /// What was seen, for every store that maps the entity.
    pub presences: BTreeMap<StoreName, Presence>,
}

impl Observed {
    /// A fingerprint of everything seen and remembered: it changes when anything moves.
    pub fn fingerprint(&self) -> String {
        fingerprint_of(&(&self.memory, &self.presences))
    }
}

/// What a plan is made with, besides what is seen.
#[derive(Debug, Clone)]
pub struct PlanInputs {
    /// The manifests.
    pub spec: Arc<Spec>,
    /// The time of the pass.
    pub now: Timestamp,
    /// The state's id.
    pub state: StateId,
    /// The last pass that the state knows of.
    pub state_pass: i64,
    /// Whether everything meets for the first time, because the state was lost or stale.
    pub rebuild: bool,
    /// Guards that are allowed by name.
    pub allow: BTreeSet<GuardName>,
    /// Only these records, where any are named.
    pub targets: Vec<Target>,
    /// The finest step of each store's times, in microseconds.
    pub precision_micros: BTreeMap<StoreName, i64>,
    /// The tombstones of the canonical store.
    pub tombstones: BTreeMap<RecordId, Tombstone>,
    /// How many records were deleted within the last day.
    pub recent_deletes: RecentDeletes,
    /// The open conflicts of the canonical store.
    pub conflicts: BTreeMap<RecordId, Vec<Conflict>>,
}

/// What `--target` names: an entity or one record of it, in all stores or in one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The entity.
    pub entity: EntityName,
    /// The record; none: all of the entity.
    pub key: Option<RecordKey>,
}

/// A record about which something is to be done or said.
pub(super) struct Entry {
    /// The fingerprint of what was seen, before any of it was doubted.
    pub basis: String,
    pub observed: Observed,
    pub overrides: Overrides,
    pub resolution: Resolution,
    pub sides: Vec<SidePlan>,
}

/// What is known of an entity while its records go by.
#[derive(Default)]
pub(super) struct EntityWork {
    /// Records about which something is to be done or said.
    pub entries: BTreeMap<RecordKey, Entry>,
    /// The books of records about which nothing is.
    pub settled: BTreeMap<StoreName, Books>,
    /// Rows and remembered rows by store, for the guards.
    pub rows: BTreeMap<StoreName, u64>,
    pub remembered: BTreeMap<StoreName, u64>,
    /// Keys of the records that are there, where another entity refers to this one.
    pub alive: HashSet<RecordKey>,
    /// Who has which value of a unique field.
    pub holders: HashMap<(FieldId, Value), Vec<RecordKey>>,
    /// Records that refer to a record of their own entity, for deletes.
    pub children: BTreeMap<RecordKey, Vec<RecordKey>>,
    pub snapshots: BTreeMap<StoreName, SnapshotReport>,
}

/// Builds a plan from records, entity by entity in the spec's order, each in the order of keys.
pub struct Planner {
    pub(super) inputs: PlanInputs,
    pub(super) work: BTreeMap<EntityName, EntityWork>,
    pub(super) referred: BTreeSet<EntityName>,
    pub(super) guards: Vec<GuardTrip>,
}

impl Planner {
    /// Begins a plan.
    pub fn new(inputs: PlanInputs) -> Self {
        let referred = inputs
            .spec
            .entities
            .iter()
            .flat_map(|entity| entity.references.iter().map(|reference| reference.to.clone()))
            .collect();
        Self { inputs, work: BTreeMap::new(), referred, guards: Vec::new() }
    }

    /// Takes a record.
    pub fn add(&mut self, entity: &Arc<Entity>, observed: Observed) {
        let target = self.is_target(&entity.name, &observed.key);
        self.count_rows(entity, &observed);
        let mut entry = self.consider(entity, observed, Overrides::default());
        if let Some(overrides) = self.dangling(entity, &entry) {
            entry = self.consider(entity, entry.observed, overrides);
        }
        self.note_relations(entity, &entry);
        let needed = target && (Self::is_news(&entry) || self.may_be_cascaded(entity, &entry));
        if needed {
            entry.basis = entry.observed.fingerprint();
        }
        let work = self.work.entry(entity.name.clone()).or_default();
        if needed {
            work.entries.insert(entry.observed.key.clone(), entry);
        } else if target {
            count(&mut work.settled, &entry.sides);
        }
    }

    /// Takes what the snapshots of an entity were worth; its records have all been added.
    pub fn end_entity(&mut self, entity: &Arc<Entity>, snapshots: BTreeMap<StoreName, SnapshotReport>) {
        self.work.entry(entity.name.clone()).or_default().snapshots = snapshots;
        self.distrust_absences(entity);
    }

    /// Looks at what spans records, sets the guards against the whole, and gives the plan.
    pub fn finish(mut self) -> Plan {
        self.settle_relations();
        self.set_guards();
        self.assemble()
    }

    fn is_target(&self, entity: &EntityName, key: &RecordKey) -> bool {
        let targets = &self.inputs.targets;
        targets.is_empty()
            || targets
                .iter()
                .any(|target| &target.entity == entity && target.key.as_ref().is_none_or(|of| of == key))
    }

    fn count_rows(&mut self, entity: &Arc<Entity>, observed: &Observed) {
        let work = self.work.entry(entity.name.clone()).or_default();
        for (store, presence) in &observed.presences {
            if presence.row().is_some() {
                *work.rows.entry(store.clone()).or_default() += 1;
            }
        }
        for (store, shadow) in observed.memory.iter().flat_map(|memory| &memory.stores) {
            if shadow.present {
                *work.remembered.entry(store.clone()).or_default() += 1;
            }
        }
    }

    /// Resolves and compares one record.
    pub(super) fn consider(&self, entity: &Arc<Entity>, observed: Observed, overrides: Overrides) -> Entry {
        let overrides =
            Overrides { bring_forward: self.inputs.allow.contains(&GuardName::Regressed), ..overrides };
        let (resolution, sides) = {
            let id = RecordId { entity: entity.name.clone(), key: observed.key.clone() };
            let view = self.view(entity, &id, &observed, overrides.clone());
            match express(&view) {
                Some(plain) => {
                    #[cfg(debug_assertions)]
                    {
                        let resolution = resolve(&view);
                        let sides = diff(&view, &resolution);
                        let long = (resolution, sides);
                        assert!(
                            crate::diff::same(&plain, &long),
                            "the short way differs for {id}: {plain:#?} {long:#?}"
                        );
                    }
                    plain
                }
                None => {
                    let resolution = resolve(&view);
                    let sides = diff(&view, &resolution);
                    (resolution, sides)
                }
            }
        };
        Entry { basis: String::new(), observed, overrides, resolution, sides }
    }

    fn view<'a>(
        &'a self,
        entity: &'a Arc<Entity>,
        id: &RecordId,
        observed: &'a Observed,
        overrides: Overrides,
    ) -> View<'a> {
        let spec = &self.inputs.spec;
        let tombstone = self.inputs.tombstones.get(id);
        let mappings = spec.mappings.get(&entity.name);
        let mut sides: Vec<Side<'a>> = mappings
            .into_iter()
            .flatten()
            .filter_map(|(store, mapping)| {
                let own = observed.memory.as_ref().and_then(|memory| memory.stores.get(store));
                let shadow =
                    own.or_else(|| tombstone.and_then(|tombstone| tombstone.memory.stores.get(store)));
                Some(Side {
                    store,
                    mapping,
                    canonical: *store == spec.canonical,
                    writable: spec.stores.get(store).is_none_or(|store| !store.read_only),
                    precision_micros: self.inputs.precision_micros.get(store).copied().unwrap_or(1),
                    shadow,
                    presence: observed.presences.get(store)?,
                })
            })
            .collect();
        sides.sort_by_key(|side| !side.canonical);
        View {
            entity,
            key: &observed.key,
            sides,
            tombstone,
            conflicts: self.inputs.conflicts.get(id).map(Vec::as_slice).unwrap_or_default(),
            now: self.inputs.now,
            rebuild: self.inputs.rebuild,
            overrides,
        }
    }

    fn is_news(entry: &Entry) -> bool {
        let resolution = &entry.resolution;
        let quiet = resolution.rejections.is_empty()
            && resolution.held.is_empty()
            && resolution.regressed.is_empty()
            && resolution.conflicts.is_empty()
            && resolution.closed.is_empty()
            && resolution.already_invalid.is_empty()
            && !matches!(resolution.fate, Fate::Dead | Fate::Left(_))
            && entry.sides.iter().all(|side| {
                side.action.is_none()
                    && side.adopt.is_none()
                    && side.drift.is_none()
                    && side.cannot_hold.is_empty()
            });
        !quiet || entry.sides.iter().any(|side| side.standing != Standing::InSync)
    }

    /// Takes absences back that turn out not to be known: the snapshot was cut short, or rows of the store went back to
    /// older versions (what was added since the backup is then missing, not deleted).
    fn distrust_absences(&mut self, entity: &Arc<Entity>) {
        let Some(work) = self.work.get(&entity.name) else { return };
        let mut doubtful: BTreeMap<StoreName, Unknown> = BTreeMap::new();
        for (store, report) in &work.snapshots {
            if report.certificate.as_ref().is_some_and(|certificate| !certificate.is_complete()) {
                doubtful.insert(store.clone(), Unknown::Incomplete);
            }
        }
        for entry in work.entries.values() {
            for store in &entry.resolution.went_back {
                doubtful.entry(store.clone()).or_insert(Unknown::Regressed);
            }
        }
        if doubtful.is_empty() {
            return;
        }
        let bring_forward = self.inputs.allow.contains(&GuardName::Regressed);
        let Some(work) = self.work.get_mut(&entity.name) else { return };
        let entries = std::mem::take(&mut work.entries);
        for (key, mut entry) in entries {
            let mut doubted = false;
            for (store, why) in &doubtful {
                let Some(presence) = entry.observed.presences.get_mut(store) else { continue };
                let shadow = entry.observed.memory.as_ref().and_then(|memory| memory.stores.get(store));
                // What was never there is no more in a backup than in the newer copy.
                let was_there = *why == Unknown::Incomplete || shadow.is_some_and(|shadow| shadow.present);
                if *presence != Presence::Absent || !was_there {
                    continue;
                }
                doubted = true;
                match &mut entry.observed.memory {
                    // Brought forward: what came after the backup is missing there, and is put back.
                    Some(memory) if *why == Unknown::Regressed && bring_forward => {
                        memory.stores.remove(store);
                    }
                    _ => *presence = Presence::Unknown(*why),
                }
            }
            let entry = if doubted { self.again(entity, entry) } else { entry };
            if let Some(work) = self.work.get_mut(&entity.name) {
                work.entries.insert(key, entry);
            }
        }
    }

    /// Considers a record again, as it is now thought of.
    pub(super) fn again(&self, entity: &Arc<Entity>, entry: Entry) -> Entry {
        let basis = entry.basis;
        Entry { basis, ..self.consider(entity, entry.observed, entry.overrides) }
    }

    fn assemble(self) -> Plan {
        let Self { inputs, mut work, guards, .. } = self;
        let stopped: BTreeSet<EntityName> = guards.iter().map(|trip| trip.entity.clone()).collect();
        let mut plan = Plan {
            made_at: inputs.now,
            spec_sha: inputs.spec.sha.clone(),
            state: inputs.state.clone(),
            state_pass: inputs.state_pass,
            canonical: inputs.spec.canonical.clone(),
            entities: inputs.spec.entities.iter().map(|entity| entity.name.clone()).collect(),
            rebuild: inputs.rebuild,
            records: Vec::new(),
            guards,
            allowed: inputs.allow.clone(),
            books: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            notices: Vec::new(),
            open_conflicts: BTreeMap::new(),
        };
        for entity in &inputs.spec.entities {
            let mut work = work.remove(&entity.name).unwrap_or_default();
            let mut books = std::mem::take(&mut work.settled);
            let mut open = still_open(&inputs, &entity.name, &work);
            for (key, mut entry) in std::mem::take(&mut work.entries) {
                if stopped.contains(&entity.name) {
                    for side in &mut entry.sides {
                        if side.action.take().is_some() {
                            side.standing = Standing::Held;
                        }
                    }
                }
                count(&mut books, &entry.sides);
                let id = RecordId { entity: entity.name.clone(), key };
                let known = inputs.conflicts.get(&id).map(Vec::as_slice).unwrap_or_default();
                notices::of_record(entity, &id, &entry, known, &mut plan.notices);
                if !stopped.contains(&entity.name)
                    && let Some(record) = record_plan(&inputs, id, entry)
                {
                    open +=
                        record.conflicts.iter().filter(|conflict| conflict.status.is_open()).count() as u64;
                    plan.records.push(record);
                }
            }
            for store in inputs.spec.stores_of(&entity.name) {
                let rows = work.rows.get(&store).copied().unwrap_or(0);
                books.entry(store).or_default().rows = rows;
            }
            notices::of_stores(&entity.name, &work.snapshots, &mut plan.notices);
            plan.open_conflicts.insert(entity.name.clone(), open);
            plan.snapshots.insert(entity.name.clone(), work.snapshots);
            plan.books.insert(entity.name.clone(), books);
        }
        plan
    }
}

/// Open conflicts of the ledger that this plan does not end.
fn still_open(inputs: &PlanInputs, entity: &EntityName, work: &EntityWork) -> u64 {
    let open = inputs.conflicts.iter().filter(|(id, _)| &id.entity == entity).flat_map(|(id, conflicts)| {
        let ended =
            work.entries.get(&id.key).map(|entry| entry.resolution.closed.as_slice()).unwrap_or_default();
        conflicts.iter().filter(move |conflict| {
            conflict.status.is_open() && !ended.iter().any(|ended| ended.id == conflict.id)
        })
    });
    open.count() as u64
}

/// Adds a record's sides to the books.
fn count(books: &mut BTreeMap<StoreName, Books>, sides: &[SidePlan]) {
    for side in sides {
        let books = books.entry(side.store.clone()).or_default();
        books.seen += 1;
        *books.standing.entry(side.standing).or_default() += 1;
        match &side.drift {
            None => {}
            Some(Drift::Missing) => books.missing += 1,
            Some(Drift::Extra) => books.extra += 1,
            Some(Drift::Changed(fields)) => {
                books.changed += 1;
                for field in fields {
                    *books.fields.entry(field.clone()).or_default() += 1;
                }
            }
        }
    }
}

fn record_plan(inputs: &PlanInputs, record: RecordId, entry: Entry) -> Option<RecordPlan> {
    let basis = entry.basis.clone();
    let tombstone = tombstone(inputs, &entry);
    let resolution = entry.resolution;
    let mut plan = RecordPlan {
        record,
        conflicts: resolution.conflicts,
        closes: resolution.closed,
        tombstone,
        actions: Vec::new(),
        adopt: BTreeMap::new(),
        basis,
    };
    for side in entry.sides {
        plan.actions.extend(side.action);
        if let Some(shadow) = side.adopt {
            plan.adopt.insert(side.store, shadow);
        }
    }
    let empty = plan.actions.is_empty()
        && plan.adopt.is_empty()
        && plan.conflicts.is_empty()
        && plan.closes.is_empty();
    (!empty).then_some(plan)
}

/// A record that goes everywhere leaves a tombstone; one that only leaves a store's scope does not.
fn tombstone(inputs: &PlanInputs, entry: &Entry) -> Option<TombstoneDraft> {
    if entry.resolution.fate != Fate::Dead {
        return None;
    }
    let shadows = entry.observed.memory.as_ref().map(|memory| memory.stores.clone()).unwrap_or_default();
    let memory = Memory { stores: shadows.into_iter().filter(|(_, shadow)| shadow.present).collect() };
    let pending = entry.sides.iter().any(|side| side.standing == Standing::Pending);
    let cascade = entry
        .sides
        .iter()
        .filter_map(|side| side.action.as_ref())
        .any(|action| action.reason == Reason::Cascade);
    Some(TombstoneDraft {
        version: entry.resolution.version,
        deleted_by: if cascade { Vec::new() } else { entry.resolution.deleted_by.iter().cloned().collect() },
        deleted_at: inputs.now,
        memory,
        pending,
    })
}
