//! Whole cores over a network in memory, in virtual time.

mod busy;
mod fast;
mod hostile;
mod links;
mod many;
mod world;
