//! Where a node is: its places in the trees, and how far it is from one place to another.
//!
//! ```text
//! coordinates   n u8 · (tree u8 · root 4 · depth u8 · (label v · cost u16)*)*
//! ```
//!
//! A place is the way down from the root: at each step the label of the link, which its upper end chose, and what that
//! link costs. With the cost of *each* link, not that of the whole way from the root, distances are exact sums on every
//! node, and `remaining` (see `forward`) never starves by rounding.

use std::sync::Arc;

use byway_identity::Addr;
use byway_network::{Cost, Family, Plane};
use byway_wire::{Malformed, Reader, Writer};

use crate::names::{TREES_MAX, TreeId};

/// Most steps from a root.
pub(crate) const DEPTH_MAX: usize = 120;
/// Bytes of coordinates in a frame beyond which no further tree is added.
pub(crate) const COORDS_GOAL: usize = 256;
/// Most bytes of coordinates in a frame.
pub(crate) const COORDS_MAX: usize = 384;
/// Labels are less than this.
pub(crate) const LABEL_BOUND: u16 = 1 << 14;

/// One step down: the label of the link, and its cost as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Step {
    pub(crate) label: u16,
    pub(crate) cost: u16,
}

/// The place in one tree.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) tree: TreeId,
    /// The first bytes of the root's address.
    pub(crate) root: [u8; 4],
    pub(crate) steps: Box<[Step]>,
}

/// The places in several trees, each tree at most once and in order. Cheap to clone: views and pictures share them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct Coords {
    places: Arc<[Place]>,
}

/// The first bytes of a root's address.
pub(crate) fn root_id(addr: &Addr) -> [u8; 4] {
    let bytes = addr.as_bytes();
    [bytes[0], bytes[1], bytes[2], bytes[3]]
}

impl Step {
    fn units(self) -> u32 {
        Cost::decode(self.cost).units()
    }
}

fn sum(steps: &[Step]) -> u32 {
    steps.iter().fold(0, |sum: u32, step| sum.saturating_add(step.units()))
}

impl Place {
    /// What the way from the root costs.
    pub(crate) fn depth(&self) -> u32 {
        sum(&self.steps)
    }

    /// What the way through the tree to `other` costs; nothing if the two are under different roots.
    pub(crate) fn distance(&self, other: &Self) -> Option<u32> {
        if self.tree != other.tree || self.root != other.root {
            return None;
        }
        let shared = self.steps.iter().zip(&other.steps).take_while(|(a, b)| a == b).count();
        Some(sum(&self.steps[shared..]).saturating_add(sum(&other.steps[shared..])))
    }

    /// The place of a child.
    pub(crate) fn below(&self, step: Step) -> Self {
        let steps = self.steps.iter().copied().chain([step]).collect();
        Self { tree: self.tree, root: self.root, steps }
    }

    fn length(&self) -> usize {
        6 + self.steps.iter().map(|step| if step.label < 64 { 3 } else { 4 }).sum::<usize>()
    }
}

impl Coords {
    /// Of places in any order; of two in one tree the first counts.
    pub(crate) fn new(mut places: Vec<Place>) -> Self {
        places.sort_by_key(|place| place.tree);
        places.dedup_by_key(|place| place.tree);
        Self { places: places.into() }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Place> {
        self.places.iter()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether these are places under the same roots as `other`.
    pub(crate) fn has_roots_of(&self, other: &Self) -> bool {
        self.iter()
            .map(|place| (place.tree, place.root))
            .eq(other.iter().map(|place| (place.tree, place.root)))
    }

    /// Whether `said` puts this node elsewhere than it is, in any tree.
    pub(crate) fn denies(&self, said: &Self) -> bool {
        said.iter().any(|place| self.place(place.tree) != Some(place))
    }

    pub(crate) fn place(&self, tree: TreeId) -> Option<&Place> {
        self.places.iter().find(|place| place.tree == tree)
    }

    /// The trees of `plane`, as a mask.
    pub(crate) fn mask(&self, plane: Plane) -> u8 {
        let inside = self.places.iter().filter(|place| place.tree.plane() == plane);
        inside.fold(0, |mask, place| mask | place.tree.bit())
    }

    /// Those in `plane`.
    pub(crate) fn in_plane(&self, plane: Plane) -> Self {
        Self { places: self.places.iter().filter(|place| place.tree.plane() == plane).cloned().collect() }
    }

    /// Those in trees of which frames may use links of `family`: nothing else is told over such a link.
    pub(crate) fn over(&self, family: Family) -> Self {
        Self { places: self.places.iter().filter(|place| place.tree.has(family)).cloned().collect() }
    }

    /// Those in the trees of `mask`.
    pub(crate) fn only(&self, mask: u8) -> Self {
        let wanted = |place: &&Place| place.tree.bit() & mask != 0;
        Self { places: self.places.iter().filter(wanted).cloned().collect() }
    }

    /// The places of a child, in all trees.
    pub(crate) fn below(&self, step: Step) -> Self {
        Self { places: self.places.iter().map(|place| place.below(step)).collect() }
    }

    /// The least distance to `other` over the trees of `plane` in `mask`.
    pub(crate) fn distance(&self, other: &Self, plane: Plane, mask: u8) -> Option<u32> {
        self.distances(other, plane, mask).map(|(_, distance)| distance).min()
    }

    /// The distance in each of these trees.
    pub(crate) fn distances<'a>(
        &'a self,
        other: &'a Self,
        plane: Plane,
        mask: u8,
    ) -> impl Iterator<Item = (TreeId, u32)> + 'a {
        let wanted = move |place: &&Place| place.tree.plane() == plane && place.tree.bit() & mask != 0;
        self.places.iter().filter(wanted).filter_map(|place| {
            let there = other.place(place.tree)?;
            Some((place.tree, place.distance(there)?))
        })
    }

