//! From a request to an answer: faults, size, key, limit, and then the part of the API that the path names.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Out, Refusal};
use super::clock::Clock;
use super::editor::Editor;
use super::faults::{Fault, Faults};
use super::hooks::{self, Hooks};
use super::limit::Limiter;
use super::request::Call;
use super::wire::{Cutter, Door};
use super::world::World;
use super::{CallSeen, graphql, metadata, rest};

/// The longest request line and headers.
const MOST_HEAD_BYTES: usize = 16 * 1024;
/// The longest body.
const MOST_BODY_BYTES: usize = 10 * 1024 * 1024;
/// How much of a body that is too long is read, so that its sender stays to hear the answer.
const MOST_READ_BYTES: usize = 64 * 1024 * 1024;
/// How many calls are remembered for those who ask what was called.
const REMEMBERED: usize = 100_000;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Server {
    pub key: String,
    pub clock: Clock,
    pub world: Mutex<World>,
    pub limiter: Mutex<Limiter>,
    pub faults: Faults,
    pub hooks: Hooks,
    pub seen: Mutex<VecDeque<CallSeen>>,
}

/// Locks; what a panic left behind is taken as it is, since the database has it right.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until told to stop; what is in flight then is dropped.
pub(super) async fn serve(door: Door, server: Arc<Server>, stop: CancellationToken) {
    let router = Router::new().fallback(entry).with_state(server);
    let service = router.into_make_service_with_connect_info::<Cutter>();
    tokio::select! {
        served = axum::serve(door, service) => {
            if let Err(error) = served {
                tracing::error!("the sandbox's server failed: {error}");
            }
        }
        () = stop.cancelled() => {}
    }
}

async fn entry(
    State(server): State<Arc<Server>>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    request: Request,
) -> Response {
    let (head, body) = request.into_parts();
    let method = head.method.as_str().to_owned();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let body = to_bytes(body, MOST_READ_BYTES).await.map(|bytes| bytes.to_vec());
    let fault = server.faults.befall(&method, &target, body.as_deref().unwrap_or_default());
    if matches!(fault, Some(Fault::Down)) {
        cutter.cut();
        return Response::default();
    }
    let is_graphql = target.split('?').next() == Some("/graphql");
    let admitted = server.admit(&method, &target, &head.headers);
    if let Some(Fault::Slow(time)) = fault {
        tokio::time::sleep(time).await;
    }
    let faulty = fault.as_ref().and_then(|fault| instead(fault, is_graphql));
    let answer = match (admitted, faulty) {
        (Err(refusal), _) => refused(&refusal, is_graphql),
        (Ok(()), Some(answer)) => answer,
        (Ok(()), None) => server.act(
            &method,
            &target,
            &head.headers,
            body.ok().filter(|body| body.len() <= MOST_BODY_BYTES),
        ),
    };
    server.remember(&method, &target, answer.status);
    match &fault {
        Some(Fault::LoseAnswer) => {
            cutter.cut();
            return Response::default();
        }
        Some(Fault::Then(edit)) => server.edit(|editor| edit(editor)),
        _ => {}
    }
    response(&answer)
}

/// The answer that a fault gives in the server's place.
fn instead(fault: &Fault, is_graphql: bool) -> Option<Answer> {
    match fault {
        Fault::Status(status) => {
            let body = json!({"statusCode": status, "error": "Fault", "messages": ["a fault, as asked for"]});
            Some(Answer { status: *status, body: Out::Plain(body) })
        }
        Fault::Limited => {
            Some(refused(&Refusal::limited("Limit reached (a fault, as asked for)"), is_graphql))
        }
        Fault::Errors(message) => {
            let errors = json!([{"message": message, "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]);
            Some(Answer::ok(Out::object([("errors", Out::Plain(errors)), ("data", Out::NULL)])))
        }
        Fault::Down | Fault::Slow(_) | Fault::LoseAnswer | Fault::Then(_) => None,
    }
}

/// Over GraphQL, being over the limit is a success with errors; who calls without a key is refused as anywhere.
fn refused(refusal: &Refusal, is_graphql: bool) -> Answer {
    if is_graphql && refusal.status == 429 { graphql::errors(refusal) } else { refusal.rest() }
}

fn response(answer: &Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body.bytes()));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = header::HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

impl Server {
    /// Whether a call is let in: not too long, with the key, and within the limits.
    fn admit(&self, method: &str, target: &str, headers: &HeaderMap) -> Result<(), Refusal> {
        let sizes = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4);
        if method.len() + target.len() + sizes.sum::<usize>() > MOST_HEAD_BYTES {
            return Err(Refusal::too_long());
        }
        let given = headers.get(header::AUTHORIZATION).ok_or_else(Refusal::forbidden)?;
        let given = given.to_str().ok().and_then(|text| text.strip_prefix("Bearer "));
        if given != Some(self.key.as_str()) {
            return Err(Refusal::unauthorised());
        }
        locked(&self.limiter).take(self.clock.now_ms()).map_err(Refusal::limited)
    }

    fn act(&self, method: &str, target: &str, headers: &HeaderMap, body: Option<Vec<u8>>) -> Answer {
        let is_graphql = target.split('?').next() == Some("/graphql");
        let done = self.try_act(method, target, headers, body);
        done.unwrap_or_else(|refusal| if is_graphql { graphql::errors(&refusal) } else { refusal.rest() })
    }

    fn try_act(
        &self,
        method: &str,
        target: &str,
        headers: &HeaderMap,
        body: Option<Vec<u8>>,
    ) -> Result<Answer, Refusal> {
        let mut call = Call::new(method, target)?;
        call.body = body.ok_or_else(|| Refusal::internal("request entity too large"))?;
        call.is_json =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
                value.split(';').next().is_some_and(|kind| kind.trim() == "application/json")
            });
        let path = call.path.clone();
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        self.in_world(|world| match parts.as_slice() {
            ["graphql"] => graphql::answer(world, &call),
            ["rest", "metadata", rest @ ..] => metadata::answer(world, &call, rest),
            ["rest", rest @ ..] => rest::answer(world, &call, rest),
            _ => Err(Refusal::not_found(format!("Cannot {method} {path}"))),
        })
    }

    /// Does something to the workspace and tells the webhooks what happened.
    fn in_world<T>(&self, work: impl FnOnce(&mut World) -> T) -> T {
        let (done, deliveries) = {
            let mut world = locked(&self.world);
            let done = work(&mut world);
            (done, hooks::deliveries(&mut world))
        };
        self.hooks.send(deliveries);
        done
    }

    /// Edits from inside the process.
    pub(super) fn edit<T>(&self, work: impl FnOnce(&mut Editor<'_>) -> T) -> T {
        self.in_world(|world| work(&mut Editor { world }))
    }

    fn remember(&self, method: &str, target: &str, status: u16) {
        let (at, clock_ms) = (std::time::Instant::now(), self.clock.now_ms());
        let mut seen = locked(&self.seen);
        if seen.len() == REMEMBERED {
            seen.pop_front();
        }
        seen.push_back(CallSeen {
            method: method.to_owned(),
            target: target.to_owned(),
            status,
            at,
            clock_ms,
        });
    }
}
