//! INET256's own suite, by the names of its tests, for whole daemons in virtual time. Unlike there, the source is checked.
//!
//! Its tests CentralDiscovery and LocalDiscovery have no counterpart: discovery is not built yet.

use std::time::Duration;

use bytes::Bytes;
use byway_api::Code;
use byway_identity::{Addr, Prefix};
use byway_network::{Class, Protocol};
use byway_node::Answer;
use byway_sim::{Daemons, Topology, Wire};

const WIRE: Wire = Wire::clean(Class::UDP);
/// How long one send and receive may take there.
const PATIENCE: Duration = Duration::from_secs(2);

/// A payload that names sender and receiver.
fn letter(from: Addr, to: Addr) -> Bytes {
    format!("from {from} to {to}").into()
}

/// Every ordered pair sends and receives, once, whole, from whom it says.
fn send_recv_all(world: &mut Daemons, nodes: &[Addr]) {
    let seed = world.seed();
    world.clear_received();
    for from in nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            world.send(*from, *to, letter(*from, *to)).expect("it is taken");
        }
    }
    let expected = nodes.len() - 1;
    let done = |world: &mut Daemons| nodes.iter().all(|node| world.received(*node).len() >= expected);
    let took = world.run_until(PATIENCE, done);
    for to in nodes {
        let received = world.received(*to);
        for from in nodes.iter().filter(|from| *from != to) {
            let count = received.iter().filter(|got| got.payload == letter(*from, *to)).count();
            assert_eq!(count, 1, "seed {seed}: {count} of one payload from {from} to {to} after {took:?}");
        }
        for got in received {
            assert_eq!(got.payload, letter(got.from, *to), "seed {seed}: a wrong source");
        }
        assert_eq!(received.len(), expected, "seed {seed}: {to} received what nobody sent");
    }
}

/// Every ordered pair finds by 7 bits (some node), by 115 and by all (just that node, and its key).
fn find_addr(world: &mut Daemons, nodes: &[Addr]) {
    for from in nodes {
        for to in nodes.iter().filter(|to| *to != from) {
            for bits in [7, 115, 256] {
                let prefix = Prefix::new(to.as_bytes(), bits).expect("so many bits are there");
                let answer = world.find(*from, prefix);
                let Some(Ok(Answer::Found(key))) = answer else {
                    panic!("seed {}: {bits} bits: {answer:?}", world.seed())
                };
                assert!(prefix.matches(&key.addr()));
                if bits > 7 {
                    assert_eq!(key.addr(), *to);
                }
            }
        }
    }
}

fn mains(world: &Daemons, count: usize) -> Vec<Addr> {
    (0..count).map(|daemon| world.main(daemon)).collect()
}

fn topology(protocol: Protocol, seed: u64, topology: &Topology) -> (Daemons, Vec<Addr>) {
    let mut world = Daemons::of(protocol, seed, topology, WIRE);
    world.run_for(PATIENCE);
    let nodes = mains(&world, topology.nodes);
    (world, nodes)
}

fn chain_2_send_recv_all(protocol: Protocol) {
    let (mut world, nodes) = topology(protocol, 1, &Topology::chain(2));
    send_recv_all(&mut world, &nodes);
}

fn chain_5_send_recv_all(protocol: Protocol) {
    let (mut world, nodes) = topology(protocol, 2, &Topology::chain(5));
    send_recv_all(&mut world, &nodes);
}

fn ring_10_send_recv_all(protocol: Protocol) {
    let (mut world, nodes) = topology(protocol, 3, &Topology::ring(10));
    send_recv_all(&mut world, &nodes);
}

fn chain_2_find_addr(protocol: Protocol) {
    let (mut world, nodes) = topology(protocol, 4, &Topology::chain(2));
    find_addr(&mut world, &nodes);
}

fn chain_5_find_addr(protocol: Protocol) {
    let (mut world, nodes) = topology(protocol, 5, &Topology::chain(5));
    find_addr(&mut world, &nodes);
}

fn ring_10_find_addr(protocol: Protocol) {
    let (mut world, nodes) = topology(protocol, 6, &Topology::ring(10));
    find_addr(&mut world, &nodes);
}

fn send(protocol: Protocol) {
    let mut world = Daemons::new(protocol, 7, 1);
    let nodes: Vec<Addr> = (0..5).map(|_| world.open(0)).collect();
    send_recv_all(&mut world, &nodes);
}

fn send_multiple(protocol: Protocol) {
    let mut world = Daemons::of(protocol, 8, &Topology::chain(2), WIRE);
    world.run_for(PATIENCE);
    let nodes: Vec<Addr> = (0..10).map(|number| world.open(number % 2)).collect();
    send_recv_all(&mut world, &nodes);
}

fn test_loopback(protocol: Protocol) {
    let mut world = Daemons::new(protocol, 9, 1);
    for node in [world.open(0), world.main(0)] {
        world.send(node, node, letter(node, node)).expect("it is taken");
        world.run_until(PATIENCE, |world| !world.received(node).is_empty());
        let [got] = world.received(node) else { panic!("{:?}", world.received(node)) };
        assert_eq!((got.from, &got.payload), (node, &letter(node, node)));
    }
}

fn find_addr_on_one_service(protocol: Protocol) {
    let mut world = Daemons::new(protocol, 10, 1);
    let nodes: Vec<Addr> = (0..2).map(|_| world.open(0)).collect();
    find_addr(&mut world, &nodes);
}

