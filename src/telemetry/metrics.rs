//! Metrics for Prometheus, by the conventions of the field: base units, `_total` for counters, times instead of ages, labels from
//! closed sets only (never a record's key), and every series there from the start.
//!
//! When other manifests hold, series of what is no longer there are dropped, and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::{
    CounterVec, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::diff::ActionKind;
use crate::model::{EntityName, ErrorKind, StoreName, Timestamp};
use crate::plan::{Books, BooksTable, GuardName, NoticeKind, Plan, STANDINGS, standing_word};
use crate::reconcile::Report;
use crate::resolve::{Conflict, ConflictReason, ConflictStatus, Rule};
use crate::spec::Spec;

use super::{Event, Observer, WriteResult};

mod running;
mod series;

use running::RunningMetrics;

/// Passes take from milliseconds (two small files) to an hour (a first meeting with a store behind a rate limit).
const PASS_BUCKETS: [f64; 12] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];
const ACTIONS: [ActionKind; 5] = [
    ActionKind::Create,
    ActionKind::Update,
    ActionKind::Delete,
    ActionKind::Metadata,
    ActionKind::Bookkeeping,
];
const RESULTS: [&str; 4] = ["applied", "skipped", "failed", "unknown"];
const DRIFTS: [&str; 3] = ["missing", "extra", "changed"];
const PASSES: [&str; 3] = ["clean", "incomplete", "failed"];
const CONFLICT_RULES: [ConflictReason; 8] = [
    ConflictReason::HigherVersion,
    ConflictReason::LaterTimestamp,
    ConflictReason::ManualResolutionRequired,
    ConflictReason::ChangeOverDelete,
    ConflictReason::DeleteRestricted,
    ConflictReason::FirstMeeting,
    ConflictReason::BroughtForward,
    ConflictReason::AlteredByStore,
];
const ERRORS: [ErrorKind; 9] = [
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::RateLimited,
    ErrorKind::Unavailable,
    ErrorKind::Unauthorised,
    ErrorKind::Invalid,
    ErrorKind::Unsupported,
    ErrorKind::Corrupt,
    ErrorKind::OutcomeUnknown,
];
/// The reason of a write that was refused because its record had moved on.
const MOVED: &str = "moved";

/// All metrics of a controller, in a registry of their own.
pub struct Metrics {
    registry: Registry,
    drift_records: IntGaugeVec,
    drift_fields: IntGaugeVec,
    drift_ratio: GaugeVec,
    oldest_drift: GaugeVec,
    records: IntGaugeVec,
    standings: IntGaugeVec,
    converged: IntGaugeVec,
    pending: IntGaugeVec,
    snapshot_complete: IntGaugeVec,
    snapshot_rows: IntCounterVec,
    last_sync: GaugeVec,
    writes: IntCounterVec,
    rejections: IntCounterVec,
    store_errors: IntCounterVec,
    guard_trips: IntCounterVec,
    conflicts_open: IntGaugeVec,
    conflicts_resolved: IntCounterVec,
    validation_errors: IntGaugeVec,
    passes: IntCounterVec,
    pass_seconds: Histogram,
    last_pass: Gauge,
    lease: IntGauge,
    spec_info: IntGaugeVec,
    running: RunningMetrics,
    since: Mutex<Since>,
}

/// What the gauges of now are reckoned from.
#[derive(Default)]
struct Since {
    /// Since when each store's entity has drifted without a break.
    drifting: BTreeMap<(EntityName, StoreName), Timestamp>,
    /// The stores that the last plan could read whole, and that no guard keeps from being written.
    readable: BTreeMap<StoreName, bool>,
    /// The stores that failed since the pass began or its plan was made: what keeps a pass from making one.
    failed: BTreeSet<StoreName>,
}

