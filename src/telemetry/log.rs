//! Log lines: a subscriber for the process, and an observer that writes a line for each happening. No line above `trace` shows a
//! field's value; keys stand in lines about trouble, because without them nobody could act.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, error, info, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::model::{EntityName, StoreName};
use crate::plan::{GuardName, GuardTrip, NoticeKind, Plan};
use crate::reconcile::Report;

use super::{Event, Observer, WebhookResult};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    /// For people.
    Human,
    /// An object a line, for collectors.
    Json,
}

impl LogStyle {
    /// For people on a terminal, else for collectors.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() { Self::Human } else { Self::Json }
    }
}

/// Sends log lines to standard error from now on. `filter` is what `TRUEUP_LOG` says (`debug`, `trueup=trace,warn`); `default` is
/// used where it says nothing. A filter that cannot be read is an error. A second call in one process changes nothing.
///
/// # Errors
/// What is wrong with the filter.
pub fn init_logging(filter: Option<&str>, default: &str, style: LogStyle, color: bool) -> Result<(), String> {
    let text = filter.filter(|text| !text.trim().is_empty()).unwrap_or(default);
    let filter =
        EnvFilter::try_new(text).map_err(|error| format!("TRUEUP_LOG: `{text}` is no filter: {error}"))?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match style {
        LogStyle::Human => lines.with_ansi(color).with_target(false).boxed(),
        LogStyle::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed()
        }
    };
    let registry = tracing_subscriber::registry().with(filter).with(lines);
    #[cfg(feature = "otel")]
    let registry = registry.with(super::otel::layer()?);
    // Only the first subscriber of a process counts; tests set up several.
    let _ = registry.try_init();
    Ok(())
}

/// Writes a log line for each happening.
#[derive(Debug, Clone, Copy, Default)]
pub struct Logged;

impl Observer for Logged {
    fn notice(&self, event: &Event<'_>) {
        match event {
            // Pass and look are told by what becomes of them.
            Event::UnderWay { .. } => {}
            Event::PassStarted => debug!("pass started"),
            Event::RowsRead { entity, store, rows } => debug!(%store, %entity, rows, "rows read"),
            Event::Planned { plan } => {
                planned(plan);
                plan.guards.iter().for_each(refused);
            }
            Event::WriteStarted { store, entity, writes } => debug!(%store, %entity, writes, "writing"),
            // Why writes failed is said once by the store, or with the record when the pass ends.
            Event::Wrote { store, entity, kind, result, .. } => {
                debug!(%store, %entity, action = kind.as_str(), result = result.as_str(), "write ended");
            }
            Event::Called { store, calls, waited_ms, billed_bytes } => {
                debug!(%store, calls, waited_ms, billed_bytes, "calls");
            }
            Event::StoreFailed { store, kind, message } => {
                warn!(%store, kind = kind.as_str(), "store failed: {message}");
            }
            Event::ConflictRecorded { conflict } => info!(
                conflict = %conflict.id,
                entity = %conflict.record.entity,
                reason = conflict.reason.as_str(),
                status = conflict.status.as_str(),
                "conflict recorded"
            ),
            Event::Lease { held } => debug!(held, "lease"),
            Event::StandsBy => debug!("another controller makes the passes"),
            Event::CaughtUp { store, seconds } => debug!(%store, seconds, "a store has an edit"),
            Event::LookedAt { records, alone } => debug!(records, alone, "looked at records"),
            Event::Loop { queue, pauses, waiting, away } => {
                debug!(queue, pauses = pauses.len(), waiting, "what waits");
                away.iter().for_each(|(store, why)| left_alone(store, why));
            }
            Event::Webhook { store, result } => webhook(*store, *result),
            Event::Hint { taken } => debug!(taken, "hint"),
            Event::Breaker { record, writes } => {
                warn!(%record, writes, "paused: it was written again and again, so something else keeps changing it");
            }
            Event::Reloaded { refused: None } => info!("other manifests hold"),
            Event::Reloaded { refused: Some(why) } => {
                error!("the manifests were changed and are refused; what held before goes on: {why}");
            }
            Event::PassEnded { report, seconds } => ended(report, *seconds),
            Event::PassFailed { message, seconds } => error!(seconds, "pass failed: {message}"),
        }
    }
}

