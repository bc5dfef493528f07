//! Who is linked with whom.

use crate::Dice;

/// Pairs of nodes with a link between them, each pair once and the lower number first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// How many nodes there are.
    pub nodes: usize,
    /// The links.
    pub links: Vec<(usize, usize)>,
}

impl Topology {
    /// 0 – 1 – 2 – … .
    pub fn chain(nodes: usize) -> Self {
        Self { nodes, links: (1..nodes).map(|node| (node - 1, node)).collect() }
    }

    /// A chain whose ends are linked.
    pub fn ring(nodes: usize) -> Self {
        let mut ring = Self::chain(nodes);
        if nodes > 2 {
            ring.links.push((0, nodes - 1));
        }
        ring
    }

    /// All around node 0.
    pub fn star(nodes: usize) -> Self {
        Self { nodes, links: (1..nodes).map(|node| (0, node)).collect() }
    }

    /// Everyone with everyone.
    pub fn mesh(nodes: usize) -> Self {
        Self { nodes, links: (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b))).collect() }
    }

    /// Each node hangs on a random earlier one.
    pub fn tree(nodes: usize, dice: &mut Dice) -> Self {
        Self { nodes, links: (1..nodes).map(|node| (dice.below(node), node)).collect() }
    }

    /// A random tree, and `extra` more links.
    pub fn random(nodes: usize, extra: usize, dice: &mut Dice) -> Self {
        let mut graph = Self::tree(nodes, dice);
        let most = nodes * nodes.saturating_sub(1) / 2;
        while graph.links.len() < (nodes.saturating_sub(1) + extra).min(most) {
            let (a, b) = (dice.below(nodes), dice.below(nodes));
            let link = (a.min(b), a.max(b));
            if a != b && !graph.links.contains(&link) {
                graph.links.push(link);
            }
        }
        graph
    }
}

/// Which nodes can reach which by `links`: for each node the lowest number in its part.
pub fn parts(nodes: usize, links: impl Iterator<Item = (usize, usize)>) -> Vec<usize> {
    let mut part: Vec<usize> = (0..nodes).collect();
    for (a, b) in links {
        let (a, b) = (top(&mut part, a), top(&mut part, b));
        part[a.max(b)] = a.min(b);
    }
    (0..nodes).map(|node| top(&mut part, node)).collect()
}

/// Follows the entries up from `node`, and makes the way shorter for the next one.
fn top(part: &mut [usize], mut node: usize) -> usize {
    while part[node] != node {
        part[node] = part[part[node]];
        node = part[node];
    }
    node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topology_is_one_part_and_names_each_link_once() {
        let mut dice = Dice::new(1);
        let all = [
            Topology::chain(5),
            Topology::ring(10),
            Topology::star(7),
            Topology::mesh(6),
            Topology::tree(30, &mut dice),
            Topology::random(30, 15, &mut dice),
        ];
        for topology in all {
            let parts = parts(topology.nodes, topology.links.iter().copied());
            assert!(parts.iter().all(|part| *part == 0), "{topology:?}");
            let mut links = topology.links.clone();
            links.sort_unstable();
            links.dedup();
            assert_eq!(links.len(), topology.links.len(), "{topology:?}");
            assert!(links.iter().all(|(a, b)| a < b && *b < topology.nodes), "{topology:?}");
        }
        assert_eq!(parts(4, [(0, 1), (2, 3)].into_iter()), [0, 0, 2, 2]);
    }
}
