//! The columns of a row as they are going to be, as texts.

use crate::model::{Flat, Mapped, Native, RecordKey, StoreError, StoreName, Value, canonical_integer};

use super::super::image::{self, Table};
use super::kind::{Kind, is_number, is_uuid};
use super::layout::{ColumnInfo, Layout};

/// Columns by their place in the table, with the text that each gets; none: NULL.
pub(super) type Columns = Flat<usize, Option<String>>;

/// A row as it stands.
pub(super) struct Row<'a> {
    mapped: &'a Mapped,
    layout: &'a Layout,
    slots: &'a [Option<&'a [u8]>],
}

impl image::Row for Row<'_> {
    type Written = Option<String>;

    fn name(&self, slot: usize) -> String {
        self.layout.column(slot).map_or_else(String::new, |column| column.name.clone())
    }

    fn is_computed(&self, slot: usize) -> bool {
        self.layout.column(slot).is_some_and(ColumnInfo::is_computed)
    }

    fn position(&self, slot: usize) -> usize {
        self.layout.slots.get(slot).copied().unwrap_or(usize::MAX)
    }

    fn written(&self, slot: usize, value: &Value, native: Native) -> Result<Option<String>, &'static str> {
        self.layout.kind(slot).written(value, native, &self.mapped.mapping.timezone)
    }

    fn json_text(&self, slot: usize) -> Option<&str> {
        match self.slots.get(slot).copied().flatten() {
            None => Some(""),
            Some(bytes) => self.layout.kind(slot).text(bytes),
        }
    }
}

/// A row that is being put together.
pub(super) type Image<'a> = image::Image<'a, Row<'a>>;

impl<'a> Image<'a> {
    pub(super) fn new(
        store: &'a StoreName,
        mapped: &'a Mapped,
        layout: &'a Layout,
        slots: &'a [Option<&'a [u8]>],
    ) -> Self {
        let table = Table { store, mapped, title: &layout.title, places: &layout.places };
        Self::of(table, Row { mapped, layout, slots })
    }

    pub(super) fn put_key(&mut self, key: &RecordKey) -> Result<(), StoreError> {
        let layout = self.row.layout;
        for ((at, column), part) in layout.key.iter().zip(layout.key_columns()).zip(key.parts()) {
            if column.generated {
                return Err(self.table.computed_key(&column.name));
            }
            let fits = match column.kind {
                Kind::Int2 | Kind::Int4 | Kind::Int8 => canonical_integer(part).is_some(),
                // Another writing of the same would come back as another key.
                Kind::Uuid => is_uuid(part),
                Kind::Numeric => is_number(part),
                Kind::Cast if column.base == "pg_catalog.bpchar" && part.ends_with(' ') => false,
                _ => !part.contains('\0'),
            };
            if !fits {
                return Err(self.table.no_key(key));
            }
            self.put_whole(*at, Some(part.clone()));
        }
        Ok(())
    }
}
