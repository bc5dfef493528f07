//! The fast path's threads within the daemon: started once, shown in the status, ended in good time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use byway_api::body::FastInfo;
use byway_fastpath::{Tables, Underlay};
use byway_portal::Portal;
use byway_portal::fast::{self, Config, Running};
use byway_transport_ip::{Offload, SharedUdp, UdpPort};

use crate::privileges;

/// Threads that carry packets past the core, if they run.
pub(crate) struct Fast {
    running: Mutex<Option<Running>>,
    sockets: Vec<Arc<SharedUdp>>,
    /// Whether the kernel may help, by the configuration.
    offload: bool,
    /// Why there are none.
    trouble: Option<String>,
}

impl Fast {
    /// Starts them, if there is a socket to read. Without them everything goes through the core, only slower.
    pub(crate) fn start(
        (threads, offload): (u16, bool),
        tables: &Arc<Tables>,
        ports: Vec<UdpPort>,
        portal: Option<&Portal>,
    ) -> Self {
        let sockets = ports.iter().map(|port| Arc::clone(port.socket())).collect();
        let mut this = Self { running: Mutex::new(None), sockets, offload, trouble: None };
        if ports.is_empty() {
            return this;
        }
        let give_up_rights = |_: &str| {
            if let Err(error) = privileges::drop_low_ports() {
                tracing::error!(%error, "a thread keeps a privilege");
            }
        };
        let config = Config { threads: threads.into(), on_thread_start: Some(Arc::new(give_up_rights)) };
        let ports: Vec<Arc<dyn Underlay>> =
            ports.into_iter().map(|port| Arc::new(port) as Arc<dyn Underlay>).collect();
        match fast::start(&config, tables, &ports, portal) {
            Ok(running) => this.running = Mutex::new(Some(running)),
            Err(error) => this.trouble = Some(error.to_string()),
        }
        this
    }

    /// Ends them; what they carried goes through the core from now on.
    pub(crate) async fn stop(&self) {
        let running = self.running().take();
        // Joining takes a moment, in which a task must not block the others.
        if tokio::task::spawn_blocking(move || drop(running)).await.is_err() {
            tracing::error!("a thread of the fast path did not end well");
        }
    }

    /// What runs, for people to look at.
    pub(crate) fn info(&self) -> Option<FastInfo> {
        let running = self.running();
        let running = running.as_ref().filter(|running| running.is_running())?;
        let device = running.offloads().unwrap_or_default();
        let sockets = self.offload();
        Some(FastInfo {
            threads: running.threads(),
            device: names(&[("checksum", device.checksum), ("tso", device.tso), ("uso", device.uso)]),
            sockets: names(&[("gso", sockets.segment), ("gro", sockets.gro), ("mmsg", sockets.mmsg)]),
        })
    }

    /// What the threads counted, while they run.
    pub(crate) fn counters(&self) -> Option<byway_portal::fast::Counters> {
        self.running().as_ref().map(Running::counters)
    }

    /// What makes it slower than it could be, in words.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let Some(why) = &self.trouble {
            warnings
                .push(format!("packets are moved slowly, since the threads for it cannot be started: {why}"));
        }
        let running = self.running();
        let Some(running) = running.as_ref() else { return warnings };
        if let Some(why) = running.failure() {
            warnings.push(format!(
                "packets are moved slowly until a restart, since a thread for it has ended: {why}"
            ));
            return warnings;
        }
        if !self.offload {
            return warnings;
        }
        let sockets = self.offload();
        let mut missing = Vec::new();
        if !sockets.segment {
            missing.push("UDP_SEGMENT");
        }
        if !sockets.gro {
            missing.push("UDP_GRO");
        }
        if running.offloads().is_some_and(|device| !(device.checksum && device.tso)) {
            missing.push("TUN offloads");
        }
        if !missing.is_empty() {
            let missing = missing.join(", ");
            warnings
                .push(format!("packets are moved slower than they could be: this kernel has no {missing}"));
        }
        warnings
    }

    /// What all sockets use.
    fn offload(&self) -> Offload {
        let all = Offload { segment: true, gro: true, mmsg: true };
        self.sockets.iter().map(|socket| socket.offload()).fold(all, |all, one| Offload {
            segment: all.segment && one.segment,
            gro: all.gro && one.gro,
            mmsg: all.mmsg && one.mmsg,
        })
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        // It is taken out as a whole.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn names(named: &[(&str, bool)]) -> Vec<String> {
    named.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| (*name).to_owned()).collect()
}
