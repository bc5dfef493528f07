//! The fast path's loops: plain threads between the device and the sockets, which wait in `poll` and nowhere else.
//!
//! The engines of [`byway_fastpath`] decide by the tables that the core publishes; a loop reads, asks them and writes. Whatever
//! they have no entry for goes to the slow path: packets of this host to the [`Portal`], frames to the core. When a thread
//! ends, all do, and the slow path goes on alone.
//!
//! ```text
//!  1 thread:    one loop, both ways            2: one each way under load  2 N: N pairs, each with its queue and its sockets
//!
//!  device ─► fair queue ─► Outward ─► socket       socket ─► Inward ─┬─► device
//!                             └─► Portal                             ├─► socket (relayed)
//!                                                                    └─► core
//! ```
//!
//! ```no_run
//! # fn example(
//! #     tables: std::sync::Arc<byway_fastpath::Tables>,
//! #     sockets: Vec<std::sync::Arc<dyn byway_fastpath::Underlay>>,
//! #     portal: byway_portal::Portal,
//! # ) -> std::io::Result<()> {
//! use byway_portal::fast;
//!
//! let config = fast::Config { threads: 2, ..fast::Config::default() };
//! let running = fast::start(&config, &tables, &sockets, Some(&portal))?;
//! assert!(running.is_running());
//! drop(running); // Ends the threads; packets go the slow way from now on.
//! # Ok(())
//! # }
//! ```

mod baton;
mod loops;
mod wires;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use byway_fastpath::{Inward, InwardCounters, Offloads, Outward, OutwardCounters, Tables, Underlay};
use byway_identity::OsEntropy;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::Portal;
use baton::Baton;
use loops::{Lane, Out};
use wires::{Counts, Device, Wires};

/// How the threads are run.
#[derive(Clone)]
pub struct Config {
    /// 1: both directions share a thread. 2: each has its own. More: one pair for each two, as far as the device has queues and
    /// the transports have sockets for them.
    pub threads: usize,
    /// Called by each thread before anything else, with its name, to give up rights or ask for another schedule.
    pub on_thread_start: Option<Hook>,
}

/// What a thread calls with its own name when it starts.
pub type Hook = Arc<dyn Fn(&str) + Send + Sync>;

/// Threads that run. They end when this is dropped, or when one of them fails.
pub struct Running {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    engines: Vec<Counted>,
    offloads: Option<Offloads>,
    pairs: usize,
}

/// What the engines of one pair of threads have counted.
type Counted = Arc<Mutex<(OutwardCounters, InwardCounters)>>;

/// What the threads did that no socket counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Reads from the device that gave a packet or super-packet.
    pub reads: u64,
    /// Packets and super-packets written to the device.
    pub writes: u64,
    /// Of them, those that the device did not take.
    pub write_errors: u64,
    /// Packets for the slow path that its queue had no room for.
    pub portal_overrun: u64,
    /// Trains that no socket took in time.
    pub send_overrun: u64,
    /// Times that the thread which only sends was given the device.
    pub handed_over: u64,
    /// Times that it gave the device back.
    pub given_back: u64,
    /// What the engines counted on the way out, all threads together.
    pub outward: OutwardCounters,
    /// What they counted on the way in.
    pub inward: InwardCounters,
}

/// What the threads of one fast path have in common.
struct Shared {
    stop: AtomicBool,
    /// Readable once they shall stop.
    event: EventFd,
    /// Why they ended by themselves.
    failure: Mutex<Option<String>>,
    counts: Counts,
}

impl Default for Config {
    fn default() -> Self {
        Self { threads: 2, on_thread_start: None }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("threads", &self.threads).finish_non_exhaustive()
    }
}

