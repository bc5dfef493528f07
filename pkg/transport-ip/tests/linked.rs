//! Real cores over real sockets on loopback: the whole of one hop.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use byway_identity::{Addr, OsEntropy, SigningKey};
use byway_link::{
    Accept, Action, Config, Core, Endpoint, Event, LinkStatus, PeerConfig, Place, Transport, TransportId,
};
use byway_network::{Class, Family, Hop, NetworkId};
use byway_transport_ip::{Certificate, Front, Look, Site, Udp, Unix, Web};

/// A transport, and frames that it has not taken yet.
type Slot = (Box<dyn Transport>, VecDeque<(Place, Bytes)>);

/// The least that a daemon does with a core.
struct Daemon {
    core: Core,
    addr: Addr,
    transports: Vec<Slot>,
    up: Vec<Hop>,
    received: Vec<Bytes>,
}

fn addr(seed: u8) -> Addr {
    SigningKey::from_seed(&[seed; 32]).public().addr()
}

impl Daemon {
    fn new(seed: u8, transports: Vec<Box<dyn Transport>>) -> Self {
        let now = Instant::now();
        let config = Config {
            key: SigningKey::from_seed(&[seed; 32]),
            protocol: "beacon",
            network: NetworkId::new("loopback", None),
            group_key: None,
            accept: Accept::Peers,
            boot: 1,
            unix: 1_800_000_000,
            ratchet: Duration::from_secs(120),
            ciphers: byway_link::Ciphers::AES,
        };
        let mut core = Core::new(now, config, Box::new(OsEntropy));
        for (transport, id) in transports.iter().zip(0..) {
            core.add_transport(now, TransportId(id), transport.profile(), transport.schemes());
        }
        let transports = transports.into_iter().map(|transport| (transport, VecDeque::new())).collect();
        Self { core, addr: addr(seed), transports, up: Vec::new(), received: Vec::new() }
    }

    fn apply(&mut self, out: Vec<Action>) {
        for action in out {
            match action {
                Action::Transmit { place, frame } => {
                    self.transports[usize::from(place.transport.0)].1.push_back((place, frame));
                }
                Action::Dial { id, transport, peer, endpoint } => {
                    self.transports[usize::from(transport.0)].0.dial_peer(id, &peer, &endpoint);
                }
                Action::HangUp { place } => self.transports[usize::from(place.transport.0)].0.hang_up(place),
                Action::Up { hop, .. } => self.up.push(hop),
                Action::Down { hop } => self.up.retain(|other| *other != hop),
                Action::Cost { .. } => {}
                Action::Received { frame, .. } => self.received.push(frame),
            }
        }
    }

    fn peer(&mut self, seed: u8, endpoints: Vec<Endpoint>) {
        let mut out = Vec::new();
        self.core.add_peer(Instant::now(), PeerConfig::new(addr(seed), endpoints), &mut out);
        self.apply(out);
    }

    fn send(&mut self, hop: Hop, frame: &[u8]) {
        let mut out = Vec::new();
        self.core.send(Instant::now(), hop, frame, &mut out);
        self.apply(out);
    }

    fn turn(&mut self, cx: &mut std::task::Context<'_>) {
        let mut out = Vec::new();
        for number in 0..self.transports.len() {
            let mut events: Vec<Event> = Vec::new();
            if let Poll::Ready(received) = self.transports[number].0.poll_recv(cx, &mut events) {
                received.unwrap();
                cx.waker().wake_by_ref();
            }
            for event in events {
                self.core.handle(Instant::now(), event, &mut out);
            }
        }
        let now = Instant::now();
        if self.core.next_heartbeat().is_some_and(|due| due <= now) {
            self.core.heartbeat(now, &mut out);
        }
        self.apply(out);
        for (transport, outgoing) in &mut self.transports {
            while !outgoing.is_empty() && transport.poll_send(cx, outgoing).is_ready() {}
        }
    }

    fn link(&self, family: Family) -> Option<LinkStatus> {
        self.core.links().into_iter().find(|link| link.class.family() == family)
    }
}

