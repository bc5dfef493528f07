//! The WebSocket of a node: batches of records both ways, one task, no timers.

use std::collections::VecDeque;

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use bytes::{Bytes, BytesMut};
use byway_api::frame::{FRAME_MAX, Record, Records, WINDOW_TO_ALL, WINDOW_TO_CLIENT, WINDOW_TO_ONE, cost};
use byway_api::{ApiError, Code, Incoming, Kind, MESSAGE_MAX, Node, Outgoing, Request};
use futures_util::{SinkExt as _, StreamExt as _};

use crate::app::Stop;
use crate::lanes::{Lanes, Outcome};

/// Most messages, and bytes of them, that one frame gathers.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// Bytes of outcomes that may wait for a client that does not read; beyond them it is not read either.
const UNREAD_MAX: usize = 256 << 10;

const _: () = assert!(BATCH_BYTES + MESSAGE_MAX + 4096 < FRAME_MAX);

/// Why a stream ends from our side.
struct End {
    code: u16,
    reason: String,
}

/// Moves messages between `node` and the client until one of the two ends.
pub(super) async fn run(socket: WebSocket, node: &dyn Node, stop: Stop) {
    let (mut sink, source) = socket.split();
    if let Some(End { code, reason }) = exchange(&mut sink, source, node, stop).await {
        let close = Message::Close(Some(CloseFrame { code, reason: reason.into() }));
        // A client that does not read will not learn why; it is not waited for.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), sink.send(close)).await;
    }
}

async fn exchange(
    sink: &mut (impl futures_util::Sink<Message> + Unpin),
    mut source: impl futures_util::Stream<Item = Result<Message, axum::Error>> + Unpin,
    node: &dyn Node,
    mut stop: Stop,
) -> Option<End> {
    let mut lanes = Lanes::new(node);
    let mut outcomes = Vec::new();
    let mut writer = Writer::default();
    let mut writing = false;
    let mut messages = node.recv(Kind::Message);
    let mut packets = node.recv(Kind::Packet);
    loop {
        writer.outcomes(&mut outcomes);
        if !writing && let Some(frame) = writer.next() {
            // Ready at once, as the one before it has left.
            sink.feed(Message::Binary(frame)).await.ok()?;
            writing = true;
        }
        tokio::select! {
            flushed = sink.flush(), if writing => {
                flushed.ok()?;
                writing = false;
            }
            () = lanes.next(&mut outcomes) => {}
            read = source.next(), if writer.waiting() < UNREAD_MAX => match read {
                Some(Ok(Message::Binary(frame))) => {
                    if let Err(end) = take(frame, &mut lanes, &mut outcomes, &mut writer).await {
                        return Some(end);
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Text(_))) => {
                    return Some(End::new(close_code::UNSUPPORTED, "frames are binary"));
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            },
            message = &mut messages, if !writing && writer.has_window() => {
                let Ok(message) = message else { return Some(End::node()) };
                writer.messages(message, node);
                messages = node.recv(Kind::Message);
            }
            packet = &mut packets, if !writing => {
                let Ok(packet) = packet else { return Some(End::node()) };
                writer.packets(packet, node);
                packets = node.recv(Kind::Packet);
            }
            () = stop.wait() => return Some(End::new(close_code::AWAY, "the daemon is stopping")),
        }
    }
}

/// Does what the records of a frame say.
async fn take(
    frame: Bytes,
    lanes: &mut Lanes<'_>,
    outcomes: &mut Vec<Outcome>,
    writer: &mut Writer,
) -> Result<(), End> {
    for record in Records::new(frame) {
        match record {
            Ok(Record::Payload { kind, addr, mancon, deadline_ms, payload }) => {
                let deadline =
                    (deadline_ms > 0).then(|| std::time::Duration::from_millis(deadline_ms.into()));
                let request = Request { mancon, deadline };
                if kind == Kind::Message
                    && (lanes.queued_to(&addr) > WINDOW_TO_ONE + MESSAGE_MAX
                        || lanes.queued() > WINDOW_TO_ALL + MESSAGE_MAX)
                {
                    let error =
                        ApiError::new(Code::Busy, "more messages than the window allows wait already");
                    outcomes.push(Outcome { to: addr, kind, result: Err(error) });
                    continue;
                }
                outcomes.extend(lanes.send(Outgoing { to: addr, kind, payload, request }).await);
            }
            Ok(Record::Credit { cost }) => writer.credit(cost),
            Ok(Record::Error { .. } | Record::Taken { .. }) => {
                return Err(End::new(close_code::PROTOCOL, "clients send messages, packets and credit only"));
            }
            Err(error) => return Err(End::new(close_code::PROTOCOL, error.to_string())),
        }
    }
    Ok(())
}

impl End {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        let mut reason = reason.into();
        // A control frame has 125 bytes, two of which are the code.
        reason.truncate(reason.floor_char_boundary(120));
        Self { code, reason }
    }

    fn node() -> Self {
        Self::new(close_code::AWAY, "the node has ended")
    }
}