fn planned(plan: &Plan) {
    let totals = plan.totals();
    let open: u64 = plan.open_conflicts.values().sum();
    info!(
        create = totals.create,
        update = totals.update,
        delete = totals.delete,
        metadata = totals.metadata,
        open_conflicts = open,
        "planned"
    );
    for notice in plan.notices.iter().filter(|notice| notice.kind == NoticeKind::OtherState) {
        warn!("what this state remembers counts for nothing: {}", notice.message);
    }
}

fn refused(trip: &GuardTrip) {
    error!(
        guard = %trip.guard, entity = %trip.entity, store = %trip.store,
        "guard: {} (override for one plan with `trueup apply --allow {}`)", trip.message, trip.guard
    );
}

fn left_alone(store: &StoreName, why: &str) {
    warn!(%store, "left alone: {why}");
}

fn webhook(store: Option<&StoreName>, result: WebhookResult) {
    let store = store.map(ToString::to_string).unwrap_or_default();
    if result == WebhookResult::Accepted {
        debug!(store, "webhook taken");
    } else {
        warn!(
            store,
            result = result.as_str(),
            "webhook refused; the likes of it are counted in `trueup_webhooks_total`"
        );
    }
}

/// How long what goes on unchanged is not said again.
pub const SAID_AGAIN: Duration = Duration::from_hours(1);

/// The same for passes that follow each other: a guard that refuses the same as before, or a store that is still left alone, is said when
/// that begins or changes, once an hour, and when it is over. Anybody may send webhooks, as many as they like: those that are refused for
/// the same reason are said once an hour.
#[derive(Debug, Default)]
pub struct LoggedOnce(Mutex<Said>);

/// What was said, and when.
#[derive(Debug, Default)]
struct Said {
    guards: BTreeMap<(EntityName, StoreName, GuardName), (String, Instant)>,
    away: BTreeMap<StoreName, Instant>,
    webhooks: BTreeMap<(Option<StoreName>, WebhookResult), Instant>,
}

/// Whether something is news: it was not said, or long ago. It is said from now on.
fn is_news<K: Ord>(known: &mut BTreeMap<K, Instant>, key: K, now: Instant) -> bool {
    let news = known.get(&key).is_none_or(|at| now.duration_since(*at) >= SAID_AGAIN);
    if news {
        known.insert(key, now);
    }
    news
}

impl Said {
    /// Whether a guard's word is news.
    fn refused(&mut self, trip: &GuardTrip, now: Instant) -> bool {
        let place = (trip.entity.clone(), trip.store.clone(), trip.guard);
        let known = self.guards.get(&place);
        let news =
            known.is_none_or(|(text, at)| *text != trip.message || now.duration_since(*at) >= SAID_AGAIN);
        if news {
            self.guards.insert(place, (trip.message.clone(), now));
        }
        news
    }

    /// Forgets what a plan shows to be over, and says so.
    fn over(&mut self, plan: &Plan) {
        self.guards.retain(|(entity, store, guard), _| {
            let stands =
                |trip: &GuardTrip| (&trip.entity, &trip.store, trip.guard) == (entity, store, *guard);
            let stands = plan.guards.iter().any(stands);
            if !stands {
                info!(%guard, %entity, %store, "the guard refuses nothing any more");
            }
            stands
        });
        let unreadable = plan.unreadable();
        self.away.retain(|store, _| {
            let stands = unreadable.contains_key(store);
            if !stands {
                info!(%store, "it is read again");
            }
            stands
        });
    }
}

