//! What the targets of routing protocols have in common: a hostile neighbour, and a small world on a hostile wire.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use byway_identity::{Prefix, SeededEntropy};
use byway_network::{
    Action, Class, Constraint, Cost, FRONT_MAX, Family, Hop, Network, NetworkId, Outbox, PathId, Plane,
    Setup, Step, To,
};

use crate::input::Input;
use crate::session::key;

/// Most steps of one run.
const STEPS: usize = 160;
/// Most frames under way.
const FLIGHT: usize = 128;
/// Nodes of the world: three full ones in a ring, and a leaf of the first.
const NODES: usize = 4;

/// A routing protocol under test.
pub(crate) struct Protocol {
    pub(crate) make: fn(Instant, Setup) -> Box<dyn Network>,
    /// Frames that the world delivers before the fuzzer begins.
    pub(crate) settled_after: usize,
    /// Whether a frame that is refused does nothing but have its sender told: no work that was due is done meanwhile.
    pub(crate) is_terse: bool,
}

impl Protocol {
    fn node(&self, now: Instant, node: usize, leaf: bool) -> Box<dyn Network> {
        let setup = Setup {
            key: key(node),
            network: NetworkId::new("fuzz", None),
            digest: [node as u8; 32],
            boot: 1,
            leaf,
            entropy: Box::new(SeededEntropy::new(node as u64)),
        };
        (self.make)(now, setup)
    }
}

fn hop(node: usize, family: Family) -> Hop {
    Hop { peer: key(node).public().addr(), family }
}

/// Frames of one neighbour, at a full node and at a leaf: whatever it sends, nothing of it is said to come from this node.
pub(crate) fn frames(protocol: &Protocol, data: &[u8]) {
    let mut input = Input::new(data);
    let leaf = input.u8() & 1 == 1;
    let mut now = Instant::now();
    let mut node = protocol.node(now, 0, leaf);
    let mut out = Outbox::default();
    let neighbours = [hop(1, Family::Ip), hop(2, Family::Loopback)];
    for neighbour in &neighbours[..if leaf { 1 } else { 2 }] {
        node.peer_up(now, *neighbour, Class::new(neighbour.family, 0), Cost::from_units(50), &mut out);
    }
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let from = neighbours[usize::from(input.u8() & 1)];
        now += Duration::from_millis(u64::from(input.u8()) * 8);
        let frame = Bytes::copy_from_slice(input.bytes());
        glance(&*node, from, &frame);
        // An error leaves the router as it was, which the world below checks by going on.
        let _ = node.handle_below(now, from, frame, &mut out);
        beat(&mut *node, now, &mut out);
        for action in out.drain() {
            if let Action::Send { hop, .. } = action {
                assert!(neighbours.contains(&hop), "a frame for somebody who is no neighbour");
            }
        }
    }
}

/// Four nodes whose frames are lost, repeated, reordered, changed and made up, and whose links come and go.
pub(crate) fn world(protocol: &'static Protocol, data: &[u8]) {
    let mut world = World::new(protocol);
    let mut input = Input::new(data);
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        world.step(&mut input);
    }
}

struct World {
    protocol: &'static Protocol,
    now: Instant,
    nodes: Vec<Box<dyn Network>>,
    up: HashSet<(usize, usize)>,
    flight: Vec<(usize, usize, Bytes)>,
    backs: Vec<(usize, PathId)>,
    sent: HashSet<Bytes>,
    /// Whether the fuzzer has made frames of its own, after which payloads may be anything.
    forged: bool,
}

impl World {
    fn new(protocol: &'static Protocol) -> Self {
        let now = Instant::now();
        let nodes = (0..NODES).map(|node| protocol.node(now, node, node == 3)).collect();
        let mut world = Self {
            protocol,
            now,
            nodes,
            up: HashSet::new(),
            flight: Vec::new(),
            backs: Vec::new(),
            sent: HashSet::new(),
            forged: false,
        };
        for (a, b) in [(0, 1), (1, 2), (2, 0), (0, 3)] {
            world.link(a, b, true);
        }
        for _ in 0..protocol.settled_after {
            world.deliver(0);
        }
        world
    }

    fn family(a: usize, b: usize) -> Family {
        if a == 3 || b == 3 { Family::Loopback } else { Family::Ip }
    }

