//! Points in time, in microseconds: the finest that every canonical store keeps.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A point in time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// 9999-12-31T23:59:59.999999Z. The clock of `jiff` ends some hours before, its calendar does not.
const LAST_MICROS: i64 = 253_402_300_799_999_999;

/// The epoch in UTC's calendar.
const EPOCH_CIVIL: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The point `micros` microseconds after the epoch; none outside the years -9999 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        let late = (jiff::Timestamp::MAX.as_second() * 1_000_000..=LAST_MICROS).contains(&micros);
        (late || jiff::Timestamp::from_microsecond(micros).is_ok()).then_some(Self(micros))
    }

    /// The time on UTC's clock, where the calendar has it.
    fn civil(self) -> Option<DateTime> {
        EPOCH_CIVIL.checked_add(SignedDuration::from_micros(self.0)).ok()
    }

    /// Reads a time of the last days of the year 9999.
    fn parse_late(text: &str, zone: &TimeZone) -> Option<Self> {
        let at = text.rfind(['+', '-']).filter(|at| text[..*at].contains(':'));
        let (civil, offset) = match (text.strip_suffix(['Z', 'z']), at) {
            (Some(civil), _) => (civil, 0),
            (None, Some(at)) => {
                let digits: String = text[at + 1..].chars().filter(|sign| *sign != ':').collect();
                let (hours, minutes) = digits.split_at_checked(2)?;
                let minutes = if minutes.is_empty() { "0" } else { minutes };
                let seconds = hours.parse::<u8>().ok().map(i64::from)? * 3600
                    + minutes.parse::<u8>().ok().map(i64::from)? * 60;
                (&text[..at], if text[at..].starts_with('-') { -seconds } else { seconds })
            }
            (None, None) => (text, i64::from(zone.to_offset(jiff::Timestamp::MAX).seconds())),
        };
        let since = DateTime::from_str(civil.trim_end()).ok()?.duration_since(EPOCH_CIVIL);
        Self::from_micros(i64::try_from(since.as_micros()).ok()? - offset * 1_000_000)
    }

    /// Microseconds since the epoch.
    pub fn micros(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339 (`2026-06-15T12:00:00Z`) as well as the zone-less `2026-06-15 12:00:00`, the latter as a time
    /// in `zone`; a date alone is its midnight. Digits below a microsecond are cut.
    pub fn parse(text: &str, zone: &TimeZone) -> Option<Self> {
        let text = text.trim();
        if let Ok(exact) = jiff::Timestamp::from_str(text) {
            return Some(Self(exact.as_microsecond()));
        }
        // Postgres and SQLite write a short offset: `2026-06-15 12:00:00+00`.
        if let Some((head, sign)) = text.len().checked_sub(3).and_then(|at| {
            let (head, tail) = text.split_at_checked(at)?;
            (tail.starts_with(['+', '-']) && head.contains(':')).then_some((head, tail))
        }) && let Ok(exact) = jiff::Timestamp::from_str(&format!("{head}{sign}:00"))
        {
            return Some(Self(exact.as_microsecond()));
        }
        if text.starts_with("9999-12-3") {
            return Self::parse_late(text, zone);
        }
        let civil = DateTime::from_str(text).ok()?;
        let zoned = civil.to_zoned(zone.clone()).ok()?;
        Some(Self(zoned.timestamp().as_microsecond()))
    }

    /// Whether the clock in `zone` shows this time in a year that the calendar has: east of Greenwich the year 9999 is over earlier.
    pub fn is_on_clock(self, zone: &TimeZone) -> bool {
        let offset = i64::from(zone.to_offset(jiff::Timestamp::MAX).seconds());
        self.0 <= LAST_MICROS - offset.max(0) * 1_000_000
    }

    /// The time on the clock in `zone`, without a zone: `2026-06-15T12:00:00.000001`.
    pub fn to_civil_text(self, zone: &TimeZone) -> String {
        if let Ok(exact) = jiff::Timestamp::from_microsecond(self.0) {
            return exact.to_zoned(zone.clone()).datetime().to_string();
        }
        let offset = i64::from(zone.to_offset(jiff::Timestamp::MAX).seconds());
        let there = |civil: DateTime| civil.checked_add(SignedDuration::from_secs(offset)).ok();
        self.civil().and_then(there).map_or_else(|| self.0.to_string(), |civil| civil.to_string())
    }

    /// This point, `micros` later (or earlier); it stays at the ends of the range.
    #[must_use]
    pub fn saturating_add_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// This point, `ms` milliseconds later; it stays at the end of the range.
    #[must_use]
    pub fn saturating_add_ms(self, ms: u64) -> Self {
        self.saturating_add_micros(i64::try_from(ms).unwrap_or(i64::MAX).saturating_mul(1000))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(exact) => write!(f, "{exact}"),
            Err(_) => match self.civil() {
                Some(civil) => write!(f, "{civil}Z"),
                None => write!(f, "{}us", self.0),
            },
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text, &TimeZone::UTC)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no timestamp")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn east_of_greenwich_the_year_9999_is_over_earlier() {
        let at = |text: &str| Timestamp::parse(text, &TimeZone::UTC).unwrap();
        let zone = |hours: i8| TimeZone::fixed(jiff::tz::offset(hours));
        for (text, hours, there) in [
            ("9999-12-31T23:59:59Z", 0, true),
            ("9999-12-31T23:59:59Z", -5, true),
            ("9999-12-31T23:59:59Z", 2, false),
            ("9999-12-31T22:00:00Z", 2, false),
            ("9999-12-31T21:59:59.999999Z", 2, true),
            ("2026-06-15T12:00:00Z", 14, true),
        ] {
            assert_eq!(at(text).is_on_clock(&zone(hours)), there, "{text} at {hours}");
            if there {
                let civil = at(text).to_civil_text(&zone(hours));
                assert_eq!(Timestamp::parse(&civil, &zone(hours)), Some(at(text)), "{civil}");
            }
        }
        // West of it, what its clock shows last is no time that is held: it is read as none.
        assert_eq!(Timestamp::parse("9999-12-31 23:59:59", &zone(-5)), None);
    }

    #[test]
    fn the_year_9999_has_its_last_hours() {
        let last = Timestamp::from_micros(LAST_MICROS).unwrap();
        assert_eq!(last.to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(last.to_civil_text(&TimeZone::UTC), "9999-12-31T23:59:59.999999");
        assert_eq!(Timestamp::from_micros(LAST_MICROS + 1), None);
        let rome = TimeZone::fixed(jiff::tz::offset(1));
        let day_end = Timestamp::from_micros(LAST_MICROS - 999_999);
        for text in [
            "9999-12-31T23:59:59Z",
            "9999-12-31 23:59:59+00",
            "9999-12-31 23:59:59",
            "9999-12-31T21:29:59-02:30",
            "9999-12-31T21:29:59-0230",
            "9999-12-31T23:59:59.0000001Z",
        ] {
            assert_eq!(Timestamp::parse(text, &TimeZone::UTC), day_end, "{text}");
        }
        assert_eq!(
            Timestamp::parse("9999-12-31 23:59:59", &rome).unwrap().to_string(),
            "9999-12-31T22:59:59Z"
        );
        assert_eq!(
            Timestamp::parse("9999-12-31", &TimeZone::UTC).unwrap().to_string(),
            "9999-12-31T00:00:00Z"
        );
        // All of the hours that one clock has and the other has not read back as they were.
        let first = jiff::Timestamp::MAX.as_microsecond() - 2;
        for micros in
            (0..).map(|step| first + step * 1_111_111_111).take_while(|micros| *micros <= LAST_MICROS)
        {
            let time = Timestamp::from_micros(micros).unwrap();
            assert_eq!(Timestamp::parse(&time.to_string(), &TimeZone::UTC), Some(time));
            assert_eq!(Timestamp::parse(&time.to_civil_text(&TimeZone::UTC), &TimeZone::UTC), Some(time));
            assert_eq!(
                Timestamp::parse(&format!("{}-08:00", time.to_civil_text(&TimeZone::UTC)), &TimeZone::UTC)
                    .map(Timestamp::micros),
                Some(micros + 8 * 3_600_000_000).filter(|micros| *micros <= LAST_MICROS)
            );
        }
        for text in [
            "9999-12-32",
            "9999-12-31T24:00:00Z",
            "9999-12-31T23:59:59-01",
            "9999-12-31x",
            "10000-01-01",
            "9999-12-31T23:59:59+é1",
        ] {
            assert_eq!(Timestamp::parse(text, &TimeZone::UTC), None, "{text}");
        }
    }
}
