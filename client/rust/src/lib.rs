//! The local HTTP API from afar.
