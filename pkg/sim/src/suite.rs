//! What every routing protocol must do.
//!
//! Each case builds worlds of its own, and fails with a sentence that names the seed. [`CASES`] lists them all;
//! [`network_suite!`](crate::network_suite) makes a test of each.

mod damage;
mod hostile;
mod planes;
mod reach;

use std::time::Duration;

use byway_identity::Prefix;
use byway_network::{Class, Plane};

use crate::{Factory, Topology, Wire, World};

/// What a case found: nothing, or a fault in words.
pub type Verdict = Result<(), String>;

/// One thing that a router must do.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it is, as the name of a function.
    pub name: &'static str,
    /// Tries it.
    pub run: fn(Factory) -> Verdict,
}

macro_rules! cases {
    ($($module:ident :: $name:ident,)*) => {
        /// All cases.
        pub const CASES: &[Case] = &[$(Case { name: stringify!($name), run: $module::$name }),*];

        /// Makes a test of each case of the suite, for the router that `$factory` makes.
        #[macro_export]
        macro_rules! network_suite {
            ($factory:expr) => {
                $(
                    #[test]
                    fn $name() {
                        $crate::suite::check(stringify!($name), $factory);
                    }
                )*
            };
        }
    };
}

cases! {
    reach::chain_2_send_recv_all,
    reach::chain_5_send_recv_all,
    reach::ring_10_send_recv_all,
    reach::chain_2_find_addr,
    reach::chain_5_find_addr,
    reach::ring_10_find_addr,
    reach::all_pairs_on_star_tree_mesh_and_random_graphs,
    reach::loopback_reaches_oneself,
    reach::a_node_is_found_by_a_short_prefix,
    reach::a_question_asked_too_early_is_answered_once_the_node_is_there,
    reach::a_sample_is_a_node_that_can_be_reached,
    reach::a_changed_record_is_vouched_for,
    reach::leaves_reach_everyone_and_are_reached,
    reach::a_hundred_leaves_are_up_at_once,
    reach::a_leaf_is_spared_the_flood,
    reach::a_payload_of_any_size_arrives_and_one_too_long_is_refused,
    damage::losses_delay_nobody_for_long,
    damage::delay_and_reordering_change_nothing,
    damage::copies_made_by_links_are_not_multiplied,
    damage::a_ring_heals_within_a_second_and_stays_healed,
    damage::a_restored_link_carries_within_two_seconds,
    damage::a_restarted_node_is_back_within_five_seconds,
    damage::a_node_that_restarts_unnoticed_is_back_within_five_seconds,
    damage::partitions_part_and_merge,
    damage::churn_leaves_no_scars,
    damage::timers_may_be_early_late_or_twice,
    damage::memory_is_given_back,
    damage::a_slow_link_with_a_dead_end_costs_the_others_nothing,
    planes::no_frame_leaves_its_plane,
    planes::no_frame_leaves_its_plane_during_churn,
    planes::a_constraint_that_cannot_be_shown_is_refused,
    planes::the_first_hop_is_of_the_families_that_were_asked_for,
    planes::a_frame_over_a_link_outside_its_plane_is_dropped,
    hostile::random_bytes_change_nothing,
    hostile::mutated_frames_change_nothing,
    hostile::frames_of_the_past_change_nothing,
    hostile::a_neighbour_that_is_not_up_is_not_heard,
    hostile::a_flood_of_nodes_fills_no_more_than_its_share,
    hostile::a_frame_that_goes_round_is_dropped,
}

/// Runs one case by name.
///
/// # Panics
///
/// When the router fails it.
pub fn check(name: &str, factory: Factory) {
    let case = CASES.iter().find(|case| case.name == name).expect("the macro names cases of the list");
    if let Err(fault) = (case.run)(factory) {
        panic!("{fault}");
    }
}

/// Fails with a sentence unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($words:tt)+) => {
        if !$condition {
            return Err(format!($($words)+));
        }
    };
}
use ensure;

/// Long enough for anything that is not damaged.
const SOON: Duration = Duration::from_secs(2);

fn clean_world(seed: u64, factory: Factory, topology: &Topology) -> World {
    let mut world = World::of(seed, factory, topology, Wire::clean(Class::UDP));
    world.run_for(SOON);
    world
}

/// All ordered pairs of different living nodes.
fn pairs(world: &World) -> Vec<(usize, usize)> {
    let alive = |node: &usize| world.is_alive(*node);
    let nodes: Vec<usize> = (0..world.len()).filter(alive).collect();
    nodes.iter().flat_map(|a| nodes.iter().filter(move |b| *b != a).map(move |b| (*a, *b))).collect()
}

/// Sends one payload for each of `pairs` and returns those that did not arrive within `time`.
fn missing(world: &mut World, pairs: &[(usize, usize)], plane: Plane, time: Duration) -> Vec<(usize, usize)> {
    let sent: Vec<_> = pairs.iter().map(|(from, to)| world.send(*from, *to, plane).ok()).collect();
    world.run_for(time);
    let arrived = |number: &Option<u64>| number.is_some_and(|number| world.flight(number).arrived());
    pairs.iter().zip(&sent).filter(|(_, number)| !arrived(number)).map(|(pair, _)| *pair).collect()
}

/// Every ordered pair sends and receives, once, and no rule is broken.
fn all_pairs(world: &mut World, seed: u64) -> Verdict {
    let pairs = pairs(world);
    ensure!(!pairs.is_empty(), "seed {seed}: a world with fewer than two nodes shows nothing");
    let missing = missing(world, &pairs, Plane::Any, SOON);
    ensure!(missing.is_empty(), "seed {seed}: nothing arrived between {missing:?}");
    world.verdict()
}

/// Until payloads between all of `pairs` arrive, sending anew every 50 ms; the time that it took.
fn time_until_all(
    world: &mut World,
    pairs: &[(usize, usize)],
    plane: Plane,
    most: Duration,
) -> Result<Duration, Vec<(usize, usize)>> {
    let began = world.elapsed();
    let mut open: Vec<((usize, usize), Vec<u64>)> = pairs.iter().map(|pair| (*pair, Vec::new())).collect();
    let mut send_at = began;
    let took = world.run_until(most, |world| {
        open.retain(|(_, sent)| !sent.iter().any(|number| world.flight(*number).arrived()));
        if world.elapsed() >= send_at {
            send_at = world.elapsed() + Duration::from_millis(50);
            for ((from, to), sent) in &mut open {
                sent.extend(world.send(*from, *to, plane).ok());
            }
        }
        open.is_empty()
    });
    took.ok_or_else(|| open.into_iter().map(|(pair, _)| pair).collect())
}

/// `from` looks for `to` by the first `bits` bits of its address.
fn finds(world: &mut World, from: usize, to: usize, bits: u16) -> Verdict {
    let addr = world.addr(to);
    let prefix = Prefix::new(addr.as_bytes(), bits).ok_or("more bits than an address has")?;
    world.take_found(from);
    world.find(from, prefix, Plane::Any);
    world.run_until(SOON, |world| !world.found(from).is_empty());
    let found = world.take_found(from);
    ensure!(!found.is_empty(), "node {from} does not find node {to} by {bits} bits");
    for answer in found {
        ensure!(answer.asked == prefix, "the answer names another prefix than was asked for");
        ensure!(prefix.matches(&answer.key.addr()), "the key does not begin with the prefix");
        ensure!(bits < 64 || answer.key.addr() == addr, "another node than {to} was found");
        ensure!(
            answer.digest == *answer.key.addr().as_bytes(),
            "the digest is not what the node vouched for"
        );
    }
    Ok(())
}
