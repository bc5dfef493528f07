//! Each external dependency is declared once, used, and explained in `docs/dependencies.md`.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use toml_edit::DocumentMut;

use crate::command;

/// Checks the workspace; how many external dependencies it has.
pub(crate) fn check() -> Result<usize> {
    let read = |name: &str| {
        std::fs::read_to_string(command::root().join(name)).with_context(|| format!("{name} cannot be read"))
    };
    let declared = declared(&read("Cargo.toml")?)?;
    let explained = explained(&read("docs/dependencies.md")?);
    let mut faults: Vec<_> = declared
        .difference(&explained)
        .map(|name| format!("{name} is a dependency, but docs/dependencies.md does not say why"))
        .chain(
            explained
                .difference(&declared)
                .map(|name| format!("docs/dependencies.md explains {name}, which is no dependency")),
        )
        .collect();

    let mut used = BTreeSet::new();
    let members = command::output(command::program("git").args(["ls-files", "*Cargo.toml"]))?;
    for member in members.lines().filter(|name| *name != "Cargo.toml") {
        let named = used_by(&read(member)?).with_context(|| member.to_owned())?;
        let sources = sources(member.trim_end_matches("Cargo.toml"))?;
        faults.extend(
            named
                .iter()
                .filter(|name| !mentions(&sources, &name.replace('-', "_")))
                .map(|name| format!("{member} names {name}, and no source beside it does")),
        );
        used.extend(named);
    }
    faults.extend(declared.difference(&used).map(|name| format!("{name} is declared, but no crate uses it")));
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(declared.len())
}

/// All Rust sources that git tracks in `folder`, one after the other.
fn sources(folder: &str) -> Result<String> {
    let files = command::output(command::program("git").args(["ls-files", "--", &format!("{folder}*.rs")]))?;
    let mut sources = String::new();
    for file in files.lines() {
        // A file that was just removed has no words.
        sources += &std::fs::read_to_string(command::root().join(file)).unwrap_or_default();
    }
    Ok(sources)
}

/// Whether `word` stands in `text` as a whole word.
fn mentions(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(start, _)| {
        !text[..start].ends_with(is_part) && !text[start + word.len()..].starts_with(is_part)
    })
}

/// Names in `[workspace.dependencies]` that are not our own.
fn declared(manifest: &str) -> Result<BTreeSet<String>> {
    let manifest: DocumentMut = manifest.parse()?;
    let table =
        manifest["workspace"]["dependencies"].as_table_like().context("no [workspace.dependencies]")?;
    Ok(table.iter().filter(|(_, item)| item.get("path").is_none()).map(|(name, _)| name.to_owned()).collect())
}

/// Names that a member's manifest uses.
fn used_by(manifest: &str) -> Result<BTreeSet<String>> {
    let manifest: DocumentMut = manifest.parse()?;
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let mut tables: Vec<_> = kinds.iter().filter_map(|kind| manifest.get(kind)).collect();
    if let Some(targets) = manifest.get("target").and_then(|targets| targets.as_table_like()) {
        for (_, target) in targets.iter() {
            tables.extend(kinds.iter().filter_map(|kind| target.get(kind)));
        }
    }
    Ok(tables
        .iter()
        .filter_map(|table| table.as_table_like())
        .flat_map(|table| table.iter().map(|(name, _)| name.to_owned()))
        .collect())
}

/// Names in the first column of the tables of a Markdown text.
fn explained(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn names_are_found_where_they_stand() {
        let root = "[workspace.dependencies]\nours = { path = \"pkg/ours\" }\nbytes = \"1\"\nserde = { version = \"1\" }\n";
        assert_eq!(declared(root).unwrap(), BTreeSet::from(["bytes".into(), "serde".into()]));
        let member = "[dependencies]\nbytes.workspace = true\n[dev-dependencies]\nserde = { workspace = true }\n\
                      [target.'cfg(unix)'.dependencies]\nlibc.workspace = true\n";
        let expected = BTreeSet::from(["bytes".into(), "serde".into(), "libc".into()]);
        assert_eq!(used_by(member).unwrap(), expected);
        let text = "| crate | why |\n|---|---|\n| `bytes` | shared buffers |\n";
        assert_eq!(explained(text), BTreeSet::from(["bytes".into()]));
    }

    #[test]
    fn only_whole_words_count() {
        assert!(mentions("use quinn::Endpoint;", "quinn"));
        assert!(!mentions("use quinn_udp::Socket;", "quinn") && !mentions("my_quinn", "quinn"));
    }
}
