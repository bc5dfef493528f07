//! Byway beside its peers, in network namespaces of this one machine: `cargo xtask bench peers`.
//!
//! Both ends, and what lies between, share the machine's processors, so what a byte costs decides how fast it goes; ratios between
//! peers of one campaign mean something, absolute figures of another machine do not.
//!
//! ```text
//!   host a ── veth pair, or a wire with faults ── host b        (and ── host c, where what lies between relays)
//!     │ TUN of the peer's daemon                    │ TUN
//!   iperf3, ping, a source of datagrams           iperf3, a sink
//! ```

pub mod aead;
pub mod bed;
pub mod campaign;
pub mod datagrams;
pub mod goals;
pub mod load;
pub mod measure;
pub mod name;
pub mod page;
pub mod peer;
pub mod plot;
pub mod probe;
pub mod record;
pub mod udp;
