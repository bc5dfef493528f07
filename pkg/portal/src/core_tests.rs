//! Tests of the portal's decisions.

use proptest::prelude::*;

use super::*;
use crate::icmp::checksum;
use crate::packet::{HEADER, ICMP, Upper};
use crate::resolve::Resolver;
use crate::testing::{self, icmp, node, tcp, udp};

/// Node 1's portal, with the way to every node as long as `mtu` says.
struct Bench {
    core: Core,
    now: Instant,
    mtu: usize,
}

impl Bench {
    fn new(ports: &[&str]) -> Self {
        let ports = ports.iter().map(|text| text.parse().unwrap()).collect();
        let allow = vec![Allow { peer: crate::Who::Anyone, ports }];
        let core = Core::new(node(1).0, Ipv6Range::default(), allow).unwrap();
        Self { core, now: Instant::now(), mtu: 0 }
    }

    fn out(&mut self, packet: &Bytes) -> Vec<Action> {
        let (mtu, mut out) = (self.mtu, Vec::new());
        self.core.from_device(self.now, packet.clone(), &|_| mtu, &mut out);
        out
    }

    fn inward(&mut self, from: u64, packet: &Bytes) -> Vec<Action> {
        let (mtu, mut out) = (self.mtu, Vec::new());
        self.core.from_node(self.now, &node(from).0, packet.clone(), &|_| mtu, &mut out);
        out
    }

    fn found(&mut self, who: u64, answer: Result<Addr, Code>) -> Vec<Action> {
        let (mtu, mut out) = (self.mtu, Vec::new());
        self.core.found(self.now, ip(who), answer, &|_| mtu, &mut out);
        out
    }

    fn heartbeat(&mut self) -> Vec<Action> {
        let mut out = Vec::new();
        self.core.heartbeat(self.now, &mut out);
        out
    }

    fn dropped(&self, reason: Reason) -> u64 {
        self.core.counters().dropped(reason)
    }
}

fn ip(seed: u64) -> Ipv6Addr {
    node(seed).1
}

fn to(seed: u64, packet: &Bytes) -> Action {
    Action::Send { to: node(seed).0, packet: packet.clone() }
}

fn find(seed: u64) -> Action {
    Action::Find { destination: ip(seed), prefix: Ipv6Range::default().prefix(ip(seed)).unwrap() }
}

/// Type, code and MTU of an ICMPv6 error to node 1, and the packet it is about.
fn notice(action: &Action) -> (u8, u8, u32, Bytes) {
    let Action::Inject(packet) = action else { panic!("{action:?} is no notice") };
    let read = Packet::parse(packet).unwrap();
    assert!(matches!(read.upper, Upper::Error(_)));
    assert_eq!(read.destination, ip(1));
    assert_eq!(checksum(read.source, read.destination, ICMP, &packet[HEADER..]), 0);
    let mtu = u32::from_be_bytes(packet[HEADER + 4..HEADER + 8].try_into().unwrap());
    (packet[HEADER], packet[HEADER + 1], mtu, packet.slice(HEADER + 8..))
}

#[test]
fn a_packet_waits_until_its_destination_is_found_and_the_next_one_does_not() {
    let mut bench = Bench::new(&[]);
    let [first, second] = [b"1", b"2"].map(|text| udp(ip(1), ip(2), (1, 2), text));
    assert_eq!(bench.out(&first), [find(2)]);
    assert_eq!(bench.found(2, Ok(node(2).0)), [to(2, &first)]);
    assert_eq!(bench.out(&second), [to(2, &second)]);
    assert_eq!(bench.core.counters().packets_out, 2);
}

#[test]
fn an_answer_that_does_not_fit_the_address_is_not_believed() {
    let mut bench = Bench::new(&[]);
    let packet = udp(ip(1), ip(2), (1, 2), b"");
    bench.out(&packet);
    let out = bench.found(2, Ok(node(3).0));
    assert_eq!(notice(&out[0]), (1, 3, 0, packet));
}

#[test]
fn only_packets_of_this_node_leave() {
    let mut bench = Bench::new(&[]);
    assert_eq!(bench.out(&udp(ip(3), ip(2), (1, 2), b"")), []);
    assert_eq!(bench.dropped(Reason::ForeignSource), 1);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
    assert_eq!(bench.out(&udp(Ipv6Addr::UNSPECIFIED, group, (1, 2), b"")), []);
    assert_eq!(bench.dropped(Reason::Group), 1);
    assert_eq!(bench.out(&Bytes::from_static(&[0x45; 40])), []);
    assert_eq!(bench.dropped(Reason::Malformed), 1);
}

