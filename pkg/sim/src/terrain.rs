//! Where networks lie: topologies of thousands of nodes, each link with its latency.

use std::collections::HashSet;
use std::str::FromStr;
use std::time::Duration;

use byway_network::Class;

use crate::shortest::Graph;
use crate::{Dice, Topology, Wire, parts};

/// Who is linked with whom, and by what.
#[derive(Clone, Debug)]
pub struct Terrain {
    /// The nodes and their links.
    pub topology: Topology,
    /// What each link does, in the order of the topology's links.
    pub wires: Vec<Wire>,
}

/// The kinds of networks that routing is measured on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Five in a hundred nodes are public hubs, each linked with near and with far ones; the others hang on two or three
    /// of the hubs near them. Latency is distance in the plane.
    Overlay,
    /// Preferential attachment: each node links to two earlier ones, the more likely the more links these have. Log-normal latencies.
    Ba,
    /// A random recursive tree with a twentieth more links. Log-normal latencies.
    Tree,
    /// Nodes at random in the plane, each linked with those near it, eight on average. Latency is distance.
    Rgg,
    /// A square of which each node has a link to its four neighbours. 10 ms each.
    Grid,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Overlay, Self::Ba, Self::Tree, Self::Rgg, Self::Grid];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Ba => "ba",
            Self::Tree => "tree",
            Self::Rgg => "rgg",
            Self::Grid => "grid",
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| format!("no kind of network is called {name:?}"))
    }
}

/// Latency of the side of the square that an overlay lies in: across a continent.
const SQUARE: Duration = Duration::from_millis(100);
/// Latency that every link has, however short.
const NEAR: Duration = Duration::from_millis(1);
/// Latency of the longest link of a random geometric graph.
const RANGE: Duration = Duration::from_millis(20);
/// Median and spread of log-normal latencies.
const MEDIAN: Duration = Duration::from_millis(20);
const SPREAD: f64 = 0.6;

impl Terrain {
    /// `topology` with links that are all alike.
    pub fn even(topology: Topology, wire: Wire) -> Self {
        let wires = vec![wire; topology.links.len()];
        Self { topology, wires }
    }

    /// A network of `kind`, in one part. The grid has as many nodes as a square of at most `nodes`.
    pub fn new(kind: Kind, nodes: usize, dice: &mut Dice) -> Self {
        match kind {
            Kind::Overlay => Self::overlay(nodes, dice),
            Kind::Ba => Self::preferential(nodes, dice),
            Kind::Tree => {
                let topology = Topology::random(nodes, nodes / 20, dice);
                Self::with(topology, |_, _| dice.log_normal(MEDIAN, SPREAD))
            }
            Kind::Rgg => Self::geometric(nodes, dice),
            Kind::Grid => Self::grid(nodes),
        }
    }

    /// `topology` with UDP links of the latency that `latency` says.
    pub fn with(topology: Topology, mut latency: impl FnMut(usize, usize) -> Duration) -> Self {
        let wire = |(a, b): &(usize, usize)| Wire { latency: latency(*a, *b), ..Wire::clean(Class::UDP) };
        let wires = topology.links.iter().map(wire).collect();
        Self { topology, wires }
    }

    /// `topology` with log-normal latencies, for maps that name none.
    pub fn log_normal(topology: Topology, dice: &mut Dice) -> Self {
        Self::with(topology, |_, _| dice.log_normal(MEDIAN, SPREAD))
    }

    /// The links with what they do.
    pub fn links(&self) -> impl Iterator<Item = ((usize, usize), Wire)> {
        self.topology.links.iter().copied().zip(self.wires.iter().copied())
    }

    /// The links with their latencies, for finding shortest ways.
    pub fn graph(&self) -> Graph {
        Graph::new(self.topology.nodes, self.links().map(|((a, b), wire)| (a, b, wire.latency)))
    }

