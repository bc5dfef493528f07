//! Tests of the filter.

use proptest::prelude::*;

use super::*;
use crate::testing::{self, fragment, icmp, ipv6, node, tcp, tcp_body, udp};

/// A filter of node 1, at a time that tests move, and what node 1 and others send.
struct Bench {
    filter: Filter,
    now: Instant,
}

impl Bench {
    fn new(rules: &[(&str, &[&str])]) -> Self {
        Self { filter: Filter::new(allow(rules)), now: Instant::now() }
    }

    fn out(&mut self, to: u64, packet: &[u8]) {
        self.filter.outgoing(self.now, &node(to).0, &Packet::parse(packet).unwrap());
    }

    fn passes(&mut self, from: u64, packet: &[u8]) -> bool {
        self.verdict(from, packet).is_ok()
    }

    fn verdict(&mut self, from: u64, packet: &[u8]) -> Result<(), Denied> {
        self.filter.incoming(self.now, &node(from).0, &Packet::parse(packet).unwrap())
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }
}

fn allow(rules: &[(&str, &[&str])]) -> Vec<Allow> {
    rules
        .iter()
        .map(|(peer, ports)| Allow {
            peer: peer.parse().unwrap(),
            ports: ports.iter().map(|text| text.parse().unwrap()).collect(),
        })
        .collect()
}

fn ip(seed: u64) -> Ipv6Addr {
    node(seed).1
}

#[test]
fn without_rules_nothing_comes_in() {
    let mut bench = Bench::new(&[]);
    for packet in [
        tcp(ip(2), ip(1), (1000, 22), testing::SYN),
        tcp(ip(2), ip(1), (1000, 22), testing::ACK),
        udp(ip(2), ip(1), (1000, 53), b"x"),
        icmp(ip(2), ip(1), 128, 1, b""),
        icmp(ip(2), ip(1), 129, 1, b""),
        icmp(ip(2), ip(1), 1, 0, &tcp(ip(1), ip(2), (22, 1000), testing::ACK)),
        ipv6(ip(2), ip(1), 132, b"sctp"),
    ] {
        assert_eq!(bench.verdict(2, &packet), Err(Denied::Closed), "{packet:?}");
    }
    assert_eq!(bench.filter.flows(), 0);
}

#[test]
fn rules_open_their_ports_to_their_peers() {
    let friend = node(2).0.to_string();
    let mut bench = Bench::new(&[(&friend, &["tcp/22", "udp/100-200"]), ("*", &["icmp", "tcp/80"])]);
    let syn = |from, port| tcp(ip(from), ip(1), (1000, port), testing::SYN);
    assert!(bench.passes(2, &syn(2, 22)));
    assert!(!bench.passes(3, &syn(3, 22)));
    assert!(bench.passes(3, &syn(3, 80)));
    assert!(!bench.passes(2, &syn(2, 23)));
    assert!(
        bench.passes(2, &udp(ip(2), ip(1), (9, 100), b""))
            && bench.passes(2, &udp(ip(2), ip(1), (9, 200), b""))
    );
    assert!(
        !bench.passes(2, &udp(ip(2), ip(1), (9, 201), b""))
            && !bench.passes(2, &udp(ip(2), ip(1), (9, 22), b""))
    );
    assert!(bench.passes(3, &icmp(ip(3), ip(1), 128, 1, b"")));
}

#[test]
fn new_rules_hold_at_once() {
    let mut bench = Bench::new(&[("*", &["tcp/22"])]);
    let syn = tcp(ip(2), ip(1), (1000, 22), testing::SYN);
    assert!(bench.passes(2, &syn));
    bench.filter.set_rules(vec![]);
    assert!(!bench.passes(2, &syn));
}

#[test]
fn replies_to_flows_from_inside_pass_and_others_do_not() {
    let mut bench = Bench::new(&[]);
    bench.out(2, &tcp(ip(1), ip(2), (4000, 80), testing::SYN));
    bench.out(2, &udp(ip(1), ip(2), (4001, 53), b"?"));
    bench.out(2, &icmp(ip(1), ip(2), 128, 7, b""));
    assert!(bench.passes(2, &tcp(ip(2), ip(1), (80, 4000), testing::SYN | testing::ACK)));
    assert!(bench.passes(2, &udp(ip(2), ip(1), (53, 4001), b"!")));
    assert!(bench.passes(2, &icmp(ip(2), ip(1), 129, 7, b"")));

    assert!(!bench.passes(2, &tcp(ip(2), ip(1), (81, 4000), testing::SYN | testing::ACK)), "another port");
    assert!(!bench.passes(3, &tcp(ip(3), ip(1), (80, 4000), testing::SYN | testing::ACK)), "another node");
    assert!(!bench.passes(2, &udp(ip(2), ip(1), (53, 4000), b"")), "another local port");
    assert!(!bench.passes(2, &icmp(ip(2), ip(1), 129, 8, b"")), "another identifier");
    assert!(!bench.passes(2, &icmp(ip(2), ip(1), 128, 7, b"")), "a request is no reply");
}

