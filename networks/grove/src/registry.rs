//! What has been checked need not be checked again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use byway_identity::Signature;
use byway_network::NetworkId;

use crate::cert::{Cert, CertClaim, Hash, Offer, OfferClaim, Pulse};

/// Most pulses that are remembered: one of each tree, of the present and a former root or two. A node alone sees each once.
const PULSES_MAX: usize = 56;
/// So many entries may come to those that live before the dead ones are swept out: these, or an eighth.
const SWEEP_MIN: usize = 16;

/// Offers, certificates and pulses whose signatures have been checked, each once.
///
/// A node has one of its own. Nodes of one process may share one (see [`Config`](crate::Config)): then a certificate is
/// checked once and stored once for all of them. It is looked up by its signature, and believed if every byte of it is what
/// was checked, in the same network; so an entry says nothing but what the check itself would say.
#[derive(Clone, Default)]
pub struct Registry(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    offers: HashMap<Key, Weak<Offer>>,
    certs: HashMap<Key, Weak<Cert>>,
    /// Of which network each is, its hash says.
    pulses: HashSet<Hash>,
    sweep_at: usize,
    checks: u64,
    /// Entries that may be looked at, for as much has been forgotten elsewhere.
    credit: usize,
}

/// Made of the network and the first bytes of a signature: enough to find what it belongs to, and no proof of anything. Who
/// makes two that are alike has one of them checked again.
type Key = u64;

fn key(network: &NetworkId, signature: &Signature) -> Key {
    let front = |bytes: &[u8]| bytes.iter().take(8).fold(0, |key: u64, byte| key << 8 | u64::from(*byte));
    front(network.as_bytes()) ^ front(signature.as_bytes())
}

impl Registry {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many signatures have been checked so far.
    pub fn checks(&self) -> u64 {
        self.lock().checks
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        // Every entry is whole at any time, so a panic elsewhere has not spoilt it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The certificate, if it has been checked before.
    pub(crate) fn known(&self, claim: &CertClaim, network: &NetworkId) -> Option<Arc<Cert>> {
        let known = self.lock().certs.get(&key(network, claim.signature()))?.upgrade()?;
        known.says(claim).then_some(known)
    }

    fn known_offer(&self, claim: &OfferClaim, network: &NetworkId) -> Option<Arc<Offer>> {
        let known = self.lock().offers.get(&key(network, claim.signature()))?.upgrade()?;
        (known.claim() == claim).then_some(known)
    }

    /// The offer, shared, if it is genuine.
    pub(crate) fn offer(&self, claim: OfferClaim, network: &NetworkId) -> Option<Arc<Offer>> {
        if let Some(known) = self.known_offer(&claim, network) {
            return Some(known);
        }
        let genuine = claim.is_genuine(network);
        self.lock().checks += 1;
        genuine.then(|| self.own_offer(claim.named(), network))
    }

    /// The certificate, shared, if it and its offer are genuine.
    pub(crate) fn cert(&self, claim: CertClaim, network: &NetworkId) -> Option<Arc<Cert>> {
        if let Some(known) = self.known(&claim, network) {
            return Some(known);
        }
        let offer = self.offer(claim.offer.clone(), network)?;
        let genuine = claim.is_genuine(network);
        self.lock().checks += 1;
        genuine.then(|| self.own_cert(claim.under(offer, network), network))
    }

    /// The offer, shared, which is known to be genuine.
    pub(crate) fn taken_offer(&self, claim: OfferClaim, network: &NetworkId) -> Arc<Offer> {
        let known = self.known_offer(&claim, network);
        known.unwrap_or_else(|| self.own_offer(claim.named(), network))
    }

    /// Whether the offer is genuine; if it is known to be, or not, it need not be checked.
    pub(crate) fn is_genuine_offer(&self, claim: &OfferClaim, network: &NetworkId) -> bool {
        if self.known_offer(claim, network).is_some() {
            return true;
        }
        self.lock().checks += 1;
        claim.is_genuine(network)
    }

    /// Shares an offer that the local node has just made.
    pub(crate) fn own_offer(&self, offer: Offer, network: &NetworkId) -> Arc<Offer> {
        let offer = Arc::new(offer);
        let mut inner = self.lock();
        inner.offers.insert(key(network, offer.signature()), Arc::downgrade(&offer));
        inner.sweep();
        offer
    }

    /// Shares a certificate that the local node has just made.
    pub(crate) fn own_cert(&self, cert: Cert, network: &NetworkId) -> Arc<Cert> {
        let cert = Arc::new(cert);
        let mut inner = self.lock();
        inner.certs.insert(key(network, cert.signature()), Arc::downgrade(&cert));
        inner.sweep();
        cert
    }

    /// A node that holds so many certificates has forgotten some: now and then that leaves much to sweep out here.
    pub(crate) fn forgotten(&self, held: usize) {
        let mut inner = self.lock();
        inner.credit += 8 * held + SWEEP_MIN;
        if inner.credit >= inner.offers.len() + inner.certs.len() {
            inner.sweep_now();
        }
    }

    /// Whether the pulse is genuine.
    pub(crate) fn pulse(&self, pulse: &Pulse, network: &NetworkId) -> bool {
        let hash = pulse.hash(network);
        if self.lock().pulses.contains(&hash) {
            return true;
        }
        let genuine = pulse.is_genuine(network);
        let mut inner = self.lock();
        inner.checks += 1;
        if genuine {
            if inner.pulses.len() >= PULSES_MAX {
                inner.pulses.clear();
            }
            inner.pulses.insert(hash);
        }
        genuine
    }
}

impl Inner {
    /// Forgets what nobody holds any more, now and then.
    fn sweep(&mut self) {
        if self.offers.len() + self.certs.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.sweep_now();
        }
    }

