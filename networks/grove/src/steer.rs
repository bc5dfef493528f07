//! Which neighbour is next: one rule for the router and for its pictures.
//!
//! ```text
//! value of v   cost(v) + φ(v), or by an entry w of its view: cost(v) + cost(v, w) + φ(w); the least counts
//! φ            distance to the coordinates over the trees in the mask; 0 at the target itself
//! next         the least value; if it is above `remaining`, a tree leaves the mask
//! remaining    becomes the value less the link: it falls at each hop
//! ```
//!
//! A node that is back on the same mask finds less in `remaining` than its least value, so it never passes a frame on twice.
//! This needs the same order for every frame: what a neighbour has swallowed counts only where a frame starts.

use byway_network::{Cost, Hop, Plane};

use crate::coords::Coords;
use crate::frame::Seen;
use crate::names::ShortId;
use crate::packet::Steered;
use crate::peer::Role;

/// A neighbour that frames of the plane may be given to now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Near<'a> {
    pub(crate) hop: Hop,
    /// What the link costs, at least 1.
    pub(crate) link: u32,
    /// How many eighths of what it promises are added where a frame starts, for what it has swallowed.
    pub(crate) handicap: u8,
    pub(crate) role: Role,
    pub(crate) id: ShortId,
    pub(crate) coords: &'a Coords,
    pub(crate) view: &'a [Seen],
}

/// Where a frame is going.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal<'a> {
    pub(crate) to: ShortId,
    pub(crate) coords: &'a Coords,
    pub(crate) plane: Plane,
}

/// The best next neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Best {
    /// What the rest of the way costs by it, as promised.
    pub(crate) value: u32,
    /// What the link to it costs.
    pub(crate) link: u32,
    pub(crate) hop: Hop,
    /// The value with the handicap.
    pub(crate) rated: u64,
}

impl Near<'_> {
    /// What the rest of the way costs by this neighbour, if it promises anything over the trees in `mask`.
    fn promise(&self, goal: &Goal<'_>, mask: u8) -> Option<u32> {
        if self.role == Role::Leaf {
            return (self.id == goal.to).then_some(self.link);
        }
        let away = |id: ShortId, from: &Coords| {
            if id == goal.to { Some(0) } else { from.distance(goal.coords, goal.plane, mask) }
        };
        let first = away(self.id, self.coords);
        let seen = self.view.iter().filter(|seen| goal.plane.has(seen.class.family()));
        let second = seen.filter_map(|seen| {
            let second = Cost::decode(seen.cost).units().max(1);
            Some(second.saturating_add(away(seen.id, &seen.coords)?))
        });
        first.into_iter().chain(second).min().map(|rest| self.link.saturating_add(rest))
    }

    /// The same, as a candidate.
    pub(crate) fn candidate(&self, goal: &Goal<'_>, mask: u8) -> Option<Best> {
        let value = self.promise(goal, mask)?;
        let rated = u64::from(value) * (8 + u64::from(self.handicap)) / 8;
        Some(Best { value, link: self.link, hop: self.hop, rated })
    }
}

/// Where a frame goes next from a node at `own`, with the mask and the remaining cost that it leaves with; nowhere if nothing
/// is left.
pub(crate) fn steer<'a, I: Iterator<Item = Near<'a>>>(
    own: &Coords,
    nears: impl Fn() -> I,
    head: &Steered,
) -> Option<(Best, u8, u32)> {
    let goal = Goal { to: head.to, coords: &head.coords, plane: head.plane };
    let (mut mask, mut remaining) = (head.mask, head.remaining);
    loop {
        let candidates = nears().filter_map(|near| near.candidate(&goal, mask));
        let best = candidates.min_by_key(|best| (best.value, best.hop));
        if let Some(best) = best.filter(|best| best.value <= remaining) {
            return Some((best, mask, best.value - best.link));
        }
        if mask == 0 {
            return None;
        }
        // The tree that brought the frame here leads no further.
        let near = own.distances(&head.coords, head.plane, mask).min_by_key(|(id, away)| (*away, *id));
        mask &= near.map_or(0, |(id, _)| !id.bit());
        remaining = u32::MAX;
    }
}
