//! The metrics of the loop: hints, webhooks, pauses, back-offs, reloads, and how long edits take.

use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts,
};

use crate::controller::Pause;
use crate::model::{EntityName, StoreName};
use crate::plan::{GuardName, Plan};
use crate::spec::Spec;
use crate::telemetry::{Event, WebhookResult};

use super::{Maker, gauge, now, seconds};

/// Edits arrive within milliseconds (a hint, embedded stores) or after a long outage.
const LATENCY_BUCKETS: [f64; 13] =
    [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 150.0, 300.0, 1800.0, 7200.0];
/// The store of webhooks that name none that we know: never what the sender wrote.
const NO_STORE: &str = "none";

/// The metrics of the loop.
pub(super) struct RunningMetrics {
    pub(super) latency: HistogramVec,
    looks: IntCounterVec,
    hints: IntCounterVec,
    queue: IntGauge,
    pub(super) webhooks: IntCounterVec,
    pauses: IntGauge,
    oldest_pause: Gauge,
    waiting: IntGauge,
    pub(super) away: IntGaugeVec,
    pub(super) breaker: IntCounterVec,
    reloads: IntCounterVec,
    refused: IntGauge,
    pub(super) guards: IntGaugeVec,
    drift_limit: Gauge,
    latency_limit: Gauge,
    memory: Gauge,
    under_way: Gauge,
    pub(super) stores_down: GaugeVec,
    pub(super) calls: IntCounterVec,
    pub(super) limit_waits: CounterVec,
    billed: IntCounterVec,
}

