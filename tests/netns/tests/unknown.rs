//! A program that tries thousands of addresses that nobody has.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{A, B, C, Chain, Daemon, listens, reaches, wait_for};

/// Datagrams to addresses from nowhere, some thousand a second; its last line counts them.
const FLOOD: &str = "import os, socket, sys, time\n\
    out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)\n\
    end, sent = time.monotonic() + float(sys.argv[1]), 0\n\
    while time.monotonic() < end:\n\
    \x20   for _ in range(20):\n\
    \x20       nobody = socket.inet_ntop(socket.AF_INET6, b'\\x02' + os.urandom(15))\n\
    \x20       try: out.sendto(b'x' * 64, (nobody, 9)); sent += 1\n\
    \x20       except OSError: pass\n\
    \x20   time.sleep(0.01)\n\
    print(sent)\n";

#[test]
fn thousands_of_unknown_addresses_hold_up_nobody_and_take_no_memory() -> Result<()> {
    let mut chain = Chain::start(None)?;
    let (b, c) = (chain.ipv6(B).to_owned(), chain.ipv6(C).to_owned());
    let a = &chain.hosts[A];
    let _server = chain.hosts[C].start("iperf3 -s -6")?;
    listens(&chain.hosts[C], 5201)?;
    let daemon = chain.daemons[A].as_mut().context("A runs")?;
    let before = daemon.process().resident()?;
    let finds = |daemon: &Daemon| daemon.metric("byway_portal_finds_total", &[]);
    let asked = finds(daemon)?;

    let mut flood = a.spawn(a.command("python3", ["-c", FLOOD, "20"]))?;
    wait_for(Duration::from_secs(10), "the flood to fill the table", || {
        daemon.metric("byway_portal_drops_total", &["reason=\"hold-full\""]).is_ok_and(|count| count > 1_000)
    })?;
    // Known addresses: echoes without a loss or a wait, and bytes without a pause.
    let mut stream = a.start(&format!("iperf3 -6 -c {c} -t 8 -b 20M -i 0.5 --json"))?;
    let text = a.run(&format!("ping -6 -n -c 300 -i 0.02 -W 1 {c}"))?;
    ensure!(text.contains(" 0% packet loss"), "{text}");
    let longest = longest(&text).with_context(|| text.clone())?;
    stream.wait(Duration::from_secs(20))?;
    let report: serde_json::Value =
        serde_json::from_str(&stream.output()).with_context(|| stream.output())?;
    let pauses = report["intervals"].as_array().context("no intervals")?.iter();
    let pauses = pauses.filter(|interval| interval["sum"]["bytes"].as_f64() < Some(1.0)).count();
    // One that was never spoken to, in the midst of it: who asks again is searched for.
    ensure!(flood.is_running(), "the flood ended: {}", flood.output());
    let took = reaches(a, &b, Duration::from_secs(10))?;
    ensure!(flood.is_running(), "the flood ended before that");
    let most = daemon.process().resident()?;

    flood.wait(Duration::from_secs(30))?;
    let sent: u64 = flood.output().trim().parse().with_context(|| flood.output())?;
    let asked = finds(daemon)? - asked;
    println!(
        "{sent} datagrams, {asked} searches, longest echo {longest} ms, a newcomer after {took:?}, {} kB more memory",
        most.saturating_sub(before) / 1000
    );
    ensure!(sent > 5_000, "{sent} datagrams are no flood");
    ensure!(asked < 500, "the network was asked {asked} times");
    ensure!(longest < 500.0, "an echo took {longest} ms");
    ensure!(pauses == 0, "{pauses} half seconds without a byte");
    ensure!(most < before + 16_000_000, "memory grew from {before} to {most} bytes");

    // When it is over, who asks for an address that nobody has is told so, and the next one at once.
    let nobody = "2ff:1:2:3:4:5:6:7";
    wait_for(Duration::from_secs(20), "an answer that nobody is there", || {
        let output = a.output(&format!("ping -6 -n -c 1 -W 6 {nobody}"));
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("Address unreachable"))
    })?;
    Ok(())
}

/// The longest round trip in milliseconds, from the summary of `ping`.
fn longest(text: &str) -> Option<f64> {
    let (_, times) = text.split_once("min/avg/max/mdev = ")?;
    times.split('/').nth(2)?.parse().ok()
}
