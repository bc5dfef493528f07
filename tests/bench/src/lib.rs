//! Benchmarks that anyone can run: `cargo xtask bench messages`, `cargo xtask bench peers`, `cargo xtask bench mesh`,
//! `cargo xtask bench transports`, `cargo xtask soak fast`, `cargo xtask soak churn`.
//!
//! They start real daemons on this machine, talk to them as any program would, and count what comes out at the other end. In a
//! short form they run in the suite, where they judge what is delivered and never how fast.

pub mod fleet;
pub mod install;
pub mod mesh;
pub mod messages;
pub mod raw;
pub mod report;
mod section;
pub mod side;
pub mod soak;
pub mod streams;
pub mod transports;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use byway_api::{Node, OpenNode};
use byway_client::Client;

use crate::messages::End;

/// Opens a node with a new key at the daemon behind the socket `api`: through our API, or (`raw`) that of INET256.
pub async fn open(api: &Path, raw: bool) -> Result<End> {
    if raw {
        return Ok(End::Raw(Arc::new(raw::RawNode::open(api).await?)));
    }
    Ok(End::Node(open_node(api).await?))
}

/// Opens a node with a new key through our API.
pub async fn open_node(api: &Path) -> Result<Arc<dyn Node>> {
    let client = Client::new(&format!("unix://{}", api.display()))?;
    Ok(Arc::new(client.open(&OpenNode::default()).await?))
}
