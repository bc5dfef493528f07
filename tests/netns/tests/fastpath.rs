//! Packets that threads carry past the core: whole and in order whatever the kernel helps with, marked, filtered, and not
//! at the cost of small ones.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use byway_netns::{
    Daemon, DaemonConfig, Faults, Host, Identity, Peer, Pings, Process, Random, Wire, World, listens,
    reaches, tcp_sink, wait_for,
};

/// Bytes of one transfer.
const BYTES: usize = 20_000_000;
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn what_is_forwarded_on_without_checksum_help_arrives_whole() -> Result<()> {
    let world = World::new()?;
    let mut pair = Pair::start(&world, |_| {})?;
    // The overlay address of the second moves to a third host, with a plain Ethernet card between the two.
    let third = world.host("third")?;
    world.cable((&pair.hosts[1], "eth1", "fd77::1/64"), (&third, "eth0", "fd77::2/64"))?;
    let middle = &pair.hosts[1];
    for (host, interface) in [(middle, "eth1"), (&third, "eth0")] {
        host.run(&format!("ethtool -K {interface} tx off rx off tso off gso off gro off"))?;
    }
    let address = pair.ipv6[1].clone();
    let address = address.as_str();
    middle.ip(&format!("-6 addr del {address}/128 dev byway0"))?;
    third.ip(&format!("-6 addr add {address}/128 dev eth0 nodad"))?;
    third.ip("-6 route add default via fd77::1")?;
    middle.run("sysctl -qw net.ipv6.conf.all.forwarding=1")?;
    middle.ip(&format!("-6 route add {address}/128 via fd77::2"))?;
    reaches(&pair.hosts[0], address, Duration::from_secs(10)).with_context(|| pair.logs())?;

    let before = pair.packets()?;
    pair.transfer(&world, &pair.hosts[0], &third, address)?;
    // The other way the first host's kernel gets what the threads have merged.
    pair.transfer(&world, &third, &pair.hosts[0], &pair.ipv6[0])?;
    pair.datagrams(&pair.hosts[0], &third, address)?;
    pair.went_by_threads(&before)?;
    // A wrong checksum is dropped where nobody helps: it would show here, and TCP would only be slow.
    for name in ["Udp6InCsumErrors", "Icmp6InCsumErrors"] {
        ensure!(snmp6(&third, name)? == 0, "{name}: {}", snmp6(&third, name)?);
    }
    ensure!(snmp(&third, "Tcp:", "InCsumErrors")? == 0, "TCP checksums were wrong\n{}", pair.logs());
    Ok(())
}

#[test]
fn a_mark_of_congestion_on_the_way_reaches_the_flow_inside() -> Result<()> {
    let world = World::new()?;
    let hosts = [world.host("a")?, world.host("b")?];
    let faults = Faults { congested: 0.02, ..Faults::default() };
    let ends = ((&hosts[0], "eth0", "10.0.1.1/24"), (&hosts[1], "eth0", "10.0.1.2/24"));
    let wire = Wire::join_unrecorded(&world, ends.0, ends.1, 1, &faults)?;
    let mut pair = Pair::on(hosts, |_| {})?;
    let marks = |host: &Host| snmp6(host, "Ip6InCEPkts");
    ensure!(marks(&pair.hosts[1])? == 0, "marks before there was a flow");

    // A flow that does not understand marks gets none: its packets were never marked as if it did.
    for host in &pair.hosts {
        host.run("sysctl -qw net.ipv4.tcp_ecn=0")?;
    }
    pair.transfer(&world, &pair.hosts[0], &pair.hosts[1], &pair.ipv6[1])?;
    ensure!(
        marks(&pair.hosts[1])? == 0 && wire.count()?.to_right.marked == 0,
        "a mark for who asked for none"
    );

    for host in &pair.hosts {
        host.run("sysctl -qw net.ipv4.tcp_ecn=1")?;
    }
    pair.transfer(&world, &pair.hosts[0], &pair.hosts[1], &pair.ipv6[1])?;
    let (inside, outside) = (marks(&pair.hosts[1])?, wire.count()?.to_right.marked);
    println!("{outside} datagrams were marked, {inside} packets came out marked");
    ensure!(outside >= 10, "the wire marked only {outside}");
    // Datagrams that the kernel joins share the mark, and so do packets that the threads merge.
    ensure!(inside >= 5, "of {outside} marks {inside} came through\n{}", pair.logs());
    Ok(())
}

