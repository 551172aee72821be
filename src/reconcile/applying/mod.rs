//! Carrying a plan out: conflicts and tombstones first, then the canonical store, then the others, a chunk of records at a time.
//!
//! For each chunk: what must be on record is written; the canonical writes are noted and sent; the replicas' writes are noted and sent;
//! what became of all of them is noted. A stop or a death between any two of these loses nothing: what was noted and not ended is
//! found out about by the next [`super::Opening`]. Several chunks are on their way at once, each at another one of these.

mod along;
mod altered;
mod falls;
mod flight;
mod held;
mod missing;
mod outcome;
mod record;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diff::{Action, ActionKind};
use crate::model::{
    Along, BatchId, Cell, Entity, EntityName, Fields, Guard, Header, Outcome, RecordId, RecordKey,
    StoreError, StoreName, SyncError, SyncMeta, Timestamp, Transition, Value, WriteOp,
};
use crate::plan::{Holds, Lost, Plan, RecordPlan, TombstoneDraft};
use crate::resolve::Conflict;
use crate::spec::Spec;

use super::{Effect, Event, Lane, Ledger, LedgerContents, PassRow, Rechecked, Report};
use flight::Flight;

/// What a plan is carried out with.
#[derive(Debug, Clone)]
pub struct ApplyInputs {
    /// The manifests.
    pub spec: Arc<Spec>,
    /// Where the state stands.
    pub header: Header,
    /// What the system tables hold.
    pub ledger: LedgerContents,
    /// The time.
    pub now: Timestamp,
    /// Who works, for people to read.
    pub holder: String,
    /// How many records go into a chunk: the smallest batch that any store takes.
    pub chunk: usize,
    /// Look at every record again first, and leave those that moved on.
    pub recheck: bool,
    /// What nothing is written to any more, although the plan was made when it was.
    pub holds: Holds,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    // With the pass.
    #[default]
    Begin,
    Recheck,
    Intend,
    Announce,
    Acknowledge,
    Chunks,
    Ending,
    Receipts,
    Done,
    // With a chunk.
    Images,
    Record,
    Note,
    Canonical,
    NoteReplicas,
    Replicas,
    NoteEnd,
    Landed,
}

/// Records that go out together.
#[derive(Debug, Clone)]
struct Chunk {
    entity: EntityName,
    records: Vec<usize>,
    deletes: bool,
    /// Only the canonical deletes, of records of any entity that go together.
    falls: bool,
}

/// What is put on record when all is done.
#[derive(Default)]
struct Endings {
    /// Open conflicts that end.
    closes: Vec<Conflict>,
    /// Deletes that every store confirmed.
    confirmed: Vec<(RecordId, TombstoneDraft)>,
    /// Records that were to be deleted and are there after all, or of whose delete no store has anything to confirm any more.
    kept: BTreeSet<RecordId>,
    /// Canonical records whose replicas are in trouble, with their metadata as it was written.
    troubled: Vec<(RecordId, SyncMeta, Vec<SyncError>)>,
}

impl Endings {
    /// Whether there is nothing to be put on record, whatever becomes of the plan's records.
    fn is_empty(&self) -> bool {
        self.closes.is_empty() && self.kept.is_empty()
    }
}

/// The machine.
pub struct Applying {
    inputs: ApplyInputs,
    ledger: Ledger,
    plan: Arc<Plan>,
    pass: i64,
    chunks: Vec<Chunk>,
    /// The first chunk that is not on its way yet.
    next: usize,
    /// What is being attended to; what else is under way.
    flight: Flight,
    others: Vec<Flight>,
    /// Records of the next chunk, as far as they are worked out.
    ahead: BTreeMap<usize, Arc<RecordPlan>>,
    /// Of which chunk how many records were handed out to be worked out.
    handed: (usize, usize),
    /// Records of chunks that are done. To let go of them takes a while, and is left to whoever works the next ones out.
    spent: Vec<BTreeMap<usize, Arc<RecordPlan>>>,
    /// How many actions of each entity, store and kind have been reached; of the others nothing becomes in this pass.
    reached: BTreeMap<(EntityName, StoreName, ActionKind), u64>,
    /// Records that go together, and all of them.
    falls: Vec<Vec<usize>>,
    fallen: BTreeSet<usize>,
    /// Records that nothing more is done about, with their reason noted in the report.
    dropped: BTreeSet<usize>,
    /// Stores that gave up during this pass.
    down: BTreeMap<StoreName, StoreError>,
    /// Deleted records of which a store could not confirm it.
    unconfirmed: BTreeSet<usize>,
    /// Records that were to be made in a store and were not.
    missing: BTreeSet<(RecordId, StoreName)>,
    /// Records that ones which were to go and did not refer to in a store, with those.
    staying: BTreeMap<(RecordId, StoreName), RecordId>,
    /// What is put on record when all is done.
    endings: Endings,
    receipts: Vec<BatchId>,
    /// Elements that will be made in records that will be, by store and record, once somebody asked.
    along: BTreeMap<(EntityName, StoreName), BTreeMap<RecordKey, Vec<Along>>>,
    stop: bool,
    failed: Option<String>,
    report: Report,
}

