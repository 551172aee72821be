//! One record, with everything that is known of it: for a person who asks why it is as it is.

use std::collections::BTreeMap;

use crate::apply::Sight;
use crate::model::{RecordId, StoreError, StoreName};
use crate::plan::Explanation;
use crate::reconcile::Deleted;
use crate::resolve::Conflict;
use crate::telemetry::Silent;

use super::{Engine, EngineError, KnownError, PassOptions, Pause};

/// Everything that is known of a record.
#[derive(Debug)]
pub struct Explained {
    /// What every store holds, what it should be, and why.
    pub explanation: Explanation,
    /// The stores that could not be read, and why.
    pub unreadable: BTreeMap<StoreName, StoreError>,
    /// Its conflicts, those that ended included, oldest first.
    pub conflicts: Vec<Conflict>,
    /// When and where it was last deleted, if it was, and that is still kept.
    pub deleted: Option<Deleted>,
    /// The pauses that it falls under.
    pub pauses: Vec<Pause>,
    /// What else was wrong with it when the last pass ended, besides what is to be said of it now.
    pub errors: Vec<KnownError>,
}

impl Engine {
    /// Explains a record: at most one row of it is read in each store, and of trueup's own tables what is on record; nothing is written. What other records may add to the rules is
    /// not looked at; what they added in the last pass is among the errors.
    ///
    /// # Errors
    /// When no manifest names its entity, or canonical store or state cannot be read.
    pub async fn explain(&self, record: &RecordId) -> Result<Explained, EngineError> {
        let Some(entity) = self.spec.entity(&record.entity) else {
            return Err(EngineError::new(format!("no manifest names the entity `{}`", record.entity)));
        };
        let options = PassOptions::default();
        let executor = self.executor(&Silent, None, &options);
        let opened = self.opening(&executor, false).await?;
        let sight = Sight { executor: &executor, opened: &opened, whole: false };
        let (observed, unreadable) = sight.one(entity, &record.key).await.map_err(EngineError::new)?;
        let inputs = self.inputs(&opened, &options).await?;
        let mut conflicts = self.conflicts(true).await?;
        conflicts.retain(|conflict| conflict.record == *record);
        let mut pauses = self.pauses().await?;
        pauses.retain(|pause| pause.covers(record));
        let explanation = Explanation::of(&inputs, entity, &observed);
        let address = record.to_string();
        let said = |error: &KnownError| {
            let place = (error.kind.as_str(), &error.store, &error.field);
            explanation.notices.iter().any(|said| (said.kind.as_str(), &said.store, &said.field) == place)
        };
        let mut errors = self.errors().await?;
        errors.retain(|error| error.record.as_ref() == Some(&address) && !said(error));
        Ok(Explained {
            explanation,
            unreadable,
            conflicts,
            deleted: self.kept_of(std::slice::from_ref(record)).await?.remove(record),
            pauses,
            errors,
        })
    }
}
