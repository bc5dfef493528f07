//! Pings between many hosts, by one process.
//!
//! Hundreds of pairs would need as many `ping` processes, each of which costs more than what it measures. Here one process has a raw
//! ICMPv6 socket in every host, sends echo requests through the hosts' own routes as `ping` does, and the kernels of the other hosts
//! answer. What to do is a [`Sweep`]; what came of it is one [`Heard`] for each pair.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::daemon::program;
use crate::host::{Host, World};
use crate::orders::{Orders, obeys, order};
use crate::process::{FIRST, Process, wait_for};
use crate::wire_run::{enter, wait};

/// What to ping.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sweep {
    /// Who pings whom: a host by its number, and an address.
    pub pairs: Vec<(usize, Ipv6Addr)>,
    /// Over how many milliseconds the first pings of all pairs are spread.
    pub spread_ms: u64,
    /// Milliseconds from one ping of a pair to its next.
    pub every_ms: u64,
    /// A pair is done when so many pings were answered.
    pub answers: u32,
    /// Or so many milliseconds after its first ping; what is not answered then is not waited for.
    pub limit_ms: u64,
}

/// What came of one pair.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// When its first ping was due, in milliseconds from the beginning of the sweep.
    pub begun_ms: f64,
    /// From then to the first answer, in milliseconds.
    pub first_ms: Option<f64>,
    /// Pings that were sent.
    pub sent: u32,
    /// Pings that were answered.
    pub answered: u32,
    /// The fastest round trip, in milliseconds.
    pub rtt_ms: Option<f64>,
}

/// A process that pings; it ends when this is dropped.
#[derive(Debug)]
pub struct Pinger {
    process: Process,
    control: PathBuf,
}

/// What a running pinger is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Order {
    /// Begin; what was under way is forgotten.
    Begin(Sweep),
    /// What came of it?
    Look,
}

/// Nothing while a sweep is under way.
type Answer = Option<Vec<Heard>>;

impl Pinger {
    /// A pinger for these hosts.
    pub fn start(world: &World, hosts: &[Host]) -> Result<Self> {
        let first = hosts.first().context("pings without hosts")?;
        let control = world.path("pings.sock");
        let mut command = first.outside();
        command
            .args(FIRST)
            .arg(program("byway-pings")?)
            .args(hosts.iter().map(|host| host.pid().to_string()));
        command.arg("--control").arg(&control);
        let process = Process::start(command, world.path("pings.log"))?;
        let mut pinger = Self { process, control };
        obeys(&mut pinger.process, "the pinger", || order::<Answer>(&pinger.control, &Order::Look).is_ok())?;
        Ok(pinger)
    }

    /// Begins a sweep.
    pub fn begin(&self, sweep: &Sweep) -> Result<()> {
        order::<Answer>(&self.control, &Order::Begin(sweep.clone())).map(drop)
    }

    /// What came of it, one for each pair; nothing while it goes on.
    pub fn look(&self) -> Result<Option<Vec<Heard>>> {
        order(&self.control, &Order::Look)
    }

    /// Makes a sweep, and waits for its end.
    pub fn sweep(&self, sweep: &Sweep) -> Result<Vec<Heard>> {
        self.begin(sweep)?;
        let mut heard = Ok(None);
        let limit = Duration::from_millis(sweep.spread_ms + sweep.limit_ms) + Duration::from_secs(10);
        wait_for(limit, "the end of the pings", || {
            heard = self.look();
            !matches!(heard, Ok(None))
        })?;
        heard?.context("the pings have no end")
    }
}

/// Runs a pinger in this process until it is killed. The process must have one thread, as it changes namespaces.
pub fn run_pings(hosts: &[u32], control: &Path) -> Result<()> {
    let mut orders = Orders::listen(control)?;
    let socket = |pid: &u32| {
        enter(*pid)?;
        let socket =
            Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)).context("no right to ping")?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let sockets = hosts.iter().map(socket).collect::<Result<Vec<_>>>()?;
    let mut running = Running { sockets, sweep: None, number: 0 };
    loop {
        let mut fds = orders.fds();
        fds.extend(running.sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        wait(&mut fds, running.due())?;
        running.receive()?;
        running.send()?;
        orders.serve(|order| running.obey(order))?;
    }
}

/// A pinger at work.
struct Running {
    sockets: Vec<Socket>,
    sweep: Option<UnderWay>,
    number: u32,
}

struct UnderWay {
    sweep: Sweep,
    begun: Instant,
    heard: Vec<Heard>,
    /// When a pair has something to do next: a ping, or its end; a pair is in it until it is done.
    due: BTreeMap<(Instant, usize), ()>,
    /// Pings under way: the pair, and when each was sent.
    asked: BTreeMap<u32, (usize, Instant)>,
}

impl Running {
    fn obey(&mut self, order: Order) -> Answer {
        if let Order::Begin(sweep) = order {
            self.sweep = Some(UnderWay::new(sweep));
        }
        let done = self.sweep.as_ref().filter(|sweep| sweep.due.is_empty());
        done.map(|sweep| sweep.heard.clone())
    }

    fn due(&self) -> Option<Instant> {
        self.sweep.as_ref()?.due.first_key_value().map(|((at, _), ())| *at)
    }

