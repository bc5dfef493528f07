//! What the engines want done, done by system calls.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use byway_fastpath::{HandUp, Handover, Sink, Train, Underlay, vnet};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::{Counters, Shared};
use crate::queue::{Inlet, Queue};

/// One thread's ways out: to the device, to the sockets, to the slow path.
pub(super) struct Wires {
    shared: Arc<Shared>,
    sockets: Vec<Socket>,
    device: Option<Device>,
    /// Why the thread cannot go on.
    broken: Option<io::Error>,
}

pub(super) struct Device {
    pub(super) queue: Arc<Queue>,
    pub(super) inlet: Inlet,
}

struct Socket {
    underlay: Arc<dyn Underlay>,
    /// What goes to the core when the train that it came with is done.
    hand_up: Vec<HandUp>,
}

/// How long a thread waits for a full socket. Longer would keep all other destinations waiting too.
const PATIENCE: Duration = Duration::from_millis(10);

impl Wires {
    pub(super) fn new(shared: Arc<Shared>, sockets: Vec<Arc<dyn Underlay>>, device: Option<Device>) -> Self {
        let sockets = sockets.into_iter().map(|underlay| Socket { underlay, hand_up: Vec::new() }).collect();
        Self { shared, sockets, device, broken: None }
    }

    /// Gives the core what has gathered, in one go.
    pub(super) fn hand_up(&mut self) {
        for socket in &mut self.sockets {
            if !socket.hand_up.is_empty() {
                socket.underlay.hand_up(&mut socket.hand_up);
                socket.hand_up.clear();
            }
        }
    }

    /// An error after which the thread must end, once.
    pub(super) fn take_broken(&mut self) -> io::Result<()> {
        self.broken.take().map_or(Ok(()), Err)
    }

    fn send(&self, socket: &dyn Underlay, train: Train<'_>) {
        let mut rest = train.bytes;
        let mut until = None;
        while !rest.is_empty() {
            match socket.send(train.to, train.ecn, rest, train.segment) {
                Ok(done) => rest = rest.get(done..).unwrap_or_default(),
                Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                    let until = *until.get_or_insert_with(|| Instant::now() + PATIENCE);
                    if !self.wait_writable(socket, until) {
                        return self.shared.counts.send_overrun.add(1);
                    }
                }
                // The socket has counted it.
                Err(_) => return,
            }
        }
    }

    /// Whether the socket can be tried again.
    fn wait_writable(&self, socket: &dyn Underlay, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut fds = [
            PollFd::new(socket.fd(), PollFlags::POLLOUT),
            PollFd::new(self.shared.event(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, timeout) {
            Ok(0) => false,
            Ok(_) => !self.shared.stopping(),
            Err(why) => why == Errno::EINTR && !left.is_zero(),
        }
    }
}

impl Sink for Wires {
    fn transmit(&mut self, train: Train<'_>) {
        let socket = self.sockets.iter().find(|socket| socket.underlay.port() == train.port);
        // A transport that threads have no socket of has no links in the tables.
        if let Some(socket) = socket {
            self.send(&*socket.underlay, train);
        }
    }

    fn inject(&mut self, header: &[u8; vnet::LENGTH], parts: &[IoSlice<'_>]) {
        let Some(device) = &self.device else { return };
        self.shared.counts.writes.add(1);
        if let Err(why) = device.queue.write(header, parts) {
            self.shared.counts.write_errors.add(1);
            if Queue::is_fatal(&why) {
                self.broken = Some(why);
            }
        }
    }

    fn to_portal(&mut self, packet: &[u8]) {
        if let Some(device) = &self.device
            && !device.inlet.push(packet)
        {
            self.shared.counts.portal_overrun.add(1);
        }
    }

    fn to_core(&mut self, handover: Handover<'_>) {
        let (port, what) = HandUp::new(handover);
        if let Some(socket) = self.sockets.iter_mut().find(|socket| socket.underlay.port() == port) {
            socket.hand_up.push(what);
        }
    }
}

#[derive(Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) reads: Count,
    writes: Count,
    write_errors: Count,
    portal_overrun: Count,
    send_overrun: Count,
    pub(super) handed_over: Count,
    pub(super) given_back: Count,
}

impl Counts {
    pub(super) fn read(&self) -> Counters {
        Counters {
            reads: self.reads.read(),
            writes: self.writes.read(),
            write_errors: self.write_errors.read(),
            portal_overrun: self.portal_overrun.read(),
            send_overrun: self.send_overrun.read(),
            handed_over: self.handed_over.read(),
            given_back: self.given_back.read(),
            ..Counters::default()
        }
    }
}
