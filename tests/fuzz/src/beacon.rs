//! Targets for the beacon network.

use byway_beacon::Beacon;

use crate::routing::{self, Protocol};

static BEACON: Protocol =
    Protocol { make: |now, setup| Box::new(Beacon::new(now, setup)), settled_after: 48, is_terse: true };

/// See `routing.rs`.
pub fn beacon_frames(data: &[u8]) {
    routing::frames(&BEACON, data);
}

/// See `routing.rs`.
pub fn beacon_world(data: &[u8]) {
    routing::world(&BEACON, data);
}

pub(crate) fn recorded() -> Vec<Vec<u8>> {
    routing::recorded(&BEACON)
}
