//! Reliable byte streams on messages.
//!
//! Messages between two nodes get lost and come out of order; programs want streams. [`Endpoint`] makes them by running
//! QUIC, as quinn has it, with messages in the place of UDP datagrams: loss recovery, flow control and many streams over one
//! connection, none of it invented here. A stream begins with the name of a *service*, as a TCP connection begins with
//! a port, and the other side accepts or refuses it.
//!
//! Who is at the other end needs no proof by TLS, because each message comes through the end-to-end session with its
//! sender. This crate speaks [`byway_api::Node`] and nothing below it, so it works over the daemon's own core, over a
//! daemon far away, and over nodes in memory. The wire form is in `spec/85-stream.md`.
//!
//! ```text
//!  Stream ── Connection ── quinn ── Queues ── Node    one Remote
//!  Stream ──────┘                     │         │
//!  Stream ── Connection ── quinn ── Queues ─────┘     another Remote
//! ```
//!
//! ```no_run
//! # async fn example(node: std::sync::Arc<dyn byway_api::Node>, to: byway_identity::Addr) -> Result<(), Box<dyn std::error::Error>> {
//! use byway_stream::{Endpoint, EndpointConfig};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let endpoint = Endpoint::new(node, EndpointConfig::default());
//! let mut stream = endpoint.connect(to, "echo").await?;
//! stream.write_all(b"hello").await?;
//! stream.shutdown().await?;
//! let mut answer = Vec::new();
//! stream.read_to_end(&mut answer).await?;
//! # Ok(())
//! # }
//! ```

mod connection;
mod endpoint;
mod error;
mod header;
mod remote;
mod socket;
mod stream;
mod tls;

pub use endpoint::{Endpoint, EndpointConfig};
pub use error::ConnectError;
pub use header::SERVICE_MAX;
pub use stream::{Incoming, Stream};
