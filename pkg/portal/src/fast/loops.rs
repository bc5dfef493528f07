//! The loops: wait, read all there is within a budget, ask the engines, write.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use byway_fastpath::{Gate, Inward, InwardCounters, Outward, OutwardCounters, Tables, Trains, Underlay};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::baton::Baton;
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

/// What a turn at the device left and did.
struct Turn {
    more: More,
    /// Read from the device.
    bytes: usize,
}

/// What a thread was waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Came {
    Something,
    Nothing,
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
/// Bytes of one turn after which the sender shall go on: more than questions and acknowledgements make.
const MUCH: usize = 16 << 10;
/// How long nothing leaves before the watcher has the device again, in milliseconds.
const PAUSE: u8 = 10;
/// A device that fails so often in a row is broken.
const FAILED: u32 = 100;

impl Lane {
    /// From the device to the sockets whenever the device is this thread's, until the end.
    pub(super) fn send(mut self, out: &Mutex<Out>, baton: &Baton) -> io::Result<()> {
        let queues = lock(out).queues.clone();
        loop {
            self.wait(std::iter::once(baton.sender()), PollTimeout::NONE)?;
            baton.sender_came();
            while baton.is_senders() {
                while self.turn_outward(&mut lock(out))?.more == More::Maybe {
                    if self.shared.stopping() {
                        return Ok(());
                    }
                }
                let came = self.wait(queues.iter().map(|queue| queue.as_fd()), PAUSE.into())?;
                if self.shared.stopping() {
                    return Ok(());
                }
                if came == Came::Nothing {
                    self.shared.counts.given_back.add(1);
                    baton.give_back();
                }
            }
            if self.shared.stopping() {
                return Ok(());
            }
        }
    }

    /// From the sockets to the device, other sockets and the core, until the end; and from the device to the sockets, unless
    /// the device is the sender's.
    pub(super) fn watch(
        mut self,
        mut engine: Inward,
        sockets: &[Arc<dyn Underlay>],
        out: Option<&Mutex<Out>>,
        baton: Option<&Baton>,
    ) -> io::Result<()> {
        let mut trains = Trains::new(TRAINS);
        let queues = out.map(|out| lock(out).queues.clone()).unwrap_or_default();
        loop {
            loop {
                let inward = self.turn_inward(&mut engine, sockets, &mut trains)?;
                let outward = match out {
                    Some(out) => self.watch_device(out, baton)?,
                    None => More::No,
                };
                if (inward, outward) == (More::No, More::No) {
                    break;
                }
                if self.shared.stopping() {
                    return Ok(());
                }
            }
            let sockets = sockets.iter().map(|socket| socket.fd());
            match baton {
                Some(baton) if baton.is_senders() => {
                    self.wait(sockets.chain(std::iter::once(baton.watcher())), PollTimeout::NONE)?;
                    baton.watcher_came();
                }
                _ => {
                    self.wait(sockets.chain(queues.iter().map(|queue| queue.as_fd())), PollTimeout::NONE)?;
                }
            }
            if self.shared.stopping() {
                return Ok(());
            }
        }
    }

    /// The watcher's turn at the device, after which the sender may have it.
    fn watch_device(&mut self, out: &Mutex<Out>, baton: Option<&Baton>) -> io::Result<More> {
        if baton.is_some_and(Baton::is_senders) {
            return Ok(More::No);
        }
        let turn = self.turn_outward(&mut lock(out))?;
        match baton {
            Some(baton) if turn.more == More::Maybe || turn.bytes >= MUCH => {
                self.shared.counts.handed_over.add(1);
                baton.hand_over();
                Ok(More::No)
            }
            _ => Ok(turn.more),
        }
    }

    /// Reads what programs send, and sends what has its turn.
    fn turn_outward(&mut self, out: &mut Out) -> io::Result<Turn> {
        let now = Instant::now();
        let mut turn = Turn { more: More::No, bytes: 0 };
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
                    turn.more = More::Maybe;
                    break;
                }
            }
            turn.bytes += bytes;
            self.shared.counts.reads.add(reads as u64);
        }
        if !out.engine.is_idle() {
            let tables = tables.get_or_insert_with(|| self.tables.load());
            if out.engine.next(now, tables, &*out.gate, &mut self.wires) {
                turn.more = More::Maybe;
            }
            self.counted().0 = out.engine.counters();
        }
        self.wires.hand_up();
        self.wires.take_broken()?;
        Ok(turn)
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

    /// Waits until one of `fds` can be read, the threads shall stop, or the time is up.
    fn wait<'a>(
        &'a self,
        fds: impl Iterator<Item = BorrowedFd<'a>>,
        timeout: PollTimeout,
    ) -> io::Result<Came> {
        let event = PollFd::new(self.shared.event(), PollFlags::POLLIN);
        let mut fds: Vec<PollFd<'_>> =
            std::iter::once(event).chain(fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN))).collect();
        let came = match poll(&mut fds, timeout) {
            Ok(0) => Came::Nothing,
            Ok(_) | Err(Errno::EINTR) => Came::Something,
            Err(why) => return Err(why.into()),
        };
        let gone = fds.iter().any(|fd| fd.revents().is_some_and(|what| what.contains(PollFlags::POLLNVAL)));
        if gone { Err(Errno::EBADF.into()) } else { Ok(came) }
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
