//! Tables as mappings need them, whatever the types of their columns are called.

use std::collections::BTreeSet;

use crate::model::{
    Column, ErrorKind, FieldType, Form, Mapped, SYNC_PARTS, Shape, StoreError, StoreName, SyncPlace,
};

use super::{MigrationStep, form_suits};

/// What columns are called and made with in a kind of store.
pub(super) struct Dialect {
    /// Whether names tell upper from lower case.
    pub(super) tells_case: bool,
    /// The type of a field's column.
    pub(super) column: fn(FieldType, Form) -> &'static str,
    /// The type of a time.
    pub(super) time: &'static str,
    /// The type of JSON that something is mapped into.
    pub(super) json: &'static str,
    /// The type of JSON that is kept as text.
    pub(super) json_text: &'static str,
    /// The type of a part of the sync metadata.
    pub(super) part: fn(&str) -> &'static str,
}

impl Dialect {
    fn same(&self, one: &str, other: &str) -> bool {
        if self.tells_case { one == other } else { one.eq_ignore_ascii_case(other) }
    }

    /// The columns besides the key's that a mapping names, each once, with the type they are made with.
    pub(super) fn wanted_columns(&self, mapped: &Mapped) -> Vec<(String, &'static str)> {
        let mapping = &mapped.mapping;
        let mut wanted: Vec<(String, &'static str)> = Vec::new();
        let mut want = |column: &Column, declared| {
            let name = column.head();
            // A column with a path into it holds JSON.
            let declared = if column.0.len() > 1 { self.json } else { declared };
            let known = wanted.iter().any(|(known, _)| self.same(known, name))
                || mapping.key.iter().any(|part| self.same(part.column.head(), name));
            if !known {
                wanted.push((name.to_owned(), declared));
            }
        };
        for (id, field) in &mapping.fields {
            let ty = mapped.entity.fields.get(id.index()).map_or(FieldType::String, |field| field.ty);
            want(&field.column, (self.column)(ty, field.form));
        }
        for column in mapping.created.iter().chain(&mapping.updated) {
            want(column, self.time);
        }
        match &mapping.sync {
            SyncPlace::None => {}
            SyncPlace::Struct(column) | SyncPlace::Json(column) => want(column, self.json),
            SyncPlace::JsonText(column) => want(column, self.json_text),
            place @ SyncPlace::Columns { .. } => {
                for (name, column) in SYNC_PARTS.into_iter().zip(place.columns()) {
                    if let Some(column) = column {
                        want(column, (self.part)(name));
                    }
                }
            }
        }
        wanted
    }

    /// All names that a mapping takes to be there, or makes.
    pub(super) fn names(&self, mapped: &Mapped) -> impl Iterator<Item = String> {
        let table = match &mapped.mapping.shape {
            Shape::Table(table) => table.schema.iter().cloned().chain([table.name.clone()]).collect(),
            Shape::Object(name) => vec![name.clone()],
            Shape::Embedded(embedded) => vec![embedded.parent.to_string()],
        };
        let keys: Vec<String> = mapped.mapping.key.iter().map(|part| part.column.head().to_owned()).collect();
        table.into_iter().chain(keys).chain(self.wanted_columns(mapped).into_iter().map(|(name, _)| name))
    }

    /// Complains, in a message and a hint, of fields that no table can hold as they are mapped.
    pub(super) fn audit_fields(&self, mapped: &Mapped, complain: &mut impl FnMut(&str, &str)) {
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for (id, field) in &mapped.mapping.fields {
            let Some(known) = mapped.entity.fields.get(id.index()) else { continue };
            if !form_suits(known.ty, field.form) {
                let message = format!(
                    "the {} `{}` cannot stand in the form `{}`",
                    known.ty.as_str(),
                    known.name,
                    field.form.as_str()
                );
                complain(&message, "leave the form out, or use `text`");
            }
            let column = field.column.to_string();
            if !taken.insert(if self.tells_case { column } else { column.to_ascii_lowercase() }) {
                let message = format!("two fields stand in the column `{}`", field.column);
                complain(&message, "give each field a column of its own");
            }
        }
    }
}

/// What is said where a mapping's table is not there, or one of the system's.
pub(super) fn no_table(store: &StoreName, system: bool, title: &str) -> StoreError {
    let hint = if system {
        "run `trueup migrate` to add it"
    } else {
        "check the mapping's `table`, or run `trueup migrate` to add it"
    };
    StoreError::new(ErrorKind::NotFound, store, format!("there is no table `{title}`")).hint(hint)
}

/// Refuses a table that is there without a column of the key: a key's columns come with their table, for they cannot be added to rows
/// that would lack them.
pub(super) fn has_key(
    store: &StoreName,
    mapped: &Mapped,
    title: &str,
    is_there: impl Fn(&str) -> bool,
) -> Result<(), StoreError> {
    let Some(part) = mapped.mapping.key.iter().find(|part| !is_there(part.column.head())) else {
        return Ok(());
    };
    let message = format!("`{title}` has no column `{}`, which its key needs", part.column);
    Err(StoreError::new(ErrorKind::Invalid, store, message)
        .hint("add it there and fill it, or map the key to a column that is there"))
}

/// What is said of a step that a store refused.
pub(super) fn not_added(step: &MigrationStep, told: StoreError) -> StoreError {
    let hint = if told.kind == ErrorKind::Unauthorised {
        "let whoever may do it run the statements (`trueup migrate --print`), or give the login the right to"
    } else {
        "plan the migration again: the store may have changed since"
    };
    StoreError { message: format!("cannot add {}: {}", step.adds, told.message), ..told }.hint(hint)
}
