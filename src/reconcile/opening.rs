//! Where things stand before a pass: does the state belong to this canonical store, and what became of writes in flight?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::{
    BatchId, ByStore, Entity, EntityName, Header, Intent, IntentId, RecordId, RecordKey, Shadow, StoreName,
    Timestamp, Transition,
};
use crate::spec::{Spec, StateSpec};

use super::recovery;
use super::{Effect, Event, LedgerContents};

/// What the opening found.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Where the state stands.
    pub header: Header,
    /// What the system tables hold.
    pub ledger: LedgerContents,
    /// Whether everything meets for the first time: the state was lost, or is an older copy.
    pub rebuild: bool,
    /// Shadows that the recovery found and that are not in the state (of a mere plan, which changes no state).
    pub overlay: BTreeMap<RecordId, ByStore<Shadow>>,
    /// Records of which it is not known what became of a write, in a store that cannot be read.
    pub unresolved: BTreeSet<(RecordId, StoreName)>,
    /// Whether writes of an earlier pass had to be found out about.
    pub recovered: bool,
}

impl Opened {
    /// Whether the opening found something about a record that is in no snapshot.
    pub fn has_more(&self, entity: &Entity, key: &RecordKey) -> bool {
        if self.overlay.is_empty() && self.unresolved.is_empty() {
            return false;
        }
        let id = RecordId { entity: entity.name.clone(), key: key.clone() };
        self.overlay.contains_key(&id) || self.unresolved.iter().any(|(record, _)| *record == id)
    }
}

/// Why nothing can be done at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpeningFailed {
    /// What happened.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

/// The machine.
#[derive(Debug)]
pub struct Opening {
    spec: Arc<Spec>,
    /// Whether what is found out may be put into the state.
    commit: bool,
    now: Timestamp,
    header: Option<Header>,
    intents: Vec<Intent>,
    ledger: Option<LedgerContents>,
    waiting: usize,
    found: recovery::Found,
    rebuild: bool,
    /// What was found, until the state has it.
    opened: Option<Opened>,
    done: Option<Result<Opened, OpeningFailed>>,
}

impl Opening {
    /// A machine that has not begun. With `commit`, what is found out is put into the state.
    pub fn new(spec: Arc<Spec>, commit: bool, now: Timestamp) -> Self {
        Self {
            spec,
            commit,
            now,
            header: None,
            intents: Vec::new(),
            ledger: None,
            waiting: 0,
            found: recovery::Found::default(),
            rebuild: false,
            opened: None,
            done: None,
        }
    }

    /// The result, once there are no more effects.
    pub fn result(self) -> Result<Opened, OpeningFailed> {
        self.done.unwrap_or_else(|| Err(failed("the opening did not end", None)))
    }

    /// Takes an event and says what to do next; nothing when it is done, or while others are still awaited.
    pub fn step(&mut self, event: Event) -> Vec<Effect> {
        self.waiting = self.waiting.saturating_sub(1);
        match event {
            Event::Start => return self.ask(vec![Effect::LoadState, Effect::LoadLedger]),
            Event::State(Ok((header, intents))) => {
                self.header = Some(header);
                self.intents = intents;
            }
            Event::State(Err(message)) | Event::Committed(Err(message)) => self.fail(failed(&message, None)),
            Event::Ledger(Ok(ledger)) => self.ledger = Some(ledger),
            Event::Ledger(Err(error)) => {
                let hint = error.hint.clone();
                self.fail(OpeningFailed {
                    message: format!(
                        "the canonical store `{}` cannot be used: {}",
                        error.store, error.message
                    ),
                    hint,
                });
            }
            Event::Receipts(Ok(receipts)) => self.found.receipts = receipts,
            Event::Receipts(Err(error)) => self.fail(failed(&error.to_string(), None)),
            Event::Rows { store, entity, rows } => self.found.take_rows(store, entity, rows.ok()),
            Event::Committed(Ok(()))
            | Event::Rechecked(_)
            | Event::Native { .. }
            | Event::Wrote { .. }
            | Event::ReceiptsForgotten => {}
        }
        if self.waiting > 0 || self.done.is_some() {
            return Vec::new();
        }
        self.go_on()
    }

    fn ask(&mut self, effects: Vec<Effect>) -> Vec<Effect> {
        self.waiting = effects.len();
        effects
    }

    fn fail(&mut self, failure: OpeningFailed) {
        self.done.get_or_insert(Err(failure));
    }

    fn go_on(&mut self) -> Vec<Effect> {
        if let Some(opened) = self.opened.take() {
            self.done = Some(Ok(opened));
            return Vec::new();
        }
        let (Some(header), Some(ledger)) = (&self.header, &self.ledger) else { return Vec::new() };
        if !self.found.asked {
            self.found.asked = true;
            match belongs(header, ledger, &self.spec.controller.state) {
                Belongs::Yes => {}
                Belongs::Stale => self.rebuild = true,
                Belongs::RolledBack(failure) => {
                    self.fail(failure);
                    return Vec::new();
                }
            }
            let effects = if self.rebuild { Vec::new() } else { questions(&self.spec, &self.intents) };
            if !effects.is_empty() {
                return self.ask(effects);
            }
        }
        match (self.header.take(), self.ledger.take()) {
            (Some(header), Some(ledger)) => self.conclude(header, ledger),
            _ => Vec::new(),
        }
    }

