//! Frames of one session: sealing, opening, and the ratchet of their keys.
//!
//! ```text
//! FRAME  receiver index u32 · counter u64 · AEAD(kind u8 · flags u8 · length u16 · payload · padding)
//! ```
//!
//! Little-endian; the first 12 bytes are the associated data, the nonce is zeros and the counter. A counter is used
//! once, so a frame is delivered at most once. Its upper part is the epoch: each has a key, made of the last one's by a
//! hash, and a window. A sender moves on with time or when the counters of an epoch are used up; a receiver follows when
//! a frame of a later epoch opens, and keeps the last key a little longer for what is late.

use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};

use crate::cipher::{Chain, Key, TAG};
use crate::window::Window;

/// Associated data: receiver index and counter.
pub(crate) const HEAD: usize = 12;
/// Kind, flags and length.
pub(crate) const INNER: usize = 4;
/// What a frame adds to its payload.
pub(crate) const OVERHEAD: usize = HEAD + INNER + TAG;

const EPOCH_BITS: u32 = 24;
/// Nothing is sealed with this counter or a higher one.
const COUNTERS: u64 = 1 << 32;
/// How many epochs ahead a receiver looks.
const AHEAD: u64 = 16;
/// Frames are cut from pieces of memory of this size, so that few of them need one of their own.
const SLAB: usize = 16 * 1024;
/// How long the last epoch's key still receives, with three round trips more.
const GRACE: Duration = Duration::from_secs(5);

/// Frame kinds on the wire.
pub(crate) mod kind {
    pub(crate) const PACKET: u8 = 0;
    pub(crate) const MESSAGE: u8 = 1;
    pub(crate) const CONTROL: u8 = 2;
    /// A piece of another frame, whose kind is in the flags.
    pub(crate) const FRAGMENT: u8 = 3;
    pub(crate) const CHALLENGE: u8 = 5;
    pub(crate) const HANDSHAKE: u8 = 6;
    pub(crate) const CLOSE: u8 = 8;
    /// Shows that the session works, and nothing else; like cover, dropped.
    pub(crate) const CONFIRM: u8 = 9;
}

/// The sending half.
pub(crate) struct Sender {
    chain: Chain,
    key: Key,
    epoch: u64,
    counter: u64,
    /// When the epoch began.
    since: Instant,
}

/// The receiving half.
pub(crate) struct Receiver {
    current: Epoch,
    /// The epoch before, and until when.
    last: Option<(Epoch, Instant)>,
}

struct Epoch {
    number: u64,
    chain: Chain,
    key: Key,
    window: Window,
}

/// What a frame held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// Where in the frame's bytes the payload is.
    pub(crate) payload: Range<usize>,
}

/// Why a frame did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenError {
    Malformed,
    Replayed,
    Forged,
}

impl Sender {
    pub(crate) fn new(now: Instant, chain: Chain) -> Self {
        let key = chain.key();
        Self { chain, key, epoch: 0, counter: 0, since: now }
    }

    /// Appends a frame with the payload `parts`, padded to `length` bytes in all, to `buffer`, which is empty. `None` when
    /// the counters are used up.
    #[expect(clippy::too_many_arguments, reason = "the fields of a frame")]
    pub(crate) fn seal(
        &mut self,
        now: Instant,
        ratchet: Duration,
        index: u32,
        kind: u8,
        flags: u8,
        parts: [&[u8]; 2],
        length: usize,
        buffer: &mut BytesMut,
    ) -> Option<()> {
        if now.saturating_duration_since(self.since) >= ratchet {
            self.counter = self.counter.max((self.epoch + 1) << EPOCH_BITS);
        }
        if self.counter >= COUNTERS {
            return None;
        }
        if self.counter >> EPOCH_BITS > self.epoch {
            self.advance(now);
        }
        let counter = self.counter;
        self.counter += 1;
        let payload = parts[0].len() + parts[1].len();
        let length = length.max(payload + OVERHEAD);
        if buffer.capacity() < length {
            buffer.reserve(length.max(SLAB));
        }
        buffer.put_u32_le(index);
        buffer.put_u64_le(counter);
        buffer.put_u8(kind);
        buffer.put_u8(flags);
        buffer.put_u16_le(u16::try_from(payload).ok()?);
        buffer.put_slice(parts[0]);
        buffer.put_slice(parts[1]);
        buffer.put_bytes(0, length - payload - OVERHEAD);
        let (head, body) = buffer.split_at_mut(HEAD);
        let tag = self.key.seal(counter, head, body)?;
        buffer.put_slice(&tag);
        Some(())
    }

    fn advance(&mut self, now: Instant) {
        self.epoch += 1;
        self.chain = self.chain.next();
        self.key = self.chain.key();
        self.since = now;
    }
}

impl Receiver {
    pub(crate) fn new(chain: Chain) -> Self {
        let key = chain.key();
        Self { current: Epoch { number: 0, chain, key, window: Window::new(0, None) }, last: None }
    }

    /// Opens `frame` in place. After an error its bytes are of no use, but the receiver is as it was.
    pub(crate) fn open(
        &mut self,
        now: Instant,
        rtt: Duration,
        frame: &mut [u8],
    ) -> Result<Opened, OpenError> {
        if frame.len() < OVERHEAD {
            return Err(OpenError::Malformed);
        }
        let (head, sealed) = frame.split_at_mut(HEAD);
        let counter = u64::from_le_bytes(head[4..].try_into().map_err(|_| OpenError::Malformed)?);
        let number = counter >> EPOCH_BITS;
        if counter >= COUNTERS {
            return Err(OpenError::Forged);
        }
        if number > self.current.number {
            let steps = number - self.current.number;
            if steps > AHEAD {
                return Err(OpenError::Forged);
            }
            let mut chain = self.current.chain.next();
            for _ in 1..steps {
                chain = chain.next();
            }
            let key = chain.key();
            let length = key.open(counter, head, sealed).ok_or(OpenError::Forged)?;
            let window = Window::new(number << EPOCH_BITS, Some(&self.current.window));
            let before = std::mem::replace(&mut self.current, Epoch { number, chain, key, window });
            self.last = Some((before, now + GRACE + 3 * rtt));
            self.current.window.mark(now, counter);
            return parse(sealed, length);
        }
        self.wipe(now);
        let epoch = match &mut self.last {
            Some((last, _)) if last.number == number => last,
            _ if self.current.number == number => &mut self.current,
            _ => return Err(OpenError::Replayed),
        };
        if epoch.window.seen(counter) {
            return Err(OpenError::Replayed);
        }
        let length = epoch.key.open(counter, head, sealed).ok_or(OpenError::Forged)?;
        epoch.window.mark(now, counter);
        parse(sealed, length)
    }

    /// Wipes the last epoch's key when its time is over.
    pub(crate) fn wipe(&mut self, now: Instant) {
        if self.last.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.last = None;
        }
    }

    /// When [`Receiver::wipe`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.last.as_ref().map(|(_, until)| *until)
    }
}

fn parse(body: &[u8], length: usize) -> Result<Opened, OpenError> {
    let [kind, flags, low, high, rest @ ..] = &body[..length] else { return Err(OpenError::Malformed) };
    let payload = usize::from(u16::from_le_bytes([*low, *high]));
    if payload > rest.len() {
        return Err(OpenError::Malformed);
    }
    let start = HEAD + INNER;
    Ok(Opened { kind: *kind, flags: *flags, payload: start..start + payload })
}
