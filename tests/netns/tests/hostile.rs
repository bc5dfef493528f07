//! Strangers who send junk, and neighbours of another network: the honest notice nothing.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{Daemon, DaemonConfig, Faults, Identity, Peer, Wire, World, program, reaches, wait_for};

#[test]
fn noise_and_copies_of_real_datagrams_cost_the_honest_nothing() -> Result<()> {
    let world = World::new()?;
    let (friend, victim, enemy) = (world.host("friend")?, world.host("victim")?, world.host("enemy")?);
    let ends = ((&friend, "eth0", "10.0.1.1/24"), (&victim, "eth0", "10.0.1.2/24"));
    let wire = Wire::join(&world, ends.0, ends.1, 1, &Faults::default())?;
    world.cable((&victim, "eth1", "10.0.9.254/24"), (&enemy, "eth0", "10.0.9.1/24"))?;
    // The enemy also speaks from where the friend is.
    enemy.ip("addr add 10.0.1.1/32 dev lo")?;
    let (one, other) = (Identity::new(&friend)?, Identity::new(&victim)?);
    let config = DaemonConfig::open(&other).peers([Peer::new(&one, &[])]);
    let mut daemon = Daemon::start(&victim, &config)?;
    let config = DaemonConfig::open(&one).peers([Peer::new(&other, &["udp://10.0.1.2:2561"])]);
    let _friend = Daemon::start(&friend, &config)?;
    reaches(&friend, &other.ipv6, Duration::from_secs(10))?;
    friend.run(&format!("ping -6 -n -c 100 -i 0.01 -s 800 {}", other.ipv6))?;
    wire.count()?;

    let before = Drops::of(&daemon)?;
    let established = daemon.metric("byway_links_handshakes_total", &["state=\"established\""])?;
    let resident = daemon.process().resident()?;
    let mut command = enemy.command(program("byway-hostile")?, ["--to", "10.0.9.254:2561", "--seconds", "6"]);
    command.args(["--victim", "10.0.1.2", "--from", "10.0.9.1:0", "--from", "10.0.1.1:2561"]);
    command.arg("--pcap").arg(wire.pcap());
    let mut hostile = enemy.spawn(command)?;
    let mut pings = friend.start(&format!("ping -6 -n -c 200 -i 0.02 -W 2 {}", other.ipv6))?;
    let mut most = resident;
    wait_for(Duration::from_secs(20), "the pings to end", || {
        // This also lets the enemy see what has just passed.
        let seen = wire.count().is_ok();
        most = most.max(daemon.process().resident().unwrap_or(u64::MAX));
        !seen || !pings.is_running()
    })?;
    ensure!(hostile.is_running(), "the enemy gave up: {}", hostile.output());
    let text = pings.output();
    hostile.wait(Duration::from_secs(20))?;
    most = most.max(daemon.process().resident()?);
    let report: serde_json::Value =
        serde_json::from_str(&hostile.output()).with_context(|| hostile.output())?;
    let after = Drops::of(&daemon)?;
    println!("{} kB more memory, {before:?}, {after:?}, {report}", most.saturating_sub(resident) / 1000);

    ensure!(text.contains("200 received"), "{text}\n{}", daemon.process().output());
    for kind in ["noise", "whole", "cut", "flipped", "reflected", "empty"] {
        ensure!(report[kind].as_u64() >= Some(50), "too little of {kind}: {report}");
    }
    ensure!(report["longest"] == 65_000 && report["failed"] == 0, "{report}");
    ensure!(daemon.process().is_running() && daemon.get("/healthz").is_ok(), "{}", daemon.process().output());
    ensure!(most < resident + 8_000_000, "memory grew from {resident} to {most} bytes");
    ensure!(
        after.unknown > before.unknown && after.forged > before.forged && after.replayed > before.replayed,
        "{before:?} became {after:?}"
    );
    // None of it was taken for an honest datagram; a socket that was full may have lost a few.
    let kinds =
        ["noise", "whole", "cut", "flipped", "empty"].iter().filter_map(|kind| report[*kind].as_u64());
    let (sent, dropped) = (kinds.sum::<u64>(), after.sum() - before.sum());
    ensure!(dropped > sent / 2 && dropped <= sent + 10, "{dropped} of {sent} were dropped");
    let now = daemon.metric("byway_links_handshakes_total", &["state=\"established\""])?;
    ensure!(now == established, "{established} sessions became {now}");
    daemon.stop()
}

