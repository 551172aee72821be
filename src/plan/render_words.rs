//! The words of a page: why something is done, who won a conflict, and what a notice is about.

use std::collections::BTreeSet;

use crate::diff::{Action, Change, Reason};
use crate::model::{FieldName, RecordId, StoreName, SyncMeta};
use crate::resolve::{Conflict, ConflictSide, Origin, OriginRule, SideRecord};

use super::render::counted;
use super::render_value as value;
use super::{Notice, NoticeKind, RecordPlan};

/// Why an action is needed, in words.
pub(super) fn because(action: &Action) -> String {
    match action.reason {
        Reason::Missing => match new_in(action) {
            Some(store) => format!("(new in {store})"),
            None => "(missing there)".to_owned(),
        },
        Reason::Restored => "(it was deleted there and is put back)".to_owned(),
        Reason::Differs => differs(action),
        Reason::DeletedElsewhere => {
            match action.changes.first().and_then(|change| change.origin.store.as_ref()) {
                Some(store) => format!("(deleted in {store})"),
                None => "(deleted elsewhere)".to_owned(),
            }
        }
        Reason::Cascade => "(the record it refers to is deleted)".to_owned(),
        Reason::OutOfScope => "(it no longer belongs in this store)".to_owned(),
        Reason::BehindInVersion => {
            let after = action.meta_after.as_ref().map(SyncMeta::version_or_none).unwrap_or_default();
            format!("(version {} -> {after})", action.meta_before.version_or_none())
        }
        Reason::Linked => "(the row is linked to its record)".to_owned(),
        Reason::Trouble => {
            let status = action.meta_after.as_ref().and_then(|meta| meta.sync_status).unwrap_or_default();
            format!("(sync status: {})", status.as_str())
        }
    }
}

/// The store that a new record comes from, where all its values do.
fn new_in(action: &Action) -> Option<&StoreName> {
    let given = || {
        let told = |change: &&Change| !change.after.is_null() && change.origin.rule != OriginRule::Derived;
        action.changes.iter().filter(told)
    };
    let first = given().next()?.origin.store.as_ref()?;
    let alike = given().all(|change| {
        change.origin.store.as_ref() == Some(first) && change.origin.rule != OriginRule::Canonical
    });
    alike.then_some(first)
}

fn differs(action: &Action) -> String {
    let changed: BTreeSet<&str> = action
        .changes
        .iter()
        .filter(|change| !matches!(change.origin.rule, OriginRule::Canonical | OriginRule::Derived))
        .filter_map(|change| change.origin.store.as_ref())
        .filter(|store| **store != action.store)
        .map(StoreName::as_str)
        .collect();
    if changed.is_empty() {
        let person = action.changes.iter().any(|change| change.origin.rule == OriginRule::Person);
        return if person {
            "(a person decided)".to_owned()
        } else {
            "(it differs from the canonical record)".to_owned()
        };
    }
    let changed: Vec<&str> = changed.into_iter().collect();
    format!("(because {} changed it)", changed.join(" and "))
}

/// Where a value comes from and the rule that it stands by, in words.
pub(super) fn origin_words(origin: &Origin) -> String {
    let rule = rule_words(origin.rule);
    origin.store.as_ref().map_or_else(|| rule.to_owned(), |store| format!("from {store} ({rule})"))
}

fn rule_words(rule: OriginRule) -> &'static str {
    match rule {
        OriginRule::Canonical => "canonical",
        OriginRule::OnlyChange => "only change",
        OriginRule::HigherVersion => "higher version",
        OriginRule::LaterTimestamp => "later timestamp",
        OriginRule::FirstMeeting => "first meeting",
        OriginRule::MergedJson => "merged JSON",
        OriginRule::Derived => "derived",
        OriginRule::Person => "decided by a person",
    }
}

