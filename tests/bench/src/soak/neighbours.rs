//! Daemons around the traffic that come and go.

use std::time::Duration;

use anyhow::Result;
use byway_netns::{DaemonConfig, Host, Identity, Peer, Process, Random, World};
use nix::sys::signal::Signal;

use crate::side::peer::Programs;
use crate::side::peer::byway::{changed, identity};
use crate::soak::judge::panic_in;
use crate::soak::{End, ended, launch};

/// All of them; each is linked to one end by a cable of its own, and dials it.
pub(crate) struct Neighbours {
    programs: Programs,
    all: Vec<Neighbour>,
    panics: Vec<String>,
}

struct Neighbour {
    host: Host,
    who: Identity,
    /// Which end it is linked to.
    end: usize,
    config: String,
    process: Option<Process>,
}

const NAMES: [&str; 4] = ["n0", "n1", "n2", "n3"];

impl Neighbours {
    /// Makes hosts and keys; no daemon runs yet.
    pub(crate) fn new(
        world: &World,
        ends: &[End],
        programs: &Programs,
        settings: &[(String, String)],
    ) -> Result<Self> {
        let mut all = Vec::new();
        for (index, name) in NAMES.into_iter().enumerate() {
            let (end, net) = (index % ends.len(), index + 1);
            let host = world.host(name)?;
            let who = identity(programs, host.path("identity.pem"))?;
            let addresses = (format!("10.78.{net}.1/24"), format!("10.78.{net}.2/24"));
            world.cable(
                (&ends[end].host, &format!("eth{net}"), &addresses.0),
                (&host, "eth0", &addresses.1),
            )?;
            let dialled = Peer::new(&ends[end].who, &[&format!("udp://10.78.{net}.1:2561")]);
            let config = DaemonConfig::open(&who).peers([dialled]).toml(&host)?;
            all.push(Neighbour { config: changed(&config, settings)?, host, who, end, process: None });
        }
        Ok(Self { programs: programs.clone(), all, panics: Vec::new() })
    }

    /// How an end knows those that are linked to it.
    pub(crate) fn peers_of(&self, end: usize) -> Vec<Peer> {
        let own = self.all.iter().filter(|neighbour| neighbour.end == end);
        own.map(|neighbour| Peer::new(&neighbour.who, &[])).collect()
    }

    /// Starts, stops or kills one; what was done.
    pub(crate) fn change(&mut self, random: &mut Random) -> Result<&'static str> {
        let index = (random.bits() % self.all.len() as u64) as usize;
        let kill = random.chance(0.5);
        let neighbour = &mut self.all[index];
        let Some(mut process) = neighbour.process.take() else {
            neighbour.process = Some(launch(&self.programs, &neighbour.host, &neighbour.config)?);
            return Ok("peer started");
        };
        // One that has ended by itself was not asked to: its log tells why.
        if process.is_running() {
            process.signal(if kill { Signal::SIGKILL } else { Signal::SIGTERM })?;
            ended(&mut process, Duration::from_secs(5));
        }
        self.panics.extend(panic_in(&process.output()));
        Ok(if kill { "peer killed" } else { "peer stopped" })
    }

    /// The panics of all of them.
    pub(crate) fn panics(&self) -> Vec<String> {
        let running = self.all.iter().filter_map(|neighbour| neighbour.process.as_ref());
        let mut panics = self.panics.clone();
        panics.extend(running.filter_map(|process| panic_in(&process.output())));
        panics
    }
}
