//! Yggdrasil, over TCP links and with the MTU of its default.

use anyhow::{Context, Result};
use serde_json::json;

use super::{Node, Peer, Place, Programs, Step, text};
use crate::side::bed::Bed;

/// See the module.
pub(super) struct Yggdrasil;

impl Peer for Yggdrasil {
    fn name(&self) -> &str {
        "yggdrasil"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["yggdrasil"]
    }

    fn version(&self, programs: &Programs) -> Result<String> {
        programs.word("yggdrasil", &["-version"], "version", Place::Last)
    }

    fn mtu(&self) -> Option<u32> {
        Some(MTU)
    }

    fn relays(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed, programs: &Programs) -> Result<Vec<Node>> {
        let program = programs.need("yggdrasil")?;
        let mut nodes = Vec::new();
        for (index, host) in bed.hosts.iter().enumerate() {
            let made: serde_json::Value =
                serde_json::from_str(&programs.output("yggdrasil", &["-genconf", "-json"])?)?;
            let key = made["PrivateKey"].as_str().context("yggdrasil made no key")?;
            let (mut listen, mut peers) = (Vec::new(), Vec::new());
            for neighbour in bed.neighbours(index) {
                if neighbour.dial {
                    peers.push(format!("tcp://{}:9001", neighbour.theirs));
                } else {
                    listen.push(format!("tcp://{}:9001", neighbour.own));
                }
            }
            let config = json!({
                "PrivateKey": key, "AdminListen": "none", "Listen": listen, "Peers": peers, "MulticastInterfaces": [],
                "IfName": "ygg0", "IfMTU": MTU, "NodeInfoPrivacy": true,
            });
            let file = text(&host.path("yggdrasil.conf"));
            std::fs::write(&file, config.to_string())?;
            let address = programs.output("yggdrasil", &["-useconffile", &file, "-address"])?;
            let start = vec![Step::daemon(&program, ["-useconffile", &file, "-loglevel", "warn"])];
            nodes.push(Node { address: address.trim().to_owned(), start, settle: Vec::new() });
        }
        Ok(nodes)
    }
}

/// Its default.
const MTU: u32 = 65535;
