//! Answers to dials that take time.

pub(crate) use byway_link::Lookups;
