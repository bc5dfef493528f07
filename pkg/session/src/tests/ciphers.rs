//! Which cipher two sides agree on, and that nobody between them has a say in it.

use std::time::{Duration, Instant};

use byway_identity::SeededEntropy;

use super::world::{UNIX, World, config, pattern};
use crate::cipher::{Chain, Cipher};
use crate::handshake::{HandshakeError, Head, Keys, end_to_end, link};
use crate::keys::LocalKeys;
use crate::noise::Pattern;
use crate::{Ciphers, Config, Use};

const NONE: Ciphers = Ciphers { aes: false, aegis: false };
const AEGIS_ALONE: Ciphers = Ciphers { aes: false, aegis: true };
const ALL: Ciphers = Ciphers { aes: true, aegis: true };

/// Body of m1: changed, on its way. Body of m2, likewise.
type Between<'a> = &'a dyn Fn(&mut Vec<u8>);

/// A handshake of fixed randomness, with what each side has; `m1` and `m2` are who is between them.
fn shake(
    usage: Use,
    offer: u8,
    responder: Ciphers,
    m1: Between<'_>,
    m2: Between<'_>,
) -> Result<(Keys, Keys), HandshakeError> {
    let now = Instant::now();
    let party = |seed| {
        let mut entropy = SeededEntropy::new(seed);
        LocalKeys::new(now, UNIX, 1, config(usage, seed).key, None, &mut entropy)
    };
    let (ours, theirs) = (party(1), party(2));
    let (ours, theirs) = (ours.current(), theirs.current());
    let mut entropy = SeededEntropy::new(3);
    let pattern = if usage == Use::Link { Pattern::Link } else { Pattern::EndToEnd };
    let version = theirs.record.content.version as u8;
    let head = Head { pattern, plane: 0, version, index: 300 };
    let addr = &theirs.record.addr;
    match usage {
        Use::Link => {
            let remote = &theirs.record.content.x25519;
            let (mut a, mut body) =
                link::Initiator::start(&head, addr, remote, &ours.x25519, offer, &mut entropy)?;
            m1(&mut body);
            let (mut b, mut body) = link::Responder::start(
                &head,
                addr,
                &body,
                &theirs.x25519,
                301,
                responder,
                None,
                &mut entropy,
            )?;
            m2(&mut body);
            let (_, cipher, m3) = a.finish(&body, &ours.short, None)?;
            b.finish(&m3)?;
            Ok((a.keys(cipher)?, b.keys()?))
        }
        Use::EndToEnd => {
            let own =
                end_to_end::Own { local: &ours.x25519, record: &ours.short, ciphers: offer, early: b"" };
            let (mut a, mut body) =
                end_to_end::Initiator::start(&head, &theirs.record, &own, None, &mut entropy)?;
            m1(&mut body);
            let b = end_to_end::Responder::open(&head, addr, &body, theirs, responder, None, &mut entropy)?;
            let (mut body, keys) = b.answer(301, false, None, &mut entropy)?;
            m2(&mut body);
            let answer = a.finish(&body, None)?;
            Ok((a.keys(answer.cipher)?, keys))
        }
    }
}

fn nobody(_: &mut Vec<u8>) {}

#[test]
fn each_pair_agrees_on_the_best_cipher_that_both_want_and_frames_pass_in_it() {
    let cases = [
        (NONE, NONE, "ChaCha20-Poly1305"),
        (Ciphers::AES, NONE, "ChaCha20-Poly1305"),
        (Ciphers::AES, Ciphers::AES, "AES-256-GCM"),
        (ALL, Ciphers::AES, "AES-256-GCM"),
        (ALL, AEGIS_ALONE, "AEGIS-128L"),
        (AEGIS_ALONE, Ciphers::AES, "ChaCha20-Poly1305"),
        (ALL, ALL, "AEGIS-128L"),
    ];
    for usage in [Use::Link, Use::EndToEnd] {
        for (one, other, name) in cases {
            for (a, b) in [(one, other), (other, one)] {
                let mut world = World::new(usage, 1);
                world.add(Config { ciphers: a, ratchet: Duration::from_secs(1), ..config(usage, 1) });
                world.add(Config { ciphers: b, ratchet: Duration::from_secs(1), ..config(usage, 2) });
                let (from, to) = world.link_up();
                for length in [0, 1, 15, 16, 31, 32, 100, 1368, 5000] {
                    world.send(0, from, &pattern(length, 1));
                    world.send(1, to, &pattern(length, 2));
                    world.run_for(Duration::from_millis(700));
                    assert_eq!(world.received(1).last().expect("it opens"), &pattern(length, 1), "{name}");
                    assert_eq!(world.received(0).last().expect("it opens"), &pattern(length, 2), "{name}");
                }
                for node in &world.nodes {
                    assert_eq!(node.sessions()[0].cipher, name, "{usage:?} {a:?} {b:?}");
                    assert_eq!(node.counters().forged, 0);
                }
            }
        }
    }
}

