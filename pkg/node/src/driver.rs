//! SKELETON.

use byway_link::Transport;

use crate::{Config, Handle};

/// Starts a core on the current tokio runtime. `transports` are numbered in their order.
pub fn start(_config: Config, _transports: Vec<Box<dyn Transport>>) -> Handle {
    todo!()
}
