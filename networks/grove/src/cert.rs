//! What nodes sign about their place: offers, certificates and pulses.
//!
//! ```text
//! OFFER   child key · parent key · label v · class u8 · cost u16 · not_after u32 · sig by parent
//! CERT    OFFER · tree u8 · boot v · counter v · sig by child
//! PULSE   tree u8 · root key · boot v · counter v · sig by root
//! ```
//!
//! An offer is good for every tree whose plane has the class. A root's certificate names itself as parent, with label and
//! cost 0. Every signature covers the network id and all that stands before it, the inner signature of CERT included.

use std::sync::Arc;

use byway_identity::{Addr, PublicKey, Signature, SigningKey, shake256};
use byway_network::{Class, NetworkId};
use byway_wire::{Malformed, Reader, VARINT_MAX, Writer};

use crate::coords::{Step, label};
use crate::names::{TreeId, addr_of};

pub(crate) const OFFER_PURPOSE: &str = "inet256/grove/offer";
pub(crate) const CERT_PURPOSE: &str = "inet256/grove/cert";
pub(crate) const PULSE_PURPOSE: &str = "inet256/grove/pulse";

/// The algorithm byte of Ed25519.
const ED25519: u8 = 1;

/// The hash of what was signed, by which a signature is checked only once.
pub(crate) type Hash = [u8; 32];

/// Which of two statements of one node is newer: first by start, then by counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Seq {
    /// Grows at each start of the node.
    pub(crate) boot: u64,
    /// Grows with each statement.
    pub(crate) counter: u64,
}

impl Seq {
    pub(crate) fn new(boot: u64) -> Self {
        Self { boot: boot.min(VARINT_MAX - 1), counter: 0 }
    }

    /// The next number of the same start; at the end of numbers it stays.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self { counter: (self.counter + 1).min(VARINT_MAX), ..self }
    }

    /// A number that beats `other`, which somebody said in this node's name in an earlier start.
    #[must_use]
    pub(crate) fn beyond(self, other: Self) -> Self {
        if other < self { self } else { Self { counter: other.counter, boot: other.boot }.next() }
    }

    pub(crate) fn write(self, writer: &mut Writer) {
        writer.varint(self.boot).varint(self.counter);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { boot: reader.varint()?, counter: reader.varint()? })
    }
}

/// What an offer says. Read from a frame it may be forged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OfferClaim {
    child_key: [u8; 32],
    parent_key: [u8; 32],
    pub(crate) label: u16,
    pub(crate) class: Class,
    /// What the link costs, as it stands on the wire.
    pub(crate) cost: u16,
    /// Until when it is good, in minutes since 1970.
    pub(crate) not_after: u32,
    pub(crate) signature: Signature,
}

/// What an offer says besides the two keys. It is all that is kept of most offers: whom they are by and for is known, and few
/// of them are ever taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Terms {
    label: u16,
    pub(crate) class: Class,
    pub(crate) cost: u16,
    pub(crate) not_after: u32,
    signature: Signature,
}

/// What a certificate says. Read from a frame it may be forged.
///
/// Nothing of it is hashed yet: most certificates that come in are known, and known ones are found by their signatures.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CertClaim {
    pub(crate) offer: OfferClaim,
    pub(crate) tree: TreeId,
    pub(crate) seq: Seq,
    pub(crate) signature: Signature,
}

/// A node lets another one be its child.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Offer {
    claim: OfferClaim,
    pub(crate) child: Addr,
    pub(crate) parent: Addr,
}

/// A node has taken an offer: its place in one tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cert {
    pub(crate) offer: Arc<Offer>,
    pub(crate) tree: TreeId,
    pub(crate) seq: Seq,
    pub(crate) signature: Signature,
    /// The first bytes of the hash, by which neighbours compare what they hold.
    pub(crate) id: u64,
}

/// A root lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pulse {
    pub(crate) tree: TreeId,
    pub(crate) root: Addr,
    root_key: [u8; 32],
    pub(crate) seq: Seq,
    pub(crate) signature: Signature,
}

pub(crate) fn write_key(writer: &mut Writer, raw: &[u8; 32]) {
    writer.u8(ED25519).bytes(raw);
}

pub(crate) fn read_key(reader: &mut Reader<'_>) -> Result<[u8; 32], Malformed> {
    if reader.u8()? == ED25519 { reader.array() } else { Err(Malformed::Invalid("algorithm")) }
}

pub(crate) fn sign(key: &SigningKey, purpose: &str, network: &NetworkId, said: &[u8]) -> Signature {
    key.sign(purpose, &[network.as_bytes(), said].concat())
}

