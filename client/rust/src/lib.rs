//! The local HTTP API from afar: a daemon as [`Service`](byway_api::Service), its nodes as [`Node`](byway_api::Node).
//!
//! A [`Client`] knows where a daemon listens and has a typed call for each request of `/v1`. [`Client::connect`] makes a
//! [`Daemon`] of it, which code written for the traits takes in place of a daemon in its own process. A node's messages go
//! over one WebSocket; as long as a receiver takes them, sending is a copy into a buffer, and many leave in one frame.
//!
//! ```
//! use byway_api::{Kind, OpenNode, Outgoing, Request, Service as _};
//! use byway_client::Client;
//!
//! # use std::sync::Arc;
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("api.sock");
//! # let listener = byway_httpd::bind_unix(&path)?;
//! # let httpd = byway_httpd::Httpd::new(Arc::new(byway_api::memory::Realm::new()), Default::default());
//! # let serving = httpd.clone();
//! # tokio::spawn(async move { serving.serve_unix(listener).await });
//! # let url = format!("unix://{}", path.display());
//! let daemon = Client::new(&url)?.connect().await?;
//! let (alice, bob) = (daemon.open(OpenNode::default()).await?, daemon.open(OpenNode::default()).await?);
//!
//! let request = Request::default();
//! alice.send(Outgoing { to: bob.addr(), kind: Kind::Message, payload: "hello".into(), request }).await?;
//! assert_eq!(bob.recv(Kind::Message).await?.payload, "hello");
//! # Ok(())
//! # }
//! ```

mod client;
mod daemon;
mod endpoint;
mod flow;
mod http;
mod inbox;
mod node;
mod pump;

pub use client::Client;
pub use daemon::Daemon;
pub use node::RemoteNode;
