//! The comparison as Markdown.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use byway_sim::Kind;

use super::{Arguments, Figure, Measure, Protocol};

/// The section that is written.
const HEADING: &str = "## Comparison";
const PICTURE: &str = "routing-comparison.svg";

/// A table for networks of `nodes` nodes, with a line for each topology and protocol.
pub(super) fn table(nodes: usize, figures: &[Figure]) -> String {
    let mut table = String::from("| topology | protocol |");
    for measure in Measure::ALL {
        let _ = write!(table, " {} |", measure.title());
    }
    table.push_str("\n|---|---|");
    table.push_str(&"---:|".repeat(Measure::ALL.len()));
    table.push('\n');
    for kind in Kind::ALL {
        for protocol in Protocol::ALL {
            let of = |measure: Measure| {
                let fits = |figure: &&Figure| {
                    (figure.nodes, figure.topology, figure.protocol, figure.measure)
                        == (nodes, kind.name(), protocol, measure)
                };
                figures.iter().find(fits)
            };
            if Measure::ALL.into_iter().all(|measure| of(measure).is_none()) {
                continue;
            }
            let _ = write!(table, "| {} | {} |", kind.name(), protocol.name());
            for measure in Measure::ALL {
                match of(measure) {
                    Some(figure) => {
                        let digits = measure.digits();
                        let _ = write!(table, " {:.digits$} ± {:.digits$} |", figure.mean, figure.spread);
                    }
                    None => table.push_str(" – |"),
                }
            }
            table.push('\n');
        }
    }
    table
}

/// Puts the section into docs/routing.md, and the picture beside it.
pub(super) fn write(arguments: &Arguments, figures: &[Figure], picture: &str) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let path = docs.join("routing.md");
    let page = std::fs::read_to_string(&path).unwrap_or_default();
    let page = with_section(&page, &section(arguments, figures));
    std::fs::write(&path, page).with_context(|| format!("{} not written", path.display()))?;
    let path = docs.join(PICTURE);
    std::fs::write(&path, picture).with_context(|| format!("{} not written", path.display()))
}

/// The page with this section in the place of the old one, or at the end.
fn with_section(page: &str, section: &str) -> String {
    let start = page.find(HEADING).unwrap_or(page.len());
    let rest = page[start..].get(HEADING.len()..).unwrap_or_default();
    let end = rest.find("\n## ").map_or(page.len(), |at| start + HEADING.len() + at + 1);
    let before = page[..start].trim_end();
    let gap = if before.is_empty() { "" } else { "\n\n" };
    let after = if end < page.len() { format!("\n{}", &page[end..]) } else { String::new() };
    format!("{before}{gap}{section}{after}")
}

fn section(arguments: &Arguments, figures: &[Figure]) -> String {
    let Arguments { nodes, seed, seeds, .. } = arguments;
    let last = seed + seeds.saturating_sub(1);
    let sizes: Vec<String> = nodes.iter().map(usize::to_string).collect();
    let sizes = sizes.join(",");
    let mut section = format!(
        "{HEADING}\n\n\
         Grove beside a plain spanning tree with Bloom filters (a model of what Yggdrasil 0.5 is described to do, in \
         `pkg/sim/src/models`) and, up to the 200 nodes that it is made for, beside beacon. All on the same worlds, seeds {seed} to \
         {last}, mean ± standard deviation; made by `cargo xtask sim compare --nodes {sizes} --seed {seed} --seeds {seeds} --write`.\n\n\
         - *First frame*: the latency of the way that the first payload of a conversation took ÷ that of the shortest; *settled*: the \
         same after nine payloads in as many seconds. 100 conversations between random nodes, in both directions; p99 over these.\n\
         - *Repair*: 5 % of the nodes die at once; from the moment at which their neighbours notice (1 s later) until the last of all \
         conversations whose ends still have a way goes on for good (at most 44 s are waited). *Kept*: of their payloads, five per second, \
         those that arrived of what was sent in the first 10 s, the second of not noticing included.\n\
         - *Idle*: bytes that a node sends per second when nothing happens, over 250 s; *repairing*: in the 30 s after the deaths, without \
         the payloads.\n\
         - *Lookup*: frames that ask for a node or tell where it is, for each direction of a new conversation.\n"
    );
    for nodes in nodes {
        let _ = write!(section, "\n{nodes} nodes:\n\n{}", table(*nodes, figures));
    }
    let _ = write!(section, "\n![The figures of the largest networks as bars]({PICTURE})\n");
    section
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_takes_the_place_of_the_old_one_and_leaves_the_others_alone() {
        let new = "## Comparison\n\nnew\n";
        assert_eq!(with_section("", new), new);
        assert_eq!(with_section("# Routing\n\nWords.\n", new), format!("# Routing\n\nWords.\n\n{new}"));
        let page = "# Routing\n\n## Comparison\n\nold\n\n## Goals\n\nGoals.\n";
        let written = with_section(page, new);
        assert_eq!(written, "# Routing\n\n## Comparison\n\nnew\n\n## Goals\n\nGoals.\n");
        assert_eq!(with_section(&written, new), written);
    }
}
