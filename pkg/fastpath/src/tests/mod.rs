//! Tests of the engines, with real sessions between them.

mod engines;
mod hostile;
mod relays;
mod splits;
