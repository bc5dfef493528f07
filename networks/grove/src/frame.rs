//! Frames that neighbours tell each other things by.
//!
//! ```text
//! HELLO   0x01  flags u8 · boot v · cost u16 · certs u64 · filters u32 · view u32 · key?    flags: 1 leaf, 2 please answer, 4 key
//! CERTS   0x02  n v · (kind u8 · OFFER | CERT | PULSE)*                               kind: 1, 2, 3
//! HOME    0x03  version u32 · label v · cost u16 · coordinates                        to a leaf: where its hub is
//! FILTER  0x04  tree u8 · version u32 · count v · form u8 · positions                 form: 0 full, 1 list, 2 bits, 3 more
//! VIEW    0x05  version u32 · whole u8 · n v · (id 8 · class u8 · cost u16 · sketch | id 8 · 0xf0 + family)*
//! LOOKUP  0x06  tree u8 · flags u8 · bits u16 · prefix · nonce u64 · ttl u8 · way     flags: 1 sample, 2 wide, 4 down, 8 fresh
//! FOUND   0x07  plane u8 · nonce u64 · way · LOCATION
//! MOVED   0x0E  plane u8 · ttl u8 · LOCATION                                          back over the links that frames came by
//! way           n u8 · label u16*
//! ```
//!
//! Where a frame has a plane or tree, it stands in front, so that a frame outside its plane is dropped before anything else
//! of it is read.

use bytes::Bytes;
use byway_identity::Prefix;
use byway_network::{Class, Family, FrameError, Plane};
use byway_wire::{Malformed, Reader, VARINT_MAX, Writer};

use crate::cert::{CertClaim, OfferClaim, Pulse, read_key, write_key};
use crate::coords::{Coords, LABEL_BOUND, Step, label};
use crate::filter::{BITS, Bits};
use crate::location::Location;
use crate::names::{ShortId, TreeId};
use crate::sketch::Sketch;

pub(crate) const HELLO: u8 = 1;
pub(crate) const CERTS: u8 = 2;
pub(crate) const HOME: u8 = 3;
pub(crate) const FILTER: u8 = 4;
pub(crate) const VIEW: u8 = 5;
pub(crate) const LOOKUP: u8 = 6;
pub(crate) const FOUND: u8 = 7;
pub(crate) const MOVED: u8 = 14;

/// Most labels of a way.
pub(crate) const WAY_MAX: usize = 127;
/// Most peers in a view.
pub(crate) const VIEW_MAX: usize = 32;
/// Most items of a bundle.
pub(crate) const ITEMS_MAX: usize = 256;
/// Most further positions that are not told as a whole filter.
pub(crate) const MORE_MAX: usize = 256;

/// What neighbours tell each other all the time: who speaks, and how much of what was said has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) leaf: bool,
    pub(crate) answer: bool,
    /// The start of the sender.
    pub(crate) boot: u64,
    /// What the sender measures of the link.
    pub(crate) cost: u16,
    /// Sum over the certificates that the sender has of the receiver's chains, and the receiver's offer.
    pub(crate) certs: u64,
    /// Sum over the versions of the filters that the sender has of the receiver.
    pub(crate) filters: u32,
    /// The version of the receiver's view, or of its home, that the sender has.
    pub(crate) view: u32,
    /// The sender's key, in greetings and the answers to them.
    pub(crate) key: Option<[u8; 32]>,
}

/// One item of CERTS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    Offer(OfferClaim),
    Cert(CertClaim),
    Pulse(Pulse),
}

/// What a filter says, or what it says more than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Summary {
    Whole(Bits),
    /// Positions to add to the version before.
    More(Vec<u16>),
}

/// A peer of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) id: ShortId,
    pub(crate) class: Class,
    pub(crate) cost: u16,
    pub(crate) coords: Coords,
}

/// The same, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) id: ShortId,
    pub(crate) class: Class,
    pub(crate) cost: u16,
    pub(crate) sketch: Sketch,
}

impl Told {
    /// The peer of a peer, for who knows where the peer is.
    pub(crate) fn resolve(&self, teller: &Coords) -> Seen {
        Seen { id: self.id, class: self.class, cost: self.cost, coords: self.sketch.resolve(teller) }
    }
}

/// One entry of a view: somebody is there, or not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sight {
    There(Told),
    Gone(ShortId, Family),
}

