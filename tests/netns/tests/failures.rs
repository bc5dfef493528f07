//! What breaks: links, nodes, peers. Traffic comes back, in the time that is promised.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{
    A, B, C, Chain, Daemon, DaemonConfig, Faults, Host, Identity, Peer, Pings, Wire, World, epoch, reaches,
};

/// Until a link is taken for dead while there is traffic: 300 ms of patience and four probes, 200 ms each, with some
/// slack for a busy machine.
const DETECTION: f64 = 1.6;

#[test]
fn traffic_is_back_two_seconds_after_a_link_is_restored() -> Result<()> {
    for cut in [1, 12] {
        let mut chain = Chain::start(Some(&Faults::default()))?;
        let pings = Pings::start(&chain.hosts[A], chain.ipv6(C), cut + 6)?;
        let begin = epoch();
        chain.wires[0].cut()?;
        // What the wire drops shows that there was something to drop all the while.
        wait_until(begin + f64::from(cut));
        chain.wires[0].restore()?;
        let restored = epoch();
        let answers = pings.finish(u64::from(cut) + 6)?;
        let back = answers.iter().find(|at| **at > restored).map(|at| at - restored);
        ensure!(
            back.is_some_and(|back| back < 2.0),
            "after a cut of {cut} s traffic is back after {back:?} s\n{}",
            chain.logs()
        );
        println!("after a cut of {cut} s back within {:.2} s", back.unwrap_or_default());
    }
    Ok(())
}

#[test]
fn traffic_is_back_five_seconds_after_the_node_between_was_killed_and_restarted() -> Result<()> {
    let mut chain = Chain::start(None)?;
    for round in 0..2 {
        chain.daemons[B].take().context("B runs")?.crash()?;
        ensure!(reaches(&chain.hosts[A], chain.ipv6(C), Duration::from_millis(500)).is_err(), "B is gone");
        let begin = epoch();
        chain.launch(B)?;
        let ready = epoch() - begin;
        chain.reaches(A, C, Duration::from_secs(5))?;
        let took = epoch() - begin;
        ensure!(took < 5.0, "it took {took} s, {ready} s of it to start");
        println!("round {round}: ready after {ready:.2} s, traffic back after {took:.2} s");
    }
    Ok(())
}

#[test]
fn a_daemon_that_stops_and_starts_again_is_reached_again() -> Result<()> {
    let mut chain = Chain::start(None)?;
    chain.daemons[C].take().context("C runs")?.stop()?;
    ensure!(reaches(&chain.hosts[A], chain.ipv6(C), Duration::from_millis(500)).is_err(), "C is gone");
    chain.launch(C)?;
    chain.reaches(A, C, Duration::from_secs(5))?;
    chain.reaches(C, A, Duration::from_secs(5))?;
    Ok(())
}

