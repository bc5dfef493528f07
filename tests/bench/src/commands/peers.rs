//! `peers`: Byway beside other programs that join hosts.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use byway_bench::side::campaign::{Plan, Profile, Test};
use byway_bench::side::measure;
use byway_bench::side::page;
use byway_bench::side::peer::{self, Byway, Peer, Programs, RAW};
use byway_bench::side::record::{Kind, Row};
use clap::ValueEnum as _;

#[derive(clap::Args)]
pub(crate) struct Peers {
    /// Turns of every peer; medians count.
    #[arg(long, default_value_t = 5)]
    reps: u32,
    /// Seconds of each TCP measurement, besides one to warm up.
    #[arg(long, default_value_t = 4)]
    secs: u32,
    /// What to measure; without it all that suits the kind of run.
    #[arg(long, value_delimiter = ',', value_name = "TEST")]
    tests: Vec<Test>,
    /// Whom to measure; without it everyone whose programs are there, and for Byway its ciphers and threads.
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    peers: Vec<String>,
    /// Leaves these out.
    #[arg(long, value_delimiter = ',', value_name = "PEER")]
    without: Vec<String>,
    /// Switches segmentation and merging of the veth pair off.
    #[arg(long, conflicts_with_all = ["profile", "relay"])]
    no_offload: bool,
    /// Runs over wires with these faults, one after the other; the clean wire is always measured with them.
    #[arg(long, value_delimiter = ',', value_name = "PROFILE", conflicts_with = "relay")]
    profile: Vec<Profile>,
    /// Measures a line of three hosts as well, with those peers that relay.
    #[arg(long)]
    relay: bool,
    /// Bits a second of the wires, in millions.
    #[arg(long, default_value_t = 200, value_name = "MBIT/S")]
    rate: u64,
    /// Byway with so many threads, as the peer `byway-threadsN`.
    #[arg(long, value_name = "N")]
    threads: Vec<u16>,
    /// Byway with this cipher first, as the peer `byway-CIPHER`.
    #[arg(long, value_name = "CIPHER")]
    cipher: Vec<String>,
    /// A key of Byway's configuration with its value as TOML, as the peer `byway-set`; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Seconds of a trial with datagrams.
    #[arg(long, default_value_t = 0.4)]
    udp_secs: f64,
    /// Percent of datagrams that count as none lost.
    #[arg(long, default_value_t = 0.1)]
    udp_loss: f64,
    /// Pings of each measurement of round trips.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(10..))]
    pings: u32,
    /// Waits up to so many seconds for a quiet machine before each turn.
    #[arg(long, default_value_t = 0, value_name = "S")]
    wait_quiet: u64,
    /// Cores that others may use on a quiet machine.
    #[arg(long, default_value_t = 0.1)]
    quiet: f64,
    /// Seed of the wires' dice.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Folder with the programs of peers, before those of the path; may be given several times.
    #[arg(long, value_name = "FOLDER")]
    bin: Vec<PathBuf>,
    /// The daemon; without it the one that was built with this program.
    #[arg(long, value_name = "PROGRAM")]
    byway: Option<PathBuf>,
    /// Writes every sample to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes its section of docs/benchmarks.md, with a plot and every sample beside it.
    #[arg(long)]
    write: bool,
    /// Only tells how long it would take, and whom it would measure.
    #[arg(long)]
    plan: bool,
}

/// Measures; whether every peer was started.
pub(crate) fn run(arguments: &Peers) -> Result<bool> {
    let plan = arguments.plan()?;
    let names: Vec<_> = plan.peers.iter().map(|peer| peer.name().to_owned()).collect();
    eprintln!("{} peers: {}; about {:.0} min", names.len(), names.join(" "), plan.estimate() / 60.0);
    if arguments.plan {
        return Ok(true);
    }
    let campaign = plan.run(|row| eprintln!("{}", line(row)))?;
    if let Some(file) = &arguments.json {
        std::fs::write(file, page::json(&campaign)?).with_context(|| file.display().to_string())?;
    }
    let (title, body) = page::section(&campaign);
    println!("## {title}\n\n{body}");
    if campaign.interrupted {
        bail!("interrupted after {} turns", campaign.rows.len());
    }
    if arguments.write {
        page::write(&campaign)?;
    }
    Ok(campaign.rows.iter().all(|row| !row.failed.contains_key("start")))
}

