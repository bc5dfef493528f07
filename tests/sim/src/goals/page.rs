//! The table of goals, on the terminal and in `docs/routing.md`.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use crate::goals::{Arguments, Figure, Goal};
use crate::memory;

/// Goals as rows, networks as columns; in each field the value and, after a stroke, the bound.
pub(super) fn table(figures: &[Figure]) -> String {
    let mut goals: Vec<Goal> = figures.iter().map(|figure| figure.goal).collect();
    goals.sort_unstable();
    goals.dedup();
    let mut networks: Vec<&str> = Vec::new();
    for figure in figures {
        if !networks.contains(&figure.topology.as_str()) {
            networks.push(&figure.topology);
        }
    }
    let head =
        std::iter::once("goal".to_owned()).chain(networks.iter().map(|name| (*name).to_owned())).collect();
    let mut rows: Vec<Vec<String>> = vec![head];
    for goal in goals {
        let field = |name: &&str| {
            let found = figures.iter().find(|figure| figure.goal == goal && figure.topology == **name);
            found.map_or_else(|| "–".to_owned(), field)
        };
        rows.push(std::iter::once(goal.words().to_owned()).chain(networks.iter().map(field)).collect());
    }
    aligned(&rows)
}

fn field(figure: &Figure) -> String {
    let value = number(figure.value, figure.goal);
    match figure.bound {
        None => value,
        Some(bound) => {
            let missed = if figure.ok { "" } else { " **missed**" };
            format!("{value} / {}{missed}", number(bound, figure.goal))
        }
    }
}

fn number(value: f64, goal: Goal) -> String {
    match goal.unit() {
        "ratio" => format!("{value:.3}"),
        "share" => format!("{:.1} %", value * 100.0),
        "s" => format!("{value:.2} s"),
        "B/s" => format!("{value:.0} B/s"),
        "B" => format!("{:.0} KiB", value / 1_024.0),
        _ => format!("{value:.1}"),
    }
}

/// A table in Markdown, whose columns are as wide as their widest field.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (field, width) in row.iter().zip(&widths) {
            let room = width - field.chars().count();
            text += &format!("| {field}{} ", " ".repeat(room));
        }
        text += "|\n";
        if number == 0 {
            for width in &widths {
                text += &format!("|{}", "-".repeat(width + 2));
            }
            text += "|\n";
        }
    }
    text
}

/// Writes the section for this number of nodes into docs/routing.md, and the figures as JSON beside it.
pub(super) fn write(arguments: &Arguments, figures: &[Figure], took: Duration) -> Result<()> {
    let docs = docs()?;
    let folder = docs.join("routing");
    std::fs::create_dir_all(&folder)?;
    let json = serde_json::to_string_pretty(figures)?;
    std::fs::write(folder.join(format!("goals-{}.json", arguments.nodes)), json + "\n")?;

    let page = docs.join("routing.md");
    let text = std::fs::read_to_string(&page).unwrap_or_default();
    let title = format!("### Goals at {} nodes", thousands(arguments.nodes));
    let peak = memory::peak().map_or_else(|| "unknown".to_owned(), |peak| format!("{} MB", peak >> 20));
    let missed = figures.iter().filter(|figure| !figure.ok).count();
    let body = format!(
        "`cargo xtask sim goals --nodes {} --topology {} --seed {} --jobs {}`, {}, on {}: {:.1} min, at most {peak} of memory, \
         {missed} bounds missed. Value / bound.\n\n{}",
        arguments.nodes,
        arguments.topology,
        arguments.seed,
        arguments.jobs,
        today(),
        machine(),
        took.as_secs_f64() / 60.0,
        table(figures),
    );
    std::fs::write(&page, with_section(&text, &title, &body))?;
    Ok(())
}

/// `text` with `body` below the heading `title`, instead of what stood there, or at its end.
fn with_section(text: &str, title: &str, body: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let Some(at) = lines.iter().position(|line| line.trim_end() == title) else {
        let gap = if text.trim_end().is_empty() { "" } else { "\n\n" };
        return format!("{}{gap}{title}\n\n{}\n", text.trim_end(), body.trim_end());
    };
    let end = lines[at + 1..]
        .iter()
        .position(|line| line.starts_with('#'))
        .map_or(lines.len(), |more| at + 1 + more);
    let before = lines[..at].join("\n");
    let after = lines[end..].join("\n");
    let mut page = String::new();
    for part in [before.trim_end(), title, body.trim_end(), after.trim_end()] {
        if !part.is_empty() {
            if !page.is_empty() {
                page += "\n\n";
            }
            page += part;
        }
    }
    page + "\n"
}

/// The folder of the documents: below the folder that the program is run in.
fn docs() -> Result<PathBuf> {
    let docs = Path::new("docs");
    docs.is_dir()
        .then(|| docs.to_owned())
        .context("there is no folder docs here: run it from the root of the workspace")
}

fn thousands(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

/// What the machine calls its processors, and how many there are.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, name)| name.trim());
    let count = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{count} cores of {model}")
}

/// The day in UTC, as year-month-day.
fn today() -> String {
    let days =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs() / 86_400);
    // Days since 1 March of the year 0, so that a leap day is a year's last one.
    let days = days as i64 + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let rest = day - (365 * year + year / 4 - year / 100);
    let month = (5 * rest + 2) / 153;
    let date = rest - (153 * month + 2) / 5 + 1;
    let (month, later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{date:02}", year + era * 400 + later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_nothing_else() {
        let page = "# Routing\n\nWords.\n\n### Goals at 1,000 nodes\n\nold\n\n## Comparison\n\nkept\n";
        let written = with_section(page, "### Goals at 1,000 nodes", "new\n");
        assert_eq!(
            written,
            "# Routing\n\nWords.\n\n### Goals at 1,000 nodes\n\nnew\n\n## Comparison\n\nkept\n"
        );
        assert_eq!(with_section(&written, "### Goals at 1,000 nodes", "new\n"), written);
        let added = with_section(page, "### Goals at 10,000 nodes", "more");
        assert!(added.starts_with(page.trim_end()) && added.ends_with("### Goals at 10,000 nodes\n\nmore\n"));
        assert_eq!(with_section("", "# A", "b"), "# A\n\nb\n");
    }

    #[test]
    fn a_table_has_a_field_for_each_goal_and_network() {
        let figure = |goal: Goal, topology: &str, value, ok| Figure {
            goal,
            topology: topology.into(),
            nodes: 1_000,
            seed: 1,
            value,
            bound: Some(2.0),
            ok,
            unit: goal.unit(),
        };
        let figures =
            [figure(Goal::ColdStart, "rgg", 0.5, true), figure(Goal::FirstFrameMean, "grid", 2.5, false)];
        let table = table(&figures);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[2].contains("| – ") && lines[2].contains("2.500 / 2.000 **missed**"), "{table}");
        assert!(lines[3].contains("0.50 s / 2.00 s"), "{table}");
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{table}");
    }
}
