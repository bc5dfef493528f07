//! Tests of ICMPv6 errors.

use proptest::prelude::*;

use super::*;
use crate::testing::{fragment, icmp, ipv6, node, udp, udp_body};

#[test]
fn the_checksum_is_the_one_worked_out_by_hand() {
    let body = [0x80, 0, 0, 0, 0x12, 0x34, 0, 1, 0, 1, 2, 3, 4, 5, 6, 7];
    let sum = checksum(Ipv6Addr::LOCALHOST, Ipv6Addr::LOCALHOST, ICMP, &body);
    // 1 + 1 + 58 + 16 + 0x8000 + 0x1234 + 1 + 1 + 0x0203 + 0x0405 + 0x0607 = 0x9e91, inverted.
    assert_eq!(sum, !0x9e91);
}

#[test]
fn an_error_goes_back_to_the_sender_and_quotes_the_packet() {
    let (a, b) = (node(1).1, node(2).1);
    let about = udp(a, b, (1, 2), b"lost");
    for (notice, kind, code, field) in [
        (Notice::NoRoute, 1, 0, 0),
        (Notice::Prohibited, 1, 1, 0),
        (Notice::AddressUnreachable, 1, 3, 0),
        (Notice::PortUnreachable, 1, 4, 0),
        (Notice::TooBig(1400), 2, 0, 1400),
        (Notice::TooBig(600), 2, 0, 1280),
    ] {
        let error = notice.packet(&about).unwrap();
        let read = Packet::parse(&error).unwrap();
        assert_eq!((read.source, read.destination), (b, a), "{notice:?}");
        assert_eq!(error[HEADER..HEADER + 2], [kind, code], "{notice:?}");
        assert_eq!(error[HEADER + 4..HEADER + 8], u32::to_be_bytes(field), "{notice:?}");
        assert_eq!(error[HEADER + 8..], about, "{notice:?}");
    }
}

#[test]
fn no_error_is_sent_about_errors_groups_or_later_fragments() {
    let (a, b) = (node(1).1, node(2).1);
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut later = fragment(17, 10, false, 1);
    later.extend(b"the rest");
    for about in [
        Notice::NoRoute.packet(&udp(a, b, (1, 2), b"")).unwrap(),
        udp(a, group, (1, 2), b""),
        udp(Ipv6Addr::UNSPECIFIED, b, (1, 2), b""),
        ipv6(a, b, 44, &later),
        icmp(a, b, 137, 0, b""),
        Bytes::from_static(b"no packet"),
    ] {
        assert_eq!(Notice::NoRoute.packet(&about), None, "{about:?}");
    }
    assert!(Notice::NoRoute.packet(&icmp(a, b, 128, 1, b"")).is_some());
}

#[test]
fn every_code_has_its_notice() {
    assert_eq!(Notice::for_code(Code::ManconUnsatisfied), Some(Notice::Prohibited));
    assert_eq!(Notice::for_code(Code::NoWay), Some(Notice::NoRoute));
    assert_eq!(Notice::for_code(Code::Down), Some(Notice::AddressUnreachable));
    assert_eq!(Notice::for_code(Code::Unknown), Some(Notice::AddressUnreachable));
    assert_eq!(Notice::for_code(Code::Refused), Some(Notice::PortUnreachable));
    assert_eq!(Notice::for_code(Code::TooLong), Some(Notice::TooBig(1280)));
    assert_eq!(Notice::for_code(Code::Busy), None);
}

#[test]
fn a_limiter_allows_its_burst_and_then_its_rate() {
    let (mut limiter, begin) = (Limiter::new(5, 10), Instant::now());
    let taken = |limiter: &mut Limiter, now| (0..1000).filter(|_| limiter.take(now)).count();
    assert_eq!(taken(&mut limiter, begin), 5);
    assert_eq!(taken(&mut limiter, begin + Duration::from_millis(99)), 0);
    assert_eq!(taken(&mut limiter, begin + Duration::from_millis(250)), 2);
    assert_eq!(taken(&mut limiter, begin + Duration::from_millis(300)), 1);
    assert_eq!(taken(&mut limiter, begin + Duration::from_secs(3600)), 5);
}

proptest! {
    #[test]
    fn every_error_is_whole_fits_and_has_a_right_checksum(
        payload in proptest::collection::vec(any::<u8>(), 0..3000),
        mtu in 0usize..100_000,
        from: u64,
    ) {
        let (a, b) = (node(from).1, node(2).1);
        let about = ipv6(a, b, 17, &udp_body((1, 2), &payload));
        let error = Notice::TooBig(mtu).packet(&about).expect("an error about a datagram");
        prop_assert!(error.len() <= MINIMUM_MTU);
        prop_assert!(Packet::parse(&error).is_ok());
        prop_assert_eq!(checksum(b, a, ICMP, &error[HEADER..]), 0);
    }
}
