//! From what was seen of every record to a plan: resolve and diff one record after the other, then look at what spans
//! records.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::diff::{Outline, Standing, is_in_order, telling_fields};
use crate::model::{
    ConflictId, Entity, EntityName, FieldId, FieldRef, RecordId, RecordKey, Row, StoreName, Unknown,
};
use crate::resolve::{Conflict, Fate, Overrides};

use super::counts::{count, still_open};
use super::falls::Fall;
use super::guards::{GuardTrip, Tally};
use super::homes::Homes;
use super::inputs::PlanInputs;
use super::late::late_in;
use super::notices;
use super::orphans;
use super::recipe::{Doubts, Entry, Planned, Recipe, consider, doubt};
use super::records::Shape;
use super::related::Link;
use super::unique::UniqueValues;
use super::{Books, Lost, Meeting, Notice, Observed, Plan, Records, Shelf, SnapshotReport, Sums};

/// A record about which something is to be done or said, as little of it as has to be kept.
pub(super) struct Kept {
    /// Where what was seen of it is.
    pub place: u64,
    /// What other records add to its rules, where they do.
    pub overrides: Option<Box<Overrides>>,
    /// What other records may have to know of it, in entities whose records hang together.
    pub link: Option<Box<Link>>,
    pub planned: bool,
    goes: bool,
    conflicts: bool,
}

/// What is known of an entity while its records go by.
#[derive(Default)]
pub(super) struct EntityWork {
    /// Records about which something is to be done or said, in the order of keys.
    pub kept: Vec<Kept>,
    /// Their places by key, in entities whose records hang together.
    pub by_key: BTreeMap<RecordKey, usize>,
    /// What they come to.
    pub told: Told,
    /// The stores whose absences are not known.
    pub doubts: Doubts,
    /// Records that are only taken note of, where those are not kept.
    met: u64,
    /// Those of them that all stores hold alike, and that are in no other count yet.
    alike: u64,
    /// The books of records about which nothing is.
    pub settled: BTreeMap<StoreName, Books>,
    /// Rows and remembered rows by store, for the guards.
    pub rows: BTreeMap<StoreName, u64>,
    pub remembered: BTreeMap<StoreName, u64>,
    /// Keys of the records that are there, where another entity refers to this one.
    pub alive: HashSet<RecordKey>,
    /// Keys of records that are left alone: whether they will be there is not known.
    pub left: HashSet<RecordKey>,
    /// Keys of the records that a store lacks and is not given by this plan, where another entity or this one refers to them.
    pub late: BTreeSet<(StoreName, RecordKey)>,
    /// Which record of its own entity a record refers to, and by what.
    pub own: Vec<(RecordKey, FieldRef, RecordKey)>,
    /// Who has which value of a unique field.
    pub values: UniqueValues,
    /// Where records are, or may be, in stores with record ids of their own.
    pub homes: Homes,
    /// The stores in which records were deleted, where what becomes of one may matter to another.
    pub deleted: BTreeMap<RecordKey, BTreeSet<StoreName>>,
    /// What is to be said of rows that are no record's yet, and of records about which nothing is to be done.
    pub said: Vec<Notice>,
    /// How rows came to their records, by store.
    pub meetings: BTreeMap<StoreName, Meeting>,
    /// Records that refer to a record of their own entity, for deletes.
    pub children: BTreeMap<RecordKey, Vec<RecordKey>>,
    pub snapshots: BTreeMap<StoreName, SnapshotReport>,
}

impl EntityWork {
    /// Whether a record is there, or may be.
    pub(super) fn has(&self, key: &RecordKey) -> bool {
        self.alive.contains(key) || self.left.contains(key)
    }

    /// Whether a record waits for others.
    pub(super) fn waits(&self, key: &RecordKey) -> bool {
        let kept = self.by_key.get(key).and_then(|at| self.kept.get(*at));
        kept.and_then(|kept| kept.overrides.as_ref()).is_some_and(|overrides| overrides.wait)
    }

