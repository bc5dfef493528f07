//! What a simulated link does to what it carries.

use std::time::Duration;

use byway_network::{Class, Cost, Family};

/// A link between two nodes, the same in both directions.
#[derive(Clone, Copy, Debug)]
pub struct Wire {
    /// What the link is.
    pub class: Class,
    /// One-way latency.
    pub latency: Duration,
    /// Up to so much more latency, at random for each frame: frames overtake one another.
    pub jitter: Duration,
    /// Share of frames lost, from 0 to 1.
    pub loss: f64,
    /// How many frames are lost in a row on average: 1 where each is lost by itself, more where losses come in bursts
    /// (the model of Gilbert and Elliott, with everything lost while the link is bad).
    pub burst: f64,
    /// Share of frames that arrive twice, from 0 to 1.
    pub duplicates: f64,
}

impl Wire {
    /// A clean link of `class` with 5 ms of latency.
    pub const fn clean(class: Class) -> Self {
        Self {
            class,
            latency: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 1.0,
            duplicates: 0.0,
        }
    }

    /// Between a hosted node and its daemon.
    pub const LOOPBACK: Self = Self { latency: Duration::from_micros(20), ..Self::clean(Class::LOOPBACK) };

    /// The cost that both ends would measure.
    pub fn cost(&self) -> Cost {
        if self.class.family() == Family::Loopback && self.latency < Duration::from_millis(1) {
            return Cost::LOOPBACK;
        }
        Cost::of_link(self.latency * 2, self.loss, None)
    }
}