impl Applying {
    /// A machine that has not begun.
    pub fn new(inputs: ApplyInputs, plan: Plan) -> Self {
        let ledger = Ledger::new(&inputs.spec.canonical);
        let report = Report {
            guards: plan.guards.clone(),
            books: plan.books.clone(),
            unreadable: plan.unreadable(),
            conflicts_waiting: inputs.ledger.conflicts.values().flatten().count() as u64,
            ..Report::default()
        };
        let paused = |conflict: &Conflict| inputs.holds.has(&conflict.record, &inputs.spec.canonical);
        let closes = plan.withdrawn.iter().filter(|conflict| !paused(conflict)).cloned().collect();
        let kept = plan.over.iter().filter(|record| !inputs.holds.has(record, &inputs.spec.canonical));
        let kept = kept.cloned().collect();
        let chunks = chunks(&inputs.spec, &plan, inputs.chunk.max(1), &[], &BTreeSet::new());
        let pass = inputs
            .header
            .acknowledged
            .max(inputs.header.intended)
            .max(inputs.ledger.pass.as_ref().map_or(0, |pass| pass.number))
            + 1;
        Self {
            inputs,
            ledger,
            plan: Arc::new(plan),
            pass,
            chunks,
            next: 0,
            flight: Flight::default(),
            others: Vec::new(),
            ahead: BTreeMap::new(),
            handed: (0, 0),
            spent: Vec::new(),
            reached: BTreeMap::new(),
            falls: Vec::new(),
            fallen: BTreeSet::new(),
            dropped: BTreeSet::new(),
            down: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            missing: BTreeSet::new(),
            staying: BTreeMap::new(),
            endings: Endings { closes, kept, ..Endings::default() },
            receipts: Vec::new(),
            along: BTreeMap::new(),
            stop: false,
            failed: None,
            report,
        }
    }

    /// Ends after what is in flight; the rest is left for the next pass.
    pub fn stop(&mut self) {
        self.stop = true;
    }

    /// What was done; an error when the pass could not go on.
    ///
    /// # Errors
    /// When state or canonical store failed as a whole; what was acknowledged until then is safe.
    pub fn result(self) -> Result<Report, String> {
        match self.failed {
            None => Ok(self.report),
            Some(message) => Err(message),
        }
    }

