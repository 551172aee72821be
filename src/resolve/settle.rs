//! What a unit should be: one voice is followed, several that say the same as well, and several that differ compete.

use std::collections::BTreeSet;

use crate::model::{
    Adopt, ByName, Cell, Entity, FieldId, FieldName, Fields, RecordId, StoreName, Unit, Value,
};

use super::claims::{self, Claim, Kind, Standing};
use super::conflict::{
    Conflict, ConflictReason, ConflictSide, ConflictStatus, Decision, SUPERSEDED, SideRecord,
};
use super::evidence;
use super::validate::{rules_of, stands_as_it_did};
use super::{ClaimEnd, Evidence, Origin, OriginRule, Rejection, Rule, View};

/// What a unit should be.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Its values.
    pub values: Fields<Value>,
    /// Where they come from, where anyone changed them.
    pub origin: Option<Origin>,
    /// What became of each side's claim, by the side's place.
    pub ends: Vec<(usize, BTreeSet<FieldId>, ClaimEnd)>,
    /// Whether nothing may be written to it anywhere.
    pub held: bool,
    /// Changes that broke a rule.
    pub rejections: Vec<Rejection>,
    /// A conflict found, open or settled.
    pub conflict: Option<Conflict>,
    /// Open conflicts that ended.
    pub closed: Vec<Conflict>,
    /// The claims in the result, for the record's version and time.
    pub contributed: Vec<Claim>,
    /// Whether a first meeting found differing values.
    pub met_different: bool,
    /// What a person decided, if that is what stands now.
    pub decided: Option<Decision>,
}

#[cfg(debug_assertions)]
impl Settled {
    /// Whether there is nothing in it but values.
    fn is_quiet(&self) -> bool {
        self.origin.is_none()
            && self.ends.is_empty()
            && !self.held
            && self.rejections.is_empty()
            && self.conflict.is_none()
            && self.closed.is_empty()
            && self.contributed.is_empty()
            && !self.met_different
            && self.decided.is_none()
    }
}

/// A value that competes: an actual claim, or the pinned one of a store that cannot be read.
struct Contestant {
    store: StoreName,
    values: Fields<Value>,
    evidence: Evidence,
    claim: Option<Claim>,
}

/// Settles one unit.
pub(super) fn settle(view: &View<'_>, unit: &Unit) -> Settled {
    let Some(values) = untouched(view, unit) else { return settle_voices(view, unit) };
    #[cfg(debug_assertions)]
    {
        let long = settle_voices(view, unit);
        assert!(long.values == values && long.is_quiet(), "the short way differs: {values:?} {long:?}");
    }
    Settled { values, ..Settled::default() }
}

/// The values of a unit that every store holds as it was last verified to: most units of a record that was edited. There is nothing to
/// settle about them. None where anything else may be the case.
fn untouched(view: &View<'_>, unit: &Unit) -> Option<Fields<Value>> {
    if view.rebuild || !view.conflicts.is_empty() {
        return None;
    }
    let row = view.canonical().row()?;
    let mut values = Fields::new();
    for field in &unit.fields {
        let cell = row.fields.get(field)?;
        let shadow = claims::field_shadow(view.entity, view.canonical(), *field)?;
        if !claims::unchanged(shadow, cell) {
            return None;
        }
        values.insert(*field, cell.value()?.clone());
    }
    for side in view.sides.iter().skip(1) {
        let Some(row) = side.row() else { continue };
        for field in &unit.fields {
            let says = side.mapping.fields.get(field).is_some_and(|mapped| mapped.direction.reads());
            let Some(cell) = row.fields.get(field).filter(|_| says) else { continue };
            let shadow = claims::field_shadow(view.entity, side, *field)?;
            if !claims::unchanged(shadow, cell) {
                return None;
            }
        }
    }
    Some(values)
}

fn settle_voices(view: &View<'_>, unit: &Unit) -> Settled {
    let standing = claims::standing(view, unit);
    let mut settled = Settled { values: standing.values.clone(), ..Settled::default() };
    let open: Vec<&Conflict> = view
        .conflicts
        .iter()
        .filter(|conflict| conflict.status.is_open() && is_about(view.entity, conflict, unit))
        .collect();
    if standing.unknown {
        // Nothing is known of it in the canonical store: it is not compared, not written, and no conflict of it ends.
        settled.values.clear();
        return settled;
    }
    let mut claims: Vec<Claim> =
        (1..view.sides.len()).filter_map(|at| claims::claim(view, unit, at, &standing)).collect();
    let rejected = reject(view, &mut claims, &standing, &mut settled);
    let own = standing.claim.clone();
    if let Some(own) = &own
        && rejected.contains(&0)
    {
        // The canonical store's own change is bad: it stays there for its author, and nothing goes anywhere.
        settled.ends.push((0, own.changed.clone(), ClaimEnd::Rejected));
        settled.ends.extend(claims.iter().map(|claim| (claim.side, claim.changed.clone(), ClaimEnd::Held)));
        settled.held = true;
        return settled;
    }
    let contestants = contestants(view, &standing, claims, &open);
    compete(view, unit, &standing, contestants, &open, &mut settled);
    settled
}