#[test]
fn one_thread_and_several_pairs_carry_all_of_it_too() -> Result<()> {
    for threads in [1, 4] {
        let world = World::new()?;
        let mut pair = Pair::start(&world, |config| config.threads = Some(threads))?;
        let running = pair.daemons[1].json("/v1/status")?["fast"]["threads"].clone();
        ensure!(running == threads, "{running} threads run, not {threads}");
        let before = pair.packets()?;
        pair.transfer(&world, &pair.hosts[0], &pair.hosts[1], &pair.ipv6[1])?;
        pair.transfer(&world, &pair.hosts[1], &pair.hosts[0], &pair.ipv6[0])?;
        pair.datagrams(&pair.hosts[0], &pair.hosts[1], &pair.ipv6[1])?;
        pair.went_by_threads(&before)?;
        // Many flows at once, over all queues.
        let _server = pair.hosts[1].start("iperf3 --server --one-off")?;
        listens(&pair.hosts[1], 5201)?;
        let line = format!("iperf3 --client {} --parallel 8 --time 2 --json", pair.ipv6[1]);
        let report: serde_json::Value = serde_json::from_str(&pair.hosts[0].run(&line)?)?;
        let each: Vec<f64> = report["end"]["streams"]
            .as_array()
            .context("no streams")?
            .iter()
            .filter_map(|stream| stream["receiver"]["bytes"].as_f64())
            .collect();
        ensure!(each.len() == 8 && each.iter().all(|bytes| *bytes > 0.0), "{each:?}\n{}", pair.logs());
    }
    Ok(())
}

#[test]
fn without_the_kernels_help_all_of_it_arrives_and_so_between_those_with_and_without() -> Result<()> {
    for without in [[true, true], [true, false]] {
        let world = World::new()?;
        let mut first = true;
        let pair = Pair::start(&world, |config| {
            config.offload = !without[usize::from(!first)];
            first = false;
        })?;
        for (daemon, without) in pair.daemons.iter().zip(without) {
            let fast = daemon.json("/v1/status")?["fast"].clone();
            let helped = !fast["device"].as_array().context("no fast path")?.is_empty();
            ensure!(helped != without, "{fast}");
            ensure!(fast["sockets"].to_string().contains("gso") != without, "{fast}");
        }
        let before = pair.packets()?;
        pair.transfer(&world, &pair.hosts[0], &pair.hosts[1], &pair.ipv6[1])?;
        pair.transfer(&world, &pair.hosts[1], &pair.hosts[0], &pair.ipv6[0])?;
        pair.datagrams(&pair.hosts[0], &pair.hosts[1], &pair.ipv6[1])?;
        pair.went_by_threads(&before)?;
    }
    Ok(())
}

#[test]
fn pings_are_answered_while_bulk_fills_the_way() -> Result<()> {
    let world = World::new()?;
    let pair = Pair::start(&world, |_| {})?;
    let _server = pair.hosts[1].start("iperf3 --server --one-off")?;
    listens(&pair.hosts[1], 5201)?;
    let bulk = pair.hosts[0].start(&format!("iperf3 --client {} --parallel 4 --time 6", pair.ipv6[1]))?;
    let pings = Pings::start(&pair.hosts[0], &pair.ipv6[1], 5)?;
    let answers = pings.finish(5)?.len();
    ensure!(answers >= 45, "{answers} of about 50 pings were answered beside\n{}", bulk.output());
    Ok(())
}

#[test]
fn what_no_rule_allows_stays_out_whatever_comes_beside_what_one_does() -> Result<()> {
    let world = World::new()?;
    let pair = Pair::start(&world, |_| {})?;
    let mut configs = pair.configs.clone();
    configs[1].allow = vec![(configs[0].identity.addr.clone(), vec!["tcp/4000".into(), "udp/4000".into()])];
    pair.daemons[1].reload(&configs[1].toml(&pair.hosts[1])?)?;
    let (hostile, node, ipv6) = (&pair.hosts[0], &pair.hosts[1], pair.ipv6[1].clone());
    wait_for(Duration::from_secs(5), "the door to close", || {
        let ping = hostile.output(&format!("ping -6 -n -c 1 -W 0.3 {ipv6}"));
        ping.is_ok_and(|output| !output.status.success())
    })?;

    let mut watch = node.spawn(node.command("python3", ["-c", WATCH]))?;
    wait_for(Duration::from_secs(5), "the watch", || watch.output().contains("ready"))?;
    let before = pair.packets()?;
    // What is allowed goes by the threads; beside it comes all that is not, in trains as well.
    let mut attack = hostile.spawn(hostile.command("python3", ["-c", ATTACK, &ipv6]))?;
    pair.transfer(&world, hostile, node, &ipv6)?;
    pair.datagrams(hostile, node, &ipv6)?;
    attack.wait(Duration::from_secs(30))?;
    ensure!(attack.output().contains("done"), "{}", attack.output());
    pair.went_by_threads(&before)?;
    let filtered = pair.daemons[1].metric("byway_portal_drops_total", &["reason=\"denied\""])?;
    watch.wait(Duration::from_secs(30))?;
    let seen = watch.output();
    println!("{filtered} were kept out; {seen}");
    ensure!(seen.contains("end 0 strangers"), "{seen}");
    ensure!(filtered >= 100, "the filter kept out only {filtered}");
    Ok(())
}

