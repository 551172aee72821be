//! The record as a whole: its fate, its units put together, derived and checked, its version and its times.

use std::collections::BTreeSet;

use crate::model::{ByName, Cell, FieldId, Fields, RecordId, StoreName, Timestamp, Value};

use super::claims::{Claim, Kind};
use super::conflict::{
    Conflict, ConflictReason, ConflictSide, ConflictStatus, Decision, SUPERSEDED, SideRecord,
};
use super::derived::{agreed_value, derive, derive_anew, standing_value};
use super::settle::{self, Settled};
use super::validate::{named_in_pattern, rules_of, stands_as_it_did};
use super::{
    ClaimEnd, Evidence, Fate, KeepReason, LeftReason, Origin, OriginRule, Rejection, Resolution, Rule, Side,
    View, fate,
};

/// Works out what a record should be.
pub fn resolve(view: &View<'_>) -> Resolution {
    let regressed: BTreeSet<StoreName> =
        view.sides.iter().filter(|side| side.regressed()).map(|side| side.store.clone()).collect();
    let decided = fate::decide(view);
    // A store that went back is no side until somebody says what is to become of it.
    let trusted =
        View { sides: view.sides.iter().map(|side| without_regressed(side)).collect(), ..view.clone() };
    let mut resolution = match decided.fate {
        Some(Fate::Alive) => alive(&trusted, &decided),
        Some(Fate::Dead) => dead(&trusted),
        Some(Fate::Left(reason)) => Resolution::left(reason),
        Some(Fate::Gone) | None => Resolution::empty(),
    };
    resolution.touched |= decided.touched;
    resolution.deleted_by = decided.deleted_by;
    resolution.conflicts.extend(brought_forward(view, &regressed, &resolution));
    if !view.overrides.bring_forward {
        resolution.regressed.clone_from(&regressed);
    }
    resolution.went_back = regressed;
    resolution
}

fn without_regressed<'a>(side: &Side<'a>) -> Side<'a> {
    use crate::model::{Presence, Unknown};
    const WENT_BACK: &Presence = &Presence::Unknown(Unknown::Regressed);
    match (side.regressed(), side.canonical) {
        (false, _) => side.clone(),
        (true, false) => Side { presence: WENT_BACK, ..side.clone() },
        // Only reached when it is to be brought forward: it meets anew, and whoever has the higher version wins.
        (true, true) => Side { shadow: None, ..side.clone() },
    }
}

fn dead(view: &View<'_>) -> Resolution {
    let mut resolution =
        Resolution { fate: Fate::Dead, version: view.highest_version(), ..Resolution::empty() };
    let ended = |conflict: &Conflict| conflict.ended(ConflictStatus::Withdrawn, None, "deleted", view.now);
    resolution.closed =
        view.conflicts.iter().filter(|conflict| conflict.status.is_open()).map(ended).collect();
    resolution
}

/// What settling all units gathered besides values.
#[derive(Default)]
struct Gathered {
    contributed: Vec<Claim>,
    /// Fields of which a first meeting found differing values.
    met_different: BTreeSet<FieldId>,
    decisions: Vec<Decision>,
}

fn alive(view: &View<'_>, decided: &fate::Decided) -> Resolution {
    let mut resolution = Resolution { fate: Fate::Alive, ..Resolution::empty() };
    let mut gathered = Gathered::default();
    for unit in &view.entity.units {
        if !unit.fields.iter().any(|field| view.canonical().mapping.fields.contains_key(field)) {
            continue;
        }
        let settled = settle::settle(view, unit);
        take(view, &mut resolution, &mut gathered, &unit.fields, settled);
    }
    decide_across_units(view, &mut resolution, &mut gathered);
    let said = resolution.fields.clone();
    derive(view, &mut resolution);
    if !decided.is_new {
        check_merged(view, &mut resolution, &mut gathered, &said);
    } else if refused_as_new(view, &mut resolution) {
        return resolution;
    }
    if decided.kept {
        resolution.conflicts.push(change_over_delete(view, decided));
    }
    stamp(view, &mut resolution, &gathered);
    resolution.created = created(view);
    resolution
}

