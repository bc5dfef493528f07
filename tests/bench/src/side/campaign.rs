//! Takes turns: every peer once, then all in reverse order, and so on, so that a slow hour of the machine strikes all alike.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use byway_netns::{Faults, Side};
use clap::ValueEnum;

use crate::side::bed::{AllowCubic, Bed, Joint};
use crate::side::load::{Others, cpu, peak_resident, wait_idle, wait_quiet};
use crate::side::peer::{Peer, Programs, Running};
use crate::side::probe::{Carried, Tcp, ping_flood, round_trips};
use crate::side::record::{Campaign, Kind, Machine, Row};
use crate::side::udp::{Found, Pair, Search};
use crate::side::{aead, measure};

/// What is measured of each peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Test {
    /// Round trips with nothing else going on.
    Rtt,
    /// One TCP connection.
    Tcp1,
    /// One TCP connection, from the other end.
    Reverse,
    /// Four TCP connections.
    Tcp4,
    /// Round trips beside a TCP connection.
    Load,
    /// Datagrams of 256 bytes.
    Udp256,
    /// Datagrams of 1,200 bytes.
    Udp1200,
    /// Pings as fast as they are answered.
    PingFlood,
}

/// What a wire does to what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum)]
pub enum Profile {
    /// Nothing.
    Clean,
    /// Loses 0.25 %, and puts 0.5 % behind later ones.
    Loss025,
    /// Loses 1 %.
    Loss1,
    /// Delays by 30 ms each way.
    Delay30,
}

impl Profile {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Loss025 => "loss025",
            Self::Loss1 => "loss1",
            Self::Delay30 => "delay30",
        }
    }

    /// The same as faults of a wire with this rate, in bits a second.
    pub fn faults(self, rate: u64) -> Faults {
        // Room for 20 ms, as a modest router has.
        let clean = Faults { rate: Some(rate), queue: (rate / 8 / 50) as usize, ..Faults::default() };
        match self {
            Self::Clean => clean,
            Self::Loss025 => Faults { loss: 0.0025, reorder: 0.005, reorder_ms: 1.0, ..clean },
            Self::Loss1 => Faults { loss: 0.01, ..clean },
            Self::Delay30 => Faults { delay_ms: 30.0, ..clean },
        }
    }
}

/// A whole campaign.
pub struct Plan {
    /// What kind.
    pub kind: Kind,
    /// Who, in the order of the first turn.
    pub peers: Vec<Box<dyn Peer>>,
    /// What.
    pub tests: Vec<Test>,
    /// What the wire does, one after the other; only for [`Kind::Wire`].
    pub profiles: Vec<Profile>,
    /// Bits a second of the wire.
    pub wire_rate: u64,
    /// Turns.
    pub repetitions: u32,
    /// Seconds of each TCP measurement that count.
    pub seconds: u32,
    /// Seconds of a trial with datagrams.
    pub udp_seconds: f64,
    /// Share of datagrams that may be lost, 0 to 1.
    pub udp_loss: f64,
    /// Pings of each measurement.
    pub pings: u32,
    /// How long to wait for a quiet machine before each peer's turn.
    pub wait_quiet: Duration,
    /// What still counts as quiet, in cores.
    pub quiet: f64,
    /// Seed of the wires' dice.
    pub seed: u64,
    /// Where programs are.
    pub programs: Programs,
    /// The command line that asks for all this.
    pub command: String,
}

