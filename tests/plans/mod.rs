//! Plans built by hand, for the tests of how they are shown, saved and read.
#![allow(dead_code, missing_docs, unreachable_pub)] // Each test file uses some of them.
#![allow(clippy::unwrap_used)] // A helper of tests that cannot go on is a test that fails.

use std::collections::BTreeMap;

use trueup::diff::{Action, ActionKind, Change, Reason, Standing};
use trueup::model::{
    ByName, ByStore, Cell, Certificate, ConflictId, EntityName, FieldName, FieldShadow, Json, MappingTag,
    RecordId, RecordKey, Shadow, StateId, StoreName, SyncMeta, SyncStatus, Timestamp, Value, Version,
};
use trueup::plan::{
    Books, GuardName, GuardTrip, Notice, NoticeKind, Plan, RecordPlan, Records, SnapshotReport,
};
use trueup::resolve::{
    Conflict, ConflictReason, ConflictSide, ConflictStatus, Origin, OriginRule, Rule, SideRecord,
};

pub fn store(name: &str) -> StoreName {
    StoreName::new(name).unwrap()
}

pub fn entity(name: &str) -> EntityName {
    EntityName::new(name).unwrap()
}

pub fn field(name: &str) -> FieldName {
    FieldName::new(name).unwrap()
}

pub fn id(key: &str) -> RecordId {
    RecordId { entity: entity("contacts"), key: RecordKey::new(vec![key.to_owned()]) }
}

pub fn at(second: i64) -> Timestamp {
    Timestamp::from_micros((1_781_500_000 + second) * 1_000_000).unwrap()
}

pub fn text(text: &str) -> Value {
    Value::text(text)
}

pub fn json(text: &str) -> Value {
    Value::Json(Json::parse(text).unwrap())
}

pub fn change(name: &str, before: Value, after: Value, from: &str, rule: OriginRule) -> Change {
    let origin = Origin { store: (!from.is_empty()).then(|| store(from)), rule };
    Change { field: field(name), before: Cell::Value(before), after, origin, sensitive: false }
}

pub fn secret(change: Change) -> Change {
    Change { sensitive: true, ..change }
}

pub fn meta(version: i64) -> SyncMeta {
    SyncMeta {
        version: Some(Version(version)),
        last_updated: Some(at(version)),
        last_updated_by: Some("app".into()),
        ..SyncMeta::default()
    }
}

/// An action; the store is known to hold the changed fields and `others` besides.
pub fn action(name: &str, kind: ActionKind, reason: Reason, changes: Vec<Change>, others: &[&str]) -> Action {
    let shadow = |held: &Value| FieldShadow {
        held: Cell::Value(held.clone()),
        stands_for: None,
        version: Version(4),
        tag: MappingTag(7),
        unsure: false,
    };
    let mut fields: ByName<FieldShadow> =
        changes.iter().map(|change| (change.field.clone(), shadow(&change.after))).collect();
    fields.extend(others.iter().map(|name| (field(name), shadow(&text("as it was")))));
    let guard = changes.iter().map(|change| (change.field.clone(), change.before.clone())).collect();
    let (before, after) = match kind {
        ActionKind::Create => (SyncMeta::default(), Some(meta(1))),
        ActionKind::Delete => (meta(3), None),
        ActionKind::Bookkeeping => {
            (meta(3), Some(SyncMeta { sync_status: Some(SyncStatus::Conflict), ..meta(3) }))
        }
        _ => (meta(3), Some(meta(4))),
    };
    Action {
        store: store(name),
        kind,
        reason,
        store_id: None,
        link: false,
        changes,
        guard: if kind == ActionKind::Create { ByName::new() } else { guard },
        meta_before: before,
        meta_after: after,
        created: None,
        updated: None,
        advance: Shadow {
            present: kind != ActionKind::Delete,
            store_id: None,
            meta: meta(4),
            updated: None,
            home: None,
            fields,
        }
        .into(),
    }
}

pub fn record(key: &str, actions: Vec<Action>) -> RecordPlan {
    RecordPlan {
        record: id(key),
        conflicts: Vec::new(),
        closes: Vec::new(),
        tombstone: None,
        actions,
        adopt: ByStore::new(),
        basis: "0".to_owned(),
    }
}

