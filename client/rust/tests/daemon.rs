//! The client against the HTTP API over a realm in memory, on both kinds of listeners.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_api::body::PeerSpec;
use byway_api::exchange::{OpenNodeRequest, Payload, SendMessage, SendState};
use byway_api::memory::Realm;
use byway_api::{ApiError, Code, Kind, MESSAGE_MAX, ManCon, Node, OpenNode, Outgoing, Request, Service};
use byway_client::{Client, Daemon};
use byway_httpd::{Httpd, Options, Token, bind_unix};
use byway_identity::{Addr, Prefix, SigningKey};
use tokio::net::TcpListener;

/// A realm that is served; it ends with this value.
struct World {
    realm: Realm,
    httpd: Httpd,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        self.httpd.close();
    }
}

async fn unix() -> World {
    let folder = tempfile::tempdir().expect("the system has room");
    let path = folder.path().join("api.sock");
    let realm = Realm::new();
    let httpd = Httpd::new(Arc::new(realm.clone()), Options::default());
    let (serving, listener) = (httpd.clone(), bind_unix(&path).expect("the place is free"));
    tokio::spawn(async move { serving.serve_unix(listener).await });
    let client = Client::new(&format!("unix://{}", path.display())).expect("it is a URL");
    World { realm, httpd, client, _folder: folder }
}

async fn tcp() -> World {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    let url = format!("tcp://{}", listener.local_addr().expect("it is bound"));
    let (realm, token) = (Realm::new(), Token::generate());
    let httpd = Httpd::new(Arc::new(realm.clone()), Options::default());
    let client = Client::new(&url).expect("it is a URL").with_token(token.reveal());
    let serving = httpd.clone();
    tokio::spawn(async move { serving.serve_tcp(listener, token).await });
    World { realm, httpd, client, _folder: tempfile::tempdir().expect("the system has room") }
}

fn message(to: Addr, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { to, kind: Kind::Message, payload: payload.into(), request: Request::default() }
}

async fn open(service: &dyn Service) -> Arc<dyn Node> {
    service.open(OpenNode::default()).await.expect("there is room for it")
}

fn code<T>(result: Result<T, ApiError>) -> Option<Code> {
    result.err().map(|error| error.code)
}

#[tokio::test]
async fn every_call_works_over_the_unix_socket() {
    every_call(unix().await).await;
}

#[tokio::test]
async fn every_call_works_over_tcp_with_the_token() {
    every_call(tcp().await).await;
}

