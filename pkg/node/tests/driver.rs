//! Running cores on a real runtime, joined by links in memory.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use byway_api::body::PeerSpec;
use byway_api::{Code, Incoming, Kind, MESSAGE_MAX, ManCon, Node, OpenNode, Outgoing, Request};
use byway_identity::{Addr, OsEntropy, Prefix, SigningKey};
use byway_link::{Accept, MemoryHub, PeerConfig, Transport, TransportId};
use byway_network::Class;
use byway_node::{Config, Handle, Levels, start};

const LEVELS: Levels = Levels { default: ManCon::Low, floor: ManCon::Low, direct: true };
/// A test that waits longer for a condition has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Daemons in a row, each dialling the one before it.
fn chain(count: usize) -> Vec<Handle> {
    let hub = MemoryHub::new();
    let keys: Vec<_> = (0..count).map(|_| SigningKey::generate(&mut OsEntropy)).collect();
    let transports: Vec<_> =
        (0..count).map(|number| hub.transport(TransportId(0), &number.to_string(), Class::UDP)).collect();
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set");
    transports
        .into_iter()
        .enumerate()
        .map(|(number, transport)| {
            let peers = number.checked_sub(1).map(|before| {
                let endpoint = format!("unix:///{before}").parse().expect("an endpoint");
                (PeerConfig::new(keys[before].public().addr(), vec![endpoint]), None)
            });
            let config = Config {
                key: keys[number].clone(),
                protocol: byway_grove::PROTOCOL,
                network: "test".to_owned(),
                group_key: None,
                accept: Accept::Network,
                levels: LEVELS,
                peers: peers.into_iter().collect(),
                boot: unix.as_millis() as u64,
                unix: unix.as_secs(),
                ratchet: Duration::from_secs(120),
                ciphers: byway_node::Ciphers::AES,
            };
            start(config, vec![Box::new(transport) as Box<dyn Transport>])
        })
        .collect()
}

fn message(to: Addr, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { to, kind: Kind::Message, payload: payload.into(), request: Request::default() }
}

