//! UDP on loopback: batches, trains, several peers, and destinations that are none.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use byway_link::{DialError, DialId, Endpoint, Event, Place, Remote, Transport, TransportId};
use byway_transport_ip::Udp;

const V4: &str = "127.0.0.1:0";
const V6: &str = "[::1]:0";
const LIMIT: Duration = Duration::from_secs(20);

fn bind(address: &str) -> Udp {
    Udp::bind(TransportId(0), address.parse().unwrap()).unwrap()
}

fn place(transport: &Udp) -> Place {
    let address = transport.local_addr();
    Place { transport: TransportId(0), remote: Remote::Ip(address), mtu: 1_200 }
}

async fn send(transport: &mut Udp, batch: Vec<(Place, Bytes)>) {
    let mut batch = VecDeque::from(batch);
    let sent = async {
        while !batch.is_empty() {
            poll_fn(|cx| transport.poll_send(cx, &mut batch)).await.unwrap();
        }
    };
    tokio::time::timeout(LIMIT, sent).await.expect("sending takes no time");
}

/// Waits for `count` frames; dials and the like are passed over.
async fn receive(transport: &mut Udp, count: usize) -> Vec<(Place, Vec<u8>)> {
    let mut frames = Vec::new();
    let received = async {
        while frames.len() < count {
            for event in events(transport).await {
                if let Event::Frame { place, frame } = event {
                    frames.push((place, frame.to_vec()));
                }
            }
        }
    };
    let in_time = tokio::time::timeout(LIMIT, received).await;
    assert!(in_time.is_ok(), "{} of {count} frames came", frames.len());
    frames
}

async fn events(transport: &mut Udp) -> Vec<Event> {
    let mut batch = Vec::new();
    poll_fn(|cx| transport.poll_recv(cx, &mut batch)).await.unwrap();
    assert!(!batch.is_empty(), "ready means that something came");
    batch
}

