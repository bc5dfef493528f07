//! Handshakes, as both uses see them.

use std::time::Duration;

use bytes::Bytes;

use super::world::{LATENCY, UNIX, World, config, pattern};
use crate::{CloseReason, Config, Connect, Event, Use};

const DAY: Duration = Duration::from_secs(24 * 3600);
const BOTH: [Use; 2] = [Use::Link, Use::EndToEnd];

#[test]
fn a_session_comes_up_on_both_sides_and_carries_payloads_both_ways() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        let (a, b) = world.link_up();
        for length in [0, 1, 64, 1368, 1369, 5000, 65_535] {
            world.send(0, a, &pattern(length, 1));
            world.send(1, b, &pattern(length, 2));
            world.run_for(Duration::from_secs(1));
            assert_eq!(
                world.received(1).last().expect("it arrives"),
                &pattern(length, 1),
                "{usage:?} {length}"
            );
            assert_eq!(
                world.received(0).last().expect("it arrives"),
                &pattern(length, 2),
                "{usage:?} {length}"
            );
        }
        assert_eq!((world.ups(0), world.ups(1), world.downs(0), world.downs(1)), (1, 1, 0, 0));
        let initiator = |node: usize| {
            world.events[node].iter().find_map(|event| match event {
                Event::Up { initiator, .. } => Some(*initiator),
                _ => None,
            })
        };
        assert_eq!((initiator(0), initiator(1)), (Some(true), Some(false)));
    }
}

#[test]
fn a_session_comes_up_where_datagrams_do_not_tell_where_they_came_from() {
    let mut world = World::pair(Use::EndToEnd, 1);
    world.forget_sources();
    let (a, b) = world.link_up();
    world.send(0, a, b"there");
    world.send(1, b, b"and back");
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.received(0).len(), world.received(1).len()), (1, 1));
}

#[test]
fn a_first_session_takes_two_round_trips_and_the_next_one() {
    for (usage, trips) in [(Use::Link, 2), (Use::EndToEnd, 2)] {
        let mut world = World::pair(usage, 1);
        world.connect(0, 1);
        world.run_until(Duration::from_secs(5), |world| world.session(0, 1).is_some());
        assert_eq!(world.now - world.start, trips * 2 * LATENCY, "{usage:?}");
    }
}

#[test]
fn the_next_session_with_a_known_record_takes_one_round_trip() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        let (a, _) = world.link_up();
        world.act(0, |node, now, out| node.close(now, a, out));
        world.run_for(Duration::from_secs(1));
        let start = world.now;
        world.connect(0, 1);
        world.run_until(Duration::from_secs(5), |world| world.session(0, 1).is_some());
        assert_eq!(world.now - start, 2 * LATENCY, "{usage:?}");
    }
}

#[test]
fn messages_longer_than_a_datagram_come_in_parts() {
    for (usage, mtu) in [(Use::Link, 400), (Use::EndToEnd, 800)] {
        let mut world = World::pair(usage, 1);
        world.mtu = mtu;
        let (a, _) = world.link_up();
        world.send(0, a, &pattern(65_535, 3));
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.received(1), [pattern(65_535, 3)], "{usage:?}");
    }
}

/// Loses the first datagram of each kind in turn; kinds are told apart by their order on the wire.
#[test]
fn whichever_datagram_of_a_handshake_is_lost_the_session_comes_up_within_a_second() {
    for usage in BOTH {
        for lost in 0..8 {
            let mut world = World::pair(usage, 1);
            let mut count = 0;
            world.fate = Box::new(move |_, _| {
                count += 1;
                if count - 1 == lost { vec![] } else { vec![LATENCY] }
            });
            world.connect(0, 1);
            world.run_until(Duration::from_secs(1), |world| world.is_up(0, 1));
            world.run_for(Duration::from_secs(15));
            assert!(world.is_up(0, 1), "{usage:?} {lost}");
            assert_eq!((world.ups(0), world.ups(1)), (1, 1), "{usage:?} {lost}");
            assert_eq!((world.downs(0), world.downs(1)), (0, 0), "{usage:?} {lost}");
        }
    }
}

#[test]
fn a_lost_m2_is_answered_with_the_same_m2_and_nothing_happens_twice() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.mtu = 4000;
        let mut lost = false;
        // The first answer of node 1 tells the record; the second is m2.
        let mut answers = 0;
        world.fate = Box::new(move |datagram, _| {
            if datagram.from == 1 {
                answers += 1;
                if answers == 2 && !lost {
                    lost = true;
                    return vec![];
                }
            }
            vec![LATENCY]
        });
        world.connect(0, 1);
        world.run_until(Duration::from_secs(2), |world| world.is_up(0, 1));
        let answers: Vec<_> = world.tape.iter().filter(|datagram| datagram.from == 1).collect();
        assert!(answers.iter().skip(2).any(|datagram| datagram.bytes == answers[1].bytes), "{usage:?}");
        assert_eq!((world.ups(0), world.ups(1)), (1, 1));
        assert_eq!(world.nodes[1].counters().established, 1);
    }
}

