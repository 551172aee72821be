//! Phone numbers as libphonenumber reads them.

use phonenumber::metadata::DATABASE;
use phonenumber::{PhoneNumber, country};

use super::super::answer::Refusal;

/// A number in the parts that the server keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Phone {
    /// The national number; an extension is dropped.
    pub number: String,
    /// Two letters; empty for numbers of no country.
    pub country: String,
    /// `+33`.
    pub calling_code: String,
}

/// Reads a number, with its country or calling code where it does not begin with `+`. Both may be empty.
///
/// # Errors
/// When there is no telling which number it is.
pub(super) fn parse(number: &str, country: &str, calling_code: &str) -> Result<Phone, Refusal> {
    let region = match country {
        "" => None,
        code if code.len() == 2 && code.bytes().all(|byte| byte.is_ascii_uppercase()) => {
            Some(code.parse::<country::Id>().map_err(|_| Refusal::bad("Invalid country code"))?)
        }
        _ => return Err(Refusal::bad("Invalid country code: two upper-case letters are wanted")),
    };
    let code_ok = calling_code
        .strip_prefix('+')
        .is_some_and(|code| (1..=3).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_digit()));
    if !calling_code.is_empty() && !code_ok {
        return Err(Refusal::bad("Invalid calling code: one such as +33 is wanted"));
    }
    // The parser looks for a number anywhere in a text. A client has to know which characters it may rely on.
    let plain = number.bytes().all(|byte| byte.is_ascii_digit() || b"+ ().-/;=,#extEXT".contains(&byte));
    if !plain {
        return Err(invalid());
    }
    let whole = match (number.starts_with('+'), region, calling_code) {
        (true, ..) | (false, Some(_), _) => number.to_owned(),
        (false, None, "") => {
            return Err(Refusal::bad(
                "Invalid phone number: without + it needs a country code or a calling code",
            ));
        }
        (false, None, code) => format!("{code}{number}"),
    };
    let parsed = phonenumber::parse(region, &whole).map_err(|_| invalid())?;
    if !parsed.is_valid() {
        return Err(invalid());
    }
    let phone = Phone {
        number: parsed.national().to_string(),
        country: region_of(&parsed).unwrap_or_default(),
        calling_code: format!("+{}", parsed.country().code()),
    };
    if !country.is_empty() && phone.country != country {
        return Err(Refusal::bad("Provided country code does not match the phone number"));
    }
    if !calling_code.is_empty() && phone.calling_code != calling_code {
        return Err(Refusal::bad("Provided calling code does not match the phone number"));
    }
    Ok(phone)
}

/// The country of a number; none for those of no country.
fn region_of(number: &PhoneNumber) -> Option<String> {
    if let Some(id) = number.country().id() {
        return Some(id.as_ref().to_owned());
    }
    // The library looks without leading zeros, which are part of Italian numbers.
    let national = number.national().to_string();
    let regions = DATABASE.region(&number.country().code())?;
    let of_it = |region: &&str| {
        let metadata = DATABASE.by_id(*region);
        metadata.is_some_and(|metadata| metadata.descriptors().general().is_match(&national))
    };
    regions.into_iter().filter(|region| *region != "001").find(of_it).map(str::to_owned)
}

fn invalid() -> Refusal {
    Refusal::bad("Invalid phone number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_apart_as_measured() {
        let cases = [
            (("+33612345678", "", ""), ("612345678", "FR", "+33")),
            (("+447911123456", "", ""), ("7911123456", "GG", "+44")),
            (("7911123456", "GG", "+44"), ("7911123456", "GG", "+44")),
            (("06 12 34 56 78", "FR", ""), ("612345678", "FR", "+33")),
            (("612345678", "", "+33"), ("612345678", "FR", "+33")),
            (("+1 202-555-0123", "", ""), ("2025550123", "US", "+1")),
            (("+1 202 555 0123 ext. 45", "US", ""), ("2025550123", "US", "+1")),
            (("+390612345678", "", ""), ("0612345678", "IT", "+39")),
            (("+4930123456", "", ""), ("30123456", "DE", "+49")),
        ];
        for ((number, country, code), (national, region, calling)) in cases {
            let phone = parse(number, country, code).unwrap_or_else(|error| panic!("{number}: {error:?}"));
            let expected = (national.to_owned(), region.to_owned(), calling.to_owned());
            assert_eq!((phone.number, phone.country, phone.calling_code), expected, "{number}");
        }
        let bad = [
            ("0612345678", "", ""),
            ("+33612345678", "US", ""),
            ("+33612345678", "", "+1"),
            ("+1", "", ""),
            ("hello", "US", ""),
            ("+12025550123 / +12025550124", "", ""),
            ("2025550123", "us", ""),
            ("+99912345678", "", ""),
        ];
        for (number, country, code) in bad {
            assert!(parse(number, country, code).is_err(), "{number}");
        }
    }
}
