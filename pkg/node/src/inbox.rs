//! Payloads that wait for their application, bounded, with news of what was taken.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use byway_api::{ApiError, Code, Incoming};
use byway_identity::Addr;
use byway_network::Plane;
use tokio::sync::Notify;

use crate::flow::cost;

/// Taken messages are reported to the core when they count so much together, or when the queue is empty.
const REPORT: u64 = 64 * 1024;

/// A bounded queue from the driver to one application.
#[derive(Debug)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
    /// Most that may wait, by [`cost`].
    room: u64,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<(Incoming, Plane)>,
    waiting: u64,
    dropped: u64,
    closed: bool,
    taken: HashMap<(Addr, Plane), u64>,
    taken_cost: u64,
}

/// What the application took since the last report, by sender.
pub(crate) type Taken = HashMap<(Addr, Plane), u64>;

impl Inbox {
    pub(crate) fn new(room: u64) -> Self {
        Self { state: Mutex::default(), arrived: Notify::new(), room }
    }

    /// A panic elsewhere leaves a queue that is still whole.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a payload; what finds no room is dropped and counted, and the answer is false.
    pub(crate) fn push(&self, incoming: Incoming, plane: Plane) -> bool {
        let mut state = self.state();
        let cost = cost(incoming.payload.len());
        if state.closed || state.waiting + cost > self.room {
            state.dropped += 1;
            return false;
        }
        state.waiting += cost;
        state.queue.push_back((incoming, plane));
        drop(state);
        self.arrived.notify_one();
        true
    }

    /// Takes the oldest payload, and the report if one is due.
    pub(crate) fn try_take(&self) -> Option<(Incoming, Option<Taken>)> {
        let mut state = self.state();
        let (incoming, plane) = state.queue.pop_front()?;
        let cost = cost(incoming.payload.len());
        state.waiting -= cost;
        *state.taken.entry((incoming.from, plane)).or_default() += cost;
        state.taken_cost += cost;
        let report = (state.taken_cost >= REPORT || state.queue.is_empty()).then(|| {
            state.taken_cost = 0;
            std::mem::take(&mut state.taken)
        });
        Some((incoming, report))
    }

    /// Waits for a payload.
    pub(crate) async fn take(&self) -> Result<(Incoming, Option<Taken>), ApiError> {
        loop {
            let arrived = self.arrived.notified();
            if let Some(taken) = self.try_take() {
                // Others may wait too, and a notification does not count how many payloads came.
                if !self.state().queue.is_empty() {
                    self.arrived.notify_one();
                }
                return Ok(taken);
            }
            if self.state().closed {
                return Err(ApiError::new(Code::Closed, "the node was closed"));
            }
            arrived.await;
        }
    }

    /// Ends waiting calls; what is in the queue can still be taken.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_waiters();
        self.arrived.notify_one();
    }

    /// Payloads that wait, and how many were dropped so far.
    pub(crate) fn load(&self) -> (usize, u64) {
        let state = self.state();
        (state.queue.len(), state.dropped)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn incoming(length: usize) -> Incoming {
        Incoming { from: Addr::NOBODY, payload: Bytes::from(vec![0; length]) }
    }

    #[test]
    fn an_inbox_that_nobody_reads_is_bounded_and_counts_what_it_drops() {
        let inbox = Inbox::new(1024 * 1024);
        let taken = (0..10_000).filter(|_| inbox.push(incoming(1_280), Plane::Any)).count();
        assert_eq!(taken as u64, 1024 * 1024 / cost(1_280));
        assert_eq!(inbox.load(), (taken, 10_000 - taken as u64));
    }

    #[test]
    fn what_is_taken_is_reported_in_full() {
        let inbox = Inbox::new(1024 * 1024);
        for _ in 0..200 {
            assert!(inbox.push(incoming(1_280), Plane::Any));
        }
        let reported: u64 = std::iter::from_fn(|| inbox.try_take())
            .filter_map(|(_, report)| report)
            .flat_map(Taken::into_values)
            .sum();
        assert_eq!(reported, 200 * cost(1_280));
    }

    #[tokio::test]
    async fn closing_ends_every_waiting_call() {
        let inbox = std::sync::Arc::new(Inbox::new(1024));
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                let inbox = inbox.clone();
                tokio::spawn(async move { inbox.take().await.map(|_| ()).map_err(|error| error.code) })
            })
            .collect();
        tokio::task::yield_now().await;
        inbox.close();
        for task in waiting {
            assert_eq!(task.await.expect("the task ends"), Err(Code::Closed));
        }
    }
}
