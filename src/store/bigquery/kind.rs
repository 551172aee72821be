//! What stands in columns, as text, and values as the texts that are written.
//!
//! However a row was read, its columns are the same texts: numbers in decimal, times as microseconds, JSON as JSON.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use crate::model::{FieldType, Form, Json as Canonical, Native, Timestamp, Value};

use super::schema::{Kind, Node};

/// What goes into a column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Written {
    /// No value.
    Null,
    /// A text that the column's type is made of.
    Text(String),
    /// The elements of an array, as parameters have them, and the same as JSON.
    Array(Vec<Json>, Json),
}

impl Written {
    /// As the value of a parameter.
    pub(super) fn parameter(&self, node: &Node) -> Json {
        match self {
            Self::Null if node.repeated => json!({ "arrayValues": [] }),
            Self::Null => json!({ "value": null }),
            Self::Text(text) => json!({ "value": text }),
            Self::Array(items, _) => json!({ "arrayValues": items }),
        }
    }

    /// As the column is read back, brought into one writing.
    pub(super) fn normal(&self, node: &Node) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => normal(node, Some(text)),
            Self::Array(_, json) => normal(node, Some(&json.to_string())),
        }
    }
}

/// Whether an ARRAY's text says that nothing is in it: the service does not tell NULL from empty.
fn is_empty_array(text: &str) -> bool {
    matches!(text, "" | "null" | "[]")
}

/// A column's text in one writing, whoever wrote it.
pub(super) fn normal(node: &Node, text: Option<&str>) -> Option<String> {
    let text = text?;
    if node.repeated && is_empty_array(text) {
        return None;
    }
    let told = if node.repeated || matches!(node.kind, Kind::Json | Kind::Record) {
        Canonical::parse(text).ok().map(|json| normal_json(json.as_value().clone(), node).to_string())
    } else {
        match node.kind {
            Kind::Float => text.parse::<f64>().ok().map(|number| format!("{number:?}")),
            Kind::Numeric | Kind::BigNumeric => Value::numeric(text).map(|number| number.to_string()),
            Kind::DateTime => text.parse::<DateTime>().ok().map(|civil| civil.to_string()),
            _ => None,
        }
    };
    Some(told.unwrap_or_else(|| text.to_owned()))
}

/// JSON that was made of an ARRAY or STRUCT: times in one writing, whole numbers as numbers, absent fields absent.
fn normal_json(json: Json, node: &Node) -> Json {
    match json {
        Json::Array(items) if node.repeated => {
            let item = Node { repeated: false, ..node.clone() };
            Json::Array(items.into_iter().map(|each| normal_json(each, &item)).collect())
        }
        Json::Object(object) if node.kind == Kind::Record => {
            let mut kept = serde_json::Map::new();
            for (name, value) in object {
                if value.is_null() {
                    continue;
                }
                let value = match Node::find(&node.fields, &name) {
                    Some(field) => normal_json(value, field),
                    None => value,
                };
                kept.insert(name, value);
            }
            Json::Object(kept)
        }
        Json::String(text) if node.kind == Kind::Timestamp => {
            Timestamp::parse(&text, &TimeZone::UTC).map_or(Json::String(text), |time| time.to_string().into())
        }
        Json::String(text) if node.kind == Kind::Int => {
            text.parse::<i64>().map_or(Json::String(text), Into::into)
        }
        other => other,
    }
}

/// What stands in a column, as columns of a store without rich types would hold it.
pub(super) fn native(node: &Node, text: Option<&str>, ty: FieldType, form: Form) -> Native {
    let Some(text) = text else { return Native::Null };
    if node.repeated || node.kind == Kind::Record {
        return normal(node, Some(text)).filter(|text| text != "null").map_or(Native::Null, Native::Text);
    }
    let plain = || Native::Text(text.to_owned());
    match node.kind {
        Kind::Int => text.parse().map_or_else(|_| plain(), Native::Integer),
        Kind::Float => text.parse().map_or_else(|_| plain(), Native::Real),
        Kind::Bool if ty == FieldType::Bool || form == Form::Int64 => match text {
            "true" => Native::Integer(1),
            "false" => Native::Integer(0),
            _ => plain(),
        },
        Kind::Timestamp => match text.parse().ok().and_then(Timestamp::from_micros) {
            Some(time) => Native::Text(time.to_string()),
            None => plain(),
        },
        Kind::Bytes => Native::Blob(text.as_bytes().to_vec()),
        // However many zeros are shown.
        Kind::Numeric | Kind::BigNumeric | Kind::DateTime => {
            normal(node, Some(text)).map_or(Native::Null, Native::Text)
        }
        _ => plain(),
    }
}

