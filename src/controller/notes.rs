//! What people and controllers leave for each other in the state: pauses, approvals, and what is wrong since when.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::{EntityName, FieldName, RecordId, RecordKey, StoreName, Timestamp};
use crate::plan::{Hold, Holds, Notice, NoticeKind, Orders, Place, Plan};
use crate::reconcile::Report;

use super::{Engine, EngineError, PassOptions};

const PAUSES: &str = "pause";
const APPROVALS: &str = "approval";
const ERRORS: &str = "error";
const ASKED: &str = "asked";

/// How many things that are wrong are remembered with their beginnings. More are counted and not listed.
const MOST_ERRORS: usize = 5_000;

/// How long an approval waits for its plan, in microseconds: a day. A plan whose records moved on is another plan anyway.
const APPROVAL_MICROS: i64 = 24 * 3600 * 1_000_000;

/// Something that nothing is written to until it is resumed or its time is over. It is looked at all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Only in this store; none: in all of them.
    pub store: Option<StoreName>,
    /// Only this entity; none: all of them.
    pub entity: Option<EntityName>,
    /// Only this record of the entity; none: all of them.
    pub key: Option<RecordKey>,
    /// Why, in words.
    pub reason: String,
    /// Who paused it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// Until when; none: until it is resumed.
    pub until: Option<Timestamp>,
}

impl Pause {
    /// What is paused, as `pause` and `resume` take it.
    pub fn address(&self) -> String {
        address(self.store.as_ref(), self.entity.as_ref(), self.key.as_ref())
    }

    /// Whether it holds at a time.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| until > now)
    }

    /// Whether a record, in some store or in all of them, falls under it.
    pub fn covers(&self, record: &RecordId) -> bool {
        self.entity.as_ref().is_none_or(|entity| *entity == record.entity)
            && self.key.as_ref().is_none_or(|key| *key == record.key)
    }

    fn place(&self) -> Place {
        Place { store: self.store.clone(), entity: self.entity.clone(), key: self.key.clone() }
    }
}

/// `app`, `contacts`, `contacts["C1"]`, `app.contacts["C1"]`.
fn address(store: Option<&StoreName>, entity: Option<&EntityName>, key: Option<&RecordKey>) -> String {
    let mut parts: Vec<String> = store.iter().map(ToString::to_string).collect();
    match (entity, key) {
        (Some(entity), Some(key)) => {
            parts.push(RecordId { entity: entity.clone(), key: key.clone() }.to_string());
        }
        (Some(entity), None) => parts.push(entity.to_string()),
        (None, _) => {}
    }
    parts.join(".")
}

/// A person's approval of a plan that guards refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The plan's code.
    pub code: String,
    /// Who approved it.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Something that is not as it should be, since when, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownError {
    /// What kind: `pass` (one that could not be made), `failed`, `unknown`, `skipped`, `guard`, or a notice's kind.
    pub kind: String,
    /// The record's address, if it is about one.
    pub record: Option<String>,
    /// The entity.
    pub entity: Option<EntityName>,
    /// The store.
    pub store: Option<StoreName>,
    /// The field.
    pub field: Option<FieldName>,
    /// Which of several such things in one place: a guard, a column, a key, a row's own id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What happened; no sensitive value.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Since when it has been so without a break.
    pub since: Timestamp,
}

impl KnownError {
    /// A pass that could not be made, or brought to its end.
    fn of_pass(failure: &EngineError, now: Timestamp) -> Self {
        let usual = "put right what it says; what was written stands, and the next pass goes on from there";
        Self {
            kind: "pass".to_owned(),
            record: None,
            entity: None,
            store: None,
            field: None,
            about: None,
            message: failure.message.clone(),
            hint: failure.hint.clone().unwrap_or_else(|| usual.to_owned()),
            since: now,
        }
    }