    /// The link of a record that is kept.
    pub(super) fn link(&self, key: &RecordKey) -> Option<&Link> {
        self.kept.get(*self.by_key.get(key)?)?.link.as_deref()
    }

    /// The links of all records that are kept.
    pub(super) fn links(&self) -> impl Iterator<Item = (&RecordKey, &Link)> {
        self.by_key.iter().filter_map(|(key, at)| Some((key, self.kept.get(*at)?.link.as_deref()?)))
    }
}

/// What the records that are kept come to.
#[derive(Default)]
pub(super) struct Told {
    pub books: BTreeMap<StoreName, Books>,
    pub tallies: BTreeMap<StoreName, Tally>,
    sums: Sums,
    notices: BTreeMap<RecordKey, Vec<Notice>>,
    /// Records that are to be looked at again in any case.
    unsettled: BTreeSet<RecordKey>,
    /// Open conflicts that end.
    closed: BTreeSet<ConflictId>,
    /// Conflicts that begin and wait for a person.
    opened: u64,
}

impl Told {
    /// Counts a record, or takes it out again.
    fn tell(&mut self, inputs: &PlanInputs, entity: &Entity, entry: &Entry, counts: bool) {
        let by = if counts { 1 } else { -1 };
        count(&mut self.books, &entry.sides, by);
        for side in &entry.sides {
            let went_back = entry.resolution.went_back.contains(&side.store);
            self.tallies.entry(side.store.clone()).or_default().count(side, went_back, by);
        }
        for store in &entry.resolution.went_back {
            if entry.sides.iter().all(|side| side.store != *store) {
                self.tallies.entry(store.clone()).or_default().went_back(by);
            }
        }
        let shape = |side: &Outline| Some(Shape::outlined(&side.store, side.act.as_ref()?));
        self.sums.count(entry.sides.iter().filter_map(shape), entry.is_planned(), by);
        let closed = entry.resolution.closed.iter().map(|conflict| &conflict.id);
        let opened =
            entry.resolution.conflicts.iter().filter(|conflict| conflict.status.is_open()).count() as u64;
        let key = &entry.observed.key;
        if counts {
            self.closed.extend(closed.cloned());
            self.opened += opened;
            let id = RecordId { entity: entity.name.clone(), key: key.clone() };
            let known = inputs.conflicts.get(&id).map(Vec::as_slice).unwrap_or_default();
            let mut notices = Vec::new();
            notices::of_record(entity, &id, entry, known, &mut notices);
            if !notices.is_empty() || entry.is_unsettled() {
                self.unsettled.insert(key.clone());
            }
            if !notices.is_empty() {
                self.notices.insert(key.clone(), notices);
            }
        } else {
            closed.for_each(|id| {
                self.closed.remove(id);
            });
            self.opened = self.opened.saturating_sub(opened);
            self.notices.remove(key);
            self.unsettled.remove(key);
        }
    }
}

/// Builds a plan from records, entity by entity in the spec's order, each in the order of keys.
pub struct Planner {
    pub(super) inputs: Arc<PlanInputs>,
    pub(super) work: BTreeMap<EntityName, EntityWork>,
    pub(super) referred: BTreeSet<EntityName>,
    /// Records that one outside the targets refers to, such that it would go with them.
    pub(super) outside: BTreeSet<RecordId>,
    /// Deleted records that may go now, each with what hangs on it.
    pub(super) falls: Vec<Fall>,
    pub(super) guards: Vec<GuardTrip>,
    /// What names the refused plan of an entity.
    pub(super) approvals: BTreeMap<EntityName, String>,
    /// Conflicts about what no manifest names any more, ended.
    withdrawn: Vec<Conflict>,
    /// The targets, by their places, of which there are records.
    met: BTreeSet<usize>,
    pub(super) shelf: Box<dyn Shelf>,
    pub(super) lost: Option<Lost>,
}