impl Peers {
    fn plan(&self) -> Result<Plan> {
        ensure!(self.reps > 0 && self.secs > 0, "nothing to measure in no time");
        ensure!(self.rate > 0 && self.udp_secs > 0.0, "nothing to measure at no rate");
        let kind = match () {
            () if self.relay => Kind::Relay,
            () if self.no_offload => Kind::NoOffload,
            () if !self.profile.is_empty() => Kind::Wire,
            () => Kind::Direct,
        };
        let programs = Programs { folders: self.bin.clone(), byway: self.byway.clone() };
        let mut profiles = vec![Profile::Clean];
        profiles.extend(self.profile.iter().copied().filter(|profile| *profile != Profile::Clean));
        let tests = if self.tests.is_empty() { suitable(kind).to_vec() } else { self.tests.clone() };
        Ok(Plan {
            kind,
            peers: self.chosen(&programs, kind)?,
            tests,
            profiles: if kind == Kind::Wire { profiles } else { Vec::new() },
            wire_rate: self.rate * 1_000_000,
            repetitions: self.reps,
            seconds: self.secs,
            udp_seconds: self.udp_secs,
            udp_loss: self.udp_loss / 100.0,
            pings: self.pings,
            wait_quiet: Duration::from_secs(self.wait_quiet),
            quiet: self.quiet,
            seed: self.seed,
            programs,
            command: self.command(),
        })
    }

    /// Everyone that was asked for; an error if one of those cannot be run. Without a list: everyone that can.
    fn chosen(&self, programs: &Programs, kind: Kind) -> Result<Vec<Box<dyn Peer>>> {
        let missing =
            |peer: &dyn Peer| peer.programs().iter().find(|name| programs.find(name).is_none()).copied();
        let mut all = peer::all();
        for threads in &self.threads {
            add(
                &mut all,
                Byway::with(&format!("byway-threads{threads}"), &[format!("portal.threads={threads}")])?,
            );
        }
        for cipher in &self.cipher {
            add(&mut all, Byway::with_cipher(cipher)?);
        }
        if !self.set.is_empty() {
            add(&mut all, Byway::with("byway-set", &self.set)?);
        }
        for name in self.peers.iter().chain(&self.without) {
            let known: Vec<_> = all.iter().map(|peer| peer.name()).collect();
            ensure!(
                known.contains(&name.as_str()),
                "no peer is named {name}; there are {}",
                known.join(", ")
            );
        }
        let mut chosen = Vec::new();
        for peer in all {
            let name = peer.name().to_owned();
            if self.without.contains(&name) {
                continue;
            }
            let wanted = self.peers.contains(&name);
            if !wanted && (!self.peers.is_empty() || !self.by_itself(&name, kind)) {
                continue;
            }
            if kind == Kind::Relay && !peer.relays() {
                continue;
            }
            match missing(peer.as_ref()) {
                None => chosen.push(peer),
                Some(program) if wanted => bail!("{name} needs the program {program}, which is not there"),
                Some(program) => eprintln!("{name} is left out: no program {program}"),
            }
        }
        ensure!(!chosen.is_empty(), "nobody to measure");
        Ok(chosen)
    }

    /// Whether a peer belongs to a campaign that names none.
    fn by_itself(&self, name: &str, kind: Kind) -> bool {
        let extra = name == "byway-set"
            || self.threads.iter().any(|threads| name == format!("byway-threads{threads}"))
            || self.cipher.iter().any(|cipher| name == Byway::cipher_name(cipher));
        match name {
            _ if extra => true,
            // A draft, and off by default.
            "byway-aegis" => false,
            // Where the question is not what ciphers and threads cost.
            "byway-chacha" | "byway-threads1" => kind == Kind::Direct,
            RAW => matches!(kind, Kind::Direct | Kind::NoOffload),
            _ => true,
        }
    }

