//! A busy world logs at the finest level, and shows no IP address, key or payload.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use byway_identity::{Addr, Prefix, SigningKey};
use byway_network::{Class, Plane, Protocol};
use byway_node::Question;
use byway_sim::{Daemons, Topology, Wire};
use tracing_subscriber::fmt::MakeWriter;

const DAEMONS: usize = 6;
const SECRET: &str = "Frühstück um neun am Hafen";

/// Collects what a subscriber writes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("nothing panics while it writes").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("nothing panics while it writes").clone())
            .expect("logs are text")
    }
}

/// The ways in which bytes are often written, whole and in their first half (logs shorten).
fn spellings(what: &str, bytes: &[u8], into: &mut BTreeMap<String, String>) {
    for part in [bytes, &bytes[..bytes.len() / 2]] {
        let list: Vec<String> = part.iter().map(u8::to_string).collect();
        let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
        let hex_list: Vec<String> = part.iter().map(|byte| format!("{byte:02x}")).collect();
        for (how, text) in [
            ("list", list.join(", ")),
            ("hex", hex.clone()),
            ("HEX", hex.to_uppercase()),
            ("hex with colons", hex_list.join(":")),
            ("base64", base64(part)),
            ("bytes", format!("{:?}", Bytes::copy_from_slice(part)).trim_matches(['b', '"']).to_owned()),
        ] {
            into.insert(text, format!("{what} as {how}"));
        }
    }
}

/// Standard base64 of as many whole groups as there are.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes.chunks_exact(3).flat_map(|group| {
        let word = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(word >> shift & 63) as usize]))
    });
    groups.collect()
}

fn key_spellings(what: &str, key: &SigningKey, into: &mut BTreeMap<String, String>) {
    spellings(&format!("the secret key of {what}"), &*key.seed(), into);
    spellings(&format!("the public key of {what}"), key.public().as_raw(), into);
}

/// Everything that a log must not hold: text, and what it is.
fn forbidden(world: &Daemons, keys: &[SigningKey]) -> BTreeMap<String, String> {
    let mut forbidden = BTreeMap::new();
    for daemon in 0..DAEMONS {
        forbidden.insert(Daemons::ip(daemon).to_string(), format!("the IP address of daemon {daemon}"));
        key_spellings(&format!("daemon {daemon}"), world.key(daemon), &mut forbidden);
    }
    for prefix in ["203.0.113.", "198.51.100.", "2001:db8", "2001:0db8"] {
        forbidden.insert(prefix.to_owned(), "a part of an IP address".to_owned());
    }
    for (number, key) in keys.iter().enumerate() {
        key_spellings(&format!("node {number}"), key, &mut forbidden);
    }
    forbidden.insert("Hafen".to_owned(), "a payload as text".to_owned());
    spellings("a payload", SECRET.as_bytes(), &mut forbidden);
    forbidden
}

fn leaks(log: &str, forbidden: &BTreeMap<String, String>) -> Vec<String> {
    let hits = forbidden.iter().filter_map(|(text, what)| Some((log.find(text.as_str())?, what)));
    let line = |at: usize| {
        let from = log[..at].rfind('\n').map_or(0, |end| end + 1);
        log[from..].lines().next().unwrap_or_default().to_owned()
    };
    hits.map(|(at, what)| format!("{what}: {}", line(at))).collect()
}

/// Links that come and go, daemons that die, strangers, garbage, questions, nodes and messages.
fn busy(world: &mut Daemons) -> Vec<SigningKey> {
    world.run_for(Duration::from_secs(2));
    let keys: Vec<SigningKey> = (0..DAEMONS).map(|_| world.fresh_key()).collect();
    let nodes: Vec<Addr> =
        keys.iter().enumerate().map(|(daemon, key)| world.open_key(daemon, key).expect("it opens")).collect();
    world.dial_nobody(0, ([198, 51, 100, 7], 9_001).into());
    let stranger = world.add("another network");
    world.link(stranger, 1, Wire::clean(Class::UDP));
    world.record();
    for round in 0..20 {
        for from in &nodes {
            for to in &nodes {
                // Refusals are part of a busy world.
                let _refused = world.send(*from, *to, Bytes::from_static(SECRET.as_bytes()));
            }
            let nobody = Prefix::new(&[round as u8, 0xff, 0xee], 24).expect("24 bits are there");
            world.ask(*from, Question::Find { prefix: nobody, plane: Plane::Any });
            world.ask(*from, Question::Ping { to: nodes[round % nodes.len()], plane: Plane::Any });
        }
        world.run_for(Duration::from_millis(700));
        match round {
            3 => world.set_wire(0, 1, false),
            8 => world.set_wire(0, 1, true),
            10 => world.kill(2),
            14 => world.restart(2),
            16 => world.close(nodes[4]),
            _ => {}
        }
    }
    for (daemon, from, datagram) in world.take_recorded().into_iter().take(2_000) {
        let mut bytes = datagram.to_vec();
        let at = world.dice().below(bytes.len());
        bytes[at] ^= 0x40;
        world.inject(daemon, from, &bytes);
        world.inject(from, daemon, &datagram);
    }
    world.run_for(Duration::from_secs(40));
    keys
}

fn a_busy_world_logs_no_ip_address_key_or_payload(protocol: Protocol) {
    let log = Log::default();
    let (world, keys) = tracing::subscriber::with_default(subscriber(&log), || {
        let mut world = Daemons::of(protocol, 1, &Topology::ring(DAEMONS), Wire::clean(Class::UDP));
        let keys = busy(&mut world);
        (world, keys)
    });
    let log = log.text();
    for target in ["byway_link", "byway_node"] {
        assert!(log.contains(target), "{target} logged nothing, so this test shows nothing");
    }
    assert!(log.lines().count() > 100, "a busy world logged only {} lines", log.lines().count());
    let leaks = leaks(&log, &forbidden(&world, &keys));
    assert!(leaks.is_empty(), "{leaks:#?}");
    let delivered = keys.iter().map(|key| world.received(key.public().addr()).len()).sum::<usize>();
    assert!(delivered > 300, "only {delivered} messages were delivered: the world was not busy");
}

#[test]
fn a_leak_would_be_seen() {
    let log = Log::default();
    let world = Daemons::new(byway_grove::PROTOCOL, 2, DAEMONS);
    let keys = [world.key(0).clone()];
    let marks = forbidden(&world, &keys);
    let raw = *keys[0].public().as_raw();
    let written = |write: &dyn Fn()| {
        log.0.lock().expect("nothing panics while it writes").clear();
        tracing::subscriber::with_default(subscriber(&log), write);
        !leaks(&log.text(), &marks).is_empty()
    };
    assert!(written(&|| tracing::trace!(from = %Daemons::ip(1), "a frame")));
    assert!(written(&|| tracing::trace!(key = ?raw, "a key")));
    assert!(written(&|| tracing::trace!(key = %base64(&raw), "a key")));
    assert!(written(&|| tracing::debug!(payload = ?Bytes::from_static(SECRET.as_bytes()), "a message")));
    assert!(written(&|| tracing::debug!(payload = ?SECRET.as_bytes(), "a message")));
    assert!(!written(&|| tracing::debug!(node = ?world.main(0), "an address is no location")));
}

fn subscriber(log: &Log) -> impl tracing::Subscriber + Send + Sync + use<> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish()
}

byway_sim::with_each_protocol! {
    a_busy_world_logs_no_ip_address_key_or_payload
}
