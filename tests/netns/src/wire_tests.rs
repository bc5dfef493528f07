//! Tests of the fault model.

use super::*;

/// Sends `count` numbered frames, one each `gap`, and gives back the numbers in order of arrival, with travel times.
fn send(lane: &mut Lane, count: u32, gap: Duration) -> Vec<(u32, Duration)> {
    let begin = Instant::now();
    let mut arrived = Vec::new();
    for number in 0..count {
        let now = begin + gap * number;
        drain(lane, now, begin, gap, &mut arrived);
        lane.push(now, frame(number));
    }
    drain(lane, begin + Duration::from_secs(3600), begin, gap, &mut arrived);
    arrived
}

fn drain(lane: &mut Lane, until: Instant, begin: Instant, gap: Duration, arrived: &mut Vec<(u32, Duration)>) {
    while let Some(at) = lane.next().filter(|at| *at <= until) {
        let frame = lane.pop(at).unwrap();
        let number = u32::from_be_bytes(frame[96..].try_into().unwrap());
        arrived.push((number, at - (begin + gap * number)));
    }
}

/// 100 bytes that end in their number.
fn frame(number: u32) -> Vec<u8> {
    let mut frame = vec![0; 96];
    frame.extend(number.to_be_bytes());
    frame
}

/// An Ethernet frame with IPv4, this protocol number and these ports, between 10.0.0.1 and 10.0.0.2.
fn ipv4(protocol: u8, source: u16, destination: u16) -> Vec<u8> {
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00]);
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend(source.to_be_bytes());
    frame.extend(destination.to_be_bytes());
    frame.extend([0, 8, 0, 0]);
    frame
}