/// Set when the run shall end soon: by an interrupt.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Ends with an error if the run shall end.
pub fn go_on() -> Result<()> {
    if STOP.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// How long a peer may take to start.
const START: Duration = Duration::from_secs(30);
/// How long daemons may take to come to rest before a measurement begins all the same.
const SETTLE: Duration = Duration::from_secs(3);

impl Plan {
    /// About how long it takes, in seconds.
    pub fn estimate(&self) -> f64 {
        let each: f64 = self.tests.iter().map(|test| self.duration(*test)).sum();
        let profiles = self.profiles.len().max(1) as f64;
        let start = 3.5;
        let turns: f64 = self
            .peers
            .iter()
            .map(|peer| match self.kind {
                Kind::Relay if !peer.relays() => 0.0,
                Kind::Relay => 2.0 * (start + each),
                _ => start + each * profiles,
            })
            .sum();
        turns * f64::from(self.repetitions)
    }

    fn duration(&self, test: Test) -> f64 {
        let tcp = f64::from(self.seconds) + if self.kind == Kind::Wire { 3.0 } else { 1.5 };
        match test {
            Test::Rtt => f64::from(self.pings) * 0.0105,
            Test::Tcp1 | Test::Reverse | Test::Tcp4 => tcp,
            Test::Load => f64::from(self.pings) * 0.011 + 2.5,
            Test::Udp256 | Test::Udp1200 => self.udp_seconds * 12.0,
            Test::PingFlood => 1.1,
        }
    }

    /// Measures; `tell` hears of each row when it is done, and of what goes wrong.
    pub fn run(&self, mut tell: impl FnMut(&Row)) -> Result<Campaign> {
        let begun = Instant::now();
        let began = time::OffsetDateTime::now_utc().replace_nanosecond(0)?;
        let _cubic = AllowCubic::new();
        let mut campaign = Campaign {
            kind: self.kind,
            began: began.format(&time::format_description::well_known::Rfc3339)?,
            seconds: 0.0,
            interrupted: false,
            command: self.command.clone(),
            seed: self.seed,
            repetitions: self.repetitions,
            tcp_seconds: self.seconds,
            machine: Machine::this(self.tools()),
            congestion: String::new(),
            wire_rate: (self.kind == Kind::Wire).then_some(self.wire_rate),
            aead: aead::measure(Duration::from_secs(2))?,
            rows: Vec::new(),
        };
        // Where a search for the limit of datagrams begins: near what it found the last time.
        let mut known = HashMap::new();
        for repetition in 0..self.repetitions {
            let mut order: Vec<_> = self.peers.iter().collect();
            if repetition % 2 == 1 {
                order.reverse();
            }
            for peer in order {
                let lines: &[usize] = match self.kind {
                    Kind::Relay if !peer.relays() => &[],
                    Kind::Relay => &[2, 3],
                    _ => &[2],
                };
                for hosts in lines {
                    // What there is by now is worth keeping.
                    if go_on().is_err() {
                        campaign.interrupted = true;
                        break;
                    }
                    let (rows, congestion) = self.turn(peer.as_ref(), *hosts, repetition, &mut known);
                    if let Some(congestion) = congestion {
                        campaign.congestion = congestion;
                    }
                    rows.iter().for_each(&mut tell);
                    campaign.rows.extend(rows);
                }
            }
        }
        campaign.seconds = begun.elapsed().as_secs_f64();
        Ok(campaign)
    }

    /// One turn of one peer: a row for each profile.
    fn turn(
        &self,
        peer: &dyn Peer,
        hosts: usize,
        repetition: u32,
        known: &mut HashMap<(String, usize), f64>,
    ) -> (Vec<Row>, Option<String>) {
        let mut row = Row {
            peer: peer.name().into(),
            version: peer.version(&self.programs).unwrap_or_else(|_| "unknown".into()),
            mtu: peer.mtu(),
            repetition,
            hosts,
            ..Row::default()
        };
        row.others_before =
            if self.wait_quiet.is_zero() { 0.0 } else { wait_quiet(self.wait_quiet, self.quiet) };
        let joint = match self.kind {
            Kind::Wire => {
                let seed = self.seed.wrapping_add(u64::from(repetition) * 101);
                Joint::Wire { seed, faults: Profile::Clean.faults(self.wire_rate) }
            }
            kind => Joint::Veth { offload: kind != Kind::NoOffload },
        };
        let started = Bed::new(hosts, &joint).and_then(|bed| {
            let running = Running::start(peer, &bed, &self.programs, START)?;
            Ok((bed, running))
        });
        let (bed, mut running) = match started {
            Ok(started) => started,
            Err(error) => {
                row.fail("start", &error);
                return (vec![row], None);
            }
        };
        row.samples.insert(measure::FIRST_PING.into(), running.first_ping);
        row.mtu = row.mtu.or_else(|| device_mtu(&bed, &running));
        row.in_use = peer.in_use(bed.first(), &self.programs);
        // What a start leaves behind is not part of the idle state.
        wait_idle(&running.pids(), SETTLE);

        let profiles: &[Option<Profile>] = &match self.kind {
            Kind::Wire => self.profiles.iter().copied().map(Some).collect(),
            _ => vec![None],
        };
        let mut rows = Vec::new();
        for profile in profiles {
            let mut row = row.clone();
            if let Some(profile) = profile {
                row.profile = profile.name().into();
                let faults = profile.faults(self.wire_rate);
                let set =
                    bed.wires.iter().try_for_each(|wire| wire.set(Side::Both, faults.clone()).map(drop));
                if let Err(error) = set {
                    row.fail("wire", &error);
                }
                wait_idle(&running.pids(), SETTLE);
            }
            self.measure_all(&mut row, &bed, &mut running, known);
            rows.push(row);
        }
        let larger = (0..hosts).map(|index| peak_resident(&running.pids_of(index))).max().unwrap_or(0);
        for row in &mut rows {
            row.samples.insert(measure::MEMORY.into(), larger as f64 / f64::from(1 << 20));
        }
        running.stop();
        (rows, Some(bed.congestion.clone()))
    }

    fn measure_all(
        &self,
        row: &mut Row,
        bed: &Bed,
        running: &mut Running,
        known: &mut HashMap<(String, usize), f64>,
    ) {
        for test in &self.tests {
            if go_on().is_err() {
                return;
            }
            let watch = Others::watch();
            let measured = self.measure(*test, row, bed, running, known);
            let others = row.samples.entry(measure::OTHERS.into()).or_insert(0.0);
            *others = others.max(watch.cores());
            if let Err(error) = measured.and_then(|()| running.check()) {
                let name =
                    test.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
                row.fail(&name, &error);
            }
        }
    }

    fn measure(
        &self,
        test: Test,
        row: &mut Row,
        bed: &Bed,
        running: &Running,
        known: &mut HashMap<(String, usize), f64>,
    ) -> Result<()> {
        let target = running.target();
        let mut put = |key: &str, value: f64| {
            // Finer than anything here is known, and short as text.
            row.samples.insert(key.to_owned(), (value * 1000.0).round() / 1000.0);
        };
        match test {
            Test::Rtt => {
                let seen = round_trips(bed.first(), target, self.pings)?;
                put(measure::RTT, seen.median);
                put(measure::RTT_P99, seen.p99);
            }
            Test::Tcp1 | Test::Reverse | Test::Tcp4 => {
                let streams = if test == Test::Tcp4 { 4 } else { 1 };
                let mut tcp = Tcp::new(streams, test == Test::Reverse, self.seconds);
                if self.kind == Kind::Wire {
                    // A long way at a modest rate is not filled within a second.
                    tcp.warm_up = 2;
                }
                let (carried, cost) = with_cost(bed, running, || tcp.run(bed.first(), bed.last(), target))?;
                match test {
                    Test::Tcp1 => {
                        put(measure::TCP1, carried.mbits);
                        put(measure::CPU, cost.iter().sum());
                        put("tcp1_retransmits", carried.retransmits as f64);
                        let last = cost.len() - 1;
                        put(measure::CPU_END, (cost[0] + cost[last]) / 2.0);
                        if last > 1 {
                            put(measure::CPU_RELAY, cost[1..last].iter().sum());
                        }
                    }
                    Test::Reverse => {
                        put(measure::REVERSE, carried.mbits);
                        put(measure::CPU_REVERSE, cost.iter().sum());
                    }
                    _ => {
                        put(measure::TCP4, carried.mbits);
                        put(measure::CPU4, cost.iter().sum());
                    }
                }
            }
            Test::Load => {
                let (mbits, seen) = self.loaded(bed, target)?;
                put(measure::LOADED, seen.median);
                put(measure::LOADED_P99, seen.p99);
                put(measure::LOADED_TCP, mbits);
            }
            Test::Udp256 | Test::Udp1200 => {
                let small = test == Test::Udp256;
                let size = if small { 256 } else { 1200 };
                let begin = known.get(&(row.peer.clone(), size)).map_or(30_000.0, |best| best * 0.8);
                let (found, flood) = self.datagrams(bed, target, size, begin)?;
                if found.best > 0.0 {
                    known.insert((row.peer.clone(), size), found.best);
                }
                let keys = if small {
                    (measure::UDP256, measure::UDP256_FLOOD, measure::UDP256_SENDER)
                } else {
                    (measure::UDP1200, measure::UDP1200_FLOOD, measure::UDP1200_SENDER)
                };
                put(keys.0, found.best);
                put(keys.1, flood);
                put(keys.2, f64::from(found.sender_limited));
            }
            Test::PingFlood => put(measure::PING_FLOOD, ping_flood(bed.first(), target, 1)?),
        }
        Ok(())
    }

    /// Round trips beside a TCP connection.
    fn loaded(&self, bed: &Bed, target: &str) -> Result<(f64, crate::side::probe::RoundTrips)> {
        let tcp = Tcp::new(1, false, (self.pings / 80).max(1));
        std::thread::scope(|scope| {
            let serving = tcp.serve(bed.last(), target)?;
            let mut command = tcp.command(bed.first(), target);
            let client = scope.spawn(move || command.output());
            std::thread::sleep(Duration::from_millis(1200));
            let seen = round_trips(bed.first(), target, self.pings);
            let output = client.join().ok().context("the client's thread panicked")??;
            drop(serving);
            Ok((tcp.read(&String::from_utf8_lossy(&output.stdout))?.mbits, seen?))
        })
    }

    /// The highest rate of datagrams, and what arrives of a flood.
    fn datagrams(&self, bed: &Bed, target: &str, size: usize, begin: f64) -> Result<(Found, f64)> {
        let mut pair = Pair::start(bed.first(), bed.last(), target, size)?;
        let step = self.udp_seconds;
        let search = Search { loss: self.udp_loss, begin, step: step * 0.6, confirm: step * 2.0 };
        let found = search.run(|rate, seconds| {
            go_on()?;
            pair.trial(rate, seconds)
        })?;
        let flood = pair.trial(0.0, step)?;
        Ok((found, flood.arrived))
    }

    /// Versions of the programs that measure.
    fn tools(&self) -> BTreeMap<String, String> {
        let first = |name: &str, arguments: &[&str]| {
            let text = self.programs.output(name, arguments).unwrap_or_default();
            text.lines().next().unwrap_or_default().trim().to_owned()
        };
        [("iperf3", "--version"), ("ping", "-V"), ("ip", "-V")]
            .into_iter()
            .map(|(name, option)| (name.to_owned(), first(name, &[option])))
            .collect()
    }
}

/// Processor seconds of each host's daemons for 10⁹ bytes that `run` carries.
fn with_cost(
    bed: &Bed,
    running: &Running,
    run: impl FnOnce() -> Result<Carried>,
) -> Result<(Carried, Vec<f64>)> {
    let used = || (0..bed.hosts.len()).map(|index| cpu(&running.pids_of(index))).collect::<Vec<_>>();
    let before = used();
    let carried = run()?;
    let gigabytes = (carried.bytes as f64 / 1e9).max(f64::MIN_POSITIVE);
    let cost = used().iter().zip(&before).map(|(after, before)| (after - before) / gigabytes).collect();
    Ok((carried, cost))
}

/// MTU of the device that packets to the other end leave by.
fn device_mtu(bed: &Bed, running: &Running) -> Option<u32> {
    let route = bed.first().run(&format!("ip -o route get {}", running.target())).ok()?;
    let mut words = route.split_whitespace();
    words.find(|word| *word == "dev")?;
    let link = bed.first().run(&format!("ip -o link show dev {}", words.next()?)).ok()?;
    let mut words = link.split_whitespace();
    words.find(|word| *word == "mtu")?;
    words.next()?.parse().ok()
}
