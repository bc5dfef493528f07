//! Listening: what comes in, and who gets the web site.
//!
//! ```text
//!            ┌──────────── every byte, both ways ───────────► site
//!  stranger ─┤ Watch looks on
//!            └─ a request that proves to know us ─► Established, and the site is left
//! ```
//!
//! A stranger's bytes are not held back, not answered and not counted by anything but the site and the caps on connections, so
//! that a listener with the proof and one without it cannot be told apart from outside.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::carry::{Carrier, Established, Framing};
use super::connect::unix_ms;
use super::head::{self, Sight, Watch};
use super::knock::{Book, Channel};
use super::{Io, Site, exported};

/// One listener.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    /// How the user knows those who come in, before their address.
    pub(crate) scheme: &'static str,
    pub(crate) tls: Option<TlsAcceptor>,
    /// None: whoever connects may send frames.
    pub(crate) door: Option<Arc<Door>>,
    pub(crate) guests: Arc<Guests>,
    pub(crate) established: mpsc::Sender<Established>,
}

/// What hides behind a web site, and from whom.
pub(crate) struct Door {
    pub(crate) book: Mutex<Book>,
    pub(crate) site: Site,
    pub(crate) path: String,
    pub(crate) framing: Framing,
    /// Whether the TLS of this listener ends at the client, so that proofs are bound to it.
    pub(crate) is_end_to_end: bool,
}

/// How many connections there are, and from where.
#[derive(Default)]
pub(crate) struct Guests {
    by_source: Mutex<HashMap<IpAddr, usize>>,
}

/// Room for one connection.
struct Seat {
    guests: Arc<Guests>,
    source: IpAddr,
}

/// Connections that have not become links, of all sources and of one.
const GUESTS_MAX: usize = 1_024;
const GUESTS_OF_ONE: usize = 64;
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(20);
/// How long the first request is looked at. What comes later can only be for the site.
const FIRST_REQUEST: Duration = Duration::from_secs(60);
/// A connection to the site over which nothing moves for this long is over.
const IDLE: Duration = Duration::from_secs(180);
/// Before the system is asked for connections again after it has refused.
const PAUSE: Duration = Duration::from_millis(100);

impl Listener {
    /// Takes connections in as long as it is polled.
    pub(crate) async fn run(self) {
        let listener = Arc::new(self);
        loop {
            let Ok((stream, from)) = listener.socket.accept().await else {
                // For lack of descriptors, for example.
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let Some(seat) = Guests::seat(&listener.guests, from) else { continue };
            let listener = Arc::clone(&listener);
            tokio::spawn(async move { listener.receive(stream, from, seat).await });
        }
    }

    async fn receive(&self, stream: TcpStream, from: SocketAddr, seat: Seat) {
        // Without it small frames only come later.
        let _ = stream.set_nodelay(true);
        let mut channel = Channel::Any;
        let stream: Box<dyn Io> = match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else {
                    return;
                };
                if self.door.as_ref().is_some_and(|door| door.is_end_to_end) {
                    let Some(exported) = exported(stream.get_ref().1) else { return };
                    channel = exported;
                }
                Box::new(stream)
            }
        };
        let name =
            byway_link::Endpoint::at(byway_link::Scheme::Tcp, crate::shared::canonical(from)).to_string();
        let name = name.replacen("tcp", self.scheme, 1);
        let established = match &self.door {
            None => {
                let carrier = Carrier::Stream { stream, framing: Framing::Length, early: Vec::new() };
                Some(Established { carrier, name })
            }
            Some(door) => door.receive(stream, channel, name).await,
        };
        if let Some(established) = established {
            // Whoever knows us is bounded as a link is.
            let _ = self.established.send(established).await;
        }
        drop(seat);
    }
}

impl Door {
    /// Lets `stream` talk to the site; gives it back if it proves to know us.
    async fn receive(&self, mut stream: Box<dyn Io>, channel: Channel, name: String) -> Option<Established> {
        let mut site = self.site.open().await;
        let looking = tokio::time::timeout(FIRST_REQUEST, self.look_on(&mut stream, &mut site, channel));
        if let Ok(Ok(Some(knock))) = looking.await {
            drop(site);
            stream.write_all(head::welcome(&knock.key).as_bytes()).await.ok()?;
            stream.flush().await.ok()?;
            let carrier = Carrier::Stream { stream, framing: self.framing, early: knock.rest };
            return Some(Established { carrier, name });
        }
        join(stream, site).await;
        None
    }