    fn sweep_now(&mut self) {
        self.offers.retain(|_, offer| offer.strong_count() > 0);
        self.certs.retain(|_, cert| cert.strong_count() > 0);
        // What is forgotten here still takes its place in memory: little is let gather.
        let left = self.offers.len() + self.certs.len();
        self.sweep_at = left + (left / 8).max(SWEEP_MIN);
        self.credit = 0;
        self.offers.shrink_to(self.offers.len() * 9 / 8);
        self.certs.shrink_to(self.certs.len() * 9 / 8);
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = self.lock();
        f.debug_struct("Registry")
            .field("offers", &inner.offers.len())
            .field("certs", &inner.certs.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cert::tests::{cert, network};

    #[test]
    fn a_certificate_is_checked_once_and_stored_once() {
        let registry = Registry::new();
        let first = registry.cert(cert(1, 2, 1).claim(), &network()).expect("it is genuine");
        let checks = registry.checks();
        assert_eq!(checks, 2, "its own signature and that of the offer");
        let again = registry.cert(cert(1, 2, 1).claim(), &network()).expect("it is genuine");
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(registry.checks(), checks);
        registry.cert(cert(1, 2, 2).claim(), &network()).expect("it is genuine");
        assert_eq!(registry.checks(), checks + 1, "the offer is known");
    }

    #[test]
    fn a_certificate_of_another_network_is_checked_anew() {
        let registry = Registry::new();
        assert!(registry.cert(cert(1, 2, 1).claim(), &network()).is_some());
        assert!(registry.cert(cert(1, 2, 1).claim(), &NetworkId::new("other", None)).is_none());
    }

    #[test]
    fn what_nobody_holds_is_forgotten() {
        let registry = Registry::new();
        for counter in 0..10 * SWEEP_MIN as u64 {
            registry.own_cert(cert(1, 1, counter), &network());
        }
        let inner = registry.lock();
        assert!(inner.certs.len() + inner.offers.len() <= SWEEP_MIN + 2, "{}", inner.certs.len());
    }
}
