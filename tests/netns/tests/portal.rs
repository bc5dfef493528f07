//! The TUN device: who may come in, how long packets may be, which routes it gets along with.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{
    A, B, C, Chain, Daemon, DaemonConfig, Host, Identity, Peer, World, listens, reaches, wait_for,
};

#[test]
fn nobody_comes_in_but_by_rule_and_replies_do() -> Result<()> {
    let mut chain = Chain::prepare(None)?;
    // A lets nobody in, C lets A in to one port and to ping.
    chain.configs[A].allow.clear();
    let a = chain.configs[A].identity.addr.clone();
    chain.configs[C].allow = vec![(a, vec!["tcp/8000".into(), "icmp".into()])];
    for who in [A, B, C] {
        chain.launch(who)?;
    }
    chain.reaches(A, C, Duration::from_secs(10))?;
    let servers = [(A, 8000), (C, 8000), (C, 8001)]
        .map(|(who, port)| chain.hosts[who].start(&format!("python3 -m http.server {port} --bind ::")));
    for server in &servers {
        ensure!(server.is_ok(), "{server:?}");
    }
    for (who, port) in [(A, 8000), (C, 8000), (C, 8001)] {
        listens(&chain.hosts[who], port)?;
    }
    let connects = |from: usize, to: usize, port: u16| -> Result<bool> {
        let url = format!("http://[{}]:{port}/", chain.ipv6(to));
        let line = format!("curl -gsSf --noproxy * --connect-timeout 1 -o /dev/null {url}");
        Ok(chain.hosts[from].output(&line)?.status.success())
    };
    let pings = |from: usize, to: usize| -> Result<bool> {
        let line = format!("ping -6 -n -c 2 -i 0.1 -W 0.5 {}", chain.ipv6(to));
        Ok(chain.hosts[from].output(&line)?.status.success())
    };
    assert!(connects(A, C, 8000)?, "what a rule allows");
    assert!(!connects(A, C, 8001)?, "a port that no rule names");
    assert!(!connects(B, C, 8000)?, "a node that no rule names");
    assert!(!connects(C, A, 8000)?, "a node without rules");
    assert!(pings(A, C)? && !pings(B, C)? && !pings(C, A)?);
    // The other nodes are there all the same: B answers everyone.
    assert!(pings(A, B)? && pings(C, B)?);
    Ok(())
}

#[test]
fn rules_can_change_while_it_runs_and_a_bad_file_changes_nothing() -> Result<()> {
    let mut chain = Chain::start(None)?;
    let daemon = chain.daemons[C].as_ref().context("C runs")?;
    let pings = || -> bool {
        let line = format!("ping -6 -n -c 1 -W 0.3 {}", chain.ipv6(C));
        chain.hosts[A].output(&line).is_ok_and(|output| output.status.success())
    };
    let closed = DaemonConfig { allow: vec![], ..chain.configs[C].clone() };
    daemon.reload(&closed.toml(&chain.hosts[C])?)?;
    wait_for(Duration::from_secs(5), "the door to close", || !pings())?;
    daemon.reload("[portal]\nallow = \"everything\"\n")?;
    daemon.reload(&chain.configs[C].toml(&chain.hosts[C])?)?;
    wait_for(Duration::from_secs(5), "the door to open", &pings)?;
    daemon.reload("nonsense")?;
    for _ in 0..10 {
        ensure!(pings(), "a file that cannot be read changed something");
    }
    chain.daemons[C].take().context("C runs")?.stop()
}

#[test]
fn a_packet_too_long_for_the_way_is_told_so_and_the_minimum_always_passes() -> Result<()> {
    let chain = Chain::start(None)?;
    let (a, c) = (&chain.hosts[A], chain.ipv6(C));
    // As long as the device allows, but two hops carry less whole.
    let output = a.output(&format!("ping -6 -n -c 3 -i 0.2 -W 1 -M do -s {} {c}", 1420 - 48))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("mtu=13") || text.contains("mtu: 13") || text.contains("mtu=12"), "{text}");
    // The kernel has learnt it, and TCP heeds it.
    let route = a.ip(&format!("-6 route get {c}"))?;
    assert!(route.contains("mtu 1"), "{route}");
    a.run(&format!("ping -6 -n -c 3 -i 0.05 -W 1 -M do -s {} {c}", 1280 - 48))?;
    // A program that does not care has its packets fragmented by its own kernel, and they pass the filter.
    a.run(&format!("ping -6 -n -c 3 -i 0.05 -W 1 -s 8000 {c}"))?;
    Ok(())
}

#[test]
fn the_minimum_passes_over_a_link_that_carries_no_more_itself() -> Result<()> {
    let chain = Chain::prepare(None)?;
    for (who, interface) in [(B, "eth1"), (C, "eth0")] {
        chain.hosts[who].ip(&format!("link set {interface} mtu 1280"))?;
    }
    let mut chain = chain;
    for who in [A, B, C] {
        chain.launch(who)?;
    }
    chain.reaches(A, C, Duration::from_secs(10))?;
    let line = format!("ping -6 -n -c 5 -i 0.05 -W 1 -M do -s {} {}", 1280 - 48, chain.ipv6(C));
    let output = chain.hosts[A].output(&line)?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(" 0% packet loss"), "{text}\n{}", chain.logs());
    Ok(())
}

