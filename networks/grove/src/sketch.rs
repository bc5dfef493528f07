//! Where a peer of a peer is, told to somebody who knows where the peer itself is.
//!
//! ```text
//! sketch   n u8 · (tree u8 · shared u8 · root 4, if shared is 255 · depth u8 · (label v · cost u16)*)*
//! ```
//!
//! Neighbours stand near one another in most trees, so a place is told as the steps that the teller's own place begins with too,
//! by their number, and the rest. That is shorter; and when something changes above both, what was told stays right,
//! for the certificates move it.

use byway_network::Family;
use byway_wire::{Malformed, Reader, Writer};

use crate::coords::{Coords, DEPTH_MAX, Place, Step, label};
use crate::names::{TREES_MAX, TreeId};

/// Stands for a place that shares no root with the teller's.
const APART: u8 = 255;

/// Coordinates, as seen from others: the strokes as they stand on the wire, for they are read seldom and kept for long.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Sketch {
    strokes: Box<[u8]>,
}

/// One place.
#[derive(Clone, Copy)]
struct Stroke<'a> {
    tree: TreeId,
    begins: Begins,
    depth: u8,
    /// The steps, and the whole of it, as they stand on the wire.
    steps: &'a [u8],
    whole: &'a [u8],
}

#[derive(Clone, Copy)]
enum Begins {
    /// With so many steps of the teller's place.
    Shared(u8),
    /// At this root.
    At([u8; 4]),
}

impl<'a> Stroke<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Malformed> {
        let from = reader.clone();
        let tree = TreeId::from_byte(reader.u8()?).ok_or(Malformed::Invalid("tree"))?;
        let (begins, shared) = match reader.u8()? {
            APART => (Begins::At(reader.array()?), 0),
            shared => (Begins::Shared(shared), usize::from(shared)),
        };
        let depth = reader.u8()?;
        if shared + usize::from(depth) > DEPTH_MAX {
            return Err(Malformed::Invalid("depth"));
        }
        let first = reader.clone();
        for _ in 0..depth {
            step(reader)?;
        }
        let until = |mut reader: Reader<'a>, rest: usize| reader.bytes(reader.remaining() - rest);
        let (steps, whole) = (until(first, reader.remaining())?, until(from, reader.remaining())?);
        Ok(Self { tree, begins, depth, steps, whole })
    }

    fn steps(&self) -> impl Iterator<Item = Step> + 'a {
        let mut reader = Reader::new(self.steps);
        (0..self.depth).map_while(move |_| step(&mut reader).ok())
    }
}

fn step(reader: &mut Reader<'_>) -> Result<Step, Malformed> {
    Ok(Step { label: label(reader)?, cost: reader.u16_be()? })
}

impl Sketch {
    /// `of`, as seen from `teller`.
    pub(crate) fn new(of: &Coords, teller: &Coords) -> Self {
        let mut writer = Writer::new();
        for place in of.iter() {
            let near = teller.place(place.tree).filter(|near| near.root == place.root);
            let shared = near.map(|near| {
                let both = near.steps.iter().zip(place.steps.iter());
                both.take_while(|(near, far)| near == far).count().min(DEPTH_MAX)
            });
            writer.u8(place.tree.byte());
            match shared {
                Some(shared) => writer.u8(shared as u8),
                None => writer.u8(APART).bytes(&place.root),
            };
            let steps = &place.steps[shared.unwrap_or(0)..];
            writer.u8(steps.len() as u8);
            for step in steps {
                writer.varint(step.label.into()).u16_be(step.cost);
            }
        }
        Self { strokes: writer.as_slice().into() }
    }

