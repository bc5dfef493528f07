//! Runs steps one after the other, and sums up.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::steps::{STEPS, Step};

/// What `cargo xtask test` runs, in this order: what is quick and often wrong comes first.
pub(crate) const ALL: &[&str] = &[
    "tools",
    "fmt",
    "layers",
    "dependencies",
    "hygiene",
    "deny",
    "clippy",
    "docs",
    "build",
    "unit",
    "doctest",
    "e2e",
    "interop",
    "netns",
    "testbed",
    "bench",
    "demo",
];

/// What `cargo xtask check` runs.
pub(crate) const QUICK: &[&str] = &["fmt", "layers", "dependencies", "hygiene", "deny", "clippy", "docs"];

/// What became of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Tests, or other checks, that passed.
    pub(crate) passed: usize,
    /// Those that failed.
    pub(crate) failed: usize,
    /// What a person should know besides, one line each.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// A check with a yes or no; `note` says what it saw.
    pub(crate) fn passed(note: impl Into<String>) -> Self {
        Self { passed: 1, failed: 0, notes: vec![note.into()] }
    }

    /// Adds what became of another part of the step.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.notes.extend(other.notes);
    }
}

/// Runs the steps `names`, or of them just `only`; whether none failed.
pub(crate) fn run(names: &[&str], only: &[String], list: bool) -> Result<bool> {
    let mut steps = chosen(names, only)?;
    if list {
        for step in steps {
            println!("{:<13} {}", step.name, step.about);
        }
        return Ok(true);
    }
    let start = Instant::now();
    let mut total = Outcome::default();
    let mut broken = Vec::new();
    for step in &mut steps {
        println!("== {}: {}", step.name, step.about);
        let begun = Instant::now();
        let outcome = (step.run)().unwrap_or_else(|error| {
            println!("{error:#}");
            Outcome { passed: 0, failed: 1, notes: Vec::new() }
        });
        for note in &outcome.notes {
            println!("   {note}");
        }
        let verdict = if outcome.failed == 0 { "ok" } else { "FAILED" };
        println!("-- {}: {verdict} in {}", step.name, seconds(begun.elapsed()));
        if outcome.failed > 0 {
            broken.push(step.name);
        }
        total.add(outcome);
    }
    println!("\n{} steps in {}", steps.len(), seconds(start.elapsed()));
    if !broken.is_empty() {
        println!("failed: {}", broken.join(" "));
    }
    println!("{}", summary(&total));
    Ok(total.failed == 0)
}

/// The last line, which programs read.
fn summary(total: &Outcome) -> String {
    format!("{} passed, {} failed", total.passed, total.failed)
}

fn chosen(names: &[&str], only: &[String]) -> Result<Vec<&'static Step>> {
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        bail!("no step is named {unknown}; there are {}", names.join(", "));
    }
    let wanted = |name: &str| only.is_empty() || only.iter().any(|it| it == name);
    Ok(names
        .iter()
        .filter(|name| wanted(name))
        .filter_map(|name| STEPS.iter().find(|step| step.name == *name))
        .collect())
}

/// A duration for people.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn every_name_is_a_step_and_every_step_is_run() {
        assert_eq!(chosen(ALL, &[]).unwrap().len(), ALL.len());
        assert_eq!(STEPS.len(), ALL.len());
        assert!(QUICK.iter().all(|name| ALL.contains(name)));
    }

    #[test]
    fn an_unknown_step_is_an_error_that_names_the_known_ones() {
        let error = chosen(QUICK, &["netns".into()]).err().unwrap().to_string();
        assert!(error.contains("netns") && error.contains("clippy"), "{error}");
    }

    #[test]
    fn the_last_line_has_the_form_that_programs_read() {
        assert_eq!(summary(&Outcome { passed: 12, failed: 0, notes: Vec::new() }), "12 passed, 0 failed");
    }
}
