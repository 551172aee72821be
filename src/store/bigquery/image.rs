//! The columns of a row as they are going to be.

use std::collections::BTreeMap;

use crate::model::{Mapped, Native, RecordKey, StoreError, StoreName, Value, canonical_integer};

use super::super::image::{self, Table};
use super::kind::{Written, written};
use super::layout::{Layout, Slot};
use super::schema::Kind;

/// What is written, by slot.
pub(super) type Columns = BTreeMap<usize, Written>;

/// A row as it stands.
pub(super) struct Row<'a> {
    mapped: &'a Mapped,
    layout: &'a Layout,
    slots: &'a [Option<String>],
}

impl image::Row for Row<'_> {
    type Written = Written;

    fn name(&self, slot: usize) -> String {
        self.layout.slots.get(slot).map_or_else(String::new, |slot| slot.path.join("."))
    }

    fn written(&self, slot: usize, value: &Value, native: Native) -> Result<Written, &'static str> {
        let node = self.layout.node(slot).ok_or("its column is not there")?;
        written(node, value, &native, &self.mapped.mapping.timezone)
    }

    fn json_text(&self, slot: usize) -> Option<&str> {
        Some(self.slots.get(slot).and_then(Option::as_deref).unwrap_or_default())
    }
}

/// A row that is being put together.
pub(super) type Image<'a> = image::Image<'a, Row<'a>>;

impl<'a> Image<'a> {
    pub(super) fn new(
        store: &'a StoreName,
        mapped: &'a Mapped,
        layout: &'a Layout,
        slots: &'a [Option<String>],
    ) -> Self {
        let table = Table { store, mapped, title: &layout.names.title, places: &layout.places };
        Self::of(table, Row { mapped, layout, slots })
    }

    /// The slots that are set, and those of them of which only a part is.
    pub(super) fn columns(self) -> Result<(Columns, Vec<usize>), StoreError> {
        let parts = self.parts();
        Ok((self.finish()?.into_iter().collect(), parts))
    }

    /// Refuses a key that its columns cannot hold.
    pub(super) fn check_key(&self, key: &RecordKey) -> Result<(), StoreError> {
        let fits = |(part, slot): (&String, &Slot)| match slot.node.kind {
            Kind::Text => true,
            Kind::Int => canonical_integer(part).is_some(),
            _ => false,
        };
        if key.parts().iter().zip(&self.row.layout.key).all(fits) {
            return Ok(());
        }
        Err(self.table.no_key(key))
    }
}
