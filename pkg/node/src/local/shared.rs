//! What comes past the network, and what threads share: bare frames, frames that threads opened, and what they did.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use byway_identity::Addr;
use byway_link::{Carried, Watch};
use byway_network::Plane;
use byway_session::{Endpoint, Event, Indices, SessionId};

use super::{Effects, Local};
use crate::way::Way;

impl Local {
    /// Its sessions have receiver indices that stand in `indices` under `tag`; to be called before there are any.
    pub(crate) fn share_indices(&mut self, indices: Indices, tag: u32) {
        self.endpoint.share_indices(indices, tag);
    }

    /// A frame came without the network's header, over a link of `plane`. Whose payload it was, if it was one.
    pub(crate) fn bare(
        &mut self,
        now: Instant,
        plane: Plane,
        frame: BytesMut,
        effects: &mut Effects,
    ) -> Option<Addr> {
        self.endpoint.handle(now, Way::back(plane, None), frame, &mut self.events);
        let received = |event: &Event<Way>| match event {
            Event::Received { remote, .. } => Some(*remote),
            _ => None,
        };
        let remote = self.events.iter().find_map(received);
        self.pump(now, effects);
        remote
    }

    /// A thread opened a frame of one of the sessions, which had come in `plane`.
    #[expect(clippy::too_many_arguments, reason = "the fields of a frame")]
    pub(crate) fn opened(
        &mut self,
        now: Instant,
        plane: Plane,
        index: u32,
        kind: u8,
        flags: u8,
        payload: Bytes,
        effects: &mut Effects,
    ) {
        self.handed = (self.handed.0 + 1, self.handed.1 + payload.len() as u64);
        let way = Way::back(plane, None);
        self.endpoint.handle_opened(now, index, way, kind, flags, payload, &mut self.events);
        self.pump(now, effects);
    }

    /// The sessions that threads may use.
    pub(crate) fn endpoint(&self) -> &Endpoint<Way> {
        &self.endpoint
    }

    /// Takes over what threads have done since the last call, which was at `since`. Whether there was anything.
    pub(crate) fn sync(&mut self, now: Instant, since: Instant) -> bool {
        let live: Vec<SessionId> = self.endpoint.halves().map(|half| half.session).collect();
        for half in self.endpoint.halves() {
            if let Some(plane) = Plane::from_byte(half.plane) {
                self.watched
                    .entry(half.session)
                    .or_insert_with(|| (half.remote, plane, Watch::new(half.outbound, half.inbound)));
            }
        }
        let mut any = false;
        for (addr, plane, watch) in self.watched.values_mut() {
            let carried = watch.look();
            if !carried.is_any() {
                continue;
            }
            any = true;
            let (Carried { sent, .. }, received) = (carried, carried.received_less(&mut self.handed));
            let counters = &mut self.counters;
            counters.sent = (counters.sent.0 + sent.0, counters.sent.1 + sent.1);
            counters.received = (counters.received.0 + received.0, counters.received.1 + received.1);
            if let Some(remote) = self.remotes.get_mut(&(*addr, *plane)) {
                remote.carried(since, &carried);
            }
            if sent.0 > 0 {
                self.router.carried(now, addr, *plane, sent.0, &mut self.outbox);
            }
        }
        self.watched.retain(|session, _| live.contains(session));
        any
    }
}
