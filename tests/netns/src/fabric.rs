//! Many links between many hosts in one process.
//!
//! Each host has one device, [`Fabric::INTERFACE`], through which it reaches the hosts that it is joined to and no others; what goes
//! from one to another fares as on a [`Wire`](crate::Wire) of its own, with its own delay and faults. Packets rather than frames are
//! carried, so that no host asks for hardware addresses.
//!
//! ```text
//!   host 0 ─ net0 ┐          ┌ lane 0→1, lane 1→0 ┐          ┌ net0 ─ host 1
//!                 ├─ fabric ─┼ lane 0→2, lane 2→0 ┼─ fabric ─┤
//!   host 3 ─ net0 ┘          └ …                  ┘          └ net0 ─ host 2
//! ```

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use tun_rs::{Layer, SyncDevice};

use crate::daemon::program;
use crate::frame::Frame;
use crate::host::{Host, World};
use crate::orders::{Orders, obeys, order};
use crate::process::{FIRST, Process};
use crate::wire::{Faults, Lane};
use crate::wire_run::{device, wait};

/// Links between hosts; one process, which ends when this is dropped.
#[derive(Debug)]
pub struct Fabric {
    process: Process,
    control: PathBuf,
}

/// What a fabric joins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FabricPlan {
    /// A process in the network namespace of each host.
    pub hosts: Vec<u32>,
    /// Which hosts are joined, and how packets fare on the way, both ways.
    pub links: Vec<(usize, usize, Faults)>,
    /// Seed of all dice.
    pub seed: u64,
}

/// What passed so far, and what did not.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    /// Packets that each host sent over all its links.
    pub packets: Vec<u64>,
    /// The same in bytes, IP headers included.
    pub bytes: Vec<u64>,
    /// Packets of each host for hosts that it is not joined to.
    pub astray: Vec<u64>,
    /// How much later than they should packets arrived, on average, in microseconds: what this process adds.
    pub late_us: f64,
}

/// What a running fabric is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Order {
    Count,
    Set { link: (usize, usize), faults: Faults },
}

impl Fabric {
    /// The device of each host.
    pub const INTERFACE: &str = "net0";
    /// Most hosts of one fabric.
    pub const MOST: usize = 1024;

    /// Joins hosts, as many as a plan names links for.
    pub fn join(
        world: &World,
        hosts: &[Host],
        links: impl IntoIterator<Item = (usize, usize, Faults)>,
        seed: u64,
    ) -> Result<Self> {
        let first = hosts.first().context("a fabric without hosts")?;
        let (plan, control) = (world.path("fabric.json"), world.path("fabric.sock"));
        let pids = hosts.iter().map(Host::pid).collect();
        let text = FabricPlan { hosts: pids, links: links.into_iter().collect(), seed };
        std::fs::write(&plan, serde_json::to_string(&text)?)?;
        let mut command = first.outside();
        command
            .args(FIRST)
            .arg(program("byway-fabric")?)
            .arg("--plan")
            .arg(&plan)
            .arg("--control")
            .arg(&control);
        let process = Process::start(command, world.path("fabric.log"))?;
        let mut fabric = Self { process, control };
        obeys(&mut fabric.process, "the fabric", || {
            order::<Traffic>(&fabric.control, &Order::Count).is_ok()
        })?;
        for (index, host) in hosts.iter().enumerate() {
            // Nobody's business but ours: without this every host asks the wire for routers.
            host.run(&format!("sysctl -q -w net.ipv6.conf.{}.disable_ipv6=1", Self::INTERFACE))?;
            host.address(Self::INTERFACE, &format!("{}/16", Self::address(index)))?;
        }
        Ok(fabric)
    }

    /// The address of a host on its device.
    pub fn address(index: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(NET.to_bits() + 1 + index as u32)
    }

    /// What passed so far.
    pub fn traffic(&self) -> Result<Traffic> {
        order(&self.control, &Order::Count)
    }

    /// Other faults on one link from now on, both ways.
    pub fn set(&self, link: (usize, usize), faults: Faults) -> Result<Traffic> {
        order(&self.control, &Order::Set { link, faults })
    }
}

/// Runs a fabric in this process until it is killed. The process must have one thread, as it changes namespaces.
pub fn run_fabric(plan: &Path, control: &Path) -> Result<()> {
    // First, while this process still sees the files of the test.
    let plan: FabricPlan = serde_json::from_str(&std::fs::read_to_string(plan)?)?;
    let mut orders = Orders::listen(control)?;
    ensure!(plan.hosts.len() <= Fabric::MOST, "a fabric joins at most {} hosts", Fabric::MOST);
    let mut lanes = BTreeMap::new();
    for (number, (a, b, faults)) in plan.links.into_iter().enumerate() {
        ensure!(a < plan.hosts.len() && b < plan.hosts.len() && a != b, "no link joins {a} and {b}");
        for (salt, lane) in [(a, b), (b, a)].into_iter().enumerate() {
            let seed = plan.seed.wrapping_add((number * 2 + salt) as u64);
            lanes.insert(lane, Lane::new(seed, faults.clone()));
        }
    }
    let ends = plan.hosts.iter().map(|pid| device(*pid, Fabric::INTERFACE, Layer::L3));
    let ends = ends.collect::<Result<Vec<_>>>()?;
    let astray = vec![0; ends.len()];
    let mut running = Running { ends, lanes, astray, late: (0.0, 0), buffer: vec![0; 65_536 + 64] };
    loop {
        running.turn(&mut orders)?;
    }
}

