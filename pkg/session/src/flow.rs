//! What went through one half of a session, counted by those that share it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the sharers of one half of a session have noted; what the endpoint itself sealed or opened is not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Frames.
    pub frames: u64,
    /// Bytes of their payloads, or of the frames: what whoever noted them counts.
    pub bytes: u64,
    /// When last, if ever.
    pub last: Option<Instant>,
}

/// A [`Flow`] that several threads add to.
pub(crate) struct Meter {
    base: Instant,
    frames: AtomicU64,
    bytes: AtomicU64,
    /// Nanoseconds after `base`, and one; 0: never.
    last: AtomicU64,
}

impl Meter {
    pub(crate) fn new(base: Instant) -> Self {
        Self { base, frames: AtomicU64::new(0), bytes: AtomicU64::new(0), last: AtomicU64::new(0) }
    }

    pub(crate) fn note(&self, now: Instant, frames: u64, bytes: u64) {
        self.frames.fetch_add(frames, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let since = now.saturating_duration_since(self.base).as_nanos();
        let last = u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1);
        self.last.fetch_max(last, Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Option<Instant> {
        let last = self.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.base + Duration::from_nanos(last))
    }

    pub(crate) fn flow(&self) -> Flow {
        Flow {
            frames: self.frames.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            last: self.last(),
        }
    }
}
