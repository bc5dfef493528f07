//! The manoeuvring condition: how much effort, delay and privacy a request needs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A level; `Low < Medium < … < Neo` by strength.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum ManCon {
    /// Open net, no interference expected.
    Low,
    /// Some sites are blocked; circumventing is not dangerous.
    Medium,
    /// Tor and VPNs begin to be blocked.
    #[default]
    High,
    /// People are threatened for circumventing.
    VeryHigh,
    /// The internet is cut, or its use is the danger.
    Extreme,
    /// Life-threatening information.
    Neo,
}

impl ManCon {
    /// Every level, weakest first.
    pub const ALL: [Self; 6] =
        [Self::Low, Self::Medium, Self::High, Self::VeryHigh, Self::Extreme, Self::Neo];

    /// The name in commands, files and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::VeryHigh => "very-high",
            Self::Extreme => "extreme",
            Self::Neo => "neo",
        }
    }

    /// The number on the wire: 5 is `low`, 0 is `neo`.
    pub const fn code(self) -> u8 {
        5 - self as u8
    }

    /// The level with the number `code`.
    pub fn from_code(code: u8) -> Option<Self> {
        5u8.checked_sub(code).map(|index| Self::ALL[usize::from(index)])
    }
}

impl fmt::Display for ManCon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no level; the levels are low, medium, high, very-high, extreme and neo")]
pub struct UnknownLevel(String);

impl FromStr for ManCon {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        Self::ALL
            .into_iter()
            .find(|level| level.name() == text)
            .ok_or_else(|| UnknownLevel(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_lead_back() {
        for level in ManCon::ALL {
            assert_eq!(level.name().parse(), Ok(level));
            assert_eq!(ManCon::from_code(level.code()), Some(level));
        }
        assert_eq!(ManCon::from_code(6), None);
        assert!("High".parse::<ManCon>().is_err());
        assert!(ManCon::Low < ManCon::Neo && ManCon::Low.code() > ManCon::Neo.code());
    }
}
