//! Grove's frames as somebody sees them who has only read the specification: to show them to people, and to misbehave with.
//!
//! Nothing here comes from the router: what stands on the wire is read and made anew, from `spec/60-networks/grove.md`. So an
//! attack written with it needs no help of its victim, and a mistake in the specification shows.

use bytes::Bytes;
use byway_identity::{Signature, SigningKey};
use byway_network::{NetworkId, Plane};
use byway_wire::{Malformed, Reader, Writer};

/// The first byte of a frame.
#[expect(missing_docs, reason = "the names are those of the specification")]
pub mod kind {
    pub const HELLO: u8 = 1;
    pub const CERTS: u8 = 2;
    pub const HOME: u8 = 3;
    pub const FILTER: u8 = 4;
    pub const VIEW: u8 = 5;
    pub const LOOKUP: u8 = 6;
    pub const FOUND: u8 = 7;
    pub const DATA: u8 = 8;
    pub const ROUTED: u8 = 9;
    pub const PROBE: u8 = 10;
    pub const TRACE: u8 = 11;
    pub const BROKEN: u8 = 12;
    pub const ECHO: u8 = 13;
    pub const MOVED: u8 = 14;
}

/// The name of a kind of frame.
pub fn name(kind: u8) -> &'static str {
    const NAMES: [&str; 15] = [
        "?", "HELLO", "CERTS", "HOME", "FILTER", "VIEW", "LOOKUP", "FOUND", "DATA", "ROUTED", "PROBE",
        "TRACE", "BROKEN", "ECHO", "MOVED",
    ];
    NAMES.get(usize::from(kind)).copied().unwrap_or("?")
}

/// What stands in the head of a frame that carries a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase", tag = "by")]
pub enum Head {
    /// Each node looks for the next one.
    Steered {
        /// The trees that still count, a bit for each.
        mask: u8,
        /// What the rest of the way may cost, in units of 100 µs.
        remaining: u32,
        /// Hops that are left.
        ttl: u8,
    },
    /// The way is written in the frame.
    Led {
        /// Which label is next.
        at: u8,
        /// How many labels there are.
        of: u8,
        /// Hops that are left.
        ttl: u8,
    },
}

/// The head of a frame that carries a payload; nothing for other frames.
pub fn head(frame: &[u8]) -> Option<Head> {
    let mut r = Reader::new(frame);
    match r.u8().ok()? {
        kind::DATA | kind::PROBE => {
            r.u8().ok()?;
            let (ttl, mask) = (r.u8().ok()?, r.u8().ok()?);
            Some(Head::Steered { mask, remaining: r.u32_be().ok()?, ttl })
        }
        kind::ROUTED | kind::TRACE | kind::ECHO => {
            r.u8().ok()?;
            let (ttl, at) = (r.u8().ok()?, r.u8().ok()?);
            Some(Head::Led { at, of: r.u8().ok()?, ttl })
        }
        _ => None,
    }
}

/// The planes that a frame speaks of. HELLO speaks of none, and an OFFER, being good for every tree whose plane has its class,
/// neither.
///
/// # Errors
///
/// When it is no frame of grove.
pub fn planes(frame: &[u8]) -> Result<Vec<Plane>, Malformed> {
    let mut r = Reader::new(frame);
    let plane = |byte: u8| Plane::from_byte(byte).ok_or(Malformed::Invalid("plane"));
    Ok(match r.u8()? {
        kind::HELLO => Vec::new(),
        kind::CERTS => {
            let trees = items(frame)?.into_iter().filter_map(|item| match item {
                Item::Offer(_) => None,
                Item::Cert(Cert { tree, .. }) | Item::Pulse(Pulse { tree, .. }) => Some(tree),
            });
            trees.map(|tree| plane(tree >> 4)).collect::<Result<_, _>>()?
        }
        kind::HOME => {
            r.bytes(4)?;
            r.varint()?;
            r.bytes(2)?;
            coordinates(&mut r)?
        }
        kind::VIEW => {
            r.bytes(5)?;
            let mut planes = Vec::new();
            for _ in 0..r.varint()? {
                r.bytes(8)?;
                if r.u8()? & 0xf0 != 0xf0 {
                    r.bytes(2)?;
                    planes.extend(sketch(&mut r)?);
                }
            }
            planes
        }
        kind::FILTER | kind::LOOKUP => vec![plane(r.u8()? >> 4)?],
        kind::FOUND..=kind::MOVED => vec![plane(r.u8()?)?],
        _ => return Err(Malformed::Invalid("frame type")),
    })
}

/// Reads coordinates, and gives the planes of their trees.
fn coordinates(r: &mut Reader<'_>) -> Result<Vec<Plane>, Malformed> {
    let mut planes = Vec::new();
    for _ in 0..r.u8()? {
        planes.push(Plane::from_byte(r.u8()? >> 4).ok_or(Malformed::Invalid("plane"))?);
        r.bytes(4)?;
        for _ in 0..r.u8()? {
            r.varint()?;
            r.bytes(2)?;
        }
    }
    Ok(planes)
}

/// Reads a sketch, and gives the planes of its trees.
fn sketch(r: &mut Reader<'_>) -> Result<Vec<Plane>, Malformed> {
    let mut planes = Vec::new();
    for _ in 0..r.u8()? {
        planes.push(Plane::from_byte(r.u8()? >> 4).ok_or(Malformed::Invalid("plane"))?);
        if r.u8()? == 255 {
            r.bytes(4)?;
        }
        for _ in 0..r.u8()? {
            r.varint()?;
            r.bytes(2)?;
        }
    }
    Ok(planes)
}

