//! `spec/vectors/beacon.json` and the code say the same.
//!
//! After a change of the format: `BYWAY_WRITE_VECTORS=1 cargo test -p byway-beacon vectors`, and look at the difference.

use byway_identity::{Addr, Prefix, SigningKey};
use byway_network::{Cost, Family, NetworkId, Plane};
use byway_wire::Reader;
use serde_json::{Value, json};

use crate::claim::{Claim, Own, PURPOSE, Seq, TICK};
use crate::frame::{Advert, Frame, Lost};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../spec/vectors/beacon.json");

fn frame_vector(name: &str, frame: &Frame, fields: &Value) -> Value {
    json!({ "kind": "frame", "name": name, "hex": hex::encode(frame.emit()), "fields": fields })
}

fn refused(name: &str, bytes: &[u8]) -> Value {
    json!({ "kind": "refused", "name": name, "hex": hex::encode(bytes), "family": "ip" })
}

fn document() -> Value {
    let seed = [0x11; 32];
    let key = SigningKey::from_seed(&seed);
    let network = NetworkId::new("vectors", None);
    let mut own = Own::new(key, network, [0x22; 32], 1_790_000_000_000, TICK * 20);
    own.renew(TICK * 35);
    let claim = (**own.claim()).clone();
    let target = Addr::from_bytes([0x33; 32]);
    let advert = Advert { hops: 3, cost: Cost::from_units(5_000), left: TICK * 129 };

    let beacon = Frame::Beacon { plane: Plane::Any, advert, claim: claim.clone() };
    let data = Frame::Data { plane: Plane::Quiet, ttl: 128, target };
    let ask =
        Frame::Ask { plane: Plane::Any, prefix: Prefix::new(&[0xab, 0xcc], 14).expect("14 bits are there") };
    let tell = Frame::Tell { plane: Plane::Anon, claim: claim.clone() };
    let lost = vec![
        Lost { target, seq: Seq { boot: 7, counter: 300 } },
        Lost { target: claim.addr, seq: Seq::NOTHING_KNOWN },
    ];
    let lost = Frame::Lost { plane: Plane::Any, lost };
    let hello = Frame::Hello { leaf: true, answer: true, claim: claim.clone() };

    let mut forged = beacon.emit().to_vec();
    forged[50] ^= 1;
    let genuine_fields = json!({ "plane": 0, "hops": 3, "cost_units": 5_000, "left_ms": 12_900 });
    json!({
        "_about": {
            "what": "claims and frames of the routing protocol beacon; see spec/60-networks/beacon.md",
            "format": "claim: what the node with this seed says of itself. frame: bytes and what they mean; reading and writing again gives the same bytes. refused: no frame, or outside its plane, over a link of the family. forged: well-formed, and must not be believed.",
        },
        "vectors": [
            {
                "kind": "claim",
                "seed": hex::encode(seed),
                "network": "vectors",
                "network_id": hex::encode(network.as_bytes()),
                "purpose": PURPOSE,
                "boot": claim.seq.boot,
                "counter": claim.seq.counter,
                "period_ms": claim.period.as_millis() as u64,
                "digest": hex::encode(claim.digest),
                "addr": claim.addr.to_string(),
                "hex": hex::encode(&claim.bytes),
            },
            frame_vector("beacon", &beacon, &genuine_fields),
            frame_vector("data", &data, &json!({ "plane": 3, "ttl": 128, "target": target.to_string(), "payload": "" })),
            frame_vector("ask", &ask, &json!({ "plane": 0, "bits": 14, "prefix": "abcc" })),
            frame_vector("tell", &tell, &json!({ "plane": 1 })),
            frame_vector("lost", &lost, &json!({ "plane": 0, "count": 2 })),
            frame_vector("hello", &hello, &json!({ "leaf": true, "answer": true })),
            { "kind": "forged", "name": "a byte of the digest is changed", "hex": hex::encode(forged) },
            refused("a plane that the link is outside of", &tell.emit()),
            refused("a byte too much", &[&hello.emit()[..], &[0]].concat()),
            refused("a byte too few", &beacon.emit()[..beacon.emit().len() - 1]),
            refused("an unknown flag", &[&[6, 4], &hello.emit()[2..]].concat()),
            refused("an unknown type", &[9, 0]),
            refused("an unknown plane", &[2, 4]),
            refused("no hops left", &[&[2, 0, 0][..], &[0x33; 32]].concat()),
            refused("more hops left than there ever are", &[&[2, 0, 129][..], &[0x33; 32]].concat()),
            refused("bits after the prefix", &[3, 0, 0, 7, 0xff]),
        ],
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
    let network = NetworkId::new("vectors", None);
    let mut seen = [0; 3];
    for vector in written["vectors"].as_array().expect("a list") {
        let bytes = hex::decode(vector["hex"].as_str().expect("bytes")).expect("they are hex");
        let name = &vector["name"];
        match vector["kind"].as_str() {
            Some("claim") => {
                let claim = Claim::read(&mut Reader::new(&bytes)).expect("it is a claim");
                assert!(claim.is_genuine(&network), "{name}");
                assert_eq!(vector["addr"], claim.addr.to_string());
            }
            Some("frame") => {
                let frame = Frame::parse(&bytes, Family::Tor).expect("it is a frame");
                assert_eq!(frame.emit(), bytes, "{name}");
                if let Frame::Beacon { claim, .. } | Frame::Tell { claim, .. } | Frame::Hello { claim, .. } =
                    frame
                {
                    assert!(claim.is_genuine(&network), "{name}");
                }
                seen[0] += 1;
            }
            Some("forged") => {
                let Ok(Frame::Beacon { claim, .. }) = Frame::parse(&bytes, Family::Ip) else {
                    panic!("{name}")
                };
                assert!(!claim.is_genuine(&network), "{name}");
                seen[1] += 1;
            }
            Some("refused") => {
                assert!(Frame::parse(&bytes, Family::Ip).is_err(), "{name}");
                seen[2] += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, [6, 1, 9], "vectors came or went");
}
