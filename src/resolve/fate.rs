//! Whether a record should be there at all.

use std::collections::BTreeSet;

use crate::model::{DeletePolicy, Fields, Presence, StoreName, Version};

use super::claims::{field_shadow, unchanged};
use super::{Fate, LeftReason, Side, Tombstone, View};

/// What is decided of a record as a whole.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// Whether it should be.
    pub fate: Option<Fate>,
    /// The stores it was deleted in.
    pub deleted_by: BTreeSet<StoreName>,
    /// Whether a change won over the delete.
    pub kept: bool,
    /// Whether a store changed it, or made it anew.
    pub touched: bool,
    /// Whether it was just made.
    pub is_new: bool,
}

impl Decided {
    fn fate(self, fate: Fate) -> Self {
        Self { fate: Some(fate), ..self }
    }
}

/// Decides.
pub(super) fn decide(view: &View<'_>) -> Decided {
    let canonical = view.canonical();
    let touched = view.sides.iter().any(|side| touched(view, side));
    let found = Decided { touched, is_new: view.is_new(), ..Decided::default() };
    if matches!(canonical.presence, Presence::Unknown(_)) {
        return found.fate(Fate::Left(LeftReason::CanonicalUnknown));
    }
    if canonical.regressed() && !view.overrides.bring_forward {
        return found.fate(Fate::Left(LeftReason::CanonicalRegressed));
    }
    if view.overrides.cascade {
        return found.fate(Fate::Dead);
    }
    if canonical.row().is_some() { in_canonical(view, found) } else { not_in_canonical(view, found) }
}

fn in_canonical(view: &View<'_>, found: Decided) -> Decided {
    let deleters: Vec<&Side<'_>> = view.sides.iter().skip(1).filter(|side| deleted_in(view, side)).collect();
    let deleted_by: BTreeSet<StoreName> = deleters.iter().map(|side| side.store.clone()).collect();
    if deleters.is_empty() || view.entity.deletes == DeletePolicy::Ignore {
        return found.fate(Fate::Alive);
    }
    if view.entity.deletes == DeletePolicy::Restore {
        return Decided { deleted_by, ..found }.fate(Fate::Alive);
    }
    let unseen = deleters.iter().any(|side| canonical_moved_since(view, side));
    let kept = view.overrides.keep.is_some() || found.touched || unseen || has_open_conflict(view);
    let fate = if kept { Fate::Alive } else { Fate::Dead };
    Decided { deleted_by, kept, ..found }.fate(fate)
}

fn not_in_canonical(view: &View<'_>, found: Decided) -> Decided {
    let canonical = view.canonical();
    let somewhere = view.sides.iter().skip(1).any(|side| side.row().is_some() && reads(side));
    let known = canonical.shadow.is_some() || view.tombstone.is_some();
    if !known {
        return found.fate(if somewhere { Fate::Alive } else { Fate::Gone });
    }
    let just_deleted = canonical.shadow.is_some_and(|shadow| shadow.present);
    let remains = view
        .sides
        .iter()
        .any(|side| side.row().is_some() || side.shadow.is_some_and(|shadow| shadow.present));
    if !remains {
        return found.fate(Fate::Gone);
    }
    let mut deleted_by: BTreeSet<StoreName> = view
        .sides
        .iter()
        .skip(1)
        .filter(|side| deleted_in(view, side))
        .map(|side| side.store.clone())
        .collect();
    if just_deleted {
        deleted_by.insert(canonical.store.clone());
    }
    match view.entity.deletes {
        DeletePolicy::Restore if just_deleted => return Decided { deleted_by, ..found }.fate(Fate::Alive),
        DeletePolicy::Ignore if !found.touched || just_deleted => {
            return Decided { deleted_by, ..found }.fate(Fate::Left(LeftReason::DeleteIgnored));
        }
        _ => {}
    }
    let kept = found.touched || view.overrides.keep.is_some() || has_open_conflict(view);
    let fate = if kept { Fate::Alive } else { Fate::Dead };
    // Whoever makes a record anew that every store had let go of wins over nobody. A row with a version may be of before.
    let unconfirmed = view.tombstone.is_some_and(Tombstone::is_pending);
    let of_before =
        || view.sides.iter().filter_map(Side::row).any(|row| row.meta.version_or_none() > Version::NONE);
    let kept = kept && (just_deleted || unconfirmed || !deleted_by.is_empty() || of_before());
    Decided { deleted_by, kept, ..found }.fate(fate)
}

fn has_open_conflict(view: &View<'_>) -> bool {
    view.conflicts.iter().any(|conflict| conflict.status.is_open())
}

fn reads(side: &Side<'_>) -> bool {
    side.mapping.fields.is_empty() || side.mapping.fields.values().any(|mapped| mapped.direction.reads())
}

/// Whether a store that held the record no longer does: somebody deleted it there.
pub(super) fn deleted_in(view: &View<'_>, side: &Side<'_>) -> bool {
    let was_there = side.shadow.is_some_and(|shadow| shadow.present);
    was_there && *side.presence == Presence::Absent && reads(side) && in_scope(view, side)
}

/// Whether a record that a store holds only in part of its life belongs there, by what the canonical store has. What has
/// left the scope is not missed.
fn in_scope(view: &View<'_>, side: &Side<'_>) -> bool {
    if view.overrides.away.contains(side.store) || view.overrides.collapsed.contains(side.store) {
        return false;
    }
    view.in_scope(&Fields::new(), side)
}

/// Whether a side holds something that it was not last verified to hold: a changed field, or the whole record where there
/// was none.
pub(super) fn touched(view: &View<'_>, side: &Side<'_>) -> bool {
    let Some(row) = side.row().filter(|_| reads(side)) else { return false };
    if side.regressed() {
        return false;
    }
    if side.shadow.is_none_or(|shadow| !shadow.present) {
        return !side.canonical || view.tombstone.is_some() || side.shadow.is_some() || is_new_there(view);
    }
    row.fields.iter().any(|(field, cell)| {
        let read = side.mapping.fields.get(field).is_some_and(|mapped| mapped.direction.reads());
        // Who stands first changes with what becomes of the others.
        let own = !side.mapping.tells_first(*field);
        read && own && field_shadow(view.entity, side, *field).is_some_and(|shadow| !unchanged(shadow, cell))
    })
}

/// Whether nobody but the canonical store ever had the record: it was just made there.
fn is_new_there(view: &View<'_>) -> bool {
    let lacks = |side: &Side<'_>| side.shadow.is_none() && *side.presence == Presence::Absent;
    !view.rebuild && view.sides.iter().skip(1).all(lacks)
}

/// Whether the canonical record changed in a way that a store that should have it had not received.
pub(crate) fn canonical_moved_since(view: &View<'_>, side: &Side<'_>) -> bool {
    let ignored = view.entity.deletes == DeletePolicy::Ignore
        && side.shadow.is_some_and(|shadow| !shadow.present)
        && side.row().is_none();
    if ignored || !in_scope(view, side) {
        return false;
    }
    let canonical = view.canonical();
    let (Some(ours), Some(theirs)) = (canonical.shadow, side.shadow) else { return true };
    let received = theirs.highest_version();
    let newest = ours.fields.values().map(|field| field.version).fold(Version::NONE, Version::max);
    newest > received
        || view.entity.field_ids().any(|field| {
            let standing =
                canonical.row().and_then(|row| row.fields.get(&field)).and_then(|cell| cell.value());
            match (field_shadow(view.entity, side, field), standing) {
                (Some(shadow), Some(standing)) => shadow.canonical() != Some(standing),
                _ => false,
            }
        })
}