/// Makes metrics and registers them.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(format!("trueup_{name}"), help)
    }
    fn put<C: prometheus::core::Collector + Clone + 'static>(
        &self,
        metric: C,
    ) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }
    fn ints(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.put(IntGaugeVec::new(Self::opts(name, help), labels)?)
    }
    fn floats(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec, prometheus::Error> {
        self.put(GaugeVec::new(Self::opts(name, help), labels)?)
    }
    fn seconds_counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<CounterVec, prometheus::Error> {
        self.put(CounterVec::new(Self::opts(name, help), labels)?)
    }
    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.put(IntCounterVec::new(Self::opts(name, help), labels)?)
    }
}

impl Metrics {
    /// The metrics of a spec, every series at zero.
    ///
    /// # Errors
    /// When a name is registered twice, which would be a mistake in this file.
    pub fn new(spec: &Spec) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let make = Maker(&registry);
        let place = &["store", "entity"];
        let seconds = HistogramOpts::new("trueup_pass_duration_seconds", "How long passes took.")
            .buckets(PASS_BUCKETS.to_vec());
        let metrics = Self {
            drift_records: make.ints(
                "drift_records",
                "Records that differ from what should be there.",
                &["store", "entity", "kind"],
            )?,
            drift_fields: make.ints(
                "drift_fields",
                "Records in which the field differs.",
                &["store", "entity", "field"],
            )?,
            drift_ratio: make.floats(
                "drift_ratio",
                "Differing records as a share of those that should be there.",
                place,
            )?,
            oldest_drift: make.floats(
                "oldest_drift_timestamp_seconds",
                "Since when there has been drift without a break; 0 without drift.",
                place,
            )?,
            records: make.ints("records", "Records that are there, or should be.", place)?,
            standings: make.ints(
                "records_by_standing",
                "Records by where they stand; they add up to trueup_records.",
                &["store", "entity", "standing"],
            )?,
            converged: make.ints("converged", "1 when every record is as it should be.", place)?,
            pending: make.ints(
                "pending_records",
                "Records that the store could not be written yet.",
                place,
            )?,
            snapshot_complete: make.ints(
                "snapshot_complete",
                "1 when the last snapshot was complete.",
                place,
            )?,
            snapshot_rows: make.counters("snapshot_rows_total", "Rows read in snapshots.", place)?,
            last_sync: make.floats(
                "last_successful_sync_timestamp_seconds",
                "When a pass last read the store whole and wrote all that it had to.",
                &["store"],
            )?,
            writes: make.counters(
                "writes_total",
                "Writes, by how they ended.",
                &["store", "entity", "action", "result"],
            )?,
            rejections: make.counters(
                "write_rejections_total",
                "Writes that did not happen, by reason.",
                &["store", "reason"],
            )?,
            store_errors: make.counters(
                "store_errors_total",
                "Errors that a store answered with, by kind.",
                &["store", "kind"],
            )?,
            guard_trips: make.counters("guard_trips_total", "Guards that refused an entity.", &["guard"])?,
            conflicts_open: make.ints("conflicts_open", "Conflicts that wait for a person.", &["entity"])?,
            conflicts_resolved: make.counters(
                "conflicts_resolved_total",
                "Conflicts settled by the rule.",
                &["entity", "rule"],
            )?,
            validation_errors: make.ints(
                "validation_errors",
                "Changes that break a rule, as of the last pass.",
                &["store", "entity", "rule"],
            )?,
            passes: make.counters("passes_total", "Passes, by how they ended.", &["result"])?,
            pass_seconds: make.put(Histogram::with_opts(seconds)?)?,
            last_pass: make.put(Gauge::with_opts(Maker::opts(
                "last_pass_timestamp_seconds",
                "When the last pass ended; 0 before.",
            ))?)?,
            lease: make.put(IntGauge::with_opts(Maker::opts(
                "lease_held",
                "1 while this controller holds the lease.",
            ))?)?,
            spec_info: make.ints("spec_info", "The manifests in force.", &["sha"])?,
            running: RunningMetrics::new(&make)?,
            since: Mutex::default(),
            registry: registry.clone(),
        };
        let build = make.ints("build_info", "The version of trueup.", &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        metrics.start_at_zero(spec);
        Ok(metrics)
    }

