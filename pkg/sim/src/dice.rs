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
