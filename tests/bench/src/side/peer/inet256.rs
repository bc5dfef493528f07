//! INET256's reference with its IPv6 portal. Measured where a program of that name is at hand, whose portal runs on Linux: that of
//! no release does.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Node, Peer, Programs, Step, text};
use crate::side::bed::Bed;

/// See the module.
pub(super) struct Inet256;

impl Peer for Inet256 {
    fn name(&self) -> &str {
        "inet256"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["inet256"]
    }

    fn version(&self, _programs: &Programs) -> Result<String> {
        // It tells none.
        Ok("unknown".into())
    }

    fn mtu(&self) -> Option<u32> {
        Some(MTU)
    }

    fn relays(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed, programs: &Programs) -> Result<Vec<Node>> {
        let mut ids = Vec::new();
        let mut addresses = Vec::new();
        for host in &bed.hosts {
            let (key, portal) = (host.path("key"), host.path("portal.key"));
            for file in [&key, &portal] {
                std::fs::write(file, programs.output("inet256", &["keygen"])?)?;
            }
            ids.push(programs.output("inet256", &["addr", "--private-key", &text(&key)])?.trim().to_owned());
            let address = programs.output("inet256", &["ip6-addr", "--private-key", &text(&portal)])?;
            addresses.push(address.trim().to_owned());
        }
        let program = programs.need("inet256")?;
        let mut nodes = Vec::new();
        for (index, host) in bed.hosts.iter().enumerate() {
            let api = text(&host.path("api.sock"));
            let mut config = format!(
                "private_key_path: ./key\napi_endpoint: unix://{api}\nnetwork:\n    beaconnet: {{}}\n\
                 transports:\n    - udp: 0.0.0.0:9000\npeers:\n"
            );
            for neighbour in bed.neighbours(index) {
                let id = &ids[neighbour.index];
                writeln!(
                    config,
                    "    - id: {id}\n      addrs: [\"quic+udp://{id}@{}:9000\"]",
                    neighbour.theirs
                )?;
            }
            config += "discovery: []\n";
            let file = text(&host.path("config.yml"));
            std::fs::write(&file, config)?;
            let portal =
                Step::daemon(&program, ["ip6-portal", "--private-key", &text(&host.path("portal.key"))]);
            let start = vec![
                Step::daemon(&program, ["daemon", &format!("--config={file}")]),
                Step::Until(format!("test -S {api}")),
                portal.with("INET256_API", format!("unix://{api}")),
                Step::Shows("ip -6 -o addr show dev utun".into(), "scope global"),
                Step::Run(format!("ip link set utun mtu {MTU}")),
            ];
            nodes.push(Node { address: addresses[index].clone(), start, settle: Vec::new() });
        }
        Ok(nodes)
    }
}

const MTU: u32 = 1280;