impl Observer for LoggedOnce {
    fn notice(&self, event: &Event<'_>) {
        let said = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Planned { plan } => {
                planned(plan);
                let mut said = said();
                said.over(plan);
                let now = Instant::now();
                plan.guards.iter().filter(|trip| said.refused(trip, now)).for_each(refused);
            }
            Event::Loop { queue, pauses, waiting, away } => {
                debug!(queue, pauses = pauses.len(), waiting, "what waits");
                let (mut said, now) = (said(), Instant::now());
                away.iter()
                    .filter(|(store, _)| is_news(&mut said.away, (*store).clone(), now))
                    .for_each(|(store, why)| left_alone(store, why));
            }
            Event::Webhook { store, result } if *result != WebhookResult::Accepted => {
                if is_news(&mut said().webhooks, (store.cloned(), *result), Instant::now()) {
                    webhook(*store, *result);
                }
            }
            other => Logged.notice(other),
        }
    }
}

fn ended(report: &Report, seconds: f64) {
    for (result, list) in
        [("skipped", &report.skipped), ("failed", &report.failed), ("unknown", &report.unknown)]
    {
        for trouble in list {
            warn!(result, store = %trouble.store, record = %trouble.record, "not written: {}", trouble.message);
        }
    }
    let done = report.applied;
    info!(
        pass = report.pass,
        seconds,
        create = done.create,
        update = done.update,
        delete = done.delete,
        metadata = done.metadata,
        skipped = report.skipped.len(),
        failed = report.failed.len(),
        unknown = report.unknown.len(),
        stopped = report.stopped,
        "pass ended"
    );
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_stands_is_said_when_it_begins_changes_or_ends_and_once_an_hour() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _default = tracing::subscriber::set_default(subscriber);
        let count = |what: &str| {
            let text = String::from_utf8(std::mem::take(&mut *lines.0.lock().unwrap())).unwrap();
            text.lines().filter(|line| line.contains(what)).count()
        };
        let log = LoggedOnce::default();
        let store = StoreName::new("app").unwrap();
        let mut plan = super::super::metrics::tests::plan(0);
        let away = |log: &LoggedOnce, seconds: u64| {
            let away = BTreeMap::from([(store.clone(), format!("asked again in {seconds} s"))]);
            log.notice(&Event::Loop { queue: 0, pauses: &[], waiting: 0, away: &away });
        };
        let trip = |count: u64| GuardTrip {
            guard: GuardName::Deletes,
            entity: plan.entities[0].clone(),
            store: store.clone(),
            message: format!("{count} of 20 would go"),
        };
        let guards: Vec<Vec<GuardTrip>> = [4, 4, 5, 5].map(|count| vec![trip(count)]).into();
        for (seconds, guards) in (1..).zip(guards) {
            plan.guards = guards;
            away(&log, seconds);
            plan.snapshots
                .values_mut()
                .flatten()
                .for_each(|(_, report)| report.error = Some("down".to_owned()));
            log.notice(&Event::Planned { plan: &plan });
        }
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("would go").count(), 2, "{text}");
        assert_eq!(count("left alone"), 1, "{text}");
        tokio::time::advance(SAID_AGAIN).await;
        for _ in 0..2 {
            away(&log, 7);
            log.notice(&Event::Planned { plan: &plan });
        }
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("would go").count(), 1, "{text}");
        assert_eq!(count("left alone"), 1, "{text}");
        plan.guards.clear();
        plan.snapshots.values_mut().flatten().for_each(|(_, report)| report.error = None);
        for _ in 0..2 {
            log.notice(&Event::Planned { plan: &plan });
        }
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("refuses nothing any more").count(), 1, "{text}");
        // Anybody may send as many as they like.
        for result in [WebhookResult::Forged, WebhookResult::Forged, WebhookResult::Malformed] {
            log.notice(&Event::Webhook { store: Some(&store), result });
        }
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("webhook refused").count(), 2, "{text}");
        assert_eq!(count("read again"), 1, "{text}");
    }
}