    /// The plan that is carried out.
    pub fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan)
    }

    /// Takes an event of a lane and says what to do next; nothing when it is done, or while others are still awaited.
    pub fn step(&mut self, lane: Lane, event: Event) -> Vec<(Lane, Effect)> {
        if !self.turn_to(lane) {
            return Vec::new();
        }
        self.flight.waiting = self.flight.waiting.saturating_sub(1);
        match event {
            Event::Rechecked(Ok(now)) => self.drop_moved(&now),
            Event::Rechecked(Err(message)) | Event::Committed(Err(message)) => self.failed = Some(message),
            Event::Native { store, entity, rows } => self.take_images(&store, &entity, rows),
            Event::Rows { rows, .. } => self.take_kept(rows),
            Event::Wrote { store, outcomes } => self.flight.outcomes.push((store, outcomes)),
            Event::Start
            | Event::State(_)
            | Event::Ledger(_)
            | Event::Receipts(_)
            | Event::Committed(Ok(()))
            | Event::ReceiptsForgotten => {}
        }
        if self.flight.waiting > 0 { Vec::new() } else { self.go_on() }
    }

    /// Leaves the present stage, with its answers, for the next one, and says what that needs.
    fn advance(&mut self) -> Vec<Effect> {
        match self.flight.stage {
            Stage::Begin => self.begin(),
            Stage::Recheck => self.to(Stage::Intend),
            Stage::Intend => self.intend(),
            Stage::Announce => self.announce(),
            Stage::Acknowledge => self.acknowledge(),
            Stage::Chunks => self.end_chunks(),
            Stage::Images => self.read_images(),
            Stage::Record => self.put_on_record(),
            Stage::Note => self.note_canonical(),
            Stage::Canonical => self.write_canonical(),
            Stage::NoteReplicas => self.note_replicas(),
            Stage::Replicas => self.write_replicas(),
            Stage::NoteEnd => self.note_end(),
            Stage::Ending => self.write_endings(),
            Stage::Receipts => self.forget_receipts(),
            Stage::Landed | Stage::Done => Vec::new(),
        }
    }

    fn to(&mut self, stage: Stage) -> Vec<Effect> {
        self.flight.stage = stage;
        Vec::new()
    }

    fn begin(&mut self) -> Vec<Effect> {
        if self.plan.records.is_empty() && self.endings.is_empty() {
            return self.to(Stage::Done);
        }
        self.drop_held();
        if !self.inputs.recheck {
            return self.to(Stage::Intend);
        }
        self.flight.stage = Stage::Recheck;
        let ids: Result<_, Lost> = (0..self.plan.records.len()).map(|at| self.plan.records.id(at)).collect();
        match ids {
            Ok(ids) => vec![Effect::Recheck(ids)],
            Err(lost) => self.lose(&lost),
        }
    }

    /// Leaves out, by name, what is no longer as it was when the plan was made.
    fn drop_moved(&mut self, now: &Rechecked) {
        for at in 0..self.plan.records.len() {
            let record = match self.plan.records.with_basis(at) {
                Ok(record) => record,
                Err(lost) => {
                    self.lose(&lost);
                    return;
                }
            };
            if now.fingerprints.get(&record.record) == Some(&record.basis) {
                continue;
            }
            let why = match now.unread.get(&record.record.entity) {
                None => "it changed since the plan was made; plan again to see it".to_owned(),
                Some(StoreError { store, message, .. }) => {
                    format!(
                        "`{store}` cannot be read now, so nobody knows what changed since the plan was made: {message}"
                    )
                }
            };
            self.skip_record(at, &why);
        }
    }

    fn intend(&mut self) -> Vec<Effect> {
        self.find_falls();
        if self.failed.is_some() {
            return Vec::new();
        }
        if self.dropped.len() == self.plan.records.len() && self.endings.is_empty() {
            return self.to(Stage::Done);
        }
        self.flight.stage = Stage::Announce;
        let transition = Transition {
            intend_pass: Some(self.pass),
            forget_everything: self.plan.rebuild,
            ..Transition::default()
        };
        vec![Effect::Commit(transition)]
    }

    fn announce(&mut self) -> Vec<Effect> {
        self.flight.stage = Stage::Acknowledge;
        let row = PassRow { number: self.pass, state: self.inputs.header.id.clone() };
        let fields = self.ledger.pass_fields(&row, &self.inputs.holder, self.inputs.now);
        let op = match &self.inputs.ledger.pass {
            None => create(fields),
            Some(before) => update(fields, Ledger::pass_guard(before)),
        };
        let entity = self.ledger.passes.entity.name.clone();
        vec![self.ledger_write(entity, vec![(Ledger::pass_key(), op)])]
    }

    fn acknowledge(&mut self) -> Vec<Effect> {
        const MOVED: &str = "another controller is at work there";
        let trouble = self.flight.outcomes.drain(..).find_map(|(_, outcomes)| match outcomes {
            Ok(outcomes) => outcomes.into_values().find_map(|outcome| match outcome {
                Outcome::Applied(_) => None,
                Outcome::Moved => Some(MOVED.to_owned()),
                Outcome::Refused(error) | Outcome::Unknown(error) => Some(error.to_string()),
            }),
            Err(error) => Some(error.to_string()),
        });
        if let Some(trouble) = trouble {
            self.failed = Some(format!(
                "the pass could not be announced in the canonical store, so nothing was written: {trouble}"
            ));
            return Vec::new();
        }
        self.report.pass = Some(self.pass);
        self.flight.stage = Stage::Chunks;
        vec![Effect::Commit(Transition { acknowledge_pass: Some(self.pass), ..Transition::default() })]
    }

    /// All chunks are done, or no more are.
    fn end_chunks(&mut self) -> Vec<Effect> {
        self.report.stopped |= self.next < self.chunks.len();
        self.to(Stage::Ending)
    }

    /// The chunk that is being attended to.
    fn chunk(&self) -> &Chunk {
        &self.chunks[self.flight.lane.saturating_sub(1)]
    }

    /// A record of the plan; none when it cannot be read back, which ends the pass.
    fn record(&mut self, at: usize) -> Option<Arc<RecordPlan>> {
        if let Some(record) = self.flight.loaded.get(&at) {
            return Some(Arc::clone(record));
        }
        if let Some(record) = self.ahead.remove(&at) {
            return Some(record);
        }
        self.plan.records.get(at).map_err(|lost| self.lose(&lost)).ok()
    }

    fn lose(&mut self, lost: &Lost) -> Vec<Effect> {
        self.failed.get_or_insert_with(|| lost.to_string());
        Vec::new()
    }

    /// The records of the present chunk that are still to be done.
    fn present(&self) -> Vec<(usize, Arc<RecordPlan>)> {
        let loaded = self.flight.loaded.iter().filter(|(at, _)| !self.dropped.contains(*at));
        loaded.map(|(at, record)| (*at, Arc::clone(record))).collect()
    }

    /// Reads the records of the present chunk.
    fn load(&mut self) {
        self.flight.loaded.clear();
        for at in self.todo() {
            let Some(record) = self.record(at) else { return };
            let fallen = self.fallen.contains(&at);
            let (falls, canonical) = (self.chunk().falls, self.inputs.spec.canonical.clone());
            self.reach(&record, |action| !fallen || falls == (action.store == canonical));
            self.flight.loaded.insert(at, record);
        }
        self.ahead.clear();
    }

    fn reach(&mut self, record: &RecordPlan, which: impl Fn(&Action) -> bool) {
        for action in record.actions.iter().filter(|action| which(action)) {
            let place = (record.record.entity.clone(), action.store.clone(), action.kind);
            *self.reached.entry(place).or_default() += 1;
        }
    }

    fn unreach(&mut self, record: &RecordPlan, which: impl Fn(&Action) -> bool) {
        for action in record.actions.iter().filter(|action| which(action)) {
            let place = (record.record.entity.clone(), action.store.clone(), action.kind);
            let reached = self.reached.entry(place).or_default();
            *reached = reached.saturating_sub(1);
        }
    }

    /// The places of the records of the present chunk that are still to be done.
    fn todo(&self) -> Vec<usize> {
        let chunk = self.chunk();
        chunk.records.iter().copied().filter(|at| !self.dropped.contains(at)).collect()
    }
}

