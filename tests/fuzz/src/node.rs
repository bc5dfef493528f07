//! Target for whole nodes: a neighbour with a key that is hostile on every layer.
//!
//! ```text
//!  victim: node::Core            │ raw datagrams          the neighbour: link, beacon and end-to-end session of its own,
//!  its own node, a hosted one  ◄─┤ frames in the link     each of which also says what the fuzzer likes
//!                                │ payloads in the network
//!                                │ payloads in the end-to-end session
//! ```

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_api::{Kind, ManCon};
use byway_beacon::Beacon;
use byway_identity::{Addr, Entropy, Prefix, SeededEntropy};
use byway_link::{Accept, Event, PeerConfig, Place};
use byway_network::{Action, Constraint, Family, Hop, Network, NetworkId, Outbox, Plane, Setup, To};
use byway_node::{Config, Core, Levels, Output, Question, SendRequest, Way};
use byway_session::{Connect, Endpoint, FrameKind, Indices, SessionId, Use};

use crate::input::Input;
use crate::link;
use crate::session::{UNIX, key};

/// Most steps of one run.
const STEPS: usize = 96;
/// Most datagrams under way.
const FLIGHT: usize = 128;
/// Most hosted nodes that the fuzzer opens.
const HOSTED: usize = 4;

/// See the module.
pub fn node_core(data: &[u8]) {
    let mut world = World::new();
    let mut input = Input::new(data);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
    let mut out = Vec::new();
    world.victim.shutdown(world.now, &mut out);
}

struct World {
    now: Instant,
    victim: Core,
    hosted: Vec<Addr>,
    links: byway_link::Core,
    beacon: Beacon,
    sessions: Endpoint<Way>,
    /// End-to-end sessions that came up, the newest last.
    up: Vec<SessionId>,
    /// What the victim said in them.
    heard: VecDeque<(FrameKind, Bytes)>,
    to_victim: VecDeque<Bytes>,
    to_neighbour: VecDeque<Bytes>,
    asked: HashSet<u64>,
    question: u64,
    /// Receiver indices of the neighbour.
    indices: Indices,
    /// Frames of sessions that it sent; every other one goes without a link frame.
    sealed: u64,
}

fn addr(node: usize) -> Addr {
    key(node).public().addr()
}

/// Number of the victim's own key, of its neighbour's, and of the first hosted one.
const VICTIM: usize = 0;
const NEIGHBOUR: usize = 1;
const FIRST_HOSTED: usize = 8;
/// Under which the neighbour's end-to-end sessions have their receiver indices.
const SESSIONS: u32 = 1;

