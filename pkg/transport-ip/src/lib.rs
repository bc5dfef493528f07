//! Links over UDP, TCP, TLS, WebSocket and Unix sockets: thin drivers below [`byway_link::Core`].
//!
//! [`Udp`] is one socket for many peers, IPv4 and IPv6, which sends and receives in batches. [`Unix`] joins daemons on one
//! machine. [`Web`] passes where only the web does, and is a web site to strangers. Neither knows a peer, a session or a retry: they carry frames, and what they cannot carry they drop and count.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! use byway_link::{Transport, TransportId};
//! use byway_transport_ip::Udp;
//!
//! let udp = Udp::bind(TransportId(0), "[::]:2561".parse().expect("a socket address"))?;
//! for endpoint in udp.listening() {
//!     println!("{endpoint}");
//! }
//! # Ok(())
//! # }
//! ```

mod feed;
mod lookup;
mod shared;
mod udp;
mod unix;
mod web;

pub use feed::Feed;
pub use shared::{Offload, Options, SharedUdp, UdpCounters};
pub use udp::{Udp, UdpPort};
pub use unix::{Unix, UnixCounters};
pub use web::{Certificate, Front, Look, Proxy, Site, Web, WebCounters};
