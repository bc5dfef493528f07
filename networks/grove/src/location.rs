//! Where a node says that it is.
//!
//! ```text
//! LOCATION   key · boot v · counter v · plane u8 · coordinates · digest 32 · sig
//! ```

use byway_identity::{Addr, Signature, SigningKey};
use byway_network::{NetworkId, Plane};
use byway_wire::{Malformed, Reader, Writer};

use crate::cert::{Seq, is_signed, read_key, sign, write_key};
use crate::coords::Coords;
use crate::names::addr_of;

pub(crate) const LOCATION_PURPOSE: &str = "inet256/grove/location";

/// The places of a node in the trees of one plane, signed by it. One from [`Location::read`] may be forged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) addr: Addr,
    pub(crate) key: [u8; 32],
    pub(crate) seq: Seq,
    pub(crate) plane: Plane,
    pub(crate) coords: Coords,
    /// Digest of the node's key record.
    pub(crate) digest: [u8; 32],
    signature: Signature,
}

impl Location {
    pub(crate) fn make(
        key: &SigningKey,
        network: &NetworkId,
        seq: Seq,
        plane: Plane,
        coords: Coords,
        digest: [u8; 32],
    ) -> Self {
        let raw = *key.public().as_raw();
        let signature = Signature::from_bytes([0; 64]);
        let mut location = Self { addr: addr_of(&raw), key: raw, seq, plane, coords, digest, signature };
        let mut said = Writer::new();
        location.write_said(&mut said);
        location.signature = sign(key, LOCATION_PURPOSE, network, said.as_slice());
        location
    }

    fn write_said(&self, writer: &mut Writer) {
        write_key(writer, &self.key);
        self.seq.write(writer);
        writer.u8(self.plane.byte());
        self.coords.write(writer);
        writer.bytes(&self.digest);
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.write_said(writer);
        writer.bytes(self.signature.as_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let key = read_key(reader)?;
        let seq = Seq::read(reader)?;
        let plane = Plane::from_byte(reader.u8()?).ok_or(Malformed::Invalid("plane"))?;
        let coords = Coords::read(reader)?;
        if coords.iter().any(|place| place.tree.plane() != plane) {
            return Err(Malformed::Invalid("tree outside the plane"));
        }
        let digest = reader.array()?;
        let signature = Signature::from_bytes(reader.array()?);
        Ok(Self { addr: addr_of(&key), key, seq, plane, coords, digest, signature })
    }

    /// Whether the node itself said so, of this network.
    pub(crate) fn is_genuine(&self, network: &NetworkId) -> bool {
        let mut said = Writer::new();
        self.write_said(&mut said);
        is_signed(&self.key, LOCATION_PURPOSE, network, said.as_slice(), &self.signature)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cert::tests::{key, network};
    use crate::coords::tests::any_coords;

    pub(crate) fn location(number: u8, coords: Coords) -> Location {
        let seq = Seq { boot: 8, counter: 300 };
        Location::make(&key(number), &network(), seq, Plane::Any, coords, [0x22; 32])
    }

    proptest! {
        #[test]
        fn a_location_is_read_as_it_was_written(coords in any_coords()) {
            let location = location(1, coords);
            let mut writer = Writer::new();
            location.write(&mut writer);
            let mut reader = Reader::new(writer.as_slice());
            prop_assert_eq!(&Location::read(&mut reader)?, &location);
            prop_assert_eq!(reader.remaining(), 0);
            prop_assert!(location.is_genuine(&network()));
            prop_assert!(!location.is_genuine(&NetworkId::new("other", None)));
        }

        #[test]
        fn a_changed_byte_breaks_a_location(coords in any_coords(), at: prop::sample::Index, bit in 0u8..8) {
            let mut writer = Writer::new();
            location(1, coords).write(&mut writer);
            let mut bytes = writer.finish().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let read = Location::read(&mut Reader::new(&bytes));
            prop_assert!(!read.is_ok_and(|location| location.is_genuine(&network())));
        }
    }
}