    fn link(&mut self, a: usize, b: usize, up: bool) {
        if a == b || (a.max(b) == 3 && a.min(b) != 0) || self.up.contains(&(a, b)) == up {
            return;
        }
        let family = Self::family(a, b);
        for (node, other) in [(a, b), (b, a)] {
            let mut out = Outbox::default();
            let hop = hop(other, family);
            if up {
                self.up.insert((node, other));
                let cost = Cost::from_units(50);
                self.nodes[node].peer_up(self.now, hop, Class::new(family, 0), cost, &mut out);
            } else {
                self.up.remove(&(node, other));
                self.nodes[node].peer_down(self.now, hop, &mut out);
            }
            self.take(node, &mut out);
        }
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let choice = input.u8();
        let node = usize::from(choice >> 6);
        let other = usize::from(choice >> 4 & 3);
        let mut out = Outbox::default();
        match choice & 15 {
            0..=2 => return self.deliver(0),
            3 => {
                for _ in 0..8 {
                    self.deliver(0);
                }
                return;
            }
            4 => {
                let at = input.below(self.flight.len());
                return self.deliver(at);
            }
            5 if !self.flight.is_empty() => {
                self.flight.remove(input.below(self.flight.len()));
            }
            6 if !self.flight.is_empty() => {
                let again = self.flight[input.below(self.flight.len())].clone();
                self.put(again);
            }
            7 if !self.flight.is_empty() => {
                let at = input.below(self.flight.len());
                let mut bytes = BytesMut::from(&self.flight[at].2[..]);
                if !bytes.is_empty() {
                    let place = input.below(bytes.len());
                    bytes[place] = input.u8();
                }
                self.flight[at].2 = bytes.freeze();
                self.forged = true;
            }
            8 => {
                self.put((node, other, Bytes::copy_from_slice(input.bytes())));
                self.forged = true;
            }
            9 => return self.link(node, other, input.u8() & 1 == 0),
            10 => {
                let payload = Bytes::copy_from_slice(input.bytes());
                self.sent.insert(payload.clone());
                let by = Constraint::in_plane([Plane::Any, Plane::Anon][usize::from(input.u8() & 1)]);
                let to = To::Node(key(other).public().addr());
                // Taken or refused, both are fine.
                let _ = self.nodes[node].handle_above(self.now, to, payload, &by, &mut out);
            }
            11 => {
                let Some((node, path)) = self.backs.get(input.below(self.backs.len())).copied() else {
                    return;
                };
                let payload = Bytes::copy_from_slice(input.bytes());
                self.sent.insert(payload.clone());
                let by = Constraint::in_plane(Plane::Any);
                let _ = self.nodes[node].handle_above(self.now, To::Back(path), payload, &by, &mut out);
                return self.take(node, &mut out);
            }
            12 => {
                let bits = u16::from(input.u8()) % 257;
                let Some(prefix) = Prefix::new(key(other).public().addr().as_bytes(), bits) else { return };
                self.nodes[node].find(self.now, prefix, &Constraint::in_plane(Plane::Any), &mut out);
            }
            13 => {
                if input.u8() & 1 == 0 {
                    self.nodes[node].set_digest(self.now, [input.u8(); 32], &mut out);
                } else {
                    let cost = Cost::from_units(u32::from(input.u16()));
                    let family = Self::family(node, other);
                    if self.up.contains(&(node, other)) {
                        let hop = hop(other, family);
                        self.nodes[node].peer_cost(self.now, hop, Class::new(family, 0), cost, &mut out);
                    }
                }
            }
            14 => return self.pass(Duration::from_millis(u64::from(input.u16()) * 2)),
            _ => return self.pass(Duration::from_millis(u64::from(input.u8()))),
        }
        self.take(node, &mut out);
    }

    fn put(&mut self, frame: (usize, usize, Bytes)) {
        if self.flight.len() < FLIGHT {
            self.flight.push(frame);
        }
    }