#[test]
fn unreachable_addresses_are_told_at_once_or_after_three_seconds() -> Result<()> {
    let chain = Chain::start(None)?;
    let a = &chain.hosts[A];
    let nobody = Identity::new(&chain.world.host("nobody")?)?;
    let output = a.output(&format!("ping -6 -n -c 1 -W 6 {}", nobody.ipv6))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("nreachable") || text.contains("No route"), "{text}");
    // Others are not held up by it meanwhile.
    let waiting = a.start(&format!("ping -6 -n -i 0.2 -c 20 {}", nobody.ipv6))?;
    let text = a.run(&format!("ping -6 -n -c 50 -i 0.02 -W 1 {}", chain.ipv6(C)))?;
    assert!(text.contains(" 0% packet loss"), "{text}");
    drop(waiting);
    Ok(())
}

#[test]
fn the_device_is_as_promised_and_goes_with_the_daemon() -> Result<()> {
    let (_world, host, identity) = alone()?;
    let daemon = Daemon::start(&host, &DaemonConfig::open(&identity))?;
    let link = host.ip("link show byway0")?;
    assert!(link.contains("mtu 1420") && link.contains("UP"), "{link}");
    let address = host.ip("-6 addr show dev byway0 scope global")?;
    assert!(address.contains(&format!("{}/128", identity.ipv6)), "{address}");
    let route = host.ip("-6 route show dev byway0")?;
    assert!(route.lines().any(|line| line.starts_with("200::/7")), "{route}");
    daemon.stop()?;
    assert!(host.ip("link show byway0").is_err());
    assert!(!host.ip("-6 route show")?.contains("200::/7"));

    let daemon = Daemon::start(&host, &DaemonConfig::open(&identity))?;
    daemon.crash()?;
    wait_for(Duration::from_secs(5), "the device to go", || host.ip("link show byway0").is_err())
}

#[test]
fn a_route_that_is_there_already_is_reported_with_its_device_and_the_remedy() -> Result<()> {
    let (_world, host, identity) = alone()?;
    host.ip("link add ygg0 type veth peer name ygg1")?;
    host.ip("link set ygg0 up")?;
    host.ip("-6 route add 200::/7 dev ygg0")?;
    let mut daemon = Daemon::start(&host, &DaemonConfig::open(&identity))?;
    // The API answers a moment before the daemon has told on stderr what is missing.
    wait_for(Duration::from_secs(5), "the clash and its remedy in the log", || {
        let log = daemon.process().output();
        log.contains("ygg0") && log.contains("portal.prefix")
    })?;
    assert!(host.ip("link show byway0").is_err());
    assert!(host.ip("-6 route show dev ygg0")?.contains("200::/7"), "the other program keeps its route");
    let status = daemon.get("/v1/status")?;
    assert!(status.contains("ygg0"), "{status}");
    daemon.stop()?;

    // The remedy works beside it.
    let config = DaemonConfig { prefix: Some("fd20::/16".into()), ..DaemonConfig::open(&identity) };
    let _daemon = Daemon::start(&host, &config)?;
    assert!(host.ip("-6 route show dev byway0")?.contains("fd20::/16"));
    Ok(())
}

#[test]
fn another_prefix_carries_traffic_as_well() -> Result<()> {
    let mut chain = Chain::prepare(None)?;
    for who in [A, B, C] {
        chain.configs[who].prefix = Some("fd20::/16".into());
        chain.launch(who)?;
    }
    let address = chain.hosts[C].ip("-6 addr show dev byway0 scope global")?;
    let ip = address
        .split_whitespace()
        .find(|word| word.starts_with("fd20:"))
        .context("an address of the range")?;
    reaches(&chain.hosts[A], ip.trim_end_matches("/128"), Duration::from_secs(10))?;
    Ok(())
}

#[test]
fn without_a_portal_there_is_no_device() -> Result<()> {
    let (_world, host, identity) = alone()?;
    let config = DaemonConfig { portal: false, ..DaemonConfig::open(&identity) };
    let _daemon = Daemon::start(&host, &config)?;
    assert!(host.ip("link show byway0").is_err());
    Ok(())
}

#[test]
fn a_device_that_somebody_deletes_ends_the_portal_and_not_the_daemon() -> Result<()> {
    let (world, host, identity) = alone()?;
    let other = world.host("other")?;
    world.cable((&host, "eth0", "10.0.1.1/24"), (&other, "eth0", "10.0.1.2/24"))?;
    let peer = Identity::new(&other)?;
    let config = DaemonConfig::open(&identity).peers([Peer::new(&peer, &[])]);
    let mut daemon = Daemon::start(&host, &config)?;
    host.ip("link del byway0")?;
    wait_for(Duration::from_secs(5), "the portal to say so", || {
        daemon.process().output().contains("the network device is gone")
    })?;
    assert!(daemon.get("/healthz").is_ok());
    Ok(())
}

/// One host with a key.
fn alone() -> Result<(World, Host, Identity)> {
    let world = World::new()?;
    let host = world.host("a")?;
    let identity = Identity::new(&host)?;
    Ok((world, host, identity))
}
