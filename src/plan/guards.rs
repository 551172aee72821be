//! Guards: what no plan does unless it is allowed by name, for this very plan.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::diff::{ActionKind, Outline};
use std::sync::Arc;

use crate::model::{Certificate, DeletePolicy, Entity, EntityName, StoreName, fingerprint_of};

use super::build::Planner;

/// The guards, by the name that `--allow` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuardName {
    /// Too large a share of an entity's records in a store would be deleted.
    Deletes,
    /// Too large a share would be changed.
    Updates,
    /// A store that held records holds none.
    Emptied,
    /// A snapshot was cut short, or the store changed while it was read.
    Incomplete,
    /// Several records went back to older versions: a backup was put back.
    Regressed,
}

impl GuardName {
    /// All guards.
    pub const ALL: [Self; 5] =
        [Self::Deletes, Self::Updates, Self::Emptied, Self::Incomplete, Self::Regressed];

    /// The name that `--allow` takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deletes => "deletes",
            Self::Updates => "updates",
            Self::Emptied => "emptied",
            Self::Incomplete => "incomplete",
            Self::Regressed => "regressed",
        }
    }

    /// Whether what it refuses can be approved once it was looked at.
    pub fn can_be_approved(self) -> bool {
        matches!(self, Self::Deletes | Self::Updates | Self::Emptied)
    }

    /// The guard of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|guard| guard.as_str() == name)
    }
}

impl fmt::Display for GuardName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A guard that refuses an entity, everywhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardTrip {
    /// The guard.
    pub guard: GuardName,
    /// The entity that nothing is done about.
    pub entity: EntityName,
    /// The store that set it off.
    pub store: StoreName,
    /// What was found, in numbers, and what can be done.
    pub message: String,
}

impl fmt::Display for GuardTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "guard `{}`: {} in {}: {} (override for this plan with --allow {})",
            self.guard, self.entity, self.store, self.message, self.guard
        )
    }
}

impl Planner {
    /// Sets every guard against what the plan would do.
    pub(super) fn set_guards(&mut self) {
        let entities = self.inputs.spec.entities.clone();
        for entity in &entities {
            let trips = self.guards_of(&entity.name);
            // Snapshots that are cut short and stores that went back ask for another look or another repair, not for an approval.
            if !trips.is_empty() && trips.iter().all(|trip| trip.guard.can_be_approved()) {
                let code = self.code_of(entity, &trips);
                if self.inputs.orders.approved.contains(&code) {
                    continue;
                }
                self.approvals.insert(entity.name.clone(), code);
            }
            self.guards.extend(trips);
        }
    }

    /// What tells a plan that guards refuse from every other: what is approved with it. That is, of the entity, every record of which a row
    /// goes, with all that this follows from; and every other record that is written as well, where a guard is about those.
    fn code_of(&mut self, entity: &Arc<Entity>, guards: &[GuardTrip]) -> String {
        let mut parts: Vec<String> = vec![self.inputs.spec.sha.clone()];
        parts.extend(guards.iter().map(|trip| format!("{} {}", trip.guard, trip.store)));
        let mut lost = None;
        let all = guards.iter().any(|trip| trip.guard == GuardName::Updates);
        if let Some(work) = self.work.get(&entity.name) {
            for kept in work.kept.iter().filter(|kept| kept.planned) {
                match self.entry(entity, kept) {
                    Ok(entry) if all || entry.lets_a_row_go() => {}
                    Ok(_) => continue,
                    Err(error) => drop(lost.get_or_insert(error)),
                }
                match self.shelf.get(entity, kept.place) {
                    Ok(observed) => {
                        parts.push(format!("{} {:?}", observed.fingerprint(), kept.overrides));
                    }
                    Err(error) => drop(lost.get_or_insert(error)),
                }
            }
        }
        if let Some(lost) = lost {
            self.lost.get_or_insert(lost);
        }
        fingerprint_of(&parts)
    }

