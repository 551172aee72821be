//! What the server tells by itself when a record changes: checked, and taken as a hint.
//!
//! Such a call is signed over its time and its body. It comes once or not at all, in any order, so nothing depends on it: it only names a
//! record that is worth looking at sooner.

use std::collections::{BTreeSet, VecDeque};

use hmac::{Hmac, Mac as _};
use serde_json::Value as Json;
use sha2::Sha256;

use crate::model::StoreRecordId;

/// The header with the time, in milliseconds since 1970.
pub const TIMESTAMP_HEADER: &str = "x-twenty-webhook-timestamp";
/// The header with the signature, in hexadecimal.
pub const SIGNATURE_HEADER: &str = "x-twenty-webhook-signature";

/// How far a call's time may be from ours, in milliseconds.
pub const WINDOW_MS: u64 = 5 * 60 * 1_000;

/// Calls within the window that are remembered, so that none counts twice: a burst of this many in five minutes, at 80 bytes each.
const MOST_SEEN: usize = 50_000;

/// A record that is worth looking at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// The object, in the singular: `person`.
    pub object: String,
    /// What happened: `created`, `updated`, `deleted`, `restored` or `destroyed`.
    pub event: String,
    /// The record's id.
    pub id: StoreRecordId,
    /// The record's text fields by name, for finding its key without asking: what a mapping's key column holds.
    pub record: Json,
}

impl Hint {
    /// What the record carries in its key's column, if it carries something.
    pub fn key(&self, column: &str) -> Option<&str> {
        self.record.get(column)?.as_str().filter(|text| !text.is_empty())
    }
}

/// Why a call does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejected {
    /// A header is missing, or is none.
    Headers,
    /// It is not signed with our secret.
    Signature,
    /// It is too old, or from the future.
    Time,
    /// It came before.
    Replayed,
    /// It says nothing of a record.
    Body,
}

impl Rejected {
    /// The word used in metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Headers => "headers",
            Self::Signature => "signature",
            Self::Time => "time",
            Self::Replayed => "replayed",
            Self::Body => "body",
        }
    }
}

/// Calls that came within the window.
#[derive(Debug, Default)]
pub struct Seen {
    in_order: VecDeque<(u64, [u8; 32])>,
    all: BTreeSet<[u8; 32]>,
}

