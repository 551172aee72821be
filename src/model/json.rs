//! JSON values in one canonical form, and what changed inside them.

use std::fmt;
use std::sync::{Arc, OnceLock};

use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::BigInt;
use serde_json::{Map, Number, Value};
use std::str::FromStr;

mod canonical;
use canonical::canonical_text;

/// A JSON value whose numbers are in canonical form (`1.0` is `1`, nothing is lost to floating point) and whose
/// keys are sorted: equal values have equal texts. Copies share it. The value itself is made where somebody asks for it.
#[derive(Clone)]
pub struct Json(Arc<Inner>);

struct Inner {
    text: Box<str>,
    value: OnceLock<Value>,
}

impl Json {
    /// Takes a value into canonical form.
    pub fn new(value: Value) -> Self {
        Self::of_canonical(canonical(value))
    }

    /// Reads JSON text.
    ///
    /// # Errors
    /// The parser's message, which tells line and column but shows no content.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        match canonical_text(text) {
            Some(text) => Ok(Self(Arc::new(Inner { text: text.into(), value: OnceLock::new() }))),
            None => serde_json::from_str(text).map(Self::new),
        }
    }

    /// Takes a text that [`Self::as_text`] gave and that was kept since. It is not looked at: of a text that is no JSON the value would be null.
    pub fn kept(text: &str) -> Self {
        Self(Arc::new(Inner { text: text.into(), value: OnceLock::new() }))
    }

    fn of_canonical(value: Value) -> Self {
        let text = value.to_string().into();
        Self(Arc::new(Inner { text, value: OnceLock::from(value) }))
    }

    /// The value.
    pub fn as_value(&self) -> &Value {
        // Its own text can be read.
        self.0.value.get_or_init(|| serde_json::from_str(&self.0.text).unwrap_or_default())
    }

    /// Its text: of equal values the same.
    pub fn as_text(&self) -> &str {
        &self.0.text
    }

    /// Whether it is surely nested no deeper than so many levels; `false` says nothing.
    pub fn is_surely_flat(&self, levels: usize) -> bool {
        self.0.text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() <= levels
    }

    /// The change that leads from `base` to `self`.
    pub fn changes_since(&self, base: &Self) -> JsonPatch {
        let mut changes = Vec::new();
        collect(base.as_value(), self.as_value(), &mut Vec::new(), &mut changes);
        JsonPatch(changes)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.text == other.0.text
    }
}
impl Eq for Json {}
impl std::hash::Hash for Json {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({})", self.0.text)
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

/// What changed inside a JSON value: for each path of object keys, the value that stands there now (none: removed).
/// An array is one value: its elements have no identity to merge by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPatch(Vec<(Vec<String>, Option<Value>)>);

impl JsonPatch {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether both changes can stand together: no path of one lies at or under a path of the other, unless both
    /// say the same.
    pub fn agrees_with(&self, other: &Self) -> bool {
        self.0.iter().all(|(path, value)| {
            other.0.iter().all(|(theirs, their_value)| {
                let meet = path.starts_with(theirs) || theirs.starts_with(path);
                !meet || (path == theirs && value == their_value)
            })
        })
    }

