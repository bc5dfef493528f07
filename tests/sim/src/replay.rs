//! Follows one message hop by hop.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use byway_network::Plane;
use byway_sim::{Dice, Flight, Kind, Recorded, Terrain, Wire, World};

use crate::compare::Protocol;
use crate::frames::{self, Head};

/// Which message.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 1_000)]
    pub nodes: usize,
    /// overlay, ba, tree, rgg or grid.
    #[arg(long, default_value = "overlay")]
    pub topology: Kind,
    /// The seed of all chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The routing protocol.
    #[arg(long, default_value = "grove")]
    pub protocol: Protocol,
    /// The sender's number.
    #[arg(long, default_value_t = 0)]
    pub from: usize,
    /// The target's number.
    #[arg(long)]
    pub to: usize,
    /// Seconds that the world has to itself first.
    #[arg(long, default_value_t = 60)]
    pub settle: u64,
    /// Messages before this one, a second apart.
    #[arg(long, default_value_t = 0)]
    pub warm: u32,
    /// Nodes that die before it is sent.
    #[arg(long, value_delimiter = ',')]
    pub kill: Vec<usize>,
    /// Links that are cut before it is sent, as A-B.
    #[arg(long, value_delimiter = ',', value_parser = pair)]
    pub cut: Vec<(usize, usize)>,
    /// Milliseconds from that to the sending.
    #[arg(long, default_value_t = 0)]
    pub wait: u64,
    /// One JSON object instead of words.
    #[arg(long)]
    pub json: bool,
}

fn pair(word: &str) -> Result<(usize, usize), String> {
    let ends = word.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    ends.ok_or_else(|| "a link is written as two numbers, like 3-17".to_owned())
}

/// What became of a message.
#[derive(Debug, serde::Serialize)]
pub struct Story {
    /// Whether it was delivered.
    pub arrived: bool,
    /// From sending to delivery, in milliseconds, the search for the target included.
    pub took: Option<f64>,
    /// Latency of the links that it came over, in milliseconds.
    pub travelled: f64,
    /// Latency of the shortest way that there is, in milliseconds, through what lives; nothing if there is none.
    pub shortest: Option<f64>,
    /// Frames that looked for the target, or told where it is, from the sending on.
    pub lookups: usize,
    /// Each time that it was put on a link.
    pub hops: Vec<Hop>,
    /// Why it did not arrive.
    pub lost: Option<String>,
}

/// One link that a message was put on.
#[derive(Debug, serde::Serialize)]
pub struct Hop {
    /// Milliseconds since the sending.
    pub at: f64,
    /// The near end.
    pub from: usize,
    /// The far end.
    pub to: usize,
    /// What the link is.
    pub class: String,
    /// One-way, in milliseconds.
    pub latency: f64,
    /// What the link costs, in units of 100 µs.
    pub cost: u32,
    /// What kind of frame it was in.
    pub kind: &'static str,
    /// What stood in front of it.
    pub head: Option<Head>,
    /// Whether the link lost it.
    pub lost: bool,
}

/// Replays it; whether it arrived.
///
/// # Errors
///
/// When there are no such nodes or links.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let story = replay(arguments)?;
    if arguments.json {
        println!("{}", serde_json::to_string(&story)?);
    } else {
        print!("{}", told(&story));
    }
    Ok(story.arrived)
}

