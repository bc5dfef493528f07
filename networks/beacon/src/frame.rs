//! Frames between neighbours.
//!
//! ```text
//! BEACON  0x01  plane u8 · hops u8 · cost u16 · left u16 · CLAIM      a way to the node that signed the claim
//! DATA    0x02  plane u8 · ttl u8 · target 32 · payload
//! ASK     0x03  plane u8 · bits u16 · prefix ⌈bits / 8⌉               who begins with that?
//! TELL    0x04  plane u8 · CLAIM                                      the answer, to a leaf
//! LOST    0x05  plane u8 · (target 32 · boot v · counter v)*          no way any more by me to these
//! HELLO   0x06  flags u8 · CLAIM of the sender                        flags: 1 leaf, 2 please answer
//! ```
//!
//! The plane stands in front, so that a frame outside it is dropped before anything else of it is read.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use byway_identity::{Addr, Prefix};
use byway_network::{Cost, Family, FrameError, HOP_LIMIT, Plane};
use byway_wire::{Malformed, Reader, Writer};

use crate::claim::{Claim, Seq, TICK};

/// Bytes in front of the payload of DATA.
pub(crate) const DATA_OVERHEAD: usize = 35;
/// Where the hop limit of DATA stands.
pub(crate) const TTL_AT: usize = 2;
/// Bytes of a BEACON, nearly: what the period is computed from.
pub(crate) const BEACON_SIZE: u64 = 150;
/// Most nodes that one LOST names.
pub(crate) const LOST_MAX: usize = 24;

const BEACON: u8 = 1;
const DATA: u8 = 2;
const ASK: u8 = 3;
const TELL: u8 = 4;
const LOST: u8 = 5;
const HELLO: u8 = 6;

const LEAF: u8 = 1;
const ANSWER: u8 = 2;

/// What a neighbour says about its way to a node. Nobody signs it: a neighbour may lie about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advert {
    /// Hops from the neighbour to the node.
    pub(crate) hops: u8,
    /// What they cost.
    pub(crate) cost: Cost,
    /// How long the way may still be used.
    pub(crate) left: Duration,
}

/// That a neighbour has no way to a node any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) target: Addr,
    /// The newest claim that the neighbour knows; only a newer one surely helps it.
    pub(crate) seq: Seq,
}

/// One frame, apart from DATA's payload, which is never copied for parsing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Beacon { plane: Plane, advert: Advert, claim: Claim },
    Data { plane: Plane, ttl: u8, target: Addr },
    Ask { plane: Plane, prefix: Prefix },
    Tell { plane: Plane, claim: Claim },
    Lost { plane: Plane, lost: Vec<Lost> },
    Hello { leaf: bool, answer: bool, claim: Claim },
}

impl Frame {
    /// Reads the head of DATA that came over a link of `family`: plane, hop limit and target. `None`: it is something else.
    pub(crate) fn parse_data(bytes: &[u8], family: Family) -> Option<(Plane, u8, Addr)> {
        let mut reader = Reader::new(bytes);
        if reader.u8().ok()? != DATA {
            return None;
        }
        let plane = Plane::from_byte(reader.u8().ok()?).filter(|plane| plane.has(family))?;
        let (ttl, target) = read_data(&mut reader).ok()?;
        Some((plane, ttl, target))
    }