async fn receive(node: &Arc<dyn Node>) -> Incoming {
    tokio::time::timeout(PATIENCE, node.recv(Kind::Message))
        .await
        .expect("in time")
        .expect("the node is open")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_uses_the_length_that_its_way_carries() {
    let daemons = chain(3);
    let one = daemons[0].open(OpenNode::default()).await.expect("there is room");
    let other = daemons[0].open(OpenNode::default()).await.expect("there is room");
    // The least that any way carries is 1,120 bytes; in memory more fits, and within a daemon still more.
    for (from, to, least) in [(daemons[0].main(), daemons[2].main(), 1_300), (one, other, 16_000)] {
        from.send(message(to.addr(), "hello")).await.expect("taken");
        assert_eq!(receive(&to).await.from, from.addr());
        let length = from.path_mtu(to.addr());
        assert!(length >= least, "{length} bytes rather than {least}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_messages_over_two_hops_arrive_in_order_and_none_is_lost() {
    let daemons = chain(3);
    let (sender, receiver) = (daemons[0].main(), daemons[2].main());
    let to = receiver.addr();
    let from = sender.addr();
    let sending = tokio::spawn(async move {
        for number in 0..10_000u32 {
            let mut payload = vec![0; 1_280];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            sender.send(message(to, payload)).await.expect("taken");
        }
    });
    for number in 0..10_000u32 {
        let incoming = receive(&receiver).await;
        assert_eq!(incoming.from, from);
        assert_eq!(incoming.payload[..4], number.to_be_bytes());
    }
    sending.await.expect("all were taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_nodes_of_one_daemon_exchange_messages_all_to_all() {
    let daemon = chain(1).remove(0);
    let mut nodes = Vec::new();
    for _ in 0..100 {
        nodes.push(daemon.open(OpenNode::default()).await.expect("opens"));
    }
    let addrs: Vec<_> = nodes.iter().map(|node| node.addr()).collect();
    let sending: Vec<_> = nodes
        .iter()
        .cloned()
        .map(|node| {
            let addrs = addrs.clone();
            tokio::spawn(async move {
                for to in addrs.into_iter().filter(|to| *to != node.addr()) {
                    node.send(message(to, node.addr().as_bytes().to_vec())).await.expect("taken");
                }
            })
        })
        .collect();
    for node in &nodes {
        let mut senders = Vec::new();
        for _ in 0..99 {
            let incoming = receive(node).await;
            assert_eq!(incoming.payload, incoming.from.as_bytes()[..]);
            senders.push(incoming.from);
        }
        senders.sort_unstable();
        senders.dedup();
        assert_eq!(senders.len(), 99);
    }
    for task in sending {
        task.await.expect("all were taken");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_reading_neither_loses_nor_delays_what_others_get() {
    let daemons = chain(2);
    let (sender, stuck) = (daemons[0].main(), daemons[1].main());
    let other = daemons[1].open(OpenNode::default()).await.expect("opens");
    let to = stuck.addr();
    let flooding = {
        let sender = sender.clone();
        tokio::spawn(async move {
            let mut taken = 0u32;
            loop {
                let sending = sender.send(message(to, taken.to_be_bytes().to_vec()));
                match tokio::time::timeout(Duration::from_secs(2), sending).await {
                    Ok(sent) => taken += sent.map(|_| 1).expect("taken"),
                    Err(_) => return taken,
                }
            }
        })
    };
    for number in 0..1_000u32 {
        sender.send(message(other.addr(), number.to_be_bytes().to_vec())).await.expect("taken");
    }
    for number in 0..1_000u32 {
        assert_eq!(receive(&other).await.payload[..], number.to_be_bytes());
    }
    let taken = tokio::time::timeout(PATIENCE, flooding)
        .await
        .expect("the sender was made to wait")
        .expect("no panic");
    for number in 0..taken {
        assert_eq!(receive(&stuck).await.payload[..], number.to_be_bytes());
    }
}

/// Each sample is of the family that was announced last, and no two have the same name and labels.
fn assert_is_open_metrics(text: &str) {
    let (mut family, mut families, mut seen) = (String::new(), BTreeSet::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = match rest.split_once(' ').expect("a type") {
                (name, "counter") => format!("{name}_total"),
                (name, _) => name.to_owned(),
            };
            assert!(families.insert(family.clone()), "the family {family} comes twice");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            assert_eq!(sample.split('{').next(), Some(&family[..]), "{line}");
            assert!(value.parse::<u64>().is_ok(), "{line}");
            assert!(seen.insert(sample), "{line} comes twice");
        }
    }
    assert!(seen.len() > 30, "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_find_look_up_and_ping_each_other() {
    let daemons = chain(3);
    let near = daemons[0].main();
    let far = daemons[2].open(OpenNode::default()).await.expect("opens");
    let prefix = Prefix::new(far.addr().as_bytes(), 40).expect("40 bits");
    assert_eq!(near.find(prefix, Request::default()).await, Ok(far.addr()));
    assert_eq!(near.lookup(far.addr(), Request::default()).await, Ok(far.public_key()));
    assert_eq!(near.lookup(near.addr(), Request::default()).await, Ok(near.public_key()));
    near.ping(far.addr(), Request::default()).await.expect("an answer");
    let trace = daemons[0].trace(daemons[2].main().addr(), Request::default()).await.expect("a way");
    assert_eq!((trace.hops.len(), trace.distance, trace.complete), (2, Some(2), true));
    let short = Request { deadline: Some(Duration::from_millis(300)), ..Request::default() };
    let unknown = near.lookup(Addr::EVERYBODY, short).await;
    assert_eq!(unknown.map_err(|error| error.code), Err(Code::Unknown));
    let silent = near.ping(Addr::EVERYBODY, short).await;
    assert_eq!(silent.map_err(|error| error.code), Err(Code::NoWay));
    let metrics = daemons[1].metrics().await.expect("text");
    let link = format!("byway_link_handshakes_total{{peer=\"{}\",class=\"", near.addr());
    assert!(metrics.contains(&link), "{metrics}");
    assert_is_open_metrics(&metrics);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_node_ends_its_calls_and_can_be_opened_again() {
    let daemon = chain(1).remove(0);
    let key = SigningKey::generate(&mut OsEntropy);
    let open = || OpenNode { key: Some(key.clone()), mancon: None };
    let node = daemon.open(open()).await.expect("opens");
    let twice = daemon.open(open()).await.map(|_| ()).map_err(|error| error.code);
    assert_eq!(twice, Err(Code::Conflict));
    let waiting = {
        let node = node.clone();
        tokio::spawn(async move { node.recv(Kind::Message).await.map_err(|error| error.code) })
    };
    node.close();
    assert_eq!(waiting.await.expect("no panic"), Err(Code::Closed));
    assert_eq!(node.send(message(Addr::NOBODY, "x")).await.map_err(|error| error.code), Err(Code::Closed));
    let again = daemon.open(open()).await.expect("opens again");
    let main = daemon.main();
    main.send(message(again.addr(), "hello")).await.expect("taken");
    assert_eq!(receive(&again).await, Incoming { from: main.addr(), payload: Bytes::from("hello") });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_with_a_code() {
    let daemons = chain(2);
    let (node, to) = (daemons[0].main(), daemons[1].main().addr());
    let too_long = node.send(message(to, vec![0; MESSAGE_MAX + 1])).await;
    assert_eq!(too_long.map_err(|error| error.code), Err(Code::TooLong));
    for level in [ManCon::High, ManCon::VeryHigh, ManCon::Neo] {
        let request = Request { mancon: Some(level), deadline: None };
        let refused = node.send(Outgoing { request, ..message(to, "secret") }).await;
        assert_eq!(refused.map_err(|error| error.code), Err(Code::ManconUnsatisfied), "{level}");
    }
    daemons[0].set_levels(Levels { floor: ManCon::High, ..LEVELS }).await.expect("set");
    let below_the_floor = node.send(message(to, "x")).await;
    assert_eq!(below_the_floor.map_err(|error| error.code), Err(Code::ManconUnsatisfied));
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_come_and_go_at_run_time() {
    let daemons = chain(2);
    let peer = daemons[0].main().addr();
    assert_eq!(daemons[1].peers().await.expect("listed").len(), 1);
    daemons[1].remove_peer(peer).await.expect("it was there");
    assert_eq!(daemons[1].remove_peer(peer).await.map_err(|error| error.code), Err(Code::Unknown));
    assert!(daemons[1].links().await.expect("listed").is_empty());
    let spec = PeerSpec {
        addr: peer,
        name: Some("first".to_owned()),
        endpoints: vec!["unix:///0".to_owned()],
        transports: vec!["unix".to_owned()],
        save: false,
    };
    let bad = PeerSpec { endpoints: vec!["udp://nowhere".to_owned()], ..spec.clone() };
    assert_eq!(daemons[1].add_peer(bad).await.map_err(|error| error.code), Err(Code::BadRequest));
    let bad = PeerSpec { transports: vec!["pigeon".to_owned()], ..spec.clone() };
    assert_eq!(daemons[1].add_peer(bad).await.map_err(|error| error.code), Err(Code::BadRequest));
    daemons[1].add_peer(spec).await.expect("added");
    daemons[1].main().ping(peer, Request::default()).await.expect("an answer");
    let peers = daemons[1].peers().await.expect("listed");
    assert_eq!((peers[0].name.as_deref(), peers[0].state.as_str()), (Some("first"), "up"));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_shutdown_every_call_says_so() {
    let daemon = chain(1).remove(0);
    let node = daemon.main();
    daemon.shutdown().await;
    assert_eq!(node.recv(Kind::Message).await.map_err(|error| error.code), Err(Code::Closed));
    assert_eq!(daemon.peers().await.map_err(|error| error.code), Err(Code::Closed));
    daemon.shutdown().await;
}

/// Whether `addr` is among the nodes that the daemon hosts.
async fn hosts(daemon: &Handle, addr: Addr) -> bool {
    daemon.nodes().await.expect("listed").iter().any(|node| node.addr == addr)
}

#[tokio::test]
async fn a_node_whose_opener_went_away_is_closed_again() {
    let daemon = chain(1).remove(0);
    for opened_before in [false, true] {
        let key = SigningKey::generate(&mut OsEntropy);
        let addr = key.public().addr();
        let mut opening = Box::pin(daemon.open(OpenNode { key: Some(key.clone()), mancon: None }));
        let pending = std::future::poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx).is_pending())).await;
        assert!(pending, "the driver has had no turn yet");
        while opened_before && !hosts(&daemon, addr).await {}
        drop(opening);
        let closed = async { while hosts(&daemon, addr).await {} };
        tokio::time::timeout(PATIENCE, closed).await.expect("nobody has it any more");
        daemon.open(OpenNode { key: Some(key), mancon: None }).await.expect("its key is free");
    }
}

#[tokio::test]
async fn opening_a_node_in_vain_does_not_close_the_one_that_is_open() {
    let daemon = chain(1).remove(0);
    let key = SigningKey::generate(&mut OsEntropy);
    let node = daemon.open(OpenNode { key: Some(key.clone()), mancon: None }).await.expect("opened");
    let again = daemon.open(OpenNode { key: Some(key.clone()), mancon: None }).await;
    assert_eq!(again.err().map(|error| error.code), Some(Code::Conflict));
    assert!(hosts(&daemon, node.addr()).await);
    node.close();
    let next = daemon.open(OpenNode { key: Some(key), mancon: None }).await.expect("its key is free");
    node.close();
    assert!(hosts(&daemon, next.addr()).await, "what is closed cannot close its successor");
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_a_node_end_with_it() {
    let daemon = chain(1).remove(0);
    let node = daemon.open(OpenNode { key: None, mancon: None }).await.expect("opened");
    let request = Request { mancon: None, deadline: Some(Duration::from_secs(3_600)) };
    let nobody = Addr::EVERYBODY;
    let asking = [
        tokio::spawn({
            let node = node.clone();
            async move { node.find(Prefix::whole(nobody), request).await.map(|_| ()).map_err(|error| error.code) }
        }),
        tokio::spawn({
            let node = node.clone();
            async move { node.ping(nobody, request).await.map(|_| ()).map_err(|error| error.code) }
        }),
    ];
    tokio::task::yield_now().await;
    node.close();
    for asked in asking {
        let answer = tokio::time::timeout(PATIENCE, asked).await.expect("in time").expect("no panic");
        assert_eq!(answer, Err(Code::Closed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_were_refused_take_no_room_for_good() {
    let daemons = chain(2);
    let (node, to) = (daemons[0].main(), daemons[1].main().addr());
    let secret = Request { mancon: Some(ManCon::High), deadline: None };
    for number in 0..8_200u32 {
        let nobody = Addr::from_bytes(byway_identity::labelled_hash("test", &[&number.to_be_bytes()]));
        let refused = node.send(Outgoing { request: secret, ..message(nobody, "x") }).await;
        assert_eq!(refused.map_err(|error| error.code), Err(Code::ManconUnsatisfied), "{number}");
    }
    node.send(message(to, "hello")).await.expect("there is room for one more");
    assert_eq!(receive(&daemons[1].main()).await.payload, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_reach_the_tables_of_threads_and_leave_them_again() {
    let daemons = chain(2);
    let (sender, receiver) = (daemons[0].main(), daemons[1].main());
    sender.send(message(receiver.addr(), "hello")).await.expect("taken");
    receive(&receiver).await;
    let tables = daemons[0].tables();
    until(|| !tables.load().sessions.is_empty()).await;
    let session = tables.load().sessions.values().next().cloned().expect("there is one");
    assert!(matches!(
        session.owner,
        byway_fastpath::Owner::Node { remote, plane: byway_network::Plane::Any, .. } if remote == receiver.addr()
    ));
    daemons[0].shutdown().await;
    let ended = session.inbound.lock().open(std::time::Instant::now(), &mut [0; 64]);
    assert_eq!(ended, Err(byway_session::OpenError::Ended), "nothing opens when the core has gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_know_other_levels_before_whoever_set_them_learns_that_it_is_done() {
    let daemon = chain(1).remove(0);
    let tables = daemon.tables();
    let plane = || tables.load().planes.of(None);
    for turn in 0..200 {
        let floor = if turn % 2 == 0 { ManCon::High } else { ManCon::Low };
        daemon.set_levels(Levels { floor, ..LEVELS }).await.expect("the daemon runs");
        let expected = LEVELS.plane(floor.max(LEVELS.default)).expect("it is carried");
        assert_eq!(plane(), Some(expected), "turn {turn}");
    }
}

async fn until(condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("in time");
}
