//! What a node has sent and was not told the outcome of: the windows of [`byway_api::frame`], from the client's side.
//!
//! The first message to a receiver waits for its outcome. While the outcomes are good, those that follow do not: they are
//! taken as soon as the window has room, with the level of the last outcome. If one of them is refused after all, the next
//! send to that receiver says so instead of sending.

use std::collections::{HashMap, VecDeque};

use bytes::{Bytes, BytesMut};
use byway_api::frame::{Record, WINDOW_TO_ALL, WINDOW_TO_ONE, cost};
use byway_api::{ApiError, Kind, ManCon, Outgoing, Sent};
use byway_identity::Addr;
use tokio::sync::oneshot;

use crate::client::millis;
use crate::node::ended;

/// Bytes after which a frame is closed, and the next record begins another one.
const FRAME: usize = 256 << 10;

/// Bytes of packets that may wait to be written; more are dropped.
const PACKETS_MAX: usize = 512 << 10;

/// Receivers that are remembered while nothing to them is unanswered.
const IDLE_MAX: usize = 4_096;

#[derive(Default)]
pub(crate) struct Flow {
    receivers: HashMap<Addr, Receiver>,
    unanswered: usize,
    full: VecDeque<Bytes>,
    frame: BytesMut,
    /// Length of the last frame: the next one most likely gets as long, and need not grow to it bit by bit.
    last: usize,
    pub(crate) closing: bool,
    /// Why nothing can be sent any more.
    pub(crate) ended: Option<ApiError>,
}

#[derive(Default)]
struct Receiver {
    pending: VecDeque<Pending>,
    cost: usize,
    /// The level asked for and the last outcome, while outcomes are good.
    good: Option<(Option<ManCon>, Sent)>,
    /// What a send that nobody waited for came to.
    failed: Option<ApiError>,
    packet_failed: Option<ApiError>,
}

struct Pending {
    cost: usize,
    asked: Option<ManCon>,
    outcome: Option<oneshot::Sender<Result<Sent, ApiError>>>,
}

/// What became of an attempt to send.
pub(crate) enum Step {
    /// It is under way, and will be taken.
    Done(Result<Sent, ApiError>),
    /// It is under way; the outcome comes.
    Wait(oneshot::Receiver<Result<Sent, ApiError>>),
    /// The window is full.
    Full,
}

impl Flow {
    pub(crate) fn send(&mut self, outgoing: &Outgoing) -> Step {
        if let Some(error) = &self.ended {
            return Step::Done(Err(error.clone()));
        }
        if self.closing {
            return Step::Done(Err(ended()));
        }
        match outgoing.kind {
            Kind::Message => self.send_message(outgoing),
            Kind::Packet => Step::Done(self.send_packet(outgoing)),
        }
    }

    fn send_message(&mut self, outgoing: &Outgoing) -> Step {
        if self.receivers.len() > IDLE_MAX {
            self.receivers.retain(|_, receiver| !receiver.pending.is_empty());
        }
        let receiver = self.receivers.entry(outgoing.to).or_default();
        if let Some(error) = receiver.failed.take() {
            return Step::Done(Err(error));
        }
        if receiver.cost >= WINDOW_TO_ONE || self.unanswered >= WINDOW_TO_ALL {
            return Step::Full;
        }
        let cost = cost(&outgoing.payload);
        let asked = outgoing.request.mancon;
        let (outcome, step) = match receiver.good {
            Some((same, sent)) if same == asked => (None, Step::Done(Ok(sent))),
            _ => {
                let (tell, wait) = oneshot::channel();
                (Some(tell), Step::Wait(wait))
            }
        };
        receiver.pending.push_back(Pending { cost, asked, outcome });
        receiver.cost += cost;
        self.unanswered += cost;
        self.put(&record(outgoing));
        step
    }

    fn send_packet(&mut self, outgoing: &Outgoing) -> Result<Sent, ApiError> {
        let waiting = self.full.iter().map(Bytes::len).sum::<usize>() + self.frame.len();
        if let Some(receiver) = self.receivers.get_mut(&outgoing.to)
            && let Some(error) = receiver.packet_failed.take()
        {
            return Err(error);
        }
        if waiting < PACKETS_MAX {
            self.put(&record(outgoing));
        }
        Ok(Sent { mancon: outgoing.request.mancon.unwrap_or_default(), held: false })
    }

    /// The `count` oldest messages to `addr` were taken.
    pub(crate) fn taken(&mut self, addr: Addr, count: u32, sent: Sent) {
        let Some(receiver) = self.receivers.get_mut(&addr) else { return };
        for _ in 0..count {
            let Some(pending) = receiver.pending.pop_front() else { return };
            receiver.cost -= pending.cost;
            self.unanswered -= pending.cost;
            receiver.good = (!sent.held).then_some((pending.asked, sent));
            if let Some(outcome) = pending.outcome {
                // Who asked may have given up; the message went all the same.
                let _ = outcome.send(Ok(sent));
            }
        }
    }

    /// The oldest message to `addr`, or some packet, was refused.
    pub(crate) fn refused(&mut self, kind: Kind, addr: Addr, error: ApiError) {
        if kind == Kind::Packet {
            if self.receivers.len() <= IDLE_MAX {
                self.receivers.entry(addr).or_default().packet_failed = Some(error);
            }
            return;
        }
        let Some(receiver) = self.receivers.get_mut(&addr) else { return };
        let Some(pending) = receiver.pending.pop_front() else { return };
        receiver.cost -= pending.cost;
        self.unanswered -= pending.cost;
        receiver.good = None;
        match pending.outcome {
            Some(outcome) => {
                let _ = outcome.send(Err(error));
            }
            None => receiver.failed = Some(error),
        }
    }

    pub(crate) fn put(&mut self, record: &Record) {
        if self.frame.is_empty() {
            self.frame.reserve(self.last);
        }
        record.encode(&mut self.frame);
        if self.frame.len() >= FRAME {
            let frame = self.cut();
            self.full.push_back(frame);
        }
    }

    fn cut(&mut self) -> Bytes {
        self.last = self.frame.len();
        self.frame.split().freeze()
    }

    /// The next frame to write.
    pub(crate) fn next(&mut self) -> Option<Bytes> {
        self.full.pop_front().or_else(|| (!self.frame.is_empty()).then(|| self.cut()))
    }

    /// Nothing more is sent or answered.
    pub(crate) fn end(&mut self, error: ApiError) {
        for (_, receiver) in self.receivers.drain() {
            for outcome in receiver.pending.into_iter().filter_map(|pending| pending.outcome) {
                let _ = outcome.send(Err(error.clone()));
            }
        }
        self.full.clear();
        self.frame.clear();
        self.unanswered = 0;
        self.ended.get_or_insert(error);
    }
}

fn record(outgoing: &Outgoing) -> Record {
    let deadline = outgoing.request.deadline.map_or(0, millis);
    Record::Payload {
        kind: outgoing.kind,
        addr: outgoing.to,
        mancon: outgoing.request.mancon,
        deadline_ms: u32::try_from(deadline).unwrap_or(u32::MAX),
        payload: outgoing.payload.clone(),
    }
}
