//! Targets for the portal: IPv6 packets from programs and from the network.

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::Code;
use byway_identity::{Addr, Ipv6Range, SigningKey};
use byway_portal::icmp::Notice;
use byway_portal::packet::Packet;
use byway_portal::{Action, Allow, Core, Ports, Who};

use crate::input::Input;

/// One packet: parsed, and answered by every notice, each of which is a packet itself that nobody may answer.
pub fn portal_packet(data: &[u8]) {
    let parsed = Packet::parse(data);
    let notices = [
        Notice::NoRoute,
        Notice::Prohibited,
        Notice::AddressUnreachable,
        Notice::PortUnreachable,
        Notice::TooBig(1280),
    ];
    for notice in notices {
        let Some(answer) = notice.packet(data) else { continue };
        assert!(parsed.is_ok(), "an answer to no packet");
        let read = Packet::parse(&answer).expect("the portal's own packets are whole");
        assert!(!read.may_be_answered(), "an error about an error");
        assert!(answer.len() <= 1280);
    }
}

/// A portal between programs and the network, both hostile.
pub fn portal_core(data: &[u8]) {
    let start = Instant::now();
    let mut now = start;
    let mut input = Input::new(data);
    let [own, other] = [1, 2].map(|seed| SigningKey::from_seed(&[seed; 32]).public().addr());
    let range = Ipv6Range::default();
    let allow = vec![Allow { peer: Who::Node(other), ports: vec![Ports::Tcp(22, 80), Ports::Icmp] }];
    let mut core = Core::new(own, range, allow).expect("the address has an IPv6 form");
    let mut asked: Vec<Ipv6Addr> = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let mtu = usize::from(input.u8()) * 64;
        let path = |_: &Addr| mtu;
        let mut out = Vec::new();
        match input.u8() % 8 {
            0 | 1 => core.from_device(now, with_ends(input.bytes(), own, other, input.u8()), &path, &mut out),
            2 | 3 => {
                core.from_node(
                    now,
                    &other,
                    with_ends(input.bytes(), other, own, input.u8()),
                    &path,
                    &mut out,
                );
            }
            4 => {
                let Some(destination) = asked.pop() else { continue };
                let answer = match input.u8() % 3 {
                    0 => Ok(other),
                    1 => Ok(own),
                    _ => Err(Code::NoWay),
                };
                core.found(now, destination, answer, &path, &mut out);
            }
            5 => {
                let code = Code::ALL[input.below(Code::ALL.len())];
                core.send_failed(now, &Bytes::copy_from_slice(input.bytes()), code, &mut out);
            }
            6 => core.heartbeat(now, &mut out),
            _ => now += Duration::from_millis(u64::from(input.u16())),
        }
        for action in out {
            match action {
                Action::Find { destination, prefix } => {
                    assert_eq!(range.prefix(destination), Some(prefix));
                    asked.push(destination);
                }
                Action::Inject(packet) => {
                    let read = Packet::parse(&packet).expect("programs are given whole packets only");
                    assert_eq!(read.destination, core.ipv6(), "a packet for somebody else is injected");
                }
                Action::Send { to, packet } => {
                    let read = Packet::parse(&packet).expect("nodes are sent whole packets only");
                    assert_eq!(read.source, core.ipv6(), "a packet of somebody else is sent");
                    assert_eq!(range.ipv6(&to), Ok(read.destination), "a packet is sent to the wrong node");
                }
            }
        }
    }
}

/// Most steps of one run.
const STEPS: usize = 256;

/// The bytes with the addresses that let a packet through, unless `keep` says that the fuzzer's own shall stay; the
/// length and version are mended in the same way, since few random bytes are packets.
fn with_ends(bytes: &[u8], from: Addr, to: Addr, keep: u8) -> Bytes {
    let mut packet = bytes.to_vec();
    let (Ok(from), Ok(to)) = (from.ipv6(), to.ipv6()) else { return packet.into() };
    if packet.len() >= 40 {
        if keep & 1 == 0 {
            packet[8..24].copy_from_slice(&from.octets());
        }
        if keep & 2 == 0 {
            packet[24..40].copy_from_slice(&to.octets());
        }
        if keep & 4 == 0 {
            packet[0] = 0x60;
            let length = u16::try_from(packet.len() - 40).unwrap_or(u16::MAX);
            packet[4..6].copy_from_slice(&length.to_be_bytes());
        }
    }
    packet.into()
}