fn take(
    view: &View<'_>,
    resolution: &mut Resolution,
    gathered: &mut Gathered,
    fields: &[FieldId],
    settled: Settled,
) {
    if let Some(origin) = settled.origin {
        resolution.origins.extend(fields.iter().map(|field| (*field, origin.clone())));
    }
    resolution.fields.extend(settled.values);
    if settled.held {
        resolution.held.extend(fields);
    }
    for (side, fields, end) in settled.ends {
        let ends = resolution.ends.entry(view.sides[side].store.clone()).or_default();
        ends.extend(fields.into_iter().map(|field| (field, end)));
    }
    resolution.rejections.extend(settled.rejections);
    resolution.conflicts.extend(settled.conflict);
    resolution.closed.extend(settled.closed);
    gathered.contributed.extend(settled.contributed);
    gathered.met_different.extend(fields.iter().filter(|_| settled.met_different));
    gathered.decisions.extend(settled.decided);
}

/// What a person decided of a conflict that spans units (good changes that are bad together) is done field by field; when nobody
/// claims anything any more, such a conflict is over.
fn decide_across_units(view: &View<'_>, resolution: &mut Resolution, gathered: &mut Gathered) {
    for conflict in
        view.conflicts.iter().filter(|conflict| conflict.status.is_open() && !conflict.fields.is_empty())
    {
        let fields: BTreeSet<FieldId> =
            conflict.fields.iter().filter_map(|name| view.entity.field_id(name)).collect();
        if view.entity.units.iter().any(|unit| fields.iter().all(|field| unit.fields.contains(field))) {
            continue;
        }
        let claimed = resolution.ends.values().any(|ends| ends.keys().any(|field| fields.contains(field)));
        if !claimed {
            resolution.closed.push(conflict.ended(ConflictStatus::Withdrawn, None, "withdrawn", view.now));
            continue;
        }
        let Some(decision) = &conflict.decision else { continue };
        // Somebody changed it since: that is another matter.
        if !is_as_pinned(view, resolution, conflict, &fields) {
            resolution.closed.push(conflict.ended(ConflictStatus::Withdrawn, None, SUPERSEDED, view.now));
            continue;
        }
        for (name, value) in &decision.values {
            let Some(field) = view.entity.field_id(name) else { continue };
            let before = resolution.fields.insert(field, value.clone());
            let origin = Origin { store: decision.store.clone(), rule: OriginRule::Person };
            resolution.origins.insert(field, origin);
            if before.as_ref() != Some(value) {
                for ends in resolution.ends.values_mut() {
                    ends.entry(field).and_modify(|end| *end = ClaimEnd::Lost);
                }
            }
        }
        let by = &decision.by;
        resolution.closed.push(conflict.ended(
            ConflictStatus::Resolved,
            decision.store.clone(),
            by,
            view.now,
        ));
        gathered.decisions.push(decision.clone());
    }
}

/// Whether all who say something of a conflict's fields say what they said when it was found.
fn is_as_pinned(
    view: &View<'_>,
    resolution: &Resolution,
    conflict: &Conflict,
    fields: &BTreeSet<FieldId>,
) -> bool {
    sides_about(view, resolution, fields).all(|side| {
        conflict.side(side.store).is_some_and(|pinned| pinned.values == values_there(view, side, fields))
    })
}

/// Those who say something of some fields that breaks no rule by itself.
fn sides_about<'a, 'v>(
    view: &'a View<'v>,
    resolution: &'a Resolution,
    fields: &'a BTreeSet<FieldId>,
) -> impl Iterator<Item = &'a Side<'v>> {
    view.sides.iter().filter(|side| {
        let mut ends = resolution.ends.get(side.store).into_iter().flatten();
        ends.any(|(field, end)| fields.contains(field) && *end != ClaimEnd::Rejected)
    })
}

