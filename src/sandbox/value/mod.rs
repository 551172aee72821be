//! What becomes of a value that a client writes: checked, brought to the form that the server keeps, and read back from it.

mod composite;
mod phone;

use rusqlite::types::Value as Sql;
use serde_json::{Map, Number, Value};

use super::answer::{Out, Refusal};
use super::schema::{Column, Field, FieldType, Kind};

/// A column and what is put into it.
pub(super) type Cell = (String, Sql);

/// What a client's value puts into a field's columns. An empty list leaves them as they are.
///
/// # Errors
/// When the field cannot hold the value.
pub(super) fn cells(field: &Field, value: &Value) -> Result<Vec<Cell>, Refusal> {
    no_nul(value)?;
    if !field.kind.parts().is_empty() {
        // A composite that is null is passed over in silence.
        let Value::Object(parts) = value else {
            return if value.is_null() {
                Ok(Vec::new())
            } else {
                Err(wrong(field, "an object of its sub-fields"))
            };
        };
        if let Some(unknown) =
            parts.keys().find(|key| !field.kind.parts().iter().any(|(name, _)| name == key))
        {
            return Err(Refusal::bad(format!("{} has no sub-field \"{unknown}\"", field.name)));
        }
        return composite::cells(field, parts);
    }
    let cell = match field.kind {
        FieldType::Text => text(&field.name, value)?,
        FieldType::Number | FieldType::Position => number(&field.name, value)?,
        FieldType::Boolean => match value {
            Value::Null => Sql::Null,
            Value::Bool(value) => Sql::Integer(i64::from(*value)),
            _ => return Err(wrong(field, "true or false")),
        },
        FieldType::RawJson => raw_json(field, value)?,
        FieldType::DateTime => match value {
            Value::Null => Sql::Null,
            Value::String(text) => Sql::Text(time(text).map_err(|refusal| refusal.at(&field.name))?),
            _ => return Err(wrong(field, "a time as text")),
        },
        FieldType::Date => match value {
            Value::Null => Sql::Null,
            Value::String(text) => Sql::Text(date(text).map_err(|refusal| refusal.at(&field.name))?),
            _ => return Err(wrong(field, "a date as text")),
        },
        FieldType::Select => match value {
            Value::Null => Sql::Null,
            Value::String(text) => Sql::Text(choice(field, text)?.to_owned()),
            _ => return Err(wrong(field, "one of its options")),
        },
        FieldType::MultiSelect => {
            let items = strings(&field.name, value)?;
            for item in &items {
                choice(field, item)?;
            }
            list(items.into_iter().map(Value::String).collect())
        }
        FieldType::Array => list(strings(&field.name, value)?.into_iter().map(Value::String).collect()),
        FieldType::Uuid => match value {
            Value::Null => Sql::Null,
            Value::String(text) => {
                Sql::Text(uuid(text).map_err(|refusal| refusal.at(&field.name))?.to_owned())
            }
            _ => return Err(wrong(field, "a UUID")),
        },
        other => return Err(Refusal::bad(format!("{}: {} cannot be written", field.name, other.name()))),
    };
    Ok(vec![(field.name.clone(), cell)])
}

fn wrong(field: &Field, wanted: &str) -> Refusal {
    Refusal::bad(format!("Invalid value for {} ({}): {wanted} is wanted", field.name, field.kind.name()))
}

fn choice<'a>(field: &Field, value: &'a str) -> Result<&'a str, Refusal> {
    if field.options.iter().any(|option| option.value == value) {
        return Ok(value);
    }
    let known: Vec<&str> = field.options.iter().map(|option| option.value.as_str()).collect();
    Err(Refusal::bad(format!("Invalid value for {}: its options are {}", field.name, known.join(", "))))
}

/// Refuses, as Postgres does, text that holds a NUL, wherever in the value.
fn no_nul(value: &Value) -> Result<(), Refusal> {
    let nul = || Refusal::internal("invalid byte sequence for encoding \"UTF8\": 0x00");
    match value {
        Value::String(text) if text.contains('\0') => Err(nul()),
        Value::Array(items) => items.iter().try_for_each(no_nul),
        Value::Object(map) => map
            .iter()
            .try_for_each(|(key, value)| if key.contains('\0') { Err(nul()) } else { no_nul(value) }),
        _ => Ok(()),
    }
}

/// Text as it is, with the empty one kept as NULL.
fn text(name: &str, value: &Value) -> Result<Sql, Refusal> {
    match value {
        Value::Null => Ok(Sql::Null),
        Value::String(text) if text.is_empty() => Ok(Sql::Null),
        Value::String(text) => Ok(Sql::Text(text.clone())),
        _ => Err(Refusal::bad(format!("Invalid value for {name}: text is wanted"))),
    }
}

