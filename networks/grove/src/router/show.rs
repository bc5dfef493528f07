//! The whole ways that are known, for people to look at and for copies to differ in.

use byway_network::PathStep;

use super::*;
use crate::names::tag;
use crate::paths::Path;

/// Ways of one link are numbered by its label, with this bit.
const DIRECT: u64 = 1 << 63;

/// What the way over just the link `label` is called.
pub(super) fn direct_path(label: u16) -> PathId {
    PathId(DIRECT | u64::from(label))
}

impl Router {
    pub(crate) fn paths(&self, to: &Addr) -> Vec<byway_network::Path> {
        let mut paths = Vec::new();
        for plane in Plane::ALL {
            let by = Constraint::in_plane(plane);
            let used = self.path_in_use(to, &by);
            let hops = Family::ALL.map(|family| Hop { peer: *to, family });
            let links = hops.iter().filter(|hop| plane.has(hop.family));
            for peer in links.filter_map(|hop| self.peers.get(hop)).filter(|peer| peer.is_usable()) {
                let (id, cost) = (direct_path(peer.label), Cost::from_units(peer.units()));
                let steps = vec![PathStep { node: Some(*to), class: peer.class, cost }];
                paths.push(byway_network::Path { id, plane, in_use: used == Some(id), cost, steps });
            }
            let remote = self.remotes.get(to, plane);
            for path in
                remote.iter().filter_map(|remote| remote.paths.as_ref()).flat_map(|paths| &paths.chosen)
            {
                paths.push(self.show(path, plane, used == Some(path.id)));
            }
        }
        paths.sort_by_key(|path| !path.in_use);
        paths
    }

    fn show(&self, path: &Path, plane: Plane, in_use: bool) -> byway_network::Path {
        let names: BTreeMap<_, _> = self.addrs().map(|addr| (tag(path.salt(), &addr), addr)).collect();
        let steps = path.links().map(|(tag, class, cost)| PathStep {
            node: names.get(&tag).copied(),
            class,
            cost: Cost::from_units(cost),
        });
        let cost = Cost::from_units(path.cost());
        byway_network::Path { id: path.id, plane, in_use, cost, steps: steps.collect() }
    }

    /// All nodes that this one knows by their address.
    fn addrs(&self) -> impl Iterator<Item = Addr> + '_ {
        let certified = self.trees.keys().flat_map(|id| self.store.certs(*id).map(|cert| cert.child()));
        let peers = self.peers.keys().map(|hop| hop.peer);
        self.remotes.iter().map(|(addr, ..)| *addr).chain(certified).chain(peers)
    }
}
