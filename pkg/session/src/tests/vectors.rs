//! The vectors in `spec/vectors/session.json`: what any implementation must compute from fixed inputs.
//!
//! `BYWAY_WRITE_VECTORS=1 cargo test -p byway-session vectors` writes the file; ordinary runs compare it, and read it
//! back with the readers that meet strangers' bytes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use byway_identity::{Addr, Entropy, SeededEntropy, SigningKey, labelled_hash};
use serde_json::{Value, json};

use super::world::UNIX;
use crate::cipher::{Chain, Cipher};
use crate::guard;
use crate::handshake::{Head, Keys, end_to_end, link};
use crate::kem;
use crate::keys::LocalKeys;
use crate::mask::{self, Secret};
use crate::message::{self, KeyAsk, Proof, Retry};
use crate::noise::Pattern;
use crate::record::{Form, Record, membership};
use crate::{Ciphers, Inbound, Outbound, frame};

/// Gives bytes by a seed, and remembers them draw by draw.
struct Tape {
    source: SeededEntropy,
    draws: Vec<String>,
}

impl Tape {
    fn new(seed: u64) -> Self {
        Self { source: SeededEntropy::new(seed), draws: Vec::new() }
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.draws)
    }
}

impl Entropy for Tape {
    fn fill(&mut self, buffer: &mut [u8]) {
        self.source.fill(buffer);
        self.draws.push(hex::encode(buffer));
    }
}

/// An identity with session keys, and how they were drawn.
struct Party {
    keys: LocalKeys,
    addr: Addr,
    told: Value,
}

fn party(name: &str, seed: u64, group_key: Option<[u8; 32]>) -> Party {
    let key = SigningKey::generate(&mut SeededEntropy::new(seed));
    let mut tape = Tape::new(seed + 100);
    let (identity, public) = (hex::encode(*key.seed()), key.public());
    let keys = LocalKeys::new(Instant::now(), UNIX, 7, key, group_key, &mut tape);
    let draws = tape.take();
    let [prekey_x25519, prekey_kem, x25519, kem] = &draws[..] else { panic!("four draws") };
    let record = &keys.current().record;
    let told = json!({
        "kind": "party", "name": name,
        "identity_seed": identity,
        "public_key": hex::encode(public.to_bytes()),
        "address": public.addr().to_string(),
        "x25519_secret": x25519, "mlkem_seed": kem,
        "prekey_x25519_secret": prekey_x25519, "prekey_mlkem_seed": prekey_kem,
        "version": UNIX, "boot": 7, "from": UNIX, "until": UNIX + 7 * 24 * 3600,
        "group_key": group_key.map(hex::encode),
        "membership": group_key.map(|key| hex::encode(membership(&key, &public.addr()))),
        "record_short": hex::encode(record.emit(Form::Short)),
        "record_whole": hex::encode(record.emit(Form::Whole)),
        "record_digest": hex::encode(record.digest),
    });
    Party { keys, addr: public.addr(), told }
}

fn chain(chain: &Chain) -> Value {
    json!([
        hex::encode(chain.reveal()),
        hex::encode(chain.next().reveal()),
        hex::encode(chain.next().next().reveal())
    ])
}

fn keys(keys: &Keys) -> Value {
    json!({ "cipher": keys.cipher as u8, "initiator_epochs": chain(&keys.send), "responder_epochs": chain(&keys.receive) })
}

fn link_handshake(a: &Party, b: &Party, group_key: Option<&[u8; 32]>) -> Value {
    let (ours, theirs) = (a.keys.current(), b.keys.current());
    let version = theirs.record.content.version as u8;
    let head = Head { pattern: Pattern::Link, plane: 0, version, index: 0x1122_3344 };
    let mut tape = Tape::new(1);
    let offer = Cipher::offer(Ciphers::AES);
    let remote = theirs.record.content.x25519;
    let (mut initiator, m1) =
        link::Initiator::start(&head, &b.addr, &remote, &ours.x25519, offer, &mut tape).expect("good keys");
    let initiator_draws = tape.take();
    let (mut responder, m2) = link::Responder::start(
        &head,
        &b.addr,
        &m1,
        &theirs.x25519,
        0x5566_7788,
        Ciphers::AES,
        group_key,
        &mut tape,
    )
    .expect("m1 opens");
    let responder_draws = tape.take();
    let (index, cipher, m3) = initiator.finish(&m2, &ours.short, group_key).expect("m2 opens");
    assert_eq!(index, 0x5566_7788);
    assert_eq!(responder.finish(&m3).expect("m3 opens"), Record::open(&ours.short).expect("its own record"));
    let (initiator, responder) = (initiator.keys(cipher).expect("done"), responder.keys().expect("done"));
    assert_eq!(initiator.send.reveal(), responder.receive.reveal());
    assert_eq!(initiator.receive.reveal(), responder.send.reveal());
    json!({
        "kind": "link_handshake", "initiator": "a", "responder": "b",
        "group_key": group_key.map(hex::encode),
        "head": hex::encode(head.emit()), "prologue": hex::encode(head.prologue(&b.addr)),
        "initiator_mlkem_seed": initiator_draws[0], "initiator_ephemeral": initiator_draws[1],
        "responder_ephemeral": responder_draws[0], "responder_mlkem_message": responder_draws[1],
        "m1": hex::encode(message::m1(&head.emit(), &m1)),
        "m2": hex::encode(message::answer(message::M2, head.index, &m2)),
        "m3": hex::encode(message::answer(message::M3, index, &m3)),
        "keys": keys(&initiator),
    })
}