fn is_about(entity: &Entity, conflict: &Conflict, unit: &Unit) -> bool {
    let names: BTreeSet<&FieldName> = unit.fields.iter().map(|field| &entity.field(*field).name).collect();
    !conflict.fields.is_empty() && conflict.fields.iter().all(|field| names.contains(field))
}

/// Takes the claims that break a rule out, unless what they break was broken before; says which sides' were.
fn reject(
    view: &View<'_>,
    claims: &mut Vec<Claim>,
    standing: &Standing,
    settled: &mut Settled,
) -> BTreeSet<usize> {
    let mut rejected = BTreeSet::new();
    let says = |claim: &&Claim| claim.kind == Kind::Edit || !claim.unreadable.is_empty();
    let own: Vec<Claim> = standing.claim.iter().filter(says).cloned().collect();
    for claim in own.iter().chain(claims.iter()) {
        let broken = broken_rules(view, claim, standing);
        let side = &view.sides[claim.side];
        for (field, rule) in &broken {
            let value = side.row().and_then(|row| row.fields.get(field)).cloned();
            settled.rejections.push(Rejection {
                store: side.store.clone(),
                field: Some(*field),
                rule: *rule,
                value,
            });
        }
        if !broken.is_empty() {
            rejected.insert(claim.side);
            if claim.side != 0 {
                settled.ends.push((claim.side, claim.changed.clone(), ClaimEnd::Rejected));
            }
        }
    }
    claims.retain(|claim| !rejected.contains(&claim.side));
    rejected
}

fn broken_rules(view: &View<'_>, claim: &Claim, standing: &Standing) -> Vec<(FieldId, Rule)> {
    let row_values: Fields<Value> = view.sides[claim.side]
        .row()
        .into_iter()
        .flat_map(|row| &row.fields)
        .filter_map(|(field, cell)| cell.value().map(|value| (*field, value.clone())))
        .collect();
    let in_context = |values: &Fields<Value>| {
        let mut all = row_values.clone();
        all.extend(values.iter().map(|(field, value)| (*field, value.clone())));
        all
    };
    let after = in_context(&claim.values);
    // The canonical side's own values are the change; what they were before is in its shadow.
    let before = in_context(&base_values(view, claim, standing));
    let mut broken = Vec::new();
    for field in claim.values.keys() {
        if let Some(rule) = view.overrides.reject.get(field).filter(|_| claim.changed.contains(field)) {
            broken.push((*field, *rule));
        }
        if claim.unreadable.contains_key(field) {
            broken.push((*field, Rule::Type));
            continue;
        }
        // A null at a first meeting says nothing, so it breaks nothing.
        if claim.kind == Kind::Meeting && after.get(field).is_none_or(Value::is_null) {
            continue;
        }
        let rules = rules_of(view, *field, &after);
        if !rules.is_empty() && !stands_as_it_did(view.entity, *field, &before, &after) {
            broken.extend(rules.into_iter().map(|rule| (*field, rule)));
        }
    }
    broken
}

fn base_values(view: &View<'_>, claim: &Claim, standing: &Standing) -> Fields<Value> {
    claim
        .values
        .keys()
        .map(|field| {
            let remembered = claims::field_shadow(view.entity, &view.sides[claim.side], *field)
                .and_then(|shadow| shadow.canonical().cloned());
            let base = if claim.kind == Kind::Meeting { None } else { remembered };
            (*field, base.or_else(|| standing.values.get(field).cloned()).unwrap_or_default())
        })
        .collect()
}

