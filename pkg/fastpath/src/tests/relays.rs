//! A frame's way over a relay, and the planes that it may use.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use byway_identity::{Addr, SeededEntropy};
use byway_network::{Family, Hop, Picture, Plane, Step};
use byway_session::{Ciphers, Use, frame};

use crate::testing::{Half, Memory, OpenGate, PORT, Super, World, place};
use crate::{Ecn, Inward, Link, Offloads, Outward, Owner, Snapshot, vnet};

const ALL: Offloads = Offloads { checksum: true, tso: true, uso: true };
const TTL: u8 = 9;

/// Frames of a small protocol: plane, ttl, target.
#[derive(Debug)]
struct Map {
    own: Addr,
    next: HashMap<Addr, Hop>,
}

const HEADER: usize = 34;

impl Picture for Map {
    fn carry(&self, from: Hop, frame: &mut [u8]) -> Step {
        let Some(front) = frame.first_chunk::<HEADER>() else { return Step::Core };
        let Some(plane) = Plane::from_byte(front[0]).filter(|plane| plane.has(from.family)) else {
            return Step::Core;
        };
        let target = Addr::from_bytes(front[2..].first_chunk().copied().unwrap_or_default());
        if target == self.own {
            return Step::Deliver { plane, at: HEADER };
        }
        let next = self.next.get(&target).filter(|next| plane.has(next.family));
        match next {
            Some(next) if frame[1] > 1 => {
                frame[1] -= 1;
                Step::Forward { hop: *next, head: HEADER }
            }
            _ => Step::Core,
        }
    }
}

fn header(plane: Plane, target: &Addr) -> Vec<u8> {
    [&[plane.byte(), TTL][..], target.as_bytes()].concat()
}

/// A – B – C, with a session end to end between A and C.
struct Chain {
    world: World,
    tables: [Snapshot; 3],
    gate: OpenGate,
    ends: [Half; 2],
    /// A's link to B, and C's.
    links: [std::sync::Arc<Link>; 2],
}

impl Chain {
    fn new() -> Self {
        let mut world = World::new(3, Ciphers::AES);
        let [(ab_half, ab), (ba_half, ba)] = world.link(0, 1);
        let [(bc_half, bc), (cb_half, cb)] = world.link(1, 2);
        let ends = world.session(0, 2, Use::EndToEnd);
        let mut tables = [0, 1, 2].map(|node| world.snapshot(node));
        world.know_link(&mut tables[0], &ab_half, &ab);
        world.know_link(&mut tables[1], &ba_half, &ba);
        world.know_link(&mut tables[1], &bc_half, &bc);
        world.know_link(&mut tables[2], &cb_half, &cb);
        let [to_c, to_a] = [2, 0].map(|node| header(Plane::Any, &world.nodes[node]).into());
        world.know_way(&mut tables[0], 0, 2, &ends[0], &ab, Some(to_c));
        world.know_way(&mut tables[2], 2, 0, &ends[1], &cb, Some(to_a));
        let next = HashMap::from([(world.nodes[0], ba.hop), (world.nodes[2], bc.hop)]);
        for (node, table) in tables.iter_mut().enumerate() {
            let next = if node == 1 { next.clone() } else { HashMap::new() };
            table.picture = Some(std::sync::Arc::new(Map { own: world.nodes[node], next }));
        }
        let gate = OpenGate::new(world.nodes[2], &world.nodes);
        Self { world, tables, gate, ends, links: [ab, cb] }
    }

    fn send(&self, shapes: &[Super]) -> Memory {
        let gate = OpenGate::new(self.world.nodes[0], &self.world.nodes);
        let mut out = Outward::new(&mut SeededEntropy::new(1));
        let mut sink = Memory::default();
        for shape in shapes {
            let mut bytes = shape.read(&self.world.nodes[0], &self.world.nodes[2]);
            out.read(self.world.now, &mut bytes, &self.tables[0], &gate, &mut sink);
        }
        out.flush(self.world.now, &mut sink);
        sink
    }

