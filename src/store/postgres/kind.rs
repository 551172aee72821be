//! Kinds of columns: how their bytes become values, and values their texts.
//!
//! What is read often is read in Postgres's binary format; of every other type the server makes a text. Everything that is written
//! goes as text, which the server reads as the column's type.

use std::borrow::Cow;
use std::fmt::Write as _;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, ToSpan as _};
use serde_json::Value as Json;

use crate::model::{Cell, FieldType, Float, Form, Native, Timestamp, Value, decode};

use super::super::inside::unreadable;

/// Microseconds from 1970 to 2000, where Postgres begins to count.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// The day that Postgres counts from.
const EPOCH_DAY: Date = Date::constant(2000, 1, 1);
/// Numbers of more digits than these take the long way to their canonical form.
const SHORT_NUMERIC: usize = 300;

/// What a column's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    /// `text`, `varchar`.
    Text,
    Uuid,
    Date,
    /// Without a zone.
    Timestamp,
    Timestamptz,
    Json,
    Jsonb,
    /// `text[]`, `varchar[]`.
    Texts,
    /// Any other type, of which the server makes a text.
    Cast,
}

impl Kind {
    /// The kind of a type that is no domain.
    pub(super) fn of(oid: i64) -> Self {
        match oid {
            16 => Self::Bool,
            20 => Self::Int8,
            21 => Self::Int2,
            23 => Self::Int4,
            25 | 1043 => Self::Text,
            114 => Self::Json,
            700 => Self::Float4,
            701 => Self::Float8,
            1009 | 1015 => Self::Texts,
            1082 => Self::Date,
            1114 => Self::Timestamp,
            1184 => Self::Timestamptz,
            1700 => Self::Numeric,
            2950 => Self::Uuid,
            3802 => Self::Jsonb,
            _ => Self::Cast,
        }
    }

    /// Whether these bytes certainly are a value of the field. `false` says nothing.
    pub(super) fn surely_reads(self, bytes: Option<&[u8]>, ty: FieldType, form: Form) -> bool {
        // JSON nested no deeper than any parser reads.
        const FEW_BRACKETS: usize = 100;
        let Some(bytes) = bytes else { return true };
        if form != Form::Native {
            return false;
        }
        match (self, ty) {
            (Self::Text, FieldType::String)
            | (Self::Bool, FieldType::Bool)
            | (Self::Int2 | Self::Int4 | Self::Int8, FieldType::Int64) => true,
            (Self::Jsonb, FieldType::Json) => {
                bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() <= FEW_BRACKETS
            }
            _ => false,
        }
    }

    /// A value of a field as it was sent.
    pub(super) fn cell(self, bytes: Option<&[u8]>, ty: FieldType, form: Form, zone: &TimeZone) -> Cell {
        let Some(bytes) = bytes else { return Cell::Value(Value::Null) };
        if let Some(value) = self.at_once(bytes, ty, form, zone) {
            return Cell::Value(value);
        }
        let native = self.native(bytes, ty, form);
        decode(&native, ty, form, zone).map_or_else(|error| unreadable(&native, error.0), Cell::Value)
    }

    /// A shortcut for the common kinds: the same value that [`Kind::native`] and [`decode`] would yield; none: take these.
    fn at_once(self, bytes: &[u8], ty: FieldType, form: Form, zone: &TimeZone) -> Option<Value> {
        let plain = matches!(form, Form::Native | Form::Text);
        match (self, ty) {
            (Self::Text, FieldType::String) if plain => text(bytes).map(Value::text),
            (Self::Bool, FieldType::Bool) if plain => truth(bytes).map(Value::Bool),
            (Self::Int2 | Self::Int4 | Self::Int8, FieldType::Int64) if plain || form == Form::Int64 => {
                self.integer(bytes).map(Value::Int)
            }
            (Self::Float8, FieldType::Float64) if form == Form::Native => {
                let number = f64::from_be_bytes(bytes.try_into().ok()?);
                number.is_finite().then(|| Value::Float(Float::new(number)))
            }
            (Self::Numeric, FieldType::Numeric) if plain => numeric(bytes, false)
                .filter(|text| text.len() < SHORT_NUMERIC)
                .map(|text| Value::Numeric(text.into())),
            (Self::Date, FieldType::Date) if plain => date(bytes).map(Value::Date),
            (Self::Timestamptz, FieldType::Timestamp) if plain => time(bytes).map(Value::Time),
            (Self::Timestamp, FieldType::Timestamp) if plain && *zone == TimeZone::UTC => {
                time(bytes).map(Value::Time)
            }
            (Self::Json | Self::Jsonb, FieldType::Json) if form == Form::Native => {
                crate::model::Json::parse(self.text(bytes)?).ok().map(Value::Json)
            }
            (Self::Texts, FieldType::StringList) if plain => {
                texts(bytes)?.into_iter().collect::<Option<_>>().map(Value::List)
            }
            _ => None,
        }
    }