/// Two daemons with portals, linked over a veth pair.
struct Pair {
    daemons: [Daemon; 2],
    configs: [DaemonConfig; 2],
    hosts: [Host; 2],
    /// In the overlay.
    ipv6: [String; 2],
}

impl Pair {
    fn start(world: &World, adapt: impl FnMut(&mut DaemonConfig)) -> Result<Self> {
        let hosts = [world.host("a")?, world.host("b")?];
        world.cable((&hosts[0], "eth0", "10.0.1.1/24"), (&hosts[1], "eth0", "10.0.1.2/24"))?;
        Self::on(hosts, adapt)
    }

    /// On hosts that are joined already.
    fn on(hosts: [Host; 2], mut adapt: impl FnMut(&mut DaemonConfig)) -> Result<Self> {
        let (first, second) = (Identity::new(&hosts[0])?, Identity::new(&hosts[1])?);
        let ipv6 = [first.ipv6.clone(), second.ipv6.clone()];
        let dials = Peer::new(&second, &["udp://10.0.1.2:2561"]);
        let mut configs = [
            DaemonConfig::open(&first).peers([dials]),
            DaemonConfig::open(&second).peers([Peer::new(&first, &[])]),
        ];
        configs.iter_mut().for_each(&mut adapt);
        let daemons = [Daemon::start(&hosts[0], &configs[0])?, Daemon::start(&hosts[1], &configs[1])?];
        let mut pair = Self { daemons, configs, hosts, ipv6 };
        reaches(&pair.hosts[0], &pair.ipv6[1], Duration::from_secs(10)).with_context(|| pair.logs())?;
        Ok(pair)
    }

    /// Sends bytes by TCP and compares what arrives.
    fn transfer(&self, world: &World, from: &Host, to: &Host, address: &str) -> Result<()> {
        let (sent, arrived) = (world.path("sent"), world.path("arrived"));
        let mut random = Random::new(BYTES as u64);
        let content: Vec<u8> = (0..BYTES / 8).flat_map(|_| random.bits().to_le_bytes()).collect();
        std::fs::write(&sent, &content)?;
        let mut sink = tcp_sink(to, 4000, &arrived)?;
        let mut command = from.command("python3", ["-c", SEND, address]);
        command.arg(&sent);
        finish(&mut from.spawn(command)?)?;
        sink.wait(LIMIT)?;
        ensure!(std::fs::read(&arrived)? == content, "what arrived differs");
        Ok(())
    }

    /// Sends datagrams of many lengths, each with its own content, and compares those that arrive.
    fn datagrams(&self, from: &Host, to: &Host, address: &str) -> Result<()> {
        let mut receiver = to.spawn(to.command("python3", ["-c", TAKE_DATAGRAMS]))?;
        wait_for(Duration::from_secs(5), "the receiver", || receiver.output().contains("ready"))?;
        finish(&mut from.spawn(from.command("python3", ["-c", SEND_DATAGRAMS, address]))?)?;
        finish(&mut receiver)?;
        let text = receiver.output();
        let count = text.lines().find_map(|line| line.strip_prefix("good ")?.parse::<u32>().ok());
        ensure!(count >= Some(900), "{text}");
        Ok(())
    }

    /// Packets and super-packets that the threads of each daemon have written to its device. The core writes there itself.
    fn packets(&self) -> Result<Vec<u64>> {
        let written = |daemon: &Daemon| daemon.metric("byway_fast_packets_total", &["direction=\"in\""]);
        self.daemons.iter().map(written).collect()
    }

    /// Fails unless a transfer since then went past the core at both ends.
    fn went_by_threads(&self, before: &[u64]) -> Result<()> {
        let after = self.packets()?;
        let grown = before.iter().zip(&after).all(|(before, after)| after - before >= 100);
        ensure!(grown, "the threads have written {before:?}, then {after:?} packets");
        Ok(())
    }

