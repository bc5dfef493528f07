use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_api::Kind;
use byway_identity::{SeededEntropy, SigningKey};
use byway_link::{Accept, PeerConfig, Profile, Remote, Scheme, TransportId};
use byway_network::Class;
use byway_session::frame;

use super::*;
use crate::types::{Config, SendRequest};
use crate::{Ciphers, Levels};

const CLEAR: TransportId = TransportId(0);
const HIDDEN: TransportId = TransportId(1);
const LEVELS: Levels = Levels { default: ManCon::Low, floor: ManCon::Low, direct: true };

/// Two daemons with a clear way and a hidden one between them; nothing takes time, and nothing is lost.
struct World {
    now: Instant,
    cores: [Core; 2],
    /// To whom, where from, what.
    wire: VecDeque<(usize, Place, Bytes)>,
    delivered: Vec<(usize, Addr, Plane, Kind, Bytes)>,
    sent: usize,
}

fn key(number: usize) -> SigningKey {
    SigningKey::from_seed(&[number as u8 + 1; 32])
}

/// The place of `number`, as the other sees it.
fn place(transport: TransportId, number: usize) -> Place {
    let remote = match transport {
        CLEAR => Remote::Ip(([192, 0, 2, number as u8 + 1], 2_561).into()),
        _ => Remote::Connection(7),
    };
    Place { transport, remote, mtu: 1_452 }
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let core = |number: usize| {
            let config = Config {
                key: key(number),
                protocol: byway_grove::PROTOCOL,
                network: "test".to_owned(),
                group_key: None,
                accept: Accept::Network,
                levels: LEVELS,
                peers: Vec::new(),
                boot: 1,
                unix: 1_800_000_000,
                ratchet: Duration::from_secs(120),
                ciphers: Ciphers::AES,
            };
            let mut seed = number as u64 * 1_000;
            let entropy = move || -> Box<dyn byway_identity::Entropy> {
                seed += 1;
                Box::new(SeededEntropy::new(seed))
            };
            let mut core = Core::new(now, config, Box::new(entropy));
            let profile = |class| Profile {
                class,
                typical_rtt: Duration::from_millis(10),
                rate: None,
                lossy: class == Class::UDP,
            };
            core.add_transport(now, CLEAR, profile(Class::UDP), &[Scheme::Udp]);
            core.add_transport(now, HIDDEN, profile(Class::new(Family::Tor, 0)), &[Scheme::Tor]);
            core
        };
        let mut world =
            Self { now, cores: [core(0), core(1)], wire: VecDeque::new(), delivered: Vec::new(), sent: 0 };
        let endpoints = ["udp://192.0.2.2:2561", "tor://other.onion:1"];
        let endpoints = endpoints.iter().map(|text| text.parse().expect("an endpoint")).collect();
        let peer = PeerConfig::new(world.cores[1].main(), endpoints);
        world.act(0, |core, now, out| core.add_peer(now, peer, out));
        world.run(Duration::from_secs(3));
        world
    }

    fn act<T>(&mut self, number: usize, act: impl FnOnce(&mut Core, Instant, &mut Vec<Output>) -> T) -> T {
        let mut out = Vec::new();
        let result = act(&mut self.cores[number], self.now, &mut out);
        let mut outputs = VecDeque::from(out);
        while let Some(output) = outputs.pop_front() {
            match output {
                Output::Transmit { place: to, frame } => {
                    self.sent += 1;
                    self.wire.push_back((1 - number, place(to.transport, number), frame));
                }
                Output::Dial { id, transport, .. } => {
                    let result = Ok(vec![place(transport, 1 - number)]);
                    let mut more = Vec::new();
                    self.cores[number].handle(self.now, Event::Dialled { id, result }, &mut more);
                    outputs.extend(more);
                }
                Output::Deliver { from, plane, kind, payload, .. } => {
                    self.delivered.push((number, from, plane, kind, payload));
                }
                _ => {}
            }
        }
        result
    }

    fn come(&mut self, number: usize, place: Place, frame: &[u8]) {
        let event = Event::Frame { place, frame: BytesMut::from(frame) };
        self.act(number, |core, now, out| core.handle(now, event, out));
    }

    fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            while let Some((to, from, frame)) = self.wire.pop_front() {
                self.come(to, from, &frame);
            }
            self.now += Duration::from_millis(5);
            for number in [0, 1] {
                self.act(number, Core::heartbeat);
            }
        }
    }

    fn say(&mut self, plane: Plane, level: ManCon) {
        let request = SendRequest {
            to: self.cores[1].main(),
            kind: Kind::Message,
            payload: Bytes::from_static(b"hello"),
            level,
            plane,
            until: self.now + Duration::from_secs(5),
        };
        let from = self.cores[0].main();
        self.act(0, |core, now, out| core.send(now, &from, request, out)).expect("it is allowed");
        self.run(Duration::from_secs(2));
    }

    /// A packet of the first daemon to the second in their session of `plane`, sealed past the core.
    fn sealed(&self, plane: Plane) -> Vec<u8> {
        let main = self.cores[0].local(&self.cores[0].main()).expect("it is always open");
        let mut halves = main.endpoint().halves().filter(|half| half.in_use && half.plane == plane.byte());
        let outbound = halves.next().expect("there is a session").outbound;
        let mut sealed = vec![0; 64];
        let mut sealer = outbound.take(self.now, 1).expect("the session is up");
        sealer.seal(frame::PACKET, 0, 10, &mut sealed).expect("one counter was taken");
        sealed
    }

    fn opened(&self) -> u64 {
        self.cores[1].nodes()[0].sessions.opened
    }
}

