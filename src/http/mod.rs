//! What a running controller answers over HTTP: `/metrics` for Prometheus and `/healthz` for whatever restarts it.
//!
//! Loopback by default: what is served here is not protected by anything.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;

/// The content type of Prometheus's text format.
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// A controller is late when its last pass ended more than this many intervals ago: one for the wait, one for a slow pass and
/// one for a pass that failed in passing.
const LATE_INTERVALS: u32 = 3;

/// Whether passes go on.
#[derive(Debug)]
pub struct Health {
    interval: Duration,
    last: Mutex<Last>,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    first: bool,
    running: bool,
    failure: Option<String>,
}

impl Health {
    /// The health of a controller that begins now and makes a pass every `interval`.
    pub fn new(interval: Duration) -> Self {
        let last = Last { at: Instant::now(), first: true, running: false, failure: None };
        Self { interval, last: Mutex::new(last) }
    }

    /// A pass began.
    pub fn started(&self) {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).running = true;
    }

    /// A pass ended; `failure` says why it failed as a whole, if it did.
    pub fn ended(&self, failure: Option<String>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Last { at: Instant::now(), first: false, running: false, failure };
    }

    /// Whether passes go on.
    ///
    /// # Errors
    /// Why not, in words.
    pub fn check(&self) -> Result<(), String> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &last.failure {
            return Err(format!("the last pass failed: {failure}"));
        }
        let age = last.at.elapsed();
        if age > self.interval * LATE_INTERVALS {
            let what = match (last.first, last.running) {
                (_, true) => "a pass has been running, and none ended,",
                (true, false) => "no pass has ended",
                (false, false) => "the last pass ended more than",
            };
            return Err(format!(
                "{what} for {} s, with an interval of {} s",
                age.as_secs(),
                self.interval.as_secs()
            ));
        }
        Ok(())
    }
}

/// Takes an address to serve on.
///
/// # Errors
/// Why it cannot be had, naming it.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).await.map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// Serves until `stop` is cancelled; requests in flight are answered first.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/healthz", get(show_health))
        .with_state(Shared { metrics, health });
    axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await }).await
}

#[derive(Clone)]
struct Shared {
    metrics: Arc<Metrics>,
    health: Arc<Health>,
}

async fn show_metrics(State(shared): State<Shared>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], shared.metrics.text())
}

async fn show_health(State(shared): State<Shared>) -> impl IntoResponse {
    match shared.health.check() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::telemetry::fixture;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn metrics_and_health_are_served_until_told_to_stop() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let metrics = Arc::new(Metrics::new(&fixture::spec()).unwrap());
        let health = Arc::new(Health::new(Duration::from_mins(1)));
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, metrics, health.clone(), stop.clone()));

        let answer = get(address, "/metrics").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(
            answer.to_lowercase().contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\ntrueup_drift_records{"), "{answer}");
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 OK\r\n"));
        health.ended(Some("the state is locked".to_owned()));
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.ends_with("the last pass failed: the state is locked\n"), "{answer}");
        assert!(get(address, "/elsewhere").await.starts_with("HTTP/1.1 404 "));

        stop.cancel();
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_named() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let error = bind(address).await.unwrap_err();
        assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
    }
}
