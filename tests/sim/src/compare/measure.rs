//! One protocol in one world.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use byway_beacon::Beacon;
use byway_grove::{Config, Grove, Registry};
use byway_network::{Network, Plane, Setup};
use byway_sim::models::SingleTree;
use byway_sim::{Dice, Graph, Kind, Terrain, World, parts};

use crate::frames::kind;

/// A routing protocol that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// Several trees, probes, pinned paths.
    Grove,
    /// One tree and Bloom filters, as Yggdrasil 0.5 is described.
    SingleTree,
    /// Everyone floods everyone.
    Beacon,
}

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Mean stretch of the first payload between two nodes.
    First,
    /// 99th percentile of the same.
    FirstWorst,
    /// Mean stretch of the payloads of a conversation of some seconds.
    Settled,
    /// 99th percentile of the same.
    SettledWorst,
    /// Seconds from the moment at which neighbours notice that 5 % have died, until all conversations go on.
    Repair,
    /// Share of the payloads of these conversations that arrived in the 10 s from the deaths on.
    Kept,
    /// Bytes that a node sends per second when nothing happens.
    Quiet,
    /// The same during the 30 s from the deaths on, payloads left out.
    Busy,
    /// Frames for each search for a node.
    Lookup,
}

impl Measure {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::First,
        Self::FirstWorst,
        Self::Settled,
        Self::SettledWorst,
        Self::Repair,
        Self::Kept,
        Self::Quiet,
        Self::Busy,
        Self::Lookup,
    ];

    /// How people call it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::First => "first frame, stretch",
            Self::FirstWorst => "p99",
            Self::Settled => "settled, stretch",
            Self::SettledWorst => "p99",
            Self::Repair => "repair, s",
            Self::Kept => "kept, %",
            Self::Quiet => "idle, B/s",
            Self::Busy => "repairing, B/s",
            Self::Lookup => "lookup, frames",
        }
    }

    /// Digits after the point.
    pub const fn digits(self) -> usize {
        match self {
            Self::First | Self::FirstWorst | Self::Settled | Self::SettledWorst => 2,
            Self::Repair | Self::Kept | Self::Lookup => 1,
            Self::Quiet | Self::Busy => 0,
        }
    }
}

/// What was measured.
pub type Values = BTreeMap<Measure, f64>;

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Grove, Self::SingleTree, Self::Beacon];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Grove => "grove",
            Self::SingleTree => "single tree",
            Self::Beacon => "beacon",
        }
    }

    /// Most nodes that it is made for.
    pub const fn most(self) -> usize {
        match self {
            Self::Grove | Self::SingleTree => usize::MAX,
            Self::Beacon => 200,
        }
    }

    /// What makes routers that share what one process may share.
    pub fn factory(self) -> impl FnMut(Instant, Setup) -> Box<dyn Network> + 'static {
        let registry = Registry::new();
        move |now, setup| match self {
            Self::Grove => Box::new(Grove::with_config(
                now,
                setup,
                Config { registry: registry.clone(), ..Config::default() },
            )),
            Self::SingleTree => Box::new(SingleTree::new(now, setup)),
            Self::Beacon => Box::new(Beacon::new(now, setup)),
        }
    }

    /// The kinds of frames that look for a node and tell where it is.
    pub(crate) const fn lookups(self) -> &'static [u8] {
        match self {
            Self::Grove => &[kind::LOOKUP, kind::FOUND],
            Self::SingleTree => &[5, 6],
            Self::Beacon => &[],
        }
    }

    /// What a kind of frame is called.
    pub(crate) fn frame_name(self, kind: u8) -> &'static str {
        match (self, kind) {
            (Self::Grove, kind) => crate::frames::name(kind),
            (Self::SingleTree, 8) => "TRAFFIC",
            (Self::Beacon, 2) => "DATA",
            _ => "?",
        }
    }

    /// The kinds of frames that carry payloads.
    const fn carriers(self) -> &'static [u8] {
        match self {
            Self::Grove => &[kind::DATA, kind::ROUTED],
            Self::SingleTree => &[8],
            Self::Beacon => &[2],
        }
    }
}

/// Until all trees stand and all filters are told; the single tree is the slowest.
const SETTLE: Duration = Duration::from_secs(120);
/// For how long nothing happens while that is measured: longer than the single tree's four minutes between renewals.
const IDLE: Duration = Duration::from_secs(250);
/// How many conversations there are, each in both directions.
const CONVERSATIONS: usize = 100;
/// Payloads of a conversation before it counts as settled, and the pause between them.
const WARM: usize = 8;
const PAUSE: Duration = Duration::from_secs(1);
/// After the deaths: between two payloads, and for how long at most.
const STEP: Duration = Duration::from_millis(200);
const WATCH: Duration = Duration::from_secs(45);
/// A conversation goes on when so many payloads in a row have arrived.
const STEADY: usize = 25;

