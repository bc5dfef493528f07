//! Streams over nodes in memory, in fair weather and foul.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{ApiError, Code, Kind, Node, Outgoing, Request};
use byway_identity::Addr;
use byway_stream::{ConnectError, Endpoint, EndpointConfig, Incoming, Stream};
use common::{Net, Weather, noise};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(60);

/// Two endpoints, and the address of the second.
fn pair(net: &Arc<Net>) -> (Endpoint, Arc<Endpoint>, Addr) {
    let server = net.open(2);
    let addr = server.addr();
    let client = Endpoint::new(net.open(1), quick());
    (client, Arc::new(Endpoint::new(server, quick())), addr)
}

fn quick() -> EndpointConfig {
    EndpointConfig {
        deadline: Duration::from_secs(5),
        idle: Duration::from_secs(2),
        linger: Duration::from_secs(20),
        ..EndpointConfig::default()
    }
}

/// Opens one stream and gives both of its ends.
async fn open(client: &Endpoint, server: &Endpoint, to: Addr) -> (Stream, Stream) {
    let (ours, theirs) =
        tokio::join!(client.connect(to, "test"), async { server.accept().await.unwrap().accept().await });
    (ours.unwrap(), theirs.unwrap())
}

/// Accepts everything, and sends back what comes.
fn echo(server: Arc<Endpoint>) {
    tokio::spawn(async move {
        while let Some(incoming) = server.accept().await {
            tokio::spawn(echo_one(incoming));
        }
    });
}

async fn echo_one(incoming: Incoming) {
    let stream = incoming.accept().await.unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    tokio::io::copy(&mut read, &mut write).await.unwrap();
    write.shutdown().await.unwrap();
}

/// Sends `bytes`, ends the write half, and reads what comes back until its end.
async fn exchange(stream: Stream, bytes: Vec<u8>) -> Vec<u8> {
    let (mut read, mut write) = tokio::io::split(stream);
    let writer = tokio::spawn(async move {
        write.write_all(&bytes).await.unwrap();
        write.shutdown().await.unwrap();
    });
    let mut back = Vec::new();
    read.read_to_end(&mut back).await.unwrap();
    writer.await.unwrap();
    back
}