pub(crate) fn is_signed(
    raw: &[u8; 32],
    purpose: &str,
    network: &NetworkId,
    said: &[u8],
    signature: &Signature,
) -> bool {
    let content = [network.as_bytes(), said].concat();
    PublicKey::from_raw(raw).is_ok_and(|key| key.verify(purpose, &content, signature))
}

fn hash(purpose: &str, network: &NetworkId, whole: &[u8]) -> Hash {
    shake256(&[network.as_bytes(), purpose.as_bytes(), whole])
}

impl OfferClaim {
    /// The link from the parent to the child.
    pub(crate) fn step(&self) -> Step {
        Step { label: self.label, cost: self.cost }
    }

    /// The keys of the child and the parent.
    pub(crate) fn keys(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.child_key, &self.parent_key)
    }

    /// All of it but the keys.
    pub(crate) fn terms(&self) -> Terms {
        let Self { label, class, cost, not_after, signature, .. } = *self;
        Terms { label, class, cost, not_after, signature }
    }

    /// Whether it is a root's offer to itself.
    pub(crate) fn is_root(&self) -> bool {
        self.child_key == self.parent_key
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    fn write_said(&self, writer: &mut Writer) {
        write_key(writer, &self.child_key);
        write_key(writer, &self.parent_key);
        writer.varint(self.label.into()).u8(self.class.byte()).u16_be(self.cost).u32_be(self.not_after);
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.write_said(writer);
        writer.bytes(self.signature.as_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (child_key, parent_key) = (read_key(reader)?, read_key(reader)?);
        let label = label(reader)?;
        let class = Class::from_byte(reader.u8()?).ok_or(Malformed::Invalid("class"))?;
        let cost = reader.u16_be()?;
        if (child_key == parent_key) != (label == 0 && cost == 0) || (label == 0) != (cost == 0) {
            return Err(Malformed::Invalid("label and cost 0, which a root has and nobody else"));
        }
        let not_after = reader.u32_be()?;
        let signature = Signature::from_bytes(reader.array()?);
        Ok(Self { child_key, parent_key, label, class, cost, not_after, signature })
    }

    pub(crate) fn is_genuine(&self, network: &NetworkId) -> bool {
        let mut said = Writer::new();
        self.write_said(&mut said);
        is_signed(&self.parent_key, OFFER_PURPOSE, network, said.as_slice(), &self.signature)
    }

    /// The offer, with the addresses that follow from the keys.
    pub(crate) fn named(self) -> Offer {
        let (child, parent) = (addr_of(&self.child_key), addr_of(&self.parent_key));
        Offer { claim: self, child, parent }
    }
}

impl Terms {
    /// The link from the parent to the child.
    pub(crate) fn step(&self) -> Step {
        Step { label: self.label, cost: self.cost }
    }

    /// What stands for the offer in the sums by which neighbours compare what they hold.
    pub(crate) fn id(&self) -> u64 {
        let bytes = self.signature.as_bytes();
        bytes[..8].iter().fold(0, |id, byte| id << 8 | u64::from(*byte))
    }

    /// The whole of it.
    pub(crate) fn between(&self, child_key: [u8; 32], parent_key: [u8; 32]) -> OfferClaim {
        let Self { label, class, cost, not_after, signature } = *self;
        OfferClaim { child_key, parent_key, label, class, cost, not_after, signature }
    }
}

impl Offer {
    pub(crate) fn make(
        key: &SigningKey,
        network: &NetworkId,
        child_key: [u8; 32],
        step: Step,
        class: Class,
        not_after: u32,
    ) -> Self {
        let parent_key = *key.public().as_raw();
        let signature = Signature::from_bytes([0; 64]);
        let Step { label, cost } = step;
        let mut claim = OfferClaim { child_key, parent_key, label, class, cost, not_after, signature };
        let mut said = Writer::new();
        claim.write_said(&mut said);
        claim.signature = sign(key, OFFER_PURPOSE, network, said.as_slice());
        claim.named()
    }

    /// What is said of it in frames.
    pub(crate) fn claim(&self) -> &OfferClaim {
        &self.claim
    }

    #[cfg(test)]
    pub(crate) fn of_nobody(self, child: Addr) -> Self {
        Self { child, ..self }
    }
}

impl std::ops::Deref for Offer {
    type Target = OfferClaim;

    fn deref(&self) -> &OfferClaim {
        &self.claim
    }
}

impl CertClaim {
    fn write_said(&self, writer: &mut Writer) {
        write_cert(writer, &self.offer, self.tree, self.seq);
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.write_said(writer);
        writer.bytes(self.signature.as_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let offer = OfferClaim::read(reader)?;
        let tree = TreeId::from_byte(reader.u8()?).ok_or(Malformed::Invalid("tree"))?;
        if !tree.has(offer.class.family()) && !offer.is_root() {
            return Err(Malformed::Invalid("class outside the plane of the tree"));
        }
        let seq = Seq::read(reader)?;
        let signature = Signature::from_bytes(reader.array()?);
        Ok(Self { offer, tree, seq, signature })
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether the child said so; the offer is checked by itself.
    pub(crate) fn is_genuine(&self, network: &NetworkId) -> bool {
        let mut said = Writer::new();
        self.write_said(&mut said);
        is_signed(&self.offer.child_key, CERT_PURPOSE, network, said.as_slice(), &self.signature)
    }

    /// The address of the node that speaks.
    pub(crate) fn child(&self) -> Addr {
        addr_of(&self.offer.child_key)
    }

    /// The certificate under this offer, which is the one that it names.
    pub(crate) fn under(self, offer: Arc<Offer>, network: &NetworkId) -> Cert {
        let Self { tree, seq, signature, .. } = self;
        let mut cert = Cert { offer, tree, seq, signature, id: 0 };
        cert.id = cert.id_in(network);
        cert
    }
}

impl Cert {
    /// The certificate of the child `key` of `offer`.
    pub(crate) fn make(
        key: &SigningKey,
        network: &NetworkId,
        offer: Arc<Offer>,
        tree: TreeId,
        seq: Seq,
    ) -> Self {
        let mut said = Writer::new();
        write_cert(&mut said, &offer, tree, seq);
        let signature = sign(key, CERT_PURPOSE, network, said.as_slice());
        let mut cert = Self { offer, tree, seq, signature, id: 0 };
        cert.id = cert.id_in(network);
        cert
    }

    pub(crate) fn child(&self) -> Addr {
        self.offer.child
    }

    pub(crate) fn parent(&self) -> Addr {
        self.offer.parent
    }

    pub(crate) fn signature(&self) -> &Signature {
        &self.signature
    }

    /// What is said of it in frames.
    pub(crate) fn claim(&self) -> CertClaim {
        let Self { tree, seq, .. } = *self;
        CertClaim { offer: self.offer.claim.clone(), tree, seq, signature: self.signature }
    }

    /// Whether it says just this.
    pub(crate) fn says(&self, claim: &CertClaim) -> bool {
        self.offer.claim == claim.offer
            && (self.tree, self.seq) == (claim.tree, claim.seq)
            && self.signature == claim.signature
    }

    fn id_in(&self, network: &NetworkId) -> u64 {
        let mut whole = Writer::new();
        write_cert(&mut whole, &self.offer, self.tree, self.seq);
        whole.bytes(self.signature.as_bytes());
        id_of(&hash(CERT_PURPOSE, network, whole.as_slice()))
    }
}

fn write_cert(writer: &mut Writer, offer: &OfferClaim, tree: TreeId, seq: Seq) {
    offer.write(writer);
    writer.u8(tree.byte());
    seq.write(writer);
}

fn id_of(hash: &Hash) -> u64 {
    let mut id = [0; 8];
    id.copy_from_slice(&hash[..8]);
    u64::from_be_bytes(id)
}

impl Pulse {
    pub(crate) fn make(key: &SigningKey, network: &NetworkId, tree: TreeId, seq: Seq) -> Self {
        let root_key = *key.public().as_raw();
        let signature = Signature::from_bytes([0; 64]);
        let mut pulse = Self { tree, root: addr_of(&root_key), root_key, seq, signature };
        let mut said = Writer::new();
        pulse.write_said(&mut said);
        pulse.signature = sign(key, PULSE_PURPOSE, network, said.as_slice());
        pulse
    }

    fn write_said(&self, writer: &mut Writer) {
        writer.u8(self.tree.byte());
        write_key(writer, &self.root_key);
        self.seq.write(writer);
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        self.write_said(writer);
        writer.bytes(self.signature.as_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let tree = TreeId::from_byte(reader.u8()?).ok_or(Malformed::Invalid("tree"))?;
        let root_key = read_key(reader)?;
        let seq = Seq::read(reader)?;
        let signature = Signature::from_bytes(reader.array()?);
        Ok(Self { tree, root: addr_of(&root_key), root_key, seq, signature })
    }

    pub(crate) fn hash(&self, network: &NetworkId) -> Hash {
        let mut whole = Writer::new();
        self.write(&mut whole);
        hash(PULSE_PURPOSE, network, whole.as_slice())
    }

    pub(crate) fn is_genuine(&self, network: &NetworkId) -> bool {
        let mut said = Writer::new();
        self.write_said(&mut said);
        is_signed(&self.root_key, PULSE_PURPOSE, network, said.as_slice(), &self.signature)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use byway_network::{Cost, Plane};
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn network() -> NetworkId {
        NetworkId::new("test", None)
    }

    pub(crate) fn key(number: u8) -> SigningKey {
        SigningKey::from_seed(&[number; 32])
    }

    pub(crate) fn cert(child: u8, parent: u8, counter: u64) -> Cert {
        let step = if child == parent {
            Step { label: 0, cost: 0 }
        } else {
            Step { label: 77, cost: Cost::from_units(60).encode() }
        };
        let child_key = *key(child).public().as_raw();
        let offer = Offer::make(&key(parent), &network(), child_key, step, Class::UDP, 5_000);
        let tree = TreeId::new(Plane::Any, 1);
        Cert::make(&key(child), &network(), Arc::new(offer), tree, Seq { boot: 9, counter })
    }

    fn bytes_of(cert: &Cert) -> Vec<u8> {
        let mut writer = Writer::new();
        cert.claim().write(&mut writer);
        writer.finish().to_vec()
    }

    fn believed(bytes: &[u8], network: &NetworkId) -> bool {
        let cert = CertClaim::read(&mut Reader::new(bytes));
        cert.is_ok_and(|cert| cert.is_genuine(network) && cert.offer.is_genuine(network))
    }

    #[test]
    fn a_certificate_is_read_as_it_was_written() {
        for cert in [cert(1, 2, 3), cert(4, 4, 1)] {
            let bytes = bytes_of(&cert);
            assert!(bytes.len() < 250, "{} bytes", bytes.len());
            let claim = CertClaim::read(&mut Reader::new(&bytes)).expect("it is one");
            assert!(cert.says(&claim));
            assert_eq!(claim.clone().under(Arc::new(claim.offer.named()), &network()), cert);
            assert!(believed(&bytes, &network()));
            for length in 0..bytes.len() {
                assert!(CertClaim::read(&mut Reader::new(&bytes[..length])).is_err());
            }
        }
    }

    #[test]
    fn a_changed_byte_breaks_a_certificate() {
        let bytes = bytes_of(&cert(1, 2, 3));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!believed(&changed, &network()), "byte {at}");
        }
        assert!(!believed(&bytes, &NetworkId::new("other", None)), "another network");
    }

    #[test]
    fn a_signature_is_good_for_one_purpose() {
        let (network, key) = (network(), key(1));
        let raw = *key.public().as_raw();
        let purposes = [OFFER_PURPOSE, CERT_PURPOSE, PULSE_PURPOSE, crate::location::LOCATION_PURPOSE];
        for made_for in purposes {
            let signature = sign(&key, made_for, &network, b"said");
            for purpose in purposes {
                let believed = is_signed(&raw, purpose, &network, b"said", &signature);
                assert_eq!(believed, purpose == made_for, "{made_for} as {purpose}");
            }
        }
    }

    #[test]
    fn a_changed_byte_breaks_a_pulse() {
        let pulse =
            Pulse::make(&key(3), &network(), TreeId::new(Plane::Any, 2), Seq { boot: 1, counter: 70 });
        let mut writer = Writer::new();
        pulse.write(&mut writer);
        let bytes = writer.finish().to_vec();
        let believed = |bytes: &[u8]| {
            Pulse::read(&mut Reader::new(bytes)).is_ok_and(|pulse| pulse.is_genuine(&network()))
        };
        assert!(believed(&bytes));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!believed(&changed), "byte {at}");
        }
    }

    #[test]
    fn only_a_root_has_no_label() {
        let child_key = *key(1).public().as_raw();
        for (parent, label, cost) in [(2, 0, 0), (2, 0, 5), (2, 5, 0), (1, 3, 4)] {
            let offer = Offer::make(&key(parent), &network(), child_key, Step { label, cost }, Class::UDP, 1);
            let mut writer = Writer::new();
            offer.write(&mut writer);
            assert!(
                OfferClaim::read(&mut Reader::new(writer.as_slice())).is_err(),
                "{parent} {label} {cost}"
            );
        }
    }

    #[test]
    fn numbers_go_on_beyond_what_was_said_before() {
        let own = Seq::new(7);
        assert_eq!(own.beyond(Seq { boot: 6, counter: 900 }), own);
        let ahead = Seq { boot: 8, counter: 4 };
        assert!(own.beyond(ahead) > ahead);
        assert_eq!(own.beyond(own), own.next());
        let last = Seq { boot: VARINT_MAX, counter: VARINT_MAX };
        assert_eq!(last.next(), last, "the end of numbers is no panic");
    }

    proptest! {
        #[test]
        fn a_certificate_has_one_encoding(at: prop::sample::Index, byte: u8) {
            let mut bytes = bytes_of(&cert(1, 2, 3));
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let mut reader = Reader::new(&bytes);
            if let Ok(claim) = CertClaim::read(&mut reader) {
                let mut writer = Writer::new();
                claim.write(&mut writer);
                prop_assert_eq!(writer.as_slice(), &bytes[..bytes.len() - reader.remaining()]);
            }
        }
    }
}
