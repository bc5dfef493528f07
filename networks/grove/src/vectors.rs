//! `spec/vectors/grove.json` and the code say the same.
//!
//! After a change of the format: `BYWAY_WRITE_VECTORS=1 cargo test -p byway-grove vectors`, and look at the difference.

use std::sync::Arc;

use byway_identity::{Prefix, SigningKey};
use byway_network::{Class, Cost, Family, NetworkId, Plane};
use byway_wire::{Reader, Writer};
use serde_json::{Value, json};

use crate::cert::{
    CERT_PURPOSE, Cert, CertClaim, OFFER_PURPOSE, Offer, OfferClaim, PULSE_PURPOSE, Pulse, Seq,
};
use crate::coords::{Coords, Place, Step, root_id};
use crate::filter::{Bits, positions};
use crate::frame::{Frame, Hello, Item, Lookup, Manner, Sight, Summary, Told};
use crate::location::{LOCATION_PURPOSE, Location};
use crate::names::{ShortId, TreeId, rank, short_id, tag};
use crate::packet::{BROKEN, DATA, ECHO, Led, Noted, Notes, PROBE, ROUTED, Steered, TRACE};
use crate::sketch::Sketch;

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/grove.json");

fn network() -> NetworkId {
    NetworkId::new("vectors", None)
}

fn bytes(write: impl FnOnce(&mut Writer)) -> String {
    let mut writer = Writer::new();
    write(&mut writer);
    hex::encode(writer.as_slice())
}

fn frame(name: &str, frame: &Frame) -> Value {
    json!({ "kind": "frame", "name": name, "hex": hex::encode(frame.emit()) })
}

fn refused(name: &str, bytes: &[u8]) -> Value {
    json!({ "kind": "refused", "name": name, "hex": hex::encode(bytes), "family": "ip" })
}

struct Cast {
    parent: SigningKey,
    child: SigningKey,
    offer: Offer,
    cert: Cert,
    pulse: Pulse,
    coords: Coords,
    location: Location,
}

fn cast() -> Cast {
    let (parent, child) = (SigningKey::from_seed(&[0x11; 32]), SigningKey::from_seed(&[0x22; 32]));
    let tree = TreeId::new(Plane::Any, 1);
    let step = Step { label: 300, cost: Cost::from_units(110).encode() };
    let raw = *child.public().as_raw();
    let offer = Offer::make(&parent, &network(), raw, step, Class::UDP, 29_833_333);
    let seq = Seq { boot: 1_790_000_000_000, counter: 3 };
    let cert = Cert::make(&child, &network(), Arc::new(offer.clone()), tree, seq);
    let pulse = Pulse::make(&parent, &network(), tree, seq);
    let place = Place { tree, root: root_id(&parent.public().addr()), steps: Box::new([step]) };
    let coords = Coords::new(vec![place]);
    let location = Location::make(&child, &network(), seq, Plane::Any, coords.clone(), [0x33; 32]);
    Cast { parent, child, offer, cert, pulse, coords, location }
}

