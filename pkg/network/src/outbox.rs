//! What a routing protocol wants done.

use bytes::Bytes;

use crate::{Found, Hop, PathId, Plane, To, Unroutable};

/// One effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Send `frame` to the neighbour `hop`.
    Send {
        /// The neighbour, and the family of links to use.
        hop: Hop,
        /// The frame.
        frame: Bytes,
    },
    /// Hand `payload` to the local node.
    Deliver {
        /// The plane that it came by.
        plane: Plane,
        /// The payload.
        payload: Bytes,
        /// The way back, if the protocol knows one.
        back: Option<PathId>,
    },
    /// An answer to [`Network::find`](crate::Network::find) or [`Network::sample`](crate::Network::sample).
    Found(Found),
    /// A payload that was taken earlier turned out to have no way.
    Unroutable {
        /// Where it was to go.
        to: To,
        /// Why it cannot.
        why: Unroutable,
    },
}

/// Collects actions in order; the caller drains it after each call.
#[derive(Debug, Default)]
pub struct Outbox {
    actions: Vec<Action>,
}

impl Outbox {
    /// Adds an action at the end.
    pub fn push(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Sends `frame` to `hop`.
    pub fn send(&mut self, hop: Hop, frame: Bytes) {
        self.push(Action::Send { hop, frame });
    }

    /// Takes all actions, oldest first.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Action> {
        self.actions.drain(..)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}