/// How a lookup goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// To anyone: the prefix does not matter.
    pub(crate) sample: bool,
    /// To the parent as well, even where children match.
    pub(crate) wide: bool,
    /// On its way down: not to the parent any more.
    pub(crate) down: bool,
    /// To be answered by the node itself, not by somebody who remembers.
    pub(crate) fresh: bool,
}

/// A question for a node, on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    pub(crate) tree: TreeId,
    pub(crate) manner: Manner,
    pub(crate) prefix: Prefix,
    pub(crate) nonce: u64,
    pub(crate) ttl: u8,
    /// The labels by which an answer goes back, the last one first.
    pub(crate) way: Vec<u16>,
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Hello(Hello),
    Certs(Vec<Item>),
    Home {
        version: u32,
        step: Step,
        coords: Coords,
    },
    Filter {
        tree: TreeId,
        version: u32,
        count: u64,
        summary: Summary,
    },
    View {
        version: u32,
        whole: bool,
        sights: Vec<Sight>,
    },
    Lookup(Lookup),
    Found {
        plane: Plane,
        nonce: u64,
        way: Vec<u16>,
        location: Box<Location>,
    },
    /// Back to those who send to a node: where it is now.
    Moved {
        ttl: u8,
        location: Box<Location>,
    },
}

const LEAF: u8 = 1;
const ANSWER: u8 = 2;
const KEY: u8 = 4;
const SAMPLE: u8 = 1;
const WIDE: u8 = 2;
const DOWN: u8 = 4;
const FRESH: u8 = 8;
const GONE: u8 = 0xf0;

