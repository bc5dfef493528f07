//! The link's own frames: greeting, probe, answer (spec/30-link.md, sections 2 and 3).
//!
//! ```text
//! GREETING  0x01 · version u8 · flags u8 · class u8 · boot u64 · network 32 · (type v · length v · value)*
//!           type 1: name of the routing protocol
//! PROBE     0x02 · flags u8 · number u32 · cost u16 · padding
//! ANSWER    0x03 · number u32 · cost u16
//! ```

use bytes::Bytes;
use byway_network::{Class, Cost, NetworkId, Protocol};
use byway_wire::{Malformed, Reader, Writer};

/// The version of this protocol that a greeting names.
pub(crate) const VERSION: u8 = 1;

const GREETING: u8 = 1;
const PROBE: u8 = 2;
const ANSWER: u8 = 3;

const SEEN: u8 = 1;
const ANSWER_ME: u8 = 2;
const DEAF: u8 = 1;

/// The option of a greeting that names the routing protocol.
const PROTOCOL: u64 = 1;
/// What versions that named none have spoken.
const FORMER_PROTOCOL: &str = "beacon";

/// Bytes of a probe without padding.
pub(crate) const PROBE_LENGTH: usize = 8;

/// One frame of the link itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Greeting(Greeting),
    Probe(Probe),
    Answer {
        number: u32,
        cost: Cost,
    },
    /// Of a later version: to be skipped.
    Unknown,
}

/// What each side says first in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) version: u8,
    /// The sender has the other side's greeting.
    pub(crate) seen: bool,
    /// The sender does not know yet whether its own greeting arrived.
    pub(crate) answer_me: bool,
    /// What the sender takes the link for.
    pub(crate) class: u8,
    /// Grows at each start of the sender.
    pub(crate) boot: u64,
    pub(crate) network: [u8; 32],
    pub(crate) protocol: Name,
}

/// The name of a routing protocol, as [`Protocol::is_name`] allows it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name {
    length: usize,
    bytes: [u8; Protocol::NAME_MAX],
}

/// Asks for an answer; may be padded to find out how long a frame may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    /// The sender has heard nothing for so long that it does not use the link.
    pub(crate) deaf: bool,
    pub(crate) number: u32,
    /// What the sender measured.
    pub(crate) cost: Cost,
}

impl Greeting {
    /// Whether it comes from a node of `network`.
    pub(crate) fn is_of(&self, network: &NetworkId) -> bool {
        self.network == *network.as_bytes()
    }

    /// The class that it names, if this version knows it.
    pub(crate) fn class(&self) -> Option<Class> {
        Class::from_byte(self.class)
    }

    pub(crate) fn emit(&self) -> Bytes {
        let flags = if self.seen { SEEN } else { 0 } | if self.answer_me { ANSWER_ME } else { 0 };
        let mut writer = Writer::with_capacity(46 + self.protocol.length);
        writer.u8(GREETING).u8(self.version).u8(flags).u8(self.class).u64_be(self.boot).bytes(&self.network);
        writer.varint(PROTOCOL).varint(self.protocol.length as u64).bytes(self.protocol.as_str().as_bytes());
        writer.finish()
    }
}