async fn every_call(world: World) {
    let daemon = world.client.connect().await.expect("it is served");
    let main = world.realm.main();
    assert_eq!((daemon.main().addr(), daemon.main().public_key()), (main.addr(), main.public_key()));

    let status = Service::status(&daemon).await.expect("it answers");
    assert_eq!((status.addr, status.nodes), (main.addr(), 1));

    let peer = PeerSpec {
        addr: Addr::EVERYBODY,
        name: Some("p".into()),
        endpoints: vec![],
        transports: vec![],
        save: false,
    };
    Service::add_peer(&daemon, peer).await.expect("there is room");
    let peers = Service::peers(&daemon).await.expect("it answers");
    assert_eq!((peers.len(), peers[0].name.as_deref()), (1, Some("p")));
    Service::remove_peer(&daemon, Addr::EVERYBODY).await.expect("it is there");
    assert_eq!(code(Service::remove_peer(&daemon, Addr::EVERYBODY).await), Some(Code::Unknown));

    assert_eq!(Service::links(&daemon).await, Ok(vec![]));
    assert_eq!(Service::routes(&daemon).await, Ok(vec![]));
    assert_eq!(Service::sessions(&daemon).await, Ok(vec![]));
    assert_eq!(
        Service::map(&daemon, 10).await.map(|map| (map.addr, map.nodes)),
        Ok((main.addr(), vec![main.addr()]))
    );
    assert_eq!(Service::map(&daemon, 0).await.map(|map| (map.nodes, map.cut)), Ok((vec![], true)));
    assert_eq!(Service::reload(&daemon).await.map(|notes| notes.len()), Ok(1));
    let metrics = Service::metrics(&daemon).await.expect("it answers");
    assert!(metrics.contains("byway_api_requests_total{method=\"GET\",route=\"/v1/status\",status=\"200\"}"));
    assert!(metrics.ends_with("# EOF\n") && metrics.matches("# EOF").count() == 1);
    daemon.healthz().await.expect("it is alive");
    assert_eq!(daemon.openapi().await.map(|document| document["info"]["title"] == "Byway"), Ok(true));

    let node = open(&daemon).await;
    assert_eq!(Service::nodes(&daemon).await.map(|nodes| nodes.len()), Ok(2));
    let ask = Request { mancon: Some(ManCon::Low), deadline: Some(Duration::from_secs(5)) };
    let prefix = Prefix::new(node.addr().as_bytes(), 115).expect("it has more bits");
    for asker in [daemon.main(), Arc::clone(&node)] {
        assert_eq!(asker.find(prefix, ask).await, Ok(node.addr()));
        assert_eq!(asker.lookup(main.addr(), ask).await, Ok(main.public_key()));
        assert_eq!(asker.lookup(asker.addr(), ask).await, Ok(asker.public_key()));
        assert!(asker.ping(node.addr(), ask).await.is_ok());
        assert_eq!(code(asker.ping(Addr::NOBODY, ask).await), Some(Code::Unknown));
        assert_eq!(code(asker.find(Prefix::whole(Addr::NOBODY), ask).await), Some(Code::Unknown));
    }
    let trace = Service::trace(&daemon, node.addr(), ask).await.expect("it is there");
    assert_eq!((trace.to, trace.mancon, trace.complete), (node.addr(), ManCon::Low, true));
    assert_eq!((trace.hops.len(), trace.paths[0].in_use), (1, true));

    Service::shutdown(&daemon).await.expect("it agrees");
    world.realm.stopped().await;
    assert_eq!(code(node.recv(Kind::Message).await), Some(Code::Closed));
}

#[tokio::test]
async fn messages_of_every_size_arrive_in_order_with_their_sender() {
    for world in [unix().await, tcp().await] {
        let daemon = world.client.connect().await.expect("it is served");
        let (a, b) = (open(&daemon).await, open(&daemon).await);
        let sizes = [0, 1, 1_280, 65_449, MESSAGE_MAX, 0, 7];
        for size in sizes {
            a.send(message(b.addr(), vec![5; size])).await.expect("there is room");
        }
        for size in sizes {
            let incoming = b.recv(Kind::Message).await.expect("it arrives");
            assert_eq!((incoming.from, incoming.payload.len()), (a.addr(), size));
        }
        assert_eq!(code(a.send(message(b.addr(), vec![5; MESSAGE_MAX + 1])).await), Some(Code::TooLong));
        a.send(message(a.addr(), "me")).await.expect("there is room");
        assert_eq!(a.recv(Kind::Message).await.map(|incoming| incoming.from), Ok(a.addr()));
    }
}

