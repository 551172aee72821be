//! Values as a CRM keeps them: what it makes of a value on the way in is done here first, so that what is written and what is
//! read back are equal.
//!
//! Such a store has no difference between an empty text and none, lower-cases addresses, tidies links, takes phone numbers apart,
//! cuts times to the millisecond, and counts with floating point numbers. A value that it would refuse or quietly spoil is one
//! that it cannot hold. Where a server goes further than this, its answer is remembered as what it holds for the value.

use jiff::tz::TimeZone;
use serde_json::Value as J;
use url::Url;

use super::forms::{self, FormError, Native};
use super::json::Json;
use super::mapping::Form;
use super::normal;
use super::schema::FieldType;
use super::time::Timestamp;
use super::value::Value;

/// Beyond this, floating point numbers skip integers.
const LARGEST_WHOLE: i64 = 1 << 53;

/// Years that every database and every library can tell.
const YEARS: std::ops::RangeInclusive<i16> = 1..=9999;

fn refused(why: &str) -> FormError {
    FormError(why.to_owned())
}

/// The types that a form is for.
pub(super) fn suits(form: Form, ty: FieldType) -> bool {
    use FieldType as T;
    match form {
        Form::CrmText => !matches!(ty, T::Json | T::StringList),
        Form::CrmEmail | Form::CrmLink | Form::CrmPhone => ty == T::String,
        Form::CrmTime => matches!(ty, T::Date | T::Timestamp),
        Form::CrmNumber => matches!(ty, T::String | T::Int64 | T::Numeric | T::Bool),
        Form::CrmJson => ty == T::Json,
        Form::CrmList => ty == T::StringList,
        _ => false,
    }
}

/// A value as it is written to a field of this form.
pub(super) fn encode(value: &Value, ty: FieldType, form: Form, zone: &TimeZone) -> Result<Native, FormError> {
    if !suits(form, ty) {
        return Err(FormError(format!("a {} has no form {}", ty.as_str(), form.as_str())));
    }
    let native = match (form, value) {
        (Form::CrmEmail, Value::Text(text)) => texts(text, email)?,
        (Form::CrmLink, Value::Text(text)) => texts(text, link)?,
        (Form::CrmPhone, Value::Text(text)) => texts(text, phone)?,
        (Form::CrmTime, _) => time(value)?,
        (Form::CrmNumber, _) => whole(forms::encode(value, ty, Form::Int64, zone)?)?,
        (Form::CrmJson, Value::Json(json)) => object(json)?,
        (Form::CrmList, Value::List(items)) => list(items)?,
        _ => forms::encode(value, ty, Form::Text, zone)?,
    };
    match &native {
        Native::Text(text) if text.is_empty() => Ok(Native::Null),
        Native::Text(text) if text.contains('\0') => {
            Err(refused("a text with the character U+0000 cannot be held there"))
        }
        _ => Ok(native),
    }
}

/// What stands in a field of this form, as a canonical value.
pub(super) fn decode(
    native: &Native,
    ty: FieldType,
    form: Form,
    zone: &TimeZone,
) -> Result<Value, FormError> {
    if !suits(form, ty) {
        return Err(FormError(format!("a {} has no form {}", ty.as_str(), form.as_str())));
    }
    if matches!(native, Native::Null) || matches!(native, Native::Text(text) if text.is_empty()) {
        return Ok(Value::Null);
    }
    let plain = match form {
        Form::CrmNumber => forms::decode(native, ty, Form::Int64, zone),
        Form::CrmJson | Form::CrmList => forms::decode(native, ty, Form::Native, zone),
        _ => forms::decode(native, ty, Form::Text, zone),
    }?;
    Ok(match (form, plain) {
        (Form::CrmEmail, Value::Text(text)) => tidied(text, email),
        (Form::CrmLink, Value::Text(text)) => tidied(text, link),
        (Form::CrmPhone, Value::Text(text)) => tidied(text, phone),
        (Form::CrmTime, Value::Time(time)) => Value::Time(cut(time)),
        (Form::CrmJson, Value::Json(json)) if is_nothing(json.as_value()) => Value::Null,
        (Form::CrmList, Value::List(items)) if items.is_empty() => Value::Null,
        (_, plain) => plain,
    })
}

fn texts(text: &str, tidy: impl Fn(&str) -> Result<String, FormError>) -> Result<Native, FormError> {
    if text.is_empty() { Ok(Native::Null) } else { tidy(text).map(Native::Text) }
}

/// What is there in its tidy form, if it has one.
fn tidied(text: std::sync::Arc<str>, tidy: impl Fn(&str) -> Result<String, FormError>) -> Value {
    tidy(&text).map_or(Value::Text(text), Value::text)
}