    /// Those of the places in `plane` that fit a frame: the nearest to `from` first.
    pub(crate) fn fitting(&self, plane: Plane, from: &Self) -> Self {
        let mut places: Vec<&Place> =
            self.places.iter().filter(|place| place.tree.plane() == plane).collect();
        places.sort_by_key(|place| {
            let distance = from.place(place.tree).and_then(|own| own.distance(place));
            (distance.unwrap_or(u32::MAX), place.tree)
        });
        let mut length = 1;
        let mut fitting = Vec::new();
        for place in places {
            let longer = length + place.length();
            if longer <= if fitting.is_empty() { COORDS_MAX } else { COORDS_GOAL } {
                length = longer;
                fitting.push(place.clone());
            }
        }
        Self::new(fitting)
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.u8(self.places.len() as u8);
        for place in self.places.iter() {
            writer.u8(place.tree.byte()).bytes(&place.root).u8(place.steps.len() as u8);
            for step in &place.steps {
                writer.varint(step.label.into()).u16_be(step.cost);
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.u8()?;
        if count > TREES_MAX * Plane::ALL.len() as u8 {
            return Err(Malformed::Invalid("number of trees"));
        }
        let mut places: Vec<Place> = Vec::new();
        for _ in 0..count {
            let tree = TreeId::from_byte(reader.u8()?).ok_or(Malformed::Invalid("tree"))?;
            if places.last().is_some_and(|last| last.tree >= tree) {
                return Err(Malformed::Invalid("order of trees"));
            }
            let root = reader.array()?;
            let depth = usize::from(reader.u8()?);
            if depth > DEPTH_MAX {
                return Err(Malformed::Invalid("depth"));
            }
            let steps = (0..depth).map(|_| Ok(Step { label: label(reader)?, cost: reader.u16_be()? }));
            places.push(Place { tree, root, steps: steps.collect::<Result<_, Malformed>>()? });
        }
        Ok(Self { places: places.into() })
    }
}

/// Reads the label of a link.
pub(crate) fn label(reader: &mut Reader<'_>) -> Result<u16, Malformed> {
    let label = reader.varint()?;
    if label < u64::from(LABEL_BOUND) { Ok(label as u16) } else { Err(Malformed::Invalid("label")) }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_place(index: u8) -> impl Strategy<Value = Place> {
        let steps = prop::collection::vec((1..LABEL_BOUND, 1u16..3_000), 0..12);
        steps.prop_map(move |steps| Place {
            tree: TreeId::new(Plane::Any, index),
            root: [9; 4],
            steps: steps.into_iter().map(|(label, cost)| Step { label, cost }).collect(),
        })
    }

    pub(crate) fn any_coords() -> impl Strategy<Value = Coords> {
        (any_place(0), any_place(1), any_place(3)).prop_map(|(a, b, c)| Coords::new(vec![c, a, b]))
    }

    proptest! {
        #[test]
        fn coordinates_are_read_as_they_were_written(coords in any_coords()) {
            let mut writer = Writer::new();
            coords.write(&mut writer);
            let mut reader = Reader::new(writer.as_slice());
            prop_assert_eq!(Coords::read(&mut reader)?, coords);
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn coordinates_have_one_encoding(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            if let Ok(coords) = Coords::read(&mut reader) {
                let mut writer = Writer::new();
                coords.write(&mut writer);
                prop_assert_eq!(writer.as_slice(), &bytes[..bytes.len() - reader.remaining()]);
            }
        }

        #[test]
        fn the_distance_is_that_of_a_tree(a in any_place(0), b in any_place(0), step in (1..LABEL_BOUND, 1u16..3_000)) {
            prop_assert_eq!(a.distance(&a), Some(0));
            prop_assert_eq!(a.distance(&b), b.distance(&a));
            let child = a.below(Step { label: step.0, cost: step.1 });
            let link = Cost::decode(step.1).units();
            prop_assert_eq!(a.distance(&child), Some(link));
            prop_assert_eq!(child.depth(), a.depth() + link);
            // Through the parent it is never further, and to a node that is no descendant just as far.
            let (near, far) = (a.distance(&b).unwrap(), child.distance(&b).unwrap());
            prop_assert!(far == near + link || near == far + link);
        }

        #[test]
        fn what_fits_a_frame_fits(coords in any_coords(), from in any_coords()) {
            let fitting = coords.fitting(Plane::Any, &from);
            let mut writer = Writer::new();
            fitting.write(&mut writer);
            prop_assert!(writer.len() <= COORDS_MAX);
            prop_assert!(!fitting.is_empty());
        }
    }

    #[test]
    fn places_under_different_roots_have_no_distance() {
        let tree = TreeId::new(Plane::Any, 0);
        let place = |root| Place { tree, root: [root; 4], steps: Box::default() };
        assert_eq!(place(1).distance(&place(2)), None);
        assert_eq!(place(1).distance(&place(1)), Some(0));
        let other = Place { tree: TreeId::new(Plane::Any, 1), ..place(1) };
        assert_eq!(place(1).distance(&other), None);
    }
}