impl World {
    /// The two are neighbours, and have an end-to-end session.
    fn new() -> Self {
        let now = Instant::now();
        let ratchet = Duration::from_secs(5);
        let config = Config {
            key: key(VICTIM),
            protocol: byway_beacon::PROTOCOL,
            network: "fuzz".to_owned(),
            group_key: None,
            accept: Accept::Network,
            levels: Levels { default: ManCon::Low, floor: ManCon::Low, direct: true },
            peers: Vec::new(),
            boot: 1,
            unix: UNIX,
            ratchet,
            ciphers: byway_session::Ciphers::AES,
        };
        let mut seed = 0;
        let entropy = move || -> Box<dyn Entropy> {
            seed += 1;
            Box::new(SeededEntropy::new(seed))
        };
        let mut victim = Core::new(now, config, Box::new(entropy));
        for (id, profile, schemes) in link::transports() {
            victim.add_transport(now, id, profile, schemes);
        }
        let config = byway_session::Config {
            usage: Use::EndToEnd,
            key: key(NEIGHBOUR),
            group_key: None,
            boot: 1,
            unix: UNIX,
            ratchet,
            ciphers: byway_session::Ciphers::AES,
        };
        let sessions = Endpoint::new(now, config, Box::new(SeededEntropy::new(101)));
        let setup = Setup {
            key: key(NEIGHBOUR),
            network: NetworkId::new("fuzz", None),
            digest: sessions.record_digest(),
            boot: 1,
            leaf: false,
            entropy: Box::new(SeededEntropy::new(102)),
        };
        let mut world = Self {
            now,
            victim,
            hosted: Vec::new(),
            links: link::core(now, NEIGHBOUR),
            beacon: Beacon::new(now, setup),
            sessions,
            up: Vec::new(),
            heard: VecDeque::new(),
            to_victim: VecDeque::new(),
            to_neighbour: VecDeque::new(),
            asked: HashSet::new(),
            question: 0,
            indices: Indices::default(),
            sealed: 0,
        };
        world.links.share_indices(world.indices.clone());
        world.sessions.share_indices(world.indices.clone(), SESSIONS);
        world.open();
        let endpoint = "udp://192.0.2.1:2561".parse().expect("an endpoint");
        let mut out = Vec::new();
        world.links.add_peer(now, PeerConfig::new(addr(VICTIM), vec![endpoint]), &mut out);
        world.take_link(out);
        for _ in 0..40 {
            if !world.up.is_empty() {
                break;
            }
            world.exchange();
            world.connect(VICTIM, Plane::Any);
            world.exchange();
            world.pass(Duration::from_millis(50));
        }
        assert!(!world.up.is_empty(), "no session came up on a good wire");
        world
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        let other = choice >> 4;
        match choice & 15 {
            0 | 1 => {
                let kind =
                    [FrameKind::Control, FrameKind::Message, FrameKind::Packet][usize::from(other) % 3];
                let payload = input.bytes();
                self.send(kind, payload, input);
            }
            2 => {
                let Some((kind, heard)) = self.heard.get(input.below(self.heard.len())).cloned() else {
                    return;
                };
                let mut bytes = BytesMut::from(&heard[..]);
                if other & 1 != 0 && !bytes.is_empty() {
                    let at = input.below(bytes.len());
                    bytes[at] = input.u8();
                }
                self.send(kind, &bytes, input);
            }
            3 => {
                let to = self.someone(other);
                let payload = Bytes::copy_from_slice(input.bytes());
                let plane = Plane::ALL[input.below(Plane::ALL.len())];
                let mut out = Outbox::default();
                let by = Constraint::in_plane(plane);
                // Refused where there is no way, which is up to the fuzzer.
                let _ = self.beacon.handle_above(self.now, To::Node(to), payload, &by, &mut out);
                self.take_beacon(&mut out);
            }
            4 => {
                let mut out = Vec::new();
                let hop = Hop { peer: addr(VICTIM), family: Family::Ip };
                self.links.send(self.now, hop, input.bytes(), &mut out);
                self.take_link(out);
            }
            5 => {
                let event = if other & 1 == 0 { link::event(input) } else { self.opened(input) };
                let mut out = Vec::new();
                self.victim.handle(self.now, event, &mut out);
                self.take_victim(out);
            }
            6 | 7 => self.exchange(),
            8 => self.request(other, input),
            9 => self.ask(other, input),
            10 => {
                let mut out = Vec::new();
                let from = self.someone(input.u8());
                let local = self.someone(other);
                let plane = Plane::ALL[input.below(Plane::ALL.len())];
                let cost = u64::from(input.u16()) << input.below(32);
                self.victim.consumed(self.now, &local, (from, plane), cost, &mut out);
                self.take_victim(out);
            }
            11 => match other & 3 {
                0 => self.open(),
                1 => {
                    let Some(addr) = self.hosted.pop() else { return };
                    let mut out = Vec::new();
                    self.victim.close(self.now, &addr, &mut out);
                    self.take_victim(out);
                }
                2 => self.connect(FIRST_HOSTED, Plane::Any),
                _ => self.connect(VICTIM, Plane::ALL[input.below(Plane::ALL.len())]),
            },
            12 => {
                self.to_victim.pop_front();
                self.to_neighbour.truncate(input.below(4));
            }
            13 => match other & 3 {
                0 => {
                    let mut out = Vec::new();
                    self.victim.remove_peer(self.now, &addr(NEIGHBOUR), &mut out);
                    self.take_victim(out);
                }
                1 => {
                    if let Some(session) = self.up.pop() {
                        let mut out = Vec::new();
                        self.sessions.close(self.now, session, &mut out);
                        self.take_sessions(out);
                    }
                }
                2 => {
                    let direct = input.u8() & 1 == 0;
                    let levels = Levels { default: ManCon::Low, floor: ManCon::Low, direct };
                    let mut out = Vec::new();
                    self.victim.set_levels(self.now, levels, &mut out);
                    self.take_victim(out);
                }
                _ => self.victim.set_clock(self.now, u64::from(input.u16()) << input.below(60)),
            },
            14 => self.pass(Duration::from_millis(u64::from(input.u16()))),
            _ => self.pass(Duration::from_millis(u64::from(input.u8()))),
        }
    }

