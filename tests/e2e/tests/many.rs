//! Many nodes and clients on one daemon, over its API.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_api::{Kind, Node, OpenNode, Outgoing, Request, Service};
use byway_client::Daemon;
use byway_e2e::{PATIENCE, World};
use byway_identity::Addr;
use tokio::task::JoinSet;

fn outgoing(to: Addr, payload: impl Into<Bytes>) -> Outgoing {
    Outgoing { to, kind: Kind::Message, payload: payload.into(), request: Request::default() }
}

async fn open(daemon: &Daemon) -> Arc<dyn Node> {
    daemon.open(OpenNode::default()).await.expect("room for a node")
}

#[tokio::test]
async fn a_hundred_nodes_on_one_daemon_talk_all_to_all() {
    const NODES: usize = 100;
    let world = World::new();
    let daemon = world.daemon("ann", "").start_and_keep().await;
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        nodes.push(open(&daemon.client).await);
    }
    let addrs: Arc<Vec<Addr>> = Arc::new(nodes.iter().map(|node| node.addr()).collect());
    let mut tasks = JoinSet::new();
    for node in &nodes {
        let (sender, receiver, addrs) = (node.clone(), node.clone(), addrs.clone());
        tasks.spawn(async move {
            for to in addrs.iter() {
                sender.send(outgoing(*to, to.as_bytes().to_vec())).await.expect("it is taken");
            }
        });
        tasks.spawn(async move {
            let mut from = std::collections::HashSet::new();
            while from.len() < NODES {
                let incoming = receiver.recv(Kind::Message).await.expect("it is open");
                assert_eq!(incoming.payload.as_ref(), receiver.addr().as_bytes(), "it is for this node");
                assert!(from.insert(incoming.from), "each says it once");
            }
        });
    }
    let all = tokio::time::timeout(PATIENCE, async {
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no task panics");
        }
    });
    all.await.expect("10,000 messages arrive in time");
}

#[tokio::test]
async fn a_thousand_messages_sent_at_once_after_opening_arrive_over_a_link() {
    let world = World::new();
    let (mut ann, mut bob) = world.pair().await;
    let (here, there) = (ann.client().await, bob.client().await);
    for round in 0..3u32 {
        let receiver = open(&there).await;
        let sender = open(&here).await;
        for number in 0..1_000u32 {
            let payload = number.to_be_bytes().to_vec();
            sender.send(outgoing(receiver.addr(), payload)).await.expect("it is taken");
        }
        for number in 0..1_000u32 {
            let incoming = tokio::time::timeout(PATIENCE, receiver.recv(Kind::Message)).await;
            let incoming =
                incoming.unwrap_or_else(|_| panic!("round {round}: {number} arrived, and then none"));
            let incoming = incoming.expect("it is open");
            assert_eq!(incoming.from, sender.addr());
            assert_eq!(incoming.payload.as_ref(), number.to_be_bytes(), "round {round}: the order is kept");
        }
    }
}

/// How many echoes `from` gets of `to` within `time`, one after the other.
async fn echoes(from: &Arc<dyn Node>, to: Addr, time: Duration) -> u64 {
    let (began, mut count) = (Instant::now(), 0);
    while began.elapsed() < time {
        from.send(outgoing(to, vec![7; 1_000])).await.expect("it is taken");
        from.recv(Kind::Message).await.expect("it comes back");
        count += 1;
    }
    count
}

#[tokio::test]
async fn a_client_that_stops_reading_does_not_slow_the_others() {
    const ROUND: Duration = Duration::from_millis(250);
    const TURNS: usize = 24;
    let world = World::new();
    let daemon = world.daemon("ann", "").start_and_keep().await;
    // Clients of their own, as processes would have.
    let [one, two, stuck, flood] =
        [(); 4].map(|()| byway_client::Client::new(&daemon.url).expect("a good URL"));
    let (one, two) = (one.connect().await.expect("it runs"), two.connect().await.expect("it runs"));
    let (asker, mirror) = (open(&one).await, open(&two).await);
    let to = mirror.addr();
    let mirroring = tokio::spawn(async move {
        while let Ok(incoming) = mirror.recv(Kind::Message).await {
            if mirror.send(outgoing(incoming.from, incoming.payload)).await.is_err() {
                return;
            }
        }
    });
    echoes(&asker, to, 2 * ROUND).await;
    // In turns, with nobody stuck and with a node that never receives while another sends to it as long as anybody takes it.
    // The best of each counts: what else this machine does slows some turns, and makes none faster. So turns go on until the
    // best ones are alike, and end without that only if a stuck client slows the others every time.
    let (stuck, flood) = (stuck.connect().await.expect("it runs"), flood.connect().await.expect("it runs"));
    let (mut with, mut without, mut turns) = (0, 0, 0);
    for _ in 0..TURNS {
        without = without.max(echoes(&asker, to, ROUND).await);
        let (stuck, flooder) = (open(&stuck).await, open(&flood).await);
        let full = stuck.addr();
        let mut held_up = false;
        for _ in 0..100_000 {
            let sending = flooder.send(outgoing(full, vec![1; 16_000]));
            match tokio::time::timeout(Duration::from_millis(500), sending).await {
                Ok(sent) => drop(sent.expect("it is taken")),
                Err(_) => {
                    held_up = true;
                    break;
                }
            }
        }
        assert!(held_up, "back-pressure reaches whoever sends to a client that does not read");
        // It goes on sending as fast as it is taken, which is not at all.
        let waiting =
            tokio::spawn(async move { while flooder.send(outgoing(full, vec![1; 16_000])).await.is_ok() {} });
        with = with.max(echoes(&asker, to, ROUND).await);
        waiting.abort();
        let _ = waiting.await;
        drop(stuck);
        turns += 1;
        if turns >= 3 && with as f64 > 0.9 * without as f64 {
            break;
        }
    }
    let told = format!("best of {turns}: {without} echoes with nobody stuck, {with} beside a stuck client");
    assert!(without > 50, "{told}: too few to compare");
    assert!(with as f64 > 0.9 * without as f64, "{told}");
    mirroring.abort();
}
