//! A connection to the SAM bridge while lines go over it; what follows the last one belongs to the stream.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::{Zeroize, Zeroizing};

/// Lines, one at a time. They may hold private keys, so nothing of them is left in memory.
pub(crate) struct Lines<S> {
    stream: S,
    buffer: Zeroizing<Vec<u8>>,
    filled: usize,
}

/// Longest line: a private key, with room.
const LENGTH_MAX: usize = 16_384;

impl<S: AsyncRead + AsyncWrite + Unpin> Lines<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, buffer: Zeroizing::new(vec![0; LENGTH_MAX]), filled: 0 }
    }

    /// Sends a line, in one piece: i2pd 2.45 takes one that comes in two for two malformed ones.
    pub(crate) async fn say(&mut self, line: &Zeroizing<String>) -> io::Result<()> {
        // Room for all at once: growing would leave copies of a key behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(line.len() + 1));
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
        self.stream.write_all(&bytes).await
    }

    /// The next line, without its end.
    pub(crate) async fn next(&mut self) -> io::Result<Zeroizing<String>> {
        loop {
            let filled = &self.buffer[..self.filled];
            if let Some(end) = filled.iter().position(|byte| *byte == b'\n') {
                let line = std::str::from_utf8(&filled[..end]).map_err(|_| io::ErrorKind::InvalidData)?;
                let line = Zeroizing::new(line.trim_end_matches('\r').to_owned());
                self.buffer.copy_within(end + 1..self.filled, 0);
                let left = self.filled - end - 1;
                self.buffer[left..self.filled].zeroize();
                self.filled = left;
                return Ok(line);
            }
            if self.filled == LENGTH_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match self.stream.read(&mut self.buffer[self.filled..]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.filled += count,
            }
        }
    }

    /// The stream from here on, and what has come of it already.
    pub(crate) fn into_stream(self) -> (S, BytesMut) {
        (self.stream, BytesMut::from(&self.buffer[..self.filled]))
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::{ReadBuf, duplex};

    use super::*;

    #[tokio::test]
    async fn lines_are_cut_and_what_follows_is_the_streams() {
        let (here, mut there) = duplex(64);
        let mut lines = Lines::new(here);
        for part in ["on", "e\r\ntw", "o\nrest"] {
            there.write_all(part.as_bytes()).await.expect("open");
        }
        assert_eq!(*lines.next().await.expect("a line"), "one");
        assert_eq!(*lines.next().await.expect("a line"), "two");
        assert!(
            lines.buffer[lines.filled..].iter().all(|byte| *byte == 0),
            "nothing is left of what was read"
        );
        let (_, early) = lines.into_stream();
        assert_eq!(early, "rest");
    }

    /// Keeps what is written, piece by piece, and says nothing.
    #[derive(Default)]
    struct Pieces(Vec<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Pieces {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            piece: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.push(piece.to_vec());
            Poll::Ready(Ok(piece.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_line_leaves_in_one_piece() {
        let mut lines = Lines::new(Pieces::default());
        lines.say(&Zeroizing::new("HELLO VERSION".to_owned())).await.expect("it takes everything");
        assert_eq!(lines.into_stream().0.0, [b"HELLO VERSION\n"]);
    }

    #[tokio::test]
    async fn an_endless_line_an_end_and_no_text_are_errors() {
        for (bytes, kind) in [
            (vec![b'x'; LENGTH_MAX + 1], io::ErrorKind::InvalidData),
            (b"\xff\n".to_vec(), io::ErrorKind::InvalidData),
            (b"half".to_vec(), io::ErrorKind::UnexpectedEof),
        ] {
            let (here, mut there) = duplex(2 * LENGTH_MAX);
            there.write_all(&bytes).await.expect("there is room");
            drop(there);
            assert_eq!(Lines::new(here).next().await.expect_err("odd").kind(), kind);
        }
    }
}
