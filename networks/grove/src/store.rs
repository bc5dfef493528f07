//! The certificates that are held, and the chains that they form.
//!
//! A chain is read from the certificates: each names its parent, up to one that names itself. What a chain amounts to (its
//! root, its cost, the sum by which neighbours compare it) is worked out for all nodes of a tree at once, and again only after
//! something in that tree is new: a node has many chains, and they share most of their steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use byway_identity::Addr;
use byway_network::Cost;

use crate::cert::Cert;
use crate::coords::{DEPTH_MAX, Place, Step, root_id};
use crate::names::TreeId;

/// Most certificates.
pub(crate) const CERTS_MAX: usize = 4_096;

/// Certificates: for each tree and child the newest one.
pub(crate) struct Store {
    own: Addr,
    woods: BTreeMap<TreeId, Wood>,
    held: usize,
    /// Grows with each change.
    stamp: u64,
}

/// Those of one tree.
#[derive(Default)]
struct Wood {
    slots: Vec<Slot>,
    /// The slot of each child.
    places: Places,
    /// Since the last change, what chains amount to has not been worked out.
    stale: bool,
}

struct Slot {
    cert: Arc<Cert>,
    /// The slot of the parent, if it is held; a root's is its own.
    parent: Option<u32>,
    /// When the certificate came.
    stamp: u64,
    reach: Reach,
}

/// What the chain of a node amounts to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    /// The slot of the root, if the chain is whole.
    root: Option<u32>,
    pub(crate) steps: u32,
    /// From the root to the node.
    pub(crate) cost: u32,
    /// The sum of the ids of the certificates, each once, as far as the chain is known.
    pub(crate) sum: u64,
    /// The chain is the same as long as this is the same.
    pub(crate) stamp: u64,
    /// The first minute after which a part of it is past its time.
    pub(crate) not_after: u32,
    /// Whether this node is on it.
    pub(crate) has_own: bool,
}

const NOWHERE: Reach =
    Reach { root: None, steps: 0, cost: 0, sum: 0, stamp: 0, not_after: u32::MAX, has_own: false };