    /// Sends the pings that are due.
    fn send(&mut self) -> Result<()> {
        let Some(sweep) = &mut self.sweep else { return Ok(()) };
        while let Some(pair) = sweep.next(Instant::now()) {
            self.number = self.number.wrapping_add(1);
            let (from, to) = sweep.sweep.pairs[pair];
            let target = SockAddr::from(SocketAddrV6::new(to, 0, 0, 0));
            sweep.sent(pair, self.number, Instant::now());
            // No such host, no route yet, a full queue: the ping is lost.
            drop(self.sockets.get(from).map(|socket| socket.send_to(&request(self.number), &target)));
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<()> {
        let mut buffer = [0; 2048];
        for socket in &self.sockets {
            loop {
                match (&mut &*socket).read(&mut buffer) {
                    Ok(length) => {
                        if let (Some(number), Some(sweep)) = (reply(&buffer[..length]), &mut self.sweep) {
                            sweep.answered(number, Instant::now());
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // What an ICMP error of the way said about an earlier ping.
                    Err(_) => break,
                }
            }
        }
        Ok(())
    }
}

impl UnderWay {
    fn new(sweep: Sweep) -> Self {
        let begun = Instant::now();
        let pairs = sweep.pairs.len();
        let at = |pair: usize| Duration::from_millis(sweep.spread_ms) * pair as u32 / pairs.max(1) as u32;
        let begins = |pair: usize| Heard { begun_ms: milliseconds(at(pair)), ..Heard::default() };
        let heard = (0..pairs).map(begins).collect();
        let due = (0..pairs).map(|pair| ((begun + at(pair), pair), ())).collect();
        Self { sweep, begun, heard, due, asked: BTreeMap::new() }
    }

    /// A pair whose ping is due; those that are at their end are done.
    fn next(&mut self, now: Instant) -> Option<usize> {
        loop {
            let (at, pair) = *self.due.first_key_value()?.0;
            if at > now {
                return None;
            }
            self.due.remove(&(at, pair));
            let end = self.end(pair);
            if now >= end {
                continue;
            }
            // The limit may come before the next ping.
            self.due.insert(((now + Duration::from_millis(self.sweep.every_ms.max(1))).min(end), pair), ());
            return Some(pair);
        }
    }

    fn end(&self, pair: usize) -> Instant {
        let limit = Duration::from_millis(self.sweep.limit_ms);
        self.begun + Duration::from_secs_f64(self.heard[pair].begun_ms / 1000.0) + limit
    }

    fn sent(&mut self, pair: usize, number: u32, now: Instant) {
        self.heard[pair].sent += 1;
        self.asked.insert(number, (pair, now));
    }

    fn answered(&mut self, number: u32, now: Instant) {
        // A second answer to the same ping, or one to an earlier sweep.
        let Some((pair, sent)) = self.asked.remove(&number) else { return };
        let heard = &mut self.heard[pair];
        if heard.answered >= self.sweep.answers {
            return;
        }
        let rtt = milliseconds(now - sent);
        heard.answered += 1;
        heard.rtt_ms = Some(heard.rtt_ms.map_or(rtt, |best| best.min(rtt)));
        let begun = self.begun + Duration::from_secs_f64(heard.begun_ms / 1000.0);
        heard.first_ms.get_or_insert(milliseconds(now.saturating_duration_since(begun)));
        if heard.answered >= self.sweep.answers {
            self.due.retain(|(_, other), ()| *other != pair);
        }
    }
}

/// An echo request; the kernel fills in its checksum.
fn request(number: u32) -> [u8; 24] {
    let mut packet = [0; 24];
    packet[0] = ECHO_REQUEST;
    packet[4..8].copy_from_slice(&number.to_be_bytes());
    packet[8..16].copy_from_slice(&MARK);
    packet
}

/// The number of an echo reply to one of ours.
fn reply(packet: &[u8]) -> Option<u32> {
    let number = packet.get(4..8)?.try_into().ok()?;
    (packet[0] == ECHO_REPLY && packet.get(8..16)? == MARK).then(|| u32::from_be_bytes(number))
}

const ECHO_REQUEST: u8 = 128;
const ECHO_REPLY: u8 = 129;
const MARK: [u8; 8] = *b"sweep of";

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod unit {
    use super::*;

    fn sweep(pairs: usize) -> UnderWay {
        UnderWay::new(Sweep {
            pairs: vec![(0, Ipv6Addr::LOCALHOST); pairs],
            spread_ms: 100,
            every_ms: 200,
            answers: 2,
            limit_ms: 1000,
        })
    }

    #[test]
    fn a_pair_pings_until_it_has_its_answers_and_another_until_its_limit() {
        let mut under_way = sweep(2);
        let begun = under_way.begun;
        let mut number = 0;
        for at in 0..2000 {
            let now = begun + Duration::from_millis(at);
            while let Some(pair) = under_way.next(now) {
                number += 1;
                under_way.sent(pair, number, now);
                if pair == 0 {
                    under_way.answered(number, now + Duration::from_millis(7));
                    under_way.answered(number, now + Duration::from_millis(8));
                }
            }
        }
        assert!(under_way.due.is_empty());
        let [good, bad] = &under_way.heard[..] else { panic!() };
        assert_eq!((good.sent, good.answered, good.begun_ms), (2, 2, 0.0));
        assert!((good.rtt_ms.unwrap() - 7.0).abs() < 1e-6 && (good.first_ms.unwrap() - 7.0).abs() < 1e-6);
        assert_eq!((bad.sent, bad.answered, bad.begun_ms, bad.rtt_ms), (5, 0, 50.0, None));
    }

    #[test]
    fn only_replies_to_our_own_requests_are_read() {
        let mut packet = request(7);
        assert_eq!(reply(&packet), None);
        packet[0] = ECHO_REPLY;
        assert_eq!(reply(&packet), Some(7));
        for length in 0..16 {
            assert_eq!(reply(&packet[..length]), None);
        }
        packet[9] ^= 1;
        assert_eq!(reply(&packet), None);
    }
}