    fn at(&self, node: usize, from: usize, ecn: Ecn, train: &[u8], stride: usize) -> (Memory, Inward) {
        let (mut sink, mut engine) = (Memory::default(), Inward::new(ALL));
        let mut bytes = train.to_vec();
        let gate: Option<&dyn crate::Gate> = if node == 2 { Some(&self.gate) } else { None };
        let (now, tables) = (self.world.now, &self.tables[node]);
        engine.train(now, PORT, place(from), ecn, &mut bytes, stride, tables, gate, &mut sink);
        (sink, engine)
    }
}

#[test]
fn a_super_packet_crosses_a_relay_as_one_train_each_time() {
    let chain = Chain::new();
    let shape = Super { size: 1282, payload: 30 * 1282 + 100, ..Super::default() };
    let sent = chain.send(&[shape]);
    assert_eq!(sent.trains.len(), 1);
    let (to, _, bytes, stride) = &sent.trains[0];
    assert_eq!(*to, place(1));

    let (relayed, _) = chain.at(1, 0, Ecn::Ect0, bytes, *stride);
    assert_eq!(relayed.trains.len(), 1);
    assert!(relayed.unsealed.is_empty() && relayed.datagrams.is_empty() && relayed.injected.is_empty());
    let (to, ecn, onwards, onward_stride) = &relayed.trains[0];
    assert_eq!((*to, *ecn, onwards.len(), onward_stride), (place(2), Ecn::Ect0, bytes.len(), stride));
    assert_ne!(onwards, bytes);

    let (received, _) = chain.at(2, 1, Ecn::NotEct, onwards, *onward_stride);
    let read = shape.read(&chain.world.nodes[0], &chain.world.nodes[2]);
    assert_eq!(received.injected.len(), 1);
    assert!(received.injected[0].1 == read[vnet::LENGTH..], "the packet is another one");
    assert_eq!(received.injected[0].0.emit(), read[..vnet::LENGTH]);
}

#[test]
fn the_room_of_a_relayed_way_is_used_to_the_last_byte() {
    let chain = Chain::new();
    let room = usize::from(1452 - 64 - HEADER as u16);
    for (payload, fits) in [(room - 48, true), (room - 47, false)] {
        let sent = chain.send(&[Super { is_tcp: false, payload, size: u16::MAX, ..Super::default() }]);
        assert_eq!(sent.trains.len(), usize::from(fits));
        assert_eq!(sent.portal.len(), usize::from(!fits));
        if fits {
            assert_eq!(sent.trains[0].2.len(), 1452);
        }
    }
}

#[test]
fn what_a_router_must_see_comes_to_it_as_it_was_sent() {
    let mut chain = Chain::new();
    let sent = chain.send(&[Super { payload: 3000, size: 1200, ..Super::default() }]);
    let (_, _, bytes, stride) = &sent.trains[0];
    // No link to the next hop: the header is as it came, its ttl too.
    let hop = Hop { peer: chain.world.nodes[2], family: Family::Ip };
    chain.tables[1].links.remove(&hop);
    let (relayed, _) = chain.at(1, 0, Ecn::NotEct, bytes, *stride);
    assert_eq!((relayed.trains.len(), relayed.unsealed.len()), (0, 3));
    let expected = header(Plane::Any, &chain.world.nodes[2]);
    for (_, kind, flags, payload) in &relayed.unsealed {
        assert_eq!((*kind, *flags, &payload[..HEADER]), (frame::MESSAGE, 0, &expected[..]));
    }
    // Without a picture the core does all of it; frames were accepted once already.
    let (again, engine) = chain.at(1, 0, Ecn::NotEct, bytes, *stride);
    assert!(again.unsealed.is_empty());
    assert_eq!(engine.counters().replayed, 3);
    chain.tables[1].picture = None;
    let sent = chain.send(&[Super { payload: 3000, size: 1200, ..Super::default() }]);
    let (relayed, _) = chain.at(1, 0, Ecn::NotEct, &sent.trains[0].2, sent.trains[0].3);
    assert_eq!((relayed.trains.len(), relayed.unsealed.len()), (0, 3));
}

