//! The core that joins links, routing and sessions, and its driver.
//!
//! A daemon hosts many nodes. Its own node keeps the links to peers; every other one is a leaf of it, attached over
//! loopback with a key, a router and end-to-end sessions of its own. [`Core`] is all of that as one value without IO;
//! [`start`] gives it real time and real transports, and returns a [`Handle`] through which the rest of the daemon
//! opens nodes and asks for state.
//!
//! ```text
//! Node (api) ──commands──► driver ──► Core { link::Core, Local… } ──outputs──► transports, inboxes
//! ```

mod control;
mod core;
mod driver;
mod fast;
mod flow;
mod handle;
mod inbox;
mod level;
mod local;
mod metrics;
mod publish;
mod remote;
mod report;
mod types;
mod way;

pub use crate::core::{Core, NODES_MAX};
pub use crate::local::NodeCounters;
pub use byway_session::Ciphers;
pub use driver::start;
pub use handle::{Handle, NodeHandle};
pub use level::Levels;
pub use types::{Answer, Config, Disposition, NodeStatus, Output, Question, SendRequest};
pub use way::Way;
