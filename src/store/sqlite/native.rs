//! Single values between sqlx and [`Native`], and the quoting of names.

use sqlx::sqlite::{SqliteArguments, SqliteRow, SqliteValueRef};
use sqlx::{Decode, Row as _, Sqlite, TypeInfo as _, ValueRef as _};

use crate::model::Native;

pub(super) use super::super::inside::{inner_json, inner_native, native_json, unreadable};

/// A prepared query under way.
pub(super) type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

/// A name as SQL has it. Everything may stand between double quotes; a double quote stands there twice.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A query of this text, with its values only as parameters.
pub(super) fn query(sql: &str) -> Query<'_> {
    // The text is put together from quoted names and placeholders alone.
    sqlx::query(sqlx::AssertSqlSafe(sql.to_owned()))
}

/// Binds a value.
pub(super) fn bind<'q>(query: Query<'q>, value: &Native) -> Query<'q> {
    match value {
        Native::Null => query.bind(None::<i64>),
        Native::Integer(number) => query.bind(*number),
        Native::Real(number) => query.bind(*number),
        Native::Text(text) => query.bind(text.clone()),
        Native::Blob(bytes) => query.bind(bytes.clone()),
    }
}

/// The value in a column of a row.
pub(super) fn native(row: &SqliteRow, at: usize) -> Result<Native, sqlx::Error> {
    let value = row.try_get_raw(at)?;
    if value.is_null() {
        return Ok(Native::Null);
    }
    // What to decode is chosen first: decoding takes the value that tells its type.
    let decode: fn(SqliteValueRef<'_>) -> Result<Native, sqlx::error::BoxDynError> =
        match value.type_info().name() {
            "REAL" => |value| read::<f64>(value).map(Native::Real),
            "TEXT" => text,
            "BLOB" => |value| read::<Vec<u8>>(value).map(Native::Blob),
            _ => |value| read::<i64>(value).map(Native::Integer),
        };
    decode(value).map_err(sqlx::Error::Decode)
}

fn read<'r, T: Decode<'r, Sqlite>>(value: SqliteValueRef<'r>) -> Result<T, sqlx::error::BoxDynError> {
    T::decode(value)
}

/// Text that is no UTF-8 is read as the bytes that it is.
fn text(value: SqliteValueRef<'_>) -> Result<Native, sqlx::error::BoxDynError> {
    let bytes = read::<&[u8]>(value)?;
    Ok(match std::str::from_utf8(bytes) {
        Ok(text) => Native::Text(text.to_owned()),
        Err(_) => Native::Blob(bytes.to_vec()),
    })
}
