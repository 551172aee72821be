//! How canonical values stand in a store's columns, and back.
//!
//! Writing is strict: a form takes only what it can give back. Reading is liberal in what means the same (an integer in a
//! column of texts, a truth as `1`, a time without a zone), for other applications write as their libraries please.

use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

use super::crm;
use super::json::Json;
use super::mapping::Form;
use super::schema::FieldType;
use super::time::Timestamp;
use super::value::{Float, Value};

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

/// JSON nested deeper than this cannot be read back by our own parser, so it is not written either.
const MAX_JSON_DEPTH: usize = 120;

/// Longer texts are not tried as numbers: no store holds such numbers, and parsing them is slow.
const MAX_NUMBER_LENGTH: usize = 1000;

/// A canonical value as it is written to a column of this form.
///
/// # Errors
/// When the form cannot hold the value.
pub fn encode(value: &Value, ty: FieldType, form: Form, zone: &TimeZone) -> Result<Native, FormError> {
    if value.is_null() {
        return Ok(Native::Null);
    }
    if !ty.admits(value) {
        return Err(FormError(format!("the value is no {}", ty.as_str())));
    }
    match form {
        Form::Native => to_native(value, ty),
        Form::Text => to_text(value).map(Native::Text),
        Form::Int64 => to_integer(value, ty).map(Native::Integer),
        Form::JsonText => to_json(value).map(|json| Native::Text(json.as_text().to_owned())),
        Form::UnixSeconds => to_unix(value, ty, form, 1_000_000),
        Form::UnixMillis => to_unix(value, ty, form, 1_000),
        Form::UnixMicros => to_unix(value, ty, form, 1),
        crm => crm::encode(value, ty, crm, zone),
    }
}

/// What stands in a column of this form, as a canonical value. Times without a zone are times in `zone`.
///
/// # Errors
/// When it is no value of the type.
pub fn decode(native: &Native, ty: FieldType, form: Form, zone: &TimeZone) -> Result<Value, FormError> {
    match (native, form) {
        (Native::Null, _) => Ok(Value::Null),
        // Where a store has times that no text here can tell, they come as its own bytes.
        (Native::Blob(_), _) if matches!(ty, FieldType::Date | FieldType::Timestamp) => {
            Err(unreadable("what is no time up to the year 9999", ty, form))
        }
        (Native::Blob(_), _) => Err(unreadable("bytes", ty, form)),
        (_, Form::Int64) => from_integer(native, ty, form),
        (Native::Text(text), Form::JsonText) => from_json_text(text, ty, zone),
        // Numbers as JSON text: a column with numeric affinity turns the text `7` into the number.
        (_, Form::Native | Form::Text | Form::JsonText) => from_native(native, ty, form, zone),
        (_, Form::UnixSeconds) => from_unix(native, ty, form, 1_000_000),
        (_, Form::UnixMillis) => from_unix(native, ty, form, 1_000),
        (_, Form::UnixMicros) => from_unix(native, ty, form, 1),
        (_, crm) => crm::decode(native, ty, crm, zone),
    }
}

/// Numbers of up to this many digits are surely read back as they were written; longer ones have to be tried.
const SHORT_NUMERIC: usize = 300;

/// What a value would be read back as after being written in this form.
///
/// # Errors
/// When the form cannot hold the value.
pub fn representable(value: &Value, ty: FieldType, form: Form, zone: &TimeZone) -> Result<Value, FormError> {
    if form == Form::Native && ty.admits(value) {
        // What a column of its own type gives back as it was put in; the long way says the same.
        match value {
            Value::Null | Value::Bool(_) | Value::Int(_) | Value::Text(_) | Value::Time(_) => {
                return Ok(value.clone());
            }
            Value::Date(date) if date.year() >= 0 => return Ok(value.clone()),
            Value::Json(json) if !is_too_deep(json) => return Ok(value.clone()),
            Value::List(_) => return Ok(value.clone()),
            Value::Numeric(text) if text.len() <= SHORT_NUMERIC => return Ok(value.clone()),
            _ => {}
        }
    }
    match value {
        Value::Json(json) if form == Form::JsonText && ty == FieldType::Json && !is_too_deep(json) => {
            Ok(value.clone())
        }
        _ => decode(&encode(value, ty, form, zone)?, ty, form, zone),
    }
}

