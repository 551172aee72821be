//! What becomes of deletes that happen together or not at all.

use std::collections::BTreeMap;

use crate::model::{ErrorKind, Fall, IntentId, Outcome, StoreError, StoreName, Write};

/// Why a row stays that would have gone with others.
const STAYS: &str = "what goes together with it was refused (named as well), so that it stays";

/// Whether a write was sent and did not happen.
pub(super) fn stays(outcomes: &BTreeMap<IntentId, Outcome>, write: &Write) -> bool {
    outcomes.get(&write.intent).is_some_and(|outcome| !matches!(outcome, Outcome::Applied(_)))
}

/// The outcome of a write that was not sent, because another write of its fall did not happen or because the store gave up.
pub(super) fn left(store: &StoreName, gave_up: Option<&StoreError>) -> Outcome {
    let error = gave_up.map(|error| StoreError { kind: ErrorKind::Unavailable, ..error.clone() });
    Outcome::Refused(error.unwrap_or_else(|| StoreError::new(ErrorKind::Conflict, store, STAYS)))
}

/// The outcome of a write whose batch failed as a whole.
pub(super) fn failed(error: &StoreError) -> Outcome {
    match error.kind {
        ErrorKind::OutcomeUnknown => Outcome::Unknown(error.clone()),
        _ => Outcome::Refused(error.clone()),
    }
}

/// The outcomes of a fall in which one write did not happen, and therefore none did.
pub(super) fn none_of(
    store: &StoreName,
    fall: &Fall,
    which: &IntentId,
    why: &Outcome,
) -> BTreeMap<IntentId, Outcome> {
    let outcome = |write: &Write| match why {
        _ if write.intent == *which => why.clone(),
        Outcome::Moved => Outcome::Moved,
        _ => left(store, None),
    };
    fall.iter().map(|(_, write)| (write.intent.clone(), outcome(write))).collect()
}