/// What is written to a column for a value.
///
/// # Errors
/// With what is wrong, when no column of the kind holds it.
pub(super) fn written(
    node: &Node,
    value: &Value,
    native: &Native,
    zone: &TimeZone,
) -> Result<Written, &'static str> {
    if matches!(native, Native::Null) {
        return Ok(Written::Null);
    }
    if node.repeated {
        return array(node, value, native);
    }
    let text = match (native, node.kind) {
        (_, Kind::Bytes | Kind::Record | Kind::Other) => return Err("columns of its type are only read"),
        (Native::Blob(_) | Native::Null, _) => return Err("bytes do not fit its column"),
        (_, Kind::Timestamp) => match value {
            Value::Time(time) => timestamp(*time)?,
            _ => return Err("only a time fits its column"),
        },
        (_, Kind::DateTime) => match value {
            Value::Time(time) => {
                timestamp(*time)?;
                time.to_civil_text(zone)
            }
            _ => return Err("only a time fits its column"),
        },
        (Native::Integer(number), Kind::Bool) => match number {
            0 => "false".to_owned(),
            1 => "true".to_owned(),
            _ => return Err("only a truth fits its column"),
        },
        (Native::Text(text), Kind::Bool) => match text.as_str() {
            "true" | "false" => text.clone(),
            _ => return Err("only a truth fits its column"),
        },
        (Native::Integer(number), _) => number.to_string(),
        (Native::Real(number), Kind::Int) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
            format!("{number:.0}")
        }
        (Native::Real(number), _) => format!("{number:?}"),
        (Native::Text(text), _) => text.clone(),
    };
    check_text(node.kind, &text)?;
    Ok(Written::Text(text))
}

fn timestamp(time: Timestamp) -> Result<String, &'static str> {
    // 0001-01-01 to 9999-12-31.
    const RANGE: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;
    if RANGE.contains(&time.micros()) {
        Ok(time.micros().to_string())
    } else {
        Err("BigQuery holds times of the years 1 to 9999 only")
    }
}

fn check_text(kind: Kind, text: &str) -> Result<(), &'static str> {
    match kind {
        Kind::Int if text.parse::<i64>().is_err() => Err("only a whole number of 64 bits fits its column"),
        Kind::Float if text.parse::<f64>().is_err() => Err("only a number fits its column"),
        Kind::Numeric if !decimal_fits(text, 29, 9) => {
            Err("NUMERIC holds 29 digits before the point and 9 after it")
        }
        Kind::BigNumeric if !decimal_fits(text, 38, 38) => {
            Err("BIGNUMERIC holds 38 digits before the point and 38 after it")
        }
        Kind::Date => match text.parse::<jiff::civil::Date>() {
            Ok(date) if date.year() >= 1 => Ok(()),
            _ => Err("BigQuery holds dates of the years 1 to 9999 only"),
        },
        Kind::Json => match Canonical::parse(text) {
            Ok(json) if numbers_fit(json.as_value()) => Ok(()),
            Ok(_) => Err(
                "BigQuery's JSON holds only numbers that are 64-bit integers or 64-bit floats as they stand",
            ),
            Err(_) => Err("only JSON fits its column"),
        },
        _ => Ok(()),
    }
}

fn decimal_fits(text: &str, before: usize, after: usize) -> bool {
    let Some(Value::Numeric(plain)) = Value::numeric(text) else { return false };
    let digits = plain.trim_start_matches('-');
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, ""));
    whole.trim_start_matches('0').len() <= before && decimals.len() <= after
}

/// Whether every number is one that is given back as it was put in.
fn numbers_fit(json: &Json) -> bool {
    match json {
        Json::Number(number) => {
            let text = number.to_string();
            let float = || {
                let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
                Some(Value::numeric(&format!("{number:?}"))? == Value::numeric(&text)?)
            };
            text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() || float().unwrap_or(false)
        }
        Json::Array(items) => items.iter().all(numbers_fit),
        Json::Object(object) => object.values().all(numbers_fit),
        _ => true,
    }
}

