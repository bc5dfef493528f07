//! Which sessions there are with a remote, and which of them is in use.

use std::time::Instant;

use bytes::Bytes;

use super::session::{Made, Session};
use super::{Endpoint, Owner, Route, dial};
use crate::{CloseReason, Event, Place, SessionId};

/// Most sessions with one remote in one plane; the one longest out of use gives way.
const PER_REMOTE: usize = 4;

impl<P: Place> Endpoint<P> {
    /// The session that is used in place of `session`.
    pub(super) fn in_use(&self, session: SessionId) -> Option<SessionId> {
        let known = self.sessions.get(&session)?;
        if known.replaced { self.session(&known.remote, known.plane) } else { Some(session) }
    }

    /// Puts a session in the table.
    ///
    /// It is used at once, but for one case: an initiator that has an older session uses that until it has heard the
    /// responder in the new one. So no payload is lost with a lost m3.
    pub(super) fn install(&mut self, now: Instant, made: Made<P>, out: &mut Vec<Event<P>>) -> SessionId {
        let id = SessionId(self.next_number());
        self.indices.insert(made.index, Owner::Session(id));
        let mut session = Session::new(now, id, self.ratchet, made);
        self.generation += 1;
        let peers = self.remotes.entry((session.remote, session.plane)).or_default();
        session.replaced = true;
        session.pending = true;
        let waits = session.initiator && !peers.is_empty();
        peers.push(id);
        self.sessions.insert(id, session);
        if !waits {
            self.promote(now, id, out);
        }
        id
    }

    /// Tells that a session is up, and decides which one of its remote is in use from now on.
    pub(super) fn promote(&mut self, now: Instant, id: SessionId, out: &mut Vec<Event<P>>) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| session.pending) else { return };
        session.pending = false;
        self.generation += 1;
        session.tally.established += 1;
        session.tally.renewed += u64::from(session.inside);
        self.counters.established += 1;
        tracing::debug!(remote = ?session.remote, initiator = session.initiator, "a session is up");
        let (remote, initiator, started) = (session.remote, session.initiator, session.started);
        let key = (remote, session.plane);
        self.tell_up(id, out);
        let Some(peers) = self.remotes.get_mut(&key) else { return };
        let before =
            peers.first().filter(|first| **first != id).and_then(|first| self.sessions.get_mut(first));
        // Of two that were made at once, both sides use the one that the lower address began.
        let stays = before.as_ref().is_some_and(|before| {
            let at_once = before.initiator != initiator && started <= before.since;
            at_once && before.initiator == (self.addr < remote)
        });
        if !stays {
            if let Some(before) = before {
                before.replaced = true;
                before.roam = None;
            }
            peers.retain(|other| *other != id);
            peers.insert(0, id);
            if let Some(session) = self.sessions.get_mut(&id) {
                session.replaced = false;
            }
        }
        if peers.len() > PER_REMOTE
            && let Some(surplus) = peers.iter().skip(1).rev().find(|other| **other != id).copied()
        {
            self.end(now, surplus, CloseReason::Local, out);
        }
        let all = self.remotes.get(&key).cloned().unwrap_or_default();
        for other in all {
            self.schedule_session(now, other);
        }
    }

    /// Tells that a session is up, unless that was the last thing told of its remote.
    fn tell_up(&mut self, id: SessionId, out: &mut Vec<Event<P>>) {
        let Some(session) = self.sessions.get_mut(&id).filter(|session| !session.told) else { return };
        session.told = true;
        let (remote, initiator) = (session.remote, session.initiator);
        let key = (remote, session.plane);
        out.push(Event::Up { session: id, remote, place: session.place.clone(), initiator });
        for other in self.remotes.get(&key).into_iter().flatten().filter(|other| **other != id) {
            if let Some(other) = self.sessions.get_mut(other) {
                other.told = false;
            }
        }
    }

    /// Takes a session out of the table; tells if it was the last one.
    pub(super) fn end(&mut self, now: Instant, id: SessionId, why: CloseReason, out: &mut Vec<Event<P>>) {
        let Some(session) = self.sessions.remove(&id) else { return };
        self.free_index(session.index);
        session.outbound.end();
        session.inbound.end();
        self.counters.sealed += session.outbound.sent().frames;
        self.counters.opened += session.inbound.received().frames;
        self.generation += 1;
        tracing::debug!(remote = ?session.remote, %why, replaced = session.replaced, "a session ended");
        let key = (session.remote, session.plane);
        let Some(peers) = self.remotes.get_mut(&key) else { return };
        peers.retain(|other| *other != id);
        match peers.first().copied() {
            Some(first) => {
                if let Some(next) = self.sessions.get_mut(&first) {
                    next.replaced = false;
                    next.tally.add(session.tally);
                }
                self.promote(now, first, out);
                // The user went by the one that ended, and needs to know of another.
                if session.told {
                    self.tell_up(first, out);
                }
            }
            None => {
                self.remotes.remove(&key);
                out.push(Event::Down { session: id, remote: session.remote, plane: session.plane, why });
            }
        }
    }

    /// Starts a handshake inside `id`, to replace it.
    pub(super) fn rekey(&mut self, now: Instant, id: SessionId, out: &mut Vec<Event<P>>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.rekey_at = now + dial::REKEY_AGAIN;
        let (remote, place) = (session.remote, session.place.clone());
        if !self.outgoing.values().any(|attempt| attempt.route.via == Some(id)) {
            self.begin(now, remote, Route { place, secret: None, via: Some(id) }, None, Bytes::new(), out);
        }
    }
}
