//! How long a frame may be on the path to one place: path MTU discovery by probes alone, after RFC 8899 (DPLPMTUD).
//!
//! ```text
//!             a probe longer than BASE is answered
//!  ┌──────────────────────────────────────────────┐
//!  │                                              ▼       nothing more to gain
//! start ── the longest is lost ──► Base ──► Searching ─────────────────────► Complete
//!                                   │  ▲        ▲                             │    │
//!                          BASE lost│  │        └──── every 10 minutes ───────┘    │
//!                                   ▼  └──── black hole: what was in use is lost ──┘
//!                                 Error: a length below BASE is sought, BASE again every minute
//! ```
//!
//! A length is ruled out when [`PROBES_MAX`] probes of it in a row bring no answer, or the own machine says that such a frame
//! cannot leave. ICMP is not asked and not believed. Lengths that common tunnels leave are tried first, halving their
//! number with each; then the gap between what passes and what does not is halved until it is [`FINE`] bytes.

use std::time::{Duration, Instant};

/// Looks for the longest frame of one path.
#[derive(Debug)]
pub(crate) struct PathLength {
    /// What the transport carries there.
    ceiling: u16,
    /// Whether there is anything to look for: not on streams, and not where the transport carries little.
    seeks: bool,
    /// The longest frame that is known, or for want of knowledge held, to pass.
    length: u16,
    phase: Phase,
    /// Always there, but in [`Phase::Complete`] only while the length is confirmed.
    trial: Option<Trial>,
    /// Long frames were sent since the last confirmation.
    in_use: bool,
    confirmed_at: Instant,
    check_at: Instant,
    raise_at: Instant,
}

/// Where the search stands. What is sought is below `high`; `fresh`: the length just below it has not been tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Whether [`BASE`] passes is asked; if it does, the search goes on.
    Base { high: u16, fresh: bool },
    /// Longer frames than the present are tried. `sure`: something was answered, so [`BASE`] passes.
    Searching { high: u16, fresh: bool, sure: bool },
    /// Nothing to try until a timer says so.
    Complete,
    /// [`BASE`] does not pass: a shorter length is sought.
    Error { high: u16 },
}

/// A length that is being tried.
#[derive(Clone, Copy, Debug)]
struct Trial {
    length: u16,
    sent: usize,
    /// Of the probes sent so far: a late answer counts as well.
    numbers: [u32; PROBES_MAX],
    until: Instant,
}

/// What nearly every path carries, handshakes included.
pub(crate) const BASE: u16 = 1_200;
/// What is held to pass where not even that does: IPv4's least, without headers.
const LEAST: u16 = 548;
/// What common paths carry: IPv6's least over IPv6 and over IPv4, then WireGuard's, VXLAN, and PPPoE over both.
const COMMON: [u16; 7] = [1_232, 1_252, 1_372, 1_392, 1_422, 1_444, 1_464];
/// A gap that is not worth another probe.
const FINE: u16 = 16;
const PROBES_MAX: usize = 3;
/// How often what is in use is confirmed.
const CHECK: Duration = Duration::from_secs(15);
/// Least time between confirmations out of suspicion.
const DOUBT: Duration = Duration::from_secs(1);
const RAISE: Duration = Duration::from_secs(600);
/// The same below [`BASE`], where no link should have to stay.
const RAISE_ERROR: Duration = Duration::from_secs(60);

impl PathLength {
    /// A path whose transport carries `ceiling` bytes at most. Reliable streams need no search.
    pub(crate) fn new(now: Instant, ceiling: u16, lossy: bool) -> Self {
        let seeks = lossy && ceiling > BASE;
        let mut path = Self {
            ceiling,
            seeks,
            length: if seeks { BASE } else { ceiling },
            phase: Phase::Complete,
            trial: None,
            in_use: false,
            confirmed_at: now,
            check_at: now + CHECK,
            raise_at: now + RAISE,
        };
        if seeks {
            path.enter(now, Phase::Searching { high: ceiling.saturating_add(1), fresh: true, sure: false });
        }
        path
    }

    /// The longest frame to send.
    pub(crate) fn length(&self) -> u16 {
        self.length
    }

    /// A frame of `length` bytes was sent: if it is long, it is worth confirming that such still pass.
    pub(crate) fn used(&mut self, length: usize) {
        self.in_use |= length > usize::from(LEAST);
    }

