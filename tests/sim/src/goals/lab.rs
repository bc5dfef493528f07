//! One world under measurement, from its cold start to life with churn.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use byway_grove::{Config, Grove, Registry};
use byway_identity::Addr;
use byway_network::Plane;
use byway_sim::{Churn, Graph, Kind, Terrain, World};

use crate::goals::bounds::PEERS;
use crate::goals::standing::{Standing, places};
use crate::goals::{Bound, Figure, Goal};
use crate::memory;

/// A world to measure.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What it is called.
    pub name: String,
    /// The network.
    pub terrain: Terrain,
    /// Which of the known ones it is; on others nothing is held against a bound.
    pub kind: Option<Kind>,
    /// The seed of all chance.
    pub seed: u64,
    /// Trees of plane `any`.
    pub trees: u8,
    /// Whether to keep still about progress.
    pub quiet: bool,
}

/// Pairs of strangers that payloads are sent between.
const PAIRS: usize = 1_000;
/// Pause between two of them: the lookups and probes of all meet near the roots, where each node answers so many per second.
const PAUSE: Duration = Duration::from_millis(25);
/// Longest wait for anything to become whole.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a start or a repair, until parents have been changed for cost (30 s after one another) and all is calm.
const SETTLE: Duration = Duration::from_secs(70);
/// Over so long bytes are counted.
const COUNTED: Duration = Duration::from_secs(60);
/// The same while nodes come and go: some minutes see no root among them, and some see two.
const CHURNED: Duration = Duration::from_secs(90);
/// How many nodes have signatures and certificates of their own, so that their memory can be told.
const LOOKED_AT: usize = 24;
/// Kinds of frames, by their first byte.
const LOOKUP: u8 = 0x06;
const FOUND: u8 = 0x07;

/// Measures one world.
pub fn measure(plan: &Plan) -> Vec<Figure> {
    let mut lab = Lab::new(plan);
    lab.cold_start();
    lab.world.run_for(SETTLE);
    lab.told("settled");
    let whole = plan.trees == Config::default().trees;
    if whole {
        lab.at_rest();
    }
    let pairs = lab.pairs();
    lab.first_frames(&pairs);
    if whole {
        lab.probed(&pairs);
        lab.deaths_unnoticed();
        lab.single_deaths();
        lab.many_deaths();
        lab.root_deaths();
        lab.churn();
        lab.memory();
    }
    lab.figures
}

struct Lab<'a> {
    plan: &'a Plan,
    world: World<Grove>,
    graph: Graph,
    /// Nodes whose routers share nothing with others.
    alone: Vec<usize>,
    /// The node with the most links.
    busiest: usize,
    figures: Vec<Figure>,
    begun: Instant,
}

impl<'a> Lab<'a> {
    fn new(plan: &'a Plan) -> Self {
        let nodes = plan.terrain.topology.nodes;
        let mut degree = vec![0_usize; nodes];
        for (a, b) in &plan.terrain.topology.links {
            degree[*a] += 1;
            degree[*b] += 1;
        }
        let busiest = (0..nodes).max_by_key(|node| degree[*node]).unwrap_or(0);
        let mut dice = byway_sim::Dice::new(plan.seed);
        let mut alone = dice.sample(nodes, LOOKED_AT);
        if !alone.contains(&busiest) {
            alone.push(busiest);
        }
        let (first, shared) = (HashSet::<usize>::from_iter(alone.iter().copied()), Registry::new());
        let mut made = 0;
        let trees = plan.trees;
        let factory = move |now, setup| {
            // Routers are made in the order of their numbers, and later ones are those of nodes that start again.
            let registry = if first.contains(&made) { Registry::new() } else { shared.clone() };
            made += 1;
            Box::new(Grove::with_config(now, setup, Config { trees, registry, ..Config::default() }))
        };
        let begun = Instant::now();
        let world = World::on(plan.seed, factory, &plan.terrain);
        Self { plan, world, graph: plan.terrain.graph(), alone, busiest, figures: Vec::new(), begun }
    }

