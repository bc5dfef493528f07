//! One open connection: frames in, frames out, in a task of its own.
//!
//! ```text
//!  transport ── Outgoing, at most 512 KiB ──► task ──► connection
//!            ◄── Note, at most 64 batches ───  task ◄──
//! ```
//!
//! A reader that is slow stops the task from reading, and so the other end from sending. What the other end does not take is
//! dropped, as a full socket would.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as WebSocketError, Message};

use super::Io;

/// A connection over which frames may go.
pub(crate) struct Established {
    pub(crate) carrier: Carrier,
    /// How the user knows the other end.
    pub(crate) name: String,
}

/// What carries frames.
pub(crate) enum Carrier {
    /// Bytes in their order, of which `early` have been read already.
    Stream { stream: Box<dyn Io>, framing: Framing, early: Vec<u8> },
    /// Datagrams, and a stream for what is too long.
    #[cfg(feature = "quic")]
    Quic(quinn::Connection),
}

/// How frames are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Each with its length before it (u16, most significant byte first).
    Length,
    /// Each a binary message.
    WebSocket(Role),
}

/// What a task tells its transport, by the number of the connection.
pub(crate) enum Note {
    Frames(u64, Vec<BytesMut>),
    /// The end, and whether it came of bytes that are no frame.
    Closed(u64, bool),
}

/// The transport's end of a connection. When it is dropped what waits is written, and the connection ends.
pub(crate) struct Outgoing {
    frames: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicUsize>,
    pub(crate) name: String,
}

/// Longest frame.
pub(crate) const MTU: u16 = 16_384;
/// Bytes that wait for an end that does not take them. More would only make what is sent late.
const OUTGOING_MAX: usize = 512 << 10;
/// What a frame in the queue costs besides its bytes.
const FRAME_COST: usize = 64;
/// Frames written, or read, in one go.
const BATCH: usize = 32;
/// Without a byte taken for this long, the other end is gone.
const WRITE: Duration = Duration::from_secs(20);
/// How long the last words may take.
const GOODBYE: Duration = Duration::from_secs(2);

impl Outgoing {
    /// Hands over a frame; false if too much waits, or the connection has ended.
    pub(crate) fn send(&self, frame: Bytes) -> bool {
        let cost = frame.len() + FRAME_COST;
        if self.waiting.load(Ordering::Relaxed) >= OUTGOING_MAX {
            return false;
        }
        self.waiting.fetch_add(cost, Ordering::Relaxed);
        self.frames.send(frame).is_ok()
    }
}

/// Carries frames over `connection` until it ends, or the transport's end of it is dropped.
pub(crate) fn carry(number: u64, connection: Established, notes: mpsc::Sender<Note>) -> Outgoing {
    let (sender, frames) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let queue = Queue { frames, waiting: Arc::clone(&waiting) };
    let Established { carrier, name } = connection;
    tokio::spawn(async move {
        let over = match carrier {
            Carrier::Stream { stream, framing: Framing::Length, early } => {
                let (reader, writer) = tokio::io::split(stream);
                let reading = read_lengths(number, reader, BytesMut::from(&early[..]), &notes);
                until_either(reading, write_lengths(writer, queue)).await
            }
            Carrier::Stream { stream, framing: Framing::WebSocket(role), early } => {
                let config = Some(websocket());
                let socket = WebSocketStream::from_partially_read(stream, early, role, config).await;
                let (sink, source) = socket.split();
                let reading = read_messages(number, source, &notes);
                until_either(reading, write_messages(sink, queue)).await
            }
            #[cfg(feature = "quic")]
            Carrier::Quic(connection) => super::quic::carry(number, connection, &notes, queue).await,
        };
        let is_nonsense = over.is_err_and(|why| why.kind() == io::ErrorKind::InvalidData);
        // The transport may be gone.
        let _ = notes.send(Note::Closed(number, is_nonsense)).await;
    });
    Outgoing { frames: sender, waiting, name }
}