#[test]
fn of_two_ways_one_is_cut_and_the_other_takes_over_and_stays() -> Result<()> {
    let world = World::new()?;
    let hosts = ["a", "b", "c"].into_iter().map(|name| world.host(name)).collect::<Result<Vec<Host>>>()?;
    let [a, b, c] = &hosts[..] else { unreachable!("three hosts were made") };
    // By delay the direct way is the better one.
    let wire = |left, right, delay| Wire::join(&world, left, right, 3, &Faults::lossy(delay, 0.0));
    let direct = wire((a, "eth0", "10.0.3.1/24"), (c, "eth0", "10.0.3.2/24"), 1.0)?;
    let _first = wire((a, "eth1", "10.0.1.1/24"), (b, "eth0", "10.0.1.2/24"), 5.0)?;
    let _second = wire((b, "eth1", "10.0.2.1/24"), (c, "eth1", "10.0.2.2/24"), 5.0)?;
    let (ida, idb, idc) = (Identity::new(a)?, Identity::new(b)?, Identity::new(c)?);
    let to_c = Peer::new(&idc, &["udp://10.0.3.2:2561"]);
    let config_a = DaemonConfig::open(&ida).peers([to_c, Peer::new(&idb, &["udp://10.0.1.2:2561"])]);
    let config_b =
        DaemonConfig::open(&idb).peers([Peer::new(&ida, &[]), Peer::new(&idc, &["udp://10.0.2.2:2561"])]);
    let config_c = DaemonConfig::open(&idc).peers([Peer::new(&ida, &[]), Peer::new(&idb, &[])]);
    let mut daemons =
        [Daemon::start(b, &config_b)?, Daemon::start(c, &config_c)?, Daemon::start(a, &config_a)?];
    reaches(a, &idc.ipv6, Duration::from_secs(10))?;
    // The cut must hit the way in use, so wait until that is the direct one, there and back.
    byway_netns::wait_for(Duration::from_secs(20), "pings over the direct link", || {
        let pinged = a.output(&format!("ping -6 -n -c 10 -i 0.01 -W 0.2 {}", idc.ipv6));
        let text =
            pinged.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        slowest(&text).is_some_and(|slowest| slowest < 10.0)
    })?;

    let seconds = 20;
    let pings = Pings::start(a, &idc.ipv6, seconds)?;
    wait_until(epoch() + 2.0);
    let cut = epoch();
    direct.cut()?;
    let answers = pings.finish(seconds.into())?;
    let mut gaps: Vec<(f64, f64)> = answers.windows(2).map(|pair| (pair[0], pair[1] - pair[0])).collect();
    gaps.sort_by(|one, other| other.1.total_cmp(&one.1));
    let (at, longest) = gaps[0];
    ensure!(
        (0.3..DETECTION + 1.0).contains(&longest) && (at - cut).abs() < 1.0,
        "traffic stood still for {longest} s, {} s after the cut\n{}",
        at - cut,
        daemons.iter_mut().map(|daemon| daemon.process().output()).collect::<String>()
    );
    ensure!(gaps[1].1 < 0.5, "it did not stay: {:?}", &gaps[..3]);
    ensure!(answers.last().is_some_and(|last| *last > cut + 16.0), "it did not stay to the end");
    println!("back {longest:.2} s after the cut, detection included");
    Ok(())
}

#[test]
fn dead_peers_cost_the_others_nothing() -> Result<()> {
    let mut chain = Chain::prepare(None)?;
    // One in the next network who never answers, one behind no route, one that is no host at all.
    let endpoints = ["udp://10.0.1.99:2561", "udp://192.0.2.1:2561", "udp://no-such-host.invalid:2561"];
    for (number, endpoint) in endpoints.into_iter().enumerate() {
        let dead = Identity::new(&chain.world.host(&format!("dead{number}"))?)?;
        for who in [A, B] {
            chain.configs[who].peers.insert(0, Peer::new(&dead, &[endpoint]));
        }
    }
    for who in [A, B, C] {
        chain.launch(who)?;
    }
    chain.reaches(A, C, Duration::from_secs(5))?;
    let text = chain.hosts[A].run(&format!("ping -6 -n -c 250 -i 0.02 {}", chain.ipv6(C)))?;
    assert!(text.contains("250 received"), "{text}");
    Ok(())
}

#[test]
fn a_ping_comes_back_half_a_second_after_the_start() -> Result<()> {
    let mut chain = Chain::prepare(None)?;
    chain.launch(B)?;
    for _ in 0..3 {
        let begin = epoch();
        let daemon = Daemon::launch(&chain.hosts[A], &chain.configs[A])?;
        reaches(&chain.hosts[A], chain.ipv6(B), Duration::from_secs(5))?;
        let took = epoch() - begin;
        ensure!(took < 0.5, "the first ping came back after {took} s");
        println!("the first ping came back after {took:.3} s");
        daemon.stop()?;
    }
    Ok(())
}

#[test]
fn an_idle_daemon_takes_less_than_twenty_megabytes() -> Result<()> {
    let mut chain = Chain::start(None)?;
    chain.hosts[A].run(&format!("ping -6 -n -c 20 -i 0.02 {}", chain.ipv6(C)))?;
    let resident = chain.daemons[B].as_mut().context("B runs")?.process().resident()?;
    println!("B, with its portal and two peers, has {:.1} MB", resident as f64 / 1e6);
    ensure!(resident < 20_000_000, "{resident} bytes");
    Ok(())
}

/// The longest round trip of a `ping`, in milliseconds, if all came back.
fn slowest(text: &str) -> Option<f64> {
    let complete = text.contains(" 0% packet loss");
    let summary = text.lines().find(|line| line.starts_with("rtt")).filter(|_| complete)?;
    summary.split('/').rev().nth(1)?.parse().ok()
}

/// Lets time pass: what is measured here is what happens by itself.
fn wait_until(when: f64) {
    while epoch() < when {
        std::thread::park_timeout(Duration::from_secs_f64((when - epoch()).max(0.001)));
    }
}
