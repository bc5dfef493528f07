//! Streams through tor's SOCKS port, each context kept apart from all others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use byway_identity::{Entropy, OsEntropy, shake256};
use byway_link::DialError;
use tokio::net::TcpStream;
use tokio_socks::tcp::Socks5Stream;
use zeroize::Zeroizing;

/// Opens streams to hosts by name. Clones open them for the same daemon.
///
/// Two streams share a circuit only if they have the same context: a peer, or a request's. Tor tells contexts apart by the user
/// name and password of SOCKS (`IsolateSOCKSAuth`, on unless switched off), which are made from a secret of this process, so
/// that no other program of this machine lands on the same circuits.
#[derive(Clone)]
pub struct Outlet {
    socks: SocketAddr,
    secret: Arc<Zeroizing<[u8; 32]>>,
}

/// How long tor may take; it gives up by itself after two minutes.
const PATIENCE: Duration = Duration::from_secs(130);

impl Outlet {
    /// Through the SOCKS port at `socks`.
    pub fn new(socks: SocketAddr) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        OsEntropy.fill(&mut *secret);
        Self { socks, secret: Arc::new(secret) }
    }

    /// A stream to `host`, which tor resolves, and `port`, on a circuit that `context` shares with no other.
    ///
    /// # Errors
    ///
    /// Why there is none, in words with what helps.
    pub async fn connect(&self, host: &str, port: u16, context: &[u8]) -> Result<TcpStream, DialError> {
        let (user, password) = self.credentials(context);
        let connect = Socks5Stream::connect_with_password(self.socks, (host, port), &user, &password);
        match tokio::time::timeout(PATIENCE, connect).await {
            Ok(Ok(stream)) => Ok(stream.into_inner()),
            Ok(Err(error)) => Err(DialError::Told(self.explain(&error))),
            Err(_) => Err(DialError::Told("tor has not opened a stream in time".to_owned())),
        }
    }

    fn credentials(&self, context: &[u8]) -> (String, Zeroizing<String>) {
        let hash: [u8; 32] = shake256(&[b"byway tor isolation", &**self.secret, context]);
        ("byway".to_owned(), Zeroizing::new(hex::encode(hash)))
    }

    fn explain(&self, error: &tokio_socks::Error) -> String {
        use tokio_socks::Error as Socks;

        match error {
            Socks::Io(_) | Socks::ProxyServerUnreachable => format!(
                "tor's SOCKS port {} cannot be reached: is tor running, and is links.tor.socks right?",
                self.socks
            ),
            Socks::HostUnreachable => {
                "Tor finds no such onion service now: is the other daemon running, and is its name right?"
                    .into()
            }
            Socks::ConnectionRefused => {
                "the onion service is there, and does not take this port: is it right?".into()
            }
            Socks::TtlExpired => "Tor did not reach the onion service in time".into(),
            Socks::GeneralSocksServerFailure | Socks::NetworkUnreachable => {
                "tor could not open a stream: it may have no way to the network now".into()
            }
            Socks::ConnectionNotAllowedByRuleset => {
                "tor's own configuration forbids the stream (SocksPolicy, or no onion traffic on this port)"
                    .into()
            }
            Socks::InvalidResponseVersion
            | Socks::UnknownAuthMethod
            | Socks::NoAcceptableAuthMethods
            | Socks::InvalidReservedByte => {
                format!("what answers at {} is no SOCKS port of tor's: is links.tor.socks right?", self.socks)
            }
            other => format!("tor refuses the stream: {other}"),
        }
    }
}

/// Shows neither place nor secret.
impl std::fmt::Debug for Outlet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Outlet([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_differ_and_so_do_daemons_and_one_context_stays_the_same() {
        let (one, other) = (Outlet::new(([127, 0, 0, 1], 1).into()), Outlet::new(([127, 0, 0, 1], 1).into()));
        assert_eq!(one.credentials(b"a"), one.clone().credentials(b"a"));
        assert_ne!(one.credentials(b"a"), one.credentials(b"b"));
        assert_ne!(one.credentials(b"a"), other.credentials(b"a"));
        assert!(one.credentials(b"a").1.len() <= 255, "as long as SOCKS allows");
    }
}
