//! Installs the peers of the benchmark from package registries, and tells what else is missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::fleet::in_path;

/// Arguments of `install`.
#[derive(clap::Args)]
pub struct Install {
    /// Where to: programs go to `bin` below it.
    #[arg(long, default_value = "target/peers", value_name = "FOLDER")]
    dir: PathBuf,
    /// Which; without it all.
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// A peer in a registry.
struct Package {
    name: &'static str,
    /// What its installation makes.
    programs: &'static [&'static str],
    install: fn(&Path) -> Result<()>,
}

const PACKAGES: &[Package] = &[
    Package { name: "wireguard-go", programs: &["wireguard-go"], install: wireguard_go },
    Package { name: "gotatun", programs: &["gotatun"], install: |dir| krate(dir, "gotatun-cli", "0.10.2") },
    Package {
        name: "boringtun",
        programs: &["boringtun-cli"],
        install: |dir| krate(dir, "boringtun-cli", "0.7.1"),
    },
    Package { name: "nebula", programs: &["nebula", "nebula-cert"], install: nebula },
    Package { name: "yggdrasil", programs: &["yggdrasil"], install: yggdrasil },
];

/// Programs that measure, or set peers up, with the package that has them where names differ.
const TOOLS: &[(&str, &str)] = &[
    ("iperf3", "iperf3"),
    ("ping", "iputils-ping"),
    ("ip", "iproute2"),
    ("ss", "iproute2"),
    ("ethtool", "ethtool"),
    ("wg", "wireguard-tools"),
    ("nsenter", "util-linux"),
];

const WIREGUARD_GO: &str = "v0.0.0-20260522210424-ecfc5a8d5446";
/// Later ones need modules that a proxy does not serve, or a newer Go.
const NEBULA: &str = "v1.10.3";
const YGGDRASIL: &str = "v0.5.14";

impl Install {
    /// Installs what is not there yet; whether all is there now.
    pub fn run(&self) -> Result<bool> {
        let bin = self.dir.join("bin");
        std::fs::create_dir_all(&bin).with_context(|| bin.display().to_string())?;
        let dir = self.dir.canonicalize()?;
        let known: Vec<_> = PACKAGES.iter().map(|package| package.name).collect();
        if let Some(unknown) = self.names.iter().find(|name| !known.contains(&name.as_str())) {
            bail!("no peer is named {unknown}; there are {}", known.join(", "));
        }
        let mut failed = Vec::new();
        for package in PACKAGES {
            if !self.names.is_empty() && !self.names.iter().any(|name| name == package.name) {
                continue;
            }
            if package.programs.iter().all(|program| dir.join("bin").join(program).is_file()) {
                println!("{}: is there", package.name);
                continue;
            }
            match (package.install)(&dir) {
                Ok(()) => println!("{}: installed", package.name),
                // The others may do.
                Err(error) => {
                    println!("{}: failed: {error:#}", package.name);
                    failed.push(package.name);
                }
            }
        }
        println!("{}", missing_line());
        Ok(failed.is_empty())
    }
}

/// What is missing of the programs that measure, in one line.
pub fn missing_line() -> String {
    let missing: Vec<_> = TOOLS.iter().filter(|(program, _)| !there(program)).collect();
    if missing.is_empty() {
        return "every tool is there".to_owned();
    }
    let list = |pick: fn(&(&str, &'static str)) -> &'static str| {
        let mut names: Vec<_> = missing.iter().map(|tool| pick(tool)).collect();
        names.dedup();
        names.join(" ")
    };
    let programs: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    format!(
        "missing: {}; install with: sudo apt-get install -y {}",
        programs.join(" "),
        list(|(_, package)| package)
    )
}

fn there(program: &str) -> bool {
    let system = ["/usr/sbin", "/sbin"].map(|folder| Path::new(folder).join(program));
    in_path(program).is_some() || system.iter().any(|file| file.is_file())
}

fn wireguard_go(dir: &Path) -> Result<()> {
    let module = format!("golang.zx2c4.com/wireguard@{WIREGUARD_GO}");
    run(go(dir).args(["install", "-trimpath", "-ldflags", "-s -w", &module]))?;
    Ok(std::fs::rename(dir.join("bin/wireguard"), dir.join("bin/wireguard-go"))?)
}

fn nebula(dir: &Path) -> Result<()> {
    for (program, flags) in
        [("nebula", format!("-s -w -X main.Build={}", &NEBULA[1..])), ("nebula-cert", "-s -w".to_owned())]
    {
        let module = format!("github.com/slackhq/nebula/cmd/{program}@{NEBULA}");
        run(go(dir).args(["install", "-trimpath", "-ldflags", &flags, &module]))?;
    }
    Ok(())
}

/// One of its modules is served by no proxy. All it does is a system call of OpenBSD, and nothing elsewhere, so an empty module of
/// ours takes its place.
fn yggdrasil(dir: &Path) -> Result<()> {
    const MAIN: &str = "github.com/yggdrasil-network/yggdrasil-go";
    let source = dir.join("yggdrasil");
    std::fs::create_dir_all(source.join("protect"))?;
    let files = [
        ("protect/go.mod", "module suah.dev/protect\n\ngo 1.22\n".to_owned()),
        ("protect/protect.go", "package protect\n\nfunc Pledge(string) error { return nil }\n".to_owned()),
        (
            "go.mod",
            format!(
                "module peers/yggdrasil\n\ngo 1.24\n\nrequire {MAIN} {YGGDRASIL}\n\nreplace suah.dev/protect => ./protect\n"
            ),
        ),
        ("main.go", format!("//go:build tools\n\npackage tools\n\nimport _ \"{MAIN}/cmd/yggdrasil\"\n")),
    ];
    for (name, text) in files {
        std::fs::write(source.join(name), text)?;
    }
    run(go(dir).current_dir(&source).args(["mod", "tidy"]))?;
    let version = format!("{MAIN}/src/version");
    let flags = format!(
        "-s -w -X {version}.buildName=yggdrasil -X {version}.buildVersion={}",
        YGGDRASIL.trim_start_matches('v')
    );
    let program = format!("{MAIN}/cmd/yggdrasil");
    let file = dir.join("bin/yggdrasil");
    run(go(dir)
        .current_dir(&source)
        .args(["build", "-trimpath", "-ldflags", &flags, "-o"])
        .arg(file)
        .arg(program))
}

fn go(dir: &Path) -> Command {
    let mut command = Command::new("go");
    // A module must have been named to be used from outside of one; this folder is in none.
    command
        .current_dir(dir)
        .env("GOBIN", dir.join("bin"))
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-buildvcs=false");
    command
}

fn krate(dir: &Path, name: &str, version: &str) -> Result<()> {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["install", "--quiet", "--locked", "--version", version, "--root"]).arg(dir).arg(name);
    // Beside what it makes, so that the project's own builds are not disturbed.
    command.current_dir(dir).env("CARGO_TARGET_DIR", dir.join("target"));
    run(&mut command)
}

fn run(command: &mut Command) -> Result<()> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("{command:?} cannot be started"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", output.status, errors.lines().last().unwrap_or_default());
    Ok(())
}
