//! Worlds in which some nodes misbehave, and what the others still get through.

#![expect(unreachable_pub, reason = "each test is a crate of its own, and shares this")]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use byway_grove::{Config, Grove, Registry};
use byway_identity::{Addr, labelled_hash};
use byway_network::{Network, NetworkId, Plane, Setup};
use byway_sim::{Dice, Kind, Terrain, World};
use byway_simlab::adversary::{Adversary, Mischief};

/// Trees of plane `any`.
pub const TREES: u8 = 4;
/// Delivery of honest pairs that have an honest path in two trees stays above this.
pub const BOUND: f64 = 0.95;
/// Until all trees stand.
const SETTLE: Duration = Duration::from_secs(30);
/// How many pairs talk, how many payloads each sends, and how often.
const PAIRS: usize = 150;
const PAYLOADS: usize = 40;
const PAUSE: Duration = Duration::from_millis(250);

/// Makes honest routers that check each signature once together.
pub fn honest() -> impl FnMut(Instant, Setup) -> Box<dyn Network> {
    let registry = Registry::new();
    move |now, setup| {
        let config = Config { registry: registry.clone(), ..Config::default() };
        Box::new(Grove::with_config(now, setup, config))
    }
}

/// A world with adversaries in it.
pub struct Field {
    pub world: World,
    pub bad: BTreeSet<usize>,
    pub kind: Kind,
    pub seed: u64,
}

/// What came of some pairs' payloads.
pub struct Talk {
    /// The share that arrived.
    pub share: f64,
    /// Pairs that lost a tenth of theirs or more.
    pub poor: Vec<(usize, usize)>,
}

impl Field {
    /// A network of `kind` in which each of `bad` does `mischief`, settled as far as it lets itself be settled.
    pub fn new<M: Mischief + 'static>(
        kind: Kind,
        nodes: usize,
        seed: u64,
        bad: BTreeSet<usize>,
        mut mischief: impl FnMut(Instant, usize) -> M + 'static,
    ) -> Self {
        let terrain = Terrain::new(kind, nodes, &mut Dice::new(seed));
        let (mut honest, mut next) = (honest(), 0..);
        let evil = bad.clone();
        let factory = move |now: Instant, setup: Setup| -> Box<dyn Network> {
            let number = next.next().unwrap_or(usize::MAX);
            let (key, network) = (setup.key.clone(), setup.network);
            let router = honest(now, setup);
            if evil.contains(&number) {
                Box::new(Adversary::around(router, key, network, mischief(now, number)))
            } else {
                router
            }
        };
        let mut world = World::on(seed, factory, &terrain);
        world.run_for(SETTLE);
        Self { world, bad, kind, seed }
    }

    /// Whom each node has as its parent in a tree, and who is its own.
    fn parents(&self, tree: u8) -> Vec<Option<usize>> {
        let parent = |node: usize| {
            let map = self.world.router(node).map(usize::MAX);
            let place = map.trees.iter().find(|it| (it.plane, it.index) == (Plane::Any, tree))?;
            place.parent.map_or(Some(node), |hop| self.world.number(&hop.peer))
        };
        (0..self.world.len()).map(parent).collect()
    }

    /// Pairs of honest nodes, with an honest path between them in at least two trees.
    pub fn fair_pairs(&mut self) -> Vec<(usize, usize)> {
        let trees: Vec<Vec<Option<usize>>> = (0..TREES).map(|tree| self.parents(tree)).collect();
        let count = self.world.len();
        let mut pairs = BTreeSet::new();
        for _ in 0..200 * PAIRS {
            let (a, b) = (self.world.dice().below(count), self.world.dice().below(count));
            let honest = |tree: &&Vec<Option<usize>>| {
                path(tree, a, b).is_some_and(|path| path.iter().all(|node| !self.bad.contains(node)))
            };
            if a != b && trees.iter().filter(honest).count() >= 2 {
                pairs.insert((a, b));
                if pairs.len() >= PAIRS {
                    break;
                }
            }
        }
        assert!(
            pairs.len() >= PAIRS / 2,
            "{} seed {}: {} fair pairs show little",
            self.kind.name(),
            self.seed,
            pairs.len()
        );
        pairs.into_iter().collect()
    }

    /// Lets pairs talk for a while.
    pub fn talk(&mut self, pairs: &[(usize, usize)]) -> Talk {
        let mut sent = Vec::new();
        for _ in 0..PAYLOADS {
            for (from, to) in pairs {
                sent.push(self.world.send(*from, *to, Plane::Any).ok());
            }
            self.world.run_for(PAUSE);
        }
        self.world.run_for(Duration::from_secs(11));
        let arrived = |number: &Option<u64>| number.is_some_and(|number| self.world.flight(number).arrived());
        let of = |pair: usize| sent.iter().skip(pair).step_by(pairs.len()).filter(|one| arrived(one)).count();
        let all = (0..pairs.len()).map(of).sum::<usize>();
        let poor = (0..pairs.len()).filter(|pair| of(*pair) * 10 <= PAYLOADS * 9).map(|pair| pairs[pair]);
        Talk { share: all as f64 / sent.len() as f64, poor: poor.collect() }
    }

    /// Lets fair pairs talk, and holds what arrived against the bound.
    pub fn hold(&mut self) {
        let pairs = self.fair_pairs();
        let Talk { share, poor } = self.talk(&pairs);
        println!("{} seed {}: {:.2} % arrived", self.kind.name(), self.seed, 100.0 * share);
        assert!(
            share > BOUND,
            "{} seed {}, {} of {} nodes misbehave: {:.1} % arrived; little between {poor:?}",
            self.kind.name(),
            self.seed,
            self.bad.len(),
            self.world.len(),
            100.0 * share
        );
    }
}

/// The nodes from `a` to `b` along a tree, if it joins them.
fn path(parents: &[Option<usize>], a: usize, b: usize) -> Option<Vec<usize>> {
    let up = |from: usize| -> Option<Vec<usize>> {
        let mut chain = vec![from];
        loop {
            let last = *chain.last()?;
            let parent = parents[last]?;
            if parent == last {
                return Some(chain);
            }
            if chain.contains(&parent) {
                return None;
            }
            chain.push(parent);
        }
    };
    let (mut a, mut b) = (up(a)?, up(b)?);
    let mut meeting = None;
    while a.last().is_some() && a.last() == b.last() {
        meeting = a.pop();
        b.pop();
    }
    a.push(meeting?);
    a.extend(b.into_iter().rev());
    Some(a)
}

/// A tenth of the nodes, at random.
pub fn tenth(nodes: usize, seed: u64) -> BTreeSet<usize> {
    Dice::new(seed ^ 0xbad).sample(nodes, nodes / 10).into_iter().collect()
}

/// The nodes that are best as roots of the trees, in their order.
pub fn roots(kind: Kind, nodes: usize, seed: u64) -> Vec<usize> {
    let terrain = Terrain::new(kind, nodes, &mut Dice::new(seed));
    // The addresses follow from the seed.
    let world = World::on(seed, honest(), &Terrain { wires: Vec::new(), ..terrain });
    let network = NetworkId::new("simulation", None);
    let rank =
        |tree: u8, addr: &Addr| labelled_hash("grove/rank", &[network.as_bytes(), &[tree], addr.as_bytes()]);
    (0..TREES)
        .filter_map(|tree| {
            let best = |node: &usize| rank(tree, &world.addr(*node)).first_chunk::<16>().copied();
            (0..world.len()).min_by_key(best)
        })
        .collect()
}
