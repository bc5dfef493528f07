//! Targets for what people write: addresses, ranges, endpoints, rules, configuration.

use std::str::FromStr;

use byway_daemon::config::Config;
use byway_identity::{Addr, Ipv6Range};
use byway_link::{Endpoint, IpEndpoint};
use byway_portal::{Ports, Who};

/// Addresses: whatever is read is printed the same.
pub fn addr_text(data: &[u8]) {
    one_spelling::<Addr>(data);
}

/// Ranges of IPv6 addresses: what is read comes back, and maps addresses there and back.
pub fn ipv6_range_text(data: &[u8]) {
    let Some(range) = comes_back::<Ipv6Range>(data) else { return };
    let mut bytes = [0; 32];
    for (to, from) in bytes.iter_mut().zip(data.iter().rev()) {
        *to = *from;
    }
    let addr = Addr::from_bytes(bytes);
    if let Ok(ipv6) = range.ipv6(&addr) {
        assert!(range.contains(ipv6));
        assert!(range.prefix(ipv6).is_some_and(|prefix| prefix.matches(&addr)));
    }
}

/// Endpoint URLs: what is read comes back.
pub fn endpoint_text(data: &[u8]) {
    comes_back::<Endpoint>(data);
    comes_back::<IpEndpoint>(data);
}

/// Rules of the portal's filter.
pub fn rule_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = text.parse::<Who>();
    let _ = text.parse::<Ports>();
}

/// The configuration file: it is in order, or its faults have words.
pub fn config_text(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(faults) = Config::parse(text, "byway.toml") {
        assert!(!faults.faults.is_empty());
        assert!(!faults.to_string().is_empty());
    }
}

/// What is read is printed as it was written.
fn one_spelling<T: FromStr + ToString>(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(value) = text.parse::<T>()
    {
        assert_eq!(value.to_string(), text);
    }
}

/// What is read can be printed and read again.
fn comes_back<T: FromStr + ToString + PartialEq>(data: &[u8]) -> Option<T> {
    let value = std::str::from_utf8(data).ok()?.parse::<T>().ok()?;
    let text = value.to_string();
    assert!(
        text.parse().is_ok_and(|again: T| again == value),
        "{text:?} is not read as what it was printed from"
    );
    Some(value)
}
