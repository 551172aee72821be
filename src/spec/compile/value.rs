//! Values written in manifests, read as the type of the field they are about: bounds of ranges, conditions of scopes.

use std::cmp::Ordering;
use std::str::FromStr;

use bigdecimal::BigDecimal;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::model::{FieldType, Float, Timestamp, Value};
use crate::spec::structure::describe;
use crate::spec::yaml::{Kind, Node, Scalar};

/// A node's value as one of a type, else what is wrong with it and what to do. Texts are never made of numbers or truth
/// values: which text a person meant by `1.0` or `no` is not for a machine to guess.
pub(super) fn read(node: &Node, ty: FieldType) -> Result<Value, (String, Option<String>)> {
    let wrong = |wanted: &str| {
        let quoted = matches!(&node.kind, Kind::Scalar { is: Scalar::Text, plain: false, .. });
        let hint = (ty == FieldType::String)
            .then(|| "put it in quotes if the text is meant".to_owned())
            .or_else(|| (quoted && ty != FieldType::Numeric).then(|| "leave out the quotes".to_owned()));
        Err((format!("{} is no {wanted}", describe(node, false)), hint))
    };
    let Kind::Scalar { is, text, .. } = &node.kind else { return wrong(ty.as_str()) };
    let value = match (ty, is) {
        (FieldType::String, Scalar::Text) => Some(Value::text(text.as_str())),
        (FieldType::Int64, Scalar::Int(number)) => Some(Value::Int(*number)),
        (FieldType::Float64, Scalar::Int(_) | Scalar::Float(_) | Scalar::Text) => float(text),
        (FieldType::Numeric, Scalar::Int(_) | Scalar::Float(_) | Scalar::Text) => Value::numeric(text),
        (FieldType::Bool, Scalar::Bool(flag)) => Some(Value::Bool(*flag)),
        (FieldType::Date, Scalar::Text) => Date::from_str(text).ok().map(Value::Date),
        (FieldType::Timestamp, Scalar::Text) => Timestamp::parse(text, &TimeZone::UTC).map(Value::Time),
        _ => None,
    };
    match (value, ty) {
        (Some(value), _) => Ok(value),
        (None, FieldType::String) => wrong("text"),
        (None, FieldType::Int64) => wrong("whole number of 64 bits"),
        (None, FieldType::Float64 | FieldType::Numeric) => wrong("number"),
        (None, FieldType::Bool) => wrong("truth value (`true` or `false`)"),
        (None, FieldType::Date) => wrong("date like `2026-06-15`"),
        (None, FieldType::Timestamp) => wrong("timestamp like `2026-06-15T12:00:00Z`"),
        (None, other) => wrong(other.as_str()),
    }
}

fn float(text: &str) -> Option<Value> {
    let number: f64 = text.parse().ok()?;
    number.is_finite().then(|| Value::Float(Float::new(number)))
}

/// The order of two values of one type that has one.
pub(super) fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.get().partial_cmp(&b.get()),
        (Value::Numeric(a), Value::Numeric(b)) => {
            Some(BigDecimal::from_str(a).ok()?.cmp(&BigDecimal::from_str(b).ok()?))
        }
        (Value::Date(a), Value::Date(b)) => Some(a.cmp(b)),
        (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
        _ => None,
    }
}
