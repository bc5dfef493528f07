//! The table of all sessions and handshakes of one local identity.
//!
//! Handshakes that this side began are in `dial`, those of others in `answer`, what happens within a session in `frames`,
//! which session of a remote is in use in `table`. Here is who owns which receiver index, and what is due when.

mod answer;
mod dial;
mod frames;
mod halves;
mod messages;
mod records;
mod roam;
mod session;
#[cfg(test)]
mod sizes;
mod table;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_identity::{Addr, Entropy};
use zeroize::Zeroizing;

use self::answer::Waiting;
use self::dial::Outgoing;
use self::messages::{Route, Via};
use self::records::Records;
use self::session::Session;
use crate::fragment::Fragments;
use crate::guard::Guard;
use crate::keys::LocalKeys;
use crate::mask::{Secret, Sets};
use crate::message::FIRST_INDEX;
use crate::replay::Memory;
use crate::timers::Timers;
use crate::{
    Ciphers, CloseReason, Config, Connect, Counters, Event, FrameKind, Indices, Place, SendError, SessionId,
    SessionStatus, Tally, Use, frame,
};

pub use self::halves::Halves;

/// Most sessions; beyond, no new ones are accepted. More than a node keeps remote nodes, times the sessions of each.
const SESSIONS: usize = 20_000;
/// Most link tokens of the local side.
const TOKENS: usize = 16;

/// All sessions and handshakes of one local identity.
pub struct Endpoint<P: Place> {
    usage: Use,
    addr: Addr,
    group_key: Option<Zeroizing<[u8; 32]>>,
    ratchet: Duration,
    ciphers: Ciphers,
    keys: LocalKeys,
    /// The wall clock, in Unix seconds, at an instant.
    clock: (Instant, u64),
    entropy: Box<dyn Entropy>,
    /// What masked handshakes to us are made with: the address alone, or with a token.
    own_secrets: Vec<Secret>,
    sessions: HashMap<SessionId, Session<P>, Numbered>,
    indices: HashMap<u32, Owner, Numbered>,
    /// Sessions by remote and plane; the first one is in use.
    remotes: HashMap<(Addr, u8), Vec<SessionId>>,
    outgoing: HashMap<u64, Outgoing<P>, Numbered>,
    waiting: Waiting<P>,
    records: Records,
    sets: Sets<P>,
    fragments: Fragments,
    guard: Guard,
    replays: Memory,
    timers: Timers<Timer>,
    counters: Counters,
    number: u64,
    /// Grows with each change of [`Endpoint::halves`].
    generation: u64,
    /// Where others look up whose an index is, and as whose ours stand there.
    shared: Option<(Indices, u32)>,
    most_sessions: usize,
    buffer: BytesMut,
}

/// Who has a receiver index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Session(SessionId),
    Outgoing(u64),
    Waiting(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Session(SessionId),
    Outgoing(u64),
}

impl<P: Place> Endpoint<P> {
    /// Bytes that a sealed frame adds to a payload which fits one frame.
    pub const OVERHEAD: usize = frame::OVERHEAD;

    /// An endpoint without sessions.
    pub fn new(now: Instant, config: Config, mut entropy: Box<dyn Entropy>) -> Self {
        let Config { usage, key, group_key, boot, unix, ratchet, ciphers } = config;
        let addr = key.public().addr();
        let keys = LocalKeys::new(now, unix, boot, key, group_key, &mut entropy);
        let guard = Guard::new(now, &mut entropy);
        Self {
            usage,
            addr,
            group_key: group_key.map(Zeroizing::new),
            ratchet,
            ciphers,
            keys,
            clock: (now, unix),
            entropy,
            own_secrets: vec![Secret::new(&addr, None)],
            sessions: HashMap::default(),
            indices: HashMap::default(),
            remotes: HashMap::new(),
            outgoing: HashMap::default(),
            waiting: Waiting::default(),
            records: Records::default(),
            sets: Sets::new(),
            fragments: Fragments::default(),
            guard,
            replays: Memory::default(),
            timers: Timers::new(),
            counters: Counters::default(),
            number: 0,
            generation: 0,
            shared: None,
            most_sessions: SESSIONS,
            buffer: BytesMut::new(),
        }
    }

    /// The local address.
    pub fn addr(&self) -> Addr {
        self.addr
    }

    /// Digest of the local key record, for the routing protocol to vouch for.
    pub fn record_digest(&self) -> [u8; 32] {
        self.keys.current().record.digest
    }

    /// The wall clock was set, or is told again: `unix` seconds at `now`.
    pub fn set_clock(&mut self, now: Instant, unix: u64) {
        self.clock = (now, unix);
        // A record that was made before the clock was right would be refused by everybody.
        if !self.keys.current().record.fits(unix) {
            self.keys.rotate(now, unix, &mut self.entropy);
        }
    }

