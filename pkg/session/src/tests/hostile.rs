//! Flipped bits, recordings, reflections, probes: each ends in a drop.

use std::time::Duration;

use bytes::Bytes;

use super::world::{Datagram, World, pattern};
use crate::{Connect, Use};

const BOTH: [Use; 2] = [Use::Link, Use::EndToEnd];

/// The datagrams of a whole handshake and one frame each way.
fn recorded(usage: Use) -> (World, Vec<Datagram>) {
    let mut world = World::pair(usage, 1);
    let (a, b) = world.link_up();
    world.send(0, a, &pattern(100, 1));
    world.send(1, b, &pattern(100, 2));
    world.run_for(Duration::from_secs(1));
    let tape = world.tape.clone();
    (world, tape)
}

/// Runs the handshake anew, and in the datagram number `at` flips `bit`: the changed one comes first, the genuine one after.
fn with_flip(usage: Use, at: usize, bit: usize) -> World {
    let mut world = World::pair(usage, 1);
    let mut number = 0;
    world.fate = Box::new(move |_, _| {
        number += 1;
        // The genuine one is lost: what arrives is injected below.
        if number - 1 == at { vec![] } else { vec![Duration::from_millis(10)] }
    });
    world.connect(0, 1);
    world.run_until(Duration::from_secs(5), |world| world.tape.len() > at);
    let Datagram { from, to, bytes } = world.tape[at].clone();
    let mut flipped = bytes.to_vec();
    flipped[bit / 8 % bytes.len()] ^= 1 << (bit % 8);
    world.inject(to as usize, from, &flipped);
    world.inject(to as usize, from, &bytes);
    world.run_for(Duration::from_secs(2));
    world
}