/// An e-mail address, in lower case.
fn email(text: &str) -> Result<String, FormError> {
    let bad = || refused("it is no e-mail address that can be held there");
    // Domains in other scripts have a form in ASCII; names before the `@` have none.
    let lower = normal::email(text).ok_or_else(bad)?;
    let (local, domain) = lower.split_once('@').ok_or_else(bad)?;
    let letters = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '\'' | '+' | '-' | '.');
    let dots = |part: &str| part.starts_with('.') || part.ends_with('.') || part.contains("..");
    let good_local = !local.is_empty() && local.chars().all(letters) && !dots(local);
    let label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    let good_domain = domain.split('.').all(label)
        && domain.rsplit_once('.').is_some_and(|(_, top)| {
            top.chars().count() >= 2
                && (top.starts_with("xn--") || top.chars().all(|c| c.is_ascii_alphabetic()))
        });
    if good_local && good_domain { Ok(lower) } else { Err(bad()) }
}

/// A web address: its origin in lower case and without the usual port, and no slash at the end. One without a scheme gets `https://`.
/// What a server makes of anything else is not known.
fn link(text: &str) -> Result<String, FormError> {
    let bad = || refused("it is no web address that can be held there, such as https://example.com/page");
    let text = text.trim();
    if text.contains(char::is_control) {
        return Err(bad());
    }
    let url = if text.contains("://") { Url::parse(text) } else { bare(text).ok_or_else(bad)? };
    let url = url.ok().filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(bad)?;
    let host = url.host_str().unwrap_or_default();
    let good_host = host.split('.').all(|label| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    });
    let after = &url[url::Position::BeforePath..];
    let good_path = after.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte));
    let alone = url.username().is_empty() && url.password().is_none() && url.port() != Some(0);
    if !good_host || !good_path || !alone {
        return Err(bad());
    }
    Ok(format!("{}{after}", url.origin().ascii_serialization()).trim_end_matches('/').to_owned())
}

/// A web address without its scheme: a domain of two parts or more, and what comes after it.
fn bare(text: &str) -> Option<Result<Url, url::ParseError>> {
    let host = text.split(['/', '?', '#']).next()?;
    let dotted = host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && !rest.is_empty());
    let strange = host.contains(|c: char| c == ':' || c == '@' || c.is_whitespace());
    (dotted && !strange).then(|| Url::parse(&format!("https://{text}")))
}

/// A phone number with its country: `+12025550123`. One that no country gives out would be refused.
fn phone(text: &str) -> Result<String, FormError> {
    let phone = normal::phone(text, None)
        .ok_or_else(|| refused("it is no phone number with its country, such as +12025550123"))?;
    if normal::is_given_out(&phone.e164) {
        Ok(phone.e164)
    } else {
        Err(refused("it is no phone number that its country gives out"))
    }
}

fn cut(time: Timestamp) -> Timestamp {
    Timestamp::from_micros(time.micros().div_euclid(1_000).saturating_mul(1_000)).unwrap_or(time)
}

fn time(value: &Value) -> Result<Native, FormError> {
    let out_of_range = || refused("only the years 1 to 9999 can be held there");
    match value {
        Value::Date(date) if YEARS.contains(&date.year()) => Ok(Native::Text(date.to_string())),
        Value::Time(time) => {
            let exact = jiff::Timestamp::from_microsecond(cut(*time).micros()).map_err(|_| out_of_range())?;
            if !YEARS.contains(&exact.to_zoned(TimeZone::UTC).year()) {
                return Err(out_of_range());
            }
            Ok(Native::Text(format!("{exact:.3}")))
        }
        _ => Err(out_of_range()),
    }
}

fn whole(native: Native) -> Result<Native, FormError> {
    match native {
        Native::Integer(number) if !(-LARGEST_WHOLE..=LARGEST_WHOLE).contains(&number) => {
            Err(refused("whole numbers beyond 2^53 cannot be held there"))
        }
        native => Ok(native),
    }
}

/// Whether a JSON value comes back as none.
fn is_nothing(json: &J) -> bool {
    match json {
        J::Null => true,
        J::Array(items) => items.is_empty(),
        J::Object(object) => object.is_empty(),
        _ => false,
    }
}

fn object(json: &Json) -> Result<Native, FormError> {
    let value = json.as_value();
    if is_nothing(value) && !value.is_null() {
        return Ok(Native::Null);
    }
    if !matches!(value, J::Array(_) | J::Object(_)) {
        return Err(refused("only JSON objects and arrays can be held there"));
    }
    if !survives(value) {
        return Err(refused("JSON with numbers beyond floating point, or with U+0000, cannot be held there"));
    }
    forms::encode(&Value::Json(json.clone()), FieldType::Json, Form::JsonText, &TimeZone::UTC)
}