#[test]
fn nobody_there_is_told_after_ten_seconds() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.fate = Box::new(|_, _| vec![]);
        world.connect(0, 1);
        world.connect(0, 1);
        world.run_for(Duration::from_secs(9));
        assert!(world.events[0].is_empty());
        world.run_for(Duration::from_secs(2));
        let [Event::Failed { remote, why: CloseReason::Timeout, .. }] = &world.events[0][..] else {
            panic!("{:?}", world.events[0]);
        };
        assert_eq!(*remote, world.addr(1));
        assert!(
            world.nodes[0].next_heartbeat().is_some_and(|next| next > world.now + DAY),
            "nothing is left to do"
        );
    }
}

#[test]
fn both_at_once_end_with_both_sending_in_the_session_that_the_lower_address_began() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.connect(0, 1);
        world.connect(1, 0);
        world.run_for(Duration::from_secs(2));
        assert_eq!((world.ups(0), world.ups(1)), (2, 2), "{usage:?}");
        let lower = usize::from(world.addr(1) < world.addr(0));
        let (a, b) = (world.session(0, 1).expect("up"), world.session(1, 0).expect("up"));
        for (node, session) in [(0, a), (1, b)] {
            let began = world.events[node].iter().any(
                |event| matches!(event, Event::Up { session: up, initiator: true, .. } if *up == session),
            );
            assert_eq!(began, node == lower, "{usage:?} {node}");
        }
        // Each session's name leads to the one in use.
        for node in 0..2 {
            for status in world.nodes[node].sessions() {
                world.send(node, status.session, b"hello");
            }
        }
        world.run_for(Duration::from_secs(1));
        assert_eq!((world.received(0).len(), world.received(1).len()), (2, 2));
        world.run_for(Duration::from_secs(60));
        assert_eq!(
            (world.nodes[0].sessions().len(), world.nodes[1].sessions().len()),
            (1, 1),
            "the other is gone"
        );
        assert_eq!((world.downs(0), world.downs(1)), (0, 0));
    }
}

#[test]
fn a_peer_that_was_restarted_is_reached_again_although_its_keys_are_others() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.link_up();
        let mut again = config(usage, 2);
        again.boot = 2;
        world.restart(1, again);
        let start = world.now;
        world.connect(0, 1);
        world.run_until(Duration::from_secs(5), |world| world.is_up(0, 1) && world.ups(0) == 2);
        assert!(world.now - start < Duration::from_secs(1), "{usage:?}");
        let (a, b) = (world.session(0, 1).expect("up"), world.session(1, 0).expect("up"));
        world.send(0, a, b"to the new one");
        world.send(1, b, b"and back");
        world.run_for(Duration::from_secs(1));
        assert_eq!((world.received(0).len(), world.received(1).len()), (1, 1), "{usage:?}");
        assert_eq!(world.downs(0), 0);
    }
}

#[test]
fn a_peer_that_was_restarted_and_dials_replaces_the_dead_session() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.link_up();
        let mut again = config(usage, 2);
        again.boot = 2;
        world.restart(1, again);
        world.connect(1, 0);
        world.run_for(Duration::from_secs(1));
        let (a, b) = (world.session(0, 1).expect("up"), world.session(1, 0).expect("up"));
        world.send(0, a, b"to the new one");
        world.send(1, b, b"and back");
        world.run_for(Duration::from_secs(1));
        assert_eq!((world.received(0).len(), world.received(1).len()), (1, 1), "{usage:?}");
    }
}

#[test]
fn another_group_key_leads_to_no_session() {
    for usage in BOTH {
        for (ours, theirs) in [(Some([1; 32]), Some([2; 32])), (None, Some([2; 32])), (Some([1; 32]), None)] {
            let mut world = World::new(usage, 1);
            for (seed, group_key) in [(1, ours), (2, theirs)] {
                world.add(Config { group_key, ..config(usage, seed) });
            }
            world.connect(0, 1);
            world.run_for(Duration::from_secs(20));
            assert!(world.session(0, 1).is_none() && world.session(1, 0).is_none());
            assert!(matches!(world.events[0][..], [Event::Failed { .. }]));
            assert!(world.events[1].is_empty());
        }
    }
}

#[test]
fn one_group_key_leads_to_a_session() {
    for usage in BOTH {
        let mut world = World::new(usage, 1);
        for seed in [1, 2] {
            world.add(Config { group_key: Some([7; 32]), ..config(usage, seed) });
        }
        world.link_up();
    }
}

#[test]
fn clocks_that_differ_by_less_than_a_day_do_not_matter_and_by_more_they_do() {
    for usage in BOTH {
        for (off, works) in [(23 * 3600, true), (25 * 3600, false)] {
            for (a, b) in [(UNIX, UNIX + off), (UNIX + off, UNIX)] {
                let mut world = World::new(usage, 1);
                for (seed, unix) in [(1, a), (2, b)] {
                    world.add(Config { unix, ..config(usage, seed) });
                }
                world.connect(0, 1);
                world.run_for(Duration::from_secs(15));
                // A record of the past is good for its whole week.
                let is_early = (a > b) != works;
                assert_eq!(world.is_up(0, 1), works, "{usage:?} {off} {is_early}");
            }
        }
    }
}

