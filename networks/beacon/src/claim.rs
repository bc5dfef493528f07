//! What a node says of itself, signed.
//!
//! ```text
//! CLAIM   algorithm u8 = 1 · key 32 · boot v · counter v · period u16 · digest 32 · signature 64
//! ```
//!
//! The signature covers the network id and everything before it, so a claim can neither be changed nor carried over
//! to another network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use byway_identity::{Addr, PublicKey, Signature, SigningKey};
use byway_network::NetworkId;
use byway_wire::{Malformed, Reader, VARINT_MAX, Writer};

/// What the signature is for.
pub(crate) const PURPOSE: &str = "inet256/beacon/beacon";

/// The algorithm byte of Ed25519.
const ED25519: u8 = 1;

/// The unit of periods and lifetimes on the wire.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// Longest period that a node may claim.
pub(crate) const PERIOD_MAX: Duration = Duration::from_secs(600);

/// Which of two claims of one node is newer: first by start, then by counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seq {
    /// Grows at each start of the node.
    pub(crate) boot: u64,
    /// Grows with each claim.
    pub(crate) counter: u64,
}

impl Seq {
    /// Newer than any: "I know nothing of that node at all".
    pub(crate) const NOTHING_KNOWN: Self = Self { boot: VARINT_MAX, counter: VARINT_MAX };

    /// The first claim of a newer start; at the end of numbers, the next claim of the same one.
    fn after(self) -> Self {
        match self.boot + 1 {
            boot if boot < VARINT_MAX => Self { boot, counter: 1 },
            _ => Self { counter: (self.counter + 1).min(VARINT_MAX), ..self },
        }
    }
}

/// What a node says of itself. One from [`Claim::read`] is not believed before [`Claim::is_genuine`] says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) key: PublicKey,
    pub(crate) addr: Addr,
    pub(crate) seq: Seq,
    /// The time until the node's next claim.
    pub(crate) period: Duration,
    /// Digest of the node's key record.
    pub(crate) digest: [u8; 32],
    signature: Signature,
    /// The claim as it came and goes on.
    pub(crate) bytes: Bytes,
}

impl Claim {
    /// Reads a claim from the front; it may be forged.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let start = reader.clone();
        if reader.u8()? != ED25519 {
            return Err(Malformed::Invalid("algorithm"));
        }
        let key = PublicKey::from_raw(&reader.array()?).map_err(|_| Malformed::Invalid("key"))?;
        let seq = Seq { boot: reader.varint()?, counter: reader.varint()? };
        let period = TICK * u32::from(reader.u16_be()?);
        if period.is_zero() || period > PERIOD_MAX || seq.boot == VARINT_MAX {
            return Err(Malformed::Invalid("period or boot"));
        }
        let digest = reader.array()?;
        let signature = Signature::from_bytes(reader.array()?);
        let length = start.remaining() - reader.remaining();
        let bytes = Bytes::copy_from_slice(start.clone().bytes(length)?);
        Ok(Self { key, addr: key.addr(), seq, period, digest, signature, bytes })
    }

    /// Whether the node itself said so, of this network.
    pub(crate) fn is_genuine(&self, network: &NetworkId) -> bool {
        let said = &self.bytes[..self.bytes.len() - self.signature.as_bytes().len()];
        self.key.verify(PURPOSE, &signed_content(network, said), &self.signature)
    }

    /// How long an entry lives that rests on this claim.
    pub(crate) fn life(&self) -> Duration {
        self.period * 4
    }

    fn make(
        key: &SigningKey,
        network: &NetworkId,
        seq: Seq,
        period: Duration,
        digest: [u8; 32],
    ) -> Arc<Self> {
        let ticks = period.min(PERIOD_MAX).as_millis().div_ceil(TICK.as_millis()).max(1) as u16;
        let public = key.public();
        let mut writer = Writer::new();
        writer.u8(ED25519).bytes(public.as_raw()).varint(seq.boot).varint(seq.counter);
        writer.u16_be(ticks).bytes(&digest);
        let signature = key.sign(PURPOSE, &signed_content(network, writer.as_slice()));
        writer.bytes(signature.as_bytes());
        Arc::new(Self {
            key: public,
            addr: public.addr(),
            seq,
            period: TICK * u32::from(ticks),
            digest,
            signature,
            bytes: writer.finish(),
        })
    }
}

fn signed_content(network: &NetworkId, said: &[u8]) -> Vec<u8> {
    [network.as_bytes(), said].concat()
}

/// The local node's own claims.
pub(crate) struct Own {
    key: SigningKey,
    network: NetworkId,
    digest: [u8; 32],
    claim: Arc<Claim>,
}

