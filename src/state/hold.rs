//! What a process knows of its lease on a state that others may take over.
//!
//! A lease has a term, which rises whenever the lease changes hands. A controller that was suspended for longer than its lease lasts, and
//! overtaken by another one, finds a different term there, and nothing that it still has in mind is let into the state. What it may have
//! written to stores is in the journal, which the other controller has settled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::StateError;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Hold {
    /// It has none, and changes need none.
    #[default]
    Free,
    /// It took the lease for this holder, which began this term.
    Term(String, i64),
    /// It was overtaken and changes nothing more until it takes the lease anew.
    Lost,
}

/// The lease of a process, as far as the process knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Holding(Arc<Mutex<Hold>>);

impl Holding {
    fn hold(&self) -> MutexGuard<'_, Hold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The term that this holder's lease began; none: it is not taken.
    pub(super) fn term(&self, holder: &str) -> Option<i64> {
        match &*self.hold() {
            Hold::Term(of, term) if of == holder => Some(*term),
            _ => None,
        }
    }

    /// Notes a lease that was taken or renewed.
    pub(super) fn take(&self, holder: &str, term: i64) {
        *self.hold() = Hold::Term(holder.to_owned(), term);
    }

    /// Notes that somebody else took it.
    pub(super) fn lose(&self) {
        *self.hold() = Hold::Lost;
    }

    /// Notes that this holder gives it up, and tells the term to be given up.
    pub(super) fn give_up(&self, holder: &str) -> Option<i64> {
        let mut hold = self.hold();
        let term = match &*hold {
            Hold::Term(of, term) if of == holder => Some(*term),
            Hold::Lost => None,
            Hold::Free | Hold::Term(..) => return None,
        };
        *hold = Hold::Free;
        term
    }

    /// Whether changes may be made while this is the lease's term.
    ///
    /// # Errors
    /// When the lease was lost.
    pub(super) fn check(&self, now: i64) -> Result<(), StateError> {
        let mut hold = self.hold();
        match &*hold {
            Hold::Free => Ok(()),
            Hold::Term(_, ours) if *ours == now => Ok(()),
            Hold::Term(..) | Hold::Lost => {
                *hold = Hold::Lost;
                Err(overtaken())
            }
        }
    }
}

/// The error of one whose lease lapsed and who was overtaken.
pub(super) fn overtaken() -> StateError {
    StateError {
        held_elsewhere: true,
        ..StateError::new(
            "the lease lapsed and another controller worked meanwhile: nothing more is changed, plan again",
        )
    }
}
