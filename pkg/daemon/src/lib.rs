//! Configuration, privileges, and starting and stopping everything.
//!
//! [`run`] is the whole life of a daemon: it reads the [`config`], takes the state directory for itself, makes or reads
//! the key, gives up privileges, opens links, portal and API, tells the service manager, and serves until it is
//! asked to stop. Decisions about messages are made elsewhere; here things are put together.
//!
//! ```text
//!  config ─► state, key ─► privileges ─► API places, transports ─► node ─► portal ─► ready
//!                                             ▲                      │
//!                          SIGHUP, reload ────┴── peers, levels, rules, log level
//! ```
//!
//! ```no_run
//! use byway_daemon::{Options, Paths, Verbosity, run};
//!
//! run(Options {
//!     config: None,
//!     state: None,
//!     paths: Paths::of_user(),
//!     direct: false,
//!     no_portal: true,
//!     mancon: None,
//!     log: Verbosity::CONFIGURED,
//!     passphrase: || Err("the key has none".into()),
//! })?;
//! # Ok::<(), byway_daemon::StartError>(())
//! ```

mod api;
pub mod config;
mod fast;
mod log;
mod notify;
mod paths;
mod peers;
mod privileges;
mod run;
mod service;
mod state;
mod transports;
mod web;

pub use log::{Verbosity, log_at};
pub use paths::Paths;
pub use peers::PeersError;
pub use privileges::PrivilegeError;
pub use run::{Options, StartError, run};
pub use state::StateError;
