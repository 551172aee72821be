//! Considering records apart from the planner: what is to be done about a record follows from what was seen of it alone, so that may be worked
//! out anywhere, and several at a time. The planner takes the results in the order of keys.

use std::sync::Arc;

use crate::model::Entity;
use crate::resolve::Overrides;

use super::Observed;
use super::build::Planner;
use super::inputs::PlanInputs;
use super::recipe::{Entry, consider};

/// Considers records.
#[derive(Clone)]
pub struct Thinker(Arc<PlanInputs>);

/// A record, considered.
pub struct Considered(Entry);

impl Thinker {
    /// Considers a record.
    pub fn consider(&self, entity: &Arc<Entity>, observed: Observed) -> Considered {
        Considered(consider(&self.0, entity, observed, Overrides::default()))
    }
}

impl Planner {
    /// What considers the records of an entity; none where the records before one may change what was seen of it.
    pub fn thinker(&self, entity: &Entity) -> Option<Thinker> {
        self.related(entity).is_empty().then(|| Thinker(Arc::clone(&self.inputs)))
    }

    /// Takes a record that was considered.
    pub fn add_considered(&mut self, entity: &Arc<Entity>, considered: Considered) {
        self.take(entity, considered.0);
    }
}