impl Own {
    /// Makes the first claim of this start.
    pub(crate) fn new(
        key: SigningKey,
        network: NetworkId,
        digest: [u8; 32],
        boot: u64,
        period: Duration,
    ) -> Self {
        let seq = Seq { boot: boot.min(VARINT_MAX - 1), counter: 1 };
        let claim = Claim::make(&key, &network, seq, period, digest);
        Self { key, network, digest, claim }
    }

    /// The newest claim.
    pub(crate) fn claim(&self) -> &Arc<Claim> {
        &self.claim
    }

    /// The local node.
    pub(crate) fn addr(&self) -> Addr {
        self.claim.addr
    }

    pub(crate) fn network(&self) -> &NetworkId {
        &self.network
    }

    /// Later claims vouch for `digest`.
    pub(crate) fn set_digest(&mut self, digest: [u8; 32]) {
        self.digest = digest;
    }

    /// Makes the next claim.
    pub(crate) fn renew(&mut self, period: Duration) {
        let Seq { boot, counter } = self.claim.seq;
        self.say(Seq { boot, counter: (counter + 1).min(VARINT_MAX) }, period);
    }

    /// A genuine claim of the local key is about that is not older than the newest one here, so the clock went back between two
    /// starts. Makes one that beats it; false if there was no need.
    pub(crate) fn outbid(&mut self, heard: &Claim, period: Duration) -> bool {
        let beaten = heard.seq < self.claim.seq || heard.bytes == self.claim.bytes;
        if !beaten {
            self.say(heard.seq.after(), period);
        }
        !beaten
    }

    fn say(&mut self, seq: Seq, period: Duration) {
        self.claim = Claim::make(&self.key, &self.network, seq, period, self.digest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network() -> NetworkId {
        NetworkId::new("test", None)
    }

    fn own(seed: u8, boot: u64) -> Own {
        Own::new(SigningKey::from_seed(&[seed; 32]), network(), [7; 32], boot, Duration::from_secs(2))
    }

    fn read(bytes: &[u8]) -> Result<Claim, Malformed> {
        let mut reader = Reader::new(bytes);
        let claim = Claim::read(&mut reader)?;
        reader.finish()?;
        Ok(claim)
    }

    #[test]
    fn a_claim_is_read_as_it_was_made() {
        let own = own(1, 1_790_000_000_000);
        let claim = read(&own.claim().bytes).expect("it was just made");
        assert_eq!(claim, **own.claim());
        assert!(claim.is_genuine(&network()));
    }

    #[test]
    fn changing_any_byte_of_a_claim_breaks_its_signature() {
        let own = own(1, 1_790_000_000_000);
        for at in 0..own.claim().bytes.len() {
            for bit in 0..8 {
                let mut bytes = own.claim().bytes.to_vec();
                bytes[at] ^= 1 << bit;
                let believed = read(&bytes).is_ok_and(|claim| claim.is_genuine(&network()));
                assert!(!believed, "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_claim_is_worth_nothing_in_another_network_or_for_another_purpose() {
        let claim = own(1, 5).claim().clone();
        assert!(!claim.is_genuine(&NetworkId::new("other", None)));
        assert!(!claim.is_genuine(&NetworkId::new("test", Some(&[1; 32]))));
        let said = &claim.bytes[..claim.bytes.len() - 64];
        let key = SigningKey::from_seed(&[1; 32]);
        for purpose in ["inet256/beacon/beacom", "inet256/beacon/beaco", "inet256/beacon/beacon2", ""] {
            let signature = key.sign(purpose, &signed_content(&network(), said));
            let bytes = [said, signature.as_bytes()].concat();
            assert!(!read(&bytes).expect("the layout is right").is_genuine(&network()), "{purpose}");
        }
    }

    #[test]
    fn every_truncation_is_an_error() {
        let claim = own(1, 5).claim().clone();
        for length in 0..claim.bytes.len() {
            assert_eq!(read(&claim.bytes[..length]), Err(Malformed::Truncated));
        }
    }

    #[test]
    fn a_start_with_the_clock_set_back_outbids_the_earlier_one() {
        let mut earlier = own(1, 1_000);
        earlier.renew(Duration::from_secs(2));
        let mut later = own(1, 5);
        assert!(later.outbid(earlier.claim(), Duration::from_secs(2)));
        assert!(later.claim().seq > earlier.claim().seq);
        assert!(!later.outbid(earlier.claim(), Duration::from_secs(2)), "beaten once is enough");
        let said = later.claim().clone();
        assert!(!later.outbid(&said, Duration::from_secs(2)), "an echo is no rival");
    }

    proptest! {
        #[test]
        fn random_bytes_are_never_believed(bytes: Vec<u8>) {
            prop_assert!(!read(&bytes).is_ok_and(|claim| claim.is_genuine(&network())));
        }
    }
}