#[test]
fn a_flipped_bit_anywhere_in_a_handshake_changes_nothing() {
    for usage in BOTH {
        let (_, tape) = recorded(usage);
        let length = tape.len().min(6);
        for (at, datagram) in tape.iter().enumerate().take(length) {
            // Each byte of short datagrams and a spread of long ones, with another bit each time.
            let bytes = datagram.bytes.len();
            for byte in (0..bytes).step_by((bytes / 24).max(1)).chain([bytes - 1]) {
                let world = with_flip(usage, at, byte * 8 + byte % 8);
                assert!(world.is_up(0, 1), "{usage:?} datagram {at} byte {byte}");
                assert_eq!((world.ups(0), world.ups(1)), (1, 1), "{usage:?} datagram {at} byte {byte}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_frame_ends_in_a_drop() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        let (a, _) = world.link_up();
        world.fate = Box::new(|_, _| vec![]);
        world.send(0, a, &pattern(60, 1));
        let frame = world.tape.last().expect("sent").bytes.clone();
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(world.inject(1, 0, &flipped), 0, "{usage:?} bit {bit}: an answer");
            assert!(world.received(1).is_empty(), "{usage:?} bit {bit}");
        }
        world.inject(1, 0, &frame);
        assert_eq!(world.received(1), [pattern(60, 1)], "the genuine one still opens");
    }
}

#[test]
fn truncated_datagrams_are_dropped() {
    for usage in BOTH {
        let (mut world, tape) = recorded(usage);
        let events = (world.events[0].len(), world.events[1].len());
        for datagram in &tape {
            // A question without some of its padding is still a question.
            let is_question = usage == Use::EndToEnd && datagram.bytes.starts_with(&[1, 0, 0, 0]);
            for length in 0..if is_question { 800 } else { datagram.bytes.len() } {
                let sent = world.inject(datagram.to as usize, datagram.from, &datagram.bytes[..length]);
                assert_eq!(sent, 0, "{usage:?} {length} of {}", datagram.bytes.len());
            }
        }
        assert_eq!((world.events[0].len(), world.events[1].len()), events, "{usage:?}");
    }
}

#[test]
fn a_replayed_frame_is_dropped() {
    for usage in BOTH {
        let (mut world, tape) = recorded(usage);
        let (before, seen) = (world.received(1).len(), world.nodes[1].counters().replayed);
        let frames: Vec<_> = tape.iter().filter(|datagram| datagram.to == 1).rev().take(1).collect();
        for datagram in frames {
            world.inject(1, datagram.from, &datagram.bytes);
        }
        assert_eq!(world.received(1).len(), before);
        assert!(world.nodes[1].counters().replayed > seen);
    }
}

#[test]
fn a_reflected_frame_or_handshake_is_dropped() {
    for usage in BOTH {
        let (mut world, tape) = recorded(usage);
        let established = (world.nodes[0].counters().established, world.nodes[1].counters().established);
        let received = (world.received(0).len(), world.received(1).len());
        for datagram in &tape {
            world.inject(datagram.from as usize, datagram.to, &datagram.bytes);
            world.run_for(Duration::from_millis(50));
        }
        world.run_for(Duration::from_secs(20));
        assert_eq!(
            (world.nodes[0].counters().established, world.nodes[1].counters().established),
            established
        );
        assert_eq!((world.received(0).len(), world.received(1).len()), received);
    }
}

#[test]
fn a_whole_recording_played_again_makes_no_session_and_delivers_nothing() {
    for usage in BOTH {
        let (mut world, tape) = recorded(usage);
        let before = (world.received(1).len(), world.nodes[1].counters().established);
        world.run_for(Duration::from_secs(30));
        for datagram in tape.iter().filter(|datagram| datagram.to == 1) {
            world.inject(1, 66, &datagram.bytes);
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!((world.received(1).len(), world.nodes[1].counters().established), before, "{usage:?}");
    }
}

#[test]
fn a_recorded_m1_gets_no_answer() {
    for usage in BOTH {
        let (mut world, tape) = recorded(usage);
        world.run_for(Duration::from_secs(30));
        // What node 0 sent before its session was up, but for the question for the record.
        let m1: Vec<Bytes> = tape
            .iter()
            .filter(|datagram| datagram.from == 0 && datagram.bytes.len() > 1000)
            .map(|datagram| datagram.bytes.clone())
            .collect();
        let replayed = world.nodes[1].counters().replayed;
        let sent: usize = m1.iter().map(|bytes| world.inject(1, 66, bytes)).sum();
        assert_eq!(sent, 0, "{usage:?}");
        assert_eq!(world.nodes[1].counters().replayed, replayed + 1, "{usage:?}");
    }
}

#[test]
fn a_probe_without_the_key_gets_no_byte() {
    let mut world = World::pair(Use::Link, 1);
    // A third node says all that a handshake says, but to another address than the one that listens there.
    world.add(super::world::config(Use::Link, 3));
    let stranger = super::world::config(Use::Link, 9).key.public().addr();
    let place = world.spot(1);
    let connect = Connect { remote: stranger, place, token: None, digest: None };
    world.act(2, |node, now, out| node.connect(now, connect, out));
    world.run_for(Duration::from_secs(11));
    assert!(world.tape.iter().any(|datagram| datagram.to == 1));
    for (length, seed) in (0..1500).zip(0..) {
        world.inject(1, 2, &pattern(length, seed));
    }
    // Numbers of message types in clear, too.
    for number in 0u32..300 {
        let mut bytes = number.to_le_bytes().to_vec();
        bytes.extend(pattern(1200, number.into()));
        world.inject(1, 2, &bytes);
    }
    world.run_for(Duration::from_secs(11));
    assert!(world.tape.iter().all(|datagram| datagram.from != 1), "not one byte");
}

#[test]
fn handshakes_hold_no_piece_of_key_or_address() {
    for usage in BOTH {
        let mut world = World::new(usage, 1);
        let keys = [1, 2].map(|seed| super::world::config(usage, seed).key.public());
        for seed in [1, 2] {
            world.add(super::world::config(usage, seed));
        }
        // Unmasked, so that the handshake itself is looked at and not only its mask.
        world.masked = Some(false);
        world.mtu = 4000;
        world.link_up();
        // End to end, the record is asked of an address and told in clear inside link frames; m1 is what hides.
        let told: Vec<&Datagram> =
            world.tape.iter().filter(|datagram| !matches!(datagram.bytes.first(), Some(1 | 2))).collect();
        assert!(told.len() >= 3);
        for key in keys {
            let addr = key.addr();
            for secret in [&key.as_raw()[..], &addr.as_bytes()[..]] {
                for piece in secret.windows(6) {
                    let found =
                        told.iter().any(|datagram| datagram.bytes.windows(6).any(|bytes| bytes == piece));
                    assert!(!found, "{usage:?}");
                }
            }
        }
    }
}

#[test]
fn a_forged_record_is_refused() {
    // Node 1 answers for the address of node 2, whose key it does not have.
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.add(super::world::config(usage, 3));
        let (remote, place) = (world.addr(2), world.spot(1));
        world.masked = Some(false);
        let connect = Connect { remote, place, token: None, digest: None };
        world.act(0, |node, now, out| node.connect(now, connect, out));
        world.run_for(Duration::from_secs(12));
        assert!(world.nodes[0].session(&remote, 0).is_none());
        assert!(world.nodes.iter().all(|node| node.counters().established == 0));
        assert_eq!(world.nodes[0].sizes().records, 0, "{usage:?}");
    }
}

#[test]
fn x25519_alone_or_ml_kem_alone_opens_nothing() {
    use crate::handshake::{Head, end_to_end};
    use crate::keys::LocalKeys;
    use crate::noise::Pattern;
    let mut entropy = byway_identity::SeededEntropy::new(4);
    let now = std::time::Instant::now();
    let mut party = |seed| {
        let key = super::world::config(Use::EndToEnd, seed).key;
        LocalKeys::new(now, super::world::UNIX, 1, key, None, &mut entropy)
    };
    let (caller, mut target, mut thief) = (party(1), party(2), party(3));
    let record = target.current().record.clone();
    let version = record.content.version as u8;
    let head = Head { pattern: Pattern::EndToEnd, plane: 0, version, index: 300 };
    let local = caller.current();
    let own = end_to_end::Own { local: &local.x25519, record: &local.short, ciphers: 2, early: b"secret" };
    let mut entropy = byway_identity::SeededEntropy::new(5);
    let (_, m1) = end_to_end::Initiator::start(&head, &record, &own, None, &mut entropy).expect("good keys");
    let mut opens = |keys: &LocalKeys| {
        end_to_end::Responder::open(&head, &record.addr, &m1, keys.current(), true, None, &mut entropy)
            .is_ok()
    };
    assert!(opens(&target) && !opens(&thief));
    // A thief who knows all but the ML-KEM secret; then all but the X25519 secret.
    target.swap_kem(&mut thief);
    assert!(!opens(&target), "X25519 alone");
    target.swap_kem(&mut thief);
    target.swap_x25519(&mut thief);
    assert!(!opens(&target), "ML-KEM alone");
    target.swap_x25519(&mut thief);
    assert!(opens(&target));
}