    /// The command line that measures the same again, without what is only true on this machine.
    fn command(&self) -> String {
        let mut words = vec!["cargo xtask bench peers".to_owned()];
        words.push(format!("--reps {} --secs {}", self.reps, self.secs));
        let mut list = |name: &str, values: Vec<String>| {
            if !values.is_empty() {
                words.push(format!("--{name} {}", values.join(",")));
            }
        };
        let value = |value: Option<clap::builder::PossibleValue>| {
            value.map_or(String::new(), |it| it.get_name().to_owned())
        };
        list("tests", self.tests.iter().map(|test| value(test.to_possible_value())).collect());
        list("peers", self.peers.clone());
        list("without", self.without.clone());
        list("profile", self.profile.iter().map(|profile| profile.name().to_owned()).collect());
        for (flag, on) in [("--no-offload", self.no_offload), ("--relay", self.relay)] {
            if on {
                words.push(flag.to_owned());
            }
        }
        if !self.profile.is_empty() {
            words.push(format!("--rate {}", self.rate));
        }
        words.extend(self.threads.iter().map(|threads| format!("--threads {threads}")));
        words.extend(self.cipher.iter().map(|cipher| format!("--cipher {cipher}")));
        words.extend(self.set.iter().map(|set| format!("--set '{set}'")));
        for (name, set) in [
            ("udp-secs", (self.udp_secs != 0.4).then(|| self.udp_secs.to_string())),
            ("udp-loss", (self.udp_loss != 0.1).then(|| self.udp_loss.to_string())),
            ("pings", (self.pings != 200).then(|| self.pings.to_string())),
            ("wait-quiet", (self.wait_quiet != 0).then(|| self.wait_quiet.to_string())),
            ("quiet", (self.wait_quiet != 0 && self.quiet != 0.1).then(|| self.quiet.to_string())),
            ("seed", (self.seed != 1).then(|| self.seed.to_string())),
        ] {
            words.extend(set.map(|value| format!("--{name} {value}")));
        }
        words.push("--write".to_owned());
        words.join(" ")
    }
}

/// Adds a peer, in the place of one with the same name.
fn add(all: &mut Vec<Box<dyn Peer>>, peer: Byway) {
    all.retain(|known| known.name() != peer.name());
    // Beside the others of its kind.
    let place = all.iter().rposition(|known| known.name().starts_with("byway")).map_or(0, |place| place + 1);
    all.insert(place, Box::new(peer));
}

/// What a kind of run is about.
fn suitable(kind: Kind) -> &'static [Test] {
    match kind {
        Kind::Direct => Test::value_variants(),
        Kind::NoOffload => &[Test::Tcp1, Test::Reverse, Test::Tcp4],
        Kind::Wire => &[Test::Tcp1],
        Kind::Relay => &[Test::Rtt, Test::Tcp1, Test::Tcp4],
    }
}

/// One row, on one line.
fn line(row: &Row) -> String {
    let show = |name: &str, key: &str, digits: usize| {
        row.samples.get(key).map(|value| format!(" {name} {value:.digits$}")).unwrap_or_default()
    };
    let samples = [
        show("tcp1", measure::TCP1, 0),
        show("tcp4", measure::TCP4, 0),
        show("cpu/GB", measure::CPU, 2),
        show("rtt", measure::RTT, 0),
        show("loaded", measure::LOADED, 0),
        show("udp256", measure::UDP256, 0),
        show("others", measure::OTHERS, 2),
    ];
    let failed: String = row.failed.iter().map(|(what, why)| format!(" FAILED {what}: {why}")).collect();
    format!(
        "turn {} {} {} hosts {}:{}{failed}",
        row.repetition + 1,
        row.peer,
        row.hosts,
        row.profile,
        samples.concat()
    )
}