pub fn side(name: &str, title: &str, version: i64) -> ConflictSide {
    let values: ByName<Value> = [(field("title"), text(title))].into();
    ConflictSide {
        store: store(name),
        record: SideRecord::Held(values.clone()),
        values,
        version: Version(version),
        time: Some(at(version)),
        carried: true,
    }
}

pub fn conflict(key: &str, reason: ConflictReason) -> Conflict {
    let open = reason == ConflictReason::ManualResolutionRequired;
    Conflict {
        id: ConflictId("00c0ffee00c0ffee".to_owned()),
        record: id(key),
        fields: vec![field("title")],
        sides: vec![side("app", "Dr", 5), side("local", "Prof", 4)],
        winner: (!open).then(|| store("app")),
        reason,
        status: if open { ConflictStatus::Open } else { ConflictStatus::Resolved },
        created_at: at(0),
        resolved_at: None,
        resolved_by: None,
        decision: None,
    }
}

pub fn notice(kind: NoticeKind, key: &str, name: Option<&str>, message: &str) -> Notice {
    Notice {
        kind,
        record: Some(id(key)),
        entity: None,
        store: name.map(store),
        field: Some(field("title")),
        rule: (kind == NoticeKind::Rejected).then_some(Rule::Pattern),
        about: None,
        message: message.to_owned(),
    }
}

pub fn trip() -> GuardTrip {
    GuardTrip {
        guard: GuardName::Deletes,
        entity: entity("businesses"),
        store: store("app"),
        message: "120 of 400 records would be deleted, more than 10%".to_owned(),
    }
}

pub fn books(seen: u64, standing: &[(Standing, u64)]) -> Books {
    Books { seen, rows: seen, standing: standing.iter().copied().collect(), ..Books::default() }
}

pub fn empty() -> Plan {
    let certificate = Certificate { rows_claimed: 3, rows_read: 3, end_seen: true, ..Certificate::default() };
    let report = SnapshotReport { certificate: Some(certificate), error: None, paused: false };
    let books = books(3, &[(Standing::InSync, 3)]);
    Plan {
        made_at: at(0),
        spec_sha: "5e".repeat(32),
        state: StateId("state-1".to_owned()),
        state_pass: 6,
        canonical: store("hub"),
        entities: vec![entity("contacts")],
        rebuild: false,
        records: Records::default(),
        guards: Vec::new(),
        approvals: std::collections::BTreeMap::new(),
        allowed: [].into(),
        books: [(entity("contacts"), [(store("hub"), books.clone()), (store("app"), books)].into())].into(),
        snapshots: [(entity("contacts"), [(store("app"), report)].into())].into(),
        notices: Vec::new(),
        open_conflicts: BTreeMap::new(),
        withdrawn: Vec::new(),
        over: std::collections::BTreeSet::new(),
        targets: Vec::new(),
        unmet: Vec::new(),
        unsettled: BTreeMap::new(),
        marks: BTreeMap::new(),
        meetings: BTreeMap::new(),
        bills: BTreeMap::new(),
    }
}

