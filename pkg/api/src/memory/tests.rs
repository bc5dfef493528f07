//! The realm keeps what the traits promise.

use std::time::Duration;

use bytes::Bytes;
use byway_identity::Prefix;

use super::*;
use crate::{Incoming, MESSAGE_MAX, Outgoing};

fn message(to: Addr, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { to, kind: Kind::Message, payload: payload.into(), request: Request::default() }
}

fn within(deadline: Duration) -> Request {
    Request { deadline: Some(deadline), ..Request::default() }
}

async fn open(realm: &Realm) -> Arc<dyn Node> {
    realm.open(OpenNode::default()).await.expect("there is room for it")
}

#[tokio::test]
async fn messages_arrive_in_order_with_their_sender() {
    let realm = Realm::new();
    let (a, b) = (open(&realm).await, open(&realm.neighbour()).await);
    for text in ["", "one", "two"] {
        a.send(message(b.addr(), text)).await.expect("there is room");
    }
    a.send(message(b.addr(), vec![7; MESSAGE_MAX])).await.expect("it is not too long");
    for text in ["", "one", "two"] {
        assert_eq!(b.recv(Kind::Message).await, Ok(Incoming { from: a.addr(), payload: text.into() }));
    }
    assert_eq!(b.try_recv(Kind::Message).map(|incoming| incoming.payload.len()), Some(MESSAGE_MAX));
    assert_eq!(b.try_recv(Kind::Message), None);
    let error = a.send(message(b.addr(), vec![7; MESSAGE_MAX + 1])).await;
    assert_eq!(error.map_err(|error| error.code), Err(Code::TooLong));
}

#[tokio::test]
async fn a_node_sends_to_itself() {
    let realm = Realm::new();
    let node = open(&realm).await;
    node.send(message(node.addr(), "me")).await.expect("there is room");
    assert_eq!(node.recv(Kind::Message).await.map(|incoming| incoming.from), Ok(node.addr()));
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_slows_its_sender_and_nobody_else() {
    let realm = Realm::new();
    let (a, deaf, b) = (open(&realm).await, open(&realm).await, open(&realm).await);
    for _ in 0..queue(Kind::Message) {
        a.send(message(deaf.addr(), "x")).await.expect("the queue has room");
    }
    let mut late = message(deaf.addr(), "late");
    late.request = within(Duration::from_secs(1));
    assert_eq!(a.send(late).await.map_err(|error| error.code), Err(Code::Busy));
    a.send(message(b.addr(), "y")).await.expect("another queue has room");

    let waiting = a.send(message(deaf.addr(), "after"));
    let (sent, _) = tokio::join!(waiting, async { deaf.recv(Kind::Message).await });
    sent.expect("room was made");
}

#[tokio::test]
async fn packets_beyond_the_queue_are_counted_and_dropped() {
    let realm = Realm::new();
    let (a, b) = (open(&realm).await, open(&realm).await);
    for _ in 0..queue(Kind::Packet) + 3 {
        let packet = Outgoing { kind: Kind::Packet, ..message(b.addr(), "p") };
        a.send(packet).await.expect("packets never wait");
    }
    let nodes = realm.nodes().await.expect("always known");
    let info = nodes.iter().find(|info| info.addr == b.addr()).expect("it is hosted");
    assert_eq!((info.queued, info.dropped), (queue(Kind::Packet), 3));
    assert!(b.try_recv(Kind::Packet).is_some() && b.try_recv(Kind::Message).is_none());
}

#[tokio::test]
async fn one_key_has_one_node_and_closing_frees_it() {
    let realm = Realm::new();
    let key = SigningKey::from_seed(&[3; 32]);
    let options = || OpenNode { key: Some(key.clone()), mancon: None };
    let first = realm.open(options()).await.expect("the key is free");
    let second = realm.open(options()).await;
    assert_eq!(second.map(|node| node.addr()).map_err(|error| error.code), Err(Code::Conflict));
    first.close();
    let third = realm.open(options()).await.expect("it is free again");
    drop(first);
    assert_eq!(
        realm.main().ping(third.addr(), Request::default()).await.err(),
        None,
        "dropping an old handle is harmless"
    );
    drop(third);
    realm.open(options()).await.expect("a node ends with its last handle");
}

#[tokio::test]
async fn closing_ends_those_who_wait() {
    let realm = Realm::new();
    let node = open(&realm).await;
    let (received, ()) = tokio::join!(node.recv(Kind::Message), async { node.close() });
    assert_eq!(received.map_err(|error| error.code), Err(Code::Closed));
    assert_eq!(
        node.send(message(realm.main().addr(), "x")).await.map_err(|error| error.code),
        Err(Code::Closed)
    );
    assert_eq!(
        realm.main().send(message(node.addr(), "x")).await.map_err(|error| error.code),
        Err(Code::Unknown)
    );
}

#[tokio::test]
async fn find_lookup_ping_and_trace_know_who_is_there() {
    let realm = Realm::new();
    let (a, b) = (open(&realm).await, open(&realm.neighbour()).await);
    let prefix = Prefix::new(b.addr().as_bytes(), 115).expect("it has more bits");
    let ask = Request::default();
    assert_eq!(a.find(prefix, ask).await, Ok(b.addr()));
    assert_eq!(a.lookup(b.addr(), ask).await, Ok(b.public_key()));
    assert!(a.ping(b.addr(), ask).await.is_ok());
    assert_eq!(realm.trace(b.addr(), ask).await.map(|trace| trace.complete), Ok(true));
    assert_eq!(a.lookup(Addr::NOBODY, ask).await.map_err(|error| error.code), Err(Code::Unknown));
    assert!(a.find(Prefix::whole(Addr::NOBODY), ask).await.is_err());
}

#[tokio::test]
async fn a_level_that_nothing_satisfies_is_refused() {
    let realm = Realm::new();
    realm.refuse_above(ManCon::Medium);
    let node = realm
        .open(OpenNode { mancon: Some(ManCon::Low), ..OpenNode::default() })
        .await
        .expect("there is room");
    let mut outgoing = message(realm.main().addr(), "x");
    assert_eq!(node.send(outgoing.clone()).await, Ok(crate::Sent { mancon: ManCon::Low, held: false }));
    outgoing.request.mancon = Some(ManCon::High);
    assert_eq!(node.send(outgoing).await.map_err(|error| error.code), Err(Code::ManconUnsatisfied));
}

#[tokio::test]
async fn peers_and_nodes_are_capped() {
    let realm = Realm::new();
    let spec = |number: usize| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        PeerSpec {
            addr: Addr::from_bytes(bytes),
            name: None,
            endpoints: Vec::new(),
            transports: Vec::new(),
            save: false,
        }
    };
    for number in 0..PEERS_MAX {
        realm.add_peer(spec(number)).await.expect("there is room");
    }
    assert_eq!(realm.add_peer(spec(PEERS_MAX)).await.map_err(|error| error.code), Err(Code::Busy));
    realm.add_peer(spec(0)).await.expect("replacing takes no room");
    realm.remove_peer(spec(0).addr).await.expect("it is there");
    assert_eq!(realm.remove_peer(spec(0).addr).await.map_err(|error| error.code), Err(Code::Unknown));

    let mut nodes = Vec::new();
    for _ in 1..NODES_MAX {
        nodes.push(open(&realm).await);
    }
    let more = realm.open(OpenNode::default()).await;
    assert_eq!(more.map(|node| node.addr()).map_err(|error| error.code), Err(Code::Busy));
}