#[test]
fn destinations_that_no_node_can_have_are_refused() {
    let mut bench = Bench::new(&[]);
    let outside = udp(ip(1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), (1, 2), b"");
    let out = bench.out(&outside);
    assert_eq!(notice(&out[0]), (1, 0, 0, outside));
    let own = udp(ip(1), ip(1), (1, 2), b"");
    let out = bench.out(&own);
    assert_eq!(notice(&out[0]), (1, 3, 0, own));
    assert_eq!(bench.dropped(Reason::OutsideRange), 2);
}

#[test]
fn each_refusal_is_told_with_its_code() {
    for (code, expected) in [
        (Code::ManconUnsatisfied, Some((1, 1))),
        (Code::TargetForbidden, Some((1, 1))),
        (Code::NoWay, Some((1, 0))),
        (Code::Down, Some((1, 3))),
        (Code::Refused, Some((1, 4))),
        (Code::Busy, None),
    ] {
        let mut bench = Bench::new(&[]);
        let packet = udp(ip(1), ip(2), (1, 2), b"");
        let mut out = Vec::new();
        bench.core.send_failed(bench.now, &packet, code, &mut out);
        assert_eq!(out.first().map(notice).map(|(kind, code, ..)| (kind, code)), expected, "{code}");
    }
}

#[test]
fn who_waits_in_vain_is_told_and_so_is_the_next_one() {
    let mut bench = Bench::new(&[]);
    let packet = udp(ip(1), ip(2), (1, 2), b"");
    bench.out(&packet);
    bench.out(&packet);
    assert_eq!(bench.core.next_heartbeat(), Some(bench.now + Resolver::HOLD));
    bench.now += Resolver::HOLD;
    let out = bench.heartbeat();
    assert_eq!(
        out.iter().map(notice).collect::<Vec<_>>(),
        [(1, 3, 0, packet.clone()), (1, 3, 0, packet.clone())]
    );
    assert_eq!(notice(&bench.out(&packet)[0]), (1, 3, 0, packet.clone()));
    bench.now += Resolver::KEEP_FAILURE;
    assert_eq!(bench.out(&packet), [find(2)]);
}

#[test]
fn a_destination_that_nobody_knows_does_not_hold_up_the_others() {
    let mut bench = Bench::new(&[]);
    bench.out(&udp(ip(1), ip(2), (1, 2), b""));
    bench.found(2, Ok(node(2).0));
    for unknown in 100..1000 {
        for _ in 0..20 {
            bench.out(&udp(ip(1), ip(unknown), (1, 2), &[0; 1000]));
        }
        let packet = udp(ip(1), ip(2), (1, 2), b"");
        assert_eq!(bench.out(&packet), [to(2, &packet)]);
    }
    assert!(bench.dropped(Reason::HoldFull) > 0);
}

#[test]
fn too_long_packets_are_told_the_length_that_fits() {
    let mut bench = Bench::new(&[]);
    bench.out(&udp(ip(1), ip(2), (1, 2), b""));
    bench.found(2, Ok(node(2).0));
    bench.mtu = 1348;
    let long = udp(ip(1), ip(2), (1, 2), &[0; 1301]);
    let (kind, code, mtu, about) = notice(&bench.out(&long)[0]);
    assert_eq!((kind, code, mtu), (2, 0, 1348));
    assert_eq!(about[..], long[..about.len()]);
    let fits = udp(ip(1), ip(2), (1, 2), &[0; 1300]);
    assert_eq!(bench.out(&fits), [to(2, &fits)]);

    // IPv6 promises 1,280 bytes: a way that carries less fragments them.
    bench.mtu = 1100;
    let minimum = udp(ip(1), ip(2), (1, 2), &[0; 1232]);
    assert_eq!((minimum.len(), bench.out(&minimum)), (1280, vec![to(2, &minimum)]));
    assert_eq!(notice(&bench.out(&fits)[0]).2, 1280);

    bench.mtu = 0;
    assert_eq!(bench.out(&long), [to(2, &long)], "a length that is not known is no limit");
}

#[test]
fn notices_are_limited_and_counted() {
    let mut bench = Bench::new(&[]);
    let outside = udp(ip(1), Ipv6Addr::LOCALHOST, (1, 2), b"");
    let told = (0..10_000).filter(|_| !bench.out(&outside).is_empty()).count() as u64;
    let counters = bench.core.counters();
    assert!(told < 100 && told == counters.notices, "{told} notices");
    assert_eq!(counters.notices_suppressed, 10_000 - told);
}

