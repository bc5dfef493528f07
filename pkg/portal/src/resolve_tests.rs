//! Tests of what waits for addresses.

use super::*;

fn ip(last: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x200, 0, 0, 0, 0, 0, 0, last)
}

fn packet(length: usize) -> Bytes {
    vec![0; length].into()
}

#[test]
fn packets_wait_for_the_answer_and_leave_in_order() {
    let (mut resolver, now) = (Resolver::new(), Instant::now());
    let addr = Addr::from_bytes([2; 32]);
    assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Ask);
    assert_eq!(resolver.resolve(now, ip(1), &packet(2)), Resolution::Waits { kept: true });
    assert_eq!(resolver.learn(now, ip(1), addr), [packet(1), packet(2)]);
    assert_eq!(resolver.resolve(now, ip(1), &packet(3)), Resolution::Known(addr));
    assert_eq!(resolver.held_bytes(), 0);
}

#[test]
fn sixteen_packets_wait_for_one_destination() {
    let (mut resolver, now) = (Resolver::new(), Instant::now());
    for _ in 0..Resolver::HELD_EACH {
        assert!(!matches!(resolver.resolve(now, ip(1), &packet(9)), Resolution::Waits { kept: false }));
    }
    assert_eq!(resolver.resolve(now, ip(1), &packet(9)), Resolution::Waits { kept: false });
    assert_eq!(resolver.fail(now, ip(1), Code::Unknown).len(), Resolver::HELD_EACH);
}

#[test]
fn what_waits_is_bounded_in_all() {
    let (mut resolver, now) = (Resolver::new(), Instant::now());
    for destination in 0..2000 {
        for _ in 0..Resolver::HELD_EACH + 4 {
            resolver.resolve(now, ip(destination), &packet(1420));
        }
    }
    assert!(resolver.held_bytes() <= Resolver::HELD_BYTES, "{} bytes wait", resolver.held_bytes());
    assert!(resolver.pending.len() <= Resolver::PENDING);
    for (_, packets) in resolver.expire(now + Resolver::HOLD) {
        assert!(!packets.is_empty());
    }
    assert_eq!(resolver.held_bytes(), 0);
}

#[test]
fn answers_are_bounded_and_forgotten() {
    let (mut resolver, now) = (Resolver::new(), Instant::now());
    for destination in 0..=u16::MAX {
        resolver.learn(now, ip(destination), Addr::from_bytes([1; 32]));
    }
    assert_eq!(resolver.answers(), Resolver::ANSWERS);
    resolver.sweep(now + Resolver::KEEP);
    assert_eq!(resolver.answers(), 0);
}

#[test]
fn an_answer_that_is_used_is_kept() {
    let (mut resolver, mut now) = (Resolver::new(), Instant::now());
    let addr = Addr::from_bytes([2; 32]);
    resolver.learn(now, ip(1), addr);
    for _ in 0..5 {
        now += Resolver::KEEP / 2;
        assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Known(addr));
    }
    now += Resolver::KEEP;
    assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Ask);
}

#[test]
fn a_failure_is_believed_for_seconds_and_for_longer_when_it_repeats() {
    let (mut resolver, now) = (Resolver::new(), Instant::now());
    resolver.resolve(now, ip(1), &packet(1));
    assert_eq!(resolver.next_expiry(), Some(now + Resolver::HOLD));
    let mut late = now + Resolver::HOLD;
    let mut kept = Resolver::KEEP_FAILURE;
    for _ in 0..6 {
        assert_eq!(resolver.expire(late), [(ip(1), vec![packet(1)])]);
        assert!(resolver.fail(late, ip(1), Code::Unknown).is_empty(), "told again, it is the same failure");
        let just_before = late + kept - Duration::from_nanos(1);
        assert_eq!(resolver.resolve(just_before, ip(1), &packet(1)), Resolution::Failed(Code::Unknown));
        assert_eq!(resolver.resolve(late + kept, ip(1), &packet(1)), Resolution::Ask);
        late += kept + Resolver::HOLD;
        kept = (kept * 2).min(Resolver::KEEP_FAILURE_MAX);
    }
    resolver.learn(late, ip(1), Addr::from_bytes([2; 32]));
    let long_after = late + Resolver::KEEP;
    resolver.resolve(long_after, ip(1), &packet(1));
    resolver.expire(long_after + Resolver::HOLD);
    let soon = long_after + Resolver::HOLD + Resolver::KEEP_FAILURE;
    assert_eq!(
        resolver.resolve(soon, ip(1), &packet(1)),
        Resolution::Ask,
        "an answer makes good what was before"
    );
}