impl Planner {
    /// Begins a plan. What was seen of records that something is to be done about is put on the shelf.
    pub fn new(mut inputs: PlanInputs, shelf: Box<dyn Shelf>) -> Self {
        let withdrawn = orphans::take(&mut inputs);
        let referred = inputs
            .spec
            .entities
            .iter()
            .flat_map(|entity| entity.references.iter().map(|reference| reference.to.clone()))
            .collect();
        Self {
            inputs: Arc::new(inputs),
            work: BTreeMap::new(),
            referred,
            outside: BTreeSet::new(),
            falls: Vec::new(),
            guards: Vec::new(),
            approvals: BTreeMap::new(),
            withdrawn,
            met: BTreeSet::new(),
            shelf,
            lost: None,
        }
    }

    /// Takes a record.
    pub fn add(&mut self, entity: &Arc<Entity>, mut observed: Observed) {
        self.doubt_homeless(entity, &mut observed);
        let entry = consider(&self.inputs, entity, observed, Overrides::default());
        self.take(entity, entry);
    }

    pub(super) fn take(&mut self, entity: &Arc<Entity>, mut entry: Entry) {
        let target = self.is_target(&entity.name, &entry.observed.key);
        self.count_rows(entity, &entry.observed);
        if let Some(overrides) = self.without_home(entity, &entry) {
            entry = consider(&self.inputs, entity, entry.observed, overrides);
        }
        if let Some(overrides) = self.dangling(entity, &entry) {
            entry = consider(&self.inputs, entity, entry.observed, overrides);
        }
        self.note_relations(entity, &entry, target);
        self.note_orphan(entity, &entry);
        let odd = self.note_homes(entity, &entry);
        self.note_late(entity, &entry, target);
        if !target {
            self.note_outside(entity, &entry);
            return;
        }
        let cascadable = self.may_be_cascaded(entity, &entry) || odd;
        let news = entry.is_news();
        if !news && !cascadable {
            count(&mut self.work.entry(entity.name.clone()).or_default().settled, &entry.sides, 1);
        } else if !self.inputs.remember && !cascadable && entry.is_only_met() {
            let work = self.work.entry(entity.name.clone()).or_default();
            count(&mut work.settled, &entry.sides, 1);
            work.met += 1;
        } else {
            self.keep(entity, entry, cascadable);
        }
    }

    /// The fields to look at in records of an entity that all stores hold alike and nobody remembers, so that [`Planner::add_alike`]
    /// can take them; none where such records have to be added like any other.
    pub fn tells_alike(&self, entity: &Entity) -> Option<BTreeSet<FieldId>> {
        let inputs = &self.inputs;
        let mappings = inputs.spec.mappings.get(&entity.name)?;
        let special = |id: &RecordId| id.entity == entity.name;
        let plain = !inputs.remember
            && !inputs.rebuild
            && inputs.rebuilding.is_empty()
            && inputs.targets.is_empty()
            && !inputs.spec.hangs_together(entity)
            && !inputs.tombstones.keys().any(special)
            && !inputs.conflicts.keys().any(special)
            && mappings.values().all(|mapping| {
                mapping.scope.is_none() && mapping.fields.len() == entity.fields.len() && mapping.has_sync()
            });
        plain.then(|| telling_fields(entity))
    }

    /// Takes a record that all stores hold alike, sync metadata included, and nobody remembers; false when it has to be added like any
    /// other. The row has at least the fields that tell.
    pub fn add_alike(&mut self, entity: &Entity, row: &Row) -> bool {
        let canonical = self.inputs.spec.mapping(&entity.name, &self.inputs.spec.canonical);
        if !canonical.is_some_and(|canonical| is_in_order(entity, canonical, row)) {
            return false;
        }
        if !self.work.contains_key(&entity.name) {
            self.work.insert(entity.name.clone(), EntityWork::default());
        }
        if let Some(work) = self.work.get_mut(&entity.name) {
            work.alike += 1;
        }
        true
    }