#[test]
fn own_pings_are_answered_where_echo_requests_are_allowed_too() {
    let mut bench = Bench::new(&[("*", &["icmp"])]);
    bench.out(2, &icmp(ip(1), ip(2), 128, 7, b""));
    assert!(bench.passes(2, &icmp(ip(2), ip(1), 129, 7, b"")));
    assert!(!bench.passes(2, &icmp(ip(2), ip(1), 129, 8, b"")));
}

#[test]
fn flows_end_when_they_are_idle() {
    let mut bench = Bench::new(&[]);
    let reply = udp(ip(2), ip(1), (53, 4001), b"!");
    bench.out(2, &udp(ip(1), ip(2), (4001, 53), b"?"));
    for _ in 0..10 {
        bench.wait(299);
        assert!(bench.passes(2, &reply), "a flow that is used lives");
    }
    bench.wait(300);
    assert!(!bench.passes(2, &reply));
    assert_eq!(bench.filter.flows(), 0);
}

#[test]
fn a_closed_connection_is_forgotten_soon_and_an_open_one_is_not() {
    let mut bench = Bench::new(&[]);
    let data = tcp(ip(2), ip(1), (80, 4000), testing::ACK);
    bench.out(2, &tcp(ip(1), ip(2), (4000, 80), testing::SYN));
    assert!(bench.passes(2, &tcp(ip(2), ip(1), (80, 4000), testing::SYN | testing::ACK)));
    bench.wait(7_000);
    assert!(bench.passes(2, &data), "an idle connection");
    assert!(bench.passes(2, &tcp(ip(2), ip(1), (80, 4000), testing::FIN | testing::ACK)));
    bench.wait(59);
    assert!(bench.passes(2, &data), "the other half may still send");
    bench.wait(60);
    assert!(!bench.passes(2, &data));

    // The same ports again: a new connection with a full life.
    bench.out(2, &tcp(ip(1), ip(2), (4000, 80), testing::SYN));
    assert!(bench.passes(2, &tcp(ip(2), ip(1), (80, 4000), testing::SYN | testing::ACK)));
    bench.wait(7_000);
    assert!(bench.passes(2, &data));
}

#[test]
fn a_connection_that_is_older_than_the_table_goes_on_once_this_host_speaks() {
    let mut bench = Bench::new(&[]);
    assert!(!bench.passes(2, &tcp(ip(2), ip(1), (80, 4000), testing::ACK)));
    bench.out(2, &tcp(ip(1), ip(2), (4000, 80), testing::ACK));
    assert!(bench.passes(2, &tcp(ip(2), ip(1), (80, 4000), testing::ACK)));
}

#[test]
fn a_stranger_cannot_fill_the_table_through_an_open_port() {
    let mut bench = Bench::new(&[("*", &["tcp/22", "udp/53"])]);
    for port in 1..5000 {
        assert!(bench.passes(2, &tcp(ip(2), ip(1), (port, 22), testing::SYN)));
        bench.out(2, &tcp(ip(1), ip(2), (22, port), testing::SYN | testing::ACK));
        bench.out(2, &udp(ip(1), ip(2), (53, port), b"answer"));
        bench.out(2, &icmp(ip(1), ip(2), 129, port, b""));
        // The answer of a closed port.
        bench.out(2, &tcp(ip(1), ip(2), (23, port), testing::RST | testing::ACK));
    }
    assert_eq!(bench.filter.flows(), 0);
}

#[test]
fn the_table_of_flows_is_bounded_and_keeps_what_was_used_last() {
    let mut filter = Filter::with_room(vec![], 100);
    let now = Instant::now();
    for port in 1..=10_000 {
        let packet = udp(ip(1), ip(2), (port, 53), b"");
        filter.outgoing(now, &node(2).0, &Packet::parse(&packet).unwrap());
        let first = udp(ip(1), ip(2), (1, 53), b"");
        filter.outgoing(now, &node(2).0, &Packet::parse(&first).unwrap());
    }
    assert_eq!(filter.flows(), 100);
    let mut passes = |port| {
        let reply = udp(ip(2), ip(1), (53, port), b"");
        filter.incoming(now, &node(2).0, &Packet::parse(&reply).unwrap()).is_ok()
    };
    assert!(passes(10_000) && passes(1) && !passes(2));
    filter.sweep(now + Duration::from_secs(3600));
    assert_eq!(filter.flows(), 0);
}