#[test]
fn an_end_to_end_frame_counts_in_its_plane_and_in_no_other() {
    let mut world = World::new();
    world.say(Plane::Any, ManCon::Low);
    world.say(Plane::Anon, ManCon::High);
    assert_eq!(world.delivered.len(), 2);
    let (clear, hidden) = (world.sealed(Plane::Any), world.sealed(Plane::Anon));
    world.delivered.clear();
    let before = (world.opened(), world.sent);
    for bare in [&clear, &hidden] {
        world.come(1, place(HIDDEN, 0), bare);
    }
    world.come(1, place(CLEAR, 0), &hidden);
    assert_eq!((world.opened(), world.sent), before, "neither opened nor answered");
    assert!(world.delivered.is_empty());
    world.come(1, place(CLEAR, 0), &clear);
    assert_eq!(world.opened(), before.0 + 1);
    let (to, from, plane, kind, _) = world.delivered.remove(0);
    assert_eq!((to, from, plane, kind), (1, world.cores[0].main(), Plane::Any, Kind::Packet));
    // It was a good frame, but for where it came.
    let main = world.cores[1].local(&world.cores[1].main()).expect("it is always open");
    let mut halves = main.endpoint().halves();
    let index = frame::index(&hidden).expect("it has a head");
    let half = halves.find(|half| half.index == index).expect("there is a session");
    assert!(half.inbound.lock().open(world.now, &mut hidden.clone()).is_ok());
}

#[test]
fn what_a_thread_opened_counts_in_its_plane_and_in_no_other() {
    let mut world = World::new();
    world.say(Plane::Any, ManCon::Low);
    world.say(Plane::Anon, ManCon::High);
    world.delivered.clear();
    for (plane, expected) in [(Plane::Anon, 0), (Plane::Any, 1)] {
        let index = frame::index(&world.sealed(plane)).expect("it has a head");
        let payload = Bytes::from_static(b"payload");
        let event =
            Event::Unsealed { place: place(CLEAR, 0), index, kind: frame::MESSAGE, flags: 0, payload };
        world.act(1, |core, now, out| core.handle(now, event, out));
        assert_eq!(world.delivered.len(), expected, "{plane:?}");
    }
    let index = 0xffff_fff0;
    let event = Event::Unsealed {
        place: place(CLEAR, 0),
        index,
        kind: frame::MESSAGE,
        flags: 0,
        payload: Bytes::new(),
    };
    world.act(1, |core, now, out| core.handle(now, event, out));
    assert_eq!(world.delivered.len(), 1, "of a session that has ended nothing is told");
}

#[test]
fn a_session_that_is_to_be_hidden_gives_threads_no_way() {
    let mut world = World::new();
    world.say(Plane::Any, ManCon::Low);
    world.say(Plane::Anon, ManCon::High);
    let snapshot = world.cores[0].snapshot();
    let planes: Vec<Plane> = snapshot.ways.keys().map(|(_, plane)| *plane).collect();
    assert_eq!(planes, [Plane::Any]);
    let families: Vec<Family> = snapshot.links.keys().map(|hop| hop.family).collect();
    assert_eq!(families, [Family::Ip]);
    assert_eq!(
        (snapshot.planes.of(None), snapshot.planes.of(Some(ManCon::High as u8))),
        (Some(Plane::Any), Some(Plane::Anon))
    );
    assert_eq!(snapshot.planes.of(Some(ManCon::VeryHigh as u8)), None);
    let levels = Levels { floor: ManCon::High, ..LEVELS };
    let before = world.cores[0].generation();
    world.act(0, |core, now, out| core.set_levels(now, levels, out));
    assert_ne!(world.cores[0].generation(), before);
    let planes = world.cores[0].snapshot().planes;
    for level in [None, Some(ManCon::Low as u8), Some(ManCon::Medium as u8)] {
        assert_eq!(planes.of(level), Some(Plane::Anon), "nothing goes below the floor");
    }
}

#[test]
fn handshakes_never_go_bare() {
    let mut world = World::new();
    world.wire.clear();
    let request = SendRequest {
        to: world.cores[1].main(),
        kind: Kind::Message,
        payload: Bytes::from_static(b"hello"),
        level: ManCon::Low,
        plane: Plane::Any,
        until: world.now + Duration::from_secs(5),
    };
    let from = world.cores[0].main();
    world.act(0, |core, now, out| core.send(now, &from, request, out)).expect("it is allowed");
    let mut seen = 0;
    for _ in 0..100 {
        while let Some((to, from, frame)) = world.wire.pop_front() {
            let index = frame::index(&frame).expect("it has a head");
            let is_of_link = world.cores[to].indices().owner(index).is_some_and(|tag| tag & LINK_TAG != 0);
            let is_of_session = world.cores[to].indices().owner(index).is_some_and(|tag| tag & LINK_TAG == 0);
            assert!(
                is_of_link || is_of_session,
                "frames of sessions, which have a receiver index, and nothing else"
            );
            assert!(index >= 256);
            seen += usize::from(is_of_session);
            world.come(to, from, &frame);
        }
        world.now += Duration::from_millis(5);
        for number in [0, 1] {
            world.act(number, Core::heartbeat);
        }
    }
    assert_eq!(world.delivered.len(), 1);
    assert!(seen >= 2, "the message, and what confirmed the session: {seen}");
}
