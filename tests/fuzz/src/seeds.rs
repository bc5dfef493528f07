//! Where the corpus starts: real frames, real files, and short plays for the worlds.

use bytes::{Bytes, BytesMut};
use byway_api::inet256;
use byway_api::{ApiError, Code, Kind, ManCon, frame};
use byway_identity::{Ipv6Range, keyfile};
use byway_portal::icmp::checksum;

use crate::session::{self, key};
use crate::{beacon, grove, keys};

/// The seeds of `target`, in a fixed order.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "addr_text" => texts(&[&key(0).public().addr().to_string(), &"z".repeat(43), &"-".repeat(43)]),
        "ipv6_range_text" => texts(&["0200::/7", "fd00:256::/32", "2000::/3", "fd12:3456:789a::/48"]),
        "endpoint_text" => texts(ENDPOINTS),
        "rule_text" => texts(&[
            "*",
            &key(0).public().addr().to_string(),
            "tcp/22",
            "udp/1000-2000",
            "icmp",
            "tcp",
            "any",
        ]),
        "config_text" => texts(CONFIGS),
        "api_bodies" => api_bodies(),
        "batch_frames" => batches(),
        "inet256_frames" => inet256_frames(),
        "key_file" => key_files(),
        "private_key" => {
            vec![key(0).to_inet256_bytes().to_vec(), [&PKCS8_HEAD[..], &[1; 32]].concat()]
        }
        "public_key" => {
            let legacy = byway_identity::legacy::LegacyPublicKey::of(&key(0));
            vec![key(0).public().to_bytes(), legacy.to_spki_der().to_vec()]
        }
        "wire_reader" => vec![
            vec![9, 0, 1, 2, 3, 4, 5, 6, 8, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x3f, 0x40, 0x40],
            vec![4, 8, 8, 8, 8, 0x3f, 0x7f, 0xff, 0xbf, 0xff, 0xff, 0xff, 0xc0, 0, 0, 0, 0x40, 0, 0, 0],
        ],
        "portal_packet" => packets(),
        "portal_core" => portal_plays(),
        "session_link_strangers" => session::recorded(true),
        "session_end_strangers" => session::recorded(false),
        "session_record" => vec![session::record().to_vec()],
        "session_link_pair" | "session_end_pair" => pair_plays(),
        "session_link_hostile" | "session_end_hostile" => hostile_plays(),
        "link_events" => link_event_plays(),
        "link_peer" => link_peer_plays(),
        "fast_queue" => queue_plays(),
        "fast_reads" => read_plays(),
        "fast_trains" => train_plays(),
        "node_core" => node_plays(),
        "beacon_frames" => beacon::recorded(),
        "beacon_world" => world_plays(),
        "grove_frames" => grove::recorded(),
        "grove_world" => world_plays(),
        _ => Vec::new(),
    }
}

const PKCS8_HEAD: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

const ENDPOINTS: &[&str] = &[
    "udp://203.0.113.7:2561",
    "udp://[2001:db8::1]:2561",
    "udp://[fe80::1%eth0]:2561",
    "udp://host.example:2561?token=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "unix:///run/byway/link",
    "tor://expyuzz4wqqyqhjn.onion:2561",
    "10.0.0.1:9000",
    "[fe80::1%eth0]:9000",
];

