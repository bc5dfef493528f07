//! Packets for tests.

use std::net::Ipv6Addr;

use bytes::Bytes;
use byway_identity::{Addr, Ipv6Range, SeededEntropy, SigningKey};

use crate::icmp::checksum;
use crate::packet::{ICMP, TCP, UDP};

/// The address of the node number `seed`, and its IPv6 address.
pub(crate) fn node(seed: u64) -> (Addr, Ipv6Addr) {
    let addr = SigningKey::generate(&mut SeededEntropy::new(seed)).public().addr();
    let ipv6 = Ipv6Range::default().ipv6(&addr).unwrap();
    (addr, ipv6)
}

/// A packet with this first header after the fixed one.
pub(crate) fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, body: &[u8]) -> Bytes {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    packet.extend([next, 64]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(body);
    packet.into()
}

pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const FIN: u8 = 0x01;

pub(crate) fn tcp_body(ports: (u16, u16), flags: u8) -> Vec<u8> {
    let mut body = vec![0; 20];
    body[..2].copy_from_slice(&ports.0.to_be_bytes());
    body[2..4].copy_from_slice(&ports.1.to_be_bytes());
    body[12] = 5 << 4;
    body[13] = flags;
    body
}

pub(crate) fn tcp(source: Ipv6Addr, destination: Ipv6Addr, ports: (u16, u16), flags: u8) -> Bytes {
    ipv6(source, destination, TCP, &tcp_body(ports, flags))
}

pub(crate) fn udp_body(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(ports.0.to_be_bytes());
    body.extend(ports.1.to_be_bytes());
    body.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload);
    body
}

pub(crate) fn udp(source: Ipv6Addr, destination: Ipv6Addr, ports: (u16, u16), payload: &[u8]) -> Bytes {
    ipv6(source, destination, UDP, &udp_body(ports, payload))
}

/// An ICMPv6 message with a right checksum; `kind` 128 is an echo request, 129 its reply.
pub(crate) fn icmp(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: u8,
    identifier: u16,
    payload: &[u8],
) -> Bytes {
    let mut body = vec![kind, 0, 0, 0];
    body.extend(identifier.to_be_bytes());
    body.extend([0, 1]);
    body.extend(payload);
    let sum = checksum(source, destination, ICMP, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    ipv6(source, destination, ICMP, &body)
}

/// An extension header of 8 bytes that leads to `next`.
pub(crate) fn extension(next: u8, rest: [u8; 6]) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend(rest);
    header
}

/// A fragment header; `offset` in units of 8 bytes.
pub(crate) fn fragment(next: u8, offset: u16, more: bool, identification: u32) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend(identification.to_be_bytes());
    header
}
