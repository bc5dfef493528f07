//! Three daemons in a row, and measuring with `ping`.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, DaemonConfig, Identity, Peer};
use crate::host::{Host, World};
use crate::process::{Process, wait_for};
use crate::wire::Faults;
use crate::wire_run::Wire;
use anyhow::{Context, Result, ensure};

/// Three daemons, of which only neighbours are joined: A – B – C.
#[derive(Debug)]
pub struct Chain {
    /// Those that run.
    pub daemons: Vec<Option<Daemon>>,
    /// What they are started with.
    pub configs: Vec<DaemonConfig>,
    /// Between A and B, and between B and C, if faults are wanted.
    pub wires: Vec<Wire>,
    /// Where they run.
    pub hosts: Vec<Host>,
    /// What holds all of it.
    pub world: World,
}

/// The first of a [`Chain`].
pub const A: usize = 0;
/// The one between.
pub const B: usize = 1;
/// The last.
pub const C: usize = 2;

impl Chain {
    /// Over veth, or over wires with these faults.
    pub fn start(faults: Option<&Faults>) -> Result<Self> {
        Self::prepare(faults)?.run()
    }

    /// Starts all three, and waits until a ping goes from end to end.
    pub fn run(mut self) -> Result<Self> {
        for who in [A, B, C] {
            self.launch(who)?;
        }
        self.reaches(A, C, Duration::from_secs(10))?;
        Ok(self)
    }

    /// The same, with no daemon running yet.
    pub fn prepare(faults: Option<&Faults>) -> Result<Self> {
        Self::prepare_in(World::new()?, faults)
    }

    /// The same, in a world that is empty so far.
    pub fn prepare_in(world: World, faults: Option<&Faults>) -> Result<Self> {
        let hosts = ["a", "b", "c"].into_iter().map(|name| world.host(name)).collect::<Result<Vec<_>>>()?;
        let mut wires = Vec::new();
        for (left, right, net) in [(A, B, "10.0.1"), (B, C, "10.0.2")] {
            let (left_address, right_address) = (format!("{net}.1/24"), format!("{net}.2/24"));
            let left = (&hosts[left], if left == A { "eth0" } else { "eth1" }, left_address.as_str());
            let right = (&hosts[right], "eth0", right_address.as_str());
            match faults {
                Some(faults) => wires.push(Wire::join(&world, left, right, wires.len() as u64 + 1, faults)?),
                None => world.cable(left, right)?,
            }
        }
        let who = hosts.iter().map(Identity::new).collect::<Result<Vec<_>>>()?;
        let configs = vec![
            DaemonConfig::open(&who[A]).peers([Peer::new(&who[B], &["udp://10.0.1.2:2561"])]),
            DaemonConfig::open(&who[B])
                .peers([Peer::new(&who[A], &[]), Peer::new(&who[C], &["udp://10.0.2.2:2561"])]),
            DaemonConfig::open(&who[C]).peers([Peer::new(&who[B], &[])]),
        ];
        Ok(Self { daemons: vec![None, None, None], configs, wires, hosts, world })
    }

    /// Starts one daemon.
    pub fn launch(&mut self, who: usize) -> Result<()> {
        self.daemons[who] = Some(Daemon::start(&self.hosts[who], &self.configs[who])?);
        Ok(())
    }

    /// The IPv6 address of one.
    pub fn ipv6(&self, who: usize) -> &str {
        &self.configs[who].identity.ipv6
    }

    /// Waits until a ping from one to another comes back, and tells how long that took.
    pub fn reaches(&mut self, from: usize, to: usize, limit: Duration) -> Result<Duration> {
        let ip = self.ipv6(to).to_owned();
        reaches(&self.hosts[from], &ip, limit).with_context(|| self.logs())
    }

    /// What the daemons have logged.
    pub fn logs(&mut self) -> String {
        let logs = self.daemons.iter_mut().zip(["A", "B", "C"]).filter_map(|(daemon, name)| {
            daemon.as_mut().map(|daemon| format!("--- log of {name}\n{}\n", daemon.process().output()))
        });
        logs.collect()
    }
}

/// Waits until a ping comes back, and tells how long that took.
pub fn reaches(host: &Host, ip: &str, limit: Duration) -> Result<Duration> {
    let begin = Instant::now();
    wait_for(limit, "a ping to come back", || {
        host.output(&format!("ping -6 -n -c 1 -W 0.2 {ip}")).is_ok_and(|output| output.status.success())
    })?;
    Ok(begin.elapsed())
}

/// Waits until something listens on a TCP port.
pub fn listens(host: &Host, port: u16) -> Result<()> {
    wait_for(Duration::from_secs(10), "a listener", || {
        host.run("ss -Hltn").is_ok_and(|text| text.contains(&format!(":{port} ")))
    })
}

/// Keeps what comes over one TCP connection to this port in `file`; ends with the connection.
pub fn tcp_sink(host: &Host, port: u16, file: &Path) -> Result<Process> {
    let program = "import socket, sys\n\
        server = socket.create_server(('', int(sys.argv[1])), family=socket.AF_INET6, dualstack_ipv6=True)\n\
        connection, file = server.accept()[0], open(sys.argv[2], 'wb')\n\
        while part := connection.recv(65536): file.write(part)\n";
    let mut command = host.command("python3", ["-c", program, &port.to_string()]);
    command.arg(file);
    let sink = host.spawn(command)?;
    listens(host, port)?;
    Ok(sink)
}

/// Sends `file` over one TCP connection.
pub fn tcp_send(host: &Host, ip: &str, port: u16, file: &Path) -> Result<()> {
    let program = "import socket, sys\n\
        socket.create_connection((sys.argv[1], int(sys.argv[2]))).sendfile(open(sys.argv[3], 'rb'))\n";
    let mut command = host.command("python3", ["-c", program, ip, &port.to_string()]);
    let output = command.arg(file).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A ping every tenth of a second for a while, with the time of each answer.
#[derive(Debug)]
pub struct Pings(Process);

impl Pings {
    /// Starts to ping.
    pub fn start(host: &Host, ip: &str, seconds: u32) -> Result<Self> {
        let process = host.start(&format!("ping -6 -n -D -i 0.1 -W 1 -w {seconds} {ip}"))?;
        Ok(Self(process))
    }

    /// Waits for the end: when answers came, in seconds since 1970.
    pub fn finish(mut self, seconds: u64) -> Result<Vec<f64>> {
        self.0.wait(Duration::from_secs(seconds + 5))?;
        let text = self.0.output();
        let answers: Vec<f64> = text
            .lines()
            .filter(|line| line.contains("bytes from"))
            .filter_map(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok())
            .collect();
        ensure!(!answers.is_empty(), "no ping came back:\n{text}");
        Ok(answers)
    }
}

/// Now, in seconds since 1970.
pub fn epoch() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0.0, |since| since.as_secs_f64())
}
