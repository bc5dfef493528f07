//! Targets for links: events of hostile transports, and a peer that has a key and bad manners.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_identity::SeededEntropy;
use byway_link::{
    Accept, Action, Config, Core, DialError, DialId, Event, PeerConfig, Place, Profile, Remote, Scheme,
    TransportId,
};
use byway_network::{Class, Family, Hop, NetworkId};
use byway_session::{Connect, Endpoint, FrameKind, SessionId, Use};

use crate::input::Input;
use crate::session::{UNIX, key};

/// Most steps of one run.
const STEPS: usize = 96;
/// Most datagrams under way.
const FLIGHT: usize = 64;

/// A link core of node `end`, with a transport for datagrams and one for connections.
pub(crate) fn core(now: Instant, end: usize) -> Core {
    let config = Config {
        key: key(end),
        protocol: "beacon",
        network: NetworkId::new("fuzz", None),
        group_key: None,
        accept: Accept::Network,
        boot: 1,
        unix: UNIX,
        ratchet: Duration::from_secs(5),
        ciphers: byway_session::Ciphers::AES,
    };
    let mut core = Core::new(now, config, Box::new(SeededEntropy::new(end as u64)));
    for (id, profile, schemes) in transports() {
        core.add_transport(now, id, profile, schemes);
    }
    core
}

/// UDP, and connections in memory.
pub(crate) fn transports() -> [(TransportId, Profile, &'static [Scheme]); 2] {
    let typical_rtt = Duration::from_millis(30);
    [
        (TransportId(0), Profile { class: Class::UDP, typical_rtt, rate: None, lossy: true }, &[Scheme::Udp]),
        (
            TransportId(1),
            Profile { class: Class::MEMORY, typical_rtt, rate: None, lossy: false },
            &[Scheme::Unix],
        ),
    ]
}

/// Place number `number`: the high bit tells the transport.
pub(crate) fn place(number: u8) -> Place {
    if number < 128 {
        let address = SocketAddr::from(([192, 0, 2, number], 2_561));
        Place { transport: TransportId(0), remote: Remote::Ip(address), mtu: 1_472 }
    } else {
        Place { transport: TransportId(1), remote: Remote::Connection(number.into()), mtu: 9_000 }
    }
}

/// An event of a transport, made of the fuzzer's choices.
pub(crate) fn event(input: &mut Input<'_>) -> Event {
    match input.u8() % 6 {
        0 | 1 => Event::Frame { place: place(input.u8()), frame: input.bytes().into() },
        2 => Event::Dialled {
            id: DialId(input.u8().into()),
            result: Ok((0..input.below(5)).map(|_| place(input.u8())).collect()),
        },
        3 => {
            let errors = [DialError::Name, DialError::Unreachable, DialError::Unsupported];
            Event::Dialled { id: DialId(input.u8().into()), result: Err(errors[input.below(3)].clone()) }
        }
        4 => Event::Opened { place: place(input.u8()) },
        _ => Event::Closed { place: place(input.u8()) },
    }
}

/// Events in any order, peers that come and go: nobody without a key becomes a peer.
pub fn link_events(data: &[u8]) {
    let mut input = Input::new(data);
    let mut now = Instant::now();
    let mut core = core(now, 0);
    let mut out = Vec::new();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.u8() % 8 {
            0..=3 => core.handle(now, event(&mut input), &mut out),
            4 => {
                let endpoints = ["udp://192.0.2.1:2561", "unix:///run/fuzz", "udp://[2001:db8::1]:1"]
                    .iter()
                    .filter_map(|text| text.parse().ok())
                    .collect();
                let addr = key(usize::from(input.u8() & 3)).public().addr();
                core.add_peer(now, PeerConfig::new(addr, endpoints), &mut out);
            }
            5 => {
                core.remove_peer(now, &key(usize::from(input.u8() & 3)).public().addr(), &mut out);
            }
            6 => core.send(now, hop(usize::from(input.u8() & 3)), input.bytes(), &mut out),
            _ => {
                now += Duration::from_millis(u64::from(input.u16()));
                beat(&mut core, now, &mut out);
            }
        }
        for action in out.drain(..) {
            assert!(
                matches!(action, Action::Transmit { .. } | Action::Dial { .. } | Action::HangUp { .. }),
                "{action:?} although nobody has shown a key"
            );
        }
        assert!(core.links().is_empty());
    }
    core.shutdown(now, &mut out);
}

/// A peer with a key, whose frames are the fuzzer's, and who can answer with the core's own.
pub fn link_peer(data: &[u8]) {
    let mut world = World::new();
    let mut input = Input::new(data);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    world.core.shutdown(world.now, &mut Vec::new());
}

struct World {
    now: Instant,
    core: Core,
    hostile: Endpoint<Place>,
    session: Option<SessionId>,
    /// The frames that the core sent to the hostile peer, opened.
    heard: VecDeque<(FrameKind, Bytes)>,
    to_core: VecDeque<(Place, Bytes)>,
    to_hostile: VecDeque<(Place, Bytes)>,
    up: HashSet<Hop>,
}

