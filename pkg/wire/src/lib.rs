//! Bounded reading and writing of bytes.
//!
//! Every decoder in Byway reads strangers' bytes through [`Reader`], which can neither panic nor read past the
//! end, and writes its own through [`Writer`]. It knows nothing of what the bytes mean.
//!
//! ```
//! use byway_wire::{Reader, Writer};
//!
//! let mut writer = Writer::new();
//! writer.u16_be(7).varint(300).bytes(b"rest");
//! let bytes = writer.finish();
//!
//! let mut reader = Reader::new(&bytes);
//! assert_eq!(reader.u16_be()?, 7);
//! assert_eq!(reader.varint()?, 300);
//! assert_eq!(reader.rest(), b"rest");
//! reader.finish()?;
//! # Ok::<(), byway_wire::Malformed>(())
//! ```

mod read;
mod write;

pub use read::{Malformed, Reader};
pub use write::Writer;

/// Largest value of a QUIC variable-length integer (RFC 9000, section 16): 2⁶² − 1.
pub const VARINT_MAX: u64 = (1 << 62) - 1;