#[test]
fn inward_packets_must_be_of_their_sender_for_this_node_and_whole() {
    let mut bench = Bench::new(&["udp"]);
    let good = udp(ip(2), ip(1), (1, 2), b"hello");
    assert_eq!(bench.inward(2, &good), [Action::Inject(good.clone())]);
    assert_eq!(bench.inward(3, &good), []);
    assert_eq!(bench.dropped(Reason::InwardForeignSource), 1);
    assert_eq!(bench.inward(2, &udp(ip(2), ip(3), (1, 2), b"")), []);
    assert_eq!(bench.dropped(Reason::InwardForeignDestination), 1);
    assert_eq!(bench.inward(2, &good.slice(..good.len() - 1)), []);
    assert_eq!(bench.dropped(Reason::InwardMalformed), 1);
    assert_eq!(bench.inward(2, &tcp(ip(2), ip(1), (1, 2), testing::SYN)), []);
    assert_eq!(bench.dropped(Reason::Denied), 1);
    assert_eq!(bench.inward(2, &icmp(ip(2), ip(1), 135, 0, b"")), []);
    assert_eq!(bench.dropped(Reason::Never), 1);
    assert_eq!((bench.core.counters().packets_in, bench.core.counters().bytes_in), (1, good.len() as u64));
}

#[test]
fn a_reply_needs_no_search_and_a_waiting_packet_leaves_at_once() {
    let mut bench = Bench::new(&["udp"]);
    bench.inward(2, &udp(ip(2), ip(1), (1, 2), b"?"));
    let reply = udp(ip(1), ip(2), (2, 1), b"!");
    assert_eq!(bench.out(&reply), [to(2, &reply)]);

    let waiting = udp(ip(1), ip(3), (2, 1), b"!");
    assert_eq!(bench.out(&waiting), [find(3)]);
    let arrives = udp(ip(3), ip(1), (1, 2), b"?");
    assert_eq!(bench.inward(3, &arrives), [Action::Inject(arrives.clone()), to(3, &waiting)]);
}

#[test]
fn replies_to_what_left_come_in_without_a_rule() {
    let mut bench = Bench::new(&[]);
    let (request, reply) = (icmp(ip(1), ip(2), 128, 9, b""), icmp(ip(2), ip(1), 129, 9, b""));
    assert_eq!(bench.inward(2, &reply), []);
    bench.out(&request);
    assert_eq!(bench.inward(2, &reply), [], "it has not left yet");
    bench.found(2, Ok(node(2).0));
    assert_eq!(bench.inward(2, &reply), [Action::Inject(reply.clone())]);
}

#[test]
fn memory_is_given_back_when_traffic_stops() {
    let mut bench = Bench::new(&[]);
    for other in 2..300 {
        bench.out(&udp(ip(1), ip(other), (1, 2), b""));
        bench.found(other, Ok(node(other).0));
    }
    assert!(bench.core.filter.flows() > 200 && bench.core.resolver.answers() > 200);
    while let Some(next) = bench.core.next_heartbeat() {
        bench.now = next;
        assert_eq!(bench.heartbeat(), []);
    }
    assert_eq!((bench.core.filter.flows(), bench.core.resolver.answers()), (0, 0));
}

#[test]
fn another_range_is_used_throughout() {
    let range: Ipv6Range = "fd00::/8".parse().unwrap();
    let mut core = Core::new(node(1).0, range, vec![]).unwrap();
    let (own, other) = (range.ipv6(&node(1).0).unwrap(), range.ipv6(&node(2).0).unwrap());
    let mut out = Vec::new();
    core.from_device(Instant::now(), udp(own, other, (1, 2), b""), &|_| 0, &mut out);
    assert!(matches!(out[..], [Action::Find { destination, .. }] if destination == other));
}