fn end_to_end_handshake(a: &Party, b: &Party, group_key: Option<&[u8; 32]>, early: &[u8]) -> Value {
    let (ours, theirs) = (a.keys.current(), b.keys.current());
    let version = theirs.record.content.version as u8;
    let head = Head { pattern: Pattern::EndToEnd, plane: 3, version, index: 0x1122_3344 };
    let mut tape = Tape::new(2);
    let own = end_to_end::Own {
        local: &ours.x25519,
        record: &ours.short,
        ciphers: Cipher::offer(Ciphers::default()),
        early,
    };
    let (mut initiator, m1) =
        end_to_end::Initiator::start(&head, &theirs.record, &own, group_key, &mut tape).expect("good keys");
    let initiator_draws = tape.take();
    let responder =
        end_to_end::Responder::open(&head, &b.addr, &m1, theirs, Ciphers::AES, group_key, &mut tape)
            .expect("m1 opens");
    assert_eq!(responder.early, early);
    let (m2, responder) = responder.answer(0x5566_7788, false, group_key, &mut tape).expect("good keys");
    let responder_draws = tape.take();
    let answer = initiator.finish(&m2, group_key).expect("m2 opens");
    let initiator = initiator.keys(answer.cipher).expect("done");
    assert_eq!(initiator.send.reveal(), responder.receive.reveal());
    json!({
        "kind": "end_to_end_handshake", "initiator": "a", "responder": "b",
        "group_key": group_key.map(hex::encode), "early": hex::encode(early),
        "head": hex::encode(head.emit()), "prologue": hex::encode(head.prologue(&b.addr)),
        "initiator_mlkem_message": initiator_draws[0], "initiator_mlkem_seed": initiator_draws[1],
        "initiator_ephemeral": initiator_draws[2],
        "responder_ephemeral": responder_draws[0], "responder_mlkem_message": responder_draws[1],
        "m1": hex::encode(message::m1(&head.emit(), &m1)),
        "m2": hex::encode(message::answer(message::M2, head.index, &m2)),
        "keys": keys(&initiator),
    })
}

fn psk() -> Value {
    let mut entropy = SeededEntropy::new(3);
    let secret = kem::Secret::generate(&mut entropy);
    let public = secret.public();
    let sealed = kem::encapsulate(&public, &mut entropy).expect("a good key");
    assert_eq!(*secret.decapsulate(&sealed.ciphertext), *sealed.secret);
    let hash = kem::public_hash(&public);
    json!({
        "kind": "psk", "mlkem_secret": hex::encode(*sealed.secret), "ciphertext": hex::encode(*sealed.ciphertext),
        "mlkem_public_key": hex::encode(*public), "group_key": hex::encode([7; 32]),
        "psk": hex::encode(*kem::psk(&sealed.secret, &sealed.ciphertext, &hash, Some(&[7; 32]))),
        "psk_open_network": hex::encode(*kem::psk(&sealed.secret, &sealed.ciphertext, &hash, None)),
    })
}

fn session_key() -> Value {
    let first = Chain::new(Cipher::Aes256Gcm, &[1; 32], &[2; 32]);
    assert_eq!(first.reveal(), labelled_hash("session/key", &[&[2], &[1; 32], &[2; 32]]));
    json!({
        "kind": "session_key", "cipher": 2, "handshake_hash": hex::encode([1; 32]),
        "raw_split_key": hex::encode([2; 32]), "epochs": chain(&first),
    })
}

