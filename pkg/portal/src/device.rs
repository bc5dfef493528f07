//! What packets of this host come out of and go into.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::queue::Direct;

/// A network device that speaks whole IPv6 packets.
///
/// One task may receive while another sends; in each direction the last caller is the one that is woken.
pub trait Device: Debug + Send + Sync {
    /// Its name, as `ip link` shows it.
    fn name(&self) -> &str;

    /// Appends packets that programs sent to `batch`: at least one when ready. An error means that the device is gone.
    fn poll_recv(&self, cx: &mut Context<'_>, batch: &mut Vec<Bytes>) -> Poll<io::Result<()>>;

    /// Gives the first packet of `batch` to the programs of this host and removes it.
    ///
    /// Ready with an error means that this packet is lost, and no more.
    fn poll_send(&self, cx: &mut Context<'_>, batch: &mut VecDeque<Bytes>) -> Poll<io::Result<()>>;

    /// Its descriptors, for threads that carry packets themselves; none where there is no such thing.
    ///
    /// From then on [`poll_recv`](Self::poll_recv) gives what the threads hand over, until all of them have ended.
    fn direct(&self) -> Option<Direct> {
        None
    }
}

/// A device without a kernel: what a test sends into its [`Plug`] comes out of it, and the other way round.
#[derive(Debug)]
pub struct MemoryDevice {
    from_host: Mutex<mpsc::Receiver<Bytes>>,
    to_host: mpsc::Sender<Bytes>,
}

/// The programs' side of a [`MemoryDevice`].
#[derive(Debug)]
pub struct Plug {
    /// Where programs send.
    pub send: mpsc::Sender<Bytes>,
    /// What programs receive.
    pub recv: mpsc::Receiver<Bytes>,
}

impl MemoryDevice {
    /// A device with room for `capacity` packets each way, and its other side.
    pub fn new(capacity: usize) -> (Self, Plug) {
        let (send, from_host) = mpsc::channel(capacity);
        let (to_host, recv) = mpsc::channel(capacity);
        (Self { from_host: Mutex::new(from_host), to_host }, Plug { send, recv })
    }
}

impl Device for MemoryDevice {
    fn name(&self) -> &str {
        "memory"
    }

    fn poll_recv(&self, cx: &mut Context<'_>, batch: &mut Vec<Bytes>) -> Poll<io::Result<()>> {
        let mut from_host = self.from_host.lock().unwrap_or_else(PoisonError::into_inner);
        let first = ready!(from_host.poll_recv(cx)).ok_or(io::ErrorKind::BrokenPipe)?;
        batch.push(first);
        while batch.len() < BATCH
            && let Ok(packet) = from_host.try_recv()
        {
            batch.push(packet);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send(&self, _: &mut Context<'_>, batch: &mut VecDeque<Bytes>) -> Poll<io::Result<()>> {
        let Some(packet) = batch.pop_front() else { return Poll::Ready(Ok(())) };
        // Like the kernel: what the programs do not take in time is lost.
        Poll::Ready(self.to_host.try_send(packet).map_err(|_| io::ErrorKind::WouldBlock.into()))
    }
}

/// Most packets that are taken from a device or a node at a time.
pub(crate) const BATCH: usize = 64;
