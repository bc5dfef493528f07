//! The wire with its two TAP devices, real time and a control socket.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags};
use nix::sched::{CloneFlags, setns};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::daemon::program;
use crate::host::{Host, World};
use crate::orders::{Orders, obeys, order};
use crate::pcap::Pcap;
use crate::process::Process;
use crate::wire::{Counters, Faults, Lane};

/// Which way a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// From the left host to the right one.
    ToRight,
    /// From the right host to the left one.
    ToLeft,
    /// Both ways.
    Both,
}

/// What a running wire is asked: one JSON object on one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Other faults from now on.
    Set {
        /// Which way.
        side: Side,
        /// How frames fare.
        faults: Faults,
    },
    /// Nothing passes, other faults stay for later.
    Cut {
        /// Which way.
        side: Side,
    },
    /// What passed before passes again.
    Restore {
        /// Which way.
        side: Side,
    },
    /// Only the counters are wanted.
    Count,
}

/// What a running wire answers to every [`Order`]: one JSON object on one line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Answer {
    /// From left to right.
    pub to_right: Counters,
    /// From right to left.
    pub to_left: Counters,
}

/// What a wire joins, and how.
#[derive(Clone, Debug, Default)]
pub struct WireOptions {
    /// Network namespace and TAP name of the left end: a process id and the name.
    pub left: (u32, String),
    /// The same of the right end.
    pub right: (u32, String),
    /// Seed of the dice.
    pub seed: u64,
    /// Faults both ways at first.
    pub faults: Faults,
    /// Where orders come in.
    pub control: PathBuf,
    /// File for every frame that enters, if wanted.
    pub pcap: Option<PathBuf>,
}

/// A cable between two hosts, with faults; one process, which ends when this is dropped.
#[derive(Debug)]
pub struct Wire {
    process: Process,
    control: PathBuf,
    pcap: PathBuf,
}

/// One end of a cable: the host, and on it the interface and its address with length, such as `10.0.1.1/24`.
pub type End<'a> = (&'a Host, &'a str, &'a str);

impl Wire {
    /// Joins two hosts, and keeps every frame that enters in a file.
    pub fn join(world: &World, left: End<'_>, right: End<'_>, seed: u64, faults: &Faults) -> Result<Self> {
        Self::start(world, [left, right], seed, faults, true)
    }

    /// The same without that file: for more bytes than a disk should see.
    pub fn join_unrecorded(
        world: &World,
        left: End<'_>,
        right: End<'_>,
        seed: u64,
        faults: &Faults,
    ) -> Result<Self> {
        Self::start(world, [left, right], seed, faults, false)
    }

    fn start(world: &World, ends: [End<'_>; 2], seed: u64, faults: &Faults, recorded: bool) -> Result<Self> {
        let [left, right] = ends;
        let name = format!("{}-{}-{}", left.0.name(), right.0.name(), left.1);
        let control = world.path(format!("wire-{name}.sock"));
        let pcap = world.path(format!("wire-{name}.pcap"));
        let mut command = left.0.outside();
        command.arg(program("wire")?);
        for (side, (host, interface, _)) in [("--left", left), ("--right", right)] {
            command.arg(side).arg(format!("{}:{interface}", host.pid()));
        }
        command.arg("--control").arg(&control);
        if recorded {
            command.arg("--pcap").arg(&pcap);
        }
        command.args(["--seed", &seed.to_string(), "--faults", &serde_json::to_string(faults)?]);
        let process = Process::start(command, world.path(format!("wire-{name}.log")))?;
        let mut wire = Self { process, control, pcap };
        obeys(&mut wire.process, "the wire", || order::<Answer>(&wire.control, &Order::Count).is_ok())?;
        for (host, interface, address) in ends {
            host.address(interface, address)?;
        }
        Ok(wire)
    }

    /// Nothing passes from now on.
    pub fn cut(&self) -> Result<Answer> {
        self.order(&Order::Cut { side: Side::Both })
    }

    /// What passed before the cut passes again.
    pub fn restore(&self) -> Result<Answer> {
        self.order(&Order::Restore { side: Side::Both })
    }

    /// Other faults from now on.
    pub fn set(&self, side: Side, faults: Faults) -> Result<Answer> {
        self.order(&Order::Set { side, faults })
    }

    /// What became of the frames so far.
    pub fn count(&self) -> Result<Answer> {
        self.order(&Order::Count)
    }

    /// The file with every frame that entered; whole up to the last [`Wire::count`].
    pub fn pcap(&self) -> &Path {
        &self.pcap
    }

    fn order(&self, what: &Order) -> Result<Answer> {
        order(&self.control, what)
    }
}

/// Runs a wire in this process until it is killed. The process must have one thread, as it changes namespaces.
pub fn run_wire(options: &WireOptions) -> Result<()> {
    // First, while this process still sees the files of the test.
    let mut orders = Orders::listen(&options.control)?;
    let pcap = options.pcap.as_deref().map(Pcap::create).transpose()?;
    let [left, right] = [&options.left, &options.right].map(|(pid, name)| device(*pid, name, Layer::L2));
    let lane = |salt| Lane::new(options.seed.wrapping_mul(2).wrapping_add(salt), options.faults.clone());
    let mut running =
        Running { ends: [left?, right?], lanes: [lane(0), lane(1)], pcap, buffer: vec![0; 65_536 + 64] };
    loop {
        running.turn(&mut orders)?;
    }
}

/// A wire at work. Lane 0 goes from end 0, the left one, to end 1.
struct Running {
    ends: [SyncDevice; 2],
    lanes: [Lane; 2],
    pcap: Option<Pcap>,
    buffer: Vec<u8>,
}

impl Running {
    /// Most frames that are taken from one end before the other has its turn.
    const BATCH: usize = 64;

