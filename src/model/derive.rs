//! Fields whose value comes from other fields of the same record.

use std::borrow::Cow;

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
    /// Whenever what it comes from changed, as long as it was what came from that before.
    Follow,
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
    /// `country_code(a)`: a phone's country calling code, without `+`. Like the three that follow it also takes two, a type and a
    /// value, and then gives nothing for values of another type: digits of an account are no phone's.
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
        ("country_code", Self::CountryCode, 1, 2),
        ("area_code", Self::AreaCode, 1, 2),
        ("local_number", Self::LocalNumber, 1, 2),
        ("email_domain", Self::EmailDomain, 1, 2),
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
        let values: Vec<Value> = self.args.iter().map(|arg| value_of(*arg)).collect();
        let texts: Vec<Option<Cow<'_, str>>> = values.iter().map(Value::plain_text).collect();
        let first = texts.first().and_then(Option::as_deref);
        // The value that the part is taken from, if it is of this type.
        let of = |ty: &str| match texts.as_slice() {
            [kind, value] => value.as_deref().filter(|_| kind.as_deref() == Some(ty)),
            _ => first,
        };
        let result = match self.function {
            DeriveFn::Name => first.map(normal::name).filter(|name| !name.is_empty()),
            DeriveFn::Email => first.and_then(normal::email),
            DeriveFn::Phone => first.and_then(|text| normal::phone(text, region)).map(|phone| phone.e164),
            DeriveFn::Identifier => texts
                .get(1)
                .and_then(Option::as_deref)
                .and_then(|text| normal::identifier(first.unwrap_or_default(), text, region)),
            DeriveFn::CountryCode => {
                of("phone").and_then(|text| normal::phone(text, region)).map(|phone| phone.country_code)
            }
            DeriveFn::AreaCode => {
                of("phone").and_then(|text| normal::phone(text, region)).and_then(|phone| phone.area_code)
            }
            DeriveFn::LocalNumber => {
                of("phone").and_then(|text| normal::phone(text, region)).map(|phone| phone.local_number)
            }
            DeriveFn::EmailDomain => of("email").and_then(normal::email_domain),
            DeriveFn::Join => {
                let parts: Vec<&str> =
                    texts.iter().flatten().map(|text| text.trim()).filter(|text| !text.is_empty()).collect();
                (!parts.is_empty()).then(|| parts.join(" "))
            }
        };
        result.map_or(Value::Null, Value::text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::FieldId;

    fn derived(function: DeriveFn, values: &[&str]) -> Value {
        let args = (0..values.len()).map(|at| FieldRef::Field(FieldId(u16::try_from(at).expect("few"))));
        let derive = Derive { function, args: args.collect(), recompute: Recompute::Always };
        let value_of = |field| match field {
            FieldRef::Field(FieldId(at)) => Value::text(values[usize::from(at)]),
            FieldRef::Key(_) => Value::Null,
        };
        derive.compute(value_of, Some("US"))
    }

    #[test]
    fn parts_are_taken_from_values_of_their_type_only() {
        for (function, kind, value, part) in [
            (DeriveFn::CountryCode, "phone", "(202) 555-0101", Some("1")),
            (DeriveFn::AreaCode, "phone", "(202) 555-0101", Some("202")),
            (DeriveFn::LocalNumber, "phone", "(202) 555-0101", Some("5550101")),
            (DeriveFn::CountryCode, "platform_id", "2025550101", None),
            (DeriveFn::AreaCode, "platform_id", "2025550101", None),
            (DeriveFn::LocalNumber, "email", "ann@example.com", None),
            (DeriveFn::EmailDomain, "email", "ann@example.com", Some("example.com")),
            (DeriveFn::EmailDomain, "social_profile", "@ann@example.com", None),
        ] {
            let expected = part.map_or(Value::Null, Value::text);
            assert_eq!(derived(function, &[kind, value]), expected, "{function:?} of a {kind}");
        }
        assert_eq!(derived(DeriveFn::AreaCode, &["2025550101"]), Value::text("202"));
    }
}