    /// Makes every series that the spec can have.
    fn start_at_zero(&self, spec: &Spec) {
        self.spec_info.with_label_values(&[&spec.sha]).set(1);
        self.running.start_at_zero(spec);
        for store in spec.stores.keys().map(StoreName::as_str) {
            self.last_sync.with_label_values(&[store]);
            for kind in ERRORS.map(ErrorKind::as_str) {
                self.rejections.with_label_values(&[store, kind]);
                self.store_errors.with_label_values(&[store, kind]);
            }
            self.rejections.with_label_values(&[store, MOVED]);
        }
        for guard in GuardName::ALL {
            self.guard_trips.with_label_values(&[guard.as_str()]);
        }
        for result in PASSES {
            self.passes.with_label_values(&[result]);
        }
        for (entity, stores) in &spec.mappings {
            let name = entity.as_str();
            self.conflicts_open.with_label_values(&[name]);
            for rule in CONFLICT_RULES {
                self.conflicts_resolved.with_label_values(&[name, rule.as_str()]);
            }
            for (store, mapping) in stores {
                let place = [store.as_str(), name];
                self.zero_place(&place);
                let fields = spec
                    .entity(entity)
                    .into_iter()
                    .flat_map(|entity| mapping.fields.keys().map(|field| entity.field(*field).name.as_str()));
                fields.for_each(|field| drop(self.drift_fields.with_label_values(&[place[0], name, field])));
            }
        }
    }

    fn zero_place(&self, place: &[&str; 2]) {
        let [store, entity] = *place;
        self.records.with_label_values(place);
        for kind in DRIFTS {
            self.drift_records.with_label_values(&[store, entity, kind]);
        }
        self.drift_ratio.with_label_values(place);
        for standing in STANDINGS {
            self.standings.with_label_values(&[store, entity, standing_word(standing)]);
        }
        self.pending.with_label_values(place);
        self.converged.with_label_values(place);
        self.oldest_drift.with_label_values(place);
        self.snapshot_complete.with_label_values(place);
        self.snapshot_rows.with_label_values(place);
        for rule in Rule::ALL {
            self.validation_errors.with_label_values(&[store, entity, rule.as_str()]);
        }
        for action in ACTIONS.map(ActionKind::as_str) {
            for result in RESULTS {
                self.writes.with_label_values(&[store, entity, action, result]);
            }
        }
    }

    /// The text that Prometheus reads, format 0.0.4.
    pub fn text(&self) -> String {
        self.running.refresh();
        let mut bytes = Vec::new();
        // Writing to memory fails only on families without a metric; there are none.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn since(&self) -> MutexGuard<'_, Since> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_books(&self, entity: &str, store: &str, books: &Books) {
        let place = [store, entity];
        self.records.with_label_values(&place).set(gauge(books.seen));
        for (kind, count) in DRIFTS.iter().zip([books.missing, books.extra, books.changed]) {
            self.drift_records.with_label_values(&[store, entity, *kind]).set(gauge(count));
        }
        self.drift_ratio.with_label_values(&place).set(ratio(books.drifting(), books.seen));
        for standing in STANDINGS {
            let labels = [store, entity, standing_word(standing)];
            self.standings.with_label_values(&labels).set(gauge(books.count(standing)));
        }
        self.pending.with_label_values(&place).set(gauge(books.count(crate::diff::Standing::Pending)));
    }

