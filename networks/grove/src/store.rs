//! The certificates that are held, and the chains that they form.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use byway_identity::Addr;

use crate::cert::Cert;
use crate::coords::{DEPTH_MAX, Place, Step, root_id};
use crate::names::TreeId;

/// Most certificates.
pub(crate) const CERTS_MAX: usize = 4_096;

/// Certificates: for each tree and child the newest one.
#[derive(Default)]
pub(crate) struct Store {
    certs: BTreeMap<(TreeId, Addr), Arc<Cert>>,
}

/// The way from a node up, as far as it is known.
pub(crate) struct Chain<'a> {
    /// From the node itself upwards.
    pub(crate) certs: Vec<&'a Arc<Cert>>,
    /// Whether it ends at a root.
    pub(crate) complete: bool,
}

impl Chain<'_> {
    pub(crate) fn root(&self) -> Option<Addr> {
        self.certs.last().filter(|_| self.complete).map(|cert| cert.child())
    }

    pub(crate) fn has(&self, addr: &Addr) -> bool {
        self.certs.iter().any(|cert| cert.child() == *addr)
    }

    /// The place of the node that the chain begins at.
    pub(crate) fn place(&self) -> Option<Place> {
        let root = self.root()?;
        let tree = self.certs.first()?.tree;
        let steps: Box<[Step]> = self.certs.iter().rev().skip(1).map(|cert| cert.offer.step()).collect();
        Some(Place { tree, root: root_id(&root), steps })
    }
}

impl Store {
    pub(crate) fn len(&self) -> usize {
        self.certs.len()
    }

    pub(crate) fn get(&self, tree: TreeId, child: &Addr) -> Option<&Arc<Cert>> {
        self.certs.get(&(tree, *child))
    }

    /// The nodes that are in `tree`, as far as is known.
    pub(crate) fn children(&self, tree: TreeId) -> impl Iterator<Item = Addr> + '_ {
        let first = (tree, Addr::NOBODY);
        self.certs.range(first..).take_while(move |((id, _), _)| *id == tree).map(|((_, addr), _)| *addr)
    }

    /// The certificates of a tree.
    pub(crate) fn in_tree(&self, tree: TreeId) -> impl Iterator<Item = &Arc<Cert>> + '_ {
        let of_tree = self.certs.range((tree, Addr::NOBODY)..).take_while(move |((id, _), _)| *id == tree);
        of_tree.map(|(_, cert)| cert)
    }

    /// Takes a certificate in if it is newer than what is held, and there is room.
    pub(crate) fn insert(&mut self, cert: Arc<Cert>) -> bool {
        let key = (cert.tree, cert.child());
        let full = self.certs.len() >= CERTS_MAX;
        match self.certs.get_mut(&key) {
            Some(held) if held.seq >= cert.seq => false,
            Some(held) => {
                *held = cert;
                true
            }
            None if full => false,
            None => {
                self.certs.insert(key, cert);
                true
            }
        }
    }

    /// The chain of `from` in `tree`, without what is past its time at `minutes`.
    pub(crate) fn chain(&self, tree: TreeId, from: &Addr, minutes: u32) -> Chain<'_> {
        let mut certs: Vec<&Arc<Cert>> = Vec::new();
        let mut at = *from;
        while let Some(cert) = self.get(tree, &at).filter(|cert| cert.offer.not_after >= minutes) {
            certs.push(cert);
            if cert.offer.is_root() {
                return Chain { certs, complete: true };
            }
            if certs.len() > DEPTH_MAX {
                break; // Too deep, or a ring.
            }
            at = cert.parent();
        }
        Chain { certs, complete: false }
    }

    /// Forgets all that is on none of the chains of `from` in `trees`.
    pub(crate) fn prune(&mut self, trees: &[TreeId], from: &BTreeSet<Addr>) {
        let mut kept = BTreeSet::new();
        for tree in trees {
            for addr in from {
                let mut at = *addr;
                while let Some(cert) = self.get(*tree, &at) {
                    if !kept.insert((*tree, at)) || cert.offer.is_root() {
                        break;
                    }
                    at = cert.parent();
                }
            }
        }
        self.certs.retain(|key, _| kept.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use byway_network::{Cost, Plane};

    use super::*;
    use crate::cert::tests::{cert, key};

    fn addr(number: u8) -> Addr {
        key(number).public().addr()
    }

    fn tree() -> TreeId {
        TreeId::new(Plane::Any, 1)
    }

    fn store(certs: &[(u8, u8)]) -> Store {
        let mut store = Store::default();
        for (child, parent) in certs {
            assert!(store.insert(Arc::new(cert(*child, *parent, 1))));
        }
        store
    }

    #[test]
    fn a_chain_is_read_from_the_certificates() {
        let mut store = store(&[(1, 1), (2, 1), (3, 2), (4, 9)]);
        let chain = store.chain(tree(), &addr(3), 0);
        assert_eq!(chain.root(), Some(addr(1)));
        assert!(chain.has(&addr(2)) && !chain.has(&addr(4)));
        let place = chain.place().expect("it is complete");
        assert_eq!(place.depth(), 2 * Cost::decode(Cost::from_units(60).encode()).units());
        assert_eq!(store.chain(tree(), &addr(4), 0).root(), None, "its parent is unknown");
        assert_eq!(store.chain(tree(), &addr(3), 5_001).root(), None, "the offers are past their time");
        // One certificate moves all that is below.
        assert!(store.insert(Arc::new(cert(5, 5, 1))));
        assert!(store.insert(Arc::new(cert(2, 5, 2))));
        assert_eq!(store.chain(tree(), &addr(3), 0).root(), Some(addr(5)));
        assert!(!store.insert(Arc::new(cert(2, 1, 1))), "an older one is ignored");
    }

    #[test]
    fn a_ring_of_certificates_ends() {
        let store = store(&[(1, 2), (2, 3), (3, 1)]);
        let chain = store.chain(tree(), &addr(1), 0);
        assert!(!chain.complete && chain.place().is_none());
    }

    #[test]
    fn what_is_on_no_chain_is_forgotten() {
        let mut store = store(&[(1, 1), (2, 1), (3, 2), (4, 1), (5, 4), (6, 7), (7, 6)]);
        store.prune(&[tree()], &BTreeSet::from([addr(3), addr(6)]));
        assert_eq!(store.len(), 5);
        assert!(store.get(tree(), &addr(4)).is_none() && store.get(tree(), &addr(2)).is_some());
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let mut store = Store::default();
        let tree = tree();
        let sample = cert(1, 1, 1);
        for at in 0..CERTS_MAX + 10 {
            let mut offer = (*sample.offer).clone();
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&at.to_be_bytes());
            offer.child = Addr::from_bytes(bytes);
            store.insert(Arc::new(Cert { offer: Arc::new(offer), tree, ..sample.clone() }));
        }
        assert_eq!(store.len(), CERTS_MAX);
    }
}
