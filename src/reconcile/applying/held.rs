//! What was paused since the plan was made: it is left out, by name.

use crate::diff::{Reason, Standing};
use crate::model::{RecordId, StoreName};

use super::super::Trouble;
use super::Applying;

const PAUSED: &str =
    "writing there was paused after the plan was made; `trueup status` says why, `trueup resume` ends it";

impl Applying {
    /// Leaves out the records of which nothing may be written any more. Where the canonical store may not be, nothing else is.
    pub(super) fn drop_held(&mut self) {
        if self.inputs.holds.is_empty() {
            return;
        }
        let (mut held, mut stays, mut cascades) = (Vec::new(), false, false);
        for at in 0..self.plan.records.len() {
            let Some(record) = self.record(at) else { return };
            if self.inputs.holds.has(&record.record, &self.inputs.spec.canonical) {
                held.push(at);
                stays |= self.plan.records.goes(at);
            }
            cascades |= record.actions.iter().any(|action| action.reason == Reason::Cascade);
        }
        for at in held {
            self.leave_record(at, PAUSED, Standing::Paused);
        }
        // Once a record is gone, nobody would miss it in what refers to it. Which goes with which, only making the plan shows.
        if stays && cascades {
            for at in
                (0..self.plan.records.len()).filter(|at| self.plan.records.goes(*at)).collect::<Vec<_>>()
            {
                let message = "what goes with it may have been paused after the plan was made; plan again";
                self.leave_record(at, message, Standing::Pending);
            }
        }
    }

    /// Leaves out a write to a store that may not be written any more.
    pub(super) fn leave_held(&mut self, at: usize, record: &RecordId, store: &StoreName) {
        self.shift(at, store, Standing::Paused);
        self.unconfirmed.insert(at);
        let trouble = Trouble { record: record.clone(), store: store.clone(), message: PAUSED.to_owned() };
        self.report.skipped.push(trouble);
    }
}
