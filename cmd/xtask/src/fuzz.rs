//! Runs the fuzz targets of `tests/fuzz` with cargo-fuzz.

use anyhow::{Context, Result, bail};

use crate::{command, tools};

/// Runs fuzz targets, each for a while.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The target; none: all of them, one after the other.
    target: Option<String>,
    /// How long each runs, in seconds.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Lists the targets, and runs none.
    #[arg(long)]
    list: bool,
}

/// Where the libFuzzer harness is, a workspace of its own.
const FOLDER: &str = "tests/fuzz/libfuzzer";

/// Runs what `arguments` ask for; whether all went well.
pub(crate) fn run(arguments: &Arguments) -> Result<bool> {
    let targets = targets()?;
    if arguments.list {
        targets.iter().for_each(|target| println!("{target}"));
        return Ok(true);
    }
    let chosen: Vec<_> = match &arguments.target {
        Some(name) if targets.contains(name) => vec![name.clone()],
        Some(name) => bail!("no fuzz target is named {name}; there are {}", targets.join(", ")),
        None => targets,
    };
    if tools::find("cargo-fuzz").is_none() {
        bail!("missing: cargo-fuzz; install with: cargo install --locked cargo-fuzz");
    }
    let mut failed = Vec::new();
    for target in &chosen {
        println!("fuzz {target} for {} s", arguments.seconds);
        let corpus = command::root().join("tests/fuzz/corpus").join(target);
        // New inputs go to a folder that git does not track; the corpus is only read.
        let found = command::root().join(FOLDER).join("target/found").join(target);
        std::fs::create_dir_all(&found).with_context(|| found.display().to_string())?;
        let mut fuzz = command::cargo(["fuzz", "run", "--fuzz-dir", FOLDER, target.as_str()]);
        fuzz.arg(&found);
        if corpus.is_dir() {
            fuzz.arg(&corpus);
        }
        fuzz.args(["--", &format!("-max_total_time={}", arguments.seconds), "-print_final_stats=1"]);
        // The sanitizer is an unstable flag, which the stable compiler takes in this way.
        if let Err(error) = command::run(fuzz.env("RUSTC_BOOTSTRAP", "1")) {
            eprintln!("{error:#}");
            failed.push(target.as_str());
        }
    }
    if !failed.is_empty() {
        eprintln!("failed: {}; the inputs are in {FOLDER}/artifacts", failed.join(", "));
    }
    Ok(failed.is_empty())
}

/// The targets that the harness has: its source files.
fn targets() -> Result<Vec<String>> {
    let folder = command::root().join(FOLDER).join("targets");
    let mut targets = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            targets.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    targets.sort();
    Ok(targets)
}