    fn overlay(nodes: usize, dice: &mut Dice) -> Self {
        let plane = Plane::scatter(nodes, dice);
        let hubs = (nodes / 20).clamp(1, nodes.max(1));
        let mut links = Links::default();
        for hub in 1..hubs {
            // Near ones among those that are there already, and one anywhere: so all are in one part.
            for near in plane.nearest(hub, 0..hub, 3) {
                links.add(hub, near);
            }
            links.add(hub, dice.below(hub));
        }
        for node in hubs..nodes {
            let near = plane.nearest(node, 0..hubs, 4);
            let count = 2 + dice.below(2);
            for at in dice.sample(near.len(), count) {
                links.add(node, near[at]);
            }
        }
        Self::with(links.topology(nodes), |a, b| NEAR + SQUARE.mul_f64(plane.distance(a, b)))
    }

    fn preferential(nodes: usize, dice: &mut Dice) -> Self {
        let mut links = Links::default();
        // Each end of each link once: a draw from here finds nodes by how many links they have.
        let mut ends = vec![0];
        for node in 1..nodes {
            let mut chosen = HashSet::new();
            while chosen.len() < node.min(2) {
                let other = ends[dice.below(ends.len())];
                if chosen.insert(other) {
                    links.add(node, other);
                    ends.push(other);
                }
            }
            ends.resize(ends.len() + chosen.len(), node);
        }
        Self::log_normal(links.topology(nodes), dice)
    }

    fn geometric(nodes: usize, dice: &mut Dice) -> Self {
        let plane = Plane::scatter(nodes, dice);
        let range = (8.0 / (std::f64::consts::PI * nodes.max(1) as f64)).sqrt();
        let mut links = Links::default();
        for (a, b) in plane.pairs_within(range) {
            links.add(a, b);
        }
        // Whoever is out of everyone's range gets a link to the nearest of the others.
        loop {
            let part = parts(nodes, links.list.iter().copied());
            let Some(lost) = (0..nodes).find(|node| part[*node] != part[0]) else { break };
            let inside = (0..nodes).filter(|node| part[*node] == part[lost]);
            let bridge = inside
                .filter_map(|node| {
                    Some((node, plane.nearest_where(node, |other| part[other] != part[lost])?))
                })
                .min_by(|(a, b), (c, d)| plane.distance(*a, *b).total_cmp(&plane.distance(*c, *d)));
            let Some((a, b)) = bridge else { break };
            links.add(a, b);
        }
        Self::with(links.topology(nodes), |a, b| NEAR + RANGE.mul_f64(plane.distance(a, b) / range))
    }

    fn grid(nodes: usize) -> Self {
        let side = nodes.isqrt();
        let mut links = Links::default();
        for node in 0..side * side {
            if node % side + 1 < side {
                links.add(node, node + 1);
            }
            if node + side < side * side {
                links.add(node, node + side);
            }
        }
        Self::with(links.topology(side * side), |_, _| Duration::from_millis(10))
    }
}

/// Links, each once.
#[derive(Default)]
struct Links {
    list: Vec<(usize, usize)>,
    seen: HashSet<(usize, usize)>,
}

impl Links {
    fn add(&mut self, a: usize, b: usize) {
        let link = (a.min(b), a.max(b));
        if a != b && self.seen.insert(link) {
            self.list.push(link);
        }
    }

    fn topology(self, nodes: usize) -> Topology {
        Topology { nodes, links: self.list }
    }
}

/// Points in a square whose side is 1.
struct Plane(Vec<(f64, f64)>);

impl Plane {
    fn scatter(nodes: usize, dice: &mut Dice) -> Self {
        Self((0..nodes).map(|_| (dice.share(), dice.share())).collect())
    }

    fn distance(&self, a: usize, b: usize) -> f64 {
        let ((ax, ay), (bx, by)) = (self.0[a], self.0[b]);
        (ax - bx).hypot(ay - by)
    }

