//! `docs/benchmarks.md`: sections that are written one by one, from campaigns that are kept beside it as JSON.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::side::goals::{Goal, goals};
use crate::side::measure::{self, Column};
use crate::side::peer::RAW;
use crate::side::plot;
use crate::side::record::{Campaign, Kind, Row, median};

/// The page, as sections with titles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    preamble: String,
    sections: Vec<(String, String)>,
}

/// Where the page is, from the root of the workspace.
const PAGE: &str = "docs/benchmarks.md";
/// Where its data and its plots are.
const FOLDER: &str = "docs/benchmarks";

const PREAMBLE: &str = "# Benchmarks\n\nWritten by `cargo xtask bench`, one section at a time; every sample is in [`benchmarks/`](benchmarks). \
    How to run them: [testing.md](testing.md#benchmarks).\n";

/// Titles in the order of the page; others follow.
const ORDER: [&str; 7] = [
    "Goals",
    "Peers side by side",
    "Without offloads",
    "Wires with faults",
    "Through a relay",
    "Messages",
    "Byte streams",
];

impl Page {
    /// The page as it is; an empty one if there is none.
    pub fn read() -> Result<Self> {
        match std::fs::read_to_string(PAGE) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::parse("")),
            Err(error) => Err(error).context(PAGE),
        }
    }

    /// Puts a section in its place, or replaces it.
    pub fn put(&mut self, title: &str, body: &str) {
        let body = format!("{}\n", body.trim());
        match self.sections.iter_mut().find(|(known, _)| known == title) {
            Some((_, old)) => *old = body,
            None => self.sections.push((title.to_owned(), body)),
        }
        let place = |title: &str| ORDER.iter().position(|known| *known == title).unwrap_or(ORDER.len());
        self.sections.sort_by_key(|(title, _)| place(title));
    }

    /// Writes it.
    pub fn write(&self) -> Result<()> {
        std::fs::write(PAGE, self.text()).context(PAGE)
    }

    fn parse(text: &str) -> Self {
        let mut sections = Vec::new();
        for part in text.split("\n## ").skip(1) {
            let (title, body) = part.split_once('\n').unwrap_or((part, ""));
            sections.push((title.trim().to_owned(), format!("{}\n", body.trim())));
        }
        Self { preamble: PREAMBLE.to_owned(), sections }
    }

    fn text(&self) -> String {
        let sections = self.sections.iter().map(|(title, body)| format!("\n## {title}\n\n{body}"));
        self.preamble.clone() + &sections.collect::<String>()
    }
}

/// Keeps a campaign, and writes the sections that depend on it.
pub fn write(campaign: &Campaign) -> Result<()> {
    std::fs::create_dir_all(FOLDER).context(FOLDER)?;
    std::fs::write(file(campaign.kind), json(campaign)? + "\n")?;
    let kept =
        Kind::ALL.into_iter().filter_map(|kind| read(&file(kind)).transpose()).collect::<Result<Vec<_>>>()?;
    let mut page = Page::read()?;
    page.put("Goals", &goals_section(&goals(&kept)));
    for campaign in &kept {
        let (title, body) = section(campaign);
        page.put(title, &body);
        if let Some(svg) = plot::campaign(campaign) {
            std::fs::write(plot_file(campaign.kind), svg)?;
        }
    }
    page.write()
}

/// A campaign as JSON, one row a line.
pub fn json(campaign: &Campaign) -> Result<String> {
    let rows = campaign.rows.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
    let head = serde_json::to_string_pretty(&Campaign { rows: Vec::new(), ..campaign.clone() })?;
    Ok(head.replace("\"rows\": []", &format!("\"rows\": [\n    {}\n  ]", rows.join(",\n    "))))
}

/// A campaign that was kept, if there is one.
pub fn read(file: &Path) -> Result<Option<Campaign>> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Some(serde_json::from_str(&text).with_context(|| file.display().to_string())?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| file.display().to_string()),
    }
}

fn file(kind: Kind) -> PathBuf {
    Path::new(FOLDER).join(format!("{}.json", kind.name()))
}

fn plot_file(kind: Kind) -> PathBuf {
    Path::new(FOLDER).join(format!("{}.svg", kind.name()))
}

