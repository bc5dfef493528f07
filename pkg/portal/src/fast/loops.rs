//! The loops: wait, read all there is within a budget, ask the engines, write.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use byway_fastpath::{Gate, Inward, InwardCounters, Outward, OutwardCounters, Tables, Trains, Underlay};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::wires::Wires;
use super::{Counted, Shared};
use crate::queue::Queue;

/// What one thread works with.
pub(super) struct Lane {
    pub(super) shared: Arc<Shared>,
    pub(super) tables: Arc<Tables>,
    pub(super) gate: Option<Arc<dyn Gate>>,
    pub(super) wires: Wires,
    pub(super) counted: Counted,
    /// Reads in a row that failed.
    pub(super) failed: u32,
}

/// What a thread needs to carry packets out.
pub(super) struct Out {
    pub(super) engine: Outward,
    pub(super) queues: Vec<Arc<Queue>>,
    pub(super) gate: Arc<dyn Gate>,
}

/// Whether more may be there at once.
#[derive(Clone, Copy, PartialEq, Eq)]
enum More {
    Maybe,
    No,
}

/// Most reads from the device, and bytes, before the engine has its turn. More than that turn sends, so that what waits, waits
/// in the fair queue and not in the device.
const READS: usize = 64;
const READ_BYTES: usize = 256 << 10;
/// Trains taken in one call, and calls for one socket before the others have their turn.
const TRAINS: usize = 8;
const CALLS: usize = 4;
/// Most bytes after which answers are looked for at once.
const LITTLE: usize = 2_048;
/// A device that fails so often in a row is broken.
const FAILED: u32 = 100;

impl Lane {
    /// From the device to the sockets, until the end.
    pub(super) fn outward(mut self, out: &Mutex<Out>) -> io::Result<()> {
        let queues = lock(out).queues.clone();
        loop {
            while self.counted_turn_outward(&mut lock(out))? == More::Maybe {
                if self.shared.stopping() {
                    return Ok(());
                }
            }
            self.wait(queues.iter().map(|queue| queue.as_fd()))?;
            if self.shared.stopping() {
                return Ok(());
            }
        }
    }

    /// From the sockets to the device, other sockets and the core, until the end.
    ///
    /// After the little that came, what programs answer to it at once leaves by `answers` before anybody has to wake up.
    pub(super) fn inward(
        mut self,
        mut engine: Inward,
        sockets: &[Arc<dyn Underlay>],
        answers: Option<&Mutex<Out>>,
    ) -> io::Result<()> {
        let mut trains = Trains::new(TRAINS);
        loop {
            while self.turn_inward(&mut engine, sockets, &mut trains)? == More::Maybe {
                if self.shared.stopping() {
                    return Ok(());
                }
            }
            if let Some(Ok(mut out)) = answers.filter(|_| self.is_little(&trains)).map(Mutex::try_lock) {
                // To the end: the other thread may be asleep, and does not know of what waits in the queue.
                while self.turn_outward(&mut out)? == More::Maybe {
                    if self.shared.stopping() {
                        return Ok(());
                    }
                }
            }
            self.wait(sockets.iter().map(|socket| socket.fd()))?;
            if self.shared.stopping() {
                return Ok(());
            }
        }
    }

    /// Both, in turns.
    pub(super) fn both(
        mut self,
        mut out: Out,
        mut engine: Inward,
        sockets: &[Arc<dyn Underlay>],
    ) -> io::Result<()> {
        let mut trains = Trains::new(TRAINS);
        loop {
            loop {
                let inward = self.turn_inward(&mut engine, sockets, &mut trains)?;
                let outward = self.counted_turn_outward(&mut out)?;
                if (inward, outward) == (More::No, More::No) {
                    break;
                }
                if self.shared.stopping() {
                    return Ok(());
                }
            }
            let queues = out.queues.iter().map(|queue| queue.as_fd());
            self.wait(queues.chain(sockets.iter().map(|socket| socket.fd())))?;
            if self.shared.stopping() {
                return Ok(());
            }
        }
    }

    /// Whether what came last is little, as pings and questions are, and not a part of a stream.
    fn is_little(&self, trains: &Trains) -> bool {
        trains.len() == 1 && trains.bytes() <= LITTLE
    }

