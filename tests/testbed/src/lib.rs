//! Private Tor and I2P networks on one machine, and daemons on them.
//!
//! Everything runs on one [`Host`](byway_netns::Host), a network namespace that has nothing but its loopback: no packet of these
//! networks can leave it, and every process ends with it. The programs are the real ones, `tor` and `i2pd` as Debian has
//! them.
//!
//! ```text
//!   namespace, lo only
//!     tor: 3 authorities ── 5 relays ── clients          i2pd: 8 routers on 198.18.0.x
//!                                         ▲                                ▲
//!                               SOCKS, control port                       SAM
//!                                         └────────── byway up ────────────┘
//! ```
//!
//! These networks hide nothing: one machine runs all of them.

mod i2p;
mod kind;
mod lane;
mod node;
mod tor;

pub use i2p::I2pNetwork;
pub use kind::{Around, Kind};
pub use lane::{Carried, Lane};
pub use node::Node;
pub use tor::{Auth, TorClient, TorNetwork};

use std::path::PathBuf;

use anyhow::{Context, Result};

/// How long anything may take on a busy machine.
pub const PATIENCE: std::time::Duration = std::time::Duration::from_secs(180);

/// Where `program` is; also where only root looks. The error names the package that has it.
pub fn installed(program: &str, package: &str) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = folders.find_map(|folder| Some(folder.join(program)).filter(|file| file.is_file()));
    found.with_context(|| format!("{program} is not installed: run `apt-get install -y {package}`"))
}
