//! The benchmarks as commands: arguments, then a `run`.

pub(crate) mod mesh;
pub(crate) mod messages;
pub(crate) mod peers;
pub(crate) mod soak;
pub(crate) mod transports;