    fn deliver(&mut self, at: usize) {
        if at >= self.flight.len() {
            return;
        }
        let (from, to, frame) = self.flight.remove(at);
        if !self.up.contains(&(to, from)) {
            return;
        }
        let (mut out, mut checked) = (Outbox::default(), Outbox::default());
        let from = hop(from, Self::family(from, to));
        glance(&*self.nodes[to], from, &frame);
        let result = self.nodes[to].handle_below(self.now, from, frame, &mut out);
        for action in out.drain() {
            // A frame that is refused has no effect but that its sender may be told.
            let told = matches!(action, Action::Send { hop, .. } if hop == from || !self.protocol.is_terse);
            assert!(result.is_ok() || told, "{result:?}, and yet {action:?}");
            checked.push(action);
        }
        self.take(to, &mut checked);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for node in 0..NODES {
            let mut out = Outbox::default();
            beat(&mut *self.nodes[node], self.now, &mut out);
            self.take(node, &mut out);
        }
    }

    fn take(&mut self, node: usize, out: &mut Outbox) {
        for action in out.drain() {
            match action {
                Action::Send { hop, frame } => {
                    let to = (0..NODES).find(|other| key(*other).public().addr() == hop.peer);
                    let to = to.expect("a frame for a node that is not there");
                    assert!(self.up.contains(&(node, to)), "a frame over a link that is down");
                    assert_eq!(hop.family, Self::family(node, to));
                    self.put((node, to, frame));
                }
                Action::Deliver { payload, back, .. } => {
                    assert!(self.forged || self.sent.contains(&payload), "a payload that nobody sent");
                    self.backs.extend(back.map(|back| (node, back)));
                }
                Action::Found(found) => {
                    assert!(found.asked.matches(&found.key.addr()), "found, but not what was asked for");
                }
                Action::Unroutable { .. } => {}
            }
        }
        assert!(self.nodes[node].routes(1_000).len() <= 4 * NODES, "ways to nodes that are not there");
    }
}

/// What threads would do with the frame: they change no more of it than they may.
fn glance(node: &dyn Network, from: Hop, frame: &Bytes) {
    let Some(picture) = node.picture() else { return };
    let mut changed = BytesMut::from(&frame[..]);
    match picture.carry(from, &mut changed) {
        Step::Forward { head, .. } => {
            let bound = frame.len().min(FRONT_MAX);
            assert!(head <= frame.len() && changed[bound..] == frame[bound..], "changed behind the front");
        }
        Step::Deliver { at, .. } => assert!(at <= frame.len() && changed == frame),
        Step::Core => assert!(changed == frame, "changed, and yet handed over"),
    }
}

/// Does what is due, and sees to it that this ends.
fn beat(node: &mut dyn Network, now: Instant, out: &mut Outbox) {
    for _ in 0..64 {
        if node.next_heartbeat().is_none_or(|due| due > now) {
            return;
        }
        node.heartbeat(now, out);
    }
    panic!("what is due stays due");
}

/// Frames that real neighbours send, as inputs of the target for frames.
pub(crate) fn recorded(protocol: &'static Protocol) -> Vec<Vec<u8>> {
    let mut world = World::new(protocol);
    let mut frames = Vec::new();
    for step in 0..64 {
        if step % 8 == 0 {
            world.pass(Duration::from_secs(2));
            let mut out = Outbox::default();
            let to = To::Node(key(0).public().addr());
            let by = Constraint::in_plane(Plane::Any);
            world.sent.insert(Bytes::from_static(b"payload"));
            // No way yet, in the first round.
            let _ = world.nodes[1].handle_above(world.now, to, Bytes::from_static(b"payload"), &by, &mut out);
            if let Some(prefix) = Prefix::new(key(2).public().addr().as_bytes(), 20) {
                world.nodes[1].find(world.now, prefix, &by, &mut out);
            }
            world.take(1, &mut out);
        }
        frames.extend(world.flight.iter().filter(|(_, to, _)| *to == 0).map(|(_, _, frame)| frame.clone()));
        world.deliver(0);
    }
    let mut kinds: Vec<Vec<u8>> = Vec::new();
    for frame in frames {
        for leaf in [0, 1] {
            let seed = [&[leaf, 0, 1][..], &(frame.len() as u16).to_be_bytes(), &frame].concat();
            // One frame of each kind and length says it all.
            if !kinds.iter().any(|known| known.len() == seed.len() && known[..6] == seed[..6]) {
                kinds.push(seed);
            }
        }
    }
    let play: Vec<u8> =
        kinds.iter().filter(|seed| seed[0] == 0).flat_map(|seed| seed[1..].to_vec()).collect();
    kinds.push([&[0][..], &play].concat());
    kinds
}
