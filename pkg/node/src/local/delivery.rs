//! Payloads on their way out, signs of life, and what is due for one remote node.

use std::time::Instant;

use bytes::Bytes;
use byway_api::{ApiError, Code, Kind};
use byway_identity::{Addr, Prefix};
use byway_network::{Constraint, Plane};
use byway_session::{Endpoint, FrameKind, SessionId};

use super::{Effects, FIND_PAUSE, Local, REFRESH, REMOTE_LIFE};
use crate::control::{Control, Mark};
use crate::flow::cost;
use crate::remote::{Held, Stage, Vital};
use crate::types::Output;
use crate::way::{SAFE_MTU, Way};

impl Local {
    /// Starts to look for a session if one is wanted.
    pub(super) fn seek(&mut self, now: Instant, addr: Addr, plane: Plane) {
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        if remote.stage == Stage::Rest && remote.wants_session() {
            remote.stage = Stage::Finding(now + FIND_PAUSE);
            self.router.find(now, Prefix::whole(addr), &Constraint::in_plane(plane), &mut self.outbox);
        }
    }

    /// Sends what waits, as far as session and window allow.
    pub(super) fn flush(&mut self, now: Instant, addr: Addr, plane: Plane, effects: &mut Effects) {
        loop {
            let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
            let Some(session) = remote.session else { return };
            let Some(held) = remote.next() else {
                if remote.holds() {
                    remote.send_window.wait(now);
                } else {
                    let mark = remote.send_window.drained(now);
                    remote.send_window.rest();
                    self.mark(now, session, mark);
                }
                return;
            };
            self.seal(now, addr, plane, session, held.kind, &held.payload);
            self.release(addr, plane, &held, effects);
        }
    }

    pub(super) fn seal(
        &mut self,
        now: Instant,
        addr: Addr,
        plane: Plane,
        session: SessionId,
        kind: Kind,
        payload: &[u8],
    ) {
        let frame_kind = match kind {
            Kind::Message => FrameKind::Message,
            Kind::Packet => FrameKind::Packet,
        };
        if let Err(error) = self.endpoint.send(now, session, frame_kind, payload, &mut self.events) {
            tracing::debug!(node = ?self.addr, remote = ?addr, %error, "a payload was not sealed");
            return;
        }
        self.count_sent(payload.len());
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        remote.sent(now);
        if kind == Kind::Message {
            let mark = remote.send_window.sent(now, cost(payload.len()));
            self.mark(now, session, mark);
        }
    }