const CONFIGS: &[&str] = &[
    "",
    "key = \"identity.pem\"\nlog = \"info\"\n[network]\nname = \"byway\"\n[mancon]\ndefault = \"high\"\nfloor = \"low\"\ndirect = true\n",
    "[portal]\nenabled = true\ndevice = \"byway0\"\nprefix = \"0200::/7\"\nmtu = 1420\nthreads = 2\n\
     [[portal.allow]]\npeer = \"*\"\nports = [\"tcp/22\", \"icmp\"]\n",
    "[links]\naccept = \"peers\"\nudp = [\"[::]:2561\", \"0.0.0.0:2561\"]\n\
     [[peers]]\naddr = \"h8-0JOGZ4NO5BsBjpE8iFF7vifupw5tLlDna3j5TtZw\"\nname = \"hub\"\nendpoints = [\"udp://192.0.2.1:2561\"]\n",
    "[api]\nlisten = [\"unix:/run/byway/api.sock\", \"tcp:127.0.0.1:2562\"]\ninet256_mancon = \"\"\n",
];

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn api_bodies() -> Vec<Vec<u8>> {
    let addr = key(0).public().addr();
    let texts = [
        format!(r#"{{"addr":"{addr}","name":"hub","endpoints":["udp://192.0.2.1:2561"],"save":true}}"#),
        format!(r#"{{"to":"{addr}","payload":"aGVsbG8=","mancon":"high","deadline_ms":1000}}"#),
        r#"{"key":null,"mancon":"low","persist":false}"#.to_owned(),
        r#"{"prefix":"x6oT8JGAEGTVCwNTn9gA","nbits":115}"#.to_owned(),
        format!(r#"{{"target":"{addr}"}}"#),
        format!(r#"{{"ok":{{"addr":"{addr}"}},"error":"no such prefix"}}"#),
        r#"{"ok":{}}"#.to_owned(),
    ];
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn batches() -> Vec<Vec<u8>> {
    let addr = key(0).public().addr();
    let payload = Bytes::from_static(b"hello");
    let records = [
        frame::Record::Payload {
            kind: Kind::Message,
            addr,
            mancon: Some(ManCon::High),
            deadline_ms: 7,
            payload,
        },
        frame::Record::Error { kind: Kind::Packet, addr, error: ApiError::new(Code::ALL[0], "full") },
        frame::Record::Taken { addr, mancon: ManCon::Low, held: true, count: 3 },
        frame::Record::Credit { cost: 4_096 },
    ];
    let mut all = BytesMut::new();
    let mut seeds = Vec::new();
    for record in &records {
        let mut one = BytesMut::new();
        record.encode(&mut one);
        record.encode(&mut all);
        seeds.push(one.to_vec());
    }
    seeds.push(all.to_vec());
    seeds
}

fn inet256_frames() -> Vec<Vec<u8>> {
    let id = [7; 16];
    let frames = [
        inet256::Frame::Keep,
        inet256::Frame::Data { addr: key(0).public().addr(), payload: Bytes::from_static(b"hello") },
        inet256::Frame::Find {
            id,
            body: Bytes::from_static(br#"{"prefix":"x6oT8JGAEGTVCwNTn9gA","nbits":115}"#),
        },
        inet256::Frame::PublicKey {
            id,
            body: Bytes::from_static(br#"{"ok":{},"error":"public key not found"}"#),
        },
    ];
    let mut all = BytesMut::from(&[9][..]);
    let mut seeds = Vec::new();
    for frame in &frames {
        let mut one = BytesMut::from(&[3][..]);
        frame.encode(&mut one);
        frame.encode(&mut all);
        seeds.push(one.to_vec());
    }
    seeds.push(all.to_vec());
    seeds
}

fn key_files() -> Vec<Vec<u8>> {
    let plain = keyfile::encode_pem(&key(0), None).expect("needs nothing");
    vec![
        plain.as_bytes().to_vec(),
        key(0).to_inet256_bytes().to_vec(),
        [OPENSSL_PBKDF2, "!"].concat().into_bytes(),
        OPENSSL_SCRYPT.as_bytes().to_vec(),
        b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_vec(),
    ]
}

/// The key of 32 bytes 0x42, encrypted by OpenSSL with [`keys::PASSPHRASE`].
const OPENSSL_PBKDF2: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAjyZCQDvoyRzwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEASrhPcmZHOMOBTvUw2AowIEQBeL
fFam6QqpMs66pnj9Llg1njPHkdbVlnkmArVrb4bq1145Jos2jWmulG11spQLD+s1
9jIBDjLzt17g4P6ODjA=
-----END ENCRYPTED PRIVATE KEY-----
";

const OPENSSL_SCRYPT: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAjuso5taWtgdwICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBCbIqiuQbCwrmLnyKnqj3rQBEC7aaQ1mqMcvPaW
72RASOOQnD0IbzPzBLrwCoeVr8D/X+QMFoFekYgUQ3/+jdmK+XZS4c6o2hYrvHih
OzzYdjzx
-----END ENCRYPTED PRIVATE KEY-----
";

/// An IPv6 packet from node 0 to node 1.
fn packet(next: u8, upper: &[u8]) -> Vec<u8> {
    let [from, to] = [0, 1].map(|end| {
        Ipv6Range::default().ipv6(&key(end).public().addr()).expect("the address has an IPv6 form")
    });
    let mut bytes = vec![0x60, 0, 0, 0, 0, upper.len() as u8, next, 64];
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&to.octets());
    bytes.extend_from_slice(upper);
    bytes
}

fn packets() -> Vec<Vec<u8>> {
    let [from, to] = [0, 1].map(|end| {
        Ipv6Range::default().ipv6(&key(end).public().addr()).expect("the address has an IPv6 form")
    });
    let mut echo = vec![128, 0, 0, 0, 0, 1, 0, 1, b'p', b'i', b'n', b'g'];
    let sum = checksum(from, to, 58, &echo);
    echo[2..4].copy_from_slice(&sum.to_be_bytes());
    let tcp =
        [&[0x9c, 0x40, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0][..], b""].concat();
    let udp = [&[0x9c, 0x40, 0, 53, 0, 12, 0, 0][..], b"name"].concat();
    let unreachable = [&[1, 4, 0, 0, 0, 0, 0, 0][..], &packet(17, &udp)].concat();
    vec![
        packet(58, &echo),
        packet(6, &tcp),
        packet(17, &udp),
        packet(58, &unreachable),
        packet(44, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &udp].concat()),
        packet(44, &[17, 0, 0, 8, 0, 0, 0, 9, 1, 2, 3]),
        packet(0, &[&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp].concat()),
        packet(43, &[&[6, 0, 0, 1, 0, 0, 0, 0][..], &tcp].concat()),
        packet(60, &[&[59, 0, 1, 4, 0, 0, 0, 0][..]].concat()),
    ]
}

/// Each packet out, found, in, and in again as its reply would come.
fn portal_plays() -> Vec<Vec<u8>> {
    let counted = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat();
    packets()
        .iter()
        .map(|packet| {
            let packet = counted(packet);
            [
                &[20, 0][..],
                &packet,
                &[0, 20, 4, 0, 20, 2],
                &packet,
                &[0, 20, 7, 0, 9, 20, 6, 0, 2],
                &packet,
                &[0],
            ]
            .concat()
        })
        .collect()
}

/// Reads: kind, no raw bytes, a shape (choice, size, payload, flags, class, sequence), no change; queued and straight.
fn read_plays() -> Vec<Vec<u8>> {
    let tcp = b"\x00\x0e\x05\x14\x20\x00\x00\x00\x00";
    let udp = b"\x00\x03\x00\xff\x10\x00\x00\x00\x00";
    let small = b"\x00\x01\x00\xff\x00\xd0\x00\x00\x00";
    let marked = b"\x00\x22\x02\x00\x08\x00\x20\x00\x00\x00";
    let changed = b"\x00\x02\x02\x00\x08\x00\x00\x00\x02\x10\x01\x3b\x80";
    let raw = b"\x07\x00\x32\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x60\x00\x00\x00\x00\x00\x3b";
    let play = |parts: &[&[u8]]| [&[0][..], &parts.concat()].concat();
    vec![
        play(&[&[5], tcp, &[5], udp, &[1]]),
        play(&[&[5], small, &[5], small, &[5], small, &[0]]),
        play(&[&[3], tcp, &[3], marked, &[2, 30], &[3], tcp, &[0], &[2, 40], &[0]]),
        play(&[&[5], changed, &[6], raw, &[7], changed]),
        [&[7][..], &play(&[&[5], tcp, &[5], udp, &[1]])[1..]].concat(),
    ]
}

/// Frames of a peer: a choice (session, kind, what becomes of it, flags), and a packet as above.
fn train_plays() -> Vec<Vec<u8>> {
    let small = b"\x00\x01\x00\xff\x00\xd0\x00\x00\x00";
    let tcp = b"\x00\x00\x00\xff\x00\xd0\x00\x00\x00";
    let raw = b"\x07\x00\x05\x60\x00\x00\x00\x00";
    let play = |parts: &[&[u8]]| [&[0][..], &parts.concat()].concat();
    vec![
        play(&[&[0x21], small, &[0x23], small, &[0x23], small, &[0x1c], small]),
        play(&[&[0x21], tcp, &[0x23], tcp, &[0x07], tcp, &[0x03], tcp]),
        play(&[
            &[0x21],
            raw,
            &[0x20],
            raw,
            &[0x0b],
            small,
            &[0, 9, 1],
            &[0x0f],
            small,
            &[0, 9],
            &[0x21],
            small,
        ]),
        play(&[&[0xa1], small, &[0x63], small, &[0x01], &[0x13], small, &[0x00]]),
        [&[5][..], &play(&[&[0x21], small, &[0x23], tcp])[1..]].concat(),
    ]
}

/// Pushes (flow in the choice, length), takes and time.
fn queue_plays() -> Vec<Vec<u8>> {
    vec![
        b"\x00\x05\xdc\x04\x00\x64\x00\x05\xdc\x02\x02\x02\x02".to_vec(),
        [&b"\x00\xff\xff\x05\x00\x10".repeat(30)[..], b"\x02\x03\x02\xff\x02\x02"].concat(),
        (0..=255).flat_map(|choice| [choice & 0xfd, 0, choice]).collect(),
    ]
}

/// Steps of [`session`]'s pair: payloads both ways, fragments, losses, new sessions, time.
fn pair_plays() -> Vec<Vec<u8>> {
    vec![
        b"\x00\x01\x00\x00\x05hello\x03\x80\x00\x00\x00\x02hi\x03\x03".to_vec(),
        b"\x02\x00\x07\x20\x00\x06\x06\x82\x00\x07\x40\x00\x05\x03\x06\x06".to_vec(),
        b"\x0c\x01\x06\x06\x0f\x20\x06\x00\x00\x00\x00\x03new\x06\x0d\x00\x06".to_vec(),
        b"\x1c\x00\x05early\x03\x06\x0e\x00\x20\x06\x0e\x00\x40\x06\x06".to_vec(),
        b"\x00\x02\x00\x00\x04one!\x08\x00\x09\x00\x05\x01\x00\x03\x03\x03\x0a\x00\x07\x03".to_vec(),
        b"\x0e\x20\x00\x06\x06\x00\x00\x00\x00\x01a\x06\x0e\x20\x00\x06\x06\x80\x00\x00\x00\x01b\x06"
            .to_vec(),
    ]
}

/// Frames of each kind from the second end: pieces in and out of order, challenges, handshakes inside, an end.
fn hostile_plays() -> Vec<Vec<u8>> {
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        [&[0, 0, kind, flags][..], &(payload.len() as u16).to_be_bytes(), payload, &[3]].concat()
    };
    let piece = |id: u8, index: u8, count: u8, bytes: &[u8]| {
        frame(3, 1, &[&[id, 0, 0, 0, index, 0, count, 0][..], bytes].concat())
    };
    let ask = [&[1, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0][..], &[0; 900]].concat();
    vec![
        [piece(1, 0, 2, b"front"), piece(1, 1, 2, b"back")].concat(),
        [piece(2, 1, 2, b"longer than the front"), piece(2, 0, 2, b"front"), piece(2, 1, 2, b"back")]
            .concat(),
        [piece(3, 0, 3, b"aaa"), piece(3, 2, 3, b"c"), piece(3, 0, 3, b"aaa"), piece(3, 1, 3, b"bb")]
            .concat(),
        [frame(5, 0, &[1; 16]), frame(5, 1, &[1; 16]), frame(5, 0, &[1; 8]), b"\x06".to_vec()].concat(),
        [
            frame(6, 0, &ask),
            b"\x06".to_vec(),
            frame(6, 0, &[3, 0, 0, 0, 1, 2, 3, 4]),
            frame(6, 0, &[8, 0, 0, 0]),
        ]
        .concat(),
        [frame(9, 1, b""), frame(9, 0, b""), frame(4, 0, b"?"), frame(7, 0, b"?"), b"\x06".to_vec()].concat(),
        [frame(8, 0, b""), frame(1, 0, b"after the end"), b"\x0c\x00\x06\x06".to_vec(), frame(2, 0, b"new")]
            .concat(),
    ]
}

fn link_event_plays() -> Vec<Vec<u8>> {
    vec![
        b"\x04\x01\x07\x10\x00\x00\x02\x00\x01\x01\x07\x00\xff\x07\xff\xff".to_vec(),
        b"\x00\x04\x80\x00\x00\x80\x00\x04abcd\x00\x05\x80".to_vec(),
        b"\x04\x01\x04\x02\x05\x01\x06\x02\x00\x03abc\x00\x03\x00\x01\x07\x40\x00".to_vec(),
    ]
}

/// The core's own greeting goes back to it, and then all kinds of frames.
fn link_peer_plays() -> Vec<Vec<u8>> {
    vec![
        b"\x04\x00\x06\x04\x00\x06\x0f\x80\x06\x04\x00\x06\x0e\x10\x00\x06\x04\x01\x06".to_vec(),
        b"\x04\x00\x06\x0f\x20\x06\x01\x01\x00\x04data\x06\x0b\x00\x04back\x06\x0e\x40\x00\x06".to_vec(),
        b"\x00\x00\x00\x05\x01\x01\x00\x00\x00\x06\x14\x00\x03\x55\x06\x08\x02\x06\x06\x09\x06\x08\x03\x06"
            .to_vec(),
        b"\x04\x00\x06\x0d\x09\x06\x0e\x20\x00\x06\x0a\x02\x00\x01\x05\x06".to_vec(),
    ]
}

/// For worlds of any routing protocol.
fn world_plays() -> Vec<Vec<u8>> {
    vec![
        b"\x03\x03\x0e\x08\x00\x03\x03\x1a\x00\x05hello\x00\x03\x2a\x00\x02hi\x00\x03".to_vec(),
        b"\x19\x01\x03\x0e\x10\x00\x03\x03\x19\x00\x03\x0e\x10\x00\x03\x3a\x00\x04leaf\x00\x03\xca\x00\x02up\x00\x03".to_vec(),
        b"\x1c\x07\x03\xdc\xff\x03\x0b\x00\x00\x04back\x03\x0d\x00\x09\x03\x1d\x01\x00\x20\x03".to_vec(),
        b"\x03\x07\x00\x06\x00\x07\x00\x05\x01\x03\x0e\x80\x00\x03\x03\x03".to_vec(),
    ]
}

/// Requests of programs, pings, signs of life, windows, and what the victim said sent back.
fn node_plays() -> Vec<Vec<u8>> {
    vec![
        b"\x08\x02\x00\x05hello\x00\xff\xff\x06\x0f\x20\x06\x06\x22\x00\x00\x06".to_vec(),
        b"\x49\x02\x00\xff\xff\x06\x06\x09\x02\x00\x10\xff\xff\x06\x0e\x10\x00\x06".to_vec(),
        [&b"\x00\x00\x09\x01\0\0\0\0\0\0\0\x07\x00\x06\x10\x00\x04text\x00\x06\x20\x00\x02pk\x00\x06"[..], b""].concat(),
        b"\x00\x00\x0d\x03\0\0\0\x01\0\0\0\0\0\0\x10\0\x00\x06\x06\x0e\x04\x00\x06\x02\x00\x00\x06".to_vec(),
        b"\x00\x00\x1d\x04\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\x00\x06".to_vec(),
        b"\x2b\x06\x06\x0f\x40\x06\x10\x00\x04host\x00\x06\x18\x02\x00\x03abc\x00\x10\x00\x06\x1b\x06".to_vec(),
        b"\x03\x00\x04junk\x00\x06\x04\x00\x04junk\x06\x05\x00\x02\x00\x04junk\x06\x88\x02\xff\xff\x00\xff\xff\x06\x06".to_vec(),
        b"\x0d\x06\x0e\x20\x00\x06\x0e\x20\x00\x06\x1d\x06\x3b\x00\x06\x2d\x01\x08\x02\x00\x01a\x00\x10\x00".to_vec(),
    ]
}

/// Keeps the passphrase of the seeds and of the target together.
const _: () = assert!(keys::PASSPHRASE.len() == 5);
