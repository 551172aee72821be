//! What is written of a shadow, whether it is at hand as decoded values or still as the bytes that were read.
//!
//! A value has exactly one encoding, so both compare alike: what is equal as values is equal as bytes.

use crate::model::{Cell, FieldShadow, Shadow, StoreName, Timestamp, Value};

use super::meta::{put_meta, put_name};
use super::shadow::{Held, Raw, RawField};
use super::{Dictionary, value};

/// A shadow as it is written.
pub(super) trait Content {
    type Field: FieldContent;

    /// The store's number in the dictionary.
    fn store(&self) -> usize;
    /// The number that the dictionary has for the fields with their tags.
    fn layout(&self) -> usize;
    fn present(&self) -> bool;
    fn store_id(&self) -> Option<&[u8]>;
    /// In microseconds.
    fn updated(&self) -> Option<i64>;
    fn has_meta_of(&self, other: &Self) -> bool;
    fn put_meta(&self, out: &mut Vec<u8>, dictionary: &mut Dictionary);
    fn count(&self) -> usize;
    fn field(&self, at: usize) -> Option<&Self::Field>;

    fn fields(&self) -> impl Iterator<Item = &Self::Field> {
        (0..self.count()).filter_map(|at| self.field(at))
    }
}

/// A field of such a shadow.
pub(super) trait FieldContent {
    type Value<'v>: PartialEq
    where
        Self: 'v;

    fn version(&self) -> i64;
    fn is_unsure(&self) -> bool;
    /// The value that is held; none where it cannot be read.
    fn held(&self) -> Option<Self::Value<'_>>;
    /// What that stands for, where it is something else.
    fn stands_for(&self) -> Option<Self::Value<'_>>;
    /// Puts what is held, readable or not.
    fn put_held(&self, out: &mut Vec<u8>, dictionary: &mut Dictionary);
    fn put_stands_for(&self, out: &mut Vec<u8>);

    /// Whether both hold a value, the same one.
    fn holds_what(&self, other: &Self) -> bool {
        self.held().is_some_and(|held| other.held() == Some(held))
    }

    /// Whether it stands for the value that the other one holds.
    fn stands_for_what(&self, other: &Self) -> bool {
        self.stands_for().is_some_and(|value| other.held() == Some(value))
    }

    /// Whether it holds a value for certain, and that stands for itself.
    fn is_plain(&self) -> bool {
        self.stands_for().is_none() && !self.is_unsure() && self.held().is_some()
    }
}

/// A shadow at hand, with what the dictionary has of it.
pub(super) struct Numbered<'s> {
    store: usize,
    layout: usize,
    shadow: &'s Shadow,
}

impl<'s> Numbered<'s> {
    pub(super) fn new(store: &StoreName, shadow: &'s Shadow, dictionary: &mut Dictionary) -> Self {
        let store = dictionary.intern(store.as_str());
        Self { store, layout: dictionary.intern_layout(shadow), shadow }
    }
}

impl Content for Numbered<'_> {
    type Field = FieldShadow;

    fn store(&self) -> usize {
        self.store
    }

    fn layout(&self) -> usize {
        self.layout
    }

    fn present(&self) -> bool {
        self.shadow.present
    }

    fn store_id(&self) -> Option<&[u8]> {
        self.shadow.store_id.as_ref().map(|id| id.0.as_bytes())
    }

    fn updated(&self) -> Option<i64> {
        self.shadow.updated.map(Timestamp::micros)
    }

    fn has_meta_of(&self, other: &Self) -> bool {
        self.shadow.meta == other.shadow.meta
    }

    fn put_meta(&self, out: &mut Vec<u8>, dictionary: &mut Dictionary) {
        put_meta(out, &self.shadow.meta, dictionary);
    }

    fn count(&self) -> usize {
        self.shadow.fields.len()
    }

    fn field(&self, at: usize) -> Option<&FieldShadow> {
        self.shadow.fields.get_indexed(at).map(|(_, field)| field)
    }
}

impl FieldContent for FieldShadow {
    type Value<'v> = &'v Value;

    fn version(&self) -> i64 {
        self.version.0
    }

    fn is_unsure(&self) -> bool {
        self.unsure
    }

    fn held(&self) -> Option<&Value> {
        self.held.value()
    }

    fn stands_for(&self) -> Option<&Value> {
        self.stands_for.as_deref()
    }

    fn put_held(&self, out: &mut Vec<u8>, dictionary: &mut Dictionary) {
        match &self.held {
            Cell::Value(held) => value::put(out, held),
            Cell::Unreadable(what) => {
                out.extend(what.fingerprint.to_le_bytes());
                put_name(out, &what.why, dictionary);
            }
        }
    }

    fn put_stands_for(&self, out: &mut Vec<u8>) {
        if let Some(stands_for) = &self.stands_for {
            value::put(out, stands_for);
        }
    }
}

impl<'a> Content for Raw<'a> {
    type Field = RawField<'a>;

    fn store(&self) -> usize {
        self.store
    }

    fn layout(&self) -> usize {
        self.layout
    }

    fn present(&self) -> bool {
        self.present
    }

    fn store_id(&self) -> Option<&[u8]> {
        self.store_id
    }

    fn updated(&self) -> Option<i64> {
        self.updated
    }

    fn has_meta_of(&self, other: &Self) -> bool {
        self.meta == other.meta
    }

    fn put_meta(&self, out: &mut Vec<u8>, _: &mut Dictionary) {
        out.extend(self.meta);
    }

    fn count(&self) -> usize {
        self.fields.len()
    }

    fn field(&self, at: usize) -> Option<&RawField<'a>> {
        self.fields.get(at)
    }
}

impl<'a> FieldContent for RawField<'a> {
    type Value<'v>
        = &'a [u8]
    where
        Self: 'v;

    fn version(&self) -> i64 {
        self.version
    }

    fn is_unsure(&self) -> bool {
        self.unsure
    }

    fn held(&self) -> Option<&'a [u8]> {
        self.held.value()
    }

    fn stands_for(&self) -> Option<&'a [u8]> {
        self.stands_for
    }

    fn put_held(&self, out: &mut Vec<u8>, _: &mut Dictionary) {
        let (Held::Value(bytes) | Held::Unreadable(bytes)) = self.held;
        out.extend(bytes);
    }

    fn put_stands_for(&self, out: &mut Vec<u8>) {
        out.extend(self.stands_for.unwrap_or_default());
    }
}
