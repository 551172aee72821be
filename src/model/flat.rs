//! Maps of a few entries that are made once and read often.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

use litemap::LiteMap;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ids::{FieldId, FieldName, StoreName};

/// Something for each of some fields, by their places.
pub type Fields<V> = Flat<FieldId, V>;

/// Something for each of some fields, by their names.
pub type ByName<V> = Flat<FieldName, V>;

/// Something for each of some stores.
pub type ByStore<V> = Flat<StoreName, V>;

/// A map kept as one sorted list of entries. A record has a few dozen fields, and is copied, compared and dropped as a whole: that is one
/// allocation here, and many in a tree. It is a [`LiteMap`] that serializes and prints like any other map.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Flat<K, V>(LiteMap<K, V>);

impl<K, V> Flat<K, V> {
    /// An empty one.
    pub const fn new() -> Self {
        Self(LiteMap::new_vec())
    }

    /// An empty one with room for so many entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(LiteMap::with_capacity(capacity))
    }

    /// What there is for a key that probably stands at this place.
    pub fn get_near(&self, at: usize, key: &K) -> Option<&V>
    where
        K: Ord,
    {
        match self.0.get_indexed(at) {
            Some((theirs, value)) if theirs == key => Some(value),
            _ => self.0.get(key),
        }
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The values, in the order of their keys.
    pub fn into_values(self) -> impl ExactSizeIterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }
}

impl<K, V> Default for Flat<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Deref for Flat<K, V> {
    type Target = LiteMap<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<K, V> DerefMut for Flat<K, V> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Flat<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let entries = entries.into_iter();
        let (least, most) = entries.size_hint();
        // As a rule none is left out, and then nothing has to be moved to make room.
        let mut flat = Self::with_capacity(most.unwrap_or(least));
        flat.extend(entries);
        flat
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Flat<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord, V> Extend<(K, V)> for Flat<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        self.0.extend(entries);
    }
}

impl<K, V> IntoIterator for Flat<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, K, V> IntoIterator for &'a Flat<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = <&'a LiteMap<K, V> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&self.0).into_iter()
    }
}

impl<'a, K, V> IntoIterator for &'a mut Flat<K, V> {
    type Item = (&'a K, &'a mut V);
    type IntoIter = <&'a mut LiteMap<K, V> as IntoIterator>::IntoIter;

    fn into_iter(self) -> Self::IntoIter {
        (&mut self.0).into_iter()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Flat<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Flat<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Flat<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);

        impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
            type Value = Flat<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Self::Value, A::Error> {
                let mut flat = Flat::new();
                while let Some((key, value)) = input.next_entry()? {
                    flat.insert(key, value);
                }
                Ok(flat)
            }
        }

        deserializer.deserialize_map(Entries(PhantomData))
    }
}