impl World {
    /// The hostile peer has a session, and nothing more.
    fn new() -> Self {
        let now = Instant::now();
        let config = byway_session::Config {
            usage: Use::Link,
            key: key(1),
            group_key: None,
            boot: 1,
            unix: UNIX,
            ratchet: Duration::from_secs(5),
            ciphers: byway_session::Ciphers::AES,
        };
        let mut world = Self {
            now,
            core: core(now, 0),
            hostile: Endpoint::new(now, config, Box::new(SeededEntropy::new(9))),
            session: None,
            heard: VecDeque::new(),
            to_core: VecDeque::new(),
            to_hostile: VecDeque::new(),
            up: HashSet::new(),
        };
        world.connect(1);
        for _ in 0..16 {
            if world.session.is_some() {
                break;
            }
            world.exchange();
            world.pass(Duration::from_millis(250));
        }
        assert!(world.session.is_some(), "no session came up on a good wire");
        world
    }

    fn connect(&mut self, number: u8) {
        let connect =
            Connect { remote: key(0).public().addr(), place: place(number), token: None, digest: None };
        let mut out = Vec::new();
        self.hostile.connect(self.now, connect, &mut out);
        self.take_hostile(out);
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        match choice & 15 {
            0..=3 => {
                let kind = [FrameKind::Control, FrameKind::Message, FrameKind::Packet][input.below(3)];
                let payload = input.bytes();
                self.send(kind, payload);
            }
            4 | 5 => {
                // What the core says itself is well-formed, so it makes a good start for something else.
                let Some((kind, heard)) = self.heard.get(input.below(self.heard.len())).cloned() else {
                    return;
                };
                let mut bytes = BytesMut::from(&heard[..]);
                if choice & 16 != 0 && !bytes.is_empty() {
                    let at = input.below(bytes.len());
                    bytes[at] = input.u8();
                }
                self.send(kind, &bytes);
            }
            6 | 7 => self.exchange(),
            8 => self.connect(input.u8()),
            9 => {
                let mut out = Vec::new();
                if let Some(session) = self.session.take() {
                    self.hostile.close(self.now, session, &mut out);
                }
                self.take_hostile(out);
            }
            10 => {
                let event = event(input);
                let mut out = Vec::new();
                self.core.handle(self.now, event, &mut out);
                self.take_core(out);
            }
            11 => {
                let mut out = Vec::new();
                self.core.send(self.now, hop(1), input.bytes(), &mut out);
                self.take_core(out);
            }
            12 => {
                self.to_core.pop_front();
                self.to_hostile.truncate(input.below(4));
            }
            13 => {
                // Roaming.
                let to = place(input.u8());
                if let Some((from, _)) = self.to_core.front_mut() {
                    *from = to;
                }
            }
            14 => self.pass(Duration::from_millis(u64::from(input.u16()))),
            _ => self.pass(Duration::from_millis(u64::from(input.u8()))),
        }
    }

    fn send(&mut self, kind: FrameKind, payload: &[u8]) {
        let Some(session) = self.session else { return };
        let mut out = Vec::new();
        // Refused when the session has ended, which is one of the fuzzer's ways.
        let _ = self.hostile.send(self.now, session, kind, payload, &mut out);
        self.take_hostile(out);
    }

    /// Everything that is under way arrives.
    fn exchange(&mut self) {
        for _ in 0..FLIGHT {
            if let Some((from, bytes)) = self.to_core.pop_front() {
                let mut out = Vec::new();
                let frame = BytesMut::from(&bytes[..]);
                self.core.handle(self.now, Event::Frame { place: from, frame }, &mut out);
                self.take_core(out);
            } else if let Some((from, bytes)) = self.to_hostile.pop_front() {
                let mut out = Vec::new();
                self.hostile.handle(self.now, from, BytesMut::from(&bytes[..]), &mut out);
                self.take_hostile(out);
            } else {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut out = Vec::new();
        beat(&mut self.core, self.now, &mut out);
        self.take_core(out);
        let mut out = Vec::new();
        self.hostile.heartbeat(self.now, &mut out);
        self.take_hostile(out);
    }

    fn take_core(&mut self, out: Vec<Action>) {
        for action in out {
            match action {
                Action::Transmit { place, frame } if self.to_hostile.len() < FLIGHT => {
                    self.to_hostile.push_back((place, frame));
                }
                Action::Up { hop, .. } => {
                    assert_eq!(hop.peer, key(1).public().addr(), "a peer that never showed its key");
                    assert!(self.up.insert(hop), "up twice");
                }
                Action::Down { hop } => assert!(self.up.remove(&hop), "down without up"),
                Action::Cost { hop, .. } | Action::Received { hop, .. } => {
                    assert!(self.up.contains(&hop), "news of a hop that is not up");
                }
                _ => {}
            }
        }
    }

    fn take_hostile(&mut self, out: Vec<byway_session::Event<Place>>) {
        use byway_session::Event;
        for event in out {
            match event {
                Event::Transmit { place, bytes } if self.to_core.len() < FLIGHT => {
                    self.to_core.push_back((place, bytes));
                }
                Event::Up { session, .. } => self.session = Some(session),
                Event::Received { kind, payload, .. } if self.heard.len() < FLIGHT => {
                    self.heard.push_back((kind, payload));
                }
                _ => {}
            }
        }
    }
}

fn hop(end: usize) -> Hop {
    Hop { peer: key(end).public().addr(), family: Family::Ip }
}

/// Does what is due, and sees to it that this ends.
fn beat(core: &mut Core, now: Instant, out: &mut Vec<Action>) {
    for _ in 0..64 {
        if core.next_heartbeat().is_none_or(|due| due > now) {
            return;
        }
        core.heartbeat(now, out);
    }
    panic!("what is due stays due");
}