/// What a side holds of some fields.
fn values_there(view: &View<'_>, side: &Side<'_>, fields: &BTreeSet<FieldId>) -> ByName<Value> {
    let record = settle::whole_record(view.entity, side);
    let names = fields.iter().map(|field| &view.entity.field(*field).name);
    names.filter_map(|name| Some((name.clone(), record.get(name)?.clone()))).collect()
}

/// Rules that only the merged record breaks. What one store's changes alone bring about is that store's to correct; what
/// several good changes bring about together is a conflict. What was broken before, and stands as it did, blocks nothing.
///
/// `said` are the values before anything was derived of them.
fn check_merged(view: &View<'_>, resolution: &mut Resolution, gathered: &mut Gathered, said: &Fields<Value>) {
    // What cannot be told now is what it was.
    let known = |field: &FieldId| said.contains_key(field);
    let before: Fields<Value> =
        view.entity.field_ids().filter(known).map(|field| (field, agreed_value(view, field))).collect();
    for _ in 0..=view.entity.units.len() {
        let mut clean = true;
        resolution.already_invalid.clear();
        for field in view.entity.field_ids() {
            if !resolution.fields.contains_key(&field) || resolution.held.contains(&field) {
                continue;
            }
            let broken = rules_of(view, field, &resolution.fields);
            if broken.is_empty() {
                continue;
            }
            let stood = stands_as_it_did(view.entity, field, &before, &resolution.fields);
            for rule in broken {
                if !stood && withhold(view, resolution, gathered, field, rule) {
                    derive_anew(view, resolution, said);
                    clean = false;
                    break;
                }
                resolution.already_invalid.push((field, rule));
            }
        }
        if clean {
            return;
        }
    }
}

/// Takes the changes that make a field break a rule back; says whether there were any.
fn withhold(
    view: &View<'_>,
    resolution: &mut Resolution,
    gathered: &mut Gathered,
    field: FieldId,
    rule: Rule,
) -> bool {
    let involved: BTreeSet<FieldId> = view
        .entity
        .units
        .iter()
        .filter(|unit| unit.fields.iter().any(|of| *of == field || named_in_pattern(view.entity, field, *of)))
        .flat_map(|unit| unit.fields.iter().copied())
        .collect();
    let authors: BTreeSet<StoreName> = gathered
        .contributed
        .iter()
        .filter(|claim| claim.changed.iter().any(|of| involved.contains(of)))
        .map(|claim| view.sides[claim.side].store.clone())
        .collect();
    if authors.is_empty() {
        return false;
    }
    if view.canonical().row().is_none() {
        // There is nothing to fall back to.
        return false;
    }
    // What was settled of these fields did not come about, and is settled again once it can.
    let about = |conflict: &Conflict| {
        let mut fields = conflict.fields.iter().filter_map(|name| view.entity.field_id(name));
        fields.any(|field| involved.contains(&field))
    };
    resolution.conflicts.retain(|conflict| !about(conflict));
    resolution.closed.retain(|closed| closed.resolved_by.as_deref() == Some(SUPERSEDED) || !about(closed));
    let end = if authors.len() == 1 { ClaimEnd::Rejected } else { ClaimEnd::Held };
    if let Some(author) = authors.first().filter(|_| authors.len() == 1) {
        let value = resolution.fields.get(&field).cloned().map(Cell::Value);
        resolution.rejections.push(Rejection { store: author.clone(), field: Some(field), rule, value });
    } else {
        let conflict = merge_conflict(view, resolution, &involved);
        if !view.conflicts.iter().any(|open| open.status.is_open() && open.same_matter(&conflict)) {
            resolution.conflicts.push(conflict);
        }
    }
    for ends in resolution.ends.values_mut() {
        for (of, what) in ends.iter_mut() {
            if involved.contains(of) {
                *what = end;
            }
        }
    }
    for of in &involved {
        resolution.fields.insert(*of, standing_value(view, *of));
        resolution.origins.remove(of);
        if end == ClaimEnd::Held || authors.contains(view.canonical().store) {
            resolution.held.insert(*of);
        }
    }
    gathered.contributed.retain(|claim| !claim.changed.iter().any(|of| involved.contains(of)));
    gathered.met_different.retain(|of| !involved.contains(of));
    true
}

