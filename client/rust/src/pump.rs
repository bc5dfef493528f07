//! The task behind a node: moves frames between the WebSocket and what the handles share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::frame::{FRAME_MAX, Record, Records};
use byway_api::{ApiError, Code, Incoming, Kind, Sent};
use byway_identity::Addr;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::header;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::client::Client;
use crate::endpoint::Connection;
use crate::http::refused;
use crate::node::{Shared, ended};

/// How long a daemon may take to begin a stream, and to end one.
const PATIENCE: Duration = Duration::from_secs(10);
const FAREWELL: Duration = Duration::from_secs(1);

/// Opens the WebSocket of `addr` and starts the task, which ends with the node.
pub(crate) async fn start(
    client: &Client,
    addr: Addr,
    token: &str,
    shared: Arc<Shared>,
) -> Result<(), ApiError> {
    let opening = tokio::time::timeout(PATIENCE, open(client, addr, token));
    let socket = opening.await.map_err(|_| {
        ApiError::new(Code::NoWay, format!("the daemon at {} did not begin the stream", client.endpoint()))
    })??;
    let streams = client.streams();
    streams.send_modify(|open| *open += 1);
    tokio::spawn(async move {
        let error = run(socket, &shared).await;
        shared.flow().end(error);
        shared.inbox.end();
        shared.room.notify_waiters();
        streams.send_modify(|open| *open -= 1);
    });
    Ok(())
}

async fn open(client: &Client, addr: Addr, token: &str) -> Result<WebSocketStream<Connection>, ApiError> {
    let bad = |error: &dyn std::fmt::Display| ApiError::new(Code::BadRequest, format!("no stream: {error}"));
    // The header holds what the listener asks for, so the node's token gives way to it.
    let (bearer, query) = match client.token() {
        Some(listener) => (listener, format!("?token={token}")),
        None => (token, String::new()),
    };
    let url = format!("ws://{}/v1/nodes/{addr}/messages{query}", client.endpoint().host());
    let mut request = url.into_client_request().map_err(|error| bad(&error))?;
    let bearer = format!("Bearer {bearer}").parse().map_err(|error| bad(&error))?;
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    let config = WebSocketConfig::default().max_message_size(Some(FRAME_MAX)).max_frame_size(Some(FRAME_MAX));
    let stream = client.endpoint().open().await?;
    match tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(socket),
        Err(Error::Http(response)) => {
            let (parts, body) = response.into_parts();
            Err(refused(parts.status, &body.unwrap_or_default()))
        }
        Err(error) => Err(ApiError::new(Code::Closed, format!("the stream did not begin: {error}"))),
    }
}

/// Moves frames until one of both sides ends, and says why.
async fn run(socket: WebSocketStream<Connection>, shared: &Shared) -> ApiError {
    let (mut sink, mut source) = socket.split();
    let mut writing = false;
    loop {
        if !writing {
            let (frame, closing) = {
                let mut flow = shared.flow();
                (flow.next(), flow.closing)
            };
            match frame {
                // Ready at once, as the one before it has left.
                Some(frame) => match sink.feed(Message::Binary(frame)).await {
                    Ok(()) => writing = true,
                    Err(error) => return broken(&error),
                },
                None if closing => {
                    // The daemon answers when it has read all that came before.
                    let _ = tokio::time::timeout(FAREWELL, async {
                        sink.send(Message::Close(None)).await?;
                        while source.next().await.transpose()?.is_some() {}
                        Ok::<_, Error>(())
                    })
                    .await;
                    return ended();
                }
                None => {}
            }
        }
        tokio::select! {
            flushed = sink.flush(), if writing => match flushed {
                Ok(()) => writing = false,
                Err(error) => return broken(&error),
            },
            read = source.next() => match read {
                Some(Ok(Message::Binary(frame))) => {
                    if let Err(error) = take(frame, shared) {
                        return error;
                    }
                }
                Some(Ok(Message::Close(Some(close)))) if !close.reason.is_empty() => {
                    return ApiError::new(Code::Closed, close.reason.to_string());
                }
                Some(Ok(Message::Close(_))) | None => return ended(),
                Some(Ok(_)) => {}
                Some(Err(error)) => return broken(&error),
            },
            () = shared.wanted.notified(), if !writing => {}
        }
    }
}

/// Does what the records of a frame say.
fn take(frame: Bytes, shared: &Shared) -> Result<(), ApiError> {
    let wrong = |why: &dyn std::fmt::Display| {
        ApiError::new(Code::Internal, format!("the daemon broke the protocol: {why}"))
    };
    let (mut answered, mut messages, mut packets) = (false, Vec::new(), Vec::new());
    let mut ended = Ok(());
    for record in Records::new(frame) {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                // What came before it is whole.
                ended = Err(wrong(&error));
                break;
            }
        };
        match record {
            Record::Payload { kind: Kind::Message, addr: from, payload, .. } => {
                messages.push(Incoming { from, payload });
            }
            Record::Payload { kind: Kind::Packet, addr: from, payload, .. } => {
                packets.push(Incoming { from, payload });
            }
            Record::Taken { addr, mancon, held, count } => {
                shared.flow().taken(addr, count, Sent { mancon, held });
                answered = true;
            }
            Record::Error { kind, addr, error } => {
                shared.flow().refused(kind, addr, error);
                answered = true;
            }
            Record::Credit { .. } => {
                ended = Err(wrong(&"only clients grant credit"));
                break;
            }
        }
    }
    let fits = shared.inbox.put(Kind::Message, &mut messages) && shared.inbox.put(Kind::Packet, &mut packets);
    if answered {
        shared.room.notify_waiters();
    }
    ended?;
    if fits { Ok(()) } else { Err(wrong(&"it sent more than the window allows")) }
}

fn broken(error: &Error) -> ApiError {
    tracing::debug!(%error, "the stream to the daemon broke");
    ApiError::new(Code::Closed, "the connection to the daemon ended; is it still running? See `byway status`")
}
