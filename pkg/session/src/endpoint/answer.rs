//! Handshakes that others began: records told, m1 judged and answered, m3 checked.
//!
//! Nothing that takes more than a hash is done before the guard has agreed.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::Addr;
use byway_wire::Reader;

use super::session::Made;
use super::{Endpoint, Owner, Route};
use crate::guard::{self, Verdict};
use crate::handshake::{HandshakeError, Head, Keys, end_to_end, link};
use crate::inbound::Receiver;
use crate::mask;
use crate::message::{self, KeyAsk, Proof, Retry};
use crate::noise::Pattern;
use crate::record::{Form, Record};
use crate::replay::{self, M1Hash};
use crate::{Event, Place, Use};

/// How long an unfinished handshake is kept; initiators try no longer.
const LIFE: Duration = Duration::from_secs(10);

/// A handshake that waits for m3, or end to end for the first frame.
pub(super) struct Incoming<P> {
    route: Route<P>,
    hash: M1Hash,
    index: u32,
    peer_index: u32,
    version: u64,
    m2: Bytes,
    state: State,
    started: Instant,
    /// Its m1 brought an early payload, and must not do so again.
    had_early: bool,
}

enum State {
    Link(Box<link::Responder>),
    EndToEnd(Box<Ready>),
}

/// Keys that wait for a frame.
struct Ready {
    remote: Addr,
    keys: Keys,
}

/// What comes of an m1 that opened.
struct Answered {
    /// The body of m2.
    m2: Vec<u8>,
    /// Version of the record whose key opened it.
    version: u64,
    state: State,
    /// From whom, and the payload.
    early: Option<(Addr, Bytes)>,
}

/// All unfinished handshakes, oldest first.
pub(super) struct Waiting<P> {
    by_id: HashMap<u64, Incoming<P>>,
    by_hash: HashMap<M1Hash, u64>,
    order: VecDeque<(Instant, u64)>,
}

impl<P> Default for Waiting<P> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), by_hash: HashMap::new(), order: VecDeque::new() }
    }
}

impl<P> Waiting<P> {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// When the oldest ends; may be one that is gone.
    pub(super) fn due(&self) -> Option<Instant> {
        self.order.front().map(|(until, _)| *until)
    }

    fn insert(&mut self, now: Instant, id: u64, incoming: Incoming<P>) {
        self.by_hash.insert(incoming.hash, id);
        self.by_id.insert(id, incoming);
        self.order.push_back((now + LIFE, id));
    }

    fn remove(&mut self, id: u64) -> Option<Incoming<P>> {
        let incoming = self.by_id.remove(&id)?;
        self.by_hash.remove(&incoming.hash);
        Some(incoming)
    }
}

impl<P: Place> Endpoint<P> {
    /// Somebody asks for our record.
    pub(super) fn hear_ask(
        &mut self,
        now: Instant,
        route: &Route<P>,
        reader: Reader<'_>,
        length: usize,
        out: &mut Vec<Event<P>>,
    ) {
        let Ok(ask) = KeyAsk::read(reader) else {
            self.counters.malformed += 1;
            return;
        };
        let mut route = route.clone();
        if self.usage == Use::EndToEnd && route.via.is_none() && ask.requester != Addr::NOBODY {
            route.place = route.place.with_remote(ask.requester);
        }
        // The source of an end-to-end m1 cannot be told before it is opened, so a RETRY may have gone nowhere. Here is
        // somebody who can be answered, and the question is longer than the cookie.
        if let Some((index, hash)) = ask.unanswered.filter(|_| self.usage == Use::EndToEnd) {
            let source = route.place.rate_key();
            if let Some((cookie, bits)) = self.guard.cookie_for(now, source, &hash, self.waiting.len()) {
                self.say(now, &route, &Retry { index, cookie, bits }.emit(), out);
            }
        }
        let keys = self.keys.current();
        let record = match ask.form {
            Form::Short => &keys.short,
            Form::Whole => &keys.whole,
        };
        let answer = message::key_tell(ask.nonce, record);
        // What counts is what leaves, in parts with a head each.
        let leaves = answer.len() + mask::PARTS * mask::PART_HEAD;
        if !self.guard.may_tell(now, route.place.rate_key(), length, leaves) {
            self.counters.overload += 1;
            return;
        }
        self.say(now, &route, &answer, out);
    }

