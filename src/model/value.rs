//! Values in canonical form.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::ids::RecordKey;
use super::json::{Json, plain_decimal};
use super::schema::FieldType;
use super::time::Timestamp;

/// A 64-bit floating point number under which equal means the same: NaN equals NaN, and there is one zero.
#[derive(Debug, Clone, Copy)]
pub struct Float(f64);

impl Float {
    /// Takes a number; `-0.0` becomes `0.0`.
    pub fn new(number: f64) -> Self {
        Self(if number == 0.0 { 0.0 } else { number })
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.0.total_cmp(&other.0).is_eq() || (self.0.is_nan() && other.0.is_nan())
    }
}
impl Eq for Float {}
impl std::hash::Hash for Float {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        if self.0.is_nan() { f64::NAN.to_bits() } else { self.0.to_bits() }.hash(state);
    }
}

/// A field's value in canonical form: two values are the same exactly when they are equal here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// `bool`.
    Bool(bool),
    /// `int64`.
    Int(i64),
    /// `float64`.
    Float(Float),
    /// `numeric`: a decimal number of any length as plain text, without exponent or trailing zeros.
    Numeric(Arc<str>),
    /// `string`. Copies share it.
    Text(Arc<str>),
    /// `date`.
    Date(Date),
    /// `timestamp`.
    Time(Timestamp),
    /// `json`.
    Json(Json),
    /// `string_list`.
    List(Arc<[String]>),
}

impl Value {
    /// A text value.
    pub fn text(text: impl Into<Arc<str>>) -> Self {
        Self::Text(text.into())
    }

    /// Whether there is no value.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The value as a text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The value as the text that keys, references, conditions of scopes, derivations and patterns know it by: texts, numbers
    /// and times bare, JSON and lists as JSON. None for null.
    pub fn plain_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Text(text) | Self::Numeric(text) => Some(Cow::Borrowed(text)),
            Self::Json(_) => Some(Cow::Owned(self.to_string())),
            other => match other.to_plain() {
                serde_json::Value::Null => None,
                serde_json::Value::String(text) => Some(Cow::Owned(text)),
                plain => Some(Cow::Owned(plain.to_string())),
            },
        }
    }

    /// A key of one part as the value of a field that refers to its record.
    pub fn of_key(key: &RecordKey, ty: FieldType) -> Option<Self> {
        let [part] = key.parts() else { return None };
        match ty {
            FieldType::Int64 => part.parse().ok().map(Self::Int),
            _ => Some(Self::text(part.as_str())),
        }
    }

    /// The key of the record that a reference with this value leads to; a key that is referred to has one part.
    pub fn to_key(&self) -> Option<RecordKey> {
        self.plain_text().map(|text| RecordKey::new(vec![text.into_owned()]))
    }

    /// A `numeric` from its text, in canonical form; none if it is no number of reasonable length.
    pub fn numeric(text: &str) -> Option<Self> {
        plain_decimal(text).map(|plain| Self::Numeric(plain.into()))
    }

    /// The value as plain JSON, as people and other programs expect to read it. It does not tell a date from a text:
    /// what must be read back is written by serde.
    pub fn to_plain(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Bool(flag) => (*flag).into(),
            Self::Int(number) => (*number).into(),
            Self::Float(number) => serde_json::Number::from_f64(number.get())
                .map_or_else(|| number.get().to_string().into(), Into::into),
            Self::Numeric(text) | Self::Text(text) => text.as_ref().into(),
            Self::Date(date) => date.to_string().into(),
            Self::Time(time) => time.to_string().into(),
            Self::Json(json) => json.as_value().clone(),
            Self::List(items) => items.to_vec().into(),
        }
    }
}

impl fmt::Display for Value {
    /// As in a plan: text quoted, everything else bare.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Numeric(text) => f.write_str(text),
            other => write!(f, "{}", other.to_plain()),
        }
    }
}

/// Written so that the type can be told: `null`, `true`, `7`, `"text"`, `["list"]`, and for the others an object with
/// one key: `{"f": "1.5"}`, `{"n": "1.50"}`, `{"d": "2026-06-15"}`, `{"t": "2026-06-15T12:00:00Z"}`, `{"j": …}`.
impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let tagged = |tag: &str, value: serde_json::Value| {
            serde_json::Value::Object(std::iter::once((tag.to_owned(), value)).collect())
        };
        match self {
            Self::Float(number) => tagged("f", number.get().to_string().into()),
            Self::Numeric(text) => tagged("n", text.as_ref().into()),
            Self::Date(date) => tagged("d", date.to_string().into()),
            Self::Time(time) => tagged("t", time.to_string().into()),
            Self::Json(json) => tagged("j", json.as_value().clone()),
            plain => plain.to_plain(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = serde_json::Value::deserialize(deserializer)?;
        from_tagged(json).ok_or_else(|| serde::de::Error::custom("not a value as trueup writes them"))
    }
}

fn from_tagged(json: serde_json::Value) -> Option<Value> {
    use serde_json::Value as J;
    Some(match json {
        J::Null => Value::Null,
        J::Bool(flag) => Value::Bool(flag),
        J::Number(number) => Value::Int(number.as_i64()?),
        J::String(text) => Value::text(text),
        J::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| if let J::String(text) = item { Some(text) } else { None })
                .collect::<Option<_>>()?,
        ),
        J::Object(object) => {
            let (tag, value) = object.into_iter().next()?;
            match (tag.as_str(), value) {
                ("j", value) => Value::Json(Json::new(value)),
                ("f", J::String(text)) => Value::Float(Float::new(text.parse().ok()?)),
                ("n", J::String(text)) => Value::numeric(&text)?,
                ("d", J::String(text)) => Value::Date(Date::from_str(&text).ok()?),
                ("t", J::String(text)) => Value::Time(Timestamp::parse(&text, &jiff::tz::TimeZone::UTC)?),
                _ => return None,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Derive, DeriveFn, FieldRef, Recompute};

    #[test]
    fn texts_numbers_and_times_are_told_bare() {
        let day = Value::Date(Date::constant(2026, 6, 15));
        let noon = Timestamp::parse("2026-06-15T12:00:00Z", &jiff::tz::TimeZone::UTC).map(Value::Time);
        let told = [
            (Value::Null, None),
            (Value::text("a \"b\""), Some("a \"b\"")),
            (Value::Int(7), Some("7")),
            (Value::Bool(true), Some("true")),
            (Value::Float(Float::new(1.0)), Some("1.0")),
            (Value::Float(Float::new(f64::INFINITY)), Some("inf")),
            (Value::numeric("1.50").expect("a number"), Some("1.5")),
            (day, Some("2026-06-15")),
            (noon.expect("a time"), Some("2026-06-15T12:00:00Z")),
            (Value::Json(Json::new("a".into())), Some("\"a\"")),
            (Value::List(["a".to_owned()].into()), Some("[\"a\"]")),
        ];
        for (value, text) in told {
            assert_eq!(value.plain_text().as_deref(), text, "{value}");
        }
    }

    #[test]
    fn what_is_derived_of_a_date_has_no_quotes() {
        let derive = Derive {
            function: DeriveFn::Join,
            args: vec![FieldRef::Key(0), FieldRef::Key(1)],
            recompute: Recompute::Always,
        };
        let of = |arg| match arg {
            FieldRef::Key(0) => Value::text("seen"),
            _ => Value::Date(Date::constant(2026, 6, 15)),
        };
        assert_eq!(derive.compute(of, None), Value::text("seen 2026-06-15"));
    }
}