/// Starts the threads over `sockets`, and over the device of `portal` where there is one with a descriptor. Without a device
/// they relay, and open what is for this daemon.
///
/// Several sockets of one transport, which share an address, are for as many pairs of threads.
///
/// # Errors
///
/// As the system, when it has no more threads or descriptors. Nothing runs then.
pub fn start(
    config: &Config,
    tables: &Arc<Tables>,
    sockets: &[Arc<dyn Underlay>],
    portal: Option<&Portal>,
) -> io::Result<Running> {
    let device = portal.and_then(|portal| Some((portal.direct()?, portal.gate())));
    let shared = Arc::new(Shared {
        stop: AtomicBool::new(false),
        event: EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?,
        failure: Mutex::new(None),
        counts: Counts::default(),
    });
    let queues = device.as_ref().map_or(0, |(direct, _)| direct.queues.len());
    let mut siblings: HashMap<u16, Vec<Arc<dyn Underlay>>> = HashMap::new();
    for socket in sockets {
        siblings.entry(socket.port()).or_default().push(Arc::clone(socket));
    }
    let most = siblings.values().map(Vec::len).max().unwrap_or(0).max(queues).max(1);
    let pairs = (config.threads / 2).clamp(1, most);
    let mut running = Running {
        shared: Arc::clone(&shared),
        threads: Vec::new(),
        engines: Vec::new(),
        offloads: device.as_ref().map(|(direct, _)| direct.offloads),
        pairs,
    };
    for pair in 0..pairs {
        // Every pair can send to every transport; what is left over when the numbers differ is dealt out in turn.
        let out: Vec<Arc<dyn Underlay>> =
            siblings.values().map(|each| Arc::clone(&each[pair % each.len()])).collect();
        let read: Vec<Arc<dyn Underlay>> =
            siblings.values().flat_map(|each| each.iter().skip(pair).step_by(pairs)).cloned().collect();
        let lane = |counted: &Counted| Lane {
            shared: Arc::clone(&shared),
            tables: Arc::clone(tables),
            gate: device.as_ref().map(|(_, gate)| Arc::clone(gate)),
            wires: Wires::new(
                Arc::clone(&shared),
                out.clone(),
                device.as_ref().map(|(direct, _)| Device {
                    queue: Arc::clone(&direct.queues[pair % direct.queues.len()]),
                    inlet: direct.inlet.clone(),
                }),
            ),
            counted: Arc::clone(counted),
            failed: 0,
        };
        // A device with fewer queues leaves the last pairs with the way inwards.
        let outward = device.as_ref().filter(|(direct, _)| pair < direct.queues.len());
        let outward = outward.map(|(direct, gate)| Out {
            engine: Outward::new(&mut OsEntropy),
            queues: direct.queues.iter().skip(pair).step_by(pairs).cloned().collect(),
            gate: Arc::clone(gate),
        });
        let inward = Inward::new(running.offloads.unwrap_or_default());
        let counted = Counted::default();
        running.engines.push(Arc::clone(&counted));
        let number = if pairs > 1 { format!("-{pair}") } else { String::new() };
        match outward {
            Some(outward) if config.threads > 1 => {
                let (out, baton) = (Arc::new(Mutex::new(outward)), Arc::new(Baton::new()?));
                let (sender, watcher) = (lane(&counted), lane(&counted));
                let (outs, batons) = (Arc::clone(&out), Arc::clone(&baton));
                running.spawn(config, format!("byway-tx{number}"), move || sender.send(&outs, &batons))?;
                running.spawn(config, format!("byway-rx{number}"), move || {
                    watcher.watch(inward, &read, Some(&out), Some(&baton))
                })?;
            }
            Some(outward) => {
                let lane = lane(&counted);
                running.spawn(config, format!("byway-fast{number}"), move || {
                    lane.watch(inward, &read, Some(&Mutex::new(outward)), None)
                })?;
            }
            None => {
                let lane = lane(&counted);
                running.spawn(config, format!("byway-rx{number}"), move || {
                    lane.watch(inward, &read, None, None)
                })?;
            }
        }
    }
    Ok(running)
}

impl Running {
    /// Whether the threads still carry packets.
    pub fn is_running(&self) -> bool {
        !self.shared.stopping()
    }

    /// Why they ended by themselves, if they did.
    pub fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many threads were started.
    pub fn threads(&self) -> usize {
        self.threads.len()
    }

    /// What the device takes; none without a device.
    pub fn offloads(&self) -> Option<Offloads> {
        self.offloads
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        let mut all = self.shared.counts.read();
        for engine in &self.engines {
            let (outward, inward) = *engine.lock().unwrap_or_else(PoisonError::into_inner);
            all.outward.odd += outward.odd;
            all.outward.overflowed += outward.overflowed;
            all.outward.marked += outward.marked;
            all.outward.left_out += outward.left_out;
            all.inward.forged += inward.forged;
            all.inward.replayed += inward.replayed;
            all.inward.malformed += inward.malformed;
            all.inward.ended += inward.ended;
            all.inward.plane += inward.plane;
            all.inward.refused += inward.refused;
            all.inward.congested += inward.congested;
        }
        all
    }

    fn spawn(
        &mut self,
        config: &Config,
        name: String,
        body: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let (shared, hook) = (Arc::clone(&self.shared), config.on_thread_start.clone());
        let thread = std::thread::Builder::new().name(name.clone()).spawn(move || {
            // Also when it panics.
            let ended = Ended { shared, name: &name };
            if let Some(hook) = hook {
                hook(&name);
            }
            if let Err(error) = body() {
                ended.shared.fail(format!("{name}: {error}"));
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shared.end();
        for thread in self.threads.drain(..) {
            // A panic has been told by the thread itself.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("threads", &self.threads.len())
            .field("pairs", &self.pairs)
            .field("running", &self.is_running())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.stop.store(true, Ordering::Release);
        // It cannot be full: nobody else writes it.
        let _ = self.event.write(1);
    }

    /// A thread cannot go on. Told once, by the first.
    fn fail(&self, why: String) {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.stopping() && failure.is_none() {
            tracing::error!(why, "the fast path has ended; packets go on the slow way until a restart");
            *failure = Some(why);
        }
        drop(failure);
        self.end();
    }

    fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Ends the others when a thread ends, however it does.
struct Ended<'a> {
    shared: Arc<Shared>,
    name: &'a str,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.fail(format!("{} panicked", self.name));
        }
        self.shared.end();
    }
}

#[cfg(test)]
#[path = "fast/tests.rs"]
mod tests;