#[test]
fn a_peer_of_another_network_is_refused_and_counted_and_the_right_one_is_not() -> Result<()> {
    let world = World::new()?;
    let (right, node, wrong) = (world.host("right")?, world.host("node")?, world.host("wrong")?);
    world.cable((&right, "eth0", "10.0.1.1/24"), (&node, "eth0", "10.0.1.2/24"))?;
    world.cable((&wrong, "eth0", "10.0.2.1/24"), (&node, "eth1", "10.0.2.2/24"))?;
    let (rightid, id, wrongid) = (Identity::new(&right)?, Identity::new(&node)?, Identity::new(&wrong)?);
    let here = |identity| DaemonConfig { network: Some("here".into()), ..DaemonConfig::open(identity) };
    let config = here(&id).peers([Peer::new(&rightid, &[]), Peer::new(&wrongid, &[])]);
    let mut daemon = Daemon::start(&node, &config)?;
    let config = here(&rightid).peers([Peer::new(&id, &["udp://10.0.1.2:2561"])]);
    let _right = Daemon::start(&right, &config)?;
    reaches(&right, &id.ipv6, Duration::from_secs(10))?;
    let refused =
        |daemon: &Daemon| daemon.metric("byway_links_dropped_frames_total", &["reason=\"other-network\""]);
    ensure!(refused(&daemon)? == 0, "somebody was refused before the wrong one came");

    let pings = right.start(&format!("ping -6 -n -c 100 -i 0.02 -W 2 {}", id.ipv6))?;
    let elsewhere = DaemonConfig { network: Some("elsewhere".into()), ..DaemonConfig::open(&wrongid) }
        .peers([Peer::new(&id, &["udp://10.0.2.2:2561"])]);
    let other = Daemon::start(&wrong, &elsewhere)?;
    wait_for(Duration::from_secs(10), "the refusal", || refused(&daemon).is_ok_and(|count| count > 0))
        .with_context(|| daemon.process().output())?;
    ensure!(reaches(&wrong, &id.ipv6, Duration::from_secs(1)).is_err(), "another network was let in");
    let mut pings = pings;
    pings.wait(Duration::from_secs(10))?;
    ensure!(pings.output().contains("100 received"), "{}\n{}", pings.output(), daemon.process().output());
    let links = daemon.json("/v1/links")?;
    let peers: Vec<&str> =
        links.as_array().context("no list")?.iter().filter_map(|link| link["peer"].as_str()).collect();
    ensure!(peers == [rightid.addr.as_str()], "linked are {peers:?}");
    ensure!(open_links(&other)? == 0, "the wrong one has a link");

    // It is the name and nothing else: with the right one it is let in, at once as both have started anew.
    other.stop()?;
    daemon.stop()?;
    let config = here(&id).peers([Peer::new(&rightid, &[]), Peer::new(&wrongid, &[])]);
    let daemon = Daemon::start(&node, &config)?;
    let config = here(&wrongid).peers([Peer::new(&id, &["udp://10.0.2.2:2561"])]);
    let _other = Daemon::start(&wrong, &config)?;
    reaches(&wrong, &id.ipv6, Duration::from_secs(10))?;
    ensure!(refused(&daemon)? == 0, "somebody was refused for nothing");
    Ok(())
}

#[test]
fn a_peer_with_another_routing_protocol_is_refused_and_both_ends_say_why() -> Result<()> {
    let world = World::new()?;
    let (grove, beacon) = (world.host("grove")?, world.host("beacon")?);
    world.cable((&grove, "eth0", "10.0.1.1/24"), (&beacon, "eth0", "10.0.1.2/24"))?;
    let (groveid, beaconid) = (Identity::new(&grove)?, Identity::new(&beacon)?);
    let speaks = |identity, protocol: &str| DaemonConfig {
        protocol: Some(protocol.into()),
        ..DaemonConfig::open(identity)
    };
    let config = speaks(&groveid, "grove").peers([Peer::new(&beaconid, &["udp://10.0.1.2:2561"])]);
    let one = Daemon::start(&grove, &config)?;
    let config = speaks(&beaconid, "beacon").peers([Peer::new(&groveid, &["udp://10.0.1.1:2561"])]);
    let other = Daemon::start(&beacon, &config)?;
    for (daemon, reason) in [(&one, "beacon there, grove here"), (&other, "grove there, beacon here")] {
        wait_for(Duration::from_secs(10), reason, || {
            daemon.json("/v1/peers").is_ok_and(|peers| {
                peers[0]["trouble"].as_str().is_some_and(|trouble| trouble.contains(reason))
            })
        })?;
        ensure!(open_links(daemon)? == 0, "there is a link");
        let refused = daemon.metric("byway_links_dropped_frames_total", &["reason=\"other-protocol\""])?;
        ensure!(refused > 0, "it was not counted");
    }
    ensure!(one.json("/v1/status")?["protocol"] == "grove", "{}", one.get("/v1/status")?);
    ensure!(other.json("/v1/status")?["protocol"] == "beacon", "{}", other.get("/v1/status")?);

    // Once they agree they are linked, whichever it is.
    one.stop()?;
    other.stop()?;
    let config = speaks(&groveid, "beacon").peers([Peer::new(&beaconid, &["udp://10.0.1.2:2561"])]);
    let _one = Daemon::start(&grove, &config)?;
    let config = speaks(&beaconid, "beacon").peers([Peer::new(&groveid, &[])]);
    let _other = Daemon::start(&beacon, &config)?;
    reaches(&grove, &beaconid.ipv6, Duration::from_secs(10))?;
    Ok(())
}

/// Datagrams that the links of a daemon have dropped.
#[derive(Debug)]
struct Drops {
    unknown: u64,
    forged: u64,
    replayed: u64,
    malformed: u64,
    overload: u64,
}

impl Drops {
    fn of(daemon: &Daemon) -> Result<Self> {
        let count = |reason: &str| {
            daemon.metric("byway_links_dropped_datagrams_total", &[&format!("reason=\"{reason}\"")])
        };
        Ok(Self {
            unknown: count("unknown")?,
            forged: count("forged")?,
            replayed: count("replayed")?,
            malformed: count("malformed")?,
            overload: count("overload")?,
        })
    }

    const fn sum(&self) -> u64 {
        self.unknown + self.forged + self.replayed + self.malformed + self.overload
    }
}

/// How many links a daemon has; those that it would like to have do not count.
fn open_links(daemon: &Daemon) -> Result<usize> {
    let links = daemon.json("/v1/links")?;
    let links = links.as_array().context("no list")?;
    Ok(links.iter().filter(|link| link["role"] != "none").count())
}
