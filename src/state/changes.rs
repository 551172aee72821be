//! What a transition means for records, and for how long a state keeps what ended: pure, and the same whatever a state is kept in.

use std::collections::BTreeMap;

use crate::model::{EntityName, IntentEnd, Memory, RecordKey, Shadow, StoreName, Transition};

/// Ended intents kept, with their before-images, for undoing by hand. At a kilobyte or two each this is some tens of
/// megabytes at most.
pub(super) const ENDED_KEPT: i64 = 20_000;

/// Two days, in microseconds: twice what the guard looks at.
pub(super) const DELETES_KEPT_MICROS: i64 = 2 * 24 * 3600 * 1_000_000;

/// What is to become of one record's shadows; none: forgotten.
pub(super) type ShadowChanges<'t> = Vec<(&'t StoreName, Option<&'t Shadow>)>;

/// What is to become of an entity's records.
pub(super) type Changes<'t> = BTreeMap<&'t RecordKey, ShadowChanges<'t>>;

/// The changes of a transition, entity by entity and record by record, in the order they are to be made.
pub(super) fn by_entity(transition: &Transition) -> BTreeMap<&EntityName, Changes<'_>> {
    let mut all: BTreeMap<&EntityName, Changes<'_>> = BTreeMap::new();
    let set = transition.shadows.iter().map(|(record, store, shadow)| (record, store, Some(&**shadow)));
    let forget = transition.forget.iter().map(|(record, store)| (record, store, None));
    for (record, store, shadow) in set.chain(forget) {
        all.entry(&record.entity).or_default().entry(&record.key).or_default().push((store, shadow));
    }
    all
}

/// Makes the changes of one record.
pub(super) fn change(memory: &mut Memory, changes: &ShadowChanges<'_>) {
    for (store, shadow) in changes {
        match shadow {
            Some(shadow) => memory.stores.insert((*store).clone(), (*shadow).clone()),
            None => memory.stores.remove(*store),
        };
    }
}

/// How a journal says how an intent ended.
pub(super) fn end_word(end: IntentEnd) -> &'static str {
    match end {
        IntentEnd::Applied => "applied",
        IntentEnd::NotApplied => "not_applied",
        IntentEnd::Unresolved => "unresolved",
    }
}
