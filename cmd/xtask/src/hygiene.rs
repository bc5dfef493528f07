//! What no file of the repository may hold.

use std::path::Path;

use anyhow::{Result, bail};

use crate::command;

/// Most bytes of one file.
const LONGEST: u64 = 1024 * 1024;

/// Texts that belong to one person's machine, or to a merge that was not finished. Written in two halves, so that this file
/// passes its own check.
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/ho", "me/"), "a folder of one machine"),
    (concat!("/ro", "ot/"), "a folder of one machine"),
    (concat!("/Us", "ers/"), "a folder of one machine"),
    (concat!("<<<<", "<<< "), "an unfinished merge"),
    (concat!(">>>>", ">>> "), "an unfinished merge"),
    (concat!("file", ":///"), "a link to one machine"),
];

/// Users that exist in examples only.
const EXAMPLES: &[&str] = &["ann", "bob", "user"];

/// Checks every file that git tracks; how many there are.
pub(crate) fn check() -> Result<usize> {
    let listing = command::output(command::program("git").args(["ls-files", "-z"]))?;
    let files: Vec<_> = listing.split('\0').filter(|name| !name.is_empty()).collect();
    let mut faults = Vec::new();
    for name in &files {
        let path = command::root().join(name);
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if !metadata.is_file() {
            continue;
        }
        if metadata.len() > LONGEST {
            faults.push(format!("{name}: {} bytes; the longest allowed is {LONGEST}", metadata.len()));
            continue;
        }
        faults.extend(faults_of(Path::new(name), &std::fs::read(&path)?));
    }
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    Ok(files.len())
}

/// What is wrong with a file's content, one text for each fault.
fn faults_of(name: &Path, content: &[u8]) -> Vec<String> {
    // Binary files (vectors, corpora) have no words.
    let Ok(text) = std::str::from_utf8(content) else { return Vec::new() };
    let name = name.display();
    let mut faults = Vec::new();
    for (index, line) in text.lines().enumerate() {
        for (word, what) in FORBIDDEN {
            let is_example = |rest: &str| {
                let end = rest.find(|character: char| !character.is_alphanumeric()).unwrap_or(rest.len());
                EXAMPLES.contains(&&rest[..end])
            };
            if !line.split(word).skip(1).all(is_example) {
                faults.push(format!("{name}:{}: {word:?} is {what}", index + 1));
            }
        }
    }
    faults
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_path_of_one_machine_is_found_with_its_line() {
        let text = format!("first\nkey = {}somebody/key.pem\n", FORBIDDEN[0].0);
        let faults = faults_of(Path::new("a.toml"), text.as_bytes());
        assert_eq!(faults.len(), 1);
        assert!(faults[0].starts_with("a.toml:2: "), "{}", faults[0]);
    }

    #[test]
    fn ordinary_text_and_binary_files_pass() {
        let example = format!("fn main() {{}}\n// {}ann/.config\n", FORBIDDEN[0].0);
        assert!(faults_of(Path::new("a.rs"), example.as_bytes()).is_empty());
        assert!(faults_of(Path::new("a.bin"), &[0xff, 0xfe, b'/', b'h']).is_empty());
    }
}
