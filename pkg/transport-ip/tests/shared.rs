//! The shared socket on loopback, with every help of the kernel and without it, and a transport that threads feed.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_fastpath::{Ecn, HandUp, Head, Trains, Underlay};
use byway_link::{Event, Place, Remote, Transport, TransportId};
use byway_transport_ip::{Feed, Offload, Options, SharedUdp, Udp, UdpPort};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

const ALL: Offload = Offload { segment: true, gro: true, mmsg: true };
/// Each help alone missing, and all.
const WAYS: [Offload; 5] = [
    ALL,
    Offload { segment: false, ..ALL },
    Offload { gro: false, ..ALL },
    Offload { mmsg: false, ..ALL },
    Offload { segment: false, gro: false, mmsg: false },
];
const LIMIT: Duration = Duration::from_secs(20);

fn bind(address: &str, offload: Offload) -> SharedUdp {
    SharedUdp::bind(address.parse().unwrap(), Options { offload, reuse_port: false }).unwrap()
}

/// Waits until something has come, and takes it.
fn receive(socket: &SharedUdp, trains: &mut Trains) -> Vec<(Head, Vec<u8>)> {
    loop {
        match socket.receive(trains) {
            Ok(()) => return trains.iter_mut().map(|(head, bytes)| (head, bytes.to_vec())).collect(),
            Err(why) => assert_eq!(why.kind(), io::ErrorKind::WouldBlock, "{why}"),
        }
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut fds, PollTimeout::try_from(LIMIT).unwrap()).unwrap();
        assert_eq!(ready, 1, "nothing came in {LIMIT:?}");
    }
}

/// Waits for `count` datagrams.
fn datagrams(socket: &SharedUdp, count: usize) -> Vec<(Head, Vec<u8>)> {
    let (mut trains, mut got) = (Trains::new(4), Vec::new());
    while got.len() < count {
        for (head, bytes) in receive(socket, &mut trains) {
            got.extend(bytes.chunks(head.stride).map(|bytes| (head, bytes.to_vec())));
        }
    }
    got
}

/// Frames of `segment` bytes with their number in each byte, and a short last one.
fn train(count: u8, segment: usize) -> Vec<u8> {
    let mut train: Vec<u8> = (0..count).flat_map(|number| vec![number; segment]).collect();
    train.extend_from_slice(b"the last is shorter");
    train
}

#[test]
fn trains_pass_whole_and_in_order_with_and_without_help() {
    for ways in [(ALL, ALL)].into_iter().chain(WAYS.map(|way| (way, ALL))).chain(WAYS.map(|way| (ALL, way))) {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (a, b) = (bind(address, ways.0), bind(address, ways.1));
            assert_eq!((a.offload(), b.offload()), ways, "this kernel lacks something");
            let sent = train(40, 1_400);
            assert_eq!(a.send(b.local_addr(), Ecn::NotEct, &sent, 1_400).unwrap(), sent.len());
            let got = datagrams(&b, 41);
            assert!(got.iter().all(|(head, _)| head.from == a.local_addr()), "{ways:?}");
            let got: Vec<&[u8]> = got.iter().map(|(_, bytes)| &bytes[..]).collect();
            assert!(got.iter().copied().eq(sent.chunks(1_400)), "{ways:?}: not what was sent");
            let (sends, receives) = (a.counters().sends, b.counters().receives);
            match ways.0 {
                Offload { segment: true, .. } | Offload { mmsg: true, .. } => {
                    assert_eq!(sends, 1, "{ways:?}");
                }
                _ => assert_eq!(sends, 41, "{ways:?}"),
            }
            assert_eq!((a.counters().sent, b.counters().received), (41, 41));
            match ways.1 {
                // What was sent in pieces comes in pieces, but may be taken four at a time.
                Offload { gro: true, .. } if ways.0.segment => assert_eq!(receives, 1, "{ways:?}"),
                Offload { mmsg: true, .. } => assert!((11..=41).contains(&receives), "{ways:?}: {receives}"),
                _ => assert_eq!(receives, 41, "{ways:?}"),
            }
        }
    }
}

#[test]
fn a_train_too_long_for_one_call_leaves_in_several() {
    let (a, b) = (bind("[::1]:0", ALL), bind("[::1]:0", ALL));
    // 100 frames are more than one call carries, by number and by length.
    let sent = train(100, 1_452);
    assert_eq!(a.send(b.local_addr(), Ecn::NotEct, &sent, 1_452).unwrap(), sent.len());
    let got: Vec<u8> = datagrams(&b, 101).into_iter().flat_map(|(_, bytes)| bytes).collect();
    assert!(got == sent && a.counters().sends == 3, "{:?}", a.counters());
    // 45 frames of the longest are what a super-packet of the portal becomes.
    let sent = vec![7; 45 * 1_452];
    assert_eq!(a.send(b.local_addr(), Ecn::NotEct, &sent, 1_452).unwrap(), sent.len());
    assert_eq!((datagrams(&b, 45).len(), a.counters().sends), (45, 4));
}

