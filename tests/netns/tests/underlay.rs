//! What lies under the links: IPv6 alone, names for hosts, addresses that change, and no rights of root.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{
    A, B, C, Chain, Daemon, DaemonConfig, Faults, Host, Identity, Peer, Pings, World, epoch, program,
    reaches, wait_for,
};

#[test]
fn daemons_link_where_there_is_only_ipv6() -> Result<()> {
    let world = World::new()?;
    let pair = Pair::start(&world, ["fd00::1/64", "fd00::2/64"], "udp://[fd00::2]:2561")?;
    ensure!(pair.hosts[0].ip("-4 addr show dev eth0")?.trim().is_empty(), "there is IPv4 as well");
    let text = pair.hosts[0].run(&format!("ping -6 -n -c 50 -i 0.02 {}", pair.ipv6))?;
    assert!(text.contains(" 0% packet loss"), "{text}");
    for (daemon, other) in [(0, "[fd00::2]:"), (1, "[fd00::1]:")] {
        let endpoint = pair.endpoint(daemon)?;
        ensure!(endpoint.contains(other), "the link is to {endpoint}");
    }
    Ok(())
}

#[test]
fn an_endpoint_may_name_its_host() -> Result<()> {
    let world = World::new()?;
    let name = "second.byway.test";
    let hosts = std::fs::read_to_string("/etc/hosts")?;
    world.names(&[("localhost", "127.0.0.1"), (name, "10.0.1.2")])?;
    ensure!(std::fs::read_to_string("/etc/hosts")? == hosts, "the machine's own file has changed");
    let pair = Pair::start(&world, ["10.0.1.1/24", "10.0.1.2/24"], &format!("udp://{name}:2561"))?;
    let endpoint = pair.endpoint(0)?;
    ensure!(endpoint.contains("10.0.1.2:2561"), "the link is to {endpoint}");
    Ok(())
}

#[test]
fn a_session_survives_that_the_dialling_host_gets_another_address() -> Result<()> {
    let world = World::new()?;
    let mut pair = Pair::start(&world, ["10.0.1.1/24", "10.0.1.2/24"], "udp://10.0.1.2:2561")?;
    let handshakes = |pair: &Pair| -> Result<Vec<u64>> {
        let each = pair.daemons.iter().map(|daemon| {
            let link = daemon.metric("byway_link_handshakes_total", &["class="])?;
            let started = daemon.metric("byway_links_handshakes_total", &["state=\"started\""])?;
            let established = daemon.metric("byway_links_handshakes_total", &["state=\"established\""])?;
            Ok([link, started, established])
        });
        Ok(each.collect::<Result<Vec<_>>>()?.concat())
    };
    let before = handshakes(&pair)?;
    ensure!(pair.endpoint(1)?.contains("10.0.1.1:"), "the link is to {}", pair.endpoint(1)?);

    let seconds = 8;
    let pings = Pings::start(&pair.hosts[0], &pair.ipv6, seconds)?;
    let begin = epoch();
    // Another length makes it a network of its own, which does not go with the first address.
    pair.hosts[0].ip("addr add 10.0.1.7/25 dev eth0")?;
    pair.hosts[0].ip("addr del 10.0.1.1/24 dev eth0")?;
    let moved = epoch();
    wait_for(Duration::from_secs(5), "the other side to follow", || {
        pair.endpoint(1).is_ok_and(|endpoint| endpoint.contains("10.0.1.7:"))
    })
    .with_context(|| pair.logs())?;
    let answers = pings.finish(seconds.into())?;
    let back = answers.iter().find(|at| **at > moved).context("no ping came back")? - moved;
    println!("followed and answered {back:.3} s after the change, which took {:.3} s", moved - begin);
    ensure!(back < 3.0, "the first answer came {back} s after the change\n{}", pair.logs());
    let late = answers.iter().filter(|at| **at > moved + 3.0).count();
    ensure!(late >= 40, "only {late} pings were answered in the end\n{}", pair.logs());
    ensure!(handshakes(&pair)? == before, "{before:?} handshakes became {:?}", handshakes(&pair)?);
    for daemon in 0..2 {
        let up = pair.link(daemon)?["up_s"].as_u64();
        ensure!(up >= Some(u64::from(seconds) - 1), "the link is a new one, {up:?} s old");
    }
    Ok(())
}