impl RunningMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let one = |name: &str, help: &str| make.put(IntGauge::with_opts(Maker::opts(name, help))?);
        let float = |name: &str, help: &str| make.put(Gauge::with_opts(Maker::opts(name, help))?);
        let buckets = LATENCY_BUCKETS.to_vec();
        let latency = HistogramOpts {
            common_opts: Opts::new(
                "trueup_sync_latency_seconds",
                "How long after an edit in one store another one had it; of edits whose time is known.",
            ),
            buckets,
        };
        Ok(Self {
            latency: make.put(HistogramVec::new(latency, &["store"])?)?,
            looks: make.counters(
                "looks_total",
                "Looks at records that somebody hinted at: alone, or widened to all that changed.",
                &["result"],
            )?,
            hints: make.counters(
                "hints_total",
                "Hints at single records, by whether they found room; what was dropped is found by the next pass.",
                &["result"],
            )?,
            queue: one("hint_queue_records", "Records that wait to be looked at, as of the last pass.")?,
            webhooks: make.counters(
                "webhooks_total",
                "Webhooks by what became of them.",
                &["store", "result"],
            )?,
            pauses: one("pauses", "Pauses that hold.")?,
            oldest_pause: float(
                "oldest_pause_timestamp_seconds",
                "Since when the oldest pause without an end has held; 0 without one.",
            )?,
            waiting: one(
                "backed_off_records",
                "Records whose writes keep failing and are not tried for now.",
            )?,
            away: make.ints(
                "store_backed_off",
                "1 while the store cannot be read and is asked less often.",
                &["store"],
            )?,
            breaker: make.counters(
                "breaker_trips_total",
                "Records that were paused because they were written again and again.",
                &["entity"],
            )?,
            reloads: make.counters("manifest_reloads_total", "Changes of the manifests.", &["result"])?,
            refused: one(
                "manifests_refused",
                "1 while the manifests as they stand are refused and earlier ones hold.",
            )?,
            guards: make.ints(
                "guard_tripped",
                "1 while the guard keeps the entity from being written.",
                &["entity", "guard"],
            )?,
            drift_limit: float(
                "alert_drift_ratio",
                "The share of differing records beyond which the alert fires.",
            )?,
            latency_limit: float("alert_latency_seconds", "The latency beyond which the alert fires.")?,
            memory: float("resident_memory_bytes", "Memory that the process has in use; 0 where unknown.")?,
            under_way: float(
                "pass_under_way_since_timestamp_seconds",
                "Since when the pass or look that is under way has been; 0 between them.",
            )?,
            stores_down: make.floats(
                "store_down_since_timestamp_seconds",
                "Since when the store could not be read whole; 0 while it can.",
                &["store"],
            )?,
            calls: make.counters(
                "api_requests_total",
                "Calls to stores that count them, those sent again included.",
                &["store"],
            )?,
            limit_waits: make.seconds_counters(
                "rate_limit_wait_seconds_total",
                "How long calls waited for the store's limit, each by itself; a wait counts when it begins.",
                &["store"],
            )?,
            billed: make.counters(
                "billed_bytes_total",
                "Bytes that the store bills for queries and statements.",
                &["store"],
            )?,
        })
    }

    pub(super) fn start_at_zero(&self, spec: &Spec) {
        for store in spec.stores.keys().map(StoreName::as_str) {
            self.latency.with_label_values(&[store]);
            self.away.with_label_values(&[store]);
            self.stores_down.with_label_values(&[store]);
        }
        for (store, _) in spec.stores.iter().filter(|(_, store)| store.kind.calls_per_minute().is_some()) {
            self.calls.with_label_values(&[store.as_str()]);
            self.limit_waits.with_label_values(&[store.as_str()]);
        }
        for (store, _) in spec.stores.iter().filter(|(_, store)| store.kind.bills_bytes()) {
            self.calls.with_label_values(&[store.as_str()]);
            self.billed.with_label_values(&[store.as_str()]);
        }
        let senders = spec.controller.triggers.webhooks.keys().map(StoreName::as_str);
        for store in senders.chain([NO_STORE]) {
            for result in WebhookResult::ALL {
                self.webhooks.with_label_values(&[store, result.as_str()]);
            }
        }
        for entity in &spec.entities {
            self.breaker.with_label_values(&[entity.name.as_str()]);
            for guard in GuardName::ALL {
                self.guards.with_label_values(&[entity.name.as_str(), guard.as_str()]);
            }
        }
        for result in ["alone", "widened"] {
            self.looks.with_label_values(&[result]);
        }
        for result in ["taken", "dropped"] {
            self.hints.with_label_values(&[result]);
        }
        for result in ["taken", "refused"] {
            self.reloads.with_label_values(&[result]);
        }
        self.drift_limit.set(spec.controller.drift_alert_ratio);
        #[allow(clippy::cast_precision_loss)] // Nobody waits for centuries.
        self.latency_limit.set(spec.controller.latency_alert_ms as f64 / 1000.0);
    }

    /// What is looked up when somebody asks.
    pub(super) fn refresh(&self) {
        self.memory.set(resident_bytes().unwrap_or(0.0));
    }

    pub(super) fn planned(&self, plan: &Plan) {
        for entity in &plan.entities {
            for guard in GuardName::ALL {
                let tripped = plan.guards.iter().any(|trip| trip.guard == guard && trip.entity == *entity);
                let labels = [entity.as_str(), guard.as_str()];
                self.guards.with_label_values(&labels).set(i64::from(tripped));
            }
        }
        let down = plan.unreadable();
        for store in plan.snapshots.values().flat_map(std::collections::BTreeMap::keys) {
            let since = self.stores_down.with_label_values(&[store.as_str()]);
            match (down.contains_key(store), since.get() > 0.0) {
                (true, false) => since.set(seconds(plan.made_at)),
                (false, true) => since.set(0.0),
                _ => {}
            }
        }
    }

    /// A store could not be asked at all.
    pub(super) fn down(&self, store: &StoreName) {
        let since = self.stores_down.with_label_values(&[store.as_str()]);
        if since.get() == 0.0 {
            since.set(now());
        }
    }

    /// Another controller makes the passes, and tells what it finds.
    pub(super) fn stand_by(&self) {
        self.set_away(&|_| false);
        self.guards.reset();
        self.stores_down.reset();
        self.queue.set(0);
        self.waiting.set(0);
        self.paused(&[]);
    }

    fn paused(&self, pauses: &[Pause]) {
        self.pauses.set(gauge(pauses.len() as u64));
        let oldest = pauses.iter().filter(|pause| pause.until.is_none()).map(|pause| pause.since).min();
        self.oldest_pause.set(oldest.map_or(0.0, seconds));
    }

    pub(super) fn notice(&self, event: &Event<'_>) {
        match event {
            Event::CaughtUp { store, seconds } => {
                self.latency.with_label_values(&[store.as_str()]).observe(*seconds);
            }
            Event::Called { store, calls, waited_ms, billed_bytes } => {
                self.calls.with_label_values(&[store.as_str()]).inc_by(*calls);
                #[allow(clippy::cast_precision_loss)] // Nobody waits for centuries.
                let seconds = *waited_ms as f64 / 1000.0;
                self.limit_waits.with_label_values(&[store.as_str()]).inc_by(seconds);
                self.billed.with_label_values(&[store.as_str()]).inc_by(*billed_bytes);
            }
            Event::UnderWay { is } => self.under_way.set(if *is { now() } else { 0.0 }),
            Event::LookedAt { alone, .. } => {
                self.looks.with_label_values(&[if *alone { "alone" } else { "widened" }]).inc();
            }
            Event::Loop { queue, pauses, waiting, away } => {
                self.queue.set(gauge(*queue as u64));
                self.waiting.set(gauge(*waiting as u64));
                self.paused(pauses);
                self.set_away(&|store| away.keys().any(|name| name.as_str() == store));
            }
            Event::Webhook { store, result } => {
                let store = store.map_or(NO_STORE, StoreName::as_str);
                self.webhooks.with_label_values(&[store, result.as_str()]).inc();
            }
            Event::Hint { taken } => {
                self.hints.with_label_values(&[if *taken { "taken" } else { "dropped" }]).inc();
            }
            Event::Breaker { record, .. } => {
                self.breaker.with_label_values(&[EntityName::as_str(&record.entity)]).inc();
            }
            Event::Reloaded { refused } => {
                self.refused.set(i64::from(refused.is_some()));
                self.reloads.with_label_values(&[if refused.is_some() { "refused" } else { "taken" }]).inc();
            }
            _ => {}
        }
    }

    fn set_away(&self, is_away: &dyn Fn(&str) -> bool) {
        for family in prometheus::core::Collector::collect(&self.away) {
            for metric in family.get_metric() {
                for label in metric.get_label() {
                    let store = label.value();
                    self.away.with_label_values(&[store]).set(i64::from(is_away(store)));
                }
            }
        }
    }
}

/// The memory that this process has in use, where the system says so.
#[allow(clippy::cast_precision_loss)] // Memory is far below 2^52 bytes.
fn resident_bytes() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some((kibibytes * 1024) as f64)
}
