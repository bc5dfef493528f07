//! Handshakes that this side began: asking for the record, m1, m2, and saying again what got lost.

use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::Addr;
use byway_wire::Reader;

use super::session::{Flight, Made};
use super::{Endpoint, Owner, Route, Timer};
use crate::cipher::Cipher;
use crate::guard;
use crate::handshake::{HandshakeError, Head, Keys, end_to_end, link};
use crate::mask::{self, Secret};
use crate::message::{self, KeyAsk, Proof, Retry};
use crate::noise::Pattern;
use crate::record::{Form, HYBRID, Record};
use crate::replay;
use crate::{CloseReason, Event, Place, SessionId, Use};

/// First pause before something is said again; it doubles up to the longest.
pub(super) const PAUSE: Duration = Duration::from_millis(250);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long an initiator tries.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A failed attempt to make the next session is made again after so long.
pub(super) const REKEY_AGAIN: Duration = Duration::from_secs(30);

/// Length of a `KEY?`: for a short record, as long as any answer; for a whole one a third of it, and all of it from the
/// second time on.
const ASK_SHORT: usize = 400;
const ASK_WHOLE: usize = 912;
const ASK_WHOLE_AGAIN: usize = 2_720;
/// Most bytes of an end-to-end m1 without its early payload, a cookie included.
const M1_MOST: usize = 3072;
/// How many hashes a puzzle gets at a time, so that others are served meanwhile.
const TRIES: u64 = 4096;
const PUZZLE_PAUSE: Duration = Duration::from_millis(1);

/// One attempt to reach somebody.
pub(super) struct Outgoing<P> {
    pub(super) remote: Addr,
    pub(super) place: P,
    pub(super) route: Route<P>,
    digest: Option<[u8; 32]>,
    /// Ours, for m2 and then the session.
    index: u32,
    nonce: u64,
    asked: u32,
    started: Instant,
    next: Instant,
    pause: Duration,
    early: Bytes,
    /// Whether m1 carries `early`.
    is_early: bool,
    state: State,
    pub(super) timer: Option<Instant>,
}

enum State {
    /// The record is asked for.
    Asking,
    /// m1 was sent.
    Sent(Box<Sent>),
}

struct Sent {
    side: Side,
    /// Our record as m1 used it: its keys may be replaced meanwhile.
    record: Bytes,
    m1: Vec<u8>,
    at: Instant,
    again: bool,
    rank: (u64, u64),
    proof: Option<Proof>,
    solved: bool,
}

enum Side {
    Link(link::Initiator),
    EndToEnd(end_to_end::Initiator),
}

/// A finished handshake: m3 on links, the keys, the other's index.
struct Finished {
    m3: Option<Vec<u8>>,
    keys: Keys,
    index: u32,
    early_dropped: bool,
}

impl<P: Place> Outgoing<P> {
    pub(super) fn secret(&self) -> Option<&Secret> {
        self.route.secret.as_ref()
    }

    fn due(&self) -> Instant {
        self.next.min(self.started + PATIENCE)
    }
}