    /// What makes it the same as one that was known before: where it is and of what kind. What is said of it may change from pass to
    /// pass, with the times and counts in it, and it has stood all the while.
    fn key(&self) -> String {
        let parts = [
            Some(self.kind.clone()),
            self.store.as_ref().map(ToString::to_string),
            self.record.clone().or_else(|| self.entity.as_ref().map(ToString::to_string)),
            self.field.as_ref().map(ToString::to_string),
            self.about.clone(),
        ];
        parts.map(Option::unwrap_or_default).join("|")
    }
}

/// What to do about a notice.
fn advice(notice: &Notice) -> String {
    match notice.kind {
        NoticeKind::OtherState => {
            "nothing, if the state was lost or put back. If another controller or another folder of manifests works on this canonical \
             store: give them one state, or each a database of its own"
        }
        NoticeKind::Rebuilding => {
            "nothing that is not listed here: the first pass without targets that reaches every record there ends it"
        }
        NoticeKind::Beside => "nothing: look again when that pass has ended",
        NoticeKind::Held if notice.record.is_none() => {
            "say whose it is: `trueup identity list` shows the row, `identity link` and `split` settle it"
        }
        NoticeKind::Held if notice.field.is_none() => "decide what `trueup conflicts list` shows of it",
        NoticeKind::Waiting => "nothing: it goes on with the record that it waits for",
        NoticeKind::Held => {
            "decide it: `trueup conflicts list` shows the sides, `conflicts resolve` settles it"
        }
        NoticeKind::Rejected => "correct the value in that store; the next pass takes it",
        NoticeKind::AlreadyInvalid => "correct the value in any store when convenient; nothing waits for it",
        NoticeKind::CannotHold => {
            "nothing waits for it; map the field in another form if the store is to hold it"
        }
        NoticeKind::Regressed => {
            "restore the newer copy of the store, or bring it forward with `trueup apply --allow regressed`"
        }
        NoticeKind::Unreachable => {
            "what it says; else see that the store is up and its credentials hold. Its records wait meanwhile"
        }
        NoticeKind::BadKey => {
            "correct the row's key in that store, or remove the row: what it may be is neither created nor found deleted there"
        }
        NoticeKind::MissingColumn => "add the column with `trueup migrate`",
    }
    .to_owned()
}

/// What is wrong as of a plan, before anything of it was written.
pub(super) fn of_plan(plan: &Plan, now: Timestamp) -> Vec<KnownError> {
    let mut found: Vec<KnownError> = plan
        .guards
        .iter()
        .map(|trip| KnownError {
            kind: "guard".to_owned(),
            record: None,
            entity: Some(trip.entity.clone()),
            store: Some(trip.store.clone()),
            field: None,
            about: Some(trip.guard.to_string()),
            message: format!("{}: {}", trip.guard, trip.message),
            hint: match plan.approvals.get(&trip.entity) {
                // Where people go on editing there is another code in every pass.
                Some(code) => format!(
                    "look at it with `trueup plan`, then `trueup apply --allow {}` where its records keep changing, else `trueup approve {code}`",
                    trip.guard
                ),
                None => format!("look at it with `trueup plan`, then `trueup apply --allow {}`", trip.guard),
            },
            since: now,
        })
        .collect();
    // What a person waits for comes before what is only worth knowing.
    let urgent =
        |notice: &&Notice| !matches!(notice.kind, NoticeKind::AlreadyInvalid | NoticeKind::CannotHold);
    let first = plan.notices.iter().filter(urgent);
    let then = plan.notices.iter().filter(|notice| !urgent(notice));
    found.extend(first.chain(then).take(MOST_ERRORS).map(|notice| KnownError {
        kind: notice.kind.as_str().to_owned(),
        record: notice.record.as_ref().map(ToString::to_string),
        entity: notice.record.as_ref().map(|record| record.entity.clone()).or_else(|| notice.entity.clone()),
        store: notice.store.clone(),
        field: notice.field.clone(),
        about: notice.about.clone(),
        message: notice.message.clone(),
        hint: advice(notice),
        since: now,
    }));
    found
}

