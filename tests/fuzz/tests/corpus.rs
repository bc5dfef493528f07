//! The corpus, and seeded mutations of it, through every target.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use byway_fuzz::TARGETS;
use byway_identity::{Entropy, SeededEntropy};

/// One test for each target, with how many mutations it tries: fewer where a run takes long.
macro_rules! targets {
    ($($name:ident: $mutations:expr,)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(
            mod $name {
                #[test]
                fn survives_its_corpus_and_mutations_of_it() {
                    super::survives(stringify!($name), $mutations);
                }
            }
        )*
    };
}

targets! {
    addr_text: 5_000,
    api_bodies: 5_000,
    batch_frames: 5_000,
    beacon_frames: 1_000,
    beacon_world: 300,
    config_text: 2_000,
    endpoint_text: 5_000,
    fast_queue: 2_000,
    fast_reads: 2_000,
    fast_trains: 2_000,
    grove_frames: 600,
    grove_world: 150,
    inet256_frames: 5_000,
    ipv6_range_text: 5_000,
    key_file: 2_000,
    link_events: 1_000,
    link_peer: 300,
    node_core: 200,
    portal_core: 3_000,
    portal_packet: 5_000,
    private_key: 3_000,
    public_key: 5_000,
    rule_text: 5_000,
    session_end_hostile: 300,
    session_end_pair: 300,
    session_end_strangers: 1_000,
    session_link_hostile: 300,
    session_link_pair: 300,
    session_link_strangers: 1_000,
    session_record: 500,
    wire_reader: 5_000,
}

#[test]
fn every_target_is_tested_here_and_given_to_libfuzzer_and_has_seeds() {
    let known: BTreeSet<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(known, NAMES.iter().copied().collect(), "tested here");
    let manifest = fs::read_to_string(folder("libfuzzer/Cargo.toml")).expect("a manifest");
    let given: BTreeSet<_> = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("path = \"targets/")?.strip_suffix(".rs\""))
        .collect();
    assert_eq!(known, given, "given to libFuzzer");
    for name in known {
        let source = fs::read_to_string(folder(&format!("libfuzzer/targets/{name}.rs"))).expect(name);
        assert!(source.contains(&format!("::{name}(")), "{name}.rs calls another target");
        assert!(!corpus(name).is_empty(), "{name} has no seeds");
    }
}

fn survives(name: &str, mutations: u64) {
    let (_, target) = TARGETS.iter().find(|(known, _)| *known == name).expect(name);
    let run = |what: &dyn Fn() -> String, bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| target(bytes))).is_err() {
            panic!("{name} fails for {}: {}", what(), hex::encode(bytes));
        }
    };
    let corpus = corpus(name);
    for (file, bytes) in &corpus {
        run(&|| file.display().to_string(), bytes);
    }
    for seed in 0..mutations {
        let mut entropy = SeededEntropy::new(seed);
        let bytes = mutate(&corpus, &mut entropy);
        run(&|| format!("seed {seed}"), &bytes);
    }
}

/// Some file of the corpus after a few of the things that fuzzers do, or nothing but noise.
fn mutate(corpus: &[(PathBuf, Vec<u8>)], entropy: &mut SeededEntropy) -> Vec<u8> {
    let pick = |entropy: &mut SeededEntropy| corpus[entropy.below(corpus.len() as u64) as usize].1.clone();
    let mut bytes = if entropy.below(16) == 0 {
        let mut noise = vec![0; entropy.below(512) as usize];
        entropy.fill(&mut noise);
        noise
    } else {
        pick(entropy)
    };
    for _ in 0..=entropy.below(6) {
        let at = entropy.below(bytes.len() as u64 + 1) as usize;
        let to = at + entropy.below((bytes.len() - at) as u64 + 1) as usize;
        match entropy.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << entropy.below(8),
            1 if at < bytes.len() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][entropy.below(5) as usize],
            2 => drop(bytes.drain(at..to.min(at + 32))),
            3 => bytes.truncate(at),
            4 => {
                let mut noise = vec![0; entropy.below(16) as usize];
                entropy.fill(&mut noise);
                bytes.splice(at..at, noise);
            }
            5 => {
                let again = bytes[at..to].to_vec();
                bytes.splice(at..at, again);
            }
            _ => {
                let other = pick(entropy);
                let from = entropy.below(other.len() as u64 + 1) as usize;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
        bytes.truncate(64 * 1024);
    }
    bytes
}

/// The files of a target, in the order of their names.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder(&format!("corpus/{name}")))
        .expect(name)
        .map(|entry| entry.expect(name).path())
        .map(|path| (path.clone(), fs::read(path).expect(name)))
        .collect();
    files.sort();
    files
}

fn folder(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}
