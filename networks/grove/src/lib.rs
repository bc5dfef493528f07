//! Routing by several spanning trees at once: compact, loop-free, quick to heal.

mod cert;
mod coords;
mod filter;
mod frame;
mod limit;
mod location;
mod names;
mod packet;
mod registry;

pub use registry::Registry;
