//! How users name nodes.

use std::net::Ipv6Addr;

use byway_api::Service;
use byway_identity::Addr;

use crate::failure::Failure;

/// The address that `text` stands for: itself, or the peer with that petname, with or without `.byway`.
pub(crate) async fn resolve(service: &dyn Service, text: &str) -> Result<Addr, Failure> {
    let error = match text.parse() {
        Ok(addr) => return Ok(addr),
        Err(error) => error,
    };
    if text.chars().count() == Addr::TEXT_LENGTH {
        return Err(Failure::could_not(format!("{text:?} is no address: {error}")));
    }
    if text.starts_with('-') {
        // Addresses may start with a dash, so options that do not exist end up here.
        return Err(Failure::could_not(format!(
            "{text:?} is neither an option nor an address; --help lists the options"
        )));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(Failure::could_not(format!(
            "{text} is an IPv6 address; `byway find {text}` tells whose"
        )));
    }
    let name = text.strip_suffix(".byway").unwrap_or(text);
    let peers = service.peers().await?;
    let mut named = peers.iter().filter(|peer| peer.name.as_deref() == Some(name));
    match (named.next(), named.next()) {
        (Some(peer), None) => Ok(peer.addr),
        (Some(_), Some(_)) => {
            Err(Failure::could_not(format!("two peers are called {name:?}; use an address")))
        }
        (None, _) => Err(Failure::could_not(format!(
            "no peer is called {name:?}, and it is no address either ({error}); `byway peers` lists the names"
        ))),
    }
}