/// Makes the world anew, and sends the message.
///
/// # Errors
///
/// When there are no such nodes or links.
pub fn replay(arguments: &Arguments) -> Result<Story> {
    let Arguments { nodes, topology, seed, protocol, from, to, .. } = arguments;
    let terrain = Terrain::new(*topology, *nodes, &mut Dice::new(*seed));
    let nodes = terrain.topology.nodes;
    for node in arguments.kill.iter().chain([from, to]) {
        ensure!(*node < nodes, "there is no node {node}: there are {nodes}");
    }
    ensure!(from != to, "a message to oneself goes nowhere");
    ensure!(!arguments.kill.contains(from), "a dead node sends nothing");
    let wires: BTreeMap<(usize, usize), Wire> = terrain.links().collect();
    let mut world = World::on(*seed, protocol.factory(), &terrain);
    world.run_for(Duration::from_secs(arguments.settle));
    for _ in 0..arguments.warm {
        // What becomes of these shows in the next one.
        let _ = world.send(*from, *to, Plane::Any);
        world.run_for(Duration::from_secs(1));
    }
    for (a, b) in &arguments.cut {
        if !wires.contains_key(&(*a.min(b), *a.max(b))) {
            bail!("there is no link {a}-{b}");
        }
        world.cut(*a, *b);
    }
    arguments.kill.iter().for_each(|node| world.kill(*node));
    world.run_for(Duration::from_millis(arguments.wait));

    let errors: Vec<BTreeMap<String, u64>> = (0..nodes).map(|node| world.errors(node).clone()).collect();
    let lookups = |world: &World| -> u64 {
        protocol.lookups().iter().map(|kind| world.sent_by_all(*kind).frames).sum()
    };
    let before = lookups(&world);
    let began = world.elapsed();
    world.take_unroutable(*from);
    world.record();
    let number = world.send(*from, *to, Plane::Any);
    world.run_for(Duration::from_secs(12));
    let frames = world.take_recorded(true);
    let living: Vec<_> =
        world.open_links().filter_map(|(a, b, _)| Some((a, b, wires.get(&(a, b))?.latency))).collect();
    let shortest = byway_sim::Graph::new(nodes, living.into_iter()).from(*from).to(*to).map(millis);
    let flight = number.ok().map(|number| world.flight(number).clone());
    let mine = number.ok().map(|number| carried(&frames, number)).unwrap_or_default();
    let hop = |frame: &Recorded| -> Option<Hop> {
        let wire = wires.get(&(frame.from.min(frame.to), frame.from.max(frame.to)))?;
        Some(Hop {
            at: millis(frame.at.saturating_sub(began)),
            from: frame.from,
            to: frame.to,
            class: wire.class.to_string(),
            latency: millis(wire.latency),
            cost: wire.cost().units(),
            kind: protocol.frame_name(frame.frame.first().copied().unwrap_or(0)),
            head: frames::head(&frame.frame).filter(|_| *protocol == Protocol::Grove),
            lost: frame.lost,
        })
    };
    let hops: Vec<Hop> = mine.iter().filter_map(hop).collect();
    let lost = match (&number, &flight) {
        (Err(why), _) => Some(format!("node {from} refuses it: {why}")),
        (_, Some(flight)) if flight.arrived() => None,
        _ => Some(why_lost(&mut world, *from, &hops, &errors)),
    };
    Ok(Story {
        arrived: flight.as_ref().is_some_and(Flight::arrived),
        took: flight.as_ref().and_then(Flight::took).map(millis),
        travelled: flight.as_ref().map_or(0.0, |flight| millis(flight.travelled())),
        shortest,
        lookups: (lookups(&world) - before) as usize,
        hops,
        lost,
    })
}

/// The frames that carried one payload.
fn carried(frames: &[Recorded], number: u64) -> Vec<Recorded> {
    frames.iter().filter(|frame| frame.flight() == Some(number)).cloned().collect()
}

/// Why nothing followed the last hop.
fn why_lost(world: &mut World, from: usize, hops: &[Hop], before: &[BTreeMap<String, u64>]) -> String {
    let Some(last) = hops.last() else {
        return match world.take_unroutable(from).first() {
            Some((_, why)) => format!("node {from} gave up: {why}"),
            None => format!("it still waits at node {from} for somebody to tell where the target is"),
        };
    };
    let to = last.to;
    if last.lost {
        let why = if world.is_alive(to) { "the link is cut" } else { "the node at its end is dead" };
        return format!("lost between {} and {to}: {why}", last.from);
    }
    if !world.is_alive(to) {
        return format!("node {to} is dead");
    }
    let news =
        world.errors(to).iter().find(|(why, count)| before[to].get(*why).copied().unwrap_or(0) < **count);
    match news {
        Some((why, _)) => format!("node {to} dropped it: {why}"),
        None => format!("node {to} had not noticed that the link was there, or swallowed it"),
    }
}

/// The story in words.
fn told(story: &Story) -> String {
    let mut told = String::new();
    for hop in &story.hops {
        let Hop { at, from, to, class, latency, cost, kind, .. } = hop;
        let _ = write!(
            told,
            "{at:>9.3} ms  {from:>5} → {to:<5} {class:<8} {latency:>7.2} ms  cost {cost:<5} {kind:<7}"
        );
        match &hop.head {
            Some(Head::Steered { mask, remaining, ttl }) => {
                let _ = write!(told, " trees {mask:04b}, remaining {remaining}, ttl {ttl}");
            }
            Some(Head::Led { at, of, ttl }) => {
                let _ = write!(told, " label {at} of {of}, ttl {ttl}");
            }
            None => {}
        }
        told.push_str(if hop.lost { "  ✗ lost\n" } else { "\n" });
    }
    let shortest = story.shortest.map_or("no way at all".to_owned(), |millis| format!("{millis:.2} ms"));
    match (story.took, &story.lost) {
        (Some(took), _) => {
            let stretch = story.shortest.map_or(f64::NAN, |shortest| story.travelled / shortest);
            let _ = writeln!(
                told,
                "delivered after {took:.2} ms, {:.2} ms of them on the way; the shortest way takes {shortest}: stretch {stretch:.3}",
                story.travelled
            );
        }
        (None, lost) => {
            let why = lost.as_deref().unwrap_or("nobody knows why");
            let _ = writeln!(told, "not delivered: {why}. The shortest way takes {shortest}");
        }
    }
    let _ = writeln!(told, "{} frames looked for the target or told where it is", story.lookups);
    told
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}
