//! Programs that the tests run, and how to come by them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::command;

/// A program and the Debian package that has it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

const fn tool(program: &'static str, package: &'static str) -> Tool {
    Tool { program, package }
}

const TOOLS: &[Tool] = &[
    tool("cc", "gcc"),
    tool("ip", "iproute2"),
    tool("ping", "iputils-ping"),
    tool("iperf3", "iperf3"),
    tool("curl", "curl"),
    tool("ssh", "openssh-client"),
    tool("sshd", "openssh-server"),
    tool("nc", "netcat-openbsd"),
    tool("python3", "python3"),
    tool("unshare", "util-linux"),
    tool("openssl", "openssl"),
    tool("nginx", "nginx-light"),
    tool("nft", "nftables"),
    tool("tor", "tor"),
    tool("tor-gencert", "tor"),
    tool("i2pd", "i2pd"),
];

/// The version of cargo-deny that deny.toml is written for.
const CARGO_DENY: &str = "0.20.2";

/// Sees to it that every program is there, and installs what is missing where that is allowed; how many there are.
pub(crate) fn ensure() -> Result<usize> {
    let missing = missing();
    if !missing.is_empty() {
        let packages: Vec<_> = missing.iter().map(|tool| tool.package).collect();
        if find("apt-get").is_none() || !is_root() {
            bail!(
                "missing: {}; install with: sudo apt-get install -y {}",
                missing.iter().map(|tool| tool.program).collect::<Vec<_>>().join(" "),
                packages.join(" ")
            );
        }
        let apt = |arguments: &[&str]| {
            command::run(command::program("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(arguments))
        };
        // A machine whose lists are fresh needs no update, and one without a network may have them all the same.
        if let Err(error) = apt(&["update", "-q"]) {
            eprintln!("{error:#}");
        }
        apt(&[&["install", "-y", "-q", "--no-install-recommends"], packages.as_slice()].concat())?;
        let still = self::missing();
        if !still.is_empty() {
            let names: Vec<_> = still.iter().map(|tool| tool.program).collect();
            bail!("still missing after the installation: {}", names.join(" "));
        }
    }
    ensure_components()?;
    Ok(TOOLS.len() + COMPONENTS.len())
}

/// Parts of the toolchain that a minimal installation leaves out.
const COMPONENTS: &[(&str, &str)] = &[("fmt", "rustfmt"), ("clippy", "clippy")];

fn ensure_components() -> Result<()> {
    for (subcommand, component) in COMPONENTS {
        if command::output(&mut command::cargo([subcommand, "--version"])).is_err() {
            command::run(command::program("rustup").args(["component", "add", component])).with_context(
                || format!("missing: {component}; install with: rustup component add {component}"),
            )?;
        }
    }
    Ok(())
}

/// Sees to it that cargo-deny is there.
pub(crate) fn ensure_deny() -> Result<()> {
    if find("cargo-deny").is_some() {
        return Ok(());
    }
    command::run(&mut command::cargo(["install", "--locked", "--version", CARGO_DENY, "cargo-deny"]))
}

fn missing() -> Vec<&'static Tool> {
    TOOLS.iter().filter(|tool| find(tool.program).is_none()).collect()
}

/// Where `program` is; also where only root looks, because sshd is there.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .chain(home.map(|home| home.join("bin")))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

fn is_root() -> bool {
    command::output(command::program("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_not() {
        assert!(find("sh").is_some());
        assert!(find("no-program-has-this-name").is_none());
    }
}