    /// The `count` of `among` that are nearest to `node`, nearest first.
    fn nearest(&self, node: usize, among: std::ops::Range<usize>, count: usize) -> Vec<usize> {
        let mut all: Vec<(f64, usize)> = among.map(|other| (self.distance(node, other), other)).collect();
        let nearer = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0);
        if all.len() > count {
            all.select_nth_unstable_by(count, nearer);
            all.truncate(count);
        }
        all.sort_by(nearer);
        all.into_iter().map(|(_, other)| other).collect()
    }

    fn nearest_where(&self, node: usize, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let others = (0..self.0.len()).filter(|other| *other != node && fits(*other));
        others.min_by(|a, b| self.distance(node, *a).total_cmp(&self.distance(node, *b)))
    }

    /// All pairs at most `range` apart, found by a raster of squares of that size.
    fn pairs_within(&self, range: f64) -> Vec<(usize, usize)> {
        let side = ((1.0 / range) as usize).clamp(1, 4_096);
        let square = |share: f64| ((share * side as f64) as usize).min(side - 1);
        let mut squares = vec![Vec::new(); side * side];
        for (node, (x, y)) in self.0.iter().enumerate() {
            squares[square(*y) * side + square(*x)].push(node);
        }
        let mut pairs = Vec::new();
        for (node, (x, y)) in self.0.iter().enumerate() {
            let (column, row) = (square(*x), square(*y));
            for row in row.saturating_sub(1)..=(row + 1).min(side - 1) {
                for column in column.saturating_sub(1)..=(column + 1).min(side - 1) {
                    let others = squares[row * side + column].iter();
                    let near = others.filter(|other| **other > node && self.distance(node, **other) <= range);
                    pairs.extend(near.map(|other| (node, *other)));
                }
            }
        }
        pairs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_one_part_with_as_many_links_as_it_promises() {
        for (kind, nodes, degree) in [
            (Kind::Overlay, 1_000, 4.4..5.6),
            (Kind::Ba, 1_000, 3.9..4.0),
            (Kind::Tree, 1_000, 2.0..2.2),
            (Kind::Rgg, 1_000, 7.0..8.6),
            (Kind::Grid, 961, 3.8..4.0),
        ] {
            let terrain = Terrain::new(kind, 1_000, &mut Dice::new(3));
            let Topology { nodes: count, links } = &terrain.topology;
            assert_eq!((*count, terrain.wires.len()), (nodes, links.len()), "{kind:?}");
            let mean = 2.0 * links.len() as f64 / nodes as f64;
            assert!(degree.contains(&mean), "{kind:?}: {mean}");
            assert!(parts(nodes, links.iter().copied()).iter().all(|part| *part == 0), "{kind:?}");
            let unlike: HashSet<_> = links.iter().collect();
            assert_eq!(unlike.len(), links.len(), "{kind:?}");
            assert!(links.iter().all(|(a, b)| a < b && *b < nodes), "{kind:?}");
            assert!(terrain.wires.iter().all(|wire| wire.latency >= NEAR), "{kind:?}");
            assert_eq!(kind.name().parse(), Ok(kind));
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_network() {
        for kind in Kind::ALL {
            let make = |seed| Terrain::new(kind, 300, &mut Dice::new(seed)).topology;
            assert_eq!(make(8), make(8), "{kind:?}");
            assert!(kind == Kind::Grid || make(8) != make(9), "{kind:?}");
        }
    }

    #[test]
    fn networks_of_hardly_any_nodes_are_no_trouble() {
        for kind in Kind::ALL {
            for nodes in 1..12 {
                let terrain = Terrain::new(kind, nodes, &mut Dice::new(nodes as u64));
                assert!(terrain.topology.nodes <= nodes);
            }
        }
    }

    #[test]
    fn pairs_in_range_are_those_that_a_plain_search_finds() {
        let plane = Plane::scatter(300, &mut Dice::new(4));
        for range in [0.02, 0.1, 0.7, 2.0] {
            let mut found = plane.pairs_within(range);
            found.sort_unstable();
            let all = (0..300).flat_map(|a| (a + 1..300).map(move |b| (a, b)));
            let plain: Vec<_> = all.filter(|(a, b)| plane.distance(*a, *b) <= range).collect();
            assert_eq!(found, plain, "{range}");
        }
    }
}
