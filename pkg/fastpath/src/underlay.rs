//! What carries trains of frames between machines, as the loops see it; sockets are elsewhere.
//!
//! A *train* is frames of one size side by side, of which the last may be shorter: one system call carries it.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use bytes::{Bytes, BytesMut};

use crate::{Ecn, Handover};

/// A socket that many peers share, of one transport. Every method may be called from several threads at once.
pub trait Underlay: fmt::Debug + Send + Sync {
    /// The number of its transport (`TransportId.0`).
    fn port(&self) -> u16;

    /// Where a thread waits until it can send or receive.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Sends frames of `segment` bytes, side by side in `train`; how many bytes are done with, sent or dropped.
    ///
    /// It does not wait: an error of kind `WouldBlock` means that none left, and less than all that the rest did not.
    /// Other errors are counted, and drop the train.
    fn send(&self, to: SocketAddr, ecn: Ecn, train: &[u8], segment: usize) -> io::Result<usize>;

    /// Takes what has come, without waiting. An error of kind `WouldBlock`: nothing.
    fn receive(&self, trains: &mut Trains) -> io::Result<()>;

    /// Hands everything in `batch` to the core, in order, and empties it. What the core's queue has no room for is
    /// dropped and counted there.
    fn hand_up(&self, batch: &mut Vec<HandUp>);
}

/// Something that a thread leaves to the core: a [`Handover`] with memory of its own.
pub enum HandUp {
    /// A datagram as it came.
    Datagram {
        /// From where.
        from: SocketAddr,
        /// All of it.
        bytes: BytesMut,
    },
    /// A frame that was opened, and is none of the thread's business.
    Unsealed {
        /// From where.
        from: SocketAddr,
        /// The receiver index that it came with.
        index: u32,
        /// What the payload is.
        kind: u8,
        /// Flags of the frame.
        flags: u8,
        /// What was sealed.
        payload: Bytes,
    },
}

impl HandUp {
    /// Takes what `handover` only borrows, with the port that it came by.
    pub fn new(handover: Handover<'_>) -> (u16, Self) {
        match handover {
            Handover::Datagram { port, from, datagram } => {
                (port, Self::Datagram { from, bytes: BytesMut::from(datagram) })
            }
            Handover::Unsealed { port, from, index, kind, flags, payload } => {
                let payload = Bytes::copy_from_slice(payload);
                (port, Self::Unsealed { from, index, kind, flags, payload })
            }
        }
    }
}

/// Never shows an address or what was sealed.
impl fmt::Debug for HandUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Datagram { bytes, .. } => f.debug_tuple("Datagram").field(&bytes.len()).finish(),
            Self::Unsealed { kind, payload, .. } => {
                f.debug_tuple("Unsealed").field(kind).field(&payload.len()).finish()
            }
        }
    }
}

/// Where a train came from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Who sent it, IPv4 as IPv4.
    pub from: SocketAddr,
    /// What its packets said of congestion.
    pub ecn: Ecn,
    /// Bytes in all.
    pub length: usize,
    /// Bytes of each datagram but the last.
    pub stride: usize,
}

/// Never shows an address.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("ecn", &self.ecn)
            .field("length", &self.length)
            .field("stride", &self.stride)
            .finish_non_exhaustive()
    }
}

/// Buffers of one receiving thread, each with room for the longest train.
pub struct Trains {
    buffers: Box<[Box<[u8]>]>,
    heads: Vec<Head>,
}

impl Trains {
    /// Longest train: what fits an IP packet.
    pub const LENGTH: usize = 65_536;

    /// Room for `count` trains.
    pub fn new(count: usize) -> Self {
        let buffers = (0..count.max(1)).map(|_| vec![0; Self::LENGTH].into_boxed_slice()).collect();
        Self { buffers, heads: Vec::with_capacity(count) }
    }

    /// For whoever fills them: the buffers, and an empty list for one head of each buffer in turn that has been filled.
    pub fn fill(&mut self) -> (&mut [Box<[u8]>], &mut Vec<Head>) {
        self.heads.clear();
        (&mut self.buffers, &mut self.heads)
    }

    /// How many came.
    pub fn len(&self) -> usize {
        self.heads.len()
    }

    /// Whether none came.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// How many bytes came.
    pub fn bytes(&self) -> usize {
        self.heads.iter().map(|head| head.length).sum()
    }

    /// What came, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Head, &mut [u8])> {
        self.heads.iter().zip(&mut self.buffers).map(|(head, buffer)| {
            let length = head.length.min(buffer.len());
            (*head, &mut buffer[..length])
        })
    }
}

impl fmt::Debug for Trains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trains").field("heads", &self.heads).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trains_end_where_their_heads_say() {
        let mut trains = Trains::new(2);
        let (buffers, heads) = trains.fill();
        buffers[0][..4].copy_from_slice(b"abcd");
        let from = ([127, 0, 0, 1], 9).into();
        heads.push(Head { from, ecn: Ecn::Ce, length: 4, stride: 2 });
        let came: Vec<(Head, Vec<u8>)> =
            trains.iter_mut().map(|(head, bytes)| (head, bytes.to_vec())).collect();
        assert_eq!((came.len(), &came[0].1[..], came[0].0.ecn), (1, &b"abcd"[..], Ecn::Ce));
        assert_eq!(trains.bytes(), 4);
        assert!(!format!("{trains:?}").contains("127"), "{trains:?}");
        trains.fill();
        assert!(trains.is_empty());
    }
}
