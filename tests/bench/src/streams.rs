//! How fast one byte stream goes from one node to another.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use byway_api::Node;
use byway_stream::{Endpoint, EndpointConfig};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    /// Bytes that arrived, each at its place.
    pub bytes: u64,
    /// From opening the stream to its last byte, in seconds.
    pub seconds: f64,
}

impl Carried {
    /// Mbit/s.
    pub fn mbits(&self) -> f64 {
        if self.seconds > 0.0 { self.bytes as f64 * 8.0 / 1e6 / self.seconds } else { 0.0 }
    }
}

/// Sends `bytes` bytes through one stream from `from` to `to`.
pub async fn measure(from: Arc<dyn Node>, to: Arc<dyn Node>, bytes: u64) -> Result<Carried> {
    let target = to.addr();
    let (client, server) =
        (Endpoint::new(from, EndpointConfig::default()), Endpoint::new(to, EndpointConfig::default()));
    let begin = Instant::now();
    let reader = async {
        let mut stream = server.accept().await.context("the node has ended")?.accept().await?;
        let mut buffer = vec![0; CHUNK];
        let mut count: u64 = 0;
        loop {
            let length = stream.read(&mut buffer).await?;
            if length == 0 {
                return anyhow::Ok((count, Instant::now()));
            }
            for byte in &buffer[..length] {
                ensure!(*byte == byte_at(count), "byte {count} is another than was sent");
                count += 1;
            }
        }
    };
    let writer = async {
        let mut stream = client.connect(target, "bench").await?;
        let mut sent = 0;
        let mut buffer = Vec::with_capacity(CHUNK);
        while sent < bytes {
            let end = bytes.min(sent + CHUNK as u64);
            buffer.clear();
            buffer.extend((sent..end).map(byte_at));
            stream.write_all(&buffer).await?;
            sent = end;
        }
        Ok(stream.close().await?)
    };
    let ((count, end), ()) = tokio::try_join!(reader, writer)?;
    Ok(Carried { bytes: count, seconds: (end - begin).as_secs_f64() })
}

const CHUNK: usize = 64 * 1024;

/// What belongs at each place: nothing that repeats with a datagram or a window.
fn byte_at(place: u64) -> u8 {
    (place % 251) as u8
}
