//! Tables of a core that applications can fill, filled.

use std::time::{Duration, Instant};

use byway_api::{Code, ManCon};
use byway_identity::{Addr, Prefix, SeededEntropy, SigningKey};
use byway_link::{Accept, Profile, Scheme, TransportId};
use byway_network::{Class, Plane};
use byway_node::{Config, Core, Levels, NODES_MAX, Output, Question};

fn core(now: Instant) -> Core {
    let config = Config {
        key: SigningKey::from_seed(&[1; 32]),
        protocol: byway_grove::PROTOCOL,
        network: "test".to_owned(),
        group_key: None,
        accept: Accept::Network,
        levels: Levels { default: ManCon::Low, floor: ManCon::Low, direct: true },
        peers: Vec::new(),
        boot: 1,
        unix: 1_800_000_000,
        ratchet: Duration::from_secs(120),
        ciphers: byway_node::Ciphers::AES,
    };
    let mut seed = 0;
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

/// Asks `question` over and over; how many wait for an answer, and whether all others were told that there are too many.
fn asked(core: &mut Core, now: Instant, times: u64, question: impl Fn() -> Question) -> (u64, bool) {
    let (mut out, main) = (Vec::new(), core.main());
    let until = now + Duration::from_secs(10);
    for id in 0..times {
        core.ask(now, &main, (id, question(), ManCon::Low), until, &mut out);
    }
    let answers = out.iter().filter_map(|output| match output {
        Output::Answer { answer, .. } => Some(answer.as_ref().map_err(|error| error.code)),
        _ => None,
    });
    let answers: Vec<_> = answers.collect();
    let busy = answers.iter().all(|answer| matches!(answer, Err(Code::Busy)));
    (times - answers.len() as u64, busy)
}

#[test]
fn nodes_are_bounded_and_a_closed_one_makes_room() {
    let now = Instant::now();
    let (mut core, mut out) = (core(now), Vec::new());
    let key =
        |number: u32| SigningKey::from_seed(&byway_identity::labelled_hash("test", &[&number.to_be_bytes()]));
    let mut open = |core: &mut Core, number| {
        out.clear();
        core.open(now, &key(number), &mut out).map_err(|error| error.code)
    };
    // One is the daemon's own.
    for number in 1..NODES_MAX as u32 {
        assert!(open(&mut core, number).is_ok(), "{number}");
    }
    for number in 0..10 {
        assert_eq!(open(&mut core, 1_000_000 + number), Err(Code::Busy));
    }
    assert_eq!(core.nodes().len(), NODES_MAX);
    core.close(now, &key(7).public().addr(), &mut Vec::new());
    assert!(open(&mut core, 1_000_000).is_ok());
    assert_eq!(open(&mut core, 1_000_001), Err(Code::Busy));
}

#[test]
fn questions_that_wait_are_bounded_and_end_in_time() {
    let now = Instant::now();
    let mut core = core(now);
    let find = || Question::Find { prefix: Prefix::whole(Addr::EVERYBODY), plane: Plane::Any };
    assert_eq!(asked(&mut core, now, 1_100, find), (1_024, true));
    let (mut out, later) = (Vec::new(), now + Duration::from_secs(11));
    core.heartbeat(later, &mut out);
    assert_eq!(out.iter().filter(|output| matches!(output, Output::Answer { .. })).count(), 1_024);
    assert_eq!(asked(&mut core, later, 1, find), (1, true), "there is room again");
}

#[test]
fn pings_that_wait_for_one_node_are_bounded_and_leave_room_for_others() {
    let now = Instant::now();
    let mut core = core(now);
    assert_eq!(
        asked(&mut core, now, 200, || Question::Ping { to: Addr::EVERYBODY, plane: Plane::Any }),
        (64, true)
    );
    let other = SigningKey::from_seed(&[9; 32]).public().addr();
    assert_eq!(asked(&mut core, now, 1, || Question::Ping { to: other, plane: Plane::Any }), (1, true));
}