    /// What was found: drift, snapshots, guards, conflicts and rules broken.
    fn planned(&self, plan: &Plan) {
        self.running.planned(plan);
        self.validation_errors_of(plan);
        let mut since = self.since();
        since.readable.clear();
        since.failed.clear();
        for (entity, stores) in &plan.books {
            for (store, books) in stores {
                let place = [store.as_str(), entity.as_str()];
                self.set_books(entity.as_str(), store.as_str(), books);
                for field in &books.fields {
                    self.drift_fields
                        .with_label_values(&[place[0], place[1], field.0.as_str()])
                        .set(gauge(*field.1));
                }
                self.zero_fields(entity, store, books);
                self.drift_since(&mut since, entity, store, books, plan.made_at);
            }
        }
        for (entity, stores) in &plan.snapshots {
            for (store, report) in stores {
                let complete =
                    report.certificate.as_ref().is_some_and(crate::model::Certificate::is_complete);
                self.snapshot_complete
                    .with_label_values(&[store.as_str(), entity.as_str()])
                    .set(i64::from(complete));
                let refused = plan.guards.iter().any(|trip| &trip.entity == entity);
                let readable = since.readable.entry(store.clone()).or_insert(true);
                *readable &= complete && !refused;
            }
        }
        for entity in &plan.entities {
            self.conflicts_open.with_label_values(&[entity.as_str()]).set(0);
        }
        for (entity, count) in &plan.open_conflicts {
            self.conflicts_open.with_label_values(&[entity.as_str()]).set(gauge(*count));
        }
        for trip in &plan.guards {
            self.guard_trips.with_label_values(&[trip.guard.as_str()]).inc();
        }
    }

    /// Notes since when there has been drift; without any it starts anew.
    fn drift_since(
        &self,
        since: &mut Since,
        entity: &EntityName,
        store: &StoreName,
        books: &Books,
        now: Timestamp,
    ) {
        let key = (entity.clone(), store.clone());
        let place = [store.as_str(), entity.as_str()];
        if books.drifting() == 0 {
            since.drifting.remove(&key);
            self.oldest_drift.with_label_values(&place).set(0.0);
        } else {
            let first = *since.drifting.entry(key).or_insert(now);
            self.oldest_drift.with_label_values(&place).set(seconds(first));
        }
        self.converged.with_label_values(&place).set(i64::from(is_converged(books)));
    }

    fn validation_errors_of(&self, plan: &Plan) {
        let mut counts: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
        for (entity, stores) in &plan.books {
            for store in stores.keys() {
                for rule in Rule::ALL {
                    counts.insert((store.as_str(), entity.as_str(), rule.as_str()), 0);
                }
            }
        }
        for notice in plan.notices.iter().filter(|notice| notice.kind == NoticeKind::Rejected) {
            let (Some(record), Some(store), Some(rule)) = (&notice.record, &notice.store, notice.rule) else {
                continue;
            };
            *counts.entry((store.as_str(), record.entity.as_str(), rule.as_str())).or_default() += 1;
        }
        for ((store, entity, rule), count) in counts {
            self.validation_errors.with_label_values(&[store, entity, rule]).set(gauge(count));
        }
    }

    /// Series of fields that drifted and no longer do are brought back to zero.
    fn zero_fields(&self, entity: &EntityName, store: &StoreName, books: &Books) {
        for family in prometheus::core::Collector::collect(&self.drift_fields) {
            for metric in family.get_metric() {
                let label = |name: &str| {
                    metric
                        .get_label()
                        .iter()
                        .find(|label| label.name() == name)
                        .map(|label| label.value().to_owned())
                };
                let here = label("store").as_deref() == Some(store.as_str())
                    && label("entity").as_deref() == Some(entity.as_str());
                if let Some(field) = label("field")
                    .filter(|field| here && !books.fields.keys().any(|known| known.as_str() == field))
                {
                    self.drift_fields
                        .with_label_values(&[store.as_str(), entity.as_str(), field.as_str()])
                        .set(0);
                }
            }
        }
    }

