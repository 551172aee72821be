//! `/api/v1`: where everything stands, as JSON, for those who have the token. Sensitive fields are left out.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::controller::EngineError;
use crate::plan::json::conflict_to_json;

use super::{Current, Site, secret};

/// Conflicts that are shown at most.
const MOST_CONFLICTS: usize = 1_000;

pub(super) fn router(site: &Arc<Site>) -> Router<Arc<Site>> {
    Router::new()
        .route("/status", get(status))
        .route("/drift", get(async |State(site): State<Arc<Site>>| Json(site.board.drift())))
        .route("/plans", get(async |State(site): State<Arc<Site>>| Json(site.board.plans())))
        .route("/passes", get(async |State(site): State<Arc<Site>>| Json(site.board.passes())))
        .route("/conflicts", get(conflicts))
        .route("/errors", get(errors))
        // Callers without the token are not told what there is.
        .fallback(async || (StatusCode::NOT_FOUND, Json(json!({"error": "there is no such page"}))))
        .layer(middleware::from_fn_with_state(Arc::clone(site), authorised))
}

async fn authorised(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    if site.calls.check().is_err() {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "too many calls; wait a second");
    }
    let token = site.current().and_then(|current| current.token.clone());
    let Some(token) = token else {
        return refuse(
            StatusCode::UNAUTHORIZED,
            "no token is set; give the controller one (`http: {token: \"${env:NAME}\"}`)",
        );
    };
    if !secret::bears(request.headers(), &token) {
        return refuse(StatusCode::UNAUTHORIZED, "send the token as `Authorization: Bearer ...`");
    }
    next.run(request).await
}

fn refuse(status: StatusCode, why: &str) -> Response {
    let mut response = (status, Json(json!({"error": why}))).into_response();
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

#[allow(clippy::result_large_err)] // The refusal is the answer.
fn current(site: &Site) -> Result<Arc<Current>, Response> {
    site.current().ok_or_else(|| refuse(StatusCode::SERVICE_UNAVAILABLE, "nothing is open yet"))
}

fn failed(error: &EngineError) -> Response {
    refuse(StatusCode::BAD_GATEWAY, &error.message)
}

async fn status(State(site): State<Arc<Site>>) -> Result<Json<Value>, Response> {
    let current = current(&site)?;
    let mut page = site.board.status();
    let lease = current.engine.lease().await.map_err(|error| failed(&error))?;
    let pauses = current.engine.pauses().await.map_err(|error| failed(&error))?;
    if let Some(page) = page.as_object_mut() {
        page.insert(
            "lease".to_owned(),
            json!(lease.map(|lease| json!({"holder": lease.holder, "expires": lease.expires}))),
        );
        page.insert("pauses".to_owned(), json!(pauses));
        page.insert("healthy".to_owned(), json!(site.health.check().is_ok()));
    }
    Ok(Json(page))
}

async fn conflicts(State(site): State<Arc<Site>>) -> Result<Json<Value>, Response> {
    let current = current(&site)?;
    let conflicts = current.engine.conflicts(false).await.map_err(|error| failed(&error))?;
    let spec = current.engine.spec();
    let shown: Vec<Value> = conflicts
        .iter()
        .take(MOST_CONFLICTS)
        .map(|conflict| conflict_to_json(conflict, &|field| spec.may_show(&conflict.record.entity, field)))
        .collect();
    Ok(Json(json!({"conflicts": shown, "more": conflicts.len().saturating_sub(MOST_CONFLICTS)})))
}

async fn errors(State(site): State<Arc<Site>>) -> Result<Json<Value>, Response> {
    let current = current(&site)?;
    let errors = current.engine.errors().await.map_err(|error| failed(&error))?;
    Ok(Json(json!({"errors": errors})))
}
