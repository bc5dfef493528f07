//! The wire with its two TAP devices, real time and a control socket.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::poll::{PollFd, PollFlags};
use nix::sched::{CloneFlags, setns};
use nix::sys::time::TimeSpec;
use serde::{Deserialize, Serialize};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::daemon::program;
use crate::host::{Host, World};
use crate::pcap::Pcap;
use crate::process::{Process, wait_for};
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

impl Wire {
    /// Joins two hosts: the interface and its address with length, such as `10.0.1.1/24`, on each.
    pub fn join(
        world: &World,
        left: (&Host, &str, &str),
        right: (&Host, &str, &str),
        seed: u64,
        faults: &Faults,
    ) -> Result<Self> {
        Self::join_hosts(world, left, right, seed, faults, true)
    }

    /// The same, without a file of what passes: for more bytes than a disk should see.
    pub fn join_unrecorded(
        world: &World,
        left: (&Host, &str, &str),
        right: (&Host, &str, &str),
        seed: u64,
        faults: &Faults,
    ) -> Result<Self> {
        Self::join_hosts(world, left, right, seed, faults, false)
    }

    fn join_hosts(
        world: &World,
        left: (&Host, &str, &str),
        right: (&Host, &str, &str),
        seed: u64,
        faults: &Faults,
        recorded: bool,
    ) -> Result<Self> {
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
        let mut waited = Ok(());
        let ready = wait_for(Duration::from_secs(20), "the wire", || {
            if !wire.process.is_running() {
                waited = Err(anyhow::anyhow!("the wire ended:\n{}", wire.process.output()));
            }
            // It listens before it has its devices, and answers when it has.
            waited.is_err() || wire.count().is_ok()
        });
        waited.and(ready)?;
        for (host, interface, address) in [left, right] {
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

    fn order(&self, order: &Order) -> Result<Answer> {
        let mut stream = UnixStream::connect(&self.control)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        writeln!(stream, "{}", serde_json::to_string(order)?)?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("the wire answers {line:?}"))
    }
}

/// Runs a wire in this process until it is killed. The process must have one thread, as it changes namespaces.
pub fn run_wire(options: &WireOptions) -> Result<()> {
    // First, while this process still sees the files of the test.
    let listener = UnixListener::bind(&options.control).context("cannot listen for orders")?;
    listener.set_nonblocking(true)?;
    let pcap = options.pcap.as_deref().map(Pcap::create).transpose()?;
    let [left, right] = [&options.left, &options.right].map(|(pid, name)| tap(*pid, name));
    let lane = |salt| Lane::new(options.seed.wrapping_mul(2).wrapping_add(salt), options.faults.clone());
    let mut running = Running {
        ends: [left?, right?],
        lanes: [lane(0), lane(1)],
        pcap,
        clients: HashMap::new(),
        serial: 0,
        buffer: vec![0; 65_536 + 64],
    };
    loop {
        running.turn(&listener)?;
    }
}

/// A wire at work. Lane 0 goes from end 0, the left one, to end 1.
struct Running {
    ends: [SyncDevice; 2],
    lanes: [Lane; 2],
    pcap: Option<Pcap>,
    clients: HashMap<u64, (UnixStream, Vec<u8>)>,
    serial: u64,
    buffer: Vec<u8>,
}

impl Running {
    /// Most frames that are taken from one end before the other has its turn.
    const BATCH: usize = 64;
    /// Longest order.
    const ORDER: usize = 65_536;

    fn turn(&mut self, listener: &UnixListener) -> Result<()> {
        self.wait(listener)?;
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
        if let Ok((client, _)) = listener.accept() {
            client.set_nonblocking(true)?;
            self.serial += 1;
            self.clients.insert(self.serial, (client, Vec::new()));
        }
        for serial in self.clients.keys().copied().collect::<Vec<_>>() {
            if !self.serve(serial) {
                self.clients.remove(&serial);
            }
        }
        Ok(())
    }

    /// Waits for a frame, an order, or the time when a frame arrives.
    fn wait(&self, listener: &UnixListener) -> Result<()> {
        let due = self.lanes.iter().filter_map(Lane::next).min();
        let timeout = due.map(|due| TimeSpec::from(due.saturating_duration_since(Instant::now())));
        let mut fds: Vec<PollFd<'_>> = vec![PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        fds.extend(self.ends.iter().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN)));
        fds.extend(self.clients.values().map(|(client, _)| PollFd::new(client.as_fd(), PollFlags::POLLIN)));
        match nix::poll::ppoll(&mut fds, timeout, None) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
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

    /// Reads what a client says and answers whole lines; false when it is done with.
    fn serve(&mut self, serial: u64) -> bool {
        let Some((client, said)) = self.clients.get_mut(&serial) else { return false };
        let mut part = [0; 4096];
        match client.read(&mut part) {
            Ok(0) => return false,
            Ok(length) => said.extend(&part[..length]),
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
        if said.len() > Self::ORDER {
            return false;
        }
        while let Some((client, line)) = self.next_line(serial) {
            let answer = match serde_json::from_slice(&line) {
                Ok(order) => serde_json::to_string(&self.obey(order)),
                Err(error) => serde_json::to_string(&error.to_string()),
            };
            let sent = answer.map_err(io::Error::from).and_then(|answer| writeln!(&client, "{answer}"));
            if sent.is_err() {
                return false;
            }
        }
        true
    }

    fn next_line(&mut self, serial: u64) -> Option<(UnixStream, Vec<u8>)> {
        let (client, said) = self.clients.get_mut(&serial)?;
        let end = said.iter().position(|byte| *byte == b'\n')?;
        let line = said.drain(..=end).collect();
        Some((client.try_clone().ok()?, line))
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

/// A TAP device in the network namespace of the process `pid`.
fn tap(pid: u32, name: &str) -> Result<SyncDevice> {
    let namespace = File::open(format!("/proc/{pid}/ns/net")).with_context(|| format!("no process {pid}"))?;
    setns(namespace, CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
    let device =
        DeviceBuilder::new().name(name).layer(Layer::L2).enable(false).build_sync().with_context(|| {
            format!(
                "cannot make the TAP device {name} (every user must be let at it: chmod 666 /dev/net/tun)"
            )
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