    /// Counts records that a store is known to hold as they should be without having been looked at one by one.
    pub fn add_settled(&mut self, entity: &EntityName, store: &StoreName, count: u64) {
        let work = self.work.entry(entity.clone()).or_default();
        *work.rows.entry(store.clone()).or_default() += count;
        *work.remembered.entry(store.clone()).or_default() += count;
        let books = work.settled.entry(store.clone()).or_default();
        books.seen += count;
        if count > 0 {
            *books.standing.entry(Standing::InSync).or_default() += count;
        }
    }

    /// Notes records of an entity that are there although they are not looked at, for those that refer to them.
    pub fn add_alive(&mut self, entity: &EntityName, keys: impl IntoIterator<Item = RecordKey>) {
        self.work.entry(entity.clone()).or_default().alive.extend(keys);
    }

    fn keep(&mut self, entity: &Arc<Entity>, entry: Entry, cascadable: bool) {
        let link =
            self.inputs.spec.hangs_together(entity).then(|| Box::new(Self::link(entity, &entry, cascadable)));
        let work = self.work.entry(entity.name.clone()).or_default();
        work.told.tell(&self.inputs, entity, &entry, true);
        if link.is_some() {
            work.by_key.insert(entry.observed.key.clone(), work.kept.len());
            if !entry.resolution.deleted_by.is_empty() {
                work.deleted.insert(entry.observed.key.clone(), entry.resolution.deleted_by.clone());
            }
        }
        let mut kept = Kept {
            place: 0,
            overrides: (entry.overrides != Overrides::default()).then(|| Box::new(entry.overrides.clone())),
            link,
            planned: entry.is_planned(),
            goes: entry.goes(),
            conflicts: entry.has_conflicts(),
        };
        match self.shelf.put(entity, entry.observed) {
            Ok(place) => kept.place = place,
            Err(lost) => drop(self.lost.get_or_insert(lost)),
        }
        work.kept.push(kept);
    }

    /// Takes what the snapshots of an entity were worth; its records have all been added.
    pub fn end_entity(&mut self, entity: &Arc<Entity>, snapshots: BTreeMap<StoreName, SnapshotReport>) {
        let alike = self.work.get_mut(&entity.name).map(|work| std::mem::take(&mut work.alike));
        if let Some(alike) = alike.filter(|alike| *alike > 0) {
            for store in self.inputs.spec.stores_of(&entity.name) {
                self.add_settled(&entity.name, &store, alike);
            }
            let work = self.work.entry(entity.name.clone()).or_default();
            work.met += alike;
            // Nobody remembers them yet.
            work.remembered.values_mut().for_each(|remembered| *remembered -= alike);
        }
        self.work.entry(entity.name.clone()).or_default().snapshots = snapshots;
        self.distrust_absences(entity);
    }

    /// Looks at what spans records, sets the guards against the whole, and gives the plan.
    ///
    /// # Errors
    /// When what was seen of a record could not be kept.
    pub fn finish(mut self) -> Result<Plan, Lost> {
        self.settle_relations();
        self.set_guards();
        self.hold_stopped();
        match self.lost.take() {
            Some(lost) => Err(lost),
            None => Ok(self.assemble()),
        }
    }

    pub(super) fn is_target(&mut self, entity: &EntityName, key: &RecordKey) -> bool {
        let targets = self.inputs.targets.iter().enumerate();
        let mut covering =
            targets.filter(|(_, target)| target.covers(entity, key)).map(|(at, _)| at).peekable();
        let covered = covering.peek().is_some();
        self.met.extend(covering);
        covered || self.inputs.targets.is_empty()
    }

    fn count_rows(&mut self, entity: &Arc<Entity>, observed: &Observed) {
        let work = self.work.entry(entity.name.clone()).or_default();
        for (store, presence) in &observed.presences {
            if presence.row().is_some() {
                *work.rows.entry(store.clone()).or_default() += 1;
            }
        }
        for (store, shadow) in observed.memory.iter().flat_map(|memory| &memory.stores) {
            if self.inputs.spec.remembers(entity, store, shadow) {
                *work.remembered.entry(store.clone()).or_default() += 1;
            }
        }
    }

