//! What all handlers share.

use std::sync::{Arc, Once};

use byway_api::{ManCon, Service};
use tokio::sync::{Semaphore, watch};

use crate::counters::Counters;
use crate::hosted::Hosted;

/// How the API is served.
#[derive(Clone, Debug)]
pub struct Options {
    /// Level of INET256 clients, whose protocol carries none; none: the daemon's default.
    pub inet256_mancon: Option<ManCon>,
    /// Most connections at the same time, streams included; more are told so and closed.
    pub connections: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { inet256_mancon: None, connections: 1_024 }
    }
}

/// Tells streams that the API ends, by word or because all of it was dropped.
#[derive(Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    pub(crate) async fn wait(&mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}

/// The state of all handlers.
pub(crate) struct App {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) options: Options,
    pub(crate) hosted: Arc<Hosted>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) places: Arc<Semaphore>,
    /// True from the moment when the API is to end.
    stop: watch::Sender<bool>,
    sweeping: Once,
}

impl App {
    pub(crate) fn new(service: Arc<dyn Service>, options: Options) -> Self {
        Self {
            service,
            places: Arc::new(Semaphore::new(options.connections)),
            options,
            hosted: Arc::default(),
            counters: Arc::default(),
            stop: watch::Sender::new(false),
            sweeping: Once::new(),
        }
    }

    pub(crate) fn end(&self) {
        self.stop.send_replace(true);
    }

    /// What a stream listens to; it must not hold the whole state, which would keep it alive.
    pub(crate) fn stop(&self) -> Stop {
        Stop(self.stop.subscribe())
    }

    /// Starts, with the first node, the task that ends unused ones.
    pub(crate) fn sweep(&self) {
        self.sweeping.call_once(|| {
            tokio::spawn(Hosted::sweep(Arc::downgrade(&self.hosted)));
        });
    }
}
