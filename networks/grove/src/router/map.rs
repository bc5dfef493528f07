//! What a node knows of the network, for people and tests to look at.

use std::collections::{BTreeMap, BTreeSet};

use byway_identity::Addr;
use byway_network::{Class, Cost, KnownLink, Map, Tree as Shown};

use super::Router;
use crate::tree::Tree;

impl Router {
    /// The own place in each tree; the nodes and links that the certificates tell of, and the own links. A leaf is in no tree.
    pub(crate) fn map(&self, limit: usize) -> Map {
        let trees = self.trees.values().map(|tree| self.standing(tree)).collect();
        if limit == 0 {
            return Map { trees, ..Map::default() };
        }
        let certs: Vec<_> = self.trees.keys().flat_map(|id| self.store.certs(*id)).collect();
        let peers = self.peers.keys().map(|hop| hop.peer);
        let others: BTreeSet<Addr> = peers.chain(certs.iter().map(|cert| cert.child())).collect();
        let nodes =
            std::iter::once(self.own.addr).chain(others.into_iter().filter(|addr| *addr != self.own.addr));

        let mut links: BTreeMap<(Addr, Addr, Class), KnownLink> = BTreeMap::new();
        let mut add = |from: Addr, to: Addr, class: Class, cost: u16, in_tree: bool| {
            let (a, b) = (from.min(to), from.max(to));
            let new = KnownLink { a, b, class, cost: Cost::decode(cost), in_tree };
            links.entry((a, b, class)).and_modify(|known| known.in_tree |= in_tree).or_insert(new);
        };
        for (hop, peer) in &self.peers {
            add(self.own.addr, hop.peer, peer.class, peer.cost(), false);
        }
        for cert in certs.iter().filter(|cert| !cert.offer.is_root()) {
            add(cert.child(), cert.parent(), cert.offer.class, cert.offer.cost, true);
        }
        Map { trees, nodes: nodes.take(limit).collect(), links: links.into_values().take(limit).collect() }
    }

    fn standing(&self, tree: &Tree) -> Shown {
        let place = self.coords.place(tree.id);
        Shown {
            plane: tree.id.plane(),
            index: tree.id.index(),
            root: tree.root,
            parent: tree.parent,
            cost: Cost::from_units(place.map_or(0, crate::coords::Place::depth)),
            coordinates: place
                .map(|place| place.steps.iter().map(|step| step.label).collect())
                .unwrap_or_default(),
            children: self.children(tree.id),
        }
    }
}
