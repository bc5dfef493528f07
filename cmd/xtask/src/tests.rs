//! Builds the tests once, and runs each test binary by itself.
//!
//! `cargo test` for some of the packages chooses features for just these, and builds much of the tree again for every choice.
//! So everything is built by one command for the whole workspace, which also says where the test binaries are.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command;
use crate::suite::{Outcome, seconds};

/// Packages whose tests start processes, make network namespaces or measure time, so they run alone and one by one.
const SERIAL: &[&str] = &["byway-e2e", "byway-interop", "byway-netns", "byway-testbed", "byway-bench"];

/// Longest that one test binary may take.
const LIMIT: Duration = Duration::from_secs(20 * 60);

/// Which tests.
#[derive(Clone, Copy)]
pub(crate) enum Part {
    /// Those of all packages that are not serial.
    Unit,
    /// Those of one package, one after the other.
    Package(&'static str),
}

/// A test binary.
#[derive(Debug)]
pub(crate) struct Binary {
    package: String,
    target: String,
    folder: PathBuf,
    executable: PathBuf,
}

/// Builds libraries, binaries and tests of the workspace in the dev profile.
pub(crate) fn build() -> Result<Vec<Binary>> {
    let mut build = command::cargo(["build", "--workspace", "--lib", "--bins", "--tests"]);
    build.arg("--message-format=json-render-diagnostics").stderr(std::process::Stdio::inherit());
    let output = build.output().context("cargo build")?;
    if !output.status.success() {
        bail!("the workspace does not build");
    }
    binaries(&String::from_utf8_lossy(&output.stdout))
}

/// Test binaries in what cargo prints, one JSON object a line.
fn binaries(messages: &str) -> Result<Vec<Binary>> {
    #[derive(Deserialize)]
    struct Message {
        reason: String,
        manifest_path: Option<PathBuf>,
        target: Option<Target>,
        profile: Option<Profile>,
        executable: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }

    let mut binaries = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).context("cargo's messages are not understood")?;
        let (Some(manifest), Some(target), Some(profile), Some(executable)) =
            (message.manifest_path, message.target, message.profile, message.executable)
        else {
            continue;
        };
        if message.reason != "compiler-artifact" || !profile.test {
            continue;
        }
        let folder = manifest.parent().context("a manifest lies in a folder")?.to_owned();
        let package = package_name(&std::fs::read_to_string(&manifest).unwrap_or_default())
            .unwrap_or_else(|| target.name.clone());
        binaries.push(Binary { package, target: target.name, folder, executable });
    }
    binaries.sort_by(|a, b| (&a.package, &a.target).cmp(&(&b.package, &b.target)));
    Ok(binaries)
}

fn package_name(manifest: &str) -> Option<String> {
    let manifest: toml_edit::DocumentMut = manifest.parse().ok()?;
    Some(manifest.get("package")?.get("name")?.as_str()?.to_owned())
}

/// Runs the tests of `part`, and goes on after a failure.
pub(crate) fn run(part: Part) -> Result<Outcome> {
    let mut total = Outcome::default();
    let binaries = build()?;
    let chosen = binaries.iter().filter(|binary| match part {
        Part::Unit => !SERIAL.contains(&binary.package.as_str()),
        Part::Package(name) => binary.package == name,
    });
    for binary in chosen {
        let mut outcome = attempt(binary, part, "")?;
        // These hold limits in time, on a machine that others use too: one miss is told, two are a failure.
        if outcome.failed > 0 && matches!(part, Part::Package(_)) {
            outcome = attempt(binary, part, "-again")?;
            outcome.notes.push(format!("{} failed at first, and ran again", binary.target));
        }
        total.add(outcome);
    }
    if total.passed + total.failed == 0 {
        bail!("there is no test in this step");
    }
    Ok(total)
}

/// Runs one test binary; its log is named after it and `suffix`.
fn attempt(binary: &Binary, part: Part, suffix: &str) -> Result<Outcome> {
    let mut test = Command::new(&binary.executable);
    test.current_dir(&binary.folder)
        .env("CARGO_MANIFEST_DIR", &binary.folder)
        .env("CARGO_PKG_NAME", &binary.package)
        .stdin(std::process::Stdio::null());
    if matches!(part, Part::Package(_)) {
        test.arg("--test-threads=1");
    }
    print!("   {:<20} {:<28} ", binary.package, binary.target);
    std::io::stdout().flush()?;
    let begun = Instant::now();
    let name = format!("{}-{}{suffix}", binary.package, binary.target);
    let (status, log) = run_logged(&mut test, &name, LIMIT)?;
    let outcome = judge(status, &log);
    println!("{:>4} passed {:>2} failed  {:>8}", outcome.passed, outcome.failed, seconds(begun.elapsed()));
    if outcome.failed > 0 {
        println!("{}", log.trim_end());
    }
    Ok(outcome)
}

