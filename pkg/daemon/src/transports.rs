//! The transports that the configuration asks for.

use std::io;

use byway_identity::Addr;
use byway_link::{Transport, TransportId};
use byway_transport_i2p::I2p;
use byway_transport_ip::{Offload, Options, Udp, UdpPort, Unix};
use byway_transport_tor::{Control, Tor};

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

/// Opens them; what they keep goes below `state`. Without `mancon.direct` none over clear IP is opened: whoever watches the
/// line would see it.
pub(crate) fn open(config: &Config, me: Addr, state: &StateDir) -> Result<Opened, StartError> {
    let mut opened = Opened::default();
    if config.mancon.direct {
        open_udp(config, &mut opened)?;
        for web in crate::web::open(&config.links, me, state, opened.transports.len())? {
            opened.transports.push(Box::new(web));
        }
    }
    if let Some(config) = &config.links.tor {
        let password_file = config.password_file.as_ref().map(|file| state.resolve(file));
        let control = config.control.clone().map(|place| Control { place, password_file });
        let service = control.map(|control| (control, state.path().join("tor")));
        let config = byway_transport_tor::Config { socks: config.socks, service, port: config.port };
        let tor = Tor::open(opened.next(), config)?;
        opened.transports.push(Box::new(tor));
    }
    if let Some(crate::config::I2p { sam, tunnels }) = config.links.i2p {
        let config = byway_transport_i2p::Config { sam, folder: state.path().join("i2p"), tunnels };
        opened.transports.push(Box::new(I2p::open(opened.next(), config)));
    }
    open_unix(config, state, &mut opened)?;
    Ok(opened)
}

impl Opened {
    /// The number of the next transport.
    fn next(&self) -> TransportId {
        TransportId(self.transports.len().try_into().expect("a daemon has few transports"))
    }
}

fn open_udp(config: &Config, opened: &mut Opened) -> Result<(), StartError> {
    let pairs = usize::from(config.portal.threads / 2).max(1);
    let wanted = config.portal.offload;
    let offload = Offload { segment: wanted, gro: wanted, ..Offload::default() };
    let options = Options { offload, reuse_port: pairs > 1 };
    for address in &config.links.udp {
        let refused =
            |source| StartError::Listen { place: format!("udp://{address}"), help: help(&source), source };
        let mut udp = Udp::bind_with(opened.next(), *address, options).map_err(refused)?;
        let port = udp.share();
        for _ in 1..pairs {
            opened.ports.push(port.sibling().map_err(refused)?);
        }
        opened.ports.push(port);
        opened.transports.push(Box::new(udp));
    }
    Ok(())
}

/// One that dials is always there: peers may be added at any time.
fn open_unix(config: &Config, state: &StateDir, opened: &mut Opened) -> Result<(), StartError> {
    if config.links.unix.is_empty() {
        opened.transports.push(Box::new(Unix::new(opened.next())));
    }
    for path in &config.links.unix {
        let path = state.resolve(path);
        let refused = |source| {
            let place = format!("unix://{}", path.display());
            StartError::Listen { place, help: help(&source), source }
        };
        opened.transports.push(Box::new(Unix::listen(opened.next(), &path).map_err(refused)?));
    }
    Ok(())
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
        let opened = open_for_test(&config).expect("nothing to do");
        let schemes: Vec<_> = opened.transports.iter().flat_map(|transport| transport.schemes()).collect();
        assert_eq!((schemes, opened.ports.len()), (vec![&byway_link::Scheme::Unix], 0));
        config.mancon.direct = true;
        let opened = open_for_test(&config).expect("loopback has free ports");
        assert_eq!(
            (opened.transports.len(), opened.ports.len()),
            (5 + usize::from(cfg!(feature = "quic")), 1)
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
    async fn a_dead_tor_stops_nothing_and_its_key_is_kept_in_the_state_directory() {
        use std::os::unix::fs::PermissionsExt;

        let place = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(&place.path().join("state")).expect("ours");
        let mut config = Config::default();
        config.mancon.direct = true;
        config.links.udp = vec![([127, 0, 0, 1], 0).into()];
        let control = Some(state.path().join("no-tor").display().to_string());
        let control = control.and_then(|path| format!("unix:{path}").parse().ok());
        config.links.tor = Some(crate::config::Tor { control, ..crate::config::Tor::default() });
        let opened = open(&config, ME, &state).expect("tor is asked later");
        assert_eq!(opened.transports.len(), 6 + usize::from(cfg!(feature = "quic")));
        let mode = |name| state.path().join(name).metadata().expect("made").permissions().mode() & 0o777;
        assert_eq!((mode("tor"), mode("tor/onion.pem")), (0o700, 0o600));
    }

    #[tokio::test]
    async fn sockets_of_this_machine_need_no_direct_and_lie_in_the_state_directory() {
        let place = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(&place.path().join("state")).expect("ours");
        let mut config = Config::default();
        config.links.unix = vec!["link.sock".into()];
        let _opened = open(&config, ME, &state).expect("a free name");
        assert!(state.path().join("link.sock").exists());
        let told = open(&config, ME, &state).err().expect("somebody listens there").to_string();
        assert!(told.contains("another program has it"), "{told}");
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