/// Everyone who has a say: the changes, the canonical value unless all changes came after it, and the pinned values of
/// stores in an open conflict that cannot be read now.
fn contestants(
    view: &View<'_>,
    standing: &Standing,
    claims: Vec<Claim>,
    open: &[&Conflict],
) -> Vec<Contestant> {
    let mut contestants = Vec::new();
    if let Some(own) = &standing.claim {
        let superseded = own.kind == Kind::Standing
            && claims.iter().any(|claim| claim.kind == Kind::Edit && claim.has_seen);
        let only_met = claims.iter().all(|claim| claim.kind == Kind::Meeting);
        let yields = own.kind != Kind::Edit
            && only_met
            && own.values.values().all(Value::is_null)
            && !claims.is_empty();
        if !superseded && !yields {
            contestants.push(contestant(view, own.clone()));
        }
    }
    contestants.extend(claims.into_iter().map(|claim| contestant(view, claim)));
    for pin in open.iter().flat_map(|conflict| &conflict.sides) {
        let values = by_id(view.entity, &pin.values);
        let Some(at) = view.sides.iter().position(|side| *side.store == pin.store) else { continue };
        let pinned = Evidence {
            version: pin.version,
            time: pin.time,
            carried: pin.carried,
            precision_micros: view.sides[at].precision_micros,
        };
        if let Some(there) = contestants.iter_mut().find(|contestant| contestant.store == pin.store) {
            if there.values == values {
                there.evidence = pinned;
            }
        } else if view.sides[at].row().is_none()
            && matches!(view.sides[at].presence, crate::model::Presence::Unknown(_))
        {
            contestants.push(Contestant { store: pin.store.clone(), values, evidence: pinned, claim: None });
        }
    }
    contestants
}

fn contestant(view: &View<'_>, claim: Claim) -> Contestant {
    Contestant {
        store: view.sides[claim.side].store.clone(),
        values: claim.values.clone(),
        evidence: claim.evidence,
        claim: Some(claim),
    }
}

fn by_id(entity: &Entity, values: &ByName<Value>) -> Fields<Value> {
    values.iter().filter_map(|(name, value)| Some((entity.field_id(name)?, value.clone()))).collect()
}

fn compete(
    view: &View<'_>,
    unit: &Unit,
    standing: &Standing,
    contestants: Vec<Contestant>,
    open: &[&Conflict],
    settled: &mut Settled,
) {
    let changed = contestants.iter().any(|contestant| {
        contestant.claim.as_ref().is_none_or(|claim| claim.side != 0 || claim.kind == Kind::Edit)
    });
    if !changed {
        // Nobody says anything new; conflicts that were open have lost their sides.
        settled.closed.extend(
            open.iter()
                .map(|conflict| conflict.ended(ConflictStatus::Withdrawn, None, "withdrawn", view.now)),
        );
        record_yielding_nulls(view, unit, settled);
        return;
    }
    let mut groups: Vec<(Fields<Value>, Vec<usize>)> = Vec::new();
    for (at, contestant) in contestants.iter().enumerate() {
        match groups.iter_mut().find(|(values, _)| *values == contestant.values) {
            Some((_, members)) => members.push(at),
            None => groups.push((contestant.values.clone(), vec![at])),
        }
    }
    if let Some(decision) = person_decided(view.entity, &contestants, open) {
        let values = by_id(view.entity, &decision.values);
        let origin = Origin { store: decision.store.clone(), rule: OriginRule::Person };
        finish(settled, contestants, &values, origin);
        settled.closed.extend(open.iter().map(|conflict| {
            conflict.ended(ConflictStatus::Resolved, decision.store.clone(), &decision.by, view.now)
        }));
        settled.decided = Some(decision);
        return;
    }
    if groups.len() == 1 {
        let values = groups.swap_remove(0).0;
        let rule = only_rule(&contestants);
        let store = origin_store(&contestants, &values);
        finish(settled, contestants, &values, Origin { store, rule });
        settled.closed.extend(
            open.iter()
                .map(|conflict| conflict.ended(ConflictStatus::Withdrawn, None, "withdrawn", view.now)),
        );
        record_yielding_nulls(view, unit, settled);
        return;
    }
    if let Some(merged) = merge_json(unit, standing, &contestants) {
        let ends: Vec<_> = contestants.iter().filter_map(|contestant| contestant.claim.clone()).collect();
        settled.ends.extend(ends.iter().map(|claim| (claim.side, claim.changed.clone(), ClaimEnd::Won)));
        settled.contributed = ends;
        settled.values = merged;
        settled.origin = Some(Origin { store: None, rule: OriginRule::MergedJson });
        settled.closed.extend(
            open.iter()
                .map(|conflict| conflict.ended(ConflictStatus::Withdrawn, None, "withdrawn", view.now)),
        );
        return;
    }
    conflict(view, unit, &groups, contestants, open, settled);
}