    /// m1 came, with the proof before it if there was one. `m1` begins with its type.
    pub(super) fn hear_m1(
        &mut self,
        now: Instant,
        mut route: Route<P>,
        m1: &[u8],
        proof: Option<&Proof>,
        out: &mut Vec<Event<P>>,
    ) {
        let mut reader = Reader::new(m1);
        let Ok(head) = reader.u32_le().and_then(|_| Head::read(&mut reader)) else {
            self.counters.malformed += 1;
            return;
        };
        let body = reader.rest();
        let pattern = if self.usage == Use::Link { Pattern::Link } else { Pattern::EndToEnd };
        if head.pattern != pattern || head.plane != route.place.plane() || head.index < message::FIRST_INDEX {
            self.counters.malformed += 1;
            return;
        }
        let hash = replay::hash(m1);
        if let Some(waiting) = self.waiting.by_hash.get(&hash).and_then(|id| self.waiting.by_id.get(id)) {
            let (route, m2) = (waiting.route.clone(), waiting.m2.clone());
            self.say(now, &route, &m2, out);
            return;
        }
        if self.replays.contains(&hash) {
            self.counters.replayed += 1;
            return;
        }
        if let Some(session) = route.via {
            if !self.guard.admits_inside(now, session.0) {
                self.counters.overload += 1;
                return;
            }
        } else {
            let source = route.place.rate_key();
            let verdict = self.guard.judge(now, source, &hash, proof, self.waiting.len(), &mut self.entropy);
            match verdict {
                Verdict::Admit => {}
                Verdict::Drop => {
                    self.counters.overload += 1;
                    return;
                }
                Verdict::Retry { cookie, bits } => {
                    self.counters.overload += 1;
                    let retry = Retry { index: head.index, cookie, bits }.emit();
                    self.say(now, &route, &retry, out);
                    return;
                }
            }
        }
        if self.sessions.len() >= self.most_sessions {
            self.counters.overload += 1;
            return;
        }
        if self.keys.by_version(head.version).is_none() {
            self.counters.forged += 1;
            return;
        }
        self.counters.handshakes += 1;
        let id = self.next_number();
        let index = self.new_index(Owner::Waiting(id));
        let made = match self.usage {
            Use::Link => self.answer_link(&head, body, index),
            Use::EndToEnd => self.answer_end_to_end(now, &head, body, index, &mut route, hash),
        };
        match made {
            Ok(Answered { m2, version, state, early }) => {
                let m2 = Bytes::from(message::answer(message::M2, head.index, &m2));
                self.say(now, &route, &m2, out);
                let had_early = early.is_some();
                if let Some((remote, payload)) = early {
                    out.push(Event::Early { remote, place: route.place.clone(), payload });
                }
                self.make_room(now);
                let incoming = Incoming {
                    route,
                    hash,
                    index,
                    peer_index: head.index,
                    version,
                    m2,
                    state,
                    started: now,
                    had_early,
                };
                self.waiting.insert(now, id, incoming);
            }
            Err(error) => {
                self.free_index(index);
                self.count(error);
            }
        }
    }

    fn answer_link(&mut self, head: &Head, body: &[u8], index: u32) -> Result<Answered, HandshakeError> {
        let keys = self.keys.by_version(head.version).ok_or(HandshakeError::Key)?;
        let (side, m2) = link::Responder::start(
            head,
            &self.addr,
            body,
            &keys.x25519,
            index,
            self.ciphers,
            self.group_key.as_deref(),
            &mut self.entropy,
        )?;
        let version = keys.record.content.version;
        Ok(Answered { m2, version, state: State::Link(Box::new(side)), early: None })
    }

    fn answer_end_to_end(
        &mut self,
        now: Instant,
        head: &Head,
        body: &[u8],
        index: u32,
        route: &mut Route<P>,
        hash: M1Hash,
    ) -> Result<Answered, HandshakeError> {
        let keys = self.keys.by_version(head.version).ok_or(HandshakeError::Key)?;
        let (version, group_key) = (keys.record.content.version, self.group_key.clone());
        let group_key = group_key.as_deref();
        let opened = end_to_end::Responder::open(
            head,
            &self.addr,
            body,
            keys,
            self.ciphers,
            group_key,
            &mut self.entropy,
        )?;
        let record = opened.record.clone();
        let remote = record.addr;
        self.accept_record(now, route, record)?;
        if route.via.is_none() {
            route.place = route.place.with_remote(remote);
        }
        let early = opened.early.clone();
        // With no room to remember this m1, it could be played again; so nothing in it may have an effect.
        let remembered = self.replays.insert(version, hash);
        let dropped = !early.is_empty() && !remembered;
        let (m2, keys) = opened.answer(index, dropped, group_key, &mut self.entropy)?;
        let early = (!early.is_empty() && remembered).then_some((remote, early));
        Ok(Answered { m2, version, state: State::EndToEnd(Box::new(Ready { remote, keys })), early })
    }

