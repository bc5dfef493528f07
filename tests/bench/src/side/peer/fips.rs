//! FIPS, over UDP links. It is in no registry: measured where programs of these names are at hand.

use std::fmt::Write as _;
use std::net::Ipv6Addr;

use anyhow::{Context, Result, ensure};

use super::{Node, Peer, Place, Programs, Step, text};
use crate::side::bed::Bed;

/// See the module.
pub(super) struct Fips;

impl Peer for Fips {
    fn name(&self) -> &str {
        "fips"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["fips", "fipsctl"]
    }

    fn version(&self, programs: &Programs) -> Result<String> {
        programs.word("fips", &["--version"], "", Place::Second)
    }

    fn mtu(&self) -> Option<u32> {
        Some(1280 - 77)
    }

    fn relays(&self) -> bool {
        true
    }

    fn prepare(&self, bed: &Bed, programs: &Programs) -> Result<Vec<Node>> {
        let mut keys = Vec::new();
        for _ in &bed.hosts {
            let made = programs.output("fipsctl", &["keygen", "--stdout"])?;
            let word = |start: &str| {
                let mut words = made.split(|byte: char| !byte.is_ascii_alphanumeric());
                words.find(|word| word.starts_with(start)).map(str::to_owned)
            };
            keys.push((word("nsec1").context("no secret key")?, word("npub1").context("no public key")?));
        }
        let addresses = keys.iter().map(|(_, public)| address(public)).collect::<Result<Vec<_>>>()?;
        let program = programs.need("fips")?;
        let mut nodes = Vec::new();
        for (index, host) in bed.hosts.iter().enumerate() {
            let mut config = format!(
                "node:\n  identity:\n    nsec: \"{}\"\n  log_level: warn\n  control:\n    socket_path: \"{}\"\n\
                 tun:\n  enabled: true\n  name: fips0\ndns:\n  enabled: true\n  bind_addr: \"::1\"\n  port: {DNS}\n\
                 transports:\n  udp:\n    bind_addr: \"0.0.0.0:2121\"\n",
                keys[index].0,
                text(&host.path("fips.sock")),
            );
            for (place, neighbour) in
                bed.neighbours(index).iter().filter(|neighbour| neighbour.dial).enumerate()
            {
                if place == 0 {
                    config += "peers:\n";
                }
                writeln!(
                    config,
                    "  - npub: \"{}\"\n    addresses:\n      - transport: udp\n        addr: \"{}:2121\"\n    connect_policy: auto_connect",
                    keys[neighbour.index].1, neighbour.theirs
                )?;
            }
            let file = text(&host.path("fips.yaml"));
            std::fs::write(&file, config)?;
            let start = vec![
                Step::daemon(&program, ["-c", &file]).with("RUST_LOG", "warn"),
                Step::Shows("ip -6 -o addr show dev fips0".into(), " fd"),
            ];
            nodes.push(Node { address: addresses[index].clone(), start, settle: Vec::new() });
        }
        if let (3.., Some((_, far))) = (nodes.len(), keys.last()) {
            // An address does not give its key back: a node must have asked its own resolver for the name of one far away.
            let own = text(&crate::side::udp::helper_program()?);
            nodes[0].settle.push(Step::Until(format!("{own} ask-name {far}.fips --port {DNS}")));
        }
        Ok(nodes)
    }
}

const DNS: u16 = 5354;

/// The address of a public key in its text form: `fd`, then the beginning of the key's SHA-256.
fn address(public: &str) -> Result<String> {
    const DIGITS: &str = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    let digits = public.split_once('1').context("no key")?.1;
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    // Five bits a digit; the last six digits are a checksum.
    for digit in digits.chars().take(digits.chars().count().saturating_sub(6)) {
        held = (held << 5 | u32::try_from(DIGITS.find(digit).context("not a digit of a key")?)?) & 0xffff;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    ensure!(bytes.len() == 32, "a key of {} bytes", bytes.len());
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &bytes);
    let mut address = [0xfd; 16];
    address[1..].copy_from_slice(&hash.as_ref()[..15]);
    Ok(Ipv6Addr::from(address).to_string())
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn a_public_key_in_its_text_form_becomes_an_address() {
        // The example of NIP-19: 7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e.
        let address = address("npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg").unwrap();
        assert_eq!(address, "fd74:534f:b595:9a5d:89cd:7403:63ba:2737");
        assert!(super::address("npub1").is_err() && super::address("nothing").is_err());
    }
}
