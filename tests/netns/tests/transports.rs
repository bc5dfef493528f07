//! Several links to one peer: which carries, what happens when it falls, and what never leaves.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{Daemon, DaemonConfig, Host, Identity, Peer, Process, World, epoch, reaches, wait_for};

/// What the second host listens at.
const TLS: u16 = 443;
const WSS: u16 = 8_443;

#[test]
fn a_flow_goes_on_over_tls_then_websocket_when_udp_is_dropped_and_comes_back() -> Result<()> {
    fail_over("198.51.100", "ip/udp")
}

#[test]
fn the_same_on_a_lan_where_udp_is_of_another_family() -> Result<()> {
    fail_over("10.0.1", "ethernet/lan")
}

fn fail_over(net: &str, udp: &str) -> Result<()> {
    let world = World::new()?;
    let mut pair = Pair::start(&world, net, &[])?;
    for class in [udp, "ip/tls", "ip/websocket"] {
        pair.wait(10, &format!("a link over {class}"), |links| {
            links.iter().any(|link| link.0 == class && link.1 != "none")
        })?;
    }
    pair.wait(10, "UDP to carry", |links| carries(links, udp))?;
    firewall(&pair.hosts[1])?;
    let mut flow = Flow::start(&pair.hosts, &pair.ipv6)?;
    flow.runs(5)?;

    let dropped = epoch();
    refuse(&pair.hosts[1], "meta l4proto udp drop")?;
    pair.wait(20, "TLS to carry", |links| carries(links, "ip/tls"))?;
    flow.runs(5)?;
    println!("TLS carries; the flow stood still for {:.2} s", flow.gap(dropped)?);
    ensure!(flow.gap(dropped)? < 5.0, "the flow stood still for {} s\n{}", flow.gap(dropped)?, pair.logs());

    let reset = epoch();
    refuse(&pair.hosts[1], &format!("tcp dport {TLS} reject with tcp reset"))?;
    pair.wait(20, "WebSocket to carry", |links| carries(links, "ip/websocket"))?;
    flow.runs(5)?;
    println!("WebSocket carries; the flow stood still for {:.2} s", flow.gap(reset)?);
    ensure!(flow.gap(reset)? < 5.0, "the flow stood still for {} s\n{}", flow.gap(reset)?, pair.logs());
    pair.wait(60, "both to be missed, with a reason", |links| {
        let missed = |class: &str| {
            links
                .iter()
                .any(|link| link.0 == class && link.1 == "none" && ["suspect", "blocked"].contains(&&*link.2))
        };
        missed("ip/udp") && missed("ip/tls")
    })?;

    let restored = epoch();
    pair.hosts[1].run("nft flush chain inet test in")?;
    pair.wait(60, "UDP to carry again", |links| carries(links, udp))?;
    println!("UDP carries again after {:.1} s", epoch() - restored);
    flow.runs(5)?;
    ensure!(flow.gap(restored)? < 2.0, "the way back took the flow {} s", flow.gap(restored)?);
    flow.finish()
}

#[test]
fn with_one_transport_allowed_nothing_leaves_by_another() -> Result<()> {
    let world = World::new()?;
    let mut pair = Pair::start(&world, "198.51.100", &["tls"])?;
    pair.wait(10, "TLS to carry", |links| carries(links, "ip/tls"))?;
    reaches(&pair.hosts[0], &pair.ipv6, Duration::from_secs(5))?;
    // Not even when that fails.
    firewall(&pair.hosts[1])?;
    refuse(&pair.hosts[1], &format!("tcp dport {TLS} reject with tcp reset"))?;
    pair.wait(10, "no link", |links| links.iter().all(|link| link.1 == "none"))?;
    ensure!(reaches(&pair.hosts[0], &pair.ipv6, Duration::from_secs(10)).is_err(), "it went another way");
    let seen = pair.seen();
    ensure!(seen.iter().all(|line| line == &format!("6 {TLS}")), "{seen:?}");
    ensure!(seen.len() > 20, "it was dialled again and again: {seen:?}");
    Ok(())
}

