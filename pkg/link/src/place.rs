//! Remote ends, as transports name them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// One transport of this daemon, numbered by whoever starts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportId(pub u16);

/// A request to dial, numbered by the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub u64);

/// Where a link's other end is: small, and nothing is stored for it before it has shown who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Place {
    /// The transport that it belongs to.
    pub transport: TransportId,
    /// The remote end within it.
    pub remote: Remote,
    /// Longest frame that the transport carries there, in bytes.
    pub mtu: u16,
}

/// A remote end within one transport.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remote {
    /// A socket address.
    Ip(SocketAddr),
    /// An open connection, or a memory link, by number.
    Connection(u64),
}

/// Never shows an address.
impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(_) => f.write_str("[redacted]"),
            Self::Connection(number) => write!(f, "#{number}"),
        }
    }
}

/// Never shows an address.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({}, {:?})", self.transport.0, self.remote)
    }
}

impl byway_session::Place for Place {
    fn rate_key(&self) -> Option<u64> {
        match self.remote {
            Remote::Ip(address) => Some(match address.ip() {
                IpAddr::V4(ip) => u64::from(u32::from(ip)),
                IpAddr::V6(ip) => ip
                    .to_ipv4_mapped()
                    .map_or_else(|| (ip.to_bits() >> 64) as u64, |ip| u64::from(u32::from(ip))),
            }),
            Remote::Connection(number) => Some(number | 1 << 63),
        }
    }

    fn mtu(&self) -> usize {
        self.mtu.into()
    }

    fn plane(&self) -> u8 {
        0
    }

    fn masked(&self) -> bool {
        true
    }
}
