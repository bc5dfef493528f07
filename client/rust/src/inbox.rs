//! What arrived over the WebSocket and waits for the application.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use byway_api::{Incoming, Kind, frame};
use tokio::sync::Notify;

/// Packets that wait; more are dropped, as IP does.
const PACKETS_MAX: usize = 1_024;

/// How much of the window is given back at once.
const CREDIT_STEP: usize = frame::WINDOW_TO_CLIENT / 4;

/// The queues of one node.
#[derive(Default)]
pub(crate) struct Inbox {
    messages: Queue,
    packets: Queue,
    /// Cost of messages taken and not yet told.
    credit: AtomicUsize,
    ended: AtomicBool,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<(VecDeque<Incoming>, usize)>,
    arrived: Notify,
}

impl Inbox {
    /// Takes what one frame brought, under one lock and with one wake-up. False when the daemon sends more than the window
    /// allows, which no daemon of ours does.
    pub(crate) fn put(&self, kind: Kind, arrived: &mut Vec<Incoming>) -> bool {
        if arrived.is_empty() {
            return true;
        }
        let queue = self.queue(kind);
        let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (items, cost) = &mut *waiting;
        for incoming in arrived.drain(..) {
            match kind {
                Kind::Packet if items.len() >= PACKETS_MAX => continue,
                Kind::Message if *cost > 2 * frame::WINDOW_TO_CLIENT => return false,
                _ => {}
            }
            *cost += frame::cost(&incoming.payload);
            items.push_back(incoming);
        }
        drop(waiting);
        queue.arrived.notify_one();
        true
    }

    /// The next payload, also when the node has ended meanwhile; `None` when nothing more will come.
    pub(crate) async fn take(&self, kind: Kind) -> Option<Incoming> {
        // Nearly always something is there, and listening costs more than looking.
        if let Some(incoming) = self.try_take(kind) {
            return Some(incoming);
        }
        let queue = self.queue(kind);
        loop {
            let mut arrived = std::pin::pin!(queue.arrived.notified());
            // Listening begins before looking, so that nothing arrives in between unnoticed.
            arrived.as_mut().enable();
            let ended = self.ended.load(Ordering::Acquire);
            if let Some(incoming) = self.try_take(kind) {
                return Some(incoming);
            }
            if ended {
                return None;
            }
            arrived.await;
        }
    }

    pub(crate) fn try_take(&self, kind: Kind) -> Option<Incoming> {
        let queue = self.queue(kind);
        let mut waiting = queue.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (items, total) = &mut *waiting;
        let incoming = items.pop_front()?;
        let cost = frame::cost(&incoming.payload);
        *total -= cost;
        // One notification is kept at most, so who takes one of several wakes the next reader.
        if !items.is_empty() {
            queue.arrived.notify_one();
        }
        if kind == Kind::Message {
            self.credit.fetch_add(cost, Ordering::Relaxed);
        }
        Some(incoming)
    }

    /// Credit that is worth telling.
    pub(crate) fn credit(&self) -> Option<u32> {
        if self.credit.load(Ordering::Relaxed) < CREDIT_STEP {
            return None;
        }
        let credit = self.credit.swap(0, Ordering::Relaxed);
        u32::try_from(credit).ok().filter(|credit| *credit > 0)
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.messages.arrived.notify_waiters();
        self.packets.arrived.notify_waiters();
    }

    fn queue(&self, kind: Kind) -> &Queue {
        match kind {
            Kind::Message => &self.messages,
            Kind::Packet => &self.packets,
        }
    }
}
