//! Target for the reader that every decoder is made of.

use byway_wire::{Reader, VARINT_MAX, Writer};

/// Reads as the first bytes of the input say, and writes the same again.
pub fn wire_reader(data: &[u8]) {
    let (count, rest) = data.split_first().map_or((0, data), |(count, rest)| (usize::from(*count), rest));
    let (steps, bytes) = rest.split_at(count.min(rest.len()));
    let (mut reader, mut writer) = (Reader::new(bytes), Writer::new());
    for step in steps {
        let left = reader.remaining();
        let read = match step % 9 {
            0 => reader.u8().map(|value| writer.u8(value)),
            1 => reader.u16_be().map(|value| writer.u16_be(value)),
            2 => reader.u16_le().map(|value| writer.u16_le(value)),
            3 => reader.u32_be().map(|value| writer.u32_be(value)),
            4 => reader.u32_le().map(|value| writer.u32_le(value)),
            5 => reader.u64_be().map(|value| writer.u64_be(value)),
            6 => reader.u64_le().map(|value| writer.u64_le(value)),
            7 => reader.bytes(usize::from(step / 9)).map(|value| writer.bytes(value)),
            _ => reader.varint().map(|value| {
                assert!(value <= VARINT_MAX);
                writer.varint(value)
            }),
        };
        if read.is_err() {
            // A varint takes its bytes before it is found to be too long; all else takes nothing.
            assert!(reader.remaining() == left || step % 9 == 8);
            return;
        }
        assert_eq!(writer.as_slice(), &bytes[..bytes.len() - reader.remaining()]);
    }
    writer.bytes(reader.rest());
    assert_eq!(writer.as_slice(), bytes);
    assert!(reader.finish().is_ok());
}
