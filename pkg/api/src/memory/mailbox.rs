//! What arrived at a node and waits for its application.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use byway_identity::{Addr, PublicKey};
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;

use super::queue;
use crate::{Incoming, Kind};

/// The queues of one node: bounded, so that senders wait for a slow application, and nothing grows.
pub(super) struct Mailbox {
    addr: Addr,
    public_key: PublicKey,
    messages: Queue,
    packets: Queue,
    closed: AtomicBool,
    dropped: AtomicU64,
}

/// Why a payload was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full,
    Closed,
}

struct Queue {
    waiting: Mutex<VecDeque<Incoming>>,
    arrived: Notify,
    room: Semaphore,
}

impl Mailbox {
    pub(super) fn new(public_key: PublicKey) -> Self {
        Self {
            addr: public_key.addr(),
            public_key,
            messages: Queue::new(queue(Kind::Message)),
            packets: Queue::new(queue(Kind::Packet)),
            closed: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn addr(&self) -> Addr {
        self.addr
    }

    pub(super) fn public_key(&self) -> PublicKey {
        self.public_key
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn queued(&self) -> usize {
        self.messages.len() + self.packets.len()
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Puts a message in, waiting for room until `deadline`.
    ///
    /// No timer is set as long as there is room.
    pub(super) async fn put(&self, incoming: Incoming, deadline: Instant) -> Result<(), Refusal> {
        let room = match self.messages.room.try_acquire() {
            Ok(room) => room,
            Err(tokio::sync::TryAcquireError::Closed) => return Err(Refusal::Closed),
            Err(tokio::sync::TryAcquireError::NoPermits) => {
                match tokio::time::timeout_at(deadline, self.messages.room.acquire()).await {
                    Ok(Ok(room)) => room,
                    Ok(Err(_)) => return Err(Refusal::Closed),
                    Err(_) => return Err(Refusal::Full),
                }
            }
        };
        room.forget();
        self.messages.push(incoming);
        Ok(())
    }

    /// Puts a packet in, or counts it as dropped.
    pub(super) fn put_packet(&self, incoming: Incoming) {
        match self.packets.room.try_acquire() {
            Ok(room) => {
                room.forget();
                self.packets.push(incoming);
            }
            Err(_) => {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The next payload; `None` when the node has ended.
    pub(super) async fn take(&self, kind: Kind) -> Option<Incoming> {
        let queue = self.queue(kind);
        loop {
            let mut arrived = std::pin::pin!(queue.arrived.notified());
            // Listening begins before looking, so that nothing arrives in between unnoticed.
            arrived.as_mut().enable();
            if self.is_closed() {
                return None;
            }
            if let Some(incoming) = queue.pop() {
                return Some(incoming);
            }
            arrived.await;
        }
    }

    pub(super) fn try_take(&self, kind: Kind) -> Option<Incoming> {
        self.queue(kind).pop()
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for queue in [&self.messages, &self.packets] {
            queue.room.close();
            queue.arrived.notify_waiters();
            queue.waiting.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn queue(&self, kind: Kind) -> &Queue {
        match kind {
            Kind::Message => &self.messages,
            Kind::Packet => &self.packets,
        }
    }
}

impl Queue {
    fn new(room: usize) -> Self {
        Self { waiting: Mutex::default(), arrived: Notify::new(), room: Semaphore::new(room) }
    }

    fn len(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn push(&self, incoming: Incoming) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push_back(incoming);
        self.arrived.notify_one();
    }

    fn pop(&self) -> Option<Incoming> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let incoming = waiting.pop_front()?;
        // One notification is kept at most, so who takes one of several wakes the next reader.
        if !waiting.is_empty() {
            self.arrived.notify_one();
        }
        drop(waiting);
        self.room.add_permits(1);
        Some(incoming)
    }
}
