//! Whole cores in virtual time, joined by links that lose nothing unless told to.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_api::{Code, Kind, ManCon};
use byway_identity::{Addr, Prefix, SeededEntropy, SigningKey};
use byway_link::{Accept, Event, PeerConfig, Place, Profile, Remote, Scheme, TransportId};
use byway_network::{Class, Plane};
use byway_node::{Answer, Config, Core, Disposition, Levels, Output, Question, SendRequest};

const LATENCY: Duration = Duration::from_millis(5);
const LEVELS: Levels = Levels { default: ManCon::Low, floor: ManCon::Low, direct: true };

/// Cores in a row, and what happened to them.
struct World {
    now: Instant,
    cores: Vec<Core>,
    keys: Vec<SigningKey>,
    /// Frames under way: when, to which core, from which place, what.
    wires: BTreeMap<(Instant, u64), (usize, Place, Bytes)>,
    order: u64,
    delivered: Vec<(Addr, Addr, Kind, Bytes)>,
    answers: BTreeMap<u64, Result<Answer, Code>>,
    /// Links that carry nothing.
    cut: Vec<(usize, usize)>,
    /// Applications that never read give no room back.
    reading: bool,
}

fn key(number: u8) -> SigningKey {
    SigningKey::from_seed(&[number; 32])
}

fn core(now: Instant, number: usize, boot: u64) -> Core {
    let config = Config {
        key: key(number as u8 + 1),
        protocol: byway_grove::PROTOCOL,
        network: "test".to_owned(),
        group_key: None,
        accept: Accept::Network,
        levels: LEVELS,
        peers: Vec::new(),
        boot,
        unix: 1_800_000_000,
        ratchet: Duration::from_secs(120),
        ciphers: byway_node::Ciphers::AES,
    };
    let mut seed = (number as u64 + 1) * 1_000 + boot * 100_000;
    let entropy = move || -> Box<dyn byway_identity::Entropy> {
        seed += 1;
        Box::new(SeededEntropy::new(seed))
    };
    let mut core = Core::new(now, config, Box::new(entropy));
    let profile =
        Profile { class: Class::UDP, typical_rtt: Duration::from_millis(10), rate: None, lossy: true };
    core.add_transport(now, TransportId(0), profile, &[Scheme::Udp]);
    core
}

/// The place of core `number`, as its neighbours see it.
fn place(number: usize) -> Place {
    let address = ([192, 0, 2, number as u8 + 1], 2561).into();
    Place { transport: TransportId(0), remote: Remote::Ip(address), mtu: 1_452 }
}

