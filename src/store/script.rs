//! The SQL that prepares a store for its mappings, from the manifests alone: for people who run their statements themselves.
//!
//! What a store has already stays as it is. Columns are added without a default: one that filled existing rows would be an edit of
//! all of them.

use std::fmt::Write as _;

use crate::model::{Mapped, StoreError, StoreName};

use super::{bigquery, postgres, sqlite};

/// Whose SQL it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dialect {
    /// `BigQuery`'s, with the dataset of tables that name none.
    BigQuery {
        /// The dataset.
        dataset: String,
    },
    /// `PostgreSQL`'s, with the schema of tables that name none.
    Postgres {
        /// The schema.
        schema: String,
    },
    /// `SQLite`'s.
    Sqlite,
}

/// The statements that prepare a store, as a file.
///
/// # Errors
/// When an entity has no table there.
pub fn script(dialect: &Dialect, store: &StoreName, mapped: &[Mapped]) -> Result<String, StoreError> {
    let (statements, advice) = match dialect {
        Dialect::BigQuery { dataset } => (bigquery::script(store, dataset, mapped)?, AGAIN),
        Dialect::Postgres { schema } => (postgres::script(store, schema, mapped)?, AGAIN),
        Dialect::Sqlite => (sqlite::script(store, mapped)?, TABLES),
    };
    let mut text = format!(
        "-- What the store `{store}` needs, from its manifests; made by `trueup schema --sql`.\n{advice}\n"
    );
    for statement in statements {
        let begins = statement.starts_with("CREATE TABLE");
        let _ = writeln!(text, "{}{statement};", if begins { "\n" } else { "" });
    }
    Ok(text)
}

const AGAIN: &str = "-- Adds what is missing, drops and rewrites nothing, and may be run again.";
const TABLES: &str = "-- Adds tables that are missing, and may be run again. Columns missing from tables that are there: `trueup migrate`.";