#[test]
fn congestion_marks_are_set_and_read_in_both_families_and_mapped() {
    for way in WAYS {
        let hub = bind("[::]:0", way);
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let peer = bind(address, way);
            let hub_at = SocketAddr::new(peer.local_addr().ip(), hub.local_addr().port());
            for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
                for (from, to, at) in [(&peer, &hub, hub_at), (&hub, &peer, peer.local_addr())] {
                    let sent = train(3, 100);
                    assert_eq!(from.send(at, ecn, &sent, 100).unwrap(), sent.len());
                    for (head, _) in datagrams(to, 4) {
                        assert_eq!(head.ecn, ecn, "{address} {way:?}");
                        assert_eq!(head.from.is_ipv4(), peer.local_addr().is_ipv4(), "IPv4 is IPv4");
                    }
                }
            }
        }
    }
}

#[test]
fn what_is_too_long_or_goes_nowhere_costs_the_rest_of_the_train_nothing() {
    for way in WAYS {
        let (a, b) = (bind("[::]:0", way), bind("127.0.0.1:0", way));
        // Too long for any interface, but for the last.
        let long = vec![1; 65_530 + 100];
        assert_eq!(a.send(b.local_addr(), Ecn::NotEct, &long, 65_530).unwrap(), long.len());
        assert_eq!(datagrams(&b, 1)[0].1.len(), 100, "{way:?}");
        assert_eq!(a.counters().too_long, 1, "{way:?}");
        let odd = ["127.0.0.1:0", "0.0.0.0:9", "[ff02::1]:9", "255.255.255.255:9", "[fe80::1]:9"];
        for address in odd {
            let sent = train(9, 500);
            assert_eq!(a.send(address.parse().unwrap(), Ecn::NotEct, &sent, 500).unwrap(), sent.len());
        }
        assert_eq!(a.counters().unreachable, 50, "{way:?}: {:?}", a.counters());
        let before = a.counters().sends;
        a.send(b.local_addr(), Ecn::NotEct, &train(9, 500), 500).unwrap();
        datagrams(&b, 10);
        if way.segment {
            assert_eq!(a.counters().sends - before, 1, "odd destinations ended the trains for all");
        }
    }
}

#[test]
fn siblings_share_an_address_when_asked_for() {
    let alone = bind("127.0.0.1:0", ALL);
    assert_eq!(alone.sibling().unwrap_err().kind(), io::ErrorKind::Unsupported);
    let options = Options { reuse_port: true, ..Options::default() };
    let first = SharedUdp::bind("127.0.0.1:0".parse().unwrap(), options).unwrap();
    let second = first.sibling().unwrap();
    assert_eq!(first.local_addr(), second.local_addr());
    // Each source reaches one of them, and all that it sends does.
    let sources: Vec<SharedUdp> = (0..64).map(|_| bind("127.0.0.1:0", ALL)).collect();
    for source in &sources {
        source.send(first.local_addr(), Ecn::NotEct, &[1, 2], 1).unwrap();
    }
    let (mut trains, mut counts) = (Trains::new(8), [0, 0]);
    while counts[0] + counts[1] < 128 {
        let mut fds = [&first, &second].map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        assert!(poll(&mut fds, PollTimeout::try_from(LIMIT).unwrap()).unwrap() > 0, "{counts:?}");
        for (socket, count) in [&first, &second].into_iter().zip(&mut counts) {
            if socket.receive(&mut trains).is_ok() {
                *count += trains.iter_mut().map(|(head, _)| head.length).sum::<usize>();
            }
        }
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
}

#[test]
fn nothing_that_is_printed_tells_where() {
    let socket = bind("127.0.0.1:0", ALL);
    let port = socket.local_addr().port().to_string();
    socket.send(socket.local_addr(), Ecn::Ce, b"x", 1).unwrap();
    let shown = format!("{socket:?} {:?}", receive(&socket, &mut Trains::new(1))[0].0);
    assert!(!shown.contains(&port) && !shown.contains("127.0"), "{shown}");
}

fn share(address: &str) -> (Udp, UdpPort) {
    let mut udp = Udp::bind(TransportId(3), address.parse().unwrap()).unwrap();
    let port = udp.share();
    (udp, port)
}

async fn events(udp: &mut Udp) -> Vec<Event> {
    let mut batch = Vec::new();
    let polled = poll_fn(|cx| udp.poll_recv(cx, &mut batch));
    tokio::time::timeout(LIMIT, polled).await.expect("events in time").unwrap();
    batch
}

fn datagram(bytes: &[u8]) -> HandUp {
    HandUp::Datagram { from: ([192, 0, 2, 1], 9).into(), bytes: BytesMut::from(bytes) }
}

#[tokio::test]
async fn a_fed_transport_reads_the_feed_and_leaves_the_socket_to_threads() {
    let (mut udp, port) = share("127.0.0.1:0");
    let stranger = bind("127.0.0.1:0", ALL);
    stranger.send(udp.local_addr(), Ecn::NotEct, b"for the thread", 100).unwrap();
    let mut batch = Vec::new();
    let pending = poll_fn(|cx| Poll::Ready(udp.poll_recv(cx, &mut batch).is_pending())).await;
    assert!(pending && batch.is_empty(), "it took what is for the thread");
    assert_eq!(receive(port.socket(), &mut Trains::new(1))[0].1, b"for the thread");
    port.hand_up(&mut vec![datagram(b"one"), datagram(b"two")]);
    let got = events(&mut udp).await;
    let [Event::Frame { place, frame: one }, Event::Frame { frame: two, .. }] = &got[..] else {
        panic!("{got:?}")
    };
    assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"two"[..]));
    assert_eq!(
        *place,
        Place { transport: TransportId(3), remote: Remote::Ip(([192, 0, 2, 1], 9).into()), mtu: 1_472 }
    );
    assert_eq!(port.port(), 3);
}