    /// Tells how far it is.
    fn told(&self, what: &str) {
        if !self.plan.quiet {
            let (wall, world) = (self.begun.elapsed().as_secs_f64(), self.world.elapsed().as_secs_f64());
            let memory = memory::in_use() / self.world.len().max(1) as i64 / 1_024;
            eprintln!(
                "{:>8} {:>5} seed {}: {what} ({wall:.1} s; in the world {world:.1} s, {} events, {memory} KiB per node)",
                self.plan.name,
                self.world.len(),
                self.plan.seed,
                self.world.happened(),
            );
        }
    }

    fn figure(&mut self, goal: Goal, value: f64) {
        let Plan { name, kind, seed, trees, .. } = self.plan;
        let nodes = self.world.len();
        let bound = kind.and_then(|kind| goal.bound(kind, nodes, *trees));
        let ok = bound.is_none_or(|bound| bound.holds(value));
        let topology =
            if *trees == Config::default().trees { name.clone() } else { format!("{name}, {trees} trees") };
        let unit = goal.unit();
        let figure =
            Figure { goal, topology, nodes, seed: *seed, value, bound: bound.map(Bound::value), ok, unit };
        self.told(&format!("{} {value:.4} {unit}{}", goal.words(), if ok { "" } else { "   MISSED" }));
        self.figures.push(figure);
    }

    /// Until the trees are whole; the most that is waited for, if they are not.
    fn until_whole(&mut self, trees: impl IntoIterator<Item = u8>) -> f64 {
        let mut standing = Standing::new(&self.world, trees);
        let took = self.world.run_until(PATIENCE, |world| standing.is_whole(world));
        took.unwrap_or(PATIENCE).as_secs_f64()
    }

    fn cold_start(&mut self) {
        let took = self.until_whole(0..self.plan.trees);
        self.figure(Goal::ColdStart, took);
    }

    fn at_rest(&mut self) {
        let bytes = self.bytes_per_second(|world| world.run_for(COUNTED));
        self.figure(Goal::IdleBytes, bytes);
        let nodes = self.world.len();
        let certs: usize = (0..nodes).map(|node| self.world.router(node).stats().certs).sum();
        self.figure(Goal::Certificates, certs as f64 / nodes as f64);
    }

    /// Bytes that a living node sends per second, on average over the time that `live` lets pass.
    fn bytes_per_second(&mut self, live: impl FnOnce(&mut World<Grove>)) -> f64 {
        let sent = |world: &World<Grove>| {
            std::array::from_fn::<u64, 16, _>(|kind| world.sent_by_all(kind as u8).bytes)
        };
        let (before, began) = (sent(&self.world), self.world.elapsed());
        live(&mut self.world);
        let living = (0..self.world.len()).filter(|node| self.world.is_alive(*node)).count();
        let share = 1.0 / (self.world.elapsed() - began).as_secs_f64() / living as f64;
        let after = sent(&self.world);
        let each = after.iter().zip(&before).map(|(after, before)| (after - before) as f64 * share);
        let kinds: Vec<f64> = each.collect();
        let told = kinds.iter().enumerate().filter(|(_, bytes)| **bytes >= 0.5);
        let told: Vec<String> = told.map(|(kind, bytes)| format!("{kind:02x} {bytes:.0}")).collect();
        self.told(&format!("B/s by kind of frame: {}", told.join(", ")));
        kinds.iter().sum()
    }

    /// Strangers in the largest part of the network.
    fn pairs(&mut self) -> Vec<(usize, usize)> {
        let inside = Standing::new(&self.world, []).inside().to_vec();
        let dice = self.world.dice();
        let pair = || {
            let (from, to) = (inside[dice.below(inside.len())], inside[dice.below(inside.len())]);
            (from, to)
        };
        std::iter::repeat_with(pair).filter(|(from, to)| from != to).take(PAIRS).collect()
    }

    /// One payload for each pair, one after the other; the numbers of those that were taken.
    fn send(&mut self, pairs: &[(usize, usize)]) -> Vec<Option<u64>> {
        let mut sent = Vec::new();
        for (from, to) in pairs {
            sent.push(self.world.send(*from, *to, Plane::Any).ok());
            self.world.run_for(PAUSE);
        }
        self.world.run_for(Duration::from_secs(10));
        sent
    }

