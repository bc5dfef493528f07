//! Nodes that come and go.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use byway_network::Network;

use crate::World;

/// Sessions and pauses of all nodes of a world, both of exponential length: whoever runs ends after `session` on average, and
/// whoever is away is back after `pause`.
#[derive(Debug)]
pub struct Churn {
    session: Duration,
    pause: Duration,
    /// When each node changes next, in the world's time.
    next: BinaryHeap<Reverse<(Duration, usize)>>,
}

impl Churn {
    /// From now on, for all nodes as they are: those that are dead will come back.
    pub fn new<N: Network + ?Sized>(world: &mut World<N>, session: Duration, pause: Duration) -> Self {
        let mut churn = Self { session, pause, next: BinaryHeap::new() };
        for node in 0..world.len() {
            churn.plan(world, node);
        }
        churn
    }

    /// Lets time pass, with nodes that end without a word and start again. Returns how many did either.
    pub fn run_for<N: Network + ?Sized>(&mut self, world: &mut World<N>, time: Duration) -> usize {
        let until = world.elapsed() + time;
        let mut changes = 0;
        while let Some(Reverse((at, node))) =
            self.next.peek().copied().filter(|Reverse((at, _))| *at <= until)
        {
            self.next.pop();
            world.run_for(at.saturating_sub(world.elapsed()));
            if world.is_alive(node) {
                world.kill(node);
            } else {
                world.restart(node);
            }
            changes += 1;
            self.plan(world, node);
        }
        world.run_for(until.saturating_sub(world.elapsed()));
        changes
    }

    fn plan<N: Network + ?Sized>(&mut self, world: &mut World<N>, node: usize) {
        let mean = if world.is_alive(node) { self.session } else { self.pause };
        let at = world.elapsed() + world.dice().exponential(mean);
        self.next.push(Reverse((at, node)));
    }
}
