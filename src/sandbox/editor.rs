//! Edits from inside the process: as over REST, but without a call, and so without its limits and faults.

use std::sync::Arc;

use rusqlite::types::Value as Sql;
use serde_json::Value;

use super::answer::{Out, Refusal};
use super::filter::{Filter, Test};
use super::list::{self, Query};
use super::schema::Object;
use super::world::World;

/// Why an edit was refused, in the server's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{status}: {message}")]
pub struct Refused {
    /// The HTTP status it would have had.
    pub status: u16,
    /// The message it would have had.
    pub message: String,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Self { status: refusal.status, message: refusal.message }
    }
}

/// Makes edits; from [`Sandbox::edit`](super::Sandbox::edit) and [`Fault::Then`](super::Fault::Then).
///
/// Objects are named as in paths: `people`, `companies`. Webhooks are told of edits as of any others.
#[derive(Debug)]
pub struct Editor<'a> {
    pub(super) world: &'a mut World,
}

impl Editor<'_> {
    /// Creates a record and gives it as it reads back.
    pub fn create(&mut self, plural: &str, body: &Value) -> Result<Value, Refused> {
        let object = self.world.object(plural)?;
        Ok(plain(&self.world.create(&object, body)?))
    }

    /// Changes a record, or restores it by `deletedAt: null`, and gives it as it reads back.
    pub fn patch(&mut self, plural: &str, id: &str, body: &Value) -> Result<Value, Refused> {
        let object = self.world.object(plural)?;
        Ok(plain(&self.world.patch(&object, id, body)?))
    }

    /// Marks a record as deleted.
    pub fn soft_delete(&mut self, plural: &str, id: &str) -> Result<(), Refused> {
        let (object, filter) = self.by_id(plural, id, false)?;
        self.world.delete(&object, &filter, true)?;
        Ok(())
    }

    /// Removes a record, also one that is marked as deleted.
    pub fn destroy(&mut self, plural: &str, id: &str) -> Result<(), Refused> {
        let (object, filter) = self.by_id(plural, id, true)?;
        self.world.delete(&object, &filter, false)?;
        Ok(())
    }

    /// All records in the order of their ids, without those that are marked as deleted.
    pub fn all(&self, plural: &str) -> Result<Vec<Value>, Refused> {
        let object = self.world.object(plural)?;
        let page = list::list(&self.world.db, &object, &Query { first: u32::MAX, ..Query::default() })?;
        Ok(page.rows.iter().map(plain).collect())
    }

    /// The records that are marked as deleted, in the order of their ids.
    pub fn deleted(&self, plural: &str) -> Result<Vec<Value>, Refused> {
        let object = self.world.object(plural)?;
        let filter = Some(Filter::Test { column: "deletedAt".to_owned(), test: Test::Null(false) });
        let page =
            list::list(&self.world.db, &object, &Query { filter, first: u32::MAX, ..Query::default() })?;
        Ok(page.rows.iter().map(plain).collect())
    }

    /// Takes a custom field away, with what was in it, as somebody may in the settings. The object is named in the singular.
    pub fn drop_field(&mut self, singular: &str, name: &str) -> Result<(), Refused> {
        self.world.atomically(|world| world.drop_field(singular, name))?;
        Ok(())
    }

    fn by_id(&self, plural: &str, id: &str, also_deleted: bool) -> Result<(Arc<Object>, Filter), Refused> {
        let object = self.world.object(plural)?;
        let row = self.world.row(&object, id)?.filter(|row| also_deleted || !super::records::is_deleted(row));
        row.ok_or_else(super::records::not_found)?;
        Ok((object, Filter::id(id)))
    }
}

impl Filter {
    /// The record of an id, soft-deleted or not.
    pub(super) fn id(id: &str) -> Self {
        let by_id =
            Self::Test { column: "id".to_owned(), test: Test::Compare("=", Sql::Text(id.to_owned())) };
        let either =
            [true, false].map(|null| Self::Test { column: "deletedAt".to_owned(), test: Test::Null(null) });
        Self::All(vec![by_id, Self::Any(either.into())])
    }
}

fn plain(out: &Out) -> Value {
    serde_json::to_value(out).unwrap_or(Value::Null)
}
