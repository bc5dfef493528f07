//! Nebula: an overlay with certificates, as its own defaults have it, its firewall open.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Node, Peer, Place, Programs, Step, text};
use crate::side::bed::Bed;

/// See the module.
pub(super) struct Nebula;

impl Peer for Nebula {
    fn name(&self) -> &str {
        "nebula"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["nebula", "nebula-cert"]
    }

    fn version(&self, programs: &Programs) -> Result<String> {
        programs.word("nebula", &["-version"], "Version", Place::Last)
    }

    fn mtu(&self) -> Option<u32> {
        Some(MTU)
    }

    fn prepare(&self, bed: &Bed, programs: &Programs) -> Result<Vec<Node>> {
        let file = |name: String| text(&bed.path(name));
        let (ca, ca_key) = (file("ca.crt".into()), file("ca.key".into()));
        let networks = "fd00:78::/64";
        programs.output(
            "nebula-cert",
            &[
                "ca",
                "-name",
                "bench",
                "-version",
                "2",
                "-networks",
                networks,
                "-out-crt",
                &ca,
                "-out-key",
                &ca_key,
            ],
        )?;
        let program = programs.need("nebula")?;
        let mut nodes = Vec::new();
        for (index, host) in bed.hosts.iter().enumerate() {
            let (cert, key) = (text(&host.path("node.crt")), text(&host.path("node.key")));
            let network = format!("{}/64", address(index));
            programs.output(
                "nebula-cert",
                &[
                    "sign",
                    "-ca-crt",
                    &ca,
                    "-ca-key",
                    &ca_key,
                    "-version",
                    "2",
                    "-name",
                    host.name(),
                    "-networks",
                    &network,
                    "-out-crt",
                    &cert,
                    "-out-key",
                    &key,
                ],
            )?;
            let mut config = format!("pki: {{ca: {ca}, cert: {cert}, key: {key}}}\nstatic_host_map:\n");
            for neighbour in bed.neighbours(index) {
                writeln!(config, "  \"{}\": [\"{}:4242\"]", address(neighbour.index), neighbour.theirs)?;
            }
            write!(
                config,
                "lighthouse: {{am_lighthouse: false}}\nlisten: {{host: 0.0.0.0, port: 4242}}\npunchy: {{punch: false}}\n\
                 tun: {{dev: nebula0, mtu: {MTU}}}\nlogging: {{level: warning}}\ncipher: aes\nfirewall:\n  \
                 outbound: [{{port: any, proto: any, host: any}}]\n  inbound: [{{port: any, proto: any, host: any}}]\n"
            )?;
            let file = host.path("nebula.yml");
            std::fs::write(&file, config)?;
            let start = vec![Step::daemon(&program, ["-config", &text(&file)])];
            nodes.push(Node { address: address(index), start, settle: Vec::new() });
        }
        Ok(nodes)
    }
}

fn address(index: usize) -> String {
    format!("fd00:78::{}", index + 1)
}

/// Its default.
const MTU: u32 = 1300;
