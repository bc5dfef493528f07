//! The transports that the configuration asks for.

use std::io;

use byway_identity::Addr;
use byway_link::{Transport, TransportId};
use byway_transport_ip::{Offload, Options, Udp, UdpPort};

use crate::config::Config;
use crate::run::StartError;
use crate::state::StateDir;

/// What was opened.
#[derive(Default)]
pub(crate) struct Opened {
    /// For the core.
    pub(crate) transports: Vec<Box<dyn Transport>>,
    /// For the threads of the fast path. While one of a transport's is there, the transport hears through it alone.
    pub(crate) ports: Vec<UdpPort>,
}

/// Opens them. Without `mancon.direct` none over clear IP is opened: whoever watches the line would see it.
pub(crate) fn open(config: &Config, me: Addr, state: &StateDir) -> Result<Opened, StartError> {
    let mut opened = Opened::default();
    if !config.mancon.direct {
        return Ok(opened);
    }
    let pairs = usize::from(config.portal.threads / 2).max(1);
    let wanted = config.portal.offload;
    let offload = Offload { segment: wanted, gro: wanted, ..Offload::default() };
    let options = Options { offload, reuse_port: pairs > 1 };
    for (number, address) in (0..).zip(&config.links.udp) {
        let refused =
            |source| StartError::Listen { place: format!("udp://{address}"), help: help(&source), source };
        let mut udp = Udp::bind_with(TransportId(number), *address, options).map_err(refused)?;
        let port = udp.share();
        for _ in 1..pairs {
            opened.ports.push(port.sibling().map_err(refused)?);
        }
        opened.ports.push(port);
        opened.transports.push(Box::new(udp));
    }
    for web in crate::web::open(&config.links, me, state, opened.transports.len())? {
        opened.transports.push(Box::new(web));
    }
    Ok(opened)
}

/// What helps when a place to listen at is refused.
pub(crate) fn help(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another program has it: choose another port (listen, in [links]), or port 0 for any"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Addr = Addr::from_bytes([1; 32]);

    fn open_for_test(config: &Config) -> Result<Opened, StartError> {
        let place = tempfile::tempdir().expect("a directory");
        open(config, ME, &StateDir::open(&place.path().join("state")).expect("ours"))
    }

    #[tokio::test]
    async fn no_clear_socket_is_opened_without_direct() {
        let mut config = Config::default();
        config.links.udp = vec![([127, 0, 0, 1], 0).into()];
        config.links.tcp = vec![([127, 0, 0, 1], 0).into()];
        config.links.tls.listen = vec![([127, 0, 0, 1], 0).into()];
        assert!(open_for_test(&config).expect("nothing to do").transports.is_empty());
        config.mancon.direct = true;
        let opened = open_for_test(&config).expect("loopback has free ports");
        assert_eq!(
            (opened.transports.len(), opened.ports.len()),
            (4 + usize::from(cfg!(feature = "quic")), 1)
        );
        let listening: Vec<_> =
            opened.transports.iter().map(|transport| transport.listening().len()).collect();
        assert_eq!(listening[..4], [1, 1, 1, 0]);
    }

    #[tokio::test]
    async fn each_pair_of_threads_has_sockets_of_its_own_at_one_address() {
        let mut config = Config::default();
        config.mancon.direct = true;
        config.portal.threads = 6;
        config.links.udp = vec![([127, 0, 0, 1], 0).into()];
        let opened = open_for_test(&config).expect("loopback has free ports");
        let at: Vec<_> = opened.ports.iter().map(|port| port.socket().local_addr()).collect();
        assert_eq!(at.len(), 3);
        assert!(at.iter().all(|one| *one == at[0]));
    }

    #[tokio::test]
    async fn a_taken_port_is_told_with_what_helps() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("loopback has free ports");
        let mut config = Config::default();
        config.mancon.direct = true;
        config.links.udp = vec![taken.local_addr().expect("bound")];
        let told = open_for_test(&config).err().expect("taken").to_string();
        assert!(told.contains("another program has it"), "{told}");
    }
}