impl<P: Place> Endpoint<P> {
    /// Starts an attempt; `via`: inside that session, to replace it.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        remote: Addr,
        route: Route<P>,
        digest: Option<[u8; 32]>,
        early: Bytes,
        out: &mut Vec<Event<P>>,
    ) {
        let id = self.next_number();
        let index = self.new_index(Owner::Outgoing(id));
        let attempt = Outgoing {
            remote,
            place: route.place.clone(),
            route,
            digest,
            index,
            nonce: self.entropy.next_u64(),
            asked: 0,
            started: now,
            next: now,
            pause: PAUSE,
            early,
            is_early: false,
            state: State::Asking,
            timer: None,
        };
        self.outgoing.insert(id, attempt);
        self.counters.handshakes += 1;
        let unix = self.unix(now);
        let cached = self.records.get(&remote).filter(|record| {
            record.fits(unix)
                && record.content.until >= unix
                && (self.usage == Use::Link || record.is_whole())
                && digest.is_none_or(|digest| record.digest == digest)
        });
        if let Some(record) = cached.cloned() {
            self.send_m1(now, id, &record, out);
        } else {
            self.ask(now, id, out);
        }
        self.pause(now, id);
    }

    /// Sends a `KEY?`.
    fn ask(&mut self, now: Instant, id: u64, out: &mut Vec<Event<P>>) {
        let Some(attempt) = self.outgoing.get_mut(&id) else { return };
        let unanswered = match &attempt.state {
            State::Sent(sent) if self.usage == Use::EndToEnd => Some((attempt.index, replay::hash(&sent.m1))),
            _ => None,
        };
        let (form, length) = match (self.usage, attempt.asked) {
            (Use::Link, _) => (Form::Short, ASK_SHORT),
            (Use::EndToEnd, 0) if unanswered.is_none() => (Form::Whole, ASK_WHOLE),
            (Use::EndToEnd, _) => (Form::Whole, ASK_WHOLE_AGAIN),
        };
        attempt.asked += 1;
        let requester = if self.usage == Use::Link { Addr::NOBODY } else { self.addr };
        let message = KeyAsk { nonce: attempt.nonce, form, requester, unanswered }.emit(length);
        let route = attempt.route.clone();
        self.say(now, &route, &message, out);
    }

    /// A record came.
    pub(super) fn hear_key(&mut self, now: Instant, mut reader: Reader<'_>, out: &mut Vec<Event<P>>) {
        let Ok(nonce) = reader.u64_le() else {
            self.counters.malformed += 1;
            return;
        };
        let Some((id, attempt)) = self.outgoing.iter().find(|(_, attempt)| attempt.nonce == nonce) else {
            self.counters.unknown += 1;
            return;
        };
        let (id, remote) = (*id, attempt.remote);
        let newer_than = match &attempt.state {
            State::Asking => None,
            State::Sent(sent) => Some(sent.rank),
        };
        let digest = attempt.digest;
        let vouched_rank =
            self.records.get(&remote).filter(|known| Some(known.digest) == digest).map(Record::rank);
        let unix = self.unix(now);
        let record = match Record::open(reader.rest()) {
            Ok(record) if record.addr == remote => record,
            _ => {
                self.counters.forged += 1;
                return;
            }
        };
        let form_fits = self.usage == Use::Link || record.is_whole();
        // The network may vouch for the record before the one that just replaced it, never for a later one.
        let digest_fits = digest.is_none_or(|digest| {
            record.digest == digest || vouched_rank.is_none_or(|vouched| record.rank() > vouched)
        });
        if !form_fits || !digest_fits || !record.fits(unix) || !self.records.is_newest(&record, unix) {
            self.counters.forged += 1;
            return;
        }
        self.records.keep(record.clone());
        if newer_than.is_some_and(|rank| rank >= record.rank()) {
            return;
        }
        if !record.content.suites.contains(&HYBRID) || !record.is_member(self.group_key()) {
            self.fail(now, id, CloseReason::Identity, out);
            return;
        }
        self.send_m1(now, id, &record, out);
        self.pause(now, id);
    }

    fn send_m1(&mut self, now: Instant, id: u64, record: &Record, out: &mut Vec<Event<P>>) {
        let Some(attempt) = self.outgoing.get_mut(&id) else { return };
        let pattern = match self.usage {
            Use::Link => Pattern::Link,
            Use::EndToEnd => Pattern::EndToEnd,
        };
        let version = record.content.version as u8;
        let head = Head { pattern, plane: attempt.place.plane(), version, index: attempt.index };
        let ciphers = Cipher::offer(self.ciphers);
        let local = self.keys.current();
        let made = match self.usage {
            Use::Link => link::Initiator::start(
                &head,
                &record.addr,
                &record.content.x25519,
                &local.x25519,
                ciphers,
                &mut self.entropy,
            )
            .map(|(side, body)| (Side::Link(side), body)),
            Use::EndToEnd => {
                let room = if attempt.route.via.is_some() { 0 } else { early_room(attempt.place.mtu()) };
                attempt.is_early = attempt.early.len() <= room.min(end_to_end::EARLY);
                let early: &[u8] = if attempt.is_early { &attempt.early } else { &[] };
                let own = end_to_end::Own { local: &local.x25519, record: &local.short, ciphers, early };
                let group_key = self.group_key.as_deref();
                end_to_end::Initiator::start(&head, record, &own, group_key, &mut self.entropy)
                    .map(|(side, body)| (Side::EndToEnd(side), body))
            }
        };
        let Ok((side, body)) = made else {
            self.fail(now, id, CloseReason::Identity, out);
            return;
        };
        let m1 = message::m1(&head.emit(), &body);
        let own = local.short.clone();
        let route = attempt.route.clone();
        self.say(now, &route, &m1, out);
        if let Some(attempt) = self.outgoing.get_mut(&id) {
            let rank = record.rank();
            let sent =
                Sent { side, record: own, m1, at: now, again: false, rank, proof: None, solved: false };
            attempt.state = State::Sent(Box::new(sent));
            attempt.pause = PAUSE;
        }
    }

    /// Sets the next time at which `id` says something again.
    fn pause(&mut self, now: Instant, id: u64) {
        if let Some(attempt) = self.outgoing.get_mut(&id) {
            attempt.next = now + attempt.pause;
            attempt.pause = (attempt.pause * 2).min(LONGEST_PAUSE);
        }
        self.schedule_outgoing(id);
    }

    pub(super) fn schedule_outgoing(&mut self, id: u64) {
        if let Some(attempt) = self.outgoing.get_mut(&id) {
            let due = attempt.due();
            if attempt.timer.is_none_or(|timer| due < timer) {
                attempt.timer = Some(due);
                self.timers.wake(due, Timer::Outgoing(id));
            }
        }
    }

    /// What is due for an attempt.
    pub(super) fn tend_outgoing(&mut self, now: Instant, id: u64, out: &mut Vec<Event<P>>) {
        let Some(attempt) = self.outgoing.get_mut(&id) else { return };
        if now >= attempt.started + PATIENCE {
            self.fail(now, id, CloseReason::Timeout, out);
            return;
        }
        if now >= attempt.next {
            match &mut attempt.state {
                State::Asking => self.ask(now, id, out),
                State::Sent(sent) if sent.proof.is_some() && !sent.solved => {
                    self.solve(now, id, out);
                    return;
                }
                State::Sent(sent) => {
                    sent.again = true;
                    let m1 =
                        sent.proof.as_ref().map_or_else(|| sent.m1.clone(), |proof| proof.emit(&sent.m1));
                    let route = attempt.route.clone();
                    self.say(now, &route, &m1, out);
                    // Silence may mean that the record's keys are gone, with the process that had them.
                    self.ask(now, id, out);
                }
            }
            self.pause(now, id);
        } else {
            self.schedule_outgoing(id);
        }
    }

    /// The responder is under load, and wants a cookie or a puzzle's solution.
    pub(super) fn hear_retry(&mut self, now: Instant, retry: Retry, out: &mut Vec<Event<P>>) {
        let Some(Owner::Outgoing(id)) = self.indices.get(&retry.index).copied() else {
            self.counters.unknown += 1;
            return;
        };
        let Some(Outgoing { state: State::Sent(sent), .. }) = self.outgoing.get_mut(&id) else { return };
        if !guard::is_fair(retry.bits) || sent.proof.is_some_and(|proof| proof.cookie == retry.cookie) {
            return;
        }
        sent.proof = Some(Proof { cookie: retry.cookie, bits: retry.bits, nonce: 0 });
        sent.solved = false;
        self.solve(now, id, out);
    }

    /// Tries some nonces; the next ones a moment later.
    fn solve(&mut self, now: Instant, id: u64, out: &mut Vec<Event<P>>) {
        let Some(attempt) = self.outgoing.get_mut(&id) else { return };
        let State::Sent(sent) = &mut attempt.state else { return };
        let Some(proof) = &mut sent.proof else { return };
        let end = proof.nonce + TRIES;
        while !sent.solved && proof.nonce < end {
            if guard::solves(&proof.cookie, proof.bits, proof.nonce) {
                sent.solved = true;
            } else {
                proof.nonce += 1;
            }
        }
        if !sent.solved {
            attempt.next = now + PUZZLE_PAUSE;
            self.schedule_outgoing(id);
            return;
        }
        sent.at = now;
        let message = proof.emit(&sent.m1);
        let route = attempt.route.clone();
        attempt.pause = PAUSE;
        self.say(now, &route, &message, out);
        self.pause(now, id);
    }

    /// m2 came.
    pub(super) fn hear_m2(&mut self, now: Instant, index: u32, body: &[u8], out: &mut Vec<Event<P>>) {
        let Some(Owner::Outgoing(id)) = self.indices.get(&index).copied() else {
            self.counters.unknown += 1;
            return;
        };
        let Some(mut attempt) = self.outgoing.remove(&id) else { return };
        let State::Sent(sent) = attempt.state else {
            self.outgoing.insert(id, attempt);
            self.counters.unknown += 1;
            return;
        };
        let mut sent = *sent;
        let finished = match sent.side {
            Side::Link(mut side) => match side.finish(body, &sent.record, self.group_key.as_deref()) {
                Ok((index, cipher, m3)) => side.keys(cipher).map(|keys| {
                    let m3 = Some(message::answer(message::M3, index, &m3));
                    Finished { m3, keys, index, early_dropped: false }
                }),
                Err(error) => {
                    sent.side = Side::Link(side);
                    attempt.state = State::Sent(Box::new(sent));
                    self.outgoing.insert(id, attempt);
                    self.count(error);
                    return;
                }
            },
            Side::EndToEnd(mut side) => match side.finish(body, self.group_key.as_deref()) {
                Ok(end_to_end::Answer { index, cipher, early_dropped }) => {
                    side.keys(cipher).map(|keys| Finished { m3: None, keys, index, early_dropped })
                }
                Err(error) => {
                    sent.side = Side::EndToEnd(side);
                    attempt.state = State::Sent(Box::new(sent));
                    self.outgoing.insert(id, attempt);
                    self.count(error);
                    return;
                }
            },
        };
        let Ok(finished) = finished else {
            self.free_index(attempt.index);
            return;
        };
        // A round trip is measured only where one question has one answer.
        let rtt = if sent.again { PAUSE } else { now.saturating_duration_since(sent.at) };
        let made = Made {
            remote: attempt.remote,
            place: attempt.place,
            initiator: true,
            index: attempt.index,
            peer_index: finished.index,
            keys: finished.keys,
            started: attempt.started,
            rtt,
            inside: attempt.route.via.is_some(),
        };
        let m3 = finished.m3.map(Bytes::from);
        if let Some(m3) = &m3 {
            self.say(now, &attempt.route, m3, out);
        }
        let route = attempt.route;
        let session = self.install(now, made, out);
        if let Some(session) = self.sessions.get_mut(&session) {
            let flight = Flight {
                m3: m3.clone().map(|m3| (route, m3)),
                next: now + PAUSE,
                pause: PAUSE,
                until: now + PATIENCE,
            };
            session.flight = Some(Box::new(flight));
        }
        if m3.is_none() {
            self.confirm(now, session, out);
        }
        let is_unsaid = finished.early_dropped || !attempt.is_early;
        if is_unsaid && !attempt.early.is_empty() {
            // The session came up this moment, so it takes a payload.
            let _ = self.send(now, session, crate::FrameKind::Message, &attempt.early, out);
        }
        self.schedule_session(now, session);
    }

    /// Gives up.
    fn fail(&mut self, now: Instant, id: u64, why: CloseReason, out: &mut Vec<Event<P>>) {
        let Some(attempt) = self.outgoing.remove(&id) else { return };
        self.free_index(attempt.index);
        match attempt.route.via {
            Some(session) => self.postpone_rekey(now, session),
            None => out.push(Event::Failed { remote: attempt.remote, place: attempt.place, why }),
        }
    }

    fn postpone_rekey(&mut self, now: Instant, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.rekey_at = now + REKEY_AGAIN;
        }
    }

    pub(super) fn forget_outgoing(&mut self, id: u64) {
        if let Some(attempt) = self.outgoing.remove(&id) {
            self.free_index(attempt.index);
        }
    }

    /// Counts a handshake message that was refused.
    pub(super) fn count(&mut self, error: HandshakeError) {
        tracing::debug!(%error, "refused a handshake message");
        match error {
            HandshakeError::Malformed(_) => self.counters.malformed += 1,
            _ => self.counters.forged += 1,
        }
    }
}

/// How long an early payload may be, so that m1 with it and a cookie fits its parts.
fn early_room(mtu: usize) -> usize {
    (mtu.saturating_sub(mask::OVERHEAD + mask::PART_HEAD) * mask::PARTS).saturating_sub(M1_MOST)
}
