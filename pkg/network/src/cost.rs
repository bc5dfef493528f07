//! What a link or a way costs.

use std::fmt;
use std::time::Duration;

/// One-way latency in units of 100 µs, which loss and slow serialisation have made larger.
///
/// On the wire a 16-bit float: 5 bits of exponent, 11 of mantissa. Sums are made in `u32` of decoded values, so
/// that all nodes get the same result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cost(u32);

const MANTISSA_BITS: u32 = 11;
const EXPONENT_MAX: u32 = 31;
/// The largest value that fits both a `u32` and the wire form.
const LARGEST: u64 = 0x7ff << 21;

impl Cost {
    /// No cost: to oneself.
    pub const ZERO: Self = Self(0);
    /// A cost that nothing real reaches.
    pub const MAX: Self = Self(u32::MAX);
    /// The cost of a link inside one machine: the least that a hop may cost.
    pub const LOOPBACK: Self = Self(1);

    /// A cost of `units` of 100 µs.
    pub const fn from_units(units: u32) -> Self {
        Self(units)
    }

    /// Units of 100 µs.
    pub const fn units(self) -> u32 {
        self.0
    }

    /// The cost of a link: half the smallest RTT over (1 − loss)², the time to put 1,200 bytes on it, and 1 ms.
    ///
    /// `loss` is a share from 0 to 1, `rate` in bytes per second.
    pub fn of_link(min_rtt: Duration, loss: f64, rate: Option<u64>) -> Self {
        let passed = (1.0 - loss.clamp(0.0, 0.99)).powi(2);
        let serialise = rate.map_or(0.0, |rate| 1_200.0 / rate.max(1) as f64);
        let seconds = min_rtt.as_secs_f64() / 2.0 / passed + serialise + 0.001;
        Self::decode(Self((seconds * 10_000.0).clamp(1.0, f64::from(u32::MAX)) as u32).encode())
    }

    /// The sum, which never wraps.
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The 16-bit form, rounded down; larger values than it can hold become the largest.
    pub fn encode(self) -> u16 {
        let shift = (32 - MANTISSA_BITS).saturating_sub(self.0.leading_zeros()).min(EXPONENT_MAX);
        (shift << MANTISSA_BITS | (self.0 >> shift)) as u16
    }

    /// The value of a 16-bit form; every value has a meaning.
    pub fn decode(encoded: u16) -> Self {
        let encoded = u32::from(encoded);
        let wide = u64::from(encoded & ((1 << MANTISSA_BITS) - 1)) << (encoded >> MANTISSA_BITS);
        Self(wide.min(LARGEST) as u32)
    }
}

impl fmt::Display for Cost {
    /// In milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", f64::from(self.0) / 10.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_wire_form_loses_less_than_a_thousandth(units: u32) {
            let back = Cost::decode(Cost::from_units(units).encode()).units();
            prop_assert!(back <= units && units - back <= units / 1_024);
        }

        #[test]
        fn a_larger_cost_never_encodes_smaller(a: u32, b: u32) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(Cost::decode(Cost::from_units(low).encode()) <= Cost::decode(Cost::from_units(high).encode()));
        }

        #[test]
        fn every_wire_form_has_a_value(encoded: u16) {
            let value = Cost::decode(encoded);
            prop_assert_eq!(Cost::decode(value.encode()), value);
        }
    }

    #[test]
    fn a_link_costs_its_latency_and_a_millisecond() {
        assert_eq!(Cost::of_link(Duration::from_millis(20), 0.0, None), Cost::from_units(110));
        assert!(Cost::of_link(Duration::from_millis(20), 0.5, None) > Cost::from_units(400));
        assert!(Cost::of_link(Duration::ZERO, 0.0, Some(1_200)) > Cost::from_units(10_000));
    }
}