#[test]
fn a_frame_too_long_for_the_next_link_goes_to_the_core_unchanged() {
    let mut chain = Chain::new();
    let hop = Hop { peer: chain.world.nodes[2], family: Family::Ip };
    let link = chain.tables[1].links[&hop].clone();
    let short =
        Link { frame_max: 1400, outbound: link.outbound.clone(), inbound: link.inbound.clone(), ..*link };
    chain.tables[1].add_link(short.into());
    let sent = chain.send(&[Super { is_tcp: false, payload: 1300, ..Super::default() }]);
    let (relayed, _) = chain.at(1, 0, Ecn::NotEct, &sent.trains[0].2, sent.trains[0].3);
    assert_eq!((relayed.trains.len(), relayed.unsealed.len()), (0, 1));
    assert_eq!(relayed.unsealed[0].3[1], TTL);
}

#[test]
fn a_link_that_cannot_seal_leaves_its_frames_to_the_core() {
    let chain = Chain::new();
    let sent = chain.send(&[Super { payload: 3000, size: 1200, ..Super::default() }]);
    let (_, _, bytes, stride) = &sent.trains[0];
    let (mut sink, mut engine) = (Memory::default(), Inward::new(ALL));
    let later = chain.world.now + std::time::Duration::from_secs(3600);
    let mut bytes = bytes.clone();
    engine.train(later, PORT, place(0), Ecn::NotEct, &mut bytes, *stride, &chain.tables[1], None, &mut sink);
    assert_eq!((sink.trains.len(), sink.unsealed.len()), (0, 3));
    assert!(sink.unsealed.iter().all(|(_, _, _, payload)| payload[1] == TTL));
}

#[test]
fn a_link_frame_from_another_place_stays_closed_and_goes_to_the_core() {
    let chain = Chain::new();
    let sent = chain.send(&[Super { payload: 3000, size: 1200, ..Super::default() }]);
    let (_, _, bytes, stride) = &sent.trains[0];
    let (strange, _) = chain.at(1, 2, Ecn::NotEct, bytes, *stride);
    let frames: Vec<_> = bytes.chunks(*stride).map(<[u8]>::to_vec).collect();
    assert_eq!(strange.datagrams, frames);
    // Nothing of it was opened: from its own place it still passes.
    let (relayed, _) = chain.at(1, 0, Ecn::NotEct, bytes, *stride);
    assert_eq!(relayed.trains.len(), 1);
    // Nor does another port do.
    let mut sink = Memory::default();
    let mut bytes = bytes.clone();
    let (now, tables) = (chain.world.now, &chain.tables[1]);
    Inward::new(ALL).train(
        now,
        PORT + 1,
        place(0),
        Ecn::NotEct,
        &mut bytes,
        *stride,
        tables,
        None,
        &mut sink,
    );
    assert_eq!(sink.datagrams.len(), 3);
}

/// One frame end to end from A, with `kind`.
fn sealed(chain: &Chain, kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; payload.len() + frame::OVERHEAD];
    bytes[frame::PAYLOAD..][..payload.len()].copy_from_slice(payload);
    let mut sealer = chain.ends[0].outbound.take(chain.world.now, 1).expect("counters are left");
    sealer.seal(kind, 0, payload.len(), &mut bytes).expect("it fits");
    bytes
}

/// A network's frame from B to C around `inner`.
fn wrapped(chain: &Chain, plane: Plane, target: &Addr, inner: &[u8]) -> Vec<u8> {
    let payload = [&header(plane, target)[..], inner].concat();
    let mut bytes = vec![0; payload.len() + frame::OVERHEAD];
    bytes[frame::PAYLOAD..][..payload.len()].copy_from_slice(&payload);
    let hop = Hop { peer: chain.world.nodes[2], family: Family::Ip };
    let link = &chain.tables[1].links[&hop];
    let mut sealer = link.outbound.take(chain.world.now, 1).expect("counters are left");
    sealer.seal(frame::MESSAGE, 0, payload.len(), &mut bytes).expect("it fits");
    bytes
}