fn number(name: &str, value: &Value) -> Result<Sql, Refusal> {
    match value {
        Value::Null => Ok(Sql::Null),
        Value::Number(number) => double(number)
            .map(Sql::Real)
            .ok_or_else(|| Refusal::bad(format!("Invalid value for {name}: it is too large for a double"))),
        _ => Err(Refusal::bad(format!("Invalid value for {name}: a number is wanted, not text"))),
    }
}

/// The double nearest to a number; none when it is out of range.
fn double(number: &Number) -> Option<f64> {
    number.as_str().parse::<f64>().ok().filter(|double| double.is_finite())
}

/// A double as JavaScript writes it: no fraction where there is none, an exponent from 1e21 on and below 1e-6.
pub(super) fn written(double: f64) -> Value {
    let size = double.abs();
    let text = if double == 0.0 {
        "0".to_owned()
    } else if (1e-6..1e21).contains(&size) {
        format!("{double}")
    } else {
        let text = format!("{double:e}");
        if size >= 1.0 { text.replace('e', "e+") } else { text }
    };
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

fn raw_json(field: &Field, value: &Value) -> Result<Sql, Refusal> {
    let empty = match value {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => return Err(wrong(field, "an object or a list")),
    };
    if empty {
        return Ok(Sql::Null);
    }
    Ok(Sql::Text(
        through_doubles(value).ok_or_else(|| wrong(field, "numbers that a double can hold"))?.to_string(),
    ))
}

/// The same with every number as a double has it.
fn through_doubles(value: &Value) -> Option<Value> {
    Some(match value {
        Value::Number(number) => written(double(number)?),
        Value::Array(items) => Value::Array(items.iter().map(through_doubles).collect::<Option<_>>()?),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| through_doubles(value).map(|value| (key.clone(), value)))
                .collect::<Option<Map<_, _>>>()?,
        ),
        other => other.clone(),
    })
}

/// A time with a zone, in UTC and cut to milliseconds.
pub(super) fn time(text: &str) -> Result<String, Refusal> {
    let bad = || Refusal::bad("Invalid date: a time such as 2026-01-31T08:15:00.000Z is wanted");
    let bytes = text.as_bytes();
    // jiff also takes other spellings, which nobody has tried on a real server.
    let plain = bytes.iter().all(|byte| b"0123456789-:.TZ+".contains(byte)) && bytes.get(10) == Some(&b'T');
    let year_is_plain =
        bytes.get(..4).is_some_and(|year| year.iter().all(u8::is_ascii_digit) && year != b"0000");
    if !plain || !year_is_plain {
        return Err(bad());
    }
    let time: jiff::Timestamp = text.parse().map_err(|_| bad())?;
    let time = time_text(time.as_millisecond());
    if time.len() == 24 { Ok(time) } else { Err(bad()) }
}

/// A time as the server writes it.
pub(super) fn time_text(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

pub(super) fn date(text: &str) -> Result<String, Refusal> {
    let date: Option<jiff::civil::Date> = if text.len() == 10 { text.parse().ok() } else { None };
    let date = date.ok_or_else(|| Refusal::bad("Invalid date: one such as 2026-01-31 is wanted"))?;
    Ok(date.to_string())
}

/// A UUID in lower case.
pub(super) fn uuid(text: &str) -> Result<&str, Refusal> {
    let dashes = [8, 13, 18, 23];
    let valid = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| {
            if dashes.contains(&at) { byte == b'-' } else { matches!(byte, b'0'..=b'9' | b'a'..=b'f') }
        });
    if valid {
        Ok(text)
    } else {
        Err(Refusal::bad("Invalid UUID: 8-4-4-4-12 hexadecimal digits in lower case are wanted"))
    }
}

/// A list of texts; null is the empty one.
fn strings(name: &str, value: &Value) -> Result<Vec<String>, Refusal> {
    let bad = || Refusal::bad(format!("Invalid value for {name}: a list of texts is wanted"));
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned).ok_or_else(bad)).collect()
        }
        _ => Err(bad()),
    }
}

/// A list as it is kept: NULL when empty.
fn list(items: Vec<Value>) -> Sql {
    if items.is_empty() { Sql::Null } else { Sql::Text(Value::Array(items).to_string()) }
}

