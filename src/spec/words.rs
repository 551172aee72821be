//! The small texts inside manifests: durations, shares, sizes, references to the outside; and near names for hints.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::Reference;
use super::yaml::shorten;

const DURATION_UNITS: [(&str, u64); 6] =
    [("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// A duration in milliseconds: `30s`, `5m`, `1h30m`, `250ms`.
pub(crate) fn duration_ms(text: &str) -> Result<u64, String> {
    let bad =
        || format!("`{}` is no duration: write it like `30s`, `5m`, `1h30m`, `250ms` or `7d`", shorten(text));
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let scale = DURATION_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(bad)?.1;
        let number: u64 = number.parse().map_err(|_| bad())?;
        let part = number.checked_mul(scale).ok_or_else(bad)?;
        total = total.checked_add(part).ok_or_else(bad)?;
        rest = tail;
    }
    // Ten thousand years: more would not fit what durations are added to.
    if total > 315_360_000_000_000 {
        Err(format!("`{}` is too long a duration", shorten(text)))
    } else {
        Ok(total)
    }
}

/// A duration as manifests write it.
pub(super) fn duration_text(ms: u64) -> String {
    let mut rest = ms;
    let mut text = String::new();
    for (unit, scale) in DURATION_UNITS {
        if unit != "w" && rest >= scale {
            let _ = write!(text, "{}{unit}", rest / scale);
            rest %= scale;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// A share between 0 and 1: `10%`, `2.5%`.
pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let bad = || format!("`{}` is no share: write it like `10%`, from `0%` to `100%`", shorten(text));
    let number = text.trim().strip_suffix('%').ok_or_else(bad)?.trim_end();
    let plain = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let number: f64 = if plain { number.parse().map_err(|_| bad())? } else { return Err(bad()) };
    if (0.0..=100.0).contains(&number) { Ok(number / 100.0) } else { Err(bad()) }
}

/// A share as manifests write it.
pub(super) fn ratio_text(ratio: f64) -> String {
    // Through hundredths of a per cent, so that 0.3 is `30%` and not `30.000000000000004%`.
    format!("{}%", (ratio * 1e8).round() / 1e6)
}

/// A number of bytes: `2GiB`, `500MB`, `1024`.
pub(super) fn size_bytes(text: &str) -> Result<u64, String> {
    let bad = || format!("`{}` is no size: write it like `2GiB`, `500MB` or `1024`", shorten(text));
    let text_trimmed = text.trim();
    let digits = text_trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(text_trimmed.len());
    let (number, unit) = text_trimmed.split_at(digits);
    let scale: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        _ => return Err(bad()),
    };
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale)).ok_or_else(bad)
}

/// Whether a text holds something meant as a reference to the outside.
pub(super) fn mentions_reference(text: &str) -> bool {
    text.match_indices("${").any(|(at, _)| {
        let word: String = text[at + 2..].chars().take_while(char::is_ascii_alphabetic).collect();
        text[at + 2 + word.len()..].starts_with(':')
    })
}

/// A text that may be `${env:NAME}` or `${file:PATH}`.
pub(super) fn reference(text: &str) -> Result<Reference, String> {
    if !text.contains("${") {
        return Ok(Reference::Plain(text.to_owned()));
    }
    let inside = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    let Some(inside) = inside.filter(|inside| !inside.contains(['{', '}'])) else {
        return Err(
            "a reference stands alone, with nothing before or after it: `${env:NAME}` or `${file:PATH}`"
                .to_owned(),
        );
    };
    match inside.split_once(':') {
        Some(("env", name)) if is_env_name(name) => Ok(Reference::Env(name.to_owned())),
        Some(("env", _)) => {
            Err("an environment variable's name is letters, digits and `_`: `${env:NAME}`".to_owned())
        }
        Some(("file", path)) if !path.trim().is_empty() && !path.contains('\0') => {
            Ok(Reference::File(PathBuf::from(path)))
        }
        Some(("file", _)) => Err("the file's path is missing: `${file:PATH}`".to_owned()),
        Some((word, _)) => Err(format!(
            "`{}` is no kind of reference: write `${{env:NAME}}` or `${{file:PATH}}`",
            shorten(word)
        )),
        None => Err("a reference says where it points: `${env:NAME}` or `${file:PATH}`".to_owned()),
    }
}