#[test]
fn threads_get_an_answer_for_what_is_known_and_sound_and_nothing_is_noted_for_the_rest() {
    let mut bench = Bench::new(&[]);
    let packet = udp(ip(1), ip(2), (7, 9), b"x");
    let reply = udp(ip(2), ip(1), (9, 7), b"y");
    let odd = [
        Bytes::from_static(b"no packet"),
        udp(ip(3), ip(2), (7, 9), b""),
        udp(ip(1), ip(1), (7, 9), b""),
        udp(ip(1), "ff02::1".parse().unwrap(), (7, 9), b""),
        udp(ip(1), "2001:db8::1".parse().unwrap(), (7, 9), b""),
        packet.clone(),
    ];
    let before = bench.core.counters().clone();
    for packet in &odd {
        assert_eq!(bench.core.fast_outgoing(bench.now, packet), None, "{packet:?}");
    }
    assert_eq!(bench.core.counters(), &before, "the slow path counts");
    assert!(!bench.core.fast_incoming(bench.now, &node(2).0, &reply), "no flow was opened");

    bench.out(&packet);
    bench.found(2, Ok(node(2).0));
    let other = udp(ip(1), ip(2), (8, 9), b"x");
    assert_eq!(bench.core.fast_outgoing(bench.now, &other), Some(node(2).0));
    assert!(bench.core.fast_incoming(bench.now, &node(2).0, &udp(ip(2), ip(1), (9, 8), b"z")), "a flow");
    bench.now += Resolver::KEEP;
    assert_eq!(bench.core.fast_outgoing(bench.now, &other), None, "asked for again, in the slow path");
}

#[test]
fn what_threads_let_in_answers_who_the_sender_is_but_moves_nothing_that_waits() {
    let mut bench = Bench::new(&["udp"]);
    assert!(bench.core.fast_incoming(bench.now, &node(2).0, &udp(ip(2), ip(1), (9, 7), b"")));
    assert_eq!(bench.core.fast_outgoing(bench.now, &udp(ip(1), ip(2), (7, 9), b"")), Some(node(2).0));
    let waits = udp(ip(1), ip(3), (7, 9), b"");
    bench.out(&waits);
    assert!(bench.core.fast_incoming(bench.now, &node(3).0, &udp(ip(3), ip(1), (9, 7), b"")));
    assert_eq!(bench.found(3, Ok(node(3).0)), [to(3, &waits)], "it waited for the answer of the network");
}

proptest! {
    /// Neither programs nor peers can say anything that makes it panic, or inject what is not for this node.
    #[test]
    fn any_bytes_either_way_are_survived(
        steps in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..120), 0usize..6), 0..50),
    ) {
        let mut bench = Bench::new(&["tcp", "udp", "icmp"]);
        for (outward, tail, form) in steps {
            let (a, b) = if outward { (ip(1), ip(2)) } else { (ip(2), ip(1)) };
            let next = [0, 6, 17, 44, 58, 43][form];
            let packet = if tail.len() % 7 == 0 { tail.into() } else { testing::ipv6(a, b, next, &tail) };
            let actions = if outward { bench.out(&packet) } else { bench.inward(2, &packet) };
            for action in actions {
                if let Action::Inject(packet) = action {
                    prop_assert_eq!(Packet::parse(&packet).map(|read| read.destination), Ok(ip(1)));
                }
            }
        }
    }

    /// The verdicts for threads are those of the slow path, flow by flow, and so are the counts of what is refused.
    #[test]
    fn threads_get_the_verdicts_of_the_slow_path(
        steps in proptest::collection::vec((any::<bool>(), 0u16..3, 0u16..3, 0u8..32, 1u64..4, 1u64..4), 0..60),
    ) {
        let (mut slow, mut fast) = (Bench::new(&["tcp/1"]), Bench::new(&["tcp/1"]));
        for bench in [&mut slow, &mut fast] {
            for other in [2, 3] {
                bench.core.resolver.learn(bench.now, ip(other), node(other).0);
            }
        }
        for (outward, a, b, flags, source, destination) in steps {
            let packet = if flags % 3 == 0 {
                udp(ip(source), ip(destination), (a, b), b"")
            } else {
                tcp(ip(source), ip(destination), (a, b), flags)
            };
            if outward {
                let sent = slow.out(&packet).iter().any(|action| matches!(action, Action::Send { .. }));
                prop_assert_eq!(fast.core.fast_outgoing(fast.now, &packet).is_some(), sent);
            } else {
                let passed = slow.inward(2, &packet).contains(&Action::Inject(packet.clone()));
                prop_assert_eq!(fast.core.fast_incoming(fast.now, &node(2).0, &packet), passed);
            }
        }
        for reason in [Reason::Denied, Reason::InwardForeignSource, Reason::InwardForeignDestination] {
            prop_assert_eq!(fast.dropped(reason), slow.dropped(reason));
        }
        prop_assert_eq!(fast.core.filter.flows(), slow.core.filter.flows());
    }
}
