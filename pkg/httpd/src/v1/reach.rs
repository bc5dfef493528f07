//! Who is where, and how far.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use byway_api::body::Trace;
use byway_api::exchange::{
    FindAnswer, KeyAnswer, KeyText, PingAnswer, Problem, ReachRequest, prefix_from_text, request,
};
use byway_api::{ApiError, ManCon, Node};
use byway_identity::Addr;
use serde::Deserialize;

use crate::access::NodeToken;
use crate::app::App;
use crate::extract::{InPath, InQuery, Json as Body};
use crate::reply::{Failure, within};

/// The query of `find` and `keys`. The node's token may be in it too.
#[derive(Deserialize)]
pub(super) struct Ask {
    bits: Option<u16>,
    mancon: Option<ManCon>,
    deadline_ms: Option<u64>,
}

/// The node `from`: the daemon's own needs no token, as asking costs it nothing.
fn node(app: &App, from: Addr, token: Option<&str>) -> Result<Arc<dyn Node>, ApiError> {
    let main = app.service.main();
    if main.addr() == from { Ok(main) } else { app.hosted.get(from, token) }
}

/// Finds a whole address by its beginning.
#[utoipa::path(get, path = "/v1/nodes/{addr}/find/{prefix}", tag = "nodes",
    params(
        ("addr" = String, Path, description = "The local node that asks"),
        ("prefix" = String, Path, description = "The first characters of the address"),
        ("bits" = Option<u16>, Query, description = "How many bits of them count; none: all"),
        ("mancon" = Option<ManCon>, Query, description = "The level; none: the node's"),
        ("deadline_ms" = Option<u64>, Query, description = "How long to wait; none: 10 s"),
        ("token" = Option<String>, Query, description = "The node's token, if no header has it"),
    ),
    responses((status = 200, body = FindAnswer), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn find(
    State(app): State<Arc<App>>,
    InPath((from, prefix)): InPath<(Addr, String)>,
    InQuery(ask): InQuery<Ask>,
    NodeToken(token): NodeToken,
) -> Result<Json<FindAnswer>, Failure> {
    let node = node(&app, from, token.as_deref())?;
    let prefix = prefix_from_text(&prefix, ask.bits)?;
    let request = request(ask.mancon, ask.deadline_ms)?;
    let addr =
        within(request.wait(), "no node with this prefix was found", node.find(prefix, request)).await?;
    Ok(Json(FindAnswer { addr }))
}

/// Looks up the public key behind an address.
#[utoipa::path(get, path = "/v1/nodes/{addr}/keys/{target}", tag = "nodes",
    params(
        ("addr" = String, Path, description = "The local node that asks"),
        ("target" = String, Path, description = "The address"),
        ("mancon" = Option<ManCon>, Query, description = "The level; none: the node's"),
        ("deadline_ms" = Option<u64>, Query, description = "How long to wait; none: 10 s"),
        ("token" = Option<String>, Query, description = "The node's token, if no header has it"),
    ),
    responses((status = 200, body = KeyAnswer), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn lookup(
    State(app): State<Arc<App>>,
    InPath((from, addr)): InPath<(Addr, Addr)>,
    InQuery(ask): InQuery<Ask>,
    NodeToken(token): NodeToken,
) -> Result<Json<KeyAnswer>, Failure> {
    let node = node(&app, from, token.as_deref())?;
    let request = request(ask.mancon, ask.deadline_ms)?;
    // One's own key needs no question.
    let key = if addr == node.addr() {
        node.public_key()
    } else {
        within(request.wait(), "the key was not found", node.lookup(addr, request)).await?
    };
    Ok(Json(KeyAnswer { addr, public_key: KeyText(key) }))
}

/// Asks a node for a sign of life.
#[utoipa::path(post, path = "/v1/ping", tag = "reach", request_body = ReachRequest, params(("token" = Option<String>, Query, description = "The token of `from`, if no header has it")), responses((status = 200, body = PingAnswer), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn ping(
    State(app): State<Arc<App>>,
    NodeToken(token): NodeToken,
    Body(ask): Body<ReachRequest>,
) -> Result<Json<PingAnswer>, Failure> {
    let node = match ask.from {
        Some(from) => node(&app, from, token.as_deref())?,
        None => app.service.main(),
    };
    let request = request(ask.mancon, ask.deadline_ms)?;
    let rtt = within(request.wait(), "there was no answer", node.ping(ask.to, request)).await?;
    Ok(Json(PingAnswer { rtt_ms: rtt.as_secs_f64() * 1e3 }))
}

/// Shows the way that requests to a node take now.
#[utoipa::path(post, path = "/v1/trace", tag = "reach", request_body = ReachRequest, responses((status = 200, body = Trace), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn trace(
    State(app): State<Arc<App>>,
    Body(ask): Body<ReachRequest>,
) -> Result<Json<Trace>, Failure> {
    let request = request(ask.mancon, ask.deadline_ms)?;
    within(request.wait(), "no way was found", app.service.trace(ask.to, request)).await.map(Json)
}
