//! Cutting and joining are each other's inverse, and every piece is a packet that any host takes.

use byway_identity::Addr;
use proptest::prelude::*;

use crate::checksum::{self, tests::is_right};
use crate::merge::{self, Growing};
use crate::packet::Upper;
use crate::split::Plan;
use crate::testing::{Super, World};
use crate::vnet::{self, Gso, GsoKind, Header};

fn nodes() -> [Addr; 2] {
    let world = World::new(2, byway_session::Ciphers::default());
    [world.nodes[0], world.nodes[1]]
}

fn read(shape: &Super) -> (Header, Vec<u8>) {
    let [from, to] = nodes();
    let bytes = shape.read(&from, &to);
    let header = Header::parse(bytes.first_chunk().expect("a header")).expect("a known type");
    (header, bytes[vnet::LENGTH..].to_vec())
}

fn split(header: &Header, packet: &[u8]) -> Vec<Vec<u8>> {
    let plan = Plan::new(header, packet).expect("a sound read");
    (0..plan.count())
        .map(|index| {
            let mut segment = vec![0xee; plan.segment(index)];
            plan.write(packet, index, &mut segment);
            segment
        })
        .collect()
}

/// All that can be joined, joined.
fn merge(segments: &[Vec<u8>]) -> Vec<(Header, Vec<u8>)> {
    let mut wholes = Vec::new();
    let mut rest = segments;
    while let Some((first, others)) = rest.split_first() {
        let mut growing = Growing::begin(first, Upper::of(first).expect("partial"));
        let mut first = first.clone();
        let mut tail = Vec::new();
        rest = others;
        while let Some((next, others)) = rest.split_first()
            && let upper = Upper::of(next).expect("partial")
            && growing.take(&first, next, upper)
        {
            tail.extend_from_slice(&next[upper.headers..]);
            rest = others;
        }
        let header = growing.finish(&mut first);
        first.extend_from_slice(&tail);
        wholes.push((header, first));
    }
    wholes
}

fn shapes() -> impl Strategy<Value = Super> {
    let sizes = (1u16..3000, 1usize..20_000);
    (any::<bool>(), sizes, 0usize..=10, any::<u8>(), any::<u8>(), any::<u32>()).prop_map(
        |(is_tcp, (size, payload), options, flags, class, sequence)| {
            let payload = payload.min(usize::from(size) * merge::SEGMENTS);
            // ACK, with PSH, FIN, ECE and CWR as they come.
            let flags = 0x10 | flags & 0xc9;
            Super { is_tcp, size, payload, options: options * 4, flags, class, sequence, port: 40_000 }
        },
    )
}

