//! Hosts in network namespaces, and the wire between them.
//!
//! A [`World`] is a set of namespaces that needs no root where the kernel lets users make their own, and that is
//! gone, with every process in it, when the test ends, however it ends. [`Host`]s in it are joined by veth pairs
//! or by a [`Wire`], which delays, loses, reorders and cuts as it is told. A [`Daemon`] is a `byway up` on a host.
//!
//! ```text
//!   test process ── pipe ──► init of the world's process namespace
//!                              ├── holder of host A ─ network namespace ─ eth0 ┐
//!                              ├── holder of host B ─ network namespace ─ eth0 ┘ veth, or two TAPs and a wire
//!                              └── daemons, servers, commands
//! ```
//!
//! The pipe closes with the test process; then `init` ends, and the kernel ends all the rest.

mod chain;
mod daemon;
mod fabric;
mod frame;
mod graph;
mod host;
mod mesh;
mod orders;
mod pcap;
mod pings;
mod process;
mod random;
mod wire;
mod wire_run;

pub use chain::{A, B, C, Chain, Pings, epoch, listens, reaches, tcp_send, tcp_sink};
pub use daemon::{Daemon, DaemonConfig, Identity, Peer, get, program};
pub use fabric::{Fabric, FabricPlan, Traffic, run_fabric};
pub use frame::{Frame, Protocol};
pub use graph::Graph;
pub use host::{Host, World};
pub use mesh::{Member, Mesh, Pair, Stretch};
pub use pcap::datagrams;
pub use pings::{Heard, Pinger, Sweep, run_pings};
pub use process::{Process, wait_for};
pub use random::Random;
pub use wire::{Counters, Faults, Lane, Matcher};
pub use wire_run::{Answer, End, Order, Side, Wire, WireOptions, parse_end, run_wire};