impl Store {
    /// An empty one, of the node `own`.
    pub(crate) fn new(own: Addr) -> Self {
        Self { own, woods: BTreeMap::new(), held: 0, stamp: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.held
    }

    pub(crate) fn get(&self, tree: TreeId, child: &Addr) -> Option<&Arc<Cert>> {
        let wood = self.woods.get(&tree)?;
        wood.find(child).map(|at| &wood.slots[at as usize].cert)
    }

    /// All certificates of a tree, those of its nodes as far as they are known.
    pub(crate) fn certs(&self, tree: TreeId) -> impl Iterator<Item = &Arc<Cert>> {
        self.woods.get(&tree).into_iter().flat_map(|wood| wood.slots.iter().map(|slot| &slot.cert))
    }

    /// Takes a certificate in if it is newer than what is held, and there is room.
    pub(crate) fn insert(&mut self, cert: Arc<Cert>) -> bool {
        let wood = self.woods.entry(cert.tree).or_default();
        let child = cert.child();
        match wood.find(&child) {
            Some(at) => {
                let slot = &mut wood.slots[at as usize];
                if slot.cert.seq >= cert.seq {
                    return false;
                }
                if slot.cert.parent() != cert.parent() {
                    slot.parent = None;
                }
                (slot.cert, slot.stamp) = (cert, self.stamp + 1);
            }
            None if self.held >= CERTS_MAX => return false,
            None => {
                wood.places.add(&child, wood.slots.len() as u32);
                grow(&mut wood.slots);
                wood.slots.push(Slot { cert, parent: None, stamp: self.stamp + 1, reach: NOWHERE });
                self.held += 1;
            }
        }
        wood.stale = true;
        self.stamp += 1;
        true
    }

    /// What the chain of `from` in `tree` amounts to.
    pub(crate) fn reach(&mut self, tree: TreeId, from: &Addr) -> Option<Reach> {
        let wood = self.woods.get_mut(&tree)?;
        if wood.stale {
            wood.settle(&self.own);
        }
        wood.find(from).map(|at| wood.slots[at as usize].reach)
    }

    /// The root of a chain, if it is whole and nothing of it is past its time at `minutes`.
    pub(crate) fn root(&self, tree: TreeId, reach: &Reach, minutes: u32) -> Option<Addr> {
        let at = reach.root.filter(|_| reach.not_after >= minutes)?;
        Some(self.woods.get(&tree)?.slots.get(at as usize)?.cert.child())
    }

    /// The place of the node `from`, if its chain is whole and nothing of it is past its time at `minutes`.
    pub(crate) fn place(&mut self, tree: TreeId, from: &Addr, minutes: u32) -> Option<Place> {
        let reach = self.reach(tree, from)?;
        let root = root_id(&self.root(tree, &reach, minutes)?);
        let mut steps = vec![Step { label: 0, cost: 0 }; reach.steps as usize];
        for (step, cert) in steps.iter_mut().rev().zip(self.chain(tree, from)) {
            *step = cert.offer.step();
        }
        Some(Place { tree, root, steps: steps.into() })
    }

    /// The certificates from `from` upwards, as far as they are held, each once.
    pub(crate) fn chain(&self, tree: TreeId, from: &Addr) -> impl Iterator<Item = &Arc<Cert>> {
        let wood = self.woods.get(&tree);
        let at = wood.and_then(|wood| wood.find(from));
        wood.into_iter().flat_map(move |wood| wood.up(at))
    }

    /// Forgets all that is on none of the chains of `from` in `trees`.
    pub(crate) fn prune(&mut self, trees: &[TreeId], from: &BTreeSet<Addr>) {
        self.woods.retain(|tree, _| trees.contains(tree));
        self.held = 0;
        for wood in self.woods.values_mut() {
            let mut kept = vec![false; wood.slots.len()];
            for addr in from {
                let mut at = wood.find(addr);
                while let Some(slot) = at.filter(|at| !std::mem::replace(&mut kept[*at as usize], true)) {
                    at = wood.parent(slot);
                }
            }
            if kept.contains(&false) {
                let mut kept = kept.into_iter();
                wood.slots.retain(|_| kept.next().unwrap_or(false));
                wood.slots.iter_mut().for_each(|slot| slot.parent = None);
                wood.slots.shrink_to_fit();
                wood.places = Places::of(wood.slots.iter().map(|slot| slot.cert.child()));
                wood.stale = true;
            }
            self.held += wood.slots.len();
        }
    }
}

/// Where each child is: its slot by the first bytes of its address, in order. As many addresses as begin alike stand side by
/// side, and the certificates tell them apart.
#[derive(Default)]
struct Places(Vec<(u64, u32)>);

impl Places {
    fn of(children: impl Iterator<Item = Addr>) -> Self {
        let mut places: Vec<(u64, u32)> =
            children.enumerate().map(|(at, child)| (front(&child), at as u32)).collect();
        places.sort_unstable();
        places.shrink_to_fit();
        Self(places)
    }

    fn add(&mut self, child: &Addr, slot: u32) {
        let place = (front(child), slot);
        let at = self.0.partition_point(|other| *other < place);
        grow(&mut self.0);
        self.0.insert(at, place);
    }

    /// The slots of those that begin like `child`.
    fn like(&self, child: &Addr) -> impl Iterator<Item = u32> {
        let front = front(child);
        let from = self.0.partition_point(|(other, _)| *other < front);
        self.0[from..].iter().take_while(move |(other, _)| *other == front).map(|(_, slot)| *slot)
    }
}

fn front(addr: &Addr) -> u64 {
    addr.as_bytes().iter().take(8).fold(0, |front, byte| front << 8 | u64::from(*byte))
}

/// Makes room for one more, and for an eighth if there is none: what is held for years should not take twice its size.
fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(8));
    }
}

impl Wood {
    /// The slot of a child.
    fn find(&self, child: &Addr) -> Option<u32> {
        self.places.like(child).find(|at| self.slots[*at as usize].cert.offer.child == *child)
    }

    /// The slot of the parent.
    fn parent(&self, at: u32) -> Option<u32> {
        let slot = &self.slots[at as usize];
        slot.parent.or_else(|| self.find(&slot.cert.parent()))
    }

    /// From `at` upwards, each once.
    fn up(&self, at: Option<u32>) -> impl Iterator<Item = &Arc<Cert>> {
        let first = at;
        std::iter::successors(at, move |at| {
            self.parent(*at).filter(|next| next != at && Some(*next) != first)
        })
        // A ring that begins further up is left after as many steps as there are nodes.
        .take(self.slots.len())
        .map(|at| &self.slots[at as usize].cert)
    }

