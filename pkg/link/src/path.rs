//! How long a frame may be on the path to one place.
//!
//! A small form of RFC 8899: a link starts with a length that every path carries, and sends probes of full length, then
//! of what common tunnels leave. Three probes lost in a row rule a length out. What was found is checked again while long
//! frames are in use, and from time to time a longer one is tried, since paths change.

use std::time::{Duration, Instant};

/// Looks for the longest frame of one path.
#[derive(Debug)]
pub(crate) struct PathLength {
    ceiling: u16,
    length: u16,
    state: State,
    raise_at: Instant,
    long_frames: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is under way until then.
    Rest { until: Instant },
    /// `length` is tried; `number`: the probe under way.
    Try { length: u16, tries: u8, number: Option<u32>, until: Instant },
}

/// What every path carries.
pub(crate) const BASE: u16 = 1_200;
/// Lengths below the full one that are worth a try: PPPoE, tunnels in tunnels, and IPv6's least.
const COMMON: [u16; 5] = [1_444, 1_400, 1_352, 1_280, 1_232];
const TRIES: u8 = 3;
const CHECK: Duration = Duration::from_secs(15);
const RAISE: Duration = Duration::from_secs(600);

impl PathLength {
    /// A path whose transport carries `ceiling` bytes at most. Reliable streams need no search.
    pub(crate) fn new(now: Instant, ceiling: u16, lossy: bool) -> Self {
        if !lossy || ceiling <= BASE {
            return Self {
                ceiling,
                length: ceiling,
                state: State::Rest { until: now + RAISE },
                raise_at: now + RAISE,
                long_frames: false,
            };
        }
        let state = State::Try { length: ceiling, tries: 0, number: None, until: now };
        Self { ceiling, length: BASE, state, raise_at: now + RAISE, long_frames: false }
    }

    /// The longest frame that is known to pass.
    pub(crate) fn length(&self) -> u16 {
        self.length
    }

    /// A frame of the greatest length was sent: worth checking that such still pass.
    pub(crate) fn used(&mut self, length: usize) {
        self.long_frames |= length > usize::from(BASE);
    }

    /// The length of a probe that is due, if one is; the caller then says [`Self::probed`].
    pub(crate) fn poll(&mut self, now: Instant) -> Option<u16> {
        match self.state {
            State::Rest { until } if until <= now => {
                if self.length < self.ceiling && self.raise_at <= now {
                    self.raise_at = now + RAISE;
                    self.state = State::Try { length: self.ceiling, tries: 0, number: None, until: now };
                } else if self.length > BASE && self.long_frames {
                    self.long_frames = false;
                    self.state = State::Try { length: self.length, tries: 0, number: None, until: now };
                } else {
                    self.state = State::Rest { until: now + CHECK };
                    return None;
                }
                self.poll(now)
            }
            State::Try { length, tries, until, .. } if until <= now => {
                if tries < TRIES {
                    return Some(length);
                }
                self.length = if length <= self.length { BASE } else { self.length };
                match COMMON.into_iter().find(|common| *common < length && *common > self.length) {
                    Some(length) => {
                        self.state = State::Try { length, tries: 0, number: None, until: now };
                        Some(length)
                    }
                    None => {
                        self.state = State::Rest { until: now + CHECK };
                        None
                    }
                }
            }
            State::Rest { .. } | State::Try { .. } => None,
        }
    }

    /// The probe that was due left at `now` with this number; its answer is awaited for `patience`.
    pub(crate) fn probed(&mut self, now: Instant, number: u32, patience: Duration) {
        if let State::Try { tries, number: under_way, until, .. } = &mut self.state {
            *tries += 1;
            *under_way = Some(number);
            *until = now + patience;
        }
    }

    /// An answer came; true if the length changed.
    pub(crate) fn answered(&mut self, now: Instant, number: u32) -> bool {
        match self.state {
            State::Try { length, number: Some(under_way), .. } if under_way == number => {
                let changed = self.length != length;
                self.length = length;
                self.state = State::Rest { until: now + CHECK };
                changed
            }
            State::Rest { .. } | State::Try { .. } => false,
        }
    }

    /// When something is due next.
    pub(crate) fn due(&self) -> Instant {
        match self.state {
            State::Rest { until } | State::Try { until, .. } => until,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    /// Runs the search for `seconds` on a path that carries `passes` bytes.
    fn run(path: &mut PathLength, from: Instant, seconds: u64, passes: u16) -> usize {
        let mut probes = 0;
        for tick in 0..seconds * 100 {
            let now = from + Duration::from_millis(tick * 10);
            path.used(1_400);
            if let Some(length) = path.poll(now) {
                path.probed(now, probes as u32, PATIENCE);
                if length <= passes {
                    path.answered(now, probes as u32);
                }
                probes += 1;
            }
        }
        probes
    }

    #[test]
    fn a_full_path_is_found_with_one_probe() {
        let start = Instant::now();
        let mut path = PathLength::new(start, 1_452, true);
        assert_eq!(path.length(), BASE);
        assert_eq!(run(&mut path, start, 1, 1_452), 1);
        assert_eq!(path.length(), 1_452);
    }

    #[test]
    fn a_narrow_path_gets_the_longest_common_length_that_passes() {
        for (passes, found) in [(1_444, 1_444), (1_399, 1_352), (1_232, 1_232), (1_100, BASE)] {
            let start = Instant::now();
            let mut path = PathLength::new(start, 1_452, true);
            let probes = run(&mut path, start, 10, passes);
            assert_eq!(path.length(), found);
            assert!(probes <= 18, "{probes}");
        }
    }

    #[test]
    fn a_path_that_narrows_is_noticed_and_one_that_widens_too() {
        let start = Instant::now();
        let mut path = PathLength::new(start, 1_452, true);
        run(&mut path, start, 60, 1_452);
        assert_eq!(path.length(), 1_452);
        run(&mut path, start + Duration::from_secs(60), 60, 1_300);
        assert_eq!(path.length(), 1_280);
        run(&mut path, start + Duration::from_secs(120), 700, 1_452);
        assert_eq!(path.length(), 1_452);
    }

    #[test]
    fn streams_and_short_transports_need_no_search() {
        let start = Instant::now();
        for (ceiling, lossy) in [(16_384, false), (1_000, true)] {
            let mut path = PathLength::new(start, ceiling, lossy);
            assert_eq!(path.length(), ceiling);
            assert_eq!(run(&mut path, start, 100, ceiling), 0);
        }
    }

    #[test]
    fn a_stale_answer_changes_nothing() {
        let start = Instant::now();
        let mut path = PathLength::new(start, 1_452, true);
        assert_eq!(path.poll(start), Some(1_452));
        path.probed(start, 7, PATIENCE);
        assert!(!path.answered(start, 6));
        assert_eq!(path.length(), BASE);
        assert!(path.answered(start, 7));
        assert!(!path.answered(start, 7));
    }
}