    /// `base` with this change made.
    pub fn apply_to(&self, base: &Json) -> Json {
        let mut result = base.as_value().clone();
        for (path, value) in &self.0 {
            put(&mut result, path, value.as_ref());
        }
        Json::of_canonical(result)
    }
}

fn put(target: &mut Value, path: &[String], value: Option<&Value>) {
    let Some((first, rest)) = path.split_first() else {
        *target = value.cloned().unwrap_or(Value::Null);
        return;
    };
    if !target.is_object() {
        if value.is_none() {
            return;
        }
        *target = Value::Object(Map::new());
    }
    let Value::Object(object) = target else { return };
    if rest.is_empty() {
        match value {
            Some(value) => object.insert(first.clone(), value.clone()),
            None => object.remove(first),
        };
    } else if value.is_some() || object.contains_key(first) {
        put(object.entry(first.clone()).or_insert(Value::Null), rest, value);
    }
}

fn collect(from: &Value, to: &Value, path: &mut Vec<String>, out: &mut Vec<(Vec<String>, Option<Value>)>) {
    if from == to {
        return;
    }
    let (Value::Object(from), Value::Object(to)) = (from, to) else {
        out.push((path.clone(), Some(to.clone())));
        return;
    };
    for (key, old) in from {
        path.push(key.clone());
        match to.get(key) {
            Some(new) => collect(old, new, path, out),
            None => out.push((path.clone(), None)),
        }
        path.pop();
    }
    for (key, new) in to {
        if !from.contains_key(key) {
            path.push(key.clone());
            out.push((path.clone(), Some(new.clone())));
            path.pop();
        }
    }
}

fn canonical(mut value: Value) -> Value {
    make_canonical(&mut value);
    value
}

fn make_canonical(value: &mut Value) {
    match value {
        Value::Number(number) => {
            if let Some(plain) = canonical_number(number) {
                *number = plain;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(make_canonical),
        Value::Object(object) => {
            object.values_mut().for_each(make_canonical);
            // Sorted here, so that the text is the same whatever map serde_json was built with.
            if !object.keys().is_sorted() {
                let mut entries: Vec<_> = std::mem::take(object).into_iter().collect();
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                object.extend(entries);
            }
        }
        _ => {}
    }
}

/// Integers stay as they are; decimals lose trailing zeros; an exponent is written out where that stays short. None: it is as it should be.
fn canonical_number(number: &Number) -> Option<Number> {
    let text = number.as_str();
    if !text.contains(['.', 'e', 'E']) {
        return (text == "-0").then(|| Number::from(0));
    }
    Number::from_str(&plain_decimal(text)?).ok()
}

/// The shortest plain text of a decimal number, without exponent and trailing zeros; none when it is no number or
/// when writing it out would take more than some hundred digits.
pub(super) fn plain_decimal(text: &str) -> Option<String> {
    let decimal = BigDecimal::from_str(text.trim()).ok()?;
    let (digits, scale) = decimal.as_bigint_and_exponent();
    if digits == BigInt::from(0) {
        return Some("0".to_owned());
    }
    let length = digits.to_string().len();
    if !(-400..=400).contains(&scale) || length > 400 {
        return None;
    }
    Some(BigDecimal::new(digits, scale).normalized().to_plain_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text).expect(text)
    }

    #[test]
    fn equal_numbers_are_equal_however_written() {
        for (a, b) in [("1.0", "1"), ("1e2", "100"), ("-0", "0"), ("0.10", "0.1"), ("-0.0", "0")] {
            assert_eq!(json(a), json(b), "{a} and {b}");
        }
        assert_eq!(json("123456789012345678901234567890").to_string(), "123456789012345678901234567890");
        assert_eq!(json("1e999999999").to_string().to_lowercase().replace('+', ""), "1e999999999");
    }

    #[test]
    fn keys_are_sorted() {
        assert_eq!(json(r#"{"b":1,"a":{"d":1,"c":2}}"#).to_string(), r#"{"a":{"c":2,"d":1},"b":1}"#);
    }

    #[test]
    fn the_short_way_to_canonical_text_says_what_the_long_way_says() {
        let long =
            |text: &str| serde_json::from_str(text).ok().map(|value| super::canonical(value).to_string());
        let mut short = 0;
        for text in [
            "null",
            " true ",
            "false",
            "0",
            "-0",
            "-0.0",
            "0.10",
            "10.50",
            "-7.25",
            "12345678901234567890123",
            "1e2",
            "1.0E-2",
            "01",
            "-",
            "1.",
            ".5",
            "1.5.",
            "tru",
            "nulll",
            "\"a\"",
            "\"\\u00e9\\n\\/\"",
            "\"\\ud800\"",
            "\"\u{1}\"",
            "\"open",
            "\"esc\\",
            "[]",
            "[ ]",
            "[1 , 2.0,\t[\"x\"]]",
            "[1,]",
            "[1 2]",
            "[",
            "{}",
            "{ }",
            r#"{"b": 1, "a" :{"d":1.0, "c":[ ]}}"#,
            r#"{"b":1,"a":2,"b":3}"#,
            r#"{"a\u0062":1,"ab":2}"#,
            r#"{"a":1,}"#,
            r#"{"a" 1}"#,
            r#"{"a":}"#,
            "{1:2}",
            "{\"a\":1",
            r#"{"aa":1,"b":2,"a":3}"#,
            r#"{"é":1,"z":2,"e":"\""}"#,
            r#"{"$serde_json::private::Number":"7.0"}"#,
            "",
            " ",
            "1 1",
            "{}{}",
            "\u{feff}1",
            r#""\\""#,
            r#"["\\", "\\\""]"#,
        ] {
            let told = super::canonical_text(text);
            short += usize::from(told.is_some());
            if told.is_some() {
                assert_eq!(told, long(text), "{text}");
            }
            assert_eq!(Json::parse(text).ok().map(|json| json.to_string()), long(text), "{text}");
            if let Ok(json) = Json::parse(text) {
                assert_eq!(json.as_value().to_string(), json.to_string(), "{text}");
            }
        }
        assert!(short > 20, "the short way is taken");
        let deep = "[".repeat(110) + &"]".repeat(110);
        assert_eq!(Json::parse(&deep).expect("read").to_string(), deep);
        assert!(Json::parse(&("[".repeat(200) + &"]".repeat(200))).is_err());
    }

    #[test]
    fn changes_of_different_paths_merge() {
        let base = json(r#"{"a":1,"b":{"c":1,"d":[1]}}"#);
        let left = json(r#"{"a":2,"b":{"c":1,"d":[1]}}"#).changes_since(&base);
        let right = json(r#"{"a":1,"b":{"d":[1,2]},"e":null}"#).changes_since(&base);
        assert!(left.agrees_with(&right));
        assert_eq!(right.apply_to(&left.apply_to(&base)), json(r#"{"a":2,"b":{"d":[1,2]},"e":null}"#));
    }

    #[test]
    fn changes_at_or_under_one_path_disagree() {
        let base = json(r#"{"a":{"b":1}}"#);
        let inner = json(r#"{"a":{"b":2}}"#).changes_since(&base);
        let whole = json(r#"{"a":7}"#).changes_since(&base);
        assert!(!inner.agrees_with(&whole));
        assert!(!inner.agrees_with(&json(r#"{"a":{"b":3}}"#).changes_since(&base)));
        assert!(inner.agrees_with(&inner));
    }
}