    /// The stretch of each payload that arrived, in order, and the share that did.
    fn stretch(&self, sent: &[Option<u64>]) -> (Vec<f64>, f64) {
        let mut stretch = Vec::new();
        for flight in sent.iter().flatten().map(|number| self.world.flight(*number)) {
            let Some(to) = flight.to().filter(|_| flight.arrived()) else { continue };
            let Some(least) = self.graph.from(flight.from()).to(to) else { continue };
            stretch.push(flight.travelled().as_secs_f64() / least.as_secs_f64());
        }
        stretch.sort_by(f64::total_cmp);
        let share = stretch.len() as f64 / sent.len() as f64;
        (stretch, share)
    }

    fn first_frames(&mut self, pairs: &[(usize, usize)]) {
        let frames = |world: &World<Grove>| [LOOKUP, FOUND].map(|kind| world.sent_by_all(kind).frames);
        let before = frames(&self.world);
        let sent = self.send(pairs);
        let after = frames(&self.world);
        let (stretch, share) = self.stretch(&sent);
        self.figure(Goal::FirstFrameMean, mean(&stretch));
        self.figure(Goal::FirstFrameP99, p99(&stretch));
        self.figure(Goal::FirstFrameDelivered, share);
        if self.plan.trees == Config::default().trees {
            for (at, goal) in [Goal::LookupFrames, Goal::AnswerFrames].into_iter().enumerate() {
                self.figure(goal, (after[at] - before[at]) as f64 / pairs.len() as f64);
            }
        }
    }

    /// Two payloads more, and probes are sent; the next one goes by what they have shown.
    fn probed(&mut self, pairs: &[(usize, usize)]) {
        for _ in 0..2 {
            self.send(pairs);
        }
        let sent = self.send(pairs);
        let (stretch, share) = self.stretch(&sent);
        self.figure(Goal::ProbedMean, mean(&stretch));
        self.figure(Goal::ProbedP99, p99(&stretch));
        self.figure(Goal::ProbedDelivered, share);
    }

    /// Nodes of the largest part that are no root, for `count` deaths.
    fn victims(&mut self, count: usize) -> Vec<usize> {
        let roots: HashSet<Addr> = self.roots().into_iter().collect();
        let inside = Standing::new(&self.world, []).inside().to_vec();
        let order = self.world.dice().sample(inside.len(), inside.len());
        let fits = |node: &usize| !roots.contains(&self.world.addr(*node)) && !self.alone.contains(node);
        order.into_iter().map(|at| inside[at]).filter(fits).take(count).collect()
    }

    /// The roots of all trees, in order.
    fn roots(&self) -> Vec<Addr> {
        let one = Standing::new(&self.world, []).inside().first().copied();
        one.map(|node| places(&self.world, node).iter().map(|tree| tree.root).collect()).unwrap_or_default()
    }

