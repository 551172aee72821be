//! What Prometheus sees.
#![allow(clippy::float_cmp)] // Gauges are set, not reckoned.

use super::*;
use crate::diff::Standing;
use crate::model::{Certificate, FieldName, RecordId, RecordKey, StateId};
use crate::plan::{GuardTrip, Notice, SnapshotReport};
use crate::reconcile::Trouble;
use crate::telemetry::fixture;

fn store(name: &str) -> StoreName {
    StoreName::new(name).unwrap()
}

fn contacts() -> EntityName {
    EntityName::new("contacts").unwrap()
}

pub(in crate::telemetry) fn plan(changed: u64) -> Plan {
    let books = Books {
        seen: 10,
        rows: 10,
        standing: [(Standing::InSync, 10 - changed), (Standing::Written, changed)].into(),
        changed,
        fields: (changed > 0).then(|| (FieldName::new("title").unwrap(), changed)).into_iter().collect(),
        ..Books::default()
    };
    let certificate =
        Certificate { rows_claimed: 10, rows_read: 10, end_seen: true, ..Certificate::default() };
    let report = SnapshotReport { certificate: Some(certificate), error: None, paused: false };
    Plan {
        made_at: Timestamp::from_micros(1_781_500_000_500_000).unwrap(),
        spec_sha: String::new(),
        state: StateId(String::new()),
        state_pass: 0,
        canonical: store("hub"),
        entities: vec![contacts()],
        rebuild: false,
        records: crate::plan::Records::default(),
        guards: Vec::new(),
        approvals: BTreeMap::new(),
        allowed: BTreeSet::new(),
        books: [(contacts(), [(store("app"), books)].into())].into(),
        snapshots: [(contacts(), [(store("app"), report.clone()), (store("hub"), report)].into())].into(),
        notices: Vec::new(),
        open_conflicts: [(contacts(), 2)].into(),
        withdrawn: Vec::new(),
        targets: Vec::new(),
        unmet: Vec::new(),
        unsettled: BTreeMap::new(),
        marks: BTreeMap::new(),
        meetings: BTreeMap::new(),
        bills: BTreeMap::new(),
    }
}

/// The value of a series, as it stands in the text.
fn value(metrics: &Metrics, series: &str) -> f64 {
    let text = metrics.text();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
    line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
}

#[test]
fn every_series_is_there_from_the_start() {
    let metrics = Metrics::new(&fixture::spec()).unwrap();
    let text = metrics.text();
    // What the process takes is another number in every run.
    let varies = |line: &str| line.starts_with("# HELP") || line.starts_with("trueup_resident_memory_bytes ");
    let series: Vec<&str> = text.lines().filter(|line| !varies(line)).collect();
    insta::assert_snapshot!(series.join("\n"));
}

#[test]
fn labels_come_from_closed_sets() {
    let metrics = Metrics::new(&fixture::spec()).unwrap();
    let allowed = [
        "store", "entity", "field", "kind", "action", "result", "reason", "rule", "guard", "standing",
        "version", "sha",
    ];
    for family in metrics.registry.gather() {
        assert!(family.name().starts_with("trueup_"), "{}", family.name());
        for label in family.get_metric().iter().flat_map(prometheus::proto::Metric::get_label) {
            assert!(allowed.contains(&label.name()), "{} in {}", label.name(), family.name());
        }
    }
}

