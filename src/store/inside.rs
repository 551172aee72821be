//! Values inside JSON columns, and columns as JSON: what stores with JSON columns have in common.

pub(super) use base64_text::base64;
use jiff::tz::TimeZone;
use serde_json::{Map, Value as Json};
use sha2::{Digest, Sha256};

use crate::model::{Cell, FieldType, Form, Native, Unreadable, Value, decode};

/// What a column that holds this reads as.
pub(super) fn read_cell(native: &Native, ty: FieldType, form: Form, zone: &TimeZone) -> Cell {
    decode(native, ty, form, zone).map_or_else(|error| unreadable(native, error.0), Cell::Value)
}

/// A value that could not be read as a field's type: why, and a fingerprint of it.
pub(super) fn unreadable(native: &Native, why: String) -> Cell {
    let mut hash = Sha256::new();
    match native {
        Native::Null => hash.update(b"n"),
        Native::Integer(number) => hash.update([b"i".as_slice(), &number.to_le_bytes()].concat()),
        Native::Real(number) => hash.update([b"r".as_slice(), &number.to_bits().to_le_bytes()].concat()),
        Native::Text(text) => hash.update([b"t", text.as_bytes()].concat()),
        Native::Blob(bytes) => hash.update([b"b", bytes.as_slice()].concat()),
    }
    let digest = hash.finalize();
    let fingerprint = digest.iter().take(8).fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    Cell::Unreadable(Box::new(Unreadable { why, fingerprint }))
}

/// A value as JSON, for people and for putting a row back by hand.
pub(super) fn native_json(native: &Native) -> Json {
    match native {
        Native::Null => Json::Null,
        Native::Integer(number) => (*number).into(),
        Native::Real(number) => {
            serde_json::Number::from_f64(*number).map_or_else(|| format!("{number:?}").into(), Json::Number)
        }
        Native::Text(text) => text.clone().into(),
        Native::Blob(bytes) => serde_json::json!({ "base64": base64(bytes) }),
    }
}

/// A value inside a JSON column, as a column of its own would hold it.
pub(super) fn inner_native(json: Option<&Json>, ty: FieldType, form: Form) -> Native {
    match json {
        None => Native::Null,
        Some(Json::Null) if ty != FieldType::Json || form != Form::Native => Native::Null,
        Some(Json::String(text)) if ty != FieldType::Json || form != Form::Native => {
            Native::Text(text.clone())
        }
        Some(Json::Bool(flag)) if ty != FieldType::Json => Native::Integer(i64::from(*flag)),
        Some(Json::Number(number)) if ty != FieldType::Json => {
            number.as_i64().map_or_else(|| Native::Text(number.to_string()), Native::Integer)
        }
        Some(other) => Native::Text(other.to_string()),
    }
}

/// An encoded value as it is put inside a JSON column; none: nothing stands there.
pub(super) fn inner_json(value: &Value, native: &Native, form: Form) -> Option<Json> {
    match (value, native) {
        (_, Native::Null) => None,
        // As JSON has it, where the form leaves it open.
        (Value::Bool(_) | Value::Json(_) | Value::List(_), _) if form == Form::Native => {
            Some(value.to_plain())
        }
        (_, native) => Some(native_json(native)),
    }
}

/// What stands at a path of names.
pub(super) fn get_path<'j>(object: &'j Map<String, Json>, path: &[String]) -> Option<&'j Json> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(object.get(first)?, |json, name| json.get(name))
}

/// Sets what stands at a path of names; none removes it. What stands in the way of the path gives way.
pub(super) fn set_path(object: &mut Map<String, Json>, path: &[String], value: Option<Json>) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        match value {
            Some(value) => object.insert(first.clone(), value),
            None => object.remove(first),
        };
        return;
    }
    if value.is_none() && !object.contains_key(first) {
        return;
    }
    let next = object.entry(first.clone()).or_insert_with(|| Json::Object(Map::new()));
    if !next.is_object() {
        *next = Json::Object(Map::new());
    }
    if let Json::Object(next) = next {
        set_path(next, rest, value);
    }
}

mod base64_text {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    /// Bytes in base64 with padding, as RFC 4648 has it.
    pub(in super::super) fn base64(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
        for chunk in bytes.chunks(3) {
            let part = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
            let group = (part(0) << 16) | (part(1) << 8) | part(2);
            for at in 0..4_usize {
                let six = (group >> (18 - 6 * at)) & 63;
                let letter = ALPHABET.get(six as usize).copied().map_or('=', char::from);
                text.push(if at <= chunk.len() { letter } else { '=' });
            }
        }
        text
    }

    #[cfg(test)]
    mod tests {
        #[test]
        fn as_the_rfc_has_it() {
            for (plain, coded) in
                [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
            {
                assert_eq!(super::base64(plain.as_bytes()), coded);
            }
        }
    }
}
