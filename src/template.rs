//! Values as templates see them.

use minijinja::Value;
use serde_json::Value as Json;

/// A JSON value for a template, with every text in it, names included, passed through a function. Numbers that a template cannot hold as
/// they are written become texts.
pub(crate) fn value_of(json: &Json, text: &dyn Fn(&str) -> String) -> Value {
    match json {
        Json::Null => Value::from(()),
        Json::Bool(is) => Value::from(*is),
        Json::String(string) => Value::from(text(string)),
        Json::Array(items) => items.iter().map(|item| value_of(item, text)).collect(),
        Json::Object(object) => {
            object.iter().map(|(name, value)| (text(name), value_of(value, text))).collect()
        }
        Json::Number(number) => {
            if let Some(whole) = number.as_i64() {
                return Value::from(whole);
            }
            let short = number.as_f64().filter(|float| float.to_string() == number.to_string());
            short.map_or_else(|| Value::from(number.to_string()), Value::from)
        }
    }
}

#[cfg(test)]
mod tests {
    use minijinja::Environment;
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_shown_as_they_are_written() {
        let json: Json =
            serde_json::from_str(r#"{"n": [7, -1, 2.5, 1e400, 18446744073709551616, 0.10, null, true]}"#)
                .unwrap_or_default();
        let shown = Environment::new().render_str("{{ n|join(' ') }}", value_of(&json, &str::to_owned));
        assert_eq!(shown.unwrap_or_default(), "7 -1 2.5 1e+400 18446744073709551616 0.10 none true");
        let sum = Environment::new().render_str("{{ n + 1 }}", value_of(&json!({"n": 2}), &str::to_owned));
        assert_eq!(sum.unwrap_or_default(), "3");
    }
}