impl Frame {
    /// Reads a frame that came over a link of `family`. Nothing in it has been checked but its form.
    pub(crate) fn parse(bytes: &[u8], family: Family) -> Result<Self, FrameError> {
        let mut reader = Reader::new(bytes);
        let r = &mut reader;
        let frame = match r.u8()? {
            HELLO => Self::Hello(hello(r)?),
            CERTS => {
                let count = count(r, ITEMS_MAX)?;
                let items = (0..count).map(|_| match r.u8()? {
                    1 => Ok(Item::Offer(OfferClaim::read(r)?)),
                    2 => Ok(Item::Cert(CertClaim::read(r)?)),
                    3 => Ok(Item::Pulse(Pulse::read(r)?)),
                    _ => Err(Malformed::Invalid("kind of item")),
                });
                Self::Certs(items.collect::<Result<_, _>>()?)
            }
            HOME => {
                let version = r.u32_be()?;
                let step = Step { label: label(r)?, cost: r.u16_be()? };
                Self::Home { version, step, coords: Coords::read(r)? }
            }
            FILTER => {
                let tree = tree(r, family)?;
                let version = r.u32_be()?;
                let count = r.varint()?;
                Self::Filter { tree, version, count, summary: summary(r)? }
            }
            VIEW => {
                let version = r.u32_be()?;
                let whole = match r.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Malformed::Invalid("flag").into()),
                };
                let count = count(r, 2 * VIEW_MAX)?;
                let sights = (0..count).map(|_| sight(r)).collect::<Result<_, _>>()?;
                Self::View { version, whole, sights }
            }
            LOOKUP => {
                let tree = tree(r, family)?;
                let flags = r.u8()?;
                if flags & !(SAMPLE | WIDE | DOWN | FRESH) != 0 {
                    return Err(Malformed::Invalid("flags").into());
                }
                let manner = Manner {
                    sample: flags & SAMPLE != 0,
                    wide: flags & WIDE != 0,
                    down: flags & DOWN != 0,
                    fresh: flags & FRESH != 0,
                };
                let (prefix, nonce, ttl) = (prefix(r)?, r.u64_be()?, r.u8()?);
                Self::Lookup(Lookup { tree, manner, prefix, nonce, ttl, way: way(r)? })
            }
            FOUND => {
                let plane = plane(r, family)?;
                let (nonce, way) = (r.u64_be()?, way(r)?);
                let location = Box::new(Location::read(r)?);
                if location.plane != plane {
                    return Err(Malformed::Invalid("plane of the location").into());
                }
                Self::Found { plane, nonce, way, location }
            }
            MOVED => {
                let plane = plane(r, family)?;
                let ttl = r.u8()?;
                let location = Box::new(Location::read(r)?);
                if location.plane != plane || ttl > byway_network::HOP_LIMIT {
                    return Err(Malformed::Invalid("plane of the location, or ttl").into());
                }
                Self::Moved { ttl, location }
            }
            _ => return Err(Malformed::Invalid("frame type").into()),
        };
        reader.finish()?;
        Ok(frame)
    }

    pub(crate) fn emit(&self) -> Bytes {
        let mut writer = Writer::with_capacity(256);
        let w = &mut writer;
        match self {
            Self::Hello(hello) => {
                let flag = |set: bool, flag: u8| if set { flag } else { 0 };
                let flags =
                    flag(hello.leaf, LEAF) | flag(hello.answer, ANSWER) | flag(hello.key.is_some(), KEY);
                w.u8(HELLO).u8(flags).varint(hello.boot.min(VARINT_MAX)).u16_be(hello.cost);
                w.u64_be(hello.certs).u32_be(hello.filters).u32_be(hello.view);
                if let Some(key) = &hello.key {
                    write_key(w, key);
                }
            }
            Self::Certs(items) => {
                w.u8(CERTS).varint(items.len() as u64);
                for item in items {
                    match item {
                        Item::Offer(offer) => offer.write(w.u8(1)),
                        Item::Cert(cert) => cert.write(w.u8(2)),
                        Item::Pulse(pulse) => pulse.write(w.u8(3)),
                    }
                }
            }
            Self::Home { version, step, coords } => {
                w.u8(HOME).u32_be(*version).varint(step.label.into()).u16_be(step.cost);
                coords.write(w);
            }
            Self::Filter { tree, version, count, summary } => {
                w.u8(FILTER).u8(tree.byte()).u32_be(*version).varint((*count).min(VARINT_MAX));
                match summary {
                    Summary::Whole(Bits::Full) => {
                        w.u8(0);
                    }
                    Summary::Whole(bits @ Bits::Sparse(_)) => list(w.u8(1), &bits.iter().collect::<Vec<_>>()),
                    Summary::Whole(bits @ Bits::Dense(_)) => {
                        w.u8(2).bytes(&bits.to_bytes());
                    }
                    Summary::More(positions) => list(w.u8(3), positions),
                }
            }
            Self::View { version, whole, sights } => {
                w.u8(VIEW).u32_be(*version).u8((*whole).into()).varint(sights.len() as u64);
                for sight in sights {
                    match sight {
                        Sight::There(told) => {
                            w.bytes(&told.id.0).u8(told.class.byte()).u16_be(told.cost);
                            told.sketch.write(w);
                        }
                        Sight::Gone(id, family) => {
                            w.bytes(&id.0).u8(GONE | *family as u8);
                        }
                    }
                }
            }
            Self::Lookup(lookup) => {
                let Manner { sample, wide, down, fresh } = lookup.manner;
                let flag = |set: bool, flag: u8| if set { flag } else { 0 };
                w.u8(LOOKUP).u8(lookup.tree.byte());
                w.u8(flag(sample, SAMPLE) | flag(wide, WIDE) | flag(down, DOWN) | flag(fresh, FRESH));
                let length = usize::from(lookup.prefix.bits()).div_ceil(8);
                w.u16_be(lookup.prefix.bits()).bytes(&lookup.prefix.as_bytes()[..length]);
                w.u64_be(lookup.nonce).u8(lookup.ttl);
                labels(w, &lookup.way);
            }
            Self::Found { plane, nonce, way, location } => {
                w.u8(FOUND).u8(plane.byte()).u64_be(*nonce);
                labels(w, way);
                location.write(w);
            }
            Self::Moved { ttl, location } => {
                w.u8(MOVED).u8(location.plane.byte()).u8(*ttl);
                location.write(w);
            }
        }
        writer.finish()
    }
}

fn hello(r: &mut Reader<'_>) -> Result<Hello, Malformed> {
    let flags = r.u8()?;
    if flags & !(LEAF | ANSWER | KEY) != 0 {
        return Err(Malformed::Invalid("flags"));
    }
    Ok(Hello {
        leaf: flags & LEAF != 0,
        answer: flags & ANSWER != 0,
        boot: r.varint()?,
        cost: r.u16_be()?,
        certs: r.u64_be()?,
        filters: r.u32_be()?,
        view: r.u32_be()?,
        key: if flags & KEY != 0 { Some(read_key(r)?) } else { None },
    })
}

