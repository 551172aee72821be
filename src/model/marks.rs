//! Where the stores stood when everything about an entity was last brought up to date, so that the next look costs what changed since.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ids::{RecordKey, StoreName};
use super::observed::Mark;

/// How many rows a stretch of keys has at first. Deletes are found by counting: where a stretch has too few rows, its keys are read.
const ROWS_A_STRETCH: u64 = 1_000;

/// How many rows a stretch may grow to before the entity is read whole, and divided anew.
const LONGEST_STRETCH: u64 = 20_000;

/// Where the stores of an entity stood. It is only ever a shortcut: without it everything is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// The hash of the manifests that were in force.
    pub spec: String,
    /// Every store of the entity.
    pub stores: BTreeMap<StoreName, StoreMark>,
    /// Records that are looked at again in any case: something was to be said or is still to be done about them.
    pub unsettled: BTreeSet<RecordKey>,
}

/// Where one store stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreMark {
    /// Its own mark.
    pub mark: Mark,
    /// How many rows it had, by stretches of keys.
    pub rows: Stretches,
}

/// How many rows a store has, by stretches of neighbouring keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stretches(Vec<Stretch>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    /// The first key of the stretch; the first stretch begins before all keys.
    from: RecordKey,
    rows: u64,
}

impl Stretches {
    /// Takes the next key of a table that is read in the order of its keys.
    pub fn push(&mut self, key: &RecordKey) {
        match self.0.last_mut() {
            Some(last) if last.rows < ROWS_A_STRETCH => last.rows += 1,
            Some(_) => self.0.push(Stretch { from: key.clone(), rows: 1 }),
            None => self.0.push(Stretch { from: RecordKey::new(Vec::new()), rows: 1 }),
        }
    }

    /// How many rows there are in all.
    pub fn total(&self) -> u64 {
        self.0.iter().map(|stretch| stretch.rows).sum()
    }

    /// The keys that the stretches after the first begin with.
    pub fn bounds(&self) -> Vec<RecordKey> {
        self.0.iter().skip(1).map(|stretch| stretch.from.clone()).collect()
    }

    /// How many rows every stretch has.
    pub fn counts(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().map(|stretch| stretch.rows)
    }

    /// The place of the stretch that a key lies in.
    pub fn place(&self, key: &RecordKey) -> usize {
        self.0.partition_point(|stretch| stretch.from <= *key).saturating_sub(1)
    }

    /// Notes rows that came or went at a key.
    pub fn change(&mut self, key: &RecordKey, by: i64) {
        if self.0.is_empty() {
            self.0.push(Stretch { from: RecordKey::new(Vec::new()), rows: 0 });
        }
        let place = self.place(key);
        if let Some(stretch) = self.0.get_mut(place) {
            stretch.rows = stretch.rows.saturating_add_signed(by);
        }
    }

    /// Notes how many rows a stretch has.
    pub fn set(&mut self, place: usize, rows: u64) {
        if let Some(stretch) = self.0.get_mut(place) {
            stretch.rows = rows;
        }
    }

    /// Whether a stretch has grown too long to be read for one delete.
    pub fn are_worn(&self) -> bool {
        self.0.iter().any(|stretch| stretch.rows > LONGEST_STRETCH)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> RecordKey {
        RecordKey::new(vec![format!("{number:06}")])
    }

    #[test]
    fn stretches_count_every_key_once() {
        let mut stretches = Stretches::default();
        (0..2_500).for_each(|number| stretches.push(&key(number)));
        assert_eq!((stretches.total(), stretches.bounds()), (2_500, vec![key(1_000), key(2_000)]));
        for (number, place) in [(0, 0), (999, 0), (1_000, 1), (1_999, 1), (2_000, 2), (999_999, 2)] {
            assert_eq!(stretches.place(&key(number)), place, "{number}");
        }
        stretches.change(&key(1_500), -1);
        stretches.change(&key(3_000), 1);
        assert_eq!(stretches.counts().collect::<Vec<_>>(), [1_000, 999, 501]);
        let mut empty = Stretches::default();
        empty.change(&key(1), 1);
        assert_eq!((empty.total(), empty.bounds()), (1, Vec::new()));
        empty.change(&key(1), i64::from(u32::MAX));
        assert!(empty.are_worn() && !stretches.are_worn());
    }
}