    /// Whether the initiator's record may be believed: in time, newest, of our network, and inside a session of its owner.
    fn accept_record(
        &mut self,
        now: Instant,
        route: &Route<P>,
        record: Record,
    ) -> Result<(), HandshakeError> {
        let unix = self.unix(now);
        let owner = match route.via {
            None => record.addr != self.addr,
            Some(via) => self.sessions.get(&via).is_some_and(|session| session.remote == record.addr),
        };
        if !owner
            || !record.fits(unix)
            || !record.is_member(self.group_key())
            || !self.records.is_newest(&record, unix)
        {
            return Err(HandshakeError::Identity);
        }
        self.records.keep(record);
        Ok(())
    }

    /// m3 came for one of our indices.
    pub(super) fn hear_m3(&mut self, now: Instant, index: u32, body: &[u8], out: &mut Vec<Event<P>>) {
        let id = match self.indices.get(&index).copied() {
            Some(Owner::Waiting(id)) => id,
            Some(Owner::Session(session)) => {
                // It comes again because our frame did not arrive.
                if self.sessions.get(&session).is_some_and(|session| !session.initiator) {
                    self.confirm(now, session, out);
                }
                return;
            }
            _ => {
                self.counters.unknown += 1;
                return;
            }
        };
        let Some(Incoming { state: State::Link(side), route, .. }) = self.waiting.by_id.get_mut(&id) else {
            return;
        };
        let route = route.clone();
        let record = match side.finish(body) {
            Ok(record) => record,
            Err(error) => {
                self.count(error);
                return;
            }
        };
        let remote = record.addr;
        let accepted = self.accept_record(now, &route, record);
        let Some(incoming) = self.waiting.remove(id) else { return };
        let State::Link(side) = incoming.state else { return };
        let keys = match accepted.and_then(|()| side.keys()) {
            Ok(keys) => keys,
            Err(error) => {
                self.free_index(index);
                self.count(error);
                return;
            }
        };
        self.replays.insert(incoming.version, incoming.hash);
        let made = Made {
            remote,
            place: incoming.route.place,
            initiator: false,
            index: incoming.index,
            peer_index: incoming.peer_index,
            keys,
            started: incoming.started,
            rtt: now.saturating_duration_since(incoming.started),
            inside: incoming.route.via.is_some(),
        };
        let session = self.install(now, made, out);
        self.confirm(now, session, out);
        self.schedule_session(now, session);
    }

    /// A frame came for an end-to-end handshake; if it opens, the session is up.
    pub(super) fn hear_first_frame(
        &mut self,
        now: Instant,
        id: u64,
        plane: u8,
        frame: &[u8],
        out: &mut Vec<Event<P>>,
    ) -> bool {
        let Some(Incoming { state: State::EndToEnd(ready), route, .. }) = self.waiting.by_id.get(&id) else {
            return false;
        };
        if route.place.plane() != plane {
            self.counters.unknown += 1;
            return false;
        }
        // On a copy: the frame is opened again, in place, by the session that it makes.
        let mut copy = frame.to_vec();
        let mut receiver = Receiver::new(Duration::ZERO, ready.keys.receive.again());
        if receiver.open(now, &mut copy).is_err() {
            self.counters.forged += 1;
            return false;
        }
        let Some(incoming) = self.waiting.remove(id) else { return false };
        let State::EndToEnd(ready) = incoming.state else { return false };
        let made = Made {
            remote: ready.remote,
            place: incoming.route.place,
            initiator: false,
            index: incoming.index,
            peer_index: incoming.peer_index,
            keys: ready.keys,
            started: incoming.started,
            rtt: now.saturating_duration_since(incoming.started),
            inside: incoming.route.via.is_some(),
        };
        let session = self.install(now, made, out);
        self.schedule_session(now, session);
        true
    }

    /// Drops handshakes whose time is over.
    pub(super) fn expire_waiting(&mut self, now: Instant) {
        while self.waiting.due().is_some_and(|until| until <= now) {
            let Some((_, id)) = self.waiting.order.pop_front() else { break };
            self.drop_waiting(id);
        }
    }

    /// The oldest unfinished handshake gives way to a new one.
    fn make_room(&mut self, now: Instant) {
        self.expire_waiting(now);
        while self.waiting.len() >= guard::UNFINISHED {
            let Some((_, id)) = self.waiting.order.pop_front() else { break };
            self.drop_waiting(id);
        }
    }

    fn drop_waiting(&mut self, id: u64) {
        let Some(incoming) = self.waiting.remove(id) else { return };
        self.free_index(incoming.index);
        // It led to nothing, so the same m1 may try again, unless it already told something.
        if !incoming.had_early {
            self.replays.remove(&incoming.hash);
        }
    }
}
