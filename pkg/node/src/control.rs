//! Control frames inside an end-to-end session: signs of life, and windows for messages.
//!
//! ```text
//! PING   1 · id u64                                          PONG   2 · id u64
//! MARK   3 · stream u32 · offset u64                         "so much have I sent you"
//! WINDOW 4 · stream u32 · offset u64 · limit u64 · lost u64  "that I know of; go on until limit; lost since the last mark"
//! ```
//!
//! Integers are big-endian; nothing may follow.

use bytes::Bytes;
use byway_wire::{Malformed, Reader, Writer};

/// One control frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// Asks for a [`Control::Pong`] with the same id.
    Ping(u64),
    /// Answers a [`Control::Ping`].
    Pong(u64),
    /// The sender's position in its stream of messages.
    Mark(Mark),
    /// The receiver's answer to a mark, or news that it has room again.
    Window(Window),
}

/// See [`Control::Mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Names the sender's counting; a node that restarted counts anew under another name.
    pub(crate) stream: u32,
    /// Cost of all messages sent so far.
    pub(crate) offset: u64,
}

/// See [`Control::Window`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// The sender's stream.
    pub(crate) stream: u32,
    /// The last mark that arrived.
    pub(crate) offset: u64,
    /// The sender may go on until its offset reaches this.
    pub(crate) limit: u64,
    /// What was lost before that mark and after the one before it.
    pub(crate) lost: u64,
}

impl Control {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        let control = match reader.u8()? {
            1 => Self::Ping(reader.u64_be()?),
            2 => Self::Pong(reader.u64_be()?),
            3 => Self::Mark(Mark { stream: reader.u32_be()?, offset: reader.u64_be()? }),
            4 => Self::Window(Window {
                stream: reader.u32_be()?,
                offset: reader.u64_be()?,
                limit: reader.u64_be()?,
                lost: reader.u64_be()?,
            }),
            _ => return Err(Malformed::Invalid("control type")),
        };
        reader.finish()?;
        Ok(control)
    }

    pub(crate) fn emit(self) -> Bytes {
        let mut writer = Writer::with_capacity(32);
        match self {
            Self::Ping(id) => writer.u8(1).u64_be(id),
            Self::Pong(id) => writer.u8(2).u64_be(id),
            Self::Mark(mark) => writer.u8(3).u32_be(mark.stream).u64_be(mark.offset),
            Self::Window(window) => writer
                .u8(4)
                .u32_be(window.stream)
                .u64_be(window.offset)
                .u64_be(window.limit)
                .u64_be(window.lost),
        };
        writer.finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_control() -> impl Strategy<Value = Control> {
        prop_oneof![
            any::<u64>().prop_map(Control::Ping),
            any::<u64>().prop_map(Control::Pong),
            any::<(u32, u64)>().prop_map(|(stream, offset)| Control::Mark(Mark { stream, offset })),
            any::<(u32, u64, u64, u64)>().prop_map(|(stream, offset, limit, lost)| {
                Control::Window(Window { stream, offset, limit, lost })
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed_and_every_truncation_refused(control in any_control()) {
            let bytes = control.emit();
            prop_assert_eq!(Control::parse(&bytes), Ok(control));
            for length in 0..bytes.len() {
                prop_assert!(Control::parse(&bytes[..length]).is_err());
            }
            prop_assert!(Control::parse(&[&bytes[..], &[0]].concat()).is_err());
        }
    }
}
