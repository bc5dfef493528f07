//! A device that is a descriptor: for the tasks of the slow path, and for threads that read and write it themselves.
//!
//! ```text
//!  alone:    descriptor ─► split into plain packets ─► poll_recv           poll_send ─► descriptor
//!  threads:  descriptor ─► a thread ─► what it has no entry for ─► Inlet ─► poll_recv
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;
use byway_fastpath::{Gate, Handover, Offloads, Outward, Plane, Planes, Sink, Snapshot, Train, vnet};
use byway_identity::{Addr, OsEntropy};
use futures_util::future::BoxFuture;
use nix::errno::Errno;
use tokio::io::{Interest, Ready};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use crate::device::{BATCH, Device};

/// One queue of a device, on a descriptor that does not block. Any thread may call it.
#[derive(Debug)]
pub(crate) struct Queue {
    fd: OwnedFd,
    /// Whether a vnet header stands in front of each packet.
    vnet: bool,
}

/// A device with one or more [`Queue`]s.
pub(crate) struct Queues {
    name: String,
    queues: Vec<Arc<Queue>>,
    offloads: Offloads,
    source: Mutex<Source>,
}

/// What threads need to carry a device's packets.
#[derive(Debug)]
pub struct Direct {
    pub(crate) queues: Vec<Arc<Queue>>,
    pub(crate) offloads: Offloads,
    pub(crate) inlet: Inlet,
}

/// The way of packets from threads into the slow path. When the last clone is gone, the device reads its descriptors itself.
#[derive(Clone, Debug)]
pub(crate) struct Inlet(mpsc::Sender<Bytes>);

/// Where the slow path's packets come from.
struct Source {
    from: From,
    /// The task that waits for packets.
    waker: Option<Waker>,
}

enum From {
    /// The descriptors, once somebody asks.
    Idle,
    Own(Box<Own>),
    Threads(mpsc::Receiver<Bytes>),
}

struct Own {
    watched: Vec<Watched>,
    outward: Outward,
    nowhere: Snapshot,
}

struct Watched {
    /// The runtime's own type for any descriptor wants `unsafe`; a TUN queue reads like a pipe, one packet for each call.
    pipe: Arc<pipe::Receiver>,
    /// A deleted device is not readable, it only has an error, for which there is no function to poll.
    error: BoxFuture<'static, io::Result<Ready>>,
}

impl Queue {
    /// `fd` must not block.
    pub(crate) fn new(fd: OwnedFd, vnet: bool) -> Self {
        Self { fd, vnet }
    }

    /// Reads one packet, with a vnet header in front of it in any case; the length of both.
    pub(crate) fn read(&self, space: &mut [u8]) -> io::Result<usize> {
        self.read_by(space, |space| Ok(nix::unistd::read(&self.fd, space)?))
    }

    fn read_by(
        &self,
        space: &mut [u8],
        mut read: impl FnMut(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let length = if self.vnet {
            read(space)?
        } else {
            let (header, packet) = space.split_at_mut(vnet::LENGTH.min(space.len()));
            header.fill(0);
            match read(packet)? {
                0 => 0,
                length => length + vnet::LENGTH,
            }
        };
        if length == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(length) }
    }