impl World {
    /// `count` cores, each with a configured link to the next.
    fn chain(count: usize) -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            cores: (0..count).map(|number| core(now, number, 1)).collect(),
            keys: (0..count).map(|number| key(number as u8 + 1)).collect(),
            wires: BTreeMap::new(),
            order: 0,
            delivered: Vec::new(),
            answers: BTreeMap::new(),
            cut: Vec::new(),
            reading: true,
        };
        for number in 1..count {
            world.link(number - 1, number);
        }
        world.run(Duration::from_secs(3));
        world
    }

    fn link(&mut self, from: usize, to: usize) {
        let endpoint = format!("udp://192.0.2.{}:2561", to + 1).parse().expect("an endpoint");
        let peer = PeerConfig::new(self.addr(to), vec![endpoint]);
        let now = self.now;
        self.act(from, |core, out| core.add_peer(now, peer, out));
    }

    fn addr(&self, number: usize) -> Addr {
        self.keys[number].public().addr()
    }

    fn act<T>(&mut self, number: usize, act: impl FnOnce(&mut Core, &mut Vec<Output>) -> T) -> T {
        let mut out = Vec::new();
        let result = act(&mut self.cores[number], &mut out);
        for output in out {
            self.apply(number, output);
        }
        result
    }

    fn apply(&mut self, number: usize, output: Output) {
        match output {
            Output::Transmit { place: to, frame } => {
                let Some(target) = (0..self.cores.len()).find(|target| place(*target).remote == to.remote)
                else {
                    return;
                };
                let pair = (number.min(target), number.max(target));
                if !self.cut.contains(&pair) {
                    self.order += 1;
                    self.wires.insert((self.now + LATENCY, self.order), (target, place(number), frame));
                }
            }
            Output::Dial { id, endpoint, .. } => {
                let result = (0..self.cores.len())
                    .find(|target| endpoint.to_string() == format!("udp://192.0.2.{}:2561", target + 1))
                    .map(|target| vec![place(target)])
                    .ok_or(byway_link::DialError::Name);
                let now = self.now;
                self.act(number, |core, out| core.handle(now, Event::Dialled { id, result }, out));
            }
            Output::Deliver { local, from, plane, kind, payload } => {
                let cost = payload.len() as u64 + 512;
                self.delivered.push((local, from, kind, payload));
                if self.reading {
                    let now = self.now;
                    self.act(number, |core, out| core.consumed(now, &local, (from, plane), cost, out));
                }
            }
            Output::Answer { id, answer } => {
                self.answers.insert(id, answer.map_err(|error| error.code));
            }
            Output::HangUp { .. }
            | Output::Released { .. }
            | Output::Ready { .. }
            | Output::Forgotten { .. } => {}
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timer = self.cores.iter().filter_map(Core::next_heartbeat).min();
            let frame = self.wires.first_key_value().map(|((at, _), _)| *at);
            let Some(next) = timer.into_iter().chain(frame).min().filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            let now = self.now;
            while let Some(entry) = self.wires.first_entry()
                && entry.key().0 <= now
            {
                let (target, from, frame) = entry.remove();
                let event = Event::Frame { place: from, frame: BytesMut::from(&frame[..]) };
                self.act(target, |core, out| core.handle(now, event, out));
            }
            for number in 0..self.cores.len() {
                if self.cores[number].next_heartbeat().is_some_and(|at| at <= now) {
                    self.act(number, |core, out| core.heartbeat(now, out));
                }
            }
        }
        self.now = end;
    }

    fn send(&mut self, from: usize, sender: Addr, to: Addr, payload: Bytes) -> Result<Disposition, Code> {
        let request = SendRequest {
            to,
            kind: Kind::Message,
            payload,
            level: ManCon::Low,
            plane: Plane::Any,
            until: self.now + Duration::from_secs(10),
        };
        let now = self.now;
        self.act(from, |core, out| core.send(now, &sender, request, out)).map_err(|error| error.code)
    }

    fn ask(&mut self, from: usize, id: u64, question: Question) {
        let (now, asker) = (self.now, self.addr(from));
        let until = now + Duration::from_secs(10);
        self.act(from, |core, out| core.ask(now, &asker, (id, question, ManCon::Low), until, out));
    }

    fn open(&mut self, number: usize, seed: u8) -> Addr {
        let (now, key) = (self.now, key(seed));
        self.act(number, |core, out| core.open(now, &key, out)).expect("the node opens")
    }
}

#[test]
fn messages_of_every_size_arrive_whole_with_their_true_sender_over_two_hops() {
    let mut world = World::chain(3);
    let (first, last) = (world.addr(0), world.addr(2));
    let sizes = [0, 1, 500, 1_280, 1_452, 9_000, 65_535];
    for size in sizes {
        world.send(0, first, last, Bytes::from(vec![size as u8; size])).expect("taken");
    }
    world.run(Duration::from_secs(3));
    let got: Vec<_> =
        world.delivered.iter().map(|(to, from, _, payload)| (*to, *from, payload.len())).collect();
    assert_eq!(got, sizes.map(|size| (last, first, size)));
}

#[test]
fn a_thousand_messages_sent_right_after_opening_a_node_arrive_in_order() {
    let mut world = World::chain(2);
    let (sender, receiver) = (world.open(0, 77), world.addr(1));
    for number in 0..1_000u32 {
        world.send(0, sender, receiver, Bytes::copy_from_slice(&number.to_be_bytes())).expect("taken");
    }
    world.run(Duration::from_secs(9));
    let got: Vec<_> = world.delivered.iter().map(|(_, from, _, payload)| (*from, payload.to_vec())).collect();
    let wanted: Vec<_> = (0..1_000u32).map(|number| (sender, number.to_be_bytes().to_vec())).collect();
    assert_eq!(got, wanted);
}

#[test]
fn hosted_nodes_of_one_daemon_talk_at_a_level_that_no_transport_carries() {
    let mut world = World::chain(1);
    let (one, other) = (world.open(0, 50), world.open(0, 51));
    let request = SendRequest {
        to: other,
        kind: Kind::Message,
        payload: Bytes::from_static(b"inside"),
        level: ManCon::High,
        plane: Plane::Anon,
        until: world.now + Duration::from_secs(10),
    };
    let now = world.now;
    world.act(0, |core, out| core.send(now, &one, request.clone(), out)).expect("taken");
    world.run(Duration::from_secs(1));
    assert_eq!(world.delivered.len(), 1);
    let outside = SendRequest { to: Addr::EVERYBODY, ..request };
    let refused = world.act(0, |core, out| core.send(now, &one, outside, out));
    assert_eq!(refused.map_err(|error| error.code), Err(Code::ManconUnsatisfied));
}