#[test]
fn a_slow_wire_costs_what_a_frame_needs_on_it() -> Result<()> {
    // 1,200 bytes take 37.5 ms, in both directions; a short frame takes 5 ms. What else goes over it may delay some probes.
    let slow = Faults { rate: Some(256_000), ..Faults::default() };
    let mut chain = Chain::start(Some(&slow))?;
    let cost = |chain: &Chain, who: usize| -> Result<f64> {
        let daemon = chain.daemons[who].as_ref().context("it runs")?;
        let links = daemon.json("/v1/links")?;
        links[0]["cost_ms"].as_f64().context("no cost")
    };
    let begin = epoch();
    for who in [A, C] {
        let known = || cost(&chain, who).is_ok_and(|cost| (38.0..70.0).contains(&cost));
        wait_for(Duration::from_secs(60), "what a frame needs to be part of the cost", known)
            .with_context(|| format!("{:?}", cost(&chain, who)))
            .with_context(|| chain.logs())?;
    }
    let socket = chain.daemons[A].as_ref().context("it runs")?.api().display().to_string();
    let mut command =
        chain.hosts[A].command(program("byway")?, ["--api", &format!("unix:{socket}"), "links"]);
    let output = command.output()?;
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("after {:.0} s\n{shown}", epoch() - begin);
    let columns: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    // "RTT" and the columns after it have a unit behind the number.
    let costs = columns.get(1).context("no line for the link")?.windows(2).filter(|pair| pair[1] == "ms");
    let costs: Vec<f64> = costs.filter_map(|pair| pair[0].parse().ok()).collect();
    ensure!(output.status.success() && costs.iter().any(|cost| (38.0..70.0).contains(cost)), "{shown}");
    Ok(())
}

#[test]
fn a_chain_needs_no_root() -> Result<()> {
    let chain = Chain::prepare_in(World::unprivileged()?, None)?.run()?;
    ensure!(!chain.hosts[A].is_root(), "this world is root's");
    own_users(&chain.hosts[A])?;
    let text = chain.hosts[A].run(&format!("ping -6 -n -c 50 -i 0.02 {}", chain.ipv6(C)))?;
    assert!(text.contains(" 0% packet loss"), "{text}");
    Ok(())
}

#[test]
fn a_portal_keeps_its_rules_without_root() -> Result<()> {
    let mut chain = Chain::prepare_in(World::unprivileged()?, None)?;
    own_users(&chain.hosts[A])?;
    let a = chain.configs[A].identity.addr.clone();
    chain.configs[A].allow.clear();
    chain.configs[C].allow = vec![(a, vec!["icmp".into()])];
    let chain = chain.run()?;
    let pings = |from: usize, to: usize| -> Result<bool> {
        let line = format!("ping -6 -n -c 2 -i 0.1 -W 0.5 {}", chain.ipv6(to));
        Ok(chain.hosts[from].output(&line)?.status.success())
    };
    let link = chain.hosts[C].ip("link show byway0")?;
    assert!(link.contains("mtu 1420") && link.contains("UP"), "{link}");
    assert!(pings(A, C)?, "what a rule allows");
    assert!(!pings(B, C)? && !pings(C, A)?, "what no rule allows");
    assert!(pings(C, B)?, "the node that lets all in");
    Ok(())
}

/// Fails unless `host` has a user namespace that is not this process's.
fn own_users(host: &Host) -> Result<()> {
    let of = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/user"));
    ensure!(of("self")? != of(&host.pid().to_string())?, "the host has the users of the test");
    Ok(())
}

/// Two linked daemons, of which the first has dialled.
struct Pair {
    daemons: [Daemon; 2],
    hosts: [Host; 2],
    /// In the overlay, of the second.
    ipv6: String,
}

impl Pair {
    /// With these addresses under the links; the first dials `endpoint`, and its pings are answered.
    fn start(world: &World, addresses: [&str; 2], endpoint: &str) -> Result<Self> {
        let hosts = [world.host("a")?, world.host("b")?];
        world.cable((&hosts[0], "eth0", addresses[0]), (&hosts[1], "eth0", addresses[1]))?;
        let (first, second) = (Identity::new(&hosts[0])?, Identity::new(&hosts[1])?);
        let listen = if addresses[0].contains(':') { "[::]:2561" } else { "0.0.0.0:2561" };
        let config =
            |own, peer| DaemonConfig { listen: vec![listen.into()], ..DaemonConfig::open(own) }.peers([peer]);
        let daemons = [
            Daemon::start(&hosts[0], &config(&first, Peer::new(&second, &[endpoint])))?,
            Daemon::start(&hosts[1], &config(&second, Peer::new(&first, &[])))?,
        ];
        let mut pair = Self { daemons, hosts, ipv6: second.ipv6 };
        reaches(&pair.hosts[0], &pair.ipv6, Duration::from_secs(10)).with_context(|| pair.logs())?;
        Ok(pair)
    }

    /// The only link of one of them.
    fn link(&self, daemon: usize) -> Result<serde_json::Value> {
        let links = self.daemons[daemon].json("/v1/links")?;
        let links = links.as_array().context("no list of links")?;
        ensure!(links.len() == 1, "{links:?}");
        Ok(links[0].clone())
    }

    /// Where that leads to.
    fn endpoint(&self, daemon: usize) -> Result<String> {
        Ok(self.link(daemon)?["endpoint"].as_str().context("no endpoint")?.to_owned())
    }

    fn logs(&mut self) -> String {
        self.daemons.iter_mut().map(|daemon| format!("---\n{}\n", daemon.process().output())).collect()
    }
}
