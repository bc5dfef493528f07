//! What happens within sessions: frames opened and sealed, pieces joined, places changed, time passing.

#[cfg(feature = "fuzz")]
mod fuzz;

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};

use super::dial::LONGEST_PAUSE;
use super::roam::{Roam, SETTLED, Step};
use super::session::{Sealing, Session};
use super::{Endpoint, Owner, Route, Timer, Via};
use crate::{CloseReason, Event, FrameKind, OpenError, Place, SessionId, Use, frame};

/// What a challenge costs on the wire, padded.
const CHALLENGE_COST: usize = 64;
/// Flag of a confirmation that wants one in return.
const ASK: u8 = 1;
/// Flag of a challenge that comes back.
const ECHO: u8 = 1;
/// A timer that is due at once still lets time pass, so that no loop turns on the spot.
const TICK: Duration = Duration::from_millis(1);

impl<P: Place> Endpoint<P> {
    /// A session, and what sealing in it needs.
    pub(super) fn sealing<'a>(
        &'a mut self,
        now: Instant,
        id: SessionId,
        out: &'a mut Vec<Event<P>>,
    ) -> Option<(&'a mut Session<P>, Sealing<'a, P>)> {
        let session = self.sessions.get_mut(&id)?;
        let sealing = Sealing { now, buffer: &mut self.buffer, sealed: &mut self.counters.sealed, out };
        Some((session, sealing))
    }

    /// Sends a frame that says no more than that the session works, and asks for the same if this side began it.
    pub(super) fn confirm(&mut self, now: Instant, id: SessionId, out: &mut Vec<Event<P>>) {
        if let Some((session, mut sealing)) = self.sealing(now, id, out) {
            let place = session.place.clone();
            let flags = if session.initiator { ASK } else { 0 };
            // The session is new: its counters cannot be used up.
            let _ = session.seal(&mut sealing, &place, frame::CONFIRM, flags, [&[], &[]]);
        }
    }

    /// A frame came for session `id`.
    pub(super) fn handle_frame(
        &mut self,
        now: Instant,
        id: SessionId,
        place: P,
        mut bytes: BytesMut,
        out: &mut Vec<Event<P>>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // In another plane it stays unopened and unanswered, or a remote could test where this node is.
        if session.plane != place.plane() {
            self.counters.unknown += 1;
            return;
        }
        let (opened, is_first) = match session.open(now, &mut bytes) {
            Ok(opened) => opened,
            Err(error) => {
                let (all, own) = match error {
                    OpenError::Malformed => (&mut self.counters.malformed, &mut session.tally.malformed),
                    OpenError::Replayed => (&mut self.counters.replayed, &mut session.tally.replayed),
                    _ => (&mut self.counters.forged, &mut session.tally.forged),
                };
                *all += 1;
                *own += 1;
                return;
            }
        };
        self.generation += u64::from(is_first);
        self.counters.opened += 1;
        let length = bytes.len();
        bytes.truncate(opened.payload.end);
        bytes.advance(opened.payload.start);
        self.handle_inner(now, id, place, (opened.kind, opened.flags), bytes.freeze(), length, out);
    }

    /// Takes what was in a frame that somebody else opened in one of the sessions, by [`Endpoint::halves`]: all that they
    /// do not handle themselves. `index` is the frame's receiver index, `place` where it came from.
    ///
    /// Nothing happens if the session has ended meanwhile.
    #[expect(clippy::too_many_arguments, reason = "the fields of a frame")]
    pub fn handle_opened(
        &mut self,
        now: Instant,
        index: u32,
        place: P,
        kind: u8,
        flags: u8,
        payload: Bytes,
        out: &mut Vec<Event<P>>,
    ) {
        let Some(Owner::Session(id)) = self.indices.get(&index).copied() else {
            self.counters.unknown += 1;
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.plane != place.plane() {
            self.counters.unknown += 1;
            return;
        }
        session.hear(now);
        self.counters.opened += 1;
        let length = payload.len() + frame::OVERHEAD;
        self.handle_inner(now, id, place, (kind, flags), payload, length, out);
    }

    /// What a frame of `length` bytes held, which came from `place`.
    #[expect(clippy::too_many_arguments, reason = "the fields of a frame, and where it came from")]
    fn handle_inner(
        &mut self,
        now: Instant,
        id: SessionId,
        place: P,
        (kind, flags): (u8, u8),
        bytes: Bytes,
        length: usize,
        out: &mut Vec<Event<P>>,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let remote = session.remote;
        if session.pending {
            self.promote(now, id, out);
        }
        let Some(session) = self.sessions.get(&id) else { return };
        let is_initiator = session.initiator;
        if self.usage == Use::Link && place != session.place && !session.replaced && now >= session.settled {
            self.look_at(now, id, &place, length, out);
        }
        match kind {
            frame::PACKET | frame::MESSAGE | frame::CONTROL => {
                self.receive(now, id, place, (kind, flags), bytes, out);
            }
            frame::FRAGMENT => match self.fragments.add(now, id, remote, flags, &bytes) {
                Ok(Some((frame::HANDSHAKE, whole))) => self.handle_inside(now, id, &whole, out),
                Ok(Some((kind, whole))) => self.receive(now, id, place, (kind, 0), whole, out),
                Ok(None) => {}
                Err(_) => self.count_malformed(id),
            },
            frame::CHALLENGE => self.hear_challenge(now, id, &place, flags, &bytes, out),
            frame::HANDSHAKE => self.handle_inside(now, id, &bytes, out),
            frame::CLOSE => self.end(now, id, CloseReason::Remote, out),
            frame::CONFIRM if flags & ASK != 0 && !is_initiator => self.confirm(now, id, out),
            // Cover, and kinds of versions to come.
            _ => {}
        }
    }

    fn receive(
        &mut self,
        now: Instant,
        id: SessionId,
        place: P,
        (kind, flags): (u8, u8),
        payload: Bytes,
        out: &mut Vec<Event<P>>,
    ) {
        let kind = match kind {
            frame::PACKET => FrameKind::Packet,
            frame::MESSAGE => FrameKind::Message,
            frame::CONTROL => FrameKind::Control,
            _ => return self.count_malformed(id),
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.count_received(now);
        let remote = session.remote;
        let due = session.wants_rekey(now);
        out.push(Event::Received { session: id, remote, place, kind, flags, payload });
        if due {
            self.rekey(now, id, out);
        }
    }

    /// Something malformed was inside a frame that opened.
    fn count_malformed(&mut self, id: SessionId) {
        self.counters.malformed += 1;
        if let Some(session) = self.sessions.get_mut(&id) {
            session.tally.malformed += 1;
        }
    }

    /// A handshake message came inside a session.
    fn handle_inside(&mut self, now: Instant, id: SessionId, message: &[u8], out: &mut Vec<Event<P>>) {
        let Some(session) = self.sessions.get(&id) else { return };
        let place = session.place.clone();
        let route = Route { place: place.clone(), secret: None, via: Some(id) };
        self.handle_message(now, place, &Via::Session(route), message, out);
    }

    /// A frame opened that came from another place than where ours go.
    fn look_at(&mut self, now: Instant, id: SessionId, place: &P, bytes: usize, out: &mut Vec<Event<P>>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.roam.is_none() {
            session.roam = Some(Box::new(Roam::new(now, place.clone(), &mut self.entropy)));
        }
        if let Some(roam) = session.roam.as_mut().filter(|roam| roam.place == *place) {
            roam.brought(bytes);
        }
        self.step_roam(now, id, out);
    }

    fn step_roam(&mut self, now: Instant, id: SessionId, out: &mut Vec<Event<P>>) {
        let Some((session, mut sealing)) = self.sealing(now, id, out) else { return };
        let Some(roam) = session.roam.as_mut() else { return };
        match roam.step(now, CHALLENGE_COST) {
            Step::Wait => {}
            Step::Challenge(new_token, old_token) => {
                let (new, old) = (roam.place.clone(), session.place.clone());
                // A session that is used up ends soon, wherever it is.
                let _ = session.seal(&mut sealing, &new, frame::CHALLENGE, 0, [&new_token, &[]]);
                let _ = session.seal(&mut sealing, &old, frame::CHALLENGE, 0, [&old_token, &[]]);
            }
            Step::Move => {
                if let Some(roam) = session.roam.take() {
                    session.place = roam.place.clone();
                    self.generation += 1;
                    out.push(Event::Moved { session: id, place: roam.place });
                }
            }
            Step::Stay => {
                session.roam = None;
                session.settled = now + SETTLED;
            }
        }
        self.schedule_session(now, id);
    }

    fn hear_challenge(
        &mut self,
        now: Instant,
        id: SessionId,
        place: &P,
        flags: u8,
        token: &[u8],
        out: &mut Vec<Event<P>>,
    ) {
        if flags & ECHO == 0 {
            let Some((session, mut sealing)) = self.sealing(now, id, out) else { return };
            // An echo is no longer than its challenge.
            if token.len() == size_of::<super::roam::Token>() {
                let _ = session.seal(&mut sealing, place, frame::CHALLENGE, ECHO, [token, &[]]);
            }
            return;
        }
        if let Some(roam) = self.sessions.get_mut(&id).and_then(|session| session.roam.as_mut()) {
            roam.answered(now, place, token);
            self.step_roam(now, id, out);
        }
    }

    pub(super) fn schedule_session(&mut self, now: Instant, id: SessionId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            let due = session.due(now).max(now + TICK);
            if session.timer.is_none_or(|timer| due < timer) {
                session.timer = Some(due);
                self.timers.wake(due, Timer::Session(id));
            }
        }
    }

    /// What is due for a session.
    pub(super) fn tend_session(&mut self, now: Instant, id: SessionId, out: &mut Vec<Event<P>>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.wipe(now);
        let unheard = session.flight.as_ref().is_some_and(|flight| now >= flight.until);
        if unheard && session.pending && !session.inside {
            // Nobody was told that it was up, so nobody needs to hear that it is down.
            let (remote, place) = (session.remote, session.place.clone());
            out.push(Event::Failed { remote, place, why: CloseReason::Timeout });
        }
        if session.is_over(now) || unheard {
            return self.end(now, id, CloseReason::Timeout, out);
        }
        if session.is_idle(now) || session.is_left(now) {
            return self.end(now, id, CloseReason::Idle, out);
        }
        if let Some(flight) = session.flight.as_mut().filter(|flight| now >= flight.next) {
            flight.pause = (flight.pause * 2).min(LONGEST_PAUSE);
            flight.next = now + flight.pause;
            match flight.m3.clone() {
                Some((route, m3)) => self.say(now, &route, &m3, out),
                None => self.confirm(now, id, out),
            }
        }
        let Some(session) = self.sessions.get(&id) else { return };
        if session.wants_rekey(now) {
            self.rekey(now, id, out);
        }
        self.step_roam(now, id, out);
        self.schedule_session(now, id);
    }
}