    /// Takes absences back that turn out not to be known.
    fn distrust_absences(&mut self, entity: &Arc<Entity>) {
        let Some(work) = self.work.get_mut(&entity.name) else { return };
        for (store, report) in &work.snapshots {
            if report.certificate.as_ref().is_some_and(|certificate| !certificate.is_complete()) {
                work.doubts.insert(store.clone(), Unknown::Incomplete);
            }
        }
        for (store, tally) in &work.told.tallies {
            if tally.regressed > 0 {
                work.doubts.entry(store.clone()).or_insert(Unknown::Regressed);
            }
        }
        if !work.doubts.is_empty() {
            let late = RefCell::new(Vec::new());
            self.tell_again(entity, |entry| late.borrow_mut().extend(late_in(entry, true)));
            if let Some(work) =
                self.work.get_mut(&entity.name).filter(|_| self.referred.contains(&entity.name))
            {
                work.late.extend(late.into_inner());
            }
        }
    }

    /// A record that is kept, as it is now thought of.
    pub(super) fn entry(&self, entity: &Arc<Entity>, kept: &Kept) -> Result<Entry, Lost> {
        let mut observed = self.shelf.get(entity, kept.place)?;
        if let Some(work) = self.work.get(&entity.name) {
            doubt(&self.inputs, &mut observed, &work.doubts);
        }
        let overrides = kept.overrides.as_deref().cloned().unwrap_or_default();
        Ok(consider(&self.inputs, entity, observed, overrides))
    }

    /// Considers every record of an entity that is kept again, changed in some way, and counts them anew.
    fn tell_again(&mut self, entity: &Arc<Entity>, change: impl Fn(&mut Entry)) {
        let Some(work) = self.work.get_mut(&entity.name) else { return };
        let mut all = std::mem::take(&mut work.kept);
        let mut told = Told::default();
        for kept in &mut all {
            match self.entry(entity, kept) {
                Ok(mut entry) => {
                    change(&mut entry);
                    Self::note_change(entity, kept, &entry);
                    told.tell(&self.inputs, entity, &entry, true);
                }
                Err(lost) => drop(self.lost.get_or_insert(lost)),
            }
        }
        if let Some(work) = self.work.get_mut(&entity.name) {
            (work.told, work.kept) = (told, all);
        }
    }

    fn note_change(entity: &Arc<Entity>, kept: &mut Kept, entry: &Entry) {
        kept.overrides = (entry.overrides != Overrides::default()).then(|| Box::new(entry.overrides.clone()));
        (kept.planned, kept.goes, kept.conflicts) = (entry.is_planned(), entry.goes(), entry.has_conflicts());
        if let Some(link) = &mut kept.link {
            **link = Self::link(entity, entry, link.cascadable);
        }
    }

    /// Considers a record again with what other records add to its rules.
    pub(super) fn reconsider(&mut self, id: &RecordId, change: impl FnOnce(&mut Overrides)) {
        let Some(entity) = self.inputs.spec.entity(&id.entity).cloned() else { return };
        let Some(work) = self.work.get_mut(&id.entity) else { return };
        let Some(at) = work.by_key.get(&id.key).copied() else { return };
        let mut told = std::mem::take(&mut work.told);
        let mut all = std::mem::take(&mut work.kept);
        let mut values = std::mem::take(&mut work.values);
        if let Some(kept) = all.get_mut(at) {
            let mut overrides = kept.overrides.as_deref().cloned().unwrap_or_default();
            change(&mut overrides);
            let both = self.entry(&entity, kept).and_then(|before| {
                kept.overrides = Some(Box::new(overrides));
                Ok((before, self.entry(&entity, kept)?))
            });
            match both {
                Ok((before, after)) => {
                    told.tell(&self.inputs, &entity, &before, false);
                    told.tell(&self.inputs, &entity, &after, true);
                    Self::note_change(&entity, kept, &after);
                    // What is not let go after all has its values.
                    if before.resolution.fate == Fate::Dead {
                        values.note(&entity, &after, self.is_written(&entity, &after));
                    }
                }
                Err(lost) => drop(self.lost.get_or_insert(lost)),
            }
        }
        if let Some(work) = self.work.get_mut(&id.entity) {
            (work.told, work.kept, work.values) = (told, all, values);
        }
    }

