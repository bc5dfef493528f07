//! A routing protocol to choose.

use std::fmt;
use std::time::Instant;

use crate::{Network, Setup};

/// A routing protocol: what it is called, and how a node of it is made.
///
/// Both ends of a link tell each other the name, and part where it differs.
#[derive(Clone, Copy)]
pub struct Protocol {
    name: &'static str,
    start: fn(Instant, Setup) -> Box<dyn Network>,
}

impl Protocol {
    /// Longest name, in bytes.
    pub const NAME_MAX: usize = 32;

    /// The protocol called `name`, of which `start` makes nodes.
    ///
    /// # Panics
    ///
    /// When the name is empty, longer than [`Protocol::NAME_MAX`], or has other bytes than `a` to `z`, digits and `-`.
    pub const fn new(name: &'static str, start: fn(Instant, Setup) -> Box<dyn Network>) -> Self {
        assert!(Self::is_name(name.as_bytes()), "a protocol's name is short and plain");
        Self { name, start }
    }

    /// Whether a protocol may be called so.
    pub const fn is_name(name: &[u8]) -> bool {
        let mut at = 0;
        while at < name.len() {
            if !matches!(name[at], b'a'..=b'z' | b'0'..=b'9' | b'-') {
                return false;
            }
            at += 1;
        }
        at > 0 && at <= Self::NAME_MAX
    }

    /// What it is called.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// A node without neighbours.
    pub fn start(&self, now: Instant, setup: Setup) -> Box<dyn Network> {
        (self.start)(now, setup)
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for name in ["grove", "beacon", "a-2", "x".repeat(Protocol::NAME_MAX).as_str()] {
            assert!(Protocol::is_name(name.as_bytes()), "{name}");
        }
        for name in ["", "Grove", "gr ove", "grö", "\0", "x".repeat(Protocol::NAME_MAX + 1).as_str()] {
            assert!(!Protocol::is_name(name.as_bytes()), "{name:?}");
        }
    }
}
