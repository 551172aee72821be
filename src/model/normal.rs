//! Normal forms of names, e-mail addresses and phone numbers: what two spellings of the same thing have in common.

use std::panic::{AssertUnwindSafe, catch_unwind};

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Longer texts are no phone numbers: the longest number has fifteen digits, and people write notes beside it.
const LONGEST_PHONE: usize = 250;

/// A phone number, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phone {
    /// `+12025550123`, without an extension.
    pub e164: String,
    /// The country calling code without `+`: `1`.
    pub country_code: String,
    /// The area code, where the country's numbers have one.
    pub area_code: Option<String>,
    /// The number within its area.
    pub local_number: String,
}

/// A name's normal form: compatibility letters made plain, marks dropped, case folded; letters, digits and single spaces
/// are what is left.
pub fn name(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    // Folding can bring marks back (`İ` becomes `i` and a dot) and letters that decompose: both are taken apart again.
    let folded: String = text.nfkd().flat_map(fold).collect();
    for c in folded.nfkd().filter(|c| !is_combining_mark(*c)) {
        if c.is_alphanumeric() {
            normal.push(c);
        } else if c.is_whitespace() && !normal.is_empty() && !normal.ends_with(' ') {
            normal.push(' ');
        }
    }
    normal.truncate(normal.trim_end().len());
    normal
}

/// A character with its case folded: as in lower case, save for the letters whose lower case still tells spellings apart.
fn fold(c: char) -> impl Iterator<Item = char> {
    let (special, plain): (&'static [char], Option<char>) = match c {
        'ß' | 'ẞ' => (&['s', 's'], None),
        'ς' => (&['σ'], None),
        'ſ' => (&['s'], None),
        // Cherokee folds to its capitals; they have small letters only since Unicode 8.
        '\u{ab70}'..='\u{abbf}' | '\u{13f8}'..='\u{13fd}' => (&[], Some(c)),
        _ => (&[], None),
    };
    let upper = plain.into_iter().flat_map(char::to_uppercase);
    let lower = (special.is_empty() && plain.is_none()).then_some(c).into_iter().flat_map(char::to_lowercase);
    // Capital Cherokee is folded already, so its lower case must not be taken.
    let lower = lower.map(|c| match c {
        '\u{ab70}'..='\u{abbf}' | '\u{13f8}'..='\u{13fd}' => c.to_uppercase().next().unwrap_or(c),
        'ς' => 'σ',
        other => other,
    });
    special.iter().copied().chain(upper).chain(lower)
}

/// An e-mail address's normal form, for comparison: trimmed, in lower case, its domain in ASCII; none when it is no address.
pub fn email(text: &str) -> Option<String> {
    let (local, domain) = email_parts(text)?;
    Some(format!("{local}@{domain}"))
}

/// The domain of an e-mail address, in ASCII.
pub fn email_domain(text: &str) -> Option<String> {
    email_parts(text).map(|(_, domain)| domain)
}

fn email_parts(text: &str) -> Option<(String, String)> {
    let (local, domain) = text.trim().rsplit_once('@')?;
    let odd = |c: char| c.is_whitespace() || c.is_control();
    if local.is_empty() || local.contains(odd) || domain.contains(odd) || domain.contains('@') {
        return None;
    }
    let local = local.to_lowercase();
    // A domain that is no valid name is still somebody's: it is compared as it stands.
    let ascii = idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase());
    let ascii = ascii.trim_end_matches('.').to_owned();
    // Compatibility letters can come apart into blanks and signs that no address has.
    (!ascii.is_empty() && !ascii.contains(odd) && !ascii.contains('@')).then_some((local, ascii))
}

/// A value's normal form by its kind: that of a `phone` or an `email`; of any other kind the trimmed text in lower case. None when it has
/// none.
pub fn identifier(kind: &str, text: &str, region: Option<&str>) -> Option<String> {
    match kind {
        "phone" => phone(text, region).map(|phone| phone.e164),
        "email" => email(text),
        _ => Some(text.trim().to_lowercase()).filter(|text| !text.is_empty()),
    }
}

/// A phone number, read in `region` (ISO 3166, as `US`) where it has no `+`; none when it does not parse.
pub fn phone(text: &str, region: Option<&str>) -> Option<Phone> {
    let text = text.trim();
    if text.len() > LONGEST_PHONE || !text.chars().any(|c| c.is_numeric() || c.is_alphabetic()) {
        return None;
    }
    let region = region.and_then(|region| region.parse::<phonenumber::country::Id>().ok());
    // The parser has panicked on strange texts, and what people type into phone fields is strange. It keeps no state between
    // calls, so nothing half-done is left behind.
    catch_unwind(AssertUnwindSafe(|| parse_phone(text, region))).ok().flatten()
}

/// Whether a number in the form of [`Phone::e164`] is one that its country gives out, as libphonenumber knows them.
pub fn is_given_out(e164: &str) -> bool {
    catch_unwind(|| phonenumber::parse(None, e164).is_ok_and(|parsed| parsed.is_valid())).unwrap_or(false)
}

fn parse_phone(text: &str, region: Option<phonenumber::country::Id>) -> Option<Phone> {
    let parsed = phonenumber::parse(region, text).ok()?;
    let country_code = parsed.code().value().to_string();
    let national = parsed.national().to_string();
    if national.is_empty() || !national.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (area_code, local_number) = match area_length(&parsed, &national) {
        0 => (None, national.clone()),
        length => (Some(national[..length].to_owned()), national[length..].to_owned()),
    };
    Some(Phone { e164: format!("+{country_code}{national}"), country_code, area_code, local_number })
}

