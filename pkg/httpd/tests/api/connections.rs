//! Connections: slow ones, too many of them, and their end.

use std::time::Duration;

use crate::common::World;
use bytes::BytesMut;
use byway_api::inet256::{Frame, decode};
use byway_api::{Kind, OpenNode, Outgoing, Request, Service as _};
use byway_httpd::Options;
use byway_identity::SigningKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(start_paused = true)]
async fn a_head_or_body_that_does_not_come_is_given_up() {
    let world = World::new(Options::default()).await;
    for part in [
        "",
        "GET /v1/sta",
        "GET /v1/status HTTP/1.1\r\nHost: x\r\n",
        "POST /v1/nodes HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut stream = world.unix().await;
        stream.write_all(part.as_bytes()).await.expect("it is served");
        let mut answer = String::new();
        let closed = tokio::time::timeout(Duration::from_secs(90), stream.read_to_string(&mut answer));
        closed.await.unwrap_or_else(|_| panic!("{part:?} is waited for")).expect("the end is clean");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408 "), "{part:?}: {answer}");
    }
    assert_eq!(world.ask("GET", "/healthz", "").await.status, 200);
}

#[tokio::test]
async fn too_many_connections_are_told_so_and_places_become_free() {
    let world = World::new(Options { connections: 4, ..Options::default() }).await;
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut stream = world.unix().await;
        // Answered and kept open: it has its place.
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("it is served");
        assert_eq!(stream.read(&mut [0; 1]).await.expect("it answers"), 1);
        held.push(stream);
    }
    let mut refused = String::new();
    world.unix().await.read_to_string(&mut refused).await.expect("the end is clean");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    drop(held);
    let free = async {
        while world.ask("GET", "/healthz", "").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.expect("places become free");
}

fn open_request(key: &SigningKey) -> Vec<u8> {
    let secret = byway_api::exchange::Secret::from_key(key);
    let body = format!(r#"{{"private_key":"{}"}}"#, secret.reveal());
    let head = format!(
        "CONNECT /nodes/{} HTTP/1.1\r\nHost: \r\nContent-Length: {}\r\n\r\n",
        key.public().addr(),
        body.len()
    );
    (head + &body).into_bytes()
}

#[tokio::test]
async fn the_api_ends_with_its_streams_and_their_nodes() {
    let world = World::new(Options::default()).await;
    let key = SigningKey::from_seed(&[4; 32]);
    let mut stream = world.unix().await;
    stream.write_all(&open_request(&key)).await.expect("it is served");
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.expect("it answers");
    assert_eq!(&head, b"HTTP/1.1 200 OK");
    world.httpd.close();
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
    ended.expect("the stream ends").expect("the end is clean");
    let free = async {
        while world.realm.open(OpenNode { key: Some(key.clone()), mancon: None }).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.expect("the node has ended too");
}

#[tokio::test]
async fn the_answer_to_connect_has_no_transfer_encoding_and_the_stream_begins_at_once() {
    let world = World::new(Options::default()).await;
    let key = SigningKey::from_seed(&[5; 32]);
    let mut early = BytesMut::from(&open_request(&key)[..]);
    // Sent in the same breath as the request.
    Frame::Data { addr: key.public().addr(), payload: "me".into() }.encode(&mut early);
    let mut stream = world.unix().await;
    stream.write_all(&early).await.expect("it is served");
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.expect("it answers");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("it is text").to_lowercase();
    assert!(head.starts_with("http/1.1 200 ok\r\n") && !head.contains("transfer-encoding"), "{head}");
    let mut read = BytesMut::new();
    loop {
        while let Some(frame) = decode(&mut read).expect("they are frames") {
            match frame {
                Frame::Keep => {}
                Frame::Data { addr, payload } => {
                    assert_eq!((addr, &payload[..]), (key.public().addr(), &b"me"[..]));
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_ne!(stream.read_buf(&mut read).await.expect("it goes on"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_makes_its_senders_wait_and_nothing_grow() {
    let world = World::new(Options::default()).await;
    let key = SigningKey::from_seed(&[6; 32]);
    let mut deaf = world.unix().await;
    deaf.write_all(&open_request(&key)).await.expect("it is served");
    let mut head = [0; 12];
    deaf.read_exact(&mut head).await.expect("it answers");
    let main = world.realm.main();
    let request = Request { deadline: Some(Duration::from_secs(1)), ..Request::default() };
    let mut taken = 0;
    loop {
        let outgoing = Outgoing {
            to: key.public().addr(),
            kind: Kind::Message,
            payload: vec![0; 65_535].into(),
            request,
        };
        match main.send(outgoing).await {
            Ok(_) => taken += 1,
            Err(error) => {
                assert_eq!(error.code, byway_api::Code::Busy);
                break;
            }
        }
        // The queue of the realm holds 64, and socket and buffers less than that.
        assert!(taken < 200, "something grows");
    }
}
