//! Every vector of INET256's reference implementation that is about keys and addresses, strictly.
//!
//! A kind, a profile or an algorithm that this test does not know is a failure, so that new vectors cannot slip by.
//! What other crates check is listed in [`ELSEWHERE`], what nobody checks in [`NOT_SPOKEN`], with the reason.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use byway_identity::legacy::{LegacyPublicKey, signing_key_from_pkcs8_der};
use byway_identity::{
    Addr, AddrError, Ipv6Range, KeyError, NoIpv6, Prefix, PublicKey, Signature, SigningKey, cshake256,
    keyfile, shake256,
};
use byway_wire::Reader;
use serde_json::Value;

/// Kinds that are bytes of another layer, and the crate whose tests hold them to the byte.
const ELSEWHERE: [(&str, &str); 2] = [("ipc_frame", "byway-api"), ("udp_address_text", "byway-link")];

/// Kinds that record wire forms which Byway does not speak.
const NOT_SPOKEN: [(&str, &str); 3] = [
    ("beacon_message", "beaconnet is not spoken; its signature does not cover the counter"),
    ("landisco_message", "the LAN announcements are not spoken"),
    ("p2pke_init_hello", "the handshake is not spoken: it shows the key to everyone on the path"),
];

#[test]
fn every_vector_is_met_or_has_its_reason() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/inet256-public.json");
    let document: Value =
        serde_json::from_slice(&std::fs::read(path).expect(path)).expect("the vectors are JSON");
    let mut counts = BTreeMap::<&str, usize>::new();
    for (index, fields) in document["vectors"].as_array().expect("a list").iter().enumerate() {
        let vector = Vector { index, fields };
        let kind = vector.text("kind");
        *counts.entry(kind).or_default() += 1;
        match kind {
            "identity" => identity(&vector),
            "identity_without_id" => identity_without_id(&vector),
            "id_text" => id_text(&vector),
            "id_to_ipv6" => id_to_ipv6(&vector),
            "ipv6_to_prefix" => ipv6_to_prefix(&vector),
            "has_prefix" => has_prefix(&vector),
            "parse_public_key" => parse_public_key(&vector),
            "text_order" => text_order(&vector),
            "signature" => signature(&vector),
            "beaconnet_data_message" => data_message(&vector),
            "http_open_body" | "http_open_request" => open_body(&vector),
            other => assert!(
                ELSEWHERE.iter().chain(&NOT_SPOKEN).any(|(known, _)| *known == other),
                "vector {index} has the unknown kind {other}"
            ),
        }
    }
    let expected = [
        ("beacon_message", 1),
        ("beaconnet_data_message", 1),
        ("has_prefix", 6),
        ("http_open_body", 1),
        ("http_open_request", 1),
        ("id_text", 10),
        ("id_to_ipv6", 12),
        ("identity", 19),
        ("identity_without_id", 1),
        ("ipc_frame", 6),
        ("ipv6_to_prefix", 7),
        ("landisco_message", 1),
        ("p2pke_init_hello", 1),
        ("parse_public_key", 6),
        ("signature", 6),
        ("text_order", 1),
        ("udp_address_text", 4),
    ];
    assert_eq!(counts, expected.into(), "vectors came or went");
}