fn unreadable(what: &str, ty: FieldType, form: Form) -> FormError {
    match form {
        Form::Native => FormError(format!("{what} cannot be read as {}", ty.as_str())),
        form => FormError(format!("{what} cannot be read as {} in the form {}", ty.as_str(), form.as_str())),
    }
}

fn unholdable(ty: FieldType, form: Form) -> FormError {
    FormError(format!("a column of the form {} cannot hold this {}", form.as_str(), ty.as_str()))
}

fn to_native(value: &Value, ty: FieldType) -> Result<Native, FormError> {
    Ok(match value {
        Value::Bool(flag) => Native::Integer(i64::from(*flag)),
        Value::Int(number) => Native::Integer(*number),
        Value::Float(number) if number.get().is_finite() => Native::Real(number.get()),
        Value::Float(_) => return Err(unholdable(ty, Form::Native)),
        other => Native::Text(to_text(other)?),
    })
}

fn to_text(value: &Value) -> Result<String, FormError> {
    Ok(match value {
        Value::Null => String::new(),
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => format!("{:?}", number.get()),
        Value::Numeric(text) | Value::Text(text) => text.as_ref().to_owned(),
        Value::Date(date) => date.to_string(),
        Value::Time(time) => time.to_string(),
        Value::Json(_) | Value::List(_) => to_json(value)?.as_text().to_owned(),
    })
}

fn to_integer(value: &Value, ty: FieldType) -> Result<i64, FormError> {
    let whole = match value {
        Value::Bool(flag) => Some(i64::from(*flag)),
        Value::Int(number) => Some(*number),
        Value::Float(number) => whole_number(number.get()),
        // Only a text that the number gives back: `007` and `+7` would come back as `7`.
        Value::Numeric(text) | Value::Text(text) => canonical_integer(text),
        _ => None,
    };
    whole.ok_or_else(|| unholdable(ty, Form::Int64))
}

fn to_json(value: &Value) -> Result<Json, FormError> {
    let json = match value {
        Value::Json(json) => json.clone(),
        Value::Numeric(text) => serde_json::from_str(text)
            .map(Json::new)
            .map_err(|_| unholdable(FieldType::Numeric, Form::JsonText))?,
        Value::Float(number) if !number.get().is_finite() => {
            return Err(unholdable(FieldType::Float64, Form::JsonText));
        }
        plain => Json::new(plain.to_plain()),
    };
    if is_too_deep(&json) {
        return Err(FormError(format!("JSON nested deeper than {MAX_JSON_DEPTH} levels cannot be held")));
    }
    Ok(json)
}

fn is_too_deep(json: &Json) -> bool {
    !json.is_surely_flat(MAX_JSON_DEPTH) && depth(json.as_value(), 0) > MAX_JSON_DEPTH
}

/// How deep a value is nested, looking no further than one level below the limit.
fn depth(json: &serde_json::Value, above: usize) -> usize {
    use serde_json::Value as J;
    if above > MAX_JSON_DEPTH {
        return above;
    }
    match json {
        J::Array(items) => items.iter().map(|item| depth(item, above + 1)).max().unwrap_or(above + 1),
        J::Object(object) => object.values().map(|item| depth(item, above + 1)).max().unwrap_or(above + 1),
        _ => above,
    }
}

fn to_unix(value: &Value, ty: FieldType, form: Form, unit_micros: i64) -> Result<Native, FormError> {
    match value {
        // What lies below the unit is cut: the store is lossy there, which is no edit.
        Value::Time(time) => Ok(Native::Integer(time.micros().div_euclid(unit_micros))),
        _ => Err(unholdable(ty, form)),
    }
}