    fn strokes(&self) -> impl Iterator<Item = Stroke<'_>> {
        let mut reader = Reader::new(&self.strokes);
        std::iter::from_fn(move || Stroke::read(&mut reader).ok())
    }

    /// The coordinates, for who knows those of the teller. A place that cannot be told from them is left out.
    pub(crate) fn resolve(&self, teller: &Coords) -> Coords {
        let place = |stroke: Stroke<'_>| {
            let tree = stroke.tree;
            let (root, shared) = match stroke.begins {
                Begins::At(root) => (root, &[][..]),
                Begins::Shared(shared) => {
                    let near = teller.place(tree)?;
                    (near.root, near.steps.get(..usize::from(shared))?)
                }
            };
            let mut steps = Vec::with_capacity(shared.len() + usize::from(stroke.depth));
            steps.extend_from_slice(shared);
            steps.extend(stroke.steps());
            (steps.len() <= DEPTH_MAX).then(|| Place { tree, root, steps: steps.into() })
        };
        Coords::new(self.strokes().filter_map(place).collect())
    }

    /// Those in trees of which frames may use links of `family`.
    pub(crate) fn over(&self, family: Family) -> Self {
        let inside = self.strokes().filter(|stroke| stroke.tree.has(family));
        Self { strokes: inside.flat_map(|stroke| stroke.whole).copied().collect() }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.u8(self.strokes().count() as u8).bytes(&self.strokes);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.u8()?;
        if count > TREES_MAX * byway_network::Plane::ALL.len() as u8 {
            return Err(Malformed::Invalid("number of trees"));
        }
        let mut rest = reader.clone();
        let mut last = None;
        for _ in 0..count {
            let stroke = Stroke::read(&mut rest)?;
            if last.is_some_and(|last| last >= stroke.tree) {
                return Err(Malformed::Invalid("order of trees"));
            }
            last = Some(stroke.tree);
        }
        let strokes = reader.bytes(reader.remaining() - rest.remaining())?;
        Ok(Self { strokes: strokes.into() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::coords::tests::any_coords;

    proptest! {
        #[test]
        fn who_knows_the_teller_knows_what_was_told(of in any_coords(), teller in any_coords(), family in 0usize..6) {
            let sketch = Sketch::new(&of, &teller);
            prop_assert_eq!(sketch.resolve(&teller), of.clone());
            let family = Family::ALL[family];
            prop_assert_eq!(sketch.over(family).resolve(&teller), of.over(family));
            let mut writer = Writer::new();
            sketch.write(&mut writer);
            let mut reader = Reader::new(writer.as_slice());
            prop_assert_eq!(Sketch::read(&mut reader)?, sketch);
            prop_assert_eq!(reader.remaining(), 0);
        }

        #[test]
        fn a_sketch_has_one_encoding_and_is_resolved_without_harm(bytes: Vec<u8>, teller in any_coords()) {
            let mut reader = Reader::new(&bytes);
            if let Ok(sketch) = Sketch::read(&mut reader) {
                let mut writer = Writer::new();
                sketch.write(&mut writer);
                prop_assert_eq!(writer.as_slice(), &bytes[..bytes.len() - reader.remaining()]);
                let coords = sketch.resolve(&teller);
                prop_assert!(coords.iter().all(|place| place.steps.len() <= DEPTH_MAX));
            }
        }

        #[test]
        fn what_moves_both_changes_nothing_that_was_told(near in any_coords(), first in 1u16..64, then in 1u16..64) {
            let step = |label| Step { label, cost: 30 };
            // A sibling of the teller, told before and after their common part has moved.
            let (teller, other) = (near.below(step(first)), near.below(step(100)).below(step(then)));
            let sketch = Sketch::new(&other, &teller);
            let moved = |coords: &Coords| {
                let places = coords.iter().map(|place| Place { root: [7; 4], steps: [&[step(9)][..], &place.steps].concat().into(), ..place.clone() });
                Coords::new(places.collect())
            };
            let shared = near.iter().all(|place| place.steps.is_empty());
            prop_assume!(!shared);
            prop_assert_eq!(sketch.over(Family::Ip).resolve(&teller), other.clone());
            prop_assert_eq!(Sketch::new(&other, &teller), sketch);
            let later = Sketch::new(&moved(&other), &moved(&teller));
            prop_assert_eq!(later.resolve(&moved(&teller)), moved(&other));
        }
    }
}