/// Whether every number is one that floating point gives back, and every text one that a database takes.
fn survives(json: &J) -> bool {
    match json {
        J::Null | J::Bool(_) => true,
        J::Number(number) => number
            .to_string()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .is_some_and(|back| Json::new(J::Number(back)) == Json::new(json.clone())),
        J::String(text) => !text.contains('\0'),
        J::Array(items) => items.iter().all(survives),
        J::Object(object) => object.iter().all(|(key, value)| !key.contains('\0') && survives(value)),
    }
}

fn list(items: &[String]) -> Result<Native, FormError> {
    if items.is_empty() {
        return Ok(Native::Null);
    }
    if items.iter().any(|item| item.contains('\0')) {
        return Err(refused("a list with the character U+0000 cannot be held there"));
    }
    forms::encode(&Value::List(items.into()), FieldType::StringList, Form::JsonText, &TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::representable;

    fn held(text: &str, form: Form) -> Result<Value, FormError> {
        representable(&Value::text(text), FieldType::String, form, &TimeZone::UTC)
    }

    #[test]
    fn addresses_links_and_numbers_are_tidied_before_they_are_written() {
        let cases = [
            (Form::CrmEmail, " Ann@Example.COM ", "ann@example.com"),
            (Form::CrmEmail, "ann@bücher.example", "ann@xn--bcher-kva.example"),
            (Form::CrmLink, "HTTPS://Example.COM:443/A/", "https://example.com/A"),
            (Form::CrmLink, "http://example.com:8080//", "http://example.com:8080"),
            (Form::CrmLink, "Example.com/a/", "https://example.com/a"),
            (Form::CrmLink, "https://b\u{fc}cher.example/\u{e4}", "https://xn--bcher-kva.example/%C3%A4"),
            (Form::CrmLink, "https://example.com/?q=A#F", "https://example.com/?q=A#F"),
            (Form::CrmPhone, "+1 (202) 555-0123 ext. 7", "+12025550123"),
            (Form::CrmPhone, "+33 6 12 34 56 78", "+33612345678"),
            (Form::CrmPhone, "+44 7911 123456", "+447911123456"),
        ];
        for (form, text, expected) in cases {
            assert_eq!(held(text, form), Ok(Value::text(expected)), "{text}");
            assert_eq!(held(expected, form), Ok(Value::text(expected)), "{expected}");
        }
        for form in [Form::CrmText, Form::CrmEmail, Form::CrmLink, Form::CrmPhone] {
            assert_eq!(held("", form), Ok(Value::Null), "no text is none");
            assert!(held("a\0b", form).is_err());
        }
        for bad in [
            "ann",
            "ann@",
            "a b@example.com",
            "@example.com",
            "a@b@example.com",
            "a@example",
            "a..b@example.com",
            "é@example.com",
        ] {
            assert!(held(bad, Form::CrmEmail).is_err(), "{bad}");
        }
        for bad in [
            "(202) 555-0123",
            "call me",
            "+1 202 555 0123; +1 202 555 0199",
            "+1 202 555 01",
            "+1 999 555 0123",
            "+44 791234567",
            "+999 123 456 78",
        ] {
            assert!(held(bad, Form::CrmPhone).is_err(), "{bad}");
        }
        for bad in [
            "none",
            "@ann",
            "mailto:ann@example.com",
            "ftp://example.com",
            "https://ann:secret@example.com",
            "https://ann@example.com",
            "https://example.com:0/",
            "https://ex_ample.com",
            "https://[::1]/",
            "https://example.com/a^b",
            "https://",
            "ann example.com",
            "Ann's page",
        ] {
            assert!(held(bad, Form::CrmLink).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_would_be_spoilt_is_not_held() {
        let json = |text| {
            let json = Value::Json(Json::parse(text).expect(text));
            representable(&json, FieldType::Json, Form::CrmJson, &TimeZone::UTC).ok()
        };
        assert_eq!((json("{}"), json("[]")), (Some(Value::Null), Some(Value::Null)));
        assert!(json(r#"{"b":{},"a":[1.5,9007199254740992]}"#).is_some_and(|value| !value.is_null()));
        for bad in ["1", "\"a\"", "[9007199254740993]", r#"{"a":"\u0000"}"#, "[0.1000000000000000055]"] {
            assert_eq!(json(bad), None, "{bad}");
        }
        let number =
            |number| representable(&Value::Int(number), FieldType::Int64, Form::CrmNumber, &TimeZone::UTC);
        assert!(number(1 << 53).is_ok() && number((1 << 53) + 1).is_err() && number(i64::MIN).is_err());
        let micros = |micros| Value::Time(Timestamp::from_micros(micros).expect("in range"));
        let time = representable(&micros(-1), FieldType::Timestamp, Form::CrmTime, &TimeZone::UTC);
        assert_eq!(time, Ok(micros(-1_000)), "cut to the millisecond before");
    }
}
