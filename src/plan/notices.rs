//! What a person should know of a record or a store although nothing is written.

use std::collections::BTreeMap;

use crate::model::{Cell, Entity, EntityName, FieldId, FieldRef, RecordId, StoreName};
use crate::resolve::{Conflict, ConflictStatus, Fate, LeftReason, Rejection, Rule};

use super::recipe::Entry;
use super::{Notice, NoticeKind, SnapshotReport};

/// What is to be said where the canonical store was last written with another state, in this pass.
pub(crate) fn of_other_state(canonical: &StoreName, pass: i64, same: bool) -> Notice {
    let state = if same { "a newer copy of this state" } else { "another state" };
    Notice {
        kind: NoticeKind::OtherState,
        record: None,
        entity: None,
        store: Some(canonical.clone()),
        field: None,
        rule: None,
        about: None,
        message: format!(
            "it was last written with {state} (pass {pass}): everything meets for the first time, deletes that were made since come \
             back, and where values differ nobody knows which is newer"
        ),
    }
}

/// Said of an entity in a store while a rebuild has not reached all of its records.
pub(crate) fn of_rebuilding(entity: &EntityName, store: &StoreName) -> Notice {
    Notice {
        kind: NoticeKind::Rebuilding,
        record: None,
        entity: Some(entity.clone()),
        store: Some(store.clone()),
        field: None,
        rule: None,
        about: None,
        message: "records that no pass has reached since the state was lost still meet for the first time"
            .to_owned(),
    }
}

/// Said of a plan during which somebody else went on writing.
pub(crate) fn of_writing_beside(writer: &str) -> Notice {
    Notice {
        kind: NoticeKind::Beside,
        record: None,
        entity: None,
        store: None,
        field: None,
        rule: None,
        about: None,
        message: format!(
            "{writer} went on writing: what it has just written may show here as edited, or as gone back to an older version, by \
             nobody. Plan again when it is done (`--lock-timeout 1m` waits for it)"
        ),
    }
}

/// What is to be said of a record. `known` are its conflicts that were recorded before.
pub(super) fn of_record(
    entity: &Entity,
    id: &RecordId,
    entry: &Entry,
    known: &[Conflict],
    out: &mut Vec<Notice>,
) {
    let name = |field: FieldId| entity.field(field).name.clone();
    let mut add =
        |kind, store: Option<&StoreName>, field: Option<FieldId>, rule: Option<Rule>, message: String| {
            out.push(Notice {
                kind,
                record: Some(id.clone()),
                entity: None,
                store: store.cloned(),
                field: field.map(name),
                rule,
                about: None,
                message,
            });
        };
    let resolution = &entry.resolution;
    // A conflict is recorded once, and said for as long as it holds fields.
    let holds = |known: &&Conflict| {
        let mut new = resolution.conflicts.iter().chain(&resolution.closed);
        let held = |field: &FieldId| known.fields.contains(&entity.field(*field).name);
        new.all(|new| new.id != known.id) && resolution.held.iter().any(held)
    };
    let waiting = resolution.conflicts.iter().chain(known.iter().filter(holds));
    for conflict in waiting.filter(|conflict| conflict.status == ConflictStatus::Open) {
        let stores: Vec<String> = conflict.sides.iter().map(|side| side.store.to_string()).collect();
        let fields: Vec<String> = conflict.fields.iter().map(ToString::to_string).collect();
        // Until it is on record it has no id: that hangs on when it was found.
        let how = if known.iter().any(|known| known.id == conflict.id) {
            format!("decide with `trueup conflicts resolve {}`", conflict.id)
        } else {
            "decide with `trueup conflicts`, once `trueup apply` has put it on record".to_owned()
        };
        let differ = if fields.len() == 1 { "differs" } else { "differ" };
        let (fields, stores) = (fields.join(", "), stores.join(" and "));
        let message = format!("{fields} {differ} between {stores} and nothing says which is newer; {how}");
        add(
            NoticeKind::Held,
            None,
            conflict.fields.first().and_then(|field| entity.field_id(field)),
            None,
            message,
        );
    }
    for rejection in &resolution.rejections {
        let shown = match (&rejection.value, rejection.field) {
            (Some(_), Some(field)) if entity.field(field).sensitive => " (sensitive value)".to_owned(),
            (Some(Cell::Value(value)), _) if !value.is_null() => format!(" ({value})"),
            (Some(Cell::Unreadable(what)), _) => format!(" ({})", what.why),
            _ => String::new(),
        };
        let about = about(entity, entry, rejection);
        let what = rejection.field.map_or_else(|| "the record".to_owned(), |field| name(field).to_string());
        let message = format!(
            "{what} in {} breaks the rule `{}`{shown}{about}; it stays there until it is corrected",
            rejection.store, rejection.rule
        );
        add(NoticeKind::Rejected, Some(&rejection.store), rejection.field, Some(rejection.rule), message);
    }
    for (field, rule) in &resolution.already_invalid {
        let message = format!("{} already breaks the rule `{rule}`; nothing is blocked", name(*field));
        add(NoticeKind::AlreadyInvalid, None, Some(*field), Some(*rule), message);
    }
    for store in &resolution.regressed {
        let message = "the row went back to an older version; nothing is written there (--allow regressed brings it \
                       forward)";
        add(NoticeKind::Regressed, Some(store), None, None, message.to_owned());
    }
    if resolution.fate == Fate::Left(LeftReason::CanonicalRegressed) {
        let message = "the canonical row went back to an older version; the record is left alone everywhere";
        add(NoticeKind::Regressed, None, None, None, message.to_owned());
    }
    if let Some(message) = waits(entry) {
        add(NoticeKind::Waiting, None, None, None, message);
    }
    for side in &entry.sides {
        for (field, why) in &side.cannot_hold {
            add(
                NoticeKind::CannotHold,
                Some(&side.store),
                entity.field_id(field),
                None,
                format!("{field}: {why}"),
            );
        }
    }
}