    /// As [`Lane::turn_outward`], with the counters of the engine shown as this lane's.
    fn counted_turn_outward(&mut self, out: &mut Out) -> io::Result<More> {
        let more = self.turn_outward(out)?;
        self.counted().0 = out.engine.counters();
        Ok(more)
    }

    /// Reads what programs send, and sends what has its turn.
    fn turn_outward(&mut self, out: &mut Out) -> io::Result<More> {
        let now = Instant::now();
        let mut more = More::No;
        // Asked for only when there is something to do: it tells the core that threads are busy.
        let mut tables = None;
        for queue in &out.queues {
            let (mut reads, mut bytes) = (0, 0);
            loop {
                match queue.read(out.engine.space()) {
                    Ok(length) => {
                        self.failed = 0;
                        reads += 1;
                        bytes += length;
                        let tables = tables.get_or_insert_with(|| self.tables.load());
                        out.engine.take(now, length, tables, &*out.gate, &mut self.wires);
                    }
                    Err(why) if why.kind() == io::ErrorKind::Interrupted => continue,
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                    Err(why) if Queue::is_fatal(&why) => return Err(why),
                    // Of one packet, or of a device that is going; not for ever.
                    Err(why) => {
                        self.failed += 1;
                        if self.failed >= FAILED {
                            return Err(why);
                        }
                        break;
                    }
                }
                if reads >= READS || bytes >= READ_BYTES {
                    more = More::Maybe;
                    break;
                }
            }
            self.shared.counts.reads.add(reads as u64);
        }
        if !out.engine.is_idle() {
            let tables = tables.get_or_insert_with(|| self.tables.load());
            if out.engine.next(now, tables, &*out.gate, &mut self.wires) {
                more = More::Maybe;
            }
        }
        self.wires.hand_up();
        self.wires.take_broken()?;
        Ok(more)
    }

    /// Takes what has come on each socket.
    fn turn_inward(
        &mut self,
        engine: &mut Inward,
        sockets: &[Arc<dyn Underlay>],
        trains: &mut Trains,
    ) -> io::Result<More> {
        let mut more = More::No;
        for socket in sockets {
            for call in 1..=CALLS {
                match socket.receive(trains) {
                    Ok(()) => {}
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => break,
                    // It tells of a frame that was sent before.
                    Err(why) if !is_closed(&why) => continue,
                    Err(why) => return Err(why),
                }
                let full = trains.len() >= TRAINS;
                self.take(engine, socket.port(), trains);
                self.wires.take_broken()?;
                if !full {
                    break;
                }
                if call == CALLS {
                    more = More::Maybe;
                }
            }
        }
        Ok(more)
    }

    fn take(&mut self, engine: &mut Inward, port: u16, trains: &mut Trains) {
        let now = Instant::now();
        let tables = self.tables.load();
        for (head, bytes) in trains.iter_mut() {
            let (gate, wires) = (self.gate.as_deref(), &mut self.wires);
            engine.train(now, port, head.from, head.ecn, bytes, head.stride, &tables, gate, wires);
        }
        self.wires.hand_up();
        self.counted().1 = engine.counters();
    }

    fn counted(&self) -> MutexGuard<'_, (OutwardCounters, InwardCounters)> {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until one of `fds` can be read, or the threads shall stop.
    fn wait<'a>(&'a self, fds: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<()> {
        let event = PollFd::new(self.shared.event(), PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> =
            std::iter::once(event).chain(fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN))).collect();
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(why) => return Err(why.into()),
        }
        let gone = fds.iter().any(|fd| fd.revents().is_some_and(|what| what.contains(PollFlags::POLLNVAL)));
        if gone { Err(Errno::EBADF.into()) } else { Ok(()) }
    }
}

/// Each turn leaves the engine whole; what a panic lost was packets.
fn lock(out: &Mutex<Out>) -> MutexGuard<'_, Out> {
    out.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a socket is gone.
fn is_closed(why: &io::Error) -> bool {
    why.raw_os_error().is_some_and(|why| Errno::from_raw(why) == Errno::EBADF)
}
