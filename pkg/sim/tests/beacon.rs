//! The shared suite, for `beacon`.

use byway_beacon::Beacon;
use byway_network::{Network, Setup};

fn beacon(now: std::time::Instant, setup: Setup) -> Box<dyn Network> {
    Box::new(Beacon::new(now, setup))
}

byway_sim::network_suite!(beacon);
