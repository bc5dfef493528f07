//! Reading: a cursor that only moves forward, and only within its slice.

/// Why bytes could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The bytes ended inside a field.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes follow the last field.
    #[error("unexpected bytes at the end")]
    Trailing,
    /// A field has a value that its format forbids.
    #[error("the field {0} has a forbidden value")]
    Invalid(&'static str),
}

/// Reads fields from the front of a slice.
///
/// Its `Debug` tells how much is left, never what: the bytes may be anyone's secret.
#[derive(Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many bytes are left.
    pub fn remaining(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the next `count` bytes.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (front, back) = self.bytes.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.bytes = back;
        Ok(front)
    }

    /// Takes the next `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (front, back) = self.bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
        self.bytes = back;
        Ok(*front)
    }

    /// Takes all that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.bytes)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, most significant first.
    pub fn u16_be(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    /// Two bytes, least significant first.
    pub fn u16_le(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, most significant first.
    pub fn u32_be(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    /// Four bytes, least significant first.
    pub fn u32_le(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, most significant first.
    pub fn u64_be(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }

    /// Eight bytes, least significant first.
    pub fn u64_le(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// A QUIC variable-length integer (RFC 9000, section 16), in its shortest form only.
    ///
    /// QUIC itself takes longer forms too; refusing them gives each value one encoding, so that what is signed
    /// or hashed cannot be written in two ways.
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let first = *self.bytes.first().ok_or(Malformed::Truncated)?;
        let length = 1usize << (first >> 6);
        let value = self
            .bytes(length)?
            .iter()
            .skip(1)
            .fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte));
        if crate::write::varint_length(value) != length {
            return Err(Malformed::Invalid("varint"));
        }
        Ok(value)
    }

    /// Ends reading; bytes that are left are an error.
    pub fn finish(self) -> Result<(), Malformed> {
        if self.bytes.is_empty() { Ok(()) } else { Err(Malformed::Trailing) }
    }
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("remaining", &self.remaining()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{VARINT_MAX, Writer};

    proptest! {
        #[test]
        fn what_was_written_is_read(a: u8, b: u16, c: u32, d: u64, e in 0..=VARINT_MAX, f: Vec<u8>) {
            let mut writer = Writer::new();
            writer.u8(a).u16_be(b).u16_le(b).u32_be(c).u32_le(c).u64_be(d).u64_le(d).varint(e).bytes(&f);
            let bytes = writer.finish();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.u8()?, a);
            prop_assert_eq!((reader.u16_be()?, reader.u16_le()?), (b, b));
            prop_assert_eq!((reader.u32_be()?, reader.u32_le()?), (c, c));
            prop_assert_eq!((reader.u64_be()?, reader.u64_le()?), (d, d));
            prop_assert_eq!(reader.varint()?, e);
            prop_assert_eq!(reader.bytes(f.len())?, &f[..]);
            prop_assert_eq!(reader.finish(), Ok(()));
        }

        #[test]
        fn a_varint_has_one_encoding(bytes: [u8; 8]) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.varint() {
                let mut writer = Writer::new();
                writer.varint(value);
                let written = writer.finish();
                prop_assert_eq!(&bytes[..8 - reader.remaining()], &written[..]);
            }
        }
    }

    #[test]
    fn a_log_shows_lengths_and_no_bytes() {
        let mut writer = Writer::new();
        writer.bytes(b"secret");
        assert_eq!(format!("{writer:?}"), "Writer { len: 6 }");
        assert_eq!(format!("{:?}", Reader::new(writer.as_slice())), "Reader { remaining: 6 }");
    }

    #[test]
    fn reading_past_the_end_is_an_error_and_takes_nothing() {
        let mut reader = Reader::new(&[1, 2, 3]);
        assert_eq!(reader.u32_be(), Err(Malformed::Truncated));
        assert_eq!(reader.bytes(4), Err(Malformed::Truncated));
        assert_eq!(reader.remaining(), 3);
        assert_eq!(reader.clone().finish(), Err(Malformed::Trailing));
        assert_eq!(reader.rest(), [1, 2, 3]);
        assert_eq!(reader.varint(), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[0x40]).varint(), Err(Malformed::Truncated));
    }
}
