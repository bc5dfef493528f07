//! What routers and sessions want done, and what they tell.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use byway_api::Kind;
use byway_identity::Addr;
use byway_network::{Action, Constraint, Found, Plane, To, Unroutable};
use byway_session::{CloseReason, Connect, Event, FrameKind, SessionId, frame};

use super::{Effects, Frame, Local, REFRESH, RETRY_PAUSE};
use crate::control::Control;
use crate::flow::cost;
use crate::remote::Stage;
use crate::types::{Answer, Output};
use crate::way::Way;

impl Local {
    /// Does what routers and sessions want done, until there is nothing more.
    pub(super) fn pump(&mut self, now: Instant, effects: &mut Effects) {
        loop {
            let mut outbox = std::mem::take(&mut self.outbox);
            let mut events = std::mem::take(&mut self.events);
            if outbox.is_empty() && events.is_empty() {
                (self.outbox, self.events) = (outbox, events);
                let local = self.addr;
                let forgotten = self.forgotten.drain(..);
                effects.outputs.extend(forgotten.map(|(remote, plane)| Output::Forgotten {
                    local,
                    remote,
                    plane,
                }));
                return;
            }
            for action in outbox.drain() {
                self.on_action(now, action, effects);
            }
            for event in events.drain(..) {
                self.on_event(now, event, effects);
            }
            // Keep the larger buffers, unless the calls above have filled new ones.
            if self.outbox.is_empty() {
                self.outbox = outbox;
            }
            if self.events.is_empty() {
                self.events = events;
            }
        }
    }

    pub(super) fn on_action(&mut self, now: Instant, action: Action, effects: &mut Effects) {
        match action {
            Action::Send { hop, frame } => {
                let kind = usize::from(frame.first().map_or(0, |first| first & 0x0f));
                let (frames, bytes) = &mut self.counters.routed[kind];
                *frames += 1;
                *bytes += frame.len() as u64;
                effects.frames.push(Frame { from: self.addr, hop, bytes: frame, bare: None });
            }
            Action::Deliver { plane, payload, back } => {
                let payload = payload.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
                self.endpoint.handle(now, Way::back(plane, back), payload, &mut self.events);
            }
            Action::Found(found) => self.on_found(now, &found, effects),
            Action::Unroutable { to, why } => self.on_unroutable(to, why),
        }
    }

    pub(super) fn on_event(&mut self, now: Instant, event: Event<Way>, effects: &mut Effects) {
        match event {
            Event::Transmit { place, bytes } => self.transmit(now, place, bytes, effects),
            Event::Up { session, remote, place, .. } => {
                self.on_up(now, session, remote, place.plane, effects);
            }
            Event::Received { session, remote, place, kind, flags, payload } => {
                let payload = if kind == FrameKind::Packet { finished(payload, flags) } else { payload };
                self.on_received(now, (session, remote, place.plane), kind, payload, effects);
            }
            Event::Down { remote, plane, session, why } => {
                if let Some(plane) = Plane::from_byte(plane) {
                    self.on_down(now, session, remote, plane, why, effects);
                }
            }
            Event::Failed { remote, place, why } => self.on_failed(now, remote, place.plane, why),
            Event::Early { .. } | Event::Moved { .. } => {}
        }
    }

    pub(super) fn transmit(&mut self, now: Instant, way: Way, bytes: Bytes, effects: &mut Effects) {
        let Some(to) = way.to else {
            self.counters.unroutable += 1;
            return;
        };
        let by = Constraint::in_plane(way.plane);
        // Handshakes begin with a smaller number: their heads tell too much to go without a link frame.
        let is_of_session = bytes.first_chunk().is_some_and(|head| u32::from_le_bytes(*head) >= FIRST_INDEX);
        if is_of_session
            && let Some((hop, header)) = self.router.header(to, &by)
            && to == To::Node(hop.peer)
        {
            let bare = Some(header.len());
            let bytes = [&header[..], &bytes].concat().into();
            effects.frames.push(Frame { from: self.addr, hop, bytes, bare });
            return;
        }
        if let Err(why) = self.router.handle_above(now, to, bytes, &by, &mut self.outbox) {
            self.on_unroutable(to, why);
        }
    }

    pub(super) fn on_unroutable(&mut self, to: To, why: Unroutable) {
        self.counters.unroutable += 1;
        tracing::trace!(node = ?self.addr, ?to, %why, "an end-to-end frame has no way");
    }

