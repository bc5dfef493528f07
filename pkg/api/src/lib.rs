//! The service as traits and bodies.
//!
//! Portal, proxies, the HTTP API and every command reach the network through [`Node`] and [`Service`] and nothing
//! below them, so each runs against the in-memory realm, the core of this daemon, or a daemon far away. Every
//! request carries a [`ManCon`] level.
//!
//! ```
//! use byway_api::memory::Realm;
//! use byway_api::{Kind, OpenNode, Outgoing, Request, Service};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), byway_api::ApiError> {
//! let service: &dyn Service = &Realm::new();
//! let alice = service.open(OpenNode::default()).await?;
//! let bob = service.open(OpenNode::default()).await?;
//!
//! let request = Request::default();
//! alice.send(Outgoing { to: bob.addr(), kind: Kind::Message, payload: "hello".into(), request }).await?;
//! let incoming = bob.recv(Kind::Message).await?;
//! assert_eq!((incoming.from, &incoming.payload[..]), (alice.addr(), &b"hello"[..]));
//! # Ok(())
//! # }
//! ```

pub mod body;
mod error;
pub mod exchange;
pub mod frame;
pub mod inet256;
mod mancon;
pub mod memory;
mod node;
mod service;

pub use error::{ApiError, Code};
pub use mancon::ManCon;
pub use node::{Incoming, Kind, Node, Outgoing, Request, Sent};
pub use service::{OpenNode, Service};

/// A boxed future, as the object-safe traits of this crate return them.
pub type BoxFuture<'a, T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Most bytes of one message.
pub const MESSAGE_MAX: usize = 65_535;

/// How long a call waits when its caller names no deadline.
pub const DEFAULT_DEADLINE: std::time::Duration = std::time::Duration::from_secs(10);

/// How long a payload is held whose sender names no deadline.
pub const HELD_LIFE: std::time::Duration = std::time::Duration::from_secs(60);
