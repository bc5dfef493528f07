//! The local HTTP API: `/v1`, and beside it the local API of INET256, on the same listeners.
//!
//! It speaks [`Service`](byway_api::Service) and [`Node`](byway_api::Node) and nothing below them. Ordinary requests are
//! JSON and carry a deadline; messages in numbers go through one WebSocket per node, or through the raw stream that INET256
//! opens with `CONNECT`, and each of these is one task that moves batches. `spec/80-api.md` is the normative text.
//!
//! ```no_run
//! use std::sync::Arc;
//! use byway_api::memory::Realm;
//! use byway_httpd::{Httpd, Options, bind_unix};
//!
//! # async fn serve() -> std::io::Result<()> {
//! let httpd = Httpd::new(Arc::new(Realm::new()), Options::default());
//! httpd.serve_unix(bind_unix("/run/user/1000/byway/api.sock".as_ref())?).await
//! # }
//! ```

mod access;
mod app;
mod compat;
mod counters;
mod extract;
mod hosted;
mod lanes;
mod listen;
mod reply;
mod server;
mod token;
mod v1;

pub use app::Options;
pub use listen::bind_unix;
pub use server::Httpd;
pub use token::Token;
pub use v1::openapi;