/// A creation, an update, a deletion, a metadata-only action and bookkeeping, with a secret and long values among them.
pub fn full() -> Plan {
    use OriginRule::{HigherVersion, MergedJson, OnlyChange};
    let letter = |word: &str| {
        text(&format!(
            "Dear all,\n\nthe meeting is on {word}.\nBring the papers.\n\nYours\nP.\nPS: coffee\nPPS: tea"
        ))
    };
    let long = |word: &str| {
        text(&format!(
            "This record was checked by hand in spring. The address was confirmed by letter. The telephone number is \
             {word}. The next check is due in a year, or earlier if somebody complains about it."
        ))
    };
    let create = action(
        "hub",
        ActionKind::Create,
        Reason::Missing,
        vec![
            change("canonical_name", Value::Null, text("Zoë Österåker"), "app", OnlyChange),
            change("title", Value::Null, Value::Null, "app", OnlyChange),
            secret(change("passport", Value::Null, text("P-4711"), "app", OnlyChange)),
            change("letter", Value::Null, letter("Monday"), "app", OnlyChange),
        ],
        &[],
    );
    let update = action(
        "app",
        ActionKind::Update,
        Reason::Differs,
        vec![
            change("title", text("Ms"), text("Dr"), "local", OnlyChange),
            change("first_name", text("Ann"), Value::Null, "local", OnlyChange),
            change("letter", letter("Monday"), letter("Friday"), "local", OnlyChange),
            change("notes", long("old"), long("unknown"), "hub", HigherVersion),
            change(
                "llm_context",
                json(
                    r#"{"topics":["rust","yaml"],"score":1,"source":{"a":1,"b":2,"c":3,"d":"some longer text here"}}"#,
                ),
                json(
                    r#"{"topics":["rust","sql"],"score":1,"source":{"a":1,"b":2,"c":3,"d":"some longer text here"}}"#,
                ),
                "local",
                MergedJson,
            ),
            secret(change("passport", text("P-4711"), text("P-0815"), "local", OnlyChange)),
        ],
        &["canonical_name", "email"],
    );
    let delete = action(
        "local",
        ActionKind::Delete,
        Reason::DeletedElsewhere,
        vec![
            change("canonical_name", text("Old Friend"), Value::Null, "app", OnlyChange),
            secret(change("passport", text("P-1"), Value::Null, "app", OnlyChange)),
        ],
        &[],
    );
    let metadata = action("app", ActionKind::Metadata, Reason::BehindInVersion, Vec::new(), &[]);
    let status = action("hub", ActionKind::Bookkeeping, Reason::Trouble, Vec::new(), &[]);
    Plan {
        records: vec![
            record("C1", vec![create]),
            record("C2", vec![update]),
            record("C3", vec![delete]),
            record("C4", vec![metadata]),
            record("C5", vec![status]),
        ]
        .into(),
        ..empty()
    }
}

/// Conflicts, held and rejected records, guards and stores in trouble.
pub fn troubled() -> Plan {
    let title = change("title", text("Prof"), text("Dr"), "app", OriginRule::HigherVersion);
    let mut settled =
        record("C1", vec![action("local", ActionKind::Update, Reason::Differs, vec![title], &[])]);
    settled.conflicts = vec![conflict("C1", ConflictReason::HigherVersion)];
    let mut open = record("C2", Vec::new());
    open.conflicts = vec![conflict("C2", ConflictReason::ManualResolutionRequired)];
    let mut ends = record("C3", Vec::new());
    ends.closes = vec![Conflict {
        status: ConflictStatus::Withdrawn,
        resolved_by: Some("withdrawn".to_owned()),
        ..conflict("C3", ConflictReason::ManualResolutionRequired)
    }];
    Plan {
        records: vec![settled, open, ends].into(),
        guards: vec![trip()],
        notices: vec![
            notice(
                NoticeKind::Held,
                "C2",
                None,
                "title differs between app and local and nothing says which is newer",
            ),
            notice(
                NoticeKind::Rejected,
                "C7",
                Some("app"),
                "title in app breaks the rule `pattern` (\"???\")",
            ),
            notice(
                NoticeKind::AlreadyInvalid,
                "C8",
                None,
                "title already breaks the rule `required`; nothing is blocked",
            ),
            notice(NoticeKind::CannotHold, "C9", Some("local"), "title: longer than the column"),
            notice(NoticeKind::Regressed, "C10", Some("local"), "the row went back to an older version"),
            Notice {
                record: None,
                field: None,
                entity: Some(entity("contacts")),
                ..notice(NoticeKind::Unreachable, "", Some("twenty"), "store `twenty`: no answer")
            },
        ],
        open_conflicts: [(entity("contacts"), 1)].into(),
        unsettled: BTreeMap::new(),
        marks: BTreeMap::new(),
        meetings: BTreeMap::new(),
        ..empty()
    }
}

/// Held and rejected records, and nothing that could be written.
pub fn waiting() -> Plan {
    let stands = [(Standing::InSync, 1), (Standing::Held, 1), (Standing::Rejected, 1)];
    Plan {
        records: Records::default(),
        guards: Vec::new(),
        books: [(entity("contacts"), [(store("app"), books(3, &stands))].into())].into(),
        notices: troubled()
            .notices
            .into_iter()
            .filter(|notice| notice.kind <= NoticeKind::Rejected)
            .collect(),
        ..troubled()
    }
}