#[test]
fn nodes_are_found_by_prefix_and_answer_pings() {
    let mut world = World::chain(3);
    let far = world.open(2, 90);
    world.run(Duration::from_secs(1));
    let prefix = Prefix::new(far.as_bytes(), 115).expect("115 bits");
    world.ask(0, 1, Question::Find { prefix, plane: Plane::Any });
    world.ask(0, 2, Question::Ping { to: far, plane: Plane::Any });
    world.ask(0, 3, Question::Find { prefix: Prefix::whole(Addr::EVERYBODY), plane: Plane::Any });
    world.run(Duration::from_secs(11));
    assert_eq!(world.answers.get(&1), Some(&Ok(Answer::Found(key(90).public()))));
    assert!(matches!(world.answers.get(&2), Some(Ok(Answer::Pong(rtt))) if *rtt == LATENCY * 4));
    assert_eq!(world.answers.get(&3), Some(&Err(Code::Unknown)));
}

#[test]
fn a_receiver_that_restarted_is_reached_again() {
    let mut world = World::chain(2);
    let (first, last) = (world.addr(0), world.addr(1));
    world.send(0, first, last, Bytes::from_static(b"before")).expect("taken");
    world.run(Duration::from_secs(1));
    let now = world.now;
    world.cores[1] = core(now, 1, 1_000_000);
    let mut sent = 0;
    for _ in 0..100 {
        sent += 1;
        world.send(0, first, last, Bytes::from(format!("after {sent}"))).expect("taken");
        world.run(Duration::from_millis(100));
    }
    world.run(Duration::from_secs(3));
    let after = world.delivered.iter().filter(|(_, _, _, payload)| payload.starts_with(b"after")).count();
    assert!(after >= 50, "{after} of {sent} arrived: more than five seconds were lost");
    assert_eq!(world.delivered.last().map(|(.., payload)| payload.clone()), Some(Bytes::from("after 100")));
}

#[test]
fn an_application_that_stops_reading_stops_its_sender_and_nobody_else() {
    let mut world = World::chain(2);
    world.reading = false;
    let (sender, receiver) = (world.addr(0), world.addr(1));
    let other = world.open(1, 60);
    let payload = Bytes::from(vec![7; 10_000]);
    let mut taken = 0;
    for _ in 0..2_000 {
        match world.send(0, sender, receiver, payload.clone()) {
            Ok(_) => taken += 1,
            Err(code) => {
                assert_eq!(code, Code::Busy);
                break;
            }
        }
        world.run(Duration::from_millis(1));
    }
    assert!(taken < 2_000, "the sender was never told to wait");
    let delivered: usize = world.delivered.iter().map(|(.., payload)| payload.len()).sum();
    assert!(delivered <= 600 * 1024, "{delivered} bytes went to an application that does not read");
    world.send(0, sender, other, Bytes::from_static(b"free")).expect("taken");
    world.run(Duration::from_secs(2));
    assert!(world.delivered.iter().any(|(to, ..)| *to == other));
}

#[test]
fn a_request_that_was_made_before_the_levels_were_raised_is_refused() {
    let mut world = World::chain(2);
    let (now, from, to) = (world.now, world.addr(0), world.addr(1));
    let request = || SendRequest {
        to,
        kind: Kind::Message,
        payload: Bytes::from_static(b"late"),
        level: ManCon::Low,
        plane: Plane::Any,
        until: now + Duration::from_secs(10),
    };
    assert!(world.act(0, |core, out| core.send(now, &from, request(), out)).is_ok());
    for levels in [Levels { floor: ManCon::High, ..LEVELS }, Levels { direct: false, ..LEVELS }] {
        world.act(0, |core, out| core.set_levels(now, levels, out));
        let refused = world.act(0, |core, out| core.send(now, &from, request(), out));
        assert_eq!(refused.map_err(|error| error.code), Err(Code::ManconUnsatisfied));
    }
}

#[test]
fn what_is_held_when_the_levels_are_raised_does_not_leave() {
    let mut world = World::chain(2);
    let (now, from, to) = (world.now, world.addr(0), world.addr(1));
    assert_eq!(world.send(0, from, to, Bytes::from_static(b"too late")), Ok(Disposition::Held));
    let raised = Levels { floor: ManCon::High, ..LEVELS };
    world.act(0, |core, out| core.set_levels(now, raised, out));
    world.run(Duration::from_secs(5));
    assert!(world.delivered.is_empty());
    world.act(0, |core, out| core.set_levels(now, LEVELS, out));
    assert!(world.send(0, from, to, Bytes::from_static(b"allowed again")).is_ok());
    world.run(Duration::from_secs(2));
    assert_eq!(world.delivered.len(), 1);
}
