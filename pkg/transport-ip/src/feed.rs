//! What threads that read a socket hand to the transport that once did.
//!
//! The queue is bounded in events and in bytes: what comes while it is full is dropped and counted, as the system's own
//! queue would. A batch takes the lock once and wakes the reader at most once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use byway_link::Event;

/// The side that fills. When the last of its clones is gone, the transport reads its socket itself again.
#[derive(Debug)]
pub struct Feed {
    queue: Arc<Queue>,
}

/// The side that the transport reads.
#[derive(Debug)]
pub(crate) struct Fed {
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    bytes: usize,
    feeds: usize,
    /// The reader, while it waits.
    waker: Option<Waker>,
}

/// A feed, and what comes out of it.
pub(crate) fn feed() -> (Feed, Fed) {
    let queue = Arc::new(Queue::default());
    queue.lock().feeds = 1;
    (Feed { queue: Arc::clone(&queue) }, Fed { queue })
}

impl Feed {
    /// Most events that wait.
    pub const EVENTS: usize = 4_096;
    /// Most bytes that wait.
    pub const BYTES: usize = 4 << 20;

    /// Hands over all events of `batch`, in order; how many were dropped because the queue is full.
    pub fn push(&self, batch: impl IntoIterator<Item = Event>) -> usize {
        let mut dropped = 0;
        let mut state = self.queue.lock();
        let before = state.events.len();
        for event in batch {
            let length = length(&event);
            if state.events.len() >= Self::EVENTS || state.bytes + length > Self::BYTES {
                dropped += 1;
                continue;
            }
            state.bytes += length;
            state.events.push_back(event);
        }
        let waker = if state.events.len() > before { state.waker.take() } else { None };
        // Woken after the lock is given back, which the reader takes first thing.
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
        dropped
    }
}

impl Clone for Feed {
    fn clone(&self) -> Self {
        self.queue.lock().feeds += 1;
        Self { queue: Arc::clone(&self.queue) }
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.feeds -= 1;
        let waker = if state.feeds == 0 { state.waker.take() } else { None };
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Fed {
    /// Appends what waits, at most so many events that others get their turn. Ready with `false`: nothing more will come.
    pub(crate) fn poll(&self, cx: &mut Context<'_>, batch: &mut Vec<Event>) -> Poll<bool> {
        let mut state = self.queue.lock();
        if !state.events.is_empty() {
            let count = state.events.len().min(Self::TURN);
            let before = batch.len();
            batch.extend(state.events.drain(..count));
            state.bytes -= batch[before..].iter().map(length).sum::<usize>();
            return Poll::Ready(true);
        }
        if state.feeds == 0 {
            return Poll::Ready(false);
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    const TURN: usize = 512;
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes that an event keeps.
fn length(event: &Event) -> usize {
    match event {
        Event::Frame { frame, .. } => frame.len(),
        Event::Unsealed { payload, .. } => payload.len(),
        _ => 0,
    }
}
