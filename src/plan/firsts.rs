//! Which element of a kind stands first in its parent's row: one does in every store, whatever the records say. Where they name none or
//! several, or the one that was named is gone, the store's order stands for what they say, and is no edit of it.

use std::collections::BTreeSet;

use crate::model::{Cell, FieldId, Presence, RecordId, RecordKey, Shadow, StoreName, Value};
use crate::resolve::ClaimEnd;

use super::build::Planner;
use super::recipe::Entry;

/// The elements of a kind in a parent: store, parent and kind.
pub(super) type Group = (StoreName, String, String);

/// An element of a group, as far as it matters to who is the first.
pub(super) struct Candidate {
    key: RecordKey,
    /// What the canonical record says; none where there is none yet.
    was: Option<Value>,
    /// What it will say.
    says: Value,
    /// Whether this very store would have it so.
    from_here: bool,
    /// Whether it stands first there.
    stands: bool,
    /// Whether it stood first there, as far as that is remembered.
    stood: Option<bool>,
}

impl Candidate {
    pub(super) fn of(
        entry: &Entry,
        canonical: &StoreName,
        store: &StoreName,
        field: FieldId,
        name: &str,
    ) -> Self {
        let cell = |presence: Option<&Presence>| {
            let row = presence.and_then(Presence::row)?;
            Some(row.fields.get(&field).and_then(Cell::value).cloned().unwrap_or_default())
        };
        let shadow = entry.observed.memory.as_ref().and_then(|memory| memory.stores.get(store));
        let counts = |shadow: &&Shadow| shadow.present && !entry.overrides.anew.contains(store);
        let stood = shadow.filter(counts).and_then(|shadow| {
            let known = shadow.fields.iter().find(|(of, _)| of.as_str() == name)?.1;
            Some(known.held == Cell::Value(Value::Bool(true)))
        });
        Self {
            key: entry.observed.key.clone(),
            was: cell(entry.observed.presences.get(canonical)),
            says: entry.resolution.fields.get(&field).cloned().unwrap_or_default(),
            from_here: entry.resolution.end(store, field) == Some(ClaimEnd::Won),
            stands: cell(entry.observed.presences.get(store)) == Some(Value::Bool(true)),
            stood,
        }
    }

    /// Whether the store's order was known not to say what the record does.
    pub(super) fn is_odd(&self) -> bool {
        self.stood.is_some_and(|stood| self.was.as_ref().is_some_and(|was| *was != Value::Bool(stood)))
    }

    /// What the record says, where the store's order is no edit of it.
    fn wanted(&self, first_is_gone: bool) -> &Value {
        match &self.was {
            Some(was) if self.from_here && (self.stood.is_none() || first_is_gone) => was,
            // A store's order fills nothing in.
            Some(was) if was.is_null() && self.stood.is_none() => was,
            _ => &self.says,
        }
    }
}

impl Planner {
    /// Sees to it that one element of each group is the first one.
    pub(super) fn settle_firsts(&mut self, collapsed: &BTreeSet<(RecordId, StoreName)>) {
        let mut found: Vec<(RecordId, StoreName, bool)> = Vec::new();
        for (entity, work) in &self.work {
            for ((store, ..), all) in &work.homes.firsts {
                let there = |one: &&Candidate| {
                    let id = RecordId { entity: entity.clone(), key: one.key.clone() };
                    !collapsed.contains(&(id, store.clone()))
                };
                let group: Vec<&Candidate> = all.iter().filter(there).collect();
                let first_is_gone = !group.iter().any(|one| one.stood == Some(true));
                let says = |one: &&&Candidate| *one.wanted(first_is_gone) == Value::Bool(true);
                let named: Vec<&&Candidate> = group.iter().filter(says).collect();
                let of = |all: &[&&Candidate]| {
                    let standing = all.iter().find(|one| one.stands).map(|one| one.key.clone());
                    standing.or_else(|| all.iter().map(|one| &one.key).min().cloned())
                };
                let chosen = of(&named).or_else(|| of(&group.iter().collect::<Vec<_>>()));
                // Where nobody is the first although one was to be, the store would not have it: another parent has the value as its first.
                let blocked =
                    |one: &&Candidate| one.stood == Some(false) && !group.iter().any(|one| one.stands);
                let first = chosen.filter(|key| !group.iter().any(|one| one.key == *key && blocked(one)));
                for one in group {
                    let is_first = first.as_ref() == Some(&one.key);
                    if *one.wanted(first_is_gone) != Value::Bool(is_first) || one.stands != is_first {
                        let id = RecordId { entity: entity.clone(), key: one.key.clone() };
                        found.push((id, store.clone(), is_first));
                    }
                }
            }
        }
        for (id, store, is_first) in found {
            self.reconsider(&id, |overrides| {
                overrides.first.insert(store, is_first);
            });
        }
    }
}
