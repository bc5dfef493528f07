//! Measures routing protocols in worlds of thousands of nodes, in virtual time.
//!
//! `cargo xtask sim` runs the program of this crate: `goals` holds grove against its goals, `compare` holds protocols against each
//! other on the same world, and `replay` follows one message hop by hop. The worlds themselves are [`byway_sim`]'s.

pub mod adversary;
pub mod atlas;
pub mod compare;
pub mod frames;
pub mod goals;
pub mod memory;
pub mod replay;
