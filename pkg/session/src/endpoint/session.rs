//! One session: its keys, its place, and the times at which something is due.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use byway_identity::Addr;

use super::Route;
use super::roam::Roam;
use crate::cipher::Cipher;
use crate::fragment;
use crate::handshake::Keys;
use crate::outbound::{EPOCHS, LIFE};
use crate::{Event, Inbound, OpenError, Opened, Outbound, Place, SessionId, SessionStatus, Tally, frame};

/// Without use for so long, a session is dropped.
const IDLE: Duration = Duration::from_secs(600);
/// A session in use makes its successor after so long, or when so many of its [`EPOCHS`] are over: with ratchets as rare as
/// usual the first comes first by far, and what is left of the others is for attempts that fail.
pub(super) const REKEY: Duration = Duration::from_secs(600);
const REKEY_EPOCHS: u32 = EPOCHS / 4 * 3;
/// The responder leaves the initiator so much time to begin with that.
const REKEY_PATIENCE: Duration = Duration::from_secs(20);
/// How recent use must be for a new handshake.
const REKEY_USE: Duration = Duration::from_secs(120);
/// How often an old session out of use is looked at: others may have begun to use it.
const REKEY_LOOK: Duration = Duration::from_secs(30);
/// A replaced session receives until nothing came in it for so long.
const LINGER: Duration = Duration::from_secs(30);
/// Frames are cut from pieces of memory of this size, so that few of them need one of their own.
const SLAB: usize = 16 * 1024;

pub(super) struct Session<P> {
    pub(super) id: SessionId,
    pub(super) remote: Addr,
    pub(super) plane: u8,
    pub(super) place: P,
    pub(super) initiator: bool,
    /// By which the remote names it to us.
    pub(super) index: u32,
    cipher: Cipher,
    pub(super) outbound: Arc<Outbound>,
    pub(super) inbound: Arc<Inbound>,
    /// A frame has been opened by the endpoint, so both sides have the session.
    pub(super) is_heard: bool,
    /// When its handshake began, and when it came up.
    pub(super) started: Instant,
    pub(super) since: Instant,
    used: Instant,
    heard: Instant,
    /// Another session with the same remote is in use.
    pub(super) replaced: bool,
    /// Not told of yet: this side began it, and has an older one to use until the remote shows that it has it too.
    pub(super) pending: bool,
    /// Of all sessions with this remote, the one that the user was told of last, and so goes by.
    pub(super) told: bool,
    /// Its handshake went inside an older session, without being asked for.
    pub(super) inside: bool,
    /// What the initiator says again until a frame comes.
    pub(super) flight: Option<Box<Flight<P>>>,
    pub(super) rekey_at: Instant,
    pub(super) roam: Option<Box<Roam<P>>>,
    /// Until then no other place is looked at.
    pub(super) settled: Instant,
    next_fragment: u32,
    sent: u64,
    received: u64,
    pub(super) tally: Tally,
    pub(super) timer: Option<Instant>,
}

/// The end of an initiator's handshake, which may get lost: m3 on links, a frame end to end.
pub(super) struct Flight<P> {
    pub(super) m3: Option<(Route<P>, Bytes)>,
    pub(super) next: Instant,
    pub(super) pause: Duration,
    pub(super) until: Instant,
}

/// What a handshake leaves for its session.
pub(super) struct Made<P> {
    pub(super) remote: Addr,
    pub(super) place: P,
    pub(super) initiator: bool,
    pub(super) index: u32,
    pub(super) peer_index: u32,
    pub(super) keys: Keys,
    pub(super) started: Instant,
    pub(super) rtt: Duration,
    pub(super) inside: bool,
}

/// What sealing needs of the endpoint.
pub(super) struct Sealing<'a, P> {
    pub(super) now: Instant,
    pub(super) buffer: &'a mut BytesMut,
    pub(super) sealed: &'a mut u64,
    pub(super) out: &'a mut Vec<Event<P>>,
}

/// The keys of the session are used up.
pub(super) struct Spent;

impl<P: Place> Session<P> {
    pub(super) fn new(now: Instant, id: SessionId, ratchet: Duration, made: Made<P>) -> Self {
        let Made { remote, place, initiator, index, peer_index, keys, started, rtt, inside } = made;
        let patience = if initiator { Duration::ZERO } else { REKEY_PATIENCE };
        Self {
            id,
            remote,
            plane: place.plane(),
            place,
            initiator,
            index,
            cipher: keys.cipher,
            outbound: Arc::new(Outbound::new(now, ratchet, peer_index, keys.send)),
            inbound: Arc::new(Inbound::new(now, rtt, keys.receive)),
            is_heard: false,
            started,
            since: now,
            used: now,
            heard: now,
            replaced: false,
            pending: false,
            told: false,
            inside,
            flight: None,
            rekey_at: now + REKEY.min(ratchet.saturating_mul(REKEY_EPOCHS)) + patience,
            roam: None,
            settled: now,
            next_fragment: 0,
            sent: 0,
            received: 0,
            tally: Tally::default(),
            timer: None,
        }
    }

