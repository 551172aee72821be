//! Carrying a plan out: conflicts and tombstones first, then the canonical store, then the others, a chunk of records at a time.
//!
//! For each chunk: what must be on record is written; the canonical writes are noted, sent, and their outcome noted together with
//! what follows from it and the notes of the replicas' writes; these are sent, and their outcome noted. A stop or a death between
//! any two of these loses nothing: what was noted and not ended is found out about by the next [`super::Opening`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::diff::{Action, ActionKind, Standing};
use crate::model::{
    Batch, BatchId, Cell, EntityName, ErrorKind, FieldName, FieldShadow, Guard, Header, Intent, IntentEnd,
    IntentId, IntentKind, Outcome, RecordId, RecordKey, Row, Shadow, StoreError, StoreName, SyncError,
    SyncMeta, SyncStatus, Timestamp, Transition, Value, Write, WriteOp,
};
use crate::plan::{Plan, RecordPlan};
use crate::spec::Spec;

use super::{Effect, Event, Ledger, LedgerContents, PassRow, Report, Trouble};

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
}

/// Where the machine is within a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Begin,
    Recheck,
    Intend,
    Announce,
    Acknowledge,
    Images,
    Record,
    Note,
    Canonical,
    NoteReplicas,
    Replicas,
    NoteEnd,
    Ending,
    Receipts,
    Done,
}

/// Records that go out together.
#[derive(Debug, Clone)]
struct Chunk {
    entity: EntityName,
    records: Vec<usize>,
    deletes: bool,
}

/// The machine.
pub struct Applying {
    inputs: ApplyInputs,
    ledger: Ledger,
    plan: Plan,
    pass: i64,
    stage: Stage,
    chunks: Vec<Chunk>,
    at: usize,
    batches: u64,
    waiting: usize,
    /// Records that nothing more is done about, with their reason noted in the report.
    dropped: BTreeSet<usize>,
    /// Stores that gave up during this pass.
    down: BTreeMap<StoreName, StoreError>,
    /// Writes in flight.
    intents: BTreeMap<IntentId, (usize, Intent)>,
    outcomes: Vec<(StoreName, Result<BTreeMap<IntentId, Outcome>, StoreError>)>,
    images: BTreeMap<(StoreName, RecordKey), serde_json::Value>,
    /// Deleted records of which a store could not confirm it.
    unconfirmed: BTreeSet<usize>,
    /// Trouble in replicas, for the canonical record's bookkeeping.
    troubled: BTreeMap<usize, Vec<SyncError>>,
    /// The canonical metadata as last written, for bookkeeping afterwards.
    canonical_meta: BTreeMap<usize, SyncMeta>,
    receipts: Vec<BatchId>,
    stop: bool,
    failed: Option<String>,
    report: Report,
}