    /// Reads a frame that came over a link of `family`.
    pub(crate) fn parse(bytes: &[u8], family: Family) -> Result<Self, FrameError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8()?;
        if kind == HELLO {
            let flags = reader.u8()?;
            if flags & !(LEAF | ANSWER) != 0 {
                return Err(Malformed::Invalid("flags").into());
            }
            let claim = Claim::read(&mut reader)?;
            reader.finish()?;
            return Ok(Self::Hello { leaf: flags & LEAF != 0, answer: flags & ANSWER != 0, claim });
        }
        if !(BEACON..=LOST).contains(&kind) {
            return Err(Malformed::Invalid("frame type").into());
        }
        let plane = Plane::from_byte(reader.u8()?).ok_or(Malformed::Invalid("plane"))?;
        if !plane.has(family) {
            return Err(FrameError::Plane);
        }
        let frame = match kind {
            BEACON => {
                let advert = Advert {
                    hops: reader.u8()?,
                    cost: Cost::decode(reader.u16_be()?),
                    left: TICK * u32::from(reader.u16_be()?),
                };
                Self::Beacon { plane, advert, claim: Claim::read(&mut reader)? }
            }
            DATA => {
                let (ttl, target) = read_data(&mut reader)?;
                reader.rest();
                Self::Data { plane, ttl, target }
            }
            ASK => {
                let bits = reader.u16_be()?;
                let bytes = reader.bytes(usize::from(bits).div_ceil(8))?;
                let padded = if bits == 0 { &[0] } else { bytes };
                let prefix = Prefix::new(padded, bits).ok_or(Malformed::Invalid("prefix"))?;
                if !prefix.as_bytes().starts_with(bytes) {
                    return Err(Malformed::Invalid("bits after the prefix").into());
                }
                Self::Ask { plane, prefix }
            }
            TELL => Self::Tell { plane, claim: Claim::read(&mut reader)? },
            _ => {
                let mut lost = Vec::new();
                while reader.remaining() > 0 {
                    if lost.len() == LOST_MAX {
                        return Err(Malformed::Invalid("count").into());
                    }
                    let target = Addr::from_bytes(reader.array()?);
                    lost.push(Lost {
                        target,
                        seq: Seq { boot: reader.varint()?, counter: reader.varint()? },
                    });
                }
                Self::Lost { plane, lost }
            }
        };
        reader.finish()?;
        Ok(frame)
    }

    /// The bytes; of DATA only what stands in front of the payload.
    pub(crate) fn emit(&self) -> Bytes {
        let mut writer = Writer::with_capacity(160);
        match self {
            Self::Beacon { plane, advert, claim } => {
                let ticks = (advert.left.as_millis() / TICK.as_millis()).min(u128::from(u16::MAX)) as u16;
                writer.u8(BEACON).u8(plane.byte()).u8(advert.hops);
                writer.u16_be(advert.cost.encode()).u16_be(ticks).bytes(&claim.bytes);
            }
            Self::Data { plane, ttl, target } => {
                writer.u8(DATA).u8(plane.byte()).u8(*ttl).bytes(target.as_bytes());
            }
            Self::Ask { plane, prefix } => {
                let length = usize::from(prefix.bits()).div_ceil(8);
                writer.u8(ASK).u8(plane.byte()).u16_be(prefix.bits()).bytes(&prefix.as_bytes()[..length]);
            }
            Self::Tell { plane, claim } => {
                writer.u8(TELL).u8(plane.byte()).bytes(&claim.bytes);
            }
            Self::Lost { plane, lost } => {
                writer.u8(LOST).u8(plane.byte());
                for Lost { target, seq } in lost {
                    writer.bytes(target.as_bytes()).varint(seq.boot).varint(seq.counter);
                }
            }
            Self::Hello { leaf, answer, claim } => {
                let flags = if *leaf { LEAF } else { 0 } | if *answer { ANSWER } else { 0 };
                writer.u8(HELLO).u8(flags).bytes(&claim.bytes);
            }
        }
        writer.finish()
    }
}

/// What follows the plane in DATA.
fn read_data(reader: &mut Reader<'_>) -> Result<(u8, Addr), Malformed> {
    let ttl = reader.u8()?;
    if ttl == 0 || ttl > HOP_LIMIT {
        return Err(Malformed::Invalid("ttl"));
    }
    Ok((ttl, Addr::from_bytes(reader.array()?)))
}

/// DATA for `target`, from the start of its way.
pub(crate) fn data(plane: Plane, target: Addr, payload: &[u8]) -> Bytes {
    let mut writer = Writer::with_capacity(DATA_OVERHEAD + payload.len());
    writer.u8(DATA).u8(plane.byte()).u8(HOP_LIMIT).bytes(target.as_bytes()).bytes(payload);
    writer.finish()
}