    /// Writes one packet, which is in parts.
    pub(crate) fn write(&self, header: &[u8; vnet::LENGTH], parts: &[IoSlice<'_>]) -> io::Result<()> {
        const PARTS: usize = 80;
        if !self.vnet {
            return Ok(nix::sys::uio::writev(&self.fd, parts).map(drop)?);
        }
        let mut few = [IoSlice::new(&[]); PARTS];
        let result = if let Some((first, rest)) = few.split_first_mut()
            && let Some(rest) = rest.get_mut(..parts.len())
        {
            *first = IoSlice::new(header);
            rest.copy_from_slice(parts);
            nix::sys::uio::writev(&self.fd, &few[..=parts.len()])
        } else {
            let mut many = Vec::with_capacity(1 + parts.len());
            many.push(IoSlice::new(header));
            many.extend_from_slice(parts);
            nix::sys::uio::writev(&self.fd, &many)
        };
        Ok(result.map(drop)?)
    }

    /// Whether an error of reading or writing means that the device is gone for good.
    pub(crate) fn is_fatal(error: &io::Error) -> bool {
        // EBADFD: somebody deleted the device. EIO is a device that is down; the others come from one packet.
        matches!(
            error.raw_os_error().map(Errno::from_raw),
            Some(Errno::EBADFD | Errno::EBADF | Errno::ENODEV)
        )
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Queues {
    pub(crate) fn new(name: String, queues: Vec<Queue>, offloads: Offloads) -> Self {
        let queues = queues.into_iter().map(Arc::new).collect();
        Self { name, queues, offloads, source: Mutex::new(Source { from: From::Idle, waker: None }) }
    }

    fn own(&self) -> io::Result<Own> {
        let watched =
            self.queues.iter().map(|queue| Watched::new(queue.fd.try_clone()?)).collect::<io::Result<_>>()?;
        let nowhere = Snapshot::new(Addr::from_bytes([0; 32]));
        Ok(Own { watched, outward: Outward::new(&mut OsEntropy), nowhere })
    }
}

impl Device for Queues {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll_recv(&self, cx: &mut Context<'_>, batch: &mut Vec<Bytes>) -> Poll<io::Result<()>> {
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let Source { from, waker } = &mut *source;
        if let From::Threads(packets) = from {
            *waker = None;
            if let Some(packet) = ready!(packets.poll_recv(cx)) {
                batch.push(packet);
                while batch.len() < BATCH
                    && let Ok(packet) = packets.try_recv()
                {
                    batch.push(packet);
                }
                return Poll::Ready(Ok(()));
            }
            *from = From::Idle;
        }
        if matches!(from, From::Idle) {
            *from = From::Own(Box::new(self.own()?));
        }
        let From::Own(own) = from else { return Poll::Pending };
        let polled = own.poll_recv(cx, &self.queues, batch);
        if let Poll::Ready(Err(_)) = polled {
            *from = From::Idle;
        }
        // Threads may take over while it waits, which no descriptor would tell.
        *waker = polled.is_pending().then(|| cx.waker().clone());
        polled
    }

    fn poll_send(&self, _: &mut Context<'_>, batch: &mut VecDeque<Bytes>) -> Poll<io::Result<()>> {
        let (Some(packet), Some(queue)) = (batch.pop_front(), self.queues.first()) else {
            return Poll::Ready(Ok(()));
        };
        Poll::Ready(queue.write(&[0; vnet::LENGTH], &[IoSlice::new(&packet)]))
    }

    fn direct(&self) -> Option<Direct> {
        let (sender, receiver) = mpsc::channel(Inlet::PACKETS);
        let mut source = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        source.from = From::Threads(receiver);
        if let Some(waker) = source.waker.take() {
            waker.wake();
        }
        Some(Direct { queues: self.queues.clone(), offloads: self.offloads, inlet: Inlet(sender) })
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues")
            .field("name", &self.name)
            .field("queues", &self.queues.len())
            .field("offloads", &self.offloads)
            .finish_non_exhaustive()
    }
}

impl Inlet {
    /// Most packets that wait for the slow path.
    pub(crate) const PACKETS: usize = 512;

    /// Hands a packet over; `false`: the queue is full, and the packet is lost.
    pub(crate) fn push(&self, packet: &[u8]) -> bool {
        // Room first: what would be lost is not worth a copy.
        match self.0.try_reserve() {
            Ok(room) => {
                room.send(Bytes::copy_from_slice(packet));
                true
            }
            Err(_) => false,
        }
    }
}

impl Own {
    fn poll_recv(
        &mut self,
        cx: &mut Context<'_>,
        queues: &[Arc<Queue>],
        batch: &mut Vec<Bytes>,
    ) -> Poll<io::Result<()>> {
        let Self { watched, outward, nowhere } = self;
        for (queue, watched) in queues.iter().zip(watched) {
            while batch.len() < BATCH {
                let read = match queue.read_by(outward.space(), |space| watched.pipe.try_read(space)) {
                    Err(why) if why.kind() == io::ErrorKind::WouldBlock => {
                        if let Poll::Ready(asked) = watched.pipe.poll_read_ready(cx) {
                            asked?;
                            continue;
                        }
                        if watched.error.as_mut().poll(cx).is_pending() {
                            break;
                        }
                        queue.read(outward.space())
                    }
                    read => read,
                };
                match read {
                    Ok(length) => {
                        // What was read may be a super-packet: the engine makes plain packets of it.
                        let now = Instant::now();
                        outward.enqueue(now, length);
                        while outward.next(now, nowhere, &Closed, &mut Plain(batch)) {}
                    }
                    Err(why) => return Poll::Ready(Err(why)),
                }
            }
        }
        if batch.is_empty() { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl Watched {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        let pipe = Arc::new(pipe::Receiver::from_owned_fd_unchecked(fd)?);
        let watched = Arc::clone(&pipe);
        Ok(Self { pipe, error: Box::pin(async move { watched.ready(Interest::ERROR).await }) })
    }
}

/// Takes plain packets out of the engine, which without an entry for anybody makes nothing else.
struct Plain<'a>(&'a mut Vec<Bytes>);

impl Sink for Plain<'_> {
    fn transmit(&mut self, _: Train<'_>) {}

    fn inject(&mut self, _: &[u8; vnet::LENGTH], _: &[IoSlice<'_>]) {}

    fn to_portal(&mut self, packet: &[u8]) {
        self.0.push(Bytes::copy_from_slice(packet));
    }

    fn to_core(&mut self, _: Handover<'_>) {}
}

/// Sends everything the slow way.
struct Closed;

impl Gate for Closed {
    fn outgoing(&self, _: Instant, _: &[u8], _: &Planes) -> Option<(Addr, Plane)> {
        None
    }

    fn incoming(&self, _: Instant, _: &Addr, _: &[u8]) -> bool {
        false
    }

    fn addresses(&self, _: &Addr) -> Option<(Ipv6Addr, Ipv6Addr)> {
        None
    }
}