/// A fabric at work.
struct Running {
    ends: Vec<SyncDevice>,
    lanes: BTreeMap<(usize, usize), Lane>,
    astray: Vec<u64>,
    /// Seconds that packets came too late in all, and how many packets.
    late: (f64, u64),
    buffer: Vec<u8>,
}

impl Running {
    /// Most packets that are taken from one host before the others have their turn.
    const BATCH: usize = 64;

    fn turn(&mut self, orders: &mut Orders) -> Result<()> {
        let ready = self.wait(orders)?;
        for from in ready {
            self.receive(from)?;
        }
        let now = Instant::now();
        for ((_, to), lane) in &mut self.lanes {
            while let Some(due) = lane.next().filter(|due| *due <= now) {
                let Some(frame) = lane.pop(now) else { break };
                self.late.0 += (now - due).as_secs_f64();
                self.late.1 += 1;
                // A host that is down loses its packets, as a cable would.
                drop(self.ends[*to].send(&frame[Frame::ETHERNET..]));
            }
        }
        orders.serve(|order| self.obey(order))
    }

    /// Waits for a packet, an order, or the time when a packet arrives; the hosts that have sent something.
    fn wait(&self, orders: &Orders) -> Result<Vec<usize>> {
        let mut fds: Vec<PollFd<'_>> =
            self.ends.iter().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)).collect();
        fds.extend(orders.fds());
        wait(&mut fds, self.lanes.values().filter_map(Lane::next).min())?;
        let ready = fds.iter().take(self.ends.len()).enumerate();
        Ok(ready.filter(|(_, fd)| fd.any() == Some(true)).map(|(index, _)| index).collect())
    }

    fn receive(&mut self, from: usize) -> Result<()> {
        for _ in 0..Self::BATCH {
            let length = match self.ends[from].recv(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // The device is not up yet.
                Err(error) if error.raw_os_error() == Some(nix::errno::Errno::EIO as i32) => return Ok(()),
                Err(error) => return Err(error).context("the device of a host is gone"),
            };
            let packet = &self.buffer[..length];
            match target(packet).and_then(|to| self.lanes.get_mut(&(from, to))) {
                // With the header that the rules of a wire look behind.
                Some(lane) => lane.push(Instant::now(), [&HEADER, packet].concat()),
                None => self.astray[from] += 1,
            }
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) -> Traffic {
        if let Order::Set { link: (a, b), faults } = order {
            for lane in [(a, b), (b, a)] {
                self.lanes.entry(lane).and_modify(|lane| lane.set(faults.clone()));
            }
        }
        let (late, count) = self.late;
        let mut traffic = Traffic {
            packets: vec![0; self.ends.len()],
            bytes: vec![0; self.ends.len()],
            astray: self.astray.clone(),
            late_us: late * 1e6 / count.max(1) as f64,
        };
        for ((from, _), lane) in &self.lanes {
            let counters = lane.counters();
            traffic.packets[*from] += counters.entered;
            traffic.bytes[*from] += counters.bytes - counters.entered * Frame::ETHERNET as u64;
        }
        traffic
    }
}

/// The host whose [`Fabric::address`] an IPv4 packet is for.
fn target(packet: &[u8]) -> Option<usize> {
    let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    let index = u32::from_be_bytes(to).checked_sub(NET.to_bits() + 1)? as usize;
    (packet[0] >> 4 == 4 && index < Fabric::MOST).then_some(index)
}

/// The network of all hosts; 16 bits are its own.
const NET: Ipv4Addr = Ipv4Addr::new(10, 76, 0, 0);

/// An Ethernet header of IPv4.
const HEADER: [u8; Frame::ETHERNET] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x08, 0x00];

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn every_host_has_an_address_that_leads_to_it() {
        for index in 0..Fabric::MOST {
            let mut packet = vec![0x45; 20];
            packet[16..20].copy_from_slice(&Fabric::address(index).octets());
            assert_eq!(target(&packet), Some(index));
        }
    }

    #[test]
    fn what_is_for_nobody_has_no_target() {
        let mut packet = vec![0x45; 20];
        packet[16..20].copy_from_slice(&[10, 77, 0, 1]);
        assert_eq!(target(&packet), None);
        packet[16..20].copy_from_slice(&[10, 76, 0, 0]);
        assert_eq!(target(&packet), None);
        assert_eq!(target(&packet[..19]), None);
        assert_eq!(target(&[]), None);
        packet[16..20].copy_from_slice(&[10, 76, 0, 1]);
        packet[0] = 0x60;
        assert_eq!(target(&packet), None);
    }
}