    /// What stands in a column, as columns of a store without rich types would hold it.
    pub(super) fn native(self, bytes: &[u8], ty: FieldType, form: Form) -> Native {
        let native =
            match self {
                Self::Bool if ty == FieldType::Bool || form == Form::Int64 => {
                    truth(bytes).map(|flag| Native::Integer(i64::from(flag)))
                }
                Self::Bool => truth(bytes).map(|flag| Native::Text(flag.to_string())),
                Self::Int2 | Self::Int4 | Self::Int8 => self.integer(bytes).map(Native::Integer),
                // By way of its shortest text, as everybody else shows it: `0.1`, and not the 64-bit 0.10000000149011612.
                Self::Float4 => bytes.try_into().ok().map(f32::from_be_bytes).map(|number| {
                    Native::Real(number.to_string().parse().unwrap_or_else(|_| f64::from(number)))
                }),
                Self::Float8 => bytes.try_into().ok().map(f64::from_be_bytes).map(Native::Real),
                Self::Numeric => numeric(bytes, true).map(Native::Text),
                Self::Uuid => uuid(bytes).map(Native::Text),
                Self::Date => date(bytes).map(|date| Native::Text(date.to_string())),
                Self::Timestamp => civil(bytes).map(Native::Text),
                Self::Timestamptz => time(bytes).map(|time| Native::Text(time.to_string())),
                Self::Texts => texts(bytes).map(|items| Native::Text(Json::from(items).to_string())),
                Self::Text | Self::Json | Self::Jsonb | Self::Cast => {
                    self.text(bytes).map(|text| Native::Text(text.to_owned()))
                }
            };
        let endless = || self.endless(bytes).map(|name| Native::Text(name.to_owned()));
        native.or_else(endless).unwrap_or_else(|| Native::Blob(bytes.to_vec()))
    }

    /// The name of a value without end, or of no number, as Postgres writes it.
    fn endless(self, bytes: &[u8]) -> Option<&'static str> {
        let ends = |low: bool, high: bool| if low { Some("-infinity") } else { high.then_some("infinity") };
        match self {
            Self::Date => {
                let days = i32::from_be_bytes(bytes.try_into().ok()?);
                ends(days == i32::MIN, days == i32::MAX)
            }
            Self::Timestamp | Self::Timestamptz => {
                let micros = i64::from_be_bytes(bytes.try_into().ok()?);
                ends(micros == i64::MIN, micros == i64::MAX)
            }
            Self::Numeric => match bytes.get(4..6)? {
                [0xc0, 0x00] => Some("NaN"),
                [0xd0, 0x00] => Some("infinity"),
                [0xf0, 0x00] => Some("-infinity"),
                _ => None,
            },
            _ => None,
        }
    }

    /// The text of a column that holds one.
    pub(super) fn text(self, bytes: &[u8]) -> Option<&str> {
        match self {
            // Its first byte is the version of the format.
            Self::Jsonb => text(bytes.strip_prefix(&[1])?),
            Self::Text | Self::Json | Self::Cast => text(bytes),
            _ => None,
        }
    }

    fn integer(self, bytes: &[u8]) -> Option<i64> {
        match self {
            Self::Int2 => bytes.try_into().ok().map(i16::from_be_bytes).map(i64::from),
            Self::Int4 => bytes.try_into().ok().map(i32::from_be_bytes).map(i64::from),
            _ => bytes.try_into().ok().map(i64::from_be_bytes),
        }
    }

    /// The text that a value is written as; none: NULL.
    ///
    /// # Errors
    /// With what is wrong, when no column of the kind holds it.
    pub(super) fn written(
        self,
        value: &Value,
        native: Native,
        zone: &TimeZone,
    ) -> Result<Option<String>, &'static str> {
        let text = match (self, value, native) {
            (_, _, Native::Null) => return Ok(None),
            (Self::Timestamp, Value::Time(time), Native::Text(_)) => {
                if !time.is_on_clock(zone) {
                    return Err(
                        "on the clock of its column's zone that is after the year 9999, the last one it can hold",
                    );
                }
                era(&time.to_civil_text(zone)).into_owned()
            }
            (Self::Timestamptz, Value::Time(time), Native::Text(_)) => era(&time.to_string()).into_owned(),
            (Self::Date, Value::Date(date), _) => era(&date.to_string()).into_owned(),
            (Self::Texts, Value::List(items), _) => array_literal(items.iter().map(String::as_str)),
            (Self::Texts, Value::Json(json), _) => {
                let items = json.as_value().as_array().ok_or("only a list of texts fits its column")?;
                let items: Option<Vec<&str>> = items.iter().map(Json::as_str).collect();
                array_literal(items.ok_or("only a list of texts fits its column")?.into_iter())
            }
            (Self::Bool, _, Native::Integer(number @ (0 | 1))) => (number == 1).to_string(),
            (_, _, Native::Integer(number)) => number.to_string(),
            (_, _, Native::Real(number)) => format!("{number:?}"),
            (_, _, Native::Text(text)) => text,
            (_, _, Native::Blob(_)) => return Err("bytes do not fit its column"),
        };
        if text.contains('\0') {
            return Err("Postgres holds no text with the character U+0000");
        }
        if self == Self::Jsonb && text.contains("\\u0000") && has_nul(&text) {
            return Err("`jsonb` holds no text with the character U+0000");
        }
        Ok(Some(text))
    }
}

