//! Hosts in a line for one measurement, and what joins them.
//!
//! No host forwards between its interfaces: only an overlay carries anything from one end of the line to the other.

use std::path::Path;

use anyhow::{Result, ensure};
use byway_netns::{Faults, Host, Wire, World};

/// What a measurement runs on; gone with all its processes when dropped.
pub struct Bed {
    /// The hosts, in the order of the line.
    pub hosts: Vec<Host>,
    /// Between neighbours, if they are joined by wires.
    pub wires: Vec<Wire>,
    /// How TCP's senders adapt here.
    pub congestion: String,
    /// What holds all of it.
    pub world: World,
}

/// What joins two neighbours.
#[derive(Clone, Debug)]
pub enum Joint {
    /// A pair of virtual Ethernet devices.
    Veth {
        /// Whether they take segmentation and merging upon themselves, as real cards do only in part.
        offload: bool,
    },
    /// A process that carries frames between two TAP devices, with faults.
    Wire {
        /// Seed of its dice.
        seed: u64,
        /// At first.
        faults: Faults,
    },
}

/// One host as its neighbour sees it.
pub struct Neighbour {
    /// Its place in the line.
    pub index: usize,
    /// Our own address on the link.
    pub own: String,
    /// Its address.
    pub theirs: String,
    /// Whether we dial; else it does.
    pub dial: bool,
}

impl Bed {
    /// A line of `count` hosts.
    pub fn new(count: usize, joint: &Joint) -> Result<Self> {
        let world = World::new()?;
        let hosts = NAMES.iter().take(count).map(|name| world.host(name)).collect::<Result<Vec<_>>>()?;
        ensure!(hosts.len() == count, "a line has at most {} hosts", NAMES.len());
        let mut bed = Self { hosts, wires: Vec::new(), congestion: String::new(), world };
        // Control sockets of WireGuard lie in one folder of the machine; in this world that is an empty one.
        bed.hosts[0].run("mount -t tmpfs tmpfs /run")?;
        bed.hosts[0].run("mkdir -p /run/wireguard")?;
        for host in &bed.hosts {
            for (key, value) in SETTINGS {
                set(host, key, value)?;
            }
            // Not every kernel has it, nor lets every user choose it; what holds then is told.
            let _ = set(host, CONGESTION, "cubic");
        }
        bed.congestion = bed.hosts[0].run(&format!("cat /proc/sys/{CONGESTION}"))?.trim().to_owned();
        for left in 0..count.saturating_sub(1) {
            bed.join(left, joint)?;
        }
        Ok(bed)
    }

    fn join(&mut self, left: usize, joint: &Joint) -> Result<()> {
        let right = left + 1;
        let (left_address, right_address) =
            (format!("{}/24", address(left, 1)), format!("{}/24", address(left, 2)));
        let ends = [
            (&self.hosts[left], RIGHTWARD, left_address.as_str()),
            (&self.hosts[right], LEFTWARD, right_address.as_str()),
        ];
        let wire = match joint {
            Joint::Veth { offload } => {
                self.world.cable(ends[0], ends[1])?;
                if !offload {
                    for (host, interface, _) in ends {
                        host.run(&format!(
                            "ethtool -K {interface} tso off gso off gro off tx-udp-segmentation off"
                        ))?;
                    }
                }
                None
            }
            Joint::Wire { seed, faults } => Some(Wire::join_unrecorded(
                &self.world,
                ends[0],
                ends[1],
                seed.wrapping_add(left as u64),
                faults,
            )?),
        };
        for (host, interface, side) in [(ends[0].0, ends[0].1, 1), (ends[1].0, ends[1].1, 2)] {
            host.address(interface, &format!("{}/64", address6(left, side)))?;
        }
        self.wires.extend(wire);
        Ok(())
    }

    /// The hosts next to the one at `index`.
    pub fn neighbours(&self, index: usize) -> Vec<Neighbour> {
        let mut neighbours = Vec::new();
        if index > 0 {
            let (own, theirs) = (address(index - 1, 2), address(index - 1, 1));
            neighbours.push(Neighbour { index: index - 1, own, theirs, dial: false });
        }
        if index + 1 < self.hosts.len() {
            let (own, theirs) = (address(index, 1), address(index, 2));
            neighbours.push(Neighbour { index: index + 1, own, theirs, dial: true });
        }
        neighbours
    }

    /// The first of the line, where clients run and which dials last.
    pub fn first(&self) -> &Host {
        &self.hosts[0]
    }

    /// The last of the line, where servers run.
    pub fn last(&self) -> &Host {
        &self.hosts[self.hosts.len() - 1]
    }

    /// A file of this bed.
    pub fn path(&self, name: impl AsRef<Path>) -> std::path::PathBuf {
        self.world.path(name)
    }
}

/// Address on link `link`, of its left end (1) or right one (2).
pub fn address(link: usize, side: usize) -> String {
    format!("10.77.{}.{side}", link + 1)
}

/// The same, IPv6.
pub fn address6(link: usize, side: usize) -> String {
    format!("fd77:{}::{side}", link + 1)
}

const NAMES: [&str; 3] = ["a", "b", "c"];
const RIGHTWARD: &str = "right";
const LEFTWARD: &str = "left";
const CONGESTION: &str = "net/ipv4/tcp_congestion_control";
const SETTINGS: [(&str, &str); 4] = [
    ("net/ipv4/ip_forward", "0"),
    ("net/ipv6/conf/all/forwarding", "0"),
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
];

fn set(host: &Host, key: &str, value: &str) -> Result<()> {
    let output = host.command("sh", ["-c", &format!("echo {value} > /proc/sys/{key}")]).output()?;
    ensure!(output.status.success(), "{key}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Lets namespaces use CUBIC, where this process may decide that; as it was before when dropped.
///
/// Some machines have another default, whose pacing changes what is measured, and the kernel lets namespaces choose only what the
/// machine allows.
pub struct AllowCubic(Option<String>);

const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

impl AllowCubic {
    /// Adds it to what is allowed.
    pub fn new() -> Self {
        let before = std::fs::read_to_string(ALLOWED).unwrap_or_default().trim().to_owned();
        if before.is_empty() || before.split(' ').any(|name| name == "cubic") {
            return Self(None);
        }
        let added = std::fs::write(ALLOWED, format!("{before} cubic\n"));
        Self(added.is_ok().then_some(before))
    }
}

impl Default for AllowCubic {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for AllowCubic {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = std::fs::write(ALLOWED, before);
        }
    }
}