/// What waits to be written.
pub(crate) struct Queue {
    frames: mpsc::UnboundedReceiver<Bytes>,
    waiting: Arc<AtomicUsize>,
}

impl Queue {
    /// Takes what is to be written next; false when nothing will come any more.
    pub(crate) async fn take(&mut self, batch: &mut Vec<Bytes>) -> bool {
        batch.clear();
        self.frames.recv_many(batch, BATCH).await > 0
    }

    pub(crate) fn written(&self, batch: &[Bytes]) {
        let cost = batch.iter().map(|frame| frame.len() + FRAME_COST).sum();
        self.waiting.fetch_sub(cost, Ordering::Relaxed);
    }
}

async fn until_either(
    reading: impl Future<Output = io::Result<()>>,
    writing: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    tokio::select! {
        over = reading => over,
        over = writing => over,
    }
}

/// `work`, unless it takes too long.
async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

pub(crate) async fn read_lengths(
    number: u64,
    mut reader: impl AsyncRead + Unpin,
    mut incoming: BytesMut,
    notes: &mpsc::Sender<Note>,
) -> io::Result<()> {
    loop {
        let mut frames = Vec::new();
        while let Some(length) = incoming.first_chunk().copied().map(u16::from_be_bytes) {
            if length == 0 || length > MTU {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let whole = 2 + usize::from(length);
            if incoming.len() < whole {
                break;
            }
            // Memory of its own: a frame that is kept must not keep what came with it.
            frames.push(BytesMut::from(&incoming[2..whole]));
            incoming.advance(whole);
        }
        if !frames.is_empty() && notes.send(Note::Frames(number, frames)).await.is_err() {
            return Ok(());
        }
        incoming.reserve(usize::from(MTU) + 2);
        if reader.read_buf(&mut incoming).await? == 0 {
            return Ok(());
        }
    }
}

async fn write_lengths(mut writer: WriteHalf<Box<dyn Io>>, mut queue: Queue) -> io::Result<()> {
    let (mut batch, mut buffer) = (Vec::new(), BytesMut::new());
    while queue.take(&mut batch).await {
        for frame in &batch {
            if let Ok(length @ 1..=MTU) = u16::try_from(frame.len()) {
                buffer.put_u16(length);
                buffer.put_slice(frame);
            }
        }
        while !buffer.is_empty() {
            within(WRITE, writer.write_buf(&mut buffer)).await?;
        }
        within(WRITE, writer.flush()).await?;
        queue.written(&batch);
    }
    within(GOODBYE, writer.shutdown()).await
}

async fn read_messages(
    number: u64,
    source: impl Stream<Item = Result<Message, WebSocketError>>,
    notes: &mpsc::Sender<Note>,
) -> io::Result<()> {
    let mut source = std::pin::pin!(source.ready_chunks(BATCH));
    while let Some(messages) = source.next().await {
        let mut frames = Vec::new();
        let mut over = None;
        for message in messages {
            match message {
                Ok(Message::Binary(frame)) if !frame.is_empty() => frames.push(BytesMut::from(&frame[..])),
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(_)) | Err(WebSocketError::ConnectionClosed) => over = Some(Ok(())),
                Err(WebSocketError::Io(why)) => over = Some(Err(why)),
                Ok(_) | Err(_) => over = Some(Err(io::ErrorKind::InvalidData.into())),
            }
            if over.is_some() {
                break;
            }
        }
        if !frames.is_empty() && notes.send(Note::Frames(number, frames)).await.is_err() {
            return Ok(());
        }
        if let Some(over) = over {
            return over;
        }
    }
    Ok(())
}

async fn write_messages(
    mut sink: impl Sink<Message, Error = WebSocketError> + Unpin,
    mut queue: Queue,
) -> io::Result<()> {
    let mut batch = Vec::new();
    while queue.take(&mut batch).await {
        for frame in &batch {
            if (1..=usize::from(MTU)).contains(&frame.len()) {
                within(WRITE, async {
                    sink.feed(Message::Binary(frame.clone())).await.map_err(io::Error::other)
                })
                .await?;
            }
        }
        within(WRITE, async { sink.flush().await.map_err(io::Error::other) }).await?;
        queue.written(&batch);
    }
    within(GOODBYE, async { sink.close().await.map_err(io::Error::other) }).await
}

