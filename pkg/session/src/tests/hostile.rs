//! Flipped bits, recordings, reflections, probes: each ends in a drop.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_identity::{Entropy, SeededEntropy};

use super::world::{Datagram, LATENCY, World, pattern};
use crate::mask::{self, Secret};
use crate::{Ciphers, Connect, Event, Use};

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

/// `bytes` with `bit` of the byte `at` flipped, which is counted behind the mask if there is one to look behind.
fn flip(bytes: &[u8], mask: Option<&Secret>, at: usize, bit: u64) -> Vec<u8> {
    let mut bytes = BytesMut::from(bytes);
    if let Some(mask) = mask {
        assert!(mask.unmask(&mut bytes), "a handshake with another mask");
    }
    bytes[at] ^= 1 << bit;
    mask.map_or_else(|| bytes.to_vec(), |mask| mask.mask(&bytes).to_vec())
}

#[test]
fn a_flipped_bit_anywhere_in_a_handshake_is_rejected_behind_the_mask_too() {
    const SEED: u64 = 41;
    for usage in BOTH {
        let mut dice = SeededEntropy::new(SEED);
        let mut world = World::pair(usage, SEED);
        // Each message is one datagram, and none arrives but by hand.
        world.mtu = 4000;
        world.fate = Box::new(|_, _| vec![]);
        let connect = Connect { remote: world.addr(1), place: world.spot(1), token: None, digest: None };
        let early = Bytes::from_static(if usage == Use::EndToEnd { b"early" } else { b"" });
        world.act(0, |node, now, out| node.connect_early(now, connect, early.clone(), out));
        let secret = Secret::new(&world.addr(1), None);
        let layers = if usage == Use::Link { vec![None, Some(&secret)] } else { vec![None] };
        let mut stages = 0;
        while !world.is_up(0, 1) {
            let Datagram { from, to, bytes } = world.tape.last().cloned().expect("something was said");
            let to = to as usize;
            for mask in &layers {
                let hidden = if mask.is_some() { mask::OVERHEAD } else { 0 };
                for at in 0..bytes.len() - hidden {
                    let changed = flip(&bytes, *mask, at, dice.next_u64() % 8);
                    // Slow enough not to count as load.
                    world.now += Duration::from_millis(200);
                    let before = (world.events[to].len(), world.nodes[to].counters().established);
                    let waiting = world.nodes[to].sizes().waiting;
                    let answers = world.inject(to, from, &changed);
                    let what =
                        format!("seed {SEED}, {usage:?}, message {stages}, byte {at}, masked {}", hidden > 0);
                    let after = (world.events[to].len(), world.nodes[to].counters().established);
                    assert_eq!(after, before, "{what}: {:?}", world.events[to]);
                    assert_eq!(world.nodes[to].sizes().waiting, waiting, "{what}: a handshake began");
                    // A question has no secrets, so another question may come of it; but nothing else has an answer.
                    let is_question = stages == 0 && (usage == Use::EndToEnd || mask.is_some());
                    assert!(answers == 0 || is_question, "{what}: an answer");
                }
            }
            assert!(world.inject(to, from, &bytes) > 0, "{usage:?}: the genuine message {stages} counts");
            stages += 1;
        }
        // KEY_ASK, KEY_TELL, m1, m2, and m3 or the first frame.
        assert_eq!(stages, 5, "{usage:?}");
        assert_eq!((world.ups(0), world.ups(1)), (1, 1));
        let early = world.events[1].iter().filter(|event| matches!(event, Event::Early { .. })).count();
        assert_eq!(early, usize::from(usage == Use::EndToEnd), "once");
    }
}

