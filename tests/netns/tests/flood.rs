//! Strangers who send a lot.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{Daemon, DaemonConfig, Host, Identity, Peer, World, epoch, program, reaches, wait_for};

#[test]
fn a_flood_of_first_messages_keeps_no_newcomer_out_and_takes_no_memory() -> Result<()> {
    let world = World::new()?;
    let (victim, enemy, friend) = (world.host("victim")?, world.host("enemy")?, world.host("friend")?);
    world.cable((&victim, "eth0", "10.0.9.254/24"), (&enemy, "eth0", "10.0.9.1/24"))?;
    world.cable((&victim, "eth1", "10.0.1.1/24"), (&friend, "eth0", "10.0.1.2/24"))?;
    // Many sources: a limit for each of them is not enough.
    for last in 2..=200 {
        enemy.ip(&format!("addr add 10.0.9.{last}/24 dev eth0"))?;
    }
    let (id, newcomer) = (Identity::new(&victim)?, Identity::new(&friend)?);
    let config = DaemonConfig::open(&id).peers([Peer::new(&newcomer, &[])]);
    let mut daemon = Daemon::start(&victim, &config)?;
    let before = daemon.process().resident()?;

    let mut command = enemy.command(program("byway-flood")?, ["--addr", &id.addr, "--to", "10.0.9.254:2561"]);
    command.args(["--from", "10.0.9.1", "--sources", "200", "--rate", "10000", "--seconds", "20"]);
    let mut flood = enemy.spawn(command)?;
    let begin = epoch();
    let (mut most, mut rounds) = (before, Vec::new());
    while epoch() - begin < 18.0 {
        most = most.max(daemon.process().resident()?);
        if epoch() - begin < 2.0 {
            std::thread::park_timeout(Duration::from_millis(100));
            continue;
        }
        // Three times in the midst of it: a node that was never there before.
        if rounds.len() < 3 {
            ensure!(flood.is_running(), "the flood ended: {}", flood.output());
            let config = DaemonConfig::open(&newcomer).peers([Peer::new(&id, &["udp://10.0.1.1:2561"])]);
            let began = epoch();
            let joined = Daemon::start(&friend, &config)?;
            reaches(&friend, &id.ipv6, Duration::from_secs(5)).with_context(|| daemon.process().output())?;
            rounds.push(epoch() - began);
            joined.stop()?;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    flood.wait(Duration::from_secs(10))?;
    most = most.max(daemon.process().resident()?);
    let report: serde_json::Value = serde_json::from_str(&flood.output()).with_context(|| flood.output())?;
    println!("joined within {rounds:.2?} s, {} kB more memory, {report}", most.saturating_sub(before) / 1000);

    let sent = report["sent"].as_u64().context("no count")?;
    ensure!(sent >= 190_000, "the flood was none: {report}");
    // The kernel has counted the same, and up to 20 questions for the key record.
    let counted = datagrams_sent(&enemy)?;
    ensure!((sent + 1..=sent + 20).contains(&counted), "{counted} datagrams were sent: {report}");
    // They are taken for what they seem to be, and answered with less than they brought.
    ensure!(report["answers"].as_u64() > Some(0), "the messages were not understood: {report}");
    ensure!(report["answer_bytes"].as_u64() < report["sent_bytes"].as_u64(), "{report}");
    ensure!(rounds.iter().all(|took| *took < 2.0), "the newcomer was linked after {rounds:?} s");
    ensure!(most < before + 32_000_000, "memory grew from {before} to {most} bytes");
    Ok(())
}

#[test]
fn a_flood_counts_only_what_was_really_sent() -> Result<()> {
    let world = World::new()?;
    let (victim, enemy) = (world.host("victim")?, world.host("enemy")?);
    world.cable((&victim, "eth0", "10.0.9.254/24"), (&enemy, "eth0", "10.0.9.1/24"))?;
    let id = Identity::new(&victim)?;
    let _daemon = Daemon::start(&victim, &DaemonConfig::open(&id))?;
    let mut command = enemy.command(program("byway-flood")?, ["--addr", &id.addr, "--to", "10.0.9.254:2561"]);
    command.args(["--from", "10.0.9.1", "--rate", "1000", "--seconds", "3"]);
    let mut flood = enemy.spawn(command)?;
    wait_for(Duration::from_secs(10), "the flood", || datagrams_sent(&enemy).is_ok_and(|sent| sent > 100))?;
    // Without its network it has no way to send anything.
    enemy.ip("link set eth0 down")?;
    flood.wait(Duration::from_secs(10))?;
    let report: serde_json::Value = serde_json::from_str(&flood.output()).with_context(|| flood.output())?;
    let sent = report["sent"].as_u64().context("no count")?;
    let counted = datagrams_sent(&enemy)?;
    ensure!((sent + 1..=sent + 20).contains(&counted), "{counted} datagrams were sent: {report}");
    ensure!(sent < 3_000 && report["failed"].as_u64() > Some(0), "nothing failed: {report}");
    Ok(())
}

/// UDP datagrams that the kernel of a host has sent since the host began.
fn datagrams_sent(host: &Host) -> Result<u64> {
    let text = host.run("cat /proc/net/snmp")?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let pairs = names.split(' ').zip(values.split(' '));
    let value = pairs.into_iter().find_map(|(name, value)| (name == "OutDatagrams").then_some(value));
    Ok(value.context("no OutDatagrams")?.parse()?)
}
