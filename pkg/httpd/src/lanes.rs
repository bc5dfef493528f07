//! Sending to many receivers from one stream, so that a slow one holds up only what is for it.
//!
//! Messages to a receiver leave one after the other, in order; those to different receivers do not wait for each other.
//! While nothing waits, which is nearly always, a message costs no task, no timer and no queue.

use std::collections::{HashMap, VecDeque};
use std::task::Poll;
use std::time::Duration;

use byway_api::{ApiError, BoxFuture, Code, Kind, Node, Outgoing, Sent, frame};
use byway_identity::Addr;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

/// What became of a payload.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) to: Addr,
    pub(crate) kind: Kind,
    pub(crate) result: Result<Sent, ApiError>,
}

pub(crate) struct Lanes<'n> {
    node: &'n dyn Node,
    waiting: FuturesUnordered<BoxFuture<'n, Outcome>>,
    lanes: HashMap<Addr, Lane>,
    queued: usize,
}

/// A message that waits, and what follows it.
struct Lane {
    front: usize,
    queue: VecDeque<(Instant, Outgoing)>,
    cost: usize,
    since: Instant,
    given_up: bool,
}

/// Packets that may wait at the same time; more are dropped, as IP does.
const PACKETS_MAX: usize = 256;

impl<'n> Lanes<'n> {
    pub(crate) fn new(node: &'n dyn Node) -> Self {
        Self { node, waiting: FuturesUnordered::new(), lanes: HashMap::new(), queued: 0 }
    }

    /// Cost of all messages that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Cost of the messages that wait for `to`.
    pub(crate) fn queued_to(&self, to: &Addr) -> usize {
        self.lanes.get(to).map_or(0, |lane| lane.front + lane.cost)
    }

    /// Sends `outgoing`, at once if nothing to the same receiver waits; then its outcome may be known at once.
    pub(crate) async fn send(&mut self, outgoing: Outgoing) -> Option<Outcome> {
        if outgoing.kind == Kind::Message
            && let Some(lane) = self.lanes.get_mut(&outgoing.to)
        {
            if lane.given_up {
                return Some(busy(&outgoing));
            }
            let cost = frame::cost(&outgoing.payload);
            lane.cost += cost;
            self.queued += cost;
            lane.queue.push_back((Instant::now(), outgoing));
            return None;
        }
        self.start(outgoing).await
    }

    /// The outcome of something that waited, then those of what could follow it. Never ready while nothing waits.
    pub(crate) async fn next(&mut self, outcomes: &mut Vec<Outcome>) {
        let Some(outcome) = self.waiting.next().await else {
            return std::future::pending().await;
        };
        // Nothing below waits, so that dropping this future loses no outcome.
        let (to, kind) = (outcome.to, outcome.kind);
        outcomes.push(outcome);
        if kind == Kind::Message {
            self.follow(to, outcomes).await;
        }
    }

    /// Refuses what waits behind a message that has been waiting longer than `patience`, now and until it is through.
    pub(crate) fn give_up(&mut self, patience: Duration) -> usize {
        let mut dropped = 0;
        for lane in self.lanes.values_mut().filter(|lane| lane.since.elapsed() > patience) {
            dropped += lane.queue.len();
            self.queued -= lane.cost;
            lane.cost = 0;
            lane.queue.clear();
            lane.given_up = true;
        }
        dropped
    }

    async fn follow(&mut self, to: Addr, outcomes: &mut Vec<Outcome>) {
        let Some(mut lane) = self.lanes.remove(&to) else {
            return;
        };
        self.queued -= lane.front;
        while let Some((asked, mut outgoing)) = lane.queue.pop_front() {
            let cost = frame::cost(&outgoing.payload);
            lane.cost -= cost;
            self.queued -= cost;
            // The time that it stood here is part of what its caller is ready to wait.
            let left = outgoing.request.wait().saturating_sub(asked.elapsed());
            if left.is_zero() {
                outcomes.push(busy(&outgoing));
                continue;
            }
            outgoing.request.deadline = Some(left);
            match self.start(outgoing).await {
                Some(outcome) => outcomes.push(outcome),
                None => {
                    // It waits again, and made its own lane, in which the others follow.
                    let Lane { queue, cost, .. } = lane;
                    if let Some(lane) = self.lanes.get_mut(&to) {
                        (lane.queue, lane.cost) = (queue, cost);
                    }
                    return;
                }
            }
        }
    }

    /// Starts to send, and waits for nothing.
    async fn start(&mut self, outgoing: Outgoing) -> Option<Outcome> {
        let (to, kind, front) = (outgoing.to, outgoing.kind, frame::cost(&outgoing.payload));
        let mut sending = self.node.send(outgoing);
        if let Poll::Ready(result) = std::future::poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx))).await {
            return Some(Outcome { to, kind, result });
        }
        match kind {
            Kind::Packet if self.waiting.len() >= PACKETS_MAX => return None,
            Kind::Packet => {}
            Kind::Message => {
                let lane =
                    Lane { front, queue: VecDeque::new(), cost: 0, since: Instant::now(), given_up: false };
                self.queued += front;
                self.lanes.insert(to, lane);
            }
        }
        self.waiting.push(Box::pin(async move { Outcome { to, kind, result: sending.await } }));
        None
    }
}

fn busy(outgoing: &Outgoing) -> Outcome {
    let error = ApiError::new(Code::Busy, format!("messages to {} wait too long already", outgoing.to));
    Outcome { to: outgoing.to, kind: outgoing.kind, result: Err(error) }
}

#[cfg(test)]
mod tests;
