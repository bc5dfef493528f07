//! Reading an IPv6 packet, as far as the filter needs.
//!
//! ```text
//!  0               4        8                12    12+…
//!  +-------+-------+--------+----+----+------+
//!  |6| class, label| length | nh |hops| source …  destination …   40 bytes, then extension headers
//! ```
//!
//! Extension headers are walked to the transport header. What cannot be walked to its end, or hides its ports
//! behind a first fragment that is too short (RFC 7112), is [`Malformed`], so that no verdict rests on a guess.

use std::net::Ipv6Addr;

/// Bytes of the fixed header.
pub const HEADER: usize = 40;

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of ICMPv6.
pub const ICMP: u8 = 58;

/// A packet whose fixed header, extension headers and ports have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it says it comes from.
    pub source: Ipv6Addr,
    /// Where it should go.
    pub destination: Ipv6Addr,
    /// Set when it is a part of a larger packet.
    pub fragment: Option<Fragment>,
    /// Whether a routing header would send it on to further addresses.
    pub source_routed: bool,
    /// The transport header.
    pub upper: Upper,
}

/// Which part of which larger packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Tells the packets of one sender apart.
    pub identification: u32,
    /// Where the part begins, in units of 8 bytes.
    pub offset: u16,
}

/// What the transport header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// TCP, with its flags.
    Tcp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// `FIN` is bit 0, `SYN` 1, `RST` 2, `ACK` 4.
        flags: u8,
    },
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
    },
    /// An ICMPv6 echo request, with its identifier.
    EchoRequest(u16),
    /// An ICMPv6 echo reply, with its identifier.
    EchoReply(u16),
    /// An ICMPv6 error, about a packet that was sent before.
    Error(Option<About>),
    /// Any other ICMPv6 message, with its type.
    Control(u8),
    /// Another protocol, with its number.
    Other(u8),
    /// A fragment after the first: its transport header is elsewhere.
    Later,
}

/// The packet that an ICMPv6 error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Its source.
    pub source: Ipv6Addr,
    /// Its destination.
    pub destination: Ipv6Addr,
    /// Its protocol number.
    pub protocol: u8,
    /// Its source port, or the identifier of an echo request; 0 where there is none.
    pub source_port: u16,
    /// Its destination port; 0 where there is none.
    pub destination_port: u16,
}

/// Why bytes are no packet that could be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Shorter than its headers.
    #[error("the packet is shorter than its headers")]
    Short,
    /// Not version 6.
    #[error("the packet is not IPv6")]
    Version,
    /// The length field differs from the length.
    #[error("the length field of the packet is wrong")]
    Length,
    /// More or other extension headers than any honest packet has.
    #[error("the extension headers of the packet make no sense")]
    Headers,
}

impl Packet {
    /// Reads `bytes`, which must be one whole packet.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let fixed = Fixed::parse(bytes)?;
        if usize::from(fixed.length) != bytes.len() - HEADER {
            return Err(Malformed::Length);
        }
        let chain = Chain::walk(fixed.next, bytes)?;
        let upper = match chain.fragment {
            Some(fragment) if fragment.offset > 0 => Upper::Later,
            _ => Upper::parse(chain.protocol, &bytes[chain.at..])?,
        };
        Ok(Self {
            source: fixed.source,
            destination: fixed.destination,
            fragment: chain.fragment,
            source_routed: chain.source_routed,
            upper,
        })
    }

    /// Whether an error may be sent about it: never about errors, nor to or about groups (RFC 4443, section 2.4).
    pub fn may_be_answered(&self) -> bool {
        let redirect = matches!(self.upper, Upper::Control(137));
        let error = matches!(self.upper, Upper::Error(_)) || redirect;
        let hidden_error = matches!(self.upper, Upper::Later);
        !(error
            || hidden_error
            || self.source.is_multicast()
            || self.source.is_unspecified()
            || self.destination.is_multicast())
    }
}

