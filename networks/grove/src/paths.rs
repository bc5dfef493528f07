//! Ways that probes have shown, and which of them to use.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use byway_identity::Addr;
use byway_network::{Class, Constraint, Cost, Family, PathId};

use crate::names::tag;
use crate::packet::Noted;

/// Most links of one target's graph.
const EDGES_MAX: usize = 512;
/// A link is believed in for so many rounds after the last one that showed it.
const KEPT: u32 = 3;
/// Most answers of one round that are compared.
const TIMES_MAX: usize = 32;
/// How long another way has to be a fifth better before it is taken.
const PATIENCE: Duration = Duration::from_secs(30);
/// Rounds of which each may choose another way.
const LOOKS: u32 = 2;
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
    /// The last round that showed it.
    round: u32,
}

/// A way by labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) id: PathId,
    /// The label of each link at its near end; the first one is this node's own.
    pub(crate) labels: Vec<u16>,
    classes: Vec<Class>,
    costs: Vec<u32>,
    /// The nodes behind each link, by the salt; the last one is the target.
    tags: Vec<Tag>,
    salt: u64,
    /// What its nodes say that it costs.
    said: u32,
    /// Half of what a frame took there and back, if one has come back.
    measured: Option<u32>,
    /// Whether the last round has shown each of its links, or an echo has come back since. What earlier rounds have shown may
    /// be gone: it is worth an echo, and not a payload.
    pub(crate) sure: bool,
}

/// What is known of the ways to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Paths {
    /// What nodes are called here, so that the answers of several rounds make one graph.
    pub(crate) salt: u64,
    own: Tag,
    pub(crate) target: Tag,
    round: u32,
    edges: Vec<Edge>,
    /// Of this round, by the labels of the way: half of what a probe took there and back.
    times: Vec<(Vec<u16>, u32)>,
    /// The way in use when the round began.
    pinned: Vec<u16>,
    /// Since when another way has been better than that.
    better: Option<Instant>,
    /// Those in use, the best first.
    pub(crate) chosen: Vec<Path>,
    /// First links of the probes of this round, and whether something came back by each.
    pub(crate) starts: BTreeMap<u16, bool>,
    /// Rounds in a row that showed what was known, and those that showed nothing at all.
    pub(crate) steady: u32,
    pub(crate) barren: u32,
}

impl Path {
    /// What the way costs: what its nodes say, or what it has been measured to cost if that is more.
    pub(crate) fn cost(&self) -> u32 {
        self.measured.map_or(self.said, |measured| measured.max(self.said))
    }

    /// A frame took so long there and back. Whether that is news.
    pub(crate) fn measure(&mut self, took: Duration) -> bool {
        let (before, half) = ((self.cost(), self.sure), units(took / 2));
        self.sure = true;
        // As round trips are smoothed elsewhere: an eighth of the new one.
        self.measured = Some(self.measured.map_or(half, |old| old - old / 8 + half / 8));
        before != (self.cost(), self.sure)
    }

    /// How long to wait for an answer that comes along this way.
    pub(crate) fn patience(&self) -> Duration {
        let there = Duration::from_micros(100 * u64::from(self.cost().min(1_000_000)));
        Duration::from_millis(300).max(6 * there)
    }

    /// The links: where each leads to, by its tag, with its class and cost.
    pub(crate) fn links(&self) -> impl Iterator<Item = (Tag, Class, u32)> + '_ {
        self.tags.iter().zip(&self.classes).zip(&self.costs).map(|((tag, class), cost)| (*tag, *class, *cost))
    }

    pub(crate) fn salt(&self) -> u64 {
        self.salt
    }
}

fn units(time: Duration) -> u32 {
    (time.as_micros() / 100).min(u128::from(u32::MAX)) as u32
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

    /// Whether the ways share no node but their ends. Tags under two salts cannot be compared, so then they may.
    pub(crate) fn is_disjoint_from(&self, other: &Self) -> bool {
        let inner = |path: &Self| path.tags[..path.tags.len().saturating_sub(1)].to_vec();
        let (a, b) = (inner(self), inner(other));
        let silent = a.contains(&[0; 6]) || b.contains(&[0; 6]);
        self.salt == other.salt && !silent && a.iter().all(|tag| !b.contains(tag))
    }
}