    /// Works out what all chains amount to.
    fn settle(&mut self, own: &Addr) {
        self.stale = false;
        for at in 0..self.slots.len() as u32 {
            self.slots[at as usize].parent = self.parent(at);
        }
        let mut seen = vec![Seen::No; self.slots.len()];
        let mut way = Vec::new();
        for first in 0..self.slots.len() as u32 {
            // Up to what is known already, then down again.
            let mut next = Some(first);
            let mut above = NOWHERE;
            while let Some(at) = next {
                match seen[at as usize] {
                    Seen::No => {
                        seen[at as usize] = Seen::Now;
                        way.push(at);
                        next = self.slots[at as usize].parent.filter(|parent| *parent != at);
                    }
                    Seen::Now => {
                        let begins = way.iter().position(|on| *on == at).unwrap_or_default();
                        above = self.settle_ring(&way.split_off(begins), &mut seen, own);
                        break;
                    }
                    Seen::Done => {
                        above = self.slots[at as usize].reach;
                        break;
                    }
                }
            }
            while let Some(at) = way.pop() {
                let slot = &mut self.slots[at as usize];
                above = slot.below(above, at, own);
                slot.reach = above;
                seen[at as usize] = Seen::Done;
            }
        }
    }

    /// A ring has no root, but neighbours still compare what they hold of it: the same for all that are on it.
    fn settle_ring(&mut self, ring: &[u32], seen: &mut [Seen], own: &Addr) -> Reach {
        let mut reach = NOWHERE;
        for at in ring {
            reach = self.slots[*at as usize].below(reach, *at, own);
        }
        for at in ring {
            self.slots[*at as usize].reach = reach;
            seen[*at as usize] = Seen::Done;
        }
        reach
    }
}

/// How far a slot is while chains are worked out.
#[derive(Clone, Copy)]
enum Seen {
    No,
    Now,
    Done,
}

impl Slot {
    /// The reach of the node in this slot, given that of its parent.
    fn below(&self, above: Reach, at: u32, own: &Addr) -> Reach {
        let offer = &self.cert.offer;
        let is_root = offer.is_root();
        let steps = if is_root { 0 } else { above.steps.saturating_add(1) };
        let root = if is_root { Some(at) } else { above.root };
        Reach {
            root: root.filter(|_| steps as usize <= DEPTH_MAX),
            steps,
            cost: above.cost.saturating_add(Cost::decode(offer.cost).units()),
            sum: above.sum.wrapping_add(self.cert.id),
            stamp: above.stamp.max(self.stamp),
            not_after: above.not_after.min(offer.not_after),
            has_own: above.has_own || offer.child == *own,
        }
    }
}

#[cfg(test)]
mod tests {
    use byway_network::Plane;

    use super::*;
    use crate::cert::tests::{cert, key};

    fn addr(number: u8) -> Addr {
        key(number).public().addr()
    }

    fn tree() -> TreeId {
        TreeId::new(Plane::Any, 1)
    }

    fn store(certs: &[(u8, u8)]) -> Store {
        let mut store = Store::new(addr(200));
        for (child, parent) in certs {
            assert!(store.insert(Arc::new(cert(*child, *parent, 1))));
        }
        store
    }

    fn root(store: &mut Store, of: u8, minutes: u32) -> Option<Addr> {
        let reach = store.reach(tree(), &addr(of))?;
        assert_eq!(
            store.place(tree(), &addr(of), minutes).is_some(),
            store.root(tree(), &reach, minutes).is_some()
        );
        store.root(tree(), &reach, minutes)
    }

    fn has(store: &Store, of: u8, who: u8) -> bool {
        store.chain(tree(), &addr(of)).any(|cert| cert.child() == addr(who))
    }

