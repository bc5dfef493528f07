//! Mycelium, over TCP links. It is in no registry: measured where a program of that name is at hand.

use anyhow::{Context, Result};
use byway_identity::{Entropy, OsEntropy};

use super::{Node, Peer, Place, Programs, Step, text};
use crate::side::bed::Bed;

/// See the module.
pub(super) struct Mycelium;

impl Peer for Mycelium {
    fn name(&self) -> &str {
        "mycelium"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["mycelium"]
    }

    fn version(&self, programs: &Programs) -> Result<String> {
        programs.word("mycelium", &["--version"], "mycelium", Place::Last)
    }

    fn mtu(&self) -> Option<u32> {
        Some(1400)
    }

    fn relays(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed, programs: &Programs) -> Result<Vec<Node>> {
        let program = programs.need("mycelium")?;
        let mut nodes = Vec::new();
        for (index, host) in bed.hosts.iter().enumerate() {
            let mut key = [0; 32];
            OsEntropy.fill(&mut key);
            let file = text(&host.path("mycelium.key"));
            std::fs::write(&file, key)?;
            let told = programs.output("mycelium", &["--key-file", &file, "inspect", "--json"])?;
            let told: serde_json::Value = serde_json::from_str(&told)?;
            let address = told["address"].as_str().context("mycelium tells no address")?.to_owned();
            let mut arguments: Vec<String> = [
                "--silent",
                "--key-file",
                &file,
                "--tun-name",
                "mycelium0",
                "--disable-peer-discovery",
                "--disable-quic",
                "--api-addr",
                "127.0.0.1:8989",
                "--jsonrpc-addr",
                "127.0.0.1:8990",
            ]
            .map(str::to_owned)
            .into();
            let dialled: Vec<_> =
                bed.neighbours(index).into_iter().filter(|neighbour| neighbour.dial).collect();
            if !dialled.is_empty() {
                arguments.push("--peers".into());
                arguments.extend(dialled.iter().map(|neighbour| format!("tcp://{}:9651", neighbour.theirs)));
            }
            nodes.push(Node { address, start: vec![Step::daemon(&program, arguments)], settle: Vec::new() });
        }
        Ok(nodes)
    }
}