fn document() -> Value {
    let Cast { parent, child, offer, cert, pulse, coords, location } = cast();
    let tree = TreeId::new(Plane::Any, 1);
    let addr = child.public().addr();
    let hello = Hello {
        leaf: false,
        answer: true,
        boot: 1_790_000_000_000,
        cost: 110,
        certs: 0x0102_0304_0506_0708,
        filters: 9,
        view: 4,
        key: Some(*child.public().as_raw()),
    };
    let certs = Frame::Certs(vec![
        Item::Offer(offer.claim().clone()),
        Item::Cert(cert.claim()),
        Item::Pulse(pulse.clone()),
    ]);
    let filter = |summary| Frame::Filter { tree, version: 7, count: 2, summary };
    // A sister of the teller, and a node in another part of the network.
    let near = Sketch::new(
        &coords,
        &Coords::new(coords.iter().map(|place| Place { steps: Box::default(), ..place.clone() }).collect()),
    );
    let told = |sketch| Told { id: short_id(&addr), class: Class::LAN, cost: 11, sketch };
    let far = Sketch::new(&coords, &Coords::default());
    let sights =
        vec![Sight::There(told(near)), Sight::There(told(far)), Sight::Gone(ShortId([0x44; 8]), Family::Tor)];
    let manner = Manner { sample: false, wide: true, down: false, fresh: true };
    let prefix = Prefix::new(addr.as_bytes(), 122).expect("122 bits are there");
    let lookup = Lookup { tree, manner, prefix, nonce: 5, ttl: 255, way: vec![1, 300] };
    let anyone = Prefix::new(&[0], 0).expect("0 bits are there");
    let walk = Manner { sample: true, wide: false, down: true, fresh: false };
    let sample = Lookup { manner: walk, prefix: anyone, ..lookup.clone() };
    let found =
        Frame::Found { plane: Plane::Any, nonce: 5, way: vec![1], location: Box::new(location.clone()) };
    let moved = Frame::Moved { ttl: 128, location: Box::new(location.clone()) };
    let home = Frame::Home { version: 3, step: Step { label: 64, cost: 1 }, coords: coords.clone() };
    let steered = Steered {
        plane: Plane::Any,
        ttl: 128,
        mask: 2,
        remaining: 220,
        to: short_id(&addr),
        coords: coords.clone(),
    };
    let led = Led::start(Plane::Quiet, vec![1, 300, 2]);
    let hop = Noted { out: 1, back: 300, class: Class::UDP, cost: 110, tag: tag(5, &addr) };
    let notes = Notes { salt: 5, hops: vec![hop], out: Some(2), wander: 3 };
    let trace = Notes { out: None, wander: 0, ..notes.clone() };
    let routed = [&short_id(&addr).0[..4], b"payload"].concat();
    let broken = [&[0; 8][..], &300u16.to_be_bytes()].concat();
    let echo = [&short_id(&addr).front()[..], &7u64.to_be_bytes()].concat();
    let packet =
        |name: &str, bytes: &[u8]| json!({ "kind": "packet", "name": name, "hex": hex::encode(bytes) });
    let data = steered.emit(DATA, b"payload");
    let mut forged = certs.emit().to_vec();
    forged[60] ^= 1;
    json!({
        "_about": {
            "what": "objects and frames of the routing protocol grove; see spec/60-networks/grove.md",
            "format": "name: a hash. signed: an object that the node with this seed signs. frame, packet: reading and writing again gives the same bytes. refused: no frame, or outside its plane, over a link of the family. forged: well-formed, and must not be believed.",
            "network": "vectors",
            "network_id": hex::encode(network().as_bytes()),
            "parent_seed": "11".repeat(32),
            "child_seed": "22".repeat(32),
            "parent": parent.public().addr().to_string(),
            "child": addr.to_string(),
        },
        "vectors": [
            { "kind": "name", "name": "to", "hex": hex::encode(short_id(&addr).0) },
            { "kind": "name", "name": "rank", "tree": tree.byte(), "hex": hex::encode(rank(&network(), tree, &addr).as_bytes()) },
            { "kind": "name", "name": "tag", "salt": 5, "hex": hex::encode(tag(5, &addr)) },
            { "kind": "name", "name": "filter", "tree": tree.byte(), "positions": positions(tree, addr.as_bytes()) },
            { "kind": "signed", "name": "offer", "purpose": OFFER_PURPOSE, "by": "parent", "hex": bytes(|w| offer.write(w)) },
            { "kind": "signed", "name": "cert", "purpose": CERT_PURPOSE, "by": "child", "hex": bytes(|w| cert.claim().write(w)) },
            { "kind": "signed", "name": "pulse", "purpose": PULSE_PURPOSE, "by": "parent", "hex": bytes(|w| pulse.write(w)) },
            { "kind": "signed", "name": "location", "purpose": LOCATION_PURPOSE, "by": "child", "hex": bytes(|w| location.write(w)) },
            frame("hello", &Frame::Hello(hello)),
            frame("hello of a leaf", &Frame::Hello(Hello { leaf: true, answer: false, key: None, ..hello })),
            frame("certs", &certs),
            frame("home", &home),
            frame("filter, full", &filter(Summary::Whole(Bits::Full))),
            frame("filter, list", &filter(Summary::Whole(positions(tree, addr.as_bytes()).into_iter().collect()))),
            frame("filter, bits", &filter(Summary::Whole((0..8_192).step_by(16).collect()))),
            frame("filter, more", &filter(Summary::More(vec![1, 8_191]))),
            frame("view", &Frame::View { version: 2, whole: true, sights }),
            frame("lookup", &Frame::Lookup(lookup)),
            frame("sample", &Frame::Lookup(sample)),
            frame("found", &found),
            frame("moved", &moved),
            packet("data", &data),
            packet("routed", &led.emit(ROUTED, &routed)),
            packet("probe", &steered.emit(PROBE, &notes.write())),
            packet("trace", &led.emit(TRACE, &trace.write())),
            packet("broken", &led.emit(BROKEN, &broken)),
            packet("echo", &led.emit(ECHO, &echo)),
            { "kind": "forged", "name": "a byte of the offer's key is changed", "hex": hex::encode(forged) },
            refused("a plane that the link is outside of", &led.emit(ROUTED, &routed)),
            refused("a byte too much", &[&home.emit()[..], &[0]].concat()),
            refused("a byte too few", &found.emit()[..found.emit().len() - 1]),
            refused("an unknown flag", &[&[1, 8], &Frame::Hello(hello).emit()[2..]].concat()),
            refused("an unknown type", &[15, 0]),
            refused("an unknown tree", &[6, 0x4f]),
            refused("no hops left", &[&data[..2], &[0], &data[3..]].concat()),
            refused("more hops left than there ever are", &[&data[..2], &[129], &data[3..]].concat()),
            refused("a label of 2^14", &[6, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 9, 1, 0x40, 0]),
        ],
    })
}