/// Runs all daemons until `done`.
async fn run(daemons: &mut [&mut Daemon], what: &str, mut done: impl FnMut(&[&mut Daemon]) -> bool) {
    let mut limit = pin!(tokio::time::sleep(Duration::from_secs(20)));
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    poll_fn(|cx| {
        assert!(limit.as_mut().poll(cx).is_pending(), "not {what} in time");
        while tick.poll_tick(cx).is_ready() {}
        for daemon in daemons.iter_mut() {
            daemon.turn(cx);
        }
        if done(daemons) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn udp(address: &str) -> Box<dyn Transport> {
    Box::new(Udp::bind(TransportId(0), address.parse().unwrap()).unwrap())
}

#[tokio::test]
async fn two_daemons_link_over_udp_in_both_families() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (mut a, mut b) = (Daemon::new(1, vec![udp(address)]), Daemon::new(2, vec![udp(address)]));
        b.peer(1, Vec::new());
        let endpoint = b.transports[0].0.listening();
        let started = Instant::now();
        a.peer(2, endpoint);
        run(&mut [&mut a, &mut b], "linked", |all| all.iter().all(|daemon| !daemon.up.is_empty())).await;
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        let hop = Hop { peer: b.addr, family: Family::Ethernet };
        assert_eq!(a.up, [hop], "loopback counts as near");
        assert_eq!(a.link(Family::Ethernet).unwrap().class, Class::LAN);
        for size in [1, 1_000, 1_420, 20_000] {
            a.send(hop, &vec![size as u8; size]);
        }
        run(&mut [&mut a, &mut b], "received", |all| all[1].received.len() == 4).await;
        assert_eq!(b.received[3], vec![20_000u32 as u8; 20_000]);
    }
}

#[tokio::test]
async fn one_socket_links_several_peers_while_a_dead_one_is_dialled() {
    let mut hub = Daemon::new(1, vec![udp("[::]:0")]);
    let port = hub.transports[0].0.listening()[0].host_port().unwrap().1;
    hub.peer(2, Vec::new());
    hub.peer(3, Vec::new());
    hub.peer(9, vec!["udp://127.0.0.1:1".parse().unwrap(), "udp://[fe80::1%no-such-one]:1".parse().unwrap()]);
    let (mut four, mut six) =
        (Daemon::new(2, vec![udp("127.0.0.1:0")]), Daemon::new(3, vec![udp("[::1]:0")]));
    four.peer(1, vec![format!("udp://127.0.0.1:{port}").parse().unwrap()]);
    six.peer(1, vec![format!("udp://[::1]:{port}").parse().unwrap()]);
    run(&mut [&mut hub, &mut four, &mut six], "linked", |all| {
        all[0].up.len() == 2 && all[1].up.len() == 1 && all[2].up.len() == 1
    })
    .await;
    for number in 0..500u16 {
        for hop in hub.up.clone() {
            hub.send(hop, &number.to_be_bytes());
        }
    }
    run(&mut [&mut hub, &mut four, &mut six], "received", |all| {
        all[1].received.len() == 500 && all[2].received.len() == 500
    })
    .await;
}

#[tokio::test]
async fn a_peer_over_udp_and_unix_has_two_links_and_each_family_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b");
    let unix = Unix::listen(TransportId(1), &path).unwrap();
    let mut b = Daemon::new(2, vec![udp("[::1]:0"), Box::new(unix)]);
    let mut a = Daemon::new(1, vec![udp("[::1]:0"), Box::new(Unix::new(TransportId(1)))]);
    b.peer(1, Vec::new());
    let endpoints = b.transports.iter().flat_map(|(transport, _)| transport.listening()).collect();
    a.peer(2, endpoints);
    run(&mut [&mut a, &mut b], "linked twice", |all| all.iter().all(|daemon| daemon.up.len() == 2)).await;
    let over = |family| Hop { peer: addr(2), family };
    a.send(over(Family::Loopback), b"over unix");
    a.send(over(Family::Ethernet), b"over udp");
    run(&mut [&mut a, &mut b], "received", |all| all[1].received.len() == 2).await;
    assert_eq!(a.link(Family::Loopback).unwrap().sent.0, 1);
    assert_eq!(a.link(Family::Ethernet).unwrap().sent.0, 1);

    // Without the socket the other link stays, and no frame of the lost one changes over to it.
    drop(b.transports.pop());
    run(&mut [&mut a, &mut b], "one link less", |all| all[0].up == [over(Family::Ethernet)]).await;
    a.send(over(Family::Loopback), b"not over udp");
    assert_eq!(a.core.counters().dropped.not_up, 1);
}

fn web(look: Look, certificate: Option<Certificate>) -> Box<dyn Transport> {
    let mut web = Web::new(TransportId(0), look, None);
    let address = "127.0.0.1:0".parse().unwrap();
    match look {
        Look::Tcp => web.listen(address).unwrap(),
        _ => {
            let front = Front { me: addr(2), site: Site::Empty, path: "/secret".to_owned(), certificate };
            web.hide(address, front).unwrap();
        }
    }
    Box::new(web)
}

#[tokio::test]
async fn two_daemons_link_over_tcp_tls_and_websocket_and_again_when_one_has_started_anew() {
    let own = || Some(Certificate::generate("localhost").unwrap());
    for (look, certificate, class, scheme) in [
        (Look::Tcp, None, "ip/tcp", "tcp://"),
        (Look::Tls, own(), "ip/tls", "tls://"),
        (Look::WebSocket, None, "ip/websocket", "ws://"),
        (Look::WebSocket, own(), "ip/websocket", "wss://"),
        #[cfg(feature = "quic")]
        (Look::Quic, own(), "ip/quic", "quic://"),
    ] {
        let mut a = Daemon::new(1, vec![Box::new(Web::new(TransportId(0), look, None))]);
        let mut b = Daemon::new(2, vec![web(look, certificate)]);
        b.peer(1, Vec::new());
        let endpoints = b.transports[0].0.listening();
        a.peer(2, endpoints.clone());
        run(&mut [&mut a, &mut b], "linked", |all| all.iter().all(|daemon| daemon.up.len() == 1)).await;
        let link = a.link(Family::Ip).unwrap();
        assert_eq!(link.class.to_string(), class);
        for (daemon, other) in [(&a, &endpoints[0]), (&b, &endpoints[0])] {
            let shown = daemon.transports[0].0.describe(daemon.link(Family::Ip).unwrap().place);
            assert!(shown.starts_with(scheme) && !shown.contains("pin"), "{shown} {other}");
        }
        let hop = a.up[0];
        for size in [1, 1_000, 16_000, 60_000] {
            a.send(hop, &vec![size as u8; size]);
        }
        run(&mut [&mut a, &mut b], "received", |all| all[1].received.len() == 4).await;
        assert_eq!(b.received[3], vec![60_000u32 as u8; 60_000]);

        // A daemon that dials and has started anew is linked again, whatever became of the connection before.
        let mut again = Daemon::new(1, vec![Box::new(Web::new(TransportId(0), look, None))]);
        drop(a);
        again.peer(2, endpoints);
        run(&mut [&mut again, &mut b], "linked again", |all| all.iter().all(|daemon| daemon.up.len() == 1))
            .await;
        let mut out = Vec::new();
        again.core.shutdown(Instant::now(), &mut out);
        again.apply(out);
        run(&mut [&mut again, &mut b], "told of the end", |all| all[1].up.is_empty()).await;
    }
}