impl Upper {
    fn parse(protocol: u8, bytes: &[u8]) -> Result<Self, Malformed> {
        match protocol {
            TCP => {
                let header = bytes.first_chunk::<20>().ok_or(Malformed::Short)?;
                let (source, destination) = ports(header);
                if !(20..=bytes.len()).contains(&(usize::from(header[12] >> 4) * 4)) {
                    return Err(Malformed::Short);
                }
                Ok(Self::Tcp { source, destination, flags: header[13] })
            }
            UDP => {
                let header = bytes.first_chunk::<8>().ok_or(Malformed::Short)?;
                let (source, destination) = ports(header);
                Ok(Self::Udp { source, destination })
            }
            ICMP => {
                let header = bytes.first_chunk::<8>().ok_or(Malformed::Short)?;
                let identifier = u16::from_be_bytes([header[4], header[5]]);
                Ok(match header[0] {
                    0..128 => Self::Error(About::parse(&bytes[8..])),
                    128 => Self::EchoRequest(identifier),
                    129 => Self::EchoReply(identifier),
                    kind => Self::Control(kind),
                })
            }
            protocol => Ok(Self::Other(protocol)),
        }
    }
}

impl About {
    /// Reads the start of a packet, of which an error quotes only so much.
    fn parse(quoted: &[u8]) -> Option<Self> {
        let fixed = Fixed::parse(quoted).ok()?;
        let chain = Chain::walk(fixed.next, quoted).ok()?;
        let bytes = &quoted[chain.at..];
        let later = chain.fragment.is_some_and(|fragment| fragment.offset > 0);
        let (source_port, destination_port) = match chain.protocol {
            _ if later => return None,
            TCP | UDP => ports(bytes.first_chunk::<4>()?),
            ICMP => match bytes.first_chunk::<6>()? {
                [128, .., high, low] => (u16::from_be_bytes([*high, *low]), 0),
                [129, ..] => (0, 0),
                _ => return None,
            },
            _ => (0, 0),
        };
        Some(Self {
            source: fixed.source,
            destination: fixed.destination,
            protocol: chain.protocol,
            source_port,
            destination_port,
        })
    }
}

/// The fixed header.
struct Fixed {
    length: u16,
    next: u8,
    source: Ipv6Addr,
    destination: Ipv6Addr,
}

impl Fixed {
    fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.first().ok_or(Malformed::Short)? >> 4 != 6 {
            return Err(Malformed::Version);
        }
        let header = bytes.first_chunk::<HEADER>().ok_or(Malformed::Short)?;
        let address = |at: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[at..at + 16]);
            Ipv6Addr::from(octets)
        };
        Ok(Self {
            length: u16::from_be_bytes([header[4], header[5]]),
            next: header[6],
            source: address(8),
            destination: address(24),
        })
    }
}

/// Where the extension headers lead.
struct Chain {
    protocol: u8,
    /// Offset of the transport header; at most the length of the packet.
    at: usize,
    fragment: Option<Fragment>,
    source_routed: bool,
}

impl Chain {
    /// Most extension headers that are walked.
    const LIMIT: usize = 8;

    fn walk(first: u8, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut chain = Self { protocol: first, at: HEADER, fragment: None, source_routed: false };
        for _ in 0..=Self::LIMIT {
            let length = match chain.protocol {
                // Hop-by-hop options, which only come first; routing; destination options; mobility; HIP; shim6.
                0 if chain.at > HEADER => return Err(Malformed::Headers),
                0 | 43 | 60 | 135 | 139 | 140 => chain.byte(bytes, 1).map(|units| (units + 1) * 8)?,
                // Authentication header, the one that counts in units of 4 bytes.
                51 => chain.byte(bytes, 1).map(|units| (units + 2) * 4)?,
                44 if chain.fragment.is_some() => return Err(Malformed::Headers),
                44 => 8,
                _ => return Ok(chain),
            };
            let header = bytes.get(chain.at..chain.at + length).ok_or(Malformed::Short)?;
            match chain.protocol {
                43 => chain.source_routed |= header[3] > 0,
                44 => {
                    let field = u16::from_be_bytes([header[2], header[3]]);
                    let identification = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
                    chain.fragment = Some(Fragment { identification, offset: field >> 3 });
                }
                _ => {}
            }
            chain.protocol = header[0];
            chain.at += length;
            if chain.fragment.is_some_and(|fragment| fragment.offset > 0) {
                return Ok(chain);
            }
        }
        Err(Malformed::Headers)
    }

    fn byte(&self, bytes: &[u8], offset: usize) -> Result<usize, Malformed> {
        bytes.get(self.at + offset).copied().map(usize::from).ok_or(Malformed::Short)
    }
}

/// The ports, which TCP and UDP both have first.
fn ports(header: &[u8]) -> (u16, u16) {
    let port = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    (port(0), port(2))
}

#[cfg(test)]
#[path = "packet_tests.rs"]
mod tests;