/// What a report adds to it.
fn of_report(report: &Report, now: Timestamp) -> impl Iterator<Item = KnownError> {
    let lists = [
        ("failed", &report.failed, "correct what the store refuses; it is tried again, less and less often"),
        ("unknown", &report.unknown, "nothing: the next pass finds out whether it happened"),
        ("skipped", &report.skipped, "nothing: the next pass looks again"),
    ];
    lists.into_iter().flat_map(move |(kind, list, hint)| {
        list.iter().map(move |trouble| KnownError {
            kind: kind.to_owned(),
            record: Some(trouble.record.to_string()),
            entity: Some(trouble.record.entity.clone()),
            store: Some(trouble.store.clone()),
            field: None,
            about: None,
            message: trouble.message.clone(),
            hint: hint.to_owned(),
            since: now,
        })
    })
}

/// Of what is wrong as of a plan and after it was carried out, as much as is kept: what became of writes first, of which there is no other
/// account.
fn most_telling(found: Vec<KnownError>, report: &Report, now: Timestamp) -> BTreeMap<String, KnownError> {
    let all = of_report(report, now).chain(found).take(MOST_ERRORS);
    all.map(|error| (error.key(), error)).collect()
}

pub(super) fn parse<T: DeserializeOwned>(
    notes: BTreeMap<String, String>,
) -> impl Iterator<Item = (String, T)> {
    // A note that cannot be read is a newer program's, and none of ours.
    notes.into_iter().filter_map(|(key, text)| Some((key, serde_json::from_str(&text).ok()?)))
}

pub(super) fn text<T: Serialize>(note: &T) -> Result<String, EngineError> {
    serde_json::to_string(note).map_err(|error| EngineError::new(format!("state: {error}")))
}

