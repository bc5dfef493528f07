//! The shared suite, for `grove`.

use std::time::Instant;

use byway_grove::Grove;
use byway_network::{Network, Setup};

fn grove(now: Instant, setup: Setup) -> Box<dyn Network> {
    Box::new(Grove::new(now, setup))
}

macro_rules! cases {
    ($($name:ident,)*) => {
        /// The cases that are tried here.
        const TRIED: &[&str] = &[$(stringify!($name)),*];

        $(
            #[test]
            fn $name() {
                byway_sim::suite::check(stringify!($name), grove);
            }
        )*
    };
}

cases! {
    chain_2_send_recv_all,
    chain_5_send_recv_all,
    ring_10_send_recv_all,
    chain_2_find_addr,
    chain_5_find_addr,
    ring_10_find_addr,
    all_pairs_on_star_tree_mesh_and_random_graphs,
    loopback_reaches_oneself,
    a_node_is_found_by_a_short_prefix,
    a_question_asked_too_early_is_answered_once_the_node_is_there,
    a_sample_is_a_node_that_can_be_reached,
    a_changed_record_is_vouched_for,
    leaves_reach_everyone_and_are_reached,
    a_hundred_leaves_are_up_at_once,
    a_leaf_is_spared_the_flood,
    a_payload_of_any_size_arrives_and_one_too_long_is_refused,
    losses_delay_nobody_for_long,
    delay_and_reordering_change_nothing,
    copies_made_by_links_are_not_multiplied,
    a_ring_heals_within_a_second_and_stays_healed,
    a_restored_link_carries_within_two_seconds,
    a_restarted_node_is_back_within_five_seconds,
    a_node_that_restarts_unnoticed_is_back_within_five_seconds,
    partitions_part_and_merge,
    churn_leaves_no_scars,
    timers_may_be_early_late_or_twice,
    memory_is_given_back,
    a_slow_link_with_a_dead_end_costs_the_others_nothing,
    no_frame_leaves_its_plane,
    no_frame_leaves_its_plane_during_churn,
    a_constraint_that_cannot_be_shown_is_refused,
    the_first_hop_is_of_the_families_that_were_asked_for,
    a_frame_over_a_link_outside_its_plane_is_dropped,
    random_bytes_change_nothing,
    mutated_frames_change_nothing,
    frames_of_the_past_change_nothing,
    a_neighbour_that_is_not_up_is_not_heard,
    a_flood_of_nodes_fills_no_more_than_its_share,
    a_frame_that_goes_round_is_dropped,
}

#[test]
fn every_case_of_the_suite_is_here() {
    for case in byway_sim::suite::CASES {
        assert!(TRIED.contains(&case.name), "{} is not tried", case.name);
    }
}
