//! Ways that probes have shown, and which of them to use.

use std::collections::{BTreeMap, BTreeSet};

use byway_identity::Addr;
use byway_network::{Class, Constraint, Cost, Family, PathId};

use crate::names::tag;
use crate::packet::Noted;

/// Most links of one target's graph.
const EDGES_MAX: usize = 256;
/// Most ways in use per target.
const PATHS_MAX: usize = 3;

pub(crate) type Tag = [u8; 6];

/// A link that a probe went over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edge {
    from: Tag,
    to: Tag,
    label: u16,
    class: Class,
    cost: u32,
}

/// A way by labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) id: PathId,
    /// The label of each link at its near end; the first one is this node's own.
    pub(crate) labels: Vec<u16>,
    classes: Vec<Class>,
    /// The nodes behind each link, by the salt; the last one is the target.
    tags: Vec<Tag>,
    salt: u64,
    pub(crate) cost: u32,
    /// Whether the present round of probes has shown it.
    shown: bool,
}

/// What is known of the ways to one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paths {
    /// Names the present round of probes.
    pub(crate) salt: u64,
    edges: Vec<Edge>,
    /// Those in use, the best first.
    pub(crate) chosen: Vec<Path>,
}

impl Path {
    /// Whether the way is sure to satisfy `by`, as far as it can be told from the way alone.
    pub(crate) fn satisfies(&self, by: &Constraint) -> bool {
        let first =
            self.classes.iter().map(|class| class.family()).find(|family| *family != Family::Loopback);
        let count = |family: Family| self.classes.iter().filter(|class| class.family() == family).count();
        // A node that would not be tagged could be any.
        let silent = self.tags.contains(&[0; 6]) && !by.avoid.is_empty();
        let inner = &self.tags[..self.tags.len().saturating_sub(1)];
        by.relays == 0
            && self.classes.iter().all(|class| by.plane.has(class.family()))
            && first.is_none_or(|first| by.first_hop.has(first))
            && by.at_least.iter().all(|(family, least)| count(*family) >= usize::from(*least))
            && !silent
            && by.avoid.iter().all(|addr| !inner.contains(&tag(self.salt, addr)))
    }

    /// Whether the ways share no node but their ends. Tags of two rounds cannot be compared, so then they may.
    pub(crate) fn is_disjoint_from(&self, other: &Self) -> bool {
        let inner = |path: &Self| path.tags[..path.tags.len().saturating_sub(1)].to_vec();
        let (a, b) = (inner(self), inner(other));
        let silent = a.contains(&[0; 6]) || b.contains(&[0; 6]);
        self.salt == other.salt && !silent && a.iter().all(|tag| !b.contains(tag))
    }
}

impl Paths {
    /// Begins a new round; what was chosen stays until the round shows better, or nothing.
    pub(crate) fn begin(&mut self, salt: u64) {
        for path in &mut self.chosen {
            path.shown = false;
        }
        self.salt = salt;
        self.edges.clear();
    }

    /// The round is over: what it has not shown is not used any more. Whether that changed anything.
    pub(crate) fn end(&mut self) -> bool {
        let before = self.chosen.len();
        self.chosen.retain(|path| path.shown);
        before != self.chosen.len()
    }

    /// A probe came back with these links.
    pub(crate) fn add(&mut self, own: &Addr, hops: &[Noted], mut fresh: impl FnMut() -> PathId) {
        let mut from = tag(self.salt, own);
        for hop in hops {
            let cost = Cost::decode(hop.cost).units().max(1);
            let edge = Edge { from, to: hop.tag, label: hop.out, class: hop.class, cost };
            if !self.edges.contains(&edge) && self.edges.len() < EDGES_MAX {
                self.edges.push(edge);
            }
            from = hop.tag;
        }
        self.choose(own, from, &mut fresh);
    }

    /// A way that begins with `labels` has ended there.
    pub(crate) fn broken(&mut self, labels: &[u16]) -> bool {
        let before = self.chosen.len();
        self.chosen.retain(|path| !path.labels.starts_with(labels));
        // The graph has the broken link too; the next round makes it anew.
        self.edges.clear();
        before != self.chosen.len()
    }