async fn dial(transport: &mut Udp, endpoint: &str) -> Result<Vec<Place>, DialError> {
    transport.dial(DialId(7), &endpoint.parse().unwrap());
    let dialled = tokio::time::timeout(LIMIT, events(transport)).await.expect("an answer");
    match dialled.into_iter().next() {
        Some(Event::Dialled { id: DialId(7), result }) => result,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn frames_arrive_whole_and_in_order_over_both_families() {
    for address in [V4, V6] {
        let (mut a, mut b) = (bind(address), bind(address));
        let frames: Vec<Bytes> =
            (0..200u16).map(|n| Bytes::from(vec![n as u8; 1 + usize::from(n) * 7])).collect();
        send(&mut a, frames.iter().map(|frame| (place(&b), frame.clone())).collect()).await;
        let received = receive(&mut b, frames.len()).await;
        for ((from, got), sent) in received.iter().zip(&frames) {
            assert_eq!(got, sent);
            assert_eq!(from.remote, place(&a).remote);
        }
    }
}

#[tokio::test]
async fn frames_of_one_size_leave_as_one_train_and_are_taken_apart_again() {
    let (mut a, mut b) = (bind(V6), bind(V6));
    let mut frames: Vec<Bytes> = (0..40u8).map(|n| Bytes::from(vec![n; 1_200])).collect();
    frames.push(Bytes::from_static(b"a short one ends the train"));
    frames.push(Bytes::from(vec![99; 1_200]));
    send(&mut a, frames.iter().map(|frame| (place(&b), frame.clone())).collect()).await;
    let received = receive(&mut b, frames.len()).await;
    assert!(received.iter().map(|(_, frame)| &frame[..]).eq(frames.iter().map(|frame| &frame[..])));
    assert_eq!(a.counters().sent, frames.len() as u64);
    assert!(a.counters().sends <= 3, "{:?}: this kernel has no UDP_SEGMENT?", a.counters());
}

#[tokio::test]
async fn one_socket_serves_peers_of_both_families() {
    let mut hub = bind("[::]:0");
    let port = hub.local_addr().port();
    let (mut four, mut six) = (bind(V4), bind(V6));
    let hub_at = |host: &str| Place {
        transport: TransportId(0),
        remote: Remote::Ip(format!("{host}:{port}").parse().unwrap()),
        mtu: 1_200,
    };
    send(&mut four, vec![(hub_at("127.0.0.1"), Bytes::from_static(b"four"))]).await;
    send(&mut six, vec![(hub_at("[::1]"), Bytes::from_static(b"six"))]).await;
    for (from, frame) in receive(&mut hub, 2).await {
        let peer = if frame == b"four" { &four } else { &six };
        assert_eq!(from.remote, Remote::Ip(peer.local_addr()), "IPv4 is IPv4 on a dual-stack socket too");
        assert_eq!(from.mtu, if frame == b"four" { 1_472 } else { 1_452 });
        send(&mut hub, vec![(from, Bytes::from(frame))]).await;
    }
    assert_eq!(receive(&mut four, 1).await[0].1, b"four");
    assert_eq!(receive(&mut six, 1).await[0].1, b"six");
}

#[tokio::test]
async fn dead_and_impossible_destinations_cost_the_others_nothing() {
    let mut a = bind("[::]:0");
    let (mut live, gone) = (bind(V4), bind(V4).local_addr());
    let at = |address: &str| Place {
        transport: TransportId(0),
        remote: Remote::Ip(address.parse().unwrap()),
        mtu: 1_200,
    };
    let mut odd = vec![
        Place { remote: Remote::Ip(gone), ..at("127.0.0.1:1") },
        at("127.0.0.1:0"),
        at("0.0.0.0:9"),
        at("[::]:9"),
        at("224.0.0.1:9"),
        at("255.255.255.255:9"),
        at("[ff02::1]:9"),
        at("[fe80::1]:9"),
        at("[100::1]:9"),
        at("240.0.0.1:9"),
    ];
    odd.push(Place { remote: Remote::Connection(3), ..odd[0] });
    let mut batch = Vec::new();
    for round in 0..50u8 {
        for place in &odd {
            batch.push((*place, Bytes::from(vec![round; 700])));
            batch.push((*place, Bytes::from(vec![round; 700])));
        }
        batch.push((place(&live), Bytes::from(vec![round; 700])));
        // Longer than any interface takes.
        batch.push((place(&live), Bytes::from(vec![round; 65_530])));
    }
    send(&mut a, batch).await;
    let received = receive(&mut live, 50).await;
    assert!(received.iter().zip(0u8..).all(|((_, frame), round)| *frame == vec![round; 700]));
    let counters = a.counters();
    assert_eq!(counters.too_long, 50, "{counters:?}");
    assert!(counters.unreachable >= 50 * 8 * 2, "{counters:?}");

    let (before, train) = (a.counters().sends, vec![(place(&live), Bytes::from(vec![1; 1_000])); 20]);
    send(&mut a, train).await;
    receive(&mut live, 20).await;
    assert!(a.counters().sends - before < 20, "odd destinations ended the trains for all");
}

#[tokio::test]
async fn endpoints_become_places() {
    let mut udp = bind("[::]:0");
    let four = Remote::Ip("192.0.2.1:2561".parse().unwrap());
    let places = dial(&mut udp, "udp://192.0.2.1:2561").await.unwrap();
    assert_eq!(places, [Place { transport: TransportId(0), remote: four, mtu: 1_472 }]);
    let places = dial(&mut udp, "udp://[2001:db8::1]:2561").await.unwrap();
    assert_eq!((places.len(), places[0].mtu), (1, 1_452));
    let places = dial(&mut udp, "udp://localhost:2561").await.unwrap();
    assert!(
        places.iter().all(|place| matches!(place.remote, Remote::Ip(address) if address.ip().is_loopback()))
    );
    // Fails without asking a name server.
    assert_eq!(dial(&mut udp, "udp://[fe80::1%no-such-one]:2561").await, Err(DialError::Name));
    assert_eq!(dial(&mut udp, "unix:///run/x").await, Err(DialError::Unsupported));
    let mut only_four = bind(V4);
    assert_eq!(dial(&mut only_four, "udp://[::1]:2561").await, Err(DialError::Unreachable));
}

#[tokio::test]
async fn what_it_prints_can_be_dialled() {
    let mut udp = bind(V6);
    let printed = udp.listening()[0].to_string();
    let places = dial(&mut udp, &printed).await.unwrap();
    assert_eq!(places[0].remote, Remote::Ip(udp.local_addr()));
    let described: Endpoint = udp.describe(places[0]).parse().unwrap();
    assert_eq!(described.socket_addr(), Some(udp.local_addr()));
    let shown = format!("{udp:?}");
    assert!(!shown.contains("::1") && !shown.contains(&udp.local_addr().port().to_string()), "{shown}");
}

#[tokio::test]
async fn an_address_in_use_is_an_error() {
    let udp = bind(V4);
    let again = Udp::bind(TransportId(1), udp.local_addr());
    assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
}

#[tokio::test]
async fn empty_datagrams_are_passed_over() {
    let mut udp = bind(V4);
    let stranger = std::net::UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    for _ in 0..200 {
        stranger.send_to(&[], udp.local_addr()).unwrap();
    }
    stranger.send_to(b"x", udp.local_addr()).unwrap();
    assert_eq!(receive(&mut udp, 1).await[0].1, b"x");
}

#[tokio::test]
async fn nothing_to_receive_is_pending() {
    let mut udp = bind(V4);
    let mut batch = Vec::new();
    let pending = poll_fn(|cx| Poll::Ready(udp.poll_recv(cx, &mut batch).is_pending())).await;
    assert!(pending && batch.is_empty());
}