#[test]
fn drift_is_told_and_its_end_too() {
    let metrics = Metrics::new(&fixture::spec()).unwrap();
    metrics.notice(&Event::Planned { plan: &plan(4) });
    let at = r#"{entity="contacts",store="app"}"#;
    assert_eq!(value(&metrics, r#"trueup_drift_records{entity="contacts",kind="changed",store="app"}"#), 4.0);
    assert_eq!(value(&metrics, r#"trueup_drift_fields{entity="contacts",field="title",store="app"}"#), 4.0);
    assert_eq!(value(&metrics, &format!("trueup_drift_ratio{at}")), 0.4);
    assert_eq!(value(&metrics, &format!("trueup_oldest_drift_timestamp_seconds{at}")), 1_781_500_000.5);
    assert_eq!(value(&metrics, &format!("trueup_converged{at}")), 0.0);
    assert_eq!(value(&metrics, r#"trueup_conflicts_open{entity="contacts"}"#), 2.0);
    let later = Plan { made_at: Timestamp::from_micros(1_781_600_000_000_000).unwrap(), ..plan(1) };
    metrics.notice(&Event::Planned { plan: &later });
    assert_eq!(value(&metrics, &format!("trueup_oldest_drift_timestamp_seconds{at}")), 1_781_500_000.5);
    metrics.notice(&Event::Planned { plan: &plan(0) });
    assert_eq!(value(&metrics, r#"trueup_drift_fields{entity="contacts",field="title",store="app"}"#), 0.0);
    assert_eq!(value(&metrics, &format!("trueup_oldest_drift_timestamp_seconds{at}")), 0.0);
    assert_eq!(value(&metrics, &format!("trueup_converged{at}")), 1.0);
}

#[test]
fn one_that_stands_by_tells_nothing_of_what_it_found_before() {
    let metrics = Metrics::new(&fixture::spec()).unwrap();
    let trip = GuardTrip {
        guard: GuardName::Deletes,
        entity: contacts(),
        store: store("app"),
        message: String::new(),
    };
    let troubled = Plan { guards: vec![trip], ..plan(4) };
    metrics.notice(&Event::Planned { plan: &troubled });
    let alerting = || -> Vec<String> {
        let gauges = [
            "trueup_drift_ratio{",
            "trueup_oldest_drift_",
            "trueup_conflicts_open{",
            "trueup_guard_tripped{",
        ];
        let text = metrics.text();
        let lines = text.lines().filter(|line| gauges.iter().any(|gauge| line.starts_with(gauge)));
        lines.filter(|line| !line.ends_with(" 0")).map(ToOwned::to_owned).collect()
    };
    let told = alerting();
    assert_eq!(told.len(), 4, "{told:#?}");
    metrics.notice(&Event::StandsBy);
    assert_eq!(alerting(), Vec::<String>::new());
    assert_eq!(value(&metrics, r#"trueup_guard_trips_total{guard="deletes"}"#), 1.0, "counters go on");
    metrics.notice(&Event::Planned { plan: &troubled });
    assert_eq!(alerting(), told, "it leads again");
}

#[test]
fn a_store_is_in_step_only_when_it_was_read_whole_and_written() {
    let metrics = Metrics::new(&fixture::spec()).unwrap();
    let mut plan = plan(1);
    plan.snapshots.get_mut(&contacts()).unwrap().get_mut(&store("hub")).unwrap().certificate = None;
    metrics.notice(&Event::Planned { plan: &plan });
    let record = RecordId { entity: contacts(), key: RecordKey::new(vec!["C1".to_owned()]) };
    let failed = vec![Trouble { record, store: store("app"), message: String::new() }];
    metrics.notice(&Event::PassEnded { report: &Report { failed, ..Report::default() }, seconds: 0.2 });
    let synced = |name: &str| {
        value(&metrics, &format!("trueup_last_successful_sync_timestamp_seconds{{store=\"{name}\"}}"))
    };
    assert_eq!((synced("app"), synced("hub")), (0.0, 0.0));
    metrics.notice(&Event::PassEnded { report: &Report::default(), seconds: 0.2 });
    assert!(synced("app") > 1e9);
    assert_eq!(synced("hub"), 0.0, "it could not be read");
    assert_eq!(value(&metrics, r#"trueup_passes_total{result="incomplete"}"#), 1.0);
    assert_eq!(value(&metrics, r#"trueup_passes_total{result="clean"}"#), 1.0);
    assert_eq!(value(&metrics, "trueup_pass_duration_seconds_count"), 2.0);
}

#[test]
fn writes_guards_and_rules_are_counted() {
    let metrics = Metrics::new(&fixture::spec()).unwrap();
    let (app, entity) = (store("app"), contacts());
    let key = RecordKey::new(vec!["C1".to_owned()]);
    for result in [
        WriteResult::Applied,
        WriteResult::Skipped,
        WriteResult::Failed(ErrorKind::Invalid),
        WriteResult::Unknown,
    ] {
        let kind = ActionKind::Update;
        metrics.notice(&Event::Wrote { store: &app, entity: &entity, key: &key, kind, result });
    }
    for result in RESULTS {
        let series = format!(
            "trueup_writes_total{{action=\"update\",entity=\"contacts\",result=\"{result}\",store=\"app\"}}"
        );
        assert_eq!(value(&metrics, &series), 1.0, "{result}");
    }
    for reason in [MOVED, "invalid", "outcome_unknown"] {
        assert_eq!(
            value(&metrics, &format!("trueup_write_rejections_total{{reason=\"{reason}\",store=\"app\"}}")),
            1.0
        );
    }
    let guard = GuardTrip {
        guard: GuardName::Emptied,
        entity: contacts(),
        store: app.clone(),
        message: String::new(),
    };
    let rejected = Notice {
        kind: NoticeKind::Rejected,
        record: Some(RecordId { entity: contacts(), key: RecordKey::new(vec!["C1".to_owned()]) }),
        entity: None,
        store: Some(app),
        field: None,
        rule: Some(Rule::Enum),
        about: None,
        message: String::new(),
    };
    metrics
        .notice(&Event::Planned { plan: &Plan { guards: vec![guard], notices: vec![rejected], ..plan(0) } });
    assert_eq!(value(&metrics, r#"trueup_guard_trips_total{guard="emptied"}"#), 1.0);
    assert_eq!(
        value(&metrics, r#"trueup_validation_errors{entity="contacts",rule="enum",store="app"}"#),
        1.0
    );
    metrics.notice(&Event::Planned { plan: &plan(0) });
    assert_eq!(
        value(&metrics, r#"trueup_validation_errors{entity="contacts",rule="enum",store="app"}"#),
        0.0
    );
}

#[test]
fn a_store_that_keeps_passes_from_being_made_is_down_and_a_pass_under_way_is_told() {
    let metrics = Metrics::new(&fixture::spec()).unwrap();
    let app = store("app");
    let down = "trueup_store_down_since_timestamp_seconds{store=\"app\"}";
    let under_way = "trueup_pass_under_way_since_timestamp_seconds";
    let failed = Event::StoreFailed { store: &app, kind: ErrorKind::Unavailable, message: "no answer" };
    // What failed in a pass that was made is not what kept this one from being made.
    for event in [failed, Event::PassStarted, Event::PassFailed { message: "the disk is full", seconds: 1.0 }]
    {
        metrics.notice(&event);
    }
    assert_eq!(value(&metrics, down), 0.0);
    metrics.notice(&Event::UnderWay { is: true });
    assert!(value(&metrics, under_way) > 0.0);
    metrics.notice(&Event::PassStarted);
    metrics.notice(&Event::StoreFailed { store: &app, kind: ErrorKind::Unavailable, message: "no answer" });
    metrics.notice(&Event::PassFailed { message: "no answer", seconds: 1.0 });
    metrics.notice(&Event::UnderWay { is: false });
    let since = value(&metrics, down);
    assert!(since > 0.0 && value(&metrics, under_way) == 0.0);
    metrics.notice(&Event::PassFailed { message: "no answer", seconds: 1.0 });
    assert_eq!(value(&metrics, down), since, "since it began");
    metrics.notice(&Event::Planned { plan: &plan(0) });
    assert_eq!(value(&metrics, down), 0.0);
}
