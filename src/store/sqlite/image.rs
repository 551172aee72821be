//! The columns of a row as they are going to be.

use crate::model::{Cell, FieldType, Native, StoreError, Value, canonical_integer};

use super::super::image::{self, Table};
use super::layout::{Affinity, Layout};
use super::write::Task;

/// A row as it stands.
pub(super) struct Row<'a> {
    layout: &'a Layout,
    slots: &'a [Native],
}

impl image::Row for Row<'_> {
    type Written = Native;

    fn name(&self, slot: usize) -> String {
        self.layout.column(slot).map_or_else(String::new, |column| column.name.clone())
    }

    fn is_computed(&self, slot: usize) -> bool {
        self.layout.column(slot).is_some_and(|column| column.generated)
    }

    fn written(&self, _: usize, _: &Value, native: Native) -> Result<Native, &'static str> {
        Ok(native)
    }

    fn holds(&self, slot: usize, native: &Native, as_read: impl Fn(&Native) -> Cell) -> bool {
        let affinity = self.layout.column(slot).map_or(Affinity::None, |column| column.affinity);
        if affinity.keeps(native) {
            return true;
        }
        affinity.made_of(native).is_none_or(|made| as_read(&made) == as_read(native))
    }

    fn json_text(&self, slot: usize) -> Option<&str> {
        match self.slots.get(slot) {
            None | Some(Native::Null) => Some(""),
            Some(Native::Text(text)) => Some(text),
            Some(_) => None,
        }
    }
}

/// A row that is being put together.
pub(super) type Image<'a> = image::Image<'a, Row<'a>>;

impl<'a> Image<'a> {
    pub(super) fn new(task: &Task<'a>, slots: &'a [Native]) -> Self {
        let layout = task.layout;
        let table = Table {
            store: &task.store.name,
            mapped: task.mapped,
            title: &layout.title,
            places: &layout.places,
        };
        Self::of(table, Row { layout, slots })
    }

    /// Puts the write's key in.
    pub(super) fn put_key(&mut self, task: &Task<'_>) -> Result<(), StoreError> {
        let (layout, key) = (self.row.layout, &task.write.key);
        for ((place, part), text) in layout.key.iter().zip(&task.mapped.entity.key).zip(key.parts()) {
            let column = layout.column(place.slot);
            if let Some(column) = column.filter(|column| column.generated) {
                return Err(self.table.computed_key(&column.name));
            }
            let affinity = column.map_or(Affinity::None, |column| column.affinity);
            let native = key_native(text, part.ty, affinity).ok_or_else(|| self.table.no_key(key))?;
            self.put_whole(place.slot, native);
        }
        Ok(())
    }
}

/// A key's part as it is put into a column; none where the column would make another key of it.
fn key_native(text: &str, ty: FieldType, affinity: Affinity) -> Option<Native> {
    let number = canonical_integer(text);
    match (ty, affinity) {
        (_, Affinity::Real) if number.is_some() => None,
        (FieldType::Int64, _) => number.map(Native::Integer),
        (_, Affinity::Text | Affinity::None) => Some(Native::Text(text.to_owned())),
        (_, Affinity::Integer | Affinity::Numeric | Affinity::Real) => {
            let looks_like_number = text.trim().parse::<f64>().is_ok();
            (number.is_some() || !looks_like_number).then(|| Native::Text(text.to_owned()))
        }
    }
}
