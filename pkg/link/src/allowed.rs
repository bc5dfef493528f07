//! Which kinds of links a peer may have.

use std::fmt;

use crate::Scheme;

/// The schemes by which links to a peer may go, in either direction.
///
/// It is looked at before a dial is ordered, before a handshake is begun, and when a peer has shown who it is; so what is not
/// in it is neither dialled nor kept.
///
/// ```
/// use byway_link::{Allowed, Scheme};
///
/// let hidden = Allowed::only([Scheme::Tor, Scheme::I2p]);
/// assert!(hidden.has(Scheme::Tor) && !hidden.has(Scheme::Udp));
/// assert!(Allowed::ALL.has(Scheme::Udp));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Allowed(u16);

impl Allowed {
    /// All of them.
    pub const ALL: Self = Self(u16::MAX);

    /// `schemes` and no others.
    pub fn only(schemes: impl IntoIterator<Item = Scheme>) -> Self {
        Self(schemes.into_iter().fold(0, |set, scheme| set | bit(scheme)))
    }

    /// Whether links may go by `scheme`.
    pub fn has(self, scheme: Scheme) -> bool {
        self.0 & bit(scheme) != 0
    }

    /// Whether links may go over a transport that dials `schemes`. One that dials none is for those to whom all is allowed.
    pub fn has_any(self, schemes: &[Scheme]) -> bool {
        self == Self::ALL || schemes.iter().any(|scheme| self.has(*scheme))
    }
}

/// Everything is allowed.
impl Default for Allowed {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Debug for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Scheme::ALL.iter().filter(|scheme| self.has(**scheme))).finish()
    }
}

const fn bit(scheme: Scheme) -> u16 {
    1 << scheme as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scheme_is_allowed_by_itself_and_by_no_other() {
        for one in Scheme::ALL {
            let only = Allowed::only([one]);
            for other in Scheme::ALL {
                assert_eq!(only.has(other), one == other, "{one} {other}");
            }
            assert!(Allowed::ALL.has(one) && only.has_any(&[one]) && !only.has_any(&[]));
            assert!(!Allowed::only([]).has_any(&[one]));
        }
        assert!(Allowed::ALL.has_any(&[]));
    }
}
