//! What a ManCon level allows, until `policy` decides.

use byway_api::{ApiError, Code, ManCon};
use byway_network::{ClassSet, Family, Plane};

/// The daemon's own rules about levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels {
    /// Level of requests that carry none.
    pub default: ManCon,
    /// No request goes below it.
    pub floor: ManCon,
    /// Whether `low` and `medium` may use clear links.
    pub direct: bool,
}

impl Levels {
    /// The level of a request: its own or the default, raised to the floor.
    pub fn effective(&self, asked: Option<ManCon>) -> ManCon {
        asked.unwrap_or(self.default).max(self.floor)
    }

    /// The plane that carries requests of `level`, if a plain message may be carried at all.
    ///
    /// Levels above `high` need delays, helpers or local mesh. Sending such a request any other way would betray
    /// its sender, so it is refused.
    pub fn plane(&self, level: ManCon) -> Result<Plane, ApiError> {
        match level {
            ManCon::Low | ManCon::Medium if self.direct => Ok(Plane::Any),
            ManCon::Low | ManCon::Medium | ManCon::High => Ok(Plane::Anon),
            ManCon::VeryHigh | ManCon::Extreme | ManCon::Neo => Err(ApiError::new(
                Code::ManconUnsatisfied,
                format!(
                    "this version carries no requests at {level}; the strongest level that it carries is high"
                ),
            )),
        }
    }

    /// Whether a request of `level` may still use `plane`: levels may have been raised since it was made.
    pub fn allows(&self, level: ManCon, plane: Plane) -> bool {
        let within =
            |allowed: Plane| Family::ALL.iter().all(|family| !plane.has(*family) || allowed.has(*family));
        level >= self.floor && self.plane(level).is_ok_and(within)
    }

    /// Why nothing leaves the machine in `plane` when the only links are of `families`, if so.
    pub fn unsatisfied(&self, level: ManCon, plane: Plane, families: ClassSet) -> Option<ApiError> {
        let leaves =
            |family: &Family| *family != Family::Loopback && plane.has(*family) && families.has(*family);
        if Family::ALL.iter().any(leaves) || plane == Plane::Any {
            return None;
        }
        let remedy = match level {
            ManCon::Low | ManCon::Medium if !self.direct => {
                "set mancon.direct = true (or `byway up --direct`) to allow clear links at low and medium"
            }
            ManCon::Low | ManCon::Medium => "turn on a transport in the configuration",
            _ => {
                "turn on a Tor or I2P transport, or ask for --mancon medium where clear links are safe for you"
            }
        };
        Some(ApiError::new(
            Code::ManconUnsatisfied,
            format!("no transport that {level} allows is there; {remedy}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Levels = Levels { default: ManCon::High, floor: ManCon::Low, direct: true };

    #[test]
    fn clear_links_need_both_a_low_level_and_direct() {
        assert_eq!(OPEN.plane(ManCon::Medium), Ok(Plane::Any));
        assert_eq!(OPEN.plane(ManCon::High), Ok(Plane::Anon));
        assert_eq!(Levels { direct: false, ..OPEN }.plane(ManCon::Low), Ok(Plane::Anon));
    }

    #[test]
    fn levels_above_high_are_refused_rather_than_weakened() {
        for level in [ManCon::VeryHigh, ManCon::Extreme, ManCon::Neo] {
            assert_eq!(OPEN.plane(level).map_err(|error| error.code), Err(Code::ManconUnsatisfied));
        }
    }

    #[test]
    fn the_floor_raises_and_never_lowers() {
        let raised = Levels { floor: ManCon::High, ..OPEN };
        assert_eq!(raised.effective(Some(ManCon::Low)), ManCon::High);
        assert_eq!(raised.effective(Some(ManCon::Neo)), ManCon::Neo);
        assert_eq!(OPEN.effective(None), ManCon::High);
    }

    #[test]
    fn raised_levels_forbid_what_was_allowed() {
        assert!(OPEN.allows(ManCon::Low, Plane::Any));
        assert!(!Levels { floor: ManCon::Medium, ..OPEN }.allows(ManCon::Low, Plane::Any));
        assert!(!Levels { direct: false, ..OPEN }.allows(ManCon::Low, Plane::Any));
        assert!(Levels { direct: false, ..OPEN }.allows(ManCon::Low, Plane::Anon));
        assert!(!OPEN.allows(ManCon::High, Plane::Any));
    }

    #[test]
    fn a_plane_without_a_transport_is_refused_with_a_remedy() {
        let clear = ClassSet::of(&[Family::Ip, Family::Loopback]);
        let refusal = OPEN.unsatisfied(ManCon::High, Plane::Anon, clear).expect("no anonymous transport");
        assert_eq!(refusal.code, Code::ManconUnsatisfied);
        assert!(refusal.detail.contains("--mancon medium"));
        assert_eq!(OPEN.unsatisfied(ManCon::High, Plane::Anon, ClassSet::of(&[Family::Tor])), None);
        assert_eq!(OPEN.unsatisfied(ManCon::Low, Plane::Any, clear), None);
    }
}