fn from_native(native: &Native, ty: FieldType, form: Form, zone: &TimeZone) -> Result<Value, FormError> {
    let read = match ty {
        FieldType::String => read_string(native),
        FieldType::Int64 => read_int(native).map(Value::Int),
        FieldType::Float64 => read_float(native, form),
        FieldType::Numeric => read_numeric(native),
        FieldType::Bool => read_bool(native),
        FieldType::Date => text_of(native).and_then(read_date),
        FieldType::Timestamp => {
            text_of(native).and_then(|text| Timestamp::parse(text, zone)).map(Value::Time)
        }
        FieldType::Json => read_json(native).map(Value::Json),
        FieldType::StringList => read_json(native).and_then(|json| list_of(json.as_value())),
    };
    read.ok_or_else(|| unreadable(named(native, ty), ty, form))
}

/// A word for a value that is not of the wanted type, for messages: its class, or its name where it has one (`infinity`). Never the value.
fn named(native: &Native, ty: FieldType) -> &'static str {
    const ENDLESS: [&str; 6] = ["infinity", "-infinity", "inf", "-inf", "nan", "-nan"];
    let Native::Text(text) = native else { return class_of(native) };
    match ty {
        FieldType::Float64 | FieldType::Numeric | FieldType::Date | FieldType::Timestamp => {
            let same = |name: &&str| text.trim().eq_ignore_ascii_case(name);
            ENDLESS.into_iter().find(same).unwrap_or("a text")
        }
        FieldType::StringList => match Json::parse(text) {
            Ok(json)
                if json
                    .as_value()
                    .as_array()
                    .is_some_and(|items| items.iter().any(serde_json::Value::is_null)) =>
            {
                "a list with a NULL in it"
            }
            _ => "a text",
        },
        _ => "a text",
    }
}

fn from_integer(native: &Native, ty: FieldType, form: Form) -> Result<Value, FormError> {
    let whole = read_int(native).ok_or_else(|| unreadable(class_of(native), ty, form))?;
    let value = match ty {
        FieldType::String => Some(Value::text(whole.to_string())),
        FieldType::Int64 => Some(Value::Int(whole)),
        FieldType::Numeric => Some(Value::Numeric(whole.to_string().into())),
        FieldType::Float64 => read_float(&Native::Integer(whole), form),
        FieldType::Bool => read_bool(&Native::Integer(whole)),
        FieldType::Date | FieldType::Timestamp | FieldType::Json | FieldType::StringList => None,
    };
    value.ok_or_else(|| unreadable("an integer", ty, form))
}

fn from_json_text(text: &str, ty: FieldType, zone: &TimeZone) -> Result<Value, FormError> {
    let refused = || unreadable("a text", ty, Form::JsonText);
    let json = Json::parse(text).map_err(|_| refused())?;
    from_json(&json, ty, zone).ok_or_else(refused)
}

/// A JSON value as a value of a type. JSON's null is a value of the type `json`, and stands for no value in every other type.
fn from_json(json: &Json, ty: FieldType, zone: &TimeZone) -> Option<Value> {
    use serde_json::Value as J;
    if ty == FieldType::Json {
        return Some(Value::Json(json.clone()));
    }
    match (ty, json.as_value()) {
        (_, J::Null) => Some(Value::Null),
        (FieldType::StringList, value) => list_of(value),
        (FieldType::String, J::String(text)) => Some(Value::text(text.as_str())),
        (FieldType::Bool, J::Bool(flag)) => Some(Value::Bool(*flag)),
        (FieldType::String | FieldType::Bool, _) => None,
        (_, J::Number(number)) => {
            from_native(&Native::Text(number.to_string()), ty, Form::JsonText, zone).ok()
        }
        (_, J::String(text)) => from_native(&Native::Text(text.clone()), ty, Form::JsonText, zone).ok(),
        _ => None,
    }
}

fn from_unix(native: &Native, ty: FieldType, form: Form, unit_micros: i64) -> Result<Value, FormError> {
    let refused = || unreadable(class_of(native), ty, form);
    if ty != FieldType::Timestamp {
        return Err(refused());
    }
    let micros = read_int(native).and_then(|units| units.checked_mul(unit_micros)).ok_or_else(refused)?;
    Timestamp::from_micros(micros).map(Value::Time).ok_or_else(refused)
}

fn class_of(native: &Native) -> &'static str {
    match native {
        Native::Null => "nothing",
        Native::Integer(_) => "an integer",
        Native::Real(_) => "a floating point number",
        Native::Text(_) => "a text",
        Native::Blob(_) => "bytes",
    }
}

