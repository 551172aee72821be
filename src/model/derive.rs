//! Fields whose value comes from other fields of the same record.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::normal;
use super::schema::FieldRef;
use super::value::Value;

/// When a derived field that has a value is computed again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Recompute {
    /// Whenever what it comes from changed.
    #[default]
    Always,
    /// Only when it is empty.
    IfEmpty,
    /// Never: it is computed when the record is made.
    Never,
}

/// A function from values to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeriveFn {
    /// `name(a)`: the name's normal form.
    Name,
    /// `email(a)`: the address's normal form.
    Email,
    /// `phone(a)`: E.164.
    Phone,
    /// `identifier(type, value)`: the normal form that fits the type (`phone`, `email`; else trimmed and lower-cased).
    Identifier,
    /// `country_code(a)`: a phone's country calling code, without `+`.
    CountryCode,
    /// `area_code(a)`: a phone's area code.
    AreaCode,
    /// `local_number(a)`: a phone's number within its area.
    LocalNumber,
    /// `email_domain(a)`: the part after the `@`.
    EmailDomain,
    /// `join(a, b, …)`: the non-empty ones with a space between.
    Join,
}

impl DeriveFn {
    /// All functions, by the name used in manifests and how many fields each takes at least and at most.
    pub const ALL: [(&'static str, Self, usize, usize); 9] = [
        ("name", Self::Name, 1, 1),
        ("email", Self::Email, 1, 1),
        ("phone", Self::Phone, 1, 1),
        ("identifier", Self::Identifier, 2, 2),
        ("country_code", Self::CountryCode, 1, 1),
        ("area_code", Self::AreaCode, 1, 1),
        ("local_number", Self::LocalNumber, 1, 1),
        ("email_domain", Self::EmailDomain, 1, 1),
        ("join", Self::Join, 1, 16),
    ];
}

/// How a field's value comes from other fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derive {
    /// The function.
    pub function: DeriveFn,
    /// The fields it is applied to.
    pub args: Vec<FieldRef>,
    /// When it is applied again.
    pub recompute: Recompute,
}

impl Derive {
    /// The derived value, with `value_of` telling the record's fields and `region` the one that phone numbers without
    /// a `+` are read in. What cannot be derived is null.
    pub fn compute(&self, value_of: impl Fn(FieldRef) -> Value, region: Option<&str>) -> Value {
        let texts: Vec<Option<String>> = self
            .args
            .iter()
            .map(|arg| match value_of(*arg) {
                Value::Null => None,
                Value::Text(text) => Some(text.as_ref().to_owned()),
                other => Some(other.to_string()),
            })
            .collect();
        let first = texts.first().and_then(Option::as_deref);
        let result = match self.function {
            DeriveFn::Name => first.map(normal::name).filter(|name| !name.is_empty()),
            DeriveFn::Email => first.and_then(normal::email),
            DeriveFn::Phone => first.and_then(|text| normal::phone(text, region)).map(|phone| phone.e164),
            DeriveFn::Identifier => texts
                .get(1)
                .and_then(Option::as_deref)
                .and_then(|text| normal::identifier(first.unwrap_or_default(), text, region)),
            DeriveFn::CountryCode => {
                first.and_then(|text| normal::phone(text, region)).map(|phone| phone.country_code)
            }
            DeriveFn::AreaCode => {
                first.and_then(|text| normal::phone(text, region)).and_then(|phone| phone.area_code)
            }
            DeriveFn::LocalNumber => {
                first.and_then(|text| normal::phone(text, region)).map(|phone| phone.local_number)
            }
            DeriveFn::EmailDomain => first.and_then(normal::email_domain),
            DeriveFn::Join => {
                let parts: Vec<&str> =
                    texts.iter().flatten().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
                (!parts.is_empty()).then(|| parts.join(" "))
            }
        };
        result.map_or(Value::Null, Value::text)
    }
}
