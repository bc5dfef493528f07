//! Unix sockets: frames, ends, sockets left behind, peers that do not read.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use byway_link::{DialError, DialId, Endpoint, Event, Place, Transport, TransportId};
use byway_transport_ip::Unix;

const LIMIT: Duration = Duration::from_secs(20);

async fn events(transport: &mut Unix) -> Vec<Event> {
    let mut batch = Vec::new();
    let polled = poll_fn(|cx| transport.poll_recv(cx, &mut batch));
    tokio::time::timeout(LIMIT, polled).await.expect("something happens").unwrap();
    batch
}

async fn dial(transport: &mut Unix, path: &Path) -> Result<Place, DialError> {
    transport.dial(DialId(1), &Endpoint::unix(path.to_str().unwrap()).unwrap());
    match events(transport).await.into_iter().next() {
        Some(Event::Dialled { result, .. }) => result.map(|places| places[0]),
        other => panic!("{other:?}"),
    }
}

async fn opened(transport: &mut Unix) -> Place {
    match events(transport).await.into_iter().next() {
        Some(Event::Opened { place }) => place,
        other => panic!("{other:?}"),
    }
}

async fn send(transport: &mut Unix, batch: Vec<(Place, Bytes)>) {
    let mut batch = VecDeque::from(batch);
    poll_fn(|cx| transport.poll_send(cx, &mut batch)).await.unwrap();
    assert!(batch.is_empty());
}

fn frames(events: Vec<Event>) -> Vec<Vec<u8>> {
    let frame = |event| match event {
        Event::Frame { frame, .. } => Some(frame.to_vec()),
        _ => None,
    };
    events.into_iter().filter_map(frame).collect()
}

#[tokio::test]
async fn frames_keep_their_borders_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    let (mut a, mut b) = (Unix::listen(TransportId(0), &path).unwrap(), Unix::new(TransportId(0)));
    assert_eq!(a.listening()[0].path(), path.to_str());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let to_a = dial(&mut b, &path).await.unwrap();
    let to_b = opened(&mut a).await;
    for size in [1, 100, 16_384] {
        let sent: Vec<Bytes> = (0..20u8).map(|n| Bytes::from(vec![n; size])).collect();
        send(&mut b, sent.iter().map(|frame| (to_a, frame.clone())).collect()).await;
        let mut got = Vec::new();
        while got.len() < sent.len() {
            let mut batch = Vec::new();
            let received = poll_fn(|cx| {
                // What did not fit the system's buffer leaves while the other side reads.
                assert!(b.poll_send(cx, &mut VecDeque::new()).is_ready());
                a.poll_recv(cx, &mut batch)
            });
            tokio::time::timeout(LIMIT, received).await.expect("frames come").unwrap();
            got.extend(frames(batch));
        }
        assert_eq!(got, sent);
        send(&mut a, vec![(to_b, sent[3].clone())]).await;
        assert_eq!(frames(events(&mut b).await), [sent[3].to_vec()]);
    }
}

#[tokio::test]
async fn an_end_is_told_and_the_socket_goes_with_its_transport() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    let (mut a, mut b) = (Unix::listen(TransportId(0), &path).unwrap(), Unix::new(TransportId(0)));
    let to_a = dial(&mut b, &path).await.unwrap();
    let to_b = opened(&mut a).await;
    b.hang_up(to_a);
    assert!(matches!(events(&mut a).await[..], [Event::Closed { place }] if place == to_b));
    drop(a);
    assert!(!path.exists());
    assert_eq!(dial(&mut b, &path).await, Err(DialError::Unreachable));
}

#[tokio::test]
async fn a_socket_left_behind_is_replaced_and_anything_else_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let first = Unix::listen(TransportId(0), &path).unwrap();
    assert!(Unix::listen(TransportId(1), &path).is_err(), "somebody listens there");
    drop(first);
    std::fs::write(&path, "a file").unwrap();
    assert!(Unix::listen(TransportId(0), &path).is_err());
    assert_eq!(std::fs::read(&path).unwrap(), b"a file");
}

#[tokio::test]
async fn a_peer_that_does_not_read_loses_frames_and_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    let mut a = Unix::listen(TransportId(0), &path).unwrap();
    let mut silent = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let to_silent = opened(&mut a).await;
    let mut live = Unix::new(TransportId(0));
    dial(&mut live, &path).await.unwrap();
    let to_live = opened(&mut a).await;
    let big = Bytes::from(vec![1; 16_384]);
    for _ in 0..500 {
        send(&mut a, vec![(to_silent, big.clone())]).await;
    }
    assert!(a.counters().dropped > 300, "{:?}", a.counters());
    send(&mut a, vec![(to_live, Bytes::from_static(b"hello"))]).await;
    assert_eq!(frames(events(&mut live).await), [b"hello"]);
    // A frame that is none ends the connection.
    silent.write_all(&[0xff, 0xff, 1, 2, 3]).unwrap();
    assert!(matches!(events(&mut a).await[..], [Event::Closed { place }] if place == to_silent));
    assert_eq!(a.counters().refused, 1);
}

#[tokio::test]
async fn connections_are_bounded() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("link");
    let mut a = Unix::listen(TransportId(0), &path).unwrap();
    let mut streams = Vec::new();
    let mut opened = 0;
    for _ in 0..300 {
        streams.push(std::os::unix::net::UnixStream::connect(&path).unwrap());
        if opened < 256 {
            opened += events(&mut a).await.len();
        }
    }
    let refused = poll_fn(|cx| {
        let mut batch = Vec::new();
        assert!(a.poll_recv(cx, &mut batch).is_pending(), "{batch:?}");
        if a.counters().refused == 44 { Poll::Ready(()) } else { Poll::Pending }
    });
    tokio::time::timeout(LIMIT, refused).await.expect("the rest is refused");
    assert_eq!(opened, 256);
}
