//! The core's side of the fast path: what threads may do without asking, what they did, and what came past the network.
//!
//! ```text
//!  Core ── snapshot: sessions, ways, links, next hops, planes ──► Tables ──► threads
//!    ▲ ▲                                                                      │
//!    │ └── frames that they have no entry for, or opened for the core ────────┤
//!    └──── what they sent and heard, looked at now and then ◄─────────────────┘
//! ```
//!
//! Nothing is only in the snapshot: without it, everything is done here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use byway_api::ManCon;
use byway_fastpath::{Link, Owner, Planes, Session, Snapshot, Way};
use byway_identity::Addr;
use byway_link::{Event, LINK_TAG, Place};
use byway_network::{Constraint, Family, Hop, Plane, To};
use byway_session::frame::OVERHEAD;

use crate::core::Core;
use crate::local::{Effects, Local};
use crate::types::Output;

impl Core {
    /// What threads may do now, in the core's place.
    ///
    /// Whoever publishes it asks [`Core::generation`] first: making it takes longer than that.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(self.main());
        snapshot.planes = self.planes();
        for known in self.links().fast_links() {
            let link = Arc::new(Link {
                hop: known.hop,
                port: known.transport.0,
                to: known.to,
                frame_max: known.frame_max,
                outbound: known.outbound,
                inbound: known.inbound,
            });
            for (index, inbound) in known.sessions {
                snapshot.sessions.insert(index, Session { inbound, owner: Owner::Link(link.clone()) });
            }
            if known.is_best {
                snapshot.add_link(link);
            } else {
                snapshot.places.insert((link.port, link.to), link);
            }
        }
        for local in self.locals() {
            for half in local.endpoint().halves() {
                let Some(plane) = Plane::from_byte(half.plane) else { continue };
                let owner = Owner::Node { local: local.addr, remote: half.remote, plane };
                snapshot.sessions.insert(half.index, Session { inbound: half.inbound.clone(), owner });
            }
        }
        let Some(main) = self.local(&self.main()) else { return snapshot };
        snapshot.picture = main.router.picture();
        for half in main.endpoint().halves().filter(|half| half.in_use) {
            let plane = Plane::from_byte(half.plane);
            if let Some(plane) = plane.filter(|_| !matches!(half.place.to, Some(To::Back(_))))
                && let Some((link, header, room)) = first_link(main, half.remote, plane, &snapshot.links)
            {
                let way = Way { outbound: half.outbound.clone(), link, header, room };
                snapshot.ways.insert((half.remote, plane), way);
            }
        }
        snapshot
    }

    /// Differs from what it was before whenever [`Core::snapshot`] would.
    pub fn generation(&self) -> u64 {
        let routes = self.local(&self.main()).map_or(0, |main| main.router.generation());
        let own = self.links().generation().wrapping_add(routes).wrapping_add(self.changes());
        self.locals().fold(own, |sum, local| sum.wrapping_add(local.endpoint().generation()))
    }

    /// Takes over what threads have done since the last call: signs of life, and what is counted. Whether there was anything.
    pub fn sync(&mut self, now: Instant, out: &mut Vec<Output>) -> bool {
        let since = self.looked(now);
        let mut any = self.on_links(now, out, |links, _| links.sync(now));
        let addrs: Vec<Addr> = self.locals().map(|local| local.addr).collect();
        for addr in addrs {
            if self.local_mut(&addr).is_some_and(|local| local.sync(now, since)) {
                any = true;
                self.schedule(addr);
            }
        }
        any
    }

    /// Takes what came past the network; gives back what is a link's.
    pub(crate) fn handle_past_network(
        &mut self,
        now: Instant,
        event: Event,
        out: &mut Vec<Output>,
    ) -> Option<Event> {
        let (place, index) = match &event {
            Event::Frame { place, frame } => {
                (*place, frame.first_chunk().map(|head| u32::from_le_bytes(*head)))
            }
            Event::Unsealed { place, index, .. } => (*place, Some(*index)),
            _ => return Some(event),
        };
        let owner = index.and_then(|index| self.indices().owner(index)).filter(|tag| tag & LINK_TAG == 0);
        let Some(tag) = owner else { return Some(event) };
        let (main, plane) = (self.main(), self.bare_plane(place));
        // A frame that told where a second node is would be answered, so only the daemon's own takes them from just anywhere.
        let (Some(plane), Some(local)) = (plane, self.tagged(tag).filter(|local| local.addr == main)) else {
            return None;
        };
        let mut effects = Effects::default();
        let mut heard = None;
        match event {
            Event::Frame { frame, .. } => {
                let length = frame.len();
                heard = local.bare(now, plane, frame, &mut effects).map(|remote| (remote, length));
            }
            Event::Unsealed { index, kind, flags, payload, .. } => {
                local.opened(now, plane, index, kind, flags, payload, &mut effects);
            }
            other => return Some(other),
        }
        self.schedule(main);
        if let Some((remote, length)) = heard {
            self.on_links(now, out, |links, _| links.bare_heard(now, place, &remote, length));
        }
        self.settle(now, effects, out);
        None
    }

    /// The plane of end-to-end frames that come from `place` without the network's header, which would name it: the only one
    /// with links of such a family. Where there are several, none is taken.
    fn bare_plane(&self, place: Place) -> Option<Plane> {
        let family = self.links().family(place.transport)?;
        let mut planes = Plane::ALL.into_iter().filter(|plane| plane.has(family));
        planes.next().filter(|_| planes.next().is_none())
    }

    /// The plane of each level, as requests of the daemon's own node are judged.
    fn planes(&self) -> Planes {
        let levels = self.levels();
        let plane = |asked: Option<ManCon>| levels.plane(levels.effective(asked)).ok();
        let mut planes = Planes { default: plane(None), ..Planes::default() };
        for level in ManCon::ALL {
            if let Some(place) = planes.levels.get_mut(level as usize) {
                *place = plane(Some(level));
            }
        }
        planes
    }
}

type FirstLink = (Arc<Link>, Option<bytes::Bytes>, u16);

/// The first link of the way from `main` to `remote`, what stands in front of frames on it, and the longest packet in one.
fn first_link(
    main: &Local,
    remote: Addr,
    plane: Plane,
    links: &HashMap<Hop, Arc<Link>>,
) -> Option<FirstLink> {
    let (hop, header) = main.router.header(To::Node(remote), &Constraint::in_plane(plane))?;
    let link = links.get(&hop).filter(|_| plane.has(hop.family))?;
    let frame = usize::from(link.frame_max);
    let bare = hop.peer == remote;
    let extra = if bare { OVERHEAD } else { 2 * OVERHEAD + header.len() };
    let room = u16::try_from(frame.checked_sub(extra)?).ok()?;
    debug_assert!(matches!(hop.family, Family::Ip | Family::Ethernet), "what links threads may use");
    Some((link.clone(), (!bare).then_some(header), room))
}

#[cfg(test)]
mod tests;