/// Who won, by which rule and evidence, and who lost what.
pub(super) fn settled_line(record: &RecordPlan, conflict: &Conflict) -> String {
    let fields: Vec<&str> = conflict.fields.iter().map(FieldName::as_str).collect();
    let fields = if fields.is_empty() { "the whole record".to_owned() } else { fields.join(", ") };
    let evidence = |store: &StoreName| {
        conflict.side(store).map_or(String::new(), |side| {
            let time = side.time.map_or(String::new(), |time| format!(", {time}"));
            format!(" (version {}{time})", side.version)
        })
    };
    let winner = conflict.winner.as_ref();
    let won_side = winner.and_then(|store| conflict.side(store));
    let won = winner.map_or_else(|| "nobody".to_owned(), |store| format!("{store}{}", evidence(store)));
    let lost: Vec<String> = conflict
        .sides
        .iter()
        .filter(|side| Some(&side.store) != winner && !won_side.is_some_and(|won| won.says_as(side)))
        .map(|side| format!("{}{}{}", side.store, evidence(&side.store), lost_values(record, side)))
        .collect();
    let over = if lost.is_empty() { String::new() } else { format!(" over {}", lost.join(" and ")) };
    format!("{}: {fields}: {won} wins by {}{over}", conflict.record, conflict.reason.as_str())
}

/// The values that lost, where the plan's own changes show that the field may be shown.
fn lost_values(record: &RecordPlan, side: &ConflictSide) -> String {
    if side.record == SideRecord::Deleted {
        return ", where it was deleted".to_owned();
    }
    let open = showable(record);
    let values: Vec<String> = side
        .values
        .iter()
        .filter(|(field, value)| open.contains(field) && value::is_short(value))
        .map(|(field, value)| format!("{field} = {}", value::inline(value)))
        .collect();
    if values.is_empty() { String::new() } else { format!(", which had {}", values.join(", ")) }
}

/// Fields of a record that some change shows openly and none keeps hidden. A plan carries no schema, so of other fields it is not
/// known whether they may be shown.
pub(super) fn showable(record: &RecordPlan) -> BTreeSet<&FieldName> {
    let changes = || record.actions.iter().flat_map(|action| &action.changes);
    let hidden: BTreeSet<&FieldName> =
        changes().filter(|change| change.sensitive).map(|change| &change.field).collect();
    changes().map(|change| &change.field).filter(|field| !hidden.contains(field)).collect()
}

pub(super) fn heading(kind: NoticeKind, notices: &[&Notice]) -> String {
    let records: BTreeSet<&RecordId> = notices.iter().filter_map(|notice| notice.record.as_ref()).collect();
    let records = records.len() as u64;
    let all = notices.len() as u64;
    match kind {
        NoticeKind::OtherState => "what this state remembers counts for nothing".to_owned(),
        NoticeKind::Rebuilding => "the rebuild of a lost state has not come to its end".to_owned(),
        NoticeKind::Beside => "somebody else wrote while this was looked at".to_owned(),
        NoticeKind::Held if records == 0 => {
            let they_are = if all == 1 { "it is" } else { "they are" };
            format!(
                "{} held until it is known whose {they_are} (`trueup identity list`)",
                counted(all, "row")
            )
        }
        NoticeKind::Held => format!(
            "{} held: nothing is written to the fields until a person decides",
            counted(records, "record")
        ),
        NoticeKind::Waiting => format!("{} waiting for others", counted(records, "record")),
        NoticeKind::Rejected => format!("{} with a change that breaks a rule", counted(records, "record")),
        NoticeKind::AlreadyInvalid => {
            format!("{} already broke a rule; nothing is blocked", counted(records, "record"))
        }
        NoticeKind::CannotHold => format!("{} that a store has no way to hold", counted(all, "value")),
        NoticeKind::Regressed => format!("{} went back to an older version", counted(records, "record")),
        NoticeKind::Unreachable => "stores that could not be read; their records wait".to_owned(),
        NoticeKind::BadKey => "rows without a usable key of their own".to_owned(),
        NoticeKind::MissingColumn => format!("{} missing", counted(all, "mapped column")),
    }
}

pub(super) fn notice_line(notice: &Notice) -> String {
    let place = match (&notice.record, &notice.store, &notice.entity) {
        (Some(record), Some(store), _) => format!("{store}.{record}"),
        (Some(record), None, _) => record.to_string(),
        (None, Some(store), Some(entity)) => format!("{store}.{entity}"),
        (None, Some(store), None) => store.to_string(),
        (None, None, Some(entity)) => entity.to_string(),
        (None, None, None) => return notice.message.clone(),
    };
    format!("{place}: {}", notice.message)
}