fn merge_conflict(view: &View<'_>, resolution: &Resolution, involved: &BTreeSet<FieldId>) -> Conflict {
    let name = |field: &FieldId| view.entity.field(*field).name.clone();
    let sides = sides_about(view, resolution, involved)
        .map(|side| {
            let evidence = Evidence::of_row(side, view.now);
            ConflictSide {
                store: side.store.clone(),
                values: values_there(view, side, involved),
                record: SideRecord::Held(settle::whole_record(view.entity, side)),
                version: evidence.version,
                time: evidence.time,
                carried: evidence.carried,
            }
        })
        .collect();
    let fields = involved.iter().map(name).collect();
    Conflict::new(record_id(view), fields, sides, None, ConflictReason::ManualResolutionRequired, view.now)
}

/// Whether a record that was just made breaks a rule: it stays where it is, whole.
fn refused_as_new(view: &View<'_>, resolution: &mut Resolution) -> bool {
    let there = view.canonical().row().is_some();
    let author = view.sides.iter().find(|side| side.row().is_some()).map(|side| side.store.clone());
    let Some(author) = author else { return false };
    let mut broken: Vec<Rejection> = Vec::new();
    if let Some(rule) = view.overrides.reject_record {
        broken.push(Rejection { store: author.clone(), field: None, rule, value: None });
    }
    for (field, value) in &resolution.fields {
        let held_open = resolution.held.contains(field);
        for rule in rules_of(view, *field, &resolution.fields) {
            if held_open && rule == Rule::Required {
                continue;
            }
            let value = Some(Cell::Value(value.clone()));
            broken.push(Rejection { store: author.clone(), field: Some(*field), rule, value });
        }
    }
    // What another store has of a record that is good in the canonical store is that store's to correct.
    let rejected =
        !broken.is_empty() || resolution.rejections.iter().any(|old| !there || old.store == author);
    broken.retain(|new| {
        let same = |old: &Rejection| {
            old.field == new.field && old.rule == new.rule && (!there || old.store == author)
        };
        !resolution.rejections.iter().any(same)
    });
    if rejected {
        resolution.rejections.extend(broken);
        let rejections = std::mem::take(&mut resolution.rejections);
        *resolution = Resolution { rejections, touched: true, ..Resolution::left(LeftReason::Rejected) };
    }
    rejected
}

fn record_id(view: &View<'_>) -> RecordId {
    RecordId { entity: view.entity.name.clone(), key: view.key.clone() }
}

/// A delete yielded to a change, or to a reference that restricts it: both sides are recorded.
fn change_over_delete(view: &View<'_>, decided: &fate::Decided) -> Conflict {
    let sides: Vec<ConflictSide> = view
        .sides
        .iter()
        .filter(|side| side.row().is_some() || decided.deleted_by.contains(side.store))
        .map(|side| {
            let evidence = Evidence::of_row(side, view.now);
            let deleted = side.row().is_none();
            let remembered = side.shadow.map(|shadow| shadow.meta.version_or_none()).unwrap_or_default();
            ConflictSide {
                store: side.store.clone(),
                values: ByName::new(),
                record: if deleted {
                    SideRecord::Deleted
                } else {
                    SideRecord::Held(settle::whole_record(view.entity, side))
                },
                version: if deleted { remembered } else { evidence.version },
                time: evidence.time,
                carried: evidence.carried,
            }
        })
        .collect();
    // The store whose change it was, if it was one store's; the canonical record otherwise.
    let changed = view.sides.iter().find(|side| fate::touched(view, side)).map(|side| side.store.clone());
    let kept = || sides.iter().find(|side| side.record != SideRecord::Deleted).map(|side| side.store.clone());
    let restricted = changed.is_none() && view.overrides.keep == Some(KeepReason::Restricted);
    let reason = if restricted { ConflictReason::DeleteRestricted } else { ConflictReason::ChangeOverDelete };
    let winner = changed.or_else(kept);
    Conflict::new(record_id(view), Vec::new(), sides, winner, reason, view.now)
}

