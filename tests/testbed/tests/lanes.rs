//! Programs reach each other through two TUN devices over each transport, and again after either daemon was killed.

use anyhow::{Context, Result};
use byway_netns::World;
use byway_testbed::{Around, Kind, Lane};

/// What is fetched over each.
const BYTES: usize = 10_000_000;

fn carries_and_recovers(kinds: impl Iterator<Item = Kind>) -> Result<()> {
    let world = World::new()?;
    let between = world.host("between")?;
    let mut around = Around::default();
    for kind in kinds {
        let mut tried = || -> Result<()> {
            let mut lane = Lane::new(&world, &between, &mut around, kind)?;
            let carried = lane.carries(BYTES)?;
            let right = lane.recovers(&between, false).context("after the right one was killed")?;
            let left = lane.recovers(&between, true).context("after the left one was killed")?;
            println!(
                "{}: joined after {:?}, {:.1} Mbit/s, right back after {right:?}, left after {left:?}",
                kind.name(),
                lane.joined(),
                carried.rate * 8e-6
            );
            Ok(())
        };
        tried().with_context(|| kind.name())?;
    }
    Ok(())
}

#[test]
fn ten_megabytes_pass_over_each_transport_of_this_machine_and_of_ip() -> Result<()> {
    carries_and_recovers(Kind::ALL.into_iter().filter(|kind| !kind.is_slow()))
}

#[test]
fn ten_megabytes_pass_over_each_hidden_transport() -> Result<()> {
    carries_and_recovers(Kind::ALL.into_iter().filter(|kind| kind.is_slow()))
}
