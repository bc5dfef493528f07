//! The sending half of a session, shared by all that seal in it.
//!
//! ```text
//!  take(n) ─► counter: one atomic add ─► n counters of one epoch ─► Sealer: that epoch's key ─► frames
//!                                   time, or no counters left: the next epoch, under a mutex
//! ```
//!
//! A counter is given out once, and sealed only with the key of its own epoch: a nonce that came twice would break the
//! cipher. What is taken and not used is lost, which the receiver's window does not mind. The upper part of a counter is
//! its epoch. The next epoch's key is made of the last one's by a hash, and the last one goes when nobody holds it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};

use crate::cipher::{Chain, Key};
use crate::flow::Meter;
use crate::{Flow, frame};

/// The lower part of a counter counts within an epoch.
pub(crate) const EPOCH_BITS: u32 = 24;
/// Nothing is sealed with this counter or a higher one.
pub(crate) const COUNTERS: u64 = 1 << 32;
/// A session has so many epochs, and no more.
pub(crate) const EPOCHS: u32 = (COUNTERS >> EPOCH_BITS) as u32;
/// Nothing is sealed in a session that is older.
pub(crate) const LIFE: Duration = Duration::from_secs(1800);
/// Most counters that are taken at a time.
const MOST: u32 = 64;

/// The sending half of a session: one counter and one chain of keys.
///
/// Any thread may take counters at any time, and no counter is given out twice.
pub struct Outbound {
    /// By which the remote names the session.
    index: u32,
    ratchet: Duration,
    /// When the session came up.
    since: Instant,
    /// The next counter; from [`COUNTERS`] on nothing is sealed.
    counter: AtomicU64,
    epoch: ArcSwap<Epoch>,
    /// Of the current epoch.
    chain: Mutex<Chain>,
    meter: Meter,
}

struct Epoch {
    number: u64,
    /// When it began.
    since: Instant,
    key: Key,
}

/// Counters in a row, and the key that they are used with.
///
/// To be used at once: while it lives, so does its epoch's key.
pub struct Sealer {
    epoch: Guard<Arc<Epoch>>,
    index: u32,
    next: u64,
    end: u64,
}

impl Outbound {
    pub(crate) fn new(now: Instant, ratchet: Duration, index: u32, chain: Chain) -> Self {
        let epoch = Epoch { number: 0, since: now, key: chain.key() };
        Self {
            index,
            ratchet,
            since: now,
            counter: AtomicU64::new(0),
            epoch: ArcSwap::from_pointee(epoch),
            chain: Mutex::new(chain),
            meter: Meter::new(now),
        }
    }

    /// Takes `count` (1 to 64) counters in a row, all of one epoch; moves to the next epoch when its time has come.
    ///
    /// `None`: the session has ended, is too old, or its counters are used up. The endpoint knows what to do then.
    pub fn take(&self, now: Instant, count: u32) -> Option<Sealer> {
        if now.saturating_duration_since(self.since) >= LIFE {
            return None;
        }
        let count = u64::from(count.clamp(1, MOST));
        let mut epoch = self.epoch.load();
        if now.saturating_duration_since(epoch.since) >= self.ratchet {
            self.advance(now, epoch.number + 1);
            epoch = self.epoch.load();
        }
        loop {
            let first = self.counter.fetch_add(count, Ordering::Relaxed);
            let end = first + count;
            if end > COUNTERS {
                return None;
            }
            let number = first >> EPOCH_BITS;
            // Some of them are of the next epoch: they are lost.
            if (end - 1) >> EPOCH_BITS != number {
                continue;
            }
            if number > epoch.number {
                self.advance(now, number);
            }
            if number != epoch.number {
                epoch = self.epoch.load();
            }
            // Another thread may have moved on since these were taken; then they are lost, for their key is gone.
            if number == epoch.number {
                return Some(Sealer { epoch, index: self.index, next: first, end });
            }
        }
    }

    /// What was noted of it.
    pub fn sent(&self) -> Flow {
        self.meter.flow()
    }

    /// Whoever sealed payloads without the endpoint says so here, so that the session counts as used.
    pub fn note_sent(&self, now: Instant, frames: u64, bytes: u64) {
        self.meter.note(now, frames, bytes);
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        self.meter.last()
    }

    /// Nothing is sealed from now on, but with counters that are taken already.
    pub(crate) fn end(&self) {
        self.counter.fetch_max(COUNTERS, Ordering::Relaxed);
    }

    /// Moves to epoch `number`, unless somebody did.
    fn advance(&self, now: Instant, number: u64) {
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = self.epoch.load().number;
        if current >= number {
            return;
        }
        // First the counters, so that none of the old epoch is given out once its key is gone.
        self.counter.fetch_max(number << EPOCH_BITS, Ordering::Relaxed);
        while current < number {
            *chain = chain.next();
            current += 1;
        }
        self.epoch.store(Arc::new(Epoch { number, since: now, key: chain.key() }));
    }
}

impl Sealer {
    /// How many counters are left.
    pub fn left(&self) -> usize {
        (self.end - self.next) as usize
    }

    /// Makes a whole frame of `frame`, whose payload, `payload` bytes long, stands at [`frame::PAYLOAD`] already: writes
    /// what is before it, zeroes what is behind it up to the tag, seals, and writes the tag. Gives the frame's counter.
    ///
    /// `None`, and no counter is used: none is left, or the lengths do not fit.
    pub fn seal(&mut self, kind: u8, flags: u8, payload: usize, frame: &mut [u8]) -> Option<u64> {
        let length = u16::try_from(payload).ok()?.to_le_bytes();
        if self.next >= self.end || frame.len() < payload + frame::OVERHEAD {
            return None;
        }
        let (front, tag) = frame.split_last_chunk_mut::<{ frame::TAG }>()?;
        let (head, body) = front.split_first_chunk_mut::<{ frame::HEAD }>()?;
        let counter = self.next;
        head[..4].copy_from_slice(&self.index.to_le_bytes());
        head[4..].copy_from_slice(&counter.to_le_bytes());
        body[..frame::INNER].copy_from_slice(&[kind, flags, length[0], length[1]]);
        body[frame::INNER + payload..].fill(0);
        self.next += 1;
        *tag = self.epoch.key.seal(counter, head, body)?;
        Some(counter)
    }
}
