//! Who is joined to whom, and how far apart they are.

use std::collections::BTreeMap;

use crate::random::Random;

/// A connected graph of nodes in a square, where near ones are joined and a link is as slow as it is long.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// Nodes are `0..nodes`.
    pub nodes: usize,
    /// One-way delay of each link, in milliseconds; the smaller node is first.
    pub links: BTreeMap<(usize, usize), f64>,
}

impl Graph {
    /// Delay over the side of the square, in milliseconds: so long that what programs add on the way is little beside it.
    const SIDE: f64 = 60.0;
    /// No link is shorter, in milliseconds.
    const LEAST: f64 = 1.0;

    /// A random geometric graph: `nodes` anywhere, and as many links as make `degree` on average, the shortest that there are.
    ///
    /// Places are drawn until all hang together, so the same seed gives the same graph.
    pub fn geometric(nodes: usize, degree: f64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        loop {
            let places: Vec<_> = (0..nodes).map(|_| (random.unit(), random.unit())).collect();
            let mut pairs: Vec<_> = pairs(nodes)
                .map(|(a, b)| ((places[a].0 - places[b].0).hypot(places[a].1 - places[b].1), (a, b)))
                .collect();
            pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
            pairs.truncate((nodes as f64 * degree / 2.0).round().max(nodes as f64 - 1.0) as usize);
            let delay = |distance: f64| ((distance * Self::SIDE).max(Self::LEAST) * 1000.0).round() / 1000.0;
            let links = pairs.into_iter().map(|(distance, link)| (link, delay(distance))).collect();
            let graph = Self { nodes, links };
            if nodes < 2 || graph.distances(0, |_| true).iter().all(Option::is_some) {
                return graph;
            }
        }
    }

    /// The nodes that a node is joined to.
    pub fn neighbours(&self, node: usize) -> Vec<usize> {
        self.around(node).map(|(neighbour, _)| neighbour).collect()
    }

    /// The least delay from a node to every other one over nodes that `count`, in milliseconds; none: there is no way.
    pub fn distances(&self, from: usize, count: impl Fn(usize) -> bool) -> Vec<Option<f64>> {
        let mut known = vec![None; self.nodes];
        let mut open: BTreeMap<usize, f64> = BTreeMap::from([(from, 0.0)]);
        while let Some((node, delay)) = open.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(n, d)| (*n, *d)) {
            open.remove(&node);
            if !count(node) {
                continue;
            }
            known[node] = Some(delay);
            for (neighbour, more) in self.around(node).filter(|(neighbour, _)| known[*neighbour].is_none()) {
                let best = open.entry(neighbour).or_insert(f64::INFINITY);
                *best = best.min(delay + more);
            }
        }
        known
    }

    /// Every ordered pair of different nodes with a way over nodes that `count`, and the delay of the shortest.
    pub fn joined(&self, count: impl Fn(usize) -> bool + Copy) -> BTreeMap<(usize, usize), f64> {
        let from = |from| {
            let distances = self.distances(from, count).into_iter().enumerate();
            distances
                .filter_map(move |(to, delay)| Some(((from, to), delay?)))
                .filter(move |((_, to), _)| *to != from)
        };
        (0..self.nodes).flat_map(from).collect()
    }

    fn around(&self, node: usize) -> impl Iterator<Item = (usize, f64)> {
        self.links.iter().filter_map(move |(&(a, b), delay)| match node {
            _ if node == a => Some((b, *delay)),
            _ if node == b => Some((a, *delay)),
            _ => None,
        })
    }
}

/// Every pair of different nodes once.
fn pairs(nodes: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..nodes).flat_map(move |a| (a + 1..nodes).map(move |b| (a, b)))
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_seed_gives_one_connected_graph_of_the_wanted_degree() {
        for seed in 0..20 {
            let graph = Graph::geometric(30, 5.0, seed);
            assert_eq!(graph, Graph::geometric(30, 5.0, seed));
            assert_eq!(graph.links.len(), 75);
            assert_eq!(graph.joined(|_| true).len(), 870, "seed {seed}");
            assert!(graph.links.iter().all(|((a, b), delay)| a < b && (1.0..60.0).contains(delay)));
        }
        assert_ne!(Graph::geometric(30, 5.0, 1), Graph::geometric(30, 5.0, 2));
    }

    #[test]
    fn distances_are_those_of_the_shortest_way_over_nodes_that_count() {
        let links = BTreeMap::from([((0, 1), 1.0), ((1, 2), 1.0), ((0, 2), 5.0), ((2, 3), 1.0)]);
        let graph = Graph { nodes: 5, links };
        assert_eq!(graph.distances(0, |_| true), [Some(0.0), Some(1.0), Some(2.0), Some(3.0), None]);
        assert_eq!(graph.distances(0, |node| node != 1), [Some(0.0), None, Some(5.0), Some(6.0), None]);
        assert_eq!(graph.distances(0, |node| node != 0), [None; 5]);
        assert_eq!(graph.joined(|node| node != 2).into_keys().collect::<Vec<_>>(), [(0, 1), (1, 0)]);
        assert_eq!(graph.neighbours(2), [0, 1, 3]);
    }
}
