//! Where what was seen of a record is put until the plan is shown or carried out.
//!
//! A plan follows from what was seen, so what was seen is all that has to be kept of a record: what is to be done about it is worked out
//! again when it is wanted. A plan about a million records fits into little memory that way.

use crate::model::Entity;

use super::Observed;

/// What was put on a shelf cannot be had back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what was seen of a record cannot be kept, or read back: {0}")]
pub struct Lost(pub String);

/// Keeps what was seen of records, each under the number that it was given.
pub trait Shelf: Send + Sync {
    /// Keeps it, and says where.
    ///
    /// # Errors
    /// When there is no room.
    fn put(&mut self, entity: &Entity, observed: Observed) -> Result<u64, Lost>;

    /// Gives it back.
    ///
    /// # Errors
    /// When it is gone, or not as it was.
    fn get(&self, entity: &Entity, place: u64) -> Result<Observed, Lost>;
}

/// A shelf in memory.
#[derive(Debug, Default)]
pub struct MemoryShelf(Vec<Observed>);

impl Shelf for MemoryShelf {
    fn put(&mut self, _entity: &Entity, observed: Observed) -> Result<u64, Lost> {
        self.0.push(observed);
        Ok(self.0.len() as u64 - 1)
    }

    fn get(&self, _entity: &Entity, place: u64) -> Result<Observed, Lost> {
        let found = usize::try_from(place).ok().and_then(|place| self.0.get(place));
        found.cloned().ok_or_else(|| Lost("it was never kept".to_owned()))
    }
}