impl Engine {
    /// The pauses that hold now.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn pauses(&self) -> Result<Vec<Pause>, EngineError> {
        let now = self.now();
        let pauses = parse::<Pause>(self.state.notes(PAUSES).await?).map(|(_, pause)| pause);
        Ok(pauses.filter(|pause| pause.holds_at(now)).collect())
    }

    /// Pauses something. What was paused at the same address before is replaced.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn pause(&self, pause: &Pause) -> Result<(), EngineError> {
        let changes = BTreeMap::from([(pause.address(), Some(text(pause)?))]);
        Ok(self.state.note(PAUSES, &changes).await?)
    }

    /// Ends the pause at an address; false when there is none.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub async fn resume(&self, address: &str) -> Result<bool, EngineError> {
        let known = self.state.notes(PAUSES).await?.contains_key(address);
        self.state.note(PAUSES, &BTreeMap::from([(address.to_owned(), None)])).await?;
        Ok(known)
    }

    /// Forgets pauses and approvals whose time is over, and says what was resumed.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub async fn sweep(&self) -> Result<Vec<Pause>, EngineError> {
        let now = self.now();
        let pauses: Vec<(String, Pause)> = parse(self.state.notes(PAUSES).await?).collect();
        let over: Vec<(String, Pause)> =
            pauses.into_iter().filter(|(_, pause)| !pause.holds_at(now)).collect();
        if !over.is_empty() {
            let changes = over.iter().map(|(key, _)| (key.clone(), None)).collect();
            self.state.note(PAUSES, &changes).await?;
        }
        let approvals: Vec<(String, Approval)> = parse(self.state.notes(APPROVALS).await?).collect();
        let old = approvals.into_iter().filter(|(_, approval)| !self.waits(approval));
        let old: BTreeMap<String, Option<String>> = old.map(|(key, _)| (key, None)).collect();
        if !old.is_empty() {
            self.state.note(APPROVALS, &old).await?;
        }
        Ok(over.into_iter().map(|(_, pause)| pause).collect())
    }

    fn waits(&self, approval: &Approval) -> bool {
        approval.at.saturating_add_micros(APPROVAL_MICROS) > self.now()
    }

    /// Approves a plan that guards refused, by its code: the next pass that comes to the same plan carries it out.
    ///
    /// # Errors
    /// When the state cannot be written.
    pub async fn approve(&self, code: &str, by: &str) -> Result<(), EngineError> {
        let approval = Approval { code: code.to_owned(), by: by.to_owned(), at: self.now() };
        let changes = BTreeMap::from([(code.to_owned(), Some(text(&approval)?))]);
        Ok(self.state.note(APPROVALS, &changes).await?)
    }

    /// What plans are told: pauses, back-offs and approvals.
    pub(super) async fn orders(&self, options: &PassOptions) -> Result<Orders, EngineError> {
        let mut holds = Holds::default();
        for (record, store) in &options.waiting {
            let place = Place {
                store: Some(store.clone()),
                entity: Some(record.entity.clone()),
                key: Some(record.key.clone()),
            };
            holds.add(place, Hold::Waiting);
        }
        for pause in self.pauses().await? {
            holds.add(pause.place(), Hold::Paused);
        }
        let approvals = parse::<Approval>(self.state.notes(APPROVALS).await?);
        let approved = approvals.filter(|(_, approval)| self.waits(approval)).map(|(code, _)| code).collect();
        Ok(Orders { holds, approved })
    }

    /// Refuses to write a record that is paused in the canonical store, or as a whole.
    pub(super) async fn none_is_paused(
        &self,
        mut records: impl Iterator<Item = &RecordId>,
    ) -> Result<(), EngineError> {
        let holds = self.orders(&PassOptions::default()).await?.holds;
        match records.find(|record| holds.has(record, &self.spec.canonical)) {
            Some(paused) => Err(EngineError::new(format!("{paused} is paused; nothing was written"))
                .hint("`trueup status` shows the pauses, `trueup resume ADDRESS` ends one")),
            None => Ok(()),
        }
    }

    /// Everything that was wrong when the last pass ended, the oldest first.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn errors(&self) -> Result<Vec<KnownError>, EngineError> {
        let mut errors: Vec<KnownError> =
            parse(self.state.notes(ERRORS).await?).map(|(_, error)| error).collect();
        errors.sort_by_key(|a| (a.since, a.key()));
        Ok(errors)
    }

    /// What is wrong as of a plan that nothing was written of, each since when it is known to be so.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn errors_of(&self, plan: &Plan) -> Result<Vec<KnownError>, EngineError> {
        let known: BTreeMap<String, KnownError> = parse(self.state.notes(ERRORS).await?).collect();
        let mut found: BTreeMap<String, KnownError> = BTreeMap::new();
        for error in of_plan(plan, plan.made_at) {
            found.insert(error.key(), error);
        }
        // Failures are known from writes alone; they are over when a pass says so.
        for (key, error) in &known {
            if matches!(error.kind.as_str(), "pass" | "failed" | "unknown") {
                found.insert(key.clone(), error.clone());
            }
        }
        for (key, error) in &mut found {
            if let Some(before) = known.get(key) {
                error.since = before.since;
            }
        }
        if !found.values().any(|error| error.kind == "pass")
            && let Some(error) = self.unwritable_state().await
        {
            found.insert(error.key(), error);
        }
        let mut errors: Vec<KnownError> = found.into_values().collect();
        errors.sort_by_key(|a| (a.since, a.key()));
        Ok(errors)
    }

    /// Takes note that a pass could not be made or brought to its end, as far as the state can be written: all the rest stands as it was
    /// known. A pass over everything that ends is the end of it.
    pub(super) async fn note_failed_pass(&self, failure: &EngineError) {
        let mut error = KnownError::of_pass(failure, self.now());
        let key = error.key();
        // A state that cannot be written is what the command itself, or the log, tells of.
        let Ok(known) = self.state.notes(ERRORS).await else { return };
        if let Some((_, before)) = parse::<KnownError>(known).find(|(known, _)| *known == key) {
            error.since = before.since;
        }
        if let Ok(text) = text(&error) {
            let _ = self.state.note(ERRORS, &BTreeMap::from([(key, Some(text))])).await;
        }
    }

    /// What keeps every pass from being made and cannot be on record: that the state cannot be written, on a full disk for one. It is
    /// found out by writing to it.
    async fn unwritable_state(&self) -> Option<KnownError> {
        let now = self.now();
        let word = BTreeMap::from([("one".to_owned(), Some(now.to_string()))]);
        let error = self.state.note(ASKED, &word).await.err()?;
        Some(KnownError::of_pass(&error.into(), now))
    }

    /// Takes note of what is wrong as of a plan with nothing in it to carry out: what is so then is so since then.
    ///
    /// # Errors
    /// When the state cannot be used.
    pub async fn note_standing(
        &self,
        plan: &Plan,
        report: &Report,
        options: &PassOptions,
    ) -> Result<(), EngineError> {
        self.note_errors(of_plan(plan, plan.made_at), report, options).await
    }

    /// Takes note of what is wrong after a pass. Of a pass over some records only, what was known of others stays.
    pub(super) async fn note_errors(
        &self,
        found: Vec<KnownError>,
        report: &Report,
        options: &PassOptions,
    ) -> Result<(), EngineError> {
        let known: BTreeMap<String, KnownError> = parse(self.state.notes(ERRORS).await?).collect();
        let now = most_telling(found, report, self.now());
        let waiting: BTreeSet<(String, &StoreName)> =
            options.waiting.iter().map(|(record, store)| (record.to_string(), store)).collect();
        let only: Option<BTreeSet<String>> =
            options.only.as_ref().map(|records| records.iter().map(ToString::to_string).collect());
        let seen = |error: &KnownError| match &only {
            Some(records) => error.record.as_ref().is_some_and(|record| records.contains(record)),
            None => options.targets.is_empty(),
        };
        let still = |error: &KnownError| {
            !seen(error)
                // A write that was not tried is as it was.
                || (error.kind == "failed"
                    && error.record.clone().zip(error.store.as_ref()).is_some_and(|place| waiting.contains(&place)))
        };
        let mut changes: BTreeMap<String, Option<String>> = BTreeMap::new();
        for (key, error) in &known {
            if !now.contains_key(key) && !still(error) {
                changes.insert(key.clone(), None);
            }
        }
        for (key, mut error) in now {
            let before = known.get(&key);
            if let Some(before) = before {
                error.since = before.since;
            }
            if before != Some(&error) {
                changes.insert(key, Some(text(&error)?));
            }
        }
        if !changes.is_empty() {
            self.state.note(ERRORS, &changes).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RecordId, RecordKey};
    use crate::reconcile::Trouble;

    #[test]
    fn failed_writes_are_told_however_many_records_are_invalid() {
        let (entity, store) =
            (EntityName::new("things").expect("a name"), StoreName::new("app").expect("a name"));
        let error = |number: usize| KnownError {
            kind: "rejected".to_owned(),
            record: Some(format!("things[\"{number}\"]")),
            entity: Some(entity.clone()),
            store: Some(store.clone()),
            field: None,
            about: None,
            message: "required".to_owned(),
            hint: String::new(),
            since: Timestamp::EPOCH,
        };
        let record = RecordId { entity: entity.clone(), key: RecordKey::new(vec!["1".to_owned()]) };
        let failed = Trouble { record, store: store.clone(), message: "refused".to_owned() };
        let report = Report { failed: vec![failed.clone()], unknown: vec![failed], ..Report::default() };
        let told = most_telling((0..MOST_ERRORS).map(error).collect(), &report, Timestamp::EPOCH);
        assert_eq!(told.len(), MOST_ERRORS);
        let kinds: BTreeSet<&str> = told.values().map(|error| error.kind.as_str()).collect();
        assert_eq!(kinds, BTreeSet::from(["failed", "rejected", "unknown"]));
    }
}
