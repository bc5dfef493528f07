//! Messages outside frames: how they travel, and who hears them.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use byway_wire::Reader;

use super::Endpoint;
use crate::mask::{self, Secret};
use crate::message::{self, Proof, Retry};
use crate::{Event, Place, SessionId, Use, frame};

/// How many pending handshakes a masked datagram is tried against.
const PENDING: usize = 16;

/// How a handshake message travels.
#[derive(Clone)]
pub(super) struct Route<P> {
    pub(super) place: P,
    /// Masked with this.
    pub(super) secret: Option<Secret>,
    /// In frames of this session.
    pub(super) via: Option<SessionId>,
}

/// What a message came out of, and so which messages it may be.
pub(super) enum Via<P> {
    /// A mask of ours: from an initiator.
    Own(Route<P>),
    /// The mask of a handshake that we began: from its responder.
    Theirs,
    /// Nothing, end to end.
    Clear(Route<P>),
    /// A session.
    Session(Route<P>),
}

impl<P: Place> Endpoint<P> {
    /// Sends a handshake message, masked, in parts or in frames, as its route says.
    pub(super) fn say(&mut self, now: Instant, route: &Route<P>, message: &[u8], out: &mut Vec<Event<P>>) {
        if let Some(via) = route.via {
            if let Some((session, mut sealing)) = self.sealing(now, via, out) {
                // A session that is used up carries nothing; the handshake's patience then ends it.
                let _ = session.send(&mut sealing, frame::HANDSHAKE, message);
            }
            return;
        }
        let overhead = if route.secret.is_some() { mask::OVERHEAD } else { 0 };
        let set = self.entropy.next_u32();
        let Some(parts) = mask::cut(message, overhead, route.place.mtu(), set) else { return };
        for part in parts {
            let bytes =
                route.secret.as_ref().map_or_else(|| Bytes::from(part.clone()), |secret| secret.mask(&part));
            out.push(Event::Transmit { place: route.place.clone(), bytes });
        }
    }

    /// Looks behind a mask: of one of our own secrets, or of a handshake that we began.
    pub(super) fn unmask(&self, place: P, bytes: &mut BytesMut) -> Option<Via<P>> {
        for secret in &self.own_secrets {
            if secret.unmask(bytes) {
                return Some(Via::Own(Route { place, secret: Some(secret.clone()), via: None }));
            }
        }
        let pending = || self.outgoing.values().filter_map(|attempt| Some((attempt, attempt.secret()?)));
        let here = pending().filter(|(attempt, _)| attempt.place == place);
        let elsewhere = pending().filter(|(attempt, _)| attempt.place != place);
        for (_, secret) in here.chain(elsewhere).take(PENDING) {
            if secret.unmask(bytes) {
                return Some(Via::Theirs);
            }
        }
        None
    }

    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        from: P,
        via: &Via<P>,
        bytes: &[u8],
        out: &mut Vec<Event<P>>,
    ) {
        let mut reader = Reader::new(bytes);
        let Ok(number) = reader.u32_le() else {
            self.counters.malformed += 1;
            return;
        };
        // A mask tells on which side its maker stands; without one, what follows must tell.
        let (asks, tells) = match via {
            Via::Own(route) => (Some(route), false),
            Via::Theirs => (None, true),
            Via::Clear(route) | Via::Session(route) => (Some(route), true),
        };
        match (number, asks) {
            (message::PART, _) => {
                if let Some(whole) = self.sets.add(now, from.clone(), reader.rest())
                    && whole.first_chunk() != Some(&message::PART.to_le_bytes())
                {
                    self.handle_message(now, from, via, &whole, out);
                }
            }
            (message::KEY_ASK, Some(route)) => self.hear_ask(now, route, reader, bytes.len(), out),
            (message::M1, Some(route)) => self.hear_m1(now, route.clone(), bytes, None, out),
            (message::M1_AGAIN, Some(route)) => match Proof::read(&mut reader) {
                Ok(proof) if reader.clone().u32_le() == Ok(message::M1) => {
                    self.hear_m1(now, route.clone(), reader.rest(), Some(&proof), out);
                }
                _ => self.counters.malformed += 1,
            },
            (message::M3, Some(_)) if self.usage == Use::Link => match reader.u32_le() {
                Ok(index) => self.hear_m3(now, index, reader.rest(), out),
                Err(_) => self.counters.malformed += 1,
            },
            (message::KEY_TELL, _) if tells => self.hear_key(now, reader, out),
            (message::M2, _) if tells => match reader.u32_le() {
                Ok(index) => self.hear_m2(now, index, reader.rest(), out),
                Err(_) => self.counters.malformed += 1,
            },
            (message::RETRY, _) if tells => match Retry::read(reader) {
                Ok(retry) => self.hear_retry(now, retry, out),
                Err(_) => self.counters.malformed += 1,
            },
            _ => self.counters.unknown += 1,
        }
    }
}
