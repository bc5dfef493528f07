//! `byway listen`.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use byway_identity::Addr;
use byway_stream::{Endpoint, EndpointConfig, Incoming};
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::Context;
use super::dial::SERVICE;
use crate::failure::Failure;

/// Passes streams of other nodes on to a TCP service; prints its address first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where they go, like tcp:127.0.0.1:80.
    #[arg(long, value_name = "tcp:HOST:PORT")]
    to: Target,
    /// What the service is called.
    #[arg(long, value_name = "NAME", default_value = SERVICE)]
    service: String,
    /// Key file of the node; without it a new address each time.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Streams at once.
const STREAMS: usize = 512;

/// A host and port.
#[derive(Clone, Debug)]
struct Target(String);

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no target; an example is tcp:127.0.0.1:80");
        let place = text.strip_prefix("tcp:").ok_or_else(wrong)?;
        let (host, port) = place.rsplit_once(':').ok_or_else(wrong)?;
        let bare = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
        if host.is_empty() || bare || !port.parse::<u16>().is_ok_and(|port| port > 0) {
            return Err(wrong());
        }
        Ok(Self(place.to_owned()))
    }
}

#[derive(Serialize)]
struct Started<'a> {
    addr: Addr,
    service: &'a str,
}

#[cfg(test)]
impl Args {
    /// Listens with an address of its own for `to`.
    pub(crate) fn to(to: &str) -> Self {
        Self { to: to.parse().expect("a target"), service: SERVICE.into(), key: None }
    }
}

/// Runs it.
pub(crate) async fn run(args: &Args, context: &mut Context<'_, '_>) -> Result<(), Failure> {
    let node = super::open(context, args.key.as_deref()).await?;
    let addr = node.addr();
    let config = EndpointConfig { request: context.request(), ..EndpointConfig::default() };
    let endpoint = Endpoint::new(node, config);
    if context.out.json {
        context.out.object(&Started { addr, service: &args.service })?;
    } else {
        context.out.line(addr)?;
    }
    let room = Arc::new(Semaphore::new(STREAMS));
    loop {
        let incoming = tokio::select! {
            biased;
            () = context.stop.wait() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else {
            return Err(Failure::could_not("the node has ended; does the daemon still run?"));
        };
        if incoming.service != args.service {
            incoming.refuse();
            continue;
        }
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let to = args.to.0.clone();
        tokio::spawn(async move {
            pass_on(incoming, &to).await;
            drop(permit);
        });
    }
    endpoint.close().await;
    endpoint.node().close();
    Ok(())
}

/// A target that does not answer is told by refusing the stream; one that breaks, by ending it.
async fn pass_on(incoming: Incoming, to: &str) {
    let Ok(mut socket) = TcpStream::connect(to).await else {
        tracing::warn!("the target of `byway listen` takes no connection");
        return incoming.refuse();
    };
    let Ok(mut stream) = incoming.accept().await else { return };
    if tokio::io::copy_bidirectional(&mut stream, &mut socket).await.is_ok() {
        let _ = stream.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_tcp_hosts_and_ports() {
        for good in ["tcp:127.0.0.1:80", "tcp:[::1]:80", "tcp:localhost:8080"] {
            assert!(good.parse::<Target>().is_ok(), "{good}");
        }
        for bad in
            ["127.0.0.1:80", "udp:127.0.0.1:80", "tcp:80", "tcp:h:0", "tcp:h:99999", "tcp:::1:80", "tcp::80"]
        {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
