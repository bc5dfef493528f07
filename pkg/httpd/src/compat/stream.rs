//! The raw stream after `CONNECT`: one task, whose only timer ticks once a second.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_api::exchange::KeyText;
use byway_api::inet256::{
    FindQuestion, FindReply, Found, Frame, Key, KeyQuestion, KeyReply, RequestId, decode,
};
use byway_api::{ApiError, BoxFuture, Code, DEFAULT_DEADLINE, Incoming, Kind, Node, Outgoing, Request};
use byway_identity::{Addr, Prefix};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, MissedTickBehavior};

use crate::app::Stop;
use crate::counters::Counters;
use crate::lanes::{Lanes, Outcome};

/// How often we give a sign of life, and look for the client's.
const TICK: Duration = Duration::from_secs(1);

/// How long a client may be silent.
const SILENCE: Duration = Duration::from_secs(10);

/// Cost of messages that wait beyond which no more are read: the client feels it, as it should.
const WAITING_MAX: usize = 256 << 10;

/// How long a receiver that takes nothing may hold up a client's other messages. The protocol has no credit and no refusal, so
/// that then what is for this receiver is dropped and counted, until it takes something again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes that may wait for a client that does not read.
const UNREAD_MAX: usize = 256 << 10;

/// Room for one read. Clients write message by message, so much of what they sent is taken at once.
const READ: usize = 64 << 10;

/// Questions that a client may have open.
const QUESTIONS_MAX: usize = 64;

/// Moves frames between `node` and the client until one of the two ends.
pub(super) async fn run(
    socket: impl AsyncRead + AsyncWrite,
    node: &dyn Node,
    counters: &Counters,
    mut stop: Stop,
) {
    let (mut reader, mut writer) = tokio::io::split(socket);
    let mut lanes = Lanes::new(node);
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut questions: FuturesUnordered<BoxFuture<'_, Frame>> = FuturesUnordered::new();
    let (mut read, mut unwritten) = (BytesMut::new(), BytesMut::new());
    let mut messages = node.recv(Kind::Message);
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        let lost = outcomes.drain(..).filter(|outcome| outcome.result.is_err()).count();
        counters.unsent.fetch_add(lost as u64, Ordering::Relaxed);
        let listening = lanes.queued() < WAITING_MAX && unwritten.len() < UNREAD_MAX;
        read.reserve(READ);
        tokio::select! {
            written = writer.write_buf(&mut unwritten), if !unwritten.is_empty() => match written {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            },
            count = reader.read_buf(&mut read), if listening => {
                let Ok(1..) = count else { return };
                heard = Instant::now();
                if let Err(error) = take(&mut read, node, &mut lanes, &mut questions, &mut outcomes, &mut unwritten).await {
                    tracing::debug!(%error, "an INET256 client broke the protocol");
                    farewell(&mut writer, unwritten, &error).await;
                    return;
                }
            }
            () = lanes.next(&mut outcomes) => {}
            Some(answer) = questions.next() => answer.encode(&mut unwritten),
            message = &mut messages, if unwritten.len() < UNREAD_MAX => {
                let Ok(message) = message else { return };
                put(message, &mut unwritten);
                while unwritten.len() < UNREAD_MAX && let Some(message) = node.try_recv(Kind::Message) {
                    put(message, &mut unwritten);
                }
                messages = node.recv(Kind::Message);
            }
            _ = ticks.tick() => {
                if unwritten.len() < UNREAD_MAX {
                    Frame::Keep.encode(&mut unwritten);
                }
                if !listening {
                    let dropped = lanes.give_up(PATIENCE);
                    counters.unsent.fetch_add(dropped as u64, Ordering::Relaxed);
                    // It may have spoken, but we did not listen.
                    heard = Instant::now();
                } else if heard.elapsed() >= SILENCE {
                    tracing::debug!("an INET256 client was silent for too long");
                    return;
                }
            }
            () = stop.wait() => return,
        }
    }
}

