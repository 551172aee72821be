//! Tables as they are found in a store, whatever manifests say of them.

use super::FieldType;

/// A table that stands in a store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundTable {
    /// Its name, as a mapping names it.
    pub name: String,
    /// The columns of its primary key, in the key's order; none where it declares none.
    pub key: Vec<String>,
    /// Its columns, in its own order.
    pub columns: Vec<FoundColumn>,
}

/// A column of such a table, or a field of a STRUCT that is one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Each is a fact of its own about the column.
pub struct FoundColumn {
    /// Its names, from the column inwards.
    pub path: Vec<String>,
    /// The type of field that says most of what it holds.
    pub ty: FieldType,
    /// It takes values of other types as they are: its type is a hint.
    pub loose: bool,
    /// It refuses null.
    pub required: bool,
    /// No two rows have the same value in it.
    pub unique: bool,
    /// The store computes it.
    pub computed: bool,
    /// The table whose key it holds, where a foreign key says so.
    pub references: Option<String>,
}

impl FoundColumn {
    /// Its name, with dots between the names of a path.
    pub fn title(&self) -> String {
        self.path.join(".")
    }
}
