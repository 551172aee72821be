//! Points in time, in microseconds: the finest that every canonical store keeps.

use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

/// A point in time, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(0);

    /// The point `micros` microseconds after the epoch; none outside the years -9999 to 9999.
    pub fn from_micros(micros: i64) -> Option<Self> {
        jiff::Timestamp::from_microsecond(micros).ok().map(|_| Self(micros))
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
        let civil = DateTime::from_str(text).ok()?;
        let zoned = civil.to_zoned(zone.clone()).ok()?;
        Some(Self(zoned.timestamp().as_microsecond()))
    }

    /// The time on the clock in `zone`, without a zone: `2026-06-15T12:00:00.000001`.
    pub fn to_civil_text(self, zone: &TimeZone) -> String {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(exact) => exact.to_zoned(zone.clone()).datetime().to_string(),
            Err(_) => self.0.to_string(),
        }
    }

    /// This point, `micros` later (or earlier); it stays at the ends of the range.
    #[must_use]
    pub fn saturating_add_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(exact) => write!(f, "{exact}"),
            Err(_) => write!(f, "{}us", self.0),
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