/// The elements of an array.
fn array(node: &Node, value: &Value, native: &Native) -> Result<Written, &'static str> {
    let items = match (value, native) {
        (Value::List(items), _) => items.iter().map(|item| Json::from(item.as_str())).collect(),
        (Value::Json(json), _) => json.as_value().as_array().ok_or("only a list fits its column")?.clone(),
        (_, Native::Text(text)) => match serde_json::from_str(text) {
            Ok(Json::Array(items)) => items,
            _ => return Err("only a list fits its column"),
        },
        _ => return Err("only a list fits its column"),
    };
    let one = Node { repeated: false, ..node.clone() };
    let parameters = items.iter().map(|item| element(&one, item)).collect::<Result<Vec<_>, _>>()?;
    Ok(Written::Array(parameters, Json::Array(items)))
}

/// An element of an array, or a field of one, as a parameter.
fn element(node: &Node, item: &Json) -> Result<Json, &'static str> {
    if node.repeated {
        let items = match item {
            Json::Null => &Vec::new(),
            Json::Array(items) => items,
            _ => return Err("an element's field is no list"),
        };
        let one = Node { repeated: false, ..node.clone() };
        let values = items.iter().map(|item| element(&one, item)).collect::<Result<Vec<_>, _>>()?;
        return Ok(json!({ "arrayValues": values }));
    }
    if node.kind == Kind::Record {
        let Json::Object(object) = item else { return Err("an element is no object") };
        if object.keys().any(|name| Node::find(&node.fields, name).is_none()) {
            return Err("an element has a field that the STRUCT has not");
        }
        let mut values = serde_json::Map::new();
        for field in &node.fields {
            let given = object.iter().find(|(name, _)| name.eq_ignore_ascii_case(&field.name));
            let value = element(field, given.map_or(&Json::Null, |(_, value)| value))?;
            values.insert(field.name.clone(), value);
        }
        return Ok(json!({ "structValues": values }));
    }
    let text = match item {
        Json::Null => return Ok(json!({ "value": null })),
        Json::String(text) => text.clone(),
        Json::Bool(_) | Json::Number(_) => item.to_string(),
        other if node.kind == Kind::Json => other.to_string(),
        _ => return Err("an element is no plain value"),
    };
    if node.kind == Kind::Timestamp {
        Timestamp::parse(&text, &TimeZone::UTC).ok_or("an element is no time")?;
    } else {
        check_text(node.kind, &text)?;
    }
    Ok(json!({ "value": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(kind: Kind, repeated: bool, fields: Vec<Node>) -> Node {
        Node { name: "c".into(), kind, repeated, fields }
    }

    #[test]
    fn numbers_that_would_come_back_changed_are_refused() {
        for (text, fits) in [
            ("1", true),
            ("18446744073709551615", true),
            ("0.1", true),
            ("1e3", true),
            ("123456789012345678901234567890", false),
            ("0.10000000000000000001", false),
        ] {
            assert_eq!(check_text(Kind::Json, text).is_ok(), fits, "{text}");
        }
        assert!(check_text(Kind::Numeric, "12345678901234567890123456789.123456789").is_ok());
        assert!(check_text(Kind::Numeric, "123456789012345678901234567890").is_err());
        assert!(check_text(Kind::Numeric, "0.1234567891").is_err());
    }

    #[test]
    fn arrays_of_structs_are_json() {
        let at = Node { name: "at".into(), kind: Kind::Timestamp, repeated: false, fields: Vec::new() };
        let n = Node { name: "n".into(), kind: Kind::Int, repeated: false, fields: Vec::new() };
        let list = node(Kind::Record, true, vec![at, n]);
        let json = Canonical::parse(r#"[{"n":1,"at":"2024-01-02T03:04:05Z"}]"#).expect("JSON");
        let written = written(&list, &Value::Json(json), &Native::Text(String::new()), &TimeZone::UTC);
        let written = written.expect("it fits");
        let read = r#"[{"at":"2024-01-02 03:04:05+00","n":"1"}]"#;
        assert_eq!(written.normal(&list), normal(&list, Some(read)), "as it is read back");
        assert_eq!(normal(&list, Some("[]")), None, "nothing is nothing");
        let other = Canonical::parse(r#"[{"m":1}]"#).expect("JSON");
        let refused =
            super::written(&list, &Value::Json(other), &Native::Text(String::new()), &TimeZone::UTC);
        assert!(refused.is_err());
    }
}
