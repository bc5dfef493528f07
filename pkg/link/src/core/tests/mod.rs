//! Whole cores over a network in memory, in virtual time.

mod hostile;
mod links;
mod world;
