//! Fuzz targets as functions, and the corpus as tests.
//!
//! Every decoder and every core that strangers' bytes reach has a function here that takes any bytes and must not
//! panic; many check more than that. One test runs each over its committed corpus and over seeded mutations of it;
//! `libfuzzer/` gives each to libFuzzer:
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir tests/fuzz/libfuzzer TARGET
//! ```
//!
//! A crash that is found there becomes a file in `corpus/TARGET/`, and so an ordinary test.

pub mod beacon;
pub mod fastpath;
pub mod frames;
pub mod grove;
mod input;
pub mod keys;
pub mod link;
pub mod node;
pub mod packet;
mod routing;
pub mod seeds;
pub mod session;
pub mod text;
pub mod wire;

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: &[(&str, Target)] = &[
    ("addr_text", text::addr_text),
    ("api_bodies", frames::api_bodies),
    ("batch_frames", frames::batch_frames),
    ("beacon_frames", beacon::beacon_frames),
    ("beacon_world", beacon::beacon_world),
    ("config_text", text::config_text),
    ("endpoint_text", text::endpoint_text),
    ("fast_queue", fastpath::fast_queue),
    ("fast_reads", fastpath::fast_reads),
    ("fast_trains", fastpath::fast_trains),
    ("grove_frames", grove::grove_frames),
    ("grove_world", grove::grove_world),
    ("inet256_frames", frames::inet256_frames),
    ("ipv6_range_text", text::ipv6_range_text),
    ("key_file", keys::key_file),
    ("link_events", link::link_events),
    ("link_peer", link::link_peer),
    ("node_core", node::node_core),
    ("portal_core", packet::portal_core),
    ("portal_packet", packet::portal_packet),
    ("private_key", keys::private_key),
    ("public_key", keys::public_key),
    ("rule_text", text::rule_text),
    ("session_end_hostile", session::session_end_hostile),
    ("session_end_pair", session::session_end_pair),
    ("session_end_strangers", session::session_end_strangers),
    ("session_link_hostile", session::session_link_hostile),
    ("session_link_pair", session::session_link_pair),
    ("session_link_strangers", session::session_link_strangers),
    ("session_record", session::session_record),
    ("wire_reader", wire::wire_reader),
];
