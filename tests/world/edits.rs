//! Edits that can be told apart, and the question whether any was lost.
//!
//! An edit is lost when it is neither in the canonical store, nor in `sync_conflicts`, nor in a tombstone, does not wait by name for a
//! person, and was not overwritten by somebody who had seen it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::{Died, World, key};

pub const STORES: [&str; 3] = ["hub", "app", "local"];
pub const RECORDS: [&str; 2] = ["1", "2"];
pub const FIELDS: [&str; 2] = ["a", "b"];

/// Texts written in the middle of a pass, each with the one it replaced.
type Races = Arc<Mutex<Vec<(String, Option<String>)>>>;

/// Every edit writes a text of its own. This knows which text each one replaced, in its own store, before its author's eyes.
#[derive(Debug, Clone, Default)]
pub struct Edits {
    pub made: usize,
    pub replaced: BTreeMap<String, Option<String>>,
    /// Texts that somebody removed on purpose, having seen them.
    pub removed: BTreeSet<String>,
    /// Edits in the middle of a pass, as they came to be.
    pub races: Races,
}

impl Edits {
    pub fn next(&mut self, replaced: Option<String>) -> String {
        self.made += 1;
        let token = format!("e{:03}", self.made);
        self.replaced.insert(token.clone(), replaced);
        token
    }

    /// The edits that nothing accounts for.
    pub fn lost(&self, surviving: &str) -> Vec<String> {
        let mut accounted: BTreeSet<String> = BTreeSet::new();
        let kept = self.replaced.keys().filter(|token| surviving.contains(token.as_str()));
        for token in kept.chain(&self.removed) {
            let mut next = Some(token.clone());
            while let Some(token) = next.filter(|token| !accounted.contains(token)) {
                next = self.replaced.get(&token).cloned().flatten();
                accounted.insert(token);
            }
        }
        self.replaced.keys().filter(|token| !accounted.contains(*token)).cloned().collect()
    }
}

pub fn token(world: &World, at: &str, record: &str, name: &str) -> Option<String> {
    Some(world.get(at, record, name)).filter(|text| text.starts_with('e'))
}

/// Everything that is kept: the canonical store, the conflicts and the tombstones.
fn surviving(world: &World) -> String {
    let canonical: String =
        RECORDS.iter().flat_map(|record| FIELDS.map(|field| world.get("hub", record, field) + " ")).collect();
    format!("{canonical}{:?}{}", world.conflicts(), world.tombstones())
}

/// Edits that wait, by name, for a person: in rows that went back to an older version (as a row does that is removed and made
/// anew without its metadata), and in entities that a guard has stopped.
fn waiting(world: &mut World) -> String {
    let plan = world.plan();
    let mut texts = String::new();
    for at in STORES {
        for record in RECORDS {
            let named = plan.notices.iter().any(|notice| {
                notice.kind.as_str() == "regressed"
                    && notice.record.as_ref().is_some_and(|id| id.key == key(record))
            });
            if named || !plan.guards.is_empty() {
                texts += &FIELDS.map(|field| world.get(at, record, field) + " ").concat();
            }
        }
    }
    texts
}

fn heal(world: &mut World) {
    for at in STORES {
        let db = world.db(at);
        db.faults.unreachable = false;
        db.faults.lose_answers = 0;
        db.faults.fail_batches = 0;
    }
}

/// Heals everything, lets passes run until one writes nothing, and looks whether all stores agree and no edit is lost.
pub fn comes_to_agree(world: &mut World, edits: &Edits) -> Result<(), String> {
    heal(world);
    let mut quiet = false;
    for _ in 0..8 {
        let before = world.writes();
        world.tick();
        match world.pass() {
            Ok(report) => {
                if !report.failed.is_empty() {
                    return Err(format!("failed after healing: {:?}", report.failed));
                }
                if world.writes() == before && report.pass.is_none() {
                    quiet = true;
                    break;
                }
            }
            Err(Died::Killed) => {}
            Err(Died::Failed(message)) => return Err(format!("failed after healing: {message}")),
        }
    }
    if !quiet {
        return Err("does not come to rest".to_owned());
    }
    agree(world)?;
    let lost = edits.lost(&format!("{}{}", surviving(world), waiting(world)));
    if lost.is_empty() { Ok(()) } else { Err(format!("lost: {lost:?}")) }
}

/// Every field is the same in all stores, or held.
fn agree(world: &mut World) -> Result<(), String> {
    let open: BTreeSet<(String, String)> = world
        .open_conflicts()
        .iter()
        .flat_map(|conflict| {
            let record = conflict.record.key.parts()[0].clone();
            conflict.fields.iter().map(move |field| (record.clone(), field.to_string())).collect::<Vec<_>>()
        })
        .collect();
    let plan = world.plan();
    let held: BTreeSet<String> = plan
        .notices
        .iter()
        .filter(|notice| notice.kind.as_str() == "regressed")
        .filter_map(|notice| Some(notice.record.as_ref()?.key.parts()[0].clone()))
        .collect();
    if !plan.guards.is_empty() {
        return Ok(());
    }
    for record in RECORDS.iter().filter(|record| !held.contains(**record)) {
        for name in FIELDS.iter().filter(|name| !open.contains(&((*record).to_owned(), (**name).to_owned())))
        {
            let everywhere = world.everywhere(record, name);
            if everywhere.iter().collect::<BTreeSet<_>>().len() > 1 {
                return Err(format!("record {record} field {name} differs: {everywhere:?}"));
            }
        }
    }
    Ok(())
}