/// One item of CERTS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A node lets another one be its child.
    Offer(Offer),
    /// A node has taken an offer.
    Cert(Cert),
    /// A root lives.
    Pulse(Pulse),
}

/// A node lets another one be its child. Keys are raw.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct Offer {
    pub child: [u8; 32],
    pub parent: [u8; 32],
    pub label: u64,
    pub class: u8,
    pub cost: u16,
    pub not_after: u32,
    pub signature: [u8; 64],
}

/// A node has taken an offer, in one tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct Cert {
    pub offer: Offer,
    pub tree: u8,
    pub boot: u64,
    pub counter: u64,
    pub signature: [u8; 64],
}

/// A root lives.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of the specification")]
pub struct Pulse {
    pub tree: u8,
    pub root: [u8; 32],
    pub boot: u64,
    pub counter: u64,
    pub signature: [u8; 64],
}

/// The algorithm byte of Ed25519.
const ED25519: u8 = 1;

fn key(r: &mut Reader<'_>) -> Result<[u8; 32], Malformed> {
    if r.u8()? == ED25519 { r.array() } else { Err(Malformed::Invalid("algorithm")) }
}

/// The items of CERTS.
///
/// # Errors
///
/// When it is no such frame.
pub fn items(frame: &[u8]) -> Result<Vec<Item>, Malformed> {
    let mut reader = Reader::new(frame);
    let r = &mut reader;
    if r.u8()? != kind::CERTS {
        return Err(Malformed::Invalid("frame type"));
    }
    let count = r.varint()?;
    let items = (0..count).map(|_| match r.u8()? {
        1 => Ok(Item::Offer(Offer::read(r)?)),
        2 => Ok(Item::Cert(Cert::read(r)?)),
        3 => Ok(Item::Pulse(Pulse::read(r)?)),
        _ => Err(Malformed::Invalid("kind of item")),
    });
    items.collect()
}

/// CERTS with these items.
pub fn certs(items: &[Item]) -> Bytes {
    let mut writer = Writer::new();
    let w = &mut writer;
    w.u8(kind::CERTS).varint(items.len() as u64);
    for item in items {
        match item {
            Item::Offer(offer) => offer.write(w.u8(1)),
            Item::Cert(cert) => cert.write(w.u8(2)),
            Item::Pulse(pulse) => pulse.write(w.u8(3)),
        }
    }
    writer.finish()
}

/// FILTER of all ones in `tree`, for so many nodes.
pub fn full_filter(tree: u8, version: u32, count: u64) -> Bytes {
    let mut writer = Writer::new();
    writer.u8(kind::FILTER).u8(tree).u32_be(version).varint(count).u8(0);
    writer.finish()
}

/// LOOKUP of a whole address in `tree`, going to the parent as well, as if it had come by `way`.
pub fn lookup(tree: u8, addr: &[u8; 32], nonce: u64, way: &[u16]) -> Bytes {
    const WIDE: u8 = 2;
    let mut writer = Writer::new();
    writer
        .u8(kind::LOOKUP)
        .u8(tree)
        .u8(WIDE)
        .u16_be(256)
        .bytes(addr)
        .u64_be(nonce)
        .u8(255)
        .u8(way.len() as u8);
    for label in way {
        writer.u16_be(*label);
    }
    writer.finish()
}

fn signed(signer: &SigningKey, purpose: &str, network: &NetworkId, said: &Writer) -> [u8; 64] {
    let signature: Signature = signer.sign(purpose, &[network.as_bytes(), said.as_slice()].concat());
    *signature.as_bytes()
}

impl Offer {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            child: key(r)?,
            parent: key(r)?,
            label: r.varint()?,
            class: r.u8()?,
            cost: r.u16_be()?,
            not_after: r.u32_be()?,
            signature: r.array()?,
        })
    }

    fn write_said(&self, w: &mut Writer) {
        w.u8(ED25519).bytes(&self.child).u8(ED25519).bytes(&self.parent);
        w.varint(self.label).u8(self.class).u16_be(self.cost).u32_be(self.not_after);
    }

    fn write(&self, w: &mut Writer) {
        self.write_said(w);
        w.bytes(&self.signature);
    }

    /// The same, signed by whoever has `signer`.
    #[must_use]
    pub fn signed(mut self, signer: &SigningKey, network: &NetworkId) -> Self {
        let mut said = Writer::new();
        self.write_said(&mut said);
        self.signature = signed(signer, "inet256/grove/offer", network, &said);
        self
    }
}

impl Cert {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            offer: Offer::read(r)?,
            tree: r.u8()?,
            boot: r.varint()?,
            counter: r.varint()?,
            signature: r.array()?,
        })
    }

    fn write_said(&self, w: &mut Writer) {
        self.offer.write(w);
        w.u8(self.tree).varint(self.boot).varint(self.counter);
    }

    fn write(&self, w: &mut Writer) {
        self.write_said(w);
        w.bytes(&self.signature);
    }

    /// The same, signed by whoever has `signer`.
    #[must_use]
    pub fn signed(mut self, signer: &SigningKey, network: &NetworkId) -> Self {
        let mut said = Writer::new();
        self.write_said(&mut said);
        self.signature = signed(signer, "inet256/grove/cert", network, &said);
        self
    }
}

impl Pulse {
    fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            tree: r.u8()?,
            root: key(r)?,
            boot: r.varint()?,
            counter: r.varint()?,
            signature: r.array()?,
        })
    }

    fn write(&self, w: &mut Writer) {
        w.u8(self.tree).u8(ED25519).bytes(&self.root).varint(self.boot).varint(self.counter);
        w.bytes(&self.signature);
    }
}
