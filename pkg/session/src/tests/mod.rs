//! Endpoints in a world of their own: virtual time, seeded randomness, and a network that does what a test tells it.

mod ciphers;
mod frames;
mod halves;
mod handshakes;
mod hostile;
mod load;
mod threads;
mod vectors;
pub(crate) mod world;
