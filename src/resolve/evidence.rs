//! What speaks for a value when several compete: the seed's rule, version first, then time.

use crate::model::{Timestamp, Version};

use super::{ConflictReason, Side};

/// What speaks for a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// The version of the record with this value.
    pub version: Version,
    /// When the value was put there; none: nobody knows.
    pub time: Option<Timestamp>,
    /// Whether this comes from sync metadata or a known history. At a first meeting a row without either yields.
    pub carried: bool,
    /// The finest step of the store's times, in microseconds.
    pub precision_micros: i64,
}

impl Evidence {
    /// The evidence of both together: equal values speak for each other.
    #[must_use]
    pub fn pooled(self, other: Self) -> Self {
        let best = if (other.version, other.time) > (self.version, self.time) { other } else { self };
        Self { carried: self.carried || other.carried, ..best }
    }

    /// Of a change made in a store since its shadow. An application that did not raise the version counts as one above
    /// what it had seen.
    pub(super) fn of_edit(side: &Side<'_>, seen: Version, now: Timestamp) -> Self {
        let known = side.shadow.map(|shadow| shadow.meta.version_or_none()).unwrap_or_default();
        let stands_at = side.version();
        let version = if stands_at > known { stands_at } else { known.max(seen).next() };
        Self { version, time: edit_time(side, now), carried: true, precision_micros: side.precision_micros }
    }

    /// Of a value met for the first time, or of one that nobody changed: what the row says of itself.
    pub(super) fn of_row(side: &Side<'_>, now: Timestamp) -> Self {
        let meta = side.meta();
        // The store's own clock says nothing once we have seen it: it may show our own write.
        let clock = side.row().and_then(|row| row.updated);
        let clock = clock.filter(|time| side.shadow.and_then(|shadow| shadow.updated) != Some(*time));
        let time = meta.and_then(|meta| meta.last_updated).or(clock);
        Self {
            version: side.version(),
            time: time.filter(|time| *time <= now),
            carried: side.mapping.has_sync() && meta.is_some_and(|meta| meta.version.is_some()),
            precision_micros: side.precision_micros,
        }
    }
}

/// When a change was made: the row's own times, where they moved since the shadow. A time in the future is no time.
fn edit_time(side: &Side<'_>, now: Timestamp) -> Option<Timestamp> {
    let row = side.row()?;
    let shadow = side.shadow;
    let stamped = side
        .meta()
        .and_then(|meta| meta.last_updated)
        .filter(|time| shadow.and_then(|shadow| shadow.meta.last_updated) != Some(*time));
    let clock = row.updated.filter(|time| shadow.and_then(|shadow| shadow.updated) != Some(*time));
    stamped.into_iter().chain(clock).max().filter(|time| *time <= now)
}

/// Which of several values wins, and why; none when a person has to decide. `canonical` is the place of the canonical
/// store's value among them, if it competes.
pub(super) fn decide(
    contestants: &[Evidence],
    canonical: Option<usize>,
    tolerance_micros: i64,
) -> Option<(usize, ConflictReason)> {
    let carriers: Vec<usize> = (0..contestants.len()).filter(|at| contestants[*at].carried).collect();
    match carriers.as_slice() {
        [] => return canonical.map(|at| (at, ConflictReason::FirstMeeting)),
        [only] => return Some((*only, ConflictReason::FirstMeeting)),
        _ => {}
    }
    let best = *carriers.iter().max_by_key(|at| (contestants[**at].version, contestants[**at].time))?;
    let mut reason = ConflictReason::HigherVersion;
    for at in carriers {
        if at == best || contestants[at].version < contestants[best].version {
            continue;
        }
        let (Some(winner), Some(loser)) = (contestants[best].time, contestants[at].time) else { return None };
        let coarsest = contestants[best].precision_micros.max(contestants[at].precision_micros);
        // Times on a grid of `coarsest` differ for certain only when they are at least one step apart.
        let apart = winner.micros().saturating_sub(loser.micros());
        if apart <= tolerance_micros || apart < coarsest {
            return None;
        }
        reason = ConflictReason::LaterTimestamp;
    }
    Some((best, reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(version: i64, time: Option<i64>) -> Evidence {
        let time = time.map(|micros| Timestamp::from_micros(micros).expect("in range"));
        Evidence { version: Version(version), time, carried: true, precision_micros: 1 }
    }

    #[test]
    fn the_seeds_rule() {
        use ConflictReason::{FirstMeeting, HigherVersion, LaterTimestamp};
        let bare = Evidence { carried: false, ..evidence(0, None) };
        let second = Evidence { precision_micros: 1_000_000, ..evidence(3, Some(1_000_000)) };
        for (name, contestants, canonical, expected) in [
            ("higher version", vec![evidence(3, None), evidence(4, None)], Some(0), Some((1, HigherVersion))),
            (
                "higher version beats a later time",
                vec![evidence(3, Some(9)), evidence(4, Some(1))],
                None,
                Some((1, HigherVersion)),
            ),
            ("later time", vec![evidence(3, Some(9)), evidence(3, Some(1))], None, Some((0, LaterTimestamp))),
            ("same time", vec![evidence(3, Some(9)), evidence(3, Some(9))], None, None),
            ("one time unknown", vec![evidence(3, Some(9)), evidence(3, None)], None, None),
            (
                "must beat every other",
                vec![evidence(3, Some(9)), evidence(3, Some(1)), evidence(3, None)],
                None,
                None,
            ),
            (
                "a lower version needs no time",
                vec![evidence(3, Some(9)), evidence(2, None)],
                None,
                Some((0, HigherVersion)),
            ),
            ("within a coarser clock's step", vec![evidence(3, Some(1_900_000)), second], None, None),
            ("a step apart", vec![evidence(3, Some(2_000_000)), second], None, Some((0, LaterTimestamp))),
            ("the one with metadata", vec![bare, evidence(1, None)], Some(0), Some((1, FirstMeeting))),
            ("else the canonical one", vec![bare, bare], Some(1), Some((1, FirstMeeting))),
            ("two strangers", vec![bare, bare], None, None),
        ] {
            assert_eq!(decide(&contestants, canonical, 0), expected, "{name}");
        }
        let close = [evidence(3, Some(9)), evidence(3, Some(4))];
        assert_eq!(decide(&close, None, 5), None, "within the tolerance");
        assert_eq!(decide(&close, None, 4), Some((0, LaterTimestamp)), "beyond the tolerance");
    }
}
