//! What callers have to show: tokens and signatures, compared in a time that does not depend on them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// How far the time of a signed request may be from ours, in seconds: clocks differ, and senders try again.
const TOLERANCE_SECONDS: i64 = 300;

/// Signatures that are remembered, so that none is taken twice. Older ones are refused by their time; at most as many as may come
/// within that.
const REMEMBERED: usize = 100_000;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The sender does not have the secret.
    Forged,
    /// It came before, or is too old.
    Replayed,
}

/// Whether two texts are equal. Both are hashed first, so that neither the place of a difference nor a length shows in the time.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    let (a, b) = (Sha256::digest(a), Sha256::digest(b));
    a.iter().zip(b.iter()).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Whether a request carries a token, as `Authorization: Bearer ...`.
pub(super) fn bears(headers: &HeaderMap, token: &str) -> bool {
    let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let shown = shown.and_then(|value| value.strip_prefix("Bearer "));
    !token.is_empty() && shown.is_some_and(|shown| same(shown.trim().as_bytes(), token.as_bytes()))
}

/// Who shows a token: as [`bears`], or as the password that a browser asks for, with a name of their own. None when it is not shown.
pub(super) fn visitor(headers: &HeaderMap, token: &str) -> Option<String> {
    const NAMELESS: &str = "somebody on the page";
    if bears(headers, token) {
        return Some(NAMELESS.to_owned());
    }
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let shown = String::from_utf8(BASE64_STANDARD.decode(shown.trim()).ok()?).ok()?;
    let (name, password) = shown.split_once(':')?;
    let known = !token.is_empty() && same(password.as_bytes(), token.as_bytes());
    known.then(|| if name.trim().is_empty() { NAMELESS.to_owned() } else { name.trim().to_owned() })
}

/// What only those can make who have a token, for a purpose.
pub(super) fn proof(token: &str, purpose: &str) -> Option<String> {
    let mut mac = mac(token).ok()?;
    mac.update(purpose.as_bytes());
    Some(crate::model::hex(&mac.finalize().into_bytes()))
}

/// Signatures that were taken.
#[derive(Debug, Default)]
pub(super) struct Taken(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    known: BTreeSet<[u8; 32]>,
    order: VecDeque<[u8; 32]>,
}

impl Taken {
    /// Whether it is new; it is not from now on.
    fn is_new(&self, signature: [u8; 32]) -> bool {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !recent.known.insert(signature) {
            return false;
        }
        recent.order.push_back(signature);
        if recent.order.len() > REMEMBERED
            && let Some(oldest) = recent.order.pop_front()
        {
            recent.known.remove(&oldest);
        }
        true
    }
}

/// How a sender signs a webhook: with the HMAC-SHA-256, in hexadecimal, of a time, a separator and the body.
pub(super) struct Signing {
    /// The header with the time.
    time: &'static str,
    /// How many of the time's units are a second.
    per_second: i64,
    /// The header with the signature.
    signature: &'static str,
    /// What stands before it there.
    prefix: &'static str,
    separator: &'static [u8],
}

/// Any sender's webhooks, as the README describes them.
pub(super) const GENERIC: Signing = Signing {
    time: "x-trueup-timestamp",
    per_second: 1,
    signature: "x-trueup-signature",
    prefix: "sha256=",
    separator: b".",
};

/// The webhooks of Twenty.
pub(super) const TWENTY: Signing = Signing {
    time: "x-twenty-webhook-timestamp",
    per_second: 1000,
    signature: "x-twenty-webhook-signature",
    prefix: "",
    separator: b":",
};

impl Signing {
    /// Checks a webhook.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn check(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        secret: &str,
        now_seconds: i64,
        taken: &Taken,
    ) -> Result<(), Refused> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(time), Some(signature)) = (text(self.time), text(self.signature)) else {
            return Err(Refused::Forged);
        };
        let signature = signature.strip_prefix(self.prefix).and_then(unhex).ok_or(Refused::Forged)?;
        let mut mac = mac(secret)?;
        mac.update(time.as_bytes());
        mac.update(self.separator);
        mac.update(body);
        mac.verify_slice(&signature).map_err(|_| Refused::Forged)?;
        let sent: i64 = time.parse().map_err(|_| Refused::Forged)?;
        let away = now_seconds.abs_diff(sent / self.per_second);
        if away > TOLERANCE_SECONDS.unsigned_abs() || !taken.is_new(signature) {
            return Err(Refused::Replayed);
        }
        Ok(())
    }
}

/// Checks a webhook whose sender cannot sign: the secret itself is in `X-Trueup-Secret` or `Authorization: Bearer ...`.
///
/// # Errors
/// When it is not.
pub(super) fn shared(headers: &HeaderMap, secret: &str) -> Result<(), Refused> {
    let shown = headers.get("x-trueup-secret").map(|value| same(value.as_bytes(), secret.as_bytes()));
    let known = !secret.is_empty() && (shown == Some(true) || bears(headers, secret));
    if known { Ok(()) } else { Err(Refused::Forged) }
}

fn mac(secret: &str) -> Result<Hmac<Sha256>, Refused> {
    if secret.is_empty() {
        return Err(Refused::Forged);
    }
    Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map_err(|_| Refused::Forged)
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}

