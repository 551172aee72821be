//! Values as bytes: a kind and a short length in one byte, then what there is.

use jiff::civil::Date;

use crate::model::{Float, Json, Timestamp, Value};

use super::BadRecord;
use super::bytes::{Reader, put_bytes, put_signed, put_varint};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const INT: u8 = 3;
const FLOAT: u8 = 4;
const NUMERIC: u8 = 5;
const TEXT: u8 = 6;
const DATE: u8 = 7;
const TIME_MICROS: u8 = 8;
const TIME_SECONDS: u8 = 9;
const JSON: u8 = 10;
const LIST: u8 = 11;

/// Lengths from here on stand in a number of their own.
const LONG: u8 = 15;

pub(super) fn put(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.push(NULL),
        Value::Bool(flag) => out.push(if *flag { TRUE } else { FALSE }),
        Value::Int(number) => {
            out.push(INT);
            put_signed(out, *number);
        }
        Value::Float(number) => {
            out.push(FLOAT);
            out.extend(number.get().to_le_bytes());
        }
        Value::Numeric(text) => put_text(out, NUMERIC, text),
        Value::Text(text) => put_text(out, TEXT, text),
        Value::Date(date) => {
            out.push(DATE);
            put_signed(out, i64::from(date.year()));
            out.extend([date.month().cast_unsigned(), date.day().cast_unsigned()]);
        }
        Value::Time(time) if time.micros() % 1_000_000 == 0 => {
            out.push(TIME_SECONDS);
            put_signed(out, time.micros() / 1_000_000);
        }
        Value::Time(time) => {
            out.push(TIME_MICROS);
            put_signed(out, time.micros());
        }
        Value::Json(json) => put_text(out, JSON, json.as_text()),
        Value::List(items) => {
            out.push(LIST);
            put_varint(out, items.len() as u64);
            for item in items.iter() {
                put_bytes(out, item.as_bytes());
            }
        }
    }
}

fn put_text(out: &mut Vec<u8>, kind: u8, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length) if length < LONG => out.push(kind | (length << 4)),
        _ => {
            out.push(kind | (LONG << 4));
            put_varint(out, text.len() as u64);
        }
    }
    out.extend(text.as_bytes());
}

fn take_text<'a>(first: u8, input: &mut Reader<'a>) -> Result<&'a str, BadRecord> {
    let length = if first >> 4 == LONG { input.length()? } else { usize::from(first >> 4) };
    std::str::from_utf8(input.take(length)?).map_err(|_| BadRecord)
}

pub(super) fn take(input: &mut Reader<'_>) -> Result<Value, BadRecord> {
    let first = input.byte()?;
    Ok(match first & 15 {
        NULL => Value::Null,
        FALSE => Value::Bool(false),
        TRUE => Value::Bool(true),
        INT => Value::Int(input.signed()?),
        FLOAT => Value::Float(Float::new(f64::from_bits(input.fixed()?))),
        NUMERIC => Value::Numeric(take_text(first, input)?.into()),
        TEXT => Value::text(take_text(first, input)?),
        DATE => {
            let year = i16::try_from(input.signed()?).map_err(|_| BadRecord)?;
            let (month, day) = (input.byte()?.cast_signed(), input.byte()?.cast_signed());
            Value::Date(Date::new(year, month, day).map_err(|_| BadRecord)?)
        }
        TIME_MICROS => Value::Time(Timestamp::from_micros(input.signed()?).ok_or(BadRecord)?),
        TIME_SECONDS => {
            let micros = input.signed()?.checked_mul(1_000_000).ok_or(BadRecord)?;
            Value::Time(Timestamp::from_micros(micros).ok_or(BadRecord)?)
        }
        JSON => Value::Json(Json::kept(take_text(first, input)?)),
        LIST => {
            let mut items = Vec::new();
            for _ in 0..input.length()? {
                items.push(input.text()?);
            }
            Value::List(items.into())
        }
        _ => return Err(BadRecord),
    })
}

/// The bytes of a value, unread.
pub(super) fn skim<'a>(input: &mut Reader<'a>) -> Result<&'a [u8], BadRecord> {
    input.span(|input| {
        let first = input.byte()?;
        match first & 15 {
            NULL | FALSE | TRUE => {}
            INT | TIME_MICROS | TIME_SECONDS => {
                input.varint()?;
            }
            FLOAT => {
                input.take(8)?;
            }
            NUMERIC | TEXT | JSON => {
                let length = if first >> 4 == LONG { input.length()? } else { usize::from(first >> 4) };
                input.take(length)?;
            }
            DATE => {
                input.varint()?;
                input.take(2)?;
            }
            LIST => {
                for _ in 0..input.length()? {
                    input.bytes()?;
                }
            }
            _ => return Err(BadRecord),
        }
        Ok(())
    })
}