/// Measures a protocol in the world of a kind, a size and a seed.
pub fn measure(protocol: Protocol, kind: Kind, nodes: usize, seed: u64) -> Values {
    let mut dice = Dice::new(seed);
    let terrain = Terrain::new(kind, nodes, &mut dice);
    let nodes = terrain.topology.nodes;
    let graph = terrain.graph();
    // The same for all protocols, whatever dice these roll.
    let pairs = pairs(nodes, &mut dice);
    let doomed = dice.sample(nodes, nodes / 20);
    let mut world = World::on(seed, protocol.factory(), &terrain);
    let mut values = Values::new();

    world.run_for(SETTLE);
    let before = sent(&world);
    world.run_for(IDLE);
    values.insert(Measure::Quiet, per_second(sent(&world) - before, nodes, IDLE));

    let before = frames(&world, protocol.lookups());
    let first = send(&mut world, &pairs, Duration::from_millis(20));
    world.run_for(Duration::from_secs(10));
    let looked = frames(&world, protocol.lookups()) - before;
    values.insert(Measure::Lookup, looked as f64 / pairs.len() as f64);
    stretch(&world, &graph, &first, [Measure::First, Measure::FirstWorst], &mut values);

    for _ in 0..WARM {
        send(&mut world, &pairs, Duration::ZERO);
        world.run_for(PAUSE);
    }
    let settled = send(&mut world, &pairs, Duration::ZERO);
    world.run_for(PAUSE * 3);
    stretch(&world, &graph, &settled, [Measure::Settled, Measure::SettledWorst], &mut values);

    repair(&mut world, protocol, &pairs, &doomed, &mut values);
    values
}

/// Pairs of different nodes, each in both orders.
fn pairs(nodes: usize, dice: &mut Dice) -> Vec<(usize, usize)> {
    let mut pairs = Vec::new();
    while pairs.len() < (2 * CONVERSATIONS).min(nodes * nodes.saturating_sub(1)) {
        let (a, b) = (dice.below(nodes), dice.below(nodes));
        if a != b && !pairs.contains(&(a, b)) {
            pairs.extend([(a, b), (b, a)]);
        }
    }
    pairs
}

fn send(world: &mut World, pairs: &[(usize, usize)], pause: Duration) -> Vec<Option<u64>> {
    let mut sent = Vec::with_capacity(pairs.len());
    for (from, to) in pairs {
        sent.push(world.send(*from, *to, Plane::Any).ok());
        world.run_for(pause);
    }
    sent
}

/// Mean and 99th percentile of the stretch of what arrived.
fn stretch(
    world: &World,
    graph: &Graph,
    sent: &[Option<u64>],
    [mean, worst]: [Measure; 2],
    values: &mut Values,
) {
    let flights = sent.iter().flatten().map(|number| world.flight(*number)).filter(|flight| flight.arrived());
    let mut all: Vec<f64> = flights
        .filter_map(|flight| {
            let best = graph.from(flight.from()).to(flight.to()?)?;
            Some(flight.travelled().as_secs_f64() / best.as_secs_f64())
        })
        .collect();
    all.sort_by(f64::total_cmp);
    if !all.is_empty() {
        values.insert(mean, all.iter().sum::<f64>() / all.len() as f64);
        values.insert(worst, all[(all.len() * 99 / 100).min(all.len() - 1)]);
    }
}

/// Kills `doomed`, and sees how the conversations of the others go on.
fn repair(
    world: &mut World,
    protocol: Protocol,
    pairs: &[(usize, usize)],
    doomed: &[usize],
    values: &mut Values,
) {
    doomed.iter().for_each(|node| world.kill(*node));
    let links: Vec<_> = world.open_links().map(|(a, b, _)| (a, b)).collect();
    let part = parts(world.len(), links.into_iter());
    let alive = world.len() - doomed.len();
    let pairs: Vec<_> = pairs
        .iter()
        .copied()
        .filter(|(a, b)| world.is_alive(*a) && world.is_alive(*b) && part[*a] == part[*b])
        .collect();
    let died = world.elapsed();
    let (bytes, carried) = (sent(world), bytes_of(world, protocol.carriers()));
    let mut sent_at: Vec<(Duration, Vec<Option<u64>>)> = Vec::new();
    let mut counted = false;
    while world.elapsed() < died + WATCH {
        let at = world.elapsed() - died;
        if !counted && at >= Duration::from_secs(30) {
            counted = true;
            let control = (sent(world) - bytes) - (bytes_of(world, protocol.carriers()) - carried);
            values.insert(Measure::Busy, per_second(control, alive, at));
        }
        sent_at.push((at, send(world, &pairs, Duration::ZERO)));
        world.run_for(STEP);
    }
    world.run_for(PAUSE * 5);
    let arrived = |number: &Option<u64>| number.is_some_and(|number| world.flight(number).arrived());
    let detected = world.detection;
    // For each conversation the last payload that was lost: the next one is where it goes on.
    let healed = |pair: usize| {
        let lost = sent_at.iter().rposition(|(_, sent)| !arrived(&sent[pair]));
        let goes_on = lost.map_or(0, |lost| lost + 1);
        let steady = goes_on + STEADY <= sent_at.len();
        let at = sent_at.get(goes_on).filter(|_| steady).map_or(WATCH, |(at, _)| *at);
        at.saturating_sub(detected)
    };
    if let Some(last) = (0..pairs.len()).map(healed).max() {
        values.insert(Measure::Repair, last.as_secs_f64());
    }
    let early = sent_at.iter().filter(|(at, _)| *at < Duration::from_secs(10));
    let early: Vec<bool> = early.flat_map(|(_, sent)| sent.iter().map(arrived)).collect();
    if !early.is_empty() {
        let kept = early.iter().filter(|arrived| **arrived).count();
        values.insert(Measure::Kept, 100.0 * kept as f64 / early.len() as f64);
    }
}

fn sent(world: &World) -> u64 {
    (0..world.len()).map(|node| world.bytes_out(node)).sum()
}

fn frames(world: &World, kinds: &[u8]) -> u64 {
    kinds.iter().map(|kind| world.sent_by_all(*kind).frames).sum()
}

fn bytes_of(world: &World, kinds: &[u8]) -> u64 {
    kinds.iter().map(|kind| world.sent_by_all(*kind).bytes).sum()
}

fn per_second(bytes: u64, nodes: usize, time: Duration) -> f64 {
    bytes as f64 / nodes.max(1) as f64 / time.as_secs_f64()
}
