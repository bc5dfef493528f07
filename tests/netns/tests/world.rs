//! The test bed itself: hosts, cables, wires, and that nothing stays behind.

use std::time::{Duration, Instant};

use anyhow::Result;
use byway_netns::{Faults, Matcher, Protocol, Side, Wire, World, tcp_send, tcp_sink};

#[test]
fn hosts_reach_each_other_by_cable_and_no_further() -> Result<()> {
    let world = World::new()?;
    let [a, b, c] = ["a", "b", "c"].map(|name| world.host(name));
    let (a, b, c) = (a?, b?, c?);
    world.cable((&a, "eth0", "10.0.1.1/24"), (&b, "eth0", "10.0.1.2/24"))?;
    world.cable((&b, "eth1", "10.0.2.1/24"), (&c, "eth0", "10.0.2.2/24"))?;
    a.run("ping -c 1 -W 2 10.0.1.2")?;
    b.run("ping -c 1 -W 2 10.0.2.2")?;
    assert!(!a.output("ping -c 1 -W 1 10.0.2.2")?.status.success());
    Ok(())
}

#[test]
fn a_wire_delays_loses_and_can_be_cut_and_restored() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.host("a")?, world.host("b")?);
    let faults = Faults::lossy(15.0, 0.0);
    let wire = Wire::join(&world, (&a, "eth0", "10.0.1.1/24"), (&b, "eth0", "10.0.1.2/24"), 1, &faults)?;
    // The first ping also asks for the hardware address.
    a.run("ping -c 1 -W 5 10.0.1.2")?;
    let text = a.run("ping -c 5 -i 0.05 -W 5 10.0.1.2")?;
    let fastest: f64 = rtt(&text)[0];
    assert!((30.0..60.0).contains(&fastest), "{text}");

    wire.cut()?;
    assert!(!a.output("ping -c 2 -i 0.1 -W 1 10.0.1.2")?.status.success());
    wire.restore()?;
    a.run("ping -c 1 -W 5 10.0.1.2")?;

    wire.set(Side::ToRight, Faults { loss: 0.5, ..Faults::default() })?;
    let output = a.output("ping -c 100 -i 0.01 -W 1 10.0.1.2")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let received: u32 =
        text.split(", ").find_map(|part| part.strip_suffix(" received")?.parse().ok()).unwrap();
    assert!((20..80).contains(&received), "{text}");

    let rule = Matcher { protocol: Some(Protocol::Icmp), ..Matcher::default() };
    let count = wire.set(Side::Both, Faults { drop: vec![rule], ..Faults::default() })?;
    assert!(count.to_right.lost > 0 && count.to_right.cut > 0 && count.to_left.lost == 0, "{count:?}");
    assert!(!a.output("ping -c 1 -W 1 10.0.1.2")?.status.success());
    assert!(wire.count()?.to_right.ruled_out > 0);

    // Every frame that entered is in the capture file: at least the pings.
    let captured = std::fs::read(wire.pcap())?;
    assert_eq!(captured[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    assert!(captured.len() > 24 + 100 * (16 + 98));
    Ok(())
}

#[test]
fn a_wire_carries_what_tcp_sends_at_its_rate() -> Result<()> {
    let world = World::new()?;
    let (a, b) = (world.host("a")?, world.host("b")?);
    let faults = Faults { rate: Some(80_000_000), ..Faults::lossy(1.0, 0.0) };
    let _wire = Wire::join(&world, (&a, "eth0", "10.0.1.1/24"), (&b, "eth0", "10.0.1.2/24"), 1, &faults)?;
    let (sent, arrived) = (a.path("sent"), b.path("arrived"));
    std::fs::write(&sent, vec![7; 10_000_000])?;
    let mut sink = tcp_sink(&b, 4000, &arrived)?;
    let begin = Instant::now();
    tcp_send(&a, "10.0.1.2", 4000, &sent)?;
    sink.wait(Duration::from_secs(20))?;
    assert!(begin.elapsed() > Duration::from_millis(900), "10 MB took {:?} at 80 Mbit/s", begin.elapsed());
    assert!(std::fs::read(&arrived)? == std::fs::read(&sent)?, "what arrived differs");
    Ok(())
}

#[test]
fn nothing_outlives_its_world() -> Result<()> {
    let world = World::new()?;
    let host = world.host("a")?;
    let mut sleeper = host.start("sleep 1000")?;
    let direct = format!("/proc/{}", sleeper.pid());
    // One that the test does not know of: it goes with the process namespace.
    let hidden = host.command("sh", ["-c", "setsid sleep 1001 >/dev/null 2>&1 </dev/null &"]).output()?;
    assert!(hidden.status.success());
    assert!(sleeper.is_running() && std::path::Path::new(&direct).exists());
    let own = std::fs::read_link(format!("/proc/{}/ns/pid", host.pid()))?;
    let dir = world.path("");
    drop((sleeper, host, world));
    assert!(!std::path::Path::new(&direct).exists());
    assert!(!dir.exists());
    let still_there = std::fs::read_dir("/proc")?
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path().join("ns/pid")).ok())
        .filter(|namespace| *namespace == own)
        .count();
    assert_eq!(still_there, 0);
    Ok(())
}

/// Minimum, average, maximum of the summary line.
fn rtt(text: &str) -> Vec<f64> {
    let line = text.lines().find(|line| line.starts_with("rtt")).unwrap_or_default();
    let numbers = line.split(" = ").nth(1).unwrap_or_default();
    numbers.split(['/', ' ']).filter_map(|number| number.parse().ok()).collect()
}