#[test]
fn a_record_older_than_one_that_was_seen_is_refused() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        let (a, _) = world.link_up();
        world.act(0, |node, now, out| node.close(now, a, out));
        // The same identity with a record of an hour ago, as from a stolen and old memory image.
        world.restart(1, Config { unix: UNIX - 3600, boot: 0, ..config(usage, 2) });
        world.connect(0, 1);
        world.run_for(Duration::from_secs(12));
        assert!(world.session(0, 1).is_none(), "{usage:?}");
        // Nor does it count in a handshake that its owner begins.
        world.connect(1, 0);
        world.run_for(Duration::from_secs(12));
        assert!(world.session(0, 1).is_none(), "{usage:?}");
    }
}

#[test]
fn keys_are_renewed_every_week_and_the_old_ones_answer_one_day_more() {
    for usage in BOTH {
        let mut world = World::pair(usage, 1);
        world.link_up();
        let first = world.nodes[1].record_digest();
        world.run_for(7 * DAY - Duration::from_secs(60));
        assert_eq!(world.nodes[1].record_digest(), first);
        world.run_for(Duration::from_secs(120));
        assert_ne!(world.nodes[1].record_digest(), first);
        // Node 0 still has the old record, and its m1 opens at the first attempt.
        let before = world.nodes[1].counters().forged;
        world.events[0].clear();
        world.run_for(Duration::from_secs(1));
        world.connect(0, 1);
        world.run_until(Duration::from_secs(2), |world| world.is_up(0, 1));
        assert_eq!(world.nodes[1].counters().forged, before, "{usage:?}");
    }
}

#[test]
fn a_node_that_started_without_a_clock_is_reached_once_it_has_one() {
    for usage in BOTH {
        let mut world = World::new(usage, 1);
        world.add(config(usage, 1));
        world.add(Config { unix: 5, ..config(usage, 2) });
        world.connect(0, 1);
        world.run_for(Duration::from_secs(15));
        assert!(!world.is_up(0, 1));
        world.act(1, |node, now, _| node.set_clock(now, UNIX + 15));
        world.connect(0, 1);
        world.run_until(Duration::from_secs(2), |world| world.is_up(0, 1));
    }
}

#[test]
fn a_vouched_digest_is_wanted_or_a_later_record() {
    let mut world = World::pair(Use::EndToEnd, 1);
    let place = world.spot(1);
    let (remote, digest) = (world.addr(1), Some(world.nodes[1].record_digest()));
    let connect = Connect { remote, place, token: None, digest };
    world.act(0, |node, now, out| node.connect(now, connect, out));
    world.run_until(Duration::from_secs(1), |world| world.is_up(0, 1));
}

#[test]
fn a_link_token_is_needed_where_there_is_no_other_way_in() {
    let mut world = World::pair(Use::Link, 1);
    world.nodes[1].set_tokens(&[[9; 32]]);
    let place = world.spot(1);
    let connect = Connect { remote: world.addr(1), place, token: Some([9; 32]), digest: None };
    world.act(0, |node, now, out| node.connect(now, connect, out));
    world.run_until(Duration::from_secs(1), |world| world.is_up(0, 1));

    let mut world = World::pair(Use::Link, 1);
    let connect = Connect { remote: world.addr(1), place: world.spot(1), token: Some([9; 32]), digest: None };
    world.act(0, |node, now, out| node.connect(now, connect, out));
    world.run_for(Duration::from_secs(1));
    assert!(world.tape.iter().all(|datagram| datagram.from == 0), "an unknown token gets no answer");
}

#[test]
fn an_early_payload_comes_with_m1_and_only_once() {
    for length in [1, 1000, 4096, 4097, 20_000] {
        let mut world = World::pair(Use::EndToEnd, 1);
        let early = Bytes::from(pattern(length, 5));
        let connect = Connect { remote: world.addr(1), place: world.spot(1), token: None, digest: None };
        // Everything is said twice.
        world.fate = Box::new(|_, _| vec![LATENCY, 2 * LATENCY]);
        world.act(0, |node, now, out| node.connect_early(now, connect, early.clone(), out));
        world.run_for(Duration::from_secs(2));
        let told = world.events[1].iter().filter_map(|event| match event {
            Event::Early { payload, .. } | Event::Received { payload, .. } => Some(payload.clone()),
            _ => None,
        });
        assert_eq!(told.collect::<Vec<_>>(), [early], "{length}");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let tape = |seed| {
        let mut world = World::pair(Use::Link, seed);
        let (a, _) = world.link_up();
        world.send(0, a, b"payload");
        world.tape.into_iter().map(|datagram| datagram.bytes).collect::<Vec<_>>()
    };
    assert_eq!(tape(5), tape(5));
    assert_ne!(tape(5), tape(6));
}

#[test]
fn an_endpoint_can_live_in_a_task() {
    fn is_send<T: Send>() {}
    is_send::<crate::Endpoint<super::world::Spot>>();
}