proptest! {
    #[test]
    fn what_was_split_merges_to_what_it_was(shape in shapes()) {
        let (header, packet) = read(&shape);
        let segments = split(&header, &packet);
        let expected = shape.payload.div_ceil(usize::from(shape.size));
        prop_assert_eq!(segments.len(), expected);
        let wholes = merge(&segments);
        prop_assert_eq!(wholes.len(), 1);
        let (merged, whole) = &wholes[0];
        prop_assert_eq!(whole, &packet);
        prop_assert_eq!(merged, &header);
    }

    #[test]
    fn every_segment_is_right_once_finished_and_its_partial_sum_is_the_kernels(shape in shapes()) {
        let (header, packet) = read(&shape);
        let plan = Plan::new(&header, &packet).expect("a sound read");
        for (index, segment) in split(&header, &packet).into_iter().enumerate() {
            let upper = Upper::of(&segment).expect("a whole header");
            let mut fresh = segment.clone();
            checksum::begin(&mut fresh, upper);
            prop_assert_eq!(&fresh, &segment);
            // The rest of the sum alone, as a device would add it.
            let mut by_device = segment.clone();
            checksum::finish_at(&mut by_device, 40, upper.protocol.checksum());
            prop_assert!(is_right(&by_device));
            let mut finished = vec![0; segment.len()];
            plan.write_finished(&packet, index, &mut finished);
            prop_assert_eq!(&finished, &by_device);
            prop_assert!(checksum::finish(&mut fresh));
            prop_assert_eq!(&fresh, &by_device);
        }
    }

    #[test]
    fn any_header_before_any_packet_is_cut_into_pieces_of_it_or_refused(
        bytes in any::<[u8; vnet::LENGTH]>(),
        (start, offset, size) in (38u16..70, 0u16..20, 0u16..100),
        kind in 0u8..6,
        next in prop::sample::select(vec![0u8, 6, 17, 58]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
        mend in any::<bool>(),
    ) {
        let mut packet = [&[0x60, 0, 0, 0, 0, 0, next, 9][..], &rest].concat();
        let mut header = Header::parse(&bytes).unwrap_or_default();
        if mend && packet.len() >= 40 {
            crate::packet::set_length(&mut packet);
            let mut bytes = [0; vnet::LENGTH];
            bytes[0] = 1;
            bytes[1] = kind;
            bytes[4..6].copy_from_slice(&size.to_ne_bytes());
            bytes[6..8].copy_from_slice(&start.to_ne_bytes());
            bytes[8..10].copy_from_slice(&offset.to_ne_bytes());
            header = Header::parse(&bytes).unwrap_or_default();
        }
        if let Some(plan) = Plan::new(&header, &packet) {
            let mut total = 0;
            for index in 0..plan.count() {
                let mut segment = vec![0; plan.segment(index)];
                plan.write_finished(&packet, index, &mut segment);
                prop_assert!(crate::packet::is_whole(&segment));
                prop_assert!(segment.len() <= plan.segment(0) && segment.len() <= packet.len());
                total += segment.len();
            }
            prop_assert!(total >= packet.len());
        }
    }
}

#[test]
fn flags_and_sequence_numbers_are_those_of_each_segment() {
    let shape =
        Super { flags: 0x10 | 0x89, size: 1000, payload: 2500, sequence: u32::MAX - 999, ..Super::default() };
    let (header, packet) = read(&shape);
    let segments = split(&header, &packet);
    let told: Vec<_> = segments
        .iter()
        .map(|segment| {
            (segment[53], u32::from_be_bytes([segment[44], segment[45], segment[46], segment[47]]))
        })
        .collect();
    assert_eq!(told, [(0x90, u32::MAX - 999), (0x10, 0), (0x19, 1000)]);
    assert!(segments.iter().all(|segment| crate::packet::is_whole(segment)));
}

#[test]
fn datagrams_get_their_own_length() {
    let shape = Super { is_tcp: false, size: 1000, payload: 2001, ..Super::default() };
    let (header, packet) = read(&shape);
    let lengths: Vec<_> = split(&header, &packet)
        .iter()
        .map(|segment| u16::from_be_bytes([segment[44], segment[45]]))
        .collect();
    assert_eq!(lengths, [1008, 1008, 9]);
}

#[test]
fn behind_extension_headers_the_checksum_is_finished_by_the_sender() {
    let shape = Super { size: 500, payload: 1200, ..Super::default() };
    let (mut header, packet) = read(&shape);
    // Destination options of 8 bytes before TCP; the pseudo-header's sum is over the upper layer, so it stays.
    let mut extended = [&packet[..40], &[6, 0, 1, 4, 0, 0, 0, 0], &packet[40..]].concat();
    extended[6] = 60;
    crate::packet::set_length(&mut extended);
    header.checksum = Some((48, 16));
    let plan = Plan::new(&header, &extended).expect("sound");
    assert!(!plan.is_partial());
    let segments = split(&header, &extended);
    assert_eq!(segments.len(), 3);
    let mut payload = Vec::new();
    for segment in &segments {
        assert!(crate::packet::is_whole(segment));
        let mut plain = [&segment[..40], &segment[48..]].concat();
        plain[6] = 6;
        crate::packet::set_length(&mut plain);
        assert!(is_right(&plain));
        payload.extend_from_slice(&plain[72..]);
    }
    assert_eq!(payload, packet[72..]);
}

#[test]
fn a_super_packet_without_a_checksum_to_finish_or_of_another_protocol_is_refused() {
    let (header, packet) = read(&Super::default());
    let gso = header.gso.expect("one");
    let odd = [
        Header { checksum: None, ..header },
        Header { checksum: Some((40, 6)), ..header },
        Header { checksum: Some((39, 16)), ..header },
        Header { checksum: Some((u16::MAX, 16)), ..header },
        Header { gso: Some(Gso { kind: GsoKind::Udp, ..gso }), ..header },
        Header { gso: Some(Gso { size: 0, ..gso }), ..header },
    ];
    for header in odd {
        assert!(Plan::new(&header, &packet).is_none(), "{header:?}");
    }
    assert!(Plan::new(&header, &packet[..packet.len() - 1]).is_none());
    assert!(Plan::new(&header, &[]).is_none());
    let mut unknown = header.emit();
    unknown[1] = 1;
    assert_eq!(Header::parse(&unknown), None);
}

#[test]
fn nothing_is_joined_that_differs_or_does_not_follow() {
    let (header, packet) = read(&Super { size: 1000, payload: 3000, flags: 0x10, ..Super::default() });
    let segments = split(&header, &packet);
    assert_eq!(merge(&segments).len(), 1);
    // Each place of the header that must be equal, or must follow.
    let places = [0, 1, 3, 7, 8, 23, 24, 39, 40, 41, 42, 43, 44, 47, 48, 51, 54, 55, 58, 59, 60, 71];
    for place in places {
        let mut other = segments.clone();
        other[1][place] ^= if place == 0 { 1 } else { 4 };
        assert!(merge(&other).len() > 1, "byte {place}");
    }
    for flag in [2, 4, 32, 64] {
        let mut other = segments.clone();
        other[1][53] ^= flag;
        assert_eq!(merge(&other).len(), 3, "flag {flag}");
    }
    let mut reduced = segments.clone();
    reduced[1][53] |= 128;
    let cwr: Vec<_> = merge(&reduced).iter().map(|(header, _)| header.gso.map(|gso| gso.cwr)).collect();
    assert_eq!(cwr, [None, Some(true)], "congestion window reduced is for the first alone");
    for flag in [1, 8] {
        let mut other = segments.clone();
        other[1][53] |= flag;
        assert_eq!(merge(&other).len(), 2, "nothing comes after flag {flag}");
    }
    let lengths = |segments: &[&Vec<u8>]| {
        let segments: Vec<_> = segments.iter().map(|segment| (*segment).clone()).collect();
        merge(&segments).len()
    };
    let [first, second, third] = &segments[..] else { panic!("three segments") };
    assert_eq!(lengths(&[first, third]), 2, "one is missing");
    assert_eq!(lengths(&[first, first]), 2, "twice the same");
    assert_eq!(lengths(&[second, first]), 2, "the wrong way round");
}

#[test]
fn a_chain_ends_at_a_short_segment_at_64_and_at_65535_bytes() {
    let udp = |payload: usize| {
        let shape = Super { is_tcp: false, payload, size: u16::MAX, ..Super::default() };
        read(&shape).1
    };
    let counts = |segments: &[Vec<u8>]| -> Vec<usize> {
        merge(segments).iter().map(|(_, whole)| whole.len()).collect()
    };
    assert_eq!(counts(&[udp(100), udp(100), udp(60), udp(100)]), [48 + 260, 148]);
    assert_eq!(counts(&[udp(100), udp(101)]), [148, 149]);
    assert_eq!(counts(&vec![udp(10); 70]), [48 + 640, 48 + 60]);
    assert_eq!(counts(&vec![udp(2000); 40]), [48 + 32 * 2000, 48 + 8 * 2000]);
    assert_eq!(counts(&[udp(0), udp(0)]), [48, 48]);
}
