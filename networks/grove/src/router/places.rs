//! Where this node says that it is.
//!
//! Its parents in several trees may all be one neighbour, and then everyone would come by that one. So it says that it is
//! below another neighbour where a tree has no other to show: a place is a way down from the root, and by a link that is
//! there it leads here, whether it is the link to the parent or not.

use super::*;
use crate::coords::{DEPTH_MAX, Place};

impl Router {
    /// In each tree of `plane`: below the parent the first time that it is the parent of one, else below the neighbour that
    /// is nearest to the root of those not shown yet, if there is one.
    pub(super) fn places_told(&self, plane: Plane) -> Coords {
        let own = self.coords.in_plane(plane);
        if self.own.leaf {
            return own;
        }
        let mut shown = BTreeSet::new();
        let places = own.iter().map(|place| {
            let parent = self.trees.get(&place.tree).and_then(|tree| tree.parent);
            if parent.is_none_or(|parent| shown.insert(parent)) {
                return place.clone();
            }
            let others = self.peers.iter().filter(|(hop, _)| !shown.contains(hop));
            let others = others.filter_map(|(hop, peer)| Some((*hop, self.below(hop, peer, place)?)));
            let nearest = others.min_by_key(|(hop, other)| (other.depth(), *hop));
            nearest.map_or_else(
                || place.clone(),
                |(hop, other)| {
                    shown.insert(hop);
                    other
                },
            )
        });
        Coords::new(places.collect())
    }

    /// This node's place below a neighbour, under the same root as `place`.
    fn below(&self, hop: &Hop, peer: &Peer, place: &Place) -> Option<Place> {
        let offer = peer.offer_in.as_ref().filter(|_| peer.carries() && place.tree.has(hop.family))?;
        let there = peer.coords.place(place.tree)?;
        let fits = there.root == place.root && there.steps.len() < DEPTH_MAX;
        fits.then(|| there.below(offer.step()))
    }
}

#[cfg(test)]
mod tests {
    use byway_identity::SeededEntropy;

    use super::*;
    use crate::cert::tests::{key, network};

    /// A node with the neighbours 1, 2 and 3, all below one root, whose parent is 1 in each of three trees.
    fn router(now: Instant) -> Router {
        let entropy = Box::new(SeededEntropy::new(1));
        let setup = Setup { key: key(0), network: network(), digest: [0; 32], boot: 1, leaf: false, entropy };
        let mut router = Router::new(now, setup, Config::default());
        let root = [7; 4];
        let place = |tree, steps: &[(u16, u16)]| {
            let steps = steps.iter().map(|(label, cost)| Step { label: *label, cost: *cost }).collect();
            Place { tree, root, steps }
        };
        let trees = [0, 1, 2].map(|index| TreeId::new(Plane::Any, index));
        for number in 1..4u8 {
            let hop = Hop { peer: key(number).public().addr(), family: Family::Ip };
            router.peer_up(now, hop, Class::UDP, Cost::from_units(50), &mut Outbox::default());
            let step = Step { label: 40 + u16::from(number), cost: 50 };
            let own = *key(0).public().as_raw();
            let offer = Offer::make(&key(number), &network(), own, step, Class::UDP, 9_000);
            let Some(peer) = router.peers.get_mut(&hop) else { continue };
            (peer.role, peer.offer_in) = (Role::Full, Some(Box::new(offer.terms())));
            // The third one is the farthest.
            let steps = [(u16::from(number), 60); 3];
            let steps = &steps[..usize::from(number)];
            peer.coords = Coords::new(trees.map(|tree| place(tree, steps)).to_vec());
            if number == 1 {
                for id in trees {
                    let mut tree = Tree::new(now, id, hop.peer, rank(&network(), id, &hop.peer), Seq::new(1));
                    tree.parent = Some(hop);
                    router.trees.insert(id, Box::new(tree));
                }
                router.coords = Coords::new(trees.map(|tree| place(tree, &[(1, 60), (41, 50)])).to_vec());
            }
        }
        router
    }

    #[test]
    fn each_tree_shows_another_neighbour_as_long_as_there_is_one() {
        let now = Instant::now();
        let mut router = router(now);
        let last = |router: &Router| -> Vec<u16> {
            let told = router.places_told(Plane::Any);
            told.iter().filter_map(|place| place.steps.last().map(|step| step.label)).collect()
        };
        assert_eq!(last(&router), [41, 42, 43], "the parent first, then the others, the nearest first");
        let third = Hop { peer: key(3).public().addr(), family: Family::Ip };
        let peer = router.peers.get_mut(&third).expect("it is up");
        peer.coords = Coords::default();
        assert_eq!(last(&router), [41, 42, 41], "one whose chain is not whole leads nowhere");
        router.own.leaf = true;
        assert_eq!(last(&router), [41, 41, 41], "a leaf is where its hub is");
    }
}