#[test]
fn a_perfect_wire_changes_nothing() {
    let arrived = send(&mut Lane::new(1, Faults::default()), 1000, Duration::from_micros(10));
    let expected: Vec<_> = (0..1000).map(|number| (number, Duration::ZERO)).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn the_same_seed_gives_the_same_faults_and_another_seed_others() {
    let faults = Faults { jitter_ms: 3.0, reorder: 0.1, duplicate: 0.1, ..Faults::lossy(10.0, 0.1) };
    let run = |seed| send(&mut Lane::new(seed, faults.clone()), 500, Duration::from_millis(1));
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}

#[test]
fn about_the_wanted_share_is_lost() {
    let mut lane = Lane::new(2, Faults::lossy(0.0, 0.01));
    let arrived = send(&mut lane, 100_000, Duration::from_micros(1)).len() as u64;
    assert_eq!(lane.counters().lost + arrived, 100_000);
    assert!((800..1200).contains(&lane.counters().lost), "{} of 100000 were lost", lane.counters().lost);
}

#[test]
fn jitter_stays_in_its_bounds_and_keeps_the_order() {
    let faults = Faults { delay_ms: 20.0, jitter_ms: 10.0, ..Faults::default() };
    let arrived = send(&mut Lane::new(3, faults), 2000, Duration::from_millis(1));
    assert!(arrived.iter().all(|(_, took)| (20..=30).contains(&took.as_millis())));
    assert!(arrived.is_sorted_by_key(|(number, _)| *number));
    let slowest = arrived.iter().map(|(_, took)| *took).max().unwrap();
    assert!(slowest > Duration::from_millis(28), "the slowest took {slowest:?}");
}

#[test]
fn reordered_frames_are_overtaken() {
    let faults = Faults { reorder: 0.1, ..Faults::lossy(5.0, 0.0) };
    let mut lane = Lane::new(4, faults);
    let arrived = send(&mut lane, 1000, Duration::from_millis(1));
    assert_eq!(arrived.len(), 1000);
    let late = arrived.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
    assert!(lane.counters().reordered > 50 && late > 50, "{late} were overtaken");
}

#[test]
fn duplicates_arrive_twice() {
    let mut lane = Lane::new(5, Faults { duplicate: 0.5, ..Faults::default() });
    let arrived = send(&mut lane, 1000, Duration::from_millis(1)).len() as u64;
    assert_eq!(arrived, 1000 + lane.counters().duplicated);
    assert!((400..600).contains(&lane.counters().duplicated));
}

#[test]
fn the_rate_is_kept_and_its_queue_is_bounded() {
    // 100 bytes each at 80,000 bits a second: one frame each 10 ms; ten of them may wait.
    let faults = Faults { rate: Some(80_000), queue: 1000, ..Faults::default() };
    let mut lane = Lane::new(6, faults);
    let arrived = send(&mut lane, 500, Duration::from_millis(1));
    assert_eq!(lane.counters().overflowed + arrived.len() as u64, 500);
    assert!((50..=61).contains(&arrived.len()), "{} passed in 500 ms", arrived.len());
    assert!(arrived.iter().all(|(_, took)| *took <= Duration::from_millis(101)));
}

#[test]
fn long_frames_vanish_at_the_mtu() {
    let mut lane = Lane::new(7, Faults { mtu: Some(86), ..Faults::default() });
    let now = Instant::now();
    lane.push(now, vec![0; 100]);
    lane.push(now, vec![0; 101]);
    assert_eq!(lane.pop(now).map(|frame| frame.len()), Some(100));
    assert_eq!((lane.pop(now), lane.counters().too_long), (None, 1));
}

#[test]
fn rules_drop_what_they_name_and_nothing_else() {
    let rule = |protocol, host: Option<&str>, port| Matcher {
        protocol,
        host: host.map(|host| host.parse().unwrap()),
        port,
    };
    for (rule, udp_passes, tcp_passes) in [
        (rule(Some(Protocol::Udp), None, None), false, true),
        (rule(None, None, Some(2561)), false, true),
        (rule(Some(Protocol::Tcp), None, Some(2561)), true, true),
        (rule(None, Some("10.0.0.2"), None), false, false),
        (rule(None, Some("10.0.0.3"), None), true, true),
    ] {
        let mut lane = Lane::new(8, Faults { drop: vec![rule.clone()], ..Faults::default() });
        let now = Instant::now();
        for (frame, passes) in [(ipv4(17, 4000, 2561), udp_passes), (ipv4(6, 4000, 80), tcp_passes)] {
            lane.push(now, frame);
            assert_eq!(lane.pop(now).is_some(), passes, "{rule:?}");
        }
        // What is no IP, such as ARP, always passes.
        lane.push(now, vec![0; 60]);
        assert!(lane.pop(now).is_some());
    }
}

#[test]
fn a_cut_wire_drops_what_is_under_way_and_carries_again_once_restored() {
    let mut lane = Lane::new(9, Faults::lossy(10.0, 0.0));
    let now = Instant::now();
    lane.push(now, frame(1));
    lane.set(Faults { cut: true, ..Faults::lossy(10.0, 0.0) });
    lane.push(now, frame(2));
    assert_eq!((lane.next(), lane.counters().cut), (None, 2));
    lane.set(Faults::lossy(10.0, 0.0));
    lane.push(now, frame(3));
    assert_eq!(lane.pop(now + Duration::from_millis(9)), None);
    assert_eq!(lane.pop(now + Duration::from_millis(10)), Some(frame(3)));
}

#[test]
fn cut_short_frames_are_no_ip() {
    let whole = ipv4(17, 1, 2);
    for length in 0..whole.len() {
        let read = Frame::parse(&whole[..length]);
        assert!(read.is_none_or(|frame| frame.ports.is_none()) || length >= 38, "{length} bytes: {read:?}");
    }
    assert_eq!(Frame::parse(&whole).and_then(|frame| frame.ports), Some((1, 2)));
    let mut ipv6 = vec![0; 54];
    ipv6[12..14].copy_from_slice(&[0x86, 0xdd]);
    ipv6[20] = 58;
    for length in 0..54 {
        assert_eq!(Frame::parse(&ipv6[..length]), None);
    }
    assert_eq!(Frame::parse(&ipv6).map(|frame| frame.protocol), Some(Protocol::Icmp));
}

#[test]
fn congestion_marks_only_packets_that_say_they_understand_it() {
    let mut lane = Lane::new(1, Faults { congested: 1.0, ..Faults::default() });
    for (ecn, marked) in [(0, 0), (1, 3), (2, 3), (3, 3)] {
        let mut v4 = ipv4(17, 1, 2);
        v4[15] = 0x28 << 2 | ecn;
        let mut v6 = vec![0; 54];
        v6[12..16].copy_from_slice(&[0x86, 0xdd, 0x6a, 0x05 | ecn << 4]);
        for (frame, at, shift) in [(v4, 15, 0), (v6, 15, 4)] {
            lane.push(Instant::now(), frame.clone());
            let left = lane.pop(lane.next().unwrap()).unwrap();
            assert_eq!(left[at] >> shift & 3, marked);
            assert_eq!(left[at] & !(3 << shift), frame[at] & !(3 << shift), "the rest stays");
            if left[12] == 0x08 && left != frame {
                let words = left[14..34].chunks_exact(2);
                let sum: u32 = words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
                assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the header's checksum");
            }
        }
    }
    assert_eq!(lane.counters().marked, 4);
}
