//! Holds protocols against each other on the same world.

mod chart;
mod measure;
mod page;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use byway_sim::Kind;

pub use measure::{Measure, Protocol, Values, measure};

/// What to compare.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many nodes; one or more sizes. Beacon takes part up to 200.
    #[arg(long, value_delimiter = ',', default_value = "100,500")]
    pub nodes: Vec<usize>,
    /// The topologies; all five if none is named.
    #[arg(long, value_delimiter = ',')]
    pub topology: Vec<Kind>,
    /// The protocols; all if none is named.
    #[arg(long, value_delimiter = ',')]
    pub protocol: Vec<Protocol>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 5)]
    pub seeds: u64,
    /// How many worlds at once.
    #[arg(long, default_value_t = 1)]
    pub jobs: usize,
    /// One JSON object for each protocol, topology and measure, instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Writes the table into the section "Comparison" of docs/routing.md, and a picture beside it.
    #[arg(long)]
    pub write: bool,
    /// Writes a picture of the figures.
    #[arg(long)]
    pub svg: Option<PathBuf>,
}

/// One figure: what several seeds gave.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Figure {
    /// Which protocol.
    pub protocol: Protocol,
    /// The name of the kind of network.
    pub topology: &'static str,
    /// How many nodes.
    pub nodes: usize,
    /// What was measured.
    pub measure: Measure,
    /// The values by seed.
    pub values: Vec<f64>,
    /// Their mean.
    pub mean: f64,
    /// Their standard deviation, that of a sample.
    pub spread: f64,
}

/// Measures, and shows.
///
/// # Errors
///
/// When a file cannot be written.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let figures = figures(arguments);
    if arguments.json {
        for figure in &figures {
            println!("{}", serde_json::to_string(figure)?);
        }
    } else {
        for nodes in &arguments.nodes {
            println!("{nodes} nodes\n\n{}", page::table(*nodes, &figures));
        }
    }
    if let Some(path) = &arguments.svg {
        std::fs::write(path, chart::draw(&figures)?)
            .with_context(|| format!("{} not written", path.display()))?;
    }
    if arguments.write {
        page::write(arguments, &figures, &chart::draw(&figures)?)?;
    }
    Ok(true)
}

/// Runs every world, and puts the values of all seeds together.
fn figures(arguments: &Arguments) -> Vec<Figure> {
    let kinds = if arguments.topology.is_empty() { Kind::ALL.to_vec() } else { arguments.topology.clone() };
    let protocols =
        if arguments.protocol.is_empty() { Protocol::ALL.to_vec() } else { arguments.protocol.clone() };
    let mut worlds = Vec::new();
    for nodes in &arguments.nodes {
        for protocol in protocols.iter().filter(|protocol| *nodes <= protocol.most()) {
            for kind in &kinds {
                let seeds = arguments.seed..arguments.seed + arguments.seeds;
                worlds.extend(seeds.map(|seed| (*nodes, *kind, *protocol, seed)));
            }
        }
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.clamp(1, worlds.len().max(1)) {
            scope.spawn(|| {
                while let Some(world) = worlds.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (nodes, kind, protocol, seed) = *world;
                    let began = std::time::Instant::now();
                    let values = measure(protocol, kind, nodes, seed);
                    let took = began.elapsed().as_secs_f64();
                    eprintln!(
                        "{} on {nodes} nodes of {}, seed {seed}: {took:.1} s",
                        protocol.name(),
                        kind.name()
                    );
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(*world, values);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut gathered: BTreeMap<(usize, Kind, Protocol, Measure), Vec<f64>> = BTreeMap::new();
    for ((nodes, kind, protocol, _), values) in &done {
        for (measure, value) in values {
            gathered.entry((*nodes, *kind, *protocol, *measure)).or_default().push(*value);
        }
    }
    let figure = |((nodes, kind, protocol, measure), values): (_, Vec<f64>)| {
        let (mean, spread) = mean_and_spread(&values);
        Figure { protocol, topology: Kind::name(kind), nodes, measure, values, mean, spread }
    };
    gathered.into_iter().map(figure).collect()
}

fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, if values.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spread_is_that_of_a_sample() {
        let (mean, spread) = mean_and_spread(&[2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]);
        assert_eq!(mean, 5.0);
        assert!((spread - (32.0f64 / 7.0).sqrt()).abs() < 1e-12);
        assert_eq!(mean_and_spread(&[3.0]), (3.0, 0.0));
    }
}