#[test]
fn a_flipped_bit_in_any_datagram_of_a_handshake_costs_no_more_than_its_loss() {
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
fn drops_are_counted_for_the_remote_whose_session_they_name_and_stay_counted_after_a_rekey() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.add(super::world::config(usage, 3));
        let (session, _) = world.link_up();
        world.connect(2, 1);
        world.run_until(Duration::from_secs(5), |world| world.is_up(2, 1));
        world.run_for(Duration::from_secs(1));
        let (remote, other) = (world.addr(0), world.addr(2));
        world.send(0, session, b"payload");
        let frame = world.tape.last().expect("sent").bytes.to_vec();
        let mut forged = frame.clone();
        *forged.last_mut().expect("not empty") ^= 1;
        // A counter that was seen already is looked at no closer.
        for bytes in [&forged[..], &frame, &frame, &forged, &frame[..8]] {
            world.inject(1, 0, bytes);
        }
        world.run_for(Duration::from_secs(1));
        let drops = |world: &World, of| {
            let tally = world.nodes[1].tally(of, 0);
            (tally.replayed, tally.forged, tally.malformed)
        };
        assert_eq!(drops(&world, &remote), (3, 1, 1), "{usage:?}");
        assert_eq!(drops(&world, &other), (0, 0, 0), "{usage:?}");
        let tally = world.nodes[1].tally(&remote, 0);
        assert_eq!((tally.established, tally.renewed), (1, 0), "{usage:?}");
        for _ in 0..140 {
            let session = world.session(0, 1).expect("it stays up");
            world.send(0, session, b"in use");
            world.run_for(Duration::from_secs(5));
        }
        assert_eq!(world.nodes[1].sessions().len(), 1, "{usage:?}: the first one has ended");
        let tally = world.nodes[1].tally(&remote, 0);
        assert_eq!((tally.established, tally.renewed), (2, 1), "{usage:?}");
        assert_eq!(world.nodes[1].sessions()[0].tally, tally, "{usage:?}");
        assert_eq!(drops(&world, &remote), (3, 1, 1), "{usage:?}");
        assert_eq!(
            world.nodes[1].tally(&other, 0),
            crate::Tally::default(),
            "{usage:?}: it is idle, and gone"
        );
    }
}

/// Payloads that came in at node 1, and whether early.
fn told(world: &World) -> Vec<(bool, Bytes)> {
    let payloads = world.events[1].iter().filter_map(|event| match event {
        Event::Early { payload, .. } => Some((true, payload.clone())),
        Event::Received { payload, .. } => Some((false, payload.clone())),
        _ => None,
    });
    payloads.collect()
}

/// Connects node 0 to node 1 with an early payload.
fn connect_early(world: &mut World, early: &Bytes) {
    let connect = Connect { remote: world.addr(1), place: world.spot(1), token: None, digest: None };
    world.act(0, |node, now, out| node.connect_early(now, connect, early.clone(), out));
}

#[test]
fn an_early_payload_that_cannot_be_remembered_is_dropped_and_comes_in_a_frame_and_never_again() {
    for full in [false, true] {
        let mut world = World::pair(Use::EndToEnd, 1);
        if full {
            world.nodes[1].fill_replays();
        }
        let early = Bytes::from(pattern(500, 1));
        connect_early(&mut world, &early);
        world.run_for(Duration::from_secs(2));
        assert_eq!(told(&world), [(!full, early.clone())], "full: {full}");
        world.run_for(Duration::from_secs(30));
        for datagram in world.tape.clone().iter().filter(|datagram| datagram.to == 1) {
            world.inject(1, 66, &datagram.bytes);
            world.run_for(Duration::from_secs(1));
        }
        assert_eq!(told(&world), [(!full, early)], "full: {full}, played again");
    }
}

#[test]
fn an_early_payload_for_a_key_from_before_the_start_counts_only_under_the_new_key() {
    let mut world = World::pair(Use::EndToEnd, 1);
    let (session, _) = world.link_up();
    world.act(0, |node, now, out| node.close(now, session, out));
    world.run_for(Duration::from_secs(1));
    let mut again = super::world::config(Use::EndToEnd, 2);
    again.boot = 2;
    world.restart(1, again);
    world.events[1].clear();
    let (first, early) = (world.tape.len(), Bytes::from(pattern(500, 1)));
    connect_early(&mut world, &early);
    world.run_for(LATENCY + LATENCY / 2);
    assert_eq!(told(&world), [], "the key of the recorded address is gone");
    assert!(world.nodes[1].counters().forged > 0);
    let old: Vec<Datagram> =
        world.tape[first..].iter().filter(|datagram| datagram.to == 1).cloned().collect();
    world.run_for(Duration::from_secs(3));
    assert_eq!(told(&world), [(true, early.clone())]);
    for datagram in old {
        world.inject(1, 66, &datagram.bytes);
    }
    world.run_for(Duration::from_secs(3));
    assert_eq!(told(&world), [(true, early)], "played again");
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
        end_to_end::Responder::open(
            &head,
            &record.addr,
            &m1,
            keys.current(),
            Ciphers::AES,
            None,
            &mut entropy,
        )
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