/// A key, its forms, its address, and what follows from the address.
fn identity(vector: &Vector<'_>) {
    let addr = match (vector.text("profile"), vector.text("algo")) {
        ("v0.0.8", "ed25519") => {
            let key = SigningKey::from_seed(&vector.array("seed_hex"));
            let file = vector.hex("private_key_file_hex");
            assert_eq!(*key.to_inet256_bytes(), file, "{vector}");
            for read in [SigningKey::from_inet256_bytes(&file).ok(), keyfile::decode(&file, None).ok()] {
                assert!(read.is_some_and(|read| read.seed() == key.seed()), "{vector}");
            }
            let public = vector.hex("public_key_hex");
            assert_eq!(key.public().to_bytes(), public, "{vector}");
            assert_eq!(PublicKey::from_bytes(&public), Ok(key.public()), "{vector}");
            // Stricter than the reference, which takes bytes after the key and so gives one key two encodings.
            assert!(PublicKey::from_bytes(&[&public[..], &[0]].concat()).is_err(), "{vector}");
            key.public().addr()
        }
        ("v0.0.8", "dilithium2") => {
            let public = vector.hex("public_key_hex");
            assert_eq!(PublicKey::from_bytes(&public), Err(KeyError::Algorithm), "{vector}");
            assert_refused(
                keyfile::decode(&vector.hex("private_key_file_hex"), None),
                "another algorithm",
                vector,
            );
            Addr::from_bytes(shake256(&[&public]))
        }
        ("v0.0.7", "ed25519") => {
            let key = SigningKey::from_seed(&vector.array("seed_hex"));
            let read = signing_key_from_pkcs8_der(&vector.hex("private_key_pkcs8_hex"));
            assert!(read.is_ok_and(|read| read.seed() == key.seed()), "{vector}");
            let pem = vector.text("private_key_pem");
            let read = keyfile::decode(pem.as_bytes(), None);
            assert!(read.is_ok_and(|read| read.seed() == key.seed()), "{vector}");
            assert_eq!(*keyfile::encode_pem(&key, None).expect("needs nothing"), pem, "{vector}");
            let legacy = LegacyPublicKey::of(&key);
            let spki = vector.hex("public_key_spki_hex");
            assert_eq!(legacy.to_spki_der()[..], spki, "{vector}");
            assert_eq!(LegacyPublicKey::from_spki_der(&spki), Ok(legacy), "{vector}");
            assert!(PublicKey::from_bytes(&spki).is_err(), "{vector}: the profiles never mix");
            legacy.addr()
        }
        ("v0.0.7", algorithm) if algorithm.starts_with("rsa-") => {
            let spki = vector.hex("public_key_spki_hex");
            assert_eq!(LegacyPublicKey::from_spki_der(&spki), Err(KeyError::Algorithm), "{vector}");
            let der = vector.hex("private_key_pkcs8_hex");
            assert_eq!(signing_key_from_pkcs8_der(&der).err(), Some(KeyError::Algorithm), "{vector}");
            let pem = vector.text("private_key_pem");
            assert_refused(keyfile::decode(pem.as_bytes(), None), "another algorithm", vector);
            Addr::from_bytes(shake256(&[&spki]))
        }
        other => panic!("{vector} has the unknown profile and algorithm {other:?}"),
    };
    assert_eq!(addr, vector.addr(), "{vector}");
    forms(vector);
}

/// A key with a tag that the reference knows, but cannot use.
fn identity_without_id(vector: &Vector<'_>) {
    let tag = vector.text("algo").as_bytes();
    for rest in [0, 32, 32 + 1312] {
        let key = [&(tag.len() as u16).to_le_bytes()[..], tag, &vec![7; rest]].concat();
        assert_eq!(PublicKey::from_bytes(&key), Err(KeyError::Algorithm), "{vector}");
        assert_refused(keyfile::decode(&key, None), "another algorithm", vector);
    }
}

fn id_text(vector: &Vector<'_>) {
    let text = vector.text("text");
    let parsed = text.parse::<Addr>();
    if vector.is_error() || text != vector.text("canonical") {
        // Where the reference reads a second spelling, ours refuses.
        assert!(parsed.is_err(), "{vector}");
    } else {
        assert_eq!(parsed, Ok(vector.addr()), "{vector}");
    }
    if !vector.is_error() {
        assert_eq!(vector.addr().to_string(), vector.text("canonical"), "{vector}");
    }
    if text.chars().count() != Addr::TEXT_LENGTH {
        assert_eq!(parsed, Err(AddrError::Length(text.chars().count())), "{vector}");
    }
}

fn id_to_ipv6(vector: &Vector<'_>) {
    if vector.is_error() {
        assert_eq!(vector.addr().ipv6(), Err(NoIpv6), "{vector}");
        assert_eq!(vector.addr().to_string(), vector.text("id_base64"), "{vector}");
        assert_eq!(u64::from(vector.addr().leading_zeros()), vector.number("leading_zero_bits"), "{vector}");
    } else {
        forms(vector);
    }
}

fn ipv6_to_prefix(vector: &Vector<'_>) {
    let prefix = Ipv6Range::default().prefix(vector.ipv6());
    if vector.is_error() {
        assert_eq!(prefix, None, "{vector}");
    } else {
        assert_prefix(prefix, vector);
    }
}

