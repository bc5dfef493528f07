//! Holds grove against the goals of `docs/routing.md`.
//!
//! For each topology one world of grove nodes goes through the same life: it starts cold, settles, is measured at rest, carries
//! payloads between strangers, loses nodes in several ways, and lives with churn. What that gives is held against the bounds.

mod bounds;
mod lab;
mod page;
mod standing;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use byway_sim::{Dice, Kind, Terrain};

use crate::atlas::Atlas;
use crate::memory;

pub use bounds::{Bound, Goal};
pub use lab::{Plan, measure};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// How many nodes. Up to 3,000 the goals for 1,000 nodes count, above those for 10,000.
    #[arg(long, default_value_t = 1_000)]
    pub nodes: usize,
    /// overlay, ba, tree, rgg, grid, or all of them.
    #[arg(long, default_value = "all")]
    pub topology: String,
    /// A map of a real network, instead of those: as much of it as so many nodes. Nothing is held against a bound there.
    #[arg(long, value_name = "FILE")]
    pub map: Option<PathBuf>,
    /// The seed of all chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many worlds at once, each in a thread.
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Trees of plane `any`; with other than four only the first frame is measured.
    #[arg(long, default_value_t = 4)]
    pub trees: u8,
    /// One JSON object per goal and line, instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Writes the table into docs/routing.md, and the figures beside it.
    #[arg(long)]
    pub write: bool,
    /// Says nothing of what is being done.
    #[arg(long)]
    pub quiet: bool,
}

/// One goal on one network: what was measured, and what may be.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Figure {
    /// Which goal.
    pub goal: Goal,
    /// The name of the network.
    pub topology: String,
    /// How many nodes it has.
    pub nodes: usize,
    /// The seed of all chance.
    pub seed: u64,
    /// What was measured.
    pub value: f64,
    /// What it is held against; nothing if it is only told.
    pub bound: Option<f64>,
    /// Whether the bound is kept.
    pub ok: bool,
    /// Of value and bound.
    pub unit: &'static str,
}

/// Measures; whether every bound was kept.
///
/// # Errors
///
/// When there is no such topology, or the page cannot be written.
pub fn run(arguments: &Arguments) -> Result<bool> {
    let kinds: Vec<Kind> = match arguments.topology.as_str() {
        "all" => Kind::ALL.to_vec(),
        name => vec![name.parse().map_err(anyhow::Error::msg)?],
    };
    if !(16..=1_000_000).contains(&arguments.nodes) {
        bail!("between 16 and a million nodes, please");
    }
    let begun = Instant::now();
    let plans = match &arguments.map {
        None => plans(arguments, &kinds),
        Some(file) => vec![of_map(arguments, file)?],
    };
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Vec<Figure>)>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.clamp(1, plans.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(plan) = plans.get(number) else { return };
                    let figures = measure(plan);
                    if arguments.json {
                        tell(&figures);
                    }
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, figures));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    let figures: Vec<Figure> = done.into_iter().flat_map(|(_, figures)| figures).collect();
    if !arguments.json {
        print!("{}", page::table(&figures));
    }
    let missed = figures.iter().filter(|figure| !figure.ok).count();
    if !arguments.quiet {
        let peak = memory::peak().map_or_else(String::new, |peak| format!(", at most {} MB", peak >> 20));
        eprintln!(
            "{missed} of {} bounds missed, {:.0} s{peak}",
            figures.len(),
            begun.elapsed().as_secs_f64()
        );
    }
    if arguments.write {
        page::write(arguments, &figures, begun.elapsed()).context("docs/routing.md")?;
    }
    Ok(missed == 0)
}

/// The worlds to measure: at 10,000 nodes also the two with eight trees.
fn plans(arguments: &Arguments, kinds: &[Kind]) -> Vec<Plan> {
    let make = |kind: Kind, trees| Plan {
        name: kind.name().into(),
        terrain: Terrain::new(kind, arguments.nodes, &mut Dice::new(arguments.seed)),
        kind: Some(kind),
        seed: arguments.seed,
        trees,
        quiet: arguments.quiet,
    };
    let mut plans: Vec<Plan> = kinds.iter().map(|kind| make(*kind, arguments.trees)).collect();
    if arguments.nodes > bounds::SMALL && arguments.trees == 4 {
        plans.extend(
            kinds.iter().filter(|kind| matches!(kind, Kind::Rgg | Kind::Grid)).map(|kind| make(*kind, 8)),
        );
    }
    plans
}

/// The world of a map.
fn of_map(arguments: &Arguments, file: &Path) -> Result<Plan> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let atlas = Atlas::read(&text).with_context(|| file.display().to_string())?;
    Ok(Plan {
        name: file.file_stem().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
        terrain: atlas.terrain(arguments.nodes, &mut Dice::new(arguments.seed)),
        kind: None,
        seed: arguments.seed,
        trees: arguments.trees,
        quiet: arguments.quiet,
    })
}

fn tell(figures: &[Figure]) {
    for figure in figures {
        if let Ok(line) = serde_json::to_string(figure) {
            println!("{line}");
        }
    }
}