fn find_addr_by_seven_bits_gives_exactly_the_other_node(protocol: Protocol) {
    let mut world = Daemons::new(protocol, 11, 1);
    let (one, other) = (world.open(0), world.open(0));
    let unlike = |a: &Addr| a.as_bytes()[0] >> 1;
    assert!(
        unlike(&one) != unlike(&other) && unlike(&world.main(0)) != unlike(&other),
        "another seed is needed"
    );
    let answer = world.find(one, Prefix::new(other.as_bytes(), 7).expect("7 bits are there"));
    assert!(matches!(answer, Some(Ok(Answer::Found(key))) if key.addr() == other), "{answer:?}");
}

fn lookup_public_key(protocol: Protocol) {
    let mut world = Daemons::of(protocol, 12, &Topology::chain(2), WIRE);
    world.run_for(PATIENCE);
    let keys: Vec<_> = (0..2).map(|_| world.fresh_key()).collect();
    let nodes: Vec<Addr> =
        keys.iter().enumerate().map(|(daemon, key)| world.open_key(daemon, key).expect("it opens")).collect();
    for (from, to) in [(0, 1), (1, 0), (0, 0)] {
        let answer = world.find(nodes[from], Prefix::whole(nodes[to]));
        let Some(Ok(Answer::Found(key))) = answer else { panic!("{answer:?}") };
        assert_eq!(key.to_bytes(), keys[to].public().to_bytes());
    }
}

fn re_open(protocol: Protocol) {
    let mut world = Daemons::of(protocol, 13, &Topology::chain(2), WIRE);
    world.run_for(PATIENCE);
    let (key, other) = (world.fresh_key(), world.main(1));
    let mut node = world.open_key(0, &key).expect("it opens");
    let twice = world.open_key(0, &key).map_err(|error| error.code);
    assert_eq!(twice, Err(Code::Conflict), "a node that is open is nobody else's");
    for round in 0..3 {
        send_recv_all(&mut world, &[node, other]);
        // Both ends dialled at once; the second session must be up, or nobody tells the other end that it is over.
        world.run_for(Duration::from_millis(100));
        world.close(node);
        let closed = world.send(node, other, Bytes::new()).map_err(|error| error.code);
        assert_eq!(closed, Err(Code::Closed), "round {round}");
        world.run_for(Duration::from_millis(round * 700));
        node = world.open_key(0, &key).expect("it opens again");
        // What the other node sends before it hears that the session ended is lost with it.
        world.run_for(Duration::from_millis(20));
    }
    send_recv_all(&mut world, &[node, other]);
}

fn server_loopback(protocol: Protocol) {
    let mut world = Daemons::new(protocol, 14, 1);
    let (node, main) = (world.open(0), world.main(0));
    send_recv_all(&mut world, &[node, main]);
}

fn server_one_hop(protocol: Protocol) {
    let mut world = Daemons::new(protocol, 15, 1);
    let mut nodes: Vec<Addr> = (0..5).map(|_| world.open(0)).collect();
    nodes.push(world.main(0));
    send_recv_all(&mut world, &nodes);
}

fn server_create_drop(protocol: Protocol) {
    let mut world = Daemons::of(protocol, 16, &Topology::chain(2), WIRE);
    world.run_for(PATIENCE);
    let far = world.main(1);
    for _ in 0..2 {
        let nodes: Vec<Addr> = (0..100).map(|_| world.open(0)).collect();
        assert_eq!(world.core(0).nodes().len(), 101);
        for node in &nodes {
            world.send(*node, far, letter(*node, far)).expect("it is taken");
        }
        world.run_until(PATIENCE, |world| world.received(far).len() >= nodes.len());
        assert_eq!(world.received(far).len(), nodes.len());
        for node in &nodes {
            world.close(*node);
        }
        assert_eq!(world.core(0).nodes().len(), 1);
        world.run_for(PATIENCE);
        let knows = |world: &Daemons, daemon: usize| {
            world.core(daemon).routes(usize::MAX).iter().any(|route| nodes.contains(&route.to))
        };
        assert!(!knows(&world, 0), "ways to nodes that are gone");
        // Others may remember for some minutes where a node was that nobody asks for any more.
        let half_minutes = (0..10).take_while(|_| {
            world.run_for(Duration::from_secs(30));
            knows(&world, 1)
        });
        assert!(half_minutes.count() < 10, "ways to nodes that have long gone");
        world.clear_received();
    }
}

fn test_2_node(protocol: Protocol) {
    let mut world = Daemons::of(protocol, 17, &Topology::chain(2), WIRE);
    world.run_for(PATIENCE);
    let nodes = [world.open(0), world.open(1), world.main(0), world.main(1)];
    send_recv_all(&mut world, &nodes);
    find_addr(&mut world, &nodes);
}

byway_sim::with_each_protocol! {
    chain_2_send_recv_all
    chain_5_send_recv_all
    ring_10_send_recv_all
    chain_2_find_addr
    chain_5_find_addr
    ring_10_find_addr
    send
    send_multiple
    test_loopback
    find_addr_on_one_service
    find_addr_by_seven_bits_gives_exactly_the_other_node
    lookup_public_key
    re_open
    server_loopback
    server_one_hop
    server_create_drop
    test_2_node
}
