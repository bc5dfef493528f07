//! Nodes that clients open, and their messages.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::extract::ws::WebSocketUpgrade;
use axum::http::StatusCode;
use axum::response::Response;
use axum::{Extension, Json};
use byway_api::body::NodeInfo;
use byway_api::exchange::{
    OpenNodeAnswer, OpenNodeRequest, Problem, Secret, SendAnswer, SendMessage, SendState, request,
};
use byway_api::{ApiError, Code, DEFAULT_DEADLINE, HELD_LIFE, Kind, MESSAGE_MAX, OpenNode, Outgoing, frame};
use byway_identity::Addr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::access::NodeToken;
use crate::app::App;
use crate::extract::{InPath, Json as Body};
use crate::reply::{Failure, within};
use crate::server::Place;
use crate::token::Token;
use crate::v1::messages;

/// Nodes that the daemon hosts, its own included.
#[utoipa::path(get, path = "/v1/nodes", tag = "nodes", responses((status = 200, body = Vec<NodeInfo>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn nodes(State(app): State<Arc<App>>) -> Result<Json<Vec<NodeInfo>>, Failure> {
    within(DEFAULT_DEADLINE, "the daemon did not answer", app.service.nodes()).await.map(Json)
}

/// Opens a node.
///
/// The token in the answer is needed to use it: `Authorization: Bearer TOKEN`, or `?token=TOKEN`. Unless it persists, the node ends
/// with its last stream, or 60 s after its last use without one.
#[utoipa::path(post, path = "/v1/nodes", tag = "nodes", request_body = OpenNodeRequest, responses((status = 201, body = OpenNodeAnswer), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn open(
    State(app): State<Arc<App>>,
    Body(wanted): Body<OpenNodeRequest>,
) -> Result<(StatusCode, Json<OpenNodeAnswer>), Failure> {
    let key = wanted.key.as_ref().map(Secret::to_key).transpose()?;
    let opening = app.service.open(OpenNode { key, mancon: wanted.mancon });
    let node = within(DEFAULT_DEADLINE, "the node did not open", opening).await?;
    let (addr, token) = (node.addr(), Token::generate());
    let answer = OpenNodeAnswer { addr, token: Secret::new(token.reveal()) };
    app.hosted.insert(node, Some(token), wanted.persist);
    app.sweep();
    Ok((StatusCode::CREATED, Json(answer)))
}

/// One node that the daemon hosts.
#[utoipa::path(get, path = "/v1/nodes/{addr}", tag = "nodes", params(("addr" = String, Path, description = "The node's address")), responses((status = 200, body = NodeInfo), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn node(
    State(app): State<Arc<App>>,
    InPath(addr): InPath<Addr>,
) -> Result<Json<NodeInfo>, Failure> {
    let nodes = within(DEFAULT_DEADLINE, "the daemon did not answer", app.service.nodes()).await?;
    let node = nodes.into_iter().find(|node| node.addr == addr);
    node.map(Json).ok_or_else(|| Failure::new(Code::Unknown, format!("the daemon hosts no node {addr}")))
}

/// Ends a node.
#[utoipa::path(delete, path = "/v1/nodes/{addr}", tag = "nodes", params(("addr" = String, Path, description = "The node's address"), ("token" = Option<String>, Query, description = "The node's token, if no header has it")), responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn close(
    State(app): State<Arc<App>>,
    InPath(addr): InPath<Addr>,
    NodeToken(token): NodeToken,
) -> Result<StatusCode, Failure> {
    app.hosted.get(addr, token.as_deref())?;
    app.hosted.end(addr);
    Ok(StatusCode::NO_CONTENT)
}

/// Sends one message.
///
/// Delivery is best effort, so no answer can promise more than that the message was taken.
#[utoipa::path(post, path = "/v1/nodes/{addr}/messages", tag = "nodes", params(("addr" = String, Path, description = "The sender's address"), ("token" = Option<String>, Query, description = "The node's token, if no header has it")), request_body = SendMessage, responses((status = 202, body = SendAnswer), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn send(
    State(app): State<Arc<App>>,
    InPath(from): InPath<Addr>,
    NodeToken(token): NodeToken,
    Body(message): Body<SendMessage>,
) -> Result<(StatusCode, Json<SendAnswer>), Failure> {
    let node = app.hosted.get(from, token.as_deref())?;
    let payload = message.payload.0;
    if payload.len() > MESSAGE_MAX {
        let text = format!("a message has at most {MESSAGE_MAX} bytes, not {}", payload.len());
        return Err(Failure::new(Code::TooLong, text));
    }
    let request = request(message.mancon, message.deadline_ms)?;
    let sending = node.send(Outgoing { to: message.to, kind: Kind::Message, payload, request });
    let sent = within(request.wait(), "the message was not taken", sending).await?;
    let mancon = sent.mancon;
    let answer = if sent.held {
        let until = OffsetDateTime::now_utc() + request.deadline.unwrap_or(HELD_LIFE);
        let why = "no session with the receiver is up yet, or its window is full";
        let (why, until) = (Some(why.to_owned()), until.format(&Rfc3339).ok());
        SendAnswer { state: SendState::Held, mancon, why, until }
    } else {
        SendAnswer { state: SendState::Sent, mancon, why: None, until: None }
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

/// Messages both ways, as binary frames over a WebSocket.
#[utoipa::path(get, path = "/v1/nodes/{addr}/messages", tag = "nodes", params(("addr" = String, Path, description = "The node's address"), ("token" = Option<String>, Query, description = "The node's token, if no header has it")), responses((status = 101, description = "The stream begins"), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn stream(
    State(app): State<Arc<App>>,
    InPath(addr): InPath<Addr>,
    NodeToken(token): NodeToken,
    place: Option<Extension<Place>>,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Result<Response, Failure> {
    let node = app.hosted.get(addr, token.as_deref())?;
    let upgrade = upgrade.map_err(|error| ApiError::new(Code::BadRequest, error.body_text()))?;
    let lease = app.hosted.lease(&node)?;
    let (stop, counters) = (app.stop(), Arc::clone(&app.counters));
    let upgrade = upgrade.max_message_size(frame::FRAME_MAX).max_frame_size(frame::FRAME_MAX);
    Ok(upgrade.on_upgrade(async move |socket| {
        counters.streams.fetch_add(1, Ordering::Relaxed);
        messages::run(socket, lease.node(), stop).await;
        counters.streams.fetch_sub(1, Ordering::Relaxed);
        drop(place);
    }))
}