/// The secrets of the manifests, read from where those say.
pub type Secrets = BTreeMap<crate::model::StoreName, String>;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_782_000_000;

    fn headers(pairs: &[(&'static str, String)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn sign(secret: &str, text: &str) -> String {
        let mut mac = mac(secret).unwrap();
        mac.update(text.as_bytes());
        crate::model::hex(&mac.finalize().into_bytes())
    }

    /// An empty secret is everybody's.
    fn signed_by_anybody(text: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(b"").unwrap();
        mac.update(text.as_bytes());
        crate::model::hex(&mac.finalize().into_bytes())
    }

    #[test]
    fn a_signature_is_good_once_and_for_a_while() {
        let sent = |time: i64, body: &str| {
            headers(&[
                ("x-trueup-timestamp", time.to_string()),
                ("x-trueup-signature", format!("sha256={}", sign("hush", &format!("{time}.{body}")))),
            ])
        };
        let taken = Taken::default();
        assert_eq!(GENERIC.check(&sent(NOW, "{}"), b"{}", "hush", NOW + 10, &taken), Ok(()));
        assert_eq!(GENERIC.check(&sent(NOW, "{}"), b"{}", "hush", NOW + 10, &taken), Err(Refused::Replayed));
        assert_eq!(GENERIC.check(&sent(NOW, "{}"), b"{ }", "hush", NOW, &taken), Err(Refused::Forged));
        assert_eq!(GENERIC.check(&sent(NOW + 1, "{}"), b"{}", "other", NOW, &taken), Err(Refused::Forged));
        assert_eq!(GENERIC.check(&sent(NOW - 301, "{}"), b"{}", "hush", NOW, &taken), Err(Refused::Replayed));
        assert_eq!(GENERIC.check(&sent(NOW + 301, "{}"), b"{}", "hush", NOW, &taken), Err(Refused::Replayed));
        assert_eq!(GENERIC.check(&HeaderMap::new(), b"{}", "hush", NOW, &taken), Err(Refused::Forged));
        assert_eq!(GENERIC.check(&sent(NOW + 2, "{}"), b"{}", "", NOW, &taken), Err(Refused::Forged));
    }

    #[test]
    fn twentys_signature_covers_the_time_in_milliseconds() {
        let body = r#"{"eventName":"person.updated"}"#;
        let time = (NOW * 1000 + 250).to_string();
        let signature = sign("hush", &format!("{time}:{body}"));
        let sent =
            headers(&[("x-twenty-webhook-timestamp", time), ("x-twenty-webhook-signature", signature)]);
        let taken = Taken::default();
        assert_eq!(TWENTY.check(&sent, body.as_bytes(), "hush", NOW, &taken), Ok(()));
        assert_eq!(TWENTY.check(&sent, body.as_bytes(), "hush", NOW, &taken), Err(Refused::Replayed));
        assert_eq!(TWENTY.check(&sent, b"{}", "hush", NOW, &taken), Err(Refused::Forged));
        let signed = |secret: &str, time: i64, signature: Option<String>| {
            let signature = signature.unwrap_or_else(|| sign(secret, &format!("{time}:{body}")));
            headers(&[
                ("x-twenty-webhook-timestamp", time.to_string()),
                ("x-twenty-webhook-signature", signature),
            ])
        };
        let check = |sent: &HeaderMap, secret: &str| TWENTY.check(sent, body.as_bytes(), secret, NOW, &taken);
        // Small letters and capitals are one signature.
        let capitals = sent["x-twenty-webhook-signature"].to_str().unwrap().to_uppercase();
        assert_eq!(check(&signed("hush", NOW * 1000 + 250, Some(capitals)), "hush"), Err(Refused::Replayed));
        for far in [NOW - 301, NOW + 301, 0, i64::MAX / 1000] {
            assert_eq!(check(&signed("hush", far * 1000, None), "hush"), Err(Refused::Replayed), "{far}");
        }
        assert_eq!(check(&signed("hush", (NOW - 299) * 1000, None), "hush"), Ok(()));
        assert_eq!(check(&signed("other", NOW * 1000, None), "hush"), Err(Refused::Forged));
        let made = signed_by_anybody(&format!("{}:{body}", NOW * 1000));
        assert_eq!(check(&signed("", NOW * 1000, Some(made)), ""), Err(Refused::Forged));
        for bad in ["", "zz", "0b", &"x".repeat(64), &"é".repeat(32)] {
            assert_eq!(
                check(&signed("hush", NOW * 1000, Some(bad.to_owned())), "hush"),
                Err(Refused::Forged)
            );
        }
        assert_eq!(check(&HeaderMap::new(), "hush"), Err(Refused::Forged));
    }

    #[test]
    fn a_token_is_compared_whole() {
        let sent = |value: &str| headers(&[("authorization", value.to_owned())]);
        assert!(bears(&sent("Bearer hush"), "hush"));
        for wrong in ["Bearer hus", "Bearer hushh", "hush", "Basic hush", "Bearer "] {
            assert!(!bears(&sent(wrong), "hush"), "{wrong}");
        }
        assert!(!bears(&sent("Bearer "), ""));
        assert_eq!(shared(&headers(&[("x-trueup-secret", "hush".to_owned())]), "hush"), Ok(()));
        assert_eq!(shared(&HeaderMap::new(), "hush"), Err(Refused::Forged));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let taken = Taken::default();
        for number in 0..=REMEMBERED {
            assert!(taken.is_new(Sha256::digest(number.to_be_bytes()).into()));
        }
        assert_eq!(taken.0.lock().unwrap().known.len(), REMEMBERED);
    }
}