    pub(super) fn on_found(&mut self, now: Instant, found: &Found, effects: &mut Effects) {
        let addr = found.key.addr();
        self.pending.retain(|pending| {
            let answers = pending.prefix.matches(&addr);
            if answers {
                effects.outputs.push(Output::Answer { id: pending.id, answer: Ok(Answer::Found(found.key)) });
            }
            !answers
        });
        for plane in Plane::ALL {
            let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { continue };
            if let Stage::Finding(_) = remote.stage {
                remote.stage = Stage::Connecting;
                let place = Way::to(plane, addr, remote.mtu);
                let connect = Connect { remote: addr, place, token: None, digest: Some(found.digest) };
                self.endpoint.connect(now, connect, &mut self.events);
                effects.sizes.push((self.addr, addr, plane));
            }
        }
    }

    pub(super) fn on_up(
        &mut self,
        now: Instant,
        session: SessionId,
        addr: Addr,
        plane: Plane,
        effects: &mut Effects,
    ) {
        let Ok(remote) = self.remote(now, addr, plane) else {
            self.endpoint.close(now, session, &mut self.events);
            return;
        };
        remote.session = Some(session);
        remote.stage = Stage::Rest;
        remote.heard(now);
        let mtu = remote.mtu;
        // By its name from now on: the way that its handshake came is just one, and would never become a better one.
        self.endpoint.set_place(session, Way::to(plane, addr, mtu));
        effects.sizes.push((self.addr, addr, plane));
        self.refresh_at.get_or_insert(now + REFRESH);
        self.tell_ready(addr, plane, effects);
        self.send_pings(now, addr, plane);
        self.flush(now, addr, plane, effects);
    }

    pub(super) fn on_down(
        &mut self,
        now: Instant,
        session: SessionId,
        addr: Addr,
        plane: Plane,
        why: CloseReason,
        effects: &mut Effects,
    ) {
        tracing::debug!(node = ?self.addr, remote = ?addr, %why, "an end-to-end session ended");
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        if remote.session.is_some_and(|current| current != session) {
            return;
        }
        remote.session = None;
        self.tell_ready(addr, plane, effects);
        self.seek(now, addr, plane);
    }

    pub(super) fn on_failed(&mut self, now: Instant, addr: Addr, plane: Plane, why: CloseReason) {
        tracing::debug!(node = ?self.addr, remote = ?addr, %why, "an end-to-end handshake failed");
        if let Some(remote) = self.remotes.get_mut(&(addr, plane)) {
            remote.stage =
                if remote.wants_session() { Stage::Finding(now + RETRY_PAUSE) } else { Stage::Rest };
        }
    }

    pub(super) fn on_received(
        &mut self,
        now: Instant,
        (session, addr, plane): (SessionId, Addr, Plane),
        kind: FrameKind,
        payload: Bytes,
        effects: &mut Effects,
    ) {
        let Ok(remote) = self.remote(now, addr, plane) else { return };
        remote.heard(now);
        match kind {
            FrameKind::Message => {
                if remote.receive_window.received(cost(payload.len())) {
                    self.deliver(addr, plane, Kind::Message, payload, effects);
                } else {
                    self.counters.pressed += 1;
                }
            }
            FrameKind::Packet => self.deliver(addr, plane, Kind::Packet, payload, effects),
            FrameKind::Control => match Control::parse(&payload) {
                Ok(control) => self.on_control(now, (session, addr, plane), control, effects),
                Err(_) => self.counters.malformed += 1,
            },
            _ => self.counters.malformed += 1,
        }
    }

    pub(super) fn on_control(
        &mut self,
        now: Instant,
        (session, addr, plane): (SessionId, Addr, Plane),
        control: Control,
        effects: &mut Effects,
    ) {
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        match control {
            Control::Ping(id) => self.control(now, session, Control::Pong(id)),
            Control::Pong(id) => {
                if let Some(at) =
                    remote.pings.iter().position(|ping| ping.question == id && ping.sent.is_some())
                {
                    let ping = remote.pings.swap_remove(at);
                    let rtt = now.saturating_duration_since(ping.sent.unwrap_or(now));
                    remote.rtt = Some(remote.rtt.map_or(rtt, |known| (known * 7 + rtt) / 8));
                    effects.outputs.push(Output::Answer { id, answer: Ok(Answer::Pong(rtt)) });
                }
            }
            Control::Mark(mark) => {
                let window = remote.receive_window.mark(mark);
                self.control(now, session, Control::Window(window));
            }
            Control::Window(window) => {
                remote.send_window.window(now, window);
                self.flush(now, addr, plane, effects);
            }
        }
    }
}

/// The packet with its checksum, where its sender left that to the receiver's device.
fn finished(packet: Bytes, flags: u8) -> Bytes {
    if flags & frame::NEEDS_CSUM == 0 {
        return packet;
    }
    let mut packet = packet.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    // What has no checksum to finish is no packet that any device would take.
    let _finished = byway_fastpath::checksum::finish(&mut packet);
    packet.freeze()
}

/// Receiver indices begin here; what begins with a smaller number is a handshake's message (spec/20-session.md).
const FIRST_INDEX: u32 = 256;