impl Paths {
    /// Nothing yet, from `own` to `target`.
    pub(crate) fn new(salt: u64, own: &Addr, target: &Addr) -> Self {
        Self {
            salt,
            own: tag(salt, own),
            target: tag(salt, target),
            round: 0,
            edges: Vec::new(),
            times: Vec::new(),
            pinned: Vec::new(),
            better: None,
            chosen: Vec::new(),
            starts: BTreeMap::new(),
            steady: 0,
            barren: 0,
        }
    }

    /// Begins a new round; what was chosen stays until the rounds show better, or nothing.
    pub(crate) fn begin(&mut self) {
        self.pinned = self.chosen.first().map(|path| path.labels.clone()).unwrap_or_default();
        self.round += 1;
        let oldest = self.round.saturating_sub(KEPT);
        self.edges.retain(|edge| edge.round > oldest);
        self.times.clear();
        self.starts.clear();
    }

    /// The round is over: what the last ones have not shown is not used any more. Whether that changed anything.
    pub(crate) fn end(&mut self) -> bool {
        let before = self.chosen.len();
        let mut chosen = std::mem::take(&mut self.chosen);
        chosen.retain_mut(|path| {
            let edges = self.edges_of(&path.labels);
            path.sure = self.is_shown(&edges);
            !edges.is_empty()
        });
        self.chosen = chosen;
        let first = self.chosen.first().map(|path| &path.labels);
        self.steady = if first == Some(&self.pinned) && self.better.is_none() { self.steady + 1 } else { 0 };
        self.barren = if self.starts.values().any(|answered| *answered) { 0 } else { self.barren + 1 };
        before != self.chosen.len()
    }

    /// The way with this number does not answer any more.
    pub(crate) fn silent(&mut self, id: PathId) {
        if let Some(at) = self.chosen.iter().position(|path| path.id == id) {
            // It is not known where it ends, so none of its links is believed in.
            let silent = self.chosen.remove(at);
            let edges = self.edges_of(&silent.labels);
            self.edges.retain(|edge| !edges.contains(edge));
        }
        (self.better, self.steady) = (None, 0);
    }