    fn wrote(&self, store: &StoreName, entity: &EntityName, kind: ActionKind, result: WriteResult) {
        self.writes
            .with_label_values(&[store.as_str(), entity.as_str(), kind.as_str(), result.as_str()])
            .inc();
        let reason = match result {
            WriteResult::Applied => return,
            WriteResult::Skipped => MOVED,
            WriteResult::Failed(kind) => kind.as_str(),
            WriteResult::Unknown => ErrorKind::OutcomeUnknown.as_str(),
        };
        self.rejections.with_label_values(&[store.as_str(), reason]).inc();
    }

    fn recorded(&self, conflict: &Conflict) {
        if conflict.status == ConflictStatus::Resolved {
            let labels = [conflict.record.entity.as_str(), conflict.reason.as_str()];
            self.conflicts_resolved.with_label_values(&labels).inc();
        }
    }

    fn ended(&self, report: &Report, took: f64) {
        let clean = report.is_clean() && report.guards.is_empty();
        self.pass(if clean { "clean" } else { "incomplete" }, took);
        self.settle_books(&report.books);
        let troubled = |store: &StoreName| {
            let all = report.skipped.iter().chain(&report.failed).chain(&report.unknown);
            report.stopped || all.into_iter().any(|trouble| &trouble.store == store)
        };
        let since = self.since();
        for (store, _) in since.readable.iter().filter(|(store, readable)| **readable && !troubled(store)) {
            self.last_sync.with_label_values(&[store.as_str()]).set(now());
        }
    }

    /// After the writes: what is still not as it should be, and since when.
    fn settle_books(&self, books: &BooksTable) {
        for (entity, stores) in books {
            for (store, books) in stores {
                let place = [store.as_str(), entity.as_str()];
                for standing in STANDINGS {
                    let labels = [place[0], place[1], standing_word(standing)];
                    self.standings.with_label_values(&labels).set(gauge(books.count(standing)));
                }
                self.pending
                    .with_label_values(&place)
                    .set(gauge(books.count(crate::diff::Standing::Pending)));
            }
        }
    }

    fn pass(&self, result: &str, took: f64) {
        self.passes.with_label_values(&[result]).inc();
        self.pass_seconds.observe(took);
        self.last_pass.set(now());
    }
}

impl Observer for Metrics {
    fn notice(&self, event: &Event<'_>) {
        self.running.notice(event);
        match event {
            Event::RowsRead { entity, store, rows } => {
                self.snapshot_rows.with_label_values(&[store.as_str(), entity.as_str()]).inc_by(*rows);
            }
            Event::PassStarted => self.since().failed.clear(),
            Event::Planned { plan } => self.planned(plan),
            Event::Wrote { store, entity, kind, result, .. } => self.wrote(store, entity, *kind, *result),
            Event::StoreFailed { store, kind, .. } => {
                self.store_errors.with_label_values(&[store.as_str(), kind.as_str()]).inc();
                self.since().failed.insert((*store).clone());
            }
            Event::ConflictRecorded { conflict } => self.recorded(conflict),
            Event::Lease { held } => self.lease.set(i64::from(*held)),
            Event::StandsBy => self.stand_by(),
            Event::PassEnded { report, seconds } => self.ended(report, *seconds),
            Event::PassFailed { seconds, .. } => {
                self.pass("failed", *seconds);
                self.since().failed.iter().for_each(|store| self.running.down(store));
            }
            _ => {}
        }
    }
}

/// Whether no record of a store waits for anything.
fn is_converged(books: &Books) -> bool {
    books.seen == books.count(crate::diff::Standing::InSync)
}

fn gauge(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[allow(clippy::cast_precision_loss)] // Counts of records are far below 2^52.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[allow(clippy::cast_precision_loss)] // Microseconds since 1970 stay below 2^52 until the year 2112.
fn seconds(time: Timestamp) -> f64 {
    time.micros() as f64 / 1e6
}

fn now() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
pub(super) mod tests;