/// Gathers records into frames.
#[derive(Default)]
struct Writer {
    /// Frames that are as long as they should be.
    full: VecDeque<Bytes>,
    frame: BytesMut,
    /// Length of the last frame: the next one most likely gets as long, and need not grow to it bit by bit.
    last: usize,
    /// Cost of the messages that the application has not taken.
    unread: usize,
}

impl Writer {
    fn has_window(&self) -> bool {
        self.unread < WINDOW_TO_CLIENT
    }

    fn credit(&mut self, cost: u32) {
        // One that grants more than it was sent gains nothing by it.
        self.unread = self.unread.saturating_sub(cost as usize);
    }

    /// Bytes that wait to be written.
    fn waiting(&self) -> usize {
        self.full.iter().map(Bytes::len).sum::<usize>() + self.frame.len()
    }

    fn next(&mut self) -> Option<Bytes> {
        self.full.pop_front().or_else(|| (!self.frame.is_empty()).then(|| self.cut()))
    }

    fn put(&mut self, record: &Record) {
        if self.frame.is_empty() {
            self.frame.reserve(self.last);
        }
        record.encode(&mut self.frame);
        if self.frame.len() >= BATCH_BYTES {
            let frame = self.cut();
            self.full.push_back(frame);
        }
    }

    fn cut(&mut self) -> Bytes {
        self.last = self.frame.len();
        self.frame.split().freeze()
    }

    /// The first message, and what else is there already.
    fn messages(&mut self, first: Incoming, node: &dyn Node) {
        let (mut next, mut bytes) = (Some(first), 0);
        for _ in 0..BATCH {
            let Some(message) = next.take() else { return };
            bytes += message.payload.len();
            self.unread += cost(&message.payload);
            self.payload(Kind::Message, message);
            if bytes < BATCH_BYTES && self.has_window() {
                next = node.try_recv(Kind::Message);
            }
        }
        // Taken out already, so it goes along.
        if let Some(message) = next {
            self.unread += cost(&message.payload);
            self.payload(Kind::Message, message);
        }
    }

    fn packets(&mut self, first: Incoming, node: &dyn Node) {
        let (mut next, mut bytes) = (Some(first), 0);
        while let Some(packet) = next {
            bytes += packet.payload.len();
            self.payload(Kind::Packet, packet);
            next = if bytes < BATCH_BYTES { node.try_recv(Kind::Packet) } else { None };
        }
    }

    fn payload(&mut self, kind: Kind, incoming: Incoming) {
        let Incoming { from: addr, payload } = incoming;
        self.put(&Record::Payload { kind, addr, mancon: None, deadline_ms: 0, payload });
    }

    /// Tells what became of messages; equal neighbours become one record.
    fn outcomes(&mut self, outcomes: &mut Vec<Outcome>) {
        let mut last: Option<Record> = None;
        for Outcome { to: addr, kind, result } in outcomes.drain(..) {
            let record = match (result, &mut last) {
                (Ok(_), _) if kind == Kind::Packet => continue,
                (Ok(sent), Some(Record::Taken { addr: same, mancon, held, count }))
                    if (*same, *mancon, *held) == (addr, sent.mancon, sent.held) =>
                {
                    *count += 1;
                    continue;
                }
                (Ok(sent), _) => Record::Taken { addr, mancon: sent.mancon, held: sent.held, count: 1 },
                (Err(error), _) => Record::Error { kind, addr, error },
            };
            if let Some(record) = last.replace(record) {
                self.put(&record);
            }
        }
        if let Some(record) = last {
            self.put(&record);
        }
    }
}
