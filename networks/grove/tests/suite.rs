//! The shared suite, for `grove`.

use std::time::Instant;

use byway_grove::Grove;
use byway_network::{Network, Setup};

fn grove(now: Instant, setup: Setup) -> Box<dyn Network> {
    Box::new(Grove::new(now, setup))
}

byway_sim::network_suite!(grove);
