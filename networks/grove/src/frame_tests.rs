use std::sync::Arc;

use byway_identity::Addr;
use byway_network::Cost;
use proptest::prelude::*;

use super::*;
use crate::cert::Cert;
use crate::cert::Seq;
use crate::cert::tests::{cert, key, network};
use crate::coords::Place;
use crate::location::tests::location;

pub(crate) fn coords() -> Coords {
    let place = |index| Place {
        tree: TreeId::new(Plane::Any, index),
        root: [index; 4],
        steps: Box::new([
            Step { label: 5, cost: 60 },
            Step { label: 300, cost: Cost::from_units(90_000).encode() },
        ]),
    };
    Coords::new(vec![place(0), place(2)])
}

/// One of each kind at least.
pub(crate) fn samples() -> Vec<Frame> {
    let hello = Hello {
        leaf: false,
        answer: true,
        boot: 1 << 40,
        cost: 60,
        certs: 1 << 50,
        filters: 7,
        view: 2,
        key: None,
    };
    let pulse = Pulse::make(&key(5), &network(), TreeId::new(Plane::Any, 1), Seq { boot: 4, counter: 88 });
    let cert = cert(1, 2, 3);
    let items = vec![Item::Offer(cert.offer.claim().clone()), Item::Cert(cert.claim()), Item::Pulse(pulse)];
    let tree = TreeId::new(Plane::Any, 3);
    let filter = |summary| Frame::Filter { tree, version: 9, count: 70, summary };
    let sketch = Sketch::new(&coords(), &Coords::default());
    let told = Told { id: ShortId([3; 8]), class: Class::UDP, cost: 80, sketch };
    let sights = vec![Sight::There(told), Sight::Gone(ShortId([4; 8]), Family::Tor)];
    let manner = Manner { sample: false, wide: true, down: false, fresh: true };
    let addr = Addr::from_bytes([0xab; 32]);
    let lookup = |prefix| {
        Frame::Lookup(Lookup { tree, manner, prefix, nonce: 1 << 60, ttl: 64, way: vec![1, 2, 16_000] })
    };
    vec![
        Frame::Hello(hello),
        Frame::Hello(Hello { leaf: true, answer: false, key: Some([8; 32]), ..hello }),
        Frame::Certs(items),
        Frame::Certs(Vec::new()),
        Frame::Home { version: 3, step: Step { label: 9, cost: 1 }, coords: coords() },
        filter(Summary::Whole(Bits::Full)),
        filter(Summary::Whole([1, 5, 8_191].into_iter().collect())),
        filter(Summary::Whole((0..500).collect())),
        filter(Summary::More(vec![7, 9])),
        Frame::View { version: 4, whole: true, sights },
        lookup(Prefix::whole(addr)),
        lookup(Prefix::new(addr.as_bytes(), 122).expect("122 bits are there")),
        lookup(Prefix::new(&[0], 0).expect("0 bits are there")),
        Frame::Found { plane: Plane::Any, nonce: 5, way: vec![9], location: Box::new(location(3, coords())) },
        Frame::Moved { ttl: 9, location: Box::new(location(3, coords())) },
    ]
}

fn parse(bytes: &[u8]) -> Result<Frame, FrameError> {
    Frame::parse(bytes, Family::Ip)
}

#[test]
fn every_frame_is_read_as_it_was_written() {
    for frame in samples() {
        assert_eq!(parse(&frame.emit()), Ok(frame));
    }
}

#[test]
fn a_truncated_frame_and_a_byte_too_much_are_errors() {
    for frame in samples() {
        let bytes = frame.emit();
        for length in 0..bytes.len() {
            assert_eq!(parse(&bytes[..length]), Err(Malformed::Truncated.into()), "{frame:?}");
        }
        assert_eq!(parse(&[&bytes[..], &[0]].concat()), Err(Malformed::Trailing.into()), "{frame:?}");
    }
}

#[test]
fn a_frame_outside_its_plane_is_refused_before_the_rest_is_looked_at() {
    for kind in [FILTER, LOOKUP, FOUND] {
        let byte = if kind == FOUND { Plane::Anon.byte() } else { TreeId::new(Plane::Anon, 0).byte() };
        assert_eq!(parse(&[kind, byte, 0xff]), Err(FrameError::Plane));
        let inside = Frame::parse(&[kind, byte, 0xff], Family::Tor);
        assert_ne!(inside, Err(FrameError::Plane));
    }
}

#[test]
fn a_certificate_for_a_tree_outside_its_class_is_refused() {
    let genuine = cert(1, 2, 3);
    let tree = TreeId::new(Plane::Anon, 0);
    let cert = Cert::make(&key(1), &network(), Arc::clone(&genuine.offer), tree, genuine.seq);
    assert!(parse(&Frame::Certs(vec![Item::Cert(cert.claim())]).emit()).is_err());
}

#[test]
fn lists_longer_than_allowed_are_refused() {
    let tree = TreeId::new(Plane::Any, 0);
    let summary = Summary::More((0..=MORE_MAX as u16).collect());
    assert!(parse(&Frame::Filter { tree, version: 1, count: 1, summary }.emit()).is_err());
    let gone = |at: usize| Sight::Gone(ShortId([at as u8; 8]), Family::Ip);
    let sights = (0..=2 * VIEW_MAX).map(gone).collect();
    assert!(parse(&Frame::View { version: 1, whole: false, sights }.emit()).is_err());
    let items = vec![Item::Cert(cert(1, 2, 3).claim()); ITEMS_MAX + 1];
    assert!(parse(&Frame::Certs(items).emit()).is_err());
    assert!(way(&mut Reader::new(&[128; 400])).is_err());
    assert!(way(&mut Reader::new(&[1, 0x40, 0])).is_err(), "a label of 2^14");
}

proptest! {
    #[test]
    fn a_frame_has_one_encoding(mut bytes: Vec<u8>, kind in 0u8..9) {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        if let Ok(frame) = parse(&bytes) {
            prop_assert_eq!(&frame.emit()[..], &bytes[..]);
        }
    }

    #[test]
    fn a_mutated_frame_has_one_encoding(which: prop::sample::Index, at: prop::sample::Index, byte: u8) {
        let samples = samples();
        let mut bytes = samples[which.index(samples.len())].emit().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(frame) = parse(&bytes) {
            prop_assert_eq!(&frame.emit()[..], &bytes[..]);
        }
    }
}