/// Runs the examples in the documentation.
pub(crate) fn doctest() -> Result<Outcome> {
    let mut doctest = command::cargo(["test", "--workspace", "--doc", "--quiet"]);
    let (status, log) = run_logged(&mut doctest, "doctest", LIMIT)?;
    let outcome = judge(status, &log);
    if outcome.failed > 0 {
        println!("{}", log.trim_end());
    }
    Ok(outcome)
}

/// Runs `command` with its output in a log; its exit status (none: it was ended for taking longer than `limit`), and the log.
pub(crate) fn run_logged(
    command: &mut Command,
    name: &str,
    limit: Duration,
) -> Result<(Option<ExitStatus>, String)> {
    let folder = command::target().join("xtask").join("logs");
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{name}.log"));
    let file = std::fs::File::create(&path).with_context(|| path.display().to_string())?;
    let mut child = command
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("{} could not be started", command.get_program().to_string_lossy()))?;
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if begun.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    Ok((status, String::from_utf8_lossy(&std::fs::read(&path)?).into_owned()))
}

/// What the log of a test program says, with its exit status.
fn judge(status: Option<ExitStatus>, log: &str) -> Outcome {
    let mut outcome = Outcome::default();
    for line in log.lines().filter(|line| line.starts_with("test result: ")) {
        outcome.passed += count(line, "passed");
        outcome.failed += count(line, "failed");
        if count(line, "ignored") > 0 {
            outcome.notes.push(format!("{} ignored", count(line, "ignored")));
        }
    }
    match status {
        None => {
            outcome.failed += 1;
            outcome.notes.push(format!("ended, because it took longer than {}", seconds(LIMIT)));
        }
        // It died before it could count.
        Some(status) if !status.success() && outcome.failed == 0 => {
            outcome.failed += 1;
            outcome.notes.push(format!("ended with {status}"));
        }
        Some(_) => {}
    }
    outcome
}

/// The number before `word` in a line like `test result: ok. 7 passed; 0 failed; …`.
fn count(line: &str, word: &str) -> usize {
    let mut previous = "";
    for part in line.split([' ', ';']).filter(|part| !part.is_empty()) {
        if part == word {
            return previous.parse().unwrap_or(0);
        }
        previous = part;
    }
    0
}

#[cfg(test)]
mod unit {
    use super::*;

    fn status(code: &str) -> Option<ExitStatus> {
        Some(Command::new("sh").args(["-c", &format!("exit {code}")]).status().unwrap())
    }

    #[test]
    fn tests_are_counted_from_what_the_harness_prints() {
        let log = "running 8 tests\n\ntest result: FAILED. 5 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out\n\
                   test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\n";
        let outcome = judge(status("101"), log);
        assert_eq!((outcome.passed, outcome.failed), (8, 2));
        assert_eq!(outcome.notes, ["1 ignored"]);
    }

    #[test]
    fn a_test_program_that_dies_or_hangs_has_failed() {
        assert_eq!(judge(status("134"), "running 3 tests\n").failed, 1);
        assert_eq!(judge(None, "").failed, 1);
        assert_eq!(judge(status("0"), "").failed, 0);
    }

    #[test]
    fn a_program_that_takes_too_long_is_ended_and_its_output_kept() {
        let mut slow = Command::new("sh");
        slow.args(["-c", "echo started; exec sleep 600"]);
        let (status, log) = run_logged(&mut slow, "unit-slow", Duration::from_millis(300)).unwrap();
        assert!(status.is_none());
        assert_eq!(log, "started\n");
    }

    #[test]
    fn test_binaries_are_found_in_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/w/a/Cargo.toml","target":{"name":"a"},"profile":{"test":true},"executable":"/w/target/debug/deps/a-1"}
{"reason":"build-finished","success":true}"#;
        let binaries = binaries(messages).unwrap();
        assert_eq!(binaries.len(), 1);
        assert_eq!(binaries[0].executable, PathBuf::from("/w/target/debug/deps/a-1"));
        assert_eq!(binaries[0].folder, PathBuf::from("/w/a"));
    }
}
