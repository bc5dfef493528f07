//! Implementations of WireGuard in user space: point to point, configured with `wg`.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Node, Peer, Place, Programs, Step, text};
use crate::side::bed::Bed;

/// One that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The reference in Go.
    WireguardGo,
    /// Mullvad's, in Rust.
    Gotatun,
    /// Cloudflare's, in Rust.
    Boringtun,
}

impl Peer for Implementation {
    fn name(&self) -> &str {
        match self {
            Self::WireguardGo => "wireguard-go",
            Self::Gotatun => "gotatun",
            Self::Boringtun => "boringtun",
        }
    }

    fn programs(&self) -> &'static [&'static str] {
        match self {
            Self::WireguardGo => &["wireguard-go", "wg"],
            Self::Gotatun => &["gotatun", "wg"],
            Self::Boringtun => &["boringtun-cli", "wg"],
        }
    }

    fn version(&self, programs: &Programs) -> Result<String> {
        match self {
            // The program's own number is years behind; Go keeps the module's in the file.
            Self::WireguardGo => {
                let file = programs.need("wireguard-go")?;
                let read = programs.output("go", &["version", "-m", &text(&file)]);
                let module = |text: &str| {
                    let line = text.lines().find(|line| line.contains("mod\tgolang.zx2c4.com/wireguard"))?;
                    line.split_whitespace().nth(2).map(str::to_owned)
                };
                match read.ok().and_then(|text| module(&text)) {
                    Some(version) => Ok(version),
                    None => programs.word("wireguard-go", &["--version"], "wireguard-go", Place::Second),
                }
            }
            Self::Gotatun => programs.word("gotatun", &["--version"], "gotatun", Place::Last),
            Self::Boringtun => programs.word("boringtun-cli", &["--version"], "boringtun", Place::Last),
        }
    }

    fn mtu(&self) -> Option<u32> {
        Some(MTU)
    }

    fn prepare(&self, bed: &Bed, programs: &Programs) -> Result<Vec<Node>> {
        let mut keys = Vec::new();
        for _ in &bed.hosts {
            let private = programs.output("wg", &["genkey"])?.trim().to_owned();
            let public = programs.fed("wg", &["pubkey"], &private)?.trim().to_owned();
            keys.push((private, public));
        }
        let mut nodes = Vec::new();
        for (index, host) in bed.hosts.iter().enumerate() {
            let mut config = format!("[Interface]\nPrivateKey = {}\nListenPort = {PORT}\n", keys[index].0);
            for neighbour in bed.neighbours(index) {
                write!(
                    config,
                    "[Peer]\nPublicKey = {}\nAllowedIPs = {}/128\nEndpoint = {}:{PORT}\n",
                    keys[neighbour.index].1,
                    address(neighbour.index),
                    neighbour.theirs
                )?;
            }
            let file = host.path("wg.conf");
            std::fs::write(&file, config)?;
            // Control sockets of all hosts share a folder, so each interface has a name of its own.
            let interface = format!("wg{index}");
            let wg = text(&programs.need("wg")?);
            let start = vec![
                self.daemon(programs, &interface)?,
                Step::Until(format!("{wg} show {interface}")),
                Step::Run(format!("{wg} setconf {interface} {}", text(&file))),
                Step::Run(format!("ip addr add {}/64 dev {interface} nodad", address(index))),
                Step::Run(format!("ip link set {interface} mtu {MTU} up")),
            ];
            nodes.push(Node { address: address(index), start, settle: Vec::new() });
        }
        Ok(nodes)
    }
}

impl Implementation {
    fn daemon(self, programs: &Programs, interface: &str) -> Result<Step> {
        let program = programs.need(self.programs()[0])?;
        Ok(match self {
            Self::WireguardGo => Step::daemon(program, ["-f", interface]).with("LOG_LEVEL", "error"),
            Self::Gotatun => Step::daemon(program, ["-f", "--disable-drop-privileges", interface])
                .with("WG_LOG_LEVEL", "error"),
            Self::Boringtun => Step::daemon(program, ["-f", "--disable-drop-privileges", interface])
                .with("WG_LOG_LEVEL", "error")
                .with("WG_THREADS", "2"),
        })
    }
}

fn address(index: usize) -> String {
    format!("fd00:77::{}", index + 1)
}

const MTU: u32 = 1420;
const PORT: u16 = 51820;
