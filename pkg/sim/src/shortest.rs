//! The shortest ways that there are, for comparison with those that routers find.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// The shortest latency from one node to each other one.
#[derive(Clone, Debug)]
pub struct Shortest {
    nanos: Vec<u64>,
}

/// Links with a latency, by the nodes that they lead from.
#[derive(Clone, Debug)]
pub struct Graph {
    links: Vec<Vec<(u32, u64)>>,
}

impl Graph {
    /// A graph of `nodes` nodes, with links that are the same in both directions.
    pub fn new(nodes: usize, links: impl Iterator<Item = (usize, usize, Duration)>) -> Self {
        let mut all = vec![Vec::new(); nodes];
        for (a, b, latency) in links {
            let nanos = latency.as_nanos() as u64;
            all[a].push((b as u32, nanos));
            all[b].push((a as u32, nanos));
        }
        Self { links: all }
    }

    /// The shortest ways from `from`, by Dijkstra's algorithm.
    pub fn from(&self, from: usize) -> Shortest {
        let mut nanos = vec![u64::MAX; self.links.len()];
        let mut heap = BinaryHeap::from([Reverse((0, from as u32))]);
        nanos[from] = 0;
        while let Some(Reverse((far, node))) = heap.pop() {
            if far > nanos[node as usize] {
                continue;
            }
            for (next, latency) in &self.links[node as usize] {
                let far = far + latency;
                let best = &mut nanos[*next as usize];
                if far < *best {
                    *best = far;
                    heap.push(Reverse((far, *next)));
                }
            }
        }
        Shortest { nanos }
    }
}

impl Shortest {
    /// The latency of the shortest way to `to`, if there is a way.
    pub fn to(&self, to: usize) -> Option<Duration> {
        self.nanos.get(to).filter(|nanos| **nanos != u64::MAX).map(|nanos| Duration::from_nanos(*nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detour_that_is_shorter_is_taken() {
        let millis = Duration::from_millis;
        let links =
            [(0, 1, millis(10)), (1, 2, millis(10)), (0, 3, millis(1)), (3, 1, millis(2)), (4, 5, millis(1))];
        let graph = Graph::new(6, links.into_iter());
        let shortest = graph.from(0);
        let far: Vec<_> = (0..6).map(|node| shortest.to(node).map(|far| far.as_millis())).collect();
        assert_eq!(far, [Some(0), Some(3), Some(13), Some(1), None, None]);
    }
}
