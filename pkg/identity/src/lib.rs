//! Keys, 256-bit addresses, their text and IPv6 forms, and key files.
//!
//! An address is the SHAKE256 hash of a serialised public key: same key, same address, for ever. The forms are
//! those of INET256 v0.0.8, so that addresses and key files of its programs carry over. Signatures are bound to
//! a purpose *and* to the content. Nothing here touches a network or the clock; only [`keyfile`] touches files.
//!
//! ```
//! use byway_identity::{Addr, OsEntropy, SigningKey};
//!
//! let key = SigningKey::generate(&mut OsEntropy);
//! let addr = key.public().addr();
//! assert_eq!(addr.to_string().parse::<Addr>()?, addr);
//! # Ok::<(), byway_identity::AddrError>(())
//! ```

mod addr;
mod entropy;
mod hash;
mod ipv6;
mod key;
pub mod keyfile;
pub mod legacy;
mod prefix;
mod redacted;

pub use addr::{Addr, AddrError};
pub use entropy::{Entropy, OsEntropy, SeededEntropy};
pub use hash::{cshake256, labelled_hash, shake256};
pub use ipv6::{Ipv6Range, Ipv6RangeError, NoIpv6};
pub use key::{KeyError, PublicKey, ReservedPurpose, Signature, SigningKey};
pub use prefix::Prefix;
pub use redacted::Redacted;