#[tokio::test]
async fn a_waiting_transport_is_woken_by_its_feed_and_when_the_threads_are_gone() {
    let (mut udp, port) = share("127.0.0.1:0");
    let address = udp.local_addr();
    let reader = tokio::spawn(async move {
        let fed = events(&mut udp).await;
        let own = events(&mut udp).await;
        (fed, own)
    });
    // On one thread: the reader waits before anything comes.
    tokio::task::yield_now().await;
    port.hand_up(&mut vec![datagram(b"fed")]);
    tokio::task::yield_now().await;
    let clone = port.clone();
    drop(port);
    drop(clone);
    let stranger = bind("127.0.0.1:0", ALL);
    stranger.send(address, Ecn::NotEct, b"own", 100).unwrap();
    let (fed, own) = reader.await.unwrap();
    assert!(matches!(&fed[..], [Event::Frame { frame, .. }] if frame == "fed"), "{fed:?}");
    assert!(matches!(&own[..], [Event::Frame { frame, .. }] if frame == "own"), "{own:?}");
}

#[tokio::test]
async fn what_a_feed_keeps_is_bounded_in_number_and_in_bytes() {
    let (mut udp, port) = share("127.0.0.1:0");
    for _ in 0..2 * Feed::EVENTS {
        port.hand_up(&mut vec![datagram(b"x")]);
    }
    assert_eq!(udp.counters().unread, Feed::EVENTS as u64);
    let mut kept = 0;
    while kept < Feed::EVENTS {
        kept += events(&mut udp).await.len();
    }
    let long = vec![0; 60_000];
    for _ in 0..100 {
        port.hand_up(&mut vec![datagram(&long), datagram(&long)]);
    }
    let fit = Feed::BYTES / long.len();
    assert_eq!(udp.counters().unread, (Feed::EVENTS + 200 - fit) as u64);
    // Room again once it has been read.
    let before = udp.counters().unread;
    assert_eq!(events(&mut udp).await.len(), fit);
    port.hand_up(&mut vec![datagram(&long)]);
    assert_eq!((udp.counters().unread, events(&mut udp).await.len()), (before, 1));
}

#[tokio::test]
async fn a_fed_transport_sends_and_dials_as_before() {
    let (mut udp, _port) = share("127.0.0.1:0");
    let peer = bind("127.0.0.1:0", ALL);
    let place = Place { transport: TransportId(3), remote: Remote::Ip(peer.local_addr()), mtu: 1_472 };
    let mut batch: VecDeque<(Place, Bytes)> = (0..30).map(|n| (place, Bytes::from(vec![n; 900]))).collect();
    while !batch.is_empty() {
        poll_fn(|cx| udp.poll_send(cx, &mut batch)).await.unwrap();
    }
    assert!(datagrams(&peer, 30).iter().zip(0u8..).all(|((_, bytes), n)| *bytes == vec![n; 900]));
    assert_eq!(udp.counters().sends, 1);
    udp.dial(byway_link::DialId(5), &"udp://192.0.2.1:9".parse().unwrap());
    assert!(matches!(&events(&mut udp).await[..], [Event::Dialled { result: Ok(_), .. }]));
}

#[tokio::test]
async fn threads_and_the_runtime_may_send_on_one_socket_at_once() {
    let (mut udp, port) = share("[::1]:0");
    let peer = Arc::new(bind("[::1]:0", ALL));
    let to = peer.local_addr();
    let thread = std::thread::spawn(move || {
        for number in 0..200u8 {
            assert_eq!(port.send(to, Ecn::Ect0, &[number; 500], 100).unwrap(), 500);
        }
    });
    let place = Place { transport: TransportId(3), remote: Remote::Ip(to), mtu: 1_452 };
    for number in 0..200u8 {
        let mut batch = VecDeque::from([(place, Bytes::from(vec![number; 101]))]);
        while !batch.is_empty() {
            poll_fn(|cx| udp.poll_send(cx, &mut batch)).await.unwrap();
        }
    }
    thread.join().unwrap();
    let got = datagrams(&peer, 200 * 6);
    for length in [100, 101] {
        let mut last = 0;
        for (_, bytes) in got.iter().filter(|(_, bytes)| bytes.len() == length) {
            assert!(bytes[0] >= last && bytes.iter().all(|byte| *byte == bytes[0]), "mixed up");
            last = bytes[0];
        }
        assert_eq!(last, 199);
    }
}