    fn guards_of(&self, entity: &EntityName) -> Vec<GuardTrip> {
        let Some(work) = self.work.get(entity) else { return Vec::new() };
        let limits = &self.inputs.spec.controller.guards;
        // What is put back where it is missing is deleted nowhere for it.
        let restores =
            self.inputs.spec.entity(entity).is_some_and(|entity| entity.deletes == DeletePolicy::Restore);
        let mut trips = Vec::new();
        let mut trip = |guard: GuardName, store: &StoreName, message: String| {
            if !self.inputs.allow.contains(&guard) {
                trips.push(GuardTrip { guard, entity: entity.clone(), store: store.clone(), message });
            }
        };
        for (store, report) in &work.snapshots {
            let rows = work.rows.get(store).copied().unwrap_or(0);
            let remembered = work.remembered.get(store).copied().unwrap_or(0);
            if let Some(certificate) =
                report.certificate.as_ref().filter(|certificate| !certificate.is_whole())
            {
                trip(GuardName::Incomplete, store, incomplete_message(certificate));
            } else if report.certificate.is_some() && rows == 0 && remembered > 1 && !restores {
                trip(GuardName::Emptied, store, self.emptied_message(entity, remembered));
            }
            let tally = work.told.tallies.get(store).copied().unwrap_or_default();
            let base = rows.max(remembered);
            // Small steps must not drip everything away: what went within a day counts together. Updates count plan by plan,
            // since ordinary editing reaches any share of a small table within a day, and takes nothing that is not kept.
            let place = (entity.clone(), store.clone());
            let before = self.inputs.recent_deletes.get(&place).copied().unwrap_or(0);
            let (gone, whole) = (tally.deletes + before, base + before);
            if tally.deletes > 0
                && whole >= limits.min_records
                && exceeds(gone, whole, limits.max_delete_ratio)
            {
                let lately = if before > 0 {
                    format!(" ({before} of them within the last day already)")
                } else {
                    String::new()
                };
                let message = share("deleted", gone, whole, limits.max_delete_ratio) + &lately;
                trip(GuardName::Deletes, store, message);
            }
            if base >= limits.min_records && exceeds(tally.updates, base, limits.max_update_ratio) {
                let message = share("changed", tally.updates, base, limits.max_update_ratio);
                trip(GuardName::Updates, store, message);
            }
            if tally.regressed > 1 {
                let message = format!(
                    "{} records went back to older versions, as after restoring a backup; restore the newer copy, or let \
                     trueup bring the store forward",
                    tally.regressed
                );
                trip(GuardName::Regressed, store, message);
            }
        }
        trips
    }
}

impl Planner {
    /// What was found, what it would lead to, and what to do where the rows were lost.
    fn emptied_message(&self, entity: &EntityName, remembered: u64) -> String {
        let tallies = self.work.get(entity).map(|work| &work.told.tallies);
        let deletes = tallies.into_iter().flatten().filter(|(_, tally)| tally.deletes > 0);
        let deletes: Vec<String> =
            deletes.map(|(store, tally)| format!("{} in {store}", tally.deletes)).collect();
        let hangs = if self.inputs.spec.is_hung_on(entity) { ", and what refers to them" } else { "" };
        let leads = if deletes.is_empty() {
            "To allow it takes all of them for deleted there".to_owned()
        } else {
            format!("To allow it destroys {}{hangs}", deletes.join(" and "))
        };
        format!(
            "it held {remembered} records and holds none now. {leads}. If its rows were lost, fill it again: set `deletes: restore` \
             in the manifest of {entity}, apply, and take that back"
        )
    }
}

/// How many records of a store are written in which way.
#[derive(Default, Clone, Copy)]
pub(super) struct Tally {
    deletes: u64,
    updates: u64,
    /// Records that went back to an older version.
    pub regressed: u64,
}

impl Tally {
    /// Counts a record's side, or takes it out again.
    pub(super) fn count(&mut self, side: &Outline, went_back: bool, by: i64) {
        let count = |number: &mut u64| *number = number.saturating_add_signed(by);
        if went_back {
            count(&mut self.regressed);
        }
        match &side.act {
            Some(act) if act.kind == ActionKind::Delete => count(&mut self.deletes),
            // What only fills in what was empty takes nothing from anybody.
            Some(act) if act.overwrites => count(&mut self.updates),
            _ => {}
        }
    }

    /// Counts a record that went back, or takes it out again.
    pub(super) fn went_back(&mut self, by: i64) {
        self.regressed = self.regressed.saturating_add_signed(by);
    }
}

#[allow(clippy::cast_precision_loss)] // Counts of records are far below 2^52.
fn exceeds(part: u64, whole: u64, ratio: f64) -> bool {
    part as f64 > whole as f64 * ratio
}

fn share(verb: &str, part: u64, whole: u64, ratio: f64) -> String {
    format!("{part} of {whole} records would be {verb}, more than {}%", ratio * 100.0)
}

fn incomplete_message(certificate: &Certificate) -> String {
    if certificate.moved {
        return "it changed while it was read; try again".to_owned();
    }
    let (read, claimed) = (certificate.rows_read, certificate.rows_claimed);
    format!(
        "the snapshot was cut short ({read} of {claimed} rows read), so what is missing from it may still be there"
    )
}