    /// A probe came back with these links, after it took so long.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        hops: &[Noted],
        took: Duration,
        mut fresh: impl FnMut() -> PathId,
    ) {
        if let Some(answered) = hops.first().and_then(|hop| self.starts.get_mut(&hop.out)) {
            *answered = true;
        }
        if self.times.len() < TIMES_MAX {
            self.times.push((hops.iter().map(|hop| hop.out).collect(), units(took / 2)));
        }
        let mut from = self.own;
        for hop in hops {
            let (to, cost) = (hop.tag, Cost::decode(hop.cost).units().max(1));
            self.learn(Edge { from, to, label: hop.out, class: hop.class, cost, round: self.round });
            from = to;
        }
        self.choose(now, &mut fresh);
    }

    /// Whether the first rounds, which look around, are over.
    pub(crate) fn have_looked(&self) -> bool {
        self.round >= LOOKS
    }

    /// The probes of this round that wander, `most` of them or none. As long as rounds show something new, others wander in each.
    pub(crate) fn wanderers(&self, most: u8) -> std::ops::Range<u8> {
        let from = 1 + (self.round.saturating_sub(1) % 8) as u8 * most;
        if self.steady == 0 { from..from + most } else { from..from }
    }

    fn learn(&mut self, edge: Edge) {
        let same =
            |known: &&mut Edge| (known.from, known.to, known.label) == (edge.from, edge.to, edge.label);
        if let Some(known) = self.edges.iter_mut().find(same) {
            *known = edge;
        } else if self.edges.len() < EDGES_MAX {
            self.edges.push(edge);
        } else if let Some(old) = self.edges.iter_mut().find(|known| known.round < edge.round) {
            *old = edge;
        }
    }

    /// A way that begins with `labels` has ended there.
    pub(crate) fn broken(&mut self, labels: &[u16]) -> bool {
        let before = self.chosen.len();
        self.chosen.retain(|path| !path.labels.starts_with(labels));
        if let Some(last) = self.edges_of(labels).last().copied() {
            self.edges.retain(|edge| *edge != last);
        }
        before != self.chosen.len()
    }

    /// The best way that satisfies `by`, and is disjoint from each of `from`.
    pub(crate) fn best(&self, by: &Constraint, from: &[Path]) -> Option<&Path> {
        self.chosen.iter().find(|path| {
            path.sure && path.satisfies(by) && from.iter().all(|other| path.is_disjoint_from(other))
        })
    }

    fn choose(&mut self, now: Instant, fresh: &mut impl FnMut() -> PathId) {
        let mut removed = BTreeSet::new();
        let mut found = Vec::new();
        for _ in 0..PATHS_MAX {
            let Some(edges) = self.cheapest(&removed) else { break };
            let inner = &edges[..edges.len() - 1];
            removed.extend(inner.iter().map(|edge| edge.to));
            found.push(self.path(&edges, fresh));
            if inner.is_empty() {
                // The neighbour itself: any other way is disjoint from this one.
                break;
            }
        }
        found.sort_by_key(Path::cost);
        // The way in use stays, if the round has shown it too, until another has been a fifth better for a while; but the first
        // rounds are for looking around.
        let edges = self.edges_of(&self.pinned);
        if !edges.is_empty()
            && self.round > LOOKS
            && let Some(used) = self.chosen.iter().find(|path| path.labels == self.pinned).map(|path| path.id)
            && let Some(best) = found.first()
            && best.labels != self.pinned
        {
            let path = self.path(&edges, &mut || used);
            let better = u64::from(best.cost()) * 5 <= u64::from(path.cost()) * 4;
            self.better = better.then(|| self.better.unwrap_or(now));
            if self.better.is_none_or(|since| since + PATIENCE > now) {
                found.retain(|other| other.labels != path.labels);
                found.insert(0, path);
                found.truncate(PATHS_MAX);
            } else {
                (self.better, self.pinned) = (None, best.labels.clone());
            }
        } else if !edges.is_empty() {
            self.better = None;
        } else if let Some(used) = self.chosen.iter().find(|path| path.labels == self.pinned) {
            // The round may still show it.
            found.insert(0, used.clone());
            found.truncate(PATHS_MAX);
        }
        self.chosen = found;
    }

    fn path(&self, edges: &[Edge], fresh: &mut impl FnMut() -> PathId) -> Path {
        let labels: Vec<u16> = edges.iter().map(|edge| edge.label).collect();
        let known = self.chosen.iter().find(|path| path.labels == labels);
        let timed = self.times.iter().find(|(way, _)| *way == labels).map(|(_, half)| *half);
        Path {
            id: known.map_or_else(fresh, |path| path.id),
            labels,
            classes: edges.iter().map(|edge| edge.class).collect(),
            costs: edges.iter().map(|edge| edge.cost).collect(),
            tags: edges.iter().map(|edge| edge.to).collect(),
            salt: self.salt,
            said: edges.iter().fold(0, |sum: u32, edge| sum.saturating_add(edge.cost)),
            measured: known.and_then(|path| path.measured).or(timed),
            sure: known.is_some_and(|path| path.sure) || self.is_shown(edges),
        }
    }

    /// Whether the present round has shown all of these links.
    fn is_shown(&self, edges: &[Edge]) -> bool {
        edges.iter().all(|edge| edge.round == self.round)
    }

    /// The links of a way, if all of them are believed in.
    fn edges_of(&self, labels: &[u16]) -> Vec<Edge> {
        let mut at = self.own;
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

    /// The cheapest way through the graph that avoids `removed`; no node occurs twice on it.
    fn cheapest(&self, removed: &BTreeSet<Tag>) -> Option<Vec<Edge>> {
        let (start, target) = (self.own, self.target);
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