/// How many of a national number's digits are its area code; 0 where it has none.
fn area_length(parsed: &phonenumber::PhoneNumber, national: &str) -> usize {
    // In the North American plan the area is the first three digits of ten, always.
    if parsed.code().value() == 1 {
        return if national.len() == 10 { 3 } else { 0 };
    }
    // Elsewhere the way the number is written tells: what its country puts before the first gap, if that is not all of it.
    let written = parsed.format().mode(phonenumber::Mode::International).to_string();
    let prefix = format!("+{}", parsed.code().value());
    let Some(rest) = written.strip_prefix(&prefix) else { return 0 };
    let groups: Vec<&str> =
        rest.split(|c: char| !c.is_ascii_digit()).filter(|group| !group.is_empty()).collect();
    let fits = groups.concat() == national;
    match groups.as_slice() {
        [first, _, ..] if fits => first.len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::{Phone, email, email_domain, name, phone};
    use proptest::prelude::*;

    #[test]
    fn names() {
        let cases = [
            ("  Ann   Example ", "ann example"),
            ("José Ñandú", "jose nandu"),
            ("O'Brien-Smith, Jr.", "obriensmith jr"),
            ("ﬁancé №5", "fiance no5"),
            ("Straße", "strasse"),
            ("STRASSE", "strasse"),
            ("ΟΔΥΣΣΕΥΣ", "οδυσσευσ"),
            ("Οδυσσεύς", "οδυσσευσ"),
            ("İstanbul", "istanbul"),
            ("山田 太郎", "山田 太郎"),
            ("Ann\u{a0}\tExample\n", "ann example"),
            ("ᏣᎳᎩ", "ᏣᎳᎩ"),
            ("ꮳꮃꭹ", "ᏣᎳᎩ"),
            ("...", ""),
            ("", ""),
        ];
        for (text, normal) in cases {
            assert_eq!(name(text), normal, "{text}");
        }
    }

    #[test]
    fn emails() {
        let cases = [
            (" Ann@Example.COM ", Some("ann@example.com"), Some("example.com")),
            ("ann@bücher.example", Some("ann@xn--bcher-kva.example"), Some("xn--bcher-kva.example")),
            ("ann@XN--BCHER-KVA.example", Some("ann@xn--bcher-kva.example"), Some("xn--bcher-kva.example")),
            ("ann@example.com.", Some("ann@example.com"), Some("example.com")),
            ("ann.example.com", None, None),
            ("@example.com", None, None),
            ("ann@", None, None),
            ("ann example@example.com", None, None),
            ("ann@exam ple.com", None, None),
            ("ann@.", None, None),
            ("", None, None),
        ];
        for (text, normal, domain) in cases {
            assert_eq!(email(text).as_deref(), normal, "{text}");
            assert_eq!(email_domain(text).as_deref(), domain, "{text}");
        }
    }

    fn sample(local: &str) -> Phone {
        Phone {
            e164: format!("+1202{local}"),
            country_code: "1".into(),
            area_code: Some("202".into()),
            local_number: local.into(),
        }
    }

    #[test]
    fn phones() {
        let cases = [
            ("+1 202 555 0123", None, Some(sample("5550123"))),
            ("(202) 555-0123", Some("US"), Some(sample("5550123"))),
            ("202.555.0123 ext. 7", Some("US"), Some(sample("5550123"))),
            ("+1 (202) 555-0199 x42", Some("IT"), Some(sample("5550199"))),
            ("1-202-555-0142", Some("US"), Some(sample("5550142"))),
            ("(202) 555-0123", None, None),
            ("(202) 555-0123", Some("nowhere"), None),
            ("(202) 555-0123; 1 (202) 555-0142..", Some("US"), None),
            ("", Some("US"), None),
            ("call me", Some("US"), None),
            ("+", Some("US"), None),
            ("12", Some("US"), None),
        ];
        for (text, region, normal) in cases {
            assert_eq!(phone(text, region), normal, "{text}");
        }
    }

    /// A normal form has itself for its normal form.
    fn is_its_own(text: &str) {
        assert_eq!(name(&name(text)), name(text));
        if let Some(once) = email(text) {
            assert_eq!(email(&once), Some(once.clone()));
        }
        if let Some(once) = phone(text, Some("US")) {
            assert_eq!(phone(&once.e164, None).map(|again| again.e164), Some(once.e164));
        }
    }

    /// Found by chance.
    #[test]
    fn signs_that_fall_apart_into_others_have_normal_forms_too() {
        is_its_own("A@®¨");
    }

    proptest! {
        #[test]
        fn normal_forms_are_their_own(text in "\\PC{0,40}") {
            is_its_own(&text);
        }

        #[test]
        fn nothing_panics(text in any::<String>(), region in "[A-Z]{0,3}") {
            let _ = (name(&text), email(&text), email_domain(&text), phone(&text, Some(&region)), phone(&text, None));
        }

        #[test]
        fn phone_like_texts_do_not_panic(
            text in "[0-9+() .;,x#*/\u{ff0b}\u{0661}\u{fe61}-]{0,40}",
            region in "US|IT|GB|DE|JP|AR|MX|BR",
        ) {
            if let Some(once) = phone(&text, Some(&region)) {
                let digits = format!("+{}{}{}", once.country_code, once.area_code.unwrap_or_default(), once.local_number);
                prop_assert_eq!(digits, once.e164);
            }
        }
    }
}
