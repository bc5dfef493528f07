//! Configuration, privileges, and starting and stopping everything.