    #[test]
    fn a_chain_is_read_from_the_certificates() {
        let mut store = store(&[(1, 1), (2, 1), (3, 2), (4, 9)]);
        assert_eq!(root(&mut store, 3, 0), Some(addr(1)));
        assert!(has(&store, 3, 2) && !has(&store, 3, 4));
        let place = store.place(tree(), &addr(3), 0).expect("it is whole");
        let units = 2 * Cost::decode(Cost::from_units(60).encode()).units();
        let reach = store.reach(tree(), &addr(3)).expect("it is held");
        assert_eq!((place.depth(), reach.cost, reach.steps), (units, units, 2));
        assert_eq!(root(&mut store, 4, 0), None, "its parent is unknown");
        assert_eq!(root(&mut store, 3, 5_001), None, "the offers are past their time");
        // One certificate moves all that is below.
        assert!(store.insert(Arc::new(cert(5, 5, 1))));
        assert!(store.insert(Arc::new(cert(2, 5, 2))));
        assert_eq!(root(&mut store, 3, 0), Some(addr(5)));
        assert_ne!(store.reach(tree(), &addr(3)).map(|reach| reach.stamp), Some(reach.stamp));
        assert!(!store.insert(Arc::new(cert(2, 1, 1))), "an older one is ignored");
        // What was missing makes a chain whole.
        assert!(store.insert(Arc::new(cert(9, 3, 1))));
        assert_eq!(root(&mut store, 4, 0), Some(addr(5)));
        assert!(store.insert(Arc::new(cert(2, 2, 3))), "a node may become a root");
        assert_eq!(root(&mut store, 4, 0), Some(addr(2)));
    }

    #[test]
    fn a_chain_knows_whether_this_node_is_on_it() {
        let mut store = store(&[(1, 1), (200, 1), (3, 200), (4, 1)]);
        let mut on = |of| store.reach(tree(), &addr(of)).map(|reach| reach.has_own);
        assert_eq!((on(1), on(200), on(3), on(4)), (Some(false), Some(true), Some(true), Some(false)));
    }

    #[test]
    fn a_ring_of_certificates_ends_and_both_ends_make_the_same_sum_of_it() {
        let certs = [(1, 2), (2, 3), (3, 1), (4, 3), (5, 4), (6, 6)];
        let mut store = store(&certs);
        let sums: Vec<u64> = (1..=6)
            .map(|of| {
                assert_eq!(root(&mut store, of, 0).is_some(), of == 6);
                store.reach(tree(), &addr(of)).expect("it is held").sum
            })
            .collect();
        let id = |of: usize| cert(certs[of - 1].0, certs[of - 1].1, 1).id;
        let ring = id(1).wrapping_add(id(2)).wrapping_add(id(3));
        assert_eq!(sums[..3], [ring; 3]);
        assert_eq!(sums[3..5], [ring.wrapping_add(id(4)), ring.wrapping_add(id(4)).wrapping_add(id(5))]);
        assert_eq!(store.chain(tree(), &addr(1)).count(), 3);
    }

    #[test]
    fn a_chain_that_is_too_deep_has_no_root() {
        let last = DEPTH_MAX as u8 + 2;
        let certs: Vec<(u8, u8)> = (1..=last).map(|of| (of, of.max(2) - 1)).collect();
        let mut store = store(&certs);
        assert_eq!(root(&mut store, last - 1, 0), Some(addr(1)));
        assert_eq!(root(&mut store, last, 0), None);
    }

    #[test]
    fn what_is_on_no_chain_is_forgotten() {
        let mut store = store(&[(1, 1), (2, 1), (3, 2), (4, 1), (5, 4), (6, 7), (7, 6)]);
        store.prune(&[tree()], &BTreeSet::from([addr(3), addr(6)]));
        assert_eq!((store.len(), store.certs(tree()).count()), (5, 5));
        assert!(store.get(tree(), &addr(4)).is_none() && store.get(tree(), &addr(2)).is_some());
        assert_eq!(root(&mut store, 3, 0), Some(addr(1)));
        store.prune(&[], &BTreeSet::new());
        assert_eq!(store.len(), 0);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let mut store = Store::new(addr(200));
        let sample = cert(1, 1, 1);
        for at in 0..CERTS_MAX + 10 {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&at.to_be_bytes());
            let offer = (*sample.offer).clone().of_nobody(Addr::from_bytes(bytes));
            store.insert(Arc::new(Cert { offer: Arc::new(offer), ..sample.clone() }));
        }
        assert_eq!(store.len(), CERTS_MAX);
        let newer = Cert { seq: sample.seq.next(), ..sample.clone() };
        let mut known = (*sample.offer).clone();
        known.child = store.certs(tree()).next().expect("it is full").child();
        assert!(store.insert(Arc::new(Cert { offer: Arc::new(known), ..newer })), "what is known may change");
    }
}