/// A store that went back is written over: what it held is recorded first.
fn brought_forward(
    view: &View<'_>,
    regressed: &BTreeSet<StoreName>,
    resolution: &Resolution,
) -> Option<Conflict> {
    if !view.overrides.bring_forward || regressed.is_empty() || resolution.fate != Fate::Alive {
        return None;
    }
    let sides: Vec<ConflictSide> = view
        .sides
        .iter()
        .filter(|side| regressed.contains(side.store))
        .map(|side| ConflictSide {
            store: side.store.clone(),
            values: ByName::new(),
            record: SideRecord::Held(settle::whole_record(view.entity, side)),
            version: side.version(),
            time: side.row().and_then(|row| row.meta.last_updated),
            carried: true,
        })
        .collect();
    let winner = Some(view.canonical().store.clone());
    Some(Conflict::new(record_id(view), Vec::new(), sides, winner, ConflictReason::BroughtForward, view.now))
}

/// The record's version, and the time and origin of the latest edit in it.
fn stamp(view: &View<'_>, resolution: &mut Resolution, gathered: &Gathered) {
    let canonical = view.canonical();
    let stands_at = canonical.version();
    let differs = |field: &FieldId| {
        let there = canonical.row().and_then(|row| row.fields.get(field));
        there != resolution.fields.get(field).cloned().map(Cell::Value).as_ref()
    };
    let is_new = canonical.row().is_none();
    let writes =
        is_new || resolution.fields.keys().any(|field| !resolution.held.contains(field) && differs(field));
    let edited = gathered.contributed.iter().any(|claim| claim.side == 0 && claim.kind == Kind::Edit);
    // An edit that raised the version there is not raised again, unless another store is at a higher one.
    let known = canonical.shadow.map(|shadow| shadow.meta.version_or_none()).unwrap_or_default();
    let raised = stands_at > known && stands_at >= view.highest_version();
    let raise = writes
        || (edited && !raised)
        || !gathered.met_different.is_empty()
        || (view.overrides.bring_forward && canonical.regressed());
    let meta = canonical.meta();
    resolution.last_updated = meta.and_then(|meta| meta.last_updated);
    resolution.last_updated_by = meta.and_then(|meta| meta.last_updated_by.clone());
    resolution.version = if raise { view.highest_version().next() } else { stands_at };
    if !raise {
        return;
    }
    if let Some((time, store)) = latest_edit(view, gathered) {
        resolution.last_updated = time;
        resolution.last_updated_by = Some(store.as_str().into());
    }
}

/// The latest edit that is in the result: when, if anybody knows, and where.
fn latest_edit(view: &View<'_>, gathered: &Gathered) -> Option<(Option<Timestamp>, StoreName)> {
    if let Some(decision) = gathered.decisions.iter().max_by_key(|decision| decision.at) {
        let store = decision.store.clone().unwrap_or_else(|| view.canonical().store.clone());
        return Some((Some(decision.at), store));
    }
    // Of equals the last is taken: the canonical store's, where none is later.
    let changes = gathered.contributed.iter().rev().filter(|claim| claim.kind != Kind::Standing);
    let latest = changes.max_by_key(|claim| (claim.evidence.time, claim.evidence.version))?;
    Some((latest.evidence.time, view.sides[latest.side].store.clone()))
}

/// The creation time: what the canonical store has, else the earliest that any store knows.
fn created(view: &View<'_>) -> Option<Timestamp> {
    let own = view.canonical().row().and_then(|row| row.created);
    own.or_else(|| view.sides.iter().filter_map(|side| side.row()?.created).min())
}