    /// Link tokens under which this side answers, besides none; at most 16 are kept.
    pub fn set_tokens(&mut self, tokens: &[[u8; 32]]) {
        self.own_secrets.truncate(1);
        self.own_secrets.extend(tokens.iter().take(TOKENS).map(|token| Secret::new(&self.addr, Some(token))));
    }

    /// Starts a handshake unless one to the same remote and plane and place is under way; with a session up to that
    /// remote and plane, makes a second one that replaces it once up. Retransmits with growing pauses; gives up after 10 s.
    pub fn connect(&mut self, now: Instant, connect: Connect<P>, out: &mut Vec<Event<P>>) {
        self.connect_early(now, connect, Bytes::new(), out);
    }

    /// As [`Endpoint::connect`], end to end with an `early` payload of at most 4,096 bytes (a longer one is not sent
    /// early, but in a frame once the session is up). The first message carries it, without full forward secrecy.
    pub fn connect_early(
        &mut self,
        now: Instant,
        connect: Connect<P>,
        early: Bytes,
        out: &mut Vec<Event<P>>,
    ) {
        let Connect { remote, place, token, digest } = connect;
        if remote == self.addr {
            out.push(Event::Failed { remote, place, why: CloseReason::Identity });
            return;
        }
        // One inside a session does not count: that session may be dead.
        let known = |attempt: &Outgoing<P>| {
            attempt.remote == remote && attempt.place == place && attempt.route.via.is_none()
        };
        if self.outgoing.values().any(known) {
            return;
        }
        let secret = place.masked().then(|| Secret::new(&remote, token.as_ref()));
        self.begin(now, remote, Route { place, secret, via: None }, digest, early, out);
    }

    /// The session to use towards `remote` in `plane`, if one is up.
    pub fn session(&self, remote: &Addr, plane: u8) -> Option<SessionId> {
        self.remotes.get(&(*remote, plane))?.first().copied()
    }

    /// Seals `payload` (0 to 65,535 bytes) and sends it to the session's place, in fragments if need be.
    ///
    /// A session that a newer one has replaced still serves as a name for it while it lasts.
    pub fn send(
        &mut self,
        now: Instant,
        session: SessionId,
        kind: FrameKind,
        payload: &[u8],
        out: &mut Vec<Event<P>>,
    ) -> Result<(), SendError> {
        if payload.len() > crate::fragment::LONGEST {
            return Err(SendError::TooLong);
        }
        let id = self.in_use(session).ok_or(SendError::Gone)?;
        let (session, mut sealing) = self.sealing(now, id, out).ok_or(SendError::Gone)?;
        session.send(&mut sealing, kind as u8, payload).map_err(|_| SendError::Gone)?;
        session.count_sent(now);
        if session.wants_rekey(now) {
            self.rekey(now, id, out);
        }
        Ok(())
    }

    /// Largest payload that goes into one frame of this session.
    pub fn payload_mtu(&self, session: SessionId) -> Option<usize> {
        Some(self.sessions.get(&self.in_use(session)?)?.room())
    }

    /// Where frames of the session go now.
    pub fn place(&self, session: SessionId) -> Option<&P> {
        Some(&self.sessions.get(&self.in_use(session)?)?.place)
    }

    /// Moves the session to another place that the caller knows to be good.
    pub fn set_place(&mut self, session: SessionId, place: P) {
        if let Some(session) = self.in_use(session).and_then(|id| self.sessions.get_mut(&id))
            && session.plane == place.plane()
        {
            session.roam.take_if(|roam| roam.place == place);
            // Places that are equal may differ all the same, such as in the length that they carry.
            session.place = place;
            self.generation += 1;
        }
    }

    /// Takes bytes that came from `place`, which may be hostile. Opens in place where it can.
    pub fn handle(&mut self, now: Instant, place: P, mut bytes: BytesMut, out: &mut Vec<Event<P>>) {
        let Some(first) = bytes.first_chunk().copied().map(u32::from_le_bytes) else {
            self.counters.malformed += 1;
            return;
        };
        match self.indices.get(&first).copied() {
            Some(Owner::Session(session)) => return self.handle_frame(now, session, place, bytes, out),
            Some(Owner::Waiting(id)) if self.usage == Use::EndToEnd => {
                if self.hear_first_frame(now, id, place.plane(), &bytes, out)
                    && let Some(Owner::Session(session)) = self.indices.get(&first).copied()
                {
                    self.handle_frame(now, session, place, bytes, out);
                }
                return;
            }
            _ => {}
        }
        let via = if place.masked() {
            let Some(via) = self.unmask(place.clone(), &mut bytes) else {
                self.counters.unknown += 1;
                return;
            };
            via
        } else {
            Via::Clear(Route { place: place.clone(), secret: None, via: None })
        };
        self.handle_message(now, place, &via, &bytes, out);
    }