#[test]
fn with_only_tor_allowed_and_no_tor_nothing_leaves_at_all() -> Result<()> {
    let world = World::new()?;
    let mut pair = Pair::start(&world, "198.51.100", &["tor"])?;
    wait_for(Duration::from_secs(10), "the reason", || {
        let peers = pair.daemons[0].json("/v1/peers");
        peers.is_ok_and(|peers| peers[0]["trouble"].as_str().is_some_and(|why| why.contains("`transports`")))
    })?;
    ensure!(reaches(&pair.hosts[0], &pair.ipv6, Duration::from_secs(10)).is_err(), "it went another way");
    let seen = pair.seen();
    ensure!(seen.is_empty(), "{seen:?}");
    // That something would be seen:
    pair.hosts[0].output("ping -n -c 1 -W 0.2 198.51.100.2")?;
    wait_for(Duration::from_secs(5), "the ping to be seen", || !pair.seen().is_empty())
}

/// Class, role and state of each link.
type Links = Vec<(String, String, String)>;

/// Whether `class` is active, and nothing else.
fn carries(links: &Links, class: &str) -> bool {
    let mut active = links.iter().filter(|link| link.1 == "active");
    active.next().is_some_and(|link| link.0 == class) && active.next().is_none()
}

/// Two daemons; the first dials the second by UDP, TLS and WebSocket, and what leaves it is captured.
struct Pair {
    capture: Process,
    daemons: [Daemon; 2],
    hosts: [Host; 2],
    /// In the overlay, of the second.
    ipv6: String,
}

impl Pair {
    fn start(world: &World, net: &str, transports: &[&str]) -> Result<Self> {
        let hosts = [world.host("a")?, world.host("b")?];
        let at = |host: u8| format!("{net}.{host}/24");
        world.cable((&hosts[0], "eth0", &at(1)), (&hosts[1], "eth0", &at(2)))?;
        let (first, second) = (Identity::new(&hosts[0])?, Identity::new(&hosts[1])?);
        let links = format!(
            "[links.tls]\nlisten = [\"{net}.2:{TLS}\"]\n\
             [links.websocket]\nlisten = [\"{net}.2:{WSS}\"]\npath = \"/secret\"\ntls = true\n"
        );
        let config = DaemonConfig { links, ..DaemonConfig::open(&second) };
        let other = Daemon::start(&hosts[1], &config.peers([Peer::new(&first, &[])]))?;
        let status = other.json("/v1/status")?;
        let told = status["endpoints"].as_array().context("no endpoints")?;
        let told = told.iter().filter_map(|endpoint| endpoint.as_str());
        let mut endpoints: Vec<&str> = told.filter(|text| !text.starts_with("udp:")).collect();
        ensure!(endpoints.len() == 2, "{endpoints:?}");
        let udp = format!("udp://{net}.2:2561");
        endpoints.push(&udp);
        let mut peer = Peer::new(&second, &endpoints);
        peer.transports = transports.iter().map(|text| (*text).to_owned()).collect();
        let capture = capture(&hosts[0])?;
        let one = Daemon::start(&hosts[0], &DaemonConfig::open(&first).peers([peer]))?;
        Ok(Self { capture, daemons: [one, other], hosts, ipv6: second.ipv6 })
    }

    /// Waits until what both daemons say of their links is so.
    fn wait(&mut self, seconds: u64, what: &str, so: impl Fn(&Links) -> bool) -> Result<()> {
        let waited = wait_for(Duration::from_secs(seconds), what, || {
            // The second dials nobody, and misses nothing.
            let mut links = self.daemons.iter().map(links);
            links.next().is_some_and(|links| links.is_ok_and(|links| so(&links)))
        });
        waited.with_context(|| format!("{:?}\n{}", self.daemons.each_ref().map(links), self.logs()))
    }

    /// Protocol and port of each IPv4 packet that left the first.
    fn seen(&mut self) -> Vec<String> {
        let text = self.capture.output();
        text.lines().filter(|line| *line != "ready").map(str::to_owned).collect()
    }

    fn logs(&mut self) -> String {
        self.daemons.iter_mut().map(|daemon| format!("---\n{}\n", daemon.process().output())).collect()
    }
}

fn links(daemon: &Daemon) -> Result<Links> {
    let links = daemon.json("/v1/links")?;
    let text = |link: &serde_json::Value, key: &str| link[key].as_str().unwrap_or_default().to_owned();
    let links = links.as_array().context("no list of links")?;
    Ok(links.iter().map(|link| (text(link, "class"), text(link, "role"), text(link, "state"))).collect())
}

