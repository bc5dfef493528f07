//! Portals over the in-memory realm, with devices that need no kernel.

use byway_api::Service;
use byway_api::memory::Realm;

use super::*;
use crate::device::{MemoryDevice, Plug};
use crate::packet::{Packet, Upper};
use crate::testing::{icmp, udp};

/// A running portal of a node, and what its programs see.
struct Host {
    portal: Portal,
    plug: Plug,
    node: Arc<dyn Node>,
    running: tokio::task::JoinHandle<Result<(), RunError>>,
}

impl Host {
    fn start(realm: &Realm, ports: &[&str], threads: usize) -> Self {
        let ports = ports.iter().map(|text| text.parse().unwrap()).collect();
        let allow = vec![Allow { peer: crate::Who::Anyone, ports }];
        let (device, plug) = MemoryDevice::new(256);
        let node = realm.main();
        let config = Config { allow, threads, ..Config::default() };
        let portal = Portal::over(Box::new(device), &config, Arc::clone(&node)).unwrap();
        let running = tokio::spawn({
            let portal = portal.clone();
            async move { portal.run(std::future::pending()).await }
        });
        Self { portal, plug, node, running }
    }

    fn ip(&self) -> Ipv6Addr {
        self.portal.ipv6()
    }

    async fn recv(&mut self) -> Bytes {
        let received = tokio::time::timeout(Duration::from_secs(20), self.plug.recv.recv()).await;
        received.expect("a packet within 20 s").expect("the portal runs")
    }
}

async fn ping(threads: usize) {
    let realm = Realm::new();
    let mut a = Host::start(&realm, &[], threads);
    let mut b = Host::start(&realm.neighbour(), &["icmp"], threads);
    let request = icmp(a.ip(), b.ip(), 128, 5, b"hello");
    a.plug.send.send(request.clone()).await.unwrap();
    assert_eq!(b.recv().await, request);
    let reply = icmp(b.ip(), a.ip(), 129, 5, b"hello");
    b.plug.send.send(reply.clone()).await.unwrap();
    assert_eq!(a.recv().await, reply);
    assert_eq!((a.portal.counters().packets_out, a.portal.counters().packets_in), (1, 1));
    // A's own door is closed, so B cannot ask.
    b.plug.send.send(icmp(b.ip(), a.ip(), 128, 5, b"")).await.unwrap();
    b.plug.send.send(icmp(b.ip(), a.ip(), 129, 5, b"last")).await.unwrap();
    assert_eq!(a.recv().await, icmp(b.ip(), a.ip(), 129, 5, b"last"));
    assert_eq!(a.portal.counters().dropped(crate::Reason::Denied), 1);
}

#[tokio::test]
async fn a_ping_passes_both_ways_in_one_task() {
    ping(1).await;
}

#[tokio::test]
async fn a_ping_passes_both_ways_in_two_tasks() {
    ping(2).await;
}

#[tokio::test]
async fn packets_keep_their_order_and_content() {
    let realm = Realm::new();
    let a = Host::start(&realm, &[], 2);
    let mut b = Host::start(&realm.neighbour(), &["udp/9"], 2);
    for number in 0..1000u32 {
        let packet = udp(a.ip(), b.ip(), (1, 9), &number.to_be_bytes());
        a.plug.send.send(packet.clone()).await.unwrap();
        assert_eq!(b.recv().await, packet);
    }
}

#[tokio::test]
async fn an_unknown_destination_is_answered_while_others_go_on() {
    let realm = Realm::new();
    let mut a = Host::start(&realm, &[], 2);
    let mut b = Host::start(&realm.neighbour(), &["udp"], 2);
    let nobody = crate::testing::node(77).1;
    a.plug.send.send(udp(a.ip(), nobody, (1, 9), b"")).await.unwrap();
    let packet = udp(a.ip(), b.ip(), (1, 9), b"");
    a.plug.send.send(packet.clone()).await.unwrap();
    assert_eq!(b.recv().await, packet);
    let notice = a.recv().await;
    let read = Packet::parse(&notice).unwrap();
    assert!(matches!(read.upper, Upper::Error(Some(about)) if about.destination == nobody), "{read:?}");
}

#[tokio::test]
async fn a_refusing_level_is_told_as_prohibited() {
    let realm = Realm::new();
    let mut a = Host::start(&realm, &[], 2);
    let b = Host::start(&realm.neighbour(), &["udp"], 2);
    realm.refuse_above(ManCon::Low);
    a.plug.send.send(udp(a.ip(), b.ip(), (1, 9), b"")).await.unwrap();
    let notice = a.recv().await;
    assert_eq!(notice[40..42], [1, 1]);
}

#[tokio::test]
async fn rules_can_change_while_it_runs() {
    let realm = Realm::new();
    let a = Host::start(&realm, &[], 2);
    let mut b = Host::start(&realm.neighbour(), &[], 2);
    let packet = udp(a.ip(), b.ip(), (1, 9), b"");
    a.plug.send.send(packet.clone()).await.unwrap();
    while b.portal.counters().dropped(crate::Reason::Denied) == 0 {
        tokio::task::yield_now().await;
    }
    b.portal.set_allow(vec![Allow { peer: crate::Who::Anyone, ports: vec![crate::Ports::Udp(9, 9)] }]);
    a.plug.send.send(packet.clone()).await.unwrap();
    assert_eq!(b.recv().await, packet);
}

#[tokio::test]
async fn it_ends_with_its_node_its_device_or_when_told() {
    let realm = Realm::new();
    let a = Host::start(&realm, &[], 2);
    a.node.close();
    assert!(matches!(a.running.await.unwrap(), Err(RunError::Closed)));

    let b = Host::start(&realm.neighbour(), &[], 1);
    drop(b.plug);
    assert!(matches!(b.running.await.unwrap(), Err(RunError::Device(_))));

    let (device, plug) = MemoryDevice::new(1);
    let node = realm.neighbour().main();
    let portal = Portal::over(Box::new(device), &Config::default(), node).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    drop(stop);
    let ended = portal.run(async { drop(stopped.await) }).await;
    assert!(ended.is_ok());
    drop(plug);
}

#[tokio::test]
async fn a_host_that_takes_nothing_costs_its_own_packets_only() {
    let realm = Realm::new();
    let a = Host::start(&realm, &[], 2);
    // B's programs have room for 256 packets and read none.
    let b = Host::start(&realm.neighbour(), &["udp"], 2);
    let mut c = Host::start(&realm.neighbour(), &["udp"], 2);
    for _ in 0..2000 {
        a.plug.send.send(udp(a.ip(), b.ip(), (1, 9), &[0; 1000])).await.unwrap();
    }
    let packet = udp(a.ip(), c.ip(), (1, 9), b"");
    a.plug.send.send(packet.clone()).await.unwrap();
    assert_eq!(c.recv().await, packet);
}

#[test]
fn impossible_settings_are_refused_with_the_remedy() {
    let small = Config { mtu: 1279, ..Config::default() };
    let error = Portal::over(Box::new(MemoryDevice::new(1).0), &small, Realm::new().main()).unwrap_err();
    assert!(error.to_string().contains("1280"), "{error}");
    assert_eq!(Config::default().effective_mtu().unwrap(), 1420);
}
