//! The links of a world: who is told what, and when.

use byway_network::{Class, Family, Hop, Network};

use crate::world::World;
use crate::world::engine::Event;
use crate::{Dice, Wire};

/// A link: what it does, whether it carries, and what each end has been told.
pub(super) struct Link {
    pub(super) ends: [u32; 2],
    pub(super) wire: Wire,
    pub(super) cut: bool,
    /// Whether each end has been told that it is up.
    pub(super) told: [bool; 2],
    /// Grows when the link is cut, so that what is under way is lost.
    pub(super) age: u32,
    /// It is in a burst of losses.
    bad: bool,
}

impl Link {
    /// Which end a node is.
    pub(super) fn side(&self, node: usize) -> usize {
        usize::from(self.ends[0] as usize != node)
    }

    pub(super) fn other(&self, node: usize) -> usize {
        self.ends[1 - self.side(node)] as usize
    }

    pub(super) fn is_told(&self, node: usize) -> bool {
        self.told[self.side(node)]
    }

    /// The node has died, and knows nothing.
    pub(super) fn forget(&mut self, node: usize) {
        let side = self.side(node);
        self.told[side] = false;
    }

    /// Whether the next frame is lost by chance.
    pub(super) fn loses(&mut self, dice: &mut Dice) -> bool {
        let Wire { loss, burst, .. } = self.wire;
        if burst <= 1.0 {
            return dice.chance(loss);
        }
        // Bad for `burst` frames, and good for as long as makes the share of losses right.
        let turns = if self.bad { 1.0 / burst } else { loss / (burst * (1.0 - loss).max(1e-6)) };
        self.bad ^= dice.chance(turns);
        self.bad
    }
}

impl<N: Network + ?Sized> World<N> {
    /// Links two nodes; both are told at once.
    pub fn connect(&mut self, a: usize, b: usize, wire: Wire) {
        let family = wire.class.family();
        let ends = [a.min(b) as u32, a.max(b) as u32];
        let number = self.link_to(a, self.hop(b, family));
        let age = number.map_or(0, |number| self.links[number as usize].age + 1);
        let link = Link { ends, wire, cut: false, told: [false; 2], age, bad: false };
        let number = match number {
            Some(number) => {
                self.links[number as usize] = link;
                number
            }
            None => {
                self.links.push(link);
                let number = self.links.len() as u32 - 1;
                for (end, other) in [(a, b), (b, a)] {
                    let hop = self.hop(other, family);
                    let links = &mut self.places[end].links;
                    let at = links.partition_point(|(other, _)| *other < hop);
                    links.insert(at, (hop, number));
                }
                number
            }
        };
        for end in [a, b] {
            self.tell_up(number, end);
        }
    }

    /// Cuts all links between two nodes. Frames are lost from now on; the ends are told when they would notice.
    pub fn cut(&mut self, a: usize, b: usize) {
        for link in self.between(a, b) {
            self.cut_link(link);
        }
    }

    /// Mends all links between two nodes. The ends are told after a handshake's time, if they had noticed the cut.
    pub fn restore(&mut self, a: usize, b: usize) {
        for link in self.between(a, b) {
            self.restore_link(link);
        }
    }

    /// Makes the link of `wire`'s family between two nodes one like `wire`, if there is one; the ends measure its cost anew.
    pub fn alter(&mut self, a: usize, b: usize, wire: Wire) {
        let now = self.now;
        let family = wire.class.family();
        let Some(number) = self.link_to(a, self.hop(b, family)) else { return };
        self.links[number as usize].wire = wire;
        for (end, other) in [(a, b), (b, a)] {
            if self.links[number as usize].is_told(end) {
                let hop = self.hop(other, family);
                self.act(end, |router, out| router.peer_cost(now, hop, wire.class, wire.cost(), out));
            }
        }
    }

    /// Links that carry now, between nodes that run.
    pub fn open_links(&self) -> impl Iterator<Item = (usize, usize, Class)> {
        self.open_wires().map(|(a, b, wire)| (a, b, wire.class))
    }

    /// The same, with all that they do.
    pub fn open_wires(&self) -> impl Iterator<Item = (usize, usize, Wire)> {
        self.links.iter().filter_map(|link| {
            let [a, b] = link.ends.map(|end| end as usize);
            (!link.cut && self.is_alive(a) && self.is_alive(b)).then_some((a, b, link.wire))
        })
    }

    /// The nodes at the other ends of a node's links that carry now.
    pub fn neighbours(&self, node: usize) -> impl Iterator<Item = (usize, Family)> {
        self.places[node].links.iter().filter_map(move |(hop, number)| {
            let link = &self.links[*number as usize];
            let other = link.other(node);
            (!link.cut && self.is_alive(node) && self.is_alive(other)).then_some((other, hop.family))
        })
    }

    /// A node's link to a hop.
    pub(super) fn link_to(&self, node: usize, hop: Hop) -> Option<u32> {
        let links = &self.places[node].links;
        let at = links.binary_search_by(|(other, _)| other.cmp(&hop)).ok()?;
        Some(links[at].1)
    }

    fn between(&self, a: usize, b: usize) -> Vec<u32> {
        let to = self.addr(b);
        self.places[a].links.iter().filter(|(hop, _)| hop.peer == to).map(|(_, link)| *link).collect()
    }

    pub(super) fn links_of(&self, node: usize) -> Vec<u32> {
        self.places[node].links.iter().map(|(_, link)| *link).collect()
    }

    pub(super) fn cut_link(&mut self, number: u32) {
        let at = self.now + self.detection;
        let link = &mut self.links[number as usize];
        if link.cut {
            return;
        }
        link.cut = true;
        link.age += 1;
        let (age, ends) = (link.age, link.ends);
        for end in ends {
            self.schedule(at, Event::TellDown { link: number, end, age });
        }
    }

    pub(super) fn restore_link(&mut self, number: u32) {
        let link = &mut self.links[number as usize];
        if !link.cut {
            return;
        }
        link.cut = false;
        link.age += 1;
        let (age, told, ends) = (link.age, link.told, link.ends);
        let at = self.now + link.wire.latency * 4;
        let told_again = self.restarts_are_told && told[0] != told[1];
        for (end, told) in ends.into_iter().zip(told) {
            if !told {
                self.schedule(at, Event::TellUp { link: number, end, age });
            } else if told_again {
                // The other end has started anew, and this one's link layer noticed by its handshake.
                self.schedule(at, Event::TellDown { link: number, end, age });
                self.schedule(at, Event::TellUp { link: number, end, age });
            }
        }
    }

    pub(super) fn tell_up(&mut self, number: u32, end: usize) {
        let now = self.now;
        let link = &mut self.links[number as usize];
        let (side, other, wire) = (link.side(end), link.other(end), link.wire);
        if self.places[end].router.is_some() && !std::mem::replace(&mut link.told[side], true) {
            let hop = self.hop(other, wire.class.family());
            self.act(end, |router, out| router.peer_up(now, hop, wire.class, wire.cost(), out));
        }
    }

    pub(super) fn tell_down(&mut self, number: u32, end: usize) {
        let now = self.now;
        let link = &mut self.links[number as usize];
        let (side, other, family) = (link.side(end), link.other(end), link.wire.class.family());
        if std::mem::take(&mut link.told[side]) {
            let hop = self.hop(other, family);
            self.act(end, |router, out| router.peer_down(now, hop, out));
        }
    }
}
