//! The records of a plan: written out, or worked out one by one from what was seen.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::diff::{Act, Action, ActionKind};
use crate::model::{EntityName, FieldName, RecordId, StoreName};

use super::recipe::Recipe;
use super::{Lost, RecordPlan, Totals};

/// What actions of an entity have in common: the store, what they do and, of changes, the fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// The store.
    pub store: StoreName,
    /// What is done.
    pub kind: ActionKind,
    /// The fields that change; empty unless rows are changed.
    pub fields: Vec<FieldName>,
}

impl Shape {
    /// The shape of an action.
    pub fn of(action: &Action) -> Self {
        let Act { kind, fields, .. } = Act::from(action);
        Self { store: action.store.clone(), kind, fields }
    }

    /// The shape of what is done in a store.
    pub(super) fn outlined(store: &StoreName, act: &Act) -> Self {
        Self { store: store.clone(), kind: act.kind, fields: act.fields.clone() }
    }
}

/// What the records of an entity come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many actions there are of each shape.
    pub shapes: BTreeMap<Shape, u64>,
    /// How many records are only taken note of.
    pub noted: u64,
}

impl Sums {
    /// Counts a record's actions, or takes them out again. A record of the plan without any is only taken note of.
    pub(super) fn count(&mut self, shapes: impl IntoIterator<Item = Shape>, planned: bool, by: i64) {
        let mut noted = planned;
        for shape in shapes {
            noted = false;
            let count = self.shapes.entry(shape).or_default();
            *count = count.saturating_add_signed(by);
        }
        if noted {
            self.noted = self.noted.saturating_add_signed(by);
        }
        if by < 0 {
            self.shapes.retain(|_, count| *count > 0);
        }
    }
}

/// The records of a plan, in the order of entities and keys.
#[derive(Clone, Default)]
pub struct Records {
    source: Source,
    ranges: BTreeMap<EntityName, Range<usize>>,
    sums: BTreeMap<EntityName, Sums>,
    /// The places of records with conflicts that begin or end.
    conflicted: Vec<usize>,
    lost: Arc<OnceLock<Lost>>,
}

#[derive(Clone)]
enum Source {
    List(Arc<Vec<Arc<RecordPlan>>>),
    Recipe(Arc<Recipe>),
}

impl Default for Source {
    fn default() -> Self {
        Self::List(Arc::default())
    }
}

impl Records {
    pub(super) fn of_recipe(recipe: Recipe, sums: BTreeMap<EntityName, Sums>) -> Self {
        let mut ranges = BTreeMap::new();
        let mut from = 0;
        for (entity, count) in recipe.stretches() {
            ranges.insert(entity.clone(), from..from + count);
            from += count;
        }
        let conflicted = recipe.conflicted();
        Self { source: Source::Recipe(Arc::new(recipe)), ranges, sums, conflicted, lost: Arc::default() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match &self.source {
            Source::List(list) => list.len(),
            Source::Recipe(recipe) => recipe.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A record.
    ///
    /// # Errors
    /// When it cannot be read back, or there is none at this place.
    pub fn get(&self, at: usize) -> Result<Arc<RecordPlan>, Lost> {
        match &self.source {
            Source::List(list) => {
                list.get(at).cloned().ok_or_else(|| Lost("there is no such record".to_owned()))
            }
            Source::Recipe(recipe) => recipe.get(at, false).map(Arc::new),
        }
    }

    /// A record with the fingerprint of what it was made from, which takes a while to work out.
    ///
    /// # Errors
    /// When it cannot be read back, or there is none at this place.
    pub fn with_basis(&self, at: usize) -> Result<Arc<RecordPlan>, Lost> {
        match &self.source {
            Source::List(_) => self.get(at),
            Source::Recipe(recipe) => recipe.get(at, true).map(Arc::new),
        }
    }

    /// The address of a record.
    ///
    /// # Errors
    /// When it cannot be read back, or there is none at this place.
    pub fn id(&self, at: usize) -> Result<RecordId, Lost> {
        match &self.source {
            Source::List(_) => self.get(at).map(|record| record.record.clone()),
            Source::Recipe(recipe) => recipe.id(at),
        }
    }

    /// Whether the record as a whole goes, or a row of it does and nothing else happens to it.
    pub fn goes(&self, at: usize) -> bool {
        match &self.source {
            Source::List(list) => list.get(at).is_some_and(|record| record.goes()),
            Source::Recipe(recipe) => recipe.goes(at),
        }
    }

    /// The places of an entity's records.
    pub fn of_entity(&self, entity: &EntityName) -> Range<usize> {
        self.ranges.get(entity).cloned().unwrap_or(0..0)
    }

    /// All of them. One that cannot be read back is left out, and [`Records::lost`] says so afterwards.
    pub fn iter(&self) -> impl Iterator<Item = Arc<RecordPlan>> + '_ {
        self.at(0..self.len())
    }

    /// Those at these places, as [`Records::iter`] has it.
    pub fn at<'a>(
        &'a self,
        places: impl IntoIterator<Item = usize> + 'a,
    ) -> impl Iterator<Item = Arc<RecordPlan>> + 'a {
        places.into_iter().filter_map(|at| match self.get(at) {
            Ok(record) => Some(record),
            Err(lost) => {
                // The first one says enough.
                let _ = self.lost.set(lost);
                None
            }
        })
    }

    /// The records with conflicts that begin or end.
    pub fn conflicted(&self) -> impl Iterator<Item = Arc<RecordPlan>> + '_ {
        self.at(self.conflicted.iter().copied())
    }

    /// What the records of every entity come to.
    pub fn sums(&self) -> &BTreeMap<EntityName, Sums> {
        &self.sums
    }

    /// How many actions there are of each kind.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (shape, count) in self.sums.values().flat_map(|sums| &sums.shapes) {
            totals.add(shape.kind, *count);
        }
        totals
    }

    /// How many records are only taken note of.
    pub fn noted(&self) -> u64 {
        self.sums.values().map(|sums| sums.noted).sum()
    }

    /// All of them, written out.
    pub fn to_vec(&self) -> Vec<RecordPlan> {
        self.iter().map(|record| RecordPlan::clone(&record)).collect()
    }
}

fn stretch(ranges: &mut BTreeMap<EntityName, Range<usize>>, entity: &EntityName, at: usize) {
    match ranges.get_mut(entity) {
        Some(range) => range.end = at + 1,
        None => {
            ranges.insert(entity.clone(), at..at + 1);
        }
    }
}

impl From<Vec<RecordPlan>> for Records {
    fn from(list: Vec<RecordPlan>) -> Self {
        let mut records = Self::default();
        for (at, record) in list.iter().enumerate() {
            stretch(&mut records.ranges, &record.record.entity, at);
            let sums = records.sums.entry(record.record.entity.clone()).or_default();
            sums.count(record.actions.iter().map(Shape::of), true, 1);
            if !record.conflicts.is_empty() || !record.closes.is_empty() {
                records.conflicted.push(at);
            }
        }
        records.source = Source::List(Arc::new(list.into_iter().map(Arc::new).collect()));
        records
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Serialize for Records {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.len()))?;
        for at in 0..self.len() {
            sequence.serialize_element(&*self.with_basis(at).map_err(serde::ser::Error::custom)?)?;
        }
        sequence.end()
    }
}

impl<'de> Deserialize<'de> for Records {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Vec::<RecordPlan>::deserialize(deserializer).map(Into::into)
    }
}
