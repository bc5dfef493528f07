//! What the engines obey: a snapshot of who is reached how, published by the core and read by the threads.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use bytes::Bytes;
use byway_identity::Addr;
use byway_network::{Hop, Picture, Plane};
use byway_session::{Inbound, Outbound};

/// The snapshot of now: one writer replaces it, any number of threads read it without a lock.
///
/// Whoever publishes also learns here that threads have begun to carry something, so that it need not look all the time.
pub struct Tables {
    snapshot: ArcSwap<Snapshot>,
    /// Somebody has asked for the snapshot since [`Tables::take_busy`].
    busy: AtomicBool,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// All that the engines know. It never changes; a newer one takes its place.
///
/// Nothing here is more than a shortcut: what has no entry goes to the core. So an entry may be missing at any time, but
/// one that is there must hold: a way is of the plane that it is listed under, a link's place is validated.
#[derive(Clone)]
pub struct Snapshot {
    /// The daemon's own node: the only one that frames may come for without a relay's header, and the portal's.
    pub main: Addr,
    /// Which plane a level of privacy stands for, now.
    pub planes: Planes,
    /// Sessions in which frames may be opened, by their receiver index: of links and end to end.
    pub sessions: HashMap<u32, Session>,
    /// How packets of `main` reach other nodes.
    pub ways: HashMap<(Addr, Plane), Way>,
    /// The link in use to each hop; filled by [`Snapshot::add_link`].
    pub links: HashMap<Hop, Arc<Link>>,
    /// The same links by where they lead: port and address.
    pub places: HashMap<(u16, SocketAddr), Arc<Link>>,
    /// What the router does with frames of others; none: the core does it.
    pub picture: Option<Arc<dyn Picture>>,
}

/// Planes by level of privacy, as simple data: what a level means is decided above.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planes {
    /// Plane of packets that ask for no level; none: the core refuses or decides.
    pub default: Option<Plane>,
    /// Plane of each level, by its number, never weaker than the floor allows; none: the core refuses or decides.
    pub levels: [Option<Plane>; 8],
}

/// An open link that is in use, over a datagram socket.
pub struct Link {
    /// Who is at the other end, and by which family of links.
    pub hop: Hop,
    /// Number of the transport that it goes by.
    pub port: u16,
    /// Where its frames go and come from.
    pub to: SocketAddr,
    /// Longest datagram that it carries, in bytes.
    pub frame_max: u16,
    /// Seals its frames.
    pub outbound: Arc<Outbound>,
    /// Opens its frames; a frame without a link frame around it, from its place, counts here as a sign of life.
    pub inbound: Arc<Inbound>,
}

/// A session in which frames may be opened.
#[derive(Clone)]
pub struct Session {
    /// Opens its frames.
    pub inbound: Arc<Inbound>,
    /// Whose it is.
    pub owner: Owner,
}

/// Whose a session is.
#[derive(Clone)]
pub enum Owner {
    /// A link's.
    Link(Arc<Link>),
    /// Two nodes', end to end.
    Node {
        /// The node of this daemon.
        local: Addr,
        /// The other one.
        remote: Addr,
        /// The plane that its frames must have come in.
        plane: Plane,
    },
}

/// How a packet reaches a node.
#[derive(Clone)]
pub struct Way {
    /// Seals its frames, end to end.
    pub outbound: Arc<Outbound>,
    /// The first link.
    pub link: Arc<Link>,
    /// The network's header in front of the frame, when the link carries it in a frame of its own; none: the next hop is the
    /// destination, and the frame goes onto the link's place as it is.
    pub header: Option<Bytes>,
    /// Longest packet that one frame holds on this way, in bytes.
    pub room: u16,
}

impl Tables {
    /// Begins with `snapshot`.
    pub fn new(snapshot: Snapshot) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            busy: AtomicBool::new(false),
            wake: OnceLock::new(),
        }
    }

    /// The snapshot of now. Ask once for each batch, and let go of it before waiting for the next one.
    pub fn load(&self) -> Arc<Snapshot> {
        // Nearly always it is set already, and then nothing is written that other threads read.
        if !self.busy.load(Ordering::Relaxed)
            && !self.busy.swap(true, Ordering::Relaxed)
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
        self.snapshot.load_full()
    }

    /// Replaces it.
    pub fn publish(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Calls `wake`, on the thread that asks, when the snapshot is asked for the first time, and the first time after each
    /// [`Tables::take_busy`]. Only the first such call of this counts.
    pub fn on_busy(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _first_counts = self.wake.set(Box::new(wake));
    }

    /// Whether the snapshot has been asked for since [`Tables::take_busy`].
    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// The same, and begins anew.
    pub fn take_busy(&self) -> bool {
        self.busy.swap(false, Ordering::Relaxed)
    }
}

impl Snapshot {
    /// Knows nothing, so that everything goes to the core.
    pub fn new(main: Addr) -> Self {
        Self {
            main,
            planes: Planes::default(),
            sessions: HashMap::new(),
            ways: HashMap::new(),
            links: HashMap::new(),
            places: HashMap::new(),
            picture: None,
        }
    }

    /// Makes `link` the one that is used to its hop.
    pub fn add_link(&mut self, link: Arc<Link>) {
        self.places.insert((link.port, link.to), link.clone());
        self.links.insert(link.hop, link);
    }
}

impl Planes {
    /// The plane of packets that ask for the level with this number, or for none.
    pub fn of(&self, level: Option<u8>) -> Option<Plane> {
        level.map_or(self.default, |level| self.levels.get(usize::from(level)).copied().flatten())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn whoever_publishes_is_woken_once_until_it_has_looked() {
        let tables = Tables::new(Snapshot::new(Addr::NOBODY));
        let woken = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&woken);
        tables.on_busy(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        assert!(!tables.is_busy());
        for round in 1..4 {
            for _ in 0..10 {
                tables.load();
            }
            assert_eq!(woken.load(Ordering::Relaxed), round);
            assert!(tables.is_busy() && tables.take_busy() && !tables.is_busy());
        }
    }
}