    fn logs(&mut self) -> String {
        self.daemons.iter_mut().map(|daemon| format!("---\n{}\n", daemon.process().output())).collect()
    }
}

/// Waits until a program is done, which must have gone well.
fn finish(process: &mut Process) -> Result<()> {
    let status = process.wait(LIMIT)?;
    ensure!(status.success(), "{status}: {}", process.output());
    Ok(())
}

/// A counter of `/proc/net/snmp6`.
fn snmp6(host: &Host, name: &str) -> Result<u64> {
    let text = host.run("cat /proc/net/snmp6")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| text.clone())?;
    Ok(line.trim().parse()?)
}

/// A counter of `/proc/net/snmp`, where a line of names is followed by one of values.
fn snmp(host: &Host, family: &str, name: &str) -> Result<u64> {
    let text = host.run("cat /proc/net/snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with(family));
    let (names, values) = (lines.next().context("no names")?, lines.next().context("no values")?);
    let mut pairs = names.split(' ').zip(values.split(' '));
    Ok(pairs.find(|(found, _)| *found == name).context("no such counter")?.1.parse()?)
}

/// Sends a file over one TCP connection.
const SEND: &str =
    "import socket, sys\nsocket.create_connection((sys.argv[1], 4000)).sendfile(open(sys.argv[2], 'rb'))";

/// Sends 1,000 datagrams of 1 to 1,371 bytes, whose content follows from their number, 20 at a time.
const SEND_DATAGRAMS: &str = "
import hashlib, socket, sys, time
out = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for number in range(1000):
    seed = number.to_bytes(4, 'big')
    out.sendto((seed + hashlib.sha256(seed).digest() * 43)[:5 + number * 7 % 1367], (sys.argv[1], 4000))
    if number % 20 == 19: time.sleep(0.002)
";

/// Takes them, until none has come for a second, and says how many were right.
const TAKE_DATAGRAMS: &str = "
import hashlib, socket, sys
own = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
own.bind(('::', 4000))
own.settimeout(10)
print('ready', flush=True)
good, seen = 0, set()
try:
    while len(seen) < 1000:
        data = own.recv(65536)
        own.settimeout(1)
        number = int.from_bytes(data[:4], 'big')
        seed = data[:4]
        if data != (seed + hashlib.sha256(seed).digest() * 43)[:5 + number * 7 % 1367]: sys.exit(f'number {number} is torn')
        if number not in seen: good += 1
        seen.add(number)
except TimeoutError: pass
print('good', good, flush=True)
";

/// Everything at once that no rule allows: trains of datagrams, single ones, TCP, pings, fragments, other protocols.
const ATTACK: &str = "
import socket, struct, sys, time
to, end = sys.argv[1], time.time() + 4
datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
trains = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
trains.setsockopt(17, 103, 1200)
pings = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
odd = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 99)
dials = []
while time.time() < end:
    for act in (
        lambda: trains.sendto(bytes(24000), (to, 4001)),
        lambda: datagrams.sendto(bytes(100), (to, 53)),
        lambda: datagrams.sendto(bytes(5000), (to, 4001)),
        lambda: pings.sendto(struct.pack('!BBHHH', 128, 0, 0, 1, 1) + bytes(56), (to, 0)),
        lambda: pings.sendto(struct.pack('!BBHI', 136, 0, 0, 0) + bytes(16), (to, 0)),
        lambda: odd.sendto(bytes(64), (to, 0)),
    ):
        try: act()
        except OSError: pass
    if len(dials) < 50:
        dial = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        dial.setblocking(False)
        dial.connect_ex((to, 4001 + len(dials)))
        dials.append(dial)
    time.sleep(0.01)
print('done')
";

/// Looks at what comes out of the device for 12 s, and counts what is neither TCP nor UDP to port 4000.
const WATCH: &str = "
import socket, time
packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86dd))
packets.bind(('byway0', 0x86dd))
packets.settimeout(0.2)
packets.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 20)
print('ready', flush=True)
end, allowed, strangers, first = time.time() + 12, 0, 0, ''
while time.time() < end:
    try: data, place = packets.recvfrom(128)
    except TimeoutError: continue
    if place[2] == 4: continue
    if data[6] in (6, 17) and int.from_bytes(data[42:44], 'big') == 4000: allowed += 1
    else:
        strangers += 1
        first = first or data.hex()
print('end', strangers, 'strangers beside', allowed, 'allowed', first, flush=True)
";
