//! When the core's snapshot is published to the threads of the fast path, and when it looks at what they did.
//!
//! A snapshot is made when something in it has changed, but so seldom that making it takes a tenth of the time at most.
//! Threads are looked at while they carry something; the first of them that does so wakes the driver.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use byway_fastpath::{Snapshot, Tables};

use crate::core::Core;
use crate::remote::LOOK;
use crate::types::Output;

/// Least time between two looks at whether there is something new.
const PAUSE: Duration = Duration::from_millis(5);
/// How much longer than making a snapshot the pause after it is.
const SHARE: u32 = 10;

/// Publishes snapshots of one core.
pub(crate) struct Publisher {
    tables: Arc<Tables>,
    /// Of the snapshot that is published.
    generation: Option<u64>,
    /// Not before this is looked for changes.
    next: Instant,
    /// Whether something happened since the last look for changes.
    stale: bool,
    /// Not before this are threads looked at.
    look: Instant,
    /// Whether they carried something when they were looked at last.
    active: bool,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Publisher {
    pub(crate) fn new(now: Instant, core: &Core) -> Self {
        let tables = Arc::new(Tables::new(Snapshot::new(core.main())));
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let driver = Arc::clone(&waker);
        tables.on_busy(move || {
            // A waker is replaced as a whole, so a panic elsewhere leaves a good one.
            if let Some(waker) = &*driver.lock().unwrap_or_else(PoisonError::into_inner) {
                waker.wake_by_ref();
            }
        });
        Self { tables, generation: None, next: now, stale: true, look: now, active: false, waker }
    }

    /// Where the snapshots go.
    pub(crate) fn tables(&self) -> Arc<Tables> {
        Arc::clone(&self.tables)
    }

    /// Threads wake this task from now on.
    pub(crate) fn wake(&self, cx: &Context<'_>) {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }

    /// Takes over what threads did, if it is time to.
    pub(crate) fn look(&mut self, now: Instant, core: &mut Core, out: &mut Vec<Output>) {
        if now < self.look || !(self.active || self.tables.is_busy()) {
            return;
        }
        self.tables.take_busy();
        self.active = core.sync(now, out);
        self.look = now + LOOK;
    }

    /// Something happened: the snapshot may be out of date.
    pub(crate) fn stale(&mut self) {
        self.stale = true;
    }

    /// Publishes what has changed, if it is time to.
    pub(crate) fn publish(&mut self, now: Instant, core: &Core) {
        if self.stale && self.next <= now {
            self.publish_now(now, core);
        }
    }

    /// Publishes what has changed, at once.
    pub(crate) fn publish_now(&mut self, now: Instant, core: &Core) {
        self.stale = false;
        let generation = core.generation();
        if self.generation != Some(generation) {
            self.tables.publish(core.snapshot());
            self.generation = Some(generation);
        }
        let took = Instant::now().saturating_duration_since(now);
        self.next = now + PAUSE.max(took * SHARE);
    }

    /// When [`Publisher::look`] or [`Publisher::publish`] should be called next, if ever.
    pub(crate) fn due(&self) -> Option<Instant> {
        let look = (self.active || self.tables.is_busy()).then_some(self.look);
        let publish = self.stale.then_some(self.next);
        [look, publish].into_iter().flatten().min()
    }
}
