//! What the endpoint shares with threads that seal and open without it.

use std::sync::Arc;

use byway_identity::Addr;

use super::Endpoint;
use crate::{Inbound, Indices, Outbound, Place, SessionId};

/// A session that others may seal and open in.
pub struct Halves<'a, P> {
    /// Which.
    pub session: SessionId,
    /// By which the remote names it: the first four bytes of its frames to us.
    pub index: u32,
    /// With whom.
    pub remote: Addr,
    /// In which plane.
    pub plane: u8,
    /// Where its frames go.
    pub place: &'a P,
    /// Whether it is the one to send in; the others only receive.
    pub in_use: bool,
    /// For sealing.
    pub outbound: &'a Arc<Outbound>,
    /// For opening.
    pub inbound: &'a Arc<Inbound>,
}

impl<P: Place> Endpoint<P> {
    /// From now on receiver indices stand in `indices` under `tag` while they are in use, and are chosen so that no two
    /// endpoints that share the table have the same. To be called before there are sessions or handshakes.
    pub fn share_indices(&mut self, indices: Indices, tag: u32) {
        for index in self.indices.keys() {
            indices.claim(*index, tag);
        }
        if let Some((before, _)) = self.shared.replace((indices, tag)) {
            for index in self.indices.keys() {
                before.free(*index);
            }
        }
    }

    /// Grows whenever [`Endpoint::halves`] would give something else than before.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The sessions that others may seal and open in: those in which the endpoint itself has opened a frame, so that both
    /// sides have them.
    pub fn halves(&self) -> impl Iterator<Item = Halves<'_, P>> {
        self.sessions.values().filter(|session| session.is_heard && !session.pending).map(|session| Halves {
            session: session.id,
            index: session.index,
            remote: session.remote,
            plane: session.plane,
            place: &session.place,
            in_use: !session.replaced,
            outbound: &session.outbound,
            inbound: &session.inbound,
        })
    }
}

impl<P: Place> Drop for Endpoint<P> {
    fn drop(&mut self) {
        for session in self.sessions.values() {
            session.outbound.end();
            session.inbound.end();
        }
        if let Some((shared, _)) = &self.shared {
            for index in self.indices.keys() {
                shared.free(*index);
            }
        }
    }
}