#[tokio::test]
async fn a_thousand_messages_right_after_opening_all_arrive_in_order() {
    let world = unix().await;
    let daemon = world.client.connect().await.expect("it is served");
    let (a, b) = (open(&daemon).await, open(&daemon).await);
    let send = async {
        for number in 0..1_000u32 {
            a.send(message(b.addr(), number.to_be_bytes().to_vec())).await.expect("it reads");
        }
    };
    let receive = async {
        for number in 0..1_000u32 {
            let incoming = b.recv(Kind::Message).await.expect("it arrives");
            assert_eq!(incoming.payload, number.to_be_bytes().as_slice());
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test]
async fn a_node_that_never_reads_holds_up_only_what_is_for_it() {
    let world = unix().await;
    let daemon = world.client.connect().await.expect("it is served");
    let (a, deaf, b) = (open(&daemon).await, open(&daemon).await, open(&daemon).await);
    let short = Request { deadline: Some(Duration::from_millis(200)), ..Request::default() };
    // More than all queues on the way hold, so that in the end the sender feels it.
    let mut refused = None;
    for _ in 0..1_000 {
        let outgoing = Outgoing { request: short, ..message(deaf.addr(), vec![0; 32 << 10]) };
        if let Err(error) = a.send(outgoing).await {
            refused = Some(error.code);
            break;
        }
    }
    assert_eq!(refused, Some(Code::Busy), "the sender is told");
    for number in 0..100u8 {
        a.send(message(b.addr(), vec![number])).await.expect("it reads");
        assert_eq!(b.recv(Kind::Message).await.map(|incoming| incoming.payload), Ok(vec![number].into()));
        // Neither is the deaf one held up when it speaks.
        deaf.send(message(b.addr(), "x")).await.expect("it reads");
        assert_eq!(b.recv(Kind::Message).await.map(|incoming| incoming.from), Ok(deaf.addr()));
    }
}

#[tokio::test]
async fn errors_about_messages_reach_who_sent_them() {
    let world = unix().await;
    world.realm.refuse_above(ManCon::Medium);
    let daemon = world.client.connect().await.expect("it is served");
    let options = OpenNode { mancon: Some(ManCon::Low), ..OpenNode::default() };
    let (a, b) = (daemon.open(options).await.expect("there is room"), open(&daemon).await);
    assert_eq!(code(a.send(message(Addr::NOBODY, "x")).await), Some(Code::Unknown));
    let sent = a.send(message(b.addr(), "x")).await.expect("there is room");
    assert_eq!((sent.mancon, sent.held), (ManCon::Low, false));
    let mut high = message(b.addr(), "x");
    high.request.mancon = Some(ManCon::High);
    assert_eq!(code(a.send(high).await), Some(Code::ManconUnsatisfied));
    // One that was sent ahead is told by a later one: the receiver ends in between.
    a.send(message(b.addr(), "y")).await.expect("there is room");
    let to = b.addr();
    drop(b);
    let told = async {
        loop {
            if let Err(error) = a.send(message(to, "z")).await {
                return error.code;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), told).await, Ok(Code::Unknown));
}

#[tokio::test]
async fn packets_go_both_ways_and_never_wait() {
    let world = unix().await;
    let daemon = world.client.connect().await.expect("it is served");
    let (a, b) = (open(&daemon).await, open(&daemon).await);
    for (from, to) in [(&a, &b), (&b, &a)] {
        from.send(Outgoing { kind: Kind::Packet, ..message(to.addr(), "p") })
            .await
            .expect("packets never wait");
        assert_eq!(to.recv(Kind::Packet).await.map(|incoming| incoming.from), Ok(from.addr()));
    }
    let gone = Outgoing { kind: Kind::Packet, ..message(Addr::NOBODY, "p") };
    a.send(gone.clone()).await.expect("it is not known yet");
    let told = async {
        while a.send(gone.clone()).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), told)
        .await
        .expect("a packet's error is told by the next one");
}

#[tokio::test]
async fn one_key_has_one_node_until_it_is_closed() {
    let world = unix().await;
    let daemon = world.client.connect().await.expect("it is served");
    let options = || OpenNode { key: Some(SigningKey::from_seed(&[9; 32])), mancon: None };
    let node = daemon.open(options()).await.expect("the key is free");
    assert_eq!(code(daemon.open(options()).await), Some(Code::Conflict));
    drop(node);
    world.client.settle().await;
    daemon.open(options()).await.expect("the key is free again");
}

#[tokio::test]
async fn what_was_sent_before_closing_reaches_the_daemon() {
    let world = unix().await;
    let daemon = world.client.connect().await.expect("it is served");
    let (a, b) = (open(&daemon).await, open(&daemon).await);
    for number in 0..50u8 {
        a.send(message(b.addr(), vec![number])).await.expect("there is room");
    }
    drop(a);
    world.client.settle().await;
    for number in 0..50u8 {
        assert_eq!(b.recv(Kind::Message).await.map(|incoming| incoming.payload), Ok(vec![number].into()));
    }
}

#[tokio::test]
async fn a_node_can_persist_and_be_used_by_single_requests() {
    let world = tcp().await;
    let client = &world.client;
    let request = OpenNodeRequest { key: None, mancon: None, persist: true };
    let opened = client.open_node(&request).await.expect("there is room");
    drop(client.attach(&opened).await.expect("the token is right"));
    client.settle().await;
    let mut send =
        SendMessage { to: opened.addr, payload: Payload("hi".into()), mancon: None, deadline_ms: None };
    let answer = client.send_message(&opened, &send).await.expect("it is still there");
    assert_eq!(answer.state, SendState::Sent);
    let node = client.attach(&opened).await.expect("it is still there");
    assert_eq!(node.recv(Kind::Message).await.map(|incoming| incoming.payload), Ok("hi".into()));
    send.payload = Payload(vec![0; MESSAGE_MAX + 1].into());
    assert_eq!(code(client.send_message(&opened, &send).await), Some(Code::TooLong));
    let mut stolen = opened.clone();
    stolen.token = byway_api::exchange::Secret::new("x".repeat(43));
    assert_eq!(code(client.attach(&stolen).await.map(drop)), Some(Code::Unauthorized));
    client.close_node(&opened).await.expect("the token is right");
    assert_eq!(code(node.recv(Kind::Message).await), Some(Code::Closed));
    assert_eq!(code(client.close_node(&opened).await), Some(Code::Unknown));
}

#[tokio::test]
async fn without_a_daemon_the_error_says_what_to_do() {
    let folder = tempfile::tempdir().expect("the system has room");
    let client = Client::new(&format!("unix://{}/none.sock", folder.path().display())).expect("it is a URL");
    let error = client.connect().await.map(drop).expect_err("nobody is there");
    assert_eq!(error.code, Code::Closed);
    assert!(error.detail.contains("no daemon at unix://") && error.detail.contains("byway up"), "{error}");
    let taken = TcpListener::bind("127.0.0.1:0").await.expect("there is a port");
    let url = format!("tcp://{}", taken.local_addr().expect("it is bound"));
    drop(taken);
    assert_eq!(code(Client::new(&url).expect("it is a URL").status().await), Some(Code::Closed));
}

#[tokio::test]
async fn a_wrong_token_opens_nothing() {
    let world = tcp().await;
    let wrong = world.client.clone().with_token(Token::generate().reveal());
    assert_eq!(code(wrong.status().await), Some(Code::Unauthorized));
    assert_eq!(
        code(wrong.open_node(&OpenNodeRequest { key: None, mancon: None, persist: false }).await),
        Some(Code::Unauthorized)
    );
    wrong.healthz().await.expect("whether it is alive is no secret");
}

#[tokio::test]
async fn when_the_daemon_ends_its_clients_notice() {
    let world = unix().await;
    let daemon: Daemon = world.client.connect().await.expect("it is served");
    let node = open(&daemon).await;
    world.httpd.close();
    assert_eq!(code(node.recv(Kind::Message).await), Some(Code::Closed));
    assert_eq!(code(node.send(message(Addr::NOBODY, "x")).await), Some(Code::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_nodes_of_one_daemon_exchange_messages_all_to_all() {
    const NODES: usize = 100;
    let world = unix().await;
    let daemon = world.client.connect().await.expect("it is served");
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(open(&daemon).await);
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
            node
        });
    }
    assert_eq!(tasks.join_all().await.len(), NODES);
}