/// The field and the other record that a broken rule that spans records is about.
fn about(entity: &Entity, entry: &Entry, rejection: &Rejection) -> String {
    let Some((from, other)) = &entry.overrides.about else { return String::new() };
    let name = match from {
        FieldRef::Field(field) => &entity.field(*field).name,
        FieldRef::Key(part) => match entity.key.get(*part) {
            Some(part) => &part.name,
            None => return String::new(),
        },
    };
    // Of a change of another field nothing is known here, unless this one follows from it.
    let concerns = |field: FieldId| *from == FieldRef::Field(field) || follows(entity, *from, field);
    if rejection.field.is_some_and(|field| !concerns(field)) {
        return String::new();
    }
    match rejection.rule {
        Rule::Unique => format!(": {other} has its `{name}`"),
        Rule::Reference => format!(": there is no {other} for its `{name}`"),
        _ => String::new(),
    }
}

/// Whether a field is derived from another one.
fn follows(entity: &Entity, from: FieldRef, source: FieldId) -> bool {
    let FieldRef::Field(derived) = from else { return false };
    let args = entity.field(derived).derive.iter().flat_map(|derive| &derive.args);
    args.into_iter().any(|arg| *arg == FieldRef::Field(source) || follows(entity, *arg, source))
}

/// What a record waits for, if it does.
fn waits(entry: &Entry) -> Option<String> {
    const WHY: &str = "paused, refused by a guard or no target of this plan";
    let overrides = &entry.overrides;
    if overrides.wait && entry.resolution.fate == Fate::Left(LeftReason::Paused) {
        return Some(format!("it was deleted, and waits: records that go with it are {WHY}"));
    }
    if overrides.wait {
        return Some(format!(
            "it waits: what it stands in or is joined by would leave a store, and is {WHY}"
        ));
    }
    if let Some((stores, child)) = first_of(&overrides.stays) {
        return Some(format!(
            "it was deleted, and waits in {stores}: {child}, which goes with it, is still there (paused, or not taken a short while ago)"
        ));
    }
    let (stores, parent) = first_of(&overrides.awaits)?;
    Some(format!(
        "it waits: {parent}, which it refers to, is not in {stores} yet (paused, refused by a guard, no target of this plan, or not \
         taken a short while ago)"
    ))
}

/// The first record that another one waits for, and the stores in which it does.
fn first_of(waits: &BTreeMap<StoreName, RecordId>) -> Option<(String, &RecordId)> {
    let (_, first) = waits.first_key_value()?;
    let stores = waits.iter().filter(|(_, other)| *other == first);
    let stores: Vec<&str> = stores.map(|(store, _)| store.as_str()).collect();
    Some((stores.join(" and "), first))
}

pub(super) fn of_stores(
    entity: &EntityName,
    snapshots: &BTreeMap<StoreName, SnapshotReport>,
    out: &mut Vec<Notice>,
) {
    let mut add = |kind, store: &StoreName, about: Option<String>, message: String| {
        out.push(Notice {
            kind,
            record: None,
            entity: Some(entity.clone()),
            store: Some(store.clone()),
            field: None,
            rule: None,
            about,
            message,
        });
    };
    for (store, report) in snapshots {
        if let Some(error) = &report.error {
            add(NoticeKind::Unreachable, store, None, error.clone());
        }
        let Some(certificate) = &report.certificate else { continue };
        for column in &certificate.missing_columns {
            let message = format!(
                "column `{column}` is missing; its field is unknown there (check the mapping; `trueup migrate` adds it)"
            );
            add(NoticeKind::MissingColumn, store, Some(column.clone()), message);
        }
        for key in &certificate.duplicate_keys {
            let message = format!(
                "more than one row has the key {key}; correct it there: until then nothing is created or found deleted there"
            );
            add(NoticeKind::BadKey, store, Some(key.to_string()), message);
        }
        if certificate.bad_keys > 0 {
            let (rows, it) = match certificate.bad_keys {
                1 => ("1 row has".to_owned(), "it"),
                rows => (format!("{rows} rows have"), "them"),
            };
            // Any record that the store seems to lack may be one of these.
            let message = format!(
                "{rows} no usable key; give {it} one there, or remove {it}: until then nothing is created or found deleted there"
            );
            add(NoticeKind::BadKey, store, None, message);
        }
    }
}