    /// What a thread of the victim's might have opened: the sender was in a session, and hostile.
    fn opened(&self, input: &mut Input<'_>) -> Event {
        let mut indices: Vec<u32> = self.victim.snapshot().sessions.into_keys().collect();
        indices.sort_unstable();
        let index = indices.get(input.below(indices.len() + 1)).copied().unwrap_or(0xffff_ffff);
        let (kind, flags) = (input.u8() % 12, input.u8());
        let payload = Bytes::copy_from_slice(input.bytes());
        Event::Unsealed { place: link::place(1), index, kind, flags, payload }
    }

    /// Some node: the victim's own, one of its hosted ones, the neighbour, or nobody that there is.
    fn someone(&self, choice: u8) -> Addr {
        match choice % 4 {
            0 => addr(VICTIM),
            1 => self.hosted.last().copied().unwrap_or(addr(FIRST_HOSTED)),
            2 => addr(NEIGHBOUR),
            _ => addr(3),
        }
    }

    fn open(&mut self) {
        if self.hosted.len() < HOSTED {
            let mut out = Vec::new();
            let key = key(FIRST_HOSTED + self.hosted.len());
            let opened = self.victim.open(self.now, &key, &mut out);
            self.hosted.push(opened.expect("a node that is not open can be opened"));
            self.take_victim(out);
        }
    }

    fn connect(&mut self, to: usize, plane: Plane) {
        let connect =
            Connect { remote: addr(to), place: Way::to(plane, addr(to), 1_120), token: None, digest: None };
        let mut out = Vec::new();
        self.sessions.connect(self.now, connect, &mut out);
        self.take_sessions(out);
    }

    fn send(&mut self, kind: FrameKind, payload: &[u8], input: &mut Input<'_>) {
        let Some(at) = self.up.len().checked_sub(1 + input.below(self.up.len())) else { return };
        let mut out = Vec::new();
        // Refused when the session has ended.
        let _ = self.sessions.send(self.now, self.up[at], kind, payload, &mut out);
        self.take_sessions(out);
    }

    /// A program of the victim's host sends.
    fn request(&mut self, other: u8, input: &mut Input<'_>) {
        let request = SendRequest {
            to: self.someone(input.u8()),
            kind: if other & 4 == 0 { Kind::Message } else { Kind::Packet },
            payload: if other & 8 == 0 {
                Bytes::copy_from_slice(input.bytes())
            } else {
                vec![7; usize::from(input.u16())].into()
            },
            level: ManCon::Low,
            plane: Plane::ALL[input.below(Plane::ALL.len())],
            until: self.now + Duration::from_millis(u64::from(input.u16())),
        };
        let from = self.someone(other);
        let mut out = Vec::new();
        // Busy, forbidden or closed are answers too.
        let _ = self.victim.send(self.now, &from, request, &mut out);
        self.take_victim(out);
    }

    /// A program of the victim's host asks; there is one answer to each question.
    fn ask(&mut self, other: u8, input: &mut Input<'_>) {
        let about = self.someone(input.u8());
        let plane = Plane::ALL[input.below(Plane::ALL.len())];
        let question = if other & 4 == 0 {
            let Some(prefix) = Prefix::new(about.as_bytes(), u16::from(input.u8())) else { return };
            Question::Find { prefix, plane }
        } else {
            Question::Ping { to: about, plane }
        };
        self.question += 1;
        self.asked.insert(self.question);
        let until = self.now + Duration::from_millis(u64::from(input.u16()));
        let from = self.someone(other);
        let mut out = Vec::new();
        self.victim.ask(self.now, &from, (self.question, question, ManCon::Low), until, &mut out);
        self.take_victim(out);
    }