/// Whether JSON text has a U+0000 in it: `\\u0000` is a backslash with letters after it.
fn has_nul(json: &str) -> bool {
    fn within(json: &Json) -> bool {
        match json {
            Json::String(text) => text.contains('\0'),
            Json::Array(items) => items.iter().any(within),
            Json::Object(object) => object.iter().any(|(name, value)| name.contains('\0') || within(value)),
            _ => false,
        }
    }
    serde_json::from_str(json).is_ok_and(|json| within(&json))
}

/// A date or time as Postgres writes it: one before the year 1 with `BC`, where the year before 1 is 1 BC.
fn era(text: &str) -> Cow<'_, str> {
    let negative = text.starts_with('-');
    let digits = text.trim_start_matches('-');
    let (Some((year, rest)), true) = (digits.split_once('-'), negative || text.starts_with("0000")) else {
        return Cow::Borrowed(text);
    };
    let year: i64 = year.parse().unwrap_or(0);
    Cow::Owned(format!("{:04}-{rest} BC", year + 1))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn truth(bytes: &[u8]) -> Option<bool> {
    match bytes {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// None for the infinities, and for what lies beyond the years that can be told.
fn date(bytes: &[u8]) -> Option<Date> {
    let days = i32::from_be_bytes(bytes.try_into().ok()?);
    if days == i32::MAX || days == i32::MIN {
        return None;
    }
    EPOCH_DAY.checked_add(i64::from(days).days()).ok()
}

fn micros(bytes: &[u8]) -> Option<i64> {
    let micros = i64::from_be_bytes(bytes.try_into().ok()?);
    (micros != i64::MAX && micros != i64::MIN).then_some(micros)
}

fn time(bytes: &[u8]) -> Option<Timestamp> {
    Timestamp::from_micros(micros(bytes)?.checked_add(EPOCH_MICROS)?)
}

fn civil(bytes: &[u8]) -> Option<String> {
    let since = SignedDuration::from_micros(micros(bytes)?);
    EPOCH_DAY.at(0, 0, 0, 0).checked_add(since).ok().map(|civil| civil.to_string())
}

fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

/// A decimal number: groups of four digits. With its scale it has as many decimals as Postgres shows, otherwise as few as it needs.
fn numeric(bytes: &[u8], with_scale: bool) -> Option<String> {
    let field = |at: usize| Some(i16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?));
    let (count, weight, scale) = (usize::try_from(field(0)?).ok()?, i32::from(field(2)?), field(6)?);
    let negative = match u16::from_be_bytes(bytes.get(4..6)?.try_into().ok()?) {
        0 => false,
        0x4000 => true,
        // Not a number, or an infinity.
        _ => return None,
    };
    if bytes.len() != 8 + 2 * count {
        return None;
    }
    let group = |at: i32| usize::try_from(at).ok().filter(|at| *at < count).and_then(|at| field(8 + 2 * at));
    let mut text = String::new();
    if negative {
        text.push('-');
    }
    let begun = text.len();
    for at in 0..=weight {
        let _ = match (group(at).unwrap_or(0), text.len() == begun) {
            (0, true) => continue,
            (digits, true) => write!(text, "{digits}"),
            (digits, false) => write!(text, "{digits:04}"),
        };
    }
    if text.len() == begun {
        text.push('0');
    }
    let scale = usize::try_from(scale).ok()?;
    if scale > 0 {
        let mut decimals = String::new();
        let mut at = weight + 1;
        while decimals.len() < scale {
            let _ = write!(decimals, "{:04}", group(at).unwrap_or(0));
            at += 1;
        }
        decimals.truncate(scale);
        let decimals = if with_scale { decimals.as_str() } else { decimals.trim_end_matches('0') };
        if !decimals.is_empty() {
            text.push('.');
            text.push_str(decimals);
        }
    }
    Some(text)
}

/// The elements of a list, none for each that is NULL; none for a list of lists.
fn texts(bytes: &[u8]) -> Option<Vec<Option<String>>> {
    let field = |at: usize| Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let count = match field(0)? {
        0 => return Some(Vec::new()),
        1 => usize::try_from(field(12)?).ok()?,
        _ => return None,
    };
    let mut items = Vec::with_capacity(count.min(bytes.len()));
    let mut at = 20;
    for _ in 0..count {
        let length = field(at)?;
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            items.push(None);
            continue;
        };
        items.push(Some(text(bytes.get(at..at + length)?)?.to_owned()));
        at += length;
    }
    Some(items)
}

