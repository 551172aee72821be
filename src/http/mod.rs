//! What a running controller answers over HTTP.
//!
//! `/metrics`, `/livez`, `/healthz` and `/readyz` are for whoever reaches the address, and name no record. Webhooks under
//! `/webhooks/{store}` carry the proof of their sender, and are only hints. What shows records is under `/api/v1` and, for people, on the
//! page at `/`, for those who have the token.
//! Sizes, rates and the number of requests at a time are bounded.

mod accept;
mod api;
mod board;
mod health;
mod page;
mod secret;
mod webhook;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::controller::{Engine, Inbox};
use crate::model::StoreName;
use crate::spec::{Spec, WebhookKind};
use crate::telemetry::{Event, Metrics, Observer, WebhookResult};

use accept::Bounded;

pub use board::Board;
pub use health::Health;
pub use secret::Secrets;

/// The content type of Prometheus's text format.
pub const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The largest body of a webhook: a row of a megabyte is a large one.
const LARGEST_BODY: usize = 1 << 20;
/// Requests that are worked on at a time; with the largest bodies, 64 MiB.
const AT_ONCE: usize = 64;
/// How long a request may take to arrive whole.
const PATIENCE: Duration = Duration::from_secs(10);
/// Webhooks a second over time, and at once: a bulk edit in an application sends one a record.
const WEBHOOKS_A_SECOND: NonZeroU32 = NonZeroU32::new(500).unwrap();
const WEBHOOKS_AT_ONCE: NonZeroU32 = NonZeroU32::new(20_000).unwrap();
/// Calls of the API a second: people and dashboards.
const CALLS_A_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();

/// What holds as long as the manifests do.
pub struct Current {
    /// What is run.
    pub engine: Arc<Engine>,
    /// What callers of the API have to show; none: nobody may call.
    pub token: Option<String>,
    /// What senders of webhooks have to know.
    pub secrets: Secrets,
}

impl Current {
    /// Reads the token and the secrets that an engine's manifests name. Those that cannot be read are named, and whoever would need
    /// them is refused.
    #[allow(clippy::needless_pass_by_value)] // It is kept.
    pub fn of(engine: Arc<Engine>) -> (Self, Vec<String>) {
        let mut problems = Vec::new();
        let mut read = |what: String, reference| match engine.secret(reference) {
            Ok(secret) if !secret.is_empty() => Some(secret),
            Ok(_) => {
                problems.push(format!("{what} is empty"));
                None
            }
            Err(why) => {
                problems.push(format!("{what}: {why}"));
                None
            }
        };
        let controller = &engine.spec().controller;
        let token = controller.http_token.as_ref().and_then(|token| read("the token".to_owned(), token));
        let secrets = controller.triggers.webhooks.iter().filter_map(|(store, webhook)| {
            Some((store.clone(), read(format!("the secret of the webhooks of `{store}`"), &webhook.secret)?))
        });
        let secrets = secrets.collect();
        (Self { token, secrets, engine: Arc::clone(&engine) }, problems)
    }
}

/// Everything that is served.
pub struct Site {
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Whether passes go on.
    pub health: Arc<Health>,
    /// What the last passes found and did.
    pub board: Arc<Board>,
    /// Where hints go.
    pub inbox: Arc<Inbox>,
    /// Who is told.
    pub observer: Arc<dyn Observer>,
    current: RwLock<Option<Arc<Current>>>,
    taken: secret::Taken,
    webhooks: DefaultDirectRateLimiter,
    calls: DefaultDirectRateLimiter,
    room: Semaphore,
}

impl Site {
    /// A site before anything is open.
    pub fn new(
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        board: Arc<Board>,
        inbox: Arc<Inbox>,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let quota = Quota::per_second(WEBHOOKS_A_SECOND).allow_burst(WEBHOOKS_AT_ONCE);
        Self {
            metrics,
            health,
            board,
            inbox,
            observer,
            current: RwLock::new(None),
            taken: secret::Taken::default(),
            webhooks: RateLimiter::direct(quota),
            calls: RateLimiter::direct(Quota::per_second(CALLS_A_SECOND)),
            room: Semaphore::new(AT_ONCE),
        }
    }