fn websocket() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(MTU.into()))
        .max_frame_size(Some(MTU.into()))
        .read_buffer_size(4 * usize::from(MTU))
        .write_buffer_size(4 * usize::from(MTU))
        .max_write_buffer_size(OUTGOING_MAX)
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    fn pair(framing: [Framing; 2]) -> [Established; 2] {
        let (a, b) = duplex(1 << 20);
        [over(a, framing[0]), over(b, framing[1])]
    }

    fn over(stream: tokio::io::DuplexStream, framing: Framing) -> Established {
        let carrier = Carrier::Stream { stream: Box::new(stream), framing, early: Vec::new() };
        Established { carrier, name: String::new() }
    }

    const FRAMINGS: [[Framing; 2]; 2] =
        [[Framing::Length; 2], [Framing::WebSocket(Role::Client), Framing::WebSocket(Role::Server)]];

    #[tokio::test]
    async fn frames_come_whole_and_in_order_until_the_end_is_told() {
        for framing in FRAMINGS {
            let [a, b] = pair(framing);
            let (notes, mut told) = mpsc::channel(64);
            let (unread, _other) = mpsc::channel(64);
            let sender = carry(1, a, unread);
            let receiver = carry(2, b, notes);
            let sizes: Vec<usize> =
                (0..200).map(|number| 1 + number * 37 % 9_000).chain([MTU.into()]).collect();
            let (mut sent, mut frames) = (0, Vec::new());
            while frames.len() < sizes.len() {
                while sent < sizes.len() && sender.send(Bytes::from(vec![sent as u8; sizes[sent]])) {
                    sent += 1;
                }
                let Some(Note::Frames(2, more)) = told.recv().await else { panic!("{framing:?}") };
                frames.extend(more);
            }
            for (number, frame) in frames.iter().enumerate() {
                assert_eq!(frame[..], vec![number as u8; sizes[number]], "{framing:?}");
            }
            assert!(sender.send(Bytes::from_static(b"goodbye")));
            drop(sender);
            let Some(Note::Frames(2, last)) = told.recv().await else { panic!("{framing:?}") };
            assert_eq!(last, [&b"goodbye"[..]], "what waited is written before the end");
            assert!(matches!(told.recv().await, Some(Note::Closed(2, false))), "{framing:?}");
            drop(receiver);
        }
    }

    #[tokio::test]
    async fn bytes_that_are_no_frame_end_the_connection() {
        for (framing, bytes) in [
            (Framing::Length, &b"\x00\x00"[..]),
            (Framing::Length, b"\xff\xff"),
            (Framing::WebSocket(Role::Server), b"\x82\x05hello"),
            (Framing::WebSocket(Role::Server), b"\x81\x81\0\0\0\0a"),
            (Framing::WebSocket(Role::Server), b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0"),
        ] {
            let (mut near, far) = duplex(1_024);
            let (notes, mut told) = mpsc::channel(64);
            let _outgoing = carry(7, over(far, framing), notes);
            near.write_all(bytes).await.expect("there is room");
            assert!(matches!(told.recv().await, Some(Note::Closed(7, true))), "{framing:?} {bytes:?}");
        }
    }

    #[tokio::test]
    async fn what_the_other_end_does_not_take_is_dropped_at_a_bound() {
        for framing in FRAMINGS {
            let (near, _far) = duplex(1_024);
            let (notes, _told) = mpsc::channel(64);
            let outgoing = carry(7, over(near, framing[0]), notes);
            let frame = Bytes::from(vec![1; 1_000]);
            let mut taken = 0;
            while outgoing.send(frame.clone()) {
                taken += 1;
                assert!(taken <= OUTGOING_MAX / 1_000 + 1, "the queue grows without end");
            }
            assert!(taken > 100);
        }
    }
}