#[test]
fn a_late_failure_does_not_undo_what_came_in_meanwhile() {
    let (mut resolver, now) = (Resolver::new(), Instant::now());
    let addr = Addr::from_bytes([2; 32]);
    resolver.resolve(now, ip(1), &packet(1));
    resolver.learn(now, ip(1), addr);
    resolver.fail(now, ip(1), Code::NoWay);
    assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Known(addr));
}
/// Tries addresses that nobody has, a thousand a second for `seconds`, `each` time another one.
fn flood(
    resolver: &mut Resolver,
    now: &mut Instant,
    seconds: usize,
    mut each: impl FnMut(&mut Resolver, Instant),
) -> usize {
    let mut asked = 0;
    for number in 0..seconds * 1_000 {
        *now += Duration::from_millis(1);
        resolver.expire(*now);
        let nobody = Ipv6Addr::new(0x201, 0, 0, 0, 0, 0, (number >> 16) as u16, number as u16);
        asked += usize::from(resolver.resolve(*now, nobody, &packet(100)) == Resolution::Ask);
        each(resolver, *now);
    }
    asked
}

#[test]
fn a_flood_of_addresses_that_nobody_has_costs_the_network_little_and_takes_nothing_from_what_is_known() {
    let (mut resolver, mut now) = (Resolver::new(), Instant::now());
    for destination in 0..Resolver::ANSWERS as u16 {
        resolver.learn(now, ip(destination), Addr::from_bytes([1; 32]));
    }
    let asked = flood(&mut resolver, &mut now, 60, |resolver, now| {
        assert_eq!(resolver.resolve(now, ip(7), &packet(1)), Resolution::Known(Addr::from_bytes([1; 32])));
        assert!(resolver.pending.len() <= Resolver::PENDING && resolver.held_bytes() <= Resolver::HELD_BYTES);
        assert!(
            resolver.failed.len() <= Resolver::FAILURES && resolver.turned_away.len() <= Resolver::FAILURES
        );
    });
    assert_eq!(resolver.known.len(), Resolver::ANSWERS, "all of it is still known");
    let (burst, each_second) = Resolver::VAIN;
    assert!(asked >= 60 * each_second as usize, "{asked}: some are searched for all the same");
    assert!(asked <= (burst + 61 * each_second) as usize, "{asked} searches");
}

#[test]
fn who_asks_again_is_searched_for_in_spite_of_a_flood() {
    let (mut resolver, mut now) = (Resolver::new(), Instant::now());
    flood(&mut resolver, &mut now, 30, |_, _| {});
    assert_eq!(resolver.resolve(now, ip(1), &packet(1)), Resolution::Full);
    let again = now + Resolver::PATIENCE;
    let mut found = None;
    // As TCP does: a second later, three seconds later.
    flood(&mut resolver, &mut now, 3, |resolver, now| {
        if now == again + Duration::from_millis(500) {
            found = Some(resolver.resolve(now, ip(1), &packet(1)));
        }
    });
    assert_eq!(found, Some(Resolution::Ask));
}

#[test]
fn searches_that_are_answered_cost_nothing() {
    let (mut resolver, now) = (Resolver::new(), Instant::now());
    for destination in 0..10_000 {
        assert_eq!(resolver.resolve(now, ip(destination), &packet(1)), Resolution::Ask, "{destination}");
        resolver.learn(now, ip(destination), Addr::from_bytes([1; 32]));
    }
    for destination in 0..10_000 {
        let other = Ipv6Addr::new(0x202, 0, 0, 0, 0, 0, 0, destination);
        assert_eq!(
            resolver.resolve(now, other, &packet(1)),
            Resolution::Ask,
            "refused, not searched for: {destination}"
        );
        resolver.fail(now, other, Code::ManconUnsatisfied);
    }
}
