//! The steps of the suite.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::suite::Outcome;
use crate::tests::Part;
use crate::{command, dependencies, hygiene, layers, tests, tools};

/// One step.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) run: fn() -> Result<Outcome>,
}

const fn step(name: &'static str, about: &'static str, run: fn() -> Result<Outcome>) -> Step {
    Step { name, about, run }
}

/// Every step there is.
pub(crate) const STEPS: &[Step] = &[
    step("tools", "programs that the tests run; installs what is missing where it may", tools_step),
    step("fmt", "the form of the code", fmt),
    step("layers", "crates use only what their layer allows", layers_step),
    step("dependencies", "each dependency is used, and docs/dependencies.md says why", dependencies_step),
    step("hygiene", "no paths of one machine, no huge files", hygiene_step),
    step("deny", "licences, banned crates and sources of dependencies", deny),
    step("clippy", "lints, for every target", clippy),
    step("docs", "the documentation builds without a warning", docs),
    step("build", "all crates, binaries and tests, once", || {
        tests::build().map(|_| Outcome::passed("built"))
    }),
    step("unit", "tests of every crate, property tests, the simulator, the fuzz corpus", || {
        tests::run(Part::Unit)
    }),
    step("doctest", "the examples in the documentation", tests::doctest),
    step("e2e", "whole processes: daemons, commands, the API", || tests::run(Part::Package("byway-e2e"))),
    step("interop", "other people's programs and clients in other languages", || {
        tests::run(Part::Package("byway-interop"))
    }),
    step("netns", "TUN devices, cut and lossy links, in network namespaces", || {
        tests::run(Part::Package("byway-netns"))
    }),
    step("testbed", "links over Tor and I2P, through tor and i2pd in private networks", testbed),
    step("bench", "the benchmarks run, in a short form that judges no speed", || {
        tests::run(Part::Package("byway-bench"))
    }),
    step("demo", "the README's first command, with the binary of the tests", demo),
];

fn tools_step() -> Result<Outcome> {
    let count = tools::ensure()?;
    Ok(Outcome::passed(format!("{count} programs are there")))
}

fn testbed() -> Result<Outcome> {
    // In one line, rather than once for each network that does not come up.
    let missing: Vec<_> =
        ["tor", "tor-gencert", "i2pd"].into_iter().filter(|tool| tools::find(tool).is_none()).collect();
    anyhow::ensure!(missing.is_empty(), "missing: {}; the step `tools` installs them", missing.join(" "));
    tests::run(Part::Package("byway-testbed"))
}

fn fmt() -> Result<Outcome> {
    command::run(&mut command::cargo(["fmt", "--all", "--check"]))?;
    Ok(Outcome { passed: 1, ..Outcome::default() })
}

fn layers_step() -> Result<Outcome> {
    let count = layers::check()?;
    Ok(Outcome::passed(format!("{count} arrows between crates are allowed")))
}

fn dependencies_step() -> Result<Outcome> {
    let count = dependencies::check()?;
    Ok(Outcome::passed(format!("{count} external dependencies are explained")))
}

fn hygiene_step() -> Result<Outcome> {
    let count = hygiene::check()?;
    Ok(Outcome::passed(format!("{count} files are clean")))
}

fn clippy() -> Result<Outcome> {
    command::run(&mut command::cargo([
        "clippy",
        "--workspace",
        "--all-targets",
        "--quiet",
        "--",
        "-D",
        "warnings",
    ]))?;
    Ok(Outcome { passed: 1, ..Outcome::default() })
}

fn docs() -> Result<Outcome> {
    let mut doc = command::cargo(["doc", "--no-deps", "--workspace", "--quiet"]);
    command::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    Ok(Outcome { passed: 1, ..Outcome::default() })
}

fn deny() -> Result<Outcome> {
    tools::ensure_deny()?;
    // cargo-deny looks at every platform's crates, of which a build here fetched only its own.
    command::run(&mut command::cargo(["fetch", "--locked", "--quiet"]))?;
    command::run(&mut command::cargo(["deny", "--offline", "check", "bans", "licenses", "sources"]))?;
    // A lock file names what some feature could want; `cargo tree` knows what is built.
    let builds_ring =
        command::cargo(["tree", "--workspace", "--edges", "normal,build", "--invert", "ring"]).output()?;
    anyhow::ensure!(
        builds_ring.stdout.is_empty(),
        "aws-lc-rs is the one provider, but ring is built:\n{}",
        String::from_utf8_lossy(&builds_ring.stdout)
    );
    let mut outcome = Outcome { passed: 1, ..Outcome::default() };
    // The database of advisories is on the network, and changes without us: it informs, and decides nothing.
    let advisories = command::cargo(["deny", "check", "advisories"]).output().context("cargo deny")?;
    outcome.notes.push(if advisories.status.success() {
        "no advisory concerns a dependency".to_owned()
    } else {
        let text = String::from_utf8_lossy(&advisories.stderr);
        let ids: Vec<_> = text.lines().filter(|line| line.contains("ID: RUSTSEC")).map(str::trim).collect();
        if ids.is_empty() {
            "advisories not looked at: their database cannot be reached".to_owned()
        } else {
            format!("advisories to look at: {}", ids.join(", "))
        }
    });
    Ok(outcome)
}

/// Longer than the demo takes on a slow machine that does something else besides.
const DEMO: Duration = Duration::from_secs(90);

fn demo() -> Result<Outcome> {
    let byway = command::target().join("debug").join("byway");
    // A home of its own: the demo must not find, nor leave, anything in the user's.
    let home = command::target().join("xtask").join("demo-home");
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home)?;
    let mut demo = command::program(byway);
    demo.arg("demo").env("HOME", &home);
    for variable in ["XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "BYWAY_API"] {
        demo.env_remove(variable);
    }
    let (status, log) = tests::run_logged(&mut demo, "demo", DEMO)?;
    print!("{log}");
    anyhow::ensure!(status.is_some_and(|status| status.success()), "the demo failed");
    Ok(Outcome { passed: 1, ..Outcome::default() })
}
