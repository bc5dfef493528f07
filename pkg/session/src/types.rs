//! The types that users of an [`Endpoint`](crate::Endpoint) meet.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, SigningKey};

/// Where bytes come from and go to, as far as the caller is concerned: a link's remote end, or a way through the network.
pub trait Place: Clone + Debug + PartialEq + Eq + Hash {
    /// Sources that share this key share rate limits (IPv4 /32, IPv6 /64). `None`: sources have no meaning here
    /// (tor, i2p, overlay), so a puzzle replaces the cookie under load.
    fn rate_key(&self) -> Option<u64>;

    /// Longest datagram that fits from here, in bytes.
    fn mtu(&self) -> usize;

    /// Plane byte for the head of m1; links: 0. A session belongs to two addresses and this plane.
    fn plane(&self) -> u8;

    /// Whether handshakes are masked (bare udp and everything else that a stranger can send to).
    fn masked(&self) -> bool;

    /// The same kind of place, but at `remote`: where an answer goes when all that is known of the asker is the address
    /// it told. Places that can always be answered need not care.
    #[must_use]
    fn with_remote(&self, remote: Addr) -> Self {
        let _ = remote;
        self.clone()
    }
}

/// Which handshake an endpoint speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// One hop: `Noise_XKpsk2`.
    Link,
    /// End to end: `Noise_IKpsk0+psk2`.
    EndToEnd,
}

/// What an endpoint is made from.
pub struct Config {
    /// Links or end-to-end sessions.
    pub usage: Use,
    /// The local identity.
    pub key: SigningKey,
    /// Group key of a closed network.
    pub group_key: Option<[u8; 32]>,
    /// Grows at each start (Unix milliseconds).
    pub boot: u64,
    /// The wall clock at `now`, in Unix seconds; see [`crate::Endpoint::set_clock`].
    pub unix: u64,
    /// Time between key ratchets; 120 s but in tests.
    pub ratchet: Duration,
    /// Which ciphers frames may have besides ChaCha20-Poly1305.
    pub ciphers: Ciphers,
}

/// Which ciphers are used besides ChaCha20-Poly1305, where the other side says the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ciphers {
    /// AES-256-GCM: this machine has AES in hardware.
    pub aes: bool,
    /// AEGIS-128L, before all others: it is wanted, and this machine has AES in hardware (on x86 with AVX). Without it,
    /// this must be off: nothing else stands in.
    pub aegis: bool,
}

impl Ciphers {
    /// AES in hardware, and no extra.
    pub const AES: Self = Self { aes: true, aegis: false };
}

/// How to reach somebody.
#[derive(Clone, Debug)]
pub struct Connect<P> {
    /// Who.
    pub remote: Addr,
    /// Where.
    pub place: P,
    /// A link token that came with the endpoint.
    pub token: Option<[u8; 32]>,
    /// Digest of the target's record, if the network vouched for one.
    pub digest: Option<[u8; 32]>,
}

/// One session of an [`crate::Endpoint`]; never reused while the endpoint lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What a sealed frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum FrameKind {
    /// An IPv6 packet (end to end).
    Packet = 0,
    /// A message (end to end), or a network's frame (link).
    Message = 1,
    /// Reserved to the user of the session: liveness, round trips, windows, greetings.
    Control = 2,
}