    /// Most payload bytes of one frame.
    pub(super) fn room(&self) -> usize {
        self.place.mtu().saturating_sub(frame::OVERHEAD).min(fragment::LONGEST)
    }

    /// Seals a payload for the session's place, in pieces if need be.
    pub(super) fn send(&mut self, by: &mut Sealing<'_, P>, kind: u8, payload: &[u8]) -> Result<(), Spent> {
        let place = self.place.clone();
        let room = self.room();
        if payload.len() <= room {
            return self.seal(by, &place, kind, 0, [payload, &[]]);
        }
        let piece = room.saturating_sub(fragment::HEAD).max(1);
        let count = u16::try_from(payload.len().div_ceil(piece)).map_err(|_| Spent)?;
        let id = self.next_fragment;
        self.next_fragment = id.wrapping_add(1);
        for (index, bytes) in (0u16..).zip(payload.chunks(piece)) {
            let head = fragment::head(id, index, count);
            self.seal(by, &place, frame::FRAGMENT, kind, [&head, bytes])?;
        }
        Ok(())
    }

    /// Seals one frame for `place`.
    pub(super) fn seal(
        &mut self,
        by: &mut Sealing<'_, P>,
        place: &P,
        kind: u8,
        flags: u8,
        payload: [&[u8]; 2],
    ) -> Result<(), Spent> {
        let mut sealer = self.outbound.take(by.now, 1).ok_or(Spent)?;
        let length = payload[0].len() + payload[1].len();
        let padded = frame::padded(length + frame::OVERHEAD, place.mtu());
        by.buffer.clear();
        if by.buffer.capacity() < padded {
            by.buffer.reserve(padded.max(SLAB));
        }
        by.buffer.put_bytes(0, frame::PAYLOAD);
        by.buffer.put_slice(payload[0]);
        by.buffer.put_slice(payload[1]);
        by.buffer.put_bytes(0, padded - length - frame::PAYLOAD);
        sealer.seal(kind, flags, length, by.buffer).ok_or(Spent)?;
        *by.sealed += 1;
        by.out.push(Event::Transmit { place: place.clone(), bytes: by.buffer.split().freeze() });
        Ok(())
    }

    /// Opens a frame; the second value tells whether it was the first one.
    pub(super) fn open(&mut self, now: Instant, frame: &mut [u8]) -> Result<(Opened, bool), OpenError> {
        let opened = self.inbound.lock().open(now, frame)?;
        self.hear(now);
        Ok((opened, !std::mem::replace(&mut self.is_heard, true)))
    }

    /// A frame was opened, here or by others.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.flight = None;
    }

    /// A payload of the user went out.
    pub(super) fn count_sent(&mut self, now: Instant) {
        self.used = now;
        self.sent += 1;
    }

    /// A payload for the user came in.
    pub(super) fn count_received(&mut self, now: Instant) {
        self.used = now;
        self.received += 1;
    }

    /// When a payload last went out or came in, whoever sealed or opened it.
    fn used(&self) -> Instant {
        let others = [self.outbound.last(), self.inbound.last()];
        others.into_iter().flatten().fold(self.used, Instant::max)
    }

    /// When something last came in, or went out for the user.
    fn alive(&self) -> Instant {
        self.heard.max(self.used())
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        now >= self.used() + IDLE
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now >= self.since + LIFE
    }

    /// Whether it was replaced, and nothing comes in it any more.
    pub(super) fn is_left(&self, now: Instant) -> bool {
        self.replaced && now >= self.alive() + LINGER
    }

    pub(super) fn wants_rekey(&self, now: Instant) -> bool {
        !self.replaced && now >= self.rekey_at && now < self.used() + REKEY_USE
    }

    pub(super) fn wipe(&mut self, now: Instant) {
        self.inbound.wipe(now);
    }

    /// When something is due next. Others may use the session meanwhile without a word, so what is due then is asked
    /// again; and whether a handshake is due is looked at even when the session is out of use now.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let mut due = (self.since + LIFE).min(self.used() + IDLE);
        if self.replaced {
            due = due.min(self.alive() + LINGER);
        } else if now < self.rekey_at || now < self.used() + REKEY_USE {
            due = due.min(self.rekey_at.max(now));
        } else {
            due = due.min(now + REKEY_LOOK);
        }
        let others = [
            self.flight.as_ref().map(|flight| flight.next.min(flight.until)),
            self.inbound.due(),
            self.roam.as_ref().map(|roam| roam.due()),
        ];
        others.into_iter().flatten().fold(due, Instant::min)
    }

    pub(super) fn status(&self) -> SessionStatus {
        SessionStatus {
            session: self.id,
            remote: self.remote,
            plane: self.plane,
            cipher: self.cipher.name(),
            since: self.since,
            sent: self.sent + self.outbound.sent().frames,
            received: self.received + self.inbound.received().frames,
            tally: self.tally,
        }
    }
}