impl Applying {
    /// A machine that has not begun.
    pub fn new(inputs: ApplyInputs, plan: Plan) -> Self {
        let ledger = Ledger::new(&inputs.spec.canonical);
        let report = Report { guards: plan.guards.clone(), books: plan.books.clone(), ..Report::default() };
        let chunks = chunks(&plan, inputs.chunk.max(1));
        let pass = inputs
            .header
            .acknowledged
            .max(inputs.header.intended)
            .max(inputs.ledger.pass.as_ref().map_or(0, |pass| pass.number))
            + 1;
        Self {
            inputs,
            ledger,
            plan,
            pass,
            stage: Stage::Begin,
            chunks,
            at: 0,
            batches: 0,
            waiting: 0,
            dropped: BTreeSet::new(),
            down: BTreeMap::new(),
            intents: BTreeMap::new(),
            outcomes: Vec::new(),
            images: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            troubled: BTreeMap::new(),
            canonical_meta: BTreeMap::new(),
            receipts: Vec::new(),
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
    pub fn result(self) -> Result<Report, (String, Report)> {
        match self.failed {
            None => Ok(self.report),
            Some(message) => Err((message, self.report)),
        }
    }

    /// The report so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Takes an event and says what to do next; nothing when it is done, or while others are still awaited.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        self.waiting = self.waiting.saturating_sub(1);
        match event {
            Event::Rechecked(now) => self.drop_moved(&now),
            Event::Committed(Err(message)) => self.failed = Some(message),
            Event::Native { store, rows } => self.take_images(&store, rows),
            Event::Wrote { store, outcomes } => self.outcomes.push((store, outcomes)),
            Event::Start
            | Event::State(_)
            | Event::Ledger(_)
            | Event::Receipts(_)
            | Event::Rows { .. }
            | Event::Committed(Ok(()))
            | Event::ReceiptsForgotten => {}
        }
        if self.waiting > 0 {
            return Vec::new();
        }
        while self.failed.is_none() && self.stage != Stage::Done {
            let effects = self.advance();
            if !effects.is_empty() {
                self.waiting = effects.len();
                return effects;
            }
        }
        Vec::new()
    }

    /// Leaves the present stage, with its answers, for the next one, and says what that needs.
    fn advance(&mut self) -> Vec<Effect> {
        match self.stage {
            Stage::Begin => self.begin(),
            Stage::Recheck => self.to(Stage::Intend),
            Stage::Intend => self.intend(),
            Stage::Announce => self.announce(),
            Stage::Acknowledge => self.acknowledge(),
            Stage::Images => self.read_images(),
            Stage::Record => self.put_on_record(),
            Stage::Note => self.note_canonical(),
            Stage::Canonical => self.write_canonical(),
            Stage::NoteReplicas => self.note_replicas(),
            Stage::Replicas => self.write_replicas(),
            Stage::NoteEnd => self.note_end(),
            Stage::Ending => self.write_endings(),
            Stage::Receipts => self.forget_receipts(),
            Stage::Done => Vec::new(),
        }
    }

    fn to(&mut self, stage: Stage) -> Vec<Effect> {
        self.stage = stage;
        Vec::new()
    }

    fn begin(&mut self) -> Vec<Effect> {
        if self.plan.records.is_empty() {
            return self.to(Stage::Done);
        }
        if !self.inputs.recheck {
            return self.to(Stage::Intend);
        }
        self.stage = Stage::Recheck;
        vec![Effect::Recheck(self.plan.records.iter().map(|record| record.record.clone()).collect())]
    }

    /// Leaves out, by name, what is no longer as it was when the plan was made.
    fn drop_moved(&mut self, now: &BTreeMap<RecordId, String>) {
        for at in 0..self.plan.records.len() {
            let record = &self.plan.records[at];
            if now.get(&record.record) != Some(&record.basis) {
                self.skip_record(at, "it changed since the plan was made; plan again to see it");
            }
        }
    }

    fn skip_record(&mut self, at: usize, message: &str) {
        if !self.dropped.insert(at) {
            return;
        }
        let record = self.plan.records[at].clone();
        let canonical = self.inputs.spec.canonical.clone();
        let stores: Vec<StoreName> = record.actions.iter().map(|action| action.store.clone()).collect();
        for store in if stores.is_empty() { vec![canonical] } else { stores } {
            self.shift(at, &store, Standing::Skipped);
            self.report.skipped.push(Trouble {
                record: record.record.clone(),
                store,
                message: message.to_owned(),
            });
        }
    }

    /// Moves a record in the books from where the plan had it.
    fn shift(&mut self, at: usize, store: &StoreName, to: Standing) {
        let record = &self.plan.records[at];
        let Some(action) = record.actions.iter().find(|action| &action.store == store) else { return };
        let from = match action.kind {
            ActionKind::Create | ActionKind::Update | ActionKind::Delete => Standing::Written,
            ActionKind::Metadata => Standing::MetadataOnly,
            ActionKind::Bookkeeping => return,
        };
        let books = self.report.books.get_mut(&record.record.entity).and_then(|books| books.get_mut(store));
        if let Some(books) = books {
            books.shift(from, to);
        }
    }

    fn intend(&mut self) -> Vec<Effect> {
        if self.dropped.len() == self.plan.records.len() {
            return self.to(Stage::Done);
        }
        self.stage = Stage::Announce;
        let transition = Transition {
            intend_pass: Some(self.pass),
            forget_everything: self.plan.rebuild,
            ..Transition::default()
        };
        vec![Effect::Commit(transition)]
    }

    fn announce(&mut self) -> Vec<Effect> {
        self.stage = Stage::Acknowledge;
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
        let announced = self.outcomes.drain(..).all(|(_, outcomes)| match outcomes {
            Ok(outcomes) => outcomes.values().all(|outcome| matches!(outcome, Outcome::Applied(_))),
            Err(_) => false,
        });
        if !announced {
            self.failed = Some(
                "the pass could not be announced in the canonical store: another controller is at work there, or it failed; \
                 nothing was written"
                    .to_owned(),
            );
            return Vec::new();
        }
        self.report.pass = Some(self.pass);
        self.stage = if self.chunks.is_empty() { Stage::Ending } else { Stage::Images };
        vec![Effect::Commit(Transition { acknowledge_pass: Some(self.pass), ..Transition::default() })]
    }

    /// The records of the present chunk that are still to be done.
    fn todo(&self) -> Vec<usize> {
        let chunk = &self.chunks[self.at];
        chunk.records.iter().copied().filter(|at| !self.dropped.contains(at)).collect()
    }

    /// Before anything is deleted, the rows that go are read whole.
    fn read_images(&mut self) -> Vec<Effect> {
        if self.stop {
            self.report.stopped = true;
            return self.to(Stage::Ending);
        }
        self.stage = Stage::Record;
        let chunk = self.chunks[self.at].clone();
        if !chunk.deletes {
            return Vec::new();
        }
        let mut wanted: BTreeMap<StoreName, Vec<RecordKey>> = BTreeMap::new();
        for at in self.todo() {
            let record = &self.plan.records[at];
            if record.tombstone.is_none() {
                continue;
            }
            for action in record.actions.iter().filter(|action| action.kind == ActionKind::Delete) {
                wanted.entry(action.store.clone()).or_default().push(record.record.key.clone());
            }
        }
        wanted
            .into_iter()
            .map(|(store, keys)| Effect::ReadNative { store, entity: chunk.entity.clone(), keys })
            .collect()
    }

    fn take_images(
        &mut self,
        store: &StoreName,
        rows: Result<BTreeMap<RecordKey, serde_json::Value>, StoreError>,
    ) {
        match rows {
            Ok(rows) => self.images.extend(rows.into_iter().map(|(key, row)| ((store.clone(), key), row))),
            Err(error) => {
                self.down.insert(store.clone(), error);
            }
        }
    }

    /// Conflicts and tombstones: nothing of a record is written before they are acknowledged.
    fn put_on_record(&mut self) -> Vec<Effect> {
        self.stage = Stage::Note;
        let mut conflicts = Vec::new();
        let mut tombstones = Vec::new();
        for at in self.todo() {
            let record = &self.plan.records[at];
            for conflict in &record.conflicts {
                let key = RecordKey::new(vec![conflict.id.0.clone()]);
                conflicts.push((key, create(self.ledger.conflict_fields(conflict))));
            }
            if let Some(draft) = &record.tombstone {
                let rows = self.image_of(record);
                let fields = self.ledger.tombstone_fields(&record.record, draft, false, rows);
                let known = self.inputs.ledger.tombstones.contains_key(&record.record);
                let op = if known { update(fields, BTreeMap::new()) } else { create(fields) };
                tombstones.push((Ledger::tombstone_key(&record.record), op));
            }
        }
        let mut effects = Vec::new();
        if !conflicts.is_empty() {
            effects.push(self.ledger_write(self.ledger.conflicts.entity.name.clone(), conflicts));
        }
        if !tombstones.is_empty() {
            effects.push(self.ledger_write(self.ledger.tombstones.entity.name.clone(), tombstones));
        }
        effects
    }

    /// The native rows of a record that goes, by store; none where nothing goes.
    fn image_of(&self, record: &RecordPlan) -> Option<serde_json::Value> {
        let rows: serde_json::Map<String, serde_json::Value> = record
            .actions
            .iter()
            .filter_map(|action| {
                let row = self.images.get(&(action.store.clone(), record.record.key.clone()))?;
                Some((action.store.to_string(), row.clone()))
            })
            .collect();
        (!rows.is_empty()).then_some(serde_json::Value::Object(rows))
    }

    /// A write to a system table. It needs no intent: its key is its content, so that doing it again does no harm.
    fn ledger_write(&self, entity: EntityName, ops: Vec<(RecordKey, WriteOp)>) -> Effect {
        let writes = ops
            .into_iter()
            .map(|(key, op)| Write { intent: IntentId(key.parts().join("/")), key, store_id: None, op })
            .collect();
        let id = BatchId(format!("{}-{entity}", self.pass));
        Effect::Write {
            store: self.inputs.spec.canonical.clone(),
            entity,
            batch: Batch { id, receipt: false, writes },
        }
    }

    /// Takes note of what was put on record: a record whose conflict or tombstone is not, is left.
    fn check_on_record(&mut self) {
        let mut missing: BTreeMap<String, String> = BTreeMap::new();
        for (_, outcomes) in std::mem::take(&mut self.outcomes) {
            match outcomes {
                Ok(outcomes) => {
                    for (intent, outcome) in outcomes {
                        // A conflict of this id is on record already: its id is its content.
                        if let Outcome::Refused(error) | Outcome::Unknown(error) = outcome {
                            missing.insert(intent.0, error.to_string());
                        }
                    }
                }
                Err(error) => self.failed = Some(format!("conflicts could not be put on record: {error}")),
            }
        }
        for at in self.todo() {
            let record = &self.plan.records[at];
            let needs = record.conflicts.iter().map(|conflict| conflict.id.0.clone());
            let needs: Vec<String> =
                needs.chain(record.tombstone.is_some().then(|| record.record.to_string())).collect();
            if let Some(message) = needs.iter().find_map(|need| missing.get(need)).cloned() {
                self.fail_record(at, &message);
                continue;
            }
            for conflict in &self.plan.records[at].conflicts {
                if conflict.status.is_open() {
                    self.report.conflicts_opened += 1;
                } else {
                    self.report.conflicts_settled += 1;
                }
            }
        }
    }

    fn fail_record(&mut self, at: usize, message: &str) {
        if !self.dropped.insert(at) {
            return;
        }
        let record = self.plan.records[at].clone();
        for action in &record.actions {
            self.shift(at, &action.store, Standing::Failed);
            let trouble = Trouble {
                record: record.record.clone(),
                store: action.store.clone(),
                message: message.to_owned(),
            };
            self.report.failed.push(trouble);
        }
    }

    /// Notes the canonical writes, and remembers what is true without one.
    fn note_canonical(&mut self) -> Vec<Effect> {
        self.check_on_record();
        if self.failed.is_some() {
            return Vec::new();
        }
        self.stage = Stage::Canonical;
        self.batches += 1;
        let mut transition = Transition::default();
        for at in self.todo() {
            let record = self.plan.records[at].clone();
            let own = record.actions.iter().find(|action| action.store == self.inputs.spec.canonical);
            let Some(action) = own else {
                let adopted = record
                    .adopt
                    .iter()
                    .map(|(store, shadow)| (record.record.clone(), store.clone(), shadow.clone()));
                transition.shadows.extend(adopted);
                continue;
            };
            let mut advances = record.adopt.clone();
            advances.insert(action.store.clone(), action.advance.clone());
            transition.open.push(self.intend_action(at, action, advances, true));
        }
        if transition.is_empty() { Vec::new() } else { vec![Effect::Commit(transition)] }
    }

    fn intend_action(
        &mut self,
        at: usize,
        action: &Action,
        advances: BTreeMap<StoreName, Shadow>,
        receipt: bool,
    ) -> Intent {
        let batch = BatchId(format!("{}-{}-{}", self.pass, self.batches, action.store));
        let id = IntentId(format!("{batch}-{at}"));
        let kind = match action.kind {
            ActionKind::Create => IntentKind::Create,
            ActionKind::Delete => IntentKind::Delete,
            ActionKind::Update | ActionKind::Metadata | ActionKind::Bookkeeping => IntentKind::Update,
        };
        let value = |cell: &Cell| cell.value().cloned().unwrap_or_default();
        let held = |name: &FieldName| {
            action.advance.fields.get(name).map(|shadow| value(&shadow.held)).unwrap_or_default()
        };
        let intent = Intent {
            id: id.clone(),
            batch,
            store: action.store.clone(),
            receipt,
            record: self.plan.records[at].record.clone(),
            kind,
            before: action
                .changes
                .iter()
                .map(|change| (change.field.clone(), value(&change.before)))
                .collect(),
            after: action.changes.iter().map(|change| (change.field.clone(), held(&change.field))).collect(),
            meta_before: action.meta_before.clone(),
            meta_after: action.meta_after.clone(),
            advances,
        };
        self.intents.insert(id, (at, intent.clone()));
        intent
    }

    fn write_canonical(&mut self) -> Vec<Effect> {
        self.stage = Stage::NoteReplicas;
        self.writes_in_flight(true)
    }

    /// The batches of the writes that were noted and not sent.
    fn writes_in_flight(&self, receipt: bool) -> Vec<Effect> {
        let entity = self.chunks[self.at].entity.clone();
        let mut batches: BTreeMap<StoreName, Batch> = BTreeMap::new();
        for (id, (at, intent)) in &self.intents {
            let record = &self.plan.records[*at];
            let Some(action) = record.actions.iter().find(|action| action.store == intent.store) else {
                continue;
            };
            let write = Write {
                intent: id.clone(),
                key: record.record.key.clone(),
                store_id: action.store_id.clone(),
                op: self.operation(&record.record, action),
            };
            let empty = || Batch { id: intent.batch.clone(), receipt, writes: Vec::new() };
            batches.entry(intent.store.clone()).or_insert_with(empty).writes.push(write);
        }
        batches
            .into_iter()
            .map(|(store, batch)| Effect::Write { store, entity: entity.clone(), batch })
            .collect()
    }

    fn operation(&self, record: &RecordId, action: &Action) -> WriteOp {
        let entity = self.inputs.spec.entity(&record.entity);
        let id = |name: &FieldName| entity.and_then(|entity| entity.field_id(name));
        let fields: BTreeMap<_, Value> = action
            .changes
            .iter()
            .filter_map(|change| Some((id(&change.field)?, change.after.clone())))
            .collect();
        let guard = Guard {
            fields: action.guard.iter().filter_map(|(name, cell)| Some((id(name)?, cell.clone()))).collect(),
            meta: action.meta_before.clone(),
        };
        match action.kind {
            ActionKind::Create => WriteOp::Create {
                fields,
                meta: action.meta_after.clone().unwrap_or_default(),
                created: action.created,
                updated: action.updated,
            },
            ActionKind::Delete => WriteOp::Delete { guard },
            ActionKind::Update | ActionKind::Metadata | ActionKind::Bookkeeping => {
                WriteOp::Update { fields, meta: action.meta_after.clone(), updated: action.updated, guard }
            }
        }
    }

    /// Notes what became of the canonical writes, and the replicas' writes that may now go out.
    fn note_replicas(&mut self) -> Vec<Effect> {
        let mut transition = self.take_outcomes();
        self.stage = Stage::Replicas;
        if self.failed.is_some() {
            return Vec::new();
        }
        let canonical = self.inputs.spec.canonical.clone();
        for at in self.todo() {
            let record = self.plan.records[at].clone();
            for action in record.actions.iter().filter(|action| action.store != canonical) {
                if let Some(error) = self.down.get(&action.store).cloned() {
                    self.not_written(at, action, &error, Standing::Pending);
                    continue;
                }
                if self.stop {
                    continue;
                }
                let advances = BTreeMap::from([(action.store.clone(), action.advance.clone())]);
                transition.open.push(self.intend_action(at, action, advances, false));
            }
        }
        if transition.is_empty() { Vec::new() } else { vec![Effect::Commit(transition)] }
    }

    fn write_replicas(&mut self) -> Vec<Effect> {
        self.stage = Stage::NoteEnd;
        self.writes_in_flight(false)
    }

    fn note_end(&mut self) -> Vec<Effect> {
        let transition = self.take_outcomes();
        self.at += 1;
        self.stage = if self.at < self.chunks.len() { Stage::Images } else { Stage::Ending };
        self.images.clear();
        if transition.is_empty() { Vec::new() } else { vec![Effect::Commit(transition)] }
    }

    /// What the outcomes of the writes in flight change in the state; counts them.
    fn take_outcomes(&mut self) -> Transition {
        let mut transition = Transition::default();
        for (store, outcomes) in std::mem::take(&mut self.outcomes) {
            let sent: Vec<IntentId> = self
                .intents
                .iter()
                .filter(|(_, (_, intent))| intent.store == store)
                .map(|(id, _)| id.clone())
                .collect();
            let outcomes = outcomes.unwrap_or_else(|error| self.whole_batch(&store, &sent, error));
            for id in sent {
                let Some((at, intent)) = self.intents.remove(&id) else { continue };
                let missing = || {
                    StoreError::new(ErrorKind::OutcomeUnknown, &store, "the store said nothing of this write")
                };
                let outcome = outcomes.get(&id).cloned().unwrap_or_else(|| Outcome::Unknown(missing()));
                self.take_outcome(at, intent, outcome, &mut transition);
            }
        }
        transition
    }

    /// A batch that failed as a whole.
    fn whole_batch(
        &mut self,
        store: &StoreName,
        sent: &[IntentId],
        error: StoreError,
    ) -> BTreeMap<IntentId, Outcome> {
        let outcome = match error.kind {
            ErrorKind::OutcomeUnknown => Outcome::Unknown(error.clone()),
            _ => Outcome::Refused(error.clone()),
        };
        if *store == self.inputs.spec.canonical {
            // Without the canonical store nothing goes on; what was noted is closed or found out about.
            self.stop = true;
        }
        self.down.insert(store.clone(), error);
        sent.iter().map(|id| (id.clone(), outcome.clone())).collect()
    }

    fn take_outcome(&mut self, at: usize, intent: Intent, outcome: Outcome, transition: &mut Transition) {
        let canonical = intent.store == self.inputs.spec.canonical;
        let record = self.plan.records[at].clone();
        let Some(action) = record.actions.iter().find(|action| action.store == intent.store) else { return };
        let trouble =
            |message: String| Trouble { record: record.record.clone(), store: intent.store.clone(), message };
        let end = match outcome {
            Outcome::Applied(row) => {
                if canonical {
                    self.receipts.push(intent.batch.clone());
                    let meta = intent.meta_after.clone().unwrap_or_else(|| intent.meta_before.clone());
                    self.canonical_meta.insert(at, meta);
                }
                self.report.applied.count(action.kind);
                let entity = self.inputs.spec.entity(&record.record.entity);
                for (store, mut shadow) in intent.advances {
                    if let (true, Some(row), Some(entity)) = (store == intent.store, &row, entity) {
                        read_back(entity, action, row, &mut shadow);
                    }
                    transition.shadows.push((record.record.clone(), store, shadow));
                }
                IntentEnd::Applied
            }
            Outcome::Moved => {
                self.shift(at, &intent.store, Standing::Skipped);
                self.report
                    .skipped
                    .push(trouble("somebody changed it in between; the next pass looks again".to_owned()));
                self.unconfirmed.insert(at);
                if canonical {
                    self.drop_rest(at, &record, Standing::Skipped);
                }
                IntentEnd::NotApplied
            }
            Outcome::Refused(error) => {
                self.not_written(at, action, &error, Standing::Failed);
                if canonical {
                    self.drop_rest(at, &record, Standing::Failed);
                }
                IntentEnd::NotApplied
            }
            Outcome::Unknown(error) => {
                self.shift(at, &intent.store, Standing::Unknown);
                self.report.unknown.push(trouble(error.to_string()));
                self.unconfirmed.insert(at);
                if canonical {
                    self.drop_rest(at, &record, Standing::Failed);
                }
                return;
            }
        };
        transition.close.push((intent.id, end));
    }

    /// Without its canonical write a record's other writes do not go out.
    fn drop_rest(&mut self, at: usize, record: &RecordPlan, to: Standing) {
        self.dropped.insert(at);
        for action in &record.actions {
            if action.store != self.inputs.spec.canonical {
                self.shift(at, &action.store, to);
            }
        }
    }

    fn not_written(&mut self, at: usize, action: &Action, error: &StoreError, to: Standing) {
        let record = self.plan.records[at].record.clone();
        self.shift(at, &action.store, to);
        self.unconfirmed.insert(at);
        if action.store != self.inputs.spec.canonical {
            let rule = error.kind.as_str().to_owned();
            let (at_time, store) = (self.inputs.now, action.store.to_string());
            let trouble = SyncError { at: at_time, store, field: None, rule, message: error.message.clone() };
            self.troubled.entry(at).or_default().push(trouble);
        }
        self.report.failed.push(Trouble { record, store: action.store.clone(), message: error.to_string() });
    }

    /// Conflicts that ended, deletes that every store confirmed, and records that are still waiting for a store.
    fn write_endings(&mut self) -> Vec<Effect> {
        self.stage = Stage::Receipts;
        let mut conflicts = Vec::new();
        let mut tombstones = Vec::new();
        let done = if self.report.stopped { self.at } else { self.chunks.len() };
        let reached: Vec<usize> =
            self.chunks[..done].iter().flat_map(|chunk| chunk.records.clone()).collect();
        for at in reached.into_iter().filter(|at| !self.dropped.contains(at)) {
            let record = &self.plan.records[at];
            for conflict in &record.closes {
                let key = RecordKey::new(vec![conflict.id.0.clone()]);
                conflicts.push((key, update(self.ledger.conflict_fields(conflict), BTreeMap::new())));
                self.report.conflicts_settled += 1;
            }
            if let Some(draft) =
                record.tombstone.as_ref().filter(|draft| !draft.pending && !self.unconfirmed.contains(&at))
            {
                let fields = self.ledger.tombstone_fields(&record.record, draft, true, None);
                tombstones.push((Ledger::tombstone_key(&record.record), update(fields, BTreeMap::new())));
            }
        }
        for at in self.chunks[done..].iter().flat_map(|chunk| chunk.records.clone()).collect::<Vec<_>>() {
            for store in
                self.plan.records[at].actions.iter().map(|action| action.store.clone()).collect::<Vec<_>>()
            {
                self.shift(at, &store, Standing::Pending);
            }
        }
        let mut effects = self.bookkeeping();
        if !conflicts.is_empty() {
            effects.push(self.ledger_write(self.ledger.conflicts.entity.name.clone(), conflicts));
        }
        if !tombstones.is_empty() {
            effects.push(self.ledger_write(self.ledger.tombstones.entity.name.clone(), tombstones));
        }
        effects
    }

    /// Marks canonical records pending whose replicas could not be written. It is no evidence of anything, so it needs no intent.
    fn bookkeeping(&mut self) -> Vec<Effect> {
        let mut writes: BTreeMap<EntityName, Vec<(RecordKey, WriteOp)>> = BTreeMap::new();
        for (at, errors) in std::mem::take(&mut self.troubled) {
            let record = &self.plan.records[at];
            let mapping = self.inputs.spec.mapping(&record.record.entity, &self.inputs.spec.canonical);
            let (Some(meta), true) =
                (self.canonical_meta.get(&at), mapping.is_some_and(|mapping| mapping.has_bookkeeping()))
            else {
                continue;
            };
            if record.deletes() {
                continue;
            }
            let marked =
                SyncMeta { sync_status: Some(SyncStatus::Pending), sync_errors: errors, ..meta.clone() };
            let guard = Guard { fields: BTreeMap::new(), meta: meta.clone() };
            let op = WriteOp::Update { fields: BTreeMap::new(), meta: Some(marked), updated: None, guard };
            writes.entry(record.record.entity.clone()).or_default().push((record.record.key.clone(), op));
        }
        writes.into_iter().map(|(entity, ops)| self.ledger_write(entity, ops)).collect()
    }

    fn forget_receipts(&mut self) -> Vec<Effect> {
        self.outcomes.clear();
        self.stage = Stage::Done;
        let mut receipts = std::mem::take(&mut self.receipts);
        receipts.dedup();
        if receipts.is_empty() { Vec::new() } else { vec![Effect::ForgetReceipts(receipts)] }
    }
}

/// What a write answered: of the fields written and the metadata it is what the store holds now, in whatever form the store gave
/// it. Every other field in the answer may hold somebody's newer edit and is left for the next look.
fn read_back(entity: &crate::model::Entity, action: &Action, row: &Row, shadow: &mut Shadow) {
    for change in &action.changes {
        let cell = entity.field_id(&change.field).and_then(|id| row.fields.get(&id));
        if let (Some(cell), Some(field)) = (cell, shadow.fields.get_mut(&change.field)) {
            let same = cell.value() == Some(&change.after);
            let stands_for = (!same).then(|| change.after.clone());
            *field = FieldShadow { held: cell.clone(), stands_for, ..field.clone() };
        }
    }
    if action.meta_after.is_some() {
        shadow.meta = row.meta.clone().evidence();
    }
    shadow.updated = row.updated;
    shadow.store_id.clone_from(&row.store_id);
}

fn create(fields: BTreeMap<crate::model::FieldId, Value>) -> WriteOp {
    WriteOp::Create { fields, meta: SyncMeta::default(), created: None, updated: None }
}

fn update(
    fields: BTreeMap<crate::model::FieldId, Value>,
    guard: BTreeMap<crate::model::FieldId, Cell>,
) -> WriteOp {
    WriteOp::Update {
        fields,
        meta: None,
        updated: None,
        guard: Guard { fields: guard, meta: SyncMeta::default() },
    }
}

/// Makes and changes in the order of entities, those referred to first; then deletes in the opposite order.
fn chunks(plan: &Plan, size: usize) -> Vec<Chunk> {
    let mut chunks = Vec::new();
    let mut add = |entity: &EntityName, deletes: bool| {
        let records: Vec<usize> = (0..plan.records.len())
            .filter(|at| &plan.records[*at].record.entity == entity && plan.records[*at].goes() == deletes)
            .collect();
        chunks.extend(records.chunks(size).map(|records| Chunk {
            entity: entity.clone(),
            records: records.to_vec(),
            deletes,
        }));
    };
    plan.entities.iter().for_each(|entity| add(entity, false));
    plan.entities.iter().rev().for_each(|entity| add(entity, true));
    chunks
}