fn owner(chain: &mut Chain) -> &mut Owner {
    let index = chain.ends[1].index;
    &mut chain.tables[2].sessions.get_mut(&index).expect("C has the session").owner
}

#[test]
fn messages_and_control_end_to_end_are_opened_for_the_core() {
    let chain = Chain::new();
    let target = chain.world.nodes[2];
    for kind in [frame::MESSAGE, frame::CONTROL, frame::CONFIRM, 77] {
        let inner = sealed(&chain, kind, b"hello");
        let (got, _) = chain.at(2, 1, Ecn::NotEct, &wrapped(&chain, Plane::Any, &target, &inner), 9999);
        assert_eq!(got.unsealed, [(chain.ends[1].index, kind, 0, b"hello".to_vec())]);
        // The same bare.
        let (got, _) = chain.at(2, 1, Ecn::NotEct, &sealed(&chain, kind, b"bare"), 9999);
        assert_eq!(got.unsealed, [(chain.ends[1].index, kind, 0, b"bare".to_vec())]);
    }
    // Handshakes and sessions that are not known stay inside the link's frame.
    for inner in [&[1, 0, 0, 0, 7, 7][..], &[9; 40], &[1]] {
        let (got, _) = chain.at(2, 1, Ecn::NotEct, &wrapped(&chain, Plane::Any, &target, inner), 9999);
        assert_eq!(got.unsealed.len(), 1);
        assert_eq!(got.unsealed[0].3, [&header(Plane::Any, &target)[..], inner].concat());
    }
}

#[test]
fn packets_go_to_the_core_where_there_is_no_portal() {
    let chain = Chain::new();
    let inner = sealed(&chain, frame::PACKET, b"whatever");
    let (mut sink, mut engine) = (Memory::default(), Inward::new(ALL));
    let mut bytes = wrapped(&chain, Plane::Any, &chain.world.nodes[2], &inner);
    let (now, tables) = (chain.world.now, &chain.tables[2]);
    engine.train(now, PORT, place(1), Ecn::NotEct, &mut bytes, 9999, tables, None, &mut sink);
    assert_eq!(sink.unsealed, [(chain.ends[1].index, frame::PACKET, 0, b"whatever".to_vec())]);
}

#[test]
fn a_session_counts_in_its_plane_alone() {
    let mut chain = Chain::new();
    let target = chain.world.nodes[2];
    let Owner::Node { plane, .. } = owner(&mut chain) else { panic!("a node's session") };
    *plane = Plane::Anon;
    // Bare, over a clear link: neither opened nor handed on.
    let bare = sealed(&chain, frame::MESSAGE, b"secret");
    let (got, engine) = chain.at(2, 1, Ecn::NotEct, &bare, 9999);
    assert_eq!((got.unsealed.len(), got.datagrams.len(), engine.counters().plane), (0, 0, 1));
    // In a frame of another plane it stays closed: the core drops it.
    let inner = sealed(&chain, frame::MESSAGE, b"secret");
    let (got, _) = chain.at(2, 1, Ecn::NotEct, &wrapped(&chain, Plane::Any, &target, &inner), 9999);
    assert_eq!(got.unsealed.len(), 1);
    assert_eq!(got.unsealed[0].3[HEADER..], inner);
    assert_eq!(chain.ends[1].inbound.received().frames, 0);
    // From a stranger's place, which is taken for clear IP, a session of the plane of all opens.
    let Owner::Node { plane, .. } = owner(&mut chain) else { panic!("a node's session") };
    *plane = Plane::Any;
    let (got, _) = chain.at(2, 77, Ecn::NotEct, &sealed(&chain, frame::MESSAGE, b"roamed"), 9999);
    assert_eq!(got.unsealed.len(), 1);
}