/// The same DATA with another `ttl`, in place where nobody else holds the bytes.
pub(crate) fn with_ttl(frame: Bytes, ttl: u8) -> Bytes {
    let mut frame = frame.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    if let Some(byte) = frame.get_mut(TTL_AT) {
        *byte = ttl;
    }
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use byway_identity::SigningKey;
    use byway_network::NetworkId;
    use proptest::prelude::*;

    use super::*;
    use crate::claim::Own;

    fn claim() -> Claim {
        let key = SigningKey::from_seed(&[3; 32]);
        (**Own::new(key, NetworkId::new("test", None), [9; 32], 77, TICK * 20).claim()).clone()
    }

    fn samples() -> Vec<Frame> {
        let target = Addr::from_bytes([0xab; 32]);
        let lost = Lost { target, seq: Seq { boot: 1 << 40, counter: 3 } };
        let advert = Advert { hops: 3, cost: Cost::from_units(1_234), left: TICK * 55 };
        vec![
            Frame::Beacon { plane: Plane::Any, advert, claim: claim() },
            Frame::Data { plane: Plane::Any, ttl: 128, target },
            Frame::Ask { plane: Plane::Any, prefix: Prefix::new(&[0xfe], 7).expect("7 bits are there") },
            Frame::Ask { plane: Plane::Any, prefix: Prefix::whole(target) },
            Frame::Ask { plane: Plane::Any, prefix: Prefix::new(&[0], 0).expect("0 bits are there") },
            Frame::Tell { plane: Plane::Any, claim: claim() },
            Frame::Lost { plane: Plane::Any, lost: vec![lost; LOST_MAX] },
            Frame::Lost { plane: Plane::Any, lost: Vec::new() },
            Frame::Hello { leaf: true, answer: true, claim: claim() },
            Frame::Hello { leaf: false, answer: false, claim: claim() },
        ]
    }

    #[test]
    fn every_frame_is_read_as_it_was_written() {
        for frame in samples() {
            assert_eq!(Frame::parse(&frame.emit(), Family::Ip), Ok(frame));
        }
    }

    #[test]
    fn a_truncated_frame_is_an_error_unless_it_ends_between_two_entries() {
        for frame in samples() {
            let bytes = frame.emit();
            for length in 0..bytes.len() {
                match Frame::parse(&bytes[..length], Family::Ip) {
                    Ok(shorter) => assert!(matches!(shorter, Frame::Lost { .. }), "{shorter:?}"),
                    Err(error) => assert_eq!(error, FrameError::Malformed(Malformed::Truncated)),
                }
            }
        }
    }

    #[test]
    fn bytes_after_a_frame_are_an_error_but_after_data() {
        for frame in samples() {
            let longer = [&frame.emit()[..], &[0]].concat();
            let parsed = Frame::parse(&longer, Family::Ip);
            assert_eq!(parsed.is_ok(), matches!(frame, Frame::Data { .. }), "{frame:?}");
        }
    }

    #[test]
    fn a_frame_outside_its_plane_is_refused_before_the_rest_is_looked_at() {
        for kind in BEACON..=LOST {
            let nonsense = [kind, Plane::Anon.byte(), 0xff];
            assert_eq!(Frame::parse(&nonsense, Family::Ip), Err(FrameError::Plane));
            assert_ne!(Frame::parse(&nonsense, Family::Tor), Err(FrameError::Plane));
        }
    }

    #[test]
    fn bits_behind_the_end_of_a_prefix_are_refused() {
        assert!(Frame::parse(&[ASK, 0, 0, 7, 0xfe], Family::Ip).is_ok());
        assert!(Frame::parse(&[ASK, 0, 0, 7, 0xff], Family::Ip).is_err());
        assert!(Frame::parse(&[ASK, 0, 1, 1, 0xff], Family::Ip).is_err());
    }

    #[test]
    fn one_lost_too_many_is_refused() {
        let lost = Lost { target: Addr::from_bytes([1; 32]), seq: Seq { boot: 0, counter: 0 } };
        let frame = Frame::Lost { plane: Plane::Any, lost: vec![lost; LOST_MAX + 1] };
        assert!(Frame::parse(&frame.emit(), Family::Ip).is_err());
    }

    #[test]
    fn the_hop_limit_changes_and_the_payload_stays() {
        let target = Addr::from_bytes([1; 32]);
        let frame = data(Plane::Quiet, target, b"payload");
        let shared = frame.clone();
        let passed = with_ttl(frame, 9);
        assert_eq!(
            Frame::parse(&passed, Family::Tor),
            Ok(Frame::Data { plane: Plane::Quiet, ttl: 9, target })
        );
        assert_eq!(&passed[DATA_OVERHEAD..], b"payload");
        assert_eq!(shared[2], HOP_LIMIT, "bytes that somebody else holds are not touched");
    }

    proptest! {
        #[test]
        fn a_frame_has_one_encoding(mut bytes: Vec<u8>, kind in 0u8..8) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            if let Ok(frame) = Frame::parse(&bytes, Family::Loopback) {
                let emitted = frame.emit();
                let is_data = matches!(frame, Frame::Data { .. });
                let length = if is_data { DATA_OVERHEAD } else { bytes.len() };
                prop_assert_eq!(&emitted[..], &bytes[..length]);
            }
        }
    }
}
