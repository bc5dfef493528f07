//! Endpoints in a world of their own: virtual time, seeded randomness, and a network that does what a test tells it.

mod handshakes;
pub(crate) mod world;