impl Name {
    /// `name`, if a protocol may be called so.
    pub(crate) fn new(name: &[u8]) -> Option<Self> {
        let mut bytes = [0; Protocol::NAME_MAX];
        bytes.get_mut(..name.len()).filter(|_| Protocol::is_name(name))?.copy_from_slice(name);
        Some(Self { length: name.len(), bytes })
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Probe {
    /// The probe, padded with zeros to `length` bytes.
    pub(crate) fn emit(&self, length: usize) -> Bytes {
        let mut writer = Writer::with_capacity(length.max(PROBE_LENGTH));
        writer.u8(PROBE).u8(if self.deaf { DEAF } else { 0 }).u32_be(self.number).u16_be(self.cost.encode());
        let mut frame = writer.into_mut();
        frame.resize(length.max(PROBE_LENGTH), 0);
        frame.freeze()
    }
}

/// The answer to the probe with `number`.
pub(crate) fn emit_answer(number: u32, cost: Cost) -> Bytes {
    let mut writer = Writer::with_capacity(7);
    writer.u8(ANSWER).u32_be(number).u16_be(cost.encode());
    writer.finish()
}

/// Reads one frame; unknown flags, options and types are skipped, so that later versions can add some.
pub(crate) fn parse(bytes: &[u8]) -> Result<Control, Malformed> {
    let mut reader = Reader::new(bytes);
    match reader.u8()? {
        GREETING => {
            let version = reader.u8()?;
            let flags = reader.u8()?;
            let mut greeting = Greeting {
                version,
                seen: flags & SEEN != 0,
                answer_me: flags & ANSWER_ME != 0,
                class: reader.u8()?,
                boot: reader.u64_be()?,
                network: reader.array()?,
                protocol: Name::new(FORMER_PROTOCOL.as_bytes()).ok_or(Malformed::Invalid("protocol"))?,
            };
            while reader.remaining() > 0 {
                let kind = reader.varint()?;
                let length = reader.varint()?;
                let value = reader.bytes(usize::try_from(length).map_err(|_| Malformed::Truncated)?)?;
                if kind == PROTOCOL {
                    greeting.protocol = Name::new(value).ok_or(Malformed::Invalid("protocol"))?;
                }
            }
            Ok(Control::Greeting(greeting))
        }
        PROBE => {
            let deaf = reader.u8()? & DEAF != 0;
            let probe = Probe { deaf, number: reader.u32_be()?, cost: Cost::decode(reader.u16_be()?) };
            Ok(Control::Probe(probe))
        }
        ANSWER => {
            let answer = Control::Answer { number: reader.u32_be()?, cost: Cost::decode(reader.u16_be()?) };
            reader.finish()?;
            Ok(answer)
        }
        _ => Ok(Control::Unknown),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes of a greeting without options.
    const GREETING_LENGTH: usize = 44;

    fn name(text: &str) -> Name {
        Name::new(text.as_bytes()).expect("a proper name")
    }

    proptest! {
        #[test]
        fn greetings_survive_the_wire(
            seen: bool, answer_me: bool, class: u8, boot: u64, network: [u8; 32], protocol in "[a-z0-9-]{1,32}",
        ) {
            let protocol = name(&protocol);
            let greeting = Greeting { version: VERSION, seen, answer_me, class, boot, network, protocol };
            let bytes = greeting.emit();
            prop_assert_eq!(parse(&bytes), Ok(Control::Greeting(greeting)));
            for length in (0..bytes.len()).filter(|length| *length != GREETING_LENGTH) {
                prop_assert_eq!(parse(&bytes[..length]), Err(Malformed::Truncated));
            }
        }

        #[test]
        fn probes_and_answers_survive_the_wire(deaf: bool, number: u32, cost: u16, length in 0usize..1_500) {
            let cost = Cost::decode(cost);
            let probe = Probe { deaf, number, cost };
            let bytes = probe.emit(length);
            prop_assert_eq!(bytes.len(), length.max(PROBE_LENGTH));
            prop_assert_eq!(parse(&bytes), Ok(Control::Probe(probe)));
            let answer = emit_answer(number, cost);
            prop_assert_eq!(parse(&answer), Ok(Control::Answer { number, cost }));
            for length in 0..answer.len() {
                prop_assert_eq!(parse(&answer[..length]), Err(Malformed::Truncated));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn the_vectors_hold_to_the_byte() {
        let text = include_str!("../../../spec/vectors/link.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let vectors = vectors["vectors"].as_array().unwrap();
        assert!(vectors.len() >= 17);
        for vector in vectors {
            let text = vector["bytes"].as_str().unwrap();
            let bytes: Vec<u8> = (0..text.len() / 2)
                .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap())
                .collect();
            let number = |name: &str| vector[name].as_u64().unwrap();
            let flag = |name: &str| vector[name].as_bool().unwrap();
            let cost = || Cost::from_units(number("cost") as u32);
            let read = parse(&bytes);
            let emitted = match (vector["kind"].as_str().unwrap(), read) {
                ("greeting", Ok(Control::Greeting(greeting))) => {
                    assert_eq!((greeting.seen, greeting.answer_me), (flag("seen"), flag("answer_me")));
                    assert_eq!((u64::from(greeting.class), greeting.boot), (number("class"), number("boot")));
                    assert_eq!(u64::from(greeting.version), number("version"));
                    assert_eq!(greeting.network, std::array::from_fn(|at| at as u8));
                    assert_eq!(greeting.protocol.as_str(), vector["protocol"].as_str().unwrap());
                    if vector.get("options").is_some() { continue } else { greeting.emit() }
                }
                ("probe", Ok(Control::Probe(probe))) => {
                    assert_eq!((probe.deaf, u64::from(probe.number)), (flag("deaf"), number("number")));
                    assert_eq!(probe.cost, cost());
                    probe.emit(bytes.len())
                }
                ("answer", Ok(Control::Answer { number: told, cost: dear })) => {
                    assert_eq!((u64::from(told), dear), (number("number"), cost()));
                    emit_answer(told, dear)
                }
                ("unknown", Ok(Control::Unknown)) | ("error", Err(_)) => continue,
                (kind, read) => panic!("{kind}: {read:?}"),
            };
            assert_eq!(emitted, bytes);
        }
    }

    #[test]
    fn options_of_later_versions_are_skipped_and_cut_ones_are_not() {
        let greeting = Greeting {
            version: 1,
            seen: true,
            answer_me: false,
            class: 0x20,
            boot: 5,
            network: [3; 32],
            protocol: name("grove"),
        };
        let mut bytes = greeting.emit().to_vec();
        bytes.extend([9, 2, 1, 2, 0x40, 0x99, 0]);
        assert_eq!(parse(&bytes), Ok(Control::Greeting(greeting)));
        bytes.extend([9, 2, 1]);
        assert_eq!(parse(&bytes), Err(Malformed::Truncated));
        assert_eq!(parse(&[0x77, 1, 2]), Ok(Control::Unknown));
    }

    #[test]
    fn a_greeting_that_names_no_protocol_is_from_a_version_that_had_one_alone() {
        let greeting = Greeting {
            version: 1,
            seen: false,
            answer_me: true,
            class: 0x20,
            boot: 5,
            network: [3; 32],
            protocol: name(FORMER_PROTOCOL),
        };
        let bytes = greeting.emit();
        assert_eq!(parse(&bytes[..GREETING_LENGTH]), Ok(Control::Greeting(greeting)));
        for odd in [&b""[..], b"Grove", b"gr[2J", &[b'x'; 33]] {
            let mut bytes = bytes[..GREETING_LENGTH].to_vec();
            bytes.extend([1, odd.len() as u8]);
            bytes.extend(odd);
            assert_eq!(parse(&bytes), Err(Malformed::Invalid("protocol")), "{odd:?}");
        }
    }
}
