//! Which crate may use which: the layers of ARCHITECTURE.md as data.
//!
//! Only ordinary dependencies count. Development dependencies may point anywhere, because a test may use whatever makes it
//! plain.

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command;

/// A rule for the folders that `folder` describes; the first that fits counts.
struct Rule {
    /// A folder, or with `*` at its end all that begin so.
    folder: &'static str,
    /// The layer that it belongs to; it may be used from higher ones only, unless named in `also`.
    layer: u8,
    /// All crates up to this layer may be used.
    up_to: Option<u8>,
    /// These may be used besides.
    also: &'static [&'static str],
}

const fn rule(folder: &'static str, layer: u8, up_to: Option<u8>, also: &'static [&'static str]) -> Rule {
    Rule { folder, layer, up_to, also }
}

/// The table of layers. `api` is all that those above the node know of the network.
const RULES: &[Rule] = &[
    rule("pkg/wire", 0, None, &[]),
    rule("pkg/identity", 1, Some(0), &[]),
    rule("pkg/api", 2, Some(1), &[]),
    rule("pkg/session", 2, Some(1), &[]),
    rule("pkg/network", 2, Some(1), &[]),
    rule("pkg/link", 3, Some(1), &["pkg/session", "pkg/network"]),
    rule("networks/onion", 3, Some(1), &["pkg/network", "pkg/session"]),
    rule("networks/*", 3, Some(1), &["pkg/network"]),
    rule("pkg/fastpath", 3, Some(1), &["pkg/session", "pkg/network"]),
    rule("pkg/stream", 3, Some(1), &["pkg/api"]),
    rule("pkg/policy", 4, Some(3), &[]),
    rule("pkg/courier", 4, Some(3), &[]),
    rule("pkg/discovery", 4, Some(3), &[]),
    // `network` has the words, class and cost, in which a transport describes its links.
    // `transport-ip` gives its socket to the fast path as well.
    rule("pkg/transport-*", 4, Some(1), &["pkg/link", "pkg/network", "pkg/fastpath"]),
    // What links, sessions and threads need, and no routing protocol: which one it is, `daemon` decides.
    rule(
        "pkg/node",
        5,
        Some(2),
        &["pkg/link", "pkg/fastpath", "pkg/stream", "pkg/policy", "pkg/courier", "pkg/discovery"],
    ),
    rule("pkg/portal", 5, Some(1), &["pkg/api", "pkg/fastpath"]),
    rule("pkg/httpd", 5, Some(1), &["pkg/api"]),
    rule("client/*", 5, Some(1), &["pkg/api"]),
    rule("pkg/daemon", 6, Some(5), &[]),
    rule("pkg/sim", 6, Some(5), &[]),
    rule("cmd/*", 7, Some(7), &[]),
    rule("tests/*", 7, Some(7), &[]),
];

/// A crate of the workspace.
#[derive(Clone, Debug)]
struct Crate {
    name: String,
    /// Its folder, from the root.
    folder: String,
    /// Names of the crates that it uses outside of tests.
    uses: Vec<String>,
}

/// Checks the workspace; how many arrows there are.
pub(crate) fn check() -> Result<usize> {
    let metadata = command::output(&mut command::cargo(["metadata", "--no-deps", "--format-version", "1"]))?;
    let crates = read(&metadata)?;
    let faults = faults(&crates);
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    let local = |name: &String| crates.iter().any(|it| it.name == *name);
    Ok(crates.iter().flat_map(|it| &it.uses).filter(|name| local(name)).count())
}

/// What is wrong with the arrows between `crates`, in words.
fn faults(crates: &[Crate]) -> Vec<String> {
    let mut faults = Vec::new();
    for it in crates {
        let Some(rule) = rule_of(&it.folder) else {
            faults
                .push(format!("{} has no layer: add it to the table in cmd/xtask/src/layers.rs", it.folder));
            continue;
        };
        let used = it.uses.iter().filter_map(|name| crates.iter().find(|other| other.name == *name));
        for other in used {
            // One without a layer has a fault of its own.
            let Some(theirs) = rule_of(&other.folder) else { continue };
            let allowed = rule.up_to.is_some_and(|up_to| theirs.layer <= up_to)
                || rule.also.contains(&other.folder.as_str());
            if !allowed {
                faults.push(format!(
                    "{} -> {}: layer {} may not use this crate of layer {}",
                    it.folder, other.folder, rule.layer, theirs.layer
                ));
            }
        }
    }
    faults
}

fn rule_of(folder: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| match rule.folder.strip_suffix('*') {
        Some(start) => folder.starts_with(start),
        None => folder == rule.folder,
    })
}

