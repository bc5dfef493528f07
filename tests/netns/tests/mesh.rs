//! A dozen daemons that only neighbours are joined of: all reach all, also after some have died.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use byway_netns::{Fabric, Faults, Graph, Mesh, Pair, Pinger, Random, Sweep, World, program};
use nix::sys::signal::Signal;

/// From the start of the first daemon to an answer of every pair.
const START: Duration = Duration::from_secs(10);
/// From the death of some to an answer of every pair that still has a way.
const REPAIR: Duration = Duration::from_secs(5);

#[test]
fn all_pairs_of_a_mesh_reach_each_other_soon_after_its_start_and_after_a_fifth_of_it_has_died() -> Result<()>
{
    let seed = 5;
    let mut mesh = Mesh::new(World::new()?, Graph::geometric(12, 5.0, seed), seed)?;
    mesh.set_members(mesh.byway(&program("byway")?, Ok)?)?;
    let begun = Instant::now();
    for index in 0..mesh.hosts.len() {
        mesh.launch(index)?;
    }
    let reached = mesh.reach_all(begun, START)?;
    assert_eq!(reached.len(), 12 * 11);
    all(&reached, START).with_context(|| mesh.logs())?;

    let mut random = Random::new(seed);
    let mut dead = Vec::new();
    while dead.len() < 2 {
        let index = (random.bits() % 12) as usize;
        if mesh.is_up(index) {
            dead.push(index);
            mesh.end(index, Signal::SIGKILL)?;
        }
    }
    let reached = mesh.reach_all(Instant::now(), REPAIR)?;
    ensure!(reached.len() > 50, "only {} pairs are left", reached.len());
    all(&reached, REPAIR).with_context(|| format!("seed {seed}, dead {dead:?}\n{}", mesh.logs()))?;

    // What answers once goes on answering.
    let stretch = mesh.stretch(5, Duration::from_secs(5))?;
    println!(
        "{} pairs: stretch {:?}, 99 % below {:?}",
        stretch.pairs,
        stretch.mean(),
        stretch.quantile(0.99)
    );
    ensure!(stretch.values.len() == stretch.pairs, "{} of {} pairs", stretch.values.len(), stretch.pairs);
    ensure!(stretch.answered * 50 >= stretch.pings * 49, "{} of {}", stretch.answered, stretch.pings);
    mesh.check()
}

/// Whether every pair was answered in time.
fn all(reached: &[(Pair, Option<f64>)], limit: Duration) -> Result<()> {
    let late: Vec<_> =
        reached.iter().filter(|(_, at)| at.is_none_or(|at| at > limit.as_secs_f64())).collect();
    let last = reached.iter().filter_map(|(_, at)| *at).fold(0.0, f64::max);
    println!("{} pairs, the last after {last:.2} s", reached.len());
    ensure!(late.is_empty(), "not within {limit:?}: {late:?}");
    Ok(())
}

#[test]
fn a_fabric_delays_each_link_as_told_and_joins_nobody_else() -> Result<()> {
    let world = World::new()?;
    let hosts = ["a", "b", "c"].into_iter().map(|name| world.host(name)).collect::<Result<Vec<_>>>()?;
    let links = [(0, 1, Faults::lossy(10.0, 0.0)), (1, 2, Faults::lossy(25.0, 0.0))];
    let fabric = Fabric::join(&world, &hosts, links, 1)?;
    for (from, to, least) in [(0, 1, 20.0), (2, 1, 50.0)] {
        let text = hosts[from].run(&format!("ping -n -c 5 -i 0.05 -W 5 {}", Fabric::address(to)))?;
        let fastest = text.split("min/avg/max/mdev = ").nth(1).and_then(|rest| rest.split('/').next());
        let fastest: f64 = fastest.context("no round trip")?.parse()?;
        ensure!((least..least + 20.0).contains(&fastest), "{text}");
    }
    ensure!(!hosts[0].output(&format!("ping -n -c 1 -W 1 {}", Fabric::address(2)))?.status.success());
    let traffic = fabric.traffic()?;
    assert_eq!((&traffic.packets[..], &traffic.astray[..]), (&[5, 10, 5][..], &[1, 0, 0][..]), "{traffic:?}");
    // A ping has 56 bytes besides its own header and that of IPv4.
    assert_eq!(traffic.bytes, [5 * 84, 10 * 84, 5 * 84]);

    fabric.set((0, 1), Faults { cut: true, ..Faults::default() })?;
    ensure!(!hosts[0].output(&format!("ping -n -c 1 -W 1 {}", Fabric::address(1)))?.status.success());
    fabric.set((0, 1), Faults::default())?;
    hosts[0].run(&format!("ping -n -c 1 -W 5 {}", Fabric::address(1))).map(drop)
}

#[test]
fn a_pinger_hears_who_answers_and_tells_who_does_not() -> Result<()> {
    let world = World::new()?;
    let hosts = ["a", "b"].into_iter().map(|name| world.host(name)).collect::<Result<Vec<_>>>()?;
    world.cable((&hosts[0], "eth0", "fd01::1/64"), (&hosts[1], "eth0", "fd01::2/64"))?;
    let pinger = Pinger::start(&world, &hosts)?;
    let pairs = vec![
        (0, "fd01::2".parse()?),
        (1, "fd01::1".parse()?),
        (0, "fd01::3".parse()?),
        (1, "fd02::1".parse()?),
    ];
    let sweep = Sweep { pairs, spread_ms: 20, every_ms: 50, answers: 3, limit_ms: 500 };
    let heard = pinger.sweep(&sweep)?;
    for good in &heard[..2] {
        ensure!(good.answered == 3 && good.first_ms.is_some() && good.rtt_ms < Some(50.0), "{heard:?}");
    }
    for bad in &heard[2..] {
        ensure!(bad.sent == 10 && bad.answered == 0 && bad.first_ms.is_none(), "{heard:?}");
    }
    Ok(())
}
