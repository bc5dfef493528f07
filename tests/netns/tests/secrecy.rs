//! What those see who see the wire, or the log.

use anyhow::{Context, Result, ensure};
use byway_netns::{A, B, C, Chain, Faults};

#[test]
fn the_wire_shows_neither_content_nor_addresses() -> Result<()> {
    let (chain, packets) = busy(false)?;
    for wire in &chain.wires {
        wire.count()?;
        let captured = std::fs::read(wire.pcap())?;
        ensure!(captured.len() > packets * 100, "only {} bytes were captured", captured.len());
        for (what, secret) in secrets(&chain)? {
            ensure!(!contains(&captured, &secret), "the wire shows {what}");
        }
        // That this would be noticed: the addresses of the hosts themselves do show.
        ensure!(contains(&captured, &[10, 0, if wire.pcap() == chain.wires[0].pcap() { 1 } else { 2 }, 1]));
    }
    Ok(())
}

#[test]
fn the_log_shows_no_place_no_key_and_no_content_at_any_level() -> Result<()> {
    let (mut chain, _) = busy(true)?;
    chain.daemons[B].take().context("B runs")?.crash()?;
    chain.launch(B)?;
    chain.reaches(A, C, std::time::Duration::from_secs(10))?;
    let mut forbidden: Vec<(String, Vec<u8>)> = secrets(&chain)?;
    for net in ["10.0.1.", "10.0.2."] {
        forbidden.push((format!("the addresses {net}x"), net.into()));
    }
    for (who, name) in [(A, "A"), (B, "B"), (C, "C")] {
        forbidden.push((format!("the IPv6 address of {name}"), chain.ipv6(who).into()));
        let key = std::fs::read_to_string(&chain.configs[who].identity.key)?;
        let key = key.lines().nth(1).context("an empty key file")?;
        forbidden.push((format!("the key of {name}"), key.into()));
    }
    for daemon in chain.daemons.iter_mut().flatten() {
        let log = daemon.process().output();
        ensure!(log.contains("DEBUG"), "the log is not at this level:\n{log}");
        for (what, secret) in &forbidden {
            let line = log.lines().find(|line| contains(line.as_bytes(), secret));
            ensure!(line.is_none(), "the log shows {what}: {line:?}");
        }
    }
    Ok(())
}

/// What each ping carries.
const CONTENT: &[u8; 8] = b"\xbaSECRET\xab";

/// A chain over which pings have gone, and how many.
fn busy(debug: bool) -> Result<(Chain, usize)> {
    let mut chain = Chain::prepare(Some(&Faults::default()))?;
    for who in [A, B, C] {
        chain.configs[who].debug = debug;
        chain.launch(who)?;
    }
    chain.reaches(A, C, std::time::Duration::from_secs(10))?;
    let pattern: String = CONTENT.iter().map(|byte| format!("{byte:02x}")).collect();
    chain.hosts[A].run(&format!("ping -6 -n -c 50 -i 0.02 -s 800 -p {pattern} {}", chain.ipv6(C)))?;
    Ok((chain, 50))
}

/// What nobody outside may see: the content, and the addresses of the nodes as bytes and as text.
fn secrets(chain: &Chain) -> Result<Vec<(String, Vec<u8>)>> {
    let mut secrets = vec![("the content".to_owned(), CONTENT.to_vec())];
    for (who, name) in [(A, "A"), (B, "B"), (C, "C")] {
        let ip: std::net::Ipv6Addr = chain.ipv6(who).parse()?;
        secrets.push((format!("the IPv6 address of {name}"), ip.octets().to_vec()));
        let addr: byway_identity::Addr = chain.configs[who].identity.addr.parse()?;
        secrets.push((format!("the address of {name}"), addr.as_bytes().to_vec()));
    }
    Ok(secrets)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
