//! Chance, all of it from one seed.

use std::time::Duration;

use byway_identity::{Entropy, SeededEntropy};

/// A seeded source of whatever happens by chance in a world.
pub struct Dice(SeededEntropy);

impl Dice {
    /// The same seed always rolls the same.
    pub fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    /// True with this probability, from 0 to 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        const SCALE: f64 = 1_000_000.0;
        probability > 0.0 && self.0.below(SCALE as u64) < (probability * SCALE) as u64
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.below(bound as u64) as usize
    }

    /// One of `items`, if there is any.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// A time from nothing to `most`.
    pub fn time(&mut self, most: Duration) -> Duration {
        Duration::from_nanos(self.0.below(most.as_nanos() as u64 + 1))
    }

    /// A number from 0 to 1, without 1.
    pub fn share(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A number of the standard normal distribution.
    pub fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.share(), self.share());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// A time of the log-normal distribution: half of all are below `median`, and `spread` is the deviation of the logarithm.
    pub fn log_normal(&mut self, median: Duration, spread: f64) -> Duration {
        median.mul_f64((spread * self.normal()).clamp(-6.0, 6.0).exp())
    }

    /// A time of the exponential distribution: what lasts `mean` on average, and does not age.
    pub fn exponential(&mut self, mean: Duration) -> Duration {
        mean.mul_f64(-(1.0 - self.share()).ln())
    }

    /// Different numbers below `bound` in random order: `count` of them, or all there are.
    pub fn sample(&mut self, bound: usize, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..bound).collect();
        for at in 0..count.min(bound) {
            let other = at + self.below(bound - at);
            all.swap(at, other);
        }
        all.truncate(count);
        all
    }

    /// `count` random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.0.fill(&mut bytes);
        bytes
    }

    /// A number for another seeded source.
    pub fn seed(&mut self) -> u64 {
        self.0.next_u64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_have_the_means_they_promise() {
        let mut dice = Dice::new(5);
        let count = 20_000;
        let mean =
            |times: Vec<Duration>| times.iter().map(Duration::as_secs_f64).sum::<f64>() / times.len() as f64;
        let exponential = mean((0..count).map(|_| dice.exponential(Duration::from_secs(60))).collect());
        assert!((58.0..62.0).contains(&exponential), "{exponential}");
        let mut log_normal: Vec<Duration> =
            (0..count).map(|_| dice.log_normal(Duration::from_millis(20), 0.6)).collect();
        log_normal.sort_unstable();
        let median = log_normal[count / 2].as_secs_f64();
        assert!((0.0193..0.0207).contains(&median), "{median}");
        // The mean of a log-normal distribution is median · e^(spread²/2).
        let mean = mean(log_normal);
        assert!((0.0234..0.0246).contains(&mean), "{mean}");
        assert!((0..count).all(|_| (0.0..1.0).contains(&dice.share())));
    }

    #[test]
    fn a_sample_names_nobody_twice() {
        let mut dice = Dice::new(6);
        let mut sample = dice.sample(100, 60);
        assert_eq!(sample.len(), 60);
        sample.sort_unstable();
        sample.dedup();
        assert_eq!(sample.len(), 60);
        assert!(sample.iter().all(|number| *number < 100));
        assert_eq!(dice.sample(3, 9).len(), 3);
    }
}