/// Two frames of one sender: the first, and the first after a ratchet.
fn frames(cipher: Cipher) -> Vec<Value> {
    let now = Instant::now();
    let ratchet = Duration::from_secs(120);
    let chain = || Chain::new(cipher, &[1; 32], &[2; 32]);
    let sender = Outbound::new(now, ratchet, 0x0102_0304, chain());
    let receiver = Inbound::new(now, Duration::ZERO, chain());
    let cases = [
        (now, frame::MESSAGE, 0, &b"hello"[..], 64),
        (now + ratchet, frame::FRAGMENT, frame::PACKET, b"", 32),
    ];
    let frame = |(now, kind, flags, payload, length): (Instant, u8, u8, &[u8], usize)| {
        let mut buffer = vec![0; length];
        buffer[frame::PAYLOAD..][..payload.len()].copy_from_slice(payload);
        let mut sealer = sender.take(now, 1).expect("fresh");
        sealer.seal(kind, flags, payload.len(), &mut buffer).expect("it fits");
        let mut opened = buffer.clone();
        let inside = receiver.lock().open(now, &mut opened).expect("it opens");
        assert_eq!((inside.kind, inside.flags, &opened[inside.payload]), (kind, flags, payload));
        json!({
            "kind": "frame", "cipher": cipher as u8, "handshake_hash": hex::encode([1; 32]),
            "raw_split_key": hex::encode([2; 32]), "index": 0x0102_0304,
            "frame_kind": kind, "flags": flags, "payload": hex::encode(payload), "length": length,
            "frame": hex::encode(&buffer),
        })
    };
    cases.into_iter().map(frame).collect()
}

fn masks(b: &Party) -> Vec<Value> {
    let message: Vec<u8> = (0..=255).collect();
    let case = |token: Option<[u8; 32]>| {
        json!({
            "kind": "mask", "address": b.addr.to_string(), "token": token.map(hex::encode),
            "message": hex::encode(&message),
            "masked": hex::encode(Secret::new(&b.addr, token.as_ref()).mask(&message)),
        })
    };
    let parts = mask::cut(&message, 0, 120, 0x0a0b_0c0d).expect("three parts");
    let parts: Vec<_> = parts.iter().map(hex::encode).collect();
    let cut = json!({ "kind": "parts", "message": hex::encode(&message), "mtu": 120, "set": 0x0a0b_0c0d, "parts": parts });
    vec![case(None), case(Some([9; 32])), cut]
}

fn messages() -> Vec<Value> {
    let requester = Addr::from_bytes([5; 32]);
    let unanswered = Some((0x1122_3344, [4; 16]));
    let ask = KeyAsk { nonce: 0x1122_3344_5566_7788, form: Form::Whole, requester, unanswered };
    let retry = Retry { index: 0x1122_3344, cookie: [6; 32], bits: 12 };
    let nonce = (0..).find(|nonce| guard::solves(&[6; 32], 12, *nonce)).expect("there is one");
    let proof = Proof { cookie: [6; 32], bits: 12, nonce };
    vec![
        json!({ "kind": "key_ask", "nonce": ask.nonce.to_string(), "form": 1, "requester": requester.to_string(),
                "index": 0x1122_3344, "m1_hash": hex::encode([4; 16]),
                "length": 80, "message": hex::encode(ask.emit(80)) }),
        json!({ "kind": "retry", "index": retry.index, "cookie": hex::encode(retry.cookie), "bits": 12,
                "message": hex::encode(retry.emit()) }),
        json!({ "kind": "puzzle", "cookie": hex::encode(proof.cookie), "bits": 12, "smallest_nonce": nonce,
                "m1": "03000000", "message": hex::encode(proof.emit(&[3, 0, 0, 0])) }),
    ]
}

/// Records that must be refused, each by one fault in a good one.
fn bad_records(a: &Party) -> Vec<Value> {
    let good = a.keys.current().record.emit(Form::Whole);
    let changed = |why: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        json!({ "kind": "bad_record", "why": why, "record": hex::encode(bytes) })
    };
    vec![
        changed("a flipped bit in the signature", &|bytes| *bytes.last_mut().expect("long") ^= 1),
        changed("a flipped bit in the version", &|bytes| bytes[44] ^= 1),
        changed("a flipped bit in the ML-KEM key", &|bytes| bytes[200] ^= 1),
        changed("a byte at the end", &|bytes| bytes.push(0)),
        changed("a byte less", &|bytes| bytes.truncate(bytes.len() - 1)),
        changed("an unknown form", &|bytes| bytes[0] = 2),
        changed("another key", &|bytes| bytes[20] ^= 1),
    ]
}

