//! Worlds in which everything happens at once; whatever it was, all ends well when it is over.

use std::time::Duration;

use byway_identity::{Entropy, SeededEntropy};

use super::world::{World, at};
use crate::Accept;

const COUNT: usize = 4;

fn pairs() -> impl Iterator<Item = (usize, usize)> {
    (0..COUNT).flat_map(|a| (0..COUNT).filter(move |b| *b != a).map(move |b| (a, b)))
}

/// Who dials whom: each pair at one end at least.
fn introduce(world: &mut World, dice: &mut SeededEntropy, only: Option<usize>) {
    let pick = dice.next_u64();
    for (a, b) in pairs() {
        if only.is_none_or(|only| only == a) {
            let dials = a < b || pick >> (a * COUNT + b) & 1 == 0;
            world.peer(a, b, dials);
        }
    }
}

#[test]
fn cuts_losses_restarts_and_moves_leave_every_pair_linked() {
    for seed in 300..330 {
        let mut world = World::new(seed, COUNT);
        let mut dice = SeededEntropy::new(seed);
        introduce(&mut world, &mut dice, None);
        for _ in 0..60 {
            let (a, b) = (dice.below(COUNT as u64) as usize, dice.below(COUNT as u64) as usize);
            match dice.below(9) {
                0 if a != b => world.cut(a, b),
                1 if a != b => drop(world.cuts.insert((a, b))),
                2 => world.cuts.clear(),
                3 => world.loss = dice.below(30),
                4 => world.delay = Duration::from_millis(dice.below(150)),
                5 => {
                    world.restart(a, "world", Accept::Peers);
                    introduce(&mut world, &mut dice, Some(a));
                }
                6 => world.nodes[a].at.set_port(1_024 + dice.below(60_000) as u16),
                7 => world.narrow = 1_200 + dice.below(300) as usize,
                _ => {
                    let hop = world.hop(b);
                    world.act(a, |core, now, out| core.send(now, hop, &[7; 2_000], out));
                }
            }
            world.run_for(Duration::from_millis(dice.below(4_000)));
        }
        world.cuts.clear();
        world.loss = 0;
        world.narrow = 1_472;
        for index in 0..COUNT {
            world.nodes[index].at = at(index);
        }
        world.wait(Duration::from_secs(30), "all linked", |world| pairs().all(|(a, b)| world.is_up(a, b)));
        world.run_for(Duration::from_secs(40));
        assert!(pairs().all(|(a, b)| world.is_up(a, b)), "seed {seed}: it stays");
        for node in &world.nodes {
            let core = &node.core;
            assert_eq!((core.rounds, core.peers.len()), (0, COUNT - 1), "seed {seed}");
            assert!(core.dials.is_empty() && core.timers.len() < COUNT, "seed {seed}");
            assert!(core.lanes[0].spots.len() < COUNT, "seed {seed}: {}", core.lanes[0].spots.len());
            assert!(core.lanes[0].owners.len() <= 4 * COUNT, "seed {seed}: {}", core.lanes[0].owners.len());
        }
    }
}
