//! Links over TCP, TLS, WebSocket and QUIC, as the configuration asks for them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use byway_identity::Addr;
use byway_link::TransportId;
use byway_transport_ip::{Certificate, Front, Look, Site, Web};
use zeroize::Zeroizing;

use crate::config::{self, Links, Tls};
use crate::run::StartError;
use crate::state::{StateDir, write_atomically};
use crate::transports::help;

/// Opens them, numbered from `first` on. Each dials, whether it listens or not: peers may be added at any time.
pub(crate) fn open(links: &Links, me: Addr, state: &StateDir, first: usize) -> Result<Vec<Web>, StartError> {
    let mut opened = Vec::new();
    let looks = [
        Look::Tcp,
        Look::Tls,
        Look::WebSocket,
        #[cfg(feature = "quic")]
        Look::Quic,
    ];
    for (number, look) in (first..).zip(looks) {
        let number = u16::try_from(number).map_err(io::Error::other)?;
        let mut web = Web::new(TransportId(number), look, links.proxy.clone());
        match look {
            Look::Tcp => listen(&mut web, "tcp", &links.tcp, Web::listen)?,
            Look::Tls => hide(&mut web, "tls", &links.tls.listen, &links.tls, me, state, ("/", true))?,
            #[cfg(feature = "quic")]
            Look::Quic => hide(&mut web, "quic", &links.quic, &links.tls, me, state, ("/", true))?,
            Look::WebSocket => {
                let (path, tls) = (links.websocket.path.as_str(), links.websocket.tls);
                let scheme = if tls { "wss" } else { "ws" };
                hide(&mut web, scheme, &links.websocket.listen, &links.tls, me, state, (path, tls))?;
            }
        }
        opened.push(web);
    }
    Ok(opened)
}

fn hide(
    web: &mut Web,
    scheme: &str,
    addresses: &[SocketAddr],
    tls: &Tls,
    me: Addr,
    state: &StateDir,
    (path, is_secure): (&str, bool),
) -> Result<(), StartError> {
    if addresses.is_empty() {
        return Ok(());
    }
    let site = site(&tls.site, state)?;
    let chosen = || if is_secure { certificate(tls, state).map(Some) } else { Ok(None) };
    let certificates: Vec<_> = addresses.iter().map(|_| chosen()).collect::<Result<_, _>>()?;
    let mut certificates = certificates.into_iter();
    listen(web, scheme, addresses, |web, address| {
        let certificate = certificates.next().flatten();
        web.hide(address, Front { me, site: site.clone(), path: path.to_owned(), certificate })
    })
}

fn listen(
    web: &mut Web,
    scheme: &str,
    addresses: &[SocketAddr],
    mut open: impl FnMut(&mut Web, SocketAddr) -> io::Result<()>,
) -> Result<(), StartError> {
    for address in addresses {
        let refused = |source| StartError::Listen {
            place: format!("{scheme}://{address}"),
            help: help(&source),
            source,
        };
        open(web, *address).map_err(refused)?;
    }
    Ok(())
}

fn site(site: &config::Site, state: &StateDir) -> Result<Site, StartError> {
    Ok(match site {
        config::Site::Empty => Site::Empty,
        config::Site::Upstream(address) => Site::Upstream(*address),
        config::Site::Page(file) => {
            let file = state.resolve(file);
            let read = std::fs::read(&file).and_then(|page| Site::page(page.into()));
            read.map_err(|source| StartError::File { what: "the site", path: file, source })?
        }
    })
}

/// The configured certificate, or the daemon's own, which is made once.
fn certificate(tls: &Tls, state: &StateDir) -> Result<Certificate, StartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::File { what: "the certificate", path, source }
    };
    if let Some((chain, key)) = &tls.certificate {
        let (chain, key) = (state.resolve(chain), state.resolve(key));
        let pem = std::fs::read(&chain).map_err(failed(&chain))?;
        let secret = std::fs::read(&key).map(Zeroizing::new).map_err(failed(&key))?;
        return Certificate::from_pem(&pem, &secret).map_err(failed(&chain));
    }
    let file = state.path().join("tls-certificate");
    match std::fs::read(&file).map(Zeroizing::new) {
        Ok(bytes) => Certificate::from_bytes(&bytes).map_err(failed(&file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Certificate::generate("localhost").map_err(failed(&file))?;
            write_atomically(&file, &made.to_bytes(), 0o600).map_err(failed(&file))?;
            Ok(made)
        }
        Err(error) => Err(failed(&file)(error)),
    }
}

#[cfg(test)]
mod tests {
    use byway_link::Transport;

    use super::*;

    const ME: Addr = Addr::from_bytes([1; 32]);

    fn links() -> Links {
        let mut links = config::Config::default().links;
        links.tls.listen = vec![([127, 0, 0, 1], 0).into(); 2];
        links.quic = links.tls.listen.clone();
        links.websocket =
            config::WebSocket { listen: links.tls.listen.clone(), path: "/x".into(), tls: false };
        links
    }

    #[tokio::test]
    async fn the_certificate_is_made_once_and_its_pin_is_told() {
        let place = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(&place.path().join("state")).expect("ours");
        let pins = || -> Vec<_> {
            let opened = open(&links(), ME, &state, 1).expect("loopback has free ports");
            let listening = opened.iter().flat_map(Transport::listening);
            listening.map(|endpoint| (endpoint.scheme().name(), endpoint.pin())).collect()
        };
        let first = pins();
        let mut schemes = vec!["tls", "tls", "ws", "ws"];
        if cfg!(feature = "quic") {
            schemes.extend(["quic"; 2]);
            assert_eq!(first[4].1, first[0].1);
        }
        assert_eq!(first.iter().map(|(scheme, _)| *scheme).collect::<Vec<_>>(), schemes);
        assert!(first[0].1.is_some() && first[0] == first[1] && first[2].1.is_none());
        assert_eq!(pins(), first);
    }

    #[tokio::test]
    async fn files_that_are_missing_or_damaged_are_told_by_name() {
        let place = tempfile::tempdir().expect("a directory");
        let state = StateDir::open(&place.path().join("state")).expect("ours");
        let told = |links: &Links| open(links, ME, &state, 1).expect_err("a fault").to_string();
        let mut paged = links();
        paged.tls.site = config::Site::Page("page.html".into());
        assert!(told(&paged).contains("the site") && told(&paged).contains("page.html"));
        let mut certified = links();
        certified.tls.certificate = Some(("chain.pem".into(), "key.pem".into()));
        assert!(told(&certified).contains("chain.pem"));
        std::fs::write(state.path().join("tls-certificate"), "nonsense").expect("ours");
        assert!(told(&links()).contains("tls-certificate"));
    }
}