fn only_rule(contestants: &[Contestant]) -> OriginRule {
    let edits = contestants
        .iter()
        .any(|contestant| contestant.claim.as_ref().is_none_or(|claim| claim.kind == Kind::Edit));
    if edits { OriginRule::OnlyChange } else { OriginRule::FirstMeeting }
}

/// Whose the values are, of those who say the same: the best evidence's, the canonical store's where none is better.
fn origin_store(contestants: &[Contestant], values: &Fields<Value>) -> Option<StoreName> {
    // Of equals the last is taken.
    contestants
        .iter()
        .rev()
        .filter(|contestant| &contestant.values == values)
        .max_by_key(|contestant| (contestant.evidence.version, contestant.evidence.time))
        .map(|contestant| contestant.store.clone())
}

/// The values stand: those who said so won, everyone else lost.
fn finish(settled: &mut Settled, contestants: Vec<Contestant>, values: &Fields<Value>, origin: Origin) {
    for contestant in contestants {
        let Some(claim) = contestant.claim else { continue };
        let end = if &contestant.values == values { ClaimEnd::Won } else { ClaimEnd::Lost };
        if end == ClaimEnd::Lost && claim.kind == Kind::Meeting {
            settled.met_different = true;
        }
        settled.ends.push((claim.side, claim.changed.clone(), end));
        if end == ClaimEnd::Won {
            settled.contributed.push(claim);
        }
    }
    // A decision may name some fields of the unit only; the others stay as they stand.
    settled.values.extend(values.iter().map(|(field, value)| (*field, value.clone())));
    settled.origin = Some(origin);
}

/// What a person decided, as long as every side still is one that the decision was made on.
fn person_decided(entity: &Entity, contestants: &[Contestant], open: &[&Conflict]) -> Option<Decision> {
    let conflict = open.iter().find(|conflict| conflict.status == ConflictStatus::Decided)?;
    let known = contestants
        .iter()
        .all(|contestant| conflict.sides.iter().any(|side| by_id(entity, &side.values) == contestant.values));
    conflict.decision.clone().filter(|_| known)
}

fn conflict(
    view: &View<'_>,
    unit: &Unit,
    groups: &[(Fields<Value>, Vec<usize>)],
    contestants: Vec<Contestant>,
    open: &[&Conflict],
    settled: &mut Settled,
) {
    let meets = contestants.iter().any(|contestant| {
        contestant.claim.as_ref().is_some_and(|claim| claim.side != 0 && claim.kind == Kind::Meeting)
    });
    let canonical_group = groups.iter().position(|(_, members)| {
        members.iter().any(|at| contestants[*at].claim.as_ref().is_some_and(|claim| claim.side == 0))
    });
    let pooled: Vec<Evidence> = groups
        .iter()
        .filter_map(|(_, members)| {
            members.iter().map(|at| contestants[*at].evidence).reduce(Evidence::pooled)
        })
        .collect();
    let tolerance = view.entity.conflicts.clock_tolerance_micros;
    let verdict = match view.entity.conflicts.adopt {
        Adopt::Hold if meets => None,
        Adopt::Canonical if meets && canonical_group.is_some() => {
            canonical_group.map(|at| (at, ConflictReason::FirstMeeting))
        }
        _ => evidence::decide(&pooled, canonical_group, tolerance),
    };
    let sides = contestants.iter().map(|contestant| pin(view, contestant)).collect();
    let winner = verdict.and_then(|(at, _)| origin_store(&contestants, &groups[at].0));
    let reason = verdict.map_or(ConflictReason::ManualResolutionRequired, |(_, reason)| reason);
    let fields = unit.fields.iter().map(|field| view.entity.field(*field).name.clone()).collect();
    let record = RecordId { entity: view.entity.name.clone(), key: view.key.clone() };
    let found = Conflict::new(record, fields, sides, winner.clone(), reason, view.now);
    let known = open.iter().find(|conflict| conflict.same_matter(&found));
    for conflict in open.iter().filter(|conflict| !conflict.same_matter(&found)) {
        let (status, by) = if verdict.is_some() {
            (ConflictStatus::Resolved, "rule")
        } else {
            (ConflictStatus::Withdrawn, SUPERSEDED)
        };
        settled.closed.push(conflict.ended(status, winner.clone(), by, view.now));
    }
    let Some((at, reason)) = verdict else {
        if known.is_none() {
            settled.conflict = Some(found);
        }
        let held = contestants.into_iter().filter_map(|contestant| contestant.claim);
        settled.ends.extend(held.map(|claim| (claim.side, claim.changed, ClaimEnd::Held)));
        settled.held = true;
        return;
    };
    match known {
        Some(known) => {
            settled.closed.push(known.ended(ConflictStatus::Resolved, winner.clone(), "rule", view.now));
        }
        None => settled.conflict = Some(found),
    }
    let rule = match reason {
        ConflictReason::HigherVersion => OriginRule::HigherVersion,
        ConflictReason::LaterTimestamp => OriginRule::LaterTimestamp,
        _ => OriginRule::FirstMeeting,
    };
    finish(settled, contestants, &groups[at].0.clone(), Origin { store: winner, rule });
}

