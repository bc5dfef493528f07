//! What the daemon knows, and what its owner may tell it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use byway_api::body::{LinkInfo, Map, PeerInfo, PeerSpec, RouteInfo, SessionInfo, Status};
use byway_api::exchange::{Problem, ReloadAnswer};
use byway_api::{ApiError, Code, DEFAULT_DEADLINE};
use byway_identity::Addr;
use serde::Deserialize;

use crate::app::App;
use crate::extract::{InPath, InQuery, Json as Body};
use crate::reply::{Failure, within};

/// Nodes of a map where nothing is said, and at most.
const MAP_DEFAULT: usize = 500;
const MAP_MAX: usize = 10_000;

/// What the daemon answers within the usual time.
async fn asked<T>(call: impl Future<Output = Result<T, ApiError>>) -> Result<Json<T>, Failure> {
    within(DEFAULT_DEADLINE, "the daemon did not answer", call).await.map(Json)
}

/// Overview of the daemon.
#[utoipa::path(get, path = "/v1/status", tag = "state", responses((status = 200, body = Status), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn status(State(app): State<Arc<App>>) -> Result<Json<Status>, Failure> {
    asked(app.service.status()).await
}

/// Configured and known peers.
#[utoipa::path(get, path = "/v1/peers", tag = "state", responses((status = 200, body = Vec<PeerInfo>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn peers(State(app): State<Arc<App>>) -> Result<Json<Vec<PeerInfo>>, Failure> {
    asked(app.service.peers()).await
}

/// Adds a peer, or replaces it.
#[utoipa::path(post, path = "/v1/peers", tag = "state", request_body = PeerSpec, responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn add_peer(
    State(app): State<Arc<App>>,
    Body(peer): Body<PeerSpec>,
) -> Result<StatusCode, Failure> {
    asked(app.service.add_peer(peer)).await.map(|_| StatusCode::NO_CONTENT)
}

/// Removes a peer and its links.
#[utoipa::path(delete, path = "/v1/peers/{addr}", tag = "state", params(("addr" = String, Path, description = "The peer's address")), responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn remove_peer(
    State(app): State<Arc<App>>,
    InPath(addr): InPath<Addr>,
) -> Result<StatusCode, Failure> {
    asked(app.service.remove_peer(addr)).await.map(|_| StatusCode::NO_CONTENT)
}

/// Open links.
#[utoipa::path(get, path = "/v1/links", tag = "state", responses((status = 200, body = Vec<LinkInfo>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn links(State(app): State<Arc<App>>) -> Result<Json<Vec<LinkInfo>>, Failure> {
    asked(app.service.links()).await
}

/// Known routes.
#[utoipa::path(get, path = "/v1/routes", tag = "state", responses((status = 200, body = Vec<RouteInfo>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn routes(State(app): State<Arc<App>>) -> Result<Json<Vec<RouteInfo>>, Failure> {
    asked(app.service.routes()).await
}

/// The query of `map`.
#[derive(Deserialize)]
pub(super) struct Extent {
    limit: Option<usize>,
}

/// What is known of the network around the daemon.
#[utoipa::path(get, path = "/v1/map", tag = "state",
    params(("limit" = Option<usize>, Query, maximum = 10_000, description = "Most nodes and most links; 0: places in trees alone; none: 500")),
    responses((status = 200, body = Map), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn map(
    State(app): State<Arc<App>>,
    InQuery(extent): InQuery<Extent>,
) -> Result<Json<Map>, Failure> {
    let limit = extent.limit.unwrap_or(MAP_DEFAULT);
    if limit > MAP_MAX {
        return Err(ApiError::new(Code::BadRequest, format!("a map has at most {MAP_MAX} nodes")).into());
    }
    asked(app.service.map(limit)).await
}

/// End-to-end sessions.
#[utoipa::path(get, path = "/v1/sessions", tag = "state", responses((status = 200, body = Vec<SessionInfo>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn sessions(State(app): State<Arc<App>>) -> Result<Json<Vec<SessionInfo>>, Failure> {
    asked(app.service.sessions()).await
}

/// Reads the configuration again.
#[utoipa::path(post, path = "/v1/reload", tag = "state", responses((status = 200, body = ReloadAnswer), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reload(State(app): State<Arc<App>>) -> Result<Json<ReloadAnswer>, Failure> {
    asked(async { app.service.reload().await.map(|notes| ReloadAnswer { notes }) }).await
}

/// Asks the daemon to stop; it answers first.
#[utoipa::path(post, path = "/v1/shutdown", tag = "state", responses((status = 202), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn shutdown(State(app): State<Arc<App>>) -> Result<StatusCode, Failure> {
    asked(app.service.shutdown()).await.map(|_| StatusCode::ACCEPTED)
}

/// Counters and gauges, as OpenMetrics.
#[utoipa::path(get, path = "/metrics", tag = "state", responses((status = 200, body = String, content_type = "application/openmetrics-text"), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let Json(mut text) = asked(app.service.metrics()).await?;
    // The end mark stands once, after everything.
    let kept = text.trim_end().trim_end_matches("# EOF").trim_end().len();
    text.truncate(kept);
    if !text.is_empty() {
        text.push('\n');
    }
    app.counters.write(&mut text);
    text.push_str("# EOF\n");
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// Alive.
#[utoipa::path(get, path = "/healthz", tag = "state", responses((status = 200, body = String, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "byway\n"
}