    /// Everything that is under way arrives.
    fn exchange(&mut self) {
        for _ in 0..FLIGHT {
            if let Some(frame) = self.to_victim.pop_front() {
                let mut out = Vec::new();
                let event = Event::Frame { place: link::place(1), frame: frame.as_ref().into() };
                self.victim.handle(self.now, event, &mut out);
                self.take_victim(out);
            } else if let Some(frame) = self.to_neighbour.pop_front() {
                let index = frame.first_chunk().map(|head| u32::from_le_bytes(*head));
                if index.and_then(|index| self.indices.owner(index)) == Some(SESSIONS) {
                    let (way, mut out) = (Way::back(Plane::Any, None), Vec::new());
                    self.sessions.handle(self.now, way, frame.as_ref().into(), &mut out);
                    self.take_sessions(out);
                    continue;
                }
                let mut out = Vec::new();
                let event = Event::Frame { place: link::place(0), frame: frame.as_ref().into() };
                self.links.handle(self.now, event, &mut out);
                self.take_link(out);
            } else {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        let mut out = Vec::new();
        for round in 0.. {
            if self.victim.next_heartbeat().is_none_or(|due| due > self.now) {
                break;
            }
            assert!(round < 256, "what is due stays due");
            self.victim.heartbeat(self.now, &mut out);
        }
        self.take_victim(out);
        let mut out = Vec::new();
        self.links.heartbeat(self.now, &mut out);
        self.take_link(out);
        let mut out = Outbox::default();
        self.beacon.heartbeat(self.now, &mut out);
        self.take_beacon(&mut out);
        let mut out = Vec::new();
        self.sessions.heartbeat(self.now, &mut out);
        self.take_sessions(out);
    }

    fn take_victim(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Transmit { frame, .. } if self.to_neighbour.len() < FLIGHT => {
                    self.to_neighbour.push_back(frame);
                }
                Output::Deliver { local, from, .. } => {
                    let ours = |addr: &Addr| *addr == self.victim.main() || self.hosted.contains(addr);
                    assert!(ours(&local) && (ours(&from) || from == addr(NEIGHBOUR)), "a payload of nobody");
                }
                Output::Answer { id, .. } => assert!(self.asked.remove(&id), "a second answer"),
                _ => {}
            }
        }
    }

    fn take_link(&mut self, out: Vec<byway_link::Action>) {
        use byway_link::Action;
        let mut told = Outbox::default();
        for action in out {
            match action {
                Action::Transmit { frame, .. } if self.to_victim.len() < FLIGHT => {
                    self.to_victim.push_back(frame);
                }
                Action::Dial { id, .. } => {
                    let places: Vec<Place> = vec![link::place(0)];
                    let mut out = Vec::new();
                    self.links.handle(self.now, Event::Dialled { id, result: Ok(places) }, &mut out);
                    self.take_link(out);
                }
                Action::Up { hop, class, cost } => self.beacon.peer_up(self.now, hop, class, cost, &mut told),
                Action::Cost { hop, class, cost } => {
                    self.beacon.peer_cost(self.now, hop, class, cost, &mut told);
                }
                Action::Down { hop } => self.beacon.peer_down(self.now, hop, &mut told),
                Action::Received { hop, frame } => {
                    // The victim sends no frame that its neighbour must refuse, unless the fuzzer's own were relayed.
                    let _ = self.beacon.handle_below(self.now, hop, frame, &mut told);
                }
                _ => {}
            }
        }
        self.take_beacon(&mut told);
    }

    fn take_beacon(&mut self, told: &mut Outbox) {
        let actions: Vec<Action> = told.drain().collect();
        for action in actions {
            match action {
                Action::Send { hop, frame } => {
                    let mut out = Vec::new();
                    self.links.send(self.now, hop, &frame, &mut out);
                    self.take_link(out);
                }
                Action::Deliver { plane, payload, back } => {
                    let mut out = Vec::new();
                    let bytes = BytesMut::from(&payload[..]);
                    self.sessions.handle(self.now, Way::back(plane, back), bytes, &mut out);
                    self.take_sessions(out);
                }
                _ => {}
            }
        }
    }

    fn take_sessions(&mut self, out: Vec<byway_session::Event<Way>>) {
        use byway_session::Event;
        for event in out {
            match event {
                Event::Transmit { place, bytes } => {
                    let Some(to) = place.to else { continue };
                    let is_sealed = bytes.first_chunk().is_some_and(|head| u32::from_le_bytes(*head) >= 256);
                    self.sealed += u64::from(is_sealed);
                    if is_sealed && self.sealed.is_multiple_of(2) && self.to_victim.len() < FLIGHT {
                        self.to_victim.push_back(bytes);
                        continue;
                    }
                    let mut told = Outbox::default();
                    let by = Constraint::in_plane(place.plane);
                    // No way yet while the link comes up.
                    let _ = self.beacon.handle_above(self.now, to, bytes, &by, &mut told);
                    self.take_beacon(&mut told);
                }
                Event::Up { session, .. } => self.up.push(session),
                Event::Received { kind, payload, .. } => {
                    if self.heard.len() == 32 {
                        self.heard.pop_front();
                    }
                    self.heard.push_back((kind, payload));
                }
                _ => {}
            }
        }
    }
}
