//! Targets for the grove network.

use std::sync::OnceLock;

use byway_grove::{Config, Grove, Registry};

use crate::routing::{self, Protocol};

static GROVE: Protocol = Protocol {
    make: |now, setup| {
        // Each genuine signature is checked once for all runs.
        static REGISTRY: OnceLock<Registry> = OnceLock::new();
        let registry = REGISTRY.get_or_init(Registry::new).clone();
        Box::new(Grove::with_config(now, setup, Config { registry, ..Config::default() }))
    },
    settled_after: 256,
    is_terse: false,
};

/// See `routing.rs`.
pub fn grove_frames(data: &[u8]) {
    routing::frames(&GROVE, data);
}

/// See `routing.rs`.
pub fn grove_world(data: &[u8]) {
    routing::world(&GROVE, data);
}

pub(crate) fn recorded() -> Vec<Vec<u8>> {
    routing::recorded(&GROVE)
}