fn is_env_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The candidate nearest to a word, if one is near enough to have been meant.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 4);
    candidates
        .into_iter()
        .filter(|candidate| *candidate != word)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// What databases and programs call a type by another name than manifests do.
pub(super) fn type_elsewhere(name: &str) -> Option<&'static str> {
    Some(match name.to_ascii_lowercase().as_str() {
        "text" | "varchar" | "char" | "uuid" => "string",
        "int" | "integer" | "bigint" | "smallint" => "int64",
        "float" | "double" | "real" => "float64",
        "decimal" | "money" => "numeric",
        "boolean" => "bool",
        "datetime" | "timestamptz" => "timestamp",
        "jsonb" | "object" | "map" => "json",
        "list" | "array" | "text[]" => "string_list",
        _ => return None,
    })
}

/// A hint that names the nearest candidate, else all of them where they are few.
pub(super) fn name_hint<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(near) = nearest(word, candidates.iter().copied()) {
        return Some(format!("did you mean `{near}`?"));
    }
    if candidates.is_empty() || candidates.len() > 40 {
        return None;
    }
    Some(format!("there is {}", list(candidates)))
}

/// Names in a sentence: `a`, `b` and `c`.
pub(super) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match names.split_last() {
        None => "nothing".to_owned(),
        Some((only, [])) => only.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let good = [
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0s", 0),
            ("1w", 604_800_000),
        ];
        for (text, ms) in good {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
            assert_eq!(duration_ms(&duration_text(ms)), Ok(ms), "{text}");
        }
        for text in ["", "30", "5 m", "m", "-5s", "5x", "99999999999999999999s", "999999999999w", "1.5h"] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
        assert_eq!(duration_text(5_400_000), "1h30m");
    }

    #[test]
    fn shares() {
        for (text, share) in [("10%", 0.1), ("0%", 0.0), ("100%", 1.0), ("2.5 %", 0.025)] {
            let read = ratio(text).expect(text);
            assert!((read - share).abs() < 1e-12, "{text}");
            assert_eq!(ratio(&ratio_text(read)), Ok(read), "{text}");
        }
        for text in ["10", "101%", "-1%", "%", "1e1%", "NaN%", "ten%", "1.2.3%"] {
            assert!(ratio(text).is_err(), "{text}");
        }
        assert_eq!(ratio_text(0.3), "30%");
    }

    #[test]
    fn sizes() {
        for (text, bytes) in [("2GiB", 2 << 30), ("500MB", 500_000_000), ("1024", 1024), ("7 KiB", 7168)] {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "GiB", "2 gib", "1.5GiB", "-1", "99999999999TiB"] {
            assert!(size_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn references() {
        assert_eq!(reference("plain"), Ok(Reference::Plain("plain".into())));
        assert_eq!(reference("${env:A_1}"), Ok(Reference::Env("A_1".into())));
        assert_eq!(reference("${file:/run/x y}"), Ok(Reference::File("/run/x y".into())));
        for text in [
            "${env:}",
            "${env:1A}",
            "${env:A}b",
            "a${env:A}",
            "${A}",
            "${file:}",
            "${vault:x}",
            "${env:A",
            "${",
        ] {
            assert!(reference(text).is_err(), "{text}");
        }
        assert!(mentions_reference("x${env:A}") && mentions_reference("${vault:a}"));
        assert!(!mentions_reference("^a${2}") && !mentions_reference("${"));
    }

    #[test]
    fn near_names() {
        assert_eq!(nearest("tabel", ["table", "object"]), Some("table"));
        assert_eq!(nearest("x", ["table", "object"]), None);
        assert_eq!(nearest("category", ["category_code", "canonical_name"]), None);
        assert_eq!(name_hint("fild", ["field", "form"]).as_deref(), Some("did you mean `field`?"));
        assert_eq!(name_hint("zzzz", ["a", "b"]).as_deref(), Some("there is `a` and `b`"));
    }
}