fn pin(view: &View<'_>, contestant: &Contestant) -> ConflictSide {
    let name = |field: &FieldId| view.entity.field(*field).name.clone();
    let record = view
        .sides
        .iter()
        .find(|side| *side.store == contestant.store)
        .map(|side| whole_record(view.entity, side))
        .unwrap_or_default();
    ConflictSide {
        store: contestant.store.clone(),
        values: contestant.values.iter().map(|(field, value)| (name(field), value.clone())).collect(),
        record: SideRecord::Held(record),
        version: contestant.evidence.version,
        time: contestant.evidence.time,
        carried: contestant.evidence.carried,
    }
}

/// Everything that a side is known to hold of the record.
pub(super) fn whole_record(entity: &Entity, side: &super::Side<'_>) -> ByName<Value> {
    side.row()
        .into_iter()
        .flat_map(|row| &row.fields)
        .filter_map(|(field, cell)| Some((entity.field(*field).name.clone(), cell.value()?.clone())))
        .collect()
}

/// Changes to different parts of a JSON value, put together; none where they touch the same part or start from nothing.
fn merge_json(unit: &Unit, standing: &Standing, contestants: &[Contestant]) -> Option<Fields<Value>> {
    let [field] = unit.fields.as_slice() else { return None };
    let Some(Value::Json(base)) = standing.values.get(field) else { return None };
    let mut patches: Vec<crate::model::JsonPatch> = Vec::new();
    for contestant in contestants {
        let claim = contestant.claim.as_ref()?;
        if claim.side == 0 && claim.kind == Kind::Standing {
            continue;
        }
        let (from, to) = claim.json.as_ref()?;
        let patch = to.changes_since(from);
        // What the canonical store did since this store last looked competes as well.
        let meanwhile = base.changes_since(from);
        let alone = claim.side == 0 || claim.has_seen || patch.agrees_with(&meanwhile);
        if !alone || !patches.iter().all(|other| patch.agrees_with(other)) {
            return None;
        }
        patches.push(patch);
    }
    let merged = patches.iter().fold(base.clone(), |merged, patch| patch.apply_to(&merged));
    Some(Fields::from([(*field, Value::Json(merged))]))
}

/// In a rebuild nobody remembers whether a null was once a clear: where it yields to a value, it is recorded. Where a rebuild that was cut
/// short had been already, it is remembered again.
fn record_yielding_nulls(view: &View<'_>, unit: &Unit, settled: &mut Settled) {
    if !view.rebuild || settled.values.values().all(Value::is_null) {
        return;
    }
    let nulls: Vec<ConflictSide> = view
        .sides
        .iter()
        .filter(|side| {
            let forgotten =
                unit.fields.iter().any(|field| claims::field_shadow(view.entity, side, *field).is_none());
            forgotten
                && side.row().is_some_and(|row| {
                    unit.fields.iter().all(|field| row.fields.get(field) == Some(&Cell::Value(Value::Null)))
                })
        })
        .map(|side| {
            let evidence = Evidence::of_row(side, view.now);
            ConflictSide {
                store: side.store.clone(),
                values: unit
                    .fields
                    .iter()
                    .map(|field| (view.entity.field(*field).name.clone(), Value::Null))
                    .collect(),
                record: SideRecord::Held(whole_record(view.entity, side)),
                version: evidence.version,
                time: evidence.time,
                carried: evidence.carried,
            }
        })
        .collect();
    if nulls.is_empty() {
        return;
    }
    let fields = unit.fields.iter().map(|field| view.entity.field(*field).name.clone()).collect();
    let record = RecordId { entity: view.entity.name.clone(), key: view.key.clone() };
    let winner = settled.origin.as_ref().and_then(|origin| origin.store.clone());
    settled.conflict =
        Some(Conflict::new(record, fields, nulls, winner, ConflictReason::FirstMeeting, view.now));
}
