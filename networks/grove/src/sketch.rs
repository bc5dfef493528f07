//! Where a peer of a peer is, told to somebody who knows where the peer itself is.
//!
//! ```text
//! sketch   n u8 · (tree u8 · shared u8 · root 4, if shared is 255 · depth u8 · (label v · cost u16)*)*
//! ```
//!
//! Neighbours stand near one another in most trees, so a place is told as the steps that the teller's own place begins with too,
//! by their number, and the rest. That is shorter; and when something changes above both, what was told stays right,
//! for the certificates move it.

use byway_wire::{Malformed, Reader, Writer};

use byway_network::Family;

use crate::coords::{Coords, DEPTH_MAX, Place, Step, label};
use crate::names::{TREES_MAX, TreeId};

/// Stands for a place that shares no root with the teller's.
const APART: u8 = 255;

/// Coordinates, as seen from others.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Sketch {
    strokes: Box<[Stroke]>,
}

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stroke {
    tree: TreeId,
    begins: Begins,
    steps: Box<[Step]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begins {
    /// With so many steps of the teller's place.
    Shared(u8),
    /// At this root.
    At([u8; 4]),
}

impl Sketch {
    /// `of`, as seen from `teller`.
    pub(crate) fn new(of: &Coords, teller: &Coords) -> Self {
        let stroke = |place: &Place| {
            let near = teller.place(place.tree).filter(|near| near.root == place.root);
            let shared = near.map(|near| {
                let both = near.steps.iter().zip(place.steps.iter());
                both.take_while(|(near, far)| near == far).count().min(DEPTH_MAX)
            });
            let (begins, from) = match shared {
                Some(shared) => (Begins::Shared(shared as u8), shared),
                None => (Begins::At(place.root), 0),
            };
            Stroke { tree: place.tree, begins, steps: place.steps[from..].into() }
        };
        Self { strokes: of.iter().map(stroke).collect() }
    }

    /// The coordinates, for who knows those of the teller. A place that cannot be told from them is left out.
    pub(crate) fn resolve(&self, teller: &Coords) -> Coords {
        let place = |stroke: &Stroke| {
            let Stroke { tree, begins, steps } = stroke;
            let (root, shared) = match *begins {
                Begins::At(root) => (root, &[][..]),
                Begins::Shared(shared) => {
                    let near = teller.place(*tree)?;
                    (near.root, near.steps.get(..usize::from(shared))?)
                }
            };
            let steps = [shared, steps].concat();
            (steps.len() <= DEPTH_MAX).then(|| Place { tree: *tree, root, steps: steps.into() })
        };
        Coords::new(self.strokes.iter().filter_map(place).collect())
    }

    /// Those in trees of which frames may use links of `family`.
    pub(crate) fn over(&self, family: Family) -> Self {
        Self { strokes: self.strokes.iter().filter(|stroke| stroke.tree.has(family)).cloned().collect() }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.u8(self.strokes.len() as u8);
        for Stroke { tree, begins, steps } in &self.strokes {
            writer.u8(tree.byte());
            match begins {
                Begins::Shared(shared) => writer.u8(*shared),
                Begins::At(root) => writer.u8(APART).bytes(root),
            };
            writer.u8(steps.len() as u8);
            for step in steps {
                writer.varint(step.label.into()).u16_be(step.cost);
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = reader.u8()?;
        if count > TREES_MAX * byway_network::Plane::ALL.len() as u8 {
            return Err(Malformed::Invalid("number of trees"));
        }
        let mut strokes: Vec<Stroke> = Vec::new();
        for _ in 0..count {
            let tree = TreeId::from_byte(reader.u8()?).ok_or(Malformed::Invalid("tree"))?;
            if strokes.last().is_some_and(|last| last.tree >= tree) {
                return Err(Malformed::Invalid("order of trees"));
            }
            let (begins, shared) = match reader.u8()? {
                APART => (Begins::At(reader.array()?), 0),
                shared => (Begins::Shared(shared), usize::from(shared)),
            };
            let depth = usize::from(reader.u8()?);
            if shared + depth > DEPTH_MAX {
                return Err(Malformed::Invalid("depth"));
            }
            let steps = (0..depth).map(|_| Ok(Step { label: label(reader)?, cost: reader.u16_be()? }));
            strokes.push(Stroke { tree, begins, steps: steps.collect::<Result<_, Malformed>>()? });
        }
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
