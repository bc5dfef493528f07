//! The transports that the configuration asks for.

use std::io;

use byway_link::{Transport, TransportId};
use byway_transport_ip::Udp;

use crate::config::Config;
use crate::run::StartError;

/// Opens them. Without `mancon.direct` none over clear IP is opened: whoever watches the line would see it.
pub(crate) fn open(config: &Config) -> Result<Vec<Box<dyn Transport>>, StartError> {
    if !config.mancon.direct {
        return Ok(Vec::new());
    }
    let mut transports: Vec<Box<dyn Transport>> = Vec::new();
    for (number, address) in (0..).zip(&config.links.udp) {
        let udp = Udp::bind(TransportId(number), *address).map_err(|source| StartError::Listen {
            place: format!("udp://{address}"),
            help: help(&source),
            source,
        })?;
        transports.push(Box::new(udp));
    }
    Ok(transports)
}

/// What helps when a place to listen at is refused.
pub(crate) fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has it: choose another port (links.udp.listen), or port 0 for any"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_clear_socket_is_opened_without_direct() {
        let mut config = Config::default();
        config.links.udp = vec![([127, 0, 0, 1], 0).into()];
        assert!(open(&config).expect("nothing to do").is_empty());
        config.mancon.direct = true;
        let opened = open(&config).expect("loopback has free ports");
        assert_eq!(opened.len(), 1);
        assert_eq!(opened[0].listening().len(), 1);
    }

    #[tokio::test]
    async fn a_taken_port_is_told_with_what_helps() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        let mut config = Config::default();
        config.mancon.direct = true;
        config.links.udp = vec![taken.local_addr().expect("bound")];
        let told = open(&config).expect_err("taken").to_string();
        assert!(told.contains("another program has it"), "{told}");
    }
}