    pub(super) fn mark(&mut self, now: Instant, session: SessionId, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.control(now, session, Control::Mark(mark));
        }
    }

    pub(super) fn control(&mut self, now: Instant, session: SessionId, control: Control) {
        // A session that has ended meanwhile needs no control frame.
        let _ended = self.endpoint.send(now, session, FrameKind::Control, &control.emit(), &mut self.events);
    }

    pub(super) fn send_pings(&mut self, now: Instant, addr: Addr, plane: Plane) {
        let Some(remote) = self.remotes.get_mut(&(addr, plane)) else { return };
        let Some(session) = remote.session else { return };
        let mut ids = Vec::new();
        for ping in remote.pings.iter_mut().filter(|ping| ping.sent.is_none()) {
            ping.sent = Some(now);
            ids.push(ping.question);
        }
        if !ids.is_empty() {
            remote.sent(now);
        }
        for id in ids {
            self.control(now, session, Control::Ping(id));
        }
    }

    /// What is due for one remote node.
    pub(super) fn attend(&mut self, now: Instant, addr: Addr, plane: Plane, effects: &mut Effects) {
        let key = (addr, plane);
        while let Some(held) = self.remotes.get_mut(&key).and_then(|remote| remote.expired(now)) {
            self.counters.expired += 1;
            self.release(addr, plane, &held, effects);
        }
        let Some(remote) = self.remotes.get_mut(&key) else { return };
        let no_session = remote.session.is_none();
        remote.pings.retain(|ping| {
            let late = ping.until <= now;
            if late {
                effects
                    .outputs
                    .push(Output::Answer { id: ping.question, answer: Err(in_vain(addr, no_session)) });
            }
            !late
        });
        if let Stage::Finding(at) = remote.stage
            && at <= now
        {
            remote.stage =
                if remote.wants_session() { Stage::Finding(now + FIND_PAUSE) } else { Stage::Rest };
            if remote.stage != Stage::Rest {
                self.router.find(now, Prefix::whole(addr), &Constraint::in_plane(plane), &mut self.outbox);
            }
        }
        let Some(remote) = self.remotes.get_mut(&key) else { return };
        let Some(session) = remote.session else { return };
        match remote.vital(now) {
            Some(Vital::Probe) => {
                let id = self.entropy.next_u64() | 1 << 63;
                self.control(now, session, Control::Ping(id));
            }
            Some(Vital::Dead) => {
                tracing::debug!(node = ?self.addr, remote = ?addr, "an end-to-end session does not answer");
                self.endpoint.close(now, session, &mut self.events);
                return;
            }
            None => {}
        }
        let Some(remote) = self.remotes.get_mut(&key) else { return };
        let mark = if remote.holds() { remote.send_window.timeout(now) } else { None };
        if !remote.holds() {
            remote.send_window.rest();
        }
        self.mark(now, session, mark);
    }

    pub(super) fn repeat_questions(&mut self, now: Instant, effects: &mut Effects) {
        self.pending.retain(|pending| {
            let late = pending.until <= now;
            if late {
                let error = ApiError::new(Code::Unknown, "no node with such an address answered in time");
                effects.outputs.push(Output::Answer { id: pending.id, answer: Err(error) });
            }
            !late
        });
        for pending in self.pending.iter_mut().filter(|pending| pending.next <= now) {
            pending.next = now + FIND_PAUSE;
            self.router.find(now, pending.prefix, &pending.by, &mut self.outbox);
        }
    }

    /// Looks up the frame sizes of ways in use, and forgets remote nodes that are not.
    pub(super) fn refresh(&mut self, now: Instant, effects: &mut Effects) {
        self.remotes.retain(|(addr, plane), remote| {
            let idle = remote.session.is_none() && !remote.wants_session();
            let keep = !idle || remote.used + REMOTE_LIFE > now;
            if !keep {
                effects.outputs.push(Output::Forgotten { local: self.addr, remote: *addr, plane: *plane });
            }
            keep
        });
        for ((addr, plane), remote) in &self.remotes {
            if remote.session.is_some() && remote.used + REFRESH * 2 > now {
                effects.sizes.push((self.addr, *addr, *plane));
            }
        }
        self.refresh_at = if self.remotes.is_empty() { None } else { Some(now + REFRESH) };
    }

    pub(super) fn tell_ready(&self, addr: Addr, plane: Plane, effects: &mut Effects) {
        let Some(remote) = self.remotes.get(&(addr, plane)) else { return };
        let mtu = remote
            .session
            .and_then(|session| self.endpoint.payload_mtu(session))
            .unwrap_or(usize::from(SAFE_MTU) - Endpoint::<Way>::OVERHEAD);
        effects.outputs.push(Output::Ready {
            local: self.addr,
            remote: addr,
            plane,
            ready: remote.session.is_some(),
            mtu,
        });
    }

    pub(super) fn release(&self, addr: Addr, plane: Plane, held: &Held, effects: &mut Effects) {
        if held.kind == Kind::Message {
            let cost = cost(held.payload.len());
            effects.outputs.push(Output::Released { local: self.addr, remote: addr, plane, cost });
        }
    }

    pub(super) fn deliver(
        &mut self,
        from: Addr,
        plane: Plane,
        kind: Kind,
        payload: Bytes,
        effects: &mut Effects,
    ) {
        self.counters.received.0 += 1;
        self.counters.received.1 += payload.len() as u64;
        effects.outputs.push(Output::Deliver { local: self.addr, from, plane, kind, payload });
    }

    /// A message of `from` that was delivered found no room, and the application will not take it.
    pub(crate) fn dropped(&mut self, from: Addr, plane: Plane, cost: u64) {
        if let Some(remote) = self.remotes.get_mut(&(from, plane)) {
            remote.receive_window.dropped(cost);
        }
    }

    pub(super) fn count_sent(&mut self, bytes: usize) {
        self.counters.sent.0 += 1;
        self.counters.sent.1 += bytes as u64;
    }
}

fn in_vain(addr: Addr, no_session: bool) -> ApiError {
    if no_session {
        ApiError::new(Code::NoWay, format!("no way to {addr} was found in time"))
    } else {
        ApiError::new(Code::Down, format!("{addr} did not answer in time"))
    }
}