/// Does what the frames that are whole say.
async fn take<'n>(
    read: &mut BytesMut,
    node: &'n dyn Node,
    lanes: &mut Lanes<'n>,
    questions: &mut FuturesUnordered<BoxFuture<'n, Frame>>,
    outcomes: &mut Vec<Outcome>,
    unwritten: &mut BytesMut,
) -> Result<(), byway_api::inet256::FrameError> {
    while let Some(frame) = decode(read)? {
        let full = questions.len() >= QUESTIONS_MAX;
        match frame {
            Frame::Data { addr: to, payload } => {
                let outgoing = Outgoing { to, kind: Kind::Message, payload, request: Request::default() };
                outcomes.extend(lanes.send(outgoing).await);
            }
            Frame::Keep => {}
            Frame::Find { id, .. } if full => found(id, Err(too_many())).encode(unwritten),
            Frame::PublicKey { id, .. } if full => looked_up(id, Err(too_many())).encode(unwritten),
            Frame::Find { id, body } => {
                questions.push(Box::pin(async move { found(id, find(node, &body).await) }));
            }
            Frame::PublicKey { id, body } => {
                questions.push(Box::pin(async move { looked_up(id, lookup(node, &body).await) }));
            }
        }
    }
    Ok(())
}

async fn find(node: &dyn Node, body: &Bytes) -> Result<Addr, String> {
    let question: FindQuestion = serde_json::from_slice(body).map_err(|error| bad_json(&error))?;
    let prefix = u16::try_from(question.nbits).ok().and_then(|bits| Prefix::new(&question.prefix.0, bits));
    // Without any bit every node would do, and without a byte none does: theirs answers so, and programs count on it.
    let Some(prefix) = prefix.filter(|_| !question.prefix.0.is_empty()) else {
        return Err(NO_ADDRESS.into());
    };
    bounded(node.find(prefix, asking()), NO_ADDRESS).await
}

async fn lookup(node: &dyn Node, body: &Bytes) -> Result<KeyText, String> {
    let question: KeyQuestion = serde_json::from_slice(body).map_err(|error| bad_json(&error))?;
    bounded(node.lookup(question.target, asking()), NO_KEY).await.map(KeyText)
}

/// The texts that INET256's clients know.
const NO_ADDRESS: &str = "no address with prefix";
const NO_KEY: &str = "public key not found";

/// A little less than the time within which we promise to answer.
fn asking() -> Request {
    Request { deadline: Some(DEFAULT_DEADLINE - TICK), ..Request::default() }
}

async fn bounded<T>(call: BoxFuture<'_, Result<T, ApiError>>, unknown: &str) -> Result<T, String> {
    match tokio::time::timeout(DEFAULT_DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if !matches!(error.code, Code::Unknown | Code::NoWay) => Err(error.detail),
        Ok(Err(_)) | Err(_) => Err(unknown.into()),
    }
}

fn found(id: RequestId, result: Result<Addr, String>) -> Frame {
    let (addr, error) = split(result);
    let ok = Found { addr: addr.unwrap_or(Addr::NOBODY) };
    Frame::Find { id, body: json(&FindReply { ok, error: error.map(Into::into) }) }
}

fn looked_up(id: RequestId, result: Result<KeyText, String>) -> Frame {
    let (public_key, error) = split(result);
    Frame::PublicKey { id, body: json(&KeyReply { ok: Key { public_key }, error: error.map(Into::into) }) }
}

fn split<T, E>(result: Result<T, E>) -> (Option<T>, Option<E>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error)),
    }
}

fn json(reply: &impl Serialize) -> Bytes {
    serde_json::to_vec(reply).expect("a reply has only texts").into()
}

fn bad_json(error: &serde_json::Error) -> String {
    format!("the body is not the JSON that is wanted here: {error}")
}

fn too_many() -> String {
    format!("{QUESTIONS_MAX} questions are open already")
}

fn put(message: Incoming, unwritten: &mut BytesMut) {
    Frame::Data { addr: message.from, payload: message.payload }.encode(unwritten);
}

/// Says why, in the only form that carries a text, with a request id that answers nothing; then the socket is closed.
async fn farewell(
    writer: &mut (impl AsyncWrite + Unpin),
    mut unwritten: BytesMut,
    error: &impl std::fmt::Display,
) {
    looked_up([0; 16], Err(error.to_string())).encode(&mut unwritten);
    let last = async {
        writer.write_all(&unwritten).await?;
        writer.shutdown().await
    };
    // A client that does not read will not learn why; it is not waited for.
    let _ = tokio::time::timeout(TICK, last).await;
}