    /// Puts what was found out into the state, or only says it.
    fn conclude(&mut self, mut header: Header, ledger: LedgerContents) -> Vec<Effect> {
        let mut transition = self.transition(&header, &ledger);
        if let Some(number) = transition.acknowledge_pass {
            header.acknowledged = number;
        }
        let ended: BTreeSet<&IntentId> = transition.close.iter().map(|(id, _)| id).collect();
        let unresolved = self
            .intents
            .iter()
            .filter(|intent| !self.rebuild && !ended.contains(&intent.id))
            .map(|intent| (intent.record.clone(), intent.store.clone()))
            .collect();
        let mut overlay: BTreeMap<RecordId, ByStore<Shadow>> = BTreeMap::new();
        if !self.commit {
            for (record, store, shadow) in std::mem::take(&mut transition.shadows) {
                overlay.entry(record).or_default().insert(store, Arc::unwrap_or_clone(shadow));
            }
        }
        let recovered = !self.intents.is_empty();
        let opened = Opened { header, ledger, rebuild: self.rebuild, overlay, unresolved, recovered };
        if self.commit && !transition.is_empty() {
            self.opened = Some(opened);
            return self.ask(vec![Effect::Commit(transition)]);
        }
        self.done = Some(Ok(opened));
        Vec::new()
    }

    fn transition(&self, header: &Header, ledger: &LedgerContents) -> Transition {
        if self.rebuild {
            return Transition::default();
        }
        let mut transition = self.found.transition(&self.spec, &self.intents, self.now);
        let announced = ledger.pass.as_ref().map_or(0, |pass| pass.number);
        if announced > header.acknowledged {
            transition.acknowledge_pass = Some(announced);
        }
        transition
    }
}

fn failed(message: &str, hint: Option<&str>) -> OpeningFailed {
    OpeningFailed { message: message.to_owned(), hint: hint.map(ToOwned::to_owned) }
}

/// What to do where the canonical store has no pass on record. What waits between the stores is known to the state alone, and conflicts and
/// tombstones stand in the store that was canonical: both are to be brought to an end there first.
fn moved(state: &str) -> String {
    format!(
        "if `canonical: true` was moved here from another store: 1. put it back there; 2. run `trueup apply` until there are no changes, \
         and settle what `trueup conflicts list` shows; 3. see that nobody edits meanwhile, and move `canonical: true`; 4. run `trueup \
         migrate`, move the state away ({state}), and run `trueup apply`: all stores agree, so nothing is written. Settled conflicts and \
         tombstones stay in the store that was canonical. If it is an older copy: restore the newer one; or, if the older one is to \
         stand, move the state away, and everything meets for the first time"
    )
}

/// Where the state is, for people who are to move it.
fn place_of(state: &StateSpec) -> String {
    match state {
        StateSpec::Sqlite(path) if path.is_absolute() => format!("`{}`", path.display()),
        StateSpec::Sqlite(path) => format!("`{}` in the manifests' folder", path.display()),
        StateSpec::Postgres { schema, .. } => format!("the schema `{schema}` of its Postgres"),
    }
}

enum Belongs {
    Yes,
    Stale,
    RolledBack(OpeningFailed),
}

/// Whether the state is the one that the canonical store was last written with.
fn belongs(header: &Header, ledger: &LedgerContents, state: &StateSpec) -> Belongs {
    let rolled_back = |found: i64| {
        Belongs::RolledBack(failed(
            &format!(
                "the canonical store went back: it knows of pass {found}, the state of pass {}",
                header.acknowledged
            ),
            Some(&format!(
                "restore the newer copy of the canonical store; or, if the older one is to stand, move the state away ({}), and \
                 everything meets for the first time",
                place_of(state)
            )),
        ))
    };
    match &ledger.pass {
        None if header.acknowledged > 0 => Belongs::RolledBack(failed(
            &format!(
                "the canonical store knows of no pass, the state of pass {}: it is another store than before, or an older copy of it",
                header.acknowledged
            ),
            Some(&moved(&place_of(state))),
        )),
        Some(pass) if pass.state != header.id => Belongs::Stale,
        Some(pass) if pass.number < header.acknowledged => rolled_back(pass.number),
        Some(pass) if pass.number > header.acknowledged.max(header.intended) => Belongs::Stale,
        // A first pass, or the one that the state knows of.
        None | Some(_) => Belongs::Yes,
    }
}

/// What has to be asked to find out about intents that did not end.
fn questions(spec: &Spec, intents: &[Intent]) -> Vec<Effect> {
    let mut batches: BTreeSet<BatchId> = BTreeSet::new();
    let mut reads: BTreeMap<(StoreName, EntityName), Vec<RecordKey>> = BTreeMap::new();
    for intent in intents {
        if intent.receipt {
            batches.insert(intent.batch.clone());
        }
        if !recovery::is_element(spec, intent) {
            let place = (intent.store.clone(), intent.record.entity.clone());
            reads.entry(place).or_default().push(intent.record.key.clone());
        }
    }
    let mut effects = Vec::new();
    if !batches.is_empty() {
        effects.push(Effect::Receipts(batches.into_iter().collect()));
    }
    effects.extend(reads.into_iter().map(|((store, entity), keys)| Effect::Read { store, entity, keys }));
    effects
}
