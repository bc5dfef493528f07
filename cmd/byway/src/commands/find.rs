//! `byway find`.

use std::net::Ipv6Addr;

use byway_identity::{Addr, Prefix};
use serde::Serialize;

use super::Context;
use crate::failure::Failure;

/// Finds a whole address from the beginning of one, or from an overlay IPv6 address.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The first characters of an address, or an overlay IPv6 address.
    #[arg(allow_hyphen_values = true)]
    prefix: String,
    /// Most seconds to look.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    wait: f64,
}

#[derive(Serialize)]
struct Answer {
    addr: Addr,
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let prefix = parse(&args.prefix)?;
    let mut request = context.request();
    request.deadline = Some(super::seconds(args.wait)?);
    let addr = context.service.main().find(prefix, request).await?;
    if context.out.json { context.out.object(&Answer { addr }) } else { context.out.line(addr) }
}

/// Six bits for each character.
fn parse(text: &str) -> Result<Prefix, Failure> {
    if let Ok(ip) = text.parse::<Ipv6Addr>() {
        return crate::keys::ip6_prefix(ip);
    }
    let count = text.chars().count();
    if count == 0 || count > Addr::TEXT_LENGTH {
        return Err(Failure::could_not(format!(
            "a prefix has 1 to {} characters, not {count}",
            Addr::TEXT_LENGTH
        )));
    }
    // The first characters fix the first bits whatever follows, so zeros make a whole address of them.
    let whole = format!("{text}{}", "-".repeat(Addr::TEXT_LENGTH - count));
    let addr: Addr = whole
        .parse()
        .map_err(|error| Failure::could_not(format!("{text:?} is no beginning of an address: {error}")))?;
    let bits = (count * 6).min(256) as u16;
    Prefix::new(addr.as_bytes(), bits).ok_or_else(|| Failure::could_not("the prefix is too long"))
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn every_beginning_of_an_address_is_a_prefix_of_it() {
        let addr = Addr::from_bytes([0xa5; 32]);
        let text = addr.to_string();
        for length in 1..=text.len() {
            let prefix = parse(&text[..length]).expect("a prefix");
            assert!(prefix.matches(&addr) && usize::from(prefix.bits()) == (length * 6).min(256), "{length}");
        }
        assert!(parse("").is_err() && parse("!").is_err() && parse(&"a".repeat(44)).is_err());
    }

    #[tokio::test]
    async fn the_address_is_printed_and_an_unknown_prefix_is_a_no() {
        let fake = Fake::new();
        let addr = fake.addr().to_string();
        let args = Args { prefix: addr[..6].to_owned(), wait: 0.05 };
        assert_eq!(fake.run(async |context| run(&args, context).await).await.data(), format!("{addr}\n"));
        let other = if addr.starts_with('A') { "B" } else { "A" };
        let args = Args { prefix: other.into(), wait: 0.05 };
        assert_eq!(fake.run(async |context| run(&args, context).await).await.status(), 1);
    }
}