/// Reads whatever is not a control frame, and writes it again.
fn packet(bytes: &[u8], family: Family) -> Option<Vec<u8>> {
    let kind = *bytes.first()?;
    Some(match kind {
        DATA | PROBE => {
            let (head, at) = Steered::parse(bytes, family).ok()?;
            let rest = if kind == PROBE {
                Notes::parse(&bytes[at..], true).ok()?.write()
            } else {
                bytes[at..].to_vec().into()
            };
            head.emit(kind, &rest).to_vec()
        }
        ROUTED | TRACE | BROKEN | ECHO => {
            let (head, at) = Led::parse(bytes, family).ok()?;
            let rest = if kind == TRACE {
                Notes::parse(&bytes[at..], false).ok()?.write()
            } else {
                bytes[at..].to_vec().into()
            };
            head.emit(kind, &rest).to_vec()
        }
        _ => return None,
    })
}

#[test]
fn the_vectors_are_what_the_code_makes() {
    let made = document();
    if std::env::var_os("BYWAY_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&made).expect("it is JSON") + "\n";
        std::fs::write(PATH, text).expect(PATH);
    }
    let written: Value =
        serde_json::from_slice(&std::fs::read(PATH).expect(PATH)).expect("the vectors are JSON");
    assert_eq!(written, made);
}

#[test]
fn the_vectors_mean_what_they_say() {
    let written: Value =
        serde_json::from_slice(&std::fs::read(PATH).expect(PATH)).expect("the vectors are JSON");
    let mut seen = [0; 5];
    for vector in written["vectors"].as_array().expect("a list") {
        let name = vector["name"].as_str().expect("a name");
        let bytes = hex::decode(vector["hex"].as_str().unwrap_or_default()).expect("they are hex");
        let reader = &mut Reader::new(&bytes);
        match vector["kind"].as_str() {
            Some("name") => seen[0] += 1,
            Some("signed") => {
                let genuine = match name {
                    "offer" => OfferClaim::read(reader).expect(name).is_genuine(&network()),
                    "cert" => CertClaim::read(reader).expect(name).is_genuine(&network()),
                    "pulse" => Pulse::read(reader).expect(name).is_genuine(&network()),
                    _ => Location::read(reader).expect(name).is_genuine(&network()),
                };
                assert!(genuine && reader.remaining() == 0, "{name}");
                seen[1] += 1;
            }
            Some("frame") => {
                let frame = Frame::parse(&bytes, Family::Ip).expect(name);
                assert_eq!(frame.emit(), bytes, "{name}");
                seen[2] += 1;
            }
            Some("packet") => {
                assert_eq!(packet(&bytes, Family::Tor), Some(bytes), "{name}");
                seen[2] += 1;
            }
            Some("forged") => {
                let Ok(Frame::Certs(items)) = Frame::parse(&bytes, Family::Ip) else { panic!("{name}") };
                let Some(Item::Offer(offer)) = items.first() else { panic!("{name}") };
                assert!(!offer.is_genuine(&network()), "{name}");
                seen[3] += 1;
            }
            Some("refused") => {
                let read = packet(&bytes, Family::Ip).is_some() || Frame::parse(&bytes, Family::Ip).is_ok();
                assert!(!read, "{name}");
                seen[4] += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [4, 4, 19, 1, 9], "vectors came or went");
}