    /// These manifests hold from now on.
    pub fn set(&self, current: Current) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(current));
    }

    fn current(&self) -> Option<Arc<Current>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
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
pub async fn serve(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) -> std::io::Result<()> {
    let limited = Router::new()
        .route("/webhooks/{store}", post(take_webhook))
        .nest("/api/v1", api::router(&site))
        .merge(page::router(&site))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), bounded));
    // These are answered at once, and have to be when there is no room for anything else.
    let router = Router::new()
        .route("/metrics", get(show_metrics))
        .route("/livez", get("ok\n"))
        .route("/healthz", get(show_health))
        .route("/readyz", get(show_ready))
        .merge(limited)
        .with_state(site);
    let served = axum::serve(Bounded::new(listener), router);
    let stopped = stop.clone();
    let graceful = served.with_graceful_shutdown(async move { stopped.cancelled().await });
    // Somebody who never ends a request does not keep us from ending.
    let overdue = async {
        stop.cancelled().await;
        tokio::time::sleep(PATIENCE).await;
    };
    tokio::select! {
        result = graceful => result,
        () = overdue => Ok(()),
    }
}

/// Refuses what there is no room for, and what takes too long.
async fn bounded(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let Ok(_permit) = site.room.try_acquire() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many requests at a time\n").into_response();
    };
    match tokio::time::timeout(PATIENCE * 3, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::GATEWAY_TIMEOUT, "it took too long\n").into_response(),
    }
}

async fn show_metrics(State(site): State<Arc<Site>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, METRICS_TYPE)], site.metrics.text())
}

async fn show_health(State(site): State<Arc<Site>>) -> impl IntoResponse {
    match site.health.check() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn show_ready(State(site): State<Arc<Site>>) -> impl IntoResponse {
    match site.health.ready() {
        Ok(how) => (StatusCode::OK, format!("{how}\n")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn take_webhook(
    State(site): State<Arc<Site>>,
    Path(store): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let current = site.current();
    let named = StoreName::known(&store);
    let known = current.as_ref().zip(named).and_then(|(current, store)| {
        let webhook = current.engine.spec().controller.triggers.webhooks.get(&store)?;
        let secret = current.secrets.get(&store)?.clone();
        Some((Arc::clone(current.engine.spec()), store, webhook.kind, secret))
    });
    let result = match &known {
        _ if site.webhooks.check().is_err() => Err(WebhookResult::Limited),
        None => Err(WebhookResult::Forged),
        Some((spec, store, kind, secret)) => match read_body(body).await {
            Err(result) => Err(result),
            Ok(body) => judge(&site, spec, store, *kind, secret, &headers, &body),
        },
    };
    let store = known.as_ref().map(|(_, store, ..)| store);
    let (result, said) = match result {
        Ok(said) => (WebhookResult::Accepted, Some(said)),
        Err(result) => (result, None),
    };
    site.observer.notice(&Event::Webhook { store, result });
    match said {
        Some(webhook::Said::Records(records)) => {
            for record in records {
                let taken = site.inbox.record(record);
                site.observer.notice(&Event::Hint { taken });
            }
        }
        Some(webhook::Said::Something) => site.inbox.something(),
        Some(webhook::Said::Nothing) | None => {}
    }
    let status = match result {
        WebhookResult::Accepted => StatusCode::ACCEPTED,
        WebhookResult::Forged | WebhookResult::Replayed => StatusCode::UNAUTHORIZED,
        WebhookResult::Oversized => StatusCode::PAYLOAD_TOO_LARGE,
        WebhookResult::Malformed => StatusCode::BAD_REQUEST,
        WebhookResult::Limited => StatusCode::TOO_MANY_REQUESTS,
    };
    (status, format!("{}\n", result.as_str())).into_response()
}

async fn read_body(body: Body) -> Result<Bytes, WebhookResult> {
    match tokio::time::timeout(PATIENCE, to_bytes(body, LARGEST_BODY)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(WebhookResult::Oversized),
        Err(_) => Err(WebhookResult::Malformed),
    }
}

fn judge(
    site: &Site,
    spec: &Spec,
    store: &StoreName,
    kind: WebhookKind,
    secret: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<webhook::Said, WebhookResult> {
    let now = crate::apply::clock().micros() / 1_000_000;
    let checked = match kind {
        WebhookKind::Generic => secret::GENERIC.check(headers, body, secret, now, &site.taken),
        WebhookKind::Supabase => secret::shared(headers, secret),
        WebhookKind::Twenty => secret::TWENTY.check(headers, body, secret, now, &site.taken),
    };
    checked.map_err(|refused| match refused {
        secret::Refused::Forged => WebhookResult::Forged,
        secret::Refused::Replayed => WebhookResult::Replayed,
    })?;
    webhook::read(spec, store, kind, body).ok_or(WebhookResult::Malformed)
}
