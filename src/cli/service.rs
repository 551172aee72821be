//! `run`: passes until told to stop, with metrics and health over HTTP.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::controller::{DeepChecks, Engine, EnginePass, RunOptions, run as run_loop};
use crate::http::{self, Health};
use crate::telemetry::{Event, Logged, Metrics, Observer};

use super::args::RunArgs;
use super::output::Ui;
use super::session::{Session, work_options};
use super::{Exit, Failure, signals};

pub(super) async fn run(session: &Session<'_>, args: &RunArgs) -> Result<Exit, Failure> {
    let spec = session.load()?;
    let metrics = Arc::new(Metrics::new(&spec).map_err(|error| Failure::new(format!("metrics: {error}")))?);
    let interval = args.interval.unwrap_or(Duration::from_millis(spec.controller.interval_ms));
    let health = Arc::new(Health::new(interval));
    let stop = signals::stop_on_signals(session.ui);
    let address = args.listen.or((!args.once).then_some(spec.controller.http_address));
    let server = match address {
        Some(address) => Some(start_server(address, &metrics, &health, &stop, session.ui).await?),
        None => None,
    };
    let engine = Arc::new(Engine::open(spec, false).await?);
    let observer: Arc<dyn Observer> = Arc::new(Told { metrics });
    // A single pass reads what it has to; one that goes on for ever makes sure of everything now and then.
    let every = Duration::from_millis(engine.spec().controller.deep_check_interval_ms);
    let deep = (!args.once).then(|| DeepChecks::new(every));
    let pass = EnginePass { engine, options: work_options(&args.work), observer: observer.clone(), deep };
    let options = RunOptions { interval, once: args.once, seed: seed() };
    let summary = run_loop(&pass, &options, &health, &*observer, &stop).await;
    stop.cancel();
    if let Some(server) = server {
        // A server that failed has said so; there is nothing left to serve.
        let _ = server.await;
    }
    if let Some(failure) = summary.failure.filter(|_| args.once) {
        return Err(failure.into());
    }
    let incomplete =
        args.once && summary.last.is_some_and(|report| !report.is_clean() || !report.guards.is_empty());
    Ok(if incomplete { Exit::Incomplete } else { Exit::Ok })
}

async fn start_server(
    address: std::net::SocketAddr,
    metrics: &Arc<Metrics>,
    health: &Arc<Health>,
    stop: &CancellationToken,
    ui: &Ui,
) -> Result<tokio::task::JoinHandle<()>, Failure> {
    let listener = http::bind(address)
        .await
        .map_err(|message| Failure::new(message).hint("choose another address with --listen ADDRESS"))?;
    let bound = listener.local_addr().unwrap_or(address);
    info!(address = %bound, "serving /metrics and /healthz");
    ui.message(&format!("Serving http://{bound}/metrics and http://{bound}/healthz\n"));
    let (metrics, health, stop) = (metrics.clone(), health.clone(), stop.clone());
    Ok(tokio::spawn(async move {
        if let Err(error) = http::serve(listener, metrics, health, stop).await {
            tracing::error!("the HTTP server failed: {error}");
        }
    }))
}

/// Happenings become log lines and metrics.
struct Told {
    metrics: Arc<Metrics>,
}

impl Observer for Told {
    fn notice(&self, event: &Event<'_>) {
        self.metrics.notice(event);
        Logged.notice(event);
    }
}

/// Something that differs between controllers started at the same time.
fn seed() -> u64 {
    let nanos = std::time::SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::from(since.subsec_nanos()));
    nanos ^ (u64::from(std::process::id()) << 32)
}
