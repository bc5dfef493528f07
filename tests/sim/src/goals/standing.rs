//! Whether trees are whole: seen from outside, by what each node says of itself.

use byway_grove::Grove;
use byway_identity::Addr;
use byway_network::{Network, Plane, Tree};
use byway_sim::{World, parts};

/// Looks at the trees of plane `any` again and again.
///
/// A tree is whole when all nodes of the largest part of the network are under one root, which is one of them; when the parent
/// of each is a neighbour that lives; and when the coordinates of each are those of its parent and one label more. So nobody
/// goes by what is no longer true. Smaller parts, cut off by deaths, have trees of their own, and are not waited for.
pub(super) struct Standing {
    inside: Vec<usize>,
    trees: Vec<u8>,
    /// Who was not right the last time, and is looked at first.
    suspect: usize,
}

impl Standing {
    /// Of the largest part of the network as it is now, for these trees.
    pub(super) fn new(world: &World<Grove>, trees: impl IntoIterator<Item = u8>) -> Self {
        let part = parts(world.len(), world.open_links().map(|(a, b, _)| (a, b)));
        let mut sizes = vec![0; world.len()];
        for node in (0..world.len()).filter(|node| world.is_alive(*node)) {
            sizes[part[node]] += 1;
        }
        let largest = (0..world.len()).max_by_key(|part| sizes[*part]).unwrap_or(0);
        let inside = |node: &usize| world.is_alive(*node) && part[*node] == largest;
        Self {
            inside: (0..world.len()).filter(inside).collect(),
            trees: trees.into_iter().collect(),
            suspect: 0,
        }
    }

    /// The nodes of that part.
    pub(super) fn inside(&self) -> &[usize] {
        &self.inside
    }

    /// Whether all of the trees are whole.
    pub(super) fn is_whole(&mut self, world: &World<Grove>) -> bool {
        let roots = self.roots(world, self.inside.first().copied());
        let count = self.inside.len();
        for step in 0..count {
            let at = (self.suspect + step) % count;
            if !self.is_right(world, self.inside[at], &roots) {
                self.suspect = at;
                return false;
            }
        }
        true
    }

    fn roots(&self, world: &World<Grove>, of: Option<usize>) -> Vec<Option<Addr>> {
        let trees = of.map(|node| places(world, node)).unwrap_or_default();
        self.trees.iter().map(|index| Some(tree(&trees, *index)?.root)).collect()
    }

    fn is_right(&self, world: &World<Grove>, node: usize, roots: &[Option<Addr>]) -> bool {
        let own = places(world, node);
        self.trees.iter().zip(roots).all(|(index, root)| {
            let Some(it) = tree(&own, *index).filter(|tree| Some(tree.root) == *root) else { return false };
            let Some(parent) = it.parent else {
                return it.root == world.addr(node) && it.coordinates.is_empty();
            };
            let Some(above) = world.number(&parent.peer).filter(|above| {
                world.neighbours(node).any(|(other, family)| other == *above && family == parent.family)
            }) else {
                return false;
            };
            let theirs = places(world, above);
            tree(&theirs, *index).is_some_and(|theirs| {
                theirs.root == it.root
                    && it.coordinates.split_last().is_some_and(|(_, rest)| rest == theirs.coordinates)
            })
        })
    }
}

/// The places of a node in its trees.
pub(super) fn places(world: &World<Grove>, node: usize) -> Vec<Tree> {
    world.router(node).map(0).trees
}

fn tree(trees: &[Tree], index: u8) -> Option<&Tree> {
    trees.iter().find(|tree| tree.plane == Plane::Any && tree.index == index)
}