fn has_prefix(vector: &Vector<'_>) {
    let bits = vector.number("nbits").try_into().expect("bits fit");
    let matches =
        Prefix::new(&vector.hex("prefix_hex"), bits).is_some_and(|prefix| prefix.matches(&vector.addr()));
    assert_eq!(Some(matches), vector.fields["match"].as_bool(), "{vector}");
}

fn parse_public_key(vector: &Vector<'_>) {
    assert!(vector.is_error(), "{vector}: only refusals are known");
    match vector.text("profile") {
        "v0.0.8" => assert!(PublicKey::from_bytes(&vector.hex("public_key_hex")).is_err(), "{vector}"),
        "v0.0.7" => {
            let spki = vector.hex("public_key_spki_hex");
            assert_eq!(LegacyPublicKey::from_spki_der(&spki), Err(KeyError::Algorithm), "{vector}");
        }
        other => panic!("{vector} has the unknown profile {other}"),
    }
}

fn text_order(vector: &Vector<'_>) {
    let texts: Vec<_> = vector.fields["ids_in_byte_order"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|id| id.as_str().expect("a text"))
        .collect();
    let addrs: Vec<Addr> = texts.iter().map(|text| text.parse().expect("an address")).collect();
    assert!(texts.len() > 1 && texts.is_sorted() && addrs.is_sorted(), "{vector}");
}

fn signature(vector: &Vector<'_>) {
    let (purpose, message, other) =
        (vector.text("purpose"), vector.hex("message_hex"), vector.hex("other_message_hex"));
    let says = |field: &str| vector.fields[field].as_bool().expect("a truth value");
    match (vector.text("profile"), vector.text("algo")) {
        // v0.0.8 as coded signs the purpose only, so that is the one field set which Byway must *not* meet: the
        // flaw is that `verify_other_message` is true. Its written specification is what Byway does.
        ("v0.0.8", "ed25519") => {
            let key = SigningKey::from_inet256_bytes(&vector.hex("private_key_file_hex")).expect("a key");
            let context: [u8; 32] = cshake256(purpose.as_bytes(), &[]);
            assert_eq!(context, vector.array("spec_text_ctx_hex"), "{vector}");
            let input: [u8; 64] = cshake256(&context, &message);
            assert_eq!(input, vector.array("spec_text_input_hex"), "{vector}");

            let ours = key.sign(purpose, &message);
            let dalek = ed25519_dalek::VerifyingKey::from_bytes(key.public().as_raw()).expect("a point");
            let checked = dalek.verify_strict(&input, &ed25519_dalek::Signature::from_bytes(ours.as_bytes()));
            assert!(checked.is_ok(), "{vector}: we sign what the specification says");
            assert!(key.public().verify(purpose, &message, &ours), "{vector}");
            assert!(!key.public().verify(purpose, &other, &ours), "{vector}");

            let flawed = Signature::from_bytes(vector.array("signature_hex"));
            assert!(
                says("verify") && says("verify_other_message"),
                "{vector}: the flaw is gone, so is this reason"
            );
            assert!(
                !key.public().verify(purpose, &message, &flawed),
                "{vector}: flawed signatures are not taken"
            );
        }
        ("v0.0.7", "ed25519") => {
            let key = signing_key_from_pkcs8_der(&vector.hex("private_key_pkcs8_hex")).expect("a key");
            let public = LegacyPublicKey::of(&key);
            let signature = Signature::from_bytes(vector.array("signature_hex"));
            assert_eq!(public.verify(purpose, &message, &signature), says("verify"), "{vector}");
            assert_eq!(public.verify(purpose, &other, &signature), says("verify_other_message"), "{vector}");
            let other_purpose = format!("{purpose}x");
            assert_eq!(
                public.verify(&other_purpose, &message, &signature),
                says("verify_other_purpose"),
                "{vector}"
            );
        }
        ("v0.0.7", "rsa-2048") => {
            let der = vector.hex("private_key_pkcs8_hex");
            assert_eq!(signing_key_from_pkcs8_der(&der).err(), Some(KeyError::Algorithm), "{vector}");
        }
        other => panic!("{vector} has the unknown profile and algorithm {other:?}"),
    }
}