#[test]
fn fragments_pass_after_a_first_one_that_passed() {
    let part = |offset, identification| {
        let mut body = fragment(6, offset, true, identification);
        if offset == 0 {
            body.extend(tcp_body((1000, 22), testing::SYN));
        } else {
            body.extend([0; 24]);
        }
        ipv6(ip(2), ip(1), 44, &body)
    };
    let mut bench = Bench::new(&[("*", &["tcp/22"])]);
    assert!(!bench.passes(2, &part(3, 5)), "the first has not been seen");
    assert!(bench.passes(2, &part(0, 5)) && bench.passes(2, &part(3, 5)));
    assert!(!bench.passes(2, &part(3, 6)), "another packet");
    bench.wait(60);
    assert!(!bench.passes(2, &part(3, 5)), "too late");
    for identification in 0..10_000 {
        assert!(bench.passes(2, &part(0, identification)));
    }
    assert_eq!(bench.filter.fragments.len(), Filter::FRAGMENTS);

    let mut closed = Bench::new(&[]);
    assert!(!closed.passes(2, &part(0, 5)) && !closed.passes(2, &part(3, 5)));
}

#[test]
fn errors_about_own_packets_pass_from_where_they_went() {
    let mut bench = Bench::new(&[]);
    let sent = udp(ip(1), ip(2), (4001, 53), b"?");
    bench.out(2, &sent);
    assert!(bench.passes(2, &icmp(ip(2), ip(1), 1, 0, &sent)));
    assert!(!bench.passes(3, &icmp(ip(3), ip(1), 1, 0, &sent)), "from another node");
    let other = udp(ip(1), ip(2), (4002, 53), b"?");
    assert!(!bench.passes(2, &icmp(ip(2), ip(1), 1, 0, &other)), "about a flow that never was");
    let foreign = udp(ip(3), ip(2), (4001, 53), b"?");
    assert!(!bench.passes(2, &icmp(ip(2), ip(1), 1, 0, &foreign)), "about another's packet");
    assert!(!bench.passes(2, &icmp(ip(2), ip(1), 1, 0, b"nonsense")));
}

#[test]
fn neighbour_discovery_and_source_routes_never_come_in() {
    let mut bench = Bench::new(&[("*", &["tcp", "udp", "icmp"])]);
    for kind in 130..=255 {
        let packet = icmp(ip(2), ip(1), kind, 0, b"");
        assert_eq!(bench.verdict(2, &packet), Err(Denied::Never), "type {kind}");
    }
    let mut body = testing::extension(17, [4, 1, 0, 0, 0, 0]);
    body.extend(testing::udp_body((1, 2), b""));
    assert_eq!(bench.verdict(2, &ipv6(ip(2), ip(1), 43, &body)), Err(Denied::Never));
}

#[test]
fn rules_are_written_as_in_the_config() {
    for text in ["tcp/22", "udp/6000-6010", "icmp"] {
        assert_eq!(text.parse::<Ports>().map(|ports| ports.to_string()), Ok(text.into()));
    }
    assert_eq!("tcp".parse(), Ok(Ports::Tcp(0, 65_535)));
    for text in [
        "",
        "tcp/",
        "tcp/x",
        "tcp/2-1",
        "tcp/65536",
        "tcp/+1",
        "tcp/1-2-3",
        "icmp/1",
        "sctp/1",
        "TCP/1",
        "tcp/ 1",
    ] {
        assert_eq!(text.parse::<Ports>(), Err(RuleError::Ports(text.into())));
    }
    assert!("nobody".parse::<Who>().is_err());
    assert_eq!(node(1).0.to_string().parse(), Ok(Who::Node(node(1).0)));
}

proptest! {
    /// Whatever strangers send, and whatever this host answers, nothing new is let in while there are no rules.
    #[test]
    fn strangers_open_nothing(packets in proptest::collection::vec((0u8..4, any::<u16>(), any::<u16>(), any::<u8>()), 0..100)) {
        let mut bench = Bench::new(&[]);
        for (kind, source, destination, flags) in packets {
            let inward = match kind {
                0 => tcp(ip(2), ip(1), (source, destination), flags),
                1 => udp(ip(2), ip(1), (source, destination), b""),
                2 => icmp(ip(2), ip(1), flags, source, b""),
                _ => ipv6(ip(2), ip(1), flags | 0x80, b""),
            };
            if Packet::parse(&inward).is_ok() {
                prop_assert!(!bench.passes(2, &inward));
            }
        }
        prop_assert_eq!(bench.filter.flows(), 0);
    }
}
