//! What stands in columns, as text, and values as the texts that are written.
//!
//! However a row was read, its columns are the same texts: numbers in decimal, times as microseconds, JSON as JSON.

use jiff::civil::{DateTime, Time};
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
            Kind::Time => text.parse::<Time>().ok().map(|time| time.to_string()),
            _ => None,
        }
    };
    Some(told.unwrap_or_else(|| text.to_owned()))
}

/// JSON that was made of an ARRAY or STRUCT: numbers as numbers, times in one writing, absent fields absent.
fn normal_json(json: Json, node: &Node) -> Json {
    if node.repeated {
        let Json::Array(items) = json else { return json };
        let item = Node { repeated: false, ..node.clone() };
        return Json::Array(items.into_iter().map(|each| normal_json(each, &item)).collect());
    }
    match (node.kind, json) {
        (Kind::Record, Json::Object(object)) => {
            let mut kept = serde_json::Map::new();
            for (name, value) in object {
                let field = Node::find(&node.fields, &name);
                let value = match field {
                    Some(field) => normal_json(value, field),
                    None => value,
                };
                // Nor is an ARRAY in it that is NULL told from an empty one, or a STRUCT from one of which all is NULL.
                let is_empty =
                    field.is_some_and(|field| field.repeated) && value.as_array().is_some_and(Vec::is_empty);
                let is_nothing = field.is_some_and(|field| field.kind == Kind::Record && !field.repeated)
                    && value.as_object().is_some_and(serde_json::Map::is_empty);
                if !value.is_null() && !is_empty && !is_nothing {
                    kept.insert(name, value);
                }
            }
            Json::Object(kept)
        }
        (Kind::Timestamp, Json::String(text)) => {
            Timestamp::parse(&text, &TimeZone::UTC).map_or(Json::String(text), |time| time.to_string().into())
        }
        (Kind::DateTime, Json::String(text)) => {
            text.parse::<DateTime>().map_or(Json::String(text), |civil| civil.to_string().into())
        }
        (Kind::Time, Json::String(text)) => {
            text.parse::<Time>().map_or(Json::String(text), |time| time.to_string().into())
        }
        (Kind::Int, Json::String(text)) => text.parse::<i64>().map_or(Json::String(text), Into::into),
        (Kind::Numeric | Kind::BigNumeric, Json::String(text)) => {
            plain_number(&text).unwrap_or(Json::String(text))
        }
        // As JSON a number is written that all of the service's ways of writing it are made of.
        (Kind::Float, Json::Number(number)) => float(&number.to_string()).unwrap_or(Json::Number(number)),
        (Kind::Float, Json::String(text)) => float(&text).unwrap_or(Json::String(text)),
        (_, other) => other,
    }
}

/// A decimal number as JSON.
fn plain_number(text: &str) -> Option<Json> {
    let number = Value::numeric(text)?.to_string();
    serde_json::from_str::<serde_json::Number>(&number).ok().map(Json::Number)
}

