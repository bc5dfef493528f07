//! What quinn takes for a UDP socket: the messages between this node and one remote.
//!
//! Each remote has a socket, and a small QUIC endpoint, of its own. So there is no table of invented addresses, a remote
//! whose way is slow holds up nobody else, and what one remote can make us keep is bounded by itself.
//!
//! ```text
//!  quinn ── try_send ──► outbound (bounded) ── pump task ──► node.send      waits while the node's queue is full
//!  quinn ◄─ poll_recv ── inbound (bounded)  ◄── demultiplexer ◄── node.recv  what does not fit is dropped, as UDP does
//! ```

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};
use tokio::sync::Notify;

/// Most datagrams that wait for the node. Few, because the node has a queue of its own behind this one.
const OUTBOUND: usize = 32;
/// Most datagrams that wait for quinn.
const INBOUND: usize = 1024;
/// Longest datagram, in bytes; quinn sets aside 32 times as many per remote.
pub(crate) const DATAGRAM_MAX: usize = 2048;
/// Shortest datagram that QUIC can live with, in bytes.
pub(crate) const DATAGRAM_MIN: usize = 1200;

/// The address that stands for the remote inside quinn, which insists on one.
pub(crate) const REMOTE: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 1);
const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 2);

/// The two queues between quinn and the node.
#[derive(Default)]
pub(crate) struct Queues {
    outbound: Mutex<Outbound>,
    inbound: Mutex<Inbound>,
    /// Told when something was queued outbound, or the end came.
    filled: Notify,
}

#[derive(Default)]
struct Outbound {
    datagrams: VecDeque<Bytes>,
    /// Tasks that found the queue full; all are woken by the next free place.
    waiting: Vec<Waker>,
    /// quinn is gone: what is queued still leaves, then the pump ends.
    ended: bool,
}

#[derive(Default)]
struct Inbound {
    datagrams: VecDeque<Bytes>,
    reader: Option<Waker>,
    ended: bool,
}

impl Queues {
    /// Whether a message can be a datagram at all.
    pub(crate) fn takes(datagram: &[u8]) -> bool {
        (1..=DATAGRAM_MAX).contains(&datagram.len())
    }

    /// Hands a message that came from the remote to quinn; false: there was no room, or quinn would not read it.
    pub(crate) fn push_inbound(&self, datagram: Bytes) -> bool {
        if !Self::takes(&datagram) {
            return false;
        }
        let mut inbound = lock(&self.inbound);
        if inbound.ended || inbound.datagrams.len() >= INBOUND {
            return false;
        }
        inbound.datagrams.push_back(datagram);
        let reader = inbound.reader.take();
        drop(inbound);
        if let Some(reader) = reader {
            reader.wake();
        }
        true
    }

    /// The next datagram for the node; none once quinn is gone and all has left.
    pub(crate) async fn next_outbound(&self) -> Option<Bytes> {
        loop {
            {
                let mut outbound = lock(&self.outbound);
                if let Some(datagram) = outbound.datagrams.pop_front() {
                    let waiting = std::mem::take(&mut outbound.waiting);
                    drop(outbound);
                    waiting.into_iter().for_each(Waker::wake);
                    return Some(datagram);
                }
                if outbound.ended {
                    return None;
                }
            }
            // A permit is kept when `notify_one` comes between the check and this, so no datagram is forgotten.
            self.filled.notified().await;
        }
    }

    /// The node has ended: quinn is told at its next read.
    pub(crate) fn end(&self) {
        let reader = {
            let mut inbound = lock(&self.inbound);
            inbound.ended = true;
            inbound.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        self.end_outbound();
    }

    fn end_outbound(&self) {
        let waiting = {
            let mut outbound = lock(&self.outbound);
            outbound.ended = true;
            std::mem::take(&mut outbound.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
        self.filled.notify_one();
    }

    fn try_send(&self, contents: &[u8]) -> io::Result<()> {
        let mut outbound = lock(&self.outbound);
        if outbound.ended {
            // The connection is about to learn it from its reader; until then the datagram is lost, as on any network.
            return Ok(());
        }
        if outbound.datagrams.len() >= OUTBOUND {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        outbound.datagrams.push_back(Bytes::copy_from_slice(contents));
        drop(outbound);
        self.filled.notify_one();
        Ok(())
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The room is looked at and the waker left under one lock, so that no wake-up falls between the two.
        let mut outbound = lock(&self.outbound);
        if outbound.ended || outbound.datagrams.len() < OUTBOUND {
            return Poll::Ready(Ok(()));
        }
        if !outbound.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            outbound.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut inbound = lock(&self.inbound);
        let mut count = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let Some(datagram) = inbound.datagrams.pop_front() else { break };
            let length = datagram.len().min(buffer.len());
            buffer[..length].copy_from_slice(&datagram[..length]);
            *meta = RecvMeta { addr: REMOTE, len: length, stride: length, ecn: None, dst_ip: None };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        if inbound.ended {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        inbound.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// quinn's end of [`Queues`].
pub(crate) struct Socket(pub(crate) Arc<Queues>);

impl Drop for Socket {
    fn drop(&mut self) {
        self.0.end_outbound();
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Socket")
    }
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Poller(Arc::clone(&self.0)))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.0.try_send(transmit.contents)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_recv(cx, buffers, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(LOCAL)
    }
}

/// Waits for room towards the node.
struct Poller(Arc<Queues>);

impl fmt::Debug for Poller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Poller")
    }
}

impl UdpPoller for Poller {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_writable(cx)
    }
}

/// A panic elsewhere leaves queues of whole datagrams, so they stay usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn everyone_who_found_the_queue_full_is_woken_by_one_free_place() {
        let queues = Queues::default();
        for _ in 0..OUTBOUND {
            queues.try_send(b"datagram").unwrap();
        }
        assert_eq!(queues.try_send(b"one more").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let tasks: Vec<_> = (0..3).map(|_| Arc::new(Count::default())).collect();
        for task in &tasks {
            let waker = Waker::from(Arc::clone(task));
            for _ in 0..5 {
                assert!(queues.poll_writable(&mut Context::from_waker(&waker)).is_pending());
            }
        }
        assert_eq!(lock(&queues.outbound).waiting.len(), 3, "a task waits once, however often it asks");
        assert!(queues.next_outbound().await.is_some());
        for task in &tasks {
            assert_eq!(task.0.load(Ordering::SeqCst), 1);
        }
        assert!(queues.poll_writable(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[tokio::test]
    async fn what_is_queued_leaves_after_quinn_is_gone_and_then_the_pump_ends() {
        let queues = Arc::new(Queues::default());
        let socket = Socket(Arc::clone(&queues));
        queues.try_send(b"goodbye").unwrap();
        drop(socket);
        assert_eq!(queues.next_outbound().await.as_deref(), Some(&b"goodbye"[..]));
        assert_eq!(queues.next_outbound().await, None);
    }

    #[test]
    fn a_flood_from_one_remote_is_cut_at_the_cap() {
        let queues = Queues::default();
        let taken = (0..3 * INBOUND).filter(|_| queues.push_inbound(Bytes::from_static(b"flood"))).count();
        assert_eq!(taken, INBOUND);
        assert!(!queues.push_inbound(Bytes::from(vec![0; DATAGRAM_MAX + 1])));
        assert!(!queues.push_inbound(Bytes::new()));
    }
}
