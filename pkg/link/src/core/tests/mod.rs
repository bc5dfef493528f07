//! Whole cores over a network in memory, in virtual time.

mod busy;
mod hostile;
mod links;
mod world;