/// The section of a campaign: its title, and what is below it.
pub fn section(campaign: &Campaign) -> (&'static str, String) {
    let peers: Vec<&str> = campaign.peers();
    let (title, mut text) = match campaign.kind {
        Kind::Direct => ("Peers side by side", "Two hosts, joined by a veth pair with an MTU of 1500.\n\n".to_owned()),
        Kind::NoOffload => (
            "Without offloads",
            "The same with TSO, GSO and GRO of the veth pair off, which is closer to a real network card: a batch that crosses it is \
             cut up first.\n\n"
                .to_owned(),
        ),
        Kind::Wire => ("Wires with faults", wire_words(campaign)),
        Kind::Relay => (
            "Through a relay",
            "Hosts A–B–C in a line, where the kernel forwards nothing: B's daemon carries everything. Beside it, the same peer between two \
             hosts, in the same run.\n\n"
                .to_owned(),
        ),
    };
    text += &provenance(campaign);
    if plot::campaign(campaign).is_some() {
        let name = campaign.kind.name();
        let _ = write!(text, "![{title}](benchmarks/{name}.svg)\n\n");
    }
    match campaign.kind {
        Kind::Direct | Kind::NoOffload => {
            text += &table(campaign, &peers, 2, "", measure::THROUGHPUT);
            text += &table(campaign, &peers, 2, "", measure::SMALL);
        }
        Kind::Wire => text += &shares(campaign, &peers),
        Kind::Relay => {
            text += &table(campaign, &peers, 3, "", measure::RELAYED);
            text += &relay_shares(campaign, &peers);
        }
    }
    text += &encryption(campaign);
    text += &failures(campaign);
    (title, text)
}

fn wire_words(campaign: &Campaign) -> String {
    let rate = campaign.wire_rate.unwrap_or(0) / 1_000_000;
    format!(
        "Two hosts, joined by a process that carries frames at {rate} Mbit/s with room for 20 ms (`wire` in `tests/netns`). TCP with one \
         connection; each column but the first tells what share of the clean wire's throughput is kept. `loss025`: 0.25 % lost, 0.5 % put 1 ms behind. `loss1`: \
         1 % lost. `delay30`: 30 ms later, each way.\n\n"
    )
}

fn provenance(campaign: &Campaign) -> String {
    let machine = &campaign.machine;
    let tools: Vec<_> = machine.tools.values().map(String::as_str).collect();
    format!(
        "{}, {} cores, {} MiB, Linux {}; TCP: {}; {}. {}, medians of {} turns, {} s of each TCP measurement, {:.0} min in all.\n\n\
         ```sh\n{}\n```\n\n",
        machine.processor,
        machine.cores,
        machine.memory,
        machine.kernel,
        campaign.congestion,
        tools.join("; "),
        campaign.began,
        campaign.repetitions,
        campaign.tcp_seconds,
        campaign.seconds / 60.0,
        campaign.command,
    )
}

/// A table of medians; columns that nobody has are left out.
fn table(campaign: &Campaign, peers: &[&str], hosts: usize, profile: &str, columns: &[Column]) -> String {
    let value = |peer: &str, key: &str| campaign.median(peer, hosts, profile, key);
    let columns: Vec<_> =
        columns.iter().filter(|column| peers.iter().any(|peer| value(peer, column.key).is_some())).collect();
    if columns.is_empty() {
        return String::new();
    }
    let mut text = "| peer | version | MTU |".to_owned();
    for column in &columns {
        let _ = write!(text, " {} |", column.title);
    }
    text += "\n|---|---|---:|";
    text += &"---:|".repeat(columns.len());
    text += "\n";
    for peer in peers {
        let Some(row) = campaign.rows.iter().find(|row| row.peer == *peer && row.hosts == hosts) else {
            continue;
        };
        let mtu = campaign.rows.iter().filter(|row| row.peer == *peer).find_map(|row| row.mtu);
        let mtu = mtu.map_or_else(|| "–".to_owned(), |mtu| mtu.to_string());
        let _ = write!(text, "| {peer} | {} | {mtu} |", version(row));
        for column in &columns {
            let limited = sender_limit(campaign, peer, column.key);
            let shown = match value(peer, column.key) {
                // The kernel has no daemons that could use anything.
                Some(_) if *peer == RAW && (column.key.contains("cpu") || column.key == measure::MEMORY) => {
                    "–".into()
                }
                value => number(value, column.digits),
            };
            let _ = write!(text, " {shown}{limited} |");
        }
        text += "\n";
    }
    text + "\n"
}

