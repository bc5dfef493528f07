//! Tests of the packet parser.

use proptest::prelude::*;

use super::*;
use crate::testing::{self, extension, fragment, icmp, ipv6, node, tcp, tcp_body, udp, udp_body};

fn upper(next: u8, body: &[u8]) -> Result<Upper, Malformed> {
    Packet::parse(&ipv6(node(1).1, node(2).1, next, body)).map(|packet| packet.upper)
}

#[test]
fn ports_flags_and_identifiers_are_read() {
    let (a, b) = (node(1).1, node(2).1);
    let read = Packet::parse(&tcp(a, b, (1000, 22), testing::SYN)).unwrap();
    assert_eq!((read.source, read.destination, read.fragment), (a, b, None));
    assert_eq!(read.upper, Upper::Tcp { source: 1000, destination: 22, flags: 2 });
    let read = Packet::parse(&udp(a, b, (5, 6), b"x")).unwrap();
    assert_eq!(read.upper, Upper::Udp { source: 5, destination: 6 });
    let read = |kind| Packet::parse(&icmp(a, b, kind, 77, b"")).unwrap().upper;
    assert_eq!(read(128), Upper::EchoRequest(77));
    assert_eq!(read(129), Upper::EchoReply(77));
    assert_eq!(read(135), Upper::Control(135));
    assert_eq!(read(1), Upper::Error(None));
    assert_eq!(upper(132, b"sctp"), Ok(Upper::Other(132)));
}

#[test]
fn extension_headers_are_walked_to_the_ports() {
    let udp = udp_body((7, 8), b"");
    let mut body = extension(60, [0; 6]);
    body.extend(extension(43, [0; 6]));
    body.extend(extension(UDP, [0; 6]));
    body.extend(&udp);
    assert_eq!(upper(0, &body), Ok(Upper::Udp { source: 7, destination: 8 }));

    // The authentication header counts in other units: 2 stands for 16 bytes.
    let mut body = vec![UDP, 2];
    body.extend([0; 14]);
    body.extend(&udp);
    assert_eq!(upper(51, &body), Ok(Upper::Udp { source: 7, destination: 8 }));
}

#[test]
fn headers_that_make_no_sense_are_refused() {
    let mut twice = extension(0, [0; 6]);
    twice.extend(extension(UDP, [0; 6]));
    twice.extend(udp_body((1, 2), b""));
    assert_eq!(upper(60, &twice), Err(Malformed::Headers), "hop-by-hop options after others");
    let endless: Vec<u8> = (0..40).flat_map(|_| extension(60, [0; 6])).collect();
    assert_eq!(upper(60, &endless), Err(Malformed::Headers), "more headers than anyone needs");
    let mut nested = fragment(44, 0, true, 1);
    nested.extend(fragment(UDP, 0, true, 2));
    nested.extend(udp_body((1, 2), b""));
    assert_eq!(upper(44, &nested), Err(Malformed::Headers), "a fragment of a fragment");
}

#[test]
fn a_first_fragment_without_its_ports_is_refused() {
    let mut body = fragment(TCP, 0, true, 9);
    body.extend(&tcp_body((1, 2), 2)[..16]);
    assert_eq!(upper(44, &body), Err(Malformed::Short));
    let mut body = fragment(TCP, 2, false, 9);
    body.extend([0; 4]);
    let read = Packet::parse(&ipv6(node(1).1, node(2).1, 44, &body)).unwrap();
    assert_eq!(read.fragment, Some(Fragment { identification: 9, offset: 2 }));
    assert_eq!(read.upper, Upper::Later);
}

#[test]
fn a_routing_header_that_leads_on_is_seen() {
    for (left, routed) in [(0, false), (1, true)] {
        // The type, then how many addresses are left.
        let mut body = extension(UDP, [4, left, 0, 0, 0, 0]);
        body.extend(udp_body((1, 2), b""));
        let read = Packet::parse(&ipv6(node(1).1, node(2).1, 43, &body)).unwrap();
        assert_eq!(read.source_routed, routed);
    }
}

#[test]
fn lengths_must_agree() {
    let packet = udp(node(1).1, node(2).1, (1, 2), b"payload");
    for length in 0..packet.len() {
        assert!(Packet::parse(&packet[..length]).is_err(), "{length} of {} bytes", packet.len());
    }
    let mut long = packet.to_vec();
    long.push(0);
    assert_eq!(Packet::parse(&long), Err(Malformed::Length));
    long.pop();
    long[0] = 0x45;
    assert_eq!(Packet::parse(&long), Err(Malformed::Version));
    let mut header = tcp_body((1, 2), 2);
    header[12] = 4 << 4;
    assert_eq!(upper(TCP, &header), Err(Malformed::Short), "a TCP header of 16 bytes");
    header[12] = 6 << 4;
    assert_eq!(upper(TCP, &header), Err(Malformed::Short), "a TCP header longer than the packet");
}

#[test]
fn an_error_tells_what_it_is_about() {
    let (a, b) = (node(1).1, node(2).1);
    let about = tcp(b, a, (22, 4000), testing::ACK);
    // An error quotes as much as fits: the ports are there from byte 44 on.
    for kept in 0..about.len() {
        let mut message = vec![1, 4, 0, 0, 0, 0, 0, 0];
        message.extend(&about[..kept]);
        let expected = (kept >= 44).then_some(About {
            source: b,
            destination: a,
            protocol: TCP,
            source_port: 22,
            destination_port: 4000,
        });
        assert_eq!(upper(ICMP, &message), Ok(Upper::Error(expected)), "{kept} bytes quoted");
    }
    let mut message = vec![1, 4, 0, 0, 0, 0, 0, 0];
    message.extend(icmp(b, a, 128, 99, b""));
    let Ok(Upper::Error(Some(about))) = upper(ICMP, &message) else { panic!("no quoted packet") };
    assert_eq!((about.protocol, about.source_port), (ICMP, 99));
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Packet::parse(&bytes);
    }

    /// Bytes that begin like a packet reach further into the parser.
    #[test]
    fn any_body_is_read_without_panic(
        next in prop_oneof![Just(0u8), Just(6), Just(17), Just(43), Just(44), Just(51), Just(58), Just(60), any::<u8>()],
        body in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(44), Just(58), Just(60), Just(0x60), any::<u8>()], 0..200),
    ) {
        let packet = ipv6(node(1).1, node(2).1, next, &body);
        if let Ok(read) = Packet::parse(&packet) {
            prop_assert_eq!((read.source, read.destination), (node(1).1, node(2).1));
        }
    }
}