#[test]
fn an_offer_that_was_changed_on_its_way_opens_nothing() {
    for usage in [Use::Link, Use::EndToEnd] {
        let offer = Cipher::offer(Ciphers::AES);
        let mut lengths = (0, 0);
        let (a, _) = shake(usage, offer, Ciphers::AES, &nobody, &nobody).expect("untouched, it works");
        assert_eq!(a.cipher, Cipher::Aes256Gcm);
        // Where the one byte that differs between two offers is, both messages being as long: nowhere in clear.
        let first = std::cell::RefCell::new(Vec::new());
        let keep = |body: &mut Vec<u8>| first.borrow_mut().push(body.clone());
        shake(usage, offer, Ciphers::AES, &keep, &keep).expect("untouched");
        shake(usage, offer & !Cipher::PREFERS_AES, Ciphers::AES, &keep, &keep).expect("untouched");
        let seen = first.into_inner();
        lengths.0 = seen[0].len();
        lengths.1 = seen[1].len();
        // The same randomness, so all that is not below the cipher is the same: the offer shows where it stands.
        let at = (0..lengths.0).find(|at| seen[0][*at] != seen[2][*at]).expect("the offer is in m1");
        assert_eq!(seen[0][at] ^ seen[2][at], Cipher::PREFERS_AES, "{usage:?}: it is this byte");
        for bit in 0..8 {
            let flip = |body: &mut Vec<u8>| body[at] ^= 1 << bit;
            let refused = shake(usage, offer, ALL, &flip, &nobody).err();
            assert_eq!(refused, Some(HandshakeError::Noise), "{usage:?}: bit {bit} of the offer");
        }
        // Of m2 every bit: the cipher that was chosen is one of its bytes.
        for at in 0..lengths.1 {
            let flip = |body: &mut Vec<u8>| body[at] ^= 1 << (at % 8);
            assert!(shake(usage, offer, ALL, &nobody, &flip).is_err(), "{usage:?}: byte {at} of m2");
        }
    }
}

#[test]
fn keys_hang_on_the_offer_even_where_the_choice_does_not() {
    for usage in [Use::Link, Use::EndToEnd] {
        let keys = |offer| {
            let (a, b) = shake(usage, offer, NONE, &nobody, &nobody).expect("untouched");
            assert_eq!((a.cipher, b.cipher), (Cipher::ChaCha20Poly1305, Cipher::ChaCha20Poly1305));
            assert_eq!(a.send.reveal(), b.receive.reveal());
            assert_eq!(a.receive.reveal(), b.send.reveal());
            (a.send.reveal(), a.receive.reveal())
        };
        let (with, without) = (keys(Cipher::offer(Ciphers::AES)), keys(Cipher::offer(NONE)));
        assert!(with.0 != without.0 && with.1 != without.1, "{usage:?}: the offer is in the transcript");
    }
}

#[test]
fn a_cipher_that_was_not_offered_is_not_taken() {
    let offers = [NONE, Ciphers::AES, AEGIS_ALONE, ALL].map(Cipher::offer);
    for offer in offers {
        for number in 0..=255 {
            let fits = matches!(number, 1..=3) && offer & 1 << number != 0;
            assert_eq!(Cipher::chosen(number, offer).is_some(), fits, "{number} of {offer:08b}");
        }
    }
    // A responder that wants AEGIS chooses it only if the offer says so, whatever else the offer says.
    for offer in 0..=255 {
        let choice = Cipher::choose(offer, ALL);
        assert!(choice != Some(Cipher::Aegis128L) || offer & 8 != 0);
        assert!(choice.is_none_or(|cipher| Cipher::chosen(cipher as u8, offer).is_some()));
        assert!(Cipher::choose(offer, Ciphers::AES) != Some(Cipher::Aegis128L));
    }
}

/// Test vector 1 of `draft-irtf-cfrg-aegis-aead`, AEGIS-128L, is met by the library's own tests; here is what Byway makes of
/// it: which bytes of the key it takes, and where the counter stands in the nonce.
#[test]
fn aegis_takes_the_first_half_of_the_key_and_a_nonce_of_zeros_and_the_counter() {
    let chain = Chain::new(Cipher::Aegis128L, &[1; 32], &[2; 32]);
    let key: [u8; 16] = chain.reveal()[..16].try_into().expect("half of 32");
    let counter = 0x0102_0304_0506_0708_u64;
    let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1];
    let (mut body, head) = (*b"what a frame holds", *b"and its head");
    let tag = chain.key().seal(counter, &head, &mut body).expect("it fits");
    let by_library = aegis::aegis128l::Aegis128L::<16>::new(&key, &nonce);
    let (expected, expected_tag) = by_library.encrypt(b"what a frame holds", &head);
    assert_eq!((&body[..], tag), (&expected[..], expected_tag));
    let mut sealed = body.to_vec();
    sealed.extend_from_slice(&tag);
    assert_eq!(chain.key().open(counter, &head, &mut sealed.clone()), Some(body.len()));
    for at in 0..sealed.len() {
        let mut forged = sealed.clone();
        forged[at] ^= 1;
        assert_eq!(chain.key().open(counter, &head, &mut forged), None, "byte {at}");
    }
    assert_eq!(chain.key().open(counter + 1, &head, &mut sealed.clone()), None);
    assert_eq!(chain.key().open(counter, b"another head", &mut sealed), None);
    assert_eq!(chain.key().open(counter, &head, &mut sealed[..15]), None);
}