/// The version, with the cipher if that is known.
fn version(row: &Row) -> String {
    let cipher = row.in_use.as_ref().map(|cipher| format!(", {cipher}")).unwrap_or_default();
    format!("{}{cipher}", row.version)
}

/// A mark where the sender, and not the peer, was the limit in most turns.
fn sender_limit(campaign: &Campaign, peer: &str, key: &str) -> &'static str {
    let flag = match key {
        measure::UDP256 => measure::UDP256_SENDER,
        measure::UDP1200 => measure::UDP1200_SENDER,
        _ => return "",
    };
    let limited = campaign.median(peer, 2, "", flag).is_some_and(|share| share >= 0.5);
    if limited { " (all that the sender can)" } else { "" }
}

/// What is kept of the clean wire's throughput.
fn shares(campaign: &Campaign, peers: &[&str]) -> String {
    let profiles = ["loss025", "loss1", "delay30"];
    let mut text =
        "| peer | version | clean, Mbit/s | loss025 | loss1 | delay30 |\n|---|---|---:|---:|---:|---:|\n"
            .to_owned();
    for peer in peers {
        let version = campaign.rows.iter().find(|row| row.peer == *peer).map_or_else(String::new, version);
        let clean = campaign.median(peer, 2, "clean", measure::TCP1);
        let _ = write!(text, "| {peer} | {version} | {} |", number(clean, 0));
        for profile in profiles {
            let share = share(campaign, peer, profile);
            let _ = write!(text, " {} |", number(share, 2));
        }
        text += "\n";
    }
    text + "\n"
}

/// Median over turns of what a profile leaves of the clean wire's throughput in the same turn.
pub fn share(campaign: &Campaign, peer: &str, profile: &str) -> Option<f64> {
    let of = |profile: &str, repetition: u32| {
        let mut rows = campaign.rows.iter();
        let row =
            rows.find(|row| row.peer == peer && row.profile == profile && row.repetition == repetition)?;
        row.samples.get(measure::TCP1).copied()
    };
    let turns = 0..campaign.repetitions;
    let shares =
        turns.filter_map(|turn| Some(of(profile, turn)? / of("clean", turn)?.max(f64::MIN_POSITIVE)));
    median(shares.collect())
}

fn relay_shares(campaign: &Campaign, peers: &[&str]) -> String {
    let mut text = "| peer | direct, Mbit/s | relayed | share kept |\n|---|---:|---:|---:|\n".to_owned();
    for peer in peers {
        let direct = campaign.median(peer, 2, "", measure::TCP1);
        let relayed = campaign.median(peer, 3, "", measure::TCP1);
        let share = direct.zip(relayed).map(|(direct, relayed)| relayed / direct);
        let _ = writeln!(
            text,
            "| {peer} | {} | {} | {} |",
            number(direct, 0),
            number(relayed, 0),
            number(share, 2)
        );
    }
    text + "\n"
}

fn encryption(campaign: &Campaign) -> String {
    let mut text = String::new();
    for speed in &campaign.aead {
        let _ = writeln!(
            text,
            "- {} alone, {} bytes a message, one core: {:.2} s to seal and {:.2} s to open 10⁹ bytes.",
            speed.cipher, speed.size, speed.seal, speed.open
        );
    }
    text + "\n"
}

fn failures(campaign: &Campaign) -> String {
    let mut text = String::new();
    for row in &campaign.rows {
        for (what, why) in &row.failed {
            // A program's own words come last.
            let why = why.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().replace('|', "/");
            let _ = writeln!(
                text,
                "- {} failed in turn {} at {what} {}: {why}",
                row.peer,
                row.repetition + 1,
                row.profile
            );
        }
    }
    text
}

fn goals_section(goals: &[Goal]) -> String {
    let mut text = "What the fast path must reach, and what would be better still, from the campaigns below. Peers that are in no registry \
                    (mycelium, FIPS) count where they were at hand.\n\n\
                    | measure | value | must | stretch | verdict |\n|---|---:|---:|---:|---|\n"
        .to_owned();
    for goal in goals {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            goal.what,
            goal.shown(),
            goal.must.words(),
            goal.stretch.words(),
            goal.verdict()
        );
    }
    text
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
