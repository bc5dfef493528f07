//! Reading an Ethernet frame, as far as the rules of a wire need.

use std::net::IpAddr;

/// Addresses and ports of an Ethernet frame that carries IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// What it carries.
    pub protocol: Protocol,
    /// Source and destination port, where the protocol has them.
    pub ports: Option<(u16, u16)>,
}

/// What an IP packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
    /// Anything else.
    Other,
}

impl Frame {
    /// Bytes of the Ethernet header.
    pub const ETHERNET: usize = 14;

    /// Reads a frame; `None` if it does not carry IP.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let packet = bytes.get(Self::ETHERNET..)?;
        let address = |at: usize, length: usize| packet.get(at..at + length);
        let (source, destination, number, rest) = match bytes.get(12..14)? {
            [0x08, 0x00] => {
                let source: [u8; 4] = address(12, 4)?.try_into().ok()?;
                let destination: [u8; 4] = address(16, 4)?.try_into().ok()?;
                let rest = packet.get(usize::from(packet[0] & 0x0f) * 4..)?;
                (IpAddr::from(source), IpAddr::from(destination), packet[9], rest)
            }
            [0x86, 0xdd] => {
                let source: [u8; 16] = address(8, 16)?.try_into().ok()?;
                let destination: [u8; 16] = address(24, 16)?.try_into().ok()?;
                (IpAddr::from(source), IpAddr::from(destination), packet[6], &packet[40..])
            }
            _ => return None,
        };
        let protocol = match number {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            1 | 58 => Protocol::Icmp,
            _ => Protocol::Other,
        };
        let ports = match (protocol, rest) {
            (Protocol::Tcp | Protocol::Udp, [a, b, c, d, ..]) => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        };
        Some(Self { source, destination, protocol, ports })
    }

    /// Marks an IP packet as a congested router would; false if its sender does not understand that.
    pub fn mark_congested(bytes: &mut [u8]) -> bool {
        let Some((ethernet, packet)) = bytes.split_at_mut_checked(Self::ETHERNET) else { return false };
        match (&ethernet[12..], packet) {
            ([0x08, 0x00], packet) if packet.len() >= 20 && matches!(packet[1] & 3, 1 | 2) => {
                packet[1] |= 3;
                packet[10..12].fill(0);
                let length = usize::from(packet[0] & 0x0f) * 4;
                let words = packet.get(..length).unwrap_or_default().chunks_exact(2);
                let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
                let sum = (sum & 0xffff) + (sum >> 16);
                let sum = (sum & 0xffff) + (sum >> 16);
                packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
                true
            }
            // The traffic class lies across two bytes; its last two bits are bits 4 and 5 of the second.
            ([0x86, 0xdd], packet) if packet.len() >= 40 && matches!(packet[1] >> 4 & 3, 1 | 2) => {
                packet[1] |= 0x30;
                true
            }
            _ => false,
        }
    }
}
