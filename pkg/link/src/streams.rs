//! Connections that carry frames over reliable streams, numbered as places.
//!
//! ```text
//! frame  length u16 (1 … 16,384) · bytes
//! ```
//!
//! What a transport over streams adds is how a stream comes to be; what goes over it is the same for all (spec/30-link.md,
//! section 8). A peer that does not read loses frames, and nobody waits for it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{Endpoint, Event, Place, Remote, TransportId};

/// The open connections of one transport.
pub struct Streams<S> {
    id: TransportId,
    connections: HashMap<u64, Connection<S>>,
    inbound: usize,
    next: u64,
    outgoing_max: usize,
    scratch: Box<[u8]>,
    counters: StreamCounters,
}

/// What was counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamCounters {
    /// Frames sent.
    pub sent: u64,
    /// Frames received.
    pub received: u64,
    /// Frames dropped: the other side does not read, or is gone.
    pub dropped: u64,
    /// Connections that were refused since there were too many, or ended for a frame that is none.
    pub refused: u64,
}

struct Connection<S> {
    stream: S,
    /// Where it was dialled; none: it came in.
    dialled: Option<Endpoint>,
    incoming: BytesMut,
    outgoing: BytesMut,
}

/// Longest frame.
const MTU: u16 = 16_384;
/// Open connections of one transport.
const CONNECTIONS_MAX: usize = 256;
/// Of these, such that others opened: strangers must not keep this end from dialling.
const INBOUND_MAX: usize = 192;
/// Bytes taken from one connection before the others get their turn.
const TURN: usize = 256 << 10;

impl<S: AsyncRead + AsyncWrite + Unpin> Streams<S> {
    /// No connections yet. `outgoing_max`: bytes that may wait for a peer that does not read.
    pub fn new(id: TransportId, outgoing_max: usize) -> Self {
        Self {
            id,
            connections: HashMap::new(),
            inbound: 0,
            next: 0,
            outgoing_max,
            scratch: vec![0; usize::from(MTU)].into_boxed_slice(),
            counters: StreamCounters::default(),
        }
    }

    /// A stream that was dialled; none if there are too many. `early`: what has come over it already.
    pub fn dialled(&mut self, stream: S, endpoint: Endpoint, early: BytesMut) -> Option<Place> {
        self.add(stream, Some(endpoint), early)
    }

    /// A stream that another side opened; none if there are too many. `early`: what has come over it already.
    pub fn accepted(&mut self, stream: S, early: BytesMut) -> Option<Place> {
        if self.inbound >= INBOUND_MAX {
            self.counters.refused += 1;
            return None;
        }
        self.add(stream, None, early)
    }

    /// Ends a connection; what the system still takes leaves, a goodbye for example.
    pub fn hang_up(&mut self, place: Place) {
        if let Remote::Connection(number) = place.remote
            && let Some(mut connection) = self.remove(number)
        {
            // Without a context nothing more can be waited for, and need not be.
            let mut cx = Context::from_waker(std::task::Waker::noop());
            let _ = connection.flush(&mut cx);
        }
    }

    /// Where the connection of `place` was dialled; none: it came in, or is gone.
    pub fn endpoint(&self, place: Place) -> Option<&Endpoint> {
        let Remote::Connection(number) = place.remote else { return None };
        self.connections.get(&number)?.dialled.as_ref()
    }

