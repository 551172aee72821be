//! The memories of an entity from the first to the last, a page at a time.

use crate::model::{Entity, Memory, RecordKey};

use super::{State, StateError};

/// How many memories are had at a time, unless there is a reason for another number.
pub const PAGE: usize = 2_000;

/// What is still to be read of an entity's memories.
pub struct Pages<'a> {
    state: &'a dyn State,
    entity: &'a Entity,
    limit: usize,
    last: Option<RecordKey>,
    ended: bool,
}

impl<'a> Pages<'a> {
    /// All of them, at most `limit` at a time.
    pub fn new(state: &'a dyn State, entity: &'a Entity, limit: usize) -> Self {
        Self { state, entity, limit, last: None, ended: false }
    }

    /// Those after a key.
    #[must_use]
    pub fn after(self, key: Option<RecordKey>) -> Self {
        Self { last: key, ..self }
    }

    /// None of them.
    #[must_use]
    pub fn none(self) -> Self {
        Self { ended: true, ..self }
    }

    /// The next page, in the order of keys; none after the last one. It is never empty.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub async fn next_page(&mut self) -> Result<Option<Vec<(RecordKey, Memory)>>, StateError> {
        if self.ended {
            return Ok(None);
        }
        let page = self.state.page(self.entity, self.last.as_ref(), self.limit).await?;
        self.ended = page.len() < self.limit;
        let Some((last, _)) = page.last() else { return Ok(None) };
        self.last = Some(last.clone());
        Ok(Some(page))
    }
}
