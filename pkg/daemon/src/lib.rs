//! Configuration, privileges, and starting and stopping everything.

pub mod config;