fn make() -> Value {
    let group_key = Some([7; 32]);
    let (a, b) = (party("a", 1, None), party("b", 2, None));
    let (c, d) = (party("a of a closed network", 1, group_key), party("b of a closed network", 2, group_key));
    let mut vectors =
        vec![a.told.clone(), b.told.clone(), c.told.clone(), d.told.clone(), psk(), session_key()];
    vectors.push(link_handshake(&a, &b, None));
    vectors.push(link_handshake(&c, &d, group_key.as_ref()));
    vectors.push(end_to_end_handshake(&a, &b, None, b""));
    vectors.push(end_to_end_handshake(&c, &d, group_key.as_ref(), b"early payload"));
    vectors.extend(frames(Cipher::ChaCha20Poly1305));
    vectors.extend(frames(Cipher::Aes256Gcm));
    vectors.extend(frames(Cipher::Aegis128L));
    vectors.extend(masks(&b));
    vectors.extend(messages());
    vectors.extend(bad_records(&a));
    json!({
        "_about": {
            "what": "Byway session vectors: see ../20-session.md",
            "format": "vectors is a list of objects; kind says which check it is. Bytes are lowercase hex. Seeds and \
                secrets are all the randomness of a computation, so every output follows from the inputs beside it.",
            "kinds": {
                "party": "identity seed -> key and address; session secrets (ML-KEM seeds are d, z of FIPS 203) -> record",
                "psk": "ML-KEM secret, ciphertext, key and group key -> psk",
                "session_key": "cipher, handshake hash and raw split key -> key of epochs 0, 1, 2",
                "link_handshake": "Noise_XKpsk2: messages from their type on, keys of both directions for epochs 0, 1, 2",
                "end_to_end_handshake": "Noise_IKpsk0+psk2, likewise",
                "frame": "the sender's first frame, and its first one after a ratchet, padded to length",
                "mask": "a handshake message on bare udp",
                "parts": "a message that is longer than a datagram of mtu bytes",
                "key_ask": "KEY_ASK, padded to length",
                "retry": "RETRY",
                "puzzle": "the smallest nonce that solves the cookie's puzzle, and M1_AGAIN around an m1 of four bytes",
                "bad_record": "must be refused",
            },
        },
        "vectors": vectors,
    })
}

fn path() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "..", "spec", "vectors", "session.json"].iter().collect()
}

fn stored() -> Value {
    serde_json::from_slice(&std::fs::read(path()).expect("the vectors are there")).expect("JSON")
}

fn bytes(vector: &Value, field: &str) -> Vec<u8> {
    hex::decode(vector[field].as_str().expect("a text")).expect("hex")
}

#[test]
fn the_vectors_are_what_this_implementation_computes() {
    let made = make();
    if std::env::var_os("BYWAY_WRITE_VECTORS").is_some() {
        let mut text = serde_json::to_string_pretty(&made).expect("JSON");
        text.push('\n');
        std::fs::write(path(), text).expect("the folder can be written");
    }
    let stored = stored();
    let (made, stored) = (made["vectors"].as_array(), stored["vectors"].as_array());
    for (made, stored) in made.into_iter().flatten().zip(stored.into_iter().flatten()) {
        assert_eq!(made, stored);
    }
    assert_eq!(made.map(Vec::len), stored.map(Vec::len));
}

#[test]
fn the_stored_records_open_or_are_refused_as_the_vectors_say() {
    for vector in stored()["vectors"].as_array().expect("a list") {
        match vector["kind"].as_str() {
            Some("party") => {
                let (short, whole) = (bytes(vector, "record_short"), bytes(vector, "record_whole"));
                for form in [&short, &whole] {
                    let record = Record::open(form).expect("a good record");
                    assert_eq!(record.addr.to_string(), vector["address"].as_str().expect("text"));
                    assert_eq!(hex::encode(record.digest), vector["record_digest"].as_str().expect("text"));
                }
                let whole = Record::open(&whole).expect("a good record");
                assert_eq!(whole.emit(Form::Short), short, "the short form follows from the whole one");
            }
            Some("bad_record") => {
                assert!(Record::open(&bytes(vector, "record")).is_err(), "{}", vector["why"]);
            }
            _ => {}
        }
    }
}

#[test]
fn a_forged_record_is_refused_wherever_a_bit_of_it_is_flipped() {
    let good = party("a", 1, Some([7; 32])).keys.current().record.emit(Form::Short);
    for bit in 0..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Record::open(&bytes).is_err(), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(Record::open(&good[..length]).is_err(), "{length} bytes");
    }
}

/// Each key of a record by another way than the code's: aws-lc's ML-KEM, written by others, agrees with what the vectors say.
#[test]
fn another_library_decapsulates_what_this_one_encapsulated() {
    use aws_lc_rs::kem::{DecapsulationKey, ML_KEM_768};
    let theirs = DecapsulationKey::generate(&ML_KEM_768).expect("entropy");
    let public = theirs.encapsulation_key().expect("a key");
    let public: [u8; kem::PUBLIC] =
        public.key_bytes().expect("bytes").as_ref().try_into().expect("1,184 bytes");
    let sealed = kem::encapsulate(&public, &mut SeededEntropy::new(1)).expect("a good key");
    let secret = theirs.decapsulate(sealed.ciphertext[..].into()).expect("it opens");
    assert_eq!(secret.as_ref(), &sealed.secret[..]);
}
