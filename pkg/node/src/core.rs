//! SKELETON.

use byway_identity::SigningKey;
use byway_link::{Accept, PeerConfig};

use crate::Levels;

/// What a core is made from.
pub struct Config {
    /// The daemon's identity.
    pub key: SigningKey,
    /// The network's name.
    pub network: String,
    /// Group key of a closed network.
    pub group_key: Option<[u8; 32]>,
    /// Who may link to us.
    pub accept: Accept,
    /// Levels of requests.
    pub levels: Levels,
    /// Peers to keep links to.
    pub peers: Vec<(PeerConfig, Option<String>)>,
    /// Grows at each start: Unix milliseconds.
    pub boot: u64,
    /// Wall clock at the start, Unix seconds.
    pub unix: u64,
    /// Time between key ratchets: 120 s.
    pub ratchet: std::time::Duration,
}
/// S.
pub enum Answer {}
/// S.
pub struct Core {}
/// S.
pub enum Disposition {}
/// S.
pub enum Output {}
/// S.
pub enum Question {}
/// S.
pub enum Refusal {}
/// S.
pub struct Send {}