#[test]
fn a_leaf_of_the_same_daemon_gets_nothing_that_was_sent_to_its_main_node() {
    let mut chain = Chain::new();
    let target = chain.world.nodes[2];
    let leaf = Addr::from_bytes([9; 32]);
    let Owner::Node { local, .. } = owner(&mut chain) else { panic!("a node's session") };
    *local = leaf;
    let (got, engine) = chain.at(2, 1, Ecn::NotEct, &sealed(&chain, frame::MESSAGE, b"a test"), 9999);
    assert_eq!((got.unsealed.len(), got.datagrams.len(), engine.counters().plane), (0, 0, 1));
    let inner = sealed(&chain, frame::MESSAGE, b"a test");
    let (got, _) = chain.at(2, 1, Ecn::NotEct, &wrapped(&chain, Plane::Any, &target, &inner), 9999);
    assert_eq!(got.unsealed[0].3[HEADER..], inner, "still closed");
}

#[test]
fn only_the_peer_itself_keeps_its_link_alive_with_bare_frames() {
    let chain = Chain::new();
    // A's frame end to end, bare, from B's place.
    chain.at(2, 1, Ecn::NotEct, &sealed(&chain, frame::MESSAGE, b"x"), 9999);
    assert_eq!(chain.links[1].inbound.received().frames, 0);
    assert_eq!(chain.ends[1].inbound.received().frames, 1);
}

/// A picture that counts how often it is asked.
#[derive(Debug)]
struct Counting {
    map: Map,
    asked: std::sync::Arc<AtomicUsize>,
}

impl Picture for Counting {
    fn carry(&self, from: Hop, frame: &mut [u8]) -> Step {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.map.carry(from, frame)
    }
}

#[test]
fn frames_that_begin_alike_are_decided_on_once_and_others_each_for_itself() {
    let mut chain = Chain::new();
    let asked = std::sync::Arc::<AtomicUsize>::default();
    let [a, b, c] = [0, 1, 2].map(|node| chain.world.nodes[node]);
    let bc = Hop { peer: c, family: Family::Ip };
    let maps =
        [(1, Map { own: b, next: HashMap::from([(c, bc)]) }), (2, Map { own: c, next: HashMap::new() })];
    for (node, map) in maps {
        chain.tables[node].picture = Some(std::sync::Arc::new(Counting { map, asked: asked.clone() }));
    }
    let sent = chain.send(&[Super { size: 1282, payload: 30 * 1282, ..Super::default() }]);
    let (relayed, _) = chain.at(1, 0, Ecn::NotEct, &sent.trains[0].2, sent.trains[0].3);
    assert_eq!((relayed.trains.len(), asked.swap(0, Ordering::Relaxed)), (1, 1));

    // For C, for A (to whom C knows no way) and for C in another plane, mixed.
    let heads = [
        (Plane::Any, c),
        (Plane::Any, c),
        (Plane::Any, a),
        (Plane::Any, c),
        (Plane::Anon, c),
        (Plane::Any, c),
    ];
    let train: Vec<u8> = heads
        .iter()
        .enumerate()
        .flat_map(|(number, (plane, target))| {
            wrapped(&chain, *plane, target, &sealed(&chain, frame::MESSAGE, &[number as u8]))
        })
        .collect();
    let (got, _) = chain.at(2, 1, Ecn::NotEct, &train, train.len() / heads.len());
    let mut opened: Vec<u8> = Vec::new();
    let mut closed = 0;
    for (_, _, _, payload) in &got.unsealed {
        match payload[..] {
            [number] => opened.push(number),
            _ => closed += 1,
        }
    }
    assert_eq!((&opened[..], closed), (&[0, 1, 3, 5][..], 2));
    // The fourth begins as those before the third, whose answer is no decision to keep.
    assert_eq!(asked.load(Ordering::Relaxed), 3);
}