    /// Ends a session and tells the remote. All sessions with that remote in that plane end with it.
    pub fn close(&mut self, now: Instant, session: SessionId, out: &mut Vec<Event<P>>) {
        let Some(known) = self.sessions.get(&session) else { return };
        let mut all = self.remotes.get(&(known.remote, known.plane)).cloned().unwrap_or_default();
        for id in &all {
            if let Some(session) = self.sessions.get_mut(id) {
                session.pending = false;
            }
        }
        // The one that the user goes by ends last, so that nothing is told but its end.
        all.sort_by_key(|id| self.sessions.get(id).is_some_and(|session| session.told));
        for id in all {
            if let Some((session, mut sealing)) = self.sealing(now, id, out) {
                let place = session.place.clone();
                // Without counters left there is nobody to tell; the remote finds out by silence.
                let _ = session.seal(&mut sealing, &place, frame::CLOSE, 0, [&[], &[]]);
            }
            self.end(now, id, CloseReason::Local, out);
        }
    }

    /// Forgets handshakes to `remote`.
    pub fn cancel(&mut self, remote: &Addr) {
        let ids: Vec<u64> = self
            .outgoing
            .iter()
            .filter(|(_, attempt)| attempt.remote == *remote)
            .map(|(id, _)| *id)
            .collect();
        for id in ids {
            self.forget_outgoing(id);
        }
    }

    /// Does what is due at `now`.
    pub fn heartbeat(&mut self, now: Instant, out: &mut Vec<Event<P>>) {
        while let Some((at, timer)) = self.timers.pop(now) {
            match timer {
                Timer::Session(id) => {
                    if let Some(session) = self.sessions.get_mut(&id)
                        && session.timer == Some(at)
                    {
                        session.timer = None;
                        self.tend_session(now, id, out);
                    }
                }
                Timer::Outgoing(id) => {
                    if let Some(attempt) = self.outgoing.get_mut(&id)
                        && attempt.timer == Some(at)
                    {
                        attempt.timer = None;
                        self.tend_outgoing(now, id, out);
                    }
                }
            }
        }
        self.expire_waiting(now);
        self.sets.expire(now);
        self.fragments.expire(now);
        if self.keys.due() <= now {
            let unix = self.unix(now);
            self.keys.rotate(now, unix, &mut self.entropy);
            let keys = &self.keys;
            self.replays.keep(|version| keys.has_version(version));
        }
    }

    /// When [`Endpoint::heartbeat`] should be called next, if ever.
    pub fn next_heartbeat(&self) -> Option<Instant> {
        let dues = [
            self.timers.next(),
            self.waiting.due(),
            self.sets.due(),
            self.fragments.due(),
            Some(self.keys.due()),
        ];
        dues.into_iter().flatten().min()
    }

    /// Sessions, for people to look at.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        let mut sessions: Vec<_> = self.sessions.values().map(Session::status).collect();
        sessions.sort_by_key(|status| status.session);
        sessions
    }

    /// What was counted with `remote` in `plane` since there last was no session.
    pub fn tally(&self, remote: &Addr, plane: u8) -> Tally {
        let mut tally = Tally::default();
        for id in self.remotes.get(&(*remote, plane)).into_iter().flatten() {
            tally.add(self.sessions.get(id).map(|session| session.tally).unwrap_or_default());
        }
        tally
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters;
        for session in self.sessions.values() {
            counters.sealed += session.outbound.sent().frames;
            counters.opened += session.inbound.received().frames;
        }
        counters
    }

    fn unix(&self, now: Instant) -> u64 {
        self.clock.1.saturating_add(now.saturating_duration_since(self.clock.0).as_secs())
    }

    fn group_key(&self) -> Option<&[u8; 32]> {
        self.group_key.as_deref()
    }

    fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// A random index that nobody has: an outsider cannot guess which sessions there are.
    fn new_index(&mut self, owner: Owner) -> u32 {
        loop {
            let index = self.entropy.next_u32();
            let is_free = || self.shared.as_ref().is_none_or(|(shared, tag)| shared.claim(index, *tag));
            if index >= FIRST_INDEX && !self.indices.contains_key(&index) && is_free() {
                self.indices.insert(index, owner);
                return index;
            }
        }
    }

    fn free_index(&mut self, index: u32) {
        self.indices.remove(&index);
        if let Some((shared, _)) = &self.shared {
            shared.free(index);
        }
    }
}

/// Numbers that are random or in sequence need no strong hash.
type Numbered = BuildHasherDefault<NumberHasher>;

#[derive(Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }
}