    /// What was counted.
    pub fn counters(&self) -> StreamCounters {
        self.counters
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Takes all of `batch`, as [`Transport::poll_send`](crate::Transport::poll_send) does.
    pub fn send(&mut self, cx: &mut Context<'_>, batch: &mut VecDeque<(Place, Bytes)>) {
        for (place, frame) in batch.drain(..) {
            let Remote::Connection(number) = place.remote else { continue };
            let length = u16::try_from(frame.len()).ok().filter(|length| (1..=MTU).contains(length));
            match (self.connections.get_mut(&number), length) {
                (Some(connection), Some(length)) if connection.outgoing.len() < self.outgoing_max => {
                    connection.outgoing.put_u16(length);
                    connection.outgoing.put_slice(&frame);
                    self.counters.sent += 1;
                }
                _ => self.counters.dropped += 1,
            }
        }
        for connection in self.connections.values_mut() {
            // An end is seen by the next look for what has come.
            let _ = connection.flush(cx);
        }
    }

    /// Appends frames that came and connections that ended.
    pub fn receive(&mut self, cx: &mut Context<'_>, batch: &mut Vec<Event>) {
        let id = self.id;
        let mut over = Vec::new();
        for (number, connection) in &mut self.connections {
            let place = place(id, *number);
            let frames = batch.len();
            let take = |frame| batch.push(Event::Frame { place, frame });
            let received = connection.receive(cx, &mut self.scratch, take);
            self.counters.received += (batch.len() - frames) as u64;
            if let Err(why) = received.and_then(|()| connection.flush(cx)) {
                self.counters.refused += u64::from(why.kind() == io::ErrorKind::InvalidData);
                over.push(*number);
            }
        }
        for number in over {
            self.remove(number);
            batch.push(Event::Closed { place: place(id, number) });
        }
    }

    fn add(&mut self, stream: S, dialled: Option<Endpoint>, early: BytesMut) -> Option<Place> {
        if self.connections.len() >= CONNECTIONS_MAX {
            self.counters.refused += 1;
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.inbound += usize::from(dialled.is_none());
        let connection = Connection { stream, dialled, incoming: early, outgoing: BytesMut::new() };
        self.connections.insert(number, connection);
        Some(place(self.id, number))
    }

    fn remove(&mut self, number: u64) -> Option<Connection<S>> {
        let connection = self.connections.remove(&number)?;
        self.inbound -= usize::from(connection.dialled.is_none());
        Some(connection)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Takes frames that came; an error when the connection is over.
    fn receive(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        mut take: impl FnMut(BytesMut),
    ) -> io::Result<()> {
        let mut taken = 0;
        loop {
            while let Some(frame) = cut(&mut self.incoming)? {
                take(frame);
            }
            if taken >= TURN {
                cx.waker().wake_by_ref();
                return Ok(());
            }
            let mut read = ReadBuf::new(scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(why)) => return Err(why),
                Poll::Ready(Ok(())) if read.filled().is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Ok(())) => {
                    taken += read.filled().len();
                    self.incoming.extend_from_slice(read.filled());
                }
            }
        }
    }

    /// Writes what waits, as far as it goes; an error when the connection is over.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, &self.outgoing) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(count)) => self.outgoing.advance(count),
                Poll::Ready(Err(why)) => return Err(why),
            }
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }
}

/// Shows counts alone.
impl<S> fmt::Debug for Streams<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams")
            .field("connections", &self.connections.len())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

fn place(transport: TransportId, number: u64) -> Place {
    Place { transport, remote: Remote::Connection(number), mtu: MTU }
}

