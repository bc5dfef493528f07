//! Which counters of one key have been seen.
//!
//! A ring of bits below the highest counter. It begins with 1,024 and grows, up to 65,536, to what a busy path
//! brings in 150 ms, so that reordering within that time loses nothing. What lies before the window is seen.

use std::time::{Duration, Instant};

const SMALLEST: u64 = 1024;
const LARGEST: u64 = 65_536;
const SPAN: Duration = Duration::from_millis(150);

pub(crate) struct Window {
    bits: Box<[u64]>,
    /// One more than the highest counter seen.
    end: u64,
    /// Counters below it are seen, whatever the bits say: where a grown window knows nothing.
    start: u64,
    /// When the running measurement began, and where `end` was then.
    measured: Option<(Instant, u64)>,
}

impl Window {
    /// An empty window for counters from `start` on, of the size that `like` has grown to.
    pub(crate) fn new(start: u64, like: Option<&Self>) -> Self {
        let words = like.map_or(SMALLEST as usize / 64, |window| window.bits.len());
        Self { bits: vec![0; words].into(), end: start, start, measured: None }
    }

    fn size(&self) -> u64 {
        self.bits.len() as u64 * 64
    }

    fn place(&self, counter: u64) -> (usize, u64) {
        let bit = counter % self.size();
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    /// Whether `counter` has been seen, or is too old to tell.
    pub(crate) fn seen(&self, counter: u64) -> bool {
        if counter >= self.end {
            return false;
        }
        if counter < self.start || self.end - counter > self.size() {
            return true;
        }
        let (word, bit) = self.place(counter);
        self.bits[word] & bit != 0
    }

    /// Marks `counter`, of a frame that opened.
    pub(crate) fn mark(&mut self, now: Instant, counter: u64) {
        if self.seen(counter) {
            return;
        }
        if counter >= self.end {
            let steps = counter + 1 - self.end;
            if steps >= self.size() {
                self.bits.fill(0);
            } else {
                for passed in self.end..=counter {
                    let (word, bit) = self.place(passed);
                    self.bits[word] &= !bit;
                }
            }
            self.end = counter + 1;
            self.measure(now);
        }
        let (word, bit) = self.place(counter);
        self.bits[word] |= bit;
    }

    fn measure(&mut self, now: Instant) {
        match self.measured {
            Some((since, from)) if now.saturating_duration_since(since) <= SPAN => {
                let came = self.end - from;
                if came > self.size() && self.size() < LARGEST {
                    self.grow(came.next_power_of_two().min(LARGEST));
                }
            }
            _ => self.measured = Some((now, self.end)),
        }
    }

    fn grow(&mut self, size: u64) {
        let known = self.end.saturating_sub(self.size()).max(self.start);
        let mut grown = Self {
            bits: vec![0; size as usize / 64].into(),
            end: self.end,
            start: known,
            measured: self.measured,
        };
        for counter in known..self.end {
            let (word, bit) = self.place(counter);
            if self.bits[word] & bit != 0 {
                let (word, bit) = grown.place(counter);
                grown.bits[word] |= bit;
            }
        }
        *self = grown;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_lies_before_the_window_is_seen() {
        let now = Instant::now();
        let mut window = Window::new(0, None);
        window.mark(now, 5000);
        assert!(window.seen(5000));
        assert!(!window.seen(5001 - SMALLEST));
        assert!(window.seen(5000 - SMALLEST));
    }

    #[test]
    fn it_grows_to_what_comes_in_150_ms_and_no_further_than_its_cap() {
        let mut now = Instant::now();
        let mut window = Window::new(0, None);
        for counter in (0..400_000u64).step_by(2) {
            now += Duration::from_nanos(500);
            window.mark(now, counter);
        }
        assert_eq!(window.size(), LARGEST);
        assert!(!window.seen(399_999 - 30_000));
        assert!(window.seen(399_998 - 30_000));
        assert!(window.seen(399_999 - LARGEST - 2));
    }

    #[test]
    fn a_slow_path_keeps_the_small_window() {
        let mut now = Instant::now();
        let mut window = Window::new(0, None);
        for counter in 0..20_000 {
            now += Duration::from_millis(1);
            window.mark(now, counter);
        }
        assert_eq!(window.size(), SMALLEST);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set_about_everything_inside(counters in prop::collection::vec(0u64..3000, 1..300)) {
            let now = Instant::now();
            let mut window = Window::new(0, None);
            let mut seen = std::collections::HashSet::new();
            let mut high = 0;
            for counter in counters {
                if counter + SMALLEST > high {
                    prop_assert_eq!(window.seen(counter), seen.contains(&counter));
                }
                window.mark(now, counter);
                seen.insert(counter);
                high = high.max(counter);
            }
        }
    }
}