    /// Passes on what both sides say until it is clear what the first request is.
    async fn look_on(
        &self,
        stream: &mut Box<dyn Io>,
        site: &mut Box<dyn Io>,
        channel: Channel,
    ) -> io::Result<Option<head::Knock>> {
        let mut watch = Watch::new(&self.path);
        let (mut said, mut answered) = (vec![0; 4_096], vec![0; 4_096]);
        loop {
            tokio::select! {
                count = stream.read(&mut said) => {
                    // An end is passed on with all others.
                    let count = count?;
                    if count == 0 {
                        return Ok(None);
                    }
                    let is_over = match watch.take(&said[..count]) {
                        Sight::Knock(knock) if self.admits(channel, &knock.proof) => return Ok(Some(knock)),
                        Sight::Knock(_) | Sight::Stranger => true,
                        Sight::More => false,
                    };
                    site.write_all(&said[..count]).await?;
                    site.flush().await?;
                    if is_over {
                        return Ok(None);
                    }
                }
                count = site.read(&mut answered) => {
                    let count = count?;
                    if count == 0 {
                        return Ok(None);
                    }
                    stream.write_all(&answered[..count]).await?;
                    stream.flush().await?;
                }
            }
        }
    }

    fn admits(&self, channel: Channel, proof: &str) -> bool {
        // A book has no state that a panic elsewhere could have left half changed.
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.admits(Instant::now(), unix_ms(), channel, proof)
    }
}

impl Guests {
    /// Room for one more connection from `source`, if there is.
    fn seat(this: &Arc<Self>, source: SocketAddr) -> Option<Seat> {
        let source = network(source.ip());
        let mut by_source = this.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        let all: usize = by_source.values().sum();
        let here = by_source.get(&source).copied().unwrap_or(0);
        // A reverse proxy on this machine speaks for the whole world.
        if all >= GUESTS_MAX || here >= GUESTS_OF_ONE && !source.is_loopback() {
            return None;
        }
        *by_source.entry(source).or_default() += 1;
        Some(Seat { guests: Arc::clone(this), source })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut by_source = self.guests.by_source.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6((ip.to_bits() >> 64 << 64).into()),
        ip => ip,
    }
}

/// Carries both directions until both have ended, one has failed, or nothing moves any more.
async fn join(stream: Box<dyn Io>, site: Box<dyn Io>) {
    let moved = Mutex::new(tokio::time::Instant::now());
    let (mut from_stream, mut to_stream) = tokio::io::split(stream);
    let (mut from_site, mut to_site) = tokio::io::split(site);
    let both = async {
        tokio::try_join!(
            one_way(&mut from_stream, &mut to_site, &moved),
            one_way(&mut from_site, &mut to_stream, &moved)
        )
    };
    let patience = async {
        loop {
            let last = *moved.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= IDLE {
                return;
            }
            tokio::time::sleep_until(last + IDLE).await;
        }
    };
    tokio::select! {
        _ = both => {}
        () = patience => {}
    }
}

async fn one_way(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    moved: &Mutex<tokio::time::Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; 8_192];
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        *moved.lock().unwrap_or_else(PoisonError::into_inner) = tokio::time::Instant::now();
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_in_all_and_of_one_source_and_their_room_is_given_back() {
        let guests = Arc::new(Guests::default());
        let from = |ip: &str| SocketAddr::new(ip.parse().expect("an address"), 1);
        let fill = |ip: &str| -> Vec<Seat> {
            std::iter::from_fn(|| Guests::seat(&guests, from(ip))).take(2 * GUESTS_MAX).collect()
        };
        let one = fill("192.0.2.1");
        assert_eq!(one.len(), GUESTS_OF_ONE);
        assert!(Guests::seat(&guests, from("::ffff:192.0.2.1")).is_none(), "however it is written");
        let net = fill("2001:db8::1");
        assert_eq!(net.len(), GUESTS_OF_ONE);
        assert!(Guests::seat(&guests, from("2001:db8::ffff:1")).is_none(), "64 bits are one source");
        let proxied = fill("127.0.0.1");
        assert_eq!(one.len() + net.len() + proxied.len(), GUESTS_MAX);
        assert!(Guests::seat(&guests, from("192.0.2.2")).is_none());
        drop((one, net, proxied));
        assert!(guests.by_source.lock().expect("nobody panicked").is_empty());
        assert!(Guests::seat(&guests, from("192.0.2.1")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_its_site_ends_when_nothing_moves() {
        let (stranger, near) = tokio::io::duplex(64);
        let (site, far) = tokio::io::duplex(64);
        let started = tokio::time::Instant::now();
        join(Box::new(near), Box::new(far)).await;
        assert!(started.elapsed() >= IDLE, "{:?}", started.elapsed());
        drop((stranger, site));
    }
}
