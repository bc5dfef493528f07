//! Processes on one machine.
