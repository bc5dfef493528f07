//! The receiving half of a session, shared by all that open in it: keys of two epochs, and a window for each.
//!
//! A frame is delivered at most once, whoever opens it. The receiver follows the sender to another epoch when a frame of
//! that one opens, and keeps the last key a little longer for what is late.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::Flow;
use crate::cipher::{Chain, Key};
use crate::flow::Meter;
use crate::frame::{HEAD, OVERHEAD, OpenError, Opened, PAYLOAD};
use crate::outbound::{COUNTERS, EPOCH_BITS};
use crate::window::Window;

/// How many epochs ahead a receiver looks.
const AHEAD: u64 = 16;
/// How long the last epoch's key still receives, with three round trips more.
const GRACE: Duration = Duration::from_secs(5);

/// The receiving half of a session: its keys and windows, behind one lock.
pub struct Inbound {
    receiver: Mutex<Receiver>,
    meter: Meter,
}

/// An [`Inbound`], locked: to be held for the frames that came together, and no longer.
pub struct Opening<'a>(MutexGuard<'a, Receiver>);

/// Keys and windows.
pub(crate) struct Receiver {
    current: Epoch,
    /// The epoch before, and until when.
    last: Option<(Epoch, Instant)>,
    rtt: Duration,
    has_ended: bool,
}

struct Epoch {
    number: u64,
    chain: Chain,
    key: Key,
    window: Window,
}

impl Inbound {
    pub(crate) fn new(now: Instant, rtt: Duration, chain: Chain) -> Self {
        Self { receiver: Mutex::new(Receiver::new(rtt, chain)), meter: Meter::new(now) }
    }

    /// Waits for its turn to open frames.
    pub fn lock(&self) -> Opening<'_> {
        // A receiver changes only after a frame opened, and then at once: a panic cannot leave half of it.
        Opening(self.receiver.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What was noted of it.
    pub fn received(&self) -> Flow {
        self.meter.flow()
    }

    /// Whoever opened payloads without the endpoint says so here, so that the session counts as used, and the remote as
    /// alive.
    pub fn note_received(&self, now: Instant, frames: u64, bytes: u64) {
        self.meter.note(now, frames, bytes);
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        self.meter.last()
    }

    /// Nothing opens from now on.
    pub(crate) fn end(&self) {
        self.lock().0.has_ended = true;
    }

    /// Wipes the last epoch's key when its time is over.
    pub(crate) fn wipe(&self, now: Instant) {
        self.lock().0.wipe(now);
    }

    /// When [`Inbound::wipe`] has something to do.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.lock().0.last.as_ref().map(|(_, until)| *until)
    }
}

impl Opening<'_> {
    /// Opens `frame` in place. After an error its bytes are of no use, but the session is as it was.
    pub fn open(&mut self, now: Instant, frame: &mut [u8]) -> Result<Opened, OpenError> {
        self.0.open(now, frame)
    }
}

impl Receiver {
    pub(crate) fn new(rtt: Duration, chain: Chain) -> Self {
        let key = chain.key();
        let current = Epoch { number: 0, chain, key, window: Window::new(0, None) };
        Self { current, last: None, rtt, has_ended: false }
    }

    pub(crate) fn open(&mut self, now: Instant, frame: &mut [u8]) -> Result<Opened, OpenError> {
        if self.has_ended {
            return Err(OpenError::Ended);
        }
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
            self.last = Some((before, now + GRACE + 3 * self.rtt));
            self.current.window.mark(now, counter);
            return parse(counter, sealed, length);
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
        parse(counter, sealed, length)
    }

    fn wipe(&mut self, now: Instant) {
        if self.last.as_ref().is_some_and(|(_, until)| *until <= now) {
            self.last = None;
        }
    }
}

fn parse(counter: u64, body: &[u8], length: usize) -> Result<Opened, OpenError> {
    let [kind, flags, low, high, rest @ ..] = &body[..length] else { return Err(OpenError::Malformed) };
    let payload = usize::from(u16::from_le_bytes([*low, *high]));
    if payload > rest.len() {
        return Err(OpenError::Malformed);
    }
    Ok(Opened { counter, kind: *kind, flags: *flags, payload: PAYLOAD..PAYLOAD + payload })
}
