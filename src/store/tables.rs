//! Tables as mappings need them, whatever the types of their columns are called.

use crate::model::{
    Column, ErrorKind, FieldType, Form, Mapped, SYNC_PARTS, Shape, StoreError, StoreName, SyncPlace,
    TableName,
};

use super::MigrationStep;

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
}

/// The table that an entity is mapped to, in a kind of store that has tables only.
pub(super) fn table_of<'a>(
    store: &StoreName,
    kind: &str,
    mapped: &'a Mapped,
) -> Result<&'a TableName, StoreError> {
    match &mapped.mapping.shape {
        Shape::Table(table) => Ok(table),
        Shape::Object(_) | Shape::Embedded(_) => {
            let message = format!("`{}` is mapped to an object: {kind} has tables only", mapped.name());
            Err(StoreError::new(ErrorKind::Unsupported, store, message))
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

/// What is said of a view, or of what else can only be read.
pub(super) fn only_read(store: &StoreName, title: &str) -> StoreError {
    let message = format!("`{title}` is no table, and cannot be written");
    StoreError::new(ErrorKind::Unsupported, store, message)
        .hint("map the table behind it, or set `read_only: true`")
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
