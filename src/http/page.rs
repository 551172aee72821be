//! `/`: a page for people. It shows where everything stands and what is wrong, and lets a person settle a conflict. Browsers ask for the
//! token as a password; the page works without scripts.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Form, Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use minijinja::{AutoEscape, Environment};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::controller::{Choice, EngineError};
use crate::model::{Cell, ConflictId, StoreName};
use crate::plan::{STANDINGS, shown, standing_word};
use crate::resolve::{Conflict, SideRecord};
use crate::spec::Spec;
use crate::template::value_of;

use super::{Current, Site, secret};

const TEMPLATE: &str = include_str!("page.html.jinja");

/// Conflicts and errors that are shown at most, each.
const MOST_SHOWN: usize = 200;

/// Nothing from elsewhere, no scripts, no frames around it, and no copies kept.
const HEADERS: [(HeaderName, &str); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::CACHE_CONTROL, "no-store"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// What the conflicts' forms are signed for, so that no other site can send them in a visitor's name.
const FORMS: &str = "forms of the page";

/// Somebody who has the token.
#[derive(Debug, Clone)]
struct Visitor {
    name: String,
    proof: String,
}

pub(super) fn router(site: &Arc<Site>) -> Router<Arc<Site>> {
    Router::new()
        .route("/", get(show))
        .route("/conflicts/{id}", post(settle))
        .route_layer(middleware::from_fn_with_state(Arc::clone(site), let_in))
}

async fn let_in(State(site): State<Arc<Site>>, mut request: Request, next: Next) -> Response {
    if site.calls.check().is_err() {
        return (StatusCode::TOO_MANY_REQUESTS, "too many calls; wait a second\n").into_response();
    }
    let token = site.current().and_then(|current| current.token.clone());
    let Some(token) = token else {
        let why = "No token is set. Give the controller one: http: {token: \"${env:NAME}\"}\n";
        return (StatusCode::UNAUTHORIZED, why).into_response();
    };
    let visitor = secret::visitor(request.headers(), &token).zip(secret::proof(&token, FORMS));
    let Some((name, proof)) = visitor else {
        let asks = [(header::WWW_AUTHENTICATE, "Basic realm=\"trueup\", charset=\"UTF-8\"")];
        let why = "The password is the controller's token; the name is yours.\n";
        return (StatusCode::UNAUTHORIZED, asks, why).into_response();
    };
    request.extensions_mut().insert(Visitor { name, proof });
    let mut response = next.run(request).await;
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// A failure on a page of its own.
fn failed(status: StatusCode, error: &EngineError) -> Response {
    let hint = error.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
    (status, format!("{}{hint}\n", error.message)).into_response()
}

#[allow(clippy::result_large_err)] // The refusal is the answer.
fn opened(site: &Site) -> Result<Arc<Current>, Response> {
    site.current().ok_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, "nothing is open yet\n").into_response())
}

async fn show(
    State(site): State<Arc<Site>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Html<String>, Response> {
    let engine = &opened(&site)?.engine;
    let lost = |error: EngineError| failed(StatusCode::BAD_GATEWAY, &error);
    let conflicts = engine.conflicts(false).await.map_err(lost)?;
    let errors = engine.errors().await.map_err(lost)?;
    let lease = engine.lease().await.map_err(lost)?;
    let pauses = engine.pauses().await.map_err(lost)?;
    let words: Vec<&str> = STANDINGS.iter().map(|standing| standing_word(*standing)).collect();
    let pauses: Vec<_> =
        pauses.iter().map(|pause| json!({"address": pause.address(), "of": pause})).collect();
    let view = json!({
        "proof": visitor.proof,
        "unhealthy": site.health.check().err(),
        "ready": site.health.ready().ok(),
        "board": site.board.status(),
        "plans": site.board.plans(),
        "standings": words,
        "holder": lease.map(|lease| lease.holder),
        "pauses": pauses,
        "conflicts": conflicts.iter().take(MOST_SHOWN).map(|one| view_of(engine.spec(), one)).collect::<Vec<_>>(),
        "more_conflicts": conflicts.len().saturating_sub(MOST_SHOWN),
        "errors": errors.iter().take(MOST_SHOWN).collect::<Vec<_>>(),
        "more_errors": errors.len().saturating_sub(MOST_SHOWN),
    });
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = environment.render_str(TEMPLATE, value_of(&view, &str::to_owned));
    page.map(Html).map_err(|error| {
        let error = EngineError::new(format!("the page cannot be laid out: {error}"));
        failed(StatusCode::INTERNAL_SERVER_ERROR, &error)
    })
}

#[derive(Serialize)]
struct ShownSide<'a> {
    store: &'a StoreName,
    version: String,
    time: Option<String>,
    deleted: bool,
    values: Vec<(&'a str, String)>,
}

fn view_of(spec: &Spec, conflict: &Conflict) -> serde_json::Value {
    let sides: Vec<ShownSide<'_>> = conflict
        .sides
        .iter()
        .map(|side| ShownSide {
            store: &side.store,
            version: side.version.to_string(),
            time: side.time.map(|time| time.to_string()),
            deleted: side.record == SideRecord::Deleted,
            values: side
                .values
                .iter()
                .map(|(field, value)| {
                    let hidden = !spec.may_show(&conflict.record.entity, field);
                    (field.as_str(), shown(&Cell::Value(value.clone()), hidden))
                })
                .collect(),
        })
        .collect();
    json!({
        "id": conflict.id, "record": conflict.record.to_string(), "reason": conflict.reason.as_str(),
        "since": conflict.created_at, "decided": conflict.decision.is_some(), "sides": sides,
    })
}

/// What a conflict's form sends.
#[derive(Deserialize)]
struct Settled {
    /// The store whose values stand.
    take: StoreName,
    proof: String,
}

async fn settle(
    State(site): State<Arc<Site>>,
    Path(id): Path<String>,
    Extension(visitor): Extension<Visitor>,
    Form(form): Form<Settled>,
) -> Result<Redirect, Response> {
    if !secret::same(form.proof.as_bytes(), visitor.proof.as_bytes()) {
        let why = "This form was not made by this page: go back, load it anew, and try again.\n";
        return Err((StatusCode::FORBIDDEN, why).into_response());
    }
    let engine = &opened(&site)?.engine;
    let decided = engine.decide(&ConflictId(id), Choice::Take(form.take), &visitor.name).await;
    let decided = decided.map_err(|error| failed(StatusCode::CONFLICT, &error))?;
    // It is carried out by a pass; that need not be the next regular one.
    site.inbox.record(decided.record);
    Ok(Redirect::to("/"))
}
