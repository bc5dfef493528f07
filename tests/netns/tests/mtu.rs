//! Underlays that carry less than Ethernet does, from the start or from one moment to the next.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use byway_netns::{
    Daemon, DaemonConfig, Faults, Host, Identity, Peer, Random, Side, Wire, World, reaches, tcp_sink,
    wait_for,
};

#[test]
fn the_least_path_of_ipv6_carries_packets_of_1280_bytes_in_two_datagrams() -> Result<()> {
    for (addresses, endpoint, room) in [
        (["10.0.1.1/24", "10.0.1.2/24"], "udp://10.0.1.2:2561", 1_252),
        (["fd00::1/64", "fd00::2/64"], "udp://[fd00::2]:2561", 1_232),
    ] {
        let world = World::new()?;
        let narrow = Faults { mtu: Some(1_280), ..Faults::default() };
        let mut pair = Pair::start(&world, addresses, endpoint, &narrow)?;
        pair.carries(room)?;
        pair.rests()?;

        // 1,280 bytes must not be taken apart by the sender's kernel, and do not fit one datagram.
        let before = pair.wire.count()?;
        ensure!(before.to_right.too_long > 0, "longer frames were never tried");
        let line = format!("ping -6 -n -c 50 -i 0.02 -W 2 -M do -s {} {}", 1_280 - 48, pair.ipv6);
        let text = pair.hosts[0].run(&line).with_context(|| pair.logs())?;
        ensure!(text.contains(" 0% packet loss"), "{text}");
        let after = pair.wire.count()?;
        let sent = after.to_right.left - before.to_right.left;
        ensure!((100..150).contains(&sent), "{sent} frames for 50 pings");
        ensure!(after.to_right.too_long == before.to_right.too_long, "something longer was tried");

        pair.sends(&world, 4_000_000, Duration::from_secs(60), None)?;
    }
    Ok(())
}

#[test]
fn a_flow_goes_on_when_its_path_narrows_and_nobody_says_so() -> Result<()> {
    let world = World::new()?;
    // A rate that any machine reaches, so that the flow still runs when the path changes.
    let wide = Faults { rate: Some(40_000_000), ..Faults::default() };
    let narrow = Faults { mtu: Some(1_400), ..wide.clone() };
    let mut pair = Pair::start(&world, ["10.0.1.1/24", "10.0.1.2/24"], "udp://10.0.1.2:2561", &wide)?;
    pair.carries(1_472)?;
    let bytes = 25_000_000;
    let narrows = |pair: &Pair| -> Result<()> {
        pair.wire.set(Side::Both, narrow.clone())?;
        wait_for(Duration::from_secs(10), "a frame that is too long", || {
            pair.wire.count().is_ok_and(|count| count.to_right.too_long > 0)
        })
    };
    let took = pair.sends(&world, bytes, Duration::from_secs(60), Some(&narrows))?;
    println!("25 MB took {took:?}");
    // 5 s at the rate, and what it takes to notice, and for TCP to come back.
    ensure!(took < Duration::from_secs(20), "it took {took:?}\n{}", pair.logs());
    pair.carries(1_372)
}

/// What a test does while bytes flow.
type Meanwhile<'a> = &'a dyn Fn(&Pair) -> Result<()>;

/// Sends a file over one TCP connection.
const SEND: &str =
    "import socket, sys\nsocket.create_connection((sys.argv[1], 4000)).sendfile(open(sys.argv[2], 'rb'))";

/// Two linked daemons with a wire between them.
struct Pair {
    daemons: [Daemon; 2],
    wire: Wire,
    hosts: [Host; 2],
    /// In the overlay, of the second.
    ipv6: String,
}

impl Pair {
    fn start(world: &World, addresses: [&str; 2], endpoint: &str, faults: &Faults) -> Result<Self> {
        let hosts = [world.host("a")?, world.host("b")?];
        let (left, right) = ((&hosts[0], "eth0", addresses[0]), (&hosts[1], "eth0", addresses[1]));
        let wire = Wire::join(world, left, right, 1, faults)?;
        let (first, second) = (Identity::new(&hosts[0])?, Identity::new(&hosts[1])?);
        let config = |own, peer| {
            DaemonConfig { listen: vec!["[::]:2561".into()], ..DaemonConfig::open(own) }.peers([peer])
        };
        let daemons = [
            Daemon::start(&hosts[0], &config(&first, Peer::new(&second, &[endpoint])))?,
            Daemon::start(&hosts[1], &config(&second, Peer::new(&first, &[])))?,
        ];
        let mut pair = Self { daemons, wire, hosts, ipv6: second.ipv6 };
        reaches(&pair.hosts[0], &pair.ipv6, Duration::from_secs(10)).with_context(|| pair.logs())?;
        Ok(pair)
    }

    /// Waits until both ends have found that frames of `length` bytes pass, or so little less that it does not count.
    fn carries(&mut self, length: u64) -> Result<()> {
        let found = |daemon: &Daemon| -> Option<u64> { daemon.json("/v1/links").ok()?[0]["mtu"].as_u64() };
        let right = |found: u64| (length - 16..=length).contains(&found);
        let waited = wait_for(Duration::from_secs(20), "the right length", || {
            self.daemons.iter().all(|daemon| found(daemon).is_some_and(right))
        });
        waited.with_context(|| format!("{:?}\n{}", self.daemons.each_ref().map(found), self.logs()))
    }

    /// Waits until nothing longer than the path is tried any more: for longer than the three probes of one length take.
    fn rests(&self) -> Result<()> {
        let (mut seen, mut since) = (None, Instant::now());
        wait_for(Duration::from_secs(30), "the end of the search", || {
            let count = self.wire.count().ok().map(|count| count.to_right.too_long + count.to_left.too_long);
            if count != seen {
                (seen, since) = (count, Instant::now());
            }
            since.elapsed() > Duration::from_secs(2)
        })
    }

    /// Sends bytes to the second host by TCP, does `meanwhile` once a fifth of them has arrived, and compares.
    fn sends(
        &mut self,
        world: &World,
        bytes: usize,
        limit: Duration,
        meanwhile: Option<Meanwhile<'_>>,
    ) -> Result<Duration> {
        let (sent, arrived) = (world.path("sent"), world.path("arrived"));
        let mut random = Random::new(7);
        let content: Vec<u8> = (0..bytes / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
        std::fs::write(&sent, &content)?;
        let mut sink = tcp_sink(&self.hosts[1], 4000, &arrived)?;
        let begin = Instant::now();
        let length = || std::fs::metadata(&arrived).map_or(0, |file| file.len());
        let mut command = self.hosts[0].command("python3", ["-c", SEND, &self.ipv6]);
        command.arg(&sent);
        let mut sender = self.hosts[0].spawn(command)?;
        if let Some(meanwhile) = meanwhile {
            wait_for(limit, "a fifth of the bytes", || length() > bytes as u64 / 5)
                .with_context(|| self.logs())?;
            ensure!(length() < bytes as u64 / 2, "too late: the flow is nearly over");
            meanwhile(self).with_context(|| self.logs())?;
        }
        let status = sender.wait(limit).with_context(|| self.logs())?;
        ensure!(status.success(), "{}", sender.output());
        sink.wait(limit)?;
        ensure!(std::fs::read(&arrived)? == content, "what arrived differs");
        Ok(begin.elapsed())
    }

    fn logs(&mut self) -> String {
        self.daemons.iter_mut().map(|daemon| format!("---\n{}\n", daemon.process().output())).collect()
    }
}