/// The crates in what `cargo metadata` prints.
fn read(metadata: &str) -> Result<Vec<Crate>> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
        workspace_root: String,
    }
    #[derive(Deserialize)]
    struct Package {
        name: String,
        manifest_path: String,
        dependencies: Vec<Dependency>,
    }
    #[derive(Deserialize)]
    struct Dependency {
        name: String,
        kind: Option<String>,
    }

    let metadata: Metadata = serde_json::from_str(metadata).context("cargo metadata is not understood")?;
    let folder = |manifest: &str| {
        let relative = manifest.strip_prefix(&metadata.workspace_root).unwrap_or(manifest);
        relative
            .trim_start_matches(['/', '\\'])
            .trim_end_matches("Cargo.toml")
            .trim_end_matches(['/', '\\'])
            .replace('\\', "/")
    };
    Ok(metadata
        .packages
        .iter()
        .map(|package| Crate {
            name: package.name.clone(),
            folder: folder(&package.manifest_path),
            uses: package
                .dependencies
                .iter()
                .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
                .map(|dependency| dependency.name.clone())
                .collect(),
        })
        .collect())
}

#[cfg(test)]
mod unit {
    use super::*;

    fn krate(folder: &str, uses: &[&str]) -> Crate {
        Crate {
            name: folder.into(),
            folder: folder.into(),
            uses: uses.iter().map(|&name| name.into()).collect(),
        }
    }

    fn faults_of(folder: &str, used: &str) -> Vec<String> {
        faults(&[krate(folder, &[used]), krate(used, &[])])
    }

    #[test]
    fn this_workspace_keeps_its_layers() {
        assert!(check().unwrap() > 20, "the arrows are seen at all");
    }

    #[test]
    fn a_wrong_arrow_is_named() {
        for (from, to) in [
            ("pkg/wire", "pkg/identity"),
            ("pkg/session", "pkg/network"),
            ("networks/beacon", "pkg/session"),
            ("networks/beacon", "networks/grove"),
            ("pkg/stream", "pkg/node"),
            ("pkg/transport-ip", "pkg/session"),
            ("pkg/httpd", "pkg/node"),
            ("pkg/portal", "pkg/link"),
            ("client/rust", "pkg/httpd"),
            ("pkg/node", "pkg/daemon"),
            ("pkg/node", "networks/grove"),
            ("pkg/daemon", "pkg/sim"),
        ] {
            let faults = faults_of(from, to);
            assert_eq!(faults.len(), 1, "{from} -> {to}");
            assert!(faults[0].starts_with(&format!("{from} -> {to}: ")), "{}", faults[0]);
        }
    }

    #[test]
    fn right_arrows_pass() {
        for (from, to) in [
            ("pkg/identity", "pkg/wire"),
            ("pkg/link", "pkg/session"),
            ("networks/onion", "pkg/session"),
            ("pkg/node", "pkg/link"),
            ("pkg/daemon", "networks/grove"),
            ("pkg/portal", "pkg/fastpath"),
            ("pkg/daemon", "pkg/transport-ip"),
            ("tests/e2e", "client/rust"),
        ] {
            assert_eq!(faults_of(from, to), Vec::<String>::new(), "{from} -> {to}");
        }
    }

    #[test]
    fn a_crate_without_a_layer_is_a_fault() {
        let faults = faults(&[krate("pkg/surprise", &[])]);
        assert!(faults[0].contains("pkg/surprise has no layer"));
    }

    #[test]
    fn dependencies_of_tests_do_not_count() {
        let metadata = r#"{"workspace_root": "/w", "packages": [
            {"name": "byway-wire", "manifest_path": "/w/pkg/wire/Cargo.toml", "dependencies": [
                {"name": "byway-sim", "kind": "dev"}, {"name": "bytes", "kind": null}]},
            {"name": "byway-sim", "manifest_path": "/w/pkg/sim/Cargo.toml", "dependencies": [
                {"name": "byway-wire", "kind": "build"}]}]}"#;
        let crates = read(metadata).unwrap();
        assert_eq!(crates[0].folder, "pkg/wire");
        assert_eq!(crates[0].uses, ["bytes"]);
        assert_eq!(crates[1].uses, ["byway-wire"]);
        assert_eq!(faults(&crates), Vec::<String>::new());
    }
}