/// A list as Postgres reads it.
fn array_literal<'i>(items: impl Iterator<Item = &'i str>) -> String {
    let items = items.map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", items.collect::<Vec<_>>().join(","))
}

/// Whether a text is a UUID as Postgres shows it.
pub(super) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'),
        })
}

/// Whether a text is a number as Postgres shows it: `007` is shown as `7`.
pub(super) fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    text.len() < SHORT_NUMERIC
        && all_digits(whole)
        && all_digits(decimals)
        && (whole == "0" || !whole.starts_with('0'))
        && (digits == text || digits.bytes().any(|byte| (b'1'..=b'9').contains(&byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numeric_bytes(weight: i16, sign: u16, scale: i16, digits: &[i16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(i16::try_from(digits.len()).expect("few").to_be_bytes());
        bytes.extend(weight.to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend(scale.to_be_bytes());
        bytes.extend(digits.iter().flat_map(|digit| digit.to_be_bytes()));
        bytes
    }

    #[test]
    fn numbers_have_the_digits_that_they_show() {
        for (weight, sign, scale, digits, shown, canonical) in [
            (0, 0, 0, &[][..], "0", "0"),
            (0, 0, 2, &[1, 5000][..], "1.50", "1.5"),
            (0, 0x4000, 1, &[12, 3000][..], "-12.3", "-12.3"),
            (1, 0, 0, &[1][..], "10000", "10000"),
            (-1, 0, 3, &[100][..], "0.010", "0.01"),
            (-2, 0, 8, &[1][..], "0.00000001", "0.00000001"),
            (2, 0, 0, &[7, 0, 42][..], "700000042", "700000042"),
        ] {
            let bytes = numeric_bytes(weight, sign, scale, digits);
            assert_eq!(numeric(&bytes, true).as_deref(), Some(shown));
            assert_eq!(numeric(&bytes, false).as_deref(), Some(canonical));
        }
        assert_eq!(numeric(&numeric_bytes(0, 0xC000, 0, &[]), true), None, "not a number");
        for garbage in [&b""[..], b"\0\x01", b"\0\x02\0\0\0\0\0\0\0\x01"] {
            assert_eq!(numeric(garbage, true), None);
        }
    }

    #[test]
    fn only_numbers_as_they_are_shown_are_keys() {
        for (text, is) in [
            ("0", true),
            ("-7", true),
            ("10.50", true),
            ("007", false),
            ("-0", false),
            ("-0.0", false),
            ("1.", false),
            (".5", false),
            ("", false),
            ("1e3", false),
            ("NaN", false),
        ] {
            assert_eq!(is_number(text), is, "{text}");
        }
    }

    #[test]
    fn lists_of_lists_and_torn_lists_are_none() {
        let one = [
            &1_i32.to_be_bytes()[..],
            &0_i32.to_be_bytes(),
            &25_i32.to_be_bytes(),
            &2_i32.to_be_bytes(),
            &1_i32.to_be_bytes(),
            &1_i32.to_be_bytes(),
            b"a",
            &(-1_i32).to_be_bytes(),
        ]
        .concat();
        assert_eq!(texts(&one), Some(vec![Some("a".into()), None]));
        assert_eq!(texts(&one[..one.len() - 2]), None);
        assert_eq!(texts(&2_i32.to_be_bytes()), None);
    }

    #[test]
    fn years_before_the_first_are_written_as_postgres_has_them() {
        for (ours, theirs) in [
            ("0001-01-01", "0001-01-01"),
            ("0000-12-31", "0001-12-31 BC"),
            ("-000043-03-15", "0044-03-15 BC"),
            ("2026-06-15T12:00:00Z", "2026-06-15T12:00:00Z"),
        ] {
            assert_eq!(era(ours), theirs);
        }
    }
}