async fn two_ways(weather: Weather, seed: u64, length: usize) {
    let net = Net::new(seed, weather);
    let (client, server, addr) = pair(&net);
    let (ours, theirs) = open(&client, &server, addr).await;
    let (there, back) = (noise(seed, length), noise(seed + 1, length));
    let (at_us, at_them) =
        timeout(LIMIT, async { tokio::join!(exchange(ours, there.clone()), exchange(theirs, back.clone())) })
            .await
            .expect("it ends");
    assert!(at_us == back, "seed {seed}: what came to us differs");
    assert!(at_them == there, "seed {seed}: what came to them differs");
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_megabytes_arrive_whole_both_ways() {
    two_ways(Weather::default(), 1, 20_000_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_and_reordering_change_nothing_but_the_time() {
    for seed in 2..5 {
        let delay = Duration::from_millis(5);
        two_ways(Weather { loss: 20, reorder: 0, delay }, seed, 1_000_000).await;
        two_ways(Weather { loss: 20, reorder: 100, delay: Duration::ZERO }, seed, 1_000_000).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_streams_share_a_connection_and_keep_their_bytes_apart() {
    let net = Net::new(6, Weather::default());
    let (client, server, addr) = pair(&net);
    echo(server);
    let client = Arc::new(client);
    let streams: Vec<_> = (0..200)
        .map(|number| {
            let client = Arc::clone(&client);
            tokio::spawn(async move {
                let bytes = noise(number + 1, 20_000);
                let stream = client.connect(addr, "echo").await.unwrap();
                assert!(exchange(stream, bytes.clone()).await == bytes, "stream {number}");
            })
        })
        .collect();
    for stream in streams {
        timeout(LIMIT, stream).await.expect("it ends").unwrap();
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_the_writer_and_the_other_streams_go_on() {
    let net = Net::new(7, Weather::default());
    let (client, server, addr) = pair(&net);
    let (mut writer, mut reader) = open(&client, &server, addr).await;
    let chunk = noise(7, 64 * 1024);
    let mut written = 0;
    while let Ok(count) = timeout(Duration::from_millis(500), writer.write(&chunk)).await {
        written += count.unwrap();
        assert!(written <= 3 * 1024 * 1024, "nobody reads, and still the writer may write");
    }
    assert!(written >= 512 * 1024, "a window is there to be used, not {written} bytes of it");

    let (mut other, mut there) = open(&client, &server, addr).await;
    other.write_all(b"past the jam").await.unwrap();
    let mut text = [0; 12];
    there.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"past the jam");

    let mut left = written;
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        left -= timeout(LIMIT, reader.read(&mut buffer)).await.expect("it goes on").unwrap();
    }
    timeout(LIMIT, writer.write_all(&chunk)).await.expect("the writer goes on").unwrap();
}

#[tokio::test]
async fn the_service_and_the_dialler_are_told_and_either_may_be_refused() {
    let net = Net::new(8, Weather::default());
    let (client, server, addr) = pair(&net);
    let dialler = client.node().addr();
    let accept = tokio::spawn(async move {
        for _ in 0..2 {
            let incoming = server.accept().await.unwrap();
            assert_eq!(incoming.from, dialler);
            assert_eq!(incoming.service, "no such");
            incoming.refuse();
        }
        drop(server.accept().await.unwrap());
        server
    });
    for _ in 0..2 {
        assert_eq!(client.connect(addr, "no such").await.unwrap_err(), ConnectError::Refused);
    }
    assert_eq!(client.connect(addr, "dropped").await.unwrap_err(), ConnectError::Refused);
    assert_eq!(client.connect(addr, "").await.unwrap_err(), ConnectError::Service);
    assert_eq!(client.connect(addr, &"x".repeat(256)).await.unwrap_err(), ConnectError::Service);
    let server = accept.await.unwrap();
    // A refusal leaves the connection as it was.
    open(&client, &server, addr).await;
}

#[tokio::test]
async fn an_endpoint_that_accepts_nothing_refuses_at_once() {
    let net = Net::new(9, Weather::default());
    let server = net.open(2);
    let addr = server.addr();
    let _server = Endpoint::new(server, EndpointConfig { accept: false, ..quick() });
    let client = Endpoint::new(net.open(1), quick());
    let start = Instant::now();
    assert_eq!(client.connect(addr, "echo").await.unwrap_err(), ConnectError::Refused);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_half_closed_stream_is_still_read_and_close_waits_for_delivery() {
    let net = Net::new(10, Weather { delay: Duration::from_millis(20), ..Weather::default() });
    let (client, server, addr) = pair(&net);
    let (mut ours, mut theirs) = open(&client, &server, addr).await;
    ours.shutdown().await.unwrap();
    assert_eq!(theirs.read(&mut [0; 8]).await.unwrap(), 0, "the end has come");
    theirs.write_all(b"still here").await.unwrap();
    let start = Instant::now();
    theirs.close().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(40), "delivered takes there and back");
    let mut rest = String::new();
    ours.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "still here");
}

#[tokio::test]
async fn a_stream_dropped_after_its_end_is_delivered_and_one_dropped_before_is_an_error() {
    let net = Net::new(11, Weather::default());
    let (client, server, addr) = pair(&net);
    let bytes = noise(11, 300_000);
    let (mut ours, mut theirs) = open(&client, &server, addr).await;
    ours.write_all(&bytes).await.unwrap();
    ours.shutdown().await.unwrap();
    drop(ours);
    let mut whole = Vec::new();
    timeout(LIMIT, theirs.read_to_end(&mut whole)).await.unwrap().unwrap();
    assert!(whole == bytes);

    let (mut ours, mut theirs) = open(&client, &server, addr).await;
    ours.write_all(b"half a fi").await.unwrap();
    drop(ours);
    let error = timeout(LIMIT, theirs.read_to_end(&mut Vec::new())).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_peer_that_vanishes_ends_reads_and_writes_in_bounded_time() {
    let net = Net::new(12, Weather::default());
    let (client, server, addr) = pair(&net);
    let (mut ours, mut theirs) = open(&client, &server, addr).await;
    net.cut.store(true, Ordering::Relaxed);
    let start = Instant::now();
    ours.write_all(b"anyone?").await.unwrap();
    assert_eq!(ours.read(&mut [0; 8]).await.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(ours.write_all(b"anyone?").await.is_err());
    assert!(theirs.read(&mut [0; 8]).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(client.connect(addr, "test").await.unwrap_err(), ConnectError::Timeout);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test]
async fn a_short_cut_is_survived() {
    let net = Net::new(13, Weather::default());
    let (client, server, addr) = pair(&net);
    let (mut ours, mut theirs) = open(&client, &server, addr).await;
    net.cut.store(true, Ordering::Relaxed);
    ours.write_all(b"patience").await.unwrap();
    let before = net.lost.load(Ordering::Relaxed);
    while net.lost.load(Ordering::Relaxed) < before + 2 {
        tokio::task::yield_now().await;
    }
    net.cut.store(false, Ordering::Relaxed);
    let mut text = [0; 8];
    timeout(LIMIT, theirs.read_exact(&mut text)).await.unwrap().unwrap();
    assert_eq!(&text, b"patience");
}

#[tokio::test]
async fn a_peer_that_restarted_says_so_at_once_and_new_streams_work() {
    let net = Net::new(14, Weather::default());
    let config = EndpointConfig { idle: Duration::from_secs(60), ..quick() };
    let first = net.open(2);
    let addr = first.addr();
    let client = Endpoint::new(net.open(1), config.clone());
    let server = Endpoint::new(Arc::clone(&first) as _, config.clone());
    let (mut ours, _theirs) = open(&client, &server, addr).await;

    // The second takes the address over without a goodbye of the first, as after a kill.
    let server = Endpoint::new(net.open(2), config);
    let start = Instant::now();
    ours.write_all(b"do you know me?").await.unwrap();
    let error = timeout(LIMIT, ours.read(&mut [0; 8])).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(start.elapsed() < Duration::from_secs(5), "a reset, not a time-out");
    open(&client, &server, addr).await;
}

#[tokio::test]
async fn a_stream_opened_on_a_connection_that_died_unnoticed_finds_another() {
    let net = Net::new(15, Weather::default());
    let config = EndpointConfig { idle: Duration::from_secs(60), ..quick() };
    let server = net.open(2);
    let addr = server.addr();
    let client = Endpoint::new(net.open(1), config.clone());
    let server = Endpoint::new(server, config.clone());
    drop(open(&client, &server, addr).await);
    let server = Endpoint::new(net.open(2), config);
    timeout(Duration::from_secs(8), open(&client, &server, addr)).await.unwrap();
}

#[tokio::test]
async fn what_the_node_refuses_to_send_is_the_reason_that_connect_gives() {
    let net = Net::new(16, Weather::default());
    let (client, _server, addr) = pair(&net);
    let refusal = ApiError::new(Code::ManconUnsatisfied, "no transport is as private as high demands");
    *net.refusal.lock().unwrap() = Some(refusal.clone());
    let start = Instant::now();
    let error = client.connect(addr, "echo").await.unwrap_err();
    assert_eq!(error, ConnectError::Unreachable(refusal.clone()));
    assert_eq!(ApiError::from(error), refusal);
    assert!(start.elapsed() < Duration::from_secs(1), "what is in vain is not waited for");
}

#[tokio::test]
async fn the_end_of_the_node_ends_streams_accept_and_connect() {
    let net = Net::new(17, Weather::default());
    let (client, server, addr) = pair(&net);
    let (mut ours, _theirs) = open(&client, &server, addr).await;
    client.node().close();
    assert!(timeout(LIMIT, ours.read(&mut [0; 8])).await.unwrap().is_err());
    assert!(timeout(LIMIT, client.accept()).await.unwrap().is_none());
    assert_eq!(client.connect(addr, "echo").await.unwrap_err(), ConnectError::Closed);
}

#[tokio::test]
async fn closing_the_endpoint_tells_the_other_side_at_once() {
    let net = Net::new(18, Weather::default());
    let (client, server, addr) = pair(&net);
    let (_ours, mut theirs) = open(&client, &server, addr).await;
    let start = Instant::now();
    client.close().await;
    assert!(theirs.read(&mut [0; 8]).await.is_err());
    assert!(start.elapsed() < Duration::from_secs(3), "told, not timed out");
}

#[tokio::test]
async fn strangers_garbage_is_bounded_and_disturbs_nobody() {
    let net = Net::new(19, Weather::default());
    let server = net.open(2);
    let addr = server.addr();
    let config = EndpointConfig { remotes: 8, ..quick() };
    let server = Endpoint::new(server, config);
    let client = Endpoint::new(net.open(1), quick());
    let (mut ours, mut theirs) = open(&client, &server, addr).await;
    for stranger in 100..140 {
        let node = net.open(stranger);
        for length in [0, 1, 7, 21, 1200, 1400, 2048, 2049, 65_535] {
            for first in [0x00, 0x40, 0xc0, 0xff] {
                let mut payload = noise(u64::from(stranger) + length as u64, length);
                if let Some(byte) = payload.first_mut() {
                    *byte = first;
                }
                let payload = Bytes::from(payload);
                let request = Request::default();
                node.send(Outgoing { to: addr, kind: Kind::Message, payload, request }).await.unwrap();
            }
        }
    }
    ours.write_all(b"undisturbed").await.unwrap();
    let mut text = [0; 11];
    timeout(LIMIT, theirs.read_exact(&mut text)).await.unwrap().unwrap();
    assert_eq!(&text, b"undisturbed");
    open(&client, &server, addr).await;
}

#[tokio::test]
async fn remotes_that_are_in_use_are_never_pushed_out_by_newer_ones() {
    let net = Net::new(20, Weather::default());
    let node = net.open(1);
    let addr = node.addr();
    let hub = Endpoint::new(node, EndpointConfig { remotes: 2, ..quick() });
    let clients: Vec<_> = (2..5).map(|number| Endpoint::new(net.open(number), quick())).collect();
    let (mut first, mut at_hub) = open(&clients[0], &hub, addr).await;
    let _second = open(&clients[1], &hub, addr).await;
    let third = clients[2].connect(addr, "test").await.unwrap_err();
    assert_eq!(third, ConnectError::Timeout, "there is no room to answer in");
    assert_eq!(hub.connect(clients[2].node().addr(), "test").await.unwrap_err(), ConnectError::TooMany);
    first.write_all(b"mine").await.unwrap();
    let mut text = [0; 4];
    at_hub.read_exact(&mut text).await.unwrap();
    assert_eq!(&text, b"mine");
}

#[tokio::test]
async fn a_stranger_who_opens_streams_and_says_nothing_is_cut_at_the_cap() {
    let net = Net::new(21, Weather::default());
    let (client, server, addr) = pair(&net);
    // Nobody accepts here, so every stream waits; after those that may wait come answers that say so.
    let client = Arc::new(client);
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { client.connect(addr, "nobody comes").await.unwrap_err() })
        })
        .collect();
    for task in waiting {
        let error = timeout(LIMIT, task).await.unwrap().unwrap();
        assert!(matches!(error, ConnectError::Timeout | ConnectError::Busy), "{error:?}");
    }
    // Streams that were reset while they waited are still in the queue, so it shows how many got that far.
    let mut waited = 0;
    while let Ok(Some(incoming)) = timeout(Duration::from_millis(100), server.accept()).await {
        waited += 1;
        incoming.refuse();
    }
    assert!((1..=16).contains(&waited), "{waited} streams of a stranger waited");
}

#[tokio::test]
async fn connections_that_nobody_uses_are_closed() {
    let net = Net::new(22, Weather::default());
    let server = net.open(2);
    let addr = server.addr();
    let config = EndpointConfig { linger: Duration::from_millis(100), ..quick() };
    let client = Endpoint::new(net.open(1), config.clone());
    let server = Endpoint::new(server, config);
    let (mut ours, mut theirs) = open(&client, &server, addr).await;
    // While a stream is open, however quiet, the connection stays.
    assert!(timeout(Duration::from_millis(500), ours.read(&mut [0; 1])).await.is_err());
    theirs.write_all(b"x").await.unwrap();
    ours.read_exact(&mut [0; 1]).await.unwrap();
    drop((ours, theirs));
    let quiet = timeout(LIMIT, async {
        while client.connections() + server.connections() > 0 {
            tokio::task::yield_now().await;
        }
    });
    quiet.await.expect("the connection is closed");
    open(&client, &server, addr).await;
}

#[tokio::test]
async fn nothing_is_left_behind_when_endpoint_and_streams_are_gone() {
    let net = Net::new(23, Weather::default());
    let server = net.open(2);
    let addr = server.addr();
    let node = net.open(1);
    let client = Endpoint::new(Arc::clone(&node) as _, quick());
    let server = Endpoint::new(server, quick());
    let (ours, _theirs) = open(&client, &server, addr).await;
    drop(client);
    // The stream alone keeps it alive, and with it all is let go: tasks, queues, and the node.
    assert!(Arc::strong_count(&node) > 1);
    drop(ours);
    let gone = timeout(LIMIT, async {
        while Arc::strong_count(&node) > 1 {
            tokio::task::yield_now().await;
        }
    });
    gone.await.expect("the node is let go");
}

#[tokio::test]
async fn both_may_dial_at_once_and_a_node_may_dial_itself() {
    let net = Net::new(24, Weather::default());
    let (client, server, addr) = pair(&net);
    let back = client.node().addr();
    let accept = async |endpoint: &Endpoint| endpoint.accept().await.unwrap().accept().await.unwrap();
    let (there, _at_server, here, _at_client) = timeout(LIMIT, async {
        tokio::join!(
            client.connect(addr, "test"),
            accept(&server),
            server.connect(back, "test"),
            accept(&client)
        )
    })
    .await
    .unwrap();
    assert_eq!((there.unwrap().remote(), here.unwrap().remote()), (addr, back));

    let (mut ours, mut theirs) = timeout(LIMIT, open(&client, &client, back)).await.unwrap();
    ours.write_all(b"to myself").await.unwrap();
    let mut text = [0; 9];
    theirs.read_exact(&mut text).await.unwrap();
    assert_eq!((&text, theirs.remote()), (b"to myself", back));
}
