//! Single values between `SQLite` and [`Native`], and the quoting of names.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::model::Native;

pub(super) use super::super::inside::native_json;

/// A name as SQL has it. Everything may stand between double quotes; a double quote stands there twice.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

impl ToSql for Native {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(value_ref(self)))
    }
}

/// A value as a row would show it.
pub(super) fn value_ref(value: &Native) -> ValueRef<'_> {
    match value {
        Native::Null => ValueRef::Null,
        Native::Integer(number) => ValueRef::Integer(*number),
        Native::Real(number) => ValueRef::Real(*number),
        Native::Text(text) => ValueRef::Text(text.as_bytes()),
        Native::Blob(bytes) => ValueRef::Blob(bytes),
    }
}

/// A value of a row. Text that is no UTF-8 is read as the bytes that it is.
pub(super) fn native(value: ValueRef<'_>) -> Native {
    match value {
        ValueRef::Null => Native::Null,
        ValueRef::Integer(number) => Native::Integer(number),
        ValueRef::Real(number) => Native::Real(number),
        ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Native::Text(text.to_owned()),
            Err(_) => Native::Blob(bytes.to_vec()),
        },
        ValueRef::Blob(bytes) => Native::Blob(bytes.to_vec()),
    }
}