    /// What was sent brings nothing back. If it was long, a black hole may have opened.
    pub(crate) fn doubt(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.confirmed_at);
        if self.in_use && self.trial.is_none() && since >= DOUBT {
            self.check_at = self.check_at.min(now);
        }
    }

    /// The other end answers again after a silence, in which lost probes meant nothing.
    pub(crate) fn resumed(&mut self, now: Instant) {
        if !self.seeks {
            return;
        }
        self.trial = None;
        match self.phase {
            Phase::Complete => {
                self.in_use = true;
                self.check_at = now;
            }
            Phase::Base { .. } | Phase::Searching { .. } | Phase::Error { .. } => {
                self.length = self.length.max(BASE);
                let sure = self.length > BASE;
                self.enter(now, Phase::Searching { high: self.ceiling.saturating_add(1), fresh: true, sure });
            }
        }
    }

    /// The length of a probe that is due, if one is; the caller then says [`Self::probed`].
    pub(crate) fn poll(&mut self, now: Instant) -> Option<u16> {
        // Each turn rules a length out, or begins a trial, which ends the loop.
        loop {
            let Some(trial) = self.trial else {
                self.wake(now)?;
                continue;
            };
            if now < trial.until {
                return None;
            }
            if trial.sent < PROBES_MAX {
                return Some(trial.length);
            }
            self.ruled_out(now, trial.length);
        }
    }

    /// The probe that was due left at `now` with this number; its answer is awaited for `patience`.
    pub(crate) fn probed(&mut self, now: Instant, number: u32, patience: Duration) {
        if let Some(trial) = &mut self.trial
            && let Some(place) = trial.numbers.get_mut(trial.sent)
        {
            *place = number;
            trial.sent += 1;
            trial.until = now + patience;
        }
    }

    /// An answer came; true if the length changed.
    pub(crate) fn answered(&mut self, now: Instant, number: u32) -> bool {
        let Some(trial) = self.trial.filter(|trial| trial.numbers[..trial.sent].contains(&number)) else {
            return false;
        };
        let changed = self.length != trial.length;
        self.length = trial.length;
        self.confirmed_at = now;
        let next = match self.phase {
            Phase::Base { high, fresh } => Phase::Searching { high, fresh, sure: true },
            Phase::Searching { high, .. } => Phase::Searching { high, fresh: false, sure: true },
            phase @ (Phase::Error { .. } | Phase::Complete) => phase,
        };
        self.enter(now, next);
        changed
    }

    /// When something is due next, if ever.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.trial {
            Some(trial) => Some(trial.until),
            None => {
                let check = (self.seeks && self.in_use).then_some(self.check_at);
                let raise = (self.seeks && self.length < self.ceiling).then_some(self.raise_at);
                [check, raise].into_iter().flatten().min()
            }
        }
    }

    /// Begins what a timer asks for; `None` if nothing is due.
    fn wake(&mut self, now: Instant) -> Option<()> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        if self.in_use && self.check_at <= now {
            self.in_use = false;
            self.check_at = now + CHECK;
            self.begin(now, self.length);
            return Some(());
        }
        let high = self.ceiling.saturating_add(1);
        let phase = if self.length < BASE {
            Phase::Base { high, fresh: true }
        } else {
            Phase::Searching { high, fresh: true, sure: true }
        };
        self.enter(now, phase);
        Some(())
    }

    /// Goes on in `phase`, with its next length if there is one.
    fn enter(&mut self, now: Instant, phase: Phase) {
        self.trial = None;
        self.phase = phase;
        let next = match phase {
            Phase::Base { .. } => Some(BASE),
            Phase::Searching { high, fresh, .. } => between(self.length, high, fresh),
            Phase::Error { high } => between(self.length, high, false),
            Phase::Complete => return,
        };
        match next {
            Some(length) => self.begin(now, length),
            None => {
                self.phase = Phase::Complete;
                self.raise_at = now + if self.length < BASE { RAISE_ERROR } else { RAISE };
                self.check_at = now + CHECK;
            }
        }
    }

    fn begin(&mut self, now: Instant, length: u16) {
        self.trial = Some(Trial { length, sent: 0, numbers: [0; PROBES_MAX], until: now });
    }

    /// Frames of `length` bytes, which were being tried, do not pass.
    fn ruled_out(&mut self, now: Instant, length: u16) {
        let next = match self.phase {
            Phase::Searching { sure: true, .. } => {
                Phase::Searching { high: length, fresh: false, sure: true }
            }
            // Does anything?
            Phase::Searching { sure: false, .. } => Phase::Base { high: length, fresh: false },
            Phase::Complete if length > BASE => {
                self.length = BASE;
                // It may have been bad luck: the length that was in use is the first to be tried again.
                Phase::Base { high: length + 1, fresh: true }
            }
            Phase::Base { .. } | Phase::Complete => {
                if self.length >= length {
                    self.length = LEAST;
                }
                Phase::Error { high: length }
            }
            Phase::Error { .. } => Phase::Error { high: length },
        };
        self.enter(now, next);
    }
}

/// The next length to try above `low`, which passes, and below `high`, which does not or is not sought.
fn between(low: u16, high: u16, fresh: bool) -> Option<u16> {
    if fresh && low + 1 < high {
        return Some(high - 1);
    }
    let common: Vec<u16> = COMMON.into_iter().filter(|common| low < *common && *common < high).collect();
    match common.get(common.len() / 2) {
        Some(common) => Some(*common),
        None => (high - low > FINE).then_some(low + (high - low) / 2),
    }
}

#[cfg(test)]
mod tests;