fn create(fields: Fields<Value>) -> WriteOp {
    WriteOp::Create { fields, meta: SyncMeta::default(), created: None, updated: None }
}

fn update(fields: Fields<Value>, guard: Fields<Cell>) -> WriteOp {
    WriteOp::Update {
        fields,
        meta: None,
        updated: None,
        guard: Guard { fields: guard, meta: SyncMeta::default() },
    }
}

/// Makes and changes in the order of entities, those referred to first; then deletes in the opposite order: of what goes by itself, and of
/// what goes together, in the canonical store first. Where nothing refers to records that have what only one may have, they let go of it
/// before others take it.
fn chunks(
    spec: &Spec,
    plan: &Plan,
    size: usize,
    falls: &[Vec<usize>],
    fallen: &BTreeSet<usize>,
) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let add = |chunks: &mut Vec<Chunk>, entity: &EntityName, deletes: bool, together: bool| {
        let records = plan.records.of_entity(entity);
        let of_it = |at: &usize| plan.records.goes(*at) == deletes && fallen.contains(at) == together;
        let records: Vec<usize> = records.filter(of_it).collect();
        chunks.extend(records.chunks(size).map(|records| Chunk {
            entity: entity.clone(),
            records: records.to_vec(),
            deletes,
            falls: false,
        }));
    };
    let lets_go = |name: &&EntityName| {
        let unique = |entity: &Arc<Entity>| entity.fields.iter().any(|field| field.unique);
        let refers = |other: &Arc<Entity>| other.references.iter().any(|reference| reference.to == **name);
        spec.entity(name).is_some_and(unique) && !spec.entities.iter().any(refers)
    };
    plan.entities.iter().filter(lets_go).for_each(|entity| add(&mut chunks, entity, true, false));
    plan.entities.iter().for_each(|entity| add(&mut chunks, entity, false, false));
    let rest = plan.entities.iter().rev().filter(|entity| !lets_go(entity));
    rest.for_each(|entity| add(&mut chunks, entity, true, false));
    let entity_of = |at: usize| {
        let holds = |entity: &&EntityName| plan.records.of_entity(entity).contains(&at);
        plan.entities.iter().find(holds).cloned()
    };
    chunks.extend(falls::fall_chunks(falls, entity_of, size));
    plan.entities.iter().rev().for_each(|entity| add(&mut chunks, entity, true, true));
    chunks
}
