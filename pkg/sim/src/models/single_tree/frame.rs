//! What nodes of the model tell each other.
//!
//! ```text
//! ASK       01  seq v · nonce u64                                        will you be my parent?
//! GRANT     02  seq v · nonce u64 · port v · sig 64                      yes, and this is how I call the link
//! PLACE     03  node 32 · parent 32 · seq v · nonce u64 · port v · sig 64 · sig 64
//! BLOOM     04  filter
//! LOOKUP    05  ttl u8 · source 32 · target 32 · path of the source
//! NOTIFY    06  path · watermark v · source 32 · target 32 · seq v · path of the source · sig 64
//! BROKEN    07  path · watermark v · source 32 · target 32
//! TRAFFIC   08  path · path of the source · source 32 · target 32 · watermark v · payload
//! path          n v · (port v)*
//! ```
//!
//! Where the original has a signature there are zeros.

use bytes::Bytes;
use byway_identity::Addr;
use byway_wire::{Malformed, Reader, VARINT_MAX, Writer};

use super::bloom::Bloom;

/// Ports from the root down.
pub(super) type Ports = Vec<u64>;

/// Longest path that is read.
const PORTS_MAX: u64 = 256;
const SIGNATURE: usize = 64;

/// Where a node is: below `parent`, by the link that its parent calls `port`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) parent: Addr,
    pub(super) seq: u64,
    pub(super) nonce: u64,
    pub(super) port: u64,
}

/// A frame that is steered by ports: each node hands it to a neighbour nearer to `path`.
#[derive(Clone)]
pub(super) struct Steered {
    pub(super) path: Ports,
    /// The distance that the last node had; falls at each hop.
    pub(super) watermark: u64,
    pub(super) source: Addr,
    pub(super) target: Addr,
}

#[derive(Clone)]
pub(super) enum Frame {
    Ask { seq: u64, nonce: u64 },
    Grant { seq: u64, nonce: u64, port: u64 },
    Place { node: Addr, place: Place },
    Bloom(Bloom),
    Lookup { ttl: u8, source: Addr, target: Addr, from: Ports },
    Notify { head: Steered, seq: u64, from: Ports },
    Broken(Steered),
    Traffic { head: Steered, from: Ports, payload: Bytes },
}

fn addr(r: &mut Reader<'_>) -> Result<Addr, Malformed> {
    Ok(Addr::from_bytes(r.array()?))
}

fn path(r: &mut Reader<'_>) -> Result<Ports, Malformed> {
    let count = r.varint()?;
    if count > PORTS_MAX {
        return Err(Malformed::Invalid("length of a path"));
    }
    (0..count).map(|_| r.varint()).collect()
}

fn write_path(w: &mut Writer, path: &[u64]) {
    w.varint(path.len() as u64);
    for port in path {
        w.varint(*port);
    }
}

impl Frame {
    pub(super) fn parse(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let frame = match r.u8()? {
            1 => Self::Ask { seq: r.varint()?, nonce: r.u64_be()? },
            2 => {
                let (seq, nonce, port) = (r.varint()?, r.u64_be()?, r.varint()?);
                r.bytes(SIGNATURE)?;
                Self::Grant { seq, nonce, port }
            }
            3 => {
                let (node, parent) = (addr(r)?, addr(r)?);
                let place = Place { parent, seq: r.varint()?, nonce: r.u64_be()?, port: r.varint()? };
                r.bytes(2 * SIGNATURE)?;
                Self::Place { node, place }
            }
            4 => Self::Bloom(Bloom::read(r)?),
            5 => Self::Lookup { ttl: r.u8()?, source: addr(r)?, target: addr(r)?, from: path(r)? },
            6 => {
                let (path_there, watermark) = (path(r)?, r.varint()?);
                let head = Steered { path: path_there, watermark, source: addr(r)?, target: addr(r)? };
                let (seq, from) = (r.varint()?, path(r)?);
                r.bytes(SIGNATURE)?;
                Self::Notify { head, seq, from }
            }
            7 => {
                let (path, watermark) = (path(r)?, r.varint()?);
                Self::Broken(Steered { path, watermark, source: addr(r)?, target: addr(r)? })
            }
            8 => {
                let (path, from, source, target) = (path(r)?, path(r)?, addr(r)?, addr(r)?);
                let head = Steered { path, source, target, watermark: r.varint()? };
                return Ok(Self::Traffic { head, from, payload: bytes.slice_ref(r.rest()) });
            }
            _ => return Err(Malformed::Invalid("frame type")),
        };
        reader.finish()?;
        Ok(frame)
    }

    pub(super) fn emit(&self) -> Bytes {
        let mut writer = Writer::with_capacity(256);
        let w = &mut writer;
        let parties = |w: &mut Writer, head: &Steered| {
            w.bytes(head.source.as_bytes()).bytes(head.target.as_bytes());
        };
        match self {
            Self::Ask { seq, nonce } => {
                w.u8(1).varint(*seq).u64_be(*nonce);
            }
            Self::Grant { seq, nonce, port } => {
                w.u8(2).varint(*seq).u64_be(*nonce).varint(*port).bytes(&[0; SIGNATURE]);
            }
            Self::Place { node, place } => {
                w.u8(3).bytes(node.as_bytes()).bytes(place.parent.as_bytes());
                w.varint(place.seq).u64_be(place.nonce).varint(place.port).bytes(&[0; 2 * SIGNATURE]);
            }
            Self::Bloom(bloom) => bloom.write(w.u8(4)),
            Self::Lookup { ttl, source, target, from } => {
                w.u8(5).u8(*ttl).bytes(source.as_bytes()).bytes(target.as_bytes());
                write_path(w, from);
            }
            Self::Notify { head, seq, from } => {
                write_path(w.u8(6), &head.path);
                parties(w.varint(head.watermark.min(VARINT_MAX)), head);
                write_path(w.varint(*seq), from);
                w.bytes(&[0; SIGNATURE]);
            }
            Self::Broken(head) => {
                write_path(w.u8(7), &head.path);
                parties(w.varint(head.watermark.min(VARINT_MAX)), head);
            }
            Self::Traffic { head, from, payload } => {
                write_path(w.u8(8), &head.path);
                write_path(w, from);
                parties(w, head);
                w.varint(head.watermark.min(VARINT_MAX)).bytes(payload);
            }
        }
        writer.finish()
    }
}