/// What an endpoint wants done, or tells.
#[derive(Debug)]
pub enum Event<P> {
    /// Send these bytes to `place`.
    Transmit {
        /// Where to.
        place: P,
        /// What; at most the place's MTU.
        bytes: Bytes,
    },
    /// A session is up and may be used.
    ///
    /// A newer session with the same remote and plane replaces an older one without a [`Event::Down`] between. The one told of
    /// last is there until `Down` names it; should it end before an older one, that older one is told of again.
    Up {
        /// Which.
        session: SessionId,
        /// With whom.
        remote: Addr,
        /// Where its frames go.
        place: P,
        /// Whether this side began.
        initiator: bool,
    },
    /// A payload came in: whole, authentic, once.
    Received {
        /// In which session; it may be one that has been replaced.
        session: SessionId,
        /// From whom.
        remote: Addr,
        /// Where its (last) frame came from.
        place: P,
        /// What it is.
        kind: FrameKind,
        /// Flags of its frame ([`crate::frame`]); 0 if it came in pieces.
        flags: u8,
        /// The payload.
        payload: Bytes,
    },
    /// An `early` payload of an end-to-end m1 came in, before the session is confirmed.
    Early {
        /// From whom.
        remote: Addr,
        /// Where an answer would go.
        place: P,
        /// The payload, at most 4,096 bytes.
        payload: Bytes,
    },
    /// The session has a new place (roaming, validated).
    Moved {
        /// Which.
        session: SessionId,
        /// The new place.
        place: P,
    },
    /// The session has ended, and no newer one to the same remote and plane replaces it.
    Down {
        /// Which.
        session: SessionId,
        /// With whom.
        remote: Addr,
        /// In which plane.
        plane: u8,
        /// Why.
        why: CloseReason,
    },
    /// A connect gave up.
    Failed {
        /// Whom it was to reach.
        remote: Addr,
        /// Where.
        place: P,
        /// Why.
        why: CloseReason,
    },
}

/// Why a session or a handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// The remote did not answer in time.
    #[error("no answer")]
    Timeout,
    /// We closed it.
    #[error("closed here")]
    Local,
    /// The remote closed it.
    #[error("closed by the other side")]
    Remote,
    /// Idle for ten minutes.
    #[error("idle")]
    Idle,
    /// The remote is not who it should be, or speaks another version.
    #[error("the other side could not show that it is who it should be")]
    Identity,
}

/// Why a payload was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// There is no such session any more.
    #[error("the session has ended")]
    Gone,
    /// Longer than 65,535 bytes.
    #[error("the payload is too long")]
    TooLong,
}

/// What an endpoint counted; each drop has a reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Frames sealed, by the endpoint or by others in its sessions.
    pub sealed: u64,
    /// Frames opened, by the endpoint or by others in its sessions.
    pub opened: u64,
    /// Handshakes started, as initiator or responder.
    pub handshakes: u64,
    /// Handshakes that became sessions.
    pub established: u64,
    /// Dropped: no session or handshake fits.
    pub unknown: u64,
    /// Dropped: does not open.
    pub forged: u64,
    /// Dropped: seen before, or too old.
    pub replayed: u64,
    /// Dropped: malformed inside.
    pub malformed: u64,
    /// Dropped or answered with a retry: load.
    pub overload: u64,
}

/// What was counted between two addresses in one plane, over all sessions that followed one another there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Handshakes that became sessions.
    pub established: u64,
    /// Of these, those made inside an older session, to renew its keys.
    pub renewed: u64,
    /// Dropped: names a session, but does not open.
    pub forged: u64,
    /// Dropped: seen before, or too old.
    pub replayed: u64,
    /// Dropped: malformed, before or after it was opened.
    pub malformed: u64,
}

/// A session, to be shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Which.
    pub session: SessionId,
    /// With whom.
    pub remote: Addr,
    /// In which plane.
    pub plane: u8,
    /// `AES-256-GCM`, `ChaCha20-Poly1305` or `AEGIS-128L`.
    pub cipher: &'static str,
    /// When the handshake ended.
    pub since: Instant,
    /// Payloads sent.
    pub sent: u64,
    /// Payloads received.
    pub received: u64,
    /// Handshakes and drops, with those of earlier sessions that ended and left it in use.
    pub tally: Tally,
}

impl Tally {
    /// Adds what `other` counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.established += other.established;
        self.renewed += other.renewed;
        self.forged += other.forged;
        self.replayed += other.replayed;
        self.malformed += other.malformed;
    }
}
