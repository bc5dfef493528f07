//! Writing: the inverse of reading, and infallible.

use bytes::{BufMut, Bytes, BytesMut};

use crate::VARINT_MAX;

/// Appends fields to a buffer; calls chain.
///
/// Its `Debug` tells how much was written, never what.
#[derive(Default)]
pub struct Writer {
    buffer: BytesMut,
}

impl Writer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buffer: BytesMut::with_capacity(capacity) }
    }

    /// Bytes as they are, without a length.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.buffer.put_slice(bytes);
        self
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    /// Two bytes, most significant first.
    pub fn u16_be(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Two bytes, least significant first.
    pub fn u16_le(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Four bytes, most significant first.
    pub fn u32_be(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Four bytes, least significant first.
    pub fn u32_le(&mut self, value: u32) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Eight bytes, most significant first.
    pub fn u64_be(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    /// Eight bytes, least significant first.
    pub fn u64_le(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_le_bytes())
    }

    /// A QUIC variable-length integer (RFC 9000, section 16) in its shortest form.
    ///
    /// # Panics
    ///
    /// When `value` exceeds [`VARINT_MAX`], which only a fault of the caller can cause.
    pub fn varint(&mut self, value: u64) -> &mut Self {
        assert!(value <= VARINT_MAX, "{value} does not fit a variable-length integer");
        match varint_length(value) {
            1 => self.u8(value as u8),
            2 => self.u16_be(value as u16 | 0x4000),
            4 => self.u32_be(value as u32 | 0x8000_0000),
            _ => self.u64_be(value | 0xc000_0000_0000_0000),
        }
    }

    /// How many bytes have been written.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// What has been written so far.
    pub fn as_slice(&self) -> &[u8] {
        &self.buffer
    }

    /// The bytes, to be shared.
    pub fn finish(self) -> Bytes {
        self.buffer.freeze()
    }

    /// The bytes, to be changed in place.
    pub fn into_mut(self) -> BytesMut {
        self.buffer
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("len", &self.len()).finish()
    }
}

/// Bytes that the shortest form of `value` takes: 1, 2, 4 or 8.
pub(crate) fn varint_length(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}
