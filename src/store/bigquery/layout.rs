//! How a table stands to a mapping: which columns are read and written, and where in them fields and metadata stand.

use std::collections::BTreeSet;

use crate::model::{Column, Mapped, StoreError, StoreName, SyncPlace};

use super::super::places::{Lookup, no_key_column, place_meta};
pub(super) use super::super::places::{MetaPlace, Place, Places};
use super::super::sync;
use super::super::tables::table_of;
use super::schema::{Kind, Node, TableInfo};
use super::sql::{column, quoted, text_of};

/// A column that is read, or a field of a STRUCT that is one.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    /// Its names, from the column inwards, as the table has them.
    pub(super) path: Vec<String>,
    pub(super) node: Node,
}

impl Slot {
    /// The expression that reads it as text.
    pub(super) fn text_sql(&self) -> String {
        text_of(&column(&self.path), &self.node)
    }
}

/// A mapping laid onto a table as it is.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) names: TableNames,
    pub(super) info: TableInfo,
    /// The key's columns.
    pub(super) key: Vec<Slot>,
    /// What is read besides the key; first the slots of [`Places::compared`].
    pub(super) slots: Vec<Slot>,
    pub(super) places: Places,
    /// Mapped columns that the table lacks.
    pub(super) missing: Vec<String>,
}

/// Names of the table that an entity's mapping names.
#[derive(Debug, Clone)]
pub(super) struct TableNames {
    pub(super) project: String,
    pub(super) dataset: String,
    pub(super) table: String,
    /// For people.
    pub(super) title: String,
}

impl TableNames {
    pub(super) fn of(
        store: &StoreName,
        project: &str,
        dataset: &str,
        mapped: &Mapped,
    ) -> Result<Self, StoreError> {
        let table = table_of(store, "BigQuery", mapped)?;
        Ok(Self {
            project: project.to_owned(),
            dataset: table.schema.clone().unwrap_or_else(|| dataset.to_owned()),
            table: table.name.clone(),
            title: table.to_string(),
        })
    }

    /// As SQL has it.
    pub(super) fn sql(&self) -> String {
        quoted(&format!("{}.{}.{}", self.project, self.dataset, self.table))
    }

    /// What statements that change the table are kept apart by.
    pub(super) fn lane(&self) -> String {
        format!("{}.{}", self.dataset, self.table)
    }
}

impl Layout {
    /// Lays a mapping onto its table.
    ///
    /// # Errors
    /// When the table lacks a column of the key.
    pub(super) fn of(
        store: &StoreName,
        names: TableNames,
        info: TableInfo,
        mapped: &Mapped,
    ) -> Result<Self, StoreError> {
        let key = mapped.mapping.key.iter().map(|part| {
            let found = Node::find(&info.columns, part.column.head());
            let node = found
                .filter(|node| !node.repeated && node.kind != Kind::Record)
                .ok_or_else(|| no_key_column(store, &names.title, &part.column))?;
            Ok(Slot { path: vec![node.name.clone()], node: node.clone() })
        });
        let key = key.collect::<Result<_, StoreError>>()?;
        let mut nodes = Nodes { columns: &info.columns, slots: Vec::new(), missing: BTreeSet::new() };
        let places = Places::of(mapped, &mut nodes);
        let Nodes { slots, missing, .. } = nodes;
        Ok(Self { names, info, key, slots, places, missing: missing.into_iter().collect() })
    }

    /// The column of a slot.
    pub(super) fn node(&self, slot: usize) -> Option<&Node> {
        self.slots.get(slot).map(|slot| &slot.node)
    }

    /// Everything that is read, as texts: the key's parts, then the slots.
    pub(super) fn select_list(&self) -> String {
        let texts = self.key.iter().chain(&self.slots).enumerate();
        texts.map(|(at, slot)| format!("{} AS c{at}", slot.text_sql())).collect::<Vec<_>>().join(", ")
    }

    /// A condition on the rows of a list of keys, which is given as a parameter.
    pub(super) fn keys_join(&self) -> String {
        let terms: Vec<String> = self
            .key
            .iter()
            .enumerate()
            .map(|(at, slot)| format!("{} = {}", column(&slot.path), key_value(slot, &format!("S.k{at}"))))
            .collect();
        terms.join(" AND ")
    }
}

/// The columns of a table, in which those that a mapping names are looked for.
struct Nodes<'a> {
    columns: &'a [Node],
    slots: Vec<Slot>,
    missing: BTreeSet<String>,
}

impl Lookup for Nodes<'_> {
    /// A path leads into the fields of a STRUCT, and from what is none into the JSON in it.
    fn place(&mut self, column: &Column) -> Option<Place> {
        let mut names = column.0.iter();
        let mut node = names.next().and_then(|name| Node::find(self.columns, name));
        let mut path: Vec<String> = node.iter().map(|node| node.name.clone()).collect();
        let mut rest = Vec::new();
        for name in names {
            let Some(outer) = node else { break };
            if outer.kind == Kind::Record && !outer.repeated {
                node = Node::find(&outer.fields, name);
                path.extend(node.map(|node| node.name.clone()));
            } else {
                rest.push(name.clone());
            }
        }
        let Some(node) = node else {
            self.missing.insert(column.to_string());
            return None;
        };
        let known = self.slots.iter().position(|slot| slot.path == path);
        let slot = known.unwrap_or_else(|| {
            self.slots.push(Slot { path, node: node.clone() });
            self.slots.len() - 1
        });
        Some(Place { slot, path: rest })
    }

    /// Metadata in a STRUCT has a path for each part.
    fn place_meta(&mut self, sync: &SyncPlace) -> (MetaPlace, bool) {
        if let SyncPlace::Struct(column) | SyncPlace::Json(column) | SyncPlace::JsonText(column) = sync {
            let head = Node::find(self.columns, column.head());
            if head.is_some_and(|node| node.kind == Kind::Record) {
                let parts = sync::PARTS.map(|part| {
                    let mut path = column.0.clone();
                    path.push(part.to_owned());
                    Some(Column(path))
                });
                return self.place_parts(&parts);
            }
        }
        place_meta(self, sync)
    }
}

/// A key's parameter as its column's type.
pub(super) fn key_value(slot: &Slot, parameter: &str) -> String {
    super::sql::value_of(parameter, &slot.node)
}