/// The key in the body of the request that opens a node must have the address in the path. The bytes of the request
/// itself are checked in `byway-httpd`.
fn open_body(vector: &Vector<'_>) {
    let body: Value = serde_json::from_str(vector.text("body")).expect("JSON");
    let bytes = STANDARD.decode(body["private_key"].as_str().expect("base64")).expect("base64");
    let (key, path) = match vector.text("profile") {
        "v0.0.8" => {
            let target =
                vector.text("request_text").strip_prefix("CONNECT ").and_then(|rest| rest.split_once(' '));
            (SigningKey::from_inet256_bytes(&bytes), target.expect("a request line").0)
        }
        "v0.0.7" => (signing_key_from_pkcs8_der(&bytes), vector.text("path")),
        other => panic!("{vector} has the unknown profile {other}"),
    };
    let key = key.expect("a key");
    assert_eq!(*key.seed(), vector.array("seed_hex"), "{vector}");
    let addr = match vector.text("profile") {
        "v0.0.7" => LegacyPublicKey::of(&key).addr(),
        _ => key.public().addr(),
    };
    assert_eq!(path, format!("/nodes/{addr}"), "{vector}");
}

/// A type byte, two addresses, and the body: all of the message, and nothing else.
fn data_message(vector: &Vector<'_>) {
    let message = vector.hex("message_hex");
    let mut reader = Reader::new(&message);
    assert_eq!(reader.u8(), Ok(0), "{vector}: the type of data");
    for field in ["src_hex", "dst_hex"] {
        assert_eq!(
            reader.array().map(Addr::from_bytes),
            Ok(Addr::from_bytes(vector.array(field))),
            "{vector}"
        );
    }
    assert_eq!(reader.rest(), vector.hex("body_hex"), "{vector}");
    assert_eq!(reader.finish(), Ok(()), "{vector}");
}

/// The text and IPv6 forms of the address, and the way back.
fn forms(vector: &Vector<'_>) {
    let addr = vector.addr();
    assert_eq!(addr.to_string(), vector.text("id_base64"), "{vector}");
    assert_eq!(vector.text("id_base64").parse(), Ok(addr), "{vector}");
    assert_eq!(u64::from(addr.leading_zeros()), vector.number("leading_zero_bits"), "{vector}");
    assert_eq!(addr.ipv6(), Ok(vector.ipv6()), "{vector}");
    let prefix = Ipv6Range::default().prefix(vector.ipv6());
    assert!(prefix.is_some_and(|prefix| prefix.matches(&addr)), "{vector}");
    assert_prefix(prefix, vector);
}

fn assert_prefix(prefix: Option<Prefix>, vector: &Vector<'_>) {
    let prefix = prefix.expect("inside the range");
    assert_eq!(u64::from(prefix.bits()), vector.number("find_prefix_bits"), "{vector}");
    let bytes = &prefix.as_bytes()[..usize::from(prefix.bits()).div_ceil(8)];
    assert_eq!(bytes, vector.hex("find_prefix_hex"), "{vector}");
}

fn assert_refused(result: Result<SigningKey, keyfile::KeyFileError>, text: &str, vector: &Vector<'_>) {
    let error = result.err().expect("should have been refused").to_string();
    assert!(error.contains(text), "{vector}: {error}");
}

/// One vector; a field that is missing or of another type is a failure that names it.
struct Vector<'a> {
    index: usize,
    fields: &'a Value,
}

impl<'a> Vector<'a> {
    fn text(&self, field: &str) -> &'a str {
        self.fields[field].as_str().unwrap_or_else(|| panic!("{self} has no text {field}"))
    }

    fn number(&self, field: &str) -> u64 {
        self.fields[field].as_u64().unwrap_or_else(|| panic!("{self} has no number {field}"))
    }

    fn hex(&self, field: &str) -> Vec<u8> {
        hex::decode(self.text(field)).unwrap_or_else(|error| panic!("{self}, {field}: {error}"))
    }

    fn array<const N: usize>(&self, field: &str) -> [u8; N] {
        self.hex(field).try_into().unwrap_or_else(|_| panic!("{self}, {field}: not {N} bytes"))
    }

    fn addr(&self) -> Addr {
        Addr::from_bytes(self.array("id_hex"))
    }

    fn ipv6(&self) -> Ipv6Addr {
        self.text("ipv6").parse().unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    fn is_error(&self) -> bool {
        match &self.fields["error"] {
            Value::Null => false,
            Value::Bool(error) => *error,
            other => panic!("{self}: error is {other}"),
        }
    }
}

impl std::fmt::Display for Vector<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vector {} ({})", self.index, self.fields["kind"])
    }
}