/// What a column reads back as.
pub(super) fn read(kind: Kind, value: rusqlite::types::ValueRef<'_>) -> Result<Out, Refusal> {
    use rusqlite::types::ValueRef;
    let json = |bytes: &[u8]| {
        serde_json::from_slice::<Value>(bytes)
            .map_err(|error| Refusal::internal(format!("a column that should hold JSON: {error}")))
    };
    Ok(match (kind, value) {
        (Kind::Text, ValueRef::Null) => Out::text(""),
        (Kind::List, ValueRef::Null) => Out::Plain(Value::Array(Vec::new())),
        (_, ValueRef::Null) => Out::NULL,
        (Kind::Bool, ValueRef::Integer(value)) => Out::Plain(Value::Bool(value != 0)),
        (Kind::Number, ValueRef::Real(double)) => Out::Plain(written(double)),
        (Kind::Json | Kind::List, ValueRef::Text(bytes)) => Out::Jsonb(json(bytes)?),
        (_, ValueRef::Text(bytes)) => Out::text(String::from_utf8_lossy(bytes)),
        (kind, value) => {
            let message = format!("a column of {kind:?} holds {}", value.data_type());
            return Err(Refusal::internal(message));
        }
    })
}

/// What a filter compares a column with.
///
/// # Errors
/// When the column cannot be compared with the value.
pub(super) fn compared(column: &Column, value: &Value) -> Result<Sql, Refusal> {
    let bad =
        |wanted: &str| Refusal::bad(format!("Invalid filter value for {}: {wanted} is wanted", column.name));
    Ok(match (column.kind, value) {
        (Kind::Text | Kind::Choice, Value::String(text)) => Sql::Text(text.clone()),
        (Kind::Uuid, Value::String(text)) => {
            Sql::Text(uuid(text).map_err(|refusal| refusal.at(&column.name))?.to_owned())
        }
        (Kind::Number, Value::Number(number)) => Sql::Real(double(number).ok_or_else(|| bad("a double"))?),
        (Kind::Bool, Value::Bool(value)) => Sql::Integer(i64::from(*value)),
        (Kind::Date, Value::String(text)) => {
            Sql::Text(date(text).map_err(|refusal| refusal.at(&column.name))?)
        }
        (Kind::Time, Value::String(text)) => {
            let digits = text.split_once('.').map_or("", |(_, rest)| rest);
            if digits.bytes().take_while(u8::is_ascii_digit).count() > 3 {
                return Err(bad("a time with at most 3 fraction digits"));
            }
            Sql::Text(time(text).map_err(|refusal| refusal.at(&column.name))?)
        }
        (Kind::Text | Kind::Choice, _) => return Err(bad("text")),
        (Kind::Uuid, _) => return Err(bad("a UUID")),
        (Kind::Number, _) => return Err(bad("a number")),
        (Kind::Bool, _) => return Err(bad("true or false")),
        (Kind::Date | Kind::Time, _) => return Err(bad("a time as text")),
        (Kind::Json | Kind::List, _) => {
            let what = format!("a filter on {} other than [is]", column.name);
            return Err(Refusal::not_covered(what, "list the records and compare them yourself"));
        }
    })
}

/// A new random UUID, version 4.
pub(super) fn new_uuid() -> String {
    let mut bytes = random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex(&bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Sixteen random bytes.
pub(super) fn random() -> [u8; 16] {
    let mut bytes = [0_u8; 16];
    if getrandom::fill(&mut bytes).is_err() {
        // Without the system's chance, the time has to do: ids need to differ, not to be secret.
        let nanos = jiff::Timestamp::now().as_nanosecond();
        bytes = nanos.to_be_bytes();
    }
    bytes
}

/// Bytes as hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_are_written_as_javascript_does() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (-2.25, "-2.25"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (0.000_001, "0.000001"),
            (9_007_199_254_740_993.0, "9007199254740992"),
        ];
        for (double, text) in cases {
            assert_eq!(written(double).to_string(), text);
        }
    }

    #[test]
    fn uuids_are_version_4() {
        let id = new_uuid();
        assert_eq!(uuid(&id).unwrap(), id);
        assert_eq!(&id[14..15], "4");
        assert!(uuid(&id.to_uppercase()).is_err() || !id.bytes().any(|byte| byte.is_ascii_lowercase()));
    }

    #[test]
    fn times_are_cut_to_milliseconds() {
        let good = [
            ("2026-01-31T08:15:00.123999Z", "2026-01-31T08:15:00.123Z"),
            ("2026-01-31T08:15:00+02:00", "2026-01-31T06:15:00.000Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ];
        for (text, kept) in good {
            assert_eq!(time(text).unwrap(), kept);
        }
        for text in
            ["", "2026-01-31", "2026-01-31T08:15:00", "2026-01-31 08:15:00Z", "soon", "-2026-01-31T08:15:00Z"]
        {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