#[tokio::test]
async fn a_hundred_nodes_exchange_messages_all_to_all() {
    const NODES: usize = 100;
    let realm = Realm::new();
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(open(&realm).await);
    }
    let addrs: Vec<_> = nodes.iter().map(|node| node.addr()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for node in nodes {
        let addrs = addrs.clone();
        tasks.spawn(async move {
            let send = async {
                for to in &addrs {
                    node.send(message(*to, node.addr().as_bytes().to_vec())).await.expect("every node reads");
                }
            };
            let receive = async {
                let mut senders = std::collections::BTreeSet::new();
                while senders.len() < NODES {
                    let incoming = node.recv(Kind::Message).await.expect("the node lives");
                    assert_eq!(incoming.payload, incoming.from.as_bytes().as_slice());
                    assert!(senders.insert(incoming.from), "each message arrives once");
                }
            };
            tokio::join!(send, receive);
            // Kept open until all have sent.
            node
        });
    }
    assert_eq!(tasks.join_all().await.len(), NODES);
}

#[tokio::test]
async fn a_map_shows_the_peers_that_are_there_and_says_when_it_is_cut() {
    let (realm, addr) = (Realm::new(), |realm: &Realm| realm.main().addr());
    let (near, gone) = (realm.neighbour(), Addr::NOBODY);
    for peer in [addr(&near), gone] {
        let spec = PeerSpec { addr: peer, name: None, endpoints: vec![], transports: vec![], save: false };
        realm.add_peer(spec).await.expect("there is room");
    }
    let map = realm.map(10).await.expect("it is drawn");
    assert_eq!((map.addr, &map.nodes[..], map.cut), (addr(&realm), &[addr(&realm), addr(&near)][..], false));
    assert_eq!(
        map.links.iter().map(|link| (link.a, link.b)).collect::<Vec<_>>(),
        [(addr(&realm), addr(&near))]
    );
    let map = realm.map(1).await.expect("it is drawn");
    assert_eq!((map.nodes, map.links, map.cut), (vec![addr(&realm)], vec![], true));
}