/// The first frame of `incoming`, if it is whole; an error if the next one is none.
fn cut(incoming: &mut BytesMut) -> io::Result<Option<BytesMut>> {
    let Some(length) = incoming.first_chunk().copied().map(u16::from_be_bytes) else { return Ok(None) };
    if length == 0 || length > MTU {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let whole = 2 + usize::from(length);
    if incoming.len() < whole {
        return Ok(None);
    }
    // Memory of its own: a frame that is kept must not keep what came with it.
    let frame = BytesMut::from(&incoming[2..whole]);
    incoming.advance(whole);
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const ID: TransportId = TransportId(3);

    fn endpoint() -> Endpoint {
        "tor://example.onion:1".parse().expect("an endpoint")
    }

    /// The next events, at least one.
    async fn events(streams: &mut Streams<DuplexStream>) -> Vec<Event> {
        let mut batch = Vec::new();
        poll_fn(|cx| {
            streams.receive(cx, &mut batch);
            if batch.is_empty() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        batch
    }

    async fn send(streams: &mut Streams<DuplexStream>, frames: impl IntoIterator<Item = (Place, Bytes)>) {
        let mut batch = frames.into_iter().collect();
        poll_fn(|cx| {
            streams.send(cx, &mut batch);
            Poll::Ready(())
        })
        .await;
        assert!(batch.is_empty(), "frames are taken, or dropped and counted");
    }

    #[tokio::test]
    async fn frames_arrive_whole_however_they_are_cut_and_what_came_early_counts() {
        let mut streams = Streams::new(ID, 1 << 20);
        let (here, mut there) = duplex(1 << 16);
        let place = streams.dialled(here, endpoint(), BytesMut::from(&b"\0\x02o"[..])).expect("room");
        for byte in *b"n\0\x01x\0\x03a" {
            there.write_all(&[byte]).await.expect("open");
        }
        let mut frames = Vec::new();
        while frames.len() < 2 {
            for event in events(&mut streams).await {
                let Event::Frame { place: from, frame } = event else { panic!("{event:?}") };
                assert_eq!(from, place);
                frames.push(frame);
            }
        }
        assert_eq!(frames, [&b"on"[..], b"x"]);
        send(&mut streams, [(place, Bytes::from_static(b"back"))]).await;
        let mut read = [0; 6];
        there.read_exact(&mut read).await.expect("open");
        assert_eq!(&read, b"\0\x04back");
        drop(there);
        assert!(matches!(events(&mut streams).await[..], [Event::Closed { place: gone }] if gone == place));
        assert!(streams.is_empty() && streams.endpoint(place).is_none());
    }

    #[tokio::test]
    async fn a_frame_that_is_none_ends_its_connection_and_no_other() {
        for odd in [[0, 0], (MTU + 1).to_be_bytes()] {
            let mut streams = Streams::new(ID, 1 << 20);
            let ((good, _there), (bad, mut hostile)) = (duplex(64), duplex(64));
            let kept = streams.accepted(good, BytesMut::new()).expect("room");
            let ended = streams.accepted(bad, BytesMut::new()).expect("room");
            hostile.write_all(&odd).await.expect("open");
            let told = events(&mut streams).await;
            assert!(matches!(told[..], [Event::Closed { place }] if place == ended), "{told:?}");
            assert_eq!((streams.len(), streams.counters().refused), (1, 1));
            send(&mut streams, [(kept, Bytes::from_static(b"on"))]).await;
            assert_eq!(streams.counters().sent, 1);
        }
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_loses_frames_and_costs_bounded_memory() {
        let mut streams = Streams::new(ID, 1 << 16);
        let (here, _there) = duplex(64);
        let place = streams.accepted(here, BytesMut::new()).expect("room");
        let frame = Bytes::from(vec![7; 1_000]);
        for _ in 0..1_000 {
            send(&mut streams, [(place, frame.clone())]).await;
        }
        let waiting: usize = streams.connections.values().map(|connection| connection.outgoing.len()).sum();
        assert!(waiting <= (1 << 16) + frame.len() + 2, "{waiting}");
        assert!(streams.counters().dropped > 900, "{:?}", streams.counters());
        let gone = Place { remote: Remote::Connection(99), ..place };
        send(&mut streams, [(gone, frame), (place, Bytes::new()), (place, vec![0; 20_000].into())]).await;
        assert!(streams.counters().dropped > 903);
    }

    #[tokio::test]
    async fn strangers_fill_their_part_and_leave_room_to_dial() {
        let mut streams = Streams::new(ID, 64);
        let mut others = Vec::new();
        let open = |others: &mut Vec<DuplexStream>| {
            let (here, there) = duplex(16);
            others.push(there);
            here
        };
        let mut places = Vec::new();
        while let Some(place) = streams.accepted(open(&mut others), BytesMut::new()) {
            places.push(place);
        }
        assert_eq!((places.len(), streams.counters().refused), (INBOUND_MAX, 1));
        while streams.dialled(open(&mut others), endpoint(), BytesMut::new()).is_some() {}
        assert_eq!(streams.len(), CONNECTIONS_MAX);
        streams.hang_up(places[0]);
        assert!(streams.accepted(open(&mut others), BytesMut::new()).is_some(), "its room is free again");
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_none_are_made_up(bytes: Vec<u8>) {
            let mut incoming = BytesMut::from(&bytes[..]);
            let mut frames = 0;
            while let Ok(Some(frame)) = cut(&mut incoming) {
                frames += frame.len() + 2;
            }
            prop_assert_eq!(frames + incoming.len(), bytes.len());
        }
    }
}