    fn turn(&mut self, orders: &mut Orders) -> Result<()> {
        self.wait(orders)?;
        for from in 0..2 {
            self.receive(from)?;
        }
        let now = Instant::now();
        for (from, lane) in self.lanes.iter_mut().enumerate() {
            while let Some(frame) = lane.pop(now) {
                // An end that is down loses its frames, as a cable would.
                drop(self.ends[1 - from].send(&frame));
            }
        }
        orders.serve(|order| self.obey(order))
    }

    /// Waits for a frame, an order, or the time when a frame arrives.
    fn wait(&self, orders: &Orders) -> Result<()> {
        let mut fds = orders.fds();
        fds.extend(self.ends.iter().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)));
        wait(&mut fds, self.lanes.iter().filter_map(Lane::next).min())
    }

    fn receive(&mut self, from: usize) -> Result<()> {
        for _ in 0..Self::BATCH {
            let length = match self.ends[from].recv(&mut self.buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("an end of the wire is gone"),
            };
            let frame = &self.buffer[..length];
            if let Some(pcap) = &mut self.pcap {
                pcap.write(SystemTime::now().duration_since(UNIX_EPOCH)?, frame)?;
            }
            self.lanes[from].push(Instant::now(), frame.to_vec());
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) -> Answer {
        let sides = |side| match side {
            Side::ToRight => 0..1,
            Side::ToLeft => 1..2,
            Side::Both => 0..2,
        };
        match order {
            Order::Set { side, faults } => {
                self.lanes[sides(side)].iter_mut().for_each(|lane| lane.set(faults.clone()));
            }
            Order::Cut { side } | Order::Restore { side } => {
                let cut = matches!(order, Order::Cut { .. });
                for lane in &mut self.lanes[sides(side)] {
                    lane.set(Faults { cut, ..lane.faults().clone() });
                }
            }
            Order::Count => {}
        }
        if let Some(pcap) = &mut self.pcap {
            drop(pcap.flush());
        }
        let [to_right, to_left] = [0, 1].map(|lane: usize| self.lanes[lane].counters().clone());
        Answer { to_right, to_left }
    }
}

/// Waits for one of `fds`, or until `due`.
pub(crate) fn wait(fds: &mut [PollFd<'_>], due: Option<Instant>) -> Result<()> {
    let timeout = due.map(|due| TimeSpec::from(due.saturating_duration_since(Instant::now())));
    match nix::poll::ppoll(fds, timeout, None) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Moves this thread to the network namespace of the process `pid`.
pub(crate) fn enter(pid: u32) -> Result<()> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).with_context(|| format!("no process {pid}"))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")
}

/// A device in the network namespace of the process `pid`: TAP for frames (L2), TUN for packets (L3).
pub(crate) fn device(pid: u32, name: &str, layer: Layer) -> Result<SyncDevice> {
    enter(pid)?;
    let device = DeviceBuilder::new().name(name).layer(layer).enable(false).build_sync();
    let device = device.with_context(|| {
        format!("cannot make the device {name} (every user must be let at it: chmod 666 /dev/net/tun)")
    })?;
    device.set_nonblocking(true)?;
    Ok(device)
}

/// Reads an end of a wire: `PID:INTERFACE`.
pub fn parse_end(text: &str) -> Result<(u32, String)> {
    let (pid, name) = text.split_once(':').context("an end is PID:INTERFACE")?;
    ensure!(!name.is_empty(), "the interface has no name");
    Ok((pid.parse().context("the process id is no number")?, name.into()))
}