    /// In an entity that a guard refuses nothing is written, and what would have been is held.
    fn hold_stopped(&mut self) {
        let stopped: BTreeSet<EntityName> = self.guards.iter().map(|trip| trip.entity.clone()).collect();
        self.wait_for(&stopped);
        self.keep_homes(&stopped);
        for name in &stopped {
            self.note_stopped(name);
        }
        self.wait_for_late(&stopped);
        for name in stopped {
            let Some(entity) = self.inputs.spec.entity(&name).cloned() else { continue };
            self.tell_again(&entity, |entry| {
                for side in &mut entry.sides {
                    if side.act.take().is_some() {
                        side.standing = Standing::Held;
                    }
                }
            });
            if let Some(work) = self.work.get_mut(&name) {
                work.kept.clear();
                work.told.sums = Sums::default();
                work.told.opened = 0;
            }
        }
    }

    fn assemble(self) -> Plan {
        let Self { inputs, mut work, guards, approvals, withdrawn, met, shelf, .. } = self;
        let unmet = inputs.targets.iter().enumerate().filter(|(at, _)| !met.contains(at));
        let mut plan = Plan {
            made_at: inputs.now,
            spec_sha: inputs.spec.sha.clone(),
            state: inputs.state.clone(),
            state_pass: inputs.state_pass,
            canonical: inputs.spec.canonical.clone(),
            entities: inputs.spec.entities.iter().map(|entity| entity.name.clone()).collect(),
            rebuild: inputs.rebuild,
            records: Records::default(),
            guards,
            approvals,
            allowed: inputs.allow.clone(),
            books: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            notices: Vec::new(),
            open_conflicts: BTreeMap::new(),
            withdrawn,
            targets: inputs.targets.clone(),
            unmet: unmet.map(|(_, target)| target.clone()).collect(),
            unsettled: BTreeMap::new(),
            marks: BTreeMap::new(),
            meetings: BTreeMap::new(),
            bills: BTreeMap::new(),
        };
        let mut sums = BTreeMap::new();
        let mut entities = Vec::new();
        for entity in &inputs.spec.entities {
            let work = work.remove(&entity.name).unwrap_or_default();
            let open = still_open(&inputs, &entity.name, &work.told.closed) + work.told.opened;
            let mut books = work.settled;
            for (store, more) in work.told.books {
                books.entry(store).or_default().add(&more);
            }
            for store in inputs.spec.stores_of(&entity.name) {
                let rows = work.rows.get(&store).copied().unwrap_or(0);
                books.entry(store).or_default().rows = rows;
            }
            let said = work.said.iter().filter_map(|notice| Some(notice.record.as_ref()?.key.clone()));
            plan.unsettled.insert(entity.name.clone(), said.chain(work.told.unsettled).collect());
            plan.notices.extend(work.told.notices.into_values().flatten());
            plan.notices.extend(work.said);
            if !work.meetings.is_empty() {
                plan.meetings.insert(entity.name.clone(), work.meetings);
            }
            notices::of_stores(&entity.name, &work.snapshots, &mut plan.notices);
            plan.open_conflicts.insert(entity.name.clone(), open);
            plan.snapshots.insert(entity.name.clone(), work.snapshots);
            plan.books.insert(entity.name.clone(), books);
            let noted = work.told.sums.noted + work.met;
            sums.insert(entity.name.clone(), Sums { noted, ..work.told.sums });
            let planned = work.kept.into_iter().filter(|kept| kept.planned).map(|kept| Planned {
                place: kept.place,
                overrides: kept.overrides,
                goes: kept.goes,
                conflicts: kept.conflicts,
            });
            entities.push((entity.clone(), work.doubts, planned.collect()));
        }
        plan.records = Records::of_recipe(Recipe::new(inputs, shelf, entities), sums);
        plan
    }
}