    /// Ends nodes at once, and lets the time pass until their neighbours have noticed.
    fn kill(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.world.kill(*node);
        }
        self.world.run_for(self.world.detection);
    }

    fn restart(&mut self, nodes: &[usize]) {
        for node in nodes {
            self.world.restart(*node);
        }
    }

    /// Payloads between nodes that know each other's place, sent when neighbours have noticed the deaths and nothing else has
    /// happened. Each is sent once: what is lost stays lost.
    fn deaths_unnoticed(&mut self) {
        let victims = self.victims(self.world.len() / 50);
        let mut pairs = self.pairs();
        pairs.retain(|(from, to)| !victims.contains(from) && !victims.contains(to));
        self.send(&pairs);
        self.kill(&victims);
        let part = Standing::new(&self.world, []).inside().iter().copied().collect::<HashSet<_>>();
        pairs.retain(|(from, to)| part.contains(from) && part.contains(to));
        let sent: Vec<_> =
            pairs.iter().map(|(from, to)| self.world.send(*from, *to, Plane::Any).ok()).collect();
        self.world.run_for(Duration::from_secs(10));
        let arrived = sent.iter().flatten().filter(|number| self.world.flight(**number).arrived()).count();
        self.figure(Goal::DeathsDelivered, arrived as f64 / pairs.len().max(1) as f64);
        self.restart(&victims);
        self.world.run_for(SETTLE / 2);
    }

    /// Nodes that are somebody's parent: the death of any other is none to a tree.
    fn single_deaths(&mut self) {
        let mut parents = HashSet::new();
        for node in 0..self.world.len() {
            let above = places(&self.world, node).into_iter().filter_map(|tree| tree.parent);
            parents.extend(above.filter_map(|hop| self.world.number(&hop.peer)));
        }
        let mut victims = self.victims(self.world.len());
        victims.retain(|node| parents.contains(node));
        victims.truncate(16);
        let mut worst: f64 = 0.0;
        for victim in &victims {
            self.kill(&[*victim]);
            worst = worst.max(self.until_whole(0..self.plan.trees));
            self.world.run_for(Duration::from_secs(1));
        }
        self.figure(Goal::OneDeath, worst);
        self.restart(&victims);
        self.world.run_for(SETTLE / 2);
    }

    /// The roots die one after the other, and stay dead until all have been measured.
    fn root_deaths(&mut self) {
        let mut worst: f64 = 0.0;
        let mut dead = Vec::new();
        for (tree, root) in (0..self.plan.trees).zip(self.roots()) {
            let Some(root) = self.world.number(&root).filter(|root| self.world.is_alive(*root)) else {
                continue;
            };
            self.kill(&[root]);
            worst = worst.max(self.until_whole([tree]));
            self.world.run_for(Duration::from_secs(15));
            dead.push(root);
        }
        self.figure(Goal::RootDeath, worst);
        // Those who would be roots again are no more likely to come back during what follows than anybody else.
        self.restart(&dead);
        self.world.run_for(SETTLE / 2);
    }

    /// One in twenty, before any root is lost: where the largest part that remains has lost one by it, a loss is no habit yet.
    fn many_deaths(&mut self) {
        let victims = self.victims(self.world.len() / 20);
        self.kill(&victims);
        let took = self.until_whole(0..self.plan.trees);
        self.figure(Goal::ManyDeaths, took);
        self.restart(&victims);
        self.world.run_for(SETTLE / 2);
    }

    fn churn(&mut self) {
        let (session, pause) = (Duration::from_secs(3_600), Duration::from_secs(3_600 / 19));
        // As many are away now as at any other time.
        let away = self.victims(self.world.len() / 20);
        self.kill(&away);
        let mut churn = Churn::new(&mut self.world, session, pause);
        // Until what so many deaths at once have left is over.
        churn.run_for(&mut self.world, SETTLE);
        let bytes = self.bytes_per_second(|world| {
            churn.run_for(world, CHURNED);
        });
        self.figure(Goal::ChurnBytes, bytes);
    }

    /// What comes free when routers end that share nothing with others.
    fn memory(&mut self) {
        let mut largest = 0;
        for node in std::mem::take(&mut self.alone) {
            // One that has started again shares signatures with others.
            if self.world.starts(node) > 1 || !self.world.is_alive(node) {
                continue;
            }
            let hops = self.world.router(node).stats().hops;
            let freed = self.world.take(node).map_or(0, memory::freed_by);
            // Nobody counts: there is nothing to tell.
            if node == self.busiest && freed > 0 {
                self.figure(Goal::MemoryBusiest, freed as f64);
            }
            if hops <= PEERS {
                largest = largest.max(freed);
            }
        }
        if largest > 0 {
            self.figure(Goal::Memory, largest as f64);
        }
    }
}

fn mean(sorted: &[f64]) -> f64 {
    sorted.iter().sum::<f64>() / sorted.len() as f64
}

/// What 99 of 100 stay below; not a number, if there is none.
fn p99(sorted: &[f64]) -> f64 {
    let at = (sorted.len() * 99).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
