//! Log lines: a subscriber for the process, and an observer that writes a line for each happening. No line above `trace` shows a
//! field's value; keys stand in lines about trouble, because without them nobody could act.

use std::io::IsTerminal;

use tracing::{debug, error, info, warn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::plan::NoticeKind;
use crate::reconcile::Report;

use super::{Event, Observer, WriteResult};

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
            Event::PassStarted => debug!("pass started"),
            Event::RowsRead { entity, store, rows } => debug!(%store, %entity, rows, "rows read"),
            Event::Planned { plan } => {
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
                for trip in &plan.guards {
                    error!(
                        guard = %trip.guard, entity = %trip.entity, store = %trip.store,
                        "guard: {} (override for one plan with `trueup apply --allow {}`)", trip.message, trip.guard
                    );
                }
            }
            Event::WriteStarted { store, entity, writes } => debug!(%store, %entity, writes, "writing"),
            Event::Wrote { store, entity, kind, result: WriteResult::Failed(error) } => {
                warn!(%store, %entity, action = kind.as_str(), error = error.as_str(), "write failed");
            }
            Event::Wrote { store, entity, kind, result } => {
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
            Event::CaughtUp { store, seconds } => debug!(%store, seconds, "a store has an edit"),
            Event::LookedAt { records, alone } => debug!(records, alone, "looked at records"),
            Event::Loop { queue, pauses, waiting, away } => {
                debug!(queue, pauses = pauses.len(), waiting, "what waits");
                for (store, why) in *away {
                    warn!(%store, "left alone in this pass: {why}");
                }
            }
            Event::Webhook { store, result } => {
                let store = store.map(ToString::to_string).unwrap_or_default();
                if *result == super::WebhookResult::Accepted {
                    debug!(store, "webhook taken");
                } else {
                    warn!(store, result = result.as_str(), "webhook refused");
                }
            }
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