impl Seen {
    /// Takes note of a call; false where it came before.
    fn note(&mut self, now_ms: u64, signature: [u8; 32]) -> bool {
        while self.in_order.len() >= MOST_SEEN
            || self.in_order.front().is_some_and(|(at, _)| at.saturating_add(2 * WINDOW_MS) < now_ms)
        {
            let Some((_, old)) = self.in_order.pop_front() else { break };
            self.all.remove(&old);
        }
        let fresh = self.all.insert(signature);
        if fresh {
            self.in_order.push_back((now_ms, signature));
        }
        fresh
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// Checks a call. `header` gives the value of a header by its name in small letters; `body` is what came, byte for byte.
///
/// # Errors
/// Why it does not count.
pub fn verify<'h>(
    secret: &str,
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now_ms: u64,
    seen: &mut Seen,
) -> Result<Hint, Rejected> {
    let timestamp = header(TIMESTAMP_HEADER).ok_or(Rejected::Headers)?;
    let at: u64 = timestamp.trim().parse().map_err(|_| Rejected::Headers)?;
    let signature =
        header(SIGNATURE_HEADER).and_then(|text| from_hex(text.trim())).ok_or(Rejected::Headers)?;
    // An empty secret would be everybody's.
    if secret.is_empty() {
        return Err(Rejected::Signature);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| Rejected::Signature)?;
    mac.update(timestamp.trim().as_bytes());
    mac.update(b":");
    mac.update(body);
    // Compares in the same time wherever the difference lies.
    mac.verify_slice(&signature).map_err(|_| Rejected::Signature)?;
    if at.abs_diff(now_ms) > WINDOW_MS {
        return Err(Rejected::Time);
    }
    if !seen.note(now_ms, signature) {
        return Err(Rejected::Replayed);
    }
    hint(body).ok_or(Rejected::Body)
}

fn hint(body: &[u8]) -> Option<Hint> {
    let json: Json = serde_json::from_slice(body).ok()?;
    let name = json.get("eventName")?.as_str()?;
    let (object, event) = name.split_once('.')?;
    let record = json.get("record")?;
    let id = record.get("id")?.as_str()?;
    let texts = record.as_object()?.iter().filter(|(_, value)| value.is_string());
    Some(Hint {
        object: json
            .pointer("/objectMetadata/nameSingular")
            .and_then(Json::as_str)
            .unwrap_or(object)
            .to_owned(),
        event: event.to_owned(),
        id: StoreRecordId(id.to_owned()),
        record: Json::Object(texts.map(|(name, value)| (name.clone(), value.clone())).collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "not a real one";
    const NOW: u64 = 1_760_000_000_000;

    fn sign(secret: &str, at: u64, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
        mac.update(format!("{at}:").as_bytes());
        mac.update(body);
        crate::model::hex(&mac.finalize().into_bytes())
    }

    fn body() -> Vec<u8> {
        serde_json::json!({
            "eventName": "person.updated",
            "objectMetadata": {"id": "x", "nameSingular": "person"},
            "record": {"id": "0b5c2f8e-0000-4000-8000-000000000001", "contactId": "C1", "name": {"firstName": "Ann"}},
            "updatedFields": ["name"],
        })
        .to_string()
        .into_bytes()
    }

    fn check(
        secret: &str,
        at: &str,
        signature: &str,
        body: &[u8],
        seen: &mut Seen,
    ) -> Result<Hint, Rejected> {
        let header = |name: &str| match name {
            TIMESTAMP_HEADER => Some(at),
            SIGNATURE_HEADER => Some(signature),
            _ => None,
        };
        verify(secret, header, body, NOW, seen)
    }

    #[test]
    fn a_signed_call_names_its_record() {
        let signature = sign(SECRET, NOW, &body());
        let hint = check(SECRET, &NOW.to_string(), &signature, &body(), &mut Seen::default()).expect("good");
        assert_eq!((hint.object.as_str(), hint.event.as_str()), ("person", "updated"));
        assert_eq!(hint.key("contactId"), Some("C1"));
        assert_eq!((hint.key("name"), hint.key("nothing")), (None, None));
    }

    #[test]
    fn forged_old_and_repeated_calls_do_not_count() {
        let good = sign(SECRET, NOW, &body());
        let at = NOW.to_string();
        let seen = &mut Seen::default();
        assert_eq!(check("another", &at, &good, &body(), seen), Err(Rejected::Signature));
        assert_eq!(check("", &at, &sign("", NOW, &body()), &body(), seen), Err(Rejected::Signature));
        let mut other = body();
        other.push(b' ');
        assert_eq!(check(SECRET, &at, &good, &other, seen), Err(Rejected::Signature), "the body is signed");
        let later = (NOW + 1).to_string();
        assert_eq!(check(SECRET, &later, &good, &body(), seen), Err(Rejected::Signature), "so is the time");
        for bad in ["", "zz", &good[1..], &good.replace(|c: char| c.is_ascii_digit(), "x")] {
            assert_eq!(check(SECRET, &at, bad, &body(), seen), Err(Rejected::Headers), "{bad}");
        }
        for old in [NOW - WINDOW_MS - 1, NOW + WINDOW_MS + 1, 0, u64::MAX] {
            let signature = sign(SECRET, old, &body());
            assert_eq!(
                check(SECRET, &old.to_string(), &signature, &body(), seen),
                Err(Rejected::Time),
                "{old}"
            );
        }
        assert!(check(SECRET, &at, &good, &body(), seen).is_ok());
        assert_eq!(check(SECRET, &at, &good, &body(), seen), Err(Rejected::Replayed));
        assert_eq!(check(SECRET, &at, &good.to_uppercase(), &body(), seen), Err(Rejected::Replayed));
        for senseless in ["", "{}", "[]", r#"{"eventName":"person","record":{"id":"1"}}"#, "\u{0}"] {
            let signature = sign(SECRET, NOW, senseless.as_bytes());
            assert_eq!(check(SECRET, &at, &signature, senseless.as_bytes(), seen), Err(Rejected::Body));
        }
    }

    #[test]
    fn what_was_seen_is_bounded() {
        let mut seen = Seen::default();
        for number in 0..(MOST_SEEN as u64 + 10) {
            let mut signature = [0; 32];
            signature[..8].copy_from_slice(&number.to_le_bytes());
            assert!(seen.note(NOW, signature));
        }
        assert_eq!((seen.in_order.len(), seen.all.len()), (MOST_SEEN, MOST_SEEN));
        assert!(seen.note(NOW + 2 * WINDOW_MS + 1, [9; 32]));
        assert_eq!(seen.all.len(), 1, "what lies outside the window is forgotten");
    }
}
