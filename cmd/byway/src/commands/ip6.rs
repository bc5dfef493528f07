//! `byway ip6`.

use std::net::Ipv6Addr;
use std::path::Path;

use byway_identity::{Addr, Ipv6Range};
use serde::Serialize;

use crate::failure::Failure;
use crate::keys;
use crate::out::Out;

/// Prints the overlay IPv6 address that belongs to a key or an address.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Key file, - for stdin, or an address; without it the key of the daemon that runs as this user.
    #[arg(allow_hyphen_values = true)]
    key: Option<String>,
    /// The range of overlay addresses, as `portal.prefix` has it.
    #[arg(long, value_name = "RANGE", default_value_t = Ipv6Range::default())]
    prefix: Ipv6Range,
}

#[derive(Serialize)]
struct Answer {
    addr: Addr,
    ipv6: Ipv6Addr,
}

/// Runs it.
pub(crate) fn run(args: &Args, out: &mut Out<'_>) -> Result<(), Failure> {
    let addr = match args.key.as_deref().map(str::parse) {
        Some(Ok(addr)) => addr,
        _ => keys::read_or_own(args.key.as_deref().map(Path::new))?.public().addr(),
    };
    let ipv6 = args.prefix.ipv6(&addr).map_err(|error| Failure::no(error.to_string()))?;
    if out.json { out.object(&Answer { addr, ipv6 }) } else { out.line(ipv6) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip6(addr: Addr) -> Result<String, Failure> {
        let mut data = Vec::new();
        let args = Args { key: Some(addr.to_string()), prefix: Ipv6Range::default() };
        run(&args, &mut Out::new(&mut data, &mut Vec::new()))?;
        Ok(String::from_utf8_lossy(&data).trim_end().to_owned())
    }

    #[test]
    fn an_address_has_its_ipv6_form_or_the_answer_is_no() {
        let addr = Addr::from_bytes([0x5a; 32]);
        assert_eq!(ip6(addr).ok(), addr.ipv6().ok().map(|ip| ip.to_string()));
        assert_eq!(ip6(Addr::NOBODY).map_err(|failure| failure.status().0), Err(1));
    }
}