/// Prints protocol and destination port of each IPv4 packet that leaves `eth0`.
fn capture(host: &Host) -> Result<Process> {
    let program = "import socket\n\
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))\n\
        raw.bind(('eth0', 0))\n\
        print('ready', flush=True)\n\
        while True:\n\
        \x20   frame, place = raw.recvfrom(65536)\n\
        \x20   if place[2] != 4 or frame[12:14] != b'\\x08\\x00': continue\n\
        \x20   transport = frame[14 + 4 * (frame[14] & 15):]\n\
        \x20   print(frame[23], int.from_bytes(transport[2:4], 'big'), flush=True)\n";
    let process = host.spawn(host.command("python3", ["-c", program]))?;
    wait_for(Duration::from_secs(10), "the capture", || process.output().contains("ready"))?;
    Ok(process)
}

/// Makes a firewall on a host, which lets everything in.
fn firewall(host: &Host) -> Result<()> {
    host.run("nft add table inet test")?;
    host.run("nft add chain inet test in { type filter hook input priority 0 ; }").map(drop)
}

/// Lets it refuse more. What comes through the portal is another matter.
fn refuse(host: &Host, rule: &str) -> Result<()> {
    host.run(&format!("nft add rule inet test in iifname eth0 {rule}")).map(drop)
}

/// One TCP connection over which a number goes there and back each 20 ms.
struct Flow {
    client: Process,
    _server: Process,
}

impl Flow {
    fn start(hosts: &[Host; 2], ipv6: &str) -> Result<Self> {
        let server = "import socket\n\
            server = socket.create_server(('', 7000), family=socket.AF_INET6)\n\
            print('ready', flush=True)\n\
            connection = server.accept()[0]\n\
            while part := connection.recv(65536): connection.sendall(part)\n";
        let server = hosts[1].spawn(hosts[1].command("python3", ["-c", server]))?;
        wait_for(Duration::from_secs(10), "the server", || server.output().contains("ready"))?;
        let client = "import socket, sys, threading, time\n\
            flow = socket.create_connection((sys.argv[1], 7000))\n\
            def send():\n\
            \x20   number = 0\n\
            \x20   while True:\n\
            \x20       flow.sendall(number.to_bytes(8, 'big'))\n\
            \x20       number += 1\n\
            \x20       time.sleep(0.02)\n\
            threading.Thread(target=send, daemon=True).start()\n\
            expected = 0\n\
            with flow.makefile('rb') as back:\n\
            \x20   while part := back.read(8):\n\
            \x20       assert int.from_bytes(part, 'big') == expected, 'out of order'\n\
            \x20       expected += 1\n\
            \x20       print(time.time(), flush=True)\n\
            print('ended', flush=True)\n";
        let client = hosts[0].spawn(hosts[0].command("python3", ["-c", client, ipv6]))?;
        Ok(Self { client, _server: server })
    }

    /// When numbers came back.
    fn times(&mut self) -> Vec<f64> {
        self.client.output().lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Waits until it has moved on for `seconds` more.
    fn runs(&mut self, seconds: u64) -> Result<()> {
        let until = epoch() + seconds as f64;
        wait_for(Duration::from_secs(seconds + 10), "the flow to go on", || {
            self.times().last().is_some_and(|last| *last > until)
        })
        .with_context(|| self.client.output().lines().rev().take(20).collect::<Vec<_>>().join("\n"))
    }

    /// The longest time without a number after `since`.
    fn gap(&mut self, since: f64) -> Result<f64> {
        let times = self.times();
        let begin = times.iter().rev().find(|at| **at <= since).copied().context("nothing came before")?;
        let after = times.iter().copied().filter(|at| *at >= begin);
        let after: Vec<f64> = after.collect();
        after.windows(2).map(|pair| pair[1] - pair[0]).reduce(f64::max).context("nothing came after")
    }

    /// It must not have ended by itself.
    fn finish(mut self) -> Result<()> {
        let output = self.client.output();
        ensure!(self.client.is_running() && !output.contains("ended"), "the flow ended:\n{output}");
        Ok(())
    }
}