    /// The best way that satisfies `by`, and is disjoint from each of `from`.
    pub(crate) fn best(&self, by: &Constraint, from: &[Path]) -> Option<&Path> {
        self.chosen
            .iter()
            .find(|path| path.satisfies(by) && from.iter().all(|other| path.is_disjoint_from(other)))
    }

    fn choose(&mut self, own: &Addr, target: Tag, fresh: &mut impl FnMut() -> PathId) {
        let start = tag(self.salt, own);
        let mut removed = BTreeSet::new();
        let mut found = Vec::new();
        for _ in 0..PATHS_MAX {
            let Some(edges) = self.cheapest(start, target, &removed) else { break };
            let inner = &edges[..edges.len() - 1];
            removed.extend(inner.iter().map(|edge| edge.to));
            found.push(self.path(&edges, fresh));
            if inner.is_empty() {
                // The neighbour itself: any other way is disjoint from this one.
                break;
            }
        }
        // The way in use stays, if the round has shown it too, unless another is a fifth cheaper.
        if let Some(used) = self.chosen.first()
            && let Some(cost) = self.cost_of(start, &used.labels)
            && let Some(best) = found.first()
            && best.labels != used.labels
            && u64::from(best.cost) * 5 > u64::from(cost) * 4
        {
            let edges = self.edges_of(start, &used.labels);
            let id = used.id;
            let path = Path { id, ..self.path(&edges, &mut || id) };
            found.retain(|other| other.labels != path.labels);
            found.insert(0, path);
            found.truncate(PATHS_MAX);
        }
        self.chosen = found;
    }

    fn path(&self, edges: &[Edge], fresh: &mut impl FnMut() -> PathId) -> Path {
        let labels: Vec<u16> = edges.iter().map(|edge| edge.label).collect();
        let known = self.chosen.iter().find(|path| path.labels == labels).map(|path| path.id);
        Path {
            id: known.unwrap_or_else(fresh),
            labels,
            classes: edges.iter().map(|edge| edge.class).collect(),
            tags: edges.iter().map(|edge| edge.to).collect(),
            salt: self.salt,
            cost: edges.iter().fold(0, |sum: u32, edge| sum.saturating_add(edge.cost)),
            shown: true,
        }
    }

    fn edges_of(&self, start: Tag, labels: &[u16]) -> Vec<Edge> {
        let mut at = start;
        let mut edges = Vec::new();
        for label in labels {
            let Some(edge) = self.edges.iter().find(|edge| edge.from == at && edge.label == *label) else {
                return Vec::new();
            };
            edges.push(*edge);
            at = edge.to;
        }
        edges
    }

    fn cost_of(&self, start: Tag, labels: &[u16]) -> Option<u32> {
        let edges = self.edges_of(start, labels);
        (!edges.is_empty()).then(|| edges.iter().fold(0, |sum: u32, edge| sum.saturating_add(edge.cost)))
    }

    /// The cheapest way through the graph that avoids `removed`; no node occurs twice on it.
    fn cheapest(&self, start: Tag, target: Tag, removed: &BTreeSet<Tag>) -> Option<Vec<Edge>> {
        let mut best: BTreeMap<Tag, (u32, Option<Edge>)> = BTreeMap::from([(start, (0, None))]);
        let mut open: BTreeSet<(u32, Tag)> = BTreeSet::from([(0, start)]);
        while let Some((cost, at)) = open.pop_first() {
            if at == target {
                break;
            }
            for edge in self.edges.iter().filter(|edge| edge.from == at) {
                // A node that would not be tagged has no place in a graph, except as what it is: unknown.
                if removed.contains(&edge.to) || edge.to == [0; 6] {
                    continue;
                }
                let through = cost.saturating_add(edge.cost);
                if best.get(&edge.to).is_none_or(|(known, _)| through < *known) {
                    best.insert(edge.to, (through, Some(*edge)));
                    open.insert((through, edge.to));
                }
            }
        }
        let mut edges = Vec::new();
        let mut at = target;
        while at != start {
            let edge = best.get(&at)?.1?;
            at = edge.from;
            edges.push(edge);
        }
        edges.reverse();
        (!edges.is_empty()).then_some(edges)
    }
}

#[cfg(test)]
#[path = "paths_tests.rs"]
mod tests;
