//! Families and classes of links, and the planes made of them.

use std::fmt;

/// A family of links: what matters about a link to somebody who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// Inside one machine. In every plane, and counts for nothing.
    Loopback = 0,
    /// Neighbours on one LAN.
    Ethernet = 1,
    /// Clear links over the internet.
    Ip = 2,
    /// Onion services.
    Tor = 3,
    /// I2P destinations.
    I2p = 4,
    /// Radio, serial, Bluetooth and other local mesh ("1DN").
    Mesh = 5,
}

/// A family and a kind within it, in one byte: the high nibble is the family, the low one the kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class(u8);

/// A set of classes, by family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ClassSet(u8);

/// A set of families that a route may use. The topology is pruned to it *before* paths are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Plane {
    /// All families.
    Any = 0,
    /// Tor and I2P.
    Anon = 1,
    /// Local mesh alone.
    Offgrid = 2,
    /// Tor, I2P and local mesh.
    Quiet = 3,
}

impl Family {
    /// Every family, in the order of their numbers.
    pub const ALL: [Self; 6] = [Self::Loopback, Self::Ethernet, Self::Ip, Self::Tor, Self::I2p, Self::Mesh];

    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Ethernet => "ethernet",
            Self::Ip => "ip",
            Self::Tor => "tor",
            Self::I2p => "i2p",
            Self::Mesh => "1dn",
        }
    }
}

impl Class {
    /// Inside one machine.
    pub const LOOPBACK: Self = Self::new(Family::Loopback, 0);
    /// A test link in memory.
    pub const MEMORY: Self = Self::new(Family::Loopback, 1);
    /// IP between neighbours on one LAN.
    pub const LAN: Self = Self::new(Family::Ethernet, 1);
    /// UDP over the internet.
    pub const UDP: Self = Self::new(Family::Ip, 0);

    /// The class of `kind` (its low 4 bits) within `family`.
    pub const fn new(family: Family, kind: u8) -> Self {
        Self((family as u8) << 4 | kind & 0x0f)
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        self.0
    }

    /// The class that `byte` stands for, if its family is known.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Family::ALL.iter().any(|family| *family as u8 == byte >> 4).then_some(Self(byte))
    }

    /// The family.
    pub fn family(self) -> Family {
        Family::ALL[usize::from(self.0 >> 4)]
    }

    /// The kind within the family.
    pub const fn kind(self) -> u8 {
        self.0 & 0x0f
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match (self.family(), self.kind()) {
            (Family::Loopback, 1) => "memory",
            (Family::Ethernet, 0) => "raw",
            (Family::Ethernet, 1) => "lan",
            (Family::Ip, 0) => "udp",
            (Family::Ip, 1) => "quic",
            (Family::Ip, 2) => "tcp",
            (Family::Ip, 3) => "tls",
            (Family::Ip, 4) => "websocket",
            (Family::Ip, 5) => "obfuscated",
            (Family::Tor, 0) => "onion",
            (Family::I2p, 0) => "stream",
            (Family::I2p, 1) => "datagram",
            (Family::Mesh, 0) => "lora",
            (Family::Mesh, 1) => "serial",
            (Family::Mesh, 2) => "bluetooth",
            (Family::Mesh, 3) => "wifi-direct",
            (Family::Mesh, 4) => "ad-hoc",
            (family, 0) => return f.write_str(family.name()),
            (family, kind) => return write!(f, "{}/{kind}", family.name()),
        };
        write!(f, "{}/{kind}", self.family().name())
    }
}

impl fmt::Debug for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl ClassSet {
    /// No class at all.
    pub const EMPTY: Self = Self(0);
    /// Every class.
    pub const ALL: Self = Self(0b11_1111);

    /// All classes of `families`.
    pub fn of(families: &[Family]) -> Self {
        Self(families.iter().fold(0, |set, family| set | 1 << *family as u8))
    }

    /// Whether links of `family` are in the set.
    pub const fn has(self, family: Family) -> bool {
        self.0 & 1 << family as u8 != 0
    }
}

impl fmt::Debug for ClassSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(Family::ALL.iter().filter(|family| self.has(**family))).finish()
    }
}

impl Plane {
    /// Every plane, in the order of their numbers.
    pub const ALL: [Self; 4] = [Self::Any, Self::Anon, Self::Offgrid, Self::Quiet];

    /// The families of the plane; loopback is in each.
    pub fn families(self) -> ClassSet {
        use Family::{I2p, Loopback, Mesh, Tor};
        match self {
            Self::Any => ClassSet::ALL,
            Self::Anon => ClassSet::of(&[Loopback, Tor, I2p]),
            Self::Offgrid => ClassSet::of(&[Loopback, Mesh]),
            Self::Quiet => ClassSet::of(&[Loopback, Tor, I2p, Mesh]),
        }
    }

    /// Whether a link of `family` may carry frames of this plane.
    pub fn has(self, family: Family) -> bool {
        self.families().has(family)
    }

    /// The plane with the number `byte`.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte)).copied()
    }

    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        self as u8
    }

    /// The name that people see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Anon => "anon",
            Self::Offgrid => "offgrid",
            Self::Quiet => "quiet",
        }
    }
}
