//! The WebSocket of a node: what breaks its rules, and what its windows are for.

use std::time::Duration;

use crate::common::World;
use bytes::{Bytes, BytesMut};
use byway_api::frame::{Record, WINDOW_TO_CLIENT, cost, decode};
use byway_api::{Code, Kind, Outgoing, Request, Service as _};
use byway_httpd::Options;
use byway_identity::Addr;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

struct Socket {
    addr: Addr,
    stream: WebSocketStream<UnixStream>,
}

impl Socket {
    async fn open(world: &World) -> Self {
        let (addr, token) = world.open().await;
        let url = format!("ws://localhost/v1/nodes/{addr}/messages?token={token}");
        let (stream, _) =
            tokio_tungstenite::client_async(url, world.unix().await).await.expect("the token is right");
        Self { addr: addr.parse().expect("it is an address"), stream }
    }

    async fn send(&mut self, records: &[Record]) {
        let mut frame = BytesMut::new();
        for record in records {
            record.encode(&mut frame);
        }
        self.stream.send(Message::Binary(frame.freeze())).await.expect("the stream goes on");
    }

    /// The records of the next frame.
    async fn read(&mut self) -> Vec<Record> {
        match self.stream.next().await {
            Some(Ok(Message::Binary(frame))) => decode(&frame).expect("they are records"),
            other => panic!("{other:?}"),
        }
    }

    /// The close code that ends the stream.
    async fn end(&mut self) -> u16 {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Close(Some(close)))) => return close.code.into(),
                Some(Ok(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

fn message(addr: Addr, payload: impl Into<Bytes>) -> Record {
    Record::Payload { kind: Kind::Message, addr, mancon: None, deadline_ms: 0, payload: payload.into() }
}

#[tokio::test]
async fn many_messages_in_one_frame_are_answered_by_few_records() {
    let world = World::new(Options::default()).await;
    let (mut a, mut b) = (Socket::open(&world).await, Socket::open(&world).await);
    let records: Vec<_> = (0..50u8).map(|number| message(b.addr, vec![number])).collect();
    a.send(&records).await;
    let (mut arrived, mut taken) = (Vec::new(), 0);
    while arrived.len() < 50 {
        for record in b.read().await {
            match record {
                Record::Payload { addr, payload, .. } if addr == a.addr => arrived.push(payload[0]),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(arrived.iter().copied().eq(0..50), "in order: {arrived:?}");
    let mut answers = 0;
    while taken < 50 {
        for record in a.read().await {
            match record {
                Record::Taken { addr, held: false, count, .. } if addr == b.addr => {
                    (taken, answers) = (taken + count, answers + 1);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(taken == 50 && answers <= 2, "{taken} in {answers}");
}

#[tokio::test]
async fn a_refused_message_is_told_with_its_code() {
    let world = World::new(Options::default()).await;
    let mut socket = Socket::open(&world).await;
    socket.send(&[message(Addr::NOBODY, "x")]).await;
    let [Record::Error { kind: Kind::Message, addr: Addr::NOBODY, error }] = &socket.read().await[..] else {
        panic!("one error")
    };
    assert_eq!(error.code, Code::Unknown);
}

#[tokio::test]
async fn what_breaks_the_protocol_ends_the_stream_with_a_reason() {
    let world = World::new(Options::default()).await;
    let taken = Record::Taken { addr: Addr::NOBODY, mancon: byway_api::ManCon::Low, held: false, count: 1 };
    let mut frame = BytesMut::new();
    taken.encode(&mut frame);
    for (bad, code) in [
        (Message::text("hello"), 1003),
        (Message::Binary(Bytes::from_static(b"\0\0\0\x26")), 1002),
        (Message::Binary(frame.freeze()), 1002),
    ] {
        let mut socket = Socket::open(&world).await;
        socket.stream.send(bad).await.expect("the stream goes on");
        assert_eq!(socket.end().await, code);
    }
    assert_eq!(world.ask("GET", "/healthz", "").await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn the_daemon_sends_no_more_than_the_window_until_it_is_given_credit() {
    let world = World::new(Options::default()).await;
    let mut socket = Socket::open(&world).await;
    let (main, to) = (world.realm.main(), socket.addr);
    let payload = Bytes::from(vec![0; 65_535]);
    let feed = tokio::spawn({
        let payload = payload.clone();
        async move {
            loop {
                let request = Request { deadline: Some(Duration::from_secs(1)), ..Request::default() };
                let outgoing = Outgoing { to, kind: Kind::Message, payload: payload.clone(), request };
                if main.send(outgoing).await.is_err() {
                    return;
                }
            }
        }
    });
    let mut read = 0;
    // Time stands still while anything moves, so that a second of nothing is the window's end.
    while let Ok(records) = tokio::time::timeout(Duration::from_secs(1), socket.read()).await {
        read += records.len() * cost(&payload);
    }
    assert!((WINDOW_TO_CLIENT..WINDOW_TO_CLIENT + 2 * cost(&payload)).contains(&read), "{read}");
    feed.await.expect("the sender was refused at last");
    socket.send(&[Record::Credit { cost: u32::try_from(read).expect("it is small") }]).await;
    assert!(!socket.read().await.is_empty(), "credit opens the window");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_ignores_its_windows_is_refused_and_bounded() {
    let world = World::new(Options::default()).await;
    let (mut rude, deaf) = (Socket::open(&world).await, Socket::open(&world).await);
    let mut busy = 0;
    for _ in 0..40 {
        // 640 KiB a frame to someone whose queues hold less than the sum of them.
        let records: Vec<_> = (0..10).map(|_| message(deaf.addr, vec![0; 65_535])).collect();
        rude.send(&records).await;
        while let Ok(records) = tokio::time::timeout(Duration::from_millis(1), rude.read()).await {
            busy += records
                .iter()
                .filter(|record| matches!(record, Record::Error { error, .. } if error.code == Code::Busy))
                .count();
        }
    }
    assert!(busy > 100, "{busy}");
}