/// Reads a plane that has links of `family`.
pub(crate) fn plane(r: &mut Reader<'_>, family: Family) -> Result<Plane, FrameError> {
    let plane = Plane::from_byte(r.u8()?).ok_or(Malformed::Invalid("plane"))?;
    if plane.has(family) { Ok(plane) } else { Err(FrameError::Plane) }
}

fn tree(r: &mut Reader<'_>, family: Family) -> Result<TreeId, FrameError> {
    let tree = TreeId::from_byte(r.u8()?).ok_or(Malformed::Invalid("tree"))?;
    if tree.has(family) { Ok(tree) } else { Err(FrameError::Plane) }
}

fn count(r: &mut Reader<'_>, most: usize) -> Result<usize, Malformed> {
    let count = r.varint()?;
    if count <= most as u64 { Ok(count as usize) } else { Err(Malformed::Invalid("count")) }
}

fn position(r: &mut Reader<'_>) -> Result<u16, Malformed> {
    let position = r.u16_be()?;
    if position < BITS { Ok(position) } else { Err(Malformed::Invalid("position")) }
}

fn ascending(r: &mut Reader<'_>, most: usize) -> Result<Vec<u16>, Malformed> {
    let count = count(r, most)?;
    let positions: Vec<u16> = (0..count).map(|_| position(r)).collect::<Result<_, _>>()?;
    if positions.is_sorted_by(|a, b| a < b) { Ok(positions) } else { Err(Malformed::Invalid("order")) }
}

fn summary(r: &mut Reader<'_>) -> Result<Summary, Malformed> {
    Ok(match r.u8()? {
        0 => Summary::Whole(Bits::Full),
        1 => match ascending(r, BITS.into())?.into_iter().collect() {
            bits @ Bits::Sparse(_) => Summary::Whole(bits),
            _ => return Err(Malformed::Invalid("a list longer than the bits")),
        },
        2 => match Bits::from_bytes(&r.array()?) {
            bits @ Bits::Dense(_) => Summary::Whole(bits),
            _ => return Err(Malformed::Invalid("bits longer than a list")),
        },
        3 => Summary::More(ascending(r, MORE_MAX)?),
        _ => return Err(Malformed::Invalid("form")),
    })
}

fn list(w: &mut Writer, positions: &[u16]) {
    w.varint(positions.len() as u64);
    for position in positions {
        w.u16_be(*position);
    }
}

fn sight(r: &mut Reader<'_>) -> Result<Sight, Malformed> {
    let id = ShortId(r.array()?);
    let class = r.u8()?;
    if class & GONE == GONE {
        let family = Family::ALL.get(usize::from(class & !GONE)).ok_or(Malformed::Invalid("family"))?;
        return Ok(Sight::Gone(id, *family));
    }
    let class = Class::from_byte(class).ok_or(Malformed::Invalid("class"))?;
    Ok(Sight::There(Told { id, class, cost: r.u16_be()?, sketch: Sketch::read(r)? }))
}

fn prefix(r: &mut Reader<'_>) -> Result<Prefix, Malformed> {
    let bits = r.u16_be()?;
    let bytes = r.bytes(usize::from(bits).div_ceil(8))?;
    let padded = if bits == 0 { &[0] } else { bytes };
    let prefix = Prefix::new(padded, bits).ok_or(Malformed::Invalid("prefix"))?;
    if prefix.as_bytes().starts_with(bytes) {
        Ok(prefix)
    } else {
        Err(Malformed::Invalid("bits after the prefix"))
    }
}

/// Reads a list of labels.
pub(crate) fn way(r: &mut Reader<'_>) -> Result<Vec<u16>, Malformed> {
    let count = usize::from(r.u8()?);
    if count > WAY_MAX {
        return Err(Malformed::Invalid("length of the way"));
    }
    let label = |r: &mut Reader<'_>| match r.u16_be()? {
        label @ 0..LABEL_BOUND => Ok(label),
        _ => Err(Malformed::Invalid("label")),
    };
    (0..count).map(|_| label(r)).collect()
}

/// Writes a list of labels.
pub(crate) fn labels(w: &mut Writer, labels: &[u16]) {
    w.u8(labels.len().min(WAY_MAX) as u8);
    for label in labels.iter().take(WAY_MAX) {
        w.u16_be(*label);
    }
}

#[cfg(test)]
#[path = "frame_tests.rs"]
pub(crate) mod tests;
