//! SKELETON: signatures that `link` and `node` are written against.

use std::fmt::Debug;
use std::hash::Hash;
use std::time::{Duration, Instant};

use byway_identity::{Addr, Entropy, SigningKey};
use bytes::{Bytes, BytesMut};

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
    /// The wall clock at `now`, in Unix seconds; see [`Endpoint::set_clock`].
    pub unix: u64,
    /// Time between key ratchets; 120 s but in tests.
    pub ratchet: Duration,
    /// Whether AES-256-GCM is preferred (hardware AES) to ChaCha20-Poly1305.
    pub prefer_aes: bool,
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

/// One session of an [`Endpoint`]; never reused while the endpoint lives.
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
    Transmit { place: P, bytes: Bytes },
    /// A session is up and may be used; `initiator`: we dialled.
    Up { session: SessionId, remote: Addr, place: P, initiator: bool },
    /// A payload came in: whole, authentic, once.
    Received { session: SessionId, remote: Addr, place: P, kind: FrameKind, payload: Bytes },
    /// An `early` payload of an end-to-end m1 came in, before the session is confirmed.
    Early { remote: Addr, place: P, payload: Bytes },
    /// The session has a new place (roaming, validated).
    Moved { session: SessionId, place: P },
    /// The session has ended, and no newer one to the same remote and plane replaces it.
    Down { session: SessionId, remote: Addr, plane: u8, why: CloseReason },
    /// A connect gave up.
    Failed { remote: Addr, place: P, why: CloseReason },
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
    /// Frames sealed.
    pub sealed: u64,
    /// Frames opened.
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

/// A session, to be shown to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionStatus {
    /// Which.
    pub session: SessionId,
    /// With whom.
    pub remote: Addr,
    /// In which plane.
    pub plane: u8,
    /// `AES-256-GCM` or `ChaCha20-Poly1305`.
    pub cipher: &'static str,
    /// When the handshake ended.
    pub since: Instant,
    /// Payloads sent.
    pub sent: u64,
    /// Payloads received.
    pub received: u64,
}

/// All sessions and handshakes of one local identity.
pub struct Endpoint<P: Place> {
    _places: std::marker::PhantomData<P>,
}

impl<P: Place> Endpoint<P> {
    /// Bytes that a sealed frame adds to a payload which fits one frame.
    pub const OVERHEAD: usize = 32;

    /// An endpoint without sessions.
    pub fn new(_now: Instant, _config: Config, _entropy: Box<dyn Entropy>) -> Self {
        todo!()
    }

    /// Digest of the local key record, for the routing protocol to vouch for.
    pub fn record_digest(&self) -> [u8; 32] {
        todo!()
    }

    /// The wall clock was set, or is told again: `unix` seconds at `now`.
    pub fn set_clock(&mut self, _now: Instant, _unix: u64) {
        todo!()
    }

    /// Starts a handshake unless one to the same remote and plane and place is under way; with a session up to that
    /// remote and plane, makes a second one that replaces it once up. Retransmits with growing pauses; gives up after 10 s.
    pub fn connect(&mut self, _now: Instant, _connect: Connect<P>, _out: &mut Vec<Event<P>>) {
        todo!()
    }

    /// The session to use towards `remote` in `plane`, if one is up.
    pub fn session(&self, _remote: &Addr, _plane: u8) -> Option<SessionId> {
        todo!()
    }

    /// Seals `payload` (0 to 65,535 bytes) and sends it to the session's place, in fragments if need be.
    pub fn send(
        &mut self,
        _now: Instant,
        _session: SessionId,
        _kind: FrameKind,
        _payload: &[u8],
        _out: &mut Vec<Event<P>>,
    ) -> Result<(), SendError> {
        todo!()
    }

    /// Largest payload that goes into one frame of this session.
    pub fn payload_mtu(&self, _session: SessionId) -> Option<usize> {
        todo!()
    }

    /// Where frames of the session go now.
    pub fn place(&self, _session: SessionId) -> Option<&P> {
        todo!()
    }

    /// Moves the session to another place that the caller knows to be good.
    pub fn set_place(&mut self, _session: SessionId, _place: P) {
        todo!()
    }

    /// Takes bytes that came from `place`, which may be hostile. Opens in place where it can.
    pub fn handle(&mut self, _now: Instant, _place: P, _bytes: BytesMut, _out: &mut Vec<Event<P>>) {
        todo!()
    }

    /// Ends a session and tells the remote.
    pub fn close(&mut self, _now: Instant, _session: SessionId, _out: &mut Vec<Event<P>>) {
        todo!()
    }

    /// Forgets handshakes to `remote`.
    pub fn cancel(&mut self, _remote: &Addr) {
        todo!()
    }

    /// Does what is due at `now`.
    pub fn heartbeat(&mut self, _now: Instant, _out: &mut Vec<Event<P>>) {
        todo!()
    }

    /// When [`Endpoint::heartbeat`] should be called next, if ever.
    pub fn next_heartbeat(&self) -> Option<Instant> {
        todo!()
    }

    /// Sessions, for people to look at.
    pub fn sessions(&self) -> Vec<SessionStatus> {
        todo!()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        todo!()
    }
}