fn text_of(native: &Native) -> Option<&str> {
    if let Native::Text(text) = native { Some(text) } else { None }
}

/// A text of a number worth parsing.
fn number_text(native: &Native) -> Option<&str> {
    text_of(native).map(str::trim).filter(|text| text.len() <= MAX_NUMBER_LENGTH)
}

/// The 64-bit integer that a text is. Each number has exactly one text: `007`, `+7` and `-0` are refused, since they would be read back
/// as `7` and `0`, and as keys they would be second keys of the same record.
pub fn canonical_integer(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let canonical = text == "0" || digits.starts_with(|first| matches!(first, '1'..='9'));
    canonical.then(|| text.parse().ok()).flatten()
}

/// The integer that a float is exactly, if it is one.
fn whole_number(real: f64) -> Option<i64> {
    // 2^63 is a float and i64::MAX is not: compare with the power. The cast is exact within.
    let bounds = -9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0;
    #[allow(clippy::cast_possible_truncation)]
    (real.fract() == 0.0 && bounds.contains(&real)).then_some(real as i64)
}

fn read_string(native: &Native) -> Option<Value> {
    Some(Value::Text(match native {
        Native::Text(text) => text.as_str().into(),
        // SQLite's columns are typed by the value: digits put into one without affinity are a number.
        Native::Integer(number) => number.to_string().into(),
        Native::Real(number) => format!("{number:?}").into(),
        Native::Null | Native::Blob(_) => return None,
    }))
}

fn read_int(native: &Native) -> Option<i64> {
    match native {
        Native::Integer(number) => Some(*number),
        Native::Real(number) => whole_number(*number),
        native => {
            let text = number_text(native)?;
            text.parse().ok().or_else(|| match Value::numeric(text)? {
                Value::Numeric(plain) => plain.parse().ok(),
                _ => None,
            })
        }
    }
}

fn read_float(native: &Native, form: Form) -> Option<Value> {
    let number = match native {
        // A float column is where the rounding was agreed to.
        #[allow(clippy::cast_precision_loss)]
        Native::Integer(number) => *number as f64,
        Native::Real(number) => *number,
        native => number_text(native)?.parse().ok()?,
    };
    // Only text holds what is no number; elsewhere it could not be written back.
    (number.is_finite() || form == Form::Text).then(|| Value::Float(Float::new(number)))
}

fn read_numeric(native: &Native) -> Option<Value> {
    match native {
        Native::Integer(number) => Some(Value::Numeric(number.to_string().into())),
        Native::Real(number) if number.is_finite() => Value::numeric(&format!("{number:?}")),
        native => Value::numeric(number_text(native)?),
    }
}

fn read_bool(native: &Native) -> Option<Value> {
    let flag = match native {
        Native::Integer(0) => false,
        Native::Integer(1) => true,
        Native::Real(number) => return read_bool(&Native::Integer(whole_number(*number)?)),
        native => match text_of(native)?.trim() {
            "0" => false,
            "1" => true,
            word if word.eq_ignore_ascii_case("false") => false,
            word if word.eq_ignore_ascii_case("true") => true,
            _ => return None,
        },
    };
    Some(Value::Bool(flag))
}

fn read_date(text: &str) -> Option<Value> {
    let text = text.trim();
    // A day written as its midnight is that day; any other time of day would be lost.
    let civil = DateTime::from_str(text).ok()?;
    (civil.time() == Time::midnight()).then(|| Value::Date(Date::from(civil)))
}

fn read_json(native: &Native) -> Option<Json> {
    match native {
        Native::Text(text) => Json::parse(text).ok(),
        // Columns declared as JSON have numeric affinity in SQLite.
        Native::Integer(number) => Some(Json::new((*number).into())),
        Native::Real(number) => {
            serde_json::Number::from_f64(*number).map(|number| Json::new(serde_json::Value::Number(number)))
        }
        Native::Null | Native::Blob(_) => None,
    }
}

fn list_of(json: &serde_json::Value) -> Option<Value> {
    let items = json.as_array()?;
    let texts: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
    texts.map(|texts| Value::List(texts.into()))
}

#[cfg(test)]
#[path = "forms_tests.rs"]
mod tests;
