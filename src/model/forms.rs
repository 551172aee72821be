//! How canonical values stand in a store's columns, and back.

use jiff::tz::TimeZone;

use super::mapping::Form;
use super::schema::FieldType;
use super::value::Value;

/// A value as relational stores without rich types keep it (`SQLite`'s storage classes).
#[derive(Debug, Clone, PartialEq)]
pub enum Native {
    /// No value.
    Null,
    /// An integer.
    Integer(i64),
    /// A floating point number.
    Real(f64),
    /// Text.
    Text(String),
    /// Bytes.
    Blob(Vec<u8>),
}

/// Why a value cannot be held, or what is held cannot be read. The text never shows the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormError(pub String);

/// A canonical value as it is written to a column of this form.
///
/// # Errors
/// When the form cannot hold the value.
pub fn encode(_value: &Value, _ty: FieldType, _form: Form, _zone: &TimeZone) -> Result<Native, FormError> {
    Err(FormError("not written yet".to_owned()))
}

/// What stands in a column of this form, as a canonical value.
///
/// # Errors
/// When it is no value of the type.
pub fn decode(_native: &Native, _ty: FieldType, _form: Form, _zone: &TimeZone) -> Result<Value, FormError> {
    Err(FormError("not written yet".to_owned()))
}

/// What a value would be read back as after being written in this form.
///
/// # Errors
/// When the form cannot hold the value.
pub fn representable(value: &Value, ty: FieldType, form: Form, zone: &TimeZone) -> Result<Value, FormError> {
    decode(&encode(value, ty, form, zone)?, ty, form, zone)
}