/// A floating-point number as JSON, or the name of one that is no number.
fn float(text: &str) -> Option<Json> {
    let number: f64 = text.parse().ok()?;
    let shortest = format!("{number:?}");
    if !number.is_finite() {
        return Some(shortest.into());
    }
    Canonical::parse(&shortest).ok().map(|json| json.as_value().clone())
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
        Kind::Numeric | Kind::BigNumeric | Kind::DateTime | Kind::Time => {
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
        return if node.limits.required { Err(NOT_NULL) } else { Ok(Written::Null) };
    }
    if node.repeated {
        if node.is_strange() {
            return Err("columns of its type are only read");
        }
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
    check_text(node, &text)?;
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

const NOT_NULL: &str = "its column is NOT NULL";

fn check_text(node: &Node, text: &str) -> Result<(), &'static str> {
    let (before, after) = node.limits.digits.unwrap_or((usize::MAX, usize::MAX));
    match node.kind {
        Kind::Text if node.limits.length.is_some_and(|most| text.chars().count() > most) => {
            Err("the text is longer than its column takes")
        }
        Kind::Int if text.parse::<i64>().is_err() => Err("only a whole number of 64 bits fits its column"),
        Kind::Float if text.parse::<f64>().is_err() => Err("only a number fits its column"),
        Kind::Numeric if !decimal_fits(text, 29, 9) => {
            Err("NUMERIC holds 29 digits before the point and 9 after it")
        }
        Kind::BigNumeric if !decimal_fits(text, 38, 38) => {
            Err("BIGNUMERIC holds 38 digits before the point and 38 after it")
        }
        // Any other writing would be read back as this one.
        Kind::Time => match text.parse::<Time>() {
            Ok(time) if time.to_string() == text && time.subsec_nanosecond() % 1000 == 0 => Ok(()),
            _ => Err("only a time of day, as 10:11:12.5, fits its column"),
        },
        Kind::DateTime => match text.parse::<DateTime>() {
            Ok(civil) if civil.year() >= 1 && civil.subsec_nanosecond() % 1000 == 0 => Ok(()),
            _ => Err("only a time without a zone, of the years 1 to 9999, fits its column"),
        },
        Kind::Numeric | Kind::BigNumeric if !decimal_fits(text, before, after) => {
            Err("the number has more digits before or after the point than its column takes")
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
    Ok(Written::Array(elements(node, &items, false)?, Json::Array(items)))
}

/// The elements of an array as parameters.
fn elements(node: &Node, items: &[Json], in_struct: bool) -> Result<Vec<Json>, &'static str> {
    let one = Node { repeated: false, ..node.clone() };
    let parameter = |item: &Json| match item {
        Json::Null => Err("an ARRAY holds no NULL"),
        item => element(&one, item, in_struct),
    };
    items.iter().map(parameter).collect()
}

/// Whether a plain value of JSON is one that a field gives back as it was put in: the text `1` in a number's place would come back
/// as a number.
fn gives_back(kind: Kind, item: &Json) -> bool {
    match kind {
        Kind::Json | Kind::Record | Kind::Other => true,
        Kind::Bool => item.is_boolean(),
        Kind::Int | Kind::Numeric | Kind::BigNumeric => item.is_number(),
        Kind::Float => {
            item.is_number() || item.as_str().is_some_and(|text| float(text).as_ref() == Some(item))
        }
        Kind::Text | Kind::Date | Kind::Timestamp | Kind::DateTime | Kind::Time | Kind::Bytes => {
            item.is_string()
        }
    }
}

/// An element of an array, or a field of one, as a parameter.
fn element(node: &Node, item: &Json, in_struct: bool) -> Result<Json, &'static str> {
    if node.repeated {
        let values = match item {
            Json::Null => Vec::new(),
            Json::Array(items) => elements(node, items, in_struct)?,
            _ => return Err("an element's field is no list"),
        };
        return Ok(json!({ "arrayValues": values }));
    }
    if node.kind == Kind::Record {
        let none = serde_json::Map::new();
        let object = match item {
            // A STRUCT in it that is NULL is one of which all is NULL.
            Json::Null => &none,
            Json::Object(object) => object,
            _ => return Err("an element is no object"),
        };
        if object.keys().any(|name| Node::find(&node.fields, name).is_none()) {
            return Err("an element has a field that the STRUCT has not");
        }
        let mut values = serde_json::Map::new();
        for field in &node.fields {
            let given = object.iter().find(|(name, _)| name.eq_ignore_ascii_case(&field.name));
            let value = element(field, given.map_or(&Json::Null, |(_, value)| value), true)?;
            values.insert(field.name.clone(), value);
        }
        return Ok(json!({ "structValues": values }));
    }
    let text = match item {
        Json::Null if node.limits.required => return Err(NOT_NULL),
        Json::Null => return Ok(json!({ "value": null })),
        item if node.kind == Kind::Json => item.to_string(),
        Json::String(text) => text.clone(),
        Json::Bool(_) | Json::Number(_) => item.to_string(),
        _ => return Err("an element is no plain value"),
    };
    if in_struct && !gives_back(node.kind, item) {
        return Err("a field of an element is of another type than the STRUCT's");
    }
    if node.kind == Kind::Timestamp {
        Timestamp::parse(&text, &TimeZone::UTC).ok_or("an element is no time")?;
    } else {
        check_text(node, &text)?;
    }
    Ok(json!({ "value": text }))
}

#[cfg(test)]
mod tests {
    use super::super::schema::Limits;
    use super::*;

    fn node(kind: Kind, repeated: bool, fields: Vec<Node>) -> Node {
        Node { name: "c".into(), kind, repeated, limits: Limits::default(), fields }
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
            assert_eq!(check_text(&node(Kind::Json, false, vec![]), text).is_ok(), fits, "{text}");
        }
        let numeric = node(Kind::Numeric, false, vec![]);
        assert!(check_text(&numeric, "12345678901234567890123456789.123456789").is_ok());
        assert!(check_text(&numeric, "123456789012345678901234567890").is_err());
        assert!(check_text(&numeric, "0.1234567891").is_err());
    }

    #[test]
    fn what_a_column_was_declared_to_keep_out_is_refused() {
        let parsed = serde_json::json!({ "schema": { "fields": [
            { "name": "code", "type": "STRING", "maxLength": "5" },
            { "name": "price", "type": "NUMERIC", "precision": "10", "scale": "2" },
            { "name": "whole", "type": "BIGNUMERIC", "precision": "3" },
            { "name": "name", "type": "STRING", "mode": "REQUIRED" },
            { "name": "list", "type": "RECORD", "mode": "REPEATED", "fields": [
                { "name": "code", "type": "STRING", "maxLength": "2" },
                { "name": "must", "type": "NUMERIC", "mode": "REQUIRED", "precision": "4", "scale": "1" },
            ] },
        ] } });
        let columns = super::super::schema::TableInfo::parse(&parsed).columns;
        for (name, text, fits) in [
            ("code", "abcde", true),
            ("code", "äöü€𝄞", true),
            ("code", "abcdef", false),
            ("price", "12345678.25", true),
            ("price", "1.500", true),
            ("price", "1.005", false),
            ("price", "123456789", false),
            ("whole", "999", true),
            ("whole", "1000", false),
            ("whole", "1.5", false),
        ] {
            let column = Node::find(&columns, name).expect(name);
            let written = written(column, &Value::text(text), &Native::Text(text.to_owned()), &TimeZone::UTC);
            assert_eq!(written.is_ok(), fits, "{name} {text}");
        }
        let nothing = |name: &str| {
            written(Node::find(&columns, name).expect(name), &Value::Null, &Native::Null, &TimeZone::UTC)
        };
        assert!(nothing("code").is_ok() && nothing("list").is_ok() && nothing("name").is_err());
        for (list, fits) in [
            (r#"[{"code":"ab","must":123.5}]"#, true),
            (r#"[{"code":"abc","must":1}]"#, false),
            (r#"[{"code":"ab","must":1.25}]"#, false),
            (r#"[{"code":"ab"}]"#, false),
        ] {
            let json = Value::Json(Canonical::parse(list).expect("JSON"));
            let column = Node::find(&columns, "list").expect("a column");
            let written = written(column, &json, &Native::Text(String::new()), &TimeZone::UTC);
            assert_eq!(written.is_ok(), fits, "{list}");
        }
    }

    #[test]
    fn every_type_in_an_array_of_structs_has_one_writing() {
        let n = node(Kind::Text, false, Vec::new());
        let inner =
            vec![Node { name: "w".into(), ..n.clone() }, Node { name: "z".into(), kind: Kind::Int, ..n }];
        // What another store holds; what the service makes of it in SQL; what comes through Arrow; what it is here.
        for (kind, fields, repeated, ours, sql, arrow, normal) in [
            (Kind::Numeric, vec![], false, "12.25", r#""12.25""#, r#""12.250000000""#, "12.25"),
            (Kind::Numeric, vec![], false, "3.0", "3", r#""3.000000000""#, "3"),
            (
                Kind::BigNumeric,
                vec![],
                false,
                "0.5",
                r#""0.5""#,
                r#""0.50000000000000000000000000000000000000""#,
                "0.5",
            ),
            (
                Kind::Int,
                vec![],
                false,
                "9007199254740993",
                r#""9007199254740993""#,
                "9007199254740993",
                "9007199254740993",
            ),
            (Kind::Float, vec![], false, "1.50", "1.5", "1.5", "1.5"),
            (Kind::Float, vec![], false, "1e3", "1000", "1000.0", "1000"),
            (Kind::Float, vec![], false, r#""inf""#, r#""Infinity""#, r#""inf""#, r#""inf""#),
            (Kind::Bool, vec![], false, "true", "true", "true", "true"),
            (Kind::Text, vec![], false, r#""12.250""#, r#""12.250""#, r#""12.250""#, r#""12.250""#),
            (
                Kind::Date,
                vec![],
                false,
                r#""2024-01-02""#,
                r#""2024-01-02""#,
                r#""2024-01-02""#,
                r#""2024-01-02""#,
            ),
            (
                Kind::DateTime,
                vec![],
                false,
                r#""2024-01-02T03:04:05.120000""#,
                r#""2024-01-02T03:04:05.120""#,
                r#""2024-01-02T03:04:05.12""#,
                r#""2024-01-02T03:04:05.12""#,
            ),
            (
                Kind::Timestamp,
                vec![],
                false,
                r#""2024-01-02T03:04:05.500Z""#,
                r#""2024-01-02T03:04:05.500Z""#,
                r#""2024-01-02T03:04:05.5Z""#,
                r#""2024-01-02T03:04:05.5Z""#,
            ),
            (
                Kind::Time,
                vec![],
                false,
                r#""10:11:12.5""#,
                r#""10:11:12.500000""#,
                r#""10:11:12.5""#,
                r#""10:11:12.5""#,
            ),
            (
                Kind::Json,
                vec![],
                false,
                r#"{"b":"1.0","a":[1]}"#,
                r#"{"a":[1],"b":"1.0"}"#,
                r#"{"a":[1],"b":"1.0"}"#,
                r#"{"a":[1],"b":"1.0"}"#,
            ),
            (Kind::Bytes, vec![], false, r#""aGk=""#, r#""aGk=""#, r#""aGk=""#, r#""aGk=""#),
            (Kind::Int, vec![], true, "[2,1]", r#"["2",1]"#, "[2,1]", "[2,1]"),
            (
                Kind::Record,
                inner,
                false,
                r#"{"w":"x","z":null}"#,
                r#"{"w":"x","z":null}"#,
                r#"{"z":null,"w":"x"}"#,
                r#"{"w":"x"}"#,
            ),
        ] {
            let value = Node { name: "v".into(), ..node(kind, repeated, fields) };
            let list = node(Kind::Record, true, vec![value, node(Kind::Text, false, vec![])]);
            let of = |text: &str| format!(r#"[{{"v":{text}}}]"#);
            let json = Canonical::parse(&of(ours)).expect("JSON");
            let written = written(&list, &Value::Json(json), &Native::Text(String::new()), &TimeZone::UTC);
            let written = written.unwrap_or_else(|why| panic!("{kind:?} {ours}: {why}"));
            for text in [
                written.normal(&list),
                super::normal(&list, Some(&of(sql))),
                super::normal(&list, Some(&of(arrow))),
            ] {
                assert_eq!(text, Some(of(normal)), "{kind:?} {ours}");
            }
            let nothing = if repeated { "[]" } else { "null" };
            assert_eq!(super::normal(&list, Some(&of(nothing))).as_deref(), Some("[{}]"), "{kind:?}");
        }
    }

    #[test]
    fn an_element_that_would_be_read_back_as_another_is_refused() {
        for (kind, item) in [
            (Kind::Text, "5"),
            (Kind::Int, r#""5""#),
            (Kind::Int, "5.5"),
            (Kind::Numeric, r#""12.25""#),
            (Kind::Numeric, "0.1234567891"),
            (Kind::Bool, r#""true""#),
            (Kind::Float, r#""1""#),
            (Kind::Time, r#""10:11""#),
            (Kind::Time, r#""2024-01-02T10:11:12""#),
            (Kind::DateTime, r#""2024-01-02T03:04:05.1234567""#),
            (Kind::Other, "1"),
        ] {
            let list = node(Kind::Record, true, vec![Node { name: "v".into(), ..node(kind, false, vec![]) }]);
            let json = Canonical::parse(&format!(r#"[{{"v":{item}}}]"#)).expect("JSON");
            let refused = written(&list, &Value::Json(json), &Native::Text(String::new()), &TimeZone::UTC);
            assert!(refused.is_err(), "{kind:?} {item}: {refused:?}");
        }
        let list = node(Kind::Int, true, vec![]);
        let json = Canonical::parse("[1,null]").expect("JSON");
        assert!(written(&list, &Value::Json(json), &Native::Text(String::new()), &TimeZone::UTC).is_err());
    }

    #[test]
    fn arrays_of_structs_are_json() {
        let at = Node { name: "at".into(), ..node(Kind::Timestamp, false, Vec::new()) };
        let n = Node { name: "n".into(), ..node(Kind::Int, false, Vec::new()) };
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
